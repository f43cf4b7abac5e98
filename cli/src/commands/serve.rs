//! `serve`: a broker process.

mod log;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Args;
use tidemill_core::catalog::DEFAULT_TENANT;
use tidemill_core::seams::Clock;
use tidemill_host::broker::Tools;
use tidemill_host::config::{Config, Layers};
use tidemill_host::server::{self, ServeError, Started};
use tidemill_host::world::{self, RealDisk};
use tidemill_runtime::{ChildProcess, CodeOptions, CompileLimits, Runtime, RuntimeOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::contexts::{Context, Contexts};
use crate::exit::Failure;
use crate::output::{self, Format};

/// The context that `serve` adds when none is named.
const CONTEXT: &str = "local";

/// Run a broker; on an empty folder, found a cluster of one.
///
/// It makes a certificate authority, its own certificates and a client's identity, and keeps that in the context `local`, or
/// the one that --context names, which becomes the current one: by it the other commands find the broker.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidemill serve\n  tidemill serve --data /srv/tidemill --set listen.tcp=127.0.0.1:9092\n  \
TIDEMILL_LISTEN__QUIC=0.0.0.0:9642 TIDEMILL_ADVERTISE__QUIC=bus-1:9642 tidemill serve --config /etc/tidemill.toml"
)]
pub struct Serve {
    /// The folder that makes the broker (the setting `data`).
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    #[command(flatten)]
    sources: Sources,
}

/// Where settings come from.
#[derive(Debug, Args)]
pub struct Sources {
    /// A configuration file, in TOML.
    #[arg(long, env = "TIDEMILL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting, over file and environment; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Sources {
    /// What they say, one over the other.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when the file cannot be read or a flag is none.
    pub fn layers(&self) -> Result<Layers, Failure> {
        let mut layers = Layers::new();
        if let Some(path) = &self.config {
            let name = path.display().to_string();
            let text =
                fs::read_to_string(path).with_context(|| name.clone()).map_err(Failure::Configuration)?;
            layers.file(&name, &text);
        }
        layers.environment(std::env::vars_os());
        for setting in &self.settings {
            let pair = setting.split_once('=');
            let (key, value) =
                pair.ok_or_else(|| Failure::Configuration(anyhow!("--set {setting}: use KEY=VALUE")))?;
            layers.flag(key, value);
        }
        Ok(layers)
    }
}

impl Serve {
    /// Runs the broker until it is told to stop.
    ///
    /// # Errors
    /// [`Failure`] when it cannot start, or meets a fault.
    pub fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let mut layers = self.sources.layers()?;
        if let Some(data) = &self.data {
            layers.flag("data", &data.display().to_string());
        }
        let config = layers.resolve().map_err(|error| Failure::Configuration(error.into()))?;
        let wrong = |why| Failure::Configuration(anyhow!("log.filter: {why}"));
        let log = log::begin(&config.log).map_err(wrong)?;
        let threads = |name: &str, number: usize| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(number.max(1)).thread_name(name).enable_all().build().context("threads")
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let tasks = threads("broker", processors)?;
        let guests = threads("guest", config.plugins.threads)?;
        let disk = match config.storage.direct_writes {
            true => RealDisk::with_direct_writes(),
            false => RealDisk::default(),
        };
        let world = world::real(disk, tasks.handle().clone(), guests.handle().clone());
        let tools = tools(&config, &world).map_err(Failure::Fault)?;
        let context = context.unwrap_or(CONTEXT).to_owned();
        let data = config.data.clone();
        let now = world.clock.now();
        let started = move |started: Started| {
            if let Err(failure) = announce(&started, &context, &data, now, format) {
                failure.print(format);
            }
        };
        let stop = {
            let _runtime = tasks.enter();
            stop()
        };
        let served = tasks.block_on(server::serve(config, world, tools, log, started, stop));
        // All is durable, or nothing is to be touched any more: a guest that is still at work is not waited for.
        guests.shutdown_background();
        if served.is_ok() {
            tasks.shutdown_background();
        } else {
            // What was opened before it failed has threads that still wait on these tasks: the process ends under them.
            std::mem::forget(tasks);
        }
        match served {
            Ok(()) => Ok(()),
            Err(ServeError::Fault(fault)) => {
                // After a fault nobody knows what the disk holds: nothing is tidied up, nothing is waited for.
                tracing::error!(%fault, "the broker ends at once");
                Failure::Fault(fault.into()).print(format);
                std::process::exit(70);
            }
            Err(error @ ServeError::Listen { .. }) => Err(Failure::Configuration(error.into())),
            Err(error) => Err(Failure::Fault(error.into())),
        }
    }
}

