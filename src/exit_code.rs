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
    /// Interrupted.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
