//! `meta-lava show`: print one scenario, rendered.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `show`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`show` is not written yet".into()))
}
