//! A broker as a process of its own, and the `tidemill` command against it: as a user has them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::ports;

/// How long a broker may take to serve, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker on a data folder of its own. It ends with this value.
pub struct Broker {
    program: PathBuf,
    folder: PathBuf,
    settings: Vec<String>,
    child: Option<Child>,
    addresses: Value,
    starts: u32,
}

impl Broker {
    /// Starts a broker in a folder, on free ports of 127.0.0.1; it keeps them over restarts.
    ///
    /// # Errors
    /// When it does not come to serve.
    pub fn start(program: &Path, folder: &Path, settings: &[&str]) -> anyhow::Result<Broker> {
        let listen = |what| format!("listen.{what}=127.0.0.1:{}", ports::lasting());
        let mut all: Vec<String> = ["quic", "admin", "metrics"].map(listen).into();
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let mut broker = Broker {
            program: program.to_owned(),
            folder: folder.to_owned(),
            settings: all,
            child: None,
            addresses: Value::Null,
            starts: 0,
        };
        broker.restart()?;
        Ok(broker)
    }

    /// Starts it again after it ended.
    ///
    /// # Errors
    /// When it does not come to serve; what it logged is in the message.
    pub fn restart(&mut self) -> anyhow::Result<Duration> {
        self.starts += 1;
        let start = Instant::now();
        let log = self.folder.join(format!("broker-{}.log", self.starts));
        let mut command = self.command();
        command.args(["--output", "json", "serve", "--data"]).arg(self.folder.join("data"));
        self.settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn().with_context(|| self.program.display().to_string())?;
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        if read == 0 {
            let status = child.wait()?;
            bail!("the broker ended with {status}:\n{}", fs::read_to_string(&log).unwrap_or_default());
        }
        self.addresses = serde_json::from_str(&line).with_context(|| line.clone())?;
        self.child = Some(child);
        Ok(start.elapsed())
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the broker does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Ends it with SIGTERM, and waits.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.take().context("the broker does not run")?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("its id")?;
        kill_process(id, Signal::TERM)?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("the broker did not stop within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets it run on by itself.
    pub fn keep(mut self) -> PathBuf {
        self.child.take();
        self.folder.clone()
    }

    /// The process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The folder that it lives in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it listens, as it said.
    pub fn address(&self, what: &str) -> Option<&str> {
        self.addresses[what].as_str()
    }

    /// The `tidemill` command, for this broker.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("TIDEMILL_HOME", self.folder.join("home"));
        command.env_remove("TIDEMILL_CONFIG").env_remove("TIDEMILL_CONTEXT");
        command
    }

    /// Runs the command to its end.
    ///
    /// # Errors
    /// When it fails; what it wrote is in the message.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command().args(arguments).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "tidemill {} ended with {}:\n{}{}",
            arguments.join(" "),
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Runs the command and reads what it prints as JSON.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut all = vec!["--output", "json"];
        all.extend(arguments);
        let text = self.run(&all)?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    /// Records that plugins have not consumed, over all of them.
    ///
    /// # Errors
    /// When the broker does not say.
    pub fn lag(&self) -> anyhow::Result<u64> {
        self.sum("lag-records")
    }

    fn sum(&self, field: &str) -> anyhow::Result<u64> {
        let plugins = self.json(&["plugin", "list"])?;
        let each = plugins.as_array().context("plugins")?.iter().map(|plugin| plugin[field].as_u64());
        Ok(each.map(Option::unwrap_or_default).sum())
    }

    /// Waits until no plugin lags.
    ///
    /// # Errors
    /// When some still do after so long.
    pub fn settle(&self, patience: Duration) -> anyhow::Result<()> {
        self.wait(patience, |broker| broker.lag())
    }

    /// Waits until no plugin lags, and none has set a timer.
    ///
    /// # Errors
    /// When some still do after so long.
    pub fn rest(&self, patience: Duration) -> anyhow::Result<()> {
        self.wait(patience, |broker| Ok(broker.lag()? + broker.sum("timers")?))
    }

    fn wait(&self, patience: Duration, left: impl Fn(&Broker) -> anyhow::Result<u64>) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut quiet = 0;
        // What is on its way between shards lags nowhere for a moment, so one look is not enough.
        while quiet < 5 {
            let left = left(self)?;
            quiet = if left == 0 { quiet + 1 } else { 0 };
            ensure!(
                start.elapsed() < patience,
                "plugins still have {left} records or timers after {patience:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn metrics(&self) -> anyhow::Result<String> {
        self.probe("/metrics")
    }

    /// What a path of the listener for probes says, head and body.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn probe(&self, path: &str) -> anyhow::Result<String> {
        let address = self.address("metrics").context("an address for metrics")?;
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes())?;
        let mut text = String::new();
        connection.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The sum of a counter over the series whose labels hold `label`.
pub fn counter(metrics: &str, name: &str, label: &str) -> f64 {
    let is_series = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let series = metrics.lines().filter(is_series).filter(|line| line.contains(label));
    // The sum of none would be -0.
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).fold(0.0, |sum, value| sum + value)
}
