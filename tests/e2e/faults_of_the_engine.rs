//! No engine, an engine that hangs, no Compose tool, no room for the report, nobody
//! who reads: what a run does when it can't even begin.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::report::Report;
use crate::repository::{QUICK, Repository};
use crate::tool::{
    as_from_a_terminal, call, files_below, meta_lava, run, start, with_room_for_files_of, wrapped,
};

/// A socket that takes connections and never answers; as long as the listener lives.
fn hanging_engine(repository: &Repository) -> (UnixListener, String) {
    let path = repository.temporary().join("engine.lock");
    let listener = UnixListener::bind(&path).unwrap();
    (listener, format!("unix://{}", path.display()))
}

/// The run could not begin, and its report says so.
#[track_caller]
fn reported_as(repository: &Repository, verdict: &str) {
    assert_eq!(Report::of(repository).verdicts(), [verdict]);
    assert_eq!(repository.left_temporary(), [""; 0]);
}

#[test]
fn without_an_engine_a_run_says_how_to_get_one() {
    let repository = Repository::new();
    let ended = call(run(&repository, &[QUICK]).env("DOCKER_HOST", "unix:///nonexistent.sock"));
    ended.failed(3, &["no Docker engine: /nonexistent.sock (from DOCKER_HOST)", "install and start Docker"]);
    reported_as(&repository, "error");
}

#[test]
fn an_engine_that_is_gone_is_named() {
    let repository = Repository::new();
    let (listener, address) = hanging_engine(&repository);
    drop(listener);
    let ended = call(run(&repository, &[QUICK]).env("DOCKER_HOST", &address));
    ended.failed(3, &["no answer from the Docker engine at", &address, "is the engine running?"]);
    reported_as(&repository, "error");
}

#[test]
fn an_engine_that_hangs_is_given_up() {
    let repository = Repository::new();
    let (_listener, address) = hanging_engine(&repository);
    let ended = call(run(&repository, &[QUICK]).env("DOCKER_HOST", &address));
    ended.failed(3, &["takes connections but did not answer for 15 s", "restart the engine"]);
    assert!(ended.took < Duration::from_secs(60), "{:?}", ended.took);
    reported_as(&repository, "error");
}

#[test]
fn an_engine_of_an_address_that_is_none_is_a_mistake_of_the_user() {
    let repository = Repository::new();
    let ended = call(run(&repository, &[QUICK]).env("DOCKER_HOST", "ssh://lab"));
    ended.failed(2, &["\"ssh://lab\"", "neither unix:// nor tcp://", "ssh -L"]);
    reported_as(&repository, "error");
}

#[test]
fn without_a_compose_tool_a_run_says_how_to_get_one_before_it_builds_anything() {
    let repository = Repository::new();
    let (_listener, address) = hanging_engine(&repository);
    for command in ["run", "up"] {
        let ended = call(
            meta_lava(&repository)
                .args([command, QUICK])
                .env("PATH", repository.temporary())
                .env("DOCKER_HOST", &address),
        );
        ended.failed(3, &["no Compose tool", "apt-get install docker-compose"]);
    }
}

#[test]
fn all_that_ends_a_program_well_ends_a_run_well() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let repository = Repository::new();
        let (listener, address) = hanging_engine(&repository);
        let mut command = as_from_a_terminal(&run(&repository, &[QUICK]));
        let run = start(command.env("DOCKER_HOST", &address));
        // It asks the engine now.
        let _question = listener.accept().unwrap();
        run.signal(signal);
        let ended = run.end();
        ended.failed(130, &["error: interrupted"]);
        assert!(ended.took < Duration::from_secs(10), "{signal}: {:?}", ended.took);
        reported_as(&repository, "not-run");
    }
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let repository = Repository::new();
    let (listener, address) = hanging_engine(&repository);
    let mut nohup = wrapped(&["nohup"], &run(&repository, &[QUICK]));
    nohup.env("DOCKER_HOST", &address);
    let run = start(&mut nohup);
    let _question = listener.accept().unwrap();
    run.signal(Signal::SIGHUP);
    // It goes on: what ends it is the engine that does not answer.
    run.end().failed(3, &["did not answer"]);
}

