//! `meta-lava run`: the main job. Images, stack, jobs, verdicts, report, cleanup.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use meta_lava_ghost::console::Pace;

use crate::commands::{matrix, rerun};
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Outstanding, Phase, Verdict, lava_folder};
use crate::exit_code::Exit;
use crate::judge::pending;
use crate::judge::snapshot::{self, Store};
use crate::report::{self, Look, Settings};
use crate::run::judge::Judge;
use crate::run::lab::{in_order, lab};
use crate::run::runner::{self, Limits};
use crate::run::session::{Session, StackArgs, Up};
use crate::scenario::filter::FilterArgs;
use crate::scenario::{Matrix, Scenario, World};

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// End as `git bisect run` wants it: 0 good, 1 bad, 125 skip, 128 or more when nothing is known of
    /// the commit; leaves nothing pending
    #[arg(long, conflicts_with_all = ["accept", "keep"])]
    bisect: bool,
    /// Leave the stack up
    #[arg(long)]
    keep: bool,
    /// Accept what was found as what is expected; never in CI
    #[arg(long)]
    accept: bool,
    /// Measure which lines of LAVA's dispatcher the jobs run; they take about twice as long then
    #[arg(long, conflicts_with_all = ["partition", "bisect"])]
    python_coverage: bool,
    /// Play consoles at this baud rate, with seeded jitter
    #[arg(long, value_name = "BAUD")]
    pace: Option<u32>,
    /// Carry out each power command so many milliseconds late, as a relay's controller that is slow
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=5000))]
    late_power: u16,
    /// Begin the scenarios in another order, made from this number
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Submit no more jobs once so many scenarios are not as expected
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_fail: Option<u16>,
    /// Seed of the jitter of --pace
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Print less: only the summary
    #[arg(short, long)]
    quiet: bool,
    /// Print more: every step of every job
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

impl Args {
    /// Those of a run on LAVAs that another command asks for, with nothing changed besides.
    pub(super) fn of(filter: FilterArgs, stack: StackArgs, workers: u16, quiet: bool, verbose: bool) -> Self {
        Self {
            filter,
            stack,
            workers,
            bisect: false,
            keep: false,
            accept: false,
            python_coverage: false,
            pace: None,
            late_power: 0,
            shuffle: None,
            max_fail: None,
            seed: 1,
            quiet,
            verbose,
        }
    }

    /// Whether the options name a LAVA.
    pub(super) fn has_lavas(&self) -> bool {
        self.stack.has_lavas()
    }

    /// The LAVAs to take where the options name none.
    ///
    /// # Errors
    /// [`Error::Usage`] when one is no name of a LAVA.
    pub(super) fn or_lavas(&mut self, names: &[String]) -> Result<()> {
        self.stack.or_lavas(names)
    }
}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<Exit> {
    let matrix = matrix()?;
    let selected = args.filter.select(&matrix)?;
    let outstanding = rerun::left_by_the_last(&crate::root::root()?);
    run_selected(&args, &matrix, &selected, &outstanding).await
}

/// Runs those scenarios of `matrix`, whatever the filter in `args` says. What is `outstanding` of
/// earlier runs stays so unless it is among them.
///
/// # Errors
/// See [`Error`].
pub(super) async fn run_selected(
    args: &Args,
    matrix: &Matrix,
    selected: &[&Scenario],
    outstanding: &[Outstanding],
) -> Result<Exit> {
    if args.accept && snapshot::in_ci() {
        return Err(Error::Usage("--accept is for people: in CI (`CI` is set) nothing is accepted".into()));
    }
    World::refuse(&crate::root::root()?, matrix, selected)?;
    let begun = args.stack.begin().await?;
    if args.python_coverage && args.workers > 1 {
        return Err(Error::Usage("--python-coverage measures one worker; leave --workers out".into()));
    }
    if args.keep && begun.lavas.len() > 1 {
        return Err(Error::Usage("--keep leaves one stack up, and there is one for each --lava".into()));
    }
    let look = Look::of_stderr(args.quiet, args.verbose);
    let settings = Settings { root: begun.root.clone(), look, strict: snapshot::in_ci() };
    let (events, reporter) = report::start(settings);
    let _ = events.send(Event::Started {
        run: begun.run.clone(),
        report: begun.report.clone(),
        partition: args.filter.partition.clone(),
        lavas: begun.named.clone(),
        scenarios: selected.iter().map(|scenario| scenario.info()).collect(),
    });
    let outstanding = rerun::still(outstanding, matrix, selected, &begun.named);
    let _ = events.send(Event::Outstanding(outstanding));
    if let Some(seed) = args.shuffle {
        let _ = events.send(Event::Note(format!("scenarios begin in the order of --shuffle {seed}")));
    }
    let since = Instant::now();
    let telling = tokio::spawn({
        let (interrupt, events) = (begun.interrupt.clone(), events.clone());
        async move {
            interrupt.asked().await;
            let _ = events.send(Event::Interrupted);
        }
    });
    let mut result = Ok(());
    for (turn, lava) in begun.lavas.iter().enumerate() {
        // Of several each has its own folder, and its stack comes after the one before.
        let report = match begun.lavas.len() {
            1 => begun.report.clone(),
            _ => begun.report.join(lava_folder(&lava.name)),
        };
        let _ = events.send(Event::Turn(turn));
        let session = Session {
            keep: args.keep,
            measured: args.python_coverage,
            lava,
            report: &report,
            ..begun.session(&events)
        };
        let of_this = Run { args, matrix, session }.go(selected).await;
        // One LAVA that can't be tested is no reason not to test the next.
        result = result.and(of_this);
    }
    if begun.lavas.len() > 1
        && let Err(Error::BrokenCommit(said)) = result
    {
        // One of several LAVAs: no bisection.
        result = Err(Error::Infrastructure(said));
    }
    let _ = events.send(Event::Ended { interrupted: begun.interrupt.is_asked(), elapsed: since.elapsed() });
    telling.abort();
    drop(events);
    let summary = reporter
        .await
        .map_err(|error| Error::infrastructure(format!("the report was not written: {error}")))?;

    if args.accept {
        accept_of(&begun.root, matrix, selected)?;
    }
    // The stack's own trouble outweighs what scenarios found, and a report that
    // could not be written outweighs a green one.
    result?;
    match summary.failed.into_iter().next() {
        Some(error) => Err(error),
        None if args.accept => Ok(Exit::Ok),
        // No verdict on its scenarios, in a LAVA that was built and started.
        None if args.bisect && summary.exit == Exit::Infrastructure => Ok(Exit::BrokenCommit),
        None => Ok(summary.exit),
    }
}

