use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::items::Texts;
use super::*;
use crate::scenario::tests::write;

/// A scenario of a report: its name, its verdict, and its three texts.
type Scenario<'a> = (&'a str, &'a str, [&'a str; 3]);

const RESULTS: &str = "job\n  health: Complete\nsuite lava\n  overlay: pass (level: 1.1)\n  job: pass";
const LEDGER: &str = "board BOARD-01\n  power on\n  console 0 firmware> boot BOARD\n  tree root = artifact r\n    \
                      + 755 lava-[JOB_ID]/\n    + 644 lava-[JOB_ID]/uuid 3ca8a58dd51b85d3\n  power off";
const LOG: &str = "info     | start: 1 deploy (timeout [TIMEOUT])\ndebug    | start: 1.1 overlay (x)\ndebug    | \
                   Setting prompt string to 'BOARD'\ndebug    | end: 1.1 overlay (x)\n--- the pipeline that LAVA \
                   made of the job\n1 deploy, 60 s [class]\n1.1 overlay, 60 s [class]";

/// The texts of a board.
fn of(board: &str) -> [String; 3] {
    [RESULTS, LEDGER, LOG].map(|text| text.replace("BOARD", board))
}

fn entry(name: &str, verdict: &str, lava: Option<&str>) -> Value {
    json!({
        "name": name, "suite": "health-checks", "lava": lava, "device_types": [name], "verdict": verdict,
        "reason": "because", "seconds": 1.0, "first_difference": null,
    })
}

fn run_json(lavas: &[&str], scenarios: Vec<Value>) -> String {
    let about = |name: &&str| json!({"name": name, "version": "2026.10"});
    json!({
        "version": 1, "run": "r", "lava": "2026.10", "lavas": lavas.iter().map(about).collect::<Vec<_>>(),
        "named": true, "seconds": 1.0, "phases": {}, "totals": {}, "scenarios": scenarios,
    })
    .to_string()
}

