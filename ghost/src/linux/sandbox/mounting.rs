//! mount(2) of a disk's file system, and of what a server exports by NFS.
//!
//! No process of a sandbox's may mount: its mounts are those of the sandbox's own process, see [`super::inside`]. On a board
//! a filter (`seccomp(2)`, `seccomp_unotify(2)`) has the kernel ask that process about each mount(2) and umount2(2) of the
//! userland's. It carries out those of the board's disks and of exports, with what the kernel would say of them, and refuses all others as
//! the kernel does. What is on a disk was unpacked beside the root, out of reach of whatever runs in there; to mount it is to show
//! it in a second place. An export is read by the daemon at that moment, and unpacked there as well; what a board writes to it stays on the
//! board. A program that mounts by the newer calls, such as fsopen(2), is refused, and tries mount(2) then.
//!
//! Texts and errors are those of Linux 6.1 with ext4 for all of ext2 to ext4 (`fs/ext4/super.c`), as distributions build it, and
//! with a client of NFS 3 alone ([`Options`]).

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::socket::MsgFlags;
use nix::sys::stat::Mode;
use nix::unistd;

use super::inside::{Ids, Refusal, While as _, directory, enter_root, report, unpack};
use super::rights;
use super::spec::{self, Answer, BlockDevice, Export, Status};

/// What seccomp calls this machine's system calls (`include/uapi/linux/audit.h`).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Where `struct seccomp_data` has the number of the call, and the architecture.
const CALL_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// The longest path, and so the longest text that is read of a process (`PATH_MAX`).
const LONGEST: usize = 4096;

/// The file systems that this kernel has of a disk.
const KINDS: [&str; 3] = ["ext2", "ext3", "ext4"];

/// The file system of NFS. This kernel has no `nfs4`, which is one of its own.
const NFS: &str = "nfs";

/// The level of what the kernel prints: `KERN_ERR`, `KERN_WARNING` and `KERN_INFO`.
const ERR: u8 = 3;
const WARNING: u8 = 4;
const INFO: u8 = 6;

/// Has the kernel ask `supervisor` about the mounts of this process and of all that it will start. Nothing but a filter that
/// is there already is in the way of that.
///
/// # Errors
/// Where this kernel has no such filters.
pub(super) fn ask(supervisor: BorrowedFd<'_>) -> Result<(), Refusal> {
    let mut filter = filter();
    let program =
        libc::sock_fprog { len: u16::try_from(filter.len()).unwrap_or(0), filter: filter.as_mut_ptr() };
    // SAFETY: the program is whole, and the kernel copies it.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    let listener = Errno::result(listener).while_("a filter of mounts")?;
    let listener = i32::try_from(listener).while_("a filter of mounts")?;
    // SAFETY: the kernel just made it for this process.
    let listener = unsafe { OwnedFd::from_raw_fd(listener) };
    rights::send(supervisor, "asking", Some(listener.as_fd()));
    Ok(())
}

/// A program of seccomp's: it asks about two calls, and lets all others pass.
fn filter() -> [libc::sock_filter; 7] {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let jump_if = |k, jt, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k);
    let answer = |k| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    [
        load(ARCHITECTURE_AT),
        jump_if(ARCHITECTURE, 0, 3),
        load(CALL_AT),
        jump_if(libc::SYS_mount as u32, 2, 0),
        jump_if(libc::SYS_umount2 as u32, 1, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_USER_NOTIF),
    ]
}

/// What the sandbox's own process needs to answer.
pub(super) struct Mounts {
    listener: OwnedFd,
    /// The folder with the disks' contents, which [`folder_of`] names.
    contents: OwnedFd,
    /// `/proc` of the PID namespace of this process, in which the kernel names those that ask.
    proc: OwnedFd,
    disks: Vec<BlockDevice>,
    mounted: Vec<PathBuf>,
    /// The root of the sandbox.
    root: OwnedFd,
    ids: Ids,
    /// How many exports were unpacked.
    exports: usize,
}

/// Where a disk's content is unpacked, in the file system that the root is a folder of.
pub(super) fn folder_of(disk: &BlockDevice) -> String {
    format!("disk-{}", disk.name)
}

/// `/proc`, to be opened as long as it is that of this process's PID namespace.
pub(super) fn proc() -> Result<OwnedFd, Refusal> {
    open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).while_("/proc")
}

