"""A screen that has seen a request before decides as one that has never seen any, and keeps little of them."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import BAD, Recorder
from prescreen import AnyOf, Asked, Cache, Decision, Head, Record, Rule, Screen, Text, Verdict, decode
from prescreen.drive import drive_sync
from prescreen.memory import Memory
from prescreen.model import Cause, Item
from prescreen.paths import Places
from prescreen.steps import Answer, Moderate, ReadBody, Report, Step, Work
from prescreen.target import Framing, Target, Targets

RULES: Final = [
    Rule("POST /chat", json=["$.message"]),
    Rule("POST /form", form=["message"], query=["q"]),
    Rule("POST /any", json="all", form="*", text=True, allow_untyped=True, allow_utf16=True),
    Rule("POST /packed", json=["$.message"], decode_content=True, keys=True),
    Rule("POST /joined", json=["$..*"], join=True, on_unmatched="reject", images="reject"),
    Rule("POST /small", json=["$.message"], max_body=40),
    Rule("PUT /chat", json=["$.other"]),
]


def met(
    screen: Screen, path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]], query: bytes = b"", **head: Any
) -> tuple[Any, ...]:
    """What becomes of a request: all of its decision but the id, and what the moderator was asked."""
    asked: list[Item] = []

    def perform(step: Step) -> Answer:
        if isinstance(step, ReadBody):
            return body
        if isinstance(step, Moderate):
            asked.extend(step.items)
        return screen.perform_sync(step)

    told = Head(head.pop("method", "POST"), path, query=query, headers=tuple(headers), **head)
    found: Decision = drive_sync(screen.request_flow(screen.rules.find(told), told), perform)
    return found.action, found.cause, found.reasons, found.rule, found.problem, asked


def screen(**options: Any) -> Screen:
    defaults: dict[str, Any] = {"rules": RULES, "moderator": Recorder()}
    return Screen(**(defaults | options))


class Forgetful(Targets):
    """Reads every body by the whole of its head, and remembers nothing."""

    def framing(self, target: Target, head: Head) -> Framing:
        decode.admit(head, target.accepts)
        return Framing(target, head, decode.query_fields(head, self._limits) if target.has_query else ())


class Never(Memory[Any]):
    """Keeps nothing."""

    def get(self, key: Hashable) -> None:
        return None


def forgetful(**options: Any) -> Screen:
    mine = screen(**options)
    plan = replace(mine.plan, targets=Forgetful(mine.settings.rules, mine.settings.limits), found=Never(0))
    object.__setattr__(mine, "plan", plan)
    return mine


def message(text: str = BAD) -> bytes:
    return json.dumps({"message": text}).encode()


def json_of(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each body that is gone through."""
    found: list[str] = []
    harvest = Places.harvest

    def counted(self: Places, *arguments: Any) -> Any:
        found.append("read")
        return harvest(self, *arguments)

    monkeypatch.setattr(Places, "harvest", counted)
    return found


# It decides the same

