//! `meta-lava list`: list the scenarios.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;

use crate::commands::{matrix, print, server_image};
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::lava::series::Range;
use crate::root::root;
use crate::scenario::filter::FilterArgs;
use crate::scenario::{Defect, Matrix, Role, Scenario};
use crate::stack::docker::Engine;
use crate::stack::images::LavaArgs;
use crate::stack::templates;

/// Options of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// How to print them
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// List the device-types that a LAVA has templates of instead, and the scenarios of each; needs Docker
    #[arg(long, conflicts_with_all = ["names", "expressions", "suites", "partition"])]
    types: bool,
    #[command(flatten)]
    lava: LavaArgs,
}

/// A device-type in `--format json`.
#[derive(Debug, Serialize)]
struct Type<'a> {
    device_type: &'a str,
    /// Whether the LAVA has a template of it.
    template: bool,
    scenarios: Vec<&'a str>,
}

/// How scenarios are listed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A table for people
    Text,
    /// One JSON array
    Json,
}

/// A scenario in `--format json`.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    suite: &'a str,
    about: Option<&'a str>,
    family: Option<&'a str>,
    device_types: Vec<&'a str>,
    boards: Vec<&'a str>,
    firmware: &'a str,
    roles: Vec<ListedRole<'a>>,
    tags: &'a [String],
    skip: Option<&'a str>,
    /// Of which LAVAs; of all where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_series: Option<Range>,
    defects: Vec<ListedDefect<'a>>,
    timeout: u64,
}

/// What LAVA is known to do wrong, in `--format json`.
#[derive(Debug, Serialize)]
struct ListedDefect<'a> {
    series: Range,
    about: &'a str,
    upstream: Option<&'a str>,
}

impl<'a> From<&'a Defect> for ListedDefect<'a> {
    fn from(defect: &'a Defect) -> Self {
        Self { series: defect.series, about: &defect.about, upstream: defect.upstream.as_deref() }
    }
}

/// A role in `--format json`.
#[derive(Debug, Serialize)]
struct ListedRole<'a> {
    name: Option<&'a str>,
    board: &'a str,
    device_type: &'a str,
    firmware: &'a str,
    boards: &'a [String],
}

impl<'a> From<&'a Role> for ListedRole<'a> {
    fn from(role: &'a Role) -> Self {
        Self {
            name: role.name.as_deref(),
            board: &role.board.name,
            device_type: role.device_type(),
            firmware: role.firmware(),
            boards: &role.boards,
        }
    }
}

impl<'a> From<&'a Scenario> for Listed<'a> {
    fn from(scenario: &'a Scenario) -> Self {
        Self {
            name: &scenario.name,
            suite: &scenario.suite,
            about: scenario.about.as_deref(),
            family: scenario.family.as_deref(),
            device_types: scenario.device_types(),
            boards: scenario.boards().collect(),
            firmware: scenario.roles.first().map_or("", Role::firmware),
            roles: scenario.roles.iter().map(ListedRole::from).collect(),
            tags: &scenario.tags,
            skip: scenario.skip.as_ref().map(|skip| skip.reason.as_str()),
            skip_series: scenario.skip.as_ref().and_then(|skip| skip.series),
            defects: scenario.defects.iter().map(ListedDefect::from).collect(),
            timeout: scenario.timeout.as_secs(),
        }
    }
}

/// Prints the chosen scenarios.
///
/// # Errors
/// [`Error::Usage`] for a broken matrix or expression, [`Error::NoMatch`].
pub async fn run(args: Args) -> Result<Exit> {
    let matrix = matrix()?;
    if args.types {
        return types(&args, &matrix).await;
    }
    if args.lava.is_given() {
        return Err(Error::Usage("which LAVA matters only for `list --types`".into()));
    }
    let chosen = args.filter.select(&matrix)?;
    match args.format {
        Format::Json => {
            let listed: Vec<Listed> = chosen.into_iter().map(Listed::from).collect();
            print(&json(&listed)?);
        }
        Format::Text => print(&table(&chosen)),
    }
    Ok(Exit::Ok)
}

fn json(list: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(list)
        .map_err(|error| Error::Usage(format!("could not write the list: {error}")))?;
    Ok(text + "\n")
}

