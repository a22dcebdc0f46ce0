//! GRUB: its menu, its command line, and Linux from TFTP or HTTP.
//!
//! Behaviour and messages follow GRUB 2.06: `grub-core/normal/menu.c`, `normal/main.c`,
//! `net/{net,bootp,tftp,http}.c`, `loader/{i386,arm64}/linux.c`, `loader/efi/fdt.c`; for what is on
//! disks `commands/search.c`, `kern/{disk,fs,file}.c` and `normal/menu.c` (`grub_menu_execute_entry`). What
//! real GRUB paints with escape sequences is printed in lines here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use meta_lava_formats::{compress, fdt, kernel};
use serde::Deserialize;
use tokio::time::Instant;

use super::arch::Arch;
use super::shell::words::SyntaxError;
use super::shell::{Command, Shell, Work, done, ends, find, work};
use super::{BootImage, Firmware, FirmwareKind, Flow, Loaded, Next};
use crate::board::BoardError;
use crate::console::Input;
use crate::disk::Disk;
use crate::ledger::Event;
use crate::machine::Machine;
use crate::net::FetchError;

/// GRUB, as the first thing that speaks on the serial port.
pub const KIND: FirmwareKind = FirmwareKind {
    name: "grub",
    about: "GRUB: menu, net_bootp, linux, initrd, devicetree",
    load: |name, text| load(name, text, false),
};

/// GRUB as an entry of a UEFI boot menu.
pub const EFI_KIND: FirmwareKind = FirmwareKind {
    name: "grub-efi",
    about: "GRUB in the boot menu of a UEFI",
    load: |name, text| load(name, text, true),
};

fn load(name: &str, text: &str, efi: bool) -> Result<Loaded, BoardError> {
    let (board, grub) = crate::board::parse::<Grub>(name, text)?;
    let wrong = match &grub.uefi {
        None if efi => "uefi: grub-efi needs the menu that GRUB is in",
        Some(_) if !efi => "uefi: only grub-efi has a menu before GRUB",
        Some(uefi) if !uefi.menu.contains(&uefi.grub) => "uefi.grub: not in the menu",
        _ => return Ok((board, Box::new(grub))),
    };
    Err(BoardError::Firmware(wrong.into()))
}

/// Settings of a GRUB, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grub {
    #[serde(rename = "kind")]
    _kind: String,
    /// What the board prints before GRUB starts.
    #[serde(default)]
    lines: Vec<String>,
    /// The menu of a UEFI that GRUB is started from (`grub-efi`).
    uefi: Option<Uefi>,
    /// Version in the headline.
    #[serde(default = "default_version")]
    version: String,
    /// Titles in the menu; an empty list makes GRUB go to its command line at once.
    #[serde(default = "default_menu")]
    menu: Vec<String>,
    /// Seconds until the first entry is booted.
    #[serde(default = "default_timeout")]
    timeout: u32,
    /// Prompt, with its blank.
    #[serde(default = "default_prompt")]
    prompt: String,
    arch: Arch,
    /// Name of the network card.
    #[serde(default = "default_card")]
    card: String,
    /// Its hardware address.
    #[serde(default = "default_mac")]
    mac: String,
    /// Whether GRUB came by PXE: then it has an address, and its root is the server.
    #[serde(default)]
    pxe: bool,
    /// Modules that nothing works of before their `insmod`, of `efinet`, `tftp`, `http`, `gzio`.
    #[serde(default)]
    unloaded: BTreeSet<String>,
    /// Whether `boot` finds no video mode and says so.
    #[serde(default)]
    blind: bool,
}

/// The boot menu of a UEFI.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Uefi {
    /// What announces the default, before the seconds.
    #[serde(default = "default_countdown")]
    countdown: String,
    /// Seconds until the first entry is started.
    #[serde(default = "default_delay")]
    delay: u32,
    /// Titles, numbered from 1.
    menu: Vec<String>,
    /// Which of them is GRUB.
    grub: String,
    /// Prompt below the menu, with its blank.
    #[serde(default = "default_menu_prompt")]
    prompt: String,
}

fn default_version() -> String {
    "2.06".into()
}

fn default_menu() -> Vec<String> {
    vec!["GNU/Linux".into()]
}

fn default_timeout() -> u32 {
    5
}

fn default_prompt() -> String {
    "grub> ".into()
}

fn default_card() -> String {
    "efinet0".into()
}

fn default_mac() -> String {
    "02:00:00:00:00:01".into()
}

fn default_countdown() -> String {
    "The default boot selection will start in".into()
}

fn default_delay() -> u32 {
    10
}

fn default_menu_prompt() -> String {
    "Start: ".into()
}

#[async_trait]
impl Firmware for Grub {
    async fn run(&self, machine: &mut Machine) -> Next {
        self.start(machine, None).await
    }
}

impl Grub {
    /// A GRUB that lies on a disk, with what it needs from there.
    pub(super) fn on_a_disk(version: &str, arch: Arch) -> Self {
        Self {
            _kind: String::new(),
            lines: Vec::new(),
            uefi: None,
            version: version.to_owned(),
            menu: Vec::new(),
            timeout: 0,
            prompt: default_prompt(),
            arch,
            card: default_card(),
            mac: default_mac(),
            pxe: false,
            unloaded: BTreeSet::new(),
            blind: false,
        }
    }

