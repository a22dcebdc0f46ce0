//! Whose things are these? Every object that a run makes names the run and the
//! process that owns it, so that what a killed run left is found and removed,
//! and nothing else ever is.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;

use crate::error::{Error, Result};
use crate::stack::docker::Engine;
use crate::stack::docker::objects::{Kind, Object, all};

/// Label with the name of the run; what has it is ours.
pub const RUN: &str = "meta-lava.run";
/// Label with the process that owns it, see [`Owner`].
pub const OWNER: &str = "meta-lava.owner";
/// Label with what it was made for, see [`Purpose`].
pub const PURPOSE: &str = "meta-lava.purpose";
/// Label with the time of its making, in seconds since 1970.
pub const STARTED: &str = "meta-lava.started";
/// Repository of the images that are made to try an engine; their tags are names of runs.
pub const TRIAL: &str = "meta-lava/trial";
/// Begin of the names of Compose projects and temporary folders.
pub const PREFIX: &str = "meta-lava-";
/// A run whose owner can't be looked at (another container, another machine) is
/// dead at this age: no run takes that long.
const OLD: u64 = 12 * 3600;
/// How long the Compose tool of a killed run may go on with what it was asked for.
const TOOL: Duration = Duration::from_secs(30);

/// What a stack was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A run; it ends with its process.
    Run,
    /// `meta-lava up`; it ends with `meta-lava down`.
    Up,
}

impl Purpose {
    /// As the label has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Up => "up",
        }
    }
}

/// A process, told so that another one can find out whether it still lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    boot: String,
    pid_namespace: String,
    pid: u32,
    /// In clock ticks since boot: a pid is used again, a pid at a time is not.
    started: u64,
}

/// Whether something is still in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its process lives.
    Alive,
    /// Its process is gone.
    Dead,
    /// Brought up on purpose, to stay.
    Kept,
    /// It can't be known from here.
    Unknown,
}