/// Prints the device-types of a LAVA.
async fn types(args: &Args, matrix: &Matrix) -> Result<Exit> {
    let root = root()?;
    let lava = args.lava.lava(&root).await?;
    let engine = Engine::connect().await?;
    let image = server_image(&engine, &root, &lava).await?;
    let known = templates::in_image(&engine, &image).await?;
    let all = covered(matrix, &known);
    match args.format {
        Format::Json => print(&json(&all)?),
        Format::Text => print(&types_table(&all, &lava.name)),
    }
    Ok(Exit::Ok)
}

/// All device-types that there are templates or scenarios of, by name.
fn covered<'a>(matrix: &'a Matrix, known: &'a [String]) -> Vec<Type<'a>> {
    let mut types: BTreeMap<&str, Type> = known
        .iter()
        .map(|name| (name.as_str(), Type { device_type: name, template: true, scenarios: Vec::new() }))
        .collect();
    for scenario in &matrix.scenarios {
        for name in scenario.device_types() {
            let new = || Type { device_type: name, template: false, scenarios: Vec::new() };
            types.entry(name).or_insert_with(new).scenarios.push(&scenario.name);
        }
    }
    types.into_values().collect()
}

/// A line for each device-type, and one that counts them.
fn types_table(types: &[Type<'_>], lava: &str) -> String {
    let width = types.iter().map(|one| one.device_type.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for one in types {
        let note = if one.template { "" } else { "(no template) " };
        let line = format!("{:width$}  {note}{}", one.device_type, one.scenarios.join(" "));
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    let templates = types.iter().filter(|one| one.template);
    let covered = templates.clone().filter(|one| !one.scenarios.is_empty()).count();
    text.push_str(&format!(
        "{} device-types in {lava}, {covered} of them in a scenario\n",
        templates.count()
    ));
    text
}

/// A line for each scenario, and one that counts them.
fn table(chosen: &[&Scenario]) -> String {
    let rows: Vec<[String; 5]> = chosen
        .iter()
        .map(|scenario| {
            let mut notes: Vec<String> = scenario.about.iter().cloned().collect();
            notes.extend(scenario.tags.iter().map(|tag| format!("#{tag}")));
            notes.extend(scenario.skip.as_ref().map(|skip| match skip.series {
                None => format!("skipped: {}", skip.reason),
                Some(series) => format!("skipped on {series}: {}", skip.reason),
            }));
            let defects = scenario.defects.iter();
            notes.extend(defects.map(|defect| format!("defect on {}: {}", defect.series, defect.about)));
            [
                scenario.id(),
                scenario.device_types().join(", "),
                scenario.firmwares().join(", "),
                scenario.family.clone().unwrap_or_else(|| "(own job)".into()),
                notes.join(" "),
            ]
        })
        .collect();
    let head = ["SCENARIO", "DEVICE-TYPE", "FIRMWARE", "FAMILY", ""].map(str::to_owned);
    let all = || std::iter::once(&head).chain(&rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        line.push_str(&row[4]);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let skipped = chosen.iter().filter(|scenario| scenario.skipped().is_some()).count();
    text.push_str(&format!("{} scenario{}", rows.len(), if rows.len() == 1 { "" } else { "s" }));
    if skipped > 0 {
        text.push_str(&format!(", {skipped} of them skipped"));
    }
    let defects: usize = chosen.iter().map(|scenario| scenario.defects.len()).sum();
    if defects > 0 {
        text.push_str(&format!(", {defects} known defect{} of LAVA", if defects == 1 { "" } else { "s" }));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_a_lava_are_listed_with_what_covers_them() {
        let matrix = crate::scenario::tests::matrix();
        let known = ["beaglebone-black", "x15"].map(str::to_owned);
        insta::assert_snapshot!(types_table(&covered(&matrix, &known), "debian:sid"), @"
        beaglebone-black  bbb whole
        juno              (no template) juno
        x15
        2 device-types in debian:sid, 1 of them in a scenario
        ");
    }

    #[test]
    fn the_table_has_a_line_for_each_scenario() {
        let matrix = crate::scenario::tests::matrix();
        let chosen: Vec<&Scenario> = matrix.scenarios.iter().collect();
        insta::assert_snapshot!(table(&chosen), @"
        SCENARIO            DEVICE-TYPE       FIRMWARE  FAMILY
        health-checks/bbb   beaglebone-black  u-boot    uboot
        health-checks/juno  juno              u-boot    uboot      #slow
        lab/whole           beaglebone-black  u-boot    (own job)
        3 scenarios
        ");
    }
}