    /// Runs it from the partition that it calls `device`, with the configuration that is in the folder `prefix` there.
    pub(super) async fn run_from(&self, machine: &mut Machine, device: &str, prefix: &str) -> Next {
        self.start(machine, Some((device, prefix))).await
    }

    async fn start(&self, machine: &mut Machine, from: Option<(&str, &str)>) -> Next {
        let mut shell = GrubShell {
            grub: self,
            machine,
            variables: BTreeMap::new(),
            entries: self.menu.iter().map(|title| Entry { title: title.clone(), commands: None }).collect(),
            unloaded: self.unloaded.clone(),
            linux: None,
            dtb: None,
            nested: false,
            left: false,
            depth: 0,
        };
        match shell.run(from).await {
            Err(next) => next,
            Ok(never) => match never {},
        }
    }
}

/// An entry of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    title: String,
    /// What it does, where a configuration on a disk says that.
    commands: Option<Vec<String>>,
}

/// A configuration taken apart: the commands that are run when it is read, and the entries. Neither functions nor
/// submenus are among what is played.
fn configuration(text: &str) -> (Vec<String>, Vec<Entry>) {
    let (mut commands, mut entries) = (Vec::new(), Vec::new());
    let mut open: Option<Entry> = None;
    for line in text.lines().map(str::trim) {
        match (&mut open, line.strip_prefix("menuentry ")) {
            (None, Some(about)) => {
                let about = about.trim_end_matches('{').trim();
                let quote = about.chars().next().filter(|quote| matches!(quote, '\'' | '"'));
                let title = match quote {
                    Some(quote) => about.split(quote).nth(1),
                    None => about.split_whitespace().next(),
                };
                open =
                    Some(Entry { title: title.unwrap_or_default().to_owned(), commands: Some(Vec::new()) });
            }
            (None, None) => commands.push(line.to_owned()),
            (Some(_), _) if line == "}" => entries.extend(open.take()),
            (Some(entry), _) => entry.commands.get_or_insert_default().push(line.to_owned()),
        }
    }
    (commands, entries)
}

/// How long `Press any key to continue...` waits.
const ANY_KEY: Duration = Duration::from_secs(10);

/// How deep `configfile` may nest.
const DEPTH: u32 = 16;

/// Modules that there are, of those that somebody may name.
const MODULES: &[&str] = &[
    "all_video",
    "boot",
    "cat",
    "chain",
    "configfile",
    "echo",
    "efi_gop",
    "efi_uga",
    "efinet",
    "ext2",
    "fat",
    "fdt",
    "font",
    "gfxterm",
    "gzio",
    "halt",
    "help",
    "http",
    "iso9660",
    "linux",
    "linux16",
    "linuxefi",
    "loopback",
    "ls",
    "lsefi",
    "lzopio",
    "minicmd",
    "net",
    "normal",
    "part_gpt",
    "part_msdos",
    "probe",
    "pxe",
    "read",
    "reboot",
    "regexp",
    "search",
    "search_fs_file",
    "search_fs_uuid",
    "search_label",
    "serial",
    "sleep",
    "squash4",
    "terminal",
    "test",
    "tftp",
    "true",
    "video",
    "xfs",
    "xzio",
];

/// A command that failed; the text is what comes after `error: `.
type Outcome<T> = Result<T, String>;

