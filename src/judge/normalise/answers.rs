//! What LAVA's server said to a scenario's own requests, as the last part of its results.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::Normaliser;
use super::masks::Scope;
use super::rows::Rows;
use crate::jobs::requests::{Answered, Said};
use crate::lava::api::Reply;
use crate::lava::xmlrpc::Scalar;
use crate::scenario::request::{Ask, Request, Show};
use crate::text::quoted_if_unclear;

/// Most lines of an answer that are shown: a program's answer is shorter, and a person reads no more.
const LINES: usize = 400;

/// What stands between `<title>` and its end.
static TITLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)<title[^>]*>(?<title>.*?)</title>").expect("a pattern of our own"));

/// The answers as lines that are equal from run to run.
pub fn normalise(answers: &[Answered], normaliser: Normaliser<'_>, rows: &mut Rows) {
    if answers.is_empty() {
        return;
    }
    let mask = |text: &str| {
        let text = normaliser.masks.apply(Scope::Answers, text);
        quoted_if_unclear(&normaliser.line(Scope::Results, &text))
    };
    rows.push("requests");
    for Answered { request, said, has } in answers {
        let most = if request.show == Show::All { LINES } else { 0 };
        rows.push(format!("  {}", mask(&request.to_string())));
        match said {
            Said::Fault(fault) => rows.push(format!("    {}", mask(fault))),
            Said::Value(scalars) => {
                rows.push("    answer");
                let text: String = scalars.iter().map(scalar).collect();
                show(text.lines(), most, &mask, rows);
            }
            Said::Reply(reply) => {
                let told = [Some(reply.status.to_string()), Some(reply.kind.clone()), reply.location.clone()];
                let told: Vec<String> = told.into_iter().flatten().filter(|text| !text.is_empty()).collect();
                rows.push(format!("    {}", mask(&told.join(" "))));
                let text = body(request, reply);
                show(text.lines(), most, &mask, rows);
                for (text, has) in request.has.iter().zip(has) {
                    rows.push(format!("      has {}: {}", mask(text), if *has { "yes" } else { "no" }));
                }
                if reply.broken {
                    rows.push("    broken off");
                }
            }
        }
    }
}

/// The first `most` of `lines`; none at all where that is 0.
fn show<'a>(
    lines: impl Iterator<Item = &'a str>,
    most: usize,
    mask: &impl Fn(&str) -> String,
    rows: &mut Rows,
) {
    let mut lines = lines.peekable();
    for line in lines.by_ref().take(most) {
        rows.push(format!("      {}", mask(line)).trim_end().to_owned());
    }
    if most > 0 && lines.peek().is_some() {
        rows.push("      and more");
    }
}

/// A scalar in a line, or in several where it has several.
fn scalar(scalar: &Scalar) -> String {
    let Scalar { member, text } = scalar;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = if is_number && is_numbered(member) { "[NUMBER]" } else { text };
    if member.is_empty() { format!("{text}\n") } else { format!("{member}: {text}\n") }
}

/// An answer's text: JSON as YAML, key by key, with the database's own numbers left out. Of a page for
/// people its title: how it looks is not what a job is judged by.
fn body(request: &Request, reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    if reply.kind == "text/html" {
        let Some(found) = TITLE.captures(&text) else { return "without a title".into() };
        let words = found["title"].split_whitespace().map(|word| {
            // The number of a job or of a test case.
            if word.bytes().all(|byte| byte.is_ascii_digit()) { "[NUMBER]" } else { word }
        });
        return words.collect::<Vec<_>>().join(" ");
    }
    match serde_json::from_slice::<Value>(&reply.body) {
        Ok(mut value) if reply.kind.ends_with("json") => {
            if !is_ordered(request) {
                sort(&mut value);
            }
            serde_yaml::to_string(&without_ids(value)).unwrap_or_else(|_| text.into_owned())
        }
        _ => text.into_owned(),
    }
}

/// Whether an order was asked for. Without `ordering` the REST API gives the items of a list as the database happens to
/// find them, which is not how they were made where several processes of the server write at a time.
fn is_ordered(request: &Request) -> bool {
    matches!(&request.ask, Ask::Http { path, .. } if path.contains("ordering="))
}

/// The items of a list of the REST API in the order in which they were made, where they have numbers.
fn sort(value: &mut Value) {
    if let Some(Value::Array(items)) = value.get_mut("results") {
        items.sort_by_key(|item| item.get("id").and_then(Value::as_u64));
    }
}

