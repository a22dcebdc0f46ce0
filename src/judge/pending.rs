//! What waits for a person's answer: texts that were found where others are expected.
//!
//! For `review` and `accept`, which ask, and decide nothing themselves. An answer may be
//! given to a part of a difference, too: what is left stays pending.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::judge::change::Names;
use crate::judge::defect;
use crate::judge::meant::{Meant, meant, unmet_faults};
use crate::judge::normalise::log;
use crate::judge::question::{Decision, Questions, Text};
use crate::judge::snapshot::{self, Id, Kept, Kind, Pending, Store};
use crate::lava::series::Series;
use crate::scenario::{Matrix, Scenario};

/// A difference that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which snapshot would change: scenario, series and kind.
    pub id: Id,
    /// What is expected now, by the chain of series; `None` where nothing is yet.
    pub expected: Option<Arc<str>>,
    /// What was found instead.
    pub found: String,
}

/// The differences of those that are pending, in the same order.
///
/// # Errors
/// [`Error::Usage`] for files that are not snapshots.
pub fn differences(store: &Store, pending: &[Pending]) -> Result<Vec<Difference>> {
    pending.iter().map(|pending| difference(store, pending)).collect()
}

fn difference(store: &Store, pending: &Pending) -> Result<Difference> {
    let expected = store.expected(&pending.id)?.map(|expected| expected.text);
    Ok(Difference { id: pending.id.clone(), expected, found: found(pending)? })
}

/// Makes what was found what is expected: all of `pending` at once, or nothing.
///
/// # Errors
/// [`Error::Usage`] for files that are not snapshots, and for results of a job that ended in
/// another way than its scenario says; [`Error::Infrastructure`] when it can't be written.
pub fn accept(store: &Store, matrix: &Matrix, pending: &[Pending]) -> Result<Kept> {
    let mut changes = BTreeMap::new();
    for one in pending {
        changes.insert(one.id.clone(), Some(found(one)?));
    }
    let kept = keep(store, matrix, changes)?;
    reject(store, pending)?;
    Ok(kept)
}

/// What of the results of each scenario and series in `differences` a person should not overlook.
#[must_use]
pub fn remarks(matrix: &Matrix, differences: &[Difference]) -> BTreeMap<(String, Series), Meant> {
    let mut remarks: BTreeMap<(String, Series), Meant> = BTreeMap::new();
    for Difference { id, found, .. } in differences {
        let Some(scenario) = scenario(matrix, id) else { continue };
        let not_shown = defect::not_shown(scenario, id.series, id.kind, found);
        if id.kind == Kind::Results || not_shown.is_some() {
            let remark = remarks.entry((id.scenario(), id.series)).or_default();
            let defects: Vec<String> = remark.defects.drain(..).chain(not_shown).collect();
            if id.kind == Kind::Results {
                *remark = meant(scenario, id.series, &scenario.defects_on(id.series), found);
            }
            remark.defects = defects;
        }
    }
    remarks
}

/// Whether `text` may become what is expected by the snapshot `id`, or why not.
#[must_use]
pub fn otherwise(matrix: &Matrix, id: &Id, text: &str) -> Option<String> {
    let scenario = scenario(matrix, id)?;
    match id.kind {
        Kind::Results => meant(scenario, id.series, &scenario.defects_on(id.series), text).otherwise,
        Kind::Ledger => unmet_faults(text),
        Kind::Log => match (log::not_logged(text), scenario.unlogged_on(id.series)) {
            (Some(line), None) => {
                let line = line.trim_start_matches(['-', ' ']);
                Some(format!("the log says `{line}`, and its scenario does not say why (`unlogged`)"))
            }
            (None, Some(_)) => {
                Some("LAVA logged what the board printed, and its scenario says `unlogged`".into())
            }
            _ => None,
        },
    }
}

/// Why `text` shows that the scenario's `defect` is not true of this LAVA any more, if so.
#[must_use]
pub fn not_shown(matrix: &Matrix, id: &Id, text: &str) -> Option<String> {
    defect::not_shown(scenario(matrix, id)?, id.series, id.kind, text)
}