/// A report of one LAVA.
fn report(folder: &Path, scenarios: &[Scenario<'_>]) -> PathBuf {
    let entries = scenarios.iter().map(|(name, verdict, _)| entry(name, verdict, None)).collect();
    write(folder, "run.json", &run_json(&["debian:sid"], entries));
    for (name, _, texts) in scenarios {
        for (kind, text) in snapshot::Kind::ALL.into_iter().zip(texts).filter(|(_, text)| !text.is_empty()) {
            let file = format!("scenarios/health-checks/{name}/{}.snap", kind.name());
            write(folder, &file, &format!("---\nsource: x\nexpression: y\n---\n{text}\n"));
        }
    }
    folder.to_owned()
}

/// Two sides of boards that are alike, the second with `change` done to its texts.
fn compared(boards: &[&str], change: impl Fn(&str, [String; 3]) -> [String; 3]) -> Comparison {
    let folder = tempfile::tempdir().unwrap();
    let side = |name: &str, change: &dyn Fn(&str, [String; 3]) -> [String; 3]| {
        let texts: Vec<[String; 3]> = boards.iter().map(|board| change(board, of(board))).collect();
        let scenarios: Vec<Scenario<'_>> = boards
            .iter()
            .zip(&texts)
            .map(|(board, texts)| (*board, "pass", texts.each_ref().map(String::as_str)))
            .collect();
        Side::read(&report(&folder.path().join(name), &scenarios)).unwrap()
    };
    let [mut a, mut b] = [side("a", &|_, texts| texts), side("b", &change)];
    (a.name, b.name) = ("a".into(), "b".into());
    compare(&a, &b).unwrap()
}

fn told(comparison: &Comparison) -> Vec<String> {
    let group = |group: &Group| {
        let pieces: Vec<String> = group.pieces.iter().map(Piece::in_a_line).collect();
        format!("{} {}: {}", group.scenarios.len(), group.kind.name(), pieces.join(" | "))
    };
    comparison.groups.iter().map(group).collect()
}

const BOARDS: [&str; 3] = ["juno", "x15", "bbb"];

#[test]
fn equal_sides_have_nothing_that_differs() {
    let comparison = compared(&BOARDS, |_, texts| texts);
    assert_eq!(told(&comparison), [""; 0]);
    assert_eq!(comparison.summary(), "3 scenarios compared: nothing differs");
    assert!(!comparison.fails(&[FailOn::Results, FailOn::Ledger, FailOn::Log, FailOn::Time]));
}

#[test]
fn what_changed_alike_in_all_is_one_cause_of_its_kind() {
    let comparison = compared(&BOARDS, |_, [results, ledger, log]| {
        [
            results.replace("job: pass", "job: fail"),
            ledger
                .replace("3ca8a58dd51b85d3", "0000000000000000")
                .replace("firmware> boot", "firmware> run boot")
                .replace("power off", "power reset"),
            log.replace("prompt string", "prompt expect list"),
        ]
    });
    assert_eq!(
        told(&comparison),
        [
            "3 results: - job: pass | + job: fail",
            "3 console: console # firmware> boot [DEVICE_TYPE]: with run",
            "3 files: other content: + 644 lava-[JOB_ID]/uuid …",
            "3 ledger: - power off | + power reset",
            "3 log: string → expect list",
        ]
    );
    let fails = |on| comparison.fails(&[on]);
    assert!(fails(FailOn::Results) && fails(FailOn::Ledger) && fails(FailOn::Log) && !fails(FailOn::Time));
    assert!(!comparison.fails(&[]));
    let example = comparison.groups[4].example.as_ref().unwrap();
    assert_eq!((example.a[0].0, example.a[0].1.as_str()), (7, "debug    | Setting prompt string to 'bbb'"));
}

#[test]
fn actions_that_are_numbered_anew_are_one_cause() {
    let comparison = compared(&BOARDS, |_, [results, ledger, log]| {
        let log = log.replace("1.1 overlay", "1.2 overlay").replace(
            "debug    | start: 1.2",
            "debug    | start: 1.1 fetch (x)\ndebug    | end: 1.1 fetch (x)\ndebug    | start: 1.2",
        );
        [results.replace("1.1", "1.2"), ledger, log]
    });
    assert_eq!(
        told(&comparison),
        [
            "3 results: actions are numbered anew",
            "3 log: + debug    | start: [level of fetch] fetch (x) | + debug    | end: [level of fetch] fetch (x)",
            "3 log: actions are numbered anew",
        ]
    );
}

#[test]
fn a_part_that_stands_elsewhere_has_moved_and_nothing_else() {
    let text = |order: [&str; 3]| order.join("\n");
    let (one, two, three) =
        ("debug    | first of all", "debug    | second of all", "debug    | third of all");
    let comparison = compared(&BOARDS, |_, [results, ledger, log]| {
        [
            results,
            ledger,
            log.replace("debug    | Setting", &format!("{}\ndebug    | Setting", text([one, two, three]))),
        ]
    });
    assert_eq!(comparison.totals[&Kind::Log], 1, "{:?}", told(&comparison));
    let side = |order| {
        let log = format!("info     | start: 1 deploy (x)\n{}", text(order));
        items::items(
            &[String::new(), String::new(), log],
            &[
                String::new(),
                String::new(),
                "info     | start: 1 deploy (x)\n".to_owned() + &text([one, two, three]),
            ],
            &crate::judge::change::Names::default(),
        )
    };
    let moved: Vec<String> = side([three, one, two]).iter().map(|item| item.piece.in_a_line()).collect();
    assert_eq!(moved, ["moved, in action deploy: debug    | third of all"]);
    assert!(side([one, two, three]).is_empty());
}

#[test]
fn what_each_scenario_has_of_its_own_is_one_cause_and_two_of_one_are_two() {
    let comparison = compared(&BOARDS, |board, [results, ledger, log]| {
        let own = match board {
            "bbb" => "debug    | loading /a/zImage at 0x10\ndebug    | loading /a/dtb at 0x20",
            _ => "debug    | loading /b/Image at 0x30",
        };
        [results, ledger, log.replace("debug    | end", &format!("{own}\ndebug    | end"))]
    });
    assert_eq!(told(&comparison).len(), 2, "{:?}", told(&comparison));
    assert!(
        told(&comparison)[0].starts_with("3 log: + debug    | loading /b/Image"),
        "{:?}",
        told(&comparison)
    );
    assert!(told(&comparison)[1].starts_with("1 log: + debug    | loading"), "{:?}", told(&comparison));
}

#[test]
fn names_that_took_each_others_place_are_told() {
    let ledger = |one: &str, other: &str| {
        let boards = "board client-01\n  power on\nboard client-02\n  power on".to_owned();
        let log = format!("info     | start: 1 deploy (x)\ndebug    | {one} waits for {other}");
        [String::new(), boards, log]
    };
    let names = crate::judge::change::Names::new(
        ["client-01", "client-02"].map(|board| (board.to_owned(), "[BOARD]")),
    );
    let (one, other) = (ledger("client-01", "client-02"), ledger("client-02", "client-01"));
    let found = items::items(&one, &other, &names);
    let found: Vec<String> = found.iter().map(|item| item.piece.in_a_line()).collect();
    assert_eq!(found, ["[BOARD] waits for [BOARD]: client-01 → client-02, client-02 → client-01"]);
}

#[test]
fn whatever_makes_two_texts_differ_is_told() {
    // In sections that correspond by name they are equal.
    let [a, b] = ["info     | start: 1 a (x)\ndebug    | x\ninfo     | start: 2 b (x)\ndebug    | y",
        "info     | start: 1 a (x)\ninfo     | start: 2 b (x)\ndebug    | y\ninfo     | start: 1 a (x)\ndebug    | x"]
        .map(str::to_owned);
    let texts = |log: &str| [String::new(), String::new(), log.to_owned()];
    let names = crate::judge::change::Names::default();
    assert!(!items::items(&texts(&a), &texts(&b), &names).is_empty());
    let results = |text: &str| [text.to_owned(), String::new(), String::new()];
    let found = items::items(
        &results("suite a\n  x: pass\nsuite a\n  x: fail"),
        &results("suite a\nsuite a\n  x: pass\n  x: fail"),
        &names,
    );
    assert_eq!(
        found.iter().map(|item| item.piece.in_a_line()).collect::<Vec<_>>(),
        ["lines in another order"]
    );
}

proptest::proptest! {
    #[test]
    fn two_texts_have_nothing_that_differs_only_if_they_are_equal(one in text(), other in text()) {
        for kind in 0..3 {
            let [mut a, mut b] = [Texts::default(), Texts::default()];
            (a[kind], b[kind]) = (one.clone(), other.clone());
            let names = crate::judge::change::Names::new([("a-01".to_owned(), "[BOARD]"), ("a".to_owned(), "[TYPE]")]);
            proptest::prop_assert_eq!(items::items(&a, &b, &names).is_empty(), one == other);
        }
    }

    #[test]
    fn any_text_can_be_compared(one in proptest::prelude::any::<String>(), other in proptest::prelude::any::<String>()) {
        let texts = |text: &String| [text.clone(), text.clone(), text.clone()];
        let _ = items::items(&texts(&one), &texts(&other), &crate::judge::change::Names::default());
    }
}

/// Texts of lines that mean something in one of the three.
fn text() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let line = prop_oneof![
        Just("debug    | start: 1.1 a (x)".to_owned()),
        Just("debug    | start: 1.2 a (x)".to_owned()),
        Just("debug    | end: 1.1 a (x)".to_owned()),
        Just("info     | start: 1 b (x)".to_owned()),
        Just("debug    | uuid=[JOB_ID]_1.1".to_owned()),
        Just("debug    | a-01 is a".to_owned()),
        Just("debug    | a is a-01".to_owned()),
        Just("--- what the board printed; LAVA logged the same".to_owned()),
        Just("--- the pipeline that LAVA made of the job".to_owned()),
        Just("1.1 a, 60 s [class]".to_owned()),
        Just("suite lava".to_owned()),
        Just("  a: pass (level: 1.1)".to_owned()),
        Just("  a: pass (level: 1.2)".to_owned()),
        Just("=== client 1".to_owned()),
        Just("board a-01".to_owned()),
        Just("  tree root = artifact r".to_owned()),
        Just("    + 644 x 3ca8a58dd51b85d3".to_owned()),
        Just("    + 644 x 0000000000000000".to_owned()),
        Just(String::new()),
        "[a-c ]{1,6}",
    ];
    // Snapshots end without a line break.
    prop::collection::vec(line, 0..10).prop_map(|lines| lines.join("\n").trim_end().to_owned())
}

