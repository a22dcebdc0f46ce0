//! What of LAVA a run used, and passed: from the jobs as LAVA took them, and from its own log of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::event::Verdict;
use crate::lava::actions::Mark;
use crate::lava::log::{Log, Record};
use crate::report::{RunFile, folder_of};

/// How LAVA says that a boot loader failed (`lava_dispatcher/actions/boot/__init__.py`).
const LOADER_FAILED: &str = "matched a bootloader error message: '";
/// How it says that a test shell sent a signal (`lava_dispatcher/actions/test/shell.py`), and the same of the
/// multinode API (`.../multinode.py`).
const SIGNALS: [&str; 2] = ["Received signal: <", "Received Multi_Node API <"];
/// The case in which LAVA tells of kernel messages (`lava_dispatcher/utils/messages.py`).
const KERNEL: &str = "kernel-messages";
/// Files of a report that are larger are not read, in bytes.
const LARGE: u64 = 64 << 20;

/// Something that a job used, as LAVA calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// An action of the job: its section, and the class that LAVA made for it.
    Action(String, String),
    /// What an action named as its method: its section, and the value.
    Method(String, String),
    /// A command by its name.
    Command(String),
    /// A protocol.
    Protocol(String),
    /// A device-type that was booted.
    DeviceType(String),
    /// A boot method, and the text by which LAVA knew that it failed.
    LoaderError(String, String),
    /// A kernel message, as LAVA cut it out of the log.
    KernelMessage(String),
    /// A signal of a test shell.
    Signal(String),
}

/// What was used on one LAVA, with the scenarios that passed by it.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Versions that the reports have of it.
    pub versions: BTreeSet<String>,
    /// Names of the runs.
    pub runs: Vec<String>,
    /// Scenarios that ran, and those that passed.
    pub ran: BTreeSet<String>,
    /// Those that passed.
    pub passed: BTreeSet<String>,
    /// What was used.
    pub by: BTreeMap<Use, BTreeSet<String>>,
}

/// What was used on each LAVA, in the order in which the reports have them.
///
/// # Errors
/// [`Error::Usage`] for a folder that is no report of a run, or whose report keeps too little.
pub fn read(reports: &[PathBuf]) -> Result<Vec<(String, Used)>> {
    let mut all: Vec<(String, Used)> = Vec::new();
    for report in reports {
        let run = RunFile::read(report)?;
        for about in &run.lavas {
            let at = all.iter().position(|(name, _)| *name == about.name).unwrap_or_else(|| {
                all.push((about.name.clone(), Used::default()));
                all.len() - 1
            });
            let used = &mut all[at].1;
            used.versions.extend(about.version.clone());
            used.runs.push(run.run.clone());
            let is_its = |lava: &Option<String>| lava.as_ref().is_none_or(|lava| *lava == about.name);
            for scenario in run.scenarios.iter().filter(|scenario| is_its(&scenario.lava)) {
                if matches!(scenario.verdict, Verdict::Skipped | Verdict::NotRun) {
                    continue;
                }
                used.ran.insert(scenario.name.clone());
                if scenario.verdict != Verdict::Pass {
                    continue;
                }
                used.passed.insert(scenario.name.clone());
                let folder = folder_of(scenario.lava.as_deref(), &scenario.suite, &scenario.name);
                for job in jobs(&report.join(folder).join("raw"))? {
                    for of in job.uses() {
                        used.by.entry(of).or_default().insert(scenario.name.clone());
                    }
                }
            }
        }
    }
    Ok(all)
}

/// The jobs of a scenario: one, or one in a folder for each role.
fn jobs(raw: &Path) -> Result<Vec<Job>> {
    let mut folders = vec![raw.to_owned()];
    let entries = fs::read_dir(raw).map_err(|error| incomplete(raw, &error))?;
    folders.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
    let with_job = folders.iter().filter(|folder| folder.join("job.json").exists());
    let jobs: Vec<Job> = with_job.map(|folder| Job::read(folder)).collect::<Result<_>>()?;
    if jobs.is_empty() {
        return Err(incomplete(raw, &"it has no job.json"));
    }
    Ok(jobs)
}

fn incomplete(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Usage(format!(
        "{}: {why}; a report is needed whose `raw` folders are whole, such as `run` writes",
        path.display()
    ))
}

/// A job as it is kept in a report.
#[derive(Debug, Default)]
struct Job {
    details: Value,
    log: Log,
    pipeline: Vec<u8>,
}

