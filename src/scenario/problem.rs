//! What is wrong with a file of the matrix, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Something that the author of a file has to fix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, relative to the root of the repository.
    pub path: PathBuf,
    /// Line and column, both from 1, where they are known.
    pub at: Option<(usize, usize)>,
    /// What was found and what was expected.
    pub message: String,
}

impl Problem {
    /// A problem of a whole file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self { path: path.into(), at: None, message: message.into() }
    }

    /// A problem at a line and column, where these are known.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>, at: Option<(usize, usize)>, message: impl Into<String>) -> Self {
        Self { path: path.into(), at, message: message.into() }
    }

    /// What serde_yaml found in a `text`, its position taken out of the message, and the parser's
    /// words made those of somebody who writes YAML.
    #[must_use]
    pub fn yaml(path: impl Into<PathBuf>, text: &str, error: &serde_yaml::Error) -> Self {
        let at = error.location().map(|location| (location.line(), location.column()));
        let mut message = error.to_string();
        if let Some((line, column)) = at
            && let Some(cut) = message.rfind(&format!(" at line {line} column {column}"))
        {
            message.truncate(cut);
        }
        let line = at.and_then(|(line, _)| text.lines().nth(line.saturating_sub(1))).unwrap_or_default();
        Self { path: path.into(), at, message: in_plain_words(&message, line) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// libyaml's words of what it could not read, and what that mostly comes of.
const JARGON: [(&str, &str); 11] = [
    (
        "mapping values are not allowed in this context",
        "no `key: value` can stand here: the indentation is wrong, or a text with `: ` in it needs quotes",
    ),
    (
        "did not find expected key",
        "the indentation does not fit the lines above: the keys of a mapping begin in the same column",
    ),
    (
        "did not find expected '-' indicator",
        "the indentation does not fit the lines above: the `-` of a list stand in the same column",
    ),
    (
        "block sequence entries are not allowed in this context",
        "no `- entry` of a list can stand here: the indentation is wrong, or it needs a line of its own",
    ),
    ("could not find expected ':'", "a `:` is missing behind a key, or the indentation is wrong"),
    ("did not find expected ',' or ']'", "a list in brackets is not closed: expected ',' or ']'"),
    ("did not find expected ',' or '}'", "a mapping in braces is not closed: expected ',' or '}'"),
    ("did not find expected node content", "a value is missing here"),
    ("found unexpected end of stream", "a quote is not closed"),
    (
        "found unknown escape character",
        "no such `\\` is known in double quotes: single quotes take it as it is",
    ),
    ("did not find expected <document start>", "the indentation does not fit the lines above"),
];

/// serde's names of kinds of values, and what they are called here.
const KINDS: [(&str, &str); 17] = [
    ("a YAML mapping", "a mapping"),
    ("unit value", "nothing"),
    ("a sequence", "a list"),
    ("sequence", "a list"),
    ("a map", "a mapping"),
    ("map", "a mapping"),
    ("struct", "a mapping"),
    ("string", "the text"),
    ("integer", "the number"),
    ("floating point", "the number"),
    ("boolean", "the word"),
    ("a string", "a text"),
    ("a boolean", "`true` or `false`"),
    ("path string", "a path"),
    ("enum", "one of its words"),
    ("a Duration", "a duration"),
    ("unit variant", "a word"),
];

/// A message of serde_yaml's about `line`, without the jargon of parsers.
fn in_plain_words(message: &str, line: &str) -> String {
    let indentation = &line[..line.len() - line.trim_start().len()];
    if message.contains("found character that cannot start any token") {
        return if indentation.contains('\t') {
            "a tab: YAML is indented with blanks".to_owned()
        } else {
            "no value begins with this character: put it in quotes".to_owned()
        };
    }
    if let Some((_, plain)) = JARGON.into_iter().find(|(jargon, _)| message.contains(jargon)) {
        // The hint alone would mislead where a tab is what shifted the line.
        return if indentation.contains('\t') {
            format!("{plain}; there is a tab")
        } else {
            plain.to_owned()
        };
    }
    let Some((place, found, expected)) = mismatch(message) else { return message.to_owned() };
    format!("{place}expected {}, found {}", kind(expected), kind(found))
}

/// The parts of `place: invalid type: found, expected something`.
fn mismatch(message: &str) -> Option<(&str, &str, &str)> {
    let (place, rest) = ["invalid type: ", "invalid value: "].iter().find_map(|head| {
        let at = message.find(head)?;
        Some((&message[..at], &message[at + head.len()..]))
    })?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    Some((place, found, expected))
}

/// A kind of value in serde's words as people call it.
fn kind(serde: &str) -> String {
    if let Some((_, plain)) = KINDS.into_iter().find(|(name, _)| serde == *name) {
        return plain.to_owned();
    }
    match serde {
        "u8" | "u16" | "u32" | "u64" | "usize" => return "a number that is not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" | "f32" | "f64" => return "a number".to_owned(),
        _ => {}
    }
    // `string "x"`, `integer `5``: the value itself says what it is.
    for (name, plain) in KINDS {
        if let Some(value) = serde.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')) {
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            let value = value.trim_matches('`');
            return match name {
                "struct" | "enum" => plain.to_owned(),
                _ => format!("{plain} `{value}`"),
            };
        }
    }
    serde.to_owned()
}

/// One error for all of `problems`; `Ok` when there are none.
///
/// # Errors
/// [`Error::Usage`].
pub fn refuse(problems: &[Problem]) -> Result<(), Error> {
    match problems {
        [] => Ok(()),
        [one] => Err(Error::Usage(one.to_string())),
        many => {
            let lines: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(Error::Usage(format!(
                "{} problems in the matrix (`meta-lava check` lists them too):\n  {}",
                many.len(),
                lines.join("\n  ")
            )))
        }
    }
}

/// Where `key` stands in a YAML `text`: line and column from 1 of the first
/// place where a mapping key of that name begins. A guess by its looks, for messages only.
#[must_use]
pub fn key_position(text: &str, key: &str) -> Option<(usize, usize)> {
    path_position(text, &[key])
}

/// Where the last of `keys` stands, each in the value of the one before it. Where a key is
/// not found, it is the place of the one before. A guess, too.
#[must_use]
pub fn path_position(text: &str, keys: &[&str]) -> Option<(usize, usize)> {
    let (mut found, mut from) = (None, 0);
    for key in keys {
        let Some(at) = key_after(text, key, from) else { break };
        found = Some(at);
        from = at + key.len();
    }
    let before = &text[..found?];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
}

/// Where `key` begins, in bytes, at `from` or later.
fn key_after(text: &str, key: &str, from: usize) -> Option<usize> {
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split(" #").next().unwrap_or(line);
        for (start, _) in code.match_indices(key) {
            let before = code[..start].trim_end_matches(['"', '\'']);
            let after = code[start + key.len()..].trim_start_matches(['"', '\'']);
            let begins = before.is_empty() || before.ends_with([' ', '{', ',', '\t']);
            if line_start + start >= from && begins && after.trim_start().starts_with(':') {
                return Some(line_start + start);
            }
        }
        line_start += line.len();
    }
    None
}

