//! A board's userland in its sandbox: what it can do, and what it can't.
//!
//! The userland is the static busybox of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use meta_lava_formats::tree::{Node, NodeKind, Tree};
use meta_lava_formats::{compress, cpio, tar};
use meta_lava_ghost::board;
use meta_lava_ghost::console::Console;
use meta_lava_ghost::disk::{Bus, Disk, Format};
use meta_lava_ghost::fault::Faults;
use meta_lava_ghost::firmware::BootImage;
use meta_lava_ghost::ledger::{Entry, Event, Ledger, Protocol};
use meta_lava_ghost::linux;
use meta_lava_ghost::linux::gateway::Gateway;
use meta_lava_ghost::linux::sandbox::{
    self, Clock, Container, End, Entered, Init, Loaded, Mount, NamedBy, NotRun, Program, Told, Userland,
};
use meta_lava_ghost::machine::Machine;
use meta_lava_ghost::net::{Lease, Net};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == sandbox::ARGUMENT) {
        return sandbox::main();
    }
    if let Some(ENTER) = std::env::args().nth(1).as_deref() {
        return enter();
    }
    let skip = missing();
    if let Some(reason) = &skip {
        println!("the sandbox is not tested: {reason}");
    }
    macro_rules! trials {
        ($($name:ident),* $(,)?) => {
            vec![$(Trial::test(stringify!($name), || block_on($name())).with_ignored_flag(skip.is_some())),*]
        };
    }
    libtest_mimic::run(
        &Arguments::from_args(),
        trials![
            a_shell_prompts_and_runs_commands,
            the_board_looks_like_itself,
            reboot_and_poweroff_are_told_apart,
            what_kexec_has_loaded_is_started,
            a_link_in_place_of_a_kernel_leads_nowhere,
            kexec_refuses_what_the_real_one_would,
            an_init_that_ends_is_the_end,
            a_drop_leaves_no_process_and_no_mount,
            a_drop_while_the_tree_is_on_its_way_leaves_nothing,
            the_worker_is_out_of_sight,
            root_may_not_reach_out,
            a_disk_is_mounted_as_the_kernel_would_and_nothing_else_is,
            two_boards_do_not_see_each_other,
            a_malicious_tree_stays_inside,
            modes_owners_and_duplicates_are_kept,
            an_init_that_can_not_run_is_told_as_the_kernel_does,
            long_input_and_output_come_whole,
            a_shell_of_an_init_has_job_control,
            a_user_logs_in,
            what_is_typed_ahead_is_echoed_at_the_next_prompt,
            a_command_that_reads_gets_its_line,
            a_command_that_prints_for_ever_can_be_interrupted,
            root_is_nobody_outside_and_its_processes_are_counted,
            the_loopback_interface_works,
            a_board_reaches_its_worker_and_nobody_else,
            what_a_board_can_use_up_is_bounded,
            a_board_that_runs_wild_leaves_the_others_alone,
            a_kernel_boots_its_ramdisk_and_reboots,
            a_boot_is_fast,
            a_container_runs_its_program_with_what_is_mounted,
            a_program_that_can_not_be_run_is_told_as_runc_does,
            another_program_enters_a_container,
        ],
    )
    .exit_code()
}

/// Why nothing can be tested here.
fn missing() -> Option<String> {
    if let Err(error) = fs::metadata(BUSYBOX) {
        return Some(format!("{BUSYBOX}: {error}"));
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    const SYS_ADMIN: u32 = 21;
    (effective & (1 << SYS_ADMIN) == 0).then(|| "it takes CAP_SYS_ADMIN".into())
}

const BUSYBOX: &str = "/bin/busybox";
const PROMPT: &str = "/ # ";

fn block_on(test: impl Future<Output = ()> + Send + 'static) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Its own task, so that a panic is a failure.
    runtime.block_on(async { tokio::spawn(test).await.map_err(|error| error.to_string().into()) })
}

/// What the ledger in `dir` has.
fn events(dir: &Path) -> Vec<Event> {
    let text = fs::read_to_string(dir.join("ledger.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap().event).collect()
}

/// A tree with busybox, and this `/init`.
fn tree(init: &str) -> Tree {
    let mut tree = Tree::default();
    tree.directory("bin");
    tree.file("bin/busybox", 0o755, fs::read(BUSYBOX).unwrap());
    let applets = Command::new(BUSYBOX).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox") {
        tree.symlink(format!("bin/{applet}"), "busybox");
    }
    tree.file("init", 0o755, init);
    tree
}

/// The line's width is said so that the shell does not break lines.
const SHELL: &str = "#!/bin/sh\nexport PATH=/bin\nstty rows 24 cols 1000\nexec sh\n";

fn userland() -> Userland {
    Userland {
        hostname: "board-01".into(),
        cmdline: "console=ttyS0,115200 root=/dev/ram0".into(),
        inits: vec![Init { path: "/init".into(), args: vec![], named_by: NamedBy::Ramdisk }],
        prefix: "[    1.000000] ".into(),
        clock: Clock::default(),
        container: None,
        disks: Vec::new(),
    }
}

/// The test's end of a serial port.
struct Far {
    far: DuplexStream,
    seen: String,
}

/// A board at work, and the test on its serial port.
struct Board {
    far: Far,
    running: JoinHandle<End>,
    dir: tempfile::TempDir,
}

impl Far {
    /// Waits for `text`, and returns what came before it.
    async fn expect(&mut self, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut bytes = vec![0; 64 << 10];
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                let mut before = std::mem::replace(&mut self.seen, rest);
                before.truncate(at);
                return before;
            }
            match tokio::time::timeout_at(deadline, self.far.read(&mut bytes)).await {
                Ok(Ok(size)) if size > 0 => self.seen.push_str(&String::from_utf8_lossy(&bytes[..size])),
                _ => panic!("waited for {text:?}, saw {:?}", self.seen),
            }
        }
    }

    async fn keys(&mut self, keys: &str) {
        self.far.write_all(keys.as_bytes()).await.unwrap();
    }
}

