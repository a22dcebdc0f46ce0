//! What a kernel makes of the members of a ramdisk, one after the other (`init/initramfs.c`).
//!
//! It opens, links and makes them as a program would, from `/`, and goes on where that fails without
//! a word: a file whose directory is not there yet is left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::cpio::{DIRECTORY, Error, FIFO, FILE_TYPE, REGULAR, SYMLINK};
use crate::tree::{MAX_CONTENT, Node, NodeKind, Tree};

const SOCKET: u32 = 0o140_000;
const BLOCK: u32 = 0o060_000;
const CHARACTER: u32 = 0o020_000;
/// Longest name of a member and longest target of a link, in bytes with the NUL behind (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// Most links that are followed in one path (`MAXSYMLINKS` in `include/linux/namei.h`).
const MAX_LINKS: usize = 40;

/// What a kernel has unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Initramfs {
    /// What is there at the end, in the order in which it came to be. Hard links are files with
    /// their own copies of the content; parents are there.
    pub tree: Tree,
    /// The members that could not be made, by their paths, in their order.
    pub left_out: Vec<String>,
}

/// The head of a member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// As [`Node::path`].
    pub(crate) path: String,
    /// With the bits of the type.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    /// Device, by its two numbers, and number of the inode.
    pub(crate) inode: (u32, u32, u32),
}

/// A file system in memory, while it is unpacked.
#[derive(Debug, Default)]
pub(crate) struct Rootfs {
    /// The inode of each path, and the how-manieth path it was.
    names: BTreeMap<String, (usize, usize)>,
    inodes: Vec<Inode>,
    made: usize,
    /// The first path of each inode of the archive's with several links, by its numbers and type.
    links: BTreeMap<((u32, u32, u32), u32), String>,
    left_out: Vec<String>,
}

#[derive(Debug)]
struct Inode {
    mode: u32,
    uid: u32,
    gid: u32,
    /// Content of a file, target of a link.
    data: Vec<u8>,
}

/// What came of looking for the other links of a member (`maybe_link`).
enum Link {
    /// It is the first one, or has no others.
    Alone,
    Made,
    Failed,
}

impl Rootfs {
    /// An archive is over: links are only looked for inside of one (`free_hash`).
    pub(crate) fn end_archive(&mut self) {
        self.links.clear();
    }

    /// Makes a member (`do_name`, `do_symlink`), or leaves it out.
    pub(crate) fn add(&mut self, member: &Member, data: Vec<u8>) {
        if !self.make(member, data) {
            self.left_out.push(member.path.clone());
        }
    }

    fn make(&mut self, member: &Member, data: Vec<u8>) -> bool {
        let kind = member.mode & FILE_TYPE;
        // Only files and links have a body; with one, anything else is skipped (`do_header`).
        let fits = match kind {
            REGULAR => true,
            SYMLINK => data.len() <= PATH_MAX,
            _ => data.is_empty(),
        };
        if !fits || member.path.len() >= PATH_MAX {
            return false;
        }
        if member.path.is_empty() {
            // The root itself.
            return kind == DIRECTORY;
        }
        let Some(path) = self.real(&member.path) else {
            // It is the first of its links all the same.
            self.first(member);
            return false;
        };
        // What it holds from now on, where that changes.
        let content = match kind {
            REGULAR | BLOCK | CHARACTER | FIFO | SOCKET => {
                self.clean(&path, kind);
                match self.link(member, &path) {
                    Link::Failed => return false,
                    Link::Made if kind != REGULAR => return true,
                    // The content comes with one of the links; another one's emptiness cuts nothing.
                    Link::Made if data.is_empty() => None,
                    Link::Made | Link::Alone => Some(data),
                }
            }
            SYMLINK => {
                self.clean(&path, 0);
                let target = data.split(|byte| *byte == 0).next().unwrap_or_default();
                if target.is_empty() || self.names.contains_key(&path) {
                    return false;
                }
                Some(target.to_vec())
            }
            DIRECTORY => {
                self.clean(&path, kind);
                None
            }
            _ => return false,
        };
        let Some(inode) = self.open(&path, kind) else { return false };
        if let Some(content) = content {
            inode.data = content;
        }
        inode.mode = member.mode;
        (inode.uid, inode.gid) = (member.uid, member.gid);
        true
    }

