//! The bundles of a manifest, from their folders; and unpacked, for runs without a broker.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use tempfile::TempDir;
use tidemill_core::manifest::Manifest;
use tidemill_host::components::digest;
use tidemill_runtime::bundle::{archive, gather as pack};
use tidemill_runtime::{Bundle, Mounted};

use super::FromFiles;

/// Packs the folders of a manifest that lies in `folder`, and fills in what they come to.
///
/// # Errors
/// When a folder cannot be a bundle, or is another than the manifest says.
pub fn gather(manifest: &mut Manifest, folder: &Path) -> anyhow::Result<Vec<Bytes>> {
    let mut archives = Vec::new();
    for (number, bundle) in manifest.bundle.iter_mut().enumerate() {
        let key = || format!("bundle[{number}].path, {:?}", bundle.path);
        let archive = pack(&folder.join(&bundle.path)).with_context(key)?;
        let found = digest(&archive);
        if let Some(stated) = bundle.digest.filter(|stated| *stated != found) {
            let why = "the folder is not what it was, or the digest is to be left out";
            return Err(anyhow!("bundle[{number}].digest: {stated} is stated, and it is {found}: {why}"));
        }
        bundle.digest = Some(found);
        archives.push(archive.into());
    }
    Ok(archives)
}

/// The bundles of a plugin, unpacked, and the folder that they lie in for as long as it is kept.
///
/// # Errors
/// As the disk's.
pub fn mounted(plugin: &FromFiles) -> anyhow::Result<(TempDir, Vec<Mounted>)> {
    let folder = tempfile::Builder::new().prefix("tidemill-bundles-").tempdir()?;
    let mut mounted = Vec::new();
    for (bundle, archive) in plugin.manifest.bundle.iter().zip(&plugin.bundles) {
        let at = bundle.mount.clone();
        let place = folder.path().join(digest(archive).to_string());
        mounted.push(Mounted { at, bundle: Bundle::unpack(archive, &place)? });
    }
    Ok((folder, mounted))
}

/// How many files an archive holds.
pub fn files(archive: &[u8]) -> usize {
    archive::read(archive).map_or(0, |files| files.len())
}
