//! U-Boot's `fastboot`: `cmd/fastboot.c`, `drivers/fastboot/fb_command.c`, and NXP's `fb_fsl.c`, which
//! writes a boot loader to where the boot ROM looks for it.
//!
//! `UCmd:` and `ACmd:` are for NXP's tool `uuu`: they run a line of U-Boot's, the latter behind its answer.

use super::mmc::Cards;
use super::{Shell, UbootShell};
use crate::firmware::{Flow, Next, flash, imx};
use crate::peripheral::{Answer, Data, Mode};

/// Most bytes that it takes at once (`CONFIG_FASTBOOT_BUF_SIZE`).
const BUFFER: u64 = 0x2000_0000;

impl UbootShell<'_> {
    /// `fastboot <USB_controller>`: serves until `^C`, or until something is started.
    pub(super) async fn fastboot(&mut self, args: &[&str]) -> Flow<bool> {
        let ([_] | ["usb", _]) = args else {
            return self
                .usage("fastboot", format!("fastboot {}", args.join(" ")).trim_end().to_owned())
                .await;
        };
        let mut gadget = self.machine.bus.enter(Mode::Fastboot);
        let mut downloaded: Option<Data> = None;
        loop {
            let Some(call) = self.next_call(&mut gadget).await else { return Ok(true) };
            let (verb, argument) = call.command.split_once(':').unwrap_or((&call.command, ""));
            let answer = match (verb, argument) {
                ("getvar", name) => match self.fastboot_variable(name) {
                    Some(value) => Answer::okay(value),
                    None => Answer::fail("Variable not implemented"),
                },
                ("download", size) => {
                    downloaded = None;
                    match u64::from_str_radix(size, 16) {
                        Ok(0) => Answer::fail("Expected nonzero image size"),
                        Ok(size) if size <= BUFFER => {
                            downloaded.clone_from(&call.data);
                            Answer::okay("")
                        }
                        Ok(_) | Err(_) => Answer::fail(size),
                    }
                }
                ("flash", partition) => match downloaded.take() {
                    None => Answer::fail("no image downloaded"),
                    Some(data) => {
                        let flashed = self.flash_mmc(partition, &data).await;
                        if let Err(why) = flashed {
                            self.machine.ledger.violation("flash-refused", format!("{partition}: {why}"));
                        }
                        flashed.map_or_else(Answer::fail, |()| Answer::okay(""))
                    }
                },
                ("UCmd", line) => {
                    let line = line.to_owned();
                    match Box::pin(self.line(&line)).await {
                        Ok(true) => Answer::okay(""),
                        Ok(false) => Answer::fail(""),
                        Err(next) => {
                            // It never comes to its answer.
                            drop(gadget);
                            return Err(next);
                        }
                    }
                }
                ("ACmd", line) => {
                    let line = line.to_owned();
                    gadget.leave(call, Answer::okay(""));
                    return Box::pin(self.line(&line)).await;
                }
                ("reboot", "") => {
                    gadget.leave(call, Answer::okay(""));
                    return Err(Next::Reset);
                }
                ("continue", "") => {
                    gadget.leave(call, Answer::okay(""));
                    return Ok(true);
                }
                _ => {
                    self.machine.ledger.violation("unknown-command", call.command.as_str());
                    Answer::fail("unrecognized command")
                }
            };
            call.answer(answer);
        }
    }

    fn fastboot_variable(&self, name: &str) -> Option<String> {
        match name {
            "version" => Some("0.4".to_owned()),
            "max-download-size" | "downloadsize" => Some(format!("{BUFFER:#010x}")),
            "serialno" => {
                let attached = self.machine.bus.attached();
                attached.into_iter().find(|device| device.when == Mode::Fastboot).map(|device| device.serial)
            }
            _ => None,
        }
    }

    /// Writes what came into the MMC device that `mmcdev` names: `bootloader` to where the boot ROM looks,
    /// `all` from the first block on (`fb_fsl_partitions.c`).
    async fn flash_mmc(&self, partition: &str, data: &Data) -> Result<(), &'static str> {
        self.machine.ledger.take(data.arrived(partition));
        let offset = match partition {
            "bootloader" => imx::OFFSET,
            "all" => 0,
            _ => return Err("partition does not exist"),
        };
        if self.env.get("fastboot_dev").is_none_or(|kind| !kind.starts_with("mmc")) {
            return Err("no fastboot_dev");
        }
        let device = self.env.get("mmcdev").and_then(|device| device.parse().ok()).unwrap_or(u32::MAX);
        let cards = Cards::of(self.uboot, &self.machine.board.name);
        if cards.size(device).is_none() {
            return Err("invalid mmc device");
        }
        let bytes = data.bytes.clone();
        match flash::beside(move || cards.write(device, offset, &bytes)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("image too large for partition"),
            Err(_) => Err("flash write failure"),
        }
    }
}