    /// Where a path leads, its last part aside: `None` where a directory is missing or is none.
    fn real(&self, path: &str) -> Option<String> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = String::new();
        let mut links = 0;
        let mut pending: Vec<String> = folder.rsplit('/').map(str::to_owned).collect();
        while let Some(part) = pending.pop() {
            match &*part {
                "" | "." => {}
                ".." => at.truncate(at.rfind('/').unwrap_or(0)),
                part => {
                    let next = below(&at, part);
                    let inode = self.inode(&next)?;
                    match inode.mode & FILE_TYPE {
                        DIRECTORY => at = next,
                        SYMLINK => {
                            links += 1;
                            if links > MAX_LINKS {
                                return None;
                            }
                            let target = String::from_utf8_lossy(&inode.data);
                            if target.starts_with('/') {
                                at.clear();
                            }
                            pending.extend(target.rsplit('/').map(str::to_owned));
                        }
                        _ => return None,
                    }
                }
            }
        }
        Some(below(&at, name))
    }

    fn inode(&self, path: &str) -> Option<&Inode> {
        self.inodes.get(self.names.get(path)?.1)
    }

    /// Removes what is there of another type than `kind`, an empty directory too (`clean_path`).
    fn clean(&mut self, path: &str, kind: u32) {
        let Some(found) = self.inode(path).map(|inode| inode.mode & FILE_TYPE) else { return };
        let inside = format!("{path}/");
        let is_full = found == DIRECTORY
            && self.names.range(inside.clone()..).next().is_some_and(|(other, _)| other.starts_with(&inside));
        if found != kind && !is_full {
            self.names.remove(path);
        }
    }

    /// The first path of the member's inode, if that has several and this is another one (`find_link`).
    fn first(&mut self, member: &Member) -> Option<String> {
        if member.nlink < 2 {
            return None;
        }
        match self.links.entry((member.inode, member.mode & FILE_TYPE)) {
            Entry::Occupied(first) => Some(first.get().clone()),
            Entry::Vacant(vacant) => {
                vacant.insert(member.path.clone());
                None
            }
        }
    }

    /// Makes the member another link of the first one of its inode.
    fn link(&mut self, member: &Member, path: &str) -> Link {
        let Some(first) = self.first(member) else { return Link::Alone };
        self.clean(path, 0);
        let old = self.real(&first).and_then(|first| self.names.get(&first).copied());
        match old {
            Some((_, inode)) if !self.names.contains_key(path) => {
                self.name(path, inode);
                Link::Made
            }
            _ => Link::Failed,
        }
    }

    /// What is at this path, which is made where nothing is; `None` where it is of another type.
    fn open(&mut self, path: &str, kind: u32) -> Option<&mut Inode> {
        if !self.names.contains_key(path) {
            self.inodes.push(Inode { mode: kind, uid: 0, gid: 0, data: Vec::new() });
            self.name(path, self.inodes.len() - 1);
        }
        let (_, inode) = self.names.get(path)?;
        self.inodes.get_mut(*inode).filter(|inode| inode.mode & FILE_TYPE == kind)
    }

    fn name(&mut self, path: &str, inode: usize) {
        self.names.insert(path.to_owned(), (self.made, inode));
        self.made += 1;
    }

    /// What has come of it.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] for more than [`MAX_CONTENT`], hard links counted again.
    pub(crate) fn finish(self) -> Result<Initramfs, Error> {
        let inode = |index: usize| self.inodes.get(index);
        let content: u64 = self
            .names
            .values()
            .filter_map(|(_, index)| inode(*index))
            .map(|inode| inode.data.len() as u64)
            .sum();
        if content > MAX_CONTENT {
            return Err(Error::TooLarge(content));
        }
        let mut names: Vec<_> = self.names.iter().map(|(path, (made, index))| (made, path, index)).collect();
        names.sort_unstable();
        let nodes = names.into_iter().filter_map(|(_, path, index)| {
            let Inode { mode, uid, gid, data } = inode(*index)?;
            let kind = match mode & FILE_TYPE {
                REGULAR => NodeKind::File(data.clone()),
                DIRECTORY => NodeKind::Directory,
                SYMLINK => NodeKind::Symlink(String::from_utf8_lossy(data).into_owned()),
                _ => NodeKind::Special,
            };
            Some(Node { path: path.clone(), mode: mode & 0o7777, uid: *uid, gid: *gid, kind })
        });
        let tree = Tree { nodes: nodes.collect() };
        Ok(Initramfs { tree, left_out: self.left_out })
    }
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kernel(Rootfs);

    impl Kernel {
        fn member(mut self, path: &str, mode: u32, data: &str) -> Self {
            let member = Member { path: path.into(), mode, uid: 1, gid: 2, nlink: 1, inode: (0, 0, 0) };
            self.0.add(&member, data.into());
            self
        }

        fn link(mut self, path: &str, data: &str) -> Self {
            let mode = REGULAR | 0o644;
            let member = Member { path: path.into(), mode, uid: 0, gid: 0, nlink: 3, inode: (0, 1, 7) };
            self.0.add(&member, data.into());
            self
        }

        fn directory(self, path: &str) -> Self {
            self.member(path, DIRECTORY | 0o755, "")
        }

        fn file(self, path: &str, data: &str) -> Self {
            self.member(path, REGULAR | 0o644, data)
        }

        fn symlink(self, path: &str, target: &str) -> Self {
            self.member(path, SYMLINK | 0o777, target)
        }

        /// What is there, and what was left out.
        fn has(self) -> (Vec<String>, Vec<String>) {
            let Initramfs { tree, left_out } = self.0.finish().unwrap();
            let nodes = tree.nodes.into_iter().map(|Node { path, kind, .. }| match kind {
                NodeKind::File(data) => format!("{path}: {}", String::from_utf8_lossy(&data)),
                NodeKind::Directory => format!("{path}/"),
                NodeKind::Symlink(target) => format!("{path} -> {target}"),
                NodeKind::Special => format!("{path}?"),
            });
            (nodes.collect(), left_out)
        }
    }

    fn strings(of: &[&str]) -> Vec<String> {
        of.iter().map(|&of| of.to_owned()).collect()
    }

    #[test]
    fn what_comes_before_its_directory_is_left_out() {
        let (has, left_out) = Kernel::default()
            .file("init", "i")
            .file("bin/sh", "s")
            .symlink("bin/ls", "sh")
            .directory("dev/pts")
            .member("dev/null", CHARACTER | 0o666, "")
            .directory("bin")
            .has();
        assert_eq!(has, strings(&["init: i", "bin/"]));
        assert_eq!(left_out, strings(&["bin/sh", "bin/ls", "dev/pts", "dev/null"]));
    }

    #[test]
    fn a_directory_may_be_a_link_to_one() {
        let kernel = Kernel::default().directory("usr").directory("usr/bin").symlink("bin", "/usr/bin");
        let (has, left_out) = kernel.file("bin/sh", "s").file("bin/../lib", "l").has();
        assert_eq!(has, strings(&["usr/", "usr/bin/", "bin -> /usr/bin", "usr/bin/sh: s", "usr/lib: l"]));
        assert_eq!(left_out, [""; 0]);
    }

    #[test]
    fn links_that_lead_in_a_circle_lead_nowhere() {
        let (_, left_out) = Kernel::default().symlink("a", "b").symlink("b", "a").file("a/x", "x").has();
        assert_eq!(left_out, ["a/x"]);
    }

    #[test]
    fn what_is_no_directory_has_nothing_below_it() {
        assert_eq!(Kernel::default().file("a", "a").file("a/x", "x").has().1, ["a/x"]);
    }

    #[test]
    fn a_later_member_takes_the_place_of_one_of_another_type() {
        let kernel = Kernel::default().directory("a").symlink("b", "a").file("c", "old");
        let (has, left_out) = kernel.file("a", "a").file("b", "b").symlink("c", "a").has();
        assert_eq!((has, left_out.len()), (strings(&["a: a", "b: b", "c -> a"]), 0));
    }

    #[test]
    fn a_directory_that_is_not_empty_stays() {
        let kernel = Kernel::default().directory("a").file("a/x", "x");
        let (has, left_out) = kernel.file("a", "a").symlink("a", "x").has();
        assert_eq!((has, left_out), (strings(&["a/", "a/x: x"]), strings(&["a", "a"])));
    }

    #[test]
    fn a_directory_that_comes_again_only_gets_the_new_owner_and_mode() {
        let kernel = Kernel::default().directory("a").file("a/x", "x");
        let tree = kernel.member("a", DIRECTORY | 0o700, "").0.finish().unwrap().tree;
        assert_eq!((tree.nodes.len(), tree.nodes[0].mode, tree.nodes[0].uid), (2, 0o700, 1));
    }

    #[test]
    fn a_link_to_what_was_left_out_is_left_out_too() {
        let (has, left_out) =
            Kernel::default().link("bin/a", "").directory("bin").link("bin/b", "content").has();
        assert_eq!((has, left_out), (strings(&["bin/"]), strings(&["bin/a", "bin/b"])));
    }

    #[test]
    fn a_file_that_is_written_again_is_so_under_all_its_names() {
        let (has, _) = Kernel::default().link("a", "old").link("b", "").file("a", "new").has();
        assert_eq!(has, ["a: new", "b: new"]);
    }

    #[test]
    fn what_must_not_have_a_body_and_does_is_left_out() {
        assert_eq!(Kernel::default().member("a", DIRECTORY | 0o755, "body").has().1, ["a"]);
        assert_eq!(Kernel::default().symlink("a", "").has().1, ["a"]);
    }
}
