//! What ghosts cost that do nothing, and how fast their lines are: measured here, beside
//! no LAVA, with the daemon that a worker has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use meta_lava_ghost::control::{self, Request};
use meta_lava_ghost::daemon::{Lab, LabBoard};
use meta_lava_ghost::ledger::PowerAction;
use meta_lava_ghost::net::tftp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, Command};

use crate::error::{Error, Result};
use crate::scenario::{Matrix, Role};

/// Boards of the daemon whose memory is measured.
const BOARDS: usize = 500;
/// Bytes that a board prints.
const CONSOLE: usize = 16 << 20;
/// Bytes of the file that a board fetches.
const FILE: usize = 64 << 20;
/// Telnet's timing mark: `IAC DO` and `IAC WONT`.
const DO_MARK: [u8; 3] = [255, 253, 6];
const WONT_MARK: [u8; 3] = [255, 252, 6];
/// How long anything in here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether the daemon is up.
const LOOK: Duration = Duration::from_millis(10);
/// How often a daemon is started anew, because somebody took one of its ports meanwhile.
const TRIES: usize = 3;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ghosts {
    /// Boards of the daemon, all of them off.
    pub boards: usize,
    /// Memory of it that is its own, with its share of what it has in common with others, in bytes.
    pub memory_pss: u64,
    /// All memory of it that is in use, in bytes.
    pub memory_rss: u64,
    /// Bytes each second of one board's console, over TCP.
    pub console: f64,
    /// Bytes each second of a file that a board fetches by TFTP, over loopback.
    pub tftp: f64,
}

/// Measures all of it.
///
/// # Errors
/// [`Error::Usage`] for a matrix without boards, [`Error::Infrastructure`] when a daemon
/// can't be started or does not do what it should.
pub async fn measure(matrix: &Matrix) -> Result<Ghosts> {
    let (memory_pss, memory_rss) = memory(matrix).await?;
    Ok(Ghosts { boards: BOARDS, memory_pss, memory_rss, console: console().await?, tftp: tftp().await? })
}

fn failed(what: &str, why: impl std::fmt::Display) -> Error {
    Error::failed(what, why)
}

async fn in_time<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(failed(what, format!("it took more than {} s", PATIENCE.as_secs()))))
}

/// Memory of a daemon with many boards of all kinds that the matrix has.
async fn memory(matrix: &Matrix) -> Result<(u64, u64)> {
    let sources: Vec<&str> =
        matrix.scenarios.iter().flat_map(|scenario| &scenario.roles).map(Role::ghost).collect();
    if sources.is_empty() {
        return Err(Error::Usage("no scenario has a board".into()));
    }
    let boards: Vec<(String, &str)> = sources
        .iter()
        .cycle()
        .take(BOARDS)
        .enumerate()
        .map(|(number, text)| (format!("board-{number}"), *text))
        .collect();
    let daemon = Daemon::start(&boards).await?;
    daemon.memory()
}

/// Bytes each second of a board's console.
async fn console() -> Result<f64> {
    // Lines as a board prints them; the last one is known by its end.
    let lines = "0123456789abcdef".repeat(16) + "\n";
    let steps: Vec<_> = (0..CONSOLE.div_ceil(1 << 20))
        .map(|_| serde_json::json!({ "print": lines.repeat((1 << 20) / lines.len()) }))
        .chain([serde_json::json!({ "print": "the end\n" })])
        .collect();
    let board = serde_json::json!({
        "model": "a board that talks",
        "memory": { "base": 0, "mib": 16 },
        "firmware": { "kind": "script", "steps": steps },
    });
    // JSON is YAML.
    let daemon = Daemon::start(&[("talker".to_owned(), board.to_string().as_str())]).await?;
    in_time("read a board's console", daemon.read_console()).await
}

/// A daemon of ghosts that is a child of ours, and dies with this.
struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
    lab: Lab,
}

