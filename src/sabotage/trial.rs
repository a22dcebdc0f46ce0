//! Runs scenarios under sabotages, side by side on one stack.
//!
//! A board is renewed before each job, so that nothing of the last one is left. One
//! board bears one job at a time; different boards bear different sabotages at once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::lay::Overlay;
use super::{Place, Reached, Sabotage};
use crate::error::Result;
use crate::event::Outcome;
use crate::interrupt::Interrupt;
use crate::judge::normalise::Artifacts;
use crate::lava::series::Series;
use crate::run::judge::Judge;
use crate::run::runner::{self, Ready};
use crate::run::session::{Beginning, Up};
use crate::scenario::Scenario;
use crate::stack::Stack;
use crate::stack::provision::DeviceSpec;

/// How many scenarios that must notice a sabotage are run to show it, and how many others.
const NOTICING: usize = 2;
const OTHERS: usize = 1;
/// How many times as long such a job may take as it may with LAVA as it is: how it ends is the proof.
const PATIENCE: u32 = 3;
/// How many jobs more at once where LAVA only waits.
const WAITING: usize = 36;

/// Tag of scenarios that LAVA refuses: they go through too little of it to show a sabotage.
const REFUSED: &str = "refused";

/// Whether LAVA refuses the job of `scenario`.
#[must_use]
pub fn is_refused(scenario: &Scenario) -> bool {
    scenario.tags.iter().any(|tag| tag == REFUSED)
}

/// Tag of scenarios that are there for one feature or one failure: sabotages are shown with whole
/// jobs, of which it is plain which must notice them, unless one says itself what it is to be run
/// with. Mutants know by the traces, and use all.
const FEATURE: &str = "feature";

fn is_of_a_feature(scenario: &Scenario) -> bool {
    scenario.tags.iter().any(|tag| tag == FEATURE)
}

/// Name of what has no sabotage: LAVA as it is.
pub const CONTROL: &str = "as-it-is";

/// Runs scenarios under sabotages on a stack, many at once.
#[derive(Clone)]
pub struct Scheduler {
    /// What lays the sabotages over.
    pub overlay: Arc<Overlay>,
    stack: Arc<Stack>,
    devices: Arc<Vec<DeviceSpec>>,
    artifacts: Artifacts,
    root: PathBuf,
    /// The report's folder; what came back under a sabotage is in a folder of its name.
    report: PathBuf,
    interrupt: Interrupt,
    at_once: usize,
}

/// A scenario under a sabotage.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The sabotage; none for LAVA as it is.
    pub sabotage: Option<Arc<Sabotage>>,
    /// The scenario.
    pub ready: Ready,
}

impl Trial {
    /// Whether LAVA waits for its own timeouts in it.
    fn is_slow(&self) -> bool {
        self.sabotage
            .as_ref()
            .is_some_and(|sabotage| sabotage.slow && sabotage.must_notice(&self.ready.scenario))
    }

    fn folder(&self) -> &str {
        self.sabotage.as_ref().map_or(CONTROL, |sabotage| &sabotage.name)
    }
}

impl Scheduler {
    /// On a stack that is up.
    ///
    /// # Errors
    /// See [`Overlay::new`].
    pub async fn open(up: &Up, run: &Beginning, at_once: usize) -> Result<Self> {
        Ok(Self {
            overlay: Arc::new(Overlay::new(Arc::clone(&up.stack)).await?),
            stack: Arc::clone(&up.stack),
            devices: Arc::new(up.lab.devices.clone()),
            artifacts: up.artifacts.clone(),
            root: run.root.clone(),
            report: run.report.clone(),
            interrupt: run.interrupt.clone(),
            at_once: at_once.max(1),
        })
    }

    /// Makes all that `sabotages` change for single jobs.
    ///
    /// # Errors
    /// See [`Overlay::prepare`].
    pub async fn prepare(&self, sabotages: &[Arc<Sabotage>]) -> Result<()> {
        let sabotages: Vec<&Sabotage> = sabotages.iter().map(AsRef::as_ref).collect();
        self.interrupt.or(self.overlay.prepare(&sabotages, &self.devices)).await
    }

    /// Changes the server for all jobs that follow.
    ///
    /// # Errors
    /// See [`Overlay::change_server`].
    pub async fn change_server(&self, sabotage: Option<&Sabotage>) -> Result<()> {
        self.interrupt.or(self.stack.guard(self.overlay.change_server(sabotage))).await
    }

