//! Steps of guests that are a few instructions each: what ends them, and what they cannot do.
#![allow(clippy::disallowed_methods, reason = "tests are a shell: they have a clock of their own")]

mod workbench;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::plugin::GuestLimits;
use tidemill_runtime::{GuestFailure, LimitReached, StepInput, StepOutcome};
use workbench::{State, block_on, counting_runtime, guest, input, plugin, run, runtime};

/// One record, of 48 bytes, at 2,048: no key, the value at 4,096 with as many bytes as given, no headers, no time.
fn record(value_bytes: u32) -> String {
    format!(
        "(i32.store8 (i32.const 2060) (i32.const 1))
         (i32.store (i32.const 2064) (i32.const 4096))
         (i32.store (i32.const 2068) (i32.const {value_bytes}))"
    )
}

const EMIT_ONE: &str = "(call $emit (local.get $step) (i32.const 0) (i32.const 1024) (i32.const 3)
                                    (i32.const 2048) (i32.const 1) (i32.const 512))";

fn limit_of(outcome: &StepOutcome) -> &LimitReached {
    match &outcome.result {
        Err(GuestFailure::Limit { limit, .. }) => limit,
        other => panic!("not ended by a limit: {other:?}"),
    }
}

fn with_limits(limits: GuestLimits) -> StepInput {
    StepInput { limits, ..input(1) }
}

#[test]
fn nothing_in_nothing_out() {
    let outcome = run(&guest(1, ""), input(1));
    let effects = outcome.result.unwrap();
    assert!(effects.emitted.is_empty() && effects.state.is_empty());
    assert_eq!(outcome.usage.memory_bytes_max, 64 * 1024);
    assert!(outcome.usage.cpu > Duration::ZERO && outcome.usage.cpu < Duration::from_secs(1));
}

#[test]
fn what_is_emitted_and_written_comes_out() {
    let body = format!(
        "{} {EMIT_ONE}
         (call $put (local.get $step) (i32.const 1024) (i32.const 3) (i32.const 1024) (i32.const 2) (i32.const 512))",
        record(10)
    );
    let effects = run(&guest(1, &body), input(1)).result.unwrap();
    assert_eq!(effects.emitted.len(), 1);
    assert_eq!((effects.emitted[0].parent, effects.emitted[0].output), (0, 0));
    assert_eq!(effects.emitted[0].value, Some(Bytes::from(vec![0; 10])));
    assert_eq!(effects.emitted[0].key, None);
    assert_eq!(effects.state[0].key, "out");
    assert_eq!(effects.state[0].value, Some(Bytes::from("ou")));
}

#[test]
fn an_endless_loop_ends_at_its_deadline_and_others_run_meanwhile_on_the_same_thread() {
    let endless = plugin(&guest(1, "(loop $again (br $again))"));
    let quick = plugin(&guest(1, ""));
    let limits = GuestLimits { cpu_ms: 500, ..GuestLimits::default() };
    block_on(async {
        let looping = runtime().run(&endless, with_limits(limits));
        let looping = async { (looping.await, std::time::Instant::now()) };
        let others = async {
            for _ in 0..5 {
                runtime().run(&quick, input(1)).await.result.unwrap();
                tokio::task::yield_now().await;
            }
            std::time::Instant::now()
        };
        // The endless one is polled first, and each of the others waits only until it yields.
        let ((outcome, ended), others_done) = tokio::join!(looping, others);
        assert!(others_done < ended, "the others had to wait for the end of the loop");
        assert_eq!(limit_of(&outcome).name, "cpu-ms");
        let Err(GuestFailure::Limit { backtrace, .. }) = &outcome.result else { unreachable!() };
        assert_eq!(backtrace[0], "handle");
        assert!(outcome.usage.cpu >= Duration::from_millis(500), "{:?}", outcome.usage);
        assert!(outcome.usage.cpu < Duration::from_millis(1_500), "{:?}", outcome.usage);
    });
}