/// `value` with each number that the database gave an object replaced.
fn without_ids(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| {
                let value = if is_numbered(&key) { unnumbered(value) } else { without_ids(value) };
                (key, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(without_ids).collect(),
        other => other,
    }
}

/// Whether a key's value is a number that the database gave, or a line of LAVA's log: of the REST API's serialisers
/// (`lava_rest_app/v02`) and of XML-RPC (`lava_scheduler_app/api`).
fn is_numbered(key: &str) -> bool {
    const KEYS: [&str; 11] = [
        "id",
        "job",
        "suite",
        "test_set",
        "tags",
        "viewing_groups",
        "physical_owner",
        "physical_group",
        "job_ids",
        "start_log_line",
        "end_log_line",
    ];
    KEYS.contains(&key) || key.ends_with("_id")
}

fn unnumbered(value: Value) -> Value {
    match value {
        Value::Number(_) => "[NUMBER]".into(),
        Value::Array(items) => items.into_iter().map(unnumbered).collect(),
        other => without_ids(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::judge::normalise::{Context, Masks};

    fn shown(answers: &[Answered]) -> String {
        let (masks, mut context) = (Masks::new(), Context::new(Some("12")));
        context.add("[SERVER]", "127.0.0.1:32768");
        let mut rows = Rows::default();
        normalise(answers, Normaliser { masks: &masks, context: &context }, &mut rows);
        rows.text()
    }

    fn answered(request: &str, said: Said) -> Answered {
        let request: Request = serde_yaml::from_str(request).unwrap();
        Answered { request, said, has: vec![true] }
    }

    fn scalar(member: &str, text: &str) -> Scalar {
        Scalar { member: member.into(), text: text.into() }
    }

    fn reply(status: u16, kind: &str, body: &str) -> Said {
        let (kind, body) = (kind.to_owned(), body.as_bytes().to_vec());
        Said::Reply(Reply { status, kind, location: None, body, broken: false })
    }

    #[test]
    fn a_list_without_an_order_is_taken_as_it_was_made() {
        let of = |path: &str, ids: [u64; 2]| {
            let items = ids.map(|id| json!({"id": id, "name": format!("test {id}")}));
            let list = json!({ "results": items }).to_string();
            shown(&[answered(&format!("get: {path}"), reply(200, "application/json", &list))])
        };
        assert_eq!(of("/tests/", [8, 9]), of("/tests/", [9, 8]));
        assert_ne!(of("/tests/?ordering=id", [8, 9]), of("/tests/?ordering=id", [9, 8]));
    }

    #[test]
    fn answers_are_a_text_that_is_equal_from_run_to_run() {
        let tests = json!({"count": 1, "next": null, "results": [{
            "id": 71, "name": "ping", "suite": 9, "tags": [3], "logged": "2026-11-28T12:25:50.123456Z",
            "resource_uri": "http://127.0.0.1:32768/api/v0.2/jobs/12/suites/9/tests/71/",
        }]});
        insta::assert_snapshot!(shown(&[
            answered("get: /api/v0.2/jobs/12/tests/", reply(200, "application/json", &tests.to_string())),
            answered("{get: /scheduler/job/12, has: ['{job}']}", reply(404, "text/html", "<title>\n  Job\n 12 | HTTP 404</title><p>")),
            answered("get: /results/12/csv", reply(200, "text/csv", "\"job\",\"x\"\n\"12\",\"7\",\"71\",\"203\",\"203\"\n")),
            answered("call: scheduler.x", Said::Value(vec![
                scalar("", "20261128T12:25:50"), scalar("", ""), scalar("", "a\nb"), scalar("id", "71"), scalar("count", "71"),
            ])),
            answered("get: /yaml", reply(200, "application/yaml", "- job: '12'\n  id: '71'\n  log_end_line: '203'\n")),
            answered("{call: scheduler.y, as: nobody}", Said::Fault("fault 404: gone".into())),
        ]), @r#"
        requests
          GET /api/v0.2/jobs/[JOB_ID]/tests/
            200 application/json
              count: 1
              next: null
              results:
              - id: '[NUMBER]'
                logged: [DATE]
                name: ping
                resource_uri: http://[SERVER]/api/v0.2/jobs/[JOB_ID]/suites/[NUMBER]/tests/[NUMBER]/
                suite: '[NUMBER]'
                tags:
                - '[NUMBER]'
          GET /scheduler/job/[JOB_ID]
            404 text/html
              Job [NUMBER] | HTTP [NUMBER]
              has {job}: yes
          GET /results/[JOB_ID]/csv
            200 text/csv
              ""job","x""
              ""[JOB_ID]","7","[NUMBER]","[NUMBER]","[NUMBER]""
          call scheduler.x
            answer
              [DATE]
              ""
              a
              b
              id: [NUMBER]
              count: 71
          GET /yaml
            200 application/yaml
              - job: '[JOB_ID]'
                id: '[NUMBER]'
                log_end_line: '[NUMBER]'
          call scheduler.y as nobody
            fault 404: gone
        "#);
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn an_answer_without_end_is_cut() {
        let text = shown(&[answered("get: /x", reply(200, "text/plain", &"line\n".repeat(LINES + 1)))]);
        assert_eq!(text.lines().filter(|line| line.trim() == "line").count(), LINES);
        assert!(text.ends_with("and more"));
    }

    proptest! {
        #[test]
        fn any_answer_is_lines_that_a_terminal_may_show(
            kind in "(application/json|text/html|.{0,9})", body in prop::collection::vec(any::<u8>(), 0..200), text in ".*",
        ) {
            let said = Said::Reply(Reply { status: 200, kind, location: Some(text.clone()), body, broken: true });
            let found = shown(&[answered("get: /x", said), answered("call: x", Said::Value(vec![scalar(&text, &text)])),
                answered("call: x", Said::Fault(text))]);
            prop_assert!(!found.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
