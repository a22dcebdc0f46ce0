//! `meta-lava run`: run the matrix and judge it.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`run` is not written yet".into()))
}
