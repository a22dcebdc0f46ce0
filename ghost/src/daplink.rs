//! Drives that boards show. DAPLink: a debug probe that writes a program that is copied to its drive into its
//! board's flash. Arm's MPS boards: a card from which the board starts.
//!
//! DAPLink's `source/daplink/drag-n-drop` and `docs/MSD_COMMANDS.md`: a file that does not begin as a program
//! stays where it is; one that does is programmed, and then the drive goes and comes again, with `FAIL.TXT` on it
//! where that failed.
//!
//! The drive is a folder on the worker, which the tool `mount` shows where it is asked to. What the probe sees
//! of it are the kernel's events: a file was written, the folder was listed. A real drive has a file once the
//! writer calls `sync`; LAVA does so behind each copy, and lists the folder, so this one takes the
//! file then. It stays empty until somebody has seen it so: nothing else tells a reader that a drive has gone.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use meta_lava_formats::mcu;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::patience::SLOW_START;
use crate::peripheral::{Bus, Data, Mode};

/// Where the drives of a worker are, unless told otherwise: a folder for each board.
pub const FOLDER: &str = "/run/ghost/drives";

/// What is on a drive that nobody copied anything to.
const DETAILS: (&str, &str) = (
    "DETAILS.TXT",
    "# DAPLink Firmware - see https://daplink.io/\r\nDAPLink Mode: Interface\r\nInterface Version: 0257\r\n",
);

/// The file that says what failed.
const FAIL: &str = "FAIL.TXT";

/// What it says (`source/daplink/error.c`).
const NO_TARGET: &str =
    "error: The interface firmware FAILED to reset/halt the target MCU\r\ntype: target\r\n";
const NOT_WRITTEN: &str = "error: An error occurred during the transfer.\r\ntype: interface\r\n";

/// A drive that a board shows.
#[derive(Debug, Clone)]
pub struct Drive {
    /// The folder that it is.
    pub folder: PathBuf,
    pub kind: Kind,
}

/// What becomes of what is copied to a drive.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A DAPLink writes it into what has flash and RAM there.
    Probe { flash: Range<u32>, ram: Range<u32> },
    /// It is a card, from which the board starts a program.
    Card,
}

impl Drive {
    /// Makes it one that nobody copied anything to.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn renew(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        empty(&self.folder)?;
        match self.kind {
            Kind::Probe { .. } => fs::write(self.folder.join(DETAILS.0), DETAILS.1),
            Kind::Card => {
                ["MB", "SOFTWARE"].iter().try_for_each(|name| fs::create_dir(self.folder.join(name)))
            }
        }
    }

    /// Puts links to it where udev would have them: who only looks whether it is there looks there.
    ///
    /// # Errors
    /// When they can't be made.
    pub fn link(&self, links: &[String]) -> io::Result<()> {
        links.iter().map(Path::new).try_for_each(|link| {
            fs::create_dir_all(link.parent().unwrap_or(Path::new("/")))?;
            match symlink(&self.folder, link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        })
    }

    /// Shows a file on the drive, at once with all that it says: who finds it reads it at once.
    fn show(&self, name: &str, says: &str) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.folder.parent().unwrap_or(Path::new("/")))?;
        file.write_all(says.as_bytes())?;
        file.persist(self.folder.join(name))?;
        Ok(())
    }

    /// Does what is to be done with what is copied to the drive, for ever.
    ///
    /// # Errors
    /// When the drive can't be made or watched.
    pub async fn serve(&self, bus: &Bus) -> io::Result<()> {
        self.renew()?;
        let Kind::Probe { flash, ram } = &self.kind else { return Ok(()) };
        let mut events = Events::of(&self.folder)?;
        let mut copied = None;
        loop {
            match events.next().await? {
                Seen::Written(name) if name == DETAILS.0 || name == FAIL => {}
                Seen::Written(name) => copied = Some(name),
                Seen::Listed => {
                    let Some(name) = copied.take() else { continue };
                    let bytes = fs::read(self.folder.join(&name))?;
                    if mcu::check(&bytes, flash.clone(), ram.clone()).is_err() {
                        continue;
                    }
                    let failed = program(bus, flash.start, Data { path: name.into(), bytes }).await.err();
                    empty(&self.folder)?;
                    events.forget()?;
                    let _ = tokio::time::timeout(SLOW_START, events.next()).await;
                    if let Some(why) = failed {
                        self.show(FAIL, why)?;
                    }
                    fs::write(self.folder.join(DETAILS.0), DETAILS.1)?;
                    events.forget()?;
                    bus.remounted();
                }
            }
        }
    }
}

async fn program(bus: &Bus, at: u32, program: Data) -> Result<(), &'static str> {
    let ask = async |command: &str, data: Option<Data>, failed: &'static str| match bus
        .call(Mode::Debug, command.to_owned(), data)
        .await
    {
        Some(answer) => answer.result.map(drop).map_err(|_| failed),
        None => Err(NO_TARGET),
    };
    ask("reset halt", None, NO_TARGET).await?;
    ask("erase", None, NOT_WRITTEN).await?;
    ask(&format!("write {at:x}"), Some(program), NOT_WRITTEN).await?;
    ask("reset", None, NO_TARGET).await
}

