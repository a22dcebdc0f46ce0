//! The verdict on one scenario: what came back against what is expected.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::event::{Difference, Moment, Outcome, Span, Verdict};
use crate::files::write_whole;
use crate::jobs::evidence::Evidence;
use crate::jobs::timeline::timeline;
use crate::judge::change::{self, Names};
use crate::judge::normalise::{
    Artifacts, Context, Masks, Normaliser, TOKEN, heard, ledger, log, moment, pipeline, results,
};
use crate::judge::snapshot::{HEADER, Id, Kind, Store, write};
use crate::lava::series::Series;
use crate::scenario::Scenario;
use crate::text::printable;

/// What came back of one of a scenario's jobs, and what is known of it exactly.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Which one it is, such as `client 1`; empty where there is only one.
    pub job: String,
    /// What came back.
    pub evidence: Evidence,
    /// What is known of it.
    pub context: Context,
}

/// What all verdicts of a run share.
#[derive(Debug)]
pub struct Judge {
    /// The run's masks.
    pub masks: Masks,
    /// What the world serves.
    pub artifacts: Artifacts,
    /// The snapshots.
    pub store: Store,
    /// The series of the LAVA under test.
    pub series: Series,
    /// The report's folder.
    pub report: PathBuf,
    /// Whether differences are left pending: never in CI.
    pub pend: bool,
}

impl Judge {
    /// A judge of a LAVA of `series` for the repository at `root`.
    #[must_use]
    pub fn new(root: &Path, series: Series, artifacts: Artifacts, report: &Path) -> Self {
        Self {
            masks: Masks::of(series),
            artifacts,
            store: Store::new(root),
            series,
            report: report.to_path_buf(),
            pend: !crate::judge::snapshot::in_ci(),
        }
    }

    /// Judges what came back of `scenario`, and writes it to the report: normalised
    /// as `scenarios/<suite>/<name>/*.snap`, and as it came in `raw/` beside them.
    /// `seconds` is what the outcome says of the time from submission to verdict.
    ///
    /// # Errors
    /// [`Error::Usage`] for a snapshot that is none, [`Error::Infrastructure`] when the
    /// report or a pending snapshot can't be written.
    pub fn judge(&self, scenario: &Scenario, answers: &[Answer], seconds: f64) -> Result<Outcome> {
        match broken(scenario, answers) {
            Some(reason) => self.give_up(scenario, answers, seconds, Verdict::Error, reason),
            None => self.compare(scenario, answers, seconds, self.pend),
        }
    }

