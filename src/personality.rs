//! Who the executable is, by the name it was called: in containers it is
//! `ghost`, or a tool that a ghost plays.

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use meta_lava_ghost::cli as ghost;
use meta_lava_world::cli as world;
use tracing_subscriber::EnvFilter;

/// Plays boards for LAVA, and the world that LAVA downloads from
#[derive(Debug, Parser)]
#[command(name = "ghost", version)]
struct Ghost {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Ghost(ghost::Command),
    #[command(flatten)]
    World(world::Command),
}

/// When the executable was not called as `meta-lava`: does what that other name
/// does, and returns its exit code.
pub fn other_than_meta_lava() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let name = Path::new(args.first()?).file_name()?.to_str()?.to_owned();
    if let Some(code) = ghost::called_as_tool(&name, &args) {
        return Some(code);
    }
    if name != "ghost" {
        return None;
    }
    let cli = Ghost::parse_from(args);
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("GHOST_LOG").unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Some(match cli.command {
        Command::Ghost(command) => ghost::main(command),
        Command::World(command) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(world::run(command)));
            match done {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("ghost: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    })
}