impl Board {
    async fn start(userland: Userland, tree: Tree) -> Self {
        Self::start_with(userland, tree, None).await
    }

    async fn start_with(userland: Userland, tree: Tree, server: Option<SocketAddrV4>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
        let (mut console, far) = Console::pipe(ledger.clone());
        console.connected().await;
        let net = Net::new(
            Lease::new("board-01", Ipv4Addr::LOCALHOST.into()),
            ledger.clone(),
            Faults::new(&[], ledger),
        );
        let gateway = server.map(|server| Gateway::new(&net, server));
        let running = tokio::spawn(async move { sandbox::run(userland, tree, gateway, &mut console).await });
        Self { far: Far { far, seen: String::new() }, running, dir }
    }

    async fn shell() -> Self {
        Self::shell_with(None).await
    }

    async fn shell_with(server: Option<SocketAddrV4>) -> Self {
        let mut board = Self::start_with(userland(), tree(SHELL), server).await;
        board.expect(PROMPT).await;
        board
    }

    async fn expect(&mut self, text: &str) -> String {
        self.far.expect(text).await
    }

    async fn keys(&mut self, keys: &str) {
        self.far.keys(keys).await;
    }

    /// Runs a command in the shell, and returns what it printed.
    async fn sh(&mut self, command: &str) -> String {
        self.keys(&format!("{command}\n")).await;
        let seen = self.expect(PROMPT).await;
        // busybox asks the terminal where its cursor is.
        let seen = seen.replace("\x1b[6n", "");
        let (echo, printed) = seen.split_once("\r\n").unwrap();
        assert_eq!(echo, command);
        printed.replace("\r\n", "\n").trim_end().to_owned()
    }

    async fn end(self) -> End {
        tokio::time::timeout(Duration::from_secs(20), self.running).await.unwrap().unwrap()
    }

    /// What a power cut does: the future is dropped.
    async fn cut(self) {
        self.running.abort();
        let error = tokio::time::timeout(Duration::from_secs(20), self.running).await.unwrap().unwrap_err();
        assert!(error.is_cancelled());
    }
}

async fn a_shell_prompts_and_runs_commands() {
    let mut board = Board::shell().await;
    assert_eq!(board.sh("echo $((6 * 7))").await, "42");
    assert_eq!(board.sh("echo one > /tmp/a; cat /tmp/a; rm /tmp/a; ls /tmp").await, "one");
    assert_eq!(board.sh("false || echo $?").await, "1");
    board.cut().await;
}

async fn the_board_looks_like_itself() {
    let mut board = Board::shell().await;
    assert_eq!(board.sh("hostname").await, "board-01");
    assert_eq!(board.sh("cat /proc/cmdline").await, "console=ttyS0,115200 root=/dev/ram0");
    assert_eq!(board.sh("id -u; echo $$; pwd; echo $HOME $TERM; umask").await, "0\n1\n/\n/ linux\n0022");
    assert_eq!(
        board.sh("ls /dev").await.split_whitespace().collect::<Vec<_>>(),
        "console fd full kexec kmsg null ptmx pts random shm stderr stdin stdout tty ttyS0 urandom zero"
            .split(' ')
            .collect::<Vec<_>>()
    );
    assert_eq!(
        board.sh("echo lost > /dev/null; echo heard > /dev/ttyS0; echo too > /dev/console").await,
        "heard\ntoo"
    );
    assert_eq!(
        board.sh("head -c 5 /dev/zero | wc -c; ls /sys").await,
        "5\nls: /sys: No such file or directory"
    );
    assert_eq!(board.sh("cut -d' ' -f1 /proc/1/mountinfo | sort | uniq -d").await, "");
    assert_eq!(board.sh("ls -1 /proc/self/fd").await, "0\n1\n2\n3");
    board.cut().await;
}

async fn reboot_and_poweroff_are_told_apart() {
    for (command, end) in
        [("reboot -f", End::Reboot), ("poweroff -f", End::PowerOff), ("halt -f", End::PowerOff)]
    {
        let mut board = Board::shell().await;
        board.keys(&format!("{command}\n")).await;
        assert_eq!(board.end().await, end, "{command}");
    }
    // As busybox's init does it, with all that runs.
    let mut inittab = tree("");
    inittab.symlink("init", "bin/busybox");
    inittab.file("etc/inittab", 0o644, "ttyS0::respawn:-/bin/sh\n::shutdown:/bin/echo going down\n");
    let mut board = Board::start(userland(), inittab).await;
    board.expect(PROMPT).await;
    board.keys("sleep 1000 & poweroff\n").await;
    board.expect("going down").await;
    assert_eq!(board.end().await, End::PowerOff);
}

/// A shell with the world's own kexec, and an `Image` for 64-bit Arm that is none but for its magic number.
async fn with_kexec() -> Board {
    let mut tree = tree("");
    tree.file("sbin/kexec", 0o755, include_str!("../../world/userland/kexec"));
    tree.file("Image", 0o644, format!("{:56}ARMd", ""));
    tree.symlink("init", "bin/busybox");
    tree.file("etc/inittab", 0o644, "ttyS0::respawn:-/bin/sh\n");
    let mut board = Board::start(userland(), tree).await;
    board.expect(PROMPT).await;
    board
}

