//! A UEFI that ends in its shell ([`super::uefi_shell`]); in front of it a numbered
//! menu ([`super::bds`]), where a board has one.

use std::convert::Infallible;

use async_trait::async_trait;
use serde::Deserialize;

use super::arch::Arch;
use super::bds::{self, Answer};
use super::uefi_shell::{Flash, Shell, shell};
use super::{Firmware, FirmwareKind, Flow, Next};
use crate::machine::Machine;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "uefi",
    about: "UEFI shell: runs a kernel that lies in the board's flash",
    load: |name, text| {
        let (board, uefi) = crate::board::parse::<Uefi>(name, text)?;
        Ok((board, Box::new(uefi)))
    },
};

/// Settings of a UEFI with a shell, in a board's file under `firmware`.
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
    async fn session(&self, machine: &mut Machine) -> Flow<Infallible> {
        let Some(menu) = &self.menu else {
            let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
            machine.console().print(&lines).await;
            loop {
                shell(machine, &self.shell, self.arch, Some(&self.flash)).await?;
            }
        };
        // Only from the menu one gets to the shell; where nothing can be booted,
        // the countdown leads there, too.
        bds::countdown(machine, &self.lines, menu.countdown).await;
        loop {
            let titles: Vec<&str> =
                menu.entries.iter().map(String::as_str).chain(["Shell", "Boot Manager"]).collect();
            let list = bds::numbered(titles.iter().copied());
            machine.console().print(&list).await;
            let chosen = loop {
                if let Answer::Line(line) = bds::ask(machine, "Start: ").await
                    && let Some(chosen) = bds::number(machine, &line, titles.len()).await
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

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
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
