//! Compiling in a child process: what it makes, and what stops it.
//!
//! The child of these tests is this very program with the argument `compile-child`, as a broker's is the broker. So
//! it has a `main` of its own, which runs the tests one after another; an argument selects those that contain it.
#![allow(clippy::disallowed_methods, reason = "tests are a shell")]

mod workbench;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidemill_runtime::{
    Artifact, ChildProcess, CodeOptions, CompileError, CompileLimits, Compiler, InProcess, Metering,
    compile_child_main,
};
use workbench::{RealClock, block_on, counting_runtime, guest, input, runtime};

const CHILD: &str = "compile-child";
const STUCK_CHILD: &str = "compile-child-that-is-stuck";
const TALKATIVE_CHILD: &str = "compile-child-that-never-ends-its-answer";

const TESTS: [(&str, fn()); 8] = [
    ("what_the_child_compiles_runs", what_the_child_compiles_runs),
    ("it_compiles_for_either_metering", it_compiles_for_either_metering),
    ("a_reason_comes_back_in_words", a_reason_comes_back_in_words),
    ("a_compile_bomb_ends_when_its_processor_time_does", a_compile_bomb_ends_when_its_processor_time_does),
    ("a_compile_bomb_ends_when_its_memory_does", a_compile_bomb_ends_when_its_memory_does),
    ("a_stuck_child_is_killed", a_stuck_child_is_killed),
    ("an_answer_without_end_is_not_read_to_it", an_answer_without_end_is_not_read_to_it),
    (
        "a_child_that_breaks_down_or_does_not_start_is_told",
        a_child_that_breaks_down_or_does_not_start_is_told,
    ),
];

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        CHILD => return compile_child_main(),
        STUCK_CHILD => loop {
            std::thread::park();
        },
        TALKATIVE_CHILD => loop {
            if std::io::Write::write_all(&mut std::io::stdout(), &[0; 65_536]).is_err() {
                return ExitCode::FAILURE;
            }
        },
        _ => {}
    }
    let chosen = |name: &str| argument.starts_with('-') || name.contains(&argument);
    for (name, test) in TESTS.into_iter().filter(|(name, _)| chosen(name)) {
        print!("test {name} ... ");
        test();
        println!("ok");
    }
    ExitCode::SUCCESS
}

fn child(argument: &str, limits: CompileLimits) -> ChildProcess {
    ChildProcess {
        program: std::env::current_exe().unwrap(),
        args: vec![argument.into()],
        code: CodeOptions::default(),
        limits,
        clock: RealClock::shared(),
    }
}

fn compile(by: &dyn Compiler, component: Vec<u8>) -> Result<Artifact, CompileError> {
    block_on(by.compile(Bytes::from(component)))
}

fn what_the_child_compiles_runs() {
    let component = guest(1, "");
    let artifact = compile(&child(CHILD, CompileLimits::default()), component.clone()).unwrap();
    let plugin = runtime().load(&artifact).unwrap();
    block_on(runtime().run(&plugin, input(1))).result.unwrap();
    assert_eq!(artifact.size(), compile(&InProcess::default(), component).unwrap().size());
}

fn it_compiles_for_either_metering() {
    let code = CodeOptions { metering: Metering::Fuel, ..CodeOptions::default() };
    let child = ChildProcess { code, ..child(CHILD, CompileLimits::default()) };
    let plugin = counting_runtime().load(&compile(&child, guest(1, "")).unwrap()).unwrap();
    block_on(counting_runtime().run(&plugin, input(1))).result.unwrap();
}

fn a_reason_comes_back_in_words() {
    let error =
        compile(&child(CHILD, CompileLimits::default()), wat::parse_str("(module)").unwrap()).unwrap_err();
    assert!(matches!(&error, CompileError::Invalid(why) if why.contains("core module")), "{error:?}");
}

/// A component that is small to send and dear to compile: many functions, each with many live values.
fn bomb(functions: usize, adds: usize) -> Vec<u8> {
    let mut text = String::from("(component (core module\n");
    for _ in 0..functions {
        text.push_str("(func (param i64 i64) (result i64) (local.get 0)\n");
        for i in 0..adds {
            text.push_str(if i % 3 == 0 {
                "(local.get 1) (i64.mul)"
            } else {
                "(local.tee 1) (local.get 0) (i64.add)"
            });
            text.push_str(
                "(if (param i64) (result i64) (i64.eqz (local.get 0)) (then) (else (local.tee 0)))\n",
            );
        }
        text.push_str(")\n");
    }
    text.push_str("))");
    wat::parse_str(text).unwrap()
}

fn a_compile_bomb_ends_when_its_processor_time_does() {
    let limits = CompileLimits { cpu: Duration::from_secs(1), ..CompileLimits::default() };
    let start = Instant::now();
    let error = compile(&child(CHILD, limits), bomb(400, 1_000)).unwrap_err();
    assert_eq!(error, CompileError::Time(limits.cpu));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

fn a_compile_bomb_ends_when_its_memory_does() {
    let limits = CompileLimits { memory_bytes: 192 << 20, ..CompileLimits::default() };
    let error = compile(&child(CHILD, limits), bomb(2, 10_000)).unwrap_err();
    assert_eq!(error, CompileError::Memory(limits.memory_bytes));
}

fn a_stuck_child_is_killed() {
    let limits = CompileLimits { wall: Duration::from_millis(300), ..CompileLimits::default() };
    let start = Instant::now();
    // More than a pipe holds: the child never reads it.
    let error = compile(&child(STUCK_CHILD, limits), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error, CompileError::Time(limits.wall));
    assert!(start.elapsed() < Duration::from_secs(10));
}

fn an_answer_without_end_is_not_read_to_it() {
    let error = compile(&child(TALKATIVE_CHILD, CompileLimits::default()), guest(1, "")).unwrap_err();
    assert!(matches!(error, CompileError::TooLarge { what: "its machine code", .. }), "{error:?}");
}

fn a_child_that_breaks_down_or_does_not_start_is_told() {
    let missing =
        ChildProcess { program: "/does/not/exist".into(), ..child(CHILD, CompileLimits::default()) };
    assert!(
        matches!(compile(&missing, guest(1, "")), Err(CompileError::Crashed(why)) if why.contains("does not start"))
    );
    // A child that knows nothing of its task.
    let other = ChildProcess { program: "/bin/false".into(), ..child(CHILD, CompileLimits::default()) };
    assert!(
        matches!(compile(&other, guest(1, "")), Err(CompileError::Crashed(why)) if why.contains("exit status: 1"))
    );
}
