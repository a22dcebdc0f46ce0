//! Whether a LAVA still has the defects that a scenario names, and whether one that has not does right.
//!
//! That a defect does not show is little: a LAVA that is broken elsewhere may not come so far. So a
//! defect is called gone only where what came back also shows what LAVA does right, and nothing that
//! was right with the defect is wrong without it.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Known;
use crate::judge::meant::{Case, cases, meant};
use crate::judge::snapshot::Kind;
use crate::lava::series::Series;
use crate::scenario::{Defect, Ends, Scenario, Sign};

/// Three texts, in the order of [`Kind::ALL`].
pub type Texts<'t> = [&'t str; Kind::ALL.len()];

/// What is to be said of the defects that a scenario names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told<'s> {
    /// Those that show.
    pub shown: Vec<&'s Defect>,
    /// Those that do not show any more, and LAVA does right instead.
    pub gone: Vec<&'s Defect>,
    /// Why those that do not show are not called gone.
    pub doubt: Option<String>,
}

/// What reports say of a `defect` that LAVA of `series` was found to have, or not to have any more.
#[must_use]
pub fn known(scenario: &Scenario, series: Series, defect: &Defect, gone: bool) -> Known {
    Known {
        about: defect.about.clone(),
        upstream: defect.upstream.clone(),
        series: defect.series.to_string(),
        gone,
        file: scenario.file(),
        rest: defect.series.before(series).map(|rest| rest.to_string()),
    }
}

/// Why `text` can't be what LAVA of `series` is expected to do, though it has the defects that `scenario`
/// names, if so.
#[must_use]
pub fn not_shown(scenario: &Scenario, series: Series, kind: Kind, text: &str) -> Option<String> {
    let lacks = |defect: &&Defect| defect.shows.of(kind.name()).is_some_and(|part| !has(text, part));
    let defect = scenario.defects_on(series).into_iter().find(lacks)?;
    let part = defect.shows.of(kind.name()).unwrap_or_default();
    Some(format!(
        "LAVA {series} is said to have the defect \"{}\", but no line of the {} has `{part}`. If LAVA does right \
         now, {}",
        defect.about,
        kind.name(),
        known(scenario, series, defect, true).advice()
    ))
}

/// Whether `sign` is in `texts`: all of its parts, each in a line of its text.
#[must_use]
pub fn is_in(sign: &Sign, texts: Texts<'_>) -> bool {
    parts(sign).all(|(at, part)| has(texts[at], part))
}

/// The lines of `text` that have the part of `sign` that is of it.
#[must_use]
pub fn lines<'t>(sign: &Sign, kind: Kind, text: &'t str) -> Vec<&'t str> {
    let part = sign.of(kind.name());
    text.lines().filter(|line| part.is_some_and(|part| line.contains(part))).collect()
}

/// What `found` says of the defects that LAVA of `series` is known to have in `scenario`. `expected` is
/// what it does with them, as far as that is known.
#[must_use]
pub fn told<'s>(
    scenario: &'s Scenario,
    series: Series,
    expected: Option<Texts<'_>>,
    found: Texts<'_>,
) -> Told<'s> {
    let all = scenario.defects_on(series);
    let (left, rest): (Vec<&Defect>, Vec<&Defect>) =
        all.into_iter().partition(|defect| is_any_in(&defect.shows, found));
    let shown = left.iter().copied().filter(|defect| is_in(&defect.shows, found)).collect();
    let mut told = Told { shown, ..Told::default() };
    if !rest.is_empty() {
        let doubt = match expected {
            None => Some("it is not known what LAVA does with it".to_owned()),
            Some(expected) => doubt(scenario, series, &left, &rest, expected, found),
        };
        match doubt {
            None => told.gone = rest,
            Some(doubt) => told.doubt = Some(doubt),
        }
    }
    told
}

/// Why LAVA does not do right without the defects `gone`, if so. It still has those that are `left`.
fn doubt(
    scenario: &Scenario,
    series: Series,
    left: &[&Defect],
    gone: &[&Defect],
    expected: Texts<'_>,
    found: Texts<'_>,
) -> Option<String> {
    let missing =
        gone.iter().flat_map(|defect| parts(&defect.would_show)).find(|(at, part)| !has(found[*at], part));
    if let Some((at, part)) = missing {
        return Some(format!("{} has no `{part}`", Kind::ALL[at].name()));
    }
    let [results, ledger, log] = found;
    let meant = meant(scenario, series, left, results);
    if meant.otherwise.is_some() {
        return meant.otherwise;
    }
    if !meant.failing.is_empty() {
        return Some(format!("there fail {}", meant.failing.join(", ")));
    }
    let of_defect =
        |case: &Case<'_>| gone.iter().any(|defect| defect.fails.iter().any(|name| case.is_called(name)));
    lost_case(expected[0], results, of_defect)
        .or_else(|| power(expected[1], ledger))
        .or_else(|| {
            more_of("violation", expected[1], ledger, |line| line.trim_start().starts_with("violation"))
        })
        .or_else(|| {
            // Where the job is not to complete, LAVA's own words for it are not known.
            if scenario.ends_on(series, left) != Ends::Complete {
                return None;
            }
            let is_error = |line: &str| line.starts_with("error ") || line.starts_with("exception ");
            more_of("error", expected[2], log, is_error)
        })
}

