//! `compare.html`: a comparison as one file that can be filtered, in the style of a run's page.

use minijinja::context;
use serde::Serialize;

use super::{Comparison, Kind};
use crate::report::html;

const TEMPLATE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");

/// Pieces of a group that stand in its line.
const FIRST: usize = 3;
/// Pieces of a group, and lines of an example, that the page has.
const LINES: usize = 40;

#[derive(Serialize)]
struct Shown<'a> {
    kind: &'static str,
    /// What stands in its line.
    first: Vec<String>,
    /// All of it, as far as there is room.
    pieces: Vec<String>,
    places: usize,
    /// Ids of the scenarios, and their names.
    scenarios: Vec<(String, &'a str)>,
    example: Option<(&'a str, &'static str, Vec<Line>)>,
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    number: usize,
    text: String,
}

#[derive(Serialize)]
struct Row<'a> {
    id: String,
    suite: &'a str,
    name: &'a str,
    a: &'static str,
    b: &'static str,
    /// The groups that concern it, from 1.
    causes: Vec<usize>,
}

impl Comparison {
    /// The page.
    ///
    /// # Errors
    /// When the template does not fit.
    pub fn page(&self) -> Result<String, String> {
        let id = |suite: &str, name: &str| format!("{suite}/{name}");
        let groups: Vec<Shown<'_>> = self
            .groups
            .iter()
            .map(|group| Shown {
                kind: group.kind.name(),
                first: group.shown(FIRST),
                pieces: group.shown(LINES),
                places: group.places,
                scenarios: group
                    .scenarios
                    .iter()
                    .map(|scenario| (id(&scenario.suite, &scenario.name), scenario.name.as_str()))
                    .collect(),
                example: group.example.as_ref().map(|example| {
                    let side = |kind, lines: &[(usize, String)]| {
                        let line = |(number, text): &(usize, String)| Line {
                            kind,
                            number: *number,
                            text: text.clone(),
                        };
                        lines.iter().take(LINES).map(line).collect::<Vec<_>>()
                    };
                    let lines = side("expected", &example.a).into_iter().chain(side("found", &example.b));
                    (example.scenario.as_str(), example.text, lines.collect())
                }),
            })
            .collect();
        let rows: Vec<Row<'_>> = self
            .scenarios
            .iter()
            .map(|one| {
                let id = id(&one.suite, &one.name);
                let verdict = |verdict: Option<crate::event::Verdict>| verdict.map_or("", |it| it.name());
                let mine =
                    groups.iter().zip(1..).filter(|(group, _)| group.scenarios.iter().any(|of| of.0 == id));
                Row {
                    causes: mine.map(|(_, number)| number).collect(),
                    suite: &one.suite,
                    name: &one.name,
                    a: verdict(one.a),
                    b: verdict(one.b),
                    id,
                }
            })
            .collect();
        let totals: Vec<(&str, usize)> = Kind::ALL
            .into_iter()
            .map(|kind| (kind.name(), self.totals.get(&kind).copied().unwrap_or_default()))
            .filter(|(_, count)| *count > 0)
            .collect();
        html::render(
            "compare.html",
            TEMPLATE,
            SCRIPT,
            context! {
                a => &self.a.name,
                b => &self.b.name,
                sides => [self.a.in_a_line(), self.b.in_a_line()],
                summary => self.summary(),
                totals,
                groups,
                rows,
                times => &self.times,
            },
        )
    }
}
