"""How fast the stores are: python benchmarks/stores.py [redis://127.0.0.1:6379/0]."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from prescreen.stores import open_store, update

ROUNDS = 5000
KEY = "benchmark"


def main() -> None:
    with TemporaryDirectory() as folder:
        for address in ("memory", "sqlite:bench.db", *sys.argv[1:]):
            measure(address, Path(folder))


def measure(address: str, folder: Path) -> None:
    store = open_store(address, folder=folder)
    store.put({KEY: b"0"}, ttl=60)
    reading = microseconds(lambda: store.get([KEY]))
    counting = microseconds(lambda: update(store, KEY, lambda old: (b"%d" % (int(old or 0) + 1), 60), timeout=1))
    store.close()
    print(f"{address.partition(':')[0]}: get {reading:.0f} µs, {1e6 / counting:,.0f} increments/s")


def microseconds(task: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        task()
        times.append(perf_counter() - start)
    return median(times) * 1e6


if __name__ == "__main__":
    main()