/// A test case that has another result than with the defect, though the defect is not why it had it; of
/// LAVA's own, one that passes no more.
fn lost_case(expected: &str, found: &str, of_defect: impl Fn(&Case<'_>) -> bool) -> Option<String> {
    let mut now: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
    for case in cases(found) {
        now.entry((case.part, case.suite, case.name)).or_default().insert(case.result);
    }
    let is_lost = |case: &Case<'_>| {
        let results = now.get(&(case.part, case.suite, case.name));
        let is_same = results.is_some_and(|results| results.contains(case.result));
        !is_same && !of_defect(case) && (case.suite != "lava" || case.result == "pass")
    };
    let lost = cases(expected).find(|case| is_lost(case))?;
    let now = now
        .get(&(lost.part, lost.suite, lost.name))
        .map(|results| results.iter().copied().collect::<Vec<_>>().join(", "));
    Some(format!(
        "{} {} was {} with it and is {} now",
        lost.suite,
        lost.name,
        lost.result,
        now.unwrap_or_else(|| "missing".into())
    ))
}

/// What LAVA did with the power: all that it does with the defect, in this order, and off at last.
fn power(expected: &str, found: &str) -> Option<String> {
    let switched = |text: &'_ str| -> Vec<String> {
        let is_power = |line: &&str| line.trim_start().starts_with("power ") || line.starts_with("board ");
        text.lines().filter(is_power).map(|line| line.trim().to_owned()).collect()
    };
    let (before, now) = (switched(expected), switched(found));
    let mut rest = now.iter();
    if let Some(lost) = before.iter().find(|line| !rest.any(|other| other == *line)) {
        return Some(format!("the ledger has no `{lost}` where it had one"));
    }
    let last = |lines: &[String]| lines.iter().rev().find(|line| line.starts_with("power ")).cloned();
    let (wanted, last) = (last(&before).unwrap_or_else(|| "power off".into()), last(&now));
    last.filter(|last| *last != wanted).map(|last| format!("the last of the power is `{last}`"))
}

/// That there is a line of some kind which there is not with the defect.
fn more_of(what: &str, expected: &str, found: &str, is_one: impl Fn(&str) -> bool) -> Option<String> {
    let known: BTreeSet<&str> = expected.lines().filter(|line| is_one(line)).collect();
    let line = found.lines().find(|line| is_one(line) && !known.contains(line))?;
    Some(format!("there is a new {what}, `{}`", line.trim()))
}

/// Parts of `sign`, and where in [`Kind::ALL`] the text is that has each.
fn parts(sign: &Sign) -> impl Iterator<Item = (usize, &str)> {
    Kind::ALL.into_iter().enumerate().filter_map(|(at, kind)| Some((at, sign.of(kind.name())?)))
}

fn is_any_in(sign: &Sign, texts: Texts<'_>) -> bool {
    parts(sign).any(|(at, part)| has(texts[at], part))
}

