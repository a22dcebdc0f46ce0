//! `meta-lava rerun`: run what did not pass last time.

use std::path::{Path, PathBuf};

use crate::commands::run;
use crate::commands::{matrix, print};
use crate::error::{Error, Result};
use crate::event::{Outstanding, Verdict};
use crate::exit_code::Exit;
use crate::report::RunFile;
use crate::report::folder::newest_first;
use crate::root::{REPORTS, root};
use crate::scenario::{Matrix, Scenario};

/// Options of `rerun`.
#[derive(Debug, clap::Args)]
// Else it is a group of clap's with the same name as that of run's options.
#[group(skip)]
pub struct Args {
    /// Folder of the report to go by [default: the last run in target/meta-lava]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    #[command(flatten)]
    run: run::Args,
}

/// Does it.
///
/// # Errors
/// [`Error::Usage`] without a report to go by; else those of `run`.
pub async fn run(args: Args) -> Result<Exit> {
    let from = match args.from {
        Some(from) => from,
        None => last(&root()?.join(REPORTS))?,
    };
    let report = RunFile::read(&from)?;
    let matrix = matrix()?;
    let outstanding = outstanding(&report);
    let mut gone: Vec<&str> = outstanding.iter().map(|one| one.name.as_str()).collect();
    gone.retain(|name| !matrix.scenarios.iter().any(|scenario| scenario.name == *name));
    gone.dedup();
    for name in gone {
        print(&format!("{name} did not pass, and is no scenario any more\n"));
    }
    let chosen = args.run.filter.select(&matrix)?;
    let Turn { selected, lavas, later } = turn(&report, &outstanding, &chosen, args.run.has_lavas());
    if selected.is_empty() {
        print(&format!("nothing to rerun: of what is chosen all passed in {}\n", from.display()));
        return Ok(Exit::Ok);
    }
    print(&format!("rerun of {} of {}\n", count(selected.len()), from.display()));
    if later > 0 {
        print(&format!("{} of another LAVA: a further `rerun` runs that\n", count(later)));
    }
    let mut run = args.run;
    run.or_lavas(&lavas)?;
    run::run_selected(&run, &matrix, &selected, &outstanding).await
}

fn count(number: usize) -> String {
    format!("{number} scenario{}", if number == 1 { "" } else { "s" })
}

/// The report whose `run.json` is the newest.
fn last(reports: &Path) -> Result<PathBuf> {
    newest_first(reports).into_iter().next().ok_or_else(|| {
        Error::Usage(format!(
            "no report of a run in {}; name the folder of one with --from",
            reports.display()
        ))
    })
}

/// What was skipped is left out on purpose, and stays so.
fn is_outstanding(verdict: Verdict) -> bool {
    !verdict.is_good()
}

/// What a report leaves to be run: what did not pass in it, and what of earlier runs had no turn.
#[must_use]
pub(super) fn outstanding(report: &RunFile) -> Vec<Outstanding> {
    let only = report.lavas.first().filter(|_| report.named).map(|lava| lava.name.clone());
    let red = report.scenarios.iter().filter(|entry| is_outstanding(entry.verdict));
    let mut all: Vec<Outstanding> = red
        .map(|entry| Outstanding { name: entry.name.clone(), lava: entry.lava.clone().or(only.clone()) })
        .chain(report.outstanding.iter().cloned())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The same of the last report, for a run that goes by none: that one of few scenarios is run
/// meanwhile makes nobody forget the others.
#[must_use]
pub(super) fn left_by_the_last(root: &Path) -> Vec<Outstanding> {
    let report = last(&root.join(REPORTS)).and_then(|from| RunFile::read(&from));
    report.map(|report| outstanding(&report)).unwrap_or_default()
}

/// What of `outstanding` stays so once `selected` ran on the LAVAs of these names, or on the
/// default where there are none. What is no scenario any more does not.
#[must_use]
pub(super) fn still(
    outstanding: &[Outstanding],
    matrix: &Matrix,
    selected: &[&Scenario],
    lavas: &[String],
) -> Vec<Outstanding> {
    let has_its_turn = |one: &Outstanding| {
        let on_it = one.lava.as_ref().map_or(lavas.is_empty(), |lava| lavas.contains(lava));
        on_it && selected.iter().any(|scenario| scenario.name == one.name)
    };
    let is_there = |one: &Outstanding| matrix.scenarios.iter().any(|scenario| scenario.name == one.name);
    outstanding.iter().filter(|one| is_there(one) && !has_its_turn(one)).cloned().collect()
}

/// What one rerun can run.
struct Turn<'m> {
    selected: Vec<&'m Scenario>,
    /// On which LAVAs; on the default where there are none.
    lavas: Vec<String>,
    /// How many there are that it can't, since they are of the default and these are not, or
    /// the other way round.
    later: usize,
}

