//! The file formats that boards, artifacts and the verdict share.

use sha2::{Digest, Sha256};

pub mod tree;

/// sha256 of `bytes`, in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
