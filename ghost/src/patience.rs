//! How long a ghost waits for those who are kept waiting themselves.

use std::time::Duration;

/// How long a ghost waits for LAVA, or for LAVA's `telnet`, to do what it is about to do: to
/// press a key, to end a connection. On a machine where fifty jobs share two processors that
/// may take them seconds. A run that passes never waits for all of it.
///
/// A countdown stands for as long before it counts its own seconds
/// ([`crate::machine::Machine::countdown`]): what a real board measures is how fast LAVA is,
/// and what a busy machine would measure is how busy it is.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Longest wait for a listener before a board says anything, and for a board that a tool has sent on its
/// way.
pub const SLOW_START: Duration = Duration::from_secs(10);

/// How long nothing is accepted after that failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Tells that a connection, `whose`, could not be accepted, and waits a little: most likely
/// the daemon is out of file descriptors. Only others can close theirs, and until then
/// it would be told so again at once.
pub async fn after_failed_accept(whose: &str, error: &std::io::Error) {
    tracing::warn!(%error, "could not accept {whose} connection");
    tokio::time::sleep(ACCEPT_AGAIN).await;
}
