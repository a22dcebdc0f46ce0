//! The matrix against a stack that is up: every scenario's job, side by side,
//! from submission to verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::event::{Event, EventSender, Outcome, Verdict};
use crate::interrupt::Interrupt;
use crate::jobs::activity::Activity;
use crate::jobs::evidence::Evidence;
use crate::jobs::{self, End, Watch};
use crate::judge::normalise::{Context, TOKEN};
use crate::judge::verdict::Judge;
use crate::lava::words::JobState;
use crate::run::session::{Up, Worker};
use crate::scenario::{Matrix, Rendered, Scenario};
use crate::stack::Stack;

/// How long either side may take to tell what there is of a job that was broken off.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// A scenario ready to run.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The scenario.
    pub scenario: Scenario,
    /// Its job and its boards.
    pub rendered: Rendered,
    /// The worker that has its boards.
    pub worker: Worker,
}

/// Makes `scenarios` ready to run on a stack that has their boards.
///
/// # Errors
/// [`Error::Usage`] for one that can't be rendered, [`Error::Infrastructure`] for one
/// whose board no worker has.
pub fn ready(matrix: &Matrix, scenarios: &[&Scenario], up: &Up) -> Result<Vec<Ready>> {
    let ready = |scenario: &&Scenario| {
        let rendered =
            matrix.render(scenario, up.series).map_err(|problem| Error::Usage(problem.to_string()))?;
        let hostname = rendered.devices.first().map(|first| &first.hostname);
        let device = up.lab.devices.iter().find(|device| Some(&device.hostname) == hostname);
        let worker = device.and_then(|device| up.workers.iter().find(|w| w.name == device.worker));
        let worker =
            worker.ok_or_else(|| Error::Infrastructure(format!("{} has no worker", scenario.name)))?.clone();
        Ok(Ready { scenario: (*scenario).clone(), rendered, worker })
    };
    scenarios.iter().map(ready).collect()
}

/// How many jobs, and until when.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Jobs at once.
    pub at_once: usize,
    /// No more are submitted once so many scenarios are not as expected.
    pub max_fail: Option<usize>,
    /// Whether a scenario of which nothing is expected yet counts as one.
    pub strict: bool,
    /// Whether somebody looks at what each job does.
    pub looks: bool,
}

/// Runs `scenarios`, beginning them in this order; each one's verdict goes to
/// `events`. Returns how many had their turn.
///
/// # Errors
/// [`Error::Interrupted`] when the user had enough, [`Error::Infrastructure`] when
/// the stack died. Every scenario has its verdict event all the same.
pub async fn run(
    scenarios: Vec<Ready>,
    stack: Arc<Stack>,
    judge: Arc<Judge>,
    limits: Limits,
    interrupt: &Interrupt,
    events: &EventSender,
) -> Result<usize> {
    let activity = Arc::new(Activity::default());
    // Aborted when it is dropped.
    let mut watching = JoinSet::new();
    watching.spawn(Arc::clone(&activity).watch(Arc::clone(&stack), limits.looks, events.clone()));
    let mut waiting = scenarios.into_iter();
    let mut tasks = JoinSet::new();
    let mut first_error = None;
    let (mut begun, mut failed) = (0, 0);
    loop {
        let enough = limits.max_fail.is_some_and(|most| failed >= most);
        while !enough && tasks.len() < limits.at_once.max(1) {
            let Some(ready) = waiting.next() else { break };
            let one = One {
                ready,
                stack: Arc::clone(&stack),
                judge: Arc::clone(&judge),
                interrupt: interrupt.clone(),
                events: events.clone(),
                activity: Arc::clone(&activity),
            };
            begun += 1;
            tasks.spawn(one.run());
        }
        let Some(joined) = tasks.join_next().await else { break };
        match joined.unwrap_or_else(|error| Err(Error::Infrastructure(format!("a task broke: {error}")))) {
            Ok(verdict) => failed += usize::from(verdict.is_failure(limits.strict)),
            Err(error) => {
                failed += 1;
                first_error.get_or_insert(error);
            }
        }
    }
    for ready in waiting {
        let reason = "not submitted: as many scenarios as --max-fail allows were not as expected";
        let outcome = Outcome::without_evidence(Verdict::NotRun, reason.into(), 0.0);
        let _ = events.send(Event::Finished { scenario: ready.scenario.name, outcome });
    }
    first_error.map_or(Ok(begun), Err)
}

/// One scenario.
struct One {
    ready: Ready,
    stack: Arc<Stack>,
    judge: Arc<Judge>,
    interrupt: Interrupt,
    events: EventSender,
    activity: Arc<Activity>,
}

/// Runs one scenario outside of a matrix.
///
/// # Errors
/// As [`run`].
pub async fn run_one(
    ready: Ready,
    stack: Arc<Stack>,
    judge: Arc<Judge>,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    // Nobody listens: what becomes of it is the answer.
    let (events, _) = tokio::sync::mpsc::unbounded_channel();
    let activity = Arc::new(Activity::default());
    let one = One { ready, stack, judge, interrupt: interrupt.clone(), events, activity };
    let (outcome, result) = one.outcome_and_error().await;
    result.map(|_| outcome)
}

impl One {
    async fn run(self) -> Result<Verdict> {
        let name = self.ready.scenario.name.clone();
        let (outcome, result) = self.outcome_and_error().await;
        self.activity.end(&name);
        let _ = self.events.send(Event::Finished { scenario: name, outcome });
        result
    }