    /// Has it written down which lines the server runs through, until it is changed again.
    ///
    /// # Errors
    /// See [`Overlay::trace_server`].
    pub async fn trace_server(&self) -> Result<()> {
        self.interrupt.or(self.stack.guard(self.overlay.trace_server())).await
    }

    /// Runs all `trials`, those of the longest row first as far as their boards are free;
    /// `done` is told how each ended.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`], or what broke the stack.
    pub async fn run(&self, trials: Vec<Trial>, mut done: impl FnMut(&Trial, &Outcome)) -> Result<()> {
        let mut waiting = trials;
        let mut busy: BTreeSet<String> = BTreeSet::new();
        let mut pace = Pace::default();
        let mut running = JoinSet::new();
        let mut waiting_for_lava = 0;
        loop {
            let room = |slow: bool, waiting_for_lava: usize, running: usize| {
                if slow { waiting_for_lava < WAITING } else { running - waiting_for_lava < self.at_once }
            };
            loop {
                let free = waiting.iter().enumerate().filter(|(_, trial)| {
                    !busy.contains(&trial.ready.scenario.name)
                        && room(trial.is_slow(), waiting_for_lava, running.len())
                });
                let Some(next) = pace.most_urgent(free, &waiting) else { break };
                let trial = waiting.remove(next);
                busy.insert(trial.ready.scenario.name.clone());
                waiting_for_lava += usize::from(trial.is_slow());
                let scheduler = self.clone();
                running.spawn(async move {
                    let outcome = scheduler.try_one(&trial).await;
                    (trial, outcome)
                });
            }
            let Some(joined) = running.join_next().await else { return Ok(()) };
            let (trial, outcome) = joined
                .map_err(|error| crate::error::Error::infrastructure(format!("a trial broke: {error}")))?;
            busy.remove(&trial.ready.scenario.name);
            waiting_for_lava -= usize::from(trial.is_slow());
            let outcome = outcome?;
            pace.take(&trial, outcome.seconds);
            done(&trial, &outcome);
        }
    }

    async fn try_one(&self, trial: &Trial) -> Result<Outcome> {
        let mut ready = trial.ready.clone();
        if trial.is_slow() {
            ready.scenario.timeout *= PATIENCE;
        }
        let hostnames: BTreeSet<&str> =
            ready.rendered.devices.iter().map(|device| device.hostname.as_str()).collect();
        let lay = async {
            for device in self.devices.iter().filter(|d| hostnames.contains(d.hostname.as_str())) {
                self.overlay.tell(device, trial.sabotage.as_deref()).await?;
            }
            ready.renew(&self.stack).await
        };
        self.interrupt.or(self.stack.guard(lay)).await?;
        let report = self.report.join(trial.folder());
        let mut judge =
            Judge::new(&self.root, Series::of(self.stack.version())?, self.artifacts.clone(), &report);
        // What a broken LAVA does is never what is expected.
        judge.pend = false;
        let stack = Arc::clone(&self.stack);
        runner::run_one(ready, stack, Arc::new(judge), &self.interrupt).await
    }
}

/// How long scenarios take, as far as it has been seen: those of one scenario come one after the other, so that the
/// longest such row decides when all is over.
#[derive(Default)]
struct Pace(BTreeMap<String, f64>);

/// What a trial is taken to last before one of its scenario has been seen, in seconds.
const USUAL: f64 = 15.0;

impl Pace {
    /// Which of `free`, by its place in `waiting`, is of the longest row; slow ones before all others, and of equals
    /// the first.
    fn most_urgent<'t>(
        &self,
        free: impl Iterator<Item = (usize, &'t Trial)>,
        waiting: &'t [Trial],
    ) -> Option<usize> {
        let mut rows: BTreeMap<&str, f64> = BTreeMap::new();
        for trial in waiting {
            let name = trial.ready.scenario.name.as_str();
            *rows.entry(name).or_default() += self.0.get(name).copied().unwrap_or(USUAL);
        }
        let urgency = |trial: &Trial| {
            let row = rows.get(trial.ready.scenario.name.as_str()).copied().unwrap_or_default();
            (trial.is_slow(), row)
        };
        let of_two = |best: (usize, (bool, f64)), next: (usize, (bool, f64))| {
            let order = next.1.0.cmp(&best.1.0).then(next.1.1.total_cmp(&best.1.1));
            if order.is_gt() { next } else { best }
        };
        free.map(|(at, trial)| (at, urgency(trial))).reduce(of_two).map(|(at, _)| at)
    }

