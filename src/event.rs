//! The stream of events of a run. The terminal, `run.json` and `junit.xml` are made from it
//! and from nothing else; `index.html` also shows the texts that are kept beside it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lava::words::JobState;
use crate::text::printable;

/// Where events of a run are sent to. That nobody listens is no error.
pub type EventSender = tokio::sync::mpsc::UnboundedSender<Event>;

/// Parts of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Finding or building images.
    Images,
    /// Starting and provisioning the stack.
    Stack,
    /// Jobs, from the first submission to the last verdict.
    Jobs,
    /// Taking the stack down.
    Cleanup,
}

/// What became of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All as expected.
    Pass,
    /// LAVA or the ledger is not as expected.
    Differs,
    /// Docker, image, server: not LAVA's behaviour.
    Error,
    /// The job did not end in time.
    Timeout,
    /// LAVA no longer does what it is known to do wrong.
    Fixed,
    /// Nothing is expected yet.
    New,
    /// Left out on purpose.
    Skipped,
    /// Interrupted before its turn, or before its end.
    NotRun,
}

impl Verdict {
    /// All of them, in the order of a summary.
    pub const ALL: [Self; 8] = [
        Self::Pass,
        Self::Differs,
        Self::Timeout,
        Self::Error,
        Self::Fixed,
        Self::New,
        Self::Skipped,
        Self::NotRun,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Differs => "differs",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Fixed => "fixed",
            Self::New => "new",
            Self::Skipped => "skipped",
            Self::NotRun => "not-run",
        }
    }

    /// Whether it is not as expected. `strict`: nothing expected yet is one, too.
    #[must_use]
    pub fn is_failure(self, strict: bool) -> bool {
        match self {
            Self::Differs | Self::Timeout | Self::Error => true,
            Self::New => strict,
            Self::Pass | Self::Fixed | Self::Skipped | Self::NotRun => false,
        }
    }

    /// Whether it is as it should be, so that it need not be run once more.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Pass | Self::Fixed | Self::Skipped)
    }
}

/// The first place where reality left the expectation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `results`, `ledger` or `log`.
    pub snapshot: String,
    /// Line of the snapshot, from 1, as the report's file counts them and what
    /// `show NAME --part results` (or `ledger`, `log`) prints.
    pub line: usize,
    /// The expected line; `None` where the snapshot ended.
    pub expected: Option<String>,
    /// The line found; `None` where what was found ended.
    pub found: Option<String>,
}

/// A defect of LAVA's that a scenario names; for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What LAVA does wrong.
    pub about: String,
    /// The issue in LAVA's tracker, where there is one.
    pub upstream: Option<String>,
    /// The series that are said to have it.
    pub series: String,
    /// Whether it is gone: LAVA does right now.
    pub gone: bool,
    /// The file that names it.
    pub file: PathBuf,
    /// The series that would be left if that of this LAVA were none of them, where there is any.
    pub rest: Option<String>,
}

impl Known {
    /// What stands before it where it is told.
    #[must_use]
    pub fn headline(&self) -> &'static str {
        if self.gone { "no longer a defect of this LAVA" } else { "known defect of LAVA" }
    }

    /// What to do about one that is gone.
    #[must_use]
    pub fn advice(&self) -> String {
        let file = printable(&self.file.display().to_string());
        match &self.rest {
            Some(rest) => {
                let rest = printable(rest);
                format!("narrow the `series` of the defect to \"{rest}\" in {file}, or remove it there")
            }
            None => format!("remove the defect from {file}"),
        }
    }
}

/// What a change comes to, wherever it shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// `results`, `ledger` or `log`.
    pub snapshot: String,
    /// Words that went from a line, or whole lines that are missing.
    pub expected: Vec<String>,
    /// The words that came in their place, or whole lines that are new.
    pub found: Vec<String>,
}

impl Cause {
    /// It in two halves, fit for a line: what went, and what came in its place.
    #[must_use]
    pub fn words(&self) -> [String; 2] {
        [&self.expected, &self.found].map(|words| {
            let words: Vec<String> = words.iter().map(|word| printable(word.trim())).collect();
            words.join(" · ")
        })
    }

