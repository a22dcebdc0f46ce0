//! A bench for tests of tools: a daemon with one board, `b`, that is switched on.

use std::fs;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::Tool;
use crate::control::{self, Request};
use crate::ledger::{Entry, Event, PowerAction};

/// What came of a tool.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// Calls a tool with the words of `line`.
pub fn called(tool: &Tool, line: &str, socket: &Path) -> Found {
    called_as(tool, tool.names[0], &words(line), socket)
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn called_as(tool: &Tool, name: &str, args: &[String], socket: &Path) -> Found {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = tool.call_with(name, args, socket, &mut out, &mut err).unwrap();
    Found { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// See above.
pub struct Bench {
    dir: tempfile::TempDir,
    port: u16,
    listener: tokio::task::JoinHandle<()>,
}

impl Bench {
    /// Starts a daemon with the board of `yaml`, in which `FOLDER` is a folder for its storage, and
    /// switches the board on.
    pub async fn start(yaml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("boards")).unwrap();
        let storage = dir.path().join("storage");
        let yaml = yaml.replace("FOLDER", &storage.display().to_string());
        fs::write(dir.path().join("boards/b.yaml"), yaml).unwrap();
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let lab = format!(r#"{{"boards": [{{"name": "b", "consoles": [{port}]}}]}}"#);
        fs::write(dir.path().join("lab.json"), lab).unwrap();
        let settings = crate::daemon::Settings {
            lab: dir.path().into(),
            state: dir.path().join("state"),
            socket: dir.path().join("socket"),
            server: [127, 0, 0, 1].into(),
            pace: None,
        };
        let daemon = tokio::spawn(async move { crate::daemon::run(&settings).await.unwrap() });
        while UnixStream::connect(dir.path().join("socket")).await.is_err() {
            assert!(!daemon.is_finished(), "the daemon has ended");
            tokio::task::yield_now().await;
        }
        let bench = Self { dir, port, listener: listener(port) };
        bench.power(PowerAction::On).await;
        bench
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// A file to send.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub async fn call(&self, tool: &'static Tool, line: &str) -> Found {
        self.call_with(tool, words(line)).await
    }

    pub async fn call_with(&self, tool: &'static Tool, args: Vec<String>) -> Found {
        self.call_as(tool, tool.names[0], args).await
    }

    /// The same by one of the tool's other names.
    pub async fn call_as(&self, tool: &'static Tool, name: &'static str, args: Vec<String>) -> Found {
        let socket = self.socket();
        tokio::task::spawn_blocking(move || called_as(tool, name, &args, &socket)).await.unwrap()
    }

    /// Ends the connection to the board's serial port, and returns when the board knows.
    pub async fn hang_up(&self) {
        self.listener.abort();
        let path = self.dir.path().join("state/b/ledger.jsonl");
        while !fs::read_to_string(&path).unwrap().contains("disconnected") {
            tokio::task::yield_now().await;
        }
    }

    /// Opens it again.
    pub fn listen(&mut self) {
        self.listener = listener(self.port);
    }

    /// Has the board reset; done when its power command has come back.
    pub fn reset(&self) -> tokio::task::JoinHandle<std::io::Result<StdStream>> {
        self.ask(Request::Power { board: "b".into(), action: PowerAction::Reset })
    }

    fn ask(&self, request: Request) -> tokio::task::JoinHandle<std::io::Result<StdStream>> {
        let socket = self.socket();
        tokio::task::spawn_blocking(move || control::ask(&socket, &request))
    }

    async fn power(&self, action: PowerAction) {
        self.ask(Request::Power { board: "b".into(), action }).await.unwrap().unwrap();
    }

    pub async fn power_off(&self) {
        self.power(PowerAction::Off).await;
    }

    /// Sets the switch that has the boot ROM wait for a program, resets the board, and returns when it waits.
    pub async fn recovery(&self) {
        self.ask(Request::Switch { board: "b".into(), recovery: true }).await.unwrap().unwrap();
        self.power(PowerAction::Reset).await;
        loop {
            let socket = self.socket();
            let there = tokio::task::spawn_blocking(move || control::present(&socket));
            if !there.await.unwrap().unwrap().is_empty() {
                return;
            }
        }
    }

    /// Switches the board on once a tool has asked for it.
    pub async fn power_on_once_watched(&self) {
        while !self.ledger().iter().any(|event| event.starts_with("tool ")) {
            tokio::task::yield_now().await;
        }
        self.power(PowerAction::On).await;
    }

    /// Tools and files of the ledger, and violations.
    pub fn ledger(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("state/b/ledger.jsonl")).unwrap();
        let event = |line| match serde_json::from_str::<Entry>(line).unwrap().event {
            Event::Tool { tool, args } => Some(format!("tool {tool} {}", args.join(" "))),
            Event::File { path, size, load, .. } => Some(format!("sent {path} {size} {load}")),
            Event::Violation { what, detail } => Some(format!("violation {what} {detail}")),
            _ => None,
        };
        text.lines().filter_map(event).collect()
    }
}

/// Opens the board's serial `port`, and answers timing marks as `telnet` does.
fn listener(port: u16) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { listen(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await })
}

async fn listen(mut port: TcpStream) {
    let mut buffer = [0; 256];
    while let Ok(size @ 1..) = port.read(&mut buffer).await {
        if buffer[..size].windows(3).any(|found| found == [255, 253, 6]) {
            port.write_all(&[255, 251, 6]).await.unwrap();
        }
    }
}
