from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from doubles import BARE, Check
from prescreen import (
    Action,
    Cause,
    ConfigError,
    Decision,
    Image,
    ModeratorBusy,
    ModeratorDown,
    Policy,
    Screen,
    Text,
    Verdict,
)
from prescreen.model import Item

QUIET = "seven quiet lanterns"
BAD = "seven violet lanterns"

awaiting_only = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def anyio_backend(door: str) -> str:
    return "asyncio" if door == "blocking" else door


def judge(items: Sequence[Item]) -> list[Verdict]:
    """What every moderator here says of the items."""
    values = [item.value if isinstance(item, Text) else item.url for item in items]
    return [Verdict(BAD in value, {"violence": BAD in value}) for value in values]


# The shapes that a moderator may have.


def plain(items: Sequence[Item]) -> Sequence[Verdict]:
    return judge(items)


async def awaited(items: Sequence[Item]) -> Sequence[Verdict]:
    await anyio.lowlevel.checkpoint()
    return judge(items)


def answer_tuple(items: Sequence[Item]) -> Sequence[Verdict]:
    return tuple(judge(items))


class WithModerate:
    def moderate(self, items: Sequence[Item]) -> Sequence[Verdict]:
        return judge(items)


class WithAsyncModerate:
    async def moderate(self, items: Sequence[Item]) -> Sequence[Verdict]:
        return await awaited(items)


class WithStaticModerate:
    @staticmethod
    async def moderate(items: Sequence[Item]) -> Sequence[Verdict]:
        return await awaited(items)


class WithBoth:
    async def moderate(self, items: Sequence[Item]) -> Sequence[Verdict]:
        return await awaited(items)

    def moderate_sync(self, items: Sequence[Item], timeout: float) -> Sequence[Verdict]:
        assert timeout > 0
        return judge(items)


class WithCall:
    def __call__(self, items: Sequence[Item]) -> Sequence[Verdict]:
        return judge(items)


class WithAsyncCall:
    async def __call__(self, items: Sequence[Item]) -> Sequence[Verdict]:
        return await awaited(items)


@pytest.mark.parametrize(
    "moderator",
    [
        plain,
        awaited,
        answer_tuple,
        lambda items: judge(items),  # noqa: PLW0108  # a lambda is what is tested
        lambda items: awaited(items),  # noqa: PLW0108  # as above
        WithModerate(),
        WithAsyncModerate(),
        WithStaticModerate(),
        WithBoth(),
        WithCall(),
        WithAsyncCall(),
    ],
    ids=lambda moderator: getattr(moderator, "__name__", type(moderator).__name__),
)
async def test_a_moderator_of_any_shape_judges(check: Check, moderator: Any) -> None:
    screen = Screen(moderator=moderator, deadline=10)
    items: list[Item] = [Text("/0", QUIET), Text("/1", BAD), Image("/2", f"https://pictures.test/{BAD}")]

    clean = await check(screen, QUIET)
    flagged = await check(screen, items)

    assert (clean.cause, clean.action) == (Cause.CLEAN, Action.ALLOW)
    assert (flagged.cause, flagged.action) == (Cause.FLAGGED, Action.REJECT)
    assert [(reason.pointer, reason.category) for reason in flagged.reasons] == [("/1", "violence"), ("/2", "violence")]


async def test_a_moderator_is_asked_once_about_all_items_in_order(check: Check) -> None:
    asked: list[list[Item]] = []

    def remember(items: Sequence[Item]) -> Sequence[Verdict]:
        asked.append(list(items))
        return judge(items)

    items: list[Item] = [Text("/b", BAD), Image("/a", "https://pictures.test/0"), Text("/c", QUIET)]
    await check(Screen(moderator=remember, deadline=10), items)

    assert asked == [items]


async def test_nothing_to_judge_asks_nobody(check: Check) -> None:
    def fail(items: Sequence[Item]) -> Sequence[Verdict]:
        raise AssertionError(items)

    assert (await check(Screen(moderator=fail), [])).cause is Cause.CLEAN


