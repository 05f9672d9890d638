"""Where, when and with what something was measured."""

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


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _wrk() -> str:
    shown = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    return " ".join(shown.split()[:2]).removeprefix("wrk ").join(["wrk ", ""])
