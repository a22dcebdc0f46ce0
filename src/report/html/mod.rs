//! `index.html`: one file, no request to the outside, for people.
//!
//! Everything that LAVA or a board said goes through the template's escaping, and
//! is bounded: a page that a browser can't open helps nobody. The whole files lie
//! beside the page, which links to them. A content security policy lets the page's own
//! script run and nothing else, so that a hole in the escaping would be none.

mod failures;
mod measured;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context, escape_formatter};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::causes::groups;
use super::diff::{Hunk, Parts, hunks};
use super::{Row, Run, Settings};
use crate::event::{About, Difference, Ending, Known, Lane, Moment, Phase, Verdict, lava_folder};
use crate::judge::snapshot::{self, HEADER, Id, Kind, Store};
use crate::lava::series::Series;
use crate::text::printable;

const TEMPLATE: &str = include_str!("index.html");
const STYLE: &str = include_str!("index.css");
const SCRIPT: &str = include_str!("index.js");
/// What the heads of all pages have, its policy above all.
const HEAD: &str = include_str!("head.html");
/// What the scripts of all pages begin with.
const COMMON: &str = include_str!("page.js");

/// Bytes of texts in a page, all scenarios together. Red ones come first.
const PAGE: usize = 24 << 20;

/// Bytes of one text of a scenario.
const TEXT: usize = 192 << 10;

/// Lines of one difference.
const DIFF: usize = 400;

/// Causes in a page.
const CAUSES: usize = 400;

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    /// What links to it say.
    id: String,
    lava: Option<&'a str>,
    alone: String,
    suite: &'a str,
    device_types: &'a [String],
    verdict: &'static str,
    seconds: String,
    job: Option<&'a str>,
    reason: Option<&'a str>,
    /// What LAVA says of jobs that did not complete, and what it waited for.
    ended: Vec<(String, Option<String>)>,
    /// What LAVA is known to do wrong, or no longer does.
    defects: Vec<Defect<'a>>,
    difference: Option<&'a Difference>,
    /// Its two lines, and where they part.
    apart: [Option<Parts>; 2],
    console: Cow<'a, Moment>,
    timeline: Vec<Bar<'a>>,
    /// The jobs that it is of; one without a name where there is only one.
    jobs: Vec<&'a str>,
    /// Seconds along it.
    axis: Vec<String>,
    /// How long that is, in percent of the longest scenario's.
    share: String,
    folder: String,
    diffs: Vec<Diff>,
    texts: Vec<Text>,
}

/// What LAVA is known to do wrong, or no longer does.
#[derive(Serialize)]
struct Defect<'a> {
    headline: &'static str,
    about: &'a str,
    series: &'a str,
    /// An address that a page may link to.
    upstream: Option<&'a str>,
    /// What to do about one that is gone.
    advice: Option<String>,
}

/// A device-type, with the scenarios that need it.
#[derive(Serialize)]
struct Type<'a> {
    name: &'a str,
    cells: Vec<Cell<'a>>,
}

#[derive(Serialize)]
struct Cell<'a> {
    id: String,
    name: String,
    /// What its name has beyond the device-type's.
    label: &'a str,
    verdict: &'static str,
    seconds: String,
}

/// A scenario, and what became of it on each of several LAVAs.
#[derive(Serialize)]
struct Across<'a> {
    name: &'a str,
    suite: &'a str,
    /// Whether it is green on one and not on another.
    parts: bool,
    cells: Vec<Cell<'a>>,
}

/// What many scenarios differ by.
#[derive(Serialize)]
struct Cause<'a> {
    snapshot: &'a str,
    gone: String,
    came: String,
    /// A line that shows it.
    expected: Option<&'a str>,
    found: Option<&'a str>,
    times: usize,
    /// Id and name.
    scenarios: Vec<(String, String)>,
}

