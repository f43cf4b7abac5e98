//! The names of things: ids, offsets, sequence numbers. No bare integer crosses an API.

use std::fmt;

/// The id of a topic for its whole life. A topic deleted and made again is another topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

impl std::str::FromStr for TopicId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        let mut id = [0; 16];
        // A sign is no digit, though the parser of numbers takes one.
        if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(NameError::TopicId(text.to_owned()));
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            let hex = std::str::from_utf8(pair).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
            *byte = hex.ok_or_else(|| NameError::TopicId(text.to_owned()))?;
        }
        Ok(TopicId(id))
    }
}

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a legal topic name: Kafka's rule, 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
    #[error("{0:?} is no topic name: use 1 to 249 of the characters a-z A-Z 0-9 . _ -")]
    Topic(String),
    /// Not a topic id: 32 hexadecimal digits, hyphens allowed.
    #[error("{0:?} is no topic id")]
    TopicId(String),
}

/// A topic's name within its tenant, checked by Kafka's rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(String);

impl TopicName {
    /// The longest legal name, in bytes.
    pub const BYTES_MAX: usize = 249;

    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError::Topic`] when Kafka would refuse it too.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = (1..=Self::BYTES_MAX).contains(&name.len()) && name.bytes().all(legal);
        if fits && name != "." && name != ".." { Ok(TopicName(name)) } else { Err(NameError::Topic(name)) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The number of a partition within its topic, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partition(pub u32);

/// A record's place in its partition, from 0, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset `records` further on.
    pub fn plus(self, records: u64) -> Offset {
        Offset(self.0 + records)
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number within it.
    pub partition: Partition,
}

/// The public name of a record, for ever: lineage and tools use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The partition that holds the record.
    pub at: TopicPartition,
    /// Its offset there.
    pub offset: Offset,
}

/// Who produced a batch, for idempotence. Kafka's producer id; negative means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// A batch without idempotence.
    pub const NONE: ProducerId = ProducerId(-1);
    /// Set in the id of a producer that may have [`WINDOW_WIDE`] batches in flight.
    pub const WIDE_BIT: i64 = 1 << 48;

    /// How many of its last batches per partition a broker recognises when they are sent again.
    pub fn window(self) -> u32 {
        if self.0 & Self::WIDE_BIT != 0 { WINDOW_WIDE } else { WINDOW_KAFKA }
    }

    /// Whether this is an idempotent producer at all.
    pub fn is_some(self) -> bool {
        self.0 >= 0
    }
}

/// Batches that Kafka's own clients may have in flight with idempotence on.
pub const WINDOW_KAFKA: u32 = 5;
/// Batches that our client may have in flight; it asks for this window in `InitProducerId`.
pub const WINDOW_WIDE: u32 = 1_024;

/// The incarnation of a producer id; a higher one fences the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

/// The number of a record within (producer id, epoch, partition). Wraps from `i32::MAX` to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub i32);

impl Sequence {
    /// A batch without a sequence.
    pub const NONE: Sequence = Sequence(-1);

    /// The sequence `records` further on.
    pub fn plus(self, records: u32) -> Sequence {
        let modulus = i64::from(i32::MAX) + 1;
        let next = (i64::from(self.0) + i64::from(records)) % modulus;
        Sequence(i32::try_from(next).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_as_kafkas_do() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(7).plus(0), Sequence(7));
    }

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for good in ["a", "orders.v1", "A_b-9"] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "é", "a b", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn topic_ids_are_read_as_they_are_written() {
        let id = TopicId(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("0123".parse::<TopicId>().is_err());
        assert!("+1".repeat(16).parse::<TopicId>().is_err());
    }
}
