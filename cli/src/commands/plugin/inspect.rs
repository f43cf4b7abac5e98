//! `plugin inspect`: what a component is, before anybody runs it.
//!
//! The verdict is the broker's own: the component is compiled, and admitted by the runtime that would run it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use tidemill_core::limits;
use tidemill_core::manifest::Manifest;
use tidemill_host::components::digest;
use tidemill_plugin_build::component::{Surface, surface};
use tidemill_runtime::{CodeOptions, Runtime, RuntimeOptions, compile, is_offered};

use super::FromFiles;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Print what a component imports and exports, what a broker would grant it, its sizes and its digest.
///
/// Exit status 1 when a broker would not take it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidemill plugin inspect components/payment.wasm\n  tidemill plugin inspect plugins/payment \
--components target/components"
)]
pub struct Inspect {
    /// A component; or a manifest, or the folder that holds `plugin.toml`: then what it grants is printed, too.
    #[arg(default_value = ".")]
    what: PathBuf,
    /// Where components are looked for that do not lie beside their manifest.
    #[arg(long, value_name = "FOLDER")]
    components: Option<PathBuf>,
}

impl Inspect {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure::Refused`] when it is no component, or none that a broker takes.
    pub fn run(self, format: Format) -> Result<(), Failure> {
        let is_manifest = self.what.is_dir() || self.what.extension().is_some_and(|kind| kind == "toml");
        let (manifest, component, bundles) = if is_manifest {
            let plugin = FromFiles::read(&self.what, self.components.as_deref())?;
            (Some(plugin.manifest), plugin.component, plugin.bundles)
        } else {
            (None, read(&self.what)?.into(), Vec::new())
        };
        let Surface { imports, exports } =
            surface(&component).map_err(|why| anyhow!("{}: {why}", self.what.display()))?;
        let admitted = admit(&component);
        let digest = digest(&component).to_string();
        let found = Found { manifest, bundles, imports, exports, digest, admitted };
        match format {
            Format::Json => output::json(&found.document(component.len()))?,
            Format::Table => found.print(component.len()),
        }
        match found.admitted {
            Ok(_) => Ok(()),
            Err(why) => Err(anyhow!("a broker does not take it: {why}").into()),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = || path.display().to_string();
    let bytes = fs::metadata(path).with_context(shown)?.len();
    if bytes > limits::COMPONENT_BYTES_MAX as u64 {
        let most = limits::COMPONENT_BYTES_MAX;
        return Err(anyhow!("{}: {bytes} bytes, and a component has at most {most}", shown()).into());
    }
    Ok(fs::read(path).with_context(shown)?)
}

/// What the runtime says of it.
struct Admitted {
    contract: &'static str,
    machine_code_bytes: usize,
}

fn admit(component: &[u8]) -> Result<Admitted, String> {
    let code = CodeOptions::default();
    let artifact = compile(component, code).map_err(|error| error.to_string())?;
    let runtime = Runtime::new(RuntimeOptions { instances: limits::GUEST_MEMORIES_MAX, code });
    let plugin = runtime.map_err(|error| error.to_string())?.load(&artifact);
    let contract = plugin.map_err(|error| error.to_string())?.contract();
    Ok(Admitted { contract, machine_code_bytes: artifact.size() })
}

struct Found {
    manifest: Option<Manifest>,
    bundles: Vec<Bytes>,
    imports: Vec<String>,
    exports: Vec<String>,
    digest: String,
    admitted: Result<Admitted, String>,
}

impl Found {
    fn document(&self, bytes: usize) -> Value {
        let import = |name: &String| json!({ "name": name, "granted": is_offered(name) });
        let admitted = self.admitted.as_ref();
        json!({
            "digest": self.digest,
            "component-bytes": bytes,
            "machine-code-bytes": admitted.map(|admitted| admitted.machine_code_bytes).ok(),
            "contract": admitted.map(|admitted| admitted.contract).ok(),
            "imports": self.imports.iter().map(import).collect::<Vec<_>>(),
            "exports": self.exports,
            "admitted": admitted.is_ok(),
            "why-not": admitted.err(),
            "manifest": self.manifest,
            "bundles": self.files().iter().map(|(mount, archive, files)| json!({
                "mount": mount, "bytes": archive.len(), "files": files,
                "bytes-max": limits::BUNDLE_BYTES_MAX, "files-max": limits::BUNDLE_FILES_MAX,
            })).collect::<Vec<_>>(),
        })
    }

    fn print(&self, bytes: usize) {
        say!("digest     {}", self.digest);
        say!("component  {bytes} bytes");
        if let Ok(admitted) = &self.admitted {
            say!("compiled   {} bytes, for contract {}", admitted.machine_code_bytes, admitted.contract);
        }
        for name in &self.imports {
            say!("imports    {name}{}", if is_offered(name) { "" } else { "   NOT GRANTED" });
        }
        for name in &self.exports {
            say!("exports    {name}");
        }
        if let Some(manifest) = &self.manifest {
            print_grants(manifest);
        }
        for (mount, archive, files) in self.files() {
            say!("files      {mount}, to be read: {files} files, bundle {}", digest(archive));
            let (bytes, bytes_max) = (archive.len(), limits::BUNDLE_BYTES_MAX);
            say!("           {bytes} of {bytes_max} bytes, {files} of {} files", limits::BUNDLE_FILES_MAX);
        }
    }

    /// Where each bundle is mounted, its archive, and how many files it has.
    fn files(&self) -> Vec<(&str, &Bytes, usize)> {
        let mounts = self.manifest.iter().flat_map(|manifest| &manifest.bundle);
        let bundles = mounts.zip(&self.bundles);
        bundles.map(|(bundle, archive)| (&*bundle.mount, archive, super::bundle::files(archive))).collect()
    }
}

/// What a manifest asks for, and a broker grants by deploying it.
fn print_grants(manifest: &Manifest) {
    say!("plugin     {}, state version {}", manifest.name, manifest.state_version);
    for subscription in &manifest.subscribe {
        say!("reads      {}", subscription.topic);
    }
    for topic in &manifest.publish {
        say!("publishes  {topic}");
    }
    for (key, value) in manifest.flat_config().unwrap_or_default() {
        say!("config     {key} = {value}");
    }
    let limits = serde_json::to_value(&manifest.limits).unwrap_or_default();
    for (name, value) in limits.as_object().into_iter().flatten() {
        say!("limit      {name} = {value}");
    }
    let then = serde_json::to_value(manifest.failure.then).unwrap_or_default();
    let then = then.as_str().unwrap_or_default().to_owned();
    say!("failure    {} attempts, then {then}", manifest.failure.attempts);
    for cycle in &manifest.cycle {
        say!("cycle      through {}, at most {} hops", cycle.through.join(", "), cycle.max_hops);
    }
}