async def test_a_moderator_cannot_make_items_go_away(check: Check) -> None:
    def steal(items: Any) -> Sequence[Verdict]:
        items.clear()
        return []

    assert (await check(Screen(moderator=steal, deadline=10), [Text("/0", BAD)])).cause is Cause.UNAVAILABLE


# Where a moderator runs.


@awaiting_only
async def test_awaiting_a_def_moderator_runs_in_a_worker_thread() -> None:
    threads: list[int] = []

    def note(items: Sequence[Item]) -> Sequence[Verdict]:
        threads.append(threading.get_ident())
        return judge(items)

    class Noting:
        def moderate(self, items: Sequence[Item]) -> Sequence[Verdict]:
            return note(items)

    for moderator in (note, Noting()):
        await Screen(moderator=moderator, deadline=10).check(QUIET)

    assert len(threads) == 2
    assert threading.get_ident() not in threads


@awaiting_only
async def test_awaiting_an_async_moderator_runs_in_the_event_loop() -> None:
    threads: list[int] = []

    async def note(items: Sequence[Item]) -> Sequence[Verdict]:
        threads.append(threading.get_ident())
        return await awaited(items)

    async def wrapped(items: Sequence[Item]) -> Sequence[Verdict]:
        return await note(items)

    for moderator in (note, lambda items: wrapped(items)):  # noqa: PLW0108  # a lambda is what is tested
        await Screen(moderator=moderator, deadline=10).check(QUIET)

    assert threads == [threading.get_ident()] * 2


def test_blocking_on_a_def_moderator_runs_in_the_callers_thread() -> None:
    threads: list[int] = []

    def note(items: Sequence[Item]) -> Sequence[Verdict]:
        threads.append(threading.get_ident())
        return judge(items)

    Screen(moderator=note).check_sync(QUIET)

    assert threads == [threading.get_ident()]


def test_blocking_prefers_moderate_sync_and_tells_it_the_time_left() -> None:
    asked: list[float] = []

    class Moderator:
        async def moderate(self, items: Sequence[Item]) -> Sequence[Verdict]:
            raise AssertionError(items)

        def moderate_sync(self, items: Sequence[Item], timeout: float) -> Sequence[Verdict]:
            asked.append(timeout)
            return judge(items)

    assert Screen(moderator=Moderator(), deadline=7).check_sync(BAD).is_rejected
    assert len(asked) == 1
    assert 0 < asked[0] <= 7


async def test_what_is_known_when_a_moderator_fails_still_counts(check: Check) -> None:
    def fails(items: Sequence[Item], known: dict[int, Verdict]) -> Sequence[Verdict]:
        known[0] = judge(items)[0]
        raise ValueError

    async def awaited_fails(items: Sequence[Item], *, known: dict[int, Verdict]) -> Sequence[Verdict]:
        return fails(items, known)

    class Both:
        def moderate(self, items: Sequence[Item]) -> Sequence[Verdict]:
            raise ValueError

        def moderate_sync(self, items: Sequence[Item], timeout: float, known: dict[int, Verdict]) -> Sequence[Verdict]:
            return fails(items, known)

    for moderator in (fails, awaited_fails):
        screen = Screen(moderator=moderator, on_error="allow")
        assert (await check(screen, [Text("/0", BAD), Text("/1", QUIET)])).cause is Cause.FLAGGED
        assert (await check(screen, [Text("/0", QUIET), Text("/1", BAD)])).degraded
    assert Screen(moderator=Both(), on_error="allow").check_sync([Text("/0", BAD)]).is_rejected


@pytest.mark.parametrize("known", [{7: Verdict(True)}, {0: None}, {"0": Verdict(True)}], ids=str)
async def test_what_cannot_be_known_is_passed_over(check: Check, known: dict[Any, Any]) -> None:
    def odd(items: Sequence[Item], known: dict[Any, Any] = known) -> Sequence[Verdict]:
        known.update(given)
        raise ValueError

    given = dict(known)
    assert (await check(Screen(moderator=odd, on_error="allow"), BAD)).degraded


