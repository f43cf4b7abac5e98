//! `cargo xtask crash-lab`: what a power cut could leave of a broker's disk, image by image.
//!
//! The lab itself is `sim/src/lab`, and its stories are storage's (`storage/tests/disk/lab`); this runs them long.

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
        let mut cargo = crate::test::command(&["test", "--release", "--workspace", "--test", "disk"]);
        cargo.args(["--", "--nocapture", "lab::every_image"]);
        cargo.env("TIDEMILL_IMAGES", self.images.to_string()).env("TIDEMILL_SEED", self.seed.to_string());
        ensure!(cargo.status()?.success(), "an image failed: see above");
        Ok(())
    }
}
