//! Overlays of device trees, as `dtc -@` makes them and libfdt applies them.
//!
//! Format: "Devicetree Overlay Notes" and "dt-object-internal" of dtc's documentation. What is refused, and by which error, follows
//! libfdt (`fdt_overlay.c` of dtc 1.7): phandles of the overlay's own are moved behind the base's, labels are looked up in the
//! base's `__symbols__`, each fragment is merged into its target, and its symbols are added to the base's.

use super::{Fdt, Node, Property};
use crate::be32;

/// Why an overlay can't be applied, by libfdt's name of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A label, or the place that it names, is not in the base.
    #[error("FDT_ERR_NOTFOUND")]
    NotFound,
    /// The overlay is not made as it should be.
    #[error("FDT_ERR_BADOVERLAY")]
    BadOverlay,
    /// A phandle that is none.
    #[error("FDT_ERR_BADPHANDLE")]
    BadPhandle,
    /// A symbol that is no path.
    #[error("FDT_ERR_BADVALUE")]
    BadValue,
    /// No room: in the base for what comes, or in a property for a phandle.
    #[error("FDT_ERR_NOSPACE")]
    NoSpace,
    /// No phandles are left.
    #[error("FDT_ERR_NOPHANDLES")]
    NoPhandles,
}

/// What a phandle is that is yet to be looked up.
const UNRESOLVED: u32 = u32::MAX;

/// Applies `overlay` to `base`, which is not to be used any more where that fails.
///
/// # Errors
///
/// See [`Refused`].
pub fn apply(base: &mut Fdt, overlay: &Fdt) -> Result<(), Refused> {
    let mut overlay = overlay.clone();
    let delta = max_phandle(&base.root);
    move_phandles(&mut overlay.root, delta)?;
    if let Some(fixups) = overlay.root.child("__local_fixups__").cloned() {
        move_references(&mut overlay.root, &fixups, delta)?;
    }
    if let Some(fixups) = overlay.root.child("__fixups__").cloned() {
        for property in &fixups.properties {
            look_up(base, &mut overlay, property)?;
        }
    }
    for fragment in &overlay.root.children {
        // `__symbols__` and the like are no fragments.
        let Some(content) = fragment.child("__overlay__") else { continue };
        let target = target(base, fragment)?;
        merge(base.node_mut(&target).ok_or(Refused::NotFound)?, content);
    }
    add_symbols(base, &overlay)
}

fn phandle(node: &Node) -> Option<u32> {
    let value = node.property("phandle").or_else(|| node.property("linux,phandle"));
    value.filter(|value| value.len() == 4).and_then(|value| be32(value, 0)).filter(|phandle| *phandle != 0)
}

fn max_phandle(node: &Node) -> u32 {
    let own = phandle(node).filter(|phandle| *phandle != UNRESOLVED).unwrap_or_default();
    node.children.iter().map(max_phandle).fold(own, u32::max)
}

fn move_phandles(node: &mut Node, delta: u32) -> Result<(), Refused> {
    for Property { name, value } in &mut node.properties {
        if name == "phandle" || name == "linux,phandle" {
            let old = be32(value, 0).filter(|_| value.len() == 4).ok_or(Refused::BadPhandle)?;
            let new = old.checked_add(delta).filter(|new| *new != UNRESOLVED).ok_or(Refused::NoPhandles)?;
            *value = new.to_be_bytes().into();
        }
    }
    node.children.iter_mut().try_for_each(|child| move_phandles(child, delta))
}

/// Moves the overlay's references to itself: a property of `fixups` has the places of them in the property of its name.
fn move_references(node: &mut Node, fixups: &Node, delta: u32) -> Result<(), Refused> {
    for Property { name, value } in &fixups.properties {
        let places = value.chunks_exact(4);
        if !places.remainder().is_empty() {
            return Err(Refused::BadOverlay);
        }
        for at in places.filter_map(|place| be32(place, 0)) {
            let old =
                node.property(name).and_then(|value| be32(value, at as usize)).ok_or(Refused::BadOverlay)?;
            write_reference(node, name, at as usize, old.wrapping_add(delta)).ok_or(Refused::BadOverlay)?;
        }
    }
    for child in &fixups.children {
        let found = node.children.iter_mut().find(|node| node.is_called(&child.name));
        move_references(found.ok_or(Refused::BadOverlay)?, child, delta)?;
    }
    Ok(())
}

