//! A new file system of the kind ext2, with a tree in it: what `mke2fs -t ext2` and cp make.
//!
//! By hand, since there is no crate that writes one, and who installs a system on a board's disk has no other machine's programs.
//! Blocks have 4096 bytes. A file has its blocks in a row, and its length ends with the first indirect block.

use std::collections::BTreeMap;
use std::io;

use super::{MAGIC, MAGIC_AT, SUPERBLOCK, SUPERBLOCK_AT, UUID_AT};
use crate::tree::{Node, NodeKind, Tree};

const BLOCK: usize = 4096;
/// Blocks of a group: as many as the bits of one.
const GROUP: u32 = 8 * BLOCK as u32;
/// Inodes of a group, the size of each, and the blocks that they take (`struct ext2_inode` in the kernel's `fs/ext2/ext2.h`).
const INODES: u32 = 2048;
const INODE: usize = 128;
const INODE_BLOCKS: u32 = INODES * INODE as u32 / BLOCK as u32;
/// What each group begins with: superblock, descriptors, two bitmaps, inodes.
const OVERHEAD: u32 = 4 + INODE_BLOCKS;
/// Inodes that are not a tree's; the root has the second of them.
const RESERVED: u32 = 10;
const ROOT: u32 = 2;
/// Blocks that an inode names itself, and those that it names by an indirect one.
const DIRECT: usize = 12;
const INDIRECT: usize = BLOCK / 4;
/// A link that is shorter stands in its inode.
const FAST_LINK: usize = 60;

/// What stat(2) calls the kinds (`S_IFMT`), and what a folder's entries call them.
const KINDS: [(u16, u8); 3] = [(0o100_000, 1), (0o040_000, 2), (0o120_000, 7)];

/// Why there is no file system.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    #[error("{0} bytes are too few for a file system with all that")]
    TooSmall(u64),
    #[error("{0} is too large, or no file, folder or link")]
    File(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a file system of `size` bytes with `tree` in it, piece by piece, each by its place. What is not written is to be zeros.
/// Parents that the tree does not have are made.
///
/// # Errors
/// When it does not fit, or can't be written.
pub fn write(
    tree: &Tree,
    size: u64,
    uuid: [u8; 16],
    out: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<(), Unwritable> {
    let mut writer = Writer::new(size, out).ok_or(Unwritable::TooSmall(size))?;
    let nodes = whole(tree);
    // Folders come first, so that each has its number before its entries are written.
    let numbers: BTreeMap<&str, u32> =
        nodes.keys().zip(RESERVED + 1..).map(|(path, number)| (path.as_str(), number)).collect();
    if RESERVED as usize + nodes.len() > (writer.groups * INODES) as usize {
        return Err(Unwritable::TooSmall(size));
    }
    writer.inodes_used = RESERVED + nodes.len() as u32;
    let number_of =
        |path: &str| if path.is_empty() { ROOT } else { numbers.get(path).copied().unwrap_or(ROOT) };
    let mut entries: BTreeMap<&str, Vec<(&str, u32, u8)>> = BTreeMap::from([("", Vec::new())]);
    for (path, node) in &nodes {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (_, kind) = KINDS[kind_of(node).ok_or_else(|| Unwritable::File(path.clone()))?];
        entries.entry(parent).or_default().push((name, number_of(path), kind));
        if node.kind == NodeKind::Directory {
            entries.entry(path).or_default();
        }
    }
    for (path, entries) in &entries {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let folders = entries.iter().filter(|(_, _, kind)| *kind == KINDS[1].1).count();
        let content = folder(number_of(path), number_of(parent), entries);
        let root = Node { path: String::new(), mode: 0o755, uid: 0, gid: 0, kind: NodeKind::Directory };
        let node = nodes.get(*path).unwrap_or(&root);
        writer.inode(number_of(path), node, &content, 2 + folders as u16, path)?;
        writer.folder_in_group(number_of(path));
    }
    for (path, node) in &nodes {
        match &node.kind {
            NodeKind::File(content) => writer.inode(number_of(path), node, content, 1, path)?,
            NodeKind::Symlink(target) => writer.inode(number_of(path), node, target.as_bytes(), 1, path)?,
            NodeKind::Directory | NodeKind::Special => {}
        }
    }
    writer.finish(uuid)
}

/// The nodes by their path, each as it came last, with all their parents.
fn whole(tree: &Tree) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    for node in &tree.nodes {
        let mut parents = Tree::default();
        parents.parents(&node.path);
        for parent in parents.nodes {
            nodes.entry(parent.path.clone()).or_insert(parent);
        }
        nodes.insert(node.path.clone(), node.clone());
    }
    nodes
}

fn kind_of(node: &Node) -> Option<usize> {
    match node.kind {
        NodeKind::File(_) => Some(0),
        NodeKind::Directory => Some(1),
        NodeKind::Symlink(_) => Some(2),
        NodeKind::Special => None,
    }
}

/// A folder's entries, none of which goes over the end of a block; the last one in each takes what is left of it.
fn folder(own: u32, parent: u32, entries: &[(&str, u32, u8)]) -> Vec<u8> {
    let mut content: Vec<u8> = Vec::new();
    let mut last = 0;
    for (name, number, kind) in [(".", own, 2), ("..", parent, 2)].iter().chain(entries) {
        let length = (8 + name.len()).next_multiple_of(4);
        if content.len() % BLOCK + length > BLOCK || content.is_empty() {
            close(&mut content, last);
        }
        last = content.len();
        content.extend_from_slice(&number.to_le_bytes());
        content.extend_from_slice(&(length as u16).to_le_bytes());
        content.extend_from_slice(&[name.len() as u8, *kind]);
        content.extend_from_slice(name.as_bytes());
        content.resize(last + length, 0);
        if content.len().is_multiple_of(BLOCK) {
            last = content.len();
        }
    }
    close(&mut content, last);
    content
}

/// Has the entry at `last` reach to its block's end.
fn close(content: &mut Vec<u8>, last: usize) {
    let end = content.len().next_multiple_of(BLOCK);
    if let Some(length) = content.get_mut(last + 4..last + 6) {
        length.copy_from_slice(&((end - last) as u16).to_le_bytes());
    }
    content.resize(end, 0);
}

struct Writer<'a> {
    out: &'a mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    size: u64,
    blocks: u32,
    groups: u32,
    /// The next block that is free: they are given out in a row.
    next: u32,
    inodes: Vec<u8>,
    inodes_used: u32,
    /// Folders whose inodes are in each group.
    folders: Vec<u16>,
}

