//! U-Boot: environment, network, and the four ways to boot Linux.
//!
//! Behaviour and messages follow U-Boot's `cmd/` and `boot/` (`cmd/net.c`,
//! `net/tftp.c`, `boot/bootm.c`, `arch/*/lib/bootm.c`, `cmd/booti.c`,
//! `cmd/bootz.c`, `boot/image-fdt.c`), as far as LAVA can tell the difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use async_trait::async_trait;
use meta_lava_formats::{compress, fdt, fit, kernel, uimage};
use serde::Deserialize;
use tokio::time::Instant;

use super::arch::Arch;
use super::shell::words::{SyntaxError, hex};
use super::shell::{Command, Shell, Work, done, find_abbreviated};
use super::{BootImage, Firmware, FirmwareKind, Flow, Next, flash, imx, waits_for_ever};
use crate::board::BoardError;
use crate::console::Input;
use crate::machine::Machine;
use crate::net::FetchError;
use crate::net::tftp::error_code;
use crate::peripheral::{Answer, Call, Data, Gadget, Mode};

mod cpld;
mod device_tree;
mod fastboot;
mod mmc;
mod ums;
mod usb;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "u-boot",
    about: "U-Boot: setenv, dhcp, tftp, bootm, bootz, booti, FIT",
    load: |name, text| {
        let (board, uboot) = crate::board::parse::<Uboot>(name, text)?;
        if uboot.boot.is_empty() {
            return Err(BoardError::Firmware("boot: a U-Boot without a boot command boots nothing".into()));
        }
        if let Some(device) = uboot.rom.map(imx::Rom::device).filter(|it| !uboot.mmc.contains_key(it)) {
            return Err(BoardError::Firmware(format!("rom: there is no device {device} in `mmc`")));
        }
        Ok((board, Box::new(uboot)))
    },
};

/// A boot command of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootCommand {
    /// Legacy and FIT images.
    Bootm,
    /// 32-bit Arm zImage.
    Bootz,
    /// arm64 and RISC-V Image.
    Booti,
}

/// Settings of a U-Boot, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uboot {
    #[serde(rename = "kind")]
    _kind: String,
    /// First line, `U-Boot 2023.01 (Jan 09 2023 - 16:07:33 +0000)`.
    banner: String,
    /// Lines between the banner and autoboot (`DRAM:  512 MiB`, ...).
    #[serde(default)]
    lines: Vec<String>,
    /// Prompt, with its blank.
    #[serde(default = "default_prompt")]
    prompt: String,
    /// How autoboot is stopped.
    #[serde(default)]
    autoboot: Autoboot,
    arch: Arch,
    /// Boot commands that are built in.
    boot: Vec<BootCommand>,
    /// Name of the network device (`ethernet@4a100000`).
    #[serde(default = "default_ethernet")]
    ethernet: String,
    /// Whether `usb start` must come before the network is there.
    #[serde(default)]
    usb_ethernet: bool,
    /// Whether it knows disks on USB; see [`usb`].
    #[serde(default)]
    usb_storage: bool,
    /// Variables that are set at power-on, besides those that every build has.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Partitions of its NAND flash, and how many KiB each has.
    #[serde(default)]
    nand: BTreeMap<String, u64>,
    /// Its SD cards and eMMCs, by number.
    #[serde(default)]
    mmc: BTreeMap<u32, mmc::Mmc>,
    /// The CPLD that chooses the flash bank which it is started from; see [`cpld`].
    cpld: Option<cpld::Cpld>,
    /// The boot ROM of an i.MX, which starts it from one of these or takes it by USB.
    rom: Option<imx::Rom>,
    /// Folder of the storage; see [`flash`].
    #[serde(default = "flash::folder")]
    flash: PathBuf,
    /// Folder in which its disks appear on the worker; see [`ums`].
    #[serde(default = "disks")]
    disks: PathBuf,
}

fn disks() -> PathBuf {
    crate::peripheral::DISKS.into()
}

fn default_prompt() -> String {
    "=> ".into()
}

fn default_ethernet() -> String {
    "ethernet@0".into()
}

/// How autoboot announces itself and what stops it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Autoboot {
    /// Text before the countdown; empty for a build that goes to the prompt at once.
    message: String,
    /// Seconds on the countdown.
    delay: u32,
    /// The key that stops it; without it, any key does.
    key: Option<char>,
}

impl Default for Autoboot {
    fn default() -> Self {
        Self { message: "Hit any key to stop autoboot:".into(), delay: 2, key: None }
    }
}

#[async_trait]
impl Firmware for Uboot {
    /// A boot ROM that finds no boot loader says nothing.
    fn needs_a_listener(&self, board: &str) -> bool {
        self.on_card(board).is_none_or(|found| found.is_some())
    }

    async fn run(&self, machine: &mut Machine) -> Next {
        if let Some(cpld) = &self.cpld {
            return match cpld.banner(machine, &self.banner) {
                Some(banner) => self.start(machine, banner, Came::FromCard).await,
                // What an empty flash has in it is no program.
                None => Next::Hang,
            };
        }
        let (board, uboot) = (machine.board.name.clone(), self.clone());
        let found = flash::beside(move || Ok(uboot.on_card(&board))).await.ok().flatten();
        match found {
            None => self.start(machine, self.banner.clone(), Came::FromCard).await,
            Some(Some(banner)) => self.start(machine, banner, Came::FromCard).await,
            Some(None) => self.recover(machine).await,
        }
    }

    async fn recover(&self, machine: &mut Machine) -> Next {
        if self.rom.is_none() {
            return waits_for_ever(machine).await;
        }
        let banner = imx::Rom::download(machine).await;
        self.start(machine, banner, Came::ByUsb).await
    }
}

/// How a boot loader came to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    FromCard,
    ByUsb,
}

impl Uboot {
    /// The first line of the boot loader that the boot ROM finds on its card, if it finds one; nothing
    /// for a board whose boot ROM is not played.
    fn on_card(&self, board: &str) -> Option<Option<String>> {
        let device = self.rom?.device();
        let card = mmc::Cards::of(self, board).read(device);
        Some(card.ok().and_then(|card| imx::Rom::finds(&card)))
    }

