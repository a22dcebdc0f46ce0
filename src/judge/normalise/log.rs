//! LAVA's log: one record a line, `level | message`.
//!
//! The log is YAML, a record a line (`lava_common/log.py`, `lava_dispatcher/logger.py`):
//!
//! ```text
//! - {"dt": "2024-11-23T06:08:00.123456", "lvl": "debug", "msg": "start: 1 tftp-deploy (timeout 00:05:00) [common]"}
//! - {"dt": "...", "lvl": "results", "msg": {"case": "validate", "definition": "lava", "result": "pass"}}
//! ```
//!
//! It is read line by line, and what is written is bounded, whatever LAVA sends.

use std::borrow::Cow;

use serde_json::Value;

use super::Normaliser;
use super::heard::{Fit, Heard, LAST};
use super::masks::Scope;
use crate::text::{printable, quoted_if_unclear};

/// Records of one stream (LAVA's own, the board's, feedback) that are kept, and
/// their bytes. A real job has some hundred.
const RECORDS: usize = 50_000;
const BYTES: usize = 4 << 20;

/// Longest record that is parsed, in bytes. LAVA itself cuts at 10^6.
const RECORD: usize = 2_000_000;

/// What a board printed and what it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// What its first serial port printed.
    pub console: String,
    /// What was typed there.
    pub typed: String,
}

/// The log as text that is equal from run to run. Where there is one `board`, what
/// LAVA logged of it is compared with what it printed.
#[must_use]
pub fn normalise(log: &[u8], board: Option<&Board>, normaliser: Normaliser<'_>) -> String {
    let Some(Board { console, typed }) = board else { return read(log, normaliser, |_| true) };
    let mut heard = Heard::default();
    for (level, message) in log.split(|byte| *byte == b'\n').filter_map(record) {
        match (level.as_str(), message.as_str()) {
            ("target", Some(message)) => heard.target(message),
            // What is read when a job ends.
            ("feedback", Some(message)) => {
                let own = message.strip_prefix('[').and_then(|rest| rest.split_once("] "));
                heard.target(own.map_or(message, |(_, message)| message));
            }
            _ => {}
        }
    }
    let of_lava = |stream| matches!(stream, Stream::Lava | Stream::Input);
    let mut text = read(log, normaliser, of_lava);
    match heard.fits(console, typed) {
        Fit::Same => {
            text.push_str("--- what the board printed; LAVA logged the same\n");
            for line in echoed_once(console).into_iter().take(RECORDS) {
                let line = normaliser.line(Scope::Board, line);
                text.push_str(&format!("{:<8} | {}\n", "board", quoted_if_unclear(&line)));
            }
            text
        }
        Fit::Differs(last) => {
            let last = normaliser.line(Scope::Board, &last);
            text.push_str(&format!(
                "--- LAVA did not log what the board printed; equal up to (without blanks): {last}\n"
            ));
            text + &read(log, normaliser, |stream| !of_lava(stream))
        }
    }
}