    /// Writes what there is of a scenario that can't be judged to the report, with
    /// the `verdict` and `reason` that are known already (a timeout, an error). Where
    /// it left the expectation is told too, and nothing is left pending.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn give_up(
        &self,
        scenario: &Scenario,
        answers: &[Answer],
        seconds: f64,
        verdict: Verdict,
        reason: String,
    ) -> Result<Outcome> {
        let outcome = self.compare(scenario, answers, seconds, false)?;
        Ok(Outcome { verdict, reason: Some(reason), ..outcome })
    }

    /// What a user should know when all is judged: with the whole matrix run, masks
    /// that matched nothing.
    #[must_use]
    pub fn warnings(&self, whole_matrix: bool) -> Vec<String> {
        let unused = if whole_matrix { self.masks.unused() } else { Vec::new() };
        let warning = |name| format!("the mask `{name}` matched nothing: is LAVA's wording another one now?");
        unused.into_iter().map(warning).collect()
    }

    fn compare(&self, scenario: &Scenario, answers: &[Answer], seconds: f64, pend: bool) -> Result<Outcome> {
        let folder = self.folder(scenario);
        let raw = folder.join("raw");
        empty(&raw)?;
        let mut parts = Vec::new();
        for answer in answers {
            let context = known(answer);
            let raw = if answer.job.is_empty() { raw.clone() } else { raw.join(file_name(&answer.job)) };
            write_raw(&raw, &answer.evidence, &context)?;
            parts.push((answer, context));
        }
        let mut outcome = Outcome {
            verdict: Verdict::Pass,
            reason: None,
            first_difference: None,
            deviations: Vec::new(),
            console: Moment::default(),
            timeline: answers.iter().flat_map(timeline_of).collect(),
            seconds,
        };
        let mut differing = Vec::new();
        let mut unknown = Vec::new();
        for kind in Kind::ALL {
            let mut text = String::new();
            // Where each job's part begins, in lines.
            let mut begins = Vec::new();
            for (answer, context) in &parts {
                if !answer.job.is_empty() {
                    text.push_str(&format!("=== {}\n", answer.job));
                }
                begins.push(text.lines().count());
                text.push_str(&self.text(kind, &answer.evidence, context));
                if !answer.job.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
            }
            let text = text.trim_end();
            let id = Id::of(scenario, self.series, kind);
            write(&folder.join(kind.name()).with_extension("snap"), &id, text)?;
            let expected = self.store.expected(&id)?;
            let difference = match &expected {
                None => {
                    unknown.push(kind.name());
                    None
                }
                Some(expected) => first_difference(kind, &expected.text, text),
            };
            if expected.is_some() && difference.is_none() {
                if pend {
                    self.store.unpend(&id)?;
                }
                continue;
            }
            if pend {
                self.store.pend(&id, text)?;
            }
            if let (Some(difference), Some(expected)) = (difference, &expected) {
                differing.push(kind.name());
                let changes = change::changes(kind.name(), &expected.text, text, &Names::of(scenario));
                outcome.deviations.extend(change::deviations(&changes, HEADER + 1, &expected.text, text));
                if outcome.first_difference.is_none() {
                    let at = difference.line - HEADER - 1;
                    let part = begins.partition_point(|begin| *begin <= at).saturating_sub(1);
                    if let (Some((answer, context)), Some(begin)) = (parts.get(part), begins.get(part)) {
                        let normaliser = Normaliser { masks: &self.masks, context };
                        let own: Vec<&str> = text.lines().skip(*begin).collect();
                        let console = first_console(&answer.evidence);
                        let at = at.saturating_sub(*begin);
                        outcome.console = moment::moment(&console, kind, &own.join("\n"), at, normaliser);
                    }
                    outcome.first_difference = Some(difference);
                }
            }
        }
        if outcome.first_difference.is_none() {
            outcome.console = answers
                .first()
                .map(|answer| moment::end(&first_console(&answer.evidence)))
                .unwrap_or_default();
        }
        if !differing.is_empty() {
            outcome.verdict = Verdict::Differs;
            outcome.reason = Some(format!("{} not as expected", differing.join(", ")));
        } else if !unknown.is_empty() {
            outcome.verdict = Verdict::New;
            outcome.reason = Some(format!("nothing is expected yet of {}", unknown.join(", ")));
        }
        Ok(outcome)
    }

    /// What came back of one job as text that is equal from run to run.
    fn text(&self, kind: Kind, evidence: &Evidence, context: &Context) -> String {
        let normaliser = Normaliser { masks: &self.masks, context };
        match kind {
            Kind::Results => results::normalise(evidence, normaliser),
            Kind::Ledger => ledger::normalise(evidence, &self.artifacts, normaliser),
            Kind::Log => {
                let log = log::normalise(&evidence.log, one_board(evidence).as_ref(), normaliser);
                log + &pipeline::normalise(&evidence.pipeline, normaliser)
            }
        }
    }

    /// The scenario's folder in the report.
    fn folder(&self, scenario: &Scenario) -> PathBuf {
        self.report.join("scenarios").join(&scenario.suite).join(&scenario.name)
    }
}

/// What is known of a job when it has come back.
fn known(answer: &Answer) -> Context {
    let mut context = answer.context.clone();
    if let Some(token) = answer.evidence.details.get("token").and_then(Value::as_str) {
        // What its worker reports the job with.
        context.add(TOKEN, token);
    }
    for (action, seconds) in pipeline::timeouts(&answer.evidence.pipeline) {
        context.allow(&action, seconds);
    }
    context
}

fn timeline_of(answer: &Answer) -> Vec<Span> {
    let mut spans = timeline(&answer.evidence);
    for span in &mut spans {
        span.job.clone_from(&answer.job);
    }
    spans
}

/// What the board printed and was typed, where there is exactly one.
fn one_board(evidence: &Evidence) -> Option<log::Board> {
    let mut consoles = evidence.consoles.iter();
    match (consoles.next(), consoles.next()) {
        (Some((name, console)), None) if !console.is_empty() => Some(log::Board {
            console: String::from_utf8_lossy(console).into_owned(),
            typed: evidence.ledgers.get(name).map(|ledger| heard::typed(ledger)).unwrap_or_default(),
        }),
        _ => None,
    }
}

/// Why what came back says nothing of LAVA's behaviour, if so.
fn broken(scenario: &Scenario, answers: &[Answer]) -> Option<String> {
    answers.iter().find_map(|answer| broken_job(&answer.evidence)).or_else(|| {
        answers.iter().find(|answer| answer.evidence.job.is_some())?;
        let has = |name: &str| answers.iter().any(|answer| answer.evidence.ledgers.contains_key(name));
        let board = scenario.boards().find(|board| !has(board))?;
        Some(format!("the ghost {board} has no ledger"))
    })
}

