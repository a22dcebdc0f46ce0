//! What a worker hands out of its boards' state: ledger, console and blobs, as
//! one JSON line for each board asked for.
//!
//! One long-lived process does this for a whole run, because starting one in a
//! container costs more than all that it has to send.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::blobs;
use crate::console::transcript;
use crate::control::{self, Request};

/// What stands before a board's name that is to be renewed.
pub const RENEW: &str = "renew ";

/// The state of one board.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collected {
    pub board: String,
    /// Text of its ledger: lines of [`crate::ledger::Entry`] as JSON.
    pub ledger: String,
    /// What its serial ports printed, in their order; bytes that are no UTF-8 replaced.
    pub consoles: Vec<String>,
    /// Contents that the ledger names by sha256, in hex.
    pub blobs: BTreeMap<String, String>,
    /// Why it could not be renewed, where that was asked for.
    pub error: Option<String>,
}

/// Answers each line of `input` (the name of a board) with a line of JSON on
/// `output`, until `input` ends. A board whose name stands behind [`RENEW`] is renewed
/// by the daemon that listens on `socket`.
///
/// # Errors
/// When `output` breaks. A board without state is answered with an empty one.
pub fn serve(state: &Path, socket: &Path, input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    for line in input.lines() {
        let line = line?;
        let collected = match line.trim().strip_prefix(RENEW) {
            Some(board) => {
                let asked = control::ask(socket, &Request::Renew { board: board.to_owned() });
                let error = asked.err().map(|error| error.to_string());
                Collected { error, ..collect(state, board) }
            }
            None => collect(state, line.trim()),
        };
        serde_json::to_writer(&mut output, &collected)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

fn collect(state: &Path, board: &str) -> Collected {
    let mut collected = Collected { board: board.to_owned(), ..Collected::default() };
    if board.is_empty() || board.contains('/') || board.starts_with('.') {
        return collected;
    }
    let dir = state.join(board);
    let text = |name: &str| Some(String::from_utf8_lossy(&fs::read(dir.join(name)).ok()?).into_owned());
    collected.ledger = text("ledger.jsonl").unwrap_or_default();
    collected.consoles = (0..).map_while(|uart| text(&transcript(uart))).collect();
    collected.blobs = blobs::read(&dir);
    collected
}
