//! An NFSv3 client (RFC 1813) that reads a whole exported directory: what a
//! kernel with an NFS root sees of it.
//!
//! All over TCP: the port mapper (RFC 1833, version 2) names the ports, the
//! mount protocol (RFC 1813, appendix I) the root, and one connection carries
//! the calls of the walk, several at a time. The client is root of its machine
//! (AUTH_SYS) and comes from a privileged port, as kernels do.
//!
//! The types and their encoding are the crate `nfs3_types`. The client that goes with it,
//! `nfs3_client` (0.9), is not used: it takes one call at a time, refuses a reply in more than
//! one fragment, makes a buffer of whatever length a reply announces (up to 2 GiB), has no
//! deadlines, and reads for ever where a connection ends in the middle of a reply.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use meta_lava_formats::tree::{MAX_CONTENT, Node, NodeKind, Tree};
use nfs3_types::mount::{self, MOUNT_PROGRAM, dirpath, mountstat3};
use nfs3_types::nfs3::{
    self, LOOKUP3args, NFS_PROGRAM, READ3args, READDIRPLUS3args, READLINK3args, cookieverf3, diropargs3,
    fattr3, filename3, ftype3, nfs_fh3, nfsstat3, post_op_attr,
};
use nfs3_types::portmap::{self, PMAP_PROG};
use nfs3_types::xdr_codec::Opaque;

use self::rpc::{Connection, Program, bad, opaque, take};
use super::{FetchError, resolve};

mod rpc;

const PORTMAP: Program = Program { number: portmap::PROGRAM, version: portmap::VERSION };
const MOUNT: Program = Program { number: mount::PROGRAM, version: mount::VERSION };
const NFS: Program = Program { number: nfs3::PROGRAM, version: nfs3::VERSION };

/// Longest file handle, name and path (RFC 1813, sections 2.4 and 3.2), in bytes.
const HANDLE_LIMIT: usize = 64;
const NAME_LIMIT: usize = 255;
const PATH_LIMIT: usize = 4096;
/// Most entries of a tree, and most directories in one another.
const ENTRY_LIMIT: usize = 1 << 20;
const DEPTH_LIMIT: usize = 128;
/// Bytes to ask for with one call.
const READ_SIZE: u32 = 256 << 10;
const LIST_SIZE: u32 = 64 << 10;
/// Calls under way at once.
const WINDOW: usize = 32;
/// A server that is busy (NFS3ERR_JUKEBOX) is asked again after this long, so many times.
const BUSY_WAIT: Duration = Duration::from_millis(100);
const BUSY_LIMIT: usize = 300;

/// Reads the directory `path` that `server` exports, and all below it. `server`
/// is an address or a name, and may bring along the port of its port mapper.
///
/// # Errors
/// [`FetchError::NotFound`] when the server has no such directory,
/// [`FetchError::Refused`] when it says no, or nobody is there,
/// [`FetchError::Timeout`] when it is silent, and [`FetchError::Bad`] on a tree
/// too large or too deep, or a server that breaks the protocol.
pub async fn read_tree(server: &str, path: &str) -> Result<Tree, FetchError> {
    let portmapper = resolve(server, portmap::PMAP_PORT).await?;
    let (mount_port, nfs_port) = ports(portmapper).await?;
    let at = |port| SocketAddr::new(portmapper.ip(), port);
    let root = mount_root(at(mount_port), path).await?;
    let mut connection = Connection::open(at(nfs_port)).await?;
    let mut walk = Walk::default();
    walk.todo.push(Task::List {
        directory: Directory { path: String::new(), handle: root, depth: 0 },
        cookie: 0,
        verifier: cookieverf3::default(),
    });
    walk.run(&mut connection).await?;
    // In the order of their names, parents first: replies come in any order.
    walk.nodes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Tree { nodes: walk.nodes })
}

/// Whether `server` exports the directory `path`: nothing of it is read.
///
/// # Errors
/// As [`read_tree`].
pub async fn is_exported(server: &str, path: &str) -> Result<(), FetchError> {
    let portmapper = resolve(server, portmap::PMAP_PORT).await?;
    let (mount_port, _) = ports(portmapper).await?;
    mount_root(SocketAddr::new(portmapper.ip(), mount_port), path).await.map(drop)
}

