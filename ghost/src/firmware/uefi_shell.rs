//! The UEFI shell: drives, and programs such as a kernel with its EFI stub that
//! are run by name.
//!
//! Behaviour and messages follow EDK2's `ShellPkg/Application/Shell/` and Linux's
//! `drivers/firmware/efi/libstub/`.

use meta_lava_formats::{fdt, kernel};
use serde::Deserialize;

use super::arch::Arch;
use super::{BootImage, Flow, Next};
use crate::console::Input;
use crate::machine::Machine;

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

/// Files in the board's NOR flash, by name. They are the board's own: no job
/// brings them, so what is in them is made here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    pub(super) kernel: String,
    pub(super) dtb: String,
}

impl Flash {
    /// The contents of a file, if there is one of this name.
    pub(super) fn read(&self, name: &str, arch: Arch, model: &str) -> Option<Vec<u8>> {
        /// Size of the kernel that is made: as small as a kernel can be taken for one.
        const KERNEL_SIZE: usize = 64 << 10;
        if name == self.kernel {
            return Some(kernel::write(arch.kernel(), &kernel::ghost_banner(arch.machine()), KERNEL_SIZE));
        }
        let mut tree = fdt::Fdt::default();
        tree.root.set_text("model", model);
        (name == self.dtb).then(|| tree.to_bytes().ok()).flatten()
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
    let wait = machine.countdown(settings.delay);
    machine.console().key(wait).await;
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
    if arch.kernel().check(&image).is_err() {
        machine.ledger.violation("bad-kernel", name);
        return Ok(format!("Command Error Status: Unsupported\n{name}: not an EFI program\n"));
    }
    // A file that the line names by an option; what is said where it is not there.
    let named = |option: &str, failed: &str| {
        let path = args.iter().find_map(|arg| arg.strip_prefix(option));
        path.map(|path| {
            read(path).ok_or_else(|| {
                machine.ledger.violation("missing-file", path);
                format!("EFI stub: ERROR: Failed to open file: {path}\nEFI stub: ERROR: {failed}!\n")
            })
        })
        .transpose()
    };
    let mut said = "EFI stub: Booting Linux Kernel...\n".to_owned();
    let dtb = match named("dtb=", "Failed to load device tree") {
        Ok(dtb) => dtb,
        Err(error) => return Ok(said + &error),
    };
    if dtb.is_some() {
        said.push_str("EFI stub: Using DTB from command line\n");
    }
    let ramdisk = match named("initrd=", "Failed initrd from command line") {
        Ok(ramdisk) => ramdisk,
        Err(error) => return Ok(said + &error),
    };
    said.push_str("EFI stub: Exiting boot services and installing virtual address map...\n");
    machine.console().print(&said).await;
    // The shell passes the whole line on, the program's name included.
    Err(Next::Boot(BootImage { kernel: image, cmdline: words.join(" "), ramdisk, dtb }))
}
