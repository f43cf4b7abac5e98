//! The components that this broker keeps: by their digest, and compiled.
//!
//! ```text
//! components/<digest>.wasm   as it was deployed
//! compiled/<digest>.tmac     machine code, sealed; made again whenever it is gone or stale
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_core::ids::Digest;
use tidemill_core::limits;
use tidemill_core::seams::World;
use tidemill_runtime::{Artifact, CompileError, Compiler, LoadError, Plugin, Runtime, Sealer};
use tidemill_storage::folder;

use crate::bundles::Bundles;
use crate::files;
pub use crate::files::digest;

/// Why a component cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ComponentError {
    /// The bytes have another digest than was said.
    #[error("the component's SHA-256 is {found}, and {stated} was said")]
    Digest {
        /// Of the bytes.
        found: Digest,
        /// As said.
        stated: Digest,
    },
    /// Too large.
    #[error("the component has {0} bytes, and the limit is {max}; nothing raises it", max = limits::COMPONENT_BYTES_MAX)]
    TooLarge(usize),
    /// This broker does not have it.
    #[error("there is no component {0} here: upload it first")]
    Missing(Digest),
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It is no plugin, or wants what is not offered.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The disk failed.
    #[error("the component's file: {0}")]
    Disk(Arc<io::Error>),
}

impl From<io::Error> for ComponentError {
    fn from(error: io::Error) -> Self {
        ComponentError::Disk(Arc::new(error))
    }
}

/// All components, and the files that are deployed with them.
pub struct Components {
    /// The files.
    pub bundles: Arc<Bundles>,
    world: World,
    folder: PathBuf,
    runtime: Runtime,
    compiler: Arc<dyn Compiler>,
    sealer: Sealer,
    loaded: Mutex<BTreeMap<Digest, Plugin>>,
    /// Held while one is written: two who bring the same would write one file.
    putting: Mutex<()>,
    /// One compilation at a time: it may use as much as the rest of the broker.
    compiling: tokio::sync::Mutex<()>,
}

impl Components {
    /// Those in the data folder `folder`.
    ///
    /// # Errors
    /// As the disk's.
    pub fn open(
        world: World,
        folder: &Path,
        runtime: Runtime,
        compiler: Arc<dyn Compiler>,
        key: [u8; 32],
    ) -> io::Result<Components> {
        for part in ["components", "compiled"] {
            folder::make(&*world.disk, &folder.join(part))?;
        }
        Ok(Components {
            bundles: Arc::new(Bundles::open(world.clone(), folder)?),
            world,
            folder: folder.to_owned(),
            sealer: runtime.sealer(key),
            runtime,
            compiler,
            loaded: Mutex::default(),
            putting: Mutex::default(),
            compiling: tokio::sync::Mutex::default(),
        })
    }

    /// The runtime that they run in.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Keeps a component, durably.
    ///
    /// # Errors
    /// [`ComponentError`] when it is not what was said, too large, or cannot be written.
    pub fn put(&self, stated: Digest, component: &[u8]) -> Result<(), ComponentError> {
        if component.len() > limits::COMPONENT_BYTES_MAX {
            return Err(ComponentError::TooLarge(component.len()));
        }
        let found = digest(component);
        if found != stated {
            return Err(ComponentError::Digest { found, stated });
        }
        let _putting = self.putting.lock();
        if self.get(stated)?.is_none() {
            files::replace(&*self.world.disk, &self.component(stated), component)?;
        }
        Ok(())
    }

    /// A component's bytes; `None` when it is not here, or its file is damaged.
    ///
    /// # Errors
    /// As the disk's.
    pub fn get(&self, wanted: Digest) -> io::Result<Option<Bytes>> {
        files::read_known(&*self.world.disk, &self.component(wanted), wanted, limits::COMPONENT_BYTES_MAX)
    }

    /// A component, ready to run: from memory, from its machine code, or compiled now.
    ///
    /// # Errors
    /// [`ComponentError`] when it is not here, or no plugin.
    pub async fn plugin(&self, wanted: Digest) -> Result<Plugin, ComponentError> {
        if let Some(plugin) = self.loaded.lock().get(&wanted) {
            return Ok(plugin.clone());
        }
        let _compiling = self.compiling.lock().await;
        if let Some(plugin) = self.loaded.lock().get(&wanted) {
            return Ok(plugin.clone());
        }
        let plugin = match self.compiled(wanted)? {
            Some(artifact) => self.runtime.load(&artifact)?,
            None => self.compile(wanted).await?,
        };
        let mut loaded = self.loaded.lock();
        // Those of versions that are no more are not kept.
        loaded.retain(|_, plugin| plugin.is_in_use());
        loaded.insert(wanted, plugin.clone());
        Ok(plugin)
    }

    async fn compile(&self, wanted: Digest) -> Result<Plugin, ComponentError> {
        let component = self.get(wanted)?.ok_or(ComponentError::Missing(wanted))?;
        let artifact = self.compiler.compile(component).await?;
        let plugin = self.runtime.load(&artifact)?;
        let sealed = self.sealer.seal(wanted, &artifact);
        files::replace(&*self.world.disk, &self.artifact(wanted), &sealed)?;
        Ok(plugin)
    }

    fn compiled(&self, wanted: Digest) -> io::Result<Option<Artifact>> {
        let most = limits::ARTIFACT_BYTES_MAX + 4_096;
        let Some(sealed) = files::read(&*self.world.disk, &self.artifact(wanted), most)? else {
            return Ok(None);
        };
        match self.sealer.open(wanted, &Bytes::from(sealed)) {
            Ok(artifact) => Ok(Some(artifact)),
            Err(error) => {
                tracing::info!(%wanted, %error, "compiles again");
                Ok(None)
            }
        }
    }

    fn component(&self, digest: Digest) -> PathBuf {
        self.folder.join("components").join(format!("{digest}.wasm"))
    }

    fn artifact(&self, digest: Digest) -> PathBuf {
        self.folder.join("compiled").join(format!("{digest}.tmac"))
    }
}

impl std::fmt::Debug for Components {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Components({})", self.folder.display())
    }
}