fn turn<'m>(report: &RunFile, all: &[Outstanding], chosen: &[&'m Scenario], has_lavas: bool) -> Turn<'m> {
    let of = |fits: &dyn Fn(&Outstanding) -> bool| -> Vec<&'m Scenario> {
        let is_one = |scenario: &&&Scenario| all.iter().any(|one| one.name == scenario.name && fits(one));
        chosen.iter().filter(is_one).copied().collect()
    };
    if has_lavas {
        return Turn { selected: of(&|_| true), lavas: Vec::new(), later: 0 };
    }
    let (named, plain) = (of(&|one| one.lava.is_some()), of(&|one| one.lava.is_none()));
    let by_name = if named.is_empty() || plain.is_empty() { plain.is_empty() } else { report.named };
    if !by_name {
        return Turn { selected: plain, lavas: Vec::new(), later: named.len() };
    }
    let mut lavas: Vec<String> = Vec::new();
    for one in all.iter().filter(|one| named.iter().any(|scenario| scenario.name == one.name)) {
        lavas.extend(one.lava.iter().filter(|lava| !lavas.contains(lava)).cloned().collect::<Vec<_>>());
    }
    // In the order in which they were asked for.
    let place = |name: &String| report.lavas.iter().position(|lava| lava.name == *name);
    lavas.sort_by_key(|name| place(name).unwrap_or(usize::MAX));
    Turn { selected: named, lavas, later: plain.len() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::tests::{run as finished, settings};
    use crate::scenario::tests::folder;

    #[test]
    fn what_passed_and_what_is_skipped_is_left_out() {
        let repository = folder();
        let matrix = Matrix::load(repository.path()).unwrap();
        let report = repository.path().join("report");
        let _ = crate::report::write(finished(&report), settings(repository.path()));
        let report = RunFile::read(&report).unwrap();
        let all = outstanding(&report);
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["juno", "late", "new", "qemu", "x15"]);
        let chosen: Vec<&Scenario> = matrix.scenarios.iter().collect();
        let turn = |chosen: &[&Scenario]| {
            let selected = turn(&report, &all, chosen, false).selected;
            selected.iter().map(|scenario| scenario.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(turn(&chosen), ["juno"]);
        assert!(turn(&[]).is_empty());
    }

    /// A report of `verdicts`, on the LAVAs of these names.
    fn report_of(lavas: &[&str], verdicts: &[(&str, Verdict)], outstanding: Vec<Outstanding>) -> RunFile {
        let entry = |lava: Option<&str>, name: &str, verdict: Verdict| {
            serde_json::json!({ "name": name, "suite": "s", "lava": lava, "device_types": [],
                "verdict": verdict, "seconds": 1.0, "first_difference": null })
        };
        let several = lavas.len() > 1;
        let scenarios: Vec<_> = lavas
            .iter()
            .map(Some)
            .chain(lavas.is_empty().then_some(None))
            .flat_map(|lava| {
                let lava = lava.copied().filter(|_| several);
                verdicts.iter().map(move |(name, verdict)| entry(lava, name, *verdict))
            })
            .collect();
        let names: Vec<_> = lavas.iter().map(|name| serde_json::json!({ "name": name })).collect();
        serde_json::from_value(serde_json::json!({
            "version": 1, "lava": null, "lavas": names, "named": !lavas.is_empty(), "seconds": 1.0,
            "phases": {}, "totals": {}, "outstanding": outstanding, "scenarios": scenarios,
        }))
        .unwrap()
    }

    #[test]
    fn what_is_outstanding_stays_so_until_it_ran() {
        use Verdict::{Differs, NotRun, Pass};
        let repository = folder();
        let matrix = Matrix::load(repository.path()).unwrap();
        let all: Vec<&Scenario> = matrix.scenarios.iter().collect();
        let names = |ones: &[Outstanding]| ones.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        // Interrupted, then one of them was run and passed, and one again did not.
        let first = report_of(&[], &[("bbb", Pass), ("juno", NotRun), ("whole", NotRun)], Vec::new());
        let left = still(&outstanding(&first), &matrix, &all[1..2], &[]);
        assert_eq!(names(&left), ["whole"]);
        let second = report_of(&[], &[("juno", Pass)], left.clone());
        assert_eq!(names(&outstanding(&second)), ["whole"]);
        let second = report_of(&[], &[("juno", Differs)], left);
        assert_eq!(names(&outstanding(&second)), ["juno", "whole"]);
        assert_eq!(turn(&second, &outstanding(&second), &all, false).selected.len(), 2);
        assert!(still(&outstanding(&second), &matrix, &all, &[]).is_empty());
        // On another LAVA it did not run.
        assert_eq!(still(&outstanding(&second), &matrix, &all, &["debian:sid".into()]).len(), 2);
    }

    #[test]
    fn each_lava_has_what_is_outstanding_on_it() {
        use Verdict::{Differs, Pass};
        let repository = folder();
        let matrix = Matrix::load(repository.path()).unwrap();
        let all: Vec<&Scenario> = matrix.scenarios.iter().collect();
        let plain = vec![Outstanding { name: "whole".into(), lava: None }];
        let one = report_of(&["git"], &[("bbb", Differs), ("juno", Pass)], plain);
        let found = outstanding(&one);
        let of_this = turn(&one, &found, &all, false);
        assert_eq!((of_this.selected[0].name.as_str(), of_this.later), ("bbb", 1));
        assert_eq!(of_this.lavas, ["git"]);
        let left = still(&found, &matrix, &of_this.selected, &of_this.lavas);
        let then = report_of(&["git"], &[("bbb", Pass)], left);
        let next = turn(&then, &outstanding(&then), &all, false);
        assert_eq!((next.selected[0].name.as_str(), next.lavas.len(), next.later), ("whole", 0, 0));
        let two = report_of(&["debian", "git"], &[("bbb", Differs)], Vec::new());
        assert_eq!(turn(&two, &outstanding(&two), &all, false).lavas, ["debian", "git"]);
    }

    #[test]
    fn the_last_report_is_the_newest_and_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(last(&folder.path().join("none")), Err(Error::Usage(_))));
        assert!(last(folder.path()).unwrap_err().to_string().contains("--from"));
        for (name, age) in [("b", 1), ("a", 3), ("up", 9)] {
            fs::create_dir(folder.path().join(name)).unwrap();
            if name != "up" {
                let file = fs::File::create(folder.path().join(name).join("run.json")).unwrap();
                file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(age)).unwrap();
            }
        }
        assert_eq!(last(folder.path()).unwrap(), folder.path().join("a"));
    }
}