/// Writes a phandle into a property that is there, and large enough.
fn write_reference(node: &mut Node, name: &str, at: usize, phandle: u32) -> Option<()> {
    let property = node.properties.iter_mut().find(|property| property.name == name)?;
    property.value.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&phandle.to_be_bytes());
    Some(())
}

/// Writes the phandle of a label of the base's wherever the overlay refers to it: `PATH:PROPERTY:OFFSET` each.
fn look_up(base: &Fdt, overlay: &mut Fdt, fixup: &Property) -> Result<(), Refused> {
    let mut places = fixup.value.split(|byte| *byte == 0).map(str::from_utf8);
    // Behind the last one nothing is left.
    if places.next_back() != Some(Ok("")) {
        return Err(Refused::BadOverlay);
    }
    for place in places {
        let place = place.map_err(|_| Refused::BadOverlay)?;
        let mut words = place.splitn(3, ':');
        let (Some(path), Some(name), Some(at)) = (words.next(), words.next(), words.next()) else {
            return Err(Refused::BadOverlay);
        };
        let at: usize = at.parse().map_err(|_| Refused::BadOverlay)?;
        if name.is_empty() {
            return Err(Refused::BadOverlay);
        }
        let symbols = base.root.child("__symbols__").ok_or(Refused::NotFound)?;
        let labelled = symbols.text(&fixup.name).and_then(|path| base.node(path));
        let phandle = labelled.and_then(phandle).ok_or(Refused::NotFound)?;
        let node = overlay.node_mut(path).ok_or(Refused::BadOverlay)?;
        node.property(name).ok_or(Refused::NotFound)?;
        write_reference(node, name, at, phandle).ok_or(Refused::NoSpace)?;
    }
    Ok(())
}

/// The path of the node in the base that a fragment is for, with a `/` behind it.
fn target(base: &Fdt, fragment: &Node) -> Result<String, Refused> {
    match (fragment.property("target"), fragment.text("target-path")) {
        (Some(value), _) => match be32(value, 0).filter(|_| value.len() == 4) {
            None | Some(0 | UNRESOLVED) => Err(Refused::BadPhandle),
            Some(wanted) => path_of(&base.root, wanted, "/").ok_or(Refused::NotFound),
        },
        (None, Some(path)) => {
            base.node(path).map(|_| format!("{}/", path.trim_end_matches('/'))).ok_or(Refused::NotFound)
        }
        (None, None) => Err(Refused::BadOverlay),
    }
}

/// The path of the node with a phandle, below that of `node`.
fn path_of(node: &Node, wanted: u32, path: &str) -> Option<String> {
    if phandle(node) == Some(wanted) {
        return Some(path.to_owned());
    }
    node.children.iter().find_map(|child| path_of(child, wanted, &format!("{path}{}/", child.name)))
}

/// What is new comes first, as in libfdt.
fn merge(target: &mut Node, content: &Node) {
    for Property { name, value } in &content.properties {
        match target.properties.iter_mut().find(|property| property.name == *name) {
            Some(property) => property.value.clone_from(value),
            None => target.properties.insert(0, Property { name: name.clone(), value: value.clone() }),
        }
    }
    for child in &content.children {
        match target.children.iter_mut().find(|node| node.is_called(&child.name)) {
            Some(node) => merge(node, child),
            None => {
                let mut node = Node::new(child.name.clone());
                merge(&mut node, child);
                target.children.insert(0, node);
            }
        }
    }
}

