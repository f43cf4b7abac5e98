use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{DeploymentId, TaskId};
use tidemill_core::plugin::{Event, GuestLimits, StateView};
use tidemill_core::seams::Timestamp;
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicName, TopicPartition};
use wasmtime_wasi::cli::WasiCliView;
use wasmtime_wasi::filesystem::WasiFilesystemView;
use wasmtime_wasi::p2::bindings::cli::environment;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::sockets::network::IpAddressFamily;
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::sockets::WasiSocketsView;

use super::*;

struct NoState;

impl StateView for NoState {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        Ok(Vec::new())
    }
}

fn input() -> StepInput {
    let at = TopicPartition { topic: TopicId([1; 16]), partition: Partition(3) };
    let event = Event {
        input: 0,
        position: Position { at, offset: Offset(9) },
        timestamp_ms: 1,
        append_time: Timestamp(2),
        key: None,
        value: None,
        headers: Vec::new(),
    };
    StepInput {
        task: TaskId { deployment: DeploymentId(7), partition: Partition(3) },
        partition: 3,
        attempt: 0,
        events: [event].into(),
        timers: [].into(),
        time: Timestamp(1_767_225_600_123),
        event_time_watermark_ms: None,
        inputs: [TopicName::new("in").unwrap()].into(),
        outputs: [].into(),
        config: Arc::new(BTreeMap::new()),
        files: [].into(),
        limits: GuestLimits::default(),
        state: Arc::new(NoState),
    }
}

fn step() -> Step {
    Step::new(input(), true).unwrap()
}

fn drawn(input: StepInput) -> Vec<u8> {
    random::Host::get_random_bytes(&mut Step::new(input, true).unwrap(), 32).unwrap()
}

#[tokio::test]
async fn nothing_is_granted() {
    let mut step = step();
    assert!(preopens::Host::get_directories(&mut step.filesystem()).unwrap().is_empty());
    assert!(environment::Host::get_environment(&mut step.cli()).unwrap().is_empty());
    assert!(environment::Host::get_arguments(&mut step.cli()).unwrap().is_empty());
    assert_eq!(environment::Host::initial_cwd(&mut step.cli()).unwrap(), None);
    for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
        assert!(tcp_create_socket::Host::create_tcp_socket(&mut step.sockets(), family).is_err());
        assert!(udp_create_socket::Host::create_udp_socket(&mut step.sockets(), family).await.is_err());
    }
}

#[test]
fn the_clocks_are_the_steps_own_and_to_wait_is_to_move_them() {
    let mut step = step();
    let now = wall_clock::Host::now(&mut step).unwrap();
    assert_eq!((now.seconds, now.nanoseconds), (1_767_225_600, 123_000_000));
    let before = monotonic_clock::Host::now(&mut step).unwrap();
    monotonic_clock::Host::subscribe_duration(&mut step, 3_600_000_000_000).unwrap();
    let after = monotonic_clock::Host::now(&mut step).unwrap();
    assert_eq!(after - before, 3_600_000_000_000 + LOOK_NS);
    monotonic_clock::Host::subscribe_instant(&mut step, before).unwrap();
    assert!(monotonic_clock::Host::now(&mut step).unwrap() > after, "it never goes back");
    monotonic_clock::Host::subscribe_duration(&mut step, u64::MAX).unwrap();
    assert_eq!(monotonic_clock::Host::now(&mut step).unwrap(), u64::MAX);
}

#[test]
fn a_step_draws_what_it_drew_and_no_other_does() {
    let first = drawn(input());
    assert_eq!(drawn(input()), first);
    let mut event = input().events[0].clone();
    event.position.offset = Offset(10);
    let task = TaskId { deployment: DeploymentId(8), partition: Partition(3) };
    let others = [
        StepInput { attempt: 1, ..input() },
        StepInput { time: Timestamp(1), ..input() },
        StepInput { events: [event].into(), ..input() },
        StepInput { task, ..input() },
    ];
    for other in others {
        assert_ne!(drawn(other), first);
    }
    let mut step = step();
    let seed = insecure_seed::Host::insecure_seed(&mut step).unwrap();
    assert_ne!(seed.0, seed.1);
    let most = tidemill_core::limits::GUEST_RANDOM_BYTES_MAX as u64;
    assert!(random::Host::get_random_bytes(&mut step, most).is_ok());
    assert!(random::Host::get_random_bytes(&mut step, most + 1).is_err());
    assert!(random::Host::get_random_bytes(&mut step, u64::MAX).is_err());
}

#[test]
fn what_is_printed_stands_in_the_log_where_it_was_printed() {
    use wasmtime_wasi::cli::StdoutStream;
    let mut step = step();
    let mut stdout = step.wasi().output.stream(LogLevel::Info).p2_stream();
    stdout.write(Bytes::from_static(b"before\n")).unwrap();
    step.log(LogLevel::Error, "between".to_owned());
    stdout.write(Bytes::from_static(b"after")).unwrap();
    step.log_output();
    let lines: Vec<_> = step.log.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(lines, ["before", "between", "after"]);
}