/// `path` below `root`, for messages.
#[must_use]
pub fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_yaml_error_is_shown_with_file_line_and_column_once() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[allow(dead_code, reason = "what is read of it are its mistakes")]
            about: Option<String>,
        }
        let error = serde_yaml::from_str::<File>("about: x\nabuot: y\n").unwrap_err();
        assert_eq!(
            Problem::yaml("jobs/x.yaml", "", &error).to_string(),
            "jobs/x.yaml:2:1: unknown field `abuot`, expected `about`"
        );
    }

    #[test]
    fn what_a_parser_says_is_told_in_the_words_of_who_writes() {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default)]
        #[allow(dead_code, reason = "what is read of it are its mistakes")]
        struct File {
            timeout: u64,
            skip: String,
            tags: Vec<String>,
            with: serde_yaml::Mapping,
            quick: bool,
        }
        let of = |text: &str| {
            let error = serde_yaml::from_str::<File>(text).unwrap_err();
            Problem::yaml("x", text, &error).message
        };
        assert_eq!(
            of("timeout: soon\n"),
            "timeout: expected a number that is not negative, found the text `soon`"
        );
        assert_eq!(
            of("timeout: -1\n"),
            "timeout: expected a number that is not negative, found the number `-1`"
        );
        assert_eq!(of("tags: slow\n"), "tags: expected a list, found the text `slow`");
        assert_eq!(of("skip: [1]\n"), "skip: expected a text, found a list");
        assert_eq!(of("with: 5\n"), "with: expected a mapping, found the number `5`");
        assert_eq!(of("quick: 'no'\n"), "quick: expected `true` or `false`, found the text `no`");
        assert_eq!(of("with:\n\tkernel: x\n"), "a tab: YAML is indented with blanks");
        assert!(of("with:\n   a: 1\n  b: 2\n").contains("indentation"), "{}", of("with:\n   a: 1\n  b: 2\n"));
        assert!(of("tags:\n  - a\n - b\n").contains("indentation"), "{}", of("tags:\n  - a\n - b\n"));
        assert!(of("skip: a: b\n").contains("needs quotes"));
        assert!(of("tags: [a\n").contains("not closed"));
        assert!(of("skip: 'a\n").contains("a quote is not closed"));
        assert!(of("skip: @x\n").contains("put it in quotes"));
    }

    #[test]
    fn a_key_is_found_in_block_and_flow_style_and_not_inside_of_a_word() {
        let text = "with:\n  xkernel: 1\n  kernel: 2\nother: {a: 1, \"dtb\": 2}\n";
        assert_eq!(key_position(text, "kernel"), Some((3, 3)));
        assert_eq!(key_position(text, "dtb"), Some((4, 16)));
        assert_eq!(key_position(text, "none"), None);
    }

    #[test]
    fn a_key_in_another_ones_value_is_found_there() {
        let text = "kind: x\nchange:\n  firmware:\n    kind: 1\nother: {kind: 2}\n";
        assert_eq!(path_position(text, &["change", "firmware", "kind"]), Some((4, 5)));
        assert_eq!(path_position(text, &["other", "kind"]), Some((5, 9)));
        assert_eq!(path_position(text, &["change", "gone"]), Some((2, 1)));
    }

    #[test]
    fn all_problems_are_in_the_error() {
        let problems = [Problem::new("a", "one"), Problem::new("b", "two")];
        let error = refuse(&problems).unwrap_err().to_string();
        assert!(error.contains("a: one") && error.contains("b: two"), "{error}");
        assert!(refuse(&[]).is_ok());
    }

    proptest! {
        #[test]
        fn the_place_of_any_key_is_in_the_text(text in "([a-c]{0,2}[:{, '\"]{0,3}|.{0,9}\n){0,12}", key in "[a-c]{0,2}|.{0,3}") {
            if let Some((line, column)) = key_position(&text, &key) {
                let line = text.lines().nth(line - 1).unwrap();
                prop_assert!(line.chars().skip(column - 1).collect::<String>().starts_with(&key));
            }
        }
    }
}
