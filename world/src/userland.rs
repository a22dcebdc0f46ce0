//! The root file system that ghosts boot: busybox, and the few files around it.
//!
//! Its `/init` and `/sbin/init` are busybox's init, which runs `/etc/inittab`: one script, then a
//! shell on the console (or login in front of it), again whenever it ends. `reboot`,
//! `poweroff` and `halt` tell init, which ends all processes and calls reboot(2); with `-f` they
//! call it themselves. Inside of a pid namespace that ends the namespace, its first process
//! killed by SIGHUP for a reboot and SIGINT for the others (pid_namespaces(7)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use meta_lava_formats::kernel::RELEASE;
use meta_lava_formats::tree::{Node, NodeKind, Tree};

/// Applets that are left out: LAVA's scripts would take the system for a distribution's.
const UNWANTED: &[&str] = &["dpkg", "dpkg-deb", "linuxrc", "rpm", "rpm2cpio"];

/// A busybox executable, linked statically, that runs on this machine.
#[derive(Debug)]
pub struct Busybox {
    path: PathBuf,
    binary: Vec<u8>,
    /// Paths of its applets below the root, sorted.
    applets: Vec<String>,
}

impl Busybox {
    /// Reads the executable, and asks it for its applets.
    ///
    /// # Errors
    ///
    /// When it can't be read or run, or has no shell or init.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let mut binary = std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        silence_cursor_query(&mut binary);
        let list = output(Command::new(path).arg("--list-full"))?;
        let wanted = |path: &&str| path.rsplit('/').next().is_some_and(|name| !UNWANTED.contains(&name));
        let mut applets: Vec<String> =
            list.lines().map(str::trim).filter(wanted).map(str::to_owned).collect();
        applets.sort();
        applets.dedup();
        for needed in ["bin/sh", "sbin/init"] {
            ensure!(applets.iter().any(|applet| applet == needed), "{} has no {needed}", path.display());
        }
        Ok(Self { path: path.into(), binary, applets })
    }

    /// The password as `/etc/shadow` has it: SHA-512, with a salt that is always the same.
    fn crypt(&self, password: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.path);
        let hash = output(command.args(["mkpasswd", "-m", "sha512", "-S", "metalavametalava", password]))?;
        Ok(hash.trim().to_owned())
    }
}

/// Takes the query for the cursor's position out of an executable.
///
/// After a prompt, Debian's busybox asks the terminal where its cursor is, unless something was
/// typed ahead: a race that makes the log of one run differ from the next one's. Busybox can be
/// built without, and mostly is for boards; as the text that it prints is there once, it is made
/// empty.
fn silence_cursor_query(binary: &mut [u8]) {
    const QUERY: &[u8] = b"\x1b[6n\0";
    let mut places = binary.windows(QUERY.len()).enumerate().filter(|(_, window)| *window == QUERY);
    if let (Some((at, _)), None) = (places.next(), places.next()) {
        binary[at] = 0;
    }
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("can't run {}", program.display()))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", program.display(), output.status, reason.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", program.display()))
}

/// Who can log in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Name of the user, who has all rights whatever the name.
    pub user: String,
    /// Password in plain.
    pub password: String,
}

/// The texts that stand around busybox, by their path in `world/userland`.
#[derive(Debug)]
pub struct Userland(BTreeMap<&'static str, Vec<u8>>);

impl Userland {
    /// All of them.
    pub const FILES: [&'static str; 11] = [
        "etc/group",
        "etc/hosts",
        "etc/init.d/rcS",
        "etc/inittab",
        "etc/issue",
        "etc/os-release",
        "etc/profile",
        "installed/mount",
        "kexec",
        "login/etc/inittab",
        "login/etc/profile",
    ];

    /// Reads them.
    ///
    /// # Errors
    ///
    /// When one can't be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |file| {
            let path = folder.join(file);
            let text = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            Ok((file, text))
        };
        Self::FILES.into_iter().map(read).collect::<anyhow::Result<_>>().map(Self)
    }

    pub(crate) fn text(&self, file: &str) -> anyhow::Result<&[u8]> {
        self.0.get(file).map(Vec::as_slice).with_context(|| format!("no text {file}"))
    }
}

