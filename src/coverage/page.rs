//! The coverage as one file for a browser, in the style of a run's page.

use std::collections::BTreeMap;

use minijinja::context;
use serde::Serialize;

use super::{Coverage, Row, show};
use crate::report::html;

const TEMPLATE: &str = include_str!("page.html");

/// A row with a cell for each LAVA.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    cells: Vec<Cell>,
    reason: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Cell {
    class: &'static str,
    text: String,
    /// All scenarios.
    all: String,
}

impl Cell {
    fn of(row: &Row) -> Self {
        let all: Vec<&str> = row.scenarios.iter().map(String::as_str).collect();
        match all.len() {
            0 => Self { class: "differs", text: "missing".into(), all: String::new() },
            _ => Self { class: "pass", text: show::by(row), all: all.join(" ") },
        }
    }

    fn none() -> Self {
        Self { class: "soft", text: "not there".into(), all: String::new() }
    }
}

#[derive(Debug, Serialize)]
struct Part {
    key: String,
    title: String,
    /// `n of m`, for each LAVA.
    counts: Vec<String>,
    lines: Vec<Line>,
}

/// The page.
///
/// # Errors
/// When the template does not fit.
pub fn page(lavas: &[Coverage]) -> Result<String, String> {
    let mut keys: Vec<&str> = Vec::new();
    for table in lavas.iter().flat_map(|one| &one.tables) {
        if !keys.contains(&table.key.as_str()) {
            keys.push(&table.key);
        }
    }
    let parts: Vec<Part> = keys.into_iter().map(|key| part(lavas, key)).collect();
    let heads: Vec<String> = lavas.iter().map(|one| format!("{} ({})", one.version, one.name)).collect();
    let ran: Vec<String> = lavas
        .iter()
        .zip(&heads)
        .map(|(one, head)| {
            format!(
                "{head}: {} of {} scenarios passed in {}",
                one.scenarios.1,
                one.scenarios.0,
                one.runs.join(", ")
            )
        })
        .collect();
    let notes: Vec<String> = lavas
        .iter()
        .flat_map(|one| one.unknown.iter().cloned().chain(one.problems.iter().map(ToString::to_string)))
        .collect();
    html::render("coverage.html", TEMPLATE, "", context! { heads, ran, parts, notes })
}

fn part(lavas: &[Coverage], key: &str) -> Part {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    let mut counts = Vec::new();
    for (at, one) in lavas.iter().enumerate() {
        let Some(table) = one.tables.iter().find(|table| table.key == key) else {
            counts.push("none".to_owned());
            continue;
        };
        counts.push(format!("{} of {}", table.covered(), table.rows.len()));
        for row in &table.rows {
            let line = lines.entry(row.name.clone()).or_insert_with(|| Line {
                name: row.name.clone(),
                cells: vec![Cell::none(); lavas.len()],
                reason: None,
            });
            line.cells[at] = Cell::of(row);
            line.reason = line.reason.take().or_else(|| row.reason.clone());
        }
    }
    Part { key: key.to_owned(), title: show::title(key), counts, lines: lines.into_values().collect() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn the_page_shows_every_lava_and_escapes_what_comes_from_them() {
        let mut older = example();
        older.name = "debian".into();
        older.tables.retain(|table| table.key != "flash");
        let page = page(&[older, example()]).unwrap();
        assert!(page.contains("odd&lt;") && !page.contains("odd<"), "{page}");
        for text in ["no tool", "1 of 2", "not there", "the template odd can&#x27;t be read"] {
            assert!(page.contains(text), "{text}: {page}");
        }
    }
}
