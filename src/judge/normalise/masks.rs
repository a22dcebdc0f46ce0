//! The masks: what varies between two runs that are alike, and its placeholder.
//!
//! Two kinds: values that are known exactly for a job ([`Context`]), and patterns
//! ([`TABLE`]). Each mask counts what it matched, so that one that matches
//! nothing any more is noticed: LAVA's wording changed, or the mask was never
//! needed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use regex::{Regex, RegexSet};

use crate::lava::series::{Range, Series};
use crate::secret::TOKEN;

/// Where a mask applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Lines of the log that LAVA wrote: debug, info, results, ...
    Lava,
    /// Lines of the log that the board printed or LAVA typed, and the ledger.
    Board,
    /// LAVA's results and the job's details.
    Results,
    /// What LAVA's server says to a scenario's own requests, before it is a part of the results.
    Answers,
    /// A file of LAVA's overlay, before it is hashed.
    File,
}

/// A pattern that varies.
#[derive(Debug)]
pub struct Mask {
    /// Name, for the warning that it matched nothing.
    pub name: &'static str,
    /// Where it applies.
    scopes: &'static [Scope],
    /// The pattern.
    pattern: &'static str,
    /// What it becomes; `${1}` is its first group.
    replacement: &'static str,
}

use Scope::{Answers, Board, File, Lava, Results};

