//! LAVA's actions, as a job's log tells of them: which one begins and which ends.
//!
//! `lava_dispatcher/action.py` (2023.01) logs, in a tree numbered by levels:
//!
//! ```text
//! - {"dt": "2024-11-23T06:08:00.123456", "lvl": "info", "msg": "start: 1 tftp-deploy (timeout 00:05:00) [common]"}
//! - {"dt": "2024-11-23T06:08:02.123456", "lvl": "info", "msg": "end: 1 tftp-deploy (duration 00:00:02) [common]"}
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Api;
use super::log::{Line, Origin, Record};
use super::xmlrpc::{Call, Value, ask};
use crate::error::Result;
use crate::text::printable;

/// Longest name of an action that is kept, in characters. LAVA's own are below 50.
const NAME: usize = 60;
/// Most actions that are open at once. LAVA's trees are below ten levels deep.
const DEEP: usize = 32;

/// An action begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Whether it begins.
    pub begins: bool,
    /// Its place in the tree, such as `1.5.2`.
    pub level: String,
    /// Its name, fit for a terminal.
    pub name: String,
    /// When, as the worker's clock has it: ISO 8601, UTC, without a zone.
    pub time: String,
}

impl Mark {
    /// What a record tells of an action, if anything.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let text = record.text().filter(|_| record.origin() == Origin::Lava)?;
        let (begins, rest) = match text.strip_prefix("start: ") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("end: ")?),
        };
        let mut words = rest.split(' ');
        let level = words.next().filter(|level| level.bytes().all(|b| b.is_ascii_digit() || b == b'.'))?;
        let name: String = printable(words.next()?).chars().take(NAME).collect();
        Some(Self { begins, level: level.to_owned(), name, time: record.time.clone() })
    }
}

/// What a line of the log tells of an action, if anything.
fn mark(line: &[u8]) -> Option<Mark> {
    // Nearly all lines are something else; a message that is one of these is short.
    const LONG: usize = 1000;
    if line.len() > LONG {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    if !text.contains("\"msg\": \"start: ") && !text.contains("\"msg\": \"end: ") {
        return None;
    }
    match Line::parse(line) {
        Line::Record(record) => Mark::of(&record),
        Line::Other(_) => None,
    }
}

/// The actions that a job is in.
#[derive(Debug, Default)]
pub struct Open {
    /// Lines of the log that were taken in.
    pub lines: usize,
    open: Vec<(String, String)>,
    /// The last one that ended.
    ended: Option<(String, String)>,
}

impl Open {
    /// Takes in more of the log, as far as its lines are whole.
    pub fn take(&mut self, log: &[u8]) {
        for line in log.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            self.lines += 1;
            match mark(line) {
                Some(mark) if mark.begins && self.open.len() < DEEP => {
                    self.open.push((mark.level, mark.name));
                }
                Some(mark) if !mark.begins => {
                    if let Some(at) = self.open.iter().rposition(|(level, _)| *level == mark.level) {
                        self.ended = self.open.drain(at..).next();
                    }
                }
                _ => {}
            }
        }
    }

    /// The innermost one, such as `2.4.1 bootloader-interrupt`; `after 4 finalize` where the last one
    /// has ended, and no other has begun yet. Nothing before the first one.
    #[must_use]
    pub fn current(&self) -> Option<String> {
        let open = self.open.last().map(|(level, name)| format!("{level} {name}"));
        open.or_else(|| self.ended.as_ref().map(|(level, name)| format!("after {level} {name}")))
    }
}

/// What was added to the logs of `jobs` (id, lines known already), in one request for
/// all of them: `scheduler.jobs.logs` of `lava_scheduler_app/api/jobs.py`. A job that
/// has no log yet has an empty one.
///
/// # Errors
/// When LAVA does not answer, or with something else.
pub async fn news(api: &Api, jobs: &[(String, usize)]) -> Result<Vec<Vec<u8>>> {
    let calls: Vec<Call> = jobs
        .iter()
        .map(|(id, lines)| {
            let lines = i64::try_from(*lines).unwrap_or(i64::MAX);
            Call::new("scheduler.jobs.logs", [id.as_str().into(), Value::Number(lines)])
        })
        .collect();
    let answers = ask(api, "see what the jobs do", &calls).await?;
    // Each is (finished, log), the log in base64 with line breaks.
    let log = |answer: Vec<String>| {
        let text: String = answer.get(1)?.split_ascii_whitespace().collect();
        STANDARD.decode(text).ok()
    };
    Ok(answers.into_iter().map(|answer| log(answer).unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(message: &str) -> Vec<u8> {
        format!("- {{\"dt\": \"2024-11-23T06:08:00.5\", \"lvl\": \"info\", \"msg\": \"{message}\"}}\n")
            .into_bytes()
    }

    #[test]
    fn the_innermost_action_is_the_current_one() {
        let mut open = Open::default();
        let mut say = |message: &str| {
            open.take(&line(message));
            open.current()
        };
        assert_eq!(say("start: 0 validate").as_deref(), Some("0 validate"));
        assert_eq!(say("end: 0 validate (duration 00:00:00)").as_deref(), Some("after 0 validate"));
        assert_eq!(say("start: 1 tftp-deploy (timeout 00:05:00) [common]").as_deref(), Some("1 tftp-deploy"));
        say("start: 1.1 download-retry (timeout 00:05:00) [common]");
        assert_eq!(say("start: 1.1.1 http-download").as_deref(), Some("1.1.1 http-download"));
        // An end that was lost ends with its parent.
        assert_eq!(say("end: 1.1 download-retry").as_deref(), Some("1 tftp-deploy"));
        assert_eq!(say("start: something else").as_deref(), Some("1 tftp-deploy"));
        assert_eq!(open.lines, 7);
    }

    #[test]
    fn what_is_no_whole_line_is_taken_when_it_is_whole() {
        let mut open = Open::default();
        let whole = line("start: 0 validate");
        open.take(&whole[..20]);
        assert_eq!((open.lines, open.current()), (0, None));
        open.take(&whole);
        assert_eq!(open.lines, 1);
    }

    #[test]
    fn a_mark_is_fit_for_a_terminal_and_bounded() {
        let found = mark(&line(&format!("start: 1 \\u001b[31m{}", "x".repeat(300)))).unwrap();
        assert!(!found.name.contains('\u{1b}') && found.name.len() == NAME, "{found:?}");
        assert_eq!(found.time, "2024-11-23T06:08:00.5");
        assert_eq!(mark(&line("start: 1.x name")), None);
        assert_eq!(mark(&line("restart: 1 name")), None);
        assert_eq!(mark(b"- {\"msg\": \"start: "), None);
        assert_eq!(mark(&line(&format!("start: 1 {}", "x".repeat(3000)))), None);
    }

    proptest! {
        #[test]
        fn any_log_leaves_an_action_that_is_fit_for_a_terminal(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            messages in prop::collection::vec("(start|end): [0-9.]{0,4} .{0,80}", 0..20),
        ) {
            let mut log = bytes;
            for message in messages {
                let record = serde_json::json!({"dt": "x", "lvl": "info"}).to_string();
                let message = serde_json::Value::from(message);
                log.extend(format!("\n- {},\"msg\": {message}}}\n", record.trim_end_matches('}')).bytes());
            }
            crate::fuzzing::actions(&log);
        }
    }
}
