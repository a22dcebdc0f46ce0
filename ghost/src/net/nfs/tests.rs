use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const EXPORT: &str = "/srv/root";

/// What a server does otherwise.
#[derive(Clone, Default)]
struct Quirks {
    /// Entries in one listing; all by default.
    page: Option<usize>,
    /// Bytes of one READ at most.
    short_reads: Option<usize>,
    /// Lists without attributes and handles.
    bare_listing: bool,
    /// Sends replies in fragments of so many bytes.
    fragments: Option<usize>,
    /// Says that it is busy, at first.
    busy: bool,
    /// Answers pairs of calls in reverse.
    reverse: bool,
    /// Status of the mount.
    mount: u32,
    /// Port that the port mapper names, instead of its own.
    port: Option<u32>,
    /// Status of every NFS call.
    status: u32,
    /// What files claim to have, beyond what they have.
    lie: u64,
    /// Lists the first entries again and again.
    endless: bool,
    /// This instead of every NFS reply, as it is.
    raw: Option<Vec<u8>>,
    /// Names a file so.
    name: Option<&'static str>,
}

/// A server on a free port, for all three programs.
struct Server {
    tree: Tree,
    quirks: Quirks,
    port: u16,
    calls: AtomicUsize,
}

impl Server {
    /// Serves `tree`, whose parents come before their children.
    async fn start(tree: Tree, quirks: Quirks) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(Self { tree, quirks, port, calls: AtomicUsize::new(0) });
        let shared = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).serve(stream));
            }
        });
        server
    }

    async fn read(&self) -> Result<Tree, FetchError> {
        let server = format!("127.0.0.1:{}", self.port);
        tokio::time::timeout(Duration::from_secs(20), read_tree(&server, EXPORT)).await.unwrap()
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut held = None;
        while let Ok(header) = stream.read_u32().await {
            let mut record = vec![0; (header & 0x7fff_ffff) as usize];
            stream.read_exact(&mut record).await.unwrap();
            let mut input = record.as_slice();
            let mut word = || take::<u32>(&mut input).unwrap();
            let (xid, _call, _rpc, program, _version, procedure) =
                (word(), word(), word(), word(), word(), word());
            for _ in 0..2 {
                take::<u32>(&mut input).unwrap();
                opaque(&mut input, 400).unwrap();
            }
            let mut reply = Reply::default();
            reply.words(&[xid, 1, 0, 0, 0, 0]);
            match program {
                portmap::PROGRAM => reply.word(self.quirks.port.unwrap_or(u32::from(self.port))),
                mount::PROGRAM => {
                    assert_eq!(opaque(&mut input, 1024).unwrap(), EXPORT.as_bytes());
                    reply.word(self.quirks.mount);
                    reply.bytes(&u32::MAX.to_be_bytes());
                    reply.words(&[1, 1]);
                }
                nfs3::PROGRAM => {
                    let number = self.calls.fetch_add(1, Ordering::Relaxed);
                    if let Some(raw) = &self.quirks.raw {
                        let _ = stream.write_all(raw).await;
                        return;
                    }
                    if self.quirks.busy && number < 3 {
                        reply.word(10008);
                    } else if self.quirks.status != 0 {
                        reply.word(self.quirks.status);
                    } else {
                        self.nfs(procedure, &mut input, &mut reply);
                    }
                }
                other => panic!("program {other}"),
            }
            if self.quirks.reverse && procedure == 5 {
                if let Some(first) = held.replace(reply.0) {
                    for reply in [held.take().unwrap(), first] {
                        self.send(&mut stream, &reply).await;
                    }
                }
                continue;
            }
            self.send(&mut stream, &reply.0).await;
        }
    }

    async fn send(&self, stream: &mut TcpStream, reply: &[u8]) {
        let pieces: Vec<&[u8]> = reply.chunks(self.quirks.fragments.unwrap_or(usize::MAX)).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let last = if at + 1 == pieces.len() { 1 << 31 } else { 0 };
            let _ = stream.write_u32(piece.len() as u32 | last).await;
            let _ = stream.write_all(piece).await;
        }
    }

    fn children(&self, directory: &str) -> Vec<usize> {
        let child = |path: &str| match path.rsplit_once('/') {
            Some((parent, _)) => parent == directory,
            None => directory.is_empty(),
        };
        (0..self.tree.nodes.len()).filter(|node| child(&self.tree.nodes[*node].path)).collect()
    }

    fn nfs(&self, procedure: u32, input: &mut &[u8], reply: &mut Reply) {
        let handle = u32::from_be_bytes(opaque(input, 64).unwrap().try_into().unwrap());
        let node = self.tree.nodes.get(handle as usize);
        reply.word(0);
        match procedure {
            // LOOKUP
            3 => {
                let name = String::from_utf8(opaque(input, 255).unwrap().to_vec()).unwrap();
                let directory = node.map_or("", |node| &node.path);
                let found =
                    self.children(directory).into_iter().find(|child| self.name(*child) == name).unwrap();
                reply.bytes(&(found as u32).to_be_bytes());
                self.attributes(found, reply);
                reply.word(0);
            }
            // READLINK
            5 => {
                reply.word(0);
                let Some(Node { kind: NodeKind::Symlink(target), .. }) = node else { panic!("no link") };
                reply.bytes(target.as_bytes());
            }
            // READ
            6 => {
                let (offset, count) =
                    (take::<u64>(input).unwrap() as usize, take::<u32>(input).unwrap() as usize);
                let Some(Node { kind: NodeKind::File(content), .. }) = node else { panic!("no file") };
                let count =
                    count.min(self.quirks.short_reads.unwrap_or(usize::MAX)).min(content.len() - offset);
                let end = offset + count == content.len();
                reply.words(&[0, count as u32, u32::from(end)]);
                reply.bytes(&content[offset..offset + count]);
            }
            // READDIRPLUS
            17 => {
                let cookie = take::<u64>(input).unwrap() as usize;
                reply.words(&[0, 0, 0]);
                // The first two are the directory itself and its parent.
                let mut names = vec![(".".to_owned(), None), ("..".to_owned(), None)];
                let children = self.children(node.map_or("", |node| &node.path));
                names.extend(children.into_iter().map(|child| (self.name(child), Some(child))));
                let page = self.quirks.page.unwrap_or(names.len());
                let end = (cookie + page).min(names.len());
                for (at, (name, child)) in names.iter().enumerate().take(end).skip(cookie) {
                    reply.words(&[1, 0, at as u32]);
                    reply.bytes(name.as_bytes());
                    let next = if self.quirks.endless { cookie } else { at + 1 };
                    reply.words(&[0, next as u32]);
                    match child {
                        Some(child) if !self.quirks.bare_listing => {
                            self.attributes(*child, reply);
                            reply.word(1);
                            reply.bytes(&(*child as u32).to_be_bytes());
                        }
                        _ => reply.words(&[0, 0]),
                    }
                }
                reply.words(&[0, u32::from(end == names.len() && !self.quirks.endless)]);
            }
            other => panic!("procedure {other}"),
        }
    }

    fn name(&self, node: usize) -> String {
        let path = &self.tree.nodes[node].path;
        let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
        self.quirks.name.unwrap_or(name).to_owned()
    }

    fn attributes(&self, node: usize, reply: &mut Reply) {
        let Node { mode, uid, gid, kind, .. } = &self.tree.nodes[node];
        let (kind, size) = match kind {
            NodeKind::File(content) => (1, content.len() as u64 + self.quirks.lie),
            NodeKind::Directory => (2, 4096),
            NodeKind::Symlink(target) => (5, target.len() as u64),
            NodeKind::Special => (7, 0),
        };
        let [high, low] = [(size >> 32) as u32, size as u32];
        reply.words(&[1, kind, *mode, 1, *uid, *gid, high, low, high, low, 0, 0, 0, 0, 0, node as u32]);
        reply.words(&[0; 6]);
    }
}

