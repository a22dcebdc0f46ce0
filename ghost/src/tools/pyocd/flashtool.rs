//! `pyocd-flashtool`: writes a board's flash by its CMSIS-DAP probe.
//!
//! Options, messages and exit codes are those of pyOCD 0.13.1 as Debian 12 has it
//! (`pyocd/tools/flash_tool.py`, `pyocd/core/helpers.py`, `pyocd/flash/flash_builder.py`). The real one also takes
//! a part of a probe's id; here it must be the whole.

use std::path::PathBuf;

use super::getopt::number;
use super::usb::Device;
use super::{Called, Tool};
use crate::peripheral::{Answer, Identity, Mode};

/// The tool.
pub const TOOL: Tool = Tool { names: &["pyocd-flashtool"], run };

const VERSION: &str = "0.13.1\n";

/// The targets that are played (`pyocd/target/__init__.py`), and where the flash of each begins.
const TARGETS: &[(&str, u32)] =
    &[("k64f", 0), ("nrf51", 0), ("nrf52", 0), ("nrf52840", 0), ("stm32l475xg", 0x0800_0000)];

const LEVELS: &[&str] = &["debug", "info", "warning", "error", "critical"];

/// What the command line says.
#[derive(Debug, Default)]
struct Line {
    board: Option<String>,
    level: Option<String>,
    target: Option<String>,
    address: Option<u32>,
    chip_erase: bool,
    sector_erase: bool,
    file: Option<String>,
    format: Option<String>,
}

fn run(mut called: Called) -> Result<u8, String> {
    if called.args.iter().any(|arg| arg == "--version") {
        let _ = called.out.write_all(VERSION.as_bytes());
        return Ok(0);
    }
    let line = match parse(called.args) {
        Ok(line) => line,
        Err(why) => {
            // argparse prints its usage first, which takes a screen.
            let _ = writeln!(
                called.err,
                "usage: pyocd-flashtool [-h] ... [file] [{{bin,hex,elf}}]\npyocd-flashtool: error: {why}"
            );
            return Ok(2);
        }
    };
    match program(&mut called, &line) {
        Ok(()) => Ok(0),
        Err(why) => {
            let _ = writeln!(called.out, "{why}");
            Ok(1)
        }
    }
}

/// As Python's argparse does it, with its messages.
fn parse(args: &[String]) -> Result<Line, String> {
    let mut line = Line::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        // `--board=X` is `--board X`.
        let (name, given) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (arg.as_str(), None),
        };
        let mut value = |shown: &str| {
            let next = given.clone().or_else(|| args.next().cloned());
            next.ok_or_else(|| format!("argument {shown}: expected one argument"))
        };
        match name {
            "-b" | "--board" => line.board = Some(value("-b/--board")?),
            "-d" | "--debug" => {
                let level = value("-d/--debug")?;
                line.level = Some(choice("-d/--debug", level, LEVELS)?);
            }
            "-t" | "--target" => {
                let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
                let target = value("-t/--target")?;
                line.target = Some(choice("-t/--target", target, &names)?);
            }
            "-f" | "--frequency" => {
                let text = value("-f/--frequency")?;
                text.parse::<u32>()
                    .map_err(|_| format!("argument -f/--frequency: invalid int value: '{text}'"))?;
            }
            "-a" | "--address" => {
                let text = value("-a/--address")?;
                line.address =
                    Some(number(&text).and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
                        format!("argument -a/--address: invalid int_base_0 value: '{text}'")
                    })?);
            }
            "-ce" | "--chip_erase" => line.chip_erase = true,
            "-se" | "--sector_erase" => line.sector_erase = true,
            "-u" | "--unlock" | "-hp" | "--hide_progress" | "-fp" | "--fast_program" => {}
            option if option.starts_with('-') => return Err(format!("unrecognized arguments: {arg}")),
            file if line.file.is_none() => line.file = Some(file.to_owned()),
            format if line.format.is_none() => {
                line.format = Some(choice("format", format.to_owned(), &["bin", "hex", "elf"])?);
            }
            _ => return Err(format!("unrecognized arguments: {arg}")),
        }
        if line.chip_erase && line.sector_erase {
            return Err("argument -se/--sector_erase: not allowed with argument -ce/--chip_erase".into());
        }
    }
    Ok(line)
}

fn choice(shown: &str, value: String, choices: &[&str]) -> Result<String, String> {
    if choices.contains(&value.as_str()) {
        return Ok(value);
    }
    let choices: Vec<String> = choices.iter().map(|choice| format!("'{choice}'")).collect();
    Err(format!("argument {shown}: invalid choice: '{value}' (choose from {})", choices.join(", ")))
}