    /// Runs from its first line on, which is `banner`.
    async fn start(&self, machine: &mut Machine, banner: String, came: Came) -> Next {
        let mut env: BTreeMap<String, String> = [
            ("arch", format!("{:?}", self.arch).to_lowercase()),
            ("baudrate", "115200".into()),
            ("bootcmd", "echo No boot device; reset".into()),
            ("bootdelay", self.autoboot.delay.to_string()),
            ("ethact", self.ethernet.clone()),
            ("loadaddr", format!("0x{:x}", machine.board.memory.base.wrapping_add(0x0200_0000))),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        env.extend(self.env.clone());
        let ethernet = !self.usb_ethernet;
        if came == Came::ByUsb {
            // NXP's `common/autoboot.c` and `board_late_init` of its boards.
            env.insert("bootcmd".into(), "echo Run fastboot ...; fastboot 0".into());
            env.insert("bootdelay".into(), "0".into());
        }
        let usb = usb::Usb::default();
        let mut shell = UbootShell {
            uboot: self,
            machine,
            env,
            banner,
            came,
            ethernet,
            usb,
            mmc: 0,
            working_tree: None,
            depth: 0,
        };
        shell.run().await
    }
}

type Run = for<'s, 'm> fn(&'s mut UbootShell<'m>, &'s str, &'s [&'s str]) -> Work<'s, bool>;

/// A unique beginning of a name is enough, as in U-Boot (`cmd_tbl`).
const COMMANDS: &[Command<Run>] = &[
    ("bootd", |shell, _, _| Box::pin(shell.run_variables(&["bootcmd"]))),
    ("booti", |shell, _, args| Box::pin(shell.booti(args))),
    ("bootm", |shell, _, args| Box::pin(shell.bootm(args))),
    ("bootz", |shell, _, args| Box::pin(shell.bootz(args))),
    ("cpld", |shell, _, args| Box::pin(shell.cpld(args))),
    ("dfu", |shell, _, args| Box::pin(shell.dfu(args))),
    ("dhcp", |shell, _, args| Box::pin(shell.dhcp(args))),
    ("echo", |shell, _, args| Box::pin(shell.say(args.join(" ")))),
    ("env", |shell, name, args| Box::pin(shell.env(name, args))),
    ("false", |_, _, _| done(false)),
    ("fastboot", |shell, _, args| Box::pin(shell.fastboot(args))),
    ("fdt", |shell, _, args| Box::pin(shell.fdt(args))),
    ("part", |shell, _, args| Box::pin(shell.part(args))),
    ("mmc", |shell, _, args| Box::pin(shell.mmc(args))),
    ("nand", |shell, _, args| Box::pin(shell.nand(args))),
    ("pci", |_, _, _| done(true)),
    ("ping", |shell, _, args| Box::pin(shell.ping(args))),
    ("printenv", |shell, _, args| Box::pin(shell.printenv(args))),
    ("reset", |shell, _, _| Box::pin(shell.reset())),
    ("run", |shell, _, args| Box::pin(shell.run_variables(args))),
    ("setenv", |shell, _, args| Box::pin(shell.setenv(args))),
    ("sleep", |_, _, _| done(true)),
    ("test", |_, _, args| done(test(args))),
    ("tftpboot", |shell, _, args| Box::pin(shell.tftp(args))),
    ("true", |_, _, _| done(true)),
    ("ums", |shell, _, args| Box::pin(shell.ums(args))),
    ("usb", |shell, _, args| Box::pin(shell.usb(args))),
    ("version", |shell, _, _| Box::pin(shell.say(shell.banner.clone()))),
];

/// How deep `run` may nest.
const DEPTH: u32 = 32;

/// A U-Boot between reset and boot.
struct UbootShell<'m> {
    uboot: &'m Uboot,
    machine: &'m mut Machine,
    env: BTreeMap<String, String>,
    /// Its first line.
    banner: String,
    came: Came,
    /// Whether there is a network device.
    ethernet: bool,
    usb: usb::Usb,
    /// The current MMC device.
    mmc: u32,
    /// Where the device tree lies that `fdt` works on.
    working_tree: Option<u64>,
    depth: u32,
}

#[async_trait]
impl Shell for UbootShell<'_> {
    fn machine(&mut self) -> &mut Machine {
        self.machine
    }

    fn prompt(&self) -> String {
        self.uboot.prompt.clone()
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    async fn syntax_error(&mut self, error: SyntaxError) {
        self.print(format!("syntax error: {error}\n")).await;
    }

    async fn command(&mut self, words: &[&str]) -> Flow<bool> {
        let Some((&name, args)) = words.split_first() else { return Ok(true) };
        let boot = &self.uboot.boot;
        let built_in = |command: &str| match command {
            "cpld" => self.uboot.cpld.is_some(),
            "bootm" => boot.contains(&BootCommand::Bootm),
            "bootz" => boot.contains(&BootCommand::Bootz),
            "booti" => boot.contains(&BootCommand::Booti),
            _ => true,
        };
        match find_abbreviated(COMMANDS, name, built_in) {
            Some((_, run)) => run(self, name, args).await,
            None => {
                self.machine.ledger.violation("unknown-command", words.join(" "));
                self.print(format!("Unknown command '{name}' - try 'help'\n")).await;
                Ok(false)
            }
        }
    }
}

impl UbootShell<'_> {
    async fn run(&mut self) -> Next {
        let mut hello = format!("\n\n{}\n\n", self.banner);
        let _ = writeln!(hello, "Model: {}", self.machine.board.model);
        if let Some(cpld) = &self.uboot.cpld {
            hello.push_str(&cpld.says(self.machine));
        }
        for line in &self.uboot.lines {
            hello.push_str(line);
            hello.push('\n');
        }
        if self.came == Came::ByUsb {
            hello.push_str(
                "Detect USB boot. Will enter fastboot mode!\nFastboot: Normal\nBoot from USB for mfgtools\n",
            );
        }
        self.print(&hello).await;
        let mut next = if self.stopped().await { Ok(()) } else { self.line("run bootcmd").await.map(drop) };
        loop {
            match next {
                Ok(()) => next = self.serve().await,
                Err(next) => return next,
            }
        }
    }

    /// Whether a key stopped autoboot.
    async fn stopped(&mut self) -> bool {
        let Autoboot { message, mut delay, key } = self.uboot.autoboot.clone();
        if message.is_empty() {
            return true;
        }
        if self.came == Came::ByUsb {
            delay = 0;
        }
        self.print(format!("{message} {delay:2} ")).await;
        let end = Instant::now() + self.machine.countdown(delay);
        let stops = |found: u8| key.is_none_or(|key| key == char::from(found));
        let stopped = self.machine.console().key_before(end, stops).await.is_some();
        self.print("\x08\x08\x08 0 \n").await;
        stopped
    }

    async fn say(&mut self, text: String) -> Flow<bool> {
        self.print(text + "\n").await;
        Ok(true)
    }

    async fn reset(&mut self) -> Flow<bool> {
        self.print("resetting ...\n").await;
        Err(Next::Reset)
    }

    /// `dfu <USB_controller> [<interface> <dev>] [list]`, which serves what `dfu_alt_info` names until
    /// `^C` (`cmd/dfu.c`, `drivers/dfu/dfu.c`, `common/dfu.c`).
    async fn dfu(&mut self, args: &[&str]) -> Flow<bool> {
        let ([_, "nand", _] | [_]) = args else {
            return self.usage("dfu", format!("dfu {}", args.join(" ")).trim_end().to_owned()).await;
        };
        // `NAME raw OFFSET SIZE`, `NAME part DEVICE PARTITION`, ..., with a `;` between two.
        let Some(info) = self.env.get("dfu_alt_info") else {
            self.machine.ledger.violation("no-dfu-entities", "`dfu` without `dfu_alt_info`");
            self.print("\"dfu_alt_info\" env variable not defined!\nDFU entities configuration failed!\n")
                .await;
            return Ok(false);
        };
        let names = info.split([';', '&']).filter_map(|entity| entity.split_whitespace().next());
        let names: Vec<String> = names.map(str::to_owned).collect();
        let mut gadget = self.machine.bus.enter(Mode::Dfu);
        loop {
            let Some(call) = self.next_call(&mut gadget).await else { return Ok(true) };
            match call.command.split_once(' ').unwrap_or((&call.command, "")) {
                ("alternates", "") => {
                    let info = names.clone();
                    call.answer(Answer { info, result: Ok(String::new()) });
                }
                ("download", name) => {
                    let stored = match call.data.as_ref().filter(|_| names.iter().any(|found| found == name))
                    {
                        Some(data) => self.store(name, data).await,
                        None => Err("errSTALLEDPKT"),
                    };
                    match stored {
                        Ok(()) => {
                            self.print("##DOWNLOAD ... OK\nCtrl+C to exit ...\n").await;
                            call.answer(Answer::okay(""));
                        }
                        Err(why) => call.answer(Answer::fail(why)),
                    }
                }
                // What a reset on USB does to a build is its own: here it ends.
                ("detach", "") => {
                    drop(gadget);
                    call.answer(Answer::okay(""));
                    return Ok(true);
                }
                _ => call.answer(Answer::fail("errSTALLEDPKT")),
            }
        }
    }

    /// The next request to a gadget; none once `^C` was typed, and what else is typed is read and lost.
    async fn next_call(&mut self, gadget: &mut Gadget) -> Option<Call> {
        tokio::select! {
            () = self.interrupted() => None,
            call = gadget.next() => Some(call),
        }
    }

    /// Returns once `^C` was typed; what else is typed is read and lost.
    async fn interrupted(&mut self) {
        while !matches!(self.machine.console().read_line("").await, Input::Interrupt) {}
    }

    /// Writes what came into a partition of the NAND flash.
    async fn store(&self, name: &str, data: &Data) -> Result<(), &'static str> {
        let ledger = &self.machine.ledger;
        ledger.take(data.arrived(name));
        let Some(kib) = self.uboot.nand.get(name) else {
            ledger.violation("not-flash", format!("no partition {name}"));
            return Err("errADDRESS");
        };
        if data.bytes.len() as u64 > kib * 1024 {
            ledger.violation("not-flash", format!("{} bytes for {name}", data.bytes.len()));
            return Err("errADDRESS");
        }
        let (folder, board) = (self.uboot.flash.clone(), self.machine.board.name.clone());
        let (name, bytes) = (name.to_owned(), data.bytes.clone());
        let write = move || flash::write(&folder, &board, &name, &bytes);
        flash::beside(write).await.map_err(|_| "errWRITE")
    }

