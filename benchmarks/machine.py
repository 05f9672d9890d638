"""Where, when and with what something is measured."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("prescreen", "openai", "starlette", "uvicorn", "uvloop", "flask", "gunicorn")


def described(command: str) -> Iterator[str]:
    """Two lines for the head of a table."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    yield f"By `{command}` on {datetime.now(UTC):%d %B %Y}, {os.cpu_count()} cores ({_processor()}),"
    yield f"Python {platform.python_version()}, {packages}, {_wrk()}; load average {os.getloadavg()[0]:.1f} at the start."


def divide() -> None:
    """Give the servers that are started from here on a core of their own (`ruled`), and this process and its load the others.

    On two cores the kernel would move everything about, and let servers wait for what sets the load on them.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) > 1:
        os.environ["BENCHMARK_CORE"] = str(cores[0])
        os.sched_setaffinity(0, cores[1:])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _wrk() -> str:
    shown = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    return " ".join(shown.split()[:2]).removeprefix("wrk ").join(["wrk ", ""])
