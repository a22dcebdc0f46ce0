//! `pyocd load`, whose other name is `pyocd flash`: the program of pyOCD's later versions.
//!
//! Options, messages and exit codes are those of pyOCD 0.46.0 (`pyocd/__main__.py`, `pyocd/subcommands/load_cmd.py`,
//! `pyocd/core/helpers.py`, `pyocd/flash/loader.py`), tried without a probe; its other commands are not played. The real one
//! also takes a part of a probe's id; here it must be the whole.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::super::Called;
use super::super::argparse::{self, Option_, Parsed, Takes, checked, choice, flag, value};
use super::super::usb::Device;
use super::{Failed, TARGETS, Target, address, ask, progress};
use crate::peripheral::{Identity, Mode};

const VERSION: &str = "0.46.0\n";

const COMMANDS: &[&str] = &[
    "commander",
    "cmd",
    "erase",
    "load",
    "flash",
    "gdbserver",
    "gdb",
    "info",
    "json",
    "list",
    "pack",
    "reset",
    "server",
    "rtt",
    "run",
];

const OPTIONS: &[Option_] = &[
    flag(&["-v", "--verbose"]),
    flag(&["-q", "--quiet"]),
    value(&["-L", "--log-level"]),
    value(&["--color"]),
    value(&["-j", "--project", "--dir"]),
    value(&["--config"]),
    flag(&["--no-config"]),
    value(&["--script"]),
    value(&["-O"]),
    Option_ { names: &["-da", "--daparg"], takes: Takes::Words, check: |_| Ok(()) },
    value(&["--pack"]),
    value(&["--cbuild-run"]),
    value(&["-u", "--uid", "--probe"]),
    value(&["-t", "--target"]),
    checked(&["-f", "--frequency"], frequency),
    flag(&["-W", "--no-wait"]),
    value(&["-M", "--connect"]),
    checked(&["-e", "--erase"], |it| choice(it, &["auto", "chip", "sector"])),
    checked(&["-a", "--base-address"], |it| address(it).map(drop)),
    flag(&["--trust-crc"]),
    checked(&["--format"], |it| choice(it, &["bin", "hex", "elf"])),
    checked(&["--skip"], |it| address(it).map(drop)),
    flag(&["--no-reset"]),
];

/// What would change what is written, and is not played.
const NOT_PLAYED: &[&str] = &["--pack", "--cbuild-run", "--skip", "--no-reset", "--connect", "-O"];

/// Hz, with `k` or `m` and `hz` behind it (`convert_frequency` in `pyocd/utility/cmdline.py`).
fn frequency(text: &str) -> Result<(), String> {
    let lower = text.trim().to_lowercase();
    let hertz = lower.strip_suffix("hz").unwrap_or(&lower);
    let plain = hertz.strip_suffix(['k', 'm']).unwrap_or(hertz);
    plain.parse::<f64>().map(drop).map_err(|_| format!("invalid convert_frequency value: '{text}'"))
}

pub(super) fn run(mut called: Called) -> Result<u8, String> {
    let args = called.args;
    if args.iter().any(|arg| arg == "--version" || arg == "-V") {
        let _ = called.out.write_all(VERSION.as_bytes());
        return Ok(0);
    }
    let wrong = |called: &mut Called, usage: &str, program: &str, why: &str| {
        let _ = writeln!(called.err, "usage: {usage}\n{program}: error: {why}");
        Ok(2)
    };
    const MAIN: &str = "pyocd [-h] [-V] [--help-options]  ...";
    let Some(at) = args.iter().position(|arg| !arg.starts_with('-')) else {
        return Err("this ghost of pyocd does not print its help".into());
    };
    if let Err(why) = choice(&args[at], COMMANDS) {
        return wrong(&mut called, MAIN, "pyocd", &format!("argument : {why}"));
    }
    if !matches!(args[at].as_str(), "load" | "flash") {
        return Err(format!("this ghost of pyocd does not play {}", args[at]));
    }
    let line = match argparse::parse(&args[at + 1..], OPTIONS, usize::MAX) {
        Ok(line) => line,
        // What it prints of its usage takes a screen.
        Err(why) => return wrong(&mut called, "pyocd load [-h] ... [<file-path> ...]", "pyocd load", &why),
    };
    let extra: Vec<&str> = args[..at].iter().chain(&line.extra).map(String::as_str).collect();
    if !extra.is_empty() {
        return wrong(&mut called, MAIN, "pyocd", &format!("unrecognized arguments: {}", extra.join(" ")));
    }
    if let Some(option) = NOT_PLAYED.iter().find(|option| line.has(option)) {
        return Err(format!("this ghost of pyocd does not play {option}"));
    }
    if let Err(why) = load(&mut called, &line) {
        log(&mut called, why.0, &why.1, why.2);
        return Ok(1);
    }
    Ok(0)
}

