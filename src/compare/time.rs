//! Whether two LAVAs take another time for the same, by a rule that a busy machine does not meet.
//!
//! How long a job takes depends on what else the machine does, and a machine that is twice as busy makes
//! all of it take twice as long. So a stage of LAVA's jobs is judged beside the other stages, by medians over
//! many scenarios, and one scenario beside the others; each only where the change is large, as a factor
//! and in seconds. That a LAVA is slower in everything can't be told from a busier machine: the figures
//! are there for people.

use std::collections::BTreeMap;

use serde::Serialize;

use super::items::Piece;
use crate::event::{Lane, Span};
use crate::report::Row;

/// So many scenarios make a median that one of them can't move.
const MANY: usize = 8;
/// A stage's median must have grown or shrunk by this factor,
const FACTOR: f64 = 3.0;
/// by this one beside what became of the other stages,
const BESIDE: f64 = 2.0;
/// and by so many seconds.
const SECONDS: f64 = 3.0;
/// The same of a single scenario beside the others.
const OWN_FACTOR: f64 = 3.0;
const OWN_SECONDS: f64 = 15.0;
/// What waiting for a free worker takes says nothing of a LAVA: it follows from how many jobs there are.
const LEFT_OUT: [&str; 1] = ["queued"];
/// No stage is believed to take longer, in seconds.
const LONGEST: f64 = 1e7;
/// A whole job, without [`LEFT_OUT`].
const ALL: &str = "job";

/// How long a stage of LAVA's jobs takes on the two sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// `deploy`, `boot`, ...; `job` is all of it.
    pub stage: String,
    /// Of how many scenarios that is known on both sides.
    pub scenarios: usize,
    /// The median of the first side, in seconds.
    pub a: f64,
    /// The same of the second.
    pub b: f64,
    /// The median of the scenarios' own ratios.
    pub ratio: f64,
}

/// What was found of times.
#[derive(Debug, Default)]
pub struct Times {
    /// The stages.
    pub stages: Vec<Stage>,
    /// What takes another time, and the scenarios that show it, by their place in the list.
    pub pieces: Vec<(Piece, Vec<usize>)>,
}

/// Compares the times of scenarios, each on both sides.
#[must_use]
pub fn times(pairs: &[(&Row, &Row)]) -> Times {
    let mut of_stages: BTreeMap<String, Vec<(usize, f64, f64)>> = BTreeMap::new();
    // A job that ended early took less time, and that is told as what it is.
    let ended = |row: &Row| row.outcome.as_ref().map(|outcome| outcome.ended.len());
    for (place, (a, b)) in pairs.iter().enumerate().filter(|(_, (a, b))| ended(a) == ended(b)) {
        let (a, b) = (seconds(a), seconds(b));
        for (stage, before) in &a {
            if let Some(after) = b.get(stage) {
                of_stages.entry(stage.clone()).or_default().push((place, *before, *after));
            }
        }
    }
    let mut times = Times::default();
    let ratio_of = |of: &[(usize, f64, f64)]| median(of.iter().map(|(_, a, b)| b / a));
    let others = |than: &str| {
        let of = of_stages.iter().filter(|(stage, of)| *stage != ALL && *stage != than && of.len() >= MANY);
        median(of.map(|(_, of)| ratio_of(of)))
    };
    for (stage, of) in &of_stages {
        let a = median(of.iter().map(|(_, a, _)| *a));
        let b = median(of.iter().map(|(_, _, b)| *b));
        let ratio = ratio_of(of);
        let rounded = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
        times.stages.push(Stage {
            stage: stage.clone(),
            scenarios: of.len(),
            a: rounded(a),
            b: rounded(b),
            ratio: rounded(ratio),
        });
        let is_known = of.len() >= MANY;
        let beside = ratio / others(stage);
        let is_further = is_far(beside, BESIDE) && (beside > 1.0) == (ratio > 1.0);
        if is_known && stage != ALL && is_far(ratio, FACTOR) && is_further && (b - a).abs() >= SECONDS {
            let piece = Piece::Time { stage: stage.clone(), slower: ratio > 1.0 };
            times.pieces.push((piece, of.iter().map(|(place, ..)| *place).collect()));
        }
        // Where there are few jobs, there are no others to tell what the machine did.
        if is_known && stage == ALL {
            for (place, a, b) in of {
                let expected = a * ratio;
                if is_far(b / expected, OWN_FACTOR) && (b - expected).abs() >= OWN_SECONDS {
                    let stage = "this job, beside the others,".to_owned();
                    let piece = Piece::Time { stage, slower: *b > expected };
                    times.pieces.push((piece, vec![*place]));
                }
            }
        }
    }
    times
}

