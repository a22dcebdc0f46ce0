//! What fails while a stack is there: real LAVA in containers, and one fault each.
//! What was collected until then is in the report, and nothing is left.

use std::process::Command;

use crate::engine::{assert_nothing_left, container, docker, shell, volumes_of};
use crate::proxy::Proxy;
use crate::report::{Report, of_scenario};
use crate::repository::{QUICK, Repository, STUCK};
use crate::tool::{Started, call, meta_lava, run, start, with_room_for_files_of};

/// A run in the middle of its jobs: one is over, the other one's board is silent.
pub struct Running {
    pub repository: Repository,
    pub process: Started,
    /// Its name.
    pub run: String,
    volumes: Vec<String>,
}

impl Running {
    #[track_caller]
    pub fn with_one_job_done() -> Self {
        Self::start(Repository::with_stuck_board(), |command| command)
    }

    /// LAVA 2023.01 takes a job now and then for ended while it begins, and then does nothing else
    /// until it has (docs/findings.md, "A job that has just begun"). If that is the silent board's
    /// job, there is no such moment in this run, and another one is started.
    #[track_caller]
    pub fn start(repository: Repository, change: impl Fn(Command) -> Command) -> Self {
        for _ in 0..3 {
            let mut process = start(&mut change(run(&repository, &[QUICK, STUCK])));
            let run = name_of(&mut process);
            process.says(&format!("{STUCK}: Running"));
            let passed = format!("pass     health-checks/{QUICK}");
            if process.says_one_of(&[&passed, &format!("{STUCK}: Finished")]).0 == 0 {
                let volumes = volumes_of(&run);
                assert!(!volumes.is_empty());
                return Self { repository, process, run, volumes };
            }
            process.end();
        }
        panic!("three times, {QUICK} had not passed when {STUCK} was over");
    }

    /// It ends by itself with exit code 3, says `words`, reports what it has, and
    /// leaves nothing.
    #[track_caller]
    fn fails(self, words: &[&str]) -> Repository {
        self.process.end().failed(3, words);
        assert_nothing_left(&self.run, &self.volumes);
        assert_eq!(self.repository.left_temporary(), [""; 0]);
        let report = Report::of(&self.repository);
        assert_eq!((report.verdict(QUICK), report.verdict(STUCK)), ("pass", "error"));
        self.repository
    }
}

/// The name that a run gives itself in its first line.
#[track_caller]
pub fn name_of(process: &mut Started) -> String {
    process.says("scenario").split(':').next().unwrap().to_owned()
}

/// What the boards told of the job that was broken off.
#[track_caller]
fn board_is_reported(repository: &Repository) {
    let ledger = of_scenario(repository, STUCK, &format!("raw/ledger-{STUCK}-01.jsonl"));
    assert!(ledger.contains("power"), "{ledger}");
}

