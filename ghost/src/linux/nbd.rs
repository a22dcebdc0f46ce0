//! A root on a network block device.
//!
//! A kernel can't mount one by itself: a ramdisk's script does, with `nbd-client`, before it goes on with the root that is there.
//! There is no kernel here that a client could give a device to, so what such a ramdisk does is done for it, in the words of
//! the programs in it (`nbd-client` 3.24, busybox's `mount`) and of the kernel's file system.

use meta_lava_formats::ext;

use super::{FAILED, Root, System, blocking, root};
use crate::net::FetchError;

/// The program that makes a ramdisk one that mounts such a root.
pub(super) const CLIENT: &str = "/usr/sbin/nbd-client";

/// What the client is told to make.
const DEVICE: &str = "/dev/nbd0";

impl System<'_> {
    /// The root on the export of `server`, or what the kernel panics with once the script has ended.
    pub(super) async fn nbd_root(&mut self, server: &str) -> Result<Root, String> {
        self.flush().await;
        let failed = || Err(format!("Attempted to kill init! exitcode=0x{FAILED:08x}"));
        let bytes = match self.machine.net.nbd(server, DEVICE).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let says = match error {
                    FetchError::Bad(why) => format!("Error: Failed/1: {why}"),
                    error => format!("Error: Socket failed: {error}"),
                };
                self.machine.console().print(&format!("{says}\nExiting.\n")).await;
                return failed();
            }
        };
        let (blocks, mib) = (bytes.len() / 512, bytes.len() >> 20);
        self.machine.console().print(&format!("Negotiation: ..size = {mib}MB\nConnected {DEVICE}\n")).await;
        self.log.line(&format!("nbd0: detected capacity change from 0 to {blocks}"));
        let tree = blocking(move || match ext::is_ext(&bytes) {
            true => ext::read(bytes, root::UNPACKED_LIMIT).map_err(|error| error.to_string()),
            false => Err("no superblock".to_owned()),
        });
        match tree.await {
            Some(Ok(tree)) => {
                self.mounts_ext2("nbd0");
                let tree = self.note("nbdroot", String::new(), tree).await;
                Ok(Root { tree, inits: self.inits(None) })
            }
            why => {
                if let Some(Err(why)) = why {
                    self.machine.ledger.violation("no-file-system", why);
                }
                self.flush().await;
                let says = format!("mount: mounting {DEVICE} on /sysroot failed: Invalid argument\n");
                self.machine.console().print(&says).await;
                failed()
            }
        }
    }
}
