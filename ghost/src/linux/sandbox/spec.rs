//! What the daemon and the sandbox's own process say to each other.
//!
//! On the way there: a [`Spec`], then the tree node by node ([`Header`], and the
//! content of a file behind it), then an empty frame, then the trees of the disks
//! in the same way, and then nothing but answers: the end of that pipe is the end of the sandbox. An answer to [`Status::Asks`] is a
//! frame, [`Answer`], and behind it, where that is a tree, the tree and an empty frame. On the way back by the same pipe: the socket
//! that listens in the server's place, if there is one. By standard error: a [`Status`] a line.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use meta_lava_formats::ext::Superblock;
use meta_lava_formats::tree::{Node, NodeKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// No frame is longer: the longest holds a kernel command line, or a path and a
/// link's target.
const FRAME_LIMIT: usize = 1 << 20;

/// What to set up, and what to run in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the host in there.
    pub hostname: String,
    /// What `/proc/cmdline` says.
    pub cmdline: String,
    /// Names in `/dev` that the serial port has, beside `console`.
    pub ports: Vec<String>,
    /// Path of the terminal that is the serial port.
    pub terminal: String,
    /// The server that can be reached from in there.
    pub server: Option<SocketAddrV4>,
    /// Programs to try as PID 1, in order.
    pub inits: Vec<Init>,
    /// What the kernel prints before each line: a time in brackets and a blank.
    pub prefix: String,
    /// Bytes that the root file system can hold.
    pub bytes: u64,
    /// Files that it can hold.
    pub inodes: u64,
    /// What is in its place where it is a container, and no board.
    pub container: Option<Container>,
    /// A board's disks. What is on them follows the tree of the root, one after the other.
    pub disks: Vec<BlockDevice>,
}

/// A disk, as the userland sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// Its name in `/dev`.
    pub name: String,
    /// Numbers of its device.
    pub major: u64,
    pub minor: u64,
    /// Where there is a file system on it, what a kernel sees of that.
    pub superblock: Option<Superblock>,
}

/// What a container has that a board has not. Its root is the worker's own root, as in a container of
/// Docker's, so that it may write what is mounted into it; and nothing but [`Program`] runs in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Files and folders of the worker's that are seen in it.
    pub mounts: Vec<Mount>,
    /// The folder to make for the program to run in.
    pub folder: String,
    /// What runs; where there is none, PID 1 is there for those who enter.
    pub program: Option<Program>,
    /// Whether PID 1 is an init that waits for the program, which is its child; else the program is PID 1 itself.
    pub init: bool,
    /// Whether the program is on the terminal. Else it reads nothing, and what it prints is lost.
    pub terminal: bool,
}

/// A file or folder of the worker's that is seen in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the worker.
    pub source: PathBuf,
    /// Path in the container.
    pub target: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    pub read_only: bool,
}

/// A program in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name, as it was asked for, and its arguments.
    pub words: Vec<String>,
    /// `NAME=VALUE` each.
    pub environment: Vec<String>,
    /// Where it runs.
    pub folder: String,
    pub uid: u32,
    pub gid: u32,
}

/// A program to run as PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    pub path: String,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// Who named it.
    pub named_by: NamedBy,
}

/// Who named a program to run as PID 1; it decides what the kernel says when it
/// can't be run (`kernel_init` in `init/main.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedBy {
    /// `/init` of a ramdisk, or `rdinit=`.
    Ramdisk,
    /// `init=`: there is no other choice.
    CommandLine,
    /// The kernel's own list.
    Kernel,
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It could not be set up; nothing ran.
    Refused(String),
    /// No program could be run as PID 1; the kernel's last words on that.
    NoInit(String),
    /// PID 1 ended, with this wait status.
    Ended(i32),
    /// A kernel that was loaded is started; the process waits until that was read.
    Kexec,
    /// A container is about to run, and this is its PID 1 on the worker. Others follow.
    Begun(i32),
    /// A container runs: its program does, where it has one. Others follow.
    Running,
    /// The program of a container can't be run.
    NotRun(NotRun),
    /// A board mounts what a server exports by NFS, and waits for the [`Answer`]. Others follow.
    Asks(Export),
}

/// A folder that a server exports by NFS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    pub server: Ipv4Addr,
    pub path: String,
}

/// What comes of [`Status::Asks`]: a tree follows, or this is the error that the kernel has.
pub type Answer = Result<(), i32>;

/// Why a program can't be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// In the words of `runc`.
    pub why: String,
    /// Whether it is there at all.
    pub is_there: bool,
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Path below the root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub kind: HeaderKind,
}

/// What a [`Header`] announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderKind {
    /// A file; so many bytes follow.
    File(u64),
    Directory,
    /// A symbolic link to this.
    Symlink(String),
}

impl Header {
    /// The header of a node, and the content that follows it; `None` for what no
    /// sandbox makes.
    #[must_use]
    pub fn of(node: Node) -> Option<(Self, Vec<u8>)> {
        let Node { path, mode, uid, gid, kind } = node;
        let (kind, content) = match kind {
            NodeKind::File(content) => (HeaderKind::File(content.len() as u64), content),
            NodeKind::Directory => (HeaderKind::Directory, Vec::new()),
            NodeKind::Symlink(target) => (HeaderKind::Symlink(target), Vec::new()),
            NodeKind::Special => return None,
        };
        Some((Self { path, mode, uid, gid, kind }, content))
    }
}

/// Appends a frame with `value` to `out`.
///
/// # Errors
/// When it is too long for one.
pub fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a frame is too long");
    let size =
        u32::try_from(bytes.len()).ok().filter(|size| *size as usize <= FRAME_LIMIT).ok_or_else(too_long)?;
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Appends the empty frame to `out`.
pub fn put_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// Reads a frame; `None` is the empty one.
///
/// # Errors
/// When it ends early, or does not parse.
pub fn get<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut size = [0; 4];
    from.read_exact(&mut size)?;
    let size = u32::from_le_bytes(size) as usize;
    if size == 0 {
        return Ok(None);
    }
    if size > FRAME_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut bytes = vec![0; size];
    from.read_exact(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let header =
            Header { path: "a".into(), mode: 0o755, uid: 1, gid: 2, kind: HeaderKind::Symlink("b".into()) };
        let mut bytes = Vec::new();
        put(&mut bytes, &header).unwrap();
        put_end(&mut bytes);
        let mut from = bytes.as_slice();
        assert_eq!(get(&mut from).unwrap(), Some(header));
        assert_eq!(get::<Header>(&mut from).unwrap(), None);
        assert!(get::<Header>(&mut from).is_err());
    }

    proptest! {
        #[test]
        fn rubbish_is_no_frame_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = get::<Header>(&mut bytes.as_slice());
        }
    }
}
