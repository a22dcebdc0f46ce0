//! The boot ROM of an i.MX processor: starts a boot loader from its card, or waits for one by USB.
//!
//! i.MX 8M Plus Applications Processor Reference Manual, 6.1: the image lies 32 KiB behind the begin of an SD
//! card; where there is none, or a switch says so, the ROM is a USB device that takes one (serial download).
//! The ROM itself says nothing.

use meta_lava_formats::imx;
use serde::Deserialize;

use crate::machine::Machine;
use crate::peripheral::{Answer, Mode};

/// Where on a card the image lies.
pub const OFFSET: usize = 0x8000;

/// Settings of a boot ROM, in a board's file under `firmware.rom`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rom {
    /// The MMC device that it starts a boot loader from.
    mmc: u32,
    /// What lies there before anybody writes.
    #[serde(default)]
    holds: Holds,
}

/// See [`Rom::holds`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Holds {
    #[default]
    BootLoader,
    Nothing,
}

impl Rom {
    /// The MMC device that it starts a boot loader from.
    #[must_use]
    pub fn device(self) -> u32 {
        self.mmc
    }

    /// What is in `device` before anybody writes: perhaps the boot loader that says `banner`.
    #[must_use]
    pub fn before_anybody_writes(self, device: u32, banner: &str) -> Vec<u8> {
        if device != self.mmc || self.holds == Holds::Nothing {
            return Vec::new();
        }
        let mut card = vec![0; OFFSET];
        card.extend(imx::write(0x0092_0000, banner, 0));
        card
    }

    /// The first line of the boot loader on a `card`; nothing where the ROM finds none.
    #[must_use]
    pub fn finds(card: &[u8]) -> Option<String> {
        let image = card.get(OFFSET..)?;
        imx::check(image).ok()?;
        imx::text(image)
    }

    /// Waits for a boot loader by USB, and returns its first line.
    pub async fn download(machine: &mut Machine) -> String {
        let mut gadget = machine.bus.enter(Mode::Recovery);
        loop {
            let call = gadget.next().await;
            let (Some(data), "boot") = (&call.data, call.command.as_str()) else {
                call.answer(Answer::fail("HID(W): LIBUSB_ERROR_PIPE"));
                continue;
            };
            machine.ledger.take(data.arrived("ram"));
            let image = imx::check(&data.bytes).map_err(|error| error.to_string());
            let banner = image.and_then(|size| {
                imx::text(&data.bytes[..size]).ok_or_else(|| "no boot loader that a ghost can run".to_owned())
            });
            match banner {
                Ok(banner) => {
                    machine.bus.loaded(false);
                    gadget.leave(call, Answer::okay(""));
                    return banner;
                }
                Err(why) => {
                    machine.ledger.violation("bad-image", why);
                    machine.bus.loaded(true);
                    call.answer(Answer::fail("HID(W): LIBUSB_ERROR_PIPE"));
                }
            }
        }
    }
}
