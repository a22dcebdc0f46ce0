//! `meta-lava down`: take it down.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `down`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`down` is not written yet".into()))
}
