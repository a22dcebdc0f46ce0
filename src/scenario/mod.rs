//! Scenarios: a job, its ghosts, and what is expected of them.
//!
//! All of it is data in `jobs/` and `boards/`, see [`Matrix::load`] for the layout.
//! Nothing in here needs Docker or LAVA.

pub mod board;
mod defect;
mod dictionary;
pub mod filter;
mod load;
mod problem;
mod render;
pub mod request;
mod tag;
mod world;

pub use defect::{Defect, Sign};
pub use load::Matrix;
pub use problem::{Problem, refuse};
pub use render::{Board, Rendered};
pub use world::World;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Mapping;

use crate::lava::series::{Range, Series};
pub use board::Ghost;

use board::LibraryBoard;
use request::Request;

/// A job that LAVA is given, with the boards it runs on.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Name, unique over all suites.
    pub name: String,
    /// The folder of `jobs/` that it stands in.
    pub suite: String,
    /// What it is about, in a line, where it says so.
    pub about: Option<String>,
    /// Its family; `None` where it brings a whole job.
    pub family: Option<String>,
    /// Variables of the family's job: the family's own, then the scenario's over them.
    pub with: Mapping,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// Whether it is left out.
    pub skip: Option<Why>,
    /// Why LAVA does not log all that its board prints, where it does not.
    pub unlogged: Option<Why>,
    /// How its jobs are meant to end, where it says so.
    pub ends: Option<EndsOn>,
    /// What is in LAVA's results, where it says so.
    pub says: Option<Says>,
    /// How the same job is meant to end once more, on the devices and boards as the first one leaves
    /// them; where it does not say, there is no second one.
    pub again: Option<Ends>,
    /// What LAVA's server is asked once the job has ended.
    pub requests: Vec<Request>,
    /// Names of test cases that are made to fail: its family's and its own.
    pub fails: Vec<String>,
    /// What LAVAs are known to do wrong in it.
    pub defects: Vec<Defect>,
    /// How long its job may take, from submission.
    pub timeout: Duration,
    /// Who takes part, in the file's order. The usual job has one role, without a name; of
    /// several roles LAVA makes a group of jobs, one for each board.
    pub roles: Vec<Role>,
    /// Its folder, relative to the root.
    pub folder: PathBuf,
    /// Template of the job, or the job.
    job: JobSource,
}

/// Why something holds for a scenario, such as that it is left out, and with which LAVAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Of which series; of all where it does not say.
    pub series: Option<Range>,
    /// The reason.
    pub reason: String,
}

impl Why {
    /// The reason, where it holds with LAVA of `series`.
    fn on(&self, series: Series) -> Option<&str> {
        self.series.is_none_or(|range| range.contains(series)).then_some(self.reason.as_str())
    }
}

/// How a scenario's jobs end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ends {
    /// LAVA calls all of them Complete.
    #[default]
    Complete,
    /// One of them ends in another way.
    Incomplete,
    /// LAVA does not take the job.
    Refused,
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Refused => "refused",
        })
    }
}

/// A part of a line that LAVA's results must have: one, or one for each range of series.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Says {
    /// With all LAVAs.
    Always(String),
    /// With LAVAs of some series.
    On(Vec<SaysOn>),
}

/// What LAVAs of these series must say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaysOn {
    /// Which.
    pub series: Range,
    /// A part of a line of their results.
    pub text: String,
}

impl Says {
    /// What LAVA of `series` must say, if anything.
    #[must_use]
    pub fn on(&self, series: Series) -> Option<&str> {
        match self {
            Self::Always(text) => Some(text),
            Self::On(list) => list.iter().find(|on| on.series.contains(series)).map(|on| on.text.as_str()),
        }
    }
}

/// How a scenario's jobs are meant to end, and with which LAVAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndsOn {
    /// How.
    pub ends: Ends,
    /// With which series; with all where it does not say. With the others they complete.
    pub series: Option<Range>,
}

/// A part in a job, and the boards that play it.
#[derive(Debug, Clone)]
pub struct Role {
    /// The job's name of it; the only role of a job that has none needs no name.
    pub name: Option<String>,
    /// What its boards are.
    pub board: Arc<LibraryBoard>,
    /// Values of the board that are others here.
    pub change: Mapping,
    /// Variables of the device dictionary, over the board's own; null removes one.
    pub dictionary: Mapping,
    /// Names of its boards and of LAVA's devices, one for each job.
    pub boards: Vec<String>,
    /// Of guests: the role on whose device they are, and its one board. They have no devices of their own.
    pub on: Option<(String, String)>,
    /// The board with the change.
    ghost: Ghost,
}

/// Where the job comes from.
#[derive(Debug, Clone)]
enum JobSource {
    /// Name of a template.
    Template(String),
    /// The text of a whole job, unchanged.
    Whole(String),
}

impl Role {
    /// Kind of its boards' firmware.
    #[must_use]
    pub fn firmware(&self) -> &str {
        &self.ghost.firmware
    }

    /// What people call its boards.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.ghost.model
    }

    /// What its boards are, as text for a ghost.
    #[must_use]
    pub fn ghost(&self) -> &str {
        &self.ghost.text
    }

    /// LAVA's device-type of its boards.
    #[must_use]
    pub fn device_type(&self) -> &str {
        &self.board.device_type
    }
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
        self.skip.as_ref()?.on(series)
    }

    /// Why LAVA of `series` does not log all that its board prints, if so.
    #[must_use]
    pub fn unlogged_on(&self, series: Series) -> Option<&str> {
        self.unlogged.as_ref()?.on(series)
    }

    /// What LAVA of `series` is known to do wrong in it.
    #[must_use]
    pub fn defects_on(&self, series: Series) -> Vec<&Defect> {
        self.defects.iter().filter(|defect| defect.series.contains(series)).collect()
    }

    /// How its jobs are meant to end with a LAVA of `series` that has these `defects`: as the first of
    /// them says that says it, else as the scenario does.
    #[must_use]
    pub fn ends_on(&self, series: Series, defects: &[&Defect]) -> Ends {
        let said = self.ends.filter(|said| said.series.is_none_or(|range| range.contains(series)));
        let by_defect = defects.iter().find_map(|defect| defect.ends);
        by_defect.or(said.map(|said| said.ends)).unwrap_or_default()
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("scenario.yaml")
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

    /// Kinds of its boards' firmware, each once, in the order of its roles.
    #[must_use]
    pub fn firmwares(&self) -> Vec<&str> {
        each_once(self.roles.iter().map(Role::firmware))
    }

    /// Device-types of its boards, each once, in the order of its roles.
    #[must_use]
    pub fn device_types(&self) -> Vec<&str> {
        each_once(self.roles.iter().map(Role::device_type))
    }

    /// Names of its boards, in the order of its roles.
    pub fn boards(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().flat_map(|role| &role.boards).map(String::as_str)
    }

    /// What the reports know of it before it runs.
    #[must_use]
    pub fn info(&self) -> crate::event::ScenarioInfo {
        crate::event::ScenarioInfo {
            name: self.name.clone(),
            suite: self.suite.clone(),
            device_types: self.device_types().into_iter().map(str::to_owned).collect(),
            about: self.about.clone(),
        }
    }
}

fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

#[cfg(test)]
pub mod tests;
