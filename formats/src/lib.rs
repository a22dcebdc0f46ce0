//! The file formats that boards, artifacts and the verdict share.
//!
//! Everything here reads bytes that came over a network from the software under test, so no
//! reader panics, whatever it is given, and none unpacks without a limit. The writers are
//! reproducible: the same input gives the same bytes.

use md5::Md5;
use sha2::{Digest, Sha256, Sha512};

pub mod android;
pub mod compress;
pub mod cpio;
pub mod disk;
pub mod ext;
pub mod fat;
pub mod fdt;
pub mod fit;
pub mod grub;
pub mod imx;
pub mod initramfs;
pub mod iso;
pub mod kernel;
pub mod mbr;
pub mod mcu;
pub mod sparse;
pub mod tar;
pub mod tree;
pub mod uimage;

/// sha256 of `bytes`, in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// md5 of `bytes`, in hex. For comparing only: LAVA tells it of what it downloads.
#[must_use]
pub fn md5(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

/// sha512 of `bytes`, in hex.
#[must_use]
pub fn sha512(bytes: &[u8]) -> String {
    hex::encode(Sha512::digest(bytes))
}

/// The `N` bytes at `offset`, or nothing when `bytes` ends before.
#[must_use]
pub fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The big-endian 32-bit number at `offset`.
fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_be_bytes)
}

/// The little-endian 32-bit number at `offset`.
fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

/// The little-endian 64-bit number at `offset`.
fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

/// Rounds `offset` up to a multiple of `to`; what can't be represented stays as it is, which no
/// slice reaches.
fn align(offset: usize, to: usize) -> usize {
    offset.checked_next_multiple_of(to).unwrap_or(usize::MAX)
}

/// Where `needle` starts in `bytes`, from `from` on.
fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == first)?;
        if bytes.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}
