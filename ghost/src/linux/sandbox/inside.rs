//! The sandbox's own process: what `ghost __sandbox` does.
//!
//! It makes the new root in a mount namespace of its own, moves into it, and
//! starts PID 1 in new namespaces for everything else. From then on it waits:
//! for PID 1 to end, which ends all others in there (`pid_namespaces(7)`), or
//! for the daemon to let go of its end of the pipe, upon which it kills PID 1.
//!
//! The process has one thread, so it may fork.

use std::ffi::CString;
use std::fmt::Display;
use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, ForkResult, Pid};

use super::spec::{self, Header, HeaderKind, Init, NamedBy, Spec, Status};

/// What a board's root may do, of all that a root may (`capabilities(7)`). What
/// is left out: mounting, devices, tracing, the network's set-up, file handles.
const KEPT: [Capability; 9] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    // reboot(2) in a PID namespace ends only that.
    Capability::CAP_SYS_BOOT,
];

/// Devices that are the worker's.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Files of `/proc` that tell about the worker, not about the board.
const HIDDEN: [&str; 8] =
    ["kcore", "keys", "key-users", "timer_list", "sched_debug", "latency_stats", "kallsyms", "kmsg"];

/// Where the new root is put together; any directory does, for only this process sees it.
const STAGING: [&str; 4] = ["/tmp", "/run", "/mnt", "/var"];

/// Why there is no sandbox.
struct Refusal(String);

/// Says what was being done when an error came.
trait While<T> {
    fn while_(self, what: impl Display) -> Result<T, Refusal>;
}

impl<T, E: Display> While<T> for Result<T, E> {
    fn while_(self, what: impl Display) -> Result<T, Refusal> {
        self.map_err(|error| Refusal(format!("{what}: {error}")))
    }
}

/// The whole life of the process.
pub fn main() -> ExitCode {
    match supervise() {
        Ok(status) => {
            report(io::stderr().as_fd(), &status);
            ExitCode::SUCCESS
        }
        Err(Refusal(why)) => {
            report(io::stderr().as_fd(), &Status::Refused(why));
            ExitCode::FAILURE
        }
    }
}

fn report(to: BorrowedFd<'_>, status: &Status) {
    if let Ok(mut line) = serde_json::to_vec(status) {
        line.push(b'\n');
        // Shorter than PIPE_BUF, so it goes whole or not at all; nobody is left to tell.
        let _ = unistd::write(to, &line);
    }
}

fn supervise() -> Result<Status, Refusal> {
    // Whatever the daemon had open and did not mark as its own.
    close_from(3);
    // When memory runs out, a board goes before the daemon does.
    let _ = fs::write("/proc/self/oom_score_adj", "800");
    // Away from the daemon's terminal. Its child, PID 1, will lead no session, as
    // the kernel's does not: it opens terminals without getting one.
    unistd::setsid().while_("setsid")?;
    umask(Mode::empty());

    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).while_("sigprocmask")?;
    let children =
        SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).while_("signalfd")?;

    let spec = {
        let mut input = BufReader::with_capacity(256 << 10, io::stdin().lock());
        let spec: Spec = spec::get(&mut input)
            .and_then(|spec| spec.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
            .while_("reading what to run")?;
        unshare(CloneFlags::CLONE_NEWNS).while_("a new mount namespace")?;
        make_root(&spec, &mut input)?;
        spec
    };

    let rest = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(rest).while_("new namespaces")?;
    // Old kernels have none.
    let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
    unistd::sethostname(&spec.hostname).while_("the host name")?;
    raise_loopback();

    // Its other end is open as long as this process lives.
    let (parent_lives, _alive) = unistd::pipe2(OFlag::O_CLOEXEC).while_("a pipe")?;
    // SAFETY: this process has one thread.
    let init = match unsafe { unistd::fork() }.while_("PID 1")? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(_alive);
            become_init(&spec, parent_lives);
        }
    };
    drop(parent_lives);
    wait(init, &children)
}

/// Waits for PID 1 to end, and makes it when the daemon lets go.
fn wait(init: Pid, children: &SignalFd) -> Result<Status, Refusal> {
    let stdin = io::stdin();
    loop {
        // Nothing more is sent: all that can come is the end.
        let mut fds = [
            PollFd::new(stdin.as_fd(), PollFlags::empty()),
            PollFd::new(children.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).while_("waiting for PID 1"),
        }
        let let_go = fds[0].any().unwrap_or(true);
        if let_go {
            let _ = kill(init, Signal::SIGKILL);
        }
        let _ = children.read_signal();
        let mut status = 0;
        let flags = if let_go { 0 } else { libc::WNOHANG };
        // SAFETY: waitpid writes to `status` only.
        match unsafe { libc::waitpid(init.as_raw(), &raw mut status, flags) } {
            0 => {}
            pid if pid == init.as_raw() => return Ok(Status::Ended(status)),
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Err(Errno::last()).while_("waiting for PID 1"),
        }
    }
}

