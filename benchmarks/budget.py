"""Whether a request still costs what it may cost, counted and not timed, so that a busy machine changes nothing.

    make budget            prints each count beside its budget; fails where one is over by more than a tenth
    make budget WRITE=1    writes what it counted into benchmarks/budgets.json, for this Python

Two things are counted. Bytecode instructions are the same wherever a Python of the same minor version runs, and need
nothing but Python; what happens in C is one instruction to them. Machine instructions, by callgrind, see all of it, and
depend on how Python was built: they have a budget for each build, and are left out where valgrind is missing.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.request import COUNTED, NAMES
from benchmarks.stacks import PATH, ROOT

FILE: Final = Path(__file__).with_name("budgets.json")
SLACK: Final = 1.1
MINOR: Final = ".".join(platform.python_version_tuple()[:2])
BUILD: Final = (
    f"{platform.python_version()} by {platform.python_compiler()} on {platform.system()} {platform.machine()}"
)

Counts = dict[str, int]


def main() -> None:
    with ThreadPoolExecutor() as both:  # each in a process of its own
        bytecode, machine = both.submit(bytecode_instructions), both.submit(machine_instructions)
        counted = {"bytecode": {MINOR: bytecode.result()}, "machine": {BUILD: machine.result()}}
    known = json.loads(FILE.read_text("utf-8"))
    if os.environ.get("WRITE"):
        for unit, counts in counted.items():
            known[unit] |= {of: each for of, each in counts.items() if each}
        known["anyio"] = version("anyio")
        FILE.write_text(json.dumps(known, indent=4, sort_keys=True) + "\n", "utf-8")
    over = [
        line
        for unit, counts in counted.items()
        for of, each in counts.items()
        for line in compared(f"{unit} instructions, Python {of}", each, known[unit].get(of))
    ]
    if over and (known["anyio"] != version("anyio")):
        print(f"The budgets are of anyio {known['anyio']}; this is anyio {version('anyio')}.")
    sys.exit("\n".join(over) or None)


def compared(title: str, counts: Counts, budgets: Mapping[str, int] | None) -> list[str]:
    """Print the counts beside their budgets; those that are over, as complaints."""
    if not counts:
        print(f"{title}: not counted, for valgrind is not installed")
        return []
    if budgets is None:
        print(f"{title}: no budget yet; `make budget WRITE=1` writes what was counted")
        budgets = {}
    print(f"{title}:")
    for name, count in counts.items():
        against = f"  budget {budgets[name]:>9,}  {count / budgets[name]:7.1%}" if name in budgets else ""
        print(f"    {name:15} {count:>9,}{against}")
    return [
        f"{title}: {name} costs {count:,}, and may cost {budgets[name]:,}"
        for name, count in counts.items()
        if name in budgets and count > budgets[name] * SLACK
    ]


def bytecode_instructions() -> Counts:
    """Of one request of each kind."""
    printed = _run(sys.executable, "-m", "benchmarks.request", "bytecode")
    return dict(zip(NAMES, json.loads(printed), strict=True))


def machine_instructions() -> Counts:
    """The same by callgrind; empty without it."""
    if not shutil.which("valgrind"):
        return {}
    with TemporaryDirectory() as folder:
        options = ["--tool=callgrind", "--dump-before=getloadavg", f"--callgrind-out-file={folder}/counts"]
        _run("valgrind", "--quiet", *options, sys.executable, "-m", "benchmarks.request", "calls")
        # One file up to each mark: the first is start-up, and then a request's is every other one.
        totals = [_total(Path(folder, f"counts.{number}")) for number in range(2, 2 * len(NAMES) + 1, 2)]
    return {name: round(total / COUNTED) for name, total in zip(NAMES, totals, strict=True)}


def _total(file: Path) -> int:
    found = re.search(r"^totals: (\d+)$", file.read_text("utf-8"), re.MULTILINE)
    assert found, file
    return int(found[1])


def _run(*command: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": PATH}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment).stdout


if __name__ == "__main__":
    main()
