//! What is left on the screen when a run has ended.

use std::fmt::Write as _;

use console::{Style, measure_text_width, truncate_str};

use super::{Look, count, phase_name};
use crate::error::Error;
use crate::event::{Moment, Outcome, Verdict};
use crate::report::{Row, Run};

/// Lines of the summary's end: totals, phases, report and what may precede them.
const END: usize = 8;

/// The red scenarios, as many as fit, the totals, and where the report is.
pub(super) fn summary(run: &Run, look: Look, strict: bool, failed: &[Error]) -> String {
    let mut text = String::new();
    let order = |row: &&Row| match row.verdict() {
        Verdict::Differs => 0,
        Verdict::Timeout => 1,
        Verdict::Error => 2,
        _ => 3,
    };
    let mut red: Vec<&Row> = run
        .rows
        .iter()
        .filter(|row| {
            matches!(row.verdict(), Verdict::Differs | Verdict::Timeout | Verdict::Error | Verdict::New)
        })
        .collect();
    red.sort_by_key(order);
    // Details for as many as fit, at least one; then a line each; then a number.
    let mut left = look.height.saturating_sub(END);
    let mut shown = 0;
    for row in &red {
        let Some(outcome) = &row.outcome else { continue };
        let details = details(row, outcome, look);
        let lines = details.lines().count() + 1;
        if row.verdict() == Verdict::New || (shown > 0 && lines + red.len().min(10) > left) {
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
        let fit = if rest.len() <= left.max(3) { rest.len() } else { left.max(3) - 1 };
        for row in &rest[..fit] {
            let reason =
                row.outcome.as_ref().and_then(|outcome| outcome.reason.as_deref()).unwrap_or_default();
            let verdict = look.verdict(row.verdict(), &format!("{:<8}", row.verdict().name()));
            let line = format!("{verdict} {} {reason}", row.id());
            let _ = writeln!(text, "{}", truncate_str(line.trim_end(), look.width, "…"));
        }
        if fit < rest.len() {
            let _ = writeln!(text, "… and {} more; see index.html", rest.len() - fit);
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let totals: Vec<String> = run
        .totals()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| look.verdict(verdict, &format!("{count} {}", verdict.name())))
        .collect();
    let lava = run.lava.as_ref().map(|lava| format!(" LAVA {lava},")).unwrap_or_default();
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
    for error in failed {
        let _ = writeln!(text, "  {} {error}", look.verdict(Verdict::Error, "report:"));
    }
    if !run.report.as_os_str().is_empty() && failed.is_empty() {
        let _ = writeln!(text, "  {}", run.report.join("index.html").display());
    }
    text
}

/// A red scenario: the first difference, what the board showed then, how to run it alone.
fn details(row: &Row, outcome: &Outcome, look: Look) -> String {
    let mut text = String::new();
    let mut head =
        format!("{} {}", look.verdict(outcome.verdict, outcome.verdict.name()), look.bold(&row.id()));
    if let Some(job) = &row.job {
        let _ = write!(head, " (job {job})");
    }
    if let Some(reason) = &outcome.reason {
        let _ = write!(head, ": {reason}");
    }
    let _ = writeln!(text, "{}", truncate_str(&head, look.width, "…"));
    let width = look.width.saturating_sub(14).max(20);
    if let Some(difference) = &outcome.first_difference {
        let or_end = |line: &Option<String>| match line {
            Some(line) => truncate_str(line, width, "…").into_owned(),
            None => "(nothing more)".into(),
        };
        let _ = writeln!(text, "  {}.snap, line {}", difference.snapshot, difference.line);
        let expected = look.paint(Style::new().green(), &or_end(&difference.expected));
        let found = look.paint(Style::new().red(), &or_end(&difference.found));
        let _ = writeln!(text, "    expected: {expected}\n    found:    {found}");
    }
    let (lines, at) = window(&outcome.console);
    for (number, line) in lines.iter().enumerate() {
        let head = if number == 0 { "console:" } else { "" };
        let mark = if at == Some(number) { ">" } else { " " };
        let line = truncate_str(line, width, "…");
        let line = if at == Some(number) { look.bold(&line) } else { line.into_owned() };
        let _ = writeln!(text, "  {head:<10}{mark} {line}");
    }
    let _ = writeln!(text, "  alone:    meta-lava run {}", row.info.name);
    text
}

/// As many lines of the console as a screen has room for, and which of them is the closest.
fn window(console: &Moment) -> (&[String], Option<usize>) {
    const LINES: usize = 6;
    let lines = &console.lines;
    let first = match console.at {
        Some(at) => (at + LINES / 2).min(lines.len()).saturating_sub(LINES),
        None => lines.len().saturating_sub(LINES),
    };
    let last = (first + LINES).min(lines.len());
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
    fn colours_are_there_only_where_they_are_wanted() {
        let run = run(Path::new("r"));
        assert!(!summary(&run, Look::default(), false, &[]).contains('\u{1b}'));
        let look = Look { colour: true, ..Look::default() };
        assert!(summary(&run, look, false, &[]).contains("\u{1b}["));
    }
}
