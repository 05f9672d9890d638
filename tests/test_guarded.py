"""The guarded clients: who is named on a model call, which calls are made at all, and what is judged before them."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Final

import anyio
import pytest
from openai.types.responses import ResponseOutputText

from doubles import BAD, Client, Recorder, call, whole
from fake_model import ANSWER, FakeModel
from prescreen import Action, ConfigError, ContentRejected, Decision, Mode, NotScreened, Rule, Screen, Verdict
from prescreen.asgi import ModerationMiddleware, Receive, Scope, Send
from prescreen.calls import endpoint
from prescreen.current import Passage, current, passing
from prescreen.errors import ModeratorDown
from prescreen.openai import AsyncOpenAI, OpenAI
from prescreen.wsgi import ModerationMiddleware as WSGIMiddleware

SECRET: Final = "a secret of more than sixteen characters"
CHAT: Final = Rule("POST /chat", json="$.message")
PIXEL: Final = b"\x89PNG\r\n\x1a\n" + b"\0" * 20 + b"IEND\xaeB`\x82"
HELLO: Final = b'{"message": "hello"}'
ASK: Final[Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with FakeModel() as running:
        yield running


def screen(**options: Any) -> Screen:
    return Screen(
        **{"rules": [CHAT], "moderator": Recorder(), "subject": "header:x-user-id", "secret": SECRET, **options}
    )


def client(model: FakeModel, **options: Any) -> OpenAI:
    return OpenAI(api_key="k", base_url=model.url, max_retries=0, **options)


def aclient(model: FakeModel, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(api_key="k", base_url=model.url, max_retries=0, **options)


async def asked(model: Any, **more: Any) -> Any:
    return await model.chat.completions.create(**{**ASK, **more})


Handler = Callable[[], Awaitable[object]]


async def handled(handler: Handler, made: Screen, user: str | None = "user-7", path: str = "/chat") -> Client:
    """A request under the screen whose handler is `handler`; what went over the wire."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(HELLO)).encode())]
    named = [*headers, (b"x-user-id", user.encode())] if user else headers
    browser = Client(whole(HELLO))
    await browser.request(ModerationMiddleware(app, made), path=path, headers=named)
    return browser


def environ(**more: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/chat",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(HELLO)),
        "HTTP_X_USER_ID": "user-7",
        "wsgi.input": io.BytesIO(HELLO),
        **more,
    }


# Attribution


async def test_model_calls_carry_the_subject_and_never_the_users_own_id(model: FakeModel) -> None:
    async with aclient(model) as ours:

        async def handler() -> None:
            await asked(ours)
            await ours.responses.create(model="m", input="hello")
            await ours.with_options(timeout=5).chat.completions.with_raw_response.create(**ASK)

        made = screen()
        await handled(handler, made)
        await handled(handler, made, user="user-8")
    seven, eight = made.subject("user-7"), made.subject("user-8")
    assert model.identifiers == [seven] * 3 + [eight] * 3
    assert seven != eight
    assert not any(b"user-" in each.body for each in model.calls)


# The SDK leaves the generator behind a stream to the garbage collector, which trio does not like.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_streams_threads_and_tasks_of_a_request_carry_its_subject(model: FakeModel) -> None:
    async with aclient(model) as ours:
        with client(model) as blocking:

            async def handler() -> None:
                async with aclosing(await asked(ours, stream=True)) as stream:
                    assert [chunk.choices[0].delta.content async for chunk in stream] == [ANSWER]
                async with ours.responses.stream(model="m", input="hello") as events:
                    assert [event.type async for event in events][-1] == "response.completed"
                await anyio.to_thread.run_sync(lambda: blocking.chat.completions.create(**ASK))
                async with anyio.create_task_group() as group:
                    group.start_soon(asked, ours)

            made = screen()
            await handled(handler, made)
    assert model.identifiers == [made.subject("user-7")] * 4


async def test_what_the_caller_sets_stays(model: FakeModel) -> None:
    async with aclient(model) as ours:

        async def handler() -> None:
            await asked(ours, safety_identifier="their-own")
            await asked(ours, extra_body={"safety_identifier": "their-own"})

        await handled(handler, screen())
    assert model.identifiers == ["their-own"] * 2


async def test_without_a_subject_or_a_request_a_call_is_as_the_sdk_makes_it(model: FakeModel) -> None:
    async with aclient(model) as ours:

        async def handler() -> None:
            await asked(ours)

        await handled(handler, screen(), user=None)
        await handled(handler, screen(), path="/other")
        await handler()

        async def embed() -> None:
            await ours.embeddings.create(model="m", input="hello")

        await handled(embed, screen())
    assert all("safety_identifier" not in each.json for each in model.calls)
    assert len(model.calls) == 4


