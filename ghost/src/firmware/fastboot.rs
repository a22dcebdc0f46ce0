//! A boot loader with fastboot, as Android devices have one: little kernel (LK) and its kind.
//!
//! The protocol is that of Android's `system/core/fastboot/README.md`, the refusals are those of LK
//! (`app/aboot/aboot.c`, `app/aboot/fastboot.c`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use meta_lava_formats::{android, compress, ext, fdt, sha256, sparse};
use serde::Deserialize;

use super::arch::Arch;
use super::{BootImage, Firmware, FirmwareKind, Next, flash};
use crate::disk::{Bus, Disk};
use crate::linux;
use crate::machine::{Machine, Reason};
use crate::peripheral::{Answer, Call, Data, Mode};

pub const KIND: FirmwareKind = FirmwareKind {
    name: "fastboot",
    about: "a boot loader with fastboot: flash, boot, Android boot images",
    load: |name, text| {
        let (board, fastboot) = crate::board::parse::<Fastboot>(name, text)?;
        Ok((board, Box::new(fastboot)))
    },
};

/// Settings of a boot loader with fastboot, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fastboot {
    #[serde(rename = "kind")]
    _kind: String,
    /// What it prints before it decides what to start.
    #[serde(default)]
    lines: Vec<String>,
    /// What makes it wait in fastboot when it is switched on.
    enter: Enter,
    #[serde(default)]
    arch: Arch,
    /// What it says its product is.
    product: String,
    /// Its partitions, and how many KiB each has.
    partitions: BTreeMap<String, u64>,
    /// Most bytes that it takes at once.
    #[serde(default = "default_max_download")]
    max_download: u64,
    /// What it puts before the command line of a boot image.
    #[serde(default)]
    cmdline: String,
    /// Folder of the storage; see [`flash`].
    #[serde(default = "flash::folder")]
    flash: PathBuf,
}

fn default_max_download() -> u64 {
    0x1000_0000
}

/// See [`Fastboot::enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Enter {
    /// A USB cable.
    Cable,
    /// Always: a switch on the board, say.
    Always,
    /// Nothing: only who asks for it by a reboot.
    Asked,
}

/// Partitions that take nothing but a boot image (`cmd_flash_mmc_img`).
const BOOT_PARTITIONS: [&str; 2] = ["boot", "recovery"];

/// Most bytes that a kernel has once it is unpacked.
const KERNEL_LIMIT: usize = 256 << 20;

#[async_trait]
impl Firmware for Fastboot {
    async fn run(&self, machine: &mut Machine) -> Next {
        let next = self.start(machine).await;
        if matches!(next, Next::Boot(_)) {
            machine.disks = disks(machine, &self.flash, self.partitions.keys()).await;
        }
        next
    }
}

/// What comes of a command.
enum Then {
    Next(Answer),
    End(Answer, Next),
}

impl Fastboot {
    async fn start(&self, machine: &mut Machine) -> Next {
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        machine.console().print(&text).await;
        let asked = machine.reason.take() == Some(Reason::Bootloader);
        let waits = match self.enter {
            Enter::Always => true,
            Enter::Cable => machine.bus.is_plugged(),
            Enter::Asked => false,
        };
        if !asked && !waits {
            match self.flashed(machine).await {
                Ok(image) => return Next::Boot(image),
                Err(why) => {
                    let says = format!(
                        "ERROR: {why}\nERROR: Could not do normal boot. Reverting to fastboot mode.\n"
                    );
                    machine.console().print(&says).await;
                }
            }
        }
        self.serve(machine).await
    }

    async fn serve(&self, machine: &mut Machine) -> Next {
        machine.console().print("fastboot: processing commands\n").await;
        let mut gadget = machine.bus.enter(Mode::Fastboot);
        let mut downloaded = None;
        loop {
            let call = gadget.next().await;
            let then = self.command(machine, &call, &mut downloaded).await;
            match then {
                Then::Next(answer) => call.answer(answer),
                Then::End(answer, next) => {
                    gadget.leave(call, answer);
                    return next;
                }
            }
        }
    }

