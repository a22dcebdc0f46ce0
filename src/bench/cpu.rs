//! Whose processor time was whose.
//!
//! Every process tells what it has spent, and what its children spent that it has waited
//! for. So the time of a process that is gone is found at its parent, and the kernel has
//! nothing to sample: a job's `lava-run`, and all that it calls, is in lava-worker's
//! count of its children; a board's userland is in the ghost daemon's. LAVA waits for
//! `ghost power` and the tools, too, so these write down themselves what they spent
//! ([`meta_lava_ghost::control::Account`]), and it is taken away from LAVA's.
//!
//! The engine counts each container as a whole. What its processes do not explain is
//! shown as [`Part::Rest`]: commands run in it from outside that have ended, and the
//! rounding of the kernel's clock.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use procfs::FromRead;
use procfs::process::Stat;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::stack::docker::Engine;
use crate::stack::docker::objects::Container;

/// The kernel's clock in `/proc`: hundredths of a second on every machine (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Prints what a container knows: its services, what tools have written down, the
/// machine's clock, and all processes. Builtins of the shell, as far as they go.
const PROBE: &str = "cd /run/meta-lava/pid 2>/dev/null && for f in *; do read -r p <$f && echo \"service $f $p\"; done\n\
                     read -r machine </proc/stat && echo \"machine $machine\"\n\
                     while read -r spent; do echo \"tool $spent\"; done 2>/dev/null </run/ghost/tools.cpu\n\
                     cat /proc/[0-9]*/stat 2>/dev/null; true";

/// Makes the file that tools of the ghosts write to.
const ACCOUNT: &str = "mkdir -p /run/ghost && : >/run/ghost/tools.cpu";

/// Whose time it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "whose", content = "name")]
pub enum Part {
    /// lava-run and what it calls: telnet, tar, mkimage, ... Without the ghosts' tools.
    LavaRun,
    /// A service of LAVA's, and what it waited for.
    Lava(String),
    /// A file server of the worker's, of the kind that every lab has.
    Servers(String),
    /// The daemon that plays the boards.
    GhostDaemon,
    /// What ran on the boards: their userland.
    Userland,
    /// `ghost power` and the tools that LAVA calls.
    GhostTools,
    /// What LAVA downloads from.
    World,
    /// What the harness keeps running in a container, such as `ghost collect`.
    HarnessInside,
    /// What the processes of a container do not explain.
    Rest,
}

/// What one container has spent up to now.
#[derive(Debug, Clone, Default)]
struct Count {
    /// Seconds by part.
    parts: BTreeMap<Part, f64>,
    /// Seconds of all of it, as the engine counts.
    total: f64,
}

/// What all containers have spent up to now, and their machine.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    containers: BTreeMap<String, Count>,
    machine: Machine,
    harness: f64,
    here: Here,
}

/// What this machine's processes have spent up to now that are in no container, where the
/// engine is on it, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Here {
    engine: f64,
    kernel: f64,
    others: f64,
}

/// What the engine's machine did up to now, in seconds of one processor.
#[derive(Debug, Clone, Copy, Default)]
struct Machine {
    busy: f64,
    idle: f64,
    stolen: f64,
}

/// Processor time between two snapshots, in seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Spent {
    /// By part, in all containers.
    #[serde(serialize_with = "as_list")]
    pub parts: BTreeMap<Part, f64>,
    /// This process, and what it has waited for.
    pub harness: f64,
    /// The engine itself, as far as it is on this machine: its daemons, and the file system
    /// of its containers where that is a process.
    pub engine: f64,
    /// The kernel's own threads, as far as they are on this machine.
    pub kernel: f64,
    /// What else runs on this machine.
    pub others: f64,
    /// What the engine's machine did that is in none of the above: interrupts, processes
    /// that nobody waited for, and all that runs there where it is not this machine.
    pub elsewhere: f64,
    /// The engine's machine did nothing.
    pub idle: f64,
    /// A hypervisor gave the time to somebody else.
    pub stolen: f64,
}

fn as_list<S: serde::Serializer>(parts: &BTreeMap<Part, f64>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Entry<'a> {
        #[serde(flatten)]
        part: &'a Part,
        seconds: f64,
    }
    to.collect_seq(parts.iter().map(|(part, seconds)| Entry { part, seconds: *seconds }))
}

impl Spent {
    /// Seconds of the parts that `is` chooses.
    pub fn sum(&self, is: impl Fn(&Part) -> bool) -> f64 {
        self.parts.iter().filter(|(part, _)| is(part)).map(|(_, seconds)| seconds).sum()
    }

    /// LAVA's own: its services, its jobs, and the servers that each lab has.
    #[must_use]
    pub fn lava(&self) -> f64 {
        self.sum(|part| matches!(part, Part::LavaRun | Part::Lava(_) | Part::Servers(_)))
    }

