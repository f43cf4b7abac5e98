//! Admission: from machine code to a plugin that may run, or the reason why not.
//!
//! A component is looked at before anything of it runs: what it imports that the contract does not offer is named,
//! whether it exports the handler, and whether the pool has room for what it is made of. Nothing is granted by a
//! name that merely looks right: the types are compared, too.

use std::sync::Arc;

use tidemill_core::limits;
use wasmtime::Store;
use wasmtime::component::Component;

use crate::abi::{self, Contract, Verdict};
use crate::artifact::Artifact;
use crate::engine::Runtime;
use crate::step::Step;

/// Why a component is not activated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The engine does not take it: it was compiled for another one and is to be compiled again, or it is made of too
    /// many parts.
    #[error("the engine does not take it: {0}")]
    Engine(String),
    /// It imports what the contract does not offer.
    #[error("the component imports what is not offered to plugins: {}", names.join(", "))]
    Imports {
        /// The imports, by the names that the component gives them.
        names: Vec<String>,
    },
    /// It has no handler that this broker can call.
    #[error("the component is no plugin: it exports {found}, and this broker calls {wanted}", wanted = abi::HANDLERS.join(" or "))]
    Handler {
        /// What it exports, or "nothing".
        found: String,
    },
    /// Its imports or its handler have the right names and the wrong shape.
    #[error("the component does not fit the contract that it names: {0}")]
    Contract(String),
}

/// Whether a plugin that imports this is given it. (Whether it has the right shape, only [`Runtime::load`] knows.)
pub fn is_offered(import: &str) -> bool {
    abi::offers(import)
}

/// A component that may run. Cheap to clone.
#[derive(Clone)]
pub struct Plugin(Arc<Loaded>);

struct Loaded {
    contract: Contract,
    places: u32,
    has_wasi: bool,
}

impl Plugin {
    /// The version of the contract that it speaks.
    pub fn contract(&self) -> &'static str {
        self.0.contract.version()
    }

    /// Whether somebody else has it, too.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// How many places of the pool an instance of it takes.
    pub(crate) fn places(&self) -> u32 {
        self.0.places
    }

    /// Whether it imports any of WASI.
    pub(crate) fn has_wasi(&self) -> bool {
        self.0.has_wasi
    }

    /// Makes an instance and hands it the step.
    pub(crate) async fn handle(&self, store: &mut Store<Step>) -> wasmtime::Result<Verdict> {
        self.0.contract.handle(store).await
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin(contract {})", self.contract())
    }
}

impl Runtime {
    /// Admits a component. It takes milliseconds, more for large ones, and copies the machine code.
    ///
    /// # Errors
    /// [`LoadError`]: what keeps this component from being a plugin.
    pub fn load(&self, artifact: &Artifact) -> Result<Plugin, LoadError> {
        let component =
            artifact.instate(&self.engine).map_err(|error| LoadError::Engine(format!("{error:#}")))?;
        self.check_imports(&component)?;
        self.check_handler(&component)?;
        // Unknown only for components that import parts of themselves, which were refused just now.
        let memories =
            component.resources_required().map_or(limits::GUEST_MEMORIES_MAX, |needs| needs.num_memories);
        let misfit = |error: wasmtime::Error| LoadError::Contract(format!("{error:#}"));
        let contract =
            Contract::new(self.linker.instantiate_pre(&component).map_err(misfit)?).map_err(misfit)?;
        component.initialize_copy_on_write_image().map_err(misfit)?;
        let has_wasi =
            component.component_type().imports(&self.engine).any(|(name, _)| name.starts_with("wasi:"));
        Ok(Plugin(Arc::new(Loaded { contract, places: memories.max(1), has_wasi })))
    }

    fn check_imports(&self, component: &Component) -> Result<(), LoadError> {
        let ty = component.component_type();
        let imports = ty.imports(&self.engine).map(|(name, _)| name.to_owned());
        let names: Vec<_> = imports.filter(|name| !abi::offers(name)).collect();
        if names.is_empty() { Ok(()) } else { Err(LoadError::Imports { names }) }
    }

    fn check_handler(&self, component: &Component) -> Result<(), LoadError> {
        let ty = component.component_type();
        let exports: Vec<_> = ty.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        if exports.iter().any(|name| abi::HANDLERS.iter().any(|handler| abi::serves(handler, name))) {
            return Ok(());
        }
        let found = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        Err(LoadError::Handler { found })
    }
}
