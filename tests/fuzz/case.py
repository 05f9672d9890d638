"""One request as data, the ruled places that it can be about, and its two protocols' forms."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, get_args

from prescreen import Rule

Kind = Literal["json", "form", "multipart", "text", "query", "head"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Reading = Literal["json", "form", "text", "query"]
ADAPTERS_TURN: Final = 61
"""Each so many requests one goes through the middlewares, too; no multiple of anything that else goes by turns."""
Headers = tuple[tuple[bytes, bytes], ...]
Event = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A rule, and what a handler takes for the text that the rule names.

    `json` picks it out of a JSON value; `form` and `query` say whether a field is meant by its name. With `names`,
    the names of members and fields are texts, too.
    """

    rule: Rule
    json: Callable[[Any], Iterable[object]] | None = None
    form: Callable[[str], bool] | None = None
    query: Callable[[str], bool] | None = None
    names: bool = False

    @property
    def readings(self) -> frozenset[Reading]:
        """The kinds of accessor by which a handler gets at this place."""
        has: dict[Reading, object] = {"json": self.json, "form": self.form, "query": self.query, "text": self.rule.text}
        return frozenset(reading for reading, it in has.items() if it)


def _message(value: Any) -> Iterator[object]:
    if isinstance(value, dict):
        yield value.get("message")


def _contents(value: Any) -> Iterator[object]:
    messages = value.get("messages") if isinstance(value, dict) else None
    for message in messages.values() if isinstance(messages, dict) else messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield message.get("content")


def _anywhere(value: Any) -> Iterator[object]:
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield from (value["content"],) if "content" in value else ()
            stack += value.values()
        elif isinstance(value, list):
            stack += value


def _whole(value: Any) -> Iterator[object]:
    yield value


def _field(name: str) -> bool:
    return name == "message"


def _rare(name: str) -> bool:
    return name in ("user message", "déjà")


def _any(_name: str) -> bool:
    return True


def _place(*, match: str = "POST /chat", **options: Any) -> Place:
    """Options of the rule; where one is a pair, the second is the handler's part."""
    rule = {key: option[0] if isinstance(option, tuple) else option for key, option in options.items()}
    return Place(
        Rule(match, **rule), **{key: option[1] for key, option in options.items() if isinstance(option, tuple)}
    )


_MESSAGE: Final = ("$.message", _message)
_FIELD: Final = ("message", _field)
PLACES: Final[dict[str, Place]] = {
    "message": _place(json=_MESSAGE),
    "contents": _place(json=("$.messages[*].content", _contents)),
    "anywhere": _place(json=("$..content", _anywhere)),
    "whole": _place(json=("$", _whole)),
    "form": _place(form=_FIELD),
    "rare form": _place(form=(["user message", "déjà"], _rare)),
    "any form": _place(form=("*", _any)),
    "text": _place(text=True),
    "query": _place(query=_FIELD),
    "any query": _place(query=("*", _any)),
    "json or form": _place(json=_MESSAGE, form=_FIELD),
    "json or any form": _place(json=_MESSAGE, form=("*", _any)),
    "json or text": _place(json=_MESSAGE, text=True),
    "json and query": _place(json=_MESSAGE, query=_FIELD),
    "form or text": _place(form=_FIELD, text=True),
    "any of all": _place(json=_MESSAGE, form=_FIELD, query=_FIELD, text=True),
    "message only": _place(json=_MESSAGE, on_unmatched="pass"),
    "json or form only": _place(json=_MESSAGE, form=_FIELD, on_unmatched="pass"),
    "message and names": Place(Rule("POST /chat", json="$.message", keys=True), json=_message, names=True),
    "everything": Place(Rule("POST /chat", json="all"), json=_whole, query=_any, names=True),
    "everything of all": Place(
        Rule("POST /chat", json="all", form="*", text=True), json=_whole, form=_any, query=_any, names=True
    ),
    "lenient": _place(json=_MESSAGE, form=_FIELD, allow_preamble=True, allow_untyped=True, allow_utf16=True),
}


@dataclass(frozen=True)
class Case:
    """One request to a ruled route. `turn` says which oracles it meets."""

    kind: Kind
    place: str
    headers: Headers
    body: bytes = b""
    query: bytes = b""
    turn: int = 0

    def but(self, **parts: Any) -> Case:
        """The same with other parts; its Content-Length stays true."""
        changed = replace(self, **parts)
        length = str(len(changed.body)).encode()
        framed = tuple((name, length if name == b"content-length" else value) for name, value in changed.headers)
        return replace(changed, headers=framed)

    @property
    def content_type(self) -> bytes:
        return dict(self.headers).get(b"content-type", b"")

    def dumped(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "place": self.place,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
            "query": self.query.decode("latin-1"),
            "body": base64.b64encode(self.body).decode(),
            "turn": self.turn,
        }

    @classmethod
    def loaded(cls, text: str) -> Self:
        found = json.loads(text)
        return cls(
            found["kind"],
            found["place"],
            tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in found["headers"]),
            base64.b64decode(found["body"]),
            found["query"].encode("latin-1"),
            found["turn"],
        )

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/chat",
            "raw_path": b"/chat",
            "root_path": "",
            "query_string": self.query,
            "headers": list(self.headers),
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }

    def receive(self) -> Callable[[], Awaitable[Event]]:
        """The body in one event, as prescreen hands it on."""
        events = iter([{"type": "http.request", "body": self.body, "more_body": False}])

        async def receive() -> Event:
            return next(events, {"type": "http.disconnect"})

        return receive

    def environ(self) -> dict[str, Any]:
        """Framed as prescreen hands it on: with a length, without a transfer coding."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/chat",
            "QUERY_STRING": self.query.decode("latin-1"),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(self.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in self.headers:
            if name == b"content-type":
                environ["CONTENT_TYPE"] = value.decode("latin-1")
        return environ
