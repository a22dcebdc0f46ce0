//! Whether LAVA logged what the board printed.
//!
//! LAVA's `target` records are what pexpect read, cut where it happened to stop
//! reading, and up to 2024 also what LAVA typed, at the moment when it typed it.
//! So their lines differ from run to run wherever LAVA types ahead of the board.
//! What does not differ: they are what the board printed and what it was typed,
//! each in its order, merged. The board kept both. The comparison leaves blanks
//! and line ends out; the snapshot then shows the board's lines, which do not vary.
//!
//! Of a board with several consoles each record is of one of them, and no `target` record says of
//! which. LAVA writes a line once it is whole, and of a prompt only once something follows on that connection. So there is
//! an order within a console and none between two: the records are dealt out so that each console
//! has its own in order, and one that cannot be is a difference. Feedback has a namespace, which is one console's.

use std::collections::BTreeMap;

use meta_lava_ghost::console::OF_A_CONTAINER;
use meta_lava_ghost::ledger::{Entry, Event, Stage};

/// How the two sides fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// LAVA logged what the board printed.
    Same,
    /// It did not; the last of what still fitted, blanks left out.
    Differs(String),
}

/// What telnet itself prints around the board's words.
pub(crate) const TELNET: [&str; 6] = [
    "Trying127.0.0.1...",
    "Connectedto127.0.0.1.",
    // busybox's, in a container.
    "Connectedtolocalhost",
    "Enteringcharactermode",
    "Escapecharacteris'^]'.",
    "Connectionclosedbyforeignhost.",
];

/// The last thing that LAVA waits for. What a board prints later may be read or not.
pub const LAST: &str = "<LAVA_TEST_RUNNER EXIT>";
/// What LAVA types when it leaves a QEMU (`lava_dispatcher/connections/serial.py`),
/// which may be off by then and never see it; the terminal may echo it once more.
pub const LEAVES: &str = "poweroff";
/// What LAVA types when it leaves a host that it has reached by SSH (`lava_dispatcher/connections/ssh.py`), right before it kills
/// its `ssh`.
const LOGS_OUT: &str = "logout";
/// What LAVA types when it leaves a telnet (`lava_dispatcher/shell.py`), which takes it for itself.
const QUITS: &str = "quit";
/// Lines at the end of a console that LAVA need not have read where there was no
/// test: nothing waits for the prompt after the last command.
const UNREAD: usize = 2;
/// Shortest line that was typed by whose echo its place is known, in bytes.
const ECHO: usize = 3;
/// Most of LAVA's side that is kept, in bytes: twice what a board keeps.
const LIMIT: usize = 16 << 20;
/// Most ways to merge the two that are tried at once.
const WAYS: usize = 4096;
/// Most steps of all of them. Where a log is so long that this is too few, fewer ways
/// are tried at once: a board that prints one character without end, and is typed the
/// same one, has as many ways as characters.
const STEPS: usize = 1 << 26;
/// Most ways to deal records out to several consoles that are tried at once.
const DEALS: usize = 32;
/// How much of what still fitted is told, in characters.
const TOLD: usize = 60;

/// What was printed on a terminal, and what it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminal {
    pub printed: String,
    /// Lines and keys, in order.
    pub typed: Vec<String>,
    /// Of these the keys, such as those that interrupt autoboot: LAVA says of lines alone that it types them.
    pub keys: Vec<String>,
}

/// LAVA's side: what it logged of the board, and what it says that it typed.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    records: Vec<Said>,
    /// Bytes of all of them.
    size: usize,
    sent: String,
}

/// What a record has of the board, blanks left out.
#[derive(Debug, Clone)]
struct Said {
    text: String,
    /// The namespace that it is of, where it says so.
    namespace: Option<String>,
}

impl Heard {
    /// Whether there was nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Takes in a `target` record.
    pub fn target(&mut self, message: &str) {
        self.feedback(None, message);
    }

    /// Takes in a `feedback` record, which says of which namespace it is where there are several.
    pub fn feedback(&mut self, namespace: Option<&str>, message: &str) {
        if self.size < LIMIT {
            // 2023.01 escapes quotes (lava_dispatcher/shell.py).
            let text = squeeze(&message.replace("\\\"", "\""));
            self.size += text.len();
            self.records.push(Said { text, namespace: namespace.map(str::to_owned) });
        }
    }

