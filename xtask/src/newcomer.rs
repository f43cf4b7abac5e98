//! `cargo xtask newcomer`: how long it takes somebody to get from nothing to a derived record on a live stream.
//!
//! It does what the README of a new project says, in an empty folder, with a broker at which somebody produces all the
//! while; then it changes a line, and has `plugin dev` bring the change to the running stream. Both ways have a limit, and
//! beyond it the chore fails.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::Value;
use xtask::process::Broker;

use crate::build;

/// From `plugin new` to the first derived record, on two cores.
const FIRST_MAX: Duration = Duration::from_secs(300);
/// From a changed line to a record that the new version derived.
const SECOND_MAX: Duration = Duration::from_secs(15);
/// How often a visitor comes.
const EVERY: Duration = Duration::from_millis(50);

const NAME: &str = "greeter";
const IN: &str = "greeter-in";
const OUT: &str = "greeter-out";

/// Go from `plugin new` to a derived record on a live stream as a newcomer would, and print how long it took.
#[derive(Debug, Default, Args)]
pub struct Newcomer;

impl Newcomer {
    /// Runs it.
    ///
    /// # Errors
    /// When anything is not as the new project's README says, or takes too long.
    pub fn run(self) -> anyhow::Result<()> {
        self.run_with(&build::tidemill()?)
    }

    /// Runs it with a command that is built.
    ///
    /// # Errors
    /// When anything is not as the new project's README says, or takes too long.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("tidemill-newcomer-").tempdir()?;
        let broker = Broker::start(program, folder.path(), &[])?;
        broker.run(&["topic", "create", IN])?;
        broker.run(&["topic", "create", OUT])?;
        let stream = Stream::start(&broker)?;

        let start = Instant::now();
        let newcomer = Project { broker: &broker, folder: folder.path().join(NAME), start };
        newcomer
            .step("tidemill plugin new", newcomer.tidemill(folder.path()).args(["plugin", "new", NAME]))?;
        let mut cargo = Command::new("cargo");
        for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL"] {
            cargo.env_remove(name);
        }
        newcomer.step("cargo test", cargo.current_dir(&newcomer.folder).args(["test", "--quiet"]))?;
        for order in
            [&["plugin", "build"][..], &["plugin", "test"], &["plugin", "inspect"], &["plugin", "deploy"]]
        {
            let doing = format!("tidemill {}", order.join(" "));
            newcomer.step(&doing, newcomer.tidemill(&newcomer.folder).args(order))?;
        }
        let first = derived(&broker, "hello")?;
        let took = start.elapsed();
        println!("    a derived record: {first}");
        println!(
            "    from `plugin new` to a derived record: {:.1} s (at most {} s)",
            took.as_secs_f64(),
            FIRST_MAX.as_secs()
        );
        ensure!(took <= FIRST_MAX, "that is too long");

        let second = newcomer.change()?;
        println!(
            "    from a changed line to a record derived by it: {:.1} s (at most {} s)",
            second.as_secs_f64(),
            SECOND_MAX.as_secs()
        );
        ensure!(second <= SECOND_MAX, "that is too long");
        stream.stop()?;
        Ok(())
    }
}

/// The newcomer's project.
struct Project<'a> {
    broker: &'a Broker,
    folder: PathBuf,
    start: Instant,
}

impl Project<'_> {
    fn tidemill(&self, folder: &Path) -> Command {
        let mut command = self.broker.command();
        command.current_dir(folder);
        command
    }

    fn step(&self, doing: &str, command: &mut Command) -> anyhow::Result<()> {
        let output = command.stdin(Stdio::null()).output().with_context(|| doing.to_owned())?;
        println!("    [{:>5.1} s] {doing}", self.start.elapsed().as_secs_f64());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "`{doing}` ended with {}:\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(())
    }

    /// Changes a line while `plugin dev` looks on; how long it took until the stream showed it.
    fn change(&self) -> anyhow::Result<Duration> {
        let mut dev = self.tidemill(&self.folder);
        dev.args(["--output", "json", "plugin", "dev"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut dev = Ended(dev.spawn()?);
        let stdout = dev.0.stdout.take().context("its output")?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let round = || -> anyhow::Result<Value> {
            let line = told.recv_timeout(FIRST_MAX).context("`plugin dev` says nothing")?;
            Ok(serde_json::from_str(&line)?)
        };
        let unchanged = round()?;
        ensure!(unchanged["changed"] == false, "what is deployed was built anew and is another: {unchanged}");

        let source = self.folder.join("src/lib.rs");
        let text = std::fs::read_to_string(&source)?;
        let changed = text.replace("{greeting}, {name}", "{greeting} again, {name}");
        ensure!(changed != text, "the template has no such line any more");
        let start = Instant::now();
        std::fs::write(&source, changed)?;
        let deployed = round()?;
        ensure!(deployed["changed"] == true && deployed["generation"] == 2, "not a new version: {deployed}");
        let record = derived(self.broker, "hello again")?;
        let took = start.elapsed();
        println!(
            "    `plugin dev` built it in {} ms and deployed it after {} ms",
            deployed["build-ms"], deployed["took-ms"]
        );
        println!("    a derived record: {record}");
        ensure!(
            record["value"]["visits"].as_u64() > Some(1),
            "the state did not outlive the change: {record}"
        );
        Ok(took)
    }
}

/// A process that ends with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail only where it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a derived record whose text begins so.
fn derived(broker: &Broker, text: &str) -> anyhow::Result<Value> {
    let start = Instant::now();
    loop {
        let printed = broker.run(&["consume", OUT, "--from-beginning", "--exit-at-end"])?;
        for line in printed.lines() {
            let record: Value = serde_json::from_str(line)?;
            let said = record["value"]["text"].as_str().unwrap_or_default();
            if said.strip_prefix(text).is_some_and(|rest| rest.starts_with(',')) {
                return Ok(record);
            }
        }
        if start.elapsed() > FIRST_MAX {
            bail!("no record that begins with {text:?} was derived:\n{printed}");
        }
        std::thread::sleep(EVERY);
    }
}

/// Somebody who produces all the while.
struct Stream {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Stream {
    fn start(broker: &Broker) -> anyhow::Result<Stream> {
        let mut command = broker.command();
        command.args(["produce", IN, "--key", "name"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut producer = command.spawn()?;
        let mut stdin = producer.stdin.take().context("its input")?;
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for number in 0_u64.. {
                let visitor = ["ann", "bob", "eve"][(number % 3) as usize];
                stdin.write_all(format!("{{\"name\":\"{visitor}\"}}\n").as_bytes())?;
                if stopped.recv_timeout(EVERY) != Err(mpsc::RecvTimeoutError::Timeout) {
                    break;
                }
            }
            drop(stdin);
            let status = producer.wait()?;
            ensure!(status.success(), "producing ended with {status}");
            Ok(())
        });
        Ok(Stream { stop, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        // It ends as well when nobody is left to tell it.
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("the producer's thread failed"),
        }
    }
}
