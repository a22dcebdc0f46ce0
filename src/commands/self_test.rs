//! `meta-lava self-test`: breaks LAVA on purpose, and shows that it is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use globset::Glob;
use serde::Serialize;

use crate::commands::{matrix, print};
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Phase, Verdict as OfScenario};
use crate::exit_code::Exit;
use crate::files::write_whole;
use crate::lava::series::Series;
use crate::report;
use crate::run::lab::lab;
use crate::run::runner::{self, Ready};
use crate::run::session::{Session, StackArgs, Up};
use crate::sabotage::{
    ACTIONS, CONTROL, Fix, Left, Mutation, PACKAGES, Reached, Sabotage, Scheduler, Table, Trial, Verdict,
    choose, control, draw, few, is_refused, load, traced, undo,
};
use crate::scenario::Scenario;
use crate::stack::images::{Commit, commits};
use crate::text::printable;

/// Options of `self-test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sabotages, by name or glob [default: all of `sabotages/`]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Instead of them, change N lines of LAVA by chance, one at a time
    #[arg(long, value_name = "N", conflicts_with = "names", value_parser = clap::value_parser!(u16).range(1..))]
    mutate: Option<u16>,
    /// Instead of them, undo commits of LAVA's, one at a time: those of this range that fixed something,
    /// or with --all each one. Its ends are branches, tags, commits or days (2026-08-21)
    #[arg(long, value_name = "SINCE..UNTIL", conflicts_with_all = ["names", "mutate", "list"])]
    history: Option<String>,
    /// What the chance of --mutate is made from
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Run every scenario under every sabotage, not some of each kind
    #[arg(long)]
    all: bool,
    /// List the sabotages, and who must notice each
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    stack: StackArgs,
}

/// How many scenarios try a mutant or an undone commit, in each round; the next round is for those that
/// nobody has noticed yet. There are some twenty kinds of them.
const ROUNDS: [usize; 3] = [1, 2, 20];
/// How long a job may take in which LAVA may hang by chance.
const MUTANT: Duration = Duration::from_secs(60);

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<Exit> {
    let root = crate::root::root()?;
    let matrix = matrix()?;
    let sabotages = chosen(load(&root)?, &args.names)?;
    let scenarios: Vec<&Scenario> =
        matrix.scenarios.iter().filter(|scenario| scenario.skipped().is_none()).collect();
    if args.list {
        return Ok(list(&sabotages, &scenarios));
    }
    let lab = |series| lab(&matrix, &scenarios, series, 1);
    lab(Series::OLDEST)?;
    let commits = match &args.history {
        None => None,
        Some(range) => {
            let progress = |line: String| print(&format!("history: {line}\n"));
            Some(commits(&crate::root::cache(&root), range, args.all, &progress).await?)
        }
    };
    let begun = args.stack.begin_one().await?;
    let (events, teller) = report::lines();
    let session = begun.session(&events);
    let mut test = Test { args: &args, session, found: Found { version: 1, ..Found::default() } };
    let since = Instant::now();
    let result = session
        .with_stack(1, lab, async |up: Up| {
            test.found.lava = up.stack.version().to_owned();
            let series = up.series;
            let mut fitting = Vec::new();
            for sabotage in &sabotages {
                match sabotage.on(series) {
                    Some(sabotage) => fitting.push(Arc::new(sabotage)),
                    None => test.say(format!("left out: {} is not for LAVA {series}", sabotage.name)),
                }
            }
            let scenarios: Vec<&Scenario> =
                scenarios.iter().copied().filter(|scenario| scenario.skipped_on(series).is_none()).collect();
            let ready = runner::ready(&matrix, &scenarios, &up)?;
            let scheduler = Scheduler::open(&up, &begun, args.stack.at_once(up.cpus)).await?;
            let jobs = async {
                match (commits, args.mutate) {
                    (Some(commits), _) => test.undo(&scheduler, commits, &ready).await,
                    (None, Some(count)) => test.mutate(&scheduler, usize::from(count), &ready).await,
                    (None, None) => test.sabotage(&scheduler, &fitting, &ready).await,
                }
            };
            session.phase(Phase::Jobs, jobs).await
        })
        .await;
    let mut found = std::mem::take(&mut test.found);
    drop(events);
    let _ = teller.await;
    found.seconds = since.elapsed().as_secs_f64();
    let written = serde_json::to_vec_pretty(&found)
        .map_err(Error::infrastructure)
        .and_then(|json| write_whole(&begun.report.join("self-test.json"), &json));
    print(&found.text(&args));
    print(&format!("  {}\n", begun.report.join("self-test.json").display()));
    result.and(written).map(|()| found.exit())
}

