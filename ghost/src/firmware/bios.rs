//! What a PC boots from a disk: the BIOS loads its first block, and GRUB, where that is there, a kernel from one of its partitions.
//!
//! Texts follow SeaBIOS 1.16 (`src/boot.c`) and GRUB 2.06 (`grub-core/boot/i386/pc`, `kern/main.c`, `loader/i386/linux.c`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use meta_lava_formats::grub::{self, Command, Config};
use meta_lava_formats::{kernel, mbr};

use super::{BootImage, Next};
use crate::disk::Disk;
use crate::machine::Machine;

/// What the BIOS says of a disk that has no boot record.
pub(super) const NOT_BOOTABLE: [&str; 3] = ["Boot failed: not a bootable disk", "", "No bootable device."];

/// What the first block of a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// Nothing that the BIOS would start.
    None,
    /// The BIOS starts it, and nobody knows what it does.
    Unknown,
    /// GRUB's, whose configuration is on this partition.
    Grub(usize),
}

impl Record {
    /// That of the disk in a raw image.
    ///
    /// # Errors
    /// When the image can't be read.
    pub(super) fn read(image: &Path) -> io::Result<Self> {
        let file = File::open(image)?;
        let block = |at| -> io::Result<[u8; mbr::BLOCK]> {
            let mut block = [0; mbr::BLOCK];
            file.read_exact_at(&mut block, at)?;
            Ok(block)
        };
        let first = block(0)?;
        if mbr::parse(&first).is_none() {
            return Ok(Self::None);
        }
        let core = grub::core(&first).and_then(|at| at.checked_mul(mbr::BLOCK as u64));
        let partition = core.and_then(|at| grub::partition(&block(at).ok()?));
        Ok(partition.map_or(Self::Unknown, Self::Grub))
    }
}

/// GRUB at work, on a disk whose record names a partition of it.
///
/// Where it finds no configuration it goes to its command line, and where a command fails it waits for a key. Nobody types there.
pub(super) async fn boot(machine: &mut Machine, disk: &Disk, partition: usize) -> Next {
    machine.console().print("GRUB loading.\nWelcome to GRUB!\n\n").await;
    let root = machine.disks.iter().find(|other| other.is_partition(partition, disk));
    let Some(root) = root.filter(|root| root.has_file_system()).cloned() else {
        machine.ledger.violation("no-boot-partition", format!("GRUB looks for partition {partition}"));
        machine.console().print("error: no such partition.\nEntering rescue mode...\ngrub rescue> ").await;
        return Next::Hang;
    };
    let Some(script) = root.file(&format!("{}/grub.cfg", grub::FOLDER)) else {
        machine.ledger.violation("no-boot-configuration", "GRUB finds no grub.cfg");
        machine.console().print("grub> ").await;
        return Next::Hang;
    };
    let config = Config::parse(&String::from_utf8_lossy(script));
    tokio::time::sleep(Duration::from_secs(config.timeout.into())).await;
    let mut image = BootImage::default();
    for command in config.commands {
        let failed = match command {
            Command::Echo(text) => {
                machine.console().print(&format!("{text}\n")).await;
                continue;
            }
            Command::Linux { path, arguments } => match root.file(&path) {
                Some(kernel) if kernel::Format::X86BzImage.check(kernel).is_ok() => {
                    image.kernel = kernel.to_vec();
                    image.cmdline = format!("BOOT_IMAGE={path} {arguments}").trim_end().to_owned();
                    continue;
                }
                Some(_) => "invalid magic number".to_owned(),
                None => format!("file `{path}' not found"),
            },
            Command::Initrd(_) if image.kernel.is_empty() => "you need to load the kernel first".to_owned(),
            Command::Initrd(path) => match root.file(&path) {
                Some(ramdisk) => {
                    image.ramdisk = Some(ramdisk.to_vec());
                    continue;
                }
                None => format!("file `{path}' not found"),
            },
        };
        machine.ledger.violation("not-booted-from-disk", failed.as_str());
        machine.console().print(&format!("error: {failed}.\n\nPress any key to continue...")).await;
        return Next::Hang;
    }
    match image.kernel.is_empty() {
        true => Next::Hang,
        false => Next::Boot(image),
    }
}
