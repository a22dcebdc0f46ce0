//! What is left on the screen when a run has ended.

use std::fmt::Write as _;

use console::{Style, measure_text_width, truncate_str};

use super::{Look, count, phase_name};
use crate::error::Error;
use crate::event::{Difference, Known, Moment, Outcome, Verdict};
use crate::print;
use crate::report::causes::groups;
use crate::report::diff::{Parts, excerpt};
use crate::report::{Row, Run};
use crate::text::printable;

/// Lines of the summary's end: totals, phases, report and what may precede them.
const END: usize = 8;
/// Lines of a screen that has room for more of a console.
const ROOMY: usize = 30;
/// Lines of a screen that has no room for causes.
const SMALL: usize = 24;
/// So many rows each has of what is said in whole sentences, on a screen that has room.
const ROWS: usize = 4;
/// So many of a scenario's jobs that did not complete are told at most.
const ENDINGS: usize = 3;
/// So many defects that are gone are told in full at most, on a screen that has room.
const FIXED: usize = 5;
/// So many causes are told at most; the page has all.
const CAUSES: usize = 6;

/// The red scenarios, as many as fit, the totals, and where the report is.
pub(super) fn summary(run: &Run, look: Look, strict: bool, failed: &[Error]) -> String {
    let mut text = String::new();
    let order = |row: &&Row| match row.verdict() {
        Verdict::Differs => 0,
        Verdict::Timeout => 1,
        Verdict::Error => 2,
        _ if row.outcome.as_ref().is_some_and(|outcome| !outcome.ended.is_empty()) => 3,
        _ => 4,
    };
    let mut red: Vec<&Row> = run
        .rows
        .iter()
        .filter(|row| {
            matches!(row.verdict(), Verdict::Differs | Verdict::Timeout | Verdict::Error | Verdict::New)
        })
        .collect();
    red.sort_by_key(order);
    // What many scenarios have in common, then details for as many as fit, at least one;
    // then a line each; then a number.
    let causes = causes(run, look);
    text.push_str(&causes);
    // These are below all that is red, where nobody overlooks them.
    let defects = defects(run, look);
    let end = END + usize::from(!run.outstanding.is_empty()) + defects.lines().count();
    let mut left = look.height.saturating_sub(end + causes.lines().count());
    let mut shown = 0;
    for row in &red {
        let Some(outcome) = &row.outcome else { continue };
        let details = details(row, run, outcome, look);
        let lines = details.lines().count() + 1;
        let is_plain = row.verdict() == Verdict::New && outcome.ended.is_empty();
        if is_plain || (shown > 0 && lines + red.len().min(10) > left) {
            break;
        }
        text.push('\n');
        text.push_str(&details);
        left = left.saturating_sub(lines);
        shown += 1;
    }
    let rest = &red[shown..];
    if !rest.is_empty() {
        text.push('\n');
        let room = left.max(if causes.is_empty() { 3 } else { 1 });
        let fit = if rest.len() <= room { rest.len() } else { room - 1 };
        for row in &rest[..fit] {
            let reason =
                row.outcome.as_ref().and_then(|outcome| outcome.reason.as_deref()).unwrap_or_default();
            let (id, reason) = (printable(&row.id()), printable(reason));
            let verdict = look.verdict(row.verdict(), &format!("{:<8}", row.verdict().name()));
            let line = format!("{verdict} {id} {reason}");
            let _ = writeln!(text, "{}", truncate_str(line.trim_end(), look.width, "…"));
        }
        if fit < rest.len() {
            let _ = writeln!(text, "… and {} more; see index.html", rest.len() - fit);
        }
    }
    text.push_str(&defects);
    if !text.is_empty() {
        text.push('\n');
    }
    let totals: Vec<String> = run
        .totals()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| look.verdict(verdict, &format!("{count} {}", verdict.name())))
        .collect();
    let lava = run.lava().map(|lava| format!(" LAVA {},", printable(&lava))).unwrap_or_default();
    let head = if run.interrupted { "Interrupted" } else { "Summary" };
    let head = format!(
        "{} [{:.1} s]{lava} {}: ",
        look.bold(head),
        run.seconds(),
        count(run.rows.len(), "scenario"),
    );
    let totals = if totals.is_empty() { "nothing to do".into() } else { totals.join(", ") };
    let fits = measure_text_width(&head) + measure_text_width(&totals) <= look.width;
    let _ = writeln!(text, "{}{}{totals}", head.trim_end(), if fits { " " } else { "\n  " });
    if !run.phases.is_empty() && !look.quiet {
        let phases: Vec<String> = run
            .phases
            .iter()
            .map(|(phase, took)| format!("{} {:.1} s", phase_name(*phase), took.as_secs_f64()))
            .collect();
        let _ = writeln!(text, "  {}", phases.join(", "));
    }
    if run.rows.iter().any(|row| row.verdict() == Verdict::New) {
        let consequence = if strict { "; that fails the run here" } else { "" };
        let _ =
            writeln!(text, "  new: nothing is expected of these yet, see `meta-lava review`{consequence}");
    }
    if !run.outstanding.is_empty() {
        let more = count(run.outstanding.len(), "scenario");
        let _ = writeln!(text, "  {more} of earlier runs did not pass yet: `meta-lava rerun`");
    }
    for error in failed {
        let _ = writeln!(text, "  {} {error}", look.verdict(Verdict::Error, "report:"));
    }
    if !run.report.as_os_str().is_empty() && failed.is_empty() {
        let _ = writeln!(text, "  {}", print::path(&run.report.join("index.html")).display());
    }
    text
}

