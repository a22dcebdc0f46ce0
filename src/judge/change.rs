//! How one text left another, in pieces that are equal wherever their cause is the same.
//!
//! One changed line of LAVA's code shows in the snapshots of hundreds of boards, each time
//! with other numbers and names beside it. A [`Change`] is one such place; its [`Cause`] is
//! what is left of it without the scenario's own names and the words that did not change.
//! Reports and reviews group by cause: one question, with the list of whom it concerns.
//!
//! `similar` finds the lines that correspond; no crate pairs lines inside of a replaced
//! block, nor says what two pairs have in common, so that is done here.

use std::collections::BTreeMap;
use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::event::{Cause, Deviation, Difference};
use crate::scenario::Scenario;

/// The most that the lines of two replaced blocks are compared with each other, pair by
/// pair. Larger blocks are paired in their order.
const PAIRS: usize = 40_000;
/// Two lines of a replaced block with so large a part of their words in common, in
/// percent, are one line that changed.
const ALIKE: usize = 60;
/// The most that a cause keeps of a long run of lines.
const LINES: usize = 40;

/// One place where two texts differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Lines of the expected text, from 0.
    pub expected: Range<usize>,
    /// Lines of the text found, from 0.
    pub found: Range<usize>,
    /// What it comes to.
    pub cause: Cause,
    /// Whether it is one line that changed in some words, which are the cause; else the cause is
    /// whole lines.
    pub in_words: bool,
}

/// A scenario's own names and what stands for them in a [`Cause`].
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<(String, &'static str)>);

impl Names {
    /// Those of `scenario`: itself, its boards, their device-types.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        let boards = scenario.boards().map(|board| (board.to_owned(), "[BOARD]"));
        let types = scenario.device_types().into_iter().map(|name| (name.to_owned(), "[DEVICE_TYPE]"));
        Self::new(boards.chain(types).chain([(scenario.name.clone(), "[SCENARIO]")]))
    }

    /// Of pairs of a name and its placeholder. Longer names are looked for first.
    pub fn new(names: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        let mut names: Vec<_> = names.into_iter().filter(|(name, _)| !name.is_empty()).collect();
        names.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        names.dedup_by(|a, b| a.0 == b.0);
        Self(names)
    }

    /// `line` with placeholders for the names that stand in it as words of their own.
    #[must_use]
    pub fn hide(&self, line: &str) -> String {
        let mut text = line.to_owned();
        for (name, placeholder) in &self.0 {
            let mut rest = text.as_str();
            let mut hidden = String::new();
            let mut before = None;
            while let Some(at) = rest.find(name.as_str()) {
                let (head, tail) = (&rest[..at], &rest[at + name.len()..]);
                let left = head.chars().next_back().or(before);
                let alone = !left.is_some_and(char::is_alphanumeric)
                    && !tail.chars().next().is_some_and(char::is_alphanumeric);
                hidden.push_str(head);
                hidden.push_str(if alone { placeholder } else { name });
                before = name.chars().next_back();
                rest = tail;
            }
            hidden.push_str(rest);
            text = hidden;
        }
        text
    }
}

/// Where `found` left `expected`, in order.
#[must_use]
pub fn changes(snapshot: &str, expected: &str, found: &str, names: &Names) -> Vec<Change> {
    let hidden = |text: &str| -> Vec<String> { text.lines().map(|line| names.hide(line)).collect() };
    let (old, new) = (hidden(expected), hidden(found));
    // Lines that differ in numbers alone correspond: durations, levels and sizes move
    // through whole logs.
    let general =
        |lines: &[String]| -> Vec<String> { lines.iter().map(|line| without_numbers(line)).collect() };
    let (old_general, new_general) = (general(&old), general(&new));
    let mut changes = Changes { snapshot, old: &old, new: &new, list: Vec::new() };
    for (a, b, same) in stretches(Algorithm::Patience, &old_general, &new_general) {
        if same {
            for (a, b) in a.zip(b) {
                if old[a] != new[b] {
                    changes.pair(a, b);
                }
            }
        } else {
            changes.block(a, b);
        }
    }
    changes.list
}

/// `changes` by cause, in the order in which each shows first. `first_line` is the line of
/// the snapshot's file in which the expected text begins.
#[must_use]
pub fn deviations(changes: &[Change], first_line: usize, expected: &str, found: &str) -> Vec<Deviation> {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let line = |lines: &[&str], at: usize| lines.get(at).map(|line| (*line).to_owned());
    let mut places: BTreeMap<&Cause, usize> = BTreeMap::new();
    let mut list: Vec<Deviation> = Vec::new();
    for change in changes {
        let place = *places.entry(&change.cause).or_insert(list.len());
        if let Some(known) = list.get_mut(place) {
            known.times += 1;
            continue;
        }
        let first = Difference {
            snapshot: change.cause.snapshot.clone(),
            line: first_line + change.expected.start,
            expected: if change.expected.is_empty() { None } else { line(&old, change.expected.start) },
            found: if change.found.is_empty() { None } else { line(&new, change.found.start) },
        };
        list.push(Deviation { cause: change.cause.clone(), times: 1, first });
    }
    list
}

