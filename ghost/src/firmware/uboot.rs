//! stub
use super::{Firmware, Kind, Next};
use crate::machine::Machine;
use async_trait::async_trait;
use serde::Deserialize;

/// Settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uboot {
    #[allow(dead_code)]
    kind: String,
}

/// U-Boot.
pub const KIND: Kind = Kind {
    name: "u-boot",
    about: "U-Boot",
    load: |name, text| {
        let (board, uboot) = crate::board::parse::<Uboot>(name, text)?;
        Ok((board, Box::new(uboot)))
    },
};

#[async_trait]
impl Firmware for Uboot {
    async fn run(&self, _machine: &mut Machine) -> Next {
        Next::Hang
    }
}
