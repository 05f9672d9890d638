"""`python -m fuzz --minutes 15`, or `--bodies 10000` for a fixed number of each kind."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from time import monotonic, time

from fuzz import regressions
from fuzz.case import KINDS
from fuzz.run import BATCH, Batch, Tally, endless, in_parallel, run_batch
from fuzz.shrink import shrunk

_EVERY = 20.0  # seconds between lines


def main() -> int:
    """Fuzz as the command line says; 1 if anything was found."""
    options = _options()
    kinds = [options.kind] if options.kind else KINDS
    print(f"seed {options.seed}")
    if options.bodies:
        batches: Iterator[Batch] = (
            (kind, options.seed + at, BATCH) for kind in kinds for at in range(0, options.bodies, BATCH)
        )
        tallies: Iterator[Tally] = map(run_batch, batches)
    else:
        tallies = in_parallel(endless(kinds, options.seed, options.minutes), options.processes)
    tally, started, told = Tally(), monotonic(), monotonic()
    for each in tallies:
        for case, fault in tally.add(each):
            small, rest = asyncio.run(shrunk(case, fault))
            print(f"FOUND {rest.oracle}: {rest.unseen[:80]!r} in {regressions.write(small, rest).name}")
        if monotonic() - told > _EVERY:
            told = monotonic()
            print(_line(tally, told - started), flush=True)
    print(_line(tally, monotonic() - started))
    for kind, number in tally.bodies.items():
        print(f"  {kind:10} {number:>12,} bodies, {tally.passed[kind] / number:4.0%} accepted")
    for signature, number in tally.faults.most_common():
        print(f"  {number:>7} x {' | '.join(signature)}")
    return 1 if tally.faults else 0


def _line(tally: Tally, seconds: float) -> str:
    bodies, accepted = tally.bodies.total(), tally.passed.total()
    share, rate = accepted / max(bodies, 1), bodies / seconds
    return f"{bodies:,} bodies, {rate:,.0f}/s, {share:.0%} accepted, {tally.faults.total()} failures"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--bodies", type=int, default=0, help="of each kind, in one process")
    parser.add_argument("--seed", type=int, default=int(time()) * 1_000_000)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
