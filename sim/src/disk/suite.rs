//! What every disk must do, simulated or real: run [`check`] on an empty folder of it.

use std::io::{self, ErrorKind};
use std::path::Path;

use tidemill_core::seams::{Disk, OpenMode};

/// Checks the contract of [`Disk`] as far as a living system shows it (what a power cut leaves, only a simulation
/// can show).
///
/// # Errors
/// Whatever the disk says that the contract does not expect.
///
/// # Panics
/// When the disk does not do what the contract says.
pub fn check(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    files_are_read_as_written(disk, &folder.join("contents"))?;
    large_and_small_writes_meet(disk, &folder.join("sizes"))?;
    parts_are_given_back(disk, &folder.join("holes"))?;
    modes_are_kept(disk, &folder.join("modes"))?;
    names_move(disk, &folder.join("names"))?;
    locks_exclude(disk, &folder.join("locks"))?;
    let (free, size) = disk.space(folder)?;
    assert!(free > 0 && free <= size, "{free} bytes free of {size}");
    Ok(())
}

fn files_are_read_as_written(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    disk.create_folders(folder)?;
    let file = disk.open(&folder.join("a"), OpenMode::CreateNew)?;
    assert!(file.is_empty()?);
    file.write_at(0, b"hello")?;
    file.write_at(8192, b"far")?;
    assert_eq!(file.len()?, 8195, "a write behind the end grows the file");
    let mut bytes = [9; 5];
    file.read_at(0, &mut bytes)?;
    assert_eq!(&bytes, b"hello");
    file.read_at(4096, &mut bytes)?;
    assert_eq!(bytes, [0; 5], "what was never written reads as zeros");
    assert_eq!(kind(file.read_at(8193, &mut bytes)), Some(ErrorKind::UnexpectedEof));
    assert_eq!(kind(file.read_at(1 << 40, &mut bytes)), Some(ErrorKind::UnexpectedEof));
    file.set_len(3)?;
    file.set_len(6)?;
    let mut bytes = [9; 6];
    file.read_at(0, &mut bytes)?;
    assert_eq!(&bytes, b"hel\0\0\0", "what was cut off does not come back");
    file.sync_data()?;
    let again = disk.open(&folder.join("a"), OpenMode::Read)?;
    again.read_at(0, &mut bytes)?;
    assert_eq!(&bytes, b"hel\0\0\0");
    file.write_at(1, b"E")?;
    again.read_at(0, &mut bytes)?;
    assert_eq!(&bytes, b"hEl\0\0\0", "all who opened a file see it change");
    Ok(())
}

/// A disk may take large writes another way than small ones.
fn large_and_small_writes_meet(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    const PAGE: usize = 4096;
    const LARGE: usize = 3 << 20;
    disk.create_folders(folder)?;
    let file = disk.open(&folder.join("a"), OpenMode::CreateNew)?;
    disk.rename(&folder.join("a"), &folder.join("b"))?;
    let again = disk.open(&folder.join("b"), OpenMode::Read)?;
    let mut expected = vec![0; 4 * LARGE];
    file.set_len(expected.len() as u64)?;
    let writes = [
        (PAGE, LARGE),
        (LARGE, PAGE),
        (LARGE - PAGE, LARGE),
        (7, LARGE),
        (2 * LARGE, LARGE + PAGE),
        (2 * LARGE + 1, LARGE),
        (3 * LARGE, LARGE),
        (3 * LARGE - 100, 200),
    ];
    for (number, (at, length)) in writes.into_iter().enumerate() {
        let bytes: Vec<u8> = (0..length).map(|place| (place * 31 + place / PAGE + number) as u8).collect();
        file.write_at(at as u64, &bytes)?;
        expected[at..at + length].copy_from_slice(&bytes);
        for reader in [&file, &again] {
            let mut found = vec![9; expected.len()];
            reader.read_at(0, &mut found)?;
            assert!(found == expected, "after write {number} of {length} bytes at {at}");
        }
    }
    file.sync_data()?;
    assert_eq!(file.len()?, expected.len() as u64);
    Ok(())
}

