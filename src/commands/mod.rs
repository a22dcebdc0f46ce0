//! The commands, a file each: its options, and what it does with them.

pub mod accept;
pub mod bench;
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
pub mod self_test;
pub mod show;
pub mod up;

use crate::error::Result;
pub(crate) use crate::print::out as print;
use crate::root::root;
use crate::scenario::Matrix;

/// All scenarios.
pub(crate) fn matrix() -> Result<Matrix> {
    Matrix::load(&root()?)
}
