//! The verdict on one scenario: a function of what came back and of what is expected. It
//! reads and writes no file.

use std::borrow::Cow;

use serde_json::Value;

use crate::event::{Difference, Ending, Moment, Outcome, Span, Verdict};
use crate::jobs::ending::ending;
use crate::jobs::evidence::{Evidence, Port};
use crate::jobs::timeline::timeline;
use crate::judge::change::{self, Names};
use crate::judge::defect;
use crate::judge::meant::{meant, unmet_faults};
use crate::judge::normalise::rows::Rows;
use crate::judge::normalise::{
    Artifacts, Context, Masks, Normaliser, ledger, log, moment, pipeline, results,
};
use crate::judge::snapshot::{Expected, HEADER, Kind};
use crate::lava::series::Series;
use crate::scenario::{Defect, Scenario};
use crate::secret::TOKEN;
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

/// What a verdict is made of.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// What came back of its jobs, with all that is known of them; see [`Answer::known`].
    pub answers: &'a [Answer],
    /// The series of the LAVA that they ran on.
    pub series: Series,
    /// The run's masks; they count what they match.
    pub masks: &'a Masks,
    /// What the world serves.
    pub artifacts: &'a Artifacts,
    /// What is expected, as far as there is something, in the order of [`Kind::ALL`].
    pub expected: &'a [Option<Expected>],
    /// From submission to verdict.
    pub seconds: f64,
}

/// What came of a comparison.
#[derive(Debug, Clone)]
pub struct Judged {
    /// How the scenario ended.
    pub outcome: Outcome,
    /// What was compared.
    pub snapshots: Vec<Found>,
}

/// A text that was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which of the three.
    pub kind: Kind,
    /// What it says.
    pub text: String,
    /// Whether it is as expected.
    pub fits: bool,
}

impl Answer {
    /// With what came back, more is known of the job.
    #[must_use]
    pub fn known(mut self) -> Self {
        if let Some(token) = self.evidence.details.get("token").and_then(Value::as_str) {
            // What its worker reports the job with.
            self.context.add(TOKEN, token);
        }
        for (action, seconds) in pipeline::timeouts(&self.evidence.pipeline) {
            self.context.allow(&action, seconds);
        }
        self
    }
}

/// The verdict.
#[must_use]
pub fn verdict(case: Case<'_>) -> Judged {
    let judged = compare(case);
    match broken(case.scenario, case.answers) {
        Some(reason) => judged.given_up(Verdict::Error, reason),
        None => judged,
    }
}

impl Judged {
    /// The same where the verdict is known for another reason (a timeout, an error). Where
    /// it left the expectation is told all the same.
    #[must_use]
    pub fn given_up(self, verdict: Verdict, reason: String) -> Self {
        let outcome = Outcome { verdict, reason: Some(reason), ..self.outcome };
        Self { outcome, ..self }
    }

    /// Whether it says something of LAVA's behaviour, so that a person may accept it.
    #[must_use]
    pub fn is_of_lava(&self) -> bool {
        let is_of_lava = [Verdict::Pass, Verdict::Fixed, Verdict::Differs, Verdict::New];
        is_of_lava.contains(&self.outcome.verdict)
    }
}

