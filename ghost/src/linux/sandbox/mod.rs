//! A sandbox for a board's userland: the tree that LAVA served runs in it, its
//! own `/init` as PID 1, on a terminal that is the board's serial port.
//!
//! In there is nothing of the worker but its kernel: the root is a tmpfs of its
//! own, and processes, network, IPC, host name and mounts are those of new
//! namespaces (`namespaces(7)`). The one way out is a [`Gateway`], which is the
//! daemon's. Root keeps the few capabilities that a userland needs in a world of
//! its own, and none that reaches out of it.
//!
//! It takes `CAP_SYS_ADMIN`, and in a container of Docker `CAP_SYS_BOOT` too if
//! `reboot` is to work: its seccomp profile asks for it. The
//! executable that calls [`run`] must call [`main`] when its first argument is
//! [`ARGUMENT`]: the namespaces are made in a process of one thread, so the
//! daemon executes itself. As that process lives and dies with the pipe to it,
//! it goes when the daemon goes, however that ends.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use meta_lava_formats::tree::{NodeKind, Tree};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedWriteHalf, pipe};

use super::gateway::Gateway;
pub use super::kernel_log::Clock;
use crate::console::Console;
use crate::disk::Disk;
use crate::pty::{self, Pty};

mod contained;
mod enter;
mod inside;
mod kexec;
mod kmsg;
mod mounting;
mod network;
mod rights;
mod spec;
mod typing;

pub(crate) use contained::PATH;
pub use enter::{ARGUMENT as ENTER, Entered, enter, entering, main as enter_main};
pub use kexec::Loaded;
use kmsg::Kmsg;
use spec::{Answer, Export, Header, Spec, Status};
pub use spec::{BlockDevice, Container, Init, Mount, NamedBy, NotRun, Program};
use typing::{Terminal, Typing};

/// The hidden first argument of a `ghost` that is a sandbox's own process.
pub const ARGUMENT: &str = "__sandbox";

/// Room in a root file system beside what LAVA served, in bytes.
const SPARE_BYTES: u64 = 256 << 20;
/// Likewise, in files.
const SPARE_INODES: u64 = 32 << 10;
/// tmpfs gives out memory by the page.
const PAGE: u64 = 4096;
/// Nodes go to the sandbox in pieces of this size, or larger.
const PIECE: usize = 64 << 10;
/// How long a sandbox may take to die once it was killed.
const DEATH: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Userland {
    /// Name of the host.
    pub hostname: String,
    /// What `/proc/cmdline` says; `console=` in it names the serial port.
    pub cmdline: String,
    /// Programs to try as PID 1, in order.
    pub inits: Vec<Init>,
    /// What the kernel prints before each of its lines.
    pub prefix: String,
    /// The time of the kernel's lines after these.
    pub clock: Clock,
    /// What is different where it is a container's and no board's.
    pub container: Option<Container>,
    /// A board's disks.
    pub disks: Vec<Disk>,
}

impl Userland {
    /// That of a container.
    #[must_use]
    pub fn container(hostname: String, container: Container) -> Self {
        Self {
            hostname,
            cmdline: String::new(),
            inits: Vec::new(),
            prefix: String::new(),
            clock: Clock::default(),
            container: Some(container),
            disks: Vec::new(),
        }
    }
}

/// What is told of a sandbox before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// This is its PID 1, seen from the worker.
    Begun(i32),
    /// It runs. Only of a container.
    Running,
}

/// What a sandbox's process says before it ends.
enum Said {
    Told(Told),
    /// It waits for what a server exports.
    Asks(Export),
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// `reboot(2)`: restart.
    Reboot,
    /// `reboot(2)`: power off, or halt; they look the same from here.
    PowerOff,
    /// kexec: this kernel is started.
    Kexec(Box<Loaded>),
    /// PID 1 ended, which is the end of a kernel; its wait status.
    Exited(i32),
    /// No program could be run as PID 1; the kernel's last words on that.
    NoInit(String),
    /// The program of a container can't be run.
    NotRun(NotRun),
    /// There was no sandbox; why.
    Refused(String),
}

