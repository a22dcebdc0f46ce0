//! What a LAVA is known to do wrong: told wherever a run is told, called fixed once it does right and
//! never before, and made an issue of.

use crate::report::Report;
use crate::repository::{QUICK, Repository};
use crate::tool::{Ended, call, meta_lava, run};

/// A scenario that has a defect of the LAVA that these tests run, and is over in seconds.
const KNOWN: &str = "unknown-commands";
/// What it is.
const ABOUT: &str =
    "Boot commands that a device does not have end in a bug of LAVA's, not in an error of the job";

/// What is expected of [`QUICK`].
fn expected(repository: &Repository, part: &str) -> String {
    let shown = call(meta_lava(repository).args(["show", QUICK, "--series", "2023.01", "--part", part]));
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    shown.stdout
}

/// A repository that says of LAVA that a test case of [`QUICK`] fails, which it never did. Once it does not, its
/// results have `would_show`.
fn with_a_defect_that_lava_has_not(would_show: &str) -> Repository {
    let repository = Repository::new();
    let wrong = expected(&repository, "results").replace("  after-the-set: pass", "  after-the-set: fail");
    assert!(wrong.contains("after-the-set: fail"));
    repository.write(&format!("expected/health-checks/{QUICK}/results.snap"), &wrong);
    let file = format!("jobs/health-checks/{QUICK}/scenario.yaml");
    let defect = format!(
        "defect:\n  series: '>=2022.11'\n  about: What comes after a set <b>fails</b>\n  right: It passes.\n  \
         upstream: https://example.org/issues/7\n  fails: [after-the-set]\n  shows: {{results: 'after-the-set: \
         fail'}}\n  would_show: {{results: '{would_show}'}}\n"
    );
    repository.write(&file, &(repository.read(&file) + &defect));
    repository
}

/// `meta-lava report` where there is no engine.
fn report(repository: &Repository, arguments: &[&str]) -> Ended {
    call(meta_lava(repository).env("DOCKER_HOST", "unix:///nonexistent").arg("report").args(arguments))
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_known_defect_passes_and_one_that_is_gone_is_fixed_in_all_that_a_run_tells() {
    let repository = with_a_defect_that_lava_has_not("after-the-set: pass");
    let ended = call(&mut run(&repository, &[QUICK, KNOWN]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for words in [
        format!("fixed health-checks/{QUICK}: LAVA 2023.01"),
        format!(
            "narrow the `series` of the defect to \">=2022.11 <2023.01\" in jobs/health-checks/{QUICK}/scenario.yaml"
        ),
        format!("then `meta-lava accept {QUICK}`"),
        format!("known defect of LAVA: {ABOUT}"),
        format!("1 known defect of LAVA as expected: {KNOWN}"),
        "2 scenarios: 1 pass, 1 fixed".to_owned(),
    ] {
        let told = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(&words), "{words:?} is not in:\n{}", ended.stderr);
    }
    let told = Report::of(&repository);
    assert_eq!((told.verdict(QUICK), told.verdict(KNOWN)), ("fixed", "pass"));
    assert_eq!(told.total("fixed"), 1);
    let [gone, known] = [QUICK, KNOWN].map(|name| told.entry(name)["defects"][0].clone());
    assert_eq!((gone["gone"].as_bool(), known["gone"].as_bool()), (Some(true), Some(false)));
    assert_eq!(gone["upstream"], "https://example.org/issues/7");
    assert_eq!(known["about"], ABOUT);
    let file = |name: &str| std::fs::read_to_string(repository.report().join(name)).unwrap();
    let junit = file("junit.xml");
    assert!(junit.contains("failures=\"0\" errors=\"0\""), "{junit}");
    assert!(
        junit.contains("<property name=\"fixed\" value=\"What comes after a set &lt;b&gt;fails"),
        "{junit}"
    );
    let about = ABOUT.replace('\'', "&apos;");
    assert!(junit.contains(&format!("<property name=\"defect\" value=\"{about}\"/>")), "{junit}");
    let page = file("index.html");
    assert!(page.contains("class=\"badge fixed\"") && !page.contains("<b>fails</b>"));
    assert!(page.contains(&ABOUT.replace('\'', "&#x27;")));

    let folder = repository.report().display().to_string();
    let issue = report(&repository, &[KNOWN, "--report", &folder]);
    assert_eq!(issue.code, Some(0), "{}", issue.stderr);
    assert!(issue.stdout.starts_with(&format!("# {ABOUT}\n")), "{}", issue.stdout);
    for words in
        ["TypeError: 'NoneType' object is not iterable", "- **LAVA:** 2023.01", "nothing happened to it"]
    {
        assert!(issue.stdout.contains(words), "{words:?} is not in:\n{}", issue.stdout);
    }
    report(&repository, &[QUICK, "--report", &folder]).failed(4, &["there is nothing to report of", QUICK]);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_defect_that_only_does_not_show_is_a_difference() {
    let repository = with_a_defect_that_lava_has_not("what LAVA never says");
    let ended = call(&mut run(&repository, &[QUICK]));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(Report::of(&repository).verdict(QUICK), "differs");
    let told = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = "the known defect does not show, but results has no `what LAVA never says`";
    assert!(told.contains(why), "{}", ended.stderr);
    // It can be reported, as any difference.
    let folder = repository.report().display().to_string();
    let issue = report(&repository, &[QUICK, "--report", &folder]);
    assert_eq!(issue.code, Some(0), "{}", issue.stderr);
    assert!(issue.stdout.contains("\n-  after-the-set: fail\n+  after-the-set: pass\n"), "{}", issue.stdout);
}

#[test]
fn without_a_run_an_issue_is_made_of_what_is_expected() {
    let repository = Repository::new();
    let issue = report(&repository, &[KNOWN, "--lava", "2023.01"]);
    assert_eq!(issue.code, Some(0), "{}", issue.stderr);
    assert!(issue.stdout.starts_with(&format!("# {ABOUT}\n")), "{}", issue.stdout);
    assert!(issue.stdout.contains("job_name: \"unknown-commands\""), "{}", issue.stdout);
    report(&repository, &[KNOWN, "--lava", "2026.10"])
        .failed(4, &["no LAVA that was asked for shows a defect"]);
    report(&repository, &[QUICK]).failed(4, &["it names no defect of LAVA's", QUICK]);
    report(&repository, &["unknown-command"]).failed(4, &["unknown-command"]);
    report(&repository, &[KNOWN, "--report", "/nowhere"]).failed(2, &["/nowhere/run.json"]);
}

#[test]
fn what_does_not_show_a_defect_is_not_accepted_and_is_a_problem_where_it_is_expected() {
    let repository = with_a_defect_that_lava_has_not("after-the-set: pass");
    let wrong = format!("expected/health-checks/{QUICK}/results.snap");
    let right = repository.read(&wrong).replace("after-the-set: fail", "after-the-set: pass");
    repository.write(&format!("{wrong}.new"), &right);
    let accepted = call(meta_lava(&repository).env_remove("CI").args(["accept", QUICK]));
    accepted.failed(
        2,
        &["nothing was accepted", "no line of the results has `after-the-set: fail`", "narrow the `series`"],
    );
    repository.write(&wrong, &right);
    let checked = call(meta_lava(&repository).arg("check"));
    assert_eq!(checked.code, Some(2));
    let problem = format!(
        "jobs/health-checks/{QUICK}/scenario.yaml: as it is expected, LAVA 2023.01 is said to have the defect"
    );
    assert!(checked.stdout.contains(&problem), "{}", checked.stdout);
}
