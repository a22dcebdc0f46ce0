//! Whether boards can be played where this runs: `ghost trial`, in a container that is allowed
//! what a worker's is. It does what a board's userland and the servers beside it need, for real.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use meta_lava_formats::tree::Tree;
use nix::libc;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statvfs::{FsFlags, statvfs};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::console::Console;
use crate::ledger::Ledger;
use crate::linux::sandbox::{self, Clock, End, Init, NamedBy, Userland};

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Device files and programs in the worker's folder for jobs.
    Folder,
    /// Files opened by handle, as nfs-ganesha does.
    Handles,
    /// A board's userland: namespaces, its file systems, and `reboot`.
    Userland,
    /// User ids of the board's own.
    Ids,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was tried.
    pub what: What,
    /// Why it does not work.
    pub error: Option<String>,
}

/// What a board's own init says when it has user ids of its own.
const OWN_IDS: &str = "user ids of its own";

/// Tries all; `folder` is where LAVA unpacks root file systems.
pub async fn run(folder: &Path) -> Vec<Finding> {
    let finding = |what, tried: Result<(), String>| Finding { what, error: tried.err() };
    let mut findings = vec![finding(What::Folder, devices(folder)), finding(What::Handles, handles(folder))];
    match userland(folder).await {
        Err(why) => findings.push(finding(What::Userland, Err(why))),
        Ok(printed) => {
            findings.push(finding(What::Userland, Ok(())));
            let ids = if printed.contains(OWN_IDS) { Ok(()) } else { Err(printed.trim().to_owned()) };
            findings.push(finding(What::Ids, ids));
        }
    }
    findings
}

/// Says what was being done when an error came.
fn during<T>(result: Result<T, impl std::fmt::Display>, what: &str) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn devices(folder: &Path) -> Result<(), String> {
    let flags = during(statvfs(folder), &folder.display().to_string())?.flags();
    for (flag, word) in
        [(FsFlags::ST_NOEXEC, "noexec"), (FsFlags::ST_NODEV, "nodev"), (FsFlags::ST_NOSUID, "nosuid")]
    {
        if flags.contains(flag) {
            return Err(format!("{} is mounted {word}", folder.display()));
        }
    }
    let path = folder.join("null");
    during(mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)), "mknod")?;
    during(fs::OpenOptions::new().write(true).open(&path), "opening a device file")?;
    during(fs::remove_file(&path), "removing a device file")
}

/// `struct file_handle`, with room for the longest.
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    handle: [u8; 128],
}

fn handles(folder: &Path) -> Result<(), String> {
    let path = folder.join("handle");
    during(fs::write(&path, "handle"), "writing a file")?;
    let name = during(CString::new(path.as_os_str().as_encoded_bytes()), "its name")?;
    let below = during(fs::File::open(folder), "opening the folder")?;
    let mut handle = Handle { bytes: 128, kind: 0, handle: [0; 128] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the name is a C string, and the kernel writes no more than `bytes` says.
    let told = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            name.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    };
    if told < 0 {
        return Err(format!("name_to_handle_at: {}", io::Error::last_os_error()));
    }
    // SAFETY: the handle is what the kernel has just written.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            below.as_raw_fd(),
            &raw mut handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    if opened < 0 {
        return Err(format!("open_by_handle_at: {}", io::Error::last_os_error()));
    }
    // SAFETY: the kernel just made it for this process.
    unsafe { libc::close(libc::c_int::try_from(opened).unwrap_or(-1)) };
    during(fs::remove_file(&path), "removing a file")
}

/// Runs this executable as a board's only program; what it printed.
async fn userland(folder: &Path) -> Result<String, String> {
    let mut tree = Tree::default();
    tree.file("ghost", 0o755, during(fs::read("/proc/self/exe"), "reading this executable")?);
    let ledger = folder.join("ledger");
    let (mut console, mut far) = Console::pipe(during(Ledger::open(&ledger), "a ledger")?);
    console.connected().await;
    let init = Init {
        path: "/ghost".into(),
        args: vec!["trial".into(), "--inside".into()],
        named_by: NamedBy::CommandLine,
    };
    let userland = Userland {
        hostname: "trial".into(),
        cmdline: "console=ttyS0".into(),
        inits: vec![init],
        prefix: String::new(),
        clock: Clock::default(),
        container: None,
        disks: Vec::new(),
    };
    let end = sandbox::run(userland, tree, None, &mut console).await;
    // Each side waits until the other has ended the connection.
    let read = async move {
        let mut printed = Vec::new();
        far.read_to_end(&mut printed).await.map(|_| printed)
    };
    let ((), printed) = tokio::join!(console.hang_up(), read);
    let printed = during(printed, "its console")?;
    let printed = String::from_utf8_lossy(&printed).replace('\r', "");
    match end {
        // Its first line is the kernel's.
        End::Reboot => Ok(printed.lines().skip(1).collect::<Vec<_>>().join("\n")),
        End::Refused(why) | End::NoInit(why) => Err(why),
        other => Err(format!("it did not reboot ({other:?}): {}", printed.trim())),
    }
}

/// What that program does in there: tells of its user ids, and reboots.
///
/// # Errors
/// When `reboot(2)` is refused.
pub fn inside() -> Result<(), String> {
    let mut map = String::new();
    during(
        fs::File::open("/proc/self/uid_map").and_then(|mut file| file.read_to_string(&mut map)),
        "its ids",
    )?;
    println!("{}", ids(&map));
    let never = during(nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT), "reboot")?;
    match never {}
}

/// In words, what a `/proc/self/uid_map` says of who root is.
fn ids(map: &str) -> String {
    match map.split_whitespace().nth(1) {
        Some("0") => "its root is the container's root".into(),
        Some(_) => OWN_IDS.into(),
        None => "its user ids are not known".into(),
    }
}

/// Where a worker's folder for jobs is.
#[must_use]
pub fn folder() -> PathBuf {
    "/var/lib/lava/dispatcher".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_whose_root_is_nobody_outside_has_ids_of_its_own() {
        assert_eq!(ids("         0 1073741824      65536\n"), OWN_IDS);
        assert!(ids("         0          0 4294967295\n").contains("container's root"));
        assert!(ids("").contains("not known"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let missing = Path::new("/nonexistent/jobs");
        assert!(devices(missing).unwrap_err().contains("/nonexistent/jobs"));
        assert!(handles(missing).is_err());
    }
}
