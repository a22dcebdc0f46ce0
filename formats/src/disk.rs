//! Images of disks: raw, or of the kind qcow2, in which LAVA hands QEMU a test's overlay.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder as _};

use crate::ext::Device;

/// What a qcow2 begins with (`docs/interop/qcow2.txt` of QEMU's).
pub const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// How a disk is kept in its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Raw,
    Qcow2,
}

/// The image of a disk, to be read.
pub struct DiskImage {
    kept: Kept,
    size: u64,
}

enum Kept {
    Raw(File),
    Qcow2(Box<FormatAccess<imago::file::File>>),
}

impl DiskImage {
    /// Opens the image in `file`. One that stands on another image is not opened, since what it
    /// names may be any file of this machine's.
    ///
    /// # Errors
    /// When it is not of that format, or broken.
    pub fn open(file: File, format: Format) -> io::Result<Self> {
        match format {
            Format::Raw => Ok(Self { size: file.metadata()?.len(), kept: Kept::Raw(file) }),
            Format::Qcow2 => {
                let image = Qcow2::<imago::file::File>::builder(imago::file::File::try_from(file)?)
                    .open(DenyImplicitOpenGate::default())?;
                let image = Box::new(FormatAccess::new(image));
                Ok(Self { size: image.size(), kept: Kept::Qcow2(image) })
            }
        }
    }

    /// Size of the disk, not of its image, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Device for DiskImage {
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        match &mut self.kept {
            Kept::Raw(file) => Ok(file.read_exact_at(into, at)?),
            Kept::Qcow2(image) => Ok(image.read(into, at)?),
        }
    }
}

/// A part of a disk: one of its partitions.
pub struct Section<D> {
    pub device: D,
    /// Where it begins, and how long it is, in bytes.
    pub start: u64,
    pub size: u64,
}

impl<D: Device> Device for Section<D> {
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        match at.checked_add(into.len() as u64) {
            Some(end) if end <= self.size => self.device.read(self.start.saturating_add(at), into),
            _ => Err("this is behind its end".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::decompress;
    use crate::ext;

    /// `ext/small.ext2.gz`, by `qemu-img convert -O qcow2`.
    fn qcow2() -> Vec<u8> {
        decompress(include_bytes!("disk/small.qcow2.gz"), 1 << 20).unwrap().into_owned()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        file
    }

    #[test]
    fn a_disk_is_the_same_in_either_kind_of_image() {
        let raw = decompress(include_bytes!("ext/small.ext2.gz"), 1 << 20).unwrap();
        for (bytes, format) in [(raw.as_ref(), Format::Raw), (qcow2().as_slice(), Format::Qcow2)] {
            let mut disk = DiskImage::open(file(bytes), format).unwrap();
            assert_eq!(disk.size(), raw.len() as u64);
            assert_eq!(ext::superblock(&mut disk), ext::superblock(&mut raw.to_vec()));
            assert_eq!(ext::read(disk, 1 << 20).unwrap(), ext::read(raw.to_vec(), 1 << 20).unwrap());
        }
    }

    #[test]
    fn a_section_of_a_disk_ends_where_it_does() {
        let mut section = Section { device: b"0123456789".to_vec(), start: 4, size: 3 };
        let mut into = [0; 3];
        section.read(0, &mut into).unwrap();
        assert_eq!(&into, b"456");
        assert!(section.read(1, &mut into).is_err() && section.read(u64::MAX, &mut into).is_err());
    }

    #[test]
    fn what_is_no_qcow2_or_ends_early_is_an_error() {
        assert!(qcow2().starts_with(&QCOW2_MAGIC));
        assert!(DiskImage::open(file(b"rubbish"), Format::Qcow2).is_err());
        let mut disk = DiskImage::open(file(b"short"), Format::Raw).unwrap();
        assert!(disk.read(0, &mut [0; 16]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_broken_image_is_a_disk_or_an_error(
            changes in prop::collection::vec((0_usize..4096, any::<u8>()), 1..8),
        ) {
            let mut bytes = qcow2();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(mut disk) = DiskImage::open(file(&bytes), Format::Qcow2) {
                let _ = ext::superblock(&mut disk);
            }
        }
    }
}
