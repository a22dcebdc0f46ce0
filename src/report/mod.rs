//! Reports of a run, made from its stream of events; the page also shows what [`kept`] wrote.
//!
//! [`start`] consumes the stream in a task of its own. It keeps the state of the
//! run, shows it in the terminal, and writes `run.json`, `junit.xml` and
//! `index.html` when the stream ends, however it ends; `run.json` also on the way.

mod causes;
mod diff;
pub mod folder;
pub(crate) mod html;
pub mod issue;
mod json;
mod junit;
pub mod kept;
mod merge;
mod terminal;
mod usual;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::error::{Error, Result};
use crate::event::{
    About, Difference, Event, EventSender, Outcome, Outstanding, Phase, ScenarioInfo, Verdict, lava_folder,
};
use crate::exit_code::Exit;
use crate::files::write_whole;
use crate::lava::series::Series;
use crate::lava::words::JobState;
use crate::root::REPORTS;

pub use diff::{Hunk, Line, LineKind, Parts, excerpt, hunks};
pub use json::RunFile;
pub use merge::merge;
pub use terminal::{Look, colours};
use usual::Usual;

/// How often `run.json` is written while the run goes on.
const FLUSH: Duration = Duration::from_secs(2);

/// How often what moves on the terminal is drawn anew, though nothing happened.
const TICK: Duration = Duration::from_secs(1);

/// What reports need to know besides the events.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Root of the repository, for what is expected.
    pub root: PathBuf,
    /// How the terminal looks.
    pub look: Look,
    /// Whether a scenario of which nothing is expected yet is a failure, as in CI.
    pub strict: bool,
}

/// What a run came to.
#[derive(Debug)]
pub struct Summary {
    /// What the process ends with, as far as verdicts tell.
    pub exit: Exit,
    /// What of the report could not be written.
    pub failed: Vec<Error>,
}

/// Starts to report: what is sent is taken in, until all senders are gone.
#[must_use]
pub fn start(settings: Settings) -> (EventSender, JoinHandle<Summary>) {
    let (sender, mut receiver) = unbounded_channel();
    let task = tokio::spawn(async move {
        let mut reporter = Reporter::new(settings);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = receiver.recv() => match event {
                    Some(event) => reporter.take(event),
                    None => break,
                },
                _ = tick.tick() => reporter.tick(),
            }
        }
        reporter.end()
    });
    (sender, task)
}

/// Tells of progress and warnings, a line each, and makes no report: until all senders are gone.
#[must_use]
pub fn lines() -> (EventSender, JoinHandle<()>) {
    let (sender, mut receiver) = unbounded_channel();
    let task = tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            match event {
                Event::Progress(_, line) => crate::print::err(&format!("{line}\n")),
                Event::Warning(line) => crate::print::err(&format!("warning: {line}\n")),
                _ => {}
            }
        }
    });
    (sender, task)
}

/// Writes all reports of a run that is over, and shows its summary.
#[must_use]
pub fn write(run: Run, settings: Settings) -> Summary {
    let mut reporter = Reporter::new(settings);
    reporter.run = run;
    reporter.end()
}

/// All that [`write`] makes, for the fuzz target; `run.json` is handed back.
///
/// # Errors
/// When one of them can't be made.
pub(crate) fn texts(run: &Run) -> Result<String, String> {
    let settings = Settings { root: run.report.clone(), look: Look::of_stderr(true, false), strict: true };
    junit::write(run, &settings)?;
    html::write(run, &settings)?;
    json::write(run, &settings)
}

/// State of a run, as its events told it.
#[derive(Debug)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// The report's folder.
    pub report: PathBuf,
    /// The LAVAs, in their order; of one that was not asked for by name, when it answered.
    pub lavas: Vec<About>,
    /// Whether they were asked for by name, as it takes to repeat it.
    pub named: bool,
    /// `slice:M/N` where it is one part of N.
    pub partition: Option<String>,
    /// Its scenarios, in order.
    pub rows: Vec<Row>,
    /// How long each phase took, as far as it ended.
    pub phases: BTreeMap<Phase, Duration>,
    /// The phase that goes on.
    pub phase: Option<Phase>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// What is needed to repeat it, besides its scenarios.
    pub notes: Vec<String>,
    /// What of earlier runs had no turn in this one.
    pub outstanding: Vec<Outstanding>,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// Wall time, once it ended.
    pub elapsed: Option<Duration>,
    started: Instant,
    /// Whose turn it is.
    turn: usize,
    index: BTreeMap<(usize, String), usize>,
}

