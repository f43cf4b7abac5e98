//! One moment of a disk, and all that a power cut could leave of it.
//!
//! `cut.rs` draws lots; this enumerates. At a moment some files have changes that no sync made durable, and
//! some folders have names that no sync did. What is left, file by file, is a list of changes that arrived, each whole
//! or in part:
//!
//! ```text
//!   changes since the sync    a   b   c   d
//!   prefix                    a   b   ·   ·      for every length
//!   single                    ·   ·   c   ·      for every change
//!   torn                      a   b   c'  ·      at bytes, at every sector, at every page, or some sectors of it
//!   half punched              a   b   c'  ·      some pages of a range that was given back
//!   selection                 a   ·   c'  d      drawn
//! ```
//!
//! each once while the other files keep nothing and once while they keep all. Pages are shared with the disk that was
//! watched, so that an image costs no more than its lists of pages.
//!
//! Most of what a moment could leave, an earlier one could leave as well. [`Moment::identity`] is the same for both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tidemill_core::seams::Chance;

use super::cut::{self, below};
use super::{Change, Contents, FileNumber, NameChange, Names, SimDisk};

/// What kind of image a power cut left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing that was not synced.
    Nothing,
    /// Everything.
    Everything,
    /// The first changes of one file.
    Prefix,
    /// One change of one file, and not those before it.
    Single,
    /// The last change that arrived was cut off at a byte.
    TornAtByte,
    /// It was cut off at a sector, or only some of its sectors arrived.
    TornAtSector,
    /// It was cut off at a page, or only some of its pages arrived.
    TornAtPage,
    /// Of a range that was given back, some pages are there still.
    HalfPunched,
    /// Some changes of every file, whole or torn.
    Selection,
    /// The first changes of a folder's names.
    Names,
}

/// How much of a change arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// So many bytes.
    First(usize),
    /// Of its sectors or pages, those whose bit is set (bits repeat after 64).
    Units(usize, u64),
}

/// What arrived of a file's changes, in order.
type Kept = Vec<(usize, Part)>;

/// One of the images that a moment could leave.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Its kind.
    pub kind: Kind,
    files: BTreeMap<FileNumber, Kept>,
    /// How many changes of each folder's names arrived.
    names: BTreeMap<PathBuf, usize>,
    /// Folders whose names were not synced, and are gone.
    lost_folders: bool,
}

/// A disk as it was at a moment. Cheap to make and to keep.
#[derive(Clone)]
pub struct Moment {
    files: BTreeMap<FileNumber, Contents>,
    durable_names: Names,
    name_changes: BTreeMap<PathBuf, Vec<NameChange>>,
    folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
}

impl SimDisk {
    /// What it is now, to enumerate what a power cut could leave of it.
    pub fn moment(&self) -> Moment {
        let state = self.state.lock();
        Moment {
            files: state.files.iter().map(|(number, file)| (*number, file.unseen())).collect(),
            durable_names: state.durable_names.clone(),
            name_changes: state.name_changes.clone(),
            folders: state.folders.clone(),
            durable_folders: state.durable_folders.clone(),
        }
    }
}

impl Moment {
    /// The images that a power cut could leave: every one of the plain kinds, and some that are drawn.
    pub fn choices(&self, chance: &dyn Chance) -> Vec<Choice> {
        let mut choices = vec![self.all_or_none(Kind::Nothing), self.all_or_none(Kind::Everything)];
        let pending = || self.files.iter().filter(|(_, file)| !file.changes.is_empty());
        let is_alone =
            pending().count() + self.name_changes.values().filter(|names| !names.is_empty()).count() == 1;
        for others in [Kind::Nothing, Kind::Everything] {
            if others == Kind::Everything && is_alone {
                break;
            }
            for (number, file) in pending() {
                let mut add = |kind, kept| {
                    let mut choice = Choice { kind, ..self.all_or_none(others) };
                    choice.files.insert(*number, kept);
                    choices.push(choice);
                };
                for at in 0..file.changes.len() {
                    let before: Kept = (0..at).map(|at| (at, Part::Whole)).collect();
                    if at > 0 {
                        add(Kind::Prefix, before.clone());
                        add(Kind::Single, vec![(at, Part::Whole)]);
                    }
                    for (kind, part) in tears(&file.changes[at], chance) {
                        let mut kept = before.clone();
                        kept.push((at, part));
                        add(kind, kept);
                    }
                }
            }
            for (folder, changes) in &self.name_changes {
                for kept in 0..=changes.len() {
                    let mut choice = Choice { kind: Kind::Names, ..self.all_or_none(others) };
                    choice.names.insert(folder.clone(), kept);
                    choices.push(choice);
                }
            }
        }
        if self.folders != self.durable_folders {
            let lost_folders = true;
            choices.push(Choice { kind: Kind::Names, lost_folders, ..self.all_or_none(Kind::Nothing) });
        }
        let drawn = pending().map(|(_, file)| file.changes.len()).sum::<usize>().min(6);
        choices.extend((0..drawn).map(|_| self.selection(chance)));
        choices
    }

    /// The disk that is left.
    pub fn disk(&self, choice: &Choice) -> SimDisk {
        let names = self.names(choice);
        let mut images = BTreeMap::new();
        for (path, number) in names {
            let Some(file) = self.files.get(&number) else { continue };
            let mut image = file.durable.clone();
            for (at, part) in choice.files.get(&number).into_iter().flatten() {
                let Some(change) = file.changes.get(*at) else { continue };
                apply(change, *part, &mut image);
            }
            images.insert(path, image);
        }
        let folders = if choice.lost_folders { &self.durable_folders } else { &self.folders };
        SimDisk::holding(images, folders.clone())
    }

