//! `meta-lava coverage`: what of LAVA is covered.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::commands::print;
use crate::coverage::{self, Coverage, Inventory};
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::files::write_whole;
use crate::report::folder::newest_first;
use crate::root::{REPORTS, root};
use crate::stack::docker::Engine;
use crate::stack::images::{self, LavaArgs, Wanted};

/// Options of `coverage`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of reports: what passed in any of them counts [default: the last run in
    /// target/meta-lava]
    #[arg(value_name = "REPORT")]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    lava: LavaArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print also what is covered, and all that is missing
    #[arg(long)]
    all: bool,
    /// Where the page goes [default: coverage.html in the first report's folder]
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables for people
    Text,
    /// One JSON object
    Json,
}

/// Does it.
///
/// # Errors
/// [`Error::Usage`] without a report, or with one of another LAVA; [`Error::Infrastructure`] when LAVA could
/// not be asked.
pub async fn run(args: Args) -> Result<Exit> {
    let root = root()?;
    let reasons = coverage::load_reasons(&root)?;
    let reports = match args.reports.as_slice() {
        [] => newest_first(&root.join(REPORTS)).into_iter().take(1).collect(),
        named => named.to_vec(),
    };
    let Some(first) = reports.first() else {
        return Err(Error::Usage(format!(
            "no report of a run in {}: `meta-lava run` makes one",
            root.join(REPORTS).display()
        )));
    };
    let used = coverage::read(&reports)?;
    let mut options = args.lava;
    let names: Vec<String> = used.iter().map(|(name, _)| name.clone()).collect();
    options.or_names(&names).map_err(|error| {
        Error::Usage(format!(
            "{error}; a LAVA of other images than Debian's or upstream's is named again: --server-image and \
             --worker-image"
        ))
    })?;
    let engine = Engine::connect().await?;
    let mut all: Vec<Coverage> = Vec::new();
    for lava in options.lavas(&root).await? {
        let Some((_, used)) = used.iter().find(|(name, _)| *name == lava.name) else {
            return Err(Error::Usage(format!(
                "no run of {} is in {}; there are {}",
                lava.name,
                shown(&reports),
                names.join(", ")
            )));
        };
        let (events, told) = crate::report::lines();
        let images = images::ensure(&engine, &root, &lava, Wanted::Stack, &events).await;
        drop(events);
        let _ = told.await;
        let has = Inventory::of(&engine, &images?).await?;
        let version = &has.dispatcher.version;
        if let Some(other) = used.versions.iter().find(|other| !is_same(other, version)) {
            return Err(Error::Usage(format!(
                "{} is LAVA {version} now, and a report has it as {other}: run it again",
                lava.name
            )));
        }
        all.push(coverage::coverage(&lava.name, &has, used, &reasons)?);
    }
    let failed = |error: String| Error::failed("write the coverage", error);
    let page = args.page.unwrap_or_else(|| first.join("coverage.html"));
    write_whole(&page, coverage::page(&all).map_err(failed)?.as_bytes())?;
    match args.format {
        Format::Json => print(&coverage::json(&all).map_err(|error| failed(error.to_string()))?),
        Format::Text => {
            print(&coverage::text(&all, args.all));
            print(&format!("  {}\n", crate::print::path(&page).display()));
        }
    }
    Ok(if all.iter().all(|one| one.problems.is_empty()) { Exit::Ok } else { Exit::Differs })
}

fn shown(reports: &[PathBuf]) -> String {
    reports.iter().map(|report| report.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A package's version has Debian's part behind LAVA's.
fn is_same(one: &str, other: &str) -> bool {
    let lavas =
        |version: &str| version.split_once('-').map_or(version.to_owned(), |(lava, _)| lava.to_owned());
    lavas(one) == lavas(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packages_version_is_its_lavas() {
        assert!(is_same("2023.01", "2023.01-2") && is_same("2026.10", "2026.10"));
        assert!(!is_same("2023.01", "2026.10"));
    }
}