/// A scenario of a [`Run`].
#[derive(Debug)]
pub struct Row {
    /// What is known before it runs.
    pub info: ScenarioInfo,
    /// Which one of several LAVAs it runs on; `None` where there is only one.
    pub lava: Option<String>,
    /// LAVA's job id, once submitted.
    pub job: Option<String>,
    /// The job's state in LAVA.
    pub state: Option<JobState>,
    /// LAVA's action that the job is in, as far as it was asked for.
    pub action: Option<String>,
    /// When it was submitted.
    pub since: Option<Instant>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// The folder of a scenario, relative to its report's. `lava`: the one it ran on, where there are several.
#[must_use]
pub fn folder_of(lava: Option<&str>, suite: &str, name: &str) -> PathBuf {
    let own = lava.map(lava_folder).unwrap_or_default();
    Path::new(&own).join("scenarios").join(suite).join(name)
}

impl Row {
    /// Of a scenario that did not run yet.
    #[must_use]
    pub fn new(info: ScenarioInfo) -> Self {
        Self { info, lava: None, job: None, state: None, action: None, since: None, outcome: None }
    }

    /// Its verdict; without one it did not run.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.outcome.as_ref().map_or(Verdict::NotRun, |outcome| outcome.verdict)
    }

    /// Its folder, relative to the report's.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        folder_of(self.lava.as_deref(), &self.info.suite, &self.info.name)
    }

    /// `suite/name`, and the LAVA where there are several.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}{}", self.info.suite, self.info.name, self.on())
    }

    /// The name, and the LAVA where there are several.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}{}", self.info.name, self.on())
    }

    fn on(&self) -> String {
        self.lava.as_ref().map(|lava| format!(" on {lava}")).unwrap_or_default()
    }
}

impl Default for Run {
    fn default() -> Self {
        Self {
            name: String::new(),
            report: PathBuf::new(),
            lavas: Vec::new(),
            named: false,
            partition: None,
            rows: Vec::new(),
            phases: BTreeMap::new(),
            phase: None,
            warnings: Vec::new(),
            notes: Vec::new(),
            outstanding: Vec::new(),
            interrupted: false,
            elapsed: None,
            started: Instant::now(),
            turn: 0,
            index: BTreeMap::new(),
        }
    }
}

impl Run {
    /// Takes an event in.
    fn take(&mut self, event: &Event) {
        match event {
            Event::Started { run, report, partition, lavas, scenarios } => {
                self.name.clone_from(run);
                self.partition.clone_from(partition);
                self.report.clone_from(report);
                self.named = !lavas.is_empty();
                self.lavas =
                    lavas.iter().map(|name| About { name: name.clone(), ..About::default() }).collect();
                for turn in 0..lavas.len().max(1) {
                    let lava = (lavas.len() > 1).then(|| lavas[turn].clone());
                    for info in scenarios {
                        self.index.insert((turn, info.name.clone()), self.rows.len());
                        self.rows.push(Row { lava: lava.clone(), ..Row::new(info.clone()) });
                    }
                }
            }
            Event::Outstanding(outstanding) => self.outstanding.clone_from(outstanding),
            Event::Turn(turn) => self.turn = *turn,
            Event::PhaseStarted(phase) => self.phase = Some(*phase),
            Event::PhaseEnded(phase, took) => {
                *self.phases.entry(*phase).or_default() += *took;
                self.phase = None;
            }
            Event::Progress(..) | Event::Interrupted => {}
            Event::Warning(text) => self.warnings.push(text.clone()),
            Event::Note(text) => self.notes.push(text.clone()),
            Event::Measured(files) => self.about().measured.clone_from(files),
            Event::Lava(version) => self.about().version = Some(version.clone()),
            Event::About(about) => {
                let name = std::mem::take(&mut self.about().name);
                let name = if name.is_empty() { about.name.clone() } else { name };
                *self.about() = About { name, ..about.clone() };
            }
            Event::Submitted { scenario, job } => {
                if let Some(row) = self.row(scenario) {
                    row.job = Some(job.clone());
                    row.state = Some(JobState::Submitted);
                    row.since = Some(Instant::now());
                }
            }
            Event::JobState { scenario, state } => {
                if let Some(row) = self.row(scenario) {
                    row.state = Some(state.clone());
                }
            }
            Event::Action { scenario, action } => {
                if let Some(row) = self.row(scenario) {
                    row.action = Some(action.clone());
                }
            }
            Event::Slow { scenario, action, .. } => {
                if let Some(row) = self.row(scenario) {
                    row.action = action.clone().or(row.action.take());
                }
            }
            Event::Finished { scenario, outcome } => {
                if let Some(row) = self.row(scenario) {
                    // The first one stands.
                    row.outcome.get_or_insert_with(|| outcome.clone());
                }
            }
            Event::Ended { interrupted, elapsed } => {
                self.interrupted |= *interrupted;
                self.elapsed = Some(*elapsed);
                self.phase = None;
            }
        }
    }

