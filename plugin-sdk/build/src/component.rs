//! A core module becomes a component.
//!
//! `wit-bindgen` leaves a section in the module that says which world it was written against; the encoder reads
//! it, wraps the module in a component of that world, and validates what it made. Names of functions stay: a
//! trap is shown with them.

use wit_component::{ComponentEncoder, DecodedWasm, decode};

/// The package whose interfaces a broker offers without a grant.
pub const OFFERED: &str = "tidemill:plugin/";

/// Makes a component of a core module, and validates it.
///
/// # Errors
/// Why the module is none of which a component can be made.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    encoder.and_then(|mut encoder| encoder.encode()).map_err(|error| format!("{error:#}"))
}

/// The interfaces that a component imports, by their full names, in the component's order.
///
/// # Errors
/// Why the bytes are no component.
pub fn imports(component: &[u8]) -> Result<Vec<String>, String> {
    Ok(surface(component)?.imports)
}

/// What a component needs and what it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surface {
    /// What it imports, by full names, in the component's order.
    pub imports: Vec<String>,
    /// What it exports, likewise.
    pub exports: Vec<String>,
}

/// What a component needs and what it gives.
///
/// # Errors
/// Why the bytes are no component.
pub fn surface(component: &[u8]) -> Result<Surface, String> {
    match decode(component).map_err(|error| format!("{error:#}"))? {
        DecodedWasm::Component(resolve, world) => {
            let world = &resolve.worlds[world];
            let imports = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
            let exports = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
            Ok(Surface { imports, exports })
        }
        DecodedWasm::WitPackage(..) => Err("it is the description of a package, not a component".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wit_component::{StringEncoding, dummy_module, embed_component_metadata};
    use wit_parser::{ManglingAndAbi, Resolve};

    fn module_of_our_world() -> Vec<u8> {
        let mut resolve = Resolve::default();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        let (package, _) = resolve.push_dir(wit).unwrap();
        let world = resolve.select_world(&[package], Some("plugin")).unwrap();
        let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        module
    }

    #[test]
    fn a_component_of_our_world_imports_only_what_a_broker_offers() {
        let component = encode(&module_of_our_world()).unwrap();
        let Surface { imports, exports } = surface(&component).unwrap();
        assert_eq!(exports, ["tidemill:plugin/handler@0.1.0"]);
        assert!(imports.iter().any(|name| name == "tidemill:plugin/delivery@0.1.0"), "{imports:?}");
        assert!(imports.iter().all(|name| name.starts_with(OFFERED)), "{imports:?}");
    }

    #[test]
    fn what_is_no_module_is_refused_with_a_reason() {
        assert!(encode(b"not wasm").unwrap_err().contains("magic"));
        assert!(imports(b"not wasm").is_err());
    }
}
