//! LAVA's log: one record a line, `level | message`. What is shown of it is bounded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use meta_lava_ghost::ledger::Entry;
use serde_json::Value;

use super::heard::{self, At, Fit, Heard, LAST, LEAVES, Terminal};
use super::masks::Scope;
use super::rows::{Row, Rows, Seen};
use super::{Artifacts, Normaliser};
use crate::lava::log::{Line, Log, Origin, Record};
use crate::text::{printable, quoted_if_unclear};

/// Records of one stream (LAVA's own, the board's, feedback) that are kept, and
/// their bytes. A real job has some hundred.
const RECORDS: usize = 50_000;
const BYTES: usize = 4 << 20;

/// A board, and what is beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// Those of its serial ports that printed something or were typed something, by number; the first
    /// one where there is none.
    pub consoles: BTreeMap<usize, Terminal>,
    /// Containers beside it, one after the other.
    pub containers: Terminal,
}

impl Board {
    /// By all that was printed on its serial ports, with their numbers, and its ledger.
    #[must_use]
    pub fn of<T: AsRef<str>>(consoles: impl IntoIterator<Item = (usize, T)>, ledger: &[Entry]) -> Self {
        let terminal = |printed, at| {
            let (typed, keys) = (heard::typed(ledger, at), heard::keys(ledger, at));
            Terminal { printed, typed, keys }
        };
        let (mut all, mut in_containers) = (BTreeMap::new(), String::new());
        for (uart, console) in consoles {
            let (board, containers) = heard::apart(console.as_ref());
            all.insert(uart, terminal(board, At::Console(uart)));
            in_containers.push_str(&containers);
        }
        let is_used = |terminal: &Terminal| *terminal != Terminal::default();
        if all.values().any(is_used) {
            all.retain(|_, terminal| is_used(terminal));
        } else {
            all.retain(|uart, _| *uart == 0);
        }
        Self { consoles: all, containers: terminal(in_containers, At::Containers) }
    }
}

/// The actions in which LAVA listens to a container, and not to the board.
const IN_A_CONTAINER: [&str; 2] = [" lava-docker-test-shell ", " run-fvp "];
/// From when on it listens to the container that the board was in (`StartFVPAction` in `lava_dispatcher/actions/boot/fvp.py`).
const LEFT_TO_ITS_CONTAINER: &str = "Listening to feedback from FVP binary";

/// What LAVA says before GDB prints on its worker's terminal, and after it (`lava_dispatcher/actions/boot/gdb.py`). In a
/// container GDB has the container's terminal.
const DEBUGGER_PRINTS: [&str; 2] = ["Starting gdb: ", "Stopping gdb cleanly"];
const DEBUGGER_IS_LEFT: &str = " boot-gdb-retry ";
/// From when on LAVA's connection is that of the commands which a job has run in a Fast Model's container (`RunFVPShellCommands` in
/// `lava_dispatcher/actions/boot/fvp.py`).
const COMMANDS_RUN: &str = " run-fvp-shell-commands ";

/// How the line begins that says so where LAVA did not log what a board printed.
const NOT_LOGGED: &str = "--- LAVA did not log what the ";

/// The line of a log's text that says that LAVA did not log what a board printed, if one does.
#[must_use]
pub fn not_logged(text: &str) -> Option<&str> {
    text.lines().find(|line| line.starts_with(NOT_LOGGED))
}