    /// The LAVA whose turn it is.
    fn about(&mut self) -> &mut About {
        let turn = self.turn;
        if self.lavas.len() <= turn {
            self.lavas.resize_with(turn + 1, About::default);
        }
        &mut self.lavas[turn]
    }

    fn row(&mut self, scenario: &str) -> Option<&mut Row> {
        let at = *self.index.get(&(self.turn, scenario.to_owned()))?;
        self.rows.get_mut(at)
    }

    /// The row of a scenario on the LAVA whose turn it is.
    #[must_use]
    pub fn row_of(&self, scenario: &str) -> Option<&Row> {
        self.rows.get(*self.index.get(&(self.turn, scenario.to_owned()))?)
    }

    /// The versions of LAVA that answered.
    #[must_use]
    pub fn lava(&self) -> Option<String> {
        let versions: Vec<&str> = self.lavas.iter().filter_map(|lava| lava.version.as_deref()).collect();
        (!versions.is_empty()).then(|| versions.join(", "))
    }

    /// The version of LAVA that a row ran on.
    #[must_use]
    pub fn version_of(&self, row: &Row) -> Option<&str> {
        let lava = match &row.lava {
            Some(name) => self.lavas.iter().find(|lava| lava.name == *name),
            None => self.lavas.first(),
        };
        lava?.version.as_deref()
    }

    /// The command that runs a row's scenario alone.
    #[must_use]
    pub fn alone(&self, row: &Row) -> String {
        let lava =
            row.lava.as_deref().or(self.lavas.first().filter(|_| self.named).map(|lava| lava.name.as_str()));
        let which = lava.map(|lava| format!("--lava {lava} ")).unwrap_or_default();
        format!("meta-lava run {which}{}", row.info.name)
    }

    /// The command that prints what is expected of a row's scenario, where `difference` is.
    #[must_use]
    pub fn whole(&self, row: &Row, difference: &Difference) -> String {
        let series = self.version_of(row).and_then(|version| Series::of(version).ok());
        let lava = series.map(|series| format!(" --lava {series}")).unwrap_or_default();
        format!("meta-lava show {} --part {}{lava}", row.info.name, difference.snapshot)
    }

    /// Wall time so far.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.elapsed.unwrap_or_else(|| self.started.elapsed()).as_secs_f64()
    }

    /// How many scenarios have each verdict; all verdicts are there.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Verdict, usize> {
        let mut totals: BTreeMap<Verdict, usize> =
            Verdict::ALL.into_iter().map(|verdict| (verdict, 0)).collect();
        for row in &self.rows {
            *totals.entry(row.verdict()).or_default() += 1;
        }
        totals
    }

    /// What the verdicts make the process end with. A difference is LAVA's and
    /// counts before what broke around it.
    #[must_use]
    pub fn exit(&self, strict: bool) -> Exit {
        let any = |verdict| self.rows.iter().any(|row| row.verdict() == verdict);
        let any_failure = |verdict| {
            self.rows
                .iter()
                .filter_map(|row| row.outcome.as_ref())
                .any(|outcome| outcome.verdict == verdict && outcome.is_failure(strict))
        };
        if self.interrupted {
            Exit::Interrupted
        } else if any(Verdict::Differs) || any(Verdict::Timeout) || any_failure(Verdict::New) {
            Exit::Differs
        } else if any(Verdict::Error) || any(Verdict::NotRun) {
            // That nobody ran a scenario, as in the report of a run that was killed, is no success.
            Exit::Infrastructure
        } else {
            Exit::Ok
        }
    }
}

