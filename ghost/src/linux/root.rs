//! Root file systems: what comes of a ramdisk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use meta_lava_formats::compress::{self, decompress};
use meta_lava_formats::cpio;
use meta_lava_formats::initramfs::Initramfs;
use meta_lava_formats::tree::{Node, NodeKind, Tree};

use crate::ledger::{Event, Ledger};

/// No archive of a root file system, or of a part of one, unpacks to more, in bytes.
pub(crate) const UNPACKED_LIMIT: usize = 1 << 30;

/// What the ledger calls what is on a disk.
pub(super) const DISK: &str = "disk";

/// Why a ramdisk can't be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRamdisk {
    /// What the kernel says (`init/initramfs.c`).
    pub(super) kernel_says: &'static str,
    /// What is wrong, for the ledger.
    pub(super) detail: String,
}

/// Unpacks an initramfs.
pub(super) fn ramdisk(bytes: &[u8]) -> Result<Initramfs, BadRamdisk> {
    let bad = |kernel_says, detail: String| BadRamdisk { kernel_says, detail };
    let unpacked = decompress(bytes, UNPACKED_LIMIT).map_err(|error| {
        let says = match error {
            compress::Error::Broken(..) => "decompressor failed",
            compress::Error::TooLarge(_) => "write error",
            compress::Error::TrailingGarbage { .. } => "invalid magic at start of compressed archive",
        };
        bad(says, error.to_string())
    })?;
    let compressed = compress::Format::of(bytes) != compress::Format::None;
    cpio::parse(&unpacked).map_err(|error| {
        let says = match &error {
            cpio::Error::BadMagic(0) if !compressed => "invalid magic at start of compressed archive",
            cpio::Error::BadMagic(_) => "no cpio magic",
            cpio::Error::Truncated(_) => "junk at the end of compressed archive",
            cpio::Error::BadMember { .. } | cpio::Error::BadChecksum(_) => "broken padding",
            cpio::Error::BadPath(_) | cpio::Error::TooLarge(_) => "write error",
        };
        bad(says, error.to_string())
    })
}

/// What is in a folder of this machine, below the path `name`.
pub(super) fn folder(folder: &Path, name: &str) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let mut folders = vec![(folder.to_owned(), name.to_owned())];
    while let Some((folder, name)) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = format!("{name}/{}", entry.file_name().to_string_lossy());
            let about = entry.metadata()?;
            let kind = if about.is_dir() {
                folders.push((entry.path(), path.clone()));
                NodeKind::Directory
            } else if about.is_symlink() {
                NodeKind::Symlink(fs::read_link(entry.path())?.to_string_lossy().into_owned())
            } else if about.is_file() {
                NodeKind::File(fs::read(entry.path())?)
            } else {
                NodeKind::Special
            };
            let mode = about.mode() & 0o7777;
            tree.nodes.push(Node { path, mode, uid: about.uid(), gid: about.gid(), kind });
        }
    }
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// A file of a disk's that is larger is no script of LAVA's, in bytes.
const SCRIPT: usize = 64 << 10;

/// Notes a root file system: its listing, and the contents of LAVA's overlay. On a disk that can be at its top.
pub(super) fn note(ledger: &Ledger, root: &str, source: String, tree: &Tree) {
    ledger.take(Event::Tree { root: root.to_owned(), source, entries: tree.listing() });
    let is_disk = root == DISK;
    ledger.keep(tree.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::File(content) if is_overlay(&node.path) || (is_disk && content.len() <= SCRIPT) => {
            Some(content.as_slice())
        }
        _ => None,
    }));
}

/// Whether a file is in LAVA's overlay, which is a folder `lava-JOB`, on a phone below another one.
fn is_overlay(path: &str) -> bool {
    path.split('/').rev().skip(1).any(|folder| folder.starts_with("lava-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lavas_overlay_is_where_its_folder_is() {
        assert!(is_overlay("lava-12/bin/lava-test-case") && is_overlay("data/local/tmp/lava-12/0/run.sh"));
        assert!(!is_overlay("bin/lava-test-case") && !is_overlay("lava-12"));
    }

    fn archive() -> Vec<u8> {
        let mut tree = Tree::default();
        tree.file("init", 0o755, "#!/bin/sh\n");
        cpio::write(&tree).unwrap()
    }

    #[test]
    fn a_ramdisk_may_be_compressed_or_not() {
        let plain = archive();
        for bytes in [plain.clone(), compress::gzip(&plain).unwrap(), compress::xz(&plain).unwrap()] {
            assert!(ramdisk(&bytes).unwrap().tree.get("init").is_some());
        }
    }

    #[test]
    fn what_is_wrong_with_a_ramdisk_is_said_as_the_kernel_says_it() {
        let says = |bytes: &[u8]| ramdisk(bytes).unwrap_err().kernel_says;
        let plain = archive();
        let gzip = compress::gzip(&plain).unwrap();
        assert_eq!(says(b"rubbish"), "invalid magic at start of compressed archive");
        assert_eq!(says(&compress::gzip(b"rubbish").unwrap()), "no cpio magic");
        assert_eq!(says(&gzip[..gzip.len() / 2]), "decompressor failed");
        assert_eq!(says(&plain[..plain.len() / 3]), "junk at the end of compressed archive");
    }
}
