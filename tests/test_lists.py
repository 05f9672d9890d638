"""Texts that are allowed or denied by name: exact, at once, in every store, and never kept as texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from doubles import BAD, Recorder
from prescreen import Action, Cause, Decision, Head, Rule, Screen, Text
from prescreen.drive import drive_sync
from prescreen.errors import StoreError
from prescreen.lists import TextLists
from prescreen.steps import Answer, ReadBody, Step
from prescreen.stores import open_store
from prescreen.subject import Keys

SECRET: Final = "a secret of more than sixteen characters"


def screen(tmp_path: Path, moderator: Any = None, **options: Any) -> Screen:
    store = f"sqlite:{tmp_path / 'prescreen.db'}"
    rules = [Rule("POST /chat", json="$.message")]
    return Screen(**{"rules": rules, "moderator": moderator or Recorder(), "secret": SECRET, "store": store, **options})


def lists(screen: Screen) -> TextLists:
    assert screen.people.lists is not None
    return screen.people.lists


async def test_an_allowed_text_passes_at_once_and_only_that_text(tmp_path: Path) -> None:
    judge = Recorder()
    made, operator = screen(tmp_path, judge), screen(tmp_path)
    assert (await made.check(BAD)).is_rejected
    lists(operator).add("allow", BAD, note="a line of a poem")
    assert (await made.check(BAD)).action is Action.ALLOW
    assert len(judge.calls) == 1
    assert (await made.check(f"{BAD} ")).is_rejected
    assert (await made.check([Text("/a", BAD), Text("/b", f"more {BAD}")])).reasons[0].pointer == "/b"
    assert judge.seen[-1] == f"more {BAD}"
    assert lists(operator).remove(BAD)
    assert not lists(operator).remove(BAD)
    assert (await made.check(BAD)).is_rejected


async def test_a_denied_text_is_rejected_without_a_moderator_and_is_a_strike(tmp_path: Path) -> None:
    judge = Recorder()
    made = screen(tmp_path, judge, subject="client", strikes={"limit": 1})
    lists(made).add("deny", "hello")
    decision = await made.check([Text("/a", "fine"), Text("/b", "hello")], subject="user-7")
    assert (decision.cause, decision.categories) == (Cause.FLAGGED, ("denied",))
    assert [reason.pointer for reason in decision.reasons] == ["/b"]
    assert not judge.calls
    assert (await made.check("fine", subject="user-7")).cause is Cause.SUSPENDED
    assert b"a text that we do not accept" in made.rejection(decision).body


def test_it_is_the_same_for_blocking_code(tmp_path: Path) -> None:
    made = screen(tmp_path)
    lists(made).add("allow", BAD)
    lists(made).add("deny", "hello")
    assert made.check_sync(BAD).action is Action.ALLOW
    assert made.check_sync("hello").is_rejected


def test_a_text_is_on_one_list_until_its_time_is_over(tmp_path: Path) -> None:
    kept = lists(screen(tmp_path))
    kept.add("allow", BAD, note="first")
    entry = kept.add("deny", BAD, note="second", lasting="1h")
    [found] = kept.entries()
    assert found == entry
    assert (found.list, found.note, found.digest) == ("deny", "second", kept.digest(BAD))
    assert found.until == pytest.approx(found.since + 3600)
    kept.add("deny", BAD, lasting=0.05)
    while kept.find([BAD]):
        pass  # for as long as that takes
    assert not list(kept.entries())
    assert not kept.remove_digest(found.digest)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"name": "maybe", "text": "a"}, "no list 'maybe'"),
        ({"name": "allow", "text": " "}, "without words"),
        ({"name": "allow", "text": "a", "lasting": "soon"}, "'soon' is not a duration"),
        ({"name": "allow", "text": "a", "note": "n" * 501}, "longer than 500"),
    ],
)
def test_what_could_do_nothing_is_not_listed(arguments: dict[str, Any], problem: str, tmp_path: Path) -> None:
    kept = lists(screen(tmp_path))
    with pytest.raises(ValueError, match=problem):
        kept.add(**arguments)
    assert not list(kept.entries())


def test_the_store_holds_neither_the_text_nor_anything_to_guess_it_by(tmp_path: Path) -> None:
    made = screen(tmp_path)
    lists(made).add("deny", BAD)
    assert made.people.store is not None
    made.people.store.close()
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert BAD.encode() not in data
    assert lists(made).digest(BAD).encode() in data
    assert Keys("another secret of enough characters").digests("listed text", BAD) != [lists(made).digest(BAD)]


def test_lists_are_there_where_others_can_reach_them_or_where_asked_for(tmp_path: Path) -> None:
    assert screen(tmp_path).people.lists is not None
    assert screen(tmp_path, lists=False).people.lists is None
    assert screen(tmp_path, store="memory").people.lists is None
    assert screen(tmp_path, store="memory", lists=True).people.lists is not None
    assert screen(tmp_path, secret=None).people.store is None


def test_what_is_no_entry_is_an_error_of_the_store() -> None:
    store, keys = open_store("memory"), Keys(SECRET)
    kept = TextLists(store, keys)
    store.put({f"lists:{kept.digest(BAD)}": b"[]"}, ttl=60)
    with pytest.raises(StoreError):
        kept.find([BAD])


async def test_an_allowed_text_is_left_out_of_what_is_joined(tmp_path: Path) -> None:
    judge = Recorder()
    rule = Rule("POST /chat", json="$.messages[*]", join=True)
    made = screen(tmp_path, judge, rules=[rule])
    lists(made).add("allow", BAD)
    from doubles import Client, whole
    from prescreen.asgi import ModerationMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    browser = Client(whole(b'{"messages": ["%s", "a", "b"]}' % BAD.encode()))
    assert await browser.request(ModerationMiddleware(app, made)) == 200
    assert judge.seen == ["a", "b", "a b", "ab"]


def test_what_is_listed_outlives_a_rotation_of_the_secret(tmp_path: Path) -> None:
    lists(screen(tmp_path)).add("deny", "hello")
    after = screen(tmp_path, secret="another secret of enough characters", previous_secrets=[SECRET])
    assert after.check_sync("hello").categories == ("denied",)
    lists(after).add("allow", "hello")
    assert not after.check_sync("hello").is_rejected
    assert lists(after).remove("hello")
    assert not list(lists(after).entries())


@pytest.mark.parametrize("on_oversize", ["reject", "allow"])
@pytest.mark.parametrize(("kind", "cause"), [("deny", Cause.FLAGGED), ("allow", Cause.CLEAN)])
def test_lists_have_their_say_before_a_text_is_too_long_in_all_its_readings(
    tmp_path: Path, on_oversize: Any, kind: Any, cause: Cause
) -> None:
    long, short = "\uff21\uff22" * 450, "a short one"
    rule = Rule("POST /chat", json=["$.x", "$.y"], join=True, on_oversize=on_oversize)
    made = screen(tmp_path, rules=[rule], limits={"characters": 1000})
    assert request(made, {"x": long, "y": short}).cause is Cause.OVERSIZE
    lists(made).add(kind, long if kind == "allow" else short)
    for _ in range(2):
        assert request(made, {"x": long, "y": short}).cause is cause


def request(made: Screen, document: object) -> Decision:
    body = json.dumps(document).encode()
    head = Head("POST", "/chat", headers=((b"content-type", b"application/json"),))

    def perform(step: Step) -> Answer:
        return body if isinstance(step, ReadBody) else made.perform_sync(step)

    return drive_sync(made.request_flow(made.rules.find(head), head), perform)