/// A job's definition, as LAVA took it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Definition {
    actions: Vec<BTreeMap<String, Value>>,
    protocols: BTreeMap<String, Value>,
}

/// The outermost actions of LAVA's pipeline.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pipeline {
    pipeline: Vec<Made>,
}

#[derive(Debug, Deserialize)]
struct Made {
    class: String,
    level: String,
}

impl Job {
    fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            let large = fs::metadata(&path).is_ok_and(|about| about.len() > LARGE);
            if large {
                return Err(incomplete(&path, &"it is too large to be read"));
            }
            fs::read(&path).map_err(|error| incomplete(&path, &error))
        };
        let details = serde_json::from_slice(&read("job.json")?)
            .map_err(|error| incomplete(&folder.join("job.json"), &error))?;
        Ok(Self { details, log: Log::from(read("log.yaml")?), pipeline: read("pipeline.yaml")? })
    }

    fn detail(&self, key: &str) -> Option<&str> {
        self.details.get(key).and_then(Value::as_str)
    }

    /// All that it used. Nothing of a job that LAVA refused.
    fn uses(&self) -> BTreeSet<Use> {
        let definition: Definition =
            self.detail("definition").and_then(|text| serde_yaml::from_str(text).ok()).unwrap_or_default();
        let pipeline: Pipeline = serde_yaml::from_slice(&self.pipeline).unwrap_or_default();
        let mut uses = BTreeSet::new();
        let passed = passed(&self.log);
        // LAVA makes the n-th action of a job the n-th of its pipeline (`JobParser.parse`).
        for (action, level) in definition.actions.iter().zip(1..) {
            let level = level.to_string();
            let Some((section, parameters)) = action.iter().next() else { continue };
            if passed.contains(&level) {
                let made = pipeline.pipeline.iter().find(|made| made.level == level);
                // Until 2023 with its module.
                let class = made.and_then(|made| made.class.rsplit('.').next());
                uses.extend(class.map(|class| Use::Action(section.clone(), class.to_owned())));
                uses.extend(method(section, parameters).map(|of| Use::Method(section.clone(), of.into())));
                if section == "boot" {
                    uses.extend(self.detail("requested_device_type").map(|of| Use::DeviceType(of.into())));
                }
                let command = parameters.get("name").and_then(Value::as_str).filter(|_| section == "command");
                uses.extend(command.map(|name| Use::Command(name.into())));
            } else if section == "boot"
                && let Some(of) = method(section, parameters)
            {
                let texts = self.log.records().filter_map(|record| loader_error(record, &level));
                uses.extend(texts.map(|text| Use::LoaderError(of.to_owned(), text.to_owned())));
            }
        }
        if self.detail("health") == Some("Complete") {
            uses.extend(definition.protocols.into_keys().map(Use::Protocol));
        }
        for record in self.log.records() {
            uses.extend(signal(record).map(|name| Use::Signal(name.to_owned())));
            uses.extend(kernel_messages(record).map(|text| Use::KernelMessage(text.to_owned())));
        }
        uses
    }
}

/// What an action says that it is to be done by.
fn method<'a>(section: &str, parameters: &'a Value) -> Option<&'a str> {
    let key = if section == "deploy" { "to" } else { "method" };
    parameters.get(key).and_then(Value::as_str)
}

/// The levels of the actions that ended, and of which LAVA has no failure.
fn passed(log: &Log) -> BTreeSet<String> {
    let ended = log.records().filter_map(Mark::of).filter(|mark| !mark.begins).map(|mark| mark.level);
    let mut passed: BTreeSet<String> = ended.collect();
    for record in log.records().filter(|record| record.level == "results") {
        let of = |key: &str| record.message.get(key).and_then(Value::as_str).unwrap_or_default();
        if of("definition") == "lava" && of("result") == "fail" {
            passed.remove(of("level"));
        }
    }
    passed
}

/// The text by which LAVA knew that the boot loader of the action at `level` failed.
fn loader_error<'a>(record: &'a Record, level: &str) -> Option<&'a str> {
    if record.level != "results" || record.message.get("level")?.as_str()? != level {
        return None;
    }
    let told = record.message.get("extra")?.get("fail")?.as_str()?;
    let text = told.strip_prefix(LOADER_FAILED)?;
    // Behind it is its number among the prompts.
    text.rsplit_once("' (").map(|(text, _)| text)
}