async fn what_kexec_has_loaded_is_started() {
    let mut board = with_kexec().await;
    assert_eq!(
        board
            .sh("echo initrd > /initrd; kexec -l /Image --initrd /initrd --append='root=/dev/nfs'; echo $?")
            .await,
        "0"
    );
    board.keys("kexec -e\n").await;
    let loaded = Loaded {
        kernel: format!("{:56}ARMd", "").into_bytes(),
        cmdline: "root=/dev/nfs".into(),
        initrd: Some(b"initrd\n".to_vec()),
        dtb: None,
    };
    assert_eq!(board.end().await, End::Kexec(Box::new(loaded)));
}

async fn a_link_in_place_of_a_kernel_leads_nowhere() {
    let mut board = with_kexec().await;
    board.keys("cd /dev/kexec; ln -s /etc/inittab kernel; : > start; reboot -f\n").await;
    let end = board.end().await;
    assert!(matches!(&end, End::Refused(why) if why.contains("can't be read")), "{end:?}");
}

/// As kexec-tools 2.0.25 printed them.
async fn kexec_refuses_what_the_real_one_would() {
    let mut board = with_kexec().await;
    for (args, says) in [
        ("--load /nosuch", "Cannot open `/nosuch': No such file or directory\n1"),
        ("--load /etc/inittab", "Cannot determine the file type of /etc/inittab\n255"),
        ("--load", "No kernel specified\n255"),
        ("--frob", "kexec: unrecognized option '--frob'\n1"),
        ("-e", "kexec failed: Invalid argument\n255"),
        ("--version", "kexec-tools 2.0.25\n0"),
    ] {
        assert_eq!(board.sh(&format!("kexec {args}; echo $?")).await, says, "{args}");
    }
    board.cut().await;
}

async fn an_init_that_ends_is_the_end() {
    for (command, status) in [("exit 0", 0), ("exit 3", 3 << 8)] {
        let mut board = Board::shell().await;
        board.keys(&format!("echo last words; {command}\n")).await;
        board.expect("\r\nlast words\r\n").await;
        assert_eq!(board.end().await, End::Exited(status), "{command}");
    }
}

/// The processes, the test's own included, whose command line has this word.
fn processes(word: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|cmdline| cmdline.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()))
        .count()
}

/// The boards' root file systems that this process sees mounted. All else that a board
/// mounts is below them; what others on this machine mount meanwhile is not ours.
fn roots() -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(" - tmpfs rootfs ")).count()
}

/// The mount namespaces that processes are in.
fn namespaces() -> BTreeSet<std::path::PathBuf> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path().join("ns/mnt")).ok())
        .collect()
}

async fn a_drop_leaves_no_process_and_no_mount() {
    let mut board = Board::shell().await;
    let word = format!("1000{}", std::process::id());
    board.sh(&format!("sleep {word} & (trap '' HUP INT TERM; setsid sh -c 'sleep {word}' & wait) &")).await;
    board.sh("(while :; do :; done) & echo started").await;
    let theirs = board.sh("readlink /proc/self/ns/mnt").await;
    assert_eq!(processes(&word), 2);
    assert!(namespaces().contains(std::path::Path::new(&theirs)));
    let start = Instant::now();
    board.cut().await;
    println!("a power cut takes {:?}", start.elapsed());
    assert_eq!(processes(&word), 0);
    assert!(!namespaces().contains(std::path::Path::new(&theirs)));
    assert_eq!(roots(), 0);
}

async fn a_drop_while_the_tree_is_on_its_way_leaves_nothing() {
    let mut large = tree(SHELL);
    large.file("large", 0o644, vec![7; 64 << 20]);
    let word = "a-board-that-is-cut-off";
    let mut userland = userland();
    userland.inits[0].args.push(word.into());
    for _ in 0..5 {
        let board = Board::start(userland.clone(), large.clone()).await;
        tokio::task::yield_now().await;
        board.cut().await;
    }
    assert_eq!(processes(word), 0);
}

async fn the_worker_is_out_of_sight() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut board = Board::shell().await;
    assert_eq!(board.sh(&format!("cat {} 2> /dev/null", secret.display())).await, "");
    assert_eq!(board.sh(&format!("ls {} 2> /dev/null", socket.display())).await, "");
    // Its own shell and nothing else; a pipe would count those of its programs that were started by then.
    assert_eq!(board.sh("set -- /proc/[0-9]*; echo $#").await, "1");
    assert_eq!(
        board.sh("ls -a /").await.split_whitespace().collect::<Vec<_>>(),
        [".", "..", "bin", "dev", "init", "proc", "tmp"]
    );
    assert_eq!(board.sh("ls -a /..").await, board.sh("ls -a /").await);
    // Its own root is all that its PID 1 has open.
    assert_eq!(board.sh("readlink /proc/1/root; readlink /proc/1/cwd").await, "/\n/");
    assert_eq!(board.sh("for fd in /proc/1/fd/*; do readlink $fd; done | sort -u").await, "/dev/console");
    let mounts =
        board.sh("grep -c . /proc/mounts; grep -c -e tempfile -e ext4 -e overlay /proc/mounts").await;
    assert!(mounts.ends_with("\n0"), "{mounts}");
    // Only the loopback interface.
    assert_eq!(board.sh("grep -c : /proc/net/dev").await, "1");
    board.cut().await;
}

