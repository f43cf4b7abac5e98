//! What is looked at before a component may run, and what is kept of it.

mod workbench;

use bytes::Bytes;
use tidemill_core::ids::Digest;
use tidemill_runtime::{
    CodeOptions, CompileError, LoadError, Metering, RuntimeError, RuntimeOptions, SealError, compile,
};
use workbench::{RealClock, block_on, compiled, counting_runtime, guest, input, runtime};

fn refusal(text: &str) -> LoadError {
    runtime().load(&compiled(&wat::parse_str(text).unwrap())).unwrap_err()
}

#[test]
fn what_it_may_not_import_is_named() {
    let refused = refusal(
        r#"(component
             (import "wasi:http/outgoing-handler@0.2.9" (instance))
             (import "wasi:keyvalue/store@0.2.0-draft" (instance))
             (import "tidemill:plugin/log@0.1.0" (instance))
             (import "tidemill:plugin/log@0.2.0" (instance))
             (import "surprise" (func)))"#,
    );
    let names = [
        "wasi:http/outgoing-handler@0.2.9",
        "wasi:keyvalue/store@0.2.0-draft",
        "tidemill:plugin/log@0.2.0",
        "surprise",
    ]
    .map(str::to_owned);
    assert_eq!(refused, LoadError::Imports { names: names.into() });
    assert_eq!(
        refused.to_string(),
        "the component imports what is not offered to plugins: \
         wasi:http/outgoing-handler@0.2.9, wasi:keyvalue/store@0.2.0-draft, tidemill:plugin/log@0.2.0, surprise"
    );
}

#[test]
fn a_function_that_its_interface_does_not_have_is_named() {
    let refused = refusal(
        r#"(component
             (import "tidemill:plugin/diagnostics@0.1.9" (instance (export "report-joy" (func))))
             (instance $empty) (export "tidemill:plugin/handler@0.1.0" (instance $empty)))"#,
    );
    let LoadError::Contract(why) = refused else { panic!("{refused:?}") };
    assert!(why.contains("report-joy") && why.contains("tidemill:plugin/diagnostics@0.1.9"), "{why}");
}

#[test]
fn a_component_without_a_handler_is_no_plugin() {
    assert_eq!(refusal("(component)"), LoadError::Handler { found: "nothing".into() });
    let refused =
        refusal(r#"(component (instance $i) (export "tidemill:plugin/handler@9.0.0" (instance $i)))"#);
    assert_eq!(
        refused.to_string(),
        "the component is no plugin: it exports tidemill:plugin/handler@9.0.0, \
         and this broker calls tidemill:plugin/handler@0.1.0"
    );
}

#[test]
fn a_later_patch_of_the_contract_is_served_as_far_as_it_uses_what_is_there() {
    let mut component = guest(1, "");
    let version = b"tidemill:plugin/handler@0.1.0";
    let places: Vec<_> = component.windows(version.len()).enumerate().filter(|(_, w)| w == version).collect();
    let places: Vec<_> = places.into_iter().map(|(at, _)| at + version.len() - 1).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| component[at] = b'7');
    let plugin = runtime().load(&compiled(&component)).unwrap();
    assert_eq!(plugin.contract(), "0.1");
    block_on(runtime().run(&plugin, input(1))).result.unwrap();
}

#[test]
fn a_handler_of_another_shape_is_refused() {
    let refused = refusal(
        r#"(component
             (core module $m (func (export "handle")))
             (core instance $m (instantiate $m))
             (func $handle (canon lift (core func $m "handle")))
             (instance $handler (export "handle" (func $handle)))
             (export "tidemill:plugin/handler@0.1.0" (instance $handler)))"#,
    );
    let LoadError::Contract(why) = refused else { panic!("{refused:?}") };
    assert!(why.contains("`handle` has another type"), "{why}");
}

#[test]
fn what_the_pool_has_no_room_for_is_refused() {
    let with_module = |module: &str, instances: usize| {
        let instances: String = (0..instances).map(|_| "(core instance (instantiate $m))").collect();
        refusal(&format!(
            r#"(component (core module $m {module}) {instances}
                 (instance $i) (export "tidemill:plugin/handler@0.1.0" (instance $i)))"#
        ))
    };
    let cases = [
        (with_module("(memory 1)", 5), "5 Wasm linear memories"),
        (with_module("(memory 5000)", 1), "minimum byte size of 327680000"),
        (with_module("(table 60000 funcref)", 1), "minimum element size of 60000"),
        (with_module("(table 1 funcref)", 64), "ok"),
        (with_module("(table 1 funcref)", 65), "65 core module instances"),
    ];
    for (refused, expected) in cases {
        let why = refused.to_string();
        assert!(why.contains(expected) || (expected == "ok" && why.contains("`handle`")), "{why}");
    }
}

