//! Flattened device trees.
//!
//! Format: the Devicetree Specification v0.4, chapter 5. A tree is read whole, may be changed as
//! U-Boot's `fdt` command does, and written again.
//!
//! Why no crate: `dtoolkit` refuses trees that U-Boot and Linux take (names of more than 31
//! bytes, which `dtc -@` makes for each long label), and `vm-fdt` to write them; `fdt`,
//! `fdt-parser` and `fdt-raw` panic on some broken ones.

use std::collections::HashMap;

use crate::{align, be32};

pub mod overlay;

/// First four bytes of a flattened device tree.
pub const MAGIC: u32 = 0xd00d_feed;

/// The deepest that nodes may be nested.
pub const MAX_DEPTH: usize = 64;

/// The longest name of a property or a node, in bytes.
pub const MAX_NAME: usize = 255;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

const HEADER_SIZE: usize = 40;
const VERSION: u32 = 17;
const COMPATIBLE_VERSION: u32 = 16;

/// Why bytes are no device tree, or a tree can't be changed or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes do not start with [`MAGIC`].
    #[error("bad magic number of a device tree")]
    BadMagic,
    /// Fewer bytes than the header says, or no whole header.
    #[error("device tree is truncated: {have} of {need} bytes")]
    Truncated {
        /// Bytes that are needed.
        need: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// A version that is not compatible with version 16 or 17.
    #[error("device tree of unknown version {0}")]
    BadVersion(u32),
    /// The structure block is broken.
    #[error("broken device tree at offset {offset}: {reason}")]
    BadStructure {
        /// Where, in bytes from the start.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// No node of this path.
    #[error("no node {0} in the device tree")]
    NoNode(String),
    /// A name that is too long, or has a byte that no name has.
    #[error("bad name {0:?} in the device tree")]
    BadName(String),
    /// A tree of 4 GiB or more to write.
    #[error("device tree is too large")]
    TooLarge,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fdt {
    /// The root node; its name is empty.
    pub root: Node,
    /// Reserved regions of memory: address and size, both not 0.
    pub reserved: Vec<(u64, u64)>,
    /// Physical id of the processor that boots.
    pub boot_cpu: u32,
}

/// A node of a device tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name with its unit address, such as `memory@40000000`.
    pub name: String,
    /// Its properties in their order.
    pub properties: Vec<Property>,
    /// The nodes below it in their order.
    pub children: Vec<Node>,
}

/// A property of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// Whether `bytes` claim to be a flattened device tree.
#[must_use]
pub fn is_fdt(bytes: &[u8]) -> bool {
    be32(bytes, 0) == Some(MAGIC)
}

/// How many bytes the device tree that `bytes` start with says that it has: where what is
/// appended to it begins.
#[must_use]
pub fn total_size(bytes: &[u8]) -> Option<usize> {
    is_fdt(bytes).then(|| be32(bytes, 4))?.and_then(|size| usize::try_from(size).ok())
}

/// The device tree that `bytes` start with, without the room to spare behind it that its header may tell of, and that need not be there; `None`
/// where even the rest is not.
#[must_use]
pub fn without_missing_room(bytes: &[u8]) -> Option<Vec<u8>> {
    let total = total_size(bytes)?;
    if let Some(whole) = bytes.get(..total) {
        return Some(whole.to_vec());
    }
    let header = |index: usize| be32(bytes, index * 4).map(|number| number as usize);
    let structure = header(2)?.checked_add(header(9)?)?;
    let strings = header(3)?.checked_add(header(8)?)?;
    let mut found = bytes.get(..structure.max(strings).max(HEADER_SIZE))?.to_vec();
    let size = u32::try_from(found.len()).ok()?;
    found.get_mut(4..8)?.copy_from_slice(&size.to_be_bytes());
    Some(found)
}

/// Reads a device tree; what follows it is left alone.
///
/// # Errors
///
/// See [`Error`].
pub fn parse(bytes: &[u8]) -> Result<Fdt, Error> {
    let have = bytes.len() as u64;
    let short = Error::Truncated { need: HEADER_SIZE as u64, have };
    if be32(bytes, 0).ok_or(short.clone())? != MAGIC {
        return Err(Error::BadMagic);
    }
    let header = |index: usize| be32(bytes, index * 4).map(|number| number as usize).ok_or(short.clone());
    let total = header(1)?;
    let (structure, strings, reserved) = (header(2)?, header(3)?, header(4)?);
    let (version, compatible) = (header(5)? as u32, header(6)? as u32);
    if version < COMPATIBLE_VERSION || compatible > VERSION {
        return Err(Error::BadVersion(version));
    }
    let boot_cpu = header(7)? as u32;
    let strings_size = header(8)?;
    header(9)?;
    let bytes = bytes.get(..total).ok_or(Error::Truncated { need: total as u64, have })?;
    let strings = strings
        .checked_add(strings_size)
        .and_then(|end| bytes.get(strings..end))
        .ok_or(Error::BadStructure { offset: strings, reason: "strings outside of the tree" })?;
    let reserved = parse_reserved(bytes, reserved)?;
    let root = Parser { bytes, strings, at: structure }.parse()?;
    Ok(Fdt { root, reserved, boot_cpu })
}

fn parse_reserved(bytes: &[u8], offset: usize) -> Result<Vec<(u64, u64)>, Error> {
    let mut reserved = Vec::new();
    let mut regions = bytes.get(offset..).unwrap_or_default().chunks_exact(16);
    loop {
        let region = regions.next().and_then(|region| region.first_chunk::<16>());
        let Some(region) = region.copied().map(u128::from_be_bytes) else {
            return Err(Error::BadStructure { offset, reason: "no end of the reserved memory" });
        };
        match ((region >> 64) as u64, region as u64) {
            (0, 0) => return Ok(reserved),
            region => reserved.push(region),
        }
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn broken(&self, reason: &'static str) -> Error {
        Error::BadStructure { offset: self.at, reason }
    }

    fn number(&mut self) -> Result<u32, Error> {
        let number = be32(self.bytes, self.at).ok_or_else(|| self.broken("ends early"))?;
        self.at += 4;
        Ok(number)
    }

    /// The text up to the next NUL from `from` on.
    fn text(&self, bytes: &'a [u8], from: usize) -> Result<&'a str, Error> {
        let bytes = bytes.get(from..).unwrap_or_default();
        let end = bytes.iter().take(MAX_NAME + 1).position(|byte| *byte == 0);
        let text = end.and_then(|end| bytes.get(..end)).ok_or_else(|| self.broken("name without an end"))?;
        str::from_utf8(text).map_err(|_| self.broken("name is not utf-8"))
    }

    fn parse(mut self) -> Result<Node, Error> {
        // The nodes that are open, the root first.
        let mut open: Vec<Node> = Vec::new();
        loop {
            match self.number()? {
                BEGIN_NODE => {
                    if open.len() == MAX_DEPTH {
                        return Err(self.broken("nested too deep"));
                    }
                    let name = self.text(self.bytes, self.at)?;
                    self.at = align(self.at + name.len() + 1, 4);
                    open.push(Node { name: name.into(), ..Node::default() });
                }
                END_NODE => {
                    let node = open.pop().ok_or_else(|| self.broken("end of no node"))?;
                    let Some(parent) = open.last_mut() else {
                        while be32(self.bytes, self.at) == Some(NOP) {
                            self.at += 4;
                        }
                        return match self.number()? {
                            END => Ok(node),
                            _ => Err(self.broken("more than one root")),
                        };
                    };
                    parent.children.push(node);
                }
                PROP => {
                    let size = self.number()? as usize;
                    let name = self.number()? as usize;
                    let name = self.text(self.strings, name)?.to_owned();
                    let end = self.at.checked_add(size);
                    let value = end.and_then(|end| self.bytes.get(self.at..end));
                    let value = value.ok_or_else(|| self.broken("value ends early"))?.to_vec();
                    let Some(node) = open.last_mut() else {
                        return Err(self.broken("property of no node"));
                    };
                    node.properties.push(Property { name, value });
                    self.at = align(self.at + size, 4);
                }
                NOP => {}
                END => return Err(self.broken("ends inside a node")),
                _ => return Err(self.broken("unknown token")),
            }
        }
    }
}

impl Fdt {
    /// The node of an absolute path. As in libfdt, a part without a unit address is also found
    /// with one: `/memory` finds `/memory@40000000`.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<&Node> {
        path_parts(path)?.try_fold(&self.root, |node, part| node.child(part))
    }

    /// The value of a property of the node of an absolute path, such as `/chosen` and `bootargs`.
    #[must_use]
    pub fn property(&self, path: &str, name: &str) -> Option<&[u8]> {
        self.node(path)?.property(name)
    }

    /// The board's name: `model` of the root.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.root.text("model")
    }

    /// The kernel's command line: `bootargs` of `/chosen`.
    #[must_use]
    pub fn bootargs(&self) -> Option<&str> {
        self.node("/chosen")?.text("bootargs")
    }

    /// Sets a property of the node of an absolute path, which must exist.
    ///
    /// # Errors
    ///
    /// [`Error::NoNode`], or [`Error::BadName`] for the property.
    pub fn set(&mut self, path: &str, name: &str, value: impl Into<Vec<u8>>) -> Result<(), Error> {
        check_name(name)?;
        let node = self.node_mut(path).ok_or_else(|| Error::NoNode(path.into()))?;
        node.set(name, value);
        Ok(())
    }

    /// The node of an absolute path, to be changed. It is found as [`Self::node`] finds it.
    pub fn node_mut(&mut self, path: &str) -> Option<&mut Node> {
        path_parts(path)?.try_fold(&mut self.root, |node, part| {
            node.children.iter_mut().find(|child| child.is_called(part))
        })
    }

    /// Writes the tree in version 17, without room to spare.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`] for a name that can't be read again, [`Error::TooLarge`] from 4 GiB on.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut writer = Writer::default();
        writer.node(&self.root, 0)?;
        writer.structure.extend(END.to_be_bytes());
        let structure = HEADER_SIZE + 16 * (self.reserved.len() + 1);
        let strings = structure + writer.structure.len();
        let header = [
            MAGIC as usize,
            strings + writer.strings.len(),
            structure,
            strings,
            HEADER_SIZE,
            VERSION as usize,
            COMPATIBLE_VERSION as usize,
            self.boot_cpu as usize,
            writer.strings.len(),
            writer.structure.len(),
        ];
        let mut bytes = Vec::with_capacity(strings + writer.strings.len());
        for number in header {
            bytes.extend(u32::try_from(number).map_err(|_| Error::TooLarge)?.to_be_bytes());
        }
        for (address, size) in self.reserved.iter().filter(|region| **region != (0, 0)).chain([&(0, 0)]) {
            bytes.extend(address.to_be_bytes());
            bytes.extend(size.to_be_bytes());
        }
        // Regions that were left out.
        bytes.resize(structure, 0);
        bytes.extend(writer.structure);
        bytes.extend(writer.strings);
        Ok(bytes)
    }
}

