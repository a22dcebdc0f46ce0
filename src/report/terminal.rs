//! The terminal: bars where somebody looks, counter lines elsewhere, and a
//! summary that fits a screen. The only file that touches a progress bar.

use std::fmt::Write as _;
use std::time::Duration;

use console::{Style, Term, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Row, Run};
use crate::error::Error;
use crate::event::{Event, Outcome, Phase, Verdict};
use crate::print;

/// How the terminal looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Bars that move.
    pub bars: bool,
    /// Colours.
    pub colour: bool,
    /// Nothing but what is red, warnings and the summary's last lines.
    pub quiet: bool,
    /// Every state of every job, and scenarios that pass.
    pub verbose: bool,
    /// Columns of the screen.
    pub width: usize,
    /// Lines of the screen.
    pub height: usize,
}

/// Whether to use colours on `term`: `NO_COLOR` forbids them (<https://no-color.org>),
/// then `CLICOLOR_FORCE` and `CLICOLOR` are asked (<https://bixense.com/clicolors/>),
/// then whether it is a terminal that has colours. The help's colours go by the same.
#[must_use]
pub fn colours(term: &Term) -> bool {
    !anstyle_query::no_color()
        && (anstyle_query::clicolor_force()
            || (term.is_term()
                && anstyle_query::clicolor().unwrap_or(true)
                && anstyle_query::term_supports_color()))
}

impl Default for Look {
    fn default() -> Self {
        Self { bars: false, colour: false, quiet: false, verbose: false, width: 110, height: 40 }
    }
}

impl Look {
    /// What suits stderr: bars where it is a terminal and no CI, and [`colours`].
    #[must_use]
    pub fn of_stderr(quiet: bool, verbose: bool) -> Self {
        let term = Term::stderr();
        let is_term = term.is_term() && anstyle_query::term_supports_ansi_color();
        let (height, width) = term.size_checked().unwrap_or((40, 110));
        Self {
            bars: is_term && !quiet && !crate::snapshot::in_ci(),
            colour: colours(&term),
            quiet,
            verbose,
            width: usize::from(width).max(40),
            height: usize::from(height).max(20),
        }
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.colour { style.force_styling(true).apply_to(text).to_string() } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    fn verdict(self, verdict: Verdict, text: &str) -> String {
        let style = match verdict {
            Verdict::Pass => Style::new().green(),
            Verdict::Differs | Verdict::Timeout => Style::new().red().bold(),
            Verdict::Error => Style::new().magenta().bold(),
            Verdict::New => Style::new().yellow(),
            Verdict::Skipped | Verdict::NotRun => Style::new().dim(),
        };
        self.paint(style, text)
    }
}

/// The terminal during a run.
pub struct Terminal {
    look: Look,
    strict: bool,
    bars: Option<Bars>,
    done: usize,
}

/// What moves: a line on what is being done, and the jobs.
struct Bars {
    all: MultiProgress,
    now: ProgressBar,
    jobs: ProgressBar,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let style = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let now = all.add(ProgressBar::new_spinner().with_style(style("{spinner} {elapsed} {wide_msg}")));
        now.enable_steady_tick(Duration::from_millis(120));
        let jobs = all.add(ProgressBar::new(0).with_style(style("[{bar:30}] {pos}/{len} {wide_msg}")));
        Self { all, now, jobs }
    }
}

impl Terminal {
    pub(super) fn new(look: Look, strict: bool) -> Self {
        Self { look, strict, bars: look.bars.then(Bars::new), done: 0 }
    }

