//! `kill -9` at random moments: what a run leaves then is found and removed by the next
//! `clean`, or the next run, and nothing else is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::engine::{assert_nothing_left, docker, objects_of, volumes_of};
use crate::faults_in_a_stack::name_of;
use crate::repository::{QUICK, Repository};
use crate::tool::{call, meta_lava, run, start};

/// How often a run is killed, unless META_LAVA_KILLS says otherwise.
const KILLS: usize = 20;
/// Each so many-th time another run has to sweep, instead of `clean`.
const RUN_SWEEPS: usize = 5;

/// What a run was doing, by the words with which that ends.
const PHASES: [(&str, &str); 4] = [
    ("images: done", "looking for what is left, and images"),
    ("stack: done", "starting the stack"),
    ("jobs: done", "jobs"),
    ("cleanup: done", "cleaning up"),
];

/// A number that the environment may set.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Things of somebody else on the same engine, some with names and labels much like ours.
struct Bystanders {
    container: String,
    network: String,
    volume: String,
}

impl Bystanders {
    fn new() -> Self {
        let name = format!("meta-lava-bystander-{}", std::process::id());
        let image = docker(&["images", "--quiet", "meta-lava/world"]).remove(0);
        let label = "meta-lava.runner=somebody";
        let container = docker(&["create", "--name", &name, "--label", label, &image, "true"]).remove(0);
        docker(&["network", "create", "--label", label, &name]);
        docker(&["volume", "create", "--label", label, &name]);
        Self { container, network: name.clone(), volume: name }
    }

    #[track_caller]
    fn are_unharmed(&self) {
        docker(&["container", "inspect", "--format", "{{.Id}}", &self.container]);
        docker(&["network", "inspect", "--format", "{{.Id}}", &self.network]);
        docker(&["volume", "inspect", "--format", "{{.Name}}", &self.volume]);
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        for (kind, name) in
            [("container", &self.container), ("network", &self.network), ("volume", &self.volume)]
        {
            let _ = std::process::Command::new("docker").args([kind, "rm", name]).output();
        }
    }
}

#[test]
#[ignore = "takes Docker and minutes: .ci/run kills"]
fn what_a_killed_run_leaves_is_swept_and_nothing_else() {
    let seed = number("META_LAVA_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let kills = number("META_LAVA_KILLS").map_or(KILLS, |kills| kills as usize);
    println!("META_LAVA_SEED={seed} META_LAVA_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let repository = Repository::new();
    let whole = call(&mut run(&repository, &[QUICK]));
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    let bystanders = Bystanders::new();
    let mut most_left = 0;
    let mut names = Vec::new();
    let mut told = BTreeMap::new();
    for number in 1..=kills {
        let moment = Duration::from_millis(random.random_range(0..whole.took.as_millis() as u64));
        let begun = Instant::now();
        let mut process = start(&mut run(&repository, &[QUICK]));
        let name = name_of(&mut process);
        process.listen_until(begun + moment);
        let volumes = volumes_of(&name);
        process.signal(Signal::SIGKILL);
        let killed = process.end();
        let last = killed.stderr.lines().last().unwrap_or_default().to_owned();
        let phase = PHASES.iter().position(|(end, _)| !killed.stderr.contains(end)).unwrap_or(PHASES.len());
        let left = objects_of(&name).len();
        most_left = most_left.max(left);
        let (times, most) = told.entry(phase).or_insert((0, 0));
        (*times, *most) = (*times + 1, left.max(*most));
        println!("{number}: killed after {:.1} s, {left} things left, at: {last}", moment.as_secs_f64());
        let sweeper = if number % RUN_SWEEPS == 0 {
            call(&mut run(&repository, &[QUICK]))
        } else {
            call(meta_lava(&repository).arg("clean"))
        };
        assert_eq!(sweeper.code, Some(0), "{}{}", sweeper.stdout, sweeper.stderr);
        assert_nothing_left(&name, &volumes);
        assert_eq!(repository.left_temporary(), [""; 0]);
        bystanders.are_unharmed();
        names.push(name);
    }
    // Nothing came up later, by a request that the engine had from a run before its end.
    for name in &names {
        assert_nothing_left(name, &[]);
    }
    for (phase, (times, most)) in told {
        let doing = PHASES.get(phase).map_or("its last words", |(_, doing)| doing);
        println!("{times} times while {doing}: at most {most} things left, all swept");
    }
    // Else the moments were none that matter.
    assert!(most_left >= 5, "never more than {most_left} things were left");
}