#[test]
fn scenarios_that_came_to_nothing_on_one_side_are_told_first() {
    let folder = tempfile::tempdir().unwrap();
    let texts = of("x");
    let texts = texts.each_ref().map(String::as_str);
    let none = ["", "", ""];
    let a = report(
        &folder.path().join("a"),
        &[("same", "pass", texts), ("slow", "pass", texts), ("old", "pass", texts), ("off", "skipped", none)],
    );
    let b = report(
        &folder.path().join("b"),
        &[
            ("same", "differs", texts),
            ("slow", "timeout", none),
            ("new", "new", texts),
            ("off", "skipped", none),
        ],
    );
    let read = |folder: &Path| Side::read(folder).unwrap();
    let comparison = compare(&read(&a), &read(&b)).unwrap();
    assert_eq!(
        told(&comparison),
        [
            "1 scenario: answered → not there",
            "1 scenario: answered → timeout (because)",
            "1 scenario: not there → answered",
        ]
    );
    assert_eq!((comparison.compared(), comparison.fails(&[FailOn::Results])), (1, true));
}

#[test]
fn times_are_judged_only_where_as_many_jobs_ran_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let side = |name: &str, boards: usize| {
        let boards: Vec<String> = (0..boards).map(|number| format!("board-{number}")).collect();
        let skipped = ("skipped", "skipped", ["", "", ""]);
        let scenarios: Vec<Scenario<'_>> =
            boards.iter().map(|board| (board.as_str(), "timeout", ["", "", ""])).chain([skipped]).collect();
        Side::read(&report(&folder.path().join(name), &scenarios)).unwrap()
    };
    let (all, nearly, few) = (side("all", 20), side("nearly", 19), side("few", 10));
    assert!(all.ran_the_same(&nearly) && nearly.ran_the_same(&all));
    assert!(!all.ran_the_same(&few));
    // Whatever is chosen of it.
    let mut chosen = side("chosen", 20);
    chosen.retain(|_, name| name == "board-1");
    assert!(all.ran_the_same(&chosen));
}

