//! `fastboot`: flashes and boots boards whose boot loader is in fastboot.
//!
//! Options, messages and exit codes are those of fastboot 29.0.6 as Debian 12 has it (`fastboot.cpp` and
//! `util.cpp` in Android's `system/core/fastboot`), tried with the real one against a device on
//! `tcp:`. All times that it prints are 0. The protocol is in [`crate::firmware::fastboot`].

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use meta_lava_formats::android;

use super::getopt::{self, NO_LETTER, Option_, Parsed, Takes};
use super::usb::Device;
use super::{Called, Tool, system_says};
use crate::peripheral::{Answer, Identity, Mode};

/// The tool.
pub const TOOL: Tool = Tool { names: &["fastboot"], run };

const VERSION: &str =
    "fastboot version 29.0.6-debian\nInstalled as /usr/lib/android-sdk/platform-tools/fastboot\n";

const OPTIONS: &[Option_] = &[
    (NO_LETTER, "base", Takes::Value),
    (NO_LETTER, "cmdline", Takes::Value),
    (NO_LETTER, "disable-verification", Takes::Nothing),
    (NO_LETTER, "disable-verity", Takes::Nothing),
    (NO_LETTER, "dtb", Takes::Value),
    (NO_LETTER, "dtb-offset", Takes::Value),
    (NO_LETTER, "force", Takes::Nothing),
    (NO_LETTER, "header-version", Takes::Value),
    ('h', "help", Takes::Nothing),
    (NO_LETTER, "kernel-offset", Takes::Value),
    (NO_LETTER, "os-patch-level", Takes::Value),
    (NO_LETTER, "os-version", Takes::Value),
    (NO_LETTER, "page-size", Takes::Value),
    (NO_LETTER, "ramdisk-offset", Takes::Value),
    ('a', "set-active", Takes::MayTakeValue),
    (NO_LETTER, "skip-reboot", Takes::Nothing),
    (NO_LETTER, "skip-secondary", Takes::Nothing),
    (NO_LETTER, "slot", Takes::Value),
    (NO_LETTER, "tags-offset", Takes::Value),
    (NO_LETTER, "unbuffered", Takes::Nothing),
    ('v', "verbose", Takes::Nothing),
    (NO_LETTER, "version", Takes::Nothing),
    (NO_LETTER, "wipe-and-use-fbe", Takes::Nothing),
    ('s', "", Takes::Value),
    ('S', "", Takes::Value),
    ('l', "", Takes::Nothing),
    ('w', "", Takes::Nothing),
];

/// Words that change nothing here.
const NOT_PLAYED: &[&str] = &[
    "update",
    "flashall",
    "format",
    "flashing",
    "gsi",
    "wipe-super",
    "snapshot-update",
    "set_active",
    "stage",
    "get_staged",
    "create-logical-partition",
    "delete-logical-partition",
    "resize-logical-partition",
    "flash:raw",
    "signature",
];

fn run(mut called: Called) -> Result<u8, String> {
    let refused = |called: &mut Called, why: String| {
        let _ = writeln!(called.err, "{why}");
        1
    };
    let parsed = match getopt::parse("fastboot", called.args, OPTIONS) {
        Ok(parsed) => parsed,
        Err(why) => return Ok(refused(&mut called, why)),
    };
    if parsed.has("version") {
        let _ = write!(called.out, "{VERSION}");
        return Ok(0);
    }
    if parsed.has("help") {
        let _ = writeln!(called.out, "usage: fastboot [OPTION...] COMMAND...");
        return Ok(0);
    }
    match session(&mut called, &parsed) {
        Ok(()) => Ok(0),
        Err(why) => Ok(refused(&mut called, why)),
    }
}

fn error(why: impl std::fmt::Display) -> String {
    format!("fastboot: error: {why}")
}

fn usage(why: impl std::fmt::Display) -> String {
    format!("fastboot: usage: {why}")
}

fn session(called: &mut Called, parsed: &Parsed) -> Result<(), String> {
    let identity = parsed.value("s").map(Identity::serial).unwrap_or_default();
    let attached = Device::open(called, &identity, Mode::Fastboot).map_err(error)?;
    let mut words = parsed.words.iter().map(String::as_str);
    let Some(first) = words.next() else { return Err(usage("no command")) };
    if first == "devices" {
        // The real one lists what others have there, too. Nobody else's board is shown here: which
        // jobs run at the same time is not the same in every run.
        for device in attached {
            writeln!(called.out, "{}\tfastboot", device.attached.serial).map_err(error)?;
        }
        return Ok(());
    }
    let device = match attached.into_iter().next() {
        Some(device) => device,
        None => {
            let who = parsed.value("s").unwrap_or("any device");
            writeln!(called.err, "< waiting for {who} >").map_err(error)?;
            Device::wait(called, &identity, Mode::Fastboot).map_err(error)?
        }
    };
    let mut session = Session { device, err: &mut *called.err };
    let mut next = Some(first);
    while let Some(command) = next {
        session.command(command, &mut words)?;
        next = words.next();
    }
    session.say("Finished. Total time: 0.000s\n");
    Ok(())
}