/// What LAVA told of it.
#[track_caller]
fn log_is_reported(repository: &Repository) {
    let log = of_scenario(repository, STUCK, "log.snap");
    assert!(log.contains("start: 0 validate"), "{log}");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_server_that_dies_ends_the_run_with_its_last_words() {
    let running = Running::with_one_job_done();
    docker(&["kill", &container(&running.run, "server")]);
    let repository =
        running.fails(&["the server container ended with code 137 (it was killed; was memory short?)"]);
    board_is_reported(&repository);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_worker_that_dies_ends_the_run_with_its_last_words() {
    let running = Running::with_one_job_done();
    docker(&["kill", &container(&running.run, "worker")]);
    let repository = running.fails(&["the worker container ended with code 137"]);
    log_is_reported(&repository);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn ghosts_that_die_end_the_run_and_are_named() {
    let running = Running::with_one_job_done();
    shell(&container(&running.run, "worker"), "kill -9 $(cat /run/meta-lava/pid/ghost)");
    let repository = running.fails(&["the worker container ended with code 1", "ghost ended (SIGKILL)"]);
    log_is_reported(&repository);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_server_that_answers_500_ends_the_run() {
    let running = Running::with_one_job_done();
    // Gunicorn without its database.
    shell(
        &container(&running.run, "server"),
        "touch /run/meta-lava/down/postgresql && kill -KILL -$(cat /run/meta-lava/pid/postgresql)",
    );
    let repository = running.fails(&["could not look at job", "500 Internal Server Error"]);
    board_is_reported(&repository);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn an_engine_that_hangs_in_the_middle_is_given_up() {
    let repository = Repository::with_stuck_board();
    let proxy = Proxy::new(&repository.temporary());
    let running = Running::start(repository, |mut command| {
        command.env("DOCKER_HOST", proxy.address());
        command
    });
    proxy.freeze();
    // LAVA itself goes on, so the run does until it needs the engine.
    running.process.signal(nix::sys::signal::Signal::SIGINT);
    let ended = running.process.end();
    ended.failed(130, &["interrupted"]);
    assert!(ended.stderr.contains("`meta-lava clean` removes"), "{}", ended.stderr);
    assert_eq!(Report::of(&running.repository).verdict(QUICK), "pass");
    // The engine is well again, for the next one.
    let cleaned = call(meta_lava(&running.repository).arg("clean"));
    assert_eq!(cleaned.code, Some(0), "{}", cleaned.stderr);
    assert_nothing_left(&running.run, &running.volumes);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_worker_that_never_registers_is_named_with_its_log() {
    let repository = Repository::new();
    // It comes to its gate, but not to the server: nothing has this address (RFC 5737).
    repository.replace(
        "compose/compose.yaml",
        "    pids_limit: 8192\n",
        "    pids_limit: 8192\n    extra_hosts: [\"server:192.0.2.1\"]\n",
    );
    let mut process = start(&mut run(&repository, &[QUICK]));
    let run = name_of(&mut process);
    process.says("containers started");
    let volumes = volumes_of(&run);
    process.end().failed(3, &["not all workers are online: worker-1 Offline", "the end of what it said:\n"]);
    assert_nothing_left(&run, &volumes);
    assert_eq!(Report::of(&repository).verdict(QUICK), "error");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn an_engine_without_room_ends_the_run_with_what_did_not_fit() {
    let repository = Repository::new();
    // Where the database goes, there is room for a part of it.
    repository.replace(
        "compose/compose.yaml",
        "      - type: volume\n        source: database\n        target: /var/lib/postgresql\n",
        "      - type: tmpfs\n        target: /var/lib/postgresql\n        tmpfs: {size: 8388608}\n",
    );
    repository.replace("compose/compose.yaml", "        volume: {nocopy: true}\n", "");
    let mut process = start(&mut run(&repository, &[QUICK]));
    let run = name_of(&mut process);
    process.end().failed(3, &["the server container ended with code 1", "No space left on device"]);
    assert_nothing_left(&run, &[]);
    assert_eq!(Report::of(&repository).verdict(QUICK), "error");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn an_image_that_can_not_be_built_ends_the_run_with_its_last_lines() {
    let repository = Repository::new();
    let dockerfile = repository.read("compose/world/Dockerfile");
    repository.write(
        "compose/world/Dockerfile",
        &format!("{dockerfile}\nRUN echo \"this is $((6 * 7)) to fix\" && exit 7\n"),
    );
    let ended = call(&mut run(&repository, &[QUICK]));
    ended.failed(
        3,
        &["could not build image meta-lava/world:", "returned a non-zero code: 7", "\nthis is 42 to fix"],
    );
    assert_eq!(Report::of(&repository).verdict(QUICK), "error");
    assert_eq!(repository.left_temporary(), [""; 0]);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_port_in_use_is_named() {
    let repository = Repository::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    repository.replace("compose/compose.yaml", "127.0.0.1::80\"", &format!("{address}:80\""));
    let mut process = start(&mut run(&repository, &[QUICK]));
    let run = name_of(&mut process);
    process.end().failed(3, &[&address, "address already in use"]);
    assert_nothing_left(&run, &[]);
    assert_eq!(repository.left_temporary(), [""; 0]);
    assert_eq!(Report::of(&repository).verdict(QUICK), "error");
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn two_runs_at_once_do_not_meet() {
    let repositories = [Repository::with_stuck_board(), Repository::new()];
    let mut one = start(&mut run(&repositories[0], &[QUICK, STUCK]));
    let mut other = start(&mut run(&repositories[1], &[QUICK]));
    let (first, second) = (name_of(&mut one), name_of(&mut other));
    assert_ne!(first, second);
    one.says(&format!("{STUCK}: Running"));
    // All ports are the engine's choice, and nobody else's on the network.
    let ports = shell_ports(&first);
    assert_eq!(ports.len(), 2, "{ports:?}");
    assert!(ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{ports:?}");
    let ended = other.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_nothing_left(&second, &[]);
    // The first one's things are all there, also for a `clean`.
    let cleaned = call(meta_lava(&repositories[1]).arg("clean"));
    assert!(cleaned.stdout.contains(&format!("left alone: {first} is under way")), "{}", cleaned.stdout);
    one.says(&format!("pass     health-checks/{QUICK}"));
    one.signal(nix::sys::signal::Signal::SIGINT);
    one.end().failed(130, &["interrupted"]);
    assert_nothing_left(&first, &[]);
}

/// Where the ports of a run are published.
fn shell_ports(run: &str) -> Vec<String> {
    let words = docker(&["ps", "--filter", &format!("label=meta-lava.run={run}"), "--format", "{{.Ports}}"]);
    words.into_iter().filter(|word| word.contains("->")).collect()
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_disk_that_is_full_in_the_middle_is_told() {
    let repository = Repository::new();
    // Room for snapshots, not for LAVA's log as it came.
    let mut process = start(&mut with_room_for_files_of(32, &run(&repository, &[QUICK])));
    let run = name_of(&mut process);
    process.end().failed(3, &["could not write", "raw/log.yaml: File too large"]);
    assert_nothing_left(&run, &[]);
    assert_eq!(repository.left_temporary(), [""; 0]);
    assert_eq!(Report::of(&repository).verdict(QUICK), "error");
}
