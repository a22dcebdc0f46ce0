use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::scenario::tests::{folder, write as write_file};

/// `name`'s log, of a series.
fn id(name: &str, series: &str) -> Id {
    Id { suite: "s".into(), name: name.into(), series: series.parse().unwrap(), kind: Kind::Log }
}

/// A log of some length, of a board.
fn log(board: &str, more: &str) -> String {
    let mut lines: Vec<String> =
        (0..40).map(|at| format!("debug    | start: 1.{at} step of {board}-01")).collect();
    lines.push(format!("board    | {board} => {more}"));
    lines.join("\n")
}

fn keep(store: &Store, changes: &[(&Id, &str)]) -> Kept {
    store.keep(changes.iter().map(|(id, text)| ((*id).clone(), Some((*text).to_owned()))).collect()).unwrap()
}

fn base(store: &Store, id: &Id) -> Option<String> {
    File::read(&store.path(id)).unwrap().unwrap().base().map(ToString::to_string)
}

fn text(store: &Store, id: &Id) -> String {
    store.expected(id).unwrap().unwrap().text.to_string()
}

fn size(store: &Store, id: &Id) -> usize {
    fs::read(store.path(id)).unwrap().len()
}

#[test]
fn every_snapshot_of_this_repository_is_read_in_full() {
    let store = Store::new(Path::new(env!("CARGO_MANIFEST_DIR")));
    let ids = store.ids().unwrap();
    assert!(ids.len() >= 3, "{}", ids.len());
    let mut known = Texts::new();
    for id in ids {
        let text = store.text(&id, &mut known).unwrap_or_else(|problem| panic!("{problem}")).unwrap();
        assert!(!text.trim().is_empty(), "{id}");
    }
}

#[test]
fn a_lava_is_measured_by_its_own_series_else_an_older_else_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    assert_eq!(store.expected(&id("a", "2026.10")).unwrap(), None);
    keep(&store, &[(&id("a", "2026.09"), "nine"), (&id("a", "2026.11"), "eleven")]);
    for (series, expected) in [
        ("2023.01", "nine"),
        ("2026.09", "nine"),
        ("2026.10", "nine"),
        ("2026.11", "eleven"),
        ("2027.01", "eleven"),
    ] {
        assert_eq!(text(&store, &id("a", series)), expected, "{series}");
    }
    keep(&store, &[(&id("a", "2023.01"), "one")]);
    assert_eq!(text(&store, &id("a", "2026.08")), "one");
    assert_eq!(store.newest().unwrap(), Some("2026.11".parse().unwrap()));
}

#[test]
fn what_the_chain_gives_already_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let (old, new) = (id("a", "2023.01"), id("a", "2026.10"));
    let kept = keep(&store, &[(&new, "same"), (&old, "same")]);
    assert_eq!(kept.given, BTreeSet::from([new.clone()]));
    assert_eq!(store.ids().unwrap(), std::slice::from_ref(&old));
    assert_eq!(text(&store, &new), "same");
    // A newer one never gives an older one its text: what the older does would change with it.
    let (oldest, newest) = (id("b", "2023.01"), id("b", "2026.10"));
    keep(&store, &[(&newest, "same")]);
    keep(&store, &[(&oldest, "same")]);
    assert!(store.path(&oldest).exists());
}

#[test]
fn nothing_expected_can_neither_be_written_nor_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let one = id("a", "2023.01");
    for empty in ["", "\n \n"] {
        assert!(matches!(store.keep([(one.clone(), Some(empty.to_owned()))].into()), Err(Error::Usage(_))));
    }
    assert!(!folder.path().join("expected").exists());
    write_file(folder.path(), "expected/s/a/log.snap", "---\nsource: x\n---\n\n");
    assert!(matches!(store.expected(&one), Err(Error::Usage(_))));
}

#[test]
fn a_scenario_like_another_is_kept_as_what_it_has_differently() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let (juno, x15) = (id("juno", "2023.01"), id("x15", "2023.01"));
    keep(&store, &[(&juno, &log("juno", "booti"))]);
    let before = fs::read(store.path(&juno)).unwrap();
    keep(&store, &[(&x15, &log("x15", "bootz"))]);
    assert_eq!(text(&store, &x15), log("x15", "bootz"));
    assert_eq!(base(&store, &x15).as_deref(), Some("s/juno/log"));
    assert!(size(&store, &x15) < 300, "{}", fs::read_to_string(store.path(&x15)).unwrap());
    // What is added rewrites nothing.
    assert_eq!(fs::read(store.path(&juno)).unwrap(), before);
}

