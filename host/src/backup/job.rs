//! A backup as a job of the broker: one at a time, on a thread of its own, because it waits for the disk.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_core::seams::Timestamp;

use super::BackupError;
use super::create::{Original, Progress};
use super::place::{Place, check_name};

/// The backups of a broker.
pub struct Backups {
    original: Original,
    newest: Mutex<Option<Job>>,
}

/// A backup that was asked for.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// The folder it goes to.
    pub to: String,
    /// When it was asked for.
    pub begun: Timestamp,
    /// How far it is.
    pub progress: Progress,
    /// How it ended, once it has: when, or why it failed.
    pub end: Option<Result<Timestamp, String>>,
}

impl Backups {
    /// Those of a broker.
    pub fn new(original: Original) -> Arc<Backups> {
        Arc::new(Backups { original, newest: Mutex::new(None) })
    }

    /// The one that was asked for last.
    pub fn newest(&self) -> Option<Job> {
        self.newest.lock().clone()
    }

    /// Begins a backup into the folder `to`; without a name it is called after the time.
    ///
    /// # Errors
    /// [`BackupError::Refused`] when one runs, or the name or folder does not do. What else goes wrong is told in the job.
    pub fn begin(self: &Arc<Self>, to: &Path, name: Option<String>) -> Result<Job, BackupError> {
        let world = &self.original.world;
        let now = world.clock.now();
        let name = name.unwrap_or_else(|| called_after(now));
        check_name(&name)?;
        if !to.is_absolute() {
            return Err(BackupError::Refused(format!("{}: name a folder from the root on", to.display())));
        }
        if to.starts_with(&self.original.folder) {
            let why = "it lies in the data folder, and would go with it: name another disk, if there is one";
            return Err(BackupError::Refused(format!("{}: {why}", to.display())));
        }
        let job = Job {
            name: name.clone(),
            to: to.display().to_string(),
            begun: now,
            progress: Progress::default(),
            end: None,
        };
        {
            let mut newest = self.newest.lock();
            if let Some(running) = newest.as_ref().filter(|job| job.end.is_none()) {
                return Err(BackupError::Refused(format!("the backup {} is being made", running.name)));
            }
            *newest = Some(job.clone());
        }
        let (backups, place) = (self.clone(), Place::new(world.disk.clone(), to));
        let work = async move { backups.run(&place, &name).await };
        world.spawner.thread("backup".to_owned(), Box::pin(work));
        Ok(job)
    }

    async fn run(&self, place: &Place, name: &str) {
        let tell = |progress| {
            if let Some(job) = &mut *self.newest.lock() {
                job.progress = progress;
            }
        };
        let made = self.original.back_up(place, name, &tell).await;
        let end = match made {
            Ok(manifest) => {
                tracing::info!(name, files = manifest.files.len(), bytes = manifest.bytes(), "backed up");
                Ok(self.original.world.clock.now())
            }
            Err(error) => {
                tracing::warn!(name, %error, "no backup was made");
                Err(error.to_string())
            }
        };
        if let Some(job) = &mut *self.newest.lock() {
            job.end = Some(end);
        }
    }
}

/// A name that sorts by time.
fn called_after(now: Timestamp) -> String {
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(now.0);
    humantime::format_rfc3339_millis(time).to_string().replace(':', "-")
}
