//! The real world keeps the contracts that the simulated one keeps.
#![allow(missing_docs, reason = "tests are read, not called")]

use tidemill_host::world::RealDisk;
use tidemill_sim::disk::suite;

#[test]
fn the_disk() -> std::io::Result<()> {
    suite::check(&RealDisk::default(), tempfile::tempdir()?.path())
}

#[test]
fn the_disk_with_direct_writes() -> std::io::Result<()> {
    // In the folder that cargo builds into: that of temporary files may lie in memory, which takes no such writes.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    suite::check(&RealDisk::with_direct_writes(), folder.path())
}
