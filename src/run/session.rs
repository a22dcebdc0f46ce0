//! The time of a stack: what every command that needs one does before its own work
//! and after it, whatever becomes of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::event::{About, Event, EventSender, Phase};
use crate::interrupt::Interrupt;
use crate::jobs::collector::Collector;
use crate::judge::normalise::Artifacts;
use crate::lava::series::Series;
use crate::report;
use crate::root::REPORTS;
use crate::secret::Secret;
use crate::stack::compose::{self, Compose};
use crate::stack::docker::Engine;
use crate::stack::images::{self, Lava, LavaArgs, Wanted, Which};
use crate::stack::sweep::{self, Purpose};
use crate::stack::{self, Lab, Spec, Stack, ready};

/// Jobs at once on each core. A job waits for its board and for LAVA's own
/// pauses most of its time; with more of them than this none ends sooner.
const JOBS_PER_CORE: usize = 8;

/// Options of every command that runs jobs on a stack.
#[derive(Debug, clap::Args)]
pub struct StackArgs {
    #[command(flatten)]
    lava: LavaArgs,
    /// Jobs at once [default: what this machine's cores bear]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Folder of the report [default: target/meta-lava/<run>]
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

impl StackArgs {
    /// Those that name LAVAs, with the report in a folder of their own.
    #[must_use]
    pub fn of(lavas: Vec<Which>, refresh: bool, jobs: Option<u16>, report: PathBuf) -> Self {
        Self { lava: LavaArgs::of_all(lavas, refresh), jobs, report: Some(report) }
    }

    /// How many jobs at once, on an engine with so many processors.
    #[must_use]
    pub fn at_once(&self, cpus: usize) -> usize {
        self.jobs.map_or(cpus * JOBS_PER_CORE, usize::from)
    }

    /// Begins a run of one LAVA.
    ///
    /// # Errors
    /// As [`Self::begin`], and [`Error::Usage`] for more than one.
    pub async fn begin_one(&self) -> Result<Beginning> {
        match self.lava.names().as_slice() {
            [] | [_] => self.begin().await,
            _ => Err(Error::Usage("this command takes one --lava; `run` takes several".into())),
        }
    }

    /// The names of LAVAs to take where the options have none; see [`LavaArgs::or_names`].
    ///
    /// # Errors
    /// As there.
    pub fn or_lavas(&mut self, names: &[String]) -> Result<()> {
        self.lava.or_names(names)
    }

    /// Whether the options name a LAVA.
    #[must_use]
    pub fn has_lavas(&self) -> bool {
        !self.lava.names().is_empty()
    }

    /// Begins a run: checks what can be checked at once, gives it a name and a folder, and
    /// listens to the user from now on.
    ///
    /// # Errors
    /// [`Error::Usage`] when this is not the repository, or what is asked for does not exist.
    pub async fn begin(&self) -> Result<Beginning> {
        let root = crate::root::root()?;
        compose::check(&root).map_err(|problem| Error::Usage(problem.to_string()))?;
        let run = sweep::new_run_name();
        let report = self.report.clone().unwrap_or_else(|| root.join(REPORTS).join(&run));
        report::folder::check(&report)?;
        let lavas = self.lava.lavas(&root).await?;
        let left = format!("run {run} may have left something behind; `meta-lava clean` removes it");
        let interrupt = Interrupt::listen(move || left.clone())?;
        Ok(Beginning { root, run, report, lavas, named: self.lava.names(), interrupt })
    }
}

/// A run that has a name, and nothing else yet.
pub struct Beginning {
    /// Root of the repository.
    pub root: PathBuf,
    /// Its name, see [`sweep::new_run_name`].
    pub run: String,
    /// The report's folder.
    pub report: PathBuf,
    /// Which LAVAs; there is always one.
    pub lavas: Vec<Lava>,
    /// Their names, where they were asked for by name.
    pub named: Vec<String>,
    /// Whether the user has had enough.
    pub interrupt: Interrupt,
}

impl Beginning {
    /// Its session, of which `events` is told.
    #[must_use]
    pub fn session<'a>(&'a self, events: &'a EventSender) -> Session<'a> {
        Session {
            root: &self.root,
            run: &self.run,
            lava: &self.lavas[0],
            report: &self.report,
            events,
            interrupt: &self.interrupt,
            keep: false,
            measured: false,
        }
    }
}

/// What a command does with a stack is done in one of these.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// Root of the repository.
    pub root: &'a Path,
    /// Name of the run, see [`sweep::new_run_name`].
    pub run: &'a str,
    /// Which LAVA.
    pub lava: &'a Lava,
    /// The report's folder; the containers' logs go to `raw/` in it.
    pub report: &'a Path,
    /// Who is told what happens.
    pub events: &'a EventSender,
    /// Whether the user has had enough.
    pub interrupt: &'a Interrupt,
    /// Whether the stack stays up at the end.
    pub keep: bool,
    /// Whether its worker measures which lines of LAVA its jobs run.
    pub measured: bool,
}

