//! The machine: what a board's firmware and kernel run on.

use std::sync::Arc;

use crate::board::Board;
use crate::console::Console;
use crate::ledger::{Event, Ledger, Stage};
use crate::memory::Memory;
use crate::net::Net;

/// One board with its power on, from one reset to the next.
pub struct Machine {
    /// What it is.
    pub board: Arc<Board>,
    /// Its serial ports; the first is the boot loader's. They outlive a reset.
    pub consoles: Vec<Console>,
    /// Its RAM.
    pub memory: Memory,
    /// Its network interface.
    pub net: Net,
    /// Where all is noted.
    pub ledger: Ledger,
}

impl Machine {
    /// A machine fresh from reset.
    #[must_use]
    pub fn new(board: Arc<Board>, consoles: Vec<Console>, ledger: Ledger) -> Self {
        let memory = Memory::new(board.memory.base, board.memory.mib);
        let net = Net::new(&board.name, ledger.clone());
        Self { board, consoles, memory, net, ledger }
    }

    /// The boot loader's serial port.
    pub fn console(&mut self) -> &mut Console {
        &mut self.consoles[0]
    }

    /// Notes that the machine goes on to `stage`.
    pub fn enter(&mut self, stage: Stage) {
        for console in &self.consoles {
            console.set_stage(stage);
        }
        self.ledger.take(Event::Stage { stage });
    }
}
