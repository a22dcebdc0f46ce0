//! Tools on a worker's PATH that are the ghost under another name.
//!
//! To add one, add its file and its line in [`TOOLS`]: what the worker's image has on its PATH
//! comes from there. A tool takes its arguments as the real one does, finds its board by what is
//! plugged into the worker ([`crate::peripheral`]), and leaves the rest to the firmware that runs.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::control::{self, Request};

pub mod adb;
mod argparse;
pub mod bcu;
pub(crate) mod caller;
pub mod dfu_util;
pub mod docker;
pub mod fastboot;
pub mod fvp;
pub(crate) mod getopt;
pub mod jlink;
pub mod mount;
pub mod openocd;
pub mod pyocd;
pub mod qdl;
pub mod qemu;
pub mod rclone;
mod relay;
pub(crate) use relay::standard;
pub mod schroot;
#[cfg(test)]
mod testing;
pub mod udevadm;
mod usb;
pub mod uuu;

/// Where tools find the control socket, if not at the usual place.
const SOCKET_VARIABLE: &str = "GHOST_SOCKET";

/// A tool that a ghost plays.
pub struct Tool {
    /// What it is called by.
    pub names: &'static [&'static str],
    /// Runs it, and returns its exit code; an error is one line of the ghost's own for stderr.
    pub run: fn(Called) -> Result<u8, String>,
}

/// A tool that was called.
pub struct Called<'a> {
    /// What it was called by.
    pub name: &'a str,
    /// Its arguments, without the name.
    pub args: &'a [String],
    /// The daemon's control socket.
    pub socket: &'a Path,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// The exit code that a fault of the board's gives this call: it stands, whatever the tool returns.
    pub fault: &'a Cell<Option<u8>>,
}

impl Called<'_> {
    /// Asks the daemon for something that notes this call. Where a fault of the board's ends the call, the
    /// error is what that says.
    fn note<T: DeserializeOwned>(&self, request: &Request) -> io::Result<T> {
        control::get(self.socket, request).map_err(|error| {
            let Some(fault) = control::fault(&error) else { return error };
            self.fault.set(Some(fault.exit));
            io::Error::other(fault.says.trim_end().to_owned())
        })
    }
}

impl Tool {
    /// Runs it as `name` with `args` in this process.
    ///
    /// # Errors
    /// A line for stderr.
    pub fn call(&self, name: &str, args: &[String]) -> Result<u8, String> {
        // Not held back: what it said before it is killed stands in LAVA's log.
        let (mut out, mut err) = (io::stdout(), io::stderr());
        let socket = socket();
        let done = self.call_with(name, args, &socket, &mut out, &mut err);
        let _ = out.flush();
        done
    }

    /// The same for a daemon on `socket`, with `out` and `err` for what it prints.
    fn call_with(
        &self,
        name: &str,
        args: &[String],
        socket: &Path,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<u8, String> {
        let fault = Cell::new(None);
        let done = (self.run)(Called { name, args, socket, out, err: &mut *err, fault: &fault });
        let Some(code) = fault.get() else { return done };
        if let Err(says) = done {
            let _ = writeln!(err, "{says}");
        }
        Ok(code)
    }
}

/// All the tools there are.
pub const TOOLS: &[Tool] = &[
    adb::TOOL,
    bcu::TOOL,
    dfu_util::TOOL,
    docker::TOOL,
    fastboot::TOOL,
    fvp::TOOL,
    jlink::TOOL,
    mount::TOOL,
    openocd::TOOL,
    pyocd::TOOL,
    qdl::TOOL,
    qemu::TOOL,
    rclone::TOOL,
    schroot::TOOL,
    udevadm::TOOL,
    uuu::TOOL,
];

/// The tool that plays `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.names.contains(&name))
}

/// What the system says of an `error`, without Rust's own `(os error 2)`.
fn system_says(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The names of all tools.
pub fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().flat_map(|tool| tool.names.iter().copied())
}

/// What stands on a worker's PATH for the tool `name`: a program that is the ghost. It is no link,
/// since LAVA follows links before it runs a tool.
#[must_use]
pub fn program(name: &str) -> String {
    format!("#!/bin/sh\nexec ghost tool {name} \"$@\"\n")
}

/// The control socket that tools use.
#[must_use]
pub fn socket() -> PathBuf {
    std::env::var_os(SOCKET_VARIABLE).map_or_else(|| control::SOCKET.into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_found_by_its_whole_name_and_no_two_share_one() {
        let mut all: Vec<_> = names().collect();
        assert!(all.iter().all(|name| find(name).is_some()));
        for no_tool in ["fast", "fastboot2", "qemu-system-", "qemu-system-arm64", ""] {
            assert!(find(no_tool).is_none(), "{no_tool}");
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), names().count());
    }
}