/// Feeds all reports.
struct Reporter {
    settings: Settings,
    run: Run,
    terminal: terminal::Terminal,
    flushed: Option<Instant>,
    failed: Vec<Error>,
    /// How long phases take as a rule; read when one takes long enough to ask.
    usual: Option<Usual>,
    /// Since when the phase goes on, what it said last, and whether it was told to take long.
    phase: (Instant, Option<String>, bool),
}

impl Reporter {
    fn new(settings: Settings) -> Self {
        let terminal = terminal::Terminal::new(settings.look, settings.strict);
        Self {
            settings,
            run: Run::default(),
            terminal,
            flushed: None,
            failed: Vec::new(),
            usual: None,
            phase: (Instant::now(), None, false),
        }
    }

    fn take(&mut self, event: Event) {
        if let Event::Finished { scenario, .. } = &event
            && self.run.row_of(scenario).is_some_and(|row| row.outcome.is_some())
        {
            // What breaks a run comes for all, also for those that have their verdict.
            return;
        }
        match &event {
            Event::PhaseStarted(_) => self.phase = (Instant::now(), None, false),
            Event::Progress(_, text) => self.phase.1 = Some(text.clone()),
            _ => {}
        }
        self.run.take(&event);
        self.terminal.take(&event, &self.run);
        let due = match event {
            Event::Started { .. } | Event::Ended { .. } => true,
            Event::Finished { .. } => self.flushed.is_none_or(|flushed| flushed.elapsed() >= FLUSH),
            _ => false,
        };
        if due {
            self.flushed = Some(Instant::now());
            // A failure shows again, and is told, at the end.
            let _ = self.write("run.json", json::write);
        }
    }

    /// Time went by.
    fn tick(&mut self) {
        let (since, said, told) = &self.phase;
        let so_far = since.elapsed();
        if let Some(phase) = self.run.phase.filter(|_| !told && so_far >= usual::LEAST) {
            let reports = self.settings.root.join(REPORTS);
            let usual = self.usual.get_or_insert_with(|| Usual::of(&reports, self.run.rows.len()));
            if let Some(line) = usual.too_long(phase, so_far, said.as_deref()) {
                self.phase.2 = true;
                self.take(Event::Warning(line));
            }
        }
        self.terminal.tick(&self.run);
    }

    fn write(&self, name: &str, make: impl FnOnce(&Run, &Settings) -> Result<String, String>) -> Result<()> {
        if self.run.report.as_os_str().is_empty() {
            return Ok(());
        }
        let text =
            make(&self.run, &self.settings).map_err(|why| Error::failed(format!("make {name}"), why))?;
        write_whole(&self.run.report.join(name), text.as_bytes())
    }

