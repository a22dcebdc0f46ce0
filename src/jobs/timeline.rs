//! When a scenario waited, deployed, booted and tested, and what its board did
//! meanwhile. For people only; no verdict depends on it.

use chrono::{DateTime, NaiveDateTime};
use meta_lava_ghost::ledger;
use serde_json::Value;

use crate::event::{Lane, Span};
use crate::jobs::evidence::Evidence;
use crate::lava::actions::Mark;

/// Most stretches of one lane. A board that is reset again and again has many.
const MOST: usize = 200;

/// What is known of the times of a scenario, in seconds since LAVA took its job in.
/// The clocks of the server and of the workers are one where both are containers of
/// one engine.
#[must_use]
pub fn timeline(evidence: &Evidence) -> Vec<Span> {
    let at = |key: &str| evidence.details.get(key).and_then(Value::as_str).and_then(seconds);
    let Some(submitted) = at("submit_time") else { return Vec::new() };
    let mut spans = Vec::new();
    let actions = actions(evidence, submitted);
    if let Some(started) = at("start_time") {
        let started = started - submitted;
        spans.push(span(Lane::Lava, "queued", "queued", 0.0, started));
        // Until its process on the worker says the first word.
        if let Some(first) = actions.first() {
            spans.push(span(Lane::Lava, "starting", "starting", started, first.from));
        }
    }
    let last = actions.iter().map(|action| action.to).reduce(f64::max);
    spans.extend(actions);
    // Until LAVA has told the server, and the server everybody else.
    if let (Some(ended), Some(last)) = (at("end_time"), last) {
        spans.push(span(Lane::Lava, "ending", "ending", last, ended - submitted));
    }
    spans.extend(stages(evidence, submitted));
    spans.retain(|span| span.from.is_finite() && span.to >= span.from);
    spans
}

fn span(lane: Lane, kind: &str, name: &str, from: f64, to: f64) -> Span {
    let (kind, name) = (kind.into(), name.into());
    Span { lane, job: String::new(), kind, name, from: rounded(from), to: rounded(to) }
}

/// Milliseconds are enough for an eye.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// LAVA's outermost actions: `0 validate`, one for each action of the job, and `finalize`.
fn actions(evidence: &Evidence, submitted: f64) -> Vec<Span> {
    let kinds = kinds(&evidence.details);
    let mut spans: Vec<Span> = Vec::new();
    let mut last = 0.0;
    for mark in evidence.log.records().filter_map(Mark::of) {
        let Some(time) = seconds(&mark.time) else { continue };
        last = time - submitted;
        if mark.level.contains('.') {
            continue;
        }
        let until = rounded(last);
        let name = format!("{} {}", mark.level, mark.name);
        if mark.begins {
            if spans.len() == MOST {
                break;
            }
            let kind = match mark.level.parse::<usize>() {
                Ok(0) => "validate",
                Ok(level) => kinds.get(level - 1).map_or("finalize", String::as_str),
                Err(_) => "other",
            };
            // It lasts until its end is told, or the next one begins: LAVA does not
            // tell of the end of `validate`.
            for open in spans.iter_mut().filter(|span| span.to < 0.0) {
                open.to = until;
            }
            spans.push(span(Lane::Lava, kind, &name, last, -1.0));
        } else if let Some(open) = spans.iter_mut().rfind(|span| span.name == name) {
            open.to = until;
        }
    }
    for open in spans.iter_mut().filter(|span| span.to < 0.0) {
        open.to = rounded(last).max(open.from);
    }
    spans
}

/// The kind of each action of the job's definition: `deploy`, `boot`, `test`.
fn kinds(details: &Value) -> Vec<String> {
    let definition = details.get("definition").and_then(Value::as_str).unwrap_or_default();
    let definition: serde_yaml::Value = serde_yaml::from_str(definition).unwrap_or_default();
    let actions = definition.get("actions").and_then(serde_yaml::Value::as_sequence);
    let kind = |action: &serde_yaml::Value| {
        let first = action.as_mapping().and_then(|action| action.keys().next()?.as_str());
        first.unwrap_or("other").to_owned()
    };
    actions.into_iter().flatten().map(kind).collect()
}

/// What the first board ran.
fn stages(evidence: &Evidence, submitted: f64) -> Vec<Span> {
    let Some(entries) = evidence.ledgers.values().next() else { return Vec::new() };
    #[allow(clippy::cast_precision_loss)] // Microseconds of this century fit well enough.
    let at = |entry: &ledger::Entry| entry.time_us as f64 / 1e6 - submitted;
    let mut spans: Vec<Span> = Vec::new();
    let mut open: Option<(String, f64)> = None;
    for entry in entries {
        let ledger::Event::Stage { stage } = &entry.event else { continue };
        let name = serde_json::to_value(stage).ok().and_then(|name| Some(name.as_str()?.to_owned()));
        if let Some((before, since)) = open.take() {
            spans.push(span(Lane::Board, &before, &before, since, at(entry)));
        }
        if spans.len() == MOST {
            return spans;
        }
        open = name.filter(|_| *stage != ledger::Stage::Off).map(|name| (name, at(entry)));
    }
    if let (Some((name, since)), Some(last)) = (open, entries.last()) {
        spans.push(span(Lane::Board, &name, &name, since, at(last)));
    }
    spans
}