impl Node {
    /// A node without anything in it.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn is_called(&self, name: &str) -> bool {
        match self.name.strip_prefix(name) {
            Some("") => true,
            Some(rest) => rest.starts_with('@') && !name.contains('@'),
            None => false,
        }
    }

    /// The first node below this one with this name, with or without its unit address.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.is_called(name))
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        self.properties.iter().find(|property| property.name == name).map(|property| &*property.value)
    }

    /// The value of a property that is one text: up to its first NUL.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).into_iter().next()
    }

    /// The texts of a property; empty if there is no such property, or it does not hold texts.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let value = self.property(name).and_then(|value| str::from_utf8(value).ok());
        value.map(|value| value.trim_end_matches('\0').split('\0').collect()).unwrap_or_default()
    }

    /// The value of a property that is a number of one or two cells (4 or 8 bytes).
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.property(name)?;
        match value.len() {
            4 => be32(value, 0).map(u64::from),
            8 => crate::array_at(value, 0).map(u64::from_be_bytes),
            _ => None,
        }
    }

    /// Sets a property, which keeps its place when there was one of this name.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        match self.properties.iter_mut().find(|property| property.name == name) {
            Some(property) => property.value = value,
            None => self.properties.push(Property { name: name.into(), value }),
        }
    }

    /// Sets a property to a text.
    pub fn set_text(&mut self, name: &str, text: &str) {
        self.set(name, [text.as_bytes(), b"\0"].concat());
    }

    /// Sets a property to a number of one cell.
    pub fn set_u32(&mut self, name: &str, number: u32) {
        self.set(name, number.to_be_bytes());
    }
}

