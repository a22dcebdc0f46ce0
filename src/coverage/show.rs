//! The coverage as a text for people, and as JSON for programs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Coverage, Row, Table};
use crate::text::printable;

/// Version of the format of JSON.
const VERSION: u32 = 1;
/// Lines of what LAVA could not be asked.
const UNKNOWN: usize = 5;
/// Scenarios that are named beside something that is covered.
const NAMED: usize = 3;

/// A table in JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    covered: usize,
    total: usize,
    missing: Vec<&'a str>,
    /// Why, of those of `missing` that have a reason.
    reasons: BTreeMap<&'a str, &'a str>,
    /// What is covered, and by which scenarios.
    scenarios: BTreeMap<&'a str, &'a BTreeSet<String>>,
}

impl<'a> From<&'a Table> for Shown<'a> {
    fn from(table: &'a Table) -> Self {
        let reason = |row: &'a Row| Some((row.name.as_str(), row.reason.as_deref()?));
        let covered = table.rows.iter().filter(|row| row.is_covered());
        Self {
            covered: table.covered(),
            total: table.rows.len(),
            missing: table.missing().map(|row| row.name.as_str()).collect(),
            reasons: table.missing().filter_map(reason).collect(),
            scenarios: covered.map(|row| (row.name.as_str(), &row.scenarios)).collect(),
        }
    }
}