/// All patterns, in order of application. The messages are those of
/// lava_dispatcher 2023.01; where another version words one differently, it is said.
pub const TABLE: &[Mask] = &[
    // job.py: "Start time: %s (UTC)"; lava-test-runner, failure comments.
    Mask {
        name: "date",
        scopes: &[Lava, Board, Results, File],
        pattern: r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:\+\d\d:\d\d|Z)?",
        replacement: "[DATE]",
    },
    // mkimage -l: "Created: Sat Nov 23 06:08:00 2024".
    Mask {
        name: "date-mkimage",
        scopes: &[Lava, Board],
        pattern: r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?:[A-Z]{3,4} )?\d{4}",
        replacement: "[DATE]",
    },
    // boot/qemu.py: "ls -la /lava-12/bin/lava-test-runner", when the file was made.
    Mask {
        name: "date-ls",
        scopes: &[Board],
        pattern: r"\b[A-Z][a-z]{2} [ \d]\d (?:\d\d:\d\d| \d{4}) (/lava-)",
        replacement: "[DATE] ${1}",
    },
    // A file system made for this job; boot/qemu.py: "mount /dev/disk/by-uuid/61d489c2-… -t ext2 /lava-12", deploy/apply_overlay.py:
    // "success": "61d489c2-…".
    Mask {
        name: "file-system-uuid",
        scopes: &[Lava, Board],
        pattern: r#"(/dev/disk/by-uuid/|"success": ")[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"#,
        replacement: "${1}[UUID]",
    },
    // The results' metadata: …/job-output/2024/11/23/12/metadata/….yaml
    Mask {
        name: "date-output",
        scopes: &[Results],
        pattern: r"job-output/\d{4}/\d\d/\d\d/",
        replacement: "job-output/[DATE]/",
    },
    // job.py: "lava-dispatcher, installed at version: 2023.01".
    Mask {
        name: "version",
        scopes: &[Lava],
        pattern: r"(installed at version: )[^\s,]+",
        replacement: "${1}[VERSION]",
    },
    // boot/qemu.py: of which package the worker's qemu is, and what Debian calls its
    // architecture; without a package, what qemu and the kernel say.
    Mask {
        name: "qemu-package",
        scopes: &[Lava],
        pattern: r"\bqemu(?:-system-\w+)?(, installed at version: [^,]+, host architecture: )[a-z0-9_]+",
        replacement: "[QEMU_PACKAGE]${1}[ARCHITECTURE]",
    },
    // boot/qemu.py: the same in the results.
    Mask {
        name: "qemu-result",
        scopes: &[Lava],
        pattern: r#"("host_arch": ")[^"]*(", "job_arch": "[^"]*", "qemu_version": ")[^"]*"#,
        replacement: "${1}[ARCHITECTURE]${2}[VERSION]",
    },
    // Python's tracebacks: where LAVA is installed, and its lines, which move with every change.
    Mask {
        name: "traceback",
        scopes: &[Lava, Results],
        pattern: r#"(File ")[^"]*(/lava_(?:common|dispatcher)/[^"]+", line )\d+"#,
        replacement: "${1}[PACKAGES]${2}[LINE]",
    },
    // overlay.py: "Copying %s to %s": a file of LAVA's own, wherever it is installed.
    Mask {
        name: "packages",
        scopes: &[Lava],
        pattern: r"/[\w./-]*(/lava_(?:common|dispatcher)/)",
        replacement: "[PACKAGES]${1}",
    },
    // action.py: "start: %s %s (timeout %s)": what is left of the time. Others have it in prose.
    Mask {
        name: "timeout",
        scopes: &[Lava],
        pattern: r"(\(timeout )\d+:\d\d:\d\d\)",
        replacement: "${1}[TIMEOUT])",
    },
    // shell.py: "%s: Sending %s in case of corruption. Connection timeout %s, retry in %s".
    Mask {
        name: "timeout-forced",
        scopes: &[Lava],
        pattern: r"(Connection timeout )\d+:\d\d:\d\d(, retry in )\d+:\d\d:\d\d",
        replacement: "${1}[TIMEOUT]${2}[TIMEOUT]",
    },
    // action.py: "end: %s %s (duration %s)".
    Mask {
        name: "duration",
        scopes: &[Lava],
        pattern: r"(\(duration )\d+:\d\d:\d\d\)",
        replacement: "${1}[DURATION])",
    },
    // job.py: "validate duration: %.02f".
    Mask {
        name: "duration-validate",
        scopes: &[Lava],
        pattern: r"(validate duration: )\d+\.\d+",
        replacement: "${1}[DURATION]",
    },
    // action.py: "Returned %d in %s seconds".
    Mask {
        name: "duration-command",
        scopes: &[Lava],
        pattern: r"(Returned -?\d+ in )\d+( seconds)",
        replacement: "${1}[DURATION]${2}",
    },
    // action.py: "Timed out after %s seconds" of a command; those of actions are in Context.
    Mask {
        name: "duration-timed-out",
        scopes: &[Lava, Results],
        pattern: r"(Timed out after )\d+( seconds)",
        replacement: "${1}[DURATION]${2}",
    },
    // Results in the log; in the results themselves the duration is a measurement.
    Mask {
        name: "duration-result",
        scopes: &[Lava],
        pattern: r#"("duration": )"?\d+(?:\.\d+)?"?"#,
        replacement: "${1}\"[DURATION]\"",
    },
    // download.py: "%dMB downloaded in %0.2fs (%0.2fMB/s)"; since 2024 with narrow blanks that don't break.
    Mask {
        name: "rate",
        scopes: &[Lava],
        pattern: r"(\d+[ \u{202f}]?MB downloaded in )[\d.]+[ \u{202f}]?s \([\d.]+[ \u{202f}]?MB/s\)",
        replacement: "${1}[DURATION] ([RATE])",
    },
    // job.py: mkdtemp(prefix=<action name>) below a folder of the job; on TFTP too.
    Mask {
        name: "tmpdir",
        scopes: &[Lava, Board, Results, File],
        // What is random may begin like the job's id.
        pattern: r"(\[JOB_ID\]/[A-Za-z][A-Za-z0-9.-]*-)(?:[a-z0-9_]{8}\b|[a-z0-9_]*\[JOB_ID\][a-z0-9_]*)",
        replacement: "${1}[TMPDIR]",
    },
    // boot/cmsis_dap.py: mkdtemp(), where it mounts a drive; deploy/apply_overlay.py: TemporaryDirectory(), where it keeps a
    // partition meanwhile.
    Mask {
        name: "tmpdir-python",
        scopes: &[Lava, Board, Results],
        pattern: r"(/tmp/(?:tmp|lava-part-))[a-z0-9_]{8}\b",
        replacement: "${1}[TMPDIR]",
    },
    // deploy/prepare.py: dd's last word on a kernel that it puts a device tree behind; apply_overlay.py: on a header that it takes off.
    Mask {
        name: "rate-dd",
        scopes: &[Lava],
        pattern: r"( copied, )[\d.]+(?:e-\d+)? s, [\d.]+ [kMG]?B/s",
        replacement: "${1}[DURATION], [RATE]",
    },
    // boot/__init__.py, OverlayUnpack: where the board mounts such a folder, by its name.
    Mask {
        name: "tmpdir-on-the-board",
        scopes: &[Lava, Board, Results],
        pattern: r"( /lava-overlay-)(?:[a-z0-9_]{8}\b|[a-z0-9_]*\[JOB_ID\][a-z0-9_]*)",
        replacement: "${1}[TMPDIR]",
    },
    // boot/cmsis_dap.py: how long a drive was gone.
    Mask {
        name: "duration-remount",
        scopes: &[Lava],
        pattern: r"(CMSIS-DAP MSD self-remount cycle: )[\d.]+s",
        replacement: "${1}[DURATION]",
    },
    // cpio's last word on a ramdisk that has the job's overlay in it.
    Mask {
        name: "size-cpio",
        scopes: &[Lava],
        pattern: r"((?:>> |output: ))\d+ blocks?\b",
        replacement: "${1}[SIZE] blocks",
    },
    // Boards say how large a ramdisk is that has the job's overlay in it, each in its
    // own words: U-Boot, barebox, depthcharge, GRUB. The ledger has what was in it.
    Mask {
        name: "size-board",
        scopes: &[Board],
        pattern: r"(Bytes transferred = |initrd is at 0x[0-9a-f]+-|The bootfile was |Image ramdisk-1 has |initrd at 0x[0-9a-f]+-)(?:0x)?[0-9a-f]+(?: \([0-9a-f]+ hex\))?",
        replacement: "${1}[SIZE]",
    },
    // The last of the lines in which U-Boot prints a hash for each ten packets (net/tftp.c): how
    // many depends on what the job's overlay makes of the size. A whole line has 65.
    Mask {
        name: "progress-uboot",
        scopes: &[Board],
        pattern: r"^\\t #{1,64}$",
        replacement: r"\t [PROGRESS]",
    },
    // U-Boot of such a ramdisk's header.
    Mask {
        name: "size-uboot",
        scopes: &[Board],
        pattern: r"(Data Size:\s+)\d+ Bytes$",
        replacement: "${1}[SIZE]",
    },
    // mkimage of a FIT around such a ramdisk.
    Mask {
        name: "hash-fit",
        scopes: &[Lava],
        pattern: r"(output:   Hash value:\s+)[0-9a-f]+",
        replacement: "${1}[HASH]",
    },
    // runner: "Ending test lava.0_smoke (12_1.2.3), duration 0.01".
    Mask {
        name: "duration-test",
        scopes: &[Lava],
        pattern: r"(Ending test .*, duration )\d+\.\d+",
        replacement: "${1}[DURATION]",
    },
    // mkimage -l of such a ramdisk, and U-Boot of its header: "Data Size: 12 Bytes = 0.01 KiB = 0.00 MiB".
    Mask {
        name: "size-mkimage",
        scopes: &[Lava, Board],
        pattern: r"(Data Size:\s+)\d+ Bytes = [\d.]+ [KM]iB(?: = [\d.]+ [KM]iB)?",
        replacement: "${1}[SIZE]",
    },
    // Lines of the log where a test case began and ended: they count the download's progress, too.
    Mask {
        name: "line",
        scopes: &[Lava],
        pattern: r#"("(?:starttc|endtc)": )"?\d+"?"#,
        replacement: "${1}\"[LINE]\"",
    },
    // Containers that LAVA runs a command in are called so (utils/containers.py): "lava-7-1.6.3-01234567-89ab-...".
    Mask {
        name: "docker-uuid",
        scopes: &[Lava, Board],
        pattern: r"(-[\d.]+-)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        replacement: "${1}[UUID]",
    },
    // Those that tests run in (test/docker.py): "lava-docker-test-shell-7-3.3".
    Mask {
        name: "docker-test-shell",
        scopes: &[Lava, Board],
        pattern: r"(\blava-docker-test-shell-)\d+(-[\d.]+)",
        replacement: "${1}[JOB_ID]${2}",
    },
    // Those that QEMU runs in (boot/qemu.py), with what `DockerRun.name` draws (utils/docker.py): "lava-docker-qemu-7-2.1.1-69p7b55479".
    Mask {
        name: "docker-qemu",
        scopes: &[Lava, Board],
        pattern: r"(\blava-docker-qemu-)\d+(-[\d.]+-)[a-z0-9]{10}\b",
        replacement: "${1}[JOB_ID]${2}[RANDOM]",
    },
    // docker pull and docker compose: another build of the world, as of a registry, makes another image. "Digest: sha256:0123...",
    // "0123456789ab: Pull complete", " 0123456789ab Pull complete ".
    Mask {
        name: "docker-digest",
        scopes: &[Lava],
        pattern: r"(Digest: sha256:)[0-9a-f]{64}",
        replacement: "${1}[DIGEST]",
    },
    Mask {
        name: "docker-layer",
        scopes: &[Lava],
        pattern: r"\b[0-9a-f]{12}(:? (?:Pulling fs layer|Verifying Checksum|Download complete|Pull complete))",
        replacement: "[LAYER]${1}",
    },
    // utils/network.py, get_free_port: a port at random for nbd-server (`XNBD_PORT_RANGE_MIN` and `_MAX` in
    // lava_common/constants.py). deploy/nbd.py and protocols/xnbd.py tell of it, and the board's boot loader is told.
    Mask {
        name: "nbd-port",
        scopes: &[Lava, Board, Results],
        pattern: r"(?i)(nbd[^0-9\n]{0,20}|set_port )55\d{3}\b",
        replacement: "${1}[NBD_PORT]",
    },
    // nbd-server warns by GLib, which names process and time: "** (process:214): WARNING **: 23:52:20.065: ...".
    Mask {
        name: "glib-warning",
        scopes: &[Lava],
        pattern: r"\(process:\d+\)(: WARNING \*\*: )\d\d:\d\d:\d\d\.\d+",
        replacement: "(process:[PID])${1}[TIME]",
    },
    // What scp says of its progress, as often as it takes: ">> overlay-1.1.5.tar.gz  100% 5719  5.9MB/s  00:00".
    Mask {
        name: "scp-progress",
        scopes: &[Lava],
        pattern: r">> [^\n]*?(overlay-[\d.]+\.tar\.gz) [^\n]* 100% [^\n]*",
        replacement: ">> ${1} 100%",
    },
    // GDB's first lines (gdb/top.c, print_gdb_version): "GNU gdb (Debian 13.1-3) 13.1",
    Mask {
        name: "version-gdb",
        scopes: &[Board],
        pattern: r"^GNU gdb \(.*\) \S+$",
        replacement: "GNU gdb [VERSION]",
    },
    // and the year of that version.
    Mask {
        name: "year-gdb",
        scopes: &[Board],
        pattern: r"^(Copyright \(C\) )\d{4}( Free Software Foundation)",
        replacement: "${1}[YEAR]${2}",
    },
    // What GDB says of its load (gdb/symfile.c, print_transfer_performance): "Transfer rate: 1333 KB/sec, 4096 bytes/write.".
    Mask {
        name: "rate-gdb",
        scopes: &[Board],
        pattern: r"^(Transfer rate: )\d+ (?:KB/sec|bytes/sec|bits in <1 sec)",
        replacement: "${1}[RATE]",
    },
    // Numbers that the database gave: LAVA's objects in the addresses that it tells of them.
    Mask {
        name: "number-address",
        scopes: &[Answers],
        pattern: r"/(suites|tests|testsets|testcases|testcase|suite|testset|attachments)/\d+",
        replacement: "/${1}/[NUMBER]",
    },
    // xmlrpc.client.DateTime: "20261128T12:25:50".
    Mask {
        name: "date-xmlrpc",
        scopes: &[Answers],
        pattern: r"\b\d{8}T\d\d:\d\d:\d\d\b",
        replacement: "[DATE]",
    },
    // lava_results_app/utils.py, export_testcase: the database's own numbers, and those of lines of LAVA's log, which has
    // more lines at times; as YAML, and in the first and the last three columns of CSV.
    Mask {
        name: "number-yaml",
        scopes: &[Answers],
        pattern: r"\b(id|log_start_line|log_end_line): '\d+'",
        replacement: "${1}: '[NUMBER]'",
    },
    Mask {
        name: "number-csv",
        scopes: &[Answers],
        pattern: r#"^"\d+",(".*"),"\d+","\d+","\d+"$"#,
        replacement: r#""[JOB_ID]",${1},"[NUMBER]","[NUMBER]","[NUMBER]""#,
    },
];

