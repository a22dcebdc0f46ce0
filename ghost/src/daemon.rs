//! The daemon: plays all boards of one worker.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::board::PortPower;
use crate::console::{self, Pace, Socket};
use crate::control::{Reply, Request, Watched};
use crate::engine::{Ask, Engine};
use crate::fault::{Faults, Moment};
use crate::firmware::{self, Firmware, Next};
use crate::ledger::{Event, Ledger, PowerAction, Protocol, Stage};
use crate::linux;
use crate::machine::{Invocation, Machine};
use crate::net::Lease;
use crate::patience::{SLOW_START, after_failed_accept};
use crate::peripheral::{Action, Attached, Bus, Change, Data, Identity, Remote};
use crate::ssh;
use crate::vland::{self, Vland};

/// Longest request on the control socket, in bytes.
const REQUEST_LIMIT: u64 = 1 << 20;

/// Changes on USB that one who watches may be behind.
const CHANGES: usize = 1024;

/// Which boards a worker has: `lab.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lab {
    pub boards: Vec<LabBoard>,
    /// Speed of their serial lines; without it, as fast as LAVA reads.
    #[serde(default)]
    pub pace: Option<Pace>,
    /// How late each power command is carried out, in milliseconds. What a board does until then is
    /// what nobody may count on: a run with late power shows which expectation does.
    #[serde(default)]
    pub late_power_ms: u16,
}

/// One board of a [`Lab`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabBoard {
    /// Its name; `boards/NAME.yaml` beside the lab's file says what it is.
    pub name: String,
    /// TCP ports of its serial ports, in order.
    pub consoles: Vec<u16>,
    /// Whether it is switched off only when its job ends. Its ports are then hung up with the
    /// power, whatever they are: LAVA listens for a second to a port that is still open at the
    /// end of a job (`lava_dispatcher/power.py`, `ReadFeedback`), and closes it then itself.
    #[serde(default)]
    pub off_is_the_end: bool,
    /// Of a job that has no board but another one's: whose sessions there these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
}

/// A guest on a board that is reached by SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// The board's name.
    pub of: String,
    /// What the guest's job is in its group.
    pub role: String,
}

/// What a daemon needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder with `lab.json` and `boards/`.
    pub lab: PathBuf,
    /// Folder for `BOARD/ledger.jsonl`, the consoles and `BOARD/blobs`.
    pub state: PathBuf,
    /// Path of the control socket.
    pub socket: PathBuf,
    /// Where boot files are served: what DHCP tells the boards.
    pub server: IpAddr,
    /// Speed of the serial lines, instead of the lab's.
    pub pace: Option<Pace>,
}

/// Why a daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A file could not be read or made.
    #[error("{path}: {error}")]
    File { path: PathBuf, error: io::Error },
    /// `lab.json` is not the schema.
    #[error("{path}: {error}")]
    Lab { path: PathBuf, error: serde_json::Error },
    /// A board's file does not describe a board.
    #[error("{path}: {error}")]
    Board { path: PathBuf, error: crate::board::BoardError },
    /// A port could not be had.
    #[error("console of {board} on port {port}: {error}")]
    Port { board: String, port: u16, error: io::Error },
    /// A guest's host is none.
    #[error("{board} is to be a guest of {of}, which is no board that is reached by SSH")]
    Guest { board: String, of: String },
    /// The port of the lab's VLANd could not be had.
    #[error("VLANd on port {port}: {error}")]
    Vland { port: u16, error: io::Error },
}

/// A power command on its way to a board.
struct Order {
    action: PowerAction,
    /// Whether it is a new board from then on.
    renew: bool,
    /// For a board that a tool starts: how the tool was called.
    invocation: Option<Invocation>,
    done: oneshot::Sender<()>,
}

/// The daemon's hold on a board.
struct Handle {
    port: PortPower,
    /// What it runs when it is switched on.
    firmware: Arc<dyn Firmware>,
    name: String,
    /// Whether it is on when it is new.
    battery: bool,
    off_is_the_end: bool,
    /// How late its power is switched.
    late_power: Duration,
    /// Whether its power was switched since it was new.
    switched: AtomicBool,
    orders: mpsc::Sender<Order>,
    /// Held while an order is carried out.
    at_work: tokio::sync::Mutex<()>,
    ledger: Ledger,
    bus: Bus,
    faults: Faults,
    sockets: Vec<Socket>,
    /// What keeps what a board without a serial port prints elsewhere.
    heard: Option<Socket>,
    /// What runs containers for its jobs.
    engine: Engine,
    /// What answers where it is reached by SSH.
    ssh: Option<ssh::Server>,
    /// Held by the tool that is the board's power and terminal: the next one waits until the
    /// board of the last one is off, or it would be switched off in its place.
    attached: tokio::sync::Mutex<()>,
}

