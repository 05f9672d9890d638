from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest
from anyio import to_thread

from doubles import BARE, Check
from fake_openai import CATEGORIES, FLAGGED_SCORE, FakeOpenAI, Result, Step, altered, delay, status
from prescreen import Action, Cause, ConfigError, Decision, Image, Policy, Screen, Text
from prescreen.model import Item
from prescreen.moderators.openai import OpenAIModerator

pytestmark = pytest.mark.once

KEY = "test-key"
QUIET = "seven violet lanterns"
MILD = "eight violet lanterns"
TOLD = "flag violence"
PICTURE = "https://pictures.test/quiet.png"
LOUD_PICTURE = "https://pictures.test/flag-violence.png"
MISSING_PICTURE = "https://pictures.test/missing.png"
BROKEN_PICTURE = "https://pictures.test/broken.png"
SLOW_PICTURE = "https://pictures.test/slow.png"

awaiting_only = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


class Build(Protocol):
    def __call__(self, **options: Any) -> Screen: ...


@pytest.fixture
def anyio_backend(door: str) -> str:
    return "asyncio" if door == "blocking" else door


@pytest.fixture
def service() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as running:
        yield running


@pytest.fixture
async def build(service: FakeOpenAI) -> AsyncIterator[Build]:
    """Screens that ask the service; the clients are closed in the event loop that they belong to."""
    built: dict[str, OpenAIModerator] = {}

    def screen(*, model: str = "omni-moderation-latest", **options: Any) -> Screen:
        if model not in built:
            built[model] = OpenAIModerator(model=model, base_url=service.url, api_key=KEY)
        return Screen(moderator=built[model], **({"deadline": 10} | BARE | options))

    yield screen
    for moderator in built.values():
        await close(moderator)


@pytest.fixture
def screen(build: Build) -> Screen:
    return build()


async def close(moderator: OpenAIModerator) -> None:
    """Close the clients, where there are any, so that no socket is left to the garbage collector."""
    client = moderator._async_clients.get().client
    if client is not None:
        await client.aclose()
    if moderator._sync_client is not None:
        moderator._sync_client[1].close()


def hits(decision: Decision) -> list[tuple[str, str]]:
    return [(reason.pointer, reason.category) for reason in decision.reasons]


def assert_unavailable(decision: Decision, error: str) -> None:
    """Rejected for want of a verdict, because of this error."""
    assert decision.cause is Cause.UNAVAILABLE
    assert decision.action is Action.REJECT
    assert decision.is_rejected
    assert decision.reasons == ()
    assert decision.problem is not None
    assert decision.problem.split(":")[0] == error


def assert_clean(decision: Decision) -> None:
    assert decision.cause is Cause.CLEAN, decision
    assert decision.action is Action.ALLOW
    assert decision.problem is None
    assert decision.reasons == ()


# What is asked, and what comes back.


async def test_a_quiet_text_is_clean(check: Check, screen: Screen) -> None:
    assert_clean(await check(screen, QUIET))


async def test_a_flagged_text_is_rejected_with_category_and_score(check: Check, screen: Screen) -> None:
    decision = await check(screen, TOLD)

    assert decision.cause is Cause.FLAGGED
    assert decision.is_rejected
    assert [(reason.category, reason.score) for reason in decision.reasons] == [("violence", FLAGGED_SCORE)]


async def test_categories_keep_their_wire_names(check: Check, screen: Screen) -> None:
    decision = await check(screen, [Text(f"/{category}", f"flag {category}") for category in CATEGORIES])

    assert hits(decision) == [(f"/{category}", category) for category in CATEGORIES]


async def test_the_call_carries_key_model_and_texts(check: Check, build: Build, service: FakeOpenAI) -> None:
    await check(build(model="omni-moderation-2024-09-26"), QUIET)

    (request,) = service.requests
    assert request.path == "/v1/moderations"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json == {"model": "omni-moderation-2024-09-26", "input": [QUIET]}


