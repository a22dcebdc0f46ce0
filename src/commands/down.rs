//! `meta-lava down`: take a stack down that `up` has started.

use std::path::Path;

use crate::commands::print;
use crate::commands::up::notes;
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::stack::docker::Engine;
use crate::stack::sweep::{self, Found, State};
use crate::stack::{clean_up, logs_of};

/// Options of `down`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stack, if more than one is up
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// All stacks that are up
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// Keep its logs in this folder
    #[arg(long, value_name = "DIR")]
    logs: Option<std::path::PathBuf>,
}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<Exit> {
    let root = crate::root::root()?;
    let engine = Engine::connect().await?;
    let found = sweep::find(&engine).await?;
    let runs = choose(&found, args.run.as_deref(), args.all)?;
    let mut left = Vec::new();
    for run in runs {
        if let Some(folder) = &args.logs {
            logs_of(&engine, &run, &folder.join(&run)).await?;
        }
        left.extend(clean_up(&engine, &root, &run).await?);
        forget(&root, &run);
        print(&format!("{run} is down\n"));
    }
    match left.first() {
        None => Ok(Exit::Ok),
        Some(first) => Err(Error::LeftBehind(format!(
            "{} things are left behind, among them {} {}",
            left.len(),
            first.kind,
            first.name
        ))),
    }
}

fn forget(root: &Path, run: &str) {
    // Absent when the stack was brought up in another clone.
    if sweep::is_run_name(run) {
        let _ = std::fs::remove_file(notes(root).join(format!("{run}.json")));
    }
}

/// Which stacks to take down.
fn choose(found: &[Found], named: Option<&str>, all: bool) -> Result<Vec<String>> {
    let up: Vec<&str> =
        found.iter().filter(|found| found.state == State::Kept).map(|found| found.run.as_str()).collect();
    if let Some(named) = named {
        return match found.iter().find(|found| found.run == named) {
            Some(found) if found.state == State::Alive => Err(Error::Usage(format!(
                "{named} is a run that is under way; interrupt it where it runs, it cleans up after itself"
            ))),
            Some(found) => Ok(vec![found.run.clone()]),
            None => Err(Error::Usage(format!("there is no stack {named}; up: {}", list(&up)))),
        };
    }
    match up.as_slice() {
        [] => Err(Error::Usage("no stack is up".into())),
        [one] => Ok(vec![(*one).to_owned()]),
        _ if all => Ok(up.iter().map(|run| (*run).to_owned()).collect()),
        _ => Err(Error::Usage(format!("which one? {} are up; name one, or --all", list(&up)))),
    }
}

fn list(up: &[&str]) -> String {
    if up.is_empty() { "none".into() } else { up.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(run: &str, state: State) -> Found {
        Found { run: run.into(), state, objects: Vec::new() }
    }

    #[test]
    fn the_only_stack_needs_no_name_and_a_living_run_is_left_alone() {
        let one = [found("a", State::Kept), found("r", State::Alive), found("d", State::Dead)];
        assert_eq!(choose(&one, None, false).unwrap(), ["a"]);
        assert_eq!(choose(&one, Some("d"), false).unwrap(), ["d"]);
        assert!(choose(&one, Some("r"), false).unwrap_err().to_string().contains("under way"));
        assert!(choose(&one, Some("x"), false).unwrap_err().to_string().contains("up: a"));
        let two = [found("a", State::Kept), found("b", State::Kept)];
        assert!(choose(&two, None, false).unwrap_err().to_string().contains("a, b"));
        assert_eq!(choose(&two, None, true).unwrap(), ["a", "b"]);
        assert!(choose(&[], None, true).is_err());
    }
}
