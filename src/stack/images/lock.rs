//! One build at a time.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::progress;
use crate::error::{Error, Result};
use crate::event::EventSender;

/// The pause between two attempts, where the wait for the holder ends at once.
const AGAIN: Duration = Duration::from_millis(200);

/// Only one run of a user builds at a time: who listens on a name in the abstract namespace
/// (unix(7)). It is no file, so nothing of it is left, and the kernel lets go of it with the
/// process. Nobody is ever accepted: who waits is cut off when the holder is done.
pub(super) struct Lock(#[expect(dead_code, reason = "it is held")] UnixListener);

impl Lock {
    /// Waits for its turn.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when no such name can be had.
    pub async fn take(events: &EventSender) -> Result<Self> {
        Self::named(&format!("meta-lava-images-{}", nix::unistd::geteuid()), events).await
    }

    async fn named(name: &str, events: &EventSender) -> Result<Self> {
        let failed = |error: std::io::Error| Error::failed("lock the images", error);
        let address = SocketAddr::from_abstract_name(name).map_err(failed)?;
        let mut ticks = tokio::time::interval(AGAIN);
        let mut told = false;
        loop {
            ticks.tick().await;
            match UnixListener::bind_addr(&address) {
                Ok(listener) => return Ok(Self(listener)),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(failed(error)),
            }
            if !told {
                told = true;
                progress(events, "waiting for another run that is building images".into());
            }
            // It may have ended just now, or have too many who wait: the next tick tells.
            if let Ok(stream) = UnixStream::connect_addr(&address)
                && stream.set_nonblocking(true).is_ok()
                && let Ok(mut stream) = tokio::net::UnixStream::from_std(stream)
            {
                let _ = stream.read(&mut [0]).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_one_waits_until_the_holder_is_done_and_nothing_is_left() {
        let name = format!("meta-lava-test-{}", std::process::id());
        let (events, mut told) = tokio::sync::mpsc::unbounded_channel();
        let first = Lock::named(&name, &events).await.unwrap();
        let second = tokio::spawn({
            let (name, events) = (name.clone(), events.clone());
            async move { Lock::named(&name, &events).await.map(drop) }
        });
        // It has said that it waits, and goes on waiting.
        told.recv().await.unwrap();
        assert!(!second.is_finished());
        drop(first);
        tokio::time::timeout(Duration::from_secs(30), second).await.unwrap().unwrap().unwrap();
        Lock::named(&name, &events).await.unwrap();
    }
}