/// Seconds of each stage of a scenario's jobs; those that took no time are none.
fn seconds(row: &Row) -> BTreeMap<String, f64> {
    let spans = row.outcome.iter().flat_map(|outcome| &outcome.timeline);
    let mut seconds: BTreeMap<String, f64> = BTreeMap::new();
    let is_of_lava = |span: &&Span| span.lane == Lane::Lava && !LEFT_OUT.contains(&span.kind.as_str());
    for span in spans.filter(is_of_lava) {
        let took = span.to - span.from;
        // What a report says may be anything.
        if took > 0.0 && took < LONGEST {
            *seconds.entry(span.kind.clone()).or_default() += took;
            *seconds.entry(ALL.to_owned()).or_default() += took;
        }
    }
    seconds
}

fn is_far(ratio: f64, factor: f64) -> bool {
    ratio >= factor || ratio <= 1.0 / factor
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Outcome, ScenarioInfo, Verdict};

    /// Rows of which each has these seconds of `deploy`, and half of them of `boot` and `test`.
    fn rows(seconds: &[f64]) -> Vec<Row> {
        let row = |(number, deploy): (usize, &f64)| {
            let span = |kind: &str, from: f64, to: f64| Span {
                lane: Lane::Lava,
                job: String::new(),
                kind: kind.into(),
                name: kind.into(),
                from,
                to,
            };
            let timeline = vec![
                span("queued", 0.0, 500.0),
                span("deploy", 0.0, *deploy),
                span("boot", 0.0, deploy / 2.0),
            ];
            let outcome = Outcome {
                timeline,
                reason: None,
                ..Outcome::without_evidence(Verdict::Pass, String::new(), *deploy)
            };
            let info = ScenarioInfo {
                name: number.to_string(),
                suite: "health-checks".into(),
                device_types: Vec::new(),
                about: None,
            };
            Row { outcome: Some(outcome), ..Row::new(info) }
        };
        seconds.iter().enumerate().map(row).collect()
    }

    /// The same where `boot` takes so many times as long.
    fn with_boot(mut rows: Vec<Row>, factor: f64) -> Vec<Row> {
        for span in rows.iter_mut().flat_map(|row| &mut row.outcome.as_mut().unwrap().timeline) {
            if span.kind == "boot" {
                span.to *= factor;
            }
        }
        rows
    }

    fn told(a: &[Row], b: &[Row]) -> Vec<String> {
        let pairs: Vec<(&Row, &Row)> = a.iter().zip(b).collect();
        let piece = |(piece, of): &(Piece, Vec<usize>)| format!("{} in {}", piece.in_a_line(), of.len());
        times(&pairs).pieces.iter().map(piece).collect()
    }

    const TEN: [f64; 10] = [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0];

    #[test]
    fn a_machine_that_is_busier_is_no_difference() {
        let busy = TEN.map(|seconds| seconds * 6.0);
        assert_eq!(told(&rows(&TEN), &rows(&busy)), [""; 0]);
        assert_eq!(told(&rows(&busy), &rows(&TEN)), [""; 0]);
        let uneven: Vec<f64> = TEN.iter().zip([1.0, 2.0].iter().cycle()).map(|(a, b)| a * b).collect();
        assert_eq!(told(&rows(&TEN), &rows(&uneven)), [""; 0]);
    }

    #[test]
    fn a_stage_that_takes_much_longer_beside_the_others_is_one() {
        assert_eq!(told(&rows(&TEN), &with_boot(rows(&TEN), 9.0)), ["boot takes longer in 10"]);
        assert_eq!(told(&with_boot(rows(&TEN), 9.0), &rows(&TEN)), ["boot takes less time in 10"]);
        assert_eq!(told(&rows(&TEN), &with_boot(rows(&TEN), 2.0)), [""; 0]);
        // A factor alone is nothing: of little time it is chance.
        let short = TEN.map(|seconds| seconds / 20.0);
        assert_eq!(told(&rows(&short), &with_boot(rows(&short), 9.0)), [""; 0]);
    }

    #[test]
    fn one_scenario_is_judged_beside_the_others() {
        let mut slow = TEN;
        slow[3] = 70.0;
        assert_eq!(told(&rows(&TEN), &rows(&slow)), ["this job, beside the others, takes longer in 1"]);
        // Where there are few of them, nothing is known of the others.
        assert_eq!(told(&rows(&TEN[..7]), &rows(&slow[..7])), [""; 0]);
    }

    #[test]
    fn what_a_report_says_of_time_may_be_anything() {
        let mut odd = rows(&TEN);
        for (span, to) in odd
            .iter_mut()
            .flat_map(|row| &mut row.outcome.as_mut().unwrap().timeline)
            .zip([f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MAX, f64::MIN_POSITIVE].into_iter().cycle())
        {
            span.to = to;
        }
        let pairs: Vec<(&Row, &Row)> = odd.iter().zip(&odd).collect();
        assert!(times(&pairs).stages.iter().all(|stage| stage.a.is_finite()));
    }
}
