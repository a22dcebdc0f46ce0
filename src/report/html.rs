//! `index.html`: one file, no request to the outside, for people.
//!
//! Everything that LAVA or a board said goes through the template's escaping, and
//! is bounded: a page that a browser can't open helps nobody. The whole files lie
//! beside the page, which links to them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::Serialize;

use super::diff::{Hunk, hunks};
use super::{Row, Run, Settings};
use crate::event::{Difference, Lane, Moment, Phase, Verdict};
use crate::normalise::printable;
use crate::snapshot::{self, Kind, PLAIN_SERIES, Store};

const TEMPLATE: &str = include_str!("index.html");

/// Bytes of texts in a page, all scenarios together. Red ones come first.
const PAGE: usize = 24 << 20;

/// Bytes of one text of a scenario.
const TEXT: usize = 192 << 10;

/// Lines of one difference.
const DIFF: usize = 400;

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    suite: &'a str,
    device_types: &'a [String],
    verdict: &'static str,
    seconds: String,
    job: Option<&'a str>,
    reason: Option<&'a str>,
    difference: Option<&'a Difference>,
    console: Cow<'a, Moment>,
    timeline: Vec<Bar<'a>>,
    /// How long that is, in percent of the longest scenario's.
    share: String,
    folder: String,
    diffs: Vec<Diff>,
    texts: Vec<Text>,
}

/// A stretch of time, in percent of its scenario's.
#[derive(Serialize)]
struct Bar<'a> {
    lane: Lane,
    kind: &'a str,
    name: &'a str,
    left: String,
    width: String,
    took: String,
}

#[derive(Serialize)]
struct Diff {
    name: &'static str,
    hunks: Vec<Hunk>,
    left_out: usize,
}

#[derive(Serialize)]
struct Text {
    name: String,
    /// The whole file, relative to the page.
    href: String,
    text: String,
    cut: bool,
    /// The line at which it left the expectation, from 1.
    mark: Option<usize>,
}

/// The page of a run.
pub(super) fn write(run: &Run, settings: &Settings) -> Result<String, String> {
    let mut left = PAGE;
    let mut order: Vec<usize> = (0..run.rows.len()).collect();
    order.sort_by_key(|at| {
        matches!(run.rows[*at].verdict(), Verdict::Pass | Verdict::Skipped | Verdict::NotRun)
    });
    let longest = run.rows.iter().map(length).fold(0.001, f64::max);
    let mut entries: Vec<(usize, Entry)> =
        order.into_iter().map(|at| (at, entry(&run.rows[at], run, settings, longest, &mut left))).collect();
    entries.sort_by_key(|(at, _)| *at);
    let entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();

    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let template =
        environment.template_from_named_str("index.html", TEMPLATE).map_err(|error| error.to_string())?;
    let totals: Vec<(&str, usize)> = run
        .totals()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| (verdict.name(), count))
        .collect();
    let phases: Vec<(Phase, String)> =
        run.phases.iter().map(|(phase, took)| (*phase, format!("{:.1} s", took.as_secs_f64()))).collect();
    let title = format!(
        "{}{} scenarios{}",
        if run.interrupted { "Interrupted: " } else { "" },
        run.rows.len(),
        run.lava.as_ref().map_or_else(String::new, |lava| format!(" on LAVA {lava}"))
    );
    template
        .render(context! {
            title,
            name => &run.name,
            seconds => format!("{:.1}", run.seconds()),
            warnings => &run.warnings,
            notes => &run.notes,
            totals,
            phases,
            scenarios => entries,
        })
        .map_err(|error| format!("{error:#}"))
}

/// Seconds that the timeline of a scenario covers.
fn length(row: &Row) -> f64 {
    let spans = row.outcome.iter().flat_map(|outcome| &outcome.timeline);
    spans.map(|span| span.to).fold(0.001, f64::max)
}

fn percent(part: f64, whole: f64) -> String {
    format!("{:.2}", (part / whole * 100.0).clamp(0.0, 100.0))
}

