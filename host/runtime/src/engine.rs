//! The engine: one for the whole process, with room for a fixed number of guests.
//!
//! Everything that decides what a guest computes stands here: which parts of wasm it may use, that a NaN has one
//! shape and relaxed SIMD one meaning, and that there are no threads. So does everything that the pool reserves.
//!
//! There should be one [`Runtime`] per process: engines share no pool, and mixing their types is what some of
//! wasmtime's worst bugs were about. It is cheap to clone.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tidemill_core::limits;
use tidemill_core::seams::Clock;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::abi;
use crate::activity::Activity;
use crate::step::Step;

/// How a guest's use of the processor is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metering {
    /// In processor time, looked at whenever [`Runtime::tick`] ticks. For production: cheap, and never the same
    /// twice.
    #[default]
    Epoch,
    /// In instructions, [`limits::GUEST_FUEL_PER_MS`] to a millisecond. For simulations: the same each time, and
    /// without a ticker.
    Fuel,
}

/// What machine code depends on: an artifact runs only where both are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeOptions {
    /// How the use of the processor is counted.
    pub metering: Metering,
    /// Address space reserved for each linear memory, in bytes. With 4 GiB, the default, guests need no bounds
    /// checks. Less serves where address space is limited (`ulimit -v`, some sandboxes), at some cost in speed;
    /// it may not be less than [`limits::GUEST_MEMORY_MAX`].
    pub memory_reservation_bytes: u64,
}

impl Default for CodeOptions {
    fn default() -> Self {
        CodeOptions { metering: Metering::default(), memory_reservation_bytes: 4 << 30 }
    }
}

/// What a runtime is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Guests at once; more wait their turn. A component with several linear memories counts once for each.
    pub instances: u32,
    /// What its machine code depends on.
    pub code: CodeOptions,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        RuntimeOptions { instances: limits::GUESTS_DEFAULT, code: CodeOptions::default() }
    }
}

/// Why there is no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// Room for too few guests.
    #[error("{0} guests at once are too few: the largest component counts as {min}", min = limits::GUEST_MEMORIES_MAX)]
    TooFew(u32),
    /// Too little address space for one memory.
    #[error("{0} bytes of address space for each memory are less than the {max} that a guest may use", max = limits::GUEST_MEMORY_MAX)]
    Reservation(u64),
    /// The operating system did not give what the pool reserves.
    #[error("no room for {instances} guests at once: {why}; fewer of them reserve less address space")]
    Pool {
        /// How many were asked for.
        instances: u32,
        /// What wasmtime said.
        why: String,
    },
}

/// Runs plugins.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) linker: Arc<Linker<Step>>,
    /// One permit for each linear memory of the pool.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) metering: Metering,
    pub(crate) activity: Arc<Activity>,
}

impl Runtime {
    /// Reserves the pool.
    ///
    /// # Errors
    /// [`RuntimeError`], for options that cannot be or when the operating system refuses the address space.
    pub fn new(options: RuntimeOptions) -> Result<Runtime, RuntimeError> {
        let RuntimeOptions { instances, code } = options;
        if instances < limits::GUEST_MEMORIES_MAX {
            return Err(RuntimeError::TooFew(instances));
        }
        if code.memory_reservation_bytes < limits::GUEST_MEMORY_MAX as u64 {
            return Err(RuntimeError::Reservation(code.memory_reservation_bytes));
        }
        let no_pool = |error: wasmtime::Error| RuntimeError::Pool { instances, why: format!("{error:#}") };
        let mut config = config(code);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
        let engine = Engine::new(&config).map_err(no_pool)?;
        let mut linker = Linker::new(&engine);
        abi::link(&mut linker).expect("the contract's functions are linked once, each under its own name");
        let room = Arc::new(Semaphore::new(instances as usize));
        let activity = Arc::default();
        Ok(Runtime { engine, linker: Arc::new(linker), room, metering: code.metering, activity })
    }

    /// The ticker: at each tick the guests that run look at their deadlines, and let others run. It rests while there
    /// are none. It ends when this runtime and its clones are gone, at once where [`Metering::Fuel`] needs none.
    ///
    /// It must not share its thread with guests, since one that loops would keep it from ticking.
    pub fn tick(&self, clock: Arc<dyn Clock>) -> impl Future<Output = ()> + Send + 'static {
        let engine = (self.metering == Metering::Epoch).then(|| self.engine.weak());
        let activity = Arc::downgrade(&self.activity);
        async move {
            let mut quiet = 0;
            while let Some(engine) = engine.as_ref().and_then(wasmtime::EngineWeak::upgrade) {
                engine.increment_epoch();
                drop(engine);
                clock.sleep(limits::GUEST_TICK).await;
                let Some(there) = activity.upgrade() else { return };
                quiet = if there.was_quiet() { quiet + 1 } else { 0 };
                if quiet >= limits::GUEST_QUIET_TICKS {
                    let begins = there.rest();
                    drop(there);
                    begins.await;
                    quiet = 0;
                }
            }
        }
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("metering", &self.metering).finish_non_exhaustive()
    }
}

/// An engine that compiles and runs nothing: it reserves no memory.
///
/// # Errors
/// wasmtime's, when this machine is none that it compiles for.
pub(crate) fn compiling(code: CodeOptions) -> wasmtime::Result<Engine> {
    Engine::new(&config(code))
}

/// What both kinds of engine agree on; whatever is missing here would make an artifact of the one unusable to the
/// other.
fn config(code: CodeOptions) -> Config {
    let mut config = Config::new();
    match code.metering {
        Metering::Epoch => config.epoch_interruption(true),
        Metering::Fuel => config.consume_fuel(true),
    };
    config.wasm_component_model(true).wasm_memory64(false).wasm_custom_page_sizes(false);
    config.cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
    config.cranelift_opt_level(OptLevel::Speed);
    config.max_wasm_stack(limits::GUEST_STACK_BYTES);
    config.memory_reservation(code.memory_reservation_bytes).memory_may_move(false);
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(limits::GUEST_BACKTRACE_FRAMES_MAX));
    config
}

/// The pool. What an instance leaves behind in its memory is cleared before the next one gets the place.
fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let parts = instances.saturating_mul(limits::GUEST_CORE_INSTANCES_MAX);
    pool.total_component_instances(instances).total_stacks(instances).total_memories(instances);
    pool.total_core_instances(parts).total_tables(parts);
    pool.max_core_instances_per_component(limits::GUEST_CORE_INSTANCES_MAX);
    pool.max_tables_per_component(limits::GUEST_CORE_INSTANCES_MAX);
    pool.max_memories_per_component(limits::GUEST_MEMORIES_MAX);
    pool.max_tables_per_module(limits::GUEST_CORE_INSTANCES_MAX);
    pool.max_component_instance_size(8 * limits::MIB).max_core_instance_size(8 * limits::MIB);
    pool.table_elements(limits::GUEST_TABLE_ELEMENTS_MAX);
    pool.max_memory_size(limits::GUEST_MEMORY_MAX);
    // What an instance wrote into the first part of a memory is put back in place, which is faster than having the
    // kernel take the pages away and give them back; a small Rust guest uses less than this. Where the kernel can
    // tell which pages were written (Linux 6.7), only they are: it halves the price of a small step.
    pool.linear_memory_keep_resident(2 * limits::MIB).table_keep_resident(64 * 1024);
    pool.pagemap_scan(Enabled::Auto);
    pool.max_unused_warm_slots(64);
    pool
}