    /// `nand erase.part PARTITION` and `nand read ADDRESS PARTITION` (`cmd/nand.c`).
    async fn nand(&mut self, args: &[&str]) -> Flow<bool> {
        let partition = match args {
            ["erase.part", partition] | ["read", _, partition] => (*partition).to_owned(),
            _ => return self.usage("nand", format!("nand {}", args.join(" "))).await,
        };
        if !self.uboot.nand.contains_key(&partition) {
            self.machine.ledger.violation("not-flash", format!("no partition {partition}"));
            self.print(format!("partition {partition} not found!\n")).await;
            return Ok(false);
        }
        let (folder, board) = (self.uboot.flash.clone(), self.machine.board.name.clone());
        let part = partition.clone();
        if let ["read", address, _] = args {
            let Some(address) = hex(address) else {
                return self.usage("nand", format!("nand {}", args.join(" "))).await;
            };
            let found = flash::beside(move || flash::read(&folder, &board, &part)).await;
            let bytes = found.ok().flatten().unwrap_or_default();
            let size = bytes.len();
            self.print(format!("\nNAND read: device 0 offset 0x0, size 0x{size:x}\n")).await;
            if self.machine.memory.write(address, bytes).is_err() {
                self.machine.ledger.violation("not-ram", format!("{address:#x}"));
                self.print(format!(" {size} bytes read: ERROR\n")).await;
                return Ok(false);
            }
            self.print(format!(" {size} bytes read: OK\n")).await;
            return Ok(true);
        }
        let done = flash::beside(move || flash::write(&folder, &board, &part, &[])).await.is_ok();
        self.print(format!(
            "\nNAND erase.part: device 0 offset 0x0, size 0x{:x}\nOK\n",
            self.uboot.nand[&partition] * 1024
        ))
        .await;
        Ok(done)
    }

    async fn env(&mut self, name: &str, args: &[&str]) -> Flow<bool> {
        match args {
            ["default", ..] => {
                self.env = self.uboot.env.clone();
                self.say("## Resetting to default environment".into()).await
            }
            ["set", rest @ ..] => self.setenv(rest).await,
            ["print", rest @ ..] => self.printenv(rest).await,
            _ => self.usage("env", format!("{name} {}", args.join(" ")).trim_end().to_owned()).await,
        }
    }

    async fn usage(&mut self, command: &str, line: String) -> Flow<bool> {
        self.machine.ledger.violation("bad-usage", line);
        self.print(format!("{command} - wrong usage\n\nUsage:\n{command} ...\n")).await;
        Ok(false)
    }

    async fn setenv(&mut self, args: &[&str]) -> Flow<bool> {
        // `setenv -f` forces; there is nothing to force here.
        let args = args.strip_prefix(&["-f"]).unwrap_or(args);
        match args {
            [] => return self.usage("setenv", "setenv".into()).await,
            [name] => {
                self.env.remove(*name);
            }
            [name, values @ ..] => {
                self.env.insert((*name).to_owned(), values.join(" "));
            }
        }
        Ok(true)
    }

    async fn printenv(&mut self, args: &[&str]) -> Flow<bool> {
        if args.is_empty() {
            let mut text = String::new();
            for (name, value) in &self.env {
                let _ = writeln!(text, "{name}={value}");
            }
            self.print(text + "\n").await;
            return Ok(true);
        }
        let mut ok = true;
        for name in args {
            match self.env.get(*name).cloned() {
                Some(value) => self.print(format!("{name}={value}\n")).await,
                None => {
                    self.print(format!("## Error: \"{name}\" not defined\n")).await;
                    ok = false;
                }
            }
        }
        Ok(ok)
    }