impl Handle {
    /// Waits a moment for somebody on the first serial port. LAVA starts its
    /// `telnet` and switches power without waiting for either; a real board's
    /// relay and boot ROM are slower than a connection, a ghost is not. That holds for
    /// `off`, too, where it begins a power cycle: it finds the board off already.
    async fn listened_to(&self, action: PowerAction) {
        // A boot ROM that waits for a program says nothing either. Where it has refused one, LAVA before 2023.02
        // takes the board for one that does not wait, and begins a connection to look for its boot loader.
        let refused = self.bus.take_refusal();
        let silent = self.bus.is_in_recovery() || !self.firmware.needs_a_listener(&self.name);
        if silent && !refused {
            return;
        }
        let begins = action != PowerAction::Off
            || (!self.off_is_the_end && self.sockets.first().is_some_and(Socket::is_off));
        if begins {
            self.connected().await;
        }
    }

    /// The same for a tool that is called for the board: whether it comes before the connection that LAVA has
    /// just begun or behind it would be left to chance. Before its power was ever switched, as when LAVA
    /// validates a job, nobody is about to connect.
    async fn listened_to_by_who_calls(&self) {
        if self.switched.load(Ordering::Relaxed) {
            self.connected().await;
        }
    }

    /// Waits a moment until the first serial port is open. One that vanishes is opened when there is power:
    /// `play` waits for that.
    async fn connected(&self) {
        if self.port == PortPower::Outlives
            && let Some(socket) = self.sockets.first()
        {
            let _ = tokio::time::timeout(SLOW_START, socket.connected()).await;
        }
    }

    /// What goes wrong with a command, if something does: what it says, and its exit code. Who asks by
    /// `asker` may give up meanwhile.
    async fn faulty(
        &self,
        moment: Moment<'_>,
        asker: &mut (impl AsyncReadExt + Unpin),
    ) -> io::Result<Option<(String, u8)>> {
        let mut more = [0];
        tokio::select! {
            biased;
            called = self.faults.call(moment) => Ok(called),
            _ = asker.read(&mut more) => Err(io::Error::other("who asked has gone")),
        }
    }

    /// Notes that `tool` was called for the board, and says what goes wrong with the call, as
    /// [`Self::faulty`] does.
    async fn called(
        &self,
        tool: &str,
        args: &[String],
        asker: &mut (impl AsyncReadExt + Unpin),
    ) -> io::Result<Option<(String, u8)>> {
        self.ledger.take(Event::Tool { tool: tool.to_owned(), args: args.to_owned() });
        self.faulty(Moment::Tool(&format!("{tool} {}", args.join(" "))), asker).await
    }

    async fn order(&self, action: PowerAction, invocation: Option<Invocation>) {
        self.send(|done| Order { action, renew: false, invocation, done }).await;
    }

    /// Has its controller say something else, and reset the board.
    async fn control(&self, enabled: Option<bool>, mode: Option<String>, reset: bool) -> Remote {
        let before = self.bus.remote();
        let remote = Remote { enabled: enabled.unwrap_or(before.enabled), mode: mode.or(before.mode) };
        self.bus.control(remote.clone());
        if reset && self.bus.is_powered() {
            self.order(PowerAction::Reset, None).await;
        }
        remote
    }

    /// Switches it on where it has a battery, as a new board is.
    async fn be_new(&self) {
        if self.battery {
            self.order(PowerAction::On, None).await;
        }
    }

    /// Switches the board off, and makes it a new one.
    async fn renew(&self) {
        self.send(|done| Order { action: PowerAction::Off, renew: true, invocation: None, done }).await;
    }

