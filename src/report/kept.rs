//! What is kept of a scenario in a report: what was compared, and what it was made of.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::jobs::evidence::{Evidence, Port};
use crate::jobs::requests::{Answered, Said};
use crate::judge::normalise::Context;
use crate::judge::snapshot::{self, Id};
use crate::judge::verdict::{Answer, Found};
use crate::lava::series::Series;
use crate::scenario::Scenario;

/// Writes `scenarios/<suite>/<name>/` below `report`: `*.snap`, and `raw/`.
///
/// # Errors
/// [`Error::Infrastructure`] when it can't be written.
pub fn write(
    report: &Path,
    scenario: &Scenario,
    series: Series,
    answers: &[Answer],
    found: &[Found],
) -> Result<()> {
    let folder = report.join("scenarios").join(&scenario.suite).join(&scenario.name);
    let raw = folder.join("raw");
    empty(&raw)?;
    for Answer { job, evidence, context } in answers {
        let raw = if job.is_empty() { raw.clone() } else { raw.join(file_name(job)) };
        write_raw(&raw, evidence, context)?;
    }
    for Found { kind, text, .. } in found {
        let path = kind.kept_in(&folder);
        snapshot::write(&path, &Id::of(scenario, series, *kind), text)?;
    }
    Ok(())
}

/// What an earlier run of the same report left in a folder is not of this one.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("empty {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}

/// Writes what came back as it came, without secrets.
fn write_raw(folder: &Path, evidence: &Evidence, context: &Context) -> Result<()> {
    let write = |name: &str, bytes: &[u8]| write_whole(&folder.join(name), &context.without_secrets(bytes));
    let json = |value: &Value| serde_json::to_vec_pretty(value).unwrap_or_default();
    write("job.json", &json(&evidence.details))?;
    write("metadata.json", &json(&evidence.metadata))?;
    write("log.yaml", evidence.log.raw())?;
    write("pipeline.yaml", &evidence.pipeline)?;
    write("announced.jsonl", evidence.announced.lines().as_bytes())?;
    let suites: Vec<Value> = evidence
        .suites
        .iter()
        .map(|(name, tests)| serde_json::json!({"suite": name, "tests": tests}))
        .collect();
    write("results.json", &json(&Value::Array(suites)))?;
    for (number, Answered { request, said, .. }) in (1..).zip(&evidence.answers) {
        let said = match said {
            Said::Reply(reply) => String::from_utf8_lossy(&reply.body).into_owned(),
            Said::Value(scalars) => {
                let lines = scalars.iter().map(|scalar| format!("{}: {}\n", scalar.member, scalar.text));
                lines.collect()
            }
            Said::Fault(fault) => fault.clone(),
        };
        write(&format!("answer-{number:02}.txt"), format!("{request}\n\n{said}").as_bytes())?;
    }
    for (board, entries) in &evidence.ledgers {
        let mut lines = Vec::new();
        for entry in entries {
            lines.extend(serde_json::to_vec(entry).unwrap_or_default());
            lines.push(b'\n');
        }
        write(&format!("ledger-{}.jsonl", file_name(board)), &lines)?;
    }
    for (Port { board, uart }, console) in &evidence.consoles {
        let board = file_name(board);
        match uart {
            0 => write(&format!("console-{board}.log"), console)?,
            _ if console.is_empty() => {}
            _ => write(&format!("console-{board}.uart{uart}.log"), console)?,
        }
    }
    Ok(())
}

/// Names of boards are names of files already; what came from elsewhere is made one.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .take(100)
        .collect()
}
