//! The table of failures: what LAVA made of each, what state it left the device in, and whether the
//! board was switched off, for each LAVA.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ended, id};
use crate::judge::aftermath::aftermath;
use crate::judge::snapshot::{self, Kind};
use crate::report::{Row, Run};

/// A failure.
#[derive(Serialize)]
pub(super) struct Failure<'a> {
    name: &'a str,
    about: Option<&'a str>,
    /// What each of the LAVAs made of it, in the order of the run.
    cells: Vec<Option<Cell>>,
}

/// What one LAVA made of it.
#[derive(Serialize)]
struct Cell {
    id: String,
    said: String,
    /// State and health of the devices at the end.
    device: String,
    off: &'static str,
}

/// All of a run: what says what it is about, and what did not complete.
pub(super) fn failures(run: &Run) -> Vec<Failure<'_>> {
    let is_one = |row: &&Row| {
        row.outcome.as_ref().is_some_and(|outcome| row.info.about.is_some() || !outcome.ended.is_empty())
    };
    let mut rows: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for row in run.rows.iter().filter(is_one) {
        rows.entry((&row.info.suite, &row.info.name)).or_default().push(row);
    }
    let columns: Vec<Option<&str>> = match run.lavas.as_slice() {
        [] | [_] => vec![None],
        lavas => lavas.iter().map(|lava| Some(lava.name.as_str())).collect(),
    };
    rows.into_iter()
        .map(|((_, name), rows)| {
            let of = |lava: &Option<&str>| rows.iter().find(|row| row.lava.as_deref() == *lava);
            let cells = columns.iter().map(|lava| of(lava).map(|row| cell(run, row))).collect();
            Failure { name, about: rows[0].info.about.as_deref(), cells }
        })
        .collect()
}

fn cell(run: &Run, row: &Row) -> Cell {
    let folder = run.report.join(row.folder());
    let text = |kind: Kind| snapshot::read(&kind.kept_in(&folder)).ok().flatten().unwrap_or_default();
    let left = aftermath(&text(Kind::Results), &text(Kind::Ledger));
    let said: Vec<String> =
        row.outcome.iter().flat_map(|outcome| &outcome.ended).map(|ending| ended(ending).0).collect();
    Cell {
        id: id(row),
        said: if said.is_empty() { "Complete".to_owned() } else { said.join("; ") },
        device: left.devices.join("; "),
        off: match left.off.as_slice() {
            [] => "",
            off if off.iter().all(|off| *off) => "yes",
            _ => "no",
        },
    }
}
