//! iPXE: settings, images, scripts.
//!
//! Behaviour and messages follow iPXE 1.21.1: `src/usr/autoboot.c`, `src/usr/prompt.c`,
//! `src/core/exec.c`, `src/core/settings.c`, `src/hci/commands/`, `src/image/script.c`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::arch::Arch;
use super::shell::words::{Joint, Statement, SyntaxError};
use super::shell::{Command, Shell, Work, done, ends, find, work};
use super::{BootImage, Firmware, FirmwareKind, Flow, Next};
use crate::board::BoardError;
use crate::machine::Machine;
use crate::net::FetchError;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "ipxe",
    about: "iPXE: dhcp, set, kernel, initrd, chain, scripts",
    load: |name, text| {
        let (board, ipxe) = crate::board::parse::<Ipxe>(name, text)?;
        if ipxe.interfaces.is_empty() {
            return Err(BoardError::Firmware("interfaces: an iPXE without a network boots nothing".into()));
        }
        Ok((board, Box::new(ipxe)))
    },
};

/// Settings of an iPXE, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipxe {
    #[serde(rename = "kind")]
    _kind: String,
    /// What the board prints before iPXE starts.
    #[serde(default)]
    lines: Vec<String>,
    /// First line.
    #[serde(default = "default_banner")]
    banner: String,
    /// What the second line lists.
    #[serde(default = "default_features")]
    features: String,
    /// Prompt, with its blank.
    #[serde(default = "default_prompt")]
    prompt: String,
    /// Seconds that Ctrl-B is waited for.
    #[serde(default = "default_timeout")]
    timeout: u32,
    #[serde(default = "default_arch")]
    arch: Arch,
    /// Names of the network interfaces.
    #[serde(default = "default_interfaces")]
    interfaces: Vec<String>,
    /// Hardware address of the first one.
    #[serde(default = "default_mac")]
    mac: String,
}

fn default_banner() -> String {
    "iPXE 1.21.1 -- Open Source Network Boot Firmware -- https://ipxe.org".into()
}

fn default_features() -> String {
    "DNS HTTP iSCSI TFTP VLAN bzImage Menu PXEXT".into()
}

fn default_prompt() -> String {
    "iPXE> ".into()
}

fn default_timeout() -> u32 {
    2
}

fn default_arch() -> Arch {
    Arch::X86
}

fn default_interfaces() -> Vec<String> {
    vec!["net0".into()]
}

fn default_mac() -> String {
    "02:00:00:00:00:01".into()
}

#[async_trait]
impl Firmware for Ipxe {
    async fn run(&self, machine: &mut Machine) -> Next {
        let mut shell = IpxeShell {
            ipxe: self,
            machine,
            settings: BTreeMap::new(),
            images: Vec::new(),
            selected: None,
            directory: None,
            next_server: None,
            jump: None,
            exit: false,
            status: Ok(()),
            depth: 0,
        };
        match shell.run().await {
            Ok(next) | Err(next) => next,
        }
    }
}

/// `strerror`, with the address that iPXE prints behind it.
type Error = &'static str;

/// The errors that iPXE has a text for, by where they come from.
mod errors {
    use super::Error;

    pub const BOOT_NOTHING: Error = "No such file or directory (https://ipxe.org/2d03e13b)";
    pub const CANCELED: Error = "Operation canceled (https://ipxe.org/0b8080a0)";
    pub const FALSE: Error = "Operation not permitted (https://ipxe.org/41003a3b)";
    pub const FORMAT: Error = "Exec format error (https://ipxe.org/2e008081)";
    pub const HTTP_NOT_FOUND: Error = "No such file or directory (https://ipxe.org/2d0c613b)";
    pub const INVALID: Error = "Invalid argument (https://ipxe.org/1c056002)";
    pub const IO: Error = "Input/output error (https://ipxe.org/1d0c6539)";
    pub const NO_COMMAND: Error = "Exec format error (https://ipxe.org/2e022001)";
    pub const NO_CONFIGURATION: Error = "No configuration methods succeeded (https://ipxe.org/040ee119)";
    pub const NO_IMAGE: Error = "No such file or directory (https://ipxe.org/2d048001)";
    pub const NO_LABEL: Error = "No such file or directory (https://ipxe.org/2d2ec03b)";
    pub const NO_SETTING: Error = "No such file or directory (https://ipxe.org/2d03613b)";
    pub const REFUSED: Error = "Operation not supported (https://ipxe.org/3c126003)";
    pub const SCHEME: Error = "Operation not supported (https://ipxe.org/3c092003)";
    pub const TFTP_NOT_FOUND: Error = "No such file or directory (https://ipxe.org/2d12603b)";
    pub const TIMED_OUT: Error = "Connection timed out (https://ipxe.org/4c126035)";
    pub const UNREACHABLE: Error = "Network unreachable (https://ipxe.org/28086011)";
}

