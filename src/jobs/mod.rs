//! One scenario against a LAVA that runs: submit, wait for the end, gather the
//! evidence of both sides.

pub mod activity;
pub mod collector;
pub mod evidence;
pub mod timeline;

use std::collections::BTreeMap;
use std::time::Duration;

use meta_lava_ghost::ledger::Entry;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::Result;
use crate::jobs::collector::Collector;
use crate::jobs::evidence::{Announced, Evidence};
use crate::lava::api::{Api, Job, Submission};
use crate::lava::events::{Events, LavaEvent, Listener};

/// How often a job is asked about while the event stream is there. Events tell of
/// the end at once, and each question costs LAVA's server processor time that its jobs
/// want; this is for an event that was lost.
const POLL: Duration = Duration::from_secs(20);
/// The same while there is no stream.
const POLL_BLIND: Duration = Duration::from_secs(1);
/// How often, and how many times, LAVA is asked whether a job is what its event said.
const SETTLE: Duration = Duration::from_millis(100);
const SETTLE_TRIES: usize = 100;
/// How long the last events may take that LAVA announces of a job that has ended.
const LAST_EVENTS: Duration = Duration::from_secs(10);
/// How long LAVA may take to end a job that was cancelled.
const CANCEL: Duration = Duration::from_secs(20);

/// How a job ended, as far as the harness waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// LAVA finished it: what it tells of it since.
    Finished(Value),
    /// LAVA refused it: why.
    Refused(String),
    /// It did not finish in time, and was cancelled.
    TimedOut,
}

/// What a job is watched with.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// LAVA's API.
    pub api: &'a Api,
    /// LAVA's event stream.
    pub events: &'a Events,
}

impl Watch<'_> {
    /// Submits `definition`, which runs on `devices`, and waits until it has ended or
    /// `timeout` is over. `on_state` is told the job's id and each state it goes through.
    ///
    /// # Errors
    /// When LAVA can't be reached.
    pub async fn run(
        self,
        definition: &str,
        devices: &[&str],
        timeout: Duration,
        on_state: &mut (dyn FnMut(&str, &str) + Send),
    ) -> Result<(Option<String>, End, Announced)> {
        // Before the submission, so that no event is missed.
        let mut hearing = Hearing::new(self.events, devices);
        let none = |why| Ok((None, End::Refused(why), Announced::default()));
        let id = match self.api.submit(definition).await? {
            Submission::Accepted(ids) => match ids.into_iter().next() {
                Some(id) => id,
                None => return none("LAVA accepted the job without an id".into()),
            },
            Submission::Refused(why) => return none(why),
        };
        on_state(&id, "Submitted");
        let deadline = Instant::now() + timeout;
        let end = tokio::select! {
            result = self.finished(&id, &mut hearing, on_state) => End::Finished(result?.raw),
            () = tokio::time::sleep_until(deadline) => {
                self.api.cancel(&id).await?;
                // What there is of its log is worth more than nothing.
                let _ = tokio::time::timeout(CANCEL, self.finished(&id, &mut hearing, on_state)).await;
                End::TimedOut
            }
        };
        Ok((Some(id), end, hearing.announced))
    }

    async fn finished(
        self,
        id: &str,
        hearing: &mut Hearing,
        on_state: &mut (dyn FnMut(&str, &str) + Send),
    ) -> Result<Job> {
        let mut tick = tokio::time::interval(POLL_BLIND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        let mut asked = Instant::now();
        loop {
            let state = tokio::select! {
                heard = hearing.next(id) => match heard {
                    Heard::State(state) => state,
                    Heard::Gap => self.api.job(id).await?.state,
                    Heard::Other => continue,
                },
                _ = tick.tick() => {
                    if self.events.link().is_ok() && asked.elapsed() < POLL {
                        continue;
                    }
                    asked = Instant::now();
                    self.api.job(id).await?.state
                }
            };
            on_state(id, &state);
            if state == "Finished" {
                let job = self.settled(id).await?;
                // The last words on job and devices are said in one transaction; where one
                // is missing, so it is in the verdict.
                let _ = tokio::time::timeout(LAST_EVENTS, hearing.end(id)).await;
                return Ok(job);
            }
        }
    }

    /// Waits until LAVA's database says what its event said: the event goes out
    /// before the transaction is over, and nothing announces that.
    async fn settled(self, id: &str) -> Result<Job> {
        let mut tick = tokio::time::interval(SETTLE);
        tick.tick().await;
        let mut job = self.api.job(id).await?;
        for _ in 1..SETTLE_TRIES {
            if job.state == "Finished" {
                break;
            }
            tick.tick().await;
            job = self.api.job(id).await?;
        }
        // The verdict tells if it never was.
        Ok(job)
    }

    /// Everything LAVA knows of job `id`; `details` where they were asked for already.
    ///
    /// # Errors
    /// When LAVA can't be reached.
    pub async fn gather(self, id: &str, details: Option<Value>) -> Result<Evidence> {
        let details = async {
            match details {
                Some(details) => Ok(details),
                None => Ok(self.api.job(id).await?.raw),
            }
        };
        let (details, log, pipeline, suites, metadata) = tokio::try_join!(
            details,
            self.api.logs(id),
            self.api.pipeline(id),
            self.api.results(id),
            self.api.metadata(id),
        )?;
        Ok(Evidence {
            job: Some(id.to_owned()),
            details,
            log: log.unwrap_or_default(),
            pipeline,
            suites,
            metadata,
            ..Evidence::default()
        })
    }
}

