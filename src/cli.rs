//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::text::nearest;
use crate::{commands, print};

/// Lines of help are no longer than this, and shorter on a narrow terminal.
const WIDTH: usize = 100;

/// Tests LAVA end to end, without a board.
#[derive(Debug, Parser)]
#[command(name = "meta-lava", version, propagate_version = true, max_term_width = WIDTH)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Tried by a test, as all examples are.
const RUN_EXAMPLES: &str = "\
Examples:
  meta-lava run juno x15
  meta-lava run 'imx8*' --lava debian:sid
  meta-lava run --suite health-checks --partition slice:1/4
  meta-lava run -E 'firmware(u-boot) & !suite(failures)'";
const COMPARE_EXAMPLES: &str = "\
Examples:
  meta-lava compare debian:forky debian:sid
  meta-lava compare debian debian:sid juno 'imx8*' --fail-on results
  meta-lava compare last-month/ this-month/";
const COVERAGE_EXAMPLES: &str = "\
Examples:
  meta-lava coverage
  meta-lava coverage last-night/ --format json";
const GHOST_EXAMPLES: &str = "\
Examples:
  meta-lava ghost beaglebone-black
  meta-lava ghost juno --fault '{when: {starts: 1}, then: hang}'";
const LIST_EXAMPLES: &str = "\
Examples:
  meta-lava list -E 'type(=juno) | tag(feature)'
  meta-lava list --suite failures --format json";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the matrix and judge it
    #[command(after_help = RUN_EXAMPLES)]
    Run(commands::run::Args),
    /// Run what did not pass last time
    Rerun(commands::rerun::Args),
    /// Make one report of those of the parts of a partition
    Merge(commands::merge::Args),
    /// Compare two LAVAs, or two reports
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(commands::compare::Args),
    /// Show what of LAVA is covered
    #[command(after_help = COVERAGE_EXAMPLES)]
    Coverage(commands::coverage::Args),
    /// List the scenarios
    #[command(after_help = LIST_EXAMPLES)]
    List(commands::list::Args),
    /// Judge all that can be judged without Docker
    Check(commands::check::Args),
    /// Print one scenario, rendered
    Show(commands::show::Args),
    /// Break LAVA on purpose, and show that it is noticed
    SelfTest(commands::self_test::Args),
    /// Print a defect of LAVA's as an issue, ready to paste into its tracker
    Report(commands::report::Args),
    /// Play one board in this terminal, without Docker or LAVA
    #[command(after_help = GHOST_EXAMPLES)]
    Ghost(commands::ghost::Args),
    /// Start a stack to poke at
    Up(commands::up::Args),
    /// Take it down
    Down(commands::down::Args),
    /// Is this machine ready?
    Doctor(commands::doctor::Args),
    /// Remove what any run left
    Clean(commands::clean::Args),
    /// Go through pending snapshots
    Review(commands::review::Args),
    /// Accept pending snapshots
    Accept(commands::accept::Args),
    /// Measure the harness itself
    Bench(commands::bench::Args),
    /// Print a shell's completions
    Completions(commands::completions::Args),
    /// Print the manual page
    Man(commands::man::Args),
}

/// All of it as clap knows it, for what is made of it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The command line, or what is to be said instead: help, or what is wrong with it.
fn parse(words: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut error = match command().try_get_matches_from(words) {
        Ok(matches) => return Cli::from_arg_matches(&matches),
        Err(error) => error,
    };
    // clap sees no likeness in letters that changed places.
    if error.kind() == ErrorKind::InvalidSubcommand
        && error.get(ContextKind::SuggestedSubcommand).is_none()
        && let Some(ContextValue::String(found)) = error.get(ContextKind::InvalidSubcommand)
    {
        let program = command();
        let near = nearest(found, program.get_subcommands().map(clap::Command::get_name));
        if !near.is_empty() {
            let near = near.into_iter().map(str::to_owned).collect();
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(near));
        }
    }
    Err(error)
}

/// Parses the command line, does it, and reports what went wrong.
pub fn main() -> ExitCode {
    if let Some(answered) = commands::completions::answer() {
        return answered.into();
    }
    let result = match parse(std::env::args_os()) {
        Ok(cli) => run(cli.command),
        Err(error) => {
            let printed = error.print();
            // Of what goes to stderr nobody would hear.
            if !error.use_stderr() {
                print::remember(printed);
            }
            Ok(if error.use_stderr() { Exit::Usage } else { Exit::Ok })
        }
    };
    // What was found outweighs that it could not be printed; told is either.
    let result = match (result, print::check()) {
        (Ok(Exit::Ok), Err(unprinted)) => Err(unprinted),
        (result, Err(unprinted)) => {
            print::err(&format!("warning: {unprinted}\n"));
            result
        }
        (result, Ok(())) => result,
    };
    let exit = result.unwrap_or_else(|error| {
        print::err(&format!("error: {error}\n"));
        error.exit()
    });
    // Also where the options could not be read: `git bisect` would take that for a bad commit.
    let bisects = std::env::args_os().any(|word| word == "--bisect");
    if bisects { exit.for_bisect() } else { exit }.into()
}

