//! Files with mistakes: each is told with file, line, column and what was expected,
//! by `check` and by `run`, before anything is started.

use crate::repository::Repository;
use crate::tool::{call, meta_lava, run};

/// The folder of the scenario that the tests break.
const SCENARIO: &str = "jobs/health-checks/beaglebone-black";

/// `check` and `run` both refuse the repository, and say `words`.
#[track_caller]
fn refused(repository: &Repository, words: &[&str]) {
    let checked = call(meta_lava(repository).arg("check"));
    assert_eq!(checked.code, Some(2), "{}{}", checked.stdout, checked.stderr);
    for word in words {
        assert!(checked.stdout.contains(word), "{word:?} is not in: {}", checked.stdout);
    }
    // No engine: a run that gets so far as to look for one has missed the mistake.
    let ran = call(run(repository, &["beaglebone-black"]).env("DOCKER_HOST", "unix:///nonexistent"));
    ran.failed(2, words);
    assert!(!repository.report().exists());
}

#[test]
fn a_key_that_a_scenario_does_not_have_is_told_with_its_place() {
    let repository = Repository::new();
    repository.write(&format!("{SCENARIO}/scenario.yaml"), "family: u-boot\ntimeuot: 5\n");
    refused(
        &repository,
        &["jobs/health-checks/beaglebone-black/scenario.yaml:2:1: unknown field `timeuot`, expected one of"],
    );
}

#[test]
fn a_scenario_that_is_no_yaml_is_told_with_its_place() {
    let repository = Repository::new();
    repository.write(&format!("{SCENARIO}/scenario.yaml"), "family: u-boot\nwith: {kernel: [a\n");
    refused(&repository, &["beaglebone-black/scenario.yaml:3:1: ", "expected ',' or ']'"]);
}

#[test]
fn a_tab_and_a_number_that_is_none_are_told_in_plain_words() {
    let repository = Repository::new();
    repository.write(&format!("{SCENARIO}/scenario.yaml"), "family: u-boot\nwith:\n\tkernel: x\n");
    refused(&repository, &["beaglebone-black/scenario.yaml:3:1: a tab: YAML is indented with blanks"]);
    repository.write(&format!("{SCENARIO}/scenario.yaml"), "family: u-boot\ntimeout: soon\n");
    refused(&repository, &["scenario.yaml:2:10: timeout: expected a number", "found the text `soon`"]);
}

#[test]
fn a_mistake_is_one_problem_and_not_those_that_follow_from_it() {
    for (file, text) in [
        ("jobs/health-checks/beaglebone-black/scenario.yaml", "famly: u-boot\n"),
        ("jobs/families/u-boot/family.yaml", "abuot: x\n"),
        ("boards/juno.yaml", "model: [\n"),
    ] {
        let repository = Repository::new();
        repository.write(file, text);
        let checked = call(meta_lava(&repository).arg("check"));
        assert_eq!(checked.code, Some(2));
        assert!(checked.stdout.starts_with(&format!("{file}:")), "{}", checked.stdout);
        assert!(checked.stdout.contains(": 1 problem\n"), "{}", checked.stdout);
        assert!(!checked.stdout.contains("--unreferenced"), "{}", checked.stdout);
    }
}

#[test]
fn a_file_that_the_world_does_not_have_is_told_with_its_place_and_the_nearest() {
    let repository = Repository::new();
    repository.replace(&format!("{SCENARIO}/scenario.yaml"), "am335x-boneblack", "am335x-bonblack");
    refused(
        &repository,
        &[
            "scenario.yaml:5:8: the world has no dtb/am335x-bonblack.dtb; did you mean dtb/am335x-boneblack.dtb?",
        ],
    );
    // What is in the list now counts, whatever this was built with.
    let list = repository.read("world/artifacts.yaml");
    let more = "  dtb/am335x-bonblack.dtb: {kind: dtb, model: a board}\n";
    repository.write("world/artifacts.yaml", &format!("{list}{more}"));
    let checked = call(meta_lava(&repository).arg("check"));
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
}

#[test]
fn a_list_of_artifacts_with_a_mistake_is_told_with_its_place() {
    let repository = Repository::new();
    repository.replace(
        "world/artifacts.yaml",
        "kernel/x86_64/bzImage: {kind:",
        "kernel/x86_64/bzImage: {knid:",
    );
    refused(&repository, &["world/artifacts.yaml:", "missing field `kind`"]);
}

#[test]
fn a_setting_that_a_board_does_not_have_is_told_with_its_place() {
    let repository = Repository::new();
    repository.replace("boards/beaglebone-black.yaml", "  arch: arm\n", "  arhc: arm\n");
    refused(&repository, &["boards/beaglebone-black.yaml:", "unknown field `arhc`, expected one of"]);
}