/// Masks of what only a job that fails has: no run without a mistake is expected to need them.
const OF_FAILURES: &[&str] = &["duration-timed-out", "timeout-forced"];

/// Masks of what only some series of LAVA say: elsewhere they are not applied, so that
/// what they would hide is seen. Each with its series, and the reason in a comment.
const OF_SERIES: &[(&str, &str)] = &[
    // Newer LAVAs log nothing of what nbd-server prints, as they wait for its end,
    ("glib-warning", "<2026.09"),
    // and give scp a pipe where it had a terminal: it tells of no progress there.
    ("scp-progress", "<2026.09"),
];

/// Placeholders of values that are known exactly, for their counters.
const EXACT: &[&str] =
    &["[JOB_ID]", "[DISPATCHER_IP]", "[WORKER]", "127.0.0.1 [PORT]", TOKEN, "[SERVER]", "[BOARD_IP]"];

/// [`TABLE`], compiled once.
struct Patterns {
    /// Tells which of them match at all: most lines match none.
    set: RegexSet,
    regexes: Vec<Regex>,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let patterns = || TABLE.iter().map(|mask| mask.pattern);
    let constant = "the patterns are constants, and a test compiles them";
    Patterns {
        set: RegexSet::new(patterns()).expect(constant),
        regexes: patterns().map(|pattern| Regex::new(pattern).expect(constant)).collect(),
    }
});

