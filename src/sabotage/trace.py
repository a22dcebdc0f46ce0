"""Loaded by Python at its start, where it is on its path: writes down which lines a program runs
through in files of LAVA's, as `path:number` below the folder of the packages.
"""
import atexit
import os
import re
import sys
import threading

# Parts of paths: the files that are meant.
PARTS = "@PARTS@".split()
# Where a path begins below the folder of the packages.
PACKAGE = re.compile("(?:lava_[a-z_]+|linaro_django_xmlrpc)/.*")
# CO_OPTIMIZED (inspect): a function's code, and not that of a module or a class.
FUNCTION = 1
# Whose lines these are, where it is not a job's.
OTHER = "@NAME@"
seen = set()
files = {}


def is_meant(code):
    # What a server's module does at its start, it does once for all jobs.
    return (OTHER or code.co_flags & FUNCTION) and any(part in code.co_filename for part in PARTS)


def write(path, number):
    # A program may be killed, so each line is written as it is seen. META_LAVA_DEVICE is set by what is in
    # front of `lava-run`. Its children have it, too, and some run through LAVA's lines as well.
    name = OTHER or os.environ.get("META_LAVA_DEVICE")
    found = PACKAGE.search(path)
    if not name or not found:
        return
    pid = os.getpid()
    if pid not in files:
        try:
            # Not buffered: a fork would write what its parent has not written yet once more.
            files[pid] = open(os.path.join("@FOLDER@", f"{name}.{pid}.lines"), "ab", buffering=0)
        except OSError:
            files[pid] = None
    if files[pid]:
        files[pid].write(f"{found.group()}:{number}\n".encode())


def inside(frame, event, argument):
    if event == "line":
        line = (frame.f_code.co_filename, frame.f_lineno)
        if line not in seen:
            seen.add(line)
            write(*line)
    return inside


def call(frame, event, argument):
    return inside if is_meant(frame.f_code) else None


def reached(code, number):
    if is_meant(code):
        write(code.co_filename, number)
    # Once is enough, for this line.
    return sys.monitoring.DISABLE


def begin():
    monitoring = getattr(sys, "monitoring", None)
    if monitoring:
        tool, line = monitoring.COVERAGE_ID, monitoring.events.LINE
        monitoring.use_tool_id(tool, "meta-lava")
        monitoring.register_callback(tool, line, reached)
        monitoring.set_events(tool, line)
    else:
        # Before Python 3.12.
        threading.settrace(call)
        sys.settrace(call)


def end():
    if hasattr(sys, "monitoring"):
        sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, 0)
    else:
        sys.settrace(None)


atexit.register(end)
begin()