fn broken_job(evidence: &Evidence) -> Option<String> {
    let job = evidence.job.as_ref()?;
    let state = evidence.details.get("state").and_then(Value::as_str).unwrap_or("unknown");
    if state != "Finished" {
        return Some(format!("job {job} is {state} in LAVA, not Finished"));
    }
    if evidence.log.trim_ascii().is_empty() {
        let comment = evidence.details.get("failure_comment").and_then(Value::as_str).unwrap_or_default();
        return Some(
            format!("job {job} has no log: it never ran. {}", printable(comment)).trim_end().to_owned(),
        );
    }
    let why = evidence.announced.gap.as_ref()?;
    Some(format!("LAVA's event stream broke off while job {job} ran: {}", printable(why)))
}

/// The first line where `found` leaves `expected`. Lines are counted as in a file that has
/// the whole text: the report's, and what `show --part results` prints.
#[must_use]
pub fn first_difference(kind: Kind, expected: &str, found: &str) -> Option<Difference> {
    if expected == found {
        return None;
    }
    let (mut expected, mut found) = (expected.lines(), found.lines());
    let mut line = HEADER + 1;
    loop {
        let (one, other) = (expected.next(), found.next());
        if one != other {
            return Some(Difference {
                snapshot: kind.name().into(),
                line,
                expected: one.map(str::to_owned),
                found: other.map(str::to_owned),
            });
        }
        // Equal lines with different line endings are no difference that could be shown.
        one?;
        line += 1;
    }
}

/// What the first board printed, the last of it where it is endless.
fn first_console(evidence: &Evidence) -> Cow<'_, str> {
    /// Enough for what is shown, however much a board prints.
    const LIMIT: usize = 4 << 20;
    let console = evidence.consoles.values().next().map_or(&[][..], Vec::as_slice);
    String::from_utf8_lossy(&console[console.len().saturating_sub(LIMIT)..])
}

/// What an earlier run of the same report left in a folder is not of this one.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Infrastructure(format!("could not empty {}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Writes what came back as it came, without secrets.
fn write_raw(folder: &Path, evidence: &Evidence, context: &Context) -> Result<()> {
    let write = |name: &str, bytes: &[u8]| write_whole(&folder.join(name), &context.without_secrets(bytes));
    let json = |value: &Value| serde_json::to_vec_pretty(value).unwrap_or_default();
    write("job.json", &json(&evidence.details))?;
    write("metadata.json", &json(&evidence.metadata))?;
    write("log.yaml", &evidence.log)?;
    write("pipeline.yaml", &evidence.pipeline)?;
    write("announced.jsonl", evidence.announced.lines().as_bytes())?;
    let suites: Vec<Value> = evidence
        .suites
        .iter()
        .map(|(name, tests)| serde_json::json!({"suite": name, "tests": tests}))
        .collect();
    write("results.json", &json(&Value::Array(suites)))?;
    for (board, entries) in &evidence.ledgers {
        let mut lines = Vec::new();
        for entry in entries {
            lines.extend(serde_json::to_vec(entry).unwrap_or_default());
            lines.push(b'\n');
        }
        write(&format!("ledger-{}.jsonl", file_name(board)), &lines)?;
    }
    for (board, console) in &evidence.consoles {
        write(&format!("console-{}.log", file_name(board)), console)?;
    }
    Ok(())
}

