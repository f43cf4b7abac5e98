//! The real world keeps the contracts that the simulated one keeps.
#![allow(missing_docs, reason = "tests are read, not called")]

use tidemill_host::world::RealDisk;
use tidemill_sim::disk::suite;

#[test]
fn the_disk() -> std::io::Result<()> {
    suite::check(&RealDisk, tempfile::tempdir()?.path())
}
