//! What a power cut leaves.
//!
//! Of a file's unsynced changes there may be none, all, those up to some point, any selection, or a single one; and
//! a write may be torn: at a byte, at a sector (512 B), at a page (4 KiB), or into sectors or pages of which only
//! some arrived. Of a range that was given back, any pages may be there still. How much of each is drawn anew for each file, and, to meet the plain cases often, sometimes one
//! lot decides for the whole disk.
//!
//! Of a folder's unsynced names those up to some point are kept: filesystems with a journal keep the order of
//! names, and a rename is whole or not at all. A new folder whose own name was not synced in the folder above may be
//! gone, with all that is in it. A rename from one folder into another is two such changes, one in each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tidemill_core::seams::Chance;

use super::image::Image;
use super::{Change, NameChange, Names, State};

#[derive(Clone, Copy)]
enum Fate {
    Nothing,
    Everything,
    Prefix,
    Selection,
    Single,
}

impl Fate {
    fn draw(chance: &dyn Chance) -> Fate {
        match below(chance, 6) {
            0 => Fate::Nothing,
            1 => Fate::Everything,
            2 | 3 => Fate::Prefix,
            4 => Fate::Selection,
            _ => Fate::Single,
        }
    }
}

/// A number below `bound`.
pub(super) fn below(chance: &dyn Chance, bound: usize) -> usize {
    (chance.number() % bound.max(1) as u64) as usize
}

/// The files, by name, and the folders of one disk that a power cut could leave.
pub(super) fn draw(state: &State, chance: &dyn Chance) -> (BTreeMap<PathBuf, Image>, BTreeSet<PathBuf>) {
    let shared = Fate::draw(chance);
    let is_shared = below(chance, 3) == 0;
    let mut names = state.durable_names.clone();
    for changes in state.name_changes.values() {
        let kept = match (is_shared, shared) {
            (true, Fate::Nothing) => 0,
            (true, Fate::Everything) => changes.len(),
            _ => below(chance, changes.len() + 1),
        };
        rename_all(&mut names, &changes[..kept]);
    }
    let lost: Vec<&PathBuf> =
        state.folders.difference(&state.durable_folders).filter(|_| below(chance, 2) == 0).collect();
    let is_lost = |path: &Path| lost.iter().any(|folder| path.starts_with(folder));
    let folders = state.folders.iter().filter(|folder| !is_lost(folder)).cloned().collect();
    let mut images = BTreeMap::new();
    for (path, number) in names {
        if is_lost(&path) {
            continue;
        }
        let Some(file) = state.files.get(&number) else { continue };
        let mut image = file.durable.clone();
        let fate = if is_shared { shared } else { Fate::draw(chance) };
        keep_some(&mut image, &file.changes, fate, chance);
        images.insert(path, image);
    }
    (images, folders)
}

/// Makes changes of names.
pub(super) fn rename_all(names: &mut Names, changes: &[NameChange]) {
    for change in changes {
        match change {
            NameChange::Add(path, number) => {
                names.insert(path.clone(), *number);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
        }
    }
}

fn keep_some(image: &mut Image, changes: &[Change], fate: Fate, chance: &dyn Chance) {
    let at = below(chance, changes.len() + 1);
    match fate {
        Fate::Nothing => {}
        Fate::Everything => changes.iter().for_each(|change| change.apply(image)),
        Fate::Prefix => {
            changes[..at].iter().for_each(|change| change.apply(image));
            if let Some(last) = changes.get(at) {
                tear(image, last, chance);
            }
        }
        Fate::Selection => {
            for change in changes {
                match below(chance, 4) {
                    0 => {}
                    1 => tear(image, change, chance),
                    _ => change.apply(image),
                }
            }
        }
        Fate::Single => {
            if let Some(change) = changes.get(at) {
                change.apply(image);
            }
        }
    }
}

fn tear(image: &mut Image, change: &Change, chance: &dyn Chance) {
    let (offset, bytes) = match change {
        Change::Write { offset, bytes } => (offset, bytes),
        Change::Punch { offset, length } => return punch_some(image, *offset, *length, chance.number()),
        Change::SetLength(_) => return change.apply(image),
    };
    let unit = [1, 512, 4096][below(chance, 3)];
    if unit > 1 && below(chance, 2) == 0 {
        // Some sectors or pages arrived, others did not.
        for (number, part) in bytes.chunks(unit).enumerate() {
            if below(chance, 2) == 0 {
                image.write(offset + (number * unit) as u64, part);
            }
        }
        return;
    }
    let length = below(chance, bytes.len() / unit + 1) * unit;
    if length > 0 {
        image.write(*offset, &bytes[..length]);
    }
}

/// Gives back those pages of a range of which the bit is set; bits repeat after 64.
pub(super) fn punch_some(image: &mut Image, offset: u64, length: u64, bits: u64) {
    for (number, part) in (0..length).step_by(4096).enumerate() {
        if bits >> (number % 64) & 1 == 1 {
            image.punch(offset + part, (length - part).min(4096));
        }
    }
}

/// FNV-1a, by Fowler, Noll and Vo.
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.0
    }
}
