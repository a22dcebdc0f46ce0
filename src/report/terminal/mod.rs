//! The terminal: bars where somebody looks, counter lines elsewhere, and a
//! summary that fits a screen.

mod bars;
mod summary;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use console::{Style, Term};

use super::{Row, Run};
use crate::error::Error;
use crate::event::{Event, Measured, Phase, Verdict};
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

/// Rows and columns of what is no screen: a log holds what several reds have to say, and often nobody has more than that of a run
/// in CI.
const LOG: (u16, u16) = (240, 110);

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
        let (height, width) = term.size_checked().unwrap_or(LOG);
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
            Verdict::Fixed => Style::new().cyan().bold(),
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
    /// Scenarios that will not begin any more, with the line of each: told together.
    left_out: Vec<(String, String)>,
}

impl Terminal {
    pub(super) fn new(look: Look, strict: bool) -> Self {
        Self { look, strict, bars: look.bars.then(|| Bars::new(look)), left_out: Vec::new() }
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
        for line in self.lines_of(event, run) {
            self.line(&line);
        }
        if let Some(bars) = &mut self.bars {
            bars.take(event, run);
        }
    }

    /// The lines that stay of an event: those of scenarios which an end left without a turn come
    /// together, as one for each reason.
    fn lines_of(&mut self, event: &Event, run: &Run) -> Vec<String> {
        let line = line(event, run, self.look);
        if let Event::Finished { scenario, outcome } = event
            && outcome.verdict == Verdict::NotRun
            && run.row_of(scenario).is_none_or(|row| row.job.is_none())
        {
            self.left_out.extend(line.map(|line| (outcome.reason.clone().unwrap_or_default(), line)));
            return Vec::new();
        }
        self.left_out_lines().into_iter().chain(line).collect()
    }

    fn left_out_lines(&mut self) -> Vec<String> {
        let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (reason, line) in self.left_out.drain(..) {
            by_reason.entry(reason).or_default().push(line);
        }
        let together = |(reason, mut lines): (String, Vec<String>)| match lines.len() {
            1 => lines.remove(0),
            many => {
                let verdict = self.look.verdict(Verdict::NotRun, Verdict::NotRun.name());
                format!("{verdict}  {many} scenarios: {}", printable(&reason))
            }
        };
        by_reason.into_iter().map(together).collect()
    }

    /// Time went by.
    pub(super) fn tick(&mut self, run: &Run) {
        if let Some(bars) = &mut self.bars {
            bars.jobs(run);
        }
    }

    pub(super) fn end(&mut self, run: &Run, failed: &[Error]) {
        for line in self.left_out_lines() {
            self.line(&line);
        }
        if let Some(bars) = self.bars.take() {
            bars.end();
        }
        print::err(&summary(run, self.look, self.strict, failed));
    }
}

/// The line that an event leaves, if any.
fn line(event: &Event, run: &Run, look: Look) -> Option<String> {
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
        Event::Measured(files) if loud => Some(format!(
            "run of lava_dispatcher: {} % of the lines of its actions, {} % of all lines, {} % of all branches",
            Measured::share_of_lines(files.iter().filter(|file| file.is_action())).percent(),
            Measured::share_of_lines(files).percent(),
            Measured::share_of_branches(files).percent(),
        )),
        Event::Interrupted => {
            let under_way = run.rows.iter().filter(|row| row.outcome.is_none() && row.job.is_some()).count();
            let cancelled = match under_way {
                0 => "taking all down".to_owned(),
                jobs => format!("cancelling {} and taking all down", count(jobs, "job")),
            };
            let head = look.paint(Style::new().yellow(), "interrupted:");
            Some(format!("{head} {cancelled}; a second time ends at once"))
        }
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
            let done = run.rows.iter().filter(|row| row.outcome.is_some()).count();
            let width = total.to_string().len();
            let verdict = look.verdict(outcome.verdict, &format!("{:<8}", outcome.verdict.name()));
            let id = row.map_or_else(|| scenario.clone(), Row::id);
            let mut line = format!("[{done:>width$}/{total}] {verdict} {id} {:.1} s", outcome.seconds);
            let known: Vec<String> = outcome.defects.iter().map(|known| printable(&known.about)).collect();
            match &outcome.reason {
                Some(reason) => _ = write!(line, ": {}", printable(reason)),
                None if !known.is_empty() => _ = write!(line, ": known defect of LAVA: {}", known.join("; ")),
                None => {}
            }
            Some(line)
        }
        _ => None,
    }
}

