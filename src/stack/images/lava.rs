//! Which LAVA to test, and the options that say so.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::debian::{Archive, Package, STABLE};
use super::source;
use super::upstream::{self, Checkout};
use crate::error::{Error, Result};
use crate::event::lava_folder;
use crate::lava::series::Series;

/// The suites that the default is looked for in, the newest first.
const SUITES: [&str; 3] = ["sid", "forky", STABLE];

/// Which LAVA to test.
#[derive(Debug, Clone)]
pub struct Lava {
    /// As a user names it, such as `debian:sid`.
    pub name: String,
    /// Where server and worker come from.
    pub origin: Origin,
    /// A source checkout that is laid over both.
    pub source: Option<Source>,
}

/// Where a LAVA comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Debian's packages.
    Debian(Package),
    /// Images that already have one.
    Images {
        /// The server, taken as it is.
        server: String,
        /// The worker; our layer is added on top of it.
        worker: String,
    },
}

/// A checkout of LAVA's source.
#[derive(Debug, Clone)]
pub enum Source {
    /// A user's own.
    Folder(PathBuf),
    /// A commit of upstream's.
    Upstream(Checkout),
}

impl Source {
    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Upstream(checkout) => checkout.folder(),
        }
    }

    /// Its commit, if it is known.
    #[must_use]
    pub fn commit(&self) -> Option<&str> {
        match self {
            Self::Folder(_) => None,
            Self::Upstream(checkout) => Some(&checkout.commit),
        }
    }
}

/// A LAVA as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// `debian`, `debian:SUITE`.
    Debian(String),
    /// `git`, `git:REF`.
    Git(Option<String>),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, of) = text.split_once(':').map_or((text, None), |(kind, of)| (kind, Some(of)));
        match (kind, of) {
            ("debian", None) => Ok(Self::Debian(STABLE.into())),
            ("debian", Some(suite)) => {
                let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                if suite.starts_with(|c: char| c.is_ascii_lowercase()) && suite.chars().all(letter) {
                    Ok(Self::Debian(suite.into()))
                } else {
                    Err("a suite is named by small letters, as in debian:sid".into())
                }
            }
            ("git", None) => Ok(Self::Git(None)),
            ("git", Some(name)) => {
                // What git's own names of branches may have, and no option or range.
                let letter = |c: char| c.is_ascii_alphanumeric() || "._/-+@".contains(c);
                if name.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && name.chars().all(letter)
                    && !name.contains("..")
                    && !name.contains("@{")
                {
                    Ok(Self::Git(Some(name.into())))
                } else {
                    Err("a branch, a tag or a commit is named, as in git:master".into())
                }
            }
            _ => Err("`debian`, `debian:SUITE`, `git` and `git:REF` are known".into()),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(suite) => write!(f, "debian:{suite}"),
            Self::Git(None) => f.write_str("git"),
            Self::Git(Some(name)) => write!(f, "git:{name}"),
        }
    }
}

/// Options that say which LAVA to test.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LavaArgs {
    /// LAVA to test: `debian` (bookworm's packages), `debian:SUITE`, `git` (upstream's newest), or
    /// `git:REF`; for `run` it may be repeated [default: Debian's newest that there are expectations of]
    #[arg(long, value_name = "WHICH", conflicts_with_all = ["server_image", "worker_image"])]
    lava: Vec<Which>,
    /// Ask Debian's archive for a newer LAVA, whatever is known
    #[arg(long)]
    refresh: bool,
    /// Image of a LAVA server
    #[arg(long, value_name = "IMAGE", requires = "worker_image")]
    server_image: Option<String>,
    /// Image of a LAVA worker
    #[arg(long, value_name = "IMAGE", requires = "server_image")]
    worker_image: Option<String>,
    /// Source checkout of LAVA, laid over server and worker
    #[arg(long, value_name = "DIR")]
    lava_source: Option<PathBuf>,
}

