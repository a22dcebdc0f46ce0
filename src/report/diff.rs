//! Differences of two texts, for people: the lines that changed and some around them,
//! and where in a line it changed. Lines of snapshots have up to a thousand characters.

use std::time::Duration;

use console::measure_text_width;
use similar::{Algorithm, ChangeTag, TextDiff};

/// Lines around a change.
const CONTEXT: usize = 3;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LineKind {
    /// In both texts.
    Same,
    /// Expected and not found.
    Expected,
    /// Found and not expected.
    Found,
}

/// A line beside the one that it stands against: what both begin with, what only this
/// one has, and what both end with. Of a line that stands alone all is `before`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Parts {
    /// As in the other line.
    pub before: String,
    /// Not as in the other line.
    pub change: String,
    /// As in the other line again.
    pub after: String,
}

impl Parts {
    /// A line that stands alone.
    #[must_use]
    pub fn alone(line: &str) -> Self {
        Self { before: line.to_owned(), ..Self::default() }
    }

    /// Two lines that stand against each other. What changed is told in whole words.
    #[must_use]
    pub fn of(one: &str, other: &str) -> [Self; 2] {
        let ends = |lines: [&str; 2]| lines.map(|line| line.chars().next_back().is_some_and(is_word));
        let begins = |lines: [&str; 2]| lines.map(|line| line.chars().next().is_some_and(is_word));
        let alike = |a: &mut dyn Iterator<Item = char>, b: &mut dyn Iterator<Item = char>| {
            a.zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>()
        };
        let mut first = alike(&mut one.chars(), &mut other.chars());
        if begins([&one[first..], &other[first..]]) != [false, false] {
            let word = one[..first].chars().rev().take_while(|c| is_word(*c));
            first -= word.map(char::len_utf8).sum::<usize>();
        }
        let [a, b] = [&one[first..], &other[first..]];
        let mut last = alike(&mut a.chars().rev(), &mut b.chars().rev());
        if ends([&a[..a.len() - last], &b[..b.len() - last]]) != [false, false] {
            let word = a[a.len() - last..].chars().take_while(|c| is_word(*c));
            last -= word.map(char::len_utf8).sum::<usize>();
        }
        [one, other].map(|line| Self {
            before: line[..first].to_owned(),
            change: line[first..line.len() - last].to_owned(),
            after: line[line.len() - last..].to_owned(),
        })
    }

    /// The whole line.
    #[must_use]
    pub fn text(&self) -> String {
        [self.before.as_str(), &self.change, &self.after].concat()
    }

    fn width(&self) -> usize {
        measure_text_width(&self.before) + measure_text_width(&self.change) + measure_text_width(&self.after)
    }
}

/// What of two lines fits into so many columns, around the place where they part; it
/// stands in the same column of both.
#[must_use]
pub fn excerpt(lines: [Parts; 2], columns: usize) -> [Parts; 2] {
    let rest = |line: &Parts| line.width() - measure_text_width(&line.before);
    let needed = lines.iter().map(rest).max().unwrap_or_default();
    let room = columns.saturating_sub(needed).max(columns / 3);
    lines.map(|line| {
        let before = if line.width() > columns { tail(&line.before, room) } else { line.before };
        let mut left = columns;
        let [before, change, after] = [before, line.change, line.after].map(|part| {
            let width = measure_text_width(&part);
            let shown = if width > left { head(&part, left) } else { part };
            // Nothing comes behind a cut.
            left = left.saturating_sub(width);
            shown
        });
        Parts { before, change, after }
    })
}

/// A word's character; what stands in numbers and names of files is, too.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.')
}

/// The beginning of `text`, with a mark, in so many columns.
fn head(text: &str, columns: usize) -> String {
    console::truncate_str(text, columns, if columns == 0 { "" } else { "…" }).into_owned()
}

/// The end of `text`, with a mark where something is left out, in so many columns.
fn tail(text: &str, columns: usize) -> String {
    if measure_text_width(text) <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let mut from = text.len();
    for (at, c) in text.char_indices().rev() {
        let width = measure_text_width(c.encode_utf8(&mut [0; 4]));
        if width > left {
            break;
        }
        left -= width;
        from = at;
    }
    format!("…{}", &text[from..])
}

/// A line of a [`Hunk`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// What it is.
    pub kind: LineKind,
    /// Its number in the expected text, from 1.
    pub expected: Option<usize>,
    /// Its number in the text found, from 1.
    pub found: Option<usize>,
    /// The line.
    pub parts: Parts,
}

/// Lines that stand together.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Hunk {
    /// The lines.
    pub lines: Vec<Line>,
}

/// The hunks of a difference, at most `limit` lines of them; and how many lines are left out.
#[must_use]
pub fn hunks(expected: &str, found: &str, limit: usize) -> (Vec<Hunk>, usize) {
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Patience)
        // Two long texts that have nothing in common: a coarse answer now, not the best one later.
        .timeout(Duration::from_millis(500))
        .diff_lines(expected, found);
    let mut left = limit;
    let mut left_out = 0;
    let mut hunks = Vec::new();
    for group in diff.grouped_ops(CONTEXT) {
        let mut lines = Vec::new();
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            if left == 0 {
                left_out += 1;
                continue;
            }
            left -= 1;
            lines.push(Line {
                kind: match change.tag() {
                    ChangeTag::Equal => LineKind::Same,
                    ChangeTag::Delete => LineKind::Expected,
                    ChangeTag::Insert => LineKind::Found,
                },
                expected: change.old_index().map(|index| index + 1),
                found: change.new_index().map(|index| index + 1),
                parts: Parts::alone(change.value().trim_end_matches('\n')),
            });
        }
        pair(&mut lines);
        if !lines.is_empty() {
            hunks.push(Hunk { lines });
        }
    }
    (hunks, left_out)
}

