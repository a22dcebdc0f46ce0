//! Whose job a tool was called for that names no board: that of the `lava-run` which called it. And who is at the other
//! end of a connection that one has opened itself.
//!
//! `lava-run` calls itself `lava-run [job: N]` (`setproctitle` in `lava/dispatcher/lava-run`), and its worker has put the job's device
//! beside the job (`create_environ` in `lava_dispatcher/worker.py`). There the commands of the board have its name.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use procfs::process::{FDTarget, Process};

use super::Called;
use crate::control::Request;

/// Where a worker keeps its jobs (`WORKER_DIR` in `lava_common/constants.py`).
const JOBS: &str = "/var/lib/lava/dispatcher/worker/tmp";

/// More ancestors than a tool of LAVA's has.
const ANCESTORS: usize = 32;

/// The board of the job that `called` the tool, with which the call is noted; none where no job has.
///
/// # Errors
/// When the daemon does not answer, or what a fault of the board's says.
pub(super) fn board(called: &Called) -> io::Result<Option<String>> {
    called.note(&Request::Called {
        tool: called.name.to_owned(),
        args: called.args.to_vec(),
        device: own_device(),
    })
}

/// The text of the device whose job has called this process; none where no job has.
pub(super) fn own_device() -> Option<String> {
    caller(std::process::id())?.device()
}

/// A job of LAVA's, as its worker keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// LAVA's id of it.
    pub(crate) id: String,
    /// The folder with its definition and its device.
    folder: PathBuf,
}

impl Job {
    /// What it is in its group, if it is one of several.
    pub(crate) fn role(&self) -> Option<String> {
        role(&fs::read_to_string(self.folder.join("job.yaml")).ok()?)
    }

    fn device(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("device.yaml")).ok()
    }
}

/// What a job with this `definition` is in its group (`split_multinode_yaml` in `lava_scheduler_app/utils.py`).
fn role(definition: &str) -> Option<String> {
    let definition: serde_yaml::Value = serde_yaml::from_str(definition).ok()?;
    definition.get("protocols")?.get("lava-multinode")?.get("role")?.as_str().map(str::to_owned)
}

/// The text of the device whose job has opened the connection from `client` to `server`; see [`job_at`].
pub(crate) fn device_at(client: SocketAddr, server: SocketAddr) -> Option<String> {
    job_at(client, server)?.device()
}

/// The job that has opened the connection from `client` to `server`, both of this machine; none where no
/// job has. The client is to have it open as long as this looks.
pub(crate) fn job_at(client: SocketAddr, server: SocketAddr) -> Option<Job> {
    let sockets = procfs::net::tcp().ok()?;
    let ends = |entry: &&procfs::net::TcpNetEntry| {
        (entry.local_address, entry.remote_address) == (client, server) && entry.inode != 0
    };
    let inode = sockets.iter().find(ends)?.inode;
    let has = |process: &Process| {
        let mut open = process.fd().into_iter().flatten().flatten();
        open.any(|file| file.target == FDTarget::Socket(inode))
    };
    let process = procfs::process::all_processes().ok()?.flatten().find(has)?;
    caller(u32::try_from(process.pid()).ok()?)
}

/// The job that is, or has called, `process`; none where no job has.
fn caller(mut process: u32) -> Option<Job> {
    for _ in 0..ANCESTORS {
        let folder = PathBuf::from(format!("/proc/{process}"));
        if let Some(id) = fs::read(folder.join("cmdline")).ok().and_then(|title| job(&title)) {
            let folder = Path::new(JOBS).join(&id);
            return Some(Job { id, folder });
        }
        process = parent(&fs::read_to_string(folder.join("stat")).ok()?)?;
    }
    None
}

/// The job of a process that calls itself so.
fn job(title: &[u8]) -> Option<String> {
    let title = String::from_utf8_lossy(title);
    let job = title.strip_prefix("lava-run [job: ")?.split(']').next()?;
    (!job.is_empty() && job.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')).then(|| job.to_owned())
}

/// The parent of a process by its `stat` (proc(5)): the second field behind its name, which may have blanks and brackets.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_known_by_the_title_of_its_process() {
        assert_eq!(job(b"lava-run [job: 42]\0\0\0").as_deref(), Some("42"));
        for other in ["lava-run", "bash\0-c\0lava-run [job: 42]", "lava-run [job: ../x]", "lava-run [job: ]"]
        {
            assert_eq!(job(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_a_job_is_in_its_group_stands_in_its_definition() {
        let of = |definition| role(definition);
        assert_eq!(of("protocols: {lava-multinode: {role: guest, sub_id: 1}}").as_deref(), Some("guest"));
        for other in ["actions: []", "protocols: {lava-multinode: {}}", "["] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn the_parent_stands_behind_the_name_whatever_that_is() {
        assert_eq!(parent("7 (a) b) S 42 7 7"), Some(42));
        assert_eq!(parent("7 (init) S 1 7 7"), None);
        assert_eq!(parent(""), None);
    }
}
