//! What a sandbox's own process does where it is a container and no board: what is mounted from the worker, and the
//! program that its PID 1 runs and waits for.
//!
//! The program is PID 1, or the child of what `docker run --init` puts there (`docker-init`, which is tini): that waits for all
//! that dies, and ends as the program ends.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MsFlags, mount as mount_};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Pid};

use super::inside::{Refusal, While, report};
use super::spec::{Container, NotRun, Program, Status};

/// Where a program without a `/` in its name is looked for, where the environment does not say (`runc`'s default is
/// that of Docker).
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes what is mounted over, from inside of the new root, so that no link leads out of it.
pub(super) fn make_places(container: &Container) -> Result<Vec<OwnedFd>, Refusal> {
    if !container.folder.is_empty() {
        fs::create_dir_all(&container.folder).while_(&container.folder)?;
    }
    let place = |target: &str, is_folder: bool| -> io::Result<OwnedFd> {
        let path = Path::new(target);
        if is_folder {
            fs::create_dir_all(path)?;
        } else {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            fs::File::options().create(true).append(true).open(path)?;
        }
        Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
    };
    let mounts = container.mounts.iter();
    mounts.map(|mount| place(&mount.target, mount.is_folder).while_(&mount.target)).collect()
}

/// Mounts what is the worker's there, from outside.
pub(super) fn mount(container: &Container, places: &[OwnedFd]) -> Result<(), Refusal> {
    let none = None::<&str>;
    for (mount, place) in container.mounts.iter().zip(places) {
        let target = format!("/proc/self/fd/{}", place.as_raw_fd());
        mount_(Some(&mount.source), target.as_str(), none, MsFlags::MS_BIND, none)
            .while_(mount.source.display())?;
        let read_only = if mount.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        // What the place names is the file system below: the new one is looked up by its path in there.
        let over = fs::read_link(&target).while_(&mount.target)?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount_(none, &over, none, flags | read_only, none).while_(over.display())?;
    }
    Ok(())
}

/// What PID 1 does.
pub(super) fn be_init(container: &Container, status: BorrowedFd<'_>) -> ! {
    // SAFETY: nothing of this process is to be cleaned up.
    let end = |code: i32| -> ! { unsafe { libc::_exit(code) } };
    let Some(program) = &container.program else {
        report(status, &Status::Running);
        loop {
            reap();
            unistd::pause();
        }
    };
    let refused = |why: NotRun| -> ! {
        report(status, &Status::NotRun(why));
        end(127)
    };
    let path = match find(program) {
        Ok(path) => path,
        Err(why) => refused(why),
    };
    let become_it = || {
        let _ = unistd::setsid();
        if container.terminal {
            // SAFETY: it only makes the terminal that of this process.
            unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
        } else {
            silence();
        }
        start(program, &path)
    };
    if !container.init {
        // Said before it is true: nobody is left to say it afterwards, but that it failed.
        report(status, &Status::Running);
        refused(not_started(program, become_it()));
    }
    let child = match fork_to(become_it) {
        Ok((child, None)) => child,
        Ok((_, Some(error))) => refused(not_started(program, error)),
        Err(_) => end(127),
    };
    report(status, &Status::Running);
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => end(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => end(128 + signal as i32),
            _ => {}
        }
    }
}

/// Forks, in a process of one thread; the child is what `become_it` makes of it, which returns only when that fails.
/// Returns the child, and why it did not become it.
pub(super) fn fork_to(become_it: impl FnOnce() -> Errno) -> nix::Result<(Pid, Option<Errno>)> {
    // Closed as soon as it has become it.
    let (ready, failed) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread, says who calls.
    match unsafe { unistd::fork() }? {
        ForkResult::Child => {
            let error = become_it();
            let _ = unistd::write(&failed, &(error as i32).to_le_bytes());
            // SAFETY: what is to be cleaned up is the parent's.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop(failed);
            let mut number = [0; 4];
            let told = fs::File::from(ready).read_exact(&mut number);
            Ok((child, told.ok().map(|()| Errno::from_raw(i32::from_le_bytes(number)))))
        }
    }
}