/// Those of `sabotages` that are named.
fn chosen(sabotages: Vec<Sabotage>, names: &[String]) -> Result<Vec<Arc<Sabotage>>> {
    let mut globs = Vec::new();
    for name in names {
        let glob = Glob::new(name)
            .map_err(|error| Error::Usage(format!("{name:?} is neither a name nor a glob: {error}")))?
            .compile_matcher();
        if !sabotages.iter().any(|sabotage| glob.is_match(&sabotage.name)) {
            let known: Vec<&str> = sabotages.iter().map(|sabotage| sabotage.name.as_str()).collect();
            let near = similar::get_close_matches(name.as_str(), &known, 3, 0.5).join(", ");
            let near = if near.is_empty() { String::new() } else { format!("; did you mean {near}?") };
            return Err(Error::NoMatch(format!("no sabotage matches {name:?}{near}")));
        }
        globs.push(glob);
    }
    let wanted = |s: &Sabotage| globs.is_empty() || globs.iter().any(|glob| glob.is_match(&s.name));
    Ok(sabotages.into_iter().filter(wanted).map(Arc::new).collect())
}

fn list(sabotages: &[Arc<Sabotage>], scenarios: &[&Scenario]) -> Exit {
    let mut text = String::new();
    for sabotage in sabotages {
        let noticing = scenarios.iter().filter(|scenario| sabotage.must_notice(scenario)).count();
        text.push_str(&format!("{:32} {noticing:3}  {}\n", sabotage.name, sabotage.about));
    }
    text.push_str(&format!(
        "{} sabotages; the number is of the {} scenarios that must notice it\n",
        sabotages.len(),
        scenarios.len()
    ));
    print(&text);
    Exit::Ok
}

/// What a self-test found: `self-test.json`.
#[derive(Debug, Default, Serialize)]
struct Found {
    version: u32,
    lava: String,
    seconds: f64,
    #[serde(rename = "sabotages")]
    table: Table,
    /// With --mutate: from how many lines the mutants were drawn.
    lines: Option<usize>,
    mutants: Vec<Mutant>,
    /// With --history: the commits, the newest first.
    history: Vec<Undone>,
}

/// A mutant and what became of it.
#[derive(Debug, Serialize)]
struct Mutant {
    mutation: Mutation,
    #[serde(flatten)]
    trials: Trials,
}

/// A commit and what became of it.
#[derive(Debug, Serialize)]
struct Undone {
    #[serde(flatten)]
    fix: Fix,
    #[serde(flatten)]
    trials: Trials,
}

/// How scenarios ended under a change that any of them may notice.
#[derive(Debug, Default, Serialize)]
struct Trials {
    /// Scenarios that ran under it, and how each ended.
    tried: BTreeMap<String, OfScenario>,
    /// The first difference of the one that noticed it.
    noticed: Option<String>,
}

impl Trials {
    fn take(&mut self, scenario: &Scenario, outcome: &Outcome) {
        self.tried.insert(scenario.name.clone(), outcome.verdict);
        if outcome.verdict != OfScenario::Pass && self.noticed.is_none() {
            self.noticed = Some(outcome.first_difference.as_ref().map_or_else(
                || outcome.reason.clone().unwrap_or_default(),
                |d| format!("{}: {}", d.snapshot, d.found.as_deref().unwrap_or("its end")),
            ));
        }
    }

    /// Whether any scenario came to run under it before the self-test was stopped, or one has noticed it without.
    fn is_told(&self) -> bool {
        self.noticed.is_some() || !self.tried.is_empty()
    }

    /// Whether scenarios ran under it and none noticed.
    fn survived(&self) -> bool {
        self.is_told() && self.noticed.is_none()
    }

    /// Those who ran under it, for people.
    fn run_by(&self) -> String {
        let names: Vec<&str> = self.tried.keys().map(String::as_str).collect();
        names.join(", ")
    }
}

