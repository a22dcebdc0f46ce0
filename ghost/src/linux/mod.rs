//! What boots after the firmware: the kernel's log, and the userland that LAVA
//! served, for real.

use std::net::{IpAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meta_lava_formats::initramfs::Initramfs;
use meta_lava_formats::tree::{NodeKind, Tree};
use meta_lava_formats::{fdt, kernel, sha256};
use tokio::sync::oneshot;

use self::cmdline::{Cmdline, Ip};
use self::gateway::Gateway;
use self::kernel_log::KernelLog;
use self::sandbox::{BlockDevice, End, Init, Loaded, NamedBy, NotRun, Told, Userland};
use crate::disk::Disk;
use crate::firmware::BootImage;
use crate::ledger::{Event, Ledger, Stage};
use crate::machine::Machine;
use crate::memory::Memory;

mod adbd;
mod cmdline;
pub mod gateway;
mod installer;
mod kernel_log;
mod nbd;
mod root;
pub mod sandbox;

pub(crate) use root::UNPACKED_LIMIT;

/// Where a worker's HTTP server listens.
const HTTP_PORT: u16 = 80;

/// The script of Debian's ramdisks (initramfs-tools) that mounts the root of this machine: what such a ramdisk does is done for it,
/// since a sandbox's root can't change its root.
const LOCAL: &str = "/scripts/local";

/// The exit code of a script whose command failed, as the kernel tells of it.
const FAILED: i32 = 1 << 8;

/// What a kernel goes on with.
enum Found {
    Root(Root),
    /// A ramdisk that is an installer.
    Installer,
}

/// How a kernel ended.
enum Ended {
    Exit(Exit),
    /// It has started another one.
    Kexec(BootImage),
}

/// How an operating system ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Reboot,
    PowerOff,
    /// It stopped and says nothing more (a panic, `halt`).
    Halt,
}

/// Boots `image` on `machine` and runs it, and what it starts by kexec, until that ends.
///
/// When the future is dropped, nothing of what it ran is left.
pub async fn run(machine: &mut Machine, mut image: BootImage) -> Exit {
    loop {
        match run_kernel(machine, image).await {
            Ended::Exit(exit) => return exit,
            Ended::Kexec(next) => image = next,
        }
    }
}

async fn run_kernel(machine: &mut Machine, image: BootImage) -> Ended {
    // Whatever else was loaded is the kernel's to overwrite.
    machine.memory = Memory::new(machine.board.memory.base, machine.board.memory.mib);
    let image = Arc::new(image);
    let ramdisk = blocking({
        let image = Arc::clone(&image);
        move || image.ramdisk.as_deref().map(root::ramdisk)
    });
    let start = blocking({
        let image = Arc::clone(&image);
        move || Start::of(&image)
    });
    let Some(Start { boot, banner, model, cmdline }) = start.await else {
        return Ended::Exit(Exit::Halt);
    };
    let ramdisk_sha256 = match &boot {
        Event::Boot { ramdisk, .. } => ramdisk.clone().unwrap_or_default(),
        _ => String::new(),
    };
    machine.ledger.take(boot);
    machine.enter(Stage::Kernel).await;
    let Some(banner) = banner else {
        // Only a kernel has something to say.
        machine.ledger.violation("no-kernel", "what was booted has no banner of a Linux kernel");
        return Ended::Exit(Exit::Halt);
    };
    let model = model.unwrap_or_else(|| machine.board.model.clone());
    let release = banner.split(' ').nth(2).unwrap_or_default().to_owned();
    let mut system = System {
        log: KernelLog::new(),
        cmdline: Cmdline(&cmdline),
        model: &model,
        release: &release,
        dtb: image.dtb.as_deref(),
        machine,
    };
    system.greet(&banner).await;
    match system.root(ramdisk, ramdisk_sha256).await {
        Ok(Found::Root(root)) => system.userland(root).await,
        Ok(Found::Installer) => Ended::Exit(system.install().await),
        Err(panic) => Ended::Exit(system.panic(&panic).await),
    }
}

/// Notes an archive that a board got, by what is in it.
pub(crate) fn note_archive(ledger: &Ledger, sha256: String, tree: &Tree) {
    root::note(ledger, "archive", sha256, tree);
}

/// Notes what is on a disk, as a root file system of its own.
pub(crate) fn note_disk(ledger: &Ledger, sha256: String, tree: &Tree) {
    root::note(ledger, root::DISK, sha256, tree);
}

