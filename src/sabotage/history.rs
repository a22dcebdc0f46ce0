//! Sabotages from LAVA's history: each commit that fixed something, undone on the LAVA under test.
//!
//! What was once wrong is what may be wrong again. A commit is undone by a three-way merge: its fixed
//! file is the ancestor, the installed one ours, and the one before it theirs. So it also comes out
//! of a LAVA that has changed a lot since, and does not where the fix itself has been written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use similar::{DiffOp, TextDiff};

use super::lay::Overlay;
use super::{Change, Place, Sabotage};
use crate::error::Result;
use crate::run::runner::Ready;
use crate::scenario::filter::Filter;
use crate::stack::images::Commit;

/// Lines beside those that are undone by which a scenario is known to run through them, too: a
/// statement of several lines is known by some of them, and one that is missing by its neighbours.
const BESIDE: usize = 2;
/// Where LAVA's repository has the templates of device-types.
const TEMPLATES: &str = "etc/dispatcher-config/device-types/";

/// Why a commit was not put to the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// It changed files of the server or of none of LAVA's programs only.
    NotOfJobs,
    /// What it changed has been changed again since, or is not there.
    DoesNotApply,
    /// No scenario runs through what it changed.
    NotReached,
}

impl Left {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 3] = [Self::NotOfJobs, Self::DoesNotApply, Self::NotReached];

    /// For people: `6 do not apply any more`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NotOfJobs => "change nothing that a job goes through on its worker",
            Self::DoesNotApply => "do not apply any more",
            Self::NotReached => "change lines that no scenario runs through",
        }
    }
}

/// A commit to be undone.
#[derive(Debug, Clone, Serialize)]
pub struct Fix {
    /// Its hash.
    pub commit: String,
    /// Its day.
    pub date: String,
    /// The first line of its message.
    pub subject: String,
    /// What of it is undone: files as a sabotage names them.
    pub files: Vec<String>,
    /// Why it is not put to the test, if so.
    pub left: Option<Left>,
}

/// Where a file of LAVA's repository is under test, and what a sabotage calls it; none for one that no
/// job goes through on its worker.
fn place(path: &str) -> Option<(Place, &str)> {
    if let Some(template) = path.strip_prefix(TEMPLATES) {
        return template.ends_with(".jinja2").then_some((Place::Template, template));
    }
    // The server checks jobs and devices by the schemas.
    let dispatcher = path.starts_with("lava_dispatcher/")
        || (path.starts_with("lava_common/") && !path.starts_with("lava_common/schemas/"));
    (dispatcher && path.ends_with(".py") && !path.contains("/tests/")).then_some((Place::Dispatcher, path))
}

/// The installed text without what a commit made of `before`, which was `after` then; none where that
/// is not in it any more.
fn undone(installed: &str, after: &str, before: &str) -> Option<String> {
    let merged = diffy::merge(after, installed, before).ok()?;
    (merged != installed).then_some(merged)
}

/// The lines of `installed`, from 1, which `changed` has not, or beside which it has others, and some more
/// around.
fn touched(installed: &str, changed: &str) -> BTreeSet<usize> {
    let diff = TextDiff::from_lines(installed, changed);
    let ops = diff.ops().iter().filter(|op| !matches!(op, DiffOp::Equal { .. }));
    let around = ops.flat_map(|op| {
        let old = op.old_range();
        (old.start + 1).saturating_sub(BESIDE)..=old.end + BESIDE
    });
    around.filter(|line| *line > 0).collect()
}

