//! `meta-lava list`: list the scenarios.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`list` is not written yet".into()))
}
