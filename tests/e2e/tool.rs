//! The executable under test, as a user or a CI calls it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wait4::{ResUse, Wait4};

use crate::repository::Repository;

/// How long anything may take; a test that waits so long has failed.
pub const DEADLINE: Duration = Duration::from_secs(240);

/// `meta-lava`, to be called with the files of `repository`, its temporary files in a
/// folder of their own, and as in CI, so that nothing is left pending.
pub fn meta_lava(repository: &Repository) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meta-lava"));
    command
        .env("META_LAVA_ROOT", repository.root())
        .env("TMPDIR", repository.temporary())
        .env("CI", "1")
        .env_remove("XDG_RUNTIME_DIR")
        .current_dir(repository.root())
        .stdin(Stdio::null());
    command
}

/// `meta-lava run` of scenarios, its report in the repository's own folder for it; one that is
/// there already goes.
pub fn run(repository: &Repository, scenarios: &[&str]) -> Command {
    let _ = std::fs::remove_dir_all(repository.report());
    let mut command = meta_lava(repository);
    command.args(["run", "--verbose", "--report"]).arg(repository.report()).args(scenarios);
    command
}

/// The same call through another program, which is given it as its last arguments.
pub fn wrapped(wrapper: &[&str], inner: &Command) -> Command {
    let mut outer = Command::new(wrapper[0]);
    outer.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.stdin(Stdio::null());
    outer
}

/// The same call as from a terminal: SIGHUP ends a program there, also if these tests
/// themselves were started with `nohup`.
pub fn as_from_a_terminal(inner: &Command) -> Command {
    wrapped(&["env", "--default-signal=HUP"], inner)
}

/// The same call where no file can grow over so many KiB: what a full disk is to who
/// writes, without a disk to fill (`setrlimit(2)`, RLIMIT_FSIZE).
pub fn with_room_for_files_of(kib: usize, inner: &Command) -> Command {
    let shell = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
    wrapped(&["sh", "-c", &shell], inner)
}

/// What a call came to.
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it told.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    /// Most memory, in MiB, that it took or one of the programs that it called.
    pub memory: u64,
}

impl Ended {
    /// Its one message, which is the last thing that it says, from `error: ` on.
    pub fn message(&self) -> &str {
        let messages: Vec<usize> = self
            .stderr
            .match_indices("error: ")
            .map(|(at, _)| at)
            .filter(|at| *at == 0 || self.stderr.as_bytes()[at - 1] == b'\n')
            .collect();
        assert_eq!(messages.len(), 1, "not one message but {}:\n{}", messages.len(), self.stderr);
        self.stderr[messages[0]..].trim_end()
    }

    /// The exit code is `code`, and the message has all of `words`.
    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let message = self.message();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
    }
}

/// Calls it and waits for its end.
pub fn call(command: &mut Command) -> Ended {
    start(command).end()
}

/// A call that goes on.
pub struct Started {
    child: Child,
    has_ended: bool,
    begun: Instant,
    lines: Option<Receiver<String>>,
    stdout: Option<Receiver<String>>,
    /// What it told so far.
    stderr: String,
}

/// Starts it; its stderr is read line by line.
pub fn start(command: &mut Command) -> Started {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = child.stderr.take().map(lines_of);
    let stdout = child.stdout.take().map(lines_of);
    Started { child, has_ended: false, begun: Instant::now(), lines, stdout, stderr: String::new() }
}

fn lines_of(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            // Who reads no more has what it wants.
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Started {
    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Waits for a line with `words` in it.
    #[track_caller]
    pub fn says(&mut self, words: &str) -> String {
        self.says_one_of(&[words]).1
    }

    /// Waits for a line with one of `words` in it: which one, and the line.
    #[track_caller]
    pub fn says_one_of(&mut self, words: &[&str]) -> (usize, String) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.as_ref().unwrap().recv_timeout(left) {
                Ok(line) => {
                    self.stderr.push_str(&line);
                    self.stderr.push('\n');
                    if let Some(which) = words.iter().position(|words| line.contains(words)) {
                        return (which, line);
                    }
                }
                Err(why) => panic!("it never said {words:?} ({why}) but:\n{}", self.stderr),
            }
        }
    }

    /// Takes in what it says until `moment`, or its end.
    pub fn listen_until(&mut self, moment: Instant) {
        let lines = self.lines.as_ref().unwrap();
        while let Ok(line) = lines.recv_timeout(moment.saturating_duration_since(Instant::now())) {
            self.stderr.push_str(&(line + "\n"));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Nobody reads any more what it says.
    pub fn close_its_terminal(&mut self) {
        self.lines = None;
        self.stdout = None;
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let used = self.wait();
        let mut ended = Ended {
            code: used.status.code(),
            stdout: String::new(),
            stderr: std::mem::take(&mut self.stderr),
            took: self.begun.elapsed(),
            memory: used.rusage.maxrss >> 20,
        };
        for (from, to) in [(&self.lines, &mut ended.stderr), (&self.stdout, &mut ended.stdout)] {
            for line in from.iter().flatten() {
                to.push_str(&line);
                to.push('\n');
            }
        }
        ended
    }

    #[track_caller]
    fn wait(&mut self) -> ResUse {
        // A channel has a deadline, waitpid has none: the pipe's end is waited for first.
        let deadline = Instant::now() + DEADLINE;
        while let Some(lines) = &self.lines {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.stderr.push_str(&(line + "\n")),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; it said:\n{}", self.stderr),
            }
        }
        let used = self.child.wait4().unwrap();
        self.has_ended = true;
        used
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // When a test fails in the middle. After `end` the process may be another one by now.
        if !self.has_ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// All that is in a folder, with its folders, by path below it.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}
