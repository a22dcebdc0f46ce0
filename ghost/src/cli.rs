//! The command line inside a worker: `ghost daemon`, `ghost power on BOARD`, ...

use std::process::ExitCode;

/// When the executable was called as `ghost`, or under the name of a tool that a
/// ghost plays: does that, and returns its exit code.
#[must_use]
pub fn main_if_called_as_tool() -> Option<ExitCode> {
    None
}
