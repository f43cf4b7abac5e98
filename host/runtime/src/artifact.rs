//! Machine code, and the seal under which it is kept.
//!
//! wasmtime runs whatever machine code it is given: loading it is an act of trust, and the only unsafe one here. An
//! [`Artifact`] stands for that trust. There are two ways to one: out of the compiler, or out of a [`Sealer`] that
//! finds its own seal on the bytes.
//!
//! ```text
//!  0      4         6               38                 70     102
//! ┌──────┬─────────┬───────────────┬──────────────────┬──────┬─────────────
//! │ TMAC │ version │ compatibility │ component digest │ seal │ machine code
//! └──────┴─────────┴───────────────┴──────────────────┴──────┴─────────────
//! seal = keyed BLAKE3 of all the rest, in this order
//! ```
//!
//! The compatibility is a hash of what the engine says machine code depends on, its own version included. So an
//! artifact of another version is found out to be stale, which is no damage: the component is compiled again.

use std::hash::{Hash, Hasher};

use bytes::{BufMut, Bytes, BytesMut};
use tidemill_core::ids::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine::Runtime;

const MAGIC: [u8; 4] = *b"TMAC";
const VERSION: u16 = 1;
const COMPATIBILITY_AT: usize = 6;
const DIGEST_AT: usize = 38;
const SEAL_AT: usize = 70;
const CODE_AT: usize = 102;

/// Machine code that may be run: this process, or one that had the same key, got it from its compiler.
#[derive(Clone)]
pub struct Artifact(Bytes);

impl Artifact {
    /// Vouches for `code`. Only for what has just come out of a compiler.
    pub(crate) fn vouched(code: Bytes) -> Artifact {
        Artifact(code)
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The machine code, in memory that can be run.
    #[allow(unsafe_code)]
    pub(crate) fn instate(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are what wasmtime's own `precompile_component` returned. An `Artifact` is made nowhere
        // but behind a compiler and behind a matching seal, and its bytes cannot be changed. That it fits this
        // engine is checked by wasmtime.
        unsafe { Component::deserialize(engine, &self.0) }
    }

    /// The machine code as it goes through a pipe.
    pub(crate) fn code(&self) -> &Bytes {
        &self.0
    }
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Artifact({} bytes)", self.size())
    }
}

/// Why sealed bytes are no artifact. In every case the component is to be compiled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Made by another version of this format or of the engine, or with other options. Nothing is wrong.
    #[error("made for another engine")]
    Stale,
    /// Made from another component.
    #[error("made from another component")]
    OtherComponent,
    /// Not what was sealed, or not with this key.
    #[error("the seal does not match: damaged, or not sealed by this broker")]
    Broken,
}

/// Seals artifacts, and knows them again.
#[derive(Clone)]
pub struct Sealer {
    key: [u8; 32],
    compatibility: [u8; 32],
}

impl Runtime {
    /// A sealer for artifacts of this runtime. Whoever has `key` can make this broker run any machine code: it is
    /// to be random, and readable by the broker alone.
    pub fn sealer(&self, key: [u8; 32]) -> Sealer {
        let mut hasher = StableHasher(blake3::Hasher::new());
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        Sealer { key, compatibility: hasher.0.finalize().into() }
    }
}

impl Sealer {
    /// The bytes to keep of an artifact that was made from the component with this digest.
    pub fn seal(&self, digest: Digest, artifact: &Artifact) -> Bytes {
        let mut sealed = BytesMut::with_capacity(CODE_AT + artifact.size());
        sealed.put_slice(&MAGIC);
        sealed.put_u16(VERSION);
        sealed.put_slice(&self.compatibility);
        sealed.put_slice(&digest.0);
        let seal = self.seal_of(&sealed, &artifact.0);
        sealed.put_slice(seal.as_bytes());
        sealed.put_slice(&artifact.0);
        sealed.freeze()
    }

    /// The artifact in bytes that were sealed for the component with this digest.
    ///
    /// # Errors
    /// [`SealError`]. The seal is looked at last, and decides alone.
    pub fn open(&self, digest: Digest, sealed: &Bytes) -> Result<Artifact, SealError> {
        if sealed.len() < CODE_AT || sealed[..4] != MAGIC {
            return Err(SealError::Broken);
        }
        if sealed[4..COMPATIBILITY_AT] != VERSION.to_be_bytes()
            || sealed[COMPATIBILITY_AT..DIGEST_AT] != self.compatibility
        {
            return Err(SealError::Stale);
        }
        if sealed[DIGEST_AT..SEAL_AT] != digest.0 {
            return Err(SealError::OtherComponent);
        }
        // Comparing these hashes takes the same time wherever they differ.
        let seal: [u8; 32] = sealed[SEAL_AT..CODE_AT].try_into().expect("32 bytes");
        if self.seal_of(&sealed[..SEAL_AT], &sealed[CODE_AT..]) != blake3::Hash::from(seal) {
            return Err(SealError::Broken);
        }
        Ok(Artifact(sealed.slice(CODE_AT..)))
    }

    fn seal_of(&self, head: &[u8], code: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(head).update(code).finalize()
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

/// Hashes alike in every process, unlike the standard library's own hasher.
struct StableHasher(blake3::Hasher);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes"))
    }
}
