//! Whether LAVA logged what the board printed.
//!
//! LAVA's `target` records are what pexpect read, cut where it happened to stop
//! reading, and up to 2024 also what LAVA typed, at the moment when it typed it.
//! So their lines differ from run to run wherever LAVA types ahead of the board.
//! What does not differ: they are what the board printed and what it was typed,
//! each in its order, merged. The board kept both. The comparison leaves blanks
//! and line ends out; the snapshot then shows the board's lines, which do not vary.

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
    text: String,
    sent: String,
}

impl Heard {
    /// Whether there was nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes in a `target` record.
    pub fn target(&mut self, message: &str) {
        if self.text.len() < LIMIT {
            // 2023.01 escapes quotes (lava_dispatcher/shell.py).
            self.text.push_str(&squeeze(&message.replace("\\\"", "\"")));
        }
    }

    /// Takes in an `input` record. Up to 2024 LAVA logs a line with its ending there; `b` without
    /// one is a Ctrl-B.
    pub fn input(&mut self, message: &str) {
        if message.ends_with(['\n', '\r']) && self.sent.len() < LIMIT {
            self.sent.push_str(&squeeze(message));
        }
    }

    /// Compares it with what a terminal printed and what it was typed. Where the job was
    /// given up after an error, LAVA has read what it needed to type for the last time: the rest it
    /// reads, if at all, while it powers the board off (`ReadFeedback` in
    /// `lava_dispatcher/power.py`).
    #[must_use]
    pub fn fits(&self, Terminal { printed: console, typed, keys }: &Terminal, given_up: bool) -> Fit {
        let mut heard = self.text.clone();
        for words in TELNET {
            heard = heard.replace(words, "");
        }
        let heard: Vec<char> = heard.chars().collect();
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
        let printed: Vec<char> = printed.chars().collect();
        let typed = squeeze(&typed.concat());
        let keys: Vec<char> = squeeze(&keys.concat()).chars().collect();
        let fits = |leaves: &str| {
            let merges = |typed: &str, keys: &[char]| {
                let typed: Vec<char> = typed.chars().chain(leaves.chars()).collect();
                merges(&heard, &printed, [&typed, keys], must)
            };
            // Since 2024 what was typed is not in these records, but its echo may be once LAVA leaves.
            if merges("", &[]) == Fit::Same {
                return Fit::Same;
            }
            match merges(&typed, &[]) {
                // What a board has lost, or telnet has taken (`quit`), only LAVA knows, which tells of lines and not of keys.
                Fit::Differs(_) if merges(&self.sent, &keys) == Fit::Same => Fit::Same,
                fit => fit,
            }
        };
        match fits(&LEAVES.repeat(2)) {
            Fit::Differs(_) if fits(LOGS_OUT) == Fit::Same => Fit::Same,
            fit => fit,
        }
    }
}

/// Whether what was `heard` is a merge of what was `printed`, up to some end, and of what was
/// `typed`, lines and keys; of what was printed at least `must` characters.
fn merges(heard: &[char], printed: &[char], typed: [&[char]; 2], must: usize) -> Fit {
    // How much of what was typed may have been logged so far: as few or as many
    // as fit. The rest of what was logged is then what the board printed.
    let most = most_ways(heard.len());
    let logged = |way: &[usize; 2]| way[0] + way[1];
    let mut ways = vec![[0_usize; 2]];
    for (at, c) in heard.iter().enumerate() {
        let mut next: Vec<[usize; 2]> = Vec::with_capacity(ways.len() + 1);
        for way in &ways {
            if printed.get(at - logged(way)) == Some(c) {
                next.push(*way);
            }
            for which in 0..typed.len() {
                if typed[which].get(way[which]) == Some(c) {
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
            let from = at.saturating_sub(60);
            return Fit::Differs(heard[from..at].iter().collect());
        }
        ways = next;
    }
    let read = heard.len() - ways.first().map_or(0, logged);
    if read >= must {
        Fit::Same
    } else {
        Fit::Differs(heard[heard.len().saturating_sub(60)..].iter().collect())
    }
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

/// All that was typed at a board's first serial port and at its controllers', in order, by its ledger; or in containers beside it.
#[must_use]
pub fn typed(ledger: &[Entry], in_containers: bool) -> Vec<String> {
    let typed = |entry: &Entry| match &entry.event {
        Event::Line { uart, stage, text }
            if (*uart == 0 || *stage == Stage::Controller)
                && (*stage == Stage::Container) == in_containers =>
        {
            Some(text.clone())
        }
        _ => key(entry, in_containers),
    };
    ledger.iter().filter_map(typed).collect()
}

/// Of these the keys that were taken one by one.
#[must_use]
pub fn keys(ledger: &[Entry], in_containers: bool) -> Vec<String> {
    ledger.iter().filter_map(|entry| key(entry, in_containers)).collect()
}

fn key(entry: &Entry, in_containers: bool) -> Option<String> {
    match &entry.event {
        Event::Key { uart: 0, text } if !in_containers => Some(text.clone()),
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
        heard.fits(&terminal(CONSOLE, &[typed]), false)
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
        assert_eq!(heard.fits(&terminal(CONSOLE, &["echo a"]), false), Fit::Same);
        heard.target("c");
        let mut board = terminal(CONSOLE, &["c", "echo a"]);
        assert!(matches!(heard.fits(&board, false), Fit::Differs(_)));
        board.keys.push("c".into());
        assert_eq!(heard.fits(&board, false), Fit::Same, "LAVA does not log keys as input");
        heard.target("b");
        assert!(matches!(heard.fits(&board, false), Fit::Differs(_)));
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
        assert!(matches!(heard.fits(&terminal(console, &["poweroff"]), false), Fit::Differs(_)));
        heard.target("<LAVA_TEST_RUNNER EXIT>");
        assert_eq!(heard.fits(&terminal(console, &["poweroff"]), false), Fit::Same);
        heard.target("/ # poweroff");
        heard.target("poweroff");
        assert_eq!(heard.fits(&terminal(console, &["poweroff"]), false), Fit::Same);
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
        assert_eq!(heard.fits(&terminal(console, &["lava-test-runner"]), false), Fit::Same);
        heard.target("logout again");
        assert!(matches!(heard.fits(&terminal(console, &["lava-test-runner"]), false), Fit::Differs(_)));
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
        assert_eq!(heard.fits(&terminal(console, &typed), false), Fit::Same);
        heard.target("halt");
        assert!(matches!(heard.fits(&terminal(console, &typed), false), Fit::Differs(_)));
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
            heard.fits(&terminal(console, &typed), true)
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
        assert!(matches!(heard.fits(&terminal(console, &typed), false), Fit::Differs(_)), "without an error");
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
        assert_eq!(heard.fits(&terminal(&endless, &[&endless]), false), Fit::Same);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(records in prop::collection::vec(".*", 0..8), console in ".*", typed in ".*") {
            let mut heard = Heard::default();
            for record in &records {
                heard.target(record);
            }
            let _ = heard.fits(&terminal(&console, &[&typed]), true);
            let _ = heard.fits(&terminal(&console, &[&typed]), false);
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
            prop_assert_eq!(heard.fits(&terminal(&printed, &[&typed]), false), Fit::Same);
        }
    }
}
