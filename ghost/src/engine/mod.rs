//! A container engine: what the tool `docker` on a worker talks to, as Docker's own talks to `dockerd`.
//!
//! Containers are sandboxes ([`crate::linux::sandbox`]) with the root file system of an image of the world's in them. Each
//! board has an engine of its own, with images and containers of its own: on a worker where jobs share one, what a `docker
//! pull` says would depend on which job came first.
//!
//! The steps are those of Docker's API: create, attach, start, wait, remove. What goes wrong is told in the words of
//! `dockerd` and `runc` (tried with Docker 20.10.24 of Debian 12), with the exit code that `docker run` has for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::libc;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::board::PortPower;
use crate::console::{self, Console, Socket};
use crate::fault::Faults;
use crate::ledger::{Event, Ledger, Stage};
use crate::linux::sandbox::{self, Container as Contents, End, Mount, NotRun, Program, Told, Userland};
use crate::net::{FetchError, http};
use crate::patience::SLOW_START;

pub mod image;

use image::{Image, Reference};

/// Where the world has images.
const REGISTRY: &str = "http://world";

/// Where programs that are the ghost under another name are in an image that has them: the worker's own is mounted there.
const GHOST: &str = "usr/bin/ghost";

/// The file that tells a tool of the ghosts' that it is in a container of theirs, and of which board. It is not Docker's own, which a worker has, too:
/// that is a container itself.
pub const MARK: &str = "/run/ghost/contained";

/// What can be asked of an engine. What it answers beside [`Failed`] is said with each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// An image is fetched ([`Pulled`]).
    Pull { image: String },
    /// What an image or a container is called, and is ([`Object`]).
    Inspect { name: String, of: Of },
    /// A container is made ([`Id`]).
    Create(Box<Create>),
    /// A container is started; answered when it runs ([`Begun`]).
    Start { id: String },
    /// A program is about to enter a container ([`Begun`]).
    Enter { name: String },
    /// The end of a container is waited for (its exit code).
    Wait { id: String },
    /// The program that was a container's has ended, outside of the engine.
    Ended { id: String, code: u8 },
    /// A container is stopped.
    Stop { name: String },
    /// A container is removed.
    Remove { name: String, force: bool },
    /// A network is made, or removed (whether that changed anything). Containers are in none, whatever there is.
    Network { name: String, make: bool },
}

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    Image,
    Container,
    /// A container, or an image if there is none.
    Any,
}

/// What a container is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    pub image: String,
    /// The command, instead of the image's.
    pub command: Vec<String>,
    pub name: Option<String>,
    pub hostname: Option<String>,
    /// `NAME=VALUE` each.
    pub environment: Vec<String>,
    pub folder: Option<String>,
    pub user: Option<String>,
    pub entrypoint: Option<String>,
    pub mounts: Vec<Volume>,
    pub devices: Vec<String>,
    /// The container whose network it shares, where it shares one's.
    pub network_of: Option<String>,
    /// Files that only root may read, by their paths, beside those of the image.
    pub secrets: BTreeMap<String, String>,
    /// Whether it is removed when it ends.
    pub remove: bool,
    /// Whether its first process is an init.
    pub init: bool,
    pub terminal: bool,
    /// Whether who makes it stays with it: has its terminal or, where it has none, starts the program itself.
    pub attached: bool,
    /// Whether it is made from a file: no call names what it is made of, so that is noted.
    pub from_file: bool,
}

impl Create {
    /// The arguments of the `docker create` that it amounts to.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let mut args = vec!["create".to_owned()];
        let mut add = |option: &str, value: &str| args.extend([format!("--{option}"), value.to_owned()]);
        let options = [
            ("name", &self.name),
            ("hostname", &self.hostname),
            ("user", &self.user),
            ("workdir", &self.folder),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                add(option, value);
            }
        }
        for variable in &self.environment {
            add("env", variable);
        }
        for Volume { source, target, read_only, .. } in &self.mounts {
            add("volume", &format!("{source}:{target}{}", if *read_only { ":ro" } else { "" }));
        }
        args.push(self.image.clone());
        args.extend(self.command.iter().cloned());
        args
    }
}

