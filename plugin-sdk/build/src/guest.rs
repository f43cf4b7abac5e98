//! One build: cargo makes core modules, and each becomes a component in the folder that was asked for.
//!
//! Cargo decides what is fresh. Encoding takes milliseconds and always gives the same bytes, so it is done every
//! time, and a component's file is touched only when they differ: in one rename, so that a reader never sees
//! half of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::folder::{self, Plugin};
use crate::{BuildError, TARGET, Toolchain, component};

/// What to build.
#[derive(Debug, Clone)]
pub struct Order {
    /// A crate with a plugin, or a workspace of them.
    pub folder: PathBuf,
    /// Where cargo keeps what it makes on the way; its own choice when `None`.
    pub target_dir: Option<PathBuf>,
    /// Where the components go; it is created.
    pub components: PathBuf,
}

/// A component that lies ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The name of the plugin's package.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The interfaces that it imports, such as `tidemill:plugin/log@0.1.0`.
    pub imports: Vec<String>,
    /// Whether this build wrote it, or found it as it should be.
    pub changed: bool,
}

/// Builds every plugin of `order.folder` in release mode. Cargo writes to the terminal as it always does.
///
/// # Errors
/// Any [`BuildError`] but those of finding a toolchain.
pub fn build(order: &Order, toolchain: &Toolchain) -> Result<Vec<Built>, BuildError> {
    let folder = folder::read(&order.folder, toolchain)?;
    let target_dir = order.target_dir.as_ref().unwrap_or(&folder.target_dir);
    let mut cargo = toolchain.release_build();
    cargo.current_dir(&order.folder).arg("--target-dir").arg(target_dir);
    for plugin in &folder.plugins {
        cargo.args(["--package", &plugin.package]);
    }
    let status = cargo.status();
    let status = status.map_err(|source| BuildError::Run { program: toolchain.cargo.clone(), source })?;
    if !status.success() {
        return Err(BuildError::Cargo(order.folder.clone()));
    }
    fs::create_dir_all(&order.components).map_err(BuildError::file(&order.components))?;
    let modules = target_dir.join(TARGET).join("release");
    folder.plugins.iter().map(|plugin| bring_up_to_date(plugin, &modules, &order.components)).collect()
}

fn bring_up_to_date(plugin: &Plugin, modules: &Path, components: &Path) -> Result<Built, BuildError> {
    let module = modules.join(&plugin.library).with_extension("wasm");
    let file = components.join(format!("{}.wasm", plugin.package));
    let wrong = |why| BuildError::Component { name: plugin.package.clone(), why };
    let module = fs::read(&module).map_err(BuildError::file(&module))?;
    let component = component::encode(&module).map_err(wrong)?;
    let changed = fs::read(&file).ok().is_none_or(|there| there != component);
    if changed {
        let half = file.with_extension("wasm.new");
        fs::write(&half, &component).map_err(BuildError::file(&half))?;
        fs::rename(&half, &file).map_err(BuildError::file(&file))?;
    }
    let imports = component::imports(&component).map_err(wrong)?;
    Ok(Built { name: plugin.package.clone(), file, bytes: component.len() as u64, imports, changed })
}