    fn end(mut self) -> Summary {
        let written = [
            self.write("run.json", json::write),
            self.write("junit.xml", junit::write),
            self.write("index.html", html::write),
        ];
        self.failed.extend(written.into_iter().filter_map(Result::err));
        self.terminal.end(&self.run, &self.failed);
        Summary { exit: self.run.exit(self.settings.strict), failed: self.failed }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::event::{Cause, Deviation, Difference, Ending, Known, Lane, Moment, Span, Wait};

    fn info(name: &str) -> ScenarioInfo {
        ScenarioInfo {
            name: name.into(),
            suite: "health-checks".into(),
            device_types: vec![name.to_uppercase()],
            about: None,
        }
    }

    pub fn outcome(verdict: Verdict) -> Outcome {
        Outcome {
            verdict,
            reason: None,
            first_difference: None,
            ended: Vec::new(),
            ends_otherwise: false,
            deviations: Vec::new(),
            defects: Vec::new(),
            console: Moment::default(),
            timeline: Vec::new(),
            seconds: 5.25,
        }
    }

    fn span(lane: Lane, kind: &str, from: f64, to: f64) -> Span {
        Span { lane, job: String::new(), kind: kind.into(), name: format!("{kind} <script>"), from, to }
    }

    /// A scenario that is red, with markup and escapes where LAVA's words stand.
    pub fn differing() -> Outcome {
        Outcome {
            verdict: Verdict::Differs,
            reason: Some("results, log not as expected".into()),
            first_difference: Some(Difference {
                snapshot: "results".into(),
                line: 12,
                expected: Some("  ping: pass".into()),
                found: Some("  ping <script>alert(1)</script>: fail".into()),
            }),
            ended: vec![Ending {
                health: "Incomplete".into(),
                error_type: Some("Job".into()),
                why: Some("login <script>timed out".into()),
                wait: Some(Wait { for_what: "`/ $`".into(), heard: Some("/ # \u{1b}[1m".into()) }),
                ..Ending::default()
            }],
            ends_otherwise: true,
            deviations: vec![Deviation {
                cause: Cause {
                    snapshot: "results".into(),
                    expected: vec!["pass".into()],
                    found: vec!["<script>fail".into()],
                },
                times: 2,
                first: Difference {
                    snapshot: "results".into(),
                    line: 12,
                    expected: Some("  ping: pass".into()),
                    found: Some("  ping: <script>fail".into()),
                },
            }],
            defects: Vec::new(),
            console: Moment { lines: vec!["=> bootz".into(), "Starting kernel ...".into()], at: Some(0) },
            timeline: vec![span(Lane::Lava, "queued", 0.0, 1.5), span(Lane::Board, "firmware", 1.5, 6.5)],
            seconds: 6.5,
        }
    }

    /// A defect that is known, with markup and escapes in its words.
    pub fn known(gone: bool) -> Known {
        Known {
            about: "the menu <script>fails\u{1b}[1m".into(),
            upstream: Some("https://example.org/issues/7".into()),
            series: ">=2022.11 <2024.05".into(),
            gone,
            file: "jobs/health-checks/known/scenario.yaml".into(),
            rest: Some(">=2022.11 <2023.01".into()),
        }
    }

    /// A run with a scenario of every verdict.
    pub fn events(report: &Path) -> Vec<Event> {
        let names = ["bbb", "juno", "x15", "qemu", "new", "skip", "late", "known", "gone"];
        let finished = |scenario: &str, outcome| Event::Finished { scenario: scenario.into(), outcome };
        let because = |verdict, reason: &str| Outcome { reason: Some(reason.into()), ..outcome(verdict) };
        vec![
            Event::Started {
                run: "mlv-1".into(),
                report: report.to_path_buf(),
                partition: None,
                lavas: Vec::new(),
                scenarios: names.into_iter().map(info).collect(),
            },
            Event::PhaseStarted(Phase::Images),
            Event::Progress(Phase::Images, "Step 1/9".into()),
            Event::PhaseEnded(Phase::Images, Duration::from_millis(400)),
            Event::PhaseStarted(Phase::Stack),
            Event::Lava("2023.01-2".into()),
            Event::PhaseEnded(Phase::Stack, Duration::from_millis(6_300)),
            Event::PhaseStarted(Phase::Jobs),
            Event::Submitted { scenario: "bbb".into(), job: "1".into() },
            Event::JobState { scenario: "bbb".into(), state: JobState::Running },
            finished("bbb", outcome(Verdict::Pass)),
            finished("juno", differing()),
            finished("x15", because(Verdict::Timeout, "job 3 is still Running after 180 s")),
            finished("qemu", because(Verdict::Error, "the ghost qemu-01 has no ledger")),
            finished("new", because(Verdict::New, "nothing is expected yet of log")),
            finished("skip", because(Verdict::Skipped, "needs a camera")),
            finished("known", Outcome { defects: vec![known(false)], ..outcome(Verdict::Pass) }),
            finished(
                "gone",
                Outcome { defects: vec![known(true)], ..because(Verdict::Fixed, "LAVA does right now") },
            ),
            Event::Warning("mask `uuid` matched nothing".into()),
            Event::PhaseEnded(Phase::Jobs, Duration::from_secs(16)),
            Event::Ended { interrupted: false, elapsed: Duration::from_millis(23_512) },
        ]
    }

    /// The state that [`events`] come to.
    pub fn run(report: &Path) -> Run {
        let mut run = Run::default();
        for event in events(report) {
            run.take(&event);
        }
        run
    }

    pub fn settings(root: &Path) -> Settings {
        Settings { root: root.to_path_buf(), look: Look::default(), strict: false }
    }

    #[tokio::test]
    async fn all_reports_are_written_when_the_stream_ends_however_it_ends() {
        for last in [1, 9, 12, usize::MAX] {
            let folder = tempfile::tempdir().unwrap();
            let report = folder.path().join("report");
            let look = Look { quiet: true, ..Look::default() };
            let (sender, task) = start(Settings { look, ..settings(folder.path()) });
            for event in events(&report).into_iter().take(last) {
                sender.send(event).unwrap();
            }
            drop(sender);
            let summary = task.await.unwrap();
            assert!(summary.failed.is_empty(), "{:?}", summary.failed);
            for name in ["run.json", "junit.xml", "index.html"] {
                assert!(report.join(name).is_file(), "{name} after {last} events");
            }
        }
    }

    #[test]
    fn the_exit_code_is_the_worst_that_is_lavas() {
        let exit = |verdicts: &[Verdict], strict| {
            let rows = verdicts
                .iter()
                .map(|verdict| Row { outcome: Some(outcome(*verdict)), ..Row::new(info("x")) });
            let run = Run { rows: rows.collect(), ..Run::default() };
            run.exit(strict)
        };
        use Verdict::{Differs, Error, Fixed, New, NotRun, Pass, Skipped, Timeout};
        assert_eq!(exit(&[Pass, Skipped], true), Exit::Ok);
        assert_eq!(exit(&[Pass, Fixed], true), Exit::Ok);
        assert_eq!(exit(&[Pass, Differs, Error], true), Exit::Differs);
        assert_eq!(exit(&[Pass, Timeout], true), Exit::Differs);
        assert_eq!(exit(&[Pass, Error], true), Exit::Infrastructure);
        assert_eq!(exit(&[Pass, NotRun], true), Exit::Infrastructure);
        assert_eq!(exit(&[Pass, New], false), Exit::Ok);
        assert_eq!(exit(&[Pass, New], true), Exit::Differs);
        let failed = Outcome { ends_otherwise: true, ..outcome(New) };
        let new = Run { rows: vec![Row { outcome: Some(failed), ..Row::new(info("x")) }], ..Run::default() };
        assert_eq!(new.exit(false), Exit::Differs);
        let mut run = run(Path::new("r"));
        run.interrupted = true;
        assert_eq!(run.exit(true), Exit::Interrupted);
    }

    #[tokio::test]
    async fn a_report_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let look = Look { quiet: true, ..Look::default() };
        let (sender, task) = start(Settings { look, ..settings(folder.path()) });
        for event in events(&folder.path().join("file")) {
            sender.send(event).unwrap();
        }
        drop(sender);
        assert_eq!(task.await.unwrap().failed.len(), 3);
    }

