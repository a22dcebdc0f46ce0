//! `run.json`: what other tools read. Its shape is a contract, see `version`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Row, Run, Settings};
use crate::error::{Error, Result};
use crate::event::{
    About, Deviation, Difference, Ending, Known, Moment, Outcome, Outstanding, Phase, ScenarioInfo, Span,
    Verdict,
};

/// Version of the format.
const VERSION: u32 = 1;

/// Most causes that are told of one scenario.
const DEVIATIONS: usize = 200;

/// Longest time that is believed, in seconds: some thirty years.
const LONGEST: f64 = 1e9;

/// The whole file. What `default` stands at was not in its first form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Of this format: 1.
    pub version: u32,
    /// Name of the run.
    #[serde(default)]
    pub run: String,
    /// The version of LAVA that answered, of several LAVAs all with commas between; null when
    /// none did.
    pub lava: Option<String>,
    /// Each LAVA: its name, version, and what it runs on.
    #[serde(default)]
    pub lavas: Vec<About>,
    /// Whether they were asked for by name.
    #[serde(default)]
    pub named: bool,
    /// Wall time.
    pub seconds: f64,
    /// Seconds of each phase; 0 for what was not reached.
    pub phases: BTreeMap<Phase, f64>,
    /// Scenarios by verdict; all verdicts are there.
    pub totals: BTreeMap<Verdict, usize>,
    /// `slice:M/N` where it was one part of N; else null.
    #[serde(default)]
    pub partition: Option<String>,
    /// Whether it was interrupted.
    #[serde(default)]
    pub interrupted: bool,
    /// What is needed to repeat it, besides its scenarios.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What a user should know.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What did not pass in earlier runs, and had no turn in this one.
    #[serde(default)]
    pub outstanding: Vec<Outstanding>,
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
    /// Which one of several LAVAs it ran on; null where there is only one.
    #[serde(default)]
    pub lava: Option<String>,
    /// LAVA's device-types.
    pub device_types: Vec<String>,
    /// What it is about, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// LAVA's job id; null when none was submitted.
    #[serde(default)]
    pub job: Option<String>,
    /// Its verdict.
    pub verdict: Verdict,
    /// For all but `pass`: why, in one line.
    #[serde(default)]
    pub reason: Option<String>,
    /// From submission to verdict.
    pub seconds: f64,
    /// What LAVA says of its jobs that did not complete; for people.
    #[serde(default)]
    pub ended: Vec<Ending>,
    /// Whether they ended in another way than the scenario says.
    #[serde(default)]
    pub ends_otherwise: bool,
    /// Of a scenario that differs.
    pub first_difference: Option<Difference>,
    /// All that differs, by cause; at most [`DEVIATIONS`] of them.
    #[serde(default)]
    pub deviations: Vec<Deviation>,
    /// What LAVA is known to do wrong here, and what of that it no longer does.
    #[serde(default)]
    pub defects: Vec<Known>,
    /// What the board showed at the first difference, or last; for people.
    #[serde(default)]
    pub console: Moment,
    /// When what was done, for people.
    #[serde(default)]
    pub timeline: Vec<Span>,
}

impl RunFile {
    /// Reads `run.json` in the folder of a report.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is none, or it is not of this format.
    pub fn read(report: &Path) -> Result<Self> {
        let path = report.join("run.json");
        let text = std::fs::read(&path).map_err(|error| {
            Error::Usage(format!("{} is no report of a run: {}: {error}", report.display(), path.display()))
        })?;
        Self::parse(report, &text)
    }