async fn root_may_not_reach_out() {
    let mut board = Board::shell().await;
    for command in [
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /proc",
        "umount /proc",
        "umount -l /",
        "mknod /tmp/disk b 8 0",
        "mknod /tmp/mem c 1 1",
        "chroot / true",
        "hostname other",
        "echo 1 > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /proc/sys/kernel/core_pattern",
        "chmod 600 /dev/null",
        "chown 1 /dev/urandom",
        "unshare -m true",
        "unshare -U true",
        "unshare -Ur true",
        "nsenter -t 1 -m true",
        "dmesg",
        "swapoff /dev/null",
        "nice -n -5 true",
        "ip link add dummy0 type dummy",
        "cat /proc/1/mem",
        "mount -o bind / /tmp",
        "mount -t proc none /tmp",
        "losetup /dev/loop0 /bin/busybox",
        "insmod /bin/busybox",
        "ip link set lo down",
        "ip address add 10.0.0.1/8 dev lo",
        "ping -c 1 -W 1 127.0.0.1",
        "echo 0 > /proc/self/oom_score_adj",
        "ulimit -n 100000",
        "head -c 1 /dev/mem",
        "cat /var/run/docker.sock /run/ghost/control.sock",
        "kill -9 1",
        "kill -0 2147483647",
        &format!("kill -0 {}", u32::MAX / 4 + std::process::id()),
    ] {
        let printed = board.sh(&format!("({command}) > /dev/null 2> /dev/null && echo it did")).await;
        if command == "kill -9 1" {
            // The call succeeds, and PID 1 does not care (pid_namespaces(7)).
            continue;
        }
        assert_eq!(printed, "", "{command}");
    }
    assert_eq!(board.sh("head -c 10 /proc/kcore /proc/keys 2> /dev/null | grep -v == | wc -w").await, "0");
    assert_eq!(board.sh("grep -E 'NoNewPrivs|CapBnd|CapEff' /proc/self/status").await.replace('\t', " "), {
        "CapEff: 00000000004004fb\nCapBnd: 00000000004004fb\nNoNewPrivs: 1"
    });
    board.cut().await;
}

/// A disk with a small file system, and another without any.
fn disks() -> Vec<Disk> {
    let packed: &[u8] = include_bytes!("../../formats/src/ext/small.ext2.gz");
    let mut with = compress::decompress(packed, 1 << 20).unwrap().into_owned();
    // Its name (`s_volume_name`).
    with[1024 + 120..][..4].copy_from_slice(b"LAVA");
    let image = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    };
    vec![
        Disk::read(image(&with), Format::Raw, Bus::Virtio, 0).unwrap(),
        Disk::read(image(&[0; 4096]), Format::Raw, Bus::Scsi, 0).unwrap(),
    ]
}

async fn a_disk_is_mounted_as_the_kernel_would_and_nothing_else_is() {
    let userland = Userland { disks: disks(), ..userland() };
    let uuid = userland.disks[0].device().superblock.unwrap().uuid;
    let mut board = Board::start(userland, tree(SHELL)).await;
    board.expect(PROMPT).await;
    assert_eq!(board.sh("ls -l /dev/vda /dev/sda | cut -c 1-10").await, "brw-------\nbrw-------");
    assert_eq!(board.sh("head -c 1 /dev/vda").await, "head: /dev/vda: Permission denied");
    assert_eq!(board.sh("readlink /dev/disk/by-label/*").await, "../../vda");
    assert_eq!(
        board.sh(&format!("mkdir /lava && mount /dev/disk/by-uuid/{uuid} -t ext2 /lava")).await,
        "[    0.008731] EXT4-fs (vda): mounting ext2 file system using the ext4 subsystem\n\
         [    0.017462] EXT4-fs (vda): mounted filesystem without journal. Quota mode: none."
    );
    assert_eq!(board.sh("stat -c '%a %u %n' /lava/*/*; cat /lava/lava/hostname").await, {
        "777 0 /lava/bin/sh\n600 0 /lava/lava/hostname\nghost"
    });
    assert_eq!(board.sh("echo mine > /lava/new && umount /lava && ls /lava").await, "");
    // A path from the working folder, and what was written before.
    let again = "cd / && mount -r -t ext4 /dev/vda lava && cat lava/new";
    assert_eq!(board.sh(again).await, {
        "[    0.026193] EXT4-fs (vda): mounted filesystem without journal. Quota mode: none.\nmine"
    });
    assert_eq!(board.sh("echo x > /lava/new").await, "sh: can't create /lava/new: Read-only file system");
    for (command, said) in [
        ("mount -t ext2 /dev/sda /tmp", "Invalid argument"),
        ("mount -t ext2 /dev/vda /missing", "No such file or directory"),
        ("mount -t ext2 /dev/disk/by-uuid/0 /tmp", "No such file or directory"),
        ("mount -t ext2 /dev/vda /init", "Not a directory"),
        ("mount -t vfat /dev/vda /tmp", "No such device"),
        ("mount -t tmpfs none /tmp", "permission denied (are you root?)"),
        ("mount -o bind /dev/vda /tmp", "permission denied (are you root?)"),
        ("mount -o remount,rw /proc", "permission denied (are you root?)"),
        ("umount /proc", "Operation not permitted"),
        ("umount -l /", "Operation not permitted"),
    ] {
        let printed = board.sh(&format!("{command}; echo $?")).await;
        assert!(printed.contains(said) && !printed.ends_with("\n0"), "{command}: {printed}");
    }
    board.cut().await;
}