    async fn command(&self, machine: &mut Machine, call: &Call, downloaded: &mut Option<Data>) -> Then {
        let okay = |text: &str| Then::Next(Answer::okay(text));
        let fail = |text: &str| Then::Next(Answer::fail(text));
        let (verb, argument) = call.command.split_once(':').unwrap_or((&call.command, ""));
        match (verb, argument) {
            ("getvar", name) => match self.variable(machine, name) {
                Some(value) => okay(&value),
                None => fail("unknown variable"),
            },
            ("download", size) => {
                *downloaded = None;
                let size = u64::from_str_radix(size, 16).unwrap_or(u64::MAX);
                if size > self.max_download {
                    return fail("data too large");
                }
                downloaded.clone_from(&call.data);
                okay("")
            }
            ("flash", partition) => {
                let Some(data) = downloaded.take() else { return fail("no data") };
                match self.flash(machine, partition, &data).await {
                    Ok(()) => okay(""),
                    Err(why) => {
                        machine.ledger.violation("flash-refused", format!("{partition}: {why}"));
                        fail(&why)
                    }
                }
            }
            ("erase", partition) => {
                if !self.partitions.contains_key(partition) {
                    machine.ledger.violation("flash-refused", format!("{partition}: no such partition"));
                    return fail("Partition table doesn't exist");
                }
                let (folder, board) = (self.flash.clone(), machine.board.name.clone());
                let partition = partition.to_owned();
                let erase = move || flash::write(&folder, &board, &partition, &[]);
                match storage(erase).await {
                    Ok(()) => okay(""),
                    Err(why) => fail(&why),
                }
            }
            ("boot", "") => {
                let Some(data) = downloaded.take() else { return fail("no data") };
                machine.ledger.take(data.arrived(""));
                match self.image(data.bytes).await {
                    Ok(image) => Then::End(Answer::okay(""), Next::Boot(image)),
                    Err(why) => {
                        machine.ledger.violation("bad-image", &why);
                        fail(&why)
                    }
                }
            }
            ("continue", "") => match self.flashed(machine).await {
                Ok(image) => Then::End(Answer::okay(""), Next::Boot(image)),
                Err(why) => fail(&why),
            },
            ("reboot", "") => Then::End(Answer::okay(""), Next::Reset),
            ("reboot-bootloader", "") => {
                machine.reason = Some(Reason::Bootloader);
                Then::End(Answer::okay(""), Next::Reset)
            }
            _ => {
                machine.ledger.violation("unknown-command", call.command.as_str());
                fail("unknown command")
            }
        }
    }

    fn variable(&self, machine: &Machine, name: &str) -> Option<String> {
        let partition = |name: &str| self.partitions.get(name);
        Some(match name.split_once(':') {
            None => match name {
                "version" => "0.5".to_owned(),
                "product" => self.product.clone(),
                "serialno" => {
                    let found =
                        machine.bus.attached().into_iter().find(|device| device.when == Mode::Fastboot);
                    found?.serial
                }
                "max-download-size" => format!("{:#x}", self.max_download),
                "secure" => "no".to_owned(),
                "unlocked" => "yes".to_owned(),
                _ => return None,
            },
            Some(("partition-size", name)) => format!("{:#x}", partition(name)? * 1024),
            Some(("partition-type", name)) => partition(name).map(|_| "raw".to_owned())?,
            Some(("has-slot", name)) => partition(name).map(|_| "no".to_owned())?,
            Some(_) => return None,
        })
    }

