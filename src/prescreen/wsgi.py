"""WSGI (PEP 3333): the middleware for Flask, Django and any other WSGI app.

No event loop and no thread of its own. Where no rule matches, the app gets the very same environ;
where one does, it gets exactly the bytes that were screened, framed so that every framework reads
them alike: a length, no transfer coding, an input that ends.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from prescreen.current import SCREENED_KEY, Passage, followed, is_left_over, mark, passing, told, unscreened
from prescreen.drive import drive_sync
from prescreen.errors import ConfigError, Incomplete, LengthRequired, Oversize, Unreadable
from prescreen.mark import Screened, is_screened
from prescreen.match import announces_body, choose
from prescreen.model import Decision, Head, Mode
from prescreen.routes import announce
from prescreen.screen import Screen, ScreenOptions, screen_from
from prescreen.steps import Answer, ReadBody, Step

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Environ = dict[str, Any]

_DRAIN_BYTES: Final = 4 << 20
_CHUNK: Final = 64 << 10
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


class ModerationMiddleware:
    """Screens each request that a rule is about before `app` is called.

    Takes a Screen, or what a Screen is made of: `config` (a TOML file) and the keyword arguments of
    `Screen`. Raises ConfigError.
    """

    def __init__(
        self,
        app: WSGIApplication,
        screen: Screen | None = None,
        *,
        config: str | Path | None = None,
        **options: Unpack[ScreenOptions],
    ) -> None:
        self.app: Final = app
        self.screen: Final = screen_from(screen, config, options)
        for index, rule in enumerate(self.screen.settings.rules):
            if rule.timing == "overlap":
                raise ConfigError(f"rules[{index}].timing", "'overlap' needs ASGI; on WSGI, write 'before'")
        self._is_off: Final = self.screen.settings.mode is Mode.OFF
        self._is_announced = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if not self._is_announced:
            self._is_announced = True  # two threads may both come here first: then it is logged twice
            announce(self.screen.rules, self.app)
        if is_left_over(environ):
            with passing(None):
                return self(environ, start_response)
        root = _text(environ.get("SCRIPT_NAME", ""))
        path = root + _text(environ.get("PATH_INFO", ""))
        rules = self.screen.rules.on_path(path, root)
        if not rules:
            return self._call(unscreened() if self._is_off else None, environ, start_response)
        head = _head(environ, root, path)
        rules = choose(rules, head)
        if not rules or is_screened(environ.get(SCREENED_KEY), self.screen, rules, head, environ.get("wsgi.input")):
            return self.app(environ, start_response)
        incoming = _Incoming(environ, head)
        decision = drive_sync(self.screen.request_flow(rules, head), partial(self._perform, incoming))
        if decision.is_rejected:
            return self._reject(decision, head, incoming, start_response)
        is_reframed = incoming.hand_on(environ)
        passage = Passage(decision.subject, decision)
        mark(environ, passage)
        # What a second middleware will find: the head as it is now, with its framing made plain.
        head = _head(environ, root, path) if is_reframed else head
        environ[SCREENED_KEY] = Screened(self.screen, rules, told(head), environ.get("wsgi.input"))
        return self._call(passage, environ, start_response)

    def _call(self, passage: Passage | None, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Call the app, and what makes its response, as part of a request."""
        if passage is None:
            return self.app(environ, start_response)
        with passing(passage):
            response = self.app(environ, start_response)
        return followed(response, passage, is_made=_is_made(response, environ))

    def _perform(self, incoming: _Incoming, step: Step) -> Answer:
        return incoming.read(step) if isinstance(step, ReadBody) else self.screen.perform_sync(step)

    def _reject(
        self, decision: Decision, head: Head, incoming: _Incoming, start_response: StartResponse
    ) -> Iterable[bytes]:
        rejection = self.screen.rejection(decision, b",".join(head.all(b"accept")).decode("latin-1"))
        # A client that waits for "100 Continue" has sent nothing yet, and reading would wait for it.
        if not head.all(b"expect"):
            incoming.drain()
        start_response(
            f"{rejection.status} {_PHRASES.get(rejection.status, 'Rejected')}", list(rejection.headers.items())
        )
        return [b"" if head.method == "HEAD" else rejection.body]


