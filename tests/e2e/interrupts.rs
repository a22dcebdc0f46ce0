//! Ctrl-C at each stage: the run ends well, and leaves nothing; a second one leaves at
//! once, and says what may be left.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::engine::{assert_nothing_left, docker, objects_of};
use crate::faults_in_a_stack::{Running, name_of};
use crate::report::{Report, of_scenario};
use crate::repository::{QUICK, Repository, STUCK};
use crate::tool::{Started, as_from_a_terminal, call, meta_lava, run, start};

/// Interrupted once it says `words`, a run of one scenario has this verdict on it.
#[track_caller]
fn interrupted_at(repository: &Repository, words: &str, verdict: &str) {
    let mut process = start(&mut run(repository, &[QUICK]));
    let name = name_of(&mut process);
    process.says(words);
    process.signal(Signal::SIGINT);
    let ended = process.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.contains("Interrupted ["), "{}", ended.stderr);
    assert_nothing_left(&name, &[]);
    assert_eq!(repository.left_temporary(), [""; 0]);
    assert_eq!(Report::of(repository).verdict(QUICK), verdict);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn while_images_are_built() {
    let repository = Repository::new();
    let dockerfile = repository.read("compose/world/Dockerfile");
    // Named by this process, so that the container that builds it is told from others.
    let word = format!("6{:06}", std::process::id());
    repository.write("compose/world/Dockerfile", &format!("{dockerfile}\nRUN echo begun && sleep {word}\n"));
    interrupted_at(&repository, "begun", "not-run");
    let building = || docker(&["ps", "--quiet", "--no-trunc", "--format", "{{.Command}}"]);
    assert!(!building().iter().any(|command| command.contains(&word)));
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn while_the_stack_starts() {
    interrupted_at(&Repository::new(), "stack: starting", "not-run");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn while_the_stack_is_provisioned() {
    interrupted_at(&Repository::new(), "containers started", "not-run");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn while_jobs_are_submitted() {
    let repository = Repository::new();
    // All of them at once, so that at the first answer the others are still to come.
    let mut process = start(run(&repository, &["--suite", "health-checks"]).args(["--jobs", "100"]));
    let name = name_of(&mut process);
    process.says(": job ");
    process.signal(Signal::SIGINT);
    let ended = process.end();
    ended.failed(130, &["error: interrupted"]);
    let told = ended.stderr.matches(": job ").count();
    assert_nothing_left(&name, &[]);
    assert_eq!(repository.left_temporary(), [""; 0]);
    let verdicts = Report::of(&repository);
    let verdicts = verdicts.verdicts();
    assert!(verdicts.iter().all(|verdict| ["not-run", "skipped"].contains(verdict)), "{verdicts:?}");
    assert!(told < verdicts.len(), "all {told} had been submitted");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn while_what_came_back_is_collected() {
    let repository = Repository::new();
    let mut process = start(&mut run(&repository, &[QUICK]));
    let name = name_of(&mut process);
    process.says(&format!("{QUICK}: Finished"));
    process.signal(Signal::SIGINT);
    assert_eq!(process.end().code, Some(130));
    assert_nothing_left(&name, &[]);
    // LAVA's event of the end comes a moment before the end; either way it is all there.
    assert!(["pass", "not-run"].contains(&Report::of(&repository).verdict(QUICK)));
    let log = of_scenario(&repository, QUICK, "log.snap");
    assert!(log.contains("Job finished correctly"), "{log}");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn while_jobs_run() {
    let running = Running::with_one_job_done();
    running.process.signal(Signal::SIGINT);
    running.process.end().failed(130, &["error: interrupted"]);
    assert_nothing_left(&running.run, &[]);
    let report = Report::of(&running.repository);
    assert_eq!((report.verdict(QUICK), report.verdict(STUCK)), ("pass", "not-run"));
    // LAVA was told, and what both sides had is kept.
    let job = of_scenario(&running.repository, STUCK, "raw/job.json");
    assert!(["Canceling", "Finished"].iter().any(|state| job.contains(state)), "{job}");
    let ledger = of_scenario(&running.repository, STUCK, &format!("raw/ledger-{STUCK}-01.jsonl"));
    assert!(ledger.contains("power"), "{ledger}");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn while_the_stack_is_taken_down() {
    interrupted_at(&Repository::new(), "jobs: done", "pass");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn when_the_terminal_goes_away() {
    let mut running = Running::start(Repository::with_stuck_board(), |command| as_from_a_terminal(&command));
    running.process.close_its_terminal();
    running.process.signal(Signal::SIGHUP);
    assert_eq!(running.process.end().code, Some(130));
    assert_nothing_left(&running.run, &[]);
    assert_eq!(Report::of(&running.repository).verdict(QUICK), "pass");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_second_one_leaves_at_once_and_says_what_may_be_left() {
    let running = Running::with_one_job_done();
    let Running { repository, mut process, run, .. } = running;
    process.signal(Signal::SIGINT);
    process.says("[2/2] not-run");
    leaves_at_once(&repository, process, &run);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_second_one_while_the_stack_starts_leaves_at_once() {
    let repository = Repository::new();
    let mut process = start(&mut run(&repository, &[QUICK]));
    let run = name_of(&mut process);
    process.says("containers started");
    // Two that are alike would be one if the first was not heard yet (`signal(7)`).
    process.signal(Signal::SIGTERM);
    leaves_at_once(&repository, process, &run);
}

/// Interrupted a second time, it says what may be left, which `clean` removes.
#[track_caller]
fn leaves_at_once(repository: &Repository, process: Started, run: &str) {
    let asked = Instant::now();
    process.signal(Signal::SIGINT);
    let ended = process.end();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let words = format!("run {run} may have left something behind; `meta-lava clean` removes it");
    assert!(ended.stderr.contains(&words), "{}", ended.stderr);
    assert!(!objects_of(run).is_empty());
    let cleaned = call(meta_lava(repository).arg("clean"));
    assert_eq!(cleaned.code, Some(0), "{}", cleaned.stderr);
    assert_nothing_left(run, &[]);
    assert_eq!(repository.left_temporary(), [""; 0]);
}