/// The masks of a run: their counters. Shared by all of its jobs.
#[derive(Debug)]
pub struct Masks {
    /// Whether each of [`TABLE`] applies to the LAVA under test.
    apply: Vec<bool>,
    counts: Vec<AtomicU64>,
    exact_counts: Vec<AtomicU64>,
}

impl Default for Masks {
    fn default() -> Self {
        Self::new()
    }
}

impl Masks {
    /// All masks, whatever the series; none has matched anything yet.
    #[must_use]
    pub fn new() -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let apply = vec![true; TABLE.len()];
        Self { apply, counts: zeros(TABLE.len()), exact_counts: zeros(EXACT.len()) }
    }

    /// Those of a LAVA of `series`.
    #[must_use]
    pub fn of(series: Series) -> Self {
        Self::of_series(series, OF_SERIES)
    }

    fn of_series(series: Series, limited: &[(&str, &str)]) -> Self {
        let applies = |mask: &Mask| {
            let range = limited.iter().find(|(name, _)| *name == mask.name).map(|(_, range)| range);
            // A test reads them all.
            range.and_then(|range| range.parse::<Range>().ok()).is_none_or(|range| range.contains(series))
        };
        Self { apply: TABLE.iter().map(applies).collect(), ..Self::new() }
    }

    /// `text` with the patterns of `scope` masked.
    pub(super) fn apply(&self, scope: Scope, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        // Masks make no text that a later pattern could match and an earlier look
        // would miss, but for [JOB_ID], which is exact and there already.
        for index in &PATTERNS.set.matches(&text) {
            let mask = &TABLE[index];
            if self.apply[index] && mask.scopes.contains(&scope) {
                let mut count = 0;
                let replaced = PATTERNS.regexes[index].replace_all(&text, |found: &regex::Captures<'_>| {
                    count += 1;
                    let mut replacement = String::new();
                    found.expand(mask.replacement, &mut replacement);
                    replacement
                });
                text = Cow::Owned(replaced.into_owned());
                self.counts[index].fetch_add(count, Ordering::Relaxed);
            }
        }
        text.into_owned()
    }

    fn count_exact(&self, placeholder: &str) {
        if let Some(index) = EXACT.iter().position(|known| *known == placeholder) {
            self.exact_counts[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each mask and how often it has matched so far.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let exact = EXACT.iter().copied().zip(self.exact_counts.iter().map(count));
        exact.chain(TABLE.iter().map(|mask| mask.name).zip(self.counts.iter().map(count))).collect()
    }

    /// Patterns that have matched nothing so far, and that every run of the whole matrix
    /// has something for: a warning then.
    #[must_use]
    pub fn unused(&self) -> Vec<&'static str> {
        let patterns = &self.counts()[EXACT.len()..];
        let unused = patterns
            .iter()
            .zip(&self.apply)
            .filter(|((name, count), applies)| **applies && *count == 0 && !OF_FAILURES.contains(name));
        unused.map(|((name, _), _)| *name).collect()
    }
}

/// Values of one job that are known exactly.
#[derive(Debug, Clone, Default)]
pub struct Context {
    exact: Vec<(String, Cow<'static, str>)>,
    /// Ids of all jobs of its group, and what is shown for them.
    group: Vec<(String, String)>,
    /// Seconds that actions of a name are allowed; the most where there are several.
    allowed: BTreeMap<String, u64>,
}

/// timeout.py: "%s timed out after %s seconds", the first being the name of an action.
static TIMED_OUT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"([a-z][a-z0-9-]*) timed out after (\d+) seconds").expect("a constant, and tests use it")
});

impl Context {
    /// What is known of job `id`.
    #[must_use]
    pub fn new(id: Option<&str>) -> Self {
        let mut context = Self::default();
        if let Some(id) = id {
            context.add("[JOB_ID]", id);
        }
        context
    }

