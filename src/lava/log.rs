//! LAVA's log, a record a line (`lava_common/log.py`, `lava_dispatcher/logger.py`):
//!
//! ```text
//! - {"dt": "2024-11-23T06:08:00.123456", "lvl": "debug", "msg": "start: 1 tftp-deploy (timeout 00:05:00) [common]"}
//! - {"dt": "...", "lvl": "results", "msg": {"case": "validate", "definition": "lava", "result": "pass"}}
//! - {"dt": "...", "lvl": "feedback", "msg": "hello", "ns": "host"}
//! ```
//!
//! It is YAML, and read here once, line by line.

use serde_json::Value;

/// Longest line that is read, in bytes. LAVA itself cuts at 10^6.
const LINE: usize = 2_000_000;
/// How much is kept of a line that is no record, in bytes.
const OTHER: usize = 200;

/// The log of a job: as it came, and what it says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Log {
    raw: Vec<u8>,
    lines: Vec<Line>,
}

/// A line that is not blank.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// One that LAVA wrote.
    Record(Record),
    /// Something else; its beginning.
    Other(String),
}

/// What LAVA wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When, as the worker's clock has it: ISO 8601, UTC, without a zone.
    pub time: String,
    /// LAVA's word for the kind of record: `debug`, `info`, `results`, `target`, ...
    pub level: String,
    /// The namespace, where it is another than the action's.
    pub namespace: Option<String>,
    /// A text, or the values of a result.
    pub message: Value,
}

/// Whose words a record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// LAVA's own.
    Lava,
    /// What LAVA typed.
    Input,
    /// What the board printed.
    Target,
    /// What boards in other namespaces printed meanwhile, or this one when the job ended.
    Feedback,
}

impl From<Vec<u8>> for Log {
    fn from(raw: Vec<u8>) -> Self {
        let lines = raw.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        Self { lines: lines.map(Line::parse).collect(), raw }
    }
}

impl Log {
    /// The log as it came.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// What it says.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The records among its lines.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.lines.iter().filter_map(|line| match line {
            Line::Record(record) => Some(record),
            Line::Other(_) => None,
        })
    }

    /// The results of the job itself, its last one each time that it was run (`lava/dispatcher/lava-run`).
    pub fn of_job(&self) -> impl Iterator<Item = &Record> {
        self.records().filter(|record| {
            let is = |key: &str, value: &str| record.message.get(key).is_some_and(|found| found == value);
            record.level == "results" && is("definition", "lava") && is("case", "job")
        })
    }

    /// Whether LAVA gave the job up after an error: its last result says so.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.of_job().any(|record| record.message.get("result").is_some_and(|result| result == "fail"))
    }
}

impl Line {
    /// What a line says.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        let other = || Self::Other(String::from_utf8_lossy(&line[..line.len().min(OTHER)]).into_owned());
        Record::parse(line).map_or_else(other, Self::Record)
    }
}

impl Record {
    fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > LINE {
            return None;
        }
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end().strip_prefix("- ")?;
        // Nearly all records are JSON too, which is read ten times as fast; those with
        // YAML's tags (`!!int "4"`) or escapes (`\e`) are not.
        // LAVA writes numbers as `! "4"`, a tag without a name, which is no string's
        // part where it follows a key: quotes in strings are escaped.
        let record: Value = serde_json::from_str(text)
            .or_else(|_| {
                let text = text.replace("\": ! \"", "\": \"").replace("\": !!int \"", "\": \"");
                serde_json::from_str(&text).or_else(|_| serde_yaml::from_str(&text))
            })
            .ok()?;
        let Value::Object(mut record) = record else { return None };
        let text = |key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
        let (time, level, namespace) = (text("dt").unwrap_or_default(), text("lvl")?, text("ns"));
        Some(Self { time, level, namespace, message: record.remove("msg")? })
    }

    /// Whose words it has.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self.level.as_str() {
            "input" => Origin::Input,
            "target" => Origin::Target,
            "feedback" => Origin::Feedback,
            _ => Origin::Lava,
        }
    }

    /// Its text, where it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.message.as_str()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn message(line: &str) -> Value {
        match Line::parse(line.as_bytes()) {
            Line::Record(record) => record.message,
            Line::Other(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_number_with_an_empty_tag_is_read() {
        let found = message(r#"- {"dt": "x", "lvl": "results", "msg": {"size": ! "65536", "n": !!int "4"}}"#);
        assert_eq!(found, json!({"size": "65536", "n": "4"}));
        assert_eq!(message(r#"- {"dt": "x", "lvl": "debug", "msg": "\e[0m"}"#), json!("\u{1b}[0m"));
        let both =
            message(r#"- {"dt": "x", "lvl": "results", "msg": {"case": "\xFC\a", "starttc": ! "218"}}"#);
        assert_eq!(both, json!({"case": "ü\u{7}", "starttc": "218"}));
    }

    #[test]
    fn a_job_is_given_up_when_its_last_result_says_so() {
        let given_up = |result: &str| {
            let line = format!(
                "- {{\"dt\": \"x\", \"lvl\": \"results\", \"msg\": {{\"case\": \"job\", \"definition\": \"lava\", \"result\": \"{result}\"}}}}\n"
            );
            Log::from(line.into_bytes()).is_given_up()
        };
        assert!(given_up("fail"));
        assert!(!given_up("pass"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_lines(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let log = Log::from(bytes.clone());
            prop_assert_eq!(log.raw(), bytes);
            let _ = log.is_given_up();
        }

        #[test]
        fn what_was_written_is_read(level in "[a-z]{1,9}", text in ".*", namespace in prop::option::of(".*")) {
            let record = json!({"dt": "now", "lvl": level, "msg": text, "ns": namespace});
            let line = Line::parse(format!("- {record}").as_bytes());
            let time = "now".to_owned();
            prop_assert_eq!(line, Line::Record(Record { time, level, namespace, message: text.into() }));
        }
    }
}
