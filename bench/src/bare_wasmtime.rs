//! The bare rate of wasmtime: making an instance of a component that does nothing, and dropping it.

use std::time::Duration;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use crate::row::Row;
use crate::times::Stretch;

/// One memory, one function, no imports.
const TRIVIAL: &str = r#"
(component
  (core module $module (memory (export "memory") 1) (func (export "run")))
  (core instance $instance (instantiate $module))
  (func (export "run") (canon lift (core func $instance "run"))))
"#;
/// Between two looks at the clock.
const AT_A_TIME: u64 = 1_000;
/// Places of the pool; one is used at a time.
const PLACES: u32 = 16;

/// A store, an instance in it, and both gone; one after the other, on one thread.
pub fn instances(time: Duration) -> anyhow::Result<Row> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(PLACES).total_core_instances(PLACES).total_memories(PLACES);
    let mut config = Config::new();
    config.wasm_component_model(true).epoch_interruption(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let wrong = |error: wasmtime::Error| anyhow::anyhow!("{error:#}");
    let engine = Engine::new(&config).map_err(wrong)?;
    let component = Component::new(&engine, wat::parse_str(TRIVIAL)?).map_err(wrong)?;
    let instance = Linker::<()>::new(&engine).instantiate_pre(&component).map_err(wrong)?;
    let make = || {
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(1);
        instance.instantiate(&mut store).map(drop).map_err(wrong)
    };
    (0..AT_A_TIME).try_for_each(|_| make())?;
    let (stretch, mut made) = (Stretch::of(time), 0);
    while stretch.lasts() {
        (0..AT_A_TIME).try_for_each(|_| make())?;
        made += AT_A_TIME;
    }
    Ok(Row::new("wasmtime, trivial instances", stretch.elapsed()).amount(made, "instances", 0))
}
