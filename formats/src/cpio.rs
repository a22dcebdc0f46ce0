//! cpio archives in the "newc" format, as the kernel's initramfs takes them.
//!
//! Format: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`. Member by
//! member they are read and written by the crate `cpio`, which does so without trust in their
//! lengths; what is an archive is said here, and what comes of its members in [`crate::initramfs`].

use std::io::{Read, Write};

use ::cpio::newc;

use crate::initramfs::{Initramfs, Member, Rootfs};
use crate::tree::{BadPath, MAX_CONTENT, NodeKind, Tree, normal_path};

pub(crate) const FILE_TYPE: u32 = 0o170_000;
pub(crate) const FIFO: u32 = 0o010_000;
pub(crate) const DIRECTORY: u32 = 0o040_000;
pub(crate) const REGULAR: u32 = 0o100_000;
pub(crate) const SYMLINK: u32 = 0o120_000;
const TRAILER: &str = "TRAILER!!!";

/// Why bytes are no cpio archive, or a tree can't be one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a member nor padding at this offset.
    #[error("no cpio member at offset {0}")]
    BadMagic(usize),
    /// The bytes end inside a member, or before the trailer.
    #[error("cpio archive ends early, at offset {0}")]
    Truncated(usize),
    /// A field is not a number, or a name is not text.
    #[error("broken cpio member at offset {offset}: {reason}")]
    BadMember {
        /// Where the member starts.
        offset: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The sum of a file's bytes is not what its member says (format 070702).
    #[error("wrong checksum of {0}")]
    BadChecksum(String),
    /// See [`BadPath`].
    #[error(transparent)]
    BadPath(#[from] BadPath),
    /// More content than [`MAX_CONTENT`], or a file of 4 GiB to write.
    #[error("too much to unpack or to pack: {0} bytes")]
    TooLarge(u64),
}

/// Reads an uncompressed initramfs: one archive or several, with zeros between and after.
///
/// As in the kernel, an archive that starts off a multiple of 4 is refused. The root directory
/// itself is left out of the tree.
///
/// # Errors
///
/// See [`Error`]; nothing is returned of a broken archive, though a kernel would keep what it
/// had unpacked.
pub fn parse(bytes: &[u8]) -> Result<Initramfs, Error> {
    let mut root = Rootfs::default();
    let mut content = 0u64;
    let mut offset = skip_zeros(bytes, 0);
    if offset == bytes.len() {
        return Err(Error::Truncated(offset));
    }
    while offset < bytes.len() {
        if !offset.is_multiple_of(4) {
            return Err(Error::BadMagic(offset));
        }
        offset = parse_archive(bytes, offset, &mut root, &mut content)?;
        root.end_archive();
        offset = skip_zeros(bytes, offset);
    }
    root.finish()
}

fn skip_zeros(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len())
}

/// Reads one archive, and returns the offset behind its trailer.
fn parse_archive(bytes: &[u8], start: usize, root: &mut Rootfs, content: &mut u64) -> Result<usize, Error> {
    let mut offset = start;
    loop {
        let mut rest = bytes.get(offset..).unwrap_or_default();
        match rest.get(..6) {
            Some(b"070701" | b"070702") => {}
            Some(_) => return Err(Error::BadMagic(offset)),
            None => return Err(Error::Truncated(offset)),
        }
        let member_error = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::Truncated(bytes.len()),
            _ => Error::BadMember { offset, reason: error.to_string() },
        };
        let mut reader = newc::Reader::new(&mut rest).map_err(member_error)?;
        let entry = reader.entry().clone();
        let mut data = Vec::new();
        reader.read_to_end(&mut data).map_err(member_error)?;
        if data.len() as u64 != u64::from(entry.file_size()) {
            return Err(Error::Truncated(bytes.len()));
        }
        if entry.is_trailer() {
            // Padding behind the very last member may be missing: nothing reads it.
            let _ = reader.finish();
            return Ok(bytes.len() - rest.len());
        }
        reader.finish().map_err(member_error)?;
        let sum = || data.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        if entry.checksum().is_some_and(|expected| expected != sum()) {
            return Err(Error::BadChecksum(entry.name().into()));
        }
        offset = bytes.len() - rest.len();

        *content = content.saturating_add(data.len() as u64);
        if *content > MAX_CONTENT {
            return Err(Error::TooLarge(*content));
        }
        if entry.mode() & FILE_TYPE == SYMLINK
            && let Err(error) = std::str::from_utf8(&data)
        {
            return Err(Error::BadMember { offset, reason: error.to_string() });
        }
        let member = Member {
            path: normal_path(entry.name())?,
            mode: entry.mode(),
            uid: entry.uid(),
            gid: entry.gid(),
            nlink: entry.nlink(),
            inode: (entry.dev_major(), entry.dev_minor(), entry.ino()),
        };
        root.add(&member, data);
    }
}

