//! `uuu`: NXP's tool that starts a boot loader by USB and has it write what is to be flashed.
//!
//! Options, the language of its commands and its messages are those of uuu 1.5.239 (`uuu/uuu.cpp`, `libuuu/cmd.cpp`,
//! `config.cpp`, `fastboot.cpp` and `sdps.cpp` of NXP's mfgtools); errors without a device tried with Debian
//! 12's 1.4.193. It prints as it does where `DISABLE_SUMMARY` is set and its input is no terminal, which is how
//! LAVA calls it; of a command's progress, the begin and the end only.
//!
//! The other side is [`crate::firmware::imx`] and the fastboot of [`crate::firmware::uboot`]. By hand: it has
//! options of one dash with long names, which neither getopt nor a crate takes apart.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::usb::Device;
use super::{Called, Tool};
use crate::control::{self, Request, Watched};
use crate::peripheral::{Action, Attached, Identity};

/// The tool.
pub const TOOL: Tool = Tool { names: &["uuu"], run };

const HEAD: &str = "uuu (Universal Update Utility) for nxp imx chips -- lib1.5.239\n\n";

/// It gives the cursor back, whatever happens.
const FOOT: &str = "\x1b[?25h\n\n\n";

/// What it says first, and repeats where it does not know what is meant.
const SCRIPTS: &str = "<emmc|emmc_all|fat_write|nand|nvme_all|qspi|sd|sd_all|spi_nand|spl>";

/// All failures are -1.
const FAILED: u8 = 255;

/// A protocol that it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// A boot ROM that takes a stream.
    Sdps,
    /// A boot ROM.
    Sdp,
    /// An SPL that takes the rest of a boot loader, in two kinds.
    Sdpu,
    Sdpv,
    /// Fastboot of a boot loader.
    Fb,
    /// Fastboot of a kernel.
    Fbk,
}

impl Protocol {
    /// By its name, without the colon.
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_uppercase().as_str() {
            "SDPS" => Self::Sdps,
            "SDP" => Self::Sdp,
            "SDPU" => Self::Sdpu,
            "SDPV" => Self::Sdpv,
            "FB" | "FASTBOOT" => Self::Fb,
            "FBK" => Self::Fbk,
            _ => return None,
        })
    }

    /// What a device speaks, by the numbers of vendor and product (`config.cpp`); those that SPLs have
    /// say by their version which kind they are, and no board here has any.
    fn of(device: &Attached) -> Option<Self> {
        const SDPS: &[&str] = &[
            "1fc9:012f",
            "1fc9:0129",
            "1fc9:0147",
            "15a2:004f",
            "1fc9:013e",
            "1fc9:0146",
            "1fc9:014a",
            "1fc9:014b",
            "1fc9:014e",
            "1fc9:0159",
            "1fc9:015d",
            "1fc9:015c",
            "1fc9:0027",
            "1fc9:0028",
        ];
        const SDP: &[&str] = &[
            "15a2:0076",
            "15a2:0054",
            "15a2:0061",
            "15a2:0063",
            "15a2:0071",
            "15a2:007d",
            "15a2:0080",
            "1fc9:0128",
            "1fc9:0126",
            "1fc9:0135",
            "1fc9:0134",
            "1fc9:012b",
        ];
        const FB: &[&str] = &["0525:a4a5", "18d1:0d02", "3016:0001", "1fc9:0152", "0483:0afb", "1d6b:0104"];
        let numbers = format!("{}:{}", device.vendor, device.product);
        let among = |table: &[&str]| table.contains(&numbers.as_str());
        match () {
            () if among(SDPS) => Some(Self::Sdps),
            () if among(SDP) => Some(Self::Sdp),
            () if among(FB) => Some(Self::Fb),
            () => None,
        }
    }
}

/// What a command has a device do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Does {
    /// Starts a boot loader.
    Boot(PathBuf),
    /// Sends a line of fastboot's.
    Send(String),
    Download(PathBuf),
    Flash(String, PathBuf),
    Delay(Duration),
    /// Is the last one.
    Done,
    /// Nothing here has the device that it is for.
    Elsewhere,
}

