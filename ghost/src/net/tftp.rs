//! A TFTP client: what a boot loader does to load a file.
//!
//! Read requests in octet mode (RFC 1350), with the options `blksize`
//! (RFC 2348), `timeout` and `tsize` (RFC 2349) and, if asked for, `windowsize`
//! (RFC 7440), negotiated as RFC 2347 says. A server that knows none of them is
//! served as RFC 1350 says.
//!
//! Every wait has a deadline, and only data that move the transfer on postpone
//! it: neither silence nor a flood of rubbish holds a board up for ever.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::{FILE_LIMIT, FetchError, resolve};

/// The well-known port (RFC 1350, section 4).
pub const PORT: u16 = 69;
/// Payload of a data packet unless negotiated otherwise (RFC 1350, section 2).
const PLAIN_BLOCK_SIZE: usize = 512;
/// Payload of a data packet to ask for: what fits 16 KiB with its headers, as U-Boot may be
/// built to put together from fragments. The 1468 bytes of a plain Ethernet frame would cost
/// the worker eleven times as many packets, and the board is its neighbour on the loopback.
const BLOCK_SIZE: u16 = (16 << 10) - 32;
/// No UDP packet is larger.
const LARGEST_PACKET: usize = 65_536;
/// What is reserved at once for a file whose size the server told: more comes as it is filled.
const RESERVE: usize = 64 << 20;

/// Operation codes (RFC 1350, section 5, and RFC 2347).
mod opcode {
    pub const READ_REQUEST: u16 = 1;
    pub const DATA: u16 = 3;
    pub const ACK: u16 = 4;
    pub const ERROR: u16 = 5;
    pub const OPTION_ACK: u16 = 6;
}

/// Error codes (RFC 1350, appendix, and RFC 2347).
pub mod error_code {
    /// There is no such file.
    pub const NOT_FOUND: u16 = 1;
    /// The file is there, and is not given.
    pub const ACCESS: u16 = 2;
    /// The disk is full.
    pub const DISK_FULL: u16 = 3;
    /// No operation of TFTP's.
    pub const ILLEGAL: u16 = 4;
    /// A packet from a port that takes no part.
    pub const UNKNOWN_TID: u16 = 5;
    /// The options are refused.
    pub const OPTIONS: u16 = 8;
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the server listens, if its name does not say so.
    pub port: u16,
    /// Payload of a data packet (RFC 2348), 8 to 65464.
    pub block_size: u16,
    /// Blocks per acknowledgement (RFC 7440); 1 does not ask for the option.
    pub window: u16,
    /// How long to wait for a packet before the last one is sent again. Whole
    /// seconds of it are asked of the server, too (RFC 2349).
    pub retry: Duration,
    /// How long without progress until the server counts as gone.
    pub deadline: Duration,
    /// Largest file to take, in bytes.
    pub limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: PORT,
            block_size: BLOCK_SIZE,
            window: 1,
            retry: Duration::from_secs(1),
            deadline: Duration::from_secs(30),
            limit: FILE_LIMIT,
        }
    }
}

impl Options {
    fn plain(&self) -> bool {
        usize::from(self.block_size) == PLAIN_BLOCK_SIZE && self.window <= 1
    }
}

/// Fetches `path` from `server`: an address or a name, with or without a port.
///
/// # Errors
/// [`FetchError::NotFound`] on the server's error 1, [`FetchError::Tftp`] on
/// its others, [`FetchError::Timeout`] when it is silent, and [`FetchError::Bad`]
/// on a file too large or cut short, or a server that breaks the protocol.
pub async fn get(server: &str, path: &str, options: &Options) -> Result<Vec<u8>, FetchError> {
    if path.contains('\0') {
        return Err(FetchError::Bad("the path has a NUL".into()));
    }
    let server = resolve(server, options.port).await?;
    match Transfer::new(server, path, options).await?.run(true).await {
        // RFC 2347: the server may refuse the options, and the client may ask again without.
        Err(Failure::OptionsRefused) => {
            Transfer::new(server, path, options).await?.run(false).await.map_err(FetchError::from)
        }
        done => done.map_err(FetchError::from),
    }
}

/// How a transfer failed.
enum Failure {
    /// Error 8: ask again, without options.
    OptionsRefused,
    /// For good.
    Final(FetchError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OptionsRefused => {
                Self::Tftp(error_code::OPTIONS, "options, though none were asked for".into())
            }
            Failure::Final(error) => error,
        }
    }
}

/// A packet that a server may send.
#[derive(Debug, PartialEq, Eq)]
enum Packet<'a> {
    Data { block: u16, payload: &'a [u8] },
    Error { code: u16, message: String },
    OptionAck(Vec<(String, String)>),
}

