//! Bars that move: one for each phase, and a line for each job that runs. The only
//! file that touches a progress bar.

use std::collections::BTreeMap;
use std::time::Duration;

use console::Style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Look, phase_name};
use crate::event::{Event, Phase, Verdict};
use crate::lava::words::JobState;
use crate::report::{Row, Run};
use crate::text::printable;

/// What a stack's start tells of on its way, see [`crate::stack::Stack::up`].
const STACK_STEPS: u64 = 6;
/// Most lines of jobs; fewer on a low screen.
const JOB_LINES: usize = 14;
/// Lines of a screen that are not for jobs.
const OTHER_LINES: usize = 10;
/// Columns of a scenario's name.
const NAME: usize = 32;

pub(super) struct Bars {
    all: MultiProgress,
    phases: BTreeMap<Phase, ProgressBar>,
    /// Steps of each image's build: done, and of how many.
    images: BTreeMap<String, (u64, u64)>,
    lines: Vec<ProgressBar>,
    most: usize,
    look: Look,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Bars {
    pub(super) fn new(look: Look) -> Self {
        Self {
            all: MultiProgress::new(),
            phases: BTreeMap::new(),
            images: BTreeMap::new(),
            lines: Vec::new(),
            most: look.height.saturating_sub(OTHER_LINES).clamp(1, JOB_LINES),
            look,
        }
    }

    /// A line that stays, above the bars. That nobody reads it any more is no error.
    pub(super) fn line(&self, line: &str) {
        let _ = self.all.println(line);
    }

    pub(super) fn take(&mut self, event: &Event, run: &Run) {
        match event {
            Event::PhaseStarted(phase) => {
                let length = match phase {
                    Phase::Stack => STACK_STEPS,
                    Phase::Jobs => run.rows.len() as u64,
                    Phase::Images | Phase::Cleanup => 1,
                };
                let template = if self.look.colour {
                    "{prefix:<8}[{bar:28.cyan}] {elapsed:>4} {wide_msg}"
                } else {
                    "{prefix:<8}[{bar:28}] {elapsed:>4} {wide_msg}"
                };
                let bar =
                    ProgressBar::new(length).with_style(style(template)).with_prefix(phase_name(*phase));
                let bar = self.all.add(bar);
                bar.enable_steady_tick(Duration::from_millis(200));
                self.phases.insert(*phase, bar);
            }
            Event::Progress(phase, text) => {
                if *phase == Phase::Images {
                    count_steps(&mut self.images, text);
                }
                let Some(bar) = self.phases.get(phase) else { return };
                bar.set_message(printable(text));
                match phase {
                    Phase::Images if !self.images.is_empty() => {
                        bar.set_length(self.images.values().map(|(_, of)| of).sum());
                        bar.set_position(self.images.values().map(|(done, _)| done).sum());
                    }
                    Phase::Stack => bar.inc(1),
                    _ => {}
                }
            }
            Event::PhaseEnded(phase, _) => {
                if let Some(bar) = self.phases.get(phase) {
                    bar.finish_with_message("");
                }
            }
            _ => {}
        }
        self.jobs(run);
    }

    /// The jobs as they are now.
    pub(super) fn jobs(&mut self, run: &Run) {
        let Some(bar) = self.phases.get(&Phase::Jobs) else { return };
        bar.set_position(run.rows.iter().filter(|row| row.outcome.is_some()).count() as u64);
        bar.set_message(states(run, self.look));
        let texts = lines(run, self.most);
        while self.lines.len() < texts.len() {
            self.lines.push(self.all.add(ProgressBar::new_spinner().with_style(style("  {wide_msg}"))));
        }
        for gone in self.lines.drain(texts.len()..) {
            gone.finish_and_clear();
            self.all.remove(&gone);
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(text);
            line.tick();
        }
    }

    /// Removes all of it from the screen.
    pub(super) fn end(self) {
        for bar in self.phases.values().chain(&self.lines) {
            bar.finish_and_clear();
        }
        // A terminal that went away needs no clearing.
        let _ = self.all.clear();
    }
}

/// Counts the steps of builds that are over: a step is told when it begins.
fn count_steps(images: &mut BTreeMap<String, (u64, u64)>, text: &str) {
    if let Some((image, step, of)) = step(text) {
        images.insert(image.to_owned(), (step.saturating_sub(1), of));
    } else if let Some((image, _)) = text.split_once(": built")
        && let Some((done, of)) = images.get_mut(image)
    {
        *done = *of;
    }
}

/// The image, the step and the number of steps of a build's line, such as
/// `server: Step 3/9 : RUN ...`.
fn step(text: &str) -> Option<(&str, u64, u64)> {
    let (image, rest) = text.split_once(": Step ")?;
    let (done, of) = rest.split_whitespace().next()?.split_once('/')?;
    Some((image, done.parse().ok()?, of.parse().ok()?))
}

/// How many jobs are in which state.
fn states(run: &Run, look: Look) -> String {
    let open = || run.rows.iter().filter(|row| row.outcome.is_none());
    let running = open().filter(|row| row.state == Some(JobState::Running)).count();
    let queued = open().filter(|row| row.job.is_some()).count() - running;
    let waiting = open().filter(|row| row.job.is_none()).count();
    let ended = || run.rows.iter().filter(|row| row.outcome.is_some());
    // Strictly: that nothing is expected of it yet is not as expected either.
    let red = ended().filter(|row| row.verdict().is_failure(true)).count();
    let not_run = ended().filter(|row| row.verdict() == Verdict::NotRun).count();
    let plain = Style::new();
    let states = [
        (running, "running", plain.clone()),
        (queued, "queued", plain.clone()),
        (waiting, "to come", plain.clone()),
        (not_run, "not run", plain),
        (red, "not as expected", Style::new().red()),
    ];
    let states: Vec<String> = states
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, style)| look.paint(style, &format!("{count} {what}")))
        .collect();
    states.join(", ")
}

