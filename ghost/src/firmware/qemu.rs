//! QEMU: a board that is a program, started by `qemu-system-*` on the worker's
//! PATH ([`crate::tools::qemu`]) with its kernel and disks on the command line.
//!
//! Options and messages follow QEMU 7.2: `softmmu/vl.c`, `qemu-options.hx`,
//! `hw/i386/x86.c`, `hw/arm/boot.c`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use meta_lava_formats::disk::{DiskImage, QCOW2_MAGIC};
use meta_lava_formats::{compress, fdt, iso, kernel, uimage};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::bios::{self, Record};
use super::{BootImage, Firmware, FirmwareKind, Next};
use crate::disk::{Bus, Disk, Format};
use crate::ledger::{Event, Protocol};
use crate::linux;
use crate::machine::{Invocation, Machine};
use crate::net::FILE_LIMIT;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "qemu",
    about: "QEMU: a board that qemu-system-* starts, with -kernel, -initrd, -append, -drive",
    load: |name, text| {
        let (board, qemu) = crate::board::parse::<Qemu>(name, text)?;
        Ok((board, Box::new(qemu)))
    },
};

/// Settings of a QEMU, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    #[serde(rename = "kind")]
    _kind: String,
    /// Whether the worker has KVM, for `-enable-kvm`.
    #[serde(default)]
    kvm: bool,
    /// Machine types (`-machine`) besides the usual ones.
    #[serde(default)]
    machines: Vec<String>,
    /// CPU models (`-cpu`) besides the usual ones.
    #[serde(default)]
    cpus: Vec<String>,
    /// What is printed before the kernel: of a PC the lines of SeaBIOS, of others nothing.
    #[serde(default)]
    lines: Option<Vec<String>>,
}

/// What a command line says, as far as it changes anything here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `-name`: the board.
    pub name: Option<String>,
    machine: Option<String>,
    cpu: Option<String>,
    kvm: bool,
    memory_mib: Option<u64>,
    kernel: Option<String>,
    initrd: Option<String>,
    append: Option<String>,
    dtb: Option<String>,
    /// Other files that it opens: the option and the file.
    files: Vec<(String, String)>,
    drives: Vec<Drive>,
    /// `-device`s that show a drive: driver, and the drive's id.
    devices: Vec<(String, String)>,
    /// Whether the serial port is on standard input and output.
    console: bool,
    no_graphics: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Drive {
    /// The option that has it, for messages.
    option: String,
    file: String,
    format: Option<String>,
    /// `if=`: what it is on; without one it is what the machine has.
    interface: Option<String>,
    id: Option<String>,
    is_cdrom: bool,
}

impl Drive {
    /// A drive of an option that says no more of it; `interface` is what the option is about.
    fn of(option: String, file: &str, interface: Option<&str>) -> Self {
        let interface = interface.map(str::to_owned);
        Self { option, file: file.to_owned(), format: None, interface, id: None, is_cdrom: false }
    }
}

/// Options with a value.
const WITH_VALUE: &[&str] = &[
    "D",
    "L",
    "M",
    "accel",
    "acpitable",
    "action",
    "add-fd",
    "append",
    "audio",
    "audiodev",
    "bios",
    "blockdev",
    "boot",
    "cdrom",
    "chardev",
    "compat",
    "cpu",
    "d",
    "debugcon",
    "device",
    "dfilter",
    "display",
    "drive",
    "dtb",
    "dump-vmstate",
    "echr",
    "fda",
    "fdb",
    "fsdev",
    "fw_cfg",
    "g",
    "gdb",
    "global",
    "hda",
    "hdb",
    "hdc",
    "hdd",
    "icount",
    "incoming",
    "initrd",
    "iscsi",
    "k",
    "kernel",
    "loadvm",
    "m",
    "machine",
    "mem-path",
    "mon",
    "monitor",
    "msg",
    "mtdblock",
    "name",
    "net",
    "netdev",
    "nic",
    "numa",
    "object",
    "option-rom",
    "overcommit",
    "parallel",
    "pflash",
    "pidfile",
    "plugin",
    "prom-env",
    "qmp",
    "qmp-pretty",
    "readconfig",
    "rotate",
    "rtc",
    "runas",
    "sandbox",
    "sd",
    "seed",
    "semihosting-config",
    "serial",
    "set",
    "shim",
    "smbios",
    "smp",
    "spice",
    "tb-size",
    "tpmdev",
    "trace",
    "usbdevice",
    "uuid",
    "vga",
    "virtfs",
    "vnc",
    "watchdog",
    "watchdog-action",
    "writeconfig",
];

/// Options without one.
const WITHOUT_VALUE: &[&str] = &[
    "S",
    "alt-grab",
    "ctrl-grab",
    "daemonize",
    "enable-fips",
    "enable-kvm",
    "full-screen",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-hpet",
    "no-quit",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nographic",
    "old-param",
    "only-migratable",
    "portrait",
    "preconfig",
    "s",
    "sdl",
    "semihosting",
    "singlestep",
    "snapshot",
    "usb",
    "win2k-hack",
];

