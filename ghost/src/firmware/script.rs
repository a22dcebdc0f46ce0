//! A recorded board: what it prints, what it waits for, what it fetches.
//!
//! For a firmware that nobody emulates. The script runs from its top at each reset; it
//! has no loops and no jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use meta_lava_formats::{fit, uimage};
use regex::Regex;
use serde::Deserialize;

use super::{BootImage, Firmware, FirmwareKind, Next};
use crate::board::BoardError;
use crate::console::Input;
use crate::machine::Machine;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "script",
    about: "a recorded board: steps that print, expect, fetch, boot",
    load: |name, text| {
        let (board, script) = crate::board::parse::<Script>(name, text)?;
        script.check().map_err(BoardError::Firmware)?;
        Ok((board, Box::new(script)))
    },
};

/// Settings of a recorded board, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    #[serde(rename = "kind")]
    _kind: String,
    /// A line that resets the board, wherever a line is expected.
    reset: Option<Pattern>,
    /// Lines that are answered wherever a line is expected, and change nothing.
    #[serde(default)]
    answers: Vec<Answer>,
    /// What the board does, in order.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    steps: Vec<Step>,
}

/// A line that is answered anywhere.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    line: Pattern,
    /// What the board prints.
    #[serde(default)]
    print: String,
}

/// A step. In texts `{name}` is what an earlier `expect` has captured under that name;
/// `{server}`, `{address}` and `{board}` are always there; `{{` and `}}` are braces.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    Print(String),
    /// Waits for a key.
    Key(Key),
    /// Waits for a line.
    Expect(Expect),
    Dhcp,
    Fetch(Fetch),
    /// Sets the kernel command line.
    Cmdline(String),
    /// Waits so many milliseconds.
    Sleep(u64),
    /// Starts what was fetched.
    Boot,
    Reset,
    PowerOff,
}

/// A key to wait for; the board stands still when it does not come.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    /// The key; without it, any key.
    key: Option<char>,
    /// Seconds.
    within: u32,
    /// What is printed when it did not come.
    #[serde(default)]
    missed: String,
}

/// A line to wait for; other lines are answered, and do not count.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// Printed before each line.
    #[serde(default)]
    prompt: String,
    /// The whole line.
    line: Pattern,
    /// Answer to another line.
    #[serde(default = "default_otherwise")]
    otherwise: String,
    /// Seconds, after which the board stands still.
    within: Option<u32>,
    /// What is printed then.
    #[serde(default)]
    missed: String,
}

fn default_otherwise() -> String {
    "Unknown command\n".into()
}

/// A file to fetch; the board stands still when that fails.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fetch {
    /// Its path on the TFTP server.
    tftp: Option<String>,
    /// The TFTP server.
    #[serde(default = "default_server")]
    server: String,
    /// Or its address.
    http: Option<String>,
    /// What for.
    into: Slot,
    /// What is printed when it fails; `{error}` says why.
    #[serde(default = "default_failed")]
    failed: String,
}

fn default_server() -> String {
    "{server}".into()
}

fn default_failed() -> String {
    "Load failed: {error}\n".into()
}

/// What a file is fetched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Slot {
    Kernel,
    /// The initial ramdisk.
    Ramdisk,
    /// The device tree.
    Dtb,
    /// All of them, in one FIT image.
    Fit,
    /// The kernel command line, as text.
    Cmdline,
}

/// A regular expression that a whole line must match.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The text's own error first: it does not speak of what is put around it.
        Regex::new(&text).map_err(|error| error.to_string())?;
        Regex::new(&format!("^(?:{text})$")).map(Self).map_err(|error| error.to_string())
    }
}

/// No step sleeps longer, in milliseconds.
const LONGEST_SLEEP: u64 = 60_000;

/// Names that are known from the start.
const GIVEN: [&str; 3] = ["server", "address", "board"];

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// Takes a text apart.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, found) = rest.split_at(at);
        pieces.push(Piece::Text(before));
        rest = if let Some(rest) = found.strip_prefix("{{") {
            pieces.push(Piece::Text("{"));
            rest
        } else if let Some(rest) = found.strip_prefix("}}") {
            pieces.push(Piece::Text("}"));
            rest
        } else if let Some((name, rest)) = found.strip_prefix('{').and_then(|found| found.split_once('}')) {
            pieces.push(Piece::Name(name));
            rest
        } else {
            return Err(format!("a single brace in {text:?}; `{{{{` and `}}}}` are braces"));
        };
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