struct Test<'a> {
    args: &'a Args,
    session: Session<'a>,
    found: Found,
}

impl Test<'_> {
    fn say(&self, line: String) {
        self.session.say(Event::Progress(Phase::Jobs, line));
    }

    async fn sabotage(
        &mut self,
        scheduler: &Scheduler,
        sabotages: &[Arc<Sabotage>],
        ready: &[Ready],
    ) -> Result<()> {
        scheduler.prepare(sabotages).await?;
        let mut planned = choose(sabotages, ready, self.args.all);
        let control = control(planned.iter().flat_map(|(_, trials)| trials));
        self.found.table.plan(CONTROL, "nothing is broken: no scenario may notice anything", control.len());
        for (sabotage, trials) in &planned {
            self.found.table.plan(&sabotage.name, &sabotage.about, trials.len());
        }
        let of_server: Vec<(&Arc<Sabotage>, Vec<Trial>)> =
            planned.extract_if(.., |(sabotage, _)| sabotage.is_of_the_server()).collect();
        let trials: Vec<Trial> = planned.into_iter().flat_map(|(_, trials)| trials).chain(control).collect();
        self.try_all(scheduler, trials).await?;
        for (sabotage, trials) in of_server {
            scheduler.change_server(Some(sabotage)).await?;
            self.try_all(scheduler, trials).await?;
        }
        Ok(())
    }

    async fn try_all(&mut self, scheduler: &Scheduler, trials: Vec<Trial>) -> Result<()> {
        let all = self.found.table.sabotages.len();
        let table = &mut self.found.table;
        let session = self.session;
        scheduler
            .run(trials, |trial, outcome| {
                let name = trial.sabotage.as_ref().map_or(CONTROL, |sabotage| &sabotage.name);
                if let Some(row) = table.take(name, trial, outcome) {
                    let line = format!("{:8} {name}: {}", row.verdict().name(), row.counts());
                    let faults = row.faults();
                    let ended = all - table.count(Verdict::NotRun);
                    let line = format!("[{ended:2}/{all}] {line}\n{faults}");
                    session.say(Event::Progress(Phase::Jobs, line.trim_end().to_owned()));
                }
            })
            .await
    }

    /// Runs all scenarios once, and has it written down what each runs through in files whose path has one of
    /// `parts`. Those that can notice something.
    async fn trace(&self, scheduler: &Scheduler, parts: &[&str], ready: &[Ready]) -> Result<Vec<Ready>> {
        let tracer = Arc::new(traced(parts));
        scheduler.prepare(std::slice::from_ref(&tracer)).await?;
        self.say(format!("tracing what {} scenarios run through", ready.len()));
        let mut ready = ready.to_vec();
        let trials = ready.iter().cloned();
        let trials = trials.map(|ready| Trial { sabotage: Some(Arc::clone(&tracer)), ready }).collect();
        let mut red = Vec::new();
        scheduler
            .run(trials, |trial, outcome| {
                if outcome.verdict != OfScenario::Pass {
                    red.push(trial.ready.scenario.name.clone());
                }
            })
            .await?;
        // Those that are red by themselves, or by being traced, can't notice anything.
        ready.retain(|ready| !red.contains(&ready.scenario.name));
        for name in red {
            self.session.say(Event::Warning(format!("{name} is red without any change, and is left out")));
        }
        for one in &mut ready {
            one.scenario.timeout = MUTANT;
        }
        Ok(ready)
    }

    /// Which lines each of `ready` ran through. A job that ends before it gets to LAVA's actions has none.
    async fn traces_of<'a>(
        &self,
        scheduler: &Scheduler,
        ready: &'a [Ready],
    ) -> Result<BTreeMap<&'a str, Vec<String>>> {
        let traces = scheduler.overlay.traces_of(ready).await?;
        let names = ready.iter().map(|ready| ready.scenario.name.as_str());
        let without: Vec<_> = names.filter(|name| !traces.contains_key(name)).collect();
        if !without.is_empty() {
            self.say(format!("nothing was written down of {}", without.join(", ")));
        }
        Ok(traces)
    }

    /// Runs scenarios under each of `sabotages` until one has noticed it.
    async fn try_until_noticed(
        &self,
        scheduler: &Scheduler,
        ready: &[Ready],
        sabotages: &[(Arc<Sabotage>, Reached)],
        found: &mut [&mut Trials],
    ) -> Result<()> {
        let changes: Vec<_> = sabotages.iter().map(|(sabotage, _)| Arc::clone(sabotage)).collect();
        scheduler.prepare(&changes).await?;
        let mut tried = 0;
        for round in ROUNDS {
            let left = sabotages.iter().zip(found.iter()).filter(|(_, one)| one.noticed.is_none());
            let trials: Vec<Trial> = left
                .flat_map(|((sabotage, reached), _)| few(sabotage, reached, ready, tried, round))
                .collect();
            if trials.is_empty() {
                break;
            }
            self.say(format!("{} jobs for what nobody has noticed yet", trials.len()));
            scheduler
                .run(trials, |trial, outcome| {
                    let at = trial
                        .sabotage
                        .as_ref()
                        .and_then(|sabotage| changes.iter().position(|other| other.name == sabotage.name));
                    if let Some(one) = at.and_then(|at| found.get_mut(at)) {
                        one.take(&trial.ready.scenario, outcome);
                    }
                })
                .await?;
            tried += round;
        }
        Ok(())
    }

    async fn mutate(&mut self, scheduler: &Scheduler, count: usize, ready: &[Ready]) -> Result<()> {
        let ready: Vec<Ready> = ready.iter().filter(|ready| !is_refused(&ready.scenario)).cloned().collect();
        let ready = self.trace(scheduler, ACTIONS, &ready).await?;
        let traces = self.traces_of(scheduler, &ready).await?;
        let (lines, drawn) = draw(&scheduler.overlay, traces, count, self.args.seed).await?;
        self.say(format!("{} mutants of {lines} lines, drawn with --seed {}", drawn.len(), self.args.seed));
        self.found.lines = Some(lines);
        let (drawn, sabotages): (Vec<_>, Vec<_>) =
            drawn.into_iter().map(|(mutation, sabotage)| (mutation, (sabotage, Reached::new()))).unzip();
        let mutant = |mutation| Mutant { mutation, trials: Trials::default() };
        let mut mutants: Vec<_> = drawn.into_iter().map(mutant).collect();
        let mut found: Vec<_> = mutants.iter_mut().map(|mutant| &mut mutant.trials).collect();
        let result = self.try_until_noticed(scheduler, &ready, &sabotages, &mut found).await;
        self.found.mutants = mutants;
        result
    }

    async fn undo(&mut self, scheduler: &Scheduler, commits: Vec<Commit>, ready: &[Ready]) -> Result<()> {
        scheduler.trace_server().await?;
        let ready = self.trace(scheduler, PACKAGES, ready).await?;
        let traces = self.traces_of(scheduler, &ready).await?;
        let of_server = scheduler.overlay.trace_of_server().await?;
        scheduler.change_server(None).await?;
        let undone = undo(&scheduler.overlay, &ready, &traces, &of_server, commits).await?;
        let (mut history, mut sabotages) = (Vec::new(), Vec::new());
        for (fix, sabotage) in undone {
            history.push(Undone { fix, trials: Trials::default() });
            sabotages.extend(sabotage);
        }
        self.say(format!("{} of {} commits can be undone", sabotages.len(), history.len()));
        let left = history.iter_mut().filter(|one| one.fix.left.is_none());
        let left = left.map(|one| &mut one.trials).zip(sabotages);
        // What is changed on the server is changed for all jobs.
        type Found<'a> = Vec<(&'a mut Trials, (Arc<Sabotage>, Reached))>;
        let (of_server, of_jobs): (Found, Found) =
            left.partition(|(_, (sabotage, _))| sabotage.is_of_the_server());
        let (mut found, sabotages): (Vec<_>, Vec<_>) = of_jobs.into_iter().unzip();
        let mut result = self.try_until_noticed(scheduler, &ready, &sabotages, &mut found).await;
        for (trials, sabotage) in of_server {
            if result.is_ok() {
                result = self.try_on_server(scheduler, &ready, &sabotage, trials).await;
            }
        }
        self.found.history = history;
        result
    }

    /// Runs scenarios on a server under `sabotage` until one has noticed it. A server that does not even begin, or
    /// does not take the job, is noticed as well.
    async fn try_on_server(
        &self,
        scheduler: &Scheduler,
        ready: &[Ready],
        sabotage: &(Arc<Sabotage>, Reached),
        found: &mut Trials,
    ) -> Result<()> {
        let tried = async {
            scheduler.change_server(Some(&sabotage.0)).await?;
            self.try_until_noticed(scheduler, ready, std::slice::from_ref(sabotage), &mut [&mut *found]).await
        };
        match tried.await {
            Err(Error::Infrastructure(fault)) => {
                found.noticed.get_or_insert_with(|| Error::Infrastructure(fault).brief());
                Ok(())
            }
            other => other,
        }
    }
}