#[test]
fn what_is_no_component_does_not_compile() {
    let core_module = wat::parse_str("(module)").unwrap();
    let broken = [&wat::parse_str("(component)").unwrap()[..], &[1, 2, 3]].concat();
    let cases: [(&[u8], &str); 5] = [
        (&core_module, "core module"),
        (b"", "does not begin as one"),
        (b"(component)", "does not begin as one"),
        (b"\x7fELF precompiled", "does not begin as one"),
        (&broken, "out of bounds"),
    ];
    for (bytes, expected) in cases {
        match compile(bytes, CodeOptions::default()) {
            Err(CompileError::Invalid(why)) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let large = vec![0; tidemill_core::limits::COMPONENT_BYTES_MAX + 1];
    assert!(matches!(compile(&large, CodeOptions::default()), Err(CompileError::TooLarge { .. })));
}

#[test]
fn threads_and_shared_memory_are_not_to_be_had() {
    let threads = wat::parse_str("(component (core module (memory 1 1 shared)))").unwrap();
    let wide = wat::parse_str("(component (core module (memory i64 1)))").unwrap();
    for component in [threads, wide] {
        assert!(matches!(compile(&component, CodeOptions::default()), Err(CompileError::Invalid(_))));
    }
}

#[test]
fn a_sealed_artifact_runs_and_a_changed_one_does_not() {
    let artifact = compiled(&guest(1, ""));
    let sealer = runtime().sealer([7; 32]);
    let digest = Digest([1; 32]);
    let sealed = sealer.seal(digest, &artifact);
    let plugin = runtime().load(&sealer.open(digest, &sealed).unwrap()).unwrap();
    block_on(runtime().run(&plugin, input(1))).result.unwrap();

    assert_eq!(sealer.open(Digest([2; 32]), &sealed).unwrap_err(), SealError::OtherComponent);
    assert_eq!(runtime().sealer([8; 32]).open(digest, &sealed).unwrap_err(), SealError::Broken);
    assert_eq!(counting_runtime().sealer([7; 32]).open(digest, &sealed).unwrap_err(), SealError::Stale);
    for at in [0, 4, 6, 40, 70, 101, 102, sealed.len() / 2, sealed.len() - 1] {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        assert!(sealer.open(digest, &Bytes::from(changed)).is_err(), "byte {at}");
    }
    for length in [0, 50, 102, sealed.len() - 1] {
        assert_eq!(sealer.open(digest, &sealed.slice(..length)).unwrap_err(), SealError::Broken, "{length}");
    }
}

#[test]
fn two_processes_agree_on_what_is_compatible() {
    // The seal's compatibility must not depend on anything that differs from run to run: two runtimes, made in turn.
    let other =
        tidemill_runtime::Runtime::new(RuntimeOptions { instances: 4, ..RuntimeOptions::default() }).unwrap();
    let artifact = compiled(&guest(1, ""));
    let sealed = runtime().sealer([7; 32]).seal(Digest([1; 32]), &artifact);
    assert!(other.sealer([7; 32]).open(Digest([1; 32]), &sealed).is_ok());
}

#[test]
fn machine_code_for_another_engine_is_not_loaded() {
    let code = CodeOptions { metering: Metering::Fuel, ..CodeOptions::default() };
    let artifact = compile(&guest(1, ""), code).unwrap();
    assert!(matches!(runtime().load(&artifact), Err(LoadError::Engine(_))));
}

#[test]
fn a_small_address_space_serves_too() {
    let code = CodeOptions { memory_reservation_bytes: 256 << 20, ..CodeOptions::default() };
    let small = tidemill_runtime::Runtime::new(RuntimeOptions { instances: 4, code }).unwrap();
    let plugin = small.load(&compile(&guest(1, ""), code).unwrap()).unwrap();
    block_on(small.run(&plugin, input(1))).result.unwrap();
}

#[test]
fn the_ticker_ends_with_its_runtime() {
    let small =
        tidemill_runtime::Runtime::new(RuntimeOptions { instances: 4, ..RuntimeOptions::default() }).unwrap();
    let ticker = small.tick(RealClock::shared());
    drop(small);
    block_on(ticker);
    block_on(counting_runtime().tick(RealClock::shared()));
}

#[test]
fn impossible_options_are_refused() {
    let options = RuntimeOptions { instances: 1, ..RuntimeOptions::default() };
    assert_eq!(tidemill_runtime::Runtime::new(options).unwrap_err(), RuntimeError::TooFew(1));
    let code = CodeOptions { memory_reservation_bytes: 1 << 20, ..CodeOptions::default() };
    let options = RuntimeOptions { code, ..RuntimeOptions::default() };
    assert_eq!(tidemill_runtime::Runtime::new(options).unwrap_err(), RuntimeError::Reservation(1 << 20));
    let options = RuntimeOptions { instances: 1_000_000, ..RuntimeOptions::default() };
    assert!(matches!(tidemill_runtime::Runtime::new(options), Err(RuntimeError::Pool { .. })));
}
