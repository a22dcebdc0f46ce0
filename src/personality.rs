//! Who the executable is, by the name it was called: in containers it is
//! `ghost`, or a tool that a ghost plays.

use std::path::Path;
use std::process::ExitCode;

/// When the executable was not called as `meta-lava`: does what that other name
/// does, and returns its exit code.
pub fn other_than_meta_lava() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let name = Path::new(args.first()?).file_name()?.to_str()?.to_owned();
    if name == "ghost" && matches!(args.get(1).map(String::as_str), Some("world" | "artifacts")) {
        return Some(world(&args));
    }
    meta_lava_ghost::cli::called_as(&name, &args)
}

/// `ghost world` and `ghost artifacts`, which the world's container runs.
#[derive(clap::Parser)]
#[command(name = "ghost", version)]
struct World {
    #[command(subcommand)]
    command: meta_lava_world::cli::Command,
}

fn world(args: &[String]) -> ExitCode {
    let World { command } = clap::Parser::parse_from(args);
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(meta_lava_world::cli::run(command)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
