//! Disks of a machine, as its kernel finds them: images that QEMU is given, and partitions of what is flashed.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use meta_lava_formats::disk::Format;
use meta_lava_formats::disk::{DiskImage, Section};
use meta_lava_formats::ext::{self, Device as _, Superblock};
use meta_lava_formats::fat;
use meta_lava_formats::mbr;
use meta_lava_formats::tree::{NodeKind, Tree};

use crate::linux::UNPACKED_LIMIT;
use crate::linux::sandbox::BlockDevice;

/// What a disk is on, which is what its name in `/dev` follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// IDE, SATA, SCSI and USB: `sda`.
    Scsi,
    /// `vda`.
    Virtio,
    /// A partition of an eMMC: `mmcblk0p1`.
    Mmc,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    bus: Bus,
    /// Which one of its bus it is, from 0.
    number: u8,
    /// Which partition of that disk it is, from 1; nothing where it is the whole.
    partition: Option<usize>,
    /// The raw image that it is kept in, where a kernel may write to it.
    image: Option<PathBuf>,
    /// What a partition table calls it.
    label: Option<String>,
    /// Its size in bytes.
    bytes: u64,
    file_system: Option<FileSystem>,
}

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FileSystem {
    /// One of the kinds ext2 to ext4.
    Ext(Superblock, Arc<Tree>),
    /// One that only boot loaders read here.
    Fat(fat::Volume),
}

impl Disk {
    /// The disk in an image, with all that is on it: a file system of the kinds ext2 to ext4, or for the kernel nothing. A file
    /// system that is broken is nothing, too.
    ///
    /// # Errors
    /// When the image can't be read.
    pub fn read(image: File, format: Format, bus: Bus, number: u8) -> io::Result<Self> {
        let image = DiskImage::open(image, format)?;
        let bytes = image.size();
        Ok(Self::of(image, bytes, bus, number))
    }

    /// The same, and after it its partitions, as far as a master boot record tells of them.
    ///
    /// # Errors
    /// When the image can't be read.
    pub fn read_all(image: &File, format: Format, bus: Bus, number: u8) -> io::Result<Vec<Self>> {
        let open = || DiskImage::open(image.try_clone()?, format);
        let mut disks = vec![Self::read(image.try_clone()?, format, bus, number)?];
        let mut record = [0; mbr::BLOCK];
        let partitions =
            open()?.read(0, &mut record).ok().and_then(|()| mbr::parse(&record)).unwrap_or_default();
        for (partition, mbr::Partition { start, blocks, .. }) in partitions {
            let [start, size] = [start, blocks].map(|blocks| u64::from(blocks) * mbr::BLOCK as u64);
            let section = Section { device: open()?, start, size };
            disks.push(Self { partition: Some(partition), ..Self::of(section, size, bus, number) });
        }
        Ok(disks)
    }

    fn of(mut device: impl ext::Device + 'static, bytes: u64, bus: Bus, number: u8) -> Self {
        let file_system = ext::superblock(&mut device).and_then(|superblock| {
            let tree = ext::read(device, UNPACKED_LIMIT);
            let tree = tree.inspect_err(|error| tracing::warn!(%error, "a disk's file system can't be read"));
            Some(FileSystem::Ext(superblock, Arc::new(tree.ok()?)))
        });
        Self { bus, number, partition: None, image: None, label: None, bytes, file_system }
    }

    /// The same, kept in a raw image that may be written to.
    #[must_use]
    pub fn kept_in(self, image: PathBuf) -> Self {
        Self { image: Some(image), ..self }
    }

    /// The raw image that may be written to, of a whole disk.
    #[must_use]
    pub fn image(&self) -> Option<&Path> {
        self.image.as_deref()
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is a disk and no partition of one.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.partition.is_none() && self.bus != Bus::Mmc
    }