impl Daemon {
    /// Starts one with these boards: names and what they are.
    async fn start(boards: &[(String, &str)]) -> Result<Self> {
        let mut last = String::new();
        for _ in 0..TRIES {
            match Self::try_start(boards).await? {
                Ok(daemon) => return Ok(daemon),
                Err(why) => last = why,
            }
        }
        Err(failed("start `ghost daemon`", last))
    }

    /// The inner error is one that another try may not have.
    async fn try_start(boards: &[(String, &str)]) -> Result<Result<Self, String>> {
        let what = "start `ghost daemon`";
        let folder = tempfile::Builder::new()
            .prefix("meta-lava-bench-")
            .tempdir()
            .map_err(|error| failed(what, error))?;
        let (mut lab, mut held) = (Lab { boards: Vec::new(), pace: None, late_power_ms: 0 }, Vec::new());
        open_files()?;
        std::fs::create_dir(folder.path().join("boards")).map_err(|error| failed(what, error))?;
        for (name, text) in boards {
            // A port that is free now; it is let go right before the daemon takes it.
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| failed(what, error))?;
            let port = listener.local_addr().map_err(|error| failed(what, error))?.port();
            held.push(listener);
            let (name, consoles) = (name.clone(), vec![port]);
            lab.boards.push(LabBoard { name: name.clone(), consoles, off_is_the_end: true, guest: None });
            let path = folder.path().join("boards").join(format!("{name}.yaml"));
            std::fs::write(path, text).map_err(|error| failed(what, error))?;
        }
        let text = serde_json::to_string(&lab).map_err(|error| failed(what, error))?;
        std::fs::write(folder.path().join("lab.json"), text).map_err(|error| failed(what, error))?;
        drop(held);
        let log = std::fs::File::create(folder.path().join("log")).map_err(|error| failed(what, error))?;
        let executable = std::env::current_exe().map_err(|error| failed(what, error))?;
        let mut command = std::process::Command::new(executable);
        command
            .arg0("ghost")
            .arg("daemon")
            .args(["--server", "127.0.0.1", "--lab"])
            .arg(folder.path())
            .arg("--state")
            .arg(folder.path().join("state"))
            .arg("--socket")
            .arg(socket(folder.path()))
            .env_remove("GHOST_PACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = Command::from(command).kill_on_drop(true).spawn().map_err(|error| failed(what, error))?;
        let mut daemon = Self { child, folder, lab };
        let ready = async {
            loop {
                // The socket is the last thing that a daemon makes.
                if socket(daemon.folder.path()).exists() {
                    return Ok(None);
                }
                if let Some(status) = daemon.child.try_wait().map_err(|error| failed(what, error))? {
                    let said = std::fs::read_to_string(daemon.folder.path().join("log")).unwrap_or_default();
                    return Ok(Some(format!("{status}: {}", crate::stack::docker::objects::tail(&said, 3))));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        Ok(match in_time(what, ready).await? {
            None => Ok(daemon),
            Some(why) => Err(why),
        })
    }

    /// Its memory, in bytes: PSS and RSS.
    fn memory(&self) -> Result<(u64, u64)> {
        let pid = self.child.id().unwrap_or_default();
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).map_err(|error| failed(&format!("read {path}"), error))?;
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .map(|kib| kib * 1024)
                .ok_or_else(|| failed(&format!("read {path}"), format!("it has no {name}")))
        };
        Ok((kib("Pss:")?, kib("Rss:")?))
    }

    /// Switches its first board on and reads its console to the end, as fast as it comes.
    async fn read_console(&self) -> Result<f64> {
        let what = "read a board's console";
        let board = self.lab.boards.first().ok_or_else(|| failed(what, "there is no board"))?;
        let port = board.consoles.first().copied().unwrap_or_default();
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| failed(what, error))?;
        let request = Request::Power { board: board.name.clone(), action: PowerAction::On };
        let path = socket(self.folder.path());
        let powered = tokio::task::spawn_blocking(move || control::ask(&path, &request));
        let mut buffer = vec![0; 64 << 10];
        let (mut first, mut read, mut end) = (None, 0, Vec::new());
        while !end.ends_with(b"the end\r\n") && !end.ends_with(b"the end\n") {
            let size = stream.read(&mut buffer).await.map_err(|error| failed(what, error))?;
            if size == 0 {
                return Err(failed(what, format!("it ended after {read} bytes")));
            }
            let come = &buffer[..size];
            // The port asks whether all has arrived that was typed (RFC 860), before it
            // lets the power on.
            if come.windows(DO_MARK.len()).any(|bytes| bytes == DO_MARK) {
                stream.write_all(&WONT_MARK).await.map_err(|error| failed(what, error))?;
            }
            // From the first of the board's own bytes on: what came before is telnet's.
            if first.is_none() && come.contains(&b'0') {
                first = Some(Instant::now());
            }
            read += size;
            end.extend_from_slice(&buffer[..size]);
            end.drain(..end.len().saturating_sub(16));
        }
        let took = first.map_or(Duration::ZERO, |first| first.elapsed());
        powered.await.map_err(|error| failed(what, error))?.map_err(|error| failed(what, error))?;
        rate(what, read, took)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn socket(folder: &Path) -> std::path::PathBuf {
    folder.join("control.sock")
}

#[allow(clippy::cast_precision_loss)] // Megabytes.
fn rate(what: &str, bytes: usize, took: Duration) -> Result<f64> {
    if bytes < CONSOLE.min(FILE) {
        return Err(failed(what, format!("only {bytes} bytes came")));
    }
    Ok(bytes as f64 / took.as_secs_f64().max(f64::EPSILON))
}

/// As many open files as the system allows: a board has three of them.
fn open_files() -> Result<()> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most))
        .map_err(|error| failed("open many files", error))
}

