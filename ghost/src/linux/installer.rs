//! Debian's installer: a ramdisk that installs what is on a disc onto a disk, as a file tells it to that it fetches.
//!
//! There is no kernel here that would give its programs a disk to write to, so what such a ramdisk does is done for it, and what
//! it writes is in the disk's image when it has ended. It does what it does without a question (`auto=true`, of the priority
//! `critical`): what would be asked then has to be answered in the file. The names of the questions, and the texts of errors, are
//! those of Debian 12's installer (`preseed`, `cdrom-detect`, `netcfg`, `user-setup`, `partman-*`, `grub-installer`,
//! `finish-install`, `main-menu`; "Automating the installation using preseeding" in its guide), shown as cdebconf's text frontend shows
//! them. What it says of its progress is short, and ours.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meta_lava_formats::compress::decompress;
use meta_lava_formats::grub::{self, Command, Config};
use meta_lava_formats::tree::{NodeKind, Tree};
use meta_lava_formats::{ext, mbr, tar};
use sha2::{Digest as _, Sha256};

use super::{Exit, System, blocking, root};
use crate::disk::Disk;
use crate::ledger::Stage;

/// The program that makes a ramdisk an installer.
pub(super) const PROGRAM: &str = "/sbin/debian-installer";

/// What a disc of Debian's has, and what is installed of one: kernel and ramdisk in it are below `boot`.
const ABOUT_DISC: &str = ".disk/info";
const BASE: &str = "pool/base.tar.gz";

/// Where the first partition begins, in blocks: at a whole MiB, as partman has it.
const FIRST: u32 = 2048;
/// Linux.
const KIND: u8 = 0x83;

/// A question that is asked at the priority `critical` where nobody has answered it: the step that asks it, its name, the
/// answer that goes on without another question (any where there is none), and its text.
struct Question {
    step: &'static str,
    name: &'static str,
    answer: Option<&'static str>,
    text: &'static str,
}

const fn question(
    step: &'static str,
    name: &'static str,
    answer: Option<&'static str>,
    text: &'static str,
) -> Question {
    Question { step, name, answer, text }
}

const USERS: &str = "Set up users and passwords";
const DISKS: &str = "Partition disks";
const LOADER: &str = "Install the GRUB boot loader";
const FINISH: &str = "Finish the installation";

const BEFORE_THE_DISK: [Question; 7] = [
    // A plain password needs crypt(3), and another user a program of Debian's.
    question(USERS, "passwd/root-password-crypted", None, "Root password:"),
    question(USERS, "passwd/make-user", Some("false"), "Full name for the new user:"),
    question(DISKS, "partman-auto/method", Some("regular"), "Partitioning method:"),
    question(
        DISKS,
        "partman-partitioning/confirm_write_new_label",
        Some("true"),
        "Create new empty partition table on this device?",
    ),
    question(
        DISKS,
        "partman/choose_partition",
        Some("finish"),
        "This is an overview of your currently configured partitions:",
    ),
    question(DISKS, "partman/confirm", Some("true"), "Write the changes to disks?"),
    question(DISKS, "partman/confirm_nooverwrite", Some("true"), "Write the changes to disks?"),
];
const BEFORE_THE_LOADER: [Question; 1] =
    [question(LOADER, "grub-installer/bootdev", None, "Device for boot loader installation:")];
/// A note: that it is in the file at all counts.
const BEFORE_THE_END: [Question; 1] =
    [question(FINISH, "finish-install/reboot_in_progress", None, "[Press enter to continue]")];

/// Answers by their questions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Answers(BTreeMap<String, String>);

impl Answers {
    /// Those on a kernel command line, up to `---`: words with a question's name, which has a slash.
    fn of_command_line(cmdline: &str) -> Self {
        let words = cmdline.split_ascii_whitespace().take_while(|word| *word != "---");
        let answers = words.filter_map(|word| word.split_once('=')).filter(|(name, _)| name.contains('/'));
        Self(answers.map(|(name, answer)| (name.to_owned(), answer.to_owned())).collect())
    }

