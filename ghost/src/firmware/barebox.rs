//! barebox: device parameters, the automount of `/mnt/tftp`, and `bootm`.
//!
//! Behaviour and messages follow barebox 2023.01: `common/hush.c`, `common/startup.c`,
//! `common/bootm.c`, `common/booti.c`, `arch/arm/lib32/bootm.c`, `fs/tftp.c`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use async_trait::async_trait;
use meta_lava_formats::{compress, fdt, fit, kernel, uimage};
use serde::Deserialize;
use tokio::time::Instant;

use super::arch::Arch;
use super::shell::words::{self, Statement, SyntaxError};
use super::shell::{Command, Shell, Work, done, ends, find};
use super::{BootImage, Firmware, FirmwareKind, Flow, Next};
use crate::machine::Machine;
use crate::net::FetchError;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "barebox",
    about: "barebox: global variables, /mnt/tftp, bootm",
    load: |name, text| {
        let (board, barebox) = crate::board::parse::<Barebox>(name, text)?;
        Ok((board, Box::new(barebox)))
    },
};

/// Settings of a barebox, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Barebox {
    #[serde(rename = "kind")]
    _kind: String,
    /// First line.
    #[serde(default = "default_banner")]
    banner: String,
    /// Lines between `Board: …` and autoboot.
    #[serde(default)]
    lines: Vec<String>,
    /// The board in the prompt `barebox@…:/ `; the board's `model` where this is missing.
    prompt: Option<String>,
    /// How autoboot is stopped.
    #[serde(default)]
    autoboot: Autoboot,
    arch: Arch,
    /// Whether it starts kernels itself in secure mode (PSCI), and says so.
    #[serde(default)]
    secure_monitor: bool,
    /// Whether errors have their coloured `ERROR:` in front, as most builds do.
    #[serde(default)]
    color: bool,
    /// What the board itself has in `global.linux.bootargs.base`.
    #[serde(default)]
    bootargs: String,
    /// More global variables, without `global.` in front.
    #[serde(default)]
    global: BTreeMap<String, String>,
}

fn default_banner() -> String {
    "barebox 2023.01.0 #1 Thu Jan 1 00:00:00 UTC 1970".into()
}

/// How autoboot announces itself and what stops it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Autoboot {
    /// Text before the countdown.
    message: String,
    /// Seconds on the countdown.
    delay: u32,
    /// The key that stops it.
    key: Key,
}

/// `global.autoboot_abort_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Key {
    Any,
    /// `^C` only.
    CtrlC,
}

impl Default for Autoboot {
    fn default() -> Self {
        Self { message: "Hit m for menu or any key to stop autoboot:".into(), delay: 3, key: Key::Any }
    }
}

#[async_trait]
impl Firmware for Barebox {
    async fn run(&self, machine: &mut Machine) -> Next {
        let mut globals: BTreeMap<String, String> = [
            ("boot.default", "net"),
            ("bootm.image", ""),
            ("bootm.initrd", ""),
            ("bootm.oftree", ""),
            ("hostname", "ghost"),
            ("linux.bootargs.base", &self.bootargs),
            ("net.server", ""),
            ("user", "none"),
            ("version", &self.banner),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        globals.extend(self.global.clone());
        let prompt = self.prompt.as_ref().unwrap_or(&machine.board.model);
        let prompt = format!("barebox@{prompt}:/ ");
        let mut shell = BareboxShell {
            barebox: self,
            machine,
            prompt,
            globals,
            locals: BTreeMap::new(),
            files: BTreeMap::new(),
            regions: Vec::new(),
            status: 0,
        };
        shell.run().await
    }
}

/// Why a system call failed; its text is `strerror`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Errno {
    #[error("No such file or directory")]
    NoEntry,
    #[error("Out of memory")]
    NoMemory,
    #[error("No such device")]
    NoDevice,
    #[error("Invalid argument")]
    Invalid,
    #[error("Connection timed out")]
    TimedOut,
    #[error("Remote I/O error")]
    Remote,
}

impl Errno {
    /// What a failed fetch is to whoever opened the file.
    fn of(error: &FetchError) -> Self {
        match error {
            FetchError::NotFound(_) => Self::NoEntry,
            FetchError::Timeout(_) => Self::TimedOut,
            FetchError::Refused(_) | FetchError::Tftp(..) | FetchError::Bad(_) => Self::Remote,
        }
    }
}

/// What barebox takes a file for (`common/filetype.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileType {
    Kernel(kernel::Format),
    Uimage,
    Oftree,
    Compressed(&'static str),
    Unknown,
}

impl FileType {
    fn of(bytes: &[u8]) -> Self {
        let format = kernel::Format::ALL
            .into_iter()
            .find(|format| !matches!(format.check(bytes), Err(kernel::Error::BadMagic)));
        match (format, compress::Format::of(bytes)) {
            (Some(format), _) => Self::Kernel(format),
            _ if uimage::is_uimage(bytes) => Self::Uimage,
            _ if fdt::is_fdt(bytes) => Self::Oftree,
            (None, compress::Format::Gzip) => Self::Compressed("GZIP compressed"),
            (None, compress::Format::Bzip2) => Self::Compressed("BZIP2 compressed"),
            (None, compress::Format::Xz) => Self::Compressed("XZ compressed"),
            (None, _) => Self::Unknown,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kernel(kernel::Format::ArmZImage) => "ARM Linux zImage",
            Self::Kernel(kernel::Format::Arm64Image) => "ARM aarch64 Linux image",
            Self::Kernel(kernel::Format::RiscvImage) => "RISC-V Linux image",
            Self::Kernel(kernel::Format::X86BzImage) => "MS-DOS executable",
            Self::Uimage => "U-Boot uImage",
            Self::Oftree => "open firmware Device Tree flattened Binary",
            Self::Compressed(name) => name,
            Self::Unknown => "unknown",
        }
    }
}

/// What `bootm` was asked for.
#[derive(Debug, Clone, Default)]
struct Bootm {
    verbose: u32,
    dry_run: bool,
    force: bool,
    image: Option<String>,
    initrd: Option<String>,
    oftree: Option<String>,
    address: Option<u64>,
    initrd_address: Option<u64>,
}

