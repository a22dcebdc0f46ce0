//! What goes between a verdict and the disk: what is expected is read, what was found is
//! written to the report, and what differs is left pending for a review.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::event::{Outcome, Verdict};
use crate::judge::normalise::{Artifacts, Masks};
use crate::judge::snapshot::{Id, Kind, Store};
use crate::judge::verdict::{Answer, Case, Judged, verdict};
use crate::lava::series::Series;
use crate::report::kept;
use crate::scenario::Scenario;

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
    /// [`Error::Usage`] for a snapshot that can't be read, [`Error::Infrastructure`] when the
    /// report or a pending snapshot can't be written.
    ///
    /// [`Error::Usage`]: crate::error::Error::Usage
    /// [`Error::Infrastructure`]: crate::error::Error::Infrastructure
    pub fn judge(&self, scenario: &Scenario, answers: Vec<Answer>, seconds: f64) -> Result<Outcome> {
        let answers: Vec<Answer> = answers.into_iter().map(Answer::known).collect();
        let judged = self.verdict(scenario, &answers, seconds)?;
        self.keep(scenario, &answers, judged)
    }

    /// The same for a scenario that can't be judged, with the `verdict` and `reason` that are
    /// known already (a timeout, an error).
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn give_up(
        &self,
        scenario: &Scenario,
        answers: Vec<Answer>,
        seconds: f64,
        verdict: Verdict,
        reason: String,
    ) -> Result<Outcome> {
        let answers: Vec<Answer> = answers.into_iter().map(Answer::known).collect();
        let judged = self.verdict(scenario, &answers, seconds)?;
        self.keep(scenario, &answers, judged.given_up(verdict, reason))
    }

    /// What a user should know when all is judged: with the whole matrix run, masks
    /// that matched nothing.
    #[must_use]
    pub fn warnings(&self, whole_matrix: bool) -> Vec<String> {
        let unused = if whole_matrix { self.masks.unused() } else { Vec::new() };
        let warning = |name| format!("the mask `{name}` matched nothing: is LAVA's wording another one now?");
        unused.into_iter().map(warning).collect()
    }

    fn verdict(&self, scenario: &Scenario, answers: &[Answer], seconds: f64) -> Result<Judged> {
        let ids = Kind::ALL.into_iter().map(|kind| Id::of(scenario, self.series, kind));
        let expected = ids.map(|id| self.store.expected(&id));
        let expected: Vec<_> = expected.collect::<Result<_>>()?;
        let (masks, artifacts, expected) = (&self.masks, &self.artifacts, expected.as_slice());
        let series = self.series;
        Ok(verdict(Case { scenario, answers, series, masks, artifacts, expected, seconds }))
    }

    fn keep(&self, scenario: &Scenario, answers: &[Answer], judged: Judged) -> Result<Outcome> {
        kept::write(&self.report, scenario, self.series, answers, &judged.snapshots)?;
        if self.pend && judged.is_of_lava() {
            for found in &judged.snapshots {
                let id = Id::of(scenario, self.series, found.kind);
                if found.fits {
                    self.store.unpend(&id)?;
                } else {
                    self.store.pend(&id, &found.text)?;
                }
            }
        }
        Ok(judged.outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::jobs::evidence::Evidence;
    use crate::judge::normalise::Context;
    use crate::judge::verdict::tests::{answers, evidence};
    use crate::scenario::Matrix;

    /// A repository, its matrix, and a judge who pends.
    fn repository() -> (tempfile::TempDir, Matrix, Judge) {
        let folder = crate::scenario::tests::folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let report = folder.path().join("report");
        let mut judge = Judge::new(folder.path(), Series::OLDEST, Artifacts::default(), &report);
        judge.pend = true;
        (folder, matrix, judge)
    }

    fn accept(root: &Path) {
        let store = Store::new(root);
        let matrix = Matrix::load(root).unwrap();
        crate::judge::pending::accept(&store, &matrix, &store.pending().unwrap()).unwrap();
    }

    #[test]
    fn a_scenario_is_new_then_passes_and_its_snapshots_are_equal_for_every_job() {
        let (folder, matrix, judge) = repository();
        let bbb = &matrix.scenarios[0];
        let judge =
            |job: &str| judge.judge(bbb, answers(&evidence(job), &Context::new(Some(job))), 1.5).unwrap();
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
        let (folder, matrix, judge) = repository();
        let bbb = &matrix.scenarios[0];
        let context = Context::new(Some("12"));
        judge.judge(bbb, answers(&evidence("12"), &context), 1.0).unwrap();
        accept(folder.path());
        let mut other = evidence("12");
        let more = b"- {\"dt\": \"x\", \"lvl\": \"debug\", \"msg\": \"more\"}\n";
        other.log = [other.log.raw(), more].concat().into();
        let outcome = judge.judge(bbb, answers(&other, &context), 1.0).unwrap();
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
        let outcome = judge.judge(bbb, answers(&other, &context), 1.0).unwrap();
        assert_eq!(outcome.reason.as_deref(), Some("results, log not as expected"));
        assert_eq!(outcome.first_difference.unwrap().snapshot, "results");

        // All is well again: nothing stays pending.
        assert_eq!(judge.judge(bbb, answers(&evidence("12"), &context), 1.0).unwrap().verdict, Verdict::Pass);
        assert!(Store::new(folder.path()).pending().unwrap().is_empty());
    }

    #[test]
    fn a_scenario_of_several_jobs_has_a_part_for_each_in_each_text() {
        let (folder, matrix, judge) = repository();
        let bbb = &matrix.scenarios[0];
        let answers: Vec<Answer> = [("server", "12"), ("client 1", "13")]
            .map(|(job, id)| {
                let (evidence, context) = (evidence(id), Context::new(Some(id)));
                Answer { job: job.into(), evidence, context }
            })
            .into();
        let outcome = judge.judge(bbb, answers.clone(), 1.0).unwrap();
        assert_eq!(outcome.verdict, Verdict::New);
        accept(folder.path());
        assert_eq!(judge.judge(bbb, answers.clone(), 1.0).unwrap().verdict, Verdict::Pass);
        let report = folder.path().join("report/scenarios/health-checks/bbb");
        let results = fs::read_to_string(report.join("results.snap")).unwrap();
        let parts: Vec<&str> = results.lines().filter(|line| line.starts_with("===")).collect();
        assert_eq!(parts, ["=== server", "=== client 1"]);
        assert!(report.join("raw/server/log.yaml").exists() && report.join("raw/client_1/job.json").exists());

        // What is shown of a console is the one of the job that differs.
        let mut other = answers.clone();
        other[1].evidence.suites[0].1[0]["result"] = "fail".into();
        other[1].evidence.consoles.insert("bbb-01".into(), b"it is me\r\n".to_vec());
        let outcome = judge.judge(bbb, other, 1.0).unwrap();
        assert_eq!(outcome.reason.as_deref(), Some("results, log not as expected"));
        assert_eq!(outcome.console.lines, ["it is me"]);
    }

    #[test]
    fn a_known_defect_passes_and_is_fixed_once_lava_does_right_but_nothing_is_accepted_till_it_is_taken_out()
    {
        let (folder, _, judge) = repository();
        let file = "jobs/health-checks/bbb/scenario.yaml";
        let defect = "defect: {series: '>=2023.01', about: ping is lost, right: it passes, fails: [ping], shows: \
                      {results: 'ping: fail'}, would_show: {results: 'ping: pass'}}\n";
        crate::scenario::tests::write(folder.path(), file, &format!("family: uboot\n{defect}"));
        let matrix = Matrix::load(folder.path()).unwrap();
        let bbb = &matrix.scenarios[0];
        let with = |ping: &str| {
            let mut evidence = evidence("12");
            let case =
                |name: &str, result: &str| serde_json::json!({"id": 2, "name": name, "result": result});
            evidence.suites.push(("0_smoke".into(), vec![case("ping", ping), case("always", "pass")]));
            evidence
        };
        let judged = |evidence: &Evidence| {
            judge.judge(bbb, answers(evidence, &Context::new(Some("12"))), 1.0).unwrap()
        };
        assert_eq!(judged(&with("fail")).verdict, Verdict::New);
        accept(folder.path());
        let known = judged(&with("fail"));
        assert_eq!((known.verdict, known.defects.len(), known.defects[0].gone), (Verdict::Pass, 1, false));

        let fixed = judged(&with("pass"));
        assert_eq!((fixed.verdict, fixed.defects[0].gone), (Verdict::Fixed, true));
        assert_eq!(fixed.first_difference, None);
        assert_eq!(fixed.defects[0].advice(), format!("remove the defect from {file}"));
        let store = Store::new(folder.path());
        let pending = store.pending().unwrap();
        assert_eq!(pending.len(), 1);
        let refused = crate::judge::pending::accept(&store, &matrix, &pending).unwrap_err().to_string();
        assert!(refused.contains("no line of the results has `ping: fail`"), "{refused}");

        // Something else broke as well: that is no progress.
        let mut broken = with("pass");
        broken.suites[1].1.pop();
        let differs = judged(&broken);
        assert_eq!((differs.verdict, differs.defects.len()), (Verdict::Differs, 0));
        assert_eq!(
            differs.reason.as_deref(),
            Some(
                "results not as expected; the known defect does not show, but 0_smoke always was pass with it \
                 and is missing now"
            )
        );

        // Taken out of the scenario, and accepted, it is one like any other.
        judged(&with("pass"));
        crate::scenario::tests::write(folder.path(), file, "family: uboot\n");
        accept(folder.path());
        let matrix = Matrix::load(folder.path()).unwrap();
        let again = answers(&with("pass"), &Context::new(Some("12")));
        let outcome = judge.judge(&matrix.scenarios[0], again, 1.0).unwrap();
        assert_eq!((outcome.verdict, outcome.defects), (Verdict::Pass, Vec::new()));
    }

    #[test]
    fn ci_never_writes_a_snapshot() {
        let (folder, matrix, mut judge) = repository();
        judge.pend = false;
        let outcome = judge
            .judge(&matrix.scenarios[0], answers(&evidence("12"), &Context::new(Some("12"))), 1.0)
            .unwrap();
        assert_eq!(outcome.verdict, Verdict::New);
        assert!(!folder.path().join("expected").exists());
    }

    #[test]
    fn what_says_nothing_of_lava_is_an_error_and_leaves_nothing_pending() {
        let (folder, matrix, judge) = repository();
        let bbb = &matrix.scenarios[0];
        let verdict = |change: &dyn Fn(&mut Evidence)| {
            let mut evidence = evidence("12");
            change(&mut evidence);
            let outcome = judge.judge(bbb, answers(&evidence, &Context::new(Some("12"))), 1.0).unwrap();
            assert_eq!(outcome.verdict, Verdict::Error);
            outcome.reason.unwrap()
        };
        assert_eq!(
            verdict(&|e| e.details["state"] = "Running".into()),
            "job 12 is Running in LAVA, not Finished"
        );
        assert_eq!(verdict(&|e| e.log = Vec::new().into()), "job 12 has no log: it never ran.");
        let lost = verdict(&|e| {
            e.log = Vec::new().into();
            e.worker = vec!["03:00:00,100 Starting job".into(), "03:00:00,140 running -> finished".into()];
        });
        assert_eq!(
            lost,
            "job 12 has no log: it never ran. lava-worker's log says: \
             03:00:00,100 Starting job; 03:00:00,140 running -> finished"
        );
        assert_eq!(verdict(&|e| e.ledgers.clear()), "the ghost bbb-01 has no ledger");
        assert!(!folder.path().join("expected").exists());
    }

    #[test]
    fn a_timeout_shows_where_the_job_stopped_and_leaves_nothing_pending() {
        let (folder, matrix, judge) = repository();
        let bbb = &matrix.scenarios[0];
        let context = Context::new(Some("12"));
        judge.judge(bbb, answers(&evidence("12"), &context), 1.0).unwrap();
        accept(folder.path());
        let mut cut = evidence("12");
        cut.log = cut.log.raw()[..cut.log.raw().len() - 80].to_vec().into();
        let reason = "job 12 is still Running after 180 s".to_owned();
        let outcome =
            judge.give_up(bbb, answers(&cut, &context), 180.0, Verdict::Timeout, reason.clone()).unwrap();
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Timeout, Some(reason)));
        assert_eq!(outcome.first_difference.unwrap().snapshot, "log");
        assert!(Store::new(folder.path()).pending().unwrap().is_empty());
    }
}
