//! Adds a device tag to a job without touching the rest of its text.
//!
//! A scenario's job lands on its own board because it asks for a device with a
//! tag that only this board has. The text is otherwise what the user wrote:
//! comments, quotes and order included.

use serde_yaml::{Mapping, Value};

use super::problem::path_position;

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

/// The roles of a job of several boards, as its `lava-multinode` protocol names them.
#[must_use]
pub fn roles(job: &Mapping) -> Option<&Mapping> {
    job.get("protocols")?.get("lava-multinode")?.get("roles")?.as_mapping()
}

/// `text`, a job with `role` among its [`roles`], whose devices for it have `tag` too.
///
/// # Errors
/// A line, when the role is not there or its `tags` are no list.
pub fn add_to_role(text: &str, role: &str, tag: &str) -> Result<String, String> {
    let mut wanted: Mapping = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let there = ["protocols", "lava-multinode", "roles", role]
        .iter()
        .try_fold(&mut wanted, |at, key| at.get_mut(*key)?.as_mapping_mut());
    let there = there.ok_or_else(|| format!("the job has no role `{role}`"))?;
    let had_some = there.contains_key("tags");
    let tags = there.entry("tags".into()).or_insert_with(|| Value::Sequence(Vec::new()));
    if tags.is_null() {
        *tags = Value::Sequence(Vec::new());
    }
    let Value::Sequence(tags) = tags else {
        return Err(format!("role `{role}`: tags: expected a list of device tags"));
    };
    tags.insert(0, tag.into());
    let edited = if had_some { None } else { insert_into_role(text, role, tag) };
    // By looks, as above.
    if let Some(edited) = edited
        && serde_yaml::from_str::<Mapping>(&edited).is_ok_and(|found| found == wanted)
    {
        return Ok(edited);
    }
    serde_yaml::to_string(&wanted).map_err(|error| error.to_string())
}

/// A role without `tags`: one more key, the first, in its braces or in its block.
fn insert_into_role(text: &str, role: &str, tag: &str) -> Option<String> {
    let (line, column) = path_position(text, &["protocols", "lava-multinode", "roles", role])?;
    let line_start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let after_key = line_start + text[line_start..].find(role)? + role.len();
    let line_end = text[after_key..].find('\n').map_or(text.len(), |at| after_key + at);
    if let Some(brace) = text[after_key..line_end].find('{') {
        let at = after_key + brace + 1;
        return Some(format!("{}tags: [{tag}], {}", &text[..at], &text[at..]));
    }
    let first = text[line_end..].lines().find(|line| !line.trim().is_empty())?;
    let indent = &first[..first.len() - first.trim_start().len()];
    if indent.len() < column {
        return None;
    }
    Some(format!("{}\n{indent}tags: [{tag}]{}", &text[..line_end], &text[line_end..]))
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

    const TWO_ROLES: &str = "\
protocols:
  lava-multinode:
    roles:
      server: {device_type: bbb, count: 1} # flow
      client:
        # block
        device_type: juno
        count: 2
";

    #[test]
    fn a_roles_devices_get_the_tag_where_the_role_is_and_the_text_stays() {
        let found = add_to_role(TWO_ROLES, "server", "t-server").unwrap();
        let found = add_to_role(&found, "client", "t-client").unwrap();
        let wanted = TWO_ROLES
            .replace("{device_type: bbb", "{tags: [t-server], device_type: bbb")
            .replace("client:\n        # block", "client:\n        tags: [t-client]\n        # block");
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_roles_own_tags_stay_and_a_role_that_is_not_there_is_told() {
        let text = TWO_ROLES.replace("count: 1}", "count: 1, tags: [usb]}");
        let job: Mapping = serde_yaml::from_str(&add_to_role(&text, "server", "t").unwrap()).unwrap();
        assert_eq!(
            roles(&job).unwrap()["server"]["tags"],
            serde_yaml::from_str::<Value>("[t, usb]").unwrap()
        );
        assert!(add_to_role(TWO_ROLES, "router", "t").unwrap_err().contains("no role `router`"));
        let odd = TWO_ROLES.replace("count: 1}", "count: 1, tags: usb}");
        assert!(add_to_role(&odd, "server", "t").unwrap_err().contains("a list"));
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
