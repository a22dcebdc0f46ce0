//! Snapshots: what is expected of a scenario, in `expected/`, as insta's files.
//!
//! `expected/<suite>/<name>/{results,ledger,log}.snap` holds what LAVA 2023.01 is expected
//! to do, `expected/<suite>/<name>/<series>/…` what a newer series does differently. A LAVA
//! is measured by the snapshot of its own series, else by the nearest older one, else by the
//! oldest: one that was never seen by the newest that is known. What was found instead
//! stands beside a snapshot as `….snap.new`, always as a full text.
//!
//! What scenarios share stands once: most files say what they have differently from a base
//! ([`delta`]), which they name ([`file`]). [`keep`] decides which.

mod delta;
mod file;
mod id;
mod keep;

pub use delta::Delta;
pub use file::{Based, File, HEADER};
pub use id::Id;
pub use keep::Kept;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meta_lava_formats::sha256;

use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::lava::series::Series;
use crate::scenario::{Matrix, Problem, Scenario};

/// Most bases, one on the other, below a snapshot that is read.
const DEPTH: usize = 16;

/// Full texts that are known already.
pub type Texts = HashMap<Id, Arc<str>>;

/// What is compared, in this order: the first difference is the most telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// LAVA's results.
    Results,
    /// What the ghosts saw.
    Ledger,
    /// LAVA's log.
    Log,
}

impl Kind {
    /// All of them, in order of comparison.
    pub const ALL: [Self; 3] = [Self::Results, Self::Ledger, Self::Log];

    /// `results`, `ledger` or `log`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::Ledger => "ledger",
            Self::Log => "log",
        }
    }

    /// Its file in the folder that a report has of a scenario.
    #[must_use]
    pub fn kept_in(self, folder: &Path) -> PathBuf {
        folder.join(self.name()).with_extension("snap")
    }
}

/// The snapshots of a repository.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// What is expected, and which snapshot says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The snapshot: of the same series, or of another one by the chain.
    pub id: Id,
    /// Its text, without the newline at its end.
    pub text: Arc<str>,
}

/// A snapshot that waits for a review.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pending {
    /// Which snapshot would change.
    pub id: Id,
    /// `….snap.new`.
    pub new: PathBuf,
}

