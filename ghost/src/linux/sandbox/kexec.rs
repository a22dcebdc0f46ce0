//! kexec: a kernel that is started by the one that runs, without the boot loader.
//!
//! No process of a sandbox's may call kexec_load(2), so a board's `/dev/kexec` stands in for it: what is to be loaded is written there as
//! `kernel`, `initrd`, `dtb` and `cmdline`, and where there is a `start`, reboot(2) starts it (`LINUX_REBOOT_CMD_KEXEC` in a PID namespace
//! is no reboot of that). It is a file system of its own, so that nothing in the sandbox can put another one in its place.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{MsFlags, mount};

use super::inside::{Refusal, While as _};

/// Its name in `/dev`.
const NAME: &str = "kexec";
/// Room for a kernel and its ramdisk, in bytes.
const BYTES: u64 = 64 << 20;

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub kernel: Vec<u8>,
    pub cmdline: String,
    pub initrd: Option<Vec<u8>>,
    /// The device tree, where it is not to be that of the kernel that runs.
    pub dtb: Option<Vec<u8>>,
}

/// Makes it in `dev`, for the user `root`.
pub(super) fn make(dev: &Path, root: u32) -> Result<(), Refusal> {
    let folder = dev.join(NAME);
    std::fs::create_dir(&folder).while_("/dev/kexec")?;
    let options = format!("mode=0700,size={BYTES},nr_inodes=16,uid={root},gid={root}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(NAME), &folder, Some("tmpfs"), flags, Some(options.as_str())).while_("/dev/kexec")
}

/// Whether a reboot is to start what was loaded, seen from inside.
pub(super) fn is_started() -> bool {
    Path::new("/dev").join(NAME).join("start").exists()
}

/// Reads what was loaded in the sandbox of the process `pid`, which has not ended.
pub(super) fn read(pid: u32) -> io::Result<Loaded> {
    read_in(&PathBuf::from(format!("/proc/{pid}/root/dev")).join(NAME))
}

fn read_in(folder: &Path) -> io::Result<Loaded> {
    let cmdline = file(folder, "cmdline")?.unwrap_or_default();
    Ok(Loaded {
        kernel: file(folder, "kernel")?.unwrap_or_default(),
        cmdline: String::from_utf8_lossy(&cmdline).trim().to_owned(),
        initrd: file(folder, "initrd")?,
        dtb: file(folder, "dtb")?,
    })
}

/// A file of the folder, where there is one. A link would lead out of the sandbox, and a pipe has no end.
fn file(folder: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    let opened = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("/dev/kexec/{name} is no file")));
    }
    let mut content = Vec::new();
    file.take(BYTES).read_to_end(&mut content)?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_read_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("kernel", "a kernel"), ("cmdline", "root=/dev/nfs\n")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let loaded =
            Loaded { kernel: b"a kernel".to_vec(), cmdline: "root=/dev/nfs".into(), initrd: None, dtb: None };
        assert_eq!(read_in(folder.path()).unwrap(), loaded);
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("dtb")).unwrap();
        assert!(read_in(folder.path()).is_err());
        std::fs::remove_file(folder.path().join("dtb")).unwrap();
        std::fs::create_dir(folder.path().join("initrd")).unwrap();
        assert!(read_in(folder.path()).is_err());
    }
}
