//! The commands, a file each: its options, and what it does with them.

pub mod accept;
pub mod check;
pub mod clean;
pub mod doctor;
pub mod down;
pub mod list;
pub mod review;
pub mod run;
pub mod show;
pub mod up;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::scenario::Matrix;

/// The root of the repository: the nearest folder upwards with a `jobs/` in it.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()
        .map_err(|error| Error::Usage(format!("could not find out the current folder: {error}")))?;
    here.ancestors().find(|folder| folder.join("jobs").is_dir()).map(Path::to_path_buf).ok_or_else(|| {
        Error::Usage(format!(
            "no folder `jobs` in {} or above it; run this in a clone of meta-lava",
            here.display()
        ))
    })
}

/// All scenarios.
pub(crate) fn matrix() -> Result<Matrix> {
    Matrix::load(&root()?)
}

/// Prints to stdout. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