/// A reply in the making.
#[derive(Default)]
struct Reply(Vec<u8>);

impl Reply {
    fn word(&mut self, word: u32) {
        self.0.extend(word.to_be_bytes());
    }

    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.word(*word));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u32);
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// A root file system in small, sorted by path.
fn tree() -> Tree {
    let mut tree = Tree::default();
    tree.directory("bin");
    tree.file("bin/busybox", 0o4755, (0..700_000).map(|at: u32| (at / 7) as u8).collect::<Vec<u8>>());
    for applet in 0..100 {
        tree.symlink(format!("bin/tool{applet:03}"), "busybox");
    }
    tree.directory("etc");
    tree.file("etc/empty", 0o644, "");
    tree.directory("etc/init.d");
    tree.file("etc/init.d/rcS", 0o755, "#!/bin/sh\n");
    tree.nodes.push(Node { path: "fifo".into(), mode: 0o600, uid: 5, gid: 6, kind: NodeKind::Special });
    tree.file("home", 0o640, "x");
    let last = tree.nodes.len() - 1;
    tree.nodes[last].uid = 1000;
    tree
}

async fn comes_whole(quirks: Quirks) {
    let server = Server::start(tree(), quirks).await;
    let got = server.read().await.unwrap();
    assert_eq!(got.listing(), tree().listing());
    assert_eq!(got.nodes, tree().nodes);
}

async fn fails(quirks: Quirks) -> FetchError {
    Server::start(tree(), quirks).await.read().await.unwrap_err()
}

#[tokio::test]
async fn a_tree_comes_whole_and_in_order() {
    comes_whole(Quirks::default()).await;
}

#[tokio::test]
async fn a_listing_may_come_in_parts() {
    comes_whole(Quirks { page: Some(3), ..Quirks::default() }).await;
}

#[tokio::test]
async fn a_listing_may_come_without_attributes() {
    comes_whole(Quirks { bare_listing: true, ..Quirks::default() }).await;
}