/// A command, as it was written and what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Command {
    text: String,
    protocol: Protocol,
    does: Does,
}

/// The next word of a command; a word in double quotes may have the separator in it (`get_next_param`).
fn next_word(text: &str, at: &mut usize, separator: char) -> String {
    let rest = text.get(*at..).unwrap_or_default();
    let begin = rest.len() - rest.trim_start_matches(separator).len();
    let mut quoted = false;
    let end = rest[begin..].find(|c| {
        quoted ^= c == '"';
        !quoted && c == separator
    });
    let end = end.map_or(rest.len(), |end| begin + end);
    *at = (*at + end + 1).min(text.len());
    rest[begin..end].to_owned()
}

/// A file of a command, which has to be there (`check_file_exist`).
fn file(name: &str) -> Result<PathBuf, String> {
    let name = name.trim_matches('"');
    let missing = || format!("fail open file: >{name}");
    let path = std::path::absolute(Path::new(name)).map_err(|_| missing())?;
    File::open(&path).map_err(|_| missing())?;
    Ok(path)
}

impl Command {
    /// Takes `text` apart (`create_cmd_obj` and the parsers of the commands).
    fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("Unknown Command:{text}");
        let mut at = 0;
        let head = next_word(text, &mut at, ':');
        let (name, options) = head.split_once('[').unwrap_or((&head, ""));
        let protocol = Protocol::named(name.trim()).ok_or_else(unknown)?;
        let verb = next_word(text, &mut at, ' ').to_uppercase();
        if head.contains('[') {
            let options = options.strip_suffix(']').ok_or("missed ]")?;
            let option = options.split(' ').next().unwrap_or_default();
            if option != "-t" {
                return Err(format!("Unknown option: {option} for protocol: {name}"));
            }
        }
        let rest = text.get(at..).unwrap_or_default();
        let does = match (protocol, verb.as_str()) {
            (_, "DONE") => Does::Done,
            (_, "DELAY") => {
                let milliseconds = next_word(rest, &mut 0, ' ').parse().unwrap_or(u32::MAX);
                Does::Delay(Duration::from_millis(milliseconds.into()))
            }
            (Protocol::Sdps, "BOOT") => {
                Does::Boot(with_file(rest, &["-offset", "-scanlimited"], &["-skipfhdr", "-scanterm"])?)
            }
            (Protocol::Sdp, "BOOT") => {
                Does::Boot(with_file(rest, &["-dcdaddr", "-scanlimited"], &["-nojump", "-cleardcd"])?)
            }
            (Protocol::Sdpu | Protocol::Sdpv, "WRITE" | "JUMP" | "BLOG") => Does::Elsewhere,
            (Protocol::Fb, "GETVAR") => Does::Send(format!("getvar:{}", next_word(rest, &mut 0, ' '))),
            (Protocol::Fb, "UCMD") => Does::Send(format!("UCmd:{rest}")),
            (Protocol::Fb, "ACMD") => Does::Send(format!("ACmd:{rest}")),
            (Protocol::Fb, "ERASE") => Does::Send(format!("erase:{rest}")),
            (Protocol::Fb, "REBOOT") => Does::Send("reboot".into()),
            (Protocol::Fb, "CONTINUE") => Does::Send("continue".into()),
            (Protocol::Fb, "DOWNLOAD") => Does::Download(with_file(rest, &[], &[])?),
            (Protocol::Fb, "FLASH") => {
                let mut at = 0;
                let partition = next_word(rest, &mut at, ' ');
                if partition.starts_with('-') {
                    return Err(format!("this ghost of uuu does not play `flash {partition}`"));
                }
                let name = next_word(rest, &mut at, ' ');
                match (partition.as_str(), name.as_str()) {
                    ("", _) => return Err("Missed partition name".into()),
                    (_, "") => return Err("Missed file name".into()),
                    _ => Does::Flash(partition, file(&name)?),
                }
            }
            _ => return Err(unknown()),
        };
        Ok(Self { text: text.to_owned(), protocol, does })
    }
}

