use std::net::Ipv4Addr;
use std::path::Path;

use meta_lava_formats::{compress, cpio};
use tokio::io::AsyncReadExt;

use super::*;
use crate::console::Console;
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
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
    let (console, mut far) = Console::pipe(ledger.clone());
    console.connected().await;
    let yaml = "model: A Ghost\nfirmware: {}\nkernel:\n  lines: ['hello: board', '[    0.500000] timed']\n";
    let (board, _) = crate::board::parse::<serde_yaml::Value>("board-01", yaml).unwrap();
    let lease = Lease::new("board-01", Ipv4Addr::LOCALHOST.into());
    let bus = crate::peripheral::Bus::new(&board, tokio::sync::broadcast::channel(1).0);
    let mut machine = Machine::new(Arc::new(board), lease, vec![console], bus, ledger);
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
async fn a_ramdisk_without_init_is_noted_with_lavas_overlay_and_panics() {
    let mut tree = Tree::default();
    tree.file("etc/motd", 0o644, "hello");
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
