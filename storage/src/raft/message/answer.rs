//! What a replica answers.
//!
//! ```text
//! 1 appended          up to: id
//! 2 conflict
//! 3 higher vote       vote
//! 4 voted             vote · granted u8 · last id
//! 5 have              records: there u8 · first index u64 · last id; after: there u8 · key, behind a length u32
//! 6 done
//! 7 installed         vote
//! 8 refused           why, behind a length u32
//! 9 malformed
//! ```

use bytes::Bytes;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::parts::{read_flag, read_vote, write_vote};
use super::{begin, check, leave_room, seal};
use crate::log::{LogId, Vote};
use crate::raft::standing::{read_id, write_id};

/// What a replica answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The entries up to this one are there, durably.
    Appended(Option<LogId>),
    /// There is another entry, or none, where the one before them should be.
    Conflict,
    /// Somebody has a higher vote.
    HigherVote(Vote),
    /// To a vote.
    Voted {
        /// The voter's vote.
        vote: Vote,
        /// Whether it is granted.
        granted: bool,
        /// The voter's last entry.
        last: Option<LogId>,
    },
    /// What is there of a snapshot.
    Have {
        /// The first record that is there, and the last.
        records: Option<(LogIndex, LogId)>,
        /// The last key that is there.
        after: Option<Bytes>,
    },
    /// Done.
    Done,
    /// The snapshot is installed, or was not needed. With the vote of whoever did it.
    Installed(Vote),
    /// Not done; trying again may help.
    Refused(String),
    /// The ask was none.
    Malformed,
}

impl Answer {
    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.u8(super::VERSION).u8(self.kind());
        let checksum = leave_room(&mut w);
        match self {
            Answer::Appended(last) => write_id(&mut w, *last),
            Answer::HigherVote(vote) | Answer::Installed(vote) => write_vote(&mut w, *vote),
            Answer::Voted { vote, granted, last } => {
                write_vote(&mut w, *vote);
                w.u8((*granted).into());
                write_id(&mut w, *last);
            }
            Answer::Have { records, after } => {
                let (first, last) = records.unzip();
                w.u8(first.is_some().into()).u64(first.unwrap_or_default().0);
                write_id(&mut w, last);
                w.u8(after.is_some().into()).blob(after.as_deref().unwrap_or_default());
            }
            Answer::Refused(why) => {
                w.text(why);
            }
            Answer::Conflict | Answer::Done | Answer::Malformed => {}
        }
        seal(w, checksum)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`] when it is no answer.
    pub fn decode(message: &Bytes) -> Result<Answer, Malformed> {
        let mut reader = Reader::new(message.clone());
        let r = &mut reader;
        let kind = begin(r)?;
        check(r, message)?;
        let answer = match kind {
            1 => Answer::Appended(read_id(r)?),
            2 => Answer::Conflict,
            3 => Answer::HigherVote(read_vote(r)?),
            4 => Answer::Voted { vote: read_vote(r)?, granted: read_flag(r, "granted")?, last: read_id(r)? },
            5 => read_have(r)?,
            6 => Answer::Done,
            7 => Answer::Installed(read_vote(r)?),
            8 => Answer::Refused(r.text("why")?),
            9 => Answer::Malformed,
            _ => return Err(Malformed { what: "kind", at: 1 }),
        };
        reader.finish("answer")?;
        Ok(answer)
    }

    fn kind(&self) -> u8 {
        match self {
            Answer::Appended(_) => 1,
            Answer::Conflict => 2,
            Answer::HigherVote(_) => 3,
            Answer::Voted { .. } => 4,
            Answer::Have { .. } => 5,
            Answer::Done => 6,
            Answer::Installed(_) => 7,
            Answer::Refused(_) => 8,
            Answer::Malformed => 9,
        }
    }
}

fn read_have(r: &mut Reader) -> Result<Answer, Malformed> {
    let is_there = read_flag(r, "records")?;
    let (first, last) = (LogIndex(r.u64("first")?), read_id(r)?);
    let records = match (is_there, last) {
        (false, None) => None,
        (true, Some(last)) if first <= last.index => Some((first, last)),
        _ => return Err(r.malformed("records")),
    };
    let is_there = read_flag(r, "after")?;
    let after = Some(r.blob("after")?).filter(|_| is_there);
    Ok(Answer::Have { records, after })
}
