//! Device dictionaries: Jinja2 text, as LAVA's administrators write it.

use serde_yaml::{Mapping, Value};

/// Writes the dictionary of a device of type `device_type`: each variable as a
/// `{% set … %}`, those that are null left out.
///
/// # Errors
/// A line on the variable that Jinja2 cannot have.
pub fn write(device_type: &str, variables: &Mapping) -> Result<String, String> {
    let mut text = format!("{{% extends '{device_type}.jinja2' %}}\n");
    for (name, value) in variables {
        if let (name, Some(literal)) = check(name, value).map_err(|why| format!("dictionary: {why}"))? {
            text.push_str(&format!("{{% set {name} = {literal} %}}\n"));
        }
    }
    Ok(text)
}

/// A variable's name, and its value as a literal where it is not null.
///
/// # Errors
/// What of it Jinja2 can't have.
pub fn check<'v>(name: &'v Value, value: &Value) -> Result<(&'v str, Option<String>), String> {
    let Some(name) = name.as_str().filter(|name| is_identifier(name)) else {
        return Err(format!("{} is no name of a variable", show(name)));
    };
    if value.is_null() {
        return Ok((name, None));
    }
    Ok((name, Some(literal(value).map_err(|why| format!("{name}: {why}"))?)))
}

fn show(value: &Value) -> String {
    serde_yaml::to_string(value).map_or_else(|_| "a key".into(), |text| format!("`{}`", text.trim_end()))
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `value` as a Jinja2 literal.
fn literal(value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::Null => "none".into(),
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::Number(number) if number.is_nan() || number.is_infinite() => {
            return Err("Jinja2 has no literal for this number".into());
        }
        Value::Number(number) => number.to_string(),
        Value::String(text) => quote(text),
        Value::Sequence(items) => {
            let items: Result<Vec<String>, String> = items.iter().map(literal).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Mapping(items) => {
            let items: Result<Vec<String>, String> = items
                .iter()
                .map(|(key, value)| Ok(format!("{}: {}", literal(key)?, literal(value)?)))
                .collect();
            format!("{{{}}}", items?.join(", "))
        }
        Value::Tagged(tagged) => return Err(format!("the YAML tag {} means nothing to Jinja2", tagged.tag)),
    })
}

/// A string literal. Jinja2 decodes Python's escapes in it (`jinja2/lexer.py`, `wrap`).
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\'' => quoted.push_str("\\'"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dictionary(yaml: &str) -> Result<String, String> {
        write("beaglebone-black", &serde_yaml::from_str(yaml).unwrap())
    }

    #[test]
    fn every_kind_of_value_becomes_a_jinja_literal() {
        let text = dictionary(
            "a: it's\nb: 5\nc: true\nd: [1, x]\ne: {k: [1.5, ~]}\nf: \"two\\nlines \\\\ \\u001b\"\n",
        );
        insta::assert_snapshot!(text.unwrap(), @r"
        {% extends 'beaglebone-black.jinja2' %}
        {% set a = 'it\'s' %}
        {% set b = 5 %}
        {% set c = true %}
        {% set d = [1, 'x'] %}
        {% set e = {'k': [1.5, none]} %}
        {% set f = 'two\nlines \\ \x1b' %}
        ");
    }

    #[test]
    fn a_null_leaves_the_variable_to_the_template() {
        assert_eq!(dictionary("a: ~").unwrap(), "{% extends 'beaglebone-black.jinja2' %}\n");
    }

    #[test]
    fn what_jinja_cannot_have_is_refused() {
        assert!(dictionary("a-b: 1").unwrap_err().contains("`a-b` is no name"));
        assert!(dictionary("1: 1").unwrap_err().contains("`1` is no name"));
        assert!(dictionary("a: .nan").unwrap_err().contains("a: Jinja2 has no literal"));
        assert!(dictionary("a: !x 1").unwrap_err().contains("!x"));
    }

    proptest! {
        #[test]
        fn any_string_stays_inside_of_its_literal(text in ".*") {
            let quoted = quote(&text);
            let environment = minijinja::Environment::new();
            let value = environment.compile_expression(&quoted).unwrap().eval(()).unwrap();
            prop_assert_eq!(value.as_str(), Some(text.as_str()));
            prop_assert_eq!(quoted.lines().count(), 1);
        }
    }
}