class _Incoming:
    """A request's body: where it ends, what of it has been read, and what the app gets to read."""

    def __init__(self, environ: Environ, head: Head) -> None:
        self._stream: Any = environ.get("wsgi.input")
        self._declared = head.declared_length
        self._is_chunked = bool(head.all(b"transfer-encoding"))
        self._body = io.BytesIO()  # gives its bytes away without another copy
        self._size = 0
        self._start = self._tell()
        # HTTP/2 needs no length; what can be rewound does not wait for a client.
        has_end = self._start is not None and self._declared is None and not _is_http_1(environ)
        self._is_terminated = bool(environ.get("wsgi.input_terminated")) or has_end
        self._is_complete = False

    def read(self, step: ReadBody) -> bytes:
        """The whole body. Raises Oversize, Incomplete, LengthRequired, Unreadable."""
        end = self._end()
        try:
            for chunk in self._rest(step.limit + 1 if end is None else end):
                self._size += self._body.write(chunk)
        except OSError as error:
            raise Incomplete("the connection broke off before the end of the body") from error
        if self._size > step.limit:
            raise Oversize(f"the body is over the limit of {step.limit} bytes")
        if self._declared not in (None, self._size):
            raise Incomplete(f"the body is {self._size} bytes long, not {self._declared} as declared")
        self._is_complete = True
        return self._body.getvalue()

    def drain(self) -> None:
        """Take in the rest, within bounds, so that the client gets to read our answer."""
        if self._is_complete or (self._is_chunked and not self._is_terminated):
            return
        end = self._size + _DRAIN_BYTES
        if not self._is_terminated:
            end = min(end, self._declared or 0)
        try:
            for chunk in self._rest(end):
                self._size += len(chunk)
        except OSError:
            pass  # the client is gone; the answer will find that out too

    def hand_on(self, environ: Environ) -> bool:
        """Give the app what was screened; where nothing or only a part was read, what is there. Whether the head is another now."""
        if not self._is_complete:
            if self._size:
                environ["wsgi.input"] = io.BufferedReader(_Chain(self._body.getvalue(), self._stream))
            return False
        if self._start is not None and not self._stream.read(1):
            self._stream.seek(self._start)  # ends where the screened bytes end: as good as ours
        else:
            environ["wsgi.input"] = io.BytesIO(self._body.getvalue())
        framing = (environ.get("CONTENT_LENGTH"), environ.pop("HTTP_TRANSFER_ENCODING", None))
        if self._size:
            environ["CONTENT_LENGTH"] = str(self._size)
        return framing != (environ.get("CONTENT_LENGTH"), None)

    def _end(self) -> int | None:
        """Where to stop: a count of bytes, or None for the end of the stream (PEP 3333, `wsgi.input`)."""
        if self._is_terminated:
            return None
        if self._is_chunked and self._declared is not None:
            raise Unreadable("the request has both a Content-Length and a Transfer-Encoding")
        if self._is_chunked:
            raise LengthRequired("the server passes chunked bodies on without their length")
        return self._declared or 0

    def _rest(self, end: int) -> Iterator[bytes]:
        """Read on up to `end` bytes from the start; never past it, where some servers block."""
        at = self._size
        while self._stream is not None and at < end and (chunk := self._stream.read(min(_CHUNK, end - at))):
            at += len(chunk)
            yield chunk

    def _tell(self) -> int | None:
        """Where the input stands, if it can be rewound: a test client re-reads its own."""
        try:
            return int(self._stream.tell()) if self._stream.seekable() else None
        except (AttributeError, OSError, ValueError):
            return None


class _Chain(io.RawIOBase):
    """Bytes already read, followed by the stream that they came from."""

    def __init__(self, read: bytes, stream: Any) -> None:
        self._read = io.BytesIO(read)
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._read.read(len(buffer)) or self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _is_made(response: object, environ: Environ) -> bool:
    """Whether nothing of the app's runs any more when the server goes through its response: a list, or a file."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(response, list | tuple) or (isinstance(wrapper, type) and isinstance(response, wrapper))


def _head(environ: Environ, root: str, path: str) -> Head:
    headers = tuple(_headers(environ))
    method = environ.get("REQUEST_METHOD", "GET")
    is_websocket = method == "GET" and "websocket" in str(environ.get("HTTP_UPGRADE", "")).lower()
    return Head(
        method=method,
        path=path,
        root_path=root,
        query=_bytes(environ.get("QUERY_STRING", "")),
        headers=headers,
        has_body=announces_body(headers) or not _is_http_1(environ),
        has_coded_slash="%2f" in str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "").lower(),
        is_websocket=is_websocket,
        client=environ.get("REMOTE_ADDR") or None,
        state=environ,
    )


def _headers(environ: Environ) -> Iterator[tuple[bytes, bytes]]:
    """The request's headers; an empty length or type is none, as wsgiref leaves them (PEP 3333)."""
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            yield _bytes(key[5:].replace("_", "-").lower()), _bytes(value)
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value != "":
            yield key.replace("_", "-").lower().encode(), _bytes(value)


def _is_http_1(environ: Environ) -> bool:
    return str(environ.get("SERVER_PROTOCOL", "HTTP/1.1")).startswith("HTTP/1")


def _text(native: str) -> str:
    """A path as UTF-8, from the latin-1 of PEP 3333; bytes that are not UTF-8 become U+FFFD."""
    return native if native.isascii() else _bytes(native).decode("utf-8", "replace")


def _bytes(native: object) -> bytes:
    """The bytes behind a string of the environ, by PEP 3333 latin-1; a few test clients put text there as it is."""
    try:
        return str(native).encode("latin-1")
    except UnicodeEncodeError:
        return str(native).encode("utf-8", "replace")