fn path_parts(path: &str) -> Option<impl Iterator<Item = &str>> {
    path.strip_prefix('/').map(|path| path.split('/').filter(|part| !part.is_empty()))
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.len() > MAX_NAME || name.contains('\0') { Err(Error::BadName(name.into())) } else { Ok(()) }
}

#[derive(Default)]
struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
    offsets: HashMap<String, usize>,
}

impl Writer {
    fn node(&mut self, node: &Node, depth: usize) -> Result<(), Error> {
        check_name(&node.name)?;
        if depth == MAX_DEPTH {
            return Err(Error::BadStructure { offset: self.structure.len(), reason: "nested too deep" });
        }
        self.structure.extend(BEGIN_NODE.to_be_bytes());
        self.bytes(node.name.as_bytes());
        self.structure.push(0);
        self.pad();
        for property in &node.properties {
            check_name(&property.name)?;
            let offset = *self.offsets.entry(property.name.clone()).or_insert_with(|| {
                let offset = self.strings.len();
                self.strings.extend(property.name.as_bytes());
                self.strings.push(0);
                offset
            });
            self.structure.extend(PROP.to_be_bytes());
            for number in [property.value.len(), offset] {
                let number = u32::try_from(number).map_err(|_| Error::TooLarge)?;
                self.structure.extend(number.to_be_bytes());
            }
            self.bytes(&property.value);
            self.pad();
        }
        for child in &node.children {
            self.node(child, depth + 1)?;
        }
        self.structure.extend(END_NODE.to_be_bytes());
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.structure.extend(bytes);
    }

