//! `mount` and `umount` of a drive that a board shows, which the worker's kernel does not know, and of what the worker exports by NFS, which
//! that kernel may have no client of; for anything else, the worker's own.
//!
//! A drive is a folder ([`crate::daplink`]), and mounting it is a bind mount. So it is of an export of the worker's own server, once that has
//! said that it is one. Messages and exit codes are those
//! of util-linux 2.38 (`sys-utils/mount.c`, `libmount/src/context_mount.c`), tried with Debian 12's, and of nfs-utils 2.6
//! (`utils/mount/error.c`).

use std::fs;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, umount};

use super::usb::Device;
use super::{Called, Tool, caller, system_says};
use crate::daplink;
use crate::net::{FetchError, nfs};
use crate::peripheral::Identity;

/// The tool.
pub const TOOL: Tool = Tool { names: &["mount", "umount"], run };

/// Where the worker has the drives of boards.
const DISKS: &str = "/dev/disk/";

/// Exit code of a mount or umount that failed.
const FAILED: u8 = 32;

fn run(called: Called) -> Result<u8, String> {
    let args: Vec<&str> = called.args.iter().map(String::as_str).collect();
    match (called.name, args.as_slice()) {
        ("mount", ["-t", "vfat", device, target] | [device, target]) if device.starts_with(DISKS) => {
            mounts(called, device, target)
        }
        ("mount", ["-t", "nfs", export, target]) => mounts_export(called, export, target),
        ("umount", [target]) => match mounted(target) {
            Some((target, folder)) => unmounts(called, (&target, &folder)),
            None if target.starts_with(DISKS) => {
                let _ = writeln!(called.err, "umount: {target}: no mount point specified.");
                Ok(FAILED)
            }
            None => own(called),
        },
        _ => own(called),
    }
}

/// The program that the worker has itself.
fn own(called: Called) -> Result<u8, String> {
    let path = Path::new("/usr/bin").join(called.name);
    let error = Command::new(&path).args(called.args).exec();
    Err(format!("could not run {}: {error}", path.display()))
}

fn mounts(called: Called, device: &str, target: &str) -> Result<u8, String> {
    let identity = Identity { disk: Some(device.to_owned()), ..Identity::default() };
    let found = Device::note(&called, &identity).map_err(|error| error.to_string())?;
    let refused = |called: Called, why: String| {
        let _ = writeln!(called.err, "mount: {target}: {why}");
        Ok(FAILED)
    };
    let Some(found) = found.into_iter().next() else {
        return refused(called, format!("special device {device} does not exist."));
    };
    if !Path::new(target).is_dir() {
        return refused(called, "mount point does not exist.".into());
    }
    let folder = Path::new(daplink::FOLDER).join(&found.board);
    let none = None::<&str>;
    match nix::mount::mount(Some(&folder), target, none, MsFlags::MS_BIND, none) {
        Ok(()) => Ok(0),
        Err(error) => refused(called, format!("mount(2) system call failed: {}.", error.desc())),
    }
}

/// Mounts `SERVER:/PATH`, of a server that is this worker itself.
fn mounts_export(called: Called, export: &str, target: &str) -> Result<u8, String> {
    caller::board(&called).map_err(|error| error.to_string())?;
    let refused = |called: Called, why: String| {
        let _ = writeln!(called.err, "mount.nfs: {why}");
        Ok(FAILED)
    };
    let Some((server, path)) = export.split_once(':') else {
        return refused(called, "remote share not in 'host:dir' format".to_owned());
    };
    let mut addresses = match (server, 0).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(_) => {
            return refused(called, format!("Failed to resolve server {server}: Name or service not known"));
        }
    };
    // Only of its own addresses it can have a port.
    if !addresses.any(|address| TcpListener::bind(address).is_ok()) {
        return Err(format!("mount: {server} is another machine, of which no export can be mounted here"));
    }
    if !Path::new(target).is_dir() {
        return refused(called, format!("mount point {target} does not exist"));
    }
    let asked = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = asked.map_err(|error| error.to_string())?.block_on(nfs::is_exported(server, path));
    match asked {
        Ok(()) => {}
        Err(FetchError::NotFound(_)) => {
            let why = "reason given by server: No such file or directory";
            return refused(called, format!("mounting {export} failed, {why}"));
        }
        Err(FetchError::Timeout(_)) => {
            return refused(called, format!("Connection timed out for {export} on {target}"));
        }
        Err(_) => return refused(called, format!("access denied by server while mounting {export}")),
    }
    let none = None::<&str>;
    match nix::mount::mount(Some(path), target, none, MsFlags::MS_BIND, none) {
        Ok(()) => Ok(0),
        Err(error) => refused(called, error.desc().to_owned()),
    }
}

fn unmounts(called: Called, (target, folder): (&Path, &Path)) -> Result<u8, String> {
    match umount(target) {
        Ok(()) => {
            // Who has unmounted it has seen it as it is: a probe that has programmed what was copied there goes on.
            let _ = fs::read_dir(folder);
            Ok(0)
        }
        Err(error) => {
            let why = system_says(&error.into());
            let _ = writeln!(called.err, "umount: {}: {why}", target.display());
            Ok(FAILED)
        }
    }
}

/// Where the drive that `name` is, or that is mounted at `name`, is mounted, and the folder that it is.
fn mounted(name: &str) -> Option<(PathBuf, PathBuf)> {
    mounted_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, name)
}

/// The same by the text of `mountinfo` (`proc_pid_mountinfo(5)`): the fourth word is what of its file system is
/// mounted, the fifth where.
fn mounted_in(mounts: &str, name: &str) -> Option<(PathBuf, PathBuf)> {
    let drive = |line: &str| {
        let mut words = line.split(' ').skip(3);
        let (what, at) = (words.next()?, words.next()?);
        let (before, board) = what.rsplit_once('/')?;
        // The folder may lie in a file system of its own, whose root is not ours.
        let is_drive = Path::new(daplink::FOLDER).ends_with(before.trim_start_matches('/'))
            && before.ends_with("drives");
        let meant = at == name || name.starts_with(DISKS) && name.ends_with(&format!("_{board}-0:0"));
        (is_drive && meant).then(|| (PathBuf::from(at), Path::new(daplink::FOLDER).join(board)))
    };
    mounts.lines().rev().find_map(drive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_found_by_its_device_and_by_where_it_is_mounted() {
        let mounts = "\
21 1 0:20 / / rw,relatime - overlay overlay rw
40 21 0:31 / /run rw - tmpfs tmpfs rw
41 21 0:31 /ghost/drives/b-01 /var/lib/lava/dispatcher/tmp/1/flash rw - tmpfs tmpfs rw
42 21 0:20 /run/ghost/drives/b-02 /mnt/V2M rw - overlay overlay rw
43 21 0:20 /srv/drives/b-03 /mnt/other rw - overlay overlay rw
";
        let at = |name: &str| mounted_in(mounts, name).map(|(path, _)| path.display().to_string());
        assert_eq!(
            at("/dev/disk/by-id/usb-MBED_VFS_b-01-0:0").as_deref(),
            Some("/var/lib/lava/dispatcher/tmp/1/flash")
        );
        assert_eq!(at("/mnt/V2M").as_deref(), Some("/mnt/V2M"));
        for not in ["/mnt/other", "/dev/disk/by-id/usb-MBED_VFS_b-04-0:0", "/"] {
            assert_eq!(at(not), None, "{not}");
        }
    }
}
