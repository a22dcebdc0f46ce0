//! A microcontroller: runs what is in its flash, and is written by a debug probe or by its boot loader's DFU.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meta_lava_formats::mcu;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Firmware, FirmwareKind, Next, flash};
use crate::daplink::{self, Drive};
use crate::ledger::{Event, Protocol};
use crate::machine::Machine;
use crate::patience::SLOW_START;
use crate::peripheral::{Answer, Call, Mode};

pub const KIND: FirmwareKind = FirmwareKind {
    name: "mcu",
    about: "a microcontroller: runs what a debug probe or DFU has written into its flash",
    load: |name, text| {
        let (board, mcu) = crate::board::parse::<Mcu>(name, text)?;
        Ok((board, Box::new(mcu)))
    },
};

/// Settings of a microcontroller, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mcu {
    #[serde(rename = "kind")]
    _kind: String,
    /// Its core.
    #[serde(default)]
    core: Core,
    /// Where its flash lies.
    flash: Area,
    /// Where its RAM lies.
    ram: Area,
    /// Its boot loader's DFU, if it has one.
    dfu: Option<Dfu>,
    /// Whether its probe is a DAPLink, which shows a drive: a peripheral with a `volume`.
    #[serde(default)]
    daplink: bool,
    /// The card that it starts its program from, if it has one; the worker sees that as a peripheral with a
    /// `volume`.
    card: Option<Card>,
    /// Folder of the drives that boards show; see [`daplink`].
    #[serde(default = "drives")]
    drives: PathBuf,
    /// Folder of the storage; see [`flash`].
    #[serde(default = "flash::folder")]
    storage: PathBuf,
}

fn drives() -> PathBuf {
    daplink::FOLDER.into()
}

/// See [`Mcu::card`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    /// Path of the program on it.
    program: String,
}

/// See [`Mcu::core`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Core {
    /// A Cortex-M, whose programs begin with a vector table that is checked.
    #[default]
    CortexM,
    /// One whose programs are not looked into.
    Other,
}

/// Memory.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Area {
    /// First address.
    base: u32,
    /// Size in KiB.
    kib: u32,
}

impl Area {
    fn range(self) -> Range<u32> {
        self.base..self.base.saturating_add(self.kib.saturating_mul(1024))
    }
}

/// A boot loader that waits for DFU after each reset.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dfu {
    /// Names of what can be written (alternate settings), in their order; the one that is called as
    /// [`Self::program`] is the flash.
    alternates: Vec<String>,
    /// Which of them is the program that is run.
    program: String,
    /// Seconds that it waits until it starts the program.
    seconds: u32,
}

/// The part of the storage that is the flash.
const PART: &str = "flash";

#[async_trait]
impl Firmware for Mcu {
    /// It runs its last program, which nobody waits for, and the next one comes by a probe. Where that comes
    /// by DFU or lies on a card, LAVA opens the console before the reset.
    fn needs_a_listener(&self, board: &str) -> bool {
        let on_card = |card: &Card| self.drives.join(board).join(&card.program).exists();
        self.dfu.is_some() || self.card.as_ref().is_some_and(on_card)
    }

    fn drive(&self, board: &str) -> Option<Drive> {
        let kind = match (&self.card, self.daplink) {
            (Some(_), _) => daplink::Kind::Card,
            (None, true) => daplink::Kind::Probe { flash: self.flash.range(), ram: self.ram.range() },
            (None, false) => return None,
        };
        Some(Drive { folder: self.drives.join(board), kind })
    }

    async fn run(&self, machine: &mut Machine) -> Next {
        if let Some(dfu) = &self.dfu {
            self.load(machine, dfu).await;
        }
        let mut debug = machine.bus.enter(Mode::Debug);
        let mut core = Running::Run;
        loop {
            if core == Running::Run {
                self.start(machine).await;
                core = Running::Runs;
            }
            let call = debug.next().await;
            let answer = self.debug(machine, &call, &mut core).await;
            call.answer(answer);
        }
    }
}

/// What the core does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    /// It begins.
    Run,
    Runs,
    Halted,
}

