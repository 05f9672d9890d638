"""What the apps of the benchmarks have in common: what is ruled, and where the moderation server is."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any, Final

from prescreen import Rule
from prescreen.screen import ScreenOptions

KIND: Final = os.environ["BENCHMARK_KIND"]
PROVIDER: Final = os.environ["BENCHMARK_PROVIDER"]
PATHS: Final = ("/chat", "/conversation")

if core := os.environ.get("BENCHMARK_CORE"):  # see `machine.divide`
    os.sched_setaffinity(0, {int(core)})


def options() -> ScreenOptions:
    """As a user would write it."""
    return {
        "rules": [
            Rule("POST /chat", json=["$.message"]),
            Rule("POST /conversation", json=["$.messages[*].content"]),
            Rule("POST /upload", form=["message"], max_body="2MiB"),
        ],
        "moderators": {"openai": {"base_url": PROVIDER, "api_key": "benchmark"}},
        "deadline": os.environ.get("BENCHMARK_DEADLINE", "5s"),
    }


def settle() -> None:
    """What is advised to a server that has started (docs/operations.md): less work for the garbage collector."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def texts_of(document: Any) -> str | list[str]:
    """What those who write it by hand would send."""
    return document["message"] if "message" in document else [each["content"] for each in document["messages"]]


def usage() -> dict[str, float]:
    """CPU seconds of this process so far; and in bytes, what it has in memory and the most it ever had (Linux)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, peak = (int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return {"cpu": time.process_time(), "now": now, "peak": peak}