/// The ports of the mount and the NFS program.
async fn ports(portmapper: SocketAddr) -> Result<(u16, u16), FetchError> {
    let mut connection = Connection::open(portmapper).await?;
    let mut found = [0; 2];
    for (program, port) in [(MOUNT, 0), (NFS, 1)] {
        let question = portmap::mapping {
            prog: program.number,
            vers: program.version,
            prot: portmap::IPPROTO_TCP,
            port: 0,
        };
        let results = connection.ask(PORTMAP, PMAP_PROG::PMAPPROC_GETPORT as u32, &question).await?;
        found[port] =
            u16::try_from(take::<u32>(&mut results.as_slice())?).map_err(|_| bad("a port over 65535"))?;
        if found[port] == 0 {
            let name = if port == 0 { "mount" } else { "NFS" };
            return Err(FetchError::Refused(format!("{}: no {name} version 3 over TCP", portmapper.ip())));
        }
    }
    Ok((found[0], found[1]))
}

/// The handle of an exported directory.
async fn mount_root(server: SocketAddr, path: &str) -> Result<Handle, FetchError> {
    let mut connection = Connection::open(server).await?;
    let argument = dirpath(Opaque::owned(path.as_bytes().to_vec()));
    let results = connection.ask(MOUNT, MOUNT_PROGRAM::MOUNTPROC3_MNT as u32, &argument).await?;
    let mut input = results.as_slice();
    match take::<mountstat3>(&mut input)? {
        mountstat3::MNT3_OK => handle(&mut input),
        mountstat3::MNT3ERR_NOENT => Err(FetchError::NotFound(path.to_owned())),
        status => Err(FetchError::Refused(format!("mounting {path}: {status}"))),
    }
}

type Handle = Vec<u8>;

fn handle(input: &mut &[u8]) -> Result<Handle, FetchError> {
    opaque(input, HANDLE_LIMIT).map(<[u8]>::to_vec)
}

fn fh(handle: &Handle) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(handle.clone()) }
}

/// A directory to list.
#[derive(Clone)]
struct Directory {
    path: String,
    handle: Handle,
    depth: usize,
}

/// Something to ask the server.
enum Task {
    /// READDIRPLUS, from a place on.
    List { directory: Directory, cookie: u64, verifier: cookieverf3 },
    /// LOOKUP, for an entry that was listed without what READDIRPLUS may leave out.
    Lookup { directory: Directory, name: String },
    /// READLINK, for a node.
    Link { node: usize, handle: Handle },
    /// READ, for a node; what is there of its content tells from where on.
    Read { node: usize, handle: Handle, size: u64 },
}

/// A walk through a tree.
#[derive(Default)]
struct Walk {
    nodes: Vec<Node>,
    /// Last in, first out: that keeps it short.
    todo: Vec<Task>,
    /// Bytes of all files found.
    content: u64,
    busy: usize,
}

impl Walk {
    async fn run(&mut self, connection: &mut Connection) -> Result<(), FetchError> {
        let mut under_way: HashMap<u32, Task> = HashMap::new();
        loop {
            while under_way.len() < WINDOW
                && let Some(task) = self.todo.pop()
            {
                let call = self.call(connection, &task)?;
                under_way.insert(call, task);
            }
            if under_way.is_empty() {
                return Ok(());
            }
            let (call, results) = connection.reply().await?;
            let task = under_way.remove(&call).ok_or_else(|| bad("a reply to no call"))?;
            let mut input = results.as_slice();
            match take::<nfsstat3>(&mut input)? {
                nfsstat3::NFS3_OK => self.answer(task, &mut input)?,
                nfsstat3::NFS3ERR_JUKEBOX if self.busy < BUSY_LIMIT => {
                    self.busy += 1;
                    tokio::time::sleep(BUSY_WAIT).await;
                    self.todo.push(task);
                }
                status => return Err(FetchError::Refused(format!("{status}: /{}", self.path(&task)))),
            }
        }
    }

    fn path<'a>(&'a self, task: &'a Task) -> &'a str {
        match task {
            Task::List { directory, .. } | Task::Lookup { directory, .. } => &directory.path,
            Task::Link { node, .. } | Task::Read { node, .. } => {
                self.nodes.get(*node).map_or("", |node| &node.path)
            }
        }
    }