#[test]
fn that_nobody_reads_is_no_reason_to_stop() {
    let repository = Repository::new();
    for reader in [Some(()), None] {
        let mut command = run(&repository, &[QUICK]);
        command.env("DOCKER_HOST", "unix:///nonexistent.sock");
        match reader {
            // A reader that goes away at once.
            Some(()) => {
                let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                drop((child.stdout.take(), child.stderr.take()));
                assert_eq!(child.wait().unwrap().code(), Some(3));
            }
            // A device that takes nothing.
            None => {
                let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
                let status = command.stdout(full()).stderr(full()).status().unwrap();
                assert_eq!(status.code(), Some(3));
            }
        }
        reported_as(&repository, "error");
    }
    for words in [&["list"][..], &["check"], &["show", QUICK], &["run", "--help"]] {
        let mut child = meta_lava(&repository).args(words).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{words:?}");
    }
}

#[test]
fn a_report_that_can_not_be_written_is_told_before_anything_starts() {
    let repository = Repository::new();
    std::fs::write(repository.report(), "a file where a folder is to be").unwrap();
    // No engine: what gets so far as to look for one has missed it.
    let ended = call(run(&repository, &[QUICK]).env("DOCKER_HOST", "unix:///nonexistent.sock"));
    ended.failed(2, &["no report can be written to", "--report"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    let mut nowhere = meta_lava(&repository);
    nowhere.args(["run", QUICK, "--report", "/proc/no/report"]);
    call(nowhere.env("DOCKER_HOST", "unix:///nonexistent.sock")).failed(2, &["/proc/no/report"]);
}

/// One that nobody has to be asked for.
const ANY_LAVA: [&str; 4] = ["--server-image", "server:1", "--worker-image", "worker:1"];

#[test]
fn an_older_report_is_not_written_into() {
    let repository = Repository::new();
    let again = || {
        let mut command = meta_lava(&repository);
        command.args(["run", QUICK]).args(ANY_LAVA).arg("--report").arg(repository.report());
        call(command.env("DOCKER_HOST", "unix:///nonexistent.sock"))
    };
    again().failed(3, &["no Docker engine"]);
    let before = files_below(&repository.report());
    let ended = again();
    ended.failed(2, &["is not empty", "--report"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(files_below(&repository.report()), before);
}

#[test]
fn what_is_outstanding_stays_so_until_it_ran() {
    let repository = Repository::new();
    let call = |words: &[&str]| {
        let mut command = meta_lava(&repository);
        call(command.args(words).args(ANY_LAVA).env("DOCKER_HOST", "unix:///nonexistent.sock"))
    };
    // None of them runs, and all have a verdict that is not `pass`.
    call(&["run", "juno", "x15", QUICK]).failed(3, &["no Docker engine"]);
    let ended = call(&["rerun", "juno"]);
    assert!(ended.stdout.contains("rerun of 1 scenario of"), "{}", ended.stdout);
    assert!(ended.stderr.contains("2 scenarios of earlier runs did not pass yet"), "{}", ended.stderr);
    let ended = call(&["rerun"]);
    assert!(ended.stdout.contains("rerun of 3 scenarios of"), "{}", ended.stdout);
    // Neither is it forgotten for another run.
    call(&["run", "d02"]).failed(3, &[]);
    let ended = call(&["rerun"]);
    assert!(ended.stdout.contains("rerun of 4 scenarios of"), "{}", ended.stdout);
}

#[test]
fn what_was_written_of_a_report_when_the_disk_is_full_is_whole() {
    let repository = Repository::new();
    let mut command = with_room_for_files_of(4, &run(&repository, &[QUICK]));
    let ended = call(command.env("DOCKER_HOST", "unix:///nonexistent.sock"));
    ended.failed(3, &["no Docker engine"]);
    assert!(ended.stderr.contains("index.html: File too large"), "{}", ended.stderr);
    // What did not fit is not there in part, or under another name.
    assert_eq!(files_below(&repository.report()), ["junit.xml", "run.json"].map(PathBuf::from));
}
