//! `dfu-util`: writes boards whose boot loader is in DFU.
//!
//! Options, messages and exit codes are those of dfu-util 0.11 (`src/main.c`, `src/dfu_load.c`), tried with
//! the real one as far as it goes without a device. What goes over USB is told in words: `alternates`,
//! `download NAME` with a file, and `detach`.

use std::fmt::Display;
use std::path::Path;

use super::getopt::{self, Option_, Takes};
use super::usb::Device;
use super::{Called, Tool, system_says};
use crate::peripheral::{Identity, Mode};

/// The tool.
pub const TOOL: Tool = Tool { names: &["dfu-util"], run };

const HEAD: &str = "dfu-util 0.11\n\nCopyright 2005-2009 Weston Schmidt, Harald Welte and OpenMoko Inc.\n\
    Copyright 2010-2021 Tormod Volden and Stefan Schmidt\n\
    This program is Free Software and has ABSOLUTELY NO WARRANTY\n\
    Please report bugs to http://sourceforge.net/p/dfu-util/tickets/\n\n";

/// Exit codes, of `sysexits.h`.
const USAGE: u8 = 64;
const NO_INPUT: u8 = 66;
const IO: u8 = 74;

/// It says so, too, where one device has several alternate settings and none is chosen.
const SEVERAL: &str = "More than one DFU capable USB device found! Try `--list' and specify the serial number or disconnect all but one device";

/// Bytes that go over USB at once.
const TRANSFER: usize = 4096;

const OPTIONS: &[Option_] = &[
    ('h', "help", Takes::Nothing),
    ('V', "version", Takes::Nothing),
    ('v', "verbose", Takes::Nothing),
    ('l', "list", Takes::Nothing),
    ('e', "detach", Takes::Nothing),
    ('E', "detach-delay", Takes::Value),
    ('d', "device", Takes::Value),
    ('n', "devnum", Takes::Value),
    ('p', "path", Takes::Value),
    ('c', "cfg", Takes::Value),
    ('i', "intf", Takes::Value),
    ('S', "serial", Takes::Value),
    ('a', "alt", Takes::Value),
    ('t', "transfer-size", Takes::Value),
    ('U', "upload", Takes::Value),
    ('Z', "upload-size", Takes::Value),
    ('D', "download", Takes::Value),
    ('R', "reset", Takes::Nothing),
    ('w', "wait", Takes::Nothing),
    ('s', "dfuse-address", Takes::Value),
];

/// An end that is none of success: its exit code, and what it says.
struct Failed(u8, String);

fn failed(code: u8, why: impl Display) -> Failed {
    Failed(code, format!("dfu-util: {why}\n"))
}

fn run(mut called: Called) -> Result<u8, String> {
    match session(&mut called) {
        Ok(()) => Ok(0),
        Err(Failed(code, why)) => {
            let _ = called.err.write_all(why.as_bytes());
            Ok(code)
        }
    }
}

fn session(called: &mut Called) -> Result<(), Failed> {
    let usage = |why: String| Failed(USAGE, format!("{why}\nUsage: dfu-util [options] ...\n"));
    let parsed = getopt::parse("dfu-util", called.args, OPTIONS).map_err(usage)?;
    let mut say = |text: &str| {
        let _ = called.out.write_all(text.as_bytes());
    };
    if parsed.has("help") {
        say("Usage: dfu-util [options] ...\n");
        return Ok(());
    }
    say(HEAD);
    if parsed.has("version") {
        return Ok(());
    }
    if let Some(word) = parsed.words.first() {
        return Err(failed(USAGE, format!("unexpected argument {word}")));
    }
    for played in ["upload", "detach", "wait", "dfuse-address"] {
        if parsed.has(played) {
            return Err(failed(USAGE, format!("this ghost of dfu-util does not play --{played}")));
        }
    }
    let file = parsed.value("download");
    if file.is_none() && !parsed.has("list") {
        return Err(usage("You need to specify one of -D or -U".into()));
    }
    if let Some(file) = file {
        if let Err(error) = std::fs::File::open(file) {
            let why = system_says(&error);
            return Err(failed(NO_INPUT, format!("Could not open file {file} for reading: {why}")));
        }
        // None has a suffix here: LAVA downloads plain images.
        let _ = called.err.write_all(
            b"dfu-util: Warning: Invalid DFU suffix signature\n\
            dfu-util: A valid DFU suffix will be required in a future dfu-util release\n",
        );
    }
    let numbers = parsed.value("device").unwrap_or_default();
    let (vendor, product) =
        numbers.split(',').next().and_then(|first| first.split_once(':')).unwrap_or_default();
    let number = |text: &str| match text {
        "" | "*" => None,
        text => {
            Some(u16::from_str_radix(text, 16).map_or_else(|_| text.to_owned(), |it| format!("{it:04x}")))
        }
    };
    let identity = Identity {
        serial: parsed.value("serial").map(str::to_owned),
        vendor: number(vendor),
        product: number(product),
        path: parsed.value("path").map(str::to_owned),
        ..Identity::default()
    };
    let unplayed = |error: std::io::Error| failed(IO, error);
    let mut found = Device::open(called, &identity, Mode::Dfu).map_err(unplayed)?;
    let mut say = |text: &str| {
        let _ = called.out.write_all(text.as_bytes());
    };
    if parsed.has("list") {
        for device in found {
            for (number, name) in device.alternates()?.iter().enumerate() {
                let attached = &device.attached;
                say(&format!(
                    "Found DFU: [{}:{}] ver=0100, devnum=1, cfg=1, intf=0, path=\"{}\", alt={number}, name=\"{name}\", serial=\"{}\"\n",
                    attached.vendor, attached.product, attached.path, attached.serial
                ));
            }
        }
        return Ok(());
    }
    let absent = || failed(IO, "No DFU capable USB device available");
    if found.len() > 1 {
        return Err(failed(IO, SEVERAL));
    }
    let device = found.pop().ok_or_else(absent)?;
    let alternates = device.alternates()?;
    let chosen = match parsed.value("alt") {
        None if alternates.len() > 1 => {
            // Each alternate setting counts as a device, as long as none is chosen.
            return Err(failed(IO, SEVERAL));
        }
        None => 0,
        Some(alt) => match alt.parse::<usize>() {
            Ok(number) => number,
            Err(_) => alternates.iter().position(|name| name == alt).ok_or_else(absent)?,
        },
    };
    let name = alternates.get(chosen).ok_or_else(absent)?;
    say(&format!(
        "Opening DFU capable USB device...\nDevice ID {}:{}\nDevice DFU version 0110\n\
        Claiming USB DFU Interface...\nSetting Alternate Interface #{chosen} ...\nDetermining device status...\n\
        DFU state(2) = dfuIDLE, status(0) = No error condition is present\n\
        DFU mode device DFU version 0110\nDevice returned transfer size {TRANSFER}\n\
        Copying data from PC to DFU device\n",
        device.attached.vendor, device.attached.product
    ));
    let path = std::path::absolute(Path::new(file.unwrap_or_default())).map_err(unplayed)?;
    let size = std::fs::metadata(&path).map_err(unplayed)?.len();
    let answer = device
        .ask(format!("download {name}"), Some(path))
        .map_err(|_gone| failed(IO, "Error during download get_status (LIBUSB_ERROR_NO_DEVICE)"))?;
    if let Err(why) = answer.result {
        // It goes on to the end, and returns 0: LAVA looks for its words.
        say(&format!("DFU state(10) = dfuERROR, status(3) = {why}\n"));
        return Err(Failed(0, String::new()));
    }
    say(&format!(
        "Download\t[{:=<25}] 100% {size:12} bytes\nDownload done.\n\
        DFU state(7) = dfuMANIFEST, status(0) = No error condition is present\n\
        DFU state(2) = dfuIDLE, status(0) = No error condition is present\nDone!\n",
        ""
    ));
    if parsed.has("reset") {
        say("Resetting USB to switch back to Run-Time mode\n");
        // The board may be gone before it answers.
        let _ = device.ask("detach", None);
    }
    Ok(())
}

