//! `meta-lava compare`: two LAVAs, or two reports, side by side.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::commands::{matrix, print, rerun, run as run_command};
use crate::compare::{Comparison, FailOn, Look, Side, compare};
use crate::error::{Error, Result};
use crate::event::lava_folder;
use crate::exit_code::Exit;
use crate::files::write_whole;
use crate::report;
use crate::root::{REPORTS, root};
use crate::run::session::StackArgs;
use crate::scenario::filter::FilterArgs;
use crate::stack::images::Which;
use crate::stack::sweep;

/// Options of `compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The first side: a LAVA as `run --lava` names it, or the folder of a report
    #[arg(value_name = "A")]
    a: String,
    /// The second side
    #[arg(value_name = "B")]
    b: String,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Exit with 1 when something of this kind differs; may be repeated, or a list with commas
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    fail_on: Vec<FailOn>,
    /// Folder of the report, which also has the runs [default: target/meta-lava/<new name>]
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Workers of each LAVA
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Jobs at once [default: what this machine's cores bear]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Ask Debian's archive for newer LAVAs, whatever is known
    #[arg(long)]
    refresh: bool,
    /// Print less: causes without examples
    #[arg(short, long)]
    quiet: bool,
    /// Print more: every step of every job
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

/// What a side is named by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    /// A LAVA, which is run.
    Lava(Which),
    /// A report that is there.
    Report(PathBuf),
}

impl Named {
    /// What `--lava` takes is a LAVA; a folder that is called so is named with its place: `./debian`.
    fn read(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(which) => Ok(Self::Lava(which)),
            Err(why) if !Path::new(text).is_dir() => Err(Error::Usage(format!(
                "{text:?} is neither a LAVA nor the folder of a report: as a LAVA, {why}; as a folder, it is \
                 not there"
            ))),
            Err(_) => Ok(Self::Report(PathBuf::from(text))),
        }
    }
}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<Exit> {
    let named = [Named::read(&args.a)?, Named::read(&args.b)?];
    if named[0] == named[1]
        && let Named::Lava(which) = &named[0]
    {
        return Err(Error::Usage(format!(
            "{which} on both sides is one LAVA; to compare two runs of it, give each of them a --report and \
             compare these folders"
        )));
    }
    let root = root()?;
    let folder = args.report.clone().unwrap_or_else(|| root.join(REPORTS).join(sweep::new_run_name()));
    report::folder::check(&folder)?;
    // What can't be read is told before anything runs.
    let (mut sides, mut lavas) = (Vec::new(), Vec::new());
    for one in &named {
        sides.push(match one {
            Named::Report(report) => Some(Side::read(report)?),
            Named::Lava(which) => {
                lavas.push(which.clone());
                None
            }
        });
    }
    if !lavas.is_empty() {
        run_lavas(&args, lavas.clone(), &folder).await?;
    }
    let wanted = wanted(&args.filter)?;
    let mut read = Vec::new();
    for (side, named) in sides.into_iter().zip(&named) {
        let mut side = match (side, named) {
            (Some(side), _) => side,
            (None, Named::Lava(which)) if lavas.len() > 1 => {
                Side::read(&folder.join(lava_folder(&which.to_string())))?
            }
            (None, _) => Side::read(&folder)?,
        };
        if let Named::Lava(which) = named {
            side.name = which.to_string();
        }
        if let Some(wanted) = &wanted {
            side.retain(|suite, name| wanted.contains(&(suite.to_owned(), name.to_owned())));
        }
        read.push(side);
    }
    let comparison = compare(&read[0], &read[1])?;
    write(&comparison, &folder)?;
    print(&comparison.text(Look::of_stdout(args.quiet)));
    print(&format!("  {}\n", crate::print::path(&folder.join("compare.html")).display()));
    if comparison.compared() == 0 && comparison.groups.is_empty() {
        return Err(Error::infrastructure(format!(
            "nothing was compared: no scenario has an answer in {} or in {}",
            args.a, args.b
        )));
    }
    Ok(if comparison.fails(&args.fail_on) { Exit::Differs } else { Exit::Ok })
}

/// Runs the scenarios on the LAVAs, one after the other, with the report in `folder`. What is not as
/// expected is no failure here.
async fn run_lavas(args: &Args, lavas: Vec<Which>, folder: &Path) -> Result<()> {
    let matrix = matrix()?;
    let selected = args.filter.select(&matrix)?;
    let outstanding = rerun::left_by_the_last(&root()?);
    let stack = StackArgs::of(lavas, args.refresh, args.jobs, folder.to_owned());
    let run = run_command::Args::of(args.filter.clone(), stack, args.workers, args.quiet, args.verbose);
    match run_command::run_selected(&run, &matrix, &selected, &outstanding).await? {
        Exit::Interrupted => Err(Error::Interrupted),
        _ => Ok(()),
    }
}

/// The scenarios that the options choose, by suite and name; `None` where they choose none, so that also
/// those are compared that are no scenarios any more.
fn wanted(filter: &FilterArgs) -> Result<Option<BTreeSet<(String, String)>>> {
    if !filter.is_given() {
        return Ok(None);
    }
    let matrix = matrix()?;
    let chosen = filter.select(&matrix)?;
    Ok(Some(chosen.into_iter().map(|scenario| (scenario.suite.clone(), scenario.name.clone())).collect()))
}

fn write(comparison: &Comparison, folder: &Path) -> Result<()> {
    let failed = |name: &str, why: String| Error::failed(format!("make {name}"), why);
    let json = comparison.json().map_err(|why| failed("compare.json", why))?;
    let page = comparison.page().map_err(|why| failed("compare.html", why))?;
    for (name, text) in
        [("compare.json", json), ("compare.html", page), ("compare.md", comparison.markdown())]
    {
        write_whole(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}
