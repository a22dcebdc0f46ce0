//! One scenario against a LAVA that runs: submit, wait for the end, gather the
//! evidence of both sides. LAVA makes one job of most definitions, and a group of those
//! with roles.

pub mod activity;
pub mod announced;
pub mod collector;
pub mod ending;
pub mod evidence;
pub mod requests;
pub mod timeline;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use meta_lava_ghost::ledger::Entry;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::{Error, Result};
use crate::jobs::announced::Announced;
use crate::jobs::collector::Collector;
use crate::jobs::evidence::{Evidence, Port};
use crate::lava::api::{Api, Job, Submission};
use crate::lava::events::{Events, LavaEvent, Listener, Subject};
use crate::lava::group;
use crate::lava::words::{DeviceHealth, JobState};

/// How often a job is asked about while the event stream is there. Events tell of
/// the end at once, and each question costs LAVA's server processor time that its jobs
/// want; this is for an event that was lost.
const POLL: Duration = Duration::from_secs(20);
/// The same while there is no stream.
const POLL_BLIND: Duration = Duration::from_secs(1);
/// How many times it is asked then, [`POLL_BLIND`] apart, after an event says that a device is not fit for
/// jobs: it goes out before its transaction is over, and may be older than the job.
const DOUBTS: usize = 5;
/// How often, and how many times, LAVA is asked whether a job is what its event said.
const SETTLE: Duration = Duration::from_millis(100);
const SETTLE_TRIES: usize = 100;
/// How long the events may take that LAVA announces of a job which has ended. None of them
/// is lost, so all this time is taken only where LAVA did not send one.
const LAST_EVENTS: Duration = Duration::from_secs(20);
/// How long LAVA may take to end a job that was cancelled.
const CANCEL: Duration = Duration::from_secs(20);

/// How a submission ended, as far as the harness waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// LAVA finished all of its jobs.
    Finished,
    /// LAVA refused it: why.
    Refused(String),
    /// One did not finish in time, and all were cancelled.
    TimedOut,
    /// One can never run, since LAVA calls this device of its unfit for jobs; all were cancelled.
    Never {
        /// The device.
        device: String,
        /// What LAVA calls it.
        health: DeviceHealth,
    },
}

/// Why a job is not waited for any longer.
enum Stop {
    Error(Error),
    Unfit(String, DeviceHealth),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// One of the jobs that LAVA made of a submission.
pub struct Ran {
    /// Its id.
    pub id: String,
    /// What LAVA tells of it since it has finished.
    pub details: Option<Value>,
    /// What is heard of it, on until [`Hearing::close`].
    pub hearing: Hearing,
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
    /// Submits `definition`, which runs on `devices`, and waits until all of its jobs have
    /// ended or `timeout` is over. `on_state` is told each job's id and each state it goes
    /// through.
    ///
    /// # Errors
    /// When LAVA can't be reached.
    pub async fn run(
        self,
        definition: &str,
        devices: &[&str],
        timeout: Duration,
        on_state: &mut (dyn FnMut(&str, JobState) + Send),
    ) -> Result<(Vec<Ran>, End)> {
        // Before the submission, so that no event is missed: one for each job that may come. A job on another one's device has
        // none of its own, so it is the roles that count.
        let jobs = group::size(definition).max(devices.len());
        let hearings: Vec<Hearing> = (0..jobs).map(|_| Hearing::new(self.events, devices)).collect();
        let ids = match self.api.submit(definition).await? {
            Submission::Accepted(ids) if ids.is_empty() => {
                return Ok((Vec::new(), End::Refused("LAVA accepted the job without an id".into())));
            }
            Submission::Accepted(ids) => self.api.ids(ids).await?,
            Submission::Refused(why) => return Ok((Vec::new(), End::Refused(why))),
        };
        let mut heard = hearings.into_iter();
        let mut jobs: Vec<Ran> = ids
            .into_iter()
            .map(|id| {
                let mut hearing = heard.next().unwrap_or_else(|| Hearing::new(self.events, devices));
                hearing.id.clone_from(&id);
                Ran { id, details: None, hearing }
            })
            .collect();
        for job in &jobs {
            on_state(&job.id, JobState::Submitted);
        }
        let deadline = Instant::now() + timeout;
        let on_state = Mutex::new(on_state);
        let in_time = tokio::time::timeout_at(deadline, self.all_finished(&mut jobs, &on_state, true)).await;
        let end = match in_time {
            Ok(Ok(())) => return Ok((jobs, End::Finished)),
            Ok(Err(Stop::Error(error))) => return Err(error),
            Ok(Err(Stop::Unfit(device, health))) => End::Never { device, health },
            Err(_) => End::TimedOut,
        };
        for job in &jobs {
            self.api.cancel(&job.id).await?;
        }
        // What there is of their logs is worth more than nothing. Of what never ran no more is announced.
        let ran = end == End::TimedOut;
        let _ = tokio::time::timeout(CANCEL, self.all_finished(&mut jobs, &on_state, ran)).await;
        for job in &mut jobs {
            job.details = None;
        }
        Ok((jobs, end))
    }

    /// `ran`: whether all that LAVA announces of a job which runs is waited for, too.
    async fn all_finished(self, jobs: &mut [Ran], on_state: &OnState<'_>, ran: bool) -> Result<(), Stop> {
        let is_group = jobs.len() > 1;
        let each = jobs.iter_mut().map(|job| async move {
            if job.details.is_none() {
                let finished = self.finished(&job.id, &mut job.hearing, is_group, on_state, ran).await?;
                job.details = Some(finished.raw);
            }
            Ok::<(), Stop>(())
        });
        try_join_all(each).await.map(|_| ())
    }