fn isset(args: &[&str]) -> Outcome {
    args.first().filter(|text| !text.is_empty()).map(drop).ok_or(errors::FALSE)
}

fn iseq(args: &[&str]) -> Outcome {
    match args {
        [left, right] if left == right => Ok(()),
        _ => Err(errors::FALSE),
    }
}

/// A file that was downloaded.
#[derive(Debug, Clone)]
struct Image {
    name: String,
    uri: String,
    bytes: Vec<u8>,
    cmdline: String,
}

/// What an image can be executed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ImageType {
    Kernel,
    Script,
}

/// How deep scripts may chain.
const DEPTH: u32 = 16;

/// Lines that a script may run: one that loops for ever must not keep a core busy.
const SCRIPT_STEPS: usize = 10_000;

/// Rounds of expansion, and bytes it may come to: a setting may name itself.
const EXPANSIONS: usize = 64;
const LONGEST: usize = 64 << 10;

type Outcome = Result<(), Error>;
type Run = for<'s, 'm> fn(&'s mut IpxeShell<'m>, &'s str, &'s [&'s str]) -> Work<'s, Outcome>;

const COMMANDS: &[Command<Run>] = &[
    ("autoboot", |shell, _, _| work(shell.autoboot())),
    ("boot", |shell, _, args| Box::pin(shell.boot(args))),
    ("chain", |shell, _, args| Box::pin(shell.boot(args))),
    ("clear", |shell, _, args| done(shell.clear(args))),
    ("colour", |_, _, _| done(Ok(()))),
    ("console", |_, _, _| done(Ok(()))),
    ("cpair", |_, _, _| done(Ok(()))),
    ("dhcp", |shell, _, args| work(shell.ifconf(args))),
    ("echo", |shell, _, args| work(shell.echo(args))),
    ("exit", |shell, _, args| done(shell.exit(args))),
    ("goto", |shell, _, args| done(shell.goto(args))),
    ("help", |shell, _, _| shell.help()),
    ("ifclose", |shell, _, args| work(shell.ifopen(args))),
    ("ifconf", |shell, _, args| work(shell.ifconf(args))),
    ("ifopen", |shell, _, args| work(shell.ifopen(args))),
    ("ifstat", |shell, _, args| work(shell.ifstats(args))),
    ("imgargs", |shell, name, args| work(shell.imgargs(name, args))),
    ("imgexec", |shell, _, args| Box::pin(shell.boot(args))),
    ("imgfetch", |shell, name, args| work(shell.imgfetch(name, args))),
    ("imgfree", |shell, _, args| work(shell.imgfree(args))),
    ("imgload", |shell, _, args| work(shell.select(args))),
    ("imgselect", |shell, _, args| work(shell.select(args))),
    ("imgstat", |shell, _, args| work(shell.imgstat(args))),
    ("initrd", |shell, name, args| work(shell.imgfetch(name, args))),
    ("iseq", |_, _, args| done(iseq(args))),
    ("isset", |_, _, args| done(isset(args))),
    ("kernel", |shell, _, args| work(shell.select(args))),
    ("module", |shell, name, args| work(shell.imgfetch(name, args))),
    ("poweroff", |_, _, _| ends(Next::PowerOff)),
    ("prompt", |shell, _, args| work(shell.ask(args))),
    ("reboot", |_, _, _| ends(Next::Reset)),
    ("route", |shell, _, _| work(shell.route())),
    ("sanboot", |shell, _, _| work(shell.sanboot())),
    ("set", |shell, name, args| work(shell.set(name, args))),
    ("shell", |shell, _, _| Box::pin(shell.nested())),
    ("show", |shell, _, args| work(shell.show(args))),
    ("sleep", |_, _, _| done(Ok(()))),
];

/// An iPXE between its start and boot.
struct IpxeShell<'m> {
    ipxe: &'m Ipxe,
    machine: &'m mut Machine,
    settings: BTreeMap<String, String>,
    images: Vec<Image>,
    /// Name of the image that `kernel` chose.
    selected: Option<String>,
    /// What relative addresses start with: of the script that runs, or DHCP's server.
    directory: Option<String>,
    /// The server that DHCP named last.
    next_server: Option<IpAddr>,
    /// The label that `goto` wants.
    jump: Option<String>,
    /// Whether `exit` ends the script or the shell.
    exit: bool,
    /// How the last command ended.
    status: Outcome,
    depth: u32,
}

#[async_trait]
impl Shell for IpxeShell<'_> {
    const INTERRUPTED: &'static str = "\n";

    fn machine(&mut self) -> &mut Machine {
        self.machine
    }

    fn prompt(&self) -> String {
        self.ipxe.prompt.clone()
    }

    /// A setting; its name may have a scope (`net0/ip`) and a type (`mac:hexhyp`).
    fn variable(&self, name: &str) -> Option<String> {
        let (name, kind) = name.split_once(':').unwrap_or((name, ""));
        let plain = match name.rsplit_once('/') {
            Some((scope, plain)) if self.interface(scope.split('.').next().unwrap_or_default()) => plain,
            _ => name,
        };
        let address = self.machine.net.address.map(|address| address.to_string());
        let value = match plain {
            "mac" => Some(self.ipxe.mac.clone()),
            "ip" if !self.settings.contains_key("ip") => address,
            "buildarch" => Some(format!("{:?}", self.ipxe.arch).to_lowercase()),
            "version" => self.ipxe.banner.split_whitespace().nth(1).map(str::to_owned),
            _ => self.settings.get(plain).cloned(),
        };
        value.map(|value| if kind == "hexhyp" { value.replace(':', "-") } else { value })
    }

    /// Words are split at blanks only, and expanded when they are run.
    fn parse(&self, line: &str) -> Result<Vec<Statement>, SyntaxError> {
        let mut statements = Vec::new();
        let mut words = Vec::new();
        for word in line.split_whitespace().take_while(|word| !word.starts_with('#')) {
            let joint = match word {
                "||" => Joint::Or,
                "&&" => Joint::And,
                ";" => Joint::Always,
                _ => {
                    words.push(word);
                    continue;
                }
            };
            statements.push(Statement::literal(words.drain(..), joint));
        }
        if !words.is_empty() {
            statements.push(Statement::literal(words, Joint::Always));
        }
        Ok(statements)
    }

    fn expand(&self, statement: &Statement) -> Vec<String> {
        statement.expand(|_| None).iter().map(|word| self.expand_word(word)).collect()
    }

    async fn syntax_error(&mut self, _: SyntaxError) {}

    fn skips_rest(&self) -> bool {
        self.exit || self.jump.is_some()
    }

    fn left(&mut self) -> bool {
        std::mem::take(&mut self.exit)
    }

    async fn command(&mut self, words: &[&str]) -> Flow<bool> {
        self.status = self.execute(words).await?;
        Ok(self.status.is_ok())
    }
}

