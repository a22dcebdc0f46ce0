//! Disks with a master boot record: four partitions at most, in the last bytes of the first block.
//!
//! By hand, since a table of four entries is all that is needed: crates for it edit disks and need files or
//! `std::io::Seek`.

use crate::{array_at, le32};

/// Bytes of a block.
pub const BLOCK: usize = 512;

/// Where the table is in the first block.
const TABLE: usize = 446;

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// First block.
    pub start: u32,
    /// How many.
    pub blocks: u32,
    /// What it says it is for; 0 is none at all.
    pub kind: u8,
}

/// The partitions of a disk, in their order, those that are none left out; nothing where there is no table.
#[must_use]
pub fn parse(disk: &[u8]) -> Option<Vec<(usize, Partition)>> {
    if array_at(disk, BLOCK - 2) != Some([0x55, 0xaa]) {
        return None;
    }
    let entry = |number: usize| {
        let at = TABLE + 16 * number;
        let kind = *disk.get(at + 4)?;
        let found = Partition { start: le32(disk, at + 8)?, blocks: le32(disk, at + 12)?, kind };
        (kind != 0 && found.blocks != 0).then_some((number + 1, found))
    };
    Some((0..4).filter_map(entry).collect())
}

/// Writes the table of `partitions` into the first block of `disk`; whether there is room for all.
pub fn write(disk: &mut [u8], partitions: &[Partition]) -> bool {
    let Some(block) = disk.get_mut(..BLOCK) else { return false };
    if partitions.len() > 4 {
        return false;
    }
    for (number, partition) in partitions.iter().enumerate() {
        let entry = &mut block[TABLE + 16 * number..TABLE + 16 * (number + 1)];
        // Cylinders and heads that say: look at the blocks.
        entry[..8].copy_from_slice(&[0, 0xfe, 0xff, 0xff, partition.kind, 0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&partition.start.to_le_bytes());
        entry[12..].copy_from_slice(&partition.blocks.to_le_bytes());
    }
    block[BLOCK - 2..].copy_from_slice(&[0x55, 0xaa]);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(starts in prop::collection::vec(1u32.., 0..4), blocks in 1u32..) {
            let all: Vec<_> =
                starts.iter().map(|start| Partition { start: *start, blocks, kind: 0x83 }).collect();
            let mut disk = vec![0; 1024];
            prop_assert!(write(&mut disk, &all));
            let read = parse(&disk).unwrap();
            prop_assert_eq!(read, (1..).zip(all).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_a_disk_or_none(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn a_disk_without_a_table_has_no_partitions() {
        assert_eq!(parse(&[0; 1024]), None);
        assert_eq!(parse(&[0x55, 0xaa]), None);
        assert!(!write(&mut [0; 100], &[]));
    }
}