    /// Masks `value` wherever it stands as a word: `[DISPATCHER_IP]` for the worker's
    /// address, `[TOKEN]`, `[WORKER]`, `[SERVER]`, ... A number is masked only where the
    /// text around it says that it is a job's id.
    pub fn add(&mut self, placeholder: impl Into<Cow<'static, str>>, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.exact.push((value.to_owned(), placeholder.into()));
            // The longest first: a value may be a part of another one.
            self.exact.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        }
        self
    }

    /// `bytes` without the secrets among the values; what is a secret in one place is one in all.
    #[must_use]
    pub fn without_secrets<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let secrets = self.exact.iter().filter(|(_, placeholder)| *placeholder == TOKEN);
        let any: Vec<String> = secrets.map(|(secret, _)| regex::escape(secret)).collect();
        match regex::bytes::Regex::new(&any.join("|")) {
            Ok(any_secret) if !any.is_empty() => any_secret.replace_all(bytes, TOKEN.as_bytes()),
            _ => Cow::Borrowed(bytes),
        }
    }

    /// Masks the id of a job of the same group wherever only a group's job names one.
    pub fn add_member(&mut self, placeholder: &str, id: &str) -> &mut Self {
        self.group.push((id.to_owned(), placeholder.to_owned()));
        self
    }

    /// `text` with the ids of the group's jobs masked, where words around them say that they are.
    fn members<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.group.is_empty() {
            return Cow::Borrowed(text);
        }
        NUMBER.replace_all(text, |found: &regex::Captures<'_>| {
            let number = found.get(0).map_or(0..0, |found| found.range());
            let (before, after) = (&text[..number.start], &text[number.end..]);
            let member = self.group.iter().find(|(id, _)| *id == found[0]);
            match member.filter(|_| names_a_member(before, after)) {
                Some((_, placeholder)) => placeholder.clone(),
                None => found[0].to_owned(),
            }
        })
    }

    /// Masks the port of a board, which depends on what else is in the lab: as dictionaries name it for
    /// telnet, and as LAVA hands it to ssh and scp (`lava_dispatcher/connections/ssh.py`) and logs that.
    pub fn add_port(&mut self, port: u16) -> &mut Self {
        for before in ["127.0.0.1 ", "-p ", "-P ", "-P' '", "-P', '"] {
            self.add(format!("{before}[PORT]"), &format!("{before}{port}"));
        }
        self
    }

    /// Tells how many seconds the actions of a name are allowed.
    pub fn allow(&mut self, action: &str, seconds: u64) -> &mut Self {
        let most = self.allowed.entry(action.to_owned()).or_default();
        *most = seconds.max(*most);
        self
    }

    /// Masks after how many seconds an action was given up, unless that is not about what
    /// it was allowed: less, since the time of the action around it runs too; hardly more.
    fn timed_out<'t>(&self, text: &'t str) -> Cow<'t, str> {
        TIMED_OUT.replace_all(text, |found: &regex::Captures<'_>| {
            let seconds: u64 = found[2].parse().unwrap_or(u64::MAX);
            let in_time = self.allowed.get(&found[1]).is_none_or(|allowed| {
                let (least, most) = (allowed / 2, allowed.saturating_add(allowed / 4).saturating_add(3));
                (least..=most).contains(&seconds)
            });
            let shown = if in_time { "[DURATION]" } else { &found[2] };
            format!("{} timed out after {shown} seconds", &found[1])
        })
    }

    pub(super) fn apply(&self, text: &str, masks: &Masks) -> String {
        let mut text = self.members(text);
        for (value, placeholder) in &self.exact {
            if text.contains(value.as_str()) {
                text = Cow::Owned(replace_word(&text, value, placeholder, masks));
            }
        }
        if text.contains(" timed out after ") {
            text = Cow::Owned(self.timed_out(&text).into_owned());
        }
        text.into_owned()
    }
}

static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("[0-9]+").expect("a constant, and tests use it"));

/// Whether what stands around a number says that it is the id of one of a group's jobs:
/// a line of `lava-group` (tabs around it; newer LAVAs begin the line with it), a key of what `lava-wait` gives (`12:note=…`,
/// `{'12': {…}}`), the group's protocol (`"client_name": "12"`, `"nodeID": "12"`,
/// `LAVA_HOSTNAME='12'`).
fn names_a_member(before: &str, after: &str) -> bool {
    const KEYS: [&str; 3] = ["client_name", "nodeID", "LAVA_HOSTNAME"];
    let tab = |text: &str| text.ends_with('\t') || text.ends_with("\\t");
    let begins = |text: &str| text.ends_with("\\n") || text.ends_with("LAVA_GROUP=\"\n");
    if (tab(before) || begins(before)) && (after.starts_with('\t') || after.starts_with("\\t")) {
        return true;
    }
    if begins_a_vlan(before, after) {
        return true;
    }
    let value = after.strip_prefix(':').and_then(|rest| rest.split_once('=')).map(|(name, _)| name);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if value.is_some_and(is_name) && !before.ends_with(|c: char| c.is_alphanumeric() || c == '.') {
        return true;
    }
    // The last one where what was said is quoted once more (`collate` in lava_dispatcher/protocols/multinode.py).
    let ends_a_key = ["': {", "\": {", "\\\": {"].iter().any(|end| after.starts_with(end));
    let is_key = before.ends_with(['\'', '"']) && ends_a_key;
    let word = before.trim_end_matches(['"', '\'', ' ', ':', '=']);
    // A worker's name, which VLANd is told, may begin with a number.
    let is_whole = !after.starts_with(char::is_alphanumeric);
    is_key || (is_whole && word.len() < before.len() && KEYS.iter().any(|key| word.ends_with(key)))
}

