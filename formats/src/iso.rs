//! Discs with a file system of ECMA-119 (ISO 9660), read whole, with the names and modes of Rock Ridge (IEEE P1282).
//!
//! By hand, since crates for it bring a file system in user space or a writer along, and a dozen other crates with that.

use crate::ext::Device;
use crate::tree::{Node, NodeKind, Tree};
use crate::{array_at, le32};

/// Bytes of a sector (6.1.2).
const SECTOR: u64 = 2048;

/// The sector of the primary volume descriptor, what it begins with, and where in it the root folder's record is (8.4).
const DESCRIPTOR: u64 = 16;
const MAGIC: &[u8] = b"\x01CD001\x01";
const ROOT_AT: usize = 156;

/// Where a record has what it stands for (9.1).
const EXTENT_AT: usize = 2;
const SIZE_AT: usize = 10;
const FLAGS_AT: usize = 25;
const NAME_LENGTH_AT: usize = 32;
const NAME_AT: usize = 33;
const IS_FOLDER: u8 = 2;

/// Most files and folders, and how deep they lie; 8 is what the standard allows, and Rock Ridge lifts that.
const ENTRIES: usize = 1 << 16;
const DEPTH: usize = 64;

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("no volume descriptor of ISO 9660")]
    NoDisc,
    #[error("the disc can't be read: {0}")]
    Device(#[from] Box<dyn std::error::Error + Send + Sync>),
    #[error("a folder's record is broken")]
    Record,
    #[error("the files are larger than {0} bytes")]
    TooLarge(usize),
    /// A folder in itself has no end.
    #[error("there are too many files, or they lie too deep")]
    Endless,
}

