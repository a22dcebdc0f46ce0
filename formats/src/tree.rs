//! A tree of files, whatever it came in: cpio, tar or NFS.

use serde::{Deserialize, Serialize};

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
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub kind: NodeKind,
}

/// What a [`Node`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file and its content.
    File(Vec<u8>),
    /// A directory.
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

impl Tree {
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
