//! The ledger: what LAVA did to one board, append-only, in order.
//!
//! A ledger is a file of JSON lines. Each entry is handed to the kernel before
//! the board acts on it, so what was taken survives the daemon's death.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use meta_lava_formats::tree::TreeEntry;
use meta_lava_formats::{compress, fdt, fit, sha256, uimage};
use serde::{Deserialize, Serialize};

use crate::blobs::Blobs;

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since the Unix epoch.
    pub time_us: u64,
    pub event: Event,
}

/// What a power command asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerAction {
    On,
    Off,
    /// Off and on again (LAVA's `hard_reset`).
    Reset,
}

/// What the board is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// No power.
    Off,
    /// The boot loader.
    Firmware,
    /// The kernel's log is playing.
    Kernel,
    /// The served root file system runs.
    Userland,
    /// Powered, but nothing runs any more.
    Halted,
    /// Nothing of the board: a container on its worker.
    Container,
    /// Whatever else runs, a controller beside it.
    Controller,
}

impl PowerAction {
    /// Its word, as `ghost power` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Reset => "reset",
        }
    }
}

impl Stage {
    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Firmware => "firmware",
            Self::Kernel => "kernel",
            Self::Userland => "userland",
            Self::Halted => "halted",
            Self::Container => "container",
            Self::Controller => "controller",
        }
    }
}

/// How bytes reached the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// RFC 1350.
    Tftp,
    /// RFC 1813.
    Nfs,
    /// RFC 9110.
    Http,
    /// A path given on a tool's command line, on the worker itself.
    Local,
    /// The same, and the tool sent it by USB.
    Usb,
    /// A network block device (`doc/proto.md` of nbd).
    Nbd,
    /// RFC 4253, as `scp` and `sftp` use it.
    Ssh,
}

impl Protocol {
    /// Its name, as a ledger for people and a fault's moment have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tftp => "tftp",
            Self::Nfs => "nfs",
            Self::Http => "http",
            Self::Local => "local",
            Self::Usb => "usb",
            Self::Nbd => "nbd",
            Self::Ssh => "ssh",
        }
    }
}

/// What became of a VLAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VlanChange {
    /// It was made, with this number on the wire.
    Created { tag: u16 },
    /// A port of a switch is in it from now on, and in no other.
    Port { switch: String, port: u32 },
    /// The board's job has asked for its end.
    GivenUp,
    /// It is there no more, and the board's job has asked for that.
    Deleted,
}

impl std::fmt::Display for VlanChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Created { tag } => write!(f, "created, with tag {tag}"),
            Self::Port { switch, port } => write!(f, "has port {port} of switch {switch}"),
            Self::GivenUp => write!(f, "given up"),
            Self::Deleted => write!(f, "deleted"),
        }
    }
}

/// Something that happened to a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// A power command came in.
    Power { action: PowerAction },
    /// The board went on to another stage.
    Stage { stage: Stage },
    /// Somebody opened a console.
    Connected {
        /// Number of the UART, from 0.
        uart: usize,
    },
    /// A console was closed, by the other side or because power went off.
    Disconnected {
        /// Number of the UART, from 0.
        uart: usize,
    },
    /// Somebody has logged in by SSH, or was refused.
    Login {
        user: String,
        /// By which method, and which key.
        by: String,
        accepted: bool,
    },
    /// A line was typed on a console; without its line ending.
    Line {
        /// Number of the UART, from 0.
        uart: usize,
        /// What the board was running.
        stage: Stage,
        /// The line; bytes that are no UTF-8 are escaped.
        text: String,
    },
    /// Keys that were taken one by one, such as those that interrupt autoboot.
    Key {
        /// Number of the UART, from 0.
        uart: usize,
        /// The keys.
        text: String,
    },
    /// The board's network came up.
    Network {
        /// How: `dhcp` or `static`.
        method: String,
    },
    /// A file was fetched, whole.
    File {
        protocol: Protocol,
        /// Path or URL as asked for.
        path: String,
        size: u64,
        /// Of the content, in hex.
        sha256: String,
        /// Where the firmware put it, as it wrote that (`0x82000000`), or empty.
        load: String,
        /// sha256 of each thing in it, where it is a container that LAVA makes anew
        /// for each job: a uImage's data, the images of a FIT (unpacked), a ramdisk
        /// padded as GRUB and iPXE do.
        #[serde(default)]
        parts: Vec<String>,
    },
    /// A fetch failed.
    FileFailed {
        protocol: Protocol,
        /// Path or URL as asked for.
        path: String,
        error: String,
    },
    /// An operating system was started.
    Boot {
        /// sha256 of the kernel.
        kernel: String,
        cmdline: String,
        /// sha256 of the ramdisk's payload (after its boot loader header), if any.
        ramdisk: Option<String>,
        /// sha256 of the device tree, if any.
        dtb: Option<String>,
    },
    /// A root file system was unpacked.
    Tree {
        /// `ramdisk` or `nfsroot`.
        root: String,
        /// sha256 of what it was unpacked from, as in [`Event::File`] or [`Event::Boot`]; empty for NFS.
        source: String,
        /// All its entries, sorted by path.
        entries: Vec<TreeEntry>,
    },
    /// A tool on the worker was called for this board.
    Tool {
        tool: String,
        /// Its arguments, without the name.
        args: Vec<String>,
    },
    /// A switch on the board was set, which its boot ROM reads when it is switched on.
    Switch { recovery: bool },
    /// The board's USB cable was plugged in, or pulled.
    Cable { plugged: bool },
    /// The lab's VLANd has done something that the board's job asked for, or that a port of the board's was part of.
    Vlan {
        /// What the VLAN is called there.
        vlan: String,
        change: VlanChange,
    },
    /// Something went wrong with the board, on purpose.
    Fault {
        /// Which of its board's faults, from 1.
        number: usize,
        /// When it was, and what happened then, as [`crate::fault::Fault`] writes it.
        detail: String,
    },
    /// LAVA did something that this board could not have meant.
    Violation {
        /// A short name in kebab-case, such as `fetch-before-dhcp`.
        what: String,
        /// The particulars.
        detail: String,
    },
}

