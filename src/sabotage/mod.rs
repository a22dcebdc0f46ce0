//! Sabotages: LAVA broken on purpose, in many small ways, to show that each is noticed.
//!
//! A sabotage is a file in `sabotages/`: what is changed, which scenarios must notice it,
//! and what their first difference then is. It is laid over the containers of a stack
//! ([`lay`]), never over an image. [`trial`] runs scenarios under sabotages, side by side;
//! [`mutant`] makes sabotages by chance, [`history`] of what LAVA has fixed.

mod history;
mod lay;
mod load;
mod mutant;
mod report;
mod trace;
mod trial;

pub use history::{Fix, Left, Reached, undo};
pub use load::{load, load_with_problems};
pub use mutant::{Mutation, draw};
pub use report::{Table, Verdict};
pub use trace::{ACTIONS, PACKAGES, SERVER, traced};
pub use trial::{CONTROL, Scheduler, Trial, choose, control, few, is_refused};

use serde::Deserialize;

use crate::event::{Difference, Outcome};
use crate::lava::series::{Range, Series};
use crate::scenario::Scenario;
use crate::scenario::filter::Filter;

/// A small change to the LAVA under test, and who must notice it.
#[derive(Debug, Clone)]
pub struct Sabotage {
    /// Name: that of its file.
    pub name: String,
    /// What is broken, in a line.
    pub about: String,
    /// The changes.
    pub change: Vec<Change>,
    /// The series of LAVA that it is made for; all where it does not say.
    pub series: Option<Range>,
    /// Scenarios that must notice it; no other may.
    pub noticed_by: Filter,
    /// Of those that are run to show it, which ones; all of them where it does not say.
    pub run: Option<Filter>,
    /// Whether LAVA waits for its own timeouts under it.
    pub slow: bool,
    /// Whether scenarios that are there for one feature or one failure show it, too.
    pub features: bool,
    /// What the first difference must be: of these, the first one whose `of` has the scenario.
    pub first_difference: Vec<Hint>,
}

/// Where LAVA is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A template of device-types, by its file name.
    Template,
    /// A file of the dispatcher, below the folder that Python has its packages in.
    Dispatcher,
    /// A program on the worker, by its name: a script that takes its place.
    Command,
    /// A file of the server, below the folder that Python has its packages in.
    Server,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Where.
    #[serde(rename = "in")]
    pub place: Place,
    /// Which file of it.
    pub file: String,
    /// The series of LAVA that have the text to replace; all where it does not say.
    #[serde(default)]
    pub series: Option<Range>,
    /// The text that is replaced; the whole file where there is none.
    #[serde(default)]
    pub replace: Option<String>,
    /// What takes its place.
    #[serde(default)]
    pub with: String,
    /// How many times `replace` stands in the file: all of them are replaced.
    #[serde(default = "once")]
    pub times: usize,
}

fn once() -> usize {
    1
}

impl Change {
    /// One that replaces a whole file.
    fn whole(place: Place, file: &str, with: String) -> Self {
        Self { place, file: file.to_owned(), series: None, replace: None, with, times: 1 }
    }

    /// The file's text, changed.
    ///
    /// # Errors
    /// When it is not the text that the change was made for.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        let Some(replace) = &self.replace else { return Ok(self.with.clone()) };
        let found = text.matches(replace.as_str()).count();
        if found == self.times {
            return Ok(text.replace(replace.as_str(), &self.with));
        }
        let first = replace.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        Err(format!(
            "the text to replace, which begins with `{first}`, stands {found} times in {}, not {}",
            self.file, self.times
        ))
    }
}

/// What a first difference looks like.
#[derive(Debug, Clone)]
pub struct Hint {
    /// Of which scenarios; of all where it does not say.
    pub of: Option<Filter>,
    /// On which series of LAVA; on all where it does not say.
    pub series: Option<Range>,
    /// `results`, `ledger` or `log`.
    pub snapshot: String,
    /// What the expected line contains; that there is none where it says nothing.
    pub expected: Option<String>,
    /// What the line found contains; that there is none where it says nothing.
    pub found: Option<String>,
}

