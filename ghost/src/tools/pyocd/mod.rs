//! pyOCD: writes a board's flash by its CMSIS-DAP probe. `pyocd-flashtool` is that of its early versions, `pyocd` that of
//! the later ones.

mod flashtool;
mod load;

use std::path::PathBuf;

use super::getopt::number;
use super::usb::Device;
use super::{Called, Tool};
use crate::peripheral::{Answer, Mode};

/// The tool.
pub const TOOL: Tool = Tool { names: &["pyocd-flashtool", "pyocd"], run };

/// A chip that pyOCD knows, and the flash that it starts from (`pyocd/target/builtin/`): its first address and its size.
struct Target {
    name: &'static str,
    base: u32,
    size: u32,
}

impl Target {
    /// Of `size` bytes from `address` on the first address that is not in its flash.
    fn first_outside(&self, address: u32, size: u64) -> Option<u64> {
        let [base, address] = [self.base, address].map(u64::from);
        let flash = base..base + u64::from(self.size);
        match flash.contains(&address) {
            true => (address + size > flash.end).then_some(flash.end),
            false => Some(address),
        }
    }
}

const fn target(name: &'static str, base: u32, size: u32) -> Target {
    Target { name, base, size }
}

/// The targets that are played.
const TARGETS: &[Target] = &[
    target("k64f", 0, 0x10_0000),
    target("kw36z4", 0, 0x4_0000),
    target("kw41z4", 0, 0x8_0000),
    target("nrf51", 0, 0x4_0000),
    target("nrf52", 0, 0x8_0000),
    target("nrf52840", 0, 0x10_0000),
    target("stm32l475xg", 0x0800_0000, 0x10_0000),
];

fn run(called: Called) -> Result<u8, String> {
    if called.name == "pyocd" { load::run(called) } else { flashtool::run(called) }
}

/// An address on the command line: Python's `int(text, base=0)`, which both programs take it by.
fn address(text: &str) -> Result<u32, String> {
    number(text)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| format!("invalid int_base_0 value: '{text}'"))
}

/// What a probe did not do.
enum Failed {
    /// The chip behind it has no power; the probe has its own.
    NoAck,
    /// The chip did not take it.
    Flash(String),
}

/// Asks the chip behind a probe for something.
fn ask(device: &Device, command: &str, file: Option<PathBuf>) -> Result<(), Failed> {
    match device.ask_of(Mode::Debug, command, file) {
        Err(_gone) => Err(Failed::NoAck),
        Ok(Answer { result: Err(why), .. }) => Err(Failed::Flash(why)),
        Ok(_) => Ok(()),
    }
}

/// What pyOCD draws of its progress where nobody watches a terminal (`pyocd/utility/progress.py`).
fn progress() -> String {
    format!("[{}----]\n[{:=<40}]\n", "---|".repeat(9), "")
}