impl Mounts {
    /// Waits for the filter of PID 1, at the other end of `init`; nothing where PID 1 ended before.
    pub(super) fn of(
        init: BorrowedFd<'_>,
        contents: OwnedFd,
        proc: OwnedFd,
        disks: &[BlockDevice],
        (root, ids): (OwnedFd, Ids),
    ) -> Option<Self> {
        let listener = rights::receive(init, MsgFlags::empty()).ok()?;
        let (disks, mounted) = (disks.to_vec(), Vec::new());
        Some(Self { listener, contents, proc, disks, mounted, root, ids, exports: 0 })
    }

    /// Answers the one who asks now.
    pub(super) fn answer(&mut self) {
        // SAFETY: zeros are a notification.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one there.
        let result =
            unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) };
        if result < 0 {
            // Who asked was killed.
            return;
        }
        let done = self.carry_out(&asked);
        let answer = libc::seccomp_notif_resp {
            id: asked.id,
            val: 0,
            error: done.err().map_or(0, |error| -(error as i32)),
            flags: 0,
        };
        // SAFETY: the kernel reads it only. Who asked may be gone.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    }

    fn carry_out(&mut self, asked: &libc::seccomp_notif) -> Result<(), Errno> {
        let (pid, arguments) = (asked.pid, asked.data.args);
        // Docker's seccomp profile has process_vm_readv(2) for some kernels only.
        let memory = openat(
            &self.proc,
            format!("{pid}/mem").as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let memory = File::from(memory);
        let path = |number: usize| -> Result<PathBuf, Errno> {
            let path = PathBuf::from(OsString::from_vec(text(&memory, arguments[number])?));
            match path.is_absolute() {
                true => Ok(path),
                false => Ok(Path::new(&readlinkat(&self.proc, format!("{pid}/cwd").as_str())?).join(path)),
            }
        };
        let is_mount = i64::from(asked.data.nr) == libc::SYS_mount;
        // Of a call that is asked about, what was read of the process counts only as long as it still is the same process.
        let is_same = || {
            // SAFETY: the kernel reads a number.
            let same = unsafe {
                libc::ioctl(
                    self.listener.as_raw_fd(),
                    libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
                    &raw const asked.id,
                )
            };
            Errno::result(same).map(|_| ())
        };
        if !is_mount {
            let target = path(0)?;
            is_same()?;
            return self.unmount(&target);
        }
        let target = path(1)?;
        let kind = text(&memory, arguments[2])?;
        if kind == NFS.as_bytes() {
            let (source, options) = (text(&memory, arguments[0])?, text(&memory, arguments[4])?);
            is_same()?;
            let options = Options::of(&String::from_utf8_lossy(&options))?;
            return self.mount_export(&String::from_utf8_lossy(&source), &target, arguments[3], &options);
        }
        let source = path(0)?;
        is_same()?;
        self.mount(&source, &target, &String::from_utf8_lossy(&kind), arguments[3])
    }

    /// Mounts what a server exports. As in the kernel, `addr=` says which server that is, and the name in front of the path is a name.
    fn mount_export(
        &mut self,
        source: &str,
        target: &Path,
        flags: u64,
        options: &Options,
    ) -> Result<(), Errno> {
        let flags = MsFlags::from_bits_truncate(flags);
        let target = fs::canonicalize(target).map_err(errno)?;
        if !target.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let Some((_, path)) = source.split_once(':').filter(|(_, path)| path.starts_with('/')) else {
            return Err(Errno::EINVAL);
        };
        if options.locks {
            // A board's userland has no rpcbind, and `lockd` begins before the server is asked.
            say(WARNING, "svc: failed to register lockdv1 RPC service (errno 111).");
            say(WARNING, "lockd_up: makesock failed, error=-111");
            return Err(Errno::ECONNREFUSED);
        }
        let Some(server) = options.server else { return Err(Errno::EINVAL) };
        report(io::stderr().as_fd(), &Status::Asks(Export { server, path: path.to_owned() }));
        let mut input = BufReader::new(io::stdin().lock());
        let answer: Option<Answer> = spec::get(&mut input).map_err(errno)?;
        answer.unwrap_or(Err(Errno::EIO as i32)).map_err(Errno::from_raw)?;
        let content = format!("export-{}", self.exports);
        self.exports += 1;
        unistd::fchdir(&self.contents)?;
        let made =
            DirBuilder::new().mode(0o755).create(&content).map_err(errno).and_then(|()| directory(&content));
        let unpacked = made.map_err(|error| Refusal(error.to_string())).and_then(|folder| {
            enter_root(&folder)?;
            unpack(&mut input, self.ids)
        });
        enter_root(&self.root).map_err(|_| Errno::EIO)?;
        unistd::chdir("/")?;
        unpacked.map_err(|_| Errno::ENOSPC)?;
        self.show(&content, &target, flags)
    }

    /// Shows a folder of the contents at `target`.
    fn show(&mut self, content: &str, target: &Path, flags: MsFlags) -> Result<(), Errno> {
        unistd::fchdir(&self.contents)?;
        let none = None::<&str>;
        let mounted = mount(Some(content), target, none, MsFlags::MS_BIND, none);
        unistd::chdir("/")?;
        mounted?;
        if flags.contains(MsFlags::MS_RDONLY) {
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(none, target, none, read_only | MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)?;
        }
        self.mounted.push(target.to_owned());
        Ok(())
    }

    fn mount(&mut self, source: &Path, target: &Path, kind: &str, flags: u64) -> Result<(), Errno> {
        let flags = MsFlags::from_bits_truncate(flags);
        let others = MsFlags::MS_BIND | MsFlags::MS_MOVE | MsFlags::MS_REMOUNT | MsFlags::MS_SHARED;
        if flags.intersects(others) {
            return Err(Errno::EPERM);
        }
        let is_known = KINDS.contains(&kind);
        // This process's root is the sandbox's.
        let device = match fs::canonicalize(source) {
            Ok(device) => device,
            Err(error) if is_known => return Err(errno(error)),
            Err(_) => return Err(Errno::EPERM),
        };
        let is_at = |disk: &&BlockDevice| device == Path::new("/dev").join(&disk.name);
        let disk = self.disks.iter().find(is_at).ok_or(Errno::EPERM)?;
        let say = |level: u8, text: &str| say(level, &format!("EXT4-fs ({}): {text}", disk.name));
        let target = fs::canonicalize(target).map_err(errno)?;
        if !target.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if !is_known {
            return Err(Errno::ENODEV);
        }
        let Some(superblock) = &disk.superblock else {
            say(ERR, "VFS: Can't find ext4 filesystem");
            return Err(Errno::EINVAL);
        };
        if kind == "ext2" {
            if !superblock.is_ext2 {
                say(ERR, "couldn't mount as ext2 due to feature incompatibilities");
                return Err(Errno::EINVAL);
            }
            say(INFO, "mounting ext2 file system using the ext4 subsystem");
        }
        let journal = if superblock.has_journal { "with ordered data mode" } else { "without journal" };
        let (content, name) = (folder_of(disk), disk.name.clone());
        self.show(&content, &target, flags)?;
        self::say(INFO, &format!("EXT4-fs ({name}): mounted filesystem {journal}. Quota mode: none."));
        Ok(())
    }

    fn unmount(&mut self, target: &Path) -> Result<(), Errno> {
        let target = fs::canonicalize(target).map_err(errno)?;
        let Some(at) = self.mounted.iter().rposition(|mounted| *mounted == target) else {
            // What it was given with is not its own to take away; anything else is no place where something is mounted.
            let is_given =
                target == Path::new("/") || target.starts_with("/proc") || target.starts_with("/dev");
            return Err(if is_given { Errno::EPERM } else { Errno::EINVAL });
        };
        umount2(&target, MntFlags::UMOUNT_NOFOLLOW)?;
        self.mounted.remove(at);
        Ok(())
    }
}

