//! Arm's UEFI with numbered menus ([`super::bds`]): a countdown, `Start: `, and a boot
//! manager that makes boot entries of what is typed.
//!
//! Behaviour and messages follow EDK2's `ArmPlatformPkg/Bds/` (`Bds.c`,
//! `BootMenu.c`, `BootOptionSupport.c`, `BdsHelper.c`) and
//! `ArmPkg/Library/BdsLib/`, before 2015. Both CR and LF end an answer there, so
//! that the LF of a CR LF answers the next question with nothing.
//!
//! Entries live until the next reset; real ones are kept in flash.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use async_trait::async_trait;
use meta_lava_formats::fdt;
use serde::Deserialize;

use super::arch::Arch;
use super::bds::{self, Answer};
use super::uefi_shell::{self, Flash, Shell};
use super::{BootImage, Firmware, FirmwareKind, Flow, Next};
use crate::ledger::Event;
use crate::machine::Machine;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "uefi-menu",
    about: "Arm's UEFI with numbered menus: boot entries from TFTP or flash",
    load: |name, text| {
        let (board, menu) = crate::board::parse::<UefiMenu>(name, text)?;
        Ok((board, Box::new(menu)))
    },
};

/// Settings of such a UEFI, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UefiMenu {
    #[serde(rename = "kind")]
    _kind: String,
    /// Lines before the countdown.
    #[serde(default)]
    lines: Vec<String>,
    /// Seconds until the first entry starts by itself.
    #[serde(default = "default_countdown")]
    countdown: u32,
    /// Titles of the entries that are there at power-on; nothing can be booted from them.
    #[serde(default)]
    entries: Vec<String>,
    /// MAC address of the network device, as the menu writes it.
    mac: String,
    /// Which of the builds it is.
    #[serde(default)]
    style: Style,
    #[serde(default)]
    arch: Arch,
    /// What lies in the NOR flash.
    #[serde(default)]
    flash: Option<Flash>,
    /// Lines between the last download and the kernel.
    #[serde(default)]
    boot_lines: Vec<String>,
    /// The entry `Shell`.
    #[serde(default)]
    shell: Shell,
}

/// The builds differ in what they ask for, and in its spelling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    /// One device tree for all entries, set by `Update FDT path`.
    #[default]
    Vexpress,
    /// A device tree for each entry, asked for by `Boot Type: `.
    Mustang,
}

fn default_countdown() -> u32 {
    10
}

#[async_trait]
impl Firmware for UefiMenu {
    async fn run(&self, machine: &mut Machine) -> Next {
        let entries = self.entries.iter().map(|title| Entry { title: title.clone(), target: None }).collect();
        let mut menus = Menus { menu: self, machine, entries, fdt: None };
        match menus.run().await {
            Err(next) => next,
            Ok(never) => match never {},
        }
    }
}

/// Where a file is.
#[derive(Debug, Clone)]
enum Source {
    Flash(String),
    Tftp {
        /// The board's own address, where DHCP shall not give one.
        address: Option<Ipv4Addr>,
        server: String,
        path: String,
    },
}

/// What an entry starts.
#[derive(Debug, Clone)]
struct Target {
    kernel: Source,
    /// An EFI application takes neither of the others.
    efi: bool,
    initrd: Option<Source>,
    fdt: Fdt,
    args: String,
}

#[derive(Debug, Clone)]
enum Fdt {
    /// None: the kernel gets ATAGs.
    Atags,
    /// The one that `Update FDT path` has set.
    Global,
    Own(Source),
}

/// A line of the first menu.
#[derive(Debug, Clone)]
struct Entry {
    title: String,
    /// Nothing for what was there before.
    target: Option<Target>,
}

struct Menus<'a> {
    menu: &'a UefiMenu,
    machine: &'a mut Machine,
    entries: Vec<Entry>,
    /// Where the device tree of all entries is.
    fdt: Option<Source>,
}

/// Gives up a question and goes back to the menu before.
struct Abort;