    /// The same in one.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let [gone, came] = self.words();
        match (gone.is_empty(), came.is_empty()) {
            (false, false) => format!("{gone} → {came}"),
            (false, true) => format!("- {gone}"),
            (true, _) => format!("+ {came}"),
        }
    }
}

/// All that a scenario's difference has of one [`Cause`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deviation {
    /// What it comes to.
    pub cause: Cause,
    /// In how many places.
    pub times: usize,
    /// The first of them.
    pub first: Difference,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |line: &Option<String>| line.as_deref().map_or_else(|| "its end".into(), printable);
        let (snapshot, expected, found) =
            (printable(&self.snapshot), line(&self.expected), line(&self.found));
        write!(f, "{snapshot}, line {}: expected `{expected}`, found `{found}`", self.line)
    }
}

/// Some lines of a board's console, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The lines, fit for a terminal.
    pub lines: Vec<String>,
    /// Which of them stands closest to the first difference, from 0; without one they
    /// are the console's end.
    pub at: Option<usize>,
}

/// Whose time a [`Span`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// What LAVA did.
    Lava,
    /// What the board ran.
    Board,
}

/// A stretch of a scenario's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Whose.
    pub lane: Lane,
    /// Of which of the scenario's jobs (`client 1`); empty where it has only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// `queued`, `starting`, `validate`, the key of the job's action (`deploy`, `boot`, `test`),
    /// `finalize`, `ending`; or a board's stage.
    pub kind: String,
    /// In LAVA's words.
    pub name: String,
    /// Seconds since LAVA took the job in.
    pub from: f64,
    /// The same.
    pub to: f64,
}

/// How a job ended that did not complete, in LAVA's words; for people only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ending {
    /// Which of the scenario's jobs (`client 1`); empty where it has only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// LAVA's word: `Incomplete`, `Canceled`; or `refused`, of a job that it did not take.
    pub health: String,
    /// LAVA's word for the kind of error: `Infrastructure`, `Job`, `Test`, ...
    pub error_type: Option<String>,
    /// LAVA's reason.
    pub why: Option<String>,
    /// Where its time was over: what it waited for.
    pub wait: Option<Wait>,
}

/// What LAVA waited for when its time was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The pattern, or a few words.
    #[serde(rename = "for")]
    pub for_what: String,
    /// The last line that the board printed.
    pub heard: Option<String>,
}

impl Ending {
    /// It in a line: `Incomplete, Job: Login incorrect`.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = if self.job.is_empty() { String::new() } else { format!("{}: ", self.job) };
        words.push_str(&self.health);
        if let Some(kind) = &self.error_type {
            words.push_str(&format!(", {kind}"));
        }
        if let Some(why) = &self.why {
            words.push_str(&format!(": {why}"));
        }
        printable(&words)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard = self.heard.as_ref().map_or("nothing".into(), |heard| format!("`{}`", printable(heard)));
        write!(f, "for {}; the board last said {heard}", printable(&self.for_what))
    }
}

/// How a scenario ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Verdict.
    pub verdict: Verdict,
    /// For all but `pass`: why, in one line.
    pub reason: Option<String>,
    /// For `differs`.
    pub first_difference: Option<Difference>,
    /// What LAVA says of the jobs that did not complete.
    pub ended: Vec<Ending>,
    /// Whether they ended in another way than the scenario says.
    pub ends_otherwise: bool,
    /// All differences, by cause: the first of each stands in the order of the texts.
    pub deviations: Vec<Deviation>,
    /// What LAVA is known to do wrong here, and what of that it no longer does.
    pub defects: Vec<Known>,
    /// What the board showed at the first difference, or last.
    pub console: Moment,
    /// When what was done, for people.
    pub timeline: Vec<Span>,
    /// From submission to verdict.
    pub seconds: f64,
}

