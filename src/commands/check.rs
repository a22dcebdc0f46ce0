//! `meta-lava check`: judge all that can be judged without Docker.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use crate::commands::print;
use crate::coverage;
use crate::error::Result;
use crate::exit_code::Exit;
use crate::judge::snapshot::{Store, in_ci};
use crate::lava::series::Series;
use crate::root::root;
use crate::sabotage;
use crate::scenario::{Matrix, Problem, Scenario, World};
use crate::stack::compose;

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// What `check` found.
#[derive(Debug)]
struct Checked {
    scenarios: usize,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

/// Prints every problem of the matrix, with file, line and column.
///
/// # Errors
/// [`crate::error::Error::Usage`] when there is no repository here.
pub async fn run(_args: Args) -> Result<Exit> {
    let start = Instant::now();
    let root = root()?;
    let mut checked = check(&root, in_ci());
    checked.problems.extend(compose::check(&root).err());
    let mut text = String::new();
    for problem in &checked.problems {
        text.push_str(&format!("{problem}\n"));
    }
    for note in &checked.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    let found = match checked.problems.len() {
        0 => "no problems".to_owned(),
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    };
    let took = start.elapsed().as_secs_f64();
    text.push_str(&format!("{} scenarios checked in {took:.1} s: {found}\n", checked.scenarios));
    print(&text);
    Ok(if checked.problems.is_empty() { Exit::Ok } else { Exit::Usage })
}

/// `strict`: a scenario without snapshots is a problem, as its verdict `new` is one in CI.
fn check(root: &Path, strict: bool) -> Checked {
    let (matrix, mut problems) = Matrix::load_with_problems(root);
    let world = World::load(root).map_err(|found| problems.extend(found)).ok();
    // A mistake in a family's template shows in each of its scenarios; once is enough.
    let mut of_families = BTreeMap::new();
    for scenario in &matrix.scenarios {
        match matrix.render(scenario, Series::OLDEST) {
            Ok(rendered) => {
                problems.extend(world.iter().flat_map(|world| world.missing(root, scenario, &rendered.job)));
            }
            Err(problem) if problem.path.starts_with("jobs/families") => {
                of_families.entry((problem.path.clone(), problem.at)).or_insert((problem, 0)).1 += 1;
            }
            Err(problem) => problems.push(problem),
        }
    }
    for (mut problem, times) in of_families.into_values() {
        if times > 1 {
            problem.message.push_str(&format!(" (and for {} more)", times - 1));
        }
        problems.push(problem);
    }
    // One whose scenario could not be read may have its use there.
    if problems.is_empty() {
        problems.extend(matrix.unused_boards());
    }
    let store = Store::new(root);
    problems.extend(store.check(&matrix));
    problems.extend(sabotage::load_with_problems(root).1);
    problems.extend(coverage::check_reasons(root).1);
    let mut notes = Vec::new();
    let without = store.without(&matrix);
    if strict {
        problems.extend(without.iter().map(|scenario| {
            let message = "has no snapshots yet; run it, and accept what it finds (`meta-lava review`)";
            Problem::new(&scenario.folder, message)
        }));
    } else if !without.is_empty() {
        notes.push(format!("no snapshots yet (CI would fail): {}", names(&without)));
    }
    match store.pending() {
        Ok(pending) if !pending.is_empty() => {
            notes.push(format!("{} snapshots are pending; see `meta-lava review`", pending.len()));
        }
        _ => {}
    }
    problems.sort();
    problems.dedup();
    Checked { scenarios: matrix.scenarios.len(), problems, notes }
}

/// Some names, and how many more.
fn names(scenarios: &[&Scenario]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = scenarios.iter().take(SHOWN).map(|scenario| scenario.name.as_str()).collect();
    match scenarios.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::{folder, write};

    #[test]
    fn a_sound_matrix_has_no_problems_and_in_ci_needs_snapshots() {
        let folder = folder();
        let checked = check(folder.path(), false);
        assert_eq!(checked.problems, []);
        assert_eq!(checked.notes, ["no snapshots yet (CI would fail): bbb, juno, whole"]);
        assert_eq!(check(folder.path(), true).problems.len(), 3);
    }

    #[test]
    fn all_problems_are_found_at_once_and_a_templates_only_once() {
        let folder = folder();
        write(folder.path(), "jobs/health-checks/bbb/scenario.yaml", "famly: uboot\n");
        write(folder.path(), "boards/juno.yaml", "model: [\n");
        write(folder.path(), "expected/lab/whole/log.snap", "x");
        let problems = check(folder.path(), false).problems;
        let paths: Vec<String> = problems.iter().map(|problem| problem.path.display().to_string()).collect();
        assert_eq!(
            paths,
            ["boards/juno.yaml", "expected/lab/whole/log.snap", "jobs/health-checks/bbb/scenario.yaml",]
        );
    }

    #[test]
    fn what_follows_from_another_problem_is_left_out() {
        let shown = |root: &Path| {
            let problems = check(root, false).problems;
            problems.iter().map(|problem| problem.path.display().to_string()).collect::<Vec<_>>()
        };
        let snapshots = |root: &Path| {
            for name in ["bbb", "juno"] {
                for kind in ["results", "ledger", "log"] {
                    write(
                        root,
                        &format!("expected/health-checks/{name}/{kind}.snap"),
                        "---\nsource: x\n---\nx\n",
                    );
                }
            }
        };
        for (broken, text) in [
            ("jobs/health-checks/bbb/scenario.yaml", "famly: uboot\n"),
            ("jobs/families/uboot/family.yaml", "abuot: x\n"),
            ("jobs/families/uboot/job.yaml", "{% for x %}"),
            ("boards/juno.yaml", "model: [\n"),
        ] {
            let folder = folder();
            snapshots(folder.path());
            write(folder.path(), broken, text);
            assert_eq!(shown(folder.path()), [broken]);
        }
        // One in the job as it comes out is one, too, however many scenarios have it.
        let folder = folder();
        write(
            folder.path(),
            "jobs/families/uboot/job.yaml",
            "job_name: {{ name }}\n# {{ kernel }} {{ dtb }}\n",
        );
        let problems = check(folder.path(), false).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.ends_with("(and for 1 more)"), "{}", problems[0]);
    }

    #[test]
    fn a_file_that_the_world_lacks_is_a_problem() {
        let folder = folder();
        write(
            folder.path(),
            "jobs/health-checks/bbb/scenario.yaml",
            "family: uboot\nwith: {dtb: dtb/bb.dtb}\n",
        );
        let problems = check(folder.path(), false).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0]
                .to_string()
                .contains("scenario.yaml:2:13: the world has no dtb/bb.dtb; did you mean dtb/bbb.dtb?"),
            "{}",
            problems[0]
        );
    }
}
