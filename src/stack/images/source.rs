//! A source checkout of LAVA, laid over an image that has another one.

use std::collections::BTreeMap;
use std::path::Path;

use super::Chain;
use super::recipe::{File, read_file, read_folder, unreadable};
use crate::error::{Error, Result};

/// What a checkout of LAVA has, of any series: by this one is known.
const LANDMARKS: [&str; 5] = [
    "setup.py",
    "manage.py",
    "lava_common/VERSION",
    "lava_dispatcher/__init__.py",
    "lava_server/__init__.py",
];
/// What is in a checkout and never installed, or was left there by a build. A change
/// in them is none in LAVA.
const NOT_INSTALLED: [&str; 8] = ["build", "debian", "dist", "doc", "docker", "man", "tests", "venv"];

/// Whether a folder is a source checkout of LAVA.
///
/// # Errors
/// [`Error::Usage`] with what was looked for.
pub(super) fn check(folder: &Path, named: &str) -> Result<()> {
    let missing: Vec<&str> =
        LANDMARKS.iter().copied().filter(|landmark| !folder.join(landmark).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = if folder.is_dir() { "is no source checkout of LAVA" } else { "is no folder" };
    Err(Error::Usage(format!(
        "{named} {what}: looked for {} in it, and found no {}",
        LANDMARKS.join(", "),
        missing.join(", ")
    )))
}

/// What the lower of the two layers is made with, of a checkout: what it says about the
/// packages that it needs, if it does, and what every checkout has.
const NEEDS: [&str; 2] = ["lava/share/requirements/debian/", "lava/setup.py"];
/// The same of `compose/source`.
const TOOLS: [&str; 3] = ["source/tools.Dockerfile", "source/tools.sh", "source/needs.py"];

/// The two layers that put a checkout over an image: what it needs to be installed and to
/// run, which seldom changes, and the checkout, which changes often.
pub(super) struct Layers {
    tools: BTreeMap<String, File>,
    source: BTreeMap<String, File>,
}

impl Layers {
    /// Reads the checkout in `folder`, and what lays it over from `compose/source`.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is none, or can't be read.
    pub fn read(compose: &Path, folder: &Path) -> Result<Self> {
        check(folder, &folder.display().to_string())?;
        let lava: BTreeMap<String, File> =
            checkout(folder)?.into_iter().map(|(path, file)| (format!("lava/{path}"), file)).collect();
        let (mut tools, mut source): (BTreeMap<_, _>, BTreeMap<_, _>) =
            read_folder(compose, "source")?.into_iter().partition(|(path, _)| TOOLS.contains(&path.as_str()));
        let needs = lava.iter().filter(|(path, _)| NEEDS.iter().any(|need| path.starts_with(need)));
        tools.extend(needs.map(|(path, file)| (path.clone(), file.clone())));
        source.extend(lava);
        Ok(Self { tools, source })
    }

    /// Puts them on top of an image, under these names.
    ///
    /// # Errors
    /// [`Error::Usage`] when a Dockerfile is missing.
    pub fn add_to(&self, chain: &mut Chain, [tools, source]: [&'static str; 2]) -> Result<()> {
        chain.add(tools, "source/tools.Dockerfile", self.tools.clone())?;
        chain.add(source, "source/Dockerfile", self.source.clone())
    }
}

/// The files of a checkout that an installation may need, by their path in it.
fn checkout(folder: &Path) -> Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name.ends_with(".egg-info") || NOT_INSTALLED.contains(&name.as_str()) {
            continue;
        }
        if entry.path().is_dir() {
            files.extend(read_folder(folder, &name)?);
        } else {
            files.insert(name, read_file(&entry.path())?);
        }
    }
    Ok(files)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A checkout with no more than what one is known by.
    pub fn lava() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for landmark in LANDMARKS {
            write(dir.path(), landmark, landmark);
        }
        dir
    }

    pub fn write(folder: &Path, path: &str, text: &str) {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_folder_that_is_no_checkout_is_refused_with_what_was_looked_for() {
        let lava = lava();
        assert!(check(lava.path(), "it").is_ok());
        std::fs::remove_file(lava.path().join("lava_common/VERSION")).unwrap();
        let said = check(lava.path(), "it").unwrap_err();
        assert_eq!(said.exit(), crate::exit_code::Exit::Usage);
        assert!(said.to_string().contains("manage.py"), "{said}");
        assert!(said.to_string().ends_with("found no lava_common/VERSION"), "{said}");
        let said = check(&lava.path().join("nowhere"), "it").unwrap_err().to_string();
        assert!(said.contains("is no folder"), "{said}");
    }

    #[test]
    fn what_is_not_installed_is_no_input() {
        let lava = lava();
        let names = || checkout(lava.path()).unwrap().into_keys().collect::<Vec<_>>();
        let before = names();
        assert_eq!(before.len(), LANDMARKS.len());
        for other in [
            ".git/HEAD",
            "doc/index.md",
            "tests/test_x.py",
            "lava.egg-info/PKG-INFO",
            "lava_common/__pycache__/x",
        ] {
            write(lava.path(), other, "");
        }
        assert_eq!(names(), before);
        write(lava.path(), "etc/dispatcher-config/device-types/x15.jinja2", "");
        assert_eq!(names().len(), before.len() + 1);
    }
}
