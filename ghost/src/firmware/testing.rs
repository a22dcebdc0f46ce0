//! A rig for tests of firmwares: a machine whose serial port the test holds, and
//! a TFTP server with its files.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::Next;
use crate::console::Console;
use crate::ledger::{Entry, Event, Ledger};
use crate::machine::Machine;
use crate::net::Lease;

/// A firmware at work, and the test on its serial port.
pub struct Rig {
    far: DuplexStream,
    seen: Vec<u8>,
    firmware: JoinHandle<Next>,
    dir: tempfile::TempDir,
}

impl Rig {
    /// Starts the board of a `ghost.yaml`.
    pub async fn start(yaml: &str) -> Self {
        let (board, firmware) = super::load("board-01", yaml).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
        let (console, far) = Console::pipe(ledger.clone());
        console.connected().await;
        let lease = Lease::new("board-01", Ipv4Addr::LOCALHOST.into());
        let mut machine = Machine::new(Arc::new(board), lease, vec![console], ledger);
        let firmware = tokio::spawn(async move { firmware.run(&mut machine).await });
        Self { far, seen: Vec::new(), firmware, dir }
    }

    /// Waits for `text`, and returns all that came before it.
    pub async fn expect(&mut self, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let all = String::from_utf8_lossy(&self.seen).into_owned();
            if let Some(at) = all.find(text) {
                self.seen = all.as_bytes()[at + text.len()..].to_vec();
                return all[..at].to_owned();
            }
            let mut buffer = [0; 4096];
            match tokio::time::timeout_at(deadline, self.far.read(&mut buffer)).await {
                Ok(Ok(size)) if size > 0 => self.seen.extend_from_slice(&buffer[..size]),
                _ => panic!("waited for {text:?}, saw {all:?}"),
            }
        }
    }

    /// Types keys.
    pub async fn type_keys(&mut self, keys: &str) {
        self.far.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Types a line and returns what is printed up to `prompt`.
    pub async fn command(&mut self, line: &str, prompt: &str) -> String {
        self.type_keys(&format!("{line}\r")).await;
        self.expect("\r\n").await;
        self.expect(prompt).await
    }

    /// Where the firmware ended.
    pub async fn end(self) -> Next {
        tokio::time::timeout(Duration::from_secs(10), self.firmware).await.unwrap().unwrap()
    }

    /// What the ledger has.
    pub fn ledger(&self) -> Vec<Event> {
        let text = std::fs::read_to_string(self.dir.path().join("ledger.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap().event).collect()
    }

    /// Names of the violations in the ledger.
    pub fn violations(&self) -> Vec<String> {
        let what = |event| match event {
            Event::Violation { what, .. } => Some(what),
            _ => None,
        };
        self.ledger().into_iter().filter_map(what).collect()
    }
}

/// Serves `files` by TFTP (RFC 1350, without options) on a port of its own;
/// returns `127.0.0.1:PORT`.
pub async fn tftp_server(files: HashMap<String, Vec<u8>>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((size, peer)) = socket.recv_from(&mut packet).await {
            let name = packet[2..size].split(|byte| *byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(name).unwrap();
            if name.contains("..") {
                socket.send_to(b"\0\x05\0\x02Access violation\0", peer).await.unwrap();
                continue;
            }
            let file = files.get(name).cloned();
            tokio::spawn(async move {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let Some(file) = file else {
                    socket.send_to(b"\0\x05\0\x01File not found\0", peer).await.unwrap();
                    return;
                };
                for (number, block) in
                    (1_u16..).zip(file.chunks(512).chain(file.len().is_multiple_of(512).then_some(&[][..])))
                {
                    let mut data = vec![0, 3];
                    data.extend(number.to_be_bytes());
                    data.extend(block);
                    socket.send_to(&data, peer).await.unwrap();
                    let mut ack = [0; 4];
                    socket.recv_from(&mut ack).await.unwrap();
                }
            });
        }
    });
    address
}
