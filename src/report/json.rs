//! `run.json`: what other tools read. Its shape is a contract, see `version`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Run, Settings};
use crate::event::{Difference, Phase, Verdict};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Of this format: 1.
    pub version: u32,
    /// The version of LAVA that answered; null when none did.
    pub lava: Option<String>,
    /// Wall time.
    pub seconds: f64,
    /// Seconds of each phase; 0 for what was not reached.
    pub phases: BTreeMap<Phase, f64>,
    /// Scenarios by verdict; all verdicts are there.
    pub totals: BTreeMap<Verdict, usize>,
    /// The scenarios, in order.
    pub scenarios: Vec<ScenarioEntry>,
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioEntry {
    /// Its name.
    pub name: String,
    /// Its suite.
    pub suite: String,
    /// LAVA's device-types.
    pub device_types: Vec<String>,
    /// Its verdict.
    pub verdict: Verdict,
    /// From submission to verdict.
    pub seconds: f64,
    /// Of a scenario that differs.
    pub first_difference: Option<Difference>,
}

/// Milliseconds are enough.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// The run as it stands.
pub(super) fn write(run: &Run, _settings: &Settings) -> Result<String, String> {
    let phases = [Phase::Images, Phase::Stack, Phase::Jobs, Phase::Cleanup];
    let file = RunFile {
        version: 1,
        lava: run.lava.clone(),
        seconds: rounded(run.seconds()),
        phases: phases
            .into_iter()
            .map(|phase| {
                (phase, rounded(run.phases.get(&phase).map_or(0.0, std::time::Duration::as_secs_f64)))
            })
            .collect(),
        totals: run.totals(),
        scenarios: run
            .rows
            .iter()
            .map(|row| ScenarioEntry {
                name: row.info.name.clone(),
                suite: row.info.suite.clone(),
                device_types: row.info.device_types.clone(),
                verdict: row.verdict(),
                seconds: rounded(row.outcome.as_ref().map_or(0.0, |outcome| outcome.seconds)),
                first_difference: row.outcome.as_ref().and_then(|outcome| outcome.first_difference.clone()),
            })
            .collect(),
    };
    let mut text = serde_json::to_string_pretty(&file).map_err(|error| error.to_string())?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_file_has_the_shape_that_was_promised() {
        let mut run = super::super::tests::run(Path::new("r"));
        run.rows.truncate(2);
        let text = write(&run, &super::super::tests::settings(Path::new("r"))).unwrap();
        insta::assert_snapshot!(text, @r#"
        {
          "version": 1,
          "lava": "2023.01-2",
          "seconds": 23.512,
          "phases": {
            "images": 0.4,
            "stack": 6.3,
            "jobs": 16.0,
            "cleanup": 0.0
          },
          "totals": {
            "pass": 1,
            "differs": 1,
            "error": 0,
            "timeout": 0,
            "new": 0,
            "skipped": 0,
            "not-run": 0
          },
          "scenarios": [
            {
              "name": "bbb",
              "suite": "health-checks",
              "device_types": [
                "BBB"
              ],
              "verdict": "pass",
              "seconds": 5.25,
              "first_difference": null
            },
            {
              "name": "juno",
              "suite": "health-checks",
              "device_types": [
                "JUNO"
              ],
              "verdict": "differs",
              "seconds": 6.5,
              "first_difference": {
                "snapshot": "results",
                "line": 12,
                "expected": "  ping: pass",
                "found": "  ping <script>alert(1)</script>: fail"
              }
            }
          ]
        }
        "#);
        assert_eq!(serde_json::from_str::<RunFile>(&text).unwrap().totals[&Verdict::Differs], 1);
    }
}