impl Store {
    /// The snapshots in `expected/` below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The repository's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `expected/`.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join("expected")
    }

    /// The file of a snapshot.
    #[must_use]
    pub fn path(&self, id: &Id) -> PathBuf {
        self.folder().join(id.path())
    }

    /// What LAVA is expected to do, by the chain of series.
    ///
    /// # Errors
    /// [`Error::Usage`] when the file is not a snapshot, or does not fit its base.
    pub fn expected(&self, id: &Id) -> Result<Option<Expected>> {
        let Some(id) = self.by_the_chain(id)? else { return Ok(None) };
        let text = self.text(&id, &mut Texts::new()).map_err(|problem| self.refuse(problem))?;
        Ok(text.map(|text| Expected { id, text }))
    }

    /// Which snapshot is the expectation of `id`: that of its own series, else of the
    /// nearest older one, else of the oldest.
    fn by_the_chain(&self, id: &Id) -> Result<Option<Id>> {
        if self.path(id).exists() {
            return Ok(Some(id.clone()));
        }
        let known: Vec<Id> =
            self.series_of(id)?.into_iter().map(|series| Id { series, ..id.clone() }).collect();
        let older = known.iter().filter(|other| other.series <= id.series).max_by_key(|other| other.series);
        Ok(older.or_else(|| known.iter().min_by_key(|other| other.series)).cloned())
    }

    /// Series that have a snapshot of their own.
    fn series_of(&self, id: &Id) -> Result<BTreeSet<Series>> {
        let mut known = BTreeSet::from([Series::OLDEST]);
        let folder = self.folder().join(id.scenario());
        match fs::read_dir(&folder) {
            Ok(entries) => {
                known.extend(
                    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<Series>().ok()),
                );
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => {
                return Err(Error::Usage(format!("could not list {}: {error}", folder.display())));
            }
        }
        known.retain(|series| self.path(&Id { series: *series, ..id.clone() }).exists());
        Ok(known)
    }

    /// The full text of a snapshot; `None` when it has no file.
    ///
    /// # Errors
    /// What is wrong with its file or one of its bases'.
    pub fn text(&self, id: &Id, known: &mut Texts) -> Result<Option<Arc<str>>, Problem> {
        let mut above: Vec<(Id, Based)> = Vec::new();
        let mut at = id.clone();
        let mut text: Arc<str> = loop {
            if let Some(text) = known.get(&at) {
                break Arc::clone(text);
            }
            match (File::read(&self.path(&at))?, above.last()) {
                (None, None) => return Ok(None),
                (None, Some((above, _))) => return Err(self.unsound(above, &at, "is missing")),
                (Some(File::Text(text)), _) => {
                    let text: Arc<str> = text.into();
                    known.insert(at, Arc::clone(&text));
                    break text;
                }
                (Some(File::Delta(based)), _) => {
                    let base = based.base.clone();
                    if above.len() >= DEPTH {
                        return Err(self.unsound(
                            &at,
                            &base,
                            "stands on itself, or on more bases than are read",
                        ));
                    }
                    above.push((at, based));
                    at = base;
                }
            }
        };
        for (id, Based { base, sha256: wanted, delta }) in above.into_iter().rev() {
            let made = delta
                .apply(&text)
                .map_err(|why| self.unsound(&id, &base, &format!("is another text now: {why}")))?;
            if sha256(made.as_bytes()) != wanted {
                return Err(self.unsound(&id, &base, "is another text now"));
            }
            text = made.into();
            known.insert(id, Arc::clone(&text));
        }
        Ok(Some(text))
    }

    fn unsound(&self, id: &Id, base: &Id, why: &str) -> Problem {
        Problem::new(
            self.path(id),
            format!(
                "does not give what was accepted: its base `{base}` {why}, or this file was changed. Put both \
                 back as they were in git, and make the change by `meta-lava review` or `accept`, which write \
                 anew what stands on a base; or run this scenario and accept what it finds"
            ),
        )
    }

    /// A problem of a file as an error.
    fn refuse(&self, mut problem: Problem) -> Error {
        problem.path = self.shown(&problem.path);
        Error::Usage(problem.to_string())
    }

    /// A path as it is shown: below the repository's root.
    fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_path_buf()
    }

    /// Leaves `text` pending.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it can't be written.
    pub fn pend(&self, id: &Id, text: &str) -> Result<PathBuf> {
        let path = self.path(id).with_extension("snap.new");
        write(&path, id, text)?;
        Ok(path)
    }

    /// Removes what is pending: rejected, accepted, or not found again.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it can't be removed.
    pub fn unpend(&self, id: &Id) -> Result<()> {
        let path = self.path(id).with_extension("snap.new");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::failed(format!("remove {}", path.display()), error))
            }
            _ => {
                // A series that has nothing of its own has no folder.
                let _ = path.parent().map(fs::remove_dir);
                Ok(())
            }
        }
    }

    /// What waits for a review, sorted.
    ///
    /// # Errors
    /// [`Error::Usage`] when a folder can't be listed.
    pub fn pending(&self) -> Result<Vec<Pending>> {
        let files = self.files()?.into_iter();
        let mut pending: Vec<Pending> =
            files.filter_map(|new| Some(Pending { id: self.id_of(&new, ".snap.new")?, new })).collect();
        pending.sort();
        Ok(pending)
    }

    /// Snapshots that have a file, sorted.
    ///
    /// # Errors
    /// [`Error::Usage`] when a folder can't be listed.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let files = self.files()?;
        let mut ids: Vec<Id> = files.iter().filter_map(|path| self.id_of(path, ".snap")).collect();
        ids.sort();
        Ok(ids)
    }

    /// The newest series that there is a snapshot of.
    ///
    /// # Errors
    /// [`Error::Usage`] when a folder can't be listed.
    pub fn newest(&self) -> Result<Option<Series>> {
        Ok(self.ids()?.into_iter().map(|id| id.series).max())
    }

    fn id_of(&self, path: &Path, extension: &str) -> Option<Id> {
        Id::parse(path.strip_prefix(self.folder()).ok()?.to_str()?.strip_suffix(extension)?)
    }

    /// Judges the snapshots against the scenarios: files that are not snapshots or do not
    /// fit their base, and files that no scenario refers to.
    #[must_use]
    pub fn check(&self, matrix: &Matrix) -> Vec<Problem> {
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => return vec![Problem::new("expected", error.to_string())],
        };
        let scenarios = scenarios(matrix);
        let mut problems = Vec::new();
        let mut ids = Vec::new();
        for path in files {
            if !self.is_referenced(&path, &scenarios) {
                problems.push(Problem::new(
                    self.shown(&path),
                    "no scenario refers to this file; name its scenario so, or let `meta-lava accept \
                     --unreferenced` remove it",
                ));
            } else if let Some(id) = self.id_of(&path, ".snap") {
                ids.push(id);
            } else if let Err(problem) = File::read(&path) {
                problems.push(problem);
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let parts: Vec<&[Id]> = ids.chunks(ids.len().div_ceil(cores).max(1)).collect();
        let broken = keep::in_parallel(&parts, |ids| {
            let mut known = Texts::new();
            ids.iter().filter_map(|id| self.problem(id, matrix, &mut known)).collect::<Vec<_>>()
        });
        problems.extend(broken.into_iter().flatten());
        problems.extend(self.defects(matrix, &ids));
        for problem in &mut problems {
            problem.path = self.shown(&problem.path);
        }
        problems.sort();
        // A base that is broken is met again from each that stands on it.
        problems.dedup();
        problems
    }

    /// Defects that scenarios name, and that what is expected of a series with them does not show. `ids` are
    /// all snapshots.
    fn defects(&self, matrix: &Matrix, ids: &[Id]) -> Vec<Problem> {
        let all: BTreeSet<Series> = ids.iter().map(|id| id.series).chain([Series::OLDEST]).collect();
        let mut problems = Vec::new();
        for scenario in matrix.scenarios.iter().filter(|scenario| !scenario.defects.is_empty()) {
            for (series, kind) in all.iter().flat_map(|series| Kind::ALL.map(|kind| (*series, kind))) {
                // What can't be read is told of the snapshot itself.
                let expected = self.expected(&Id::of(scenario, series, kind));
                let Ok(Some(expected)) = expected else { continue };
                let why = super::defect::not_shown(scenario, series, kind, &expected.text);
                problems.extend(
                    why.map(|why| Problem::new(scenario.file(), format!("as it is expected, {why}"))),
                );
            }
        }
        problems
    }

    /// What is wrong with a snapshot: it can't be read, or expects a job to end as its scenario does not say.
    fn problem(&self, id: &Id, matrix: &Matrix, known: &mut Texts) -> Option<Problem> {
        let text = match self.text(id, known) {
            Ok(text) => text?,
            Err(problem) => return Some(problem),
        };
        let why = super::pending::otherwise(matrix, id, &text)?;
        Some(Problem::new(self.path(id), format!("as it is expected with LAVA {}, {why}", id.series)))
    }

    /// Files below `expected/` that no scenario refers to, sorted.
    ///
    /// # Errors
    /// [`Error::Usage`] when a folder can't be listed.
    pub fn unreferenced(&self, matrix: &Matrix) -> Result<Vec<PathBuf>> {
        let mut files = self.files()?;
        let scenarios = scenarios(matrix);
        files.retain(|path| !self.is_referenced(path, &scenarios));
        Ok(files)
    }

    /// Removes files that no scenario refers to. What stands on one of them keeps its text.
    ///
    /// # Errors
    /// As [`Store::keep`].
    pub fn remove(&self, files: &[PathBuf]) -> Result<()> {
        let ids = files.iter().filter_map(|path| self.id_of(path, ".snap"));
        self.keep(ids.map(|id| (id, None)).collect())?;
        for path in files {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::failed(format!("remove {}", path.display()), error));
                }
                _ => {}
            }
            // Until one is not empty.
            let above = path.ancestors().skip(1).take_while(|folder| *folder != self.folder());
            let _ = above.into_iter().try_for_each(fs::remove_dir);
        }
        Ok(())
    }

    /// Whether a path is one of a snapshot of one of `scenarios`, or of what is pending of it.
    fn is_referenced(&self, path: &Path, scenarios: &BTreeSet<String>) -> bool {
        let id = self.id_of(path, ".snap").or_else(|| self.id_of(path, ".snap.new"));
        id.is_some_and(|id| scenarios.contains(&id.scenario()))
    }

    /// Scenarios of `matrix` of which nothing is expected yet, with any LAVA; skipped ones
    /// left out.
    #[must_use]
    pub fn without<'m>(&self, matrix: &'m Matrix) -> Vec<&'m Scenario> {
        let ids = self.ids().unwrap_or_default();
        let known: BTreeSet<(String, Kind)> = ids.into_iter().map(|id| (id.scenario(), id.kind)).collect();
        let has = |scenario: &Scenario, kind| known.contains(&(scenario.id(), kind));
        let lacks = |scenario: &&Scenario| {
            scenario.skipped().is_none() && !Kind::ALL.iter().all(|kind| has(scenario, *kind))
        };
        matrix.scenarios.iter().filter(lacks).collect()
    }

    /// All files below `expected/`, sorted.
    fn files(&self) -> Result<Vec<PathBuf>> {
        fn walk(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with('.') {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    walk(&entry.path(), files)?;
                } else {
                    files.push(entry.path());
                }
            }
            Ok(())
        }
        let mut files = Vec::new();
        match walk(&self.folder(), &mut files) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Usage(format!(
                "could not list the snapshots in {}: {error}",
                self.folder().display()
            ))),
            _ => {
                files.sort();
                Ok(files)
            }
        }
    }
}

/// Those of which a file may be: also the ones that could not be read.
fn scenarios(matrix: &Matrix) -> BTreeSet<String> {
    matrix.scenarios.iter().map(Scenario::id).chain(matrix.unread.iter().cloned()).collect()
}

/// The text of a snapshot that stands alone: one of a report, or what is pending; `None`
/// when there is no such file.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path) -> Result<Option<String>, Problem> {
    match File::read(path)? {
        None => Ok(None),
        Some(File::Text(text)) => Ok(Some(text)),
        Some(File::Delta(based)) => {
            let message = format!("is a difference from `{}`, where a full text must stand", based.base);
            Err(Problem::at(path, Some((4, 1)), message))
        }
    }
}

/// Writes a full text with insta's header, all of it or nothing.
///
/// # Errors
/// [`Error::Infrastructure`] when it can't be written.
pub fn write(path: &Path, id: &Id, text: &str) -> Result<()> {
    write_whole(path, File::Text(text.to_owned()).written(id).as_bytes())
}

/// Whether snapshots may be written: never where `CI` is set.
#[must_use]
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

#[cfg(test)]
mod tests;
