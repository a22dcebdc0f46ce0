//! The UEFI shell: drives, and programs such as a kernel with its EFI stub that
//! are run by name; in front of it the menu of [`super::uefi_menu`], where a board
//! has one.
//!
//! Behaviour and messages follow EDK2's `ShellPkg/Application/Shell/` and Linux's
//! `drivers/firmware/efi/libstub/`.

use async_trait::async_trait;
use serde::Deserialize;

use super::uefi_menu::{self, Answer, Arch, Flash, Flow, Never};
use super::{BootImage, Firmware, Kind, Next};
use crate::console::Input;
use crate::machine::Machine;
use crate::patience::countdown;

/// This kind of firmware.
pub const KIND: Kind = Kind {
    name: "uefi",
    about: "UEFI shell: runs a kernel that lies in the board's flash",
    load: |name, text| {
        let (board, uefi) = crate::board::parse::<Uefi>(name, text)?;
        Ok((board, Box::new(uefi)))
    },
};

/// Settings of a UEFI with a shell, in `ghost.yaml` under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uefi {
    #[serde(rename = "kind")]
    _kind: String,
    /// Lines before the countdown, or before the shell.
    #[serde(default)]
    lines: Vec<String>,
    /// The menu in front of the shell, if the board has one.
    #[serde(default)]
    menu: Option<Menu>,
    /// The shell.
    #[serde(default)]
    shell: Shell,
    /// Architecture.
    #[serde(default)]
    arch: Arch,
    /// What lies in the board's flash, which is the drive `FS0:`.
    flash: Flash,
}

/// A menu with the shell in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Menu {
    /// Seconds until the first entry starts by itself.
    countdown: u32,
    /// Titles of the entries before `Shell`; nothing can be booted from them.
    entries: Vec<String>,
}

impl Default for Menu {
    fn default() -> Self {
        Self { countdown: 10, entries: Vec::new() }
    }
}

/// How the shell shows itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Shell {
    /// Lines that it begins with, before the mapping table.
    banner: Vec<String>,
    /// Seconds that it waits for a key before it looks for `startup.nsh`.
    delay: u32,
}

impl Default for Shell {
    fn default() -> Self {
        let banner = ["UEFI Interactive Shell v2.1", "EDK II", "UEFI v2.50 (ARM, 0x00000000)"];
        Self { banner: banner.map(str::to_owned).to_vec(), delay: 5 }
    }
}

#[async_trait]
impl Firmware for Uefi {
    async fn run(&self, machine: &mut Machine) -> Next {
        match self.session(machine).await {
            Err(next) => next,
            Ok(never) => match never {},
        }
    }
}

impl Uefi {
    async fn session(&self, machine: &mut Machine) -> Flow<Never> {
        let Some(menu) = &self.menu else {
            let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
            machine.console().print(&lines).await;
            loop {
                shell(machine, &self.shell, self.arch, Some(&self.flash)).await?;
            }
        };
        // Only from the menu one gets to the shell; where nothing can be booted,
        // the countdown leads there, too.
        uefi_menu::countdown(machine, &self.lines, menu.countdown).await;
        loop {
            let titles: Vec<&str> =
                menu.entries.iter().map(String::as_str).chain(["Shell", "Boot Manager"]).collect();
            let list = uefi_menu::numbered(titles.iter().copied());
            machine.console().print(&list).await;
            let chosen = loop {
                if let Answer::Line(line) = uefi_menu::ask(machine, "Start: ").await
                    && let Some(chosen) = uefi_menu::number(machine, &line, titles.len()).await
                {
                    break chosen;
                }
            };
            match titles.get(chosen).copied().unwrap_or_default() {
                "Shell" => shell(machine, &self.shell, self.arch, Some(&self.flash)).await?,
                title => {
                    machine.ledger.violation("not-emulated", title);
                    machine.console().print("ERROR: Did not find Linux kernel.\n").await;
                }
            }
        }
    }
}