/// A stack that is up, and all that must be known before its first job.
pub struct Up {
    /// The stack.
    pub stack: Arc<Stack>,
    /// The series of its LAVA.
    pub series: Series,
    /// Where the boards of the lab are: a device's name to its worker's.
    pub lab: Lab,
    /// The workers.
    pub workers: Vec<Worker>,
    /// What the world serves.
    pub artifacts: Artifacts,
    /// Processors of the engine's machine.
    pub cpus: usize,
}

/// A worker that scenarios share.
#[derive(Debug, Clone)]
pub struct Worker {
    /// LAVA's name of it.
    pub name: String,
    /// Its address in the stack's network.
    pub address: String,
    /// What its boards took down.
    pub collector: Collector,
}

impl Session<'_> {
    /// Tells of an event.
    pub fn say(&self, event: Event) {
        // That nobody listens is no error.
        let _ = self.events.send(event);
    }

    /// Does `work` as `phase`.
    ///
    /// # Errors
    /// What `work` fails with.
    pub async fn phase<T>(&self, phase: Phase, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.say(Event::PhaseStarted(phase));
        let begun = Instant::now();
        let result = work.await;
        self.say(Event::PhaseEnded(phase, begun.elapsed()));
        result
    }

    /// Builds the images, brings a stack up with the `lab` for its LAVA's series, does `work`
    /// with it, keeps its logs, and takes it down; the last two whatever becomes of the first
    /// ones.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; [`Error::BrokenCommit`] for a commit that can't be built or started; what the
    /// stack or `work` fails with, or else [`Error::LeftBehind`].
    pub async fn with_stack(
        &self,
        workers: usize,
        lab: impl Fn(Series) -> Result<Lab>,
        work: impl AsyncFnOnce(Up) -> Result<()>,
    ) -> Result<()> {
        // Known now, before minutes are spent on images.
        lab(Series::OLDEST)?.check(&stack::worker_names(workers))?;
        let engine = self.engine().await?;
        // What is kept must not be swept by the next run.
        let purpose = if self.keep { Purpose::Up } else { Purpose::Run };
        let (cpus, spec) = self.prepare(&engine, purpose, workers, None).await?;
        let result = match self.interrupt.or(self.start(&engine, &spec, &lab, cpus)).await {
            Err(error) => Err(error),
            Ok(up) => work(up).await,
        };
        let cleaned = self.phase(Phase::Cleanup, self.clean_up(&engine)).await;
        self.both(result, cleaned)
    }

    /// Brings a stack up as [`with_stack`](Self::with_stack) does, and leaves it up when `work` is done. It
    /// is only taken down when something failed.
    ///
    /// # Errors
    /// As there; [`Error::Usage`] for an engine on another machine, where it could not be reached.
    pub async fn leave_up(
        &self,
        workers: usize,
        lab: impl Fn(Series) -> Result<Lab>,
        password: &Secret,
        work: impl AsyncFnOnce(Up) -> Result<()>,
    ) -> Result<()> {
        lab(Series::OLDEST)?.check(&stack::worker_names(workers))?;
        let engine = self.engine().await?;
        if !engine.host().is_local() {
            return Err(Error::Usage(format!(
                "the Docker engine is at {}: a stack there could not be reached from here once this command \
                 has ended; run `meta-lava up` on that machine",
                engine.host().address
            )));
        }
        let (cpus, spec) = self.prepare(&engine, Purpose::Up, workers, Some(password.clone())).await?;
        let result = match self.interrupt.or(self.start(&engine, &spec, &lab, cpus)).await {
            Err(error) => Err(error),
            Ok(up) => work(up).await,
        };
        match result {
            Ok(()) => Ok(()),
            failed => self.both(failed, self.remove(&engine).await),
        }
    }

    /// The engine, and a Compose tool beside it: known before minutes are spent on images.
    async fn engine(&self) -> Result<Engine> {
        Compose::find().await?;
        self.interrupt.or(Engine::connect()).await
    }

    /// Makes an engine ready for a stack: what dead runs left is removed, the images are there. Gives the
    /// processors of its machine and what the stack is made of.
    async fn prepare(
        &self,
        engine: &Engine,
        purpose: Purpose,
        workers: usize,
        password: Option<Secret>,
    ) -> Result<(usize, Spec)> {
        let cpus = ready::before_a_run(engine, self.root).await?.cpus;
        for line in self.interrupt.or(sweep::sweep_stale(engine)).await? {
            self.say(Event::Warning(line));
        }
        let wanted = if self.measured { Wanted::Measured } else { Wanted::Stack };
        let images = images::ensure(engine, self.root, self.lava, wanted, self.events);
        let images = self.interrupt.or(self.phase(Phase::Images, images)).await?;
        let (run, root) = (self.run.to_owned(), self.root.to_owned());
        Ok((cpus, Spec { run, purpose, root, images, workers, password }))
    }

    async fn start(
        &self,
        engine: &Engine,
        spec: &Spec,
        lab: impl Fn(Series) -> Result<Lab>,
        cpus: usize,
    ) -> Result<Up> {
        self.phase(Phase::Stack, async {
            let up = Stack::up(engine, spec, &lab, self.events).await;
            let (stack, series, lab) = up.map_err(|error| self.lava.blame(error))?;
            let stack = Arc::new(stack);
            let workers = Worker::all(&stack, spec.workers).await?;
            let artifacts = stack.artifacts().await?;
            let source = self.lava.source.as_ref();
            self.say(Event::About(About {
                name: self.lava.name.clone(),
                commit: source.and_then(|source| source.commit()).map(str::to_owned),
                ..stack.about().clone()
            }));
            Ok(Up { stack, series, lab, workers, artifacts, cpus })
        })
        .await
    }

    /// What failed, told first; that something was left behind, told as well.
    fn both(&self, result: Result<()>, cleaned: Result<()>) -> Result<()> {
        match (result, cleaned) {
            (Err(error), Err(left)) => {
                self.say(Event::Warning(left.to_string()));
                Err(error)
            }
            (result, cleaned) => result.and(cleaned),
        }
    }

    /// Keeps the logs, takes all down, and says what is still there.
    async fn clean_up(&self, engine: &Engine) -> Result<()> {
        engine.check_answers().await.map_err(|error| self.left_by(&error))?;
        let logs = stack::logs_of(engine, self.run, &self.report.join("raw")).await;
        if let Err(error) = logs {
            self.say(Event::Warning(error.to_string()));
        }
        if self.keep {
            self.say(Event::Warning(format!(
                "the stack of run {} is still up, as --keep asked; `meta-lava down {}` takes it down",
                self.run, self.run
            )));
            return Ok(());
        }
        self.remove(engine).await
    }

    async fn remove(&self, engine: &Engine) -> Result<()> {
        let left =
            stack::clean_up(engine, self.root, self.run).await.map_err(|error| self.left_by(&error))?;
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

    fn left_by(&self, error: &Error) -> Error {
        Error::LeftBehind(format!(
            "{error}; what run {} has made is still there: `meta-lava clean` removes it",
            self.run
        ))
    }
}

impl Worker {
    async fn all(stack: &Stack, count: usize) -> Result<Vec<Self>> {
        let mut workers = Vec::new();
        for name in stack::worker_names(count) {
            let container = stack.worker_container(&name)?;
            workers.push(Self {
                address: stack.worker_address(&name)?.to_owned(),
                collector: Collector::start(stack.engine(), container).await?,
                name,
            });
        }
        Ok(workers)
    }
}
