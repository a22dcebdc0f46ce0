//! The daemon's control socket: how `ghost power` and the tools on a worker's
//! PATH reach the boards.
//!
//! One JSON line asks, one JSON line answers. After a granted [`Request::Attach`]
//! the stream is the board's serial port, raw or with telnet.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::Ask;
use crate::ledger::PowerAction;
use crate::peripheral::{Change, Data, Identity, Mode, udev_properties};

/// Where the socket is, unless told otherwise.
pub const SOCKET: &str = "/run/ghost/control.sock";

/// The file beside the socket in which [`account`] adds up; whoever wants to know makes it.
pub const ACCOUNT: &str = "tools.cpu";

/// What a tool sends to a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sent {
    /// A file of the worker's.
    File(PathBuf),
    /// Bytes that are in no file, in base64, and whom they came from.
    Bytes { from: String, base64: String },
}

impl Sent {
    /// Bytes that came `from` somebody.
    #[must_use]
    pub fn bytes(from: &str, bytes: &[u8]) -> Self {
        Self::Bytes { from: from.to_owned(), base64: STANDARD.encode(bytes) }
    }
}

impl TryFrom<Sent> for Data {
    type Error = String;

    fn try_from(sent: Sent) -> Result<Self, String> {
        match sent {
            Sent::File(path) => match fs::read(&path) {
                Ok(bytes) => Ok(Self { path, bytes }),
                Err(error) => Err(format!("could not read {}: {error}", path.display())),
            },
            Sent::Bytes { from, base64 } => match STANDARD.decode(base64) {
                Ok(bytes) => Ok(Self { path: from.into(), bytes }),
                Err(error) => Err(format!("what came from {from} is no base64: {error}")),
            },
        }
    }
}

/// What can be asked of the daemon. What it answers beside [`Reply::error`] is said with each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// A power command; answered when it is done.
    Power { board: String, action: PowerAction },
    /// A board is replaced by one that nothing happened to: switched off, its storage
    /// erased, its ledger and its consoles empty. Answered when it is done.
    Renew { board: String },
    /// A part of a board's storage is written, as a flashing tool does; answered
    /// when it is done.
    Flash {
        board: String,
        /// Name of the part, such as `kernel`.
        part: String,
        /// Path of the file on the worker.
        file: PathBuf,
    },
    /// A board's USB cable is plugged in, or pulled; answered when it is done.
    Cable { board: String, plugged: bool },
    /// The switch is set that has a board's boot ROM wait for a program; answered when it is done.
    Switch { board: String, recovery: bool },
    /// A board's controller ([`Remote`](crate::peripheral::Remote)) is to say something else from now on, and perhaps to
    /// reset the board, which has to have power for that; answers what it says.
    Control {
        board: String,
        /// Whether it counts; as before, where that is not said.
        enabled: Option<bool>,
        mode: Option<String>,
        reset: bool,
    },
    /// A tool was called for the peripheral that `identity` names: notes it with each board that
    /// has it, and answers what of it is attached ([`Vec<Attached>`](crate::peripheral::Attached)).
    Open {
        tool: String,
        /// Its arguments, without the name.
        args: Vec<String>,
        identity: Identity,
        /// Whether LAVA calls the tool before it listens to the board; else who is about to listen is
        /// waited for.
        #[serde(default)]
        unheard: bool,
    },
    /// What a tool asks of the peripheral of `board` that is in `mode`; answers what that says
    /// ([`Answer`](crate::peripheral::Answer)), or nothing where nobody is there any more.
    Usb {
        board: String,
        mode: Mode,
        command: String,
        /// What is sent with it.
        sent: Option<Sent>,
    },
    /// Tells of all peripherals: a line ([`Watched`]) for each that is attached, an empty one, and
    /// from then on a line for each that comes or goes.
    Watch,
    /// A tool was called for the board that `device` names, the text of one of LAVA's devices: notes it with that
    /// board, and answers its name, if it is one.
    Called {
        tool: String,
        /// Its arguments, without the name.
        args: Vec<String>,
        device: Option<String>,
    },
    /// Asks the container engine of a board for something; answers what that says, or
    /// [`Failed`](crate::engine::Failed), as a `Result`.
    Engine { board: String, ask: Ask },
    /// The terminal of a container: the stream is that from then on.
    Terminal { board: String, container: String },
    /// A line was typed on a board that is reached by SSH or by adb; answered when it is noted.
    Typed { board: String, text: String },
    /// What such a board's session prints is what the stream carries from then on.
    Prints { board: String },
    /// Such a board has got files; answered when they are noted.
    Received { board: String },
    /// A tool was called for a board; it powers the board, and its terminal is
    /// the board's first serial port until the connection ends.
    Attach {
        board: String,
        tool: String,
        /// Its arguments, without the name.
        args: Vec<String>,
        /// Its working directory, from which relative paths count.
        cwd: PathBuf,
        /// Whether what comes from the terminal speaks telnet.
        #[serde(default)]
        telnet: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What went wrong, if anything did.
    pub error: Option<String>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub answer: Value,
    /// The exit code of whoever asked, where a fault of the board's says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
}