/// What is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub source: String,
    pub target: String,
    pub read_only: bool,
    /// Whether the source is made where there is none (`--volume`), or missed (`--mount`).
    pub make: bool,
}

/// What came of a [`Ask::Pull`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    pub name: String,
    pub digest: String,
    /// The layer that was fetched; none where it was there already.
    pub layer: Option<String>,
}

/// An image or a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What can be asked of it, by the name that Docker has for it.
    pub properties: BTreeMap<String, String>,
}

/// The id of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    pub id: String,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its first process.
    pub pid: i32,
    /// What it was made to run, in which environment; another program in it has the latter, too.
    pub program: Program,
}

/// What an engine could not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{says}")]
pub struct Failed {
    pub says: String,
    /// The exit code of a `docker run` that it ends.
    pub code: u8,
    /// Whether `docker run` adds where its help is.
    pub hint: bool,
}

impl Failed {
    fn new(says: impl Into<String>) -> Self {
        Self { says: says.into(), code: 125, hint: true }
    }

    /// A program can't be run.
    #[must_use]
    pub fn not_run(not_run: &NotRun) -> Self {
        Self::at_start(
            format!(
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
                 process: {}: unknown",
                not_run.why
            ),
            if not_run.is_there { 126 } else { 127 },
        )
    }