impl<'a> Packet<'a> {
    /// `None` for what no server sends.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (opcode, rest) = split_u16(bytes)?;
        match opcode {
            opcode::DATA => split_u16(rest).map(|(block, payload)| Self::Data { block, payload }),
            opcode::ERROR => {
                let (code, rest) = split_u16(rest)?;
                // Some servers leave the final NUL out.
                let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                let message = String::from_utf8_lossy(text).trim().chars().take(512).collect();
                Some(Self::Error { code, message })
            }
            opcode::OPTION_ACK => {
                let strings = match rest {
                    [] => Vec::new(),
                    _ => rest.strip_suffix(&[0])?.split(|byte| *byte == 0).collect(),
                };
                let (pairs, odd) = strings.as_chunks::<2>();
                if !odd.is_empty() {
                    return None;
                }
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
                Some(Self::OptionAck(pairs.iter().map(|[name, value]| (text(name), text(value))).collect()))
            }
            _ => None,
        }
    }
}

/// Reads any bytes as a packet, for the fuzz target.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let _ = Packet::parse(bytes);
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk::<2>().map(|(number, rest)| (u16::from_be_bytes(*number), rest))
}

fn read_request(path: &str, options: Option<&Options>) -> Vec<u8> {
    let mut packet = opcode::READ_REQUEST.to_be_bytes().to_vec();
    let mut string = |text: &str| {
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
    };
    string(path);
    string("octet");
    if let Some(options) = options {
        string("tsize");
        string("0");
        string("timeout");
        string(&options.retry.as_secs().clamp(1, 255).to_string());
        if usize::from(options.block_size) != PLAIN_BLOCK_SIZE {
            string("blksize");
            string(&options.block_size.to_string());
        }
        if options.window > 1 {
            string("windowsize");
            string(&options.window.to_string());
        }
    }
    packet
}

fn ack_packet(block: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (opcode::ACK.to_be_bytes(), block.to_be_bytes());
    [a, b, c, d]
}

fn error_packet(code: u16, message: &str) -> Vec<u8> {
    let mut packet = opcode::ERROR.to_be_bytes().to_vec();
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(message.as_bytes());
    packet.push(0);
    packet
}

/// One transfer, from its request on.
struct Transfer<'a> {
    socket: UdpSocket,
    /// The server's well-known address.
    server: SocketAddr,
    /// Its address for this transfer (its TID, RFC 1350, section 4), once it answered.
    peer: Option<SocketAddr>,
    path: &'a str,
    options: &'a Options,
    /// The last packet sent, for when it, or its answer, got lost.
    last: Vec<u8>,
    resend_at: Instant,
    give_up_at: Instant,
    block_size: usize,
    window: u16,
    /// Number of the last block taken; it wraps (files over 64 Ki blocks).
    block: u16,
    /// Blocks taken since the last acknowledgement.
    unacknowledged: u16,
    /// The server was told that a block is missing, and none came since.
    loss_told: bool,
    /// Size that the server announced.
    announced: Option<usize>,
    data: Vec<u8>,
}