    /// Whether it is the partition of this number of the first disk of `other`'s.
    #[must_use]
    pub fn is_partition(&self, number: usize, other: &Self) -> bool {
        self.partition == Some(number) && self.bus == other.bus && self.number == other.number
    }

    /// A partition in an image, as a boot loader finds it that reads FAT as well.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_to_boot(mut image: File, bus: Bus, number: u8) -> io::Result<Self> {
        let mut begin = [0; fat::BOOT_SECTOR];
        let has_begin = image.read_exact(&mut begin).is_ok();
        image.seek(SeekFrom::Start(0))?;
        if !has_begin || !fat::is_fat(&begin) {
            return Self::read(image, Format::Raw, bus, number);
        }
        let mut content = Vec::new();
        image.take(UNPACKED_LIMIT as u64).read_to_end(&mut content)?;
        let bytes = content.len() as u64;
        let volume = fat::read(content, UNPACKED_LIMIT);
        let volume = volume.inspect_err(|error| tracing::warn!(%error, "a FAT can't be read"));
        let file_system = volume.ok().map(FileSystem::Fat);
        Ok(Self { bus, number, partition: None, image: None, label: None, bytes, file_system })
    }

    /// The same, as a partition that has a name in its table.
    #[must_use]
    pub fn labelled(self, label: &str) -> Self {
        Self { label: Some(label.to_owned()), ..self }
    }

    /// Its name in `/dev`.
    #[must_use]
    pub fn name(&self) -> String {
        let letter = char::from(b'a' + self.number.min(25));
        let partition = self.partition.map(|partition| partition.to_string()).unwrap_or_default();
        match self.bus {
            Bus::Scsi => format!("sd{letter}{partition}"),
            Bus::Virtio => format!("vd{letter}{partition}"),
            Bus::Mmc => format!("mmcblk0p{}", u16::from(self.number) + 1),
        }
    }

    /// Whether it is what `root=` names: a device, or the name of a partition (`name_to_dev_t` in `init/do_mounts.c`).
    #[must_use]
    pub fn is_root(&self, root: &str) -> bool {
        match root.strip_prefix("PARTLABEL=") {
            Some(label) => self.label.as_deref() == Some(label),
            None => root.strip_prefix("/dev/") == Some(&self.name()),
        }
    }

    /// What it is on.
    #[must_use]
    pub fn bus(&self) -> Bus {
        self.bus
    }

    /// Whether a partition table calls it so.
    #[must_use]
    pub fn is_labelled(&self, label: &str) -> bool {
        self.label.as_deref() == Some(label)
    }

    /// What is on it, where that is a file system that the kernel mounts.
    #[must_use]
    pub fn content(&self) -> Option<Arc<Tree>> {
        match self.file_system.as_ref()? {
            FileSystem::Ext(_, tree) => Some(Arc::clone(tree)),
            FileSystem::Fat(_) => None,
        }
    }

    /// What GRUB calls it, where it is a partition (`grub_partition_get_name` in `grub-core/kern/partition.c`).
    #[must_use]
    pub fn grub_name(&self) -> Option<String> {
        (self.bus == Bus::Mmc).then(|| format!("hd0,gpt{}", u16::from(self.number) + 1))
    }

    /// Whether it has a file system, of any kind.
    #[must_use]
    pub fn has_file_system(&self) -> bool {
        self.file_system.is_some()
    }

    /// Whether its file system calls itself so.
    #[must_use]
    pub fn is_volume(&self, label: &str) -> bool {
        match &self.file_system {
            Some(FileSystem::Ext(superblock, _)) => superblock.label == label,
            Some(FileSystem::Fat(volume)) => volume.label.eq_ignore_ascii_case(label),
            None => false,
        }
    }

    /// Whether its file system has this UUID.
    #[must_use]
    pub fn has_uuid(&self, uuid: &str) -> bool {
        matches!(&self.file_system, Some(FileSystem::Ext(superblock, _)) if superblock.uuid.eq_ignore_ascii_case(uuid))
    }

    /// A file on it. FAT does not tell `a` from `A`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        let path = path.trim_start_matches('/');
        let node = match self.file_system.as_ref()? {
            FileSystem::Ext(_, tree) => tree.get(path),
            FileSystem::Fat(volume) => {
                volume.tree.nodes.iter().find(|node| node.path.eq_ignore_ascii_case(path))
            }
        };
        match &node?.kind {
            NodeKind::File(content) => Some(content),
            _ => None,
        }
    }

    /// What the userland sees of it.
    #[must_use]
    pub fn device(&self) -> BlockDevice {
        let number = u64::from(self.number);
        let partition = self.partition.unwrap_or_default() as u64;
        // `SCSI_DISK0_MAJOR`, `MMC_BLOCK_MAJOR`, and what a kernel gives the first driver that leaves it the choice; 16 numbers for
        // each disk.
        let (major, minor) = match self.bus {
            Bus::Scsi => (8, 16 * number + partition),
            Bus::Virtio => (254, 16 * number + partition),
            Bus::Mmc => (179, number + 1),
        };
        let superblock = match &self.file_system {
            Some(FileSystem::Ext(superblock, _)) => Some(superblock.clone()),
            _ => None,
        };
        BlockDevice { name: self.name(), major, minor, superblock }
    }

    /// What the kernel says when it finds it (`drivers/block/virtio_blk.c`, `drivers/scsi/sd.c`).
    #[must_use]
    pub fn kernel_says(&self) -> Vec<String> {
        let (name, number, blocks) = (self.name(), self.number, self.bytes / 512);
        let size = format!("({}/{})", rounded(self.bytes, 1000, "B"), rounded(self.bytes, 1024, "iB"));
        if self.partition.is_some() {
            // `add_partition` in `block/partitions/core.c` says nothing of each.
            return Vec::new();
        }
        match self.bus {
            Bus::Virtio => {
                vec![format!("virtio_blk virtio{number}: [{name}] {blocks} 512-byte logical blocks {size}")]
            }
            Bus::Scsi => vec![
                format!("sd {number}:0:0:0: [{name}] {blocks} 512-byte logical blocks: {size}"),
                format!("sd {number}:0:0:0: [{name}] Attached SCSI disk"),
            ],
            // A partition is told of with its disk, which is none of a machine's here.
            Bus::Mmc => Vec::new(),
        }
    }
}

