//! Plugins written in Rust with the SDK, as authors write them: the well-behaved and the others.
//!
//! `cargo xtask plugins` builds them from `plugins/`.

mod workbench;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_core::limits;
use tidemill_core::plugin::{Event, GuestLimits, Header};
use tidemill_runtime::{CodeOptions, GuestFailure, LogLevel, Metering, StepInput, StepOutcome, compile};
use workbench::{State, block_on, built, counting_runtime, event, input, plugin, run, runtime};

/// A step with one event for each value.
fn values(values: &[&str]) -> StepInput {
    let events = values.iter().zip(0..).map(|(value, offset)| Event {
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..event(offset)
    });
    StepInput { events: events.collect(), ..input(0) }
}

fn texts(outcome: StepOutcome) -> Vec<String> {
    let effects = outcome.result.unwrap();
    effects.emitted.iter().map(|e| String::from_utf8(e.value.clone().unwrap().into()).unwrap()).collect()
}

#[test]
fn what_goes_in_comes_out() {
    let headers = vec![
        Header { name: "traceparent".into(), value: Some("00-1".into()) },
        Header { name: "empty".into(), value: None },
    ];
    let events = [
        Event { headers, ..event(0) },
        Event { key: None, ..event(1) },
        Event { value: None, timestamp_ms: -5, ..event(2) },
        Event { key: Some(Bytes::new()), value: Some(Bytes::from(vec![0xff; 100_000])), ..event(3) },
    ];
    let config = Arc::new(BTreeMap::from([("to".to_owned(), "out-2".to_owned())]));
    let outcome =
        run(&built("pass-through"), StepInput { events: events.clone().into(), config, ..input(0) });
    let effects = outcome.result.unwrap();
    assert_eq!(effects.emitted.len(), events.len());
    for ((emitted, event), parent) in effects.emitted.iter().zip(&events).zip(0..) {
        assert_eq!((emitted.parent, emitted.output), (parent, 1));
        assert_eq!(
            (&emitted.key, &emitted.value, &emitted.headers),
            (&event.key, &event.value, &event.headers)
        );
        assert!(emitted.timestamp_ms.is_none_or(|time| time == event.timestamp_ms));
    }
}

#[test]
fn no_instance_outlives_its_step() {
    let counting = plugin(&built("count-static"));
    for _ in 0..50 {
        assert_eq!(texts(block_on(runtime().run(&counting, values(&["a", "b"])))), ["1", "1"]);
    }
}

#[test]
fn the_same_step_has_the_same_effects() {
    let code = CodeOptions { metering: Metering::Fuel, ..CodeOptions::default() };
    let component = built("state-counter");
    let (timed, counted) =
        (plugin(&component), counting_runtime().load(&compile(&component, code).unwrap()).unwrap());
    let state =
        Arc::new(State { pairs: BTreeMap::from([("key-1".into(), "41".into())]), ..State::default() });
    let events: Vec<_> = (0..100)
        .map(|offset| Event { key: Some(format!("key-{}", offset % 7).into()), ..event(offset) })
        .collect();
    let input = || StepInput { events: events.clone().into(), state: state.clone(), ..input(0) };
    let first = block_on(runtime().run(&timed, input()));
    let again = block_on(runtime().run(&timed, input()));
    assert_eq!(first.result.as_ref().unwrap(), again.result.as_ref().unwrap());
    // Counting instructions instead of time changes nothing of what a guest computes, and costs the same each time.
    let one = block_on(counting_runtime().run(&counted, input()));
    let two = block_on(counting_runtime().run(&counted, input()));
    assert_eq!(first.result.unwrap(), one.result.clone().unwrap());
    assert_eq!((one.result.unwrap(), one.usage), (two.result.unwrap(), two.usage));
}

