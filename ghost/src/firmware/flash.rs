//! What is flashed into boards: storage that outlives power.
//!
//! A part of a board's storage is a file, `FOLDER/BOARD/PART`. Whatever flashes a board
//! writes one, and a firmware that boots from storage reads it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where the storage of a worker's boards is, unless told otherwise.
pub const FOLDER: &str = "/var/lib/ghost/flash";

/// [`FOLDER`], as the default of a firmware's setting.
#[must_use]
pub fn folder() -> PathBuf {
    FOLDER.into()
}

/// Does `work` with the storage beside the boards, which one thread plays.
///
/// # Errors
/// Those of `work`, and when it panics.
pub async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}

fn path(folder: &Path, board: &str, part: &str) -> io::Result<PathBuf> {
    // Names, not paths: neither may lead out of the folder.
    for name in [board, part] {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !plain || name.trim_matches('.').is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is not a part's name"),
            ));
        }
    }
    Ok(folder.join(board).join(part))
}

/// Flashes `bytes`. A board that reads meanwhile finds the old part or the new one, whole.
///
/// # Errors
/// When `board` or `part` is not a plain name, or the file can't be written.
pub fn write(folder: &Path, board: &str, part: &str, bytes: &[u8]) -> io::Result<()> {
    let path = path(folder, board, part)?;
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let file = tempfile::NamedTempFile::new_in(parent)?;
    fs::write(file.path(), bytes)?;
    file.persist(path)?;
    Ok(())
}

/// What was flashed; nothing when that never happened.
///
/// # Errors
/// When `board` or `part` is not a plain name, or the file can't be read.
pub fn read(folder: &Path, board: &str, part: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path(folder, board, part)?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// What was flashed, to be read in place; nothing when that never happened.
///
/// # Errors
/// As for [`read`].
pub fn open(folder: &Path, board: &str, part: &str) -> io::Result<Option<File>> {
    match File::open(path(folder, board, part)?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Empties the storage of `board`.
///
/// # Errors
/// When `board` is not a plain name, or something can't be removed.
pub fn erase(folder: &Path, board: &str) -> io::Result<()> {
    let part = path(folder, board, "part")?;
    match fs::remove_dir_all(part.parent().unwrap_or(&part)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erased_board_has_nothing_and_others_keep_theirs() {
        let folder = tempfile::tempdir().unwrap();
        erase(folder.path(), "board-01").unwrap();
        write(folder.path(), "board-01", "kernel", b"x").unwrap();
        write(folder.path(), "board-02", "kernel", b"y").unwrap();
        erase(folder.path(), "board-01").unwrap();
        assert_eq!(read(folder.path(), "board-01", "kernel").unwrap(), None);
        assert_eq!(read(folder.path(), "board-02", "kernel").unwrap().as_deref(), Some(&b"y"[..]));
        assert!(erase(folder.path(), "..").is_err());
    }

    #[test]
    fn what_was_flashed_last_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), "board-01", "kernel").unwrap(), None);
        write(folder.path(), "board-01", "kernel", b"old").unwrap();
        write(folder.path(), "board-01", "kernel", b"new").unwrap();
        assert_eq!(read(folder.path(), "board-01", "kernel").unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(read(folder.path(), "board-02", "kernel").unwrap(), None);
    }

    #[test]
    fn a_part_is_a_name_and_no_path() {
        let folder = tempfile::tempdir().unwrap();
        for part in ["", "..", "../x", "a/b", "/etc/passwd"] {
            assert!(write(folder.path(), "board-01", part, b"x").is_err(), "{part}");
            assert!(read(folder.path(), part, "kernel").is_err(), "{part}");
        }
    }
}
