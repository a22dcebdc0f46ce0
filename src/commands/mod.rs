//! The commands, a file each: its options, and what it does with them.

pub mod accept;
pub mod check;
pub mod clean;
pub mod completions;
pub mod doctor;
pub mod down;
pub mod list;
pub mod man;
pub mod merge;
pub mod rerun;
pub mod review;
pub mod run;
pub mod show;
pub mod up;

use std::io::Write;

use crate::error::Result;
use crate::root::root;
use crate::scenario::Matrix;

/// All scenarios.
pub(crate) fn matrix() -> Result<Matrix> {
    Matrix::load(&root()?)
}

/// Prints to stdout. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