fn compare(case: Case<'_>) -> Judged {
    let Case { scenario, answers, series, masks, artifacts, expected, seconds } = case;
    let mut outcome = Outcome {
        verdict: Verdict::Pass,
        reason: None,
        first_difference: None,
        ended: answers.iter().filter_map(ending_of).collect(),
        ends_otherwise: false,
        deviations: Vec::new(),
        defects: Vec::new(),
        console: Moment::default(),
        timeline: answers.iter().flat_map(timeline_of).collect(),
        seconds,
    };
    let mut snapshots = Vec::new();
    let mut differing = Vec::new();
    let mut unknown = Vec::new();
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        let mut all = Rows::default();
        // Where each job's part begins.
        let mut begins = Vec::new();
        for answer in answers {
            if !answer.job.is_empty() {
                all.push(format!("=== {}", answer.job));
            }
            begins.push(all.0.len());
            let normaliser = Normaliser { masks, context: &answer.context };
            all.0.extend(rows(kind, &answer.evidence, artifacts, normaliser).0);
        }
        let text = all.text();
        let mut fits = false;
        match expected.get(at).and_then(Option::as_ref) {
            None => unknown.push(kind.name()),
            Some(expected) => match first_difference(kind, &expected.text, &text) {
                None => fits = true,
                Some(difference) => {
                    differing.push(kind.name());
                    let changes = change::changes(kind.name(), &expected.text, &text, &Names::of(scenario));
                    let deviations = change::deviations(&changes, HEADER + 1, &expected.text, &text);
                    outcome.deviations.extend(deviations);
                    if outcome.first_difference.is_none() {
                        let at = difference.line - HEADER - 1;
                        let part = begins.partition_point(|begin| *begin <= at).saturating_sub(1);
                        if let (Some(answer), Some(begin)) = (answers.get(part), begins.get(part)) {
                            let normaliser = Normaliser { masks, context: &answer.context };
                            let console = first_console(&answer.evidence);
                            let (own, at) = (&all.0[*begin..], at.saturating_sub(*begin));
                            outcome.console = moment::moment(&console, own, at, normaliser);
                        }
                        outcome.first_difference = Some(difference);
                    }
                }
            },
        }
        snapshots.push(Found { kind, text, fits });
    }
    let found: defect::Texts<'_> = std::array::from_fn(|at| snapshots[at].text.as_str());
    let known: Vec<&str> = expected.iter().flatten().map(|expected| &*expected.text).collect();
    let told = defect::told(scenario, series, known.try_into().ok(), found);
    let meant = meant(scenario, series, &scenario.defects_on(series), found[0]);
    let unmet = unmet_faults(found[1]);
    outcome.ends_otherwise = meant.otherwise.is_some() || unmet.is_some();
    if outcome.first_difference.is_none() {
        let end = |answer: &Answer| moment::end(&first_console(&answer.evidence));
        outcome.console = answers.first().map(end).unwrap_or_default();
    }
    let is = |gone| move |defect: &&Defect| defect::known(scenario, series, defect, gone);
    outcome.defects = told.shown.iter().map(is(false)).chain(told.gone.iter().map(is(true))).collect();
    if unknown.is_empty() && !told.gone.is_empty() {
        // Where it left what is expected it does so for the better.
        (outcome.first_difference, outcome.deviations) = (None, Vec::new());
        outcome.verdict = Verdict::Fixed;
        let gone: Vec<&str> = told.gone.iter().map(|defect| defect.about.as_str()).collect();
        outcome.reason = Some(format!("LAVA does right now: the defect is gone: {}", gone.join("; ")));
    } else if !differing.is_empty() {
        outcome.verdict = Verdict::Differs;
        let doubt = told.doubt.map(|doubt| format!("the known defect does not show, but {doubt}"));
        let reason = format!("{} not as expected", differing.join(", "));
        outcome.reason = Some(std::iter::once(reason).chain(doubt).collect::<Vec<_>>().join("; "));
    } else if !unknown.is_empty() {
        outcome.verdict = Verdict::New;
        let reason = format!("nothing is expected yet of {}", unknown.join(", "));
        let remarks = meant.lines().into_iter().chain(unmet);
        outcome.reason = Some(std::iter::once(reason).chain(remarks).collect::<Vec<_>>().join("; "));
    }
    Judged { outcome, snapshots }
}

/// What came back of one job as lines that are equal from run to run.
fn rows(kind: Kind, evidence: &Evidence, artifacts: &Artifacts, normaliser: Normaliser<'_>) -> Rows {
    match kind {
        Kind::Results => results::normalise(evidence, normaliser),
        Kind::Ledger => ledger::normalise(evidence, artifacts, normaliser),
        Kind::Log => {
            let mut log = log::normalise(&evidence.log, one_board(evidence).as_ref(), artifacts, normaliser);
            log.0.extend(pipeline::normalise(&evidence.pipeline, normaliser).0);
            log
        }
    }
}

