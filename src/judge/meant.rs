//! Whether a job ended as its scenario means it to, and what fails that was not made to.
//!
//! Read from the text of the results: of what is expected or pending there is nothing else.

use crate::jobs::evidence::UNMET_FAULT;
use crate::lava::series::Series;
use crate::scenario::{Defect, Ends, Scenario};

/// Of a scenario whose job runs again: the names of the two jobs' parts.
pub const FIRST: &str = "first";
/// See [`FIRST`].
pub const AGAIN: &str = "again";

/// What of a scenario's results a person should not overlook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meant {
    /// How the job ended, in LAVA's words, where it did not complete.
    pub ended: Option<String>,
    /// That it ended in another way than its scenario says, and how.
    pub otherwise: Option<String>,
    /// Test cases that fail and are not made to.
    pub failing: Vec<String>,
    /// What is to be said of the defects that its scenario names.
    pub defects: Vec<String>,
}

/// A test case in a text of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case<'t> {
    /// The job's part of the text, as its headline has it; empty where there is only one.
    pub part: &'t str,
    /// Its suite.
    pub suite: &'t str,
    /// Its name, with that of its set in front.
    pub name: &'t str,
    /// `pass`, `fail`, `skip` or `unknown`.
    pub result: &'t str,
}

impl Case<'_> {
    /// Whether a scenario's `fails` mean it by `name`: as it is, or by what stands behind the last `/`.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        name == self.name || name == self.name.rsplit('/').next().unwrap_or(self.name)
    }
}

/// What a text of results says of how its jobs ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// `None` where it does not say.
    ends: Option<Ends>,
    /// How, and why, of the first job that did not complete.
    words: Option<String>,
}

/// What is to be seen in `results` of `scenario` with a LAVA of `series` that has these `defects`.
#[must_use]
pub fn meant(scenario: &Scenario, series: Series, defects: &[&Defect], results: &str) -> Meant {
    let (first, again) = if scenario.again.is_some() { in_two(results) } else { (results, None) };
    let told = told(first);
    let wanted = scenario.ends_on(series, defects);
    let otherwise = told.ends.filter(|ends| *ends != wanted).map(|ends| {
        let words = told.words.as_deref().unwrap_or("Complete");
        match wanted {
            Ends::Complete => format!("the job ended {words}, and its scenario does not say `ends: {ends}`"),
            _ => format!("the job ended {words}, and its scenario says `ends: {wanted}`"),
        }
    });
    let otherwise = otherwise.or_else(|| {
        // What a defect shows instead is said with it.
        let wanted = scenario.says.as_ref().filter(|_| defects.is_empty())?.on(series)?;
        let is_said = results.lines().any(|line| line.contains(wanted));
        (!is_said).then(|| format!("the results have no `{wanted}`, as its scenario `says`"))
    });
    let otherwise = otherwise.or_else(|| {
        let (wanted, next) = (scenario.again?, self::told(again?));
        let words = next.words.as_deref().unwrap_or("Complete");
        (next.ends? != wanted).then(|| {
            format!("the job that came again ended {words}, and its scenario says `again: {wanted}`")
        })
    });
    let by_defect = defects.iter().flat_map(|defect| &defect.fails);
    let names: Vec<&String> = scenario.fails.iter().chain(by_defect).collect();
    let is_meant = |case: &Case<'_>| names.iter().any(|name| case.is_called(name));
    let failing = cases(results).filter(|case| case.suite != "lava" && case.result == "fail");
    Meant {
        ended: told.words,
        otherwise,
        failing: failing
            .filter(|case| !is_meant(case))
            .map(|case| format!("{} {}", case.suite, case.name))
            .collect(),
        defects: Vec::new(),
    }
}

/// What is told of the first job, and of the one that came again, if one did.
fn in_two(results: &str) -> (&str, Option<&str>) {
    match results.split_once(&format!("\n=== {AGAIN}\n")) {
        Some((first, again)) => (first, Some(again)),
        None => (results, None),
    }
}

