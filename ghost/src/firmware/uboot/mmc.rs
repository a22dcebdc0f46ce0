//! U-Boot's SD cards and eMMCs: `mmc dev`, `mmc erase`, `mmc read` and `mmc write` (`cmd/mmc.c`), and what
//! else is written into them.
//!
//! A device is a part of the board's storage, `mmc1`, with its bytes from the first one on; what lies
//! behind these was never written and is zero.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meta_lava_formats::mbr;
use serde::Deserialize;

use super::{Shell, Uboot, UbootShell};
use crate::firmware::shell::words::hex;
use crate::firmware::{Flow, flash, imx};

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// An MMC device, in a board's file under `firmware.mmc`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mmc {
    /// Its size in KiB.
    kib: usize,
}

/// The MMC devices of a board, by their numbers, and where what is in them is kept.
#[derive(Debug, Clone)]
pub(super) struct Cards {
    devices: BTreeMap<u32, Mmc>,
    rom: Option<imx::Rom>,
    /// What lies there for the boot ROM before anybody writes.
    banner: String,
    folder: PathBuf,
    board: String,
}

impl Cards {
    pub(super) fn of(uboot: &Uboot, board: &str) -> Self {
        Self {
            devices: uboot.mmc.clone(),
            rom: uboot.rom,
            banner: uboot.banner.clone(),
            folder: uboot.flash.clone(),
            board: board.to_owned(),
        }
    }

    /// Its size in bytes; nothing where there is no such device.
    pub(super) fn size(&self, device: u32) -> Option<usize> {
        self.devices.get(&device).map(|mmc| mmc.kib * 1024)
    }

    /// What is in a device.
    pub(super) fn read(&self, device: u32) -> std::io::Result<Vec<u8>> {
        let found = flash::read(&self.folder, &self.board, &format!("mmc{device}"))?;
        Ok(found.unwrap_or_else(|| match &self.rom {
            Some(rom) => rom.before_anybody_writes(device, &self.banner),
            None => Vec::new(),
        }))
    }

    /// Writes `bytes` at `offset` into a device; whether they fit.
    pub(super) fn write(&self, device: u32, offset: usize, bytes: &[u8]) -> std::io::Result<bool> {
        let end = offset.saturating_add(bytes.len());
        if self.size(device).is_none_or(|size| end > size) {
            return Ok(false);
        }
        let mut all = self.read(device)?;
        if all.len() < end {
            all.resize(end, 0);
        }
        all[offset..end].copy_from_slice(bytes);
        flash::write(&self.folder, &self.board, &format!("mmc{device}"), &all)?;
        Ok(true)
    }
}