/// Replaces `value` where it is not a part of a longer word or number.
fn replace_word(text: &str, value: &str, placeholder: &str, masks: &Masks) -> String {
    // Job ids begin at 1 in a new database: as a bare number they mean too much else.
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    let mut replaced = String::with_capacity(text.len());
    let mut done = 0;
    for (start, _) in text.match_indices(value) {
        let (before, after) = (&text[..start], &text[start + value.len()..]);
        let is_word = !before.ends_with(|c: char| c.is_ascii_alphanumeric())
            && !after.starts_with(|c: char| c.is_ascii_alphanumeric())
            // 1.1234 and 1234.5 are other numbers; the end of a sentence is none.
            && !is_fraction(before, after);
        let is_meant = is_word && (!is_number || names_a_job(before, after));
        if start >= done && (is_meant || (is_number && begins_a_vlan(before, after))) {
            replaced.push_str(&text[done..start]);
            replaced.push_str(placeholder);
            done = start + value.len();
            masks.count_exact(placeholder);
        }
    }
    replaced.push_str(&text[done..]);
    replaced
}

fn is_fraction(before: &str, after: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let mut last = before.chars().rev();
    let mut next = after.chars();
    (last.next() == Some('.') && digit(last.next())) || (next.next() == Some('.') && digit(next.next()))
}

/// Whether a number is a job's id at the beginning of a VLAN's name, such as `3quiet` (`configure` in
/// lava_dispatcher/protocols/vland.py), in LAVA's log, in what VLANd says or in the ledger.
fn begins_a_vlan(before: &str, after: &str) -> bool {
    const WORDS: [&str; 4] = ["vlan ", "\"name\": \"", "of the name \"", "of the name \\\""];
    // `Deploying vlan quiet : 3quiet`
    let is_told = before
        .strip_suffix(" : ")
        .and_then(|text| text.rsplit_once("vlan "))
        .is_some_and(|(_, name)| !name.contains(' '));
    after.starts_with(|c: char| c.is_ascii_alphabetic())
        && (is_told || WORDS.iter().any(|word| before.ends_with(word)))
}