type Run = for<'s, 'm> fn(&'s mut GrubShell<'m>, &'s str, &'s [&'s str]) -> Work<'s, Outcome<()>>;

const COMMANDS: &[Command<Run>] = &[
    (".", |shell, _, args| Box::pin(shell.configfile(args))),
    ("[", |_, _, args| done(test(args))),
    ("boot", |shell, _, _| Box::pin(shell.boot())),
    ("chainloader", |shell, name, args| work(shell.chainloader(name, args))),
    ("clear", |_, _, _| done(Ok(()))),
    ("configfile", |shell, _, args| Box::pin(shell.configfile(args))),
    ("devicetree", |shell, _, args| work(shell.load_devicetree(args))),
    ("echo", |shell, _, args| work(shell.echo(args))),
    // Back to the firmware, which has nothing else to start.
    ("exit", |_, _, _| ends(Next::Reset)),
    ("export", |_, _, _| done(Ok(()))),
    ("false", |_, _, _| done(Err("false".into()))),
    ("halt", |_, _, _| ends(Next::PowerOff)),
    ("initrd", |shell, name, args| work(shell.load_initrd(name, args))),
    ("initrd16", |shell, name, args| work(shell.load_initrd(name, args))),
    ("initrdefi", |shell, name, args| work(shell.load_initrd(name, args))),
    ("insmod", |shell, _, args| done(shell.insmod(args))),
    ("linux", |shell, name, args| work(shell.load_linux(name, args))),
    ("linux16", |shell, name, args| work(shell.load_linux(name, args))),
    ("linuxefi", |shell, name, args| work(shell.load_linux(name, args))),
    ("ls", |shell, _, args| work(shell.ls(args))),
    ("net_add_addr", |shell, _, args| done(shell.net_add_addr(args))),
    ("net_add_dns", |_, _, _| done(Ok(()))),
    ("net_add_route", |_, _, _| done(Ok(()))),
    ("net_bootp", |shell, _, args| work(shell.net_bootp(args))),
    ("net_del_addr", |_, _, _| done(Ok(()))),
    ("net_del_route", |_, _, _| done(Ok(()))),
    ("net_dhcp", |shell, _, args| work(shell.net_bootp(args))),
    ("net_ls_addr", |shell, _, _| work(shell.net_ls_addr())),
    ("net_ls_cards", |shell, _, _| work(shell.net_ls_cards())),
    ("net_ls_routes", |shell, _, _| work(shell.net_ls_routes())),
    ("normal", |_, _, _| done(Ok(()))),
    ("reboot", |_, _, _| ends(Next::Reset)),
    ("search", |shell, name, args| work(shell.search(name, args))),
    ("search.file", |shell, name, args| work(shell.search(name, args))),
    ("search.fs_label", |shell, name, args| work(shell.search(name, args))),
    ("search.fs_uuid", |shell, name, args| work(shell.search(name, args))),
    ("serial", |_, _, _| done(Ok(()))),
    ("set", |shell, _, args| work(shell.set(args))),
    ("sleep", |_, _, _| done(Ok(()))),
    ("source", |shell, _, args| Box::pin(shell.configfile(args))),
    ("terminal_input", |_, _, _| done(Ok(()))),
    ("terminal_output", |_, _, _| done(Ok(()))),
    ("test", |_, _, args| done(test(args))),
    ("true", |_, _, _| done(Ok(()))),
    ("unset", |shell, _, args| done(shell.unset(args))),
];

/// A GRUB between its start and boot.
struct GrubShell<'m> {
    grub: &'m Grub,
    machine: &'m mut Machine,
    variables: BTreeMap<String, String>,
    /// The menu.
    entries: Vec<Entry>,
    /// Modules that still need an `insmod`.
    unloaded: BTreeSet<String>,
    /// What `linux` and `initrd` have loaded.
    linux: Option<BootImage>,
    /// What `devicetree` has.
    dtb: Option<Vec<u8>>,
    /// Whether there is a menu to go back to.
    nested: bool,
    /// Whether ESC was typed there.
    left: bool,
    depth: u32,
}

#[async_trait]
impl Shell for GrubShell<'_> {
    const INTERRUPTED: &'static str = "\n";

    fn machine(&mut self) -> &mut Machine {
        self.machine
    }

    fn prompt(&self) -> String {
        self.grub.prompt.clone()
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn left(&mut self) -> bool {
        std::mem::take(&mut self.left)
    }

    async fn syntax_error(&mut self, _: SyntaxError) {
        self.print("error: syntax error.\nerror: Incorrect command.\n").await;
    }

    async fn command(&mut self, words: &[&str]) -> Flow<bool> {
        if self.nested && words == ["\x1b"] {
            self.left = true;
            return Ok(true);
        }
        let outcome = self.execute(words).await?;
        self.variables.insert("?".into(), if outcome.is_ok() { "0" } else { "1" }.into());
        if let Err(error) = &outcome {
            self.print(format!("error: {error}.\n")).await;
        }
        Ok(outcome.is_ok())
    }
}

impl GrubShell<'_> {
    async fn run(&mut self, from: Option<(&str, &str)>) -> Flow<std::convert::Infallible> {
        let mut text = String::new();
        for line in &self.grub.lines {
            text.push_str(line);
            text.push('\n');
        }
        self.print(text).await;
        if let Some(uefi) = &self.grub.uefi {
            self.uefi(uefi).await;
        }
        if self.grub.pxe {
            // The firmware that started it has the address already.
            let Ok(server) = self.dhcp().await else { return Err(Next::Hang) };
            self.variables.insert("root".into(), format!("tftp,{server}"));
            self.variables.insert("prefix".into(), format!("(tftp,{server})/grub"));
        }
        if let Some((device, prefix)) = from {
            self.variables.insert("root".into(), device.to_owned());
            self.variables.insert("prefix".into(), format!("({device}){prefix}"));
            self.configure(&format!("({device}){prefix}/grub.cfg")).await?;
        }
        let mut counting = true;
        if self.entries.is_empty() {
            self.command_line().await?;
        }
        self.nested = true;
        let mut after_uefi = self.grub.uefi.is_some();
        loop {
            match self.menu(counting, after_uefi).await {
                Some(entry) => self.entry(entry).await?,
                None => self.command_line().await?,
            }
            (counting, after_uefi) = (false, false);
        }
    }

    /// Reads its configuration, if there is one: that there is none is not said (`read_config_file` in `normal/main.c`).
    async fn configure(&mut self, file: &str) -> Flow<()> {
        let Ok(text) = self.open(file, "configfile").await else { return Ok(()) };
        let (commands, entries) = configuration(&String::from_utf8_lossy(&text));
        self.entries = entries;
        for command in &commands {
            self.line(command).await?;
        }
        Ok(())
    }

    /// Goes through the menu of the UEFI, until GRUB was chosen.
    async fn uefi(&mut self, uefi: &Uefi) {
        self.print(format!("{} {} seconds\n", uefi.countdown, uefi.delay)).await;
        let wait = self.machine.countdown(uefi.delay);
        if self.machine.console().key(wait).await.is_none() {
            match uefi.menu.first() {
                Some(first) if *first == uefi.grub => return,
                first => {
                    self.print(format!("Booting {}\nNot Found\n", first.map_or("", String::as_str))).await
                }
            }
        }
        loop {
            let mut list = String::new();
            for (number, title) in (1..).zip(&uefi.menu) {
                let _ = writeln!(list, "[{number}] {title}");
            }
            self.print(list).await;
            let Input::Line(line) = self.machine.console().read_line(&uefi.prompt).await else { continue };
            let chosen =
                line.trim().parse::<usize>().ok().and_then(|number| uefi.menu.get(number.checked_sub(1)?));
            match chosen {
                Some(title) if *title == uefi.grub => return,
                Some(title) => {
                    self.machine.ledger.violation("not-bootable", title);
                    self.print(format!("Booting {title}\nNot Found\n")).await;
                }
                // The second half of a CR LF, which is one key to a UEFI.
                None if line.is_empty() => {}
                None => self.print(format!("Invalid input (max {})\n", uefi.menu.len())).await,
            }
        }
    }

    /// Shows the menu; the number of the entry to boot, or nothing for the command line.
    async fn menu(&mut self, counting: bool, after_uefi: bool) -> Option<usize> {
        let last = self.entries.len().saturating_sub(1);
        let mut chosen = self.default().min(last);
        let mut text = format!("{:27}GNU GRUB  version {}\n\n", "", self.grub.version);
        for (number, Entry { title, .. }) in self.entries.iter().enumerate() {
            let _ = writeln!(text, " {}{title}", if number == chosen { '*' } else { ' ' });
        }
        text.push_str(
            "\n      Use the ^ and v keys to select which entry is highlighted.\n      \
             Press enter to boot the selected OS, `e' to edit the commands\n      \
             before booting or `c' for a command-line.\n",
        );
        let mut end = None;
        if let Some(seconds) = self.timeout().filter(|_| counting) {
            let _ = writeln!(text, "   The highlighted entry will be executed automatically in {seconds}s.");
            end = Some(Instant::now() + self.machine.countdown(seconds));
        }
        self.print(text).await;
        let mut first = after_uefi;
        let mut escape = 0;
        loop {
            let left = end.map_or(Duration::from_secs(u32::MAX.into()), |end| {
                end.saturating_duration_since(Instant::now())
            });
            let Some(key) = self.machine.console().key(left).await else { return Some(chosen) };
            let leftover = std::mem::take(&mut first) && key == b'\n';
            if leftover {
                // The second half of the CR LF that chose GRUB.
                continue;
            }
            // Any key stops the countdown.
            end = None;
            escape = match (escape, key) {
                (0, 0x1b) => 1,
                (1, b'[') => 2,
                (2, b'A') => {
                    chosen = chosen.saturating_sub(1);
                    0
                }
                (2, b'B') => {
                    chosen = (chosen + 1).min(last);
                    0
                }
                _ => {
                    match key {
                        b'c' => return None,
                        b'\r' | b'\n' => return Some(chosen),
                        b'^' | 0x10 => chosen = chosen.saturating_sub(1),
                        b'v' | 0x0e => chosen = (chosen + 1).min(last),
                        b'e' => self.machine.ledger.violation("editor", "the menu's editor is not there"),
                        _ => {}
                    }
                    0
                }
            };
        }
    }

    /// How many seconds the menu stands; nothing where it stands until a key is typed.
    fn timeout(&self) -> Option<u32> {
        match self.variables.get("timeout") {
            Some(seconds) => seconds.parse().ok(),
            // Without a configuration it is the board's.
            None if self.entries.iter().all(|entry| entry.commands.is_none()) => Some(self.grub.timeout),
            None => None,
        }
    }

    /// Which entry is started by itself: a number, or a title (`get_entry_number` in `normal/menu.c`).
    fn default(&self) -> usize {
        let Some(default) = self.variables.get("default") else { return 0 };
        let titled = || self.entries.iter().position(|entry| entry.title == *default);
        default.parse().ok().or_else(titled).unwrap_or_default()
    }

    /// Boots an entry of the menu. Where no configuration says how, there is nothing installed that it could boot.
    async fn entry(&mut self, entry: usize) -> Flow<()> {
        let Some(Entry { title, commands }) = self.entries.get(entry).cloned() else { return Ok(()) };
        self.print(format!("  Booting `{title}'\n\n")).await;
        match commands {
            Some(commands) => {
                for command in &commands {
                    self.line(command).await?;
                }
                if self.linux.is_some() {
                    self.line("boot").await?;
                }
            }
            None => {
                let says = "error: disk 'hd0,gpt1' not found.\nerror: you need to load the kernel first.\n";
                self.print(says).await;
            }
        }
        self.print("\nPress any key to continue...").await;
        self.machine.console().key(ANY_KEY).await;
        self.print("\n").await;
        Ok(())
    }

    /// `search` and its shorter forms: a partition by its name, its UUID, or a file on it, for a variable or to be printed.
    async fn search(&mut self, name: &str, args: &[&str]) -> Outcome<()> {
        let mut by = name.strip_prefix("search.").unwrap_or("file");
        let (mut plain, mut set) = (Vec::new(), None);
        for arg in args {
            match *arg {
                "-l" | "--label" => by = "fs_label",
                "-u" | "--fs-uuid" => by = "fs_uuid",
                "-f" | "--file" => by = "file",
                "-s" | "--set" => set = Some("root"),
                arg if arg.starts_with("--set=") => set = arg.strip_prefix("--set="),
                // Where to look first, which changes nothing with one disk.
                arg if arg.starts_with('-') => {}
                arg => plain.push(arg),
            }
        }
        // The shorter forms take the variable behind the name.
        let (what, set) = match (plain.as_slice(), name.contains('.')) {
            ([what, variable], true) => (*what, Some(*variable)),
            ([what, ..], _) => (*what, set),
            ([], _) => return Err("one argument expected".into()),
        };
        let is_it = |disk: &&Disk| match by {
            "fs_label" => disk.is_volume(what),
            "fs_uuid" => disk.has_uuid(what),
            _ => disk.file(what).is_some(),
        };
        let Some(found) = self.machine.disks.iter().find(is_it).and_then(Disk::grub_name) else {
            self.machine.ledger.violation("no-such-device", format!("{name} {}", args.join(" ")));
            return Err(format!("no such device: {what}"));
        };
        match set {
            Some(variable) => drop(self.variables.insert(variable.to_owned(), found)),
            None => self.print(format!(" {found}\n")).await,
        }
        Ok(())
    }

    /// Reads commands; back when there is a menu to go back to.
    async fn command_line(&mut self) -> Flow<()> {
        let exits = if self.nested { " ESC at any time\n   exits." } else { "" };
        self.print(format!(
            "{:27}GNU GRUB  version {}\n\n   Minimal BASH-like line editing is supported. For the first word, TAB\n   \
             lists possible command completions. Anywhere else TAB lists possible\n   device or file \
             completions.{exits}\n\n",
            "", self.grub.version
        ))
        .await;
        self.serve().await
    }

    async fn execute(&mut self, words: &[&str]) -> Flow<Outcome<()>> {
        let Some((&name, args)) = words.split_first() else { return Ok(Ok(())) };
        // Built for x86 it has no device trees.
        let has = |name: &str| name != "devicetree" || self.grub.arch != Arch::X86;
        if let Some((_, run)) = find(COMMANDS, name).filter(|(name, _)| has(name)) {
            return run(self, name, args).await;
        }
        Ok(match name.split_once('=') {
            Some((variable, value)) if !variable.is_empty() => {
                self.variables.insert(variable.into(), value.into());
                Ok(())
            }
            _ => {
                self.machine.ledger.violation("unknown-command", words.join(" "));
                Err(format!("can't find command `{name}'"))
            }
        })
    }

    async fn echo(&mut self, args: &[&str]) -> Outcome<()> {
        let (end, args) = args.strip_prefix(&["-n"]).map_or(("\n", args), |args| ("", args));
        self.print(args.join(" ") + end).await;
        Ok(())
    }

    fn unset(&mut self, args: &[&str]) -> Outcome<()> {
        for name in args {
            self.variables.remove(*name);
        }
        Ok(())
    }

    async fn net_ls_cards(&mut self) -> Outcome<()> {
        if !self.unloaded.contains("efinet") {
            self.print(format!("{} {}\n", self.grub.card, self.grub.mac)).await;
        }
        Ok(())
    }

    async fn net_ls_addr(&mut self) -> Outcome<()> {
        if let Some(address) = self.machine.net.address {
            self.print(format!("{} {} {address} \n", self.grub.card, self.grub.mac)).await;
        }
        Ok(())
    }

    async fn net_ls_routes(&mut self) -> Outcome<()> {
        if self.machine.net.address.is_some() {
            self.print(format!("{0}:local 192.168.77.0/24 {0}\n", self.grub.card)).await;
        }
        Ok(())
    }

    async fn chainloader(&mut self, name: &str, args: &[&str]) -> Outcome<()> {
        let Some(file) = args.first() else { return Err("filename expected".into()) };
        self.open(file, name).await.and(Err("cannot load image".into()))
    }

    async fn set(&mut self, args: &[&str]) -> Outcome<()> {
        let Some(arg) = args.first() else {
            let mut list = String::new();
            for (name, value) in &self.variables {
                let _ = writeln!(list, "{name}={value}");
            }
            self.print(list).await;
            return Ok(());
        };
        match arg.split_once('=') {
            Some((name, value)) => {
                self.variables.insert(name.into(), value.into());
                Ok(())
            }
            None => match self.variables.get(*arg).cloned() {
                Some(value) => {
                    self.print(format!("{arg}={value}\n")).await;
                    Ok(())
                }
                None => Err("variable isn't set".into()),
            },
        }
    }

    fn insmod(&mut self, args: &[&str]) -> Outcome<()> {
        let Some(name) = args.first() else { return Err("one argument expected".into()) };
        if !MODULES.contains(name) {
            self.machine.ledger.violation("unknown-module", *name);
            let platform = match self.grub.arch {
                Arch::X86 => "x86_64-efi",
                Arch::Arm => "arm-efi",
                Arch::Arm64 => "arm64-efi",
                Arch::Riscv => "riscv64-efi",
            };
            return Err(format!("file '/grub/{platform}/{name}.mod' not found"));
        }
        self.unloaded.remove(*name);
        Ok(())
    }

    async fn ls(&mut self, args: &[&str]) -> Outcome<()> {
        let Some(path) = args.iter().find(|arg| !arg.starts_with('-')) else {
            self.print("(proc)\n").await;
            return Ok(());
        };
        match device(path) {
            // TFTP and HTTP list nothing.
            Some((device, _)) if device.starts_with("tftp") || device.starts_with("http") => Ok(()),
            Some((device, _)) => Err(format!("disk '{device}' not found")),
            None => Ok(()),
        }
    }

    /// Gets an address; the server that came with it.
    async fn dhcp(&mut self) -> Outcome<IpAddr> {
        let Some(lease) = self.machine.net.dhcp().await else {
            // grub-core/net/bootp.c
            return Err(format!("couldn't autoconfigure {}", self.grub.card));
        };
        for (name, value) in [
            ("net_default_interface", format!("{}:dhcp", self.grub.card)),
            ("net_default_ip", lease.address.to_string()),
            ("net_default_mac", self.grub.mac.clone()),
            ("net_default_server", lease.server.to_string()),
        ] {
            self.variables.insert(name.into(), value);
        }
        Ok(lease.server)
    }

    async fn net_bootp(&mut self, args: &[&str]) -> Outcome<()> {
        let known = args.first().is_none_or(|card| *card == self.grub.card);
        if !known || self.unloaded.contains("efinet") {
            self.machine.ledger.violation("no-ethernet", format!("net_bootp {}", args.join(" ")));
            return Err("no network card found".into());
        }
        self.dhcp().await.map(|_| ())
    }

    fn net_add_addr(&mut self, args: &[&str]) -> Outcome<()> {
        let [_, card, address, ..] = args else { return Err("three arguments expected".into()) };
        if *card != self.grub.card || self.unloaded.contains("efinet") {
            return Err("card not found".into());
        }
        let Ok(address) = address.parse() else {
            return Err(format!("unrecognised network address `{address}'"));
        };
        self.machine.net.address = Some(address);
        self.machine.ledger.take(Event::Network { method: "static".into() });
        Ok(())
    }

    /// Reads a file: `(tftp,SERVER)/path`, `(http,SERVER:PORT)/path`, `(hd0,gpt1)/path`, or on `$root`.
    async fn open(&mut self, file: &str, load: &str) -> Outcome<Vec<u8>> {
        let root = self.variables.get("root").cloned();
        let (device, path) = match (device(file), root) {
            (Some((device, path)), _) => (device.to_owned(), path),
            (None, _) if file.starts_with('(') => return Err("missing `)' symbol".into()),
            (None, Some(root)) => (root, file),
            (None, None) => return Err("variable `root' isn't set".into()),
        };
        let is_named = |disk: &&Disk| disk.grub_name().is_some_and(|name| name == device);
        if let Some(disk) = self.machine.disks.iter().find(is_named) {
            return match disk.file(path) {
                Some(content) => Ok(content.to_vec()),
                None if !disk.has_file_system() => Err("unknown filesystem".into()),
                None => {
                    self.machine.ledger.violation("no-such-file", file);
                    Err(format!("file '{path}' not found"))
                }
            };
        }
        let (protocol, server) = match device.split_once(',') {
            Some((protocol, server)) => (protocol, server.to_owned()),
            None => (device.as_str(), self.variables.get("net_default_server").cloned().unwrap_or_default()),
        };
        if !matches!(protocol, "tftp" | "http" | "pxe") || self.unloaded.contains(protocol) {
            self.machine.ledger.violation("no-such-disk", &device);
            return Err(format!("disk '{device}' not found"));
        }
        if server.is_empty() {
            self.machine.ledger.violation("no-server", file);
            return Err("no server is specified".into());
        }
        if self.machine.net.address.is_none() {
            self.machine.ledger.violation("fetch-before-dhcp", path);
            return Err("destination unreachable".into());
        }
        let fetched = if protocol == "http" {
            self.machine.net.http(&format!("http://{server}/{}", path.trim_start_matches('/')), load).await
        } else {
            self.machine.net.tftp(&server, path.trim_start_matches('/'), load).await
        };
        fetched.map_err(|error| match error {
            FetchError::NotFound(_) => format!("file '{path}' not found"),
            FetchError::Timeout(_) => format!("time out opening '{path}'"),
            FetchError::Refused(text) | FetchError::Tftp(_, text) => text,
            FetchError::Bad(_) => format!("timeout reading '{path}'"),
        })
    }

    async fn load_linux(&mut self, name: &str, args: &[&str]) -> Outcome<()> {
        let Some((file, args)) = args.split_first() else { return Err("filename expected".into()) };
        // What was loaded before is gone, also when this fails.
        self.linux = None;
        let mut kernel = self.open(file, name).await?;
        if compress::Format::of(&kernel) == compress::Format::Gzip && !self.unloaded.contains("gzio") {
            kernel = match compress::decompress(&kernel, kernel::MAX_KERNEL) {
                Ok(plain) => plain.into_owned(),
                Err(_) => return Err(format!("premature end of file {file}")),
            };
        }
        match self.grub.arch.kernel().check(&kernel) {
            Ok(_) => {}
            Err(kernel::Error::Truncated { .. }) => return Err(format!("premature end of file {file}")),
            Err(_) => return Err("invalid magic number".into()),
        }
        let mut cmdline = format!("BOOT_IMAGE={file}");
        for arg in args {
            cmdline.push(' ');
            if arg.contains(' ') {
                let _ = write!(cmdline, "\"{arg}\"");
            } else {
                cmdline.push_str(arg);
            }
        }
        self.linux = Some(BootImage { kernel, cmdline, ..BootImage::default() });
        Ok(())
    }

    async fn load_initrd(&mut self, name: &str, args: &[&str]) -> Outcome<()> {
        if args.is_empty() {
            return Err("filename expected".into());
        }
        if self.linux.is_none() {
            return Err("you need to load the kernel first".into());
        }
        let mut ramdisk = Vec::new();
        for file in args {
            ramdisk.extend(self.open(file, name).await?);
            // Each part of an initrd starts at a multiple of four.
            ramdisk.resize(ramdisk.len().next_multiple_of(4), 0);
        }
        if let Some(linux) = &mut self.linux {
            linux.ramdisk = Some(ramdisk);
        }
        Ok(())
    }

    async fn load_devicetree(&mut self, args: &[&str]) -> Outcome<()> {
        let Some(file) = args.first() else { return Err("filename expected".into()) };
        let dtb = self.open(file, "devicetree").await?;
        if fdt::parse(&dtb).is_err() {
            return Err("invalid device tree".into());
        }
        self.dtb = Some(dtb);
        Ok(())
    }

    async fn boot(&mut self) -> Flow<Outcome<()>> {
        let Some(image) = self.linux.take() else {
            return Ok(Err("you need to load the kernel first".into()));
        };
        if self.grub.blind {
            self.print("error: no suitable video mode found.\nBooting in blind mode\n").await;
        }
        Err(Next::Boot(BootImage { dtb: self.dtb.take(), ..image }))
    }

    /// Runs the commands of a file.
    async fn configfile(&mut self, args: &[&str]) -> Flow<Outcome<()>> {
        let Some(file) = args.first() else { return Ok(Err("filename expected".into())) };
        if self.depth >= DEPTH {
            return Ok(Err("maximum recursion depth exceeded".into()));
        }
        let text = match self.open(file, "configfile").await {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => return Ok(Err(error)),
        };
        self.depth += 1;
        for line in text.lines() {
            Box::pin(self.line(line)).await?;
        }
        self.depth -= 1;
        Ok(Ok(()))
    }
}

