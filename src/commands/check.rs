//! `meta-lava check`: judge all that can be judged without Docker.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`check` is not written yet".into()))
}
