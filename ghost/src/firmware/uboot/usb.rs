//! U-Boot's `usb`: its bus, a network device on it, and a disk there (`cmd/usb.c`, `drivers/usb/host/usb-uclass.c`,
//! `blk_common_cmd` in `drivers/block/blk-uclass.c`).
//!
//! The disk is what a lab plugs in: a part of the board's storage, `usb0`, that is not empty, as long as the cable is plugged.
//! U-Boot finds it when it scans the bus, and keeps it until it does so again.

use std::sync::Arc;

use super::{Shell, UbootShell};
use crate::firmware::shell::words::hex;
use crate::firmware::uboot::mmc::BLOCK;
use crate::firmware::{Flow, flash};

/// The part of the storage that is the disk.
const PART: &str = "usb0";

/// What U-Boot knows of its USB bus.
#[derive(Debug, Clone, Default)]
pub(super) struct Usb {
    started: bool,
    disk: Option<Arc<Vec<u8>>>,
}

impl UbootShell<'_> {
    pub(super) async fn usb(&mut self, args: &[&str]) -> Flow<bool> {
        match args {
            ["start" | "reset", ..] => {
                self.ethernet = true;
                self.print(
                    "starting USB...\nBus usb@0: USB EHCI 1.00\nscanning bus usb@0 for devices... 2 USB Device(s) found\n",
                )
                .await;
                self.usb.started = true;
                let (kind, found) = if self.uboot.usb_storage {
                    self.usb.disk = self.plugged().await.map(Arc::new);
                    ("Storage", self.usb.disk.is_some())
                } else {
                    ("Ethernet", self.uboot.usb_ethernet)
                };
                let found = i32::from(found);
                let small = kind.to_lowercase();
                self.print(format!(
                    "       scanning usb for {small} devices... {found} {kind} Device(s) found\n"
                ))
                .await;
                Ok(true)
            }
            ["stop", ..] => {
                self.usb = Usb::default();
                self.say("stopping USB..".into()).await
            }
            ["read", address, block, count] if self.uboot.usb_storage => {
                let number = |text: &str| hex(text).and_then(|number| usize::try_from(number).ok());
                match (hex(address), number(block), number(count)) {
                    _ if !self.usb.started => self.stopped_usb().await,
                    (Some(address), Some(block), Some(count)) => self.usb_read(address, block, count).await,
                    _ => self.usage("usb", format!("usb {}", args.join(" "))).await,
                }
            }
            _ => self.usage("usb", format!("usb {}", args.join(" "))).await,
        }
    }

    async fn stopped_usb(&mut self) -> Flow<bool> {
        self.machine.ledger.violation("no-usb", "used before `usb start`");
        self.print("USB is stopped. Please issue 'usb start' first.\n").await;
        Ok(false)
    }

    /// What is on the disk that is plugged in.
    async fn plugged(&self) -> Option<Vec<u8>> {
        if !self.machine.bus.is_plugged() {
            return None;
        }
        let (folder, board) = (self.uboot.flash.clone(), self.machine.board.name.clone());
        let found = flash::beside(move || flash::read(&folder, &board, PART)).await.ok().flatten();
        found.filter(|disk| !disk.is_empty())
    }

    /// The disk with this number, if the bus had it when it was scanned.
    pub(super) fn usb_disk(&self, device: &str) -> Option<Arc<Vec<u8>>> {
        self.usb.disk.clone().filter(|_| hex(device) == Some(0))
    }

    async fn usb_read(&mut self, address: u64, block: usize, count: usize) -> Flow<bool> {
        let (offset, size) = (block.saturating_mul(BLOCK), count.saturating_mul(BLOCK));
        let disk = self.usb.disk.clone();
        let bytes = disk.as_ref().and_then(|disk| disk.get(offset..offset.checked_add(size)?));
        let mut ok = false;
        if let Some(bytes) = bytes {
            ok = self.machine.memory.write(address, bytes.to_vec()).is_ok();
            if !ok {
                self.machine.ledger.violation("not-ram", format!("{address:#x}"));
            }
        } else {
            self.machine.ledger.violation("no-usb-disk", format!("{count:#x} blocks at {block:#x}"));
        }
        // Without a disk there is no current device either, and the error is what was read.
        let (device, blocks, result) = match (&disk, ok) {
            (Some(_), true) => (0, i64::try_from(count).unwrap_or_default(), "OK"),
            (Some(_), false) => (0, 0, "ERROR"),
            (None, _) => (-1, -19, "ERROR"),
        };
        self.print(format!(
            "\nusb read: device {device} block # {block}, count {count} ... {blocks} blocks read: {result}\n"
        ))
        .await;
        Ok(ok)
    }
}

#[cfg(test)]
mod tests {
    use crate::firmware::flash;
    use crate::firmware::testing::Bench;

    #[tokio::test]
    async fn a_disk_is_there_when_it_was_plugged_before_the_bus_was_scanned() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::start(&format!(
            "
model: x
memory: {{base: 0x40000000, mib: 16}}
cable: unplugged
firmware: {{kind: u-boot, banner: U-Boot, autoboot: {{message: ''}}, arch: arm64, boot: [booti], usb_storage: true, flash: {:?}}}
",
            folder.path()
        ))
        .await;
        bench.expect("=> ").await;
        let mut disk = vec![0; 4096];
        disk[512] = 1;
        flash::write(folder.path(), "bench", "usb0", &disk).unwrap();
        for (line, answer) in [
            ("usb read 40000000 1 1", "USB is stopped. Please issue 'usb start' first.\n"),
            ("usb start", "scanning usb for storage devices... 0 Storage Device(s) found\n"),
            ("part start usb 0 1 begin", "** Bad device usb 0 **\n"),
            ("usb read 40000000 1 1", "usb read: device -1 block # 1, count 1 ... -19 blocks read: ERROR\n"),
        ] {
            bench.send(&format!("{line}\n")).await;
            bench.expect(answer).await;
        }
        bench.bus.plug(true);
        for (line, answer) in [
            ("usb read 40000000 1 1", "-19 blocks read: ERROR\n"),
            ("usb reset", "1 Storage Device(s) found\n"),
            ("part start usb 0 1 begin", "** Invalid partition 1 **\n"),
            ("usb read 40000000 1 1", "usb read: device 0 block # 1, count 1 ... 1 blocks read: OK\n"),
            ("usb read 40000000 7 2", "0 blocks read: ERROR\n"),
            ("usb read 0 1 1", "0 blocks read: ERROR\n"),
        ] {
            bench.send(&format!("{line}\n")).await;
            bench.expect(answer).await;
        }
        let found = [
            "no-usb",
            "no-usb-disk",
            "no-usb-disk",
            "no-usb-disk",
            "no-such-partition",
            "no-usb-disk",
            "not-ram",
        ];
        assert_eq!(bench.violations(), found);
    }
}
