//! The mailer of examples/: what it sends of the order chain's notifications, killed in between.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use xtask::chain::{self, ORDERS};
use xtask::places;
use xtask::process::Broker;

use super::tools::Tool;

/// Orders that the chain is given: each derives a notification or more.
const HOW_MANY: &str = "100";
/// What the mail server takes for a mail, so that the kill comes in the middle of a batch.
const MAIL_MS: &str = "10";
/// Mails after which the mailer is killed: it commits after every 50.
const KILLED_AFTER: usize = 60;
const BATCH: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "customer-notifications";

/// Runs it, and compares what the mail server saw with the notifications that there are.
///
/// # Errors
/// When one is missing, or was sent twice.
pub fn run(broker: &Broker, tcp: &str, folder: &Path) -> anyhow::Result<String> {
    chain::apply(broker)?;
    let file = chain::sample();
    let file = file.to_str().context("a path")?;
    let fields = ["--key", "customerId", "--timestamp", "timestamp", "--limit", HOW_MANY];
    broker.run(&[&["produce", ORDERS, "--file", file][..], &fields].concat())?;
    broker.settle(PATIENCE)?;

    let seen = folder.join("mail.jsonl");
    let mut server =
        Running(script("mock_mail_server.py").args(["0", MAIL_MS]).stdout(File::create(&seen)?).spawn()?);
    let address =
        wait(|| Ok(lines(&seen)?.first().and_then(|line| line["listens"].as_str().map(str::to_owned))))?;
    let mails = || -> anyhow::Result<Vec<Value>> { Ok(lines(&seen)?.into_iter().skip(1).collect()) };
    let mailer = || {
        let mut mailer = script("send_mail.py");
        mailer.args([tcp, &address, "--exit-at-end"]).stderr(Stdio::inherit());
        mailer
    };
    let mut killed = Running(mailer().spawn()?);
    wait(|| {
        ensure!(killed.0.try_wait()?.is_none(), "the mailer ended by itself");
        Ok((mails()?.len() >= KILLED_AFTER).then_some(()))
    })?;
    killed.0.kill()?;
    killed.0.wait()?;
    let status = mailer().status()?;
    ensure!(status.success(), "the mailer ended with {status}");
    server.0.kill()?;
    server.0.wait()?;
    compare(broker, &mails()?)
}

fn compare(broker: &Broker, mails: &[Value]) -> anyhow::Result<String> {
    let printed = broker.run(&["consume", TOPIC, "--from-beginning", "--exit-at-end"])?;
    let mut expected = BTreeMap::new();
    for line in printed.lines() {
        let record: Value = serde_json::from_str(line)?;
        let place = format!("{}/{}", record["partition"], record["offset"]);
        expected.insert(place, record["value"]["subject"].clone());
    }
    let (again, first): (Vec<_>, Vec<_>) = mails.iter().partition(|mail| mail["duplicate"] == true);
    let mut sent = BTreeMap::new();
    for mail in first {
        // The position without the topic's id.
        let (_, place) = mail["key"].as_str().and_then(|key| key.split_once('/')).context("a key")?;
        sent.insert(place.to_owned(), mail["subject"].clone());
    }
    ensure!(!expected.is_empty() && sent == expected, "{} of {} are sent", sent.len(), expected.len());
    ensure!((1..=BATCH).contains(&again.len()), "{} came again after the kill", again.len());
    Ok(format!("{} notifications sent, {} came twice and were known again", sent.len(), again.len()))
}

fn script(name: &str) -> Command {
    let mut python = Tool::python();
    python.arg(places::repository().join("examples/mailer").join(name)).stdin(Stdio::null());
    python
}

fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let whole = BufReader::new(File::open(path)?).split(b'\n');
    // The last line may not be written to its end yet.
    let read = whole.map(|line| Ok(serde_json::from_slice(&line?).ok()));
    read.filter_map(Result::transpose).collect()
}

fn wait<T>(mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(start.elapsed() < PATIENCE, "the mailer does not get on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
