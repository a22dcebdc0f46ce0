//! `openocd`: halts, writes and resets a board by its debug probe.
//!
//! Options, messages and exit codes are those of OpenOCD 0.12 (`src/helper/options.c`, `tcl/board`,
//! `src/flash/nor/tcl.c`), tried with the real one as far as it goes without a probe. Of its Tcl it knows the
//! commands that LAVA's templates and labs' scripts use.

use std::path::{Path, PathBuf};

use super::getopt::{self, NO_LETTER, Option_, Takes};
use super::usb::{Device, Gone};
use super::{Called, Tool, relay};
use crate::peripheral::{Answer, Identity, Mode};

mod gdb;

/// The tool.
pub const TOOL: Tool = Tool { names: &["openocd"], run };

const HEAD: &str = "Open On-Chip Debugger 0.12.0\nLicensed under GNU GPL v2\nFor bug reports, read\n\
    \thttp://openocd.org/doc/doxygen/bugs.html\n";

const OPTIONS: &[Option_] = &[
    ('h', "help", Takes::Nothing),
    ('v', "version", Takes::Nothing),
    ('d', "debug", Takes::MayTakeValue),
    ('f', "file", Takes::Value),
    ('s', "search", Takes::Value),
    ('l', "log_output", Takes::Value),
    ('c', "command", Takes::Value),
    (NO_LETTER, "pipe", Takes::Nothing),
];

/// A probe, and what is said of it.
struct Probe {
    vendor: &'static str,
    product: &'static str,
    /// When there is none.
    absent: &'static str,
    /// When it is opened.
    opened: &'static str,
    /// When nothing answers behind it.
    silent: &'static str,
}

const XDS110: Probe = Probe {
    vendor: "0451",
    product: "bef3",
    absent: "Error: XDS110: failed to connect\nInfo : XDS110: disconnected\n",
    opened: "Info : XDS110: connected\n",
    silent: "Error: JTAG scan chain interrogation failed: all zeroes\n\
        Error: Check JTAG interface, timings, target power, etc.",
};

/// `src/jtag/drivers/stlink_usb.c`.
const STLINK: Probe = Probe {
    vendor: "0483",
    product: "374b",
    absent: "Error: open failed\n",
    opened: "Info : STLINK V2J40M27 (API v2) VID:PID 0483:374B\n",
    silent: "Error: target voltage may be too low for reliable debugging\n\
        Error: init mode failed (unable to connect to the target)",
};

/// A board's script of OpenOCD's own.
struct Script {
    name: &'static str,
    /// What it prints.
    says: &'static str,
    probe: Probe,
    target: &'static str,
}

/// Those that are played.
const SCRIPTS: &[Script] = &[
    Script {
        name: "board/ti_cc13x2_launchpad.cfg",
        says: "cortex_m reset_config vectreset\n\n",
        probe: XDS110,
        target: "cc13x2.cpu",
    },
    Script {
        name: "board/stm32l4discovery.cfg",
        says: "Info : The selected transport took over low-level target control. The results might differ compared to plain JTAG/SWD\n\
            srst_only separate srst_nogate srst_open_drain connect_deassert_srst\n\n",
        probe: STLINK,
        target: "stm32l4x.cpu",
    },
];

fn run(mut called: Called) -> Result<u8, String> {
    let _ = called.err.write_all(HEAD.as_bytes());
    let parsed = match getopt::parse("openocd", called.args, OPTIONS) {
        Ok(parsed) => parsed,
        Err(why) => {
            let _ = writeln!(called.err, "{why}");
            return Ok(1);
        }
    };
    if parsed.has("help") || parsed.has("version") {
        return Ok(0);
    }
    let mut session = Session::new(&mut called);
    for (option, value) in &parsed.options {
        let value = value.as_deref().unwrap_or_default();
        let done = match option.as_str() {
            "file" => session.script(value),
            "command" => session.command(value),
            "debug" => {
                session.say(&format!("debug_level: {}\n\n", if value.is_empty() { "3" } else { value }));
                Ok(Goes::On)
            }
            _ => Ok(Goes::On),
        };
        match done {
            Ok(Goes::On) => {}
            Ok(Goes::Down) => {
                session.say("shutdown command invoked\n");
                return Ok(0);
            }
            Err(why) => {
                session.say(&format!("{why}\n"));
                return Ok(1);
            }
        }
    }
    // From here on it serves who connects, and has its probe opened where no `init` did.
    if !session.is_for_gdb {
        session.say("Error: this ghost of OpenOCD serves GDB on a pipe only: `gdb_port pipe` or `shutdown` is missing\n");
        return Ok(1);
    }
    let opened = if session.device.is_some() { Ok(()) } else { session.init() };
    let (input, output) =
        relay::standard().map_err(|error| format!("no standard input and output: {error}"))?;
    match opened.and_then(|()| gdb::serve(&mut session, input, output)) {
        Ok(()) => Ok(0),
        Err(why) => {
            session.say(&format!("{why}\n"));
            Ok(1)
        }
    }
}