def test_on_wsgi_each_piece_of_a_response_is_made_inside_its_request_and_nothing_after_it(model: FakeModel) -> None:
    with client(model) as ours:

        class Pieces:
            def __iter__(self) -> Iterator[bytes]:
                ours.chat.completions.create(**ASK)
                yield b"piece"

            def close(self) -> None:
                ours.chat.completions.create(**ASK)

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            ours.chat.completions.create(**ASK)
            start_response("200 OK", [])
            return Pieces()

        made = screen()
        status, _, body = call(WSGIMiddleware(app, made), environ())
        ours.chat.completions.create(**ASK)
    assert (status, body) == (200, b"piece")
    assert model.identifiers == [made.subject("user-7")] * 3 + [None]


def test_on_wsgi_pieces_that_another_thread_asks_for_are_made_inside_their_request(model: FakeModel) -> None:
    with client(model) as ours:

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response("200 OK", [])
            return (ours.chat.completions.create(**ASK).id.encode() for _ in range(1))

        made = screen()
        pieces: Any = WSGIMiddleware(app, made)(environ(), lambda *_: lambda _: None)
        thread = threading.Thread(target=list, args=(pieces,))
        thread.start()
        thread.join()
    assert model.identifiers == [made.subject("user-7")]
    pieces.close()
    assert list(pieces) == []


def test_on_wsgi_a_response_that_needs_no_closing_is_closed_all_the_same(model: FakeModel) -> None:
    with client(model):

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response("200 OK", [])
            return iter([b"piece"])

        assert call(WSGIMiddleware(app, screen()), environ())[2] == b"piece"


# Calls rest on a request that has passed


async def test_a_call_needs_a_request_that_was_screened_and_passed(model: FakeModel) -> None:
    async with aclient(model, guard="screened") as ours:
        errors: list[NotScreened] = []

        async def handler() -> None:
            for attempt in (asked(ours), ours.responses.create(model="m", input="hello")):
                try:
                    await attempt
                except NotScreened as error:
                    errors.append(error)

        await handler()
        await handled(handler, screen(), path="/other")
        exempt = screen(rules=[Rule("POST /chat", exempt=True), Rule("POST *", json="$.message")])
        await handled(handler, exempt)
        assert len(errors) == 6
        assert not model.calls
        await handled(handler, screen())
        assert len(errors) == 6
    assert len(model.calls) == 2


class Down:
    name = "down"

    async def moderate(self, items: Any) -> Any:
        raise ModeratorDown("it is gone")


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.MONITOR])
async def test_what_passed_unjudged_bears_no_call_unless_we_only_watch(model: FakeModel, mode: Mode) -> None:
    async with aclient(model, guard="screened") as ours:
        outcome: list[object] = []

        async def handler() -> None:
            try:
                outcome.append(await asked(ours))
            except NotScreened as error:
                outcome.append(error)

        await handled(handler, screen(moderator=Down(), on_error="allow", mode=mode))
    assert len(model.calls) == (1 if mode is Mode.MONITOR else 0)
    assert isinstance(outcome[0], NotScreened) == (mode is Mode.ENFORCE)


async def test_a_screen_that_is_off_stands_in_nobodys_way(model: FakeModel) -> None:
    async with aclient(model, guard="screened") as ours:

        async def handler() -> None:
            await asked(ours)

        assert (await handled(handler, screen(mode="off"))).status == 200
    with client(model, guard="screened") as blocking:

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response("200 OK", [])
            return (blocking.chat.completions.create(**ASK).id.encode() for _ in range(1))

        assert call(WSGIMiddleware(app, screen(mode="off")), environ())[0] == 200
    assert len(model.calls) == 2


async def test_the_guard_goes_along_with_a_copy_and_can_be_changed_by_none(model: FakeModel) -> None:
    async with aclient(model, guard="screened") as ours:
        for copied in (ours.copy(), ours.with_options(timeout=3), ours.copy().with_options(max_retries=1)):
            with pytest.raises(NotScreened):
                await asked(copied)
    with client(model, guard="screened") as blocking, pytest.raises(NotScreened):
        blocking.with_options(timeout=3).chat.completions.create(**ASK)
    assert not model.calls


async def test_requests_that_reach_no_model_are_neither_guarded_nor_judged(model: FakeModel) -> None:
    judge = Recorder()
    for options in ({"guard": "screened"}, {"guard": "text", "screen": screen(moderator=judge)}):
        async with aclient(model, **options) as ours:
            await ours.embeddings.create(model="m", input="hello")
    assert len(model.calls) == 2
    assert not judge.calls


# Calls are judged themselves

