//! A board that boots by itself what is in its storage: nothing to talk to.

use std::path::PathBuf;

use async_trait::async_trait;
use meta_lava_formats::{compress, kernel};
use serde::Deserialize;

use super::edl::Edl;
use super::{BootImage, Firmware, FirmwareKind, Next, flash, waits_for_ever};
use crate::machine::Machine;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "minimal",
    about: "no boot loader to talk to: boots what is in its storage",
    load: |name, text| {
        let (board, minimal) = crate::board::parse::<Minimal>(name, text)?;
        Ok((board, Box::new(minimal)))
    },
};

/// Settings of a board that boots by itself, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minimal {
    #[serde(rename = "kind")]
    _kind: String,
    /// What it prints before the kernel does.
    #[serde(default)]
    lines: Vec<String>,
    #[serde(default)]
    cmdline: String,
    /// Folder of the storage; see [`flash`].
    #[serde(default = "flash::folder")]
    flash: PathBuf,
    /// File on the worker that the part `kernel` has until it is flashed.
    kernel: Option<PathBuf>,
    /// File on the worker that the part `root`, a ramdisk, has until it is flashed.
    root: Option<PathBuf>,
    /// File on the worker that the part `dtb` has until it is flashed.
    dtb: Option<PathBuf>,
    /// The emergency download mode of its boot ROM, if that is Qualcomm's.
    edl: Option<Edl>,
}

impl Minimal {
    /// What is in a part of the storage.
    async fn part(&self, board: &str, part: &'static str, factory: Option<&PathBuf>) -> Option<Vec<u8>> {
        let (folder, board, factory) = (self.flash.clone(), board.to_owned(), factory.cloned());
        let read = move || match flash::read(&folder, &board, part)? {
            Some(bytes) => Ok(Some(bytes)),
            None => factory.map(std::fs::read).transpose(),
        };
        let found = flash::beside(read).await;
        found.unwrap_or_else(|error| {
            tracing::error!(%error, part, "could not read a board's storage");
            None
        })
    }
}

#[async_trait]
impl Firmware for Minimal {
    async fn run(&self, machine: &mut Machine) -> Next {
        let board = machine.board.name.clone();
        let kernel = self.part(&board, "kernel", self.kernel.as_ref()).await;
        if kernel.is_none() && self.edl.is_some() {
            // Such a boot ROM that finds nothing to start waits for a program, as if it had been told to.
            return self.recover(machine).await;
        }
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        machine.console().print(&text).await;
        let Some(kernel) = kernel else {
            machine.ledger.violation("nothing-flashed", "kernel");
            machine.console().print("No bootable device found.\n").await;
            return Next::Hang;
        };
        // What is compressed unpacks itself.
        if compress::Format::of(&kernel) == compress::Format::None
            && let Err(error) = kernel::recognise(&kernel)
        {
            machine.ledger.violation("bad-image", format!("kernel: {error}"));
            machine.console().print("Bad kernel image.\n").await;
            return Next::Hang;
        }
        Next::Boot(BootImage {
            kernel,
            cmdline: self.cmdline.clone(),
            ramdisk: self.part(&board, "root", self.root.as_ref()).await,
            dtb: self.part(&board, "dtb", self.dtb.as_ref()).await,
        })
    }

    async fn recover(&self, machine: &mut Machine) -> Next {
        let Some(edl) = &self.edl else { return waits_for_ever(machine).await };
        edl.run(machine, &self.flash).await;
        Next::Reset
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::Bench;
    use super::*;

    fn board(folder: &Path, more: &str) -> String {
        format!(
            "
model: Raspberry Pi 3 Model B Rev 1.2
firmware:
  kind: minimal
  lines: [Raspberry Pi Bootcode, Loading 'kernel8.img']
  cmdline: console=ttyS1,115200 root=/dev/mmcblk0p2 rootwait
  flash: {folder:?}
{more}"
        )
    }

    fn image() -> Vec<u8> {
        kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096)
    }

    #[tokio::test]
    async fn what_was_flashed_boots_by_itself_and_after_a_reset_again() {
        let folder = tempfile::tempdir().unwrap();
        flash::write(folder.path(), "bench", "kernel", &image()).unwrap();
        flash::write(folder.path(), "bench", "root", b"cpio").unwrap();
        let mut bench = Bench::start(&board(folder.path(), "")).await;
        for _ in 0..2 {
            bench.expect("Raspberry Pi Bootcode\nLoading 'kernel8.img'\n").await;
            let booted = bench.booted().await;
            assert_eq!(booted.kernel, image());
            assert_eq!(booted.ramdisk.as_deref(), Some(&b"cpio"[..]));
            assert_eq!(booted.cmdline, "console=ttyS1,115200 root=/dev/mmcblk0p2 rootwait");
            bench.reset().await;
        }
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn a_board_that_was_never_flashed_has_what_the_factory_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let factory = folder.path().join("Image");
        std::fs::write(&factory, image()).unwrap();
        let mut bench = Bench::start(&board(folder.path(), &format!("  kernel: {factory:?}\n"))).await;
        assert_eq!(bench.booted().await.kernel, image());
    }

    #[tokio::test]
    async fn an_empty_board_and_one_with_rubbish_hang() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::start(&board(folder.path(), "")).await;
        bench.expect("No bootable device found.").await;
        assert!(matches!(bench.next().await, Next::Hang));
        flash::write(folder.path(), "bench", "kernel", b"rubbish").unwrap();
        bench.reset().await;
        bench.expect("Bad kernel image.").await;
        assert!(matches!(bench.next().await, Next::Hang));
        assert_eq!(bench.violations(), ["nothing-flashed", "bad-image"]);
    }
}
