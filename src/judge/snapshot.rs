//! Snapshots: what is expected of a scenario, in `expected/`, as insta's files.
//!
//! `expected/<suite>/<name>/{results,ledger,log}.snap` holds what LAVA of the
//! [`PLAIN_SERIES`] is expected to do. Another series that does it differently
//! has files of its own in `expected/<suite>/<name>/<series>/`, which are looked
//! up first. What was found instead stands beside a snapshot as `….snap.new`,
//! where `cargo insta review` finds it too.
//!
//! Reading is insta's own [`insta::Snapshot::from_file`]. Writing is not: insta
//! makes a `Snapshot` only inside of its assertion macros, which panic, print and
//! ask cargo for the workspace. The few lines of [`write`] make the same bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::lava::series::Series;
use crate::scenario::{Matrix, Problem, Scenario};
use crate::text::printable;

/// The series of LAVA whose snapshots lie directly in a scenario's folder: Debian's.
pub const PLAIN_SERIES: Series = Series::OLDEST;

/// What is compared, in this order: the first difference is the most telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
}

/// Path of a snapshot below `expected/`.
fn below((suite, name): (&str, &str), series: Series, kind: Kind) -> PathBuf {
    let mut path = Path::new(suite).join(name);
    if series != PLAIN_SERIES {
        path.push(series.to_string());
    }
    path.push(kind.name());
    path.set_extension("snap");
    path
}

/// Suite and name.
fn place(scenario: &Scenario) -> (&str, &str) {
    (&scenario.suite, &scenario.name)
}

/// The snapshots of a repository.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// What is expected in a snapshot, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The file.
    pub path: PathBuf,
    /// Its text, without insta's header and without the newline at its end.
    pub text: String,
    /// Line of the file where the text begins, from 1.
    pub first_line: usize,
}

/// A snapshot that waits for a review.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pending {
    /// `….snap.new`.
    pub new: PathBuf,
    /// `….snap`, which may not exist yet.
    pub snap: PathBuf,
    /// Path of the snapshot below `expected/`, without its extension.
    pub name: String,
}

