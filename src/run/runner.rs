//! The matrix against a stack that is up: every scenario's job, side by side,
//! from submission to verdict.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use meta_lava_ghost::net::Lease;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::event::{Event, EventSender, Outcome, Verdict};
use crate::interrupt::Interrupt;
use crate::jobs::activity::Activity;
use crate::jobs::evidence::Evidence;
use crate::jobs::requests::{self, Answered};
use crate::jobs::{self, End, Watch};
use crate::judge::meant::{AGAIN, FIRST};
use crate::judge::normalise::Context;
use crate::judge::verdict::Answer;
use crate::lava::group::Member;
use crate::lava::words::JobState;
use crate::run::judge::Judge;
use crate::run::session::{Up, Worker};
use crate::scenario::{Board, Matrix, Rendered, Role, Scenario};
use crate::secret::TOKEN;
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

impl Ready {
    /// Makes its boards, and its devices in LAVA, such as if they had run nothing yet: LAVA doubts
    /// a device after some failures.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when LAVA or a worker is gone.
    pub async fn renew(&self, stack: &Stack) -> Result<()> {
        for device in &self.rendered.devices {
            stack.api().set_good(&device.hostname).await?;
        }
        for board in &self.rendered.boards {
            self.worker.collector.renew(&board.name).await?;
        }
        Ok(())
    }
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
            worker.ok_or_else(|| Error::infrastructure(format!("{} has no worker", scenario.name)))?.clone();
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
            tasks.spawn(one.run(limits.strict));
        }
        let Some(joined) = tasks.join_next().await else { break };
        match joined.unwrap_or_else(|error| Err(Error::infrastructure(format!("a task broke: {error}")))) {
            Ok(is_failure) => failed += usize::from(is_failure),
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
    result.map(|()| outcome)
}

impl One {
    /// Whether it is not as expected.
    async fn run(self, strict: bool) -> Result<bool> {
        let name = self.ready.scenario.name.clone();
        let (outcome, result) = self.outcome_and_error().await;
        self.activity.end(&name);
        let result = result.map(|()| outcome.is_failure(strict));
        let _ = self.events.send(Event::Finished { scenario: name, outcome });
        result
    }

