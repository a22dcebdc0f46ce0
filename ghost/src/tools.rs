//! Tools on a worker's PATH that are the ghost under another name.
//!
//! To add one, add its file and its line in [`TOOLS`].

use std::path::PathBuf;
use std::process::ExitCode;

use crate::control;

pub mod qemu;

/// Where tools find the control socket, if not at the usual place.
const SOCKET_VARIABLE: &str = "GHOST_SOCKET";

/// A tool that a ghost plays.
pub struct Tool {
    /// How its names begin (`qemu-system-`).
    pub prefix: &'static str,
    /// Runs it: its name, its arguments without the name; an error is one line for stderr.
    pub run: fn(name: &str, args: Vec<String>) -> Result<ExitCode, String>,
}

/// All the tools there are.
pub const TOOLS: &[Tool] = &[qemu::TOOL];

/// The tool that plays `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| name.starts_with(tool.prefix))
}

/// The control socket that tools use.
#[must_use]
pub fn socket() -> PathBuf {
    std::env::var_os(SOCKET_VARIABLE).map_or_else(|| control::SOCKET.into(), PathBuf::from)
}
