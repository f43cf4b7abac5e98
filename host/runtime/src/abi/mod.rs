//! The versions of the contract with plugins, side by side.
//!
//! Each version is one module, made from the frozen files of `wit/` that it names. It turns that version's types
//! into the ones that have none, and back; this file chooses among them. The next version adds a module, a line to
//! each list here and a case to [`Contract`], and changes nothing of the others.

mod v0_1;

use wasmtime::Store;
use wasmtime::component::{InstancePre, Linker};

use crate::step::Step;
use crate::wasi;

/// What a plugin said of its step.
pub(crate) enum Verdict {
    /// All is well.
    Done,
    /// Trying again may help.
    Retry(String),
    /// Trying again never helps.
    Reject(String),
}

/// The exports that make a component a plugin, one of which it needs.
pub(crate) const HANDLERS: [&str; 1] = [v0_1::HANDLER];

/// The interfaces that a plugin may import: the contract, and what there is of WASI.
const INTERFACES: [&[&str]; 2] = [&v0_1::INTERFACES, &wasi::INTERFACES];

/// Whether `import` is an interface that some version offers.
pub(crate) fn offers(import: &str) -> bool {
    INTERFACES.iter().flat_map(|interfaces| interfaces.iter()).any(|interface| serves(interface, import))
}

/// Whether `ours` can stand for `theirs`: the same interface in a compatible version. (Whether all that they use of
/// it is there is compared by wasmtime, function by function.)
pub(crate) fn serves(ours: &str, theirs: &str) -> bool {
    /// The interface, and the part of its version that must be equal: up to the first number that is not zero.
    fn line(name: &str) -> Option<(&str, Vec<&str>)> {
        let (interface, version) = name.split_once('@')?;
        let numbers: Vec<_> = version.split('.').collect();
        let significant = numbers.iter().position(|number| *number != "0")?;
        Some((interface, numbers.into_iter().take(significant + 1).collect()))
    }
    line(ours).is_some_and(|ours| line(theirs) == Some(ours))
}

/// Links what all versions offer.
///
/// # Errors
/// wasmtime's, when two versions offer something under one name.
pub(crate) fn link(linker: &mut Linker<Step>) -> wasmtime::Result<()> {
    v0_1::link(linker)?;
    wasi::link(linker)
}

/// A component, ready to be instantiated, by the version that it speaks.
pub(crate) enum Contract {
    /// `tidemill:plugin@0.1`
    V0_1(v0_1::Handler),
}

impl Contract {
    /// The contract that a component speaks.
    ///
    /// # Errors
    /// wasmtime's, when its handler has another shape than its name promises.
    pub(crate) fn new(component: InstancePre<Step>) -> wasmtime::Result<Contract> {
        Ok(Contract::V0_1(v0_1::Handler::new(component)?))
    }

    /// Its version.
    pub(crate) fn version(&self) -> &'static str {
        match self {
            Contract::V0_1(_) => v0_1::VERSION,
        }
    }

    /// Makes an instance and hands it the step that `store` holds.
    pub(crate) async fn handle(&self, store: &mut Store<Step>) -> wasmtime::Result<Verdict> {
        match self {
            Contract::V0_1(handler) => handler.handle(store).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatible_versions_serve_one_another() {
        assert!(serves("a:b/c@0.1.0", "a:b/c@0.1.7"));
        assert!(serves("a:b/c@1.2.0", "a:b/c@1.0.0"));
        for other in ["a:b/c@0.2.0", "a:b/c@1.0.0", "a:b/d@0.1.0", "a:b/c", "x", "a:b/c@", "a:b/c@0"] {
            assert!(!serves("a:b/c@0.1.0", other), "{other}");
        }
    }

    #[test]
    fn only_the_contracts_interfaces_and_a_powerless_wasi_are_offered() {
        assert!(offers("tidemill:plugin/log@0.1.0") && offers("wasi:cli/environment@0.2.9"));
        for other in [
            "tidemill:plugin/secrets@0.1.0",
            "tidemill:plugin/log@0.2.0",
            "wasi:http/outgoing-handler@0.2.9",
            "wasi:cli/environment@0.3.0",
        ] {
            assert!(!offers(other), "{other}");
        }
    }
}