async fn two_boards_do_not_see_each_other() {
    let (mut one, mut other) = (Board::shell().await, Board::shell().await);
    one.sh("echo here > /tmp/mine; sleep 1234567 &").await;
    assert_eq!(other.sh("ls /tmp").await, "");
    assert_eq!(other.sh("pidof sleep").await, "");
    // The same number means another process, or none.
    assert_eq!(other.sh("kill -9 2 3 4 5 6 2> /dev/null; echo still here").await, "still here");
    assert_eq!(one.sh("pidof sleep | wc -w").await, "1");
    let inode = "for name in net pid ipc uts mnt; do readlink /proc/self/ns/$name; done";
    let (ours, theirs) = (one.sh(inode).await, other.sh(inode).await);
    let host: BTreeSet<String> = ["net", "pid", "ipc", "uts", "mnt"]
        .iter()
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string())
        .collect();
    let all: BTreeSet<String> = ours.lines().chain(theirs.lines()).map(str::to_owned).chain(host).collect();
    assert_eq!(all.len(), 15, "{all:?}");
    one.cut().await;
    assert_eq!(other.sh("echo alive").await, "alive");
    other.cut().await;
}

async fn a_malicious_tree_stays_inside() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("hit");
    let mut nasty = tree(SHELL);
    let up = "../".repeat(20);
    nasty.symlink("out", dir.path().to_str().unwrap());
    nasty.file("out/hit", 0o644, "hit");
    nasty.symlink("up", up.clone());
    nasty.file(format!("up{}/hit", dir.path().display()), 0o644, "hit");
    nasty.file(format!("{up}{}/hit", dir.path().display()), 0o644, "hit");
    nasty.file(dir.path().join("hit").to_str().unwrap(), 0o644, "hit");
    nasty.symlink("hit", target.to_str().unwrap());
    nasty.file("hit", 0o644, "hit");
    // What is mounted on is a directory, whatever the tree says.
    nasty.symlink("dev", "/etc");
    nasty.symlink("proc", dir.path().to_str().unwrap());
    nasty.file("tmp", 0o644, "a file");
    nasty.nodes.push(Node { path: "disk".into(), mode: 0o666, uid: 0, gid: 0, kind: NodeKind::Special });
    let mut board = Board::start(userland(), nasty).await;
    board.expect(PROMPT).await;
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(board.sh("cat /hit; echo; ls -1d /dev/console /proc/1 /tmp; ls /disk 2> /dev/null").await, {
        "hit\n/dev/console\n/proc/1\n/tmp"
    });
    board.cut().await;
}

async fn modes_owners_and_duplicates_are_kept() {
    let mut kept = tree(SHELL);
    let mut node =
        |path: &str, mode, uid, kind| kept.nodes.push(Node { path: path.into(), mode, uid, gid: 7, kind });
    node("a/b/c", 0o4711, 5, NodeKind::File(b"x".to_vec()));
    node("d", 0o1777, 6, NodeKind::Directory);
    node("d", 0o700, 6, NodeKind::Directory);
    node("e", 0o644, 0, NodeKind::File(b"old".to_vec()));
    node("e", 0o600, 0, NodeKind::File(b"new".to_vec()));
    node("l", 0o777, 8, NodeKind::Symlink("e".into()));
    let mut board = Board::start(userland(), kept).await;
    board.expect(PROMPT).await;
    assert_eq!(board.sh("stat -c '%n %a %u %g %F' / /dev /tmp a a/b/c d e l; cat e").await, {
        "/ 755 0 0 directory\n/dev 755 0 0 directory\n/tmp 1777 0 0 directory\n\
         a 755 0 0 directory\na/b/c 4711 5 7 regular file\nd 700 6 7 directory\ne 600 0 7 regular file\n\
         l 777 8 7 symbolic link\nnew"
    });
    board.cut().await;
}

async fn an_init_that_can_not_run_is_told_as_the_kernel_does() {
    let mut userland = userland();
    userland.inits[0].path = "/missing".into();
    for (path, named_by) in [("/init", NamedBy::Kernel), ("/bin/init", NamedBy::Kernel)] {
        userland.inits.push(Init { path: path.into(), args: vec![], named_by });
    }
    let mut rootless = Tree::default();
    rootless.file("init", 0o644, "#!/bin/sh\n");
    let mut board = Board::start(userland.clone(), rootless.clone()).await;
    let printed = board.expect("Run /bin/init as init process\r\n").await;
    assert_eq!(printed, {
        "[    1.000000] Run /missing as init process\r\n\
         [    1.000000] Failed to execute /missing (error -2)\r\n\
         [    1.000000] Run /init as init process\r\n\
         [    1.000000] Starting init: /init exists but couldn't execute it (error -13)\r\n\
         [    1.000000] "
    });
    assert!(matches!(board.end().await, End::NoInit(panic) if panic.starts_with("No working init found.")));

    userland.inits.truncate(1);
    userland.inits[0].named_by = NamedBy::CommandLine;
    let board = Board::start(userland, rootless).await;
    assert_eq!(board.end().await, End::NoInit("Requested init /missing failed (error -2).".into()));
}

async fn long_input_and_output_come_whole() {
    let mut board = Board::shell().await;
    let printed = board.sh("seq 1 200000 | tr '\\n' ' '").await;
    assert_eq!(printed.split_whitespace().count(), 200_000);
    board.keys("stty -echo; cat > /tmp/long; stty echo; md5sum < /tmp/long\n").await;
    board.expect("md5sum < /tmp/long\r\n").await;
    let lines: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    // The port's FIFO is no deeper than that: wait for each piece to be taken.
    for piece in lines.as_bytes().chunks(4000) {
        board.keys(str::from_utf8(piece).unwrap()).await;
    }
    board.keys("\x04").await;
    let seen = board.expect("  -").await;
    let expected =
        Command::new(BUSYBOX).args(["sh", "-c", "seq 0 19999 | sed 's/^/line /' | md5sum"]).output().unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    assert_eq!(seen.trim(), expected.split(' ').next().unwrap());
    board.cut().await;
}

