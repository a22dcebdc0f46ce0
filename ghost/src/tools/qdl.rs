//! `qdl`: writes boards whose boot ROM is in Qualcomm's emergency download mode (EDL).
//!
//! Options, messages and exit codes are those of qdl 2.6 (`qdl.c`, `program.c`, `patch.c`, `firehose.c`, `usb.c`). What goes over USB is told in
//! words, where the real one sends Sahara's packets and Firehose's XML: `boot` with the programmer, then `configure STORAGE`,
//! `erase`, `program` with a file, `patch`, `bootable` and `reset`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use roxmltree::{Attribute, Document, Node};

use super::getopt::{self, NO_LETTER, Option_, Takes};
use super::usb::Device;
use super::{Called, Tool};
use crate::peripheral::{Identity, Mode};

/// The tool.
pub const TOOL: Tool = Tool { names: &["qdl"], run };

const VERSION: &str = "qdl version v2.6\n";

/// The first line of its usage.
const USAGE: &str = "Usage: qdl [options] <prog.mbn> (<program-xml> | <patch-xml> | <read-xml>)...\n";

const OPTIONS: &[Option_] = &[
    ('d', "debug", Takes::Nothing),
    ('v', "version", Takes::Nothing),
    ('i', "include", Takes::Value),
    ('l', "finalize-provisioning", Takes::Nothing),
    ('u', "out-chunk-size", Takes::Value),
    ('S', "serial", Takes::Value),
    ('D', "vip-table-path", Takes::Value),
    ('s', "storage", Takes::Value),
    ('f', "allow-missing", Takes::Nothing),
    ('c', "allow-fusing", Takes::Nothing),
    ('n', "dry-run", Takes::Nothing),
    ('t', "create-digests", Takes::Value),
    ('T', "slot", Takes::Value),
    ('h', "help", Takes::Nothing),
    (NO_LETTER, "", Takes::Nothing),
];

/// Options that change something that is not played.
const NOT_PLAYED: &[&str] =
    &["debug", "include", "finalize-provisioning", "vip-table-path", "dry-run", "create-digests", "slot"];

const STORAGES: [&str; 5] = ["emmc", "nand", "nvme", "spinor", "ufs"];

/// An end that is none of success, and what it says on standard error.
struct Failed(String);

fn failed<T>(why: impl Into<String>) -> Result<T, Failed> {
    Err(Failed(why.into()))
}

fn run(mut called: Called) -> Result<u8, String> {
    match session(&mut called) {
        Ok(()) => Ok(0),
        Err(Failed(why)) => {
            let _ = called.err.write_all(why.as_bytes());
            Ok(1)
        }
    }
}

/// A `program` or an `erase` of an XML file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    erase: bool,
    file: String,
    label: String,
    lun: u64,
    start: String,
    count: u64,
    sector: u64,
}

/// A `patch` of an XML file that is for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Patch {
    lun: u64,
    start: String,
    sector: u64,
    value: String,
}

/// What the XML files say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Work {
    programs: Vec<Program>,
    /// Nothing where there was no such file.
    patches: Option<Vec<Patch>>,
}

