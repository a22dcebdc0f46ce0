//! A serial port of a board: on TCP with telnet, or on the terminal of a tool.
//!
//! The port outlives resets, and power cycles too as a USB serial adapter does, or it vanishes
//! with the power as a USB gadget does: the board says which ([`PortPower`]).
//! Whoever has it open hears the board from then on; what is printed while
//! nobody listens is lost, and what is typed while nobody reads waits in a FIFO
//! of limited depth.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use libmudtelnet::Parser;
use libmudtelnet::compatibility::CompatibilityEntry;
use libmudtelnet::events::TelnetEvents;
use libmudtelnet::telnet::{op_command, op_option};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::board::PortPower;
use crate::fault::{Deed, Faults, Lose, Moment, garbled};
use crate::ledger::{Event, Ledger, Stage};
use crate::patience::{PATIENCE, after_failed_accept};

/// Chunks of input that wait for a board that does not read; more are lost, as
/// in the FIFO of a real UART.
const FIFO_CHUNKS: usize = 1024;
/// Most bytes of a console kept for humans.
const TRANSCRIPT_LIMIT: u64 = 8 << 20;
/// Longest line that a ledger keeps, in bytes.
const LINE_LIMIT: usize = 64 << 10;

/// What stands before and behind what a container has printed, among what its board has: ASCII's separators of records and
/// of units.
pub const OF_A_CONTAINER: (u8, u8) = (0x1e, 0x1f);

/// Number of the connection of a tool that is the board's terminal; there is one at a time.
const TOOLS: u64 = u64::MAX;

/// Name of the file that keeps what a serial port has printed, in its board's folder.
#[must_use]
pub fn transcript(uart: usize) -> String {
    match uart {
        0 => "console.log".to_owned(),
        number => format!("console-{number}.log"),
    }
}

type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// How a line of input ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A whole line, without its end.
    Line(String),
    /// `^C`: the line was abandoned.
    Interrupt,
}

/// How fast a line is, and how unsteady.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Bits each second; ten of them carry a byte.
    pub baud: u32,
    /// Seed of the jitter (up to a quarter of each pause).
    pub seed: u64,
}

/// What the two ends of a port share.
struct Port {
    uart: usize,
    ledger: Ledger,
    stage: Mutex<Stage>,
    transcript: Mutex<Option<(File, u64)>>,
    writer: tokio::sync::Mutex<Option<Writer>>,
    /// Whether the connection that is open speaks telnet.
    telnet: AtomicBool,
    /// Number of the connection that is open, if one is; and how to end it.
    open: watch::Sender<Option<u64>>,
    /// How many timing marks were answered.
    marks: watch::Sender<u64>,
    /// How many bytes were typed.
    typed: AtomicU64,
    input: mpsc::Sender<Vec<u8>>,
    /// The least time for a character that is typed, in milliseconds.
    typing_ms: u64,
    power: PortPower,
    /// Whether telnet clients find a port: one that vanishes is not there without power, and a
    /// fault closes any.
    is_there: AtomicBool,
    /// What goes wrong on it, on purpose.
    faults: Faults,
}

/// The outer end of a serial port: where LAVA's connections arrive.
#[derive(Clone)]
pub struct Socket {
    port: Arc<Port>,
}

/// The board's end of a serial port.
pub struct Console {
    port: Arc<Port>,
    input: mpsc::Receiver<Vec<u8>>,
    pending: VecDeque<u8>,
    /// What has been taken raw of a line that has not ended.
    raw_line: Vec<u8>,
    pace: Option<Pacer>,
    impaired: Impaired,
    /// What lines that were taken raw have brought about, and was not acted on yet.
    due: Vec<Deed>,
}

/// What is wrong with a serial port until the next start.
#[derive(Debug, Default)]
struct Impaired {
    /// The line that is being printed, where a fault looks at it.
    line: String,
    /// Nothing is printed.
    silent: bool,
    /// So many more characters are printed with a flipped bit.
    garble: u32,
    /// So many more characters that are typed are lost.
    lose: u32,
    /// What is lost after each so many characters, and how many have arrived of these.
    lose_again: Option<(Lose, u32)>,
}

impl Impaired {
    /// Takes characters out of what was typed.
    fn lost(&mut self, typed: &mut Vec<u8>) {
        typed.retain(|_| {
            if self.lose > 0 {
                self.lose -= 1;
                return false;
            }
            if let Some((Lose { characters, after_each: Some(each) }, arrived)) = &mut self.lose_again {
                *arrived += 1;
                if *arrived == *each {
                    (self.lose, *arrived) = (*characters, 0);
                }
            }
            true
        });
    }

