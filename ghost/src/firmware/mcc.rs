//! The Motherboard Configuration Controller of Arm's Versatile Express boards, which starts before everything else: it loads the
//! board from a card, and shows that card as a drive where it is asked to.
//!
//! Its console is the boot loader's serial port until it has powered the system up. Commands, prompts and the files of the card
//! (`config.txt`, `SITE1/HBI.../images.txt`) are those of the Juno Versatile Express Board Technical Reference Manual, chapter
//! "Configuration" (Arm 100114), and of the MCC's guide. What it says of a card that it can't use is ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use meta_lava_formats::sha256;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Firmware, Next, flash};
use crate::console::Input;
use crate::daplink::{self, Drive};
use crate::ledger::{Event, Protocol};
use crate::machine::Machine;
use crate::peripheral::{Gadget, Mode};
use crate::ssh::Host;

/// Settings of such a controller, in a board's file under `mcc`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mcc {
    /// Lines that it prints first.
    #[serde(default)]
    lines: Vec<String>,
    /// The board's folder in `SITE1` of the card.
    board: String,
    /// Size of the NOR flash in KiB.
    nor_kib: u64,
    /// Seconds that it waits for somebody to stop it.
    #[serde(default = "seconds")]
    seconds: u32,
    /// Folder of the drives that boards show; see [`daplink`].
    #[serde(default = "drives")]
    drives: PathBuf,
    /// Folder of the storage; see [`flash`].
    #[serde(default = "flash::folder")]
    storage: PathBuf,
}

const fn seconds() -> u32 {
    2
}

fn drives() -> PathBuf {
    daplink::FOLDER.into()
}

/// The part of the storage that says what is in the NOR flash: a line for each image.
const NOR: &str = "nor";

/// The part of the storage that says which card it has seen.
const CARD: &str = "card";

/// A firmware that such a controller starts.
pub struct Started {
    pub mcc: Mcc,
    pub firmware: Box<dyn Firmware>,
}

#[async_trait]
impl Firmware for Started {
    fn drive(&self, board: &str) -> Option<Drive> {
        Some(Drive { folder: self.mcc.drives.join(board), kind: daplink::Kind::Card })
    }

    fn host(&self) -> Option<Host> {
        self.firmware.host()
    }

    async fn run(&self, machine: &mut Machine) -> Next {
        Controller { mcc: &self.mcc, machine: &mut *machine, usb: None }.run().await;
        self.firmware.run(machine).await
    }

    async fn recover(&self, machine: &mut Machine) -> Next {
        self.firmware.recover(machine).await
    }
}

/// It at work.
struct Controller<'m> {
    mcc: &'m Mcc,
    machine: &'m mut Machine,
    /// The drive, as long as it is shown.
    usb: Option<Gadget>,
}

/// An image of the NOR flash, as the card's `images.txt` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Image {
    update: String,
    address: u64,
    /// Its path on the card, with `\`.
    file: String,
}