/// Notes a folder of the worker's that a container sees as `/NAME`, as a root file system of that.
pub(crate) fn note_folder(ledger: &Ledger, folder: &Path, target: &str) {
    match root::folder(folder, target.trim_start_matches('/')) {
        Ok(tree) => root::note(ledger, "volume", String::new(), &tree),
        Err(error) => tracing::warn!(%error, folder = %folder.display(), "could not read a volume"),
    }
}

/// Does `work` where it does not hold other boards up; `None` when it panics.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Option<T>> + Send {
    let task = tokio::task::spawn_blocking(work);
    async { task.await.inspect_err(|error| tracing::error!(%error, "could not boot")).ok() }
}

/// What is known before the kernel says a word.
struct Start {
    boot: Event,
    banner: Option<String>,
    model: Option<String>,
    cmdline: String,
}

impl Start {
    fn of(image: &BootImage) -> Self {
        let tree = image.dtb.as_deref().and_then(|dtb| fdt::parse(dtb).ok());
        let mut cmdline = image.cmdline.clone();
        if cmdline.is_empty()
            && let Some(bootargs) = tree.as_ref().and_then(fdt::Fdt::bootargs)
        {
            bootargs.clone_into(&mut cmdline);
        }
        let boot = Event::Boot {
            kernel: sha256(&image.kernel),
            cmdline: cmdline.clone(),
            ramdisk: image.ramdisk.as_deref().map(sha256),
            dtb: image.dtb.as_deref().map(sha256),
        };
        let model = tree.as_ref().and_then(fdt::Fdt::model).map(str::to_owned);
        Self { boot, banner: kernel::banner(&image.kernel), model, cmdline }
    }
}

/// A kernel at work.
struct System<'a> {
    machine: &'a mut Machine,
    log: KernelLog,
    cmdline: Cmdline<'a>,
    model: &'a str,
    release: &'a str,
    dtb: Option<&'a [u8]>,
}

/// A root file system, and the programs in it to try as PID 1.
struct Root {
    tree: Tree,
    inits: Vec<Init>,
}

/// What an unpacked ramdisk comes as.
type Unpacked = Option<Option<Result<Initramfs, root::BadRamdisk>>>;