/// What LAVA is known to do wrong and no longer does, with what to do about it; and where it still does.
fn defects(run: &Run, look: Look) -> String {
    let of = |gone: bool| -> Vec<(&Row, &Known)> {
        let all = run.rows.iter().filter_map(|row| Some((row, row.outcome.as_ref()?)));
        let all = all.flat_map(|(row, outcome)| outcome.defects.iter().map(move |known| (row, known)));
        all.filter(|(row, known)| known.gone == gone && row.verdict().is_good()).collect()
    };
    let mut text = String::new();
    let fixed = of(true);
    let most = if look.height < ROOMY { 1 } else { FIXED };
    for (row, known) in fixed.iter().take(most) {
        let verdict = look.verdict(Verdict::Fixed, Verdict::Fixed.name());
        let lava =
            run.version_of(row).map(|version| format!("LAVA {version}")).unwrap_or_else(|| "LAVA".into());
        let head = format!(
            "{verdict} {}: {} no longer does this wrong",
            look.bold(&printable(&row.id())),
            printable(&lava)
        );
        let lines = [
            ("defect:", known.about.clone()),
            ("to do:", format!("{}; then `meta-lava accept {}`", known.advice(), row.info.name)),
        ];
        let _ = write!(text, "\n{}\n", truncate_str(&head, look.width, "…"));
        for (mut title, words) in lines {
            let width = look.width.saturating_sub(14).max(20);
            for row in wrapped(&printable(&words), width, ROWS) {
                let _ = writeln!(text, "  {title:<10}{}", row.trim_start());
                title = "";
            }
        }
    }
    if fixed.len() > most {
        let more = format!("… and {} more fixed; see index.html", fixed.len() - most);
        let _ = writeln!(text, "{}", look.verdict(Verdict::Fixed, &more));
    }
    let known = of(false);
    if !known.is_empty() && !look.quiet {
        let names: Vec<String> = known.iter().map(|(row, _)| printable(&row.label())).collect();
        let line = format!("{} of LAVA as expected: {}", count(known.len(), "known defect"), names.join(" "));
        let _ = write!(text, "\n{}\n", truncate_str(&line, look.width, "…"));
    }
    text
}

/// What differs in several scenarios for the same cause: how many, what changed, and who.
/// Nothing where each cause concerns one scenario, whose own details tell it, and on a
/// screen too small for more than these.
fn causes(run: &Run, look: Look) -> String {
    let groups = groups(run);
    let shared = groups.iter().filter(|group| group.rows.len() > 1).count();
    if shared == 0 || look.height < SMALL {
        return String::new();
    }
    let mut text = String::from("\nby cause:\n");
    for group in groups.iter().take(shared.min(CAUSES)) {
        let change = group.cause.in_a_line();
        let line = format!("{:>5} {:<8}{change}", group.rows.len(), printable(&group.cause.snapshot));
        let names: Vec<String> = group.rows.iter().map(|row| printable(&row.label())).collect();
        let _ = writeln!(text, "{}", truncate_str(&line, look.width, "…"));
        let _ = writeln!(text, "{}", truncate_str(&format!("{:14}{}", "", names.join(" ")), look.width, "…"));
    }
    let rest = groups.len() - shared.min(CAUSES);
    if rest > 0 {
        let _ = writeln!(text, "      … and {}; see index.html", count(rest, "more cause"));
    }
    text
}

