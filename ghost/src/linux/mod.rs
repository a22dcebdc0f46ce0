//! stub

use crate::firmware::BootImage;
use crate::machine::Machine;

pub mod sandbox;

/// How an operating system ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `reboot`.
    Reboot,
    /// `poweroff`.
    PowerOff,
    /// It stopped and says nothing more (a panic, `halt`).
    Halt,
}

/// Boots `image` on `machine` and runs it until it ends.
pub async fn run(machine: &mut Machine, image: BootImage) -> Exit {
    let _ = (machine, image);
    Exit::Halt
}