impl System<'_> {
    async fn flush(&mut self) {
        self.log.flush(self.machine.console()).await;
    }

    /// What every kernel prints first.
    async fn greet(&mut self, banner: &str) {
        self.log.early("Booting Linux on physical CPU 0x0");
        self.log.early(banner);
        self.log.early(&format!("Machine model: {}", self.model));
        self.log.early(&format!("Kernel command line: {}", self.cmdline.0));
        let board = Arc::clone(&self.machine.board);
        for line in &board.kernel.lines {
            self.log.line_of_board(line);
        }
        for line in self.machine.disks.iter().flat_map(Disk::kernel_says) {
            self.log.line(&line);
        }
        self.flush().await;
    }

    /// Finds the root file system, or says what the kernel panics with
    /// (`kernel_init_freeable` in `init/main.c`, `init/do_mounts.c`).
    async fn root(
        &mut self,
        ramdisk: impl Future<Output = Unpacked>,
        sha256: String,
    ) -> Result<Found, String> {
        if !sha256.is_empty() {
            self.log.line("Unpacking initramfs...");
            self.flush().await;
        }
        let initramfs = match ramdisk.await.flatten() {
            Some(Ok(Initramfs { tree, left_out })) => {
                if let [first, rest @ ..] = &left_out[..] {
                    // The kernel goes on without a word.
                    self.machine.ledger.violation(
                        "lost-in-ramdisk",
                        format!("/{first} and {} more could not be made", rest.len()),
                    );
                }
                Some(self.note("ramdisk", sha256, tree).await)
            }
            Some(Err(bad)) => {
                self.machine.ledger.violation("bad-ramdisk", bad.detail);
                self.log.line(&format!("Initramfs unpacking failed: {}", bad.kernel_says));
                None
            }
            None => None,
        };
        self.flush().await;
        let server = self.network().await;
        if let Some(nfs) = self.cmdline.nfs_root() {
            let server = nfs.server.or(server).unwrap_or_default();
            self.flush().await;
            return match self.machine.net.nfs_tree(&server, &nfs.path).await {
                Ok(tree) => {
                    self.log.line("VFS: Mounted root (nfs filesystem) on device 0:15.");
                    let tree = self.note("nfsroot", String::new(), tree).await;
                    Ok(Found::Root(Root { tree, inits: self.inits(None) }))
                }
                Err(error) => {
                    self.log.line(&format!("Root-NFS: {error}"));
                    self.log.line("VFS: Unable to mount root fs via NFS.");
                    Err("VFS: Unable to mount root fs on unknown-block(0,255)".into())
                }
            };
        }
        let rdinit = self.cmdline.get("rdinit").unwrap_or("/init");
        let nbd = self.cmdline.nbd();
        match initramfs {
            Some(tree)
                if has(&tree, nbd::CLIENT)
                    && let Some(server) = nbd =>
            {
                self.nbd_root(&server).await.map(Found::Root)
            }
            Some(tree) if has(&tree, installer::PROGRAM) => Ok(Found::Installer),
            Some(tree) if has(&tree, LOCAL) => self.local_root().await.map(Found::Root),
            Some(tree) if has(&tree, rdinit) => {
                Ok(Found::Root(Root { inits: self.inits(Some(rdinit)), tree }))
            }
            _ => {
                let device = self.cmdline.get("root").unwrap_or("(null)");
                let disk = self.machine.disks.iter().find(|disk| disk.is_root(device));
                let device = device.strip_prefix("/dev/").unwrap_or(device);
                if let Some(disk) = disk
                    && let Some(tree) = disk.content()
                {
                    // Without `rw` it is read-only, until an init that this kernel has not tells otherwise.
                    let BlockDevice { major, minor, .. } = disk.device();
                    self.log.line(&format!("VFS: Mounted root (ext4 filesystem) on device {major}:{minor}."));
                    return Ok(Found::Root(Root { tree: Tree::clone(&tree), inits: self.inits(None) }));
                }
                self.log.line(&format!(
                    "VFS: Cannot open root device \"{device}\" or unknown-block(0,0): error -6"
                ));
                self.log.line(
                    "Please append a correct \"root=\" boot option; here are the available partitions:",
                );
                Err("VFS: Unable to mount root fs on unknown-block(0,0)".into())
            }
        }
    }

    /// The root that a ramdisk with [`LOCAL`] mounts, by a device's name or by the UUID of what is on it; or what the kernel panics
    /// with once its script has given up (`local_device_setup` in initramfs-tools' `scripts/local`).
    async fn local_root(&mut self) -> Result<Root, String> {
        self.log.line("Run /init as init process");
        self.flush().await;
        let device = self.cmdline.get("root").unwrap_or_default();
        let is_root = |disk: &&Disk| match device.strip_prefix("UUID=") {
            Some(uuid) => disk.has_uuid(uuid),
            None => disk.is_root(device),
        };
        let disk = self.machine.disks.iter().find(is_root);
        let Some((name, tree)) = disk.and_then(|disk| Some((disk.name(), disk.content()?))) else {
            let says = format!(
                "Gave up waiting for root file system device.\nALERT!  {device} does not exist.  Dropping to a shell!\n"
            );
            self.machine.console().print(&says).await;
            return Err(format!("Attempted to kill init! exitcode=0x{FAILED:08x}"));
        };
        self.mounts_ext2(&name);
        Ok(Root { tree: Tree::clone(&tree), inits: self.inits(None) })
    }

    /// What the kernel says when a ramdisk mounts a file system.
    fn mounts_ext2(&mut self, device: &str) {
        self.log.line(&format!("EXT4-fs ({device}): mounting ext2 file system using the ext4 subsystem"));
        self.log.line(&format!("EXT4-fs ({device}): mounted filesystem without journal. Quota mode: none."));
    }

    /// Notes a tree, where that does not hold other boards up.
    async fn note(&mut self, root: &'static str, source: String, tree: Tree) -> Tree {
        let ledger = self.machine.ledger.clone();
        let noted = blocking(move || {
            root::note(&ledger, root, source, &tree);
            tree
        });
        noted.await.unwrap_or_default()
    }

    /// Brings the network up if the command line wants it, and says which server DHCP names.
    async fn network(&mut self) -> Option<String> {
        match self.cmdline.ip() {
            Ip::Off => None,
            Ip::Unasked if self.cmdline.nfs_root().is_none() => None,
            Ip::Static(address) => {
                self.machine.net.address = address.parse().ok();
                self.machine.ledger.take(Event::Network { method: "static".into() });
                self.log.line("IP-Config: Complete:");
                None
            }
            Ip::Auto | Ip::Unasked => {
                let Some(lease) = self.machine.net.dhcp().await else {
                    self.log.line("Sending DHCP requests ...... timed out!");
                    self.log.line("IP-Config: Auto-configuration of network failed");
                    return None;
                };
                self.log.line("Sending DHCP requests ., OK");
                self.log.line(&format!(
                    "IP-Config: Got DHCP answer from {}, my address is {}",
                    lease.server, lease.address
                ));
                self.log.line("IP-Config: Complete:");
                Some(lease.server.to_string())
            }
        }
    }

    /// The programs to try as PID 1 (`kernel_init` in `init/main.c`).
    fn inits(&self, rdinit: Option<&str>) -> Vec<Init> {
        let init =
            |path: &str, named_by| Init { path: path.to_owned(), args: self.cmdline.init_args(), named_by };
        let mut inits: Vec<Init> = rdinit.map(|path| init(path, NamedBy::Ramdisk)).into_iter().collect();
        match self.cmdline.get("init") {
            Some(path) => inits.push(init(path, NamedBy::CommandLine)),
            None => {
                inits.extend(
                    ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"]
                        .map(|path| init(path, NamedBy::Kernel)),
                );
            }
        }
        inits
    }

    async fn userland(&mut self, root: Root) -> Ended {
        let prefix = self.log.prefix();
        self.flush().await;
        self.machine.enter(Stage::Userland).await;
        let userland = Userland {
            hostname: hostname(&root.tree),
            cmdline: self.cmdline.0.to_owned(),
            inits: root.inits,
            prefix,
            clock: self.log.clock(),
            container: None,
            disks: self.machine.disks.clone(),
        };
        let gateway = match self.machine.net.server() {
            IpAddr::V4(address) => {
                Some(Gateway::new(&self.machine.net, SocketAddrV4::new(address, HTTP_PORT)))
            }
            // LAVA's URLs name a worker by its IPv4 address (`dispatcher_ip`).
            IpAddr::V6(_) => None,
        };
        let end = {
            let (begun, begins) = oneshot::channel();
            let mut begun = Some(begun);
            let mut tell = |told| {
                if let Told::Begun(pid) = told
                    && let Some(begun) = begun.take()
                {
                    // Nobody waits for it on a board without adb.
                    let _ = begun.send(pid);
                }
            };
            let adbd = adbd::serve(self.machine.bus.clone(), self.machine.ledger.clone(), begins);
            let console = self.machine.console();
            let running = sandbox::run_and_tell(userland, root.tree, gateway, console, &mut tell);
            tokio::select! {
                end = running => Ok(end),
                reason = adbd => Err(reason),
            }
        };
        let end = end.unwrap_or_else(|reason| {
            self.machine.reason = reason;
            End::Reboot
        });
        self.machine.enter(Stage::Kernel).await;
        Ended::Exit(match end {
            // `kernel_kexec` in `kernel/kexec_core.c`. Without a device tree kexec-tools takes the one of the kernel that runs.
            End::Kexec(loaded) => {
                self.log.line("kexec_core: Starting new kernel");
                self.flush().await;
                let Loaded { kernel, cmdline, initrd, dtb } = *loaded;
                let dtb = dtb.or_else(|| self.dtb.map(<[u8]>::to_vec));
                return Ended::Kexec(BootImage { kernel, cmdline, ramdisk: initrd, dtb });
            }
            End::Reboot => {
                self.log.line("reboot: Restarting system");
                self.flush().await;
                Exit::Reboot
            }
            End::PowerOff => {
                self.log.line("reboot: Power down");
                self.flush().await;
                Exit::PowerOff
            }
            End::Exited(status) => {
                self.panic(&format!("Attempted to kill init! exitcode=0x{status:08x}")).await
            }
            End::NoInit(panic) => self.panic(&panic).await,
            End::NotRun(NotRun { why, .. }) | End::Refused(why) => {
                self.machine.ledger.violation("sandbox-refused", why.as_str());
                self.panic(&format!("no sandbox for the userland: {why}")).await
            }
        })
    }

    async fn panic(&mut self, why: &str) -> Exit {
        let reboot = self.cmdline.panic_reboot();
        self.log.panic(why, self.release, self.model, reboot);
        self.flush().await;
        match reboot {
            Some(seconds) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Exit::Reboot
            }
            None => Exit::Halt,
        }
    }
}

/// Whether `tree` has a program, or a link, at an absolute path.
fn has(tree: &Tree, path: &str) -> bool {
    let node = tree.get(path.trim_start_matches('/'));
    node.is_some_and(|node| match node.kind {
        NodeKind::File(_) => node.mode & 0o111 != 0,
        NodeKind::Symlink(_) => true,
        NodeKind::Directory | NodeKind::Special => false,
    })
}

/// What a userland's own init would set: a sandbox's root may not.
fn hostname(tree: &Tree) -> String {
    let named = tree.nodes.iter().rev().find(|node| node.path == "etc/hostname");
    match named.map(|node| &node.kind) {
        Some(NodeKind::File(text)) => String::from_utf8_lossy(text).trim().to_owned(),
        _ => "(none)".to_owned(),
    }
}

#[cfg(test)]
mod tests;
