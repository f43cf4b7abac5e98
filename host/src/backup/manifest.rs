//! What a backup consists of: JSON, and behind it a line with the BLAKE3 of that, so that a bit that was flipped in it
//! is noticed.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use tidemill_core::fault::Fault;
use tidemill_core::ids::BrokerId;

/// The newest format of backups that this program knows.
pub const FORMAT: u32 = 1;

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// The format of the backup.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// The program that made it.
    pub made_by: String,
    /// When its cut was taken, in milliseconds since 1970.
    pub taken_at_ms: u64,
    /// The layout of the data folder that comes of it.
    pub folder_version: u32,
    /// The cluster.
    pub cluster: String,
    /// The broker.
    pub broker: BrokerId,
    /// The data folder that was copied: see [`Identity`](crate::identity::Identity).
    pub incarnation: String,
    /// How far each group goes.
    pub groups: Vec<Cut>,
    /// All files.
    pub files: Vec<File>,
}

/// How far a group goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cut {
    /// The name of its folder.
    pub group: String,
    /// The term of its last entry.
    pub term: u64,
    /// The index of its last entry.
    pub index: u64,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    /// Where it lies in the data folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// The BLAKE3 of it: its name in the backups' folder.
    pub digest: String,
    /// What it ends with, if it is a sealed segment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sealed: Option<Sealed>,
}

/// What a sealed segment ends with: with its path, and of one data folder, that says which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sealed {
    /// The term of its last entry.
    pub term: u64,
    /// The index of that.
    pub index: u64,
    /// Its last turn.
    pub turn: u64,
}

impl Manifest {
    /// Its file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(format!("\n{digest}\n").as_bytes());
        bytes
    }

    /// Reads its file; `what` names it.
    ///
    /// # Errors
    /// [`Fault::Damaged`] when it is not what was written, [`Fault::Newer`] when a newer program wrote it.
    pub fn decode(bytes: &[u8], what: &str) -> Result<Manifest, Fault> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |why: &dyn std::fmt::Display| Fault::damaged(what, why);
        let (text, digest) = bytes
            .strip_suffix(b"\n")
            .and_then(|rest| rest.iter().rposition(|byte| *byte == b'\n').map(|at| rest.split_at(at)))
            .ok_or_else(|| damaged(&"it is cut short"))?;
        if blake3::hash(text).to_hex().as_bytes() != &digest[1..] {
            return Err(damaged(&"its checksum does not hold"));
        }
        let found = serde_json::from_slice::<Format>(text).map_err(|error| damaged(&error))?.format;
        if found > FORMAT {
            return Err(Fault::Newer { what: what.to_owned(), found, known: FORMAT });
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(|error| damaged(&error))?;
        if let Some(file) =
            manifest.files.iter().find(|file| !is_within(&file.path) || !is_digest(&file.digest))
        {
            return Err(damaged(&format!(
                "it names a file {:?} with the digest {:?}",
                file.path, file.digest
            )));
        }
        Ok(manifest)
    }

    /// What its files take together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Whether a path stays in the folder that it is put into.
fn is_within(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Whether this is how digests are written.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 2 * blake3::OUT_LEN && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            name: "monday".into(),
            made_by: "0.1.0".into(),
            taken_at_ms: 7,
            folder_version: 1,
            cluster: "c".into(),
            broker: BrokerId(1),
            incarnation: "i".into(),
            groups: vec![Cut { group: "catalog".into(), term: 1, index: 2 }],
            files: vec![File {
                path: "catalog/segment-00000001.redb".into(),
                bytes: 9,
                digest: blake3::hash(b"").to_string(),
                sealed: Some(Sealed { term: 1, index: 2, turn: 3 }),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_and_any_other_byte_is_noticed() {
        let bytes = manifest().encode();
        assert_eq!(Manifest::decode(&bytes, "it"), Ok(manifest()));
        for at in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..at], "it").is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(Manifest::decode(&flipped, "it").is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn a_newer_one_says_so_and_a_path_that_leads_out_is_refused() {
        let newer = Manifest { format: FORMAT + 1, ..manifest() };
        assert!(matches!(
            Manifest::decode(&newer.encode(), "it"),
            Err(Fault::Newer { found: 2, known: 1, .. })
        ));
        for path in ["../x", "/x", "a/../../x", ""] {
            let mut wrong = manifest();
            wrong.files[0].path = path.into();
            assert!(matches!(Manifest::decode(&wrong.encode(), "it"), Err(Fault::Damaged { .. })), "{path}");
        }
    }
}