    async fn send(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) {
        let _at_work = self.at_work.lock().await;
        let (done, wait) = oneshot::channel();
        // The board's task ends only with the daemon.
        if self.orders.send(order(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// Plays all boards until the process is told to end.
///
/// # Errors
/// When it could not start; see [`DaemonError`].
pub async fn run(settings: &Settings) -> Result<(), DaemonError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| DaemonError::File { path, error }
    };
    let lab_path = settings.lab.join("lab.json");
    let text = fs::read_to_string(&lab_path).map_err(at(&lab_path))?;
    let lab: Lab =
        serde_json::from_str(&text).map_err(|error| DaemonError::Lab { path: lab_path.clone(), error })?;

    let (changes, _) = broadcast::channel(CHANGES);
    let mut handles = BTreeMap::new();
    let mut cables = Vec::new();
    // A guest comes behind the board that it is on.
    let (boards, guests): (Vec<_>, Vec<_>) = lab.boards.iter().partition(|entry| entry.guest.is_none());
    for entry in boards.into_iter().chain(guests) {
        let path = settings.lab.join("boards").join(format!("{}.yaml", entry.name));
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let (board, firmware) = firmware::load(&entry.name, &text)
            .map_err(|error| DaemonError::Board { path: path.clone(), error })?;

        let state = settings.state.join(&entry.name);
        fs::create_dir_all(&state).map_err(at(&state))?;
        let ledger_path = state.join("ledger.jsonl");
        let ledger = Ledger::open(&ledger_path).map_err(at(&ledger_path))?;

        let faults = Faults::new(&board.faults, ledger.clone());
        let host = firmware.host();
        let (mut sockets, mut consoles, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        // Where LAVA hears it, if that is not by its serial ports.
        let mut heard = None;
        for uart in 0..board.uarts {
            let controller = uart.checked_sub(1).and_then(|number| board.beside.get(number)).cloned();
            let path = state.join(console::transcript(uart));
            let transcript = File::options().create(true).append(true).open(&path).map_err(at(&path))?;
            let pace = settings.pace.or(lab.pace);
            let transcript = match board.headless {
                true => {
                    heard.get_or_insert(transcript);
                    None
                }
                false => Some(transcript),
            };
            let (socket, console) = console::port(
                uart,
                ledger.clone(),
                faults.clone(),
                transcript,
                pace,
                board.typing_ms,
                board.port,
            );
            if let Some(&port) = entry.consoles.get(uart) {
                let listener = TcpListener::bind(("127.0.0.1", port))
                    .await
                    .map_err(|error| DaemonError::Port { board: entry.name.clone(), port, error })?;
                match &host {
                    Some(_) => doors.push(listener),
                    None => {
                        tokio::spawn(socket.clone().listen(listener));
                    }
                }
            }
            sockets.push(socket);
            match controller {
                Some(controller) => {
                    console.set_stage(Stage::Controller);
                    tokio::spawn(async move { controller.run(console).await });
                }
                None => consoles.push(console),
            }
        }
        cables.push((entry.name.clone(), board.switch_ports.clone(), ledger.clone()));
        let (orders, inbox) = mpsc::channel(8);
        let lease = Lease::new(&entry.name, settings.server);
        let (port, firmware): (_, Arc<dyn Firmware>) = (board.port, Arc::from(firmware));
        let battery = board.battery;
        // Nobody types there.
        let heard = heard.map(|transcript| {
            let faults = Faults::new(&[], ledger.clone());
            console::port(0, ledger.clone(), faults, Some(transcript), None, 0, PortPower::Outlives).0
        });
        let bus = Bus::new(&board, changes.clone());
        let machine = Machine::new(Arc::new(board), lease, consoles, bus.clone(), ledger.clone());
        if let Some(drive) = firmware.drive(&entry.name) {
            let bus = bus.clone();
            tokio::spawn(async move {
                let linked = drive.link(&bus.drives());
                if let Err(error) = linked.and(drive.serve(&bus).await) {
                    tracing::error!(%error, folder = %drive.folder.display(), "a board's drive failed");
                }
            });
        }
        tokio::spawn(play(machine, Arc::clone(&firmware), inbox, entry.off_is_the_end));
        let engine = Engine::new(
            &entry.name,
            ledger.clone(),
            state.join(console::transcript(0)),
            settings.socket.clone(),
        );
        let ssh = match &entry.guest {
            None => host.map(|host| ssh::Server::new(&entry.name, host, engine.clone(), ledger.clone())),
            Some(Guest { of, role }) => {
                let host = handles.get(of).and_then(|handle: &Handle| handle.ssh.as_ref());
                let none = || DaemonError::Guest { board: entry.name.clone(), of: of.clone() };
                Some(host.ok_or_else(none)?.guest(role, &entry.name, ledger.clone()))
            }
        };
        if let Some(server) = &ssh {
            for door in doors {
                tokio::spawn(server.clone().listen(door));
            }
        }
        handles.insert(
            entry.name.clone(),
            Handle {
                port,
                firmware,
                name: entry.name.clone(),
                battery,
                switched: AtomicBool::new(false),
                off_is_the_end: entry.off_is_the_end,
                late_power: Duration::from_millis(lab.late_power_ms.into()),
                orders,
                at_work: tokio::sync::Mutex::new(()),
                ledger,
                bus,
                faults,
                sockets,
                heard,
                engine,
                ssh,
                attached: tokio::sync::Mutex::new(()),
            },
        );
    }

    if let Some(parent) = settings.socket.parent() {
        fs::create_dir_all(parent).map_err(at(parent))?;
    }
    match fs::remove_file(&settings.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&settings.socket)(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&settings.socket).map_err(at(&settings.socket))?;
    for handle in handles.values() {
        handle.be_new().await;
    }
    let handles = Arc::new(Boards { handles, changes, vland: Vland::new(cables) });
    if !handles.vland.is_idle() {
        let port = vland::PORT;
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .map_err(|error| DaemonError::Vland { port, error })?;
        let boards = Arc::clone(&handles);
        let named_in = move |device: &str| boards.named_in(device).map(|(name, _)| name.to_owned());
        tokio::spawn(handles.vland.clone().listen(listener, named_in));
    }
    tracing::info!(boards = lab.boards.len(), "ready");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let handles = Arc::clone(&handles);
                tokio::spawn(async move {
                    if let Err(error) = answer(&handles, stream).await {
                        tracing::warn!(%error, "a control connection broke");
                    }
                });
            }
            Err(error) => after_failed_accept("a control", &error).await,
        }
    }
}