/// `expected` with those of `changes` that are `taken`, told by their place in the list.
#[must_use]
pub fn apply(expected: &str, found: &str, changes: &[Change], taken: impl Fn(usize) -> bool) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let mut lines: Vec<&str> = Vec::with_capacity(old.len().max(new.len()));
    let mut at = 0;
    for (number, change) in changes.iter().enumerate() {
        lines.extend(&old[at..change.expected.start]);
        lines.extend(if taken(number) { &new[change.found.clone()] } else { &old[change.expected.clone()] });
        at = change.expected.end;
    }
    lines.extend(&old[at..]);
    lines.join("\n")
}

struct Changes<'a> {
    snapshot: &'a str,
    old: &'a [String],
    new: &'a [String],
    list: Vec<Change>,
}

impl Changes<'_> {
    /// A line that changed.
    fn pair(&mut self, old: usize, new: usize) {
        let (expected, found) = words_that_changed(&self.old[old], &self.new[new]);
        self.push(old..old + 1, new..new + 1, [expected, found], true);
    }

    /// Lines that only one text has; where both ranges have some, they have little in common.
    fn lines(&mut self, old: Range<usize>, new: Range<usize>) {
        let some = |lines: &[String]| {
            let mut kept: Vec<String> = lines.iter().take(LINES).cloned().collect();
            if lines.len() > LINES {
                kept.push(format!("… and {} more lines", lines.len() - LINES));
            }
            kept
        };
        if !old.is_empty() || !new.is_empty() {
            let (expected, found) = (some(&self.old[old.clone()]), some(&self.new[new.clone()]));
            self.push(old, new, [expected, found], false);
        }
    }

    fn push(&mut self, old: Range<usize>, new: Range<usize>, words: [Vec<String>; 2], in_words: bool) {
        let [expected, found] = words;
        let cause = Cause { snapshot: self.snapshot.to_owned(), expected, found };
        self.list.push(Change { expected: old, found: new, cause, in_words });
    }

    /// Two blocks, one in the place of the other: the lines in them that are much alike
    /// correspond, in order; what stands between is on one side only.
    fn block(&mut self, old: Range<usize>, new: Range<usize>) {
        let (mut from_old, mut from_new) = (old.start, new.start);
        for (a, b) in alike(&self.old[old.clone()], &self.new[new.clone()]) {
            let (a, b) = (old.start + a, new.start + b);
            self.lines(from_old..a, from_new..b);
            self.pair(a, b);
            (from_old, from_new) = (a + 1, b + 1);
        }
        self.lines(from_old..old.end, from_new..new.end);
    }
}

/// The stretches of two lists that are the same, and what stands between them. Counted
/// here: the positions that come with `similar`'s insertions and deletions may overlap
/// where it has shifted them.
fn stretches<T: Eq + std::hash::Hash + Ord>(
    algorithm: Algorithm,
    old: &[T],
    new: &[T],
) -> Vec<(Range<usize>, Range<usize>, bool)> {
    let (mut i, mut j) = (0, 0);
    capture_diff_slices(algorithm, old, new)
        .into_iter()
        .map(|op| {
            let (from_i, from_j) = (i, j);
            (i, j) = (i + op.old_range().len(), j + op.new_range().len());
            (from_i..i, from_j..j, matches!(op, DiffOp::Equal { .. }))
        })
        .collect()
}