struct Session<'a> {
    device: Device,
    err: &'a mut dyn Write,
}

impl Session<'_> {
    fn say(&mut self, text: &str) {
        // Nobody may be reading any more.
        let _ = self.err.write_all(text.as_bytes());
    }

    fn command<'w>(
        &mut self,
        command: &str,
        words: &mut (impl Iterator<Item = &'w str> + Clone),
    ) -> Result<(), String> {
        let missing = || usage("expected argument");
        match command {
            "getvar" => self.getvar(words.next().ok_or_else(missing)?),
            "erase" => {
                let partition = words.next().ok_or_else(missing)?;
                self.step(&format!("Erasing '{partition}'"), &format!("erase:{partition}"))
            }
            "flash" => {
                let partition = words.next().ok_or_else(missing)?;
                let file = words.next().ok_or_else(|| error("ANDROID_PRODUCT_OUT not set"))?;
                let size = self.load(file)?;
                self.download(partition, file, size)?;
                self.step(&format!("Writing '{partition}'"), &format!("flash:{partition}"))
            }
            "boot" => {
                let file = words.next().ok_or_else(missing)?;
                let size = self.load(file)?;
                let head = fs::read(file).map_err(error)?;
                if !head.starts_with(android::MAGIC) {
                    return Err(error(format!(
                        "{file} is no Android boot image, and this ghost of fastboot makes none of a kernel"
                    )));
                }
                self.download("boot.img", file, size)?;
                self.step("Booting", "boot")
            }
            "continue" => self.step("Resuming boot", "continue"),
            "reboot" => match words.clone().next() {
                None => self.step("Rebooting", "reboot"),
                Some(target) => {
                    words.next();
                    match target {
                        "bootloader" => self.bootloader(),
                        "fastboot" => self.userspace(),
                        "recovery" => self.step("Rebooting into recovery", "reboot-recovery"),
                        other => Err(usage(format!("unknown reboot target {other}"))),
                    }
                }
            },
            "reboot-bootloader" => self.bootloader(),
            "reboot-recovery" => self.step("Rebooting into recovery", "reboot-recovery"),
            "reboot-fastboot" => self.userspace(),
            "oem" => {
                let rest: Vec<&str> = words.collect();
                if rest.is_empty() {
                    return Err(usage("empty oem command"));
                }
                self.step("", &format!("oem {}", rest.join(" ")))
            }
            known if NOT_PLAYED.contains(&known) => {
                Err(error(format!("this ghost of fastboot does not know what {known} does")))
            }
            unknown => Err(usage(format!("unknown command {unknown}"))),
        }
    }

    fn bootloader(&mut self) -> Result<(), String> {
        self.step("Rebooting into bootloader", "reboot-bootloader")
    }

    /// The fastboot of the userland, which no board here has.
    fn userspace(&mut self) -> Result<(), String> {
        self.step("Rebooting into fastboot", "reboot-fastboot")?;
        Err(error("Failed to boot into userspace fastboot; one or more components might be unbootable."))
    }

    /// A file's size.
    fn load(&mut self, file: &str) -> Result<u64, String> {
        let size = fs::metadata(file)
            .map(|found| found.len())
            .map_err(|why| error(format!("cannot load '{file}': {}", system_says(&why))))?;
        if size == 0 { Err(error(format!("cannot load '{file}': Success"))) } else { Ok(size) }
    }

    fn getvar(&mut self, name: &str) -> Result<(), String> {
        let answer = self.ask(&format!("getvar:{name}"), None)?;
        for line in &answer.info {
            self.say(&format!("(bootloader) {line}\n"));
        }
        match answer.result {
            Ok(value) => self.say(&format!("{name}: {value}\n")),
            // The one refusal that is no error.
            Err(why) => {
                let asked = format!("getvar:{name}");
                self.say(&format!("{asked:<50} FAILED (remote: '{why}')\n"));
            }
        }
        Ok(())
    }

    fn download(&mut self, name: &str, file: &str, size: u64) -> Result<(), String> {
        let says = format!("Sending '{name}' ({} KB)", size / 1024);
        self.say(&format!("{says:<50} "));
        let path = std::path::absolute(file).map_err(error)?;
        let answer = self.ask(&format!("download:{size:08x}"), Some(path))?;
        self.finish(answer)
    }

    /// A command, and what is printed of it.
    fn step(&mut self, says: &str, command: &str) -> Result<(), String> {
        self.say(&format!("{says:<50} "));
        let answer = self.ask(command, None)?;
        self.finish(answer)
    }

    fn ask(&mut self, command: &str, file: Option<PathBuf>) -> Result<Answer, String> {
        self.device.ask(command, file).map_err(|_gone| {
            format!("FAILED (Status read failed (No such device))\n{}", error("Command failed"))
        })
    }

    fn finish(&mut self, answer: Answer) -> Result<(), String> {
        for line in answer.info {
            self.say(&format!("(bootloader) {line}\n"));
        }
        match answer.result {
            Ok(_) => {
                self.say("OKAY [  0.000s]\n");
                Ok(())
            }
            Err(why) => Err(format!("FAILED (remote: '{why}')\n{}", error("Command failed"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, called};
    use super::*;

    const BOARD: &str = "
model: HiKey
peripherals:
- {while: fastboot, vendor: 18d1, product: d00d}
firmware:
  kind: fastboot
  enter: always
  product: hikey
  partitions: {boot: 64, cache: 64}
  flash: FOLDER
";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fault_ends_one_call_with_its_words_and_its_exit_code() {
        let fault = "{when: {tool: '^fastboot -s b getvar'}, then: [{print: \"no link\\n\"}, {exit: 3}]}";
        let bench = Bench::start(&format!("{BOARD}faults: [{fault}]\n")).await;
        let failed = bench.call(&TOOL, "-s b getvar product").await;
        assert_eq!((failed.code, failed.out.as_str()), (3, ""));
        assert!(failed.err.ends_with("no link\n"), "{}", failed.err);
        assert_eq!(bench.call(&TOOL, "-s b getvar product").await.code, 0);
    }

    /// The messages are those of the real tool, see above.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_flashed_and_what_is_refused_reads_as_with_the_real_tool() {
        let bench = Bench::start(BOARD).await;
        let (image, empty) = (bench.file("cache.img", &[7; 5000]), bench.file("empty", b""));
        let path = image.display();
        // It may not be in fastboot yet.
        bench.call(&TOOL, "-s b getvar version").await;
        let okay = "OKAY [  0.000s]";
        for (line, code, says) in [
            (
                format!("-s b flash cache {path}"),
                0,
                format!(
                    "Sending 'cache' (4 KB){:29}{okay}\nWriting 'cache'{:36}{okay}\nFinished. Total time: 0.000s\n",
                    "", ""
                ),
            ),
            (
                format!("flash boot {path} -s b"),
                1,
                format!(
                    "Sending 'boot' (4 KB){:30}{okay}\nWriting 'boot'{:37}FAILED (remote: 'image is not a boot image')\nfastboot: error: Command failed\n",
                    "", ""
                ),
            ),
            (
                format!("-s b flash boot {}", empty.display()),
                1,
                format!("fastboot: error: cannot load '{}': Success\n", empty.display()),
            ),
            (
                "-s b flash boot /nonexistent".into(),
                1,
                "fastboot: error: cannot load '/nonexistent': No such file or directory\n".into(),
            ),
            ("-s b getvar product".into(), 0, "product: hikey\nFinished. Total time: 0.000s\n".into()),
            ("-s b frobnicate".into(), 1, "fastboot: usage: unknown command frobnicate\n".into()),
            ("-s b reboot nowhere".into(), 1, "fastboot: usage: unknown reboot target nowhere\n".into()),
            ("-s b flash".into(), 1, "fastboot: usage: expected argument\n".into()),
            ("-s b flash boot".into(), 1, "fastboot: error: ANDROID_PRODUCT_OUT not set\n".into()),
            ("-s b".into(), 1, "fastboot: usage: no command\n".into()),
            ("--frob".into(), 1, "fastboot: unrecognized option '--frob'\n".into()),
            ("-z".into(), 1, "fastboot: invalid option -- 'z'\n".into()),
        ] {
            let found = bench.call(&TOOL, &line).await;
            assert_eq!((found.code, found.err), (code, says), "{line}");
        }
        assert_eq!(bench.call(&TOOL, "-s b devices").await.out, "b\tfastboot\n");
        assert_eq!(bench.call(&TOOL, "-s c devices").await.out, "");
        let ledger = bench.ledger();
        assert!(ledger.contains(&format!("tool fastboot -s b flash cache {path}")), "{ledger:?}");
        assert!(ledger.contains(&format!("sent {path} 5000 cache")), "{ledger:?}");
        assert!(!ledger.iter().any(|event| event.contains("-s c")), "a board that is not asked for");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_waits_for_a_board_that_is_off_and_goes_on_once_it_is_there() {
        let bench = Bench::start(BOARD).await;
        bench.power_off().await;
        let (found, ()) =
            tokio::join!(bench.call(&TOOL, "-s b getvar product"), bench.power_on_once_watched());
        assert_eq!(found.err, "< waiting for b >\nproduct: hikey\nFinished. Total time: 0.000s\n");
    }

    #[test]
    fn its_version_is_that_of_debian_12() {
        assert_eq!(called(&TOOL, "--version", std::path::Path::new("/nowhere")).out, VERSION);
    }
}