/// A red scenario: the first difference, what the board showed then, how to run it alone.
fn details(row: &Row, run: &Run, outcome: &Outcome, look: Look) -> String {
    let mut text = String::new();
    let mut head = format!(
        "{} {}",
        look.verdict(outcome.verdict, outcome.verdict.name()),
        look.bold(&printable(&row.id()))
    );
    if let Some(job) = &row.job {
        let _ = write!(head, " (job {})", printable(job));
    }
    let small = look.height < ROOMY;
    let rows = if small { 1 } else { ROWS };
    if let Some(reason) = &outcome.reason {
        let _ = write!(head, ": {}", printable(reason));
    }
    for row in wrapped(&head, look.width.saturating_sub(2), rows) {
        let _ = writeln!(text, "{row}");
    }
    let width = look.width.saturating_sub(14).max(20);
    for ending in outcome.ended.iter().take(if small { 1 } else { ENDINGS }) {
        let wait = ending.wait.as_ref().map(|wait| ("waited:", wait.to_string()));
        for (mut title, words) in std::iter::once(("LAVA:", ending.words())).chain(wait) {
            for row in wrapped(&words, width, rows) {
                let _ = writeln!(text, "  {title:<10}{}", row.trim_start());
                title = "";
            }
        }
    }
    if let Some(difference) = &outcome.first_difference {
        let place = format!(
            "  {}.snap, line {}: {}",
            difference.snapshot,
            difference.line,
            run.whole(row, difference)
        );
        let _ = writeln!(text, "{}", truncate_str(&printable(&place), look.width, "…"));
        first_difference(&mut text, difference, width, look);
    }
    // On a small screen what LAVA says takes the place of what the board did.
    let many = if !small {
        6
    } else if outcome.ended.is_empty() {
        4
    } else {
        2
    };
    let (lines, at) = window(&outcome.console, many);
    for (number, line) in lines.iter().enumerate() {
        let head = if number == 0 { "console:" } else { "" };
        let mark = if at == Some(number) { ">" } else { " " };
        let line = printable(line);
        let line = truncate_str(&line, width, "…");
        let line = if at == Some(number) { look.bold(&line) } else { line.into_owned() };
        let _ = writeln!(text, "  {head:<10}{mark} {line}");
    }
    let _ = writeln!(text, "  alone:    {}", printable(&run.alone(row)));
    text
}

/// `text` in at most so many rows of so many columns, broken between words; those after the first
/// are indented. What does not fit is cut.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in text.split(' ') {
        let room = width.saturating_sub(rows.last().map_or(0, |row| measure_text_width(row)));
        let last = rows.len() - 1;
        if rows[last].trim().is_empty() || measure_text_width(word) < room || rows.len() == most {
            if !rows[last].trim().is_empty() {
                rows[last].push(' ');
            }
            rows[last].push_str(word);
        } else {
            rows.push(format!("  {word}"));
        }
    }
    rows.iter().map(|row| truncate_str(row, width, "…").into_owned()).collect()
}

/// The two lines that part, around the place where they do: it is reversed, or pointed at
/// where there are no colours.
fn first_difference(text: &mut String, difference: &Difference, width: usize, look: Look) {
    let end = || "(nothing more)".to_owned();
    let parts = match (&difference.expected, &difference.found) {
        (Some(expected), Some(found)) => Parts::of(&printable(expected), &printable(found)),
        (expected, found) => [expected, found]
            .map(|line| Parts::alone(&line.as_deref().map_or_else(end, printable)))
            .map(|line| Parts::alone(&truncate_str(&line.before, width, "…"))),
    };
    let shown = excerpt(parts, width);
    let styles = [("expected:", Style::new().green()), ("found:", Style::new().red())];
    for ((head, style), line) in styles.into_iter().zip(&shown) {
        let change = look.paint(style.clone().reverse(), &line.change);
        let [before, after] = [&line.before, &line.after].map(|part| look.paint(style.clone(), part));
        let _ = writeln!(text, "    {head:<10}{before}{change}{after}");
    }
    let change = shown.iter().map(|line| measure_text_width(&line.change)).max().unwrap_or_default();
    if !look.colour && change > 0 {
        let before = 14 + measure_text_width(&shown[0].before);
        let _ = writeln!(text, "{:before$}{}", "", "^".repeat(change));
    }
}

