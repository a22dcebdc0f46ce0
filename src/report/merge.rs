//! One run of the parts that a matrix was split into.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Run;
use super::json::RunFile;
use crate::error::{Error, Result};
use crate::scenario::filter::Partition;

/// Makes one run of `parts`, each with the folder of its report; it goes to the
/// folder `report` under `name`. Times are sums: what the parts took, not how long
/// somebody waited for them, which their reports don't know. Scenarios are sorted.
///
/// # Errors
/// [`Error::Usage`] when they are no parts of one run: a scenario is in two of them,
/// they are of different LAVA, or one is missing.
pub fn merge(name: &str, report: &Path, parts: Vec<(PathBuf, RunFile)>) -> Result<Run> {
    complete(&parts)?;
    let mut all = Run { name: name.to_owned(), report: report.to_owned(), ..Run::default() };
    let mut of: BTreeMap<(Option<String>, String), PathBuf> = BTreeMap::new();
    let mut lava: Option<PathBuf> = None;
    let mut elapsed = std::time::Duration::ZERO;
    for (folder, file) in parts {
        let part = file.into_run(report);
        match (all.lava(), part.lava()) {
            (Some(one), Some(other)) if one != other => {
                return Err(Error::Usage(format!(
                    "{} is of LAVA {one} and {} of LAVA {other}; only parts of one run can be merged",
                    lava.unwrap_or_default().display(),
                    folder.display()
                )));
            }
            (None, Some(_)) => {
                all.lavas.clone_from(&part.lavas);
                all.named = part.named;
                lava = Some(folder.clone());
            }
            // Nothing ran there, or the same LAVA.
            _ => {}
        }
        for row in part.rows {
            if let Some(other) = of.insert((row.lava.clone(), row.info.name.clone()), folder.clone()) {
                return Err(Error::Usage(format!(
                    "{} is in {} and in {}; each scenario can be in one part only",
                    row.label(),
                    other.display(),
                    folder.display()
                )));
            }
            all.rows.push(row);
        }
        for (phase, took) in part.phases {
            let sum = all.phases.entry(phase).or_default();
            *sum = sum.saturating_add(took);
        }
        elapsed = elapsed.saturating_add(part.elapsed.unwrap_or_default());
        all.interrupted |= part.interrupted;
        all.outstanding.extend(part.outstanding);
        for (lines, more) in [(&mut all.warnings, part.warnings), (&mut all.notes, part.notes)] {
            // What all parts say is said once.
            let new: Vec<String> = more.into_iter().filter(|line| !lines.contains(line)).collect();
            lines.extend(new);
        }
    }
    all.rows
        .sort_by(|a, b| (&a.lava, &a.info.suite, &a.info.name).cmp(&(&b.lava, &b.info.suite, &b.info.name)));
    // What had no turn in one part may have had it in another.
    all.outstanding.retain(|one| !all.rows.iter().any(|row| row.info.name == one.name));
    all.outstanding.sort();
    all.outstanding.dedup();
    all.elapsed = Some(elapsed);
    Ok(all)
}

/// Missing parts that are told by number.
const SHOWN: usize = 20;

