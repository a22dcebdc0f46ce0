//! The ledgers: what LAVA did to the boards.
//!
//! A file that a board got is never shown by its checksum where it can be named:
//! it is an artifact of the world, or a root file system that is an artifact and
//! what LAVA put into it, which is listed entry by entry.

use std::collections::{BTreeMap, BTreeSet};

use meta_lava_formats::tree::TreeEntry;
use meta_lava_ghost::ledger::{Entry, Event, Stage};
use serde_json::Value;

use super::Normaliser;
use super::artifacts::Artifacts;
use super::masks::Scope;
use super::rows::{Rows, Seen};
use crate::jobs::evidence::Evidence;
use crate::text::{printable, quoted_if_unclear};

/// Events of one board that are shown. A real job has some hundred.
const EVENTS: usize = 20_000;

/// The folder in which LAVA serves ramdisks by TFTP (`lava_dispatcher/actions/deploy/tftp.py`).
const RAMDISKS: &str = "/ramdisk/";

/// Digits of a checksum that are shown.
const DIGITS: usize = 16;

/// The ledgers as lines that are equal from run to run.
#[must_use]
pub fn normalise(evidence: &Evidence, artifacts: &Artifacts, normaliser: Normaliser<'_>) -> Rows {
    let definition = evidence.details.get("definition").and_then(Value::as_str).unwrap_or_default();
    let mut archives: Vec<_> = artifacts.trees().collect();
    archives.sort_by_key(|(path, _)| (!asks_for(definition, path), *path));
    let mut rows = Rows::default();
    for (board, entries) in &evidence.ledgers {
        // Of equal ones the last.
        let mut trees = BTreeMap::new();
        for (position, entry) in entries.iter().enumerate() {
            if let Event::Tree { source, .. } = &entry.event {
                trees.insert(source.as_str(), position);
            }
        }
        let writer = Writer { artifacts, archives: &archives, normaliser, blobs: &evidence.blobs, trees };
        rows.push(format!("board {}", writer.line(board)));
        if entries.is_empty() {
            rows.push("  nothing happened to it");
        }
        for (position, entry) in entries.iter().take(EVENTS).enumerate() {
            if is_left_over(&entries[position..]) {
                continue;
            }
            writer.event(position, &entry.event, &mut rows);
        }
        if let Some(more) = entries.len().checked_sub(EVENTS).filter(|more| *more > 0) {
            rows.push(format!("  [… {more} more events left out]"));
        }
    }
    rows
}

/// Whether the first of `entries` is an empty line that a container's shell read after all else. Behind what lava-sync and
/// its like are told, LAVA sends two (`lava_dispatcher/actions/test/multinode.py`). Nobody in the test reads them, and
/// when the test has ended the container may be gone before its shell has.
fn is_left_over(entries: &[Entry]) -> bool {
    let typed = |entry: &Entry| match &entry.event {
        Event::Line { stage: Stage::Container, text, .. } => Some(text.is_empty()),
        _ => None,
    };
    let stands = |entry: &&Entry| match &entry.event {
        Event::Tool { tool, args } => tool != "docker" || args.first().is_none_or(|command| command != "rm"),
        _ => true,
    };
    entries.first().and_then(typed) == Some(true)
        && entries.iter().take_while(stands).filter_map(typed).all(|is_empty| is_empty)
}

struct Writer<'a> {
    artifacts: &'a Artifacts,
    /// What archives hold, by path. Several hold the same: first come those that the job asks
    /// for, since they were served; then by name.
    archives: &'a [(&'a str, &'a [TreeEntry])],
    normaliser: Normaliser<'a>,
    blobs: &'a BTreeMap<String, Vec<u8>>,
    /// What was unpacked, and when last.
    trees: BTreeMap<&'a str, usize>,
}