    /// A line that stays. That nobody reads it any more is no error.
    fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.all.println(line);
            }
            None => {
                print::err(&format!("{line}\n"));
            }
        }
    }

    pub(super) fn take(&mut self, event: &Event, run: &Run) {
        let look = self.look;
        if let Event::Finished { .. } = event {
            self.done += 1;
        }
        if let Some(line) = line(event, run, look, self.done) {
            self.line(&line);
        }
        if let Some(bars) = &self.bars {
            match event {
                Event::Started { scenarios, .. } => bars.jobs.set_length(scenarios.len() as u64),
                Event::PhaseStarted(phase) => bars.now.set_message(phase_name(*phase)),
                Event::Progress(phase, text) => {
                    bars.now.set_message(format!("{}: {text}", phase_name(*phase)))
                }
                Event::Finished { .. } => bars.jobs.inc(1),
                _ => {}
            }
            if matches!(event, Event::JobState { .. } | Event::Submitted { .. } | Event::Finished { .. }) {
                bars.jobs.set_message(states(run));
            }
        }
    }

    pub(super) fn end(&mut self, run: &Run, failed: &[Error]) {
        if let Some(bars) = self.bars.take() {
            bars.now.finish_and_clear();
            bars.jobs.finish_and_clear();
        }
        print::err(&summary(run, self.look, self.strict, failed));
    }
}

/// The line that an event leaves, if any.
fn line(event: &Event, run: &Run, look: Look, done: usize) -> Option<String> {
    let loud = !look.quiet;
    let plain = !look.bars && loud;
    match event {
        Event::Started { run: name, scenarios, .. } if loud => {
            Some(format!("{}: {}", look.bold(name), count(scenarios.len(), "scenario")))
        }
        Event::Progress(phase, text) if plain => Some(format!("{}: {text}", phase_name(*phase))),
        Event::PhaseEnded(phase, took) if plain => {
            Some(format!("{}: done in {:.1} s", phase_name(*phase), took.as_secs_f64()))
        }
        Event::Warning(text) => Some(format!("{} {text}", look.paint(Style::new().yellow(), "warning:"))),
        Event::Note(text) if loud => Some(text.clone()),
        Event::Lava(version) if loud => Some(format!("LAVA {version}")),
        Event::Submitted { scenario, job } if look.verbose => Some(format!("{scenario}: job {job}")),
        Event::JobState { scenario, state } if look.verbose => Some(format!("{scenario}: {state}")),
        Event::Finished { scenario, outcome } => {
            let is_good = matches!(outcome.verdict, Verdict::Pass | Verdict::Skipped);
            if look.quiet || (is_good && look.bars && !look.verbose) {
                return None;
            }
            let row = run.rows.iter().find(|row| row.info.name == *scenario);
            let total = run.rows.len();
            let width = total.to_string().len();
            let verdict = look.verdict(outcome.verdict, &format!("{:<8}", outcome.verdict.name()));
            let id = row.map_or_else(|| scenario.clone(), Row::id);
            let mut line = format!("[{done:>width$}/{total}] {verdict} {id} {:.1} s", outcome.seconds);
            if let Some(reason) = &outcome.reason {
                let _ = write!(line, ": {reason}");
            }
            Some(line)
        }
        _ => None,
    }
}

/// How many jobs are in which state, and the names of some that run.
fn states(run: &Run) -> String {
    let of = |wanted: &'static str| {
        run.rows.iter().filter(move |row| row.outcome.is_none() && row.state.as_deref() == Some(wanted))
    };
    let queued = ["Submitted", "Scheduling", "Scheduled"].into_iter().flat_map(of).count();
    let running: Vec<&str> = of("Running").map(|row| row.info.name.as_str()).collect();
    let red = run
        .rows
        .iter()
        .filter(|row| row.outcome.is_some() && !matches!(row.verdict(), Verdict::Pass | Verdict::Skipped))
        .count();
    let mut text = format!("{queued} queued, {} running", running.len());
    if red > 0 {
        let _ = write!(text, ", {red} not as expected");
    }
    if !running.is_empty() {
        let _ = write!(text, ": {}", running.join(" "));
    }
    text
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Images => "images",
        Phase::Stack => "stack",
        Phase::Jobs => "jobs",
        Phase::Cleanup => "cleanup",
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Lines of the summary's end: totals, phases, report and what may precede them.
const END: usize = 8;