/// Puts the root together and moves into it.
fn make_root(spec: &Spec, input: &mut impl Read) -> Result<(), Refusal> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .while_("a private mount namespace")?;
    let staging = STAGING.iter().map(Path::new).find(|path| path.is_dir());
    let root = staging.ok_or_else(|| Refusal(format!("none of {STAGING:?} is a directory")))?;
    let limits = format!("mode=0755,size={},nr_inodes={}", spec.bytes, spec.inodes);
    mount(Some("rootfs"), root, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(limits.as_str()))
        .while_("a file system for the root")?;

    // The tree is written from within: whatever its links point to is below the root.
    let outside =
        open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).while_("/")?;
    unistd::chdir(root).while_("the new root")?;
    unistd::chroot(".").while_("chroot")?;
    unpack(input)?;
    for (path, mode) in [("/dev", 0o755), ("/proc", 0o555), ("/tmp", 0o1777)] {
        real_directory(Path::new(path), mode).while_(path)?;
    }
    unistd::fchdir(&outside).while_("/")?;
    unistd::chroot(".").while_("chroot")?;
    drop(outside);

    make_dev(spec, &root.join("dev"))?;

    unistd::chdir(root).while_("the new root")?;
    match unistd::pivot_root(".", ".") {
        // The old root lies over the new one now.
        Ok(()) => umount2(".", MntFlags::MNT_DETACH).while_("the old root")?,
        // Docker's default seccomp profile knows no pivot_root. What lies under
        // the new root can't be reached without CAP_SYS_CHROOT, which goes later.
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) => {
            mount(Some("."), "/", none, MsFlags::MS_MOVE, none).while_("moving the root")?;
            unistd::chroot(".").while_("chroot")?;
        }
        Err(error) => return Err(error).while_("pivot_root"),
    }
    unistd::chdir("/").while_("/")
}

/// Makes `path` a directory, and no link to one.
fn real_directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    fs::DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Writes the tree below `/`. What can't be written is left out, as the kernel
/// does, but a root that is full is an error.
fn unpack(input: &mut impl Read) -> Result<(), Refusal> {
    while let Some(header) = spec::get::<Header>(input).while_("reading the tree")? {
        let Some(path) = below_root(&header.path) else {
            if let HeaderKind::File(size) = header.kind {
                io::copy(&mut input.take(size), &mut io::sink()).while_("reading the tree")?;
            }
            continue;
        };
        match write_node(&path, &header, input) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(error).while_(path.display());
            }
            // The content was read, whatever became of it.
            _ => {}
        }
    }
    Ok(())
}

/// `path` below `/`; `None` when it would leave it, and for what is mounted there later.
fn below_root(path: &str) -> Option<PathBuf> {
    let mut below = PathBuf::from("/");
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    if matches!(parts.peek(), None | Some(&("dev" | "proc"))) {
        return None;
    }
    for part in parts {
        if part == ".." || part.contains('\0') {
            return None;
        }
        below.push(part);
    }
    Some(below)
}

fn write_node(path: &Path, header: &Header, input: &mut impl Read) -> io::Result<()> {
    let prepared = prepare(path, matches!(header.kind, HeaderKind::Directory));
    match &header.kind {
        HeaderKind::File(size) => {
            let mut content = input.take(*size);
            let written = prepared.and_then(|_| {
                let mut options = fs::OpenOptions::new();
                let mut file = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .custom_flags(libc::O_NOFOLLOW)
                    .open(path)?;
                io::copy(&mut content, &mut file)
            });
            io::copy(&mut content, &mut io::sink())?;
            written?;
        }
        HeaderKind::Directory => {
            if !prepared? {
                fs::create_dir(path)?;
            }
        }
        HeaderKind::Symlink(target) => {
            prepared?;
            symlink(target, path)?;
        }
    }
    if (header.uid, header.gid) != (0, 0) {
        lchown(path, Some(header.uid), Some(header.gid))?;
    }
    if !matches!(header.kind, HeaderKind::Symlink(_)) {
        // After the owner: a change of it takes set-user-ID away.
        fs::set_permissions(path, fs::Permissions::from_mode(header.mode & 0o7777))?;
    }
    Ok(())
}

