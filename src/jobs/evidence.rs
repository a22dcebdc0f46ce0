//! What came back of one scenario, from both sides, as it came.

use std::collections::BTreeMap;

use chrono::{NaiveTime, TimeDelta};
use meta_lava_ghost::ledger::{Entry, Event};
use serde_json::Value;

use crate::jobs::announced::Announced;
use crate::jobs::requests::Answered;
use crate::lava::log::Log;

/// Everything the verdict is made of. Raw: nothing is masked here.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// LAVA's job id, `None` when LAVA refused the job.
    pub job: Option<String>,
    /// `GET jobs/ID/` as JSON.
    pub details: Value,
    /// `GET jobs/ID/logs/`: LAVA's log.
    pub log: Log,
    /// `GET /scheduler/job/ID/description`: the pipeline that LAVA made of the job, YAML
    /// as it was sent; empty where LAVA has none.
    pub pipeline: Vec<u8>,
    /// `GET jobs/ID/suites/` and `jobs/ID/tests/`: suite name to tests, JSON as it was sent.
    pub suites: Vec<(String, Vec<Value>)>,
    /// `GET jobs/ID/metadata/`.
    pub metadata: Value,
    /// What LAVA said to the scenario's own requests after the job.
    pub answers: Vec<Answered>,
    /// What lava-worker's own log says of the job, a line each; asked for only where LAVA [has no
    /// log](Self::is_doubtful) of how it ended.
    pub worker: Vec<String>,
    /// What LAVA's event stream told meanwhile.
    pub announced: Announced,
    /// Board name to its ledger.
    pub ledgers: BTreeMap<String, Vec<Entry>>,
    /// Contents of files that ledgers name by sha256 (LAVA's overlay), by sha256.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// What serial ports printed.
    pub consoles: BTreeMap<Port, Vec<u8>>,
}

/// A serial port of a board.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The board's name.
    pub board: String,
    /// Its number there, from 0.
    pub uart: usize,
}

impl From<&str> for Port {
    /// A board's first one.
    fn from(board: &str) -> Self {
        Self { board: board.to_owned(), uart: 0 }
    }
}

/// The longest that the kernel was seen to take until a program has its command line, at a load of 20 on two
/// processors, was 412 ms. Counted from when lava-worker last had something else to do for the job:
/// on a busy machine the server's answer alone takes longer. A `lava-run` that fails as early does so
/// again when its scenario is run once more.
const BEGINS: TimeDelta = TimeDelta::seconds(1);

/// The violation of a board one of whose faults has not happened: such a scenario tests nothing.
pub const UNMET_FAULT: &str = "fault-never-happened";

impl Evidence {
    /// Adds to the ledger of `board` which of its `faults`, in their order, have not happened.
    pub fn note_unmet_faults(&mut self, board: &str, faults: &[String]) {
        let entries = self.ledgers.entry(board.to_owned()).or_default();
        let time_us = entries.last().map_or(0, |entry| entry.time_us);
        for (at, fault) in faults.iter().enumerate() {
            let is_it =
                |entry: &Entry| matches!(entry.event, Event::Fault { number, .. } if number == at + 1);
            if !entries.iter().any(is_it) {
                let (what, detail) = (UNMET_FAULT.to_owned(), format!("{} {fault}", at + 1));
                entries.push(Entry { time_us, event: Event::Violation { what, detail } });
            }
        }
    }

    /// Leaves out what the boards had taken down already when the job `before` this one, on the same
    /// boards, had ended.
    pub fn begin_after(&mut self, before: &Self) {
        for (board, entries) in &mut self.ledgers {
            let is_own = |entry: &&Entry| !matches!(&entry.event, Event::Violation { what, .. } if what == UNMET_FAULT);
            let known = before.ledgers.get(board).map_or(0, |entries| entries.iter().filter(is_own).count());
            entries.drain(..known.min(entries.len()));
        }
        for (port, console) in &mut self.consoles {
            let known = before.consoles.get(port).map_or(0, Vec::len);
            console.drain(..known.min(console.len()));
        }
    }

    /// What the first board printed, on the first of its serial ports that printed anything.
    #[must_use]
    pub fn first_console(&self) -> &[u8] {
        let Some((first, _)) = self.consoles.first_key_value() else { return &[] };
        let of_it = self.consoles.iter().filter(|(port, _)| port.board == first.board);
        of_it.map(|(_, console)| console.as_slice()).find(|console| !console.is_empty()).unwrap_or_default()
    }

