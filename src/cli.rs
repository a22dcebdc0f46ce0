//! The command line.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{commands, print};

/// Tests LAVA end to end, without a board.
#[derive(Debug, Parser)]
#[command(name = "meta-lava", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the matrix and judge it
    Run(commands::run::Args),
    /// Run what did not pass last time
    Rerun(commands::rerun::Args),
    /// Make one report of those of the parts of a partition
    Merge(commands::merge::Args),
    /// List the scenarios
    List(commands::list::Args),
    /// Judge all that can be judged without Docker
    Check(commands::check::Args),
    /// Print one scenario, rendered
    Show(commands::show::Args),
    /// Break LAVA on purpose, and show that it is noticed
    SelfTest(commands::self_test::Args),
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

/// Parses the command line, does it, and reports what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::err(&format!("error: could not start: {error}\n"));
            return ExitCode::from(3);
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => commands::run::run(args).await,
            Command::Rerun(args) => commands::rerun::run(args).await,
            Command::Merge(args) => commands::merge::run(args).await,
            Command::List(args) => commands::list::run(args).await,
            Command::Check(args) => commands::check::run(args).await,
            Command::Show(args) => commands::show::run(args).await,
            Command::SelfTest(args) => commands::self_test::run(args).await,
            Command::Up(args) => commands::up::run(args).await,
            Command::Down(args) => commands::down::run(args).await,
            Command::Doctor(args) => commands::doctor::run(args).await,
            Command::Clean(args) => commands::clean::run(args).await,
            Command::Review(args) => commands::review::run(args).await,
            Command::Accept(args) => commands::accept::run(args).await,
            Command::Bench(args) => commands::bench::run(args).await,
            Command::Completions(args) => commands::completions::run(args, command()),
            Command::Man(args) => commands::man::run(args, command()),
        }
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            print::err(&format!("error: {error}\n"));
            error.exit().into()
        }
    }
}
