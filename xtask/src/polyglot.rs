//! `cargo xtask polyglot`: one plugin in three languages, under SIGKILL and the checker.
//!
//! It makes components of `examples/polyglot` with componentize-js and componentize-py, of the versions that are pinned
//! there, and runs them beside the plugin in Rust on one topic. The broker is killed while they work. Then the checker
//! runs every step again, and the three have to have derived the same records, in the same order. The dice beside them
//! read clocks and throw: the checker would notice if a step that is run again drew otherwise.
//!
//! Before that, what `plugin new` makes in the two other languages is built and tried, as its author would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};
use xtask::places;
use xtask::process::Broker;

use crate::witness::tools::{installed, look, run};
use crate::{build, plugins};

const STREAM: &str = "inventory-updates";
const STOREFRONTS: [(&str, &str); 3] = [
    ("storefront", "product-availability"),
    ("storefront-js", "product-availability-js"),
    ("storefront-python", "product-availability-python"),
];
const DICE: [&str; 2] = ["dice-js", "dice-python"];
/// What is made, of each language.
const SOURCES: [&str; 2] = ["storefront", "dice"];
const PRODUCTS: u64 = 97;
/// How long the plugins may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(300);

/// Run one plugin in Rust, JavaScript and Python side by side, kill the broker, and compare what they derived.
#[derive(Debug, Args)]
pub struct Polyglot {
    /// Records to produce.
    #[arg(long, default_value_t = 2_000)]
    records: u64,
    /// Kills of the broker.
    #[arg(long, default_value_t = 3)]
    kills: u64,
}

impl Default for Polyglot {
    fn default() -> Polyglot {
        Polyglot { records: 2_000, kills: 3 }
    }
}

impl Polyglot {
    /// Runs it.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run(self) -> anyhow::Result<()> {
        plugins::build()?;
        self.run_with(&build::tidemill()?)
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        javascript()?;
        python()?;
        let folder = tempfile::Builder::new().prefix("tidemill-polyglot-").tempdir()?;
        new_project(program, folder.path(), "js", "node_modules", &home("js").join("node_modules"))?;
        new_project(program, folder.path(), "python", ".venv", &home("python"))?;
        let mut broker = Broker::start(program, folder.path(), &[])?;
        let start = Instant::now();
        let (example, components) = (example(), places::components());
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a path");
        broker.run(&["apply", &path(&example)?, "--components", &path(&components)?])?;
        println!("    deployed, and so compiled, in {:.1} s", start.elapsed().as_secs_f64());

        let burst = self.records / (self.kills + 1);
        for kill in 0..=self.kills {
            let from = kill * burst;
            let to = if kill == self.kills { self.records } else { from + burst };
            produce(&broker, from, to)?;
            if kill < self.kills {
                broker.kill()?;
                broker.restart()?;
            }
        }
        broker.rest(PATIENCE)?;
        let history = folder.path().join("history");
        let verified = broker.json(&["plugin", "verify", "--export", &path(&history)?])?;
        ensure!(verified["holds"] == true, "the check found violations: {verified}");
        println!("    the check holds: {} steps run again, and the same", verified["replayed"]);
        self.compare(&history)?;
        costs(&broker)?;
        let status = broker.stop()?;
        ensure!(status.success(), "on SIGTERM the broker ended with {status}");
        Ok(())
    }

    /// Whether all derived the same, and each die something of its own.
    fn compare(&self, history: &Path) -> anyhow::Result<()> {
        let told = STOREFRONTS.map(|(_, topic)| read(history, topic));
        let [rust, others @ ..] = told;
        let rust = rust?;
        let count: usize = rust.values().map(Vec::len).sum();
        ensure!(count as u64 > PRODUCTS, "only {count} records were derived");
        for (other, (name, _)) in others.into_iter().zip(&STOREFRONTS[1..]) {
            ensure!(other? == rust, "{name} did not derive what storefront derived");
        }
        println!("    {count} records derived, the same in Rust, JavaScript and Python");
        for die in DICE {
            let thrown: Vec<Value> = read(history, die)?.into_values().flatten().collect();
            ensure!(thrown.len() as u64 == self.records, "{die} derived {} records", thrown.len());
            let values = thrown.iter().map(|record| -> anyhow::Result<Value> {
                Ok(serde_json::from_str(record[1].as_str().context("a value")?)?)
            });
            let values = values.collect::<anyhow::Result<Vec<Value>>>()?;
            ensure!(values.iter().all(|value| value["now"].as_u64() > Some(1_600_000_000_000)));
            ensure!(values.iter().all(|value| value.get("nap").is_none_or(|nap| *nap == 60)));
            let random: BTreeSet<String> = values.iter().map(|value| value["random"].to_string()).collect();
            ensure!(random.len() > 4, "{die} threw only {random:?}");
        }
        Ok(())
    }
}

fn example() -> PathBuf {
    places::repository().join("examples/polyglot")
}

/// Where a language's toolchain is installed.
fn home(language: &str) -> PathBuf {
    let home = places::target().join("polyglot").join(language);
    std::path::absolute(&home).unwrap_or(home)
}

fn component(source: &str, language: &str) -> PathBuf {
    let path = places::components().join(format!("{source}-{language}.wasm"));
    std::path::absolute(&path).unwrap_or(path)
}