/// A line for each job that runs, at most so many; the longest ones first.
fn lines(run: &Run, most: usize) -> Vec<String> {
    let mut rows: Vec<&Row> =
        run.rows.iter().filter(|row| row.outcome.is_none() && row.since.is_some()).collect();
    rows.sort_by_key(|row| row.since);
    let shown = if rows.len() > most { most - 1 } else { rows.len() };
    let mut lines: Vec<String> = rows[..shown]
        .iter()
        .map(|row| {
            let seconds = row.since.map_or(0, |since| since.elapsed().as_secs());
            // Until LAVA's dispatcher has started, which takes most of a job's time on a busy machine, its log
            // is empty.
            let state = row.state.as_ref().map(|state| match state {
                JobState::Running => "starting lava-run",
                other => other.word(),
            });
            let doing = printable(row.action.as_deref().or(state).unwrap_or_default());
            let label = row.label();
            let name = console::truncate_str(&label, NAME, "…");
            format!("{name:<NAME$} {seconds:>3} s  {doing}")
        })
        .collect();
    if shown < rows.len() {
        lines.push(format!("and {} more", rows.len() - shown));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::tests::events;

    /// A run of seven in which three are under way.
    fn run() -> Run {
        let mut run = Run::default();
        run.take(&events(Path::new("r"))[0]);
        for name in ["bbb", "juno", "x15"] {
            run.take(&Event::Submitted { scenario: name.into(), job: "1".into() });
        }
        run.take(&Event::JobState { scenario: "juno".into(), state: JobState::Running });
        run.take(&Event::Action { scenario: "juno".into(), action: "2.4 bootloader-commands".into() });
        run
    }

    #[test]
    fn the_jobs_are_counted_by_state() {
        assert_eq!(states(&run(), Look::default()), "1 running, 2 queued, 6 to come");
    }

    #[test]
    fn what_did_not_run_is_no_failure() {
        let mut run = run();
        for (scenario, verdict) in [("bbb", Verdict::NotRun), ("juno", Verdict::Differs)] {
            let outcome = crate::event::Outcome::without_evidence(verdict, "interrupted".into(), 1.0);
            run.take(&Event::Finished { scenario: scenario.into(), outcome });
        }
        assert_eq!(states(&run, Look::default()), "1 queued, 6 to come, 1 not run, 1 not as expected");
    }

    #[test]
    fn each_job_under_way_has_a_line_with_lavas_action_as_far_as_there_is_room() {
        let all = lines(&run(), 5);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].split_whitespace().collect::<Vec<_>>(), ["bbb", "0", "s", "Submitted"]);
        assert!(all[1].ends_with("0 s  2.4 bootloader-commands"), "{}", all[1]);
        let mut begun = run();
        begun.take(&Event::JobState { scenario: "x15".into(), state: JobState::Running });
        assert!(lines(&begun, 5)[2].ends_with("0 s  starting lava-run"), "{:?}", lines(&begun, 5));
        assert_eq!(lines(&run(), 2)[1], "and 2 more");
        assert_eq!(lines(&run(), 1), ["and 3 more"]);
    }

    #[test]
    fn a_step_of_a_build_counts_once_it_is_over() {
        let mut images = BTreeMap::new();
        count_steps(&mut images, "server: Step 3/9 : RUN x");
        assert_eq!(images["server"], (2, 9));
        count_steps(&mut images, "server: built in 6.0 s");
        count_steps(&mut images, "world: built in 6.0 s");
        assert_eq!(images.into_iter().collect::<Vec<_>>(), [("server".into(), (9, 9))]);
    }

    #[test]
    fn steps_of_builds_are_told_from_other_lines() {
        assert_eq!(step("server: Step 3/9 : RUN x"), Some(("server", 3, 9)));
        assert_eq!(step("server: building it"), None);
        assert_eq!(step("server: Step 3/x"), None);
    }
}