    /// How it ended; and what broke it off, if something did.
    async fn outcome_and_error(&self) -> (Outcome, Result<()>) {
        let begun = Instant::now();
        if self.interrupt.is_asked() {
            let reason = "interrupted before submission";
            return (self.outcome(Verdict::NotRun, reason, begun), Err(Error::Interrupted));
        }
        let mut submitted = Vec::new();
        match self.job(begun, &mut submitted).await {
            Ok(outcome) => (outcome, Ok(())),
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

    /// Submits the scenario's job, waits for the end, and gathers what came back.
    async fn attempt(&self, submitted: &mut Vec<String>) -> Result<(Vec<Evidence>, End)> {
        let scenario = &self.ready.scenario;
        // How far each of the jobs is, and how far it was said that all of them are.
        let mut states: BTreeMap<String, JobState> = BTreeMap::new();
        let mut last = JobState::Submitted;
        let mut on_state = |job: &str, state: JobState| {
            let scenario = scenario.name.clone();
            if !submitted.iter().any(|id| id == job) {
                submitted.push(job.to_owned());
                self.activity.begin(&scenario, job, self.ready.scenario.timeout);
                let job = submitted.join(", ");
                let _ = self.events.send(Event::Submitted { scenario, job });
                states.insert(submitted[submitted.len() - 1].clone(), state);
                return;
            }
            let of_job = states.entry(job.to_owned()).or_insert(JobState::Submitted);
            // Events of several senders may come in another order.
            if state > *of_job || matches!(of_job, JobState::Other(_)) {
                *of_job = state;
            }
            let all = states.values().min().cloned().unwrap_or(JobState::Submitted);
            if all != last {
                last.clone_from(&all);
                let _ = self.events.send(Event::JobState { scenario, state: all });
            }
        };
        let ended = {
            let rendered = &self.ready.rendered;
            let devices: Vec<&str> = rendered.devices.iter().map(|device| device.hostname.as_str()).collect();
            let work = self.watch().run(&rendered.job, &devices, scenario.timeout, &mut on_state);
            self.interrupt.or(self.stack.guard(work)).await
        };
        let (jobs, end) = ended?;
        let (mut told, mut heard) = (Vec::new(), Vec::new());
        for job in jobs {
            told.push((job.id, job.details));
            heard.push(job.hearing);
        }
        let mut found = self.stack.guard(self.evidence(told)).await?;
        if end == End::Finished
            && let Some(first) = found.first_mut()
        {
            first.answers = self.interrupt.or(self.stack.guard(self.requests(first))).await?;
        }
        for (evidence, hearing) in found.iter_mut().zip(heard) {
            evidence.announced = hearing.close();
        }
        Ok((found, end))
    }

    /// The same, and where the scenario has its job run again what came back of that, too.
    async fn attempts(&self, submitted: &mut Vec<String>) -> Result<(Vec<Evidence>, End)> {
        let (mut found, end) = self.attempt(submitted).await?;
        if self.ready.scenario.again.is_none() || end != End::Finished {
            return Ok((found, end));
        }
        let (mut next, end) = self.attempt(submitted).await?;
        for (next, before) in next.iter_mut().zip(&found) {
            next.begin_after(before);
        }
        found.extend(next);
        Ok((found, end))
    }

    async fn job(&self, begun: Instant, submitted: &mut Vec<String>) -> Result<Outcome> {
        let scenario = &self.ready.scenario;
        let (mut found, mut end) = self.attempts(submitted).await?;
        if let Some(lost) = found.iter().find(|evidence| evidence.was_lost()) {
            let job = lost.job.as_deref().unwrap_or_default();
            let _ = self.events.send(Event::Warning(format!(
                "{}: lava-worker took job {job} for ended as it began, which is a defect of LAVA's \
                 (docs/findings.md); the scenario is run once more",
                scenario.name
            )));
            self.stack.guard(self.ready.renew(&self.stack)).await?;
            submitted.clear();
            (found, end) = self.attempts(submitted).await?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        match end {
            End::Finished => self.judge.judge(scenario, self.answers(found), seconds),
            // LAVA's schema refused what it took before: its behaviour, not ours.
            End::Refused(why) => {
                let mut evidence =
                    Evidence { details: serde_json::json!({ "message": why }), ..Evidence::default() };
                for board in &self.ready.rendered.boards {
                    self.stack.guard(self.board(&mut evidence, board)).await?;
                }
                self.judge.judge(scenario, self.answers(vec![evidence]), seconds)
            }
            End::Never { device, health } => {
                let kind = self.ready.rendered.devices.iter().find(|one| one.hostname == device);
                let kind = kind.map_or("", |one| one.device_type.as_str());
                let why = self.stack.why_unfit(&device, kind).await;
                let reason = format!("LAVA can never run it: it calls device {device} {health}; {why}");
                let answers = self.answers(found);
                self.judge.give_up(scenario, answers, seconds, Verdict::Error, reason)
            }
            End::TimedOut => {
                let reason = format!("the job did not end within {} s", scenario.timeout.as_secs());
                let answers = self.answers(found);
                self.judge.give_up(scenario, answers, seconds, Verdict::Timeout, reason)
            }
        }
    }

    /// Cancels the jobs of a scenario that was broken off, and keeps what either
    /// side still tells of them: one of them may be dead.
    async fn last_words(&self, jobs: Vec<String>, known: Outcome) -> Outcome {
        if jobs.is_empty() {
            return known;
        }
        let lava = jobs.iter().map(|id| async move {
            let told = async {
                if let Err(error) = self.stack.api().cancel(id).await {
                    tracing::debug!(%error, "not cancelled");
                }
                self.watch().gather(id, None).await
            };
            match tokio::time::timeout(LAST_WORDS, told).await {
                Ok(Ok(evidence)) => evidence,
                silent => {
                    tracing::debug!(?silent, "LAVA says no more");
                    Evidence { job: Some(id.clone()), ..Evidence::default() }
                }
            }
        });
        let boards = self.ready.rendered.boards.iter().map(|board| async move {
            let mut evidence = Evidence::default();
            let said = tokio::time::timeout(LAST_WORDS, self.board(&mut evidence, board)).await;
            if !matches!(said, Ok(Ok(()))) {
                tracing::debug!(?said, "the board says no more");
            }
            evidence
        });
        let (mut found, boards) = tokio::join!(join_all(lava), join_all(boards));
        for (number, board) in boards.into_iter().enumerate() {
            let name = &self.ready.rendered.boards[number].name;
            let at = self.job_on(&found, name);
            if let Some(evidence) = found.get_mut(at) {
                evidence.ledgers.extend(board.ledgers);
                evidence.consoles.extend(board.consoles);
                evidence.blobs.extend(board.blobs);
            }
        }
        let scenario = &self.ready.scenario;
        let reason = known.reason.clone().unwrap_or_default();
        let answers = self.answers(found);
        match self.judge.give_up(scenario, answers, known.seconds, known.verdict, reason) {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!(%error, "not in the report");
                known
            }
        }
    }

    /// What came back of the jobs, each with its board's side.
    async fn evidence(&self, jobs: Vec<(String, Option<Value>)>) -> Result<Vec<Evidence>> {
        let gather =
            jobs.into_iter().map(|(id, details)| async move { self.watch().gather(&id, details).await });
        let mut found = try_join_all(gather).await?;
        for evidence in &mut found {
            if let Some(job) = evidence.job.as_deref().filter(|_| evidence.is_doubtful()) {
                evidence.worker = self.stack.worker_words(&self.ready.worker.name, job).await;
            }
        }
        for board in &self.ready.rendered.boards {
            let at = self.job_on(&found, &board.name);
            if let Some(evidence) = found.get_mut(at) {
                self.board(evidence, board).await?;
            }
        }
        Ok(found)
    }

    /// Which of the jobs has `board`: LAVA tells it of each that got one; of the others it is
    /// one of the board's role, which as many boards are for.
    fn job_on(&self, found: &[Evidence], board: &str) -> usize {
        let device = |evidence: &Evidence| {
            evidence.details.get("actual_device").and_then(Value::as_str).map(str::to_owned)
        };
        if let Some(at) = found.iter().position(|evidence| device(evidence).as_deref() == Some(board)) {
            return at;
        }
        let of_role =
            self.ready.scenario.roles.iter().find(|role| role.boards.iter().any(|own| own == board));
        let role = of_role.and_then(|role| role.name.as_deref());
        let free = |evidence: &Evidence| device(evidence).is_none() && evidence.ledgers.is_empty();
        let is_of = |evidence: &Evidence| {
            Member::of(&evidence.details).is_some_and(|member| Some(member.role.as_str()) == role)
        };
        found.iter().position(|evidence| free(evidence) && is_of(evidence)).unwrap_or_default()
    }

    /// What LAVA says to the scenario's requests about the job that `evidence` is of.
    async fn requests(&self, evidence: &Evidence) -> Result<Vec<Answered>> {
        let device = self.ready.rendered.devices.first();
        let test = evidence.suites.iter().rev().find_map(|(_, tests)| tests.first());
        let of_test =
            |key: &str| test.and_then(|test| test.get(key)).map(Value::to_string).unwrap_or_default();
        let known = [
            ("{job}", evidence.job.clone().unwrap_or_default()),
            ("{device}", device.map(|device| device.hostname.clone()).unwrap_or_default()),
            ("{device_type}", device.map(|device| device.device_type.clone()).unwrap_or_default()),
            ("{worker}", self.ready.worker.name.clone()),
            ("{suite}", of_test("suite")),
            ("{test}", of_test("id")),
        ];
        let fill =
            |text: &str| known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        requests::ask(self.stack.api(), &self.ready.scenario.requests, &fill).await
    }

    async fn board(&self, evidence: &mut Evidence, board: &Board) -> Result<()> {
        let name = board.name.as_str();
        jobs::gather_boards(evidence, &self.ready.worker.collector, std::iter::once(name)).await?;
        evidence.note_unmet_faults(name, &board.faults);
        Ok(())
    }

    /// The jobs in a fixed order: by role, and the jobs of one role in LAVA's order.
    fn answers(&self, found: Vec<Evidence>) -> Vec<Answer> {
        let roles = &self.ready.scenario.roles;
        let answer = |evidence: Evidence, job: &str| {
            let context = self.context(evidence.job.as_deref());
            Answer { job: job.to_owned(), evidence, context }
        };
        if self.ready.scenario.again.is_some() {
            return found.into_iter().zip([FIRST, AGAIN]).map(|(of, job)| answer(of, job)).collect();
        }
        if found.len() < 2 && found.iter().all(|evidence| Member::of(&evidence.details).is_none()) {
            return found.into_iter().map(|of| answer(of, "")).collect();
        }
        let mut jobs: Vec<(usize, u64, Option<Member>, Evidence)> = found
            .into_iter()
            .map(|evidence| {
                let member = Member::of(&evidence.details);
                let is_its = |role: &Role| role.name.as_deref() == member.as_ref().map(|m| m.role.as_str());
                let role = roles.iter().position(is_its).unwrap_or(roles.len());
                (role, member.as_ref().map_or(0, |member| member.sub_id), member, evidence)
            })
            .collect();
        jobs.sort_by_key(|(role, sub_id, ..)| (*role, *sub_id));
        let names: Vec<String> = jobs
            .iter()
            .enumerate()
            .map(|(at, (role, _, member, _))| {
                let name = roles.get(*role).and_then(|role| role.name.as_deref());
                // A role on another one's device has no board, and so is none of the scenario's.
                let name = name.or(member.as_ref().map(|member| member.role.as_str())).unwrap_or("job");
                let number = jobs[..at].iter().filter(|(other, ..)| other == role).count() + 1;
                let alone = jobs.iter().filter(|(other, ..)| other == role).count() == 1;
                if alone { name.to_owned() } else { format!("{name} {number}") }
            })
            .collect();
        let known: Vec<(String, String, Option<String>)> = jobs
            .iter()
            .zip(&names)
            .map(|((.., evidence), name)| {
                let device = evidence.details.get("actual_device").and_then(Value::as_str);
                (name.clone(), evidence.job.clone().unwrap_or_default(), device.map(str::to_owned))
            })
            .collect();
        jobs.into_iter()
            .zip(names)
            .map(|((_, _, member, evidence), name)| {
                let mut context = self.context(evidence.job.as_deref());
                if let Some(member) = member {
                    context.add("[GROUP]", &member.target_group);
                    // The protocol says it, and it is the container's.
                    if let Ok(id) = self.stack.worker_container(&self.ready.worker.name) {
                        context.add("[WORKER_HOST]", id.get(..12).unwrap_or(id));
                    }
                }
                for (other, id, device) in &known {
                    let own = *other == name;
                    let shown = if own { "[JOB_ID]".to_owned() } else { format!("[JOB_ID of {other}]") };
                    context.add_member(&shown, id);
                    // Which board of its role a job gets is LAVA's choice.
                    if let Some(device) = device.as_ref().filter(|_| other.contains(' ')) {
                        let of = |what: &str| {
                            if own { format!("[{what}]") } else { format!("[{what} of {other}]") }
                        };
                        context.add(of("BOARD"), device);
                        let address = Lease::new(device, IpAddr::from([0, 0, 0, 0])).address;
                        context.add(of("BOARD_IP"), &address.to_string());
                    }
                }
                Answer { job: name, evidence, context }
            })
            .collect()
    }

    /// What is known of a job beforehand.
    fn context(&self, job: Option<&str>) -> Context {
        let mut context = Context::new(job);
        context.add("[DISPATCHER_IP]", &self.ready.worker.address);
        context.add("[WORKER]", &self.ready.worker.name);
        context.add(TOKEN, self.stack.api().token().reveal());
        if !self.ready.scenario.requests.is_empty() {
            context.add("[SERVER]", self.stack.api().authority());
        }
        for port in self.ready.rendered.boards.iter().flat_map(|board| &board.ports) {
            context.add_port(*port);
        }
        context
    }
}