    /// Takes those of a file as `debconf-set-selections` does, of which the installer's own are `d-i`'s; whether it is one.
    fn take(&mut self, file: &str) -> bool {
        let whole = file.replace("\\\n", " ");
        let lines = whole.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let mut words = line.splitn(4, [' ', '\t']);
            let (Some(owner), Some(name), Some(_kind)) = (words.next(), words.next(), words.next()) else {
                return false;
            };
            if owner == "d-i" {
                // The last one counts.
                self.0.insert(name.to_owned(), words.next().unwrap_or_default().trim().to_owned());
            }
        }
        true
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Why the installer does not go on. It waits for somebody then.
enum Stop {
    /// A question that nobody has answered, or the answer to which asks for more.
    Question { step: &'static str, name: String, text: &'static str },
    /// An error, and what it says of that.
    Error { title: String, text: String },
}

impl Stop {
    fn error(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Error { title: title.into(), text: text.into() }
    }

    /// A step that failed, of which the menu tells.
    fn step(step: &str) -> Self {
        Self::error(
            "Installation step failed",
            format!(
                "An installation step failed. You can try to run the failing item again from the menu, or skip it and choose \
                 something else. The failing step is: {step}"
            ),
        )
    }

    /// As the text frontend shows it.
    fn shown(&self) -> String {
        match self {
            Self::Question { step, text, .. } => {
                let prompt = if text.starts_with('[') { "" } else { "\nPrompt: '?' for help> " };
                format!("{step}\n{}\n\n{text}{prompt}", "-".repeat(step.len()))
            }
            Self::Error { title, text } => format!("!! ERROR: {title}\n\n{text}\n[Press enter to continue] "),
        }
    }

    fn noted(&self) -> String {
        match self {
            Self::Question { name, .. } => format!("nobody has answered {name}"),
            Self::Error { title, .. } => title.clone(),
        }
    }
}

impl System<'_> {
    /// Runs the installer until it switches the machine off, starts it anew, or waits for somebody.
    pub(super) async fn install(&mut self) -> Exit {
        self.log.line("Run /init as init process");
        self.flush().await;
        self.machine.enter(Stage::Userland).await;
        let exit = match self.steps().await {
            Ok(exit) => exit,
            Err(stop) => {
                self.machine.ledger.violation("installer-stops", stop.noted());
                self.machine.console().print(&stop.shown()).await;
                return Exit::Halt;
            }
        };
        self.machine.enter(Stage::Kernel).await;
        self.log.line(if exit == Exit::PowerOff {
            "reboot: Power down"
        } else {
            "reboot: Restarting system"
        });
        self.flush().await;
        exit
    }

    async fn steps(&mut self) -> Result<Exit, Stop> {
        let mut answers = Answers::of_command_line(self.cmdline.0);
        let disc = self.disc().await?;
        self.begin("Configure the network").await;
        if self.machine.net.dhcp().await.is_none() {
            let text = "Your network is probably not using the DHCP protocol. Alternatively, the DHCP server may be slow or some \
                network hardware is not working properly.";
            return Err(Stop::error("Network autoconfiguration failed", text));
        }
        self.preseed(&mut answers).await?;
        answered(&answers, &BEFORE_THE_DISK)?;
        self.begin(DISKS).await;
        let disk = self.machine.disks.iter().find(|disk| disk.is_whole());
        let Some((disk, image)) = disk.and_then(|disk| Some((disk.clone(), disk.image()?.to_owned()))) else {
            let text = "No disk drive was detected. If you know the name of the driver needed by your disk drive, you can select it.";
            return Err(Stop::Question {
                step: "Detect disks",
                name: "disk-detect/module_select".into(),
                text,
            });
        };
        let installed = Installed::new(&disk, image, &answers, self.cmdline.0)?;
        self.begin("Install the base system").await;
        // What the boot loader asks comes only when all else is on the disk, and changes nothing of it.
        answered(&answers, &BEFORE_THE_LOADER)?;
        self.begin(LOADER).await;
        let written = blocking(move || installed.write(&disc)).await;
        written.unwrap_or_else(|| Err(Stop::step(LOADER)))?;
        answered(&answers, &BEFORE_THE_END)?;
        self.begin(FINISH).await;
        Ok(match answers.get("debian-installer/exit/poweroff") {
            Some("true") => Exit::PowerOff,
            _ => Exit::Reboot,
        })
    }

