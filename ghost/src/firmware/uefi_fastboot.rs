//! A UEFI that waits in EDK2's fastboot application until a key ends that, and then boots what was flashed: HiKey's.
//!
//! The application is `EmbeddedPkg/Application/AndroidFastboot/AndroidFastbootApp.c` of Linaro's tree, and what it asks of the
//! board `HiKeyFastboot.c` (`HiKeyFastbootPlatformFlashPartition`, `…GetVar`); their texts are here. The jumper on pins 5 and 6 of J15
//! is closed, so that the boot manager starts it first (`HiKeyDetectJumper` and `HiKeyCreateBootNext` in `HiKeyDxe.c`).
//!
//! What follows is one of two:
//!
//! - Of the builds of 2015 and 2016, Arm's boot menu (`BdsEntry` in `ArmPlatformPkg/Bds/Bds.c`), without a countdown in front where the
//!   variable `Timeout` is 0xffff, which a lab sets by the menu's "Set Boot Timeout".
//! - Of the later ones the next boot options, each told by `[Bds]Booting`. That GRUB is among them is in the integration of UEFI in LAVA's
//!   documentation ("interrupted after flashing the relevant files to boot the system"); the order and the lines are those of logs of
//!   96Boards' builds. One that is not there is passed over without a word.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use meta_lava_formats::{android, sha256, sparse};
use serde::Deserialize;

use super::arch::Arch;
use super::bds::{self, Answer as Answered};
use super::fastboot::{self, storage};
use super::grub::Grub;
use super::{BootImage, Firmware, FirmwareKind, Next, flash};
use crate::machine::Machine;
use crate::peripheral::{Answer, Call, Data, Mode};

pub const KIND: FirmwareKind = FirmwareKind {
    name: "uefi-fastboot",
    about: "a UEFI that waits in fastboot until a key, and boots GRUB from what was flashed",
    load: |name, text| {
        let (board, uefi) = crate::board::parse::<UefiFastboot>(name, text)?;
        Ok((board, Box::new(uefi)))
    },
};

/// Settings of such a UEFI, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UefiFastboot {
    #[serde(rename = "kind")]
    _kind: String,
    /// What it prints before fastboot's own lines.
    #[serde(default)]
    lines: Vec<String>,
    /// How long it takes from a reset until fastboot speaks, in seconds; less where somebody sends a request before.
    #[serde(default = "default_seconds")]
    seconds: u64,
    /// Version of the application.
    #[serde(default = "default_version")]
    version: String,
    #[serde(default)]
    arch: Arch,
    /// What it says its product is.
    product: String,
    /// Its partitions in the order of their table.
    partitions: Vec<Partition>,
    /// Most bytes that it takes at once.
    #[serde(default = "default_max_download")]
    max_download: u64,
    /// What the boot manager has, in its order.
    options: Vec<BootOption>,
    /// Whether it shows them in Arm's menu once fastboot was ended, instead of starting them one after the other.
    #[serde(default)]
    menu: bool,
    /// Version of the GRUB on the partition `boot`.
    #[serde(default = "default_grub")]
    grub: String,
    /// Folder of the storage; see [`flash`].
    #[serde(default = "flash::folder")]
    flash: PathBuf,
}

/// See [`UefiFastboot::partitions`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Partition {
    name: String,
    kib: u64,
}

/// See [`UefiFastboot::options`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BootOption {
    title: String,
    starts: Starts,
}

/// What a boot option starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Starts {
    /// The application.
    Fastboot,
    /// [`PROGRAM`] on the partition `boot`.
    Grub,
    /// The Android boot image in the partition `boot` (`EmbeddedPkg/Application/AndroidBoot`).
    Android,
    /// Something on a medium that is not there.
    Nothing,
}

fn default_seconds() -> u64 {
    5
}

fn default_version() -> String {
    "0.7".into()
}

fn default_max_download() -> u64 {
    0x1000_0000
}

fn default_grub() -> String {
    "2.02~beta3".into()
}

/// The partition that is booted from.
const BOOT: &str = "boot";

