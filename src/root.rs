//! Where the repository is: its `compose/`, `jobs/` and `expected/` are read from there.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file that every root has.
pub const MARK: &str = "compose/compose.yaml";

/// Where reports go by default, below the root; a folder for each run.
pub const REPORTS: &str = "target/meta-lava";

/// The root of the repository: `META_LAVA_ROOT`, or the nearest folder above
/// the current one that has `compose/compose.yaml`, or where this was built.
///
/// # Errors
/// [`Error::Usage`] when none of them has it.
pub fn root() -> Result<PathBuf> {
    let named = std::env::var_os("META_LAVA_ROOT").map(PathBuf::from);
    let current = std::env::current_dir().ok();
    find(named.as_deref(), current.as_deref(), Path::new(env!("CARGO_MANIFEST_DIR")))
}

/// Where is kept what can be had again from elsewhere, and takes time: a folder of the user's,
/// so that clones share it.
#[must_use]
pub fn cache(root: &Path) -> PathBuf {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    match named.into_iter().chain(home).find(|folder| folder.is_absolute()) {
        Some(folder) => folder.join("meta-lava"),
        None => root.join("target/meta-lava/cache"),
    }
}

fn find(named: Option<&Path>, current: Option<&Path>, built: &Path) -> Result<PathBuf> {
    if let Some(named) = named {
        return if named.join(MARK).is_file() {
            Ok(named.to_owned())
        } else {
            Err(Error::Usage(format!("META_LAVA_ROOT is {}, which has no {MARK}", named.display())))
        };
    }
    current
        .into_iter()
        .flat_map(Path::ancestors)
        .chain([built])
        .find(|path| path.join(MARK).is_file())
        .map(Path::to_owned)
        .ok_or_else(|| {
            Error::Usage(format!(
                "no {MARK} in this folder, the ones above it or {}: run meta-lava inside its repository, or \
                 set META_LAVA_ROOT to it",
                built.display()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_wins_and_a_wrong_variable_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a");
        std::fs::create_dir_all(root.join("compose")).unwrap();
        std::fs::create_dir_all(root.join("b/c")).unwrap();
        std::fs::write(root.join(MARK), "").unwrap();
        let nowhere = dir.path().join("nowhere");
        assert_eq!(find(None, Some(&root.join("b/c")), &nowhere).unwrap(), root);
        assert_eq!(find(None, Some(dir.path()), &root).unwrap(), root);
        assert_eq!(find(Some(&root), None, &nowhere).unwrap(), root);
        assert!(find(Some(dir.path()), Some(&root), &root).is_err());
        assert!(find(None, Some(dir.path()), &nowhere).is_err());
    }
}
