//! The command `fdt`: which device tree is worked on, its size, and overlays (`cmd/fdt.c`, `boot/fdt_support.c`, libfdt).

use meta_lava_formats::fdt::{self, overlay::Refused};

use super::{Shell as _, UbootShell};
use crate::firmware::Flow;
use crate::firmware::shell::words::hex;

/// What `fdt resize` makes the end of a device tree (`fdt_shrink_to_minimum`).
const PAGE: u64 = 0x1000;

/// Room for two reserved regions of memory: that of the tree, and that of a ramdisk.
const RESERVED: u64 = 2 * 16;

/// What is in the first bytes of a device tree that is not to be used any more (`fdt_set_magic(…, ~0)`).
const SPOILT: [u8; 4] = [0xff; 4];

impl UbootShell<'_> {
    pub(super) async fn fdt(&mut self, args: &[&str]) -> Flow<bool> {
        if let ["addr", address, ..] = args {
            let Some(at) = hex(address).filter(|at| self.tree(*at).is_some()) else {
                self.print("libfdt fdt_check_header(): FDT_ERR_BADMAGIC\n").await;
                return Ok(false);
            };
            self.env.insert("fdtaddr".into(), (*address).to_owned());
            self.working_tree = Some(at);
            return Ok(true);
        }
        let usage = format!("fdt {}", args.join(" "));
        let ["resize" | "apply" | "print" | "set" | "mknode" | "chosen", ..] = args else {
            return self.usage("fdt", usage).await;
        };
        let Some(at) = self.working_tree else {
            self.machine.ledger.violation("no-device-tree", usage);
            self.print(
                "No FDT memory address configured. Please configure\nthe FDT address via \"fdt addr <address>\" \
                 command.\nAborting!\n",
            )
            .await;
            return Ok(false);
        };
        match args {
            ["resize", more @ ..] => {
                let more = more.first().map_or(Some(0), |more| hex(more));
                match more {
                    Some(more) => self.resize(at, more).await,
                    None => self.usage("fdt", usage).await,
                }
            }
            ["apply", address] => match hex(address) {
                Some(from) => self.apply(at, from).await,
                None => self.usage("fdt", usage).await,
            },
            ["apply", ..] => self.usage("fdt", usage).await,
            _ => Ok(true),
        }
    }

    /// The device tree at an address, if one is there.
    fn tree(&self, at: u64) -> Option<fdt::Fdt> {
        fdt::parse(&fdt::without_missing_room(&self.machine.memory.from(at))?).ok()
    }

    /// Tells the tree that it has `more` bytes to spare, and what is up to the end of a page then; nothing is moved for that.
    async fn resize(&mut self, at: u64, more: u64) -> Flow<bool> {
        let Some(used) =
            fdt::without_missing_room(&self.machine.memory.from(at)).map(|tree| tree.len() as u64)
        else {
            self.print("libfdt fdt_check_header(): FDT_ERR_BADMAGIC\n").await;
            return Ok(false);
        };
        let end = at.saturating_add(used).saturating_add(RESERVED).saturating_add(more);
        let size = end.next_multiple_of(PAGE) - at;
        let Some(size) = u32::try_from(size).ok().filter(|_| end <= self.machine.memory.end()) else {
            self.machine.ledger.violation("not-ram", format!("a device tree of {size} bytes at {at:#x}"));
            return Ok(false);
        };
        let _ = self.machine.memory.write(at + 4, size.to_be_bytes().to_vec());
        Ok(true)
    }

    /// Applies the overlay at `from`, which is spoilt by that; so is the tree where it fails (`fdt_overlay_apply_verbose`).
    async fn apply(&mut self, at: u64, from: u64) -> Flow<bool> {
        let Some(overlay) = self.tree(from) else {
            self.machine.ledger.violation("no-overlay", format!("what lies at {from:#x} is no device tree"));
            self.print("libfdt fdt_check_header(): FDT_ERR_BADMAGIC\n").await;
            return Ok(false);
        };
        let (mut name, mut has_symbols, mut applied) = ("FDT_ERR_BADMAGIC".to_owned(), false, None);
        if let Some(mut tree) = self.tree(at) {
            has_symbols = tree.node("/__symbols__").is_some();
            let room = fdt::total_size(&self.machine.memory.from(at)).unwrap_or_default();
            let done = fdt::overlay::apply(&mut tree, &overlay).and_then(|()| {
                tree.to_bytes().ok().filter(|bytes| bytes.len() <= room).ok_or(Refused::NoSpace)
            });
            match done {
                Ok(mut bytes) => {
                    let room = u32::try_from(room).unwrap_or(u32::MAX);
                    if let Some(size) = bytes.get_mut(4..8) {
                        size.copy_from_slice(&room.to_be_bytes());
                    }
                    applied = Some(bytes);
                }
                Err(refused) => name = refused.to_string(),
            }
        }
        let ok = applied.is_some();
        // They lie where something lay already.
        let _ = self.machine.memory.write(from, SPOILT.to_vec());
        let _ = self.machine.memory.write(at, applied.unwrap_or_else(|| SPOILT.to_vec()));
        if !ok {
            self.machine.ledger.violation("overlay-refused", format!("the one at {from:#x}: {name}"));
            self.print(format!("failed on fdt_overlay_apply(): {name}\n")).await;
            if !has_symbols {
                self.print(
                    "base fdt does did not have a /__symbols__ node\nmake sure you've compiled with -@\n",
                )
                .await;
            }
        }
        Ok(ok)
    }
}
