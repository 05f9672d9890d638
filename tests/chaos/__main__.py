"""`python -m chaos --minutes 10`: rounds of all faults until the time is up; 1 if anything was not as it must be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, time
from typing import Final

from chaos.judge import ROBUST_TIME, STRICT_TIME, violations
from chaos.plan import Phase, round_of
from chaos.run import Report, run
from chaos.table import remarks, table

_STRETCH: Final = 3.0
_SHOWN: Final = 100


def main() -> int:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    chance = Random(options.seed)
    with TemporaryDirectory() as folder:
        phases = _phases(Random(options.seed), options.minutes * 60)
        report = run(Path(folder), phases, chance, _tell)
    print(*table(report), *remarks(report), sep="\n")
    found = violations(report, ROBUST_TIME if options.robust else STRICT_TIME)
    print(*found[:_SHOWN], *(["..."] if len(found) > _SHOWN else []), f"{len(found)} violations", sep="\n")
    return 1 if found else 0


def _phases(chance: Random, seconds: float) -> Iterator[Phase]:
    """Whole rounds, one at least, until the time is up."""
    end = monotonic() + seconds
    while True:
        yield from round_of(chance, _STRETCH)
        if monotonic() >= end:
            return


def _tell(report: Report) -> None:
    """A line for each weather that has passed."""
    last = report.weathers[-1]
    sent = [each for each in report.measured.sent if last.start <= each.sent <= last.end]
    took = max((each.took for each in sent if each.fate == "answered"), default=0.0)
    event = f"; {last.event}" if last.event else ""
    print(
        f"{last.name:9} {last.end - last.start:4.1f} s, {len(sent):4} requests, longest {took:.3f} s{event}", flush=True
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time()))
    parser.add_argument("--robust", action="store_true", help="on a machine that does other things at the same time")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