#[test]
fn a_guest_that_waits_for_others_does_not_age() {
    let endless = plugin(&guest(1, "(loop $again (br $again))"));
    let limits = GuestLimits { cpu_ms: 150, ..GuestLimits::default() };
    block_on(async {
        // Three of them share one thread, so each takes three times as long on the clock as it may compute.
        let start = std::time::Instant::now();
        let run = || runtime().run(&endless, with_limits(limits.clone()));
        let (a, b, c) = tokio::join!(run(), run(), run());
        let wall = start.elapsed();
        for outcome in [a, b, c] {
            assert_eq!(limit_of(&outcome).name, "cpu-ms");
            assert!(outcome.usage.cpu >= Duration::from_millis(150), "{:?}", outcome.usage);
        }
        assert!(wall >= Duration::from_millis(450), "{wall:?}");
    });
}

#[test]
fn a_limit_on_instructions_ends_a_step_at_the_same_one_each_time() {
    let runtime = counting_runtime();
    let code = tidemill_runtime::CodeOptions {
        metering: tidemill_runtime::Metering::Fuel,
        ..tidemill_runtime::CodeOptions::default()
    };
    let component =
        guest(1, "(loop $again (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $again))");
    let endless = runtime.load(&tidemill_runtime::compile(&component, code).unwrap()).unwrap();
    let limits = GuestLimits { cpu_ms: 20, ..GuestLimits::default() };
    let outcomes: Vec<_> =
        (0..3).map(|_| block_on(runtime.run(&endless, with_limits(limits.clone())))).collect();
    for outcome in &outcomes {
        assert_eq!(limit_of(outcome).name, "cpu-ms");
        assert_eq!(outcome.usage.cpu, outcomes[0].usage.cpu);
    }
    assert!(outcomes[0].usage.cpu >= Duration::from_millis(20));
}

#[test]
fn memory_is_refused_beyond_its_limit_and_the_abort_that_follows_is_called_by_its_name() {
    // Grows by a mebibyte until it is refused, and then aborts, as an allocator does.
    let body = "(loop $more
                  (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
                (unreachable)";
    let limits = GuestLimits { memory_bytes: 8 << 20, ..GuestLimits::default() };
    let outcome = run(&guest(1, body), with_limits(limits));
    let limit = limit_of(&outcome);
    assert_eq!((limit.name, limit.value, limit.asked), ("memory-bytes", 8 << 20, Some((8 << 20) + 65_536)));
    assert_eq!(outcome.usage.memory_bytes_max, (7 << 20) + 65_536);
    // One that makes do with what it has is no failure.
    let body = "(drop (memory.grow (i32.const 10000)))";
    run(&guest(1, body), input(1)).result.unwrap();
}

#[test]
fn a_component_that_starts_with_more_memory_than_it_may_have_does_not_start() {
    let limits = GuestLimits { memory_bytes: 1 << 20, ..GuestLimits::default() };
    let outcome = run(&guest(100, ""), with_limits(limits));
    let limit = limit_of(&outcome);
    assert_eq!((limit.name, limit.asked), ("memory-bytes", Some(6_553_600)));
}

#[test]
fn a_hundred_mebibytes_in_one_call_are_not_copied_before_they_are_refused() {
    // A hundred records, all with the same mebibyte as their value: the guest itself needs little more than one.
    let body = format!(
        "{}
         (loop $more
           (memory.copy (i32.add (i32.const 2048) (i32.mul (local.get $i) (i32.const 48)))
                        (i32.const 2048) (i32.const 48))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $i) (i32.const 100))))
         (call $emit (local.get $step) (i32.const 0) (i32.const 1024) (i32.const 3)
                     (i32.const 2048) (i32.const 100) (i32.const 512))",
        record(1 << 20)
    );
    let outcome = run(&guest(20, &body), input(1));
    let limit = limit_of(&outcome);
    // Nobody counted what was asked for: wasmtime stopped copying at what one call may hand over.
    assert_eq!((limit.name, limit.value, limit.asked), ("output-bytes", 4 << 20, None));
}

#[test]
fn a_hundred_mebibytes_in_pieces_end_the_step_at_the_first_piece_too_many() {
    let body = format!(
        "{}
         (loop $more {EMIT_ONE}
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $i) (i32.const 100))))",
        record(1 << 20)
    );
    let outcome = run(&guest(20, &body), input(1));
    let limit = limit_of(&outcome);
    assert_eq!((limit.name, limit.value, limit.asked), ("output-bytes", 4 << 20, Some(5 << 20)));
    assert_eq!(
        outcome.result.unwrap_err().to_string(),
        "the limit output-bytes is 4194304, and 5242880 was asked for; limits.output-bytes in the manifest raises it"
    );
}