type Run = for<'s, 'm> fn(&'s mut BareboxShell<'m>, &'s str, &'s [&'s str]) -> Work<'s, bool>;

const COMMANDS: &[Command<Run>] = &[
    ("[", |shell, _, args| Box::pin(shell.test(args))),
    ("boot", |shell, _, args| Box::pin(shell.boot(args))),
    ("bootm", |shell, _, args| Box::pin(shell.bootm(args))),
    ("cp", |shell, _, args| Box::pin(shell.cp(args))),
    ("detect", |_, _, _| done(true)),
    ("dhcp", |shell, _, _| Box::pin(shell.ifup())),
    ("echo", |shell, _, args| Box::pin(shell.echo(args))),
    ("export", |_, _, _| done(true)),
    ("false", |_, _, _| done(false)),
    ("global", |shell, _, args| Box::pin(shell.global(args))),
    ("help", |shell, _, _| shell.help()),
    ("ifup", |shell, _, _| Box::pin(shell.ifup())),
    ("ls", |shell, _, args| Box::pin(shell.ls(args))),
    ("mount", |shell, _, args| Box::pin(shell.mount(args))),
    ("nv", |shell, _, args| Box::pin(shell.global(args))),
    ("ping", |shell, _, args| Box::pin(shell.ping(args))),
    ("poweroff", |_, _, _| ends(Next::PowerOff)),
    ("printenv", |shell, _, args| Box::pin(shell.printenv(args))),
    ("reset", |_, _, _| ends(Next::Reset)),
    ("saveenv", |_, _, _| done(true)),
    ("setenv", |shell, _, args| Box::pin(shell.setenv(args))),
    ("sleep", |_, _, _| done(true)),
    ("test", |shell, _, args| Box::pin(shell.test(args))),
    ("tftp", |shell, _, args| Box::pin(shell.tftp(args))),
    ("true", |_, _, _| done(true)),
    ("version", |shell, _, _| Box::pin(shell.version())),
];

/// Where the TFTP server is mounted.
const TFTP: &str = "/mnt/tftp/";

/// Smaller files than this are no images (`PAGE_SIZE`).
const PAGE: u64 = 4096;

/// The most that a compressed kernel is unpacked to, in bytes.
const KERNEL_LIMIT: usize = kernel::MAX_KERNEL;

/// A barebox between reset and boot.
struct BareboxShell<'m> {
    barebox: &'m Barebox,
    machine: &'m mut Machine,
    prompt: String,
    /// Parameters of the device `global`.
    globals: BTreeMap<String, String>,
    /// Variables of the shell.
    locals: BTreeMap<String, String>,
    /// What was copied into the RAM file system.
    files: BTreeMap<String, Vec<u8>>,
    /// RAM that the boot in progress has taken.
    regions: Vec<Range<u64>>,
    /// `$?`
    status: u8,
}

#[async_trait]
impl Shell for BareboxShell<'_> {
    fn machine(&mut self) -> &mut Machine {
        self.machine
    }

    fn prompt(&self) -> String {
        self.prompt.clone()
    }

    fn variable(&self, name: &str) -> Option<String> {
        let address =
            |address: Option<std::net::IpAddr>| address.map_or("0.0.0.0".into(), |ip| ip.to_string());
        match name {
            "?" => Some(self.status.to_string()),
            "eth0.ipaddr" => Some(address(self.machine.net.address)),
            "eth0.serverip" => self.globals.get("net.server").cloned(),
            _ => match name.strip_prefix("global.") {
                Some(name) => self.globals.get(name).cloned(),
                None => self.locals.get(name).cloned(),
            },
        }
    }

    fn parse(&self, line: &str) -> Result<Vec<Statement>, SyntaxError> {
        words::parse(&hush(line))
    }

    async fn syntax_error(&mut self, _: SyntaxError) {
        self.status = 1;
        self.print("syntax error\n").await;
    }

    async fn command(&mut self, mut words: &[&str]) -> Flow<bool> {
        let mut ok = true;
        while let Some(((name, value), rest)) =
            words.split_first().and_then(|(word, rest)| Some((assignment(word)?, rest)))
            && ok
        {
            ok = self.assign(name, value).await;
            words = rest;
        }
        if let Some((&name, args)) = words.split_first().filter(|_| ok) {
            ok = match find(COMMANDS, name) {
                Some((_, run)) => run(self, name, args).await?,
                None => {
                    self.machine.ledger.violation("unknown-command", words.join(" "));
                    self.print(format!("{name}: {}\n", Errno::NoEntry)).await;
                    false
                }
            };
        }
        self.status = if ok { 0 } else { 1 };
        Ok(ok)
    }
}

