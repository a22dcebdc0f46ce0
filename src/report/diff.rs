//! Differences of two texts, for people: the lines that changed and some around them.

use std::time::Duration;

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
    pub text: String,
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
                text: change.value().trim_end_matches('\n').to_owned(),
            });
        }
        if !lines.is_empty() {
            hunks.push(Hunk { lines });
        }
    }
    (hunks, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_and_its_neighbours_are_shown() {
        let expected: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let found = expected.replace("10\n", "ten\n");
        let (hunks, left_out) = hunks(&expected, &found, 100);
        let shown: Vec<String> = hunks[0]
            .lines
            .iter()
            .map(|line| format!("{:?} {:?} {:?} {}", line.kind, line.expected, line.found, line.text))
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
