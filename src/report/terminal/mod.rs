//! The terminal: bars where somebody looks, counter lines elsewhere, and a
//! summary that fits a screen.

mod bars;
mod summary;

use std::fmt::Write as _;

use console::{Style, Term};

use super::{Row, Run};
use crate::error::Error;
use crate::event::{Event, Phase, Verdict};
use crate::print;
use crate::text::printable;
use bars::Bars;
use summary::summary;

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
            bars: is_term && !quiet && !crate::judge::snapshot::in_ci(),
            colour: colours(&term),
            quiet,
            verbose,
            width: usize::from(width).max(40),
            height: usize::from(height).max(20),
        }
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.colour && !text.is_empty() {
            style.force_styling(true).apply_to(text).to_string()
        } else {
            text.to_owned()
        }
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

impl Terminal {
    pub(super) fn new(look: Look, strict: bool) -> Self {
        Self { look, strict, bars: look.bars.then(|| Bars::new(look)), done: 0 }
    }

    /// A line that stays. That nobody reads it any more is no error.
    fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.line(line),
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
        if let Some(bars) = &mut self.bars {
            bars.take(event, run);
        }
    }

    /// Time went by.
    pub(super) fn tick(&mut self, run: &Run) {
        if let Some(bars) = &mut self.bars {
            bars.jobs(run);
        }
    }

    pub(super) fn end(&mut self, run: &Run, failed: &[Error]) {
        if let Some(bars) = self.bars.take() {
            bars.end();
        }
        print::err(&summary(run, self.look, self.strict, failed));
    }
}

/// The line that an event leaves, if any.
fn line(event: &Event, run: &Run, look: Look, done: usize) -> Option<String> {
    let loud = !look.quiet;
    let plain = !look.bars && loud;
    match event {
        Event::Started { run: name, scenarios, lavas, .. } if loud => {
            let on = if lavas.is_empty() { String::new() } else { format!(" on {}", lavas.join(", ")) };
            Some(format!("{}: {}{on}", look.bold(name), count(scenarios.len(), "scenario")))
        }
        Event::Turn(_) => None,
        Event::About(about) if plain && !about.parts().is_empty() => {
            let parts: Vec<String> = about
                .parts()
                .into_iter()
                .map(|(name, value)| format!("{name} {}", printable(value)))
                .collect();
            Some(format!("LAVA on {}", parts.join(", ")))
        }
        Event::Progress(phase, text) if plain => Some(format!("{}: {}", phase_name(*phase), printable(text))),
        Event::PhaseEnded(phase, took) if plain => {
            Some(format!("{}: done in {:.1} s", phase_name(*phase), took.as_secs_f64()))
        }
        Event::Warning(text) => {
            Some(format!("{} {}", look.paint(Style::new().yellow(), "warning:"), printable(text)))
        }
        Event::Note(text) if loud => Some(printable(text)),
        Event::Lava(version) if loud => Some(format!("LAVA {}", printable(version))),
        Event::Submitted { scenario, job } if look.verbose => Some(format!("{scenario}: job {job}")),
        Event::JobState { scenario, state } if look.verbose => {
            Some(format!("{scenario}: {}", printable(state.word())))
        }
        Event::Slow { scenario, why, action } if loud => {
            let mut line = format!("{} {scenario}: {why}", look.paint(Style::new().yellow(), "slow:"));
            if let Some(action) = action {
                let _ = write!(line, "; in {}", printable(action));
            }
            Some(line)
        }
        Event::Finished { scenario, outcome } => {
            let is_good = matches!(outcome.verdict, Verdict::Pass | Verdict::Skipped);
            if look.quiet || (is_good && look.bars && !look.verbose) {
                return None;
            }
            let row = run.row_of(scenario);
            let total = run.rows.len();
            let width = total.to_string().len();
            let verdict = look.verdict(outcome.verdict, &format!("{:<8}", outcome.verdict.name()));
            let id = row.map_or_else(|| scenario.clone(), Row::id);
            let mut line = format!("[{done:>width$}/{total}] {verdict} {id} {:.1} s", outcome.seconds);
            if let Some(reason) = &outcome.reason {
                let _ = write!(line, ": {}", printable(reason));
            }
            Some(line)
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::tests::{events, run};

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
    fn quiet_keeps_to_what_is_red() {
        let look = Look { quiet: true, ..Look::default() };
        let all = events(Path::new("r"));
        let lines: Vec<String> =
            all.iter().filter_map(|event| line(event, &run(Path::new("r")), look, 1)).collect();
        assert_eq!(lines, ["warning: mask `uuid` matched nothing"]);
    }
}