/// GRUB there (`Entries` in `HiKeyDxe.c`), and the folder of its configuration.
const PROGRAM: &str = "EFI/BOOT/GRUBAA64.EFI";
const PREFIX: &str = "/EFI/BOOT";

/// What an image of the partition table begins with, and what stands behind that (`HiKeyFastbootPlatformFlashPartition`).
const TABLE: &str = "ptable";
const TABLE_HEADER: &[u8] = b"ENTRYHDRprimary";

/// The partitions of which it says that they hold ext4 (`HiKeyFastbootPlatformGetVar`).
const EXT4: [&str; 3] = ["system", "userdata", "cache"];

/// No key comes later.
const EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What comes of a command.
enum Then {
    Stay(Answer),
    /// The application ends, and the boot manager goes on.
    Quit(Answer),
    End(Answer, Next),
}

#[async_trait]
impl Firmware for UefiFastboot {
    async fn run(&self, machine: &mut Machine) -> Next {
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        machine.console().print(&text).await;
        // From a reset it takes a while to the application; the boot manager has it at once.
        let mut takes = Duration::from_secs(self.seconds);
        loop {
            let takes = std::mem::take(&mut takes);
            if let Some(next) = self.application(machine, takes).await {
                if matches!(next, Next::Boot(_)) {
                    self.find_disks(machine).await;
                }
                return next;
            }
            self.find_disks(machine).await;
            let next = if self.menu { self.choose(machine).await } else { self.go_on(machine).await };
            if let Some(next) = next {
                return next;
            }
        }
    }
}

impl UefiFastboot {
    async fn find_disks(&self, machine: &mut Machine) {
        let names = self.partitions.iter().map(|partition| &partition.name);
        machine.disks = fastboot::disks(machine, &self.flash, names).await;
    }

    /// Runs the application, which speaks after a while; nothing once it was quit.
    ///
    /// LAVA listens right after a reset (`read-feedback`), and what it hears then is no prompt any more: of a real board nothing of
    /// the application, which comes seconds later. So does it here; but who has sent a request has done with listening, and
    /// need not wait.
    async fn application(&self, machine: &mut Machine, takes: Duration) -> Option<Next> {
        let mut gadget = machine.bus.enter(Mode::Fastboot);
        let first = tokio::time::timeout(takes, gadget.next()).await.ok();
        let says = format!(
            "Android Fastboot mode - version {}.\nPress RETURN or SPACE key to quit.\n",
            self.version
        );
        machine.console().print(&says).await;
        let (mut first, mut downloaded) = (first, None);
        loop {
            let call = match first.take() {
                Some(call) => call,
                None => tokio::select! {
                    call = gadget.next() => call,
                    key = machine.console().key(EVER) => match key {
                        Some(b'\r' | b' ') => return None,
                        // No other key does anything, a line feed neither.
                        _ => continue,
                    },
                },
            };
            match self.command(machine, &call, &mut downloaded).await {
                Then::Stay(answer) => call.answer(answer),
                Then::Quit(answer) => {
                    gadget.leave(call, answer);
                    return None;
                }
                Then::End(answer, next) => {
                    gadget.leave(call, answer);
                    return Some(next);
                }
            }
        }
    }

