//! meta-lava: tests LAVA end to end, without a board. The program is `main.rs`; all
//! of it is here, so that benchmarks and fuzz targets reach what they measure.

use std::process::ExitCode;

mod bench;
mod cli;
mod commands;
mod compare;
mod coverage;
mod error;
mod event;
mod exit_code;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod interrupt;
mod jobs;
mod judge;
mod lava;
mod personality;
mod print;
mod programs;
mod report;
mod root;
mod run;
mod sabotage;
mod scenario;
mod secret;
mod stack;
mod text;

/// What the program does: the orchestrator, or whatever else it was called as.
#[must_use]
pub fn main() -> ExitCode {
    // In a worker the same executable is the ghost, under that name or a tool's.
    if let Some(code) = personality::other_than_meta_lava() {
        return code;
    }
    cli::main()
}
