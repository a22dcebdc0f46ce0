use std::net::Ipv4Addr;
use std::path::Path;

use meta_lava_formats::{compress, cpio};
use tokio::io::AsyncReadExt;

use super::*;
use crate::console::Console;
use crate::disk::{Bus, Format};
use crate::ledger::{Entry, Ledger};
use crate::net::Lease;

const BANNER: &str = "Linux version 6.1.0-ghost (meta@lava) #1 SMP";

/// An image whose kernel has a banner.
fn image(cmdline: &str) -> BootImage {
    BootImage {
        kernel: [b"\x7fkernel\0", BANNER.as_bytes(), b"\n\0"].concat(),
        cmdline: cmdline.into(),
        ..BootImage::default()
    }
}

fn ramdisk(tree: &Tree) -> Option<Vec<u8>> {
    Some(compress::gzip(&cpio::write(tree).unwrap()).unwrap())
}

struct Booted {
    exit: Exit,
    printed: String,
    events: Vec<Event>,
    dir: tempfile::TempDir,
}

impl Booted {
    fn violations(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Violation { what, .. } => Some(what.as_str()),
                _ => None,
            })
            .collect()
    }
}

fn events(dir: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(dir.join("ledger.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap().event).collect()
}

/// Boots an image that does not come as far as its userland.
async fn boot(image: BootImage) -> Booted {
    boot_with(image, |_| {}).await
}

/// The same, on a machine that has what `prepare` gives it.
async fn boot_with(image: BootImage, prepare: impl FnOnce(&mut Machine)) -> Booted {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
    let (console, mut far) = Console::pipe(ledger.clone());
    console.connected().await;
    let yaml = "model: A Ghost\nfirmware: {}\nkernel:\n  lines: ['hello: board', '[    0.500000] timed']\n";
    let (board, _) = crate::board::parse::<serde_yaml::Value>("board-01", yaml).unwrap();
    let lease = Lease::new("board-01", Ipv4Addr::LOCALHOST.into());
    let bus = crate::peripheral::Bus::new(&board, tokio::sync::broadcast::channel(1).0);
    let mut machine = Machine::new(Arc::new(board), lease, vec![console], bus, ledger);
    prepare(&mut machine);
    let exit = run(&mut machine, image).await;
    // The other side hangs up when the board has, as LAVA's telnet does.
    let heard = async move {
        let mut printed = String::new();
        far.read_to_string(&mut printed).await.unwrap();
        printed
    };
    let ((), printed) = tokio::join!(machine.console().hang_up(), heard);
    Booted { exit, printed: printed.replace("\r\n", "\n"), events: events(dir.path()), dir }
}

#[tokio::test]
async fn a_kernel_without_a_root_panics() {
    let booted = boot(image("console=ttyS0 root=/dev/mmcblk0p2")).await;
    assert_eq!(
        booted.printed,
        "[    0.000000] Booting Linux on physical CPU 0x0\n\
         [    0.000000] Linux version 6.1.0-ghost (meta@lava) #1 SMP\n\
         [    0.000000] Machine model: A Ghost\n\
         [    0.000000] Kernel command line: console=ttyS0 root=/dev/mmcblk0p2\n\
         [    0.008731] hello: board\n\
         [    0.500000] timed\n\
         [    0.017462] VFS: Cannot open root device \"mmcblk0p2\" or unknown-block(0,0): error -6\n\
         [    0.026193] Please append a correct \"root=\" boot option; here are the available partitions:\n\
         [    0.034924] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n\
         [    0.043655] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0-ghost #1\n\
         [    0.052386] Hardware name: A Ghost\n\
         [    0.061117] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---\n"
    );
    assert_eq!(booted.exit, Exit::Halt);
    assert_eq!(booted.violations(), [""; 0]);
}

#[tokio::test]
async fn what_is_no_kernel_says_nothing() {
    let booted = boot(BootImage { kernel: b"rubbish".to_vec(), ..image("") }).await;
    assert_eq!(booted.printed, "");
    assert_eq!(booted.exit, Exit::Halt);
    assert_eq!(booted.violations(), ["no-kernel"]);
}

#[tokio::test]
async fn a_damaged_ramdisk_is_told_and_panics() {
    let booted = boot(BootImage { ramdisk: Some(b"rubbish".to_vec()), ..image("") }).await;
    assert!(booted.printed.contains("Unpacking initramfs...\n"));
    assert!(
        booted.printed.contains("Initramfs unpacking failed: invalid magic at start of compressed archive\n")
    );
    assert!(booted.printed.contains("---[ end Kernel panic - not syncing: VFS"));
    assert_eq!(booted.violations(), ["bad-ramdisk"]);
}

#[tokio::test]
async fn what_the_kernel_leaves_out_of_a_ramdisk_is_noted_and_not_there() {
    let mut tree = Tree::default();
    tree.file("bin/busybox", 0o755, "elf");
    tree.symlink("bin/sh", "busybox");
    tree.directory("bin");
    let booted = boot(BootImage { ramdisk: ramdisk(&tree), ..image("") }).await;
    assert!(!booted.printed.contains("busybox"));
    assert_eq!(booted.violations(), ["lost-in-ramdisk"]);
    assert!(booted.events.iter().any(|event| matches!(
        event,
        Event::Tree { entries, .. } if entries.iter().map(|entry| &*entry.path).eq(["bin"])
    )));
}

#[tokio::test]
async fn a_ramdisk_without_init_is_noted_with_lavas_overlay_and_panics() {
    let mut tree = Tree::default();
    tree.directory("etc");
    tree.file("etc/motd", 0o644, "hello");
    tree.parents("lava-42/bin/lava-test-runner");
    tree.file("lava-42/bin/lava-test-runner", 0o755, "#!/bin/sh\n");
    let image = BootImage { ramdisk: ramdisk(&tree), ..image("") };
    let sum = sha256(image.ramdisk.as_deref().unwrap());
    let booted = boot(image).await;
    assert!(booted.printed.contains("VFS: Cannot open root device \"(null)\""));
    let noted: Vec<&Event> = booted
        .events
        .iter()
        .filter(|event| matches!(event, Event::Boot { .. } | Event::Tree { .. }))
        .collect();
    assert_eq!(
        noted,
        [
            &Event::Boot {
                kernel: sha256(&super::tests::image("").kernel),
                cmdline: String::new(),
                ramdisk: Some(sum.clone()),
                dtb: None
            },
            &Event::Tree { root: "ramdisk".into(), source: sum, entries: tree.listing() },
        ]
    );
    let blobs: Vec<_> = crate::blobs::read(booted.dir.path()).into_keys().collect();
    assert_eq!(blobs, [sha256(b"#!/bin/sh\n")]);
}

#[tokio::test]
async fn an_nfs_root_that_nobody_serves_panics() {
    let booted = boot(image("root=/dev/nfs nfsroot=127.0.0.1:/no/such,tcp ip=dhcp")).await;
    assert!(booted.printed.contains("IP-Config: Got DHCP answer from 127.0.0.1, my address is 192.168."));
    assert!(booted.printed.contains("VFS: Unable to mount root fs via NFS.\n"));
    assert!(booted.printed.contains("on unknown-block(0,255) ]---\n"));
    assert!(booted.events.iter().any(|event| matches!(event, Event::FileFailed { .. })));
    assert_eq!(booted.violations(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_reboots_when_the_command_line_says_so() {
    let booted = boot(image("panic=30")).await;
    assert!(booted.printed.ends_with("Rebooting in 30 seconds..\n"));
    assert_eq!(booted.exit, Exit::Reboot);
}

#[tokio::test]
async fn the_device_tree_names_the_board_and_the_command_line() {
    let mut tree = fdt::Fdt::default();
    tree.root.set_text("model", "A Better Ghost");
    let mut chosen = fdt::Node::new("chosen");
    chosen.set_text("bootargs", "quiet");
    tree.root.children.push(chosen);
    let booted = boot(BootImage { dtb: Some(tree.to_bytes().unwrap()), ..image("") }).await;
    assert!(booted.printed.contains("Machine model: A Better Ghost\n"));
    assert!(booted.printed.contains("Kernel command line: quiet\n"));
}

/// A ramdisk that is Debian's installer.
fn installer() -> Option<Vec<u8>> {
    let mut tree = Tree::default();
    tree.directory("sbin");
    tree.file("sbin/debian-installer", 0o755, "#!/bin/sh\n");
    tree.symlink("init", "sbin/debian-installer");
    ramdisk(&tree)
}

/// A disc with a system on it.
fn disc() -> Tree {
    let mut base = Tree::default();
    base.file("boot/vmlinuz-6.1.0-ghost", 0o644, "a kernel");
    base.file("boot/initrd.img-6.1.0-ghost", 0o644, "a ramdisk");
    base.file("etc/shadow", 0o600, "root:*:10933:0:99999:7:::\ndaemon:*:10933:0:99999:7:::\n");
    let base = compress::gzip(&meta_lava_formats::tar::write(&base).unwrap()).unwrap();
    let mut disc = Tree::default();
    disc.file(".disk/info", 0o644, "Debian GNU/Linux 12\n");
    disc.file("pool/base.tar.gz", 0o644, base);
    disc
}

/// Answers to all questions, with the boot loader on `device`.
fn answers(device: &str) -> String {
    format!(
        "d-i passwd/root-password-crypted password $6$salt$hash\nd-i passwd/make-user boolean false\n\
         d-i partman-auto/method string regular\nd-i partman/default_filesystem string ext2\n\
         d-i partman-partitioning/confirm_write_new_label boolean true\nd-i partman/choose_partition select finish\n\
         d-i partman/confirm boolean true\nd-i partman/confirm_nooverwrite boolean true\n\
         d-i grub-installer/bootdev string {device}\nd-i finish-install/reboot_in_progress note\n\
         d-i debian-installer/exit/poweroff boolean true\n"
    )
}

/// What an installer did with an empty disk, told what to do by `answers`, and its disks afterwards.
async fn installed(answers: String, disc: Option<Tree>) -> (Booted, Vec<Disk>, tempfile::NamedTempFile) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/preseed.cfg", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answers}",
            answers.len()
        );
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
    });
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(8 << 20).unwrap();
    let disk = || Disk::read_all(image.as_file(), Format::Raw, Bus::Scsi, 0).unwrap();
    let cmdline = format!("auto=true netcfg/get_hostname=debian preseed/url={url} --- console=ttyS0");
    let booted = boot_with(BootImage { ramdisk: installer(), ..super::tests::image(&cmdline) }, |machine| {
        machine.disks = disk().into_iter().map(|disk| disk.kept_in(image.path().into())).collect();
        machine.cd = disc.map(Arc::new);
    });
    let booted = booted.await;
    (booted, disk(), image)
}

#[tokio::test]
async fn an_installer_makes_a_disk_that_boots() {
    let (booted, disks, _image) = installed(answers("/dev/sda"), Some(disc())).await;
    assert_eq!(booted.violations(), [""; 0]);
    assert_eq!(booted.exit, Exit::PowerOff);
    assert!(booted.printed.ends_with("reboot: Power down\n"), "{}", booted.printed);
    let tree = disks[1].content().unwrap();
    let text = |path: &str| match &tree.get(path).unwrap().kind {
        NodeKind::File(content) => String::from_utf8(content.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(text("etc/hostname"), "debian\n");
    assert_eq!(text("etc/shadow"), "root:$6$salt$hash:10933:0:99999:7:::\ndaemon:*:10933:0:99999:7:::\n");
    assert!(text("boot/grub/grub.cfg").contains("linux\t/boot/vmlinuz-6.1.0-ghost root=UUID="));
    assert!(text("boot/grub/grub.cfg").contains(" ro console=ttyS0\n"));
}

#[tokio::test]
async fn an_installer_waits_for_what_nobody_has_answered() {
    let confirmed =
        answers("/dev/sda").replace("partman/confirm boolean true", "partman/confirm boolean false");
    let other_disk = answers("/dev/sdb");
    for (answers, disc, says) in [
        (confirmed, Some(disc()), "Write the changes to disks?\nPrompt: '?' for help> "),
        (other_disk, Some(disc()), "!! ERROR: Unable to install GRUB in /dev/sdb"),
        ("<html>\n".into(), Some(disc()), "!! ERROR: Failed to process the preconfiguration file"),
        (answers("/dev/sda"), Some(Tree::default()), "Your installation media couldn't be mounted."),
        (answers("/dev/sda"), None, "Your installation media couldn't be mounted."),
    ] {
        let (booted, disks, _image) = installed(answers, disc).await;
        assert!(booted.printed.contains(says), "{}", booted.printed);
        assert_eq!((booted.exit, booted.violations()), (Exit::Halt, vec!["installer-stops"]));
        assert_eq!(disks.len(), 1, "nothing is written");
    }
}

#[tokio::test]
async fn a_ramdisk_of_debians_goes_on_with_the_root_that_it_is_told() {
    let mut tree = Tree::default();
    tree.directory("scripts");
    tree.file("scripts/local", 0o755, "#!/bin/sh\n");
    tree.symlink("init", "scripts/local");
    let booted = boot(BootImage { ramdisk: ramdisk(&tree), ..image("root=UUID=1-2 ro") }).await;
    assert!(booted.printed.contains("ALERT!  UUID=1-2 does not exist.  Dropping to a shell!\n"));
    assert!(booted.printed.contains("Attempted to kill init! exitcode=0x00000100"));
}
