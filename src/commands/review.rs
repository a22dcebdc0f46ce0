//! `meta-lava review`: go through pending snapshots.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `review`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`review` is not written yet".into()))
}