impl Store {
    /// The snapshots in `expected/` below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// `expected/`.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join("expected")
    }

    /// What LAVA of `series` is expected to do.
    ///
    /// # Errors
    /// [`Error::Usage`] when the file is no snapshot.
    pub fn expected(&self, scenario: &Scenario, series: Series, kind: Kind) -> Result<Option<Expected>> {
        self.expected_of(&scenario.suite, &scenario.name, series, kind)
    }

    /// [`Self::expected`] of a scenario that is known by suite and name.
    ///
    /// # Errors
    /// [`Error::Usage`] when the file is no snapshot.
    pub fn expected_of(
        &self,
        suite: &str,
        name: &str,
        series: Series,
        kind: Kind,
    ) -> Result<Option<Expected>> {
        for series in [series, PLAIN_SERIES] {
            let path = self.folder().join(below((suite, name), series, kind));
            if let Some(text) = read(&path).map_err(|problem| Error::Usage(problem.to_string()))? {
                let first_line = header_lines(&path) + 1;
                return Ok(Some(Expected { path, text, first_line }));
            }
        }
        Ok(None)
    }

    /// Leaves `text` pending.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it can't be written.
    pub fn pend(&self, scenario: &Scenario, series: Series, kind: Kind, text: &str) -> Result<PathBuf> {
        let path = self.folder().join(below(place(scenario), series, kind)).with_extension("snap.new");
        write(&path, scenario, kind, text)?;
        Ok(path)
    }

    /// Removes what an earlier run left pending and this one did not find again.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it can't be removed.
    pub fn unpend(&self, scenario: &Scenario, series: Series, kind: Kind) -> Result<()> {
        let path = self.folder().join(below(place(scenario), series, kind)).with_extension("snap.new");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Infrastructure(format!("could not remove {}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// What waits for a review, sorted.
    ///
    /// # Errors
    /// [`Error::Usage`] when a folder can't be listed.
    pub fn pending(&self) -> Result<Vec<Pending>> {
        let mut pending = Vec::new();
        for path in self.files()? {
            if !path.to_string_lossy().ends_with(".snap.new") {
                continue;
            }
            let snap = path.with_extension("");
            let below = snap.strip_prefix(self.folder()).unwrap_or(&snap).with_extension("");
            pending.push(Pending { name: below.to_string_lossy().into_owned(), new: path.clone(), snap });
        }
        pending.sort();
        Ok(pending)
    }

    /// Judges the snapshots against the scenarios: files that are no snapshots, and
    /// files that no scenario refers to.
    #[must_use]
    pub fn check(&self, matrix: &Matrix) -> Vec<Problem> {
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => return vec![Problem::new("expected", error.to_string())],
        };
        let mut problems = Vec::new();
        for path in files {
            let shown = path.strip_prefix(&self.root).unwrap_or(&path).to_path_buf();
            let below = path.strip_prefix(self.folder()).unwrap_or(&path);
            if !is_referenced(below, matrix) {
                problems.push(Problem::new(
                    shown,
                    "no scenario refers to this file; name its scenario so, or let `meta-lava accept \
                     --unreferenced` remove it",
                ));
            } else if let Err(mut problem) = read(&path) {
                problem.path = shown;
                problems.push(problem);
            }
        }
        problems
    }

    /// Files below `expected/` that no scenario refers to, sorted.
    ///
    /// # Errors
    /// [`Error::Usage`] when a folder can't be listed.
    pub fn unreferenced(&self, matrix: &Matrix) -> Result<Vec<PathBuf>> {
        let mut files = self.files()?;
        files.retain(|path| !is_referenced(path.strip_prefix(self.folder()).unwrap_or(path), matrix));
        Ok(files)
    }

    /// Scenarios of `matrix` that have no plain snapshots yet, skipped ones left out.
    #[must_use]
    pub fn without<'m>(&self, matrix: &'m Matrix) -> Vec<&'m Scenario> {
        let has = |scenario: &Scenario, kind| {
            self.folder().join(below(place(scenario), PLAIN_SERIES, kind)).exists()
        };
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

/// Whether a path below `expected/` is one that [`below`] makes.
fn is_referenced(path: &Path, matrix: &Matrix) -> bool {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    let (suite, name, file) = match parts.as_deref() {
        Some([suite, name, file]) => (*suite, *name, *file),
        Some([suite, name, series, file])
            if series.parse::<Series>().is_ok_and(|series| series != PLAIN_SERIES) =>
        {
            (*suite, *name, *file)
        }
        _ => return false,
    };
    let stem = file.strip_suffix(".snap").or_else(|| file.strip_suffix(".snap.new"));
    stem.is_some_and(|stem| Kind::ALL.iter().any(|kind| kind.name() == stem))
        && matrix.scenarios.iter().any(|scenario| scenario.suite == suite && scenario.name == name)
}

/// Text of a snapshot; `None` when there is no such file.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path) -> Result<Option<String>, Problem> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::new(path, format!("could not be read: {error}"))),
    };
    // What insta would take for its former format, with a warning on stderr.
    if !bytes.starts_with(b"---\n") {
        let message = "a snapshot begins with a line `---`, its metadata and another line `---`";
        return Err(Problem::at(path, Some((1, 1)), message));
    }
    // insta would take all of it for metadata, and nothing would be expected.
    if header_of(&bytes) == 0 {
        let message = "the metadata of a snapshot ends with a line `---`, and these have no end";
        return Err(Problem::at(path, Some((1, 1)), message));
    }
    metadata(&bytes)
        .map_err(|why| Problem::at(path, Some((2, 1)), format!("is no snapshot: its metadata: {why}")))?;
    let snapshot = insta::Snapshot::from_file(path)
        .map_err(|error| Problem::at(path, Some((1, 1)), format!("is no snapshot: {error}")))?;
    match snapshot.as_text() {
        Some(text) => Ok(Some(text.to_string().trim_end().to_owned())),
        None => Err(Problem::at(path, Some((1, 1)), "is no text snapshot")),
    }
}

