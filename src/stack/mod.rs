//! A LAVA of our own: started, provisioned, watched, and taken down again.

pub mod compose;
pub mod docker;
pub mod endpoint;
pub mod images;
pub mod provision;
pub mod ready;
pub mod server_kind;
pub mod sweep;
pub mod templates;
pub mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::sync::watch;

use meta_lava_ghost::console::Pace;
use meta_lava_ghost::daemon::{self, Guest, LabBoard};

use self::provision::DeviceSpec;
use self::sweep::{Purpose, RUN};
use crate::error::{Error, Result};
use crate::event::{About, Event, EventSender, Measured, Phase};
use crate::judge::normalise::Artifacts;
use crate::lava::Api;
use crate::lava::api::PROBE;
use crate::lava::events::{Events, LavaEvent, Subject};
use crate::lava::series::Series;
use crate::lava::words::{DeviceHealth, DeviceState, WorkerState};
use crate::secret::Secret;
use crate::stack::compose::{Compose, Project, write_labelled};
use crate::stack::docker::Engine;
use crate::stack::docker::archive::{Archive, Owner};
use crate::stack::docker::objects::{Container, Object, tail};
use crate::stack::endpoint::Endpoint;
use crate::stack::images::Images;
use crate::text::printable;

/// The administrator that the server's image has.
pub const ADMIN: &str = "meta-lava-admin";
/// After so long without an answer, and again each time, the server's last words are told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long workers may take until LAVA calls them online.
const WORKERS: Duration = Duration::from_secs(90);
/// What the server tells each worker for its jobs, below `compose/`.
const DISPATCHER: &str = "dispatcher.yaml";
/// Ports of the server: the web and the event stream.
const HTTP: u16 = 80;
const PUBLISHER: u16 = 8001;
/// The most that is fetched of one container's `/var/log`.
const LOGS: u64 = 256 << 20;

/// How long an engine may take to tell of a death. A server's connections break first:
/// its network is taken down before the event goes out.
const DEATH_NOTICE: Duration = Duration::from_secs(5);

/// What a container ends with that was killed: 128 + SIGKILL.
const KILLED: &str = "137";

/// What lava-worker has to say, in its container.
const WORKER_LOG: &str = "/var/log/lava-dispatcher/lava-worker.log";
/// The same of lava-scheduler, in the server's.
const SCHEDULER_LOG: &str = "/var/log/lava-server/lava-scheduler.log";
/// The same of lava-publisher.
const PUBLISHER_LOG: &str = "/var/log/lava-server/lava-publisher.log";

/// Opens a worker's gate and ends once its ghosts have all their consoles.
const GATE: &str = "test -p /run/meta-lava/gate && echo open > /run/meta-lava/gate \
                    && until test -S /run/ghost/control.sock; do sleep 0.05; done";

/// Says what a server's image is made of, a line each.
const ABOUT: &str = r#"
. /etc/os-release && echo "distribution $PRETTY_NAME"
python3 -c 'import platform; print("python", platform.python_version())
import django; print("django", django.get_version())'
for postgres in /usr/lib/postgresql/*/bin/postgres; do
    "$postgres" --version | sed -n 's/^postgres (PostgreSQL) \([^ ]*\).*/postgresql \1/p'
done
"#;

/// What [`ABOUT`] said.
fn about(text: &str) -> About {
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| printable(value.trim()).chars().take(100).collect::<String>())
    };
    About {
        distribution: of("distribution"),
        python: of("python"),
        django: of("django"),
        postgresql: of("postgresql"),
        ..About::default()
    }
}

/// A board, as the ghost's daemon reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardFile {
    /// Name; a device has the same one.
    pub name: String,
    /// What it is, as the daemon reads it.
    pub text: String,
    /// TCP port of each serial console, on its worker.
    pub consoles: Vec<u16>,
    /// Whether it is switched off only when its job ends.
    pub off_is_the_end: bool,
    /// Of a job that has no device but another one's: on whose it is. It has no device of its own name then.
    pub guest: Option<Guest>,
}

impl BoardFile {
    /// The name of the device that it belongs to.
    fn device(&self) -> &str {
        self.guest.as_ref().map_or(self.name.as_str(), |guest| guest.of.as_str())
    }
}

/// What is in the lab: LAVA's side and the boards' side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lab {
    /// What LAVA is told of.
    pub devices: Vec<DeviceSpec>,
    /// What there is.
    pub boards: Vec<BoardFile>,
    /// Speed of the boards' serial lines.
    pub pace: Option<Pace>,
    /// How late their power is switched, in milliseconds.
    pub late_power_ms: u16,
}

/// A stack to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name of the run, see [`sweep::new_run_name`].
    pub run: String,
    /// What for.
    pub purpose: Purpose,
    /// Root of the repository.
    pub root: PathBuf,
    /// Images.
    pub images: Images,
    /// How many workers.
    pub workers: usize,
    /// The administrator's password for the web pages, if anybody shall log in.
    pub password: Option<Secret>,
}

