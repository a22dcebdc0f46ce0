//! What can't be printed is an error, whatever it is; that nobody reads on is none.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::repository::Repository;
use crate::tool::meta_lava;

/// Calls it with its stdout on a disk that is full; the exit code, and what it told.
#[track_caller]
fn on_a_full_disk(repository: &Repository, arguments: &[&str]) -> (Option<i32>, String) {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = meta_lava(repository).args(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_could_not_be_written_is_an_error_of_each_command() {
    let repository = Repository::new();
    for arguments in [
        &["list"] as &[&str],
        &["list", "--format", "json"],
        &["check"],
        &["show", "juno"],
        &["completions", "bash"],
        &["man"],
        &["self-test", "--list"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
    ] {
        let (code, told) = on_a_full_disk(&repository, arguments);
        assert_eq!(code, Some(3), "{arguments:?}: {told}");
        let wanted = "error: could not write to standard output: No space left on device";
        assert!(told.starts_with(wanted) && told.lines().count() == 1, "{arguments:?}: {told}");
    }
}

#[test]
fn what_was_found_outweighs_that_it_could_not_be_printed() {
    let repository = Repository::new();
    repository.write("jobs/health-checks/juno/scenario.yaml", "famly: u-boot\n");
    let (code, told) = on_a_full_disk(&repository, &["check"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("could not write to standard output"), "{told}");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let repository = Repository::new();
    let mut list = meta_lava(&repository);
    let mut child = list.arg("list").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
}

#[test]
fn help_wraps_at_the_terminals_width() {
    // `script` gives it a terminal, and `stty` that its width.
    let program = env!("CARGO_BIN_EXE_meta-lava");
    let narrow = format!("stty cols 60 rows 30; {program} run --help");
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &narrow, "/dev/null"])
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("--partition") && text.contains("Examples:"), "{text}");
    let widest = text.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
    assert!(widest <= 72, "{widest} columns:\n{text}");
}