    async fn begin(&mut self, step: &str) {
        self.machine.console().print(&format!("{step} ...\n")).await;
    }

    /// What is on the disc, if it is one of Debian's.
    async fn disc(&mut self) -> Result<Arc<Tree>, Stop> {
        self.begin("Detect and mount installation media").await;
        let disc = self.machine.cd.clone().filter(|disc| disc.get(ABOUT_DISC).is_some());
        disc.ok_or_else(|| Stop::Question {
            step: "Detect and mount installation media",
            name: "cdrom-detect/retry".into(),
            text: "Your installation media couldn't be mounted. Retry mounting installation media?",
        })
    }

    /// Fetches the file with the answers.
    async fn preseed(&mut self, answers: &mut Answers) -> Result<(), Stop> {
        const STEP: &str = "Download debconf preconfiguration file";
        let Some(url) = answers.get("preseed/url").map(str::to_owned) else {
            let text = "Location of initial preconfiguration file:";
            return Err(Stop::Question { step: STEP, name: "preseed/url".into(), text });
        };
        self.begin(STEP).await;
        let fetched =
            match url.strip_prefix("tftp://").map(|place| place.split_once('/').unwrap_or((place, ""))) {
                Some((server, path)) => self.machine.net.tftp(server, path, "preseed").await,
                None => self.machine.net.http(&url, "preseed").await,
            };
        let Ok(file) = fetched else {
            let text = format!(
                "The file needed for preconfiguration could not be retrieved from {url}. The installation will proceed in \
                 non-automated mode."
            );
            return Err(Stop::error("Failed to retrieve the preconfiguration file", text));
        };
        let is_one = std::str::from_utf8(&file).is_ok_and(|file| answers.take(file));
        is_one.then_some(()).ok_or_else(|| {
            let text = format!("The installer failed to process the preconfiguration file from {url}. The file may be corrupt.");
            Stop::error("Failed to process the preconfiguration file", text)
        })
    }
}

/// Whether all of these are answered; else the first one that is not.
fn answered(answers: &Answers, questions: &[Question]) -> Result<(), Stop> {
    let goes_on = |question: &&Question| match (answers.get(question.name), question.answer) {
        (Some(given), Some(answer)) => given != answer,
        (given, _) => given.is_none(),
    };
    match questions.iter().find(goes_on) {
        None => Ok(()),
        Some(Question { step, name, text, .. }) => {
            Err(Stop::Question { step, name: (*name).to_owned(), text })
        }
    }
}

/// What is to be on a disk.
struct Installed {
    image: PathBuf,
    blocks: u32,
    hostname: String,
    password: String,
    /// Words of the command line that the system keeps: those behind `---`.
    arguments: String,
    /// The partition that GRUB's boot record goes to, instead of the disk.
    loader_on_partition: bool,
}