/// A line of its log, which begins with the milliseconds since its start; here they are 0.
fn log(called: &mut Called, level: char, message: &dyn Display, module: &str) {
    let _ = writeln!(called.err, "0000000 {level} {message} [{module}]");
}

/// What ends it: the level of the line that says so, the line, and the module that it comes from.
struct Ends(char, String, &'static str);

/// An exception that nobody has caught.
fn critical(message: impl Into<String>) -> Ends {
    Ends('C', message.into(), "__main__")
}

impl From<Failed> for Ends {
    fn from(failed: Failed) -> Self {
        critical(match failed {
            Failed::NoAck => {
                "SWD/JTAG communication failure (No ACK); check USB cable, reduce debugger clock".into()
            }
            Failed::Flash(why) => format!("flash erase sector failure: {why}"),
        })
    }
}

fn load(called: &mut Called, line: &Parsed) -> Result<(), Ends> {
    if line.words.is_empty() {
        return Err(critical("Positional argument <file-path> is required when '--cbuild-run' is not used."));
    }
    let base = line.value("--base-address").map(address).transpose().map_err(critical)?;
    if base.is_some() && line.words.len() > 1 {
        return Err(critical(
            "--base-address cannot be set when loading more than one file; use a base address suffix instead",
        ));
    }
    let device = open(called, line)?;
    let target = known(line.value("--target"))?;
    ask(&device, "reset halt", None)?;
    let mut files = Vec::new();
    for word in &line.words {
        let (path, address) = place(word, base)?;
        let shown = path.display();
        match address {
            Some(address) => {
                log(called, 'I', &format_args!("Loading {shown} at {address:#010x}"), "load_cmd")
            }
            None => log(called, 'I', &format_args!("Loading {shown}"), "load_cmd"),
        }
        let size = check(&path, line.value("--format"))?;
        let address = address.unwrap_or(target.base);
        if let Some(outside) = target.first_outside(address, size) {
            return Err(critical(format!("no memory region defined for address {outside:#010x}")));
        }
        files.push((path, address, size));
    }
    log(called, 'I', &"Erasing...", "loader");
    let chip = line.value("--erase") == Some("chip");
    if chip {
        ask(&device, "erase", None)?;
    }
    let mut written = 0;
    for (path, address, size) in files {
        ask(&device, &format!("write {address:x}"), Some(path))?;
        written += size.div_ceil(SECTOR);
    }
    let _ = called.out.write_all(progress().as_bytes());
    log(called, 'I', &"Programming...", "loader");
    let _ = called.out.write_all(progress().as_bytes());
    let bytes = written * SECTOR;
    let plural = if written == 1 { "" } else { "s" };
    let erased = if chip { "chip".to_owned() } else { format!("{bytes} bytes ({written} sector{plural})") };
    let said = format!(
        "Erased {erased}, programmed {bytes} bytes ({written} page{plural}), identical 0 bytes (0 pages) at 0.00 kB/s"
    );
    log(called, 'I', &said, "loader");
    ask(&device, "reset halt", None)?;
    Ok(ask(&device, "run", None)?)
}

/// A sector of the flash, and a page of it: those of an nRF52.
const SECTOR: u64 = 4096;

/// The probe that the command line names, once it is there.
fn open(called: &mut Called, line: &Parsed) -> Result<Device, Ends> {
    let uid = line.value("--probe");
    let identity = uid.map(Identity::serial).unwrap_or_default();
    let broken = |error: std::io::Error| critical(format!("Error: {error}"));
    if let Some(device) = Device::open(called, &identity, Mode::Always).map_err(broken)?.into_iter().next() {
        return Ok(device);
    }
    let matching = uid.map(|uid| format!(" matching unique ID '{uid}'")).unwrap_or_default();
    if line.has("--no-wait") {
        let says = match uid {
            Some(uid) => format!("No connected debug probe matches unique ID '{uid}'"),
            None => "No connected debug probes".into(),
        };
        let _ = writeln!(called.out, "{says}");
        return Err(Ends('E', "No target device available".into(), "load_cmd"));
    }
    let _ = writeln!(called.out, "Waiting for a debug probe{matching} to be connected...");
    let _ = called.out.flush();
    Device::wait(called, &identity, Mode::Always).map_err(broken)
}

/// The target of that name; without one it is `cortex_m`, which has no flash.
fn known(name: Option<&str>) -> Result<&'static Target, Ends> {
    // `normalise_target_type_name` in `pyocd/target/__init__.py`.
    let name = name.unwrap_or("cortex_m").to_lowercase().replace('-', "_");
    if name == "cortex_m" {
        return Err(critical("No boot memory is defined for this device"));
    }
    TARGETS.iter().find(|target| target.name == name).ok_or_else(|| {
        critical(format!(
            "Target type {name} not recognized. Use 'pyocd list --targets' to see currently available target types. See \
             <https://pyocd.io/docs/target_support.html> for how to install additional target support."
        ))
    })
}