/// What is left of a self-test that was stopped, for the end of its line.
fn not_run(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", {count} not run") }
}

/// Which part of `all`, in percent.
fn percent(part: usize, all: usize) -> usize {
    (100 * part).checked_div(all).unwrap_or(0)
}

impl Found {
    fn text(&self, args: &Args) -> String {
        let mut text = self.table.text();
        let survivors: Vec<_> = self.mutants.iter().filter(|mutant| mutant.trials.survived()).collect();
        for mutant in &survivors {
            let Mutation { file, line, kind, before, after, .. } = &mutant.mutation;
            text.push_str(&format!(
                "survived {file}:{line} ({kind})\n    - {before}\n    + {after}\n    run by {}\n",
                mutant.trials.run_by()
            ));
        }
        if let Some(range) = &args.history {
            text.push_str(&self.history_text(range));
        } else if let Some(lines) = self.lines {
            let all = self.mutants.iter().filter(|mutant| mutant.trials.is_told()).count();
            let noticed = all - survivors.len();
            text.push_str(&format!(
                "\nMutants [{:.1} s] LAVA {}: {noticed} of {all} noticed ({} %), of {lines} lines, --seed {}{}\n",
                self.seconds,
                self.lava,
                percent(noticed, all),
                args.seed,
                not_run(self.mutants.len() - all)
            ));
        } else {
            let count = |verdict| self.table.count(verdict);
            let sabotages = self.table.sabotages.iter().filter(|row| row.name != CONTROL).count();
            text.push_str(&format!(
                "\nSelf-test [{:.1} s] LAVA {}: {sabotages} sabotages and LAVA as it is: {} noticed, {} wrong, {} not run\n",
                self.seconds,
                self.lava,
                count(Verdict::Noticed),
                count(Verdict::Wrong),
                count(Verdict::NotRun)
            ));
        }
        text
    }