    /// Takes in an `input` record. Up to 2024 LAVA logs a line with its ending there; `b` without
    /// one is a Ctrl-B.
    pub fn input(&mut self, message: &str) {
        if message.ends_with(['\n', '\r']) && self.sent.len() < LIMIT {
            self.sent.push_str(&squeeze(message));
        }
    }

    /// Compares it with what terminals printed and what they were typed: with one, or with all those of
    /// a board. Where the job was given up after an error, LAVA has read what it needed to type for the last time: the rest it
    /// reads, if at all, while it powers the board off (`ReadFeedback` in `lava_dispatcher/power.py`).
    #[must_use]
    pub fn fits(&self, terminals: &[&Terminal], given_up: bool) -> Fit {
        let sides: Vec<Side> = terminals.iter().map(|terminal| Side::of(terminal, given_up)).collect();
        let heard = self.dealt(sides.len());
        let fits = |leaves: &str| {
            let typing = |typed: &dyn Fn(&Side) -> Typing| {
                let mut typing: Vec<Typing> = sides.iter().map(typed).collect();
                for [typed, _] in &mut typing {
                    typed.extend(leaves.chars());
                }
                deal(&heard, &sides, &typing)
            };
            // Since 2024 what was typed is not in these records, but its echo may be once LAVA leaves.
            if typing(&|_| Typing::default()) == Fit::Same {
                return Fit::Same;
            }
            let fit = typing(&|side| [side.typed.clone(), Vec::new()]);
            // What a board has lost, or telnet has taken (`quit`), only LAVA knows, which tells of lines and not of keys. Of
            // several it does not tell which was typed a line.
            let is_sent = || typing(&|side| [self.sent.chars().collect(), side.keys.clone()]) == Fit::Same;
            if fit != Fit::Same && sides.len() == 1 && is_sent() { Fit::Same } else { fit }
        };
        let leaves = [LEAVES.repeat(2), LOGS_OUT.to_owned(), QUITS.to_owned()];
        let mut all = leaves.iter().map(|leaves| fits(leaves));
        let first = all.next().unwrap_or(Fit::Same);
        if first == Fit::Same || all.any(|fit| fit == Fit::Same) { Fit::Same } else { first }
    }

    /// What was logged, in the pieces that are of one terminal each, without telnet's own words.
    fn dealt(&self, terminals: usize) -> Vec<Piece<'_>> {
        let without_telnet = |mut text: String| -> Vec<char> {
            for words in TELNET {
                text = text.replace(words, "");
            }
            text.chars().collect()
        };
        if terminals == 1 {
            let text = self.records.iter().map(|said| said.text.as_str()).collect();
            return vec![Piece { text: without_telnet(text), namespace: None }];
        }
        let pieces = self.records.iter().map(|said| {
            let namespace = said.namespace.as_deref();
            Piece { text: without_telnet(said.text.clone()), namespace }
        });
        pieces.filter(|piece| !piece.text.is_empty()).collect()
    }
}

/// What may have been logged of what was typed: lines, and keys apart from them.
type Typing = [Vec<char>; 2];

/// A part of what LAVA logged that is of one terminal.
struct Piece<'a> {
    text: Vec<char>,
    namespace: Option<&'a str>,
}

/// A terminal, as it is compared.
struct Side {
    printed: Vec<char>,
    typed: Vec<char>,
    keys: Vec<char>,
    /// How many characters of what was printed LAVA must have read.
    must: usize,
}

impl Side {
    fn of(Terminal { printed: console, typed, keys }: &Terminal, given_up: bool) -> Self {
        let printed = squeeze(console);
        let last = squeeze(LAST);
        let must = match printed.rfind(&last) {
            _ if given_up => printed[..last_input(&printed, typed)].chars().count(),
            Some(at) => printed[..at + last.len()].chars().count(),
            None => {
                let unread = console.lines().rev().map(|line| squeeze(line).chars().count());
                let unread: usize = unread.filter(|length| *length > 0).take(UNREAD).sum();
                printed.chars().count() - unread
            }
        };
        let chars = |lines: &[String]| squeeze(&lines.concat()).chars().collect();
        Self { printed: printed.chars().collect(), typed: chars(typed), keys: chars(keys), must }
    }
}

/// How far a terminal has been followed in what was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Followed {
    /// Characters that were logged of it.
    heard: usize,
    /// How much of what was typed may have been logged among them: as few or as many as fit. The
    /// rest is what the board printed.
    ways: Vec<[usize; 2]>,
}