@awaiting_only
async def test_awaiting_never_uses_moderate_sync() -> None:
    class Moderator:
        async def moderate(self, items: Sequence[Item]) -> Sequence[Verdict]:
            return await awaited(items)

        def moderate_sync(self, items: Sequence[Item], timeout: float) -> Sequence[Verdict]:
            raise AssertionError(items, timeout)

    assert (await Screen(moderator=Moderator(), deadline=10).check(BAD)).is_rejected


@pytest.mark.parametrize(
    "moderator",
    [awaited, WithAsyncModerate(), lambda items: awaited(items)],  # noqa: PLW0108  # a lambda is what is tested
    ids=["async def", "object", "lambda"],
)
@awaiting_only
async def test_blocking_on_an_async_moderator_inside_an_event_loop_is_a_clear_error(moderator: Any) -> None:
    screen = Screen(moderator=moderator)

    with pytest.raises(RuntimeError, match=r"inside an event loop.*await"):
        screen.check_sync(BAD)


@awaiting_only
async def test_blocking_inside_an_event_loop_is_fine_where_nothing_must_be_awaited() -> None:
    assert Screen(moderator=plain).check_sync(BAD).is_rejected
    assert Screen(moderator=WithBoth()).check_sync(BAD).is_rejected


# What a moderator raises.


class Quoting(Exception):  # a name of its own
    """An error of some library, which quotes what it was given."""


def quoting(error: type[Exception]) -> Exception:
    return error(f"cannot judge {BAD!r}")