/// Takes a command line apart.
///
/// # Errors
/// What QEMU says of it, without its own name.
pub fn parse(args: &[String]) -> Result<CommandLine, String> {
    let mut line = CommandLine::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix('-').filter(|name| !name.is_empty()) else {
            // A file without an option is the first disk.
            line.drives.push(Drive::of(arg.clone(), arg, None));
            continue;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        if WITHOUT_VALUE.contains(&name) {
            match name {
                "enable-kvm" => line.kvm = true,
                "nographic" => (line.console, line.no_graphics) = (true, true),
                _ => {}
            }
            continue;
        }
        if !WITH_VALUE.contains(&name) {
            return Err(format!("{arg}: invalid option"));
        }
        let value = args.next().ok_or_else(|| format!("{arg}: requires an argument"))?;
        line.option(arg, name, value)?;
    }
    let only_with_kernel = [("-append", &line.append), ("-initrd", &line.initrd), ("-dtb", &line.dtb)];
    if line.kernel.is_none()
        && let Some((option, _)) = only_with_kernel.iter().find(|(_, value)| value.is_some())
    {
        return Err(format!("{option} only allowed with -kernel option"));
    }
    Ok(line)
}

impl CommandLine {
    fn option(&mut self, arg: &str, name: &str, value: &str) -> Result<(), String> {
        let fields = fields(value);
        let field = |name: &str| {
            fields.iter().find_map(|(key, value)| (key.as_deref() == Some(name)).then(|| value.clone()))
        };
        let first = fields.first().filter(|(key, _)| key.is_none()).map(|(_, value)| value.clone());
        match name {
            "name" => self.name = first.or_else(|| field("guest")),
            "machine" | "M" => {
                self.machine = first.or_else(|| field("type"));
                self.kvm |= field("accel").as_deref() == Some("kvm");
            }
            "accel" => self.kvm |= first.as_deref() == Some("kvm"),
            "cpu" => self.cpu = first,
            "m" => {
                let size = first.or_else(|| field("size")).unwrap_or_default();
                self.memory_mib = Some(mebibytes(&size).ok_or_else(|| {
                    format!("{arg} {value}: Parameter 'size' expects a non-negative number below 2^64")
                })?);
            }
            "kernel" => self.kernel = Some(value.to_owned()),
            "initrd" => self.initrd = Some(value.to_owned()),
            "append" => self.append = Some(value.to_owned()),
            "dtb" => self.dtb = Some(value.to_owned()),
            "bios" | "shim" | "option-rom" => self.files.push((arg.to_owned(), value.to_owned())),
            "hda" | "hdb" | "hdc" | "hdd" | "cdrom" | "fda" | "fdb" | "sd" | "pflash" | "mtdblock" => {
                let interface = if name.starts_with("hd") { None } else { Some(name) };
                self.drives.push(Drive::of(format!("{arg} {value}"), value, interface));
            }
            "drive" => {
                // A drive without a file is an empty slot.
                if let Some(file) = field("file") {
                    self.drives.push(Drive {
                        format: field("format"),
                        interface: field("if"),
                        id: field("id"),
                        is_cdrom: field("media").as_deref() == Some("cdrom"),
                        ..Drive::of(format!("{arg} {value}"), &file, None)
                    });
                }
            }
            "device" => {
                if let (Some(driver), Some(drive)) = (first.or_else(|| field("driver")), field("drive")) {
                    self.devices.push((driver, drive));
                }
            }
            "serial" | "chardev" => {
                self.console |= fields.iter().any(|(_, value)| value == "stdio" || value == "mon:stdio");
            }
            "display" => self.no_graphics |= first.as_deref() == Some("none"),
            "vnc" | "spice" => self.no_graphics = true,
            _ => {}
        }
        Ok(())
    }
}

/// `key=value` or a bare value, separated by commas; a double comma is one.
fn fields(text: &str) -> Vec<(Option<String>, String)> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            fields.push(String::new());
        } else if let Some(last) = fields.last_mut() {
            last.push(c);
        }
    }
    let split = |field: String| match field.split_once('=') {
        Some((key, value)) => (Some(key.to_owned()), value.to_owned()),
        None => (None, field),
    };
    fields.into_iter().map(split).collect()
}

/// A size as `-m` takes it; without a suffix it is in MiB.
fn mebibytes(text: &str) -> Option<u64> {
    let (digits, kib) = match text.strip_suffix(|c: char| c.is_ascii_alphabetic()) {
        None => (text, 1024),
        Some(digits) => match text.chars().last()?.to_ascii_lowercase() {
            'k' => (digits, 1),
            'm' => (digits, 1024),
            'g' => (digits, 1 << 20),
            't' => (digits, 1 << 30),
            _ => return None,
        },
    };
    Some(digits.parse::<u64>().ok()?.checked_mul(kib)? / 1024)
}