PICTURE: Final[Any] = {"type": "image_url", "image_url": {"url": "https://example.org/a"}}
# An address is judged as a text, too.
CALLS: Final[list[tuple[str, Callable[[Any], Any], list[str]]]] = [
    ("chat", lambda c: c.chat.completions.create(**ASK), ["hello"]),
    ("chat, streamed", lambda c: c.chat.completions.create(**ASK, stream=True), ["hello"]),
    ("chat, raw", lambda c: c.chat.completions.with_raw_response.create(**ASK), ["hello"]),
    (
        "every message",
        lambda c: c.chat.completions.create(
            model="m",
            messages=[
                {"role": "system", "content": "be kind"},
                {"role": "user", "content": [{"type": "text", "text": "look"}, PICTURE]},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "found"},
            ],
        ),
        ["be kind", "look", *[PICTURE["image_url"]["url"]] * 2, "f", '{"a": "b"}', "found"],
    ),
    ("responses", lambda c: c.responses.create(model="m", input="hello", instructions="be kind"), ["hello", "be kind"]),
    (
        "items",
        lambda c: c.responses.create(
            model="m",
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "look"},
                        {"type": "input_image", "detail": "auto", "image_url": "https://example.org/a"},
                    ],
                },
                {"type": "function_call_output", "call_id": "1", "output": "found"},
            ],
        ),
        ["look", *[PICTURE["image_url"]["url"]] * 2, "found"],
    ),
    (
        "a prompt's variables",
        lambda c: c.responses.create(
            model="m", prompt={"id": "pmpt_1", "variables": {"status": "found", "id": "more"}}
        ),
        ["found", "more"],
    ),
    (
        "a conversation",
        lambda c: c.post(
            "/conversations/conv_1/items", cast_to=object, body={"items": [{"role": "user", "content": "hello"}]}
        ),
        ["hello"],
    ),
    (
        "a thread",
        lambda c: c.post("/threads/t_1/messages", cast_to=object, body={"role": "user", "content": "hello"}),
        ["hello"],
    ),
    (
        "the SDK's own objects",
        lambda c: c.post(
            "/responses",
            cast_to=object,
            body={"input": (ResponseOutputText(type="output_text", text="found", annotations=[]), "hello")},
        ),
        ["found", "hello"],
    ),
    (
        "an odd type",
        lambda c: c.post("/responses", cast_to=object, body={"input": [{"type": ["string"], "text": "hello"}]}),
        ["string", "hello"],
    ),
    ("extra body", lambda c: c.responses.create(model="m", input="hello", extra_body={"input": "other"}), ["other"]),
    ("images", lambda c: c.images.generate(model="m", prompt="a lantern"), ["a lantern"]),
    (
        "upload",
        lambda c: c.images.edit(model="m", prompt="a lantern", image=io.BytesIO(PIXEL)),
        ["a lantern", f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"],
    ),
    ("by path", lambda c: c.post("/chat/completions", cast_to=object, body=ASK), ["hello"]),
]
IDS: Final = [each[0] for each in CALLS]


@pytest.mark.parametrize(("make", "texts"), [each[1:] for each in CALLS], ids=IDS)
async def test_the_input_of_a_call_is_judged_wherever_it_is_made(
    model: FakeModel, make: Callable[[Any], Any], texts: list[str]
) -> None:
    for is_async in (True, False):
        judge = Recorder()
        made = screen(moderator=judge)
        if is_async:
            async with aclient(model, guard="text", screen=made) as ours:
                answer = await make(ours)
                if hasattr(answer, "close"):
                    await answer.close()
        else:
            with client(model, guard="text", screen=made) as blocking:
                answer = await anyio.to_thread.run_sync(make, blocking)
                if hasattr(answer, "close"):
                    answer.close()
        assert sorted(judge.seen) == sorted(texts)
    assert len(model.calls) == 2


@pytest.mark.parametrize("make", [each[1] for each in CALLS], ids=IDS)
async def test_what_is_rejected_is_not_sent(model: FakeModel, make: Callable[[Any], Any]) -> None:
    async def everything(items: Any) -> Any:
        return [Verdict(True, {"violence": True}) for _ in items]

    made = screen(moderator=everything)
    async with aclient(model, guard="text", screen=made) as ours:
        with pytest.raises(ContentRejected) as caught:
            await make(ours)
    assert caught.value.decision.categories == ("violence",)
    assert not any(text in str(caught.value) + repr(caught.value) for text in ("hello", "look", "lantern"))
    assert not model.calls


