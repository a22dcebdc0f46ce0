//! How long the phases of a run take as a rule, from the reports of earlier ones: a phase that
//! hangs is told while it hangs, also to who wants to hear little.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::RunFile;
use super::folder::newest_first;
use crate::event::Phase;

/// So many times as long is worth a line.
const TIMES: u32 = 10;
/// No line before that, however short a phase is as a rule.
pub(super) const LEAST: Duration = Duration::from_secs(20);
/// So many of the last reports are asked.
const REPORTS: usize = 15;

/// How long each phase takes as a rule, as far as that is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Usual(BTreeMap<Phase, Duration>);

impl Usual {
    /// What the reports in the folder `reports` say, for a run of so many scenarios; and where
    /// there are none, what a stack takes on a machine of two cores.
    pub(super) fn of(reports: &Path, scenarios: usize) -> Self {
        let mut seconds: BTreeMap<Phase, Vec<f64>> = BTreeMap::new();
        for path in newest_first(reports).into_iter().take(REPORTS) {
            // Of another form, or of a run that has only begun.
            let Ok(file) = RunFile::read(&path) else { continue };
            for (phase, took) in file.phases {
                let is_alike = (scenarios / 2..=scenarios * 2).contains(&file.scenarios.len());
                if took > 0.0 && (phase != Phase::Jobs || is_alike) {
                    seconds.entry(phase).or_default().push(took);
                }
            }
        }
        let mut usual: BTreeMap<Phase, Duration> =
            [(Phase::Stack, 6), (Phase::Cleanup, 3)].map(|(phase, s)| (phase, Duration::from_secs(s))).into();
        for (phase, mut all) in seconds {
            all.sort_by(f64::total_cmp);
            let median = Duration::try_from_secs_f64(all[all.len() / 2]).unwrap_or_default();
            usual.insert(phase, median);
        }
        Self(usual)
    }

    /// What to say of a phase that has taken so long, if anything. `said` is its own last word.
    pub(super) fn too_long(&self, phase: Phase, so_far: Duration, said: Option<&str>) -> Option<String> {
        let usual = *self.0.get(&phase)?;
        if so_far < (usual * TIMES).max(LEAST) {
            return None;
        }
        let said = said.map(|said| format!("; its last word: {said}")).unwrap_or_default();
        Some(format!(
            "{} has taken {:.0} s so far, more than ten times as long as usual ({:.1} s){said}",
            super::terminal::phase_name(phase),
            so_far.as_secs_f64(),
            usual.as_secs_f64()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{run, settings};

    #[test]
    fn a_phase_is_too_long_at_ten_times_of_what_it_took_before() {
        let folder = tempfile::tempdir().unwrap();
        let seconds = Duration::from_secs;
        // Without any report: a stack takes 6 s.
        let unknown = Usual::of(folder.path(), 7);
        assert_eq!(unknown.too_long(Phase::Stack, seconds(59), None), None);
        assert!(unknown.too_long(Phase::Stack, seconds(61), None).is_some());
        assert_eq!(unknown.too_long(Phase::Jobs, seconds(5000), None), None);
        for (name, stack) in [("a", 2), ("b", 3), ("c", 90)] {
            let mut one = run(&folder.path().join(name));
            one.phases.insert(Phase::Stack, seconds(stack));
            let _ = crate::report::write(one, settings(folder.path()));
        }
        let usual = Usual::of(folder.path(), 7);
        assert_eq!(
            usual.too_long(Phase::Stack, seconds(31), Some("workers online")).unwrap(),
            "stack has taken 31 s so far, more than ten times as long as usual (3.0 s); its last word: workers online"
        );
        assert_eq!(usual.too_long(Phase::Stack, seconds(29), None), None);
        // Images were there each time, and what takes a blink may take some more.
        assert_eq!(usual.too_long(Phase::Images, seconds(19), None), None);
        assert!(usual.too_long(Phase::Images, seconds(21), None).is_some());
        // Jobs only by runs of about as many scenarios.
        assert!(usual.too_long(Phase::Jobs, seconds(161), None).is_some());
        assert_eq!(Usual::of(folder.path(), 70).too_long(Phase::Jobs, seconds(161), None), None);
    }
}
