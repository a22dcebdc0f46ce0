//! `meta-lava doctor`: is this machine ready.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`doctor` is not written yet".into()))
}