BODIES: Final = [
    message(),
    message("a mild word"),
    message("s e v e n  v i o l e t  l a n t e r n s"),
    b'{"message":"a","message":"b"}',
    b'{"other":"seven violet lanterns"}',
    b'{"a":"seven violet","b":"lanterns"}',
    b'{"message":"https://example.org/a.png","message2":{"type":"image_url","image_url":"https://example.org/a.png"}}',
    b"message=seven+violet+lanterns&x=%7B%7D",
    b"message=caf%C3%A9",
    b"seven violet lanterns",
    b"caf\xc3\xa9 {",
    b"--b\r\ncontent-disposition: form-data; name=message\r\n\r\nseven violet lanterns\r\n--b--\r\n",
    message().decode().encode("utf-16"),
    gzip.compress(message(), mtime=0),
    b"",
    b"{",
]
HEADERS: Final = {
    b"content-type": [
        b"application/json",
        b"application/json; charset=us-ascii",
        b"application/json; charset=utf-16",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=b",
        b"multipart/form-data; boundary=c",
        b"text/plain",
        b"text/plain; charset=us-ascii",
        b"text/html",
        b"/",
    ],
    b"content-encoding": [b"gzip", b"identity", b"br"],
    b"transfer-encoding": [b"chunked", b"gzip, chunked"],
    b"content-length": [b"5", b"0", b"99999999", b"+5", b"5, 6"],
    b"x-other": [b"gzip"],
}
pairs = st.sampled_from([(name, value) for name, values in HEADERS.items() for value in values])
requests = st.lists(
    st.tuples(
        st.sampled_from(["/chat", "/form", "/any", "/packed", "/joined", "/small", "/Chat"]),
        st.sampled_from(BODIES),
        st.lists(pairs, max_size=3),
        st.sampled_from([b"", b"q=seven+violet+lanterns", b"q=caf%C3%A9", b"message=a&_charset_=utf-7"]),
    ),
    min_size=1,
    max_size=8,
)
SEASONED: Final = screen()
ALONE: Final = forgetful()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(requests, st.sampled_from(["POST", "PUT"]), st.booleans())
def test_whatever_came_before_a_request_meets_what_it_meets_alone(
    sent: list[tuple[str, bytes, list[tuple[bytes, bytes]], bytes]], method: str, is_websocket: bool
) -> None:
    for path, body, headers, query in sent:
        alone = met(ALONE, path, body, headers, query, method=method, is_websocket=is_websocket)
        for _ in range(2):
            assert met(SEASONED, path, body, headers, query, method=method, is_websocket=is_websocket) == alone


def test_a_body_that_comes_again_is_not_gone_through_again(reads: list[str]) -> None:
    mine = screen()
    first = met(mine, "/chat", message(), json_of(message()))
    assert first[1] is Cause.FLAGGED
    assert met(mine, "/chat", message(), [*json_of(message()), (b"cookie", b"another=client")]) == first
    assert reads == ["read"]


