//! Two reports side by side: what is said of them, with which exit code, and what is refused.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::report::assert_obeys_nothing;
use crate::repository::Repository;
use crate::tool::{Ended, call, meta_lava};

const RESULTS: &str = "job\n  health: Complete";
const LEDGER: &str = "board NAME-01\n  power on\n  console 0 firmware> boot\n  power off";
const LOG: &str =
    "info     | start: 1 deploy (timeout [TIMEOUT])\ndebug    | Setting prompt string to ['=>']";

/// Writes the report of a run on one LAVA to a folder of the repository, with these boards; `change` is done
/// to each text.
fn report(repository: &Repository, folder: &str, boards: &[&str], change: (&str, &str)) -> PathBuf {
    let entry = |name: &&str| {
        json!({
            "name": name, "suite": "health-checks", "device_types": [name], "verdict": "pass",
            "seconds": 5.0, "first_difference": null,
        })
    };
    let run: Value = json!({
        "version": 1, "run": folder, "lava": "2026.10", "seconds": 9.0, "phases": {}, "totals": {},
        "scenarios": boards.iter().map(entry).collect::<Vec<_>>(),
    });
    repository.write(&format!("{folder}/run.json"), &run.to_string());
    for name in boards {
        for (kind, text) in [("results", RESULTS), ("ledger", LEDGER), ("log", LOG)] {
            let text = text.replace("NAME", name).replace(change.0, change.1);
            let file = format!("{folder}/scenarios/health-checks/{name}/{kind}.snap");
            repository.write(&file, &format!("---\nsource: x\nexpression: {kind}\n---\n{text}\n"));
        }
    }
    repository.root().join(folder)
}

/// `compare` of two folders, without an engine: none is needed.
fn compare(repository: &Repository, a: &Path, b: &Path, options: &[&str]) -> Ended {
    let _ = std::fs::remove_dir_all(repository.report());
    let mut command = meta_lava(repository);
    command.env("DOCKER_HOST", "unix:///nonexistent").arg("compare").args([a, b]);
    call(command.arg("--report").arg(repository.report()).args(options))
}

const BOARDS: [&str; 3] = ["juno", "x15", "beaglebone-black"];
const SAME: (&str, &str) = ("nothing", "nothing");

#[test]
fn two_reports_that_are_equal_have_nothing_that_differs() {
    let repository = Repository::new();
    let a = report(&repository, "a", &BOARDS, SAME);
    let b = report(&repository, "b", &BOARDS, SAME);
    let ended = compare(&repository, &a, &b, &["--fail-on", "results,ledger,log,time"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("3 scenarios compared: nothing differs"), "{}", ended.stdout);
}

#[test]
fn what_differs_is_one_cause_and_fails_only_where_that_is_asked_for() {
    let repository = Repository::new();
    let a = report(&repository, "a", &BOARDS, SAME);
    let b = report(&repository, "b", &BOARDS, ("prompt string", "prompt expect list"));
    let ended = compare(&repository, &a, &b, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("log: 1 cause\n    3  string → expect list\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("in beaglebone-black juno x15"), "{}", ended.stdout);
    let read = |name: &str| std::fs::read_to_string(repository.report().join(name)).unwrap();
    for name in ["compare.html", "compare.md"] {
        assert!(read(name).contains("string → expect list"), "{name}");
        assert_obeys_nothing(name, &read(name));
    }
    let json: Value = serde_json::from_str(&read("compare.json")).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["totals"]["log"], 1);
    assert_eq!(json["groups"][0]["scenarios"].as_array().unwrap().len(), 3);
    for (kind, code) in [("results", 0), ("ledger", 0), ("log", 1), ("time", 0), ("results,log", 1)] {
        assert_eq!(compare(&repository, &a, &b, &["--fail-on", kind]).code, Some(code), "{kind}");
    }
    // Only those that are chosen, on both sides.
    let ended = compare(&repository, &a, &b, &["juno"]);
    assert!(ended.stdout.contains("1 scenario compared: 1 log"), "{}", ended.stdout);
}

#[test]
fn what_is_no_report_is_refused_before_anything_is_written() {
    let repository = Repository::new();
    let a = report(&repository, "a", &BOARDS, SAME);
    let refused = |b: &Path, code: i32, words: &[&str]| {
        let ended = compare(&repository, &a, b, &[]);
        ended.failed(code, words);
        assert!(!repository.report().exists());
    };
    repository.write("empty/file", "");
    refused(&repository.root().join("empty"), 2, &["empty is no report of a run"]);
    repository.write("cut/run.json", "{\"version\": 1, \"scen");
    refused(&repository.root().join("cut"), 2, &["cut is no report of a run"]);
    repository.write("later/run.json", "{\"version\": 7}");
    refused(&repository.root().join("later"), 2, &["version 7, and 1 is what is read here"]);
    refused(Path::new("debain"), 2, &["neither a LAVA nor the folder of a report", "git:REF"]);
    let other = report(&repository, "other", &["d02"], SAME);
    refused(&other, 4, &["have no scenario in common", "d02"]);
    let gap = report(&repository, "gap", &BOARDS, SAME);
    std::fs::remove_file(gap.join("scenarios/health-checks/juno/log.snap")).unwrap();
    refused(&gap, 2, &["juno is `pass` in it", "log.snap is not there"]);
    std::fs::write(gap.join("scenarios/health-checks/juno/log.snap"), b"---\nx: y\n---\n\xff\n").unwrap();
    refused(&gap, 2, &["gap can't be compared", "log.snap"]);
}

#[test]
fn one_lava_on_both_sides_is_refused_with_what_to_do() {
    let repository = Repository::new();
    let sid = Path::new("debian:sid");
    compare(&repository, sid, sid, &[]).failed(2, &["debian:sid on both sides is one LAVA", "--report"]);
}