/// All boards of a daemon.
struct Boards {
    handles: BTreeMap<String, Handle>,
    /// What comes and goes on USB, of all of them.
    changes: broadcast::Sender<Change>,
    /// What has the ports of the lab's switches.
    vland: Vland,
}

async fn answer(boards: &Boards, stream: UnixStream) -> io::Result<()> {
    let handles = &boards.handles;
    let asker = stream.peer_cred().ok().and_then(|asker| asker.pid());
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    (&mut read).take(REQUEST_LIMIT).read_line(&mut line).await?;
    let find = |name: &str| {
        handles.get(name).ok_or_else(|| {
            let known = handles.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("no board is called {name:?} here; there are: {known}")
        })
    };
    let find_ssh = |name: &str| {
        let server = find(name)?.ssh.as_ref();
        server.ok_or_else(|| format!("{name} is not reached by SSH"))
    };
    let mut attach = None;
    let mut watch = None;
    let (mut terminal, mut prints) = (None, None);
    let mut answer = Value::Null;
    let mut exit = None;
    let error = match serde_json::from_str::<Request>(&line) {
        Err(error) => Some(format!("not a request: {error}")),
        Ok(Request::Power { board, action }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                // To be late is what is asked for; a sleep of nothing takes a millisecond, too.
                if !handle.late_power.is_zero() {
                    tokio::time::sleep(handle.late_power).await;
                }
                handle.listened_to(action).await;
                for socket in &handle.sockets {
                    socket.settle().await;
                }
                handle.switched.store(true, Ordering::Relaxed);
                // What was written to it before belongs before.
                if let Some(disk) = handle.bus.disk() {
                    tokio::task::spawn_blocking(move || disk.take_over()).await.map_err(io::Error::other)?;
                }
                // So does an order that came before: a board whose emulator has died goes off, and how long the end of what
                // ran on it takes depends on the machine.
                drop(handle.at_work.lock().await);
                handle.ledger.take(Event::Power { action });
                exit = handle.faulty(Moment::Power(action), &mut read).await?;
                if exit.is_none() {
                    handle.order(action, None).await;
                }
                None
            }
        },
        Ok(Request::Renew { board }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                handle.renew().await;
                handle.engine.renew().await;
                boards.vland.renew(&board);
                handle.switched.store(false, Ordering::Relaxed);
                let renewed = renew(handle, &board);
                handle.be_new().await;
                renewed.err().map(|error| format!("could not renew {board}: {error}"))
            }
        },
        Ok(Request::Flash { board, part, file }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                let args = [part.clone(), file.display().to_string()];
                exit = handle.called("flash", &args, &mut read).await?;
                match exit {
                    Some(_) => None,
                    None => flash(&handle.ledger, &board, &part, &file).err(),
                }
            }
        },
        Ok(Request::Cable { board, plugged }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                // LAVA's command before the power comes right behind the connection that it begins.
                handle.connected().await;
                let _ = tokio::time::timeout(SLOW_START, handle.bus.arrived()).await;
                handle.ledger.take(Event::Cable { plugged });
                handle.bus.plug(plugged);
                None
            }
        },
        Ok(Request::Switch { board, recovery }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                handle.ledger.take(Event::Switch { recovery });
                handle.bus.switch(recovery);
                None
            }
        },
        Ok(Request::Control { board, enabled, mode, reset }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                answer = serde_json::to_value(handle.control(enabled, mode, reset).await)?;
                None
            }
        },
        Ok(Request::Open { tool, args, identity, unheard }) => {
            match boards.open(&tool, &args, &identity, unheard, &mut read).await? {
                Ok(attached) => answer = serde_json::to_value(attached)?,
                Err(ended) => exit = Some(ended),
            }
            None
        }
        Ok(Request::Usb { board, mode, command, sent }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => match sent.map(Data::try_from).transpose() {
                Err(error) => Some(error),
                Ok(data) => {
                    answer = serde_json::to_value(handle.bus.call(mode, command, data).await)?;
                    None
                }
            },
        },
        Ok(Request::Watch) => {
            watch = Some(boards.watch());
            None
        }
        Ok(Request::Called { tool, args, device }) => {
            let found = device.and_then(|device| boards.named_in(&device));
            if let Some((name, handle)) = found {
                // A board that a tool has just sent on its way comes first.
                let _ = tokio::time::timeout(SLOW_START, handle.bus.arrived()).await;
                if tool == "docker" {
                    handle.engine.expect(&args).await;
                }
                exit = handle.called(&tool, &args, &mut read).await?;
                answer = serde_json::to_value(name)?;
            }
            None
        }
        Ok(Request::Engine { board, ask }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                let ends = matches!(ask, Ask::Stop { .. } | Ask::Remove { .. });
                answer = serde_json::to_value(handle.engine.answer(ask).await)?;
                if ends {
                    // A tool in it that was the board has gone with it, and the board is off before this is answered.
                    let _ = tokio::time::timeout(SLOW_START, handle.attached.lock()).await;
                }
                None
            }
        },
        Ok(Request::Terminal { board, container }) => match find(&board).map(|handle| &handle.engine) {
            Err(error) => Some(error),
            Ok(engine) => match engine.terminal(&container) {
                Err(failed) => Some(failed.says),
                Ok(socket) => {
                    terminal = Some(socket);
                    None
                }
            },
        },
        Ok(Request::Typed { board, text }) => match find(&board) {
            Err(error) => Some(error),
            Ok(Handle { ssh: Some(server), .. }) => {
                server.typed(text).await;
                None
            }
            Ok(handle) => {
                handle.ledger.take(Event::Line { uart: 0, stage: Stage::Userland, text });
                None
            }
        },
        Ok(Request::Prints { board }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                prints = handle.heard.as_ref().or(handle.sockets.first()).cloned();
                None
            }
        },
        Ok(Request::Received { board }) => match find_ssh(&board) {
            Err(error) => Some(error),
            Ok(server) => {
                server.received().await;
                None
            }
        },
        Ok(Request::Attach { board, tool, args, cwd, telnet }) => match find(&board) {
            Err(error) => Some(error),
            Ok(handle) => {
                // A program that has just ended may not be gone: its board's last entries come first. One that still runs is waited for
                // below, when this call is noted.
                let alone = tokio::time::timeout(SLOW_START, handle.attached.lock()).await.ok();
                exit = handle.called(&tool, &args, &mut read).await?;
                if exit.is_none() {
                    let root = match asker {
                        Some(asker) => format!("/proc/{asker}/root").into(),
                        None => "/".into(),
                    };
                    attach = Some((handle, Invocation { tool, args, cwd, root }, telnet, alone));
                }
                None
            }
        },
    };
    let (error, exit) = match exit {
        Some((said, exit)) => (Some(said), Some(exit)),
        None => (error, None),
    };
    let mut reply = serde_json::to_vec(&Reply { error, answer, exit })?;
    reply.push(b'\n');
    write.write_all(&reply).await?;
    if let Some(watching) = watch {
        return tell(watching, read, write).await;
    }
    if let Some(socket) = prints {
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = read.read(&mut buffer).await {
            socket.keep(&buffer[..size]);
        }
        return Ok(());
    }
    if let Some(socket) = terminal {
        socket.attach(read, write).await;
        return Ok(());
    }
    if let Some((handle, invocation, telnet, alone)) = attach
        && let Some(socket) = handle.sockets.first().cloned()
    {
        let _alone = match alone {
            Some(alone) => alone,
            None => handle.attached.lock().await,
        };
        // Before the board prints anything: it would be lost.
        if socket.take(write, telnet).await {
            let start = async {
                // Whoever opens a terminal of the tool's does so after it has told where, and is to come before what the board does.
                if telnet {
                    socket.settle().await;
                }
                handle.order(PowerAction::Reset, Some(invocation)).await;
            };
            tokio::join!(start, async {
                socket.clone().serve(read, telnet).await;
                // The tool is gone, and the board with it.
                handle.order(PowerAction::Off, None).await;
            });
        }
    }
    Ok(())
}