/// The file behind `-f`, among options that have a value and such that have none (`CmdBase::parser`).
fn with_file(text: &str, valued: &[&str], plain: &[&str]) -> Result<PathBuf, String> {
    let mut at = 0;
    let mut found = None;
    while at < text.len() {
        let word = next_word(text, &mut at, ' ');
        match word.to_lowercase().as_str() {
            "" => {}
            "-f" => found = Some(file(&next_word(text, &mut at, ' '))?),
            option if plain.contains(&option) => {}
            option if valued.contains(&option) => {
                let _ = next_word(text, &mut at, ' ');
            }
            _ => return Err(format!("unknown Option{word}")),
        }
    }
    found.ok_or_else(|| "fail open file: >".to_owned())
}

/// The commands of a built-in script that this tool's boards can be written with: those that start the boot
/// loader, for each kind of boot ROM, and then those that write it to where the variable `device` says.
fn script(name: &str, args: &[String]) -> Option<Result<Vec<Command>, String>> {
    let argument =
        |number: usize, otherwise: &str| args.get(number).map_or(otherwise.to_owned(), Clone::clone);
    let loader = argument(0, "_flash.bin");
    let mut lines = vec![
        format!("SDP: boot -f {loader}"),
        format!("SDPS: boot -f {loader}"),
        "SDPU: delay 1000".into(),
        "SDPU: jump".into(),
        "SDPV: delay 1000".into(),
        "SDPV: jump".into(),
    ];
    match name {
        "sd" => {
            let image = argument(1, &loader);
            lines.extend([
                "FB: ucmd setenv fastboot_dev mmc".into(),
                "FB: ucmd setenv mmcdev ${sd_dev}".into(),
                "FB: ucmd mmc dev ${sd_dev}".into(),
                format!("FB: flash bootloader {image}"),
                "FB: Done".into(),
            ]);
        }
        "spl" => lines.extend(["SDPU: done".into(), "SDPV: done".into()]),
        name if SCRIPTS.trim_matches(['<', '>']).split('|').any(|known| known == name) => {
            return Some(Err(format!("this ghost of uuu does not play the script {name}")));
        }
        _ => return None,
    }
    Some(lines.iter().map(|line| Command::parse(line)).collect())
}

/// What it does with a file that is no list of commands (`added_default_boot_cmd`).
fn boots(name: &str) -> Result<Vec<Command>, String> {
    let path = file(name)?;
    let lines = [
        format!("SDPS: boot -f \"{}\"", path.display()),
        "SDPS: done".into(),
        format!("SDP: boot -f \"{}\"", path.display()),
        "SDP: done".into(),
        "SDPU: jump".into(),
        "SDPU: done".into(),
        "SDPV: jump".into(),
        "SDPV: done".into(),
    ];
    lines.iter().map(|line| Command::parse(line)).collect()
}

/// What is to be done, once the options are taken apart.
#[derive(Debug, Default)]
struct Plan {
    paths: Vec<String>,
    /// Seconds to wait for a device.
    patience: Option<u64>,
    commands: Vec<Command>,
    /// Whether it is one command, which only its own kind of device is waited for.
    alone: bool,
}

/// Why it ends at once, with what it prints of that.
struct Ends(u8, String);