impl<'a> Transfer<'a> {
    async fn new(server: SocketAddr, path: &'a str, options: &'a Options) -> Result<Self, FetchError> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket =
            UdpSocket::bind(any).await.map_err(|error| FetchError::Bad(format!("no socket: {error}")))?;
        let now = Instant::now();
        Ok(Self {
            socket,
            server,
            peer: None,
            path,
            options,
            last: Vec::new(),
            resend_at: now + options.retry,
            give_up_at: now + options.deadline,
            block_size: PLAIN_BLOCK_SIZE,
            window: 1,
            block: 0,
            unacknowledged: 0,
            loss_told: false,
            announced: None,
            data: Vec::new(),
        })
    }

    async fn run(mut self, negotiate: bool) -> Result<Vec<u8>, Failure> {
        let options = self.options;
        self.last = read_request(self.path, negotiate.then_some(options));
        self.resend().await?;
        let mut buffer = vec![0; LARGEST_PACKET];
        loop {
            let (size, from) = self.receive(&mut buffer).await?;
            let packet = Packet::parse(buffer.get(..size).unwrap_or_default());
            // The first answer fixes the server's TID; what comes from elsewhere
            // is told so and changes nothing (RFC 1350, section 4).
            let expected = match self.peer {
                Some(peer) => from == peer,
                None => from.ip() == self.server.ip(),
            };
            if !expected {
                // An error is never answered with an error.
                if !matches!(packet, Some(Packet::Error { .. })) {
                    let reply = error_packet(error_code::UNKNOWN_TID, "Unknown transfer ID");
                    self.send_to(&reply, from).await?;
                }
                continue;
            }
            match packet {
                None => continue,
                Some(Packet::Error { code, message }) => {
                    return Err(if code == error_code::OPTIONS && negotiate {
                        Failure::OptionsRefused
                    } else if code == error_code::NOT_FOUND {
                        FetchError::NotFound(self.path.to_owned()).into()
                    } else {
                        FetchError::Tftp(code, message).into()
                    });
                }
                Some(Packet::OptionAck(accepted)) => self.option_ack(from, accepted, negotiate).await?,
                Some(Packet::Data { block, payload }) => {
                    self.peer = Some(from);
                    if self.data(block, payload).await? {
                        return Ok(self.data);
                    }
                }
            }
        }
    }

    /// The answer to the options of the request (RFC 2347).
    async fn option_ack(
        &mut self,
        from: SocketAddr,
        accepted: Vec<(String, String)>,
        negotiate: bool,
    ) -> Result<(), Failure> {
        if self.peer.is_some() {
            // Again: our acknowledgement got lost, unless data came already.
            if self.data.is_empty() && self.block == 0 {
                self.resend().await?;
            }
            return Ok(());
        }
        self.peer = Some(from);
        for (name, value) in accepted {
            let number = value.parse::<usize>().ok();
            let fits = match (name.as_str(), number) {
                ("blksize", Some(size)) if negotiate && !self.options.plain() => {
                    self.block_size = size;
                    (8..=usize::from(self.options.block_size)).contains(&size)
                }
                ("windowsize", Some(window)) if negotiate => {
                    self.window = u16::try_from(window).unwrap_or(0);
                    (1..=self.options.window).contains(&self.window)
                }
                ("tsize", Some(size)) => {
                    if size > self.options.limit {
                        self.refuse(error_code::DISK_FULL, "Too large").await?;
                        return Err(self.too_large(size).into());
                    }
                    self.announced = Some(size);
                    true
                }
                ("timeout", Some(_)) => true,
                _ => false,
            };
            if !fits {
                self.refuse(error_code::OPTIONS, "Option not asked for").await?;
                return Err(FetchError::Bad(format!("option {name}={value} was not asked for")).into());
            }
        }
        self.data.reserve(self.announced.unwrap_or(0).min(RESERVE));
        self.acknowledge().await?;
        self.progress();
        Ok(())
    }

    /// Takes a block of data; says whether it was the last.
    async fn data(&mut self, block: u16, payload: &[u8]) -> Result<bool, Failure> {
        if block != self.block.wrapping_add(1) {
            // A duplicate, or one after a lost one: what we have is said again, and
            // the server goes on from there; with windows once for each loss
            // (RFC 7440, section 4). A server must not answer a duplicate
            // acknowledgement (RFC 1123, section 4.2.3.1), so this cannot multiply.
            let ahead = block.wrapping_sub(self.block) < u16::MAX / 2;
            if self.window == 1 || block == self.block || (ahead && !self.loss_told) {
                self.acknowledge().await?;
                self.loss_told = true;
            }
            return Ok(false);
        }
        if payload.len() > self.block_size {
            self.refuse(error_code::ILLEGAL, "Block too large").await?;
            let (got, asked) = (payload.len(), self.block_size);
            return Err(FetchError::Bad(format!("a block of {got} bytes where {asked} were agreed")).into());
        }
        let size = self.data.len() + payload.len();
        if size > self.options.limit {
            self.refuse(error_code::DISK_FULL, "Too large").await?;
            return Err(self.too_large(size).into());
        }
        self.data.extend_from_slice(payload);
        self.block = block;
        self.unacknowledged += 1;
        self.loss_told = false;
        self.progress();
        let done = payload.len() < self.block_size;
        if done || self.unacknowledged >= self.window {
            self.acknowledge().await?;
        }
        match self.announced {
            Some(announced) if done && announced != size => {
                Err(FetchError::Bad(format!("{size} bytes where {announced} were announced")).into())
            }
            _ => Ok(done),
        }
    }

    /// Waits for a packet, and sends the last one again when none comes.
    async fn receive(&mut self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Failure> {
        loop {
            let now = Instant::now();
            if now >= self.give_up_at {
                return Err(FetchError::Timeout(self.server.to_string()).into());
            }
            if now >= self.resend_at {
                self.resend().await?;
            }
            let wake = self.resend_at.min(self.give_up_at);
            match tokio::time::timeout_at(wake, self.socket.recv_from(buffer)).await {
                Ok(Ok(received)) => return Ok(received),
                Ok(Err(error)) => return Err(bad_socket(&error).into()),
                Err(_) => {}
            }
        }
    }

    fn progress(&mut self) {
        let now = Instant::now();
        self.give_up_at = now + self.options.deadline;
        self.resend_at = now + self.options.retry;
    }

    async fn acknowledge(&mut self) -> Result<(), Failure> {
        self.unacknowledged = 0;
        self.last.clear();
        self.last.extend_from_slice(&ack_packet(self.block));
        self.resend().await
    }

    async fn resend(&mut self) -> Result<(), Failure> {
        self.resend_at = Instant::now() + self.options.retry;
        self.send_to(&self.last, self.peer.unwrap_or(self.server)).await
    }

    /// Tells the server that this is the end.
    async fn refuse(&self, code: u16, message: &str) -> Result<(), Failure> {
        self.send_to(&error_packet(code, message), self.peer.unwrap_or(self.server)).await
    }

    async fn send_to(&self, packet: &[u8], to: SocketAddr) -> Result<(), Failure> {
        match self.socket.send_to(packet, to).await {
            Ok(_) => Ok(()),
            // Of an earlier packet: there may yet be an answer to this one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(bad_socket(&error).into()),
        }
    }

    fn too_large(&self, size: usize) -> FetchError {
        FetchError::Bad(format!(
            "{}: {size} bytes or more, over the limit of {}",
            self.path, self.options.limit
        ))
    }
}

fn bad_socket(error: &io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            FetchError::Refused(error.to_string())
        }
        _ => FetchError::Bad(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
