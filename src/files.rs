//! Files that others read while they are written.

use std::path::Path;
use std::{fs, io};

use crate::error::{Error, Result};

/// Writes a file so that a reader sees all of it or what was there before.
///
/// # Errors
/// [`Error::Infrastructure`] when it can't be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        io::Write::write_all(&mut file, bytes)?;
        #[cfg(unix)]
        {
            // A temporary file is its owner's alone; a report is not.
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| Error::failed(format!("write {}", path.display()), error))
}
