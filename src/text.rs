//! Untrusted text made fit for one line of a snapshot or a terminal.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Longest line of a snapshot, in characters. Real ones are below 1000.
pub const LINE: usize = 4096;

/// `text` on one line, without anything that a terminal or an editor would act
/// on: control and invisible characters are escaped, and what is longer than
/// [`LINE`] is cut with a mark that says how much is missing.
#[must_use]
pub fn printable(text: &str) -> String {
    printable_up_to(LINE, text)
}

/// [`printable`] with another limit than [`LINE`].
#[must_use]
pub fn printable_up_to(most: usize, text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(most));
    for (count, (at, c)) in text.char_indices().enumerate() {
        if count == most {
            let _ = write!(line, " [… {} bytes cut]", text.len() - at);
            break;
        }
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\u{8}' => line.push_str("\\b"),
            c if c.is_ascii_control() => {
                let _ = write!(line, "\\x{:02x}", c as u32);
            }
            c if is_invisible(c) => {
                let _ = write!(line, "\\u{{{:x}}}", c as u32);
            }
            c => line.push(c),
        }
    }
    line
}

/// C1 controls, line separators, direction marks and the like: they change how
/// the text around them looks.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` in double quotes where its end, or that it is empty, could not be seen otherwise.
#[must_use]
pub fn quoted_if_unclear(text: &str) -> String {
    if text.is_empty() || text.ends_with(char::is_whitespace) || text.starts_with('"') {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}

/// Those of `known` that `found` may have been meant to be, the nearest first; at most three.
#[must_use]
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    const MOST: usize = 3;
    const LIKENESS: f32 = 0.6;
    let known: BTreeSet<&str> = known.into_iter().collect();
    let known: Vec<&str> = known.into_iter().collect();
    let lower: Vec<String> = known.iter().map(|name| name.to_lowercase()).collect();
    let all: Vec<&str> = lower.iter().map(String::as_str).collect();
    let near = similar::get_close_matches(found.to_lowercase().as_str(), &all, MOST, LIKENESS);
    let place = |name: &str| lower.iter().position(|other| other == name).map(|at| known[at]);
    near.into_iter().filter_map(place).collect()
}

/// What to do about a name that there is not: the nearest of those `known`, or all of them where
/// they are few, or `else_say`.
#[must_use]
pub fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>, else_say: &str) -> String {
    const FEW: usize = 12;
    let known: BTreeSet<&str> = known.into_iter().collect();
    let near = nearest(found, known.iter().copied());
    if !near.is_empty() {
        format!("did you mean {}?", near.join(" or "))
    } else if (1..=FEW).contains(&known.len()) {
        format!("there is {}", known.into_iter().collect::<Vec<_>>().join(", "))
    } else {
        else_say.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("a\u{1b}[31mred\u{7f}\n\r\t\u{8}"), "a\\x1b[31mred\\x7f\\n\\r\\t\\b");
        assert_eq!(printable("a\u{202e}b\u{9b}é"), "a\\u{202e}b\\u{9b}é");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let cut = printable(&"é".repeat(LINE + 10));
        assert!(cut.ends_with("é [… 20 bytes cut]"));
        assert!(cut.chars().count() < LINE + 30);
    }

    #[test]
    fn what_could_not_be_seen_is_quoted() {
        assert_eq!(quoted_if_unclear("=> "), "\"=> \"");
        assert_eq!(quoted_if_unclear(""), "\"\"");
        assert_eq!(quoted_if_unclear("  x"), "  x");
    }

    proptest! {
        #[test]
        fn nothing_that_breaks_a_line_gets_through(text in ".*") {
            prop_assert!(!printable(&text).chars().any(|c| c.is_control()));
        }
    }

    #[test]
    fn the_nearest_name_is_told_or_all_where_they_are_few() {
        let known = ["u-boot", "barebox", "grub"];
        assert_eq!(nearest("u-bot", known), ["u-boot"]);
        assert_eq!(nearest("U-Boot", known), ["u-boot"]);
        assert_eq!(nearest("rnu", ["run", "list"]), ["run"]);
        assert_eq!(did_you_mean("brebox", known, "x"), "did you mean barebox?");
        assert_eq!(did_you_mean("zzz", known, "x"), "there is barebox, grub, u-boot");
        let many: Vec<String> = (0..20).map(|number| format!("board-{number}")).collect();
        assert_eq!(did_you_mean("zzz", many.iter().map(String::as_str), "look there"), "look there");
    }
}
