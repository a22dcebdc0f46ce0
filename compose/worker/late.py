"""Starts lava-worker in two steps.

Its imports take a second of processor time and need no identity; the name and
the token arrive only when the server knows the worker. So: import now, wait
for the gate, then run the unchanged program with its arguments.

usage: late.py GATE PROGRAM ARGUMENT...
The first two lines read from the FIFO GATE replace @NAME@ and @TOKEN@.
"""
import importlib
import runpy
import sys

gate, program = sys.argv[1:3]
try:
    importlib.import_module("lava_dispatcher.worker")
except ImportError as exc:
    print(f"not imported ahead: {exc}", file=sys.stderr)
with open(gate, encoding="utf-8") as lines:
    name, token = lines.read().split("\n")[:2]
known = {"@NAME@": name, "@TOKEN@": token}
sys.argv = [program] + [known.get(arg, arg) for arg in sys.argv[3:]]
runpy.run_path(program, run_name="__main__")
