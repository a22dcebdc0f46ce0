//! When what is typed reaches a board's terminal.
//!
//! Linux echoes at once what is typed while no shell edits a line, in the middle
//! of whatever a command prints. LAVA does type ahead: some of its menus leave it
//! one prompt or more in front of the board, and the LF of its CR LF comes when
//! the command is running. Where such an echo lands is a matter of milliseconds,
//! and no two runs would be alike.
//!
//! So a line waits until its place is certain: the line before has its echo, and all
//! processes of the board sleep, so that nothing is being printed. It is as if the
//! typist waited for the board to be ready.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::LocalModes;
use tokio::time::Instant;

/// How often a board that is busy is looked at. The kernel does not tell when a
/// terminal is read, nor when its settings change.
const LOOK: Duration = Duration::from_millis(5);
/// How long all of a board's processes sleep until it is called at rest. busybox's
/// shell sleeps for 20 ms after each line that it has read, and only then gives the
/// terminal back (`read_line_input` in its `lineedit.c`).
const REST: Duration = Duration::from_millis(25);
/// How long a board may be busy, or owe an echo, before it gets what was typed all
/// the same: while the terminal echoes, and while a shell does that itself.
const PATIENCE_ECHO: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(1);
/// When so many bytes wait, the others stay in the port's FIFO.
const LIMIT: usize = 64 << 10;

/// What was typed and has not reached the terminal yet.
#[derive(Debug, Default)]
pub(super) struct Typing {
    bytes: Vec<u8>,
    /// When the first of them became the first.
    since: Option<Instant>,
    /// Whether a signal is among them.
    urgent: bool,
    /// Whether a line was begun and not ended: who reads it has the terminal.
    in_line: bool,
    /// Whether a line was typed that nothing was printed after. What is written
    /// to a terminal's outer end reaches it a little later (`tty_flip_buffer_push`),
    /// so a board at rest may not have it yet.
    unanswered: bool,
}

impl Typing {
    /// Takes what comes from the line.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.urgent |= bytes.iter().any(|byte| is_signal(*byte));
        self.since.get_or_insert_with(Instant::now);
    }

    /// Whether more may come.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < LIMIT
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What may be written next: up to the end of a line, since the next one may
    /// find the terminal in another mode.
    pub(super) fn next(&self) -> &[u8] {
        let end = self.bytes.iter().position(|byte| is_end(*byte));
        &self.bytes[..end.map_or(self.bytes.len(), |end| end + 1)]
    }

    /// The board has printed something.
    pub(super) fn printed(&mut self) {
        self.unanswered = false;
    }

    /// The first `size` bytes were written.
    pub(super) fn written(&mut self, size: usize) {
        let size = size.min(self.bytes.len());
        self.in_line = size > 0 && !is_end(self.bytes[size - 1]);
        self.unanswered = !self.in_line;
        self.bytes.drain(..size);
        self.since = (!self.bytes.is_empty()).then(Instant::now);
        self.urgent &= !self.bytes.is_empty();
    }

    /// Waits until the terminal may have [`Self::next`]. It may be given up and asked for again.
    pub(super) async fn allowed(&self, terminal: &Terminal<'_>) {
        if self.in_line || self.urgent || terminal.mode() == Mode::Silent {
            return;
        }
        let since = self.since.unwrap_or_else(Instant::now);
        let mut look = Instant::now();
        let mut rest: Option<Threads> = None;
        loop {
            tokio::time::sleep_until(look).await;
            let patience = match terminal.mode() {
                // Whoever asks for a password, or takes in a file: nothing is echoed at all.
                Mode::Silent => return,
                Mode::Echo => PATIENCE_ECHO,
                Mode::Raw => PATIENCE,
            };
            if since.elapsed() >= patience {
                return;
            }
            let now = if self.unanswered { None } else { terminal.at_rest() };
            match (now, &rest) {
                // Whoever has had a processor in between shows in the counts.
                (Some(now), Some(before)) if now == *before => return,
                (now, _) => {
                    let next = if now.is_some() { REST } else { LOOK };
                    look = Instant::now() + next;
                    rest = now;
                }
            }
        }
    }
}

