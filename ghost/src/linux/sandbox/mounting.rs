//! mount(2) of a disk's file system.
//!
//! No process of a sandbox's may mount: its mounts are those of the sandbox's own process, see [`super::inside`]. Where a board has
//! disks, a filter (`seccomp(2)`, `seccomp_unotify(2)`) has the kernel ask that process about each mount(2) and umount2(2) of the
//! userland's. It carries out those of the board's disks, with what the kernel would say of them, and refuses all others as
//! the kernel does. What is on a disk was unpacked beside the root, out of reach of whatever runs in there; to mount it is to show
//! it in a second place. A program that mounts by the newer calls, such as fsopen(2), is refused, and tries mount(2) then.
//!
//! Texts and errors are those of Linux 6.1 with ext4 for all of ext2 to ext4 (`fs/ext4/super.c`), as distributions build it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::socket::MsgFlags;
use nix::sys::stat::Mode;
use nix::unistd;

use super::inside::{Refusal, While as _};
use super::rights;
use super::spec::BlockDevice;

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

/// The level of what the kernel prints: `KERN_ERR` and `KERN_INFO`.
const ERR: u8 = 3;
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
    ) -> Option<Self> {
        let listener = rights::receive(init, MsgFlags::empty()).ok()?;
        Some(Self { listener, contents, proc, disks: disks.to_vec(), mounted: Vec::new() })
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
        let (source, target) = (path(0)?, path(1)?);
        let kind = text(&memory, arguments[2])?;
        is_same()?;
        self.mount(&source, &target, &String::from_utf8_lossy(&kind), arguments[3])
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
        let say = |level: u8, text: &str| {
            // As to /dev/kmsg.
            let _ = writeln!(io::stdout(), "<{level}>EXT4-fs ({}): {text}", disk.name);
        };
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
        unistd::fchdir(&self.contents)?;
        let (content, none) = (folder_of(disk), None::<&str>);
        let mounted = mount(Some(content.as_str()), &target, none, MsFlags::MS_BIND, none);
        unistd::chdir("/")?;
        mounted?;
        if flags.contains(MsFlags::MS_RDONLY) {
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(none, &target, none, read_only | MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)?;
        }
        let journal = if superblock.has_journal { "with ordered data mode" } else { "without journal" };
        say(INFO, &format!("mounted filesystem {journal}. Quota mode: none."));
        self.mounted.push(target);
        Ok(())
    }

    fn unmount(&mut self, target: &Path) -> Result<(), Errno> {
        let target = fs::canonicalize(target).map_err(errno)?;
        let Some(at) = self.mounted.iter().rposition(|mounted| *mounted == target) else {
            return Err(Errno::EPERM);
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
