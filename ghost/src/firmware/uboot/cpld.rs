//! The CPLD of NXP's LS1043ARDB, which chooses the bank of the NOR flash that the processor starts from.
//!
//! Command and texts are those of U-Boot's `board/freescale/ls1043ardb` (`cpld.c`, `checkboard`). Its register keeps the bank over a
//! reset, and loses it with the power. Starting from NAND or from a card is not played.

use serde::Deserialize;

use super::UbootShell;
use crate::firmware::{Flow, Next};
use crate::machine::{Machine, Reason};

/// Settings of the CPLD, in a board's file under `firmware.cpld`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpld {
    /// What it calls the board.
    board: String,
    /// First line of the U-Boot in the alternate bank; without it that bank is empty.
    alternate: Option<String>,
}

/// The alternate bank's number (`CPLD_BANK_SEL_ALTBANK` in `cpld.h`).
const ALTERNATE: u8 = 4;

impl Cpld {
    /// First line of the boot loader that is started, `usual` being that of the default bank; nothing where there is none.
    pub(super) fn banner(&self, machine: &Machine, usual: &str) -> Option<String> {
        match machine.reason {
            Some(Reason::AlternateBank) => self.alternate.clone(),
            _ => Some(usual.to_owned()),
        }
    }

    /// What it says of where it was started from (`checkboard`).
    pub(super) fn says(&self, machine: &Machine) -> String {
        let bank = if machine.reason == Some(Reason::AlternateBank) { ALTERNATE } else { 0 };
        format!("Board: {}, boot from vBank {bank}\n", self.board)
    }
}

impl UbootShell<'_> {
    /// `cpld reset [altbank]`: at once, and without a word. Whatever else than `altbank` is the default bank.
    pub(super) async fn cpld(&mut self, args: &[&str]) -> Flow<bool> {
        let reason = match args {
            ["reset", "altbank", ..] => Some(Reason::AlternateBank),
            ["reset", medium @ ("nand" | "sd"), ..] => {
                let why = format!("this ghost starts from no {medium}");
                self.machine.ledger.violation("no-such-medium", why);
                return Err(Next::Hang);
            }
            ["reset", ..] => None,
            _ => return self.usage("cpld", format!("cpld {}", args.join(" ")).trim_end().to_owned()).await,
        };
        self.machine.reason = reason;
        Err(Next::Reset)
    }
}

#[cfg(test)]
mod tests {
    use crate::firmware::Next;
    use crate::firmware::testing::Bench;
    use crate::machine::Reason;

    fn board(alternate: &str) -> String {
        format!(
            "
model: LS1043A RDB Board
firmware:
  kind: u-boot
  banner: U-Boot 2021.04
  arch: arm64
  boot: [booti]
  autoboot: {{message: ''}}
  cpld: {{board: LS1043ARDB{alternate}}}
"
        )
    }

    #[tokio::test]
    async fn the_other_bank_is_started_until_the_default_one_is_asked_for() {
        let mut bench = Bench::start(&board(", alternate: U-Boot 2020.04")).await;
        bench.expect("U-Boot 2021.04").await;
        bench.expect("Board: LS1043ARDB, boot from vBank 0").await;
        bench.expect("=> ").await;
        bench.send("cpld reset altbank\n").await;
        assert!(matches!(bench.next().await, Next::Reset));
        assert_eq!(bench.reason().await, Some(Reason::AlternateBank));
        bench.reset().await;
        bench.expect("U-Boot 2020.04").await;
        bench.expect("Board: LS1043ARDB, boot from vBank 4").await;
        bench.expect("=> ").await;
        bench.send("cpld reset\n").await;
        assert!(matches!(bench.next().await, Next::Reset));
        assert_eq!(bench.reason().await, None);
    }

    #[tokio::test]
    async fn a_bank_without_a_boot_loader_starts_nothing_and_a_wrong_call_is_told_of() {
        let mut bench = Bench::start(&board("")).await;
        bench.expect("=> ").await;
        assert!(bench.command("cpld", "=> ").await.contains("cpld - wrong usage"));
        assert!(bench.command("cpld dump", "=> ").await.contains("cpld - wrong usage"));
        bench.send("cpld reset altbank\n").await;
        assert!(matches!(bench.next().await, Next::Reset));
        bench.reset().await;
        assert!(matches!(bench.next().await, Next::Hang));
    }
}