/// Names of boards are names of files already; what came from elsewhere is made one.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .take(100)
        .collect()
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::normalise::ledger::tests::events;
    use crate::scenario::Matrix;
    use meta_lava_ghost::ledger::Entry;

    /// What came back of a job on `bbb`, in short.
    pub fn evidence(job: &str) -> Evidence {
        let line = |level: &str, message: String| {
            format!("- {{\"dt\": \"2024-11-23T06:08:00\", \"lvl\": \"{level}\", \"msg\": \"{message}\"}}\n")
        };
        let log = [
            line("info", "start: 0 validate".into()),
            line("input", format!("tftp 0x82000000 {job}/tftp-deploy-a8{}/kernel/zImage\\n", &"b7c8d9"[..6])),
            line("target", "Bytes transferred = 5".into()),
        ];
        let overlay = format!("echo /lava-{job}/bin\n").into_bytes();
        Evidence {
            announced: crate::jobs::announced::Announced::default(),
            blobs: [(meta_lava_formats::sha256(&overlay), overlay)].into(),
            job: Some(job.into()),
            details: json!({"id": job, "health": "Complete", "state": "Finished", "token": "hush"}),
            log: log.concat().into_bytes(),
            pipeline: b"pipeline: []\n".to_vec(),
            suites: vec![("lava".into(), vec![json!({"id": 1, "name": "validate", "result": "pass"})])],
            metadata: json!([]),
            ledgers: [(
                "bbb-01".to_owned(),
                events(job).into_iter().map(|event| Entry { time_us: 0, event }).collect(),
            )]
            .into(),
            consoles: [("bbb-01".to_owned(), b"Bytes transferred = 5\r\n=> \x1b[0m".to_vec())].into(),
        }
    }

    /// The only job's answer.
    pub fn answers(evidence: &Evidence, context: &Context) -> Vec<Answer> {
        vec![Answer { job: String::new(), evidence: evidence.clone(), context: context.clone() }]
    }

    /// A repository, its matrix, and a judge who pends.
    pub fn court() -> (tempfile::TempDir, Matrix, Judge) {
        let folder = crate::scenario::tests::folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let report = folder.path().join("report");
        let mut judge = Judge::new(folder.path(), Series::OLDEST, Artifacts::default(), &report);
        judge.pend = true;
        (folder, matrix, judge)
    }

    fn accept(root: &Path) {
        let store = Store::new(root);
        crate::judge::pending::accept(&store, &store.pending().unwrap()).unwrap();
    }

    #[test]
    fn a_scenario_is_new_then_passes_and_its_snapshots_are_equal_for_every_job() {
        let (folder, matrix, judge) = court();
        let bbb = &matrix.scenarios[0];
        let judge =
            |job: &str| judge.judge(bbb, &answers(&evidence(job), &Context::new(Some(job))), 1.5).unwrap();
        let outcome = judge("12");
        assert_eq!(outcome.verdict, Verdict::New);
        assert_eq!(outcome.reason.as_deref(), Some("nothing is expected yet of results, ledger, log"));
        assert_eq!(outcome.console.lines, ["Bytes transferred = 5", "=> \\x1b[0m"]);
        accept(folder.path());
        let snap = |name: &str| {
            fs::read(folder.path().join("report/scenarios/health-checks/bbb").join(name)).unwrap()
        };
        let first = ["log.snap", "results.snap", "ledger.snap"].map(snap);
        assert_eq!(judge("4711").verdict, Verdict::Pass);
        assert_eq!(["log.snap", "results.snap", "ledger.snap"].map(snap), first);
        assert!(snap("raw/log.yaml").starts_with(b"- {\"dt\""));
        assert!(snap("raw/console-bbb-01.log").starts_with(b"Bytes"));
        let told = String::from_utf8(snap("raw/job.json")).unwrap();
        assert!(told.contains("\"token\": \"[TOKEN]\""), "{told}");
        assert!(Store::new(folder.path()).pending().unwrap().is_empty());
    }

    #[test]
    fn what_differs_is_pending_and_the_first_difference_is_the_most_telling_one() {
        let (folder, matrix, judge) = court();
        let bbb = &matrix.scenarios[0];
        let context = Context::new(Some("12"));
        judge.judge(bbb, &answers(&evidence("12"), &context), 1.0).unwrap();
        accept(folder.path());
        let mut other = evidence("12");
        other.log.extend(b"- {\"dt\": \"x\", \"lvl\": \"debug\", \"msg\": \"more\"}\n");
        let outcome = judge.judge(bbb, &answers(&other, &context), 1.0).unwrap();
        assert_eq!(outcome.verdict, Verdict::Differs);
        let difference = outcome.first_difference.unwrap();
        assert_eq!(difference.snapshot, "log");
        // Four lines of header, then LAVA's own lines before the board's.
        assert_eq!(difference.line, 7);
        assert_eq!(difference.expected.as_deref(), Some("--- what the board printed; LAVA logged the same"));
        assert_eq!(difference.found.as_deref(), Some("debug    | more"));
        let pending = Store::new(folder.path()).pending().unwrap();
        assert_eq!(pending.iter().map(|p| p.id.to_string()).collect::<Vec<_>>(), ["health-checks/bbb/log"]);

        other.suites[0].1[0]["result"] = "fail".into();
        let outcome = judge.judge(bbb, &answers(&other, &context), 1.0).unwrap();
        assert_eq!(outcome.reason.as_deref(), Some("results, log not as expected"));
        assert_eq!(outcome.first_difference.unwrap().snapshot, "results");

        // All is well again: nothing stays pending.
        assert_eq!(
            judge.judge(bbb, &answers(&evidence("12"), &context), 1.0).unwrap().verdict,
            Verdict::Pass
        );
        assert!(Store::new(folder.path()).pending().unwrap().is_empty());
    }

    #[test]
    fn a_scenario_of_several_jobs_has_a_part_for_each_in_each_text() {
        let (folder, matrix, judge) = court();
        let bbb = &matrix.scenarios[0];
        let answers: Vec<Answer> = [("server", "12"), ("client 1", "13")]
            .map(|(job, id)| {
                let (evidence, context) = (evidence(id), Context::new(Some(id)));
                Answer { job: job.into(), evidence, context }
            })
            .into();
        let outcome = judge.judge(bbb, &answers, 1.0).unwrap();
        assert_eq!(outcome.verdict, Verdict::New);
        accept(folder.path());
        assert_eq!(judge.judge(bbb, &answers, 1.0).unwrap().verdict, Verdict::Pass);
        let report = folder.path().join("report/scenarios/health-checks/bbb");
        let results = fs::read_to_string(report.join("results.snap")).unwrap();
        let parts: Vec<&str> = results.lines().filter(|line| line.starts_with("===")).collect();
        assert_eq!(parts, ["=== server", "=== client 1"]);
        assert!(report.join("raw/server/log.yaml").exists() && report.join("raw/client_1/job.json").exists());

        // What is shown of a console is the one of the job that differs.
        let mut other = answers.clone();
        other[1].evidence.suites[0].1[0]["result"] = "fail".into();
        other[1].evidence.consoles.insert("bbb-01".into(), b"it is me\r\n".to_vec());
        let outcome = judge.judge(bbb, &other, 1.0).unwrap();
        assert_eq!(outcome.reason.as_deref(), Some("results, log not as expected"));
        assert_eq!(outcome.console.lines, ["it is me"]);
    }

    #[test]
    fn ci_never_writes_a_snapshot() {
        let (folder, matrix, mut judge) = court();
        judge.pend = false;
        let outcome = judge
            .judge(&matrix.scenarios[0], &answers(&evidence("12"), &Context::new(Some("12"))), 1.0)
            .unwrap();
        assert_eq!(outcome.verdict, Verdict::New);
        assert!(!folder.path().join("expected").exists());
    }

    #[test]
    fn what_says_nothing_of_lava_is_an_error_and_leaves_nothing_pending() {
        let (folder, matrix, judge) = court();
        let bbb = &matrix.scenarios[0];
        let verdict = |change: &dyn Fn(&mut Evidence)| {
            let mut evidence = evidence("12");
            change(&mut evidence);
            let outcome = judge.judge(bbb, &answers(&evidence, &Context::new(Some("12"))), 1.0).unwrap();
            assert_eq!(outcome.verdict, Verdict::Error);
            outcome.reason.unwrap()
        };
        assert_eq!(
            verdict(&|e| e.details["state"] = "Running".into()),
            "job 12 is Running in LAVA, not Finished"
        );
        assert_eq!(verdict(&|e| e.log.clear()), "job 12 has no log: it never ran.");
        assert_eq!(verdict(&|e| e.ledgers.clear()), "the ghost bbb-01 has no ledger");
        assert!(!folder.path().join("expected").exists());
    }

    #[test]
    fn a_timeout_shows_where_the_job_stopped_and_leaves_nothing_pending() {
        let (folder, matrix, judge) = court();
        let bbb = &matrix.scenarios[0];
        let context = Context::new(Some("12"));
        judge.judge(bbb, &answers(&evidence("12"), &context), 1.0).unwrap();
        accept(folder.path());
        let mut cut = evidence("12");
        cut.log.truncate(cut.log.len() - 80);
        let reason = "job 12 is still Running after 180 s".to_owned();
        let outcome =
            judge.give_up(bbb, &answers(&cut, &context), 180.0, Verdict::Timeout, reason.clone()).unwrap();
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Timeout, Some(reason)));
        assert_eq!(outcome.first_difference.unwrap().snapshot, "log");
        assert!(Store::new(folder.path()).pending().unwrap().is_empty());
    }

    #[test]
    fn the_first_difference_may_be_an_end() {
        let difference = |expected, found| first_difference(Kind::Log, expected, found);
        assert_eq!(difference("a\nb", "a\nb"), None);
        let longer = difference("a", "a\nb").unwrap();
        assert_eq!((longer.line, longer.expected, longer.found.as_deref()), (6, None, Some("b")));
        let shorter = difference("a\nb", "a").unwrap();
        assert_eq!((shorter.line, shorter.expected.as_deref(), shorter.found), (6, Some("b"), None));
    }
}
