//! Tests of faults.

use proptest::prelude::*;

use super::*;

fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
    (dir, ledger)
}

fn parse(text: &str) -> Result<Vec<Fault>, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

/// Faults of a text, and the folder of their ledger.
fn faults(text: &str) -> (tempfile::TempDir, Faults) {
    let (dir, ledger) = ledger();
    (dir, Faults::new(&parse(text).unwrap(), ledger))
}

#[test]
fn a_fault_happens_at_its_moment_and_as_often_as_it_says() {
    let (_dir, faults) = faults("[{when: {typed: '^dhcp'}, then: hang, times: 2}]");
    assert_eq!(faults.at(Moment::Typed("setenv x dhcp")), []);
    assert_eq!(faults.at(Moment::Typed("dhcp")), [Deed::Hang]);
    assert_eq!(faults.at(Moment::Typed("dhcp")), [Deed::Hang]);
    assert_eq!(faults.at(Moment::Typed("dhcp")), []);
    faults.renew();
    assert_eq!(faults.at(Moment::Typed("dhcp")), [Deed::Hang], "it is a new board");
}

#[test]
fn of_several_moments_the_named_one_counts() {
    let (_dir, faults) = faults("[{when: {fetch: '^tftp ', nth: 2}, then: {serve: short}}]");
    assert_eq!(faults.at(Moment::Fetch("tftp a")), []);
    assert_eq!(faults.at(Moment::Fetch("http a")), []);
    assert_eq!(faults.at(Moment::Fetch("tftp b")), [Deed::Serve(Serve::Short)]);
    assert_eq!(faults.at(Moment::Fetch("tftp c")), []);
}

#[test]
fn a_line_has_its_moment_once() {
    let (_dir, faults) = faults("[{when: {printed: login}, then: [{print: x}, hang], times: 9}]");
    assert_eq!(faults.at(Moment::Printed("logi")), []);
    assert_eq!(faults.at(Moment::Printed("login")), [Deed::Print("x".into()), Deed::Hang]);
    assert_eq!(faults.at(Moment::Printed("login:")), []);
    faults.line_ended();
    assert_eq!(faults.at(Moment::Printed("login")).len(), 2);
}

#[test]
fn stage_and_starts_are_moments_and_narrow_others() {
    let text = "[{when: {starts: 2}, then: silent}, {when: {stage: kernel}, then: reset}, \
                {when: {typed: x, stage: userland, starts: 1}, then: ignore, times: 9}]";
    let (_dir, faults) = faults(text);
    assert_eq!(faults.at(Moment::Start), [Deed::Silent]);
    assert_eq!(faults.at(Moment::Typed("x")), []);
    assert_eq!(faults.at(Moment::Stage(Stage::Kernel)), [Deed::Reset]);
    assert_eq!(faults.at(Moment::Stage(Stage::Userland)), []);
    assert_eq!(faults.at(Moment::Typed("x")), [Deed::Ignore]);
    assert_eq!(faults.at(Moment::Start), [Deed::Silent]);
    assert_eq!(faults.at(Moment::Typed("x")), []);
    assert_eq!(faults.at(Moment::Start), []);
}

#[test]
fn what_happened_is_in_the_ledger() {
    let (dir, faults) =
        faults("[{when: {power: off}, then: {exit: 3}}, {when: {port: opened}, then: refuse}]");
    assert!(faults.refuse_connection());
    assert_eq!(faults.at(Moment::Power(PowerAction::Off)), [Deed::Exit(3)]);
    let text = std::fs::read_to_string(dir.path().join("ledger.jsonl")).unwrap();
    let told: Vec<&str> = text.lines().filter_map(|line| line.split("\"detail\":").nth(1)).collect();
    assert_eq!(told, ["\"port opened: refuse\"}}", "\"power off: exit 3\"}}"]);
}

#[tokio::test]
async fn a_call_goes_its_way_unless_a_fault_ends_it() {
    let (_dir, faults) = faults("[{when: {tool: '^flash kernel'}, then: [{print: no}, {exit: 4}]}]");
    assert_eq!(faults.call(Moment::Tool("flash root /x")).await, None);
    assert_eq!(faults.call(Moment::Tool("flash kernel /x")).await, Some(("no".to_owned(), 4)));
}

#[test]
fn what_is_no_fault_is_told_in_one_message() {
    for (text, why) in [
        ("[{when: {}, then: hang}]", "when: says nothing"),
        ("[{when: {typed: a, printed: b}, then: hang}]", "`printed` and `typed` are two moments"),
        ("[{when: {typed: '('}, then: hang}]", "`(` is no regular expression: unclosed group"),
        ("[{when: {typed: a}, then: []}]", "then: nothing happens"),
        (
            "[{when: {typed: a}, then: {exit: 1}}]",
            "`exit` can't happen at such a moment; what can: print, ignore",
        ),
        ("[{when: {fetch: a}, then: {print: x}}]", "what can: serve, hang, reset, wait"),
        ("[{when: {typed: a}, then: explode}]", "unknown variant `explode`"),
        ("[{when: {typd: a}, then: hang}]", "unknown field `typd`"),
        ("[{when: {typed: a}, then: hang, times: 0}]", "times: 0; the fault would never happen"),
        ("[{when: {typed: a}, then: {lose: {characters: 1, after_each: 0}}}]", "no character would arrive"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_garbled_character_is_another_one_and_a_line_stays_a_line() {
    for byte in 0..=255 {
        assert_eq!(garbled(byte) != byte, byte.is_ascii_graphic());
        assert_eq!(garbled(byte).is_ascii_graphic(), byte.is_ascii_graphic());
    }
}

proptest! {
    #[test]
    fn any_text_is_faults_or_an_error(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn what_is_served_wrongly_is_as_long_and_nowhere_right(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
        let wrong = wrong(&bytes);
        prop_assert_eq!(wrong.len(), bytes.len());
        prop_assert!(wrong.iter().zip(&bytes).all(|(wrong, right)| wrong != right));
    }
}