/// The log as lines that are equal from run to run. Where there is one `board`, what
/// LAVA logged of it is compared with what it printed.
#[must_use]
pub fn normalise(
    log: &Log,
    board: Option<&Board>,
    artifacts: &Artifacts,
    normaliser: Normaliser<'_>,
) -> Rows {
    let by_program = by_program(log);
    let read = |wanted: &dyn Fn(Origin) -> bool| read(log, &by_program, artifacts, normaliser, wanted);
    let Some(Board { consoles, containers }) = board else {
        let mut rows = read(&|_| true);
        if log.is_given_up() {
            // A QEMU that has printed nothing may be gone before the terminal has echoed this, or
            // before LAVA has read it.
            rows.0.retain(|row| !matches!(&row.seen, Some(Seen::Printed(line)) if line == LEAVES));
        }
        return rows;
    };
    // Of a device that is a container there is nothing else to hear.
    let is_a_container = consoles.values().all(|console| console.printed.is_empty());
    let (mut in_a_container, mut left) = (is_a_container, false);
    let (mut heard, mut heard_in_containers) = (Heard::default(), Heard::default());
    for (record, by_program) in log.records().zip(&by_program) {
        match (record.origin(), record.text()) {
            _ if *by_program => {}
            (Origin::Target, Some(text)) if in_a_container => heard_in_containers.target(text),
            (Origin::Input, Some(text)) if in_a_container => heard_in_containers.input(text),
            (Origin::Input, Some(text)) => heard.input(text),
            (Origin::Feedback, Some(text)) if is_a_container || left => heard_in_containers.target(text),
            (Origin::Target, Some(text)) => heard.target(text),
            // What is read when a job ends, and of other consoles while one is listened to.
            (Origin::Feedback, Some(text)) => heard.feedback(record.namespace.as_deref(), text),
            (Origin::Lava, Some(text)) if text.starts_with(LEFT_TO_ITS_CONTAINER) => left = true,
            (Origin::Lava, Some(text))
                if IN_A_CONTAINER.iter().any(|action| text.contains(action)) && !is_a_container =>
            {
                in_a_container = match text {
                    _ if text.starts_with("start: ") => true,
                    _ if text.starts_with("end: ") => false,
                    _ => in_a_container,
                };
            }
            _ => {}
        }
    }
    let of_lava = |origin| matches!(origin, Origin::Lava | Origin::Input);
    let mut rows = read(&of_lava);
    let several = consoles.len() > 1;
    let of_board = consoles.iter().map(|(uart, console)| (several.then_some(*uart), console)).collect();
    let board = (!is_a_container).then_some(("board", &heard, of_board));
    // An emulator in a container has its terminal, and prints all that the board does.
    let is_the_boards = !containers.printed.is_empty()
        && heard_in_containers.is_empty()
        && consoles.values().any(|console| {
            heard::squeeze(&console.printed).starts_with(&heard::squeeze(&containers.printed))
        });
    let has_any = !containers.printed.is_empty() || !heard_in_containers.is_empty();
    let contained =
        (has_any && !is_the_boards).then(|| ("container", &heard_in_containers, vec![(None, containers)]));
    for (what, heard, terminals) in board.iter().chain(&contained) {
        let all: Vec<&Terminal> = terminals.iter().map(|(_, terminal)| *terminal).collect();
        let fit = heard.fits(&all, log.is_given_up());
        if let Fit::Differs(last) = fit {
            let last = normaliser.line(Scope::Board, &last);
            rows.push(format!("{NOT_LOGGED}{what} printed; equal up to (without blanks): {last}"));
            rows.0.extend(read(&|origin| !of_lava(origin)).0);
            return rows;
        }
        for (number, terminal) in terminals {
            let (whose, label) = match number {
                None => (format!("the {what}"), (*what).to_owned()),
                Some(uart) => (format!("console {uart} of the {what}"), format!("{what} {uart}")),
            };
            rows.push(format!("--- what {whose} printed; LAVA logged the same"));
            for line in echoed_once(&terminal.printed).into_iter().take(RECORDS) {
                let line = quoted_if_unclear(&normaliser.line(Scope::Board, line));
                rows.push_seen(format!("{label:<8} | {line}"), Seen::Printed(line));
            }
        }
    }
    rows
}

/// The lines of a console. Blank ones are left out, as in the comparison: a menu
/// prints one for each key. What is typed ahead of a shell is echoed by the terminal
/// and once more by the shell behind its prompt, or only there: only that is kept.
fn echoed_once(console: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = Vec::new();
    for line in console.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.trim().is_empty())
    {
        let ends = ["# ", "> ", "$ "].iter().filter_map(|end| line.rfind(end).map(|at| at + end.len())).max();
        let mut line = line;
        // A line without a prompt is nobody's echo: a board may print it twice.
        if let Some((prompt, typed)) = ends.map(|end| line.split_at(end))
            && typed.len() >= ECHO
        {
            if prompt.starts_with(typed) {
                line = &line[typed.len()..];
            }
            if lines.last() == Some(&typed) {
                lines.pop();
            }
        }
        lines.push(line);
    }
    // Power may be cut before or after the shell has its prompt again.
    if let Some(last) = lines.iter().rposition(|line| line.contains(LAST)) {
        lines.truncate(last + 1);
    }
    lines
}