    /// The boards'.
    #[must_use]
    pub fn ghosts(&self) -> f64 {
        self.sum(|part| matches!(part, Part::GhostDaemon | Part::Userland | Part::GhostTools))
    }

    /// The harness's: this process, what it runs in containers, and the world.
    #[must_use]
    pub fn harness(&self) -> f64 {
        self.harness + self.sum(|part| matches!(part, Part::HarnessInside | Part::World))
    }
}

/// What this process has spent, and what it has waited for.
#[must_use]
pub fn own() -> Duration {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok())
        .map(|used| (used.user_time() + used.system_time()).num_microseconds())
        .map(|micros| Duration::from_micros(micros.unsigned_abs()))
        .sum()
}

/// Has the ghosts' tools write down what they spend, from now on.
///
/// # Errors
/// [`Error::Infrastructure`] when a worker does not take the command.
pub async fn account(engine: &Engine, containers: &[Container]) -> Result<()> {
    for worker in containers.iter().filter(|container| container.service == "worker") {
        engine.exec(&worker.id, &["sh", "-c", ACCOUNT], None).await?.success("counting tools")?;
    }
    Ok(())
}

/// Counts now.
///
/// # Errors
/// [`Error::Infrastructure`] when a container can't be asked.
pub async fn snapshot(engine: &Engine, containers: &[Container]) -> Result<Snapshot> {
    let counts = try_join_all(containers.iter().map(|container| async {
        let probe = async {
            let output = engine.exec(&container.id, &["sh", "-c", PROBE], None).await?;
            Ok::<_, Error>(output.success("reading /proc of a container")?.stdout)
        };
        let (probed, total) = tokio::try_join!(probe, engine.cpu_time(&container.id))?;
        let (parts, machine) = read(&container.service, &String::from_utf8_lossy(&probed));
        Ok::<_, Error>((container.name.clone(), Count { parts, total: total.as_secs_f64() }, machine))
    }))
    .await?;
    let machine = counts.iter().find_map(|(_, _, machine)| *machine).unwrap_or_default();
    let containers = counts.into_iter().map(|(name, count, _)| (name, count)).collect();
    let here = if engine.host().is_local() { here() } else { Here::default() };
    Ok(Snapshot { containers, machine, harness: own().as_secs_f64(), here })
}

/// What this machine's processes have spent that are in no container, without this one's
/// and its children's.
fn here() -> Here {
    /// `PF_KTHREAD` of the kernel's `sched.h`.
    const KERNEL_THREAD: u32 = 0x0020_0000;
    let us = i32::try_from(std::process::id()).unwrap_or_default();
    let mut spent = Here::default();
    for one in procfs::process::all_processes().into_iter().flatten().flatten() {
        let Ok(stat) = one.stat() else { continue };
        let of_kernel = stat.flags & KERNEL_THREAD != 0;
        let (pid, process) = process(stat);
        let all = process.own + process.waited;
        match process.name.as_str() {
            // With what they call for a moment.
            "dockerd" | "containerd" => spent.engine += all,
            // A shim waits for the processes of its container, which are counted there.
            "containerd-shim" | "docker-proxy" | "fuse-overlayfs" => spent.engine += process.own,
            _ if of_kernel => spent.kernel += all,
            _ if pid == us || process.parent == us || contained(&one) => {}
            _ => spent.others += all,
        }
    }
    spent
}

/// Whether a process has another id in a PID namespace below ours, as in a container.
fn contained(process: &procfs::process::Process) -> bool {
    process.status().is_ok_and(|status| status.nspid.is_some_and(|ids| ids.len() > 1))
}

impl Snapshot {
    /// What was spent since `before`; `local` where the harness is on the engine's machine.
    #[must_use]
    pub fn since(&self, before: &Self, local: bool) -> Spent {
        let mut parts: BTreeMap<Part, f64> = BTreeMap::new();
        let mut contained = 0.0;
        for (name, now) in &self.containers {
            let none = Count::default();
            let then = before.containers.get(name).unwrap_or(&none);
            let total = now.total - then.total;
            let mut explained = 0.0;
            for (part, seconds) in &now.parts {
                let seconds = seconds - then.parts.get(part).copied().unwrap_or_default();
                *parts.entry(part.clone()).or_default() += seconds;
                explained += seconds;
            }
            *parts.entry(Part::Rest).or_default() += total - explained;
            contained += total;
        }
        let harness = self.harness - before.harness;
        let engine = self.here.engine - before.here.engine;
        let kernel = self.here.kernel - before.here.kernel;
        let others = self.here.others - before.here.others;
        let here = engine + kernel + others;
        let busy = self.machine.busy - before.machine.busy;
        Spent {
            parts,
            harness,
            engine,
            kernel,
            others,
            elsewhere: busy - contained - here - if local { harness } else { 0.0 },
            idle: self.machine.idle - before.machine.idle,
            stolen: self.machine.stolen - before.machine.stolen,
        }
    }
}