pub(super) fn phase_name(phase: Phase) -> &'static str {
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
    use crate::event::Outcome;
    use crate::report::tests::{events, run};

    /// The lines that `events` leave.
    fn lines(events: &[Event]) -> String {
        let mut run = Run::default();
        let mut terminal = Terminal::new(Look::default(), false);
        let mut lines = Vec::new();
        for event in events {
            run.take(event);
            lines.extend(terminal.lines_of(event, &run));
        }
        lines.extend(terminal.left_out_lines());
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn an_interrupt_is_told_at_once_and_what_had_no_turn_in_one_line() {
        let mut events = events(Path::new("r"));
        let finished = |scenario: &str, reason: &str| Event::Finished {
            scenario: scenario.into(),
            outcome: Outcome::without_evidence(Verdict::NotRun, reason.into(), 2.0),
        };
        events.truncate(10);
        events.push(Event::Submitted { scenario: "juno".into(), job: "2".into() });
        events.push(Event::Interrupted);
        events.extend(["x15", "qemu", "new"].map(|name| finished(name, "interrupted before submission")));
        events.extend(["bbb", "juno"].map(|name| finished(name, "interrupted")));
        events.push(finished("late", "interrupted before submission"));
        let lines = lines(&events);
        let told = &lines[lines.find("interrupted:").unwrap()..];
        insta::assert_snapshot!(told, @"
        interrupted: cancelling 2 jobs and taking all down; a second time ends at once
        not-run  3 scenarios: interrupted before submission
        [4/9] not-run  health-checks/bbb 2.0 s: interrupted
        [5/9] not-run  health-checks/juno 2.0 s: interrupted
        [6/9] not-run  health-checks/late 2.0 s: interrupted before submission
        ");
    }

    #[test]
    fn without_a_terminal_every_scenario_leaves_a_line() {
        let events = events(Path::new("r"));
        let lines = lines(&events);
        insta::assert_snapshot!(lines, @r"
        mlv-1: 9 scenarios
        images: Step 1/9
        images: done in 0.4 s
        LAVA 2023.01-2
        stack: done in 6.3 s
        [1/9] pass     health-checks/bbb 5.2 s
        [2/9] differs  health-checks/juno 6.5 s: results, log not as expected
        [3/9] timeout  health-checks/x15 5.2 s: job 3 is still Running after 180 s
        [4/9] error    health-checks/qemu 5.2 s: the ghost qemu-01 has no ledger
        [5/9] new      health-checks/new 5.2 s: nothing is expected yet of log
        [6/9] skipped  health-checks/skip 5.2 s: needs a camera
        [7/9] pass     health-checks/known 5.2 s: known defect of LAVA: the menu <script>fails\x1b[1m
        [8/9] fixed    health-checks/gone 5.2 s: LAVA does right now
        warning: mask `uuid` matched nothing
        jobs: done in 16.0 s
        ");
    }

    #[test]
    fn quiet_keeps_to_what_is_red() {
        let look = Look { quiet: true, ..Look::default() };
        let all = events(Path::new("r"));
        let lines: Vec<String> =
            all.iter().filter_map(|event| line(event, &run(Path::new("r")), look)).collect();
        assert_eq!(lines, ["warning: mask `uuid` matched nothing"]);
    }
}
