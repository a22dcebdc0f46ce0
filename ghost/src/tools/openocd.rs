//! `openocd`: halts, writes and resets a board by its debug probe.
//!
//! Options, messages and exit codes are those of OpenOCD 0.12 (`src/helper/options.c`, `tcl/board`,
//! `src/flash/nor/tcl.c`), tried with the real one as far as it goes without a probe. Of its Tcl it knows the
//! commands that LAVA's templates and labs' scripts use.

use std::path::{Path, PathBuf};

use super::getopt::{self, NO_LETTER, Option_, Takes};
use super::usb::Device;
use super::{Called, Tool};
use crate::peripheral::{Identity, Mode};

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

/// A board's script of OpenOCD's own.
struct Script {
    name: &'static str,
    /// Its probe: what the error without one calls it, vendor and product.
    probe: (&'static str, &'static str, &'static str),
    target: &'static str,
}

/// Those that are played.
const SCRIPTS: &[Script] = &[
    Script { name: "board/ti_cc13x2_launchpad.cfg", probe: ("XDS110", "0451", "bef3"), target: "cc13x2.cpu" },
    Script {
        name: "board/ti_cc3220sf_launchpad.cfg",
        probe: ("XDS110", "0451", "bef3"),
        target: "cc32xx.cpu",
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
    let mut session = Session { called: &mut called, serial: None, script: None, device: None };
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
    // It would serve GDB from here on, which nobody here waits for.
    session.say("Error: this ghost of OpenOCD serves no GDB: `shutdown` is missing\n");
    Ok(1)
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
}

impl Session<'_, '_> {
    fn say(&mut self, text: &str) {
        let _ = self.called.err.write_all(text.as_bytes());
    }

    /// A script: one of OpenOCD's own, or a file.
    fn script(&mut self, name: &str) -> Result<Goes, String> {
        if let Some(script) = SCRIPTS.iter().find(|script| script.name == name) {
            self.script = Some(script);
            self.say("cortex_m reset_config vectreset\n\n");
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
            ["gdb_port" | "tcl_port" | "telnet_port", _] => {}
            ["init"] => self.init()?,
            ["targets"] => {
                let target = self.script.map_or("target.cpu", |script| script.target);
                self.say(&format!(
                    "    TargetName         Type       Endian TapName            State       \n\
                    --  ------------------ ---------- ------ ------------------ ------------\n \
                    0* {target:18} cortex_m   little {target:18} running\n\n"
                ));
            }
            ["halt"] | ["reset", "halt" | "init"] => {
                self.ask("reset halt", None)?;
                self.say("target halted due to debug-request, current mode: Thread \n");
            }
            ["reset"] | ["reset", "run"] => self.ask("reset", None)?,
            ["resume"] => self.ask("run", None)?,
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
        let Some(Script { probe: (name, vendor, product), .. }) = self.script else {
            return Err("Error: Debug Adapter has to be specified, see \"adapter driver\" command".into());
        };
        let identity = Identity {
            serial: self.serial.clone(),
            vendor: Some((*vendor).to_owned()),
            product: Some((*product).to_owned()),
            ..Identity::default()
        };
        let found = Device::open(self.called, &identity, Mode::Always).map_err(|error| error.to_string())?;
        let Some(device) = found.into_iter().next() else {
            return Err(format!("Error: {name}: failed to connect\nInfo : {name}: disconnected\n"));
        };
        self.device = Some(device);
        self.say(&format!("Info : {name}: connected\n"));
        // A probe that has power of its own answers, and what it is on does not.
        self.ask("identify", None)
    }

    fn ask(&mut self, command: &str, file: Option<PathBuf>) -> Result<(), String> {
        let Some(device) = &self.device else {
            return Err("Error: Command handler execution failed: call `init` first".into());
        };
        match device.ask_of(Mode::Debug, command, file) {
            Err(_gone) => Err("Error: JTAG scan chain interrogation failed: all zeroes\n\
                Error: Check JTAG interface, timings, target power, etc."
                .into()),
            Ok(answer) => match answer.result {
                Ok(_) => Ok(()),
                Err(why) => Err(format!("Error: {}", says(&why))),
            },
        }
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
