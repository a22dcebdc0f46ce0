"""The worker container: what serves the boards, the ghosts, and lava-worker.

The servers start at once; the ghosts and lava-worker when the gate opens: write
/run/meta-lava/worker.env (WORKER_NAME=..., TOKEN=...) and the boards, then
anything into the FIFO /run/meta-lava/gate. With META_LAVA_WORKER_NAME and
META_LAVA_WORKER_TOKEN the gate is open from the start.

lava-worker's imports take most of a second and need no identity, so they are
done while the gate is closed; then the unchanged program runs.
"""
import functools
import glob
import importlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, "/usr/lib/meta-lava/common")
from supervise import HERE, RUN, Supervisor, say

GATE = RUN / "gate"
IDENTITY = RUN / "identity"
WORKER_LOG = "/var/log/lava-dispatcher/lava-worker.log"
FILES = Path("/var/lib/lava/dispatcher/tmp")
GHOST = "/usr/bin/ghost"
# What measures LAVA's dispatcher, where that was asked for.
MEASURE = HERE / "coverage/measure.py"
# What the images that LAVA's own CI publishes run before lava-worker.
HOOKS = Path("/root/entrypoint.d")


def main():
    name = os.environ.pop("META_LAVA_WORKER_NAME", "")
    token = os.environ.pop("META_LAVA_WORKER_TOKEN", "")
    ping = os.environ.pop("META_LAVA_PING_INTERVAL", "") or ping_interval()
    log_interval = os.environ.pop("META_LAVA_JOB_LOG_INTERVAL", "") or "1"
    arguments = [
        *("--level", "INFO", "--log-file", WORKER_LOG),
        *("--url", "http://server/", "--ws-url", "ws://server:8001/ws/"),
        *("--ping-interval", ping, "--job-log-interval", log_interval),
    ]

    if ganesha() >= (5,):
        jobs_that_can_be_exported()
    stand_ins()
    for folder in (FILES, Path(WORKER_LOG).parent, Path("/var/lib/ghost/boards")):
        folder.mkdir(parents=True, exist_ok=True)
    labs_key()
    for hook in sorted(HOOKS.rglob("*.sh")):
        run(hook)
    container = Supervisor()
    for fifo in (GATE, IDENTITY):
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo, 0o600)

    container.forked(
        "lava-worker",
        *("/usr/bin/lava-worker", *arguments),
        before=imported_and_known,
        log=WORKER_LOG,
    )
    container.service(
        "tftp",
        *("in.tftpd", "--foreground", "--address", "0.0.0.0:69", "--user", "tftp"),
        *("--secure", str(FILES)),
    )
    container.service("rpcbind", "rpcbind", "-f", "-w")
    container.service(
        "http",
        *("lighttpd", "-D", "-f", str(HERE / "worker/lighttpd.conf")),
        log="/var/log/meta-lava-http-error.log",
    )
    # nfs-ganesha registers itself there, and ends where nobody answers.
    answers(111)
    container.service(
        "nfs",
        *("ganesha.nfsd", "-F", "-L", "/var/log/meta-lava-nfs-ganesha.log"),
        *("-p", str(RUN / "ganesha.pid"), "-f", str(ganesha_conf())),
        log="/var/log/meta-lava-nfs-ganesha.log",
    )

    def opened():
        known = dict(
            line.split("=", 1)
            for line in (RUN / "worker.env").read_text().splitlines()
            if "=" in line
        )
        name, token = known.get("WORKER_NAME"), known.get("TOKEN")
        if not name or not token:
            say(f"{RUN}/worker.env has no WORKER_NAME or no TOKEN")
            container.leave(2)
        if os.access(GHOST, os.X_OK):
            container.service("ghost", GHOST, "daemon")
        identity = ["--name", name, "--token", token]
        container.services["lava-worker"].command += tuple(identity)
        container.step("identity", lambda: IDENTITY.write_text("\n".join(identity)), lambda: None)

    if name and token:
        lab = Path("/var/lib/ghost/lab.json")
        if not lab.exists():
            # By hand, until somebody puts boards there: the ghosts' daemon does not start without it.
            lab.write_text('{"boards": []}\n')
        (RUN / "worker.env").write_text(f"WORKER_NAME={name}\nTOKEN={token}\n")
        opened()
    else:
        container.step("gate", lambda: GATE.read_text(), opened)
    container.run()


def source(module):
    """The text of one of LAVA's modules: what this LAVA does is not told by its version."""
    for folder in ("/usr/lib/python3/dist-packages", *sys.path):
        path = Path(folder) / module
        if path.is_file():
            return path.read_text(errors="replace")
    return ""


def stand_ins():
    """Puts our modules in front of Debian's of the same name: each says why."""
    folder = Path(f"/usr/local/lib/python3.{sys.version_info.minor}/dist-packages")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("guestfs.py", "pyudev.py"):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(HERE / "worker" / name)
    senders = folder / "meta-lava-senders.pth"
    senders.unlink(missing_ok=True)
    if "get_nowait" in source("lava_common/log.py"):
        # Python runs the lines of such a file that begin with `import` whenever it starts.
        senders.write_text(
            "import sys; "
            "any('lava-run' in word or 'multiprocessing.forkserver' in word for word in sys.orig_argv[:3])"
            f" and (sys.path.append('{HERE}/worker'), __import__('senders'), sys.path.pop())\n"
        )