    async fn finished(
        self,
        id: &str,
        hearing: &mut Hearing,
        is_group: bool,
        on_state: &OnState<'_>,
        ran: bool,
    ) -> Result<Job, Stop> {
        let mut tick = tokio::time::interval(POLL_BLIND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        let mut asked = Instant::now();
        // The scheduler gives no job to a device that is unfit; one that has begun there goes on.
        let mut waits = ran;
        let mut doubts = 0;
        loop {
            let state = tokio::select! {
                heard = hearing.next() => match heard {
                    Heard::State(state) => state,
                    Heard::Gap => self.ask(id, hearing, waits).await?,
                    Heard::Unfit => {
                        doubts = DOUBTS;
                        continue;
                    }
                    Heard::Other => continue,
                },
                _ = tick.tick() => {
                    if doubts == 0 && self.events.link().is_ok() && asked.elapsed() < POLL {
                        continue;
                    }
                    doubts = doubts.saturating_sub(1);
                    asked = Instant::now();
                    self.ask(id, hearing, waits).await?
                }
            };
            waits &= state == JobState::Submitted;
            let ended = state == JobState::Finished;
            (on_state.lock().unwrap_or_else(PoisonError::into_inner))(id, state);
            if ended {
                let job = self.settled(id).await?;
                if is_group {
                    // Which of the group's devices it had is known only now.
                    hearing.announced.devices = job.actual_device.iter().cloned().collect();
                }
                // What is missing then is missing in the verdict.
                if ran {
                    let _ = tokio::time::timeout(LAST_EVENTS, hearing.whole()).await;
                }
                return Ok(job);
            }
        }
    }

    /// The state of a job, and while it waits whether its devices are fit for it: an event may be lost.
    async fn ask(self, id: &str, hearing: &Hearing, waits: bool) -> Result<JobState, Stop> {
        let state = self.api.job(id).await?.state;
        if waits && state == JobState::Submitted {
            for device in &hearing.announced.devices {
                let health = self.api.device(device).await?.health;
                if is_unfit(&health) {
                    return Err(Stop::Unfit(device.clone(), health));
                }
            }
        }
        Ok(state)
    }

    /// Waits until LAVA's database says what its event said: the event goes out
    /// before the transaction is over, and nothing announces that.
    async fn settled(self, id: &str) -> Result<Job> {
        let mut tick = tokio::time::interval(SETTLE);
        tick.tick().await;
        let mut job = self.api.job(id).await?;
        for _ in 1..SETTLE_TRIES {
            if job.state == JobState::Finished {
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
            log: log.unwrap_or_default().into(),
            pipeline,
            suites,
            metadata,
            ..Evidence::default()
        })
    }
}

/// Who is told of the states of several jobs.
type OnState<'f> = Mutex<&'f mut (dyn FnMut(&str, JobState) + Send)>;

/// Listens to what LAVA announces of one job, and takes it down.
pub struct Hearing {
    listener: Listener,
    id: String,
    announced: Announced,
}

/// Whether LAVA gives no job to a device of this health, until a person says otherwise.
fn is_unfit(health: &DeviceHealth) -> bool {
    matches!(health, DeviceHealth::Bad | DeviceHealth::Maintenance | DeviceHealth::Retired)
}

/// What was heard.
enum Heard {
    /// The job's state.
    State(JobState),
    /// One of its devices is not fit for jobs, or was not before: the database knows.
    Unfit,
    /// Something may have been missed.
    Gap,
    /// Something else.
    Other,
}

impl Hearing {
    fn new(events: &Events, devices: &[&str]) -> Self {
        let listener = events.subscribe();
        let mut announced = Announced::of(devices);
        announced.gap = events.link().err();
        Self { listener, id: String::new(), announced }
    }

    async fn next(&mut self) -> Heard {
        let event = self.listener.next().await;
        self.take(event)
    }

    fn take(&mut self, event: LavaEvent) -> Heard {
        match event {
            LavaEvent::Told(told) => {
                self.announced.take(&self.id, &told);
                match &told.subject {
                    Subject::Job(event) if event.job == self.id => Heard::State(event.state.clone()),
                    Subject::Device(event)
                        if is_unfit(&event.health) && self.announced.devices.contains(&event.device) =>
                    {
                        Heard::Unfit
                    }
                    _ => Heard::Other,
                }
            }
            LavaEvent::Gap(why) => {
                self.announced.gap.get_or_insert(why);
                Heard::Gap
            }
        }
    }

    /// Waits until all is there that LAVA announces of a job.
    async fn whole(&mut self) {
        while !self.announced.whole(&self.id) {
            self.next().await;
        }
    }

    /// What was heard until now.
    #[must_use]
    pub fn close(mut self) -> Announced {
        while let Some(event) = self.listener.ready() {
            self.take(event);
        }
        self.announced
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
        for (uart, console) in collected.consoles.into_iter().enumerate() {
            evidence.consoles.insert(Port { board: board.to_owned(), uart }, console.into_bytes());
        }
        let blobs: BTreeMap<String, Vec<u8>> = collected
            .blobs
            .into_iter()
            .filter_map(|(sha256, content)| Some((sha256, hex::decode(content).ok()?)))
            .collect();
        evidence.blobs.extend(blobs);
    }
    Ok(())
}