async def test_all_texts_go_in_one_call_as_a_list_of_strings(check: Check, build: Build, service: FakeOpenAI) -> None:
    await check(build(max_batch=40), [Text(f"/{number}", f"text {number}") for number in range(40)])

    assert service.inputs() == [[f"text {number}" for number in range(40)]]


async def test_each_image_goes_in_a_call_of_its_own(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    decision = await check(screen, [Image("/0", PICTURE), Text("/1", QUIET), Image("/2", PICTURE), Text("/3", MILD)])

    assert_clean(decision)
    part = {"type": "image_url", "image_url": {"url": PICTURE}}
    assert sorted(service.inputs(), key=repr) == sorted([[QUIET, MILD], [part], [part]], key=repr)


async def test_nothing_to_judge_asks_nobody(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    assert_clean(await check(screen, []))
    assert service.requests == []


async def test_each_verdict_meets_its_own_item(check: Check, screen: Screen) -> None:
    items: list[Item] = [
        Image("/0", PICTURE),
        Text("/1", "flag hate"),
        Text("/2", QUIET),
        Image("/3", LOUD_PICTURE),
        Text("/4", "flag sexual/minors"),
        Image("/5", PICTURE),
        Text("/6", "flag hate and flag illicit"),
    ]

    decision = await check(screen, items)

    assert hits(decision) == [
        ("/1", "hate"),
        ("/3", "violence"),
        ("/4", "sexual/minors"),
        ("/6", "hate"),
        ("/6", "illicit"),
    ]


@pytest.mark.parametrize(("threshold", "action"), [(0.4, Action.REJECT), (0.5, Action.ALLOW)])
async def test_thresholds_are_held_against_the_services_scores(
    check: Check, build: Build, threshold: float, action: Action
) -> None:
    screen = build(policy=Policy(thresholds={"violence": threshold}))

    assert (await check(screen, "score violence 0.4")).action is action


async def test_a_category_that_nobody_knew_is_kept(check: Check, build: Build, service: FakeOpenAI) -> None:
    service.script("extra category", "extra category")

    assert (await check(build(), QUIET)).categories == ("spoilers",)
    assert_clean(await check(build(policy=Policy(thresholds={"spoilers": 0.95})), QUIET))


@pytest.mark.parametrize(("text", "categories"), [(QUIET, ()), (TOLD, ("violence",))])
@pytest.mark.parametrize("step", ["no flagged", "null category"])
async def test_categories_decide_where_a_service_says_no_more(  # noqa: PLR0917  # each is a fixture or a case
    check: Check, screen: Screen, service: FakeOpenAI, step: str, text: str, categories: tuple[str, ...]
) -> None:
    service.script(step)

    decision = await check(screen, text)

    assert decision.cause is (Cause.FLAGGED if categories else Cause.CLEAN)
    assert decision.categories == categories


async def test_half_an_emoji_does_not_hide_the_text_around_it(
    check: Check, screen: Screen, service: FakeOpenAI
) -> None:
    decision = await check(screen, [Text("/0", f"\ud83d {TOLD} \udc00"), Image("/1", f"{LOUD_PICTURE}#\ud83d")])

    assert hits(decision) == [("/0", "violence"), ("/1", "violence")]
    assert [f"\ufffd {TOLD} \ufffd"] in service.inputs()


async def test_any_other_text_arrives_as_it_is(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    texts = ["", " ", "a\x00 b\r\n", "naïve \u2013 \u2018quoted\u2019", "\U0001f3ee", '{"input": "x"}', "x" * 5_000]

    await check(screen, [Text(f"/{number}", text) for number, text in enumerate(texts)])

    assert service.inputs() == [texts]


# Answers that are none.


ODD_ANSWERS = (
    "html",
    "invalid json",
    "empty",
    "error body",
    "null body",
    "list body",
    "too few",
    "too many",
    "no results",
    "null results",
    "nulls",
    "null flag and category",
    "no categories",
    "empty categories",
    "flagged as text",
    "flagged as number",
    "categories as numbers",
    "score too high",
    "score too low",
    "score not a number",
)


async def test_an_odd_answer_never_counts_as_clean(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    decisions = {}
    for step in ODD_ANSWERS:
        service.script(step)
        decisions[step] = await check(screen, [Text("/0", QUIET), Text("/1", MILD)])

    assert {step: (told.cause, told.is_rejected) for step, told in decisions.items()} == dict.fromkeys(
        ODD_ANSWERS, (Cause.UNAVAILABLE, True)
    )
    assert {step: str(told.problem).partition(":")[0] for step, told in decisions.items()} == dict.fromkeys(
        ODD_ANSWERS, "BadVerdict"
    )
    assert len(service.requests) == len(ODD_ANSWERS)


async def test_an_answer_of_20_megabytes_is_none(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    service.script("huge")

    assert_unavailable(await check(screen, QUIET), "BadVerdict")
    assert len(service.requests) == 1


async def test_an_odd_answer_about_one_image_spoils_the_whole(
    check: Check, screen: Screen, service: FakeOpenAI
) -> None:
    service.script("answer", "nulls")

    assert_unavailable(await check(screen, [Image("/0", PICTURE), Image("/1", PICTURE)]), "BadVerdict")


@pytest.mark.parametrize("action", [Action.FLAG, Action.ALLOW])
async def test_what_passes_unmoderated_says_so(check: Check, build: Build, service: FakeOpenAI, action: Action) -> None:
    service.script("too few")

    decision = await check(build(on_error=action), TOLD)

    assert decision.action is action
    assert not decision.is_rejected
    assert decision.degraded
    assert decision.cause is Cause.UNAVAILABLE


@pytest.mark.parametrize(
    ("picture", "action"),
    # What the service refuses to judge is the client's doing; only an outage is for `on_error`.
    [(MISSING_PICTURE, Action.REJECT), (BROKEN_PICTURE, Action.ALLOW)],
    ids=["refused", "failed"],
)
async def test_an_image_without_a_verdict_does_not_hide_a_flagged_text(
    check: Check, build: Build, picture: str, action: Action
) -> None:
    screen = build(on_error="allow")

    passed = await check(screen, [Text("/0", QUIET), Image("/1", picture)])
    rejected = await check(screen, [Text("/0", TOLD), Image("/1", picture)])

    assert passed.action is action
    assert passed.cause in (Cause.UNAVAILABLE, Cause.REFUSED)
    assert rejected.is_rejected
    assert hits(rejected) == [("/0", "violence")]


async def test_an_image_that_takes_all_the_time_does_not_hide_a_flagged_text(check: Check, build: Build) -> None:
    decision = await check(build(on_error="allow", deadline=1), [Text("/0", TOLD), Image("/1", SLOW_PICTURE)])

    assert decision.is_rejected
    assert hits(decision) == [("/0", "violence")]


@pytest.mark.parametrize("door", ["asyncio", "trio"])  # blocking, one image is asked about after the other
async def test_an_image_that_takes_all_the_time_does_not_hide_the_next(check: Check, build: Build) -> None:
    screen = build(on_error="allow", deadline=1)

    decision = await check(screen, [Image("/0", SLOW_PICTURE), Image("/1", LOUD_PICTURE)])

    assert decision.is_rejected
    assert hits(decision) == [("/1", "violence")]


async def test_the_graver_of_two_counts_where_one_item_has_a_verdict_and_another_none(
    check: Check, build: Build
) -> None:
    to_flag = Policy(actions={"violence": Action.FLAG})
    items: list[Item] = [Text("/0", TOLD), Image("/1", BROKEN_PICTURE)]

    actions = [(await check(build(on_error=action, policy=to_flag), items)).action for action in Action]

    assert list(Action) == [Action.ALLOW, Action.FLAG, Action.REJECT]
    assert actions == [Action.FLAG, Action.FLAG, Action.REJECT]


# Statuses.


REFUSALS = {
    status(400, error="too_many_images"): "ModeratorRefused: it refused to judge this (HTTP 400, too_many_images)",
    status(400, error=4711): "ModeratorRefused: it refused to judge this (HTTP 400, 4711)",
    status(400, error=QUIET): "ModeratorRefused: it refused to judge this (HTTP 400)",
    status(401): "ModeratorDown: it does not know us (HTTP 401); check the API key, the model and the address",
    status(403): "ModeratorDown: it does not know us (HTTP 403); check the API key, the model and the address",
    status(404): "ModeratorDown: it does not know us (HTTP 404); check the API key, the model and the address",
    status(408): "ModeratorDown: it was not ready (HTTP 408)",
    status(409): "ModeratorDown: it was not ready (HTTP 409)",
    status(500): "ModeratorDown: it failed (HTTP 500)",
    status(503): "ModeratorDown: it failed (HTTP 503)",
    # The last, because after it a screen leaves the service alone for a while.
    status(429, error="insufficient_quota"): "ModeratorBusy: rate limit or quota (HTTP 429, insufficient_quota)",
}


async def test_a_refusal_is_named_and_not_asked_for_again(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    service.script(*REFUSALS)

    decisions = [await check(screen, QUIET) for _ in REFUSALS]

    assert [decision.problem for decision in decisions] == list(REFUSALS.values())
    assert all(decision.is_rejected for decision in decisions)
    for decision in decisions:
        is_refused = str(decision.problem).startswith("ModeratorRefused")
        assert decision.cause is (Cause.REFUSED if is_refused else Cause.UNAVAILABLE)
    assert len(service.requests) == len(REFUSALS)


RETRY_AFTER = {
    "7": 7.0,
    "1.5": 1.5,
    "0": 0.0,
    None: None,
    "-3": None,
    "nan": None,
    "soon": None,
    "Wed, 21 Oct 2026 07:28:00 GMT": None,
}


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_ends_up_in_the_decision(check: Check, build: Build, service: FakeOpenAI, code: int) -> None:
    for header, seconds in RETRY_AFTER.items():
        service.script(status(code, retry_after=header))

        decision = await check(build(), QUIET)

        assert decision.cause is Cause.UNAVAILABLE
        assert decision.retry_after == seconds, header


# Connections.


@pytest.mark.parametrize("step", ["drop", "drop body"])
async def test_a_dropped_connection_gets_one_more_try(
    check: Check, screen: Screen, service: FakeOpenAI, step: str
) -> None:
    service.script(step)

    assert (await check(screen, TOLD)).categories == ("violence",)
    assert service.inputs() == [[TOLD], [TOLD]]


@pytest.mark.parametrize("step", ["drop", "drop body"])
async def test_a_connection_dropped_again_is_given_up(
    check: Check, screen: Screen, service: FakeOpenAI, step: str
) -> None:
    service.script(step, step)

    assert_unavailable(await check(screen, QUIET), "ModeratorDown")
    assert len(service.requests) == 2


@pytest.mark.parametrize("step", ["close", "drop"])
async def test_a_stale_connection_goes_unnoticed(check: Check, screen: Screen, service: FakeOpenAI, step: str) -> None:
    service.script("answer", step)

    for _ in range(4):
        assert (await check(screen, TOLD)).categories == ("violence",)


async def test_connections_are_kept_and_used_again(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    for _ in range(5):
        await check(screen, QUIET)

    assert len({request.connection for request in service.requests}) == 1


async def test_a_service_that_is_not_there_is_down(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    service.stop()

    assert_unavailable(await check(screen, QUIET), "ModeratorDown")


# Time.


async def test_a_late_answer_within_the_deadline_counts(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    service.script(delay(0.2))

    assert (await check(screen, TOLD)).categories == ("violence",)


@pytest.mark.parametrize("step", ["stall", "stall body", "drip"])
async def test_the_deadline_holds(check: Check, build: Build, service: FakeOpenAI, step: str) -> None:
    deadline = 0.3
    screen = build(deadline=deadline)
    await check(screen, QUIET)  # the first call builds the client
    service.script(step)

    started = time.monotonic()
    decision = await check(screen, QUIET)

    assert time.monotonic() - started < deadline + 1
    assert_unavailable(decision, "ModeratorTimeout")


@pytest.mark.parametrize("door", ["asyncio", "trio"])  # blocking, the SDK reads these by itself
@pytest.mark.parametrize("step", ["drip head", "drip error"])
async def test_the_deadline_holds_before_there_is_a_body_and_where_it_is_an_error(
    check: Check, build: Build, service: FakeOpenAI, step: str
) -> None:
    await test_the_deadline_holds(check, build, service, step)


async def test_the_deadline_is_for_all_calls_together(check: Check, build: Build, service: FakeOpenAI) -> None:
    deadline = 0.3
    screen = build(deadline=deadline)
    await check(screen, QUIET)
    service.script(*[delay(0.2)] * 10, "stall")

    started = time.monotonic()
    decision = await check(screen, [Image(f"/{number}", PICTURE) for number in range(11)])

    assert time.monotonic() - started < deadline + 1
    assert_unavailable(decision, "ModeratorTimeout")


async def test_a_retry_gets_no_time_of_its_own(check: Check, build: Build, service: FakeOpenAI) -> None:
    deadline = 0.3
    screen = build(deadline=deadline)
    await check(screen, QUIET)
    service.script("drop", "stall")

    started = time.monotonic()
    decision = await check(screen, QUIET)

    assert time.monotonic() - started < deadline + 1
    assert_unavailable(decision, "ModeratorTimeout")


async def test_a_screen_recovers_from_a_missed_deadline(check: Check, build: Build, service: FakeOpenAI) -> None:
    screen = build(deadline=1)
    service.script("stall")

    assert_unavailable(await check(screen, TOLD), "ModeratorTimeout")
    assert (await check(screen, TOLD)).categories == ("violence",)


# Many at once; loops; processes.


def test_threads_share_a_screen_and_get_their_own_answers(service: FakeOpenAI) -> None:
    moderator = OpenAIModerator(base_url=service.url, api_key=KEY)
    screen = Screen(moderator=moderator, deadline=10)
    asked = CATEGORIES * 4

    with ThreadPoolExecutor(8) as pool:
        texts = [f"flag {category} {number}" for number, category in enumerate(asked)]
        decisions = list(pool.map(screen.check_sync, texts))

    assert [decision.categories for decision in decisions] == [(category,) for category in asked]
    assert moderator._sync_client
    moderator._sync_client[1].close()


@awaiting_only
async def test_tasks_share_a_screen_and_get_their_own_answers(screen: Screen) -> None:
    answers: dict[str, tuple[str, ...]] = {}

    async def ask(category: str) -> None:
        answers[category] = (await screen.check(f"flag {category}")).categories

    async with anyio.create_task_group() as group:
        for category in CATEGORIES:
            group.start_soon(ask, category)

    assert answers == {category: (category,) for category in CATEGORIES}


@awaiting_only
async def test_a_cancelled_check_ends_and_leaves_the_screen_whole(screen: Screen, service: FakeOpenAI) -> None:
    service.script("stall")
    decisions: list[Decision] = []

    async def ask() -> None:
        decisions.append(await screen.check(TOLD))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await to_thread.run_sync(service.arrived.wait, 10)
        group.cancel_scope.cancel()

    assert decisions == []
    with anyio.fail_after(5):  # and not with the stalled call, which goes on until its deadline
        assert (await screen.check(TOLD)).categories == ("violence",)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_screen_serves_one_event_loop_after_another(service: FakeOpenAI, backend: str) -> None:
    moderator = OpenAIModerator(base_url=service.url, api_key=KEY)
    screen = Screen(moderator=moderator, deadline=10)

    async def life(number: int) -> list[tuple[str, ...]]:
        answers = [(await screen.check(f"flag {category} {number}")).categories for category in ("hate", "violence")]
        await close(moderator)
        return answers

    for number in range(3):
        assert anyio.run(life, number, backend=backend) == [("hate",), ("violence",)]
    assert len(service.requests) == 6


def test_event_loops_side_by_side_share_a_screen(service: FakeOpenAI) -> None:
    moderator = OpenAIModerator(base_url=service.url, api_key=KEY)
    screen = Screen(moderator=moderator, deadline=10)

    async def life(category: str) -> list[tuple[str, ...]]:
        answers = [(await screen.check(f"flag {category} {number}")).categories for number in range(5)]
        await close(moderator)
        return answers

    with ThreadPoolExecutor(4) as pool:
        lives = list(pool.map(lambda category: anyio.run(life, category), CATEGORIES[:4]))

    assert lives == [[(category,)] * 5 for category in CATEGORIES[:4]]


FORK = """
import os, sys
from prescreen import Screen
from prescreen.moderators.openai import OpenAIModerator

screen = Screen(moderator=OpenAIModerator(base_url=sys.argv[1], api_key="test-key"), deadline=10)
assert screen.check_sync("flag sexual").categories == ("sexual",)
child = os.fork()
if child:  # which goes first, so that it finds the connection as its parent left it
    assert os.waitpid(child, 0)[1] == 0
category = "hate" if child else "violence"
for number in range(5):
    decision = screen.check_sync(f"flag {category} {number}")
    assert decision.categories == (category,), decision
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a platform without fork")
def test_a_forked_process_uses_no_connection_of_its_parent(service: FakeOpenAI) -> None:
    python("-c", FORK, service.url)

    used = {
        category: {request.connection for request in service.requests if category in request.json["input"][0]}
        for category in ("sexual", "hate", "violence")
    }
    assert used["hate"] == used["sexual"]
    assert used["violence"]
    assert used["violence"].isdisjoint(used["sexual"])


def test_the_fake_service_runs_on_its_own() -> None:
    command = [sys.executable, str(Path(__file__).with_name("fake_openai.py")), "html"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        moderator = OpenAIModerator(base_url=url, api_key=KEY)
        screen = Screen(moderator=moderator, deadline=10)
        try:
            assert_unavailable(screen.check_sync(TOLD), "BadVerdict")
            assert screen.check_sync(TOLD).categories == ("violence",)
        finally:
            assert moderator._sync_client
            moderator._sync_client[1].close()
            process.terminate()


# Configuration.


def python(*arguments: str, **environ: str) -> None:
    """Run Python with warnings as errors; fails with what it said."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def no_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell has set is not what a test means."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_environ")
@pytest.mark.parametrize(
    ("options", "key", "problem"),
    [
        ({"model": "text-moderation-latest"}, "moderators.openai.model", "'text-moderation-latest' is shut down"),
        ({"model": "text-moderation-007"}, "moderators.openai.model", "write 'omni-moderation-latest'"),
        ({"model": 7}, "moderators.openai.model", "7"),
        ({"api_key": ""}, "moderators.openai.api_key", "set OPENAI_API_KEY"),
        ({"api_key": f"{KEY}\n"}, "moderators.openai.api_key", "line ends"),
        ({"api_key": f" {KEY}"}, "moderators.openai.api_key", "blanks"),
        ({"api_key": f"{KEY}\u2019"}, "moderators.openai.api_key", "non-ASCII"),
        ({"api_key": 7}, "moderators.openai.api_key", ""),
        ({"base_url": "127.0.0.1:9/v1"}, "moderators.openai.base_url", "http"),
        ({"modle": "omni-moderation-latest"}, "moderators.openai.modle", "unknown key"),
        ({"timeout": 3}, "moderators.openai.timeout", "unknown key; it takes model, api_key, base_url"),
    ],
)
def test_what_cannot_work_is_found_when_the_screen_is_built(options: dict[str, object], key: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Screen(moderators={"openai": {"api_key": KEY} | options})

    assert caught.value.key == key
    assert problem in caught.value.problem
    assert KEY not in str(caught.value)


@pytest.mark.usefixtures("no_environ")
def test_no_key_is_an_error_and_no_weaker_moderator() -> None:
    with pytest.raises(ConfigError) as caught:
        Screen()

    assert caught.value.key == "moderators.openai.api_key"
    assert "OPENAI_API_KEY" in caught.value.problem


def test_a_key_with_a_line_end_in_the_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\n")

    with pytest.raises(ConfigError) as caught:
        Screen()

    assert caught.value.key == "moderators.openai.api_key"
    assert KEY not in str(caught.value)


def test_without_an_sdk_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "openai.py").write_text("raise ModuleNotFoundError('openai')")
    script = """
from prescreen import ConfigError, Screen
try:
    Screen(moderators={"openai": {"api_key": "test-key"}})
except ConfigError as error:
    assert error.key == "moderators.openai", error
    assert "pip install" in error.problem, error
else:
    raise AssertionError
"""
    python("-c", script, PYTHONPATH=str(tmp_path))


def test_a_category_that_openai_does_not_have_is_found_at_once() -> None:
    with pytest.raises(ConfigError, match="did you mean 'violence'") as caught:
        Screen(moderator=OpenAIModerator(api_key=KEY), policy=Policy(thresholds={"violense": 0.5}))

    assert caught.value.key == 'policy.thresholds."violense"'


def test_key_and_address_are_taken_from_the_environment(service: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    moderator = OpenAIModerator()

    # Another service has other categories, wherever its address was written.
    decision = Screen(moderator=moderator, policy=Policy(actions={"spoilers": Action.FLAG}), deadline=10).check_sync(
        TOLD
    )

    assert decision.categories == ("violence",)
    assert service.requests[0].headers["authorization"] == "Bearer key-of-the-environment"
    assert moderator._sync_client
    moderator._sync_client[1].close()


@pytest.mark.parametrize("address", ["", None])
def test_an_empty_address_is_none(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "")

    moderator = OpenAIModerator(api_key=KEY, base_url=address)

    assert "'https://api.openai.com/v1'" in repr(moderator)
    # It is OpenAI itself, so its categories are known.
    with pytest.raises(ConfigError, match="violense"):
        Screen(moderator=moderator, policy=Policy(ignore=["violense"]))


def test_nothing_imports_the_sdk_but_the_moderator_that_needs_it() -> None:
    script = """
import sys
import prescreen
screen = prescreen.Screen(moderator="keywords", rules=[prescreen.Rule("POST /chat", json=["$.text"])])
assert not screen.check_sync("seven violet lanterns").reasons
assert "openai" not in sys.modules
prescreen.Screen(moderators={"openai": {"api_key": "test-key"}})
assert "openai" in sys.modules
"""
    python("-W", "error", "-c", script)


# What must not get out.


async def test_neither_key_nor_text_gets_into_logs_or_decision(
    check: Check, screen: Screen, service: FakeOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    steps: list[str | Step] = ["answer", "drop", "answer", "html", status(400), status(401), status(500), status(429)]
    service.script(*steps)

    decisions = [await check(screen, QUIET) for _ in steps]

    assert caplog.text.count("[openai, ") == len(steps)  # the events of the decisions are there
    for told in (caplog.text, repr(decisions), *(repr(record.__dict__) for record in caplog.records)):
        assert KEY not in told
        assert QUIET not in told


def test_the_key_is_in_no_repr(service: FakeOpenAI) -> None:
    moderator = OpenAIModerator(base_url=service.url, api_key=KEY)
    by_hand = Screen(moderator=moderator)
    by_name = Screen(moderators={"openai": {"api_key": KEY, "base_url": service.url}})

    for shown in (moderator, by_hand, by_hand.settings, by_name, by_name.settings, by_name.moderator):
        assert KEY not in repr(shown)
    assert service.url in repr(moderator)


async def test_a_failure_is_a_warning_in_the_log(
    check: Check, screen: Screen, service: FakeOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    service.script(status(503))

    decision = await check(screen, QUIET)

    (record,) = [record for record in caplog.records if record.name == "prescreen"]
    assert record.levelno == logging.WARNING
    assert decision.id in record.getMessage()
    assert "ModeratorDown: it failed (HTTP 503)" in record.getMessage()


def test_without_the_sdk_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['openai'] = None; from prescreen import ConfigError, Screen\n"
        "try: Screen(moderators={'openai': {'api_key': 'test-key'}})\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'openai>=2,<4'" in done.stdout


# Long texts, many texts, and what is said of images.


async def test_a_long_text_is_judged_in_pieces_wherever_the_bad_words_are(
    check: Check, screen: Screen, service: FakeOpenAI
) -> None:
    words = [f"q{number:04} " for number in range(5_000)]  # no piece is like another
    for before in (0, 1_000, 2_333):
        text = f"{''.join(words[:before])}{TOLD} {''.join(words[before : before + 2_000])}"
        decision = await check(screen, text)
        assert hits(decision) == [("", "violence")]
    asked = [piece for call in service.inputs() for piece in call]
    assert len(asked) > 9
    assert all(len(piece) <= 5_000 for piece in asked)


async def test_more_than_one_call_can_carry_goes_in_several(check: Check, screen: Screen, service: FakeOpenAI) -> None:
    texts = [f"{number:04} {'quiet ' * 800}" for number in range(20)]
    assert_clean(await check(screen, [Text(f"/{number}", text) for number, text in enumerate(texts)]))
    calls = service.inputs()
    assert len(calls) > 1
    assert all(sum(map(len, call)) <= 32_000 for call in calls)
    assert sorted(piece for call in calls for piece in call) == texts


def text_only(result: Result) -> None:
    """As OpenAI answers for an image: a score of 0 in categories that it holds only against texts."""
    result["categories"] |= {"hate": False, "violence": False}
    result["category_scores"] |= {"hate": 0.0, "violence": 0.0}
    result["category_applied_input_types"] = {"hate": [], "violence": ["image"]}


async def test_no_category_that_is_only_for_texts_is_claimed_for_an_image(
    check: Check, build: Build, service: FakeOpenAI
) -> None:
    policy = Policy(thresholds={"hate": 0.0, "violence": 0.0})
    for change in (text_only, lambda result: result.pop("category_applied_input_types", None)):
        service.script(altered(change))
        assert hits(await check(build(policy=policy), [Image("/0", PICTURE)])) == [("/0", "violence")]
    service.script(altered(text_only))
    assert ("/0", "hate") in hits(await check(build(policy=policy), [Text("/0", QUIET)]))


async def test_a_hit_counts_for_an_image_whatever_the_answer_says_of_its_kind(
    check: Check, screen: Screen, service: FakeOpenAI
) -> None:
    def change(result: Result) -> None:
        result["flagged"] = result["categories"]["hate"] = True
        result["category_applied_input_types"] = {name: ["text"] for name in result["categories"]}

    service.script(altered(change))
    assert hits(await check(screen, [Image("/0", PICTURE)])) == [("/0", "hate")]


@pytest.mark.parametrize("longest", [0, 99, "5000", True])
def test_a_limit_that_holds_no_sentence_is_a_configuration_error(longest: Any) -> None:
    with pytest.raises(ConfigError, match="max_characters"):
        Screen(moderator="openai", moderators={"openai": {"api_key": KEY, "max_characters": longest}})
