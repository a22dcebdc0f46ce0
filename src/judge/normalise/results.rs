//! LAVA's results: what its users read and its CI believes.

use serde_json::Value;

use super::Normaliser;
use super::answers;
use super::log::spaced;
use super::masks::Scope;
use super::rows::{Row, Rows, Seen};
use crate::jobs::evidence::Evidence;
use crate::jobs::timeline::seconds;
use crate::text::quoted_if_unclear;

/// Fields of `GET jobs/ID/` that are LAVA's answer to the job.
const DETAILS: [&str; 9] = [
    "health",
    "state",
    "description",
    "requested_device_type",
    "actual_device",
    "priority",
    "health_check",
    "failure_tags",
    "failure_comment",
];

/// Keys of a test case's metadata that are shown elsewhere or vary.
const METADATA_ELSEWHERE: [&str; 9] =
    ["case", "definition", "result", "measurement", "units", "set", "duration", "starttc", "endtc"];

/// The results as lines that are equal from run to run.
#[must_use]
pub fn normalise(evidence: &Evidence, normaliser: Normaliser<'_>) -> Rows {
    let mask = |text: &str| quoted_if_unclear(&normaliser.line(Scope::Results, text));
    let mut rows = Rows::default();
    rows.push("job");
    if evidence.job.is_none() {
        rows.push("  refused by LAVA");
        if let Some(message) = evidence.details.get("message").and_then(Value::as_str) {
            rows.push(format!("  message: {}", mask(message)));
        }
    }
    for field in DETAILS {
        if let Some(value) = evidence.details.get(field).filter(|value| !is_empty(value)) {
            rows.push(format!("  {field}: {}", mask(&plain(value))));
        }
    }
    if let Some(id) = &evidence.job {
        let announced = &evidence.announced;
        let line = |states: Vec<String>| match states.as_slice() {
            [] => "nothing".to_owned(),
            states => mask(&states.join(", ")),
        };
        let states = announced.job(id);
        let states = states.iter().map(|event| format!("{} {}", event.state, event.health));
        rows.push("announced");
        rows.push(format!("  job: {}", line(states.collect())));
        for device in &announced.devices {
            let states = announced.device(id, device);
            let states = states.iter().map(|event| format!("{} {}", event.state, event.health));
            rows.push(format!("  device {}: {}", mask(device), line(states.collect())));
        }
        if announced.cut {
            rows.push("  and more than is kept");
        }
    }
    let attributes = attributes(&evidence.metadata);
    if !attributes.is_empty() {
        rows.push("metadata");
        let mut lines: Vec<String> =
            attributes.iter().map(|(name, value)| format!("  {}: {}", mask(name), mask(value))).collect();
        lines.sort();
        rows.0.extend(lines.into_iter().map(Row::from));
    }
    let length = length(&evidence.details);
    for (suite, tests) in &evidence.suites {
        rows.push(format!("suite {}", mask(suite)));
        let mut tests: Vec<&Value> = tests.iter().collect();
        // The order in which LAVA stored them; the answer has no order of its own.
        tests.sort_by_key(|test| test.get("id").and_then(Value::as_u64));
        for test in tests {
            let name = test.get("name").and_then(Value::as_str).unwrap_or_default();
            rows.push_seen(format!("  {}", case(suite, test, length, &mask)), Seen::Case(mask(name)));
        }
    }
    answers::normalise(&evidence.answers, normaliser, &mut rows);
    rows
}

/// How long the job ran, in seconds, if LAVA tells.
fn length(details: &Value) -> Option<f64> {
    let at = |key: &str| details.get(key).and_then(Value::as_str).and_then(seconds);
    Some(at("end_time")? - at("start_time")?)
}

/// Whether something in a job of this length can have taken so many seconds. The server's
/// clock tells the one, the worker's the other.
fn is_duration(seconds: &str, length: Option<f64>) -> bool {
    seconds
        .parse::<f64>()
        .is_ok_and(|seconds| seconds >= 0.0 && length.is_none_or(|length| seconds <= length + 1.0))
}

