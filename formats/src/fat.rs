//! File systems of the kinds FAT12 to FAT32, which a UEFI boots from: read whole, and small ones made.

use std::io::{self, Cursor, Read as _, Write as _};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

use crate::tree::{NodeKind, Tree};

/// Bytes of a boot sector, and what it ends with.
pub const BOOT_SECTOR: usize = 512;
const ENDS: [u8; 2] = [0x55, 0xaa];
/// Where it says that it is one: in that of FAT12 and FAT16, and in that of FAT32 (`BS_FilSysType` in Microsoft's specification,
/// which GRUB and the kernel look at, too).
const KINDS: [(usize, &[u8]); 2] = [(54, b"FAT"), (82, b"FAT32")];

/// Most characters of a name.
const LABEL: usize = 11;

/// Most files and folders.
const ENTRIES: usize = 1 << 12;

/// Whether `bytes` begin as such a file system does.
#[must_use]
pub fn is_fat(bytes: &[u8]) -> bool {
    bytes.get(BOOT_SECTOR - ENDS.len()..BOOT_SECTOR) == Some(&ENDS)
        && KINDS.iter().any(|(at, kind)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(kind)))
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("{0}")]
    FileSystem(#[from] io::Error),
    #[error("the files are larger than {0} bytes")]
    TooLarge(usize),
    /// A folder in itself has no end.
    #[error("there are too many files, or they lie too deep")]
    Endless,
}

/// What is in such a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub label: String,
    /// Its files, sorted by path. Names are as they were given; a lookup does not tell `a` from `A`.
    pub tree: Tree,
}

/// All that is in the file system in `bytes`; of its files no more than `limit` bytes.
///
/// # Errors
/// When it is none, or broken.
pub fn read(bytes: Vec<u8>, limit: usize) -> Result<Volume, Unreadable> {
    let system = FileSystem::new(Cursor::new(bytes), FsOptions::new().update_accessed_date(false))?;
    let label = match system.read_volume_label_from_root_dir()? {
        Some(label) => label,
        None => system.volume_label(),
    };
    let mut tree = Tree::default();
    let (mut left, mut seen) = (limit, 0);
    let mut folders = vec![(system.root_dir(), String::new())];
    while let Some((folder, above)) = folders.pop() {
        for entry in folder.iter() {
            let entry = entry?;
            seen += 1;
            let name = entry.file_name();
            if seen > ENTRIES {
                return Err(Unreadable::Endless);
            }
            if matches!(name.as_str(), "." | "..") {
                continue;
            }
            let path = format!("{above}{name}");
            if entry.is_dir() {
                folders.push((entry.to_dir(), format!("{path}/")));
                tree.directory(path);
            } else {
                let size = usize::try_from(entry.len()).ok();
                left = size.and_then(|size| left.checked_sub(size)).ok_or(Unreadable::TooLarge(limit))?;
                let mut content = Vec::new();
                entry.to_file().read_to_end(&mut content)?;
                tree.file(path, 0o755, content);
            }
        }
    }
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Volume { label: label.trim_end().to_owned(), tree })
}

/// A file system of `size` bytes with the files of a tree, and the folders that they are in.
///
/// # Errors
/// When they do not fit, or `label` is too long.
pub fn write(tree: &Tree, label: &str, size: usize) -> io::Result<Vec<u8>> {
    let mut padded = [b' '; LABEL];
    let Some(place) = padded.get_mut(..label.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("label {label:?} is too long")));
    };
    place.copy_from_slice(label.as_bytes());
    let mut disk = Cursor::new(vec![0; size]);
    // The crate's clock stands still without its feature `chrono`, so that the bytes are the same each time.
    fatfs::format_volume(&mut disk, FormatVolumeOptions::new().volume_label(padded).volume_id(0))?;
    {
        let system = FileSystem::new(&mut disk, FsOptions::new())?;
        for node in &tree.nodes {
            let NodeKind::File(content) = &node.kind else { continue };
            for (end, _) in node.path.match_indices('/') {
                system.root_dir().create_dir(node.path.get(..end).unwrap_or_default())?;
            }
            system.root_dir().create_file(&node.path)?.write_all(content)?;
        }
        system.unmount()?;
    }
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static SMALL: LazyLock<Vec<u8>> = LazyLock::new(small);

    fn small() -> Vec<u8> {
        let mut tree = Tree::default();
        tree.file("EFI/BOOT/GRUBAA64.EFI", 0o644, "MZ");
        tree.file("EFI/BOOT/grub.cfg", 0o644, "set timeout=5\n");
        tree.file("hi6220-hikey.dtb", 0o644, vec![7; 5000]);
        write(&tree, "boot", 256 << 10).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = small();
        assert!(is_fat(&bytes));
        assert_eq!(bytes, small());
        let volume = read(bytes, 1 << 20).unwrap();
        assert_eq!(volume.label, "boot");
        let paths: Vec<&str> = volume.tree.nodes.iter().map(|node| node.path.as_str()).collect();
        assert_eq!(
            paths,
            ["EFI", "EFI/BOOT", "EFI/BOOT/GRUBAA64.EFI", "EFI/BOOT/grub.cfg", "hi6220-hikey.dtb"]
        );
        assert_eq!(volume.tree.get("hi6220-hikey.dtb").unwrap().kind, NodeKind::File(vec![7; 5000]));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(matches!(read(small(), 5000), Err(Unreadable::TooLarge(5000))));
        assert!(matches!(read(vec![0; 4096], 1), Err(Unreadable::FileSystem(_))));
        assert!(!is_fat(&[0; 4096]) && !is_fat(b"MZ"));
        let mut tree = Tree::default();
        tree.file("x", 0o644, vec![0; 300 << 10]);
        assert!(write(&tree, "boot", 256 << 10).is_err());
        assert!(write(&tree, "a long name for it", 1 << 20).is_err());
    }

    proptest! {
        #[test]
        fn a_broken_one_is_no_reason_to_panic(
            places in proptest::collection::vec((0_usize..24 << 10, any::<u8>()), 1..40),
            length in 0_usize..256 << 10,
        ) {
            let mut bytes = SMALL.clone();
            for (at, byte) in places {
                bytes[at] = byte;
            }
            bytes.truncate(length.max(4096));
            let _ = read(bytes, 1 << 20);
        }

        #[test]
        fn nor_is_a_broken_boot_sector(places in proptest::collection::vec((0_usize..512, any::<u8>()), 1..8)) {
            let mut bytes = SMALL.clone();
            for (at, byte) in places {
                bytes[at] = byte;
            }
            let _ = read(bytes, 1 << 20);
        }
    }
}
