//! `adb`: a shell and files on a board that has booted an Android.
//!
//! Messages and exit codes are those of adb 29.0.6 as Debian 12 has it, tried with the real one without a device (`client/commandline.cpp`,
//! `client/file_sync_client.cpp` in Android's `system/core/adb`). Its server runs always here; so nobody is told that it is started. All times are 0,
//! and adb says no rate then. The other side is [`crate::linux`]'s.

use std::io::IsTerminal as _;

use super::usb::Device;
use super::{Called, Tool};
use crate::control;
use crate::linux::sandbox::{self, Program};
use crate::peripheral::{Answer, Attached, Identity, Mode};
use crate::ssh::session;

/// The tool.
pub const TOOL: Tool = Tool { names: &["adb"], run };

const VERSION: &str = "Android Debug Bridge version 1.0.41\nVersion 29.0.6-debian\nInstalled as /usr/lib/android-sdk/platform-tools/adb\n";

/// What adbd runs.
const SHELL: &str = "/system/bin/sh";

/// Words that change nothing here.
const NOT_PLAYED: &[&str] = &[
    "backup",
    "bugreport",
    "connect",
    "disconnect",
    "emu",
    "enable-verity",
    "disable-verity",
    "exec-out",
    "forward",
    "install",
    "install-multiple",
    "jdwp",
    "keygen",
    "logcat",
    "pair",
    "ppp",
    "pull",
    "reconnect",
    "remount",
    "restore",
    "reverse",
    "root",
    "sideload",
    "sync",
    "tcpip",
    "uninstall",
    "unroot",
    "usb",
];

fn run(mut called: Called) -> Result<u8, String> {
    match command(&mut called) {
        Ok(code) => Ok(code),
        Err(why) => {
            let _ = writeln!(called.err, "{why}");
            Ok(1)
        }
    }
}

fn requires(what: &str) -> String {
    format!("adb: {what} requires an argument")
}

fn command(called: &mut Called) -> Result<u8, String> {
    let args = called.args;
    let mut words = args.iter().map(String::as_str).peekable();
    let mut serial = None;
    while words.peek() == Some(&"-s") {
        words.next();
        serial = Some(words.next().ok_or_else(|| requires("-s"))?);
    }
    let rest: Vec<&str> = words.collect();
    let identity = serial.map(Identity::serial).unwrap_or_default();
    match rest.as_slice() {
        [] => {
            let _ = writeln!(called.out, "{VERSION}");
            Ok(1)
        }
        ["version" | "--version"] => {
            let _ = write!(called.out, "{VERSION}");
            Ok(0)
        }
        ["help" | "--help"] => {
            let _ = write!(called.out, "{VERSION}");
            Ok(0)
        }
        // The real one takes no heed of what they are called for.
        ["start-server" | "kill-server"] => {
            let _ = open(called, &identity)?;
            Ok(0)
        }
        ["devices"] => {
            // As in `fastboot`, nobody else's board is shown.
            let list: String = open(called, &identity)?
                .iter()
                .map(|device| format!("{}\tdevice\n", device.attached.serial))
                .collect();
            let _ = writeln!(called.out, "List of devices attached\n{list}");
            Ok(0)
        }
        ["wait-for-device"] => {
            if open(called, &identity)?.is_empty() {
                Device::wait(called, &identity, Mode::Adb).map_err(error)?;
            }
            Ok(0)
        }
        ["get-state"] => {
            device(called, &identity, serial).map_err(error)?;
            let _ = writeln!(called.out, "device");
            Ok(0)
        }
        ["get-serialno"] => {
            let device = device(called, &identity, serial).map_err(error)?;
            let _ = writeln!(called.out, "{}", device.attached.serial);
            Ok(0)
        }
        ["reboot"] => reboot(called, &identity, serial, ""),
        ["reboot", "bootloader"] | ["reboot-bootloader"] => reboot(called, &identity, serial, "bootloader"),
        ["shell", words @ ..] => shell(called, &identity, serial, words),
        ["push"] | ["push", _] => Err(requires("push")),
        ["push", from, to] => push(called, &identity, serial, from, to),
        ["reboot" | "push" | "devices", ..] => Err(not_played(&rest.join(" "))),
        [word, ..] if NOT_PLAYED.contains(word) || word.starts_with("wait-for-") => Err(not_played(word)),
        [unknown, ..] => Err(format!("adb: unknown command {unknown}")),
    }
}

fn not_played(what: &str) -> String {
    format!("adb: this ghost of adb does not know what {what} does")
}

fn error(why: impl std::fmt::Display) -> String {
    format!("error: {why}")
}

/// What is attached of `identity` and answers adb; the call is noted with its board.
fn open(called: &Called, identity: &Identity) -> Result<Vec<Device>, String> {
    Device::open(called, identity, Mode::Adb).map_err(error)
}

/// The one device that is meant, or what adb says where there is none.
fn device(called: &Called, identity: &Identity, serial: Option<&str>) -> Result<Device, String> {
    the_one(Device::open(called, identity, Mode::Adb).map_err(|why| why.to_string())?, serial)
}

/// What is attached of `identity` and answers adb, without a note.
fn attached(called: &Called, identity: &Identity) -> std::io::Result<Vec<Device>> {
    let there = control::present(called.socket)?.into_iter().map(|watched| watched.change.device);
    let is_it = |device: &Attached| device.when == Mode::Adb && identity.is(device);
    Ok(there.filter(is_it).map(|device| Device::found(called, device)).collect())
}