    async fn run_variables(&mut self, names: &[&str]) -> Flow<bool> {
        for name in names {
            let Some(text) = self.env.get(*name).cloned() else {
                self.print(format!("## Error: \"{name}\" not defined\n")).await;
                return Ok(false);
            };
            if self.depth >= DEPTH {
                self.print("## Error: too many nested `run`\n").await;
                return Ok(false);
            }
            self.depth += 1;
            let ok = Box::pin(self.line(&text)).await;
            self.depth -= 1;
            if !ok? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn no_ethernet(&mut self) -> bool {
        if !self.ethernet {
            self.machine.ledger.violation("no-ethernet", "network used before `usb start`");
            self.print("No ethernet found.\n").await;
        }
        !self.ethernet
    }

    async fn dhcp(&mut self, args: &[&str]) -> Flow<bool> {
        if self.no_ethernet().await {
            return Ok(false);
        }
        let Some(lease) = self.machine.net.dhcp().await else {
            // net/bootp.c: without CONFIG_BOOTP_MAY_FAIL it would go on like this for ever.
            self.print("BOOTP broadcast 1\nBOOTP broadcast 2\n\nRetry time exceeded; starting again\n").await;
            return Err(Next::Hang);
        };
        let address = lease.address;
        for (name, value) in [
            ("ipaddr", address.to_string()),
            ("netmask", "255.255.255.0".to_owned()),
            ("serverip", lease.server.to_string()),
        ] {
            self.env.insert(name.to_owned(), value);
        }
        self.print(format!("BOOTP broadcast 1\nDHCP client bound to address {address} (4 ms)\n")).await;
        // cmd/net.c: with autoload `no` the boot file is not fetched.
        if self.env.get("autoload").is_some_and(|autoload| autoload.starts_with(['n', 'N', '0', 'f', 'F'])) {
            return Ok(true);
        }
        self.machine.ledger.violation("autoload", "dhcp without `setenv autoload no` fetches a boot file");
        self.tftp(args).await
    }

    async fn ping(&mut self, args: &[&str]) -> Flow<bool> {
        let [host] = args else { return self.usage("ping", "ping".into()).await };
        if self.no_ethernet().await || !self.env.contains_key("ipaddr") {
            self.print(format!("ping failed; host {host} is not alive\n")).await;
            return Ok(false);
        }
        self.print(format!("Using {} device\nhost {host} is alive\n", self.uboot.ethernet)).await;
        Ok(true)
    }

    /// `tftpboot [loadAddress] [[hostIPaddr:]bootfilename]`
    async fn tftp(&mut self, args: &[&str]) -> Flow<bool> {
        if self.no_ethernet().await {
            return Ok(false);
        }
        let load = self.env.get("loadaddr").cloned().unwrap_or_default();
        let (load, file) = match args {
            [] => (load, None),
            [only] if hex(only).is_some() => ((*only).to_owned(), None),
            [file] => (load, Some((*file).to_owned())),
            [load, file, ..] => ((*load).to_owned(), Some((*file).to_owned())),
        };
        let Some(address) = hex(&load) else {
            return self.usage("tftpboot", format!("tftpboot {}", args.join(" "))).await;
        };
        let Some(file) = file.or_else(|| self.env.get("bootfile").cloned()) else {
            self.print("*** Warning: no boot file name; using 'C0A84D02.img'\n").await;
            return Ok(false);
        };
        let (server, path) = match file.split_once(':') {
            Some((server, path)) => (server.to_owned(), path.to_owned()),
            None => (self.env.get("serverip").cloned().unwrap_or_default(), file),
        };
        let Some(ipaddr) = self.env.get("ipaddr").cloned() else {
            self.machine.ledger.violation("fetch-before-dhcp", &path);
            self.print("*** ERROR: `ipaddr' not set\n").await;
            return Ok(false);
        };
        if server.is_empty() {
            self.print("*** ERROR: `serverip' not set\n").await;
            return Ok(false);
        }
        self.print(format!(
            "Using {} device\nTFTP from server {server}; our IP address is {ipaddr}\nFilename '{path}'.\n\
             Load address: 0x{address:x}\nLoading: *\x08",
            self.uboot.ethernet
        ))
        .await;
        let fetched = self.machine.net.tftp(&server, &path, &format!("0x{address:x}")).await;
        let bytes = match fetched {
            Ok(bytes) => bytes,
            Err(error) => {
                self.print(match error {
                    FetchError::NotFound(_) => {
                        "\nTFTP error: 'File not found' (1)\nNot retrying...\n".to_owned()
                    }
                    // net/tftp.c takes it for final, as a missing file.
                    FetchError::Tftp(code @ error_code::ACCESS, text) => {
                        format!("\nTFTP error: '{text}' ({code})\nNot retrying...\n")
                    }
                    FetchError::Tftp(code, text) => {
                        format!("\nTFTP error: '{text}' ({code})\nStarting again\n\n")
                    }
                    FetchError::Refused(_) | FetchError::Timeout(_) | FetchError::Bad(_) => {
                        "T T T T T T T T T T \nRetry count exceeded; starting again\n".to_owned()
                    }
                })
                .await;
                return Ok(false);
            }
        };
        let size = bytes.len();
        if self.machine.memory.write(address, bytes).is_err() {
            self.machine.ledger.violation("load-outside-of-ram", format!("{path} at 0x{address:x}"));
            self.print("\nTFTP error: trying to overwrite reserved memory...\n").await;
            return Ok(false);
        }
        // net/tftp.c: a hash for each ten blocks of 1468 bytes, 65 to a line.
        let mut hashes = String::new();
        for hash in 0..(size / 14680).max(1) {
            if hash > 0 && hash % 65 == 0 {
                hashes.push_str("\n\t ");
            }
            hashes.push('#');
        }
        self.print(format!("{hashes}\n\t 9.8 MiB/s\ndone\nBytes transferred = {size} ({size:x} hex)\n"))
            .await;
        self.env.insert("filesize".into(), format!("{size:x}"));
        self.env.insert("fileaddr".into(), format!("{address:x}"));
        Ok(true)
    }

    async fn bootz(&mut self, args: &[&str]) -> Flow<bool> {
        let Some(address) = self.kernel_address(args) else {
            return self.usage("bootz", args.join(" ")).await;
        };
        let blob = self.machine.memory.from(address);
        match kernel::Format::ArmZImage.check(&blob) {
            Ok(found) => {
                let kernel = clip(&blob, found.image_size);
                self.print(format!("Kernel image @ {address:#x} [ 0x000000 - {:#x} ]\n", kernel.len())).await;
                // What lies behind it stays there.
                let kernel = if args.get(2).is_some() { kernel } else { blob };
                self.boot(address, kernel, args.get(1).copied(), args.get(2).copied()).await
            }
            Err(_) => {
                self.print("zimage: Bad magic!\n").await;
                Ok(false)
            }
        }
    }

    async fn booti(&mut self, args: &[&str]) -> Flow<bool> {
        let Some(address) = self.kernel_address(args) else {
            return self.usage("booti", args.join(" ")).await;
        };
        let blob = self.machine.memory.from(address);
        let format = match self.uboot.arch {
            Arch::Riscv => kernel::Format::RiscvImage,
            _ => kernel::Format::Arm64Image,
        };
        let kernel = if compress::Format::of(&blob) == compress::Format::Gzip {
            if !["kernel_comp_addr_r", "kernel_comp_size"].iter().all(|name| self.env.contains_key(*name)) {
                self.print("kernel_comp_addr_r or kernel_comp_size is not provided!\n").await;
                return Ok(false);
            }
            self.print("   Uncompressing Kernel Image\n").await;
            match compress::decompress_prefix(&blob, kernel::MAX_KERNEL) {
                Ok((unpacked, _)) => unpacked.into_owned(),
                Err(_) => {
                    self.print("uncompress: Error -1\nfailed to decompress kernel image\n").await;
                    return Ok(false);
                }
            }
        } else {
            blob
        };
        match format.check(&kernel) {
            Ok(found) => {
                let kernel = clip(&kernel, found.image_size);
                self.boot(address, kernel, args.get(1).copied(), args.get(2).copied()).await
            }
            Err(_) => {
                let name = if self.uboot.arch == Arch::Riscv { "RISCV" } else { "ARM64" };
                self.print(format!("Bad Linux {name} Image magic!\n")).await;
                Ok(false)
            }
        }
    }

    async fn bootm(&mut self, args: &[&str]) -> Flow<bool> {
        let first = args.first().copied().unwrap_or_default();
        let (plain, config) = match first.split_once('#') {
            Some((plain, config)) => (plain, Some(config)),
            None => (first, None),
        };
        let Some(address) = self.kernel_address(&[plain]) else {
            return self.usage("bootm", args.join(" ")).await;
        };
        let blob = self.machine.memory.from(address);
        if fdt::is_fdt(&blob) {
            return self.boot_fit(address, &blob, config).await;
        }
        if !uimage::is_uimage(&blob) {
            self.print("Wrong Image Format for bootm command\nERROR: can't get kernel image!\n").await;
            return Ok(false);
        }
        let image = match uimage::parse(&blob) {
            Ok(image) => image,
            Err(uimage::Error::BadHeaderCrc) => {
                self.print(format!(
                    "## Booting kernel from Legacy Image at {address:08x} ...\nBad Header Checksum\n\
                     ERROR: can't get kernel image!\n"
                ))
                .await;
                return Ok(false);
            }
            Err(_) => {
                self.print(format!(
                    "## Booting kernel from Legacy Image at {address:08x} ...\n   Verifying Checksum ... Bad Data CRC\n\
                     ERROR: can't get kernel image!\n"
                ))
                .await;
                return Ok(false);
            }
        };
        if image.header.arch != self.uboot.arch.uimage() {
            self.print("Unsupported Architecture\nERROR: can't get kernel image!\n").await;
            return Ok(false);
        }
        if !matches!(image.header.image_type, uimage::ImageType::KERNEL | uimage::ImageType::KERNEL_NOLOAD) {
            self.print("Wrong Image Type for bootm command\nERROR: can't get kernel image!\n").await;
            return Ok(false);
        }
        self.print(format!(
            "## Booting kernel from Legacy Image at {address:08x} ...\n   Image Name:   {}\n   \
             Data Size:    {} Bytes\n   Load Address: {:08x}\n   Entry Point:  {:08x}\n   \
             Verifying Checksum ... OK\n",
            image.header.name,
            image.data.len(),
            image.header.load,
            image.header.entry
        ))
        .await;
        let (load, entry) = (u64::from(image.header.load), u64::from(image.header.entry));
        let is_moved =
            image.header.image_type != uimage::ImageType::KERNEL_NOLOAD && !self.is_in_place(load, address);
        let begin = if is_moved { load } else { address + uimage::HEADER_SIZE as u64 };
        if image.header.image_type == uimage::ImageType::KERNEL && entry != begin {
            self.machine
                .ledger
                .violation("wrong-entry", format!("{entry:#x} of a kernel that begins at {begin:#x}"));
            self.print("\nStarting kernel ...\n\n").await;
            return Err(Next::Hang);
        }
        let kernel = image.data.to_vec();
        self.boot(address, kernel, args.get(1).copied(), args.get(2).copied()).await
    }

    /// Whether a legacy image at `address` is run where it lies, since that is where it is to be loaded to: its data, or up to 2014.04
    /// its header (`boot_get_kernel` and `bootm_load_os` in `common/cmd_bootm.c`, `case IH_COMP_NONE`).
    fn is_in_place(&self, load: u64, address: u64) -> bool {
        let version = self.banner.split_once("U-Boot ").map_or("", |(_, version)| version);
        let is_old = version.get(..7).is_some_and(|version| ("2008.10".."2014.07").contains(&version));
        load == address + uimage::HEADER_SIZE as u64 || (is_old && load == address)
    }

    async fn boot_fit(&mut self, address: u64, blob: &[u8], config: Option<&str>) -> Flow<bool> {
        self.print(format!("## Loading kernel from FIT Image at {address:08x} ...\n")).await;
        let fit = match fit::parse(blob) {
            Ok(fit) => fit,
            Err(error) => return self.no_fit(&error).await,
        };
        let boot = match fit.boot(config.map(|config| config.trim_start_matches('#'))) {
            Ok(boot) => boot,
            Err(error) => return self.no_fit(&error).await,
        };
        for image in [Some(boot.kernel), boot.fdt, boot.ramdisk].into_iter().flatten() {
            if let Err(error) = image.verify() {
                return self.no_fit(&error).await;
            }
        }
        self.print(format!(
            "   Using '{}' configuration\n   Verifying Hash Integrity ... OK\n",
            boot.configuration.name
        ))
        .await;
        let kernel = match compress::decompress_prefix(&boot.kernel.data, kernel::MAX_KERNEL) {
            Ok((unpacked, _)) => unpacked.into_owned(),
            Err(_) => {
                self.print("Uncompressing Kernel Image ... Error\n").await;
                return Ok(false);
            }
        };
        self.start(BootImage {
            kernel,
            cmdline: String::new(),
            ramdisk: boot.ramdisk.map(|image| image.data.clone()),
            dtb: boot.fdt.map(|image| image.data.clone()),
        })
        .await
    }

    async fn no_fit(&mut self, error: &fit::Error) -> Flow<bool> {
        self.print(format!("   {error}\nERROR: can't get kernel image!\n")).await;
        Ok(false)
    }

    fn kernel_address(&self, args: &[&str]) -> Option<u64> {
        match args.first() {
            Some(first) if !first.is_empty() => hex(first),
            _ => hex(self.env.get("loadaddr")?),
        }
    }

    /// Takes ramdisk and device tree as the arguments say, and starts Linux.
    async fn boot(
        &mut self,
        address: u64,
        kernel: Vec<u8>,
        ramdisk: Option<&str>,
        dtb: Option<&str>,
    ) -> Flow<bool> {
        let kernel_end = address + kernel.len() as u64;
        let ramdisk = match ramdisk {
            None | Some("-") => None,
            Some(spec) => match self.ramdisk(spec, address, kernel_end).await {
                Some(ramdisk) => Some(ramdisk),
                None => return Ok(false),
            },
        };
        let dtb = match dtb {
            None => None,
            Some(spec) => {
                let at = hex(spec).unwrap_or_default();
                let blob = self.machine.memory.from(at);
                let tree = fdt::without_missing_room(&blob).filter(|tree| fdt::parse(tree).is_ok());
                let Some((tree, size)) = tree.zip(fdt::total_size(&blob)) else {
                    self.print(
                        "ERROR: Did not find a cmdline Flattened Device Tree\nCould not find a valid device tree\n",
                    )
                    .await;
                    return Ok(false);
                };
                if at < kernel_end && address < at + size as u64 {
                    self.print("ERROR: FDT image overlaps OS image\n").await;
                    return Ok(false);
                }
                self.print(format!(
                    "## Flattened Device Tree blob at {at:08x}\n   Booting using the fdt blob at {at:#x}\n   \
                     Using Device Tree in place at {at:08x}, end {:08x}\n",
                    at + size as u64 - 1
                ))
                .await;
                Some(tree)
            }
        };
        let (kernel, dtb) = match dtb {
            None if self.uboot.arch == Arch::Arm => appended(kernel),
            dtb => (kernel, dtb),
        };
        if dtb.is_none() && self.uboot.arch != Arch::X86 {
            self.machine.ledger.violation("no-device-tree", "Linux started without a device tree");
        }
        self.start(BootImage { kernel, cmdline: String::new(), ramdisk, dtb }).await
    }

    /// `address` of a ramdisk with U-Boot's header, or `address:size` of a bare one.
    async fn ramdisk(&mut self, spec: &str, kernel: u64, kernel_end: u64) -> Option<Vec<u8>> {
        const REFUSED: &str = "Ramdisk image is corrupt or invalid\n";
        let (at, size) = match spec.split_once(':') {
            Some((at, size)) => (hex(at), Some(hex(size))),
            None => (hex(spec), None),
        };
        let at = at.unwrap_or_default();
        let blob = self.machine.memory.from(at);
        let data = match (uimage::parse(&blob), size) {
            (Ok(image), _) => {
                let arch = self.uboot.arch.uimage();
                if image.header.image_type != uimage::ImageType::RAMDISK || image.header.arch != arch {
                    let title = arch.title();
                    self.print(format!("No Linux {title} Ramdisk Image\n{REFUSED}")).await;
                    return None;
                }
                self.print(format!(
                    "## Loading init Ramdisk from Legacy Image at {at:08x} ...\n   Image Name:   {}\n   \
                     Data Size:    {} Bytes\n   Verifying Checksum ... OK\n",
                    image.header.name,
                    image.data.len()
                ))
                .await;
                image.data.to_vec()
            }
            (Err(uimage::Error::BadDataCrc | uimage::Error::Truncated { .. }), _) => {
                self.print(format!(
                    "## Loading init Ramdisk from Legacy Image at {at:08x} ...\n   Verifying Checksum ... \
                     Bad Data CRC\n{REFUSED}"
                ))
                .await;
                return None;
            }
            (Err(uimage::Error::BadHeaderCrc), _) => {
                self.print(format!("Bad Header Checksum\n{REFUSED}")).await;
                return None;
            }
            (Err(_), Some(Some(size))) if size > 0 && !blob.is_empty() => {
                match self.machine.memory.read(at, size) {
                    Some(bytes) => bytes,
                    None => blob,
                }
            }
            (Err(_), _) => {
                self.print(format!("Wrong Ramdisk Image Format\n{REFUSED}")).await;
                return None;
            }
        };
        if at < kernel_end && kernel < at + data.len() as u64 {
            self.print(format!("ERROR: RD image overlaps OS image (OS={kernel:#x}..{kernel_end:#x})\n"))
                .await;
            return None;
        }
        Some(data)
    }

    async fn start(&mut self, mut image: BootImage) -> Flow<bool> {
        image.cmdline = self.env.get("bootargs").cloned().unwrap_or_default();
        self.print("\nStarting kernel ...\n\n").await;
        Err(Next::Boot(image))
    }
}

fn test(args: &[&str]) -> bool {
    match args {
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        [left, "=" | "==", right] => left == right,
        [left, "!=", right] => left != right,
        _ => false,
    }
}

/// A 32-bit Arm zImage and the device tree right behind it, which it looks for where it gets none (`CONFIG_ARM_APPENDED_DTB`).
fn appended(mut kernel: Vec<u8>) -> (Vec<u8>, Option<Vec<u8>>) {
    let size = kernel::Format::ArmZImage
        .check(&kernel)
        .ok()
        .and_then(|found| usize::try_from(found.image_size).ok());
    let behind = size.filter(|size| *size <= kernel.len()).map(|size| kernel.split_off(size));
    let dtb =
        behind.and_then(|behind| fdt::without_missing_room(&behind).filter(|tree| fdt::parse(tree).is_ok()));
    (kernel, dtb)
}

/// The kernel at the front of what lies in memory.
fn clip(blob: &[u8], size: u64) -> Vec<u8> {
    let size = usize::try_from(size).unwrap_or(usize::MAX).min(blob.len());
    blob[..size].to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, tftp_server};
    use super::*;
    use crate::ledger::Event;

    const BOARD: &str = "
model: Test board
memory: {base: 0x80000000, mib: 64}
firmware:
  kind: u-boot
  banner: U-Boot 2023.01
  arch: arm
  boot: [bootm, bootz]
  env: {kernel_addr_r: '0x82000000'}
";

    async fn at_prompt() -> Bench {
        let mut bench = Bench::start(BOARD).await;
        bench.expect("stop autoboot").await;
        bench.send("\r").await;
        bench.expect("=> ").await;
        bench
    }

    #[tokio::test]
    async fn what_came_by_dfu_is_read_from_flash_and_what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let board = format!(
            "{BOARD}  nand: {{fs1: 8}}\n  flash: {:?}\nperipherals: [{{while: dfu, vendor: 045b, product: '0239'}}]\n",
            folder.path()
        );
        let mut bench = Bench::start(&board).await;
        bench.expect("stop autoboot").await;
        bench.send("\r").await;
        bench.expect("=> ").await;
        assert!(
            bench.command("dfu 0 nand 0", "=> ").await.contains("\"dfu_alt_info\" env variable not defined!")
        );
        bench.command("setenv dfu_alt_info 'fs1 raw 0x0 0x2000;boot raw 0x2000 0x100'", "=> ").await;
        bench.send("dfu 0 nand 0\n").await;
        let send = async |command: &str, bytes: &[u8]| {
            let data = || Some(Data { path: "/tmp/fit".into(), bytes: bytes.to_vec() });
            loop {
                // It may not have come to it yet.
                if let Some(answer) = bench.bus.call(Mode::Dfu, command.into(), data()).await {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(send("alternates", b"").await.info, ["fs1", "boot"]);
        assert_eq!(send("download fs2", b"x").await, Answer::fail("errSTALLEDPKT"));
        assert_eq!(send("download boot", b"x").await, Answer::fail("errADDRESS"));
        assert_eq!(send("download fs1", &[0; 8193]).await, Answer::fail("errADDRESS"));
        assert_eq!(send("download fs1", b"hello").await, Answer::okay(""));
        bench.expect("DOWNLOAD ... OK\nCtrl+C to exit ...\n").await;
        bench.send("\x03").await;
        bench.expect("=> ").await;
        assert!(bench.bus.attached().is_empty());
        assert!(bench.command("nand read 0x82000000 fs1", "=> ").await.contains(" 5 bytes read: OK"));
        assert!(bench.command("nand read 0x82000000 fs2", "=> ").await.contains("partition fs2 not found!"));
        bench.command("nand erase.part fs1", "=> ").await;
        assert!(bench.command("nand read 0x82000000 fs1", "=> ").await.contains(" 0 bytes read: OK"));
        assert_eq!(bench.violations(), ["no-dfu-entities", "not-flash", "not-flash", "not-flash"]);
    }

    /// A board with two cards, the boot loader on the first, and its storage.
    fn with_cards(folder: &std::path::Path, holds: &str) -> String {
        format!(
            "{BOARD}  mmc: {{1: {{kib: 64}}, 2: {{kib: 2048}}}}
  rom: {{mmc: 1, holds: {holds}}}
  flash: {folder:?}
  disks: {:?}
peripherals:
- {{while: recovery, vendor: 1fc9, product: '0146'}}
- {{while: fastboot, vendor: 1fc9, product: '0152'}}
- {{while: mass-storage, vendor: 1fc9, product: '0152'}}
",
            folder.join("disks")
        )
    }

    async fn ask(bench: &Bench, mode: Mode, command: &str, bytes: Option<&[u8]>) -> Answer {
        loop {
            let data = bytes.map(|bytes| Data { path: "/tmp/file".into(), bytes: bytes.to_vec() });
            // It may not have come to it yet.
            if let Some(answer) = bench.bus.call(mode, command.into(), data).await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_boot_loader_that_came_by_usb_writes_the_card_and_the_next_start_is_from_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::start(&with_cards(folder.path(), "nothing")).await;
        let image = meta_lava_formats::imx::write(0x92_0000, "U-Boot 2024.04", 1000);
        let broken = ask(&bench, Mode::Recovery, "boot", Some(&image[..500])).await;
        assert_eq!(broken, Answer::fail("HID(W): LIBUSB_ERROR_PIPE"));
        assert_eq!(ask(&bench, Mode::Recovery, "boot", Some(&image)).await, Answer::okay(""));
        bench.expect("U-Boot 2024.04").await;
        bench.expect("Run fastboot ...").await;
        let fastboot =
            async |command: &str, bytes: Option<&[u8]>| ask(&bench, Mode::Fastboot, command, bytes).await;
        assert_eq!(fastboot("flash:bootloader", None).await, Answer::fail("no image downloaded"));
        for (command, answer) in [
            ("UCmd:mmc dev 3", Answer::fail("")),
            ("UCmd:setenv fastboot_dev mmc", Answer::okay("")),
            ("UCmd:setenv mmcdev 1", Answer::okay("")),
        ] {
            assert_eq!(fastboot(command, None).await, answer, "{command}");
        }
        for (partition, answer) in
            [("boot", Answer::fail("partition does not exist")), ("bootloader", Answer::okay(""))]
        {
            assert_eq!(fastboot("download:000003e8", Some(&image)).await, Answer::okay(""));
            assert_eq!(fastboot(&format!("flash:{partition}"), None).await, answer);
        }
        bench.reset().await;
        bench.expect("U-Boot 2024.04").await;
        bench.expect("stop autoboot").await;
        assert_eq!(bench.violations(), ["bad-image", "no-such-mmc", "flash-refused"]);
    }

    #[tokio::test]
    async fn a_card_that_is_erased_has_the_boot_rom_wait_for_a_boot_loader() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::start(&with_cards(folder.path(), "boot-loader")).await;
        bench.expect("U-Boot 2023.01").await;
        bench.expect("stop autoboot").await;
        bench.send("\r").await;
        bench.expect("=> ").await;
        let seen = bench.command("mmc dev 3", "=> ").await;
        assert!(seen.contains("MMC Device 3 not found\nno mmc device at slot 3\n"), "{seen}");
        let seen = bench.command("mmc dev 1", "=> ").await;
        assert!(seen.contains("mmc1 is current device"), "{seen}");
        // The card has 128 blocks.
        let seen = bench.command("mmc erase 0 400", "=> ").await;
        assert!(seen.contains("count 1024 ... 0 blocks erased: ERROR"), "{seen}");
        let seen = bench.command("mmc erase 0 80", "=> ").await;
        assert!(
            seen.contains("MMC erase: dev # 1, block # 0, count 128 ... 128 blocks erased: OK"),
            "{seen}"
        );
        bench.reset().await;
        while bench.bus.attached().iter().all(|device| device.when != Mode::Recovery) {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.violations(), ["no-such-mmc", "not-mmc"]);
    }

    #[tokio::test]
    async fn what_is_written_to_the_disk_that_ums_shows_is_on_the_card() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::start(&with_cards(folder.path(), "boot-loader")).await;
        bench.expect("stop autoboot").await;
        bench.send("\r").await;
        bench.expect("=> ").await;
        let seen = bench.command("ums 0 mmc 4", "=> ").await;
        assert!(seen.contains("** Bad device specification mmc 4 **"), "{seen}");
        let seen = bench.command("part start mmc 2 1 begin", "=> ").await;
        assert!(seen.contains("** Invalid partition 1 **"), "{seen}");
        bench.command("ums 0 mmc 2", "count 0x1000\n").await;
        let disk = crate::peripheral::disk(&folder.path().join("disks"), "bench");
        assert_eq!(std::fs::metadata(&disk).unwrap().len(), 2 << 20);
        let mut image = vec![7; 1 << 20];
        let partition = meta_lava_formats::mbr::Partition { start: 0x20, blocks: 0x10, kind: 0x83 };
        assert!(meta_lava_formats::mbr::write(&mut image, &[partition]));
        std::fs::write(&disk, &image).unwrap();
        bench.send("\x03").await;
        bench.expect("=> ").await;
        assert!(!disk.exists() && bench.bus.attached().is_empty());
        let load = "part start mmc 2 1 begin && part size mmc 2 1 count && mmc dev 2 && mmc read 0x82000000 ${begin} ${count}";
        let seen = bench.command(load, "=> ").await;
        assert!(seen.contains("MMC read: dev # 2, block # 32, count 16 ... 16 blocks read: OK"), "{seen}");
        assert_eq!(bench.violations(), ["no-such-mmc", "no-such-partition"]);
    }

    fn zimage() -> Vec<u8> {
        kernel::write(kernel::Format::ArmZImage, "Linux version 6.1.83-ghost", 4096)
    }

    fn ramdisk(arch: uimage::Arch) -> Vec<u8> {
        let header = uimage::Header {
            time: 0,
            load: 0,
            entry: 0,
            os: uimage::Os::LINUX,
            arch,
            image_type: uimage::ImageType::RAMDISK,
            comp: uimage::Comp::NONE,
            name: "ramdisk".into(),
        };
        uimage::write(&header, b"a ramdisk").unwrap()
    }

    fn dtb() -> Vec<u8> {
        let mut root = fdt::Node::new("");
        root.set_text("model", "Test board");
        fdt::Fdt { root, reserved: Vec::new(), boot_cpu: 0 }.to_bytes().unwrap()
    }

    /// A bench whose server has a kernel, ramdisks and a device tree.
    async fn with_network() -> Bench {
        let mut broken = ramdisk(uimage::Arch::ARM);
        if let Some(last) = broken.last_mut() {
            *last ^= 1;
        }
        let server = tftp_server(&[
            ("zImage", &zimage()),
            ("ramdisk", &ramdisk(uimage::Arch::ARM)),
            ("ramdisk64", &ramdisk(uimage::Arch::ARM64)),
            ("broken", &broken),
            ("dtb", &dtb()),
        ])
        .await;
        let mut bench = at_prompt().await;
        for line in ["setenv autoload no", "dhcp", &format!("setenv serverip {server}")] {
            bench.command(line, "=> ").await;
        }
        bench
    }

    #[tokio::test]
    async fn linux_starts_with_what_was_fetched_and_the_arguments_that_were_set() {
        let mut bench = with_network().await;
        let seen = bench.command("tftp ${kernel_addr_r} zImage", "=> ").await;
        assert!(seen.contains("Bytes transferred = 4096 (1000 hex)"), "{seen}");
        bench.command("tftp 0x83000000 ramdisk", "=> ").await;
        bench.command("setenv initrd_size ${filesize}", "=> ").await;
        bench.command("tftp 0x83800000 dtb", "=> ").await;
        bench.command("setenv bootargs 'console=ttyS0,115200n8 root=/dev/ram0  ip=dhcp'", "=> ").await;
        bench.command("bootz 0x82000000 0x83000000 0x83800000", "Starting kernel ...").await;
        assert_eq!(bench.violations(), [""; 0]);
        let Next::Boot(image) = bench.next().await else { panic!("did not boot") };
        assert_eq!(image.kernel, zimage());
        assert_eq!(image.ramdisk.as_deref(), Some(&b"a ramdisk"[..]));
        assert_eq!(image.dtb, Some(dtb()));
        assert_eq!(image.cmdline, "console=ttyS0,115200n8 root=/dev/ram0  ip=dhcp");
    }

    #[tokio::test]
    async fn a_ramdisk_that_is_broken_or_of_another_architecture_is_refused() {
        let mut bench = with_network().await;
        bench.command("tftp 0x82000000 zImage", "=> ").await;
        bench.command("tftp 0x83800000 dtb", "=> ").await;
        bench.command("tftp 0x83000000 broken", "=> ").await;
        let seen = bench.command("bootz 0x82000000 0x83000000 0x83800000", "=> ").await;
        assert!(seen.contains("Bad Data CRC\nRamdisk image is corrupt or invalid"), "{seen}");
        bench.command("tftp 0x83000000 ramdisk64", "=> ").await;
        let seen = bench.command("bootz 0x82000000 0x83000000 0x83800000", "=> ").await;
        assert!(seen.contains("No Linux ARM Ramdisk Image"), "{seen}");
    }

    #[tokio::test]
    async fn a_kernel_with_the_wrong_magic_is_refused_and_so_is_a_missing_device_tree() {
        let mut bench = with_network().await;
        bench.command("tftp 0x82000000 dtb", "=> ").await;
        let seen = bench.command("bootz 0x82000000 - 0x83800000", "=> ").await;
        assert!(seen.contains("zimage: Bad magic!"), "{seen}");
        let seen = bench.command("bootm 0x83900000", "=> ").await;
        assert!(seen.contains("Wrong Image Format for bootm command"), "{seen}");
        bench.command("tftp 0x82000000 zImage", "=> ").await;
        let seen = bench.command("bootz 0x82000000 - 0x83800000", "=> ").await;
        assert!(seen.contains("ERROR: Did not find a cmdline Flattened Device Tree"), "{seen}");
    }

    /// A kernel in a legacy image, with a device tree right behind it where `appended`.
    fn legacy(load: u32, entry: u32, appended: bool) -> Vec<u8> {
        let header = uimage::Header {
            time: 0,
            load,
            entry,
            os: uimage::Os::LINUX,
            arch: uimage::Arch::ARM,
            image_type: uimage::ImageType::KERNEL,
            comp: uimage::Comp::NONE,
            name: String::new(),
        };
        let behind = if appended { dtb() } else { Vec::new() };
        uimage::write(&header, &[zimage(), behind].concat()).unwrap()
    }

    #[tokio::test]
    async fn a_kernel_takes_the_device_tree_behind_it_where_it_gets_none() {
        let server = tftp_server(&[("uImage", &legacy(0x8000_8000, 0x8000_8000, true))]).await;
        let mut bench = at_prompt().await;
        for line in
            ["setenv autoload no", "dhcp", &format!("setenv serverip {server}"), "tftp 0x82000000 uImage"]
        {
            bench.command(line, "=> ").await;
        }
        bench.command("bootm 0x82000000", "Starting kernel ...").await;
        let Next::Boot(image) = bench.next().await else { panic!("did not boot") };
        assert_eq!((image.kernel, image.dtb), (zimage(), Some(dtb())));
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn a_kernel_is_started_where_it_begins_or_not_at_all() {
        // Where the image lies, 64 bytes behind that, and elsewhere.
        let (here, behind, there) = (0x8200_0000, 0x8200_0040, 0x8000_8000);
        let boots = async |banner: &str, load, entry| {
            let server = tftp_server(&[("uImage", &legacy(load, entry, true))]).await;
            let mut bench = Bench::start(&BOARD.replace("U-Boot 2023.01", banner)).await;
            bench.expect("stop autoboot").await;
            bench.send("\r").await;
            bench.expect("=> ").await;
            for line in
                ["setenv autoload no", "dhcp", &format!("setenv serverip {server}"), "tftp 0x82000000 uImage"]
            {
                bench.command(line, "=> ").await;
            }
            bench.command("bootm 0x82000000", "Starting kernel ...").await;
            match bench.next().await {
                Next::Boot(_) => true,
                Next::Hang => {
                    assert_eq!(bench.violations(), ["wrong-entry"]);
                    false
                }
                _ => panic!("neither"),
            }
        };
        assert!(boots("U-Boot 2023.01", there, there).await);
        assert!(boots("U-Boot 2023.01", behind, behind).await);
        assert!(!boots("U-Boot 2023.01", here, behind).await);
        assert!(boots("U-Boot 2009.08", here, behind).await);
        assert!(!boots("U-Boot 2009.08", here, here).await);
    }

    #[tokio::test]
    async fn an_overlay_is_applied_to_the_device_tree_that_is_worked_on() {
        let mut base = fdt::parse(&dtb()).unwrap();
        let mut symbols = fdt::Node::new("__symbols__");
        symbols.set_text("soc", "/");
        base.root.children.push(symbols);
        let overlay = |target: &str, model: &str| {
            let mut content = fdt::Node::new("__overlay__");
            content.set_text("model", model);
            let mut fragment = fdt::Node::new("fragment@0");
            fragment.set_text("target-path", target);
            fragment.children.push(content);
            let mut tree = fdt::Fdt::default();
            tree.root.children.push(fragment);
            tree.to_bytes().unwrap()
        };
        let server = tftp_server(&[
            ("base", &base.to_bytes().unwrap()),
            ("plain", &dtb()),
            ("good", &overlay("/", "Test board with a cape")),
            ("bad", &overlay("/cape", "Test board with a cape")),
            ("large", &overlay("/", &"x".repeat(8000))),
            ("zImage", &zimage()),
        ])
        .await;
        let mut bench = at_prompt().await;
        for line in
            ["setenv autoload no", "dhcp", &format!("setenv serverip {server}"), "tftp 0x82000000 zImage"]
        {
            bench.command(line, "=> ").await;
        }
        let seen = bench.command("fdt apply 0x83800000", "=> ").await;
        assert!(seen.contains("No FDT memory address configured. Please configure\n"), "{seen}");
        for line in ["tftp 0x83000000 base", "fdt addr 0x83000000", "tftp 0x83800000 zImage"] {
            bench.command(line, "=> ").await;
        }
        let seen = bench.command("fdt apply 0x83800000", "=> ").await;
        assert!(seen.contains("libfdt fdt_check_header(): FDT_ERR_BADMAGIC"), "{seen}");
        for line in ["fdt resize 1000", "tftp 0x83800000 good", "fdt apply 0x83800000"] {
            bench.command(line, "=> ").await;
        }
        // It is spoilt now.
        let seen = bench.command("fdt apply 0x83800000", "=> ").await;
        assert!(seen.contains("libfdt fdt_check_header(): FDT_ERR_BADMAGIC"), "{seen}");
        for (base, overlay, says) in [
            ("base", "bad", "failed on fdt_overlay_apply(): FDT_ERR_NOTFOUND\n"),
            ("base", "large", "failed on fdt_overlay_apply(): FDT_ERR_NOSPACE\n"),
            (
                "plain",
                "bad",
                "FDT_ERR_NOTFOUND\nbase fdt does did not have a /__symbols__ node\nmake sure you've compiled with -@\n",
            ),
        ] {
            for line in [
                &format!("tftp 0x81000000 {base}"),
                "fdt addr 0x81000000",
                &format!("tftp 0x83800000 {overlay}"),
            ] {
                bench.command(line, "=> ").await;
            }
            let seen = bench.command("fdt resize; fdt apply 0x83800000", "=> ").await;
            assert!(seen.contains(says), "{base} {overlay}: {seen}");
            assert_eq!(seen.contains("base fdt"), base == "plain", "{base} {overlay}: {seen}");
        }
        // So is the tree where it failed.
        let seen = bench.command("bootz 0x82000000 - 0x81000000", "=> ").await;
        assert!(seen.contains("ERROR: Did not find a cmdline Flattened Device Tree"), "{seen}");
        bench.command("bootz 0x82000000 - 0x83000000", "Starting kernel ...").await;
        let Next::Boot(image) = bench.next().await else { panic!("did not boot") };
        let tree = fdt::parse(&image.dtb.unwrap()).unwrap();
        assert_eq!(tree.model(), Some("Test board with a cape"));
        assert_eq!(
            bench.violations(),
            [
                "no-device-tree",
                "no-overlay",
                "no-overlay",
                "overlay-refused",
                "overlay-refused",
                "overlay-refused"
            ]
        );
    }

    #[tokio::test]
    async fn images_that_overlap_are_refused() {
        let mut bench = with_network().await;
        bench.command("tftp 0x83800000 dtb", "=> ").await;
        bench.command("tftp 0x82000000 zImage", "=> ").await;
        bench.command("tftp 0x82000ffc ramdisk", "=> ").await;
        let seen = bench.command("bootz 0x82000000 0x82000ffc 0x83800000", "=> ").await;
        assert!(seen.contains("ERROR: RD image overlaps OS image"), "{seen}");
    }

    #[tokio::test]
    async fn a_load_address_outside_of_ram_is_refused() {
        let mut bench = with_network().await;
        let seen = bench.command("tftp 0x90000000 zImage", "=> ").await;
        assert!(seen.contains("TFTP error: trying to overwrite reserved memory"), "{seen}");
        assert_eq!(bench.violations(), ["load-outside-of-ram"]);
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_said_so() {
        let mut bench = with_network().await;
        let seen = bench.command("tftp 0x82000000 nothing", "=> ").await;
        assert!(seen.contains("TFTP error: 'File not found' (1)"), "{seen}");
    }

    #[tokio::test]
    async fn a_file_that_is_denied_is_said_in_the_words_of_the_server() {
        let mut bench = with_network().await;
        let seen = bench.command("tftp 0x82000000 ../zImage", "=> ").await;
        assert!(seen.contains("TFTP error: 'Access violation' (2)"), "{seen}");
        assert!(seen.contains("Not retrying..."), "{seen}");
    }

    #[tokio::test]
    async fn nothing_is_fetched_before_there_is_an_address() {
        let mut bench = at_prompt().await;
        let seen = bench.command("tftp 0x82000000 zImage", "=> ").await;
        assert!(seen.contains("*** ERROR: `ipaddr' not set"), "{seen}");
        assert_eq!(bench.violations(), ["fetch-before-dhcp"]);
    }

    #[tokio::test]
    async fn an_unknown_command_is_answered_and_noted() {
        let mut bench = at_prompt().await;
        let seen = bench.command("booti 0 0 0", "=> ").await;
        assert!(seen.contains("Unknown command 'booti' - try 'help'"), "{seen}");
        assert_eq!(bench.violations(), ["unknown-command"]);
    }

    #[tokio::test]
    async fn a_variable_that_holds_commands_runs_with_the_values_of_then() {
        let mut bench = at_prompt().await;
        bench.command("setenv say 'echo <${what}>; false'", "=> ").await;
        bench.command("setenv what hello", "=> ").await;
        let seen = bench.command("run say && echo not this || echo but this", "=> ").await;
        assert!(seen.contains("<hello>\nbut this"), "{seen}");
    }

    #[tokio::test]
    async fn without_a_key_autoboot_goes_on_and_with_the_wrong_one_too() {
        let yaml = BOARD.replace("  arch:", "  autoboot: {delay: 0, key: s}\n  arch:");
        let mut bench = Bench::start(&yaml).await;
        bench.send("x").await;
        bench.expect("No boot device").await;
        assert!(matches!(bench.next().await, Next::Reset));
    }

    #[tokio::test]
    async fn every_line_that_was_typed_is_in_the_ledger() {
        let mut bench = at_prompt().await;
        bench.command("echo a", "=> ").await;
        let lines: Vec<String> = bench
            .events()
            .into_iter()
            .filter_map(|event| match event {
                Event::Line { text, .. } => Some(text),
                Event::Key { text, .. } => Some(format!("key {text}")),
                _ => None,
            })
            .collect();
        assert_eq!(lines, ["key \r", "echo a"]);
    }
}