impl Lava {
    /// The one of Debian's that is of `series`.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is none, [`Error::Infrastructure`] when that can't be found out.
    pub async fn of_series(root: &Path, series: Series) -> Result<Self> {
        let cache = crate::root::cache(root);
        let progress = |line: String| crate::print::err(&format!("{line}\n"));
        let found = Archive::new(&cache, false, &progress).lavas(&SUITES).await?;
        let is_of = |package: &&Package| Series::of(&package.version).is_ok_and(|of| of == series);
        let package = found.iter().flatten().find(is_of).cloned().ok_or_else(|| {
            Error::Usage(format!(
                "Debian has no LAVA {series} in any of {}; name another one, such as --lava debian:sid",
                SUITES.join(", ")
            ))
        })?;
        Ok(Self { name: format!("debian:{}", package.suite), origin: Origin::Debian(package), source: None })
    }

    /// The name and the version of Debian's LAVA of `series`, as far as its archive has said before; it is not
    /// asked.
    #[must_use]
    pub fn remembered(root: &Path, series: Series) -> Option<(String, String)> {
        let packages = Archive::new(&crate::root::cache(root), false, &|_| {}).remembered();
        let is_of = |package: &Package| Series::of(&package.version).is_ok_and(|of| of == series);
        let package = packages.into_iter().find(is_of)?;
        Some((format!("debian:{}", package.suite), package.version))
    }

    /// `error` as one of upstream's commit, if it says that this LAVA is broken and it is one.
    #[must_use]
    pub fn blame(&self, error: Error) -> Error {
        match (error, &self.source) {
            // Of this machine, whichever program met it.
            (Error::Broken(error), _) if error.to_string().contains("No space left on device") => {
                Error::Infrastructure(error)
            }
            (Error::Broken(error), Some(Source::Upstream(checkout))) => {
                let commit = &checkout.commit[..12.min(checkout.commit.len())];
                Error::BrokenCommit(error.within(format!("test commit {commit}")))
            }
            (error, _) => error,
        }
    }

    /// The series of Debian's packages; of what is laid over them, or of images, only a server knows.
    #[must_use]
    pub fn series(&self) -> Option<Series> {
        match &self.origin {
            Origin::Debian(package) if self.source.is_none() => Series::of(&package.version).ok(),
            _ => None,
        }
    }
}

impl LavaArgs {
    /// These that name one LAVA.
    #[must_use]
    pub fn of(which: Which) -> Self {
        Self { lava: vec![which], ..Self::default() }
    }

    /// These that name several. `refresh`: see the option.
    #[must_use]
    pub fn of_all(lavas: Vec<Which>, refresh: bool) -> Self {
        Self { lava: lavas, refresh, ..Self::default() }
    }