/// A LAVA that runs. Dropping it leaves its containers: [`clean_up`] takes them
/// down, whatever has become of the stack.
pub struct Stack {
    engine: Engine,
    containers: Vec<Container>,
    api: Api,
    events: Events,
    version: String,
    about: About,
    death: watch::Receiver<Option<Death>>,
    watcher: tokio::task::JoinHandle<()>,
    publisher: Endpoint,
    web: Endpoint,
    /// Kept for as long as the stack.
    _files: tempfile::TempDir,
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// A container that ended unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Death {
    id: String,
    service: String,
    code: String,
}

/// The names of `count` workers.
#[must_use]
pub fn worker_names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("worker-{number}")).collect()
}

impl Lab {
    /// Gives each device to a worker, the boards of all in turn. Devices whose
    /// names are in one of `groups` come to the same worker (a scenario with
    /// several boards that see each other).
    pub fn spread(&mut self, workers: usize, groups: &[Vec<String>]) {
        let names = worker_names(workers.max(1));
        let mut next = 0;
        let mut of_group: BTreeMap<usize, usize> = BTreeMap::new();
        for device in &mut self.devices {
            let group = groups.iter().position(|group| group.contains(&device.hostname));
            let mut fresh = || {
                next += 1;
                (next - 1) % names.len()
            };
            let worker = match group {
                Some(group) => *of_group.entry(group).or_insert_with(fresh),
                None => fresh(),
            };
            device.worker = names[worker].clone();
        }
    }

    /// The boards of a worker: those whose device is on it.
    fn boards_of(&self, worker: &str) -> Vec<&BoardFile> {
        let here: BTreeSet<&str> = self
            .devices
            .iter()
            .filter(|device| device.worker == worker)
            .map(|device| device.hostname.as_str())
            .collect();
        self.boards.iter().filter(|board| here.contains(board.device())).collect()
    }

