"""Measures the Python of LAVA's dispatcher: each lava-run, and lava-worker.

lava-run saves what it ran as it ends. lava-worker goes on, so it saves that when it gets
SIGUSR1, which LAVA leaves alone.
"""
import os
import signal
import sys
from pathlib import Path

CONFIG = "/usr/lib/meta-lava/coverage/coverage.ini"
DATA = Path("/var/lib/ghost/coverage")


def lava_run():
    """Measures this process, if it is a lava-run."""
    if any(os.path.basename(word) == "lava-run" for word in sys.orig_argv[:2]):
        start()


def lava_worker():
    """Measures this process, and saves what it ran at SIGUSR1."""
    measured = start()

    def save(*_):
        measured.save()
        (DATA / "lava-worker.saved").touch()

    signal.signal(signal.SIGUSR1, save)
    (DATA / "lava-worker.pid").write_text(str(os.getpid()))


def start():
    # Imported here: most processes of Python's go without.
    import coverage

    DATA.mkdir(parents=True, exist_ok=True)
    os.environ["COVERAGE_PROCESS_START"] = CONFIG
    measured = coverage.process_startup()
    # Not for those that this one starts.
    del os.environ["COVERAGE_PROCESS_START"]
    return measured