/// Makes the parents of `path`, and room for it. Says whether it is a directory
/// already, and is to be one.
fn prepare(path: &Path, directory: bool) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() && directory => return Ok(true),
        Ok(found) if found.is_dir() => fs::remove_dir(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {
            if let Some(parent) = path.parent()
                && !parent.is_dir()
            {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            }
        }
    }
    Ok(false)
}

/// Makes `/dev` of the new root, before the old one is gone.
fn make_dev(spec: &Spec, dev: &Path) -> Result<(), Refusal> {
    let none = None::<&str>;
    mount(
        Some("devtmpfs"),
        dev,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0755,size=16m,nr_inodes=4096"),
    )
    .while_("/dev")?;
    let bind = |from: &Path, name: &str, flags: MsFlags| -> Result<(), Refusal> {
        let to = dev.join(name);
        fs::File::create(&to).while_(to.display())?;
        mount(Some(from), &to, none, MsFlags::MS_BIND, none).while_(to.display())?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | flags;
        mount(none, &to, none, flags, none).while_(to.display())
    };
    for name in DEVICES {
        let device = Path::new("/dev").join(name);
        if device.exists() {
            // Read-only is the node, so that nobody changes the worker's; not the device.
            bind(&device, name, MsFlags::MS_RDONLY)?;
        }
    }
    for name in std::iter::once("console").chain(spec.ports.iter().map(String::as_str)) {
        bind(Path::new(&spec.terminal), name, MsFlags::empty())?;
    }
    let pts = dev.join("pts");
    fs::create_dir(&pts).while_("/dev/pts")?;
    mount(
        Some("devpts"),
        &pts,
        Some("devpts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("newinstance,ptmxmode=0666,mode=0620,gid=5"),
    )
    .while_("/dev/pts")?;
    real_directory(&dev.join("shm"), 0o1777).while_("/dev/shm")?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name)).while_(name)?;
    }
    Ok(())
}

/// Mounts `/proc`; only a process of the new PID namespace can.
fn make_proc(spec: &Spec) -> Result<(), Refusal> {
    let none = None::<&str>;
    // Read-only: some files there are the whole worker's (`/proc/sys`, `sysrq-trigger`).
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).while_("/proc")?;
    for name in HIDDEN {
        let path = Path::new("/proc").join(name);
        if path.exists() {
            mount(Some("/dev/null"), &path, none, MsFlags::MS_BIND, none).while_(path.display())?;
        }
    }
    let cmdline = "/dev/.cmdline";
    fs::write(cmdline, format!("{}\n", spec.cmdline)).while_("/proc/cmdline")?;
    fs::set_permissions(cmdline, fs::Permissions::from_mode(0o444)).while_("/proc/cmdline")?;
    mount(Some(cmdline), "/proc/cmdline", none, MsFlags::MS_BIND, none).while_("/proc/cmdline")?;
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(none, "/proc/cmdline", none, flags, none).while_("/proc/cmdline")?;
    // The mount keeps it.
    fs::remove_file(cmdline).while_("/proc/cmdline")
}

/// Brings the loopback interface up, as far as this process may.
fn raise_loopback() {
    // SAFETY: an `ifreq` of zeros is one; the ioctl reads it only.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket >= 0 {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
                *to = libc::c_char::from_ne_bytes([*from]);
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
            libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
            libc::close(socket);
        }
    }
}

/// What the child does: becomes PID 1 of the board, or says why not.
fn become_init(spec: &Spec, parent_lives: OwnedFd) -> ! {
    // A status fd that no program inherits.
    let status = open_status();
    let code = match prepare_init(spec, parent_lives) {
        Ok(()) => {
            let panic = run_inits(&spec.inits, &spec.prefix);
            report(status.as_fd(), &Status::NoInit(panic));
            1
        }
        Err(Refusal(why)) => {
            report(status.as_fd(), &Status::Refused(why));
            1
        }
    };
    // SAFETY: the other process cleans up; nothing here may run twice.
    unsafe { libc::_exit(code) }
}

fn open_status() -> OwnedFd {
    let copy = nix::fcntl::fcntl(io::stderr(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3));
    match copy {
        // SAFETY: it was just made, and is nobody else's.
        Ok(fd) => unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) },
        // SAFETY: nothing was started yet.
        Err(_) => unsafe { libc::_exit(1) },
    }
}