impl Outcome {
    /// One of which there is nothing to look at, after `seconds`.
    #[must_use]
    pub fn without_evidence(verdict: Verdict, reason: String, seconds: f64) -> Self {
        Self {
            verdict,
            reason: Some(reason),
            first_difference: None,
            ended: Vec::new(),
            ends_otherwise: false,
            deviations: Vec::new(),
            defects: Vec::new(),
            console: Moment::default(),
            timeline: Vec::new(),
            seconds,
        }
    }

    /// Whether it is not as expected: its verdict says so, or nothing is expected yet and the job ended
    /// in another way than its scenario says. `strict` as in [`Verdict::is_failure`].
    #[must_use]
    pub fn is_failure(&self, strict: bool) -> bool {
        self.verdict.is_failure(strict || self.ends_otherwise)
    }
}

/// A scenario that did not pass in an earlier run, and has not run since.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Outstanding {
    /// Its name.
    pub name: String,
    /// The LAVA that was asked for by name, where one was.
    pub lava: Option<String>,
}

/// One event of a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run begins.
    Started {
        /// Name of the run (also the label of all its objects).
        run: String,
        /// The report's folder.
        report: PathBuf,
        /// `slice:M/N` where it is one part of N.
        partition: Option<String>,
        /// The LAVAs that were asked for by name, in their order; empty where none was.
        lavas: Vec<String>,
        /// Scenarios to run, in order; each on each LAVA.
        scenarios: Vec<ScenarioInfo>,
    },
    /// What of earlier runs stays to be run after this one.
    Outstanding(Vec<Outstanding>),
    /// Another of several LAVAs has its turn: what comes now is of it.
    Turn(usize),
    /// A phase begins.
    PhaseStarted(Phase),
    /// A phase ended.
    PhaseEnded(Phase, Duration),
    /// A line on what a phase is doing (a build step, a wait).
    Progress(Phase, String),
    /// Something a user should know, though it is no failure.
    Warning(String),
    /// How this run differs from a plain one: what is needed to repeat it.
    Note(String),
    /// What jobs ran of the LAVA whose turn it is.
    Measured(Vec<Measured>),
    /// The version of LAVA that answered.
    Lava(String),
    /// What else is known of it.
    About(About),
    /// A job was submitted.
    Submitted {
        /// Name of the scenario.
        scenario: String,
        /// LAVA's job id.
        job: String,
    },
    /// A job changed its state in LAVA (`Scheduled`, `Running`, `Finished`, ...).
    JobState {
        /// Name of the scenario.
        scenario: String,
        /// How far it is.
        state: JobState,
    },
    /// A job is in another of LAVA's actions. Told only where somebody looks.
    Action {
        /// Name of the scenario.
        scenario: String,
        /// Level and name, such as `2.4 bootloader-commands`.
        action: String,
    },
    /// A job takes long; it may be given up later.
    Slow {
        /// Name of the scenario.
        scenario: String,
        /// Why it is called so, and how long it has.
        why: String,
        /// LAVA's action, if it is known.
        action: Option<String>,
    },
    /// A scenario has its verdict.
    Finished {
        /// Name of the scenario.
        scenario: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// The user has had enough: what runs is cancelled, and what has not begun will not.
    Interrupted,
    /// The run ended.
    Ended {
        /// Whether it was interrupted.
        interrupted: bool,
        /// Wall time of the run.
        elapsed: Duration,
    },
}

/// What a LAVA is made of, as far as it could be found out; fit to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// As it is asked for, such as `debian:sid`.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// The commit of a checkout.
    pub commit: Option<String>,
    /// The distribution that its server runs on.
    pub distribution: Option<String>,
    /// Python's version.
    pub python: Option<String>,
    /// Django's version.
    pub django: Option<String>,
    /// PostgreSQL's version.
    pub postgresql: Option<String>,
    /// The files of its dispatcher, where it was measured what its jobs ran of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measured>,
}

/// What jobs ran of a Python file of LAVA's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Such as `lava_dispatcher/job.py`.
    pub path: String,
    /// Its statements, each counted as the line on which it begins.
    pub lines: usize,
    /// Those that nobody ran, by number, in order.
    pub missing: Vec<usize>,
    /// The ways on from its lines that have more than one.
    pub branches: usize,
    /// Those of them that nobody took.
    pub missing_branches: usize,
}