#[test]
fn the_same_two_reports_give_the_same_bytes() {
    let make = || {
        compared(&BOARDS, |board, [results, ledger, log]| {
            [results + board, ledger, log.replace("string", "list").replace("start", board)]
        })
    };
    let (one, other) = (make(), make());
    assert_eq!(one.json().unwrap(), other.json().unwrap());
    assert_eq!(one.page().unwrap(), other.page().unwrap());
    assert_eq!(one.markdown(), other.markdown());
}

#[test]
fn nothing_that_lava_said_is_markup_or_reaches_a_terminal() {
    let evil = "<script>alert(1)</script> ``` \u{1b}[31m\u{202e} [x](javascript:y)";
    let comparison = compared(&BOARDS, |_, [results, ledger, log]| {
        [results.replace("job: pass", &format!("job: {evil}")), ledger, log]
    });
    let page = comparison.page().unwrap();
    assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert(1)"), "{page}");
    let text = comparison.text(Look { width: 300, quiet: false });
    assert!(text.contains("<script>alert(1)"), "{text}");
    let markdown = comparison.markdown();
    for told in [&page, &text, &markdown] {
        assert!(!told.contains(['\u{1b}', '\u{202e}']));
    }
    // Only in code, where it is none; and no fence of code is closed by it.
    for line in markdown.lines().filter(|line| line.contains("alert")) {
        assert!(line.starts_with("  +") || line.contains('`'), "{line}");
    }
    assert_eq!(markdown.lines().filter(|line| line.trim_start().starts_with("```")).count() % 2, 0);
}

