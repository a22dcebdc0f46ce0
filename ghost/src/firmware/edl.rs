//! Qualcomm's emergency download mode (EDL): the boot ROM takes a programmer by USB (Sahara), which then writes the storage
//! (Firehose).
//!
//! What qdl sends comes here in words ([`crate::tools::qdl`]). A real programmer writes whatever sectors it is told to; this one knows
//! the board's partitions, and refuses to write elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::flash;
use crate::machine::Machine;
use crate::peripheral::{Answer, Call, Mode};

/// Settings of that mode, in a board's file under `firmware.edl`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edl {
    /// Its storage, as qdl names it: `ufs`, `emmc`.
    storage: String,
    /// Bytes of a sector.
    sector: u64,
    /// Where the parts of the storage lie.
    parts: BTreeMap<String, Part>,
}

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Physical partition, which is a logical unit of UFS.
    lun: u64,
    /// First sector.
    start: u64,
    /// Number of sectors.
    count: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The boot ROM waits for a programmer.
    Rom,
    /// The programmer waits to be told of the storage.
    Programmer,
    Ready,
}

impl Edl {
    /// Takes what comes, until the board is to be reset.
    pub async fn run(&self, machine: &mut Machine, folder: &Path) {
        let mut gadget = machine.bus.enter(Mode::Recovery);
        let mut stage = Stage::Rom;
        loop {
            let call = gadget.next().await;
            if call.command == "reset" && stage == Stage::Ready {
                gadget.leave(call, Answer::okay(""));
                return;
            }
            let answer = self.answer(machine, folder, &call, &mut stage).await;
            call.answer(answer);
        }
    }

    async fn answer(&self, machine: &Machine, folder: &Path, call: &Call, stage: &mut Stage) -> Answer {
        let words: Vec<&str> = call.command.split(' ').collect();
        let refused = |what: &'static str, why: String| {
            machine.ledger.violation(what, why);
            Answer::fail("NAK")
        };
        match (words.as_slice(), &call.data) {
            // Who comes once more finds the programmer, or the ROM.
            (["boot"], Some(data)) => {
                machine.ledger.take(data.arrived("ram"));
                if !data.bytes.starts_with(b"\x7fELF") {
                    *stage = Stage::Rom;
                    return refused("bad-image", "the programmer is no ELF".into());
                }
                *stage = Stage::Programmer;
                Answer::okay("")
            }
            (["configure", storage], None) if *stage != Stage::Rom => {
                if *storage != self.storage {
                    return refused("no-such-storage", (*storage).to_owned());
                }
                *stage = Stage::Ready;
                Answer::okay("")
            }
            (["program", lun, start, count, sector], Some(data)) if *stage == Stage::Ready => {
                let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
                let (lun, start, count) = (number(lun), number(start), number(count));
                let is_it = |(_, part): &(&String, &Part)| {
                    part.lun == lun && part.start == start && count <= part.count
                };
                let part = self.parts.iter().find(is_it).filter(|_| number(sector) == self.sector);
                let Some((name, _)) = part else {
                    return refused("not-a-partition", call.command.clone());
                };
                machine.ledger.take(data.arrived(name));
                let mut bytes = data.bytes.clone();
                bytes.truncate(usize::try_from(count.saturating_mul(self.sector)).unwrap_or(usize::MAX));
                let (folder, board, name) = (folder.to_owned(), machine.board.name.clone(), name.clone());
                match flash::beside(move || flash::write(&folder, &board, &name, &bytes)).await {
                    Ok(()) => Answer::okay(""),
                    Err(error) => {
                        tracing::error!(%error, "could not write a board's storage");
                        Answer::fail("NAK")
                    }
                }
            }
            // There is no partition table to be patched, and no boot loader's partition to be chosen.
            (["erase" | "patch" | "bootable", ..], None) if *stage == Stage::Ready => Answer::okay(""),
            _ => refused("unknown-request", call.command.clone()),
        }
    }
}