impl Script {
    /// Whether the script can go through.
    fn check(&self) -> Result<(), String> {
        let mut names: BTreeSet<&str> = GIVEN.into();
        let mut kernel = false;
        let mut over = false;
        for (number, step) in self.steps.iter().enumerate() {
            let at = |problem: String| format!("steps[{number}]: {problem}");
            if over {
                return Err(at("the step before is the last one that can run".into()));
            }
            let known = |text: &str, more: &[&str]| {
                for piece in pieces(text).map_err(at)? {
                    if let Piece::Name(name) = piece
                        && !names.contains(name)
                        && !more.contains(&name)
                    {
                        return Err(at(format!("no `expect` before captures {name:?}")));
                    }
                }
                Ok(())
            };
            match step {
                Step::Print(text) | Step::Cmdline(text) => known(text, &[])?,
                Step::Key(Key { missed, .. }) => known(missed, &[])?,
                Step::Expect(Expect { prompt, line, otherwise, missed, .. }) => {
                    for text in [prompt, otherwise, missed] {
                        known(text, &[])?;
                    }
                    names.extend(line.0.capture_names().flatten());
                }
                Step::Fetch(Fetch { tftp, server, http, into, failed }) => {
                    if tftp.is_some() == http.is_some() {
                        return Err(at("fetch: either `tftp` or `http`".into()));
                    }
                    for text in [tftp.as_ref(), http.as_ref(), Some(server)].into_iter().flatten() {
                        known(text, &[])?;
                    }
                    known(failed, &["error"])?;
                    kernel |= matches!(into, Slot::Kernel | Slot::Fit);
                }
                Step::Sleep(time) if *time > LONGEST_SLEEP => {
                    return Err(at(format!("sleep: at most {LONGEST_SLEEP} ms")));
                }
                Step::Boot if !kernel => return Err(at("boot: no step before fetches a kernel".into())),
                Step::Sleep(_) | Step::Dhcp => {}
                Step::Boot | Step::Reset | Step::PowerOff => over = true,
            }
        }
        for (number, answer) in self.answers.iter().enumerate() {
            for piece in pieces(&answer.print)? {
                if let Piece::Name(name) = piece
                    && !GIVEN.contains(&name)
                    && !answer.line.0.capture_names().flatten().any(|capture| capture == name)
                {
                    return Err(format!("answers[{number}]: its line does not capture {name:?}"));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Firmware for Script {
    async fn run(&self, machine: &mut Machine) -> Next {
        let names = BTreeMap::from([("board".to_owned(), machine.board.name.clone())]);
        let mut player = Player { script: self, machine, names, image: BootImage::default() };
        for step in &self.steps {
            if let Err(next) = player.step(step).await {
                return next;
            }
        }
        Next::Hang
    }
}

/// A script at work.
struct Player<'a> {
    script: &'a Script,
    machine: &'a mut Machine,
    /// What was captured.
    names: BTreeMap<String, String>,
    image: BootImage,
}

impl Player<'_> {
    fn fill(&self, text: &str) -> String {
        let mut out = String::new();
        for piece in pieces(text).unwrap_or_default() {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(name) => out.push_str(self.names.get(name).map_or("", String::as_str)),
            }
        }
        out
    }

    async fn print(&mut self, text: &str) {
        let text = self.fill(text);
        self.machine.console().print(&text).await;
    }

    async fn step(&mut self, step: &Step) -> Result<(), Next> {
        match step {
            Step::Print(text) => self.print(text).await,
            Step::Key(key) => self.key(key).await?,
            Step::Expect(expect) => self.expect(expect).await?,
            Step::Dhcp => self.dhcp().await?,
            Step::Fetch(fetch) => self.fetch(fetch).await?,
            Step::Cmdline(text) => self.image.cmdline = self.fill(text),
            Step::Sleep(time) => tokio::time::sleep(Duration::from_millis(*time)).await,
            Step::Boot => return Err(Next::Boot(std::mem::take(&mut self.image))),
            Step::Reset => return Err(Next::Reset),
            Step::PowerOff => return Err(Next::PowerOff),
        }
        Ok(())
    }

    async fn dhcp(&mut self) -> Result<(), Next> {
        let lease = self.machine.net.dhcp().await.ok_or(Next::Hang)?;
        self.names.insert("server".into(), lease.server.to_string());
        self.names.insert("address".into(), lease.address.to_string());
        Ok(())
    }

    async fn key(&mut self, key: &Key) -> Result<(), Next> {
        let end = tokio::time::Instant::now() + self.machine.countdown(key.within);
        let wanted = |found: u8| key.key.is_none_or(|key| key == char::from(found));
        if self.machine.console().key_before(end, wanted).await.is_none() {
            self.print(&key.missed).await;
            return Err(Next::Hang);
        }
        Ok(())
    }

    /// Keeps what `pattern` captures of `line`, if it matches.
    fn capture(&mut self, pattern: &Pattern, line: &str) -> bool {
        let Some(captures) = pattern.0.captures(line) else { return false };
        for name in pattern.0.capture_names().flatten() {
            let value = captures.name(name).map_or("", |found| found.as_str());
            self.names.insert(name.to_owned(), value.to_owned());
        }
        true
    }

    async fn expect(&mut self, expect: &Expect) -> Result<(), Next> {
        let end = expect.within.map(|within| tokio::time::Instant::now() + self.machine.countdown(within));
        loop {
            let prompt = self.fill(&expect.prompt);
            let line = self.machine.console().read_line(&prompt);
            let line = match end {
                None => line.await,
                Some(end) => match tokio::time::timeout_at(end, line).await {
                    Ok(line) => line,
                    Err(_) => {
                        self.print(&expect.missed).await;
                        return Err(Next::Hang);
                    }
                },
            };
            let Input::Line(line) = line else {
                self.machine.console().print("\n").await;
                continue;
            };
            if self.capture(&expect.line, &line) {
                return Ok(());
            }
            if self.script.reset.as_ref().is_some_and(|reset| reset.0.is_match(&line)) {
                return Err(Next::Reset);
            }
            let script = self.script;
            let before = self.names.clone();
            if let Some(answer) = script.answers.iter().find(|answer| self.capture(&answer.line, &line)) {
                self.print(&answer.print).await;
                self.names = before;
            } else if !line.trim().is_empty() {
                self.machine.ledger.violation("unknown-command", line);
                self.print(&expect.otherwise).await;
            }
        }
    }

    async fn fetch(&mut self, fetch: &Fetch) -> Result<(), Next> {
        let load = format!("{:?}", fetch.into).to_lowercase();
        let fetched = match (&fetch.tftp, &fetch.http) {
            (Some(path), _) => {
                let (server, path) = (self.fill(&fetch.server), self.fill(path));
                self.machine.net.tftp(&server, &path, &load).await.map_err(|error| error.to_string())
            }
            (None, Some(url)) => {
                let url = self.fill(url);
                self.machine.net.http(&url, &load).await.map_err(|error| error.to_string())
            }
            (None, None) => Err("nothing to fetch".into()),
        };
        match fetched.and_then(|bytes| self.put(fetch.into, bytes)) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.names.insert("error".into(), error);
                self.print(&fetch.failed).await;
                Err(Next::Hang)
            }
        }
    }