    /// Writes what was sent into a partition.
    async fn flash(&self, machine: &Machine, partition: &str, data: &Data) -> Result<(), String> {
        machine.ledger.take(data.arrived(partition));
        let Some(kib) = self.partitions.get(partition) else {
            return Err("partition table doesn't exist".into());
        };
        let bytes = data.bytes.clone();
        let bytes = if sparse::is_sparse(&bytes) {
            match expanded(bytes, *kib).await {
                Ok(bytes) => bytes,
                Err(sparse::Error::TooLarge(_)) => return Err("size too large".into()),
                // LK has a text for each kind of mistake.
                Err(_) => return Err("Bogus size sparse and chunk header".into()),
            }
        } else {
            if BOOT_PARTITIONS.contains(&partition) && !bytes.starts_with(android::MAGIC) {
                return Err("image is not a boot image".into());
            }
            if bytes.len() as u64 > kib * 1024 {
                return Err("size too large".into());
            }
            bytes
        };
        keep(machine, &self.flash, partition, bytes, sha256(&data.bytes)).await
    }

    /// What is in the partition `boot`.
    async fn flashed(&self, machine: &Machine) -> Result<BootImage, String> {
        let (folder, board) = (self.flash.clone(), machine.board.name.clone());
        let found = storage(move || flash::read(&folder, &board, "boot")).await?;
        match found.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => self.image(bytes).await,
            None => Err("Invalid boot image header".into()),
        }
    }

    /// Takes a boot image apart as `boot_linux_from_mmc` and `cmd_boot` do.
    async fn image(&self, bytes: Vec<u8>) -> Result<BootImage, String> {
        let (arch, cmdline) = (self.arch, self.cmdline.clone());
        let read = tokio::task::spawn_blocking(move || image(arch, &cmdline, &bytes));
        read.await.unwrap_or_else(|error| Err(format!("could not read the image: {error}")))
    }
}

/// A sparse image unpacked, for a partition of so many KiB.
pub(super) async fn expanded(bytes: Vec<u8>, kib: u64) -> Result<Vec<u8>, sparse::Error> {
    let room = usize::try_from(kib * 1024).unwrap_or(usize::MAX).min(linux::UNPACKED_LIMIT);
    let expanded = tokio::task::spawn_blocking(move || sparse::expand(&bytes, room)).await;
    expanded.unwrap_or(Err(sparse::Error::Truncated))
}

/// Keeps in a partition what came as `sha256`, and notes what is in it where that is a file system.
pub(super) async fn keep(
    machine: &Machine,
    folder: &Path,
    partition: &str,
    bytes: Vec<u8>,
    sha256: String,
) -> Result<(), String> {
    let ledger = machine.ledger.clone();
    let (folder, board, partition) = (folder.to_owned(), machine.board.name.clone(), partition.to_owned());
    storage(move || {
        flash::write(&folder, &board, &partition, &bytes)?;
        if ext::is_ext(&bytes)
            && let Ok(tree) = ext::read(bytes, linux::UNPACKED_LIMIT)
        {
            linux::note_disk(&ledger, sha256, &tree);
        }
        Ok(())
    })
    .await
}

/// What is found on those of `partitions`, numbered in their order, that were flashed. One whose file system is broken has
/// nothing on it.
pub(super) async fn disks(
    machine: &Machine,
    folder: &Path,
    partitions: impl Iterator<Item = &String>,
) -> Vec<Disk> {
    let (folder, board) = (folder.to_owned(), machine.board.name.clone());
    let partitions: Vec<String> = partitions.cloned().collect();
    let read = storage(move || {
        let mut disks = Vec::new();
        for (number, partition) in partitions.iter().enumerate() {
            if let Some(file) = flash::open(&folder, &board, partition)?
                && let Ok(number) = u8::try_from(number)
                && let Ok(disk) = Disk::read_to_boot(file, Bus::Mmc, number)
            {
                disks.push(disk.labelled(partition));
            }
        }
        Ok(disks)
    });
    read.await.unwrap_or_default()
}