fn tools(config: &Config, world: &tidemill_core::seams::World) -> anyhow::Result<Tools> {
    let code = CodeOptions::default();
    let runtime = Runtime::new(RuntimeOptions { instances: config.plugins.instances, code })?;
    tick(&runtime, world.clock.clone())?;
    let compiler = ChildProcess {
        program: std::env::current_exe().context("the path of this program")?,
        args: vec!["compile-component".into()],
        code,
        limits: CompileLimits::default(),
        clock: world.clock.clone(),
    };
    Ok(Tools { runtime, compiler: Arc::new(compiler) })
}

/// Lets the runtime's deadlines pass, on a thread that no guest can keep from doing so and that ends with the process.
///
/// # Errors
/// When the operating system gives no thread.
pub fn tick(runtime: &Runtime, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
    let ticking = runtime.tick(clock);
    let own = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("epochs".into()).spawn(move || own.block_on(ticking))?;
    Ok(())
}

/// Ready when the process is told to stop. Listens from now on, not only when it is first awaited: who was told that the
/// broker serves may stop it at once.
fn stop() -> impl Future<Output = ()> {
    let told = signal(SignalKind::terminate()).and_then(|told| Ok((told, signal(SignalKind::interrupt())?)));
    async move {
        let Ok((mut terminate, mut interrupt)) = told else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Makes an identity for the user's commands, keeps it in a context, and says where the broker listens.
fn announce(
    started: &Started,
    name: &str,
    data: &Path,
    now: tidemill_core::seams::Timestamp,
    format: Format,
) -> Result<(), Failure> {
    let folder = fs::canonicalize(data).context("the data folder")?.join("client");
    fs::create_dir_all(&folder).context("the client's folder")?;
    let file = |name: &str| folder.join(name);
    let authority = &started.tls.authority;
    let identity = authority.client(now, DEFAULT_TENANT, "admin").context("the client's identity")?;
    for (path, text) in [
        (file("ca.pem"), authority.certificate()),
        (file("client.pem"), &identity.certificate),
        (file("client-key.pem"), &identity.key),
    ] {
        write_private(&path, text).with_context(|| path.display().to_string())?;
    }
    let context = Context {
        broker: started.quic.to_string(),
        admin: started.admin.to_string(),
        ca: file("ca.pem"),
        certificate: file("client.pem"),
        key: file("client-key.pem"),
    };
    let mut contexts = Contexts::load()?;
    contexts.context.insert(name.to_owned(), context);
    contexts.current = Some(name.to_owned());
    contexts.save()?;

    let tcp = started.tcp.map(|address| address.to_string());
    match format {
        Format::Json => output::json(&serde_json::json!({
            "quic": started.quic.to_string(), "tcp": tcp, "admin": started.admin.to_string(),
            "metrics": started.metrics.to_string(), "context": name,
            "cluster": started.broker.identity.cluster,
        }))?,
        Format::Table => {
            eprintln!("serving: quic {}, admin {}, metrics {}", started.quic, started.admin, started.metrics);
            if let Some(tcp) = tcp {
                eprintln!("         plain tcp {tcp}");
            }
            eprintln!("         context {name}: try `tidemill topic list`");
        }
    }
    Ok(())
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}
