//! `meta-lava run`: the main job. Images, stack, jobs, verdicts, report, cleanup.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use meta_lava_ghost::console::Pace;

use crate::collector::Collector;
use crate::commands::accept;
use crate::commands::matrix;
use crate::commands::up::lab;
use crate::compose::{self, Compose};
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::event::{Event, EventSender, Outcome, Phase, Verdict};
use crate::exit_code::Exit;
use crate::filter::FilterArgs;
use crate::images::{self, Lava, LavaArgs};
use crate::interrupt::Interrupt;
use crate::normalise::Artifacts;
use crate::report::{self, Look, Settings};
use crate::runner::{self, Limits, Ready, Worker};
use crate::scenario::{Matrix, Scenario};
use crate::snapshot::{self, Store};
use crate::stack::{self, Spec, Stack};
use crate::sweep::{self, Purpose};
use crate::verdict::Judge;

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    #[command(flatten)]
    lava: LavaArgs,
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Jobs at once [default: what this machine's cores bear]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Folder of the report [default: target/meta-lava/<run>]
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Leave the stack up
    #[arg(long)]
    keep: bool,
    /// Accept what was found as what is expected; never in CI
    #[arg(long)]
    accept: bool,
    /// Play consoles at this baud rate, with seeded jitter
    #[arg(long, value_name = "BAUD")]
    pace: Option<u32>,
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

/// Where reports go by default, below the repository's root; a folder for each run.
pub(super) const REPORTS: &str = "target/meta-lava";

/// Jobs at once on each core. A job waits for its board and for LAVA's own
/// pauses most of its time; with more of them than this none ends sooner.
const JOBS_PER_CORE: usize = 6;

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<Exit> {
    let matrix = matrix()?;
    let selected = args.filter.select(&matrix)?;
    run_selected(&args, &matrix, &selected).await
}

/// Runs those scenarios of `matrix`, whatever the filter in `args` says.
///
/// # Errors
/// See [`Error`].
pub(super) async fn run_selected(args: &Args, matrix: &Matrix, selected: &[&Scenario]) -> Result<Exit> {
    if args.accept && snapshot::in_ci() {
        return Err(Error::Usage("--accept is for people: in CI (`CI` is set) nothing is accepted".into()));
    }
    let root = crate::root::root()?;
    compose::check(&root).map_err(|problem| Error::Usage(problem.to_string()))?;
    let lava = args.lava.lava()?;
    let run = sweep::new_run_name();
    let report = args.report.clone().unwrap_or_else(|| root.join(REPORTS).join(&run));
    let left = format!("run {run} may have left something behind; `meta-lava clean` removes it");
    let interrupt = Interrupt::listen(move || left.clone())?;

    let settings = Settings {
        root: root.clone(),
        look: Look::of_stderr(args.quiet, args.verbose),
        strict: snapshot::in_ci(),
    };
    let (events, reporter) = report::start(settings);
    let _ = events.send(Event::Started {
        run: run.clone(),
        report: report.clone(),
        partition: args.filter.partition.clone(),
        scenarios: selected.iter().map(|scenario| scenario.info()).collect(),
    });
    if let Some(seed) = args.shuffle {
        let _ = events.send(Event::Note(format!("scenarios begin in the order of --shuffle {seed}")));
    }
    let begun = Instant::now();
    let all = Run { args, root: &root, matrix, lava: &lava, run: &run, report: &report, events: &events };
    let result = all.go(selected, &interrupt).await;
    let _ = events.send(Event::Ended { interrupted: interrupt.is_asked(), elapsed: begun.elapsed() });
    drop(events);
    let summary = reporter
        .await
        .map_err(|error| Error::Infrastructure(format!("the report was not written: {error}")))?;

    if args.accept {
        accept_of(&root, selected)?;
    }
    // The stack's own trouble outweighs what scenarios found, and a report that
    // could not be written outweighs a green one.
    result?;
    match summary.failed.into_iter().next() {
        Some(error) => Err(error),
        None if args.accept => Ok(Exit::Ok),
        None => Ok(summary.exit),
    }
}

/// Makes what was found of `scenarios` what is expected.
fn accept_of(root: &Path, scenarios: &[&Scenario]) -> Result<()> {
    for pending in Store::new(root).pending()? {
        if scenarios.iter().any(|scenario| pending.name.starts_with(&format!("{}/", scenario.id()))) {
            accept::accept(&pending)?;
        }
    }
    Ok(())
}

/// The order in which scenarios begin. Without a seed those that may take long are
/// first, so that none is left alone at the end. With one: by a hash of seed and
/// name, so that a scenario's place among others does not depend on what else runs,
/// nor on a library's version.
fn in_order<'s>(scenarios: &[&'s Scenario], seed: Option<u64>) -> Vec<&'s Scenario> {
    let mut scenarios = scenarios.to_vec();
    match seed {
        None => scenarios.sort_by_key(|scenario| std::cmp::Reverse(scenario.timeout)),
        Some(seed) => {
            let hash = |name: &str| meta_lava_formats::sha256(format!("{seed} {name}").as_bytes());
            scenarios.sort_by_cached_key(|scenario| hash(&scenario.name));
        }
    }
    scenarios
}