impl Menus<'_> {
    async fn print(&mut self, text: impl AsRef<str>) {
        self.machine.console().print(text.as_ref()).await;
    }

    async fn run(&mut self) -> Flow<Infallible> {
        if !bds::countdown(self.machine, &self.menu.lines, self.menu.countdown).await {
            for entry in self.entries.clone() {
                self.start(&entry).await?;
            }
        }
        loop {
            let titles: Vec<&str> = self
                .entries
                .iter()
                .map(|entry| entry.title.as_str())
                .chain(["Shell", "Boot Manager"])
                .collect();
            let (count, list) = (titles.len(), bds::numbered(titles));
            self.print(list).await;
            // A wrong number is asked for again without the list.
            let chosen = loop {
                if let Answer::Line(line) = bds::ask(self.machine, "Start: ").await
                    && let Some(chosen) = bds::number(self.machine, &line, count).await
                {
                    break chosen;
                }
            };
            match self.entries.get(chosen).cloned() {
                Some(entry) => self.start(&entry).await?,
                None if chosen == self.entries.len() => {
                    let (arch, flash) = (self.menu.arch, self.menu.flash.as_ref());
                    uefi_shell::shell(self.machine, &self.menu.shell, arch, flash).await?;
                }
                None => self.boot_manager().await,
            }
        }
    }

    async fn boot_manager(&mut self) {
        const ENTRIES: &[&str] = &[
            "Add Boot Device Entry",
            "Update Boot Device Entry",
            "Remove Boot Device Entry",
            "Reorder Boot Device Entries",
            "Update FDT path",
            "Set Boot Timeout",
            "Return to main menu",
        ];
        loop {
            self.print(bds::numbered(ENTRIES.iter().copied())).await;
            let Answer::Line(line) = bds::ask(self.machine, "Choice: ").await else { return };
            let Some(chosen) = bds::number(self.machine, &line, ENTRIES.len()).await else { continue };
            let done = match chosen {
                0 => self.add_entry().await,
                2 => self.remove_entry().await,
                4 => self.update_fdt().await,
                5 => match bds::ask(self.machine, "Timeout duration (in seconds): ").await {
                    Answer::Line(_) => Ok(()),
                    Answer::Escape => Err(Abort),
                },
                6 => return,
                _ => {
                    let what = ENTRIES.get(chosen).copied().unwrap_or_default();
                    self.machine.ledger.violation("not-emulated", what);
                    self.print("Couldn't find valid boot entries\n").await;
                    Ok(())
                }
            };
            if done.is_err() {
                self.print("\n").await;
            }
        }
    }

    async fn add_entry(&mut self) -> Result<(), Abort> {
        let mustang = self.menu.style == Style::Mustang;
        let tftp = self.device().await?;
        let kernel = self.file(tftp, "EFI Application or the kernel").await?;
        let mut target = Target { kernel, efi: false, initrd: None, fdt: Fdt::Atags, args: String::new() };
        target.efi = self.boolean("Is an EFI Application? ").await?;
        if target.efi {
            self.boolean("Is your application is an OS loader? ").await?;
        } else {
            let own_fdt = if mustang {
                loop {
                    match self.answer("Boot Type: [a] ATAG [g] Global FDT [f] FDT: ").await?.as_str() {
                        "a" => break false,
                        "g" => {
                            target.fdt = Fdt::Global;
                            break false;
                        }
                        "f" => break true,
                        _ => {}
                    }
                }
            } else {
                if self.boolean("Has FDT support? ").await? {
                    target.fdt = Fdt::Global;
                }
                false
            };
            if self.boolean("Add an initrd: ").await? {
                target.initrd = Some(self.file(tftp, "initrd").await?);
            }
            if own_fdt {
                target.fdt = Fdt::Own(self.file(tftp, "FDT").await?);
            }
            target.args = self.answer("Arguments to pass to the binary: ").await?;
        }
        let title = self.answer("Description for this new Entry: ").await?;
        self.entries.push(Entry { title, target: Some(target) });
        Ok(())
    }

    async fn remove_entry(&mut self) -> Result<(), Abort> {
        if self.entries.is_empty() {
            self.print("Nothing to remove!\n").await;
            return Ok(());
        }
        let list = bds::numbered(self.entries.iter().map(|entry| entry.title.as_str()));
        self.print(list).await;
        loop {
            let line = self.answer("Delete entry: ").await?;
            if let Some(chosen) = bds::number(self.machine, &line, self.entries.len()).await {
                self.entries.remove(chosen);
                return Ok(());
            }
        }
    }

    async fn update_fdt(&mut self) -> Result<(), Abort> {
        let tftp = self.device().await?;
        self.fdt = Some(self.file(tftp, "FDT blob").await?);
        Ok(())
    }

    /// Asks for a device; whether it is the network.
    async fn device(&mut self) -> Result<bool, Abort> {
        let flash = self.menu.flash.as_ref().map(|_| "NOR Flash".to_owned());
        let devices: Vec<String> =
            flash.into_iter().chain([format!("TFTP on MAC Address: {}", self.menu.mac)]).collect();
        self.print(bds::numbered(devices.iter().map(String::as_str))).await;
        loop {
            let line = self.answer("Select the Boot Device: ").await?;
            if let Some(chosen) = bds::number(self.machine, &line, devices.len()).await {
                return Ok(chosen + 1 == devices.len());
            }
        }
    }

    /// Asks where on a device a file is.
    async fn file(&mut self, tftp: bool, what: &str) -> Result<Source, Abort> {
        if !tftp {
            return Ok(Source::Flash(self.answer(&format!("File path of the {what}: ")).await?));
        }
        let address = if self.boolean("Get the IP address from DHCP: ").await? {
            None
        } else {
            Some(self.address("Get the static IP address: ").await?)
        };
        let server = self.address("Get the TFTP server IP address: ").await?.to_string();
        // The oldest build has no blank there, but only where it asks for the kernel.
        let old = self.menu.style == Style::Vexpress && what.ends_with("kernel");
        let path = self.answer(&format!("File path of the {what}{}: ", if old { "" } else { " " })).await?;
        Ok(Source::Tftp { address, server, path })
    }

    async fn answer(&mut self, prompt: &str) -> Result<String, Abort> {
        match bds::ask(self.machine, prompt).await {
            Answer::Line(line) => Ok(line),
            Answer::Escape => Err(Abort),
        }
    }

    async fn boolean(&mut self, prompt: &str) -> Result<bool, Abort> {
        self.print(prompt).await;
        loop {
            match self.answer("[y/n] ").await?.as_str() {
                "y" | "Y" => return Ok(true),
                "n" | "N" => return Ok(false),
                "" => {}
                other => self.machine.ledger.violation("bad-answer", format!("{prompt}{other}")),
            }
        }
    }

    async fn address(&mut self, prompt: &str) -> Result<Ipv4Addr, Abort> {
        self.print(prompt).await;
        loop {
            let line = self.answer("").await?;
            match line.parse() {
                Ok(address) => return Ok(address),
                Err(_) => {
                    self.machine.ledger.violation("bad-answer", format!("{prompt}{line}"));
                    self.print("Invalid address\n").await;
                }
            }
        }
    }

    /// Starts an entry; comes back when that fails.
    async fn start(&mut self, entry: &Entry) -> Flow<()> {
        let Some(target) = &entry.target else {
            self.print("ERROR: Did not find Linux kernel.\n").await;
            return Ok(());
        };
        let Some(kernel) = self.load(&target.kernel, "kernel").await else {
            self.print("ERROR: Did not find Linux kernel.\n").await;
            return Ok(());
        };
        let mut image = BootImage { kernel, cmdline: target.args.clone(), ramdisk: None, dtb: None };
        if target.efi {
            if !image.kernel.starts_with(b"MZ") {
                self.machine.ledger.violation("bad-kernel", "no EFI application");
                self.print("ERROR: Unsupported\n").await;
                return Ok(());
            }
        } else {
            if let Some(initrd) = &target.initrd {
                image.ramdisk = self.load(initrd, "initrd").await;
                if image.ramdisk.is_none() {
                    self.print("ERROR: Did not find initrd image.\n").await;
                    return Ok(());
                }
            }
            let fdt = match &target.fdt {
                Fdt::Atags => None,
                Fdt::Global => Some(self.fdt.clone()),
                Fdt::Own(source) => Some(Some(source.clone())),
            };
            if let Some(source) = fdt {
                let blob = match &source {
                    Some(source) => self.load(source, "fdt").await,
                    None => None,
                };
                let Some(blob) = blob else {
                    self.print("ERROR: Did not find Device Tree blob.\n").await;
                    return Ok(());
                };
                if let Err(error) = fdt::parse(&blob) {
                    self.machine.ledger.violation("bad-device-tree", error.to_string());
                    self.print("ERROR: Device Tree header not valid (FDT_ERR_BADMAGIC)\n").await;
                    return Ok(());
                }
                image.dtb = Some(blob);
            }
        }
        let lines: String = self.menu.boot_lines.iter().map(|line| format!("{line}\n")).collect();
        self.print(lines).await;
        if let Err(error) = self.menu.arch.kernel().check(&image.kernel) {
            // It jumps there without a look.
            self.machine.ledger.violation("bad-kernel", error.to_string());
            return Err(Next::Hang);
        }
        Err(Next::Boot(image))
    }

    async fn load(&mut self, source: &Source, what: &str) -> Option<Vec<u8>> {
        match source {
            Source::Flash(name) => {
                let model = self.machine.board.model.clone();
                self.menu.flash.as_ref().and_then(|flash| flash.read(name, self.menu.arch, &model))
            }
            Source::Tftp { address, server, path } => {
                match address {
                    Some(address) => {
                        self.machine.net.address = Some((*address).into());
                        self.machine.ledger.take(Event::Network { method: "static".into() });
                    }
                    None if self.machine.net.address.is_none() => {
                        self.machine.net.dhcp().await?;
                    }
                    None => {}
                }
                self.print(format!("Downloading the file <{path}> from the TFTP server\n")).await;
                self.machine.net.tftp(server, path, what).await.ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::kernel;

    use super::super::testing::{Bench, tftp_server};
    use super::*;

    const VEXPRESS: &str = "
model: V2P-CA15
firmware:
  kind: uefi-menu
  arch: arm
  mac: 00:02:F7:00:58:51
  entries: [Linux from NOR Flash]
  flash: {kernel: norkern, dtb: board.dtb}
";
    const MUSTANG: &str = "
model: APM X-Gene Mustang board
firmware: {kind: uefi-menu, style: mustang, mac: '00:01:73:69:5A:EF', boot_lines: ['Loaded: LinuxImage']}
";

    fn tree() -> Vec<u8> {
        fdt::Fdt::default().to_bytes().unwrap()
    }

    /// What LAVA does: waits for a text, then selects the item with this title out
    /// of what came before it, or enters this text.
    enum Step<'a> {
        Item(&'a str, &'a str),
        Enter(&'a str, &'a str),
    }
    use Step::{Enter, Item};

    async fn lava(bench: &mut Bench, steps: &[Step<'_>]) {
        bench.expect("The default boot selection will start in").await;
        bench.send(" ").await;
        let mut before = bench.expect("Start:").await;
        for step in steps {
            let wait = match step {
                Item(title, wait) => {
                    let line = before.lines().rev().find(|line| line.ends_with(&format!("] {title}")));
                    let line = line.unwrap_or_else(|| panic!("no {title:?} in {before:?}"));
                    let number = line.trim_start_matches('[').split(']').next().unwrap();
                    bench.send(&format!("{number}\r\n")).await;
                    wait
                }
                Enter(text, wait) => {
                    bench.send(&format!("{text}\r")).await;
                    wait
                }
            };
            if !wait.is_empty() {
                before = bench.expect(wait).await;
            }
        }
    }

    #[tokio::test]
    async fn lava_makes_an_entry_on_a_vexpress_and_starts_it() {
        let zimage = kernel::write(kernel::Format::ArmZImage, "Linux version 6.1", 4096);
        let server = tftp_server(&[("1/zImage", &zimage), ("1/x.dtb", &tree())]).await;
        let mut bench = Bench::start_beside(&server, VEXPRESS).await;
        lava(
            &mut bench,
            &[
                Item("Boot Manager", "Choice:"),
                Item("Add Boot Device Entry", "Select the Boot Device:"),
                Item("TFTP on MAC Address: 00:02:F7:00:58:51", "Get the IP address from DHCP:"),
                Enter("y", "Get the TFTP server IP address:"),
                Enter("127.0.0.1", "File path of the EFI Application or the kernel:"),
                Enter("1/zImage", "Is an EFI Application?"),
                Enter("n", "Has FDT support?"),
                Enter("y", "Add an initrd:"),
                Enter("n", "Arguments to pass to the binary:"),
                Enter("console=ttyAMA0,115200n8 root=/dev/nfs rw", "Description for this new Entry:"),
                Enter("LAVA TEST TFTP", "Choice:"),
                Item("Update FDT path", "Select the Boot Device"),
                Item("TFTP on MAC Address: 00:02:F7:00:58:51", "Get the IP address from DHCP:"),
                Enter("y", "Get the TFTP server IP address"),
                Enter("127.0.0.1", "File path of the FDT blob :"),
                Enter("1/x.dtb", "Choice:"),
                Item("Return to main menu", "Start:"),
                Item("LAVA TEST TFTP", ""),
            ],
        )
        .await;
        let image = bench.booted().await;
        assert_eq!(image.kernel, zimage);
        assert_eq!(image.dtb, Some(tree()));
        assert_eq!(image.cmdline, "console=ttyAMA0,115200n8 root=/dev/nfs rw");
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn a_mustang_asks_for_a_device_tree_with_each_entry() {
        let kernel = kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096);
        let server = tftp_server(&[("Image", &kernel), ("x.dtb", &tree()), ("rd", b"cpio")]).await;
        let mut bench = Bench::start_beside(&server, MUSTANG).await;
        lava(
            &mut bench,
            &[
                Item("Boot Manager", "Choice:"),
                Item("Add Boot Device Entry", "Select the Boot Device:"),
                Item("TFTP on MAC Address: 00:01:73:69:5A:EF", "Get the IP address from DHCP:"),
                Enter("y", "Get the TFTP server IP address:"),
                Enter("127.0.0.1", "File path of the EFI Application or the kernel :"),
                Enter("Image", "Is an EFI Application?"),
                Enter("n", "Boot Type:"),
                Enter("f", "Add an initrd:"),
                Enter("y", "Get the IP address from DHCP:"),
                Enter("y", "Get the TFTP server IP address:"),
                Enter("127.0.0.1", "File path of the initrd :"),
                Enter("rd", "Get the IP address from DHCP:"),
                Enter("y", "Get the TFTP server IP address:"),
                Enter("127.0.0.1", "File path of the FDT :"),
                Enter("x.dtb", "Arguments to pass to the binary:"),
                Enter("root=/dev/ram0", "Description for this new Entry:"),
                Enter("LAVA NFS Test Image", "Choice:"),
                Item("Return to main menu", "Start:"),
                Item("LAVA NFS Test Image", "Loaded: LinuxImage"),
            ],
        )
        .await;
        let image = bench.booted().await;
        assert_eq!(image.ramdisk.as_deref(), Some(&b"cpio"[..]));
        assert_eq!(image.dtb, Some(tree()));
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn an_entry_in_flash_boots_what_the_board_has() {
        let mut bench = Bench::start(VEXPRESS).await;
        lava(
            &mut bench,
            &[
                Item("Boot Manager", "Choice:"),
                Item("Update FDT path", "Select the Boot Device:"),
                Item("NOR Flash", "File path of the FDT blob:"),
            ],
        )
        .await;
        // The LF of the last CR LF has answered with nothing.
        bench.expect("Choice:").await;
        bench.reset().await;
        lava(
            &mut bench,
            &[
                Item("Boot Manager", "Choice:"),
                Item("Add Boot Device Entry", "Select the Boot Device:"),
                Enter("1", "File path of the EFI Application or the kernel:"),
                Enter("norkern", "Is an EFI Application?"),
                Enter("n", "Has FDT support?"),
                Enter("n", "Add an initrd:"),
                Enter("n", "Arguments to pass to the binary:"),
                Enter("root=/dev/sda1", "Description for this new Entry:"),
                Enter("X", "Choice:"),
                Item("Return to main menu", "Start:"),
                Item("X", ""),
            ],
        )
        .await;
        let image = bench.booted().await;
        assert!(kernel::banner(&image.kernel).is_some());
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn a_kernel_that_is_not_there_leads_back_to_the_menu() {
        let server = tftp_server(&[]).await;
        let mut bench = Bench::start_beside(&server, MUSTANG).await;
        lava(
            &mut bench,
            &[
                Item("Boot Manager", "Choice:"),
                Item("Add Boot Device Entry", "Select the Boot Device:"),
                Item("TFTP on MAC Address: 00:01:73:69:5A:EF", "Get the IP address from DHCP:"),
                Enter("y", "Get the TFTP server IP address:"),
                Enter("127.0.0.1", "kernel :"),
                Enter("Image", "Is an EFI Application?"),
                Enter("n", "Boot Type:"),
                Enter("g", "Add an initrd:"),
                Enter("n", "Arguments to pass to the binary:"),
                Enter("", "Description for this new Entry:"),
                Enter("X", "Choice:"),
                Item("Return to main menu", "Start:"),
                Item("X", "ERROR: Did not find Linux kernel.\n"),
            ],
        )
        .await;
        let menu = bench.expect("Start: ").await;
        assert!(menu.contains("[1] X\n[2] Shell\n[3] Boot Manager\n"), "{menu}");
    }

    #[tokio::test]
    async fn nothing_typed_starts_what_cannot_be_started_and_shows_the_menu() {
        let mut bench = Bench::start(&VEXPRESS.replace("arch: arm", "arch: arm\n  countdown: 1")).await;
        bench.expect("  1 seconds").await;
        bench.expect("ERROR: Did not find Linux kernel.\n").await;
        bench.expect("Start: ").await;
        bench.send("9\r").await;
        bench.expect("Invalid input (max 3)\nStart: ").await;
        assert_eq!(bench.violations(), ["bad-choice"]);
    }

    #[tokio::test]
    async fn an_entry_can_be_removed_and_a_question_given_up() {
        let mut bench = Bench::start(VEXPRESS).await;
        lava(
            &mut bench,
            &[
                Item("Boot Manager", "Choice:"),
                Item("Remove Boot Device Entry", "Delete entry:"),
                Item("Linux from NOR Flash", "Choice:"),
                Item("Remove Boot Device Entry", "Nothing to remove!"),
                Enter("1", "Select the Boot Device:"),
                Enter("\x1b", "Choice:"),
                Item("Return to main menu", "[1] Shell"),
            ],
        )
        .await;
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn entries_are_gone_after_a_reset() {
        let mut bench = Bench::start(VEXPRESS).await;
        lava(&mut bench, &[Item("Boot Manager", "Choice:"), Item("Remove Boot Device Entry", "Delete")])
            .await;
        bench.reset().await;
        lava(&mut bench, &[Item("Linux from NOR Flash", "ERROR: Did not find Linux kernel.")]).await;
    }
}
