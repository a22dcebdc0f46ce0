//! The sandbox's own process: what `ghost __sandbox` does.
//!
//! It starts PID 1 in new namespaces, makes the new root in a mount namespace of
//! its own, and lets PID 1 go on from there. From then on it waits: for PID 1 to
//! end, which ends all others in there (`pid_namespaces(7)`), or for the daemon
//! to let go of its end of the pipe, upon which it kills PID 1.
//!
//! If it can, it gives the board a range of user ids of its own
//! (`user_namespaces(7)`): its root then is nobody outside, and the limit of its
//! processes counts. The mount namespace stays with this process's user, so not
//! even such a root can mount.
//!
//! The process has one thread, so it may fork.

use std::ffi::CString;
use std::fmt::Display;
use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Pid};

use super::mounting::{self, Mounts};
use super::spec::{self, BlockDevice, Header, HeaderKind, Init, NamedBy, Spec, Status};
use super::{contained, kexec, network, rights};

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

/// What a container's root may do beside [`KEPT`], as in Docker: OpenSSH's server goes into an empty root before it knows who is
/// there, and tells the kernel's audit who has logged in. Who gets out of a root comes to the file system that the container's lies
/// in, and to no other.
const KEPT_IN_CONTAINERS: [Capability; 2] = [Capability::CAP_AUDIT_WRITE, Capability::CAP_SYS_CHROOT];

/// Devices that are the worker's.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Files of `/proc` that tell about the worker, not about the board.
const HIDDEN: [&str; 8] =
    ["kcore", "keys", "key-users", "timer_list", "sched_debug", "latency_stats", "kallsyms", "kmsg"];

/// Where the board's user and group ids are outside, how many of them a board
/// has, and for how many boards there are some.
const FIRST_ID: u32 = 1 << 30;
const IDS: u32 = 1 << 16;
const ID_RANGES: u32 = 1 << 14;

/// The group `tty` of Debian, which terminals belong to.
const TTY_GROUP: u32 = 5;
/// Terminals of a board; the kernel has few thousand for all.
const TERMINALS: u32 = 64;

/// Where the new root is put together; any directory does, for only this process sees it.
const STAGING: [&str; 4] = ["/tmp", "/run", "/mnt", "/var"];

/// Why there is no sandbox.
pub(super) struct Refusal(pub(super) String);

/// Says what was being done when an error came.
pub(super) trait While<T> {
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
            if status == Status::Kexec {
                // What was loaded is gone with this process.
                wait_until_let_go();
            }
            ExitCode::SUCCESS
        }
        Err(Refusal(why)) => {
            report(io::stderr().as_fd(), &Status::Refused(why));
            ExitCode::FAILURE
        }
    }
}

pub(super) fn report(to: BorrowedFd<'_>, status: &Status) {
    if let Ok(mut line) = serde_json::to_vec(status) {
        line.push(b'\n');
        // Shorter than PIPE_BUF, so it goes whole or not at all; nobody is left to tell.
        let _ = unistd::write(to, &line);
    }
}