fn signal(record: &Record) -> Option<&str> {
    let text = record.text().filter(|_| record.level == "debug")?;
    let rest = SIGNALS.iter().find_map(|begin| text.strip_prefix(begin))?;
    rest.split_once('>').map(|(name, _)| name)
}

fn kernel_messages(record: &Record) -> impl Iterator<Item = &str> {
    let is_one = record.level == "results" && record.message.get("case").is_some_and(|case| case == KERNEL);
    let extra = record.message.get("extra").filter(|_| is_one);
    let all = extra.and_then(|extra| extra.get("extra")).and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|one| one.get("message").and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const PIPELINE: &str = "pipeline:
- {class: actions.deploy.tftp.TftpAction, name: tftp-deploy, level: '1'}
- {class: UBootAction, name: uboot-action, level: '2'}
- {class: CommandAction, name: user-command, level: '3'}
";

    fn log(messages: &[Value]) -> Log {
        let line = |message: &Value| {
            let level = match message {
                Value::Object(_) => "results",
                Value::String(text) if text.starts_with("Received") => "debug",
                _ => "info",
            };
            format!("- {}\n", json!({ "dt": "t", "lvl": level, "msg": message }))
        };
        messages.iter().map(line).collect::<String>().into_bytes().into()
    }

    fn job(messages: &[Value]) -> Job {
        let definition = "actions:\n- deploy: {to: tftp}\n- boot: {method: u-boot}\n\
                          - command: {name: hard_reset}\nprotocols: {lava-multinode: {}}\n";
        Job {
            details: json!({ "definition": definition, "requested_device_type": "x15",
                             "health": "Complete" }),
            log: log(messages),
            pipeline: PIPELINE.into(),
        }
    }

    #[test]
    fn what_ended_and_did_not_fail_was_used() {
        let passing = job(&[
            json!("end: 1 tftp-deploy (duration 00:00:01) [common]"),
            json!("end: 2 uboot-action (duration 00:00:01) [common]"),
            json!({ "definition": "lava", "case": "uboot-commands", "level": "2.4", "result": "fail" }),
            json!("end: 3 user-command (duration 00:00:01) [common]"),
            json!("Received signal: <STARTTC> always-passes"),
            json!("Received Multi_Node API <LAVA_WAIT>"),
            json!({ "definition": "lava", "case": "kernel-messages", "result": "pass",
                    "extra": { "extra": [{ "kind": "bug", "message": "[ 1.0] BUG: x" }] } }),
        ]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let action = |a: &str, b: &str| Use::Action(pair(a, b).0, pair(a, b).1);
        let method = |a: &str, b: &str| Use::Method(pair(a, b).0, pair(a, b).1);
        let all: Vec<Use> = passing.uses().into_iter().collect();
        assert_eq!(
            all,
            [
                action("boot", "UBootAction"),
                action("command", "CommandAction"),
                action("deploy", "TftpAction"),
                method("boot", "u-boot"),
                method("deploy", "tftp"),
                Use::Command("hard_reset".into()),
                Use::Protocol("lava-multinode".into()),
                Use::DeviceType("x15".into()),
                Use::KernelMessage("[ 1.0] BUG: x".into()),
                Use::Signal("LAVA_WAIT".into()),
                Use::Signal("STARTTC".into()),
            ]
        );
    }

    #[test]
    fn what_failed_or_never_ended_was_not_used_but_the_loaders_error_was() {
        let mut failing = job(&[
            json!("end: 2 uboot-action (duration 00:00:01) [common]"),
            json!({ "definition": "lava", "case": "uboot-action", "level": "2", "result": "fail",
                    "extra": { "fail": "matched a bootloader error message: 'Bad 'magic' (x)' (18)" } }),
        ]);
        failing.details["health"] = "Incomplete".into();
        let all: Vec<Use> = failing.uses().into_iter().collect();
        assert_eq!(all, [Use::LoaderError("u-boot".into(), "Bad 'magic' (x)".into())]);
        assert!(Job { details: json!({ "message": "refused" }), ..Job::default() }.uses().is_empty());
    }

    proptest! {
        #[test]
        fn any_kept_job_is_read_or_says_nothing(
            details in ".*", pipeline in prop::collection::vec(any::<u8>(), 0..200),
            log in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Job { details: json!({ "definition": details }), log: log.into(), pipeline }.uses();
        }
    }
}