/// A stretch of time, in percent of its scenario's.
#[derive(Serialize)]
struct Bar<'a> {
    lane: Lane,
    job: &'a str,
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
    // What is fixed is not red, but asks for something to be done.
    let place = |verdict: Verdict| {
        usize::from(!is_red(verdict)) + usize::from(verdict.is_good() && verdict != Verdict::Fixed)
    };
    order.sort_by_key(|at| place(run.rows[*at].verdict()));
    let longest = run.rows.iter().map(length).fold(0.001, f64::max);
    let entries: Vec<Entry> =
        order.into_iter().map(|at| entry(&run.rows[at], run, settings, longest, &mut left)).collect();

    let totals: Vec<(&str, usize)> = run
        .totals()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| (verdict.name(), count))
        .collect();
    let phases: Vec<(Phase, String)> =
        run.phases.iter().map(|(phase, took)| (*phase, format!("{:.1} s", took.as_secs_f64()))).collect();
    let red = run.rows.iter().filter(|row| is_red(row.verdict())).count();
    let fixed = run.rows.iter().filter(|row| row.verdict() == Verdict::Fixed).count();
    let title = format!(
        "{}{}{} scenario{}{}{}",
        if run.interrupted { "Interrupted: " } else { "" },
        if red > 0 { format!("{red} not as expected of ") } else { String::new() },
        run.rows.len(),
        if run.rows.len() == 1 { "" } else { "s" },
        run.lava().map_or_else(String::new, |lava| format!(" on LAVA {lava}")),
        if fixed > 0 { format!(": {fixed} fixed") } else { String::new() }
    );
    render(
        "index.html",
        TEMPLATE,
        SCRIPT,
        context! {
            title,
            name => &run.name,
            seconds => format!("{:.1}", run.seconds()),
            warnings => &run.warnings,
            fixed => fixed_rows(run),
            notes => &run.notes,
            totals,
            phases,
            red,
            types => if run.lavas.len() > 1 { Vec::new() } else { types(run) },
            across => across(run),
            lavas => run.lavas.iter().map(|lava| (about(lava), lava)).collect::<Vec<_>>(),
            failures => failures::failures(run),
            measured => measured::measured(run),
            causes => causes(run),
            causes_left_out => groups(run).len().saturating_sub(CAUSES),
            scenarios => entries,
        },
    )
}

/// A page of a `template` with what is in `context`, the style that pages share, and a `script` of its
/// own, which is the only one that may run.
///
/// # Errors
/// When the template does not fit its context.
pub(crate) fn render(name: &str, template: &str, script: &str, context: Value) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    // Control characters and those that turn the text around them are shown, as everywhere.
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => {
            let lines: Vec<String> = text.split('\n').map(printable).collect();
            escape_formatter(out, state, &Value::from(lines.join("\n")))
        }
        _ => escape_formatter(out, state, value),
    });
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let template = environment.template_from_named_str(name, template).map_err(|error| error.to_string())?;
    let script = [COMMON, script].concat();
    let script_hash = BASE64_STANDARD.encode(Sha256::digest(&script));
    let head = environment.render_str(HEAD, context! { script_hash }).map_err(|error| error.to_string())?;
    template
        .render(context! {
            style => Value::from_safe_string(STYLE.to_owned()),
            script => Value::from_safe_string(script),
            head => Value::from_safe_string(head),
            ..context
        })
        .map_err(|error| format!("{error:#}"))
}

/// What links to a scenario say.
fn id(row: &Row) -> String {
    let on = row.lava.as_deref().map(|lava| format!("@{}", lava_folder(lava))).unwrap_or_default();
    format!("{}{on}", row.info.name)
}

/// Where LAVA no longer does what it is known to do wrong: what links to each, its name, and the defects.
fn fixed_rows(run: &Run) -> Vec<(String, String, String)> {
    let fixed = run.rows.iter().filter(|row| row.verdict() == Verdict::Fixed);
    let about = |row: &Row| {
        let gone = row.outcome.iter().flat_map(|outcome| &outcome.defects).filter(|known| known.gone);
        gone.map(|known| known.about.as_str()).collect::<Vec<_>>().join("; ")
    };
    fixed.map(|row| (id(row), row.label(), about(row))).collect()
}

/// What a LAVA is made of, in one line.
fn about(lava: &About) -> String {
    let version = lava.version.as_deref().map(|version| ("LAVA", version));
    let parts = version.into_iter().chain(lava.parts());
    let parts: Vec<String> = parts.map(|(name, value)| format!("{name} {value}")).collect();
    parts.join(" · ")
}

