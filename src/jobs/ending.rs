//! How a job ended that did not complete, in LAVA's words; for people only.
//!
//! The reason is in the last result of the log (`lava_dispatcher/job.py`). What LAVA waited for when
//! its time was over is in the lines before (`lava_dispatcher/shell.py`, `utils/messages.py`):
//!
//! ```text
//! bootloader-commands: Wait for prompt ['=>', 'Resetting CPU'] (timeout 00:01:00)
//! Setting prompt string to ['/ #']
//! ["Unhandled fault", "/ #", "Login timed out"]
//! ```

use console::strip_ansi_codes;
use serde_json::Value;

use super::evidence::Evidence;
use crate::event::{Ending, Wait};
use crate::lava::log::{Log, Record};

/// What LAVA looks for beside what a job or a device-type asks it to (`utils/messages.py`,
/// `utils/constants.py`).
const LAVAS_OWN: [&str; 13] = [
    r"-\[ cut here \]",
    "Unhandled fault",
    "BUG: KCSAN:",
    "BUG: KASAN:",
    "BUG: KFENCE:",
    "Oops(?: -|:)",
    "WARNING:",
    "(kernel BUG at|BUG:)",
    "invalid opcode:",
    "Kernel panic - not syncing",
    "U-Boot SPL 20[0-9][0-9]",
    "Login timed out",
    "Login incorrect",
];

/// What stands before the patterns that LAVA waits for; since 2026.10 in other words.
const WAITS: [&str; 5] = [
    "Wait for prompt ",
    "Wait for prompts ",
    "Setting prompt string to ",
    "Setting prompt expect list to ",
    "Forcing a shell prompt, looking for ",
];

/// How many patterns of a wait are told; of more, the first, which is the prompt.
const PATTERNS: usize = 3;
/// How much of a console is looked at for what a board said last, in bytes.
const END: usize = 64 << 10;
/// Longest text that is kept, in characters.
const LONG: usize = 500;

/// How a job ended; `None` where it completed, or where LAVA does not tell.
#[must_use]
pub fn ending(evidence: &Evidence) -> Option<Ending> {
    let detail =
        |key: &str| evidence.details.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if evidence.job.is_none() {
        let why = Some(short(detail("message")?));
        return Some(Ending { health: "refused".into(), why, ..Ending::default() });
    }
    let health = detail("health").filter(|health| *health != "Complete")?;
    let (error_type, error_msg) = last_result(&evidence.log);
    if health == "Unknown" && error_msg.is_none() {
        // It has not ended.
        return None;
    }
    let is_late = health == "Canceled" || error_msg.is_some_and(|why| why.contains("timed out"));
    Some(Ending {
        job: String::new(),
        health: short(health),
        error_type: error_type.map(short),
        why: error_msg.or_else(|| detail("failure_comment")).map(short),
        wait: is_late.then(|| wait(evidence, error_msg)).flatten(),
    })
}

/// Type and message of the error that LAVA gave the job up after.
fn last_result(log: &Log) -> (Option<&str>, Option<&str>) {
    let last = log.of_job().last();
    let field = |key: &str| last.and_then(|record| record.message.get(key)).and_then(Value::as_str);
    (field("error_type"), field("error_msg"))
}

/// What LAVA waited for when it gave up, and what the board had said.
fn wait(evidence: &Evidence, error_msg: Option<&str>) -> Option<Wait> {
    // A test's end is no prompt: whatever is told as the last one was there already.
    if error_msg.is_some_and(|why| why.starts_with("lava-test-")) {
        return Some(Wait { for_what: "the end of the test".into(), heard: heard(evidence) });
    }
    let (mut patterns, mut at_the_end) = (Vec::new(), Vec::new());
    for record in evidence.log.records() {
        if let Some(found) = patterns_of(record) {
            patterns = found;
        }
        // The error is told again for each action around the one that met it.
        if record.level == "exception" && error_msg.is_none_or(|why| record.text() == Some(why)) {
            at_the_end.clone_from(&patterns);
        }
    }
    let patterns = if at_the_end.is_empty() { patterns } else { at_the_end };
    let told: Vec<&String> = patterns.iter().filter(|one| !LAVAS_OWN.contains(&one.as_str())).collect();
    let quoted: Vec<String> = told.iter().map(|pattern| format!("`{pattern}`")).collect();
    let for_what = match quoted.as_slice() {
        [] => return None,
        few if few.len() <= PATTERNS => few.join(" or "),
        [first, rest @ ..] => format!("{first} (or one of {} errors)", rest.len()),
    };
    Some(Wait { for_what: short(&for_what), heard: heard(evidence) })
}

/// The patterns that LAVA says it waits for from now on.
fn patterns_of(record: &Record) -> Option<Vec<String>> {
    if let Value::Array(patterns) = &record.message {
        return patterns.iter().map(|pattern| pattern.as_str().map(str::to_owned)).collect();
    }
    let text = record.text()?;
    let (_, list) = WAITS.iter().find_map(|head| text.split_once(head))?;
    let list = list.rsplit_once(" (timeout ").map_or(list, |(list, _)| list);
    Some(if list.starts_with('[') { python_list(list) } else { vec![list.to_owned()] })
}

/// The strings of a Python list, as `repr` writes it.
fn python_list(text: &str) -> Vec<String> {
    let mut strings = Vec::new();
    let mut quote = None;
    let mut string = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            None => {}
            Some(end) if c == end => {
                strings.push(std::mem::take(&mut string));
                quote = None;
            }
            Some(_) if c == '\\' => match characters.next() {
                Some('n') => string.push('\n'),
                Some('r') => string.push('\r'),
                Some('t') => string.push('\t'),
                Some(other) => string.push(other),
                None => {}
            },
            Some(_) => string.push(c),
        }
    }
    strings
}

