//! meta-lava: tests LAVA end to end, without a board.

use std::process::ExitCode;

mod cli;
mod commands;
mod docker;
mod error;
mod event;
mod evidence;
mod exit_code;
mod filter;
mod lava;
mod root;
mod scenario;
mod secret;
mod snapshot;

fn main() -> ExitCode {
    // In a worker the same executable is the ghost, under that name or a tool's.
    if let Some(code) = meta_lava_ghost::cli::main_if_called_as_tool() {
        return code;
    }
    cli::main()
}