impl IpxeShell<'_> {
    async fn run(&mut self) -> Flow<Next> {
        let mut text = String::new();
        for line in &self.ipxe.lines {
            text.push_str(line);
            text.push('\n');
        }
        let _ = writeln!(text, "\n\n{}\nFeatures: {}", self.ipxe.banner, self.ipxe.features);
        self.print(text).await;
        let mut shell = self.wants_shell().await;
        if !shell {
            let _ = self.autoboot().await;
            shell = self.wants_shell().await;
        }
        if shell {
            self.serve().await?;
        }
        // Back to the BIOS, which has nothing else.
        self.print("\nNo bootable device.\n").await;
        Ok(Next::Hang)
    }

    /// Whether Ctrl-B was the first key.
    async fn wants_shell(&mut self) -> bool {
        const TEXT: &str = "Press Ctrl-B for the iPXE command line...";
        self.print(format!("\n{TEXT}")).await;
        let wait = self.machine.countdown(self.ipxe.timeout);
        let key = self.machine.console().key(wait).await;
        self.print("\x08 \x08".repeat(TEXT.len())).await;
        key == Some(0x02)
    }

    /// Boots from the network, as DHCP says; here it never names a file.
    async fn autoboot(&mut self) -> Result<(), Error> {
        for interface in self.ipxe.interfaces.clone() {
            self.ifstat(&interface).await;
            // What fails is told, and the next thing is tried.
            let _ = self.dhcp(&interface).await;
            let server = self.settings.get("next-server").cloned().unwrap_or_default();
            self.print(format!("Next server: {server}\nNothing to boot: {}\n", errors::BOOT_NOTHING)).await;
        }
        self.print("No more network devices\n").await;
        Err(errors::BOOT_NOTHING)
    }

    /// Runs a line; how its last command ended.
    async fn system(&mut self, line: &str) -> Flow<Outcome> {
        self.status = Ok(());
        self.line(line).await?;
        Ok(self.status)
    }

    /// Replaces `${settings}`, also those that come out of others.
    fn expand_word(&self, word: &str) -> String {
        let mut text = word.to_owned();
        for _ in 0..EXPANSIONS {
            let Some(end) = text.find("${").and_then(|start| Some(start + text.get(start..)?.find('}')?))
            else {
                break;
            };
            // The innermost: `${a${b}}`.
            let Some(start) = text.get(..end).and_then(|head| head.rfind("${")) else { break };
            let value = self.variable(text.get(start + 2..end).unwrap_or_default()).unwrap_or_default();
            text.replace_range(start..=end, &value);
            if text.len() > LONGEST {
                break;
            }
        }
        text
    }

    fn interface(&self, name: &str) -> bool {
        self.ipxe.interfaces.iter().any(|interface| interface == name)
    }

    async fn execute(&mut self, words: &[&str]) -> Flow<Outcome> {
        let Some((&name, args)) = words.split_first() else { return Ok(Ok(())) };
        match find(COMMANDS, name) {
            Some((_, run)) => run(self, name, args).await,
            None => {
                self.machine.ledger.violation("unknown-command", words.join(" "));
                self.print(format!("{name}: command not found\n")).await;
                Ok(Err(errors::NO_COMMAND))
            }
        }
    }

    async fn imgfetch(&mut self, name: &str, args: &[&str]) -> Outcome {
        match self.arguments(name, args).await {
            Some((uri, cmdline, _)) => self.download(&uri, &cmdline).await.map(drop),
            None => Err(errors::INVALID),
        }
    }

    async fn imgargs(&mut self, name: &str, args: &[&str]) -> Outcome {
        let Some((uri, cmdline, _)) = self.arguments(name, args).await else { return Err(errors::INVALID) };
        let index = self.acquire(&uri).await?;
        if let Some(image) = self.images.get_mut(index) {
            image.cmdline = cmdline;
        }
        Ok(())
    }

    async fn ifopen(&mut self, args: &[&str]) -> Outcome {
        self.interfaces(args).await.map(drop)
    }

    async fn ifstats(&mut self, args: &[&str]) -> Outcome {
        for interface in self.interfaces(args).await? {
            self.ifstat(&interface).await;
        }
        Ok(())
    }

    async fn route(&mut self) -> Outcome {
        let address = self.machine.net.address;
        if let (Some(address), Some(interface)) = (address, self.ipxe.interfaces.first()) {
            self.print(format!("{interface}: {address}/255.255.255.0\n")).await;
        }
        Ok(())
    }

    async fn set(&mut self, name: &str, args: &[&str]) -> Outcome {
        match args {
            [setting, values @ ..] => {
                self.settings.insert(plain_name(setting).to_owned(), values.join(" "));
                Ok(())
            }
            [] => self.usage(name, "<setting> <value>").await,
        }
    }

    fn clear(&mut self, args: &[&str]) -> Outcome {
        for name in args {
            self.settings.remove(plain_name(name));
        }
        Ok(())
    }

    async fn echo(&mut self, args: &[&str]) -> Outcome {
        let (end, args) = args.strip_prefix(&["-n"]).map_or(("\n", args), |args| ("", args));
        self.print(args.join(" ") + end).await;
        Ok(())
    }

    /// `prompt`: prints its text and waits for a key.
    async fn ask(&mut self, args: &[&str]) -> Outcome {
        let words = args.iter().filter(|arg| !arg.starts_with("--"));
        let text = words.copied().collect::<Vec<_>>().join(" ");
        self.print(&text).await;
        let key = self.machine.console().key(Duration::from_secs(u32::MAX.into())).await;
        self.print("\x08 \x08".repeat(text.len())).await;
        if key == Some(0x03) { Err(errors::CANCELED) } else { Ok(()) }
    }

    fn goto(&mut self, args: &[&str]) -> Outcome {
        self.jump = args.first().map(|label| (*label).to_owned());
        if self.depth > 0 { Ok(()) } else { Err(errors::NO_LABEL) }
    }

    fn exit(&mut self, args: &[&str]) -> Outcome {
        self.exit = true;
        if args.first().is_none_or(|status| *status == "0") { Ok(()) } else { Err(errors::CANCELED) }
    }

    /// `shell`: a prompt until `exit`, also in the middle of a script.
    async fn nested(&mut self) -> Flow<Outcome> {
        if self.depth < DEPTH {
            self.depth += 1;
            self.serve().await?;
            self.depth -= 1;
        }
        Ok(Ok(()))
    }

    async fn sanboot(&mut self) -> Outcome {
        self.print(format!("Could not open SAN device: {}\n", errors::SCHEME)).await;
        Err(errors::SCHEME)
    }

    fn help(&mut self) -> Work<'_, Outcome> {
        let mut text = String::from("\nAvailable commands:\n\n");
        for row in COMMANDS.chunks(5) {
            for (name, _) in row {
                let _ = write!(text, "  {name:14}");
            }
            text.push('\n');
        }
        text.push_str("\nType \"<command> --help\" for further information\n\n");
        work(self.say(text))
    }

    async fn say(&mut self, text: String) -> Outcome {
        self.print(text).await;
        Ok(())
    }

    async fn usage(&mut self, command: &str, arguments: &str) -> Result<(), Error> {
        self.machine.ledger.violation("bad-usage", command);
        self.print(format!(
            "Usage:\n\n  {command} {arguments}\n\nSee https://ipxe.org/cmd/{command} for further information\n"
        ))
        .await;
        Err(errors::INVALID)
    }

    /// Image, command line and whether there is one, without the options before.
    async fn arguments(&mut self, command: &str, args: &[&str]) -> Option<(String, String, bool)> {
        let mut args = args;
        while let [option, rest @ ..] = args
            && option.starts_with('-')
        {
            // `--name NAME` and `--timeout MS` have an argument.
            let takes = matches!(*option, "--name" | "-n" | "--timeout" | "-t");
            args = if takes { rest.get(1..).unwrap_or_default() } else { rest };
        }
        match args {
            [uri, cmdline @ ..] => Some(((*uri).to_owned(), cmdline.join(" "), !cmdline.is_empty())),
            [] => {
                let _ = self.usage(command, "<uri|image> [<arguments>...]").await;
                None
            }
        }
    }

    /// The interfaces of these names; without names, all of them.
    async fn interfaces(&mut self, args: &[&str]) -> Result<Vec<String>, Error> {
        let names: Vec<String> =
            args.iter().filter(|arg| !arg.starts_with('-')).map(|arg| (*arg).to_owned()).collect();
        if let Some(unknown) = names.iter().find(|name| !self.interface(name)) {
            self.machine.ledger.violation("no-ethernet", unknown);
            self.print(format!("\"{unknown}\": no such network device\n")).await;
            return Err(errors::INVALID);
        }
        Ok(if names.is_empty() { self.ipxe.interfaces.clone() } else { names })
    }

    async fn ifconf(&mut self, args: &[&str]) -> Result<(), Error> {
        // Without names the first one that gets an address is enough.
        let take = if args.is_empty() { 1 } else { args.len() };
        for interface in self.interfaces(args).await?.into_iter().take(take) {
            self.dhcp(&interface).await?;
        }
        Ok(())
    }

    async fn dhcp(&mut self, interface: &str) -> Result<(), Error> {
        self.print(format!("Configuring ({interface} {})...", self.ipxe.mac)).await;
        let Some(lease) = self.machine.net.dhcp().await else {
            self.print(format!(" {}\n", errors::NO_CONFIGURATION)).await;
            return Err(errors::NO_CONFIGURATION);
        };
        for (name, value) in [
            ("ip", lease.address.to_string()),
            ("netmask", "255.255.255.0".into()),
            ("next-server", lease.server.to_string()),
            ("dhcp-server", lease.server.to_string()),
        ] {
            self.settings.insert(name.into(), value);
        }
        // Only a new server changes what relative addresses mean.
        if self.next_server.replace(lease.server) != Some(lease.server) {
            self.directory = Some(format!("tftp://{}/", lease.server));
        }
        self.print(" ok\n").await;
        Ok(())
    }

    async fn ifstat(&mut self, interface: &str) {
        let state = if self.machine.net.address.is_some() { "open" } else { "closed" };
        self.print(format!(
            "{interface}: {} using ghost on 0000:00:01.0 (Ethernet) [{state}]\n  [Link:up, TX:0 TXE:0 RX:0 RXE:0]\n",
            self.ipxe.mac
        ))
        .await;
    }

    async fn show(&mut self, args: &[&str]) -> Result<(), Error> {
        let Some(name) = args.first() else { return self.usage("show", "<setting>").await };
        match self.variable(name) {
            Some(value) => {
                self.print(format!("{name} = {value}\n")).await;
                Ok(())
            }
            None => {
                self.print(format!("Could not find \"{name}\": {}\n", errors::NO_SETTING)).await;
                Err(errors::NO_SETTING)
            }
        }
    }

    /// A relative address made whole.
    fn resolve(&self, uri: &str) -> String {
        match (&self.directory, uri.contains("://")) {
            (Some(directory), false) => match uri.strip_prefix('/') {
                Some(path) => {
                    let host = directory.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
                    format!("{host}/{path}")
                }
                None => format!("{directory}{uri}"),
            },
            _ => uri.to_owned(),
        }
    }

    /// Downloads an image; its number.
    async fn download(&mut self, uri: &str, cmdline: &str) -> Result<usize, Error> {
        let whole = self.resolve(uri);
        let (scheme, rest) = whole.split_once("://").unwrap_or_default();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !matches!(scheme, "tftp" | "http") {
            self.machine.ledger.violation("bad-uri", uri);
            self.print(format!("Could not start download: {}\n", errors::SCHEME)).await;
            return Err(errors::SCHEME);
        }
        self.print(format!("{uri}...")).await;
        let fetched = if self.machine.net.address.is_none() {
            self.machine.ledger.violation("fetch-before-dhcp", uri);
            Err(errors::UNREACHABLE)
        } else if scheme == "http" {
            self.machine.net.http(&whole, "").await.map_err(|error| match error {
                FetchError::NotFound(_) => errors::HTTP_NOT_FOUND,
                FetchError::Timeout(_) => errors::TIMED_OUT,
                FetchError::Refused(_) | FetchError::Tftp(..) | FetchError::Bad(_) => errors::IO,
            })
        } else {
            self.machine.net.tftp(host, path, "").await.map_err(|error| match error {
                FetchError::NotFound(_) => errors::TFTP_NOT_FOUND,
                FetchError::Timeout(_) => errors::TIMED_OUT,
                FetchError::Refused(_) | FetchError::Tftp(..) => errors::REFUSED,
                FetchError::Bad(_) => errors::IO,
            })
        };
        match fetched {
            Ok(bytes) => {
                self.print(" ok\n").await;
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                // The newest of a name is the one that is found.
                self.images.retain(|image| image.name != name);
                self.images.push(Image { name, uri: whole, bytes, cmdline: cmdline.to_owned() });
                Ok(self.images.len() - 1)
            }
            Err(error) => {
                self.print(format!(" {error}\n")).await;
                Err(error)
            }
        }
    }

    /// The image of this name, or a new download.
    async fn acquire(&mut self, name: &str) -> Result<usize, Error> {
        match self.images.iter().position(|image| image.name == name) {
            Some(index) => Ok(index),
            None => self.download(name, "").await,
        }
    }

    fn image_type(&self, image: &Image) -> Option<ImageType> {
        let script = image.bytes.starts_with(b"#!ipxe") || image.bytes.starts_with(b"#!gpxe");
        if script && image.bytes.get(6).is_some_and(u8::is_ascii_whitespace) {
            Some(ImageType::Script)
        } else {
            self.ipxe.arch.kernel().check(&image.bytes).is_ok().then_some(ImageType::Kernel)
        }
    }

    async fn select(&mut self, args: &[&str]) -> Result<(), Error> {
        let Some((uri, cmdline, given)) = self.arguments("kernel", args).await else {
            return Err(errors::INVALID);
        };
        let index = self.acquire(&uri).await?;
        let Some(image) = self.images.get_mut(index) else { return Err(errors::NO_IMAGE) };
        if given {
            image.cmdline = cmdline;
        }
        let image = image.clone();
        if self.image_type(&image).is_none() {
            self.print(format!("Could not select: {}\n", errors::FORMAT)).await;
            return Err(errors::FORMAT);
        }
        self.selected = Some(image.name);
        Ok(())
    }

    async fn imgstat(&mut self, args: &[&str]) -> Result<(), Error> {
        let missing = args.iter().find(|name| !self.images.iter().any(|image| image.name == **name));
        if let Some(missing) = missing {
            self.print(format!("\"{missing}\": no such image\n")).await;
            return Err(errors::NO_IMAGE);
        }
        let mut text = String::new();
        for image in self.images.iter().filter(|image| args.is_empty() || args.contains(&image.name.as_str()))
        {
            let _ = write!(text, "{} : {} bytes", image.name, image.bytes.len());
            match self.image_type(image) {
                Some(ImageType::Kernel) => text.push_str(" [bzImage]"),
                Some(ImageType::Script) => text.push_str(" [script]"),
                None => {}
            }
            if self.selected.as_ref() == Some(&image.name) {
                text.push_str(" [SELECTED]");
            }
            if !image.cmdline.is_empty() {
                let _ = write!(text, " \"{}\"", image.cmdline);
            }
            text.push('\n');
        }
        self.print(text).await;
        Ok(())
    }

    async fn imgfree(&mut self, args: &[&str]) -> Result<(), Error> {
        if args.is_empty() {
            self.images.clear();
            self.selected = None;
        }
        for name in args {
            if !self.images.iter().any(|image| image.name == *name) {
                self.print(format!("\"{name}\": no such image\n")).await;
                return Err(errors::NO_IMAGE);
            }
            self.images.retain(|image| image.name != *name);
        }
        Ok(())
    }

    async fn boot(&mut self, args: &[&str]) -> Flow<Result<(), Error>> {
        let named = args.iter().any(|arg| !arg.starts_with('-'));
        let index = if named {
            let Some((uri, cmdline, given)) = self.arguments("boot", args).await else {
                return Ok(Err(errors::INVALID));
            };
            match self.acquire(&uri).await {
                Ok(index) => {
                    if let Some(image) = self.images.get_mut(index).filter(|_| given) {
                        image.cmdline = cmdline;
                    }
                    Some(index)
                }
                Err(error) => return Ok(Err(error)),
            }
        } else {
            self.images.iter().position(|image| Some(&image.name) == self.selected.as_ref())
        };
        let Some(image) =
            index.filter(|index| *index < self.images.len()).map(|index| self.images.remove(index))
        else {
            self.print("No image selected\n").await;
            return Ok(Err(errors::NO_IMAGE));
        };
        let outcome = match self.image_type(&image) {
            Some(ImageType::Kernel) => {
                let mut ramdisk = Vec::new();
                // All other images, in order, each at a multiple of four.
                for initrd in &self.images {
                    ramdisk.extend_from_slice(&initrd.bytes);
                    ramdisk.resize(ramdisk.len().next_multiple_of(4), 0);
                }
                let ramdisk = (!ramdisk.is_empty()).then_some(ramdisk);
                return Err(Next::Boot(BootImage {
                    kernel: image.bytes,
                    cmdline: image.cmdline,
                    ramdisk,
                    dtb: None,
                }));
            }
            Some(ImageType::Script) => Box::pin(self.script(&image)).await?,
            None => Err(errors::FORMAT),
        };
        self.images.push(image);
        if let Err(error) = outcome {
            self.print(format!("Could not boot: {error}\n")).await;
        }
        Ok(outcome)
    }

    /// Runs a script, up to the first line that fails.
    async fn script(&mut self, image: &Image) -> Flow<Result<(), Error>> {
        if self.depth >= DEPTH {
            return Ok(Err(errors::IO));
        }
        let text = String::from_utf8_lossy(&image.bytes).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let directory = image.uri.rsplit_once('/').map(|(directory, _)| format!("{directory}/"));
        let outer = std::mem::replace(&mut self.directory, directory);
        self.depth += 1;
        let mut status = Ok(());
        let mut at = 0;
        for _ in 0..SCRIPT_STEPS {
            let Some(line) = lines.get(at) else { break };
            at += 1;
            let command = match line.strip_prefix(':') {
                Some(label) => label.split_once(char::is_whitespace).map_or("", |(_, command)| command),
                None => line,
            };
            status = self.system(command).await?;
            if let Some(label) = self.jump.take() {
                let found = |line: &&str| {
                    line.strip_prefix(':').and_then(|line| line.split_whitespace().next()) == Some(&label)
                };
                match lines.iter().position(found) {
                    Some(found) => at = found,
                    None => {
                        status = Err(errors::NO_LABEL);
                        break;
                    }
                }
            } else if status.is_err() || self.exit {
                break;
            }
        }
        self.exit = false;
        self.depth -= 1;
        self.directory = outer;
        Ok(status)
    }
}

