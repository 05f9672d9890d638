"""`timing="overlap"`: the handler runs while the moderator judges, and nothing leaks meanwhile."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextvars import copy_context
from typing import Any, Final

import anyio
import pytest
from anyio import to_thread

from doubles import BAD, Client, Recorder, scope, whole
from fake_model import FakeModel
from prescreen import (
    Action,
    ConfigError,
    Decision,
    NotScreened,
    Rule,
    Screen,
    Verdict,
    decision_of,
    settled_decision_of,
)
from prescreen.asgi import ModerationMiddleware, Receive, Scope, Send
from prescreen.current import Passage, passing
from prescreen.errors import ClientGone
from prescreen.openai import AsyncOpenAI, OpenAI
from prescreen.wsgi import ModerationMiddleware as WSGIMiddleware

CHAT: Final = Rule("POST /chat", json="$.message", timing="overlap")
ASK: Final[Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
GOOD: Final = "hello"


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with FakeModel() as running:
        yield running


class Judge(Recorder):
    """A Recorder that waits for `go` before it answers, and says in `asked` that it has been asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = anyio.Event(), anyio.Event()

    async def moderate(self, items: Sequence[Any]) -> list[Verdict]:
        self.asked.set()
        await self.go.wait()
        return await super().moderate(items)


App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer(send: Send, body: bytes = b"done") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def requested(app: App, moderator: Any, text: str = GOOD, **options: Any) -> Client:
    made = Screen(**{"rules": [CHAT], "moderator": moderator, **options})
    browser = Client(whole(b'{"message": "%s"}' % text.encode()))
    await browser.request(ModerationMiddleware(app, made))
    return browser


async def test_the_handler_works_while_the_moderator_judges() -> None:
    judge = Judge()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await judge.asked.wait()
        judge.go.set()  # one after the other would wait for ever
        await answer(send)

    browser = await requested(app, judge)
    assert (browser.status, browser.body) == (200, b"done")