/// Which processors a tool emulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    X86,
    Arm,
    Arm64,
    Riscv,
    Other,
}

impl Family {
    fn of(tool: &str) -> Self {
        match tool.strip_prefix("qemu-system-").unwrap_or_default() {
            "x86_64" | "amd64" | "i386" => Self::X86,
            "arm" => Self::Arm,
            "aarch64" | "arm64" => Self::Arm64,
            "riscv32" | "riscv64" => Self::Riscv,
            _ => Self::Other,
        }
    }

    /// The usual machine types; nothing where all are taken.
    fn machines(self) -> &'static [&'static str] {
        match self {
            Self::X86 => &["isapc", "microvm", "none", "pc", "pc-i440fx-7.2", "pc-q35-7.2", "q35"],
            Self::Arm => &["cubieboard", "none", "versatilepb", "vexpress-a15", "vexpress-a9", "virt"],
            Self::Arm64 => {
                &["none", "raspi3b", "sbsa-ref", "vexpress-a15", "vexpress-a9", "virt", "xlnx-zcu102"]
            }
            Self::Riscv => &["none", "sifive_u", "spike", "virt"],
            Self::Other => &[],
        }
    }

    /// The usual CPU models; nothing where all are taken.
    fn cpus(self) -> &'static [&'static str] {
        match self {
            Self::X86 => &[
                "Broadwell",
                "Cascadelake-Server",
                "EPYC",
                "Haswell",
                "IvyBridge",
                "Nehalem",
                "SandyBridge",
                "Skylake-Client",
                "Skylake-Server",
                "Westmere",
                "base",
                "core2duo",
                "host",
                "kvm32",
                "kvm64",
                "max",
                "qemu32",
                "qemu64",
            ],
            Self::Arm => &["arm926", "cortex-a15", "cortex-a7", "cortex-a8", "cortex-a9", "max"],
            Self::Arm64 => &[
                "a64fx",
                "cortex-a15",
                "cortex-a35",
                "cortex-a53",
                "cortex-a57",
                "cortex-a72",
                "cortex-a76",
                "host",
                "max",
                "neoverse-n1",
            ],
            Self::Riscv => &["any", "rv32", "rv64", "sifive-u54"],
            Self::Other => &[],
        }
    }

    fn kernel(self) -> Option<kernel::Format> {
        match self {
            Self::X86 => Some(kernel::Format::X86BzImage),
            Self::Arm => Some(kernel::Format::ArmZImage),
            Self::Arm64 => Some(kernel::Format::Arm64Image),
            Self::Riscv => Some(kernel::Format::RiscvImage),
            Self::Other => None,
        }
    }
}

#[async_trait]
impl Firmware for Qemu {
    async fn run(&self, machine: &mut Machine) -> Next {
        // The tool's terminal is being opened while it runs already.
        machine.console().connected().await;
        let Some(invocation) = machine.invocation.clone() else {
            machine.ledger.violation("power-without-qemu", "only qemu-system-* switches this board on");
            return Next::PowerOff;
        };
        let family = Family::of(&invocation.tool);
        let mut start = Start { qemu: self, machine, invocation, family };
        match start.boot().await {
            Ok(next) => next,
            Err(Refusal { what, text }) => {
                let line = format!("{}: {text}", start.invocation.tool);
                start.machine.ledger.violation(what, line.as_str());
                start.machine.console().print(&(line + "\n")).await;
                Next::PowerOff
            }
        }
    }
}

/// QEMU ends before the machine starts: a violation's name, and what it says.
struct Refusal {
    what: &'static str,
    text: String,
}

impl Refusal {
    fn new(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, text: text.into() }
    }
}

struct Start<'a> {
    qemu: &'a Qemu,
    machine: &'a mut Machine,
    invocation: Invocation,
    family: Family,
}