/// A line of what [`Request::Watch`] tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    #[serde(flatten)]
    pub change: Change,
    /// What udev says of it, without `ACTION`.
    pub properties: BTreeMap<String, String>,
}

impl Watched {
    /// Of a change.
    #[must_use]
    pub fn of(change: Change) -> Self {
        let properties = udev_properties(&change.device);
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { change, properties }
    }
}

/// A command that a fault of its board's has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{says}")]
pub struct Faulty {
    /// What it says.
    pub says: String,
    /// Its exit code.
    pub exit: u8,
}

/// The fault that ended the command that `error` is about, where one did.
#[must_use]
pub fn fault(error: &io::Error) -> Option<&Faulty> {
    error.get_ref()?.downcast_ref()
}

/// The exit code that a fault gives the command that `error` is about, which says what the fault has it say.
///
/// # Errors
/// `error` itself, where no fault ended it.
pub fn exit_by_fault(error: io::Error) -> io::Result<u8> {
    match fault(&error) {
        Some(faulty) => {
            eprint!("{}", faulty.says);
            Ok(faulty.exit)
        }
        None => Err(error),
    }
}

/// Asks the daemon that listens on `socket`, and waits for its answer. The
/// stream is returned for those who go on with it.
///
/// # Errors
/// When nobody listens, or the daemon refuses; the text says which.
pub fn ask(socket: &Path, request: &Request) -> io::Result<UnixStream> {
    exchange(socket, request).map(|(stream, _)| stream)
}

/// Asks the daemon for something, see [`Request`].
///
/// # Errors
/// As [`ask`], and when its answer is of another kind.
pub fn get<T: DeserializeOwned>(socket: &Path, request: &Request) -> io::Result<T> {
    let (_, answer) = exchange(socket, request)?;
    serde_json::from_value(answer).map_err(io::Error::other)
}

/// What is told on the stream that answers [`Request::Watch`]; nothing, once, behind what was there already.
pub fn watched(stream: UnixStream) -> impl Iterator<Item = io::Result<Option<Watched>>> {
    BufReader::new(stream).lines().map(|line| match line?.as_str() {
        "" => Ok(None),
        line => serde_json::from_str(line).map(Some).map_err(io::Error::other),
    })
}

/// All devices that are attached now.
///
/// # Errors
/// As [`ask`].
pub fn present(socket: &Path) -> io::Result<Vec<Watched>> {
    watched(ask(socket, &Request::Watch)?).map_while(Result::transpose).collect()
}

/// The same as [`ask`] on a connection that there is already.
///
/// # Errors
/// As [`ask`].
pub fn ask_on(stream: UnixStream, request: &Request) -> io::Result<UnixStream> {
    exchange_on(stream, request).map(|(stream, _)| stream)
}

fn exchange(socket: &Path, request: &Request) -> io::Result<(UnixStream, Value)> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        io::Error::new(error.kind(), format!("no ghost daemon answers on {}: {error}", socket.display()))
    })?;
    exchange_on(stream, request)
}

fn exchange_on(mut stream: UnixStream, request: &Request) -> io::Result<(UnixStream, Value)> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    // One byte at a time: what follows the line belongs to the caller.
    let mut answer = String::new();
    BufReader::with_capacity(1, &stream).read_line(&mut answer)?;
    let reply: Reply = serde_json::from_str(&answer)
        .map_err(|_| io::Error::other("the ghost daemon ended before it answered"))?;
    match reply.error {
        None => Ok((stream, reply.answer)),
        Some(error) => Err(match reply.exit {
            Some(exit) => io::Error::other(Faulty { says: error, exit }),
            None => io::Error::other(error),
        }),
    }
}

/// Writes down what this process has spent, in microseconds of processor time, where
/// somebody asks for it: LAVA waits for its tools, so the kernel counts their time as
/// LAVA's, and only they know better. Called at the end of a process.
pub fn account(socket: &Path) {
    let Ok(mut file) = File::options().append(true).open(socket.with_file_name(ACCOUNT)) else { return };
    let Ok(used) = getrusage(UsageWho::RUSAGE_SELF) else { return };
    let spent = (used.user_time() + used.system_time()).num_microseconds();
    // One write, so that lines of processes that end together do not mix.
    let _ = file.write_all(format!("{spent}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_tells_what_it_spent_only_where_somebody_asked() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        account(&socket);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        let file = folder.path().join(ACCOUNT);
        File::create(&file).unwrap();
        account(&socket);
        account(&socket);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().filter_map(|line| line.parse::<u64>().ok()).count(), 2, "{text}");
    }
}
