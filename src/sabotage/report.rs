//! What became of sabotages: the table for people, and `self-test.json` for the rest.

use serde::Serialize;

use super::Sabotage;
use super::trial::Trial;
use crate::event::{Difference, Outcome};
use crate::text::printable;

/// What became of a sabotage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// By exactly the scenarios that must, each with the right first difference.
    Noticed,
    /// Not by all that must, or with another first difference; or by others, too.
    Wrong,
    /// Not tried to the end.
    NotRun,
}

impl Verdict {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Noticed => "noticed",
            Self::Wrong => "WRONG",
            Self::NotRun => "not-run",
        }
    }
}

/// The sabotages of a self-test, and what became of each.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Table {
    /// One for each, in their order.
    pub sabotages: Vec<Row>,
}

/// A sabotage and its trials.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What is broken.
    pub about: String,
    /// Trials that were held, by scenario.
    pub trials: Vec<Tried>,
    /// How many there are to be.
    pub planned: usize,
}

/// A trial that was held.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// The scenario.
    pub scenario: String,
    /// Whether it must notice.
    pub must_notice: bool,
    /// Its verdict.
    pub verdict: crate::event::Verdict,
    /// Where it left the expectation.
    pub first_difference: Option<Difference>,
    /// What is not as it must be.
    pub fault: Option<String>,
    /// From submission to verdict.
    pub seconds: f64,
}

impl Row {
    /// What became of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.trials.iter().any(|tried| tried.fault.is_some()) {
            Verdict::Wrong
        } else if self.trials.len() < self.planned || self.planned == 0 {
            Verdict::NotRun
        } else {
            Verdict::Noticed
        }
    }

    /// `4 of 4 notice, 3 others do not`.
    #[must_use]
    pub fn counts(&self) -> String {
        let (noticing, others): (Vec<&Tried>, Vec<&Tried>) =
            self.trials.iter().partition(|tried| tried.must_notice);
        let noticed = noticing.iter().filter(|tried| tried.verdict != crate::event::Verdict::Pass).count();
        let still = others.iter().filter(|tried| tried.verdict == crate::event::Verdict::Pass).count();
        match (noticing.len(), others.len()) {
            (0, all) => format!("{still} of {all} do not notice"),
            (all, 0) => format!("{noticed} of {all} notice"),
            (all, rest) => format!("{noticed} of {all} notice, {still} of {rest} others do not"),
        }
    }
}

impl Table {
    /// A sabotage with so many trials to come.
    pub fn plan(&mut self, name: &str, about: &str, planned: usize) {
        self.sabotages.push(Row {
            name: name.to_owned(),
            about: about.to_owned(),
            trials: Vec::new(),
            planned,
        });
    }

    /// Takes in how a trial ended. Returns the row where that was its last one.
    pub fn take(&mut self, name: &str, trial: &Trial, outcome: &Outcome) -> Option<&Row> {
        let scenario = &trial.ready.scenario;
        let as_it_is = || {
            let red = outcome.verdict != crate::event::Verdict::Pass;
            red.then(|| {
                let difference = outcome.first_difference.as_ref().map(|first| format!(": {first}"));
                let verdict = outcome.verdict.name();
                format!("{verdict} without any sabotage{}", difference.unwrap_or_default())
            })
        };
        let sabotage: Option<&Sabotage> = trial.sabotage.as_deref();
        let tried = Tried {
            scenario: scenario.name.clone(),
            must_notice: sabotage.is_some_and(|sabotage| sabotage.must_notice(scenario)),
            verdict: outcome.verdict,
            first_difference: outcome.first_difference.clone(),
            fault: sabotage.map_or_else(as_it_is, |sabotage| sabotage.fault(scenario, outcome)),
            seconds: outcome.seconds,
        };
        let row = self.sabotages.iter_mut().find(|row| row.name == name)?;
        row.trials.push(tried);
        row.trials.sort_by(|a, b| a.scenario.cmp(&b.scenario));
        (row.trials.len() == row.planned).then_some(row)
    }

    /// How many have this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.sabotages.iter().filter(|row| row.verdict() == verdict).count()
    }

    /// The table, with what is wrong below each row.
    #[must_use]
    pub fn text(&self) -> String {
        let wide = self.sabotages.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.sabotages {
            let line = format!("{:8} {:wide$}  {}", row.verdict().name(), row.name, row.counts());
            text.push_str(line.trim_end());
            text.push('\n');
            text.push_str(&row.faults());
        }
        text
    }
}

impl Row {
    /// What is wrong, a line for each scenario.
    #[must_use]
    pub fn faults(&self) -> String {
        let faults = self.trials.iter().filter_map(|tried| {
            let fault = tried.fault.as_ref()?;
            Some(format!("           {}: {}\n", tried.scenario, printable(fault)))
        });
        faults.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{outcome, sabotage};
    use super::*;
    use crate::event::Verdict::{Differs, Pass};

    fn tried(must_notice: bool, verdict: crate::event::Verdict, fault: Option<&str>) -> Tried {
        Tried {
            scenario: "juno".into(),
            must_notice,
            verdict,
            first_difference: outcome(verdict, "x").first_difference,
            fault: fault.map(str::to_owned),
            seconds: 1.0,
        }
    }

    #[test]
    fn a_row_is_noticed_when_all_its_trials_are_as_they_must_be() {
        let mut table = Table::default();
        table.plan("no-dhcp", &sabotage("all()").about, 2);
        let row = &mut table.sabotages[0];
        assert_eq!(row.verdict(), Verdict::NotRun);
        row.trials.push(tried(true, Differs, None));
        assert_eq!((row.verdict(), row.counts().as_str()), (Verdict::NotRun, "1 of 1 notice"));
        row.trials.push(tried(false, Pass, None));
        assert_eq!(row.verdict(), Verdict::Noticed);
        assert_eq!(row.counts(), "1 of 1 notice, 1 of 1 others do not");
        row.trials.push(tried(true, Pass, Some("not \u{1b}[1mnoticed")));
        assert_eq!(row.verdict(), Verdict::Wrong);
        assert_eq!(row.faults(), "           juno: not \\x1b[1mnoticed\n");
        assert_eq!((table.count(Verdict::Wrong), table.count(Verdict::Noticed)), (1, 0));
        assert!(table.text().starts_with("WRONG    no-dhcp  1 of 2 notice, 1 of 1 others do not\n"));
    }

    #[test]
    fn a_sabotage_without_any_trial_shows_nothing() {
        let mut table = Table::default();
        table.plan("no-dhcp", "", 0);
        assert_eq!(table.sabotages[0].verdict(), Verdict::NotRun);
    }
}
