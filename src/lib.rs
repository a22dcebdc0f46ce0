//! meta-lava: tests LAVA end to end, without a board. The program is `main.rs`; all
//! of it is here, so that benchmarks and fuzz targets reach what they measure.

use std::process::ExitCode;

mod activity;
mod base_image;
mod bench;
mod cli;
mod collector;
mod commands;
mod compose;
mod docker;
mod endpoint;
mod error;
mod event;
mod evidence;
mod exit_code;
mod filter;
#[doc(hidden)]
pub mod fuzzing;
mod images;
mod interrupt;
mod jobs;
mod lava;
mod normalise;
mod personality;
mod print;
mod report;
mod root;
mod runner;
mod sabotage;
mod scenario;
mod secret;
mod server_kind;
mod session;
mod snapshot;
mod stack;
mod sweep;
mod timeline;
mod verdict;

/// What the program does: the orchestrator, or whatever else it was called as.
#[must_use]
pub fn main() -> ExitCode {
    // In a worker the same executable is the ghost, under that name or a tool's.
    if let Some(code) = personality::other_than_meta_lava() {
        return code;
    }
    cli::main()
}