fn test(args: &[&str]) -> Outcome<()> {
    match args.strip_suffix(&["]"]).unwrap_or(args) {
        ["-n", text] if !text.is_empty() => Ok(()),
        ["-z", ""] => Ok(()),
        [left, "=" | "==", right] if left == right => Ok(()),
        [left, "!=", right] if left != right => Ok(()),
        _ => Err("false".into()),
    }
}

/// `(device)/path` taken apart.
fn device(file: &str) -> Option<(&str, &str)> {
    file.strip_prefix('(')?.split_once(')')
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, tftp_server};
    use super::*;

    const PROMPT: &str = "grub> ";

    fn board(more: &str) -> String {
        format!("model: UP Squared\nfirmware:\n  kind: grub\n  arch: x86\n{more}")
    }

    const MUSTANG: &str = "
model: X-Gene Mustang
firmware:
  kind: grub-efi
  arch: arm64
  pxe: true
  uefi: {menu: [Linux from SD, Shell, LAVA PXE Grub], grub: LAVA PXE Grub}
";

    fn bzimage() -> Vec<u8> {
        kernel::write(kernel::Format::X86BzImage, "Linux version 6.1", 4096)
    }

    fn image() -> Vec<u8> {
        kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096)
    }

    fn dtb() -> Vec<u8> {
        fdt::Fdt { root: fdt::Node::new(""), reserved: Vec::new(), boot_cpu: 0 }.to_bytes().unwrap()
    }

    async fn server() -> String {
        tftp_server(&[
            ("7/bzImage", &bzimage()),
            ("7/Image", &image()),
            ("7/Image.gz", &compress::gzip(&image()).unwrap()),
            ("7/ramdisk.cpio.gz", b"ramdisk!"),
            ("7/x.dtb", &dtb()),
            ("7/grub.cfg", b"# booted from the net\nset who=me\necho hello $who\n"),
        ])
        .await
    }

    async fn at_prompt(more: &str) -> Bench {
        let mut bench = Bench::start(&board(more)).await;
        bench.expect("for a command-line").await;
        bench.send("c").await;
        bench.expect(PROMPT).await;
        bench
    }

    #[tokio::test]
    async fn linux_starts_with_what_was_fetched() {
        let server = server().await;
        let mut bench = at_prompt("").await;
        for line in [
            "net_bootp",
            "clear",
            "insmod linux",
            "insmod tftp",
            &format!("linux (tftp,{server})/7/bzImage console=ttyS0,115200  ip=dhcp "),
            &format!("initrd (tftp,{server})/7/ramdisk.cpio.gz"),
        ] {
            assert_eq!(bench.command(line, PROMPT).await, "");
        }
        bench.send("boot\n").await;
        let booted = bench.booted().await;
        assert_eq!(booted.kernel, bzimage());
        assert_eq!(booted.ramdisk.as_deref(), Some(&b"ramdisk!"[..]));
        assert_eq!(
            booted.cmdline,
            format!("BOOT_IMAGE=(tftp,{server})/7/bzImage console=ttyS0,115200 ip=dhcp")
        );
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn a_key_that_came_before_the_menu_opens_the_command_line_too() {
        let server = server().await;
        let mut bench = Bench::start(&board("  lines: [SecStartup]\n  blind: true")).await;
        bench.expect("SecStartup").await;
        bench.send("c").await;
        bench.expect(PROMPT).await;
        bench.command(&format!("net_bootp; set net_default_server={server}"), PROMPT).await;
        assert_eq!(bench.command("linux (tftp)/7/bzImage root=/dev/ram0", PROMPT).await, "");
        bench.send("boot\n").await;
        bench.expect("Booting in blind mode").await;
        assert_eq!(bench.booted().await.cmdline, "BOOT_IMAGE=(tftp)/7/bzImage root=/dev/ram0");
    }

    #[tokio::test]
    async fn grub_is_chosen_in_the_menu_of_the_uefi() {
        let server = server().await;
        let mut bench = Bench::start(MUSTANG).await;
        bench.expect("The default boot selection will start in").await;
        bench.send(" ").await;
        let menu = bench.expect("Start:").await;
        assert!(menu.contains("[3] LAVA PXE Grub\n"), "{menu}");
        bench.send("3\r\n").await;
        bench.expect("for a command-line").await;
        // LAVA's line end is CR LF by now: two empty lines.
        bench.send("c").await;
        bench.send("\r\n").await;
        bench.send(&format!("insmod gzio\r\nlinux (tftp,{server})/7/Image.gz debug\r\n")).await;
        bench.send(&format!("devicetree (tftp,{server})/7/x.dtb\r\nboot\r\n")).await;
        let booted = bench.booted().await;
        assert_eq!((booted.kernel, booted.dtb), (image(), Some(dtb())));
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn another_key_only_stops_the_countdown_and_the_entry_boots_nothing() {
        let mut bench = Bench::start(&board("  timeout: 1")).await;
        bench.expect("executed automatically in 1s.").await;
        let seen = bench.expect("Press any key to continue...").await;
        assert!(seen.contains("Booting `GNU/Linux'\n\nerror: disk 'hd0,gpt1' not found."), "{seen}");
        bench.send("x").await;
        let menu = bench.expect("for a command-line.\n").await;
        assert!(!menu.contains("automatically"), "{menu}");
        bench.send("xc").await;
        bench.expect(PROMPT).await;
    }

    #[tokio::test]
    async fn without_a_menu_the_command_line_comes_by_itself() {
        let mut bench = Bench::start(&board("  menu: []\n  unloaded: [efinet, tftp]")).await;
        bench.expect(PROMPT).await;
        assert_eq!(bench.command("net_bootp", PROMPT).await, "error: no network card found.\n");
        bench.command("insmod efinet; net_bootp efinet0", PROMPT).await;
        assert_eq!(
            bench.command("linux (tftp,1.2.3.4)/x", PROMPT).await,
            "error: disk 'tftp,1.2.3.4' not found.\n"
        );
        assert_eq!(
            bench.command("insmod tftpp", PROMPT).await,
            "error: file '/grub/x86_64-efi/tftpp.mod' not found.\n"
        );
        assert_eq!(bench.violations(), ["no-ethernet", "no-such-disk", "unknown-module"]);
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_as_grub_does() {
        let server = server().await;
        let mut bench = at_prompt("").await;
        for (line, error) in [
            ("boot", "you need to load the kernel first"),
            ("initrd (tftp,1.2.3.4)/x", "you need to load the kernel first"),
            ("linux", "filename expected"),
            ("linux (tftp,1.2.3.4)/x", "destination unreachable"),
            ("linux /vmlinuz", "variable `root' isn't set"),
            ("linux (tftp,1.2.3.4/x", "missing `)' symbol"),
            ("linux (hd0,gpt1)/x", "disk 'hd0,gpt1' not found"),
            ("net_bootp eth7", "no network card found"),
            ("devicetree x", "can't find command `devicetree'"),
            ("lunix x", "can't find command `lunix'"),
        ] {
            assert_eq!(bench.command(line, PROMPT).await, format!("error: {error}.\n"), "{line}");
        }
        bench.command("net_bootp", PROMPT).await;
        let seen = bench.command(&format!("linux (tftp,{server})/7/nothing"), PROMPT).await;
        assert_eq!(seen, "error: file '/7/nothing' not found.\n");
        let seen = bench.command(&format!("linux (tftp,{server})/7/Image"), PROMPT).await;
        assert_eq!(seen, "error: invalid magic number.\n");
        let seen = bench.command("boot", PROMPT).await;
        assert_eq!(seen, "error: you need to load the kernel first.\n");
    }

    #[tokio::test]
    async fn variables_and_files_of_commands_work() {
        let server = server().await;
        let mut bench = at_prompt("  pxe: true").await;
        let seen =
            bench.command(&format!("configfile (tftp,{server})/7/grub.cfg; echo ${{who}}2"), PROMPT).await;
        assert_eq!(seen, "hello me\nme2\n");
        let seen = bench.command("net_ls_addr", PROMPT).await;
        assert!(seen.starts_with("efinet0 02:00:00:00:00:01 192.168.77."), "{seen}");
        assert_eq!(bench.command("x=1; set y=$x; test $y = 1 && echo same", PROMPT).await, "same\n");
    }

    #[tokio::test]
    async fn a_reset_in_the_middle_forgets_the_kernel() {
        let server = server().await;
        let mut bench = at_prompt("").await;
        bench.command("net_bootp", PROMPT).await;
        bench.command(&format!("linux (tftp,{server})/7/bzImage"), PROMPT).await;
        bench.reset().await;
        bench.expect("for a command-line").await;
        bench.send("c").await;
        bench.expect(PROMPT).await;
        assert_eq!(bench.command("boot", PROMPT).await, "error: you need to load the kernel first.\n");
        bench.send("reboot\n").await;
        assert!(matches!(bench.next().await, Next::Reset));
    }

    #[test]
    fn the_menu_of_the_uefi_belongs_to_grub_efi() {
        let load = |text: &str| super::super::load("a", text).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(load(MUSTANG), Ok(()));
        assert!(load(&MUSTANG.replace("grub-efi", "grub")).unwrap_err().contains("only grub-efi"));
        assert!(load(&MUSTANG.replace("grub: LAVA", "grub: LEVA")).unwrap_err().contains("not in the menu"));
        assert!(load(&board("").replace("kind: grub", "kind: grub-efi")).unwrap_err().contains("uefi"));
    }
}
