"""Runs a container's daemons side by side.

When one of them ends unasked, the container ends and says which one it was.

A test may take a daemon away on purpose: `touch /run/meta-lava/down/NAME`
before killing the process group in /run/meta-lava/pid/NAME keeps the container
alive. To have it started again, remove that file and send SIGUSR1 to the
process in /run/meta-lava/pid/supervisor.
"""
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

RUN = Path("/run/meta-lava")
LOGS = Path("/var/log")
HERE = Path(__file__).resolve().parent.parent


def say(message):
    print(f"meta-lava: {message}", file=sys.stderr, flush=True)


class Service:
    def __init__(self, name, command, log):
        self.name = name
        self.command = command
        self.log = log
        self.output = LOGS / f"meta-lava-{name}.log"
        self.pid = None

    def start(self):
        """A session of its own: a test can kill all of a daemon's processes."""
        with open(self.output, "ab") as output:
            self.started(
                subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def started(self, process):
        # The object is kept, or its destructor would look for the process.
        self.process = process
        self.pid = process if isinstance(process, int) else process.pid
        (RUN / "pid" / self.name).write_text(f"{self.pid}\n")


class Supervisor:
    def __init__(self):
        for name in ("down", "pid"):
            shutil.rmtree(RUN / name, ignore_errors=True)
            (RUN / name).mkdir(parents=True)
        (RUN / "pid" / "supervisor").write_text(f"{os.getpid()}\n")
        self.services = {}
        self.steps = {}
        os.chdir("/")
        signal.signal(signal.SIGTERM, lambda *_: self.leave(0))
        signal.signal(signal.SIGINT, lambda *_: self.leave(0))
        signal.signal(signal.SIGUSR1, lambda *_: self.start_missing())

    def service(self, name, *command, log=None):
        """Starts a daemon that has to stay."""
        service = self.services[name] = Service(name, command, log)
        service.start()

    def forked(self, name, *command, before=None, log=None):
        """Starts a Python program that has to stay, in a fork of this process.

        It finds imported what this process has imported. `before` runs first
        and may answer more arguments. Started again by a test, it is a process
        like any other.
        """
        service = Service(name, command, log)
        self.services[name] = service

        def program():
            arguments = list(command) + (before() if before else [])
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")

        service.started(self.fork(name, program, service.output))

    def step(self, name, function, then):
        """Runs `function` in a fork of this process, and `then` when it is done."""
        pid = self.fork(name, function, LOGS / f"meta-lava-{name}.log")
        self.steps[pid] = (name, then)

    def fork(self, name, function, output):
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(target, 1)
            os.dup2(target, 2)
            os.close(target)
            Path("/proc/self/comm").write_text(name[:15])
            function()
            status = 0
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def start_missing(self):
        for name, service in self.services.items():
            if service.pid is None and not (RUN / "down" / name).exists():
                say(f"starting {name} again")
                service.start()

    def run(self):
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                self.fail("nothing", 0, [])
            if pid in self.steps:
                name, then = self.steps.pop(pid)
                if status:
                    self.fail(name, status, [LOGS / f"meta-lava-{name}.log"])
                then()
            for name, service in self.services.items():
                if service.pid != pid:
                    continue
                service.pid = None
                if not (RUN / "down" / name).exists():
                    self.fail(name, status, [service.output, service.log])
                say(f"{name} is down, as asked")

    def fail(self, name, status, logs):
        say(f"{name} ended ({status_text(status)}), so this container ends")
        for log in logs:
            if log and Path(log).exists():
                lines = Path(log).read_text(errors="replace").splitlines()[-20:]
                if lines:
                    print(f"==> {log} <==", *lines, sep="\n", file=sys.stderr, flush=True)
        self.leave(1)

    def leave(self, status):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        database = None
        for name, service in self.services.items():
            if service.pid is None:
                continue
            try:
                if name == "postgresql":
                    # So that the next server reads its files without recovery.
                    database = service.pid
                    os.kill(service.pid, signal.SIGINT)
                else:
                    os.killpg(service.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if database:
            try:
                os.waitpid(database, 0)
            except ChildProcessError:
                pass
        os._exit(status)


def status_text(status):
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"status {os.WEXITSTATUS(status)}"