/// Whether the metadata are some that insta may be given: it panics where YAML has `.nan`.
fn metadata(bytes: &[u8]) -> Result<(), String> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let text = lines[1..header_of(bytes) - 1].join(&b'\n');
    let metadata: serde_yaml::Mapping = match text.trim_ascii() {
        [] => serde_yaml::Mapping::new(),
        text => serde_yaml::from_slice(text).map_err(|error| error.to_string())?,
    };
    let simple = |value: &serde_yaml::Value| value.is_string() || value.is_i64() || value.is_bool();
    match metadata.iter().find(|(key, value)| !key.is_string() || !simple(value)) {
        None => Ok(()),
        Some((key, _)) => {
            let key = serde_yaml::to_string(key).unwrap_or_default();
            Err(format!("`{}` is not a name with a text or a whole number", printable(key.trim_end())))
        }
    }
}

/// Lines of the header of a snapshot, its two `---` included.
pub(crate) fn header_lines(path: &Path) -> usize {
    header_of(&fs::read(path).unwrap_or_default())
}

fn header_of(bytes: &[u8]) -> usize {
    let mut lines = bytes.split(|byte| *byte == b'\n').skip(1);
    lines.position(|line| line.trim_ascii_end() == b"---").map_or(0, |at| at + 2)
}

/// Writes a snapshot with insta's header, all of it or nothing.
///
/// # Errors
/// [`Error::Infrastructure`] when it can't be written.
pub fn write(path: &Path, scenario: &Scenario, kind: Kind, text: &str) -> Result<()> {
    let source = scenario.folder.join("scenario.yaml");
    let text =
        format!("---\nsource: {}\nexpression: {}\n---\n{}\n", source.display(), kind.name(), text.trim_end());
    write_whole(path, text.as_bytes())
}