/// A process as the probe saw it.
struct Process {
    parent: i32,
    name: String,
    own: f64,
    waited: f64,
}

/// Reads what the probe printed in a container of `service`.
fn read(service: &str, text: &str) -> (BTreeMap<Part, f64>, Option<Machine>) {
    let mut services = BTreeMap::new();
    let mut processes = BTreeMap::new();
    let mut machine = None;
    let mut tools = 0.0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("service") => {
                if let (Some(name), Some(Ok(pid))) = (words.next(), words.next().map(str::parse::<i32>)) {
                    services.insert(pid, name.to_owned());
                }
            }
            Some("machine") => machine = read_machine(words.skip(1)),
            Some("tool") => tools += words.next().and_then(|spent| spent.parse().ok()).unwrap_or(0.0) / 1e6,
            _ => {
                if let Ok(stat) = Stat::from_read(line.as_bytes()) {
                    let (pid, process) = process(stat);
                    processes.insert(pid, process);
                }
            }
        }
    }
    (parts(service, &services, &processes, tools), machine)
}

/// The first line of `/proc/stat`, without its name.
fn read_machine<'a>(words: impl Iterator<Item = &'a str>) -> Option<Machine> {
    let ticks: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what follows is in user and nice.
    let [user, nice, system, idle, iowait, irq, softirq, stolen] = *ticks.get(..8)? else { return None };
    let seconds = |ticks: f64| ticks / TICKS;
    Some(Machine {
        busy: seconds(user + nice + system + irq + softirq),
        idle: seconds(idle + iowait),
        stolen: seconds(stolen),
    })
}

#[allow(clippy::cast_precision_loss)] // Ticks of a run fit.
fn process(stat: Stat) -> (i32, Process) {
    let own = (stat.utime + stat.stime) as f64 / TICKS;
    let waited = (stat.cutime + stat.cstime) as f64 / TICKS;
    (stat.pid, Process { parent: stat.ppid, name: stat.comm, own, waited })
}

/// Where a process stands in its container's tree.
enum Place<'a> {
    /// It is this service's first process,
    Service(&'a str),
    /// or a descendant of it.
    Below(&'a str),
    /// It was started from outside,
    Outside,
    /// or by the container's first process.
    Init,
}

fn place<'a>(pid: i32, services: &'a BTreeMap<i32, String>, processes: &BTreeMap<i32, Process>) -> Place<'a> {
    if let Some(name) = services.get(&pid).filter(|name| *name != SUPERVISOR) {
        return Place::Service(name);
    }
    let mut at = pid;
    // A tree is not deeper than it has members, whatever a process table says.
    for _ in 0..processes.len() {
        let Some(process) = processes.get(&at) else { break };
        if process.parent == 0 {
            return if at == 1 { Place::Init } else { Place::Outside };
        }
        at = process.parent;
        if let Some(name) = services.get(&at).filter(|name| *name != SUPERVISOR) {
            return Place::Below(name);
        }
    }
    Place::Init
}

/// What starts the services; it is none.
const SUPERVISOR: &str = "supervisor";

