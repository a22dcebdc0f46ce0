//! Printing that never ends a run before its cleanup: `print!` and `eprint!` panic. A reader that
//! went away (`| head`, a terminal that was closed) has what it wanted; that a disk is full is
//! remembered, and told at the end.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::Error;

/// Why something could not be printed, of the first time.
static UNPRINTED: OnceLock<String> = OnceLock::new();

/// Prints to stdout.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    remember(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Takes in how printing to stdout ended, done here or elsewhere.
pub fn remember(printed: std::io::Result<()>) {
    if let Err(error) = printed
        && error.kind() != ErrorKind::BrokenPipe
    {
        // The first one is told.
        let _ = UNPRINTED.set(error.to_string());
    }
}

/// What of stdout could not be printed until now.
///
/// # Errors
/// [`Error::Infrastructure`].
pub fn check() -> Result<(), Error> {
    match UNPRINTED.get() {
        Some(why) => Err(Error::failed("write to standard output", why)),
        None => Ok(()),
    }
}

/// Prints to stderr.
pub fn err(text: &str) {
    if cfg!(test) {
        // So that the tests' harness captures it.
        eprint!("{text}");
    } else {
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// `path` as it is shown to somebody who works in the current folder: relative to it,
/// where it is below it.
#[must_use]
pub fn path(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    match here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf)) {
        Some(below) if !below.as_os_str().is_empty() => below,
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_the_current_folder_is_shown_relative_to_it() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(path(&here.join("target/x")), Path::new("target/x"));
        assert_eq!(path(&here), here);
        assert_eq!(path(Path::new("/nowhere")), Path::new("/nowhere"));
    }
}