    /// Queues the call of a task.
    fn call(&self, connection: &mut Connection, task: &Task) -> Result<u32, FetchError> {
        match task {
            Task::List { directory, cookie, verifier } => {
                let arguments = READDIRPLUS3args {
                    dir: fh(&directory.handle),
                    cookie: *cookie,
                    cookieverf: *verifier,
                    dircount: LIST_SIZE,
                    maxcount: LIST_SIZE,
                };
                connection.call(NFS, NFS_PROGRAM::NFSPROC3_READDIRPLUS as u32, &arguments)
            }
            Task::Lookup { directory, name } => {
                let what = diropargs3 { dir: fh(&directory.handle), name: filename3::from(name.as_bytes()) };
                connection.call(NFS, NFS_PROGRAM::NFSPROC3_LOOKUP as u32, &LOOKUP3args { what })
            }
            Task::Link { handle, .. } => {
                let arguments = READLINK3args { symlink: fh(handle) };
                connection.call(NFS, NFS_PROGRAM::NFSPROC3_READLINK as u32, &arguments)
            }
            Task::Read { node, handle, size } => {
                let offset = self.have(*node) as u64;
                let arguments = READ3args { file: fh(handle), offset, count: wanted(offset, *size) };
                connection.call(NFS, NFS_PROGRAM::NFSPROC3_READ as u32, &arguments)
            }
        }
    }

    /// Bytes of a file that came already.
    fn have(&self, node: usize) -> usize {
        match self.nodes.get(node).map(|node| &node.kind) {
            Some(NodeKind::File(content)) => content.len(),
            _ => 0,
        }
    }

    /// Takes the results of a task.
    fn answer(&mut self, task: Task, input: &mut &[u8]) -> Result<(), FetchError> {
        match task {
            Task::List { directory, cookie, .. } => self.listed(directory, cookie, input),
            Task::Lookup { directory, name } => {
                let handle = handle(input)?;
                match take::<post_op_attr>(input)? {
                    post_op_attr::Some(attributes) => self.found(&directory, &name, handle, &attributes),
                    post_op_attr::None => Err(bad("a file without attributes")),
                }
            }
            Task::Link { node, .. } => {
                take::<post_op_attr>(input)?;
                let target = opaque(input, PATH_LIMIT)?;
                if let Some(Node { kind: NodeKind::Symlink(link), .. }) = self.nodes.get_mut(node) {
                    *link = String::from_utf8_lossy(target).into_owned();
                }
                Ok(())
            }
            Task::Read { node, handle, size } => {
                take::<post_op_attr>(input)?;
                let _count = take::<u32>(input)?;
                let end = take::<bool>(input)?;
                let wanted = wanted(self.have(node) as u64, size) as usize;
                let data = opaque(input, wanted)?;
                let Some(Node { kind: NodeKind::File(content), path, .. }) = self.nodes.get_mut(node) else {
                    return Ok(());
                };
                content.extend_from_slice(data);
                if content.len() as u64 == size {
                    return Ok(());
                }
                if end || data.is_empty() {
                    return Err(FetchError::Bad(format!("/{path} ends before its size")));
                }
                self.todo.push(Task::Read { node, handle, size });
                Ok(())
            }
        }
    }

    /// Takes a part of a listing (RFC 1813, section 3.3.17).
    fn listed(&mut self, directory: Directory, cookie: u64, input: &mut &[u8]) -> Result<(), FetchError> {
        take::<post_op_attr>(input)?;
        let verifier = take::<cookieverf3>(input)?;
        let mut last = cookie;
        let mut any = false;
        while take::<bool>(input)? {
            any = true;
            let _file_id = take::<u64>(input)?;
            let name = String::from_utf8_lossy(opaque(input, NAME_LIMIT)?).into_owned();
            last = take::<u64>(input)?;
            let attributes = take::<post_op_attr>(input)?;
            let handle = if take::<bool>(input)? { Some(handle(input)?) } else { None };
            match name.as_str() {
                "." | ".." => {}
                name if name.is_empty() || name.contains(['/', '\0']) => {
                    return Err(FetchError::Bad(format!("a file is called {name:?}")));
                }
                _ => match (attributes, handle) {
                    (post_op_attr::Some(attributes), Some(handle)) => {
                        self.found(&directory, &name, handle, &attributes)?;
                    }
                    _ => {
                        self.check_room()?;
                        self.todo.push(Task::Lookup { directory: directory.clone(), name });
                    }
                },
            }
        }
        let end = take::<bool>(input)?;
        if end {
            return Ok(());
        }
        if !any || last == cookie {
            return Err(FetchError::Bad(format!("the listing of /{} does not go on", directory.path)));
        }
        self.todo.push(Task::List { directory, cookie: last, verifier });
        Ok(())
    }

