//! The pipeline that LAVA made of a job: its actions, with their timeouts.
//!
//! The worker hands it in when a job ends (`description.yaml`, `lava_dispatcher/action.py`,
//! `Pipeline.describe`), and the server shows it on the job's page. The log has what an
//! action did and how long it was still allowed to take; only here stands what it was
//! allowed from the start, and how often it may be tried.

use serde::Deserialize;
use serde_json::Value;

use super::Normaliser;
use super::log::spaced;
use super::masks::Scope;
use super::rows::Rows;
use crate::text::quoted_if_unclear;

/// Actions that are shown. A real job has some sixty.
const ACTIONS: usize = 5_000;
/// Pipelines inside of pipelines that are followed. A real job has four.
const DEPTH: usize = 32;
/// Longest description that is read, in bytes. A real one has some 20 KB.
const BYTES: usize = 4 << 20;

/// What each action's line shows first, or not at all, since others have it.
const ELSEWHERE: [&str; 5] = ["class", "level", "name", "pipeline", "timeout"];

#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    compatibility: Value,
    #[serde(default)]
    pipeline: Value,
}

/// The pipeline as lines that are equal from run to run, one for each action.
#[must_use]
pub fn normalise(description: &[u8], normaliser: Normaliser<'_>) -> Rows {
    let mut rows = Rows::default();
    rows.push("--- the pipeline that LAVA made of the job");
    if description.trim_ascii().is_empty() {
        rows.push("LAVA has none");
        return rows;
    }
    let parsed = match description.len() {
        0..=BYTES => serde_yaml::from_slice::<Description>(description).map_err(|error| error.to_string()),
        more => Err(format!("it has {more} bytes")),
    };
    match parsed {
        Ok(description) => {
            let compatibility = line(&plain(&description.compatibility), normaliser);
            rows.push(format!("compatibility {compatibility}"));
            let mut left = ACTIONS;
            pipeline(&description.pipeline, DEPTH, &mut left, normaliser, &mut rows);
            if left == 0 {
                rows.push("[… more actions left out]");
            }
        }
        Err(error) => rows.push(format!("what LAVA has is not a pipeline: {}", line(&error, normaliser))),
    }
    rows
}

/// The actions of a pipeline, with the seconds that each is allowed.
#[must_use]
pub fn timeouts(description: &[u8]) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    if description.len() <= BYTES
        && let Ok(description) = serde_yaml::from_slice::<Description>(description)
    {
        collect(&description.pipeline, DEPTH, &mut found);
    }
    found
}

fn collect(actions: &Value, depth: usize, found: &mut Vec<(String, u64)>) {
    for action in actions.as_array().into_iter().flatten() {
        if found.len() >= ACTIONS {
            return;
        }
        let name = action.get("name").and_then(Value::as_str);
        let timeout = action.get("timeout").and_then(|value| value.as_u64());
        if let (Some(name), Some(timeout)) = (name, timeout) {
            found.push((name.to_owned(), timeout));
        }
        if let Some(inner) = action.get("pipeline").filter(|_| depth > 0) {
            collect(inner, depth - 1, found);
        }
    }
}

fn line(text: &str, normaliser: Normaliser<'_>) -> String {
    quoted_if_unclear(&normaliser.line(Scope::Lava, text))
}

fn pipeline(actions: &Value, depth: usize, left: &mut usize, normaliser: Normaliser<'_>, rows: &mut Rows) {
    for action in actions.as_array().into_iter().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let field = |name: &str| action.get(name).map(plain).unwrap_or_default();
        let mut shown = format!("{} {}", field("level"), field("name"));
        // Seconds, with fractions where they are computed.
        shown.push_str(&format!(", {} s", field("timeout")));
        for (key, value) in action.as_object().into_iter().flatten() {
            if !ELSEWHERE.contains(&key.as_str()) {
                shown.push_str(&format!(", {key}: {}", plain(value)));
            }
        }
        shown.push_str(&format!(" [{}]", field("class")));
        rows.push(line(&shown, normaliser));
        if let Some(inner) = action.get("pipeline").filter(|_| depth > 0) {
            pipeline(inner, depth - 1, left, normaliser, rows);
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => spaced(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::judge::normalise::{Context, Masks};

    fn pipeline(description: &[u8]) -> String {
        let (masks, context) = (Masks::new(), Context::new(Some("12")));
        normalise(description, Normaliser { masks: &masks, context: &context }).text()
    }

    #[test]
    fn a_pipeline_is_a_line_for_each_action_with_what_it_was_allowed() {
        let description = "
compatibility: 0
pipeline:
- class: actions.deploy.tftp.TftpAction
  description: download files and deploy using tftp
  level: '1'
  max_retries: 1
  name: tftp-deploy
  summary: tftp deployment
  timeout: 60
  pipeline:
  - class: actions.deploy.download.HttpDownloadAction
    level: 1.1.1
    max_retries: 3
    name: http-download
    timeout: 60
    url: http://world/kernel
";
        insta::assert_snapshot!(pipeline(description.as_bytes()), @r"
        --- the pipeline that LAVA made of the job
        compatibility 0
        1 tftp-deploy, 60 s, description: download files and deploy using tftp, max_retries: 1, summary: tftp deployment [actions.deploy.tftp.TftpAction]
        1.1.1 http-download, 60 s, max_retries: 3, url: http://world/kernel [actions.deploy.download.HttpDownloadAction]
        ");
        let allowed = timeouts(description.as_bytes());
        assert_eq!(allowed, [("tftp-deploy".to_owned(), 60), ("http-download".to_owned(), 60)]);
    }

    #[test]
    fn what_is_no_pipeline_is_told() {
        assert!(pipeline(b" \n").ends_with("LAVA has none"));
        assert!(pipeline(b"[1").contains("what LAVA has is not a pipeline"));
    }

    #[test]
    fn a_compatibility_that_is_no_number_is_fit_for_a_terminal_and_bounded() {
        let text = pipeline(format!("compatibility: \"\\x7f\\u202e{}\"\n", "x".repeat(100_000)).as_bytes());
        assert!(text.contains("compatibility \\x7f\\u{202e}xxx"), "{}", &text[..200]);
        assert!(text.len() < 20_000, "{}", text.len());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(description in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = (pipeline(&description), timeouts(&description));
        }
    }
}
