//! What became of the wall clock of a run, as its events tell.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::event::{Event, Lane, Outcome, Phase};

/// The steps of a job, in order: LAVA's, and the harness's own.
pub const STEPS: [&str; 9] =
    ["queued", "starting", "validate", "deploy", "boot", "test", "finalize", "ending", "judge"];

/// When what happened to the jobs of a run; filled from its events.
#[derive(Debug, Default)]
pub struct Record {
    phases: BTreeMap<Phase, f64>,
    elapsed: f64,
    jobs: BTreeMap<String, Job>,
    /// Verdicts that are no `pass`, skipped ones left out.
    pub red: usize,
}

#[derive(Debug)]
struct Job {
    submitted: Instant,
    finished: Option<(Instant, Outcome)>,
}

/// A step of all jobs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// One of [`STEPS`].
    pub name: &'static str,
    /// Seconds of all jobs together.
    pub total: f64,
    /// Seconds of half of the jobs at most.
    pub median: f64,
    /// Seconds of the longest one.
    pub longest: f64,
    /// Whose that is.
    pub of: String,
}

/// How many jobs were under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Concurrency {
    /// The most at once.
    pub most: usize,
    /// On average over the phase of the jobs.
    pub average: f64,
    /// Seconds from the last submission to the last verdict: fewer and fewer of them.
    pub tail: f64,
    /// Seconds of the phase with only one or two of them.
    pub lonely: f64,
    /// The one that ended last.
    pub last: String,
}

impl Record {
    /// Takes an event in, which happens now.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::PhaseEnded(phase, took) => *self.phases.entry(*phase).or_default() += took.as_secs_f64(),
            Event::Ended { elapsed, .. } => self.elapsed = elapsed.as_secs_f64(),
            Event::Submitted { scenario, .. } => {
                let job = Job { submitted: Instant::now(), finished: None };
                self.jobs.insert(scenario.clone(), job);
            }
            Event::Finished { scenario, outcome } => {
                self.red += usize::from(!outcome.verdict.is_good());
                if let Some(job) = self.jobs.get_mut(scenario) {
                    job.finished.get_or_insert_with(|| (Instant::now(), outcome.clone()));
                }
            }
            _ => {}
        }
    }

    /// Wall time of the run.
    #[must_use]
    pub fn elapsed(&self) -> f64 {
        self.elapsed
    }

    /// Wall time of a phase.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> f64 {
        self.phases.get(&phase).copied().unwrap_or_default()
    }

    /// How many jobs went from submission to verdict.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs.values().filter(|job| job.finished.is_some()).count()
    }

    /// The steps of all jobs.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let step = |name: &'static str| {
            let mut all: Vec<(f64, &str)> = self
                .jobs
                .iter()
                .filter_map(|(scenario, job)| Some((job.step(name)?, scenario.as_str())))
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (longest, of) = all.last().copied().unwrap_or_default();
            Step {
                name,
                total: all.iter().map(|(seconds, _)| seconds).sum(),
                median: all.get(all.len() / 2).map_or(0.0, |(seconds, _)| *seconds),
                longest,
                of: of.to_owned(),
            }
        };
        STEPS.into_iter().map(step).collect()
    }

    /// How many jobs were under way, and for how long few were.
    #[must_use]
    pub fn concurrency(&self) -> Concurrency {
        let ended = |job: &Job| job.finished.as_ref().map(|(at, _)| *at);
        let mut changes: Vec<(Instant, bool)> = Vec::new();
        for job in self.jobs.values() {
            let Some(end) = ended(job) else { continue };
            changes.extend([(job.submitted, true), (end, false)]);
        }
        changes.sort();
        let (Some((begin, _)), Some((end, _))) = (changes.first(), changes.last()) else {
            return Concurrency::default();
        };
        let (mut now, mut most, mut area, mut lonely) = (0_usize, 0, 0.0, 0.0);
        for (at, next) in changes.iter().zip(changes.iter().skip(1)) {
            now = if at.1 { now + 1 } else { now.saturating_sub(1) };
            most = most.max(now);
            let seconds = (next.0 - at.0).as_secs_f64();
            #[allow(clippy::cast_precision_loss)] // There are not that many jobs.
            let jobs = now as f64;
            area += seconds * jobs;
            lonely += if now <= 2 { seconds } else { 0.0 };
        }
        let last_begin = changes.iter().rfind(|(_, begins)| *begins).map_or(*begin, |(at, _)| *at);
        let last = self.jobs.iter().max_by_key(|(_, job)| ended(job)).map(|(name, _)| name.clone());
        Concurrency {
            most,
            average: area / (*end - *begin).as_secs_f64().max(f64::EPSILON),
            tail: (*end - last_begin).as_secs_f64(),
            lonely,
            last: last.unwrap_or_default(),
        }
    }
}

impl Job {
    /// Seconds of one of [`STEPS`]; `None` where the job has none.
    fn step(&self, name: &str) -> Option<f64> {
        let (finished, outcome) = self.finished.as_ref()?;
        let lava = || outcome.timeline.iter().filter(|span| span.lane == Lane::Lava);
        if name == "judge" {
            // What LAVA's own timeline does not explain: evidence fetched and judged.
            let known = lava().map(|span| span.to).reduce(f64::max)?;
            return Some(((*finished - self.submitted).as_secs_f64() - known).max(0.0));
        }
        let spans: Vec<f64> =
            lava().filter(|span| span.kind == name).map(|span| span.to - span.from).collect();
        (!spans.is_empty()).then(|| spans.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{Span, Verdict};

    fn job(submitted: Instant, from: u64, to: u64, deploy: f64) -> Job {
        let mut outcome = Outcome::without_evidence(Verdict::Pass, String::new(), 0.0);
        let span = |kind: &str, from, to| Span {
            job: String::new(),
            lane: Lane::Lava,
            kind: kind.into(),
            name: String::new(),
            from,
            to,
        };
        outcome.timeline = vec![span("deploy", 1.0, 1.0 + deploy), span("ending", 1.0 + deploy, 5.0)];
        let at = |seconds| submitted + Duration::from_secs(seconds);
        Job { submitted: at(from), finished: Some((at(to), outcome)) }
    }

    #[test]
    fn steps_are_summed_and_the_longest_is_named() {
        let start = Instant::now();
        let mut record = Record::default();
        record.jobs.insert("a".into(), job(start, 0, 7, 2.0));
        record.jobs.insert("b".into(), job(start, 1, 9, 3.0));
        record.jobs.insert("c".into(), Job { submitted: start, finished: None });
        let steps = record.steps();
        let step = |name: &str| steps.iter().find(|step| step.name == name).unwrap();
        assert_eq!((step("deploy").total, step("deploy").longest), (5.0, 3.0));
        assert_eq!(step("deploy").of, "b");
        assert_eq!((step("judge").total, step("judge").median), (5.0, 3.0));
        assert_eq!((step("boot").total, step("boot").of.as_str()), (0.0, ""));
        assert_eq!(record.jobs(), 2);
    }

    #[test]
    fn few_jobs_at_the_end_are_told() {
        let start = Instant::now();
        let mut record = Record::default();
        assert_eq!(record.concurrency(), Concurrency::default());
        for (name, from, to) in [("a", 0, 4), ("b", 0, 4), ("c", 0, 10), ("d", 2, 6)] {
            record.jobs.insert(name.into(), job(start, from, to, 1.0));
        }
        let found = record.concurrency();
        assert_eq!((found.most, found.tail, found.lonely), (4, 8.0, 6.0));
        assert_eq!(found.last, "c");
        assert!((found.average - 2.2).abs() < 1e-9);
    }
}
