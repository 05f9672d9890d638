"""Whether a server that has run for long is larger than one that has run for a while.

make soak                     a million requests to each server; fails where it grows by 10 MiB (Linux)
make soak REQUESTS=50000      fewer
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

from benchmarks.stacks import STACKS, Site, Stack, provider, site

MIB: Final = 1 << 20
REQUESTS: Final = int(os.environ.get("REQUESTS") or 1_000_000)
WARM: Final = min(20_000, REQUESTS)
"""Requests with messages of their own before the first look: more than the verdicts that are remembered."""
MOST: Final = 10 * MIB
SLICE: Final = 10
"""Seconds."""


def main() -> None:
    if not shutil.which("wrk"):
        sys.exit("make soak needs wrk (https://github.com/wg/wrk; Debian: apt-get install wrk)")
    sys.exit(sum(grows(stack) for stack in (STACKS[0], STACKS[-1])))  # one of ASGI, one of WSGI


def grows(stack: Stack) -> bool:
    """Whether a server of this kind does, by more than it may. The provider answers at once here."""
    # The C library would keep memory for each of Flask's threads apart (docs/operations.md).
    told = {"BENCHMARK_DEADLINE": "60s", "MALLOC_ARENA_MAX": "1"}
    with provider(0) as port, site(stack, "prescreen", port, **told) as server:
        _load(server, stack, "distinct", WARM)
        before = server.usage()["now"]
        done = _load(server, stack, "mixed", REQUESTS)
        growth = server.usage()["now"] - before
    print(
        f"{stack.name}: {done:,} requests, {growth / MIB:+.1f} MiB on {before / MIB:.0f} "
        f"(target: < +{MOST / MIB:.0f}) {'✓' if growth < MOST else '✗'}",
        flush=True,
    )
    return growth >= MOST


def _load(server: Site, stack: Stack, kind: str, least: int) -> int:
    """At least so many requests of this kind; how many there were."""
    done = 0
    while done < least:
        done += int(server.load(kind, stack.connections, SLICE)["requests"])
        now = server.usage()["now"] / MIB
        print(f"  {stack.name}, {kind}: {done:,} of {least:,}; {now:.1f} MiB", file=sys.stderr, flush=True)
    return done


if __name__ == "__main__":
    main()