/// `set/name: result measurement units (metadata)`.
fn case(suite: &str, test: &Value, length: Option<f64>, mask: &impl Fn(&str) -> String) -> String {
    let field = |name: &str| test.get(name).filter(|value| !is_empty(value));
    let metadata = metadata(test);
    let of_metadata = |wanted: &str| metadata.iter().find(|(key, _)| key == wanted).map(|(_, value)| value);
    let mut line = String::new();
    match (of_metadata("set"), field("test_set")) {
        (Some(set), Some(_)) => line.push_str(&format!("{}/", mask(set))),
        // LAVA lost one of the two.
        (Some(set), None) => line.push_str(&format!("[not in set {}] ", mask(set))),
        (None, Some(_)) => line.push_str("[in an unknown set] "),
        (None, None) => {}
    }
    let plain_field = |name: &str| field(name).map(plain);
    line.push_str(&mask(&plain_field("name").unwrap_or_default()));
    line.push_str(&format!(": {}", mask(&plain_field("result").unwrap_or_else(|| "no result".into()))));
    if let Some(measurement) = plain_field("measurement") {
        // In LAVA's own suite a measurement is how long an action took.
        let shown = if suite == "lava" && is_duration(&measurement, length) {
            "[DURATION]".to_owned()
        } else {
            mask(&short_decimal(&measurement))
        };
        line.push_str(&format!(" {shown}"));
    }
    if let Some(unit) = plain_field("unit").or_else(|| plain_field("units")) {
        line.push_str(&format!(" {}", mask(&unit)));
    }
    let shown: Vec<String> = metadata
        .iter()
        .filter(|(key, _)| !METADATA_ELSEWHERE.contains(&key.as_str()))
        .map(|(key, value)| format!("{}: {}", mask(key), mask(value)))
        .collect();
    if !shown.is_empty() {
        line.push_str(&format!(" ({})", shown.join(", ")));
    }
    line
}

/// The metadata of a test case, sorted: YAML in a string, or, where it is none, that string.
fn metadata(test: &Value) -> Vec<(String, String)> {
    let text = match test.get("metadata") {
        Some(Value::String(text)) => text.as_str(),
        Some(Value::Object(map)) => {
            return map.iter().map(|(key, value)| (key.clone(), plain(value))).collect();
        }
        _ => return Vec::new(),
    };
    match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Object(map)) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Ok(Value::Null) => Vec::new(),
        _ => vec![("metadata".into(), text.to_owned())],
    }
}

/// `GET jobs/ID/metadata/`: a list of `{"name", "value"}`, alone or in a key.
fn attributes(metadata: &Value) -> Vec<(String, String)> {
    let list = match metadata {
        Value::Array(list) => list.as_slice(),
        Value::Object(map) => {
            let mut attributes = Vec::new();
            for (key, value) in map {
                match value {
                    Value::Array(list) if list.iter().all(|item| item.get("name").is_some()) => {
                        attributes.extend(self::attributes(&Value::Array(list.clone())));
                    }
                    other => attributes.push((key.clone(), plain(other))),
                }
            }
            return attributes;
        }
        _ => return Vec::new(),
    };
    let text = |item: &Value, name: &str| item.get(name).map(plain).unwrap_or_default();
    list.iter().map(|item| (text(item, "name"), text(item, "value"))).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => spaced(other),
    }
}