impl UbootShell<'_> {
    fn cards(&self) -> Cards {
        Cards::of(self.uboot, &self.machine.board.name)
    }

    pub(super) async fn mmc(&mut self, args: &[&str]) -> Flow<bool> {
        // A build whose board does not say what is in its slots: nothing can be made of them, either.
        if self.uboot.mmc.is_empty() {
            return Ok(true);
        }
        let number = |text: &str| hex(text).and_then(|number| usize::try_from(number).ok());
        match args {
            ["rescan"] => Ok(true),
            ["dev"] => {
                let device = self.mmc;
                self.chosen(device).await
            }
            ["dev", device] => {
                let device = device.parse().unwrap_or(u32::MAX);
                self.chosen(device).await
            }
            ["erase", block, count] => match (number(block), number(count)) {
                (Some(block), Some(count)) => self.erase_blocks(block, count).await,
                _ => self.usage("mmc", format!("mmc {}", args.join(" "))).await,
            },
            ["read", address, block, count] => match (hex(address), number(block), number(count)) {
                (Some(address), Some(block), Some(count)) => self.read_blocks(address, block, count).await,
                _ => self.usage("mmc", format!("mmc {}", args.join(" "))).await,
            },
            ["write", address, block, count] => match (hex(address), number(block), number(count)) {
                (Some(address), Some(block), Some(count)) => self.write_blocks(address, block, count).await,
                _ => self.usage("mmc", format!("mmc {}", args.join(" "))).await,
            },
            _ => self.usage("mmc", format!("mmc {}", args.join(" ")).trim_end().to_owned()).await,
        }
    }

    /// `part start|size mmc|usb DEVICE PARTITION VARIABLE` (`cmd/part.c`).
    pub(super) async fn part(&mut self, args: &[&str]) -> Flow<bool> {
        let [what @ ("start" | "size"), kind @ ("mmc" | "usb"), device, partition, variable] = args else {
            return self.usage("part", format!("part {}", args.join(" ")).trim_end().to_owned()).await;
        };
        let card = if *kind == "usb" {
            let Some(disk) = self.usb_disk(device) else {
                self.machine.ledger.violation("no-usb-disk", format!("device {device}"));
                self.print(format!("** Bad device usb {device} **\n")).await;
                return Ok(false);
            };
            disk.to_vec()
        } else {
            let device = device.parse().unwrap_or(u32::MAX);
            if !self.there(device).await {
                return Ok(false);
            }
            let cards = self.cards();
            flash::beside(move || cards.read(device)).await.unwrap_or_default()
        };
        let number = hex(partition).and_then(|number| usize::try_from(number).ok());
        let found = mbr::parse(&card).unwrap_or_default();
        let Some((_, found)) = found.into_iter().find(|(known, _)| Some(*known) == number) else {
            self.machine.ledger.violation("no-such-partition", format!("{kind} {device}:{partition}"));
            self.print(format!("** Invalid partition {partition} **\n")).await;
            return Ok(false);
        };
        let value = if *what == "start" { found.start } else { found.blocks };
        self.env.insert((*variable).to_owned(), format!("{value:x}"));
        Ok(true)
    }

    /// `do_mmcops` begins with the device, and so does `mmc dev`.
    async fn chosen(&mut self, device: u32) -> Flow<bool> {
        if !self.there(device).await {
            return Ok(false);
        }
        self.mmc = device;
        self.print(format!("switch to partitions #0, OK\nmmc{device} is current device\n")).await;
        Ok(true)
    }

    pub(super) async fn there(&mut self, device: u32) -> bool {
        let there = self.uboot.mmc.contains_key(&device);
        if !there {
            self.machine.ledger.violation("no-such-mmc", format!("device {device}"));
            self.print(format!("MMC Device {device} not found\nno mmc device at slot {device:x}\n")).await;
        }
        there
    }

    async fn erase_blocks(&mut self, block: usize, count: usize) -> Flow<bool> {
        let device = self.mmc;
        if !self.there(device).await {
            return Ok(false);
        }
        let (cards, zeros) = (self.cards(), vec![0; count.saturating_mul(BLOCK).min(self.cards().room())]);
        let whole = zeros.len() == count.saturating_mul(BLOCK);
        let write = move || cards.write(device, block.saturating_mul(BLOCK), &zeros);
        let ok = whole && flash::beside(write).await.unwrap_or_default();
        self.said("erase", "erased", block, count, ok).await
    }

    async fn write_blocks(&mut self, address: u64, block: usize, count: usize) -> Flow<bool> {
        let device = self.mmc;
        if !self.there(device).await {
            return Ok(false);
        }
        let cards = self.cards();
        let size = count.saturating_mul(BLOCK);
        let found = self.machine.memory.from(address);
        let mut bytes = found;
        bytes.resize(size.min(cards.room()), 0);
        let whole = bytes.len() == size;
        let write = move || cards.write(device, block.saturating_mul(BLOCK), &bytes);
        let ok = whole && flash::beside(write).await.unwrap_or_default();
        self.said("write", "written", block, count, ok).await
    }

    async fn read_blocks(&mut self, address: u64, block: usize, count: usize) -> Flow<bool> {
        let device = self.mmc;
        if !self.there(device).await {
            return Ok(false);
        }
        let cards = self.cards();
        let (offset, size) = (block.saturating_mul(BLOCK), count.saturating_mul(BLOCK));
        let inside = cards.size(device).is_some_and(|all| offset.saturating_add(size) <= all);
        let read = move || cards.read(device);
        let mut ok = false;
        if inside && let Ok(all) = flash::beside(read).await {
            let mut bytes = all.get(offset..).unwrap_or_default().to_vec();
            bytes.resize(size, 0);
            ok = self.machine.memory.write(address, bytes).is_ok();
            if !ok {
                self.machine.ledger.violation("not-ram", format!("{address:#x}"));
            }
        }
        self.said("read", "read", block, count, ok).await
    }

    async fn said(&mut self, verb: &str, done: &str, block: usize, count: usize, ok: bool) -> Flow<bool> {
        let (device, blocks, result) = match ok {
            true => (self.mmc, count, "OK"),
            false => (self.mmc, 0, "ERROR"),
        };
        if !ok {
            self.machine.ledger.violation("not-mmc", format!("{verb} of {count:#x} blocks at {block:#x}"));
        }
        self.print(format!(
            "\nMMC {verb}: dev # {device}, block # {block}, count {count} ... {blocks} blocks {done}: {result}\n"
        ))
        .await;
        Ok(ok)
    }
}

impl Cards {
    /// The size of the largest device: no more is ever made up for a command.
    fn room(&self) -> usize {
        self.devices.values().map(|mmc| mmc.kib * 1024).max().unwrap_or_default()
    }
}
