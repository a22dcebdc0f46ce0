//! What the jobs that are under way are doing: LAVA's current action of each, and
//! which of them is slow. For people only; no verdict depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use crate::event::{Event, EventSender};
use crate::lava::actions::{Open, news};
use crate::stack::Stack;

/// How often it is looked whether a job is slow.
const TICK: Duration = Duration::from_secs(1);
/// How often LAVA is asked for the current actions, where somebody looks.
const ASK: Duration = Duration::from_secs(2);
/// A job is slow when it takes so many times as long as half of the others did,
const TIMES: u32 = 3;
/// if so many have ended,
const DONE: usize = 5;
/// and at least this long.
const LEAST: Duration = Duration::from_secs(20);

/// The jobs of a run that are under way.
#[derive(Debug, Default)]
pub struct Activity {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By scenario; one has several jobs where it has several roles.
    jobs: BTreeMap<String, Jobs>,
    done: Vec<Duration>,
}

#[derive(Debug)]
struct Jobs {
    /// Each one's id, and what it has open.
    open: Vec<(String, Open)>,
    since: Instant,
    timeout: Duration,
    told: Option<String>,
    slow: bool,
}

impl Activity {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job `id` of `scenario` was submitted, perhaps as one of several; it may take
    /// `timeout`.
    pub fn begin(&self, scenario: &str, id: &str, timeout: Duration) {
        let mut state = self.state();
        let jobs = state.jobs.entry(scenario.to_owned()).or_insert_with(|| Jobs {
            open: Vec::new(),
            since: Instant::now(),
            timeout,
            told: None,
            slow: false,
        });
        jobs.open.push((id.to_owned(), Open::default()));
    }

    /// It ended.
    pub fn end(&self, scenario: &str) {
        let mut state = self.state();
        if let Some(job) = state.jobs.remove(scenario) {
            state.done.push(job.since.elapsed());
        }
    }

    /// Tells `events` of what the jobs do, until it is dropped. Where nobody `looks`,
    /// LAVA is asked only about a job that is slow.
    pub async fn watch(self: Arc<Self>, stack: Arc<Stack>, looks: bool, events: EventSender) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = Instant::now();
        loop {
            tick.tick().await;
            let slow = self.newly_slow(Instant::now());
            let all = looks && asked.elapsed() >= ASK;
            let about: Vec<(String, String, usize)> = self
                .state()
                .jobs
                .iter()
                .filter(|(scenario, _)| all || slow.iter().any(|(name, _)| name == *scenario))
                .flat_map(|(scenario, jobs)| {
                    jobs.open.iter().map(|(id, open)| (scenario.clone(), id.clone(), open.lines))
                })
                .collect();
            if !about.is_empty() {
                let jobs: Vec<(String, usize)> =
                    about.iter().map(|(_, id, lines)| (id.clone(), *lines)).collect();
                match news(stack.api(), &jobs).await {
                    Ok(logs) => {
                        for ((scenario, id, _), log) in about.iter().zip(logs) {
                            self.take(scenario, id, &log, &events);
                        }
                    }
                    // It is decoration; what is wrong with LAVA shows elsewhere.
                    Err(error) => tracing::debug!(%error, "activity"),
                }
            }
            if all {
                asked = Instant::now();
            }
            for (scenario, why) in slow {
                let action = self.state().jobs.get(&scenario).and_then(Jobs::current);
                let _ = events.send(Event::Slow { scenario, why, action });
            }
        }
    }

    /// Takes in more of a job's log.
    fn take(&self, scenario: &str, id: &str, log: &[u8], events: &EventSender) {
        let mut state = self.state();
        let Some(job) = state.jobs.get_mut(scenario) else { return };
        for (_, open) in job.open.iter_mut().filter(|(other, _)| other == id) {
            open.take(log);
        }
        let current = job.current();
        if current != job.told
            && let Some(action) = &current
        {
            let _ = events.send(Event::Action { scenario: scenario.to_owned(), action: action.clone() });
            job.told = current;
        }
    }

    /// Jobs that became slow, and why they are called so.
    fn newly_slow(&self, now: Instant) -> Vec<(String, String)> {
        let mut state = self.state();
        let usual = usual(&state.done);
        let mut slow = Vec::new();
        for (scenario, job) in &mut state.jobs {
            if job.slow {
                continue;
            }
            let ran = now.saturating_duration_since(job.since);
            if let Some(why) = why_slow(ran, job.timeout, usual) {
                job.slow = true;
                slow.push((scenario.clone(), why));
            }
        }
        slow
    }
}