    async fn command(&self, machine: &mut Machine, call: &Call, downloaded: &mut Option<Data>) -> Then {
        let okay = |text: &str| Then::Stay(Answer::okay(text));
        let fail = |text: &str| Then::Stay(Answer::fail(text));
        let (verb, argument) = call.command.split_once(':').unwrap_or((&call.command, ""));
        match (verb, argument) {
            ("getvar", name) => match self.variable(name) {
                Some(value) => okay(&value),
                None => fail("Something went wrong when looking up the variable"),
            },
            ("download", size) => {
                *downloaded = None;
                let size = u64::from_str_radix(size, 16).unwrap_or_default();
                if size == 0 {
                    let says = "ERROR: Fail to get the number of bytes to download.\n";
                    machine.console().print(says).await;
                    return fail("Failed to get the number of bytes to download");
                }
                machine.console().print(&format!("Downloading {size} bytes\n")).await;
                if size > self.max_download {
                    return fail("Not enough memory");
                }
                downloaded.clone_from(&call.data);
                machine.console().print(&format!("\r{size:8} / {size:8} bytes downloaded (100%)\n")).await;
                okay("")
            }
            ("flash", partition) => {
                machine.console().print(&format!("Flashing partition {partition}\n")).await;
                let Some(data) = downloaded.as_ref() else { return fail("No data to flash") };
                let (says, answer) = match self.flash(machine, partition, data).await {
                    Ok(()) => ("Done.", okay("")),
                    Err(why) => {
                        machine.ledger.violation("flash-refused", format!("{partition}: {}", why.detail));
                        (why.says, fail(why.says))
                    }
                };
                machine.console().print(&format!("{says}\n")).await;
                answer
            }
            ("erase", partition) => {
                machine.console().print(&format!("Erasing partition {partition}\n")).await;
                if self.size(partition).is_none() {
                    machine.ledger.violation("flash-refused", format!("{partition}: no such partition"));
                    return fail("Check device console.");
                }
                let (folder, board) = (self.flash.clone(), machine.board.name.clone());
                let partition = partition.to_owned();
                match storage(move || flash::write(&folder, &board, &partition, &[])).await {
                    Ok(()) => okay(""),
                    Err(_) => fail("Check device console."),
                }
            }
            ("boot", "") => {
                machine.console().print("Booting downloaded image\n").await;
                let Some(data) = downloaded.take() else { return fail("No image in memory") };
                machine.ledger.take(data.arrived(""));
                // It reports success whatever comes of it.
                match self.android(data.bytes).await {
                    Ok(image) => Then::End(Answer::okay(""), Next::Boot(image)),
                    Err(why) => {
                        machine.ledger.violation("bad-image", why);
                        okay("")
                    }
                }
            }
            ("continue", "") => {
                let says = "Received 'continue' command. Exiting Fastboot mode\n";
                machine.console().print(says).await;
                Then::Quit(Answer::okay(""))
            }
            // The jumper has it in fastboot again, whichever of the two it is.
            ("reboot" | "reboot-bootloader", "") => Then::End(Answer::okay(""), Next::Reset),
            ("powerdown", "") => Then::End(Answer::okay(""), Next::PowerOff),
            _ => {
                machine.ledger.violation("unknown-command", call.command.as_str());
                match verb.starts_with("oem") {
                    true => fail("OEM Command not recognised."),
                    false => fail("Command not recognised. Check Fastboot version."),
                }
            }
        }
    }

    /// How many KiB a partition has.
    fn size(&self, name: &str) -> Option<u64> {
        self.partitions.iter().find(|partition| partition.name == name).map(|partition| partition.kib)
    }

    /// A variable; the board's own part knows of nothing else, and calls that empty.
    fn variable(&self, name: &str) -> Option<String> {
        Some(match name.split_once(':') {
            None if name == "version" => self.version.clone(),
            None if name == "product" => self.product.clone(),
            None if name == "max-download-size" => format!("{:#x}", self.max_download),
            Some(("partition-size", name)) => format!("{:#x}", self.size(name)? * 1024),
            Some(("partition-type", name)) if EXT4.iter().any(|ext4| name.starts_with(ext4)) => "ext4".into(),
            Some(("partition-type", _)) => "raw".into(),
            _ => String::new(),
        })
    }

    /// Writes what was sent into a partition.
    async fn flash(&self, machine: &Machine, partition: &str, data: &Data) -> Result<(), Refused> {
        const WRONG: &str = "Error flashing partition.";
        let wrong = |detail: &str| Refused { says: WRONG, detail: detail.to_owned() };
        machine.ledger.take(data.arrived(partition));
        let bytes = data.bytes.clone();
        if partition == TABLE {
            // The table is the one that the board has: a lab flashes the same again.
            return if bytes.starts_with(TABLE_HEADER) { Ok(()) } else { Err(wrong("unknown ptable image")) };
        }
        let Some(kib) = self.size(partition) else {
            return Err(Refused { says: "No such partition.", detail: "no such partition".into() });
        };
        let bytes = if sparse::is_sparse(&bytes) {
            fastboot::expanded(bytes, kib).await.map_err(|error| wrong(&error.to_string()))?
        } else {
            bytes
        };
        if bytes.len() as u64 > kib * 1024 {
            return Err(wrong("partition not big enough"));
        }
        let kept = fastboot::keep(machine, &self.flash, partition, bytes, sha256(&data.bytes)).await;
        kept.map_err(|error| wrong(&error))
    }

