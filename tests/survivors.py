"""`python -m survivors`, after `mutmut run`: every mutant that no test noticed stands explained in survivors.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_EXPLAINED: Final = Path(__file__).with_name("survivors.md")
_BLOCK: Final = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_CAUGHT: Final = ("killed", "timeout")  # a loop without end is caught by its time


def main() -> int:
    """Compare; 1 if a survivor is not explained, or an explanation has lost its survivor."""
    results = dict(re.findall(r"(\S+__mutmut_\d+): ([a-z ]+)$", _mutmut("results", "--all", "true"), re.MULTILINE))
    survivors = [name for name, result in results.items() if result not in _CAUGHT]
    with ThreadPoolExecutor() as threads:
        found = set(threads.map(_change, survivors))
    explained = set(_BLOCK.findall(_EXPLAINED.read_text("utf-8")))
    print(
        len(results),
        "mutants:",
        ", ".join(f"{number} {result}" for result, number in Counter(results.values()).items()),
    )
    print("not explained:", *sorted(found - explained), sep="\n")
    print("explained, and no survivor:", *sorted(explained - found), sep="\n")
    return int(found != explained or not results)


def _change(name: str) -> str:
    """The mutant as a block of survivors.md: its function, the line that was, and the line that it became."""
    function = re.sub(r"__mutmut_\d+$", "", re.sub(r"\.x[_ǁ]", ".", name)).replace("ǁ", ".")
    lines = re.findall(r"^[-+](?!--|\+\+).*", _mutmut("show", name), re.MULTILINE)
    return "".join(f"    {line}\n" for line in (function, *(f"{line[0]} {line[1:].strip()}" for line in lines)))


def _mutmut(*arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


if __name__ == "__main__":
    sys.exit(main())
