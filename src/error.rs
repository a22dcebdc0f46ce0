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
    Infrastructure(Infrastructure),
    /// What is in an image is broken by itself: a step of its build failed, or the LAVA in it did not
    /// start, on an engine that works.
    #[error("{0}")]
    Broken(Infrastructure),
    /// The same of the commit of LAVA's that is tested: `git bisect` skips it.
    #[error("{0}")]
    BrokenCommit(Infrastructure),
    /// Something was left behind.
    #[error("{0}")]
    LeftBehind(String),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

/// What went wrong beneath LAVA: with Docker, an image, the server or this machine.
#[derive(Debug)]
pub struct Infrastructure {
    /// What could not be done, to be read after "could not". Empty where nothing in particular was attempted.
    attempted: String,
    /// Why, and what to do.
    found: String,
    /// The last lines that a program or its log had to say of it. Empty where there are none.
    said: String,
}

impl std::fmt::Display for Infrastructure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.brief())?;
        if self.said.is_empty() { Ok(()) } else { write!(f, "; the end of what it said:\n{}", self.said) }
    }
}

impl Infrastructure {
    /// One that no attempt is known of.
    #[must_use]
    pub fn found(found: impl std::fmt::Display) -> Self {
        Self { attempted: String::new(), found: found.to_string(), said: String::new() }
    }

    /// The same as what kept a greater attempt from its end.
    #[must_use]
    pub fn within(self, attempted: String) -> Self {
        Self { found: self.brief(), attempted, said: self.said }
    }

    fn brief(&self) -> String {
        if self.attempted.is_empty() {
            self.found.clone()
        } else {
            format!("could not {}: {}", self.attempted, self.found)
        }
    }

    /// The last lines that a program or its log had to say of it.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }
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

    /// Something beneath LAVA is not as it has to be.
    #[must_use]
    pub fn infrastructure(found: impl std::fmt::Display) -> Self {
        Self::failed("", found)
    }

    /// Something beneath LAVA could not be done: "could not `attempted`: `found`".
    #[must_use]
    pub fn failed(attempted: impl std::fmt::Display, found: impl std::fmt::Display) -> Self {
        let (attempted, found) = (attempted.to_string(), found.to_string());
        Self::Infrastructure(Infrastructure { attempted, found, said: String::new() })
    }

    /// The same with the last lines of a program or of its log. An error of the user's stays as it is.
    #[must_use]
    pub fn with_last_words(mut self, said: impl Into<String>) -> Self {
        if let Some(error) = self.beneath() {
            error.said = said.into();
        }
        self
    }

    /// The same with what to do about it. An error of the user's stays as it is.
    #[must_use]
    pub fn with_advice(mut self, advice: &str) -> Self {
        if let Some(error) = self.beneath() {
            error.found = format!("{}; {advice}", error.found);
        }
        self
    }

    /// The same as the fault of what is in an image, not of what runs it.
    #[must_use]
    pub fn of_what_is_inside(self) -> Self {
        match self {
            Self::Infrastructure(error) => Self::Broken(error),
            other => other,
        }
    }

    fn beneath(&mut self) -> Option<&mut Infrastructure> {
        match self {
            Self::Infrastructure(error) | Self::Broken(error) | Self::BrokenCommit(error) => Some(error),
            Self::Usage(_) | Self::NoMatch(_) | Self::LeftBehind(_) | Self::Interrupted => None,
        }
    }

    /// What it says without the last lines of a log: for each of the many scenarios
    /// that end by the one error, which itself is told once and in full.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Infrastructure(error) | Self::Broken(error) | Self::BrokenCommit(error) => error.brief(),
            other => other.to_string(),
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
    fn an_error_says_what_was_attempted_what_was_found_and_the_last_words() {
        let error = Error::failed("start it", "it ended with code 1").with_last_words("x\ny");
        assert_eq!(
            error.to_string(),
            "could not start it: it ended with code 1; the end of what it said:\nx\ny"
        );
        assert_eq!(Error::infrastructure("no engine").to_string(), "no engine");
    }

    #[test]
    fn in_brief_an_error_is_told_without_the_last_words() {
        let error = Error::failed("start it", "it ended: twice").with_last_words("x\ny");
        assert_eq!(error.brief(), "could not start it: it ended: twice");
        assert_eq!(Error::Usage("no such name\nsee `list`".into()).brief(), "no such name\nsee `list`");
    }
}
