"""What moderation costs a real server: the bare app, two ways of doing it by hand, and prescreen, by turns in one run.

make bench             about ten minutes; prints the tables, and writes them to benchmarks/RESULTS.md
make bench QUICK=1     about three minutes; prints only
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import parts
from benchmarks.machine import described, divide
from benchmarks.stacks import STACKS, Site, Stack, provider, sites, tell

QUICK: Final = bool(os.environ.get("QUICK"))
ROUNDS: Final = 2 if QUICK else 5
SECONDS: Final = 1 if QUICK else 3
TURNS: Final = 20
OURS: Final = "prescreen"

Samples = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""By load and kind of server, what each round found."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk sends, over how many connections (None: the stack's), to which kinds of server (not the bare one)."""

    sends: str
    connections: int | None = None
    on_bare: bool = False


LOADS: Final = {
    "distinct": Load("distinct"),
    "same": Load("same", on_bare=True),
    "alone": Load("distinct", connections=1),
    "unmatched": Load("unmatched", on_bare=True),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `meets` is asked with the figures by kind of server; None where there is no target."""

    title: str
    figures: Mapping[str, float]
    target: str = ""
    meets: Callable[[Mapping[str, float]], bool] | None = None
    form: str = "{:,.0f}"

    def cells(self, kinds: Sequence[str]) -> list[str]:
        shown = [self.form.format(self.figures[kind]) if kind in self.figures else "" for kind in kinds]
        mark = "" if self.meets is None else "✓" if self.meets(self.figures) else "✗"
        return [self.title, *shown, self.target, mark]


def main() -> None:
    if not shutil.which("wrk"):
        sys.exit("make bench needs wrk (https://github.com/wg/wrk; Debian: apt-get install wrk)")
    divide()
    lines = ["# What moderation costs", "", *described("make bench"), ""]
    for stack in STACKS:
        with provider() as port, sites(stack, port) as running:
            samples = measured(stack, running)
            turns = {kind: replayed(each) for kind, each in running.items() if kind != "bare"}
        lines += table(stack, [*rows(stack, samples), conversation(turns)])
    lines += _notes()
    print("\n".join(lines))
    if not QUICK:
        Path(__file__).with_name("RESULTS.md").write_text("\n".join(lines) + "\n", "utf-8")


def measured(stack: Stack, running: Mapping[str, Site]) -> Samples:
    """Every load on every server, round by round and each time in the other order; the first, short one warms up."""
    found: dict[str, dict[str, list[Mapping[str, float]]]] = {name: defaultdict(list) for name in LOADS}
    for number in range(ROUNDS + 1):
        print(
            f"{stack.name}: " + (f"round {number} of {ROUNDS}" if number else "warming up"), file=sys.stderr, flush=True
        )
        for name, load in LOADS.items():
            for kind in (stack.kinds, stack.kinds[::-1])[number % 2]:
                if kind == "bare" and not load.on_bare:
                    continue
                connections = load.connections or stack.connections
                sample = running[kind].load(load.sends, connections, SECONDS if number else 1)
                assert load.sends != "distinct" or sample["texts"] >= sample["requests"] - sample["refused"], (
                    "a text slipped by"
                )
                if number:
                    found[name][kind].append(sample)
    return found


def replayed(site: Site) -> float:
    """The texts that the provider sees of a chat whose client sends all of it with each turn, as chat clients do."""
    tell(site.provider, "reset")
    chat = [{"role": "user", "content": f"turn {turn} of {TURNS}"} for turn in range(TURNS)]
    for turn in range(TURNS):
        site.post("/conversation", {"messages": chat[: turn + 1]})
    return tell(site.provider, "stats")["texts"]


def rows(stack: Stack, samples: Samples) -> Iterator[Row]:
    """The table of a stack."""
    distinct, same, alone, unmatched = (samples[name] for name in LOADS)
    limit = stack.connections / 0.05
    yield Row(
        f"distinct messages, {stack.connections} connections: requests/s (at most {limit:,.0f})",
        _medians(distinct, "rate"),
        f"≥ {stack.least:,}" + (" and ≥ 3 x (c)" if "careful" in stack.kinds else ""),
        lambda of: of[OURS] >= stack.least and of[OURS] >= 3 * of.get("careful", 0),
    )
    yield Row(
        "their latency at the 99th percentile, ms", _medians(distinct, "p99"), "≤ 120", lambda of: of[OURS] <= 120
    )
    yield Row("CPU for one of them, ms", _medians(distinct, "cpu"), form="{:.2f}")
    most = 1000 * 8 / stack.connections  # as if eight calls at once were shared by all who wait
    yield Row(
        "provider calls per 1,000 of them", _medians(distinct, "calls"), f"≤ {most:.0f}", lambda of: of[OURS] <= most
    )
    yield Row(
        "one message again and again: requests/s",
        _medians(same, "rate"),
        "≥ 0.75 x bare",
        lambda of: of[OURS] >= 0.75 * of["bare"],
    )
    yield Row("CPU for one of them, ms", _medians(same, "cpu"), form="{:.2f}")
    yield Row(
        "1 connection: latency beyond the provider's, ms",
        _medians(alone, lambda sample: sample["p50"] - sample["took"]),
        "≤ 2",
        lambda of: of[OURS] <= 2,
        "{:.1f}",
    )
    yield Row(
        "unmatched route: requests/s, x bare",
        _ratios(unmatched, "rate"),
        "≥ 0.98",
        lambda of: of[OURS] >= 0.98,
        "{:.2f}",
    )
    yield Row("CPU for one of them, x bare", _ratios(unmatched, "cpu"), form="{:.2f}")
    refused = {
        kind: sum(sample["refused"] for load in samples.values() for sample in load.get(kind, ()))
        for kind in stack.kinds
    }
    yield Row("answers that were no 2xx, in all", refused, "0", lambda of: not of[OURS])


def conversation(texts: Mapping[str, float]) -> Row:
    return Row(
        f"a {TURNS}-turn chat replayed turn by turn: texts sent", texts, f"{TURNS}", lambda of: of[OURS] == TURNS
    )


def _medians(
    of: Mapping[str, Sequence[Mapping[str, float]]], figure: str | Callable[[Mapping[str, float]], float]
) -> dict[str, float]:
    take = figure if callable(figure) else lambda sample: sample[figure]
    return {kind: median(map(take, rounds)) for kind, rounds in of.items()}


def _ratios(of: Mapping[str, Sequence[Mapping[str, float]]], figure: str) -> dict[str, float]:
    """Against the bare app of the same round, which had the same neighbours."""
    return {
        kind: median(mine[figure] / bare[figure] for mine, bare in zip(rounds, of["bare"], strict=True))
        for kind, rounds in of.items()
    }


COLUMNS: Final = {"bare": "bare app", "by hand": "(b) by hand", "careful": "(c) by hand, with care", OURS: OURS}


def table(stack: Stack, rows: Sequence[Row]) -> list[str]:
    head = [stack.name, *(COLUMNS.get(kind, kind) for kind in stack.kinds), "target", ""]
    ruler = ["---", *("---:" for _ in stack.kinds), "---", ":---:"]
    return [*(f"| {' | '.join(cells)} |" for cells in (head, ruler, *(row.cells(stack.kinds) for row in rows))), ""]


def _notes() -> list[str]:
    matching = parts.matching()
    return [
        f"Matching a path against 1,000 rules: {matching:.1f} µs (target: ≤ 20) {'✓' if matching <= 20 else '✗'}",
        "",
        f"Each figure is the median of {ROUNDS} rounds of {SECONDS} seconds, in which the servers take turns. (b) is what most",
        "write first: Starlette's `BaseHTTPMiddleware` or Flask's `before_request`, and one call of the SDK for each request.",
        "(c) is pure ASGI with its own copy of the body. Both have the SDK's usual client; `openai[aiohttp]` is installed, which",
        "prescreen finds by itself. Servers have one worker, Flask's 32 threads, and a core that wrk and the provider do not use; messages",
        "have 300 characters; the provider is a process of its own that answers after 50 ms. CPU is the server's own.",
        "All of them call `gc.freeze()` and `gc.set_threshold(10_000)` when they have started, as docs/operations.md advises. Three times",
        "(c) is beyond the limit of requests a second where (c) does more than a third of it.",
    ]


if __name__ == "__main__":
    main()