/// Faults of the boards that have not happened, by the text of a `ledger`.
#[must_use]
pub fn unmet_faults(ledger: &str) -> Option<String> {
    let start = format!("VIOLATION {UNMET_FAULT}: ");
    let unmet: Vec<&str> =
        ledger.lines().filter_map(|line| line.trim_start().strip_prefix(start.as_str())).collect();
    (!unmet.is_empty()).then(|| format!("never happened of the board's faults: {}", unmet.join("; ")))
}

/// How the first job that did not complete ended, and why, in LAVA's words.
#[must_use]
pub fn ended(results: &str) -> Option<String> {
    told(results).words
}

/// All test cases of a text of results.
pub fn cases(results: &str) -> impl Iterator<Item = Case<'_>> {
    let (mut part, mut suite) = ("", None);
    results.lines().filter_map(move |line| {
        let Some(line) = line.strip_prefix("  ") else {
            if let Some(name) = line.strip_prefix("=== ") {
                part = name;
            }
            suite = line.strip_prefix("suite ");
            return None;
        };
        let (name, rest) = line.split_once(": ")?;
        let result = rest.split(' ').next().unwrap_or(rest);
        Some(Case { part, suite: suite?, name, result })
    })
}

impl Meant {
    /// Lines for a person who is to accept these results; none where all is as it is meant.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let as_meant = self.ended.as_ref().filter(|_| self.otherwise.is_none());
        let mut lines: Vec<String> = as_meant
            .map(|words| format!("the job ended {words}, as its scenario says"))
            .into_iter()
            .collect();
        lines.extend(self.otherwise.clone());
        if !self.failing.is_empty() {
            lines.push(format!("not made to fail (`fails:`): {}", self.failing.join(", ")));
        }
        lines.extend(self.defects.iter().cloned());
        lines
    }
}

fn told(results: &str) -> Told {
    let mut told = Told::default();
    let mut section = "";
    // Whether the words of `told` are of this job, and have no reason yet.
    let mut wants_why = false;
    for line in results.lines() {
        let Some(line) = line.strip_prefix("  ") else {
            section = line;
            wants_why &= section != "job";
            continue;
        };
        match section.strip_prefix("suite ") {
            None if section != "job" => {}
            None => match line.split_once(": ") {
                None if line == "refused by LAVA" => wants_why = told.worse(Ends::Refused, "refused"),
                Some(("health", "Complete")) => {
                    told.ends.get_or_insert(Ends::Complete);
                }
                Some(("health", word)) => wants_why = told.worse(Ends::Incomplete, word),
                Some(("message", why)) if wants_why => wants_why = told.because(why),
                _ => {}
            },
            Some("lava") => {
                if let Some(why) = line.strip_prefix("job: fail (error_msg: ").filter(|_| wants_why) {
                    let (why, rest) = why.rsplit_once(", error_type: ").unwrap_or((why, ""));
                    let why = why.trim_end_matches("\\n");
                    let kind = rest.split([',', ')']).next().filter(|kind| !kind.is_empty());
                    let kind = kind.map(|kind| format!("{kind}: ")).unwrap_or_default();
                    wants_why = told.because(&format!("{kind}{why}"));
                }
            }
            Some(_) => {}
        }
    }
    told
}

impl Told {
    /// A job did not complete; whether it is the first of these, which is the one that is told.
    fn worse(&mut self, ends: Ends, word: &str) -> bool {
        let is_first = self.words.is_none();
        if is_first {
            (self.ends, self.words) = (Some(ends), Some(word.to_owned()));
        }
        is_first
    }