/// A decimal without the zeros that the database pads it with: 2023.01 says `42.0000000000`.
fn short_decimal(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, part)) if part.bytes().all(|byte| byte.is_ascii_digit()) => {
            let part = part.trim_end_matches('0');
            if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use serde_json::json;

    use super::*;
    use crate::jobs::announced::tests::announced;
    use crate::judge::normalise::{Context, Masks};

    fn results(evidence: &Evidence) -> String {
        let masks = Masks::new();
        let context = Context::new(evidence.job.as_deref());
        normalise(evidence, Normaliser { masks: &masks, context: &context }).text()
    }

    #[test]
    fn results_are_a_text_that_a_person_can_read() {
        let evidence = Evidence {
            job: Some("12".into()),
            details: json!({
                "id": 12, "health": "Complete", "state": "Finished", "description": "bbb", "failure_comment": "",
                "requested_device_type": "beaglebone-black", "actual_device": "bbb-01", "priority": 50,
                "health_check": false, "failure_tags": [],
            }),
            metadata: json!({"metadata": [{"name": "b", "value": "2"}, {"name": "a", "value": "job 12"}]}),
            suites: vec![
                (
                    "lava".into(),
                    vec![
                        json!({"id": 2, "name": "http-download", "result": "pass", "measurement": "0.0100000000", "unit": "seconds",
                            "metadata": "case: http-download\ndefinition: lava\nduration: '0.01'\nextra: /var/lib/lava-server/default/media/job-output/2024/11/23/12/metadata/lava-http-download-1.1.1.yaml\nlevel: 1.1.1\nnamespace: common\nresult: pass\n"}),
                        json!({"id": 1, "name": "validate", "result": "pass", "metadata": "case: validate\n"}),
                    ],
                ),
                (
                    "0_smoke".into(),
                    vec![
                        json!({"id": 3, "name": "ping <b>\u{1b}", "result": "fail", "metadata": "set: net\n", "test_set": 4}),
                        json!({"id": 4, "name": "speed", "result": "pass", "measurement": "42.5000000000", "unit": "MB/s", "metadata": "set: net\n"}),
                        json!({"id": 5, "name": "odd", "result": "unknown", "metadata": "[1"}),
                    ],
                ),
            ],
            announced: announced(
                "12",
                &["bbb-01"],
                &[(1, "job 12 Submitted Unknown"), (2, "job 12 Finished Complete")],
            ),
            ..Evidence::default()
        };
        insta::assert_snapshot!(results(&evidence), @r"
        job
          health: Complete
          state: Finished
          description: bbb
          requested_device_type: beaglebone-black
          actual_device: bbb-01
          priority: 50
          health_check: false
        announced
          job: Submitted Unknown, Finished Complete
          device bbb-01: nothing
        metadata
          a: job [JOB_ID]
          b: 2
        suite lava
          validate: pass
          http-download: pass [DURATION] seconds (extra: /var/lib/lava-server/default/media/job-output/[DATE]/[JOB_ID]/metadata/lava-http-download-1.1.1.yaml, level: 1.1.1, namespace: common)
        suite 0_smoke
          net/ping <b>\x1b: fail
          [not in set net] speed: pass 42.5 MB/s
          odd: unknown (metadata: [1)
        ");
    }

    #[test]
    fn an_action_that_took_longer_than_its_job_did_not() {
        let evidence = Evidence {
            details: json!({"start_time": "2026-11-25T03:00:00Z", "end_time": "2026-11-25T03:00:08.5Z"}),
            suites: vec![(
                "lava".into(),
                ["8.5", "9.6", "-0.1", "long"]
                    .map(|seconds| json!({"name": "boot", "measurement": seconds, "unit": "seconds"}))
                    .into(),
            )],
            ..Evidence::default()
        };
        let text = results(&evidence);
        let told: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("  boot: no result ")).collect();
        assert_eq!(told, ["[DURATION] seconds", "9.6 seconds", "-0.1 seconds", "long seconds"]);
    }

    #[test]
    fn a_job_that_lava_refused_says_so() {
        let evidence =
            Evidence { details: json!({"message": "Invalid definition: x"}), ..Evidence::default() };
        insta::assert_snapshot!(results(&evidence), @"
        job
          refused by LAVA
          message: Invalid definition: x
        ");
    }

    #[test]
    fn a_decimal_loses_its_padding_only() {
        for (text, short) in
            [("42.0000000000", "42"), ("0.1000", "0.1"), ("100", "100"), ("x.0y", "x.0y"), ("-1.50", "-1.5")]
        {
            assert_eq!(short_decimal(text), short);
        }
    }

    proptest! {
        #[test]
        fn any_results_are_lines_that_a_terminal_may_show(
            name in ".*", result in ".*", metadata in ".*", suite in ".*", message in ".*",
        ) {
            let test = json!({"id": 1, "name": name, "result": result, "metadata": metadata, "test_set": message});
            let evidence = Evidence {
                details: json!({"message": message, "health": [result], "failure_comment": {&name: metadata}}),
                metadata: json!([{"name": name, "value": metadata}, 1, null]),
                suites: vec![(suite, vec![test, json!(null), json!({"metadata": {&name: 1}})])],
                ..Evidence::default()
            };
            prop_assert!(!results(&evidence).chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