impl Writer<'_> {
    fn line(&self, text: &str) -> String {
        quoted_if_unclear(&self.normaliser.line(Scope::Board, text))
    }

    fn event(&self, position: usize, event: &Event, rows: &mut Rows) {
        if let Event::Line { uart, stage, text } = event {
            let text = self.line(&caret(text));
            let row = match stage {
                Stage::Container => format!("  container> {text}"),
                stage => format!("  console {uart} {}> {text}", stage.name()),
            };
            return rows.push_seen(row, Seen::Typed(text));
        }
        let mut add = |line: String| rows.push(format!("  {line}"));
        match event {
            Event::Power { action } => add(format!("power {}", action.name())),
            Event::Stage { stage } => add(format!("stage {}", stage.name())),
            Event::Connected { uart } => add(format!("console {uart} opened")),
            Event::Disconnected { uart } => add(format!("console {uart} closed")),
            Event::Line { .. } => {}
            Event::Login { user, by, accepted } => add(format!(
                "ssh {} {} by {}",
                if *accepted { "login of" } else { "refused" },
                self.line(user),
                self.line(by)
            )),
            Event::Key { uart, text } => {
                // Which of the two the Enter key is depends on when telnet's negotiation ends.
                let text = caret(&text.replace('\r', "\n"));
                add(format!("console {uart} key \"{}\"", self.normaliser.line(Scope::Board, &text)));
            }
            Event::Network { method } => add(format!("network {}", self.line(method))),
            Event::File { protocol, path, size, sha256, load, parts } => {
                let load = if load.is_empty() { String::new() } else { format!(" -> {}", self.line(load)) };
                add(format!(
                    "fetch {} {}{load} = {}",
                    protocol.name(),
                    self.line(path),
                    self.file(position, path, *size, sha256, parts)
                ));
            }
            Event::FileFailed { protocol, path, error } => {
                add(format!("fetch {} {} failed: {}", protocol.name(), self.line(path), self.line(error)));
            }
            Event::Boot { kernel, cmdline, ramdisk, dtb } => {
                add(format!("boot kernel = {}", self.payload(position, kernel)));
                if let Some(ramdisk) = ramdisk {
                    add(format!("     ramdisk = {}", self.payload(position, ramdisk)));
                }
                if let Some(dtb) = dtb {
                    add(format!("     dtb = {}", self.payload(position, dtb)));
                }
                add(format!("     cmdline {}", self.line(cmdline)));
            }
            Event::Tree { root, entries, .. } => self.tree(root, entries, &mut add),
            Event::Tool { tool, args } => {
                let args: Vec<String> = args.iter().map(|arg| self.argument(arg)).collect();
                add(format!("tool {} {}", self.line(tool), args.join(" ")).trim_end().to_owned());
            }
            Event::Switch { recovery } => {
                add(format!("switch {}", if *recovery { "recovery" } else { "normal" }));
            }
            Event::Cable { plugged } => {
                add(format!("usb cable {}", if *plugged { "plugged" } else { "pulled" }));
            }
            Event::Vlan { vlan, change } => {
                add(self.line(&format!("vlan {vlan} {change}")));
            }
            Event::Fault { number, detail } => add(format!("FAULT {number} {}", self.line(detail))),
            Event::Violation { what, detail } => {
                add(format!("VIOLATION {}: {}", self.line(what), self.line(detail)));
            }
        }
    }

    fn argument(&self, arg: &str) -> String {
        let arg = self.normaliser.line(Scope::Board, arg);
        if arg.is_empty() || arg.contains([' ', '"', '\'', '\\']) { format!("{arg:?}") } else { arg }
    }

    /// What a file that was fetched is.
    fn file(&self, position: usize, path: &str, size: u64, sha256: &str, parts: &[String]) -> String {
        if let Some(path) = self.artifacts.path(sha256) {
            return format!("artifact {}", self.line(path));
        }
        if let Some(blob) = self.blobs.get(sha256) {
            return format!("{} (masked)", short(&self.masked_sum(blob)));
        }
        if self.is_tree_later(position, sha256) {
            return "the tree below".into();
        }
        // LAVA's overlay is in it, so it is another one each time; and none was unpacked.
        if path.contains(RAMDISKS) && self.trees.is_empty() {
            return "a ramdisk that is never unpacked".into();
        }
        if parts.is_empty() {
            return format!("unknown, {size} bytes, {}", short(sha256));
        }
        if parts.iter().all(|part| self.is_tree_later(position, part)) {
            return "the tree below".into();
        }
        let parts: Vec<String> = parts.iter().map(|part| self.payload(position, part)).collect();
        format!("made of {}", parts.join(", "))
    }

    /// What a kernel, ramdisk or device tree is, its boot loader header taken off.
    fn payload(&self, position: usize, sha256: &str) -> String {
        if let Some(path) = self.artifacts.path(sha256) {
            format!("artifact {}", self.line(path))
        } else if self.is_tree_later(position, sha256) {
            "the tree below".into()
        } else {
            format!("unknown, {}", short(sha256))
        }
    }

    /// A ramdisk with LAVA's overlay in it differs in every run: it is judged by its
    /// content, which is what the board unpacked.
    fn is_tree_later(&self, position: usize, sha256: &str) -> bool {
        self.trees.get(sha256).is_some_and(|last| *last > position)
    }

    /// What was unpacked, as an artifact and what is different from it.
    fn tree(&self, root: &str, entries: &[TreeEntry], add: &mut impl FnMut(String)) {
        let found: BTreeMap<&str, &TreeEntry> =
            entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
        let same = |tree: &[TreeEntry]| {
            tree.iter().filter(|entry| found.get(entry.path.as_str()) == Some(entry)).count()
        };
        let starts =
            |entry: &TreeEntry| matches!(entry.path.as_str(), "init" | "sbin/init" | "bin/sh" | "usr/bin/sh");
        let base = self
            .archives
            .iter()
            // A root file system can start something; modules may have more files, but can't.
            .map(|(path, tree)| ((tree.iter().any(starts), same(tree)), *path, *tree))
            // What has little in common with it is told whole.
            .filter(|((_, same), _, tree)| *same > 0 && tree.len() - same <= found.len())
            // Of equally good ones the first.
            .rev()
            .max_by_key(|(good, ..)| *good);
        let mut known: BTreeMap<&str, &TreeEntry> = BTreeMap::new();
        let mut names = Vec::new();
        if let Some((_, path, tree)) = base {
            known.extend(tree.iter().map(|entry| (entry.path.as_str(), entry)));
            names.push(format!("artifact {}", self.line(path)));
        }
        // Whole archives that were unpacked over it: modules.
        for &(path, tree) in self.archives {
            let is_new = tree
                .iter()
                .any(|entry| entry.kind != "directory" && !known.contains_key(entry.path.as_str()));
            let is_there = !tree.is_empty()
                && tree
                    .iter()
                    .all(|entry| found.get(entry.path.as_str()).is_some_and(|found| alike(found, entry)));
            if base.is_some_and(|(_, base, _)| base != path) && is_new && is_there {
                for entry in tree {
                    known.entry(entry.path.as_str()).or_insert(entry);
                }
                names.push(format!("artifact {}", self.line(path)));
            }
        }
        let what = if names.is_empty() { "nothing known".to_owned() } else { names.join(" + ") };
        add(format!("tree {} = {what}", self.line(root)));
        let paths: BTreeSet<&str> = known.keys().chain(found.keys()).copied().collect();
        for path in paths {
            match (known.get(path), found.get(path)) {
                (Some(_), None) => add(format!("  - {}", self.line(path))),
                (None, Some(_)) if is_of_git(path) => {}
                (None, Some(entry)) => add(format!("  + {}", self.tree_entry(entry))),
                (Some(known), Some(entry)) if !alike(known, entry) => {
                    add(format!("  ! {} (was {})", self.tree_entry(entry), self.tree_entry(known)));
                }
                _ => {}
            }
        }
    }

    /// `755 bin/sh 0123456789abcdef`, `755 bin/`, `lib -> usr/lib`.
    fn tree_entry(&self, entry: &TreeEntry) -> String {
        let path = self.line(&entry.path);
        let mode = format!("{:o}", entry.mode & 0o7777);
        match entry.kind.as_str() {
            "directory" => format!("{mode} {path}/"),
            "symlink" => format!("{path} -> {}", self.line(&entry.content)),
            "file" => {
                if let Some(artifact) = self.artifacts.path(&entry.content) {
                    return format!("{mode} {path} = artifact {}", self.line(artifact));
                }
                let sum = match self.blobs.get(&entry.content) {
                    Some(blob) => self.masked_sum(blob),
                    None => entry.content.clone(),
                };
                format!("{mode} {path} {}", short(&sum))
            }
            other => format!("{mode} {path} ({})", self.line(other)),
        }
    }

    /// sha256 of a file of the overlay, masked where it is text.
    fn masked_sum(&self, blob: &[u8]) -> String {
        match std::str::from_utf8(blob) {
            Ok(text) => {
                let masked = group_in_order(self.normaliser.mask(Scope::File, text));
                meta_lava_formats::sha256(masked.as_bytes())
            }
            Err(_) => meta_lava_formats::sha256(blob),
        }
    }
}

