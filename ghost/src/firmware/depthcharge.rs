//! depthcharge: the payload of coreboot on Chromebooks, in its developers' build
//! that stops at the firmware shell and boots from TFTP.
//!
//! Behaviour and messages follow depthcharge's `src/debug/firmware_shell/`,
//! `src/netboot/` (`netboot.c`, `tftp.c`), `src/net/dhcp.c`, `src/boot/fit.c` and
//! `src/arch/*/boot*.c`.

use std::fmt::Write as _;

use async_trait::async_trait;
use meta_lava_formats::{compress, fdt, fit, kernel};
use serde::Deserialize;

use super::shell::words::{Joint, Statement, SyntaxError};
use super::shell::{Command, Shell, Work, done, ends, find_abbreviated};
use super::{BootImage, Firmware, FirmwareKind, Flow, Next};
use crate::machine::Machine;
use crate::net::FetchError;
use crate::net::tftp::error_code;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "depthcharge",
    about: "depthcharge on Chromebooks: tftpboot of a FIT image or a bzImage",
    load: |name, text| {
        let (board, depthcharge) = crate::board::parse::<Depthcharge>(name, text)?;
        Ok((board, Box::new(depthcharge)))
    },
};

/// Architecture, which decides what `tftpboot` takes for a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 32-bit Arm: a FIT image with a `zImage`.
    Arm,
    /// 64-bit Arm: a FIT image with an `Image`, perhaps compressed.
    Arm64,
    /// x86: a `bzImage`, and the ramdisk beside it.
    X86,
}

/// Settings of a depthcharge, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Depthcharge {
    #[serde(rename = "kind")]
    _kind: String,
    /// Name of the mainboard (`hana`), as the first line has it.
    mainboard: String,
    /// Prompt of the shell, with its blank (`hana: `).
    #[serde(default = "default_prompt")]
    prompt: String,
    arch: Arch,
    /// Whether it is the netboot payload, which says so in its first line.
    #[serde(default)]
    netboot: bool,
    /// Lines between the first one and the prompt.
    #[serde(default)]
    lines: Vec<String>,
    /// Revision of the board, for choosing among device trees.
    #[serde(default)]
    revision: Option<u32>,
    /// Stock-keeping unit of the board, likewise.
    #[serde(default)]
    sku: Option<u32>,
    /// Room for kernel and ramdisk in MiB (`CONFIG_KERNEL_SIZE`).
    #[serde(default = "default_kernel_mib")]
    kernel_mib: usize,
}

fn default_prompt() -> String {
    "dpch: ".into()
}

fn default_kernel_mib() -> usize {
    64
}