impl<'a> Writer<'a> {
    fn new(size: u64, out: &'a mut dyn FnMut(u64, &[u8]) -> io::Result<()>) -> Option<Self> {
        let mut blocks = u32::try_from(size / BLOCK as u64).ok()?;
        // A last group without room for a file is none.
        if blocks % GROUP <= OVERHEAD {
            blocks -= blocks % GROUP;
        }
        let groups = blocks.div_ceil(GROUP);
        // The descriptors are to fit into one block.
        if groups == 0 || groups as usize * 32 > BLOCK {
            return None;
        }
        let inodes = vec![0; (groups * INODES) as usize * INODE];
        let folders = vec![0; groups as usize];
        Some(Self { out, size, blocks, groups, next: OVERHEAD, inodes, inodes_used: RESERVED, folders })
    }

    fn folder_in_group(&mut self, number: u32) {
        self.folders[((number - 1) / INODES) as usize] += 1;
    }

    /// Writes one block where there is room, and says where.
    fn block(&mut self, content: &[u8]) -> Result<u32, Unwritable> {
        let at = self.next;
        if at >= self.blocks {
            return Err(Unwritable::TooSmall(self.size));
        }
        self.next += 1;
        if self.next.is_multiple_of(GROUP) {
            self.next += OVERHEAD;
        }
        (self.out)(u64::from(at) * BLOCK as u64, content)?;
        Ok(at)
    }

