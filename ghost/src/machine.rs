//! The machine: what a board's firmware and kernel run on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meta_lava_formats::tree::Tree;

use crate::board::Board;
use crate::console::Console;
use crate::disk::Disk;
use crate::fault::{Faults, Moment};
use crate::ledger::{Event, Ledger, Stage};
use crate::memory::Memory;
use crate::net::{Lease, Net};
use crate::patience::PATIENCE;
use crate::peripheral::Bus;

/// How a tool was called that is the board itself (`qemu-system-*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub tool: String,
    /// Its arguments, without the name.
    pub args: Vec<String>,
    pub cwd: PathBuf,
    /// The root that its paths lie below: that of its container, where it is in one.
    pub root: PathBuf,
}

/// What a board that is reset is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its boot loader, which waits for orders.
    Bootloader,
    /// What is in the other bank of its flash.
    AlternateBank,
}

pub struct Machine {
    pub board: Arc<Board>,
    /// Its serial ports; the first is the boot loader's. They outlive a reset.
    pub consoles: Vec<Console>,
    pub memory: Memory,
    /// The disks that its kernel finds, where firmware knows of any; each with its partitions after it.
    pub disks: Vec<Disk>,
    /// What is on the disc in its CD drive.
    pub cd: Option<Arc<Tree>>,
    pub net: Net,
    pub ledger: Ledger,
    /// Its USB side, which outlives a reset.
    pub bus: Bus,
    /// Why its firmware was last reset, where somebody said so: kept by a reset, lost with the power.
    pub reason: Option<Reason>,
    /// What is wrong with it, on purpose.
    pub faults: Faults,
    /// How the tool was called that started it, if one did.
    pub invocation: Option<Invocation>,
    /// How long a countdown stands before it counts.
    pub patience: Duration,
    lease: Lease,
}

impl Machine {
    /// A machine without power. Its `faults` are those that its consoles know of.
    ///
    /// # Panics
    /// When there is no console; the daemon makes one at least.
    #[must_use]
    pub fn new(board: Arc<Board>, lease: Lease, consoles: Vec<Console>, bus: Bus, ledger: Ledger) -> Self {
        assert!(!consoles.is_empty(), "a board has a serial port");
        let memory = Memory::new(board.memory.base, board.memory.mib);
        let faults = consoles[0].faults().clone();
        let net = Net::new(lease, ledger.clone(), faults.clone());
        Self {
            board,
            consoles,
            memory,
            disks: Vec::new(),
            cd: None,
            net,
            ledger,
            bus,
            reason: None,
            faults,
            invocation: None,
            patience: PATIENCE,
            lease,
        }
    }

    /// Puts the machine where a reset puts it: RAM and network forgotten, input dropped.
    pub fn reset(&mut self, invocation: Option<Invocation>) {
        self.memory = Memory::new(self.board.memory.base, self.board.memory.mib);
        self.disks = Vec::new();
        self.cd = None;
        self.net = Net::new(self.lease, self.ledger.clone(), self.faults.clone());
        self.invocation = invocation;
        for console in &mut self.consoles {
            console.drain();
            console.recover();
        }
    }

    /// Makes it a machine that was never switched on.
    pub fn renew(&mut self) {
        self.bus.renew();
        self.faults.renew();
    }

    /// How long a countdown of so many seconds takes: it stands for [`Self::patience`] before
    /// it counts, unless it has nothing to count.
    #[must_use]
    pub fn countdown(&self, seconds: u32) -> Duration {
        match seconds {
            0 => Duration::ZERO,
            seconds => self.patience + Duration::from_secs(seconds.into()),
        }
    }

    /// The boot loader's serial port.
    pub fn console(&mut self) -> &mut Console {
        &mut self.consoles[0]
    }

    /// Goes on to `stage`, with what goes wrong then.
    pub async fn enter(&mut self, stage: Stage) {
        self.note(stage);
        let mut deeds = match stage {
            // The first one after each start.
            Stage::Firmware => self.faults.at(Moment::Start),
            _ => Vec::new(),
        };
        deeds.extend(self.faults.at(Moment::Stage(stage)));
        self.console().act(deeds).await;
    }

    /// Has no power any more.
    pub fn power_off(&mut self) {
        self.note(Stage::Off);
        let _ = self.faults.at(Moment::Stage(Stage::Off));
    }

    fn note(&self, stage: Stage) {
        for console in &self.consoles {
            console.set_stage(stage);
        }
        self.ledger.take(Event::Stage { stage });
        if matches!(stage, Stage::Off | Stage::Userland | Stage::Halted) {
            self.bus.arrives();
        }
    }
}
