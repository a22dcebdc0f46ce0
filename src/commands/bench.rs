//! `meta-lava bench`: what the harness itself costs, and where the time of a run goes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;

use crate::bench::cpu::{self, Snapshot};
use crate::bench::ghosts;
use crate::bench::run::Record;
use crate::bench::table::{Figures, VERSION, Wall, Whole};
use crate::commands::{matrix, print};
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Phase, Verdict};
use crate::exit_code::Exit;
use crate::files::write_whole;
use crate::judge::snapshot;
use crate::report::{self, Look, Settings};
use crate::run::judge::Judge;
use crate::run::lab::{in_order, lab};
use crate::run::runner::{self, Limits};
use crate::run::session::{Session, StackArgs, Up};
use crate::scenario::filter::FilterArgs;
use crate::scenario::{Matrix, Scenario};
use crate::stack::docker::Engine;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure the harness and the ghosts in one run; what LAVA bears is not there yet
    #[arg(long = "self")]
    harness: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    stack: StackArgs,
}

/// Does it.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<Exit> {
    if !args.harness {
        return Err(Error::Usage(
            "`bench` measures only the harness itself so far: say `bench --self`; LAVA's throughput against \
             boards that cost nothing is not there yet"
                .into(),
        ));
    }
    let matrix = matrix()?;
    let selected = args.filter.select(&matrix)?;
    let wanted: Vec<&Scenario> = selected.iter().copied().filter(|one| one.skipped().is_none()).collect();
    if wanted.is_empty() {
        return Err(Error::NoMatch(
            "all scenarios that match are skipped; there is nothing to measure".into(),
        ));
    }
    let begun = args.stack.begin_one().await?;

    let look = Look::of_stderr(false, false);
    let settings = Settings { root: begun.root.clone(), look, strict: snapshot::in_ci() };
    let (reports, reporter) = report::start(settings);
    // All that the reports are told is recorded on its way.
    let record = Arc::new(Mutex::new(Record::default()));
    let (events, mut told) = unbounded_channel();
    let recorder = tokio::spawn({
        let record = Arc::clone(&record);
        async move {
            while let Some(event) = told.recv().await {
                record.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
                let _ = reports.send(event);
            }
        }
    });
    let _ = events.send(Event::Started {
        run: begun.run.clone(),
        report: begun.report.clone(),
        partition: args.filter.partition.clone(),
        lavas: begun.named.clone(),
        scenarios: wanted.iter().map(|scenario| scenario.info()).collect(),
    });
    let since = Instant::now();
    let session = begun.session(&events);
    let mut counted = None;
    let work = async |up: Up| {
        let limits = Limits {
            at_once: args.stack.at_once(up.cpus),
            max_fail: None,
            strict: snapshot::in_ci(),
            looks: look.bars,
        };
        counted = Some(jobs(&session, &matrix, &wanted, up, limits).await?);
        Ok(())
    };
    let result = session.with_stack(1, |series| lab(&matrix, &wanted, series, 1), work).await;
    let _ = events.send(Event::Ended { interrupted: begun.interrupt.is_asked(), elapsed: since.elapsed() });
    drop(events);
    let _ = recorder.await;
    let summary = reporter
        .await
        .map_err(|error| Error::infrastructure(format!("the report was not written: {error}")))?;
    // Before the figures of ghosts alone, which are no part of the run.
    let harness = cpu::own().as_secs_f64();
    result?;
    if let Some(error) = summary.failed.into_iter().next() {
        return Err(error);
    }
    let counted = counted.ok_or_else(|| Error::infrastructure("nothing was counted"))?;
    let ghosts = begun.interrupt.or(ghosts::measure(&matrix)).await?;
    let figures = {
        let record = record.lock().unwrap_or_else(PoisonError::into_inner);
        figures(&record, counted, begun.run.clone(), harness, ghosts)
    };
    let json = figures.json().map_err(|error| Error::failed("make bench.json", error))?;
    let path = begun.report.join("bench.json");
    write_whole(&path, json.as_bytes())?;
    print(&format!("\n{}\n  {}\n", figures.text(), path.display()));
    Ok(Exit::Ok)
}

/// What was counted while the stack was up.
struct Counted {
    before: Snapshot,
    after: Snapshot,
    lava: String,
    cores: usize,
    local: bool,
}

/// The phase of the jobs, counted before and after.
async fn jobs(
    session: &Session<'_>,
    matrix: &Matrix,
    wanted: &[&Scenario],
    up: Up,
    limits: Limits,
) -> Result<Counted> {
    let Session { root, report, interrupt, events, .. } = session;
    let series = up.series;
    let mut wanted = in_order(wanted, None);
    wanted.retain(|scenario| match scenario.skipped_on(series) {
        Some(reason) => {
            let outcome = Outcome::without_evidence(Verdict::Skipped, reason.to_owned(), 0.0);
            session.say(Event::Finished { scenario: scenario.name.clone(), outcome });
            false
        }
        None => true,
    });
    if wanted.is_empty() {
        return Err(Error::NoMatch(format!(
            "all scenarios that match are skipped on LAVA {series}; there is nothing to measure"
        )));
    }
    let ready = runner::ready(matrix, &wanted, &up)?;
    let judge = Arc::new(Judge::new(root, series, up.artifacts, report));
    let (engine, containers): (Engine, _) = (up.stack.engine().clone(), up.stack.containers().to_vec());
    interrupt.or(cpu::account(&engine, &containers)).await?;
    let before = interrupt.or(cpu::snapshot(&engine, &containers)).await?;
    let lava = up.stack.version().to_owned();
    let jobs = runner::run(ready, up.stack, judge, limits, interrupt, events);
    session.phase(Phase::Jobs, jobs).await?;
    let after = interrupt.or(cpu::snapshot(&engine, &containers)).await?;
    Ok(Counted { before, after, lava, cores: up.cpus, local: engine.host().is_local() })
}

fn figures(record: &Record, counted: Counted, run: String, harness: f64, ghosts: ghosts::Ghosts) -> Figures {
    let Counted { before, after, lava, cores, local } = counted;
    let all = after.since(&Snapshot::default(), local);
    Figures {
        version: VERSION,
        run,
        lava,
        cores,
        local,
        jobs: record.jobs(),
        red: record.red,
        wall: Wall {
            run: record.elapsed(),
            images: record.phase(Phase::Images),
            stack: record.phase(Phase::Stack),
            jobs: record.phase(Phase::Jobs),
            cleanup: record.phase(Phase::Cleanup),
        },
        spent: after.since(&before, local),
        whole: Whole {
            lava: all.lava(),
            ghosts: all.ghosts(),
            harness: harness + all.harness() - all.harness,
        },
        steps: record.steps(),
        concurrency: record.concurrency(),
        ghosts,
    }
}