/// That a part of a partition got lost must not look like a green run.
fn complete(parts: &[(PathBuf, RunFile)]) -> Result<()> {
    let mut seen: BTreeMap<usize, &Path> = BTreeMap::new();
    let mut first: Option<(usize, &Path)> = None;
    let mut whole: Option<&Path> = None;
    for (folder, file) in parts {
        let Some(partition) = &file.partition else {
            whole = Some(folder);
            continue;
        };
        let Partition { part, of } = Partition::parse(partition)
            .map_err(|_| Error::Usage(format!("{}: {partition:?} is no part", folder.display())))?;
        match first {
            Some((other, path)) if other != of => {
                return Err(Error::Usage(format!(
                    "{} is one of {other} parts and {} one of {of}; only parts of one run can be merged",
                    path.display(),
                    folder.display()
                )));
            }
            _ => first = Some((of, folder)),
        }
        if let Some(other) = seen.insert(part, folder) {
            return Err(Error::Usage(format!(
                "{} and {} are both part {part} of {of}",
                other.display(),
                folder.display()
            )));
        }
    }
    let Some((of, path)) = first else { return Ok(()) };
    if let Some(whole) = whole {
        return Err(Error::Usage(format!(
            "{} is one of {of} parts and {} is not; only parts of one run can be merged",
            path.display(),
            whole.display()
        )));
    }
    // A report may say that it is one of any number.
    let mut missing = (1..=of).filter(|part| !seen.contains_key(part)).map(|part| part.to_string());
    let shown: Vec<String> = missing.by_ref().take(SHOWN).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let more = match of - seen.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Error::Usage(format!(
        "of {of} parts these are missing: {}{more}; name the folders of all of them",
        shown.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::json;
    use crate::report::tests::{run, settings};

    fn part(partition: Option<&str>, rows: std::ops::Range<usize>) -> (PathBuf, RunFile) {
        let mut part = run(Path::new("r"));
        part.rows = part.rows.drain(rows.clone()).collect();
        part.partition = partition.map(str::to_owned);
        let text = json::write(&part, &settings(Path::new("r"))).unwrap();
        (format!("part-{}", rows.start).into(), serde_json::from_str(&text).unwrap())
    }

    fn refused(parts: Vec<(PathBuf, RunFile)>) -> String {
        let error = merge("all", Path::new("r"), parts).unwrap_err();
        assert!(matches!(error, Error::Usage(_)));
        error.to_string()
    }

    #[test]
    fn the_parts_scenarios_stand_together_and_their_times_are_summed() {
        let parts = vec![part(Some("slice:2/2"), 3..9), part(Some("slice:1/2"), 0..3)];
        let all = merge("all", Path::new("r"), parts).unwrap();
        let names: Vec<&str> = all.rows.iter().map(|row| row.info.name.as_str()).collect();
        assert_eq!(names, ["bbb", "gone", "juno", "known", "late", "new", "qemu", "skip", "x15"]);
        assert_eq!(all.totals(), run(Path::new("r")).totals());
        assert_eq!(all.seconds(), 2.0 * 23.512);
        assert_eq!(all.phases[&crate::event::Phase::Jobs].as_secs(), 32);
        assert_eq!(all.warnings, ["mask `uuid` matched nothing"]);
        let juno = all.rows[2].outcome.as_ref().unwrap();
        assert_eq!(*juno, crate::report::tests::differing());
    }

    #[test]
    fn what_is_no_part_of_one_run_is_refused_by_name() {
        assert_eq!(
            refused(vec![part(None, 0..3), part(None, 2..4)]),
            "x15 is in part-0 and in part-2; each scenario can be in one part only"
        );
        let mut other = part(None, 3..7);
        other.1.lavas[0].version = Some("2026.07".into());
        assert_eq!(
            refused(vec![part(None, 0..3), other]),
            "part-0 is of LAVA 2023.01-2 and part-3 of LAVA 2026.07; only parts of one run can be merged"
        );
        assert!(refused(vec![part(Some("slice:1/2"), 0..3), part(None, 3..7)]).contains("is not;"));
        assert!(
            refused(vec![part(Some("slice:1/2"), 0..3), part(Some("slice:2/3"), 3..7)]).contains("one of 3")
        );
    }

    #[test]
    fn a_part_that_got_lost_is_missed() {
        assert_eq!(
            refused(vec![part(Some("slice:1/4"), 0..3), part(Some("slice:3/4"), 3..7)]),
            "of 4 parts these are missing: 2, 4; name the folders of all of them"
        );
        let twice = vec![part(Some("slice:1/2"), 0..3), part(Some("slice:1/2"), 3..7)];
        assert_eq!(refused(twice), "part-0 and part-3 are both part 1 of 2");
    }

    #[test]
    fn of_very_many_parts_that_are_missing_some_are_told() {
        let text = refused(vec![part(Some("slice:2/18446744073709551615"), 0..3)]);
        assert!(text.contains("missing: 1, 3, 4, "), "{text}");
        assert!(text.contains(", 21 and 18446744073709551594 more; name"), "{text}");
    }

    #[test]
    fn a_part_in_which_nothing_ran_has_no_lava_and_does_no_harm() {
        let mut empty = part(Some("slice:2/2"), 0..0);
        empty.1.lava = None;
        empty.1.lavas.clear();
        let all = merge("all", Path::new("r"), vec![empty, part(Some("slice:1/2"), 0..7)]).unwrap();
        assert_eq!(all.lava().as_deref(), Some("2023.01-2"));
    }
}