    /// Flips bits of what is printed.
    fn garble(&mut self, bytes: &mut [u8]) {
        for byte in bytes.iter_mut().filter(|byte| byte.is_ascii_graphic()).take(self.garble as usize) {
            *byte = garbled(*byte);
            self.garble -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Makes a serial port: the end for connections, and the board's.
///
/// `transcript` takes what the board prints, for humans. What is typed with less than
/// `typing_ms` milliseconds for each character is a violation. One that vanishes with the
/// power, as `power` says, is not there yet. `faults` are those of its board.
#[must_use]
pub fn port(
    uart: usize,
    ledger: Ledger,
    faults: Faults,
    transcript: Option<File>,
    pace: Option<Pace>,
    typing_ms: u64,
    power: PortPower,
) -> (Socket, Console) {
    let (input_in, input_out) = mpsc::channel(FIFO_CHUNKS);
    let port = Arc::new(Port {
        uart,
        ledger,
        stage: Mutex::new(Stage::Off),
        transcript: Mutex::new(transcript.map(|file| (file, 0))),
        writer: tokio::sync::Mutex::new(None),
        telnet: AtomicBool::new(false),
        open: watch::Sender::new(None),
        marks: watch::Sender::new(0),
        typed: AtomicU64::new(0),
        input: input_in,
        typing_ms,
        power,
        is_there: AtomicBool::new(power == PortPower::Outlives),
        faults,
    });
    let console = Console {
        port: Arc::clone(&port),
        input: input_out,
        pending: VecDeque::new(),
        raw_line: Vec::new(),
        pace: pace.map(Pacer::new),
        impaired: Impaired::default(),
        due: Vec::new(),
    };
    (Socket { port }, console)
}

impl Port {
    /// Keeps what is printed for humans, and for the judge.
    fn keep(&self, bytes: &[u8]) {
        if let Some((file, size)) = lock(&self.transcript).as_mut()
            && *size < TRANSCRIPT_LIMIT
        {
            *size += bytes.len() as u64;
            let _ = match *lock(&self.stage) {
                // In one write, or the board itself could print in between.
                Stage::Container => {
                    file.write_all(&[&[OF_A_CONTAINER.0], bytes, &[OF_A_CONTAINER.1]].concat())
                }
                _ => file.write_all(bytes),
            };
        }
    }
}

impl Socket {
    /// Keeps what its board prints elsewhere, for humans and for the judge.
    pub fn keep(&self, bytes: &[u8]) {
        self.port.keep(bytes);
    }

    /// Waits until somebody has the port open.
    pub async fn connected(&self) {
        let _ = self.port.open.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether the board has no power.
    pub fn is_off(&self) -> bool {
        *lock(&self.port.stage) == Stage::Off
    }

    /// Forgets what the board has printed so far.
    ///
    /// # Errors
    /// When the transcript can't be emptied.
    pub fn renew(&self) -> std::io::Result<()> {
        match lock(&self.port.transcript).as_mut() {
            Some((file, size)) => {
                *size = 0;
                file.set_len(0)
            }
            None => Ok(()),
        }
    }

    /// Waits until all has arrived that was typed into a telnet client before now.
    /// What LAVA types just before it switches power would else overtake, or be
    /// overtaken by, the power command: one goes through `telnet`, the other not.
    ///
    /// RFC 860: a client answers a mark after what it was given before it. But telnet takes one
    /// line at a time from its terminal, and looks at the network in between, so a mark
    /// only tells of one line. Marks are sent until nothing comes between the answers of two.
    pub async fn settle(&self) {
        let settled = async {
            let mut before = None;
            loop {
                if !self.mark_answered().await {
                    return;
                }
                let typed = self.port.typed.load(Ordering::Relaxed);
                if before.replace(typed) == Some(typed) {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            tracing::warn!(uart = self.port.uart, "a console's client does not answer timing marks");
        }
    }

    /// Sends a timing mark and waits for the answer; whether there is a client that gave one.
    async fn mark_answered(&self) -> bool {
        const DO_MARK: [u8; 3] = [op_command::IAC, op_command::DO, op_option::TM];
        let (mut marks, mut open) = (self.port.marks.subscribe(), self.port.open.subscribe());
        let seen = *marks.borrow_and_update();
        // Behind what the board prints, which waits itself for a client that does not read.
        match self.port.writer.lock().await.as_mut() {
            Some(writer) if self.port.telnet.load(Ordering::Relaxed) => {
                if writer.write_all(&DO_MARK).await.is_err() {
                    return false;
                }
            }
            _ => return false,
        }
        tokio::select! {
            _ = marks.wait_for(|count| *count > seen) => true,
            _ = open.wait_for(Option::is_none) => false,
        }
    }

    /// Takes connections of telnet clients, for ever. Where a port has vanished they end as they
    /// begin: so does a port server of a lab's that can't open the device any more.
    pub async fn listen(self, listener: TcpListener) {
        let mut number = 0;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    number += 1;
                    let (read, write) = stream.into_split();
                    self.clone().hand_over(number).await;
                    if self.install(number, Box::new(write), true).await {
                        tokio::spawn(self.clone().pump(number, read, true));
                    }
                }
                Err(error) => after_failed_accept("a console's", &error).await,
            }
        }
    }

    /// Serves one raw (not telnet) connection until one side ends it.
    pub async fn attach<R, W>(self, read: R, write: W)
    where
        R: AsyncRead + Send + Unpin,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        if self.take(write, false).await {
            self.serve(read, false).await;
        }
    }

    /// Makes `write` hear what the board prints from now on, until [`Self::serve`] ends; by `telnet` or raw.
    pub async fn take<W>(&self, write: W, telnet: bool) -> bool
    where
        W: AsyncWrite + Send + Unpin + 'static,
    {
        self.hand_over(TOOLS).await;
        self.install(TOOLS, Box::new(write), telnet).await
    }

    /// Types what is read, after [`Self::take`], until one side ends the connection.
    pub async fn serve<R: AsyncRead + Send + Unpin>(self, read: R, telnet: bool) {
        self.pump(TOOLS, read, telnet).await;
    }

    /// Waits for the previous connection to end; one that stays is cut off.
    async fn hand_over(&self, number: u64) {
        let mut open = self.port.open.subscribe();
        let gone = open.wait_for(|current| current.is_none());
        if tokio::time::timeout(PATIENCE, gone).await.is_err() {
            self.port.ledger.violation(
                "console-still-open",
                format!("connection {number} came before the last one ended"),
            );
            close(&self.port).await;
        }
    }

    async fn install(&self, number: u64, mut writer: Writer, telnet: bool) -> bool {
        // RFC 854, 857 and 858: the board echoes, character at a time.
        const HELLO: [u8; 9] = [
            op_command::IAC,
            op_command::WILL,
            op_option::ECHO,
            op_command::IAC,
            op_command::WILL,
            op_option::SGA,
            op_command::IAC,
            op_command::DO,
            op_option::SGA,
        ];
        if telnet && writer.write_all(&HELLO).await.is_err() {
            return false;
        }
        let mut slot = self.port.writer.lock().await;
        // With the writer in hand: `Console::power_off` takes it after it has made the port vanish.
        if telnet && (!self.port.is_there.load(Ordering::SeqCst) || self.port.faults.refuse_connection()) {
            return false;
        }
        *slot = Some(writer);
        self.port.telnet.store(telnet, Ordering::Relaxed);
        self.port.open.send_replace(Some(number));
        drop(slot);
        // Of a container's terminal the calls of `docker` tell.
        if *lock(&self.port.stage) != Stage::Container {
            self.port.ledger.take(Event::Connected { uart: self.port.uart });
        }
        true
    }

    async fn pump<R: AsyncRead + Send + Unpin>(self, number: u64, mut read: R, telnet: bool) {
        let mut decoder = telnet.then(Telnet::new);
        let mut open = self.port.open.subscribe();
        let mut buffer = [0_u8; 4096];
        let mut typing = Typing::default();
        loop {
            let size = tokio::select! {
                size = read.read(&mut buffer) => size.unwrap_or(0),
                _ = open.wait_for(|current| *current != Some(number)) => return,
            };
            if size == 0 {
                break;
            }
            let Decoded { data, reply, marks } = match decoder.as_mut() {
                Some(decoder) => decoder.decode(&buffer[..size]),
                None => Decoded { data: buffer[..size].to_vec(), ..Decoded::default() },
            };
            if !reply.is_empty()
                && let Some(writer) = self.port.writer.lock().await.as_mut()
            {
                let _ = writer.write_all(&reply).await;
            }
            if typing.is_too_fast(&data, Instant::now(), self.port.typing_ms) {
                let each = self.port.typing_ms;
                let detail = format!("a line came with less than {each} ms for each character");
                self.port.ledger.violation("typed-too-fast", detail);
            }
            self.port.typed.fetch_add(data.len() as u64, Ordering::Relaxed);
            if !data.is_empty() && self.port.input.try_send(data).is_err() {
                self.port.ledger.violation("input-overrun", "typed faster than the board reads");
            }
            if marks > 0 {
                self.port.marks.send_modify(|count| *count += marks);
            }
        }
        if *self.port.open.borrow() == Some(number) {
            close(&self.port).await;
        }
    }
}

/// How fast the line is typed that has not ended yet.
#[derive(Debug, Default)]
struct Typing {
    begun: Option<Instant>,
    characters: u32,
}

impl Typing {
    /// Takes in what was typed until `now`; whether a line has ended in it that took less
    /// than `each` milliseconds for a character. The whole line counts and not the pauses in
    /// it: a busy machine hands over late what came in time, but never early.
    fn is_too_fast(&mut self, typed: &[u8], now: Instant, each: u64) -> bool {
        let mut too_fast = false;
        for byte in typed {
            let begun = *self.begun.get_or_insert(now);
            if matches!(byte, b'\r' | b'\n') {
                let least = Duration::from_millis(each) * self.characters.saturating_sub(1);
                too_fast |= now.duration_since(begun) < least;
                *self = Self::default();
            } else {
                self.characters += 1;
            }
        }
        too_fast
    }
}

async fn close(port: &Port) {
    // First, so that what the board prints no longer waits for the client to read.
    port.open.send_replace(None);
    end(port).await;
}

/// Says goodbye to whoever has the port open; whether somebody had.
async fn end(port: &Port) -> bool {
    let writer = port.writer.lock().await.take();
    let Some(mut writer) = writer else { return false };
    let _ = writer.shutdown().await;
    if *lock(&port.stage) != Stage::Container {
        port.ledger.take(Event::Disconnected { uart: port.uart });
    }
    true
}

impl Console {
    /// A port that nobody but a test is connected to: what the returned stream
    /// reads is what the board prints.
    #[must_use]
    pub fn pipe(ledger: Ledger) -> (Self, tokio::io::DuplexStream) {
        let faults = Faults::new(&[], ledger.clone());
        Self::pipe_with(ledger, faults)
    }

    /// The same, of a board that has `faults`.
    #[must_use]
    pub fn pipe_with(ledger: Ledger, faults: Faults) -> (Self, tokio::io::DuplexStream) {
        let (socket, console) = port(0, ledger, faults, None, None, 0, PortPower::Outlives);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (read, write) = tokio::io::split(ours);
        tokio::spawn(socket.attach(read, write));
        (console, theirs)
    }

    /// Waits until somebody has the port open.
    pub async fn connected(&self) {
        let _ = self.port.open.subscribe().wait_for(Option::is_some).await;
    }

    /// Follows the board's power on: a port that vanishes with it is back.
    pub fn power_on(&self) {
        self.port.is_there.store(true, Ordering::SeqCst);
    }

    /// Follows the board's power off: ends the connection of a port that vanishes, and that of
    /// the tool that was the board; any other one stays, and hears nothing.
    pub async fn power_off(&mut self) {
        let vanishes = self.port.power == PortPower::Vanishes;
        if vanishes {
            self.port.is_there.store(false, Ordering::SeqCst);
        }
        if vanishes || *self.port.open.borrow() == Some(TOOLS) {
            self.hang_up().await;
        }
    }

    /// Ends the connection, whatever the port is, and waits until
    /// the other side has ended it too: LAVA reads its end of the line right after
    /// the power command, and finds it open or closed, as the race would have it.
    pub async fn hang_up(&mut self) {
        let mut open = self.port.open.subscribe();
        if end(&self.port).await
            && tokio::time::timeout(PATIENCE, open.wait_for(Option::is_none)).await.is_err()
        {
            self.port.open.send_replace(None);
        }
    }

    /// What goes wrong on it, on purpose.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.port.faults
    }

    /// Is as good as new until the next fault; a start of its board does that.
    pub fn recover(&mut self) {
        self.impaired = Impaired::default();
        self.port.faults.line_ended();
        self.due.clear();
    }

    /// Does what a fault does to a board or its serial port, one after the other. One that hangs
    /// or resets the board never returns.
    pub async fn act(&mut self, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Print(text) => self.transmit(&with_carriage_returns(&text)).await,
                Deed::Silent => self.impaired.silent = true,
                Deed::Hang => std::future::pending().await,
                Deed::Reset => self.port.faults.reset().await,
                Deed::Close(seconds) => self.close_for(Duration::from_secs(seconds)).await,
                Deed::Garble(characters) => self.impaired.garble = characters,
                Deed::Lose(Lose { characters, after_each: None }) => self.impaired.lose = characters,
                Deed::Lose(lose) => self.impaired.lose_again = Some((lose, 0)),
                Deed::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                // What a line does is told by whoever reads it, and the rest is no board's.
                Deed::Ignore | Deed::Exit(_) | Deed::Serve(_) | Deed::Refuse => {}
            }
        }
    }

    /// Does what the lines have brought about that [`Self::recv`] returned last.
    pub async fn act_on_typed(&mut self) {
        let due = std::mem::take(&mut self.due);
        self.act(due).await;
    }

    /// Ends the connection and takes none for a time.
    async fn close_for(&mut self, time: Duration) {
        self.port.is_there.store(false, Ordering::SeqCst);
        self.hang_up().await;
        let port = Arc::clone(&self.port);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            port.is_there.store(true, Ordering::SeqCst);
        });
    }

    /// Forgets what was typed and not read; a reset does that. The ledger keeps it.
    pub fn drain(&mut self) {
        while let Ok(chunk) = self.input.try_recv() {
            self.pending.extend(chunk);
        }
        self.raw_line.extend(self.pending.drain(..));
        if !self.raw_line.is_empty() {
            let text = text(&std::mem::take(&mut self.raw_line));
            self.port.ledger.take(Event::Key { uart: self.port.uart, text });
        }
    }

    /// Notes what the board is running, for the ledger.
    pub fn set_stage(&self, stage: Stage) {
        *lock(&self.port.stage) = stage;
    }

    /// Prints text; `\n` goes out as `\r\n`. Waits when the reader is slow.
    pub async fn print(&mut self, text: &str) {
        self.send(&with_carriage_returns(text)).await;
    }

    /// Sends bytes as they are, but for what a fault does to them.
    pub async fn send(&mut self, bytes: &[u8]) {
        if !self.port.faults.read_the_console() {
            return self.transmit(bytes).await;
        }
        let mut sent = 0;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\r' | b'\n' => {
                    self.impaired.line.clear();
                    self.port.faults.line_ended();
                }
                _ if self.impaired.line.len() < LINE_LIMIT => self.impaired.line.push(char::from(*byte)),
                _ => {}
            }
            let deeds = self.port.faults.at(Moment::Printed(&self.impaired.line));
            if !deeds.is_empty() {
                self.transmit(&bytes[sent..=at]).await;
                sent = at + 1;
                self.act(deeds).await;
            }
        }
        self.transmit(&bytes[sent..]).await;
    }

    /// Lets bytes out, at the port's pace.
    async fn transmit(&mut self, bytes: &[u8]) {
        if self.impaired.silent {
            return;
        }
        let mut garbled = Vec::new();
        let bytes = if self.impaired.garble == 0 {
            bytes
        } else {
            garbled.extend_from_slice(bytes);
            self.impaired.garble(&mut garbled);
            &garbled
        };
        let Some(mut pace) = self.pace.take() else {
            return self.send_now(bytes).await;
        };
        for chunk in bytes.chunks(16) {
            self.send_now(chunk).await;
            pace.pause(chunk.len()).await;
        }
        self.pace = Some(pace);
    }

    async fn send_now(&mut self, bytes: &[u8]) {
        let mut slot = self.port.writer.lock().await;
        if let Some(writer) = slot.as_mut() {
            // What nobody listens to is nowhere: how much of it there is depends on when somebody comes.
            self.port.keep(bytes);
            let mut open = self.port.open.subscribe();
            let write = async {
                if self.port.telnet.load(Ordering::Relaxed) && bytes.contains(&op_command::IAC) {
                    writer.write_all(&Parser::escape_iac(bytes.to_vec())).await
                } else {
                    writer.write_all(bytes).await
                }
            };
            let result = tokio::select! {
                biased;
                result = write => result,
                // Cut off; who comes next does not wait for who is gone.
                _ = open.wait_for(Option::is_none) => return,
            };
            if result.is_err() {
                // The reading side notices the end and closes.
                tracing::debug!("console write failed");
            }
        }
    }

    /// The next bytes that came in, as many as are there (at least one). Not line
    /// edited, not echoed. The ledger has their lines.
    pub async fn recv(&mut self) -> Vec<u8> {
        if self.pending.is_empty() {
            self.fill().await;
        }
        let bytes: Vec<u8> = self.pending.drain(..).collect();
        for byte in &bytes {
            match byte {
                b'\r' | b'\n' => {
                    let line = std::mem::take(&mut self.raw_line);
                    self.note_line(&line);
                    self.due.extend(self.port.faults.at(Moment::Typed(&text(&line))));
                }
                _ if self.raw_line.len() < LINE_LIMIT => self.raw_line.push(*byte),
                _ => {}
            }
        }
        bytes
    }

    /// The next key, if one comes within `wait`. Noted as a key, not as a line.
    pub async fn key(&mut self, wait: Duration) -> Option<u8> {
        let byte = tokio::time::timeout(wait, self.byte()).await.ok()?;
        self.port.ledger.take(Event::Key { uart: self.port.uart, text: text(&[byte]) });
        Some(byte)
    }

    /// The next key that `wanted` is true of, if one comes before `end`. Others are taken, too,
    /// and change nothing, as in a countdown that only one key stops.
    pub async fn key_before(&mut self, end: Instant, wanted: impl Fn(u8) -> bool + Send) -> Option<u8> {
        loop {
            let key = self.key(end.saturating_duration_since(Instant::now())).await?;
            if wanted(key) {
                return Some(key);
            }
        }
    }

    /// Prints `prompt` and reads a line with echo and the editing that every
    /// firmware has (backspace, `^U`, `^C`).
    pub async fn read_line(&mut self, prompt: &str) -> Input {
        self.print(prompt).await;
        let mut line: Vec<u8> = Vec::new();
        let mut echo: Vec<u8> = Vec::new();
        loop {
            if self.pending.is_empty() {
                if !echo.is_empty() {
                    self.send(&std::mem::take(&mut echo)).await;
                }
                self.fill().await;
            }
            let Some(byte) = self.pending.pop_front() else { continue };
            match byte {
                b'\r' | b'\n' => {
                    echo.extend(b"\r\n");
                    self.send(&echo).await;
                    self.note_line(&line);
                    let read = text(&std::mem::take(&mut line));
                    let deeds = self.port.faults.at(Moment::Typed(&read));
                    let ignored = deeds.contains(&Deed::Ignore);
                    self.act(deeds).await;
                    if !ignored {
                        return Input::Line(read);
                    }
                    echo.clear();
                    self.print(prompt).await;
                }
                0x03 => {
                    self.send(&echo).await;
                    self.port.ledger.take(Event::Key { uart: self.port.uart, text: text(&line) + "\u{3}" });
                    return Input::Interrupt;
                }
                0x08 | 0x7f => {
                    if line.pop().is_some() {
                        echo.extend(b"\x08 \x08");
                    }
                }
                0x15 => {
                    for _ in line.drain(..) {
                        echo.extend(b"\x08 \x08");
                    }
                }
                _ if line.len() >= LINE_LIMIT => echo.push(0x07),
                _ => {
                    line.push(byte);
                    echo.push(byte);
                }
            }
        }
    }

    async fn byte(&mut self) -> u8 {
        loop {
            if let Some(byte) = self.pending.pop_front() {
                return byte;
            }
            self.fill().await;
        }
    }

    async fn fill(&mut self) {
        match self.input.recv().await {
            Some(mut chunk) => {
                self.impaired.lost(&mut chunk);
                self.pending.extend(chunk);
            }
            // The other end is a field of `port`: it lives as long as this one.
            None => std::future::pending().await,
        }
    }

    fn note_line(&self, line: &[u8]) {
        let stage = *lock(&self.port.stage);
        self.port.ledger.take(Event::Line { uart: self.port.uart, stage, text: text(line) });
    }
}