/// Bytes each second of a file that the boards' own client fetches over loopback.
async fn tftp() -> Result<f64> {
    let what = "fetch a file by TFTP";
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| failed(what, error))?;
    let address = socket.local_addr().map_err(|error| failed(what, error))?;
    let server = tokio::spawn(serve(socket, FILE));
    let fetch = async {
        let begun = Instant::now();
        let options = tftp::Options { limit: FILE, ..tftp::Options::default() };
        let file =
            tftp::get(&address.to_string(), "file", &options).await.map_err(|error| failed(what, error))?;
        rate(what, file.len(), begun.elapsed())
    };
    let found = in_time(what, fetch).await;
    server.abort();
    found
}

/// A server of one file for one client that loses nothing (RFC 1350, 2347, 2348, 2349).
async fn serve(socket: UdpSocket, size: usize) -> std::io::Result<()> {
    const OPTIONS: [u8; 2] = [0, 6];
    const DATA: [u8; 2] = [0, 3];
    let mut buffer = [0; 2048];
    let (length, client) = socket.recv_from(&mut buffer).await?;
    let request: Vec<String> =
        buffer[2..length].split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into()).collect();
    let asked = request.iter().position(|word| word == "blksize").and_then(|at| request.get(at + 1));
    let block: usize = asked.and_then(|size| size.parse().ok()).unwrap_or(512);
    // A port of its own for the transfer.
    let transfer = UdpSocket::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
    transfer.connect(client).await?;
    let mut packet = OPTIONS.to_vec();
    packet.extend(format!("blksize\0{block}\0tsize\0{size}\0").bytes());
    transfer.send(&packet).await?;
    transfer.recv(&mut buffer).await?;
    for number in 0..=size / block {
        let payload = block.min(size - number * block);
        packet.clear();
        packet.extend(DATA);
        // Block numbers begin at 1, and wrap.
        #[allow(clippy::cast_possible_truncation)]
        packet.extend((number as u16).wrapping_add(1).to_be_bytes());
        packet.resize(4 + payload, 0);
        transfer.send(&packet).await?;
        transfer.recv(&mut buffer).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_boards_client_fetches_all_of_the_file() {
        assert!(tftp().await.unwrap() > 0.0);
    }

    #[test]
    fn what_came_short_has_no_rate() {
        assert!(rate("x", 5, Duration::from_secs(1)).is_err());
        assert!(rate("x", FILE * 2, Duration::from_secs(2)).unwrap() >= 1.0);
    }
}