/// Which lines of two blocks correspond: the choice, in the order of both, that has most in
/// common.
fn alike(old: &[String], new: &[String]) -> Vec<(usize, usize)> {
    if old.len().saturating_mul(new.len()) > PAIRS {
        let pairs = (0..old.len().min(new.len())).map(|at| (at, at));
        return pairs.filter(|(a, b)| likeness(&counted(&old[*a]), &counted(&new[*b])) >= ALIKE).collect();
    }
    let (a, b): (Vec<_>, Vec<_>) =
        (old.iter().map(|line| counted(line)).collect(), new.iter().map(|line| counted(line)).collect());
    // As in the longest common subsequence, with the likeness as weight.
    let mut best = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    let mut like = vec![vec![0_usize; b.len()]; a.len()];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            like[i][j] = Some(likeness(&a[i], &b[j])).filter(|like| *like >= ALIKE).unwrap_or_default();
            let taken = if like[i][j] > 0 { like[i][j] + best[i + 1][j + 1] } else { 0 };
            best[i][j] = taken.max(best[i + 1][j]).max(best[i][j + 1]);
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if like[i][j] > 0 && best[i][j] == like[i][j] + best[i + 1][j + 1] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if best[i][j] == best[i + 1][j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// How often each word stands in a line.
fn counted(line: &str) -> BTreeMap<&str, usize> {
    let mut words = BTreeMap::new();
    for word in words_of(line).into_iter().filter(|word| word.chars().any(char::is_alphanumeric)) {
        *words.entry(word).or_default() += 1;
    }
    words
}

/// The part of their words that two lines have in common, in percent.
fn likeness(one: &BTreeMap<&str, usize>, other: &BTreeMap<&str, usize>) -> usize {
    let all: usize = one.values().chain(other.values()).sum();
    let common: usize =
        one.iter().map(|(word, count)| other.get(word).map_or(0, |other| *count.min(other))).sum();
    (common * 200).checked_div(all).unwrap_or_default()
}

/// The words that went from a line and those that came in their place, pair by pair; one
/// of a pair may be empty. Each pair is named once.
fn words_that_changed(old: &str, new: &str) -> (Vec<String>, Vec<String>) {
    let (a, b) = (words_of(old), words_of(new));
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (old, new, same) in stretches(Algorithm::Myers, &a, &b) {
        let pair = (a[old].concat(), b[new].concat());
        if !same && !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs.into_iter().unzip()
}

/// Words, and what stands between them character by character. What is joined by dots,
/// dashes or underscores is one word: versions, levels, names.
fn words_of(line: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end =
            if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    words
}

/// A line with each number, however long, as one sign.
fn without_numbers(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut in_number = false;
    for c in line.chars() {
        let digit = c.is_ascii_digit() || (in_number && c == '.');
        if !digit {
            text.push(c);
        } else if !in_number {
            text.push('0');
        }
        in_number = digit;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(expected: &str, found: &str) -> Vec<String> {
        changes("log", expected, found, &Names::default())
            .into_iter()
            .map(|change| format!("{} > {}", change.cause.expected.join("|"), change.cause.found.join("|")))
            .collect()
    }

    #[test]
    fn what_changed_in_many_lines_in_the_same_way_has_one_cause() {
        let expected = "debug | Setting prompt string to '=>'\nx\ndebug | Setting prompt string to '/ #'";
        let found = expected.replace("prompt string", "prompt expect list");
        assert_eq!(told(expected, &found), ["string > expect list", "string > expect list"]);
    }

    #[test]
    fn lines_that_differ_in_numbers_correspond_wherever_they_stand() {
        let expected = "start: 1.5.2.4.1 test-overlay\nend: 1.5.2.4.1 test-overlay\nlast";
        let found = "first\nstart: 1.1.3.1 test-overlay\nend: 1.1.3.1 test-overlay\nlast";
        assert_eq!(told(expected, found), [" > first", "1.5.2.4.1 > 1.1.3.1", "1.5.2.4.1 > 1.1.3.1"]);
    }

    #[test]
    fn lines_of_a_replaced_block_are_paired_by_what_they_have_in_common() {
        let expected = "calling: ghost power reset one\nalpha beta gamma delta\nend";
        let found = "something else entirely\nalpha beta gamma epsilon\nend";
        assert_eq!(
            told(expected, found),
            ["calling: ghost power reset one > something else entirely", "delta > epsilon"]
        );
    }

    #[test]
    fn a_scenarios_own_names_do_not_make_a_cause_another_one() {
        let names =
            |board: &str| Names::new([(format!("{board}-01"), "[BOARD]"), (board.to_owned(), "[TYPE]")]);
        let cause = |board: &str| {
            let found = format!("device {board}-01 of {board} is new\nsame");
            changes("log", "same", &found, &names(board)).remove(0).cause
        };
        assert_eq!(cause("juno"), cause("x15"));
        assert_eq!(cause("juno").found, ["device [BOARD] of [TYPE] is new"]);
        // A name inside of another word is no name.
        assert_eq!(Names::new([("x15".into(), "[T]")]).hide("x150 ax15 x15x15 x15"), "x150 ax15 x15x15 [T]");
    }

    #[test]
    fn a_large_block_is_paired_in_bounded_time() {
        let block = |word: &str| (0..3000).map(|_| format!("{word} same words here\n")).collect::<String>();
        let changes = changes("log", &block("old"), &block("new"), &Names::default());
        assert_eq!(changes.len(), 3000);
        assert_eq!(changes[0].cause.found, ["new"]);
    }

    fn text() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just("start: 1.2 action".to_owned()),
            Just("start: 1.3 action".to_owned()),
            Just("end: 1.2 action".to_owned()),
            Just(String::new()),
            "[a-c ]{0,6}",
        ];
        prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn all_changes_make_one_text_the_other_and_none_leave_it(expected in text(), found in text()) {
            let changes = changes("log", &expected, &found, &Names::default());
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>().join("\n");
            prop_assert_eq!(apply(&expected, &found, &changes, |_| true), lines(&found));
            prop_assert_eq!(apply(&expected, &found, &changes, |_| false), lines(&expected));
        }

        #[test]
        fn what_is_taken_first_leaves_the_rest_as_it_was(expected in text(), found in text(), taken in any::<u16>()) {
            let taken = |number: usize| number < 16 && taken & (1 << number) != 0;
            let one = changes("log", &expected, &found, &Names::default());
            let half = apply(&expected, &found, &one, taken);
            let rest = changes("log", &half, &found, &Names::default());
            prop_assert_eq!(
                apply(&half, &found, &rest, |_| true),
                found.lines().collect::<Vec<_>>().join("\n")
            );
        }

        #[test]
        fn any_text_has_changes(expected in any::<String>(), found in any::<String>()) {
            let _ = changes("log", &expected, &found, &Names::default());
        }
    }
}
