//! Folders of reports: whether there can be one is known before a run begins, and not when it has
//! ended; and which there are of earlier runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Whether a report can go to `folder`: there is nothing in it that could be taken for a part of
/// the report, and it can be written to. Leaves nothing.
///
/// # Errors
/// [`Error::Usage`].
pub fn check(folder: &Path) -> Result<()> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            return Err(Error::Usage(format!(
                "{} is not empty, and what is there would be taken for a part of the new report; name a \
                 new folder with --report, or remove it",
                folder.display()
            )));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(folder, &error)),
        _ => {}
    }
    let new: Vec<PathBuf> =
        folder.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf).collect();
    let tried = fs::create_dir_all(folder).and_then(|()| tempfile::NamedTempFile::new_in(folder).map(drop));
    for path in new {
        // Those that it has made, the deepest first.
        let _ = fs::remove_dir(path);
    }
    tried.map_err(|error| unusable(folder, &error))
}

/// The reports in the folder `reports`, the newest first; none where it can't be read.
#[must_use]
pub fn newest_first(reports: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(reports)
        .into_iter()
        .flatten()
        .filter_map(|folder| {
            let path = folder.ok()?.path();
            let modified = fs::metadata(path.join("run.json")).ok()?.modified().ok()?;
            Some((modified, path))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn unusable(folder: &Path, error: &io::Error) -> Error {
    Error::Usage(format!(
        "no report can be written to {}: {error}; name another folder with --report",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_goes_where_nothing_is_and_the_question_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path()).unwrap();
        check(&folder.path().join("a/b/c")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_can_have_no_report_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let why = |path: &Path| match check(path) {
            Err(Error::Usage(why)) => why,
            other => panic!("{}: {other:?}", path.display()),
        };
        fs::create_dir(folder.path().join("old")).unwrap();
        fs::write(folder.path().join("old/run.json"), "{}").unwrap();
        assert!(why(&folder.path().join("old")).contains("old is not empty"));
        let file = folder.path().join("old/run.json");
        assert!(why(&file).contains("no report can be written to"));
        assert!(why(&file.join("x")).contains("no report can be written to"));
        // Not even root can make a folder there.
        assert!(why(Path::new("/proc/x/y")).contains("/proc/x/y"));
    }
}