    fn pad(&mut self) {
        self.structure.resize(align(self.structure.len(), 4), 0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn board() -> Fdt {
        let mut fdt = Fdt { reserved: vec![(0x4000_0000, 0x1000)], ..Fdt::default() };
        fdt.root.set_text("model", "Ghost Board");
        fdt.root.set("compatible", *b"ghost,board\0ghost,soc\0");
        let mut memory = Node::new("memory@40000000");
        memory.set("reg", [0x4000_0000u32.to_be_bytes(), 0x1000_0000u32.to_be_bytes()].concat());
        fdt.root.children = vec![Node::new("chosen"), memory];
        fdt
    }

    #[test]
    fn a_property_is_found_by_its_path() {
        let fdt = parse(&board().to_bytes().unwrap()).unwrap();
        assert_eq!(fdt.model(), Some("Ghost Board"));
        assert_eq!(fdt.root.texts("compatible"), ["ghost,board", "ghost,soc"]);
        assert_eq!(fdt.property("/memory", "reg").map(<[u8]>::len), Some(8));
        assert_eq!(fdt.node("/memory").and_then(|node| node.number("reg")), Some(0x4000_0000_1000_0000));
        assert_eq!(fdt.property("/memory@5", "reg"), None);
        assert_eq!(fdt.property("chosen", "reg"), None);
    }

    #[test]
    fn a_command_line_that_was_set_is_read_again() {
        let mut fdt = board();
        fdt.set("/chosen", "bootargs", *b"console=ttyS0\0").unwrap();
        let fdt = parse(&fdt.to_bytes().unwrap()).unwrap();
        assert_eq!(fdt.bootargs(), Some("console=ttyS0"));
        assert_eq!(fdt.clone().set("/nowhere", "a", ""), Err(Error::NoNode("/nowhere".into())));
    }

    #[test]
    fn names_longer_than_the_specification_wants_are_taken() {
        let mut fdt = board();
        let name = "this_is_a_label_of_more_than_31_bytes";
        fdt.root.set_text(name, "/memory@40000000");
        assert_eq!(parse(&fdt.to_bytes().unwrap()).unwrap(), fdt);
    }

    #[test]
    fn a_tree_that_was_cut_is_noticed() {
        let bytes = board().to_bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..end]), Err(Error::Truncated { .. })), "{end}");
        }
    }

    #[test]
    fn room_that_is_not_there_is_left_out() {
        let bytes = board().to_bytes().unwrap();
        assert_eq!(without_missing_room(&[&bytes[..], b"more"].concat()), Some(bytes.clone()));
        let mut roomy = bytes.clone();
        roomy[4..8].copy_from_slice(&0x10_0000u32.to_be_bytes());
        assert_eq!(without_missing_room(&roomy), Some(bytes.clone()));
        assert_eq!(without_missing_room(&roomy[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_tree_that_is_nested_too_deep_is_refused() {
        let nested = |depth| {
            (1..depth).fold(Node::new(""), |child, _| Node { children: vec![child], ..Node::default() })
        };
        let fdt = Fdt { root: nested(MAX_DEPTH), ..Fdt::default() };
        assert_eq!(parse(&fdt.to_bytes().unwrap()).as_ref(), Ok(&fdt));
        assert!(Fdt { root: nested(MAX_DEPTH + 1), ..Fdt::default() }.to_bytes().is_err());
    }

    #[test]
    fn other_bytes_are_not_taken_for_a_tree() {
        assert_eq!(parse(&[0; 100]), Err(Error::BadMagic));
        let mut old = board().to_bytes().unwrap();
        old[23] = 3;
        assert_eq!(parse(&old), Err(Error::BadVersion(3)));
    }

    fn node() -> impl Strategy<Value = Node> {
        let property = ("[a-z#,-]{1,40}", vec(any::<u8>(), 0..20));
        let property = property.prop_map(|(name, value)| Property { name, value });
        let properties = vec(property, 0..4);
        let leaf = ("[a-z@0-9]{1,20}", properties.clone());
        let leaf = leaf.prop_map(|(name, properties)| Node { name, properties, children: vec![] });
        leaf.prop_recursive(4, 16, 4, move |child| {
            ("[a-z@0-9]{1,20}", properties.clone(), vec(child, 0..4))
                .prop_map(|(name, properties, children)| Node { name, properties, children })
        })
    }

    proptest! {
        #[test]
        fn any_tree_comes_back(root in node(), reserved in vec((1u64.., any::<u64>()), 0..3), boot_cpu: u32) {
            let fdt = Fdt { root, reserved, boot_cpu };
            prop_assert_eq!(parse(&fdt.to_bytes().unwrap()), Ok(fdt));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_damage_is_read_or_refused(
            root in node(),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = Fdt { root, ..Fdt::default() }.to_bytes().unwrap();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(fdt) = parse(&bytes) {
                fdt.to_bytes().unwrap();
            }
        }
    }
}