impl Followed {
    /// Goes on with what was logged next.
    ///
    /// # Errors
    /// Where it does not fit any more.
    fn take(&mut self, text: &[char], side: &Side, typing: &Typing, most: usize) -> Result<(), usize> {
        for (at, c) in text.iter().enumerate() {
            let mut next: Vec<[usize; 2]> = Vec::with_capacity(self.ways.len() + 1);
            for way in &self.ways {
                if side.printed.get(self.heard - logged(way)) == Some(c) {
                    next.push(*way);
                }
                for which in 0..typing.len() {
                    if typing[which].get(way[which]) == Some(c) {
                        let mut way = *way;
                        way[which] += 1;
                        next.push(way);
                    }
                }
            }
            next.sort_by_key(|way| (logged(way), *way));
            next.dedup();
            next.truncate(most);
            if next.is_empty() {
                return Err(at);
            }
            self.ways = next;
            self.heard += 1;
        }
        Ok(())
    }

    /// Most that was read of what the board printed.
    fn read(&self) -> usize {
        self.heard - self.ways.first().map_or(0, logged)
    }
}

fn logged(way: &[usize; 2]) -> usize {
    way[0] + way[1]
}

/// A way to deal pieces out to terminals.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Deal<'a> {
    followed: Vec<Followed>,
    /// Which terminal a namespace is.
    namespaces: BTreeMap<&'a str, usize>,
}

/// Whether the pieces can be dealt out so that those of each terminal are a merge of what it printed, up to some end, and of
/// what it was typed.
fn deal(heard: &[Piece<'_>], sides: &[Side], typing: &[Typing]) -> Fit {
    let all: usize = heard.iter().map(|piece| piece.text.len()).sum();
    let at_once = if sides.len() == 1 { 1 } else { DEALS * sides.len() };
    let most = most_ways(all.saturating_mul(at_once));
    let begun = Followed { heard: 0, ways: vec![[0; 2]] };
    let mut deals = vec![Deal { followed: vec![begun; sides.len()], namespaces: BTreeMap::new() }];
    // What fitted last.
    let told = |piece: usize, within: usize| {
        let before = heard[..piece].iter().flat_map(|piece| &piece.text).rev();
        let within = heard.get(piece).map_or(&[][..], |piece| &piece.text[..within]);
        let mut told: Vec<char> = within.iter().rev().chain(before).take(TOLD).copied().collect();
        told.reverse();
        Fit::Differs(told.into_iter().collect())
    };
    for (number, piece) in heard.iter().enumerate() {
        let (mut next, mut furthest) = (Vec::new(), 0);
        for deal in &deals {
            let of_it = piece.namespace.and_then(|namespace| deal.namespaces.get(namespace));
            for (at, side) in sides.iter().enumerate().filter(|(at, _)| of_it.is_none_or(|of| of == at)) {
                let mut followed = deal.followed[at].clone();
                match followed.take(&piece.text, side, &typing[at], most) {
                    Ok(()) => {
                        let mut deal = deal.clone();
                        deal.followed[at] = followed;
                        deal.namespaces.extend(piece.namespace.map(|namespace| (namespace, at)));
                        if !next.contains(&deal) {
                            next.push(deal);
                        }
                    }
                    Err(at) => furthest = furthest.max(at),
                }
            }
        }
        next.truncate(DEALS);
        if next.is_empty() {
            return told(number, furthest);
        }
        deals = next;
    }
    let has_all =
        |deal: &Deal<'_>| deal.followed.iter().zip(sides).all(|(one, side)| one.read() >= side.must);
    if deals.iter().any(has_all) { Fit::Same } else { told(heard.len(), 0) }
}

/// Most ways that are tried at once where LAVA logged so many characters.
fn most_ways(heard: usize) -> usize {
    (STEPS / heard.max(1)).clamp(1, WAYS)
}

/// Up to where LAVA must have read before it typed for the last time, in bytes of what was
/// `printed` (blanks left out): each line is looked for behind the one before, so the place is never
/// later than the true one.
fn last_input(printed: &str, typed: &[String]) -> usize {
    let (mut from, mut last) = (0, 0);
    for line in typed.iter().map(|line| squeeze(line)).filter(|line| line.len() >= ECHO) {
        if let Some(at) = printed[from..].find(&line) {
            last = from + at;
            from = last + line.len();
        }
    }
    last
}

/// Where something is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At a board's serial port.
    Console(usize),
    /// In containers beside it.
    Containers,
}