#[tokio::test]
async fn a_file_may_come_in_small_parts() {
    comes_whole(Quirks { short_reads: Some(10_000), ..Quirks::default() }).await;
}

#[tokio::test]
async fn replies_may_come_in_fragments_and_in_any_order() {
    comes_whole(Quirks { fragments: Some(100), ..Quirks::default() }).await;
    comes_whole(Quirks { reverse: true, ..Quirks::default() }).await;
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    comes_whole(Quirks { busy: true, ..Quirks::default() }).await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_told_from_one_that_is_refused() {
    assert_eq!(fails(Quirks { mount: 2, ..Quirks::default() }).await, FetchError::NotFound(EXPORT.into()));
    let denied = fails(Quirks { mount: 13, ..Quirks::default() }).await;
    assert_eq!(denied, FetchError::Refused(format!("mounting {EXPORT}: MNT3ERR_ACCES")));
    let denied = fails(Quirks { status: 13, ..Quirks::default() }).await;
    assert_eq!(denied, FetchError::Refused("NFS3ERR_ACCES: /".into()));
}

#[tokio::test]
async fn a_server_without_nfs_is_a_refusal_and_so_is_nobody() {
    assert!(matches!(fails(Quirks { port: Some(0), ..Quirks::default() }).await, FetchError::Refused(_)));
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert!(matches!(read_tree(&format!("127.0.0.1:{port}"), "/").await, Err(FetchError::Refused(_))));
}

#[tokio::test]
async fn a_file_that_ends_early_is_cut_short() {
    assert!(matches!(fails(Quirks { lie: 1, ..Quirks::default() }).await, FetchError::Bad(_)));
}

#[tokio::test]
async fn what_no_worker_has_room_for_is_refused() {
    assert!(matches!(fails(Quirks { lie: MAX_CONTENT, ..Quirks::default() }).await, FetchError::Bad(_)));
    assert!(matches!(fails(Quirks { lie: u64::MAX / 2, ..Quirks::default() }).await, FetchError::Bad(_)));
}

#[tokio::test]
async fn directories_without_end_are_refused() {
    let mut deep = Tree::default();
    let mut path = "d".to_owned();
    for _ in 0..200 {
        deep.directory(path.clone());
        path.push_str("/d");
    }
    let server = Server::start(deep, Quirks::default()).await;
    assert!(matches!(server.read().await, Err(FetchError::Bad(_))));
    assert!(matches!(
        fails(Quirks { endless: true, page: Some(5), ..Quirks::default() }).await,
        FetchError::Bad(_)
    ));
}

#[tokio::test]
async fn a_name_that_is_a_path_is_refused() {
    for name in ["../../etc/passwd", "a/b", "nul\0", ""] {
        assert!(
            matches!(fails(Quirks { name: Some(name), ..Quirks::default() }).await, FetchError::Bad(_)),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn rubbish_ends_in_an_error() {
    for raw in [
        b"".to_vec(),
        b"rubbish".to_vec(),
        vec![0xff; 1000],
        vec![0x7f, 0xff, 0xff, 0xff],
        // A whole record, to no call.
        [&[0x80, 0, 0, 28][..], &[0; 28]].concat(),
        // Fragments of nothing, and then the end.
        vec![0; 4000],
    ] {
        let error = fails(Quirks { raw: Some(raw.clone()), ..Quirks::default() }).await;
        assert!(matches!(error, FetchError::Bad(_)), "{error:?} on {raw:?}");
    }
}

/// By hand, against a real server: `NFS_URL=127.0.0.1:/export cargo test … -- --ignored real`.
#[tokio::test]
#[ignore = "needs a server in NFS_URL"]
async fn a_real_server_serves_and_says_how_fast() {
    let url = std::env::var("NFS_URL").unwrap();
    let (server, path) = url.split_once(":/").unwrap();
    for _ in 0..3 {
        let start = std::time::Instant::now();
        let tree = read_tree(server, &format!("/{path}")).await.unwrap();
        let bytes: usize = tree
            .nodes
            .iter()
            .map(|node| match &node.kind {
                NodeKind::File(content) => content.len(),
                _ => 0,
            })
            .sum();
        println!("{} entries, {bytes} bytes in {:?}", tree.nodes.len(), start.elapsed());
        for entry in tree.listing().iter().take(12) {
            println!("{:o} {} {} {} {}", entry.mode, entry.path, entry.kind, entry.size, entry.content);
        }
    }
}

proptest! {
    #[test]
    fn rubbish_is_no_answer_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), which in 0..4) {
        let mut walk = Walk { nodes: tree().nodes, ..Walk::default() };
        let directory = Directory { path: String::new(), handle: vec![], depth: 0 };
        let task = match which {
            0 => Task::List { directory, cookie: 0, verifier: cookieverf3::default() },
            1 => Task::Lookup { directory, name: "a".into() },
            2 => Task::Link { node: 2, handle: vec![] },
            _ => Task::Read { node: 1, handle: vec![], size: 100 },
        };
        let _ = walk.answer(task, &mut bytes.as_slice());
    }
}
