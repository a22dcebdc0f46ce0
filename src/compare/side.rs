//! One side of a comparison: what a LAVA did with the scenarios of a run, as its report keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::items::Texts;
use crate::error::{Error, Result};
use crate::event::{About, Verdict, lava_folder};
use crate::judge::change::Names;
use crate::judge::snapshot::{self, Kind};
use crate::report::{Row, Run, RunFile};
use crate::text::printable;

/// A LAVA's scenarios in a report.
#[derive(Debug)]
pub struct Side {
    /// As it was asked for: `debian:sid`, or a folder.
    pub name: String,
    /// What the LAVA is made of.
    pub about: About,
    /// Name of the run.
    pub run: String,
    /// The report's folder.
    folder: PathBuf,
    /// What ran in it, whatever was chosen to be compared: as many jobs as that shared the machine.
    ran: BTreeSet<(String, String)>,
    rows: BTreeMap<(String, String), Row>,
}

impl Side {
    /// Reads the report in `folder`: one of a single LAVA, or the folder that a LAVA has in a report of
    /// several.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is none, or it is of several LAVAs.
    pub fn read(folder: &Path) -> Result<Self> {
        let name = folder.display().to_string();
        if !folder.join("run.json").exists()
            && let (Some(parent), Some(own)) = (folder.parent(), folder.file_name())
            && parent.join("run.json").exists()
        {
            let own = own.to_string_lossy();
            let file = RunFile::read(parent)?;
            let lava = file.scenarios.iter().filter_map(|one| one.lava.clone());
            let lava = lava.into_iter().find(|lava| lava_folder(lava) == own);
            let lava = lava.ok_or_else(|| {
                Error::Usage(format!("{name} is not the folder of a LAVA in the report {}", parent.display()))
            })?;
            return Self::of(name, file.into_run(parent), Some(&lava));
        }
        let run = RunFile::read(folder)?.into_run(folder);
        let mut lavas: Vec<&str> = run.rows.iter().filter_map(|row| row.lava.as_deref()).collect();
        lavas.dedup();
        if lavas.len() > 1 {
            let of: Vec<String> =
                lavas.iter().map(|lava| folder.join(lava_folder(lava)).display().to_string()).collect();
            return Err(Error::Usage(format!(
                "{name} is a report of several LAVAs; name the folder of one of them: {}",
                printable(&of.join(", "))
            )));
        }
        let lava = lavas.first().map(|lava| (*lava).to_owned());
        Self::of(name, run, lava.as_deref())
    }

    /// What `lava` did in `run`; the only LAVA of it where there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] where a scenario is there twice.
    fn of(name: String, run: Run, lava: Option<&str>) -> Result<Self> {
        let about = match lava {
            Some(lava) => run.lavas.iter().find(|about| about.name == lava),
            None => run.lavas.first(),
        };
        let about = about.cloned().unwrap_or_default();
        let mut rows = BTreeMap::new();
        for row in run.rows.into_iter().filter(|row| row.lava.as_deref() == lava) {
            let key = (row.info.suite.clone(), row.info.name.clone());
            if let Some(twice) = rows.insert(key, row) {
                return Err(Error::Usage(format!(
                    "{name} is no report to compare: it has {} twice",
                    printable(&twice.id())
                )));
            }
        }
        let did_run = |row: &Row| !matches!(row.verdict(), Verdict::Skipped | Verdict::NotRun);
        let ran = rows.iter().filter(|(_, row)| did_run(row)).map(|(key, _)| key.clone()).collect();
        Ok(Self { name, about, run: run.name, folder: run.report, ran, rows })
    }

    /// Leaves only those scenarios that are `wanted`, by suite and name.
    pub fn retain(&mut self, wanted: impl Fn(&str, &str) -> bool) {
        self.rows.retain(|(suite, name), _| wanted(suite, name));
    }

    /// Whether nearly the same jobs ran on both sides, so that each had as many others beside it.
    #[must_use]
    pub fn ran_the_same(&self, other: &Self) -> bool {
        let apart = self.ran.symmetric_difference(&other.ran).count();
        apart * 10 <= self.ran.len().max(other.ran.len())
    }

    /// The scenarios, by suite and name.
    pub fn scenarios(&self) -> impl Iterator<Item = &(String, String)> {
        self.rows.keys()
    }

    /// A scenario's row.
    #[must_use]
    pub fn row(&self, scenario: &(String, String)) -> Option<&Row> {
        self.rows.get(scenario)
    }

    /// The texts of a scenario that LAVA has answered.
    ///
    /// # Errors
    /// [`Error::Usage`] when one is missing, or no snapshot.
    pub fn texts(&self, row: &Row) -> Result<Texts> {
        let mut texts = Texts::default();
        for (text, kind) in texts.iter_mut().zip(Kind::ALL) {
            let path = kind.kept_in(&self.folder.join(row.folder()));
            let read = snapshot::read(&path)
                .map_err(|problem| Error::Usage(format!("{} can't be compared: {problem}", self.name)))?;
            *text = read.ok_or_else(|| {
                Error::Usage(format!(
                    "{} can't be compared: {} is `{}` in it, and {} is not there",
                    self.name,
                    printable(&row.id()),
                    row.verdict().name(),
                    path.display()
                ))
            })?;
        }
        Ok(texts)
    }
}

/// Whether LAVA has answered, so that there is something to compare.
#[must_use]
pub fn is_answered(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Pass | Verdict::Differs | Verdict::Fixed | Verdict::New => true,
        Verdict::Timeout | Verdict::Error | Verdict::Skipped | Verdict::NotRun => false,
    }
}

/// A scenario's own names, as its row and its ledger tell them.
#[must_use]
pub fn names(row: &Row, ledger: &str) -> Names {
    let boards = ledger.lines().filter_map(|line| line.strip_prefix("board "));
    let boards = boards.map(|board| (board.to_owned(), "[BOARD]"));
    let types = row.info.device_types.iter().map(|name| (name.clone(), "[DEVICE_TYPE]"));
    Names::new(boards.chain(types).chain([(row.info.name.clone(), "[SCENARIO]")]))
}
