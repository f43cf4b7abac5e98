//! The document of the admin API, in OpenAPI's form: `docs/openapi.json`, as this broker was built with it.
//!
//! It is written by hand. A test here holds it against the router; a story of the command holds a broker's answers
//! against it.

use axum::http::header;
use axum::response::IntoResponse;

/// The document.
pub const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// The document, served.
pub async fn show() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::DOCUMENT;

    const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];

    /// `get /v1/topics` and all the others, as the router's source has them: axum does not tell what it routes.
    fn routed() -> BTreeSet<String> {
        let source = include_str!("mod.rs");
        let (_, router) = source.split_once("fn router(").unwrap();
        let (router, _) = router.split_once(".fallback(").unwrap();
        let mut all = BTreeSet::new();
        for route in router.split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            let handlers = &route[route.find(path).unwrap() + path.len()..];
            let before = all.len();
            for method in METHODS {
                let called = format!("{method}(");
                let starts = |at: usize| !handlers[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                if handlers.match_indices(&called).any(|(at, _)| starts(at)) {
                    all.insert(format!("{method} {path}"));
                }
            }
            assert!(all.len() > before, "{path} has no method");
        }
        all
    }

    #[test]
    fn every_route_is_documented_and_every_documented_route_is_there() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = METHODS.iter().filter(|method| item[**method].is_object());
            documented.extend(methods.map(|method| format!("{method} {path}")));
            let named = item["parameters"].as_array().into_iter().flatten();
            let named: BTreeSet<_> =
                named.map(|one| format!("{{{}}}", one["name"].as_str().unwrap())).collect();
            let meant: BTreeSet<_> =
                path.split('/').filter(|part| part.starts_with('{')).map(str::to_owned).collect();
            assert_eq!(named, meant, "the parameters of {path}");
        }
        let routed = routed();
        let missing: Vec<_> = routed.difference(&documented).collect();
        let gone: Vec<_> = documented.difference(&routed).collect();
        assert!(missing.is_empty(), "docs/openapi.json does not have: {missing:#?}");
        assert!(gone.is_empty(), "docs/openapi.json has, and the router does not: {gone:#?}");
        assert!(routed.len() > 20, "{routed:#?}");
    }

    #[test]
    fn what_it_refers_to_is_there_and_its_version_is_the_brokers() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        for (at, _) in DOCUMENT.match_indices("\"$ref\": \"#") {
            let pointer = DOCUMENT[at..].split(['#', '"']).nth(4).unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
