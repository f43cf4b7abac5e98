//! The format version that every database file of ours bears.

use std::path::Path;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_core::seams::Disk;

use crate::database::{Commit, DatabaseFile, Problem, Repair};

/// What a file says of itself. Values are the file's own; `version` is a big-endian u32 in all of them.
pub(crate) const ABOUT: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("about");
const VERSION_KEY: &str = "version";
/// The newest format of files that this broker reads and writes.
const VERSION: u32 = 1;

/// Writes the version into a new file.
pub(crate) fn stamp(transaction: &WriteTransaction) -> Result<(), Problem> {
    transaction.open_table(ABOUT)?.insert(VERSION_KEY, &VERSION.to_be_bytes()[..])?;
    Ok(())
}

/// Makes a small file with the version and what `fill` writes, and gives it its name, durably.
///
/// # Errors
/// A [`Fault`] of the disk.
pub(crate) fn made(
    disk: &dyn Disk,
    path: &Path,
    commit: Commit,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), Problem>,
) -> Result<DatabaseFile, Fault> {
    let file = DatabaseFile::create(disk, path, limits::SMALL_FILE_CACHE_BYTES)?;
    file.write(commit, |transaction| {
        stamp(transaction)?;
        fill(transaction)
    })?;
    file.show(disk)?;
    Ok(file)
}

/// Opens a small file of a folder, and says what that took; `None` when there is none.
///
/// # Errors
/// A [`Fault`] of the disk, or of the file, as [`check`].
pub(crate) fn opened(
    disk: &dyn Disk,
    folder: &Path,
    name: &str,
) -> Result<Option<(DatabaseFile, Repair)>, Fault> {
    let path = folder.join(name);
    let names =
        disk.list(folder).map_err(|error| Fault::disk(format!("listing {}", folder.display()), error))?;
    if !names.contains(&path) {
        return Ok(None);
    }
    let (file, repair) = DatabaseFile::open(disk, &path, limits::SMALL_FILE_CACHE_BYTES, true)?;
    check(&file)?;
    Ok(Some((file, repair)))
}

/// Checks the version of a file that was just opened.
///
/// # Errors
/// [`Fault::Newer`] when a newer broker wrote it, [`Fault::Damaged`] when it bears no version.
pub(crate) fn check(file: &DatabaseFile) -> Result<(), Fault> {
    let found = read_about(file, VERSION_KEY)?;
    let found = found.as_deref().and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    match found {
        Some(1..=VERSION) => Ok(()),
        Some(found) if found > VERSION => {
            Err(Fault::Newer { what: name(file.path()), found, known: VERSION })
        }
        _ => Err(Fault::damaged(name(file.path()), "it bears no format version")),
    }
}

/// What a file says of itself under `key`.
pub(crate) fn read_about(file: &DatabaseFile, key: &str) -> Result<Option<Vec<u8>>, Fault> {
    file.read(|transaction| read_about_in(transaction, key))
}

fn read_about_in(transaction: &ReadTransaction, key: &str) -> Result<Option<Vec<u8>>, Problem> {
    let table = match transaction.open_table(ABOUT) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(ReadableTable::get(&table, key)?.map(|value| value.value().to_vec()))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use tidemill_sim::disk::SimDisk;

    use super::*;

    #[test]
    fn a_newer_file_is_told_from_one_that_is_none_of_ours() {
        let disk = SimDisk::new();
        disk.create_folders(Path::new("/d")).unwrap();
        let file = DatabaseFile::create(&disk, Path::new("/d/a.redb"), 1 << 20).unwrap();
        file.write(Commit::OneSync, |transaction| {
            transaction.open_table(ABOUT)?;
            Ok(())
        })
        .unwrap();
        assert!(matches!(check(&file), Err(Fault::Damaged { what, .. }) if what == "/d/a.redb"));
        file.write(Commit::OneSync, stamp).unwrap();
        assert_eq!(check(&file), Ok(()));
        let stamp_newer = |transaction: &WriteTransaction| {
            transaction.open_table(ABOUT)?.insert(VERSION_KEY, &(VERSION + 1).to_be_bytes()[..])?;
            Ok(())
        };
        file.write(Commit::OneSync, stamp_newer).unwrap();
        assert!(matches!(check(&file), Err(Fault::Newer { found: 2, known: 1, .. })));
    }
}
