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

    /// What serde_yaml found, its position taken out of the message.
    #[must_use]
    pub fn yaml(path: impl Into<PathBuf>, error: &serde_yaml::Error) -> Self {
        let at = error.location().map(|location| (location.line(), location.column()));
        let mut message = error.to_string();
        if let Some((line, column)) = at
            && let Some(cut) = message.rfind(&format!(" at line {line} column {column}"))
        {
            message.truncate(cut);
        }
        Self { path: path.into(), at, message }
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
            #[allow(dead_code)]
            about: Option<String>,
        }
        let error = serde_yaml::from_str::<File>("about: x\nabuot: y\n").unwrap_err();
        assert_eq!(
            Problem::yaml("jobs/x.yaml", &error).to_string(),
            "jobs/x.yaml:2:1: unknown field `abuot`, expected `about`"
        );
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