impl Controller<'_> {
    /// Runs until the system has power and something to start.
    async fn run(mut self) {
        let mut hello = String::new();
        for line in &self.mcc.lines {
            hello.push_str(line);
            hello.push('\n');
        }
        self.print(&hello).await;
        if !self.stopped().await && self.power_up().await {
            return;
        }
        loop {
            match self.line("Cmd> ").await.as_str() {
                "" => {}
                "usb_on" => {
                    self.usb = Some(self.machine.bus.enter(Mode::MassStorage));
                    self.print("Enabling debug USB...\n").await;
                }
                "usb_off" => self.usb = None,
                "flash" => self.flash().await,
                "reboot" => {
                    if self.power_up().await {
                        return;
                    }
                }
                other => self.unknown(other).await,
            }
        }
    }

    async fn print(&mut self, text: &str) {
        self.machine.console().print(text).await;
    }

    async fn line(&mut self, prompt: &str) -> String {
        loop {
            if let Input::Line(line) = self.machine.console().read_line(prompt).await {
                return line.trim().to_owned();
            }
        }
    }

    async fn unknown(&mut self, line: &str) {
        self.machine.ledger.violation("unknown-command", line);
        self.print(&format!("ERROR: Unknown command {line}\n")).await;
    }

    /// Whether it goes to its prompt: the card says so, or somebody presses Enter.
    async fn stopped(&mut self) -> bool {
        if self.card_has("config.txt").await.lines().any(|line| setting(line) == Some(("AUTORUN", "FALSE"))) {
            return true;
        }
        // A card that was written since is to be started: nobody stops that, and a worker that is late needs no time.
        let seconds = if self.card_is_new().await { 0 } else { self.mcc.seconds };
        self.print("Press Enter to stop auto boot...\n").await;
        let end = Instant::now() + self.machine.countdown(seconds);
        let stopped = self.machine.console().key_before(end, |key| matches!(key, b'\r' | b'\n')).await;
        self.print("\n").await;
        stopped.is_some()
    }

    /// Whether there is something else on the card than when it looked last.
    async fn card_is_new(&self) -> bool {
        let (card, storage) = (self.card(), self.mcc.storage.clone());
        let board = self.machine.board.name.clone();
        let looked = flash::beside(move || {
            let mut files = Vec::new();
            listed(&card, &mut files)?;
            files.sort();
            let now = sha256(files.join("\n").as_bytes()).into_bytes();
            let before = flash::read(&storage, &board, CARD)?;
            flash::write(&storage, &board, CARD, &now)?;
            Ok(before.is_some_and(|before| before != now))
        });
        looked.await.unwrap_or_default()
    }

    fn card(&self) -> PathBuf {
        self.mcc.drives.join(&self.machine.board.name)
    }

    /// A text on the card; an empty one where there is none.
    async fn card_has(&self, path: &str) -> String {
        let path = self.card().join(path);
        flash::beside(move || fs::read_to_string(path)).await.unwrap_or_default()
    }

    /// Loads the board from the card; whether there is something that the system can start.
    async fn power_up(&mut self) -> bool {
        self.print("Powering up system...\n\nSwitching on ATXPSU...\n").await;
        let list = format!("SITE1/{}/images.txt", self.mcc.board);
        let text = self.card_has(&list).await;
        let images = images(&text);
        if images.is_empty() {
            self.machine.ledger.violation("no-images", &list);
            let path = list.replace('/', "\\");
            self.print(&format!("ERROR: Failed to open file \\{path}\nERROR: Configuration failed\n\n"))
                .await;
            return false;
        }
        self.print("\nProgramming NOR Flash\n").await;
        let mut held = self.held().await;
        for image in images.iter().filter(|image| image.update != "NONE") {
            if let Err(why) = self.program(image, &mut held).await {
                self.print(&format!("ERROR: {why}\nERROR: Configuration failed\n\n")).await;
                return false;
            }
        }
        if held.is_empty() {
            self.machine.ledger.violation("nothing-to-start", "the NOR flash is empty");
            self.print("ERROR: Configuration failed\n\n").await;
            return false;
        }
        self.print("PASSED\n\nReleasing system resets...\n\nUART0 set to SoC UART0\n\n").await;
        true
    }

    /// Writes an image to the flash, where it is another one than what is there.
    async fn program(&mut self, image: &Image, held: &mut Vec<String>) -> Result<(), String> {
        let Image { update, address, file } = image;
        let path = file.trim_start_matches('\\').replace('\\', "/");
        let from = self.card().join(&path);
        let Ok(bytes) = flash::beside(move || fs::read(from)).await else {
            self.machine.ledger.violation("no-image", &path);
            return Err(format!("Failed to open file {file}"));
        };
        let end = address + bytes.len() as u64;
        if end > self.mcc.nor_kib * 1024 {
            self.machine.ledger.violation("not-flash", format!("{address:#010x}..{end:#010x}"));
            return Err(format!("Image {file} does not fit"));
        }
        let line = format!("{address:#010x} {}", sha256(&bytes));
        let at = held.iter().position(|known| known.split(' ').next() == line.split(' ').next());
        if update != "FORCE" && at.is_some_and(|at| held[at] == line) {
            return Ok(());
        }
        match at {
            Some(at) => held[at] = line,
            None => held.push(line),
        }
        self.print(&format!("Writing File {file} to Flash Address {address:#010x}\n")).await;
        self.machine.ledger.take(Event::file(Protocol::Usb, &path, &format!("nor {address:#010x}"), &bytes));
        self.hold(held).await;
        Ok(())
    }

    /// What is in the NOR flash.
    async fn held(&self) -> Vec<String> {
        let (storage, board) = (self.mcc.storage.clone(), self.machine.board.name.clone());
        let found = flash::beside(move || flash::read(&storage, &board, NOR)).await.ok().flatten();
        String::from_utf8_lossy(&found.unwrap_or_default()).lines().map(str::to_owned).collect()
    }

    async fn hold(&self, held: &[String]) {
        let (storage, board) = (self.mcc.storage.clone(), self.machine.board.name.clone());
        let text = held.join("\n");
        if let Err(error) = flash::beside(move || flash::write(&storage, &board, NOR, text.as_bytes())).await
        {
            tracing::error!(%error, "could not write a board's flash");
        }
    }

    /// The menu for the NOR flash.
    async fn flash(&mut self) {
        loop {
            match self.line("Flash> ").await.as_str() {
                "" => {}
                "eraseall" => {
                    self.print("Erasing Flash\n").await;
                    self.hold(&[]).await;
                }
                "exit" => return,
                other => self.unknown(other).await,
            }
        }
    }
}

/// A line `KEY: VALUE ;comment` of one of the card's files.
fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.split(';').next().unwrap_or_default();
    line.split_once(':').map(|(key, value)| (key.trim(), value.trim()))
}

