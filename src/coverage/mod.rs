//! What of LAVA is covered: what the LAVA under test has by its own registries, against what jobs used of it
//! in runs that passed. Neither side asks the scenarios what they are for.

mod inventory;
mod page;
mod reasons;
mod show;
mod used;

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::error::Result;
use crate::lava::series::Series;
use crate::scenario::Problem;

pub use inventory::Inventory;
pub use page::page;
pub use reasons::{Entry, load as load_reasons, load_with_problems as check_reasons};
pub use show::{json, text};
pub use used::{Use, Used, read};

/// The tables that there always are, by their names in JSON. A section of jobs that LAVA selects strategies for
/// and that is not among them has a table of its name, too.
pub const KINDS: [&str; 11] = [
    "deploy",
    "boot",
    "test",
    "protocols",
    "commands",
    "deploy_to",
    "boot_method",
    "error_strings",
    "kernel_messages",
    "signals",
    "device_types",
];

/// One kind of what LAVA has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name: one of [`KINDS`], or a section of jobs.
    pub key: String,
    /// What there is, in LAVA's order.
    pub rows: Vec<Row>,
}

/// One thing that LAVA has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// The scenarios that used it and passed.
    pub scenarios: BTreeSet<String>,
    /// Why there is none.
    pub reason: Option<String>,
}

impl Row {
    /// Whether a scenario used it and passed.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        !self.scenarios.is_empty()
    }
}

impl Table {
    /// How many are covered.
    #[must_use]
    pub fn covered(&self) -> usize {
        self.rows.iter().filter(|row| row.is_covered()).count()
    }

    /// What is not.
    pub fn missing(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.is_covered())
    }
}

/// The coverage of one LAVA.
#[derive(Debug)]
pub struct Coverage {
    /// As a user names it: `debian:sid`.
    pub name: String,
    /// LAVA's version.
    pub version: String,
    /// Names of the runs.
    pub runs: Vec<String>,
    /// How many scenarios ran, and how many of them passed.
    pub scenarios: (usize, usize),
    /// What there is.
    pub tables: Vec<Table>,
    /// What is wrong with [`reasons::FILE`] for this LAVA.
    pub problems: Vec<Problem>,
    /// What LAVA could not be asked.
    pub unknown: Vec<String>,
}

/// What of a LAVA is covered. `name`: as a user names it.
///
/// # Errors
/// [`crate::error::Error::Usage`] where its version is none of LAVA's.
pub fn coverage(name: &str, has: &Inventory, used: &Used, reasons: &[Entry]) -> Result<Coverage> {
    let series = Series::of(&has.dispatcher.version)?;
    let mut tables = tables(has, used);
    let problems = reasons::apply(reasons, series, &mut tables);
    Ok(Coverage {
        name: name.to_owned(),
        version: has.dispatcher.version.clone(),
        runs: used.runs.clone(),
        scenarios: (used.ran.len(), used.passed.len()),
        tables,
        problems,
        unknown: has.problems().cloned().collect(),
    })
}

fn tables(has: &Inventory, used: &Used) -> Vec<Table> {
    let by = |of: &Use| used.by.get(of).cloned().unwrap_or_default();
    let row = |name: &str, scenarios| Row { name: name.to_owned(), scenarios, reason: None };
    let table = |key: &str, rows| Table { key: key.to_owned(), rows };
    let plain = |key: &str, names: &[String], of: fn(String) -> Use| {
        table(key, names.iter().map(|name| row(name, by(&of(name.clone())))).collect())
    };
    let dispatcher = &has.dispatcher;
    let mut tables = Vec::new();
    for (section, strategies) in &dispatcher.strategies {
        // Two strategies that make one action can't be told apart: neither is covered by it.
        let action = |class: &String| by(&Use::Action(section.clone(), class.clone()));
        let rows = strategies.iter().map(|strategy| {
            let alone = strategies.iter().filter(|other| other.class == strategy.class).count() == 1;
            row(&strategy.name, strategy.class.as_ref().filter(|_| alone).map(action).unwrap_or_default())
        });
        tables.push(table(section, rows.collect()));
    }
    tables.push(plain("protocols", &dispatcher.protocols, Use::Protocol));
    tables.push(plain("commands", &dispatcher.commands, Use::Command));
    for (section, values) in &dispatcher.schemas {
        let key = if section == "deploy" { "deploy_to" } else { "boot_method" };
        let rows = values.iter().map(|value| row(value, by(&Use::Method(section.clone(), value.clone()))));
        tables.push(table(key, rows.collect()));
    }
    let errors = has.server.errors.iter().map(|error| {
        let used = by(&Use::LoaderError(error.loader.clone(), error.text.clone()));
        row(&format!("{}: {}", error.loader, error.text), used)
    });
    tables.push(table("error_strings", errors.collect()));
    tables.push(table("kernel_messages", kernel_messages(has, used)));
    tables.push(plain("signals", &dispatcher.signals, Use::Signal));
    tables.push(plain("device_types", &has.server.device_types, Use::DeviceType));
    let place = |table: &Table| KINDS.iter().position(|kind| *kind == table.key).unwrap_or(KINDS.len());
    tables.sort_by_key(place);
    tables
}