#[test]
fn a_newer_series_stands_on_the_older_one_or_on_another_scenario_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    keep(
        &store,
        &[(&id("juno", "2023.01"), &log("juno", "booti")), (&id("x15", "2023.01"), &log("x15", "bootz"))],
    );
    let newer = |board: &str, more: &str| {
        let lines = log(board, more);
        let lines = lines.lines().enumerate();
        lines.map(|(at, line)| format!("{line} {}", at * at * 7 + 13)).collect::<Vec<_>>().join("\n")
    };
    keep(&store, &[(&id("juno", "2026.10"), &newer("juno", "booti"))]);
    keep(&store, &[(&id("x15", "2026.10"), &newer("x15", "bootz"))]);
    assert_eq!(base(&store, &id("juno", "2026.10")).as_deref(), Some("s/juno/log"));
    assert_eq!(base(&store, &id("x15", "2026.10")).as_deref(), Some("s/juno/2026.10/log"));
    assert_eq!(text(&store, &id("x15", "2026.10")), newer("x15", "bootz"));
}

#[test]
fn what_stands_on_a_base_keeps_its_text_when_the_base_changes_or_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let (juno, x15, bbb) = (id("juno", "2023.01"), id("x15", "2023.01"), id("bbb", "2023.01"));
    keep(&store, &[(&juno, &log("juno", "booti"))]);
    keep(&store, &[(&x15, &log("x15", "bootz"))]);
    keep(&store, &[(&bbb, &log("bbb", "bootm"))]);
    let kept = keep(&store, &[(&juno, &log("juno", "another way").replace("step", "stage"))]);
    assert!(kept.rebased.contains(&x15), "{kept:?}");
    assert_eq!(text(&store, &x15), log("x15", "bootz"));
    assert_eq!(text(&store, &bbb), log("bbb", "bootm"));
    store.keep([(juno.clone(), None)].into()).unwrap();
    assert_eq!(store.expected(&juno).unwrap(), None);
    assert_eq!(text(&store, &x15), log("x15", "bootz"));
    assert_eq!(text(&store, &bbb), log("bbb", "bootm"));
}

#[test]
fn a_base_that_was_changed_by_hand_is_an_error_and_never_another_expectation() {
    let folder = folder();
    let matrix = Matrix::load(folder.path()).unwrap();
    let store = Store::new(folder.path());
    let of = |name: &str| Id { suite: "health-checks".into(), ..id(name, "2023.01") };
    keep(&store, &[(&of("bbb"), &log("bbb", "booti"))]);
    keep(&store, &[(&of("juno"), &log("juno", "bootz"))]);
    assert_eq!(store.check(&matrix), []);
    let path = store.path(&of("bbb"));
    let changed = fs::read_to_string(&path).unwrap().replace("start: 1.7 ", "start: 1.77 ");
    fs::write(&path, changed).unwrap();
    let problems = store.check(&matrix);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].path, Path::new("expected/health-checks/juno/log.snap"));
    assert!(problems[0].message.contains("`health-checks/bbb/log` is another text now"), "{}", problems[0]);
    assert!(store.expected(&of("juno")).is_err());
    fs::remove_file(&path).unwrap();
    assert!(store.check(&matrix)[0].message.contains("is missing"));
    // As the message says: what is found is accepted, whatever became of the base.
    keep(&store, &[(&of("juno"), &log("juno", "bootz"))]);
    assert_eq!(store.check(&matrix), []);
}

#[test]
fn bases_in_a_circle_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    for (name, base) in [("a", "b"), ("b", "a")] {
        let text = format!("---\ninfo:\n  base: s/{base}/log\n  sha256: x\n---\nend\n");
        write_file(folder.path(), &format!("expected/s/{name}/log.snap"), &text);
    }
    let problem = store.text(&id("a", "2023.01"), &mut Texts::new()).unwrap_err();
    assert!(problem.message.contains("stands on itself"), "{problem}");
}

#[test]
fn a_write_that_fails_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let (a, b) = (id("a", "2023.01"), id("b", "2023.01"));
    keep(&store, &[(&a, "old")]);
    // A file where a folder must be.
    write_file(folder.path(), "expected/s/b", "in the way");
    let changes = [(a.clone(), Some("new".to_owned())), (b, Some("new".to_owned()))];
    assert!(matches!(store.keep(changes.into()), Err(Error::Infrastructure(_))));
    assert_eq!(text(&store, &a), "old");
}