/// Tells where lines changed: where as many were found as were expected, each stands
/// against the one in its place. Two that have little in common are just two lines.
fn pair(lines: &mut [Line]) {
    let run =
        |lines: &[Line], from: usize, kind| lines[from..].iter().take_while(|line| line.kind == kind).count();
    let mut at = 0;
    while at < lines.len() {
        let expected = run(lines, at, LineKind::Expected);
        let found = run(lines, at + expected, LineKind::Found);
        if expected == found {
            for one in at..at + expected {
                let [a, b] = Parts::of(&lines[one].parts.before, &lines[one + expected].parts.before);
                let alike = a.before.trim_start().len() + a.after.len();
                if alike * 3 > a.text().len().min(b.text().len()) {
                    (lines[one].parts, lines[one + expected].parts) = (a, b);
                }
            }
        }
        at += (expected + found).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(one: &str, other: &str) -> [String; 2] {
        Parts::of(one, other).map(|parts| format!("{}<{}>{}", parts.before, parts.change, parts.after))
    }

    #[test]
    fn what_changed_in_a_line_is_told_in_whole_words() {
        assert_eq!(
            marked("throughput: pass 44.5 MB/s", "throughput: pass 42.5 MB/s"),
            ["throughput: pass <44.5> MB/s", "throughput: pass <42.5> MB/s"]
        );
        assert_eq!(marked("a b", "a b c"), ["a b<>", "a b< c>"]);
        assert_eq!(marked("xaa", "xa"), ["<xaa>", "<xa>"]);
        assert_eq!(marked("é: ü!", "é: ö!"), ["é: <ü>!", "é: <ö>!"]);
        assert_eq!(marked("", "new"), ["<>", "<new>"]);
    }

    #[test]
    fn an_excerpt_shows_where_two_long_lines_part() {
        let long = |word: &str| format!("{}{word}{}", "so ".repeat(300), " on".repeat(300));
        let shown = excerpt(Parts::of(&long("one"), &long("other")), 30).map(|parts| parts.text());
        assert_eq!(shown, ["…so so so one on on on on on …", "…so so so other on on on on o…"]);
        // What stands at the end has more in front of it.
        let shown =
            excerpt(Parts::of(&format!("{}1", "x ".repeat(50)), &format!("{}2", "x ".repeat(50))), 12);
        assert_eq!(shown.map(|parts| parts.text()), ["…x x x x x 1", "…x x x x x 2"]);
        let short = Parts::of("a b", "a c");
        assert_eq!(excerpt(short.clone(), 10), short);
    }

    proptest::proptest! {
        #[test]
        fn two_lines_lose_nothing_and_their_excerpts_fit(one in ".*", other in ".*", columns in 1..60usize) {
            let [one, other] = [one, other].map(|line| crate::text::printable(&line));
            let parts = Parts::of(&one, &other);
            proptest::prop_assert_eq!(parts.clone().map(|parts| parts.text()), [one, other]);
            proptest::prop_assert_eq!(&parts[0].before, &parts[1].before);
            for shown in excerpt(parts, columns) {
                proptest::prop_assert!(shown.width() <= columns, "{:?}", shown);
            }
        }
    }

    #[test]
    fn in_a_hunk_lines_that_are_much_alike_stand_against_each_other() {
        let (hunks, _) = hunks("size: 1 KiB\nalpha\n", "size: 2 KiB\nbeta\n", 100);
        let changes: Vec<&str> = hunks[0].lines.iter().map(|line| line.parts.change.as_str()).collect();
        assert_eq!(changes, ["1", "", "2", ""]);
    }

    #[test]
    fn only_what_changed_and_its_neighbours_are_shown() {
        let expected: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let found = expected.replace("10\n", "ten\n");
        let (hunks, left_out) = hunks(&expected, &found, 100);
        let shown: Vec<String> = hunks[0]
            .lines
            .iter()
            .map(|line| format!("{:?} {:?} {:?} {}", line.kind, line.expected, line.found, line.parts.text()))
            .collect();
        assert_eq!(hunks.len(), 1);
        assert_eq!(left_out, 0);
        assert_eq!(shown[0], "Same Some(7) Some(7) 7");
        assert_eq!(shown[3], "Expected Some(10) None 10");
        assert_eq!(shown[4], "Found None Some(10) ten");
        assert_eq!(shown.len(), 8);
    }

    #[test]
    fn an_endless_difference_is_cut_and_counted() {
        let (hunks, left_out) = hunks(&"a\n".repeat(500), &"b\n".repeat(500), 10);
        assert_eq!(hunks.iter().map(|hunk| hunk.lines.len()).sum::<usize>(), 10);
        assert_eq!(left_out, 990);
    }

    #[test]
    fn equal_texts_have_no_hunks() {
        assert_eq!(hunks("a\n", "a\n", 10), (vec![], 0));
    }
}
