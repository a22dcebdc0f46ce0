//! What differs in a run, by cause: one changed line of LAVA's code shows in many
//! scenarios, and is one entry here, with the list of whom it concerns.

use std::collections::BTreeMap;

use super::{Row, Run};
use crate::event::{Cause, Difference, Verdict};

/// A cause, and where it shows.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// What the differences come to.
    pub cause: &'a Cause,
    /// One of them: the first one of the first scenario.
    pub first: &'a Difference,
    /// The scenarios, in the order of the run.
    pub rows: Vec<&'a Row>,
    /// In how many places, all scenarios together.
    pub times: usize,
}

/// All causes of what differs in `run`; those of most scenarios first, then results before
/// ledgers before logs.
#[must_use]
pub fn groups(run: &Run) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<&Cause, Group<'_>> = BTreeMap::new();
    for row in &run.rows {
        let Some(outcome) = row.outcome.as_ref().filter(|outcome| outcome.verdict == Verdict::Differs) else {
            continue;
        };
        for deviation in &outcome.deviations {
            let group = groups.entry(&deviation.cause).or_insert_with(|| Group {
                cause: &deviation.cause,
                first: &deviation.first,
                rows: Vec::new(),
                times: 0,
            });
            group.rows.push(row);
            group.times += deviation.times;
        }
    }
    let mut groups: Vec<Group<'_>> = groups.into_values().collect();
    let rank = |group: &Group<'_>| match group.cause.snapshot.as_str() {
        "results" => 0,
        "ledger" => 1,
        _ => 2,
    };
    groups.sort_by(|a, b| {
        b.rows.len().cmp(&a.rows.len()).then(rank(a).cmp(&rank(b))).then_with(|| a.cause.cmp(b.cause))
    });
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Deviation;
    use crate::report::tests::differing;

    #[test]
    fn a_cause_of_most_scenarios_comes_first_with_all_whom_it_concerns() {
        let mut run = crate::report::tests::run(std::path::Path::new("r"));
        let deviation = |snapshot: &str, word: &str| Deviation {
            cause: Cause { snapshot: snapshot.into(), expected: vec![], found: vec![word.into()] },
            times: 3,
            first: differing().first_difference.unwrap(),
        };
        for (at, words) in [(0, vec![("log", "b")]), (1, vec![("log", "b"), ("results", "a")])] {
            let deviations = words.into_iter().map(|(snapshot, word)| deviation(snapshot, word)).collect();
            run.rows[at].outcome = Some(crate::event::Outcome { deviations, ..differing() });
        }
        for row in &mut run.rows[2..] {
            row.outcome = None;
        }
        let told: Vec<(String, usize, usize)> = groups(&run)
            .iter()
            .map(|group| (group.cause.words()[1].clone(), group.rows.len(), group.times))
            .collect();
        assert_eq!(told, [("b".to_owned(), 2, 6), ("a".to_owned(), 1, 3)]);
    }
}
