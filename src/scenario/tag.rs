//! Adds a device tag to a job without touching the rest of its text.
//!
//! A scenario's job lands on its own board because it asks for a device with a
//! tag that only this board has. The text is otherwise what the user wrote:
//! comments, quotes and order included.

use serde_yaml::{Mapping, Value};

/// `text`, the job that parses as `job`, asking for `tag` too.
///
/// # Errors
/// A line, when the job's `tags` are no list.
pub fn add(text: &str, job: &Mapping, tag: &str) -> Result<String, String> {
    let mut wanted = job.clone();
    let tags = wanted.entry("tags".into()).or_insert_with(|| Value::Sequence(Vec::new()));
    if tags.is_null() {
        *tags = Value::Sequence(Vec::new());
    }
    let Value::Sequence(tags) = tags else {
        return Err("tags: expected a list of device tags".into());
    };
    tags.insert(0, tag.into());
    let had_some = tags.len() > 1;

    let edited = if job.contains_key("tags") { insert(text, tag, had_some) } else { append(text, tag) };
    // The edit is by looks; what counts is that it parses as what was wanted.
    if let Some(edited) = edited
        && serde_yaml::from_str::<Mapping>(&edited).is_ok_and(|found| found == wanted)
    {
        return Ok(edited);
    }
    serde_yaml::to_string(&wanted).map_err(|error| error.to_string())
}

/// The job had no `tags`: a new key at its end.
fn append(text: &str, tag: &str) -> Option<String> {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    Some(format!("{text}{newline}tags:\n- {tag}\n"))
}

/// The job has `tags` at the left margin: one more item, the first.
fn insert(text: &str, tag: &str, had_some: bool) -> Option<String> {
    let start = if text.starts_with("tags:") { 0 } else { text.find("\ntags:")? + 1 };
    let after_key = start + "tags:".len();
    let line_end = text[after_key..].find('\n').map_or(text.len(), |at| after_key + at);
    let rest = &text[after_key..line_end];
    if let Some(bracket) = rest.find('[') {
        let at = after_key + bracket + 1;
        let comma = if had_some { ", " } else { "" };
        return Some(format!("{}{tag}{comma}{}", &text[..at], &text[at..]));
    }
    // A block list: indented as its first item is.
    let body = &text[line_end..];
    let item = body.lines().find(|line| line.trim_start().starts_with('-'))?;
    let indent = &item[..item.len() - item.trim_start().len()];
    Some(format!("{}\n{indent}- {tag}{body}", &text[..line_end]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tagged(text: &str) -> String {
        add(text, &serde_yaml::from_str(text).unwrap(), "bbb-01").unwrap()
    }

    #[test]
    fn a_job_without_tags_gets_the_key_at_its_end() {
        assert_eq!(tagged("# mine\na: 1"), "# mine\na: 1\ntags:\n- bbb-01\n");
    }

    #[test]
    fn tags_that_are_there_stay_and_so_does_the_text() {
        assert_eq!(
            tagged("tags:\n  # why\n  - x # y\na: 'b'\n"),
            "tags:\n  - bbb-01\n  # why\n  - x # y\na: 'b'\n"
        );
        assert_eq!(tagged("a: 1\ntags: [x, y]\n"), "a: 1\ntags: [bbb-01, x, y]\n");
        assert_eq!(tagged("a: 1\ntags: []\n"), "a: 1\ntags: [bbb-01]\n");
    }

    #[test]
    fn a_job_that_cannot_be_edited_in_place_is_written_anew_with_the_same_meaning() {
        for text in ["{a: 1}", "{tags: [x], a: 1}", "tags:\na: 1\n", "a: 1\n...\n"] {
            let found: Mapping = serde_yaml::from_str(&tagged(text)).unwrap();
            assert_eq!(found["tags"][0], Value::from("bbb-01"), "{text}");
            assert_eq!(found["a"], Value::from(1), "{text}");
        }
    }

    #[test]
    fn tags_that_are_no_list_are_refused() {
        let text = "tags: x\n";
        assert!(add(text, &serde_yaml::from_str(text).unwrap(), "t").unwrap_err().contains("list"));
    }

    proptest! {
        #[test]
        fn any_job_gets_the_tag_first_and_keeps_its_meaning(
            before in "(a: [x-z]\n|# .{0,9}\n|b:\n  - c: d\n){0,2}",
            tags in "(tags:\n?|tags: \\[x(, y)?\\]\n|tags: \\[\\]\n|tags:\n- x\n|tags:\n  - 'x: \\[' # z\n|)",
            after in "(e: [x-z]\n|f: \"\\\\ntags: \\[\"\n)?",
        ) {
            let text = format!("{before}{tags}{after}");
            let Ok(job) = serde_yaml::from_str::<Mapping>(&text) else { return Ok(()) };
            let mut found: Mapping = serde_yaml::from_str(&add(&text, &job, "bbb-01").unwrap()).unwrap();
            let Some(Value::Sequence(mut tags)) = found.remove("tags") else { panic!("{text}") };
            prop_assert_eq!(tags.remove(0), Value::from("bbb-01"));
            let mut job = job;
            let had = job.remove("tags").and_then(|tags| tags.as_sequence().cloned()).unwrap_or_default();
            prop_assert_eq!((tags, found), (had, job));
        }
    }
}