/// A text with the line ends of a terminal.
fn with_carriage_returns(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte == b'\n' && bytes.last() != Some(&b'\r') {
            bytes.push(b'\r');
        }
        bytes.push(byte);
    }
    bytes
}

/// What was typed, as text; bytes that are no UTF-8 are replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads any bytes as a telnet client's, in pieces that end anywhere, for the fuzz target.
#[doc(hidden)]
pub fn fuzz_telnet(bytes: &[u8]) {
    let mut telnet = Telnet::new();
    let mut rest = bytes;
    while let Some((size, more)) = rest.split_first() {
        let (piece, after) = more.split_at(usize::from(*size).min(more.len()));
        let _ = telnet.decode(piece);
        rest = after;
    }
}

/// What came from a telnet client.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    /// Data for the board.
    data: Vec<u8>,
    /// The answer for the client.
    reply: Vec<u8>,
    /// How many timing marks it has answered.
    marks: u64,
}

/// Takes telnet's own bytes out of what a client sends (RFC 854).
struct Telnet {
    parser: Parser,
    after_cr: bool,
    /// Bytes taken in since anything came of them.
    open: usize,
}

/// Longest subnegotiation that is waited for, in bytes. Those that clients send are below 100.
const SUBNEGOTIATION: usize = 64 << 10;