/// Writes `tree` as one archive, its nodes in their order, all times zero, inodes counted up.
///
/// A [`NodeKind::Special`] becomes a FIFO, since a tree does not keep device numbers.
///
/// # Errors
///
/// [`Error::BadPath`] when a node's path is not as [`Node::path`] wants it or could be taken for
/// the trailer, [`Error::TooLarge`] for a file of 4 GiB or more.
pub fn write(tree: &Tree) -> Result<Vec<u8>, Error> {
    let mut archive = Vec::new();
    let broken = |error: std::io::Error| Error::BadMember { offset: 0, reason: error.to_string() };
    for (index, node) in tree.nodes.iter().enumerate() {
        if node.path.is_empty() || node.path == TRAILER || normal_path(&node.path)? != node.path {
            return Err(BadPath(node.path.clone()).into());
        }
        let (file_type, data): (u32, &[u8]) = match &node.kind {
            NodeKind::File(bytes) => (REGULAR, bytes),
            NodeKind::Directory => (DIRECTORY, &[]),
            NodeKind::Symlink(target) => (SYMLINK, target.as_bytes()),
            NodeKind::Special => (FIFO, &[]),
        };
        let size = u32::try_from(data.len()).map_err(|_| Error::TooLarge(data.len() as u64))?;
        let mut member = newc::Builder::new(&node.path)
            .ino(u32::try_from(index + 1).map_err(|_| Error::TooLarge(index as u64))?)
            .mode(file_type | (node.mode & 0o7777))
            .uid(node.uid)
            .gid(node.gid)
            .nlink(if node.kind == NodeKind::Directory { 2 } else { 1 })
            .write(&mut archive, size);
        member.write_all(data).map_err(broken)?;
        member.finish().map_err(broken)?;
    }
    newc::trailer(&mut archive).map_err(broken)?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::any::tree;

    fn parsed(bytes: &[u8]) -> Result<Tree, Error> {
        parse(bytes).map(|initramfs| initramfs.tree)
    }

    fn small() -> Tree {
        let mut tree = Tree::default();
        tree.directory("bin");
        tree.file("bin/busybox", 0o755, "elf");
        tree.symlink("bin/sh", "busybox");
        tree
    }

    fn linked(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = newc::Builder::new(name).ino(7).nlink(3).mode(REGULAR | 0o644);
        let mut member = builder.write(&mut bytes, data.len() as u32);
        member.write_all(data).unwrap();
        member.finish().unwrap();
        bytes
    }

    fn trailer() -> Vec<u8> {
        newc::trailer(Vec::new()).unwrap()
    }

    #[test]
    fn a_second_archive_after_zeros_is_laid_over_the_first() {
        let mut bytes = write(&small()).unwrap();
        bytes.resize(crate::align(bytes.len(), 512), 0);
        let mut overlay = Tree::default();
        overlay.file("bin/busybox", 0o700, "other");
        bytes.extend(write(&overlay).unwrap());
        let tree = parsed(&bytes).unwrap();
        assert_eq!(tree.nodes.len(), 3);
        assert_eq!(tree.get("bin/busybox").unwrap().kind, NodeKind::File(b"other".to_vec()));
    }

    #[test]
    fn all_hard_links_have_the_content_that_came_with_the_last() {
        let bytes = [linked("a", b""), linked("b", b""), linked("c", b"content"), trailer()].concat();
        let tree = parsed(&bytes).unwrap();
        for node in &tree.nodes {
            assert_eq!(node.kind, NodeKind::File(b"content".to_vec()), "{}", node.path);
        }
    }

    #[test]
    fn all_hard_links_have_the_content_that_came_with_the_first() {
        let bytes = [linked("a", b"content"), linked("b", b""), trailer()].concat();
        let tree = parsed(&bytes).unwrap();
        assert_eq!(tree.nodes[1].kind, NodeKind::File(b"content".to_vec()));
    }

    #[test]
    fn links_are_not_looked_for_in_another_archive() {
        let bytes = [linked("a", b"content"), trailer(), linked("b", b""), trailer()].concat();
        assert_eq!(parsed(&bytes).unwrap().nodes[1].kind, NodeKind::File(vec![]));
    }

    #[test]
    fn an_archive_without_its_end_is_refused() {
        let bytes = write(&small()).unwrap();
        for end in 0..bytes.len() - 3 {
            assert!(parse(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn what_follows_an_archive_must_be_another() {
        let mut bytes = write(&small()).unwrap();
        let end = bytes.len();
        bytes.extend(b"rubbish!");
        assert!(matches!(parse(&bytes), Err(Error::BadMagic(offset)) if offset == end));
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        let mut bytes = Vec::new();
        let mut member = newc::Builder::new("a").mode(REGULAR).write_crc(&mut bytes, 4, 1234);
        member.write_all(b"data").unwrap();
        member.finish().unwrap();
        bytes.extend(trailer());
        assert!(matches!(parse(&bytes), Err(Error::BadChecksum(name)) if name == "a"));
    }

    #[test]
    fn a_member_that_leaves_the_root_is_refused() {
        let bytes = [linked("../etc/passwd", b""), trailer()].concat();
        assert!(matches!(parse(&bytes), Err(Error::BadPath(_))));
    }

    proptest! {
        #[test]
        fn what_was_read_of_any_tree_comes_back(tree in tree()) {
            let once = parsed(&write(&tree).unwrap()).unwrap();
            let again = parse(&write(&once).unwrap()).unwrap();
            prop_assert_eq!((again.tree, again.left_out.len()), (once, 0));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_damage_is_read_or_refused(tree in tree(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = write(&tree).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = parse(&bytes);
        }
    }
}
