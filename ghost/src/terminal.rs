//! One board in this terminal, to be talked to by hand: no LAVA, no worker, no power commands.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::termios::{self, SetArg, Termios};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::board::Board;
use crate::console::Console;
use crate::daemon::cpu;
use crate::fault::Faults;
use crate::firmware::Firmware;
use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::net::Lease;
use crate::peripheral::Bus;

/// The key that ends it: Ctrl-], as of `telnet`.
pub const ESCAPE: u8 = 0x1d;

/// How long a board may be silent that nobody types to any more.
const SILENCE: Duration = Duration::from_secs(1);

/// The terminal in raw mode, until this is dropped.
pub struct Raw(Termios);

impl Raw {
    /// Nothing where there is no terminal.
    #[must_use]
    pub fn enter() -> Option<Self> {
        let before = termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Switches the board on, and is its serial port: until [`ESCAPE`] is typed, or it switches itself
/// off, or, where what is typed is no terminal's, that has ended and the board says nothing more.
/// Its ledger is `ledger.jsonl` in `folder`.
///
/// # Errors
/// When the ledger can't be written, or the terminal breaks.
pub async fn play(board: Board, firmware: Box<dyn Firmware>, folder: &Path) -> io::Result<()> {
    let ledger = Ledger::open(&folder.join("ledger.jsonl"))?;
    let faults = Faults::new(&board.faults, ledger.clone());
    let (console, port) = Console::pipe_with(ledger.clone(), faults);
    console.connected().await;
    let lease = Lease::new(&board.name, [127, 0, 0, 1].into());
    // Nothing is plugged into this machine: no tool asks for it.
    let bus = Bus::new(&board, tokio::sync::broadcast::channel(1).0);
    let mut machine = Machine::new(Arc::new(board), lease, vec![console], bus, ledger);
    // A person is not kept waiting.
    machine.patience = Duration::ZERO;
    machine.reset(None);

    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let is_terminal = io::stdin().is_terminal();
    let _raw = Raw::enter();
    let (mut printed, mut typed) = tokio::io::split(port);
    let (keys, mut pressed) = tokio::sync::mpsc::channel::<Vec<u8>>(16);
    // A thread of its own, which nobody waits for: a read of a terminal can't be called off.
    std::thread::spawn(move || {
        let mut stdin = std::fs::File::from(stdin);
        let mut buffer = [0; 1024];
        while let Ok(size @ 1..) = io::Read::read(&mut stdin, &mut buffer) {
            if keys.blocking_send(buffer[..size].to_vec()).is_err() {
                return;
            }
        }
    });
    let running = cpu(&mut machine, firmware.as_ref());
    tokio::pin!(running);
    let (mut stdout, mut buffer) = (io::stdout(), [0; 4096]);
    let mut types = true;
    loop {
        tokio::select! {
            () = &mut running => return Ok(()),
            size = printed.read(&mut buffer) => {
                let size = size?;
                if size == 0 {
                    return Ok(());
                }
                // A person's terminal takes it at once, and there is nobody else to hold up.
                stdout.write_all(&buffer[..size])?;
                stdout.flush()?;
            }
            bytes = pressed.recv(), if types => match bytes {
                Some(bytes) if is_terminal && bytes.contains(&ESCAPE) => return Ok(()),
                Some(bytes) => typed.write_all(&bytes).await?,
                None => types = false,
            },
            () = tokio::time::sleep(SILENCE), if !types => return Ok(()),
        }
    }
}
