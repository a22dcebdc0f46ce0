//! A Fast Model (FVP) of Arm's Base platform: a board that is a program, started in a container ([`crate::tools::fvp`]) with what
//! is in its memory on the command line.
//!
//! It starts where `RVBAR` says, which is to be TF-A's BL31 as built with `RESET_TO_BL31` and `ARM_LINUX_KERNEL_AS_BL33`: that
//! goes on to a kernel and its device tree at addresses it was built with (`docs/plat/arm/fvp` of TF-A). The kernel finds its
//! command line and its ramdisk by the device tree.

use std::path::Path;

use async_trait::async_trait;
use meta_lava_formats::{fdt, kernel};
use serde::Deserialize;

use super::qemu::read_limited;
use super::{BootImage, Firmware, FirmwareKind, Next};
use crate::ledger::{Event, Protocol};
use crate::machine::Machine;
use crate::tools::getopt::{self, NO_LETTER, Option_, Takes, number};

pub const KIND: FirmwareKind = FirmwareKind {
    name: "fvp",
    about: "a Fast Model of Arm's Base platform, with what its command line loads into its memory",
    load: |name, text| {
        let (board, fvp) = crate::board::parse::<Fvp>(name, text)?;
        Ok((board, Box::new(fvp)))
    },
};

/// Settings of a Fast Model, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fvp {
    #[serde(rename = "kind")]
    _kind: String,
    /// What BL31 prints.
    lines: Vec<String>,
    /// Where BL31 takes the kernel from.
    kernel: u64,
    /// Where BL31 takes the device tree from.
    dtb: u64,
}

/// The options of the "FVP command-line options" in Arm's Fixed Virtual Platforms Reference Guide (100966).
const OPTIONS: &[Option_] = &[
    ('a', "application", Takes::Value),
    ('b', "break", Takes::Value),
    (NO_LETTER, "check-regs", Takes::Nothing),
    ('C', "parameter", Takes::Value),
    (NO_LETTER, "cpulimit", Takes::Value),
    (NO_LETTER, "cyclelimit", Takes::Value),
    (NO_LETTER, "data", Takes::Value),
    ('D', "allow-debug-plugin", Takes::Nothing),
    (NO_LETTER, "dump", Takes::Value),
    ('f', "config-file", Takes::Value),
    ('h', "help", Takes::Nothing),
    ('I', "iris-server", Takes::Nothing),
    ('A', "iris-allow-remote", Takes::Nothing),
    (NO_LETTER, "iris-port", Takes::Value),
    ('K', "keep-console", Takes::Nothing),
    ('l', "list-params", Takes::Nothing),
    (NO_LETTER, "list-instances", Takes::Nothing),
    (NO_LETTER, "list-memory", Takes::Nothing),
    ('L', "cadi-log", Takes::Nothing),
    ('M', "min-sync-latency", Takes::Value),
    ('o', "output", Takes::Value),
    ('p', "print-port-number", Takes::Nothing),
    ('P', "prefix", Takes::Nothing),
    (NO_LETTER, "plugin", Takes::Value),
    ('q', "quiet", Takes::Nothing),
    ('Q', "quantum", Takes::Value),
    ('R', "run", Takes::Nothing),
    ('S', "cadi-server", Takes::Nothing),
    (NO_LETTER, "simlimit", Takes::Value),
    (NO_LETTER, "start", Takes::Value),
    (NO_LETTER, "stat", Takes::Nothing),
    ('T', "timelimit", Takes::Value),
    (NO_LETTER, "trace-plugin", Takes::Value),
    (NO_LETTER, "version", Takes::Nothing),
];

/// The parameter that says where the first processor starts.
const RESET_VECTOR: &str = "cluster0.cpu0.RVBAR";

/// What can be loaded into: first address, and bytes ("Base Platform memory map" in the same guide).
const MEMORY: &[(u64, u64)] = &[
    (0x0000_0000, 64 << 20),  // secure boot ROM
    (0x0400_0000, 256 << 10), // trusted SRAM
    (0x0600_0000, 32 << 20),  // trusted DRAM
    (0x0800_0000, 64 << 20),  // NOR flash 0
    (0x0c00_0000, 64 << 20),  // NOR flash 1
    (0x2e00_0000, 64 << 10),  // SRAM
    (0x8000_0000, 2 << 30),   // DRAM
];

/// What a command line says, as far as it changes anything here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Whether it only asks which version this is.
    pub version: bool,
    data: Vec<Data>,
    reset_vector: u64,
}

/// A file that is in the memory from the start: `[INSTANCE=]FILE@[SPACE:]ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Data {
    file: String,
    address: u64,
}