fn bars(row: &Row) -> Vec<Bar<'_>> {
    let length = length(row);
    let spans = row.outcome.iter().flat_map(|outcome| &outcome.timeline);
    spans
        .map(|span| Bar {
            lane: span.lane,
            kind: &span.kind,
            name: &span.name,
            left: percent(span.from, length),
            width: percent(span.to - span.from, length),
            took: format!("{:.1} s", span.to - span.from),
        })
        .collect()
}

fn entry<'a>(row: &'a Row, run: &'a Run, settings: &Settings, longest: f64, left: &mut usize) -> Entry<'a> {
    let folder = row.folder();
    let outcome = row.outcome.as_ref();
    let mut entry = Entry {
        name: &row.info.name,
        suite: &row.info.suite,
        device_types: &row.info.device_types,
        verdict: row.verdict().name(),
        seconds: outcome
            .filter(|outcome| outcome.seconds > 0.0)
            .map_or_else(String::new, |outcome| format!("{:.1}", outcome.seconds)),
        job: row.job.as_deref(),
        reason: outcome.and_then(|outcome| outcome.reason.as_deref()),
        difference: outcome.and_then(|outcome| outcome.first_difference.as_ref()),
        console: outcome.map_or_else(Cow::default, |outcome| Cow::Borrowed(&outcome.console)),
        timeline: bars(row),
        share: percent(length(row), longest),
        folder: folder.to_string_lossy().into_owned(),
        diffs: Vec::new(),
        texts: Vec::new(),
    };
    let full = run.report.join(&folder);
    let mut mark = None;
    if matches!(row.verdict(), Verdict::Differs | Verdict::Timeout | Verdict::Error) {
        let series = run.lava.as_deref().and_then(snapshot::series).unwrap_or(PLAIN_SERIES);
        let store = Store::new(&settings.root);
        for kind in Kind::ALL {
            let found = snapshot::read(&full.join(kind.name()).with_extension("snap"));
            let expected = store.expected_of(&row.info.suite, &row.info.name, series, kind);
            if let (Ok(Some(found)), Ok(Some(expected))) = (found, expected)
                && expected.text != found
            {
                if let Some(first) = entry.difference.filter(|first| first.snapshot == kind.name()) {
                    mark = Some((kind, (first.line + 1).saturating_sub(expected.first_line)));
                }
                let (hunks, left_out) = hunks(&expected.text, &found, DIFF);
                let size = |hunk: &Hunk| hunk.lines.iter().map(|line| line.parts.text().len()).sum::<usize>();
                *left = left.saturating_sub(hunks.iter().map(size).sum());
                entry.diffs.push(Diff { name: kind.name(), hunks, left_out });
            }
        }
    }
    let consoles = consoles(&full);
    let snap = |kind: Kind| (kind.name().to_owned(), format!("{}.snap", kind.name()), Some(kind));
    let console = |file: String| {
        let board = file.trim_start_matches("console-").trim_end_matches(".log");
        (format!("console {board}"), format!("raw/{file}"), None)
    };
    let texts = std::iter::once(snap(Kind::Log))
        .chain(consoles.into_iter().map(console))
        .chain([snap(Kind::Ledger), snap(Kind::Results)]);
    for (name, file, kind) in texts {
        let end = if kind.is_some() { End::First } else { End::Last };
        let text = text(&full, &entry.folder, &name, &file, left, end);
        let mark = mark.and_then(|(of, line)| (Some(of) == kind).then_some(line));
        entry.texts.extend(text.map(|text| Text { mark, ..text }));
    }
    entry
}

/// Files with what boards printed.
fn consoles(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder.join("raw")).into_iter().flatten().flatten();
    let mut consoles: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    consoles.retain(|name| name.starts_with("console-") && name.ends_with(".log"));
    consoles.sort();
    consoles
}

/// Which end of a long text is the telling one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    First,
    Last,
}

