//! `meta-lava accept`: accept pending snapshots.

use globset::Glob;

use crate::commands::{matrix, print};
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::judge::pending;
use crate::judge::snapshot::{Kept, Pending, Store, in_ci};
use crate::root::root;
use crate::scenario::Matrix;

/// Options of `accept`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenarios, by name or glob, or single snapshots such as `health-checks/bbb/log`; all of them
    /// when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Remove the files of `expected/` that no scenario refers to, instead
    #[arg(long, conflicts_with = "names")]
    unreferenced: bool,
    /// Write all of `expected/` anew in as few bytes as can be found, instead; what is expected stays
    #[arg(long, conflicts_with_all = ["names", "unreferenced"])]
    compact: bool,
}

/// Makes what was found what is expected.
///
/// # Errors
/// [`Error::Usage`] where `CI` is set, [`Error::NoMatch`] for names that are not pending.
pub async fn run(args: Args) -> Result<Exit> {
    refuse_in_ci("accept", in_ci())?;
    let store = Store::new(&root()?);
    if args.unreferenced {
        return remove_unreferenced(&store, &matrix()?);
    }
    if args.compact {
        let (before, after) = store.compact()?;
        print(&format!("expected/ takes {after} bytes now; it took {before}\n"));
        return Ok(Exit::Ok);
    }
    let pending = chosen(store.pending()?, &args.names)?;
    if pending.is_empty() {
        print("no snapshots are pending\n");
    }
    let kept = pending::accept(&store, &matrix()?, &pending)?;
    print(&told(&pending, &kept));
    Ok(Exit::Ok)
}

/// Removes what no scenario refers to, and folders that are empty then.
fn remove_unreferenced(store: &Store, matrix: &Matrix) -> Result<Exit> {
    let unreferenced = store.unreferenced(matrix)?;
    if unreferenced.is_empty() {
        print("a scenario refers to each snapshot\n");
    }
    store.remove(&unreferenced)?;
    for path in &unreferenced {
        print(&format!("removed {}\n", crate::print::path(path).display()));
    }
    Ok(Exit::Ok)
}

/// A line for each that was accepted, and how many others had to be written anew.
pub(super) fn told(pending: &[Pending], kept: &Kept) -> String {
    let mut text = String::new();
    for Pending { id, .. } in pending {
        let why = if kept.given.contains(id) { ": as with an older LAVA, nothing is written" } else { "" };
        text.push_str(&format!("accepted {id}{why}\n"));
    }
    if !kept.rebased.is_empty() {
        text.push_str(&format!(
            "{} that stand on these are written anew, and say the same\n",
            kept.rebased.len()
        ));
    }
    text
}

/// A nightly run must not decide what is right.
pub(super) fn refuse_in_ci(command: &str, in_ci: bool) -> Result<()> {
    if in_ci {
        return Err(Error::Usage(format!(
            "`{command}` is refused where CI is set: what is expected changes by a person's decision only"
        )));
    }
    Ok(())
}

/// Those of `pending` that one of `names` means; all, when there are no names.
pub(super) fn chosen(pending: Vec<Pending>, names: &[String]) -> Result<Vec<Pending>> {
    if names.is_empty() {
        return Ok(pending);
    }
    let mut wanted = vec![false; pending.len()];
    for name in names {
        let glob = Glob::new(name)
            .map_err(|error| {
                Error::Usage(format!("{name:?} is neither a name nor a glob: {}", error.kind()))
            })?
            .compile_matcher();
        let mut any = false;
        for (one, wanted) in pending.iter().zip(&mut wanted) {
            // suite/name/log, suite/name, and name.
            if glob.is_match(one.id.to_string())
                || glob.is_match(&one.id.name)
                || glob.is_match(one.id.scenario())
            {
                *wanted = true;
                any = true;
            }
        }
        if !any {
            return Err(Error::NoMatch(format!(
                "no pending snapshot matches {name:?}; `meta-lava review` lists them"
            )));
        }
    }
    Ok(pending.into_iter().zip(wanted).filter_map(|(one, wanted)| wanted.then_some(one)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::snapshot::Id;

    fn pending(name: &str) -> Pending {
        Pending { new: format!("{name}.snap.new").into(), id: Id::parse(name).unwrap() }
    }

    fn names(wanted: &[&str]) -> Result<Vec<String>> {
        let all = ["health-checks/bbb/log", "health-checks/bbb/results", "lab/whole/2026.07/log"];
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        Ok(chosen(all.map(pending).to_vec(), &wanted)?.into_iter().map(|one| one.id.to_string()).collect())
    }

    #[test]
    fn names_mean_scenarios_or_single_snapshots() {
        assert_eq!(names(&[]).unwrap().len(), 3);
        assert_eq!(names(&["bbb"]).unwrap(), ["health-checks/bbb/log", "health-checks/bbb/results"]);
        assert_eq!(names(&["lab/whole"]).unwrap(), ["lab/whole/2026.07/log"]);
        assert_eq!(names(&["health-checks/bbb/log", "wh*"]).unwrap().len(), 2);
        assert!(matches!(names(&["bbb", "juno"]), Err(Error::NoMatch(_))));
        assert!(matches!(names(&["["]), Err(Error::Usage(_))));
    }

    #[test]
    fn what_no_scenario_refers_to_is_removed_and_nothing_else() {
        let folder = crate::scenario::tests::folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let file = |path: &str| {
            crate::scenario::tests::write(folder.path(), path, "---\nsource: x\n---\ntext\n");
            folder.path().join(path)
        };
        let kept = file("expected/health-checks/bbb/log.snap");
        let renamed = file("expected/health-checks/was-here/2026.07/log.snap");
        let odd = file("expected/health-checks/bbb/notes.txt");
        let store = Store::new(folder.path());
        assert_eq!(store.unreferenced(&matrix).unwrap(), [odd.clone(), renamed.clone()]);
        remove_unreferenced(&store, &matrix).unwrap();
        assert!(kept.exists() && !odd.exists());
        assert!(!folder.path().join("expected/health-checks/was-here").exists());
    }

    #[test]
    fn ci_decides_nothing() {
        assert!(matches!(refuse_in_ci("accept", true), Err(Error::Usage(_))));
        assert!(refuse_in_ci("accept", false).is_ok());
    }
}