    /// Writes a file's content and fills in its inode.
    fn inode(
        &mut self,
        number: u32,
        node: &Node,
        content: &[u8],
        links: u16,
        path: &str,
    ) -> Result<(), Unwritable> {
        let bad = || Unwritable::File(path.to_owned());
        let (mode, _) = KINDS[kind_of(node).ok_or_else(bad)?];
        let mut pointers = [0_u8; 60];
        let mut taken = 0;
        if matches!(node.kind, NodeKind::Symlink(_)) && content.len() < FAST_LINK {
            pointers[..content.len()].copy_from_slice(content);
        } else {
            let mut blocks = Vec::new();
            for piece in content.chunks(BLOCK) {
                let mut block = [0; BLOCK];
                block[..piece.len()].copy_from_slice(piece);
                blocks.push(self.block(&block)?);
            }
            if blocks.len() > DIRECT + INDIRECT {
                return Err(bad());
            }
            taken = blocks.len();
            let (direct, indirect) = blocks.split_at(taken.min(DIRECT));
            let direct: Vec<u8> = direct.iter().flat_map(|block| block.to_le_bytes()).collect();
            pointers[..direct.len()].copy_from_slice(&direct);
            if !indirect.is_empty() {
                let mut block = [0; BLOCK];
                let list: Vec<u8> = indirect.iter().flat_map(|block| block.to_le_bytes()).collect();
                block[..list.len()].copy_from_slice(&list);
                pointers[4 * DIRECT..4 * (DIRECT + 1)].copy_from_slice(&self.block(&block)?.to_le_bytes());
                taken += 1;
            }
        }
        let at = (number - 1) as usize * INODE;
        let inode = &mut self.inodes[at..at + INODE];
        put16(inode, 0, mode | node.mode as u16 & 0o7777);
        put16(inode, 2, node.uid as u16);
        put32(inode, 4, content.len() as u32);
        put16(inode, 24, node.gid as u16);
        put16(inode, 26, links);
        put32(inode, 28, (taken * BLOCK / 512) as u32);
        inode[40..100].copy_from_slice(&pointers);
        put16(inode, 120, (node.uid >> 16) as u16);
        put16(inode, 122, (node.gid >> 16) as u16);
        Ok(())
    }

    /// Writes what each group begins with.
    fn finish(&mut self, uuid: [u8; 16]) -> Result<(), Unwritable> {
        let used = |group: u32| {
            let start = group * GROUP;
            let blocks = GROUP.min(self.blocks - start);
            (self.next.saturating_sub(start).clamp(OVERHEAD, blocks), blocks)
        };
        let mut descriptors = vec![0; BLOCK];
        let mut free = 0;
        for group in 0..self.groups {
            let (start, (taken, blocks)) = (group * GROUP, used(group));
            let inodes = self.inodes_used.saturating_sub(group * INODES).min(INODES);
            let descriptor = &mut descriptors[32 * group as usize..];
            for (number, at) in [0, 4, 8].into_iter().enumerate() {
                put32(descriptor, at, start + 2 + number as u32);
            }
            put16(descriptor, 12, (blocks - taken) as u16);
            put16(descriptor, 14, (INODES - inodes) as u16);
            put16(descriptor, 16, self.folders[group as usize]);
            free += blocks - taken;
        }
        for group in 0..self.groups {
            let (start, (taken, blocks)) = (group * GROUP, used(group));
            let mut head = vec![0; BLOCK * OVERHEAD as usize];
            // The first one's begins after the boot record, all others' with its group.
            let at = if group == 0 { SUPERBLOCK_AT } else { 0 };
            head[at..at + SUPERBLOCK].copy_from_slice(&self.superblock(group, free, uuid));
            head[BLOCK..2 * BLOCK].copy_from_slice(&descriptors);
            // What is behind a group's end is never free.
            mark(&mut head[2 * BLOCK..3 * BLOCK], taken, blocks);
            let inodes = self.inodes_used.saturating_sub(group * INODES).min(INODES);
            mark(&mut head[3 * BLOCK..4 * BLOCK], inodes, INODES);
            let own = group as usize * INODES as usize * INODE;
            head[4 * BLOCK..].copy_from_slice(&self.inodes[own..own + INODES as usize * INODE]);
            (self.out)(u64::from(start) * BLOCK as u64, &head)?;
        }
        Ok(())
    }

