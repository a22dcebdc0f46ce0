"""Prints the packages that a checkout of LAVA says it needs.

needs.py CHECKOUT DEBIAN PROGRAM...: on this Debian (bookworm, ...), for these parts of
LAVA (lava-server, ...). Nothing where LAVA does not know this Debian; whether it works
there all the same is seen later.
"""
import sys
from pathlib import Path

import yaml

checkout, debian, *programs = sys.argv[1:]
known = Path(checkout) / "share/requirements/debian" / f"{debian}.yaml"
if known.is_file():
    requirements = yaml.safe_load(known.read_text())
    needed = [need for program in programs for need in requirements.get(program, {}).values()]
    # What only its own tests need is left out.
    print(*sorted({need["name"] for need in needed if not need.get("unittests")}), sep="\n")