impl Hint {
    /// Whether `difference` is like that.
    #[must_use]
    pub fn fits(&self, difference: &Difference) -> bool {
        let like = |hint: &Option<String>, line: &Option<String>| match (hint, line) {
            (Some(part), Some(line)) => line.contains(part.as_str()),
            (None, None) => true,
            _ => false,
        };
        self.snapshot == difference.snapshot
            && like(&self.expected, &difference.expected)
            && like(&self.found, &difference.found)
    }
}

impl Sabotage {
    /// A sabotage without a name that nobody must notice.
    fn of(change: Vec<Change>) -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            change,
            series: None,
            noticed_by: Filter::names([]),
            run: None,
            slow: false,
            features: false,
            first_difference: Vec::new(),
        }
    }

    /// Whether it must be noticed by `scenario`.
    #[must_use]
    pub fn must_notice(&self, scenario: &Scenario) -> bool {
        self.noticed_by.matches(scenario)
    }

    /// What of it is for LAVA of `series`; none where nothing is.
    #[must_use]
    pub fn on(&self, series: Series) -> Option<Self> {
        let is_of = |range: Option<Range>| range.is_none_or(|range| range.contains(series));
        let change: Vec<Change> = self.change.iter().filter(|change| is_of(change.series)).cloned().collect();
        let first_difference: Vec<Hint> =
            self.first_difference.iter().filter(|hint| is_of(hint.series)).cloned().collect();
        (is_of(self.series) && !change.is_empty()).then(|| Self { change, first_difference, ..self.clone() })
    }

    /// Whether it changes the server, which all jobs have in common.
    #[must_use]
    pub fn is_of_the_server(&self) -> bool {
        self.change.iter().any(|change| change.place == Place::Server)
    }

    /// Why `outcome` of `scenario` is not what it must be under this sabotage, if so.
    #[must_use]
    pub fn fault(&self, scenario: &Scenario, outcome: &Outcome) -> Option<String> {
        use crate::event::Verdict;
        match (self.must_notice(scenario), outcome.verdict) {
            (true, Verdict::Differs | Verdict::Timeout) => {
                let of = |hint: &&Hint| hint.of.as_ref().is_none_or(|of| of.matches(scenario));
                let hint = self.first_difference.iter().find(of)?;
                match &outcome.first_difference {
                    Some(difference) if hint.fits(difference) => None,
                    Some(difference) => Some(format!("another first difference: {difference}")),
                    None => Some("no first difference".into()),
                }
            }
            (true, Verdict::Pass) => Some("not noticed".into()),
            (false, Verdict::Pass) => None,
            (false, Verdict::Differs | Verdict::Timeout) => {
                let difference = outcome.first_difference.as_ref();
                let told = difference.map_or_else(|| outcome.verdict.name().into(), ToString::to_string);
                Some(format!("a false alarm: {told}"))
            }
            (_, other) => {
                Some(format!("{}: {}", other.name(), outcome.reason.as_deref().unwrap_or("no reason")))
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn change(replace: Option<&str>, with: &str, times: usize) -> Change {
        Change {
            place: Place::Dispatcher,
            file: "a.py".into(),
            series: None,
            replace: replace.map(str::to_owned),
            with: with.into(),
            times,
        }
    }

    #[test]
    fn a_change_fits_only_the_text_that_it_was_made_for() {
        assert_eq!(change(Some("b"), "x", 1).apply("abc").unwrap(), "axc");
        assert_eq!(change(Some("b"), "x", 2).apply("abcb").unwrap(), "axcx");
        assert_eq!(change(None, "x", 1).apply("abc").unwrap(), "x");
        let error = change(Some("\n  b\n"), "x", 1).apply("abc").unwrap_err();
        assert_eq!(error, "the text to replace, which begins with `b`, stands 0 times in a.py, not 1");
    }

    #[test]
    fn of_its_changes_a_lava_gets_those_that_are_for_its_series() {
        let series = |text: &str| Series::of(text).unwrap();
        let range = |text: &str| Some(serde_yaml::from_str::<Range>(text).unwrap());
        let both = |older: Option<Range>, newer: Option<Range>| Sabotage {
            change: vec![
                Change { series: older, ..change(None, "older", 1) },
                Change { series: newer, ..change(None, "newer", 1) },
            ],
            ..sabotage("all()")
        };
        let with = |sabotage: Sabotage, of: &str| -> Option<Vec<String>> {
            let found = sabotage.on(series(of))?;
            Some(found.change.into_iter().map(|change| change.with).collect())
        };
        let split = both(range("'<2026.09'"), range("'>=2026.09'"));
        assert_eq!(with(split.clone(), "2023.01").unwrap(), ["older"]);
        assert_eq!(with(split, "2026.10").unwrap(), ["newer"]);
        assert_eq!(with(both(None, None), "2026.10").unwrap(), ["older", "newer"]);
        assert_eq!(with(both(range("'<2026.09'"), range("'<2026.09'")), "2026.10"), None);

        let mut hinted = sabotage("all()");
        hinted.first_difference[0].series = range("'<2026.09'");
        assert_eq!(hinted.on(series("2023.01")).unwrap().first_difference.len(), 1);
        assert_eq!(hinted.on(series("2026.10")).unwrap().first_difference.len(), 0);
    }

    /// A sabotage that `noticed_by` must notice, by a lost `dhcp`.
    pub fn sabotage(noticed_by: &str) -> Sabotage {
        Sabotage {
            name: "no-dhcp".into(),
            about: "no dhcp".into(),
            change: vec![change(Some("dhcp"), "", 1)],
            series: None,
            noticed_by: Filter::parse(noticed_by).unwrap(),
            run: None,
            slow: false,
            features: false,
            first_difference: vec![Hint {
                of: None,
                series: None,
                snapshot: "ledger".into(),
                expected: Some("dhcp".into()),
                found: Some("tftp".into()),
            }],
        }
    }

    /// How a scenario ended whose ledger has `found` instead of `dhcp`.
    pub fn outcome(verdict: crate::event::Verdict, found: &str) -> Outcome {
        Outcome {
            first_difference: Some(Difference {
                snapshot: "ledger".into(),
                line: 9,
                expected: Some("firmware> dhcp".into()),
                found: Some(found.into()),
            }),
            ..Outcome::without_evidence(verdict, "ledger not as expected".into(), 1.0)
        }
    }

    #[test]
    fn a_sabotage_is_noticed_by_exactly_those_that_must_and_for_the_right_reason() {
        use crate::event::Verdict::{Differs, Error, Fixed, Pass};
        let folder = crate::scenario::tests::folder();
        let matrix = crate::scenario::Matrix::load(folder.path()).unwrap();
        let scenario = &matrix.scenarios[0];
        let fault = |by: &str, verdict, found: &str| sabotage(by).fault(scenario, &outcome(verdict, found));
        assert_eq!(fault("all()", Differs, "firmware> tftp"), None);
        assert_eq!(fault("none()", Pass, ""), None);
        assert_eq!(fault("all()", Pass, "").unwrap(), "not noticed");
        assert!(fault("all()", Differs, "power off").unwrap().starts_with("another first difference"));
        assert!(fault("none()", Differs, "firmware> tftp").unwrap().starts_with("a false alarm"));
        assert!(fault("all()", Error, "").unwrap().starts_with("error: "));
        assert!(fault("none()", Error, "").unwrap().starts_with("error: "));
        // A LAVA that was broken does nothing better.
        assert!(fault("all()", Fixed, "").unwrap().starts_with("fixed: "));
    }

    #[test]
    fn a_hint_is_a_part_of_both_lines() {
        let hint = Hint {
            of: None,
            series: None,
            snapshot: "log".into(),
            expected: Some("dhcp".into()),
            found: None,
        };
        let difference = |expected: Option<&str>, found: Option<&str>| Difference {
            snapshot: "log".into(),
            line: 5,
            expected: expected.map(str::to_owned),
            found: found.map(str::to_owned),
        };
        assert!(hint.fits(&difference(Some("=> dhcp"), None)));
        assert!(!hint.fits(&difference(Some("=> dhcp"), Some("x"))));
        assert!(!hint.fits(&difference(Some("=> tftp"), None)));
    }
}
