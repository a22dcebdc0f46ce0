//! Scenarios: a job, its ghosts, and what is expected of them.
//!
//! All of it is data in `jobs/`, see [`Matrix::load`] for the layout. Nothing
//! in here needs Docker or LAVA.

mod dictionary;
pub mod filter;
mod load;
mod problem;
mod render;
mod tag;

pub use load::Matrix;
pub use problem::{Problem, refuse};
pub use render::Rendered;

use std::path::PathBuf;
use std::time::Duration;

use serde_yaml::Mapping;

use crate::lava::series::{Range, Series};

/// A job that LAVA is given, with the boards it runs on.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Name, unique over all suites.
    pub name: String,
    /// The folder of `jobs/` that it stands in.
    pub suite: String,
    /// Its family; `None` where it brings a whole job.
    pub family: Option<String>,
    /// LAVA's device-type.
    pub device_type: String,
    /// Variables of the family's job: the family's own, then the scenario's over them.
    pub with: Mapping,
    /// Variables of the device dictionary: the generated ones' replacements included; null removes one.
    pub dictionary: Mapping,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// Whether it is left out.
    pub skip: Option<Skip>,
    /// How long its job may take, from submission.
    pub timeout: Duration,
    /// Its boards; the first is the one that its job runs on.
    pub boards: Vec<BoardSource>,
    /// Its folder, relative to the root.
    pub folder: PathBuf,
    /// Template of the job, or the job.
    job: JobSource,
}

/// Why a scenario is left out, and of which LAVAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Of which series; of all where it does not say.
    pub series: Option<Range>,
    /// The reason.
    pub reason: String,
}

/// A board of a scenario as its file has it.
#[derive(Debug, Clone)]
pub struct BoardSource {
    /// Name of the board and of LAVA's device.
    pub name: String,
    /// Kind of its firmware.
    pub firmware: String,
    /// Number of its serial ports.
    pub uarts: usize,
    /// Text of its `ghost.yaml`.
    pub text: String,
}

/// Where the job comes from.
#[derive(Debug, Clone)]
enum JobSource {
    /// Name of a template.
    Template(String),
    /// The text of a whole job, unchanged.
    Whole(String),
}

impl Scenario {
    /// `suite/name`: its place below `jobs/`, `expected/` and the report's `scenarios/`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.suite, self.name)
    }

    /// Why it is left out with every LAVA, if so.
    #[must_use]
    pub fn skipped(&self) -> Option<&str> {
        self.skip.as_ref().filter(|skip| skip.series.is_none()).map(|skip| skip.reason.as_str())
    }

    /// Why it is left out with LAVA of `series`, if so.
    #[must_use]
    pub fn skipped_on(&self, series: Series) -> Option<&str> {
        let skip = self.skip.as_ref()?;
        skip.series.is_none_or(|range| range.contains(series)).then_some(skip.reason.as_str())
    }

    /// The variables of its family's job as `name=value`, to filter by.
    #[must_use]
    pub fn settings(&self) -> Vec<String> {
        let text = |value: &serde_yaml::Value| match value {
            serde_yaml::Value::String(text) => text.clone(),
            other => serde_yaml::to_string(other).unwrap_or_default().trim_end().to_owned(),
        };
        self.with.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
    }

    /// Kind of the first board's firmware.
    #[must_use]
    pub fn firmware(&self) -> &str {
        self.boards.first().map_or("", |board| &board.firmware)
    }

    /// What the reports know of it before it runs.
    #[must_use]
    pub fn info(&self) -> crate::event::ScenarioInfo {
        crate::event::ScenarioInfo {
            name: self.name.clone(),
            suite: self.suite.clone(),
            device_types: vec![self.device_type.clone()],
        }
    }
}

#[cfg(test)]
pub mod tests;