/// LAVA tells a message's text, and not by which of its expressions it was found: by the one that matches
/// first, and of those by the one that it looks for first.
fn kernel_messages(has: &Inventory, used: &Used) -> Vec<Row> {
    let starts: Vec<&str> = has.dispatcher.kernel_messages.iter().map(|one| one.start.as_str()).collect();
    let known: Vec<Option<Regex>> = starts.iter().map(|start| Regex::new(start).ok()).collect();
    let mut by: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for (one, scenarios) in &used.by {
        let Use::KernelMessage(text) = one else { continue };
        let places = known.iter().enumerate().filter_map(|(number, start)| {
            let found = start.as_ref()?.find(text)?;
            Some((found.start(), number))
        });
        if let Some((_, number)) = places.min() {
            by.entry(number).or_default().extend(scenarios.iter().cloned());
        }
    }
    let row = |(number, start): (usize, &&str)| Row {
        name: (*start).to_owned(),
        scenarios: by.get(&number).cloned().unwrap_or_default(),
        reason: None,
    };
    starts.iter().enumerate().map(row).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::inventory::{Dispatcher, Server};
    use super::*;

    /// A small LAVA, and a run on it.
    pub(crate) fn example() -> Coverage {
        let dispatcher: Dispatcher = serde_json::from_value(serde_json::json!({
            "version": "2026.10",
            "strategies": {
                "deploy": [{"name": "tftp", "class": "TftpAction"}, {"name": "uuu", "class": "UUUAction"}],
                "boot": [{"name": "a", "class": "Same"}, {"name": "b", "class": "Same"}, {"name": "c"}],
                "flash": [{"name": "new", "class": "New"}],
            },
            "schemas": {"deploy": ["tftp", "uuu"], "boot": ["u-boot"]},
            "protocols": ["lava-multinode"],
            "commands": ["hard_reset"],
            "kernel_messages": [{"start": "-\\[ cut here \\]"}, {"start": "BUG: KASAN:"}, {"start": "(kernel BUG at|BUG:)"}],
            "signals": ["STARTTC"],
        }))
        .unwrap();
        let server: Server = serde_json::from_value(serde_json::json!({
            "device_types": ["x15", "juno"],
            "errors": [{"loader": "u-boot", "text": "TIMEOUT"}, {"loader": "grub", "text": "TIMEOUT"}],
            "problems": ["the template odd can't be read"],
        }))
        .unwrap();
        let mut used = Used { runs: vec!["r".into()], ..Used::default() };
        used.ran.extend(["x15".to_owned(), "odd<".to_owned(), "red".to_owned()]);
        used.passed.extend(["x15".to_owned(), "odd<".to_owned()]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let action = |of: (String, String)| Use::Action(of.0, of.1);
        for (of, scenario) in [
            (action(pair("deploy", "TftpAction")), "x15"),
            (action(pair("boot", "Same")), "x15"),
            (Use::Method("deploy".into(), "tftp".into()), "x15"),
            (Use::LoaderError("u-boot".into(), "TIMEOUT".into()), "odd<"),
            (Use::KernelMessage("[ 1.0] BUG: KASAN: x\nBUG: y -[ cut here ]".into()), "odd<"),
            (Use::DeviceType("x15".into()), "x15"),
            (Use::DeviceType("x15".into()), "odd<"),
        ] {
            used.by.entry(of).or_default().insert(scenario.to_owned());
        }
        let reasons: Vec<Entry> = serde_yaml::from_str(
            "- {kind: deploy, names: [uuu], reason: no tool}\n- {kind: boot, names: [gone], reason: r}",
        )
        .unwrap();
        coverage("debian:sid", &Inventory { dispatcher, server }, &used, &reasons).unwrap()
    }

    #[test]
    fn what_is_there_is_held_against_what_was_used() {
        let coverage = example();
        let shown: Vec<String> = coverage
            .tables
            .iter()
            .map(|table| {
                let missing: Vec<&str> = table.missing().map(|row| row.name.as_str()).collect();
                format!("{} {}/{} {}", table.key, table.covered(), table.rows.len(), missing.join(","))
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        deploy 1/2 uuu
        boot 0/3 a,b,c
        protocols 0/1 lava-multinode
        commands 0/1 hard_reset
        deploy_to 1/2 uuu
        boot_method 0/1 u-boot
        error_strings 1/2 grub: TIMEOUT
        kernel_messages 1/3 -\[ cut here \],(kernel BUG at|BUG:)
        signals 0/1 STARTTC
        device_types 1/2 juno
        flash 0/1 new
        ");
        assert_eq!(coverage.problems.len(), 1);
    }
}
