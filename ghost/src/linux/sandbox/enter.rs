//! Running one more program in a container: what `docker exec` does, and a `docker run` that has no terminal; or in a board's
//! userland, as its `adbd` does.
//!
//! The process that calls [`enter`] goes into the namespaces of the PID 1 there (`setns(2)`), and its child is the
//! program, on the caller's own standard input and output. So what it prints goes where it belongs, in its order, and
//! nobody carries it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd;

use super::contained::{find, fork_to, not_started, start};
use super::inside::{Refusal, restrict};
use super::spec::{NotRun, Program};

/// The hidden first argument of a `ghost` that enters a container.
pub const ARGUMENT: &str = "__enter";

/// What came of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// It ended with this code; 128 and the number of a signal that killed it.
    Ended(u8),
    NotRun(NotRun),
}

/// The call of this executable that [`main`] answers.
///
/// # Errors
/// When what is to run can't be written down.
pub fn entering(pid: i32, program: &Program) -> io::Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ghost").args([ARGUMENT, &pid.to_string(), &serde_json::to_string(program)?]).env_clear();
    Ok(command)
}

/// Runs the program that `args` name, see [`entering`], on this process's own standard input, output and error.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    let [_, _, pid, program] = args else { return ExitCode::FAILURE };
    let parsed =
        pid.parse().map_err(io::Error::other).and_then(|pid| Ok((pid, serde_json::from_str(program)?)));
    let entered = parsed.and_then(|(pid, program)| enter(pid, &program, true));
    match entered {
        Ok(Entered::Ended(code)) => ExitCode::from(code),
        Ok(Entered::NotRun(NotRun { why, .. })) => {
            eprintln!("ghost: {why}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("ghost: the container can't be entered: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program in the container whose PID 1 is `pid`, and waits for it. `reads`: whether it has this process's
/// standard input. From then on this process is in the container, too. It must have one thread.
///
/// # Errors
/// When the container can't be entered, most likely because it has ended.
pub fn enter(pid: i32, program: &Program, reads: bool) -> io::Result<Entered> {
    let of = |name: &str| File::open(format!("/proc/{pid}/ns/{name}")).map(OwnedFd::from);
    let namespaces = [
        (of("ipc")?, CloneFlags::CLONE_NEWIPC),
        (of("uts")?, CloneFlags::CLONE_NEWUTS),
        (of("net")?, CloneFlags::CLONE_NEWNET),
        (of("pid")?, CloneFlags::CLONE_NEWPID),
        (of("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    let root = open(
        format!("/proc/{pid}/root").as_str(),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let users = of("user")?;
    let (own, there) = (fstat(File::open("/proc/self/ns/user")?)?, fstat(&users)?);
    // A container has none of its own.
    let is_board = (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino);
    for (namespace, kind) in &namespaces {
        setns(namespace.as_fd(), *kind)?;
    }
    unistd::fchdir(&root)?;
    unistd::chroot(".")?;
    if is_board {
        // At last, since it takes the rights of outside away.
        setns(users.as_fd(), CloneFlags::CLONE_NEWUSER)?;
        unistd::setgroups(&[])?;
        unistd::setresgid(0.into(), 0.into(), 0.into())?;
        unistd::setresuid(0.into(), 0.into(), 0.into())?;
    }
    let path = match find(program) {
        Ok(path) => path,
        Err(why) => return Ok(Entered::NotRun(why)),
    };
    let (child, error) = fork_to(|| {
        let _ = unistd::setsid();
        if !reads && let Ok(null) = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            // SAFETY: it is this process's own, and nothing waits in its buffer.
            unsafe { libc::dup2(null.as_raw_fd(), 0) };
        }
        match restrict(!is_board) {
            Ok(()) => start(program, &path),
            Err(Refusal(_)) => Errno::EPERM,
        }
    })?;
    loop {
        return match (waitpid(child, None), error) {
            (Ok(_), Some(error)) => Ok(Entered::NotRun(not_started(program, error))),
            (Ok(WaitStatus::Exited(_, code)), None) => {
                Ok(Entered::Ended(u8::try_from(code).unwrap_or(u8::MAX)))
            }
            (Ok(WaitStatus::Signaled(_, signal, _)), None) => {
                Ok(Entered::Ended(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)))
            }
            (Ok(_), None) | (Err(Errno::EINTR), _) => continue,
            (Err(error), _) => Err(error.into()),
        };
    }
}