impl Boards {
    /// Notes a tool's call with each board that it is for, and returns what is attached of it.
    ///
    /// A call that names a serial number or a path is for one board, whether it is attached or not.
    /// One that names a make is for those of it that are. Where a fault of such a board's ends the call
    /// instead: what it says, and its exit code.
    async fn open(
        &self,
        tool: &str,
        args: &[String],
        identity: &Identity,
        unheard: bool,
        asker: &mut (impl AsyncReadExt + Unpin),
    ) -> io::Result<Result<Vec<Attached>, (String, u8)>> {
        let mut found = Vec::new();
        for handle in self.handles.values() {
            if !unheard && identity.is_of_one() && handle.bus.has(identity) {
                handle.listened_to_by_who_calls().await;
            }
            // Nobody waits for what such a board prints, so LAVA asks for it while it starts.
            if handle.heard.is_some() && handle.bus.has(identity) {
                let _ = tokio::time::timeout(SLOW_START, handle.bus.arrived()).await;
            }
            let attached = handle.bus.attached().into_iter().filter(|device| identity.is(device));
            let attached: Vec<Attached> = attached.collect();
            let is_meant = identity.is_of_one() && handle.bus.has(identity);
            // A call that names nothing is for no board more than for another.
            if (is_meant || !attached.is_empty() && *identity != Identity::default())
                && let Some(ended) = handle.called(tool, args, asker).await?
            {
                return Ok(Err(ended));
            }
            if tool == "mount" && !attached.is_empty() {
                handle.bus.mounted();
            }
            found.extend(attached);
        }
        Ok(Ok(found))
    }