@pytest.mark.parametrize("text", [GOOD, BAD])
async def test_no_byte_of_the_answer_leaves_before_the_verdict(text: str) -> None:
    judge, sent_early = Judge(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(answer, send)
            await anyio.wait_all_tasks_blocked()
            sent_early.append(list(browser.sent))
            judge.go.set()

    made = Screen(rules=[CHAT], moderator=judge)
    browser = Client(whole(b'{"message": "%s"}' % text.encode()))
    await browser.request(ModerationMiddleware(app, made))
    assert sent_early == [[]]
    assert browser.status == (200 if text == GOOD else 400)
    assert (b"done" in browser.body) == (text == GOOD)


async def test_a_rejection_cancels_the_handler_and_answers_once() -> None:
    judge, ends = Judge(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        judge.go.set()
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cancelled")
            with anyio.CancelScope(shield=True):
                await answer(send)  # nobody hears that any more

    browser = await requested(app, judge, BAD)
    assert ends == ["cancelled"]
    assert browser.status == 400
    assert [event["type"] for event in browser.sent] == ["http.response.start", "http.response.body"]


async def test_what_the_handler_raises_is_the_servers_to_hear_but_not_after_a_rejection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("the handler's own")

    with pytest.raises(LookupError, match="the handler's own"):
        await requested(app, Recorder())
    assert (await requested(app, Recorder(), BAD)).status == 400


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_of_the_apps_own_does_not_undo_the_verdict() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        judge.go.set()
        raise asyncio.CancelledError  # as by awaiting a task that somebody has cancelled

    judge = Judge()
    assert (await requested(app, judge, BAD)).status == 400
    judge = Judge()
    with pytest.raises(asyncio.CancelledError):
        await requested(app, judge)


async def test_what_sending_a_rejection_raises_is_the_servers_to_hear() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep_forever()

    async def send(event: Any) -> None:
        raise BrokenPipeError

    browser = Client(whole(b'{"message": "%s"}' % BAD.encode()))
    made = ModerationMiddleware(app, Screen(rules=[CHAT], moderator=Recorder()))
    with pytest.raises(BrokenPipeError):
        await made(scope(), browser.receive, send)


async def test_a_request_that_is_refused_unread_or_has_no_text_needs_no_overlap() -> None:
    calls = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append((await receive())["body"])
        await answer(send)

    made = ModerationMiddleware(app, Screen(rules=[CHAT], moderator=Recorder()))
    for body, status in ((b"{", 400), (b'{"message": 1}', 200)):
        browser = Client(whole(body))
        assert await browser.request(made) == status
    assert calls == [b'{"message": 1}']


async def test_a_client_that_leaves_while_sending_reaches_no_handler() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    browser = Client([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    assert await browser.request(ModerationMiddleware(app, Screen(rules=[CHAT], moderator=Recorder()))) is None


async def test_a_handler_can_wait_for_the_decision_before_it_does_what_cannot_be_undone() -> None:
    judge, seen = Judge(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(decision_of(scope))
        judge.go.set()
        seen.append(await settled_decision_of(scope))
        seen.append(decision_of(scope))
        await answer(send)

    await requested(app, judge)
    assert seen[0] is None
    assert seen[1] is seen[2] is not None
    assert await settled_decision_of({}) is None


async def test_a_handler_that_waits_for_the_decision_goes_no_step_further_after_a_rejection() -> None:
    judge, done = Judge(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        judge.go.set()
        await settled_decision_of(scope)
        done.append("what cannot be undone")

    assert (await requested(app, judge, BAD)).status == 400
    assert not done


async def test_of_two_screens_neither_hides_that_the_other_is_still_judging(model: FakeModel) -> None:
    for text, calls in ((GOOD, 1), (BAD, 0)):
        judge, seen = Judge(), list[object]()
        async with AsyncOpenAI(api_key="k", base_url=model.url, guard="screened") as ours:

            async def app(scope: Scope, receive: Receive, send: Send, mine: Any = (judge, seen, ours)) -> None:
                judge, seen, ours = mine
                seen.append(decision_of(scope))
                async with anyio.create_task_group() as group:
                    group.start_soon(lambda: ours.chat.completions.create(**ASK))
                    await anyio.wait_all_tasks_blocked()
                    seen.append(len(model.calls))
                    judge.go.set()
                await settled_decision_of(scope)
                await answer(send)

            before = Rule("POST /chat", json="$.message")
            inner = ModerationMiddleware(app, Screen(rules=[before], moderator="keywords"))
            middleware = ModerationMiddleware(inner, Screen(rules=[CHAT], moderator=judge))
            model.calls.clear()
            browser = Client(whole(b'{"message": "%s"}' % text.encode()))
            await browser.request(middleware)
        assert browser.status == (200 if text == GOOD else 400)
        assert seen == [None, 0]
        assert len(model.calls) == calls


async def test_what_an_inner_screen_rejects_starts_no_handler_while_an_outer_one_still_judges() -> None:
    judge, started = Judge(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.append(scope)

    refusing = Rule("POST /chat", json="$.message", timing="overlap", on_unmatched="reject")
    inner = ModerationMiddleware(app, Screen(rules=[refusing], moderator=Recorder()))
    everything = Rule("POST /chat", json="all", timing="overlap")
    middleware = ModerationMiddleware(inner, Screen(rules=[everything], moderator=judge))
    browser = Client(whole(b'{"other": "hello"}'))
    async with anyio.create_task_group() as group:
        group.start_soon(browser.request, middleware)
        await judge.asked.wait()
        await anyio.wait_all_tasks_blocked()
        assert not started
        judge.go.set()
    assert browser.status == 422
    assert not started


@pytest.mark.parametrize("guard", [None, "screened"])
async def test_a_model_call_waits_for_the_verdict(model: FakeModel, guard: Any) -> None:
    judge, calls_before = Judge(), []
    async with AsyncOpenAI(api_key="k", base_url=model.url, guard=guard) as ours:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: ours.chat.completions.create(**ASK))
                await anyio.wait_all_tasks_blocked()
                calls_before.append(len(model.calls))
                judge.go.set()
            await answer(send)

        made = {"subject": "header:content-type", "secret": "a secret of more than sixteen characters"}
        assert (await requested(app, judge, **made)).status == 200
    assert calls_before == [0]
    assert len(model.calls) == 1
    assert model.identifiers[0] is not None


async def test_a_blocking_model_call_in_a_worker_thread_waits_for_the_verdict(model: FakeModel) -> None:
    with OpenAI(api_key="k", base_url=model.url) as ours:
        for text in (GOOD, BAD):
            judge, outcome = Judge(), list[object]()

            def ask(outcome: list[object] = outcome) -> None:
                try:
                    outcome.append(ours.chat.completions.create(**ASK))
                except NotScreened as error:
                    outcome.append(error)

            async def app(scope: Scope, receive: Receive, send: Send, judge: Judge = judge, ask: Any = ask) -> None:
                async with anyio.create_task_group() as group:
                    group.start_soon(to_thread.run_sync, ask)
                    await judge.asked.wait()
                    judge.go.set()
                await answer(send)

            browser = await requested(app, judge, text)
            assert browser.status == (200 if text == GOOD else 400)
            assert isinstance(outcome[0], NotScreened) == (text == BAD)
    assert len(model.calls) == 1


async def test_a_blocking_client_in_the_event_loop_is_told_rather_than_left_to_hang(model: FakeModel) -> None:
    with OpenAI(api_key="k", base_url=model.url) as ours:
        judge = Judge()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            with pytest.raises(NotScreened, match="AsyncOpenAI"):
                ours.chat.completions.create(**ASK)
            judge.go.set()
            await answer(send)

        assert (await requested(app, judge)).status == 200
    assert not model.calls


async def test_another_event_loop_in_a_worker_thread_waits_too(model: FakeModel) -> None:
    judge = Judge()

    async def ask() -> None:
        async with AsyncOpenAI(api_key="k", base_url=model.url) as ours:
            await ours.chat.completions.create(**ASK)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, lambda: anyio.run(ask))
            await judge.asked.wait()
            judge.go.set()
        await answer(send)

    assert (await requested(app, judge)).status == 200
    assert len(model.calls) == 1


async def test_whatever_comes_first_a_flagged_request_never_becomes_a_model_call(model: FakeModel) -> None:
    chance = random.Random(1)  # for the order of things
    finished = []

    async def judge(items: Sequence[Any]) -> list[Verdict]:
        await anyio.sleep(chance.random() * 0.01)
        return [Verdict(True, {"violence": True}) for _ in items]

    async with AsyncOpenAI(api_key="k", base_url=model.url, max_retries=0) as ours:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await anyio.sleep(chance.random() * 0.01)
            async with await ours.chat.completions.create(**ASK, stream=True) as stream:
                finished.append(stream)
            await answer(send)

        made = ModerationMiddleware(app, Screen(rules=[CHAT], moderator=judge))
        statuses = []

        async def one() -> None:
            browser = Client(whole(b'{"message": "hello"}'))
            statuses.append(await browser.request(made))

        for _ in range(50):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(one)
    assert statuses == [400] * 1000
    assert not model.calls
    assert not finished


async def test_a_caller_that_is_cancelled_takes_both_along() -> None:
    judge, ends = Judge(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cancelled")

    async with anyio.create_task_group() as group:
        group.start_soon(requested, app, judge)
        await judge.asked.wait()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert ends == ["cancelled"]


def test_overlap_needs_asgi_and_a_rule_that_reads() -> None:
    with pytest.raises(ConfigError, match=r"rules\[0\].timing: 'overlap' needs ASGI"):
        WSGIMiddleware(lambda environ, start_response: [], rules=[CHAT], moderator=Recorder())
    with pytest.raises(ConfigError, match="an exempt rule reads nothing"):
        Rule("POST /chat", exempt=True, timing="overlap")
    with pytest.raises(ConfigError, match="'later' is not one of 'before', 'overlap'"):
        Rule("POST /chat", json="$.a", timing="later")  # type: ignore[arg-type]  # that is the question


async def test_where_one_of_several_rules_does_not_overlap_the_handler_waits() -> None:
    judge, order = Judge(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        order.append("handler")
        await answer(send)

    rules = [Rule("POST /chat/", json="$.message", timing="overlap"), Rule("POST /{name}", json="$.message")]
    made = Screen(rules=rules, moderator=judge)
    browser = Client(whole(b'{"message": "hello"}'))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: browser.request(ModerationMiddleware(app, made), path="/CHAT"))
        await judge.asked.wait()
        await anyio.wait_all_tasks_blocked()
        order.append("verdict")
        judge.go.set()
    assert order == ["verdict", "handler"]


class Waited(threading.Event):
    """An event that says when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.set()
        return super().wait(timeout)


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("is_outer", [True, False])
def test_whoever_waits_in_another_thread_is_let_go_with_the_decision(is_async: bool, is_outer: bool) -> None:
    pending, decisions = Passage(None), []
    pending._settled = settled = Waited()
    with passing(pending if is_outer else None):
        passage = Passage(None, Decision(Action.ALLOW)) if is_outer else pending

    def wait() -> None:
        decisions.append(anyio.run(passage.wait) if is_async else passage.wait_sync())

    thread = threading.Thread(target=wait)
    thread.start()
    assert settled.waiting.wait(10)
    assert passage.decision is None
    pending.settle(None)
    thread.join(10)
    assert decisions == [None]


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
async def test_an_apps_own_error_that_a_client_is_gone_is_the_apps(mode: str) -> None:
    handled = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal handled
        handled += 1
        raise ClientGone

    with pytest.raises(ClientGone):
        await requested(app, Recorder(), mode=mode)
    assert handled == 1


def test_a_handler_that_was_left_in_the_middle_may_end_in_another_context() -> None:
    def handler() -> Generator[None, None, None]:
        with passing(Passage(None)):
            yield

    running = handler()
    copy_context().run(next, running)
    running.close()  # as the garbage collector does it
