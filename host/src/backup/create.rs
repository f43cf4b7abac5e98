//! Making a backup of a broker that runs.
//!
//! ```text
//!   hold all groups ▸ one cut ▸ for each group: sealed segments as files, the rest written anew ▸ components, bundles, keys ▸ manifest
//! ```
//!
//! Nobody waits for it: the cut is two looks at counters (`storage/src/backup/`), and what follows reads beside
//! everybody else. While it lasts no disk is given back. Should the broker's own disk come to its reserve meanwhile, the
//! backup gives way, and takes its files along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::ids::GroupId;
use tidemill_core::seams::{OpenMode, World};
use tidemill_storage::backup::{self, Source};
use tidemill_storage::group::Group;
use tidemill_storage::log::{LogId, SealedFile};

use super::manifest::{Cut, FORMAT, File, Manifest, Sealed};
use super::place::{Place, Sum, check_name};
use super::{BackupError, at};
use crate::catalog::Catalog;
use crate::identity::Identity;
use crate::reserve::Reserve;
use crate::shards::Shard;

/// How often a cut is tried, and how long is waited in between.
const CUTS_MAX: usize = 100;
const CUT_PAUSE: Duration = Duration::from_millis(2);
/// What lies in the data folder beside groups and is copied: the folders, and how names end there.
const BESIDE: [(&str, &str); 4] =
    [("components", ".wasm"), ("bundles", ".tar"), ("tls", ".pem"), ("client", ".pem")];
/// Of `tls/`: the rest is made anew at every start.
const AUTHORITY: [&str; 2] = ["ca.pem", "ca-key.pem"];

/// What is copied.
#[derive(Clone)]
pub struct Original {
    /// The broker's world.
    pub world: World,
    /// Its data folder.
    pub folder: PathBuf,
    /// Who it is.
    pub identity: Identity,
    /// Its catalog.
    pub catalog: Arc<Catalog>,
    /// Its shards.
    pub shards: Vec<Arc<Shard>>,
    /// Whether there is room on its disk.
    pub reserve: Arc<Reserve>,
}

/// How far a backup has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files that are there.
    pub files: u64,
    /// What they take.
    pub bytes: u64,
    /// How much of it was written by this backup; the rest was there before.
    pub written_bytes: u64,
    /// How long the cut took.
    pub cut: Duration,
}

impl Progress {
    fn count(&mut self, bytes: u64, is_new: bool) {
        self.files += 1;
        self.bytes += bytes;
        self.written_bytes += if is_new { bytes } else { 0 };
    }
}

impl Original {
    fn groups(&self) -> Vec<(String, &Group)> {
        let shards = self.shards.iter().map(|shard| (GroupId::Shard(shard.id), &shard.group));
        let all = std::iter::once((GroupId::Catalog, self.catalog.group())).chain(shards);
        all.map(|(id, group)| (id.to_string(), group)).collect()
    }

    /// Makes a backup, and tells how far it is. Blocks between its awaits.
    ///
    /// # Errors
    /// [`BackupError`]: there is no such backup then, and what it had written is gone or goes with the next.
    pub async fn back_up(
        &self,
        to: &Place,
        name: &str,
        tell: &(dyn Fn(Progress) + Sync),
    ) -> Result<Manifest, BackupError> {
        check_name(name)?;
        let _lock = to.take()?;
        if to.names()?.iter().any(|other| other == name) {
            return Err(BackupError::Refused(format!("there is a backup {name} already")));
        }
        to.tidy()?;
        let made = self.copy(to, name, tell).await;
        if made.is_err() {
            // Why it failed matters more; the next one tries again.
            let _ = to.tidy();
        }
        made
    }