#[test]
fn a_file_that_nobody_refers_to_or_that_is_no_snapshot_is_a_problem() {
    let folder = folder();
    let matrix = Matrix::load(folder.path()).unwrap();
    let store = Store::new(folder.path());
    let good = "---\nsource: x\n---\ntext\n";
    for path in [
        "health-checks/bbb/log.snap",
        "health-checks/bbb/2026.07/log.snap",
        "health-checks/bbb/results.snap.new",
        "health-checks/gone/log.snap",
        "health-checks/bbb/journal.snap",
        "health-checks/bbb/2023.01/log.snap",
        "stray",
    ] {
        write_file(folder.path(), &format!("expected/{path}"), good);
    }
    write_file(folder.path(), "expected/health-checks/juno/log.snap", "no header\n");
    write_file(folder.path(), "expected/health-checks/juno/ledger.snap", "---\na: {\n---\n");
    write_file(folder.path(), "expected/health-checks/juno/results.snap", "---\nsource: x\n---\n\u{1}");
    let problems: Vec<String> = store
        .check(&matrix)
        .iter()
        .map(|problem| format!("{}: {}", problem.path.display(), problem.message.split(' ').next().unwrap()))
        .collect();
    assert_eq!(
        problems,
        [
            "expected/health-checks/bbb/2023.01/log.snap: no",
            "expected/health-checks/bbb/journal.snap: no",
            "expected/health-checks/gone/log.snap: no",
            "expected/health-checks/juno/ledger.snap: is",
            "expected/health-checks/juno/log.snap: a",
            "expected/stray: no",
        ]
    );
    let without: Vec<&str> = store.without(&matrix).iter().map(|scenario| scenario.name.as_str()).collect();
    assert_eq!(without, ["bbb", "whole"]);
}

#[test]
fn what_nobody_refers_to_is_removed_and_what_stands_on_it_keeps_its_text() {
    let folder = folder();
    let matrix = Matrix::load(folder.path()).unwrap();
    let store = Store::new(folder.path());
    let (bbb, gone) = (Id { suite: "health-checks".into(), ..id("bbb", "2023.01") }, id("gone", "2023.01"));
    keep(&store, &[(&gone, &log("gone", "booti"))]);
    keep(&store, &[(&bbb, &log("bbb", "bootz"))]);
    assert!(base(&store, &bbb).is_some());
    store.remove(&store.unreferenced(&matrix).unwrap()).unwrap();
    assert_eq!(store.ids().unwrap(), std::slice::from_ref(&bbb));
    assert_eq!(text(&store, &bbb), log("bbb", "bootz"));
    assert!(!folder.path().join("expected/s").exists());
}

#[test]
fn what_is_pending_is_a_full_text_that_insta_reads() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let one = id("a", "2026.10");
    let path = store.pend(&one, "found\n\n").unwrap();
    assert_eq!(path, folder.path().join("expected/s/a/2026.10/log.snap.new"));
    assert_eq!(insta::Snapshot::from_file(&path).unwrap().as_text().unwrap().to_string().trim_end(), "found");
    assert_eq!(read(&path).unwrap().as_deref(), Some("found"));
    assert_eq!(store.pending().unwrap(), [Pending { id: one.clone(), new: path }]);
    store.unpend(&one).unwrap();
    store.unpend(&one).unwrap();
    assert_eq!(store.pending().unwrap(), []);
}

#[test]
fn compacting_changes_no_text_and_a_second_time_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let mut texts = BTreeMap::new();
    for (at, board) in ["juno", "x15", "bbb", "rk3399"].into_iter().enumerate() {
        for series in ["2023.01", "2026.09", "2026.10"] {
            let newer = if series == "2023.01" { "start:" } else { "begin:" };
            texts.insert(id(board, series), log(board, &format!("boot{at}")).replace("start:", newer));
        }
    }
    for (id, text) in &texts {
        write(&store.path(id), id, text).unwrap();
    }
    let (before, after) = store.compact().unwrap();
    assert!(after * 3 < before, "{before} {after}");
    // The third series does what the second did.
    assert_eq!(store.ids().unwrap().len(), 8);
    for (id, wanted) in &texts {
        assert_eq!(text(&store, id), *wanted, "{id}");
    }
    assert_eq!(store.compact().unwrap(), (after, after));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_kept_in_whatever_order_is_what_is_expected_then(
        steps in prop::collection::vec((0usize..4, 0usize..3, 0usize..5), 1..12)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let mut wanted: BTreeMap<Id, String> = BTreeMap::new();
        for (board, series, variant) in steps {
            let board = ["a", "b", "c", "d"][board];
            let id = id(board, ["2023.01", "2026.09", "2026.10"][series]);
            let text = log(board, &format!("variant {variant}")).replace("step", &"step".repeat(variant + 1));
            keep(&store, &[(&id, &text)]);
            wanted.insert(id, text);
            for (id, text) in &wanted {
                let found = store.expected(id).unwrap().unwrap();
                // What was given by an older one goes on with it.
                if found.id == *id {
                    prop_assert_eq!(&*found.text, text.as_str());
                }
            }
        }
    }
}
