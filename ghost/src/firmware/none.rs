//! No board at all: LAVA's device is something else on its worker, such as a container.

use async_trait::async_trait;
use serde::Deserialize;

use super::{Firmware, FirmwareKind, Next};
use crate::machine::Machine;

pub const KIND: FirmwareKind = FirmwareKind {
    name: "none",
    about: "no board at all: LAVA's device is something else on its worker",
    load: |name, text| {
        let (board, none) = crate::board::parse::<None>(name, text)?;
        Ok((board, Box::new(none)))
    },
};

/// Settings of no board, in a board's file under `firmware`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct None {
    #[serde(rename = "kind")]
    _kind: String,
}

#[async_trait]
impl Firmware for None {
    fn needs_a_listener(&self, _board: &str) -> bool {
        false
    }

    async fn run(&self, machine: &mut Machine) -> Next {
        machine.ledger.violation("no-board", "something was switched on that is no board");
        Next::Hang
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;

    #[tokio::test]
    async fn who_switches_it_on_has_taken_it_for_a_board() {
        let mut bench = Bench::start("\nmodel: A container\nfirmware:\n  kind: none\n").await;
        assert!(matches!(bench.next().await, super::Next::Hang));
        assert_eq!(bench.violations(), ["no-board"]);
    }
}
