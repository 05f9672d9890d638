"""The demo is what a newcomer sees first: it must come out as it says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from servers import EXAMPLES

pytestmark = pytest.mark.once


def demo(**environment: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")} | environment
    command = [sys.executable, str(EXAMPLES / "demo.py")]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=120)


def test_the_demo_ends_well_and_names_its_moderator() -> None:
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "offline keyword list" in done.stdout.splitlines()[0]
    assert "violence at /messages/0/content" in done.stdout
    assert "15 of 15 answers were as expected." in done.stdout


def test_the_demo_fails_when_the_moderator_cannot_be_reached() -> None:
    done = demo(OPENAI_API_KEY="test-key", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "OpenAI's" in done.stdout.splitlines()[0]
    assert "503" in done.stdout