/// The last line of the first board's console that is not blank.
fn heard(evidence: &Evidence) -> Option<String> {
    let console = evidence.first_console();
    let end = String::from_utf8_lossy(&console[console.len().saturating_sub(END)..]);
    let line = end.split(['\r', '\n']).map(strip_ansi_codes).rfind(|line| !line.trim().is_empty())?;
    Some(short(&line))
}

fn short(text: &str) -> String {
    text.trim_end_matches('\n').chars().take(LONG).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn evidence(health: &str, records: &[(&str, Value)], console: &str) -> Evidence {
        let lines: String = records
            .iter()
            .map(|(level, message)| format!("- {}\n", json!({"dt": "x", "lvl": level, "msg": message})))
            .collect();
        Evidence {
            job: Some("12".into()),
            details: json!({"health": health, "state": "Finished"}),
            log: lines.into_bytes().into(),
            consoles: [("bbb-01".into(), console.as_bytes().to_vec())].into(),
            ..Evidence::default()
        }
    }

    fn gave_up(error_type: &str, why: &str) -> (&'static str, Value) {
        let result = json!({
            "definition": "lava", "case": "job", "result": "fail", "error_type": error_type, "error_msg": why
        });
        ("results", result)
    }

    #[test]
    fn a_job_that_completed_has_nothing_to_tell_and_one_that_did_not_has_lavas_reason() {
        assert_eq!(ending(&evidence("Complete", &[gave_up("Job", "x")], "")), None);
        let why = "matched a bootloader error message: 'File not found' (7)";
        let found = ending(&evidence("Incomplete", &[gave_up("Infrastructure", why)], "")).unwrap();
        assert_eq!(found.words(), format!("Incomplete, Infrastructure: {why}"));
        assert_eq!(found.wait, None);
        let never = Evidence {
            job: Some("12".into()),
            details: json!({"health": "Incomplete", "failure_comment": "lava-run crashed"}),
            ..Evidence::default()
        };
        assert_eq!(ending(&never).unwrap().words(), "Incomplete: lava-run crashed");
        let refused = Evidence { details: json!({"message": "not a valid value"}), ..Evidence::default() };
        assert_eq!(ending(&refused).unwrap().words(), "refused: not a valid value");
        assert_eq!(ending(&Evidence::default()), None);
        assert_eq!(ending(&evidence("Unknown", &[], "")), None);
        assert_eq!(
            ending(&evidence("Incomplete", &[gave_up("Job", "so\n")], "")).unwrap().words(),
            "Incomplete, Job: so"
        );
    }

    #[test]
    fn a_wait_that_timed_out_is_told_beside_what_the_board_last_said() {
        let why = "login-action timed out after 60 seconds";
        let records = [
            ("debug", json!("bootloader-commands: Wait for prompt ['=>', 'TIMEOUT'] (timeout 00:01:00)")),
            ("debug", json!(["Unhandled fault", "/ $", "Login timed out", "Login incorrect"])),
            ("exception", json!(why)),
            ("debug", json!("Setting prompt string to ['later']")),
            gave_up("Job", why),
        ];
        let found = ending(&evidence("Incomplete", &records, "Welcome\r\n\x1b[1m/ # \r\n\r\n")).unwrap();
        assert_eq!(found.wait.unwrap(), Wait { for_what: "`/ $`".into(), heard: Some("/ # ".into()) });
    }

    #[test]
    fn of_many_patterns_the_prompt_is_told_and_of_a_test_its_end() {
        let wait = |line: &str, why: &str| {
            let records = [("debug", json!(line)), ("exception", json!(why)), gave_up("Job", why)];
            ending(&evidence("Incomplete", &records, "")).unwrap().wait.map(|wait| wait.for_what)
        };
        let why = "bootloader-commands timed out after 30 seconds";
        let line = r#"x: Wait for prompt ["it's", 'a\\d', 'b', 'c', 'd'] (timeout 00:00:30)"#;
        assert_eq!(wait(line, why).unwrap(), "`it's` (or one of 4 errors)");
        let few = "Forcing a shell prompt, looking for ['a\\\\d', 'b']";
        assert_eq!(wait(few, why).unwrap(), r"`a\d` or `b`");
        assert_eq!(wait("x", why), None);
        let newer = [
            r#"x: Wait for prompts ["it's", 'a\\d', 'b', 'c', 'd'] (timeout 00:00:30)"#,
            r#"Setting prompt expect list to ["it's", 'a\\d', 'b', 'c', 'd']"#,
        ];
        assert_eq!(newer.map(|line| wait(line, why)), [wait(line, why), wait(line, why)], "since 2026.10");
        assert_eq!(wait(few, "lava-test-shell timed out after 9 seconds").unwrap(), "the end of the test");
    }

    proptest! {
        #[test]
        fn any_log_has_an_ending(texts in prop::collection::vec(
            "(Wait for prompt |Setting prompt string to )?[\\[\\]'\"a\\\\, ]{0,12}( \\(timeout )?", 0..8)
        ) {
            let records: Vec<(&str, Value)> = texts.iter().map(|text| ("exception", json!(text))).collect();
            prop_assert!(ending(&evidence("Canceled", &records, &texts.concat())).is_some());
        }
    }
}
