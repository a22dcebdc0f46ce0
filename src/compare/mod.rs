//! Two LAVAs, or two runs, side by side: what differs, by cause.
//!
//! A comparison is a function of two reports, and needs neither Docker nor what is expected. It
//! compares what verdicts compare, the normalised texts, in a shape that does not mind what LAVA
//! numbers anew ([`shape`]); and how long things took ([`time`]).

mod causes;
mod items;
mod page;
mod shape;
mod show;
mod side;
mod time;

use std::collections::BTreeMap;

use serde::Serialize;

pub use items::Piece;
pub use show::Look;
pub use side::Side;
pub use time::Stage;

use crate::error::{Error, Result};
use crate::event::Verdict;
use crate::judge::snapshot;
use crate::report::Row;
use crate::text::printable;
use causes::Causes;
use items::items;
use side::{is_answered, names};

/// Version of `compare.json`.
const VERSION: u32 = 1;

/// What something is a difference of, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Scenarios that only one side has, or that came to no answer on one.
    Scenario,
    /// What LAVA tells its users.
    Results,
    /// What LAVA typed.
    Console,
    /// The files that boards got, and what is in them.
    Files,
    /// What else LAVA did to boards.
    Ledger,
    /// LAVA's log.
    Log,
    /// How long it took.
    Time,
}

impl Kind {
    /// All of them, in their order.
    pub const ALL: [Self; 7] =
        [Self::Scenario, Self::Results, Self::Console, Self::Files, Self::Ledger, Self::Log, Self::Time];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scenario => "scenario",
            Self::Results => "results",
            Self::Console => "console",
            Self::Files => "files",
            Self::Ledger => "ledger",
            Self::Log => "log",
            Self::Time => "time",
        }
    }

    /// What a line of a text is a difference of.
    fn of(text: snapshot::Kind, line: &str) -> Self {
        let line = line.trim_start();
        let begins = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
        match text {
            snapshot::Kind::Results => Self::Results,
            snapshot::Kind::Log => Self::Log,
            snapshot::Kind::Ledger
                if begins(&["console "]) && !line.ends_with("opened") && !line.ends_with("closed") =>
            {
                Self::Console
            }
            snapshot::Kind::Ledger if begins(&["fetch ", "tree ", "+ ", "- ", "! "]) => Self::Files,
            snapshot::Kind::Ledger => Self::Ledger,
        }
    }
}

/// What makes a comparison fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FailOn {
    /// Results, and scenarios without any on one side
    Results,
    /// What LAVA did to boards: what it typed, the files, the rest
    Ledger,
    /// LAVA's log
    Log,
    /// How long it took
    Time,
}

impl FailOn {
    fn covers(self, kind: Kind) -> bool {
        match self {
            Self::Results => matches!(kind, Kind::Scenario | Kind::Results),
            Self::Ledger => matches!(kind, Kind::Console | Kind::Files | Kind::Ledger),
            Self::Log => kind == Kind::Log,
            Self::Time => kind == Kind::Time,
        }
    }
}

/// What differs for one cause.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// What it is a difference of.
    pub kind: Kind,
    /// What differs. Pieces that stand together wherever one does are told together, and so are those
    /// of which each scenario has its own.
    pub pieces: Vec<Piece>,
    /// In how many places, all scenarios together.
    pub places: usize,
    /// The scenarios, by name.
    pub scenarios: Vec<Concerned>,
    /// One of the places.
    pub example: Option<Example>,
}

/// A scenario that a group concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concerned {
    /// Its suite.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// In how many places.
    pub places: usize,
}

/// A place that shows what a group is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The scenario's name.
    pub scenario: String,
    /// `results`, `ledger` or `log`.
    pub text: &'static str,
    /// The lines of the first side, with their numbers in its file.
    pub a: Vec<(usize, String)>,
    /// The lines of the second.
    pub b: Vec<(usize, String)>,
}

/// What is said of a side.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    /// As it was asked for.
    pub name: String,
    /// LAVA's version.
    pub lava: Option<String>,
    /// Name of the run.
    pub run: String,
    /// What its LAVA is made of besides.
    pub about: BTreeMap<&'static str, String>,
}

/// A scenario on the two sides.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Its suite.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// Its verdict on the first side; null where it is not there.
    pub a: Option<Verdict>,
    /// The same on the second.
    pub b: Option<Verdict>,
    /// Whether its texts were compared.
    pub compared: bool,
}