    async fn copy(
        &self,
        to: &Place,
        name: &str,
        tell: &(dyn Fn(Progress) + Sync),
    ) -> Result<Manifest, BackupError> {
        let known = self.known(to)?;
        let had_room = self.reserve.check().is_ok();
        let room = || match self.reserve.check() {
            Err(full) if had_room => Err(BackupError::Refused(format!("the backup gives way: {full}"))),
            _ => Ok(()),
        };
        let groups = self.groups();
        let mut sources = Vec::new();
        for (_, group) in &groups {
            sources.push(Source::of(group).await);
        }
        let start = self.world.clock.monotonic();
        let cuts = self.cut(&sources).await?;
        let mut progress =
            Progress { cut: self.world.clock.monotonic().saturating_sub(start), ..Progress::default() };
        let taken_at_ms = self.world.clock.now().0;
        self.check_space(to, &known)?;

        let mut files = Vec::new();
        for (((group, _), source), cut) in groups.iter().zip(&sources).zip(&cuts) {
            let copy = source.copy(*cut);
            for sealed in copy.sealed() {
                // Others have their turn, and the disk is looked at.
                tokio::task::yield_now().await;
                room()?;
                let path = format!("{group}/{}", name_of(&sealed.path));
                let (row, key) = (sealed_row(&sealed), (path.clone(), sealed_row(&sealed)));
                let there = known.get(&key).filter(|sum| to.has(sum)).cloned();
                let is_new = there.is_none();
                let sum = there.map_or_else(|| to.copy_in(&sealed.path), Ok)?;
                progress.count(sum.bytes, is_new);
                files.push(file(path, sum, Some(row)));
                tell(progress);
            }
            room()?;
            copy.write_rest(&*self.world.disk, &to.making())?;
            for made in self.world.disk.list(&to.making()).map_err(at(&to.making()))? {
                tokio::task::yield_now().await;
                let sum = to.adopt(&made)?;
                progress.count(sum.bytes, true);
                files.push(file(format!("{group}/{}", name_of(&made)), sum, None));
                tell(progress);
            }
        }
        drop(sources);
        for path in self.beside()? {
            room()?;
            let sum = to.copy_in(&path)?;
            progress.count(sum.bytes, true);
            let within = path.strip_prefix(&self.folder).unwrap_or(&path).display().to_string();
            files.push(file(within, sum, None));
            tell(progress);
        }
        to.settle()?;
        let cuts = groups.iter().zip(&cuts).map(|((group, _), cut)| Cut {
            group: group.clone(),
            term: cut.term.0,
            index: cut.index.0,
        });
        let manifest = Manifest {
            format: FORMAT,
            name: name.to_owned(),
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            taken_at_ms,
            folder_version: self.identity.folder_version,
            cluster: self.identity.cluster.clone(),
            broker: self.identity.broker,
            incarnation: self.identity.incarnation.clone(),
            groups: cuts.collect(),
            files,
        };
        to.put(&manifest)?;
        Ok(manifest)
    }

    async fn cut(&self, sources: &[Source<'_>]) -> Result<Vec<LogId>, BackupError> {
        for _ in 0..CUTS_MAX {
            if let Some(cuts) = backup::cut(sources) {
                return Ok(cuts);
            }
            self.world.clock.sleep(CUT_PAUSE).await;
        }
        Err(BackupError::Refused(
            "so much is committed that no moment was found to copy: try again".to_owned(),
        ))
    }

    /// Sealed segments of this data folder that earlier backups have.
    fn known(&self, to: &Place) -> Result<BTreeMap<(String, Sealed), Sum>, BackupError> {
        let mut known = BTreeMap::new();
        for name in to.names()? {
            // One that cannot be read was warned of.
            let Ok(manifest) = to.manifest(&name) else { continue };
            if manifest.incarnation != self.identity.incarnation {
                continue;
            }
            known.extend(manifest.files.into_iter().filter_map(|file| {
                let sum = Sum { bytes: file.bytes, digest: file.digest };
                Some(((file.path, file.sealed?), sum))
            }));
        }
        Ok(known)
    }

    /// Refuses when there is no room for what is to be written, as far as that can be said before.
    fn check_space(&self, to: &Place, known: &BTreeMap<(String, Sealed), Sum>) -> Result<(), BackupError> {
        let disk = &*self.world.disk;
        let mut needed = 0;
        for (group, _) in self.groups() {
            let folder = self.folder.join(&group);
            for path in disk.list(&folder).map_err(at(&folder))? {
                let within = format!("{group}/{}", name_of(&path));
                let is_known = known.keys().any(|(path, _)| *path == within);
                let opened = disk.open(&path, OpenMode::Read);
                // What is gone by now need not be copied.
                let bytes = opened.and_then(|file| file.len()).unwrap_or(0);
                needed += if is_known { 0 } else { bytes };
            }
        }
        let making = to.making();
        let (free, _) = disk.space(&making).map_err(at(&making))?;
        if needed > free {
            let why = format!("the backup needs about {needed} bytes, and {free} are free where it is to go");
            return Err(BackupError::Refused(why));
        }
        Ok(())
    }

    /// The files beside the groups.
    fn beside(&self) -> Result<Vec<PathBuf>, BackupError> {
        let mut paths = Vec::new();
        for (part, ending) in BESIDE {
            let folder = self.folder.join(part);
            let names = self.world.disk.list(&folder).map_err(at(&folder))?;
            paths.extend(names.into_iter().filter(|path| {
                let name = name_of(path);
                name.ends_with(ending) && (part != "tls" || AUTHORITY.contains(&name.as_str()))
            }));
        }
        Ok(paths)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn sealed_row(sealed: &SealedFile) -> Sealed {
    Sealed { term: sealed.last.term.0, index: sealed.last.index.0, turn: sealed.turn }
}

fn file(path: String, sum: Sum, sealed: Option<Sealed>) -> File {
    File { path, bytes: sum.bytes, digest: sum.digest, sealed }
}