impl Telnet {
    fn new() -> Self {
        let mut parser = Parser::new();
        parser.options.support(op_option::BINARY);
        // Offered when the connection opened, so in force on our side: a client's
        // assent needs no answer.
        parser.options.set_option(op_option::ECHO, CompatibilityEntry::new(true, false, true, false));
        parser.options.set_option(op_option::SGA, CompatibilityEntry::new(true, true, true, true));
        Self { parser, after_cr: false, open: 0 }
    }

    fn decode(&mut self, bytes: &[u8]) -> Decoded {
        // What the parser says to an option that nobody supports.
        const DONT_MARK: [u8; 3] = [op_command::IAC, op_command::DONT, op_option::TM];
        let Decoded { mut data, mut reply, mut marks } = Decoded::default();
        let events = self.parser.receive(bytes);
        // The parser keeps a subnegotiation until its end, and looks through all of it each
        // time. One that does not end is forgotten.
        self.open = if events.is_empty() { self.open + bytes.len() } else { 0 };
        if self.open > SUBNEGOTIATION {
            *self = Self::new();
        }
        for event in events {
            match event {
                TelnetEvents::DataReceive(chunk) => {
                    for byte in chunk {
                        // A client sends CR as CR NUL, and its end of line as CR LF.
                        if !(self.after_cr && (byte == 0 || byte == b'\n')) {
                            data.push(byte);
                        }
                        self.after_cr = byte == b'\r';
                    }
                }
                // RFC 860: a mark is answered by WILL or WONT, and nothing answers that.
                TelnetEvents::DataSend(chunk) if *chunk == DONT_MARK => marks += 1,
                TelnetEvents::Negotiation(answer)
                    if answer.option == op_option::TM && answer.command == op_command::WONT =>
                {
                    marks += 1;
                }
                TelnetEvents::DataSend(chunk) => reply.extend_from_slice(&chunk),
                _ => {}
            }
        }
        Decoded { data, reply, marks }
    }
}