impl Start<'_> {
    async fn boot(&mut self) -> Result<Next, Refusal> {
        let line = parse(&self.invocation.args).map_err(|text| Refusal::new("bad-option", text))?;
        self.check(&line)?;
        for (option, path) in &line.files {
            let missing = || Refusal::new("missing-file", format!("could not load '{path}'"));
            self.read(option, path).await.map_err(|_| missing())?;
        }
        for drive in &line.drives {
            self.open(&line, drive).await?;
        }
        let Some(path) = &line.kernel else {
            return self.boot_from_disk(&line).await;
        };
        let missing =
            |what: &str, path: &str| Refusal::new("missing-file", format!("could not load {what} '{path}'"));
        let kernel = self.read("-kernel", path).await.map_err(|_| match self.family {
            Family::X86 => Refusal::new(
                "missing-file",
                format!("could not open kernel file '{path}': No such file or directory"),
            ),
            _ => missing("kernel", path),
        })?;
        let ramdisk = match &line.initrd {
            None => None,
            Some(path) => Some(self.read("-initrd", path).await.map_err(|_| missing("initrd", path))?),
        };
        let dtb = match &line.dtb {
            None => None,
            Some(path) => {
                let tree = self.read("-dtb", path).await;
                let tree = tree.ok().filter(|tree| fdt::parse(tree).is_ok());
                Some(tree.ok_or_else(|| {
                    Refusal::new("bad-device-tree", format!("Couldn't open dtb file {path}"))
                })?)
            }
        };
        let kernel = unpack(self.family, kernel);
        let sound = self.family.kernel().map(|format| format.check(&kernel));
        if let Some(Err(error)) = sound {
            if self.family == Family::X86 && ramdisk.is_some() {
                return Err(Refusal::new("bad-kernel", "linux kernel too old to load a ram disk"));
            }
            // It runs whatever it was given.
            self.machine.ledger.violation("bad-kernel", format!("{path}: {error}"));
            return Ok(Next::Hang);
        }
        if !line.console {
            self.machine.ledger.violation("no-console", "the serial port leads nowhere");
            return Ok(Next::Hang);
        }
        self.print_lines(&["Booting from ROM..."]).await;
        let cmdline = line.append.unwrap_or_default();
        Ok(Next::Boot(BootImage { kernel, cmdline, ramdisk, dtb }))
    }

    /// What a BIOS does without a kernel on the command line: it starts what the first disk's first block is.
    async fn boot_from_disk(&mut self, line: &CommandLine) -> Result<Next, Refusal> {
        let first = self.machine.disks.iter().find(|disk| disk.is_whole()).cloned();
        let first = first.filter(|_| self.family == Family::X86);
        let image = first.as_ref().and_then(Disk::image).map(Path::to_owned);
        let record = match image {
            Some(image) => tokio::task::spawn_blocking(move || Record::read(&image)).await.ok(),
            None => None,
        };
        let record = record.and_then(Result::ok).unwrap_or(Record::None);
        let mut says = vec!["Booting from Hard Disk..."];
        if record == Record::None {
            says.extend(bios::NOT_BOOTABLE);
        }
        self.print_lines(&says).await;
        match (record, first) {
            (Record::Grub(partition), Some(disk)) if line.console => {
                Ok(bios::boot(self.machine, &disk, partition).await)
            }
            (Record::Grub(_), _) => {
                self.machine.ledger.violation("no-console", "the serial port leads nowhere");
                Ok(Next::Hang)
            }
            (Record::Unknown, _) => {
                self.machine
                    .ledger
                    .violation("no-boot-loader", "the disk has a boot record, and no boot loader in it");
                Ok(Next::Hang)
            }
            (Record::None, _) => Ok(Next::Hang),
        }
    }

    /// Prints what comes before the kernel: of a PC the BIOS, ending in `last`.
    async fn print_lines(&mut self, last: &[&str]) {
        let text = match &self.qemu.lines {
            Some(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            None if self.family == Family::X86 => {
                format!("SeaBIOS (version 1.16.2-debian-1.16.2-1)\n\n\n{}\n", last.join("\n"))
            }
            None => String::new(),
        };
        self.machine.console().print(&text).await;
    }

    /// What QEMU refuses before it opens any file.
    fn check(&self, line: &CommandLine) -> Result<(), Refusal> {
        let known = |list: &[&str], own: &[String], name: &str| {
            list.is_empty() || list.contains(&name) || own.iter().any(|own| own == name)
        };
        match &line.machine {
            None if matches!(self.family, Family::Arm | Family::Arm64) => {
                return Err(Refusal::new(
                    "no-machine",
                    "No machine specified, and there is no default\nUse -machine help to list supported machines",
                ));
            }
            Some(name) if !known(self.family.machines(), &self.qemu.machines, name) => {
                return Err(Refusal::new(
                    "bad-machine",
                    "unsupported machine type\nUse -machine help to list supported machines",
                ));
            }
            _ => {}
        }
        if line.kvm && !self.qemu.kvm {
            return Err(Refusal::new(
                "no-kvm",
                "Could not access KVM kernel module: No such file or directory\nfailed to initialize kvm: \
                 No such file or directory",
            ));
        }
        match line.cpu.as_deref() {
            Some("host") if !line.kvm => {
                return Err(Refusal::new("bad-cpu", "CPU model 'host' requires KVM or HVF"));
            }
            Some(name) if !known(self.family.cpus(), &self.qemu.cpus, name) => {
                return Err(Refusal::new("bad-cpu", format!("unable to find CPU model '{name}'")));
            }
            _ => {}
        }
        if line.memory_mib.is_some_and(|mib| mib > self.machine.board.memory.mib) {
            return Err(Refusal::new(
                "too-much-memory",
                "cannot set up guest memory 'ram': Cannot allocate memory",
            ));
        }
        if !line.console && !line.no_graphics {
            return Err(Refusal::new("no-display", "gtk initialization failed"));
        }
        Ok(())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.invocation.cwd.join(path)
    }

    /// Reads a file of the worker's, whole.
    async fn read(&mut self, option: &str, path: &str) -> io::Result<Vec<u8>> {
        let read = read_limited(&self.path(path)).await;
        self.machine.ledger.take(match &read {
            Ok(bytes) => Event::file(Protocol::Local, path, option, bytes),
            Err(error) => failed(path, error),
        });
        read
    }

    /// Opens a disk, and shows the machine what is on it.
    async fn open(&mut self, line: &CommandLine, drive: &Drive) -> Result<(), Refusal> {
        let Drive { option, file, format, .. } = drive;
        let path = self.path(file);
        let (size, sha256, magic) = match hash(&path).await {
            Ok(found) => found,
            Err(error) => {
                self.machine.ledger.take(failed(file, &error));
                return Err(Refusal::new(
                    "missing-file",
                    format!("{option}: Could not open '{file}': No such file or directory"),
                ));
            }
        };
        self.machine.ledger.take(Event::File {
            protocol: Protocol::Local,
            path: file.clone(),
            size,
            sha256: sha256.clone(),
            load: option.split(' ').next().unwrap_or_default().to_owned(),
            parts: Vec::new(),
        });
        let bad = |text: &str| Refusal::new("bad-disk", format!("{option}: {text}"));
        let format = match format.as_deref() {
            Some("qcow2") if magic != QCOW2_MAGIC => return Err(bad("Image is not in qcow2 format")),
            Some("qcow2") => Format::Qcow2,
            None if magic == QCOW2_MAGIC => Format::Qcow2,
            None | Some("raw") => Format::Raw,
            Some(format) => return Err(bad(&format!("Unknown driver '{format}'"))),
        };
        let bus = bus(self.family, line, drive, &self.machine.disks);
        if drive.is_cdrom || drive.interface.as_deref() == Some("cdrom") {
            bus?;
            let disc = tokio::task::spawn_blocking(move || {
                let image = DiskImage::open(std::fs::File::open(path)?, format)?;
                iso::read(image, linux::UNPACKED_LIMIT).map_err(io::Error::other)
            });
            // What is no disc of this kind is one that nobody can read.
            self.machine.cd = disc.await.ok().and_then(Result::ok).map(Arc::new);
            return Ok(());
        }
        let shown = bus.as_ref().ok().copied().flatten().unwrap_or(Bus::Scsi);
        let is_same_bus = |disk: &&Disk| disk.is_whole() && disk.bus() == shown;
        let number = u8::try_from(self.machine.disks.iter().filter(is_same_bus).count()).unwrap_or(u8::MAX);
        let image = path.clone();
        let disks = tokio::task::spawn_blocking(move || {
            Disk::read_all(&std::fs::File::open(path)?, format, shown, number)
        });
        let disks = disks.await.map_err(io::Error::other).and_then(|disks| disks);
        let disks = disks.map_err(|error| bad(&format!("Could not open '{file}': {error}")))?;
        // What LAVA wrote there counts, whether or not a kernel comes to see it.
        for tree in disks.iter().filter_map(Disk::content) {
            linux::note_disk(&self.machine.ledger, sha256.clone(), &tree);
        }
        if bus?.is_some() {
            let writable = |disk: Disk| if disk.is_whole() { disk.kept_in(image.clone()) } else { disk };
            self.machine.disks.extend(disks.into_iter().map(|disk| match format {
                Format::Raw => writable(disk),
                Format::Qcow2 => disk,
            }));
        }
        Ok(())
    }
}