/// Whether snapshots may be written: never where `CI` is set.
#[must_use]
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::tests::{folder, write as write_file};

    fn newer() -> Series {
        "2026.07".parse().unwrap()
    }

    #[test]
    fn metadata_that_no_snapshot_has_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.snap");
        for metadata in [".NAN: 1", "source: .nan", "source: .inf", "source: [x]", "x", "a: b: c", "1.5: x"] {
            fs::write(&path, format!("---\n{metadata}\n---\ntext\n")).unwrap();
            let problem = read(&path).unwrap_err();
            assert!(problem.message.contains("metadata"), "{metadata}: {problem}");
        }
        fs::write(&path, "---\nsource: a\nexpression: b\nassertion_line: 12\n---\ntext\n").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("text"));
    }

    #[test]
    fn what_is_written_is_read_back_by_insta_and_has_its_header() {
        let folder = folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let store = Store::new(folder.path());
        let bbb = &matrix.scenarios[0];
        let text = "---\nlines: like a header\n---\n\n  indented\nlast";
        let path = store.pend(bbb, PLAIN_SERIES, Kind::Log, &format!("{text}\n\n")).unwrap();
        assert_eq!(path, folder.path().join("expected/health-checks/bbb/log.snap.new"));
        let written = fs::read_to_string(&path).unwrap();
        let header = "---\nsource: jobs/health-checks/bbb/scenario.yaml\nexpression: log\n---\n";
        assert_eq!(written, format!("{header}{text}\n"));
        let snapshot = insta::Snapshot::from_file(&path).unwrap();
        assert_eq!(snapshot.metadata().expression(), Some("log"));
        assert_eq!(read(&path).unwrap().as_deref(), Some(text));
        // As `cargo insta accept` does it.
        snapshot.save(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), written);
        store.unpend(bbb, PLAIN_SERIES, Kind::Log).unwrap();
        assert!(!path.exists());
        store.unpend(bbb, PLAIN_SERIES, Kind::Log).unwrap();
    }

    #[test]
    fn a_series_has_its_own_snapshots_before_the_plain_ones() {
        let folder = folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let store = Store::new(folder.path());
        let bbb = &matrix.scenarios[0];
        let expected = |series| store.expected(bbb, series, Kind::Log).unwrap().map(|expected| expected.text);
        assert_eq!(expected(newer()), None);
        write_file(folder.path(), "expected/health-checks/bbb/log.snap", "---\nsource: x\n---\nplain\n");
        assert_eq!(expected(newer()).as_deref(), Some("plain"));
        write_file(
            folder.path(),
            "expected/health-checks/bbb/2026.07/log.snap",
            "---\nsource: x\n---\nown\n",
        );
        assert_eq!(expected(newer()).as_deref(), Some("own"));
        assert_eq!(expected(PLAIN_SERIES).as_deref(), Some("plain"));
        let path = store.pend(bbb, newer(), Kind::Log, "x").unwrap();
        assert!(path.ends_with("bbb/2026.07/log.snap.new"));
        let pending = store.pending().unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].name, "health-checks/bbb/2026.07/log");
        assert!(pending[0].snap.ends_with("bbb/2026.07/log.snap"));
    }

    #[test]
    fn a_file_that_nobody_refers_to_or_that_is_no_snapshot_is_a_problem() {
        let folder = folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let store = Store::new(folder.path());
        let good = "---\nsource: x\n---\ntext\n";
        for path in [
            "health-checks/bbb/log.snap",
            "health-checks/bbb/2026.07/log.snap",
            "health-checks/bbb/results.snap.new",
            "health-checks/gone/log.snap",
            "health-checks/bbb/journal.snap",
            "health-checks/bbb/2023.01/log.snap",
            "stray",
        ] {
            write_file(folder.path(), &format!("expected/{path}"), good);
        }
        write_file(folder.path(), "expected/health-checks/juno/log.snap", "no header\n");
        write_file(folder.path(), "expected/health-checks/juno/ledger.snap", "---\na: {\n---\n");
        write_file(folder.path(), "expected/health-checks/juno/results.snap", "---\nsource: x\n---\n\u{1}");
        let problems: Vec<String> = store
            .check(&matrix)
            .iter()
            .map(|problem| {
                format!("{}: {}", problem.path.display(), problem.message.split(' ').next().unwrap())
            })
            .collect();
        assert_eq!(
            problems,
            [
                "expected/health-checks/bbb/2023.01/log.snap: no",
                "expected/health-checks/bbb/journal.snap: no",
                "expected/health-checks/gone/log.snap: no",
                "expected/health-checks/juno/ledger.snap: is",
                "expected/health-checks/juno/log.snap: a",
                "expected/stray: no",
            ]
        );
        let without: Vec<&str> =
            store.without(&matrix).iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(without, ["bbb", "whole"]);
    }

    #[test]
    fn a_snapshot_that_is_cut_in_its_header_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.snap");
        fs::write(&path, "---\nsource: x\n  console 0 firmware> dhcp\n").unwrap();
        assert!(read(&path).unwrap_err().message.contains("have no end"));
    }

    proptest! {
        #[test]
        fn any_text_that_is_written_is_read_back(text in "(.*\n){0,6}.*") {
            static MATRIX: std::sync::LazyLock<Matrix> = std::sync::LazyLock::new(crate::scenario::tests::matrix);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log.snap");
            // A snapshot is of lines that are printable.
            let text: Vec<String> = text.lines().map(crate::text::printable).collect();
            write(&path, &MATRIX.scenarios[0], Kind::Log, &text.join("\n")).unwrap();
            let expected = text.join("\n").trim_end().to_owned();
            prop_assert_eq!(read(&path).unwrap(), Some(expected));
            prop_assert_eq!(header_lines(&path), 4);
        }

        #[test]
        fn any_bytes_are_a_snapshot_or_a_problem(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log.snap");
            fs::write(&path, [b"---\n", bytes.as_slice()].concat()).unwrap();
            let _ = (read(&path), header_lines(&path));
        }
    }
}
