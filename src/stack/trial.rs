//! Whether an engine bears what a run asks of it: tried with the smallest container, which is
//! allowed what the topology allows a worker. Its image is our own executable and nothing else,
//! so that it takes no image and no network.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use meta_lava_ghost::trial::{Finding, What};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::stack::compose_file;
use crate::stack::docker::Engine;
use crate::stack::docker::archive::{Archive, Owner};
use crate::stack::docker::trial::Smallest;
use crate::stack::images::executable;
use crate::stack::sweep::{self, Purpose};

/// Where the container writes what it found: the worker's nameless volume, which the archive
/// API has to reach in a run too.
const REPORT: &str = "/var/lib/ghost/trial.json";
/// How long the container may take to end.
const END: Duration = Duration::from_secs(60);

/// What compose.yaml allows a worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Allowed {
    /// Capabilities.
    pub cap_add: Vec<String>,
    /// What of the engine's confinement is lifted.
    pub security_opt: Vec<String>,
    /// Folders in memory, with their options behind a colon.
    pub tmpfs: Vec<String>,
    /// Nameless volumes.
    pub volumes: Vec<String>,
    /// Most processes.
    pub pids_limit: i64,
    /// Whether the engine's own init is PID 1.
    pub init: bool,
}

/// What a worker is allowed by the topology below `root`.
///
/// # Errors
/// [`Error::Usage`] when it does not say.
pub fn allowed(root: &Path) -> Result<Allowed> {
    let path = compose_file(root);
    let failed = |why: String| Error::Usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let mut file: serde_yaml::Value =
        serde_yaml::from_str(&text).map_err(|error| failed(error.to_string()))?;
    file.apply_merge().map_err(|error| failed(error.to_string()))?;
    let worker = file.get("services").and_then(|services| services.get("worker")).cloned();
    serde_yaml::from_value(worker.unwrap_or_default())
        .map_err(|error| failed(format!("services: worker: {error}")))
}

/// Tries it. Whatever becomes of it, [`sweep::sweep_run`] of `run` removes what it made.
///
/// # Errors
/// [`Error::Infrastructure`] when the engine could not start such a container.
pub async fn run(engine: &Engine, root: &Path, run: &str, architecture: &str) -> Result<Vec<Finding>> {
    let allowed = allowed(root)?;
    let executable = executable::bytes(architecture)?;
    let mut archive = Archive::new();
    archive.file("ghost", 0o755, Owner::default(), &executable)?;
    archive.folder("tmp", 0o1777, Owner::default())?;
    let labels: HashMap<String, String> = sweep::labels(run, Purpose::Run).into_iter().collect();
    let smallest = Smallest {
        image: format!("{}:{run}", sweep::TRIAL),
        tar: archive.finish()?,
        command: ["/ghost", "trial", "--report", REPORT].map(str::to_owned).into(),
        labels,
    };
    let report = engine.try_smallest(smallest, &allowed, REPORT, END).await?;
    serde_json::from_slice(&report)
        .map_err(|error| Error::infrastructure(format!("the trial container's report: {error}")))
}

/// What follows when something does not work.
#[must_use]
pub fn consequence(finding: &Finding) -> Option<String> {
    let why = finding.error.as_ref()?;
    Some(match finding.what {
        What::Folder => format!(
            "a worker's tmpfs does not take device files and programs ({why}): LAVA could not unpack root file \
             systems there"
        ),
        What::Handles => format!(
            "a container can't open files by handle ({why}): nfs-ganesha would refuse every board that boots over \
             NFS. It takes DAC_READ_SEARCH on the machine itself, which no container of a rootless engine or of \
             one with userns-remap has"
        ),
        What::Userland => {
            format!("a board's userland can't be started ({why}): no board would come to its shell")
        }
        What::Ids => format!(
            "no user namespaces for the boards ({why}): a board's root is the container's, and nothing limits its \
             processes; see /proc/sys/user/max_user_namespaces"
        ),
    })
}

/// Whether a run can do without it.
#[must_use]
pub fn is_needed(finding: &Finding) -> bool {
    finding.what != What::Ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_is_allowed_is_read_from_the_topology_itself() {
        let allowed = allowed(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(allowed.cap_add, ["SYS_ADMIN", "DAC_READ_SEARCH", "SYS_BOOT"]);
        assert_eq!(allowed.security_opt, ["apparmor:unconfined"]);
        assert!(allowed.init);
        let folder = meta_lava_ghost::trial::folder().display().to_string();
        assert!(
            allowed.tmpfs.iter().any(|tmpfs| tmpfs.starts_with(&format!("{folder}:"))),
            "{:?}",
            allowed.tmpfs
        );
        assert!(allowed.volumes.iter().any(|volume| REPORT.starts_with(volume)), "{:?}", allowed.volumes);
    }

    #[test]
    fn what_does_not_work_is_told_with_what_follows() {
        let finding = |what, error: Option<&str>| Finding { what, error: error.map(str::to_owned) };
        assert_eq!(consequence(&finding(What::Handles, None)), None);
        let text = consequence(&finding(What::Handles, Some("open_by_handle_at: EPERM"))).unwrap();
        assert!(text.contains("EPERM") && text.contains("NFS"), "{text}");
        assert!(is_needed(&finding(What::Userland, Some("x"))));
        assert!(!is_needed(&finding(What::Ids, Some("x"))));
    }
}