#[test]
fn too_many_records_end_the_step() {
    let body = format!("{} (loop $more {EMIT_ONE} (br $more))", record(0));
    let limits = GuestLimits { output_records: 1_000, ..GuestLimits::default() };
    let outcome = run(&guest(2, &body), with_limits(limits));
    assert_eq!(
        limit_of(&outcome),
        &LimitReached {
            name: "output-records",
            value: 1_000,
            asked: Some(1_001),
            manifest_key: Some("limits.output-records"),
        }
    );
}

#[test]
fn writing_too_much_state_ends_the_step() {
    // Half a mebibyte under each of many keys.
    let body = "(loop $more
        (i32.store (i32.const 2048) (local.get $i))
        (call $put (local.get $step) (i32.const 2048) (i32.const 4) (i32.const 4096) (i32.const 524288) (i32.const 512))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $more))";
    let outcome = run(&guest(20, body), input(1));
    let limit = limit_of(&outcome);
    assert_eq!((limit.name, limit.value), ("state-bytes", 4 << 20));
    assert!(limit.asked.unwrap() > 4 << 20);
}

#[test]
fn traps_say_what_happened_and_where() {
    let cases = [
        ("(unreachable)", "aborted"),
        ("(drop (i32.load (i32.const -4)))", "out of bounds"),
        ("(drop (i32.div_u (i32.const 1) (local.get $i)))", "integer divide by zero"),
        ("(drop (call $deep (i64.const 0)))", "call stack"),
        ("(call $log (i32.const 1) (i32.const 0) (i32.const -1))", "out of bounds"),
        (
            "(call $emit (i32.const 77) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                      (i32.const 0))",
            "handle",
        ),
    ];
    for (body, expected) in cases {
        match run(&guest(1, body), input(1)).result {
            Err(GuestFailure::Trap { message, panic: None, backtrace }) => {
                assert!(message.contains(expected), "{body}: {message}");
                let innermost = if body.contains("$deep") { "deep (32 times)" } else { "handle" };
                assert_eq!(backtrace, [innermost], "{body}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn a_fault_of_the_disk_is_no_fault_of_the_plugin() {
    let body = "(call $get (local.get $step) (i32.const 1024) (i32.const 3) (i32.const 512))";
    let fault = Fault::disk("reading the state", "it is gone");
    let state = Arc::new(State { fault: Some(fault.clone()), ..State::default() });
    let outcome = run(&guest(1, body), StepInput { state, ..input(1) });
    assert_eq!(outcome.result.unwrap_err(), GuestFailure::Fault(fault));
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let body = "(loop $more
        (call $log (i32.const 2) (i32.const 1024) (i32.const 3))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (i32.const 5000))))
      (call $log (i32.const 4) (i32.const 4096) (i32.const 20000))
      (unreachable)";
    let outcome = run(&guest(1, body), input(1));
    assert!(outcome.result.is_err());
    assert_eq!((outcome.log.len(), outcome.log_lines_dropped), (1_000, 4_001));
    assert_eq!(outcome.log[0].message, "out");
}

#[test]
fn guests_without_number_take_turns() {
    let quick = plugin(&guest(1, ""));
    block_on(async {
        // More at once than the pool has places for: all come to their end.
        let mut steps = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let quick = quick.clone();
            steps.spawn(async move { runtime().run(&quick, input(1)).await.result.unwrap() });
        }
        assert_eq!(steps.join_all().await.len(), 300);
    });
}

#[test]
fn a_step_that_is_dropped_half_way_gives_its_place_back() {
    let endless = plugin(&guest(1, "(loop $again (br $again))"));
    block_on(async {
        for _ in 0..200 {
            let step = runtime().run(&endless, input(1));
            let cut = tokio::time::timeout(Duration::from_millis(1), step).await;
            assert!(cut.is_err());
        }
    });
    run(&guest(1, ""), input(1)).result.unwrap();
}
