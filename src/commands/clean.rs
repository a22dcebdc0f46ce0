//! `meta-lava clean`: remove what any run left.

use crate::error::{Error, Result};
use crate::exit_code::Exit;

/// Options of `clean`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    Err(Error::Usage("`clean` is not written yet".into()))
}
