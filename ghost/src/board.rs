//! A board as data: the schema of a board's file.
//!
//! The file is frozen in the repository and never made from LAVA's templates,
//! so that a template that changes meets a board that did not.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::controller::Controller;
use crate::fault::Fault;
use crate::firmware::mcc::Mcc;
use crate::peripheral::{Cable, Peripheral};
use crate::vland::SwitchPort;

/// What every board has, whatever its firmware. `F` is the settings of its
/// firmware, in the key `firmware`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardFile<F> {
    /// Human name, as the kernel prints it (`Machine model: …`).
    pub model: String,
    /// Settings of the firmware; its key `kind` names the firmware.
    pub firmware: F,
    #[serde(default)]
    pub memory: MemoryMap,
    /// Number of serial ports; the first is the one with the boot loader.
    #[serde(default = "one", deserialize_with = "at_least_one")]
    pub uarts: usize,
    /// What is on its serial ports beside the first, in their order. There is nothing on the rest of them.
    #[serde(default)]
    pub beside: Vec<Controller>,
    /// The kernel that this board boots.
    #[serde(default)]
    pub kernel: KernelLog,
    /// The least time that its serial ports need for each character, in milliseconds. What
    /// is typed faster is noted as a violation.
    #[serde(default)]
    pub typing_ms: u64,
    /// What becomes of its serial ports when its power goes.
    #[serde(default)]
    pub port: PortPower,
    /// USB devices that it is, or has on it, as its worker sees them.
    #[serde(default)]
    pub peripherals: Vec<Peripheral>,
    /// Whether its USB cable is plugged in before anybody touches it.
    #[serde(default)]
    pub cable: Cable,
    /// Whether it has a battery: it is on before anybody touches it.
    #[serde(default)]
    pub battery: bool,
    /// Whether nobody has a cable to its serial ports: what it prints there is lost.
    #[serde(default)]
    pub headless: bool,
    /// The controller that starts its firmware.
    #[serde(default)]
    pub mcc: Option<Mcc>,
    /// Ports of the lab's switches that its network cables are in, as the lab's VLANd knows them.
    #[serde(default)]
    pub switch_ports: Vec<SwitchPort>,
    /// What is wrong with it, on purpose.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

fn one() -> usize {
    1
}

/// What becomes of a board's serial ports, as the worker has them, when its power goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum PortPower {
    /// They are a serial adapter's, which has power of its own: who has one open keeps it, and
    /// hears nothing.
    #[default]
    #[serde(rename = "outlives power")]
    Outlives,
    /// They are the board's own, as a USB gadget's are: connections end, and there are none
    /// until the power is back.
    #[serde(rename = "vanishes with power")]
    Vanishes,
}

/// Where RAM lies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryMap {
    /// First address.
    pub base: u64,
    /// Size in MiB.
    pub mib: u64,
}

impl Default for MemoryMap {
    fn default() -> Self {
        // Any 64-bit address: boards that do not say have no map to be wrong about.
        Self { base: 0, mib: u64::MAX >> 20 }
    }
}

/// How the kernel's log looks on this board.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelLog {
    /// Lines of this board's own, after those that every kernel prints.
    pub lines: Vec<String>,
}

/// A board without its firmware's settings; the fields are those of [`BoardFile`].
#[derive(Clone, Debug)]
pub struct Board {
    /// Name of the board, as LAVA's device dictionary says it (`ghost power on NAME`).
    pub name: String,
    pub model: String,
    pub memory: MemoryMap,
    pub uarts: usize,
    pub beside: Vec<Controller>,
    pub kernel: KernelLog,
    pub typing_ms: u64,
    pub port: PortPower,
    pub peripherals: Vec<Peripheral>,
    pub cable: Cable,
    pub battery: bool,
    pub headless: bool,
    pub mcc: Option<Mcc>,
    pub switch_ports: Vec<SwitchPort>,
    pub faults: Vec<Fault>,
}

/// Why a file does not describe a board.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// Not YAML, or not the schema; the text has line and column.
    #[error("{0}")]
    Schema(#[from] serde_yaml::Error),
    /// The key `firmware.kind` names no firmware.
    #[error("firmware.kind: no firmware is called {found:?}; there are {known}")]
    UnknownFirmware {
        /// What the file says.
        found: String,
        /// The names there are.
        known: String,
    },
    /// There is no serial port for what is on one.
    #[error(
        "beside: there are {beside} controllers, and {uarts} serial ports (`uarts`), of which the first is the boot loader's"
    )]
    Beside { beside: usize, uarts: usize },
    /// The firmware's settings contradict each other.
    #[error("firmware: {0}")]
    Firmware(String),
}

