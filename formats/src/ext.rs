//! File systems of the kinds ext2, ext3 and ext4, read whole; and new ones of the kind ext2.

pub use ext4_view::Ext4Read as Device;
use ext4_view::{Ext4, Ext4Error, FileType, Path, PathBuf};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::tree::{Node, NodeKind, Tree};
use crate::{array_at, le32};

mod write;

pub use write::{Unwritable, write};

/// Where the superblock is, and how long it is, in bytes (`struct ext4_super_block` in the kernel's `fs/ext4/ext4.h`).
const SUPERBLOCK_AT: usize = 1024;
const SUPERBLOCK: usize = 1024;
/// Where in it the magic number is (`s_magic`), and what that is.
const MAGIC_AT: usize = 56;
const MAGIC: [u8; 2] = [0x53, 0xef];
/// Where in it the features are that change nothing for a kernel that does not know them (`s_feature_compat`), and which of them is
/// the journal.
const COMPATIBLE_AT: usize = 92;
const HAS_JOURNAL: u32 = 0x0004;
/// Where in it the features are that a kernel has to know to mount it (`s_feature_incompat`).
const INCOMPATIBLE_AT: usize = 96;
/// Where in it the UUID is (`s_uuid`), and its name (`s_volume_name`).
const UUID_AT: usize = 104;
const LABEL_AT: usize = 120;
const LABEL: usize = 16;
/// The features of those that ext2 may have: types in directory entries, and groups of descriptors
/// (`EXT2_FEATURE_INCOMPAT_SUPP` in `fs/ext2/ext2.h`; ext4 asks for the same of what is mounted as ext2).
const EXT2_INCOMPATIBLE: u32 = 0x0002 | 0x0010;

/// Folder of a file system's own, which no archive of it has.
const OWN: &str = "lost+found";

/// Most files and folders, and the longest path of one (`PATH_MAX`).
const ENTRIES: usize = 1 << 18;
const LONGEST: usize = 4096;

/// Whether `bytes` begin as such a file system does.
#[must_use]
pub fn is_ext(bytes: &[u8]) -> bool {
    bytes.get(SUPERBLOCK_AT..).is_some_and(has_magic)
}

fn has_magic(superblock: &[u8]) -> bool {
    superblock.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) == Some(&MAGIC)
}

/// What a kernel looks at before it mounts such a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    /// As udev's links in `/dev/disk/by-uuid` have it.
    pub uuid: String,
    /// As those in `/dev/disk/by-label` have it; empty where it has none.
    pub label: String,
    /// Whether it has no feature that ext2 does not know, so that it can be mounted as one.
    pub is_ext2: bool,
    pub has_journal: bool,
}

/// A UUID as everybody writes it.
#[must_use]
pub fn uuid_text(uuid: [u8; 16]) -> String {
    Uuid::from_bytes(uuid).to_string()
}