impl AsFd for Mounts {
    /// Readable when somebody asks; hung up when nobody is there any more who could.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Has the kernel print a line, as what is written to /dev/kmsg.
fn say(level: u8, text: &str) {
    let _ = writeln!(io::stdout(), "<{level}>{text}");
}

/// What a mount of an export is to be like, as mount(2) is told: `OPTION,NAME=VALUE,...` (`nfs_fs_parameters` in Linux's
/// `fs/nfs/fs_context.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    /// The server's address.
    server: Option<Ipv4Addr>,
    /// Whether files can be locked there, which takes `lockd`.
    locks: bool,
}

impl Options {
    /// Those without a value that change nothing here.
    const FLAGS: [&str; 27] = [
        "ac",
        "acl",
        "bg",
        "cto",
        "fg",
        "fsc",
        "hard",
        "intr",
        "migration",
        "noac",
        "noacl",
        "nocto",
        "nofsc",
        "nointr",
        "nomigration",
        "noposix",
        "nordirplus",
        "noresvport",
        "nosharecache",
        "posix",
        "rdirplus",
        "resvport",
        "sharecache",
        "soft",
        "softerr",
        "softreval",
        "tcp",
    ];
    /// Those with a value that change nothing here.
    const VALUES: [&str; 17] = [
        "acdirmax",
        "acdirmin",
        "acregmax",
        "acregmin",
        "actimeo",
        "bsize",
        "clientaddr",
        "local_lock",
        "lookupcache",
        "mountaddr",
        "mounthost",
        "namlen",
        "nconnect",
        "retrans",
        "rsize",
        "timeo",
        "wsize",
    ];