/// A file of a scenario, as much of it as there is room for; nothing when it is not there.
fn text(folder: &Path, shown: &str, name: &str, file: &str, left: &mut usize, end: End) -> Option<Text> {
    let limit = TEXT.min(*left);
    let mut opened = File::open(folder.join(file)).ok()?;
    let size = opened.metadata().ok()?.len();
    let cut = size > limit as u64;
    if cut && end == End::Last {
        opened.seek(SeekFrom::Start(size - limit as u64)).ok()?;
    }
    let mut bytes = Vec::new();
    opened.take(limit as u64).read_to_end(&mut bytes).ok()?;
    *left -= bytes.len();
    let text = String::from_utf8_lossy(&bytes);
    let text = match text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")) {
        Some((_, body)) if end == End::First => body,
        _ => &text,
    };
    let lines: Vec<String> = console::strip_ansi_codes(text).lines().map(printable).collect();
    let href: Vec<String> =
        Path::new(shown).join(file).iter().map(|part| encode(&part.to_string_lossy())).collect();
    Some(Text { name: name.to_owned(), href: href.join("/"), text: lines.join("\n"), cut, mark: None })
}

/// A part of a path in a URL.
fn encode(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{run, settings};
    use crate::scenario::tests::write as write_file;

    fn page() -> String {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report");
        let header = "---\nsource: x\n---\n";
        let evil = "</pre><script>alert(2)</script>";
        write_file(
            folder.path(),
            "expected/health-checks/juno/results.snap",
            &format!("{header}a\nping: pass\n"),
        );
        write_file(
            &report,
            "scenarios/health-checks/juno/results.snap",
            &format!("{header}a\nping: {evil}\n"),
        );
        write_file(&report, "scenarios/health-checks/juno/log.snap", &format!("{header}debug | {evil}\n"));
        write_file(
            &report,
            "scenarios/health-checks/juno/raw/console-juno-01.log",
            &format!("{}\u{1b}[31m{evil}\u{7}\r\n", "boot\n".repeat(100_000)),
        );
        write(&run(&report), &settings(folder.path())).unwrap()
    }

    #[test]
    fn nothing_that_lava_said_becomes_markup() {
        let page = page();
        assert!(!page.contains("alert(1)</script>") && !page.contains("alert(2)</script>"));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;"), "{page}");
        assert!(!page.contains('\u{1b}') && !page.contains('\u{7}'));
    }

    #[test]
    fn the_page_asks_nothing_of_the_outside() {
        let page = page();
        for outside in ["http://", "https://", "src=\"", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_red_scenario_has_its_difference_and_the_end_of_its_console() {
        // The template's escaping writes slashes so.
        let page = page().replace("&#x2f;", "/");
        assert!(page.contains("ping: pass"), "{page}");
        assert!(page.contains("id=\"juno\""));
        assert!(page.contains("href=\"scenarios/health-checks/juno/raw/console-juno-01.log\""));
        assert!(page.contains("\\x07"));
        assert!(page.len() < 1 << 20, "{}", page.len());
    }

    #[test]
    fn what_lava_and_the_board_did_is_drawn_to_scale() {
        let page = page();
        for bar in [
            "<i class=\"queued\" style=\"left:0.00%;width:23.08%\" title=\"queued &lt;script&gt;: 1.5 s\">",
            "<i class=\"firmware\" style=\"left:23.08%;width:76.92%\"",
        ] {
            assert!(page.contains(bar), "{bar}");
        }
    }

    #[test]
    fn each_text_has_a_link_and_the_one_that_differs_a_mark() {
        let page = page();
        for id in ["juno/log", "juno/diff-results", "juno/console-juno-01"] {
            assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
        }
        assert!(page.contains("id=\"juno/results\" data-mark=\""));
        assert!(!page.contains("id=\"juno/log\" data-mark"));
    }

    #[test]
    fn a_run_of_nothing_has_a_page_too() {
        let folder = tempfile::tempdir().unwrap();
        let page = write(&Run::default(), &settings(folder.path())).unwrap();
        assert!(page.contains("<!doctype html>"));
    }
}