/// Takes the arguments apart, as `main` does.
fn plan(args: &[String]) -> Result<Plan, Ends> {
    let mut plan = Plan::default();
    let mut rest = args.iter();
    let refuse = |text: String| Ends(FAILED, text);
    let failed = |plan: &Plan, why: String| refuse(format!("{}\x1b[91m\nError: \x1b[0m{why}", waits(plan)));
    while let Some(arg) = rest.next() {
        // The real one reads past its arguments there, and is aborted.
        let mut value = || rest.next().cloned().ok_or_else(|| Ends(134, String::new()));
        match arg.as_str() {
            "-m" => plan.paths.push(value()?),
            "-t" => plan.patience = value()?.parse().ok(),
            "-T" | "-pp" | "-e" => drop(value()?),
            "-v" | "-V" | "-dm" | "-bmap" | "-no-bmap" | "-force-ctrl" => {}
            "-h" | "-H" => {
                return Err(Ends(0, "uuu [-d -m -v -V -bmap -no-bmap] <bootloader|cmdlists|cmd>\n\n".into()));
            }
            "-b" | "-brun" => {
                let Some(name) = rest.next() else {
                    return Err(refuse(format!("error, must be have script name: {SCRIPTS}\n")));
                };
                let args: Vec<String> = rest.cloned().collect();
                plan.commands = match script(name, &args) {
                    Some(Ok(commands)) => commands,
                    Some(Err(why)) => return Err(failed(&plan, why)),
                    None => {
                        let why = format!("{name} is not built-in script or fail load external script file");
                        return Err(refuse(why));
                    }
                };
                return Ok(plan);
            }
            "-d" | "-s" | "-dry" | "-ms" | "-lsusb" | "-udev" | "-bshow" => {
                return Err(refuse(format!("this ghost of uuu does not play {arg}")));
            }
            option if option.starts_with('-') => return Err(refuse(format!("Unknown option: {option}"))),
            protocol if protocol.ends_with(':') => {
                let words = std::iter::once(arg).chain(rest).map(|word| match word.contains(' ') {
                    true => format!("\"{word}\""),
                    false => word.clone(),
                });
                let text = words.collect::<Vec<_>>().join(" ");
                match Command::parse(&text) {
                    Ok(command) => plan.commands.push(command),
                    Err(why) => return Err(refuse(format!("{}\n\n\n\nError: {why}\n", waits(&plan)))),
                }
                plan.alone = true;
                return Ok(plan);
            }
            name => {
                plan.commands = boots(name).map_err(|why| failed(&plan, why))?;
                return Ok(plan);
            }
        }
    }
    match args {
        [] => Err(Ends(0, "uuu [-d -m -v -V -bmap -no-bmap] <bootloader|cmdlists|cmd>\n\n".into())),
        // It looks for `uuu.auto` here.
        _ => Err(failed(&plan, "fail open file: >./".into())),
    }
}

/// What it says before it looks for a device.
fn waits(plan: &Plan) -> String {
    let mut text = "Wait for Known USB Device Appear...".to_owned();
    if !plan.paths.is_empty() {
        text.push_str(" at path ");
        for path in &plan.paths {
            text.push_str(path);
            text.push(' ');
        }
    }
    text + "\r\x1b[?25l"
}

/// The path of a device as uuu writes it: the ports without anything between them.
fn written(path: &str) -> String {
    path.replacen('-', ":", 1).replace('.', "")
}

/// The same the other way round: each port is a digit.
fn usb_path(written: &str) -> String {
    let Some((bus, ports)) = written.split_once(':') else { return written.to_owned() };
    let ports: Vec<String> = ports.chars().map(String::from).collect();
    format!("{bus}-{}", ports.join("."))
}

fn run(called: Called) -> Result<u8, String> {
    let mut called = called;
    let _ = called.out.write_all(HEAD.as_bytes());
    let (code, text) = match plan(called.args) {
        Err(Ends(code, text)) => (code, text),
        Ok(plan) => {
            let _ = called.out.write_all(waits(&plan).as_bytes());
            session(&mut called, &plan)?
        }
    };
    let _ = called.out.write_all(text.as_bytes());
    let _ = called.out.write_all(FOOT.as_bytes());
    Ok(code)
}