/// Whether a job's definition has a URL that ends with `path`.
fn asks_for(definition: &str, path: &str) -> bool {
    let is_longer = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "._-/".contains(c));
    definition
        .match_indices(path)
        .any(|(at, _)| definition[..at].ends_with('/') && !is_longer(&definition[at + path.len()..]))
}

/// The script `lava-group` lists the jobs by their ids taken as texts, in which 10 comes
/// before 9: sorted once they are masked.
fn group_in_order(text: String) -> String {
    let Some((before, rest)) = text.split_once("LAVA_GROUP=\"\n") else { return text };
    let Some((list, after)) = rest.split_once("\"\n") else { return text };
    // Each ends with a backslash and an `n`.
    let mut jobs: Vec<&str> = list.split_inclusive("\\n").collect();
    jobs.sort_unstable();
    format!("{before}LAVA_GROUP=\"\n{}\"\n{after}", jobs.concat())
}

/// Whether a file of a clone's `.git` is git's own: the index and the logs have times in them, samples of hooks come with each
/// version, and how objects are packed is left to it. What was cloned is told by the rest, and by the files beside.
fn is_of_git(path: &str) -> bool {
    let Some((_, inside)) = path.split_once("/.git/") else { return false };
    let name = inside.split('/').next().unwrap_or_default();
    !["HEAD", "config", "packed-refs", "refs", "shallow"].contains(&name)
}