/// Whether what stands around a number says that it is a job's id:
/// `lava-12`, `tmp/12/`, `12/tftp-deploy-…`, `12_1.2.3`, `job 12`, `job_id: 12`, `{LAVA_JOB_ID}: 12`,
/// `jobs/12`.
fn names_a_job(before: &str, after: &str) -> bool {
    const NAMES: [&str; 2] = ["job", "job_id"];
    // `data/local/tmp/: 12 files pushed` is no job's folder.
    const FOLDERS: [&str; 5] = ["lava-", "tmp/", "jobs/", "job/", "results/"];
    let mut from = before.len().saturating_sub(32);
    while !before.is_char_boundary(from) {
        from += 1;
    }
    let near = &before[from..];
    let word = near.trim_end_matches(['"', '\'', ' ', ':', '=', '}']).to_ascii_lowercase();
    NAMES.iter().any(|name| word.ends_with(name))
        || FOLDERS.iter().any(|folder| near.ends_with(folder))
        // job-output/2024/11/23/12
        || near.rfind("job-output/").is_some_and(|at| near.len() - at == "job-output/2024/11/23/".len())
        || ["/tftp-deploy-", "/nbd-deploy-", "/deploy-iso-installer-"].iter().any(|folder| after.starts_with(folder))
        || after.strip_prefix('_').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::judge::normalise::Normaliser;

    fn mask(scope: Scope, job: &str, text: &str) -> String {
        let masks = Masks::new();
        let mut context = Context::new(Some(job));
        context.add("[DISPATCHER_IP]", "172.18.0.4").add_port(20000);
        Normaliser { masks: &masks, context: &context }.mask(scope, text)
    }

    #[test]
    fn what_lava_logs_is_masked_and_its_structure_stays() {
        for (text, masked) in [
            (
                "start: 1.1 http-download (timeout 00:04:59) [common]",
                "start: 1.1 http-download (timeout [TIMEOUT]) [common]",
            ),
            (
                "end: 1.1 http-download (duration 00:00:01) [common]",
                "end: 1.1 http-download (duration [DURATION]) [common]",
            ),
            (
                "x: Sending # in case of corruption. Connection timeout 00:00:08, retry in 00:00:04",
                "x: Sending # in case of corruption. Connection timeout [TIMEOUT], retry in [TIMEOUT]",
            ),
            ("validate duration: 0.03", "validate duration: [DURATION]"),
            ("Returned 0 in 12 seconds", "Returned 0 in [DURATION] seconds"),
            ("0MB downloaded in 0.01s (2.31MB/s)", "0MB downloaded in [DURATION] ([RATE])"),
            (
                "0\u{202f}MB downloaded in 0.01\u{202f}s (2.31\u{202f}MB/s)",
                "0\u{202f}MB downloaded in [DURATION] ([RATE])",
            ),
            ("Start time: 2024-11-23 06:08:00.123456+00:00 (UTC)", "Start time: [DATE] (UTC)"),
            (
                "lava-dispatcher, installed at version: 2023.01",
                "lava-dispatcher, installed at version: [VERSION]",
            ),
            (
                "qemu-system-x86, installed at version: 1:7.2+dfsg-7, host architecture: amd64",
                "[QEMU_PACKAGE], installed at version: [VERSION], host architecture: [ARCHITECTURE]",
            ),
            (
                "qemu, installed at version: 7.2, host architecture: x86_64",
                "[QEMU_PACKAGE], installed at version: [VERSION], host architecture: [ARCHITECTURE]",
            ),
            (
                r#"{"host_arch": "amd64", "job_arch": "x86_64", "qemu_version": "1:7.2+dfsg-7"}"#,
                r#"{"host_arch": "[ARCHITECTURE]", "job_arch": "x86_64", "qemu_version": "[VERSION]"}"#,
            ),
            (
                "saving as /var/lib/lava/dispatcher/tmp/4711/tftp-deploy-ab_d3f9h/kernel/zImage",
                "saving as /var/lib/lava/dispatcher/tmp/[JOB_ID]/tftp-deploy-[TMPDIR]/kernel/zImage",
            ),
            (
                "Copying /usr/lib/python3/dist-packages/lava_dispatcher/dynamic_vm_keys/lava.pub to /root/x",
                "Copying [PACKAGES]/lava_dispatcher/dynamic_vm_keys/lava.pub to /root/x",
            ),
            (">> 1234 blocks", ">> [SIZE] blocks"),
            (
                "output: 65536 bytes (66 kB, 64 KiB) copied, 9.1e-05 s, 489 MB/s",
                "output: 65536 bytes (66 kB, 64 KiB) copied, [DURATION], [RATE]",
            ),
            ("Setting up telnet 127.0.0.1 20000", "Setting up telnet 127.0.0.1 [PORT]"),
            ("using 'ssh -i key -p 20000'", "using 'ssh -i key -p [PORT]'"),
            ("Copying overlay using scp -P 20000 -i key", "Copying overlay using scp -P [PORT] -i key"),
            ("'scp' '-P' '20000' '-i'", "'scp' '-P' '[PORT]' '-i'"),
            ("['scp', '-P', '20000', '-i']", "['scp', '-P', '[PORT]', '-i']"),
            ("total size: 20000 (0MB)", "total size: 20000 (0MB)"),
            (
                r#"{"case": "x", "duration": "1.02", "endtc": 12, "starttc": "9"}"#,
                r#"{"case": "x", "duration": "[DURATION]", "endtc": "[LINE]", "starttc": "[LINE]"}"#,
            ),
            ("total size: 4711 (0MB)", "total size: 4711 (0MB)"),
        ] {
            assert_eq!(mask(Scope::Lava, "4711", text), masked);
        }
    }

    #[test]
    fn what_the_board_sees_is_masked_less() {
        assert_eq!(
            mask(Scope::Board, "4711", "tftp 0x82000000 4711/tftp-deploy-abcdefgh/kernel/zImage"),
            "tftp 0x82000000 [JOB_ID]/tftp-deploy-[TMPDIR]/kernel/zImage"
        );
        assert_eq!(
            mask(
                Scope::Board,
                "4711",
                "mount -t nfs 172.18.0.4:/var/lib/lava/dispatcher/tmp/4711/lava-overlay-ab_d3f9h /lava-overlay-ab_d3f9h"
            ),
            "mount -t nfs [DISPATCHER_IP]:/var/lib/lava/dispatcher/tmp/[JOB_ID]/lava-overlay-[TMPDIR] /lava-overlay-[TMPDIR]"
        );
        assert_eq!(
            mask(Scope::Board, "4711", "setenv serverip 172.18.0.4"),
            "setenv serverip [DISPATCHER_IP]"
        );
        assert_eq!(mask(Scope::Board, "4711", "it took (timeout 00:00:01)"), "it took (timeout 00:00:01)");
    }

    #[test]
    fn the_ids_of_a_groups_jobs_are_masked_where_only_a_group_has_them() {
        let masks = Masks::new();
        let mut context = Context::new(Some("3"));
        context.add_member("[JOB_ID]", "3").add_member("[JOB_ID of client 1]", "4");
        let mask = |text: &str| Normaliser { masks: &masks, context: &context }.mask(Scope::Lava, text);
        for (text, masked) in [
            ("group roles:\\t4\\tclient", "group roles:\\t[JOB_ID of client 1]\\tclient"),
            (
                "<LAVA_WAIT_COMPLETE 4:note=two words>",
                "<LAVA_WAIT_COMPLETE [JOB_ID of client 1]:note=two words>",
            ),
            ("reply={'3': {'sum': 'a=4'}}", "reply={'[JOB_ID]': {'sum': 'a=4'}}"),
            (
                r#"{"client_name": "4", "poll_delay": 3}"#,
                r#"{"client_name": "[JOB_ID of client 1]", "poll_delay": 3}"#,
            ),
            (r#"{"client_name": "4ddfc62094b1"}"#, r#"{"client_name": "4ddfc62094b1"}"#),
            (
                r#"{"Retrieving replaceable values from": "{\"4\": {\"ipaddr\": \"192.0.2.7\"}}"}"#,
                r#"{"Retrieving replaceable values from": "{\"[JOB_ID of client 1]\": {\"ipaddr\": \"192.0.2.7\"}}"}"#,
            ),
            (
                "LAVA_GROUP=\"\n3\\tserver\\n4\\tclient\\n\"\n",
                "LAVA_GROUP=\"\n[JOB_ID]\\tserver\\n[JOB_ID of client 1]\\tclient\\n\"\n",
            ),
            ("LAVA_HOSTNAME='3'", "LAVA_HOSTNAME='[JOB_ID]'"),
            ("Waiting for vlan quiet : 4quiet", "Waiting for vlan quiet : [JOB_ID of client 1]quiet"),
            (r#"{"name": "3quiet", "tag": -1}"#, r#"{"name": "[JOB_ID]quiet", "tag": -1}"#),
            ("vlan 3quiet has port 9", "vlan [JOB_ID]quiet has port 9"),
            ("a VLAN of the name \"3quiet\"", "a VLAN of the name \"[JOB_ID]quiet\""),
            ("vlan 34quiet deleted, 3quiet", "vlan 34quiet deleted, 3quiet"),
            (r#"{"level": "3", "case": "4"}"#, r#"{"level": "3", "case": "4"}"#),
            ("start: 4 finalize, 14:a=b", "start: 4 finalize, 14:a=b"),
        ] {
            assert_eq!(mask(text), masked);
        }
    }

    #[test]
    fn an_exact_value_is_masked_as_a_word_only() {
        let same = ["a4711", "4711b", "1.4711", "4711.25", "14711", "deadbeef4711c0ffee"];
        for text in same {
            assert_eq!(mask(Scope::Lava, "4711", text), text);
        }
        assert_eq!(
            mask(Scope::Lava, "4711", "job 4711. /lava-4711/bin 4711_1.2.3"),
            "job [JOB_ID]. /lava-[JOB_ID]/bin [JOB_ID]_1.2.3"
        );
    }

    #[test]
    fn a_job_id_is_masked_only_where_it_can_be_nothing_else() {
        for (text, masked) in [
            (
                "/lava-7/bin/lava-test-runner /lava-7/0",
                "/lava-[JOB_ID]/bin/lava-test-runner /lava-[JOB_ID]/0",
            ),
            ("7/tftp-deploy-abcdefgh/dtb/x.dtb", "[JOB_ID]/tftp-deploy-[TMPDIR]/dtb/x.dtb"),
            (
                "tftp://172.18.0.4/7/deploy-iso-installer-abcdefgh/preseed/x.cfg",
                "tftp://[DISPATCHER_IP]/[JOB_ID]/deploy-iso-installer-[TMPDIR]/preseed/x.cfg",
            ),
            ("Starting test lava.0_x (7_1.4.2.1)", "Starting test lava.0_x ([JOB_ID]_1.4.2.1)"),
            ("job: 7", "job: [JOB_ID]"),
            ("\"job_id\": \"7\"", "\"job_id\": \"[JOB_ID]\""),
            ("- {LAVA_JOB_ID}: 7", "- {LAVA_JOB_ID}: [JOB_ID]"),
            ("job-output/2024/11/23/7/metadata", "job-output/2024/11/23/[JOB_ID]/metadata"),
            ("1.7 x 7 blocks 7", "1.7 x 7 blocks 7"),
            ("/x/data/local/tmp/: 7 files pushed", "/x/data/local/tmp/: 7 files pushed"),
        ] {
            assert_eq!(mask(Scope::Lava, "7", text), masked);
        }
    }

    #[test]
    fn every_mask_counts_and_those_that_matched_nothing_are_known() {
        let masks = Masks::new();
        let all = TABLE.len() - OF_FAILURES.len();
        assert_eq!(masks.unused().len(), all);
        masks.apply(Scope::Lava, "validate duration: 0.03 validate duration: 0.04");
        masks.apply(Scope::Board, "validate duration: 0.03");
        assert_eq!(masks.unused().len(), all - 1);
        assert!(masks.counts().contains(&("duration-validate", 2)));
    }

    #[test]
    fn a_timeout_that_comes_late_is_not_masked() {
        let mut context = Context::new(None);
        context.allow("lava-test-shell", 8).allow("lava-test-shell", 12);
        let said = |name: &str, seconds: u64| {
            context.apply(&format!("'{name} timed out after {seconds} seconds'"), &Masks::new())
        };
        for (name, seconds) in [("lava-test-shell", 12), ("lava-test-shell", 14), ("unknown", 500)] {
            assert_eq!(said(name, seconds), format!("'{name} timed out after [DURATION] seconds'"));
        }
        assert_eq!(said("lava-test-shell", 24), "'lava-test-shell timed out after 24 seconds'");
        assert_eq!(said("lava-test-shell", 2), "'lava-test-shell timed out after 2 seconds'");
    }

    #[test]
    fn a_secret_is_in_no_bytes_wherever_it_stands() {
        let mut context = Context::new(Some("12"));
        context.add(TOKEN, "s3cret").add(TOKEN, "a+b").add("[WORKER]", "worker-1");
        let kept = context.without_secrets(b"worker-1 s3crets3cret a+b aab \xff 12");
        assert_eq!(kept.as_ref(), b"worker-1 [TOKEN][TOKEN] [TOKEN] aab \xff 12");
        assert_eq!(Context::new(None).without_secrets(b"s3cret").as_ref(), b"s3cret");
    }

    #[test]
    fn a_mask_of_some_series_is_not_applied_to_another() {
        let masked = |series: &str| {
            let masks = Masks::of_series(series.parse().unwrap(), &[("date", ">=2026.07")]);
            let text = masks.apply(Scope::Lava, "2024-11-23 06:08:00");
            (text, masks.unused().contains(&"date"))
        };
        assert_eq!(masked("2026.10"), ("[DATE]".to_owned(), false));
        assert_eq!(masked("2023.01"), ("2024-11-23 06:08:00".to_owned(), false));
    }

    #[test]
    fn masks_of_some_series_are_masks_and_their_series_are_ranges() {
        for (name, range) in OF_SERIES {
            assert!(TABLE.iter().any(|mask| mask.name == *name), "{name}");
            assert!(range.parse::<Range>().is_ok(), "{name}: {range}");
        }
    }

    proptest! {
        #[test]
        fn masking_twice_is_masking_once(text in ".{0,80}", job in 1u32..100_000) {
            let job = job.to_string();
            let once = mask(Scope::Lava, &job, &text);
            prop_assert_eq!(mask(Scope::Lava, &job, &once), once);
        }

        #[test]
        fn two_jobs_that_differ_in_what_varies_are_equal_when_masked(
            (a, b) in (1u32..100_000, 1u32..100_000),
            (x, y) in ("[a-z0-9_]{8}", "[a-z0-9_]{8}"),
            (s, t) in (0u32..60, 0u32..60),
        ) {
            let text = |job: u32, dir: &str, seconds: u32| {
                mask(Scope::Lava, &job.to_string(), &format!(
                    "/tmp/{job}/tftp-deploy-{dir}/x end: 1 x (duration 00:00:{seconds:02}) /lava-{job}/ {job}_1.2"
                ))
            };
            prop_assert_eq!(text(a, &x, s), text(b, &y, t));
        }
    }
}