/// Shortest line that is taken for an echo, in bytes.
const ECHO: usize = 3;

/// Which records are what a program of the worker's has printed, GDB or what runs in a Fast Model's container, and what it was typed.
/// Nobody else knows of that; and since LAVA only waits for it meanwhile, its lines have an order among LAVA's own.
fn by_program(log: &Log) -> Vec<bool> {
    let mut prints = false;
    let is_of_it = |record: &Record| {
        match (record.origin(), record.text()) {
            (Origin::Lava, Some(text)) if DEBUGGER_PRINTS.iter().any(|says| text.starts_with(says)) => {
                prints = !text.starts_with("Starting gdb: docker ");
            }
            (Origin::Lava, Some(text)) if text.starts_with("end: ") && text.contains(DEBUGGER_IS_LEFT) => {
                prints = false;
            }
            (Origin::Lava, Some(text)) if text.starts_with("start: ") && text.contains(COMMANDS_RUN) => {
                prints = true;
            }
            (Origin::Target | Origin::Input, _) => return prints,
            _ => {}
        }
        false
    };
    log.records().map(is_of_it).collect()
}

/// The records of the origins that are wanted.
fn read(
    log: &Log,
    by_program: &[bool],
    artifacts: &Artifacts,
    normaliser: Normaliser<'_>,
    wanted: &dyn Fn(Origin) -> bool,
) -> Rows {
    let mut writer = Interleave::default();
    let mut by_program = by_program.iter();
    for line in log.lines() {
        match line {
            Line::Record(record) => {
                let origin = match by_program.next() {
                    Some(true) => Origin::Lava,
                    _ => record.origin(),
                };
                if !wanted(origin) {
                    continue;
                }
                if writer.is_full(origin) {
                    writer.leave_out(origin);
                } else if let Some(row) = row(record, artifacts, normaliser) {
                    writer.add(origin, row);
                }
            }
            Line::Other(text) => {
                writer.add(Origin::Lava, format!("{:<8} | {}", "no record", printable(text)).into());
            }
        }
    }
    group_in_order(copies_in_order(writer.finish()))
}

/// What LAVA copies to a board's card, sorted: it does so in the order in which the file system lists the recovery image
/// (`copy_directory_contents` in `lava_dispatcher/utils/filesystem.py`).
fn copies_in_order(mut rows: Rows) -> Rows {
    let is_copy = |Row { text, .. }: &Row| {
        text.starts_with("debug    | copying ") && text.contains("/extract-vexpress-recovery-image-")
    };
    for run in rows.0.chunk_by_mut(|one, other| is_copy(one) && is_copy(other)) {
        run.sort_by(|one, other| one.text.cmp(&other.text));
    }
    rows
}

/// What has no order of its own in the log of a group's job, sorted once it is masked: LAVA
/// tells of the group's jobs in the order of their ids taken as texts, in which 10 comes
/// before 9, and copies its scripts in the order in which the file system lists them.
fn group_in_order(mut rows: Rows) -> Rows {
    const JOB: &str = "| group roles:";
    const LIST: &str = "| scripts to copy [";
    if !rows.0.iter().any(|row| row.text.contains(JOB)) {
        return rows;
    }
    let has_no_order = |Row { text, .. }: &Row| {
        text.contains(JOB) || (text.contains("| Creating ") && text.contains("/bin/lava-"))
    };
    for run in rows.0.chunk_by_mut(|one, other| has_no_order(one) && has_no_order(other)) {
        run.sort_by(|one, other| one.text.cmp(&other.text));
    }
    for row in &mut rows.0 {
        let Some((before, list)) = row.text.split_once(LIST) else { continue };
        let mut scripts: Vec<&str> = list.trim_end_matches(']').split(", ").collect();
        scripts.sort_unstable();
        row.text = format!("{before}{LIST}{}]", scripts.join(", "));
    }
    rows
}