    /// Whether they say anything.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.lava.is_empty() || self.refresh || self.server_image.is_some() || self.lava_source.is_some()
    }

    /// The names that were given.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lava.iter().map(ToString::to_string).collect()
    }

    /// The same options with other LAVAs, if these name none.
    ///
    /// # Errors
    /// [`Error::Usage`] when one is no name of a LAVA.
    pub fn or_names(&mut self, names: &[String]) -> Result<()> {
        if self.lava.is_empty() && self.server_image.is_none() && self.lava_source.is_none() {
            self.lava = names
                .iter()
                .map(|name| name.parse().map_err(|why| Error::Usage(format!("--lava {name}: {why}"))))
                .collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// Which LAVAs they say. `root`: see [`crate::root::root`].
    ///
    /// # Errors
    /// [`Error::Usage`] when the source is no checkout of LAVA, a suite has none, or upstream no
    /// such commit; [`Error::Infrastructure`] when that can't be found out.
    pub async fn lavas(&self, root: &Path) -> Result<Vec<Lava>> {
        if let Some(folder) = &self.lava_source {
            source::check(folder, &format!("--lava-source {}", folder.display()))?;
            if self.lava.iter().any(|which| matches!(which, Which::Git(_))) {
                return Err(Error::Usage(
                    "--lava git and --lava-source are two sources of LAVA: choose one".into(),
                ));
            }
        }
        let names = self.names();
        let folders: Vec<String> = names.iter().map(|name| lava_folder(name)).collect();
        if let Some(at) = (1..folders.len()).find(|at| folders[..*at].contains(&folders[*at])) {
            return Err(Error::Usage(format!("--lava {} is there twice", names[at])));
        }
        let own = self.lava_source.clone().map(Source::Folder);
        if let (Some(server), Some(worker)) = (&self.server_image, &self.worker_image) {
            let origin = Origin::Images { server: server.clone(), worker: worker.clone() };
            return Ok(vec![Lava { name: server.clone(), origin, source: own }]);
        }
        let cache = crate::root::cache(root);
        let progress = |line: String| crate::print::err(&format!("{line}\n"));
        let archive = Archive::new(&cache, self.refresh, &progress);
        if self.lava.is_empty() {
            let package = default(&archive, &expected(root), &progress).await?;
            let name = format!("debian:{}", package.suite);
            return Ok(vec![Lava { name, origin: Origin::Debian(package), source: own }]);
        }
        let mut lavas = Vec::new();
        for which in &self.lava {
            let (package, source) = match which {
                Which::Debian(suite) => (archive.lava(suite).await?, own.clone()),
                Which::Git(name) => {
                    let checkout = upstream::checkout(&cache, name.as_deref(), &progress).await?;
                    let found = archive.lavas(&SUITES).await?;
                    (newest(&found).cloned().ok_or_else(none)?, Some(Source::Upstream(checkout)))
                }
            };
            lavas.push(Lava { name: which.to_string(), origin: Origin::Debian(package), source });
        }
        Ok(lavas)
    }

    /// The one LAVA that they say.
    ///
    /// # Errors
    /// As [`Self::lavas`], and [`Error::Usage`] when it is more than one.
    pub async fn lava(&self, root: &Path) -> Result<Lava> {
        if self.lava.len() > 1 {
            return Err(Error::Usage("this command takes one --lava; `run` takes several".into()));
        }
        self.lavas(root).await?.pop().ok_or_else(none)
    }
}

fn none() -> Error {
    Error::infrastructure(format!("Debian's archive has no LAVA in any of {}", SUITES.join(", ")))
}

/// The newest LAVA; of equal ones that of the first suite.
fn newest(packages: &[Option<Package>]) -> Option<&Package> {
    let series = |package: &Package| Series::of(&package.version).ok();
    packages.iter().flatten().fold(None, |best, package| match best {
        Some(best) if series(package) <= series(best) => Some(best),
        _ => Some(package),
    })
}

/// The newest of Debian's LAVAs of which something is expected; a newer one is told of.
async fn default(
    archive: &Archive<'_>,
    expected: &[Series],
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Package> {
    let found = archive.lavas(&SUITES).await?;
    let known = |package: &Package| Series::of(&package.version).is_ok_and(|it| expected.contains(&it));
    let judged: Vec<Option<Package>> =
        found.iter().map(|package| package.clone().filter(|package| known(package))).collect();
    let newest_of_all = newest(&found).ok_or_else(none)?;
    let Some(chosen) = newest(&judged) else { return Ok(newest_of_all.clone()) };
    if Series::of(&newest_of_all.version).ok() > Series::of(&chosen.version).ok() {
        progress(format!(
            "Debian's {} has LAVA {}, of which nothing is expected yet: `--lava debian:{}` tests it",
            newest_of_all.suite, newest_of_all.version, newest_of_all.suite
        ));
    }
    Ok(chosen.clone())
}

/// The default, as far as it follows from what is remembered of the archive.
pub(super) fn known_default(root: &Path, remembered: &[Package]) -> Option<Package> {
    let expected = expected(root);
    let judged: Vec<Option<Package>> = SUITES
        .iter()
        .filter_map(|suite| remembered.iter().find(|package| package.suite == *suite))
        .map(|package| Some(package.clone()))
        .filter(|package| {
            let series = package.as_ref().and_then(|package| Series::of(&package.version).ok());
            series.is_some_and(|series| expected.contains(&series))
        })
        .collect();
    newest(&judged).cloned()
}

/// The series of which something is expected in `root`.
fn expected(root: &Path) -> Vec<Series> {
    let mut found = vec![Series::OLDEST];
    let mut pending = vec![root.join("expected")];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            if !path.is_dir() {
                continue;
            }
            match name.to_str().and_then(|name| name.parse::<Series>().ok()) {
                Some(series) if has_snapshot(&path) => found.push(series),
                Some(_) => {}
                None => pending.push(path),
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Whether something was accepted below a folder; what is pending does not count.
fn has_snapshot(folder: &Path) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() { has_snapshot(&path) } else { path.extension().is_some_and(|end| end != "new") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lava_is_named_by_kind_and_suite_or_commit() {
        let which = |text: &str| text.parse::<Which>();
        assert_eq!(which("debian"), Ok(Which::Debian("bookworm".into())));
        assert_eq!(which("debian:sid").unwrap().to_string(), "debian:sid");
        assert_eq!(which("git"), Ok(Which::Git(None)));
        assert_eq!(which("git:feature/x-1.2").unwrap().to_string(), "git:feature/x-1.2");
        for wrong in ["debian:", "debian:Sid", "debian:../x", "fedora", "debian:-x", "", "git:", "git:--x"] {
            assert!(which(wrong).is_err(), "{wrong}");
        }
        for wrong in ["git:a..b", "git:x y", "git:x@{1}", "git:x:y", "git:+x"] {
            assert!(which(wrong).is_err(), "{wrong}");
        }
    }

    fn package(suite: &str, version: &str) -> Option<Package> {
        Some(Package { suite: suite.into(), version: version.into() })
    }

    #[test]
    fn the_newest_is_the_newest_series_and_of_equal_ones_the_first() {
        let of = |packages: &[Option<Package>]| newest(packages).map(|package| package.suite.clone());
        let old = package("bookworm", "2023.01-2");
        assert_eq!(of(&[package("sid", "2026.10-1"), old.clone()]).as_deref(), Some("sid"));
        assert_eq!(of(&[old.clone(), package("sid", "2026.10-1")]).as_deref(), Some("sid"));
        assert_eq!(of(&[package("sid", "2026.10-1"), package("forky", "2026.10-1")]).as_deref(), Some("sid"));
        assert_eq!(of(&[None, old]).as_deref(), Some("bookworm"));
        assert_eq!(of(&[None]), None);
    }

    #[tokio::test]
    async fn the_default_is_the_newest_that_there_are_expectations_of() {
        let cache = tempfile::tempdir().unwrap();
        let told = std::sync::Mutex::new(Vec::new());
        let progress = |line: String| told.lock().unwrap().push(line);
        let archive = Archive::new(cache.path(), false, &progress);
        for (suite, version) in [("sid", "2026.10-1"), ("forky", "2026.09-1"), ("bookworm", "2023.01-2")] {
            archive.remember_version(suite, version);
        }
        let root = tempfile::tempdir().unwrap();
        let chosen = async || default(&archive, &expected(root.path()), &progress).await.unwrap().suite;
        assert_eq!(chosen().await, "bookworm");
        assert!(told.lock().unwrap().pop().unwrap().contains("`--lava debian:sid`"));
        // What waits for a person is not expected yet.
        let folder = "expected/health-checks/juno/2026.09";
        source::tests::write(root.path(), &format!("{folder}/log.snap.new"), "");
        assert_eq!(chosen().await, "bookworm");
        source::tests::write(root.path(), &format!("{folder}/log.snap"), "");
        assert_eq!(chosen().await, "forky");
        source::tests::write(root.path(), "expected/health-checks/juno/2026.10/log.snap", "");
        told.lock().unwrap().clear();
        assert_eq!(chosen().await, "sid");
        assert!(told.lock().unwrap().is_empty());
        let known = known_default(root.path(), &archive.remembered()).unwrap();
        assert_eq!(known.suite, "sid");
        assert_eq!(known_default(root.path(), &[]), None);
    }
}