fn program(called: &mut Called, line: &Line) -> Result<(), String> {
    let identity = line.board.as_deref().map(Identity::serial).unwrap_or_default();
    let found = Device::open(called, &identity, Mode::Always).map_err(|error| error.to_string())?;
    let Some(device) = found.into_iter().next() else {
        let why = match &line.board {
            Some(board) => format!(
                "A debug probe matching unique ID '{board}' is not connected, or no connected probe matches"
            ),
            None => "No connected debug probes".into(),
        };
        return Err(format!("{why}\nError: There is no debug probe connected."));
    };
    let ask = |command: &str, file: Option<PathBuf>| match device.ask_of(Mode::Debug, command, file) {
        // Its probe has power of its own, and the chip has none.
        Err(_gone) => Err("pyocd.core.exceptions.TransferError: No ACK received".to_owned()),
        Ok(Answer { result: Err(why), .. }) => Err(format!("pyocd.core.exceptions.FlashFailure: {why}")),
        Ok(_) => Ok(()),
    };
    ask("reset halt", None)?;
    let Some(file) = &line.file else {
        if line.chip_erase {
            let _ = called.out.write_all(b"Erasing chip...\n");
            ask("erase", None)?;
            let _ = called.out.write_all(b"Done\n");
        } else {
            let _ = called.out.write_all(b"No operation performed\n");
        }
        return ask("run", None);
    };
    let format = line.format.clone().unwrap_or_else(|| {
        let name = file.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map(|(_, end)| end.to_owned()).unwrap_or_default()
    });
    if format != "bin" {
        return Err(match format.as_str() {
            "hex" | "elf" | "axf" => format!("this ghost of pyocd-flashtool does not play {format}"),
            other => format!("Unknown file format '{other}'"),
        });
    }
    let path = std::path::absolute(file).map_err(|error| error.to_string())?;
    let size = std::fs::metadata(&path)
        .map(|found| found.len())
        .map_err(|_| format!("FileNotFoundError: [Errno 2] No such file or directory: '{file}'"))?;
    let target = line.target.as_deref().unwrap_or_default();
    let begin = TARGETS.iter().find(|(name, _)| *name == target).map_or(0, |(_, begin)| *begin);
    let address = line.address.unwrap_or(begin);
    if line.chip_erase {
        ask("erase", None)?;
    }
    ask(&format!("write {address:x}"), Some(path))?;
    let _ = called.out.write_all(format!("[{}----]\n[{:=<40}]\n", "---|".repeat(9), "").as_bytes());
    if line.level.as_deref().is_none_or(|level| matches!(level, "debug" | "info")) {
        let pages = size.div_ceil(4096);
        let _ = writeln!(called.err, "INFO:root:Programmed {size} bytes ({pages} pages) at 0.00 kB/s");
    }
    // The core was stopped at its reset, and goes on once the probe is closed.
    ask("reset halt", None)?;
    ask("run", None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use meta_lava_formats::mcu;

    use super::super::testing::{Bench, called};
    use super::*;

    const BOARD: &str = "
model: nRF52 Nitrogen
peripherals:
- {while: always, vendor: 0d28, product: '0204'}
firmware:
  kind: mcu
  flash: {base: 0x0, kib: 512}
  ram: {base: 0x20000000, kib: 64}
  storage: FOLDER
";

    #[tokio::test(flavor = "multi_thread")]
    async fn what_lava_calls_it_with_writes_the_flash_and_a_wrong_call_does_not() {
        let bench = Bench::start(BOARD).await;
        let image = bench.file("zephyr.bin", &mcu::write(0, 0x2001_0000, "hello\n", 5000));
        let path = image.display();
        let text = bench.file("zephyr.txt", b"x");
        let good = format!("-d debug -t nrf52 -f 3000000 --board b {path}");
        // It may not be that far yet.
        while bench.call(&TOOL, "-t nrf52 --board b").await.code != 0 {}
        let found = bench.call(&TOOL, &good).await;
        assert_eq!(
            (found.code, found.err.as_str()),
            (0, "INFO:root:Programmed 5000 bytes (2 pages) at 0.00 kB/s\n")
        );
        for (line, code, says) in [
            (format!("-t nrf52 --board c {path}"), 1, "Error: There is no debug probe connected."),
            (format!("-t nrf52 --board b {}", text.display()), 1, "Unknown file format 'txt'"),
            (
                "-t nrf52 --board b /nonexistent.bin".into(),
                1,
                "No such file or directory: '/nonexistent.bin'",
            ),
            (format!("-t nrf52 -a 0x7ff00 --board b {path}"), 1, "FlashFailure: not flash"),
            (
                format!("-t cortex_m --board b {path}"),
                2,
                "invalid choice: 'cortex_m' (choose from 'k64f', 'nrf51', 'nrf52', 'nrf52840', 'stm32l475xg')",
            ),
            (format!("-t nrf52 --uid b {path}"), 2, "error: unrecognized arguments: --uid"),
            ("-t".into(), 2, "error: argument -t/--target: expected one argument"),
            ("-f fast".into(), 2, "error: argument -f/--frequency: invalid int value: 'fast'"),
        ] {
            let found = bench.call(&TOOL, &line).await;
            let said = format!("{}{}", found.out, found.err);
            assert!(found.code == code && said.trim_end().ends_with(says), "{line}: {} {said}", found.code);
        }
        bench.power_off().await;
        let off = bench.call(&TOOL, &good).await;
        assert!(off.code == 1 && off.out.contains("No ACK received"), "{}", off.out);
        let ledger = bench.ledger();
        assert!(ledger.contains(&format!("sent {path} 5000 0x00000000")), "{ledger:?}");
    }

    #[test]
    fn its_version_is_that_of_debian_12() {
        assert_eq!(called(&TOOL, "--version", Path::new("/nowhere")).out, "0.13.1\n");
    }
}