fn empty(folder: &Path) -> io::Result<()> {
    fs::read_dir(folder)?.try_for_each(|entry| {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    })
}

/// What the kernel tells of a folder.
enum Seen {
    /// This file was written.
    Written(String),
    /// It was listed.
    Listed,
}

struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

struct Events {
    watch: AsyncFd<Watch>,
    seen: VecDeque<Seen>,
}

impl Events {
    fn of(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(folder, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_CLOSE_NOWRITE)?;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe to call; this descriptor is the watch's own"
        )]
        let watch = AsyncFd::new(Watch(inotify))?;
        Ok(Self { watch, seen: VecDeque::new() })
    }

    async fn next(&mut self) -> io::Result<Seen> {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return Ok(seen);
            }
            let mut ready = self.watch.readable().await?;
            let events = match ready.try_io(|watch| Ok(watch.get_ref().0.read_events()?)) {
                Ok(events) => events?,
                Err(_) => continue,
            };
            self.seen.extend(events.into_iter().filter_map(|event| match event.name {
                None => Some(Seen::Listed),
                Some(name) if event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE) => {
                    Some(Seen::Written(name.to_string_lossy().into_owned()))
                }
                Some(_) => None,
            }));
        }
    }

    /// Forgets what has been seen so far: it was the probe itself.
    fn forget(&mut self) -> io::Result<()> {
        self.seen.clear();
        match self.watch.get_ref().0.read_events() {
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLASH: Range<u32> = 0..0x10_0000;
    const RAM: Range<u32> = 0x1fff_0000..0x2003_0000;

    fn bus() -> Bus {
        let text = "
model: x
firmware: {kind: minimal}
peripherals: [{while: always, vendor: 0d28, product: '0204'}]
";
        let (board, _) = crate::firmware::load("b", text).unwrap();
        Bus::new(&board, tokio::sync::broadcast::channel(16).0)
    }

    fn listed(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Lists the drive again and again, as LAVA does, until it is like this.
    async fn until(folder: &Path, is: impl Fn(&[String]) -> bool) -> Vec<String> {
        let again_and_again = async {
            loop {
                let names = listed(folder);
                if is(&names) {
                    return names;
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(60), again_and_again).await;
        found.unwrap_or_else(|_| panic!("the drive has {:?}", listed(folder)))
    }

    #[tokio::test]
    async fn a_program_is_written_once_it_is_synced_and_the_drive_goes_and_comes_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("drive");
        let (bus, drive) =
            (bus(), Drive { folder: folder.clone(), kind: Kind::Probe { flash: FLASH, ram: RAM } });
        let served = bus.clone();
        tokio::spawn(async move { drive.serve(&served).await.unwrap() });
        while !folder.join(DETAILS.0).exists() {
            tokio::task::yield_now().await;
        }
        let program = mcu::write(FLASH.start, RAM.end, "hello\n", 0);
        // Nobody has power behind the probe.
        fs::write(folder.join("zephyr.bin"), &program).unwrap();
        until(&folder, <[String]>::is_empty).await;
        let names = until(&folder, |names| names.len() == 2).await;
        assert_eq!(names, [DETAILS.0, FAIL]);
        assert!(
            fs::read_to_string(folder.join(FAIL)).unwrap().contains("FAILED to reset/halt the target MCU")
        );
        // Now somebody has.
        let mut core = bus.enter(Mode::Debug);
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            while asked.len() < 4 {
                let call = core.next().await;
                asked.push(call.command.clone());
                call.answer(crate::peripheral::Answer::okay(""));
            }
            asked
        });
        fs::write(folder.join("zephyr.bin"), &program).unwrap();
        until(&folder, <[String]>::is_empty).await;
        assert_eq!(until(&folder, |names| !names.is_empty()).await, [DETAILS.0]);
        assert_eq!(asked.await.unwrap(), ["reset halt", "erase", "write 0", "reset"]);
    }

    #[tokio::test]
    async fn what_is_no_program_for_the_board_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("drive");
        let (bus, drive) =
            (bus(), Drive { folder: folder.clone(), kind: Kind::Probe { flash: FLASH, ram: RAM } });
        tokio::spawn(async move { drive.serve(&bus).await.unwrap() });
        while !folder.join(DETAILS.0).exists() {
            tokio::task::yield_now().await;
        }
        fs::write(folder.join("zephyr.bin"), mcu::write(0x0800_0000, RAM.end, "hello\n", 0)).unwrap();
        for _ in 0..100 {
            assert_eq!(listed(&folder), [DETAILS.0, "zephyr.bin"]);
            tokio::task::yield_now().await;
        }
    }
}
