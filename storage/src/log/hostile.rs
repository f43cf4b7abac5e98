//! What must hold of any bytes that are read as part of a log: no panic, and what is read is written and read alike.
//!
//! For the crate `hostile`, which runs these on its corpus and under a fuzzer; nothing of a broker calls them. Checksums are
//! made to hold first, or nobody would come behind them.

use std::path::Path;

use bytes::Bytes;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::ids::Offset;

use super::directory::Listed;
use super::segment::{Birth, Seal};
use super::{chunk, frame, gone, mark, promises, spans};

/// A chunk. Its entries are read, too.
pub fn chunk(bytes: &[u8]) {
    let _ = frame::parse(Bytes::copy_from_slice(bytes), String::new);
    let Ok(frame) = frame::parse(chunk::resealed(bytes), String::new) else { return };
    // What lies apart may be anything: as if it were gone.
    let Ok(read) = frame.chunk(&[], |_| true, String::new) else { return };
    let draft = chunk::Draft::new(&read.entries, read.turn, read.committed);
    let again = draft.read().expect("what is written is read");
    assert_eq!((again.turn, again.committed, &again.entries), (read.turn, read.committed, &read.entries));
    assert!(read.entries.len() <= bytes.len() && read.entries[0].id.index <= LogIndex(u64::MAX));
}

/// A row of an index: the first 28 bytes are its key.
pub fn span(bytes: &[u8]) {
    let (key, row) = bytes.split_at(bytes.len().min(28));
    let _ = spans::decode_row(&[], key, row);
    let row = spans::resealed(key, row);
    let Ok((at, span)) = spans::decode_row(&[], key, &row) else { return };
    let written = span.encode(&spans::key(&[], at, span.base));
    assert_eq!(spans::decode_row(&[], key, &written), Ok((at, span)));
    let _ = (span.bytes_below(Offset(u64::MAX)), span.bytes_below(Offset(0)), span.is_gone());
}

/// What a segment says of itself, and what the directory says of it.
pub fn segment(bytes: &[u8]) {
    if let Ok(birth) = Birth::decode(bytes.to_vec()) {
        assert_eq!(Birth::decode(birth.encode().to_vec()), Ok(birth));
    }
    if let Ok(seal) = Seal::decode(bytes.to_vec()) {
        assert_eq!(Seal::decode(seal.encode().to_vec()), Ok(seal));
    }
    if let Ok(listed) = Listed::decode(7, Bytes::copy_from_slice(bytes)) {
        assert_eq!(Listed::decode(7, listed.encode()), Ok(listed));
    }
}

/// Votes, marks, and whatever else a replica has promised.
pub fn promise(bytes: &[u8]) {
    promises::reread(&Bytes::copy_from_slice(bytes));
    gone::reread(bytes);
    let _ = mark::read(mark::resealed(bytes), Path::new("turn.mark"));
}