#[test]
fn the_page_has_what_its_script_filters_by() {
    let comparison = compared(&BOARDS, |_, [results, ledger, log]| {
        [results.replace("job: pass", "job: fail"), ledger, log.replace("string", "list")]
    });
    let page = comparison.page().unwrap();
    for part in [
        "<button class=\"button\" data-kind=\"results\"",
        "<button class=\"button\" data-kind=\"log\"",
        "id=\"cause-2\" data-kind=\"log\" data-scenarios=\"health-checks&#x2f;bbb\nhealth-checks&#x2f;juno\nhealth-checks&#x2f;x15\n\"",
        "<tr id=\"health-checks&#x2f;juno\" data-scenario=\"health-checks&#x2f;juno\"",
        "<a href=\"#cause-2\">2</a>",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    for outside in ["http://", "https://", "src=\"", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

fn refused(folder: &Path) -> String {
    match Side::read(folder) {
        Err(Error::Usage(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lava_of_a_report_of_several_is_named_by_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let scenarios = ["debian:forky", "debian:sid"].map(|lava| entry("juno", "pass", Some(lava)));
    write(folder.path(), "run.json", &run_json(&["debian:forky", "debian:sid"], scenarios.to_vec()));
    std::fs::create_dir(folder.path().join("debian-sid")).unwrap();
    std::fs::create_dir(folder.path().join("raw")).unwrap();
    let side = Side::read(&folder.path().join("debian-sid")).unwrap();
    assert_eq!((side.about.name.as_str(), side.scenarios().count()), ("debian:sid", 1));
    assert!(refused(folder.path()).contains("a report of several LAVAs"));
    assert!(refused(&folder.path().join("raw")).contains("not the folder of a LAVA"));
}

#[test]
fn what_is_no_whole_report_is_refused_in_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("empty")).unwrap();
    assert!(refused(&at("empty")).contains("no report of a run"));
    write(folder.path(), "cut/run.json", &run_json(&["x"], vec![])[..40]);
    assert!(refused(&at("cut")).contains("no report of a run"));
    write(folder.path(), "later/run.json", r#"{"version": 2}"#);
    assert!(refused(&at("later")).contains("version 2"));
    let twice = vec![entry("juno", "pass", None), entry("juno", "pass", None)];
    write(folder.path(), "twice/run.json", &run_json(&["x"], twice));
    assert!(refused(&at("twice")).contains("juno twice"));

    let texts = of("x");
    let [results, ledger, log] = texts.each_ref().map(String::as_str);
    let good = report(&at("good"), &[("juno", "pass", [results, ledger, log])]);
    let compared = |other: &Path| compare(&Side::read(&good).unwrap(), &Side::read(other).unwrap());
    let other = report(&at("other"), &[("x15", "pass", [results, ledger, log])]);
    assert!(
        matches!(compared(&other), Err(Error::NoMatch(why)) if why.contains("no scenario in common: juno and x15"))
    );
    let gap = report(&at("gap"), &[("juno", "pass", [results, "", log])]);
    assert!(matches!(compared(&gap), Err(Error::Usage(why)) if why.contains("ledger.snap is not there")));
    let odd = report(&at("odd"), &[("juno", "pass", [results, ledger, log])]);
    std::fs::write(odd.join("scenarios/health-checks/juno/log.snap"), b"---\nx: y\n---\n\xff\xfe\n").unwrap();
    assert!(matches!(compared(&odd), Err(Error::Usage(why)) if why.contains("log.snap")));
}
