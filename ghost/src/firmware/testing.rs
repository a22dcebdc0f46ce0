//! A bench for tests of firmwares: a machine with somebody at its serial port, and a TFTP
//! server with its files.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, broadcast};
use tokio::task::JoinHandle;

use super::{BootImage, Firmware, Next};
use crate::console::Console;
use crate::fault::Faults;
use crate::ledger::{Entry, Event, Ledger};
use crate::machine::{Invocation, Machine, Reason};
use crate::net::Lease;
use crate::peripheral::{Answer, Bus, Data, Mode};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A powered machine, and somebody at its serial port.
pub struct Bench {
    dir: tempfile::TempDir,
    firmware: Arc<dyn Firmware>,
    machine: Arc<Mutex<Machine>>,
    /// The machine's USB side.
    pub bus: Bus,
    there: DuplexStream,
    heard: String,
    running: JoinHandle<Next>,
}

impl Bench {
    /// Powers the machine of a board's file.
    pub async fn start(yaml: &str) -> Self {
        Self::start_on(yaml, lease(), None).await
    }

    /// Powers the machine of a board's file as the tool of `invocation` does.
    pub async fn start_as(yaml: &str, invocation: Invocation) -> Self {
        Self::start_on(yaml, lease(), Some(invocation)).await
    }

    /// Powers the machine of a board's file in a lab whose servers all have the port of
    /// `server` for TFTP: for firmware that takes an address only.
    pub async fn start_beside(server: &str, yaml: &str) -> Self {
        let port = server.rsplit(':').next().unwrap().parse().unwrap();
        Self::start_on(yaml, Lease { tftp_port: port, ..lease() }, None).await
    }

    async fn start_on(yaml: &str, lease: Lease, invocation: Option<Invocation>) -> Self {
        let (board, firmware) = super::load("bench", yaml).unwrap();
        let firmware: Arc<dyn Firmware> = Arc::from(firmware);
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
        let faults = Faults::new(&board.faults, ledger.clone());
        let (console, there) = Console::pipe_with(ledger.clone(), faults);
        console.connected().await;
        let bus = Bus::new(&board, broadcast::channel(16).0);
        let mut machine = Machine::new(Arc::new(board), lease, vec![console], bus.clone(), ledger);
        // LAVA is never late here: a countdown takes its own seconds only.
        machine.patience = Duration::ZERO;
        machine.reset(invocation);
        let machine = Arc::new(Mutex::new(machine));
        let running = run(&firmware, &machine);
        Self { dir, firmware, machine, bus, there, heard: String::new(), running }
    }

    /// Resets the machine in the middle of whatever it does.
    pub async fn reset(&mut self) {
        // Nothing is left to end where `next` has seen the end.
        if !self.running.is_finished() {
            self.running.abort();
            let _ = (&mut self.running).await;
        }
        self.machine.lock().await.reset(None);
        self.running = run(&self.firmware, &self.machine);
    }

    /// Types `keys` as they are.
    pub async fn send(&mut self, keys: &str) {
        self.there.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Types a line, and returns what the machine printed between its echo and `prompt`.
    pub async fn command(&mut self, line: &str, prompt: &str) -> String {
        self.send(&format!("{line}\n")).await;
        self.expect(&format!("{line}\n")).await;
        let printed = self.expect(prompt).await;
        printed[..printed.len() - prompt.len()].to_owned()
    }

    /// Waits until the machine has printed `text`, and returns what it printed up
    /// to there; carriage returns are gone.
    pub async fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.heard.find(text) {
                let rest = self.heard.split_off(at + text.len());
                return std::mem::replace(&mut self.heard, rest);
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.there.read(&mut buffer)).await;
            let size = read.unwrap_or_else(|_| panic!("no {text:?} after {:?}", self.heard)).unwrap();
            assert_ne!(size, 0, "no {text:?}, hung up after {:?}", self.heard);
            self.heard.push_str(&String::from_utf8_lossy(&buffer[..size]).replace('\r', ""));
        }
    }

    /// Asks the machine's fastboot for something, which comes with `data` where that was sent before it.
    pub async fn fastboot(&self, command: &str, data: Option<&[u8]>) -> Answer {
        let data = data.map(|bytes| Data { path: "/tmp/file".into(), bytes: bytes.to_vec() });
        self.bus.call(Mode::Fastboot, command.into(), data).await.expect("somebody answers")
    }

    /// Sends `bytes` to the machine's fastboot, and asks it for what is to be done with them.
    pub async fn send_by_fastboot(&self, bytes: &[u8], command: &str) -> Answer {
        let size = format!("download:{:08x}", bytes.len());
        assert_eq!(self.fastboot(&size, Some(bytes)).await, Answer::okay(""));
        self.fastboot(command, None).await
    }

    /// Waits until the firmware ends.
    pub async fn next(&mut self) -> Next {
        tokio::time::timeout(PATIENCE, &mut self.running).await.expect("the firmware goes on").unwrap()
    }

    /// Waits until the firmware ends by booting.
    pub async fn booted(&mut self) -> BootImage {
        match self.next().await {
            Next::Boot(image) => image,
            other => panic!("it did not boot: {other:?}"),
        }
    }

    /// What the machine is to start next, where somebody said so.
    pub async fn reason(&self) -> Option<Reason> {
        self.machine.lock().await.reason
    }

    /// The ledger so far.
    pub fn events(&self) -> Vec<Event> {
        std::fs::read_to_string(self.dir.path().join("ledger.jsonl"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Entry>(line).unwrap().event)
            .collect()
    }

    /// Names of the violations in the ledger, in order.
    pub fn violations(&self) -> Vec<String> {
        let what = |event| match event {
            Event::Violation { what, .. } => Some(what),
            _ => None,
        };
        self.events().into_iter().filter_map(what).collect()
    }
}

fn lease() -> Lease {
    Lease::new("bench", IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn run(firmware: &Arc<dyn Firmware>, machine: &Arc<Mutex<Machine>>) -> JoinHandle<Next> {
    let (firmware, machine) = (Arc::clone(firmware), Arc::clone(machine));
    tokio::spawn(async move { firmware.run(&mut *machine.lock().await).await })
}

/// Serves `files` by TFTP (RFC 1350, without options) on a port of its own;
/// returns `127.0.0.1:PORT`.
pub async fn tftp_server(files: &[(&str, &[u8])]) -> String {
    let files: HashMap<String, Vec<u8>> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
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