/// Waits for the devices that `plan` is for, one behind the other, and has them do it: the exit code, and
/// what it says last.
fn session(called: &mut Called, plan: &Plan) -> Result<(u8, String), String> {
    let unplayed = |error: std::io::Error| error.to_string();
    for path in &plan.paths {
        let identity = Identity { path: Some(usb_path(path)), ..Identity::default() };
        Device::note(called, &identity).map_err(unplayed)?;
    }
    let meant = |device: &Attached| plan.paths.is_empty() || plan.paths.contains(&written(&device.path));
    let stream = control::ask(called.socket, &Request::Watch).map_err(unplayed)?;
    if !plan.alone {
        stream.set_read_timeout(plan.patience.map(Duration::from_secs)).map_err(unplayed)?;
    }
    let mut there: Vec<Attached> = Vec::new();
    for told in control::watched(stream) {
        let change = match told {
            Ok(Some(Watched { change, .. })) => change,
            // The end of what was there already.
            Ok(None) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let why = "\x1b[91m\nError: \x1b[0mTimeout: Wait for Known USB Device";
                return Ok((FAILED, why.into()));
            }
            Err(error) => return Err(error.to_string()),
        };
        there.retain(|known| *known != change.device || change.action == Action::Present);
        if change.action == Action::Remove || there.contains(&change.device) || !meant(&change.device) {
            continue;
        }
        let Some(protocol) = Protocol::of(&change.device) else { continue };
        there.push(change.device.clone());
        let commands: Vec<&Command> = plan.commands.iter().filter(|it| it.protocol == protocol).collect();
        let device = Device::found(called, change.device);
        for (number, command) in commands.iter().enumerate() {
            let line = Progress { device: &device, number, of: commands.len(), command };
            line.print(called, "");
            let done = command.run(&device);
            match &done {
                Ok(()) if command.does == Does::Done => line.print(called, "\x1b[92mDone\x1b[0m"),
                Ok(()) => line.print(called, FULL),
                Err(why) => line.print(called, &format!("\x1b[91m{why:<38}\x1b[0m")),
            }
            match done {
                Ok(()) if plan.alone => return Ok((0, "\n\n\n\nOkay\n".into())),
                Ok(()) if command.does == Does::Done => return Ok((0, "\n\n\n".into())),
                Ok(()) => {}
                Err(why) if plan.alone => return Ok((FAILED, format!("\n\n\n\n\nError: {why}\n"))),
                Err(_) => return Ok((FAILED, "\n\n\n".into())),
            }
        }
    }
    Err("the ghost daemon ended while uuu waited for a device".into())
}

/// A full bar.
const FULL: &str = "=================\x1b[93m100%\x1b[0m=================";

/// A line that tells how far it is.
struct Progress<'a> {
    device: &'a Device,
    number: usize,
    of: usize,
    command: &'a Command,
}

impl Progress<'_> {
    /// Prints it with what is in the bar: `ShowNotify::print_simple`, and back to the begin of the line.
    fn print(&self, called: &mut Called, bar: &str) {
        let attached = &self.device.attached;
        let name = format!("{}-{}", written(&attached.path), attached.serial.to_uppercase());
        let name: String = name.chars().take(12).collect();
        // What changes the colour takes no room.
        let room = 38 + bar.len() - visible(bar);
        let line = format!(
            "{name:<12}{:>2}/{:>2} [{bar:<room$}] {}\n\x1b[1F",
            self.number + 1,
            self.of,
            self.command.text
        );
        let _ = called.out.write_all(line.as_bytes());
    }
}

/// Characters of `text` that take room.
fn visible(text: &str) -> usize {
    let mut colours = text.split('\x1b');
    let first = colours.next().map_or(0, str::len);
    first + colours.map(|part| part.split_once('m').map_or(0, |(_, shown)| shown.len())).sum::<usize>()
}