/// Makes these texts what is expected, but for results of a job that ended in another way than its
/// scenario says, for a log that lacks what the board printed where its scenario does not say why, and for what does not show a defect that it names: these refuse all.
fn keep(store: &Store, matrix: &Matrix, changes: BTreeMap<Id, Option<String>>) -> Result<Kept> {
    let refused = |why: fn(&Matrix, &Id, &str) -> Option<String>| -> Vec<String> {
        let of = |(id, text): (&Id, &Option<String>)| {
            Some(format!("{}: {}", id.scenario(), why(matrix, id, text.as_deref()?)?))
        };
        changes.iter().filter_map(of).collect()
    };
    // How a job ends may well follow from a defect that is gone; so that is said first.
    let (gone, ended) = (refused(not_shown), refused(otherwise));
    if !gone.is_empty() {
        return Err(Error::Usage(format!(
            "nothing was accepted. Where a defect is gone its scenario must no longer say that this LAVA has it; \
             after that, accept again:\n  {}",
            gone.join("\n  ")
        )));
    }
    if ended.is_empty() {
        return store.keep(changes);
    }
    Err(Error::Usage(format!(
        "nothing was accepted. If this is what is to be expected, say so by `ends` in the scenario.yaml (with some \
         LAVAs only: `ends: {{incomplete: \">=2026.07\"}}`; by a defect of LAVA's: `defect`), or by `unlogged` where \
         nobody can log what the board prints; else `meta-lava review --reject` forgets it:\n  {}",
        ended.join("\n  ")
    )))
}

fn scenario<'m>(matrix: &'m Matrix, id: &Id) -> Option<&'m Scenario> {
    matrix.scenarios.iter().find(|one| one.suite == id.suite && one.name == id.name)
}

/// What there is to ask about `differences`: each cause once.
#[must_use]
pub fn questions(matrix: &Matrix, differences: &[Difference]) -> Questions {
    let text = |Difference { id, expected, found }: &Difference| Text {
        snapshot: id.kind.name(),
        expected: expected.as_deref().map(str::to_owned),
        found: found.clone(),
        names: scenario(matrix, id).map(Names::of).unwrap_or_default(),
    };
    Questions::new(differences.iter().map(text).collect())
}

/// Does what was answered: what was accepted is expected from now on, all of it at once or
/// nothing; what was rejected is forgotten, and what has no answer stays pending.
///
/// # Errors
/// As [`accept`].
pub fn decide(
    store: &Store,
    matrix: &Matrix,
    differences: &[Difference],
    questions: &Questions,
) -> Result<()> {
    let decisions: Vec<_> = differences.iter().zip(questions.decisions()).collect();
    let expected = decisions.iter().filter_map(|(difference, decision)| {
        Some((difference.id.clone(), Some(decision.as_ref()?.expected.clone()?)))
    });
    keep(store, matrix, expected.collect())?;
    for (difference, decision) in &decisions {
        match decision {
            Some(Decision { pending: Some(text), .. }) => {
                store.pend(&difference.id, text)?;
            }
            Some(Decision { pending: None, .. }) => store.unpend(&difference.id)?,
            None => {}
        }
    }
    Ok(())
}

/// Forgets what was found.
///
/// # Errors
/// [`Error::Infrastructure`] when it can't be removed.
pub fn reject(store: &Store, pending: &[Pending]) -> Result<()> {
    pending.iter().try_for_each(|one| store.unpend(&one.id))
}