    /// Keeps what was fetched, without the boot loader's headers.
    fn put(&mut self, slot: Slot, bytes: Vec<u8>) -> Result<(), String> {
        let bytes = if uimage::is_uimage(&bytes) {
            uimage::parse(&bytes).map_err(|error| error.to_string())?.data.to_vec()
        } else {
            bytes
        };
        match slot {
            Slot::Kernel => self.image.kernel = bytes,
            Slot::Ramdisk => self.image.ramdisk = Some(bytes),
            Slot::Dtb => self.image.dtb = Some(bytes),
            Slot::Cmdline => String::from_utf8_lossy(&bytes).trim_end().clone_into(&mut self.image.cmdline),
            Slot::Fit => {
                let fit = fit::parse(&bytes).map_err(|error| error.to_string())?;
                let boot = fit.boot(None).map_err(|error| error.to_string())?;
                for image in [Some(boot.kernel), boot.fdt, boot.ramdisk].into_iter().flatten() {
                    image.verify().map_err(|error| error.to_string())?;
                }
                self.image.kernel = boot.kernel.data.clone();
                self.image.dtb = boot.fdt.map(|image| image.data.clone());
                self.image.ramdisk = boot.ramdisk.map(|image| image.data.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, tftp_server};
    use super::*;

    const BOARD: &str = r#"
model: A recorded board
firmware:
  kind: script
  reset: reset
  answers:
  - {line: 'setenv (?P<what>\S+) .*', print: "set {what}\n"}
  steps:
  - print: "Boot 1.0\nPress x to stop: "
  - key: {key: x, within: 5, missed: "\nbooting from disk\n"}
  - dhcp
  - print: "\nI am {address}\n"
  - expect: {prompt: '> ', line: 'server (?P<host>\S+)'}
  - expect: {prompt: '> ', line: 'load (?P<kernel>\S+) (?P<initrd>\S+)', otherwise: "eh?\n"}
  - fetch: {server: '{host}', tftp: '{kernel}', into: kernel}
  - fetch: {server: '{host}', tftp: '{initrd}', into: ramdisk, failed: "no initrd: {error}\n"}
  - print: "loaded {{{kernel}}}\n"
  - expect: {prompt: '> ', line: 'go(?: (?P<args>.*))?'}
  - cmdline: 'console=ttyS0 {args}'
  - sleep: 1
  - boot
"#;

    fn ramdisk() -> Vec<u8> {
        let header = uimage::Header {
            time: 0,
            load: 0,
            entry: 0,
            os: uimage::Os::LINUX,
            arch: uimage::Arch::ARM,
            image_type: uimage::ImageType::RAMDISK,
            comp: uimage::Comp::NONE,
            name: "ramdisk".into(),
        };
        uimage::write(&header, b"cpio").unwrap()
    }

    async fn stopped() -> Bench {
        let server = tftp_server(&[("Image", b"kernel"), ("initrd", &ramdisk())]).await;
        let mut bench = Bench::start(BOARD).await;
        bench.expect("Press x to stop: ").await;
        bench.send("yx").await;
        bench.expect("\nI am 192.168.77.").await;
        bench.expect("> ").await;
        bench.command(&format!("server {server}"), "> ").await;
        bench
    }

    #[tokio::test]
    async fn a_recorded_board_boots_what_it_was_told_to_fetch() {
        let mut bench = stopped().await;
        assert_eq!(bench.command("setenv a b", "> ").await, "set a\n");
        assert_eq!(bench.command("load Image initrd", "> ").await, "loaded {Image}\n");
        bench.send("go root=/dev/ram0 {x}\n").await;
        let image = bench.booted().await;
        assert_eq!(image.kernel, b"kernel");
        assert_eq!(image.ramdisk.as_deref(), Some(&b"cpio"[..]));
        assert_eq!(image.cmdline, "console=ttyS0 root=/dev/ram0 {x}");
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn another_line_is_answered_and_noted_and_the_whole_line_counts() {
        let mut bench = stopped().await;
        assert_eq!(bench.command("load Image initrd now", "> ").await, "eh?\n");
        assert_eq!(bench.command("", "> ").await, "");
        assert_eq!(bench.violations(), ["unknown-command"]);
        bench.send("reset\n").await;
        assert!(matches!(bench.next().await, Next::Reset));
    }

    #[tokio::test]
    async fn a_file_that_is_missing_stops_the_board() {
        let mut bench = stopped().await;
        bench.send("load Image nothing\n").await;
        bench.expect("no initrd: file not found: ").await;
        assert!(matches!(bench.next().await, Next::Hang));
    }

    #[tokio::test]
    async fn a_key_that_never_comes_and_a_line_that_never_comes_stop_the_board() {
        let mut bench = Bench::start(&BOARD.replace("within: 5", "within: 0")).await;
        bench.expect("booting from disk").await;
        assert!(matches!(bench.next().await, Next::Hang));
        let steps =
            "model: A\nfirmware:\n  kind: script\n  steps:\n  - expect: {line: x, within: 0, missed: late}\n";
        let mut bench = Bench::start(steps).await;
        bench.expect("late").await;
        assert!(matches!(bench.next().await, Next::Hang));
    }

    #[tokio::test]
    async fn a_reset_in_the_middle_starts_at_the_top() {
        let mut bench = stopped().await;
        bench.command("load Image initrd", "> ").await;
        bench.reset().await;
        bench.expect("Boot 1.0\nPress x to stop: ").await;
    }

    #[test]
    fn a_script_that_can_not_go_through_is_refused() {
        let load = |steps: &str| {
            let text = format!("model: A\nfirmware:\n  kind: script\n  steps:\n{steps}");
            super::super::load("a", &text).map(|_| ()).map_err(|error| error.to_string())
        };
        let refused = |steps: &str, why: &str| {
            let error = load(steps).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        assert_eq!(load("  - print: a\n"), Ok(()));
        refused("  - print: '{a}'\n", "steps[0]: no `expect` before captures \"a\"");
        refused("  - print: 'a}'\n", "a single brace");
        refused("  - boot\n", "no step before fetches a kernel");
        refused("  - reset\n  - print: a\n", "steps[1]: the step before is the last one");
        refused("  - fetch: {into: kernel}\n", "either `tftp` or `http`");
        refused("  - sleep: 600000\n", "at most");
        refused("  - expect: {line: '('}\n", "unclosed group");
        refused("  - prind: a\n", "unknown variant");
        refused("  - key: {within: 1, kez: a}\n", "unknown field");
    }
}