impl Owner {
    /// This process.
    #[must_use]
    pub fn this() -> Self {
        let pid = std::process::id();
        Self {
            boot: boot_id(),
            pid_namespace: pid_namespace(),
            pid,
            started: start_time(pid).unwrap_or_default(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let owner = Self {
            boot: parts.next()?.to_owned(),
            pid_namespace: parts.next()?.to_owned(),
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(owner)
    }

    /// Whether it lives, as far as can be told from here. `local`: its things
    /// are on this machine, so that another boot means an earlier one.
    fn state(&self, local: bool) -> State {
        if self.boot != boot_id() {
            return if local { State::Dead } else { State::Unknown };
        }
        if self.pid_namespace != pid_namespace() {
            return State::Unknown;
        }
        match start_time(self.pid) {
            Some(started) if started == self.started => State::Alive,
            _ => State::Dead,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/{}", self.boot, self.pid_namespace, self.pid, self.started)
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().replace('/', "")
}

fn pid_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// When a process was started, in ticks since boot; `None` when there is none.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have spaces and parentheses; it ends with the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A name for a run that no other one has: `20260821-150102-x7k2`, UTC.
#[must_use]
pub fn new_run_name() -> String {
    let mut random = rand::rng();
    let suffix: String =
        (0..4).map(|_| char::from(b"abcdefghijkmnpqrstuvwxyz23456789"[random.random_range(0..32)])).collect();
    format!("{}-{suffix}", timestamp(now()))
}

/// `YYYYMMDD-HHMMSS` of a time in seconds since 1970.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Howard Hinnant's civil_from_days, for dates after 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Whether `name` can be the name of a run: it becomes a Compose project and a label.
#[must_use]
pub fn is_run_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The Compose project of a run.
#[must_use]
pub fn project(run: &str) -> String {
    format!("{PREFIX}{run}")
}

/// The labels of everything that a run makes.
#[must_use]
pub fn labels(run: &str, purpose: Purpose) -> Vec<(String, String)> {
    [
        (RUN, run.to_owned()),
        (OWNER, Owner::this().to_string()),
        (PURPOSE, purpose.word().to_owned()),
        (STARTED, now().to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A temporary folder of a run, which a later sweep knows.
///
/// # Errors
/// [`Error::Infrastructure`] when it can't be made.
pub fn temporary_folder(run: &str) -> Result<tempfile::TempDir> {
    let failed = |error: std::io::Error| {
        Error::failed(format!("make a temporary folder in {}", std::env::temp_dir().display()), error)
    };
    let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{run}-")).tempdir().map_err(failed)?;
    std::fs::write(folder.path().join("owner"), Owner::this().to_string()).map_err(failed)?;
    Ok(folder)
}

/// What the engine keeps of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Name of the run.
    pub run: String,
    /// Whether it is still in use.
    pub state: State,
    /// Its things.
    pub objects: Vec<Object>,
}

/// All that runs have made and that still exists, run by run.
///
/// # Errors
/// [`Error::Infrastructure`] when the engine does not answer.
pub async fn find(engine: &Engine) -> Result<Vec<Found>> {
    let local = engine.host().is_local();
    let mut found: Vec<Found> = Vec::new();
    let (objects, images) = tokio::try_join!(engine.objects(RUN), engine.trial_images(TRIAL))?;
    for object in objects.into_iter().chain(images) {
        let run = object.labels.get(RUN).cloned().unwrap_or_default();
        match found.iter_mut().find(|found| found.run == run) {
            Some(found) => found.objects.push(object),
            None => found.push(Found { run, state: State::Unknown, objects: vec![object] }),
        }
    }
    for found in &mut found {
        // One object may lack what another has, if a making was cut short.
        let label = |key: &str| found.objects.iter().find_map(|object| object.labels.get(key).cloned());
        found.state = state(label(PURPOSE), label(OWNER), label(STARTED), local);
    }
    found.sort_by(|a, b| a.run.cmp(&b.run));
    Ok(found)
}

fn state(purpose: Option<String>, owner: Option<String>, started: Option<String>, local: bool) -> State {
    if purpose.as_deref() != Some(Purpose::Run.word()) {
        // `up`, or brought up by hand with the Compose tool.
        return State::Kept;
    }
    let state =
        owner.and_then(|owner| Owner::parse(&owner)).map_or(State::Unknown, |owner| owner.state(local));
    let age = started.and_then(|text| text.parse::<u64>().ok()).map(|started| now().saturating_sub(started));
    match state {
        State::Unknown if age.is_some_and(|age| age > OLD) => State::Dead,
        state => state,
    }
}

/// Removes what dead runs left, on the engine and in temporary folders; says
/// what, in human words.
///
/// # Errors
/// [`Error::Infrastructure`] with all that could not be removed.
pub async fn sweep_stale(engine: &Engine) -> Result<Vec<String>> {
    let mut removed = sweep_temporary(&std::env::temp_dir()).await;
    for found in find(engine).await? {
        if found.state == State::Dead {
            removed.extend(remove(engine, &found.objects).await?);
        }
    }
    Ok(removed)
}

/// Removes all that a run has made, whoever owns it.
///
/// # Errors
/// [`Error::Infrastructure`] with all that could not be removed.
pub async fn sweep_run(engine: &Engine, run: &str) -> Result<Vec<String>> {
    let label = format!("{RUN}={run}");
    let (mut objects, images) = tokio::try_join!(engine.objects(&label), engine.trial_images(TRIAL))?;
    objects.extend(images.into_iter().filter(|image| image.labels.get(RUN).is_some_and(|name| name == run)));
    remove(engine, &objects).await
}

/// What of a run still exists.
///
/// # Errors
/// [`Error::Infrastructure`] when the engine does not answer.
pub async fn leftovers(engine: &Engine, run: &str) -> Result<Vec<Object>> {
    // By our label and by the Compose tool's, which also marks what a cut-short
    // making left without ours.
    let (ours, project) = (format!("{RUN}={run}"), format!("com.docker.compose.project={}", project(run)));
    let mut objects = engine.objects(&ours).await?;
    for object in engine.objects(&project).await? {
        if !objects.iter().any(|known| known.kind == object.kind && known.id == object.id) {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Removes things: containers first, then what they held on to.
///
/// # Errors
/// [`Error::Infrastructure`] with all that could not be removed.
pub async fn remove(engine: &Engine, objects: &[Object]) -> Result<Vec<String>> {
    for kind in [Kind::Container, Kind::Network, Kind::Volume, Kind::Image] {
        let removals =
            objects.iter().filter(|object| object.kind == kind).map(|object| engine.remove(object));
        all(join_all(removals).await)?;
    }
    Ok(objects.iter().map(|object| format!("{} {}", object.kind, object.name)).collect())
}

/// Removes the temporary folders of dead runs below `folder`, once nothing works with
/// them any more. One that resists is left: it is some other user's, or will go at the
/// next reboot.
async fn sweep_temporary(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let dead: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .map(|entry| entry.path())
        .filter(is_dead_folder)
        .collect();
    outlive_tools(&dead).await;
    dead.iter()
        .filter(|path| std::fs::remove_dir_all(path).is_ok())
        .map(|path| format!("folder {}", path.display()))
        .collect()
}

/// Waits until the Compose tools that dead runs had started have ended. One that
/// starts a stack goes on with that when the run is killed, and would make things after
/// they were looked for; one that is killed in the middle leaves the engine to make them.
async fn outlive_tools(folders: &[PathBuf]) {
    let deadline = tokio::time::Instant::now() + TOOL;
    // Nobody else's end can be waited for but by asking.
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while !folders.is_empty() {
        tick.tick().await;
        let tools = tools_of(folders);
        if tools.is_empty() {
            return;
        }
        if tokio::time::Instant::now() >= deadline {
            for tool in tools {
                tracing::warn!(tool, "the Compose tool of a dead run does not end; killing it");
                let _ = kill(Pid::from_raw(tool), Signal::SIGKILL);
            }
            return;
        }
    }
}

/// Processes that were called as a Compose tool is, with a file in one of `folders`.
fn tools_of(folders: &[PathBuf]) -> Vec<i32> {
    let is_tool = |pid: &i32| {
        let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let cmdline = String::from_utf8_lossy(&cmdline);
        let ours = |word: &str| folders.iter().any(|folder| Path::new(word).starts_with(folder));
        cmdline.split('\0').any(|word| word == "--project-name") && cmdline.split('\0').any(ours)
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_tool).collect()
}

fn is_dead_folder(path: &PathBuf) -> bool {
    // Never through a link: /tmp is everyone's.
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
        && std::fs::read_to_string(path.join("owner"))
            .ok()
            .and_then(|text| Owner::parse(text.trim()))
            .is_some_and(|owner| owner.state(true) == State::Dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_another_at_its_pid_does_not() {
        let owner = Owner::this();
        assert_eq!(owner.state(true), State::Alive);
        assert_eq!(Owner::parse(&owner.to_string()), Some(owner.clone()));
        assert_eq!(Owner { started: owner.started + 1, ..owner.clone() }.state(true), State::Dead);
        let elsewhere = Owner { boot: "x".into(), ..owner.clone() };
        assert_eq!((elsewhere.state(true), elsewhere.state(false)), (State::Dead, State::Unknown));
        assert_eq!(Owner { pid_namespace: "1".into(), ..owner }.state(true), State::Unknown);
        assert_eq!(Owner::parse("a/b/c/d"), None);
        assert_eq!(Owner::parse(""), None);
    }

    #[test]
    fn stacks_that_were_brought_up_stay_and_old_riddles_go() {
        let run = || Some("run".to_owned());
        let riddle = Some(Owner { pid_namespace: "1".into(), ..Owner::this() }.to_string());
        let old = Some((now() - OLD - 1).to_string());
        assert_eq!(state(Some("up".into()), None, old.clone(), true), State::Kept);
        assert_eq!(state(None, None, None, true), State::Kept);
        assert_eq!(state(run(), riddle.clone(), Some(now().to_string()), true), State::Unknown);
        assert_eq!(state(run(), riddle, old.clone(), true), State::Dead);
        assert_eq!(state(run(), Some(Owner::this().to_string()), old, true), State::Alive);
    }

    #[test]
    fn names_are_dates_and_differ() {
        assert_eq!(timestamp(0), "19700101-000000");
        assert_eq!(timestamp(951_782_400), "20000229-000000");
        assert_eq!(timestamp(1_787_324_462), "20260821-150102");
        let (a, b) = (new_run_name(), new_run_name());
        assert_ne!(a, b);
        assert!(is_run_name(&a), "{a}");
        assert!(!is_run_name("A") && !is_run_name("") && !is_run_name("-a") && !is_run_name("a/b"));
    }

    #[tokio::test]
    async fn what_a_dead_run_has_started_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let dead = dir.path().join("meta-lava-dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join("owner"), Owner { started: 1, ..Owner::this() }.to_string()).unwrap();
        let mut tool = std::process::Command::new("sh")
            .args(["-c", "read end", "compose", "--project-name", "p", "--file"])
            .arg(dead.join("override.yaml"))
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut sweep = std::pin::pin!(sweep_temporary(dir.path()));
        assert!(futures_util::poll!(&mut sweep).is_pending());
        assert!(dead.exists());
        drop(tool.stdin.take());
        assert_eq!(sweep.await.len(), 1);
        assert!(!dead.exists());
        tool.wait().unwrap();
    }

    #[tokio::test]
    async fn only_folders_of_the_dead_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, owner: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("owner"), owner).unwrap();
        };
        let dead = Owner { started: 1, ..Owner::this() }.to_string();
        make("meta-lava-dead", &dead);
        make("meta-lava-alive", &Owner::this().to_string());
        make("meta-lava-strange", "?");
        make("other-dead", &dead);
        std::os::unix::fs::symlink(dir.path().join("other-dead"), dir.path().join("meta-lava-link")).unwrap();
        let removed = sweep_temporary(dir.path()).await;
        assert_eq!(removed.len(), 1, "{removed:?}");
        assert!(!dir.path().join("meta-lava-dead").exists());
        assert!(dir.path().join("other-dead/owner").exists());
    }
}