    /// [`Self::read`] of the file's `text`.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn parse(report: &Path, text: &[u8]) -> Result<Self> {
        let path = report.join("run.json");
        let not = |why: String| Error::Usage(format!("{} is no report of a run: {why}", report.display()));
        // The version first: of another one the rest may have another shape.
        let version = serde_json::from_slice::<serde_json::Value>(text)
            .map_err(|error| not(format!("{}: {error}", path.display())))?
            .get("version")
            .and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            let found = version.map_or_else(|| "none".into(), |version| version.to_string());
            return Err(not(format!("its run.json has version {found}, and {VERSION} is what is read here")));
        }
        let file: Self =
            serde_json::from_slice(text).map_err(|error| not(format!("{}: {error}", path.display())))?;
        // They become paths, and are shown.
        let is_name = |name: &str| {
            !matches!(name, "" | "." | "..") && !name.contains(|c: char| c == '/' || c.is_control())
        };
        match file.scenarios.iter().find(|one| !is_name(&one.name) || !is_name(&one.suite)) {
            Some(bad) => Err(not(format!("{:?} in {:?} is no name of a scenario", bad.name, bad.suite))),
            None => Ok(file),
        }
    }

    /// The run as its reports know it, to be written to the folder `report`.
    #[must_use]
    pub fn into_run(self, report: &Path) -> Run {
        // No run takes longer than that; without a bound their sum is no time any more.
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds.min(LONGEST)).unwrap_or_default();
        let row = |entry: ScenarioEntry| Row {
            job: entry.job,
            lava: entry.lava,
            outcome: Some(Outcome {
                verdict: entry.verdict,
                reason: entry.reason,
                ended: entry.ended,
                ends_otherwise: entry.ends_otherwise,
                first_difference: entry.first_difference,
                deviations: entry.deviations,
                defects: entry.defects,
                console: entry.console,
                timeline: entry.timeline,
                seconds: time(entry.seconds).as_secs_f64(),
            }),
            ..Row::new(ScenarioInfo {
                name: entry.name,
                suite: entry.suite,
                device_types: entry.device_types,
                about: entry.about,
            })
        };
        // The first form had no more than the version.
        let old = self.lava.filter(|_| self.lavas.is_empty());
        let lavas = old.map(|version| About { version: Some(version), ..About::default() });
        Run {
            name: self.run,
            report: report.to_owned(),
            lavas: self.lavas.into_iter().chain(lavas).collect(),
            named: self.named,
            partition: self.partition,
            rows: self.scenarios.into_iter().map(row).collect(),
            phases: self.phases.into_iter().map(|(phase, seconds)| (phase, time(seconds))).collect(),
            warnings: self.warnings,
            notes: self.notes,
            outstanding: self.outstanding,
            interrupted: self.interrupted,
            elapsed: Some(time(self.seconds)),
            ..Run::default()
        }
    }
}

fn deviations(outcome: &Outcome) -> Vec<Deviation> {
    outcome.deviations.iter().take(DEVIATIONS).cloned().collect()
}