#[test]
fn state_is_read_as_the_step_left_it() {
    let state =
        Arc::new(State { pairs: BTreeMap::from([("key-0".into(), "41".into())]), ..State::default() });
    let events: Vec<_> = (0..3).map(|_| event(0)).collect();
    let outcome = run(&built("state-counter"), StepInput { events: events.into(), state, ..input(0) });
    let effects = outcome.result.as_ref().unwrap();
    assert_eq!(effects.state.len(), 1);
    assert_eq!(
        (&effects.state[0].key[..], effects.state[0].value.as_deref()),
        (&b"key-0"[..], Some(&b"44"[..]))
    );
    assert_eq!(texts(outcome), ["42", "43", "44"]);
}

#[test]
fn a_panic_is_told_with_its_place_and_its_functions() {
    let outcome = run(&built("panic-on"), values(&["calm", "do panic", "calm"]));
    let failure = outcome.result.unwrap_err();
    let GuestFailure::Trap { message, panic: Some(panic), backtrace } = &failure else {
        panic!("{failure:?}")
    };
    assert_eq!(panic.message, "this plugin was told to: do panic");
    assert!(panic.file.ends_with("fixtures/panic-on/src/lib.rs"), "{}", panic.file);
    assert!(panic.line > 1 && panic.column > 0);
    let place = format!("{}:{}:{}", panic.file, panic.line, panic.column);
    assert_eq!(message, &format!("panicked at {place}: this plugin was told to: do panic"));
    assert!(backtrace.iter().any(|line| line.contains("panic_on::refuse_to_go_on")), "{backtrace:#?}");
    assert_eq!(failure.to_string(), format!("the plugin failed: {message}"));
}

#[test]
fn a_trap_without_a_word_is_told_by_its_functions() {
    let failure = run(&built("trap"), values(&["trap"])).result.unwrap_err();
    let GuestFailure::Trap { message, panic: None, backtrace } = &failure else { panic!("{failure:?}") };
    assert!(message.contains("aborted"), "{message}");
    assert!(backtrace.iter().any(|line| line.contains("trap::fall")), "{backtrace:#?}");
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let limits = GuestLimits { cpu_ms: 100, ..GuestLimits::default() };
    let outcome = run(&built("endless-loop"), StepInput { limits, ..values(&["fine", "loop"]) });
    assert!(outcome.usage.cpu >= Duration::from_millis(100));
    let failure = outcome.result.unwrap_err();
    let GuestFailure::Limit { limit, backtrace } = &failure else { panic!("{failure:?}") };
    assert_eq!((limit.name, limit.value, limit.manifest_key), ("cpu-ms", 100, Some("limits.cpu-ms")));
    assert!(backtrace.iter().any(|line| line.contains("endless_loop")), "{backtrace:#?}");
}

#[test]
fn a_memory_bomb_ends_at_its_limit() {
    let outcome = run(&built("memory-bomb"), values(&["memory"]));
    assert!(outcome.usage.memory_bytes_max <= limits::GUEST_MEMORY_DEFAULT as u64);
    assert!(outcome.usage.memory_bytes_max > limits::GUEST_MEMORY_DEFAULT as u64 / 2);
    let failure = outcome.result.unwrap_err();
    let GuestFailure::Limit { limit, backtrace } = &failure else { panic!("{failure:?}") };
    assert_eq!((limit.name, limit.value), ("memory-bytes", limits::GUEST_MEMORY_DEFAULT as u64));
    assert!(limit.asked.unwrap() > limit.value);
    assert!(backtrace.iter().any(|line| line.contains("memory_bomb")), "{backtrace:#?}");
}

#[test]
fn a_hundred_mebibytes_end_the_step_in_one_piece_in_many_and_against_the_plugins_will() {
    let limits = GuestLimits { memory_bytes: 256 << 20, cpu_ms: 5_000, ..GuestLimits::default() };
    for value in ["whole", "pieces", "anyway"] {
        let outcome =
            run(&built("big-output"), StepInput { limits: limits.clone(), ..values(&["fine", value]) });
        let failure = outcome.result.unwrap_err();
        let GuestFailure::Limit { limit, .. } = &failure else { panic!("{value}: {failure:?}") };
        assert_eq!((limit.name, limit.value), ("output-bytes", limits.output_bytes), "{value}");
    }
}