    fn history_text(&self, range: &str) -> String {
        let mut text = String::new();
        let line = |what: &str, fix: &Fix| {
            let commit = fix.commit.get(..12).unwrap_or(&fix.commit);
            format!("{what} {commit} {} {}\n", fix.date, printable(&fix.subject))
        };
        for one in self.history.iter().filter(|one| one.fix.left == Some(Left::NotReached)) {
            text.push_str(&line("not reached", &one.fix));
        }
        let (undone, others): (Vec<_>, Vec<_>) =
            self.history.iter().filter(|one| one.fix.left.is_none()).partition(|one| one.trials.is_told());
        for one in undone.iter().filter(|one| one.trials.survived()) {
            text.push_str(&line("survived", &one.fix));
            text.push_str(&format!("    {}\n    run by {}\n", one.fix.files.join(", "), one.trials.run_by()));
        }
        let noticed = undone.iter().filter(|one| one.trials.noticed.is_some()).count();
        text.push_str(&format!(
            "\nHistory [{:.1} s] LAVA {}: {noticed} of {} undone commits noticed ({} %), of {} in {range}{}\n",
            self.seconds,
            self.lava,
            undone.len(),
            percent(noticed, undone.len()),
            self.history.len(),
            not_run(others.len())
        ));
        for why in Left::ALL {
            let count = self.history.iter().filter(|one| one.fix.left == Some(why)).count();
            text.push_str(&format!("  {count} {}\n", why.words()));
        }
        text
    }

    fn exit(&self) -> Exit {
        let rows = &self.table.sabotages;
        if rows.iter().all(|row| row.verdict() == Verdict::Noticed) { Exit::Ok } else { Exit::Differs }
    }
}