impl Device {
    /// The names of what can be written.
    fn alternates(&self) -> Result<Vec<String>, Failed> {
        let answer = self.ask("alternates", None);
        answer.map(|answer| answer.info).map_err(|_gone| failed(IO, "No DFU capable USB device available"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, called};
    use super::*;

    const BOARD: &str = "
model: Arduino 101
peripherals:
- {while: dfu, vendor: '8087', product: 0aba}
firmware:
  kind: mcu
  core: other
  flash: {base: 0x40010000, kib: 4}
  ram: {base: 0xa8000000, kib: 80}
  dfu: {alternates: [x86_rom, x86_app], program: x86_app, seconds: 5}
  storage: FOLDER
";

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_written_and_what_is_refused_reads_as_with_the_real_tool() {
        let bench = Bench::start(BOARD).await;
        let (image, large) = (bench.file("zephyr.bin", &[7; 1000]), bench.file("large.bin", &[7; 5000]));
        let (path, large) = (image.display(), large.display());
        let device = "--serial b --device 8087:0aba";
        // It may not be there yet.
        while bench.call(&TOOL, "-l").await.out == HEAD {}
        for (line, code, last) in [
            (format!("{device} --alt x86_rom --download {path}"), 0, "Done!"),
            (format!("{device} --alt 7 --download {path}"), IO, "No DFU capable USB device available"),
            (format!("{device} --alt nowhere -D {path}"), IO, "No DFU capable USB device available"),
            (
                format!("--serial other --device 8087:0aba -a 1 -D {path}"),
                IO,
                "No DFU capable USB device available",
            ),
            (
                format!("--serial b --device 8086:0aba -a 1 -D {path}"),
                IO,
                "No DFU capable USB device available",
            ),
            (format!("{device} -D {path}"), IO, "disconnect all but one device"),
            (format!("{device} -a 1 -D /nonexistent"), NO_INPUT, "for reading: No such file or directory"),
            (format!("{device} -a 1 -D {large}"), 0, "status(3) = errADDRESS"),
            (format!("{device} -a 1"), USAGE, "Usage: dfu-util [options] ..."),
            ("--frob".into(), USAGE, "Usage: dfu-util [options] ..."),
            (format!("{device} --alt x86_app --download {path} --reset"), 0, "switch back to Run-Time mode"),
        ] {
            let found = bench.call(&TOOL, &line).await;
            let said = format!("{}{}", found.out, found.err);
            let ends = [&found.out, &found.err].iter().any(|text| text.trim_end().ends_with(last));
            assert!(ends && found.code == code, "{line}: {} {said}", found.code);
        }
        let found = bench.call(&TOOL, &format!("{device} -a 1 -D {path}")).await;
        assert_eq!(found.code, IO, "it runs its program now");
        let ledger = bench.ledger();
        assert!(ledger.contains(&format!("sent {path} 1000 x86_app")), "{ledger:?}");
        assert!(ledger.contains(&format!("tool dfu-util {device} --alt x86_app --download {path} --reset")));
    }

    #[test]
    fn its_version_begins_what_it_says() {
        assert_eq!(called(&TOOL, "--version", Path::new("/nowhere")).out, HEAD);
    }
}