    /// The board that a device of LAVA's has in its commands.
    fn named_in(&self, device: &str) -> Option<(&str, &Handle)> {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let mut words = device.split(|c| !is_of_name(c));
        let (name, handle) = words.find_map(|word| self.handles.get_key_value(word))?;
        Some((name, handle))
    }

    /// What is attached, what of it has just changed, and what comes and goes from now on.
    fn watch(&self) -> Watching {
        // In this order: what comes meanwhile is told twice, and nothing is missed.
        let changes = self.changes.subscribe();
        let of = |action, devices: fn(&Bus) -> Vec<Attached>| {
            let all = self.handles.values().flat_map(move |handle| devices(&handle.bus));
            all.map(move |device| Change { action, device }).collect()
        };
        Watching {
            present: of(Action::Present, Bus::attached),
            changed: of(Action::Change, Bus::changed),
            changes,
        }
    }
}

/// What somebody is told who watches.
struct Watching {
    present: Vec<Change>,
    changed: Vec<Change>,
    changes: broadcast::Receiver<Change>,
}

/// Tells somebody of what comes and goes, until they close the connection.
async fn tell(
    Watching { present, changed, mut changes }: Watching,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let line = |change: Change| -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(&Watched::of(change))?;
        line.push(b'\n');
        Ok(line)
    };
    for change in present {
        write.write_all(&line(change)?).await?;
    }
    write.write_all(b"\n").await?;
    for change in changed {
        write.write_all(&line(change)?).await?;
    }
    let mut nothing = [0];
    loop {
        tokio::select! {
            // Nobody has anything to say there: it is the end.
            _ = read.read(&mut nothing) => return Ok(()),
            change = changes.recv() => match change {
                Ok(change) => write.write_all(&line(change)?).await?,
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    return Err(io::Error::other(format!("who watches is {lost} changes behind")));
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
        }
    }
}

/// Makes a board that is off one that nothing happened to.
fn renew(handle: &Handle, board: &str) -> io::Result<()> {
    firmware::flash::erase(Path::new(firmware::flash::FOLDER), board)?;
    if let Some(drive) = handle.firmware.drive(board) {
        drive.renew()?;
        // LAVA mounts a drive where its label says, makes that folder where it is missing, and leaves it.
        for link in handle.bus.drives() {
            if let Some(label) = Path::new(&link).file_name() {
                let _ = fs::remove_dir(Path::new("/mnt").join(label));
            }
        }
    }
    handle.sockets.iter().chain(&handle.heard).try_for_each(Socket::renew)?;
    handle.ledger.renew()
}

/// Writes a file of the worker's into a board's storage.
fn flash(ledger: &Ledger, board: &str, part: &str, file: &Path) -> Result<(), String> {
    let path = file.display().to_string();
    let written = fs::read(file).and_then(|bytes| {
        firmware::flash::write(Path::new(firmware::flash::FOLDER), board, part, &bytes)?;
        Ok(Event::file(Protocol::Local, &path, part, &bytes))
    });
    match written {
        Ok(event) => {
            ledger.take(event);
            Ok(())
        }
        Err(error) => {
            let error = format!("could not flash {part} of {board} from {path}: {error}");
            ledger.take(Event::FileFailed { protocol: Protocol::Local, path, error: error.clone() });
            Err(error)
        }
    }
}

