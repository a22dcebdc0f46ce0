//! A machine that LAVA reaches by SSH only.
//!
//! It is a container of the board's engine ([`crate::engine`]), made when somebody connects for the first time, and OpenSSH's
//! own server runs in it, once for each connection (`sshd -i`): so keys, users and what else is refused are its business. Nobody
//! but the server can read what goes over the wire. What LAVA did is known from these:
//!
//! - what the server says of who has logged in, and who was refused;
//! - the shell of a login, which stands between the server's terminal and the machine's own ([`session`]);
//! - the files that are there when a transfer has ended and were not there before.
//!
//! A job may be a guest on another one's device (LAVA's secondary connections): its sessions are on the same machine. Each of
//! them has a [`Seat`], and whose a connection is the job tells that has opened it.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use meta_lava_formats::{compress, sha256, tar};
use regex::Regex;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::engine::{Begun, Engine};
use crate::ledger::{Event, Ledger, Protocol, Stage};
use crate::linux::sandbox;
use crate::patience::{SLOW_START, after_failed_accept};
use crate::tools::caller;

pub mod session;

/// What the machine is called in its engine.
const NAME: &str = "machine";

/// Where the server is, and how it runs: for one connection, which is its standard input, saying what it does on
/// standard error.
const SERVER: [&str; 3] = ["/usr/sbin/sshd", "-i", "-e"];

/// Where root's keys are looked for (`AuthorizedKeysFile` in sshd_config(5)).
const AUTHORIZED: &str = "root/.ssh/authorized_keys";

/// Folders of the machine that hold no files that come: the kernel's, and what the server keeps of logins.
const NO_FILES: [&str; 5] = ["dev", "proc", "run", "sys", "var/log"];

/// No file that came is taken to pieces when it is larger, in bytes.
const FILE_LIMIT: u64 = 256 << 20;

/// What such a machine has installed, and who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub image: String,
    /// Lines of root's `authorized_keys`.
    pub authorized: Vec<String>,
    /// Files with more of them.
    pub authorized_files: Vec<PathBuf>,
}

impl Host {
    /// What stands in root's `authorized_keys`.
    fn keys(&self) -> Result<String, String> {
        let mut keys: String = self.authorized.iter().map(|key| format!("{key}\n")).collect();
        for path in &self.authorized_files {
            let more = fs::read_to_string(path)
                .map_err(|error| format!("could not read the public key {}: {error}", path.display()))?;
            keys.push_str(more.trim_end());
            keys.push('\n');
        }
        Ok(keys)
    }

    /// `by`, with whose key it is: its file instead of a fingerprint, as such a key may be another one each
    /// time, and so may one that the machine does not know.
    fn named(&self, by: &str) -> String {
        let Some((method, found)) = by.split_once(" SHA256:") else { return by.to_owned() };
        let has = |keys: &str| keys.lines().any(|line| fingerprint(line).is_some_and(|print| print == found));
        if self.authorized.iter().any(|key| has(key)) {
            return by.to_owned();
        }
        let of = self.authorized_files.iter().find(|path| has(&fs::read_to_string(path).unwrap_or_default()));
        of.map_or_else(|| format!("{method} of somebody else"), |path| format!("{method} {}", path.display()))
    }
}