    /// How it ended; and again as a verdict, or what broke it off.
    async fn outcome_and_error(&self) -> (Outcome, Result<Verdict>) {
        let begun = Instant::now();
        if self.interrupt.is_asked() {
            let reason = "interrupted before its turn";
            return (self.outcome(Verdict::NotRun, reason, begun), Err(Error::Interrupted));
        }
        let mut submitted = None;
        match self.job(begun, &mut submitted).await {
            Ok(outcome) => {
                let verdict = outcome.verdict;
                (outcome, Ok(verdict))
            }
            Err(error) => {
                let (verdict, reason) = match &error {
                    Error::Interrupted => (Verdict::NotRun, "interrupted".to_owned()),
                    other => (Verdict::Error, other.brief()),
                };
                let known = self.outcome(verdict, &reason, begun);
                (self.last_words(submitted, known).await, Err(error))
            }
        }
    }

    fn outcome(&self, verdict: Verdict, reason: &str, begun: Instant) -> Outcome {
        Outcome::without_evidence(verdict, reason.to_owned(), begun.elapsed().as_secs_f64())
    }

    fn watch(&self) -> Watch<'_> {
        Watch { api: self.stack.api(), events: self.stack.events() }
    }

    async fn job(&self, begun: Instant, submitted: &mut Option<String>) -> Result<Outcome> {
        let scenario = &self.ready.scenario;
        let mut last = JobState::Submitted;
        let mut on_state = |job: &str, state: JobState| {
            let scenario = scenario.name.clone();
            if submitted.is_none() {
                *submitted = Some(job.to_owned());
                self.activity.begin(&scenario, job, self.ready.scenario.timeout);
                let _ = self.events.send(Event::Submitted { scenario, job: job.to_owned() });
            } else if state > last || (state != last && matches!(last, JobState::Other(_))) {
                // Events of several senders may come in another order.
                last.clone_from(&state);
                let _ = self.events.send(Event::JobState { scenario, state });
            }
        };
        let ended = {
            let rendered = &self.ready.rendered;
            let devices: Vec<&str> = rendered.devices.iter().map(|device| device.hostname.as_str()).collect();
            let work = self.watch().run(&rendered.job, &devices, scenario.timeout, &mut on_state);
            self.interrupt.or(self.stack.guard(work)).await
        };
        let (job, end, hearing) = ended?;
        let details = match &end {
            End::Finished(details) => Some(details.clone()),
            _ => None,
        };
        let (mut evidence, context) = self.stack.guard(self.evidence(job.as_deref(), details)).await?;
        evidence.announced = hearing.close();
        let seconds = begun.elapsed().as_secs_f64();
        match end {
            End::Finished(_) => self.judge.judge(scenario, &evidence, &context, seconds),
            // LAVA's schema refused what it took before: its behaviour, not ours.
            End::Refused(why) => {
                evidence.details = serde_json::json!({ "message": why });
                self.judge.judge(scenario, &evidence, &context, seconds)
            }
            End::TimedOut => {
                let reason = format!("the job did not end within {} s", scenario.timeout.as_secs());
                self.judge.give_up(scenario, &evidence, &context, seconds, Verdict::Timeout, reason)
            }
        }
    }

    /// Cancels the job of a scenario that was broken off, and keeps what either
    /// side still tells of it: one of them may be dead.
    async fn last_words(&self, job: Option<String>, known: Outcome) -> Outcome {
        let Some(id) = job else { return known };
        let lava = async {
            if let Err(error) = self.stack.api().cancel(&id).await {
                tracing::debug!(%error, "not cancelled");
            }
            self.watch().gather(&id, None).await
        };
        let mut boards = Evidence::default();
        let (lava, of_boards) = tokio::join!(
            tokio::time::timeout(LAST_WORDS, lava),
            tokio::time::timeout(LAST_WORDS, self.boards(&mut boards)),
        );
        if !matches!(of_boards, Ok(Ok(()))) {
            tracing::debug!(?of_boards, "the boards say no more");
        }
        let mut evidence = match lava {
            Ok(Ok(evidence)) => evidence,
            silent => {
                tracing::debug!(?silent, "LAVA says no more");
                Evidence { job: Some(id.clone()), ..Evidence::default() }
            }
        };
        evidence.ledgers = boards.ledgers;
        evidence.consoles = boards.consoles;
        evidence.blobs = boards.blobs;
        let scenario = &self.ready.scenario;
        let reason = known.reason.clone().unwrap_or_default();
        let context = self.context(Some(&id));
        match self.judge.give_up(scenario, &evidence, &context, known.seconds, known.verdict, reason) {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!(%error, "not in the report");
                known
            }
        }
    }

    async fn evidence(&self, job: Option<&str>, details: Option<Value>) -> Result<(Evidence, Context)> {
        let mut evidence = match job {
            Some(id) => self.watch().gather(id, details).await?,
            None => Evidence::default(),
        };
        self.boards(&mut evidence).await?;
        Ok((evidence, self.context(job)))
    }

    async fn boards(&self, evidence: &mut Evidence) -> Result<()> {
        let names = self.ready.rendered.boards.iter().map(|board| board.name.as_str());
        jobs::gather_boards(evidence, &self.ready.worker.collector, names).await
    }

    /// What is known of a job beforehand.
    fn context(&self, job: Option<&str>) -> Context {
        let mut context = Context::new(job);
        context.add("[DISPATCHER_IP]", &self.ready.worker.address);
        context.add("[WORKER]", &self.ready.worker.name);
        context.add(TOKEN, self.stack.api().token().reveal());
        for port in self.ready.rendered.boards.iter().flat_map(|board| &board.ports) {
            context.add_port(*port);
        }
        context
    }
}