async fn a_shell_of_an_init_has_job_control() {
    let mut inittab = tree("");
    inittab.symlink("init", "bin/busybox");
    inittab.file("etc/inittab", 0o644, "ttyS0::respawn:-/bin/sh\n");
    let mut board = Board::start(userland(), inittab).await;
    let greeting = board.expect(PROMPT).await;
    assert!(!greeting.contains("job control"), "{greeting}");
    board.keys("sh -c 'echo ready; exec sleep 1000'\n").await;
    board.expect("\nready\r\n").await;
    board.keys("\x03").await;
    board.expect(PROMPT).await;
    board.cut().await;
}

async fn what_is_typed_ahead_is_echoed_at_the_next_prompt() {
    let mut board = Board::shell().await;
    board.keys("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done\r\n").await;
    board.expect("line 1\r\n").await;
    board.keys("echo ahead\r\n").await;
    let printed = board.expect(PROMPT).await.replace("\x1b[6n", "");
    let lines: Vec<String> = (2..=2000).map(|number| format!("line {number}\r\n")).collect();
    assert_eq!(printed, lines.concat());
    assert_eq!(board.expect(PROMPT).await.replace("\x1b[6n", ""), "\r\n");
    assert_eq!(board.expect(PROMPT).await.replace("\x1b[6n", ""), "echo ahead\r\nahead\r\n");
}

async fn a_command_that_reads_gets_its_line() {
    let mut board = Board::shell().await;
    board.keys("read line; echo got $line\n").await;
    board.keys("this\n").await;
    let seen = board.expect(PROMPT).await;
    assert!(seen.ends_with("this\r\ngot this\r\n"), "{seen:?}");
}

async fn a_command_that_prints_for_ever_can_be_interrupted() {
    let mut board = Board::start(userland(), tree(&SHELL.replace("exec sh", "exec setsid -c sh"))).await;
    board.expect(PROMPT).await;
    board.keys("while true; do echo still here; done\n").await;
    board.expect("still here\r\nstill here").await;
    board.keys("\x03").await;
    board.expect(PROMPT).await;
}

async fn a_user_logs_in() {
    let mut login = tree("");
    login.symlink("init", "bin/busybox");
    login.file("etc/inittab", 0o644, "::respawn:/bin/getty -L - 115200 vt102\n");
    login.file("etc/passwd", 0o644, "root::0:0::/:/bin/sh\nlava::1000:1000::/:/bin/sh\n");
    login.file("etc/group", 0o644, "root:x:0:\nlava:x:1000:\n");
    let mut board = Board::start(userland(), login).await;
    board.expect("board-01 login: ").await;
    board.keys("lava\n").await;
    board.expect("$ ").await;
    board.keys("id -u; tty; echo no > /root; exit\n").await;
    let seen = board.expect("login: ").await;
    assert!(seen.contains("\r\n1000\r\n/dev/console\r\n"), "{seen}");
    assert!(seen.contains("can't create /root"), "{seen}");
    board.keys("root\n").await;
    board.expect("# ").await;
    board.cut().await;
}

async fn root_is_nobody_outside_and_its_processes_are_counted() {
    let mut board = Board::shell().await;
    let map = board.sh("cat /proc/self/uid_map").await;
    if map.split_whitespace().nth(1) == Some("0") {
        println!("not tested: there are no user namespaces here");
        return board.cut().await;
    }
    let word = format!("2000{}", std::process::id());
    board.keys(&format!("for i in $(seq 600); do sleep {word} & done\n")).await;
    board.expect("can't fork: Resource temporarily unavailable").await;
    // A process that was forked is known by its name only when it has run `sleep`.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut found = 0;
    while found < 300 && tokio::time::Instant::now() < deadline {
        tick.tick().await;
        found = processes(&word);
    }
    assert!((300..512).contains(&found), "{found}");
    board.cut().await;
    assert_eq!(processes(&word), 0);
}

async fn what_a_board_can_use_up_is_bounded() {
    // The shell is not PID 1, whom the end of each orphan is told: busybox's write of its prompt is
    // interrupted by that signal now and then, and it does not write it again.
    let mut board = Board::start(userland(), tree(&SHELL.replace("exec sh", "sh"))).await;
    board.expect(PROMPT).await;
    // (what is tried, what is said) of files, of /dev, of memory, and of terminals.
    for (command, said) in [
        ("dd if=/dev/zero of=/tmp/big bs=1M count=4096", "No space left on device"),
        ("dd if=/dev/zero of=/dev/shm/big bs=1M count=4096", "No space left on device"),
        ("mkdir /tmp/m && cd /tmp/m && seq 100000 | xargs touch", "No space left on device"),
        ("head -c 1200m /dev/zero | tail -n 1 | wc -c", "out of memory"),
        ("for i in $(seq 200); do sleep 1000 < /dev/ptmx & done", "No space left on device"),
    ] {
        let printed = board.sh(&format!("({command}) 2>&1 | grep -q '{said}' && echo said; cd /")).await;
        assert_eq!(printed, "said", "{command}: {said}");
        board.sh("rm -rf /tmp/big /tmp/m /dev/shm/big; killall -9 sleep").await;
    }
    assert_eq!(board.sh("echo still here").await, "still here");
    board.cut().await;
}

