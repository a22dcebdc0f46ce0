//! A tree of files, whatever it came in: cpio, tar or NFS.

use serde::{Deserialize, Serialize};

/// The most bytes of file content that a reader of archives unpacks, hard links counted again.
/// Far more than any root file system that LAVA serves to a ghost, far less than a worker's memory.
pub const MAX_CONTENT: u64 = 2 << 30;

/// The path of an archive's member can't be unpacked: it leaves the root, or it holds a NUL byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {0:?} can't be unpacked below a root")]
pub struct BadPath(
    /// The path as the archive had it.
    pub String,
);

/// A tree of files with their contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Its nodes, in the order they came; parents may be missing.
    pub nodes: Vec<Node>,
}

/// One file, directory, link or device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Path below the root, without a leading slash or `.` parts.
    pub path: String,
    /// Permission bits (no file type bits), such as 0o755.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub kind: NodeKind,
}

/// What a [`Node`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file and its content.
    File(Vec<u8>),
    Directory,
    /// A symbolic link and its target.
    Symlink(String),
    /// A device node, FIFO or socket: nothing that a sandbox makes.
    Special,
}

/// One line of a tree's listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeEntry {
    /// See [`Node::path`].
    pub path: String,
    /// See [`Node::mode`].
    pub mode: u32,
    /// `file`, `directory`, `symlink` or `special`.
    pub kind: String,
    /// Bytes of a file.
    pub size: u64,
    /// sha256 of a file's content in hex, target of a symlink, else empty.
    pub content: String,
}

/// `path` without leading slashes, doubled slashes and `.` parts, as [`Node::path`] wants it.
/// Empty for the root itself.
///
/// # Errors
///
/// [`BadPath`] when a part is `..` or holds a NUL.
pub fn normal_path(path: &str) -> Result<String, BadPath> {
    let mut normal = String::with_capacity(path.len());
    for part in path.split('/') {
        match part {
            "" | "." => continue,
            ".." => return Err(BadPath(path.into())),
            part if part.contains('\0') => return Err(BadPath(path.into())),
            part => {
                if !normal.is_empty() {
                    normal.push('/');
                }
                normal.push_str(part);
            }
        }
    }
    Ok(normal)
}

impl Tree {
    /// The node at `path` (written as [`Node::path`] is): as it came last, when it came twice.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.iter().rev().find(|node| node.path == path)
    }

    /// Adds a directory that root owns, with permissions 0o755.
    pub fn directory(&mut self, path: impl Into<String>) {
        self.push(path, 0o755, NodeKind::Directory);
    }

    /// Adds the directories that `path` is in, the outermost first.
    pub fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.directory(path.get(..end).unwrap_or_default());
        }
    }

    /// Adds a regular file that root owns.
    pub fn file(&mut self, path: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) {
        self.push(path, mode, NodeKind::File(content.into()));
    }

    /// Adds a symbolic link that root owns.
    pub fn symlink(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.push(path, 0o777, NodeKind::Symlink(target.into()));
    }

    fn push(&mut self, path: impl Into<String>, mode: u32, kind: NodeKind) {
        self.nodes.push(Node { path: path.into(), mode, uid: 0, gid: 0, kind });
    }

    /// The listing of the tree, sorted by path; a path that came twice is listed as it came last.
    #[must_use]
    pub fn listing(&self) -> Vec<TreeEntry> {
        let mut entries: std::collections::BTreeMap<&str, TreeEntry> = std::collections::BTreeMap::new();
        for node in &self.nodes {
            let (kind, size, content) = match &node.kind {
                NodeKind::File(bytes) => ("file", bytes.len() as u64, crate::sha256(bytes)),
                NodeKind::Directory => ("directory", 0, String::new()),
                NodeKind::Symlink(target) => ("symlink", 0, target.clone()),
                NodeKind::Special => ("special", 0, String::new()),
            };
            entries.insert(
                &node.path,
                TreeEntry { path: node.path.clone(), mode: node.mode, kind: kind.into(), size, content },
            );
        }
        entries.into_values().collect()
    }
}

/// Trees for property tests.
#[cfg(test)]
pub(crate) mod any {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn node() -> impl Strategy<Value = Node> {
        let kind = prop_oneof![
            vec(any::<u8>(), 0..200).prop_map(NodeKind::File),
            Just(NodeKind::Directory),
            "[a-z/.]{1,90}".prop_map(NodeKind::Symlink),
            Just(NodeKind::Special),
        ];
        let path = vec("[a-zA-Z0-9_ é!-]{1,60}", 1..5).prop_map(|parts| parts.join("/"));
        (path, 0u32..0o10000, any::<u32>(), any::<u32>(), kind)
            .prop_map(|(path, mode, uid, gid, kind)| Node { path, mode, uid, gid, kind })
    }

    /// Any tree whose numbers fit both archive formats.
    pub fn tree() -> impl Strategy<Value = Tree> {
        vec(node(), 0..12).prop_map(|nodes| Tree { nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_brought_below_the_root() {
        assert_eq!(normal_path("./etc//passwd").as_deref(), Ok("etc/passwd"));
        assert_eq!(normal_path("/lava-1/bin/").as_deref(), Ok("lava-1/bin"));
        assert_eq!(normal_path(".").as_deref(), Ok(""));
    }

    #[test]
    fn a_path_that_leaves_the_root_is_refused() {
        assert!(normal_path("lib/../../etc/passwd").is_err());
        assert!(normal_path("bin/sh\0").is_err());
    }

    #[test]
    fn a_path_that_came_twice_is_listed_as_it_came_last() {
        let mut tree = Tree::default();
        tree.file("b", 0o644, "old");
        tree.directory("a");
        tree.file("b", 0o600, "newer");
        let listing = tree.listing();
        assert_eq!(listing.len(), 2);
        assert_eq!((listing[1].mode, listing[1].size), (0o600, 5));
        assert_eq!(tree.get("b").map(|node| node.mode), Some(0o600));
    }
}