/// A disk that cannot do it says so, and changes nothing.
fn parts_are_given_back(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    disk.create_folders(folder)?;
    let file = disk.open(&folder.join("a"), OpenMode::CreateNew)?;
    let mut expected = vec![7; 40_000];
    file.write_at(0, &expected)?;
    file.sync_data()?;
    let holes = [(8192, 4096), (20_480, 8192), (36_864, 8192), (81_920, 4096)];
    for (offset, length) in holes {
        match kind(file.punch(offset, length)) {
            None => {
                let end = expected.len().min((offset + length) as usize);
                expected.get_mut(offset as usize..end).into_iter().for_each(|hole| hole.fill(0));
            }
            kind => assert_eq!(kind, Some(ErrorKind::Unsupported)),
        }
        let mut found = vec![9; expected.len()];
        disk.open(&folder.join("a"), OpenMode::Read)?.read_at(0, &mut found)?;
        assert!(found == expected, "after a hole of {length} bytes at {offset}");
        assert_eq!(file.len()?, expected.len() as u64, "a hole changes no length");
    }
    let reading = disk.open(&folder.join("a"), OpenMode::Read)?;
    assert!(reading.punch(0, 4096).is_err(), "a file opened for reading keeps what it has");
    Ok(())
}

fn modes_are_kept(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let path = folder.join("a");
    assert_eq!(
        kind(disk.open(&path, OpenMode::CreateNew)),
        Some(ErrorKind::NotFound),
        "there is no such folder"
    );
    disk.create_folders(folder)?;
    disk.create_folders(folder)?;
    assert_eq!(kind(disk.open(&path, OpenMode::Read)), Some(ErrorKind::NotFound));
    assert_eq!(kind(disk.open(&path, OpenMode::Write)), Some(ErrorKind::NotFound));
    disk.open(&path, OpenMode::CreateOrWrite)?.write_at(0, b"1")?;
    assert_eq!(disk.open(&path, OpenMode::CreateOrWrite)?.len()?, 1, "opening empties nothing");
    assert_eq!(disk.open(&path, OpenMode::Write)?.len()?, 1);
    assert_eq!(kind(disk.open(&path, OpenMode::CreateNew)), Some(ErrorKind::AlreadyExists));
    let reading = disk.open(&path, OpenMode::Read)?;
    assert!(reading.write_at(0, b"2").is_err(), "a file opened for reading is not written");
    Ok(())
}

fn names_move(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    assert!(disk.list(folder)?.is_empty(), "a folder that is not there has no names");
    disk.create_folders(&folder.join("within"))?;
    for name in ["b", "a"] {
        disk.open(&folder.join(name), OpenMode::CreateNew)?.write_at(0, name.as_bytes())?;
    }
    let names = [folder.join("a"), folder.join("b"), folder.join("within")];
    assert_eq!(disk.list(folder)?, names, "sorted, with the folder in front");
    let a = disk.open(&folder.join("a"), OpenMode::Write)?;
    disk.rename(&folder.join("a"), &folder.join("b"))?;
    disk.sync_directory(folder)?;
    assert_eq!(disk.list(folder)?, [folder.join("b"), folder.join("within")]);
    a.write_at(0, b"A")?;
    let mut byte = [0];
    disk.open(&folder.join("b"), OpenMode::Read)?.read_at(0, &mut byte)?;
    assert_eq!(&byte, b"A", "a renamed file is the same file to those who have it open");
    disk.remove(&folder.join("b"))?;
    a.read_at(0, &mut byte)?;
    disk.remove(&folder.join("b"))?;
    assert_eq!(disk.list(folder)?, [folder.join("within")]);
    assert_eq!(kind(disk.rename(&folder.join("b"), &folder.join("c"))), Some(ErrorKind::NotFound));
    Ok(())
}

fn locks_exclude(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    disk.create_folders(folder)?;
    let path = folder.join("lock");
    let held = disk.lock(&path)?;
    assert_eq!(kind(disk.lock(&path)), Some(ErrorKind::WouldBlock), "another holder is refused");
    drop(held);
    disk.lock(&path)?;
    Ok(())
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}
