//! What answers adb in the userland of a board that has booted: Android's `adbd`.
//!
//! It is played from outside. The tool runs what it is to run itself ([`crate::tools::adb`]), and asks for what it needs for that:
//!
//! | request | answer |
//! |---|---|
//! | `shell` | the userland's PID 1, as the worker knows it |
//! | `push`, a path of the worker's and one of the board's, a line each | how many files were copied |
//! | `reboot:`, `reboot:bootloader` | nothing; the board is reset |
//!
//! Services and their names are those of adbd (`daemon/services.cpp` in Android's `system/core/adb`).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Component, Path, PathBuf};

use tokio::sync::oneshot;

use super::{blocking, root};
use crate::ledger::Ledger;
use crate::machine::Reason;
use crate::peripheral::{Answer, Bus, Mode};

/// Answers from when the userland has begun, and told its PID 1, until somebody has the board reset; for what.
pub(super) async fn serve(bus: Bus, ledger: Ledger, begins: oneshot::Receiver<i32>) -> Option<Reason> {
    let Some(pid) = begins.await.ok().filter(|_| bus.knows(Mode::Adb)) else {
        return std::future::pending().await;
    };
    let mut gadget = bus.enter(Mode::Adb);
    loop {
        let call = gadget.next().await;
        let mut words = call.command.split('\n');
        let answer = match (words.next(), words.next(), words.next()) {
            (Some("shell"), None, None) => Answer::okay(pid.to_string()),
            (Some("push"), Some(from), Some(to)) => {
                let (from, to) = (PathBuf::from(from), to.to_owned());
                let ledger = ledger.clone();
                let pushed = blocking(move || push(&ledger, pid, &from, &to)).await;
                match pushed.unwrap_or_else(|| Err("could not be copied".into())) {
                    Ok(files) => Answer::okay(files.to_string()),
                    Err(why) => Answer::fail(why),
                }
            }
            (Some("reboot:"), None, None) => {
                gadget.leave(call, Answer::okay(""));
                return None;
            }
            (Some("reboot:bootloader"), None, None) => {
                gadget.leave(call, Answer::okay(""));
                return Some(Reason::Bootloader);
            }
            _ => {
                ledger.violation("unknown-command", call.command.as_str());
                Answer::fail("closed")
            }
        };
        call.answer(answer);
    }
}

/// Copies a folder of the worker's to `to` on the board; how many files were in it, or what adbd refuses it with.
fn push(ledger: &Ledger, pid: i32, from: &Path, to: &str) -> Result<usize, String> {
    let system = PathBuf::from(format!("/proc/{pid}/root"));
    let failed = |error: io::Error| format!("could not be copied: {error}");
    // The board's root, as the worker counts users.
    let owner = fs::metadata(&system).map(|root| root.uid()).map_err(failed)?;
    let to = place(&system, from, to).inspect_err(|why| ledger.violation("push-refused", why.as_str()))?;
    let name = to.strip_prefix(&system).unwrap_or(&to).display().to_string();
    match root::folder(from, &name) {
        Ok(tree) => root::note(ledger, "pushed", String::new(), &tree),
        Err(error) => tracing::warn!(%error, folder = %from.display(), "could not read what is pushed"),
    }
    copy(from, &to, owner).map_err(failed)
}

/// Where `from` comes to lie: below `to` where that is a folder already (`do_sync_push` in adb's `client/file_sync_client.cpp`).
fn place(system: &Path, from: &Path, to: &str) -> Result<PathBuf, String> {
    let mut place = system.to_owned();
    let parts: Vec<_> = Path::new(to).components().filter(|part| *part != Component::RootDir).collect();
    for (at, part) in parts.iter().enumerate() {
        let Component::Normal(name) = part else {
            return Err(format!("remote {to}: this ghost follows no such path"));
        };
        place.push(name);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            // A link is the board's own, and could lead out of it.
            Ok(found) if found.is_symlink() => {
                return Err(format!("remote {to}: this ghost follows no links"));
            }
            Ok(_) => return Err(format!("target '{to}' is not a directory")),
            Err(_) if at + 1 == parts.len() => return Ok(place),
            Err(_) => return Err(format!("remote secure_mkdirs failed: {to}: No such file or directory")),
        }
    }
    place.push(from.file_name().unwrap_or_default());
    Ok(place)
}

/// Copies what is in `from` to `to`, which is made where it is missing.
fn copy(from: &Path, to: &Path, owner: u32) -> io::Result<usize> {
    let about = fs::metadata(from)?;
    if about.is_file() {
        fs::copy(from, to)?;
        chown(to, Some(owner), Some(owner))?;
        return Ok(1);
    }
    if !to.is_dir() {
        fs::create_dir(to)?;
        chown(to, Some(owner), Some(owner))?;
    }
    let mut files = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
            files += 1;
            continue;
        }
        files += copy(&entry.path(), &target, owner)?;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_to_lie_in_one_that_is_there_and_nothing_leads_out_of_the_board() {
        let system = tempfile::tempdir().unwrap();
        let system = system.path();
        fs::create_dir_all(system.join("data/local")).unwrap();
        symlink("/", system.join("sdcard")).unwrap();
        fs::write(system.join("data/file"), "x").unwrap();
        let found = |to| place(system, Path::new("/host/tmp"), to);
        assert_eq!(found("/data/local").unwrap(), system.join("data/local/tmp"));
        assert_eq!(found("/data/new").unwrap(), system.join("data/new"));
        assert_eq!(found("/sdcard").unwrap_err(), "remote /sdcard: this ghost follows no links");
        assert_eq!(found("/data/../..").unwrap_err(), "remote /data/../..: this ghost follows no such path");
        assert_eq!(found("/data/file").unwrap_err(), "target '/data/file' is not a directory");
        assert!(found("/no/such").unwrap_err().contains("No such file or directory"));
    }

    #[test]
    fn all_that_is_in_a_folder_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/file"), "x").unwrap();
        symlink("file", from.join("a/link")).unwrap();
        let owner = fs::metadata(&from).unwrap().uid();
        // Only root may give files away.
        assert_eq!(copy(&from, &to, owner).unwrap(), 2);
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "x");
    }
}