/// Runs a shell until `exit`.
pub(super) async fn shell(
    machine: &mut Machine,
    settings: &Shell,
    arch: Arch,
    flash: Option<&Flash>,
) -> Flow<()> {
    let mut text: String = settings.banner.iter().map(|line| format!("{line}\n")).collect();
    text.push_str(&mapping_table(flash));
    text.push_str(&format!(
        "\nPress ESC in {} seconds to skip startup.nsh or any other key to continue.",
        settings.delay
    ));
    machine.console().print(&text).await;
    // There is no startup.nsh: whatever happens, the prompt is next.
    machine.console().key(countdown(settings.delay)).await;
    machine.console().print("\n").await;
    let mut drive = None;
    loop {
        let prompt = if drive.is_some() { "FS0:\\> " } else { "Shell> " };
        let Input::Line(line) = machine.console().read_line(prompt).await else {
            machine.console().print("\n").await;
            continue;
        };
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some((&name, args)) = words.split_first() else { continue };
        let said = match (name.to_ascii_lowercase().as_str(), args) {
            ("exit", _) => return Ok(()),
            ("reset", ["-s", ..]) => return Err(Next::PowerOff),
            ("reset", _) => return Err(Next::Reset),
            ("cls", _) => String::new(),
            ("echo", args) => args.join(" ") + "\n",
            ("ver", _) => settings.banner.iter().map(|line| format!("{line}\n")).collect(),
            ("map", _) => mapping_table(flash),
            ("help", _) => "cls, echo, exit, help, ls, map, reset, ver\n".into(),
            ("ls" | "dir", _) => match (&drive, flash) {
                (Some(()), Some(flash)) => {
                    format!("Directory of: FS0:\\\n  {}\n  {}\n", flash.kernel, flash.dtb)
                }
                _ => "ls: Cannot find current directory.\n".into(),
            },
            ("fs0:" | "f0:", []) if flash.is_some() => {
                drive = Some(());
                String::new()
            }
            (drive, []) if drive.ends_with(':') => {
                machine.ledger.violation("unknown-drive", name);
                format!("'{name}' is not a correct mapping.\n")
            }
            _ => program(machine, flash, arch, &words).await?,
        };
        machine.console().print(&said).await;
    }
}

fn mapping_table(flash: Option<&Flash>) -> String {
    let mut text = "Mapping table\n".to_owned();
    if flash.is_some() {
        text.push_str("      FS0: Alias(s):F0:\n          VenHw(E7223039-5836-41E1-B542-D7EC736C5E59)\n");
    }
    text + "     BLK0: Alias(s):\n          VenHw(E7223039-5836-41E1-B542-D7EC736C5E59)\n"
}

/// Runs the program that a line names: the kernel, or nothing; what is said when
/// that fails.
async fn program(machine: &mut Machine, flash: Option<&Flash>, arch: Arch, words: &[&str]) -> Flow<String> {
    let (name, args) = words.split_first().map_or(("", &[][..]), |(name, args)| (*name, args));
    let model = machine.board.model.clone();
    let read = |path: &str| {
        let path =
            path.get(..4).filter(|drive| drive.eq_ignore_ascii_case("fs0:")).map_or(path, |_| &path[4..]);
        flash.and_then(|flash| flash.read(path.trim_start_matches('\\'), arch, &model))
    };
    let Some(image) = read(name) else {
        machine.ledger.violation("unknown-command", words.join(" "));
        return Ok(format!(
            "'{name}' is not recognized as an internal or external command, operable program, or script file.\n"
        ));
    };
    if arch.format().check(&image).is_err() {
        machine.ledger.violation("bad-kernel", name);
        return Ok(format!("Command Error Status: Unsupported\n{name}: not an EFI program\n"));
    }
    let option = |option: &str| args.iter().find_map(|arg| arg.strip_prefix(option));
    let mut said = "EFI stub: Booting Linux Kernel...\n".to_owned();
    let mut dtb = None;
    if let Some(path) = option("dtb=") {
        dtb = read(path);
        if dtb.is_none() {
            machine.ledger.violation("missing-file", path);
            return Ok(said
                + &format!(
                    "EFI stub: ERROR: Failed to open file: {path}\nEFI stub: ERROR: Failed to load device tree!\n"
                ));
        }
        said.push_str("EFI stub: Using DTB from command line\n");
    }
    let mut ramdisk = None;
    if let Some(path) = option("initrd=") {
        ramdisk = read(path);
        if ramdisk.is_none() {
            machine.ledger.violation("missing-file", path);
            return Ok(said
                + &format!(
                    "EFI stub: ERROR: Failed to open file: {path}\nEFI stub: ERROR: Failed initrd from command line!\n"
                ));
        }
    }
    said.push_str("EFI stub: Exiting boot services and installing virtual address map...\n");
    machine.console().print(&said).await;
    // The shell passes the whole line on, the program's name included.
    Err(Next::Boot(BootImage { kernel: image, cmdline: words.join(" "), ramdisk, dtb }))
}

