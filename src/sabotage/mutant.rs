//! Sabotages by chance: lines of LAVA's dispatcher that the matrix runs through, each
//! changed in its operator, its constant or by leaving it out.
//!
//! Python draws them, since it has the parser of its language: `mutants.py`, after
//! `trace.py` has told which lines each scenario runs through.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lay::{Overlay, TRACES};
use super::{Change, Place, Sabotage};
use crate::error::{Error, Result};
use crate::run::runner::Ready;
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

/// The sabotage that breaks nothing, and writes down what each job runs through.
#[must_use]
pub fn traced() -> Sabotage {
    let trace = |file: &str, with: String| Change {
        place: Place::Dispatcher,
        file: file.into(),
        series: None,
        replace: None,
        with,
        times: 1,
    };
    Sabotage {
        name: "traced".into(),
        about: "nothing is broken; it is written down which lines a job runs through".into(),
        change: vec![trace("sitecustomize.py", include_str!("trace.py").replace("@FOLDER@", TRACES))],
        series: None,
        noticed_by: Filter::names([]),
        run: None,
        slow: false,
        features: false,
        first_difference: Vec::new(),
    }
}

/// Draws `count` mutants of what `scenarios` ran through under [`traced`]. Also how many
/// lines there were to draw from.
///
/// # Errors
/// [`Error::Infrastructure`] when the traces or the mutants can't be had.
pub async fn draw(
    overlay: &Overlay,
    scenarios: &[Ready],
    count: usize,
    seed: u64,
) -> Result<(usize, Vec<(Mutation, Arc<Sabotage>)>)> {
    let mut traces = BTreeMap::new();
    let all = overlay.traces().await?;
    for ready in scenarios {
        let device = ready.rendered.devices.first().map(|device| device.hostname.as_str());
        let lines = device.and_then(|device| all.get(device));
        let lines = lines.ok_or_else(|| {
            Error::infrastructure(format!("it was not written down what {} ran through", ready.scenario.name))
        })?;
        traces.insert(ready.scenario.name.as_str(), lines.clone());
    }
    let asked = Asked { seed, count, root: overlay.packages(), traces };
    let asked = serde_json::to_vec(&asked).map_err(Error::infrastructure)?;
    let printed = overlay.python(include_str!("mutants.py"), asked).await?;
    let drawn: Drawn =
        serde_json::from_slice(&printed).map_err(|error| Error::failed("read the mutants drawn", error))?;
    let sabotage = |(number, mutation): (usize, Mutation)| {
        let sabotage = Sabotage {
            name: format!("mutant-{}", number + 1),
            about: format!("{}:{}: {}", mutation.file, mutation.line, mutation.kind),
            change: vec![Change {
                place: Place::Dispatcher,
                file: mutation.file.clone(),
                series: None,
                replace: None,
                with: mutation.text.clone(),
                times: 1,
            }],
            series: None,
            noticed_by: Filter::names(mutation.scenarios.iter().cloned()),
            run: None,
            slow: false,
            features: false,
            first_difference: Vec::new(),
        };
        (mutation, Arc::new(sabotage))
    };
    Ok((drawn.lines, drawn.mutants.into_iter().enumerate().map(sabotage).collect()))
}
