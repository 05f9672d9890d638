"""A blocking client that keeps to one deadline, whatever drips."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from time import monotonic
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from fake_openai import FakeOpenAI
from prescreen import Cause, Image, ModeratorTimeout, OpenAIModerator, Screen, Text
from prescreen.moderators.timely import make_timely, until

PICTURE = "data:image/png;base64,iVBORw0KGgo="


class Wire:
    """What httpcore has below a connection: it notes the time that it is given."""

    def __init__(self) -> None:
        self.given: list[float | None] = []

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> Wire:
        self.given.append(timeout)
        return self

    def start_tls(self, context: Any, server_hostname: str | None, timeout: float | None) -> Wire:
        self.given.append(timeout)
        return self

    def read(self, most: int, timeout: float | None = None) -> bytes:
        self.given.append(timeout)
        return b"x"

    def write(self, data: bytes, timeout: float | None = None) -> None:
        self.given.append(timeout)

    def sleep(self, seconds: float) -> str:
        return "slept"

    def get_extra_info(self, name: str) -> str:
        return name


def test_every_step_of_a_call_has_what_is_left_of_one_deadline() -> None:
    wire, pool = Wire(), SimpleNamespace(_network_backend=None)
    pool._network_backend = wire
    make_timely(SimpleNamespace(_transport=SimpleNamespace(_pool=pool), _mounts={"all://": None}))
    backend: Any = pool._network_backend
    with until(monotonic() + 5):
        stream = backend.connect_tcp("127.0.0.1", 1, timeout=60).start_tls(None, "localhost", None)
        stream.write(b"x", 60)
        assert stream.read(1, 2) == b"x"
    with until(monotonic() - 1):
        stream.read(1, 60)
    *within, short, late = wire.given
    assert all(given is not None and 4 < given <= 5 for given in within)
    assert (short, late) == (2, 0.001)
    assert (backend.sleep(1), stream.get_extra_info("socket")) == ("slept", "socket")


def test_outside_a_call_the_clients_own_timeout_counts() -> None:
    wire, pool = Wire(), SimpleNamespace(_network_backend=None)
    pool._network_backend = wire
    make_timely(SimpleNamespace(_transport=SimpleNamespace(_pool=pool), _mounts={}))
    backend: Any = pool._network_backend
    backend.connect_tcp("127.0.0.1", 1, timeout=60)
    backend.connect_tcp("127.0.0.1", 1)
    assert wire.given == [60, math.inf]


def test_a_client_that_has_no_such_place_stays_as_it_is() -> None:
    make_timely(SimpleNamespace())


@pytest.mark.parametrize("step", ["drip head", "drip"])
def test_a_blocking_call_ends_at_its_deadline_though_the_answer_comes_byte_by_byte(step: str) -> None:
    with FakeOpenAI() as service:
        moderator = OpenAIModerator(base_url=service.url, api_key="test-key")
        service.script(step)
        started = monotonic()
        decision = Screen(moderator=moderator, deadline=0.4).check_sync("text")
        assert monotonic() - started < 1.5
        assert "ModeratorTimeout" in (decision.problem or "")
        moderator._sync_client[1].close()


def test_no_call_begins_when_the_time_is_up() -> None:
    with FakeOpenAI() as service:
        moderator = OpenAIModerator(base_url=service.url, api_key="test-key")
        with pytest.raises(ModeratorTimeout):
            moderator.post_sync("/moderations", {}, monotonic() - 1)
        assert service.requests == []
        moderator._sync_client[1].close()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_many_at_once_share_the_first_client(anyio_backend: str) -> None:
    with FakeOpenAI() as service:
        moderator = OpenAIModerator(base_url=service.url, api_key="test-key")
        screen = Screen(moderator=moderator, deadline=30, max_batch=1)
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(screen.check, f"text {number}")
        assert len(service.requests) == 6
        opened = moderator._async_clients.get()
        assert opened.client is not None
        await opened.client.aclose()
        moderator._sync_client[1].close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_moderator_called_by_hand_makes_all_its_calls(anyio_backend: str) -> None:
    with FakeOpenAI() as service:
        moderator = OpenAIModerator(base_url=service.url, api_key="test-key")
        texts = [Text(f"/{number}", f"{number}" * 20_000) for number in range(2)]
        assert len(await moderator.moderate([*texts, Image("/2", PICTURE)])) == 3
        assert len(service.requests) == 3
        opened = moderator._async_clients.get()
        assert opened.client is not None
        await opened.client.aclose()
        moderator._sync_client[1].close()


def test_an_event_loop_that_is_over_is_let_go_of() -> None:
    with FakeOpenAI() as service:
        moderator = OpenAIModerator(base_url=service.url, api_key="test-key")
        screen = Screen(moderator=moderator, deadline=30)
        loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

        async def check(text: str) -> None:
            loops.append(weakref.ref(asyncio.get_running_loop()))
            assert (await screen.check(text)).cause is Cause.CLEAN

        for number in range(4):
            asyncio.run(check(f"text {number}"))
        gc.collect()
        assert [loop() for loop in loops[:-1]] == [None] * 3
        moderator._sync_client[1].close()
