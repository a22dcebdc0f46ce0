//! `meta-lava report`: a defect of LAVA's as an issue that can be pasted into its tracker.

use std::path::{Path, PathBuf};

use crate::commands::show::Of;
use crate::commands::{matrix, one, print};
use crate::error::{Error, Result};
use crate::event::{About, Verdict};
use crate::exit_code::Exit;
use crate::judge::defect::{Texts, is_in};
use crate::judge::snapshot::{self, Id, Kind, Store};
use crate::lava::series::Series;
use crate::report::RunFile;
use crate::report::folder::newest_first;
use crate::report::issue::Issue;
use crate::root::{REPORTS, root};
use crate::scenario::{Defect, Matrix, Scenario};
use crate::stack::images::Lava;

/// Options of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario that shows it
    name: String,
    /// Folder of the report of a run to go by [default: the newest in target/meta-lava that has the scenario;
    /// without one, what is expected]
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Of which LAVA: a series such as 2026.10, or a name such as `debian:sid` [default: the newest that shows
    /// it]
    #[arg(long, value_name = "WHICH")]
    lava: Option<Of>,
}

/// What LAVA did, and which LAVA it was.
#[derive(Debug)]
struct Source {
    series: Series,
    about: About,
    /// The three texts.
    texts: [String; 3],
    /// Why a run does not call it as expected.
    differs: Option<String>,
    /// Where this comes from.
    words: String,
}

impl Source {
    fn texts(&self) -> Texts<'_> {
        std::array::from_fn(|at| self.texts[at].as_str())
    }

    /// What of a scenario's defects it shows.
    fn shown<'s>(&self, scenario: &'s Scenario) -> Vec<&'s Defect> {
        let known = scenario.defects_on(self.series).into_iter();
        known.filter(|defect| is_in(&defect.shows, self.texts())).collect()
    }
}

/// Prints an issue for each defect that a scenario shows.
///
/// # Errors
/// [`Error::NoMatch`] when there is no such scenario, or nothing to report of it; [`Error::Usage`] for a
/// report that is none.
pub async fn run(args: Args) -> Result<Exit> {
    let (root, matrix) = (root()?, matrix()?);
    let scenario = one(&matrix, &args.name)?;
    let store = Store::new(&root);
    let source = match &args.report {
        Some(folder) => {
            let found = kept(folder, scenario, args.lava.as_ref())?;
            found.into_iter().find(|source| is_of_use(source, scenario))
        }
        None => {
            // A report that can't be read is not the one that is meant.
            let reports = newest_first(&root.join(REPORTS)).into_iter();
            let mut found =
                reports.flat_map(|folder| kept(&folder, scenario, args.lava.as_ref()).unwrap_or_default());
            match found.find(|source| is_of_use(source, scenario)) {
                Some(source) => Some(source),
                None => expected(&store, scenario, args.lava, &root).await?,
            }
        }
    };
    let source = source.ok_or_else(|| nothing(scenario))?;
    print(&issues(&matrix, &store, scenario, &source)?);
    Ok(Exit::Ok)
}

/// Whether there is something in it to report.
fn is_of_use(source: &Source, scenario: &Scenario) -> bool {
    source.differs.is_some() || !source.shown(scenario).is_empty()
}

fn nothing(scenario: &Scenario) -> Error {
    let why = if scenario.defects.is_empty() {
        format!(
            "it names no defect of LAVA's (`defect` in {}), and differs in no report of a run",
            scenario.file().display()
        )
    } else {
        "no LAVA that was asked for shows a defect that it names".to_owned()
    };
    Error::NoMatch(format!("there is nothing to report of {}: {why}", scenario.name))
}

/// What the report in `folder` has of a scenario, the newest LAVA first.
fn kept(folder: &Path, scenario: &Scenario, lava: Option<&Of>) -> Result<Vec<Source>> {
    let run = RunFile::read(folder)?.into_run(folder);
    let mut found = Vec::new();
    for row in run.rows.iter().filter(|row| row.info.name == scenario.name) {
        let of = |about: &&About| row.lava.is_none() || row.lava.as_deref() == Some(about.name.as_str());
        let Some(about) = run.lavas.iter().find(of) else { continue };
        let Some(series) = about.version.as_deref().and_then(|version| Series::of(version).ok()) else {
            continue;
        };
        let is_asked_for = lava.is_none_or(|lava| match lava {
            Of::Series(wanted) => *wanted == series,
            Of::Lava(which) => which.to_string() == about.name,
        });
        let place = folder.join(row.folder());
        let read = |kind: Kind| {
            let path = kind.kept_in(&place);
            snapshot::read(&path).map_err(|problem| Error::Usage(problem.to_string()))
        };
        if !is_asked_for
            || !matches!(row.verdict(), Verdict::Pass | Verdict::Differs | Verdict::New | Verdict::Timeout)
        {
            continue;
        }
        let [Some(results), Some(ledger), Some(log)] =
            [read(Kind::Results)?, read(Kind::Ledger)?, read(Kind::Log)?]
        else {
            continue;
        };
        let reason = || row.outcome.as_ref().and_then(|outcome| outcome.reason.clone()).unwrap_or_default();
        let differs = matches!(row.verdict(), Verdict::Differs | Verdict::Timeout).then(reason);
        let words = format!("What is quoted is of the run {}.", run.name);
        found.push(Source { series, about: about.clone(), texts: [results, ledger, log], differs, words });
    }
    found.sort_by_key(|source| std::cmp::Reverse(source.series));
    Ok(found)
}