    /// Starts the boot options one after the other; nothing where that leads to fastboot again.
    async fn go_on(&self, machine: &mut Machine) -> Option<Next> {
        for option in &self.options {
            machine.console().print(&format!("[Bds]Booting {}\n", option.title)).await;
            if option.starts == Starts::Fastboot {
                return None;
            }
            if let Some(next) = self.start(machine, option.starts).await {
                return Some(next);
            }
        }
        Some(Next::Hang)
    }

    /// Shows them in the menu, and starts what is chosen; nothing where that is fastboot.
    async fn choose(&self, machine: &mut Machine) -> Option<Next> {
        loop {
            let titles = self.options.iter().map(|option| option.title.as_str());
            let titles: Vec<&str> = titles.chain(["Shell", "Boot Manager"]).collect();
            let list = bds::numbered(titles.iter().copied());
            machine.console().print(&list).await;
            let chosen = loop {
                if let Answered::Line(line) = bds::ask(machine, "Start: ").await
                    && let Some(chosen) = bds::number(machine, &line, titles.len()).await
                {
                    break chosen;
                }
            };
            match self.options.get(chosen) {
                Some(option) if option.starts == Starts::Fastboot => return None,
                Some(option) => match self.start(machine, option.starts).await {
                    Some(next) => return Some(next),
                    None => machine.ledger.violation("not-bootable", option.title.as_str()),
                },
                None => {
                    let what = titles.get(chosen).copied().unwrap_or_default();
                    machine.ledger.violation("not-emulated", what);
                }
            }
        }
    }

    /// Starts something else than fastboot; nothing where it is not there, or can't be started.
    async fn start(&self, machine: &mut Machine, starts: Starts) -> Option<Next> {
        match starts {
            Starts::Grub => {
                let boot = machine.disks.iter().find(|disk| disk.is_labelled(BOOT))?;
                let device = boot.grub_name()?;
                // A program of UEFI's is a PE.
                boot.file(PROGRAM).filter(|program| program.starts_with(b"MZ"))?;
                let grub = Grub::on_a_disk(&self.grub, self.arch);
                Some(grub.run_from(machine, &device, PREFIX).await)
            }
            Starts::Android => {
                let (folder, board) = (self.flash.clone(), machine.board.name.clone());
                let found = storage(move || flash::read(&folder, &board, BOOT)).await.ok().flatten();
                match self.android(found.unwrap_or_default()).await {
                    Ok(image) => Some(Next::Boot(image)),
                    Err(_) => {
                        let says = "Failed to get Abootimg Size: Invalid Parameter\n\
                                    Failed to load boot image from boot partition: Invalid Parameter\n\
                                    Failed to boot from partition: Invalid Parameter\n";
                        machine.console().print(says).await;
                        None
                    }
                }
            }
            Starts::Fastboot | Starts::Nothing => None,
        }
    }

    /// What an Android boot image boots.
    async fn android(&self, bytes: Vec<u8>) -> Result<BootImage, String> {
        if !bytes.starts_with(android::MAGIC) {
            return Err("no Android boot image".into());
        }
        let arch = self.arch;
        let read = tokio::task::spawn_blocking(move || fastboot::image(arch, "", &bytes));
        read.await.unwrap_or_else(|error| Err(format!("could not read the image: {error}")))
    }
}

/// Why something is not flashed: what it says to its two sides, and what is wrong.
struct Refused {
    says: &'static str,
    detail: String,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use meta_lava_formats::tree::Tree;
    use meta_lava_formats::{fat, fdt, kernel};