/// Milliseconds are enough.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// The run as it stands.
pub(super) fn write(run: &Run, _settings: &Settings) -> Result<String, String> {
    let phases = [Phase::Images, Phase::Stack, Phase::Jobs, Phase::Cleanup];
    let file = RunFile {
        version: VERSION,
        run: run.name.clone(),
        lava: run.lava(),
        lavas: run.lavas.clone(),
        named: run.named,
        seconds: rounded(run.seconds()),
        phases: phases
            .into_iter()
            .map(|phase| (phase, rounded(run.phases.get(&phase).map_or(0.0, Duration::as_secs_f64))))
            .collect(),
        totals: run.totals(),
        partition: run.partition.clone(),
        interrupted: run.interrupted,
        notes: run.notes.clone(),
        warnings: run.warnings.clone(),
        outstanding: run.outstanding.clone(),
        scenarios: run
            .rows
            .iter()
            .map(|row| ScenarioEntry {
                name: row.info.name.clone(),
                suite: row.info.suite.clone(),
                lava: row.lava.clone(),
                device_types: row.info.device_types.clone(),
                about: row.info.about.clone(),
                job: row.job.clone(),
                verdict: row.verdict(),
                reason: row.outcome.as_ref().and_then(|outcome| outcome.reason.clone()),
                seconds: rounded(row.outcome.as_ref().map_or(0.0, |outcome| outcome.seconds)),
                ended: row.outcome.as_ref().map(|outcome| outcome.ended.clone()).unwrap_or_default(),
                ends_otherwise: row.outcome.as_ref().is_some_and(|outcome| outcome.ends_otherwise),
                first_difference: row.outcome.as_ref().and_then(|outcome| outcome.first_difference.clone()),
                deviations: row.outcome.as_ref().map(deviations).unwrap_or_default(),
                defects: row.outcome.as_ref().map(|outcome| outcome.defects.clone()).unwrap_or_default(),
                console: row.outcome.as_ref().map(|outcome| outcome.console.clone()).unwrap_or_default(),
                timeline: row.outcome.as_ref().map(|outcome| outcome.timeline.clone()).unwrap_or_default(),
            })
            .collect(),
    };
    let mut text = serde_json::to_string_pretty(&file).map_err(|error| error.to_string())?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
          "run": "mlv-1",
          "lava": "2023.01-2",
          "lavas": [
            {
              "name": "",
              "version": "2023.01-2",
              "commit": null,
              "distribution": null,
              "python": null,
              "django": null,
              "postgresql": null
            }
          ],
          "named": false,
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
            "fixed": 0,
            "new": 0,
            "skipped": 0,
            "not-run": 0
          },
          "partition": null,
          "interrupted": false,
          "notes": [],
          "warnings": [
            "mask `uuid` matched nothing"
          ],
          "outstanding": [],
          "scenarios": [
            {
              "name": "bbb",
              "suite": "health-checks",
              "lava": null,
              "device_types": [
                "BBB"
              ],
              "job": "1",
              "verdict": "pass",
              "reason": null,
              "seconds": 5.25,
              "ended": [],
              "ends_otherwise": false,
              "first_difference": null,
              "deviations": [],
              "defects": [],
              "console": {
                "lines": [],
                "at": null
              },
              "timeline": []
            },
            {
              "name": "juno",
              "suite": "health-checks",
              "lava": null,
              "device_types": [
                "JUNO"
              ],
              "job": null,
              "verdict": "differs",
              "reason": "results, log not as expected",
              "seconds": 6.5,
              "ended": [
                {
                  "health": "Incomplete",
                  "error_type": "Job",
                  "why": "login <script>timed out",
                  "wait": {
                    "for": "`/ $`",
                    "heard": "/ # \u001b[1m"
                  }
                }
              ],
              "ends_otherwise": true,
              "first_difference": {
                "snapshot": "results",
                "line": 12,
                "expected": "  ping: pass",
                "found": "  ping <script>alert(1)</script>: fail"
              },
              "deviations": [
                {
                  "cause": {
                    "snapshot": "results",
                    "expected": [
                      "pass"
                    ],
                    "found": [
                      "<script>fail"
                    ]
                  },
                  "times": 2,
                  "first": {
                    "snapshot": "results",
                    "line": 12,
                    "expected": "  ping: pass",
                    "found": "  ping: <script>fail"
                  }
                }
              ],
              "defects": [],
              "console": {
                "lines": [
                  "=> bootz",
                  "Starting kernel ..."
                ],
                "at": 0
              },
              "timeline": [
                {
                  "lane": "lava",
                  "kind": "queued",
                  "name": "queued <script>",
                  "from": 0.0,
                  "to": 1.5
                },
                {
                  "lane": "board",
                  "kind": "firmware",
                  "name": "firmware <script>",
                  "from": 1.5,
                  "to": 6.5
                }
              ]
            }
          ]
        }
        "#);
        assert_eq!(serde_json::from_str::<RunFile>(&text).unwrap().totals[&Verdict::Differs], 1);
    }

    fn read(text: &str) -> Result<RunFile> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.json"), text).unwrap();
        RunFile::read(folder.path())
    }

    #[test]
    fn a_file_of_the_first_form_is_read() {
        let file = r#"{"version": 1, "lava": null, "seconds": 1.5, "phases": {"jobs": 1.0}, "totals": {},
            "scenarios": [{"name": "a", "suite": "s", "device_types": [], "verdict": "pass", "seconds": 1e400,
            "first_difference": null}]}"#;
        // No number of JSON's is that large.
        assert!(read(file).is_err());
        let run = read(&file.replace("1e400", "-1")).unwrap().into_run(Path::new("r"));
        assert_eq!(run.rows[0].id(), "s/a");
        assert_eq!(run.rows[0].outcome.as_ref().unwrap().seconds, 0.0);
        assert_eq!(run.phases[&Phase::Jobs], Duration::from_secs(1));
    }

    #[test]
    fn what_is_no_report_is_told() {
        let why = |text: &str| read(text).unwrap_err().to_string();
        assert!(RunFile::read(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere/run.json"));
        assert!(why("{").contains("line 1 column 1"));
        assert!(why(r#"{"version": 2}"#).ends_with("its run.json has version 2, and 1 is what is read here"));
        let outside = r#"{"version": 1, "lava": null, "seconds": 0, "phases": {}, "totals": {}, "scenarios":
            [{"name": "..", "suite": "s", "device_types": [], "verdict": "pass", "seconds": 0,
            "first_difference": null}]}"#;
        assert!(why(outside).ends_with("\"..\" in \"s\" is no name of a scenario"), "{}", why(outside));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_report_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = RunFile::parse(Path::new("r"), &bytes);
        }

        #[test]
        fn any_times_and_words_of_a_report_can_be_merged_and_written_again(
            (seconds, took, more) in (any::<f64>(), any::<f64>(), any::<f64>()), words in ".*",
        ) {
            let mut run = super::super::tests::run(Path::new("r"));
            run.rows.truncate(3);
            run.name.clone_from(&words);
            run.lavas[0].version = Some(words.clone());
            run.lavas[0].name.clone_from(&words);
            let mut file: serde_json::Value = serde_json::from_str(
                &write(&run, &super::super::tests::settings(Path::new("r"))).unwrap(),
            ).unwrap();
            let time = |seconds: f64| serde_json::Value::from(if seconds.is_finite() { seconds } else { f64::MAX });
            file["seconds"] = time(seconds);
            file["phases"]["jobs"] = time(took);
            file["scenarios"][0]["seconds"] = time(more);
            file["scenarios"][1]["reason"] = words.into();
            let parse = |text: &str| RunFile::parse(Path::new("r"), text.as_bytes()).unwrap();
            let file = parse(&file.to_string());
            let mut other = file.clone();
            for entry in &mut other.scenarios {
                entry.name.push('x');
            }
            let parts = vec![("a".into(), file), ("b".into(), other)];
            let all = super::super::merge("all", Path::new("r"), parts).unwrap();
            parse(&super::super::texts(&all).unwrap());
        }
    }
}