    /// Whether LAVA's side and the boards' fit each other, on these workers.
    ///
    /// # Errors
    /// [`Error::Usage`] where the two sides do not fit each other.
    pub fn check(&self, workers: &[String]) -> Result<()> {
        provision::check(&self.devices, workers)?;
        let mut names = BTreeSet::new();
        let mut ports: BTreeMap<(&str, u16), &str> = BTreeMap::new();
        for board in &self.boards {
            let Some(device) = self.devices.iter().find(|device| device.hostname == board.device()) else {
                return Err(Error::Usage(format!(
                    "board {} has no device called {}",
                    board.name,
                    board.device()
                )));
            };
            if !names.insert(&board.name) {
                return Err(Error::Usage(format!("two boards are named {}", board.name)));
            }
            for port in &board.consoles {
                if let Some(other) = ports.insert((&device.worker, *port), &board.name) {
                    return Err(Error::Usage(format!(
                        "boards {other} and {} both have a console at port {port} of {}",
                        board.name, device.worker
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Stack {
    /// Brings a stack up: servers started, the `lab` for their LAVA's series provisioned,
    /// workers online.
    ///
    /// When it fails, what it has started is still there, for its logs to be
    /// looked at; [`clean_up`] removes it, here as after an interrupt.
    ///
    /// # Errors
    /// [`Error::Broken`] when LAVA did not start, with its last words, else [`Error::Infrastructure`].
    pub async fn up(
        engine: &Engine,
        spec: &Spec,
        lab: &impl Fn(Series) -> Result<Lab>,
        events: &EventSender,
    ) -> Result<(Self, Series, Lab)> {
        let workers = worker_names(spec.workers);
        let say = |line: String| {
            let _ = events.send(Event::Progress(Phase::Stack, line));
        };
        let begun = Instant::now();
        let at = |what: &str| say(format!("{what} ({:.1} s)", begun.elapsed().as_secs_f64()));

        let compose = Compose::find().await?;
        let files = sweep::temporary_folder(&spec.run)?;
        let token = Secret::random();
        let project = project(spec, files.path(), &token)?;
        // Watching begins before there is anything to see, so nothing is missed.
        let (death, watcher) = watch_deaths(engine, &spec.run);
        say(format!("starting {} with {} workers", project.name, spec.workers));
        compose.up(engine, &project, spec.workers).await?;
        at("containers started");

        let containers = engine.containers(&format!("{RUN}={}", spec.run)).await?;
        let server = service(&containers, "server", 1)?;
        let web = Endpoint::to(engine, server, HTTP).await?;
        let publisher = Endpoint::to(engine, server, PUBLISHER).await?;
        let api = Api::new(&format!("http://{}", web.address()), ADMIN, token)?;
        let lava_events = Events::listen(format!("ws://{}/ws/", publisher.address()));

        let mut stack = Self {
            engine: engine.clone(),
            containers,
            api,
            events: lava_events,
            version: String::new(),
            about: About::default(),
            death,
            watcher,
            publisher,
            web,
            _files: files,
        };
        let ready = stack.guard(stack.provision(spec, lab, &workers, &at)).await;
        let (version, about, series, lab) = match ready {
            Ok(ready) => ready,
            Err(error) => return Err(stack.did_not_start(error).await),
        };
        (stack.version, stack.about) = (version, about);
        let _ = events.send(Event::Lava(stack.version.clone()));
        at("stack ready");
        Ok((stack, series, lab))
    }

    /// `error`, of a LAVA that did not start, with whose doing it was: the engine's, if it is gone or
    /// has killed a container, or LAVA's own.
    async fn did_not_start(&self, error: Error) -> Error {
        let killed = self.death.borrow().as_ref().is_some_and(|death| death.code == KILLED);
        if killed || self.engine.check_answers().await.is_err() { error } else { error.of_what_is_inside() }
    }

    /// From started containers to workers online; gives LAVA's version, what it runs on, its
    /// series, and the lab that it has.
    async fn provision(
        &self,
        spec: &Spec,
        lab: &impl Fn(Series) -> Result<Lab>,
        workers: &[String],
        at: &impl Fn(&str),
    ) -> Result<(String, About, Series, Lab)> {
        let server = service(&self.containers, "server", 1)?.id.as_str();
        let nodes: Vec<(&str, &Container)> = workers
            .iter()
            .enumerate()
            .map(|(index, name)| Ok((name.as_str(), service(&self.containers, "worker", index + 1)?)))
            .collect::<Result<_>>()?;
        let kind = spec.images.server_kind;
        let configuration = configuration(spec, workers)?;
        let files = provision::write_files(&self.engine, server, &[], &configuration);
        // What is in the lab may depend on the LAVA, and only it knows its version.
        let ready = async {
            let version = self.wait_ready(server, kind.ready, at).await?;
            at("server answers");
            let series = Series::of(&version)?;
            let lab = lab(series)?;
            lab.check(workers)?;
            let boards =
                try_join_all(nodes.iter().map(|(name, node)| self.upload_boards(&lab, name, &node.id)));
            let dictionaries = provision::write_files(&self.engine, server, &lab.devices, &[]);
            tokio::try_join!(boards, dictionaries)?;
            Ok::<_, Error>((version, series, lab))
        };
        // Jobs that begin before it is there would have a gap in what they are judged by.
        let stream = async {
            if let Err(why) = self.events.wait_up(kind.ready).await {
                let said = self.said(server, PUBLISHER_LOG).await;
                return Err(ended_by(why, &said));
            }
            at("event stream is up");
            Ok::<_, Error>(())
        };
        let ((version, series, lab), (), ()) = tokio::try_join!(ready, files, stream)?;
        let tokens = provision::add_workers(&self.api, workers).await?;
        let gates =
            try_join_all(nodes.iter().filter_map(|(name, node)| {
                tokens.get(*name).map(|token| self.open_gate(name, token, &node.id))
            }));
        let devices = async {
            provision::add_devices(&self.api, &lab.devices).await?;
            at("devices added");
            Ok::<_, Error>(())
        };
        let online = async {
            self.wait_online(workers).await?;
            at("workers online");
            Ok::<_, Error>(())
        };
        let about = async { Ok::<_, Error>(self.find_about(server).await) };
        let (_, (), (), about) = tokio::try_join!(gates, devices, online, about)?;
        self.check_devices(&lab.devices).await?;
        let about = About { version: Some(version.clone()), ..about };
        Ok((version, about, series, lab))
    }

    /// What a server's image is made of. That it can't be found out is no reason to fail.
    async fn find_about(&self, server: &str) -> About {
        let output = self.engine.exec(server, &["sh", "-c", ABOUT], None).await;
        let text = output.map(|output| output.stdout).unwrap_or_default();
        about(&String::from_utf8_lossy(&text))
    }

    /// Waits until the server answers, and tells meanwhile what it is doing: some
    /// migrate their database at each start.
    async fn wait_ready(&self, server: &str, deadline: Duration, at: &impl Fn(&str)) -> Result<String> {
        let mut answer = std::pin::pin!(self.api.wait_ready(deadline));
        loop {
            if let Ok(version) = tokio::time::timeout(PATIENCE, &mut answer).await {
                return version;
            }
            let log = self.engine.log_tail(server, 1).await.unwrap_or_default();
            at(&format!("server does not answer yet, its last words: {}", printable(log.trim())));
        }
    }

    async fn upload_boards(&self, lab: &Lab, worker: &str, container: &str) -> Result<()> {
        let boards = lab.boards_of(worker);
        let mut archive = Archive::new();
        let owner = Owner::default();
        let list = boards.iter().map(|board| LabBoard {
            name: board.name.clone(),
            consoles: board.consoles.clone(),
            off_is_the_end: board.off_is_the_end,
            guest: board.guest.clone(),
        });
        let text = format!(
            "{:#}\n",
            json!(daemon::Lab { boards: list.collect(), pace: lab.pace, late_power_ms: lab.late_power_ms })
        );
        archive.folder("boards", 0o755, owner)?;
        archive.file("lab.json", 0o644, owner, text.as_bytes())?;
        for board in boards {
            archive.file(&format!("boards/{}.yaml", board.name), 0o644, owner, board.text.as_bytes())?;
        }
        self.engine.upload(container, "/var/lib/ghost", archive.finish()?).await
    }

    /// Tells a worker who it is and lets it go.
    async fn open_gate(&self, worker: &str, token: &Secret, container: &str) -> Result<()> {
        let mut archive = Archive::new();
        let identity = format!("WORKER_NAME={worker}\nTOKEN={}\n", token.reveal());
        archive.file("run/meta-lava/worker.env", 0o600, Owner::default(), identity.as_bytes())?;
        self.engine.upload(container, "/", archive.finish()?).await?;
        let begun = Instant::now();
        // The container may not have come to its gate yet, and its ghosts listen
        // a moment after. Both are files in it, which nothing announces.
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let output = self.engine.exec(container, &["sh", "-c", GATE], None).await?;
            if output.code == 0 {
                return Ok(());
            }
            if begun.elapsed() > WORKERS {
                output.success(&format!("opening the gate of {worker}"))?;
            }
        }
    }

    async fn wait_online(&self, workers: &[String]) -> Result<()> {
        let deadline = tokio::time::Instant::now() + WORKERS;
        let mut listener = self.events.subscribe();
        let mut online: BTreeSet<String> = BTreeSet::new();
        // Events tell at once; asking now and then is for the ones that were
        // sent before the stream was up.
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            let event = tokio::select! {
                event = listener.next() => Some(event),
                _ = ticks.tick() => None,
                () = tokio::time::sleep_until(deadline) => return Err(self.offline(workers).await),
            };
            match event {
                Some(LavaEvent::Told(told)) => {
                    if let Subject::Worker(event) = &told.subject
                        && event.state == WorkerState::Online
                    {
                        online.insert(event.worker.clone());
                    }
                }
                None | Some(LavaEvent::Gap(_)) => {
                    // An answer that is lost must not keep the events waiting.
                    let Ok(found) = tokio::time::timeout(PROBE, self.api.workers()).await else { continue };
                    let found = found?;
                    online.extend(
                        found
                            .into_iter()
                            .filter(|worker| worker.state == WorkerState::Online)
                            .map(|worker| worker.hostname),
                    );
                }
            }
            if workers.iter().all(|worker| online.contains(worker)) {
                return Ok(());
            }
        }
    }

    async fn offline(&self, workers: &[String]) -> Error {
        let known = self.api.workers().await.unwrap_or_default();
        let mut text = format!("after {} s not all workers are online:", WORKERS.as_secs());
        let mut words = Vec::new();
        for (index, name) in workers.iter().enumerate() {
            let found = known.iter().find(|worker| &worker.hostname == name);
            let state = found.map_or("not known to LAVA", |worker| worker.state.word());
            text.push_str(&format!(" {name} {state}"));
            match found.and_then(|worker| worker.version.as_deref()) {
                Some(version) if version != self.version && !self.version.is_empty() => {
                    text.push_str(&format!(" (version {version}, the server has {})", self.version));
                }
                _ => {}
            }
            if found.is_none_or(|worker| worker.state != WorkerState::Online)
                && let Ok(container) = service(&self.containers, "worker", index + 1)
            {
                words.push(self.said(&container.id, WORKER_LOG).await);
            }
        }
        ended_by(text, &words.join("\n"))
    }

    /// The last words in a daemon's log file; a container's own log only has what ended it.
    async fn said(&self, container: &str, file: &str) -> String {
        let said = self.engine.exec(container, &["tail", "-n", "10", file], None).await;
        let log = said.map(|output| output.stdout).unwrap_or_default();
        tail(&String::from_utf8_lossy(&log), 10)
    }

    /// The lines of a daemon's log file that have `text`, found by grep with these options.
    async fn said_of(&self, container: &str, options: &[&str], text: &str, file: &str) -> Result<String> {
        let command = [&["grep", "-F", "-h"][..], options, &["--", text, file]].concat();
        let found = self.engine.exec(container, &command, None).await?;
        Ok(String::from_utf8_lossy(&found.stdout).into_owned())
    }

    /// All devices are as they were meant to be: idle and good.
    async fn check_devices(&self, specs: &[DeviceSpec]) -> Result<()> {
        let found = self.api.devices().await?;
        let wrong: Vec<String> = specs
            .iter()
            .filter_map(|spec| match found.iter().find(|device| device.hostname == spec.hostname) {
                None => Some(format!("{} is missing", spec.hostname)),
                Some(device) if device.health != DeviceHealth::Good || device.state != DeviceState::Idle => {
                    Some(format!("{} is {} and {}", spec.hostname, device.state, device.health))
                }
                Some(_) => None,
            })
            .collect();
        match wrong.first() {
            None => Ok(()),
            Some(first) => Err(Error::infrastructure(format!(
                "{} of {} devices are not ready in LAVA; {first}",
                wrong.len(),
                specs.len()
            ))),
        }
    }

    /// Does something that is of no use once a container has died.
    ///
    /// # Errors
    /// Its own, or [`Error::Infrastructure`] with the last words of the dead.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            error = self.death() => Err(error),
            done = work => match done {
                // What failed may have failed because of a death that is only
                // about to be told.
                Err(error @ Error::Infrastructure(_)) => {
                    match tokio::time::timeout(DEATH_NOTICE, self.death()).await {
                        Ok(death) => Err(death),
                        Err(_) => Err(error),
                    }
                }
                done => done,
            }
        }
    }

    /// Waits until a container ends unasked; tells which and its last words.
    pub async fn death(&self) -> Error {
        let mut death = self.death.clone();
        let found = death.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        let Some(Death { id, service, code }) = found else {
            return std::future::pending().await;
        };
        let log = self.engine.log_tail(&id, 30).await.unwrap_or_default();
        let why = if code == KILLED { " (it was killed; was memory short?)" } else { "" };
        ended_by(format!("the {service} container ended with code {code}{why}"), &tail(&log, 30))
    }

    /// Why LAVA will never give a job to `device`, in its scheduler's words, and the nearest names where
    /// it has no template of the device's type.
    pub async fn why_unfit(&self, device: &str, device_type: &str) -> String {
        let Ok(server) = self.server_container() else { return String::new() };
        let said = self.said_of(server, &["-w"], device, SCHEDULER_LOG).await;
        let said = said.map_or_else(|error| vec![error.brief()], |log| scheduler_words(&log));
        let known = templates::in_container(&self.engine, server).await.unwrap_or_default();
        let missing = if known.is_empty() { None } else { templates::missing(device_type, &known) };
        said.into_iter().chain(missing).collect::<Vec<_>>().join("; ")
    }

    /// What lava-worker's log says of a job, a line each: of one that has no log of its own
    /// nothing else tells what became of it.
    pub async fn worker_words(&self, worker: &str, job: &str) -> Vec<String> {
        let Ok(container) = self.worker_container(worker) else { return Vec::new() };
        let said = self.said_of(container, &[], &format!("[{job}] "), WORKER_LOG).await;
        said.map_or_else(|error| vec![error.brief()], |log| worker_words(&log, job))
    }

    /// LAVA's REST API, as administrator.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// LAVA's event stream.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// LAVA's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What its server is made of.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The engine it runs on.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its containers.
    #[must_use]
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// Address of LAVA's web pages.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.web.address())
    }

    /// Address of LAVA's event stream.
    #[must_use]
    pub fn events_url(&self) -> String {
        format!("ws://{}/ws/", self.publisher.address())
    }

    /// Id of the server's container.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when there is none.
    pub fn server_container(&self) -> Result<&str> {
        service(&self.containers, "server", 1).map(|container| container.id.as_str())
    }

    /// Id of the container of a worker (`worker-1`).
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such worker.
    pub fn worker_container(&self, worker: &str) -> Result<&str> {
        let number = worker.strip_prefix("worker-").and_then(|number| number.parse().ok()).unwrap_or(0);
        service(&self.containers, "worker", number)
            .map(|container| container.id.as_str())
            .map_err(|_| Error::Usage(format!("there is no worker {worker:?}")))
    }

    /// Address of a worker in the stack's network.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such worker.
    pub fn worker_address(&self, worker: &str) -> Result<&str> {
        let id = self.worker_container(worker)?;
        let found = self.containers.iter().find(|container| container.id == id);
        Ok(found.map_or("", |container| container.address.as_str()))
    }

    /// What jobs ran of LAVA's dispatcher on a worker that measures it.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it does not tell.
    pub async fn measured(&self, worker: &str) -> Result<Vec<Measured>> {
        let command = ["python3", "/usr/lib/meta-lava/coverage/tell.py"];
        let told = self.engine.exec(self.worker_container(worker)?, &command, None).await?;
        let what = "asking the worker which lines of LAVA its jobs ran";
        serde_json::from_slice(&told.success(what)?.stdout).map_err(|error| Error::failed(what, error))
    }

    /// What the outside world serves.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when its manifest can't be had.
    pub async fn artifacts(&self) -> Result<Artifacts> {
        const MANIFEST: &str = "/srv/artifacts/manifest.json";
        let world = &service(&self.containers, "world", 1)?.id;
        let files = self.engine.download(world, MANIFEST, LOGS).await?.unwrap_or_default();
        let manifest = files
            .first()
            .ok_or_else(|| Error::infrastructure(format!("the world's image has no {MANIFEST}")))?;
        meta_lava_world::manifest::Manifest::parse(&manifest.content)
            .map(|manifest| Artifacts::from_manifest(&manifest))
            .map_err(|error| Error::infrastructure(format!("{MANIFEST} of the world's image: {error}")))
    }
}

/// What lava-scheduler's log says in errors, and of devices that changed their health; each once.
fn scheduler_words(log: &str) -> Vec<String> {
    const MOST: usize = 3;
    let mut words: Vec<String> = Vec::new();
    for line in log.lines() {
        // `2026-11-26 00:01:02,345   ERROR message`
        let mut parts = line.split_ascii_whitespace().skip(2);
        let level = parts.next().unwrap_or_default();
        let message = printable(&parts.collect::<Vec<_>>().join(" "));
        if (matches!(level, "ERROR" | "CRITICAL") || message.contains('→')) && !words.contains(&message) {
            words.push(message);
        }
    }
    words.split_off(words.len().saturating_sub(MOST))
}

/// What lava-worker's log says of a job, with the time of day; the first lines, which tell how
/// it began, and the last.
fn worker_words(log: &str, job: &str) -> Vec<String> {
    const MOST: usize = 10;
    let mark = format!("[{job}] ");
    let mut words: Vec<String> = log
        .lines()
        // `2026-11-26 00:01:02,345    INFO [7] message`
        .filter_map(|line| {
            let time = line.split_ascii_whitespace().nth(1)?;
            Some(printable(&format!("{time} {}", line.split_once(&mark)?.1)))
        })
        .collect();
    if words.len() > MOST {
        words.drain(MOST / 2..words.len() - MOST / 2);
    }
    words
}

/// Removes all that a run has made, also what a failed or interrupted
/// [`Stack::up`] left; gives what is left all the same.
///
/// # Errors
/// [`Error::Infrastructure`] when something could not be removed.
pub async fn clean_up(engine: &Engine, root: &Path, run: &str) -> Result<Vec<Object>> {
    let containers = engine.containers(&format!("{RUN}={run}")).await?;
    if !sweep::leftovers(engine, run).await?.is_empty() {
        let project =
            Project { name: sweep::project(run), files: vec![compose_file(root)], environment: Vec::new() };
        let compose = Compose::find().await?;
        return take_down(engine, &compose, &project, run, &containers).await;
    }
    Ok(Vec::new())
}

/// Writes the logs of a run's containers, whatever became of its [`Stack`].
///
/// # Errors
/// [`Error::Infrastructure`] with all that failed.
pub async fn logs_of(engine: &Engine, run: &str, folder: &Path) -> Result<()> {
    let containers = engine.containers(&format!("{RUN}={run}")).await?;
    collect_logs(engine, &containers, folder).await
}

async fn take_down(
    engine: &Engine,
    compose: &Compose,
    project: &Project,
    run: &str,
    containers: &[Container],
) -> Result<Vec<Object>> {
    let down = compose.down(engine, project).await;
    // What the tool did not manage, we remove ourselves; its failure only
    // matters if we do not manage either.
    let swept = sweep::sweep_run(engine, run).await;
    let mut left = sweep::leftovers(engine, run).await?;
    // Nameless volumes carry no labels: they are known by the containers.
    let volumes: Vec<Object> = containers
        .iter()
        .flat_map(|container| &container.volumes)
        .map(|name| Object {
            kind: crate::stack::docker::objects::Kind::Volume,
            id: name.clone(),
            name: name.clone(),
            labels: std::collections::HashMap::new(),
        })
        .collect();
    let known: BTreeSet<String> = engine.volume_names().await?.into_iter().collect();
    for volume in volumes {
        if known.contains(&volume.id) && engine.remove(&volume).await.is_err() {
            left.push(volume);
        }
    }
    if !left.is_empty() {
        down?;
        swept?;
    }
    Ok(left)
}

/// The topology below `root`.
#[must_use]
pub fn compose_file(root: &Path) -> PathBuf {
    root.join("compose").join("compose.yaml")
}

/// The files of a run that a server does not bring along, and what it knows of each worker (LAVA's
/// `lava_server/files.py`): path below `/etc/lava-server` and content.
fn configuration(spec: &Spec, workers: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    // Who logs in may have jobs with larger files.
    let limited = if spec.password.is_none() { workers } else { &[] };
    let of_workers =
        limited.iter().map(|worker| (format!("dispatcher.d/{worker}/dispatcher.yaml"), DISPATCHER));
    let kind = spec.images.server_kind;
    let of_server = kind.configuration.iter().map(|(path, file)| ((*path).to_owned(), *file));
    let read = |(path, file): (String, &str)| {
        let from = spec.root.join("compose").join(file);
        std::fs::read(&from)
            .map(|bytes| (path, bytes))
            .map_err(|error| Error::Usage(format!("could not read {}: {error}", from.display())))
    };
    of_server.chain(of_workers).map(read).collect()
}

fn project(spec: &Spec, files: &Path, token: &Secret) -> Result<Project> {
    let file = write_labelled(&spec.root, &sweep::labels(&spec.run, spec.purpose), files)?;
    let kind = spec.images.server_kind;
    let password = match &spec.password {
        None if kind.needs_password => Some(Secret::random()),
        given => given.clone(),
    };
    let mut environment: Vec<(String, String)> = [
        ("META_LAVA_RUN", spec.run.as_str()),
        ("META_LAVA_SERVER_IMAGE", &spec.images.server),
        ("META_LAVA_WORKER_IMAGE", &spec.images.worker),
        ("META_LAVA_WORLD_IMAGE", &spec.images.world),
        ("META_LAVA_ADMIN_USERNAME", ADMIN),
        ("META_LAVA_ADMIN_TOKEN", token.reveal()),
        // What a person's shell may have set for a stack by hand.
        ("META_LAVA_WORKER_NAME", ""),
        ("META_LAVA_WORKER_TOKEN", ""),
        // Nobody looks at Docker's idea of health, and to find it out costs a process each time.
        ("META_LAVA_HEALTH_INTERVAL", "1h"),
        ("META_LAVA_ADMIN_PASSWORD", password.as_ref().map_or("", Secret::reveal)),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    environment.sort();
    let overlay = kind.overlay.map(|overlay| spec.root.join("compose").join(overlay));
    let files = [file].into_iter().chain(overlay).collect();
    Ok(Project { name: sweep::project(&spec.run), files, environment })
}

fn service<'a>(containers: &'a [Container], name: &str, number: usize) -> Result<&'a Container> {
    containers
        .iter()
        .find(|container| container.service == name && container.number == number)
        .ok_or_else(|| Error::infrastructure(format!("the stack has no container {name} {number}")))
}

/// What was found, with the last lines of the log that tells why.
fn ended_by(found: impl std::fmt::Display, log: &str) -> Error {
    if log.trim().is_empty() {
        Error::infrastructure(format!("{found}; its log is empty"))
    } else {
        Error::infrastructure(found).with_last_words(log)
    }
}

/// Watches for containers of a run that end.
fn watch_deaths(engine: &Engine, run: &str) -> (watch::Receiver<Option<Death>>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = watch::channel(None);
    let label = format!("{RUN}={run}");
    let engine = engine.clone();
    let mut events = engine.container_events(&label);
    let task = tokio::spawn(async move {
        loop {
            match events.next().await {
                Some(Ok(event)) if event.action.as_deref() == Some("die") => {
                    let actor = event.actor.unwrap_or_default();
                    let attributes = actor.attributes.unwrap_or_default();
                    let get = |key: &str| attributes.get(key).cloned().unwrap_or_default();
                    sender.send_if_modified(|death| {
                        death.is_none() && {
                            *death = Some(Death {
                                id: actor.id.unwrap_or_default(),
                                service: get("com.docker.compose.service"),
                                code: get("exitCode"),
                            });
                            true
                        }
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::debug!(%error, "the engine's events"),
                None => {
                    // The engine was restarted, or closed the stream: look what
                    // happened meanwhile, and listen on.
                    events = engine.container_events(&label);
                    if let Ok(containers) = engine.containers(&label).await
                        && let Some(dead) = containers
                            .into_iter()
                            .find(|container| !container.running && container.status.starts_with("Exited"))
                    {
                        sender.send_replace(Some(Death {
                            id: dead.id,
                            service: dead.service,
                            code: dead.status,
                        }));
                    }
                    // A pause between attempts, not a wait for a condition.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    });
    (receiver, task)
}

async fn collect_logs(engine: &Engine, containers: &[Container], folder: &Path) -> Result<()> {
    let outcomes = join_all(containers.iter().map(|container| async move {
        let name = format!("{}-{}", container.service, container.number);
        let (printed, kept) = tokio::join!(
            engine.log(&container.id).boxed(),
            engine.download(&container.id, "/var/log", LOGS).boxed()
        );
        let write = |path: PathBuf, bytes: &[u8]| {
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent)
                .and_then(|()| std::fs::write(&path, bytes))
                .map_err(|error| Error::failed(format!("write {}", path.display()), error))
        };
        let printed = printed.and_then(|text| write(folder.join(format!("{name}.log")), text.as_bytes()));
        let kept = kept.and_then(|files| {
            for file in files.unwrap_or_default() {
                // What packages left there while the image was made is no log of the run.
                if !file.content.is_empty() && !is_of_the_image(&file.path) {
                    write(folder.join(&name).join(&file.path), &file.content)?;
                }
            }
            Ok(())
        });
        crate::stack::docker::objects::all([printed, kept])
    }))
    .await;
    crate::stack::docker::objects::all(outcomes)
}

/// Logs that package managers write.
fn is_of_the_image(path: &str) -> bool {
    path.starts_with("apt/")
        || ["dpkg.log", "alternatives.log", "bootstrap.log", "faillog", "lastlog", "wtmp", "btmp"]
            .contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_schedulers_log_errors_and_changes_of_health_are_told_once() {
        let log = "2026-11-26 00:01:02,345   DEBUG  -> x-01 (Idle, Good)\n\
                   2026-11-26 00:01:02,346   ERROR Error validating device configuration for x-01: Empty\n\
                   2026-11-26 00:01:02,347   DEBUG Good → Bad (Invalid device configuration for x-01)\n\
                   2026-11-26 00:01:03,346   ERROR Error validating device configuration for x-01: Empty\n\nx\n";
        assert_eq!(
            scheduler_words(log),
            [
                "Error validating device configuration for x-01: Empty",
                "Good → Bad (Invalid device configuration for x-01)",
            ]
        );
    }

    fn lab(count: usize) -> Lab {
        let name = |number: usize| format!("b-{number}");
        Lab {
            pace: None,
            late_power_ms: 0,
            devices: (0..count)
                .map(|number| DeviceSpec {
                    hostname: name(number),
                    device_type: "t".into(),
                    worker: String::new(),
                    tags: Vec::new(),
                    dictionary: String::new(),
                })
                .collect(),
            boards: (0..count)
                .map(|number| BoardFile {
                    name: name(number),
                    text: String::new(),
                    consoles: vec![20000 + u16::try_from(number).unwrap()],
                    off_is_the_end: true,
                    guest: None,
                })
                .collect(),
        }
    }

    #[test]
    fn of_a_lost_job_the_worker_tells_how_it_began_and_how_it_ended() {
        let log = "2026-11-26 00:00:01,001    INFO [7] server => START\n\
                   2026-11-26 00:00:01,050    INFO [7] Starting job\n\
                   2026-11-26 00:00:01,090    INFO [7] running -> finished\n";
        let told =
            ["00:00:01,001 server => START", "00:00:01,050 Starting job", "00:00:01,090 running -> finished"];
        assert_eq!(worker_words(log, "7"), told);
        let many: String =
            (0..20).map(|number| format!("2026-11-26 00:00:{number:02},000    INFO [7] line\n")).collect();
        let words = worker_words(&many, "7");
        assert_eq!(
            (words.len(), words[4].as_str(), words[5].as_str()),
            (10, "00:00:04,000 line", "00:00:15,000 line")
        );
    }

    #[test]
    fn what_a_server_is_made_of_is_read_as_far_as_it_is_told() {
        let found = about("distribution Debian GNU/Linux 12 (bookworm)\npython 3.11.2\nx\n");
        assert_eq!(found.distribution.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(found.python.as_deref(), Some("3.11.2"));
        assert_eq!(found.django, None);
    }

    #[test]
    fn boards_are_spread_and_groups_stay_together() {
        let mut lab = lab(5);
        lab.spread(2, &[vec!["b-1".into(), "b-2".into()]]);
        let workers: Vec<_> = lab.devices.iter().map(|device| device.worker.as_str()).collect();
        assert_eq!(workers, ["worker-1", "worker-2", "worker-2", "worker-1", "worker-2"]);
        let boards: Vec<_> = lab.boards_of("worker-1").iter().map(|board| board.name.as_str()).collect();
        assert_eq!(boards, ["b-0", "b-3"]);
        assert!(lab.check(&worker_names(2)).is_ok());
    }

    #[test]
    fn a_lab_that_does_not_fit_is_refused() {
        let mut same_port = lab(2);
        same_port.spread(1, &[]);
        same_port.boards[1].consoles = vec![20000];
        assert!(same_port.check(&worker_names(1)).unwrap_err().to_string().contains("port 20000"));
        // On two workers the same port is two ports.
        same_port.spread(2, &[]);
        assert!(same_port.check(&worker_names(2)).is_ok());
        let mut lonely = lab(1);
        lonely.spread(1, &[]);
        lonely.boards[0].name = "c".into();
        assert!(lonely.check(&worker_names(1)).unwrap_err().to_string().contains("no device"));
        assert!(lab(1).check(&worker_names(1)).is_err());
    }

    fn spec(root: &Path) -> Spec {
        let images = Images {
            server: "s".into(),
            server_kind: &crate::stack::server_kind::own::KIND,
            worker: "w".into(),
            world: "o".into(),
        };
        Spec { run: "r".into(), purpose: Purpose::Run, root: root.into(), images, workers: 1, password: None }
    }

    #[test]
    fn workers_are_limited_but_those_of_somebody_who_logs_in() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("compose")).unwrap();
        let mut spec = spec(root.path());
        let workers = ["worker-1".to_owned()];
        assert!(configuration(&spec, &workers).unwrap_err().to_string().contains("dispatcher.yaml"));
        std::fs::write(root.path().join("compose/dispatcher.yaml"), "a: 1\n").unwrap();
        let expected = ("dispatcher.d/worker-1/dispatcher.yaml".to_owned(), b"a: 1\n".to_vec());
        assert_eq!(configuration(&spec, &workers).unwrap(), [expected]);
        spec.password = Some(Secret::random());
        assert!(configuration(&spec, &workers).unwrap().is_empty());
    }

    #[test]
    fn secrets_go_by_environment_and_labels_by_file() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("compose")).unwrap();
        std::fs::write(compose_file(root.path()), "services: {server: {image: x}}\n").unwrap();
        let mut spec = spec(root.path());
        let token = Secret::random();
        let project = project(&spec, root.path(), &token).unwrap();
        assert_eq!(project.name, "meta-lava-r");
        let topology = std::fs::read_to_string(root.path().join("compose.yaml")).unwrap();
        assert!(topology.contains(sweep::OWNER) && !topology.contains(token.reveal()));
        let has = |project: &Project, name: &str, value: &str| {
            project.environment.contains(&(name.to_owned(), value.to_owned()))
        };
        assert!(has(&project, "META_LAVA_ADMIN_TOKEN", token.reveal()));
        assert!(has(&project, "META_LAVA_ADMIN_PASSWORD", ""));
        assert_eq!(project.files.len(), 1);
        // Another kind of server has its own file laid over it, and a password.
        spec.images.server_kind = &crate::stack::server_kind::upstream::KIND;
        let project = super::project(&spec, root.path(), &token).unwrap();
        assert!(!has(&project, "META_LAVA_ADMIN_PASSWORD", ""));
        assert!(project.files[1].ends_with("compose/upstream.yaml"), "{:?}", project.files);
    }
}