impl Command {
    fn run(&self, device: &Device) -> Result<(), String> {
        let ask = |command: String, file: Option<PathBuf>| match device.ask(command, file) {
            Ok(answer) => answer.result.map(drop),
            Err(_gone) => Err("Failure open usb device,Try sudo uuu".to_owned()),
        };
        let download = |path: &PathBuf| {
            let size = std::fs::metadata(path).map(|found| found.len()).unwrap_or_default();
            ask(format!("download:{size:08x}"), Some(path.clone()))
        };
        match &self.does {
            Does::Boot(path) => ask("boot".into(), Some(path.clone())),
            Does::Send(line) => ask(line.clone(), None),
            Does::Download(path) => download(path),
            Does::Flash(partition, path) => {
                ask("getvar:max-download-size".into(), None)?;
                download(path)?;
                ask(format!("flash:{partition}"), None)
            }
            Does::Delay(time) => {
                std::thread::sleep(*time);
                Ok(())
            }
            Does::Done | Does::Elsewhere => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::imx;

    use super::super::testing::{Bench, Found, called};
    use super::*;
    use crate::patience::SLOW_START;
    use crate::peripheral;

    const BOARD: &str = "
model: i.MX8MP
peripherals:
- {while: recovery, vendor: 1fc9, product: '0146'}
- {while: fastboot, vendor: 1fc9, product: '0152'}
memory: {base: 0x40000000, mib: 64}
firmware:
  kind: u-boot
  banner: U-Boot 2021.04
  arch: arm64
  boot: [booti]
  env: {sd_dev: '1'}
  mmc: {1: {kib: 64}}
  rom: {mmc: 1, holds: nothing}
  flash: FOLDER
";

    fn path() -> String {
        written(&peripheral::usb_path("b"))
    }

    #[test]
    fn a_path_is_the_ports_in_a_row() {
        assert_eq!(written("3-1.4.2"), "3:142");
        assert_eq!(usb_path("3:142"), "3-1.4.2");
    }

    #[test]
    fn a_protocol_takes_a_time_and_nothing_else() {
        let command = Command::parse("FB[-t 1000]: ucmd mmc dev 1").unwrap();
        assert_eq!((command.protocol, command.does), (Protocol::Fb, Does::Send("UCmd:mmc dev 1".into())));
        let why = Command::parse("FB[-x 1]: ucmd reset").unwrap_err();
        assert_eq!(why, "Unknown option: -x for protocol: FB");
    }

    /// What it says without a device: the real one's words, see above.
    #[test]
    fn what_is_wrong_with_a_call_is_told_before_a_device_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("flash.bin");
        std::fs::write(&image, b"x").unwrap();
        let image = image.display();
        for (line, code, says) in [
            ("-x".to_owned(), FAILED, "Unknown option: -x"),
            ("-m 1:2 SDPX: boot".into(), FAILED, "\n\n\n\nError: Unknown Command:SDPX: boot\n"),
            ("-m 1:2 SDPS: frob".into(), FAILED, "Error: Unknown Command:SDPS: frob\n"),
            ("SDPS: boot -x y".into(), FAILED, "Error: unknown Option-x\n"),
            (
                "-m 1:2 SDPS: boot -f nofile".into(),
                FAILED,
                " at path 1:2 \r\x1b[?25l\n\n\n\nError: fail open file: >nofile\n",
            ),
            ("-m 1:2 FB: flash".into(), FAILED, "Error: Missed partition name\n"),
            (format!("FB: flash {image}"), FAILED, "Error: Missed file name\n"),
            ("-b".into(), FAILED, "error, must be have script name: <emmc|"),
            ("-b frob".into(), FAILED, "frob is not built-in script or fail load external script file"),
            ("-m 1:2 -b sd".into(), FAILED, "\x1b[91m\nError: \x1b[0mfail open file: >_flash.bin"),
            ("-m 1:2 -b sd nofile".into(), FAILED, "\x1b[91m\nError: \x1b[0mfail open file: >nofile"),
            ("nofile".into(), FAILED, "\x1b[91m\nError: \x1b[0mfail open file: >nofile"),
            ("-h".into(), 0, "uuu [-d -m "),
        ] {
            let found = called(&TOOL, &line, Path::new("/nowhere"));
            assert!(found.out.starts_with(HEAD) && found.out.ends_with(FOOT), "{line}: {}", found.out);
            assert!(found.out.contains(says) && found.code == code, "{line}: {} {}", found.code, found.out);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_script_starts_a_boot_loader_and_has_it_write_the_card() {
        let bench = Bench::start(BOARD).await;
        let image = bench.file("flash.bin", &imx::write(0x92_0000, "U-Boot 2024.04", 1000));
        let (path, image) = (path(), image.display());
        let found = bench.call(&TOOL, &format!("-m {path} -b sd {image}")).await;
        assert!(found.code == 0 && found.out.contains("\x1b[92mDone"), "{}", found.out);
        let ledger = bench.ledger();
        let sent = |place: &str| format!("sent {image} 1000 {place}");
        assert_eq!(
            ledger,
            [format!("tool uuu -m {path} -b sd {image}"), sent("ram"), sent("bootloader")],
            "{ledger:?}"
        );
        // It is in fastboot still, and refuses what its U-Boot or its card refuses.
        let large = bench.file("large.bin", &[0; 40_000]);
        for (line, code, says) in [
            ("FB: ucmd mmc dev 1".to_owned(), 0, "Okay\n"),
            ("FB: ucmd mmc dev 3".into(), FAILED, "\nError: \n"),
            (format!("FB: flash nowhere {image}"), FAILED, "\nError: partition does not exist\n"),
            (
                format!("FB: flash bootloader {}", large.display()),
                FAILED,
                "Error: image too large for partition\n",
            ),
            ("FB: erase bootloader".into(), FAILED, "Error: unrecognized command\n"),
            ("-t 1 -b sd /dev/null".into(), FAILED, "fail open file"),
        ] {
            let found = bench.call(&TOOL, &format!("-m {path} {line}")).await;
            let fine = found.out.contains(says) && found.code == code;
            // An empty file opens.
            assert!(fine || line.contains("/dev/null"), "{line}: {} {}", found.code, found.out);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_boot_rom_starts_nothing_but_an_image_and_only_for_its_own_protocol() {
        let bench = Bench::start(BOARD).await;
        let kernel = bench.file("Image", b"MZ and no more");
        let path = path();
        let found = bench.call(&TOOL, &format!("-m {path} SDPS: boot -f {}", kernel.display())).await;
        assert!(
            found.code == FAILED && found.out.contains("\nError: HID(W): LIBUSB_ERROR_PIPE\n"),
            "{}",
            found.out
        );
        let Found { code, out, .. } = bench.call(&TOOL, &format!("-m {path} {}", kernel.display())).await;
        assert!(code == FAILED && out.contains("\x1b[91mHID(W): LIBUSB_ERROR_PIPE"), "{out}");
        // Nobody here is at that path.
        let image = bench.file("flash.bin", &imx::write(0x92_0000, "U-Boot 2024.04", 0));
        let Found { code, out, .. } = bench.call(&TOOL, &format!("-m 9:9 -t 1 {}", image.display())).await;
        assert!(code == FAILED && out.contains("Timeout: Wait for Known USB Device"), "{out}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_refused_by_a_boot_rom_is_waited_for_at_the_serial_port() {
        let mut bench = Bench::start(BOARD).await;
        let (path, kernel) = (path(), bench.file("Image", b"MZ and no more"));
        bench.hang_up().await;
        bench.reset().await.unwrap().unwrap();
        let found = bench.call(&TOOL, &format!("-m {path} {}", kernel.display())).await;
        assert_eq!(found.code, FAILED, "{}", found.out);
        let mut reset = bench.reset();
        let early = tokio::time::timeout(Duration::from_millis(200), &mut reset).await;
        assert!(early.is_err(), "the power was switched before anybody listened");
        bench.listen();
        let in_time = tokio::time::timeout(SLOW_START / 2, reset).await;
        in_time.expect("the power is switched once somebody listens").unwrap().unwrap();
    }
}