/// One run.
struct Run<'a> {
    args: &'a Args,
    root: &'a Path,
    matrix: &'a Matrix,
    lava: &'a Lava,
    run: &'a str,
    report: &'a Path,
    events: &'a EventSender,
}

impl Run<'_> {
    fn say(&self, event: Event) {
        // That nobody listens is no error.
        let _ = self.events.send(event);
    }

    /// Does `work` as `phase`.
    async fn phase<T>(&self, phase: Phase, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.say(Event::PhaseStarted(phase));
        let begun = Instant::now();
        let result = work.await;
        self.say(Event::PhaseEnded(phase, begun.elapsed()));
        result
    }

    async fn go(&self, selected: &[&Scenario], interrupt: &Interrupt) -> Result<()> {
        let (skipped, wanted): (Vec<&Scenario>, Vec<&Scenario>) =
            selected.iter().copied().partition(|scenario| scenario.skip.is_some());
        for scenario in skipped {
            self.finish(scenario, Verdict::Skipped, scenario.skip.as_deref().unwrap_or_default());
        }
        let result = self.with_engine(&wanted, interrupt).await;
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
        self.say(Event::Finished { scenario: scenario.name.clone(), outcome });
    }

    async fn with_engine(&self, wanted: &[&Scenario], interrupt: &Interrupt) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let workers = usize::from(self.args.workers);
        let mut lab = lab(self.matrix, wanted, workers)?;
        lab.pace = self.args.pace.map(|baud| Pace { baud, seed: self.args.seed });
        // Known now, before minutes are spent on images.
        Compose::find().await?;
        let engine = interrupt.or(Engine::connect()).await?;
        let cpus = engine.preflight().await?.cpus;
        for line in interrupt.or(sweep::sweep_stale(&engine)).await? {
            self.say(Event::Warning(line));
        }
        let images = interrupt
            .or(self.phase(Phase::Images, images::ensure(&engine, self.root, self.lava, self.events)))
            .await?;
        let spec = Spec {
            run: self.run.to_owned(),
            // What is kept must not be swept by the next run.
            purpose: if self.args.keep { Purpose::Up } else { Purpose::Run },
            root: self.root.to_owned(),
            images,
            workers,
            lab,
            password: None,
        };
        let up = self.phase(Phase::Stack, async {
            let stack = Stack::up(&engine, &spec, self.events).await?;
            let ready = self.ready(&stack, &spec, wanted).await?;
            Ok((Arc::new(stack), ready))
        });
        let result = match interrupt.or(up).await {
            Err(error) => Err(error),
            Ok((stack, (ready, artifacts))) => {
                let judge = Arc::new(Judge::new(self.root, stack.version(), artifacts, self.report));
                let limits = Limits {
                    at_once: self.args.jobs.map_or(cpus * JOBS_PER_CORE, usize::from),
                    max_fail: self.args.max_fail.map(usize::from),
                    strict: snapshot::in_ci(),
                    looks: Look::of_stderr(self.args.quiet, self.args.verbose).bars,
                };
                let jobs = runner::run(ready, stack, Arc::clone(&judge), limits, interrupt, self.events);
                let result = self.phase(Phase::Jobs, jobs).await;
                let whole = self.matrix.scenarios.iter().filter(|scenario| scenario.skip.is_none()).count();
                for warning in judge.warnings(result.as_ref().is_ok_and(|begun| *begun == whole)) {
                    self.say(Event::Warning(warning));
                }
                result.map(|_| ())
            }
        };
        let cleaned = self.phase(Phase::Cleanup, self.clean_up(&engine)).await;
        match (result, cleaned) {
            (Err(error), Err(left)) => {
                self.say(Event::Warning(left.to_string()));
                Err(error)
            }
            (result, cleaned) => result.and(cleaned),
        }
    }

    /// Everything that must be known before the first job is submitted.
    async fn ready(
        &self,
        stack: &Stack,
        spec: &Spec,
        wanted: &[&Scenario],
    ) -> Result<(Vec<Ready>, Artifacts)> {
        let mut workers = Vec::new();
        for name in stack::worker_names(spec.workers) {
            let container = stack.worker_container(&name)?;
            workers.push(Worker {
                address: stack.worker_address(&name)?.to_owned(),
                collector: Collector::start(stack.engine(), container).await?,
                name,
            });
        }
        let ready = in_order(wanted, self.args.shuffle)
            .iter()
            .map(|scenario| {
                let rendered =
                    self.matrix.render(scenario).map_err(|problem| Error::Usage(problem.to_string()))?;
                let device = spec.lab.devices.iter().find(|device| {
                    rendered.devices.first().is_some_and(|first| first.hostname == device.hostname)
                });
                let worker = device.and_then(|device| workers.iter().find(|w| w.name == device.worker));
                let worker = worker
                    .ok_or_else(|| Error::Infrastructure(format!("{} has no worker", scenario.name)))?
                    .clone();
                Ok(Ready { scenario: (*scenario).clone(), rendered, worker })
            })
            .collect::<Result<_>>()?;
        Ok((ready, stack.artifacts().await?))
    }

    /// Keeps the logs, takes all down, and says what is still there.
    async fn clean_up(&self, engine: &Engine) -> Result<()> {
        let left = |error: Error| {
            Error::LeftBehind(format!(
                "{error}; what run {} has made is still there: `meta-lava clean` removes it",
                self.run
            ))
        };
        engine.check_answers().await.map_err(left)?;
        let logs = stack::logs_of(engine, self.run, &self.report.join("raw")).await;
        if let Err(error) = logs {
            self.say(Event::Warning(error.to_string()));
        }
        if self.args.keep {
            self.say(Event::Warning(format!(
                "the stack of run {} is still up, as --keep asked; `meta-lava down {}` takes it down",
                self.run, self.run
            )));
            return Ok(());
        }
        let left = stack::clean_up(engine, self.root, self.run).await.map_err(left)?;
        match left.first() {
            None => Ok(()),
            Some(first) => Err(Error::LeftBehind(format!(
                "{} objects of run {} are left behind, such as {} {}; `meta-lava clean` removes them",
                left.len(),
                self.run,
                first.kind,
                first.name
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::folder;

    #[test]
    fn a_seed_gives_an_order_of_its_own_that_stays_when_others_are_left_out() {
        let folder = folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let all: Vec<&Scenario> = matrix.scenarios.iter().collect();
        let names = |scenarios: &[&Scenario], seed| -> Vec<String> {
            in_order(scenarios, seed).into_iter().map(|scenario| scenario.name.clone()).collect()
        };
        let orders: std::collections::BTreeSet<_> = (0..50).map(|seed| names(&all, Some(seed))).collect();
        assert!(orders.len() > 4, "{orders:?}");
        let mut without_last = names(&all, Some(7));
        assert_eq!(without_last, names(&all, Some(7)));
        without_last.retain(|name| *name != all[all.len() - 1].name);
        assert_eq!(names(&all[..all.len() - 1], Some(7)), without_last);
    }
}