fn session(called: &mut Called) -> Result<(), Failed> {
    let parsed =
        getopt::parse("qdl", called.args, OPTIONS).map_err(|why| Failed(format!("{why}\n{USAGE}")))?;
    let mut say = |text: &str| {
        let _ = called.out.write_all(text.as_bytes());
    };
    if parsed.has("version") {
        say(VERSION);
        return Ok(());
    }
    if parsed.has("help") {
        say(USAGE);
        return Ok(());
    }
    let storage = parsed.value("storage").unwrap_or("ufs");
    if !STORAGES.contains(&storage) {
        return failed(format!("qdl: unknown storage type \"{storage}\"\n"));
    }
    if let Some(option) = NOT_PLAYED.iter().find(|option| parsed.has(option)) {
        return failed(format!("this ghost of qdl does not play --{option}\n"));
    }
    let [programmer, files @ ..] = parsed.words.as_slice() else { return failed(USAGE) };
    if files.is_empty() {
        return failed(USAGE);
    }
    let Ok(size) = fs::File::open(programmer).and_then(|file| Ok(file.metadata()?.len())) else {
        return failed(format!("failed to read \"{programmer}\"\n"));
    };
    let work = load(files, parsed.has("allow-missing"), &mut say)?;
    if !parsed.has("allow-fusing")
        && work.programs.iter().any(|it| it.label == "secdata" && !it.file.is_empty())
    {
        return failed(
            "qdl: secdata partition to be programmed, which can lead to irreversible changes. Allow explicitly with \
             --allow-fusing parameter\n",
        );
    }

    let identity = Identity {
        serial: parsed.value("serial").map(str::to_owned),
        vendor: Some("05c6".into()),
        ..Identity::default()
    };
    let not_played = |error: std::io::Error| Failed(format!("{error}\n"));
    let found = Device::open(called, &identity, Mode::Recovery).map_err(not_played)?;
    let device = match found.into_iter().next() {
        Some(device) => device,
        None => {
            let _ = called.out.write_all(b"Waiting for EDL device\n");
            Device::wait(called, &identity, Mode::Recovery).map_err(not_played)?
        }
    };
    let mut say = |text: &str| {
        let _ = called.out.write_all(text.as_bytes());
    };
    let attached = &device.attached;
    say(&format!("Flashing device (PID 0x{}, serial: {})\n", attached.product, attached.serial));
    let ask = |command: String, file: Option<&str>, why: &str| {
        let file = file.map(std::path::absolute).transpose().map_err(not_played)?;
        match device.ask(command, file) {
            Ok(answer) if answer.result.is_ok() => Ok(()),
            _ => failed(format!("{why}\n")),
        }
    };
    say(&format!("Sahara: sending {programmer} ({size} bytes)\n"));
    ask("boot".into(), Some(programmer), "received non-successful end-of-image result")?;
    say("waiting for Firehose programmer...\n");
    ask(format!("configure {storage}"), None, "configure request failed")?;
    for Program { lun, start, count, sector, .. } in work.programs.iter().filter(|it| it.erase) {
        let what = format!("{start}+{count:#x}");
        ask(format!("erase {lun} {start} {count} {sector}"), None, &format!("failed to erase {what}"))?;
        say(&format!("successfully erased {what}\n"));
    }
    for program in work.programs.iter().filter(|it| !it.erase && !it.file.is_empty()) {
        let Program { file, label, lun, start, count, sector, .. } = program;
        let size = fs::metadata(file).map_err(|_| Failed(format!("unable to open {file}\n")))?.len();
        let mut sectors = size.div_ceil((*sector).max(1));
        if *count > 0 && sectors > *count {
            let _ = called.err.write_all(
                format!("{file} to big for {label} truncated to {}\n", count.saturating_mul(*sector))
                    .as_bytes(),
            );
            sectors = *count;
        }
        ask(format!("program {lun} {start} {sectors} {sector}"), Some(file), "failed to setup programming")?;
        say(&format!("flashed \"{label}\" successfully\n"));
    }
    if let Some(patches) = &work.patches {
        for Patch { lun, start, sector, value } in patches {
            ask(format!("patch {lun} {start} {sector} {value}"), None, "patch application failed")?;
        }
        say(&format!("{} patches applied\n", patches.len()));
    }
    if let Some(lun) = bootable(&work.programs, &mut say) {
        ask(format!("bootable {lun}"), None, &format!("failed to mark partition {lun} as bootable"))?;
        say(&format!("partition {lun} is now bootable\n"));
    }
    // That this fails is told and no failure.
    if let Err(Failed(why)) = ask("reset".into(), None, "failed to request device reset") {
        let _ = called.err.write_all(why.as_bytes());
    }
    Ok(())
}

/// The partition with the first boot loader, if one is written.
fn bootable(programs: &[Program], say: &mut dyn FnMut(&str)) -> Option<u64> {
    let find =
        |label: &&str| programs.iter().find(|program| program.label == *label).map(|program| program.lun);
    let found: Vec<u64> = ["xbl", "xbl_a", "sbl1"].iter().filter_map(find).collect();
    let first = *found.first()?;
    if found.len() > 1 {
        say(&format!("Multiple candidates for primary bootloader found, using partition {first}\n"));
    }
    Some(first)
}