/// The images that an `images.txt` names, in its order; nothing where it is none.
fn images(text: &str) -> Vec<Image> {
    let settings = text.lines().filter_map(setting);
    let count =
        settings.clone().find(|(key, _)| *key == "TOTALIMAGES").and_then(|(_, count)| count.parse().ok());
    let of = |number: usize| {
        let get = |key: &str| {
            let key = format!("NOR{number}{key}");
            settings.clone().find(|(known, _)| *known == key).map(|(_, value)| value.to_owned())
        };
        let address = get("ADDRESS")?;
        let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).ok()?;
        Some(Image { update: get("UPDATE")?, address, file: get("FILE")? })
    };
    (0..count.unwrap_or(0).min(32)).filter_map(of).collect()
}

/// The files below `folder`, each with its content's checksum.
fn listed(folder: &Path, into: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            listed(&path, into)?;
        } else {
            into.push(format!("{} {}", path.display(), sha256(&fs::read(&path)?)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    const IMAGES: &str = "TITLE: Versatile Express Images Configuration File\n[IMAGES]\nTOTALIMAGES: 1 ;Max: 32\n\
        NOR0UPDATE: AUTO ;Image Update\nNOR0ADDRESS: 0x00000000\nNOR0FILE: \\SOFTWARE\\fip.bin\n";

    /// A board, and its card.
    struct Board {
        bench: Bench,
        folder: tempfile::TempDir,
    }

    impl Board {
        async fn start(config: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let card = folder.path().join("drives/bench");
            fs::create_dir_all(&card).unwrap();
            fs::write(card.join("config.txt"), config).unwrap();
            let yaml = format!(
                "
model: Juno
peripherals: [{{while: mass-storage, vendor: '0d28', product: '0204', volume: JUNO}}]
mcc: {{board: HBI0262B, nor_kib: 1, seconds: 1, lines: [ARM V2M-Juno], drives: {:?}, storage: {:?}}}
firmware: {{kind: u-boot, banner: U-Boot, prompt: 'juno# ', arch: arm64, boot: [booti]}}
",
                folder.path().join("drives"),
                folder.path().join("storage")
            );
            Self { bench: Bench::start(&yaml).await, folder }
        }

        fn card(&self, path: &str, bytes: &[u8]) {
            let path = self.folder.path().join("drives/bench").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_copied_to_the_card_is_programmed_and_started_after_a_reset() {
        let mut board = Board::start("AUTORUN: TRUE\n").await;
        board.bench.expect("ARM V2M-Juno\nPress Enter to stop auto boot...\n").await;
        board.bench.send(" \n").await;
        board.bench.expect("Cmd> ").await;
        assert!(board.bench.bus.attached().is_empty());
        board.bench.send("usb_on\n").await;
        board.bench.expect("Enabling debug USB...\nCmd> ").await;
        assert_eq!(board.bench.bus.attached().len(), 1);
        board.card("SITE1/HBI0262B/images.txt", IMAGES.as_bytes());
        board.card("SOFTWARE/fip.bin", b"fip");
        for (line, answer) in [
            ("flash", "Flash> "),
            ("eraseall", "Erasing Flash\nFlash> "),
            ("exit", "Cmd> "),
            ("usb_on2", "Cmd> "),
        ] {
            board.bench.send(&format!("{line}\n")).await;
            board.bench.expect(answer).await;
        }
        board.bench.reset().await;
        board.bench.expect("Programming NOR Flash\n").await;
        board.bench.expect("Writing File \\SOFTWARE\\fip.bin to Flash Address 0x00000000\n").await;
        board.bench.expect("UART0 set to SoC UART0\n\n\n\nU-Boot\n").await;
        assert!(board.bench.bus.attached().is_empty());
        assert_eq!(board.bench.violations(), ["unknown-command"]);
    }

    #[tokio::test]
    async fn a_card_of_another_board_starts_nothing() {
        let mut board = Board::start("AUTORUN: FALSE ;Auto Run from power on\n").await;
        board.card("SITE1/HBI0249A/images.txt", IMAGES.as_bytes());
        board.bench.expect("Cmd> ").await;
        board.bench.send("reboot\n").await;
        board.bench.expect("ERROR: Failed to open file \\SITE1\\HBI0262B\\images.txt\n").await;
        board.bench.expect("Cmd> ").await;
        board.card("SITE1/HBI0262B/images.txt", IMAGES.as_bytes());
        board.bench.send("reboot\n").await;
        board.bench.expect("ERROR: Failed to open file \\SOFTWARE\\fip.bin\n").await;
        board.card("SOFTWARE/fip.bin", &[0; 1025]);
        board.bench.send("reboot\n").await;
        board.bench.expect("ERROR: Image \\SOFTWARE\\fip.bin does not fit\n").await;
        assert_eq!(board.bench.violations(), ["no-images", "no-image", "not-flash"]);
    }

    #[test]
    fn images_are_read_as_the_card_has_them() {
        let one = Image { update: "AUTO".into(), address: 0, file: "\\SOFTWARE\\fip.bin".into() };
        assert_eq!(images(IMAGES), [one]);
        assert_eq!(images("TOTALIMAGES: 2\nNOR0UPDATE: NONE\n"), []);
        assert_eq!(images("nothing"), []);
    }
}
