//! `cargo xtask plugins`: the guests of this repository, from source to components.

use anyhow::{bail, ensure};
use tidemill_plugin_build::component::OFFERED;
use tidemill_plugin_build::{Built, Order, Toolchain, Way, build as build_guests};

use xtask::places;

/// The fixture that imports WASI, and may.
const WITH_WASI: &str = "wasi-files";

/// Builds every plugin, and prints what lies where. Done again with nothing changed, it takes a moment.
///
/// # Errors
/// When a tool is missing (the text says how to install it), when a plugin does not compile, and when one
/// imports more than every broker offers.
pub fn build() -> anyhow::Result<Vec<Built>> {
    let folder = places::repository().join("plugins");
    let toolchain = Toolchain::find(&folder, &mut |doing| eprintln!("plugins: {doing}"))?;
    eprintln!("plugins: building with {}", toolchain.describe());
    // Two toolchains that take turns in one folder would each undo the other's work.
    let own = match toolchain.way() {
        Way::Installed => "guests",
        Way::FromSource { .. } => "guests-with-std",
    };
    let target_dir = Some(places::target().join(own));
    let built = build_guests(&Order { folder, target_dir, components: places::components() }, &toolchain)?;
    for component in &built {
        let state = if component.changed { "made" } else { "is up to date" };
        eprintln!("plugins: {:<16} {:>5} KiB  {state}", component.name, component.bytes.div_ceil(1024));
        ensure!(!component.imports.is_empty(), "{} imports nothing: it cannot read a step", component.name);
        // One stands for the plugins of other toolchains, which have more.
        let is_ours = |import: &str| import.starts_with(OFFERED) || component.name == WITH_WASI;
        if let Some(foreign) = component.imports.iter().find(|import| !is_ours(import)) {
            bail!("{} imports {foreign}, which no broker offers without a grant", component.name);
        }
    }
    eprintln!("plugins: {} components in {}", built.len(), places::components().display());
    Ok(built)
}
