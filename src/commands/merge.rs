//! `meta-lava merge`: one report of those of a partition's parts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::judge::snapshot;
use crate::report::{self, Look, RunFile, Settings};
use crate::root::{REPORTS, root};
use crate::stack::sweep;

/// Options of `merge`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of the parts' reports
    #[arg(value_name = "DIR", required = true)]
    parts: Vec<PathBuf>,
    /// Folder of the report that is made of them [default: target/meta-lava/<new name>]
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print less: only the summary
    #[arg(short, long)]
    quiet: bool,
}

/// Does it; ends as a run of all of it would have.
///
/// # Errors
/// [`Error::Usage`] for what are no parts of one run, [`Error::Infrastructure`] when
/// the report can't be written.
pub async fn run(args: Args) -> Result<Exit> {
    let root = root()?;
    let name = sweep::new_run_name();
    let folder = args.report.unwrap_or_else(|| root.join(REPORTS).join(&name));
    let parts = args
        .parts
        .into_iter()
        .map(|part| RunFile::read(&part).map(|file| (part, file)))
        .collect::<Result<Vec<_>>>()?;
    let places: Vec<(PathBuf, String, Vec<PathBuf>)> = parts
        .iter()
        .enumerate()
        .map(|(number, (part, file))| {
            let scenarios = file.scenarios.iter();
            let below =
                scenarios.map(|one| Path::new("scenarios").join(&one.suite).join(&one.name)).collect();
            let name =
                if sweep::is_run_name(&file.run) { file.run.clone() } else { (number + 1).to_string() };
            (part.clone(), name, below)
        })
        .collect();
    let all = report::merge(&name, &folder, parts)?;
    report::folder::check(&folder)?;
    for (part, name, scenarios) in places {
        for below in scenarios {
            copy(&part.join(&below), &folder.join(&below))?;
        }
        copy(&part.join("raw"), &folder.join("raw").join(name))?;
    }
    let look = Look::of_stderr(args.quiet, false);
    let summary = report::write(all, Settings { root, look, strict: snapshot::in_ci() });
    summary.failed.into_iter().next().map_or(Ok(summary.exit), Err)
}

/// Copies folders and files; what else there may be is no report's. A scenario that
/// was skipped has no folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fn walk(from: &Path, to: &Path) -> io::Result<()> {
        let kind = fs::symlink_metadata(from)?.file_type();
        if kind.is_dir() {
            fs::create_dir_all(to)?;
            for entry in fs::read_dir(from)? {
                let name = entry?.file_name();
                walk(&from.join(&name), &to.join(&name))?;
            }
        } else if kind.is_file() {
            fs::copy(from, to)?;
        }
        Ok(())
    }
    if !from.exists() {
        return Ok(());
    }
    walk(from, to)
        .map_err(|error| Error::failed(format!("copy {} to {}", from.display(), to.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{run as finished, settings};
    use crate::scenario::tests::write;

    /// A part's report with the scenarios at `rows`.
    fn part(folder: &Path, rows: std::ops::Range<usize>) -> PathBuf {
        let report = folder.join(format!("part-{}", rows.start));
        let mut run = finished(&report);
        run.name = format!("run-{}", rows.start);
        run.rows = run.rows.drain(rows).collect();
        for row in &run.rows {
            write(&report.join(row.folder()), "raw/log.yaml", &row.info.name);
        }
        write(&report, "raw/server.log", "log");
        let _ = report::write(run, settings(folder));
        report
    }

    fn two_parts(folder: &Path) -> Args {
        let parts = vec![part(folder, 0..3), part(folder, 3..9)];
        Args { parts, report: Some(folder.join("all")), quiet: true }
    }

    #[tokio::test]
    async fn the_merged_report_has_the_files_of_all_parts_and_ends_as_the_whole_run() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(run(two_parts(folder.path())).await.unwrap(), Exit::Differs);
        let all = folder.path().join("all");
        for file in ["run.json", "junit.xml", "index.html", "raw/run-0/server.log", "raw/run-3/server.log"] {
            assert!(all.join(file).is_file(), "{file}");
        }
        for name in ["bbb", "late"] {
            let log = all.join("scenarios/health-checks").join(name).join("raw/log.yaml");
            assert_eq!(fs::read_to_string(log).unwrap(), name);
        }
        assert_eq!(RunFile::read(&all).unwrap().scenarios.len(), 9);
    }

    #[tokio::test]
    async fn a_folder_that_has_something_is_not_merged_into() {
        let folder = tempfile::tempdir().unwrap();
        let args = two_parts(folder.path());
        write(folder.path(), "all/other", "");
        assert!(matches!(run(args).await, Err(Error::Usage(why)) if why.contains("not empty")));
    }
}
