//! No boot loader and no serial port: a machine that is always on, with an operating system on it that LAVA reaches by SSH.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::Deserialize;

use super::{Firmware, FirmwareKind, Next};
use crate::machine::Machine;
use crate::ssh::Host;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "ssh",
    about: "a machine that is always on, and reached by SSH",
    load: |name, text| {
        let (board, ssh) = crate::board::parse::<Ssh>(name, text)?;
        Ok((board, Box::new(ssh)))
    },
};

/// Settings of such a machine, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    #[serde(rename = "kind")]
    _kind: String,
    /// What is installed on it: an image of the world's, with OpenSSH's server in it.
    image: String,
    /// Public keys of those who may log in as root.
    #[serde(default)]
    authorized: Vec<String>,
    /// Files on the worker with more of them.
    #[serde(default)]
    authorized_files: Vec<PathBuf>,
}

#[async_trait]
impl Firmware for Ssh {
    fn needs_a_listener(&self, _board: &str) -> bool {
        false
    }

    fn host(&self) -> Option<Host> {
        Some(Host {
            image: self.image.clone(),
            authorized: self.authorized.clone(),
            authorized_files: self.authorized_files.clone(),
        })
    }

    async fn run(&self, machine: &mut Machine) -> Next {
        machine.ledger.violation("no-power", "something was switched that nobody can switch off");
        Next::Hang
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;

    const BOARD: &str = "\nmodel: A host\nfirmware: {kind: ssh, image: registry.example.org/lab/host}\n";

    #[tokio::test]
    async fn who_switches_it_has_taken_it_for_a_board_with_a_relay() {
        let mut bench = Bench::start(BOARD).await;
        assert!(matches!(bench.next().await, super::Next::Hang));
        assert_eq!(bench.violations(), ["no-power"]);
    }

    #[test]
    fn nobody_may_log_in_unless_it_says_so() {
        let (_, firmware) = super::super::load("b", BOARD).unwrap();
        let host = firmware.host().unwrap();
        assert!(host.authorized.is_empty() && host.authorized_files.is_empty());
    }
}