type Run = for<'s, 'm> fn(&'s mut FirmwareShell<'m>, &'s str, &'s [&'s str]) -> Work<'s, bool>;

/// A unique beginning of a name is enough.
const COMMANDS: &[Command<Run>] = &[
    ("?", |shell, _, _| shell.help()),
    ("boot", |shell, name, args| Box::pin(shell.unusable("boot", name, args))),
    // Only a boot from disk takes what it appends.
    ("cmdline_append", |shell, name, args| match args {
        [_, ..] => done(true),
        [] => Box::pin(shell.unusable("cmdline_append", name, args)),
    }),
    ("enet", |shell, name, args| match args {
        ["dhcp"] => Box::pin(shell.enet()),
        _ => Box::pin(shell.unusable("enet", name, args)),
    }),
    // The boot that it goes on with finds no disk, and shows so on the display.
    ("exit", |shell, name, args| shell.ends("exit", name, args, Next::Hang)),
    ("help", |shell, _, _| shell.help()),
    ("poweroff", |shell, name, args| shell.ends("poweroff", name, args, Next::PowerOff)),
    ("reboot", |shell, name, args| shell.ends("reboot", name, args, Next::Reset)),
    ("tftpboot", |shell, name, args| match args {
        [server, boot, file] => Box::pin(shell.tftpboot(server, boot, file, None)),
        [server, boot, file, ramdisk] => Box::pin(shell.tftpboot(server, boot, file, Some(ramdisk))),
        _ => Box::pin(shell.usage(name, args, TFTPBOOT_USAGE.to_owned())),
    }),
];
/// Room for the command line in bytes, its end included.
const CMDLINE_SIZE: usize = 4096;
/// What the command line is when no file has one.
const CMDLINE: &str = "lsm.module_locking=0 cros_netboot_ramfs cros_factory_install cros_secure cros_netboot";
/// Size of a block of TFTP, which depthcharge does not negotiate.
const BLOCK: usize = 512;
/// Most bytes that a kernel unpacks to.
const KERNEL_LIMIT: usize = 256 << 20;

const TFTPBOOT_USAGE: &str = "tftpboot - boot image via network using TFTP protocol\n\nUsage:\n\
    tftpboot [host IP addr] [boot file] [args file] [ramdisk file]\n\n\
    The IP address and boot file can take the \"dhcp\" special value\n\
    to send DHCP requests rather than using static values.\n";

#[async_trait]
impl Firmware for Depthcharge {
    async fn run(&self, machine: &mut Machine) -> Next {
        FirmwareShell { settings: self, machine }.run().await
    }
}

/// The shell of a depthcharge.
struct FirmwareShell<'m> {
    settings: &'m Depthcharge,
    machine: &'m mut Machine,
}

#[async_trait]
impl Shell for FirmwareShell<'_> {
    /// `^C` is cursor-up to its line editor; nothing is above the first line.
    const INTERRUPTED: &'static str = "";

    fn machine(&mut self) -> &mut Machine {
        self.machine
    }

    fn prompt(&self) -> String {
        format!("\r{}", self.settings.prompt)
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    /// It knows neither quotes nor variables.
    fn parse(&self, line: &str) -> Result<Vec<Statement>, SyntaxError> {
        let statement = |text: &str| Statement::literal(text.split_ascii_whitespace(), Joint::Always);
        Ok(line.split(';').map(statement).collect())
    }

    async fn syntax_error(&mut self, _: SyntaxError) {}

    async fn command(&mut self, words: &[&str]) -> Flow<bool> {
        let Some((&name, args)) = words.split_first() else { return Ok(true) };
        // `md.b` is `md` with a width.
        let plain = name.split('.').next().unwrap_or(name);
        match find_abbreviated(COMMANDS, plain, |_| true) {
            Some((_, run)) => run(self, name, args).await,
            None => {
                self.machine.ledger.violation("unknown-command", words.join(" "));
                self.print(format!("Unknown command '{name}' - try 'help'\n")).await;
                Ok(false)
            }
        }
    }
}

impl FirmwareShell<'_> {
    async fn run(&mut self) -> Next {
        let payload = if self.settings.netboot { "netboot" } else { "depthcharge" };
        let mut hello = format!("\n\nStarting {payload} on {}...\n", self.settings.mainboard);
        for line in &self.settings.lines {
            hello.push_str(line);
            hello.push('\n');
        }
        self.print(&hello).await;
        loop {
            if let Err(next) = self.serve().await {
                return next;
            }
        }
    }

    fn help(&mut self) -> Work<'_, bool> {
        let list = COMMANDS.iter().fold(String::new(), |list, (name, _)| list + name + "\n");
        Box::pin(async move {
            self.print(list).await;
            Ok(true)
        })
    }

    /// A command without arguments that ends the firmware.
    fn ends<'s>(
        &'s mut self,
        command: &'static str,
        name: &'s str,
        args: &'s [&'s str],
        next: Next,
    ) -> Work<'s, bool> {
        if args.is_empty() { ends(next) } else { Box::pin(self.unusable(command, name, args)) }
    }

    async fn unusable(&mut self, command: &str, name: &str, args: &[&str]) -> Flow<bool> {
        self.usage(name, args, format!("{command} - wrong usage\n\nUsage:\n{command}\n")).await
    }

    async fn usage(&mut self, name: &str, args: &[&str], text: String) -> Flow<bool> {
        self.machine.ledger.violation("bad-usage", [&[name], args].concat().join(" "));
        self.print(text).await;
        Ok(false)
    }

    async fn enet(&mut self) -> Flow<bool> {
        self.dhcp().await?;
        Ok(true)
    }

    /// Gets an address; returns the server for files.
    async fn dhcp(&mut self) -> Flow<String> {
        self.print("Waiting for link\ndone.\n").await;
        let Some(lease) = self.machine.net.dhcp().await else {
            // netboot.c: it would try for ever.
            self.print("Dhcp failed, retrying.\n").await;
            return Err(Next::Hang);
        };
        self.print(format!(
            "MAC: 00:e0:4c:68:00:01\n\
             Sending DHCP discover... done.\nWaiting for reply... done.\n\
             Sending DHCP request... done.\nWaiting for reply... done.\n\
             My ip is {}\nThe DHCP server ip is {}\n",
            lease.address, lease.server
        ))
        .await;
        Ok(lease.server.to_string())
    }

    /// `netboot()`: returns to the shell only when it fails in its last steps; a
    /// failure before halts the board.
    async fn tftpboot(&mut self, server: &str, boot: &str, args: &str, ramdisk: Option<&str>) -> Flow<bool> {
        if server != "dhcp" && !is_address(server) {
            self.print(format!("Invalid IPv4 address: {server}\n")).await;
            return self.usage("tftpboot", &[server, boot, args], TFTPBOOT_USAGE.to_owned()).await;
        }
        let named = self.dhcp().await?;
        let (server, by) = match server {
            "dhcp" => (named.as_str(), "supplied by DHCP server"),
            server => (server, "predefined by user"),
        };
        self.print(format!("TFTP server IP {by}: {server}\n")).await;
        if boot == "dhcp" {
            self.machine.ledger.violation("no-bootfile", "the lab's DHCP server names no boot file");
            self.print("Bootfile supplied by DHCP server: \n").await;
        } else {
            self.print(format!("Bootfile predefined by user: {boot}\n")).await;
        }
        let boot = if boot == "dhcp" { "" } else { boot };

        let room = self.settings.kernel_mib << 20;
        let Some(payload) = self.tftp(server, boot, "kernel", room).await? else {
            self.print("Tftp failed.\n").await;
            return Err(Next::Hang);
        };
        self.print(format!("The bootfile was {} bytes long.\n", payload.len())).await;

        let mut beside = None;
        if let Some(path) = ramdisk {
            let used = payload.len().next_multiple_of(4096);
            if used >= room {
                self.print("No space left for ramdisk\n").await;
            } else {
                beside = self.tftp(server, path, "ramdisk", room - used).await?;
                if beside.is_none() {
                    self.print("TFTP failed for ramdisk.\n").await;
                }
            }
        }

        let mut cmdline = CMDLINE.to_owned();
        if let Some(bytes) = self.tftp(server, args, "cmdline", CMDLINE_SIZE - 1).await? {
            cmdline = one_line(&bytes);
            self.print(format!("Command line loaded dynamically from TFTP file: {args}\n")).await;
        }
        // The lease is given back: the network is over.
        self.machine.net.address = None;

        if cmdline.len() + " tftpserverip=xxx.xxx.xxx.xxx".len() >= CMDLINE_SIZE {
            self.print("Out of space adding TFTP server IP to the command line.\n").await;
            return Ok(false);
        }
        let _ = write!(cmdline, " tftpserverip={server}");
        self.print(format!("The command line is: {cmdline}\n")).await;

        match self.settings.arch {
            Arch::X86 => self.boot_x86(payload, beside, cmdline).await,
            Arch::Arm | Arch::Arm64 => self.boot_fit(&payload, beside, cmdline).await,
        }
    }

    /// Loads a file; nothing when the server refuses it or it is too large.
    async fn tftp(&mut self, server: &str, path: &str, load: &str, room: usize) -> Flow<Option<Vec<u8>>> {
        self.print("Sending tftp read request... done.\nWaiting for the transfer... ").await;
        match self.machine.net.tftp(server, path, load).await {
            Ok(bytes) if bytes.len() > room => {
                self.machine.ledger.violation("too-large", format!("{path} for {room} bytes of room"));
                self.print("TFTP transfer too large.\n").await;
                Ok(None)
            }
            Ok(bytes) => {
                let hashes = "#".repeat((bytes.len() / BLOCK + 1) / 10);
                self.print(format!("{hashes} done.\n")).await;
                Ok(Some(bytes))
            }
            Err(FetchError::NotFound(_)) => {
                self.print(" error!\nError code 1 (File not found)\nError message: File not found\n").await;
                Ok(None)
            }
            Err(FetchError::Tftp(code, text)) => {
                let name = match code {
                    error_code::ACCESS => "Access violation",
                    error_code::DISK_FULL => "Disk full or allocation exceeded",
                    error_code::ILLEGAL => "Illegal TFTP operation",
                    error_code::UNKNOWN_TID => "Unknown transfer ID",
                    _ => "Undefined",
                };
                self.print(format!(" error!\nError code {code} ({name})\nError message: {text}\n")).await;
                Ok(None)
            }
            // It asks again and again, without an end and without a word.
            Err(FetchError::Refused(_) | FetchError::Timeout(_) | FetchError::Bad(_)) => Err(Next::Hang),
        }
    }

    async fn boot_x86(&mut self, kernel: Vec<u8>, ramdisk: Option<Vec<u8>>, cmdline: String) -> Flow<bool> {
        if let Err(error) = kernel::Format::X86BzImage.check(&kernel) {
            self.machine.ledger.violation("bad-kernel", error.to_string());
            self.print("Boot protocol is too old.\n").await;
            return Ok(false);
        }
        self.leave().await;
        self.print("\nStarting kernel ...\n\n").await;
        Err(Next::Boot(BootImage { kernel, cmdline, ramdisk, dtb: None }))
    }

    async fn leave(&mut self) {
        // The code says that it leaves for a kernel (`CleanupOnHandoff`).
        let finalize = if self.settings.arch == Arch::X86 { "Finalizing coreboot\n" } else { "" };
        self.print(format!(
            "Shutting down all USB controllers.\nRemoving current net device\n{finalize}\
             Exiting depthcharge with code 4 at timestamp: 18250000\n"
        ))
        .await;
    }

    async fn boot_fit(&mut self, blob: &[u8], beside: Option<Vec<u8>>, cmdline: String) -> Flow<bool> {
        self.print("Loading FIT.\n").await;
        let fit = match fit::parse(blob) {
            Ok(fit) => fit,
            Err(error) => {
                self.machine.ledger.violation("bad-fit", error.to_string());
                self.print("Failed to unflatten FIT image!\n").await;
                return Ok(false);
            }
        };
        let (text, chosen) = self.choose(&fit);
        self.print(text).await;
        let Some(chosen) = chosen else { return Ok(false) };
        for image in [Some(chosen.kernel), Some(chosen.fdt), chosen.ramdisk].into_iter().flatten() {
            // depthcharge itself looks at neither; LAVA has no reason to get them wrong.
            if let Err(error) = image.verify() {
                self.machine.ledger.violation("bad-hash", error.to_string());
            }
            let wanted = if self.settings.arch == Arch::Arm { "arm" } else { "arm64" };
            if image.arch != wanted {
                let detail = format!("{} is for {:?}, the board is {wanted}", image.name, image.arch);
                self.machine.ledger.violation("wrong-arch", detail);
            }
        }
        let Some(dtb) = self.decompress(chosen.fdt).await else {
            self.print(format!("ERROR: Can't decompress FDT {}!\n", chosen.fdt.name)).await;
            return Ok(false);
        };
        if let Err(error) = fdt::parse(&dtb) {
            self.machine.ledger.violation("bad-device-tree", error.to_string());
            self.print("Failed to unflatten the kernel's fdt.\n").await;
            return Ok(false);
        }
        if let Some(ramdisk) = chosen.ramdisk.filter(|ramdisk| ramdisk.compression != "none") {
            self.machine.ledger.violation("bad-ramdisk", format!("compressed: {}", ramdisk.compression));
            self.print("Ramdisk compression not supported.\n").await;
            return Ok(false);
        }
        let ramdisk = beside.or_else(|| chosen.ramdisk.map(|ramdisk| ramdisk.data.clone()));
        let boots = |kernel| Err(Next::Boot(BootImage { kernel, cmdline, ramdisk, dtb: Some(dtb) }));
        if self.settings.arch == Arch::Arm64 {
            self.leave().await;
            let Some(kernel) = self.decompress(chosen.kernel).await else {
                self.print("ERROR: Kernel decompression failed!\n").await;
                return Ok(false);
            };
            if let Err(error) = kernel::Format::Arm64Image.check(&kernel) {
                self.machine.ledger.violation("bad-kernel", error.to_string());
                let magic = kernel.get(56..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
                let magic = u32::from_le_bytes(magic);
                self.print(format!("ERROR: Invalid kernel magic: {magic:#010x} != 0x644d5241\n")).await;
                return Ok(false);
            }
            self.print("jumping to kernel\n").await;
            return boots(kernel);
        }
        if chosen.kernel.compression != "none" {
            self.print("Kernel decompression not supported for ARM32.\n").await;
            return Ok(false);
        }
        self.leave().await;
        if let Err(error) = kernel::Format::ArmZImage.check(&chosen.kernel.data) {
            // It jumps there without a look.
            self.machine.ledger.violation("bad-kernel", error.to_string());
            return Err(Next::Hang);
        }
        boots(chosen.kernel.data.clone())
    }

    /// Unpacks an image as `fit_decompress` does; nothing when that fails.
    async fn decompress(&mut self, image: &fit::Image) -> Option<Vec<u8>> {
        let name = &image.name;
        match image.compression.as_str() {
            "none" => {
                self.print(format!("Relocating {name}\n")).await;
                Some(image.data.clone())
            }
            "lzma" => {
                self.print(format!("LZMA decompressing {name}\n")).await;
                let lzma = compress::Format::of(&image.data) == compress::Format::Lzma;
                let unpacked = compress::decompress(&image.data, KERNEL_LIMIT).ok().filter(|_| lzma);
                if unpacked.is_none() {
                    self.machine.ledger.violation("bad-compression", format!("{name} is no lzma"));
                }
                unpacked.map(std::borrow::Cow::into_owned)
            }
            other => {
                self.machine.ledger.violation("bad-compression", format!("{name}: {other}"));
                self.print(format!("ERROR: Illegal compression algorithm (0) for {name}!\n")).await;
                None
            }
        }
    }

    /// Which configuration it boots, and what it says while choosing.
    fn choose<'a>(&self, fit: &'a fit::Fit) -> (String, Option<Chosen<'a>>) {
        let mut text = String::new();
        for image in &fit.images {
            let _ = writeln!(text, "Image {} has {} bytes.", image.name, image.data.len());
        }
        let preference = self.compatible();
        let _ = writeln!(text, "Compat preference: {}", preference.join(" "));
        let mut best: Option<(usize, Chosen<'a>)> = None;
        let mut default = None;
        for configuration in &fit.configurations {
            let name = &configuration.name;
            let find = |image: Option<&String>| image.and_then(|image| fit.image(image));
            let Some(kernel) = find(configuration.kernel.as_ref()) else {
                let _ = writeln!(text, "ERROR: config {name} has no kernel, skipping.");
                continue;
            };
            let Some(tree) = find(configuration.fdt.first()) else {
                let _ = writeln!(text, "ERROR: config {name} has no FDT, skipping.");
                continue;
            };
            let compatible = if configuration.compatible.is_empty() {
                let parsed = fdt::parse(&tree.data).ok();
                let own = parsed.as_ref().map(|tree| tree.root.texts("compatible")).unwrap_or_default();
                if own.is_empty() {
                    let _ = writeln!(
                        text,
                        "ERROR: Can't find compat string in FDT {} for config {name}, skipping.",
                        tree.name
                    );
                    continue;
                }
                own.into_iter().map(str::to_owned).collect()
            } else {
                configuration.compatible.clone()
            };
            let chosen = Chosen { name, kernel, fdt: tree, ramdisk: find(configuration.ramdisk.as_ref()) };
            let _ = write!(text, "Config {name}");
            if fit.default.as_ref() == Some(name) {
                text.push_str(" (default)");
                default = Some(chosen);
            }
            let _ = write!(text, ", kernel {}, fdt {}", kernel.name, tree.name);
            if let Some(ramdisk) = chosen.ramdisk {
                let _ = write!(text, ", ramdisk {}", ramdisk.name);
            }
            let rank = preference.iter().position(|wanted| compatible.contains(wanted));
            text.push_str(", compat");
            for one in &compatible {
                let matches = rank.and_then(|rank| preference.get(rank)) == Some(one);
                let _ = write!(text, " {one}{}", if matches { " (match)" } else { "" });
            }
            text.push('\n');
            if let Some(rank) = rank
                && best.as_ref().is_none_or(|(other, _)| rank < *other)
            {
                best = Some((rank, chosen));
            }
        }
        let chosen = match (best, default) {
            (Some((rank, best)), _) => {
                let compat = preference.get(rank).map_or("", String::as_str);
                let _ = writeln!(text, "Choosing best match {} for compat {compat}.", best.name);
                Some(best)
            }
            (None, Some(default)) => {
                let _ = writeln!(text, "No match, choosing default {}.", default.name);
                Some(default)
            }
            (None, None) => {
                text.push_str("No compatible or default configs. Giving up.\n");
                None
            }
        };
        (text, chosen)
    }

    /// What a device tree for this board calls it, the best name first.
    fn compatible(&self) -> Vec<String> {
        let base = format!("google,{}", self.settings.mainboard.to_lowercase().replace('_', "-"));
        let mut names = Vec::new();
        if let (Some(revision), Some(sku)) = (self.settings.revision, self.settings.sku) {
            names.push(format!("{base}-rev{revision}-sku{sku}"));
        }
        names.extend(self.settings.revision.map(|revision| format!("{base}-rev{revision}")));
        names.extend(self.settings.sku.map(|sku| format!("{base}-sku{sku}")));
        names.push(base);
        names
    }
}

