//! GRUB on a disk with a master boot record, as `grub-install` puts it there for a PC's BIOS: `boot.img` in the first block, and the
//! core that it loads in the gap before the first partition. The core's code is nobody's here; what counts is where it looks for
//! its configuration. That is a script, of which the menu's first entry is what boots.

use std::fmt::Write as _;

use crate::{array_at, le64, mbr};

/// Where `boot.img` has the block of the core (`GRUB_BOOT_MACHINE_KERNEL_SECTOR` in `include/grub/i386/pc/boot.h`).
const CORE_AT: usize = 0x5c;
/// What it begins with, a jump over what a file system has there, and what it prints when it runs.
const JUMP: [u8; 3] = [0xeb, 0x63, 0x90];
const NAME_AT: usize = 0x180;
const NAME: &[u8] = b"GRUB \0";

/// The folder that GRUB is installed in on its partition.
pub const FOLDER: &str = "boot/grub";

/// Writes `boot.img` into a block, whose table stays, and returns the block behind it: the core, for the partition `number`.
pub fn write(block: &mut [u8; mbr::BLOCK], number: usize) -> [u8; mbr::BLOCK] {
    block[..JUMP.len()].copy_from_slice(&JUMP);
    block[CORE_AT..CORE_AT + 8].copy_from_slice(&1_u64.to_le_bytes());
    block[NAME_AT..NAME_AT + NAME.len()].copy_from_slice(NAME);
    let mut core = [0; mbr::BLOCK];
    let prefix = format!("(,msdos{number})/{FOLDER}");
    core[..prefix.len()].copy_from_slice(prefix.as_bytes());
    core
}

/// The block that the core is in, where `block` is a boot record of GRUB's.
#[must_use]
pub fn core(block: &[u8]) -> Option<u64> {
    block.get(NAME_AT..)?.starts_with(NAME).then(|| le64(block, CORE_AT)).flatten()
}

/// The partition that the core looks for its configuration on.
#[must_use]
pub fn partition(core: &[u8]) -> Option<usize> {
    let core: [u8; mbr::BLOCK] = array_at(core, 0)?;
    let prefix = core.split(|byte| *byte == 0).next()?;
    let rest = std::str::from_utf8(prefix).ok()?.strip_prefix("(,msdos")?;
    rest.split(')').next()?.parse().ok()
}

/// One command of a menu's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Prints a line.
    Echo(String),
    /// Loads a kernel, which gets these words.
    Linux { path: String, arguments: String },
    /// Loads a ramdisk.
    Initrd(String),
}

/// A configuration, as far as it says what boots by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Seconds until the first entry is booted.
    pub timeout: u32,
    pub commands: Vec<Command>,
}

impl Config {
    /// As the script that it is, with an entry of this title.
    #[must_use]
    pub fn script(&self, title: &str) -> String {
        let mut script = format!("set timeout={}\nmenuentry '{title}' {{\n", self.timeout);
        for command in &self.commands {
            let _ = match command {
                Command::Echo(text) => writeln!(script, "\techo\t'{text}'"),
                Command::Linux { path, arguments } => writeln!(script, "\tlinux\t{path} {arguments}"),
                Command::Initrd(path) => writeln!(script, "\tinitrd\t{path}"),
            };
        }
        script + "}\n"
    }

    /// Reads a script: its timeout, and the commands of its first entry that anybody notices.
    #[must_use]
    pub fn parse(script: &str) -> Self {
        let mut config = Self::default();
        let mut lines = script.lines().map(str::trim);
        for line in lines.by_ref() {
            if let Some(seconds) = line.strip_prefix("set timeout=") {
                config.timeout = seconds.trim_matches(['"', '\'']).parse().unwrap_or_default();
            }
            if line.starts_with("menuentry ") {
                break;
            }
        }
        for line in lines.take_while(|line| *line != "}") {
            let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim();
            let (path, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            config.commands.push(match command {
                "echo" => Command::Echo(rest.trim_matches(['"', '\'']).to_owned()),
                "linux" => Command::Linux { path: path.to_owned(), arguments: arguments.trim().to_owned() },
                "initrd" => Command::Initrd(path.to_owned()),
                _ => continue,
            });
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_installed_is_found_and_the_table_stays() {
        let mut disk = [0; mbr::BLOCK];
        let partition = mbr::Partition { start: 2048, blocks: 4096, kind: 0x83 };
        assert!(mbr::write(&mut disk, &[partition]));
        assert_eq!(core(&disk), None);
        let core_block = write(&mut disk, 1);
        assert_eq!(core(&disk), Some(1));
        assert_eq!(super::partition(&core_block), Some(1));
        assert_eq!(mbr::parse(&disk), Some(vec![(1, partition)]));
    }

    #[test]
    fn the_first_entry_of_a_script_is_what_boots() {
        let script = "set timeout=\"5\"\nload_video\nmenuentry 'A' --class debian {\n insmod ext2\n  echo 'Loading Linux ...'\n\
            linux /boot/vmlinuz root=UUID=1 ro  quiet\n initrd /boot/initrd.img\n}\nmenuentry 'B' {\n echo no\n}\n";
        let commands = vec![
            Command::Echo("Loading Linux ...".into()),
            Command::Linux { path: "/boot/vmlinuz".into(), arguments: "root=UUID=1 ro  quiet".into() },
            Command::Initrd("/boot/initrd.img".into()),
        ];
        let config = Config { timeout: 5, commands };
        assert_eq!(Config::parse(script), config);
        assert_eq!(Config::parse(&config.script("A")), config);
    }

    proptest! {
        #[test]
        fn any_text_is_a_script_and_any_bytes_are_a_boot_record_or_none(
            text in ".{0,300}",
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let _ = Config::parse(&text);
            let _ = (core(&bytes), super::partition(&bytes));
        }
    }
}