/// Makes a sabotage of each of `commits` that can be undone, with `scenarios` that have been run
/// under [`super::traced`].
///
/// # Errors
/// [`crate::error::Error::Infrastructure`] when the traces or LAVA's files can't be had.
pub async fn undo(
    overlay: &Overlay,
    scenarios: &[Ready],
    traces: &BTreeMap<&str, Vec<String>>,
    commits: Vec<Commit>,
) -> Result<Vec<(Fix, Option<Arc<Sabotage>>)>> {
    // By line, which scenarios run through it.
    let mut through: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (scenario, lines) in traces {
        for line in lines {
            through.entry(line).or_default().push(scenario);
        }
    }
    let paths = commits.iter().flat_map(|commit| &commit.changed).filter_map(|file| place(&file.path));
    let paths = paths.filter(|(place, _)| *place == Place::Dispatcher).map(|(_, path)| path).collect();
    let installed = overlay.dispatcher_files(&paths).await?;
    let mut found = Vec::new();
    for commit in &commits {
        let (mut change, mut applies, mut reached) = (Vec::new(), true, BTreeSet::new());
        for file in &commit.changed {
            let Some((place, name)) = place(&file.path) else { continue };
            let text = match place {
                Place::Template => overlay.template(name),
                _ => installed.get(name).map(String::as_str),
            };
            let Some((text, with)) =
                text.and_then(|text| Some((text, undone(text, &file.after, &file.before)?)))
            else {
                applies = false;
                continue;
            };
            if place == Place::Dispatcher {
                let lines = touched(text, &with).into_iter().map(|line| format!("{name}:{line}"));
                reached.extend(lines.filter_map(|line| through.get(line.as_str())).flatten().copied());
            }
            change.push(Change::whole(place, name, with));
        }
        let sabotage = Sabotage {
            name: format!("undone-{}", commit.id.get(..12).unwrap_or(&commit.id)),
            about: commit.subject.clone(),
            ..Sabotage::of(change)
        };
        for ready in scenarios {
            if ready.scenario.device_types().iter().any(|name| overlay.concerns(&sabotage, name)) {
                reached.insert(&ready.scenario.name);
            }
        }
        let left = match (applies, sabotage.change.is_empty(), reached.is_empty()) {
            (false, ..) => Some(Left::DoesNotApply),
            (_, true, _) => Some(Left::NotOfJobs),
            (.., true) => Some(Left::NotReached),
            _ => None,
        };
        let fix = Fix {
            commit: commit.id.clone(),
            date: commit.date.clone(),
            subject: commit.subject.clone(),
            files: sabotage.change.iter().map(|change| change.file.clone()).collect(),
            left,
        };
        let sabotage =
            Sabotage { noticed_by: Filter::names(reached.into_iter().map(str::to_owned)), ..sabotage };
        found.push((fix, left.is_none().then(|| Arc::new(sabotage))));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jobs_go_through_on_their_worker_is_undone_and_nothing_else() {
        assert_eq!(
            place("lava_dispatcher/actions/boot/uuu.py"),
            Some((Place::Dispatcher, "lava_dispatcher/actions/boot/uuu.py"))
        );
        assert_eq!(
            place("etc/dispatcher-config/device-types/base.jinja2"),
            Some((Place::Template, "base.jinja2"))
        );
        for path in [
            "lava_dispatcher/tests/test_uuu.py",
            "lava_common/schemas/device.py",
            "lava_server/urls.py",
            "lava_dispatcher/lava_test_shell/lava-echo",
            "doc/v2/index.rst",
        ] {
            assert_eq!(place(path), None, "{path}");
        }
    }

    #[test]
    fn a_fix_comes_out_of_a_file_that_has_changed_elsewhere_since() {
        let before = "a\nb\nc\nd\ne\nf\n";
        let after = "a\nb\nc!\nd\ne\nf\n";
        let installed = "new\na\nb\nc!\nd\ne\nf\n";
        assert_eq!(undone(installed, after, before).unwrap(), "new\na\nb\nc\nd\ne\nf\n");
        assert_eq!(undone("a\nb\nc?\nd\ne\nf\n", after, before), None, "written anew since");
        assert_eq!(undone(before, after, before), None, "is not in it");
    }

    #[test]
    fn who_runs_beside_a_line_runs_through_it() {
        let installed = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        assert_eq!(touched(installed, installed), BTreeSet::new());
        let without_five = "1\n2\n3\n4\n6\n7\n8\n9\n";
        assert_eq!(touched(installed, without_five), (3..=7).collect());
        let with_one_more = "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        assert_eq!(touched(installed, with_one_more), (1..=2).collect());
    }
}