/// How much there is, and how much of it was run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    pub run: usize,
    pub of: usize,
}

impl Share {
    /// In percent, with one digit behind the point; of nothing all was run.
    #[must_use]
    pub fn percent(self) -> String {
        let tenths = self.run.saturating_mul(1000).checked_div(self.of).unwrap_or(1000);
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

impl Measured {
    /// Of the lines of `files`.
    #[must_use]
    pub fn share_of_lines<'a>(files: impl IntoIterator<Item = &'a Self>) -> Share {
        Self::share(files, |file| (file.lines, file.missing.len()))
    }

    /// Of the branches of `files`.
    #[must_use]
    pub fn share_of_branches<'a>(files: impl IntoIterator<Item = &'a Self>) -> Share {
        Self::share(files, |file| (file.branches, file.missing_branches))
    }

    fn share<'a>(files: impl IntoIterator<Item = &'a Self>, of: impl Fn(&Self) -> (usize, usize)) -> Share {
        files.into_iter().map(of).fold(Share::default(), |sum, (all, missing)| Share {
            run: sum.run.saturating_add(all.saturating_sub(missing)),
            of: sum.of.saturating_add(all),
        })
    }

    /// Whether it is one of LAVA's actions: what a job is made of.
    #[must_use]
    pub fn is_action(&self) -> bool {
        self.path.starts_with("lava_dispatcher/actions/")
    }

    /// The lines that nobody ran, such as `7, 10-12`.
    #[must_use]
    pub fn missing_ranges(&self) -> String {
        let follow = |one: &usize, next: &usize| one.checked_add(1) == Some(*next);
        let ranges = self.missing.chunk_by(follow).map(|run| match run {
            [one] => one.to_string(),
            _ => format!("{}-{}", run[0], run[run.len() - 1]),
        });
        ranges.collect::<Vec<_>>().join(", ")
    }
}

impl About {
    /// What there is of it, each with its name.
    #[must_use]
    pub fn parts(&self) -> Vec<(&'static str, &str)> {
        let parts = [
            ("commit", &self.commit),
            ("distribution", &self.distribution),
            ("python", &self.python),
            ("django", &self.django),
            ("postgresql", &self.postgresql),
        ];
        parts.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

/// A name of a LAVA's as a folder's: `debian:sid` is `debian-sid`.
#[must_use]
pub fn lava_folder(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let folder: String = name.chars().map(fit).collect();
    // Neither hidden nor a way out.
    folder.trim_start_matches(['.', '-']).to_owned()
}

/// What the reports know of a scenario before it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioInfo {
    /// Name, unique over all suites; what events call it.
    pub name: String,
    /// Suite.
    pub suite: String,
    /// LAVA device-types it needs.
    pub device_types: Vec<String>,
    /// What it is about, in a line, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_run_is_told_in_percent_and_what_was_not_by_lines() {
        let file = |path: &str, lines, missing: &[usize]| Measured {
            path: path.into(),
            lines,
            missing: missing.to_vec(),
            ..Measured::default()
        };
        let files = [
            file("lava_dispatcher/actions/boot/u_boot.py", 100, &[7, 10, 11, 12]),
            file("lava_dispatcher/job.py", 3, &[1, 2]),
        ];
        assert_eq!(Measured::share_of_lines(&files), Share { run: 97, of: 103 });
        assert_eq!(Measured::share_of_lines(&files).percent(), "94.1");
        assert_eq!(Measured::share_of_branches(&files).percent(), "100.0");
        assert_eq!(files.iter().filter(|file| file.is_action()).count(), 1);
        assert_eq!(files[0].missing_ranges(), "7, 10-12");
        let more_missing_than_there_are = file("x", 1, &[1, 2, usize::MAX]);
        assert_eq!(Measured::share_of_lines([&more_missing_than_there_are]), Share { run: 0, of: 1 });
    }
}