    #[test]
    fn each_of_several_lavas_has_its_rows_and_what_parts_them_comes_first() {
        let finished = |scenario: &str, outcome| Event::Finished { scenario: scenario.into(), outcome };
        let mut run = Run::default();
        for event in [
            Event::Started {
                run: "mlv-1".into(),
                report: "r".into(),
                partition: None,
                lavas: vec!["debian:bookworm".into(), "debian:sid".into()],
                scenarios: vec![info("bbb"), info("juno")],
            },
            Event::Turn(0),
            Event::Lava("2023.01-2".into()),
            finished("bbb", outcome(Verdict::Pass)),
            finished("juno", outcome(Verdict::Pass)),
            Event::Turn(1),
            Event::Lava("2026.10-1".into()),
            finished("bbb", outcome(Verdict::Pass)),
            finished("juno", differing()),
        ] {
            run.take(&event);
        }
        assert_eq!(run.totals()[&Verdict::Pass], 3);
        assert_eq!(run.lava().as_deref(), Some("2023.01-2, 2026.10-1"));
        let red = &run.rows[3];
        assert_eq!(red.id(), "health-checks/juno on debian:sid");
        assert_eq!(red.folder(), Path::new("debian-sid/scenarios/health-checks/juno"));
        assert_eq!(run.alone(red), "meta-lava run --lava debian:sid juno");
        assert_eq!(run.version_of(red), Some("2026.10-1"));
        let settings = settings(Path::new("r"));
        let junit = junit::write(&run, &settings).unwrap();
        assert!(junit.contains("health-checks on debian:bookworm") && junit.contains("2026.10-1"), "{junit}");
        let page = html::write(&run, &settings).unwrap();
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
        assert!(at("<tr class=\"parts\"><th scope=\"row\">juno") < at("<tr><th scope=\"row\">bbb"));
        assert!(page.contains("id=\"juno@debian-sid\""));
        // What is read back is the same run.
        let again = RunFile::parse(Path::new("r"), json::write(&run, &settings).unwrap().as_bytes()).unwrap();
        let again = again.into_run(Path::new("r"));
        assert_eq!(again.rows[3].id(), red.id());
        assert_eq!(again.lavas, run.lavas);
    }
}