/// Two sides, and what differs.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Of this format: 1.
    pub version: u32,
    /// The first side.
    pub a: Told,
    /// The second.
    pub b: Told,
    /// How many groups there are of each kind.
    pub totals: BTreeMap<Kind, usize>,
    /// What differs: by kind, then what concerns most scenarios first.
    pub groups: Vec<Group>,
    /// How long LAVA's stages took.
    pub times: Vec<Stage>,
    /// The scenarios, by suite and name.
    pub scenarios: Vec<Compared>,
}

/// Compares two sides.
///
/// # Errors
/// [`Error::NoMatch`] when they have no scenario in common, [`Error::Usage`] when a report is not
/// whole.
pub fn compare(a: &Side, b: &Side) -> Result<Comparison> {
    let mut all: Vec<&(String, String)> = a.scenarios().chain(b.scenarios()).collect();
    all.sort();
    all.dedup();
    if !all.iter().any(|scenario| a.row(scenario).is_some() && b.row(scenario).is_some()) {
        return Err(Error::NoMatch(format!(
            "{} and {} have no scenario in common: {} and {}",
            a.name,
            b.name,
            first_ones(a),
            first_ones(b)
        )));
    }
    let mut causes = Causes::default();
    let mut scenarios = Vec::new();
    let mut timed = Vec::new();
    for scenario in all {
        let (ours, theirs) = (a.row(scenario), b.row(scenario));
        let place = causes.add_scenario(scenario);
        let both = ours.zip(theirs).filter(|(a, b)| is_answered(a.verdict()) && is_answered(b.verdict()));
        match both {
            Some((ours, theirs)) => {
                let (one, other) = (a.texts(ours)?, b.texts(theirs)?);
                if one != other {
                    let names = names(ours, &one[1]);
                    causes.add(place, items(&one, &other, &names), [one, other]);
                }
                timed.push((place, (ours, theirs)));
            }
            None => {
                let [from, to] = [ours, theirs].map(state);
                // Why it came to nothing on both sides is no difference: no two jobs have one number.
                if ours.map(Row::verdict) != theirs.map(Row::verdict) {
                    causes.add_whole(Kind::Scenario, &Piece::Verdict { from, to }, &[place]);
                }
            }
        }
        scenarios.push(Compared {
            suite: scenario.0.clone(),
            name: scenario.1.clone(),
            a: ours.map(Row::verdict),
            b: theirs.map(Row::verdict),
            compared: both.is_some(),
        });
    }
    let (places, pairs): (Vec<usize>, Vec<(&Row, &Row)>) = timed.into_iter().unzip();
    let times = time::times(&pairs);
    // Jobs that had fewer others beside them took less time.
    let pieces = if a.ran_the_same(b) { times.pieces } else { Vec::new() };
    for (piece, of) in pieces {
        let of: Vec<usize> = of.into_iter().map(|place| places[place]).collect();
        causes.add_whole(Kind::Time, &piece, &of);
    }
    let groups = causes.groups();
    let mut totals: BTreeMap<Kind, usize> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
    for group in &groups {
        *totals.entry(group.kind).or_default() += 1;
    }
    Ok(Comparison {
        version: VERSION,
        a: told(a),
        b: told(b),
        totals,
        groups,
        times: times.stages,
        scenarios,
    })
}

impl Comparison {
    /// How many scenarios have an answer on both sides.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.scenarios.iter().filter(|scenario| scenario.compared).count()
    }

    /// Whether it has something of what shall make it fail.
    #[must_use]
    pub fn fails(&self, on: &[FailOn]) -> bool {
        self.groups.iter().any(|group| on.iter().any(|on| on.covers(group.kind)))
    }

    /// `compare.json`.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn json(&self) -> Result<String, String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        text.push('\n');
        Ok(text)
    }
}

/// The names of some scenarios of a side, for people.
fn first_ones(side: &Side) -> String {
    const SOME: usize = 3;
    let names: Vec<String> = side.scenarios().take(SOME).map(|(_, name)| printable(name)).collect();
    match side.scenarios().count() {
        0 => "the report has none".into(),
        all if all > SOME => format!("{}, …", names.join(", ")),
        _ => names.join(", "),
    }
}

fn told(side: &Side) -> Told {
    Told {
        name: side.name.clone(),
        lava: side.about.version.clone(),
        run: side.run.clone(),
        about: side.about.parts().into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
    }
}

/// What became of a scenario, in a word or two.
fn state(row: Option<&Row>) -> String {
    let Some(row) = row else { return "not there".into() };
    if is_answered(row.verdict()) {
        return "answered".into();
    }
    let reason = row.outcome.as_ref().and_then(|outcome| outcome.reason.as_deref()).unwrap_or_default();
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    format!("{}{reason}", row.verdict().name())
}

#[cfg(test)]
mod tests;