    /// Why; nothing more is wanted then.
    fn because(&mut self, why: &str) -> bool {
        if let Some(words) = &mut self.words {
            words.push_str(&format!(" ({why})"));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::judge::normalise::{Context, Masks, Normaliser, results};
    use crate::judge::verdict::tests::evidence;
    use crate::scenario::EndsOn;

    fn scenario(ends: Option<EndsOn>) -> Scenario {
        let mut scenario = crate::scenario::tests::matrix().scenarios.remove(0);
        (scenario.ends, scenario.fails) = (ends, vec!["always-fails".into()]);
        scenario
    }

    fn of(ends: Option<EndsOn>, results: &str) -> Meant {
        meant(&scenario(ends), Series::OLDEST, &[], results)
    }

    const fn always(ends: Ends) -> Option<EndsOn> {
        Some(EndsOn { ends, series: None })
    }

    /// The text that is really made of a job which LAVA gave up.
    fn given_up() -> String {
        let mut evidence = evidence("12");
        evidence.details["health"] = "Incomplete".into();
        let test = |name: &str, result: &str, metadata: &str| json!({"id": 9, "name": name, "result": result, "metadata": metadata});
        let why = "{error_msg: 'Login incorrect, or late', error_type: Job, definition: lava, case: job}";
        evidence.suites[0].1.push(test("job", "fail", why));
        let cases =
            vec![test("always-fails", "fail", ""), test("cmdline", "fail", ""), test("x", "pass", "")];
        evidence.suites.push(("0_smoke".into(), cases));
        let (masks, context) = (Masks::new(), Context::new(Some("12")));
        results::normalise(&evidence, Normaliser { masks: &masks, context: &context }).text()
    }

    #[test]
    fn a_job_that_is_not_said_to_fail_and_a_case_that_is_not_made_to_are_pointed_at() {
        let found = of(None, &given_up());
        let words = "Incomplete (Job: Login incorrect, or late)";
        assert_eq!(
            found.lines(),
            [
                format!("the job ended {words}, and its scenario does not say `ends: incomplete`"),
                "not made to fail (`fails:`): 0_smoke cmdline".to_owned(),
            ]
        );
        let found = of(always(Ends::Incomplete), &given_up());
        assert_eq!(found.otherwise, None);
        assert_eq!(found.lines()[0], format!("the job ended {words}, as its scenario says"));
    }

    #[test]
    fn what_completes_is_not_as_meant_where_the_scenario_says_that_it_fails() {
        let complete =
            "job\n  health: Complete\nsuite 0_smoke\n  always-fails: fail\n  a/always-fails: fail 3 s\n";
        assert_eq!(of(None, complete), Meant::default());
        let found = of(always(Ends::Incomplete), complete);
        assert_eq!(found.lines(), ["the job ended Complete, and its scenario says `ends: incomplete`"]);
        let newer = EndsOn { ends: Ends::Incomplete, series: Some(">=2026.07".parse().unwrap()) };
        assert_eq!(of(Some(newer), complete).otherwise, None);
        let on = meant(&scenario(Some(newer)), "2026.10".parse().unwrap(), &[], &given_up());
        assert_eq!(on.otherwise, None);
    }

    #[test]
    fn a_refused_job_is_one_and_of_several_jobs_the_one_that_failed_counts() {
        let refused = "job\n  refused by LAVA\n  message: no such value\n";
        assert_eq!(of(always(Ends::Refused), refused).otherwise, None);
        assert_eq!(
            of(None, refused).otherwise.unwrap(),
            "the job ended refused (no such value), and its scenario does not say `ends: refused`"
        );
        let two = format!("=== server\n{}\n=== client\njob\n  health: Complete\n", given_up().trim_end());
        assert!(of(None, &two).otherwise.unwrap().contains("Incomplete (Job"));
        assert_eq!(of(None, "anything else"), Meant::default());
    }

    #[test]
    fn of_a_job_that_comes_again_both_ends_are_told() {
        let mut scenario = scenario(always(Ends::Incomplete));
        scenario.fails.push("cmdline".into());
        scenario.again = Some(Ends::Complete);
        let of = |results: &str| meant(&scenario, Series::OLDEST, &[], results).otherwise;
        let (failed, complete) = (format!("{}\n", given_up().trim_end()), "job\n  health: Complete\n");
        assert_eq!(of(&format!("=== {FIRST}\n{failed}=== {AGAIN}\n{complete}")), None);
        assert_eq!(
            of(&format!("=== {FIRST}\n{failed}=== {AGAIN}\n{failed}")).unwrap(),
            "the job that came again ended Incomplete (Job: Login incorrect, or late), \
             and its scenario says `again: complete`"
        );
        let told = of(&format!("=== {FIRST}\n{complete}=== {AGAIN}\n{complete}")).unwrap();
        assert!(told.contains("Complete, and its scenario says `ends: incomplete`"), "{told}");
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(text in "((job|suite (lava|x)|  health: [A-Z]|  job: fail \\(error_msg: |  a: fail|.{0,9})\n){0,12}") {
            let _ = of(None, &text).lines();
        }
    }
}
