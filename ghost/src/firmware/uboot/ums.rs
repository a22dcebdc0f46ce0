//! U-Boot's `ums`: one of its MMC devices is a USB disk of the worker's until `^C` (`cmd/usb_mass_storage.c`).
//!
//! The worker's kernel would make a device node of it, which no container can have of a board that is none.
//! So the disk is a file in that place, as large as the device: real tools (`bmaptool`, `dd`) open and write
//! it as they do the node. What they wrote is in the device once the disk has gone, by `^C`, a reset or the end
//! of power.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::mmc::{BLOCK, Cards};
use super::{Shell, UbootShell};
use crate::firmware::{Flow, flash};
use crate::ledger::{Event, Ledger, Protocol};
use crate::peripheral::{Bus, Mode, Shown, disk};

/// A disk that is on the worker.
struct Disk {
    path: PathBuf,
    cards: Cards,
    device: u32,
    ledger: Ledger,
    alone: Mutex<()>,
}

/// A disk as long as it is shown.
struct Showing {
    bus: Bus,
    disk: Arc<Disk>,
}

impl Disk {
    fn appears(path: PathBuf, cards: Cards, device: u32, ledger: Ledger) -> io::Result<Self> {
        let (bytes, size) = (cards.read(device)?, cards.size(device).unwrap_or_default());
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, &bytes)?;
        File::options().write(true).open(&path)?.set_len(size as u64)?;
        Ok(Self { path, cards, device, ledger, alone: Mutex::default() })
    }

    /// Puts into the device what was written since the last time.
    fn write(&self) -> io::Result<()> {
        let written = fs::read(&self.path)?;
        let mut before = self.cards.read(self.device)?;
        before.resize(self.cards.size(self.device).unwrap_or_default().max(before.len()), 0);
        if written == before {
            return Ok(());
        }
        let place = format!("mmc{}", self.device);
        self.ledger.take(Event::file(Protocol::Usb, &self.path.display().to_string(), &place, &written));
        if !self.cards.write(self.device, 0, &written)? {
            self.ledger.violation("not-mmc", format!("{} bytes for {place}", written.len()));
        }
        Ok(())
    }
}

impl Shown for Disk {
    fn take_over(&self) {
        let _alone = self.alone.lock();
        if let Err(error) = self.write() {
            tracing::error!(%error, "could not take over what was written to {}", self.path.display());
        }
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.disk.take_over();
        let _ = fs::remove_file(&self.disk.path);
        self.bus.show(None);
    }
}

impl UbootShell<'_> {
    /// `ums <USB_controller> [<devtype>] <dev>`
    pub(super) async fn ums(&mut self, args: &[&str]) -> Flow<bool> {
        let (kind, device) = match args {
            [_, device] => ("mmc", *device),
            [_, kind, device] => (*kind, *device),
            _ => return self.usage("ums", format!("ums {}", args.join(" ")).trim_end().to_owned()).await,
        };
        let number = device.parse().unwrap_or(u32::MAX);
        let cards = Cards::of(self.uboot, &self.machine.board.name);
        // A build whose board does not say what is in its slots.
        if self.uboot.mmc.is_empty() {
            self.print(format!("UMS: LUN 0, dev {kind} {device}, hwpart 0, sector 0x0, count 0x0\n")).await;
            self.interrupted().await;
            return Ok(true);
        }
        let Some(size) = cards.size(number).filter(|_| kind == "mmc") else {
            self.machine.ledger.violation("no-such-mmc", format!("{kind} {device}"));
            self.print(format!("** Bad device specification {kind} {device} **\n")).await;
            return Ok(false);
        };
        let board = &self.machine.board;
        let serial = board.peripherals.iter().find(|device| device.when == Mode::MassStorage);
        let serial = serial.and_then(|device| device.serial.clone()).unwrap_or_else(|| board.name.clone());
        let (path, ledger) = (disk(&self.uboot.disks, &serial), self.machine.ledger.clone());
        let appears = flash::beside(move || Disk::appears(path, cards, number, ledger)).await;
        let disk = match appears {
            Ok(disk) => Arc::new(disk),
            Err(error) => {
                tracing::error!(%error, "could not make a board's disk");
                self.print("g_dnl_register: failed!, error: -12\n").await;
                return Ok(false);
            }
        };
        let bus = self.machine.bus.clone();
        bus.show(Some(disk.clone()));
        let _showing = Showing { bus, disk };
        // Behind the disk, so that it goes before that.
        let _gadget = self.machine.bus.enter(Mode::MassStorage);
        self.print(format!(
            "UMS: LUN 0, dev {kind} {device}, hwpart 0, sector 0x0, count {:#x}\n",
            size / BLOCK
        ))
        .await;
        self.interrupted().await;
        Ok(true)
    }
}