async fn a_board_that_runs_wild_leaves_the_others_alone() {
    let (mut wild, mut other) = (Board::shell().await, Board::shell().await);
    if wild.sh("cat /proc/self/uid_map").await.split_whitespace().nth(1) == Some("0") {
        println!("not tested: without user namespaces processes are not counted for each board");
        wild.cut().await;
        return other.cut().await;
    }
    wild.keys("cat /dev/zero > /tmp/big; bomb() { bomb | bomb & }; bomb\n").await;
    wild.expect("can't fork").await;
    assert_eq!(
        other.sh("echo one > /tmp/a && cat /tmp/a; for i in 1 2 3; do (true) & done; wait").await,
        "one"
    );
    assert_eq!(
        other.sh("dd if=/dev/zero of=/tmp/b bs=1M count=10 2> /dev/null && wc -c < /tmp/b").await,
        "10485760"
    );
    wild.cut().await;
    other.cut().await;
}

async fn the_loopback_interface_works() {
    let mut board = Board::shell().await;
    // The server takes no input, so it does not matter to it when the other end has no more.
    let command =
        "nc -l -p 1234 -e echo hello & until nc 127.0.0.1 1234 < /dev/null; do :; done 2> /dev/null";
    assert_eq!(board.sh(command).await, "hello");
    board.cut().await;
}

/// A server that has `/tmp/archive.tar.gz` and nothing else.
async fn http_server(archive: Vec<u8>) -> SocketAddrV4 {
    // Not where a sandbox's own loopback interface is.
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let archive = archive.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let size = stream.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..size]).into_owned();
                let (status, size, body) = match request.split(' ').nth(1) {
                    Some("/tmp/archive.tar.gz") => ("200 OK", archive.len(), &archive[..]),
                    _ => ("404 Not Found", 0, &b""[..]),
                };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {size}\r\n\r\n");
                let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
                // Until the other end is closed.
                let _ = stream.read(&mut [0]).await;
            });
        }
    });
    address
}

async fn a_board_reaches_its_worker_and_nobody_else() {
    let mut overlay = Tree::default();
    overlay.file("lava-1/environment", 0o644, "export A=b\n");
    let archive = compress::gzip(&tar::write(&overlay).unwrap()).unwrap();
    let server = http_server(archive.clone()).await;
    let elsewhere = http_server(archive.clone()).await;
    let mut board = Board::shell_with(Some(server)).await;
    let url = format!("http://{server}/tmp/archive.tar.gz");
    assert_eq!(
        board.sh(&format!("wget -q {url} && tar -xzf archive.tar.gz && cat lava-1/environment")).await,
        "export A=b"
    );
    let refused = board.sh(&format!("wget -q http://{server}/tmp/other")).await;
    assert!(refused.contains("404 Not Found"), "{refused}");
    for address in [elsewhere, SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80)] {
        assert_eq!(
            board.sh(&format!("wget -q http://{address}/tmp/archive.tar.gz 2> /dev/null || echo no")).await,
            "no"
        );
    }
    // What it says of whom it asks is nothing to its worker.
    let request = format!("GET http://{elsewhere}/tmp/none HTTP/1.0\\r\\nHost: {elsewhere}\\r\\n\\r\\n");
    let netcat = format!("nc {} {}", server.ip(), server.port());
    let answer = board.sh(&format!("printf '{request}' | {netcat} | head -n 1 | cut -c 10-12")).await;
    assert_eq!(answer, "404");
    let fetched: Vec<Event> = events(board.dir.path())
        .into_iter()
        .filter(|event| !matches!(event, Event::Line { .. } | Event::Connected { .. }))
        .collect();
    let missing = |path: &str| {
        let url = format!("http://{server}/tmp/{path}");
        let error = format!("file not found: {url}");
        Event::FileFailed { protocol: Protocol::Http, path: url, error }
    };
    assert_eq!(
        fetched,
        [
            Event::file(Protocol::Http, &url, "", &archive),
            Event::Tree {
                root: "archive".into(),
                source: meta_lava_formats::sha256(&archive),
                entries: overlay.listing()
            },
            missing("other"),
            missing("none"),
        ]
    );
    board.cut().await;
}

async fn a_kernel_boots_its_ramdisk_and_reboots() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
    let (console, far) = Console::pipe(ledger.clone());
    console.connected().await;
    let (board, _) =
        board::parse::<BTreeMap<String, String>>("board-01", "model: A Ghost\nfirmware: {}\n").unwrap();
    let lease = Lease::new("board-01", Ipv4Addr::LOCALHOST.into());
    let bus = meta_lava_ghost::peripheral::Bus::new(&board, tokio::sync::broadcast::channel(1).0);
    let mut machine = Machine::new(Arc::new(board), lease, vec![console], bus, ledger);
    let mut root = tree(SHELL);
    root.directory("lava-1");
    root.file("lava-1/environment", 0o644, "export A=b\n");
    let image = BootImage {
        kernel: b"Linux version 6.1.0 (a@b) #1\n\0".to_vec(),
        cmdline: "console=ttyS0 panic=1".into(),
        ramdisk: Some(cpio::write(&root).unwrap()),
        dtb: None,
    };
    let running = tokio::spawn(async move {
        let exit = linux::run(&mut machine, image).await;
        (exit, machine)
    });
    let mut far = Far { far, seen: String::new() };
    let log = far.expect("Run /init as init process\r\n").await;
    assert!(log.contains("Linux version 6.1.0 (a@b) #1\r\n"), "{log}");
    far.expect(PROMPT).await;
    far.keys(". /lava-1/environment; echo $A$A\n").await;
    far.expect("\r\nbb\r\n").await;
    far.keys("reboot -f\n").await;
    far.expect("reboot: Restarting system\r\n").await;
    let (exit, _machine) = running.await.unwrap();
    assert_eq!(exit, linux::Exit::Reboot);
    let told: Vec<String> = events(dir.path())
        .iter()
        .filter_map(|event| match event {
            Event::Boot { .. } => Some("boot".to_owned()),
            Event::Stage { stage } => Some(format!("{stage:?}")),
            Event::Tree { root, entries, .. } => Some(format!("{root} of {}", entries.len())),
            Event::Line { stage, text, .. } => Some(format!("{stage:?}: {text}")),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            "boot",
            "Kernel",
            &format!("ramdisk of {}", root.nodes.len()),
            "Userland",
            "Userland: . /lava-1/environment; echo $A$A",
            "Userland: reboot -f",
            "Kernel",
        ]
    );
    assert_eq!(fs::read_to_string(dir.path().join("blobs")).unwrap().lines().count(), 1);
}

