"""What every test may use."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from anyio import to_thread

from doubles import Check
from prescreen import Decision, Screen
from prescreen.model import Item


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Async tests run on both event loops."""
    return str(request.param)


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def door(request: pytest.FixtureRequest) -> str:
    """The three ways to ask a screen: check_sync, and check on either event loop."""
    return str(request.param)


@pytest.fixture
def check(door: str) -> Check:
    """Ask a screen; with `door` for `anyio_backend`, in each of its ways."""

    async def blocking(screen: Screen, text: str | Sequence[Item]) -> Decision:
        return await to_thread.run_sync(screen.check_sync, text)

    async def awaiting(screen: Screen, text: str | Sequence[Item]) -> Decision:
        return await screen.check(text)

    return blocking if door == "blocking" else awaiting


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a moderator waits for that does not end; opened after the test, so that its thread does end."""
    event = threading.Event()
    yield event
    event.set()