/// Takes a command line apart.
///
/// # Errors
/// What is wrong with it.
pub fn parse(name: &str, args: &[String]) -> Result<CommandLine, String> {
    let parsed = getopt::parse(name, args, OPTIONS)?;
    if let Some(word) = parsed.words.first() {
        return Err(format!("{name}: unexpected argument '{word}'"));
    }
    let mut line = CommandLine { version: parsed.has("version"), ..CommandLine::default() };
    for (option, value) in &parsed.options {
        let value = value.as_deref().unwrap_or_default();
        match option.as_str() {
            "data" => line.data.push(
                data(value)
                    .ok_or_else(|| format!("{name}: --data {value}: not [INST=]FILE@[MEMSPACE:]ADDRESS"))?,
            ),
            "parameter" => {
                let (parameter, value) = value
                    .split_once('=')
                    .filter(|(parameter, value)| !parameter.is_empty() && !value.is_empty())
                    .ok_or_else(|| format!("{name}: -C {value}: not INST.PARAMETER=VALUE"))?;
                if parameter == RESET_VECTOR {
                    line.reset_vector = number(value)
                        .ok_or_else(|| format!("{name}: -C {parameter}={value}: not a number"))?;
                }
            }
            _ => {}
        }
    }
    Ok(line)
}

fn data(text: &str) -> Option<Data> {
    let (file, address) = text.rsplit_once('@')?;
    let address = number(address.rsplit(':').next()?)?;
    let file = match file.split_once('=') {
        Some((instance, file)) => is_processor(instance).then_some(file)?,
        None => file,
    };
    (!file.is_empty()).then(|| Data { file: file.trim_matches('"').to_owned(), address })
}

/// Whether there is this instance: two clusters of four.
fn is_processor(instance: &str) -> bool {
    let at = |text: &str, name: &str, count: u8| {
        text.strip_prefix(name).and_then(|n| n.parse::<u8>().ok()).is_some_and(|n| n < count)
    };
    instance.split_once('.').is_some_and(|(cluster, cpu)| at(cluster, "cluster", 2) && at(cpu, "cpu", 4))
}

impl CommandLine {
    /// Whether all files are there and fit where they are to go, seen from below `root`.
    ///
    /// # Errors
    /// What is wrong with the first that is not.
    pub fn check(&self, name: &str, root: &Path) -> Result<(), String> {
        for Data { file, address } in &self.data {
            let size = match std::fs::metadata(below(root, file)) {
                Ok(found) if found.is_file() => found.len(),
                _ => return Err(format!("{name}: cannot open data file '{file}'")),
            };
            let fits = |(base, bytes): &(u64, u64)| {
                *address >= *base && address.checked_add(size).is_some_and(|end| end <= base + bytes)
            };
            if !MEMORY.iter().any(fits) {
                return Err(format!("{name}: cannot load '{file}' at {address:#x}: no memory there"));
            }
        }
        Ok(())
    }
}

fn below(root: &Path, file: &str) -> std::path::PathBuf {
    root.join(file.trim_start_matches('/'))
}

#[async_trait]
impl Firmware for Fvp {
    fn needs_a_listener(&self, _board: &str) -> bool {
        false
    }

    async fn run(&self, machine: &mut Machine) -> Next {
        let Some(invocation) = machine.invocation.clone() else {
            machine.ledger.violation("power-without-model", "only the model's own program starts this board");
            return Next::PowerOff;
        };
        // The program has said what is wrong.
        let parsed = parse(&invocation.tool, &invocation.args);
        let checked = parsed.and_then(|line| line.check(&invocation.tool, &invocation.root).map(|()| line));
        let line = match checked {
            Ok(line) => line,
            Err(why) => {
                machine.ledger.violation("bad-command-line", why);
                return Next::PowerOff;
            }
        };
        for Data { file, address } in &line.data {
            let read = read_limited(&below(&invocation.root, file)).await;
            match read {
                Ok(bytes) => {
                    let at = format!("{address:#x}");
                    machine.ledger.take(Event::file(Protocol::Local, file, &at, &bytes));
                    if let Err(error) = machine.memory.write(*address, bytes) {
                        machine.ledger.violation("not-ram", error.to_string());
                    }
                }
                Err(error) => {
                    machine.ledger.violation("bad-command-line", format!("{file}: {error}"));
                    return Next::PowerOff;
                }
            }
        }
        self.start(machine, &line).await.unwrap_or(Next::Hang)
    }
}

