//! `meta-lava up`: start a stack to poke at.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::commands::{matrix, print};
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::interrupt::Interrupt;
use crate::report;
use crate::run::lab::lab;
use crate::run::session::Session;
use crate::scenario::filter::FilterArgs;
use crate::secret::Secret;
use crate::stack::images::LavaArgs;
use crate::stack::sweep;
use crate::stack::{ADMIN, Stack};

/// Options of `up`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    lava: LavaArgs,
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
}

/// What a stack that is up is remembered by. Only its owner may read it: the
/// token and the password are in it.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    run: String,
    url: String,
    events: String,
    user: String,
    password: String,
    token: String,
}

/// Where the notes are, below the root of the repository.
pub fn notes(root: &Path) -> PathBuf {
    root.join("target").join("meta-lava").join("up")
}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<Exit> {
    let root = crate::root::root()?;
    let matrix = matrix()?;
    let workers = usize::from(args.workers);
    let wanted = args.filter.select(&matrix)?;
    let lab = |series| {
        let mut lab = lab(&matrix, &wanted, series, workers)?;
        // By hand a board is switched off whenever one likes.
        lab.boards.iter_mut().for_each(|board| board.off_is_the_end = false);
        Ok(lab)
    };
    let lava = args.lava.lava(&root).await?;
    let run = sweep::new_run_name();
    let left = format!("stack {run} may be left behind; `meta-lava clean` removes what it left");
    let interrupt = Interrupt::listen(move || left.clone())?;
    let (events, teller) = report::lines();
    let password = Secret::random();
    let notes = notes(&root);
    let session = Session {
        root: &root,
        run: &run,
        lava: &lava,
        report: &notes,
        events: &events,
        interrupt: &interrupt,
        keep: true,
        measured: false,
    };
    let mut said = String::new();
    let up = session
        .leave_up(workers, lab, &password, async |up| {
            said = told(&notes, &run, &up.stack, &password)?;
            Ok(())
        })
        .await;
    drop(events);
    let _ = teller.await;
    up?;
    print(&said);
    Ok(Exit::Ok)
}

/// Writes the note of a stack that is up, and says how to reach it.
fn told(notes: &Path, run: &str, stack: &Stack, password: &Secret) -> Result<String> {
    let note = Note {
        run: run.to_owned(),
        url: stack.url(),
        events: stack.events_url(),
        user: ADMIN.into(),
        password: password.reveal().into(),
        token: stack.api().token().reveal().into(),
    };
    let path = write_note(notes, &note)?;
    Ok(format!(
        "\nLAVA {} is up: {}\n  log in as     {} with password {}\n  REST token    {}\n  event stream  {}\n  \
         remembered in {}\n  take it down  meta-lava down {run}\n",
        stack.version(),
        note.url,
        note.user,
        note.password,
        note.token,
        note.events,
        path.display(),
    ))
}

fn write_note(folder: &Path, note: &Note) -> Result<PathBuf> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let path = folder.join(format!("{}.json", note.run));
    let text = serde_json::to_string_pretty(note).map_err(|error| Error::Usage(error.to_string()))?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))
        .and_then(|mut file| writeln!(file, "{text}"))
        .map_err(|error| Error::failed(format!("write {}", path.display()), error))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_note_is_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let word = || "x".to_owned();
        let note =
            Note { run: word(), url: word(), events: word(), user: word(), password: word(), token: word() };
        let path = write_note(root.path(), &note).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_note(root.path(), &note).is_err());
    }
}
