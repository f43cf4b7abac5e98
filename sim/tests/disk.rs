//! The simulated disk does what every disk must, and a power cut on it takes only what was not synced.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_core::seams::{Chance, Disk, OpenMode};
use tidemill_sim::disk::{Operation, SimDisk, suite};

/// SplitMix64, by Steele, Lea and Flood.
struct Lots(AtomicU64);

impl Chance for Lots {
    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes()[..part.len()]);
        }
    }
}

fn content(disk: &SimDisk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn it_does_what_every_disk_must() -> io::Result<()> {
    let disk = SimDisk::new();
    disk.create_folders(Path::new("/data"))?;
    suite::check(&disk, Path::new("/data"))
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_any_part_of_the_rest() -> io::Result<()> {
    let (disk, folder, path) = (SimDisk::new(), PathBuf::from("/d"), PathBuf::from("/d/a"));
    disk.create_folders(&folder)?;
    disk.sync_directory(Path::new("/"))?;
    let file = disk.open(&path, OpenMode::CreateNew)?;
    file.write_at(0, &[1; 3000])?;
    file.sync_data()?;
    disk.sync_directory(&folder)?;
    file.write_at(1000, &[2; 3000])?;
    file.write_at(2000, &[3; 10])?;
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let left = content(&disk.after_power_cut(&Lots(seed.into())), &path)?;
        assert!(
            left.len() >= 3000 && left[..1000] == [1; 1000],
            "what was synced and not written over is there"
        );
        assert!(left[2010..3000].iter().all(|b| [1, 2].contains(b)));
        seen.insert(left);
    }
    let whole = content(&disk, &path)?;
    assert!(seen.contains(&vec![1; 3000]) && seen.contains(&whole), "nothing, and everything, both happen");
    assert!(seen.len() > 20, "and much between: {}", seen.len());
    Ok(())
}

#[test]
fn names_are_durable_once_their_folder_is_synced() -> io::Result<()> {
    let (disk, folder) = (SimDisk::new(), PathBuf::from("/d"));
    disk.create_folders(&folder)?;
    let left = |seed: u64| disk.after_power_cut(&Lots(seed.into())).list(Path::new("/"));
    let survives = (0..50).map(left).collect::<io::Result<BTreeSet<_>>>()?;
    assert_eq!(survives.len(), 2, "a folder is durable once the one above it is synced, too");
    disk.sync_directory(Path::new("/"))?;
    assert_eq!(left(0)?, vec![folder.clone()]);
    disk.open(&folder.join("old"), OpenMode::CreateNew)?.write_at(0, b"old")?;
    disk.open(&folder.join("old"), OpenMode::Write)?.sync_data()?;
    disk.sync_directory(&folder)?;
    let new = disk.open(&folder.join("new"), OpenMode::CreateNew)?;
    new.write_at(0, b"new")?;
    new.sync_data()?;
    disk.rename(&folder.join("new"), &folder.join("old"))?;
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let left = disk.after_power_cut(&Lots(seed.into()));
        seen.insert(content(&left, &folder.join("old"))?);
    }
    assert_eq!(seen, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]), "one or the other, never none");
    disk.sync_directory(&folder)?;
    assert_eq!(content(&disk.after_power_cut(&Lots(7.into())), &folder.join("old"))?, b"new");
    Ok(())
}

#[test]
fn a_rename_into_another_folder_is_durable_once_both_are_synced() -> io::Result<()> {
    let (disk, from, to) = (SimDisk::new(), PathBuf::from("/from"), PathBuf::from("/to"));
    [&from, &to].into_iter().try_for_each(|folder| disk.create_folders(folder))?;
    disk.sync_directory(Path::new("/"))?;
    let file = disk.open(&from.join("a"), OpenMode::CreateNew)?;
    file.write_at(0, b"kept")?;
    file.sync_data()?;
    disk.rename(&from.join("a"), &to.join("b"))?;
    // The new name is durable with its own folder, although the old one never was.
    disk.sync_directory(&to)?;
    for seed in 0..20 {
        assert_eq!(content(&disk.after_power_cut(&Lots(seed.into())), &to.join("b"))?, b"kept");
    }
    let left = |seed: u64| disk.after_power_cut(&Lots(seed.into())).list(&from);
    let names = (0..50).map(left).collect::<io::Result<BTreeSet<_>>>()?;
    assert_eq!(names.len(), 2, "the old name may be there until its folder is synced, too");
    disk.sync_directory(&from)?;
    assert_eq!((0..20).map(left).collect::<io::Result<BTreeSet<_>>>()?, BTreeSet::from([vec![]]));
    Ok(())
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() -> io::Result<()> {
    let (disk, path) = (SimDisk::new(), PathBuf::from("/a"));
    let file = disk.open(&path, OpenMode::CreateNew)?;
    disk.sync_directory(Path::new("/"))?;
    disk.fail(Operation::Sync, "a", 0);
    file.write_at(0, b"lost")?;
    assert!(file.sync_data().is_err());
    file.sync_data()?;
    assert_eq!(content(&disk, &path)?, b"lost", "programs still see it");
    assert_eq!(content(&disk.after_power_cut(&Lots(1.into())), &path)?, b"");
    Ok(())
}

#[test]
fn a_full_disk_and_one_without_power_refuse() -> io::Result<()> {
    let disk = SimDisk::new();
    let file = disk.open(Path::new("/a"), OpenMode::CreateNew)?;
    disk.set_capacity(Some(10));
    file.write_at(0, &[1; 10])?;
    assert_eq!(file.write_at(5, &[1; 6]).err().map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
    file.write_at(0, &[2; 10])?;
    assert_eq!(disk.space(Path::new("/"))?, (0, 10));
    disk.power_off();
    assert!(file.write_at(0, b"1").is_err() && disk.open(Path::new("/b"), OpenMode::CreateNew).is_err());
    Ok(())
}