impl End {
    /// The end that the sandbox's process, `pid`, tells of. `pid_namespaces(7)`: what reboot(2) was asked for is the signal that
    /// PID 1 died of.
    fn of(status: Status, pid: u32) -> Result<Self, Said> {
        Ok(match status {
            Status::Kexec => match kexec::read(pid) {
                Ok(loaded) => Self::Kexec(Box::new(loaded)),
                Err(error) => Self::Refused(format!("what was loaded by kexec can't be read: {error}")),
            },
            Status::Refused(why) => Self::Refused(why),
            Status::NoInit(panic) => Self::NoInit(panic),
            Status::NotRun(why) => Self::NotRun(why),
            Status::Ended(libc::SIGHUP) => Self::Reboot,
            Status::Ended(libc::SIGINT) => Self::PowerOff,
            Status::Ended(status) => Self::Exited(status),
            Status::Begun(pid) => return Err(Said::Told(Told::Begun(pid))),
            Status::Running => return Err(Said::Told(Told::Running)),
            Status::Asks(export) => return Err(Said::Asks(export)),
        })
    }
}

/// The process that sets a sandbox up and waits for it: `ghost __sandbox`.
#[must_use]
pub fn main() -> ExitCode {
    inside::main()
}

/// Runs `tree` on `console` until it ends, with `gateway` for all that it reaches by its
/// network. When the future is dropped, all of the sandbox is gone before the drop returns.
pub async fn run(userland: Userland, tree: Tree, gateway: Option<Gateway>, console: &mut Console) -> End {
    run_and_tell(userland, tree, gateway, console, &mut |_| {}).await
}

/// The same, and says how far it is.
pub async fn run_and_tell(
    userland: Userland,
    tree: Tree,
    gateway: Option<Gateway>,
    console: &mut Console,
    tell: &mut (dyn FnMut(Told) + Send),
) -> End {
    match Guest::start() {
        Ok(guest) => guest.run(userland, tree, gateway, console, tell).await,
        Err(error) => End::Refused(error.to_string()),
    }
}

struct Guest {
    process: Process,
    master: AsyncFd<File>,
    /// As long as this is open, the board may close its terminal without our noticing.
    slave: OwnedFd,
    terminal: String,
}

/// The sandbox's own process, which is killed by letting go of its standard input.
struct Process {
    child: Child,
    input: Option<UnixStream>,
    /// Its standard error; ends when all of the sandbox has ended.
    status: Option<pipe::Receiver>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        if let Some(status) = &self.status {
            // What is yet to read does not matter: only the end wakes this.
            let mut fds = [PollFd::new(status.as_fd(), PollFlags::empty())];
            let timeout = PollTimeout::try_from(DEATH).unwrap_or(PollTimeout::MAX);
            if !matches!(poll(&mut fds, timeout), Ok(1..)) {
                tracing::error!(pid = self.child.id(), "a sandbox does not die; killing its process");
                let _ = self.child.kill();
            }
        }
        if let Err(error) = self.child.wait() {
            tracing::error!(%error, "could not wait for a sandbox");
        }
    }
}

impl Guest {
    fn start() -> io::Result<Self> {
        let Pty { master, terminal: slave, path: terminal } = pty::open(OFlag::O_NONBLOCK)?;
        // SAFETY: the file is owned, and stays in there until it is closed.
        let master = unsafe { AsyncFd::register(File::from(master)) }?;
        let (input, theirs) = StdUnixStream::pair()?;
        input.set_nonblocking(true)?;
        let mut child = Command::new("/proc/self/exe")
            .arg0("ghost")
            .arg(ARGUMENT)
            // No folder is set: with one, the standard library forks (and copies the daemon's
            // page tables), and without it spawns. The process sees to that itself.
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(slave.try_clone()?)
            .stderr(Stdio::piped())
            .spawn()?;
        let status = child.stderr.take();
        // From here on the process is ended whatever fails.
        let mut process = Process { child, input: None, status: None };
        process.input = Some(UnixStream::from_std(input)?);
        process.status = status.map(|status| pipe::Receiver::from_owned_fd(status.into())).transpose()?;
        Ok(Self { process, master, slave, terminal })
    }