/// All of it as JSON. Of several LAVAs each one is in `lavas`; the tables outside of it are of all together:
/// what any of them has, and as missing what is not covered on each that has it.
///
/// # Errors
/// When it can't be written, which does not happen.
pub fn json(lavas: &[Coverage]) -> Result<String, serde_json::Error> {
    let versions: Vec<&str> = lavas.iter().map(|one| one.version.as_str()).collect();
    let mut all = object(&together(lavas), &versions.join(", "))?;
    let mut each = Vec::new();
    for one in lavas {
        let mut of = object(&one.tables, &one.version)?;
        of.insert("name".into(), one.name.clone().into());
        of.insert("runs".into(), one.runs.clone().into());
        of.insert("ran".into(), one.scenarios.0.into());
        of.insert("passed".into(), one.scenarios.1.into());
        of.insert("unknown".into(), one.unknown.clone().into());
        let problems: Vec<String> = one.problems.iter().map(ToString::to_string).collect();
        of.insert("problems".into(), problems.into());
        each.push(Value::Object(of));
    }
    all.insert("lavas".into(), each.into());
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

fn object(tables: &[Table], lava: &str) -> Result<Map<String, Value>, serde_json::Error> {
    let mut object = Map::new();
    object.insert("version".into(), VERSION.into());
    object.insert("lava".into(), lava.into());
    for table in tables {
        object.insert(table.key.clone(), serde_json::to_value(Shown::from(table))?);
    }
    Ok(object)
}

/// The tables of all LAVAs as one: a row is covered where it is covered on each LAVA that has it.
fn together(lavas: &[Coverage]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for table in lavas.iter().flat_map(|one| &one.tables) {
        let Some(all) = tables.iter_mut().find(|other| other.key == table.key) else {
            tables.push(table.clone());
            continue;
        };
        for row in &table.rows {
            match all.rows.iter_mut().find(|other| other.name == row.name) {
                None => all.rows.push(row.clone()),
                // What is missing on one of them stays so.
                Some(other) if !other.is_covered() || !row.is_covered() => {
                    other.scenarios.clear();
                    other.reason = other.reason.take().or_else(|| row.reason.clone());
                }
                Some(other) => other.scenarios.extend(row.scenarios.iter().cloned()),
            }
        }
    }
    tables
}

/// What a table is called where people read.
#[must_use]
pub(super) fn title(key: &str) -> String {
    match key {
        "deploy" | "boot" => format!("{key} strategies"),
        "test" => "test strategies".into(),
        "commands" => "built-in commands".into(),
        "deploy_to" => "values of deploy's `to`".into(),
        "boot_method" => "values of boot's `method`".into(),
        other => other.replace('_', " "),
    }
}

/// All of it for a terminal: a line for each table, and below it what is missing; with `all` also what is
/// covered.
#[must_use]
pub fn text(lavas: &[Coverage], all: bool) -> String {
    let mut text = String::new();
    for one in lavas {
        let (ran, passed) = one.scenarios;
        text.push_str(&format!(
            "LAVA {} ({}): {passed} of {ran} scenarios passed\n",
            printable(&one.version),
            printable(&one.name)
        ));
        for table in &one.tables {
            let (covered, total) = (table.covered(), table.rows.len());
            text.push_str(&format!("  {covered:4} of {total:<4} {}\n", title(&table.key)));
            if all {
                for row in table.rows.iter().filter(|row| row.is_covered()) {
                    text.push_str(&format!("         + {}  {}\n", printable(&row.name), by(row)));
                }
            }
            text.push_str(&missing(table, all));
        }
        let shown = if all { one.unknown.len() } else { UNKNOWN };
        for unknown in one.unknown.iter().take(shown) {
            text.push_str(&format!("  not known: {}\n", printable(unknown)));
        }
        if let more @ 1.. = one.unknown.len().saturating_sub(shown) {
            text.push_str(&format!("  not known: {more} more (`--all`)\n"));
        }
        for problem in &one.problems {
            text.push_str(&format!("  {problem}\n"));
        }
    }
    text
}

/// What is missing: with its reason, a line each; what has none in as few lines as there are.
fn missing(table: &Table, all: bool) -> String {
    /// So long is a line of names.
    const WIDE: usize = 84;
    /// So many lines of a long list.
    const LINES: usize = 6;
    let mut text = String::new();
    for row in table.missing() {
        if let Some(reason) = &row.reason {
            text.push_str(&format!("         - {}: {}\n", printable(&row.name), printable(reason)));
        }
    }
    let mut lines: Vec<String> = Vec::new();
    let mut left = 0;
    for row in table.missing().filter(|row| row.reason.is_none()) {
        let name = printable(&row.name);
        let room = all || lines.len() < LINES;
        match lines.last_mut() {
            Some(line) if line.chars().count() + name.chars().count() + 3 <= WIDE => {
                line.push_str(&format!(" · {name}"));
            }
            _ if room => lines.push(name.clone()),
            _ => left += 1,
        }
    }
    for line in lines {
        text.push_str(&format!("         - {line}\n"));
    }
    if left > 0 {
        text.push_str(&format!("         - and {left} more (`--all`)\n"));
    }
    text
}

/// The scenarios of a row, as far as there is room.
pub(super) fn by(row: &Row) -> String {
    let named: Vec<String> = row.scenarios.iter().take(NAMED).map(|name| printable(name)).collect();
    match row.scenarios.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn the_text_tells_what_is_missing_and_why() {
        insta::assert_snapshot!(text(&[example()], false), @r"
        LAVA 2026.10 (debian:sid): 2 of 3 scenarios passed
             1 of 2    deploy strategies
                 - uuu: no tool
             0 of 3    boot strategies
                 - a · b · c
             0 of 1    protocols
                 - lava-multinode
             0 of 1    built-in commands
                 - hard_reset
             1 of 2    values of deploy's `to`
                 - uuu
             0 of 1    values of boot's `method`
                 - u-boot
             1 of 2    error strings
                 - grub: TIMEOUT
             1 of 3    kernel messages
                 - -\[ cut here \] · (kernel BUG at|BUG:)
             0 of 1    signals
                 - STARTTC
             1 of 2    device types
                 - juno
             0 of 1    flash
                 - new
          not known: the template odd can't be read
          uncovered.yaml: LAVA 2026.10 has no boot `gone`: take it out, or narrow its `series`
        ");
        assert!(text(&[example()], true).contains("+ tftp  x15"));
    }

    #[test]
    fn json_has_the_shape_that_was_promised() {
        let value: Value = serde_json::from_str(&json(&[example()]).unwrap()).unwrap();
        assert_eq!((value["version"].as_u64(), value["lava"].as_str()), (Some(1), Some("2026.10")));
        for key in ["deploy", "boot", "test", "protocols", "device_types"] {
            // A LAVA without any test strategy is only this example.
            if key != "test" {
                assert!(value[key]["covered"].is_u64() && value[key]["total"].is_u64(), "{key}: {value}");
                assert!(value[key]["missing"].is_array(), "{key}: {value}");
            }
        }
        assert_eq!(value["deploy"]["missing"], serde_json::json!(["uuu"]));
        assert_eq!(value["deploy"]["reasons"]["uuu"], "no tool");
        assert_eq!(value["deploy"]["scenarios"]["tftp"], serde_json::json!(["x15"]));
        assert_eq!(value["lavas"][0]["name"], "debian:sid");
    }

    #[test]
    fn what_is_missing_on_one_lava_is_missing_of_all() {
        let (one, mut other) = (example(), example());
        let deploy = |coverage: &mut Coverage| {
            let table = coverage.tables.iter_mut().find(|table| table.key == "deploy").unwrap();
            let rows = std::mem::take(&mut table.rows);
            table.rows = rows.into_iter().filter(|row| row.name == "tftp").collect();
            table.rows[0].scenarios.clear();
        };
        deploy(&mut other);
        let value: Value = serde_json::from_str(&json(&[one, other]).unwrap()).unwrap();
        assert_eq!(value["deploy"]["covered"], 0);
        assert_eq!(value["deploy"]["total"], 2);
        assert_eq!(value["device_types"]["covered"], 1);
        assert_eq!(value["lavas"][0]["deploy"]["covered"], 1);
        assert_eq!(value["lava"], "2026.10, 2026.10");
    }
}