/// A record's line; `None` for those whose number depends on timing alone.
fn row(record: &Record, artifacts: &Artifacts, normaliser: Normaliser<'_>) -> Option<Row> {
    let level = record.level.as_str();
    let message = match (&record.message, &record.namespace) {
        (Value::String(text), None) => Cow::Borrowed(text.as_str()),
        (Value::String(text), Some(namespace)) => Cow::Owned(format!("[{namespace}] {text}")),
        // serde_json's maps are sorted by key.
        (other, _) => Cow::Owned(spaced(other)),
    };
    let message = match level {
        // download.py prints one for each chunk that the network happened to bring.
        "debug" if message.starts_with("progress ") => return None,
        // power.py prints one for each piece in which the last output was read, if any.
        "debug" if message.starts_with("Listened to connection for namespace ") => return None,
        // multinode.py prints one for every tenth time that it asked the coordinator.
        "debug" if message.starts_with("sending message: ") && message.contains(" waited ") => return None,
        // The coordinator closes a connection where one read has not brought the whole question, and multinode.py asks again
        // (docs/findings.md).
        "exception" if message == "socket error '104' on response" => return None,
        // 2023.01 logs the line with its ending, later ones without.
        "input" => message.strip_suffix('\n').unwrap_or(&message),
        _ => &message,
    };
    let message = &*if level == "results" { artifacts.name_sums(message) } else { message.into() };
    let origin = record.origin();
    let scope = if origin == Origin::Lava { Scope::Lava } else { Scope::Board };
    let message = quoted_if_unclear(&normaliser.line(scope, message));
    let text = format!("{:<8} | {message}", printable(level));
    let seen = match origin {
        Origin::Lava => None,
        Origin::Input => Some(Seen::Typed(message)),
        Origin::Target | Origin::Feedback => Some(Seen::Printed(message)),
    };
    Some(Row { text, seen })
}

/// JSON on one line with a space after `:` and `,`, as Python writes it.
pub(super) fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(spaced).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), spaced(value)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Among whose lines one stands: LAVA's own, the board's, feedback.
fn index(origin: Origin) -> usize {
    match origin {
        Origin::Lava | Origin::Input => 0,
        Origin::Target => 1,
        Origin::Feedback => 2,
    }
}

/// Gives the log an order that is the same in every run.
///
/// Each stream has its order, but what the board prints reaches the log when
/// pexpect happens to read it: before or after what LAVA says meanwhile. Only
/// where LAVA types is there a fixed order between them, since it types when it
/// has seen a prompt. So the log is cut at each input, and within a cut LAVA's
/// own lines come first, then the board's, then feedback. Nothing is dropped,
/// merged or moved over an input.
#[derive(Debug, Default)]
struct Interleave {
    rows: Rows,
    /// Lines since the last cut: LAVA's own, the board's, feedback.
    lines: [Vec<Row>; 3],
    kept: [usize; 3],
    bytes: [usize; 3],
    left_out: [usize; 3],
}

impl Interleave {
    fn is_full(&self, origin: Origin) -> bool {
        let index = index(origin);
        self.kept[index] >= RECORDS || self.bytes[index] >= BYTES
    }

    fn leave_out(&mut self, origin: Origin) {
        self.left_out[index(origin)] += 1;
    }

    fn add(&mut self, origin: Origin, row: Row) {
        if self.is_full(origin) {
            return self.leave_out(origin);
        }
        if origin == Origin::Input {
            self.cut();
        }
        let index = index(origin);
        self.kept[index] += 1;
        self.bytes[index] += row.text.len();
        self.lines[index].push(row);
    }

    fn cut(&mut self) {
        for lines in &mut self.lines {
            self.rows.0.append(lines);
        }
    }