impl Installed {
    fn new(disk: &Disk, image: PathBuf, answers: &Answers, cmdline: &str) -> Result<Self, Stop> {
        let kept: Vec<&str> =
            cmdline.split_ascii_whitespace().skip_while(|word| *word != "---").skip(1).collect();
        if let Some(other) = answers.get("partman/default_filesystem").filter(|kind| *kind != "ext2") {
            // Debian's own default is ext4. There is no `mke2fs` here that would make one.
            return Err(Stop::error(format!("The {other} file system can't be made here"), "Only ext2 can."));
        }
        let device = format!("/dev/{}", disk.name());
        let loader_on_partition = match answers.get("grub-installer/bootdev") {
            Some(named) if named == format!("{device}1") => true,
            None | Some("default") => false,
            Some(named) if named == device => false,
            Some(named) => {
                let text = format!("Executing 'grub-install {named}' failed.\n\nThis is a fatal error.");
                return Err(Stop::error(format!("Unable to install GRUB in {named}"), text));
            }
        };
        Ok(Self {
            image,
            blocks: u32::try_from(disk.bytes() / mbr::BLOCK as u64).unwrap_or(u32::MAX),
            hostname: answers.get("netcfg/get_hostname").unwrap_or("debian").to_owned(),
            password: answers.get("passwd/root-password-crypted").unwrap_or_default().to_owned(),
            arguments: kept.join(" "),
            loader_on_partition,
        })
    }

