//! The self-test of the verdict: it says what was not noticed, too.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::repository::{QUICK, Repository};
use crate::tool::{Ended, call, meta_lava};

/// A change of LAVA's that nobody could see, of which everybody is to notice it.
const HARMLESS: &str = r#"
about: A variable has another name
change:
- in: dispatcher
  file: lava_dispatcher/power.py
  replace: |2
            for cmd in command:
                self.run_cmd(cmd, error_msg="Unable to power-off: '%s' failed" % cmd)
  with: |2
            for one in command:
                self.run_cmd(one, error_msg="Unable to power-off: '%s' failed" % one)
noticed_by: all()
first_difference:
- snapshot: ledger
  expected: power off
"#;

fn self_test(repository: &Repository, arguments: &[&str]) -> (Ended, Value) {
    let _ = fs::remove_dir_all(repository.report());
    let mut command: Command = meta_lava(repository);
    command.args(["self-test", "--report"]).arg(repository.report()).args(arguments);
    let ended = call(&mut command);
    let json =
        fs::read(repository.report().join("self-test.json")).unwrap_or_else(|_| panic!("{}", ended.stderr));
    assert_eq!(repository.left_temporary(), [""; 0]);
    (ended, serde_json::from_slice(&json).unwrap())
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_sabotage_that_nobody_notices_is_wrong_beside_one_that_is_noticed() {
    let repository = Repository::with_only(QUICK);
    repository.take("sabotages/power-off-skipped.yaml");
    repository.write("sabotages/harmless.yaml", HARMLESS);
    let (ended, _) = self_test(&repository, &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for row in [
        "noticed  as-it-is           1 of 1 do not notice",
        "WRONG    harmless           0 of 1 notice",
        "noticed  power-off-skipped  1 of 1 notice",
        "2 sabotages and LAVA as it is: 2 noticed, 1 wrong, 0 not run",
    ] {
        assert!(ended.stdout.contains(row), "{row:?} is not in: {}", ended.stdout);
    }
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_mutant_is_a_changed_line_that_the_scenario_goes_through() {
    let repository = Repository::with_only(QUICK);
    repository.take("sabotages/power-off-skipped.yaml");
    let (ended, json) = self_test(&repository, &["--mutate", "1", "--seed", "3"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mutant = &json["mutants"][0];
    assert!(mutant["mutation"]["file"].as_str().unwrap().starts_with("lava_dispatcher/actions/"), "{mutant}");
    assert_ne!(mutant["mutation"]["before"], mutant["mutation"]["after"]);
    // Which line that is depends on what LAVA goes through; what is told of it does not.
    let passed = mutant["tried"][QUICK] == "pass";
    assert_eq!(mutant["noticed"].is_null(), passed, "{mutant}");
    let told = if passed { "0 of 1 noticed (0 %)" } else { "1 of 1 noticed (100 %)" };
    assert!(ended.stdout.contains(told), "{}", ended.stdout);
}

#[test]
#[ignore = "takes Docker and META_LAVA_UPSTREAM: .ci/run faults"]
fn an_undone_fix_is_noticed_or_named_as_one_that_no_scenario_reaches() {
    let repository = Repository::with_only(QUICK);
    let (ended, json) = self_test(&repository, &["--history", "2025-09-01..2025-09-30"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let commits = json["history"].as_array().unwrap();
    assert!(!commits.is_empty(), "{json}");
    for commit in commits {
        let is_tried = commit["tried"].as_object().is_some_and(|tried| !tried.is_empty());
        assert_eq!(is_tried, commit["left"].is_null(), "{commit}");
    }
    assert!(ended.stdout.contains("undone commits noticed"), "{}", ended.stdout);
}
