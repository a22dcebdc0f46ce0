"""Loaded by Python at its start, where it is on its path: writes down which lines of the
dispatcher's actions a job runs through, as `path:number` below the folder of the packages.
"""
import atexit
import os
import re
import sys
import threading

ACTIONS = "lava_dispatcher/actions/"
# CO_OPTIMIZED (inspect): a function's code, and not that of a module or a class.
FUNCTION = 1
lines = set()


def inside(frame, event, argument):
    if event == "line":
        name = frame.f_code.co_filename
        lines.add(f"{name[name.index(ACTIONS):]}:{frame.f_lineno}")
    return inside


def call(frame, event, argument):
    code = frame.f_code
    return inside if code.co_flags & FUNCTION and ACTIONS in code.co_filename else None


def write():
    sys.settrace(None)
    name = next((a.split("=", 1)[1] for a in sys.argv if a.startswith("--device=")), None)
    if name is None or not lines:
        return
    with open(name, encoding="utf-8") as file:
        # Its name is nowhere in its configuration but in its power commands.
        device = re.search(r"ghost power [a-z]+ ([\w.-]+)", file.read()).group(1)
    with open(os.path.join("@FOLDER@", f"{device}.lines"), "w", encoding="utf-8") as file:
        file.write("\n".join(sorted(lines)) + "\n")


atexit.register(write)
threading.settrace(call)
sys.settrace(call)