fn found(pending: &Pending) -> Result<String> {
    let found = snapshot::read(&pending.new).map_err(|problem| Error::Usage(problem.to_string()))?;
    found.ok_or_else(|| Error::Usage(format!("{} is gone", pending.new.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::matrix;

    fn id(name: &str, series: &str) -> Id {
        Id { suite: "s".into(), name: name.into(), series: series.parse().unwrap(), kind: Kind::Log }
    }

    #[test]
    fn what_is_pending_is_seen_against_what_the_chain_gives() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.keep([(id("a", "2023.01"), Some("old".to_owned()))].into()).unwrap();
        store.pend(&id("a", "2026.10"), "new").unwrap();
        store.pend(&id("b", "2026.10"), "first").unwrap();
        let found = differences(&store, &store.pending().unwrap()).unwrap();
        let said: Vec<_> = found
            .iter()
            .map(|one| (one.id.to_string(), one.expected.as_deref(), one.found.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("s/a/2026.10/log".to_owned(), Some("old"), "new"),
                ("s/b/2026.10/log".to_owned(), None, "first"),
            ]
        );
    }

    #[test]
    fn results_of_a_job_that_failed_are_refused_with_all_that_is_pending_unless_its_scenario_says_so() {
        let folder = crate::scenario::tests::folder();
        let store = Store::new(folder.path());
        let id =
            |kind| Id { suite: "health-checks".into(), name: "bbb".into(), series: Series::OLDEST, kind };
        store.pend(&id(Kind::Log), "log").unwrap();
        let why = "  job: fail (error_msg: no such file, error_type: Infrastructure)";
        store.pend(&id(Kind::Results), &format!("job\n  health: Incomplete\nsuite lava\n{why}")).unwrap();
        let all = store.pending().unwrap();
        let matrix = Matrix::load(folder.path()).unwrap();
        let error = accept(&store, &matrix, &all).unwrap_err().to_string();
        assert!(
            error.contains(
                "health-checks/bbb: the job ended Incomplete (Infrastructure: no such file), and its scenario does \
                 not say `ends: incomplete`"
            ),
            "{error}"
        );
        assert_eq!(store.pending().unwrap(), all);
        let differences = differences(&store, &all).unwrap();
        let mut questions = questions(&matrix, &differences);
        for number in 0..questions.list().len() {
            questions.answer(number, crate::judge::question::Answer::Accept);
        }
        assert!(decide(&store, &matrix, &differences, &questions).is_err());
        assert_eq!(store.ids().unwrap(), []);
        let file = "jobs/health-checks/bbb/scenario.yaml";
        crate::scenario::tests::write(folder.path(), file, "family: uboot\nends: incomplete\n");
        accept(&store, &Matrix::load(folder.path()).unwrap(), &all).unwrap();
        assert_eq!(store.pending().unwrap(), []);
    }

    #[test]
    fn a_log_that_lacks_what_the_board_printed_is_accepted_with_a_reason_only() {
        let folder = crate::scenario::tests::folder();
        let store = Store::new(folder.path());
        let id =
            |kind| Id { suite: "health-checks".into(), name: "bbb".into(), series: Series::OLDEST, kind };
        let log =
            "info     | x\n--- LAVA did not log what the board printed; equal up to (without blanks): U-Boot";
        store.pend(&id(Kind::Log), log).unwrap();
        let pending = store.pending().unwrap();
        let with = |text: &str| {
            let file = "jobs/health-checks/bbb/scenario.yaml";
            crate::scenario::tests::write(folder.path(), file, &format!("family: uboot\n{text}\n"));
            Matrix::load(folder.path()).unwrap()
        };
        for unlogged in ["with: {}", "unlogged: {series: \">=2026.09\", reason: nobody listens}"] {
            let error = accept(&store, &with(unlogged), &pending).unwrap_err().to_string();
            let wanted = "health-checks/bbb: the log says `LAVA did not log what the board printed; equal up to \
                          (without blanks): U-Boot`, and its scenario does not say why (`unlogged`)";
            assert!(error.contains(wanted), "{error}");
        }
        let matrix = with("unlogged: nobody listens");
        accept(&store, &matrix, &pending).unwrap();
        assert!(store.check(&matrix).is_empty());
        let told = store.check(&with("with: {}"))[0].to_string();
        assert!(told.contains("bbb/log.snap: as it is expected with LAVA 2023.01, the log says"), "{told}");
        let told = otherwise(&matrix, &id(Kind::Log), "info     | x").unwrap();
        assert!(told.ends_with("its scenario says `unlogged`"), "{told}");
    }

    #[test]
    fn accepting_writes_what_differs_and_rejecting_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let newer = id("a", "2026.10");
        store.keep([(id("a", "2023.01"), Some("old".to_owned()))].into()).unwrap();
        store.pend(&newer, "new").unwrap();
        reject(&store, &store.pending().unwrap()).unwrap();
        assert!(!folder.path().join("expected/s/a/2026.10").exists());
        store.pend(&newer, "new").unwrap();
        accept(&store, &matrix(), &store.pending().unwrap()).unwrap();
        assert_eq!(store.pending().unwrap(), []);
        assert_eq!(&*store.expected(&newer).unwrap().unwrap().text, "new");
        // The same as the older one: nothing of its own is left.
        store.pend(&newer, "old").unwrap();
        let kept = accept(&store, &matrix(), &store.pending().unwrap()).unwrap();
        assert_eq!(kept.given.into_iter().collect::<Vec<_>>(), [newer]);
        assert!(!folder.path().join("expected/s/a/2026.10").exists());
    }
}