fn the_one(mut found: Vec<Device>, serial: Option<&str>) -> Result<Device, String> {
    match (found.pop(), found.is_empty(), serial) {
        (Some(device), true, _) => Ok(device),
        (Some(_), false, _) => Err("more than one device/emulator".into()),
        (None, _, Some(serial)) => Err(format!("device '{serial}' not found")),
        (None, _, None) => Err("no devices/emulators found".into()),
    }
}

/// What the board says to `command`; that it has gone is the end of the connection.
fn ask(device: &Device, command: String) -> Result<String, String> {
    match device.ask(command, None) {
        Ok(Answer { result, .. }) => result,
        Err(_gone) => Err("closed".into()),
    }
}

fn reboot(called: &Called, identity: &Identity, serial: Option<&str>, target: &str) -> Result<u8, String> {
    let device = device(called, identity, serial).map_err(error)?;
    ask(&device, format!("reboot:{target}")).map_err(error)?;
    Ok(0)
}

fn push(
    called: &mut Called,
    identity: &Identity,
    serial: Option<&str>,
    from: &str,
    to: &str,
) -> Result<u8, String> {
    let error = |why: String| format!("adb: error: {why}");
    let device =
        device(called, identity, serial).map_err(|why| error(format!("failed to get feature set: {why}")))?;
    let path = std::path::absolute(from).map_err(|why| error(why.to_string()))?;
    match std::fs::metadata(&path) {
        Err(why) => return Err(error(format!("cannot stat '{from}': {}", super::system_says(&why)))),
        Ok(found) if !found.is_dir() => return Err(not_played("push of a file")),
        Ok(_) => {}
    }
    let files = ask(&device, format!("push\n{}\n{to}", path.display())).map_err(error)?;
    let s = if files == "1" { "" } else { "s" };
    let _ = writeln!(called.out, "{}/: {files} file{s} pushed, 0 skipped.", from.trim_end_matches('/'));
    Ok(0)
}

/// A command in the board's shell, or that shell itself on this process's terminal.
///
/// The shell's call is not noted, but what is typed in it: LAVA goes on while it begins, and which of its next calls comes first would
/// be left to chance.
fn shell(called: &Called, identity: &Identity, serial: Option<&str>, words: &[&str]) -> Result<u8, String> {
    let on_terminal = words.is_empty() && std::io::stdin().is_terminal();
    let device = match on_terminal {
        true => attached(called, identity),
        false => Device::open(called, identity, Mode::Adb),
    };
    let device = the_one(device.map_err(error)?, serial).map_err(error)?;
    let pid = ask(&device, "shell".into()).map_err(error)?;
    let pid: i32 = pid.parse().map_err(error)?;
    let failed = |why: std::io::Error| error(why);
    let mut program = Program {
        words: vec![SHELL.to_owned()],
        environment: ["PATH=/system/bin:/sbin", "HOME=/data", "TERM=dumb", "PS1=\\w # "]
            .map(str::to_owned)
            .into(),
        folder: "/".to_owned(),
        uid: 0,
        gid: 0,
    };
    let Attached { board, .. } = device.attached;
    if on_terminal {
        program.words.push("-".to_owned());
        let command = sandbox::entering(pid, &program).map_err(failed)?;
        return session::relay(command, called.socket, board).map_err(failed);
    }
    program.words.extend(["-c".to_owned(), words.join(" ")]);
    let status = sandbox::entering(pid, &program).and_then(|mut command| command.status()).map_err(failed)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    const BOARD: &str = "
model: Pixel
battery: true
headless: true
peripherals:
- {while: fastboot, vendor: 18d1, product: '4ee0'}
- {while: adb, vendor: 18d1, product: '4ee7'}
firmware:
  kind: fastboot
  enter: asked
  product: sailfish
  partitions: {boot: 64}
  flash: FOLDER
";

    /// As the real one answers.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_there_and_what_is_wrong_reads_as_with_the_real_tool() {
        let bench = Bench::start(BOARD).await;
        for (line, code, out, err) in [
            ("-s b devices", 0, "List of devices attached\n\n", ""),
            ("-s b shell true", 1, "", "error: device 'b' not found\n"),
            ("shell true", 1, "", "error: no devices/emulators found\n"),
            ("-s X reboot-bootloader", 1, "", "error: device 'X' not found\n"),
            ("-s X push /etc /data", 1, "", "adb: error: failed to get feature set: device 'X' not found\n"),
            ("-s X push /etc", 1, "", "adb: push requires an argument\n"),
            ("-s", 1, "", "adb: -s requires an argument\n"),
            ("frob", 1, "", "adb: unknown command frob\n"),
            ("-z", 1, "", "adb: unknown command -z\n"),
            ("start-server", 0, "", ""),
        ] {
            let found = bench.call(&TOOL, line).await;
            assert_eq!((found.code, found.out.as_str(), found.err.as_str()), (code, out, err), "{line}");
        }
        assert_eq!(bench.call(&TOOL, "version").await.out, VERSION);
        assert!(bench.ledger().contains(&"tool adb -s b devices".to_owned()));
    }
}