async fn a_boot_is_fast() {
    let tree = tree(SHELL);
    for _ in 0..5 {
        let tree = tree.clone();
        let start = Instant::now();
        let cpu = cpu_of_children();
        let mut board = Board::start(userland(), tree).await;
        board.expect(PROMPT).await;
        let up = start.elapsed();
        board.cut().await;
        println!(
            "prompt after {up:?}, gone after {:?}, CPU {:?}",
            start.elapsed() - up,
            cpu_of_children() - cpu
        );
        // Far above what it takes, so that only a fault is found, not a busy machine.
        assert!(up < Duration::from_secs(5));
    }
}

/// CPU time of all that ended (other tests' included, when they run at once).
fn cpu_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap();
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// The first argument of this executable where it enters a container.
const ENTER: &str = "__enter";

/// Runs the program whose words come behind the container's first process.
fn enter() -> ExitCode {
    let mut args = std::env::args().skip(2);
    let pid = args.next().unwrap().parse().unwrap();
    match sandbox::enter(pid, &program(args.collect()), false).unwrap() {
        Entered::Ended(code) => code.into(),
        Entered::NotRun(NotRun { why, .. }) => {
            println!("{why}");
            126.into()
        }
    }
}

fn program(words: Vec<String>) -> Program {
    Program {
        words,
        environment: vec!["PATH=/bin".into(), "A=1".into()],
        folder: "/work".into(),
        uid: 0,
        gid: 0,
    }
}

fn contained(words: &[&str], mounts: Vec<Mount>) -> Userland {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let program = (!words.is_empty()).then(|| program(words));
    let container = Container { mounts, folder: "/work".into(), init: true, program, terminal: true };
    Userland::container("c".into(), container)
}

async fn a_container_runs_its_program_with_what_is_mounted() {
    let worker = tempfile::tempdir().unwrap();
    fs::create_dir(worker.path().join("both")).unwrap();
    fs::write(worker.path().join("both/file"), "from the worker").unwrap();
    let mount = |target: &str, name: &str, read_only| {
        let source = worker.path().join(name);
        Mount { is_folder: source.is_dir(), source, target: target.into(), read_only }
    };
    let mounts = vec![mount("/seen", "both", false), mount("/one/file", "both/file", true)];
    let script = "cat /seen/file /one/file; echo; echo back > /seen/new; echo no > /one/file || echo refused; \
                  pwd; echo $A; test -e /dev/kmsg || echo none; hostname; exit 3";
    let board = Board::start(contained(&["sh", "-c", script], mounts), tree("")).await;
    let Board { mut far, running, .. } = board;
    for expected in ["from the workerfrom the worker", "refused", "/work", "1", "none", "c"] {
        far.expect(expected).await;
    }
    let end = tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
    assert_eq!(end, End::Exited(3 << 8));
    assert_eq!(fs::read_to_string(worker.path().join("both/new")).unwrap(), "back\n");
    assert_eq!(fs::read_to_string(worker.path().join("both/file")).unwrap(), "from the worker");
}

async fn a_program_that_can_not_be_run_is_told_as_runc_does() {
    for (name, why, is_there) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH", false),
        ("/init", "exec: \"/init\": permission denied", true),
    ] {
        let mut tree = tree("");
        tree.file("init", 0o644, "");
        let board = Board::start(contained(&[name], Vec::new()), tree).await;
        assert_eq!(board.end().await, End::NotRun(NotRun { why: why.into(), is_there }), "{name}");
    }
}

async fn another_program_enters_a_container() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.jsonl")).unwrap();
    let (mut console, _far) = Console::pipe(ledger);
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let running = tokio::spawn(async move {
        let mut tell = |what| told.send(what).unwrap();
        sandbox::run_and_tell(contained(&[], Vec::new()), tree(""), None, &mut console, &mut tell).await
    });
    let Some(Told::Begun(pid)) = tells.recv().await else { panic!("it did not begin") };
    assert_eq!(tells.recv().await, Some(Told::Running));
    let run = |words: &[&str]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.arg(ENTER).arg(pid.to_string()).args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(
        run(&["sh", "-c", "pwd; hostname; echo $A; echo $$ > /tmp/pid"]),
        (Some(0), "/work\nc\n1\n".into())
    );
    // What one has written the next one finds, and the first process is none of the worker's.
    assert_eq!(run(&["sh", "-c", "test -s /tmp/pid && test $(cat /tmp/pid) -lt 100 && exit 5"]).0, Some(5));
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).0, Some(137));
    // Which a board can't, and a container of Docker's can.
    assert_eq!(run(&["chroot", "/", "true"]).0, Some(0));
    let (code, says) = run(&["nope"]);
    assert_eq!((code, says.trim()), (Some(126), "exec: \"nope\": executable file not found in $PATH"));
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(fs::metadata(format!("/proc/{pid}")).is_err(), "its first process is still there");
}