/// The matrix of several LAVAs: a scenario a line, those that part them first.
fn across(run: &Run) -> Vec<Across<'_>> {
    if run.lavas.len() < 2 {
        return Vec::new();
    }
    let mut rows: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for row in &run.rows {
        rows.entry((&row.info.suite, &row.info.name)).or_default().push(row);
    }
    let mut lines: Vec<Across<'_>> = rows
        .into_iter()
        .map(|((suite, name), rows)| {
            let of = |lava: &About| rows.iter().find(|row| row.lava.as_deref() == Some(lava.name.as_str()));
            let cells = run.lavas.iter().map(|lava| match of(lava) {
                Some(row) => Cell {
                    id: id(row),
                    name: row.label(),
                    label: row.verdict().name(),
                    verdict: row.verdict().name(),
                    seconds: seconds(row),
                },
                None => Cell {
                    id: String::new(),
                    name: name.to_owned(),
                    label: "",
                    verdict: Verdict::NotRun.name(),
                    seconds: String::new(),
                },
            });
            let red = rows.iter().filter(|row| is_red(row.verdict())).count();
            let green = rows.iter().any(|row| matches!(row.verdict(), Verdict::Pass | Verdict::Fixed));
            Across { name, suite, parts: red > 0 && green, cells: cells.collect() }
        })
        .collect();
    lines.sort_by_key(|line| !line.parts);
    lines
}

/// Whether somebody should look at it: what is new is nobody's failure, but waits for a person.
fn is_red(verdict: Verdict) -> bool {
    !verdict.is_good() && verdict != Verdict::NotRun
}

/// What differs, by cause, most scenarios first.
fn causes(run: &Run) -> Vec<Cause<'_>> {
    let mut causes = Vec::new();
    for group in groups(run).into_iter().take(CAUSES) {
        let [gone, came] = group.cause.words();
        causes.push(Cause {
            snapshot: &group.cause.snapshot,
            gone,
            came,
            expected: group.first.expected.as_deref(),
            found: group.first.found.as_deref(),
            times: group.times,
            scenarios: group.rows.iter().map(|row| (id(row), row.label())).collect(),
        });
    }
    causes
}

/// The matrix: device-types, and the scenarios of each.
fn types(run: &Run) -> Vec<Type<'_>> {
    let mut types: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &run.rows {
        let names = row.info.device_types.iter().map(String::as_str);
        let none = row.info.device_types.is_empty().then_some("no device-type");
        for name in names.chain(none) {
            types.entry(name).or_default().push(row);
        }
    }
    types
        .into_iter()
        .map(|(name, rows)| {
            let cells = rows.iter().map(|row| Cell {
                id: id(row),
                name: row.label(),
                label: match row.info.name.strip_prefix(name).map(|rest| rest.trim_start_matches('-')) {
                    Some("") => row.verdict().name(),
                    Some(rest) => rest,
                    None => &row.info.name,
                },
                verdict: row.verdict().name(),
                seconds: seconds(row),
            });
            Type { name, cells: cells.collect() }
        })
        .collect()
}

/// How long it took, where it ran.
fn seconds(row: &Row) -> String {
    let outcome = row.outcome.as_ref().filter(|outcome| outcome.seconds > 0.0);
    outcome.map_or_else(String::new, |outcome| format!("{:.1}", outcome.seconds))
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
            job: &span.job,
            kind: &span.kind,
            name: &span.name,
            left: percent(span.from, length),
            width: percent(span.to - span.from, length),
            took: format!("{:.1} s", span.to - span.from),
        })
        .collect()
}

fn jobs(row: &Row) -> Vec<&str> {
    let mut jobs: Vec<&str> = Vec::new();
    for span in row.outcome.iter().flat_map(|outcome| &outcome.timeline) {
        if !jobs.contains(&span.job.as_str()) {
            jobs.push(&span.job);
        }
    }
    jobs
}