/// Equal in all that a job can tell. The mode of a link says nothing.
fn alike(a: &TreeEntry, b: &TreeEntry) -> bool {
    a.kind == b.kind && a.content == b.content && (a.mode == b.mode || a.kind == "symlink")
}

/// What was typed, with control characters in caret notation: `^C`. A `^` that was typed is `^^`.
fn caret(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // As any text shows them: one is a blank, the other's caret notation is `^^`.
            '\t' | '\u{1e}' => shown.push(c),
            '^' => shown.push_str("^^"),
            '\u{7f}' => shown.push_str("^?"),
            c if c.is_ascii_control() => {
                shown.push('^');
                shown.push(char::from(c as u8 + 0x40));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// The first digits of a checksum; nothing that a terminal would act on where it is none.
fn short(sha256: &str) -> String {
    printable(&sha256.chars().take(DIGITS).collect::<String>())
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use meta_lava_ghost::ledger::{Entry, PowerAction, Protocol};

    use super::*;
    use crate::judge::normalise::{Context, Masks};

    fn entry(path: &str, mode: u32, kind: &str, content: &str) -> TreeEntry {
        TreeEntry { path: path.into(), mode, kind: kind.into(), size: 1, content: content.into() }
    }

    fn rootfs() -> Vec<TreeEntry> {
        vec![
            entry("bin", 0o755, "directory", ""),
            entry("bin/busybox", 0o755, "file", "b0b0"),
            entry("etc/motd", 0o644, "file", "e7c0"),
            entry("init", 0o777, "symlink", "bin/busybox"),
        ]
    }

    fn modules() -> Vec<TreeEntry> {
        vec![entry("lib", 0o755, "directory", ""), entry("lib/m.ko", 0o644, "file", "60d0")]
    }

    fn artifacts() -> Artifacts {
        let mut artifacts = Artifacts::default();
        artifacts.add("arm/zImage", "aa", None);
        artifacts.add("rootfs.cpio.gz", "bb", Some(rootfs()));
        artifacts.add("modules.tar.gz", "cc", Some(modules()));
        artifacts
    }

    #[test]
    fn an_empty_line_that_a_container_reads_last_may_be_read_or_not() {
        let line = |stage, text: &str| Event::Line { uart: 0, stage, text: text.into() };
        let typed = |text: &str| line(Stage::Container, text);
        let removed = || Event::Tool { tool: "docker".into(), args: vec!["rm".into(), "-f".into()] };
        let left = |events: Vec<Event>| {
            let entries: Vec<Entry> = events.into_iter().map(|event| Entry { time_us: 0, event }).collect();
            (0..entries.len()).filter(|at| is_left_over(&entries[*at..])).collect::<Vec<_>>()
        };
        assert_eq!(
            left(vec![typed(""), typed("lava-sync"), typed(""), typed(""), removed(), typed("#")]),
            [2, 3]
        );
        let echoed =
            vec![typed(""), line(Stage::Userland, ""), typed("#"), line(Stage::Userland, "#"), removed()];
        assert_eq!(left(echoed), [] as [usize; 0], "what the board hears is between");
        assert_eq!(
            left(vec![line(Stage::Userland, ""), removed()]),
            [] as [usize; 0],
            "a board is there to hear it"
        );
    }

    #[test]
    fn of_a_clone_only_what_was_cloned_is_told() {
        for told in ["HEAD", "config", "packed-refs", "refs/heads/main", "shallow"] {
            assert!(!is_of_git(&format!("tests/0_all/services/.git/{told}")), "{told}");
        }
        for left in ["index", "logs/HEAD", "hooks/update.sample", "objects/pack/pack-1.idx", "description"] {
            assert!(is_of_git(&format!("tests/0_all/services/.git/{left}")), "{left}");
        }
        assert!(!is_of_git("tests/0_all/services/.git"));
        assert!(!is_of_git("tests/0_all/services/index"));
    }

    #[test]
    fn of_archives_that_hold_the_same_the_one_is_named_that_the_job_asks_for() {
        let mut artifacts = artifacts();
        artifacts.add("nfs/rootfs.tar", "b1", Some(rootfs()));
        artifacts.add("nfs/rootfs.tar.xz", "b2", Some(rootfs()));
        artifacts.add("modules.tar.xz", "c1", Some(modules()));
        let mut entries = rootfs();
        entries.extend(modules());
        let event = Event::Tree { root: "nfsroot".into(), source: "d1".into(), entries };
        let tree = |definition: &str| {
            let evidence = Evidence {
                details: serde_json::json!({ "definition": definition }),
                ledgers: [("bbb-01".to_owned(), vec![Entry { time_us: 0, event: event.clone() }])].into(),
                ..Evidence::default()
            };
            let (masks, context) = (Masks::new(), Context::new(Some("12")));
            let rows = normalise(&evidence, &artifacts, Normaliser { masks: &masks, context: &context });
            rows.text().lines().nth(1).unwrap().trim().to_owned()
        };
        assert_eq!(
            tree(
                "nfsrootfs: {url: 'http://world/nfs/rootfs.tar.xz'}\nmodules: {url: http://world/modules.tar.xz}"
            ),
            "tree nfsroot = artifact nfs/rootfs.tar.xz + artifact modules.tar.xz"
        );
        assert_eq!(
            tree("url: http://world/rootfs.cpio.gz"),
            "tree nfsroot = artifact rootfs.cpio.gz + artifact modules.tar.gz"
        );
        assert_eq!(tree(""), "tree nfsroot = artifact nfs/rootfs.tar + artifact modules.tar.gz");
    }

    fn ledger(events: Vec<Event>, blobs: &[&[u8]]) -> String {
        let entries = events.into_iter().map(|event| Entry { time_us: 0, event }).collect();
        let evidence = Evidence {
            job: Some("12".into()),
            ledgers: [("bbb-01".to_owned(), entries)].into(),
            blobs: blobs.iter().map(|blob| (meta_lava_formats::sha256(blob), blob.to_vec())).collect(),
            ..Evidence::default()
        };
        let masks = Masks::new();
        let context = Context::new(Some("12"));
        normalise(&evidence, &artifacts(), Normaliser { masks: &masks, context: &context }).text()
    }

    fn file(path: &str, sha256: &str, load: &str) -> Event {
        Event::File {
            protocol: Protocol::Tftp,
            path: path.into(),
            size: 5,
            sha256: sha256.into(),
            load: load.into(),
            parts: Vec::new(),
        }
    }

    /// What LAVA does to a U-Boot board, in short.
    pub fn events(job: &str) -> Vec<Event> {
        let mut tree = rootfs();
        tree.extend(modules());
        tree.push(entry(&format!("lava-{job}"), 0o755, "directory", ""));
        tree.push(entry(
            &format!("lava-{job}/bin/lava-test-case"),
            0o755,
            "file",
            &meta_lava_formats::sha256(format!("echo /lava-{job}/bin\n").as_bytes()),
        ));
        tree.retain(|entry| entry.path != "etc/motd");
        tree[1].mode = 0o644;
        let line = |stage, text: &str| Event::Line { uart: 0, stage, text: text.into() };
        vec![
            Event::Connected { uart: 0 },
            Event::Power { action: PowerAction::Reset },
            Event::Stage { stage: Stage::Firmware },
            Event::Key { uart: 0, text: " ".into() },
            line(Stage::Firmware, "setenv autoload no"),
            Event::Network { method: "dhcp".into() },
            file(&format!("{job}/tftp-deploy-abcdefgh/kernel/zImage"), "aa", "0x82000000"),
            Event::File {
                protocol: Protocol::Tftp,
                path: format!("{job}/tftp-deploy-abcdefgh/ramdisk/ramdisk.cpio.gz.uboot"),
                size: 69,
                sha256: "dd".into(),
                load: "0x83000000".into(),
                parts: vec!["d1".into()],
            },
            file(&format!("{job}/tftp-deploy-abcdefgh/dtb/x.dtb"), "ee", ""),
            Event::Boot {
                kernel: "aa".into(),
                cmdline: "console=ttyO0 ".into(),
                ramdisk: Some("d1".into()),
                dtb: Some("ee".into()),
            },
            Event::Stage { stage: Stage::Kernel },
            Event::Tree { root: "ramdisk".into(), source: "d1".into(), entries: tree },
            line(Stage::Userland, &format!(". /lava-{job}/environment")),
            Event::Tool { tool: "fastboot".into(), args: vec!["flash".into(), "a b".into()] },
            Event::FileFailed { protocol: Protocol::Http, path: "http://x/y".into(), error: "404".into() },
            Event::Fault { number: 1, detail: "power off: exit 1".into() },
            Event::Violation { what: "power-left-on".into(), detail: "at the end".into() },
            Event::Power { action: PowerAction::Off },
            Event::Disconnected { uart: 0 },
        ]
    }

    #[test]
    fn a_ledger_is_a_text_that_a_person_can_read() {
        insta::assert_snapshot!(ledger(events("12"), &[b"echo /lava-12/bin\n"]));
    }

    #[test]
    fn the_overlay_is_equal_for_two_jobs_and_differs_when_a_file_does() {
        let tree = |job: &str, content: &str| {
            let content = content.replace("JOB", job);
            let sha256 = meta_lava_formats::sha256(content.as_bytes());
            let mut entries = rootfs();
            entries.push(entry(&format!("lava-{job}/environment"), 0o644, "file", &sha256));
            let events = vec![Event::Tree { root: "ramdisk".into(), source: String::new(), entries }];
            let evidence = Evidence {
                ledgers: [(
                    "b".to_owned(),
                    events.into_iter().map(|event| Entry { time_us: 0, event }).collect(),
                )]
                .into(),
                blobs: [(sha256, content.into_bytes())].into(),
                ..Evidence::default()
            };
            let (masks, context) = (Masks::new(), Context::new(Some(job)));
            normalise(&evidence, &artifacts(), Normaliser { masks: &masks, context: &context }).text()
        };
        assert_eq!(tree("12", "cd /lava-JOB/"), tree("4711", "cd /lava-JOB/"));
        assert_ne!(tree("12", "cd /lava-JOB/"), tree("12", "cd /lava-JOB/x"));
    }

    #[test]
    fn the_jobs_of_a_group_have_no_order_in_the_script_that_lists_them() {
        let script = |jobs: &str| group_in_order(format!("#!/bin/sh\n\nLAVA_GROUP=\"\n{jobs}\"\necho\n"));
        let one = script("[JOB_ID of client 1]\\tclient\\n[JOB_ID]\\tserver\\n");
        assert_eq!(one, script("[JOB_ID]\\tserver\\n[JOB_ID of client 1]\\tclient\\n"));
        assert_ne!(one, script("[JOB_ID]\\tserver\\n"));
    }

    #[test]
    fn a_flipped_byte_a_missing_file_and_a_second_reset_are_seen() {
        let good = ledger(events("12"), &[]);
        let change = |change: &dyn Fn(&mut Vec<Event>)| {
            let mut events = events("12");
            change(&mut events);
            ledger(events, &[])
        };
        assert_ne!(
            good,
            change(&|events| events[6] = file("12/tftp-deploy-abcdefgh/kernel/zImage", "ab", "0x82000000"))
        );
        assert_ne!(good, change(&|events| events.insert(1, Event::Power { action: PowerAction::Reset })));
        assert_ne!(
            good,
            change(&|events| {
                let Event::Tree { entries, .. } = &mut events[11] else { panic!() };
                entries.pop();
            })
        );
        assert_ne!(good, change(&|events| events.swap(4, 5)));
    }

    #[test]
    fn a_caret_that_was_typed_is_no_control_character() {
        for (typed, shown) in [
            ("sed s/^A//", "sed s/^^A//"),
            ("\u{1}", "^A"),
            ("\u{3}", "^C"),
            ("\u{1e}^", "\u{1e}^^"),
            ("a\tb\u{7f}", "a\tb^?"),
        ] {
            assert_eq!(caret(typed), shown);
        }
        let key = |text: &str| Event::Key { uart: 0, text: text.into() };
        assert_eq!(ledger(vec![key("\r"), key("\n")], &[]).matches("key \"^J\"").count(), 2);
    }

    #[test]
    fn an_endless_ledger_is_cut_with_a_mark() {
        let events = vec![Event::Network { method: "dhcp".into() }; EVENTS + 3];
        assert!(ledger(events, &[]).ends_with("  [… 3 more events left out]"));
    }

    #[test]
    fn a_board_that_nothing_happened_to_says_so() {
        assert_eq!(ledger(vec![], &[]), "board bbb-01\n  nothing happened to it");
    }

    proptest! {
        #[test]
        fn any_ledger_is_lines_that_a_terminal_may_show(
            (path, text, sha256, kind) in (".*", ".*", ".*", ".*"), mode: u32, parts in 0usize..3,
        ) {
            let mut tree = rootfs();
            tree.push(entry(&path, mode, &kind, &text));
            let events = vec![
                Event::Line { uart: usize::MAX, stage: Stage::Userland, text: text.clone() },
                Event::Key { uart: 0, text: path.clone() },
                Event::File {
                    protocol: Protocol::Nfs, path: path.clone(), size: u64::MAX, sha256: sha256.clone(), load: kind.clone(),
                    parts: vec![text.clone(); parts],
                },
                Event::Boot { kernel: sha256.clone(), cmdline: text.clone(), ramdisk: Some(kind.clone()), dtb: None },
                Event::Tree { root: path.clone(), source: sha256, entries: tree },
                Event::Tool { tool: kind, args: vec![text, path] },
            ];
            prop_assert!(!ledger(events, &[]).chars().any(|c| c.is_control() && c != '\n'));
        }
    }

    #[test]
    fn what_stands_for_a_checksum_is_fit_for_a_terminal() {
        let boot = Event::Boot {
            kernel: "\0".into(),
            cmdline: String::new(),
            ramdisk: Some("\u{1b}[31m".into()),
            dtb: Some("é".repeat(20)),
        };
        let text = ledger(vec![boot], &[]);
        assert!(text.contains("kernel = unknown, \\x00\n"), "{text}");
        assert!(text.contains("ramdisk = unknown, \\x1b[31m\n"), "{text}");
        assert!(text.contains(&format!("dtb = unknown, {}\n", "é".repeat(DIGITS))), "{text}");
    }

    #[test]
    fn a_ledger_of_files_that_nobody_knows_is_read_in_bounded_time() {
        let unknown = Event::File {
            protocol: Protocol::Tftp,
            path: "x".into(),
            size: 1,
            sha256: "f0".into(),
            load: String::new(),
            parts: vec!["f1".into(); 100],
        };
        let mut events = vec![unknown; EVENTS];
        events.push(Event::Tree { root: "x".into(), source: "f2".into(), entries: Vec::new() });
        // Each part was once looked for in all that followed: it took many minutes.
        assert!(ledger(events, &[]).contains("made of unknown, f1"));
    }
}