impl Fvp {
    /// What the processor does from its reset on; nothing where it runs into what is no program.
    async fn start(&self, machine: &mut Machine, line: &CommandLine) -> Option<Next> {
        if machine.memory.from(line.reset_vector).is_empty() {
            let what = format!("the processor starts at {:#x}, where nothing was loaded", line.reset_vector);
            machine.ledger.violation("no-program", what);
            return None;
        }
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        machine.console().print(&text).await;
        let kernel = machine.memory.from(self.kernel);
        if let Err(error) = kernel::Format::Arm64Image.check(&kernel) {
            machine.ledger.violation("bad-kernel", format!("at {:#x}: {error}", self.kernel));
            return None;
        }
        let dtb = machine.memory.from(self.dtb);
        let tree = match fdt::parse(&dtb) {
            Ok(tree) => tree,
            Err(error) => {
                machine.ledger.violation("bad-device-tree", format!("at {:#x}: {error}", self.dtb));
                return None;
            }
        };
        let chosen = |name: &str| tree.node("/chosen").and_then(|chosen| chosen.number(name));
        let ramdisk = chosen("linux,initrd-start").zip(chosen("linux,initrd-end")).map(|(start, end)| {
            let mut bytes = machine.memory.from(start);
            bytes.truncate(usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX));
            bytes
        });
        Some(Next::Boot(BootImage { kernel, cmdline: String::new(), ramdisk, dtb: Some(dtb) }))
    }
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::fdt::{Fdt, Node};

    use super::super::testing::Bench;
    use super::*;
    use crate::machine::Invocation;

    const YAML: &str = "\nmodel: FVP\nfirmware:\n  kind: fvp\n  lines: ['NOTICE:  BL31: v2.10']\n  kernel: \
                        0x80080000\n  dtb: 0x82000000\n";
    const GOOD: &str = "-C cluster0.cpu0.RVBAR=0x04001000 --data=cluster0.cpu0=/bl31.bin@0x04001000 --data \
                        cluster0.cpu0=/Image@0x80080000 --data /dtb@0x82000000 --data /ramdisk@0x84000000";

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// A folder with the files of [`GOOD`].
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Fdt::default();
        let mut chosen = Node::new("chosen");
        chosen.set_text("bootargs", "console=ttyAMA0");
        chosen.set_u32("linux,initrd-start", 0x8400_0000);
        chosen.set_u32("linux,initrd-end", 0x8400_0004);
        tree.root.children.push(chosen);
        let kernel = kernel::write(kernel::Format::Arm64Image, "Linux version 6.1", 4096);
        for (name, bytes) in [
            ("bl31.bin", b"bl31".to_vec()),
            ("Image", kernel),
            ("dtb", tree.to_bytes().unwrap()),
            ("ramdisk", b"070701".to_vec()),
        ] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    async fn bench(folder: &Path, line: &str) -> Bench {
        let invocation =
            Invocation { tool: "FVP".into(), args: words(line), cwd: "/".into(), root: folder.to_owned() };
        Bench::start_as(YAML, invocation).await
    }

    #[tokio::test]
    async fn what_the_command_line_loads_is_booted() {
        let folder = folder();
        let mut bench = bench(folder.path(), GOOD).await;
        bench.expect("NOTICE:  BL31: v2.10\n").await;
        let image = bench.booted().await;
        assert_eq!(image.ramdisk.as_deref(), Some(&b"0707"[..]), "up to the end that the tree gives");
        assert_eq!(bench.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn what_is_loaded_elsewhere_or_is_no_kernel_does_not_run() {
        let folder = folder();
        for (good, bad, violation) in [
            ("-C cluster0.cpu0.RVBAR=0x04001000", "", "no-program"),
            ("/Image@0x80080000", "/Image@0x80000000", "bad-kernel"),
            ("/dtb@0x82000000", "/ramdisk@0x82000000", "bad-device-tree"),
        ] {
            let mut bench = bench(folder.path(), &GOOD.replace(good, bad)).await;
            assert!(matches!(bench.next().await, Next::Hang), "{violation}");
            assert_eq!(bench.violations(), [violation]);
        }
    }

    #[tokio::test]
    async fn what_its_program_refuses_starts_nothing() {
        let folder = folder();
        for bad in ["--frobnicate", "--data /missing@0x80000000", "--data /Image@0x70000000"] {
            let mut bench = bench(folder.path(), bad).await;
            assert!(matches!(bench.next().await, Next::PowerOff), "{bad}");
            assert_eq!(bench.violations(), ["bad-command-line"], "{bad}");
        }
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        for line in [
            "--frobnicate",
            "--data",
            "--data /Image",
            "--data /Image@x",
            "--data cluster9.cpu0=/Image@0x80000000",
            "--data cluster0.cpu0=@0x80000000",
            "-C bp.secure_memory",
            "-C cluster0.cpu0.RVBAR=here",
            "Image",
        ] {
            assert!(parse("FVP", &words(line)).is_err(), "{line}");
        }
        assert!(parse("FVP", &words("--version")).unwrap().version);
        let line = parse("FVP", &words("--data=cluster1.cpu3=\"/a=b@c\"@NS:0x10 -C x.y=z")).unwrap();
        assert_eq!(line.data, [Data { file: "/a=b@c".into(), address: 0x10 }]);
    }

    proptest::proptest! {
        #[test]
        fn no_command_line_makes_it_panic(args in proptest::collection::vec(".*", 0..6)) {
            let _ = parse("FVP", &args);
        }
    }
}
