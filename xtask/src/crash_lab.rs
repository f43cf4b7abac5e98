//! `cargo xtask crash-lab`: what a power cut could leave of a broker's disk, image by image.
//!
//! The lab itself is `sim/src/lab`, and its stories are storage's (`storage/tests/disk/lab`); this runs them long. One more
//! is the host's (`host/tests/exactly_once/backup_cuts.rs`): of that, this runs an image again.

use anyhow::ensure;
use clap::Args;

/// Recover from every disk that a power cut could leave, and print how many there were of each kind.
#[derive(Debug, Args)]
pub struct CrashLab {
    /// Images, at least, over all stories.
    #[arg(long, default_value_t = 1_000_000)]
    images: u64,
    /// The seed of the first life.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl CrashLab {
    /// Runs it. `TIDEMILL_IMAGE` in the environment runs that image alone.
    ///
    /// # Errors
    /// When an image was not recovered from; what is printed says which, and how to run it again.
    pub fn run(self) -> anyhow::Result<()> {
        let is_backup = std::env::var("TIDEMILL_IMAGE").is_ok_and(|image| image.starts_with("backup/"));
        let (test, story) = if is_backup {
            ("exactly_once", "backup_cuts::a_power_cut")
        } else {
            ("disk", "lab::every_image")
        };
        let mut cargo = crate::test::command(&["test", "--release", "--workspace", "--test", test]);
        cargo.args(["--", "--nocapture", story]);
        cargo.env("TIDEMILL_IMAGES", self.images.to_string()).env("TIDEMILL_SEED", self.seed.to_string());
        ensure!(cargo.status()?.success(), "an image failed: see above");
        Ok(())
    }
}