    use super::super::testing::Bench;
    use super::*;

    const CONFIG: &str = "set default=\"0\"
set timeout=5
menuentry 'Debian' {
    search.fs_label boot esp
    linux ($esp)/Image root=/dev/mmcblk0p3 rootwait
    devicetree ($esp)/hi6220-hikey.dtb
}
menuentry 'Another' {
    search.fs_label nowhere root
    linux ($root)/boot/Image
}
";

    fn board(folder: &Path, menu: bool) -> String {
        format!(
            "
model: HiKey Development Board
peripherals:
- {{while: fastboot, vendor: 18d1, product: d00d}}
firmware:
  kind: uefi-fastboot
  product: hikey
  seconds: 0
  partitions: [{{name: fastboot, kib: 8}}, {{name: boot, kib: 512}}, {{name: system, kib: 64}}]
  menu: {menu}
  options:
  - {{title: boot from SD card, starts: nothing}}
  - {{title: boot from eMMC, starts: grub}}
  - {{title: Android Boot, starts: android}}
  - {{title: fastboot, starts: fastboot}}
  flash: {folder:?}
"
        )
    }

    fn image() -> Vec<u8> {
        kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096)
    }

    fn boot_partition() -> Vec<u8> {
        let mut tree = Tree::default();
        tree.file("EFI/BOOT/GRUBAA64.EFI", 0o644, "MZ");
        tree.file("EFI/BOOT/grub.cfg", 0o644, CONFIG);
        tree.file("Image", 0o644, image());
        tree.file("hi6220-hikey.dtb", 0o644, fdt::Fdt::default().to_bytes().unwrap());
        fat::write(&tree, "boot", 256 << 10).unwrap()
    }

    /// A board that waits in fastboot.
    async fn in_fastboot(folder: &Path, menu: bool) -> Bench {
        let mut bench = Bench::start(&board(folder, menu)).await;
        bench.bus.plug(true);
        bench.expect("Android Fastboot mode - version 0.7.\nPress RETURN or SPACE key to quit.\n").await;
        bench
    }

    #[tokio::test]
    async fn a_blank_ends_fastboot_and_grub_boots_what_was_flashed() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = in_fastboot(folder.path(), false).await;
        assert_eq!(bench.send_by_fastboot(&boot_partition(), "flash:boot").await, Answer::okay(""));
        bench.expect("Flashing partition boot\nDone.\n").await;
        bench.reset().await;
        bench.expect("to quit.\n").await;
        // Neither a letter nor a line feed ends it; what is typed behind the blank is GRUB's.
        bench.send("x\n \n").await;
        bench.expect("[Bds]Booting boot from eMMC\n").await;
        bench.expect("GNU GRUB  version 2.02~beta3").await;
        bench.expect("Booting `Debian'").await;
        let booted = bench.booted().await;
        assert_eq!(booted.kernel, image());
        assert_eq!(booted.cmdline, "BOOT_IMAGE=(hd0,gpt2)/Image root=/dev/mmcblk0p3 rootwait");
        assert!(booted.dtb.is_some());
        assert_eq!(bench.violations(), [""; 0]);
        assert!(bench.bus.attached().is_empty(), "it has left the bus");
    }

    #[tokio::test]
    async fn it_speaks_after_a_while_or_with_the_first_request() {
        let folder = tempfile::tempdir().unwrap();
        let slow = board(folder.path(), false).replace("seconds: 0", "seconds: 3600");
        let mut bench = Bench::start(&slow).await;
        bench.bus.plug(true);
        while bench.bus.attached().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.fastboot("getvar:product", None).await, Answer::okay("hikey"));
        bench.expect("to quit.\n").await;
    }

    #[tokio::test]
    async fn grub_is_chosen_in_the_menu() {
        let folder = tempfile::tempdir().unwrap();
        flash::write(folder.path(), "bench", "boot", &boot_partition()).unwrap();
        let mut bench = in_fastboot(folder.path(), true).await;
        bench.send(" ").await;
        let menu = bench.expect("Start: ").await;
        assert!(menu.contains("[2] boot from eMMC\n") && menu.contains("[6] Boot Manager\n"), "{menu}");
        bench.send("4\r").await;
        bench.expect("to quit.\n").await;
        bench.send("\r").await;
        bench.expect("Start: ").await;
        bench.send("1\r").await;
        bench.expect("Start: ").await;
        bench.send("2\r\n").await;
        bench.booted().await;
        assert_eq!(bench.violations(), ["not-bootable"]);
    }

    #[tokio::test]
    async fn what_grub_does_not_find_leads_back_to_its_menu() {
        let folder = tempfile::tempdir().unwrap();
        flash::write(folder.path(), "bench", "boot", &boot_partition()).unwrap();
        let mut bench = in_fastboot(folder.path(), false).await;
        bench.send(" ").await;
        bench.expect("executed automatically in 5s.").await;
        bench.send("v\n").await;
        let said = bench.expect("Press any key to continue...").await;
        assert!(
            said.contains("error: no such device: nowhere.\nerror: file '/boot/Image' not found.\n"),
            "{said}"
        );
        bench.send("x").await;
        bench.expect("*Debian").await;
        assert_eq!(bench.violations(), ["no-such-device", "no-such-file"]);
    }

    #[tokio::test]
    async fn without_grub_it_boots_an_android_image_or_is_in_fastboot_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = in_fastboot(folder.path(), false).await;
        bench.send(" ").await;
        let said = bench.expect("to quit.\n").await;
        assert!(said.contains("[Bds]Booting Android Boot\nFailed to get Abootimg Size"), "{said}");
        let dtb = fdt::Fdt::default().to_bytes().unwrap();
        let kernel = image();
        let image = android::Image { kernel: &kernel, dtb: &dtb, ..android::Image::default() };
        let image = android::write(&image).unwrap();
        assert_eq!(bench.send_by_fastboot(&image, "flash:boot").await, Answer::okay(""));
        assert_eq!(bench.fastboot("continue", None).await, Answer::okay(""));
        bench.expect("Exiting Fastboot mode\n").await;
        bench.booted().await;
        bench.reset().await;
        bench.expect("to quit.\n").await;
        assert_eq!(bench.send_by_fastboot(&image, "boot").await, Answer::okay(""));
        bench.expect("Booting downloaded image\n").await;
        bench.booted().await;
    }

    #[tokio::test]
    async fn what_the_board_can_not_take_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = in_fastboot(folder.path(), false).await;
        assert_eq!(bench.fastboot("flash:boot", None).await, Answer::fail("No data to flash"));
        for (bytes, command, why) in [
            (&[0; 8193][..], "flash:fastboot", "Error flashing partition."),
            (b"x", "flash:nowhere", "No such partition."),
            (b"rubbish", "flash:ptable", "Error flashing partition."),
            (b"x", "erase:nowhere", "Check device console."),
            (b"x", "oem serialno", "OEM Command not recognised."),
            (b"x", "verify", "Command not recognised. Check Fastboot version."),
        ] {
            assert_eq!(bench.send_by_fastboot(bytes, command).await, Answer::fail(why), "{command}");
        }
        bench.expect("No such partition.\n").await;
        assert_eq!(bench.send_by_fastboot(TABLE_HEADER, "flash:ptable").await, Answer::okay(""));
        let value = |name: &str| format!("getvar:{name}");
        assert_eq!(bench.fastboot(&value("partition-size:boot"), None).await, Answer::okay("0x80000"));
        assert_eq!(bench.fastboot(&value("partition-type:system"), None).await, Answer::okay("ext4"));
        assert_eq!(bench.fastboot(&value("has-slot:boot"), None).await, Answer::okay(""));
        let no_such = Answer::fail("Something went wrong when looking up the variable");
        assert_eq!(bench.fastboot(&value("partition-size:nowhere"), None).await, no_such);
        let violations = ["flash-refused", "flash-refused", "flash-refused", "flash-refused"];
        assert_eq!(bench.violations()[..4], violations);
        assert_eq!(bench.violations()[4..], ["unknown-command", "unknown-command"]);
    }
}