enum Goes {
    On,
    Down,
}

struct Session<'a, 'c> {
    called: &'a mut Called<'c>,
    /// The probe's serial number, where a script names one.
    serial: Option<String>,
    script: Option<&'static Script>,
    device: Option<Device>,
    /// Whether it serves GDB on its standard input and output.
    is_for_gdb: bool,
    /// All that it has said.
    said: String,
}

impl<'a, 'c> Session<'a, 'c> {
    fn new(called: &'a mut Called<'c>) -> Self {
        Self { called, serial: None, script: None, device: None, is_for_gdb: false, said: String::new() }
    }
}

impl Session<'_, '_> {
    fn say(&mut self, text: &str) {
        let _ = self.called.err.write_all(text.as_bytes());
        self.said.push_str(text);
    }

    /// The name of the core.
    fn target(&self) -> &'static str {
        self.script.map_or("target.cpu", |script| script.target)
    }

    /// A script: one of OpenOCD's own, or a file.
    fn script(&mut self, name: &str) -> Result<Goes, String> {
        if let Some(script) = SCRIPTS.iter().find(|script| script.name == name) {
            self.script = Some(script);
            self.say(script.says);
            return Ok(Goes::On);
        }
        let text = std::fs::read_to_string(name).map_err(|_| {
            format!("embedded:startup.tcl:28: Error: Can't find {name}\nin procedure 'script' \nat file \"embedded:startup.tcl\", line 28")
        })?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Goes::Down = self.command(line)? {
                return Ok(Goes::Down);
            }
        }
        Ok(Goes::On)
    }

    fn command(&mut self, line: &str) -> Result<Goes, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["shutdown"] => return Ok(Goes::Down),
            ["source", "[find", name] => {
                let name = name.trim_end_matches(']').to_owned();
                return self.script(&name);
            }
            ["xds110_serial", serial] => {
                self.say("DEPRECATED! use 'adapter serial' not 'xds110_serial'\n");
                self.serial = Some((*serial).to_owned());
            }
            ["adapter", "serial", serial] => self.serial = Some((*serial).to_owned()),
            ["adapter", "speed", _] | ["transport", "select", "jtag" | "swd"] => {}
            ["gdb_port", port] => self.is_for_gdb = *port == "pipe",
            ["tcl_port" | "telnet_port", _] => {}
            ["init"] => self.init()?,
            ["targets"] => {
                let target = self.target();
                self.say(&format!(
                    "    TargetName         Type       Endian TapName            State       \n\
                    --  ------------------ ---------- ------ ------------------ ------------\n \
                    0* {target:18} cortex_m   little {target:18} running\n\n"
                ));
            }
            ["halt"] => self.halt("halt")?,
            ["reset", "halt" | "init"] => self.halt("reset halt")?,
            ["reset"] | ["reset", "run"] => drop(self.ask("reset", None)?),
            ["resume"] => drop(self.ask("run", None)?),
            ["flash", "write_image", rest @ ..] => {
                let (erase, rest) = match rest {
                    ["erase", rest @ ..] => (true, rest),
                    rest => (false, rest),
                };
                let (path, address) = image(rest)?;
                if erase {
                    self.say("auto erase enabled\n");
                }
                let size = size(&path)?;
                self.ask(&format!("write {address:x}"), Some(path.clone()))?;
                self.say(&format!(
                    "wrote {size} bytes from file {} in 0.000000s (0.000 KiB/s)\n\n",
                    path.display()
                ));
            }
            ["verify_image", rest @ ..] => {
                let (path, address) = image(rest)?;
                let size = size(&path)?;
                self.ask(&format!("verify {address:x}"), Some(path))?;
                self.say(&format!("verified {size} bytes in 0.000000s (0.000 KiB/s)\n\n"));
            }
            ["program", ..] | ["load_image", ..] => {
                return Err(format!("this ghost of OpenOCD does not play {line:?}"));
            }
            [unknown, ..] => return Err(format!("invalid command name \"{unknown}\"")),
        }
        Ok(Goes::On)
    }

    /// Opens the probe.
    fn init(&mut self) -> Result<(), String> {
        let Some(Script { probe, .. }) = self.script else {
            return Err("Error: Debug Adapter has to be specified, see \"adapter driver\" command".into());
        };
        let identity = Identity {
            serial: self.serial.clone(),
            vendor: Some(probe.vendor.to_owned()),
            product: Some(probe.product.to_owned()),
            ..Identity::default()
        };
        let found = Device::open(self.called, &identity, Mode::Always).map_err(|error| error.to_string())?;
        let Some(device) = found.into_iter().next() else { return Err(probe.absent.into()) };
        self.device = Some(device);
        self.say(probe.opened);
        // A probe that has power of its own answers, and what it is on does not.
        self.ask("identify", None).map(drop)
    }

    /// Has the core stop, by `command`, and says where it is: for GDB in the words of 0.12 (`armv7m_arch_state`), elsewhere still in
    /// those of 0.11, which is less.
    fn halt(&mut self, command: &str) -> Result<(), String> {
        self.ask(command, None)?;
        if !self.is_for_gdb {
            self.say("target halted due to debug-request, current mode: Thread \n");
            return Ok(());
        }
        let (stack, program) = self.stack_and_program()?;
        self.say(&format!(
            "[{}] halted due to debug-request, current mode: Thread \n\
             xPSR: 0x01000000 pc: {program:#010x} msp: {stack:#010x}\n",
            self.target()
        ));
        Ok(())
    }

    /// Where the stack of a core that is halted is, and where it goes on.
    fn stack_and_program(&self) -> Result<(u32, u32), String> {
        let told = self.ask("registers", None)?;
        let word = |word: &str| u32::from_str_radix(word, 16).ok();
        let both = told.split_once(' ').and_then(|(stack, program)| Some((word(stack)?, word(program)?)));
        both.ok_or_else(|| format!("Error: the board says of its registers {told:?}, which are no two words"))
    }

    /// Has the core take `bytes`, which GDB has sent.
    fn send(&self, command: &str, bytes: &[u8]) -> Result<String, String> {
        let (device, probe) = self.opened()?;
        answered(device.send_to(Mode::Debug, command, "gdb", bytes), probe)
    }

    fn ask(&self, command: &str, file: Option<PathBuf>) -> Result<String, String> {
        let (device, probe) = self.opened()?;
        answered(device.ask_of(Mode::Debug, command, file), probe)
    }

    /// The probe that `init` has opened.
    fn opened(&self) -> Result<(&Device, &'static Probe), String> {
        let both = self.device.as_ref().zip(self.script.map(|script| &script.probe));
        both.ok_or_else(|| "Error: Command handler execution failed: call `init` first".into())
    }
}