/// Reads the XML files.
fn load(files: &[String], allow_missing: bool, say: &mut dyn FnMut(&str)) -> Result<Work, Failed> {
    let mut work = Work::default();
    for file in files {
        let unknown = |why: String| Failed(format!("{why}qdl: failed to detect file type of {file}\n\n"));
        if ["read", "write", "erase"].contains(&file.as_str()) {
            return failed(format!("this ghost of qdl does not play the command {file}\n"));
        }
        if !Path::new(file).exists() {
            return Err(unknown(format!("{file} is not a verb and not a XML file\n")));
        }
        let elements = fs::read_to_string(file).ok().and_then(|text| elements(&text));
        let Some((root, elements)) = elements else {
            return Err(unknown(format!("failed to parse XML file \"{file}\"\n")));
        };
        match root.as_str() {
            "patches" => {
                let patches = work.patches.get_or_insert_default();
                for (name, attributes) in elements {
                    if name != "patch" {
                        say(&format!("unrecognized tag \"{name}\" in patch-type file, ignoring\n"));
                        continue;
                    }
                    // One of which something is missing is left out, and so is one for a file.
                    let Some((patch, of)) = patch(&attributes) else {
                        say(&format!("errors while parsing patch-type file \"{file}\"\n"));
                        continue;
                    };
                    if of == "DISK" {
                        patches.push(patch);
                    }
                }
            }
            "data" if elements.iter().any(|(name, _)| name == "program") => {
                for (name, attributes) in elements {
                    let broken = |why: String| Failed(format!("{why}qdl: program_load {file} failed\n"));
                    let erase = match name.as_str() {
                        "program" => false,
                        "erase" => true,
                        other => {
                            return Err(broken(format!(
                                "unrecognized tag \"{other}\" in program-type file \"{file}\"\n"
                            )));
                        }
                    };
                    let Some(mut program) = program(&attributes, erase) else {
                        return Err(broken(format!("errors while parsing {name} tag\n")));
                    };
                    if !program.file.is_empty() && fs::File::open(&program.file).is_err() {
                        say(&format!("unable to open {}", program.file));
                        if !allow_missing {
                            say("...failing\n");
                            return Err(broken(String::new()));
                        }
                        say("...ignoring\n");
                        program.file.clear();
                    }
                    work.programs.push(program);
                }
            }
            _ => return Err(unknown(String::new())),
        }
    }
    Ok(work)
}

type Attributes = BTreeMap<String, String>;

fn number(attributes: &Attributes, name: &str) -> Option<u64> {
    // As strtoul has it: what is no number is 0.
    let text = attributes.get(name)?;
    Some(getopt::number(text).unwrap_or_default())
}

fn program(attributes: &Attributes, erase: bool) -> Option<Program> {
    let text = |name: &str| attributes.get(name).cloned();
    let (file, label) = if erase { Default::default() } else { (text("filename")?, text("label")?) };
    if !erase {
        number(attributes, "file_sector_offset")?;
        text("sparse")?;
    }
    Some(Program {
        erase,
        file,
        label,
        lun: number(attributes, "physical_partition_number")?,
        start: text("start_sector")?,
        count: number(attributes, "num_partition_sectors")?,
        sector: number(attributes, "SECTOR_SIZE_IN_BYTES")?,
    })
}

/// A patch, and of what it is.
fn patch(attributes: &Attributes) -> Option<(Patch, String)> {
    let text = |name: &str| attributes.get(name).cloned();
    number(attributes, "byte_offset")?;
    number(attributes, "size_in_bytes")?;
    text("what")?;
    let patch = Patch {
        lun: number(attributes, "physical_partition_number")?,
        start: text("start_sector")?,
        sector: number(attributes, "SECTOR_SIZE_IN_BYTES")?,
        value: text("value")?,
    };
    Some((patch, text("filename")?))
}