async def test_what_no_moderator_can_look_at_is_not_sent(model: FakeModel) -> None:
    async with aclient(model, guard="text", screen=screen()) as ours:
        hidden: Any = {"id": "p", "variables": {"a": {"type": "input_image", "file_id": "f"}}}
        file: Any = {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA"}
        sound: Any = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
        nothing = await ours.post("/conversations", cast_to=object, body={})
        assert nothing is not None
        model.calls.clear()
        for attempt in (
            ours.responses.create(model="m", input=[{"role": "user", "content": [file]}]),
            asked(ours, messages=[{"role": "user", "content": [sound]}]),
            ours.images.edit(model="m", prompt="a", image=b"no image"),
            ours.post("/responses", cast_to=object, body={"input": [{"role": "user", "content": object()}]}),
            ours.responses.create(model="m", prompt=hidden),
            ours.post("/responses", cast_to=object, content=b"{}"),
        ):
            with pytest.raises(NotScreened):
                await attempt
    assert not model.calls


async def test_what_a_call_is_made_of_is_no_strike_of_whoever_asked_for_it(model: FakeModel) -> None:
    made = screen(strikes={"limit": 5})
    async with aclient(model, guard="text", screen=made) as ours:

        async def handler() -> None:
            with pytest.raises(ContentRejected):
                await asked(ours, messages=[{"role": "user", "content": f"somebody else's page: {BAD}"}])

        await handled(handler, made)
    assert made.people.book is not None
    assert not list(made.people.book.entries())


@pytest.mark.parametrize(
    "url", ["/responses/.", "/chat/./completions", "responses", "/v1/../responses", "/%72esponses", "/x/../responses"]
)
async def test_no_spelling_of_an_address_gets_past_the_guard(model: FakeModel, url: str) -> None:
    async with aclient(model, guard="screened") as ours:
        with pytest.raises(NotScreened):
            await ours.post(url, cast_to=object, body={"input": "hello"})
    async with AsyncOpenAI(api_key="k", base_url=f"{model.url}/chat/completions", guard="screened") as odd:
        with pytest.raises(NotScreened):
            await odd.post("", cast_to=object, body=ASK)
    assert not model.calls


@pytest.mark.parametrize(
    ("method", "url", "name"),
    [
        ("post", "https://api.example.org/v1/../v1/chat/completions", "chat/completions"),
        ("POST", "https://api.example.org/openai/deployments/m/chat/completions?api-version=1", "chat/completions"),
        ("post", "https://api.example.org/v1/completions", "completions"),
        (
            "post",
            "https://api.example.org/v1/threads/t_1/runs/r_1/submit_tool_outputs",
            "threads/*/runs/*/submit_tool_outputs",
        ),
        ("get", "https://api.example.org/v1/responses", None),
        ("post", "https://api.example.org/v1/responses/r_1/cancel", None),
        ("post", "https://api.example.org/", None),
    ],
)
def test_an_endpoint_is_known_by_where_its_address_leads(method: str, url: str, name: str | None) -> None:
    assert endpoint(method, url) == name


async def test_what_was_judged_is_what_is_sent(model: FakeModel) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}

    async def judge(items: Any) -> Any:
        body["messages"][0]["content"] = BAD  # type: ignore[index]  # somebody changes it meanwhile
        return [Verdict(False) for _ in items]

    async with aclient(model, guard="text", screen=screen(moderator=judge)) as ours:
        await ours.post("/chat/completions", cast_to=object, body=body)
    assert model.calls[0].json["messages"][0]["content"] == "hello"


def test_a_request_that_a_server_starts_in_the_context_of_the_last_is_one_of_its_own(model: FakeModel) -> None:
    with client(model, guard="screened") as ours:

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            with pytest.raises(NotScreened):
                ours.chat.completions.create(**ASK)
            start_response("200 OK", [])
            return [b"done"]

        made = screen()
        with passing(Passage("left over", Decision(Action.ALLOW))):
            assert call(WSGIMiddleware(app, made), environ(PATH_INFO="/other"))[0] == 200
    assert not model.calls


async def test_pipelined_requests_do_not_inherit_and_do_not_pile_up(model: FakeModel) -> None:
    depths: list[int] = []
    async with aclient(model, guard="screened") as ours:

        async def handler() -> None:
            with pytest.raises(NotScreened):
                await asked(ours)

        made = screen()
        for _ in range(3):
            with passing(Passage("left over", Decision(Action.ALLOW))):
                await handled(handler, made, path="/other")

                async def look() -> None:
                    found, depth = current(), 0
                    while found is not None:
                        found, depth = found.outer, depth + 1
                    depths.append(depth)

                await handled(look, made)
    assert depths == [1, 1, 1]
    assert not model.calls


def test_a_guard_that_could_not_work_is_a_configuration_error(
    model: FakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.delenv("PRESCREEN_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="PRESCREEN_CONFIG"):
        client(model, guard="text")
    with pytest.raises(ConfigError, match="'tekst' is not one of"):
        aclient(model, guard="tekst")
    (tmp_path / "prescreen.toml").write_text('moderator = "keywords"')
    monkeypatch.setenv("PRESCREEN_CONFIG", str(tmp_path / "prescreen.toml"))
    with client(model, guard="text") as ours:
        ours.chat.completions.create(**ASK)
        assert ours.screen is not None
        assert ours.screen.moderator.name == "keywords"