impl BareboxShell<'_> {
    /// Prints an error of the log.
    async fn error(&mut self, text: impl AsRef<str>) {
        let level = if self.barebox.color { "\x1b[1;31mERROR:\x1b[0m " } else { "" };
        self.print(format!("{level}{}\n", text.as_ref())).await;
    }

    async fn run(&mut self) -> Next {
        let mut hello = format!("\n\n{}\n\n\nBoard: {}\n", self.barebox.banner, self.machine.board.model);
        for line in &self.barebox.lines {
            hello.push_str(line);
            hello.push('\n');
        }
        self.print(&hello).await;
        let mut next = if self.stopped().await { Ok(()) } else { self.line("boot").await.map(drop) };
        loop {
            match next {
                Ok(()) => next = self.serve().await,
                Err(next) => return next,
            }
        }
    }

    /// Whether a key stopped autoboot.
    async fn stopped(&mut self) -> bool {
        let Autoboot { message, delay, key } = self.barebox.autoboot.clone();
        if message.is_empty() {
            return true;
        }
        self.print(format!("\n{message} {delay:4}")).await;
        let start = Instant::now();
        for second in 1..=delay {
            let end = start + self.machine.countdown(second);
            let stops = |found| key == Key::Any || matches!(found, b'm' | 0x03);
            if let Some(found) = self.machine.console().key_before(end, stops).await {
                if found == b'm' {
                    self.machine.ledger.violation("menu", "the boot menu is not there, the shell is");
                }
                self.print("\n").await;
                return true;
            }
            self.print(format!("\x08\x08\x08\x08{:4}", delay - second)).await;
        }
        self.print("\n").await;
        false
    }

    /// `NAME=VALUE`, and `setenv`.
    async fn assign(&mut self, name: &str, value: &str) -> bool {
        let slot = match name.strip_prefix("global.") {
            Some(global) => self.globals.get_mut(global),
            None if name == "eth0.serverip" => self.globals.get_mut("net.server"),
            None if name.contains('.') => None,
            None => Some(self.locals.entry(name.to_owned()).or_default()),
        };
        match slot {
            Some(slot) => {
                value.clone_into(slot);
                true
            }
            None => {
                // A parameter exists before it has a value: `global NAME=VALUE` makes one.
                self.machine.ledger.violation("no-such-variable", name);
                self.print(format!("Cannot set parameter {name}: {}\n", Errno::NoDevice)).await;
                false
            }
        }
    }

    async fn echo(&mut self, args: &[&str]) -> Flow<bool> {
        let (end, args) = args.strip_prefix(&["-n"]).map_or(("\n", args), |args| ("", args));
        self.print(args.join(" ") + end).await;
        Ok(true)
    }

    async fn version(&mut self) -> Flow<bool> {
        self.print(format!("\n{}\n\n", self.barebox.banner)).await;
        Ok(true)
    }

    fn help(&mut self) -> Work<'_, bool> {
        let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
        let text = format!("  {}\n\nUse 'help COMMAND' for more details.\n\n", names.join(", "));
        Box::pin(async move {
            self.print(text).await;
            Ok(true)
        })
    }

    async fn setenv(&mut self, args: &[&str]) -> Flow<bool> {
        match args {
            [name, rest @ ..] => {
                let name = name.trim_end_matches('=');
                Ok(self.assign(name, rest.first().copied().unwrap_or_default()).await)
            }
            [] => self.usage("setenv - set environment variable", "setenv").await,
        }
    }

    async fn ifup(&mut self) -> Flow<bool> {
        self.dhcp().await;
        Ok(true)
    }

    async fn ping(&mut self, args: &[&str]) -> Flow<bool> {
        self.dhcp().await;
        self.print(format!("host {} is alive\n", args.first().unwrap_or(&""))).await;
        Ok(true)
    }

    async fn mount(&mut self, args: &[&str]) -> Flow<bool> {
        if args.last() == Some(&TFTP.trim_end_matches('/')) {
            self.dhcp().await;
            return Ok(true);
        }
        self.print("none on / type ramfs\nnone on /dev type devfs\n").await;
        Ok(args.is_empty())
    }

    async fn cp(&mut self, args: &[&str]) -> Flow<bool> {
        match args {
            [from, to] => self.copy(from, to).await,
            _ => self.usage("cp - copy files", format!("cp {}", args.join(" ")).trim_end()).await,
        }
    }

    async fn tftp(&mut self, args: &[&str]) -> Flow<bool> {
        match args {
            [source, rest @ ..] => {
                let name = source.rsplit('/').next().unwrap_or_default();
                let to = rest.first().copied().unwrap_or(name);
                self.copy(&format!("{TFTP}{source}"), to).await
            }
            [] => self.usage("tftp - load (or save) a file using TFTP", "tftp").await,
        }
    }

    async fn usage(&mut self, about: &str, line: &str) -> Flow<bool> {
        self.machine.ledger.violation("bad-usage", line);
        self.print(format!("\n{about}\n\n")).await;
        Ok(false)
    }

    async fn global(&mut self, args: &[&str]) -> Flow<bool> {
        match args {
            [] => {
                let mut list = String::new();
                for (name, value) in &self.globals {
                    let _ = writeln!(list, "  {name}: {value}");
                }
                self.print(list).await;
            }
            ["-r", names @ ..] => {
                for name in names {
                    self.globals.remove(*name);
                }
            }
            _ => {
                for arg in args {
                    match arg.split_once('=') {
                        Some((name, value)) => {
                            self.globals.insert(name.to_owned(), value.to_owned());
                        }
                        None => {
                            self.globals.entry((*arg).to_owned()).or_default();
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    async fn printenv(&mut self, args: &[&str]) -> Flow<bool> {
        let Some(name) = args.first() else {
            let mut list = String::from("locals:\n");
            for (name, value) in &self.locals {
                let _ = writeln!(list, "{name}={value}");
            }
            self.print(list + "globals:\nPATH=/env/bin\n").await;
            return Ok(true);
        };
        match self.variable(name) {
            Some(value) => self.print(format!("{name}={value}\n")).await,
            None => {
                self.print(format!("## Error: \"{name}\" not defined\n")).await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn test(&mut self, args: &[&str]) -> Flow<bool> {
        Ok(match args.strip_suffix(&["]"]).unwrap_or(args) {
            ["-n", text] => !text.is_empty(),
            ["-z", text] => text.is_empty(),
            ["-f" | "-e", path] => self.open(path, "").await.is_ok(),
            [left, "=" | "==" | "-eq", right] => left == right,
            [left, "!=" | "-ne", right] => left != right,
            _ => false,
        })
    }

    async fn ls(&mut self, args: &[&str]) -> Flow<bool> {
        let mut ok = true;
        for path in args.iter().filter(|arg| !arg.starts_with('-')) {
            // TFTP lists no directories: whatever may be one is empty.
            if path.ends_with('/') || TFTP.starts_with(&format!("{path}/")) {
                continue;
            }
            match self.open(path, "").await {
                Ok(_) => self.print(format!("{path}\n")).await,
                Err(errno) => {
                    ok = false;
                    self.print(format!("ls: {path}: {errno}\n")).await;
                }
            }
        }
        if args.is_empty() {
            self.print("dev   env   mnt   tmp\n").await;
        }
        Ok(ok)
    }

    async fn copy(&mut self, from: &str, to: &str) -> Flow<bool> {
        match self.open(from, to).await {
            Ok(bytes) => {
                let name = from.rsplit('/').next().unwrap_or_default();
                let to = if to.ends_with('/') { format!("{to}{name}") } else { to.to_owned() };
                self.files.insert(absolute(&to), bytes);
                Ok(true)
            }
            Err(errno) => {
                self.print(format!("could not open {from}: {errno}\n")).await;
                Ok(false)
            }
        }
    }

    /// `ifup -a`: an interface that is up stays as it is.
    async fn dhcp(&mut self) {
        if self.machine.net.address.is_some() {
            return;
        }
        let Some(lease) = self.machine.net.dhcp().await else {
            // net/dhcp.c; ifup goes on with the next interface.
            return self.print("T T T T T dhcp failed: Connection timed out\n").await;
        };
        let server = self.globals.entry("net.server".into()).or_default();
        if server.is_empty() {
            *server = lease.server.to_string();
        }
        self.print(format!("eth0: DHCP client bound to address {}\n", lease.address)).await;
    }

    /// Reads a file; `load` is what for, for the ledger.
    async fn open(&mut self, path: &str, load: &str) -> Result<Vec<u8>, Errno> {
        let Some(name) = path.strip_prefix(TFTP) else {
            return self.files.get(&absolute(path)).cloned().ok_or(Errno::NoEntry);
        };
        self.dhcp().await;
        if self.machine.net.address.is_none() {
            return Err(Errno::TimedOut);
        }
        let server = self.globals.get("net.server").cloned().unwrap_or_default();
        let fetched = self.machine.net.tftp(&server, name, load).await;
        if let Err(FetchError::Timeout(_)) = &fetched {
            self.print("T T T T T ").await;
        }
        fetched.map_err(|error| Errno::of(&error))
    }

    async fn boot(&mut self, args: &[&str]) -> Flow<bool> {
        let default = self.globals.get("boot.default").cloned().unwrap_or_default();
        let mut names: Vec<&str> = args.iter().copied().filter(|arg| !arg.starts_with('-')).collect();
        if names.is_empty() {
            names = default.split_whitespace().collect();
        }
        for name in names {
            if name != "net" {
                self.print(format!("Nothing bootable found on '{name}'\n")).await;
                continue;
            }
            self.print("Booting entry 'net'\n").await;
            self.dhcp().await;
            let variable = |name: &str| self.globals.get(name).cloned().unwrap_or_default();
            let (user, host, server) = (variable("user"), variable("hostname"), variable("net.server"));
            let image = format!("{TFTP}{user}-linux-{host}");
            let root = format!("root=/dev/nfs nfsroot={server}:/home/{user}/nfsroot/{host},v3,tcp");
            for (name, value) in [
                ("bootm.image", image),
                ("linux.bootargs.dyn.ip", "ip=dhcp".into()),
                ("linux.bootargs.dyn.root", root),
            ] {
                self.globals.insert(name.into(), value);
            }
            let bootm = self.defaults();
            if self.bootm_boot(&bootm).await?.is_err() {
                self.error("Booting entry 'net' failed").await;
            }
        }
        self.print("Nothing bootable found\n").await;
        Ok(false)
    }

    /// What `bootm` takes where its arguments say nothing.
    fn defaults(&self) -> Bootm {
        let variable = |name: &str| self.globals.get(name).filter(|value| !value.is_empty()).cloned();
        Bootm {
            image: variable("bootm.image"),
            initrd: variable("bootm.initrd"),
            oftree: variable("bootm.oftree"),
            ..Bootm::default()
        }
    }

    async fn bootm(&mut self, args: &[&str]) -> Flow<bool> {
        let mut bootm = self.defaults();
        let mut rest = Vec::new();
        let mut args_left = args.iter();
        while let Some(arg) = args_left.next() {
            let Some(mut flags) = arg.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
                // Options may follow the image: barebox's getopt puts the others last.
                rest.push(*arg);
                continue;
            };
            while let Some(flag) = flags.chars().next() {
                flags = &flags[flag.len_utf8()..];
                match flag {
                    'v' => bootm.verbose += 1,
                    'd' => bootm.dry_run = true,
                    'f' => bootm.force = true,
                    'c' | 's' => {}
                    'a' | 'e' | 'L' | 'o' | 'r' | 't' => {
                        let value = if flags.is_empty() { args_left.next().copied() } else { Some(flags) };
                        flags = "";
                        let Some(value) = value else {
                            self.print(format!("bootm: option requires an argument -- {flag}\n")).await;
                            return self.usage("bootm - boot an application image", &args.join(" ")).await;
                        };
                        match flag {
                            'a' => bootm.address = number(value),
                            'L' => bootm.initrd_address = number(value),
                            'o' => bootm.oftree = Some(value.to_owned()),
                            'r' => bootm.initrd = Some(value.to_owned()),
                            _ => {}
                        }
                    }
                    _ => {
                        self.print(format!("bootm: invalid option -- {flag}\n")).await;
                        return self.usage("bootm - boot an application image", &args.join(" ")).await;
                    }
                }
            }
        }
        if let Some(image) = rest.first() {
            bootm.image = Some((*image).to_owned());
        }
        if bootm.image.is_none() {
            self.print("no boot image given\n").await;
            return Ok(false);
        }
        match self.bootm_boot(&bootm).await? {
            Ok(()) => Ok(true),
            Err(errno) => {
                self.print(format!("handler failed with: {errno}\n")).await;
                Ok(false)
            }
        }
    }

    async fn bootm_boot(&mut self, bootm: &Bootm) -> Flow<Result<(), Errno>> {
        self.regions.clear();
        Ok(match self.load(bootm).await {
            Ok(Some(_)) if bootm.dry_run => {
                self.print("Dryrun. Aborted\n").await;
                Ok(())
            }
            Ok(Some(image)) => return Err(Next::Boot(image)),
            Ok(None) => Ok(()),
            Err(errno) => Err(errno),
        })
    }

    /// Loads all that `bootm` was asked for, up to the message that the kernel starts.
    async fn load(&mut self, bootm: &Bootm) -> Result<Option<BootImage>, Errno> {
        let name = bootm.image.clone().unwrap_or_default();
        let (mut path, part) = match name.split_once('@') {
            Some((path, part)) => (path.to_owned(), Some(part.to_owned())),
            None => (name, None),
        };
        let mut image = match self.open(&path, "kernel").await {
            Ok(image) => image,
            Err(errno) => {
                self.error(format!("could not open {path}: {errno}")).await;
                return Err(errno);
            }
        };
        loop {
            if (image.len() as u64) < PAGE {
                // Real barebox says nothing, too.
                self.machine.ledger.violation("image-too-small", &path);
                return Ok(None);
            }
            let kind = FileType::of(&image);
            if kind == FileType::Unknown && !bootm.force {
                self.error("Unknown OS filetype (try -f)").await;
                return Err(Errno::Invalid);
            }
            let mut found = BootImage::default();
            match kind {
                FileType::Uimage => found.kernel = self.open_uimage(&image).await?,
                FileType::Oftree => found = self.open_fit(&image, part.as_deref()).await?,
                _ => {}
            }
            self.print(format!("\nLoading {} '{path}'\n", kind.name())).await;
            let handler = match (kind, self.barebox.arch) {
                (FileType::Kernel(kernel::Format::ArmZImage), Arch::Arm) => "ARM zImage",
                (FileType::Kernel(kernel::Format::Arm64Image), Arch::Arm64) => "ARM aarch64 Linux image",
                (FileType::Kernel(kernel::Format::RiscvImage), Arch::Riscv) => "RISC-V Linux image",
                (FileType::Uimage, Arch::Arm) => "ARM Linux uImage",
                (FileType::Oftree, _) => "FIT image",
                (FileType::Compressed(name), _) => name,
                _ => {
                    self.error(format!("no image handler found for image type {}", kind.name())).await;
                    return Err(Errno::NoDevice);
                }
            };
            if bootm.verbose > 0 {
                self.print(format!("OS image not yet relocated\nPassing control to {handler} handler\n"))
                    .await;
            }
            if let FileType::Compressed(_) = kind {
                image = match compress::decompress(&image, KERNEL_LIMIT) {
                    Ok(plain) => plain.into_owned(),
                    Err(error) => {
                        self.error(format!("Failed to decompress: {error}")).await;
                        return Err(Errno::Invalid);
                    }
                };
                path = "/tmp/bootm-compressed-00000000".into();
                continue;
            }
            if let FileType::Kernel(_) = kind {
                found.kernel = image;
            }
            return match self.barebox.arch {
                Arch::Arm => self.load_arm(bootm, found).await,
                Arch::Arm64 | Arch::Riscv | Arch::X86 => self.load_image(bootm, found).await,
            }
            .map(Some);
        }
    }

    async fn open_uimage(&mut self, image: &[u8]) -> Result<Vec<u8>, Errno> {
        match uimage::parse(image) {
            Ok(image) => {
                let Ok(parts) = image.parts() else { return Err(Errno::Invalid) };
                Ok(parts.first().map(|part| part.to_vec()).unwrap_or_default())
            }
            Err(error) => {
                self.error(format!("Checking data crc failed with {}", Errno::Invalid)).await;
                self.error(format!("Loading u-boot image failed with: {}", Errno::Invalid)).await;
                self.machine.ledger.violation("bad-image", error.to_string());
                Err(Errno::Invalid)
            }
        }
    }

    async fn open_fit(&mut self, image: &[u8], configuration: Option<&str>) -> Result<BootImage, Errno> {
        let opened = fit::parse(image).and_then(|fit| {
            let boot = fit.boot(configuration)?;
            for image in [Some(boot.kernel), boot.fdt, boot.ramdisk].into_iter().flatten() {
                image.verify()?;
            }
            let data = |image: Option<&fit::Image>| image.map(|image| image.data.clone());
            let ramdisk = data(boot.ramdisk);
            let dtb = data(boot.fdt);
            let name = boot.configuration.name.clone();
            let image = BootImage { kernel: boot.kernel.data.clone(), ramdisk, dtb, ..BootImage::default() };
            Ok((fit.description.clone(), name, image))
        });
        match opened {
            Ok((description, name, image)) => {
                self.print(format!("Opened FIT image: {description}\nOpening configuration {name}\n")).await;
                Ok(image)
            }
            Err(error) => {
                self.error(error.to_string()).await;
                self.error(format!("Loading dtb image failed with: {}", Errno::Invalid)).await;
                Err(Errno::Invalid)
            }
        }
    }

    /// Takes RAM; not twice.
    fn request(&mut self, start: u64, size: u64) -> bool {
        let Some(end) = start.checked_add(size) else { return false };
        let free = start >= self.machine.board.memory.base
            && end <= self.machine.memory.end()
            && !self.regions.iter().any(|taken| taken.start < end && start < taken.end);
        if free {
            self.regions.push(start..end);
        }
        free
    }

    /// `arch/arm/lib32/bootm.c`
    async fn load_arm(&mut self, bootm: &Bootm, mut image: BootImage) -> Result<BootImage, Errno> {
        const MIB: u64 = 1 << 20;
        let mut tail = Vec::new();
        if FileType::of(&image.kernel) == FileType::Kernel(kernel::Format::ArmZImage) {
            match kernel::Format::ArmZImage.check(&image.kernel) {
                Ok(header) => {
                    let size = usize::try_from(header.image_size).unwrap_or(usize::MAX);
                    tail = image.kernel.split_off(size.min(image.kernel.len()));
                }
                Err(_) => {
                    self.print("premature end of image\n").await;
                    return Err(Errno::Remote);
                }
            }
        }
        let size = image.kernel.len() as u64;
        let (base, end) = (self.machine.board.memory.base, self.machine.memory.end());
        let ram = end - base;
        // Room to unpack itself, outside of the lowest 32 MiB if there is so much RAM.
        let mut unpacked = (size * 5).next_multiple_of(PAGE);
        if ram >= 64 * MIB {
            unpacked = unpacked.max(32 * MIB);
        }
        let mut spacing = MIB;
        let address = match bootm.address {
            None => {
                let mut address = base.saturating_add(unpacked);
                if address.saturating_add(size + spacing) > end {
                    let last = end.checked_sub(size + spacing).filter(|last| *last >= base);
                    address = last.unwrap_or(address);
                }
                address -= address % PAGE;
                if bootm.verbose > 0 {
                    self.print(format!("no OS load address, defaulting to {address:#010x}\n")).await;
                }
                address
            }
            Some(address) => {
                if address <= base.saturating_add(unpacked) {
                    spacing += unpacked;
                }
                address
            }
        };
        let mut free =
            address.saturating_add(size + spacing).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        if ram > 256 * MIB {
            free = free.max(base.saturating_add(128 * MIB));
        }
        if !self.request(address, size) {
            let last = address.saturating_add(size);
            self.error(format!(
                "bootm/zImage: failed to request memory at {address:#x} to {last:#x} ({size})."
            ))
            .await;
            self.machine.ledger.violation("load-outside-of-ram", format!("kernel at {address:#x}"));
            return Err(Errno::NoMemory);
        }
        if fdt::is_fdt(&tail) {
            self.print("zImage: concatenated oftree detected\n").await;
            image.dtb = Some(tail);
        }
        let initrd = bootm.initrd_address.unwrap_or(free);
        if bootm.initrd_address.is_none() && bootm.verbose > 0 {
            self.print(format!("no initrd load address, defaulting to {initrd:#010x}\n")).await;
        }
        if let Some(end) = self.load_initrd(bootm, &mut image, initrd, 8).await? {
            free = end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        }
        self.load_oftree(bootm, &mut image, free).await?;
        if bootm.verbose > 0 {
            let mut text = format!("\nStarting kernel at {address:#010x}");
            if image.ramdisk.is_some() {
                let _ = write!(text, ", initrd at {initrd:#010x}");
            }
            let _ = writeln!(text, ", oftree at {free:#x}...");
            self.print(text).await;
        }
        if self.barebox.secure_monitor {
            self.print("Starting kernel in secure mode\n").await;
        }
        Ok(image)
    }

    /// `common/booti.c`
    async fn load_image(&mut self, bootm: &Bootm, mut image: BootImage) -> Result<BootImage, Errno> {
        const ALIGNMENT: u64 = 2 << 20;
        // The kernel in a FIT may be compressed: then its own size is not known here.
        let header = kernel::recognise(&image.kernel).ok();
        let (offset, size) = header.map_or((0, 0), |header| (header.load_offset, header.image_size));
        let size = size.max(image.kernel.len() as u64);
        let start = bootm.address.unwrap_or(self.machine.board.memory.base);
        let address =
            match start.checked_next_multiple_of(ALIGNMENT).and_then(|start| start.checked_add(offset)) {
                Some(address) if self.request(address, size) => address,
                _ => {
                    self.print(format!(
                        "unable to request SDRAM {start:#010x}-{:#010x}\n",
                        start.saturating_add(size)
                    ))
                    .await;
                    self.machine.ledger.violation("load-outside-of-ram", format!("kernel at {start:#x}"));
                    return Err(Errno::NoMemory);
                }
            };
        let mut free = (address + size).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let initrd = bootm.initrd_address.unwrap_or(free);
        if let Some(end) = self.load_initrd(bootm, &mut image, initrd, 16).await? {
            free = end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        }
        self.load_oftree(bootm, &mut image, free).await?;
        self.print(format!("Loaded kernel to {address:#010x}, devicetree at {free:#010x}\n")).await;
        Ok(image)
    }

    /// Loads the initrd, if there is one; where it ends.
    async fn load_initrd(
        &mut self,
        bootm: &Bootm,
        image: &mut BootImage,
        address: u64,
        digits: usize,
    ) -> Result<Option<u64>, Errno> {
        let mut text = String::new();
        if image.ramdisk.is_some() {
            text.push_str("Loaded initrd from FIT image\n");
        } else if let Some(path) = &bootm.initrd {
            let mut bytes = match self.open(path, "initrd").await {
                Ok(bytes) => bytes,
                Err(errno) => {
                    self.error(format!("could not open {path}: {errno}")).await;
                    return Err(errno);
                }
            };
            let kind = FileType::of(&bytes);
            if kind == FileType::Uimage {
                bytes = match self.open_uimage(&bytes).await {
                    Ok(bytes) => bytes,
                    Err(errno) => {
                        self.error(format!("loading initrd failed with {errno}")).await;
                        return Err(errno);
                    }
                };
            }
            text = format!("Loaded initrd {} '{path}'\n", kind.name());
            image.ramdisk = Some(bytes);
        }
        let Some(ramdisk) = &image.ramdisk else { return Ok(None) };
        let size = ramdisk.len() as u64;
        let last = address.saturating_add(size.max(1) - 1);
        if !self.request(address, size) {
            self.print(format!("unable to request SDRAM {address:#010x}-{last:#010x}\n")).await;
            self.machine.ledger.violation("load-outside-of-ram", format!("initrd at {address:#x}"));
            return Err(Errno::NoMemory);
        }
        self.print(format!("{text}initrd is at 0x{address:0digits$x}-0x{last:0digits$x}\n")).await;
        Ok(Some(last.saturating_add(1)))
    }

    /// Loads the device tree, and tells the command line that will be in it.
    async fn load_oftree(&mut self, bootm: &Bootm, image: &mut BootImage, address: u64) -> Result<(), Errno> {
        // What came with the kernel is taken before what was asked for.
        if let Some(path) = bootm.oftree.as_ref().filter(|_| image.dtb.is_none()) {
            let bytes = match self.open(path, "oftree").await {
                Ok(bytes) => bytes,
                Err(errno) => {
                    self.error(format!("could not open {path}: {errno}")).await;
                    return Err(errno);
                }
            };
            let bytes = match FileType::of(&bytes) {
                FileType::Oftree => bytes,
                FileType::Uimage => self.open_uimage(&bytes).await?,
                _ => return Err(Errno::Invalid),
            };
            self.print(format!("Loading devicetree from '{path}'\n")).await;
            if fdt::parse(&bytes).is_err() {
                self.error("unable to unflatten devicetree").await;
                return Err(Errno::Invalid);
            }
            image.dtb = Some(bytes);
        }
        let size = image.dtb.as_ref().map_or(0, |dtb| dtb.len() as u64);
        if !self.request(address, size) {
            self.print(format!("unable to request SDRAM region for device tree at {address:#x}\n")).await;
            return Err(Errno::NoMemory);
        }
        image.cmdline = self.bootargs();
        self.print(format!("commandline: {}\n", image.cmdline)).await;
        Ok(())
    }

    /// `common/bootargs.c`: all `global.linux.bootargs.*`, by name; else `bootargs`.
    fn bootargs(&self) -> String {
        let parts = self.globals.iter().filter(|(name, _)| name.starts_with("linux.bootargs."));
        let parts: Vec<&str> =
            parts.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()).collect();
        if parts.is_empty() {
            self.locals.get("bootargs").cloned().unwrap_or_default()
        } else {
            parts.join(" ")
        }
    }
}

/// Takes barebox's old hush for what [`words::parse`] reads: it also strips single
/// quotes inside of double quotes, and dots belong to the names of variables.
fn hush(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 8);
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
            }
            '"' => {
                quoted = !quoted;
                out.push(c);
            }
            '\'' => {
                if quoted {
                    out.push('"');
                }
                out.push(c);
                for c in chars.by_ref() {
                    out.push(c);
                    if c == '\'' {
                        break;
                    }
                }
                if quoted {
                    out.push('"');
                }
            }
            '$' => {
                let mut name = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || "_.?".contains(*c)) {
                    name.push(c);
                }
                match name.as_str() {
                    "" => out.push('$'),
                    _ => {
                        let _ = write!(out, "${{{name}}}");
                    }
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// The two sides of a word that sets a variable.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = starts && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    is_name.then_some((name, value))
}

/// A path in the RAM file system, whose working directory is always `/`.
fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

/// A number as C writes it.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, tftp_server};
    use super::*;
    use crate::ledger::Event;

    const PROMPT: &str = "barebox@TI AM335x BeagleBone black:/ ";

    fn board(server: &str, more: &str) -> String {
        format!(
            "
model: TI AM335x BeagleBone black
memory: {{base: 0x80000000, mib: 512}}
firmware:
  kind: barebox
  arch: arm
  bootargs: console=ttyO0,115200n8
  global: {{net.server: '{server}'}}
{more}"
        )
    }

    fn zimage() -> Vec<u8> {
        kernel::write(kernel::Format::ArmZImage, "Linux version 6.1.83-ghost", 8192)
    }

    fn ramdisk() -> Vec<u8> {
        compress::gzip(b"a ramdisk").unwrap()
    }

    fn dtb() -> Vec<u8> {
        fdt::Fdt { root: fdt::Node::new(""), reserved: Vec::new(), boot_cpu: 0 }.to_bytes().unwrap()
    }

    async fn server() -> String {
        let arm64 = kernel::write(kernel::Format::Arm64Image, "Linux version 6.1.83-ghost", 8192);
        tftp_server(&[
            ("job/zImage", &zimage()),
            ("job/Image.gz", &compress::gzip(&arm64).unwrap()),
            ("job/Image", &arm64),
            ("job/ramdisk.cpio.gz", &ramdisk()),
            ("job/x.dtb", &dtb()),
            ("job/rubbish", &[7; 8192]),
        ])
        .await
    }

    /// A bench where LAVA has just stopped autoboot: with a blank and a newline.
    async fn interrupted(yaml: &str) -> Bench {
        let mut bench = Bench::start(yaml).await;
        bench.expect("stop autoboot").await;
        bench.send(" ").await;
        bench.send("\n").await;
        bench.expect(PROMPT).await;
        bench
    }

    async fn with_network(more: &str) -> Bench {
        interrupted(&board(&server().await, more)).await
    }

    #[tokio::test]
    async fn linux_starts_with_what_bootm_found_on_the_server() {
        let mut bench = with_network("").await;
        bench.expect(PROMPT).await;
        bench
            .send("bootm -v -r /mnt/tftp/job/ramdisk.cpio.gz -o /mnt/tftp/job/x.dtb /mnt/tftp/job/zImage  \n")
            .await;
        let seen = bench.expect("Starting kernel at 0x82000000").await;
        assert!(seen.contains("DHCP client bound to address 192.168.77."), "{seen}");
        assert!(seen.contains("Loading ARM Linux zImage '/mnt/tftp/job/zImage'"), "{seen}");
        assert!(seen.contains("Loaded initrd GZIP compressed"), "{seen}");
        assert_eq!(bench.violations(), [""; 0]);
        let image = bench.booted().await;
        assert_eq!(image.kernel, zimage());
        assert_eq!(image.ramdisk, Some(ramdisk()));
        assert_eq!(image.dtb, Some(dtb()));
        assert_eq!(image.cmdline, "console=ttyO0,115200n8");
    }

    #[tokio::test]
    async fn what_is_typed_ahead_is_kept_and_quotes_in_quotes_vanish() {
        let mut bench = with_network("").await;
        // LAVA runs one prompt ahead: the newline after the key was an empty line.
        bench
            .send("global linux.bootargs.nfs=\"'root=/dev/nfs rw nfsroot=1.2.3.4:/a,tcp,hard ip=dhcp'\"\n")
            .await;
        bench.send("bootm -v -o /mnt/tftp/job/x.dtb /mnt/tftp/job/zImage\n").await;
        bench.expect("Starting kernel").await;
        let image = bench.booted().await;
        assert_eq!(
            image.cmdline,
            "console=ttyO0,115200n8 root=/dev/nfs rw nfsroot=1.2.3.4:/a,tcp,hard ip=dhcp"
        );
        assert_eq!(image.ramdisk, None);
    }

    #[tokio::test]
    async fn options_may_follow_the_image() {
        let mut bench = with_network("").await;
        bench
            .command(
                "bootm -v /mnt/tftp/job/zImage -a 0x85000000 -L 0x84000000",
                "Starting kernel at 0x85000000",
            )
            .await;
        let mut bench = with_network("").await;
        bench.expect(PROMPT).await;
        let seen = bench.command("bootm /mnt/tftp/job/zImage -a 0x5000000", PROMPT).await;
        assert!(seen.contains("handler failed with: Out of memory"), "{seen}");
        assert_eq!(bench.violations(), ["load-outside-of-ram"]);
    }

    #[tokio::test]
    async fn an_initrd_over_the_kernel_is_refused() {
        let mut bench = with_network("").await;
        bench.expect(PROMPT).await;
        let line = "bootm -a 0x85000000 -L 0x85000800 -r /mnt/tftp/job/ramdisk.cpio.gz /mnt/tftp/job/zImage";
        let seen = bench.command(line, PROMPT).await;
        assert!(seen.contains("unable to request SDRAM 0x85000800"), "{seen}");
        assert!(seen.contains("Out of memory"), "{seen}");
    }

    #[tokio::test]
    async fn files_that_are_missing_or_no_images_are_refused() {
        let mut bench = with_network("  color: true").await;
        bench.expect(PROMPT).await;
        let seen = bench.command("bootm /mnt/tftp/job/nothing", PROMPT).await;
        assert!(
            seen.contains("ERROR:\x1b[0m could not open /mnt/tftp/job/nothing: No such file or directory"),
            "{seen}"
        );
        let seen = bench.command("bootm /mnt/tftp/job/rubbish", PROMPT).await;
        assert!(seen.contains("Unknown OS filetype (try -f)"), "{seen}");
        let seen = bench.command("bootm /mnt/tftp/job/Image", PROMPT).await;
        assert!(seen.contains("no image handler found for image type ARM aarch64 Linux image"), "{seen}");
        let seen = bench.command("bootm -o /mnt/tftp/job/rubbish /mnt/tftp/job/zImage", PROMPT).await;
        assert!(seen.contains("handler failed with: Invalid argument"), "{seen}");
    }

    #[tokio::test]
    async fn an_arm64_image_may_be_compressed() {
        let yaml = board(&server().await, "").replace("arch: arm", "arch: arm64");
        let mut bench = interrupted(&yaml).await;
        bench
            .command("bootm /mnt/tftp/job/Image.gz", "Loaded kernel to 0x80000000, devicetree at 0x80002000")
            .await;
        let image = bench.booted().await;
        assert!(kernel::Format::Arm64Image.check(&image.kernel).is_ok());
    }

    #[tokio::test]
    async fn another_key_than_the_configured_one_does_not_stop_autoboot() {
        let more = "  autoboot: {message: 'Hit ctrl-c to stop autoboot:', delay: 1, key: ctrl-c}";
        let mut bench = Bench::start(&board(&server().await, more)).await;
        bench.expect("stop autoboot").await;
        bench.send(" x").await;
        let seen = bench.expect(PROMPT).await;
        assert!(seen.contains("Booting entry 'net'"), "{seen}");
        assert!(seen.contains("could not open /mnt/tftp/none-linux-ghost"), "{seen}");
        assert!(bench.events().iter().any(|event| matches!(event, Event::FileFailed { .. })));
    }

    #[tokio::test]
    async fn variables_are_set_shown_and_used() {
        let mut bench = with_network("").await;
        bench.expect(PROMPT).await;
        assert_eq!(bench.command("x='a b'; echo \"$x\" ${global.user}", PROMPT).await, "a b none\n");
        assert_eq!(bench.command("global.user=me && echo $global.user $?", PROMPT).await, "me 0\n");
        assert_eq!(bench.command("setenv y 1; printenv y", PROMPT).await, "y=1\n");
        let seen = bench.command("global.nothing=1 || echo no", PROMPT).await;
        assert_eq!(seen, "Cannot set parameter global.nothing: No such device\nno\n");
        assert_eq!(bench.violations(), ["no-such-variable"]);
    }

    #[tokio::test]
    async fn an_unknown_command_is_said_and_noted() {
        let mut bench = with_network("").await;
        bench.expect(PROMPT).await;
        assert_eq!(bench.command("setenvv a b", PROMPT).await, "setenvv: No such file or directory\n");
        assert_eq!(bench.violations(), ["unknown-command"]);
        assert_eq!(bench.command("echo 'x", PROMPT).await, "syntax error\n");
    }

    #[tokio::test]
    async fn a_reset_in_the_middle_forgets_what_was_set_and_typed() {
        let mut bench = with_network("").await;
        bench.expect(PROMPT).await;
        bench.command("dhcp; x=1; global y=1", PROMPT).await;
        bench.send("bootm -v /mnt").await;
        bench.expect("bootm -v /mnt").await;
        bench.reset().await;
        bench.expect("stop autoboot").await;
        bench.send(" ").await;
        bench.expect(PROMPT).await;
        assert_eq!(bench.command("echo $x $global.y $eth0.ipaddr", PROMPT).await, "0.0.0.0\n");
    }

    #[tokio::test]
    async fn reset_ends_it_and_typing_is_interrupted() {
        let mut bench = with_network("").await;
        bench.expect(PROMPT).await;
        bench.send("bootm \x03").await;
        bench.expect("<INTERRUPT>").await;
        bench.send("reset\n").await;
        assert!(matches!(bench.next().await, Next::Reset));
    }

    #[test]
    fn single_quotes_inside_of_double_ones_are_stripped() {
        let words = |line: &str| {
            let statements = words::parse(&hush(line)).unwrap();
            statements[0].expand(|name| Some(format!("<{name}>")))
        };
        assert_eq!(words("a=\"'b c'\""), ["a=b c"]);
        assert_eq!(words("echo \"x 'y \"z\" $a' $b.c\""), ["echo", "x y \"z\" $a <b.c>"]);
        assert_eq!(words("echo 'a \"b\" $c'"), ["echo", "a \"b\" $c"]);
    }
}