/// Lets bytes out no faster than a serial line would.
struct Pacer {
    baud: u32,
    state: u64,
    due: Option<Instant>,
}

impl Pacer {
    fn new(pace: Pace) -> Self {
        Self { baud: pace.baud.max(1), state: pace.seed | 1, due: None }
    }

    async fn pause(&mut self, bytes: usize) {
        // xorshift64*: jitter needs no more.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let jitter = (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as f64 / 1024.0;
        let seconds = bytes as f64 * 10.0 / f64::from(self.baud) * (1.0 + jitter);
        let now = Instant::now();
        let due = self.due.unwrap_or(now).max(now) + Duration::from_secs_f64(seconds);
        self.due = Some(due);
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
        (dir, ledger)
    }

    #[tokio::test]
    async fn only_what_somebody_could_hear_is_kept() {
        let (dir, ledger) = ledger();
        let path = dir.path().join("console.log");
        let transcript = File::create(&path).unwrap();
        let faults = Faults::new(&[], ledger.clone());
        let (socket, mut console) = port(0, ledger, faults, Some(transcript), None, 0, PortPower::Outlives);
        console.print("unheard\n").await;
        let (ours, _theirs) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(ours);
        tokio::spawn(socket.attach(read, write));
        console.connected().await;
        console.print("heard\n").await;
        assert_eq!(std::fs::read_to_string(path).unwrap(), "heard\r\n");
    }