    fn take(&mut self, trial: &Trial, seconds: f64) {
        // How long LAVA waits under a sabotage says nothing of the others.
        if !trial.is_slow() {
            self.0.insert(trial.ready.scenario.name.clone(), seconds);
        }
    }
}

/// LAVA as it is, for each scenario that is in one of `trials`, unless one of them is for a
/// sabotage that it must not notice: that trial asks the same of it, and more.
#[must_use]
pub fn control<'a>(trials: impl Iterator<Item = &'a Trial>) -> Vec<Trial> {
    let mut shown: BTreeMap<&str, Option<&Ready>> = BTreeMap::new();
    for Trial { sabotage, ready } in trials {
        let is_another = sabotage.as_ref().is_some_and(|sabotage| !sabotage.must_notice(&ready.scenario));
        let wanted = shown.entry(ready.scenario.name.as_str()).or_insert(Some(ready));
        if is_another {
            *wanted = None;
        }
    }
    shown.into_values().flatten().map(|ready| Trial { sabotage: None, ready: ready.clone() }).collect()
}

/// The scenarios to show each of `sabotages` with: some that must notice it and one that must not, the same
/// ones each time, of as many kinds as there are. The one that must not is, where there is one, a scenario that another
/// sabotage is shown with: what it shows of that one is then worth as much as with LAVA as it is. With `all`, all
/// of them.
#[must_use]
pub fn choose<'s>(
    sabotages: &'s [Arc<Sabotage>],
    scenarios: &[Ready],
    all: bool,
) -> Vec<(&'s Arc<Sabotage>, Vec<Trial>)> {
    let most = |most: usize| if all { usize::MAX } else { most };
    let fitting = |sabotage: &Sabotage| -> (Vec<&Ready>, Vec<&Ready>) {
        let wanted = |ready: &&Ready| {
            let scenario = &ready.scenario;
            !is_refused(scenario)
                && (sabotage.features || !is_of_a_feature(scenario))
                && sabotage.run.as_ref().is_none_or(|run| run.matches(scenario))
        };
        scenarios.iter().filter(wanted).partition(|ready| sabotage.must_notice(&ready.scenario))
    };
    let noticing = |sabotage: &'s Arc<Sabotage>| {
        let trials = some(sabotage, &fitting(sabotage).0, most(NOTICING), kind, &|_| 0).collect();
        (sabotage, trials)
    };
    let mut planned: Vec<(&Arc<Sabotage>, Vec<Trial>)> = sabotages.iter().map(noticing).collect();
    let names = planned.iter().flat_map(|(_, trials)| trials).map(|trial| trial.ready.scenario.name.clone());
    let mut uncontrolled: BTreeSet<String> = names.collect();
    for (sabotage, trials) in &mut planned {
        let others = fitting(sabotage).1;
        let rank = |name: &str| usize::from(uncontrolled.contains(name));
        let others: Vec<Trial> = some(sabotage, &others, most(OTHERS), kind, &rank).collect();
        for trial in &others {
            uncontrolled.remove(&trial.ready.scenario.name);
        }
        trials.extend(others);
    }
    planned
}

/// At most `most` trials of a sabotage by scenarios that must notice it, after the first
/// `tried` of them. Those that run through more of its lines by `reached` come first.
#[must_use]
pub fn few(
    sabotage: &Arc<Sabotage>,
    reached: &Reached,
    scenarios: &[Ready],
    tried: usize,
    most: usize,
) -> Vec<Trial> {
    let noticing: Vec<&Ready> =
        scenarios.iter().filter(|ready| sabotage.must_notice(&ready.scenario)).collect();
    // What a template says is one thing for each device-type, whatever a job does with it.
    let is_template = sabotage.change.iter().all(|change| change.place == Place::Template);
    let kind = if is_template { device_types } else { kind_or_name };
    let lines = |name: &str| reached.get(name).copied().unwrap_or(0);
    some(sabotage, &noticing, tried + most, kind, &lines).skip(tried).collect()
}

