//! A disc that Debian is installed from, as far as an installer without a network's mirror looks at it: what tells that it is one,
//! kernel and ramdisk of the installer, and what it installs.

use anyhow::{Context, bail};
use meta_lava_formats::kernel::RELEASE;
use meta_lava_formats::tree::{NodeKind, Tree};
use meta_lava_formats::{compress, cpio, tar};

use crate::userland::Userland;

/// What is in an initramfs-tools' ramdisk that tells what it is: it mounts the root of this machine. Ghosts do what it does.
const LOCAL: &str = "#!/bin/sh\n# Mounts what root= names, and goes on with the init that is there.\n";

/// What the installer's ramdisk has instead of its programs: ghosts do what they do, since there is no disk that they could write to.
const INSTALLER: &str = "#!/bin/sh\necho 'debian-installer: no disk' >&2\nexit 1\n";

/// The system that is installed: a root file system that asks for a login, with Debian's shell and a mount that takes names, and with
/// the kernel and the ramdisk that it boots.
///
/// # Errors
/// When its ramdisk can't be made.
pub fn installed(root: &Tree, userland: &Userland, kernel: Vec<u8>, bash: Vec<u8>) -> anyhow::Result<Tree> {
    let mut tree = root.clone();
    tree.nodes.retain(|node| !matches!(node.path.as_str(), "bin/mount" | "init"));
    tree.file("bin/mount", 0o755, userland.text("installed/mount")?);
    let profile = tree.nodes.iter_mut().find(|node| node.path == "etc/profile").map(|node| &mut node.kind);
    let Some(NodeKind::File(profile)) = profile else { bail!("no etc/profile") };
    // Busybox's shell takes a command of its own for that program.
    profile.extend_from_slice(b"alias mount=/bin/mount\n");
    tree.file("bin/bash", 0o755, bash);
    tree.directory("boot");
    tree.file(format!("boot/vmlinuz-{RELEASE}"), 0o644, kernel);
    let mut ramdisk = Tree::default();
    ramdisk.symlink("init", "scripts/local");
    ramdisk.directory("scripts");
    ramdisk.file("scripts/local", 0o755, LOCAL);
    tree.file(format!("boot/initrd.img-{RELEASE}"), 0o644, compress::gzip(&cpio::write(&ramdisk)?)?);
    tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// What is on the disc: `installed` as an archive, and the installer's `kernel` with a ramdisk made of `root`.
///
/// # Errors
/// When an archive can't be made.
pub fn disc(root: &Tree, installed: &Tree, kernel: Vec<u8>) -> anyhow::Result<Tree> {
    let mut ramdisk = root.clone();
    let init = ramdisk.nodes.iter_mut().find(|node| node.path == "init").context("no init")?;
    init.kind = NodeKind::Symlink("sbin/debian-installer".into());
    ramdisk.file("sbin/debian-installer", 0o755, INSTALLER);
    ramdisk.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    let mut disc = Tree::default();
    disc.directory(".disk");
    disc.file(
        ".disk/info",
        0o644,
        "Debian GNU/Linux 12.5.0 \"Bookworm\" - Ghost amd64 NETINST with firmware\n",
    );
    disc.directory("install.amd");
    disc.file("install.amd/initrd.gz", 0o644, compress::gzip(&cpio::write(&ramdisk)?)?);
    disc.file("install.amd/vmlinuz", 0o644, kernel);
    disc.directory("pool");
    disc.file("pool/base.tar.gz", 0o644, compress::gzip(&tar::write(installed)?)?);
    Ok(disc)
}