    #[tokio::test]
    async fn a_line_is_echoed_and_its_backspaces_are_obeyed() {
        let (_dir, ledger) = ledger();
        let (mut console, mut there) = Console::pipe(ledger);
        console.connected().await;
        there.write_all(b"hellp\x7fo\r").await.unwrap();
        assert_eq!(console.read_line("=> ").await, Input::Line("hello".into()));
        let mut seen = [0; 14];
        there.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"=> hellp\x08 \x08o\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_printed_while_nobody_listens_is_lost() {
        let (_dir, ledger) = ledger();
        let (socket, mut console) =
            port(0, ledger.clone(), Faults::new(&[], ledger), None, None, 0, PortPower::Outlives);
        console.print("lost\n").await;
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(ours);
        tokio::spawn(socket.attach(read, write));
        console.connected().await;
        console.print("heard\n").await;
        console.hang_up().await;
        let mut seen = String::new();
        theirs.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "heard\r\n");
    }

    /// A board with faults, and who has its port open.
    async fn faulty(faults: &str) -> (tempfile::TempDir, Console, tokio::io::DuplexStream) {
        let (dir, ledger) = ledger();
        let faults: Vec<crate::fault::Fault> = serde_yaml::from_str(faults).unwrap();
        let faults = Faults::new(&faults, ledger.clone());
        let (console, there) = Console::pipe_with(ledger, faults);
        console.connected().await;
        (dir, console, there)
    }

    /// What is heard until the port is closed.
    async fn heard(mut console: Console, mut there: tokio::io::DuplexStream) -> String {
        let mut heard = String::new();
        let hang_up = async { console.hang_up().await };
        let (read, ()) = tokio::join!(there.read_to_string(&mut heard), hang_up);
        read.unwrap();
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_prints_in_the_middle_of_what_the_board_prints() {
        let (_dir, mut console, there) =
            faulty("[{when: {printed: 'gin'}, then: {print: \"\\n[ 1.0] usb\\n\"}}]").await;
        console.print("ghost login: ").await;
        assert_eq!(heard(console, there).await, "ghost login\r\n[ 1.0] usb\r\n: ");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_garbled_or_not_printed_recovers_at_the_next_start() {
        let (_dir, mut console, there) =
            faulty("[{when: {printed: '^a'}, then: {garble: 2}}, {when: {printed: '^b'}, then: silent}]")
                .await;
        console.print("abcd\nb").await;
        console.print("gone").await;
        console.recover();
        console.print("c").await;
        let garbled: String = [b'b', b'c'].map(|byte| char::from(garbled(byte))).iter().collect();
        assert_eq!(heard(console, there).await, format!("a{garbled}d\r\nbc"));
    }

    #[tokio::test]
    async fn typed_characters_are_lost_as_a_fault_says() {
        let (_dir, mut console, mut there) = faulty(
            "[{when: {typed: first}, then: {lose: {characters: 2, after_each: 3}}}, \
              {when: {typed: again}, then: [ignore, {lose: 1}]}]",
        )
        .await;
        let typed = async {
            there.write_all(b"again\r").await.unwrap();
            // It has been read when the prompt is there once more.
            let mut heard = Vec::new();
            while !heard.ends_with(b"\n=> ") {
                heard.push(there.read_u8().await.unwrap());
            }
            there.write_all(b"xfirst\r").await.unwrap();
        };
        let (read, ()) = tokio::join!(console.read_line("=> "), typed);
        assert_eq!(read, Input::Line("first".into()), "the other one was ignored, and then a character lost");
        there.write_all(b"abcdefgh\r\r\r").await.unwrap();
        assert_eq!(console.read_line("=> ").await, Input::Line("abcfgh".into()));
    }

    #[tokio::test]
    async fn a_port_that_a_fault_closes_is_open_again_after_its_time() {
        let (_dir, ledger) = ledger();
        let faults: Vec<crate::fault::Fault> =
            serde_yaml::from_str("[{when: {printed: bye}, then: {close: 0}}]").unwrap();
        let faults = Faults::new(&faults, ledger.clone());
        let (socket, mut console) = port(0, ledger, faults, None, None, 0, PortPower::Outlives);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(socket.clone().listen(listener));
        let client = || async { tokio::net::TcpStream::connect(address).await.unwrap() };
        let mut first = client().await;
        socket.connected().await;
        let mut all = Vec::new();
        let read = async move { first.read_to_end(&mut all).await.map(|_| all) };
        let (read, ()) = tokio::join!(read, console.print("good bye"));
        assert!(read.unwrap().ends_with(b"good bye"));
        // Closed at once as long as the port is, and then it stays.
        let mut next = loop {
            let (mut next, mut closed) = (client().await, Vec::new());
            tokio::select! {
                () = socket.connected() => break next,
                _ = next.read_to_end(&mut closed) => {}
            }
        };
        console.print("here").await;
        let mut heard = Vec::new();
        while !heard.ends_with(b"here") {
            heard.push(next.read_u8().await.unwrap());
        }
    }

    /// A client that has the port open and reads nothing, and a board that prints for ever.
    async fn a_flood_that_nobody_reads() -> (tempfile::TempDir, Socket, tokio::io::DuplexStream) {
        let (dir, ledger) = ledger();
        let (socket, mut console) =
            port(0, ledger.clone(), Faults::new(&[], ledger), None, None, 0, PortPower::Outlives);
        let (ours, theirs) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(ours);
        tokio::spawn(socket.clone().attach(read, write));
        socket.connected().await;
        tokio::spawn(async move {
            loop {
                console.print("flood\n").await;
            }
        });
        while socket.port.writer.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        (dir, socket, theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_does_not_hold_up_the_power() {
        let (_dir, socket, _theirs) = a_flood_that_nobody_reads().await;
        tokio::time::timeout(2 * PATIENCE, socket.settle()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off_for_the_next_one() {
        let (_dir, socket, _theirs) = a_flood_that_nobody_reads().await;
        let (ours, mut next) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(ours);
        tokio::spawn(socket.attach(read, write));
        let mut seen = [0; 32];
        tokio::time::timeout(2 * PATIENCE, next.read_exact(&mut seen)).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&seen).contains("flood\r\n"));
    }

    #[test]
    fn a_subnegotiation_without_end_is_forgotten() {
        let mut telnet = Telnet::new();
        telnet.decode(b"\xff\xfa\x18");
        for _ in 0..2 * SUBNEGOTIATION / 1024 {
            telnet.decode(&[b'x'; 1024]);
            assert!(telnet.open <= SUBNEGOTIATION);
        }
        assert_eq!(telnet.decode(b"boot").data, b"boot");
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_read_without_a_panic(
            pieces in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(255_u8), 240_u8..=254, any::<u8>()], 0..20),
                0..20,
            )
        ) {
            let mut telnet = Telnet::new();
            for piece in &pieces {
                telnet.decode(piece);
            }
        }

        #[test]
        fn a_text_comes_through_however_it_is_cut(text in "[ -~]{0,60}", size in 1usize..9) {
            let mut telnet = Telnet::new();
            let found: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| telnet.decode(piece).data).collect();
            prop_assert_eq!(found, text.as_bytes());
        }
    }

    #[test]
    fn a_carriage_return_of_telnet_is_one_byte() {
        let mut telnet = Telnet::new();
        assert_eq!(telnet.decode(b"a\r\0b\r\nc\r").data, b"a\rb\rc\r");
        assert_eq!(telnet.decode(b"\nd").data, b"d");
    }

    #[test]
    fn a_client_that_agrees_gets_no_answer_and_one_that_asks_for_more_is_refused() {
        let mut telnet = Telnet::new();
        assert_eq!(telnet.decode(&[255, 253, 1, 255, 253, 3, 255, 251, 3]), Decoded::default());
        // WILL NAWS (31) is refused with DONT.
        assert_eq!(telnet.decode(&[255, 251, 31]).reply, [255, 254, 31]);
    }

    #[tokio::test]
    async fn all_lines_that_were_typed_have_arrived_though_a_client_sends_one_for_each_mark() {
        let (_dir, ledger) = ledger();
        let (socket, mut console) =
            port(0, ledger.clone(), Faults::new(&[], ledger), None, None, 0, PortPower::Outlives);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(socket.clone().listen(listener));
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = client.into_split();
        socket.connected().await;
        let answers = tokio::spawn(async move {
            let mut lines = [&b"first\r"[..], b"second\r", b"third"].into_iter();
            let mut heard = Vec::new();
            while let Ok(byte) = read.read_u8().await {
                heard.push(byte);
                if heard.ends_with(&[255, 253, 6]) {
                    for bytes in [lines.next().unwrap_or_default(), &[255, 251, 6]] {
                        write.write_all(bytes).await.unwrap();
                    }
                }
            }
        });
        tokio::time::timeout(PATIENCE, socket.settle()).await.unwrap();
        let mut typed = Vec::new();
        while let Ok(chunk) = tokio::time::timeout(Duration::ZERO, console.recv()).await {
            typed.extend(chunk);
        }
        assert_eq!(typed, b"first\rsecond\rthird");
        answers.abort();
    }

    #[test]
    fn a_line_that_took_its_time_is_fine_and_one_that_did_not_is_not() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut typing = Typing::default();
        assert!(typing.is_too_fast(b"setenv a b\r", start, 10));
        assert!(!typing.is_too_fast(b"setenv a b\r", start, 0), "a port that takes anything");
        for (at, byte) in b"dhcp".iter().enumerate() {
            assert!(!typing.is_too_fast(&[*byte], after(20 * at as u64), 10));
        }
        assert!(!typing.is_too_fast(b"\r", after(80), 10));
        // A key is no line, and a line of one character has no speed.
        assert!(!typing.is_too_fast(b" ", start, 10));
        assert!(!typing.is_too_fast(b"\n\n", start, 10));
    }

    #[test]
    fn a_mark_is_answered_by_yes_or_no_and_that_is_the_end_of_it() {
        let mut telnet = Telnet::new();
        for answer in [251, 252] {
            let decoded = telnet.decode(&[b'x', 255, answer, 6]);
            assert_eq!(decoded, Decoded { data: b"x".to_vec(), reply: vec![], marks: 1 });
        }
    }
}