    fn check_room(&self) -> Result<(), FetchError> {
        if self.nodes.len() + self.todo.len() >= ENTRY_LIMIT {
            return Err(FetchError::Bad(format!("more than {ENTRY_LIMIT} files")));
        }
        Ok(())
    }

    /// Takes an entry of a directory.
    fn found(
        &mut self,
        directory: &Directory,
        name: &str,
        handle: Handle,
        attributes: &fattr3,
    ) -> Result<(), FetchError> {
        self.check_room()?;
        let path =
            if directory.path.is_empty() { name.to_owned() } else { format!("{}/{name}", directory.path) };
        if path.len() > PATH_LIMIT {
            return Err(bad("a path is too long"));
        }
        let node = self.nodes.len();
        let kind = match attributes.type_ {
            ftype3::NF3REG => {
                self.content = self.content.saturating_add(attributes.size);
                if self.content > MAX_CONTENT {
                    return Err(FetchError::Bad(format!("more than {MAX_CONTENT} bytes of files")));
                }
                if attributes.size > 0 {
                    self.todo.push(Task::Read { node, handle, size: attributes.size });
                }
                NodeKind::File(Vec::new())
            }
            ftype3::NF3DIR => {
                let depth = directory.depth + 1;
                if depth > DEPTH_LIMIT {
                    return Err(FetchError::Bad(format!(
                        "more than {DEPTH_LIMIT} directories in one another"
                    )));
                }
                let directory = Directory { path: path.clone(), handle, depth };
                self.todo.push(Task::List { directory, cookie: 0, verifier: cookieverf3::default() });
                NodeKind::Directory
            }
            ftype3::NF3LNK => {
                self.todo.push(Task::Link { node, handle });
                NodeKind::Symlink(String::new())
            }
            ftype3::NF3BLK | ftype3::NF3CHR | ftype3::NF3SOCK | ftype3::NF3FIFO => NodeKind::Special,
        };
        let fattr3 { mode, uid, gid, .. } = *attributes;
        self.nodes.push(Node { path, mode: mode & 0o7777, uid, gid, kind });
        Ok(())
    }
}

/// Bytes to ask for, of a file of `size`, from `offset` on.
fn wanted(offset: u64, size: u64) -> u32 {
    u32::try_from(size.saturating_sub(offset)).unwrap_or(u32::MAX).min(READ_SIZE)
}

/// Reads any bytes as a server's reply, for the fuzz target.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    rpc::fuzz(bytes);
    let Some((which, mut rest)) = bytes.split_first() else { return };
    let node = |kind| Node { path: "a".into(), mode: 0, uid: 0, gid: 0, kind };
    let nodes = vec![node(NodeKind::File(Vec::new())), node(NodeKind::Symlink(String::new()))];
    let mut walk = Walk { nodes, ..Walk::default() };
    let directory = Directory { path: String::new(), handle: Vec::new(), depth: 0 };
    let mut task = Some(match which % 4 {
        0 => Task::List { directory, cookie: 0, verifier: cookieverf3::default() },
        1 => Task::Lookup { directory, name: "a".into() },
        2 => Task::Link { node: 1, handle: Vec::new() },
        _ => Task::Read { node: 0, handle: Vec::new(), size: 100 },
    });
    // What it then wants to know is answered by the rest.
    while let Some(now) = task
        && walk.answer(now, &mut rest).is_ok()
    {
        task = walk.todo.pop();
    }
}

#[cfg(test)]
mod tests;
