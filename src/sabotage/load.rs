//! Reads `sabotages/`.
//!
//! ```text
//! sabotages/<name>.yaml    about, change, series, noticed_by, run, slow, features, first_difference
//! ```

use std::path::Path;

use serde::Deserialize;

use super::{Change, Hint, Sabotage};
use crate::error::Result;
use crate::lava::series::Range;
use crate::scenario::filter::Filter;
use crate::scenario::{Problem, refuse};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    change: Vec<Change>,
    noticed_by: String,
    #[serde(default)]
    series: Option<Range>,
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    slow: bool,
    #[serde(default)]
    features: bool,
    #[serde(default)]
    first_difference: Vec<HintFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HintFile {
    #[serde(default)]
    of: Option<String>,
    #[serde(default)]
    series: Option<Range>,
    snapshot: String,
    #[serde(default)]
    expected: Option<String>,
    #[serde(default)]
    found: Option<String>,
}

/// All sabotages below `root`, sorted by name.
///
/// # Errors
/// [`crate::error::Error::Usage`] with every problem found.
pub fn load(root: &Path) -> Result<Vec<Sabotage>> {
    let (sabotages, problems) = load_with_problems(root);
    refuse(&problems)?;
    Ok(sabotages)
}

/// Reads what can be read of `sabotages/`, and says what could not.
#[must_use]
pub fn load_with_problems(root: &Path) -> (Vec<Sabotage>, Vec<Problem>) {
    let folder = root.join("sabotages");
    let (mut sabotages, mut problems) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (sabotages, problems),
        Err(error) => {
            problems.push(Problem::new("sabotages", format!("could not list the folder: {error}")));
            return (sabotages, problems);
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".yaml").filter(|name| !name.starts_with('.')) else { continue };
        let path = Path::new("sabotages").join(entry.file_name());
        match std::fs::read_to_string(entry.path()) {
            Ok(text) => match parse(name, &path, &text) {
                Ok(sabotage) => sabotages.push(sabotage),
                Err(found) => problems.extend(found),
            },
            Err(error) => problems.push(Problem::new(path, format!("could not be read: {error}"))),
        }
    }
    sabotages.sort_by(|a, b| a.name.cmp(&b.name));
    problems.sort();
    (sabotages, problems)
}

fn parse(name: &str, path: &Path, text: &str) -> Result<Sabotage, Vec<Problem>> {
    let file: File = serde_yaml::from_str(text).map_err(|error| vec![Problem::yaml(path, text, &error)])?;
    let mut problems = Vec::new();
    let mut problem = |message: String| problems.push(Problem::new(path, message));
    let mut filter = |key: &str, text: &str| match Filter::parse(text) {
        Ok(filter) => Some(filter),
        Err(error) => {
            problem(format!("{key}: {error}"));
            None
        }
    };
    let noticed_by = filter("noticed_by", &file.noticed_by);
    let run = file.run.as_deref().and_then(|text| filter("run", text));
    let mut hints = Vec::new();
    for hint in file.first_difference {
        let of = hint.of.as_deref().and_then(|text| filter("first_difference: of", text));
        hints.push(Hint {
            of,
            series: hint.series,
            snapshot: hint.snapshot,
            expected: hint.expected,
            found: hint.found,
        });
    }
    for hint in &hints {
        if !["results", "ledger", "log"].contains(&hint.snapshot.as_str()) {
            problem(format!(
                "first_difference: snapshot: `{}` is none of results, ledger and log",
                hint.snapshot
            ));
        }
    }
    if !is_path(name) || name.contains('/') {
        problem("its name is more than letters, digits, `-`, `_` and `.`".into());
    }
    if file.change.is_empty() {
        problem("change: a sabotage changes something".into());
    }
    if file.about.trim().is_empty() {
        problem("about: say in a line what is broken".into());
    }
    for change in &file.change {
        if !is_path(&change.file) {
            problem(format!("change: file: `{}` is no plain path below its place", change.file));
        }
        if change.replace.as_deref() == Some("") || change.times == 0 {
            problem("change: an empty text can't be replaced, nor can any be replaced no times".into());
        }
    }
    match noticed_by {
        Some(noticed_by) if problems.is_empty() => Ok(Sabotage {
            name: name.to_owned(),
            about: file.about,
            change: file.change,
            series: file.series,
            noticed_by,
            run,
            slow: file.slow,
            features: file.features,
            first_difference: hints,
        }),
        _ => Err(problems),
    }
}

/// Whether it is a path that leads nowhere else, of names that a shell takes as they are.
fn is_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    path.split('/').all(|part| !part.trim_matches('.').is_empty() && part.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_damage_to_a_sabotage_is_loaded_or_told(
            at in any::<prop::sample::Index>(), cut in 0usize..9, text in "[:{}%\\[\\]&*!|>#'\"./\\-\n a-e0-9]{0,12}",
        ) {
            let file = "about: x\nchange:\n- in: template\n  file: base.jinja2\n  replace: a\n  with: b\n\
                        noticed_by: family(u-boot) - name(juno)\nrun: all()\nslow: true\n\
                        first_difference:\n- {of: all(), snapshot: log, expected: x, found: y}\n";
            let from = at.index(file.len());
            let to = (from + cut).min(file.len());
            crate::fuzzing::sabotage(format!("{}{text}{}", &file[..from], &file[to..]).as_bytes());
        }
    }

    fn sabotage(text: &str) -> Result<Sabotage, Vec<String>> {
        parse("x", Path::new("sabotages/x.yaml"), text)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_sabotage_is_a_change_and_who_must_notice_it() {
        let sabotage = sabotage(
            "about: no dhcp\nchange:\n- in: template\n  file: base-uboot.jinja2\n  replace: dhcp\n  with: ''\n\
             noticed_by: firmware(u-boot)\nfirst_difference:\n- snapshot: ledger\n  expected: dhcp\n  found: tftp\n",
        )
        .unwrap();
        assert!(!sabotage.is_of_the_server());
        assert_eq!(sabotage.change[0].times, 1);
    }

    #[test]
    fn what_is_wrong_with_a_sabotage_is_told_with_its_place() {
        let said = sabotage("about: x\nchange: []\nnoticed_by: firmware(\n").unwrap_err().join("\n");
        assert!(said.contains("sabotages/x.yaml: noticed_by: "), "{said}");
        assert!(said.contains("a sabotage changes something"), "{said}");
        let said = sabotage("about: x\nchagne: []\nnoticed_by: all()\n").unwrap_err().join("\n");
        assert!(said.contains("sabotages/x.yaml:2:1: unknown field `chagne`"), "{said}");
        let said = sabotage(
            "about: x\nchange:\n- {in: command, file: ../x, with: y}\nnoticed_by: all()\n\
             first_difference:\n- {snapshot: console}\n",
        );
        let said = said.unwrap_err().join("\n");
        assert!(said.contains("`../x` is no plain path") && said.contains("`console` is none of"), "{said}");
    }
}
