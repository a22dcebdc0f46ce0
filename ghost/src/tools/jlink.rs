//! `JLinkExe`: SEGGER's J-Link Commander, which writes a board's flash by its J-Link.
//!
//! Options and commands are those of SEGGER's manual (UM08001, "J-Link Commander"); it is not free, so unlike
//! the other tools this one was not held against the real one. What LAVA looks for in its output is from
//! `lava_dispatcher/actions/boot/jlink.py`.

use std::path::{Path, PathBuf};

use super::usb::Device;
use super::{Called, Tool};
use crate::peripheral::{Identity, Mode};

/// The tool.
pub const TOOL: Tool = Tool { names: &["JLinkExe"], run };

const HEAD: &str = "SEGGER J-Link Commander V7.88c (Compiled May 11 2023 15:45:51)\n\
    DLL version V7.88c, compiled May 11 2023 15:45:36\n\n";

/// What the command line says.
#[derive(Debug, Default)]
struct Line {
    device: Option<String>,
    serial: Option<String>,
    script: Option<String>,
}

fn run(called: Called) -> Result<u8, String> {
    let _ = called.out.write_all(HEAD.as_bytes());
    let line = match parse(called.args) {
        Ok(Some(line)) => line,
        // Its version is all that was asked for.
        Ok(None) => return Ok(0),
        Err(why) => {
            let _ = writeln!(called.out, "{why}");
            return Ok(1);
        }
    };
    let Some(script) = &line.script else {
        let _ = called.out.write_all(b"This ghost of J-Link Commander only runs a -CommanderScript.\n");
        return Ok(1);
    };
    let Ok(text) = std::fs::read_to_string(script) else {
        let _ = writeln!(called.out, "Could not open J-Link Command File '{script}'");
        return Ok(1);
    };
    let _ = called.out.write_all(b"\nJ-Link Command File read successfully.\nProcessing script file...\n");
    let mut session = Session { called, line: &line, device: None };
    for command in text.lines().map(str::trim).filter(|command| !command.is_empty()) {
        session.say(&format!("J-Link>{command}\n"));
        match session.command(command) {
            Ok(false) => {}
            Ok(true) => break,
            // It goes on with the next line, and ends with 0: LAVA looks for its words.
            Err(why) => session.say(&format!("{why}\n")),
        }
    }
    session.close();
    session.say("\nScript processing completed.\n\n");
    Ok(0)
}

fn parse(args: &[String]) -> Result<Option<Line>, String> {
    let mut line = Line::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("Missing parameter for {arg}"));
        match arg.to_ascii_lowercase().as_str() {
            "-v" | "-?" => return Ok(None),
            "-device" => line.device = Some(value()?),
            "-selectemubysn" | "-usb" => line.serial = Some(value()?),
            "-commanderscript" | "-commandfile" => line.script = Some(value()?),
            "-if" => match value()?.to_ascii_uppercase().as_str() {
                "SWD" | "JTAG" => {}
                other => return Err(format!("Unknown interface {other}")),
            },
            "-speed" => {
                let speed = value()?;
                if speed != "auto" && speed != "adaptive" && speed.parse::<u32>().is_err() {
                    return Err(format!("Invalid speed {speed}"));
                }
            }
            "-autoconnect" | "-nogui" | "-exitonerror" | "-jtagconf" => drop(value()?),
            _ => return Err(format!("Unknown command line option {arg}.")),
        }
    }
    Ok(Some(line))
}

struct Session<'a, 'c> {
    called: Called<'c>,
    line: &'a Line,
    /// Its J-Link, once it has been asked for.
    device: Option<Device>,
}

impl Session<'_, '_> {
    fn say(&mut self, text: &str) {
        let _ = self.called.out.write_all(text.as_bytes());
    }

    /// Does a line of the script; whether it is the last.
    fn command(&mut self, command: &str) -> Result<bool, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (name, rest) = words.split_first().ok_or("")?;
        match (name.to_ascii_lowercase().as_str(), rest) {
            ("exit" | "q" | "qc", []) => return Ok(true),
            ("sleep", [time]) if time.parse::<u32>().is_ok() => self.say(&format!("Sleep({time})\n")),
            // Its own firmware, which needs no target.
            ("f", []) => self.open()?,
            ("r" | "reset", []) => {
                self.ask("reset halt", None)?;
                self.say("Reset delay: 0 ms\nReset type NORMAL: Resets core & peripherals via SYSRESETREQ & VECTRESET bit.\n");
            }
            ("h" | "halt", []) => self.ask("halt", None)?,
            ("g" | "go", []) => self.ask("run", None)?,
            ("erase", []) => {
                self.ask("erase", None)?;
                self.say("Erasing device...\nErasing done.\n");
            }
            ("loadfile" | "loadbin", [file, rest @ ..]) => {
                let (path, address) = (absolute(file)?, address(rest)?);
                self.say(&format!("Downloading file [{file}]...\n"));
                self.ask(&format!("write {address:x}"), Some(path))?;
                self.say("O.K.\n");
            }
            ("verifybin", [file, rest @ ..]) => {
                let (path, address) = (absolute(file)?, address(rest)?);
                self.say(&format!(
                    "Loading binary file {file}\nReading data from target memory @ 0x{address:08X}.\n"
                ));
                self.ask(&format!("verify {address:x}"), Some(path))?;
                self.say("Verify successful.\n");
            }
            _ => return Err("Unknown command. '?' for help.".into()),
        }
        Ok(false)
    }

    /// Connects to the J-Link, where that was not done yet.
    fn open(&mut self) -> Result<(), String> {
        if self.device.is_some() {
            return Ok(());
        }
        let identity = self.line.serial.as_deref().map(Identity::serial).unwrap_or_default();
        let found = Device::open(&self.called, &identity, Mode::Always).map_err(|error| error.to_string())?;
        let Some(device) = found.into_iter().next() else {
            return Err(
                "Connecting to J-Link via USB...FAILED: Cannot connect to the probe/programmer.".into()
            );
        };
        self.say(&format!(
            "Connecting to J-Link via USB...O.K.\nFirmware: J-Link OB-SAM3U128-V2-NordicSemi compiled Jan 21 2021 18:31:37\n\
            Hardware version: V1.00\nS/N: {}\nVTref=3.300V\n",
            device.attached.serial
        ));
        self.device = Some(device);
        Ok(())
    }

    fn ask(&mut self, command: &str, file: Option<PathBuf>) -> Result<(), String> {
        self.open()?;
        let Some(name) = &self.line.device else { return Err("Unknown device: -device is missing".into()) };
        let name = name.to_ascii_uppercase();
        let Some(device) = &self.device else { return Err(String::new()) };
        match device.ask_of(Mode::Debug, command, file) {
            Err(_gone) => Err(format!(
                "Target connection not established yet but required for command.\nDevice \"{name}\" selected.\n\
                Cannot connect to target."
            )),
            Ok(answer) => answer.result.map(drop).map_err(|why| match why.as_str() {
                "contents differ" => "Verify failed.".into(),
                "not flash" => "Writing target memory failed.".into(),
                other => format!("****** Error: {other}"),
            }),
        }
    }

    /// The J-Link lets the core go on when it is closed (`SetRestartOnClose`).
    fn close(&mut self) {
        if let Some(device) = &self.device {
            let _ = device.ask_of(Mode::Debug, "run", None);
        }
    }
}