pub(super) fn image(arch: Arch, cmdline: &str, bytes: &[u8]) -> Result<BootImage, String> {
    let image = android::parse(bytes).map_err(|error| match error {
        android::Error::BadMagic => "invalid bootimage header".to_owned(),
        error => format!("bootimage: {error}"),
    })?;
    let (unpacked, behind) = compress::decompress_prefix(image.kernel, KERNEL_LIMIT)
        .map_err(|error| format!("decompressing kernel image failed!!! {error}"))?;
    let kernel = arch.kernel().check(&unpacked).map_err(|error| format!("kernel: {error}"))?;
    // Behind a kernel that is not compressed only its own header says where it ends.
    let appended = match compress::Format::of(image.kernel) {
        compress::Format::None => {
            let end = usize::try_from(kernel.image_size).unwrap_or(usize::MAX);
            image.kernel.get(end..).unwrap_or_default()
        }
        _ => behind,
    };
    let dtb = [image.dtb, appended].into_iter().find(|dtb| fdt::is_fdt(dtb));
    let dtb = dtb.ok_or("ERROR: Appended Device Tree Blob not found")?;
    fdt::parse(dtb).map_err(|error| format!("device tree: {error}"))?;
    let words = [cmdline, &image.cmdline].map(str::trim);
    let words: Vec<&str> = words.into_iter().filter(|words| !words.is_empty()).collect();
    Ok(BootImage {
        kernel: unpacked.into_owned(),
        cmdline: words.join(" "),
        ramdisk: (!image.ramdisk.is_empty()).then(|| image.ramdisk.to_vec()),
        dtb: Some(dtb.to_vec()),
    })
}