/// The file that `word` names, and the address behind its `@`, or else `base`.
fn place(word: &str, base: Option<u32>) -> Result<(PathBuf, Option<u32>), Ends> {
    let absolute =
        |name: &str| std::path::absolute(name).map_err(|error| critical(format!("Error: {error}")));
    match word.rsplit_once('@') {
        Some((name, suffix)) if !Path::new(word).exists() => {
            let address = address(suffix).map_err(|_| {
                let says = format!(
                    "Base address suffix \"{suffix}\" on file \"{name}\" is not a valid integer address"
                );
                Ends('E', says, "load_cmd")
            })?;
            Ok((absolute(name)?, Some(address)))
        }
        _ => Ok((absolute(word)?, base)),
    }
}

/// The size of a file that can be written (`FileProgrammer.add_file` in `pyocd/flash/file_programmer.py`).
fn check(path: &Path, format: Option<&str>) -> Result<u64, Ends> {
    let shown = path.display();
    let found = std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)
        .ok_or_else(|| critical(format!("Error: [Errno 2] No such file: '{shown}'")))?;
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    match format.unwrap_or(&extension) {
        "bin" => Ok(found.len()),
        "" => Err(critical(format!("file path '{shown}' does not have an extension and no format is set"))),
        it @ ("hex" | "elf" | "axf") => Err(critical(format!("this ghost of pyocd does not play {it}"))),
        other => Err(critical(format!("unknown file format '{other}'"))),
    }
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::mcu;

    use super::super::super::testing::{Bench, Found};
    use super::super::{TOOL, flashtool};

    async fn call(bench: &Bench, line: &str) -> Found {
        bench.call_as(&TOOL, "pyocd", line.split_whitespace().map(str::to_owned).collect()).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_lava_calls_it_with_writes_the_flash_and_a_wrong_call_does_not() {
        let bench = Bench::start(flashtool::tests::BOARD).await;
        let image = bench.file("zephyr.bin", &mcu::write(0, 0x2001_0000, "hello\n", 5000));
        let path = image.display();
        let good = format!("flash -t nrf52 -f 3000000 --uid b {path}");
        // It may not be that far yet.
        let mut found = call(&bench, &good).await;
        while found.code != 0 {
            found = call(&bench, &good).await;
        }
        assert_eq!(
            found.err,
            format!(
                "0000000 I Loading {path} [load_cmd]\n0000000 I Erasing... [loader]\n0000000 I Programming... [loader]\n\
                 0000000 I Erased 8192 bytes (2 sectors), programmed 8192 bytes (2 pages), identical 0 bytes (0 pages) \
                 at 0.00 kB/s [loader]\n"
            )
        );
        // As `-da debug`, which is what it makes of it.
        assert_eq!(call(&bench, &format!("load -d debug -t nrf52 -u b {path}")).await.code, 0);
        let text = bench.file("zephyr.txt", b"x");
        for (line, code, says) in [
            (
                format!("flash -W -t nrf52 --uid c {path}"),
                1,
                "0000000 E No target device available [load_cmd]",
            ),
            (format!("flash -t nrf9999 --uid b {path}"), 1, "additional target support. [__main__]"),
            (
                format!("flash --uid b {path}"),
                1,
                "0000000 C No boot memory is defined for this device [__main__]",
            ),
            (format!("flash -t nrf52 --uid b {}", text.display()), 1, "unknown file format 'txt' [__main__]"),
            (
                "flash -t nrf52 --uid b /no.bin".into(),
                1,
                "C Error: [Errno 2] No such file: '/no.bin' [__main__]",
            ),
            (
                format!("flash -t nrf52 -a 0x7ff00 --uid b {path}"),
                1,
                "no memory region defined for address 0x00080000 [__main__]",
            ),
            (
                "flash -t nrf52 --uid b".into(),
                1,
                "C Positional argument <file-path> is required when '--cbuild-run' is not used. [__main__]",
            ),
            (
                format!("flash load -t nrf52 -f 3000000 -a 0x0 --uid b {path}"),
                2,
                &format!("pyocd: error: unrecognized arguments: {path}"),
            ),
            (format!("flash -t nrf52 --board b {path}"), 2, "pyocd: error: unrecognized arguments: --board"),
            (format!("-t nrf52 --uid b {path}"), 2, "'pack', 'reset', 'server', 'rtt', 'run')"),
            (
                "flash -f fast".into(),
                2,
                "pyocd load: error: argument -f/--frequency: invalid convert_frequency value: 'fast'",
            ),
        ] {
            let found = call(&bench, &line).await;
            assert!(
                found.code == code && found.err.trim_end().ends_with(says),
                "{line}: {} {}",
                found.code,
                found.err
            );
        }
        bench.power_off().await;
        let off = call(&bench, &good).await;
        assert!(off.code == 1 && off.err.contains("communication failure (No ACK)"), "{}", off.err);
        let ledger = bench.ledger();
        assert!(ledger.contains(&format!("sent {path} 5000 0x00000000")), "{ledger:?}");
    }
}