#[test]
fn a_state_bomb_ends_the_step() {
    let failure = run(&built("state-bomb"), values(&["bomb"])).result.unwrap_err();
    let GuestFailure::Limit { limit, backtrace } = &failure else { panic!("{failure:?}") };
    assert_eq!((limit.name, limit.value), ("state-bytes", limits::STEP_STATE_BYTES_DEFAULT as u64));
    assert!(backtrace[0].ends_with("::state_put"), "{backtrace:#?}");
}

#[test]
fn a_recursion_without_end_ends() {
    let failure = run(&built("recursion"), values(&["deeper"])).result.unwrap_err();
    let GuestFailure::Trap { message, panic: None, backtrace } = &failure else { panic!("{failure:?}") };
    assert!(message.contains("recurse") || message.contains("recursion"), "{message}");
    assert!(backtrace.iter().any(|line| line.contains("recursion::deeper")), "{backtrace:#?}");
}

#[test]
fn a_topic_that_is_not_granted_is_a_refusal_that_a_plugin_can_handle() {
    let derived = texts(run(&built("not-granted"), values(&["here", "elsewhere"])));
    assert_eq!(derived[0], "here");
    assert!(derived[1].contains("not granted") && derived[1].ends_with("elsewhere"), "{}", derived[1]);
}

#[test]
fn a_plugin_says_whether_trying_again_helps() {
    let component = built("reject-some");
    let says =
        |value: &str, attempt| run(&component, StepInput { attempt, ..values(&["fine", value]) }).result;
    assert_eq!(says("reject it", 0).unwrap_err(), GuestFailure::Reject("reject it".into()));
    assert_eq!(says("retry it", 9).unwrap_err(), GuestFailure::Retry("retry it".into()));
    assert_eq!(says("flaky 2", 1).unwrap_err(), GuestFailure::Retry("flaky 2".into()));
    assert_eq!(says("flaky 2", 2).unwrap().emitted.len(), 2);
}

#[test]
fn a_flood_of_log_lines_costs_the_others_nothing() {
    let limits = GuestLimits { cpu_ms: 5_000, ..GuestLimits::default() };
    let outcome = run(&built("log-flood"), StepInput { limits: limits.clone(), ..values(&["lines"]) });
    assert_eq!((outcome.log.len(), outcome.log_lines_dropped), (limits::GUEST_LOG_LINES_MAX, 999_000));
    assert_eq!((outcome.log[7].level, outcome.log[7].message.as_str()), (LogLevel::Warn, "line 7"));
    assert_eq!(texts(outcome), ["lines"]);
    let outcome = run(&built("log-flood"), StepInput { limits, ..values(&["line"]) });
    assert_eq!(outcome.log[0].message.len(), limits::GUEST_LOG_LINE_BYTES_MAX);
    assert!(outcome.log[0].message.ends_with('…'));
}

#[test]
fn failing_steps_do_not_hurt_those_that_run_beside_them() {
    let names = ["panic-on", "trap", "memory-bomb", "recursion", "state-bomb", "pass-through"];
    let plugins: Vec<_> = names.iter().map(|name| plugin(&built(name))).collect();
    let value = "panic trap memory deeper bomb";
    let config = Arc::new(BTreeMap::from([("to".to_owned(), "out".to_owned())]));
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    threads.block_on(async {
        let mut steps = tokio::task::JoinSet::new();
        for round in 0..120 {
            let (plugin, name) = (plugins[round % names.len()].clone(), names[round % names.len()]);
            let input = StepInput { config: config.clone(), ..values(&[value]) };
            steps.spawn(async move { (name, runtime().run(&plugin, input).await.result.is_ok()) });
        }
        for (name, succeeded) in steps.join_all().await {
            assert_eq!(succeeded, name == "pass-through", "{name}");
        }
    });
}