@pytest.mark.parametrize(
    "error",
    [
        quoting(Quoting),
        quoting(ValueError),
        quoting(KeyError),
        quoting(OSError),
        quoting(RuntimeError),
        quoting(AssertionError),
        quoting(StopIteration),
        quoting(StopAsyncIteration),
        quoting(RecursionError),
        ConfigError("key", f"cannot use {BAD!r}"),
        ExceptionGroup(f"about {BAD!r}", [quoting(ValueError)]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
async def test_whatever_is_raised_fails_closed_and_is_never_quoted(
    check: Check, caplog: pytest.LogCaptureFixture, error: Exception, is_async: bool
) -> None:
    caplog.set_level(logging.DEBUG)

    def fail(_items: Sequence[Item]) -> Sequence[Verdict]:
        raise error

    async def fail_awaited(items: Sequence[Item]) -> Sequence[Verdict]:
        await anyio.lowlevel.checkpoint()
        return fail(items)

    decision = await check(Screen(moderator=fail_awaited if is_async else fail, deadline=10), BAD)

    assert decision.cause is Cause.UNAVAILABLE
    assert decision.is_rejected
    assert decision.problem is not None
    assert decision.problem.startswith("ModeratorDown: the moderator raised ")
    assert "reject text: unavailable, ModeratorDown" in caplog.text
    for told in (caplog.text, repr(decision), *(repr(record.__dict__) for record in caplog.records)):
        assert BAD not in told


async def test_a_timeout_of_the_moderators_own_is_not_taken_for_the_deadline(check: Check) -> None:
    def give_up(_items: Sequence[Item]) -> Sequence[Verdict]:
        raise TimeoutError

    decision = await check(Screen(moderator=give_up, deadline=300), BAD)

    assert decision.cause is Cause.UNAVAILABLE
    assert decision.is_rejected
    assert decision.problem is not None
    assert "300" not in decision.problem


@pytest.mark.parametrize(
    ("error", "problem", "retry_after"),
    [
        (ModeratorBusy("the quota is spent", retry_after=30), "ModeratorBusy: the quota is spent", 30),
        (ModeratorDown("no route", retry_after=0.5), "ModeratorDown: no route", 0.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_a_moderator_may_name_its_failure_itself(
    check: Check, error: Exception, problem: str, retry_after: float | None
) -> None:
    def fail(_items: Sequence[Item]) -> Sequence[Verdict]:
        raise error

    decision = await check(Screen(moderator=fail, deadline=10), BAD)

    assert decision.cause is Cause.UNAVAILABLE
    assert decision.problem == problem
    assert decision.retry_after == retry_after


def test_options_for_another_built_in_moderator_may_stand_by() -> None:
    assert Screen(moderator=plain, moderators={"openai": {"model": "x"}}).check_sync(QUIET).cause is Cause.CLEAN


def test_a_function_that_takes_no_texts_is_found_when_the_screen_is_built() -> None:
    def nothing() -> list[Verdict]:
        return []

    with pytest.raises(ConfigError, match="cannot be called with a list of texts"):
        Screen(moderator=nothing)


def test_off_asks_no_moderator_at_all() -> None:
    asked: list[object] = []

    def note(items: Sequence[Item]) -> Sequence[Verdict]:
        asked.append(items)
        return judge(items)

    assert Screen(moderator=note, mode="off").check_sync(BAD).cause is Cause.CLEAN
    assert asked == []


@pytest.mark.parametrize("text", [["a"], b"a", 5, [Text("", "a"), "b"]], ids=str)
def test_what_is_no_text_is_a_mistake_and_no_outage(text: Any) -> None:
    with pytest.raises(TypeError, match="check takes a str, or a list of Text and Image"):
        Screen(moderator=plain).check_sync(text)


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("answer", ["raises", "too few"])
async def test_on_error_decides_what_a_failure_means(
    check: Check, caplog: pytest.LogCaptureFixture, action: Action, answer: str
) -> None:
    caplog.set_level(logging.INFO)

    def fail(_items: Sequence[Item]) -> Sequence[Verdict]:
        if answer == "raises":
            raise OSError
        return []

    decision = await check(Screen(moderator=fail, on_error=action.value, deadline=10), QUIET)

    assert decision.cause is Cause.UNAVAILABLE
    assert decision.action is action
    assert decision.is_rejected is (action is Action.REJECT)
    assert decision.degraded is (action is not Action.REJECT)
    assert decision.problem
    assert [record.levelname for record in caplog.records if record.name == "prescreen"] == ["WARNING"]


async def test_on_error_has_no_say_where_there_is_a_verdict(check: Check) -> None:
    screen = Screen(moderator=plain, on_error="allow", deadline=10)

    assert (await check(screen, BAD)).is_rejected
    assert not (await check(screen, QUIET)).degraded


async def test_watching_passes_a_failure_on_and_says_so(check: Check) -> None:
    def fail(_items: Sequence[Item]) -> Sequence[Verdict]:
        raise OSError

    decision = await check(Screen(moderator=fail, mode="monitor", deadline=10), QUIET)

    assert decision.action is Action.REJECT
    assert not decision.is_rejected
    assert decision.degraded


# What is no verdict.


FLAGGED = Verdict(flagged=True, categories={"violence": True})
CLEAN = Verdict(flagged=False, categories={"violence": False}, scores={"violence": 0.0})


def altered(**changes: Any) -> list[Verdict]:
    """Two verdicts of which the second is changed; the types forbid it, users do it."""
    return [CLEAN, replace(CLEAN, **changes)]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        False,
        CLEAN,
        [],
        [CLEAN],
        [CLEAN] * 3,
        {"/0": CLEAN, "/1": CLEAN},
        {CLEAN.model, "x"},
        (CLEAN for _ in range(2)),
        "ok",
        b"ok",
        [None, None],
        [CLEAN, None],
        [True, False],
        [{"flagged": False}, {"flagged": False}],
        [Verdict, Verdict],
    ],
    ids=lambda answer: f"{answer!r:.30}",
)
async def test_anything_but_one_verdict_for_each_item_is_none(check: Check, answer: Any) -> None:
    decision = await check(Screen(moderator=lambda _: answer, deadline=10), [Text("/0", QUIET), Text("/1", QUIET)])

    assert decision.cause is Cause.UNAVAILABLE
    assert decision.is_rejected
    assert decision.problem is not None
    assert decision.problem.startswith("BadVerdict: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"flagged": None},
        {"flagged": 0},
        {"flagged": 1},
        {"flagged": "no"},
        {"flagged": []},
        {"categories": None},
        {"categories": ["violence"]},
        {"categories": {"violence": 0}},
        {"categories": {"violence": None}},
        {"categories": {"violence": "no"}},
        {"categories": {7: False}},
        {"scores": None},
        {"scores": [0.1]},
        {"scores": 0.1},
        {"scores": {7: 0.1}},
        *(
            {"scores": {"violence": score}}
            for score in (
                math.nan,
                math.inf,
                -math.inf,
                1.01,
                -0.01,
                2,
                -1,
                10**400,
                "0.1",
                None,
                True,
                Decimal("0.1"),
                1j,
            )
        ),
    ],
    ids=lambda changes: f"{changes!r:.40}",
)
async def test_a_malformed_verdict_spoils_the_whole_answer(check: Check, changes: dict[str, Any]) -> None:
    screen = Screen(moderator=lambda _: altered(**changes), deadline=10)

    decision = await check(screen, [Text("/0", QUIET), Text("/1", QUIET)])

    assert decision.cause is Cause.UNAVAILABLE
    assert decision.is_rejected
    assert decision.problem is not None
    assert decision.problem.startswith("BadVerdict: ")


@pytest.mark.parametrize("score", [0, 1, 0.0, 1.0, 0.5])
async def test_scores_from_0_to_1_are_taken(check: Check, score: float) -> None:
    screen = Screen(
        moderator=lambda _: [replace(CLEAN, scores={"violence": score})],
        policy=Policy(thresholds={"violence": 0.5}),
        deadline=10,
    )

    decision = await check(screen, QUIET)

    assert decision.cause is (Cause.FLAGGED if score >= 0.5 else Cause.CLEAN)


async def test_a_verdict_needs_no_category_to_be_heard(check: Check) -> None:
    decision = await check(Screen(moderator=lambda _: [Verdict(flagged=True)], deadline=10), QUIET)

    assert decision.is_rejected
    assert decision.categories == ("unspecified",)


# Time.


@awaiting_only
async def test_the_deadline_holds_for_a_def_moderator_that_never_ends(gate: threading.Event) -> None:
    def hang(items: Sequence[Item]) -> Sequence[Verdict]:
        gate.wait(10)
        return judge(items)

    started = time.monotonic()
    decision = await Screen(moderator=hang, deadline=0.2).check(BAD)

    assert time.monotonic() - started < 1.2
    assert not gate.is_set()
    assert decision.cause is Cause.UNAVAILABLE
    assert str(decision.problem).startswith("ModeratorTimeout: no verdict within 0.")


async def test_the_deadline_holds_for_an_async_moderator(check: Check) -> None:
    async def hang(items: Sequence[Item]) -> Sequence[Verdict]:
        await anyio.sleep(30)
        return judge(items)

    for moderator in (hang, lambda items: hang(items)):  # noqa: PLW0108  # a lambda is what is tested
        started = time.monotonic()
        decision = await check(Screen(moderator=moderator, deadline=0.2), BAD)

        assert time.monotonic() - started < 1.2
        assert decision.problem == "ModeratorTimeout: no verdict within 0.2 s"


@awaiting_only
async def test_moderators_that_hang_leave_the_applications_threads_alone(gate: threading.Event) -> None:
    def hang(items: Sequence[Item]) -> Sequence[Verdict]:
        gate.wait(10)
        return judge(items)

    screen = Screen(moderator=hang, deadline=0.3)
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(screen.check, BAD)

    with anyio.fail_after(5):
        assert await to_thread.run_sync(threading.get_ident) != threading.get_ident()


def test_a_verdict_that_comes_late_still_counts_where_nothing_can_cut_it_short() -> None:
    def dawdle(items: Sequence[Item]) -> Sequence[Verdict]:
        time.sleep(0.05)
        return judge(items)

    assert Screen(moderator=dawdle, deadline=0.01).check_sync(BAD).cause is Cause.FLAGGED


# Cancellation.


@awaiting_only
async def test_cancelling_a_check_cancels_an_async_moderator() -> None:
    started = anyio.Event()
    seen: list[str] = []

    async def hang(items: Sequence[Item]) -> Sequence[Verdict]:
        started.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            seen.append("cancelled")
            raise
        return judge(items)

    await assert_cancelled(Screen(moderator=hang, on_error="allow", deadline=30), started)

    assert seen == ["cancelled"]


@awaiting_only
async def test_cancelling_a_check_does_not_wait_for_a_def_moderator(gate: threading.Event) -> None:
    started = anyio.Event()
    token = anyio.lowlevel.current_token()

    def hang(items: Sequence[Item]) -> Sequence[Verdict]:
        anyio.from_thread.run_sync(started.set, token=token)
        gate.wait(10)
        return judge(items)

    await assert_cancelled(Screen(moderator=hang, on_error="allow", deadline=30), started)

    assert not gate.is_set()


async def assert_cancelled(screen: Screen, started: anyio.Event) -> None:
    """Cancel a check once its moderator is at work: it gives no decision, and gives up at once."""
    decisions: list[Decision] = []

    async def ask() -> None:
        decisions.append(await screen.check(BAD))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await started.wait()
            group.cancel_scope.cancel()

    assert group.cancel_scope.cancelled_caught
    assert decisions == []


@awaiting_only
async def test_a_deadline_around_a_check_is_its_callers() -> None:
    async def hang(items: Sequence[Item]) -> Sequence[Verdict]:
        await anyio.sleep_forever()
        return judge(items)

    screen = Screen(moderator=hang, on_error="allow", deadline=30)

    with pytest.raises(TimeoutError), anyio.fail_after(0.05):
        await screen.check(BAD)


# Who a moderator is.


def ask(moderator: Any, caplog: pytest.LogCaptureFixture) -> str:
    """The name under which a moderator appears in the log."""
    caplog.set_level(logging.INFO)
    Screen(moderator=moderator).check_sync(QUIET)
    return str(caplog.records[-1].__dict__["prescreen"]["moderator"])


def test_a_moderator_appears_in_the_log_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    class Named(WithModerate):
        name = "house rules"

    assert ask(Named(), caplog) == "house rules"
    assert ask(plain, caplog) == "plain"
    assert ask(WithModerate(), caplog) == "WithModerate"


def test_a_policy_is_held_against_the_categories_that_a_moderator_has() -> None:
    class Knowing(WithModerate):
        categories = ("spoilers", "spam")

    policy = Policy(actions={"spoiler": Action.FLAG})

    with pytest.raises(ConfigError, match="did you mean 'spoilers'") as caught:
        Screen(moderator=Knowing(), policy=policy)

    assert caught.value.key == 'policy.actions."spoiler"'
    Screen(moderator=WithModerate(), policy=policy)  # which does not say what it knows


@pytest.mark.parametrize(
    "moderator", [None, 7, object(), WithModerate, [plain], {"moderate": plain}], ids=lambda each: type(each).__name__
)
def test_what_is_no_moderator_is_found_when_the_screen_is_built(moderator: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Screen(moderator=moderator)

    assert caught.value.key == "moderator"


HOUSE = """
from prescreen import Verdict

LIMIT = 7

def check(items):
    return [Verdict(True, {"house": True}) for _ in items]

class Judge:
    def moderate(self, items):
        return check(items)

judge = Judge()
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's own, importable as house_rules."""
    (tmp_path / "house_rules.py").write_text(HOUSE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize("path", ["house_rules:check", "house_rules:judge", "house_rules:judge.moderate"])
def test_a_moderator_may_be_named_by_its_import_path(path: str) -> None:
    assert Screen(moderator=path).check_sync(QUIET).categories == ("house",)


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("openia", "'openai', 'keywords'"),
        ("house_rules.check", "'app.safety:check'"),
        ("no_house_rules:check", "cannot be imported"),
        ("house_rules:czech", "cannot be imported"),
        ("house_rules:", "neither a function nor an object"),
        (":check", "cannot be imported"),
        ("house_rules:LIMIT", "neither a function nor an object"),
        ("house_rules:Judge", "neither a function nor an object"),
    ],
)
def test_a_name_that_leads_to_no_moderator_is_found_when_the_screen_is_built(path: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Screen(moderator=path)

    assert caught.value.key == "moderator"
    assert problem in caught.value.problem


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("moderator", "name"),
    [("house_rules:check", "house_rules:check"), ("house_rules:check", "other_rules:check"), (plain, "mistake")],
)
def test_options_that_nobody_takes_are_found_when_the_screen_is_built(moderator: Any, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Screen(moderator=moderator, moderators={name: {"limit": 3}})

    assert caught.value.key.startswith("moderators.")
    assert name in caught.value.key


def test_a_callable_that_shows_no_signature_is_called_all_the_same() -> None:
    decision = Screen(moderator=max).check_sync(QUIET)

    assert decision.cause is Cause.UNAVAILABLE
    assert decision.is_rejected


async def test_a_malformed_verdict_does_not_hide_a_good_one(check: Check) -> None:
    def half(items: Sequence[Item]) -> Sequence[Verdict]:
        return [Verdict(True, {"violence": True}), Verdict(False, {}, {"violence": 1.7})]

    for on_error in Action:
        decision = await check(Screen(moderator=half, on_error=on_error), [Text("/0", BAD), Text("/1", QUIET)])
        assert (decision.cause, decision.is_rejected) == (Cause.FLAGGED, True)


@awaiting_only
async def test_threads_that_hang_are_left_behind_in_a_bounded_number(gate: threading.Event) -> None:
    running: list[int] = []

    def hang(items: Sequence[Item]) -> Sequence[Verdict]:
        running.append(1)
        gate.wait(10)
        return judge(items)

    screen = Screen(moderator=hang, deadline=0.1, **BARE)
    problems: list[str | None] = []

    async def ask() -> None:
        problems.append((await screen.check(QUIET)).problem)

    full = "ModeratorBusy: all its threads hang"
    rounds = 0
    while rounds < 4 or (full not in problems and rounds < 40):  # a busy machine takes its time to start threads
        rounds += 1
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(ask)

    assert len(problems) == 40 * rounds
    assert full in problems
    assert len(running) <= 80
    gate.set()


@pytest.mark.parametrize("longest", [0, 99, "5000", True])
def test_a_limit_of_a_moderator_that_holds_no_sentence_is_a_configuration_error(longest: Any) -> None:
    moderator = WithModerate()
    moderator.max_characters = longest  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"max_characters = .* is no number of at least 100"):
        Screen(moderator=moderator)


def test_a_long_text_comes_in_pieces_to_a_moderator_that_says_how_long_they_may_be() -> None:
    asked: list[str] = []

    class Short:
        max_characters = 100

        def moderate(self, items: Sequence[Item]) -> list[Verdict]:
            asked.extend(item.value for item in items if isinstance(item, Text))
            return [Verdict(flagged="lanterns" in asked[-1])] * len(items)

    decision = Screen(moderator=Short()).check_sync("seven violet " * 20 + "lanterns")
    assert decision.is_rejected
    assert len(asked) == 3
    assert all(len(piece) <= 100 for piece in asked)
