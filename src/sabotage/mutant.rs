//! Sabotages by chance: lines of LAVA's dispatcher that the matrix runs through, each
//! changed in its operator, its constant or by leaving it out.
//!
//! Python draws them, since it has the parser of its language: `mutants.py`, after
//! [`super::traced`] has told which lines each scenario runs through.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lay::Overlay;
use super::{Change, Place, Sabotage};
use crate::error::{Error, Result};
use crate::scenario::filter::Filter;

/// A mutant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutation {
    /// The file, below the folder of Python's packages.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// `operator`, `constant` or `statement`.
    pub kind: String,
    /// The line as it was.
    pub before: String,
    /// The line as it is.
    pub after: String,
    /// The whole file as it is.
    #[serde(skip_serializing, default)]
    text: String,
    /// Scenarios that run through the line.
    pub scenarios: Vec<String>,
}

#[derive(Deserialize)]
struct Drawn {
    lines: usize,
    mutants: Vec<Mutation>,
}

#[derive(Serialize)]
struct Asked<'a> {
    seed: u64,
    count: usize,
    root: &'a str,
    traces: BTreeMap<&'a str, Vec<String>>,
}

/// Draws `count` mutants of the lines in `traces`, see [`Overlay::traces_of`]. Also how many
/// lines there were to draw from.
///
/// # Errors
/// [`Error::Infrastructure`] when the traces or the mutants can't be had.
pub async fn draw(
    overlay: &Overlay,
    traces: BTreeMap<&str, Vec<String>>,
    count: usize,
    seed: u64,
) -> Result<(usize, Vec<(Mutation, Arc<Sabotage>)>)> {
    let asked = Asked { seed, count, root: overlay.packages(), traces };
    let asked = serde_json::to_vec(&asked).map_err(Error::infrastructure)?;
    let printed = overlay.python(include_str!("mutants.py"), asked).await?;
    let drawn: Drawn =
        serde_json::from_slice(&printed).map_err(|error| Error::failed("read the mutants drawn", error))?;
    let sabotage = |(number, mutation): (usize, Mutation)| {
        let sabotage = Sabotage {
            name: format!("mutant-{}", number + 1),
            about: format!("{}:{}: {}", mutation.file, mutation.line, mutation.kind),
            noticed_by: Filter::names(mutation.scenarios.iter().cloned()),
            ..Sabotage::of(vec![Change::whole(Place::Dispatcher, &mutation.file, mutation.text.clone())])
        };
        (mutation, Arc::new(sabotage))
    };
    Ok((drawn.lines, drawn.mutants.into_iter().enumerate().map(sabotage).collect()))
}