fn entry<'a>(row: &'a Row, run: &'a Run, settings: &Settings, longest: f64, left: &mut usize) -> Entry<'a> {
    let folder = row.folder();
    let outcome = row.outcome.as_ref();
    let mut entry = Entry {
        name: &row.info.name,
        id: id(row),
        lava: row.lava.as_deref(),
        alone: run.alone(row),
        suite: &row.info.suite,
        device_types: &row.info.device_types,
        verdict: row.verdict().name(),
        seconds: seconds(row),
        job: row.job.as_deref(),
        reason: outcome.and_then(|outcome| outcome.reason.as_deref()),
        ended: outcome.map(|outcome| outcome.ended.iter().map(ended).collect()).unwrap_or_default(),
        defects: outcome.map(|outcome| outcome.defects.iter().map(defect).collect()).unwrap_or_default(),
        difference: outcome.and_then(|outcome| outcome.first_difference.as_ref()),
        apart: outcome
            .and_then(|outcome| outcome.first_difference.as_ref())
            .map_or_else(Default::default, apart),
        console: outcome.map_or_else(Cow::default, |outcome| Cow::Borrowed(&outcome.console)),
        timeline: bars(row),
        jobs: jobs(row),
        axis: (0..=4).map(|part| format!("{:.1} s", length(row) * f64::from(part) / 4.0)).collect(),
        share: percent(length(row), longest),
        folder: folder.to_string_lossy().into_owned(),
        diffs: Vec::new(),
        texts: Vec::new(),
    };
    let full = run.report.join(&folder);
    let mut mark = None;
    if matches!(row.verdict(), Verdict::Differs | Verdict::Timeout | Verdict::Error | Verdict::Fixed) {
        let series =
            run.version_of(row).and_then(|version| Series::of(version).ok()).unwrap_or(Series::OLDEST);
        let store = Store::new(&settings.root);
        for kind in Kind::ALL {
            let found = snapshot::read(&kind.kept_in(&full));
            let id = Id { suite: row.info.suite.clone(), name: row.info.name.clone(), series, kind };
            let expected = store.expected(&id);
            if let (Ok(Some(found)), Ok(Some(expected))) = (found, expected)
                && *expected.text != *found
            {
                if let Some(first) = entry.difference.filter(|first| first.snapshot == kind.name()) {
                    mark = Some((kind, first.line.saturating_sub(HEADER)));
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
        entry.texts.extend(text.map(|text| {
            // What the board showed then is marked in its console and in the log, too.
            let mark = mark.or_else(|| moment(&text.text, &entry.console, kind));
            Text { mark, ..text }
        }));
    }
    entry
}

fn defect(known: &Known) -> Defect<'_> {
    let is_web = |url: &&str| url.starts_with("https://") || url.starts_with("http://");
    Defect {
        headline: known.headline(),
        about: &known.about,
        series: &known.series,
        upstream: known.upstream.as_deref().filter(is_web),
        advice: known.gone.then(|| known.advice()),
    }
}

fn ended(ending: &Ending) -> (String, Option<String>) {
    (ending.words(), ending.wait.as_ref().map(ToString::to_string))
}

/// The two lines of a difference, and where they part.
fn apart(difference: &Difference) -> [Option<Parts>; 2] {
    match (&difference.expected, &difference.found) {
        (Some(expected), Some(found)) => Parts::of(&printable(expected), &printable(found)).map(Some),
        (expected, found) => {
            [expected, found].map(|line| line.as_deref().map(|line| Parts::alone(&printable(line))))
        }
    }
}

/// The line, from 1, of a console or of the log at which `moment` was.
fn moment(text: &str, moment: &Moment, kind: Option<Kind>) -> Option<usize> {
    let at = moment.at?;
    let plain =
        |line: &str| console::strip_ansi_codes(&line.replace("\\x1b", "\u{1b}")).trim_end().to_owned();
    let wanted: Vec<String> = moment.lines.iter().map(|line| plain(line)).collect();
    let lines = text.lines().zip(1..).map(|(line, number)| (line.trim_end(), number));
    match kind {
        None => {
            let lines: Vec<(&str, usize)> = lines.filter(|(line, _)| !line.trim().is_empty()).collect();
            let same = |lines: &&[(&str, usize)]| lines.iter().map(|(line, _)| line).eq(&wanted);
            lines.windows(wanted.len().max(1)).find(same)?.get(at).map(|(_, number)| *number)
        }
        Some(Kind::Log) => {
            let wanted = wanted.get(at)?;
            let mut same = lines.filter(|(line, _)| {
                line.split_once(" | ").is_some_and(|(of, text)| of.trim_end() == "board" && text == wanted)
            });
            // Of several it could be any.
            let (_, number) = same.next()?;
            same.next().is_none().then_some(number)
        }
        Some(_) => None,
    }
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
    fn nothing_turns_the_text_around_it() {
        let mut run = run(Path::new("r"));
        run.lavas[0].version = Some("2023\u{202e}".into());
        run.rows[0].info.device_types = vec!["bbb\u{7}\u{202e}".into()];
        let page = write(&run, &settings(Path::new("r"))).unwrap();
        assert!(!page.contains(['\u{202e}', '\u{7}']) && page.contains("bbb\\x07\\u{202e}"));
    }

    #[test]
    fn what_was_measured_has_a_table_with_the_least_run_file_first() {
        let mut run = run(Path::new("r"));
        let file = |path: &str, missing: &[usize]| crate::event::Measured {
            path: path.into(),
            lines: 10,
            missing: missing.to_vec(),
            branches: 4,
            missing_branches: 1,
        };
        run.lavas[0].measured =
            vec![file("lava_dispatcher/a.py", &[]), file("lava_dispatcher/<b>.py", &[2, 3])];
        let page = write(&run, &settings(Path::new("r"))).unwrap();
        assert!(page.contains("all lines 90.0 % of 20, branches 75.0 % of 8"), "{page}");
        let at = |text: &str| page.find(text).unwrap();
        assert!(at("lava_dispatcher&#x2f;&lt;b&gt;.py") < at("lava_dispatcher&#x2f;a.py"));
        assert!(page.contains("<td>2-3</td>"));
    }

    #[test]
    fn the_page_asks_nothing_of_the_outside() {
        let page = page();
        for outside in ["http://", "https://", "src=\"", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn only_the_pages_own_script_may_run() {
        let page = page();
        let (_, script) = page.split_once("<script>").unwrap();
        let (script, _) = script.split_once("</script>").unwrap();
        let hash = BASE64_STANDARD.encode(Sha256::digest(script));
        assert!(page.contains(&format!("content=\"default-src 'none'; script-src 'sha256-{hash}';")));
    }

    #[test]
    fn what_is_red_comes_first_and_each_device_type_has_a_tile() {
        let page = page();
        assert!(page.contains("<title>4 not as expected of 9 scenarios on LAVA 2023.01-2: 1 fixed"));
        let at = |name: &str| page.find(&format!("<details class=\"scenario\" id=\"{name}\"")).unwrap();
        assert!(at("juno") < at("bbb") && at("new") < at("skip"));
        assert!(page.contains("<b title=\"JUNO\">JUNO</b><a class=\"differs\" href=\"#juno\""));
    }

    #[test]
    fn scenarios_of_one_device_type_stand_in_one_tile() {
        let mut run = run(Path::new("r"));
        for (row, name) in run.rows.iter_mut().zip(["bbb", "bbb-barebox", "other"]) {
            row.info.name = name.into();
            row.info.device_types = vec!["bbb".into()];
        }
        let types = types(&run);
        let bbb = types.iter().find(|one| one.name == "bbb").unwrap();
        assert_eq!(bbb.cells.iter().map(|cell| cell.label).collect::<Vec<_>>(), ["pass", "barebox", "other"]);
    }

    #[test]
    fn the_moment_is_found_in_the_console_and_in_the_log() {
        let moment = |text: &str, at, kind| {
            let lines = ["=> dhcp", "\\x1b[1mbound"].map(str::to_owned).to_vec();
            super::moment(text, &Moment { lines, at }, kind)
        };
        let console = "=> dhcp\nfailed\n\n=> dhcp\n\nbound\n=>";
        assert_eq!(moment(console, Some(1), None), Some(6));
        assert_eq!(moment(console, None, None), None);
        assert_eq!(moment("info     | x\nboard    | bound\n", Some(1), Some(Kind::Log)), Some(2));
        assert_eq!(moment(&"board    | bound\n".repeat(2), Some(1), Some(Kind::Log)), None);
    }

    #[test]
    fn a_red_scenario_has_its_difference_and_the_end_of_its_console() {
        // The template's escaping writes slashes so.
        let page = page().replace("&#x2f;", "/");
        assert!(page.contains("ping: <mark>pass</mark>"), "{page}");
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
    fn a_run_of_five_hundred_has_small_tiles_and_is_no_larger_than_its_texts() {
        let folder = tempfile::tempdir().unwrap();
        let mut big = run(folder.path());
        big.rows = (0..500)
            .map(|number| {
                let mut info = big.rows[1].info.clone();
                (info.name, info.device_types) = (format!("board-{number}"), vec![format!("type-{number}")]);
                Row { outcome: Some(crate::report::tests::differing()), ..Row::new(info) }
            })
            .collect();
        let page = write(&big, &settings(folder.path())).unwrap();
        assert!(page.contains("class=\"matrix many\""));
        assert!(page.len() < 4 << 20, "{}", page.len());
    }

    #[test]
    fn a_run_of_nothing_has_a_page_too() {
        let folder = tempfile::tempdir().unwrap();
        let page = write(&Run::default(), &settings(folder.path())).unwrap();
        assert!(page.contains("<!doctype html>"));
    }
}