impl Jobs {
    /// What they are doing; of several each that is doing something else.
    fn current(&self) -> Option<String> {
        let mut all: Vec<String> = Vec::new();
        for action in self.open.iter().filter_map(|(_, open)| open.current()) {
            if !all.contains(&action) {
                all.push(action);
            }
        }
        (!all.is_empty()).then(|| all.join(" | "))
    }
}

/// What half of the jobs took at most; nothing while too few have ended.
fn usual(done: &[Duration]) -> Option<Duration> {
    let mut done = done.to_vec();
    done.sort_unstable();
    (done.len() >= DONE).then(|| done[done.len() / 2])
}

fn why_slow(ran: Duration, timeout: Duration, usual: Option<Duration>) -> Option<String> {
    let beside = match usual {
        Some(usual) if ran >= LEAST.max(usual * TIMES) => format!("others took {} s", usual.as_secs()),
        _ if ran >= timeout / 2 => "half of its time is over".to_owned(),
        _ => return None,
    };
    Some(format!("{} s; {beside}, it is given up after {} s", ran.as_secs(), timeout.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_job_is_slow_beside_the_others_or_when_half_of_its_time_is_over() {
        assert_eq!(usual(&[seconds(9); 4]), None);
        let usual = usual(&[seconds(9), seconds(1), seconds(8), seconds(7), seconds(30)]);
        assert_eq!(usual, Some(seconds(8)));
        assert_eq!(why_slow(seconds(23), seconds(180), usual), None);
        assert_eq!(
            why_slow(seconds(24), seconds(180), usual).as_deref(),
            Some("24 s; others took 8 s, it is given up after 180 s")
        );
        assert_eq!(why_slow(seconds(89), seconds(180), None), None);
        assert_eq!(
            why_slow(seconds(90), seconds(180), None).as_deref(),
            Some("90 s; half of its time is over, it is given up after 180 s")
        );
        assert_eq!(why_slow(seconds(19), seconds(180), Some(seconds(1))), None);
    }

    #[test]
    fn several_jobs_of_a_scenario_tell_together_what_they_do() {
        let activity = Activity::default();
        let (events, mut told) = tokio::sync::mpsc::unbounded_channel();
        for id in ["1", "2", "3"] {
            activity.begin("two-roles", id, seconds(100));
        }
        let log = |action: &str| {
            format!("- {{\"dt\": \"x\", \"lvl\": \"info\", \"msg\": \"start: {action}\"}}\n").into_bytes()
        };
        activity.take("two-roles", "2", &log("0 validate"), &events);
        activity.take("two-roles", "1", &log("0 validate"), &events);
        activity.take("two-roles", "3", &log("2 uboot-action"), &events);
        let mut actions = Vec::new();
        while let Ok(Event::Action { action, .. }) = told.try_recv() {
            actions.push(action);
        }
        assert_eq!(actions, ["0 validate", "0 validate | 2 uboot-action"]);
    }

    #[test]
    fn a_slow_job_is_named_once_and_a_change_of_action_is_told_once() {
        let activity = Activity::default();
        let (events, mut told) = tokio::sync::mpsc::unbounded_channel();
        activity.begin("juno", "1", seconds(100));
        let later = Instant::now() + seconds(60);
        assert_eq!(activity.newly_slow(later).len(), 1);
        assert_eq!(activity.newly_slow(later).len(), 0);
        let log = b"- {\"dt\": \"x\", \"lvl\": \"info\", \"msg\": \"start: 0 validate\"}\n";
        activity.take("juno", "1", log, &events);
        activity.take("juno", "1", b"", &events);
        activity.take("other", "1", log, &events);
        assert!(matches!(told.try_recv(), Ok(Event::Action { action, .. }) if action == "0 validate"));
        assert!(told.try_recv().is_err());
        activity.end("juno");
        activity.end("juno");
        assert_eq!(activity.state().done.len(), 1);
    }
}