/// What is left on the screen when the run has ended.
fn summary(run: &Run, look: Look, strict: bool, failed: &[Error]) -> String {
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
    let _ = writeln!(
        text,
        "{} [{:.1} s]{lava} {}: {}",
        look.bold(head),
        run.seconds(),
        count(run.rows.len(), "scenario"),
        if totals.is_empty() { "nothing to do".into() } else { totals.join(", ") },
    );
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

/// A red scenario: the first difference, what the board showed last, how to run it alone.
fn details(row: &Row, outcome: &Outcome, look: Look) -> String {
    /// Console lines that are shown.
    const CONSOLE: usize = 6;
    let mut text = String::new();
    let verdict = look.verdict(outcome.verdict, outcome.verdict.name());
    let _ = write!(text, "{verdict} {}", look.bold(&row.id()));
    if let Some(job) = &row.job {
        let _ = write!(text, " (job {job})");
    }
    if let Some(reason) = &outcome.reason {
        let _ = write!(text, ": {reason}");
    }
    text.push('\n');
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
    let tail = &outcome.console_tail[outcome.console_tail.len().saturating_sub(CONSOLE)..];
    for (number, line) in tail.iter().enumerate() {
        let head = if number == 0 { "console:" } else { "" };
        let _ = writeln!(text, "  {head:<10}{}", truncate_str(line, width, "…"));
    }
    let _ = writeln!(text, "  alone:    meta-lava run {}", row.info.name);
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::tests::{differing, events, run};

    #[test]
    fn without_a_terminal_every_scenario_leaves_a_line() {
        let events = events(Path::new("r"));
        let mut run = Run::default();
        let mut lines = String::new();
        let mut done = 0;
        for event in &events {
            run.take(event);
            done += usize::from(matches!(event, Event::Finished { .. }));
            if let Some(line) = line(event, &run, Look::default(), done) {
                lines.push_str(&line);
                lines.push('\n');
            }
        }
        insta::assert_snapshot!(lines, @"
        mlv-1: 7 scenarios
        images: Step 1/9
        images: done in 0.4 s
        LAVA 2023.01-2
        stack: done in 6.3 s
        [1/7] pass     health-checks/bbb 5.2 s
        [2/7] differs  health-checks/juno 6.5 s: results, log not as expected
        [3/7] timeout  health-checks/x15 5.2 s: job 3 is still Running after 180 s
        [4/7] error    health-checks/qemu 5.2 s: the ghost qemu-01 has no ledger
        [5/7] new      health-checks/new 5.2 s: nothing is expected yet of log
        [6/7] skipped  health-checks/skip 5.2 s: needs a camera
        warning: mask `uuid` matched nothing
        jobs: done in 16.0 s
        ");
    }

    #[test]
    fn the_summary_says_what_differs_and_how_to_run_it_alone() {
        insta::assert_snapshot!(summary(&run(Path::new("r")), Look::default(), true, &[]));
    }

    #[test]
    fn the_summary_fits_a_screen_however_much_is_red() {
        let mut run = run(Path::new("r"));
        let mut outcome = differing();
        outcome.console_tail = vec!["x".repeat(500); 50];
        let rows: Vec<Row> = (0..480)
            .map(|number| {
                let mut info = run.rows[1].info.clone();
                info.name = format!("board-{number}");
                Row { info, job: Some("12".into()), state: None, outcome: Some(outcome.clone()) }
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
    fn quiet_keeps_to_what_is_red() {
        let look = Look { quiet: true, ..Look::default() };
        let all = events(Path::new("r"));
        let lines: Vec<String> =
            all.iter().filter_map(|event| line(event, &run(Path::new("r")), look, 1)).collect();
        assert_eq!(lines, ["warning: mask `uuid` matched nothing"]);
    }

    #[test]
    fn colours_are_there_only_where_they_are_wanted() {
        let run = run(Path::new("r"));
        assert!(!summary(&run, Look::default(), false, &[]).contains('\u{1b}'));
        let look = Look { colour: true, ..Look::default() };
        assert!(summary(&run, look, false, &[]).contains("\u{1b}["));
    }
}
