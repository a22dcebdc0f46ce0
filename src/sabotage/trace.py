"""Loaded by Python at its start, where it is on its path: writes down which lines a job runs
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
PACKAGE = re.compile("lava_(?:dispatcher|common)/.*")
# CO_OPTIMIZED (inspect): a function's code, and not that of a module or a class.
FUNCTION = 1
lines = set()


def is_meant(code):
    return code.co_flags & FUNCTION and any(part in code.co_filename for part in PARTS)


def inside(frame, event, argument):
    if event == "line":
        lines.add((frame.f_code.co_filename, frame.f_lineno))
    return inside


def call(frame, event, argument):
    return inside if is_meant(frame.f_code) else None


def reached(code, number):
    if is_meant(code):
        lines.add((code.co_filename, number))
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


def write():
    end()
    # Set by what is in front of `lava-run`. Its children have it, too, and some run through LAVA's lines as well:
    # who sends its log ends after it.
    device = os.environ.get("META_LAVA_DEVICE")
    if device and lines:
        name = f"{device}.{os.getpid()}.lines"
        with open(os.path.join("@FOLDER@", name), "w", encoding="utf-8") as file:
            for path, number in sorted(lines):
                file.write(f"{PACKAGE.search(path).group()}:{number}\n")


atexit.register(write)
begin()