/// Waits for all that has ended and has nobody else to wait for it.
fn reap() {
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG))
    {}
}

/// Nothing is read, and what is printed is lost.
pub(super) fn silence() {
    let Ok(null) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) else { return };
    for fd in 0..3 {
        // SAFETY: they are this process's own, and nothing waits in their buffers.
        unsafe { libc::dup2(null.as_raw_fd(), fd) };
    }
}

/// Where a program is, or why it can't be run: in the words of `runc` 1.1, which are those of Go's `exec.LookPath`.
pub(super) fn find(program: &Program) -> Result<CString, NotRun> {
    let name = program.words.first().map_or("", String::as_str);
    let not_run = |why: String, is_there| NotRun { why: format!("exec: \"{name}\": {why}"), is_there };
    if name.contains('/') {
        let path = Path::new(&program.folder).join(name);
        return match fs::metadata(&path) {
            Ok(found) if found.is_dir() || found.permissions().mode() & 0o111 == 0 => {
                Err(not_run("permission denied".into(), true))
            }
            Ok(_) => {
                c_string(path.as_os_str().as_bytes()).ok_or_else(|| not_run("invalid argument".into(), false))
            }
            Err(_) => Err(not_run(format!("stat {name}: no such file or directory"), false)),
        };
    }
    let path = program.environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    path.unwrap_or(PATH)
        .split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|path| {
            fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
        .and_then(|path| c_string(path.as_os_str().as_bytes()))
        .ok_or_else(|| not_run("executable file not found in $PATH".into(), false))
}

fn c_string(bytes: &[u8]) -> Option<CString> {
    CString::new(bytes).ok()
}

/// Why a program that is there could not be started.
pub(super) fn not_started(program: &Program, error: Errno) -> NotRun {
    let name = program.words.first().map_or("", String::as_str);
    NotRun { why: format!("exec {name}: {}", error.desc().to_lowercase()), is_there: true }
}

/// Becomes the program. Returns only when it can't be started.
pub(super) fn start(program: &Program, path: &CString) -> Errno {
    let strings = |texts: &[String]| -> Option<Vec<CString>> {
        texts.iter().map(|text| c_string(text.as_bytes())).collect()
    };
    let (Some(words), Some(environment)) = (strings(&program.words), strings(&program.environment)) else {
        return Errno::EINVAL;
    };
    if let Err(error) = unistd::chdir(program.folder.as_str()) {
        return error;
    }
    let (uid, gid) = (program.uid, program.gid);
    if (uid, gid) != (0, 0) {
        let changed = unistd::setgroups(&[])
            .and_then(|()| unistd::setresgid(gid.into(), gid.into(), gid.into()))
            .and_then(|()| unistd::setresuid(uid.into(), uid.into(), uid.into()));
        if let Err(error) = changed {
            return error;
        }
    }
    match unistd::execve(path, &words, &environment) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str) -> Program {
        Program {
            words: vec![name.into()],
            environment: vec![format!("PATH=/nowhere:{}", folder.display())],
            folder: folder.display().to_string(),
            uid: 0,
            gid: 0,
        }
    }

    /// As runc 1.1.5 printed them, below Docker 20.10.24.
    #[test]
    fn what_can_not_be_run_is_said_as_runc_says_it() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let why = |name: &str| find(&program(folder.path(), name)).unwrap_err();
        assert_eq!(why("nope").why, "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(why("/nope").why, "exec: \"/nope\": stat /nope: no such file or directory");
        assert!(!why("/nope").is_there);
        let plain = plain.display().to_string();
        assert_eq!(why(&plain).why, format!("exec: \"{plain}\": permission denied"));
        assert!(why(&plain).is_there);
        assert!(find(&program(folder.path(), "plain")).is_err(), "what can't be run is not found either");
    }

    #[test]
    fn a_program_is_found_by_the_path_of_its_environment() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("tool");
        fs::write(&tool, "").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["tool", "./tool"] {
            assert!(find(&program(folder.path(), name)).is_ok(), "{name}");
        }
    }
}