fn javascript() -> anyhow::Result<()> {
    look(&["node", "npm"])?;
    let (sources, home) = (example().join("js"), home("js"));
    let pins = sources.join("package-lock.json");
    installed(&home, &pins, || {
        fs::copy(sources.join("package.json"), home.join("package.json"))?;
        fs::copy(&pins, home.join("package-lock.json"))?;
        // Not `ci`: it refuses a lock that names optional packages of other machines which a registry has not.
        let npm = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"];
        run(Command::new("npm").args(npm).current_dir(&home))
    })?;
    // Modules are looked for beside the script.
    fs::copy(sources.join("build.mjs"), home.join("build.mjs"))?;
    for source in SOURCES {
        let start = Instant::now();
        let mut node = Command::new("node");
        node.arg("build.mjs").arg(sources.join(source).with_extension("js"));
        run(node.arg(places::repository().join("wit")).arg(component(source, "js")).current_dir(&home))?;
        made(&component(source, "js"), start)?;
    }
    Ok(())
}

fn python() -> anyhow::Result<()> {
    look(&["python3"])?;
    let (sources, home) = (example().join("python"), home("python"));
    let pins = sources.join("requirements.txt");
    installed(&home, &pins, || {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(home.join("bin/python")).args(pip).arg("--requirement").arg(&pins))
    })?;
    for source in SOURCES {
        let start = Instant::now();
        // Alone in a folder, since all that lies beside it would be taken along.
        let alone = home.join("sources").join(source);
        fs::create_dir_all(&alone)?;
        let file = format!("{source}.py");
        fs::copy(sources.join(&file), alone.join(&file))?;
        let mut componentize = Command::new(home.join("bin/componentize-py"));
        componentize
            .args(["--quiet", "--world", "plugin", "--wit-path"])
            .arg(places::repository().join("wit"));
        componentize.arg("componentize").arg(source).arg("--python-path").arg(&alone);
        run(componentize.arg("--output").arg(component(source, "python")))?;
        made(&component(source, "python"), start)?;
    }
    Ok(())
}

/// Makes a project, builds it, and has the component derive what its tests say. What building would install is here already.
fn new_project(
    program: &Path,
    folder: &Path,
    language: &str,
    needs: &str,
    installed: &Path,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let project = folder.join(language);
    let tidemill = |arguments: &[&str]| {
        let mut command = Command::new(program);
        run(command
            .env("TIDEMILL_HOME", folder)
            .arg("plugin")
            .args(arguments)
            .arg(&project)
            .stdout(Stdio::null()))
    };
    tidemill(&["new", "greeter", "--lang", language, "--folder"])?;
    std::os::unix::fs::symlink(installed, project.join(needs))?;
    tidemill(&["build"])?;
    tidemill(&["test"])?;
    println!(
        "    a new project in {language}: made, built and tried in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn made(component: &Path, start: Instant) -> anyhow::Result<()> {
    let name = component.file_stem().and_then(|name| name.to_str()).context("a name")?;
    let kib = fs::metadata(component)?.len().div_ceil(1024);
    println!("    {name}: {kib} KiB, made in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Sends updates `from..to`: a product's stock goes up and down and through nothing.
fn produce(broker: &Broker, from: u64, to: u64) -> anyhow::Result<()> {
    let mut command = broker.command();
    command.args(["produce", STREAM, "--key", "productId"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut producer = command.spawn()?;
    let mut input = producer.stdin.take().context("the producer reads what it is given")?;
    for number in from..to {
        let stock = (number * 31 % 17) as i64 - 5;
        let update = json!({ "productId": format!("product-{}", number % PRODUCTS), "previousStock": 0,
            "currentStock": stock, "threshold": 2, "lowStockAlert": stock < 2,
            "cause": { "kind": "sale", "orderId": number.to_string(), "line": 1 } });
        writeln!(input, "{update}")?;
    }
    drop(input);
    let status = producer.wait()?;
    ensure!(status.success(), "producing ended with {status}");
    Ok(())
}

/// Keys and values of a topic as the checker read them, by partition.
fn read(history: &Path, topic: &str) -> anyhow::Result<BTreeMap<u64, Vec<Value>>> {
    let path = history.join(topic).with_extension("jsonl");
    let file = fs::File::open(&path).with_context(|| path.display().to_string())?;
    let mut partitions: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let partition = line["partition"].as_u64().context("a partition")?;
        partitions.entry(partition).or_default().push(json!([line["key"], line["value"]]));
    }
    Ok(partitions)
}

/// Prints what a step costs in each language, since the last start of the broker.
fn costs(broker: &Broker) -> anyhow::Result<()> {
    for (plugin, _) in STOREFRONTS {
        let described = broker.json(&["plugin", "describe", plugin])?;
        let of = |key: &str| sum(&described, key) as f64;
        let steps = of("steps").max(1.0);
        println!(
            "    {plugin:<18} {steps:>4} steps of {:>5.1} events, {:>6.0} us of processor time each; {:.1} MiB at most",
            of("events") / steps,
            of("cpu-us") / steps,
            largest(&described, "memory-bytes-max") as f64 / f64::from(1 << 20),
        );
    }
    Ok(())
}

/// The numbers of this name in the work of all tasks, together.
fn sum(described: &Value, key: &str) -> u64 {
    works(described).iter().filter_map(|work| work[key].as_u64()).sum()
}

fn largest(described: &Value, key: &str) -> u64 {
    works(described).iter().filter_map(|work| work[key].as_u64()).max().unwrap_or_default()
}

/// What each task did.
fn works(described: &Value) -> Vec<&Value> {
    let tasks = described["tasks"].as_array();
    tasks.into_iter().flatten().map(|task| &task["work"]).collect()
}