fn ending_of(answer: &Answer) -> Option<Ending> {
    ending(&answer.evidence).map(|ending| Ending { job: answer.job.clone(), ..ending })
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
    let (Port { board, .. }, _) = evidence.consoles.first_key_value()?;
    let is_alone = evidence.consoles.keys().all(|port| port.board == *board);
    if !is_alone || evidence.consoles.values().all(Vec::is_empty) {
        return None;
    }
    let ledger = evidence.ledgers.get(board).map(Vec::as_slice).unwrap_or_default();
    let printed = evidence.consoles.iter();
    let printed = printed.map(|(port, console)| (port.uart, String::from_utf8_lossy(console)));
    Some(log::Board::of(printed, ledger))
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
    if evidence.log.lines().is_empty() {
        let comment = evidence.details.get("failure_comment").and_then(Value::as_str).unwrap_or_default();
        let comment = printable(comment).trim_end().to_owned();
        let mut reason = vec![format!("job {job} has no log: it never ran."), comment];
        if !evidence.worker.is_empty() {
            reason.push(format!("lava-worker's log says: {}", evidence.worker.join("; ")));
        }
        reason.retain(|sentence| !sentence.is_empty());
        return Some(reason.join(" "));
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
    let console = evidence.first_console();
    String::from_utf8_lossy(&console[console.len().saturating_sub(LIMIT)..])
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::normalise::ledger::tests::events;
    use crate::judge::snapshot::Id;
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
            answers: Vec::new(),
            worker: Vec::new(),
            announced: crate::jobs::announced::Announced::default(),
            blobs: [(meta_lava_formats::sha256(&overlay), overlay)].into(),
            job: Some(job.into()),
            details: json!({"id": job, "health": "Complete", "state": "Finished", "token": "hush"}),
            log: log.concat().into_bytes().into(),
            pipeline: b"pipeline: []\n".to_vec(),
            suites: vec![("lava".into(), vec![json!({"id": 1, "name": "validate", "result": "pass"})])],
            metadata: json!([]),
            ledgers: [(
                "bbb-01".to_owned(),
                events(job).into_iter().map(|event| Entry { time_us: 0, event }).collect(),
            )]
            .into(),
            consoles: [("bbb-01".into(), b"Bytes transferred = 5\r\n=> \x1b[0m".to_vec())].into(),
        }
    }

    /// The only job's answer.
    pub fn answers(evidence: &Evidence, context: &Context) -> Vec<Answer> {
        vec![Answer { job: String::new(), evidence: evidence.clone(), context: context.clone() }]
    }

    #[test]
    fn a_verdict_is_the_same_for_the_same_evidence_and_is_made_of_nothing_else() {
        let folder = crate::scenario::tests::folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let (masks, artifacts) = (Masks::new(), Artifacts::default());
        let answers = answers(&evidence("12"), &Context::new(Some("12")));
        let judge = |expected: &[Option<Expected>]| {
            verdict(Case {
                scenario: &matrix.scenarios[0],
                answers: &answers,
                series: Series::OLDEST,
                masks: &masks,
                artifacts: &artifacts,
                expected,
                seconds: 1.5,
            })
        };
        let new = judge(&[]);
        assert_eq!(new.outcome.verdict, Verdict::New);
        let expected = |found: &Found| {
            let id = Id::of(&matrix.scenarios[0], Series::of("2023.01").unwrap(), found.kind);
            Some(Expected { id, text: found.text.as_str().into() })
        };
        let mut known: Vec<Option<Expected>> = new.snapshots.iter().map(expected).collect();
        assert_eq!(judge(&known).outcome.verdict, Verdict::Pass);
        let ledger = known[1].as_mut().unwrap();
        ledger.text = format!("{}\n  power off", ledger.text).into();
        let differs = judge(&known);
        assert_eq!(differs.outcome.reason.as_deref(), Some("ledger not as expected"));
        assert_eq!(differs.snapshots.iter().map(|found| found.fits).collect::<Vec<_>>(), [true, false, true]);
        let given_up = differs.given_up(Verdict::Timeout, "late".into());
        assert!(given_up.outcome.first_difference.is_some() && !given_up.is_of_lava());
    }

    #[test]
    fn what_is_new_is_a_failure_where_its_job_ended_in_another_way_than_its_scenario_says() {
        let folder = crate::scenario::tests::folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let fails = |health: &str| {
            let mut evidence = evidence("12");
            evidence.details["health"] = json!(health);
            let found = verdict(Case {
                scenario: &matrix.scenarios[0],
                answers: &answers(&evidence, &Context::new(Some("12"))),
                series: Series::OLDEST,
                masks: &Masks::new(),
                artifacts: &Artifacts::default(),
                expected: &[],
                seconds: 1.5,
            });
            assert_eq!(found.outcome.verdict, Verdict::New);
            found.outcome.is_failure(false)
        };
        assert_eq!((fails("Complete"), fails("Incomplete")), (false, true));
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