/// All that was typed there, in order, by the board's ledger.
#[must_use]
pub fn typed(ledger: &[Entry], at: At) -> Vec<String> {
    let typed = |entry: &Entry| match &entry.event {
        Event::Line { stage: Stage::Container, text, .. } => (at == At::Containers).then(|| text.clone()),
        Event::Line { uart, text, .. } => (at == At::Console(*uart)).then(|| text.clone()),
        _ => key(entry, at),
    };
    ledger.iter().filter_map(typed).collect()
}

/// Of these the keys that were taken one by one.
#[must_use]
pub fn keys(ledger: &[Entry], at: At) -> Vec<String> {
    ledger.iter().filter_map(|entry| key(entry, at)).collect()
}

fn key(entry: &Entry, at: At) -> Option<String> {
    match &entry.event {
        Event::Key { uart, text } if at == At::Console(*uart) => Some(text.clone()),
        _ => None,
    }
}

/// What a board has printed, and what containers have.
#[must_use]
pub fn apart(console: &str) -> (String, String) {
    let (begin, end) = (char::from(OF_A_CONTAINER.0), char::from(OF_A_CONTAINER.1));
    let (mut board, mut containers, mut rest) = (String::new(), String::new(), console);
    while let Some((before, behind)) = rest.split_once(begin) {
        board.push_str(before);
        let (inside, behind) = behind.split_once(end).unwrap_or((behind, ""));
        containers.push_str(inside);
        rest = behind;
    }
    board.push_str(rest);
    (board, containers)
}