/// Seconds since 1970 of an ISO 8601 time, in UTC where it names no zone.
pub fn seconds(text: &str) -> Option<f64> {
    let time = DateTime::parse_from_rfc3339(text)
        .map(|time| time.naive_utc())
        .or_else(|_| text.parse::<NaiveDateTime>())
        .ok()?
        .and_utc();
    #[allow(clippy::cast_precision_loss)] // As above.
    Some(time.timestamp_micros() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(evidence: &Evidence) -> Vec<String> {
        timeline(evidence)
            .iter()
            .map(|span| format!("{:?} {} {} {}..{}", span.lane, span.kind, span.name, span.from, span.to))
            .collect()
    }

    fn evidence(log: &[(&str, &str)], stages: &[(u64, ledger::Stage)]) -> Evidence {
        let line = |(time, text): &(&str, &str)| {
            format!("- {{\"dt\": \"2026-11-23T20:24:{time}\", \"lvl\": \"info\", \"msg\": \"{text}\"}}\n")
        };
        let entry = |(at, stage): &(u64, ledger::Stage)| ledger::Entry {
            time_us: 1_795_465_476_000_000 + at,
            event: ledger::Event::Stage { stage: *stage },
        };
        Evidence {
            details: serde_json::json!({
                "submit_time": "2026-11-23T20:24:36.000000Z",
                "start_time": "2026-11-23T20:24:37.500000Z",
                "end_time": "2026-11-23T20:24:46.000000Z",
                "definition": "actions:\n- deploy: {to: tftp}\n- boot: {method: u-boot}\n- test: {}\n",
            }),
            log: log.iter().map(line).collect::<String>().into_bytes().into(),
            ledgers: [("bbb-01".to_owned(), stages.iter().map(entry).collect())].into(),
            ..Evidence::default()
        }
    }

    #[test]
    fn lavas_actions_and_the_boards_stages_are_on_one_clock() {
        use ledger::Stage::{Firmware, Kernel, Off};
        let log = [
            ("39", "start: 0 validate"),
            ("40", "start: 1 tftp-deploy (timeout 00:01:00) [common]"),
            ("40", "start: 1.1 download-retry (timeout 00:01:00) [common]"),
            ("41.25", "end: 1 tftp-deploy (duration 00:00:01) [common]"),
            ("41.5", "start: 2 uboot-action (timeout 00:02:00) [common]"),
            ("43", "end: 2 uboot-action (duration 00:00:01) [common]"),
            ("44", "start: 4 finalize (timeout 00:02:00) [common]"),
            ("44.5", "start: 4.1 power-off (timeout 00:02:00) [common]"),
        ];
        let stages = [(5_000_000, Firmware), (6_000_000, Kernel), (8_500_000, Off)];
        assert_eq!(
            told(&evidence(&log, &stages)),
            [
                "Lava queued queued 0..1.5",
                "Lava starting starting 1.5..3",
                "Lava validate 0 validate 3..4",
                "Lava deploy 1 tftp-deploy 4..5.25",
                "Lava boot 2 uboot-action 5.5..7",
                "Lava finalize 4 finalize 8..8.5",
                "Lava ending ending 8.5..10",
                "Board firmware firmware 5..6",
                "Board kernel kernel 6..8.5",
            ]
        );
    }

    #[test]
    fn rubbish_has_no_timeline() {
        assert_eq!(timeline(&Evidence::default()), []);
        let mut odd = evidence(&[("99:99", "start: 1 x")], &[]);
        odd.details["definition"] = "][".into();
        odd.details["start_time"] = "yesterday".into();
        assert_eq!(told(&odd), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_times_are_stretches_that_end_after_they_began(
            (submit, start, definition) in ("[0-9T:.Z+-]{0,30}", ".*", ".*"),
            marks in prop::collection::vec(("[0-9:.]{1,6}", "(start|end): [0-9]{0,20} .{0,10}"), 0..8),
            at in prop::collection::vec(any::<u64>(), 0..4),
        ) {
            let marks: Vec<(&str, &str)> = marks.iter().map(|(time, text)| (time.as_str(), text.as_str())).collect();
            let stages: Vec<_> = at.iter().map(|at| (at >> 12, ledger::Stage::Kernel)).collect();
            let mut evidence = evidence(&marks, &stages);
            evidence.details["definition"] = definition.into();
            for (submit, start) in [("2026-11-23T20:24:36Z", "2026-11-23T20:24:36Z"), (submit.as_str(), start.as_str())] {
                evidence.details["submit_time"] = submit.into();
                evidence.details["start_time"] = start.into();
                for span in timeline(&evidence) {
                    prop_assert!(span.from.is_finite() && span.from <= span.to);
                }
            }
        }
    }
}