    /// Whether there is no log of the end that LAVA tells of: none at all, or one that does not say that the job was given up. The latter is
    /// that of a guest: as its host runs still, LAVA begins it once more (docs/findings.md).
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        let health = self.details.get("health").and_then(Value::as_str);
        self.log.lines().is_empty() || health == Some("Incomplete") && !self.log.is_given_up()
    }

    /// Whether LAVA's worker took the job for ended as it began (docs/findings.md): LAVA has
    /// neither a log nor a comment of that end, and by lava-worker's own log it was over before it can
    /// have begun.
    #[must_use]
    pub fn was_lost(&self) -> bool {
        let detail = |key: &str| self.details.get(key).and_then(Value::as_str).unwrap_or_default();
        let time = |message: &str| {
            let line = self.worker.iter().find(|line| line.ends_with(message))?;
            NaiveTime::parse_from_str(line.split_ascii_whitespace().next()?, "%H:%M:%S,%3f").ok()
        };
        let took = || {
            let started = time(" Starting job")?;
            let told = time(" RUNNING => server").unwrap_or(started);
            Some(time(" running -> finished")? - started.max(told))
        };
        self.is_doubtful()
            && detail("health") == "Incomplete"
            && detail("failure_comment").is_empty()
            && took().is_some_and(|took| took >= TimeDelta::zero() && took < BEGINS)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_that_never_happened_is_a_violation() {
        let mut evidence = Evidence::default();
        let happened = Event::Fault { number: 2, detail: "start: hang".into() };
        evidence.ledgers.insert("b".into(), vec![Entry { time_us: 7, event: happened }]);
        evidence.note_unmet_faults("b", &["power off: exit 1".into(), "start: hang".into()]);
        let [_, Entry { time_us: 7, event: Event::Violation { what, detail } }] = &evidence.ledgers["b"][..]
        else {
            panic!("{:?}", evidence.ledgers);
        };
        assert_eq!((what.as_str(), detail.as_str()), (UNMET_FAULT, "1 power off: exit 1"));
    }

    #[test]
    fn the_second_of_two_jobs_begins_where_the_boards_were_when_the_first_had_ended() {
        let of = |stages: usize, console: &[u8]| {
            let entry =
                Entry { time_us: 7, event: Event::Violation { what: "w".into(), detail: "d".into() } };
            Evidence {
                ledgers: [("b".to_owned(), vec![entry; stages])].into(),
                consoles: [("b".into(), console.to_vec())].into(),
                ..Evidence::default()
            }
        };
        let mut first = of(2, b"first ");
        first.note_unmet_faults("b", &["start: hang".into()]);
        let mut second = of(3, b"first second");
        second.begin_after(&first);
        assert_eq!((second.ledgers["b"].len(), second.first_console()), (1, &b"second"[..]));
    }

    #[test]
    fn the_first_console_is_of_the_first_board_on_the_port_that_printed() {
        let port = |board: &str, uart| Port { board: board.into(), uart };
        let mut evidence = Evidence::default();
        assert_eq!(evidence.first_console(), b"");
        evidence.consoles.insert(port("a", 0), Vec::new());
        evidence.consoles.insert(port("b", 0), b"b".to_vec());
        assert_eq!(evidence.first_console(), b"");
        evidence.consoles.insert(port("a", 1), b"a".to_vec());
        assert_eq!(evidence.first_console(), b"a");
    }

    #[test]
    fn a_job_was_lost_if_it_was_over_before_it_can_have_begun() {
        let lost = Evidence {
            details: json!({ "health": "Incomplete", "failure_comment": null }),
            worker: vec![
                "05:03:14,393 server => START".into(),
                "05:03:14,414 Starting job".into(),
                "05:03:14,442 running -> finished".into(),
            ],
            ..Evidence::default()
        };
        assert!(lost.was_lost());
        let mut late = lost.clone();
        late.worker.insert(2, "05:03:15,100 RUNNING => server".into());
        late.worker[3] = "05:03:15,142 running -> finished".into();
        assert!(late.was_lost(), "the server took long to answer");
        let but = |change: &dyn Fn(&mut Evidence)| {
            let mut evidence = lost.clone();
            change(&mut evidence);
            evidence.was_lost()
        };
        assert!(!but(&|e| e.details["failure_comment"] = "lava-run crashed".into()));
        assert!(!but(&|e| e.details["health"] = "Complete".into()));
        assert!(!but(&|e| e.worker[2] = "05:03:15,442 running -> finished".into()));
        assert!(!but(&|e| e.worker.truncate(2)));
        assert!(but(&|e| e.log = b"- {dt: 2026-11-26T05:03:15, lvl: info, msg: x}\n".to_vec().into()));
        let ended = |result: &str| {
            let said = format!(
                "- {{dt: 2026-11-26T05:03:15, lvl: results, msg: {{definition: lava, case: job, result: {result}}}}}\n"
            );
            but(&|e| e.log = said.clone().into_bytes().into())
        };
        assert!(ended("pass"), "a guest that was begun once more");
        assert!(!ended("fail"));
    }
}