/// Without blanks and control characters.
pub(crate) fn squeeze(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONSOLE: &str = "U-Boot\r\n=> echo a\r\na\r\n=> ";

    fn terminal(printed: &str, typed: &[impl AsRef<str>]) -> Terminal {
        let typed = typed.iter().map(|line| line.as_ref().to_owned()).collect();
        Terminal { printed: printed.to_owned(), typed, keys: Vec::new() }
    }

    fn fits(records: &[&str], typed: &str) -> Fit {
        let mut heard = Heard::default();
        for record in records {
            heard.target(record);
        }
        heard.fits(&[&terminal(CONSOLE, &[typed])], false)
    }

    #[test]
    fn what_is_typed_ahead_may_be_logged_before_or_after_the_prompt() {
        assert_eq!(fits(&["U-Boot", "=> ", "echo a", "echo a", "a", "=> "], "echo a"), Fit::Same);
        assert_eq!(fits(&["U-Boot", "echo a", "=> echo a", "a"], "echo a"), Fit::Same);
        assert_eq!(fits(&["U-Boot", "=> echo a", "a"], "echo a"), Fit::Same, "later ones do not log it");
    }

    #[test]
    fn what_a_board_has_lost_lava_still_logs_as_typed() {
        let mut heard = Heard::default();
        heard.input("c");
        heard.input("echo b\n");
        for record in ["U-Boot", "=>echo b", " echo a", "a", "=> "] {
            heard.target(record);
        }
        assert_eq!(heard.fits(&[&terminal(CONSOLE, &["echo a"])], false), Fit::Same);
        heard.target("c");
        let mut board = terminal(CONSOLE, &["c", "echo a"]);
        assert!(matches!(heard.fits(&[&board], false), Fit::Differs(_)));
        board.keys.push("c".into());
        assert_eq!(heard.fits(&[&board], false), Fit::Same, "LAVA does not log keys as input");
        heard.target("b");
        assert!(matches!(heard.fits(&[&board], false), Fit::Differs(_)));
    }

    #[test]
    fn what_a_container_has_printed_is_no_boards() {
        let apart = |text| apart(text);
        assert_eq!(apart("a\x1eb\x1fc\x1ed\x1f"), ("ac".into(), "bd".into()));
        assert_eq!(apart("a\x1eb"), ("a".into(), "b".into()));
        assert_eq!(apart("a\x1fb"), ("a\x1fb".into(), String::new()));
    }

    #[test]
    fn a_line_that_is_lost_doubled_or_changed_is_noticed() {
        assert!(matches!(fits(&["echo a", "=> echo a", "a"], "echo a"), Fit::Differs(_)));
        assert!(matches!(fits(&["U-Boot", "U-Boot", "=> echo a", "a"], "echo a"), Fit::Differs(_)));
        assert_eq!(fits(&["U-Boot", "=> echo a", "b"], "echo a"), Fit::Differs("U-Boot=>echoa".into()));
    }

    #[test]
    fn a_log_that_ends_too_early_is_noticed() {
        assert!(matches!(fits(&["U-"], ""), Fit::Differs(_)));
    }

    #[test]
    fn a_key_and_telnets_own_words_are_not_the_boards() {
        let records = ["Trying 127.0.0.1...", "U-Boot", "c", "=> echo a", "a"];
        assert_eq!(fits(&records, "c"), Fit::Same);
    }

    #[test]
    fn what_comes_after_the_last_test_may_be_read_or_not() {
        let console = "a\n<LAVA_TEST_RUNNER EXIT>\n/ # poweroff\nreboot: Power down\n";
        let mut heard = Heard::default();
        heard.target("a");
        assert!(matches!(heard.fits(&[&terminal(console, &["poweroff"])], false), Fit::Differs(_)));
        heard.target("<LAVA_TEST_RUNNER EXIT>");
        assert_eq!(heard.fits(&[&terminal(console, &["poweroff"])], false), Fit::Same);
        heard.target("/ # poweroff");
        heard.target("poweroff");
        assert_eq!(heard.fits(&[&terminal(console, &["poweroff"])], false), Fit::Same);
    }

    #[test]
    fn a_host_need_not_have_seen_that_lava_logs_out() {
        let console = "~ # lava-test-runner\na\n<LAVA_TEST_RUNNER EXIT>\n~ # ";
        let mut heard = Heard::default();
        for record in
            ["~ # lava-test-runner", "lava-test-runner", "a", "<LAVA_TEST_RUNNER EXIT>", "~ # logout"]
        {
            heard.target(record);
        }
        assert_eq!(heard.fits(&[&terminal(console, &["lava-test-runner"])], false), Fit::Same);
        heard.target("logout again");
        assert!(matches!(heard.fits(&[&terminal(console, &["lava-test-runner"])], false), Fit::Differs(_)));
    }

    #[test]
    fn the_terminal_may_echo_the_last_command_where_lava_logs_nothing_that_it_typed() {
        let console = "login: root\na\n<LAVA_TEST_RUNNER EXIT>\nroot@ghost:~# ";
        let typed = ["root", "lava-test-runner"].map(str::to_owned);
        let mut heard = Heard::default();
        heard.target("login: root");
        heard.target("a");
        heard.target("<LAVA_TEST_RUNNER EXIT>");
        heard.target("root@ghost:~# poweroff");
        assert_eq!(heard.fits(&[&terminal(console, &typed)], false), Fit::Same);
        heard.target("halt");
        assert!(matches!(heard.fits(&[&terminal(console, &typed)], false), Fit::Differs(_)));
    }

    #[test]
    fn after_an_error_the_rest_may_be_read_or_not_but_not_what_came_before_the_last_input() {
        let console = "U-Boot\n=> setenv a\n=> tftp x\nTFTP error: not found\nNot retrying...\n=> ";
        let typed = ["setenv a", "tftp x"].map(str::to_owned);
        let given_up = |records: &[&str]| {
            let mut heard = Heard::default();
            for record in records {
                heard.target(record);
            }
            heard.fits(&[&terminal(console, &typed)], true)
        };
        let all = ["U-Boot", "=> setenv a", "=> tftp x", "TFTP error: not found", "Not retrying...", "=> "];
        for read in 3..=all.len() {
            assert_eq!(given_up(&all[..read]), Fit::Same, "{read}");
        }
        assert_eq!(given_up(&["U-Boot", "setenv a", "=> setenv a", "=> "]), Fit::Same);
        assert!(matches!(given_up(&["U-Boot", "=> "]), Fit::Differs(_)));
        assert!(matches!(given_up(&["U-Boot", "=> setenv a", "=> tftp x", "Not"]), Fit::Differs(_)));
        let mut heard = Heard::default();
        heard.target(&all[..3].concat());
        assert!(
            matches!(heard.fits(&[&terminal(console, &typed)], false), Fit::Differs(_)),
            "without an error"
        );
    }

    /// LAVA reads the board's console, then a controller's, and the board's again.
    fn of_two(records: &[(Option<&str>, &str)]) -> Fit {
        let board = terminal("/ # uname\r\nLinux\r\n/ # id\r\nroot\r\n/ # ", &["uname", "id"]);
        let controller = terminal("\r\nmcu:~$ version\r\n3.2.0\r\nmcu:~$ ", &["", "version"]);
        let mut heard = Heard::default();
        for (namespace, record) in records {
            heard.feedback(*namespace, record);
        }
        heard.fits(&[&board, &controller], false)
    }

    #[test]
    fn of_two_consoles_each_has_its_order_and_there_is_none_between_them() {
        let board = ["/ # uname", "Linux", "/ # id", "root"].map(|record| (None, record));
        let controller = ["", "mcu:~$ version", "3.2.0"].map(|record| (None, record));
        assert_eq!(of_two(&[&board[..], &controller].concat()), Fit::Same);
        assert_eq!(of_two(&[&board[..2], &controller[..], &board[2..]].concat()), Fit::Same);
        assert_eq!(of_two(&[&controller[..2], &board[..], &controller[2..]].concat()), Fit::Same);
        let rest = [(Some("board"), "/ # "), (Some("controller"), "mcu:~$ ")];
        assert_eq!(of_two(&[&board[..], &controller, &rest].concat()), Fit::Same);
        // Up to 2024 what was typed is there, too, and telnet's `quit`.
        let typed =
            [(None, "uname/ # uname"), (None, "Linux"), (None, "/ # idid"), (None, "root"), (None, "quit")];
        assert_eq!(of_two(&[&typed[..], &controller].concat()), Fit::Same);
    }

    #[test]
    fn of_two_consoles_too_what_is_lost_doubled_or_in_another_order_is_noticed() {
        let board = ["/ # uname", "Linux", "/ # id", "root"].map(|record| (None, record));
        let controller = ["mcu:~$ version", "3.2.0"].map(|record| (None, record));
        for at in 0..board.len() {
            let lost: Vec<_> = [&board[..at], &board[at + 1..], &controller].concat();
            // LAVA need not have read the last lines.
            assert_eq!(of_two(&lost) == Fit::Same, at == board.len() - 1, "{at}");
            let doubled: Vec<_> = [&board[..=at], &board[at..], &controller].concat();
            assert!(matches!(of_two(&doubled), Fit::Differs(_)), "{at}");
        }
        let swapped = [board[1], board[0], board[2], board[3], controller[0], controller[1]];
        assert_eq!(of_two(&swapped), Fit::Differs(String::new()));
        assert!(matches!(of_two(&board), Fit::Differs(_)), "nothing of the controller");
    }

    #[test]
    fn what_a_namespace_has_printed_is_of_one_console() {
        let fits = |namespaces: [&str; 2]| {
            let [one, other] = ["a", "b"].map(|line| terminal(&format!("{line}\n{line}\n"), &[""]));
            let mut heard = Heard::default();
            heard.feedback(Some(namespaces[0]), "a");
            heard.feedback(Some(namespaces[1]), "b");
            heard.fits(&[&one, &other], false)
        };
        assert_eq!(fits(["x", "y"]), Fit::Same);
        assert_eq!(fits(["x", "x"]), Fit::Differs("a".into()));
    }

    #[test]
    fn a_line_that_is_echoed_nowhere_has_no_place() {
        let typed = ["root", "secret"].map(str::to_owned);
        assert_eq!(last_input("login:rootPassword:Loginincorrect", &typed), 6);
        assert_eq!(last_input("", &typed), 0);
    }

    #[test]
    fn a_board_that_echoes_one_character_without_end_is_compared_in_bounded_time() {
        for length in [0, 1, 10_000, 100_000, LIMIT] {
            assert!(most_ways(length) * length <= STEPS);
        }
        assert_eq!(most_ways(10_000), WAYS);
        let endless = "a".repeat(100_000);
        let mut heard = Heard::default();
        heard.target(&endless);
        heard.target(&endless);
        assert_eq!(heard.fits(&[&terminal(&endless, &[&endless])], false), Fit::Same);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(records in prop::collection::vec(".*", 0..8), console in ".*", typed in ".*") {
            let mut heard = Heard::default();
            for record in &records {
                heard.target(record);
            }
            let _ = heard.fits(&[&terminal(&console, &[&typed])], true);
            let _ = heard.fits(&[&terminal(&console, &[&typed])], false);
            let _ = heard.fits(&[&terminal(&console, &[&typed]), &terminal(&typed, &[&console])], false);
        }

        #[test]
        fn any_merge_of_both_fits(printed in "[a-c]{0,30}", typed in "[a-c]{0,10}", order in prop::collection::vec(any::<bool>(), 40)) {
            let (mut one, mut other) = (printed.chars(), typed.chars());
            let mut heard = Heard::default();
            for first in order {
                let c = if first { one.next().or_else(|| other.next()) } else { other.next().or_else(|| one.next()) };
                if let Some(c) = c {
                    heard.target(&c.to_string());
                }
            }
            prop_assert_eq!(heard.fits(&[&terminal(&printed, &[&typed])], false), Fit::Same);
        }
    }
}