fn supervise() -> Result<Status, Refusal> {
    // Whatever the daemon had open and did not mark as its own.
    close_from(3);
    unistd::chdir("/").while_("/")?;
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

    let mut input = BufReader::with_capacity(256 << 10, io::stdin().lock());
    let spec: Spec = spec::get(&mut input)
        .and_then(|spec| spec.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        .while_("reading what to run")?;

    unshare(CloneFlags::CLONE_NEWNS).while_("a new mount namespace")?;
    let root = mount_root(&spec)?;
    let child = start_init(&spec, &root)?;
    let processes = open(
        format!("/proc/{}/ns/pid", child.pid).as_str(),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .while_("the new PID namespace")?;
    // Only a board mounts.
    let proc = spec.container.is_none().then(mounting::proc).transpose()?;
    let file_system = fill_root(&spec, &root, child.first_id, &mut input)?;
    drop(input);

    // Only a process of the new PID namespace can mount its /proc.
    setns(&processes, CloneFlags::CLONE_NEWPID).while_("the new PID namespace")?;
    drop(processes);
    // SAFETY: this process has one thread.
    match unsafe { unistd::fork() }.while_("/proc")? {
        ForkResult::Parent { child } => match waitpid(child, None).while_("/proc")? {
            WaitStatus::Exited(_, 0) => {}
            // It told why.
            _ => return Err(Refusal("/proc could not be mounted".into())),
        },
        ForkResult::Child => finish(make_proc(&spec)),
    }

    report(io::stderr().as_fd(), &Status::Begun(child.pid.as_raw()));
    unistd::write(&child.go, b"!").while_("PID 1")?;
    let below = (root, Ids { first: child.first_id });
    let mounts = proc.and_then(|proc| Mounts::of(child.go.as_fd(), file_system, proc, &spec.disks, below));
    let status = wait(child.pid, &children, mounts)?;
    // PID 1 looks at its other end to see whether this process lives.
    drop(child.go);
    let is_kexec = status == Status::Ended(libc::SIGHUP) && spec.container.is_none() && kexec::is_started();
    Ok(if is_kexec { Status::Kexec } else { status })
}

/// What a child process ends with: 0, or the reason reported.
fn finish(result: Result<(), Refusal>) -> ! {
    let code = match result {
        Ok(()) => 0,
        Err(Refusal(why)) => {
            report(io::stderr().as_fd(), &Status::Refused(why));
            1
        }
    };
    // SAFETY: what is to be cleaned up is the parent's.
    unsafe { libc::_exit(code) }
}

/// PID 1, before it is one.
struct Child {
    pid: Pid,
    /// What a byte is written to when all is ready; open as long as this process lives. Its filter of mounts comes back by it.
    go: OwnedFd,
    /// The user and group id that is 0 in there.
    first_id: u32,
}

/// Starts the process that will be PID 1, with ids of its own if that is possible.
fn start_init(spec: &Spec, root: &OwnedFd) -> Result<Child, Refusal> {
    let mut others = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // In a new root no user namespace can be made any more.
    match spec.container {
        Some(_) => network::enter_own().while_("a network of its own")?,
        None => others |= libc::CLONE_NEWNET,
    }
    for flags in [others | libc::CLONE_NEWUSER, others] {
        if flags & libc::CLONE_NEWUSER != 0 && spec.container.is_some() {
            continue;
        }
        let (ready, go) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .while_("a socket")?;
        // SAFETY: like fork(2), in a process of one thread: no stack of its own, no shared memory.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
        let pid = match pid {
            0 => {
                drop(go);
                become_init(spec, root, ready);
            }
            1.. => Pid::from_raw(i32::try_from(pid).while_("PID 1")?),
            _ if flags & libc::CLONE_NEWUSER != 0 => continue,
            _ => return Err(Errno::last()).while_("new namespaces"),
        };
        if flags & libc::CLONE_NEWUSER == 0 {
            return Ok(Child { pid, go, first_id: 0 });
        }
        let first_id = FIRST_ID + (std::process::id() % ID_RANGES) * IDS;
        let map = format!("0 {first_id} {IDS}\n");
        let mapped =
            ["uid_map", "gid_map"].iter().try_for_each(|name| fs::write(format!("/proc/{pid}/{name}"), &map));
        if mapped.is_ok() {
            return Ok(Child { pid, go, first_id });
        }
        // It waits for a byte, and ends without one.
        drop(go);
        waitpid(pid, None).while_("PID 1")?;
    }
    Err(Refusal("no new namespaces".into()))
}

/// Waits until the daemon lets go of its end of the pipe.
fn wait_until_let_go() {
    // Nothing more is sent: all that can come is the end.
    let stdin = io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

/// Waits for PID 1 to end, and makes it when the daemon lets go.
fn wait(init: Pid, children: &SignalFd, mut mounts: Option<Mounts>) -> Result<Status, Refusal> {
    let stdin = io::stdin();
    loop {
        // Answers are read where they are asked for: all that can come is the end.
        let mut fds = vec![
            PollFd::new(stdin.as_fd(), PollFlags::empty()),
            PollFd::new(children.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(mounts.iter().map(|mounts| PollFd::new(mounts.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).while_("waiting for PID 1"),
        }
        let let_go = fds[0].any().unwrap_or(true);
        let asked = fds.get(2).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        if asked.contains(PollFlags::POLLIN)
            && let Some(mounts) = &mut mounts
        {
            mounts.answer();
        } else if !asked.is_empty() {
            mounts = None;
        }
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

/// Mounts a file system for the new root, and returns that. It is a directory
/// of the file system, so that in there one is as in a chroot, and can make no
/// user namespace (`user_namespaces(7)`).
fn mount_root(spec: &Spec) -> Result<OwnedFd, Refusal> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .while_("a private mount namespace")?;
    // It hides what is below it, and so may not lie over what is mounted in a container.
    let mounts = || spec.container.iter().flat_map(|container| &container.mounts);
    let hides = |path: &Path| mounts().any(|mount| mount.source.starts_with(path));
    let staging = STAGING.iter().map(Path::new).find(|path| path.is_dir() && !hides(path));
    let staging = staging
        .ok_or_else(|| Refusal(format!("none of {STAGING:?} is a directory that nothing is mounted from")))?;
    let limits = format!("mode=0755,size={},nr_inodes={}", spec.bytes, spec.inodes);
    mount(
        Some("rootfs"),
        staging,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(limits.as_str()),
    )
    .while_("a file system for the root")?;
    unistd::chdir(staging).while_("the new root")?;
    fs::DirBuilder::new().mode(0o755).create("root").while_("the new root")?;
    directory("root").while_("the new root")
}

pub(super) fn directory(path: &str) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Makes a directory the root of this process.
pub(super) fn enter_root(root: &OwnedFd) -> Result<(), Refusal> {
    unistd::fchdir(root).and_then(|()| unistd::chroot(".")).while_("chroot")
}

/// Puts the root together, and moves into it. The working directory is its
/// file system. Returns the folder that the root and the contents of the disks are in.
fn fill_root(spec: &Spec, root: &OwnedFd, first_id: u32, input: &mut impl Read) -> Result<OwnedFd, Refusal> {
    let none = None::<&str>;
    let (outside, staging) = (directory("/").while_("/")?, directory(".").while_("the new root")?);
    let ids = Ids { first: first_id };

    // The tree is written from within: whatever its links point to is below the root.
    enter_root(root)?;
    ids.own(Path::new("/"), 0, 0).while_("/")?;
    unpack(input, ids)?;
    for (path, mode) in [("/dev", 0o755), ("/proc", 0o555), ("/tmp", 0o1777)] {
        real_directory(Path::new(path), mode, ids).while_(path)?;
    }
    let places = spec.container.as_ref().map(contained::make_places).transpose()?.unwrap_or_default();
    for disk in spec.disks.iter().filter(|disk| disk.superblock.is_some()) {
        unistd::fchdir(&staging).while_("the disks")?;
        let content = mounting::folder_of(disk);
        fs::DirBuilder::new().mode(0o755).create(&content).while_(&content)?;
        enter_root(&directory(&content).while_(&content)?)?;
        ids.own(Path::new("/"), 0, 0).while_(&content)?;
        unpack(input, ids)?;
    }
    enter_root(&outside)?;
    if let Some(container) = &spec.container {
        contained::mount(container, &places)?;
    }

    unistd::fchdir(&staging).while_("the new root")?;
    make_dev(spec, Path::new("root/dev"), ids)?;

    // Out with the old root.
    match unistd::pivot_root(".", ".") {
        // The old root lies over the new one now.
        Ok(()) => umount2(".", MntFlags::MNT_DETACH).while_("the old root")?,
        // Docker's default seccomp profile knows no pivot_root. What lies under the file system
        // of the new root can't be reached by who may not unmount that.
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) => {
            mount(Some("."), "/", none, MsFlags::MS_MOVE, none).while_("moving the root")?;
        }
        Err(error) => return Err(error).while_("pivot_root"),
    }
    enter_root(root)?;
    unistd::chdir("/").while_("/")?;
    Ok(staging)
}

/// Who owns what in the sandbox.
#[derive(Clone, Copy)]
pub(super) struct Ids {
    /// The id outside that is 0 inside.
    first: u32,
}

impl Ids {
    /// The id outside of an id inside. Ids beyond the range share its last one.
    fn outside(self, id: u32) -> u32 {
        self.first + if self.first == 0 { id } else { id.min(IDS - 1) }
    }

    /// Gives `path`, which this process made, to its owner.
    fn own(self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (self.outside(uid), self.outside(gid));
        if (uid, gid) == (0, 0) { Ok(()) } else { lchown(path, Some(uid), Some(gid)) }
    }
}

/// Makes `path` a directory, and no link to one.
fn real_directory(path: &Path, mode: u32, ids: Ids) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    fs::create_dir(path)?;
    ids.own(path, 0, 0)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Writes the tree below `/`. What can't be written is left out, as the kernel
/// does, but a root that is full is an error.
pub(super) fn unpack(input: &mut impl Read, ids: Ids) -> Result<(), Refusal> {
    while let Some(header) = spec::get::<Header>(input).while_("reading the tree")? {
        let Some(path) = below_root(&header.path) else {
            if let HeaderKind::File(size) = header.kind {
                io::copy(&mut input.take(size), &mut io::sink()).while_("reading the tree")?;
            }
            continue;
        };
        match write_node(&path, &header, input, ids) {
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

fn write_node(path: &Path, header: &Header, input: &mut impl Read, ids: Ids) -> io::Result<()> {
    let prepared = prepare(path, matches!(header.kind, HeaderKind::Directory), ids);
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
    ids.own(path, header.uid, header.gid)?;
    if !matches!(header.kind, HeaderKind::Symlink(_)) {
        // After the owner: a change of it takes set-user-ID away.
        fs::set_permissions(path, fs::Permissions::from_mode(header.mode & 0o7777))?;
    }
    Ok(())
}

/// Makes the parents of `path`, and room for it. Says whether it is a directory
/// already, and is to be one.
fn prepare(path: &Path, directory: bool, ids: Ids) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() && directory => return Ok(true),
        Ok(found) if found.is_dir() => fs::remove_dir(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {
            let missing: Vec<&Path> =
                path.ancestors().skip(1).take_while(|parent| !parent.is_dir()).collect();
            for parent in missing.into_iter().rev() {
                fs::DirBuilder::new().mode(0o755).create(parent)?;
                ids.own(parent, 0, 0)?;
            }
        }
    }
    Ok(false)
}

/// Makes `/dev` of the new root, before the old one is gone.
fn make_dev(spec: &Spec, dev: &Path, ids: Ids) -> Result<(), Refusal> {
    let none = None::<&str>;
    let first = ids.first;
    let options = format!("mode=0755,size=16m,nr_inodes=4096,uid={first},gid={first}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("devtmpfs"), dev, Some("tmpfs"), flags, Some(options.as_str())).while_("/dev")?;
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
    ids.own(Path::new(&spec.terminal), 0, 0).while_("the console")?;
    let own = if spec.container.is_some() { &["console"][..] } else { &["console", "kmsg"] };
    for name in own.iter().copied().chain(spec.ports.iter().map(String::as_str)) {
        bind(Path::new(&spec.terminal), name, MsFlags::empty())?;
    }
    let pts = dev.join("pts");
    real_directory(&pts, 0o755, ids).while_("/dev/pts")?;
    let options =
        format!("newinstance,max={TERMINALS},ptmxmode=0666,mode=0620,gid={}", ids.outside(TTY_GROUP));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devpts"), &pts, Some("devpts"), flags, Some(options.as_str())).while_("/dev/pts")?;
    real_directory(&dev.join("shm"), 0o1777, ids).while_("/dev/shm")?;
    if spec.container.is_none() {
        kexec::make(dev, first)?;
    }
    make_disks(&spec.disks, dev, ids)?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = dev.join(name);
        symlink(target, &link).and_then(|()| ids.own(&link, 0, 0)).while_(name)?;
    }
    Ok(())
}

/// Makes the devices of disks, which nobody can open, and udev's links to those with a file system, by its UUID and by its name.
fn make_disks(disks: &[BlockDevice], dev: &Path, ids: Ids) -> Result<(), Refusal> {
    for disk in disks {
        let path = dev.join(&disk.name);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknod(&path, SFlag::S_IFBLK, mode, makedev(disk.major, disk.minor)).while_(path.display())?;
        ids.own(&path, 0, 0).while_(path.display())?;
        let Some(superblock) = &disk.superblock else { continue };
        for (kind, name) in [("by-uuid", &superblock.uuid), ("by-label", &superblock.label)] {
            // udev writes what no file's name may have in another way, and LAVA has no such names.
            if name.is_empty()
                || name.starts_with('.')
                || name.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
            {
                continue;
            }
            let links = dev.join("disk").join(kind);
            for folder in [&dev.join("disk"), &links] {
                real_directory(folder, 0o755, ids).while_(folder.display())?;
            }
            let link = links.join(name);
            // Of two with one UUID, as of copies, udev has one link, too.
            let _ = fs::remove_file(&link);
            symlink(Path::new("../..").join(&disk.name), &link)
                .and_then(|()| ids.own(&link, 0, 0))
                .while_(link.display())?;
        }
    }
    Ok(())
}

/// Mounts `/proc`, from a process of the new PID namespace.
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

/// What the child does: becomes PID 1 of the board, or says why not.
fn become_init(spec: &Spec, root: &OwnedFd, ready: OwnedFd) -> ! {
    // A status fd that no program inherits.
    let status = open_status();
    // It is ready when there is a byte; the end of the file is the parent's.
    if !matches!(unistd::read(&ready, &mut [0]), Ok(1)) {
        finish(Ok(()));
    }
    match prepare_init(spec, root, ready) {
        Ok(()) if let Some(container) = &spec.container => contained::be_init(container, status.as_fd()),
        Ok(()) => report(status.as_fd(), &Status::NoInit(run_inits(&spec.inits, &spec.prefix))),
        Err(Refusal(why)) => report(status.as_fd(), &Status::Refused(why)),
    }
    finish(Ok(()))
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

fn prepare_init(spec: &Spec, root: &OwnedFd, parent: OwnedFd) -> Result<(), Refusal> {
    enter_root(root)?;
    unistd::chdir("/").while_("/")?;
    // Root of the new user namespace, if there is one.
    unistd::setgroups(&[]).while_("groups")?;
    unistd::setresgid(0.into(), 0.into(), 0.into()).while_("the group")?;
    unistd::setresuid(0.into(), 0.into(), 0.into()).while_("the user")?;
    // Old kernels have none.
    let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
    unistd::sethostname(&spec.hostname).while_("the host name")?;
    if spec.container.is_none() {
        network::set_up(spec.server, io::stdin().as_fd());
    }
    // The serial port is open, but not the controlling terminal: the kernel's
    // PID 1 has none either, and whoever asks for it gets it.
    let console = open("/dev/console", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())
        .while_("/dev/console")?;
    for fd in 0..3 {
        // SAFETY: they are this process's own, and nothing waits in their buffers.
        if unsafe { libc::dup2(console.as_raw_fd(), fd) } < 0 {
            return Err(Errno::last()).while_("the console");
        }
    }
    restrict(spec.container.is_some())?;
    if spec.container.is_none() {
        match mounting::ask(parent.as_fd()) {
            // Then it mounts nothing.
            Err(Refusal(why)) if spec.disks.is_empty() => rights::send(parent.as_fd(), &why, None),
            asked => asked?,
        }
    }
    // After the capabilities: a change of them would undo it.
    prctl::set_pdeathsig(Signal::SIGKILL).while_("the parent's death")?;
    let mut fds = [PollFd::new(parent.as_fd(), PollFlags::empty())];
    if poll(&mut fds, PollTimeout::ZERO).while_("the parent")? != 0 {
        return Err(Refusal("the parent is gone".into()));
    }
    Ok(())
}

/// Makes this process one that may do no more than what runs in a sandbox.
pub(super) fn restrict(is_container: bool) -> Result<(), Refusal> {
    let limits = [
        (Resource::RLIMIT_CORE, 0, 0),
        (Resource::RLIMIT_NOFILE, 1024, 4096),
        (Resource::RLIMIT_NPROC, 512, 512),
        (Resource::RLIMIT_AS, 4 << 30, 4 << 30),
        (Resource::RLIMIT_DATA, 1 << 30, 1 << 30),
        (Resource::RLIMIT_MEMLOCK, 64 << 10, 64 << 10),
        (Resource::RLIMIT_MSGQUEUE, 64 << 10, 64 << 10),
    ];
    for (resource, soft, hard) in limits {
        // What is lower already stays.
        let _ = setrlimit(resource, soft, hard);
    }
    umask(Mode::from_bits_truncate(0o022));
    drop_capabilities(is_container).while_("dropping capabilities")?;
    prctl::set_no_new_privs().while_("no_new_privs")?;
    default_signals();
    Ok(())
}

fn drop_capabilities(is_container: bool) -> Result<(), caps::errors::CapsError> {
    let more = if is_container { &KEPT_IN_CONTAINERS[..] } else { &[] };
    let kept: CapsHashSet = KEPT.iter().chain(more).copied().collect();
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
