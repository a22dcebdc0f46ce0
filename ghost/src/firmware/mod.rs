//! The firmwares: small emulators behind one trait, a file each.
//!
//! To add one, add its file and its line in [`KINDS`].

use async_trait::async_trait;
use serde::Deserialize;

use crate::board::{Board, BoardError};
use crate::daplink::Drive;
use crate::machine::Machine;
use crate::peripheral::Mode;
use crate::ssh::Host;

pub mod arch;
pub mod barebox;
mod bds;
mod bios;
pub mod depthcharge;
pub mod edl;
pub mod fastboot;
pub mod flash;
pub mod fvp;
pub mod grub;
pub mod imx;
pub mod ipxe;
pub mod mcc;
pub mod mcu;
pub mod minimal;
pub mod none;
pub mod qemu;
pub mod script;
pub mod shell;
pub mod ssh;
#[cfg(test)]
mod testing;
pub mod uboot;
pub mod uefi;
pub mod uefi_fastboot;
pub mod uefi_menu;
mod uefi_shell;

/// What a firmware does between reset and the operating system.
///
/// `run` is a future that is dropped when power goes off or the board is reset,
/// in the middle of anything; it must keep no state outside of the machine.
#[async_trait]
pub trait Firmware: Send + Sync {
    /// Whether somebody has to listen when it starts on `board`: what it says then is awaited, as a boot
    /// loader's prompt is, and a worker that is late would miss it.
    fn needs_a_listener(&self, _board: &str) -> bool {
        true
    }

    /// The drive that a probe on the board shows, whether the board has power or not.
    fn drive(&self, _board: &str) -> Option<Drive> {
        None
    }

    /// What the board is where it is a machine that is reached by SSH, and has no serial port.
    fn host(&self) -> Option<Host> {
        None
    }

    /// Runs from reset until the firmware has nothing more to do.
    async fn run(&self, machine: &mut Machine) -> Next;

    /// Runs in its place where a switch has the boot ROM wait for a program by USB.
    async fn recover(&self, machine: &mut Machine) -> Next {
        waits_for_ever(machine).await
    }
}

/// A boot ROM that waits for a program, which no tool here sends it.
async fn waits_for_ever(machine: &mut Machine) -> Next {
    let _waits = machine.bus.enter(Mode::Recovery);
    std::future::pending().await
}

/// Where a firmware ended.
#[derive(Debug)]
pub enum Next {
    /// It started an operating system.
    Boot(BootImage),
    /// It reset the board.
    Reset,
    /// It switched the board off.
    PowerOff,
    /// It hangs; only power helps.
    Hang,
}

/// What a step of a firmware gives; [`Next`] where the firmware is over with it.
pub type Flow<T> = Result<T, Next>;

/// An operating system as a firmware hands it over. The headers of the boot
/// loader (uImage, FIT) are gone; compression is not.
#[derive(Debug, Clone, Default)]
pub struct BootImage {
    pub kernel: Vec<u8>,
    pub cmdline: String,
    /// Initial ramdisk: a cpio, compressed or not.
    pub ramdisk: Option<Vec<u8>>,
    pub dtb: Option<Vec<u8>>,
}

/// A kind of firmware: its name in a board's file, and how to make one.
pub struct FirmwareKind {
    /// Value of `firmware.kind`.
    pub name: &'static str,
    /// One line for `ghost kinds`.
    pub about: &'static str,
    /// Makes board and firmware of a board's file.
    pub load: fn(name: &str, text: &str) -> Result<Loaded, BoardError>,
}

/// What a board's file describes.
pub type Loaded = (Board, Box<dyn Firmware>);

/// All the kinds there are.
pub const KINDS: &[FirmwareKind] = &[
    barebox::KIND,
    depthcharge::KIND,
    fastboot::KIND,
    fvp::KIND,
    grub::EFI_KIND,
    grub::KIND,
    ipxe::KIND,
    mcu::KIND,
    minimal::KIND,
    none::KIND,
    qemu::KIND,
    script::KIND,
    ssh::KIND,
    uboot::KIND,
    uefi::KIND,
    uefi_fastboot::KIND,
    uefi_menu::KIND,
];

#[derive(Deserialize)]
struct KindOnly {
    kind: String,
}

/// Makes board and firmware of the text of a board's file.
///
/// # Errors
/// When the text is not a board; with line and column where that is known.
pub fn load(name: &str, text: &str) -> Result<Loaded, BoardError> {
    #[derive(Deserialize)]
    struct Probe {
        firmware: KindOnly,
    }
    let probe: Probe = serde_yaml::from_str(text)?;
    let found = probe.firmware.kind;
    match KINDS.iter().find(|kind| kind.name == found) {
        Some(kind) => {
            let (board, firmware) = (kind.load)(name, text)?;
            Ok(match board.mcc.clone() {
                Some(mcc) => (board, Box::new(mcc::Started { mcc, firmware })),
                None => (board, firmware),
            })
        }
        None => Err(BoardError::UnknownFirmware {
            found,
            known: KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", "),
        }),
    }
}