/// What a drive is on; nothing where no kernel sees a disk there. `disks` are those that there are already.
fn bus(family: Family, line: &CommandLine, drive: &Drive, disks: &[Disk]) -> Result<Option<Bus>, Refusal> {
    // `mc->block_default_type`, which is IDE where a machine does not say otherwise.
    let is_virt = family != Family::X86 && line.machine.as_deref() == Some("virt");
    let own = if is_virt { "virtio" } else { "ide" };
    let interface = drive.interface.as_deref().unwrap_or(own);
    let disk = |bus| if drive.is_cdrom { None } else { Some(bus) };
    Ok(match interface {
        "virtio" => disk(Bus::Virtio),
        // `drive_check_orphaned` in blockdev.c.
        "ide" | "scsi" if is_virt => {
            let unit = disks.iter().filter(|disk| disk.bus() == Bus::Scsi).count();
            return Err(Refusal::new(
                "bad-disk",
                format!("{}: machine type does not support if={interface},bus=0,unit={unit}", drive.option),
            ));
        }
        "ide" | "scsi" => disk(Bus::Scsi),
        "none" => {
            let shown = line.devices.iter().find(|(_, id)| Some(id) == drive.id.as_ref());
            match shown.map(|(driver, _)| driver.as_str()) {
                Some(driver) if driver.starts_with("virtio-blk") => disk(Bus::Virtio),
                Some("ide-hd" | "scsi-hd" | "usb-storage") => disk(Bus::Scsi),
                _ => None,
            }
        }
        _ => None,
    })
}

