//! `meta-lava rerun`: run what did not pass last time.

use std::fs;
use std::path::{Path, PathBuf};

use crate::commands::run;
use crate::commands::{matrix, print};
use crate::error::{Error, Result};
use crate::event::Verdict;
use crate::exit_code::Exit;
use crate::report::RunFile;
use crate::root::root;
use crate::run::session::REPORTS;
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
    let (selected, gone) = outstanding(&report, &matrix, args.run.filter.select(&matrix)?);
    for name in gone {
        print(&format!("{name} did not pass, and is no scenario any more\n"));
    }
    if selected.is_empty() {
        print(&format!("nothing to rerun: of what is chosen all passed in {}\n", from.display()));
        return Ok(Exit::Ok);
    }
    print(&format!("rerun of {} of {}\n", count(selected.len()), from.display()));
    let mut run = args.run;
    if report.named {
        // On the LAVAs on which something did not pass.
        let red = |name: &String| {
            report
                .scenarios
                .iter()
                .any(|one| one.lava.as_ref().is_none_or(|lava| lava == name) && is_outstanding(one.verdict))
        };
        let names: Vec<String> =
            report.lavas.iter().map(|lava| lava.name.clone()).filter(|name| red(name)).collect();
        run.or_lavas(&names)?;
    }
    run::run_selected(&run, &matrix, &selected).await
}

fn count(number: usize) -> String {
    format!("{number} scenario{}", if number == 1 { "" } else { "s" })
}

/// The report whose `run.json` is the newest.
fn last(reports: &Path) -> Result<PathBuf> {
    let none = || {
        Error::Usage(format!(
            "no report of a run in {}; name the folder of one with --from",
            reports.display()
        ))
    };
    let folders = fs::read_dir(reports).map_err(|_| none())?;
    folders
        .filter_map(|folder| {
            let path = folder.ok()?.path();
            let modified = fs::metadata(path.join("run.json")).ok()?.modified().ok()?;
            Some((modified, path))
        })
        .max()
        .map(|(_, path)| path)
        .ok_or_else(none)
}

/// What was skipped is left out on purpose, and stays so.
fn is_outstanding(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Pass | Verdict::Skipped)
}

/// Those of `chosen` that did not pass in `report`, and the names of those that are no
/// scenario any more. What was skipped is left out on purpose, and stays so.
fn outstanding<'m>(
    report: &RunFile,
    matrix: &Matrix,
    chosen: Vec<&'m Scenario>,
) -> (Vec<&'m Scenario>, Vec<String>) {
    let red: Vec<&str> = report
        .scenarios
        .iter()
        .filter(|entry| is_outstanding(entry.verdict))
        .map(|entry| entry.name.as_str())
        .collect();
    let known = |name: &&&str| matrix.scenarios.iter().any(|scenario| scenario.name == **name);
    let gone = red.iter().filter(|name| !known(name)).map(ToString::to_string).collect();
    (chosen.into_iter().filter(|scenario| red.contains(&scenario.name.as_str())).collect(), gone)
}

#[cfg(test)]
mod tests {
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
        let (red, gone) = outstanding(&report, &matrix, matrix.scenarios.iter().collect());
        assert_eq!(red.iter().map(|scenario| scenario.name.as_str()).collect::<Vec<_>>(), ["juno"]);
        assert_eq!(gone, ["x15", "qemu", "new", "late"]);
        assert!(outstanding(&report, &matrix, Vec::new()).0.is_empty());
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