impl Event {
    /// The event of a file that was fetched.
    #[must_use]
    pub fn file(protocol: Protocol, path: &str, load: &str, bytes: &[u8]) -> Self {
        Self::File {
            protocol,
            path: path.to_owned(),
            size: bytes.len() as u64,
            sha256: sha256(bytes),
            load: load.to_owned(),
            parts: parts(bytes),
        }
    }
}

/// Largest thing in a FIT that is unpacked to be hashed, in bytes.
const PART_LIMIT: usize = 256 << 20;

fn parts(bytes: &[u8]) -> Vec<String> {
    if let Ok(image) = uimage::parse(bytes) {
        return vec![sha256(image.data)];
    }
    if fdt::is_fdt(bytes)
        && let Ok(fit) = fit::parse(bytes)
    {
        let part = |image: &fit::Image| match compress::decompress_prefix(&image.data, PART_LIMIT) {
            // A ramdisk stays as it is: the kernel unpacks it.
            Ok((unpacked, _)) if image.image_type != "ramdisk" => sha256(&unpacked),
            _ => sha256(&image.data),
        };
        return fit.images.iter().map(part).collect();
    }
    if compress::Format::of(bytes) != compress::Format::None && !bytes.len().is_multiple_of(4) {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(4), 0);
        return vec![sha256(&padded)];
    }
    Vec::new()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Handle on one board's ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    file: Arc<Mutex<File>>,
    blobs: Arc<Mutex<Blobs>>,
}

impl Ledger {
    /// Opens (or continues) the ledger in `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let blobs = Blobs::beside(path);
        Ok(Self { file: Arc::new(Mutex::new(file)), blobs: Arc::new(Mutex::new(blobs)) })
    }

    /// Begins anew, as the ledger of a board that nothing happened to.
    ///
    /// # Errors
    /// When the file can't be emptied, or what was kept beside it can't be removed.
    pub fn renew(&self) -> io::Result<()> {
        // It is opened for appending: the next entry is the first.
        lock(&self.file).set_len(0)?;
        lock(&self.blobs).renew()
    }

    /// Keeps `contents` beside the ledger, which names them by their sha256.
    pub fn keep<'c>(&self, contents: impl IntoIterator<Item = &'c [u8]>) {
        if let Err(error) = lock(&self.blobs).keep(contents) {
            tracing::error!(%error, "could not keep what the ledger names");
        }
    }

    /// Appends one event, now.
    pub fn take(&self, event: Event) {
        let time_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
        let written =
            serde_json::to_vec(&Entry { time_us, event }).map_err(io::Error::other).and_then(|mut line| {
                line.push(b'\n');
                lock(&self.file).write_all(&line)
            });
        if let Err(error) = written {
            tracing::error!(%error, "could not write the ledger");
        }
    }

    /// Notes something that the board could not have meant.
    pub fn violation(&self, what: &str, detail: impl Into<String>) {
        self.take(Event::Violation { what: what.to_owned(), detail: detail.into() });
    }
}
