"""Tells which lines of LAVA's dispatcher were run, as JSON: a list of its files.

    {"path": "lava_dispatcher/job.py", "lines": 210, "missing": [88, 89],
     "branches": 64, "missing_branches": 5}

`lines` are statements, by the lines at which they begin; a file that no process imported is
there with all of its lines missing.
"""
import json
import os
import signal
import sys
import time

import coverage
from measure import CONFIG, DATA


def main():
    worker_saves()
    measured = coverage.Coverage(config_file=CONFIG)
    measured.combine(strict=True, keep=True)
    measured.save()
    report = DATA / "report.json"
    measured.json_report(outfile=str(report))
    files = []
    for path, file in json.loads(report.read_text())["files"].items():
        at = path.rfind("lava_dispatcher/")
        summary = file["summary"]
        files.append(
            {
                "path": path[at:],
                "lines": summary["num_statements"],
                "missing": file["missing_lines"],
                "branches": summary["num_branches"],
                "missing_branches": summary["missing_branches"],
            }
        )
    json.dump(sorted(files, key=lambda file: file["path"]), sys.stdout)


def worker_saves():
    """Has lava-worker save what it ran, and waits for it; without one there is nothing to wait for."""
    saved = DATA / "lava-worker.saved"
    saved.unlink(missing_ok=True)
    try:
        os.kill(int((DATA / "lava-worker.pid").read_text()), signal.SIGUSR1)
    except (FileNotFoundError, ProcessLookupError):
        return
    end = time.monotonic() + 20
    while not saved.exists():
        if time.monotonic() > end:
            sys.exit("lava-worker did not save which of its lines it ran within 20 seconds")
        time.sleep(0.01)


main()
