//! meta-lava: tests LAVA end to end, without a board.

use std::process::ExitCode;

mod cli;
mod collector;
mod commands;
mod docker;
mod error;
mod event;
mod evidence;
mod exit_code;
mod filter;
mod interrupt;
mod jobs;
mod lava;
mod personality;
mod root;
mod scenario;
mod secret;
mod snapshot;

fn main() -> ExitCode {
    // In a worker the same executable is the ghost, under that name or a tool's.
    if let Some(code) = personality::other_than_meta_lava() {
        return code;
    }
    cli::main()
}
