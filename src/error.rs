//! The two kinds of error: the user's to fix, and the infrastructure's.

use crate::exit_code::Exit;

/// Why a command could not do its work. Messages are lowercase and read after
/// "error: "; they say what was attempted, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Usage or configuration: the user can fix it.
    #[error("{0}")]
    Usage(String),
    /// A filter matched nothing.
    #[error("{0}")]
    NoMatch(String),
    /// Docker, an image, the server.
    #[error("{0}")]
    Infrastructure(String),
    /// What is in an image is broken by itself: a step of its build failed, or the LAVA in it did not
    /// start, on an engine that works.
    #[error("{0}")]
    Broken(String),
    /// The same of the commit of LAVA's that is tested: `git bisect` skips it.
    #[error("{0}")]
    BrokenCommit(String),
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
            Self::Infrastructure(_) | Self::Broken(_) => Exit::Infrastructure,
            Self::BrokenCommit(_) => Exit::BrokenCommit,
            Self::LeftBehind(_) => Exit::LeftBehind,
            Self::Interrupted => Exit::Interrupted,
        }
    }

    /// What it says without the log that follows: for each of the many scenarios
    /// that end by the one error, which itself is told once and in full.
    #[must_use]
    pub fn brief(&self) -> String {
        let text = self.to_string();
        let first = text.lines().next().unwrap_or_default();
        match first.strip_suffix(':') {
            Some(head) => head.rsplit_once("; the ").map_or(head, |(head, _)| head).to_owned(),
            None => first.to_owned(),
        }
    }
}

/// Result of a command or a part of one.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with its causes.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_brief_an_error_is_told_without_the_log_that_follows() {
        let brief = |text: &str| Error::Infrastructure(text.into()).brief();
        assert_eq!(brief("no engine"), "no engine");
        assert_eq!(brief("it ended with code 1; the end of its log:\nx\ny"), "it ended with code 1");
        assert_eq!(brief("could not start: it ended:\nx"), "could not start: it ended");
    }
}