/// What it boots of a FIT image.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    name: &'a str,
    kernel: &'a fit::Image,
    fdt: &'a fit::Image,
    ramdisk: Option<&'a fit::Image>,
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok()
}

/// The text of a command line's file: trailing blanks gone, control characters
/// inside turned into blanks.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches(|c: char| c <= ' ').replace(|c: char| c < ' ', " ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, tftp_server};
    use super::*;
    use crate::ledger::Event;

    /// The server's, as a board is told it.
    const ADDRESS: &str = "127.0.0.1";

    const HATCH: &str = "
model: HP Helios
firmware: {kind: depthcharge, mainboard: Helios, prompt: 'hatch: ', arch: x86}
";
    const HANA: &str = "
model: Lenovo Hana
firmware: {kind: depthcharge, mainboard: hana, prompt: 'hana: ', arch: arm64, revision: 6, sku: 7}
";

    fn bzimage() -> Vec<u8> {
        kernel::write(kernel::Format::X86BzImage, "Linux version 6.1", 4096)
    }

    fn image(name: &str, image_type: &str, compression: &str, data: &[u8]) -> fit::Image {
        let mut image = fit::Image {
            name: name.into(),
            description: name.into(),
            image_type: image_type.into(),
            arch: "arm64".into(),
            os: Some("linux".into()),
            compression: compression.into(),
            load: None,
            entry: None,
            data: data.to_vec(),
            hashes: Vec::new(),
        };
        image.add_hash("crc32").unwrap();
        image
    }

    fn tree(compatible: &str) -> Vec<u8> {
        let mut tree = fdt::Fdt::default();
        tree.root.set_text("compatible", compatible);
        tree.to_bytes().unwrap()
    }

    /// What LAVA's `mkimage -f auto` makes.
    fn made_by_lava(kernel: &[u8], tree: &[u8]) -> fit::Fit {
        fit::Fit {
            description: "U-Boot fitImage".into(),
            timestamp: None,
            images: vec![
                image("kernel-1", "kernel", "lzma", &compress::lzma(kernel).unwrap()),
                image("fdt-1", "flat_dt", "none", tree),
                image("ramdisk-1", "ramdisk", "none", b"cpio"),
            ],
            configurations: vec![fit::Configuration {
                name: "conf-1".into(),
                description: "conf-1".into(),
                compatible: Vec::new(),
                kernel: Some("kernel-1".into()),
                fdt: vec!["fdt-1".into()],
                ramdisk: Some("ramdisk-1".into()),
            }],
            default: Some("conf-1".into()),
        }
    }

    #[tokio::test]
    async fn x86_boots_a_bzimage_with_the_command_line_of_a_file() {
        let server = tftp_server(&[
            ("7/bzImage", &bzimage()),
            ("7/cmdline", b"console=ttyS0,115200n8 root=/dev/ram0\n"),
            ("7/ramdisk.cpio.gz", b"ramdisk"),
        ])
        .await;
        let mut bench = Bench::start_beside(&server, HATCH).await;
        bench.expect("Starting depthcharge on Helios...").await;
        bench.expect("hatch: ").await;
        bench.send(&format!("tftpboot {ADDRESS} 7/bzImage 7/cmdline 7/ramdisk.cpio.gz\n")).await;
        bench.expect("The command line is: console=ttyS0,115200n8 root=/dev/ram0 tftpserverip=").await;
        bench.expect("Exiting depthcharge").await;
        bench.expect("Starting kernel").await;
        let image = bench.booted().await;
        assert_eq!(image.kernel, bzimage());
        assert_eq!(image.ramdisk.as_deref(), Some(&b"ramdisk"[..]));
        assert_eq!(image.cmdline, format!("console=ttyS0,115200n8 root=/dev/ram0 tftpserverip={ADDRESS}"));
        assert_eq!(bench.violations(), [""; 0]);
        let files = bench.events().into_iter().filter(|event| matches!(event, Event::File { .. })).count();
        assert_eq!(files, 3);
    }

    #[tokio::test]
    async fn without_a_ramdisk_lava_leaves_a_blank_at_the_end() {
        let server = tftp_server(&[("bzImage", &bzimage()), ("cmdline", b"root=/dev/nfs")]).await;
        let mut bench = Bench::start_beside(&server, HATCH).await;
        bench.send(&format!("tftpboot {ADDRESS} bzImage cmdline \n")).await;
        assert_eq!(bench.booted().await.ramdisk, None);
    }

    #[tokio::test]
    async fn arm64_takes_all_out_of_a_fit_image_and_the_best_device_tree() {
        let kernel = kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096);
        let tree = tree("google,hana-rev6");
        let blob = made_by_lava(&kernel, &tree).to_bytes().unwrap();
        let server = tftp_server(&[("image.itb", &blob), ("cmdline", b"a\nb \n")]).await;
        let mut bench = Bench::start_beside(&server, HANA).await;
        bench.send(&format!("tftpboot {ADDRESS} image.itb cmdline \n")).await;
        bench.expect("Choosing best match conf-1 for compat google,hana-rev6.\n").await;
        bench.expect("jumping to kernel").await;
        let image = bench.booted().await;
        assert_eq!(image.kernel, kernel);
        assert_eq!(image.dtb, Some(tree));
        assert_eq!(image.ramdisk.as_deref(), Some(&b"cpio"[..]));
        assert_eq!(image.cmdline, format!("a b tftpserverip={ADDRESS}"));
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn a_fit_image_without_a_device_tree_is_not_booted() {
        let kernel = kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096);
        let mut fit = made_by_lava(&kernel, &tree("google,hana"));
        fit.configurations[0].fdt.clear();
        let server = tftp_server(&[("image.itb", &fit.to_bytes().unwrap()), ("cmdline", b"a")]).await;
        let mut bench = Bench::start_beside(&server, HANA).await;
        bench.expect("hana: ").await;
        bench.send(&format!("tftpboot {ADDRESS} image.itb cmdline\n")).await;
        bench.expect("ERROR: config conf-1 has no FDT, skipping.\n").await;
        bench.expect("No compatible or default configs. Giving up.\nhana: ").await;
    }

    #[tokio::test]
    async fn a_kernel_of_another_kind_is_told_by_its_magic_and_a_wrong_hash_is_noted() {
        let mut fit = made_by_lava(&bzimage(), &tree("google,oak"));
        fit.images[2].data.push(0);
        let server = tftp_server(&[("image.itb", &fit.to_bytes().unwrap()), ("cmdline", b"a")]).await;
        let mut bench = Bench::start_beside(&server, HANA).await;
        bench.expect("hana: ").await;
        bench.send(&format!("tftpboot {ADDRESS} image.itb cmdline\n")).await;
        bench.expect("No match, choosing default conf-1.\n").await;
        bench.expect("ERROR: Invalid kernel magic: 0x").await;
        bench.expect(" != 0x644d5241\nhana: ").await;
        assert_eq!(bench.violations(), ["bad-hash", "bad-kernel"]);
    }

    #[tokio::test]
    async fn a_kernel_that_is_not_there_halts_it() {
        let server = tftp_server(&[]).await;
        let mut bench = Bench::start_beside(&server, HATCH).await;
        bench.send(&format!("tftpboot {ADDRESS} bzImage cmdline\n")).await;
        bench.expect("Error code 1 (File not found)\n").await;
        bench.expect("Tftp failed.\n").await;
        assert!(matches!(bench.next().await, Next::Hang));
    }

    #[tokio::test]
    async fn a_ramdisk_that_is_not_there_is_said_in_the_words_that_lava_knows() {
        let server = tftp_server(&[("bzImage", &bzimage()), ("cmdline", b"a")]).await;
        let mut bench = Bench::start_beside(&server, HATCH).await;
        bench.send(&format!("tftpboot {ADDRESS} bzImage cmdline ramdisk\n")).await;
        bench.expect("TFTP failed for ramdisk.\n").await;
        assert_eq!(bench.booted().await.ramdisk, None);
    }

    #[tokio::test]
    async fn commands_that_it_does_not_have_or_not_so_are_answered_and_noted() {
        let mut bench = Bench::start(HATCH).await;
        bench.expect("hatch: ").await;
        bench.send("setenv x y\ntftpboot 127.0.0.1 kernel\ntftpboot host k c\n").await;
        bench.expect("Unknown command 'setenv' - try 'help'\nhatch: ").await;
        bench.expect("Usage:\ntftpboot [host IP addr]").await;
        bench.expect("Invalid IPv4 address: host\n").await;
        bench.expect("hatch: ").await;
        assert_eq!(bench.violations(), ["unknown-command", "bad-usage", "bad-usage"]);
    }

    #[tokio::test]
    async fn a_reset_in_the_middle_of_a_line_forgets_the_line() {
        let mut bench = Bench::start(HATCH).await;
        bench.expect("hatch: ").await;
        bench.send("tftpboot 127").await;
        bench.expect("127").await;
        bench.reset().await;
        bench.expect("Starting depthcharge on Helios...").await;
        bench.expect("hatch: ").await;
        bench.send("\n").await;
        bench.expect("hatch: ").await;
        assert_eq!(bench.violations(), [""; 0]);
    }
}