def labs_key():
    """The key by which the lab reaches its hosts, where a device's dictionary finds it.

    Another one each time: hosts know it by its file.
    """
    key = Path("/etc/meta-lava/lab-key")
    key.parent.mkdir(parents=True, exist_ok=True)
    for old in (key, key.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the lab's", "-f", str(key)]
    subprocess.run(command, check=True)


def ping_interval():
    """Seconds between two calls of the server without an event.

    Older workers only look after ended jobs then. Newer ones are told of these by a
    signal, and take this time as the limit of all their requests, too: with 1 s a busy
    server makes them fail, and be sent again.
    """
    return "20" if "SIGCHLD" in source("lava_dispatcher/worker.py") else "1"


@functools.cache
def ganesha():
    """The version of nfs-ganesha, as far as it is numbers."""
    told = subprocess.run(["ganesha.nfsd", "-v"], capture_output=True, text=True)
    found = re.search(r"V(\d+)\.(\d+)", told.stdout + told.stderr)
    return tuple(int(number) for number in found.groups()) if found else (0,)


def ganesha_conf():
    """What nfs-ganesha is started with.

    It asks for a privilege that no container has, and ends without; since its release 5
    it can be told to go on, which older ones don't know.
    """
    text = (HERE / "worker/ganesha.conf").read_text()
    if ganesha() >= (5,):
        text = text.replace("NFS_CORE_PARAM {", "NFS_CORE_PARAM {\n    allow_set_io_flusher_fail = true;")
    path = RUN / "ganesha.conf"
    path.write_text(text)
    return path


def jobs_that_can_be_exported():
    """The jobs' folders where newer ganeshas export them, which no tmpfs is to them.

    They go by the name of a file system's type (`populate_posix_file_systems` in
    FSAL/localfs.c), so an overlay whose layers lie on a tmpfs is as good as any disk, and
    as fast as memory. Where the kernel refuses it, they lie on the volume of the ghosts.
    """
    memory = RUN / "jobs"
    layers = {f"{layer}dir": memory / layer for layer in ("lower", "upper", "work")}
    options = ["index=on", "nfs_export=on", *(f"{key}={path}" for key, path in layers.items())]
    FILES.mkdir(parents=True, exist_ok=True)
    memory.mkdir(parents=True, exist_ok=True)
    try:
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", memory)
        for path in layers.values():
            path.mkdir()
        run("mount", "-t", "overlay", "-o", ",".join(options), "overlay", FILES)
    except (OSError, subprocess.CalledProcessError) as exc:
        say(f"the jobs' folders lie on a volume, not in memory: {exc}")
        store = Path("/var/lib/ghost/jobs")
        store.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", store, FILES)


def answers(port):
    """Waits until something listens on a port of this container, for ten seconds at most."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    say(f"nothing listens on port {port}")


def imported_and_known():
    files_in_memory()
    if MEASURE.exists():
        sys.path.append(str(MEASURE.parent))
        importlib.import_module("measure").lava_worker()
    try:
        importlib.import_module("lava_dispatcher.worker")
    except ImportError as exc:
        say(f"not imported ahead: {exc}")
    return IDENTITY.read_text().split("\n")


def files_in_memory():
    """What each lava-run reads, on a tmpfs, where the image sits on fuse-overlayfs.

    There every file that is opened wakes up a process. Each job starts a lava-run
    with its 600 imports; one of them (pytz) opens all of the 600 time zones, and
    each file that LAVA unpacks has its owner's name looked up. The files are the
    image's own.

    The interpreter and its loader are there for another reason. lava-worker takes a job
    for ended if /proc/PID/cmdline does not name lava-run, and while the kernel still reads
    these two files it is empty (docs/findings.md). On a busy machine with fuse-overlayfs
    one start in twenty took longer than 20 ms there, up to 190 ms; on a tmpfs 4 ms at most.
    """
    root = next(line for line in open("/proc/mounts") if line.split()[1] == "/")
    if not root.split()[2].startswith("fuse"):
        return
    store = RUN / "files"
    paths = [
        *("/usr/lib/python3", f"/usr/lib/python3.{sys.version_info.minor}"),
        *("/usr/share/zoneinfo", "/usr/lib/locale", "/etc/passwd", "/etc/group"),
        *("/usr/bin/python3", *glob.glob("/lib*/ld-linux*.so*")),
    ]
    paths = {os.path.realpath(path) for path in paths if os.path.exists(path)}
    try:
        store.mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", store)
        run("cp", "-a", "--parents", *paths, store)
        for path in paths:
            run("mount", "--bind", f"{store}{path}", path)
    except (OSError, subprocess.CalledProcessError) as exc:
        say(f"LAVA's files stay on the image: {exc}")


def run(*command):
    subprocess.run(command, check=True)


main()