/// Makes what was found of `scenarios` what is expected.
fn accept_of(root: &Path, matrix: &Matrix, scenarios: &[&Scenario]) -> Result<()> {
    let store = Store::new(root);
    let mut pending = store.pending()?;
    pending.retain(|one| scenarios.iter().any(|scenario| scenario.id() == one.id.scenario()));
    pending::accept(&store, matrix, &pending).map(|_| ())
}

/// One run.
struct Run<'a> {
    args: &'a Args,
    matrix: &'a Matrix,
    session: Session<'a>,
}

impl Run<'_> {
    async fn go(&self, selected: &[&Scenario]) -> Result<()> {
        let (skipped, wanted): (Vec<&Scenario>, Vec<&Scenario>) =
            selected.iter().copied().partition(|scenario| scenario.skipped().is_some());
        for scenario in skipped {
            self.finish(scenario, Verdict::Skipped, scenario.skipped().unwrap_or_default());
        }
        let result = if wanted.is_empty() { Ok(()) } else { self.with_stack(&wanted).await };
        if let Err(error) = &result {
            // Those that never had their turn; the report ignores a second verdict.
            let verdict = if matches!(error, Error::Interrupted) { Verdict::NotRun } else { Verdict::Error };
            for scenario in &wanted {
                self.finish(scenario, verdict, &error.brief());
            }
        }
        result
    }

    fn finish(&self, scenario: &Scenario, verdict: Verdict, reason: &str) {
        let outcome = Outcome::without_evidence(verdict, reason.to_owned(), 0.0);
        self.session.say(Event::Finished { scenario: scenario.name.clone(), outcome });
    }

    async fn with_stack(&self, wanted: &[&Scenario]) -> Result<()> {
        let workers = usize::from(self.args.workers);
        let lab = |series| {
            let mut lab = lab(self.matrix, wanted, series, workers)?;
            lab.late_power_ms = self.args.late_power;
            lab.pace = self.args.pace.map(|baud| Pace { baud, seed: self.args.seed });
            Ok(lab)
        };
        self.session.with_stack(workers, lab, async |up| self.jobs(up, wanted).await).await
    }

    async fn jobs(&self, up: Up, wanted: &[&Scenario]) -> Result<()> {
        let Session { root, report, interrupt, events, .. } = self.session;
        let series = up.series;
        let mut wanted = in_order(wanted, self.args.shuffle);
        wanted.retain(|scenario| match scenario.skipped_on(series) {
            Some(reason) => {
                self.finish(scenario, Verdict::Skipped, reason);
                false
            }
            None => true,
        });
        let ready = runner::ready(self.matrix, &wanted, &up)?;
        let mut judge = Judge::new(root, series, up.artifacts, report);
        // A commit on the way of a bisection is nobody's to review.
        judge.pend &= !self.args.bisect;
        let judge = Arc::new(judge);
        let limits = Limits {
            at_once: self.args.stack.at_once(up.cpus),
            max_fail: self.args.max_fail.map(usize::from),
            strict: snapshot::in_ci(),
            looks: Look::of_stderr(self.args.quiet, self.args.verbose).bars,
        };
        let jobs = runner::run(ready, Arc::clone(&up.stack), Arc::clone(&judge), limits, interrupt, events);
        let result = self.session.phase(Phase::Jobs, jobs).await;
        let whole = self.matrix.scenarios.iter().filter(|one| one.skipped_on(series).is_none()).count();
        for warning in judge.warnings(result.as_ref().is_ok_and(|begun| *begun == whole)) {
            self.session.say(Event::Warning(warning));
        }
        if self.session.measured && !interrupt.is_asked() {
            for worker in &up.workers {
                self.session.say(Event::Measured(up.stack.measured(&worker.name).await?));
            }
        }
        result.map(|_| ())
    }
}
