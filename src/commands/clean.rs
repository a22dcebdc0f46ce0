//! `meta-lava clean`: remove what any run left.

use crate::commands::print;
use crate::error::Result;
use crate::exit_code::Exit;
use crate::stack::docker::Engine;
use crate::stack::images;
use crate::stack::sweep::{self, State};

/// Options of `clean`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also stacks that are up, and runs that are under way or can't be told from dead ones
    #[arg(long)]
    all: bool,
    /// Also images of ours that are out of date; with --all, all of them
    #[arg(long)]
    images: bool,
}

/// Does it.
///
/// # Errors
/// See [`crate::error::Error`].
pub async fn run(args: Args) -> Result<Exit> {
    let engine = Engine::connect().await?;
    let mut removed = sweep::sweep_stale(&engine).await?;
    for found in sweep::find(&engine).await? {
        if args.all {
            removed.extend(sweep::remove(&engine, &found.objects).await?);
            continue;
        }
        let why = match found.state {
            State::Kept => format!("is up; `meta-lava down {}` takes it down", found.run),
            State::Alive => "is under way".into(),
            State::Unknown | State::Dead => {
                "belongs to a process that can't be looked at from here; --all removes it".into()
            }
        };
        print(&format!("left alone: {} {why}\n", found.run));
    }
    if args.images {
        let keep = if args.all {
            Vec::new()
        } else {
            let root = crate::root::root()?;
            images::of_all(&engine, &root).await?
        };
        removed.extend(images::clean(&engine, &keep).await?);
    }
    for thing in &removed {
        print(&format!("removed {thing}\n"));
    }
    if removed.is_empty() {
        print("nothing to remove\n");
    }
    Ok(Exit::Ok)
}
