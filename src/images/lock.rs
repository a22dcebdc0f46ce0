//! One build at a time.

use std::path::PathBuf;
use std::time::Duration;

use super::progress;
use crate::error::{Error, Result};
use crate::event::EventSender;

/// Only one run of a user builds at a time. The kernel lets go of it with the process.
pub(super) struct Lock(#[expect(dead_code, reason = "it is held")] std::fs::File);

impl Lock {
    /// Waits for its turn.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the lock's file can't be made.
    pub async fn take(events: &EventSender) -> Result<Self> {
        let folder = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|folder| folder.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let path = folder.join(format!("meta-lava-images-{}.lock", nix::unistd::geteuid()));
        let failed = |error: std::io::Error| {
            Error::Infrastructure(format!("could not lock {}: {error}", path.display()))
        };
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        // A lock has no readiness to wait for but a thread that blocks, which
        // an interrupt could not end.
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        let mut told = false;
        loop {
            ticks.tick().await;
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(std::fs::TryLockError::WouldBlock) if told => {}
                Err(std::fs::TryLockError::WouldBlock) => {
                    told = true;
                    progress(events, "waiting for another run that is building images".into());
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}