    fn of(text: &str) -> Result<Self, Errno> {
        let mut options = Self { server: None, locks: true };
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value))) {
                ("nolock", None) => options.locks = false,
                ("lock", None) => options.locks = true,
                ("addr", Some(address)) => options.server = Some(address.parse().map_err(|_| Errno::EINVAL)?),
                ("vers" | "nfsvers", Some("3")) | ("v3", None) => {}
                // Versions that this kernel has no client of.
                ("vers" | "nfsvers", Some("2" | "4" | "4.0" | "4.1" | "4.2"))
                | ("v2" | "v4" | "v4.0" | "v4.1" | "v4.2", None) => return Err(Errno::EPROTONOSUPPORT),
                ("proto" | "mountproto", Some("tcp")) => {}
                ("sec", Some("sys" | "none")) => {}
                (name, None) if Self::FLAGS.contains(&name) => {}
                (name, Some(_)) if Self::VALUES.contains(&name) => {}
                (name, _) => {
                    say(ERR, &format!("nfs: Unknown parameter '{name}'"));
                    return Err(Errno::EINVAL);
                }
            }
        }
        Ok(options)
    }
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The text at an address in a process's memory, up to its zero. A null pointer is an empty text, as mount(2) takes it.
fn text(memory: &File, address: u64) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    if address == 0 {
        return Ok(text);
    }
    let mut at = address;
    while text.len() < LONGEST {
        let mut piece = [0; 256];
        // Less comes where the next page is not there.
        let read = memory.read_at(&mut piece, at).map_err(|_| Errno::EFAULT)?;
        let piece = &piece[..read];
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&piece[..end]);
            return Ok(text);
        }
        if piece.is_empty() {
            return Err(Errno::EFAULT);
        }
        text.extend_from_slice(piece);
        at += piece.len() as u64;
    }
    Err(Errno::ENAMETOOLONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_export_are_those_that_the_kernel_knows() {
        let server = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(
            Options::of("nolock,vers=3,rsize=4096,addr=10.0.0.1"),
            Ok(Options { server, locks: false })
        );
        assert_eq!(Options::of("addr=10.0.0.1"), Ok(Options { server, locks: true }));
        assert_eq!(Options::of(""), Ok(Options { server: None, locks: true }));
        assert_eq!(Options::of("vers=4.2,addr=10.0.0.1"), Err(Errno::EPROTONOSUPPORT));
        for wrong in ["addr=fileserver", "nolocks", "rsize"] {
            assert_eq!(Options::of(wrong), Err(Errno::EINVAL), "{wrong}");
        }
    }

    #[test]
    fn a_text_of_a_process_is_read_up_to_its_zero() {
        let memory = File::open("/proc/self/mem").unwrap();
        let long = [b"x".repeat(1000), vec![0], b"not this".to_vec()].concat();
        let read = |bytes: &[u8]| text(&memory, bytes.as_ptr() as u64);
        assert_eq!(read(&long).unwrap(), b"x".repeat(1000));
        assert_eq!(read(&[b"y".repeat(LONGEST + 256), vec![0]].concat()), Err(Errno::ENAMETOOLONG));
        assert_eq!(text(&memory, 0).unwrap(), b"");
        assert_eq!(text(&memory, 8), Err(Errno::EFAULT));
    }
}