    fn superblock(&self, group: u32, free: u32, uuid: [u8; 16]) -> [u8; SUPERBLOCK] {
        let mut bytes = [0; SUPERBLOCK];
        let inodes = self.groups * INODES;
        for (at, value) in [
            (0, inodes),
            (4, self.blocks),
            (12, free),
            (16, inodes - self.inodes_used),
            // Blocks have 1024 << 2 bytes, and so have fragments, which nobody has.
            (24, 2),
            (28, 2),
            (32, GROUP),
            (36, GROUP),
            (40, INODES),
            // Revision 1, and the first inode that is not reserved.
            (76, 1),
            (84, RESERVED + 1),
            // Folders say what each entry is.
            (96, 2),
        ] {
            put32(&mut bytes, at, value);
        }
        bytes[MAGIC_AT..MAGIC_AT + MAGIC.len()].copy_from_slice(&MAGIC);
        // Never to be checked for its mounts, which were none; clean; go on after an error.
        put16(&mut bytes, 54, u16::MAX);
        put16(&mut bytes, 58, 1);
        put16(&mut bytes, 60, 1);
        put16(&mut bytes, 88, INODE as u16);
        put16(&mut bytes, 90, group as u16);
        bytes[UUID_AT..UUID_AT + uuid.len()].copy_from_slice(&uuid);
        bytes
    }
}

/// Sets the first `used` bits of a bitmap, and all from `end` on.
fn mark(bitmap: &mut [u8], used: u32, end: u32) {
    for bit in (0..used as usize).chain(end as usize..8 * bitmap.len()) {
        bitmap[bit / 8] |= 1 << (bit % 8);
    }
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{read, superblock};
    use super::*;

    fn written(tree: &Tree, size: usize) -> Result<Vec<u8>, Unwritable> {
        let mut bytes = vec![0; size];
        let mut put = |at: u64, piece: &[u8]| {
            bytes[at as usize..at as usize + piece.len()].copy_from_slice(piece);
            Ok(())
        };
        write(tree, size as u64, [0xab; 16], &mut put)?;
        Ok(bytes)
    }

    /// One with a folder of more than a block, an indirect block, and links of both kinds.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.directory("bin");
        for number in 0..400 {
            tree.symlink(format!("bin/applet-{number:03}"), "busybox");
        }
        tree.file("bin/busybox", 0o4755, (0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        tree.file("etc/deep/er/hostname", 0o600, "debian\n");
        tree.file("etc/empty", 0o644, "");
        tree.symlink("long", "x".repeat(100));
        tree.nodes.push(Node {
            path: "tmp".into(),
            mode: 0o1777,
            uid: 70_000,
            gid: 5,
            kind: NodeKind::Directory,
        });
        tree
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = written(&tree(), 8 << 20).unwrap();
        let found = superblock(&mut bytes.clone()).unwrap();
        assert!(found.is_ext2 && !found.has_journal);
        assert_eq!(found.uuid, "abababab-abab-abab-abab-abababababab");
        let mut expected: Vec<Node> = whole(&tree()).into_values().collect();
        expected.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(read(bytes, 64 << 20).unwrap().nodes, expected);
    }

    #[test]
    fn a_file_may_lie_in_several_groups() {
        let mut tree = Tree::default();
        for number in 0..40 {
            tree.file(format!("{number:02}"), 0o644, vec![number; 4 << 20]);
        }
        let bytes = written(&tree, 200 << 20).unwrap();
        assert_eq!(read(bytes, 400 << 20).unwrap().nodes, tree.nodes);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        assert!(matches!(written(&tree(), 1 << 20), Err(Unwritable::TooSmall(_))));
        assert!(matches!(written(&Tree::default(), 4096), Err(Unwritable::TooSmall(4096))));
        let mut large = Tree::default();
        large.file("large", 0o644, vec![0; 5 << 20]);
        let Err(Unwritable::File(path)) = written(&large, 32 << 20) else {
            panic!("it has two indirect blocks")
        };
        assert_eq!(path, "large");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_tree_comes_back(files in prop::collection::btree_map("[a-z]{1,200}", prop::collection::vec(any::<u8>(), 0..9000), 0..60)) {
            let mut tree = Tree::default();
            for (path, content) in files {
                tree.file(path, 0o640, content);
            }
            prop_assert_eq!(read(written(&tree, 4 << 20).unwrap(), 1 << 24).unwrap(), tree);
        }
    }
}