/// The superblock of the file system on `device`; `None` where there is none.
pub fn superblock(device: &mut dyn Device) -> Option<Superblock> {
    let mut bytes = [0; SUPERBLOCK];
    device.read(SUPERBLOCK_AT as u64, &mut bytes).ok()?;
    if !has_magic(&bytes) {
        return None;
    }
    let incompatible = le32(&bytes, INCOMPATIBLE_AT)?;
    let uuid = uuid_text(array_at(&bytes, UUID_AT)?);
    let label = array_at::<LABEL>(&bytes, LABEL_AT)?;
    let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Superblock {
        uuid,
        label: String::from_utf8_lossy(label).into_owned(),
        is_ext2: incompatible & !EXT2_INCOMPATIBLE == 0,
        has_journal: le32(&bytes, COMPATIBLE_AT)? & HAS_JOURNAL != 0,
    })
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("{0}")]
    FileSystem(#[from] Ext4Error),
    /// A name, or the target of a link.
    #[error("a path is no UTF-8: {0}")]
    Path(#[from] std::str::Utf8Error),
    #[error("the files are larger than {0} bytes")]
    TooLarge(usize),
    /// A folder in itself has no end.
    #[error("there are too many files, or they lie too deep")]
    Endless,
}

/// All that is in the file system on `device`, sorted by path; of its files no more than `limit` bytes.
///
/// # Errors
/// When it is none, or broken.
pub fn read(device: impl Device + 'static, limit: usize) -> Result<Tree, Unreadable> {
    let system = Ext4::load(Box::new(device))?;
    let mut tree = Tree::default();
    let mut left = limit;
    let mut folders = vec![PathBuf::new(b"/")];
    while let Some(folder) = folders.pop() {
        for entry in system.read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.as_str()?;
            let path = entry.path();
            if matches!(name, "." | "..") || (folder.as_path() == Path::ROOT && name == OWN) {
                continue;
            }
            if tree.nodes.len() >= ENTRIES || path.to_str()?.len() > LONGEST {
                return Err(Unreadable::Endless);
            }
            let about = system.symlink_metadata(&path)?;
            let kind = match about.file_type() {
                FileType::Directory => {
                    folders.push(path.clone());
                    NodeKind::Directory
                }
                FileType::Regular => {
                    left = usize::try_from(about.len())
                        .ok()
                        .and_then(|size| left.checked_sub(size))
                        .ok_or(Unreadable::TooLarge(limit))?;
                    NodeKind::File(system.read(&path)?)
                }
                FileType::Symlink => NodeKind::Symlink(system.read_link(&path)?.to_str()?.to_owned()),
                _ => NodeKind::Special,
            };
            tree.nodes.push(Node {
                path: path.to_str()?.trim_start_matches('/').to_owned(),
                mode: u32::from(about.mode()) & 0o7777,
                uid: about.uid(),
                gid: about.gid(),
                kind,
            });
        }
    }
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::decompress;

    /// `lava/hostname` with the mode 600 and `ghost` in it, and a link `bin/sh`; by compose/world/ext2.sh, of 64 KiB.
    fn small() -> Vec<u8> {
        decompress(include_bytes!("ext/small.ext2.gz"), 1 << 20).unwrap().into_owned()
    }

    #[test]
    fn all_that_is_in_a_file_system_is_in_its_tree() {
        let bytes = small();
        assert!(is_ext(&bytes));
        let tree = read(bytes, 1 << 20).unwrap();
        let paths: Vec<&str> = tree.nodes.iter().map(|node| node.path.as_str()).collect();
        assert_eq!(paths, ["bin", "bin/sh", "lava", "lava/hostname"]);
        let file = tree.get("lava/hostname").unwrap();
        assert_eq!((file.mode, file.uid, &file.kind), (0o600, 0, &NodeKind::File(b"ghost\n".to_vec())));
        assert_eq!(tree.get("bin/sh").unwrap().kind, NodeKind::Symlink("busybox".into()));
    }

    #[test]
    fn a_superblock_says_who_it_is_and_whether_ext2_can_mount_it() {
        let mut bytes = small();
        bytes[SUPERBLOCK_AT + UUID_AT..][..16].copy_from_slice(&[0xab; 16]);
        bytes[SUPERBLOCK_AT + LABEL_AT..][..4].copy_from_slice(b"LAVA");
        let found = superblock(&mut bytes).unwrap();
        let uuid = "abababab-abab-abab-abab-abababababab".into();
        assert_eq!(found, Superblock { uuid, label: "LAVA".into(), is_ext2: true, has_journal: false });
        bytes[SUPERBLOCK_AT + COMPATIBLE_AT] |= 0x04;
        // Extents, of ext4.
        bytes[SUPERBLOCK_AT + INCOMPATIBLE_AT] |= 0x40;
        let found = superblock(&mut bytes).unwrap();
        assert!(!found.is_ext2 && found.has_journal);
        for none in [vec![0; 4096], vec![0; 1030]] {
            assert_eq!(superblock(&mut none.clone()), None);
        }
    }

    #[test]
    fn what_is_too_large_or_no_file_system_is_told() {
        assert!(matches!(read(small(), 3), Err(Unreadable::TooLarge(3))));
        assert!(!is_ext(b"") && !is_ext(&[0; 4096]));
        assert!(matches!(read(vec![0; 4096], 1 << 20), Err(Unreadable::FileSystem(_))));
    }

    proptest! {
        #[test]
        fn a_broken_file_system_is_a_tree_or_an_error(
            changes in prop::collection::vec((0_usize..(64 << 10), any::<u8>()), 1..8),
            end in 0_usize..(64 << 10),
        ) {
            let mut bytes = small();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let _ = read(bytes.clone(), 1 << 20);
            bytes.truncate(end);
            let _ = read(bytes, 1 << 20);
        }
    }
}