#[test]
fn a_job_that_is_no_yaml_is_told_with_its_place() {
    let repository = Repository::new();
    repository.write(&format!("{SCENARIO}/scenario.yaml"), "tags: []\n");
    repository.write(&format!("{SCENARIO}/job.yaml"), "device_type: x\nactions:\n- deploy: {\n");
    refused(&repository, &["beaglebone-black/job.yaml:4:1: "]);
}

#[test]
fn a_template_with_a_mistake_is_told_with_its_place() {
    let repository = Repository::new();
    repository.replace(
        "jobs/families/u-boot/job.yaml",
        "{% for command in commands %}",
        "{% for commands %}",
    );
    refused(&repository, &["jobs/families/u-boot/job.yaml:", "expected"]);
}

#[test]
fn a_family_with_a_mistake_is_told_with_its_place() {
    let repository = Repository::new();
    repository.replace("jobs/families/u-boot/family.yaml", "about: ", "abuot: ");
    refused(
        &repository,
        &[
            "jobs/families/u-boot/family.yaml:1:1: unknown field `abuot`, expected one of `about`, `with`, `fails`",
        ],
    );
}

#[test]
fn a_suite_with_a_mistake_is_told_with_its_place() {
    let repository = Repository::new();
    repository.write("jobs/health-checks/suite.yaml", "about: [1, 2]\n");
    refused(&repository, &["jobs/health-checks/suite.yaml:1:8: ", "expected a text, found a list"]);
}

#[test]
fn a_name_that_two_scenarios_have_is_told_with_both_places() {
    let repository = Repository::new();
    repository.write("jobs/other/suite.yaml", "about: another\n");
    let text = repository.read(&format!("{SCENARIO}/scenario.yaml"));
    repository.write("jobs/other/beaglebone-black/scenario.yaml", &text);
    refused(
        &repository,
        &["jobs/other/beaglebone-black: names are unique", "health-checks/beaglebone-black"],
    );
}

#[test]
fn a_snapshot_that_is_none_is_told_by_check() {
    let repository = Repository::new();
    repository.write("expected/health-checks/beaglebone-black/log.snap", "no header\n");
    let checked = call(meta_lava(&repository).arg("check"));
    assert_eq!(checked.code, Some(2));
    assert!(
        checked.stdout.contains("expected/health-checks/beaglebone-black/log.snap:1:1: "),
        "{}",
        checked.stdout
    );
}

#[test]
fn a_snapshot_that_nobody_refers_to_is_told_by_check() {
    let repository = Repository::new();
    repository.write("expected/health-checks/gone/log.snap", "---\nsource: x\n---\n");
    let checked = call(meta_lava(&repository).arg("check"));
    assert_eq!(checked.code, Some(2));
    let words = "expected/health-checks/gone/log.snap: no scenario refers to this file";
    assert!(checked.stdout.contains(words), "{}", checked.stdout);
}

#[test]
fn a_scenario_that_there_is_not_is_exit_code_4() {
    let repository = Repository::new();
    call(&mut run(&repository, &["beaglebone-balck"])).failed(4, &["did you mean beaglebone-black"]);
    call(run(&repository, &[]).args(["--suite", "helth-checks"])).failed(4, &["did you mean health-checks?"]);
    let predicate = call(run(&repository, &[]).args(["-E", "firmware(u-bot)"]));
    predicate.failed(4, &["no scenario has firmware(u-bot); did you mean u-boot?"]);
}

#[test]
fn a_command_that_there_is_not_has_its_nearest_told() {
    let repository = Repository::new();
    let ended = call(meta_lava(&repository).arg("rnu"));
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("'run'"), "{}", ended.stderr);
}

#[test]
fn a_filter_that_is_no_expression_is_shown_with_the_place_of_its_mistake() {
    let repository = Repository::new();
    let ended = call(run(&repository, &[]).args(["-E", "suite(x) & nmae(y)"]));
    ended.failed(2, &["suite(x) & nmae(y)", "^", "nmae"]);
}

#[test]
fn a_topology_that_is_no_yaml_is_told_with_its_place() {
    let repository = Repository::new();
    repository.write("compose/compose.yaml", "services: [\n");
    refused(&repository, &["compose/compose.yaml:2:1: "]);
}

#[test]
fn a_root_that_is_none_is_told() {
    let repository = Repository::new();
    let nowhere = repository.temporary();
    let ended = call(meta_lava(&repository).arg("list").env("META_LAVA_ROOT", &nowhere));
    ended.failed(2, &["META_LAVA_ROOT", "compose/compose.yaml"]);
}