/// A size in three digits (`string_get_size` in `lib/string_helpers.c`).
fn rounded(bytes: u64, step: u64, unit: &str) -> String {
    let (mut size, mut prefixes) = (bytes as f64, ["", "k", "M", "G", "T"].iter());
    let mut prefix = prefixes.next().copied().unwrap_or_default();
    while size >= step as f64
        && let Some(next) = prefixes.next()
    {
        (size, prefix) = (size / step as f64, next);
    }
    let prefix = if step == 1024 { prefix.to_uppercase() } else { prefix.to_owned() };
    let digits = match size {
        _ if prefix.is_empty() => 0,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    // Without a prefix there is no `iB`.
    let unit = if prefix.is_empty() { "B" } else { unit };
    format!("{size:.digits$} {prefix}{unit}")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_size_is_rounded_as_the_kernel_rounds_it() {
        let both = |bytes| (rounded(bytes, 1000, "B"), rounded(bytes, 1024, "iB"));
        assert_eq!(both(512 << 20), ("537 MB".into(), "512 MiB".into()));
        assert_eq!(both(16 << 20), ("16.8 MB".into(), "16.0 MiB".into()));
        assert_eq!(both(64 << 10), ("65.5 kB".into(), "64.0 KiB".into()));
        assert_eq!(both(512), ("512 B".into(), "512 B".into()));
        assert_eq!(both(5 << 30), ("5.37 GB".into(), "5.00 GiB".into()));
    }

    #[test]
    fn partitions_come_after_their_disk_with_what_is_on_them() {
        let mut image = tempfile::tempfile().unwrap();
        image.set_len(4 << 20).unwrap();
        let mut record = vec![0; mbr::BLOCK];
        let partition = |start, blocks| mbr::Partition { start, blocks, kind: 0x83 };
        assert!(mbr::write(&mut record, &[partition(2048, 4096), partition(6144, 1 << 20)]));
        image.write_all(&record).unwrap();
        let mut tree = Tree::default();
        tree.file("hostname", 0o644, "debian\n");
        ext::write(&tree, 2 << 20, [1; 16], &mut |at, piece| {
            std::os::unix::fs::FileExt::write_all_at(&image, piece, (1 << 20) + at)
        })
        .unwrap();
        let disks = Disk::read_all(&image, Format::Raw, Bus::Scsi, 1).unwrap();
        let names: Vec<String> = disks.iter().map(Disk::name).collect();
        assert_eq!(names, ["sdb", "sdb1", "sdb2"]);
        assert!(disks[1].is_partition(1, &disks[0]) && disks[0].is_whole() && !disks[1].is_whole());
        assert_eq!((disks[1].device().major, disks[1].device().minor), (8, 17));
        assert_eq!(disks[1].content().as_deref(), Some(&tree));
        assert!(disks[1].has_uuid("01010101-0101-0101-0101-010101010101") && disks[1].is_root("/dev/sdb1"));
        // It goes over the disk's end.
        assert!(disks[0].content().is_none() && disks[2].content().is_none());
    }

    #[test]
    fn disks_are_named_by_their_bus_in_its_order() {
        let image = || {
            let file = tempfile::tempfile().unwrap();
            file.set_len(1 << 20).unwrap();
            file
        };
        let disk = |bus, number| Disk::read(image(), Format::Raw, bus, number).unwrap();
        assert_eq!(disk(Bus::Virtio, 1).name(), "vdb");
        assert_eq!(
            disk(Bus::Scsi, 0).kernel_says(),
            [
                "sd 0:0:0:0: [sda] 2048 512-byte logical blocks: (1.05 MB/1.00 MiB)",
                "sd 0:0:0:0: [sda] Attached SCSI disk"
            ]
        );
        assert_eq!(disk(Bus::Virtio, 1).device().minor, 16);
        assert!(disk(Bus::Scsi, 0).content().is_none());
        let mut broken = image();
        broken.write_all(&[&[0; 1024 + 56][..], &[0x53, 0xef], &[0xff; 512]].concat()).unwrap();
        assert!(Disk::read(broken, Format::Raw, Bus::Scsi, 0).unwrap().content().is_none());
        let mut files = Tree::default();
        files.file("EFI/BOOT/grub.cfg", 0o644, "boot");
        let mut boot = tempfile::tempfile().unwrap();
        boot.write_all(&fat::write(&files, "boot", 128 << 10).unwrap()).unwrap();
        boot.seek(SeekFrom::Start(0)).unwrap();
        let boot = Disk::read_to_boot(boot, Bus::Mmc, 5).unwrap();
        assert_eq!(boot.grub_name().as_deref(), Some("hd0,gpt6"));
        assert_eq!(boot.file("/efi/boot/GRUB.CFG"), Some(&b"boot"[..]));
        assert!(boot.is_volume("boot") && boot.content().is_none() && boot.file("/efi").is_none());
        assert!(!Disk::read_to_boot(image(), Bus::Mmc, 5).unwrap().has_file_system());
        let partition = disk(Bus::Mmc, 4).labelled("rootfs");
        let is_root = ["/dev/mmcblk0p5", "PARTLABEL=rootfs", "PARTLABEL=boot", "mmcblk0p5", "/dev/mmcblk0p4"]
            .map(|root| partition.is_root(root));
        assert_eq!(is_root, [true, true, false, false, false]);
    }
}