/// Adds the overlay's symbols to the base's, by the paths that they have there now.
fn add_symbols(base: &mut Fdt, overlay: &Fdt) -> Result<(), Refused> {
    let Some(symbols) = overlay.root.child("__symbols__") else { return Ok(()) };
    let mut new = Vec::new();
    for Property { name, value } in &symbols.properties {
        let path = value.strip_suffix(b"\0").filter(|path| path.starts_with(b"/") && !path.contains(&0));
        let path = path.and_then(|path| str::from_utf8(path).ok()).ok_or(Refused::BadValue)?;
        // Others do not end up in the base.
        let Some((fragment, below)) = path[1..].split_once('/') else { continue };
        let below = below.strip_prefix("__overlay__").map(|below| (below, below.strip_prefix('/')));
        let below = match below {
            Some(("", _)) => "",
            Some((_, Some(below))) => below,
            _ => continue,
        };
        let fragment = overlay.root.child(fragment).ok_or(Refused::BadOverlay)?;
        fragment.child("__overlay__").ok_or(Refused::BadOverlay)?;
        let path = format!("{}{below}", target(base, fragment)?);
        new.push((name, path));
    }
    if !base.root.children.iter().any(|child| child.name == "__symbols__") {
        base.root.children.insert(0, Node::new("__symbols__"));
    }
    for (name, path) in new {
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        if let Some(symbols) = base.node_mut("/__symbols__") {
            symbols.set_text(name, path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: &str, phandle: Option<u32>, children: Vec<Node>) -> Node {
        let mut node = Node { children, ..Node::new(name) };
        if let Some(phandle) = phandle {
            node.set_u32("phandle", phandle);
        }
        node
    }

    fn tree(children: Vec<Node>) -> Fdt {
        Fdt { root: node("", None, children), ..Fdt::default() }
    }

    fn symbols(of: &[(&str, &str)]) -> Node {
        let mut node = Node::new("__symbols__");
        for (label, path) in of {
            node.set_text(label, path);
        }
        node
    }

    /// A board with a bus and a controller of interrupts, both with labels.
    fn base() -> Fdt {
        tree(vec![
            node("ocp", None, vec![node("i2c@1000", Some(7), vec![]), node("gpio@2000", Some(3), vec![])]),
            symbols(&[("i2c2", "/ocp/i2c@1000"), ("gpio1", "/ocp/gpio@2000")]),
        ])
    }

    /// A clock on the bus, which interrupts by the controller, has a label, and refers to itself.
    fn clock() -> Fdt {
        let mut rtc = node("rtc@68", Some(1), vec![]);
        rtc.set_text("compatible", "nxp,pcf8523");
        rtc.set("interrupts-extended", [UNRESOLVED.to_be_bytes(), 5_u32.to_be_bytes()].concat());
        rtc.set_u32("self", 1);
        let mut fragment = node("fragment@0", None, vec![node("__overlay__", None, vec![rtc])]);
        fragment.set_u32("target", UNRESOLVED);
        let mut fixups = Node::new("__fixups__");
        fixups.set_text("i2c2", "/fragment@0:target:0");
        fixups.set_text("gpio1", "/fragment@0/__overlay__/rtc@68:interrupts-extended:0");
        let mut own = node("rtc@68", None, vec![]);
        own.set_u32("self", 0);
        let own = node("fragment@0", None, vec![node("__overlay__", None, vec![own])]);
        tree(vec![
            fragment,
            symbols(&[("clock", "/fragment@0/__overlay__/rtc@68"), ("elsewhere", "/fragment@0")]),
            fixups,
            node("__local_fixups__", None, vec![own]),
        ])
    }

    #[test]
    fn what_an_overlay_adds_is_there_with_the_phandles_of_the_base() {
        let mut base = base();
        apply(&mut base, &clock()).unwrap();
        let rtc = base.node("/ocp/i2c@1000/rtc@68").unwrap();
        assert_eq!(rtc.text("compatible"), Some("nxp,pcf8523"));
        assert_eq!((rtc.number("phandle"), rtc.number("self")), (Some(8), Some(8)));
        assert_eq!(rtc.number("interrupts-extended"), Some(3 << 32 | 5));
        let symbols = base.node("/__symbols__").unwrap();
        assert_eq!(symbols.text("clock"), Some("/ocp/i2c@1000/rtc@68"));
        assert_eq!(symbols.text("elsewhere"), None);
    }

    #[test]
    fn an_overlay_may_refer_to_what_the_one_before_has_added() {
        let mut fragment = node("fragment@0", None, vec![node("__overlay__", None, vec![])]);
        fragment.set_u32("target", UNRESOLVED);
        fragment.children[0].set_text("status", "disabled");
        let mut fixups = Node::new("__fixups__");
        fixups.set_text("clock", "/fragment@0:target:0");
        let second = tree(vec![fragment, fixups]);
        assert_eq!(apply(&mut base(), &second), Err(Refused::NotFound));
        let mut both = base();
        apply(&mut both, &clock()).unwrap();
        apply(&mut both, &second).unwrap();
        assert_eq!(both.node("/ocp/i2c@1000/rtc@68").unwrap().text("status"), Some("disabled"));
    }

    #[test]
    fn a_fragment_may_name_its_target_by_a_path_and_change_what_is_there() {
        let mut fragment = node("fragment@0", None, vec![node("__overlay__", None, vec![])]);
        fragment.set_text("target-path", "/");
        fragment.children[0].set_text("model", "With a clock");
        let mut changed = base();
        changed.root.set_text("model", "Without");
        apply(&mut changed, &tree(vec![fragment.clone()])).unwrap();
        assert_eq!(changed.model(), Some("With a clock"));
        fragment.set_text("target-path", "/nowhere");
        assert_eq!(apply(&mut base(), &tree(vec![fragment.clone()])), Err(Refused::NotFound));
        fragment.properties.clear();
        assert_eq!(apply(&mut base(), &tree(vec![fragment])), Err(Refused::BadOverlay));
    }

    #[test]
    fn what_libfdt_refuses_is_refused_with_its_error() {
        let without_symbols = || tree(vec![base().root.children.remove(0)]);
        assert_eq!(apply(&mut without_symbols(), &clock()), Err(Refused::NotFound));
        let with = |change: &dyn Fn(&mut Fdt)| {
            let mut overlay = clock();
            change(&mut overlay);
            apply(&mut base(), &overlay)
        };
        let fixups = |text: &'static str| {
            move |overlay: &mut Fdt| overlay.set("/__fixups__", "i2c2", text.as_bytes().to_vec()).unwrap()
        };
        for text in [
            "/fragment@0:target:0",
            "/fragment@0:target\0",
            "/fragment@0::0\0",
            "/none:target:0\0",
            "a:b:c\0",
        ] {
            assert_eq!(with(&fixups(text)), Err(Refused::BadOverlay), "{text:?}");
        }
        assert_eq!(with(&fixups("/fragment@0:other:0\0")), Err(Refused::NotFound));
        assert_eq!(with(&fixups("/fragment@0:target:4\0")), Err(Refused::NoSpace));
        let unresolved = |overlay: &mut Fdt| overlay.root.children.retain(|child| child.name != "__fixups__");
        assert_eq!(with(&unresolved), Err(Refused::BadPhandle));
        let odd = |overlay: &mut Fdt| {
            overlay.set("/__local_fixups__/fragment@0/__overlay__/rtc@68", "self", [0; 3]).unwrap()
        };
        assert_eq!(with(&odd), Err(Refused::BadOverlay));
        let symbol = |overlay: &mut Fdt| overlay.set("/__symbols__", "clock", *b"no path\0").unwrap();
        assert_eq!(with(&symbol), Err(Refused::BadValue));
        let full = |overlay: &mut Fdt| {
            overlay.node_mut("/fragment@0/__overlay__/rtc@68").unwrap().set_u32("phandle", UNRESOLVED - 7);
        };
        assert_eq!(with(&full), Err(Refused::NoPhandles));
    }

    proptest! {
        #[test]
        fn any_damage_is_applied_or_refused(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = clock().to_bytes().unwrap();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(overlay) = super::super::parse(&bytes) {
                let _ = apply(&mut base(), &overlay);
            }
        }
    }
}