/// All that is on a disc, sorted by path; of its files no more than `limit` bytes.
///
/// # Errors
/// When it is none, or broken.
pub fn read(mut device: impl Device, limit: usize) -> Result<Tree, Unreadable> {
    let mut descriptor = [0; SECTOR as usize];
    device.read(DESCRIPTOR * SECTOR, &mut descriptor).map_err(|_| Unreadable::NoDisc)?;
    if !descriptor.starts_with(MAGIC) {
        return Err(Unreadable::NoDisc);
    }
    let mut reader = Reader { device, left: limit, limit };
    let mut tree = Tree::default();
    let mut folders = vec![(String::new(), 0, descriptor[ROOT_AT..].to_vec())];
    while let Some((folder, depth, record)) = folders.pop() {
        let list = reader.content(&record)?;
        for record in records(&list) {
            let record = record?;
            let Some(name) = name(record) else { continue };
            if tree.nodes.len() >= ENTRIES || depth >= DEPTH {
                return Err(Unreadable::Endless);
            }
            let path = format!("{folder}{name}");
            let is_folder = record[FLAGS_AT] & IS_FOLDER != 0;
            let kind = if is_folder {
                folders.push((format!("{path}/"), depth + 1, record.to_vec()));
                NodeKind::Directory
            } else {
                NodeKind::File(reader.content(record)?)
            };
            // `PX` of Rock Ridge: the mode as stat(2) has it.
            let mode = field(record, b"PX").and_then(|field| le32(field, 0)).unwrap_or(0o555) & 0o7777;
            tree.nodes.push(Node { path, mode, uid: 0, gid: 0, kind });
        }
    }
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

struct Reader<D> {
    device: D,
    left: usize,
    limit: usize,
}

impl<D: Device> Reader<D> {
    /// What a record stands for, which lies in one piece.
    fn content(&mut self, record: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let number = |at| le32(record, at).ok_or(Unreadable::Record);
        let (extent, size) = (number(EXTENT_AT)?, number(SIZE_AT)? as usize);
        self.left = self.left.checked_sub(size).ok_or(Unreadable::TooLarge(self.limit))?;
        let mut bytes = vec![0; size];
        self.device.read(u64::from(extent) * SECTOR, &mut bytes)?;
        Ok(bytes)
    }
}

/// The records of a folder. None goes over the end of a sector: what is left of that is zeros.
fn records(list: &[u8]) -> impl Iterator<Item = Result<&[u8], Unreadable>> {
    list.chunks(SECTOR as usize).flat_map(|sector| {
        let mut rest = sector;
        std::iter::from_fn(move || {
            let length = usize::from(*rest.first()?);
            if length == 0 {
                return None;
            }
            let Some((record, after)) = rest.split_at_checked(length).filter(|_| length > NAME_AT) else {
                rest = &[];
                return Some(Err(Unreadable::Record));
            };
            rest = after;
            Some(Ok(record))
        })
    })
}

/// The name of a record; `None` for a folder itself and the one above, and for a name that no path may have.
fn name(record: &[u8]) -> Option<String> {
    let length = usize::from(record[NAME_LENGTH_AT]);
    let plain = record.get(NAME_AT..NAME_AT + length)?;
    if matches!(plain, [0 | 1]) {
        return None;
    }
    let name = match field(record, b"NM") {
        // Its first byte is flags.
        Some([_, name @ ..]) => String::from_utf8_lossy(name).into_owned(),
        // As Linux maps it (`isofs_name_translate` in `fs/isofs/dir.c`): small letters, and neither version nor a last dot.
        _ => {
            let name = String::from_utf8_lossy(plain).to_ascii_lowercase();
            name.split(';').next().unwrap_or_default().trim_end_matches('.').to_owned()
        }
    };
    (!matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0'])).then_some(name)
}

/// A field of a record's that is Rock Ridge's, without its four bytes of head.
fn field<'a>(record: &'a [u8], signature: &[u8; 2]) -> Option<&'a [u8]> {
    // The name is filled up to an even place.
    let mut rest = record.get((NAME_AT + usize::from(record[NAME_LENGTH_AT])).next_multiple_of(2)..)?;
    loop {
        let [first, second, length, _version] = array_at(rest, 0)?;
        let (found, after) = rest.split_at_checked(usize::from(length).max(4))?;
        if [first, second] == *signature {
            return found.get(4..);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::decompress;

    /// `install.amd/vmlinuz`, `install.amd/initrd.gz` and `pool/base.tar.gz`, texts of a line, by compose/world/iso.sh.
    fn small() -> Vec<u8> {
        decompress(include_bytes!("iso/small.iso.gz"), 1 << 20).unwrap().into_owned()
    }

    #[test]
    fn all_that_is_on_a_disc_is_in_its_tree() {
        let tree = read(small(), 1 << 20).unwrap();
        let paths: Vec<&str> = tree.nodes.iter().map(|node| node.path.as_str()).collect();
        let list = ["install.amd", "install.amd/initrd.gz", "install.amd/vmlinuz", "pool"];
        assert_eq!(paths, [list.as_slice(), &["pool/base.tar.gz"]].concat());
        let kernel = tree.get("install.amd/vmlinuz").unwrap();
        assert_eq!((kernel.mode, &kernel.kind), (0o444, &NodeKind::File(b"kernel\n".to_vec())));
    }

    #[test]
    fn without_rock_ridge_a_name_is_as_linux_shows_it() {
        let mut record = vec![0; NAME_AT];
        record[NAME_LENGTH_AT] = 9;
        record.extend_from_slice(b"INITRD.;1\0");
        assert_eq!(name(&record).as_deref(), Some("initrd"));
    }

    #[test]
    fn what_is_too_large_or_no_disc_is_told() {
        assert!(matches!(read(small(), 3), Err(Unreadable::TooLarge(3))));
        assert!(matches!(read(vec![0; 1 << 16], 1 << 20), Err(Unreadable::NoDisc)));
        assert!(matches!(read(Vec::new(), 1 << 20), Err(Unreadable::NoDisc)));
    }

    proptest! {
        #[test]
        fn a_broken_disc_is_a_tree_or_an_error(
            changes in prop::collection::vec((0_usize..(380 << 10), any::<u8>()), 1..8),
            near in prop::collection::vec((0_usize..(8 << 10), any::<u8>()), 0..8),
            end in 0_usize..(380 << 10),
        ) {
            let mut bytes = small();
            // Where folders and descriptors are.
            for (at, byte) in changes.into_iter().chain(near.into_iter().map(|(at, byte)| (at + (32 << 10), byte))) {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = read(bytes.clone(), 1 << 20);
            bytes.truncate(end);
            let _ = read(bytes, 1 << 20);
        }
    }
}