/// Reads `text` with the settings type of a firmware.
///
/// # Errors
/// [`BoardError::Schema`], with line and column.
pub fn parse<F: DeserializeOwned>(name: &str, text: &str) -> Result<(Board, F), BoardError> {
    let file: BoardFile<F> = serde_yaml::from_str(text)?;
    let BoardFile {
        model,
        firmware,
        memory,
        uarts,
        beside,
        kernel,
        typing_ms,
        port,
        peripherals,
        cable,
        battery,
        headless,
        mcc,
        switch_ports,
        faults,
    } = file;
    if beside.len() >= uarts {
        return Err(BoardError::Beside { beside: beside.len(), uarts });
    }
    let name = name.to_owned();
    let board = Board {
        name,
        model,
        memory,
        uarts,
        beside,
        kernel,
        typing_ms,
        port,
        peripherals,
        cable,
        battery,
        headless,
        mcc,
        switch_ports,
        faults,
    };
    Ok((board, firmware))
}

fn at_least_one<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        count @ 1..=16 => Ok(count),
        count => Err(serde::de::Error::custom(format!("uarts is {count}, a board has 1 to 16"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::PortPower;
    use crate::firmware::{KINDS, load};

    /// Pieces of board files, one a line.
    fn lines() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "(model|memory|uarts|kernel|userland|firmware): ?.{0,12}",
            "  ?(kind|base|mib|lines|banner|steps|prompt|user|boot|arch): ?.{0,12}",
            "- ?(print|expect|fetch|key|sleep|line): ?.{0,12}",
            ".{0,20}",
        ];
        prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
    }

    #[test]
    fn a_port_outlives_power_unless_its_board_says_otherwise() {
        let port = |line: &str| {
            let text = format!("model: x\nfirmware: {{kind: minimal}}\n{line}\n");
            super::parse::<serde_yaml::Value>("b", &text).map(|(board, _)| board.port)
        };
        assert_eq!(port("").unwrap(), PortPower::Outlives);
        assert_eq!(port("port: outlives power").unwrap(), PortPower::Outlives);
        assert_eq!(port("port: vanishes with power").unwrap(), PortPower::Vanishes);
        let error = port("port: vanishes").unwrap_err().to_string();
        assert!(error.contains("`outlives power` or `vanishes with power`"), "{error}");
    }

    #[test]
    fn a_controller_has_a_serial_port_of_its_own() {
        let parse = |uarts: usize| {
            let beside = "[{prompt: '$ ', otherwise: ''}]";
            let text = format!("model: x\nuarts: {uarts}\nbeside: {beside}\nfirmware: {{kind: minimal}}\n");
            super::parse::<serde_yaml::Value>("b", &text).map(|(board, _)| board.beside.len())
        };
        assert_eq!(parse(2).unwrap(), 1);
        let error = parse(1).unwrap_err().to_string();
        assert!(error.contains("1 controllers, and 1 serial ports"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_board_or_an_error(text in ".*") {
            let _ = load("b", &text).map_err(|error| error.to_string());
        }

        #[test]
        fn any_settings_of_any_firmware_are_a_board_or_an_error(
            kind in prop::sample::select(KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>()),
            rest in lines(),
        ) {
            let text = format!("model: x\nfirmware:\n  kind: {kind}\n{rest}\n");
            let _ = load("b", &text).map_err(|error| error.to_string());
        }

        #[test]
        fn a_board_has_as_many_serial_ports_as_its_file_says_within_reason(uarts in any::<u64>(), few in 0u64..20) {
            for uarts in [uarts, few] {
                let text = format!("model: x\nuarts: {uarts}\nfirmware: {{kind: minimal}}\n");
                match super::parse::<serde_yaml::Value>("b", &text) {
                    Ok((board, _)) => prop_assert!(board.uarts as u64 == uarts && (1..=16).contains(&uarts)),
                    Err(_) => prop_assert!(!(1..=16).contains(&uarts)),
                }
            }
        }
    }
}