fn run(command: Command) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failed("start", error))?;
    runtime.block_on(async {
        match command {
            Command::Run(args) => commands::run::run(args).await,
            Command::Rerun(args) => commands::rerun::run(args).await,
            Command::Merge(args) => commands::merge::run(args).await,
            Command::Compare(args) => commands::compare::run(args).await,
            Command::Coverage(args) => commands::coverage::run(args).await,
            Command::List(args) => commands::list::run(args).await,
            Command::Check(args) => commands::check::run(args).await,
            Command::Show(args) => commands::show::run(args).await,
            Command::SelfTest(args) => commands::self_test::run(args).await,
            Command::Report(args) => commands::report::run(args).await,
            Command::Ghost(args) => commands::ghost::run(args).await,
            Command::Up(args) => commands::up::run(args).await,
            Command::Down(args) => commands::down::run(args).await,
            Command::Doctor(args) => commands::doctor::run(args).await,
            Command::Clean(args) => commands::clean::run(args).await,
            Command::Review(args) => commands::review::run(args).await,
            Command::Accept(args) => commands::accept::run(args).await,
            Command::Bench(args) => commands::bench::run(args).await,
            Command::Completions(args) => commands::completions::run(args),
            Command::Man(args) => commands::man::run(args, self::command()),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::Matrix;
    use crate::scenario::filter::FilterArgs;

    fn refused(line: &str) -> String {
        parse(line.split(' ').map(OsString::from)).unwrap_err().to_string()
    }

    #[test]
    fn a_command_that_there_is_not_has_its_nearest_told() {
        for (typed, meant) in [("rnu", "run"), ("lsit", "list"), ("chek", "check"), ("selftest", "self-test")]
        {
            let text = refused(&format!("meta-lava {typed}"));
            assert!(text.contains(&format!("'{meant}'")), "{typed}: {text}");
        }
        assert!(!refused("meta-lava zzz").contains("similar"));
    }

    #[test]
    fn no_line_of_any_help_is_wider_than_a_screen() {
        let mut program = command().term_width(80);
        program.build();
        for command in program.get_subcommands_mut() {
            for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
                for line in help.lines() {
                    assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
                }
            }
        }
    }

    /// The words of a line as a shell would read them; of quotes only `'`.
    fn words(line: &str) -> Vec<OsString> {
        let (mut words, mut quoted) = (vec![String::new()], false);
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.into_iter().filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn every_example_in_help_and_documentation_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let matrix = Matrix::load(root).unwrap();
        let mut texts = Vec::new();
        for file in [
            "README.md",
            "CONTRIBUTING.md",
            "docs/commands.md",
            "docs/compare.md",
            "docs/coverage.md",
            "docs/other-lavas.md",
            "docs/report.md",
        ] {
            texts.push(std::fs::read_to_string(root.join(file)).unwrap());
        }
        let program = command();
        texts.extend(program.get_subcommands().filter_map(|sub| Some(sub.get_after_help()?.to_string())));
        let (mut tried, mut filters) = (0, 0);
        for line in texts.iter().flat_map(|text| text.lines()) {
            let line = line.split(" #").next().unwrap_or_default().trim();
            // Names in capitals stand for others.
            if !line.starts_with("meta-lava ")
                || line.split([' ', '=']).any(|word| word == word.to_uppercase())
            {
                continue;
            }
            let cli = parse(words(line).into_iter()).unwrap_or_else(|error| panic!("{line}: {error}"));
            tried += 1;
            let filter: FilterArgs = match cli.command {
                Command::Run(args) => args.filter,
                Command::Compare(args) if args.filter.is_given() => args.filter,
                Command::List(args) => args.filter,
                _ => continue,
            };
            let (chosen, strays) = filter.choose(&matrix).unwrap_or_else(|error| panic!("{line}: {error}"));
            // A new device-type that CONTRIBUTING adds is not there.
            assert!(!chosen.is_empty() && strays.is_empty(), "{line}: {strays:?}");
            filters += 1;
        }
        assert!(tried > 10 && filters > 5, "{tried} examples, {filters} of them choose scenarios");
    }
}
