//! Jobs that do not end as they are meant to: nobody takes them for green ones, and LAVA's reason is told.

use crate::report::Report;
use crate::repository::{QUICK, Repository};
use crate::tool::{call, meta_lava, run};

/// The results of a job that LAVA gave up, as they are pending.
const RESULTS: &str = "---\nsource: x\nexpression: results\n---\njob\n  health: Incomplete\nsuite lava\n  \
                       job: fail (error_msg: no such file, error_type: Infrastructure)\nsuite 0_smoke\n  \
                       always-fails: fail\n  booted/cmdline: fail\n";

/// A scenario of which nothing is expected yet.
const FRESH: &str = "fresh";

/// A repository in which these are pending of [`FRESH`], and its log.
fn with_pending() -> Repository {
    let repository = Repository::new();
    let scenario = repository.read(&format!("jobs/health-checks/{QUICK}/scenario.yaml"));
    repository
        .write(&format!("jobs/health-checks/{FRESH}/scenario.yaml"), &format!("board: {QUICK}\n{scenario}"));
    let folder = format!("expected/health-checks/{FRESH}");
    repository.write(&format!("{folder}/results.snap.new"), RESULTS);
    repository.write(&format!("{folder}/log.snap.new"), "---\nsource: x\nexpression: log\n---\nlog\n");
    repository
}

#[test]
fn the_results_of_a_job_that_failed_are_not_accepted_unless_the_scenario_says_so() {
    let repository = with_pending();
    let words = format!(
        "health-checks/{FRESH}: the job ended Incomplete (Infrastructure: no such file), and its scenario does not \
         say `ends: incomplete`"
    );
    let mut accept = meta_lava(&repository);
    call(accept.args(["accept", FRESH]).env_remove("CI")).failed(2, &["nothing was accepted", &words]);
    assert!(!repository.root().join(format!("expected/health-checks/{FRESH}/log.snap")).exists());
    let listed = call(meta_lava(&repository).args(["review", FRESH]).env_remove("CI"));
    assert_eq!(listed.code, Some(1));
    assert!(listed.stdout.contains(&format!("note: {words}\n")), "{}", listed.stdout);
    assert!(
        listed.stdout.contains("not made to fail (`fails:`): 0_smoke booted/cmdline\n"),
        "{}",
        listed.stdout
    );

    let scenario = format!("jobs/health-checks/{FRESH}/scenario.yaml");
    repository.write(&scenario, &format!("ends: incomplete\n{}", repository.read(&scenario)));
    let accepted = call(meta_lava(&repository).args(["accept", FRESH]).env_remove("CI"));
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    // What stands in expected/ is measured by what the scenario says, too.
    repository.replace(&scenario, "ends: incomplete\n", "");
    let checked = call(meta_lava(&repository).arg("check"));
    assert_eq!(checked.code, Some(2));
    assert!(
        checked.stdout.contains("as it is expected with LAVA 2023.01, the job ended"),
        "{}",
        checked.stdout
    );
}

#[test]
fn what_is_pending_is_rejected_without_a_terminal() {
    let repository = with_pending();
    let log = format!("health-checks/{FRESH}/log");
    let rejected = call(meta_lava(&repository).args(["review", "--reject", &log]).env_remove("CI"));
    assert_eq!((rejected.code, rejected.stdout), (Some(0), format!("rejected {log}\n")));
    let folder = repository.root().join(format!("expected/health-checks/{FRESH}"));
    assert!(!folder.join("log.snap.new").exists() && folder.join("results.snap.new").exists());
    call(meta_lava(&repository).args(["review", "--reject", FRESH]).env_remove("CI"));
    assert!(!folder.exists());
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_job_that_ends_in_another_way_than_its_scenario_says_is_told_with_lavas_reason() {
    let repository = Repository::new();
    let scenario = repository.read(&format!("jobs/health-checks/{QUICK}/scenario.yaml"));
    let own = |name: &str, board: &str, more: &str| {
        let text = scenario.replace("family: u-boot", &format!("family: u-boot\nboard: {board}"));
        repository.write(&format!("jobs/health-checks/{name}/scenario.yaml"), &format!("{text}{more}"));
    };
    let missing =
        repository.read("jobs/failures/missing-file/scenario.yaml").replace("ends: incomplete\n", "");
    repository.write("jobs/health-checks/no-such-file/scenario.yaml", &missing);
    own("no-such-prompt", QUICK, "  prompt: '/ \\$'\n  timeouts: {auto-login-action: 8}\n");
    repository.replace(
        "jobs/families/_parts/prompts.yaml",
        "- \"/ #\"",
        "- {{ (prompt if prompt is defined else \"/ #\")|yaml }}",
    );
    repository.write(
        "boards/no-such-type.yaml",
        &format!("device_type: beaglebone-blak\n{}", repository.read(&format!("boards/{QUICK}.yaml"))),
    );
    own("no-such-type", "no-such-type", "");

    let names = ["no-such-file", "no-such-prompt", "no-such-type"];
    let ended = call(run(&repository, &names).env_remove("CI"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let report = Report::of(&repository);
    assert_eq!(names.map(|name| report.verdict(name)), ["new", "new", "error"]);
    for words in [
        "the job ended Incomplete (Infrastructure: matched a bootloader error message: 'File not found'",
        "and its scenario does not say `ends: incomplete`",
        "LAVA:     Incomplete, Infrastructure: matched a bootloader error message: 'File not found'",
        "LAVA can never run it: it calls device no-such-type-01 Bad; ",
        "Invalid device configuration",
        "no template of the device-type `beaglebone-blak`; did you mean beaglebone-black",
    ] {
        assert!(ended.stderr.contains(words), "{words:?} is not in:\n{}", ended.stderr);
    }
    // The terminal has room for the first of each verdict; JUnit has them all.
    let junit = std::fs::read_to_string(repository.report().join("junit.xml")).unwrap();
    assert!(junit.contains("it waited for `/ \\$`; the board last said `/ #"), "{junit}");
    let mut accept = meta_lava(&repository);
    call(accept.args(["accept", "no-such-*"]).env_remove("CI"))
        .failed(2, &["no-such-file", "no-such-prompt"]);
    // It is not waited for until its 180 s are over.
    assert!(report.seconds("no-such-type") < 60.0, "{}", report.seconds("no-such-type"));
}
