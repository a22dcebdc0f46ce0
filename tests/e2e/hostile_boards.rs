//! What comes from LAVA and from its boards is not trusted: boards whose tests print what
//! nobody should, or never stop, or try to get out, a log of 100 MB, a TFTP server that
//! sends rubbish. The report stays whole and small, and the other boards go on.

use crate::engine::{assert_nothing_left, container, docker, shell};
use crate::faults_in_a_stack::name_of;
use crate::report::{Report, assert_harmless, assert_obeys_nothing, of_scenario};
use crate::repository::{QUICK, Repository};
use crate::tool::{Ended, run, start};

/// Most memory, in MiB, that a run may take whatever LAVA sends: a log of 16 MiB and a
/// console of 8 are kept, and read in several ways.
const MEMORY: u64 = 256;
/// Most bytes of a page that can be opened.
const PAGE: u64 = 32 << 20;

/// What is to have no effect anywhere.
const MARKUP: [&str; 3] =
    ["<svg/onload=alert(1)//", "<img src=x onerror=alert(2)>", "<script>alert(3)</script>"];

/// What it printed is fit for a terminal, and `scenario` has this verdict.
#[track_caller]
fn is_told_cleanly(ended: &Ended, repository: &Repository, markup: &[&str]) -> Report {
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_obeys_nothing("the terminal", &ended.stderr);
    assert_obeys_nothing("the terminal", &ended.stdout);
    assert_harmless(repository, markup);
    Report::of(repository)
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn what_boards_print_harms_neither_the_report_nor_the_terminal() {
    let repository = Repository::new();
    repository.add_test(
        "markup",
        60,
        &[
            format!("lava-test-case '{}' --result pass", MARKUP[0]),
            format!("lava-test-case '{}' --result pass", MARKUP[1]),
            format!("echo '{}'", MARKUP[2]),
            "echo '<!--<script' ']]>' '&lt;' '</script' '{{ 7*7 }}'".into(),
            // A name that paints, rings, rubs out and turns around what stands beside it.
            signal(r"\033[31mred\007\010\010\302\233\342\200\256drawkcab"),
            // No UTF-8.
            signal(r"\377\376bytes"),
            r"printf '\033]0;title\007\033[2J\033c\000\377\r\n'".into(),
            "lava-test-case after --result pass".into(),
        ],
    );
    // A name as long as a command line can be. It is the last that this board prints: LAVA may
    // lose what stands more than 4000 characters before the end of what it reads at once.
    let long = "lava-test-case $(head -c 60000 /dev/zero | tr '\\0' n) --result pass".into();
    repository.add_test("long", 60, &[long]);
    // One line, without an end of its own: LAVA ends the job, and the board has to stop
    // in the middle of it, while nobody reads any more.
    repository.add_test("endless", 8, &["tr '\\0' y < /dev/zero".into()]);
    let mut process = start(&mut run(&repository, &["markup", "long", "endless", QUICK]));
    let run = name_of(&mut process);
    let ended = process.end();
    assert_nothing_left(&run, &[]);
    let report = is_told_cleanly(&ended, &repository, &MARKUP);
    assert_eq!(report.verdict(QUICK), "pass");
    for name in ["markup", "long", "endless"] {
        assert_eq!(report.verdict(name), "new");
    }
    let results = of_scenario(&repository, "markup", "results.snap");
    let name = r"\x1b[31mred\x07\b\b\u{9b}\u{202e}drawkcab: pass";
    assert!(results.contains(name) && results.contains("after: pass"), "{results}");
    let console = repository.report().join("scenarios/health-checks/endless/raw/console-endless-01.log");
    assert!(console.metadata().unwrap().len() < 9 << 20);
    println!("peak memory: {} MiB", ended.memory);
    assert!(ended.memory < MEMORY, "{} MiB", ended.memory);
}

/// A test case of this name, in `printf`'s escapes, as LAVA's own script would tell it.
fn signal(name: &str) -> String {
    format!("printf '<LAVA_SIGNAL_TESTCASE TEST_CASE_ID={name} RESULT=pass>\\n'")
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_log_of_100_mb_is_cut_and_takes_bounded_memory() {
    let repository = Repository::new();
    let mut process = start(&mut run(&repository, &[QUICK]));
    let run = name_of(&mut process);
    process.says(&format!("{QUICK}: Running"));
    let (server, worker) = (container(&run, "server"), container(&run, "worker"));
    let find = "find /var/lib/lava-server/default/media/job-output -name output.yaml";
    let log = shell(&server, &format!("until {find} | grep .; do :; done")).remove(0);
    // The job stands still while its log grows where LAVA keeps it: a board that prints
    // as much takes LAVA minutes.
    docker(&["pause", &worker]);
    let record =
        format!(r#"- {{"dt": "2026-01-01T00:00:00", "lvl": "target", "msg": "{}"}}"#, "x".repeat(150));
    let grown =
        shell(&server, &format!("yes -- '{record}' | head -n 500000 >> {log} && wc -c < {log}")).remove(0);
    docker(&["unpause", &worker]);
    assert!(grown.parse::<u64>().unwrap() > 100_000_000, "{grown}");
    let ended = process.end();
    assert_nothing_left(&run, &[]);
    let report = is_told_cleanly(&ended, &repository, &[]);
    assert_eq!(report.verdict(QUICK), "differs");
    let raw = of_scenario(&repository, QUICK, "raw/log.yaml");
    assert!(raw.len() < 17 << 20, "{}", raw.len());
    assert!(raw.ends_with("[meta-lava: the log is longer, and was cut here]\n"));
    let log = of_scenario(&repository, QUICK, "log.snap");
    assert!(log.contains("no record | [meta-lava: the log is longer, and was cut here]"));
    println!("peak memory: {} MiB", ended.memory);
    assert!(repository.report().join("index.html").metadata().unwrap().len() < PAGE);
    assert!(ended.memory < MEMORY, "{} MiB", ended.memory);
}

/// Answers each request with what is no answer, from the right port and from others, and
/// then with an error that is one, in words that are not to be obeyed.
const RUBBISH: &str = r#"
import os, socket, struct
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 69))
while True:
    _, board = server.recvfrom(2000)
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for size in (0, 1, 2, 3, 600, 60000):
        own.sendto(b"\xee" * size, board)
        server.sendto(os.urandom(size), board)
    for code in (0, 1, 2, 4, 7, 255, 65535):
        own.sendto(struct.pack("!HH", code, 77) + os.urandom(50), board)
    own.sendto(struct.pack("!HH", 3, 4711) + os.urandom(512), board)
    own.sendto(b"\0\5\0\0<script>alert(3)</script>\x1b[31m\x1b[2J\xff\xfe File not found\0", board)
"#;

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_tftp_server_that_sends_rubbish_is_seen_on_the_console() {
    let repository = Repository::new();
    let mut process = start(&mut run(&repository, &[QUICK]));
    let run = name_of(&mut process);
    process.says("containers started");
    let worker = container(&run, "worker");
    shell(
        &worker,
        "until [ -s /run/meta-lava/pid/tftp ]; do :; done; \
         touch /run/meta-lava/down/tftp && kill -KILL -$(cat /run/meta-lava/pid/tftp)",
    );
    docker(&["exec", "--detach", &worker, "python3", "-c", RUBBISH]);
    let ended = process.end();
    assert_nothing_left(&run, &[]);
    let report = is_told_cleanly(&ended, &repository, &[MARKUP[2]]);
    assert_eq!(report.verdict(QUICK), "differs");
    let console = of_scenario(&repository, QUICK, &format!("raw/console-{QUICK}-01.log"));
    assert!(console.contains("TFTP error: ") && console.contains(MARKUP[2]), "{console}");
    let results = of_scenario(&repository, QUICK, "results.snap");
    assert!(results.contains("matched a bootloader error message: 'File not found'"), "{results}");
}

/// A step that passes where `command` fails.
fn refused(name: &str, command: &str) -> String {
    format!(
        "if ({command}) > /dev/null 2>&1; then lava-test-case {name} --result fail; else lava-test-case {name} --result pass; fi"
    )
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_test_that_tries_to_leave_its_board_fails_and_the_other_boards_go_on() {
    let attempts = [
        ("mounts", "mount -t tmpfs none /tmp"),
        ("binds", "mount -o bind / /tmp"),
        ("remounts", "mount -o remount,rw /proc"),
        ("makes-namespaces", "unshare -m true"),
        ("enters-namespaces", "nsenter -t 1 -m true"),
        ("makes-devices", "mknod /tmp/disk b 8 0"),
        ("reads-memory", "head -c 1 /dev/mem"),
        ("sets-the-kernel", "echo x > /proc/sys/kernel/core_pattern"),
        ("sees-the-daemon", "grep -x -e ghost -e python3 -e lava-worker /proc/[0-9]*/comm"),
        (
            "signals-the-daemon",
            "for pid in $(seq 100 4000); do kill -0 $pid && [ ! -e /proc/$pid ] && exit 0; done; false",
        ),
        ("finds-the-engine", "ls /var/run/docker.sock"),
        ("finds-the-daemon", "ls /run/meta-lava"),
        ("finds-other-boards", "ls /var/lib/ghost"),
        ("finds-other-jobs", "ls /var/lib/lava"),
        ("reaches-a-console", "nc -w 1 127.0.0.1 21000 < /dev/null"),
        ("reaches-the-network", "ip route | grep ."),
        ("fills-the-disk", "dd if=/dev/zero of=/tmp/big bs=1M count=4096; all=$?; rm /tmp/big; exit $all"),
    ];
    let repository = Repository::new();
    // Commands are not printed: LAVA looks for results in the last 4000 characters of what it
    // reads at once, which under load may be all that this board says.
    let mut steps = vec!["set +x".to_owned()];
    steps.extend(attempts.iter().map(|(name, command)| refused(name, command)));
    // The last one: nothing can be started on that board from then on, and LAVA ends the job.
    steps.push("trap '' PIPE; bomb() { bomb | bomb & }".into());
    steps.push("bomb 2>&1 | head -n 10".into());
    steps.push("read nothing".into());
    repository.add_test("hostile", 20, &steps);
    let others = [QUICK, "x15", "juno"];
    let mut scenarios = vec!["--jobs", "2", "hostile"];
    scenarios.extend(others);
    let mut process = start(&mut run(&repository, &scenarios));
    let run = name_of(&mut process);
    process.says("hostile: Running");
    // Outside of the board all of that is there.
    let worker = container(&run, "worker");
    shell(&worker, "ls /run/meta-lava /var/lib/ghost /var/lib/lava && pidof ghost");
    let ended = process.end();
    assert_nothing_left(&run, &[]);
    let report = is_told_cleanly(&ended, &repository, &[]);
    assert_eq!(report.verdict("hostile"), "new");
    let results = of_scenario(&repository, "hostile", "results.snap");
    for (name, _) in attempts {
        assert!(results.contains(&format!("\n  {name}: pass\n")), "{name}: {results}");
    }
    let console = of_scenario(&repository, "hostile", "raw/console-hostile-01.log");
    assert!(console.contains("can't fork: Resource temporarily unavailable"), "{console}");
    // Whatever runs on it, its power can be cut.
    assert!(results.contains("\n  power-off: pass"), "{results}");
    for other in others {
        assert_eq!(report.verdict(other), "pass", "{}", ended.stderr);
    }
}