    fn finish(mut self) -> Rows {
        self.cut();
        for (count, whose) in self.left_out.iter().zip(["LAVA's own", "target", "feedback"]) {
            if *count > 0 {
                self.rows.push(format!("[… {count} more {whose} lines left out]"));
            }
        }
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::judge::normalise::{Context, Masks};

    fn log(text: &[u8]) -> String {
        let masks = Masks::new();
        let mut context = Context::new(Some("4711"));
        context.add("[DISPATCHER_IP]", "172.18.0.4");
        let normaliser = Normaliser { masks: &masks, context: &context };
        normalise(&text.to_vec().into(), None, &Artifacts::default(), normaliser).text()
    }

    fn line(level: &str, message: &str) -> String {
        format!(
            "- {{\"dt\": \"2024-11-23T06:08:00.123456\", \"lvl\": \"{level}\", \"msg\": \"{message}\"}}\n"
        )
    }

    #[test]
    fn a_log_becomes_a_line_for_each_record() {
        let text = [
            line("info", "lava-dispatcher, installed at version: 2023.01"),
            line("info", "start: 0 validate"),
            line("debug", "progress  50% (0MB)"),
            "- {\"dt\": \"x\", \"lvl\": \"results\", \"msg\": {\"result\": \"pass\", \"duration\": \"0.10\", \"case\": \"validate\", \"n\": !!int \"4\"}}\n".into(),
            line("input", "setenv serverip 172.18.0.4\\n"),
            line("target", "=> setenv serverip 172.18.0.4"),
            line("target", "=> "),
            line("debug", "two\\nlines \\e[0m"),
            "- {\"dt\": \"x\", \"lvl\": \"feedback\", \"msg\": \"hello\", \"ns\": \"b\"}\n".into(),
        ]
        .concat();
        insta::assert_snapshot!(log(text.as_bytes()), @r#"
        info     | lava-dispatcher, installed at version: [VERSION]
        info     | start: 0 validate
        results  | {"case": "validate", "duration": "[DURATION]", "n": "4", "result": "pass"}
        input    | setenv serverip [DISPATCHER_IP]
        debug    | two\nlines \x1b[0m
        target   | => setenv serverip [DISPATCHER_IP]
        target   | "=> "
        feedback | [b] hello
        "#);
    }

    #[test]
    fn the_boards_lines_may_come_before_or_after_lavas_but_not_over_an_input() {
        let one =
            [line("target", "a"), line("debug", "x"), line("input", "go"), line("target", "b")].concat();
        let other =
            [line("debug", "x"), line("target", "a"), line("input", "go"), line("target", "b")].concat();
        let late =
            [line("debug", "x"), line("input", "go"), line("target", "a"), line("target", "b")].concat();
        assert_eq!(log(one.as_bytes()), log(other.as_bytes()));
        assert_ne!(log(one.as_bytes()), log(late.as_bytes()));
    }

    #[test]
    fn the_echo_of_what_leaves_a_silent_qemu_is_left_out_where_the_job_is_given_up() {
        let echo = "- {\"dt\": \"x\", \"lvl\": \"feedback\", \"msg\": \"poweroff\"}\n";
        let typed = [line("input", "poweroff"), line("target", "poweroff now"), echo.to_owned()].concat();
        let given_up = line("x", "y").replace(
            "\"x\", \"msg\": \"y\"",
            "\"results\", \"msg\": {\"case\": \"job\", \"definition\": \"lava\", \"result\": \"fail\"}",
        );
        assert_eq!(log(typed.as_bytes()).matches("poweroff").count(), 3);
        assert_eq!(log((typed + &given_up).as_bytes()).matches("poweroff").count(), 2);
    }

    #[test]
    fn that_the_coordinator_had_to_be_asked_again_is_left_out() {
        let told = [
            line("exception", "socket error '104' on response"),
            line("exception", "socket error '32' on send"),
        ];
        assert_eq!(log(told.concat().as_bytes()), "exception | socket error '32' on send");
    }

    /// The log of a board whose serial ports printed this, as it is shown.
    fn shown<const PORTS: usize>(log: &[String], consoles: [&str; PORTS]) -> String {
        let masks = Masks::new();
        let normaliser = Normaliser { masks: &masks, context: &Context::new(Some("4711")) };
        let board = Board::of(consoles.into_iter().enumerate(), &[]);
        normalise(&log.concat().into_bytes().into(), Some(&board), &Artifacts::default(), normaliser).text()
    }

    #[test]
    fn what_gdb_prints_stands_among_lavas_lines_and_is_not_looked_for_on_the_board() {
        let log = [
            line("info", "Starting gdb: gdb-multiarch zephyr.elf"),
            line("target", "(No debugging symbols found in zephyr.elf)"),
            line("input", "load"),
            line("target", "(gdb) load"),
            line("target", "Transfer rate: 1333 KB/sec, 4096 bytes/write."),
            line("info", "end: 2.1 boot-gdb-retry (duration 00:00:01) [common]"),
            line("target", "booted"),
            line("info", "Stopping gdb cleanly"),
            line("target", "Continuing."),
        ];
        insta::assert_snapshot!(shown(&log, ["booted\r\n"]), @r#"
        info     | Starting gdb: gdb-multiarch zephyr.elf
        target   | (No debugging symbols found in zephyr.elf)
        input    | load
        target   | (gdb) load
        target   | Transfer rate: [RATE], 4096 bytes/write.
        info     | end: 2.1 boot-gdb-retry (duration [DURATION]) [common]
        info     | Stopping gdb cleanly
        target   | Continuing.
        --- what the board printed; LAVA logged the same
        board    | booted
        "#);
    }

    #[test]
    fn what_commands_beside_a_fast_model_print_stands_among_lavas_lines() {
        let log = [
            line("target", "booted"),
            line("debug", "start: 2.4 run-fvp-shell-commands (timeout 00:03:00) [common]"),
            line("debug", "end: 2.4 run-fvp-shell-commands (duration 00:00:00) [common]"),
            line("target", "in the container"),
        ];
        insta::assert_snapshot!(shown(&log, ["booted\r\n"]), @r"
        debug    | start: 2.4 run-fvp-shell-commands (timeout [TIMEOUT]) [common]
        debug    | end: 2.4 run-fvp-shell-commands (duration [DURATION]) [common]
        target   | in the container
        --- what the board printed; LAVA logged the same
        board    | booted
        ");
    }

    #[test]
    fn what_an_emulator_in_a_container_prints_is_the_boards_and_told_once() {
        let log = [line("target", "booted"), line("target", "login:")];
        let with_board = |console: &str| shown(&log, [console]);
        let same = with_board("booted\r\n\x1ebooted\r\n\x1flogin:\r\n\x1elogin:\r\n\x1f");
        assert_eq!(
            same,
            "--- what the board printed; LAVA logged the same\nboard    | booted\nboard    | login:"
        );
        let more = with_board("booted\r\nlogin:\r\n\x1ebooted\r\nno such machine\r\n\x1f");
        assert!(more.contains("container | no such machine"), "{more}");
    }

    #[test]
    fn of_a_board_with_several_consoles_each_one_that_was_used_is_shown_by_itself() {
        let log = ["/ # uname", "Linux", "$ version", "3.2.0"].map(|text| line("target", text));
        insta::assert_snapshot!(shown(&log, ["/ # uname\r\nLinux\r\n", "", "$ version\r\n3.2.0\r\n"]), @r"
        --- what console 0 of the board printed; LAVA logged the same
        board 0  | / # uname
        board 0  | Linux
        --- what console 2 of the board printed; LAVA logged the same
        board 2  | $ version
        board 2  | 3.2.0
        ");
        insta::assert_snapshot!(shown(&log[2..], ["", "", "$ version\r\n3.2.0\r\n"]), @r"
        --- what the board printed; LAVA logged the same
        board    | $ version
        board    | 3.2.0
        ");
        let differs = shown(&log[..3], ["/ # uname\r\nLinux\r\n/ # \r\n/ # \r\n", "", "3.2.0\r\n"]);
        assert_eq!(
            not_logged(&differs),
            Some("--- LAVA did not log what the board printed; equal up to (without blanks): /#unameLinux")
        );
    }

    #[test]
    fn what_was_typed_ahead_is_echoed_once() {
        let once = vec!["boot", "/ # run it", "done"];
        assert_eq!(echoed_once("boot\r\n/ # run it\r\ndone\r\n"), once);
        assert_eq!(echoed_once("boot\r\nrun it/ # run it\r\n\r\ndone"), once);
        assert_eq!(echoed_once("boot\r\nrun it\r\n/ # run it\r\ndone"), once);
        assert_eq!(echoed_once("/ # run it\r\nrun it"), ["/ # run it", "run it"]);
        let twice = ["Model: Rock64", "Model: Rock64"];
        assert_eq!(echoed_once("Model: Rock64\r\nModel: Rock64"), twice, "what nobody typed");
    }

    #[test]
    fn what_is_no_record_is_shown_and_not_skipped() {
        let text = log(b"rubbish\n- [1]\n- {\"lvl\": 5}\n\xff\xfe\n");
        assert_eq!(text.matches("no record | ").count(), 4, "{text}");
    }

    #[test]
    fn a_log_without_end_stays_small() {
        let mut text = line("target", &"x".repeat(100_000)).repeat(60).into_bytes();
        text.extend(vec![b'y'; 2_000_001]);
        let log = log(&text);
        assert!(log.len() < 1 << 20, "{}", log.len());
        assert!(log.contains("no record | yyy"));

        let mut writer = Interleave::default();
        for _ in 0..BYTES / 1000 + 5 {
            writer.add(Origin::Lava, "x".repeat(1000).into());
        }
        let text = writer.finish().text();
        assert!(text.len() < BYTES + 10_000, "{}", text.len());
        assert!(text.ends_with("[… 4 more LAVA's own lines left out]"), "{}", &text[text.len() - 100..]);
    }

    #[test]
    fn too_many_records_end_in_a_mark() {
        let text = line("target", "x").repeat(RECORDS + 7);
        assert!(log(text.as_bytes()).ends_with("[… 7 more target lines left out]"));
    }

    #[test]
    fn what_is_copied_to_a_card_is_sorted() {
        let copy = |name: &str| {
            format!("debug    | copying /t/1/extract-vexpress-recovery-image-x/{name} to /mnt/J/{name}\n")
        };
        let text = ["debug    | b\n", &copy("b"), &copy("a"), "debug    | a\n", &copy("0")].concat();
        let sorted = ["debug    | b\n", &copy("a"), &copy("b"), "debug    | a\n", &copy("0")].concat();
        let rows = Rows(text.lines().map(|line| Row::from(line.to_owned())).collect());
        assert_eq!(copies_in_order(rows).text(), sorted.trim_end());
    }

    fn in_order(text: &str) -> String {
        let lines = text.lines().map(|line| Row::from(line.to_owned()));
        group_in_order(Rows(lines.collect())).text()
    }

    #[test]
    fn what_has_no_order_in_a_groups_log_is_sorted_and_all_else_stays() {
        let text = "debug    | scripts to copy ['b', 'a']\ndebug    | Creating /x/bin/lava-send\n\
                    debug    | group roles:\\tb\ndebug    | group roles:\\ta\ndebug    | Creating /x/bin/lava-group\n\
                    debug    | end: 2\ndebug    | a\n";
        let sorted = "debug    | scripts to copy ['a', 'b']\ndebug    | Creating /x/bin/lava-group\n\
                      debug    | Creating /x/bin/lava-send\ndebug    | group roles:\\ta\ndebug    | group roles:\\tb\n\
                      debug    | end: 2\ndebug    | a\n";
        assert_eq!(in_order(text), sorted.trim_end());
        let alone = text.replace("group roles", "other");
        assert_eq!(in_order(&alone), alone.trim_end());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_log(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            log(&bytes);
        }

        #[test]
        fn any_message_stays_on_its_line(message in ".*") {
            let record = serde_json::json!({"dt": "", "lvl": "target", "msg": message});
            prop_assert_eq!(log(format!("- {record}\n").as_bytes()).lines().count(), 1);
        }
    }
}