fn prepare_init(spec: &Spec, parent_lives: OwnedFd) -> Result<(), Refusal> {
    make_proc(spec)?;
    // The serial port is open, but not the controlling terminal: the kernel's
    // PID 1 has none either, and whoever asks for it gets it.
    for fd in [0, 2] {
        // SAFETY: both are this process's own, and no buffer stands over them.
        if unsafe { libc::dup2(1, fd) } < 0 {
            return Err(Errno::last()).while_("the console");
        }
    }
    let limits = [
        (Resource::RLIMIT_CORE, 0, 0),
        (Resource::RLIMIT_NOFILE, 1024, 4096),
        (Resource::RLIMIT_NPROC, 512, 512),
        (Resource::RLIMIT_AS, 4 << 30, 4 << 30),
        (Resource::RLIMIT_MEMLOCK, 64 << 10, 64 << 10),
        (Resource::RLIMIT_MSGQUEUE, 64 << 10, 64 << 10),
    ];
    for (resource, soft, hard) in limits {
        // What is lower already stays.
        let _ = setrlimit(resource, soft, hard);
    }
    umask(Mode::from_bits_truncate(0o022));
    drop_capabilities().while_("dropping capabilities")?;
    prctl::set_no_new_privs().while_("no_new_privs")?;
    default_signals();
    // After the capabilities: a change of them would undo it.
    prctl::set_pdeathsig(Signal::SIGKILL).while_("the parent's death")?;
    let mut fds = [PollFd::new(parent_lives.as_fd(), PollFlags::empty())];
    if poll(&mut fds, PollTimeout::ZERO).while_("the parent")? != 0 {
        return Err(Refusal("the parent is gone".into()));
    }
    Ok(())
}

fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    let kept: CapsHashSet = KEPT.into_iter().collect();
    for capability in caps::runtime::thread_all_supported() {
        if !kept.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability)? {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    let permitted = &caps::read(None, CapSet::Permitted)? & &kept;
    // Ambient goes with inheritable.
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &permitted)?;
    caps::set(None, CapSet::Permitted, &permitted)
}

/// Undoes what the daemon, or Rust, ignores or blocks: programs inherit that.
fn default_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: no handler is installed. Those that can't be changed say so.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Tries one after the other, and returns the panic when there is no other.
/// Prints what the kernel prints (`init/main.c`).
fn run_inits(inits: &[Init], prefix: &str) -> String {
    let say = |text: String| {
        let _ = (&io::stdout()).write_all(format!("{prefix}{text}\n").as_bytes());
        let _ = io::stdout().flush();
    };
    for init in inits {
        say(format!("Run {} as init process", init.path));
        let error = execute(init);
        let number = error as i32;
        match init.named_by {
            NamedBy::Ramdisk => say(format!("Failed to execute {} (error -{number})", init.path)),
            NamedBy::CommandLine => return format!("Requested init {} failed (error -{number}).", init.path),
            NamedBy::Kernel if error == Errno::ENOENT => {}
            NamedBy::Kernel => {
                say(format!("Starting init: {} exists but couldn't execute it (error -{number})", init.path));
            }
        }
    }
    "No working init found.  Try passing init= option to kernel. See Linux \
     Documentation/admin-guide/init.rst for guidance."
        .into()
}

/// Returns only when the program can't be run.
fn execute(init: &Init) -> Errno {
    let words: Result<Vec<CString>, _> =
        std::iter::once(&init.path).chain(&init.args).map(|word| CString::new(word.as_str())).collect();
    let Ok(words) = words else { return Errno::EINVAL };
    let Some(path) = words.first() else { return Errno::EINVAL };
    // What the kernel gives its first process.
    match unistd::execve(path, &words, &[c"HOME=/", c"TERM=linux"]) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Closes all file descriptors from `first` on.
fn close_from(first: RawFd) {
    // SAFETY: nothing of this process is open yet but 0, 1 and 2.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    // Kernels before 5.9, and seccomp profiles that do not know the call.
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd >= first)
        .collect();
    for fd in open {
        // SAFETY: as above; the directory's own is closed already, which is an error without harm.
        unsafe { libc::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_root() {
        assert_eq!(below_root("a/./b//c"), Some("/a/b/c".into()));
        assert_eq!(below_root("/etc/passwd"), Some("/etc/passwd".into()));
        for path in ["..", "a/../../b", "", "/", "dev", "dev/null", "./proc/1", "a\0b"] {
            assert_eq!(below_root(path), None, "{path:?}");
        }
        assert_eq!(below_root("devices/x"), Some("/devices/x".into()));
    }
}