/// The part of a memory that `ADDRESS SIZE` names, both hexadecimal.
fn within(memory: Area, text: &str) -> Option<Range<usize>> {
    let (address, size) = text.split_once(' ')?;
    let start = hexadecimal(address)?.checked_sub(memory.base)? as usize;
    let end = start.checked_add(hexadecimal(size)? as usize)?;
    (end <= memory.kib as usize * 1024).then_some(start..end)
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

impl Mcu {
    /// Runs the program in the flash.
    async fn start(&self, machine: &mut Machine) {
        let program = match &self.card {
            Some(card) => self.on_card(machine, card).await,
            None => self.flashed(machine).await,
        };
        // Nothing runs, and nothing says so: that is how an empty one behaves.
        if program.iter().all(|byte| *byte == 0xff) {
            return;
        }
        if self.core == Core::CortexM
            && let Err(error) = mcu::check(&program, self.flash.range(), self.ram.range())
        {
            // It faults with its first instruction.
            return machine.ledger.violation("bad-program", error.to_string());
        }
        match mcu::text(&program) {
            Some(text) => {
                // LAVA begins to listen and writes the program at once; what it prints then is its result.
                // What it prints while nobody listens is lost, as that of a program that a probe has just written may be.
                if tokio::time::timeout(SLOW_START, machine.console().connected()).await.is_ok() {
                    machine.console().print(&text).await;
                }
            }
            None => machine.ledger.violation("bad-program", "no program that a ghost can run"),
        }
    }

    /// The program on its card, which it loads each time that it starts.
    async fn on_card(&self, machine: &Machine, card: &Card) -> Vec<u8> {
        let path = self.drives.join(&machine.board.name).join(&card.program);
        let found = flash::beside(move || fs::read(path)).await;
        // A card without a program: nothing is started.
        let Ok(bytes) = found else { return Vec::new() };
        machine.ledger.take(Event::file(Protocol::Usb, &card.program, "memory", &bytes));
        bytes
    }

    async fn flashed(&self, machine: &Machine) -> Vec<u8> {
        let (folder, board) = (self.storage.clone(), machine.board.name.clone());
        match flash::beside(move || flash::read(&folder, &board, PART)).await {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "could not read a board's flash");
                Vec::new()
            }
        }
    }

    async fn write(&self, machine: &Machine, program: Vec<u8>) -> Result<(), String> {
        let (folder, board) = (self.storage.clone(), machine.board.name.clone());
        let write = move || flash::write(&folder, &board, PART, &program);
        flash::beside(write).await.map_err(|error| error.to_string())
    }

    /// What a debug probe asks: `identify`, `halt`, `run`, `run ADDRESS`, `reset`, `reset halt`, `bank`, `registers`, `erase`,
    /// `erase ADDRESS SIZE`, `read ADDRESS SIZE`, `write ADDRESS` and `verify ADDRESS`. Numbers are hexadecimal.
    async fn debug(&self, machine: &mut Machine, call: &Call, core: &mut Running) -> Answer {
        let (verb, argument) = call.command.split_once(' ').unwrap_or((&call.command, ""));
        match (verb, argument) {
            ("identify", "") => Answer::okay(""),
            ("halt", "") | ("reset", "halt") => {
                *core = Running::Halted;
                Answer::okay("")
            }
            ("reset", "") => {
                *core = Running::Run;
                Answer::okay("")
            }
            ("run", "") => {
                // It goes on where it was; after `reset halt` that is the begin.
                if *core == Running::Halted {
                    *core = Running::Run;
                }
                Answer::okay("")
            }
            ("run", address) => {
                let program = self.flashed(machine).await;
                let at = hexadecimal(address).and_then(|address| address.checked_sub(self.flash.base));
                if at.is_none_or(|at| at as usize >= program.len()) {
                    machine
                        .ledger
                        .violation("bad-program", format!("there is no program at 0x{address:0>8}"));
                } else if *core == Running::Halted {
                    *core = Running::Run;
                }
                Answer::okay("")
            }
            ("bank", "") => Answer::okay(format!("{:x} {:x}", self.flash.base, self.flash.kib * 1024)),
            ("registers", "") => {
                // Where the vector table has the core begin, and a ghost's program stays.
                let mut program = self.flashed(machine).await;
                // What was not written reads as that.
                program.resize(program.len().max(8), 0xff);
                let (stack, reset) = mcu::vectors(&program).unwrap_or((u32::MAX, u32::MAX));
                Answer::okay(format!("{:x} {:x}", stack & !3, reset & !1))
            }
            ("read", area) => match (within(self.flash, area), within(self.ram, area)) {
                (Some(area), _) => {
                    let mut bytes = self.flashed(machine).await;
                    bytes.resize(self.flash.kib as usize * 1024, 0xff);
                    Answer::okay(STANDARD.encode(&bytes[area]))
                }
                // Nothing is kept there.
                (None, Some(area)) => Answer::okay(STANDARD.encode(vec![0u8; area.len()])),
                (None, None) => Answer::fail("no memory"),
            },
            ("erase", area) if !area.is_empty() => {
                let Some(area) = within(self.flash, area) else { return Answer::fail("not flash") };
                let mut program = self.flashed(machine).await;
                let end = area.end.min(program.len());
                if let Some(erased) = program.get_mut(area.start..end) {
                    erased.fill(0xff);
                }
                match self.write(machine, program).await {
                    Ok(()) => Answer::okay(""),
                    Err(why) => Answer::fail(why),
                }
            }
            ("erase", "") => match self.write(machine, Vec::new()).await {
                Ok(()) => Answer::okay(""),
                Err(why) => Answer::fail(why),
            },
            ("write" | "verify", address) => {
                let Some(data) = &call.data else { return Answer::fail("no data") };
                let address = u32::from_str_radix(address, 16).unwrap_or(u32::MAX);
                let range = self.flash.range();
                let end = u64::from(address) + data.bytes.len() as u64;
                if !range.contains(&address) || end > u64::from(range.end) {
                    machine.ledger.violation("not-flash", format!("{address:#010x}..{end:#010x}"));
                    return Answer::fail("not flash");
                }
                let at = (address - range.start) as usize;
                let mut program = self.flashed(machine).await;
                if verb == "verify" {
                    let same = program.get(at..at + data.bytes.len()) == Some(data.bytes.as_slice());
                    return if same { Answer::okay("") } else { Answer::fail("contents differ") };
                }
                if *core != Running::Halted {
                    machine
                        .ledger
                        .violation("core-runs", "the flash is written while the program runs from it");
                    return Answer::fail("target not halted");
                }
                if program.len() < at + data.bytes.len() {
                    program.resize(at + data.bytes.len(), 0xff);
                }
                program[at..at + data.bytes.len()].copy_from_slice(&data.bytes);
                machine.ledger.take(data.arrived(&format!("{address:#010x}")));
                match self.write(machine, program).await {
                    Ok(()) => Answer::okay(""),
                    Err(why) => Answer::fail(why),
                }
            }
            _ => Answer::fail("unknown request"),
        }
    }

    /// Its boot loader: waits for DFU until it is detached, or nobody came.
    async fn load(&self, machine: &mut Machine, dfu: &Dfu) {
        let mut gadget = machine.bus.enter(Mode::Dfu);
        let mut end = Some(Instant::now() + machine.countdown(dfu.seconds));
        loop {
            let call = match end {
                Some(end) => match tokio::time::timeout_at(end, gadget.next()).await {
                    Ok(call) => call,
                    Err(_) => return,
                },
                None => gadget.next().await,
            };
            // Who came is waited for.
            end = None;
            let (verb, argument) = call.command.split_once(' ').unwrap_or((&call.command, ""));
            match (verb, argument) {
                ("alternates", "") => {
                    let names = dfu.alternates.clone();
                    call.answer(Answer { info: names, result: Ok(String::new()) });
                }
                ("download", name) => {
                    let answer = self.download(machine, dfu, name, &call).await;
                    call.answer(answer);
                }
                ("detach", "") => {
                    drop(gadget);
                    call.answer(Answer::okay(""));
                    return;
                }
                _ => call.answer(Answer::fail("errSTALLEDPKT")),
            }
        }
    }

    async fn download(&self, machine: &Machine, dfu: &Dfu, name: &str, call: &Call) -> Answer {
        let Some(data) = call.data.as_ref().filter(|_| dfu.alternates.iter().any(|found| found == name))
        else {
            return Answer::fail("errSTALLEDPKT");
        };
        machine.ledger.take(data.arrived(name));
        if data.bytes.len() > self.flash.kib as usize * 1024 {
            machine.ledger.violation("not-flash", format!("{} bytes for {name}", data.bytes.len()));
            return Answer::fail("errADDRESS");
        }
        if name != dfu.program {
            return Answer::okay("");
        }
        match self.write(machine, data.bytes.clone()).await {
            Ok(()) => Answer::okay(""),
            Err(_) => Answer::fail("errWRITE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::Bench;
    use super::*;
    use crate::peripheral::Data;

    fn board(folder: &Path, more: &str) -> String {
        format!(
            "
model: nRF52
peripherals:
- {{while: always, vendor: 0d28, product: '0204'}}
- {{while: dfu, vendor: '8087', product: 0aba}}
firmware:
  kind: mcu
  flash: {{base: 0x0, kib: 512}}
  ram: {{base: 0x20000000, kib: 64}}
  storage: {folder:?}
{more}"
        )
    }

    fn program(text: &str) -> Vec<u8> {
        mcu::write(0, 0x2001_0000, text, 0)
    }

    async fn ask(bench: &Bench, mode: Mode, command: &str, data: Option<&[u8]>) -> Answer {
        let data = data.map(|bytes| Data { path: "/tmp/zephyr.bin".into(), bytes: bytes.to_vec() });
        loop {
            // It may not have come to it yet.
            if let Some(answer) = bench.bus.call(mode, command.into(), data.clone()).await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_probe_wrote_runs_after_the_reset_and_after_each_power_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::start(&board(folder.path(), "")).await;
        let program = program("*** Booting Zephyr ***\n");
        let debug = Mode::Debug;
        assert_eq!(ask(&bench, debug, "write 0", Some(&program)).await, Answer::fail("target not halted"));
        assert_eq!(ask(&bench, debug, "reset halt", None).await, Answer::okay(""));
        assert_eq!(ask(&bench, debug, "write 0", Some(&program)).await, Answer::okay(""));
        assert_eq!(ask(&bench, debug, "verify 0", Some(&program)).await, Answer::okay(""));
        assert_eq!(ask(&bench, debug, "verify 0", Some(b"other")).await, Answer::fail("contents differ"));
        assert_eq!(ask(&bench, debug, "write 7fffc", Some(&program)).await, Answer::fail("not flash"));
        assert_eq!(ask(&bench, debug, "reset", None).await, Answer::okay(""));
        bench.expect("*** Booting Zephyr ***\n").await;
        bench.reset().await;
        bench.expect("*** Booting Zephyr ***\n").await;
        assert_eq!(bench.violations(), ["core-runs", "not-flash"]);
    }

    #[tokio::test]
    async fn a_program_of_another_chip_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::start(&board(folder.path(), "")).await;
        let other = mcu::write(0x0800_0000, 0x2001_0000, "hello\n", 0);
        ask(&bench, Mode::Debug, "halt", None).await;
        ask(&bench, Mode::Debug, "write 0", Some(&other)).await;
        ask(&bench, Mode::Debug, "reset", None).await;
        // Answered once it has begun to run.
        ask(&bench, Mode::Debug, "halt", None).await;
        assert_eq!(bench.violations(), ["bad-program"]);
    }

    #[tokio::test]
    async fn what_came_by_dfu_runs_once_it_is_detached() {
        let folder = tempfile::tempdir().unwrap();
        let dfu = "  dfu: {alternates: [x86_rom, x86_app], program: x86_app, seconds: 5}\n";
        let mut bench = Bench::start(&board(folder.path(), dfu)).await;
        let answer = ask(&bench, Mode::Dfu, "alternates", None).await;
        assert_eq!(answer.info, ["x86_rom", "x86_app"]);
        let program = program("hello\n");
        assert_eq!(
            ask(&bench, Mode::Dfu, "download nowhere", Some(b"x")).await,
            Answer::fail("errSTALLEDPKT")
        );
        assert_eq!(ask(&bench, Mode::Dfu, "download x86_app", Some(&program)).await, Answer::okay(""));
        assert_eq!(ask(&bench, Mode::Dfu, "detach", None).await, Answer::okay(""));
        bench.expect("hello\n").await;
        assert!(!bench.bus.attached().iter().any(|device| device.when == Mode::Dfu));
    }
}
