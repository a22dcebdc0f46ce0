//! What is between OpenSSH's server and a shell, in a machine that is reached by SSH: `ghost session`.
//!
//! The server encrypts what it passes on, so what LAVA types is only known behind it. This is the shell of a login: the
//! real one is on a terminal of its own, and what is typed goes there once the daemon has noted it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::libc;

use crate::control::{self, Request};
use crate::pty::{self, Pty};
use crate::terminal::Raw;

/// The variable that says which board it is.
pub const BOARD: &str = "GHOST_BOARD";

/// The shell of the machine, called as a login shell.
const SHELL: &str = "/bin/sh";

/// What LAVA types to end a session, right before it kills its `ssh` (`disconnect` in `lava_dispatcher/connections/ssh.py`):
/// whether it still arrives is left to chance, so it is the end of the session and no line of the ledger.
const FAREWELL: &[u8] = b"logout";

/// Tells the daemon that a transfer of files has ended, and returns when it has noted them.
///
/// # Errors
/// When it does not answer.
pub fn received(socket: &Path, board: String) -> io::Result<()> {
    control::ask(socket, &Request::Received { board }).map(drop)
}

/// Is the shell of a login, until it ends; returns its exit code.
///
/// # Errors
/// When there is no terminal for it, or the daemon does not answer.
pub fn run(socket: &Path, board: String) -> io::Result<u8> {
    let mut shell = Command::new(SHELL);
    shell.arg0("-sh").env_remove(BOARD);
    relay(shell, socket, board)
}

/// Runs `shell` on a terminal of its own, which is that of this process from then on, until it ends; returns its exit code. What is
/// typed and printed is noted with `board`.
///
/// # Errors
/// As [`run`].
pub fn relay(mut shell: Command, socket: &Path, board: String) -> io::Result<u8> {
    let (input, mut output) = crate::tools::standard()?;
    let _raw = Raw::enter();
    let Pty { master, terminal, .. } = pty::open(OFlag::empty())?;
    shell.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(Stdio::from(terminal));
    let lead = || {
        nix::unistd::setsid()?;
        // SAFETY: it only makes the terminal that of this process.
        match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: it makes two system calls, and allocates nothing.
    unsafe { shell.pre_exec(lead) };
    let mut child = shell.spawn()?;
    // The shell alone has it from now on: its end is the terminal's.
    drop(shell);
    let mut master = File::from(master);
    let mut kept = control::ask(socket, &Request::Prints { board: board.clone() })?;
    let to_shell = master.try_clone()?;
    let socket = socket.to_owned();
    // Ends with the process: a read of a terminal cannot be called off.
    std::thread::spawn(move || {
        let _ = pass(input, to_shell, |text| {
            control::ask(&socket, &Request::Typed { board: board.clone(), text }).map(drop)
        });
        // Nobody is there any more.
        std::process::exit(0);
    });
    let mut buffer = [0; 4096];
    // A terminal that nobody has open any more is an error to read (EIO).
    while let Ok(size @ 1..) = master.read(&mut buffer) {
        kept.write_all(&buffer[..size])?;
        output.write_all(&buffer[..size])?;
    }
    let status = child.wait()?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Passes on what is typed, each line once it is noted, until the end of the session.
fn pass(
    mut from: impl Read,
    mut to: impl Write,
    mut note: impl FnMut(String) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    // How much of the line is passed on: what could become a farewell is not, until it is none.
    let mut passed = 0;
    let mut buffer = [0; 4096];
    loop {
        let size = from.read(&mut buffer)?;
        if size == 0 {
            return Ok(());
        }
        for byte in &buffer[..size] {
            let ends = matches!(byte, b'\r' | b'\n');
            if ends && line == FAREWELL {
                return Ok(());
            }
            if ends {
                to.write_all(&line[passed..])?;
                note(String::from_utf8_lossy(&line).into_owned())?;
                to.write_all(&[*byte])?;
                line.clear();
                passed = 0;
                continue;
            }
            line.push(*byte);
            if !FAREWELL.starts_with(&line) {
                to.write_all(&line[passed..])?;
                passed = line.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(typed: &str) -> (String, Vec<String>) {
        let (mut to, mut noted) = (Vec::new(), Vec::new());
        pass(typed.as_bytes(), &mut to, |line| {
            noted.push(line);
            Ok(())
        })
        .unwrap();
        (String::from_utf8(to).unwrap(), noted)
    }

    #[test]
    fn what_is_typed_is_passed_on_as_it_is_and_its_lines_are_noted() {
        let typed = "ls\nlog\r\nlogger x\n";
        assert_eq!(passed(typed), (typed.into(), ["ls", "log", "", "logger x"].map(str::to_owned).into()));
        assert_eq!(passed("l").0, "", "it may become a farewell");
        assert_eq!(passed("x\u{3}").0, "x\u{3}");
    }

    #[test]
    fn a_farewell_is_the_end() {
        assert_eq!(passed("ls\nlogout\nls\n"), ("ls\n".into(), vec!["ls".to_owned()]));
    }

    #[test]
    fn a_line_is_noted_before_it_is_run() {
        struct Order<'a>(&'a std::cell::RefCell<Vec<String>>);
        impl Write for Order<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.borrow_mut().push(String::from_utf8_lossy(bytes).into_owned());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let order = std::cell::RefCell::new(Vec::new());
        pass(&b"a\n"[..], Order(&order), |line| {
            order.borrow_mut().push(format!("noted {line}"));
            Ok(())
        })
        .unwrap();
        assert_eq!(*order.borrow(), ["a", "noted a", "\n"]);
    }
}