/// At most `most` of `scenarios`, by their places: first one of each kind, those of the highest `rank` before
/// others, the quick ones before the slow ones, else by a hash, so that a choice does not depend on what else
/// there is.
fn spread(salt: &str, scenarios: &[&Scenario], most: usize, kind: Kind, rank: Rank) -> Vec<usize> {
    let hash = |name: &str| meta_lava_formats::sha256(format!("{salt} {name}").as_bytes());
    let mut left: Vec<usize> = (0..scenarios.len()).collect();
    left.sort_by_cached_key(|at| {
        let scenario = scenarios[*at];
        (Reverse(rank(&scenario.name)), scenario.timeout, hash(&scenario.name))
    });
    let mut chosen = Vec::new();
    while chosen.len() < most && !left.is_empty() {
        let mut kinds: BTreeSet<String> = BTreeSet::new();
        // One of each kind in every round.
        left.retain(|at| {
            let fresh = chosen.len() < most && kinds.insert(kind(scenarios[*at]));
            if fresh {
                chosen.push(*at);
            }
            !fresh
        });
    }
    chosen
}

/// Trials of `sabotage` by some of `ready`, see [`spread`].
fn some<'r>(
    sabotage: &Arc<Sabotage>,
    ready: &[&'r Ready],
    most: usize,
    kind: Kind,
    rank: Rank,
) -> impl Iterator<Item = Trial> + use<'r> {
    let scenarios: Vec<&Scenario> = ready.iter().map(|ready| &ready.scenario).collect();
    let chosen: Vec<&Ready> =
        spread(&sabotage.name, &scenarios, most, kind, rank).into_iter().map(|at| ready[at]).collect();
    let sabotage = Arc::clone(sabotage);
    chosen.into_iter().map(move |ready| Trial { sabotage: Some(Arc::clone(&sabotage)), ready: ready.clone() })
}

/// What scenarios have in common that go the same way through LAVA.
type Kind = fn(&Scenario) -> String;

/// What is preferred, by a scenario's name.
type Rank<'a> = &'a dyn Fn(&str) -> usize;

/// [`kind`], but for scenarios that are not just a device-type: each of these is there for
/// something of its own.
fn kind_or_name(scenario: &Scenario) -> String {
    if scenario.device_types() == [scenario.name.as_str()] { kind(scenario) } else { scenario.name.clone() }
}

/// The device-types of its boards.
fn device_types(scenario: &Scenario) -> String {
    scenario.device_types().join(" ")
}

/// What makes LAVA go other ways: the boot method, and where the root comes from.
fn kind(scenario: &Scenario) -> String {
    let setting = |name: &str| {
        let text = scenario.settings().into_iter().find(|setting| setting.starts_with(&format!("{name}=")));
        text.unwrap_or_default()
    };
    let family = scenario.family.as_deref().unwrap_or(&scenario.name);
    format!("{family} {} {}", setting("root"), setting("login"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Matrix;
    use crate::scenario::tests::folder;

    #[test]
    fn some_of_each_kind_are_chosen_and_the_same_ones_whatever_else_there_is() {
        let folder = folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let all: Vec<&Scenario> = matrix.scenarios.iter().collect();
        let names = |scenarios: &[&Scenario], most| -> BTreeSet<String> {
            spread("salt", scenarios, most, kind, &|_| 0)
                .into_iter()
                .map(|at| scenarios[at].name.clone())
                .collect()
        };
        assert_eq!(names(&all, usize::MAX).len(), all.len());
        assert_eq!(names(&all, 0).len(), 0);
        let kinds: BTreeSet<String> = all.iter().map(|scenario| kind(scenario)).collect();
        let chosen: BTreeSet<String> =
            spread("salt", &all, kinds.len(), kind, &|_| 0).into_iter().map(|at| kind(all[at])).collect();
        assert_eq!(chosen, kinds);
        let few = names(&all, 2);
        let without_one: Vec<&Scenario> =
            all.iter().copied().filter(|scenario| few.contains(&scenario.name)).collect();
        assert_eq!(names(&without_one, 2), few);
        let last = names(&all, usize::MAX).pop_last().unwrap();
        let preferred = |name: &str| usize::from(name == last);
        let first = spread("salt", &all, 1, kind, &preferred);
        assert_eq!(all[first[0]].name, last);
    }
}
