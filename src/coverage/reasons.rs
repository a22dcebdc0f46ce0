//! `uncovered.yaml`: what of LAVA no scenario covers, and why not.
//!
//! ```yaml
//! - kind: boot
//!   names: [nodebooter]
//!   series: ">=2025.04"
//!   reason: ...
//! ```
//!
//! It can't hide anything: what is in it counts as missing all the same, and an entry that is no longer true
//! is a problem.

use std::path::Path;

use serde::Deserialize;

use super::{KINDS, Table};
use crate::error::Result;
use crate::lava::series::{Range, Series};
use crate::scenario::{Problem, refuse};
use crate::text::did_you_mean;

/// Its name in the root of the repository.
pub const FILE: &str = "uncovered.yaml";

/// Some things that can't be covered for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Which table of the coverage they are in.
    pub kind: String,
    /// What they are called there.
    pub names: Vec<String>,
    /// Of which LAVAs; of all where there is none.
    #[serde(default)]
    pub series: Option<Range>,
    /// Why they can't.
    pub reason: String,
}

impl Entry {
    fn is_of(&self, series: Series) -> bool {
        self.series.is_none_or(|range| range.contains(series))
    }
}

/// All entries. A repository without the file has none.
///
/// # Errors
/// [`crate::error::Error::Usage`] with every problem found.
pub fn load(root: &Path) -> Result<Vec<Entry>> {
    let (entries, problems) = load_with_problems(root);
    refuse(&problems)?;
    Ok(entries)
}

/// The entries, and what is wrong with the file.
#[must_use]
pub fn load_with_problems(root: &Path) -> (Vec<Entry>, Vec<Problem>) {
    let text = match std::fs::read_to_string(root.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(error) => return (Vec::new(), vec![Problem::new(FILE, format!("could not be read: {error}"))]),
    };
    let entries: Vec<Entry> = match serde_yaml::from_str(&text) {
        Ok(entries) => entries,
        Err(error) => return (Vec::new(), vec![Problem::yaml(FILE, &text, &error)]),
    };
    let mut problems = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let mut problem = |message: String| problems.push(Problem::new(FILE, message));
        if !KINDS.contains(&entry.kind.as_str()) {
            let hint = did_you_mean(&entry.kind, KINDS, &format!("there are {}", KINDS.join(", ")));
            problem(format!("kind: `{}` is no table of the coverage; {hint}", entry.kind));
        }
        if entry.names.is_empty() || entry.reason.trim().is_empty() {
            problem(format!("an entry of the kind `{}` has no names or no reason", entry.kind));
        }
        for name in &entry.names {
            let is_same = |other: &Entry| {
                other.kind == entry.kind && other.series == entry.series && other.names.contains(name)
            };
            if entries[..at].iter().any(is_same) {
                problem(format!("{} `{name}` is there twice", entry.kind));
            }
        }
    }
    (entries, problems)
}

/// Gives the rows of `tables` their reasons. What an entry says that is not so of a LAVA of `series` comes
/// back.
#[must_use]
pub fn apply(entries: &[Entry], series: Series, tables: &mut [Table]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_of(series)) {
        for name in &entry.names {
            let table = tables.iter_mut().find(|table| table.key == entry.kind);
            match table.and_then(|table| table.rows.iter_mut().find(|row| row.name == *name)) {
                Some(row) if row.scenarios.is_empty() => row.reason = Some(entry.reason.clone()),
                Some(row) => problems.push(Problem::new(
                    FILE,
                    format!(
                        "{} `{name}` is covered on {series}, by {}: take it out, or narrow its `series`",
                        entry.kind,
                        row.scenarios.iter().next().map_or("", String::as_str)
                    ),
                )),
                None => problems.push(Problem::new(
                    FILE,
                    format!(
                        "LAVA {series} has no {} `{name}`: take it out, or narrow its `series`",
                        entry.kind
                    ),
                )),
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::Row;
    use super::*;

    fn entries(text: &str) -> (Vec<Entry>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let (entries, problems) = load_with_problems(folder.path());
        (entries, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_repository_without_the_file_gives_no_reasons() {
        assert!(load(tempfile::tempdir().unwrap().path()).unwrap().is_empty());
    }

    #[test]
    fn mistakes_of_the_file_are_told() {
        let (_, problems) =
            entries("- {kind: boots, names: [a], reason: r}\n- {kind: boot, names: [], reason: r}\n");
        assert!(
            problems[0].contains("`boots` is no table of the coverage; did you mean boot?"),
            "{problems:?}"
        );
        assert!(problems[1].contains("no names or no reason"), "{problems:?}");
        let (_, problems) =
            entries("- {kind: boot, names: [a], reason: r}\n- {kind: boot, names: [a], reason: s}\n");
        assert_eq!(problems, ["uncovered.yaml: boot `a` is there twice"]);
        assert_eq!(entries("- {kind: boot}\n").1.len(), 1);
    }

    #[test]
    fn an_entry_that_is_not_true_of_a_lava_is_a_problem_of_this_one_only() {
        let (entries, problems) = entries(
            "- {kind: boot, names: [covered], reason: r, series: '<2026.01'}\n- {kind: boot, names: [missing, gone], reason: r}\n",
        );
        assert!(problems.is_empty());
        let row = |name: &str, by: &[&str]| Row {
            name: name.into(),
            scenarios: by.iter().map(|one| (*one).to_owned()).collect(),
            reason: None,
        };
        let tables =
            || vec![Table { key: "boot".into(), rows: vec![row("covered", &["x15"]), row("missing", &[])] }];
        let apply = |series: &str| {
            let mut tables = tables();
            let problems = apply(&entries, Series::of(series).unwrap(), &mut tables);
            assert_eq!(tables[0].rows[1].reason.as_deref(), Some("r"));
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            apply("2026.10"),
            ["uncovered.yaml: LAVA 2026.10 has no boot `gone`: take it out, or narrow its `series`"]
        );
        assert!(apply("2023.01")[0].contains("boot `covered` is covered on 2023.01, by x15"));
    }
}