/// Listens to what LAVA announces of one job, and takes it down.
struct Hearing {
    listener: Listener,
    announced: Announced,
}

/// What was heard.
enum Heard {
    /// The job's state.
    State(String),
    /// Something may have been missed.
    Gap,
    /// Something else.
    Other,
}

impl Hearing {
    fn new(events: &Events, devices: &[&str]) -> Self {
        Self {
            listener: events.subscribe(),
            announced: Announced {
                devices: devices.iter().map(|device| ((*device).to_owned(), Vec::new())).collect(),
                gap: events.link().err(),
                ..Announced::default()
            },
        }
    }

    async fn next(&mut self, id: &str) -> Heard {
        match self.listener.next().await {
            LavaEvent::Job(event) if event.job == id => {
                self.announced.job.push(format!("{} {}", event.state, event.health));
                Heard::State(event.state)
            }
            LavaEvent::Device(event) => {
                // What came before the job's first event is of what was there before.
                let begun = !self.announced.job.is_empty();
                if let Some(states) = self.announced.devices.get_mut(&event.device).filter(|_| begun) {
                    states.push(format!("{} {}", event.state, event.health));
                }
                Heard::Other
            }
            LavaEvent::Gap(why) => {
                self.announced.gap.get_or_insert(why);
                Heard::Gap
            }
            _ => Heard::Other,
        }
    }

    /// Waits until the last events of the job and of its devices are there.
    async fn end(&mut self, id: &str) {
        let last = |states: &Vec<String>, word| states.last().is_some_and(|state| state.starts_with(word));
        while !last(&self.announced.job, "Finished")
            || !self.announced.devices.values().all(|states| last(states, "Idle"))
        {
            self.next(id).await;
        }
    }
}

/// Adds what the boards took down.
///
/// # Errors
/// When the worker is gone.
pub async fn gather_boards<'a>(
    evidence: &mut Evidence,
    collector: &Collector,
    boards: impl Iterator<Item = &'a str>,
) -> Result<()> {
    for board in boards {
        let collected = collector.collect(board).await?;
        let entries: Vec<Entry> = collected
            .ledger
            .lines()
            // The last line may be cut where the daemon was killed.
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        evidence.ledgers.insert(board.to_owned(), entries);
        evidence.consoles.insert(board.to_owned(), collected.console.into_bytes());
        let blobs: BTreeMap<String, Vec<u8>> = collected
            .blobs
            .into_iter()
            .filter_map(|(sha256, content)| Some((sha256, hex::decode(content).ok()?)))
            .collect();
        evidence.blobs.extend(blobs);
    }
    Ok(())
}