fn absolute(file: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(Path::new(file)).map_err(|error| error.to_string())?;
    if path.is_file() { Ok(path) } else { Err("Failed to open file.".into()) }
}

fn address(words: &[&str]) -> Result<u32, String> {
    match words {
        // A plain binary without an address goes to 0.
        [] => Ok(0),
        [text] | [text, "noreset" | "reset"] => {
            let digits = text.strip_prefix("0x").unwrap_or(text);
            u32::from_str_radix(digits.trim_end_matches(','), 16).map_err(|_| "Syntax error".to_owned())
        }
        _ => Err("Syntax error".into()),
    }
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::mcu;

    use super::super::testing::{Bench, called};
    use super::*;

    const BOARD: &str = "
model: FRDM-K64F
peripherals:
- {while: always, vendor: '1366', product: '1015'}
firmware:
  kind: mcu
  flash: {base: 0x0, kib: 1024}
  ram: {base: 0x1fff0000, kib: 256}
  storage: FOLDER
";

    #[tokio::test(flavor = "multi_thread")]
    async fn lavas_script_writes_the_flash_and_runs_it_and_what_fails_is_said() {
        let bench = Bench::start(BOARD).await;
        let image = bench.file("zephyr.bin", &mcu::write(0, 0x2003_0000, "hello\n", 0));
        let path = image.display();
        let options = "-device MK64FN1M0xxx12 -if SWD -speed 4000 -autoconnect 1 -NoGui 1 -CommanderScript";
        let script = |text: &str| {
            let file = bench.file("cmd.jlink", text.as_bytes());
            format!("{options} {}", file.display())
        };
        // It may not be that far yet.
        let halt = script("h\nqc");
        while bench
            .call(&TOOL, &format!("{halt} -SelectEmuBySN b"))
            .await
            .out
            .contains("Cannot connect to target")
        {}
        let good =
            script(&format!("r\nh\nsleep 500\nerase\nloadfile {path} 0x0\nverifybin {path} 0x0\nr\nqc"));
        let found = bench.call(&TOOL, &format!("{good} -SelectEmuBySN b")).await;
        assert!(
            found.code == 0
                && found.out.contains("Downloading file")
                && found.out.contains("Verify successful."),
            "{}",
            found.out
        );
        for (text, says) in [
            (format!("r\nloadfile {path} 0x200000\nqc"), "Writing target memory failed."),
            (format!("r\nerase\nverifybin {path} 0x0\nqc"), "Verify failed."),
            ("r\nloadfile /nonexistent 0x0\nqc".into(), "Failed to open file."),
            ("frobnicate\nqc".into(), "Unknown command."),
        ] {
            let found = bench.call(&TOOL, &format!("{} -SelectEmuBySN b", script(&text))).await;
            assert!(found.code == 0 && found.out.contains(says), "{text}: {}", found.out);
        }
        let absent = bench.call(&TOOL, &format!("{} -SelectEmuBySN c", script("r\nqc"))).await;
        assert!(absent.out.contains("Connecting to J-Link via USB...FAILED"), "{}", absent.out);
        bench.power_off().await;
        let off = bench.call(&TOOL, &format!("{} -SelectEmuBySN b", script("r\nqc"))).await;
        assert!(off.out.contains("Cannot connect to target."), "{}", off.out);
        assert!(bench.ledger().contains(&format!("sent {path} 84 0x00000000")));
    }

    #[test]
    fn options_that_it_does_not_have_are_refused() {
        let socket = Path::new("/nowhere");
        let found = called(&TOOL, "-frobnicate", socket);
        assert_eq!((found.code, found.out), (1, format!("{HEAD}Unknown command line option -frobnicate.\n")));
        assert_eq!(called(&TOOL, "-if USB", socket).code, 1);
        assert_eq!(called(&TOOL, "-v", socket).out, HEAD);
    }
}