    /// A number that is the same for the same disk left, also by another moment of the same life.
    pub fn identity(&self, choice: &Choice) -> u64 {
        let mut hash = cut::Fnv::default();
        hash.mix(&[u8::from(choice.lost_folders)]);
        for (path, number) in self.names(choice) {
            let Some(file) = self.files.get(&number) else { continue };
            hash.mix(path.as_os_str().as_encoded_bytes());
            hash.mix(&number.to_be_bytes());
            let kept = choice.files.get(&number).map_or(&[][..], Vec::as_slice);
            let is_next = |(place, (at, part)): &(usize, &(usize, Part))| place == at && *part == Part::Whole;
            let whole = kept.iter().enumerate().take_while(is_next).count();
            hash.mix(&(file.synced + whole as u64).to_be_bytes());
            for (at, part) in &kept[whole..] {
                hash.mix(&(file.synced + *at as u64).to_be_bytes());
                let (tag, one, two) = match part {
                    Part::Whole => (0, 0, 0),
                    Part::First(bytes) => (1, *bytes as u64, 0),
                    Part::Units(unit, bits) => (2, *unit as u64, *bits),
                };
                [tag, one, two].iter().for_each(|number: &u64| hash.mix(&number.to_be_bytes()));
            }
        }
        hash.sum()
    }

    fn names(&self, choice: &Choice) -> Names {
        let mut names = self.durable_names.clone();
        for (folder, changes) in &self.name_changes {
            let kept = choice.names.get(folder).copied().unwrap_or(0);
            cut::rename_all(&mut names, &changes[..kept]);
        }
        if choice.lost_folders {
            names.retain(|path, _| path.parent().is_none_or(|folder| self.durable_folders.contains(folder)));
        }
        names
    }

    fn all_or_none(&self, kind: Kind) -> Choice {
        let (mut files, mut names) = (BTreeMap::new(), BTreeMap::new());
        if kind == Kind::Everything {
            let all = |file: &Contents| (0..file.changes.len()).map(|at| (at, Part::Whole)).collect();
            files = self.files.iter().map(|(number, file)| (*number, all(file))).collect();
            names =
                self.name_changes.iter().map(|(folder, changes)| (folder.clone(), changes.len())).collect();
        }
        Choice { kind, files, names, lost_folders: false }
    }

    fn selection(&self, chance: &dyn Chance) -> Choice {
        let mut choice = self.all_or_none(Kind::Nothing);
        choice.kind = Kind::Selection;
        for (number, file) in &self.files {
            for (at, change) in file.changes.iter().enumerate() {
                let part = match below(chance, 4) {
                    0 => continue,
                    1 => {
                        let torn = tears(change, chance);
                        match torn.len() {
                            0 => Part::Whole,
                            some => torn[below(chance, some)].1,
                        }
                    }
                    _ => Part::Whole,
                };
                choice.files.entry(*number).or_default().push((at, part));
            }
        }
        for (folder, changes) in &self.name_changes {
            choice.names.insert(folder.clone(), below(chance, changes.len() + 1));
        }
        choice
    }
}

/// The ways in which a change is torn that are tried.
fn tears(change: &Change, chance: &dyn Chance) -> Vec<(Kind, Part)> {
    let bytes = match change {
        Change::Write { bytes, .. } => bytes,
        Change::Punch { length, .. } if *length > 4096 => {
            let some = [1, chance.number(), chance.number()];
            return some.map(|bits| (Kind::HalfPunched, Part::Units(4096, bits))).into();
        }
        Change::Punch { .. } | Change::SetLength(_) => return Vec::new(),
    };
    let length = bytes.len();
    let mut tears = Vec::new();
    let cuts = BTreeSet::from([1, 1 + below(chance, length), length.saturating_sub(1)]);
    tears.extend(
        cuts.into_iter()
            .filter(|cut| (1..length).contains(cut))
            .map(|cut| (Kind::TornAtByte, Part::First(cut))),
    );
    for (kind, unit) in [(Kind::TornAtSector, 512), (Kind::TornAtPage, 4096)] {
        let cuts = (unit..length).step_by(unit);
        // Of a long write, some.
        let step = 1 + cuts.len() / 8;
        tears.extend(cuts.step_by(step).map(|cut| (kind, Part::First(cut))));
        if length > unit {
            tears.push((kind, Part::Units(unit, chance.number())));
        }
    }
    tears
}

fn apply(change: &Change, part: Part, image: &mut super::image::Image) {
    let (offset, bytes) = match (change, part) {
        (_, Part::Whole) | (Change::SetLength(_), _) => return change.apply(image),
        (Change::Punch { offset, length }, Part::Units(_, bits)) => {
            return cut::punch_some(image, *offset, *length, bits);
        }
        (Change::Punch { .. }, Part::First(_)) => return,
        (Change::Write { offset, bytes }, _) => (offset, bytes),
    };
    match part {
        Part::Whole => unreachable!("it was applied"),
        Part::First(length) => image.write(*offset, &bytes[..length]),
        Part::Units(unit, bits) => {
            for (number, piece) in bytes.chunks(unit).enumerate() {
                if bits >> (number % 64) & 1 == 1 {
                    image.write(offset + (number * unit) as u64, piece);
                }
            }
        }
    }
}