/// What the core has answered, in OpenOCD's words.
fn answered(answer: Result<Answer, Gone>, probe: &Probe) -> Result<String, String> {
    match answer {
        Err(Gone) => Err(probe.silent.into()),
        Ok(answer) => answer.result.map_err(|why| format!("Error: {}", says(&why))),
    }
}

/// OpenOCD's words for what a core refuses.
fn says(why: &str) -> &str {
    match why {
        "not flash" => "no flash bank found for address range",
        "target not halted" => "Target not halted",
        "contents differ" => "checksum mismatch - attempting binary compare",
        other => other,
    }
}

/// A file, and the address that it goes to: of a plain binary its offset.
fn image(words: &[&str]) -> Result<(PathBuf, u32), String> {
    let (path, offset) = match words {
        [path] => (path, "0"),
        [path, offset] | [path, offset, "bin"] => (path, *offset),
        _ => return Err("Error: wrong number of arguments for an image".into()),
    };
    let digits = offset.strip_prefix("0x");
    let address = digits.map_or_else(|| offset.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok());
    let address = address.ok_or_else(|| format!("Error: offset option value ('{offset}') is not valid"))?;
    let path = std::path::absolute(Path::new(path)).map_err(|error| error.to_string())?;
    Ok((path, address))
}

fn size(path: &Path) -> Result<u64, String> {
    let found = std::fs::metadata(path).map(|found| found.len());
    found.map_err(|_| format!("Error: couldn't open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::mcu;

    use super::super::testing::{Bench, Found, called};
    use super::*;

    const BOARD: &str = "
model: CC1352R1 LaunchPad
peripherals:
- {while: always, vendor: '0451', product: bef3}
firmware:
  kind: mcu
  flash: {base: 0x0, kib: 352}
  ram: {base: 0x20000000, kib: 80}
  storage: FOLDER
";

    /// Calls it with a script of its board, and `commands`.
    async fn with(bench: &Bench, selection: &Path, commands: &[&str]) -> Found {
        let mut args: Vec<String> = ["-f", "board/ti_cc13x2_launchpad.cfg", "-f"].map(str::to_owned).to_vec();
        args.push(selection.display().to_string());
        args.push("-d2".into());
        for command in commands {
            args.extend(["-c".to_owned(), (*command).to_owned()]);
        }
        bench.call_with(&TOOL, args).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_lava_types_writes_the_flash_and_runs_it() {
        let bench = Bench::start(BOARD).await;
        let program = bench.file("zephyr.bin", &mcu::write(0, 0x2001_4000, "hello\n", 0));
        let other = bench.file("other.bin", b"other contents");
        let (ours, theirs) =
            (bench.file("b.cfg", b"xds110_serial b"), bench.file("c.cfg", b"xds110_serial c"));
        let (path, other) = (program.display(), other.display());
        let write = format!("flash write_image erase {path}");
        let verify = format!("verify_image {path}");
        let good = [
            "gdb_port disabled",
            "init",
            "targets",
            "reset halt",
            &write,
            "reset halt",
            &verify,
            "reset run",
            "shutdown",
        ];
        // It may not be that far yet.
        while with(&bench, &ours, &["init", "shutdown"]).await.code != 0 {}
        let found = with(&bench, &ours, &good).await;
        assert_eq!(found.code, 0, "{}", found.err);
        assert!(
            found.err.contains("verified 84 bytes") && found.err.ends_with("shutdown command invoked\n"),
            "{}",
            found.err
        );
        for (commands, says) in [
            (vec!["init", &write, "shutdown"], "Error: Target not halted"),
            (
                vec!["init", "reset halt", &format!("flash write_image {path} 0x58000"), "shutdown"],
                "Error: no flash bank found for address range",
            ),
            (
                vec!["init", &format!("verify_image {other}"), "shutdown"],
                "Error: checksum mismatch - attempting binary compare",
            ),
            (
                vec!["init", "reset halt", "flash write_image /nonexistent", "shutdown"],
                "Error: couldn't open /nonexistent",
            ),
            (vec!["init", "frobnicate", "shutdown"], "invalid command name \"frobnicate\""),
        ] {
            let found = with(&bench, &ours, &commands).await;
            assert!(found.code == 1 && found.err.trim_end().ends_with(says), "{commands:?}: {}", found.err);
        }
        let absent = with(&bench, &theirs, &["init", "shutdown"]).await;
        assert!(
            absent.code == 1 && absent.err.contains("Error: XDS110: failed to connect"),
            "{}",
            absent.err
        );
        bench.power_off().await;
        let off = with(&bench, &ours, &["init", "shutdown"]).await;
        assert!(off.err.contains("Check JTAG interface, timings, target power"), "{}", off.err);
        let ledger = bench.ledger();
        assert!(ledger.contains(&format!("sent {path} 84 0x00000000")), "{ledger:?}");
    }

    #[test]
    fn what_is_wrong_with_its_options_and_scripts_is_said_as_the_real_one_says_it() {
        let socket = Path::new("/nowhere");
        assert_eq!(called(&TOOL, "--version", socket).err, HEAD);
        let found = called(&TOOL, "--frob", socket);
        assert_eq!((found.code, found.err), (1, format!("{HEAD}openocd: unrecognized option '--frob'\n")));
        let found = called(&TOOL, "-f board/nonexist.cfg", socket);
        assert!(
            found.code == 1
                && found.err.contains("Error: Can't find board/nonexist.cfg\nin procedure 'script'")
        );
    }
}