/// The lines of a console. Blank ones are left out, as in the comparison: a menu
/// prints one for each key. What is typed ahead of a shell is echoed by the terminal
/// and once more by the shell behind its prompt, or only there: only that is kept.
fn echoed_once(console: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = Vec::new();
    for line in console.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.trim().is_empty())
    {
        let ends = ["# ", "> ", "$ "].iter().filter_map(|end| line.rfind(end).map(|at| at + end.len())).max();
        let (prompt, typed) = line.split_at(ends.unwrap_or(0));
        let mut line = line;
        if typed.len() >= ECHO {
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

/// The records of the streams that are wanted.
fn read(log: &[u8], normaliser: Normaliser<'_>, wanted: impl Fn(Stream) -> bool) -> String {
    let mut writer = Interleave::default();
    for line in log.split(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match record(line) {
            Some((level, message)) => {
                let stream = Stream::of(&level);
                if !wanted(stream) {
                    continue;
                }
                if writer.is_full(stream) {
                    writer.leave_out(stream);
                } else if let Some(line) = entry(&level, &message, normaliser) {
                    writer.add(stream, line);
                }
            }
            None => {
                let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
                writer.add(Stream::Lava, format!("{:<8} | {}", "no record", printable(&text)));
            }
        }
    }
    group_in_order(writer.finish())
}

/// What has no order of its own in the log of a group's job, sorted once it is masked: LAVA
/// tells of the group's jobs in the order of their ids taken as texts, in which 10 comes
/// before 9, and copies its scripts in the order in which the file system lists them.
fn group_in_order(text: String) -> String {
    const JOB: &str = "| group roles:";
    const LIST: &str = "| scripts to copy [";
    if !text.contains(JOB) {
        return text;
    }
    let has_no_order =
        |line: &str| line.contains(JOB) || (line.contains("| Creating ") && line.contains("/bin/lava-"));
    let mut lines: Vec<Cow<'_, str>> = text.lines().map(Cow::Borrowed).collect();
    for run in lines.chunk_by_mut(|one, other| has_no_order(one) && has_no_order(other)) {
        run.sort_unstable();
    }
    for line in &mut lines {
        let Some((before, list)) = line.split_once(LIST) else { continue };
        let mut scripts: Vec<&str> = list.trim_end_matches(']').split(", ").collect();
        scripts.sort_unstable();
        *line = Cow::Owned(format!("{before}{LIST}{}]", scripts.join(", ")));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Level and message of a line of the log.
fn record(line: &[u8]) -> Option<(String, Value)> {
    if line.len() > RECORD {
        return None;
    }
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end().strip_prefix("- ")?;
    // Nearly all records are JSON too, which is read ten times as fast; those with
    // YAML's tags (`!!int "4"`) or escapes (`\e`) are not.
    // 2023.01 writes numbers as `! "4"`, a tag without a name, which is no string's
    // part where it follows a key: quotes in strings are escaped.
    let record: Value = serde_json::from_str(text)
        .or_else(|_| {
            serde_json::from_str(&text.replace("\": ! \"", "\": \"").replace("\": !!int \"", "\": \""))
        })
        .or_else(|_| serde_yaml::from_str(text))
        .ok()?;
    let Value::Object(mut record) = record else { return None };
    let level = record.get("lvl")?.as_str()?.to_owned();
    let mut message = record.remove("msg")?;
    if let (Some(namespace), Value::String(text)) = (record.get("ns").and_then(Value::as_str), &message) {
        message = Value::String(format!("[{namespace}] {text}"));
    }
    Some((level, message))
}

/// A record's line; `None` for those whose number depends on timing alone.
fn entry(level: &str, message: &Value, normaliser: Normaliser<'_>) -> Option<String> {
    let message = match message {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        // serde_json's maps are sorted by key.
        other => Cow::Owned(spaced(other)),
    };
    let message = match level {
        // download.py prints one for each chunk that the network happened to bring.
        "debug" if message.starts_with("progress ") => return None,
        // power.py prints one for each piece in which the last output was read, if any.
        "debug" if message.starts_with("Listened to connection for namespace ") => return None,
        // multinode.py prints one for every tenth time that it asked the coordinator.
        "debug" if message.starts_with("sending message: ") && message.contains(" waited ") => return None,
        // 2023.01 logs the line with its ending, later ones without.
        "input" => message.strip_suffix('\n').unwrap_or(&message),
        _ => &message,
    };
    let scope = if matches!(level, "input" | "target" | "feedback") { Scope::Board } else { Scope::Lava };
    let message = normaliser.line(scope, message);
    Some(format!("{:<8} | {}", printable(level), quoted_if_unclear(&message)))
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

/// Who a line is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// LAVA's own words.
    Lava,
    /// What LAVA typed.
    Input,
    /// What the board printed.
    Target,
    /// What boards in other namespaces printed meanwhile.
    Feedback,
}

impl Stream {
    fn of(level: &str) -> Self {
        match level {
            "input" => Self::Input,
            "target" => Self::Target,
            "feedback" => Self::Feedback,
            _ => Self::Lava,
        }
    }

    /// Whose lines it stands among.
    fn index(self) -> usize {
        match self {
            Self::Lava | Self::Input => 0,
            Self::Target => 1,
            Self::Feedback => 2,
        }
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
    text: String,
    /// Lines since the last cut: LAVA's own, the board's, feedback.
    lines: [Vec<String>; 3],
    kept: [usize; 3],
    bytes: [usize; 3],
    left_out: [usize; 3],
}

impl Interleave {
    fn is_full(&self, stream: Stream) -> bool {
        let index = stream.index();
        self.kept[index] >= RECORDS || self.bytes[index] >= BYTES
    }

    fn leave_out(&mut self, stream: Stream) {
        self.left_out[stream.index()] += 1;
    }

    fn add(&mut self, stream: Stream, line: String) {
        if self.is_full(stream) {
            return self.leave_out(stream);
        }
        if stream == Stream::Input {
            self.cut();
        }
        let index = stream.index();
        self.kept[index] += 1;
        self.bytes[index] += line.len();
        self.lines[index].push(line);
    }

    fn cut(&mut self) {
        for lines in &mut self.lines {
            for line in lines.drain(..) {
                self.text.push_str(&line);
                self.text.push('\n');
            }
        }
    }

    fn finish(mut self) -> String {
        self.cut();
        for (count, whose) in self.left_out.iter().zip(["LAVA's own", "target", "feedback"]) {
            if *count > 0 {
                self.text.push_str(&format!("[… {count} more {whose} lines left out]\n"));
            }
        }
        self.text
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
        normalise(text, None, Normaliser { masks: &masks, context: &context })
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
    fn a_number_with_an_empty_tag_is_read() {
        let text = log(b"- {\"dt\": \"x\", \"lvl\": \"results\", \"msg\": {\"size\": ! \"65536\", \"n\": !!int \"4\"}}\n");
        assert_eq!(text.trim_end(), r#"results  | {"n": "4", "size": "65536"}"#);
        let text = log(b"- {\"dt\": \"x\", \"lvl\": \"results\", \"msg\": {\"size\": ! \"65536\"}}\n");
        assert_eq!(text.trim_end(), r#"results  | {"size": "65536"}"#);
    }

    #[test]
    fn what_was_typed_ahead_is_echoed_once() {
        let once = vec!["boot", "/ # run it", "done"];
        assert_eq!(echoed_once("boot\r\n/ # run it\r\ndone\r\n"), once);
        assert_eq!(echoed_once("boot\r\nrun it/ # run it\r\n\r\ndone"), once);
        assert_eq!(echoed_once("boot\r\nrun it\r\n/ # run it\r\ndone"), once);
        assert_eq!(echoed_once("/ # run it\r\nrun it"), ["/ # run it", "run it"]);
    }

    #[test]
    fn what_is_no_record_is_shown_and_not_skipped() {
        let text = log(b"rubbish\n- [1]\n- {\"lvl\": 5}\n\xff\xfe\n");
        assert_eq!(text.matches("no record | ").count(), 4, "{text}");
    }

    #[test]
    fn a_log_without_end_stays_small() {
        let mut text = line("target", &"x".repeat(100_000)).repeat(60).into_bytes();
        text.extend(vec![b'y'; RECORD + 1]);
        let log = log(&text);
        assert!(log.len() < 1 << 20, "{}", log.len());
        assert!(log.contains("no record | yyy"));

        let mut writer = Interleave::default();
        for _ in 0..BYTES / 1000 + 5 {
            writer.add(Stream::Lava, "x".repeat(1000));
        }
        let text = writer.finish();
        assert!(text.len() < BYTES + 10_000, "{}", text.len());
        assert!(text.ends_with("[… 4 more LAVA's own lines left out]\n"), "{}", &text[text.len() - 100..]);
    }

    #[test]
    fn too_many_records_end_in_a_mark() {
        let text = line("target", "x").repeat(RECORDS + 7);
        assert!(log(text.as_bytes()).ends_with("[… 7 more target lines left out]\n"));
    }

    #[test]
    fn what_has_no_order_in_a_groups_log_is_sorted_and_all_else_stays() {
        let text = "debug    | scripts to copy ['b', 'a']\ndebug    | Creating /x/bin/lava-send\n\
                    debug    | group roles:\\tb\ndebug    | group roles:\\ta\ndebug    | Creating /x/bin/lava-group\n\
                    debug    | end: 2\ndebug    | a\n";
        let sorted = "debug    | scripts to copy ['a', 'b']\ndebug    | Creating /x/bin/lava-group\n\
                      debug    | Creating /x/bin/lava-send\ndebug    | group roles:\\ta\ndebug    | group roles:\\tb\n\
                      debug    | end: 2\ndebug    | a\n";
        assert_eq!(group_in_order(text.into()), sorted);
        let alone = text.replace("group roles", "other");
        assert_eq!(group_in_order(alone.clone()), alone);
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
