//! `pyocd-flashtool`: the program of pyOCD's early versions, and what Debian 12 has.
//!
//! Options, messages and exit codes are those of pyOCD 0.13.1 as Debian 12 has it
//! (`pyocd/tools/flash_tool.py`, `pyocd/core/helpers.py`, `pyocd/flash/flash_builder.py`). The real one also takes
//! a part of a probe's id; here it must be the whole.

use super::super::Called;
use super::super::argparse::{self, Option_, Parsed, checked, choice, flag, value};
use super::super::usb::Device;
use super::{Failed, TARGETS, address, ask, progress};
use crate::peripheral::{Identity, Mode};

const VERSION: &str = "0.13.1\n";

const LEVELS: &[&str] = &["debug", "info", "warning", "error", "critical"];

const OPTIONS: &[Option_] = &[
    value(&["-b", "--board"]),
    checked(&["-d", "--debug"], |it| choice(it, LEVELS)),
    checked(&["-t", "--target"], |it| choice(it, &targets())),
    checked(&["-f", "--frequency"], |it| {
        it.parse::<u32>().map(drop).map_err(|_| format!("invalid int value: '{it}'"))
    }),
    checked(&["-a", "--address"], |it| address(it).map(drop)),
    flag(&["-ce", "--chip_erase"]),
    flag(&["-se", "--sector_erase"]),
    flag(&["-u", "--unlock"]),
    flag(&["-hp", "--hide_progress"]),
    flag(&["-fp", "--fast_program"]),
];

fn targets() -> Vec<&'static str> {
    TARGETS.iter().map(|target| target.name).collect()
}

pub(super) fn run(mut called: Called) -> Result<u8, String> {
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

fn parse(args: &[String]) -> Result<Parsed, String> {
    let line = argparse::parse(args, OPTIONS, 2)?;
    if line.has("--chip_erase") && line.has("--sector_erase") {
        return Err("argument -se/--sector_erase: not allowed with argument -ce/--chip_erase".into());
    }
    if let Some(format) = line.words.get(1) {
        choice(format, &["bin", "hex", "elf"]).map_err(|why| format!("argument format: {why}"))?;
    }
    if !line.extra.is_empty() {
        return Err(format!("unrecognized arguments: {}", line.extra.join(" ")));
    }
    Ok(line)
}

fn program(called: &mut Called, line: &Parsed) -> Result<(), String> {
    let board = line.value("--board");
    let identity = board.map(Identity::serial).unwrap_or_default();
    let found = Device::open(called, &identity, Mode::Always).map_err(|error| error.to_string())?;
    let Some(device) = found.into_iter().next() else {
        let why = match board {
            Some(board) => format!(
                "A debug probe matching unique ID '{board}' is not connected, or no connected probe matches"
            ),
            None => "No connected debug probes".into(),
        };
        return Err(format!("{why}\nError: There is no debug probe connected."));
    };
    let ask = |command: &str, file| {
        ask(&device, command, file).map_err(|failed| match failed {
            Failed::NoAck => "pyocd.core.exceptions.TransferError: No ACK received".to_owned(),
            Failed::Flash(why) => format!("pyocd.core.exceptions.FlashFailure: {why}"),
        })
    };
    ask("reset halt", None)?;
    let Some(file) = line.words.first() else {
        if line.has("--chip_erase") {
            let _ = called.out.write_all(b"Erasing chip...\n");
            ask("erase", None)?;
            let _ = called.out.write_all(b"Done\n");
        } else {
            let _ = called.out.write_all(b"No operation performed\n");
        }
        return ask("run", None);
    };
    let format = line.words.get(1).cloned().unwrap_or_else(|| {
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
    let target = line.value("--target").unwrap_or_default();
    let begin = TARGETS.iter().find(|known| known.name == target).map_or(0, |known| known.base);
    let address = line.value("--address").map_or(Ok(begin), address)?;
    if line.has("--chip_erase") {
        ask("erase", None)?;
    }
    ask(&format!("write {address:x}"), Some(path))?;
    let _ = called.out.write_all(progress().as_bytes());
    if line.value("--debug").is_none_or(|level| matches!(level, "debug" | "info")) {
        let pages = size.div_ceil(4096);
        let _ = writeln!(called.err, "INFO:root:Programmed {size} bytes ({pages} pages) at 0.00 kB/s");
    }
    // The core was stopped at its reset, and goes on once the probe is closed.
    ask("reset halt", None)?;
    ask("run", None)
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use meta_lava_formats::mcu;

    use super::super::super::testing::{Bench, called};
    use super::super::TOOL;

    pub(in super::super) const BOARD: &str = "
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
                "invalid choice: 'cortex_m' (choose from 'k64f', 'kw36z4', 'kw41z4', 'nrf51', 'nrf52', 'nrf52840', 'stm32l475xg')",
            ),
            (format!("-t nrf52 --uid=b {path}"), 2, "error: unrecognized arguments: --uid=b"),
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
