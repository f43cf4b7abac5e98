//! Every limit that a guest can meet, met: what is said then names the limit, its value, what was asked for, and the key
//! of the manifest that raises it.
#![allow(clippy::disallowed_methods, reason = "tests are a shell: they have a clock of their own")]

mod workbench;

use tidemill_core::limits;
use tidemill_core::plugin::GuestLimits;
use tidemill_runtime::StepInput;
use workbench::{guest, input, run};

const EMIT: &str = "(call $emit (local.get $step) (i32.const 0) (i32.const 1024) (i32.const 3)
                                (i32.const 2048) (i32.const 1) (i32.const 512))";
/// Logs what the call before answered, which was a refusal with a text.
const TELL: &str = "(call $log (i32.const 2) (i32.load (i32.const 520)) (i32.load (i32.const 524)))";

/// The record at 2,048: a value of so many bytes, and so many headers, all of them empty.
fn record(value_bytes: usize, headers: usize) -> String {
    format!(
        "(i32.store8 (i32.const 2060) (i32.const 1))
         (i32.store (i32.const 2064) (i32.const 65536))
         (i32.store (i32.const 2068) (i32.const {value_bytes}))
         (i32.store (i32.const 2072) (i32.const 65536))
         (i32.store (i32.const 2076) (i32.const {headers}))"
    )
}

fn put(key_bytes: usize, value_bytes: usize) -> String {
    format!(
        "(call $put (local.get $step) (i32.const 65536) (i32.const {key_bytes})
                    (i32.const 65536) (i32.const {value_bytes}) (i32.const 512))"
    )
}

/// What a guest does, and what is said of it.
struct Case {
    body: String,
    said: [String; 3],
}

fn case(body: impl Into<String>, limit: &str, value: usize, asked: &str, raises: &str) -> Case {
    let said = [format!("the limit {limit} is {value}, and "), asked.to_owned(), raises.to_owned()];
    Case { body: body.into(), said }
}

fn cases(of: &GuestLimits) -> Vec<Case> {
    let value = |limit: u64| limit as usize;
    let more = "more than that was asked for";
    let in_manifest = |key: &str| format!("; limits.{key} in the manifest raises it");
    let nothing = "; nothing raises it";
    let asked = |count: usize| format!("{count} was asked for");
    vec![
        case(
            "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
            "memory-bytes",
            value(of.memory_bytes),
            " was asked for",
            &in_manifest("memory-bytes"),
        ),
        case("(loop $again (br $again))", "cpu-ms", value(of.cpu_ms), more, &in_manifest("cpu-ms")),
        case(
            format!("{} (loop $more {EMIT} (br $more))", record(1 << 19, 0)),
            "output-bytes",
            value(of.output_bytes),
            &asked(value(of.output_bytes) + (1 << 19)),
            &in_manifest("output-bytes"),
        ),
        case(
            // One call hands over more than the whole step may want: it is not even copied.
            format!(
                "{}
                 (loop $more
                   (memory.copy (i32.add (i32.const 2048) (i32.mul (local.get $i) (i32.const 48)))
                                (i32.const 2048) (i32.const 48))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   (br_if $more (i32.lt_u (local.get $i) (i32.const 100))))
                 (call $emit (local.get $step) (i32.const 0) (i32.const 1024) (i32.const 3)
                             (i32.const 2048) (i32.const 100) (i32.const 512))",
                record(1 << 20, 0)
            ),
            "output-bytes",
            value(of.output_bytes),
            more,
            &in_manifest("output-bytes"),
        ),
        case(
            format!("{} (loop $more {EMIT} (br $more))", record(0, 0)),
            "output-records",
            value(of.output_records),
            &asked(value(of.output_records) + 1),
            &in_manifest("output-records"),
        ),
        case(
            format!(
                "(loop $more
                   (i32.store (i32.const 65536) (local.get $i))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   {} (br $more))",
                put(4, 1 << 19)
            ),
            "state-bytes",
            value(of.state_bytes),
            " was asked for",
            &in_manifest("state-bytes"),
        ),
        case("(drop (call $deep (i64.const 0)))", "stack-bytes", limits::GUEST_STACK_BYTES, more, nothing),
        case(put(2_000, 1) + TELL, "state-key-bytes", limits::STATE_KEY_BYTES_MAX, &asked(2_000), nothing),
        case(
            put(1, limits::STATE_VALUE_BYTES_MAX + 1) + TELL,
            "state-value-bytes",
            limits::STATE_VALUE_BYTES_MAX,
            &asked(limits::STATE_VALUE_BYTES_MAX + 1),
            nothing,
        ),
        case(
            record(0, limits::RECORD_HEADERS_MAX + 1) + EMIT + TELL,
            "record-headers",
            limits::RECORD_HEADERS_MAX,
            &asked(limits::RECORD_HEADERS_MAX + 1),
            nothing,
        ),
    ]
}

#[test]
fn what_is_said_of_a_limit_says_all_that_an_author_needs() {
    let of = GuestLimits {
        memory_bytes: 8 << 20,
        cpu_ms: 100,
        output_bytes: 4 << 20,
        output_records: 1_000,
        state_bytes: 4 << 20,
        ..GuestLimits::default()
    };
    for Case { body, said } in cases(&of) {
        let outcome = run(&guest(48, &body), StepInput { limits: of.clone(), ..input(1) });
        let text = match outcome.result {
            Err(failure) => failure.to_string(),
            Ok(_) => outcome.log[0].message.clone(),
        };
        for part in said {
            assert!(text.contains(&part), "{part:?} in {text:?}");
        }
    }
}

#[test]
fn a_higher_limit_in_the_manifest_lets_through_what_a_lower_one_ended() {
    let body = format!("{} {EMIT}", record(3 << 19, 0));
    let with = |output_bytes| {
        let limits = GuestLimits { output_bytes, ..GuestLimits::default() };
        run(&guest(48, &body), StepInput { limits, ..input(1) }).result
    };
    assert!(with(1 << 20).is_err());
    assert!(with(2 << 20).is_ok());
}