/// What LAVA is expected to do, of the newest series that shows a defect.
async fn expected(
    store: &Store,
    scenario: &Scenario,
    lava: Option<Of>,
    root: &Path,
) -> Result<Option<Source>> {
    let all = match lava {
        Some(of) => vec![of.series(root).await?],
        None => known_series(store)?,
    };
    for series in all.into_iter().rev() {
        let Some(texts) = texts(store, scenario, series)? else { continue };
        let words = format!("What is quoted is what LAVA {series} does in each run.");
        let (name, version) =
            Lava::remembered(root, series).unwrap_or_else(|| (String::new(), series.to_string()));
        let about = About { name, version: Some(version), ..About::default() };
        let source = Source { series, about, texts, differs: None, words };
        if !source.shown(scenario).is_empty() {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// The series that something is expected of, the oldest first.
fn known_series(store: &Store) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = store.ids()?.into_iter().map(|id| id.series).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// What is expected of a scenario; `None` where it is not all known.
fn texts(store: &Store, scenario: &Scenario, series: Series) -> Result<Option<[String; 3]>> {
    let mut texts: [String; 3] = Default::default();
    for (text, kind) in texts.iter_mut().zip(Kind::ALL) {
        match store.expected(&Id::of(scenario, series, kind))? {
            Some(expected) => *text = expected.text.to_string(),
            None => return Ok(None),
        }
    }
    Ok(Some(texts))
}

/// An issue for each defect that shows; one for the difference where none does.
fn issues(matrix: &Matrix, store: &Store, scenario: &Scenario, source: &Source) -> Result<String> {
    let rendered =
        matrix.render(scenario, source.series).map_err(|problem| Error::Usage(problem.to_string()))?;
    let mut models: Vec<String> = scenario.roles.iter().map(|role| role.model().to_owned()).collect();
    models.dedup();
    let parts: Vec<(&'static str, String)> =
        source.about.parts().into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    let which = match source.about.name.as_str() {
        "" => String::new(),
        name => format!("--lava {name} "),
    };
    let command = format!("meta-lava run {which}{}", scenario.name);
    let lava = source.about.version.clone().unwrap_or_else(|| source.series.to_string());
    let issue = Issue {
        name: &scenario.name,
        models: &models,
        lava: &lava,
        parts: &parts,
        source: &source.words,
        others: "",
        rendered: &rendered,
        found: source.texts(),
        command: &command,
    };
    let shown = source.shown(scenario);
    if shown.is_empty() {
        let expected = texts(store, scenario, source.series)?;
        let expected = expected.ok_or_else(|| nothing(scenario))?;
        let expected: Texts<'_> = std::array::from_fn(|at| expected[at].as_str());
        return Ok(issue.of_difference(source.differs.as_deref().unwrap_or_default(), expected));
    }
    let mut text = Vec::new();
    for defect in shown {
        let others = others(store, scenario, defect, source.series)?;
        text.push(Issue { others: &others, ..issue }.of_defect(defect));
    }
    Ok(text.join("\n---\n\n"))
}

/// Which other series were seen to have it, and which not.
fn others(store: &Store, scenario: &Scenario, defect: &Defect, this: Series) -> Result<String> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for series in known_series(store)?.into_iter().filter(|series| *series != this) {
        if scenario.skipped_on(series).is_some() {
            continue;
        }
        let Some(texts) = texts(store, scenario, series)? else { continue };
        let texts: Texts<'_> = std::array::from_fn(|at| texts[at].as_str());
        if is_in(&defect.shows, texts) {
            with.push(series.to_string())
        } else {
            without.push(series.to_string())
        }
    }
    let mut said = Vec::new();
    if !with.is_empty() {
        let verb = if with.len() == 1 { "does" } else { "do" };
        said.push(format!("{} {verb} the same", with.join(" and ")));
    }
    if !without.is_empty() {
        let verb = if without.len() == 1 { "does" } else { "do" };
        said.push(format!("{} {verb} not", without.join(" and ")));
    }
    Ok(said.join("; "))
}
