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
use super::{Change, Place, SERVER, Sabotage};
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
    /// It changed none of LAVA's programs: pages, migrations of the database, LAVA's own tests.
    NoProgram,
    /// What it changed has been changed again since, or is not there.
    DoesNotApply,
    /// Nothing that scenarios run goes through what it changed.
    NotReached,
}

/// Who runs through what is undone: scenarios by name, and what speaks for trying each first. On a worker that is through how many
/// of its lines and of those beside them it runs, on the server how many requests of its own it has.
pub type Reached = BTreeMap<String, usize>;

impl Left {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 3] = [Self::NoProgram, Self::DoesNotApply, Self::NotReached];

    /// For people: `6 do not apply any more`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoProgram => "change none of LAVA's programs",
            Self::DoesNotApply => "do not apply any more",
            Self::NotReached => "change lines that no scenario makes LAVA run through",
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

/// Where a file of LAVA's repository is under test, and what a sabotage calls it; none for one that is no
/// program of LAVA's.
fn place(path: &str) -> Option<(Place, &str)> {
    if let Some(template) = path.strip_prefix(TEMPLATES) {
        return template.ends_with(".jinja2").then_some((Place::Template, template));
    }
    // A database that has been set up is not changed back by them.
    if !path.ends_with(".py") || path.contains("/tests/") || path.contains("/migrations/") {
        return None;
    }
    // The server checks jobs and devices by the schemas.
    let dispatcher = path.starts_with("lava_dispatcher/")
        || (path.starts_with("lava_common/") && !path.starts_with("lava_common/schemas/"));
    if dispatcher {
        return Some((Place::Dispatcher, path));
    }
    SERVER.iter().any(|part| path.starts_with(part)).then_some((Place::Server, path))
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
/// under [`super::traced`] and [`Overlay::trace_server`]: `traces` are what each ran through on the worker,
/// `of_server` is what all of them did on the server.
///
/// # Errors
/// [`crate::error::Error::Infrastructure`] when LAVA's files can't be had.
pub async fn undo(
    overlay: &Overlay,
    scenarios: &[Ready],
    traces: &BTreeMap<&str, Vec<String>>,
    of_server: &BTreeSet<String>,
    commits: Vec<Commit>,
) -> Result<Vec<(Fix, Option<(Arc<Sabotage>, Reached)>)>> {
    // By line, which scenarios run through it.
    let mut through: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (scenario, lines) in traces {
        for line in lines {
            through.entry(line).or_default().push(scenario);
        }
    }
    let paths = |wanted: Place| -> BTreeSet<&str> {
        let paths = commits.iter().flat_map(|commit| &commit.changed).filter_map(|file| place(&file.path));
        paths.filter(|(place, _)| *place == wanted).map(|(_, path)| path).collect()
    };
    let on_worker = overlay.dispatcher_files(&paths(Place::Dispatcher)).await?;
    let on_server = overlay.server_files(&paths(Place::Server)).await?;
    let mut found = Vec::new();
    for commit in &commits {
        let (mut change, mut applies, mut reached) = (Vec::new(), true, Reached::new());
        for file in &commit.changed {
            let Some((place, name)) = place(&file.path) else { continue };
            let text = match place {
                Place::Template => overlay.template(name),
                Place::Server => on_server.get(name).map(String::as_str),
                Place::Dispatcher | Place::Command => on_worker.get(name).map(String::as_str),
            };
            let Some((text, with)) =
                text.and_then(|text| Some((text, undone(text, &file.after, &file.before)?)))
            else {
                applies = false;
                continue;
            };
            let mut lines = touched(text, &with).into_iter().map(|line| format!("{name}:{line}"));
            match place {
                Place::Dispatcher => {
                    for scenario in lines.filter_map(|line| through.get(line.as_str())).flatten() {
                        *reached.entry((*scenario).to_owned()).or_default() += 1;
                    }
                }
                // Whose job it was that had the server run a line is not known: it may have been any. Those that ask the server
                // themselves are the first to try.
                Place::Server if lines.any(|line| of_server.contains(&line)) => {
                    for Ready { scenario, .. } in scenarios {
                        *reached.entry(scenario.name.clone()).or_default() += scenario.requests.len();
                    }
                }
                Place::Server | Place::Template | Place::Command => {}
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
                reached.entry(ready.scenario.name.clone()).or_default();
            }
        }
        let left = match (applies, sabotage.change.is_empty(), reached.is_empty()) {
            (false, ..) => Some(Left::DoesNotApply),
            (_, true, _) => Some(Left::NoProgram),
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
        let noticed_by = Filter::names(reached.keys().cloned());
        let sabotage = || (Arc::new(Sabotage { noticed_by, ..sabotage }), reached);
        found.push((fix, left.is_none().then(sabotage)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undone_is_a_program_or_a_template() {
        assert_eq!(
            place("lava_dispatcher/actions/boot/uuu.py"),
            Some((Place::Dispatcher, "lava_dispatcher/actions/boot/uuu.py"))
        );
        assert_eq!(
            place("etc/dispatcher-config/device-types/base.jinja2"),
            Some((Place::Template, "base.jinja2"))
        );
        for path in ["lava_common/schemas/device.py", "lava_server/urls.py", "lava_rest_app/v02/views.py"] {
            assert_eq!(place(path), Some((Place::Server, path)));
        }
        for path in [
            "lava_dispatcher/tests/test_uuu.py",
            "lava_scheduler_app/tests/test_device.py",
            "lava_scheduler_app/migrations/0001_initial.py",
            "lava_server/templates/base.html",
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