/// One board's life: waits for power, runs what it has, and starts anew at each
/// reset, in the middle of anything.
async fn play(
    mut machine: Machine,
    firmware: Arc<dyn Firmware>,
    mut inbox: mpsc::Receiver<Order>,
    off_is_the_end: bool,
) {
    while let Some(order) = inbox.recv().await {
        if order.action == PowerAction::Off {
            ordered_off(&mut machine, order, off_is_the_end).await;
            continue;
        }
        let mut powered_by = order;
        for console in &machine.consoles {
            console.power_on();
        }
        machine.bus.power(true);
        // Powered, until an order says otherwise.
        loop {
            machine.reset(powered_by.invocation.take());
            machine.reason = None;
            let _ = powered_by.done.send(());
            let next = {
                let cpu = async {
                    // Nobody could listen before, and who is about to should miss nothing.
                    if machine.board.port == PortPower::Vanishes {
                        let _ = tokio::time::timeout(SLOW_START, machine.console().connected()).await;
                    }
                    cpu(&mut machine, firmware.as_ref()).await;
                };
                tokio::pin!(cpu);
                loop {
                    tokio::select! {
                        biased;
                        order = inbox.recv() => match order {
                            None => return,
                            Some(order) if order.action == PowerAction::On => {
                                // Already on.
                                let _ = order.done.send(());
                            }
                            Some(order) => break Some(order),
                        },
                        () = &mut cpu => break None,
                    }
                }
            };
            match next {
                Some(order) if order.action == PowerAction::Reset => {
                    // What has the board's power goes, and comes again.
                    machine.bus.power(false);
                    machine.bus.power(true);
                    powered_by = order;
                }
                Some(order) => {
                    ordered_off(&mut machine, order, off_is_the_end).await;
                    break;
                }
                // It switched itself off.
                None => {
                    off(&mut machine, false).await;
                    break;
                }
            }
        }
    }
}

async fn ordered_off(machine: &mut Machine, order: Order, off_is_the_end: bool) {
    if order.renew {
        machine.renew();
    }
    off(machine, order.renew || off_is_the_end).await;
    let _ = order.done.send(());
}

/// Without power, and with nobody on its ports where these are hung up.
async fn off(machine: &mut Machine, hang_up: bool) {
    machine.power_off();
    machine.bus.power(false);
    for console in &mut machine.consoles {
        console.power_off().await;
        if hang_up {
            console.hang_up().await;
        }
        console.drain();
    }
}

/// Runs a powered board until it switches itself off.
pub async fn cpu(machine: &mut Machine, firmware: &dyn Firmware) {
    let faults = machine.faults.clone();
    loop {
        let resets = tokio::select! {
            biased;
            () = faults.reset_asked() => true,
            resets = start(machine, firmware) => resets,
        };
        if !resets {
            return;
        }
        machine.reset(machine.invocation.clone());
    }
}