/// The root file system: with a shell on the console or, when `ask`, with a login in front of it.
///
/// # Errors
///
/// When busybox can't make the hash of the password.
pub fn rootfs(busybox: &Busybox, userland: &Userland, login: &Login, ask: bool) -> anyhow::Result<Tree> {
    let Login { user, password } = login;
    let mut tree = Tree::default();
    for path in [
        "bin",
        "dev",
        "etc",
        "etc/init.d",
        "home",
        "lib",
        "mnt",
        "proc",
        "run",
        "sbin",
        "sys",
        "usr",
        "usr/bin",
        "usr/sbin",
        "var",
        "var/log",
    ] {
        tree.directory(path);
    }
    tree.nodes.push(Node { path: "root".into(), mode: 0o700, uid: 0, gid: 0, kind: NodeKind::Directory });
    tree.nodes.push(Node { path: "tmp".into(), mode: 0o1777, uid: 0, gid: 0, kind: NodeKind::Directory });
    tree.symlink("var/run", "../run");
    tree.symlink("init", "sbin/init");
    tree.file("bin/busybox", 0o755, busybox.binary.as_slice());
    for applet in busybox.applets.iter().filter(|applet| *applet != "bin/busybox") {
        // As many levels up as the applet is deep.
        let up = "../".repeat(applet.matches('/').count());
        let target = if applet.starts_with("bin/") { "busybox".into() } else { format!("{up}bin/busybox") };
        tree.symlink(applet, target);
    }

    let text = |file| userland.text(file);
    let (inittab, profile) = match ask {
        true => (text("login/etc/inittab")?, text("login/etc/profile")?),
        false => (text("etc/inittab")?, text("etc/profile")?),
    };
    let hash = busybox.crypt(password)?;
    tree.file("etc/group", 0o644, text("etc/group")?);
    tree.file("etc/hostname", 0o644, "ghost\n");
    tree.file("etc/hosts", 0o644, text("etc/hosts")?);
    tree.file("etc/init.d/rcS", 0o755, text("etc/init.d/rcS")?);
    tree.file("etc/inittab", 0o644, inittab);
    tree.file("etc/issue", 0o644, text("etc/issue")?);
    tree.file("etc/os-release", 0o644, text("etc/os-release")?);
    tree.file("etc/passwd", 0o644, format!("{user}:x:0:0:{user}:/root:/bin/sh\n"));
    tree.file("etc/profile", 0o644, profile);
    tree.file("etc/shadow", 0o600, format!("{user}:{hash}:10933:0:99999:7:::\n"));
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// That root file system with what Android has elsewhere: its programs in `/system/bin`, and a place for files from outside.
#[must_use]
pub fn as_android(root: &Tree) -> Tree {
    let mut tree = root.clone();
    for path in ["data", "data/local", "data/local/tmp", "system"] {
        tree.directory(path);
    }
    tree.symlink("system/bin", "../bin");
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    tree
}

/// A ramdisk that goes on with the root on a network block device: its script is what a real one's is, and ghosts do what it does,
/// since there is no device that its client could make.
#[must_use]
pub fn nbd(root: &Tree) -> Tree {
    const SCRIPT: &str = "#!/bin/sh\n\
        mount -t proc proc /proc\n\
        value() { sed -n \"s/.*$1=\\([^ ]*\\).*/\\1/p\" /proc/cmdline; }\n\
        nbd-client \"$(value nbd.server)\" \"$(value nbd.port)\" /dev/nbd0 || exit 1\n\
        mount /dev/nbd0 /sysroot || exit 1\n\
        exec switch_root /sysroot /sbin/init\n";
    let mut tree = root.clone();
    tree.nodes.retain(|node| node.path != "init");
    tree.directory("sysroot");
    tree.file("init", 0o755, SCRIPT);
    tree.file("usr/sbin/nbd-client", 0o755, "#!/bin/sh\necho 'nbd-client: no device' >&2\nexit 1\n");
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    tree
}

/// The root file system `root` with kexec(8) in it, and a quiet `wget`.
///
/// # Errors
///
/// When the program's text was not read.
pub fn with_kexec(root: &Tree, userland: &Userland) -> anyhow::Result<Tree> {
    let mut tree = root.clone();
    tree.file("sbin/kexec", 0o755, userland.text("kexec")?);
    let profile = tree.nodes.iter_mut().find(|node| node.path == "etc/profile").map(|node| &mut node.kind);
    let Some(NodeKind::File(profile)) = profile else { bail!("no etc/profile") };
    profile.extend_from_slice(b"alias wget='wget -q'\n");
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// The modules of the kernels that are made here: one, with nothing in it that could be loaded.
#[must_use]
pub fn modules() -> Tree {
    const MODULE: &str = "kernel/drivers/misc/ghost.ko";
    let mut tree = Tree::default();
    let root = format!("lib/modules/{RELEASE}");
    let path = format!("{root}/{MODULE}");
    tree.parents(&path);
    let info =
        format!("\x7fELF\0license=GPL\0description=Placeholder\0vermagic={RELEASE} SMP preempt mod_unload\0");
    tree.file(path, 0o644, info);
    tree.file(format!("{root}/modules.builtin"), 0o644, "");
    tree.file(format!("{root}/modules.dep"), 0o644, format!("{MODULE}:\n"));
    tree.file(format!("{root}/modules.order"), 0o644, format!("{MODULE}\n"));
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_for_the_cursor_is_taken_out_only_where_it_is_sure() {
        let mut once = *b"text\0\x1b[6n\0text";
        silence_cursor_query(&mut once);
        assert_eq!(&once, b"text\0\0[6n\0text");
        let mut twice = *b"\x1b[6n\0text\x1b[6n\0";
        silence_cursor_query(&mut twice);
        assert_eq!(&twice, b"\x1b[6n\0text\x1b[6n\0");
    }

    #[test]
    fn the_modules_are_where_the_kernel_looks_for_them() {
        let tree = modules();
        assert!(tree.get("lib/modules/6.1.83-ghost/modules.dep").is_some());
        assert_eq!(tree.nodes[0].path, "lib");
    }
}