    /// What is wrong was found when it was started.
    fn at_start(says: impl Into<String>, code: u8) -> Self {
        Self { says: says.into(), code, hint: false }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Created,
    /// It has a first process, and is not ready yet.
    Begun(i32),
    Running(i32),
    Ended(u8),
    Failed(Failed),
}

struct Container {
    id: String,
    name: String,
    image: Arc<Image>,
    contents: Contents,
    secrets: BTreeMap<String, String>,
    hostname: String,
    program: Program,
    remove: bool,
    /// Whether somebody has its terminal before it starts.
    has_reader: bool,
    state: watch::Sender<State>,
    /// The outer end of its terminal, and what has the inner one until it is started.
    socket: Socket,
    console: Mutex<Option<Console>>,
    /// Dropped to end it.
    alive: Mutex<Option<oneshot::Sender<()>>>,
    /// The code that it ends with, where somebody has said so.
    code: Mutex<Option<u8>>,
}

#[derive(Default)]
struct Store {
    /// By their names in full.
    images: BTreeMap<String, Arc<Image>>,
    containers: BTreeMap<String, Arc<Container>>,
    networks: BTreeSet<String>,
    made: u64,
    /// The exit codes of those that are removed.
    gone: BTreeMap<String, u8>,
}

/// The engine of one board.
#[derive(Clone)]
pub struct Engine {
    /// The name of the board.
    of: String,
    ledger: Ledger,
    /// What takes what containers print, for the judge: the board's own console.
    transcript: PathBuf,
    registry: String,
    /// The control socket of the daemon, for tools in containers.
    socket: PathBuf,
    store: Arc<Mutex<Store>>,
    /// How many containers were made; whoever waits for one is told.
    made: Arc<watch::Sender<u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Engine {
    /// That of the board `of`, whose calls `ledger` notes.
    #[must_use]
    pub fn new(of: &str, ledger: Ledger, transcript: PathBuf, socket: PathBuf) -> Self {
        Self {
            of: of.to_owned(),
            ledger,
            transcript,
            registry: REGISTRY.into(),
            socket,
            store: Arc::default(),
            made: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Ends all containers, and forgets them and all images.
    pub async fn renew(&self) {
        let containers: Vec<_> = lock(&self.store).containers.values().cloned().collect();
        for container in containers {
            self.end(&container, None).await;
        }
        *lock(&self.store) = Store::default();
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// In Docker's words.
    pub async fn answer(&self, ask: Ask) -> Result<serde_json::Value, Failed> {
        let json = |value: Result<serde_json::Value, _>| {
            value.map_err(|error: serde_json::Error| Failed::new(error.to_string()))
        };
        match ask {
            Ask::Pull { image } => json(serde_json::to_value(self.pull(&image).await?)),
            Ask::Inspect { name, of } => json(serde_json::to_value(self.inspect(&name, of)?)),
            Ask::Create(create) => json(serde_json::to_value(self.create(*create).await?)),
            Ask::Start { id } => json(serde_json::to_value(self.start(&id).await?)),
            Ask::Enter { name } => json(serde_json::to_value(self.running(&name)?)),
            Ask::Wait { id } => json(serde_json::to_value(self.wait(&id).await?)),
            Ask::Ended { id, code } => {
                let container = self.find(&id)?;
                self.end(&container, Some(code)).await;
                Ok(serde_json::Value::Null)
            }
            Ask::Stop { name } => {
                let container = self.find(&name)?;
                self.end(&container, None).await;
                Ok(serde_json::Value::Null)
            }
            Ask::Remove { name, force } => {
                self.remove(&name, force).await?;
                Ok(serde_json::Value::Null)
            }
            Ask::Network { name, make } => {
                let networks = &mut lock(&self.store).networks;
                Ok((if make { networks.insert(name) } else { networks.remove(&name) }).into())
            }
        }
    }

    /// Waits for what a call of `docker` is about, where another call is just making it: LAVA starts a container in a terminal, and
    /// asks at once whether it is there, again and again with growing pauses (`wait` in `lava_dispatcher/utils/docker.py`). How
    /// often it has to ask would be left to chance.
    pub async fn expect(&self, args: &[String]) {
        let is = |word: &str| args.iter().any(|arg| arg == word);
        let (Some(name), true) = (args.last(), is("inspect") && !is("image")) else { return };
        let mut made = self.made.subscribe();
        let is_there = |_: &u64| self.inspect(name, Of::Any).is_ok();
        let _ = tokio::time::timeout(SLOW_START, made.wait_for(is_there)).await;
    }

    /// The outer end of a container's terminal.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn terminal(&self, id: &str) -> Result<Socket, Failed> {
        Ok(self.find(id)?.socket.clone())
    }

    async fn pull(&self, name: &str) -> Result<Pulled, Failed> {
        let reference = Reference::parse(name).map_err(|error| Failed::new(error.to_string()))?;
        let url = format!("{}/{}", self.registry, reference.file());
        let bytes = http::get(&url).await.map_err(|error| match error {
            FetchError::NotFound(_) => Failed::new(reference.unknown()),
            FetchError::Refused(says) => Failed::new(match says.strip_prefix("HTTP status ") {
                Some(status) => format!("received unexpected HTTP status: {status}"),
                None => format!("Get \"https://{}/v2/\": {says}", reference.host),
            }),
            error => Failed::new(format!("Get \"https://{}/v2/\": {error}", reference.host)),
        })?;
        let read = tokio::task::spawn_blocking(move || Image::read(&bytes)).await;
        let image = match read {
            Ok(Ok(image)) => image,
            Ok(Err(why)) => return Err(Failed::new(format!("the world's {url} is no image: {why}"))),
            Err(error) => return Err(Failed::new(error.to_string())),
        };
        let mut store = lock(&self.store);
        let known =
            store.images.get(&reference.to_string()).is_some_and(|known| known.digest == image.digest);
        let pulled = Pulled {
            name: reference.to_string(),
            digest: image.digest.clone(),
            layer: (!known).then(|| image.layer.clone()),
        };
        store.images.insert(reference.to_string(), Arc::new(image));
        Ok(pulled)
    }

    fn inspect(&self, name: &str, of: Of) -> Result<Object, Failed> {
        let (what, container, image) = match of {
            Of::Image => ("image", false, true),
            Of::Container => ("container", true, false),
            Of::Any => ("object", true, true),
        };
        let store = lock(&self.store);
        let properties: Option<Vec<(&str, String)>> = match find(&store, name).filter(|_| container) {
            Some(found) => {
                let (running, code) = match &*found.state.borrow() {
                    State::Begun(_) | State::Running(_) => (true, 0),
                    State::Ended(code) => (false, *code),
                    State::Failed(failed) => (false, failed.code),
                    State::Created => (false, 0),
                };
                Some(vec![
                    ("Id", found.id.clone()),
                    ("Name", format!("/{}", found.name)),
                    ("Image", format!("sha256:{}", found.image.id)),
                    ("State.Running", running.to_string()),
                    ("State.ExitCode", code.to_string()),
                ])
            }
            None => Reference::parse(name).ok().filter(|_| image).and_then(|reference| {
                let found = store.images.get(&reference.to_string())?;
                Some(vec![
                    ("Id", format!("sha256:{}", found.id)),
                    ("Architecture", found.architecture.clone()),
                    ("Os", "linux".to_owned()),
                ])
            }),
        };
        let properties = properties.ok_or_else(|| Failed::new(format!("No such {what}: {name}")))?;
        Ok(Object {
            properties: properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        })
    }

    async fn create(&self, create: Create) -> Result<Id, Failed> {
        let reference = Reference::parse(&create.image).map_err(|error| Failed::new(error.to_string()))?;
        let image = lock(&self.store).images.get(&reference.to_string()).cloned();
        let image = image.ok_or_else(|| Failed::new(format!("No such image: {reference}")))?;
        let settings = &image.settings;
        if let Some(name) = &create.name
            && !is_name(name)
        {
            return Err(Failed::new(format!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        let folder = create.folder.clone().unwrap_or_else(|| match settings.working_dir.as_str() {
            "" => "/".to_owned(),
            folder => folder.to_owned(),
        });
        if !folder.starts_with('/') {
            return Err(Failed::new(format!(
                "the working directory '{folder}' is invalid, it needs to be an absolute path"
            )));
        }
        let mut words =
            create.entrypoint.clone().map_or_else(|| settings.entrypoint.clone(), |one| vec![one]);
        match create.command.is_empty() && create.entrypoint.is_none() {
            true => words.extend(settings.cmd.iter().cloned()),
            false => words.extend(create.command.iter().cloned()),
        }
        if words.is_empty() {
            return Err(Failed::new("No command specified"));
        }
        let mut mounts = create.mounts.iter().map(mount).collect::<Result<Vec<_>, _>>()?;
        if image.tree.get(GHOST).is_some() {
            mounts.extend(own_mounts(&self.socket));
        }
        let mut store = lock(&self.store);
        store.made += 1;
        let id = meta_lava_formats::sha256(format!("{} {}", self.of, store.made).as_bytes());
        let name = create.name.clone().unwrap_or_else(|| format!("ghost_{}", store.made));
        if let Some(other) = store.containers.values().find(|other| other.name == name) {
            return Err(Failed::new(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to \
                 remove (or rename) that container to be able to reuse that name",
                other.id
            )));
        }
        let hostname = create.hostname.clone().unwrap_or_else(|| id[..12].to_owned());
        let (uid, gid) = user(create.user.as_deref().unwrap_or(&settings.user), &image.tree)?;
        let mut environment = vec![format!("PATH={}", sandbox::PATH), format!("HOSTNAME={hostname}")];
        if create.terminal {
            environment.push("TERM=xterm".into());
        }
        environment.push(if uid == 0 { "HOME=/root".into() } else { "HOME=/".to_owned() });
        for variable in settings.env.iter().chain(&create.environment) {
            let name = variable.split('=').next().unwrap_or_default();
            environment.retain(|other| other.split('=').next() != Some(name));
            environment.push(variable.clone());
        }
        let program = Program { words, environment, folder: folder.clone(), uid, gid };
        let contents = Contents {
            mounts,
            folder,
            init: create.init,
            program: (create.terminal || !create.attached).then(|| program.clone()),
            terminal: create.terminal,
        };
        // Before anybody can find it: what LAVA does then comes behind this.
        if create.from_file {
            self.ledger.take(Event::Tool { tool: "docker".into(), args: create.args() });
        }
        self.note(&contents.mounts);
        let (socket, console) = self.port().map_err(|error| Failed::new(error.to_string()))?;
        let container = Container {
            id: id.clone(),
            name,
            image: Arc::clone(&image),
            contents,
            secrets: create.secrets.clone(),
            hostname,
            program,
            remove: create.remove,
            has_reader: create.terminal && create.attached,
            state: watch::Sender::new(State::Created),
            socket,
            console: Mutex::new(Some(console)),
            alive: Mutex::new(None),
            code: Mutex::new(None),
        };
        store.containers.insert(id.clone(), Arc::new(container));
        drop(store);
        self.made.send_modify(|made| *made += 1);
        // What it can't be made with shows when it is started, as in Docker.
        let missing = create.devices.iter().find(|device| {
            let node = device.split(':').next().unwrap_or_default();
            !Path::new(node).exists()
        });
        let failed = match (missing, &create.network_of) {
            (Some(device), _) => Some(Failed::at_start(
                format!(
                    "error gathering device information while adding custom device \"{}\": no such file or directory",
                    device.split(':').next().unwrap_or_default()
                ),
                127,
            )),
            (None, Some(other)) => match self.find(other) {
                Err(failed) => Some(Failed { hint: false, ..failed }),
                Ok(other) if !matches!(*other.state.borrow(), State::Running(_)) => Some(Failed::at_start(
                    format!("cannot join network of a non running container: {}", other.id),
                    125,
                )),
                Ok(_) => None,
            },
            (None, None) => None,
        };
        match failed {
            Some(failed) => {
                if create.remove {
                    lock(&self.store).containers.remove(&id);
                }
                Err(failed)
            }
            None => Ok(Id { id }),
        }
    }

    /// A terminal of a container's. What is typed and printed on it is noted with the board.
    fn port(&self) -> std::io::Result<(Socket, Console)> {
        let transcript = std::fs::File::options().create(true).append(true).open(&self.transcript)?;
        let faults = Faults::new(&[], self.ledger.clone());
        let port =
            console::port(0, self.ledger.clone(), faults, Some(transcript), None, 0, PortPower::Outlives);
        port.1.set_stage(Stage::Container);
        Ok(port)
    }

    async fn start(&self, id: &str) -> Result<Begun, Failed> {
        let container = self.find(id)?;
        if container.has_reader {
            let _ = tokio::time::timeout(SLOW_START, container.socket.connected()).await;
        }
        let console = lock(&container.console).take();
        if let Some(console) = console {
            let (alive, let_go) = oneshot::channel();
            *lock(&container.alive) = Some(alive);
            tokio::spawn(self.clone().live(Arc::clone(&container), console, let_go));
        }
        let mut state = container.state.subscribe();
        let state = state.wait_for(|state| !matches!(state, State::Created | State::Begun(_))).await;
        let state = state.map(|state| state.clone());
        match state {
            Ok(State::Failed(failed)) => {
                if container.remove {
                    lock(&self.store).containers.remove(&container.id);
                }
                Err(failed)
            }
            Ok(State::Running(pid)) => Ok(Begun { pid, program: container.program.clone() }),
            // It ran, and has ended already.
            _ => Ok(Begun { pid: 0, program: container.program.clone() }),
        }
    }

    /// The whole life of a container.
    async fn live(self, container: Arc<Container>, mut console: Console, let_go: oneshot::Receiver<()>) {
        let userland = Userland::container(container.hostname.clone(), container.contents.clone());
        let mut tree = container.image.tree.clone();
        tree.file(MARK.trim_start_matches('/'), 0o644, self.of.as_str());
        for (path, text) in &container.secrets {
            tree.file(path, 0o600, text.as_bytes());
        }
        let state = &container.state;
        let mut tell = |told| match told {
            Told::Begun(pid) => {
                state.send_replace(State::Begun(pid));
            }
            Told::Running => state.send_modify(|state| {
                if let State::Begun(pid) = *state {
                    *state = State::Running(pid);
                }
            }),
        };
        let run = sandbox::run_and_tell(userland, tree, None, &mut console, &mut tell);
        let end = tokio::select! {
            end = run => Some(end),
            _ = let_go => None,
        };
        let said = *lock(&container.code);
        let ended = match (end, said) {
            (_, Some(code)) => State::Ended(code),
            (Some(End::Exited(status)), None) => State::Ended(code(status)),
            // Killed: 128 and the signal's number.
            (None | Some(End::Reboot | End::PowerOff | End::Kexec(_)), None) => State::Ended(137),
            (Some(End::NotRun(not_run)), None) => State::Failed(Failed::not_run(&not_run)),
            (Some(End::NoInit(why) | End::Refused(why)), None) => {
                self.ledger.violation("sandbox-refused", why.as_str());
                State::Failed(Failed::at_start(format!("no sandbox for the container: {why}"), 125))
            }
        };
        // Out of the list first: who has waited for its end may make one of the same name.
        if let State::Ended(code) = ended
            && container.remove
        {
            let mut store = lock(&self.store);
            store.containers.remove(&container.id);
            store.gone.insert(container.id.clone(), code);
        }
        container.state.send_replace(ended);
        console.hang_up().await;
    }

    /// Notes what LAVA has put into a container.
    fn note(&self, mounts: &[Mount]) {
        for mount in mounts {
            if mount.target.starts_with("/lava-") && mount.is_folder {
                crate::linux::note_folder(&self.ledger, &mount.source, &mount.target);
            }
        }
    }

    async fn wait(&self, id: &str) -> Result<u8, Failed> {
        // One that is removed when it ends may be gone already: who waits has seen it start.
        let Ok(container) = self.find(id) else {
            return Ok(lock(&self.store).gone.get(id).copied().unwrap_or_default());
        };
        let mut state = container.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_) | State::Failed(_))).await;
        match ended.map(|state| state.clone()) {
            Ok(State::Ended(code)) => Ok(code),
            Ok(State::Failed(failed)) => Err(failed),
            _ => Err(Failed::new("the container is gone")),
        }
    }

    /// Ends a container that runs, and waits until it has ended.
    async fn end(&self, container: &Container, code: Option<u8>) {
        if code.is_some() {
            *lock(&container.code) = code;
        }
        let Some(alive) = lock(&container.alive).take() else { return };
        drop(alive);
        let mut state = container.state.subscribe();
        let _ = state.wait_for(|state| matches!(state, State::Ended(_) | State::Failed(_))).await;
    }

    async fn remove(&self, name: &str, force: bool) -> Result<(), Failed> {
        let container = self.find(name)?;
        if matches!(*container.state.borrow(), State::Begun(_) | State::Running(_)) && !force {
            return Err(Failed::new(format!(
                "You cannot remove a running container {}. Stop the container before attempting removal or force \
                 remove",
                container.id
            )));
        }
        self.end(&container, None).await;
        lock(&self.store).containers.remove(&container.id);
        Ok(())
    }

    /// The container `name`, which is made of `image` where there is none: it runs nothing, and is there for those who enter.
    ///
    /// # Errors
    /// As of `docker run`.
    pub async fn running_or_made(
        &self,
        name: &str,
        image: &str,
        secrets: BTreeMap<String, String>,
    ) -> Result<Begun, Failed> {
        if let Ok(begun) = self.running(name) {
            return Ok(begun);
        }
        self.pull(image).await?;
        let create = Create {
            image: image.to_owned(),
            name: Some(name.to_owned()),
            hostname: Some(name.to_owned()),
            secrets,
            attached: true,
            ..Create::default()
        };
        let Id { id } = self.create(create).await?;
        self.start(&id).await
    }

    fn running(&self, name: &str) -> Result<Begun, Failed> {
        let container = self.find(name)?;
        match *container.state.borrow() {
            State::Running(pid) => Ok(Begun { pid, program: container.program.clone() }),
            _ => Err(Failed::new(format!("Container {} is not running", container.id))),
        }
    }

    fn find(&self, name: &str) -> Result<Arc<Container>, Failed> {
        find(&lock(&self.store), name).ok_or_else(|| Failed::new(format!("No such container: {name}")))
    }
}

/// A container by its name, or by its id or the begin of it.
fn find(store: &Store, name: &str) -> Option<Arc<Container>> {
    let all = || store.containers.values();
    let named = all().find(|container| container.name == name.trim_start_matches('/'));
    named.or_else(|| all().find(|container| !name.is_empty() && container.id.starts_with(name))).cloned()
}

/// The exit code of a wait status.
fn code(status: i32) -> u8 {
    let code =
        if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Docker's `RestrictedNamePattern`.
fn is_name(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// What is mounted, checked as Docker does.
fn mount(volume: &Volume) -> Result<Mount, Failed> {
    let invalid = |why: String| {
        let whole = match volume.make {
            true => format!("invalid volume specification: '{}:{}': ", volume.source, volume.target),
            false => String::new(),
        };
        Failed::new(format!("{whole}invalid mount config for type \"bind\": {why}"))
    };
    if !volume.target.starts_with('/') {
        return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", volume.target)));
    }
    if !volume.source.starts_with('/') {
        return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", volume.source)));
    }
    let source = PathBuf::from(&volume.source);
    if !source.exists() {
        if !volume.make {
            return Err(invalid(format!("bind source path does not exist: {}", volume.source)));
        }
        std::fs::create_dir_all(&source)
            .map_err(|error| Failed::new(format!("error while creating mount source path: {error}")))?;
    }
    let is_folder = source.is_dir();
    Ok(Mount { source, target: volume.target.clone(), is_folder, read_only: volume.read_only })
}

/// What tools in an image need that are the ghost under another name.
fn own_mounts(socket: &Path) -> Vec<Mount> {
    let executable = std::fs::read_link("/proc/self/exe").ok().map(|source| Mount {
        source,
        target: format!("/{GHOST}"),
        is_folder: false,
        read_only: true,
    });
    let socket = Mount {
        source: socket.to_owned(),
        target: crate::control::SOCKET.to_owned(),
        is_folder: false,
        read_only: false,
    };
    executable.into_iter().chain([socket]).collect()
}

/// The numbers of a user of the image's: by its name, or given as they are.
fn user(asked: &str, tree: &meta_lava_formats::tree::Tree) -> Result<(u32, u32), Failed> {
    if asked.is_empty() {
        return Ok((0, 0));
    }
    let (user, group) = asked.split_once(':').unwrap_or((asked, ""));
    let text = match tree.get("etc/passwd").map(|node| &node.kind) {
        Some(meta_lava_formats::tree::NodeKind::File(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    let known = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (name == user || uid == user).then_some((uid.parse().ok()?, gid.parse().ok()?))
    });
    let (uid, gid) = match (known, user.parse()) {
        (Some(known), _) => known,
        (None, Ok(uid)) => (uid, 0),
        (None, Err(_)) => {
            return Err(Failed::at_start(
                format!("unable to find user {user}: no matching entries in passwd file"),
                125,
            ));
        }
    };
    Ok((uid, group.parse().unwrap_or(gid)))
}