/// Runs a board that was just switched on or reset; whether it is then reset, or else has
/// switched itself off.
async fn start(machine: &mut Machine, firmware: &dyn Firmware) -> bool {
    machine.enter(Stage::Firmware).await;
    let next = match machine.bus.is_in_recovery() {
        // The boot ROM says nothing, and runs nothing until a program is loaded.
        true => firmware.recover(machine).await,
        false => firmware.run(machine).await,
    };
    let halt = match next {
        Next::Boot(image) => match linux::run(machine, image).await {
            linux::Exit::Reboot => false,
            linux::Exit::PowerOff => return false,
            linux::Exit::Halt => true,
        },
        Next::Reset => false,
        Next::PowerOff => return false,
        Next::Hang => true,
    };
    if halt {
        machine.enter(Stage::Halted).await;
        std::future::pending::<()>().await;
    }
    true
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::control;

    const HELLO: &str = "U-Boot\r\nhere I am";

    /// A daemon with one board, and a client's view of it.
    struct Bench {
        dir: tempfile::TempDir,
        port: u16,
    }

    impl Bench {
        /// A board with `board` in its file and `lab` in the lab's.
        async fn start(board: &str, lab: &str) -> Self {
            Self::start_late(board, lab, 0).await
        }

        /// The same, whose power is late.
        async fn start_late(board: &str, lab: &str, late_power_ms: u16) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            fs::create_dir(dir.path().join("boards")).unwrap();
            let text = format!(
                "{{model: PC, {board} firmware: {{kind: script, steps: [{{print: {HELLO:?}}}, {{expect: {{prompt: '> ', line: never}}}}]}}}}"
            );
            fs::write(dir.path().join("boards/b.yaml"), text).unwrap();
            let lab = format!(
                r#"{{"late_power_ms": {late_power_ms}, "boards": [{{"name": "b", {lab} "consoles": [{port}]}}]}}"#
            );
            fs::write(dir.path().join("lab.json"), lab).unwrap();
            let settings = Settings {
                lab: dir.path().into(),
                state: dir.path().join("state"),
                socket: dir.path().join("socket"),
                server: [127, 0, 0, 1].into(),
                pace: None,
            };
            let bench = Self { dir, port };
            let daemon = tokio::spawn(async move { run(&settings).await.unwrap() });
            while UnixStream::connect(bench.dir.path().join("socket")).await.is_err() {
                assert!(!daemon.is_finished(), "the daemon has ended");
                tokio::task::yield_now().await;
            }
            bench
        }

        async fn power(&self, action: PowerAction) {
            let socket = self.dir.path().join("socket");
            let request = Request::Power { board: "b".into(), action };
            tokio::task::spawn_blocking(move || control::ask(&socket, &request)).await.unwrap().unwrap();
        }

        async fn connect(&self) -> Client {
            Client { stream: TcpStream::connect(("127.0.0.1", self.port)).await.unwrap(), heard: Vec::new() }
        }

        /// What the ledger says, without what is said at any time.
        fn ledger(&self) -> Vec<String> {
            let text = fs::read_to_string(self.dir.path().join("state/b/ledger.jsonl")).unwrap();
            let event = |line| match serde_json::from_str::<crate::ledger::Entry>(line).unwrap().event {
                Event::Power { action } => format!("{action:?}"),
                Event::Connected { .. } => "opened".into(),
                Event::Disconnected { .. } => "closed".into(),
                other => format!("{other:?}"),
            };
            text.lines().map(event).filter(|event| !event.starts_with("Stage")).collect()
        }
    }

    /// One that has the port open, and answers timing marks as `telnet` does.
    struct Client {
        stream: TcpStream,
        heard: Vec<u8>,
    }

    impl Client {
        /// Reads until `until` was heard once more, or the port is closed; whether it is open.
        async fn hears(&mut self, until: &str) -> bool {
            self.heard.clear();
            let mut buffer = [0; 256];
            while !String::from_utf8_lossy(&self.heard).contains(until) {
                let size = self.stream.read(&mut buffer).await.unwrap_or(0);
                if size == 0 {
                    return false;
                }
                self.heard.extend(&buffer[..size]);
                if buffer[..size].ends_with(&[255, 253, 6]) {
                    self.stream.write_all(&[255, 251, 6]).await.unwrap();
                }
            }
            true
        }
    }

    /// A power cycle as labs write it, and whether the port was open all the while.
    async fn cycle(bench: &Bench, client: &mut Client) -> bool {
        let commands = async {
            bench.power(PowerAction::Off).await;
            bench.power(PowerAction::On).await;
        };
        tokio::join!(commands, client.hears(HELLO)).1
    }

    /// Switches the board off, and tells whether that ended the connection; the client's end is
    /// let go at once, as `telnet` lets it.
    async fn is_hung_up_by_off(bench: &Bench, mut client: Client) -> bool {
        let end = async move { !client.hears(HELLO).await };
        tokio::join!(end, bench.power(PowerAction::Off)).0
    }

    #[tokio::test]
    async fn power_may_be_late() {
        let bench = Bench::start_late("", "", 300).await;
        let before = std::time::Instant::now();
        bench.power(PowerAction::On).await;
        assert!(before.elapsed() >= Duration::from_millis(300));
        assert_eq!(bench.ledger(), ["On"]);
    }

    #[tokio::test]
    async fn a_port_stays_open_over_power_cycles() {
        let bench = Bench::start("", "").await;
        let mut client = bench.connect().await;
        assert!(cycle(&bench, &mut client).await, "of a board that was off");
        assert!(cycle(&bench, &mut client).await, "of a board that was on");
        assert_eq!(bench.ledger(), ["opened", "Off", "On", "Off", "On"]);
    }

    #[tokio::test]
    async fn a_port_that_vanishes_is_closed_with_the_power_and_there_again_with_it() {
        let bench = Bench::start("port: vanishes with power,", "").await;
        assert!(!bench.connect().await.hears(HELLO).await, "without power there is no port");
        bench.power(PowerAction::On).await;
        let mut client = bench.connect().await;
        assert!(client.hears(HELLO).await, "the board waits until somebody listens");
        assert!(is_hung_up_by_off(&bench, client).await);
        assert!(!bench.connect().await.hears(HELLO).await);
        assert_eq!(bench.ledger(), ["On", "opened", "Off", "closed"]);
    }

    #[tokio::test]
    async fn where_off_is_the_end_the_port_is_hung_up_with_the_power() {
        let bench = Bench::start("", r#""off_is_the_end": true,"#).await;
        let mut client = bench.connect().await;
        let (open, ()) = tokio::join!(client.hears(HELLO), bench.power(PowerAction::Reset));
        assert!(open);
        assert!(is_hung_up_by_off(&bench, client).await);
        assert_eq!(bench.ledger(), ["opened", "Reset", "Off", "closed"]);
    }
}
