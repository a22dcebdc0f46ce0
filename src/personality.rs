//! Who the executable is, by the name it was called: in containers it is
//! `ghost`, or a tool that a ghost plays.

use std::path::Path;
use std::process::ExitCode;

/// When the executable was not called as `meta-lava`: does what that other name
/// does, and returns its exit code.
pub fn other_than_meta_lava() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let name = Path::new(args.first()?).file_name()?.to_str()?.to_owned();
    meta_lava_ghost::cli::called_as(&name, &args)
}