/// Does `work` with the storage, and says what the boot loader does where that fails.
pub(super) async fn storage<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    flash::beside(work).await.map_err(|error| {
        tracing::error!(%error, "a board's storage failed");
        "flash write failure".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::kernel;

    use super::super::testing::Bench;
    use super::*;
    use crate::ledger::Event;

    fn board(folder: &Path, enter: &str) -> String {
        format!(
            "
model: DragonBoard 410c
cable: unplugged
peripherals:
- {{while: fastboot, vendor: 18d1, product: d00d}}
firmware:
  kind: fastboot
  enter: {enter}
  product: msm8916
  partitions: {{boot: 1024, rootfs: 4, cache: 4, system: 64}}
  cmdline: androidboot.emmc=true
  flash: {folder:?}
"
        )
    }

    fn boot_image() -> Vec<u8> {
        let kernel =
            compress::gzip(&kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096)).unwrap();
        let mut tree = fdt::Fdt::default();
        tree.root.set_text("model", "x");
        let dtb = tree.to_bytes().unwrap();
        android::write(&android::Image {
            kernel: &kernel,
            ramdisk: b"cpio",
            dtb: &dtb,
            cmdline: "quiet".into(),
        })
        .unwrap()
    }

    /// A board that waits in fastboot.
    async fn in_fastboot(folder: &Path) -> Bench {
        let mut bench = Bench::start(&board(folder, "always")).await;
        bench.bus.plug(true);
        bench.expect("processing commands").await;
        bench
    }

    #[tokio::test]
    async fn what_is_sent_is_booted_with_its_own_and_the_loaders_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = in_fastboot(folder.path()).await;
        assert_eq!(bench.send_by_fastboot(&boot_image(), "boot").await, Answer::okay(""));
        let image = bench.booted().await;
        assert_eq!(image.cmdline, "androidboot.emmc=true quiet");
        assert_eq!(image.ramdisk.as_deref(), Some(&b"cpio"[..]));
        assert!(kernel::recognise(&image.kernel).is_ok(), "it is unpacked");
        assert_eq!(bench.violations(), [""; 0]);
        assert!(bench.bus.attached().is_empty(), "it has left the bus");
    }

    #[tokio::test]
    async fn what_was_flashed_boots_once_nothing_makes_it_wait() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::start(&board(folder.path(), "cable")).await;
        // Nothing is flashed yet.
        bench.expect("Reverting to fastboot mode").await;
        bench.expect("processing commands").await;
        bench.bus.plug(true);
        assert_eq!(bench.send_by_fastboot(&boot_image(), "flash:boot").await, Answer::okay(""));
        assert_eq!(bench.send_by_fastboot(b"data", "flash:rootfs").await, Answer::okay(""));
        bench.bus.plug(false);
        bench.reset().await;
        assert_eq!(bench.booted().await.cmdline, "androidboot.emmc=true quiet");
        bench.bus.plug(true);
        bench.reset().await;
        bench.expect("processing commands").await;
        assert_eq!(bench.fastboot("continue", None).await, Answer::okay(""));
        bench.booted().await;
    }

    #[tokio::test]
    async fn a_sparse_image_is_flashed_whole_and_is_a_disk_of_the_next_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = in_fastboot(folder.path()).await;
        let packed: &[u8] = include_bytes!("../../../formats/src/ext/small.ext2.gz");
        let system = compress::decompress(packed, 1 << 20).unwrap();
        let image = sparse::write(&system).unwrap();
        assert_eq!(bench.send_by_fastboot(&image, "flash:rootfs").await, Answer::fail("size too large"));
        let broken = bench.send_by_fastboot(&image[..100], "flash:system").await;
        assert_eq!(broken, Answer::fail("Bogus size sparse and chunk header"));
        assert_eq!(bench.send_by_fastboot(&image, "flash:system").await, Answer::okay(""));
        assert_eq!(flash::read(folder.path(), "bench", "system").unwrap().unwrap(), *system);
        assert_eq!(bench.send_by_fastboot(&boot_image(), "boot").await, Answer::okay(""));
        bench.booted().await;
        let trees = bench.events().into_iter().filter(|event| matches!(event, Event::Tree { .. })).count();
        assert_eq!(trees, 1, "the ledger has what is in it");
    }

    #[tokio::test]
    async fn a_reboot_into_the_loader_waits_there_and_another_does_not() {
        let folder = tempfile::tempdir().unwrap();
        flash::write(folder.path(), "bench", "boot", &boot_image()).unwrap();
        let mut bench = Bench::start(&board(folder.path(), "cable")).await;
        bench.booted().await;
        bench.bus.plug(true);
        bench.reset().await;
        bench.expect("processing commands").await;
        assert_eq!(bench.fastboot("reboot-bootloader", None).await, Answer::okay(""));
        assert!(matches!(bench.next().await, Next::Reset));
        assert_eq!(bench.reason().await, Some(Reason::Bootloader));
    }

    #[tokio::test]
    async fn what_the_board_can_not_take_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let bench = in_fastboot(folder.path()).await;
        assert_eq!(bench.fastboot("flash:boot", None).await, Answer::fail("no data"));
        let refused = [
            (&b"x"[..], "flash:nowhere", "partition table doesn't exist"),
            (b"rubbish", "flash:boot", "image is not a boot image"),
            (&[0; 4097], "flash:rootfs", "size too large"),
            (b"rubbish", "boot", "invalid bootimage header"),
            (b"x", "reboot-fastboot", "unknown command"),
        ];
        for (bytes, command, why) in refused {
            assert_eq!(bench.send_by_fastboot(bytes, command).await, Answer::fail(why), "{command}");
        }
        assert_eq!(bench.fastboot("download:20000000", Some(b"x")).await, Answer::fail("data too large"));
        let no_tree = android::Image {
            kernel: &kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096),
            ..android::Image::default()
        };
        let answer = bench.send_by_fastboot(&android::write(&no_tree).unwrap(), "boot").await;
        assert_eq!(answer, Answer::fail("ERROR: Appended Device Tree Blob not found"));
        assert_eq!(
            bench.violations(),
            ["flash-refused", "flash-refused", "flash-refused", "bad-image", "unknown-command", "bad-image"]
        );
    }

    #[tokio::test]
    async fn variables_say_what_the_tool_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let bench = in_fastboot(folder.path()).await;
        for (name, value) in [
            ("product", "msm8916"),
            ("serialno", "bench"),
            ("partition-size:boot", "0x100000"),
            ("has-slot:boot", "no"),
            ("max-download-size", "0x10000000"),
        ] {
            assert_eq!(bench.fastboot(&format!("getvar:{name}"), None).await, Answer::okay(value), "{name}");
        }
        assert_eq!(bench.fastboot("getvar:is-logical:boot", None).await, Answer::fail("unknown variable"));
    }
}