/// The fingerprint of a public key in a line of `authorized_keys` without options, as OpenSSH prints it
/// behind `SHA256:` (`sshkey_fingerprint` in its sshkey.c).
fn fingerprint(line: &str) -> Option<String> {
    let key = STANDARD.decode(line.split_whitespace().nth(1)?).ok()?;
    Some(STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

/// A machine of the daemon's, as one of those has it who log in there.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
    seat: Arc<Seat>,
}

/// Whose sessions are noted together.
struct Seat {
    /// The board's name with which they are noted.
    board: String,
    ledger: Ledger,
    /// Of a guest, what its job is in its group.
    role: Option<String>,
    /// The job that has connected last, where several have a seat.
    job: Mutex<Option<String>>,
}

struct Inner {
    host: Host,
    engine: Engine,
    /// The machine's own first, then those of guests.
    seats: Mutex<Vec<Arc<Seat>>>,
    /// Held while the machine is being made.
    making: tokio::sync::Mutex<()>,
    /// How many connections are open of which is not known yet who has logged in.
    unknown: watch::Sender<usize>,
    /// The files that the machine had when somebody looked last, and which machine it was.
    files: Mutex<(i32, BTreeSet<Seen>)>,
}

/// A file as it was: its path, size, and when it was written last.
type Seen = (PathBuf, u64, i64, i64);

impl Server {
    #[must_use]
    pub fn new(board: &str, host: Host, engine: Engine, ledger: Ledger) -> Self {
        let seat = Arc::new(Seat { board: board.to_owned(), ledger, role: None, job: Mutex::default() });
        let inner = Inner {
            host,
            engine,
            seats: Mutex::new(vec![Arc::clone(&seat)]),
            making: tokio::sync::Mutex::default(),
            unknown: watch::Sender::new(0),
            files: Mutex::default(),
        };
        Self { inner: Arc::new(inner), seat }
    }

    /// The same machine, as a guest has it: what its job, which is `role` in its group, does there is noted with `board`.
    #[must_use]
    pub fn guest(&self, role: &str, board: &str, ledger: Ledger) -> Self {
        let (board, role) = (board.to_owned(), Some(role.to_owned()));
        let seat = Arc::new(Seat { board, ledger, role, job: Mutex::default() });
        self.seats().push(Arc::clone(&seat));
        Self { inner: Arc::clone(&self.inner), seat }
    }

    fn seats(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Seat>>> {
        self.inner.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine as the job has it that has opened this connection: a guest's, or else its own.
    async fn seated(self, stream: &TcpStream) -> Self {
        if self.seats().len() < 2 {
            return self;
        }
        let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else { return self };
        let looked = tokio::task::spawn_blocking(move || {
            let job = caller::job_at(client, server)?;
            Some((job.role(), job.id))
        });
        let Ok(Some((role, job))) = looked.await else { return self };
        let found = self.seats().iter().find(|seat| role.is_some() && seat.role == role).cloned();
        let seat = found.unwrap_or_else(|| Arc::clone(&self.seat));
        *seat.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
        Self { seat, ..self }
    }

    /// Takes connections, for ever.
    pub async fn listen(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Before anybody else can ask.
                    let unknown = Unknown::begin(self.clone());
                    tokio::spawn(self.clone().connected(stream, unknown));
                }
                Err(error) => after_failed_accept("an SSH", &error).await,
            }
        }
    }

    async fn connected(self, stream: TcpStream, unknown: Unknown) {
        let this = self.seated(&stream).await;
        let begun = match this.machine().await {
            Ok(begun) => begun,
            Err(why) => return this.seat.ledger.violation("machine-not-started", why),
        };
        if let Err(error) = this.serve(stream, begun, unknown).await {
            tracing::error!(%error, board = this.seat.board, "an SSH connection was not served");
        }
    }

    /// The machine, which is made where there is none.
    async fn machine(&self) -> Result<Begun, String> {
        let _alone = self.inner.making.lock().await;
        let host = &self.inner.host;
        let secrets = [(AUTHORIZED.to_owned(), host.keys()?)].into();
        let begun = self.inner.engine.running_or_made(NAME, &host.image, secrets).await;
        let begun = begun.map_err(|failed| failed.says)?;
        let mut files = self.inner.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.0 != begun.pid {
            *files = (begun.pid, seen(&root(begun.pid)));
        }
        Ok(begun)
    }

    /// Has OpenSSH's server answer, and notes what it says.
    async fn serve(&self, stream: TcpStream, begun: Begun, mut unknown: Unknown) -> std::io::Result<()> {
        let mut program = begun.program;
        program.words = SERVER.map(str::to_owned).into();
        program.words.push(format!("-oSetEnv={}={}", session::BOARD, self.seat.board));
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        let (input, output) = (OwnedFd::from(stream.try_clone()?), OwnedFd::from(stream));
        let mut command = sandbox::entering(begun.pid, &program)?;
        command.stdin(input).stdout(output).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        if let Some(said) = child.stderr.take() {
            let mut lines = BufReader::new(said).split(b'\n');
            while let Some(line) = lines.next_segment().await? {
                let line = String::from_utf8_lossy(&line);
                tracing::debug!(board = self.seat.board, "sshd: {}", line.trim_end());
                if let Some(Event::Login { user, by, accepted }) = login(&line) {
                    let by = self.inner.host.named(&by);
                    self.seat.ledger.take(Event::Login { user, by, accepted });
                    if accepted {
                        unknown.end();
                    }
                }
            }
        }
        child.wait().await?;
        Ok(())
    }

    /// Waits until the server has said of each connection who it is: its words and those of the shell that it starts come by
    /// different ways.
    async fn known(&self) {
        let mut unknown = self.inner.unknown.subscribe();
        let _ = tokio::time::timeout(SLOW_START, unknown.wait_for(|count| *count == 0)).await;
    }

    /// Notes a line that was typed in a session.
    pub async fn typed(&self, text: String) {
        self.known().await;
        self.seat.ledger.take(Event::Line { uart: 0, stage: Stage::Userland, text });
    }

    /// Notes the files that have come since somebody looked last.
    pub async fn received(&self) {
        self.known().await;
        let this = self.clone();
        let noted = tokio::task::spawn_blocking(move || this.note_files());
        if let Err(error) = noted.await {
            tracing::error!(%error, "could not look for what came by SSH");
        }
    }

    fn note_files(&self) {
        let mut files = self.inner.files.lock().unwrap_or_else(PoisonError::into_inner);
        let root = root(files.0);
        let now = seen(&root);
        let others = self.jobs_of_others();
        for (path, size, ..) in now.difference(&files.1) {
            // What a neighbour's test writes meanwhile.
            if others.iter().any(|job| is_of(path, job)) {
                continue;
            }
            let bytes = match fs::read(root.join(path)) {
                Ok(bytes) if *size <= FILE_LIMIT => bytes,
                Ok(_) => Vec::new(),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "could not read what came by SSH");
                    continue;
                }
            };
            let place = format!("/{}", path.display());
            self.seat.ledger.take(Event::file(Protocol::Ssh, &place, "", &bytes));
            let unpacked = compress::decompress(&bytes, crate::linux::UNPACKED_LIMIT).ok();
            let tree = unpacked.and_then(|unpacked| tar::read(&unpacked).ok());
            if let Some(tree) = tree.filter(|tree| !tree.nodes.is_empty()) {
                crate::linux::note_archive(&self.seat.ledger, sha256(&bytes), &tree);
            }
        }
        files.1 = now;
    }

    /// The jobs that have the other seats.
    fn jobs_of_others(&self) -> Vec<String> {
        let seats = self.seats();
        let others = seats.iter().filter(|seat| !Arc::ptr_eq(seat, &self.seat));
        others.filter_map(|seat| seat.job.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

/// Whether what is at `path` belongs to `job`: LAVA keeps all that is a job's on a device in `/lava-JOB`
/// (`lava_test_results_dir` in `lava_dispatcher/actions/deploy/overlay.py`), and before 2023.03 its archive is beside that.
fn is_of(path: &Path, job: &str) -> bool {
    let first = path.iter().next().map(|first| first.to_string_lossy()).unwrap_or_default();
    let rest = first.strip_prefix("lava-").and_then(|rest| rest.strip_prefix(job));
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// A connection of which is not known who has logged in, as long as it is one.
struct Unknown(Option<Server>);

impl Unknown {
    fn begin(of: Server) -> Self {
        of.inner.unknown.send_modify(|count| *count += 1);
        Self(Some(of))
    }

    fn end(&mut self) {
        if let Some(server) = self.0.take() {
            server.inner.unknown.send_modify(|count| *count -= 1);
        }
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        self.end();
    }
}

/// The root of the machine whose first process is `pid`.
fn root(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// All regular files below `root`, but those of [`NO_FILES`].
fn seen(root: &Path) -> BTreeSet<Seen> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        // What goes while one looks is not there.
        for entry in fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
            let path = folder.join(entry.file_name());
            match entry.metadata() {
                Ok(about) if about.is_dir() && !NO_FILES.iter().any(|name| path == Path::new(name)) => {
                    folders.push(path);
                }
                Ok(about) if about.is_file() => {
                    found.insert((path, about.len(), about.mtime(), about.mtime_nsec()));
                }
                _ => {}
            }
        }
    }
    found
}

/// What a line of OpenSSH's server says of who has logged in, or was refused (`auth_log` in its auth.c).
fn login(line: &str) -> Option<Event> {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?P<how>Accepted|Failed) (?P<by>\S+) for (?P<user>.*) from \S+ port \d+ ssh2(?:: (?P<key>.*?))?\s*$",
        )
        .expect("a constant, and tests use it")
    });
    let found = PATTERN.captures(line)?;
    let part = |name| found.name(name).map_or("", |part| part.as_str());
    let by = format!("{} {}", part("by"), part("key"));
    Some(Event::Login {
        user: part("user").to_owned(),
        by: by.trim_end().to_owned(),
        accepted: part("how") == "Accepted",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(user: &str, by: &str, accepted: bool) -> Option<Event> {
        Some(Event::Login { user: user.into(), by: by.into(), accepted })
    }

    /// As OpenSSH 9.2 printed them.
    #[test]
    fn the_server_says_who_has_logged_in_and_who_was_refused() {
        let good = "Accepted publickey for root from 127.0.0.1 port 40112 ssh2: RSA SHA256:abc\r";
        assert_eq!(login(good), event("root", "publickey RSA SHA256:abc", true));
        let bad = "Failed publickey for invalid user lab from 127.0.0.1 port 1 ssh2: ED25519 SHA256:x";
        assert_eq!(login(bad), event("invalid user lab", "publickey ED25519 SHA256:x", false));
        assert_eq!(
            login("Failed none for root from 127.0.0.1 port 1 ssh2"),
            event("root", "none", false),
            "without a key"
        );
        assert_eq!(login("Connection closed by 127.0.0.1 port 1 [preauth]\r"), None);
    }

    /// As `ssh-keygen -l` told of a key of its own making.
    #[test]
    fn whose_key_it_is_is_told_by_its_file() {
        const KEY: &str =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIeJxUYZyL9gsXXlvTsXooH/kGrFI7/2QmJxz6bxvC+B lab\n";
        const BY: &str = "publickey ED25519 SHA256:YKLf59y/H9xWc8PINZX0095urjXqUWZpBiy1Kj1HU4Y";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lab.pub");
        fs::write(&file, KEY).unwrap();
        let mut host = Host {
            image: "host".into(),
            authorized: vec!["ssh-rsa x".into()],
            authorized_files: vec![file.clone()],
        };
        assert_eq!(host.keys().unwrap(), format!("ssh-rsa x\n{KEY}"));
        assert_eq!(host.named(BY), format!("publickey ED25519 {}", file.display()));
        assert_eq!(host.named("publickey RSA SHA256:abc"), "publickey RSA of somebody else");
        assert_eq!(host.named("none"), "none");
        host.authorized = vec![KEY.into()];
        assert_eq!(host.named(BY), BY);
        fs::remove_file(file).unwrap();
        assert!(host.keys().unwrap_err().starts_with("could not read the public key "));
    }

    #[test]
    fn what_came_is_seen_and_what_is_the_kernels_is_not() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["lava-1", "proc"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let before = seen(root.path());
        fs::write(root.path().join("lava-1/overlay"), "x").unwrap();
        fs::write(root.path().join("proc/stat"), "x").unwrap();
        let now = seen(root.path());
        let new: Vec<_> = now.difference(&before).map(|(path, size, ..)| (path.as_path(), *size)).collect();
        assert_eq!(new, [(Path::new("lava-1/overlay"), 1)]);
    }

    #[test]
    fn what_is_in_a_jobs_folder_is_that_jobs() {
        for own in ["lava-12/overlay-1.1.4.tar.gz", "lava-12-overlay-1.1.4.tar.gz", "lava-12"] {
            assert!(is_of(Path::new(own), "12"), "{own}");
        }
        for other in ["lava-123/0", "lava-1/12", "srv/lava-12", "root/.profile"] {
            assert!(!is_of(Path::new(other), "12"), "{other}");
        }
    }

    #[tokio::test]
    async fn a_guest_has_a_seat_of_its_own_on_the_same_machine() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = |name: &str| Ledger::open(&folder.path().join(name)).unwrap();
        let engine = Engine::new("host", ledger("host"), folder.path().join("console"), "control".into());
        let host = Host { image: "host".into(), authorized: Vec::new(), authorized_files: Vec::new() };
        let server = Server::new("host", host, engine, ledger("host"));
        let guest = server.guest("guest", "guest", ledger("guest"));
        guest.typed("ls".into()).await;
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("host").is_empty() && read("guest").contains("ls"));
        *guest.seat.job.lock().unwrap() = Some("13".into());
        assert_eq!((server.jobs_of_others(), guest.jobs_of_others()), (vec!["13".to_owned()], Vec::new()));
    }

    proptest! {
        #[test]
        fn whatever_the_server_says_is_a_login_or_nothing(line in ".*") {
            let _ = login(&line);
        }
    }
}
