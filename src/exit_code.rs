//! The exit codes; other tools rely on them.

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All as expected.
    Ok = 0,
    /// Something differs.
    Differs = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Docker, an image, the server: not LAVA's behaviour.
    Infrastructure = 3,
    /// A filter matched nothing.
    NoMatch = 4,
    /// Something was left behind.
    LeftBehind = 5,
    /// The commit of LAVA's that was to be tested can't be built or started; what `git bisect` skips.
    BrokenCommit = 125,
    /// With `--bisect`: nothing was found out about the commit. `git bisect` ends at any code above 127.
    NoAnswer = 128,
    /// Interrupted.
    Interrupted = 130,
}

impl Exit {
    /// As `git bisect run` takes it: 0 is good, 1 bad, 125 to be skipped, and all that says nothing of
    /// the commit ends the bisection. Else a wrong option, or an engine that is gone, would make a commit bad.
    #[must_use]
    pub fn for_bisect(self) -> Self {
        match self {
            Self::Ok | Self::Differs | Self::BrokenCommit | Self::Interrupted => self,
            Self::Usage | Self::Infrastructure | Self::NoMatch | Self::LeftBehind | Self::NoAnswer => {
                Self::NoAnswer
            }
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bisection_goes_on_only_with_what_says_something_of_the_commit() {
        let code = |exit: Exit| exit.for_bisect() as u8;
        assert_eq!([Exit::Ok, Exit::Differs, Exit::BrokenCommit].map(code), [0, 1, 125]);
        // `git bisect run` takes 1 to 127 for bad, but for 125, and ends at 128 and above.
        for other in [
            Exit::Usage,
            Exit::Infrastructure,
            Exit::NoMatch,
            Exit::LeftBehind,
            Exit::NoAnswer,
            Exit::Interrupted,
        ] {
            assert!(code(other) >= 128, "{other:?}");
        }
    }
}