@pytest.mark.parametrize(
    "changed",
    [
        {"path": "/any"},
        {"path": "/Chat", "method": "PATCH"},
        {"method": "PUT"},
        {"body": message("a mild word, as long!")},
        {"headers": [(b"content-type", b"application/vnd.x+json")]},
        {"headers": [(b"content-type", b"application/json"), (b"content-encoding", b"identity")]},
        {"headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]},
        {"path": "/form", "query": b"q=1", "headers": [(b"content-type", b"application/x-www-form-urlencoded")]},
    ],
)
def test_what_differs_in_anything_that_counts_is_read_anew(reads: list[str], changed: dict[str, Any]) -> None:
    mine = screen()
    request: dict[str, Any] = {"path": "/chat", "body": message(), "headers": json_of(message())}
    met(mine, **request)
    met(mine, "/form", message(), [(b"content-type", b"application/x-www-form-urlencoded")])
    reads.clear()
    met(mine, **(request | changed))
    assert reads == ["read"]


def test_each_screen_has_its_own_limits() -> None:
    wide, narrow = screen(), screen(limits={"characters": 10})
    for _ in range(2):
        assert met(wide, "/chat", message(), json_of(message()))[1] is Cause.FLAGGED
        assert met(narrow, "/chat", message(), json_of(message()))[1] is Cause.OVERSIZE


def test_a_refusal_is_found_anew_each_time() -> None:
    mine, body = screen(), b'{"message":"a","message":"b"}'
    assert [met(mine, "/chat", body, json_of(body))[1] for _ in range(2)] == [Cause.UNREADABLE] * 2
    assert [met(mine, "/chat", body, [(b"content-type", b"text/html")])[1] for _ in range(2)] == [Cause.UNSUPPORTED] * 2


def test_nobody_can_spoil_what_is_remembered() -> None:
    mine, body = screen(), b'{"message":["one","two"]}'
    asked: list[list[Item]] = []

    def greedy(step: Step) -> Answer:
        if isinstance(step, ReadBody):
            return body
        if not isinstance(step, Moderate):
            return mine.perform_sync(step)
        asked.append(list(step.items))
        if isinstance(step.items, list):
            step.items.clear()
        return [Verdict(flagged=False)] * 2

    told = Head("POST", "/chat", headers=tuple(json_of(body)))
    for _ in range(3):
        drive_sync(mine.request_flow(mine.rules.find(told), told), greedy)
    assert asked == [[Text("/message/0", "one"), Text("/message/1", "two")]] * 3


def test_what_is_on_a_list_is_looked_up_each_time() -> None:
    mine = screen(moderator=Recorder(), secret="a secret of the tests", lists=True, store="memory")
    body = message("a mild word")
    assert met(mine, "/chat", body, json_of(body))[5] == [Text("/message", "a mild word")]
    assert mine.people.lists is not None
    mine.people.lists.add("allow", "a mild word")
    assert met(mine, "/chat", body, json_of(body))[5] == []
    mine.people.lists.add("deny", "a mild word")
    assert met(mine, "/chat", body, json_of(body))[1] is Cause.FLAGGED


# It keeps little


def test_a_large_body_is_not_even_looked_up() -> None:
    class Unhashable(bytes):
        __hash__ = None  # type: ignore[assignment]

    plan = screen().plan
    framing = plan.targets.framing(
        plan.targets.of((RULES[0],)), Head("POST", "/chat", headers=tuple(json_of(message())))
    )
    assert plan.known(framing, Unhashable(9_000)) is None


def kept(mine: Screen) -> int:
    return max(len(memory._kept) for memory in (mine.plan.targets._framings, mine.plan.found))


def test_what_is_kept_is_bounded_however_many_bodies_and_heads_there_are() -> None:
    mine = screen()
    for index in range(600):
        body = message(f"word {index}")
        met(mine, "/chat", body, [*json_of(body), (b"content-type-x", b"")])
        met(mine, "/form", b"", [(b"content-type", b"text/plain; n=%d" % index)], b"q=%d" % index)
    assert 0 < kept(mine) <= 256


@pytest.mark.parametrize(
    "body",
    [
        message("word " * 4_000),
        json.dumps({"x" * 200: {"message": [f"word {index}" for index in range(200)]}}).encode(),
        json.dumps({"message": "data:image/png;base64,iVBORw0KGgo" + "A" * 20_000}).encode(),
    ],
    ids=["long text", "long pointers", "image"],
)
def test_what_is_large_is_not_kept(body: bytes, reads: list[str]) -> None:
    mine = screen(rules=[Rule("POST /chat", json="all")])
    first = met(mine, "/chat", body, json_of(body))
    assert met(mine, "/chat", body, json_of(body)) == first
    assert reads == ["read", "read"]
    assert mine.plan.found._kept == {}


def test_a_small_packed_body_that_unpacks_to_much_is_not_kept(reads: list[str]) -> None:
    body = gzip.compress(message("word " * 4_000), mtime=0)
    headers = [*json_of(body), (b"content-encoding", b"gzip")]
    mine = screen()
    assert met(mine, "/packed", body, headers) == met(mine, "/packed", body, headers)
    assert reads == ["read", "read"]


def test_a_large_head_is_not_kept() -> None:
    mine = screen()
    met(mine, "/form", b"", [], b"q=" + b"a" * 2_000)
    met(mine, "/chat", b"", [(b"content-encoding", b"x" * 2_000)])
    assert mine.plan.targets._framings._kept == {}


def test_a_full_memory_is_emptied_and_goes_on() -> None:
    memory = Memory[int](10)
    for index in range(257):
        assert memory.keep(index, -index, 10) == -index
    assert (memory.get(0), memory.get(256)) == (None, -256)
    assert memory.keep("large", 1, 11) == 1
    assert memory.get("large") is None


def test_threads_share_a_memory_without_a_lock() -> None:
    memory = Memory[int](10)
    faults: list[object] = []

    def work(salt: int) -> None:
        for index in range(20_000):
            key = (index * salt) % 1_000
            memory.keep(key, key, 1)
            found = memory.get(key)
            if found not in (None, key):
                faults.append(found)

    threads = [threading.Thread(target=work, args=(salt,)) for salt in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(memory._kept) <= 256 + len(threads)


# What was said of it is at hand


class Judge(Recorder):
    """One whose verdicts may be kept."""

    identity = "judge"


def asks(mine: Screen, body: bytes) -> list[type]:
    """The steps of one request."""
    steps: list[type] = []

    def perform(step: Step) -> Answer:
        steps.append(type(step))
        return body if isinstance(step, ReadBody) else mine.perform_sync(step)

    told = Head("POST", "/chat", headers=tuple(json_of(body)))
    drive_sync(mine.request_flow(mine.rules.find(told), told), perform)
    return steps


@pytest.mark.parametrize("text", [BAD, "a mild word"])
def test_a_request_that_comes_again_is_decided_by_what_is_at_hand(text: str) -> None:
    judge, events = Judge(), list[Any]()
    mine = screen(moderator=judge, observers=[events.append])
    body = message(text)
    assert asks(mine, body) == [ReadBody, Work, Moderate, Report]
    for _ in range(3):
        assert asks(mine, body) == [ReadBody, Report]
    assert judge.calls == [[text]]
    assert len({decision_facts(mine, body) for _ in range(3)}) == 1
    assert [event.cached for event in events if isinstance(event, Asked)] == [0, *[1] * 6]
    records = [event for event in events if isinstance(event, Record)]
    assert {tuple(record.stages) for record in records[1:]} == {("read", "moderator")}


def decision_facts(mine: Screen, body: bytes) -> tuple[Any, ...]:
    return met(mine, "/chat", body, json_of(body))[:5]


def test_what_is_at_hand_is_as_old_as_the_verdict_and_no_older() -> None:
    judge = Judge()
    mine, body = screen(moderator=judge, cache=Cache(ttl=0.3)), message()
    asks(mine, body)
    time.sleep(0.2)
    assert asks(mine, body) == [ReadBody, Report]
    time.sleep(0.2)
    assert asks(mine, body) == [ReadBody, Moderate, Report]
    assert len(judge.calls) == 2


@pytest.mark.parametrize(
    "options",
    [{"cache": False}, {"moderator": Recorder()}, {"moderator": AnyOf(Judge(), Judge())}],
    ids=["no cache", "no identity", "a layer"],
)
def test_where_verdicts_are_not_kept_nothing_is_at_hand(options: Any) -> None:
    mine = screen(**{"moderator": Judge(), **options})
    for _ in range(3):
        assert asks(mine, message())[-2:] == [Moderate, Report]


def test_of_many_texts_nothing_is_at_hand_since_it_would_be_much() -> None:
    judge = Judge()
    mine, body = screen(moderator=judge), json.dumps({"message": [f"word {number}" for number in range(9)]}).encode()
    for _ in range(3):
        assert asks(mine, body)[-2:] == [Moderate, Report]
    assert len(judge.calls) == 1


def test_what_another_screen_was_told_is_not_at_hand() -> None:
    mine, other = screen(moderator=Judge()), Judge()
    asks(mine, message())
    asks(mine, message())
    [found] = mine.plan.found._kept.values()
    assert mine.traffic[None].recall(found) is not None
    assert screen(moderator=other).traffic[None].recall(found) is None


def test_a_text_that_is_put_on_a_list_is_looked_up_although_its_verdict_is_at_hand() -> None:
    mine, body = screen(moderator=Judge(), secret="a secret of the tests", lists=True, store="memory"), message("mild")
    for _ in range(3):
        assert decision_facts(mine, body)[1] is Cause.CLEAN
    assert mine.people.lists is not None
    mine.people.lists.add("deny", "mild")
    assert decision_facts(mine, body)[1] is Cause.FLAGGED
