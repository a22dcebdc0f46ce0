//! The two kinds of error: the user's to mend, and the infrastructure's.

use crate::exit_code::Exit;

/// Why a command could not do its work. Messages are lowercase and read after
/// "error: "; they say what was attempted, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Usage or configuration: the user can mend it.
    #[error("{0}")]
    Usage(String),
    /// A filter matched nothing.
    #[error("{0}")]
    NoMatch(String),
    /// Docker, an image, the server.
    #[error("{0}")]
    Infrastructure(String),
    /// Something was left behind.
    #[error("{0}")]
    LeftBehind(String),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NoMatch(_) => Exit::NoMatch,
            Self::Infrastructure(_) => Exit::Infrastructure,
            Self::LeftBehind(_) => Exit::LeftBehind,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// Result of a command or a part of one.
pub type Result<T, E = Error> = std::result::Result<T, E>;
