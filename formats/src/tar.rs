//! tar archives, as LAVA serves overlays, modules and NFS root file systems. Read and written by
//! the crate `tar`.

use std::collections::BTreeMap;
use std::io::Read;

use ::tar::{Archive, Builder, EntryType, Header};

use crate::tree::{BadPath, MAX_CONTENT, Node, NodeKind, Tree, normal_path};

/// The longest target of a link that fits a header.
const LINK_SIZE: usize = 100;

/// Why bytes are no tar archive, or a tree can't be one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A broken header, or bytes that end early.
    #[error("broken tar archive: {0}")]
    Broken(#[from] std::io::Error),
    /// A name or the target of a link is no text.
    #[error("name {0:?} is not utf-8")]
    NotText(String),
    /// A hard link to what did not come before.
    #[error("hard link {path} to {target}, which did not come before")]
    DanglingLink {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// An owner or a group that does not fit 32 bits.
    #[error("owner of {0} out of range")]
    BadOwner(String),
    /// See [`BadPath`].
    #[error(transparent)]
    BadPath(#[from] BadPath),
    /// More content than [`MAX_CONTENT`].
    #[error("more than {MAX_CONTENT} bytes to unpack")]
    TooLarge,
}

/// Reads an uncompressed archive. A hard link is a file with its own copy of the content; the
/// root directory itself is left out.
///
/// # Errors
///
/// See [`Error`]; nothing is returned of a broken archive.
pub fn read(bytes: &[u8]) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    let mut latest: BTreeMap<String, usize> = BTreeMap::new();
    let mut left = MAX_CONTENT;
    let mut archive = Archive::new(bytes);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = text(entry.path_bytes().into_owned())?;
        let path = normal_path(&name)?;
        let header = entry.header();
        let owner = |id: u64| u32::try_from(id).map_err(|_| Error::BadOwner(name.clone()));
        let (uid, gid) = (owner(header.uid()?)?, owner(header.gid()?)?);
        let mode = header.mode()? & 0o7777;
        let target = entry.link_name_bytes().map(|bytes| text(bytes.into_owned())).transpose()?;
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut data = Vec::new();
                entry.by_ref().take(left + 1).read_to_end(&mut data)?;
                left = left.checked_sub(data.len() as u64).ok_or(Error::TooLarge)?;
                NodeKind::File(data)
            }
            EntryType::Link => {
                let target = target.unwrap_or_default();
                let known = latest.get(&normal_path(&target)?).map(|index| &tree.nodes[*index].kind);
                match known {
                    Some(NodeKind::File(data)) => {
                        left = left.checked_sub(data.len() as u64).ok_or(Error::TooLarge)?;
                        NodeKind::File(data.clone())
                    }
                    Some(kind @ (NodeKind::Symlink(_) | NodeKind::Special)) => kind.clone(),
                    Some(NodeKind::Directory) | None => {
                        return Err(Error::DanglingLink { path, target });
                    }
                }
            }
            EntryType::Symlink => NodeKind::Symlink(target.unwrap_or_default()),
            EntryType::Directory => NodeKind::Directory,
            EntryType::Char | EntryType::Block | EntryType::Fifo => NodeKind::Special,
            // Global headers, volume labels and what else describes but is nothing to unpack.
            _ => continue,
        };
        if path.is_empty() {
            if kind == NodeKind::Directory {
                continue;
            }
            return Err(BadPath(name).into());
        }
        latest.insert(path.clone(), tree.nodes.len());
        tree.nodes.push(Node { path, mode, uid, gid, kind });
    }
    Ok(tree)
}

fn text(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| Error::NotText(String::from_utf8_lossy(error.as_bytes()).into()))
}

/// Writes `tree` as an uncompressed GNU tar archive, its nodes in their order, all times zero,
/// owners as numbers only.
///
/// A [`NodeKind::Special`] becomes a FIFO, since a tree does not keep device numbers. Of links'
/// targets longer than 100 bytes, `.` parts and doubled slashes are left out.
///
/// # Errors
///
/// [`Error::BadPath`] when a node's path is not as [`Node::path`] wants it, [`Error::Broken`]
/// when the target of a link can't be written.
pub fn write(tree: &Tree) -> Result<Vec<u8>, Error> {
    let mut builder = Builder::new(Vec::new());
    for node in &tree.nodes {
        if node.path.is_empty() || normal_path(&node.path)? != node.path {
            return Err(BadPath(node.path.clone()).into());
        }
        let mut header = Header::new_gnu();
        header.set_mode(node.mode & 0o7777);
        header.set_uid(node.uid.into());
        header.set_gid(node.gid.into());
        header.set_mtime(0);
        match &node.kind {
            NodeKind::File(data) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(data.len() as u64);
                builder.append_data(&mut header, &node.path, data.as_slice())?;
            }
            NodeKind::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                if target.len() <= LINK_SIZE {
                    header.set_link_name_literal(target)?;
                    builder.append_data(&mut header, &node.path, std::io::empty())?;
                } else {
                    builder.append_link(&mut header, &node.path, target)?;
                }
            }
            NodeKind::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, format!("{}/", node.path), std::io::empty())?;
            }
            NodeKind::Special => {
                header.set_entry_type(EntryType::Fifo);
                header.set_size(0);
                builder.append_data(&mut header, &node.path, std::io::empty())?;
            }
        }
    }
    Ok(builder.into_inner()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::any::tree;

    fn with_link(target: &str) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(4);
        builder.append_data(&mut header, "./a", &b"data"[..]).unwrap();
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        builder.append_link(&mut header, "b", target).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_hard_link_has_the_content_of_its_target() {
        let tree = read(&with_link("./a")).unwrap();
        assert_eq!(tree.get("b").unwrap().kind, NodeKind::File(b"data".to_vec()));
    }

    #[test]
    fn a_hard_link_to_nothing_is_refused() {
        assert!(matches!(read(&with_link("c")), Err(Error::DanglingLink { .. })));
    }

    #[test]
    fn an_archive_that_ends_inside_a_file_is_refused() {
        let mut tree = Tree::default();
        tree.file("a", 0o644, vec![7; 5000]);
        assert!(read(&write(&tree).unwrap()[..3000]).is_err());
    }

    #[test]
    fn long_paths_and_targets_come_back() {
        let mut tree = Tree::default();
        tree.symlink("a/".repeat(80) + "link", "../".repeat(60) + "target");
        assert_eq!(read(&write(&tree).unwrap()).unwrap(), tree);
    }

    proptest! {
        #[test]
        fn any_tree_comes_back(tree in tree()) {
            prop_assert_eq!(read(&write(&tree).unwrap()).unwrap(), tree);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read(&bytes);
        }

        #[test]
        fn any_damage_is_read_or_refused(tree in tree(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = write(&tree).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
}