/// Whether it ends a line.
fn is_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Whether the terminal makes a signal of it (`VINTR`, `VQUIT` and `VSUSP` of
/// `termios(3)`): that is for the command that is running.
fn is_signal(byte: u8) -> bool {
    matches!(byte, 0x03 | 0x1a | 0x1c)
}

/// A board's terminal, and who is on it.
pub(super) struct Terminal<'a> {
    /// What the board prints comes out here.
    pub(super) master: &'a File,
    /// The board's side.
    pub(super) slave: &'a std::os::fd::OwnedFd,
    /// The process that all of the board's descend from.
    pub(super) process: u32,
}

/// What a terminal does with what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Echoes it.
    Echo,
    /// Leaves that to who reads it, as a shell does that edits lines.
    Raw,
    /// Takes lines and echoes nothing.
    Silent,
}

/// Each thread, and how often it has had a processor.
type Threads = Vec<(i32, u64)>;

impl Terminal<'_> {
    fn mode(&self) -> Mode {
        let modes = rustix::termios::tcgetattr(self.slave).map(|termios| termios.local_modes);
        match modes {
            Ok(modes) if modes.contains(LocalModes::ECHO) => Mode::Echo,
            Ok(modes) if modes.contains(LocalModes::ICANON) => Mode::Silent,
            _ => Mode::Raw,
        }
    }

    /// All of the board's threads, if every one sleeps and nothing is left to be
    /// read. Twice the same: none has run in between.
    fn at_rest(&self) -> Option<Threads> {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO) != Ok(0) {
            return None;
        }
        let mut threads = Vec::new();
        let mut processes = vec![self.process];
        // Read for each line that is typed, of each process: nothing is opened or taken
        // apart that is not needed.
        let mut text = String::new();
        while let Some(process) = processes.pop() {
            // One that is gone meanwhile: something is going on.
            for task in std::fs::read_dir(format!("/proc/{process}/task")).ok()? {
                let task = task.ok()?.path();
                let thread = task.file_name()?.to_str()?.parse().ok()?;
                read(&task.join("status"), &mut text)?;
                threads.push((thread, sleeping(&text)?));
                read(&task.join("children"), &mut text)?;
                for child in text.split_ascii_whitespace() {
                    processes.push(child.parse().ok()?);
                }
            }
        }
        Some(threads)
    }
}

fn read(path: &Path, into: &mut String) -> Option<()> {
    into.clear();
    File::open(path).ok()?.read_to_string(into).ok().map(drop)
}

/// How often a thread has had a processor that sleeps now, as its `status` says; nothing
/// for one that is running, or about to (`proc_pid_status(5)`).
fn sleeping(status: &str) -> Option<u64> {
    let (mut asleep, mut switches) = (false, None);
    for line in status.lines() {
        match line.split_once(':') {
            Some(("State", state)) => asleep = !state.trim_start().starts_with(['R', 'D']),
            Some(("voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches", count)) => {
                *switches.get_or_insert(0) += count.trim().parse::<u64>().ok()?;
            }
            _ => {}
        }
    }
    switches.filter(|_| asleep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_sleeps_is_at_rest() {
        let status = |state: &str| {
            format!(
                "Name:\tsh\nState:\t{state}\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t5\n"
            )
        };
        assert_eq!(sleeping(&status("S (sleeping)")), Some(12));
        assert_eq!(sleeping(&status("T (stopped)")), Some(12));
        assert_eq!(sleeping(&status("R (running)")), None);
        assert_eq!(sleeping(&status("D (disk sleep)")), None);
        assert_eq!(sleeping("State:\tS (sleeping)\n"), None);
        assert_eq!(sleeping(""), None);
        // This test runs.
        assert_eq!(sleeping(&std::fs::read_to_string("/proc/thread-self/status").unwrap()), None);
    }

    #[test]
    fn one_line_at_a_time_is_let_through() {
        let mut typing = Typing::default();
        typing.extend(b"first\r\nsecond");
        for expected in [&b"first\r"[..], b"\n", b"second"] {
            assert_eq!(typing.next(), expected);
            typing.written(expected.len());
        }
        assert!(typing.is_empty());
    }
}