fn failed(path: &str, error: &io::Error) -> Event {
    Event::FileFailed { protocol: Protocol::Local, path: path.to_owned(), error: error.to_string() }
}

/// Opens a regular file: others may never end, or never even open.
async fn open(path: &Path) -> io::Result<tokio::fs::File> {
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    tokio::fs::File::open(path).await
}

/// Reads a regular file that is not too large.
pub(super) async fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = FILE_LIMIT as u64;
    open(path).await?.take(limit + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("over the limit of {limit} bytes")));
    }
    Ok(bytes)
}

/// Size, sha256 and first four bytes of a file.
async fn hash(path: &Path) -> io::Result<(u64, String, [u8; 4])> {
    let mut file = open(path).await?;
    let (mut size, mut sum, mut magic) = (0, Sha256::new(), [0; 4]);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).await?;
        let chunk = buffer.get(..read).unwrap_or_default();
        if chunk.is_empty() {
            return Ok((size, hex::encode(sum.finalize()), magic));
        }
        if size == 0 {
            magic = chunk.first_chunk().copied().unwrap_or_default();
        }
        size += chunk.len() as u64;
        sum.update(chunk);
    }
}

/// What QEMU itself takes off a kernel: U-Boot's header, and gzip of an arm64 `Image`.
fn unpack(family: Family, kernel: Vec<u8>) -> Vec<u8> {
    match family {
        Family::Arm | Family::Riscv => match uimage::parse(&kernel) {
            Ok(image) => image.data.to_vec(),
            Err(_) => kernel,
        },
        Family::Arm64 if compress::Format::of(&kernel) == compress::Format::Gzip => {
            match compress::decompress(&kernel, kernel::MAX_KERNEL) {
                Ok(unpacked) => unpacked.into_owned(),
                Err(_) => kernel,
            }
        }
        _ => kernel,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    const YAML: &str = "
model: linux,dummy-virt
memory: {base: 0x40000000, mib: 4096}
firmware: {kind: qemu}
";

    fn invocation(tool: &str, args: &str, cwd: &Path) -> Invocation {
        let args = args.split(' ').filter(|arg| !arg.is_empty()).map(str::to_owned).collect();
        Invocation { tool: tool.into(), args, cwd: cwd.into(), root: "/".into() }
    }

    /// A folder with what LAVA downloads.
    fn downloads() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, format) in [("Image", kernel::Format::Arm64Image), ("bzImage", kernel::Format::X86BzImage)]
        {
            std::fs::write(dir.path().join(name), kernel::write(format, "Linux version 6.1", 4096)).unwrap();
        }
        std::fs::write(dir.path().join("rootfs.cpio.gz"), b"cpio").unwrap();
        std::fs::write(dir.path().join("disk.img"), b"raw").unwrap();
        dir
    }

    /// What LAVA's template for this architecture begins with.
    const AARCH64: &str = "-cpu cortex-a57 -machine virt -nographic \
        -net nic,model=virtio,macaddr=52:54:00:12:34:58 -net user -m 512 -monitor none -name bench ";
    const X86: &str = "-nographic -net nic,model=virtio,macaddr=52:54:00:12:34:58 -net user \
        -m 512 -monitor none -name bench ";

    #[tokio::test]
    async fn the_command_line_that_lava_makes_boots_kernel_and_ramdisk() {
        let dir = downloads();
        let args = format!("{AARCH64}-kernel Image --append root=/dev/ram0 -initrd rootfs.cpio.gz");
        let mut bench = Bench::start_as(YAML, invocation("qemu-system-aarch64", &args, dir.path())).await;
        let image = bench.booted().await;
        assert_eq!(image.kernel, std::fs::read(dir.path().join("Image")).unwrap());
        assert_eq!(image.ramdisk.as_deref(), Some(&b"cpio"[..]));
        assert_eq!(image.cmdline, "root=/dev/ram0");
        assert_eq!(bench.violations(), [""; 0]);
        let files = bench.events();
        assert!(files.contains(&Event::File {
            protocol: Protocol::Local,
            path: "rootfs.cpio.gz".into(),
            size: 4,
            sha256: meta_lava_formats::sha256(b"cpio"),
            load: "-initrd".into(),
            parts: Vec::new(),
        }));
    }

    #[tokio::test]
    async fn a_pc_begins_with_its_bios() {
        let dir = downloads();
        let args = format!("{X86}-kernel bzImage -drive format=raw,file=disk.img,if=virtio");
        let mut bench = Bench::start_as(YAML, invocation("qemu-system-x86_64", &args, dir.path())).await;
        bench.expect("SeaBIOS").await;
        bench.expect("Booting from ROM...\n").await;
        bench.booted().await;
    }

    /// A disk with one partition, with a kernel and a configuration of GRUB's on it; `loader` says whether GRUB is there, too.
    fn bootable(path: &Path, commands: Vec<meta_lava_formats::grub::Command>, loader: bool) {
        use meta_lava_formats::{ext, grub, mbr};
        use std::os::unix::fs::FileExt as _;

        let file = std::fs::File::create(path).unwrap();
        file.set_len(8 << 20).unwrap();
        let mut record = [0; mbr::BLOCK];
        let partition = mbr::Partition { start: 2048, blocks: 14336, kind: 0x83 };
        assert!(mbr::write(&mut record, &[partition]));
        if loader {
            file.write_all_at(&grub::write(&mut record, 1), 512).unwrap();
        }
        file.write_all_at(&record, 0).unwrap();
        let mut tree = meta_lava_formats::tree::Tree::default();
        tree.file("boot/grub/grub.cfg", 0o600, grub::Config { timeout: 0, commands }.script("Debian"));
        tree.file(
            "boot/vmlinuz",
            0o644,
            kernel::write(kernel::Format::X86BzImage, "Linux version 6.1", 4096),
        );
        tree.file("boot/initrd.img", 0o644, "cpio");
        ext::write(&tree, 7 << 20, [1; 16], &mut |at, piece| file.write_all_at(piece, (1 << 20) + at))
            .unwrap();
    }

    #[tokio::test]
    async fn a_pc_boots_from_a_disk_as_its_boot_loader_says() {
        use meta_lava_formats::grub::Command;

        let linux = |path: &str| Command::Linux { path: path.into(), arguments: "root=/dev/sda1 ro".into() };
        let initrd = || Command::Initrd("/boot/initrd.img".into());
        let dir = tempfile::tempdir().unwrap();
        let args = format!("{X86}-drive format=raw,file=hd.img");
        let echo = Command::Echo("Loading initial ramdisk ...".into());
        bootable(&dir.path().join("hd.img"), vec![linux("/boot/vmlinuz"), echo, initrd()], true);
        let mut bench = Bench::start_as(YAML, invocation("qemu-system-x86_64", &args, dir.path())).await;
        bench.expect("Booting from Hard Disk...\nGRUB loading.\nWelcome to GRUB!\n\n").await;
        bench.expect("Loading initial ramdisk ...\n").await;
        let image = bench.booted().await;
        assert_eq!(image.cmdline, "BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 ro");
        assert_eq!(image.ramdisk.as_deref(), Some(&b"cpio"[..]));
        assert_eq!(bench.violations(), [""; 0]);
        for (commands, loader, says, violation) in [
            (vec![linux("/boot/none")], true, "error: file `/boot/none' not found.", "not-booted-from-disk"),
            (vec![linux("/boot/initrd.img")], true, "error: invalid magic number.", "not-booted-from-disk"),
            (vec![initrd()], true, "error: you need to load the kernel first.", "not-booted-from-disk"),
            (vec![linux("/boot/vmlinuz")], false, "Booting from Hard Disk...\n", "no-boot-loader"),
        ] {
            bootable(&dir.path().join("hd.img"), commands, loader);
            let mut bench = Bench::start_as(YAML, invocation("qemu-system-x86_64", &args, dir.path())).await;
            bench.expect(says).await;
            assert!(matches!(bench.next().await, Next::Hang), "{says}");
            assert_eq!(bench.violations(), [violation], "{says}");
        }
    }

    #[tokio::test]
    async fn a_disk_without_a_boot_record_is_not_bootable() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hd.img"), vec![0; 1 << 20]).unwrap();
        let args = format!("{X86}-drive format=raw,file=hd.img");
        let mut bench = Bench::start_as(YAML, invocation("qemu-system-x86_64", &args, dir.path())).await;
        bench.expect("Boot failed: not a bootable disk\n\nNo bootable device.\n").await;
        assert!(matches!(bench.next().await, Next::Hang));
    }

    #[test]
    fn a_drive_is_a_disk_where_the_machine_shows_it() {
        let shown = |family, args: &str| {
            let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
            let line = parse(&args).unwrap();
            bus(family, &line, &line.drives[0], &[]).map_err(|refusal| refusal.text)
        };
        for (family, args, on) in [
            (Family::Arm64, "-M virt -drive file=a,if=virtio", Some(Bus::Virtio)),
            (Family::Arm64, "-M virt -drive file=a", Some(Bus::Virtio)),
            (Family::Arm64, "-M virt -hda a", Some(Bus::Virtio)),
            (
                Family::Arm64,
                "-M virt -drive file=a,if=none,id=b -device virtio-blk-device,drive=b",
                Some(Bus::Virtio),
            ),
            (Family::Arm64, "-M virt -drive file=a,if=none,id=b -device virtio-blk-device,drive=c", None),
            (Family::X86, "-drive file=a", Some(Bus::Scsi)),
            (Family::X86, "-drive file=a,media=cdrom", None),
            (Family::X86, "-cdrom a", None),
            (Family::X86, "-pflash a", None),
        ] {
            assert_eq!(shown(family, args), Ok(on), "{args}");
        }
        assert_eq!(
            shown(Family::Riscv, "-M virt -drive file=a,if=ide"),
            Err("-drive file=a,if=ide: machine type does not support if=ide,bus=0,unit=0".into())
        );
    }

    #[tokio::test]
    async fn what_is_on_a_disk_is_in_the_ledger() {
        let dir = downloads();
        let system: &[u8] = include_bytes!("../../../formats/src/disk/small.qcow2.gz");
        let system = compress::decompress(system, 1 << 20).unwrap();
        std::fs::write(dir.path().join("system.img"), system).unwrap();
        let args = format!("{AARCH64}-kernel Image -drive file=system.img,format=qcow2,if=virtio");
        let mut bench = Bench::start_as(YAML, invocation("qemu-system-aarch64", &args, dir.path())).await;
        bench.booted().await;
        let is_disk = |event: &Event| matches!(event, Event::Tree { root, .. } if root == "disk");
        assert!(bench.events().iter().any(is_disk));
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn what_qemu_refuses_is_said_and_ends_it() {
        let dir = downloads();
        for (tool, args, text, violation) in [
            ("qemu-system-x86_64", "-nographic -frobnicate", "-frobnicate: invalid option", "bad-option"),
            ("qemu-system-x86_64", "-nographic -kernel", "-kernel: requires an argument", "bad-option"),
            ("qemu-system-x86_64", "-initrd x", "-initrd only allowed with -kernel option", "bad-option"),
            ("qemu-system-x86_64", "-enable-kvm", "Could not access KVM kernel module", "no-kvm"),
            ("qemu-system-x86_64", "-cpu host", "CPU model 'host' requires KVM", "bad-cpu"),
            ("qemu-system-x86_64", "-cpu z80", "unable to find CPU model 'z80'", "bad-cpu"),
            ("qemu-system-x86_64", "-m 8G", "cannot set up guest memory", "too-much-memory"),
            ("qemu-system-x86_64", "-kernel bzImage", "gtk initialization failed", "no-display"),
            ("qemu-system-aarch64", "-nographic", "No machine specified", "no-machine"),
            ("qemu-system-aarch64", "-M vax", "unsupported machine type", "bad-machine"),
            (
                "qemu-system-aarch64",
                "-M virt -nographic -kernel none",
                "could not load kernel 'none'",
                "missing-file",
            ),
            (
                "qemu-system-x86_64",
                "-nographic -drive file=disk.img,format=qcow2",
                "-drive file=disk.img,format=qcow2: Image is not in qcow2 format",
                "bad-disk",
            ),
            (
                "qemu-system-aarch64",
                "-M virt -nographic -drive file=disk.img,format=raw,if=ide,id=lavatest",
                "-drive file=disk.img,format=raw,if=ide,id=lavatest: machine type does not support if=ide,bus=0,unit=0",
                "bad-disk",
            ),
            ("qemu-system-x86_64", "-nographic -hda none", "Could not open 'none'", "missing-file"),
            ("qemu-system-x86_64", "-nographic -hda /dev/zero", "Could not open '/dev/zero'", "missing-file"),
            (
                "qemu-system-x86_64",
                "-nographic -kernel Image -initrd rootfs.cpio.gz",
                "linux kernel too old to load a ram disk",
                "bad-kernel",
            ),
        ] {
            let mut bench = Bench::start_as(YAML, invocation(tool, args, dir.path())).await;
            bench.expect(&format!("{tool}: ")).await;
            bench.expect(text).await;
            assert!(matches!(bench.next().await, Next::PowerOff), "{args}");
            assert_eq!(bench.violations(), [violation], "{args}");
        }
    }

    #[tokio::test]
    async fn a_kernel_of_another_architecture_runs_into_nothing() {
        let dir = downloads();
        let args = format!("{AARCH64}-kernel bzImage");
        let mut bench = Bench::start_as(YAML, invocation("qemu-system-aarch64", &args, dir.path())).await;
        assert!(matches!(bench.next().await, Next::Hang));
        assert_eq!(bench.violations(), ["bad-kernel"]);
    }

    #[tokio::test]
    async fn without_the_tool_it_stays_off() {
        let mut bench = Bench::start(YAML).await;
        assert!(matches!(bench.next().await, Next::PowerOff));
        assert_eq!(bench.violations(), ["power-without-qemu"]);
    }

    #[test]
    fn sizes_and_lists_are_read_as_qemu_reads_them() {
        assert_eq!(mebibytes("512"), Some(512));
        assert_eq!(mebibytes("2G"), Some(2048));
        assert_eq!(mebibytes("1x"), None);
        assert_eq!(mebibytes("ü"), None);
        assert_eq!(
            fields("file=a,,b,format=raw"),
            [(Some("file".into()), "a,b".into()), (Some("format".into()), "raw".into())]
        );
        let name =
            |args: &[&str]| parse(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>()).unwrap().name;
        assert_eq!(name(&["-name", "guest=qemu-01,debug-threads=on"]).as_deref(), Some("qemu-01"));
        assert_eq!(name(&["-name", "qemu-01"]).as_deref(), Some("qemu-01"));
    }
}
