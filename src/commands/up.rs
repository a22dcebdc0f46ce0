//! `meta-lava up`: start a stack to poke at.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `up`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`up` is not written yet".into()))
}
