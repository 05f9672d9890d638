"""`python -m fuzz --minutes 15`, or `--bodies 10000` for a fixed number of each kind."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from time import monotonic, time

from fuzz import regressions
from fuzz.case import KINDS, Kind
from fuzz.run import Tally, endless, in_parallel, numbered, run_batch
from fuzz.shrink import shrunk

_EVERY = 20.0  # seconds between lines


def main() -> int:
    """Fuzz as the command line says; 1 if anything was found."""
    options = _options()
    kinds: Sequence[Kind] = [options.kind] if options.kind else KINDS
    print(f"seed {options.seed}")
    if options.bodies:
        batches = numbered(kinds, options.seed, options.bodies)
    else:
        batches = endless(kinds, options.seed, options.minutes)
    tally = _told(in_parallel(batches, options.processes) if options.processes > 1 else map(run_batch, batches))
    for kind, number in tally.bodies.items():
        rate = 1_000 * number / max(tally.milliseconds[kind], 1)
        print(f"  {kind:10} {number:>12,} bodies, {tally.passed[kind] / number:4.0%} accepted, {rate:,.0f}/s and core")
    for signature, number in tally.faults.most_common():
        print(f"  {number:>7} x {' | '.join(signature)}")
    print(f"to go on: --seed {options.seed + max(tally.bodies.values(), default=0)}")
    return 1 if tally.faults else 0


def _told(tallies: Iterator[Tally]) -> Tally:
    """All of them together; what is found is written down, and now and then how far it is."""
    tally, started, told = Tally(), monotonic(), monotonic()
    for each in tallies:
        for case, fault in tally.add(each):
            small, rest = asyncio.run(shrunk(case, fault))
            print(f"FOUND {rest.oracle}: {rest.unseen[:80]!r} in {regressions.write(small, rest).name}")
        if monotonic() - told > _EVERY:
            told = monotonic()
            print(_line(tally, told - started), flush=True)
    print(_line(tally, monotonic() - started))
    return tally


def _line(tally: Tally, seconds: float) -> str:
    bodies, accepted = tally.bodies.total(), tally.passed.total()
    share, rate = accepted / max(bodies, 1), bodies / seconds
    return f"{bodies:,} bodies, {rate:,.0f}/s, {share:.0%} accepted, {tally.faults.total()} failures"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--bodies", type=int, default=0, help="of each kind")
    parser.add_argument("--seed", type=int, default=int(time()) * 1_000_000)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