#[cfg(test)]
mod tests {
    use super::super::bench::Bench;
    use super::*;

    const JUNO: &str = "
model: ARM Juno development board (r0)
firmware:
  kind: uefi
  menu: {entries: [Linux from NOR Flash]}
  flash: {kernel: norkern, dtb: board.dtb}
";

    async fn to_the_shell(bench: &mut Bench) {
        bench.expect("The default boot selection will start in").await;
        bench.send(" ").await;
        let menu = bench.expect("Start:").await;
        assert!(menu.contains("[2] Shell\n"), "{menu}");
        bench.send("2\r\n").await;
        bench.expect("UEFI Interactive Shell").await;
        bench.expect("any other key to continue").await;
        bench.send(" ").await;
        bench.expect("Shell>").await;
    }

    #[tokio::test]
    async fn lava_goes_through_the_menu_and_runs_the_kernel_in_flash() {
        let mut bench = Bench::start(JUNO).await;
        to_the_shell(&mut bench).await;
        let line = "norkern console=ttyAMA0,115200n8 root=/dev/nfs rw nfsroot=1.2.3.4:/x dtb=board.dtb";
        bench.send(&format!("{line}\r\n")).await;
        bench.expect("EFI stub: Using DTB from command line").await;
        let image = bench.booted().await;
        assert_eq!(image.cmdline, line);
        assert!(image.dtb.is_some());
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_and_noted() {
        let mut bench = Bench::start(JUNO).await;
        to_the_shell(&mut bench).await;
        bench.send("Image root=/dev/sda2\r").await;
        bench.expect("'Image' is not recognized as an internal or external command").await;
        bench.send("fs7:\r").await;
        bench.expect("'fs7:' is not a correct mapping.\nShell> ").await;
        bench.send("board.dtb\r").await;
        bench.expect("Unsupported").await;
        bench.send("norkern dtb=none\r").await;
        bench.expect("Failed to open file: none").await;
        bench.send("ü.é x\r").await;
        bench.expect("is not recognized").await;
        let expected = ["unknown-command", "unknown-drive", "bad-kernel", "missing-file", "unknown-command"];
        assert_eq!(bench.violations(), expected);
    }

    #[tokio::test]
    async fn a_drive_has_its_own_prompt_and_its_files() {
        let mut bench = Bench::start(&JUNO.replace("menu: {entries: [Linux from NOR Flash]}", "")).await;
        bench.expect("any other key to continue").await;
        bench.send("\x1b").await;
        bench.expect("Shell> ").await;
        bench.send("fs0:\r").await;
        bench.expect("FS0:\\> ").await;
        bench.send("ls\r").await;
        bench.expect("norkern").await;
        bench.send("FS0:\\norkern\r").await;
        assert_eq!(bench.booted().await.cmdline, "FS0:\\norkern");
    }

    #[tokio::test]
    async fn a_reset_in_the_shell_begins_with_the_countdown() {
        let mut bench = Bench::start(JUNO).await;
        to_the_shell(&mut bench).await;
        bench.reset().await;
        to_the_shell(&mut bench).await;
        bench.send("reset\r").await;
        assert!(matches!(bench.next().await, Next::Reset));
    }
}
