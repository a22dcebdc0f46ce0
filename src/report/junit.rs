//! `junit.xml`: a suite is a test suite, a scenario is a test case.
//!
//! `pass` and `fixed` are successes, and say in properties and in their output which defect of LAVA's is
//! known there; `differs` is a failure; `error` and `timeout` are errors; `skipped` and
//! `not-run` are skipped; `new` is a failure where it fails the run, else skipped.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::causes::{Group, groups};
use super::{Row, Run, Settings};
use crate::event::{Ending, Verdict};
use crate::text::printable;

/// So many causes are told of a test case at most.
const CAUSES: usize = 20;

/// The run as it stands.
pub(super) fn write(run: &Run, settings: &Settings) -> Result<String, String> {
    let mut report = Report::new("meta-lava");
    report.set_time(Duration::from_secs_f64(run.seconds()));
    let groups = groups(run);
    let of = |row: &Row| {
        (run.lavas.iter().position(|lava| Some(&lava.name) == row.lava.as_ref()), row.info.suite.clone())
    };
    let mut suites: Vec<_> = run.rows.iter().map(of).collect();
    suites.sort_unstable();
    suites.dedup();
    for key in suites {
        // Of several LAVAs each has its own: tools know a test case by suite and name.
        let lava = match key.0 {
            Some(at) => run.lavas.get(at),
            None => run.lavas.first(),
        };
        let name = match (key.0, lava) {
            (Some(_), Some(lava)) => format!("{} on {}", key.1, lava.name),
            _ => key.1.clone(),
        };
        let mut suite = TestSuite::new(name.as_str());
        let rows = || run.rows.iter().filter(|row| of(row) == key);
        suite.add_test_cases(rows().map(|row| case(row, run, &groups, settings.strict)));
        suite.set_time(Duration::from_secs_f64(rows().map(seconds).sum()));
        if let Some(lava) = lava {
            let version = lava.version.as_deref().map(|version| ("lava", version));
            let named = Some(("lava-name", lava.name.as_str())).filter(|(_, name)| !name.is_empty());
            for property in version.into_iter().chain(named).chain(lava.parts()) {
                suite.add_property(property);
            }
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| error.to_string())
}

/// A time that Duration takes: neither negative nor endless.
fn seconds(row: &Row) -> f64 {
    row.outcome.as_ref().map_or(0.0, |outcome| outcome.seconds.clamp(0.0, 1e6))
}

/// The causes of its differences that other scenarios have, too; a line each.
fn shared(row: &Row, groups: &[Group<'_>]) -> String {
    let mut text = String::new();
    let of_row =
        |group: &&Group<'_>| group.rows.len() > 1 && group.rows.iter().any(|one| std::ptr::eq(*one, row));
    for group in groups.iter().filter(of_row).take(CAUSES) {
        let many = group.rows.len();
        text.push_str(&format!(
            "in {many} scenarios, {}: {}\n",
            printable(&group.cause.snapshot),
            group.cause.in_a_line()
        ));
    }
    text
}

/// What LAVA says of jobs that did not complete.
fn said(ended: &[Ending]) -> String {
    let mut text = String::new();
    for ending in ended {
        text.push_str(&format!("LAVA: {}\n", ending.words()));
        if let Some(wait) = &ending.wait {
            text.push_str(&format!("it waited {wait}\n"));
        }
    }
    text
}

fn case(row: &Row, run: &Run, groups: &[Group<'_>], strict: bool) -> TestCase {
    let verdict = row.verdict();
    let fails = row.outcome.as_ref().is_some_and(|outcome| outcome.is_failure(strict));
    let mut status = match verdict {
        Verdict::Pass | Verdict::Fixed => TestCaseStatus::success(),
        Verdict::New if !fails => TestCaseStatus::skipped(),
        Verdict::Differs | Verdict::New => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Error | Verdict::Timeout => TestCaseStatus::non_success(NonSuccessKind::Error),
        Verdict::Skipped | Verdict::NotRun => TestCaseStatus::skipped(),
    };
    if !matches!(verdict, Verdict::Pass | Verdict::Fixed) {
        let outcome = row.outcome.as_ref();
        let reason = outcome.and_then(|outcome| outcome.reason.as_deref()).unwrap_or(verdict.name());
        status.set_type(verdict.name());
        status.set_message(printable(reason));
        let lava: String = outcome.map(|outcome| said(&outcome.ended)).unwrap_or_default();
        if let Some(difference) = outcome.and_then(|outcome| outcome.first_difference.as_ref()) {
            let or_end =
                |line: &Option<String>| line.as_deref().map_or_else(|| "(nothing more)".into(), printable);
            status.set_description(format!(
                "{lava}{}.snap, line {}: {}\nexpected: {}\nfound:    {}\n{}\nrun it alone: {}",
                difference.snapshot,
                difference.line,
                run.whole(row, difference),
                or_end(&difference.expected),
                or_end(&difference.found),
                shared(row, groups),
                run.alone(row)
            ));
        } else if !lava.is_empty() {
            status.set_description(format!("{lava}run it alone: {}", run.alone(row)));
        }
    }
    let mut case = TestCase::new(row.info.name.as_str(), status);
    let on = row.lava.as_ref().map(|lava| format!("{lava}.")).unwrap_or_default();
    case.set_classname(format!("{on}{}.{}", row.info.suite, row.info.device_types.join(" ")));
    case.set_time(Duration::from_secs_f64(seconds(row)));
    if let Some(outcome) = &row.outcome {
        let mut lines = Vec::new();
        for defect in &outcome.defects {
            let key = if defect.gone { "fixed" } else { "defect" };
            case.add_property((key, printable(&defect.about).as_str()));
            lines.push(format!("{}: {}", defect.headline(), printable(&defect.about)));
            lines.extend(defect.upstream.iter().map(|url| format!("upstream: {}", printable(url))));
            lines.extend(defect.gone.then(|| defect.advice()));
        }
        lines.extend(outcome.console.lines.iter().map(|line| printable(line)));
        if !lines.is_empty() {
            case.set_system_out(lines.join("\n"));
        }
    }
    case
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_verdict_has_its_place_and_markup_is_escaped() {
        let run = super::super::tests::run(Path::new("r"));
        let text = write(&run, &super::super::tests::settings(Path::new("r"))).unwrap();
        insta::assert_snapshot!(text);
        let strict = super::super::Settings { strict: true, ..super::super::tests::settings(Path::new("r")) };
        let text = write(&run, &strict).unwrap();
        assert!(text.contains("failures=\"2\" errors=\"2\""), "{text}");
    }

    #[test]
    fn characters_that_xml_cannot_have_do_no_harm() {
        let mut run = super::super::tests::run(Path::new("r"));
        run.rows[1].outcome.as_mut().unwrap().reason = Some("\u{1}\u{1b}[31m ]]> \u{fffe}".into());
        let text = write(&run, &super::super::tests::settings(Path::new("r"))).unwrap();
        assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
        assert!(!text.contains('\u{fffe}'));
    }
}