    async fn run(
        mut self,
        userland: Userland,
        tree: Tree,
        gateway: Option<Gateway>,
        console: &mut Console,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> End {
        // A container has no kernel of its own.
        let is_board = userland.container.is_none();
        let mut kmsg = Kmsg::new(userland.clock.clone());
        let mut pass = |bytes: &[u8], more| if is_board { kmsg.pass(bytes, more) } else { bytes.to_vec() };
        let end = self.serve(userland, tree, gateway, &mut pass, console, tell).await;
        // What was printed last is still on its way; when nobody has the other
        // side open any more, all of it has come.
        let Self { process, master, slave, .. } = self;
        drop(process);
        drop(slave);
        let mut buffer = [0; 4096];
        loop {
            match read(&master, &mut buffer).await {
                Ok(size) if size > 0 => console.send(&pass(&buffer[..size], size == buffer.len())).await,
                _ => return end,
            }
        }
    }

    /// Feeds the process, and carries what is typed and printed, until the status comes.
    async fn serve(
        &mut self,
        userland: Userland,
        tree: Tree,
        gateway: Option<Gateway>,
        pass: &mut (dyn FnMut(&[u8], bool) -> Vec<u8> + Send),
        console: &mut Console,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> End {
        let server = gateway.as_ref().map(Gateway::server);
        let contents: Vec<Arc<Tree>> = userland.disks.iter().filter_map(Disk::content).collect();
        let spec = spec(userland, &tree, &contents, &self.terminal, server);
        let process = self.process.child.id();
        let (Some(input), Some(status)) = (self.process.input.take(), &mut self.process.status) else {
            return End::Refused("no pipe to the sandbox".into());
        };
        let (said, input) = input.into_split();
        let network = serve_network(gateway.clone(), said.as_ref());
        tokio::pin!(network);
        // What goes there, one behind the other: what it needs to start, and its answers.
        let mut feeding: Option<Feeding> = Some(Box::pin(feed(input, spec, tree, contents)));
        let mut fed = None;
        let mut status = BufReader::new(status).lines();
        let mut typing = Typing::default();
        let terminal = Terminal { master: self.master.get_ref(), slave: &self.slave, process };
        let mut buffer = [0; 4096];
        let mut last_words = String::new();
        loop {
            tokio::select! {
                // The pipe is kept: its end is the sandbox's. Where there is an
                // error the process says why it reads no further.
                pipe = now(&mut feeding), if feeding.is_some() => (feeding, fed) = (None, pipe.ok()),
                result = read(&self.master, &mut buffer) => match result {
                    Ok(size) => {
                        typing.printed();
                        console.send(&pass(&buffer[..size], size == buffer.len())).await;
                    }
                    Err(error) => return End::Refused(format!("the console broke: {error}")),
                },
                bytes = console.recv(), if typing.has_room() => {
                    typing.extend(&bytes);
                    console.act_on_typed().await;
                },
                result = type_next(&self.master, &typing, &terminal), if !typing.is_empty() => match result {
                    Ok(size) => typing.written(size),
                    Err(error) => return End::Refused(format!("the console broke: {error}")),
                },
                never = &mut network => match never {},
                line = status.next_line() => match line {
                    Ok(Some(line)) => match serde_json::from_str(&line) {
                        Ok(status) => match End::of(status, process) {
                            Ok(end) => return end,
                            Err(Said::Told(told)) => tell(told),
                            Err(Said::Asks(export)) => {
                                // It asks when it runs, and so has got all that it needs to start.
                                let pipe = match feeding.take() {
                                    Some(feeding) => feeding.await.ok(),
                                    None => fed.take(),
                                };
                                feeding = pipe.map(|pipe| -> Feeding {
                                    Box::pin(answer(pipe, gateway.clone(), export))
                                });
                            }
                        },
                        // A panic, or the dynamic loader.
                        Err(_) => last_words = line,
                    },
                    _ => return End::Refused(format!("its process ended: {last_words}")),
                },
            }
        }
    }
}

/// Something that goes to the process, and the pipe once it has gone.
type Feeding = Pin<Box<dyn Future<Output = io::Result<OwnedWriteHalf>> + Send>>;

/// What goes there now, to be waited for only where there is something.
async fn now(feeding: &mut Option<Feeding>) -> io::Result<OwnedWriteHalf> {
    match feeding {
        Some(feeding) => feeding.await,
        None => std::future::pending().await,
    }
}

/// Answers a board that mounts what a server exports.
async fn answer(
    mut to: OwnedWriteHalf,
    gateway: Option<Gateway>,
    Export { server, path }: Export,
) -> io::Result<OwnedWriteHalf> {
    let found = match gateway {
        Some(gateway) => gateway.export(server, &path).await,
        None => Err(Errno::ENETUNREACH),
    };
    let mut bytes = Vec::new();
    let answer: Answer = found.as_ref().map(drop).map_err(|error| *error as i32);
    spec::put(&mut bytes, &answer)?;
    if let Ok(tree) = found {
        for (header, content) in tree.nodes.into_iter().filter_map(Header::of) {
            spec::put(&mut bytes, &header)?;
            bytes.extend_from_slice(&content);
        }
        spec::put_end(&mut bytes);
    }
    to.write_all(&bytes).await?;
    Ok(to)
}

/// What the process needs to know.
fn spec(
    userland: Userland,
    tree: &Tree,
    contents: &[Arc<Tree>],
    terminal: &str,
    server: Option<SocketAddrV4>,
) -> Spec {
    let nodes = || contents.iter().flat_map(|tree| &tree.nodes).chain(&tree.nodes);
    let content: u64 = nodes()
        .map(|node| match &node.kind {
            NodeKind::File(content) => (content.len() as u64).next_multiple_of(PAGE),
            _ => PAGE,
        })
        .sum();
    let hostname: String = userland
        .hostname
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .take(63)
        .collect();
    Spec {
        hostname,
        ports: ports(&userland.cmdline),
        cmdline: userland.cmdline,
        terminal: terminal.to_owned(),
        server,
        inits: userland.inits,
        prefix: userland.prefix,
        bytes: content + SPARE_BYTES,
        inodes: nodes().count() as u64 + SPARE_INODES,
        container: userland.container,
        disks: userland.disks.iter().map(Disk::device).collect(),
    }
}

/// The devices that `console=` names on a kernel command line.
fn ports(cmdline: &str) -> Vec<String> {
    let mut ports: Vec<String> = cmdline
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("console="))
        .map(|value| value.split(',').next().unwrap_or_default())
        .filter(|name| name.starts_with("tty") && name.len() < 32)
        .filter(|name| *name != "tty" && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .map(str::to_owned)
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

/// Sends all that the process needs to start, and returns the pipe.
async fn feed(
    mut to: OwnedWriteHalf,
    spec: Spec,
    tree: Tree,
    disks: Vec<Arc<Tree>>,
) -> io::Result<OwnedWriteHalf> {
    let mut piece = Vec::with_capacity(2 * PIECE);
    spec::put(&mut piece, &spec)?;
    let disks = disks.iter().flat_map(|tree| tree.nodes.iter().cloned().map(Some).chain([None]));
    for node in tree.nodes.into_iter().map(Some).chain([None]).chain(disks) {
        let Some(node) = node else {
            spec::put_end(&mut piece);
            continue;
        };
        let Some((header, content)) = Header::of(node) else { continue };
        spec::put(&mut piece, &header)?;
        if content.len() < PIECE {
            piece.extend_from_slice(&content);
        } else {
            to.write_all(&piece).await?;
            piece.clear();
            to.write_all(&content).await?;
        }
        if piece.len() >= PIECE {
            to.write_all(&piece).await?;
            piece.clear();
        }
    }
    to.write_all(&piece).await?;
    Ok(to)
}

/// Answers for the server that the board reaches, as soon as it has a network.
async fn serve_network(gateway: Option<Gateway>, sandbox: &UnixStream) -> Infallible {
    if let Some(gateway) = gateway {
        match network::listener(sandbox).await {
            Ok(listener) => match gateway.serve(listener).await {},
            Err(error) => tracing::warn!(%error, "a board has no network"),
        }
    }
    std::future::pending().await
}

async fn read(from: &AsyncFd<File>, buffer: &mut [u8]) -> io::Result<usize> {
    from.async_io(tokio::io::Interest::READABLE, |mut file| file.read(buffer)).await
}

/// Types what is next as soon as its place is certain.
async fn type_next(to: &AsyncFd<File>, typing: &Typing, terminal: &Terminal<'_>) -> io::Result<usize> {
    typing.allowed(terminal).await;
    write(to, typing.next()).await
}

async fn write(to: &AsyncFd<File>, bytes: &[u8]) -> io::Result<usize> {
    to.async_io(tokio::io::Interest::WRITABLE, |mut file| file.write(bytes)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_port_has_the_names_of_the_command_line() {
        let cmdline =
            "console=tty console=ttyS0,115200n8 root=/dev/ram0 console=ttyAMA0 console=../x console=ttyS0";
        assert_eq!(ports(cmdline), ["ttyAMA0", "ttyS0"]);
    }
}