fn parts(
    service: &str,
    services: &BTreeMap<i32, String>,
    processes: &BTreeMap<i32, Process>,
    tools: f64,
) -> BTreeMap<Part, f64> {
    let mut parts: BTreeMap<Part, f64> = BTreeMap::new();
    let mut add = |part: Part, seconds: f64| *parts.entry(part).or_default() += seconds;
    for (pid, process) in processes {
        let all = process.own + process.waited;
        match (service, place(*pid, services, processes)) {
            // A server image of another kind knows no services: by the name of the process.
            ("server", Place::Init) if services.is_empty() => add(Part::Lava(process.name.clone()), all),
            (_, Place::Outside) => add(Part::HarnessInside, all),
            ("world", _) => add(Part::World, all),
            ("worker", Place::Service("lava-worker")) => {
                add(Part::Lava("lava-worker".into()), process.own);
                add(Part::LavaRun, process.waited);
            }
            ("worker", Place::Below("lava-worker")) => add(Part::LavaRun, all),
            ("worker", Place::Service("ghost")) => {
                add(Part::GhostDaemon, process.own);
                add(Part::Userland, process.waited);
            }
            ("worker", Place::Below("ghost")) => add(Part::Userland, all),
            ("worker", Place::Service(name) | Place::Below(name)) => add(Part::Servers(name.into()), all),
            (_, Place::Service(name) | Place::Below(name)) => add(Part::Lava(name.into()), all),
            // What starts the services has imported LAVA for all of them.
            ("server", Place::Init) => add(Part::Lava("imports".into()), process.own),
            // Processes that lose their parent are lava-run's, which does not wait for the server of
            // forks that Python 3.14 starts its log's sender by. docker-init waits for them.
            ("worker", Place::Init) if *pid == 1 => {
                add(Part::HarnessInside, process.own);
                add(Part::LavaRun, process.waited);
            }
            ("worker", Place::Init) if !services.contains_key(pid) => add(Part::LavaRun, all),
            (_, Place::Init) => add(Part::HarnessInside, process.own),
        }
    }
    if service == "worker" {
        add(Part::LavaRun, -tools);
        add(Part::GhostTools, tools);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, name: &str, parent: i32, own: u64, waited: u64) -> String {
        format!(
            "{pid} ({name}) S {parent} 1 1 0 -1 4194560 0 0 0 0 {own} 0 {waited} 0 20 0 1 0 5 1 1 1 1 1 1 1 1 0 0 0 0 0 0 \
             0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        )
    }

    fn worker() -> String {
        [
            "service ghost 30\nservice lava-worker 20\nservice tftp 40\nservice supervisor 7\n".to_owned(),
            "machine cpu 100 200 300 4000 50 6 7 8 9 9\ntool 1500000\ntool 500000\n".to_owned(),
            stat(1, "docker-init", 0, 1, 500),
            stat(7, "python3 (x) y", 1, 10, 30),
            stat(20, "lava-worker", 7, 100, 2000),
            stat(21, "lava-run", 20, 300, 40),
            stat(22, "telnet", 21, 5, 0),
            stat(30, "ghost", 7, 70, 600),
            stat(31, "init", 30, 20, 10),
            stat(40, "in.tftpd", 7, 0, 11),
            stat(50, "ghost", 0, 12, 0),
            stat(60, "python3", 1, 25, 5),
        ]
        .concat()
    }

    #[test]
    fn each_process_and_all_that_were_waited_for_are_somebodys() {
        let (parts, machine) = read("worker", &worker());
        let expected: BTreeMap<Part, f64> = [
            (Part::LavaRun, 20.0 + 3.4 + 0.05 + 5.0 + 0.3 - 2.0),
            (Part::Lava("lava-worker".into()), 1.0),
            (Part::Servers("tftp".into()), 0.11),
            (Part::GhostDaemon, 0.7),
            (Part::Userland, 6.3),
            (Part::GhostTools, 2.0),
            (Part::HarnessInside, 0.12 + 0.11),
        ]
        .into();
        assert_eq!(parts.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (part, seconds) in expected {
            assert!((parts[&part] - seconds).abs() < 1e-9, "{part:?}: {} and not {seconds}", parts[&part]);
        }
        let machine = machine.unwrap();
        assert!((machine.busy - 6.13).abs() < 1e-9 && (machine.idle - 40.5).abs() < 1e-9);
    }

    #[test]
    fn a_server_without_known_services_is_told_by_its_processes_names() {
        let text =
            [stat(1, "tini", 0, 0, 0), stat(5, "postgres", 1, 100, 50), stat(6, "gunicorn3", 5, 10, 0)];
        let (parts, machine) = read("server", &text.concat());
        assert_eq!(parts[&Part::Lava("postgres".into())], 1.5);
        assert_eq!(parts[&Part::Lava("gunicorn3".into())], 0.1);
        assert!(machine.is_none());
    }

    #[test]
    fn what_no_process_explains_is_the_rest_and_what_no_container_has_is_elsewhere() {
        let at = |total, run, busy, harness| Snapshot {
            containers: [("w".to_owned(), Count { parts: [(Part::LavaRun, run)].into(), total })].into(),
            machine: Machine { busy, idle: busy, stolen: 0.0 },
            harness,
            here: Here { engine: harness, kernel: 2.0 * harness, others: 3.0 * harness },
        };
        let spent = at(20.0, 17.0, 50.0, 3.0).since(&at(10.0, 8.0, 20.0, 1.0), true);
        assert_eq!((spent.parts[&Part::LavaRun], spent.parts[&Part::Rest]), (9.0, 1.0));
        assert_eq!((spent.harness, spent.engine, spent.kernel, spent.others), (2.0, 2.0, 4.0, 6.0));
        assert_eq!((spent.elsewhere, spent.idle), (6.0, 30.0));
        assert_eq!(spent.lava(), 9.0);
    }

    #[test]
    fn rubbish_is_nobodys() {
        for text in ["", "machine", "service x y\ntool z\n1 (", "1 (a) S", &stat(1, "loop", 1, 5, 5)] {
            let (parts, _) = read("worker", text);
            assert!(parts.values().all(|seconds| seconds.abs() < 1.0), "{text}");
        }
    }
}