/// The name of the root and the elements below it, of XML as these files have it: empty elements, one below the other.
fn elements(text: &str) -> Option<(String, Vec<(String, Attributes)>)> {
    let document = Document::parse(text).ok()?;
    let root = document.root_element();
    let is_beside = |node: &Node| node.is_comment() || node.is_pi();
    let is_blank = |node: &Node| node.is_text() && node.text().is_some_and(|text| text.trim().is_empty());
    let mut elements = Vec::new();
    for node in root.children().filter(|node| !is_beside(node) && !is_blank(node)) {
        if !node.is_element() || node.has_children() {
            return None;
        }
        let pair = |attribute: Attribute| (attribute.name().to_owned(), attribute.value().to_owned());
        elements.push((node.tag_name().name().to_owned(), node.attributes().map(pair).collect()));
    }
    (root.attributes().len() == 0).then(|| (root.tag_name().name().to_owned(), elements))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    const BOARD: &str = "
model: A Qualcomm board
peripherals:
- {while: recovery, vendor: 05c6, product: '9008'}
firmware:
  kind: minimal
  flash: FOLDER
  edl: {storage: ufs, sector: 4096, parts: {kernel: {lun: 0, start: 6, count: 2}}}
";

    fn xml(file: &str, start: u64, count: u64) -> String {
        format!(
            "<?xml version=\"1.0\" ?>\n<data>\n <!-- made -->\n <program start_sector=\"{start}\" physical_partition_number=\"0\" \
             file_sector_offset=\"0\" num_partition_sectors=\"{count}\" filename=\"{file}\" sparse=\"false\" \
             SECTOR_SIZE_IN_BYTES=\"4096\" label=\"boot\"/>\n</data>\n"
        )
    }

    const PATCHES: &str = "<?xml version=\"1.0\" ?>\n<patches>\n  <patch start_sector=\"2\" byte_offset=\"168\" \
        physical_partition_number=\"0\" size_in_bytes=\"8\" value=\"NUM_DISK_SECTORS-6.\" filename=\"DISK\" \
        SECTOR_SIZE_IN_BYTES=\"4096\" what=\"Update\"/>\n  <patch start_sector=\"2\" byte_offset=\"168\" \
        physical_partition_number=\"0\" size_in_bytes=\"8\" value=\"0\" filename=\"gpt_main0.bin\" \
        SECTOR_SIZE_IN_BYTES=\"4096\" what=\"Update\"/>\n</patches>\n";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_board_is_written_that_its_boot_rom_waits_for() {
        let bench = Bench::start(BOARD).await;
        let (elf, other) = (bench.file("prog.elf", b"\x7fELF..."), bench.file("prog.bin", b"none"));
        let image = bench.file("Image", &[7; 5000]);
        let here = |text: String, name: &str| bench.file(name, text.as_bytes()).display().to_string();
        let raw = here(xml(&image.display().to_string(), 6, 2), "raw.xml");
        let elsewhere = here(xml(&image.display().to_string(), 7, 2), "elsewhere.xml");
        let patch = here(PATCHES.into(), "patch.xml");
        bench.recovery().await;
        let (elf, other) = (elf.display(), other.display());
        for (line, code, out, err) in [
            (
                format!("--serial b {other} {raw} {patch}"),
                1,
                "Sahara: sending",
                "received non-successful end-of-image result\n",
            ),
            (
                format!("--serial b --storage emmc {elf} {raw}"),
                1,
                "waiting for Firehose",
                "configure request failed\n",
            ),
            (
                format!("--serial b {elf} {elsewhere}"),
                1,
                "waiting for Firehose",
                "failed to setup programming\n",
            ),
            (
                format!("--serial b {elf} {raw} {patch}"),
                0,
                "flashed \"boot\" successfully\n1 patches applied\n",
                "",
            ),
        ] {
            let found = bench.call(&TOOL, &line).await;
            assert_eq!((found.code, found.err.as_str()), (code, err), "{line}");
            assert!(found.out.contains(out), "{line}: {}", found.out);
        }
        let ledger = bench.ledger();
        let sent = format!("sent {} 5000 kernel", image.display());
        assert!(ledger.contains(&sent), "{ledger:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_wrong_without_a_board_is_said_as_qdl_says_it() {
        let bench = Bench::start(BOARD).await;
        let elf = bench.file("prog.elf", b"\x7fELF...");
        let elf = elf.display();
        let missing = bench.file("missing.xml", xml("/nowhere/Image", 6, 1).as_bytes());
        let broken = bench.file("broken.xml", b"<data><program></data>");
        let (missing, broken) = (missing.display(), broken.display());
        for (line, err) in [
            (String::new(), USAGE.to_owned()),
            (format!("{elf}"), USAGE.to_owned()),
            ("--frob a b".into(), format!("qdl: unrecognized option '--frob'\n{USAGE}")),
            (format!("--storage floppy {elf} x"), "qdl: unknown storage type \"floppy\"\n".into()),
            ("/nowhere/prog.elf x".into(), "failed to read \"/nowhere/prog.elf\"\n".into()),
            (
                format!("{elf} raw*.xml"),
                "raw*.xml is not a verb and not a XML file\nqdl: failed to detect file type of raw*.xml\n\n"
                    .into(),
            ),
            (
                format!("{elf} {broken}"),
                format!(
                    "failed to parse XML file \"{broken}\"\nqdl: failed to detect file type of {broken}\n\n"
                ),
            ),
            (format!("{elf} {missing}"), format!("qdl: program_load {missing} failed\n")),
        ] {
            let found = bench.call(&TOOL, &line).await;
            assert_eq!((found.code, found.err), (1, err), "{line}");
        }
        assert_eq!(bench.call(&TOOL, "--version").await.out, VERSION);
    }
}
