//! `meta-lava ghost`: one board in this terminal, without Docker or LAVA.

use std::io::IsTerminal as _;

use meta_lava_ghost::{firmware, terminal};
use serde_yaml::{Mapping, Value};

use crate::commands::matrix;
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::print;
use crate::scenario::{Ghost, Matrix};
use crate::text::nearest;

/// Options of `ghost`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A board of `boards/`, or a scenario for the board that it has
    #[arg(value_name = "BOARD")]
    board: String,
    /// What goes wrong, as a board's file has it, such as '{when: {typed: dhcp}, then: hang}'; may
    /// be repeated
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<String>,
}

/// Plays a board until it is left or switches itself off.
///
/// # Errors
/// [`Error::Usage`] for a board that there is not, or a fault that is none.
pub async fn run(args: Args) -> Result<Exit> {
    let ghost = ghost(&matrix()?, &args)?;
    let (board, firmware) =
        firmware::load(&args.board, &ghost.text).map_err(|error| Error::Usage(error.to_string()))?;
    let folder = tempfile::tempdir().map_err(|error| Error::failed("make a folder for the ledger", error))?;
    if std::io::stdin().is_terminal() {
        print::err(&format!("{}, {}; Ctrl-] leaves\n", ghost.model, ghost.firmware));
    }
    let played = terminal::play(board, firmware, folder.path()).await;
    played.map_err(|error| Error::failed("play the board in this terminal", error))?;
    print::err("\n");
    Ok(Exit::Ok)
}

/// The board that is meant, with its faults.
fn ghost(matrix: &Matrix, args: &Args) -> Result<Ghost> {
    let mut faults = Vec::new();
    for text in &args.faults {
        let fault: Value =
            serde_yaml::from_str(text).map_err(|error| Error::Usage(format!("--fault {text}: {error}")))?;
        faults.push(fault);
    }
    let over = |faults: Vec<Value>| {
        let mut change = Mapping::new();
        if !faults.is_empty() {
            change.insert("faults".into(), Value::Sequence(faults));
        }
        change
    };
    let scenario = matrix.scenarios.iter().find(|scenario| scenario.name == args.board);
    let changed = match (matrix.boards.get(&args.board), scenario.and_then(|scenario| scenario.roles.first()))
    {
        (Some(board), _) => board.changed(&[&over(faults)]),
        (None, Some(role)) => {
            let own = role.change.get("faults").and_then(Value::as_sequence).cloned().unwrap_or_default();
            role.board.changed(&[&role.change, &over(own.into_iter().chain(faults).collect())])
        }
        (None, None) => {
            let near = nearest(&args.board, matrix.boards.keys().map(String::as_str));
            let hint = match near.first() {
                Some(near) => format!("; did you mean {near}?"),
                None => String::new(),
            };
            return Err(Error::Usage(format!("no board or scenario is called `{}`{hint}", args.board)));
        }
    };
    changed.map_err(|changed| Error::Usage(format!("--fault: {}", changed.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(board: &str, faults: &[&str]) -> String {
        let matrix = crate::scenario::tests::matrix();
        let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
        match ghost(&matrix, &Args { board: board.to_owned(), faults }) {
            Ok(ghost) => ghost.faults.join("; "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_board_has_the_faults_that_it_is_given() {
        let faults = ["{when: {typed: dhcp}, then: hang}", "{when: {starts: 1}, then: [{print: x}, silent]}"];
        assert_eq!(said("bbb", &faults), "typed `dhcp`: hang; start: print \"x\", silent");
        assert_eq!(said("bbb", &[]), "");
    }

    #[test]
    fn what_is_no_board_or_no_fault_is_told() {
        assert!(said("bb", &[]).contains("no board or scenario is called `bb`; did you mean bbb?"));
        assert!(said("bbb", &["{when: {typed: a}, then: explode}"]).contains("unknown variant `explode`"));
        assert!(said("bbb", &["{when: ["]).contains("--fault {when: ["));
    }
}