    /// Writes partition table, file system and boot loader into the image.
    fn write(&self, disc: &Tree) -> Result<(), Stop> {
        // `mke2fs` makes one at random; this one is the machine's.
        let sum: [u8; 32] = Sha256::digest(&self.hostname).into();
        let uuid: [u8; 16] = sum.first_chunk().copied().unwrap_or_default();
        let tree =
            self.tree(disc, &ext::uuid_text(uuid)).ok_or_else(|| Stop::step("Install the base system"))?;
        let failed = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, image = %self.image.display(), "nothing can be installed there");
            Stop::error(
                "Failed to create a file system",
                "The ext2 file system creation in partition #1 failed.",
            )
        };
        let blocks = self.blocks.checked_sub(FIRST).ok_or_else(|| failed(&"the disk is too small"))?;
        let file = File::options().write(true).open(&self.image).map_err(|error| failed(&error))?;
        let start = u64::from(FIRST) * mbr::BLOCK as u64;
        let size = u64::from(blocks) * mbr::BLOCK as u64;
        let mut put = |at: u64, piece: &[u8]| file.write_all_at(piece, start + at);
        ext::write(&tree, size, uuid, &mut put).map_err(|error| failed(&error))?;
        self.write_records(&file, start, blocks).map_err(|error| failed(&error))
    }

    fn write_records(&self, file: &File, start: u64, blocks: u32) -> io::Result<()> {
        let mut record = [0; mbr::BLOCK];
        mbr::write(&mut record, &[mbr::Partition { start: FIRST, blocks, kind: KIND }]);
        if self.loader_on_partition {
            // Where a file system of this kind leaves room for it. The core is not embedded then, and the BIOS never comes there.
            let mut own = [0; mbr::BLOCK];
            grub::write(&mut own, 1);
            file.write_all_at(&own, start)?;
        } else {
            let core = grub::write(&mut record, 1);
            file.write_all_at(&core, mbr::BLOCK as u64)?;
        }
        file.write_all_at(&record, 0)
    }

    /// What is on the disc to be installed, and what is this machine's of it.
    fn tree(&self, disc: &Tree, uuid: &str) -> Option<Tree> {
        let Some(NodeKind::File(base)) = disc.get(BASE).map(|node| &node.kind) else { return None };
        let base = decompress(base, root::UNPACKED_LIMIT).ok()?;
        let mut tree = tar::read(&base).ok()?;
        let named = |name: &str| {
            let found = tree.nodes.iter().find(|node| node.path.starts_with(&format!("boot/{name}-")));
            found.map(|node| format!("/{}", node.path))
        };
        let (kernel, ramdisk) = (named("vmlinuz")?, named("initrd.img")?);
        let release = Path::new(&kernel).file_name()?.to_str()?.trim_start_matches("vmlinuz-").to_owned();
        let commands = vec![
            Command::Echo(format!("Loading Linux {release} ...")),
            Command::Linux {
                path: kernel,
                arguments: format!("root=UUID={uuid} ro {}", self.arguments).trim().to_owned(),
            },
            Command::Echo("Loading initial ramdisk ...".into()),
            Command::Initrd(ramdisk),
        ];
        let Some(NodeKind::File(shadow)) = tree.get("etc/shadow").map(|node| &node.kind) else { return None };
        let shadow: String = String::from_utf8_lossy(shadow).lines().map(|line| self.shadow(line)).collect();
        tree.file("etc/shadow", 0o640, shadow);
        tree.file("etc/hostname", 0o644, format!("{}\n", self.hostname));
        tree.file("etc/fstab", 0o644, format!("UUID={uuid} / ext2 errors=remount-ro 0 1\n"));
        // GRUB shows no menu on a machine that has one system only; the installer's own `grub-installer/timeout` is 5.
        let config = Config { timeout: 0, commands };
        tree.file(format!("{}/grub.cfg", grub::FOLDER), 0o600, config.script("Debian GNU/Linux"));
        Some(tree)
    }

    /// A line of `/etc/shadow`, with root's password.
    fn shadow(&self, line: &str) -> String {
        match line.strip_prefix("root:").and_then(|rest| rest.split_once(':')) {
            Some((_, rest)) => format!("root:{}:{rest}\n", self.password),
            None => format!("{line}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_from_the_command_line_and_from_the_file() {
        let mut answers = Answers::of_command_line(
            "auto=true debug netcfg/get_hostname=debian preseed/url=tftp://10.0.0.1/a/b.cfg --- console=ttyS0 x/y=z",
        );
        assert_eq!(answers.get("preseed/url"), Some("tftp://10.0.0.1/a/b.cfg"));
        assert_eq!((answers.get("auto"), answers.get("x/y")), (None, None));
        assert!(answers.take("# a comment\nd-i partman/confirm boolean true\nd-i a/list multiselect one, \\\n  two\npopularity-contest a/b boolean true\nd-i a/note note\n"));
        assert_eq!(answers.get("partman/confirm"), Some("true"));
        assert_eq!((answers.get("a/b"), answers.get("a/note")), (None, Some("")));
        assert!(answers.get("a/list").is_some_and(|list| list.starts_with("one, ") && list.ends_with("two")));
        assert!(!answers.take("<html>\n"));
    }

    #[test]
    fn what_nobody_has_answered_is_asked() {
        let mut answers = Answers::default();
        let asked = |answers: &Answers| answered(answers, &BEFORE_THE_DISK).map_err(|stop| stop.noted());
        assert_eq!(asked(&answers), Err("nobody has answered passwd/root-password-crypted".into()));
        let all = "d-i passwd/root-password-crypted password $6$x\nd-i passwd/make-user boolean false\nd-i partman-auto/method string regular\n\
            d-i partman-partitioning/confirm_write_new_label boolean true\nd-i partman/choose_partition select finish\n\
            d-i partman/confirm boolean true\nd-i partman/confirm_nooverwrite boolean true\n";
        assert!(answers.take(all));
        assert_eq!(asked(&answers), Ok(()));
        // It would say no.
        assert!(answers.take("d-i partman/confirm boolean false\n"));
        assert_eq!(asked(&answers), Err("nobody has answered partman/confirm".into()));
    }

    #[test]
    fn what_stops_it_is_shown_as_the_text_frontend_shows_it() {
        let error = Stop::error("Failed", "Why.");
        assert_eq!(error.shown(), "!! ERROR: Failed\n\nWhy.\n[Press enter to continue] ");
        let Err(question) = answered(&Answers::default(), &BEFORE_THE_LOADER) else { panic!("it is asked") };
        let dashes = "----------------------------";
        let text = "Device for boot loader installation:\nPrompt: '?' for help> ";
        assert_eq!(question.shown(), format!("{LOADER}\n{dashes}\n\n{text}"));
    }
}