fn has(text: &str, part: &str) -> bool {
    text.lines().any(|line| line.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = "job\n  health: Incomplete\nsuite lava\n  validate: pass\n  login: fail\n  job: fail \
                           (error_msg: no such key, error_type: Bug)\nsuite 0_smoke\n  before: pass";
    const RIGHT: &str = "job\n  health: Complete\nsuite lava\n  validate: pass\n  login: pass\n  job: pass\nsuite \
                         0_smoke\n  before: pass\n  after: pass";
    const LEDGER: &str = "board bbb-01\n  power reset\n  power off";
    const LOG: &str = "info     | start\nerror    | no such key";
    const RIGHT_LOG: &str = "info     | start\ninfo     | end";

    fn scenario(more: &str) -> Scenario {
        let folder = crate::scenario::tests::folder();
        let text = format!(
            "family: uboot\ndefect:\n- {{series: '>=2026.09', about: it fails, right: it works, ends: incomplete, \
             shows: {{results: no such key, log: no such key}}, would_show: {{results: 'after: pass'}}}}\n{more}"
        );
        crate::scenario::tests::write(folder.path(), "jobs/health-checks/bbb/scenario.yaml", &text);
        crate::scenario::Matrix::load(folder.path()).unwrap().scenarios.remove(0)
    }

    /// What is said of `found`: those that show, those that are gone, and the doubt.
    fn said(scenario: &Scenario, series: &str, found: Texts<'_>) -> (usize, usize, String) {
        let told = told(scenario, series.parse().unwrap(), Some([RESULTS, LEDGER, LOG]), found);
        (told.shown.len(), told.gone.len(), told.doubt.unwrap_or_default())
    }

    #[test]
    fn a_defect_shows_or_is_gone_and_only_with_the_series_that_are_said_to_have_it() {
        let scenario = scenario("");
        assert_eq!(said(&scenario, "2026.10", [RESULTS, LEDGER, LOG]), (1, 0, String::new()));
        assert_eq!(said(&scenario, "2026.10", [RIGHT, LEDGER, RIGHT_LOG]), (0, 1, String::new()));
        assert_eq!(said(&scenario, "2023.01", [RIGHT, LEDGER, RIGHT_LOG]), (0, 0, String::new()));
        // One of its signs is left: it is neither.
        assert_eq!(said(&scenario, "2026.10", [RIGHT, LEDGER, LOG]), (0, 0, String::new()));
        let unknown = told(&scenario, "2026.10".parse().unwrap(), None, [RIGHT, LEDGER, RIGHT_LOG]);
        assert_eq!((unknown.gone.len(), unknown.doubt.is_some()), (0, true));
    }

    #[test]
    fn a_lava_that_is_broken_elsewhere_is_not_called_fixed() {
        let scenario = scenario("fails: [meant]\n");
        let long = format!("{RIGHT}\n  meant: fail");
        assert_eq!(said(&scenario, "2026.10", [&long, LEDGER, RIGHT_LOG]), (0, 1, String::new()));
        let other_end = RIGHT.replace("Complete", "Incomplete");
        let other_words = RESULTS.replace("no such key", "no such door");
        for (results, ledger, log, why) in [
            // It dies in another way, also where it comes as far.
            (other_words.as_str(), LEDGER, RIGHT_LOG, "results has no `after: pass`"),
            (&other_end, LEDGER, RIGHT_LOG, "the job ended Incomplete"),
            // A test case of before is lost, or has another result, or one fails that is not made to.
            (
                &RIGHT.replace("  before: pass\n", ""),
                LEDGER,
                RIGHT_LOG,
                "0_smoke before was pass with it and is missing now",
            ),
            (
                &RIGHT.replace("before: pass", "before: skip"),
                LEDGER,
                RIGHT_LOG,
                "0_smoke before was pass with it and is skip now",
            ),
            (
                &RIGHT.replace("validate: pass", "validate: fail"),
                LEDGER,
                RIGHT_LOG,
                "lava validate was pass with it and is fail now",
            ),
            (&format!("{RIGHT}\n  other: fail"), LEDGER, RIGHT_LOG, "there fail 0_smoke other"),
            // The board is not treated as it was.
            (
                RIGHT,
                "board bbb-01\n  power reset",
                RIGHT_LOG,
                "the ledger has no `power off` where it had one",
            ),
            (
                RIGHT,
                "board bbb-01\n  power reset\n  power off\n  power on",
                RIGHT_LOG,
                "the last of the power is `power on`",
            ),
            (
                RIGHT,
                "board bbb-01\n  power reset\n  violation fetch before dhcp\n  power off",
                RIGHT_LOG,
                "there is a new violation",
            ),
            // LAVA says that there is an error.
            (RIGHT, LEDGER, "info     | start\nerror    | oh", "there is a new error, `error    | oh`"),
        ] {
            let (shown, gone, doubt) = said(&scenario, "2026.10", [results, ledger, log]);
            assert_eq!((shown, gone), (0, 0), "{why}");
            assert!(doubt.contains(why), "{why}: {doubt}");
        }
    }

    #[test]
    fn of_several_defects_one_may_be_gone() {
        let other = "- {series: '>=2026.09', about: another, right: none, fails: [sum], shows: {results: 'sum: fail'}, \
                     would_show: {results: 'sum: pass'}}\n";
        let scenario = scenario(other);
        let left = format!("{RIGHT}\n  sum: fail");
        assert_eq!(said(&scenario, "2026.10", [&left, LEDGER, RIGHT_LOG]), (1, 1, String::new()));
        let both = format!("{RIGHT}\n  sum: pass");
        assert_eq!(said(&scenario, "2026.10", [&both, LEDGER, RIGHT_LOG]), (0, 2, String::new()));
    }

    #[test]
    fn what_is_expected_has_to_show_the_defect() {
        let scenario = scenario("");
        let of = |series: &str, kind, text| not_shown(&scenario, series.parse().unwrap(), kind, text);
        assert_eq!(of("2026.10", Kind::Results, RESULTS), None);
        assert_eq!(of("2026.10", Kind::Ledger, LEDGER), None);
        assert_eq!(of("2023.01", Kind::Results, RIGHT), None);
        assert_eq!(
            of("2026.10", Kind::Results, RIGHT).unwrap(),
            "LAVA 2026.10 is said to have the defect \"it fails\", but no line of the results has `no such key`. If \
             LAVA does right now, narrow the `series` of the defect to \"2026.09\" in \
             jobs/health-checks/bbb/scenario.yaml, or remove it there"
        );
        assert!(of("2026.09", Kind::Log, RIGHT_LOG).unwrap().ends_with(
            "no line of the log has `no such key`. If LAVA does right now, remove the defect from \
             jobs/health-checks/bbb/scenario.yaml"
        ));
    }
}