/// So `many` lines of the console, and which of them is the closest.
fn window(console: &Moment, many: usize) -> (&[String], Option<usize>) {
    let lines = &console.lines;
    let first = match console.at {
        Some(at) => (at + many / 2).min(lines.len()).saturating_sub(many),
        None => lines.len().saturating_sub(many),
    };
    let last = (first + many).min(lines.len());
    (&lines[first..last], console.at.map(|at| at.saturating_sub(first)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::tests::{differing, run};

    #[test]
    fn the_summary_says_what_differs_and_how_to_run_it_alone() {
        insta::assert_snapshot!(summary(&run(Path::new("r")), Look::default(), true, &[]));
    }

    #[test]
    fn the_summary_fits_a_screen_however_much_is_red() {
        let mut run = run(Path::new("r"));
        let mut outcome = differing();
        outcome.console.lines = vec!["x".repeat(500); 12];
        outcome.reason = Some("all is lost. ".repeat(20));
        let rows: Vec<Row> = (0..480)
            .map(|number| {
                let mut info = run.rows[1].info.clone();
                info.name = format!("board-{number}");
                Row { job: Some("12".into()), outcome: Some(outcome.clone()), ..Row::new(info) }
            })
            .collect();
        run.rows = rows;
        for height in [20, 24, 50, 100] {
            let look = Look { height, width: 80, ..Look::default() };
            let text = summary(&run, look, false, &[]);
            assert!(text.lines().count() <= height, "{} lines for {height}:\n{text}", text.lines().count());
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.contains("meta-lava run board-0"));
            assert!(text.contains("more; see index.html"));
        }
    }

    #[test]
    fn of_long_lines_the_place_is_shown_where_they_part() {
        let line = |word: &str| {
            Some(format!("  0_smoke: pass ({}, {word}, {})", "x ".repeat(200), "y ".repeat(200)))
        };
        let difference =
            |expected, found| Difference { snapshot: "results".into(), line: 23, expected, found };
        let shown = |difference: &Difference| {
            let mut text = String::new();
            first_difference(&mut text, difference, 40, Look::default());
            text
        };
        insta::assert_snapshot!(shown(&difference(line("root=/dev/mmcblk1"), line("root=/dev/mmcblk0"))), @r"
          expected: …, root=/dev/mmcblk1, y y y y y y y y y…
          found:    …, root=/dev/mmcblk0, y y y y y y y y y…
                                 ^^^^^^^
        ");
        insta::assert_snapshot!(shown(&difference(line("a"), None)), @r"
          expected:   0_smoke: pass (x x x x x x x x x x x …
          found:    (nothing more)
        ");
    }

    #[test]
    fn sentences_are_wrapped_between_words_and_cut_where_there_is_no_room() {
        assert_eq!(wrapped("one two three", 9, 3), ["one two", "  three"]);
        assert_eq!(wrapped("one two three", 9, 1), ["one two …"]);
        assert_eq!(wrapped("aaaaaaaaaaaa b", 6, 3), ["aaaaa…", "  b"]);
        assert_eq!(wrapped("", 6, 3), [""]);
    }

    #[test]
    fn the_screen_of_many_red_ones_is_80_by_24() {
        let mut run = run(Path::new("r"));
        let red = |number: u32| {
            let mut info = run.rows[1].info.clone();
            info.name = format!("board-{number}");
            Row { job: Some("12".into()), outcome: Some(differing()), ..Row::new(info) }
        };
        run.rows = (0..20).map(red).collect();
        let look = Look { height: 24, width: 80, ..Look::default() };
        insta::assert_snapshot!(summary(&run, look, true, &[]), @r"

        by cause:
           20 results pass → <script>fail
                      board-0 board-1 board-2 board-3 board-4 board-5 board-6 board-7 b…

        differs health-checks/board-0 (job 12): results, log not as expected
          LAVA:     Incomplete, Job: login <script>timed out
          waited:   for `/ $`; the board last said `/ # \x1b[1m`
          results.snap, line 12: meta-lava show board-0 --part results --lava 2023.01
            expected:   ping: pass
            found:      ping <script>alert(1)</script>: fail
                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          console:  > => bootz
                      Starting kernel ...
          alone:    meta-lava run board-0

        … and 19 more; see index.html

        Summary [23.5 s] LAVA 2023.01-2, 20 scenarios: 20 differs
          images 0.4 s, stack 6.3 s, jobs 16.0 s
          r/index.html
        ");
    }

    #[test]
    fn nothing_that_was_said_reaches_the_terminal_as_more_than_text() {
        let mut run = run(Path::new("r"));
        let evil = "\u{1b}]0;owned\u{7}\u{202e}";
        run.lavas[0].version = Some(evil.into());
        for row in &mut run.rows {
            row.info.name.push_str(evil);
            row.job = Some(evil.into());
            if let Some(outcome) = &mut row.outcome {
                outcome.reason = Some(evil.into());
                outcome.console.lines = vec![evil.into()];
                if let Some(difference) = &mut outcome.first_difference {
                    (difference.snapshot, difference.found) = (evil.into(), Some(evil.into()));
                }
            }
        }
        let text = summary(&run, Look { height: 100, ..Look::default() }, false, &[]);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text}");
        assert!(text.contains("\\x1b]0;owned"));
    }

    #[test]
    fn colours_are_there_only_where_they_are_wanted() {
        let run = run(Path::new("r"));
        assert!(!summary(&run, Look::default(), false, &[]).contains('\u{1b}'));
        let look = Look { colour: true, ..Look::default() };
        assert!(summary(&run, look, false, &[]).contains("\u{1b}["));
    }
}