/// A setting's name without its type.
fn plain_name(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::kernel;

    use super::super::testing::{Bench, tftp_server};
    use super::*;

    const BOARD: &str = "model: Intel Celeron\nfirmware: {kind: ipxe}\n";
    const PROMPT: &str = "iPXE> ";

    fn bzimage() -> Vec<u8> {
        kernel::write(kernel::Format::X86BzImage, "Linux version 6.1", 4096)
    }

    async fn server(script: &str) -> String {
        tftp_server(&[
            ("7/bzImage", &bzimage()),
            ("7/ramdisk.cpio.gz", b"ramdisk"),
            ("7/script.ipxe", script.as_bytes()),
            ("7/rubbish", b"rubbish"),
        ])
        .await
    }

    async fn at_prompt() -> Bench {
        let mut bench = Bench::start(BOARD).await;
        bench.expect("Press Ctrl-B for the iPXE command line").await;
        bench.send("\x02").await;
        bench.expect(PROMPT).await;
        bench
    }

    #[tokio::test]
    async fn linux_starts_with_the_settings_in_its_arguments() {
        let server = server("").await;
        let mut bench = at_prompt().await;
        let seen = bench.command("dhcp net0", PROMPT).await;
        assert_eq!(seen, "Configuring (net0 02:00:00:00:00:01)... ok\n");
        bench.command("set console console=ttyS0,115200n8 lava_mac=00:90:05:af:00:7d", PROMPT).await;
        bench.command("set extraargs root=/dev/nfs rw nfsroot=1.2.3.4:/a,tcp,hard  ip=dhcp", PROMPT).await;
        let line = format!("kernel tftp://{server}/7/bzImage ${{extraargs}} ${{console}}");
        let seen = bench.command(&line, PROMPT).await;
        assert_eq!(seen, format!("tftp://{server}/7/bzImage... ok\n"));
        bench.command(&format!("initrd tftp://{server}/7/ramdisk.cpio.gz"), PROMPT).await;
        let seen = bench.command("imgstat", PROMPT).await;
        assert!(seen.starts_with("bzImage : 4096 bytes [bzImage] [SELECTED] \"root=/dev/nfs"), "{seen}");
        bench.send("boot\n").await;
        let image = bench.booted().await;
        assert_eq!(image.kernel, bzimage());
        assert_eq!(image.ramdisk.as_deref(), Some(&b"ramdisk\0"[..]));
        assert_eq!(
            image.cmdline,
            "root=/dev/nfs rw nfsroot=1.2.3.4:/a,tcp,hard ip=dhcp console=ttyS0,115200n8 lava_mac=00:90:05:af:00:7d"
        );
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn a_script_is_chained() {
        let script = "#!ipxe\n\ndhcp net0\nset args root=/dev/ram0\ngoto on\necho never\n:on\nkernel bzImage ${args}\n\
                      initrd nothing || initrd ramdisk.cpio.gz\nboot";
        let server = server(script).await;
        let mut bench = at_prompt().await;
        bench.command("dhcp net0", PROMPT).await;
        bench.send(&format!("chain tftp://{server}/7/script.ipxe\n")).await;
        let image = bench.booted().await;
        assert_eq!(image.cmdline, "root=/dev/ram0");
        assert_eq!(image.ramdisk.as_deref(), Some(&b"ramdisk\0"[..]));
    }

    #[tokio::test]
    async fn a_script_ends_where_a_command_fails() {
        let server = server("#!ipxe\nkernel rubbish\necho never\n").await;
        let mut bench = at_prompt().await;
        bench.command("dhcp", PROMPT).await;
        let seen = bench.command(&format!("chain tftp://{server}/7/script.ipxe"), PROMPT).await;
        assert!(seen.contains("Could not select: Exec format error (https://ipxe.org/2e008081)"), "{seen}");
        assert!(seen.contains("Could not boot: Exec format error"), "{seen}");
        assert!(!seen.contains("never"), "{seen}");
    }

    #[tokio::test]
    async fn a_script_that_never_ends_is_ended() {
        let server = server("#!ipxe\n:again\ngoto again\n").await;
        let mut bench = at_prompt().await;
        bench.command("dhcp", PROMPT).await;
        bench.command(&format!("chain tftp://{server}/7/script.ipxe"), PROMPT).await;
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_as_ipxe_does() {
        let server = server("").await;
        let mut bench = at_prompt().await;
        assert_eq!(bench.command("boot", PROMPT).await, "No image selected\n");
        assert_eq!(bench.command("dhcp net7", PROMPT).await, "\"net7\": no such network device\n");
        let seen = bench.command("kernel tftp://1.2.3.4/x", PROMPT).await;
        assert!(seen.contains("... Network unreachable (https://ipxe.org/"), "{seen}");
        bench.command("dhcp net0", PROMPT).await;
        let seen = bench.command(&format!("kernel tftp://{server}/nothing"), PROMPT).await;
        assert!(seen.contains("... No such file or directory (https://ipxe.org/"), "{seen}");
        let seen = bench.command("kernel nfs://1.2.3.4/x", PROMPT).await;
        assert!(seen.starts_with("Could not start download: Operation not supported"), "{seen}");
        assert_eq!(bench.command("kernell x", PROMPT).await, "kernell: command not found\n");
        assert_eq!(bench.violations(), ["no-ethernet", "fetch-before-dhcp", "bad-uri", "unknown-command"]);
    }

    #[tokio::test]
    async fn settings_are_shown_expanded_and_cleared() {
        let mut bench = at_prompt().await;
        bench.command("dhcp net0", PROMPT).await;
        assert_eq!(bench.command("set a b c && show a", PROMPT).await, "a = b c\n");
        assert_eq!(
            bench.command("set x a ; echo ${${x}} ${net0/mac:hexhyp} # no", PROMPT).await,
            "b c 02-00-00-00-00-01\n"
        );
        let seen = bench.command("clear a ; isset ${a} || echo ${next-server}", PROMPT).await;
        assert_eq!(seen, "127.0.0.1\n");
        // A setting that names itself must end, too.
        bench.command("set d $ ; set e ${d}{e}", PROMPT).await;
        bench.command("echo ${e}", PROMPT).await;
    }

    #[tokio::test]
    async fn another_key_than_ctrl_b_boots_on_and_finds_nothing() {
        let mut bench = Bench::start(&BOARD.replace("ipxe}", "ipxe, timeout: 1}")).await;
        bench.expect("Press Ctrl-B").await;
        bench.send("b").await;
        let seen = bench.expect("Press Ctrl-B").await;
        assert!(
            seen.contains("Nothing to boot: No such file or directory (https://ipxe.org/2d03e13b)"),
            "{seen}"
        );
        bench.expect("No bootable device").await;
        assert!(matches!(bench.next().await, Next::Hang));
    }

    #[tokio::test]
    async fn a_reset_in_the_middle_forgets_images_and_settings() {
        let server = server("").await;
        let mut bench = at_prompt().await;
        bench.command("dhcp ; set a b", PROMPT).await;
        bench.command(&format!("kernel tftp://{server}/7/bzImage"), PROMPT).await;
        bench.reset().await;
        bench.expect("Press Ctrl-B").await;
        bench.send("\x02").await;
        bench.expect(PROMPT).await;
        assert_eq!(bench.command("echo ${a}${ip} ; boot", PROMPT).await, "\nNo image selected\n");
        bench.send("reboot\n").await;
        assert!(matches!(bench.next().await, Next::Reset));
    }
}
