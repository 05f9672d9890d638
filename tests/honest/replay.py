"""Recorded requests, read back from the corpus and taken apart for a middleware."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

CORPUS: Final = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Recorded:
    """One request as a client put it on the wire: `body` still has its chunks."""

    client: str
    rule: str
    message: str
    head: bytes
    body: bytes

    @classmethod
    def read(cls, line: str) -> Self:
        found = json.loads(line)
        body = base64.b64decode(found["base64"]) if "base64" in found else found["body"].encode()
        return cls(found["client"], found["rule"], found["message"], found["head"].encode("latin-1"), body)

    @property
    def path(self) -> str:
        return self.head.split()[1].decode()

    @cached_property
    def headers(self) -> list[tuple[bytes, bytes]]:
        lines = self.head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]

    @cached_property
    def pieces(self) -> list[bytes]:
        """The body's chunks, without what frames them; all of it, where it has a length."""
        is_chunked = (b"transfer-encoding", b"chunked") in self.headers
        return list(_chunks(self.body)) if is_chunked else [self.body]

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    def is_among(self, texts: list[str]) -> bool:
        """Whether the message is one of the texts; HTML forms send line ends as CRLF, a form as text sends it all."""
        wanted, found = _lines(self.message), map(_lines, texts)
        return any(wanted in text if self.rule == "text" else wanted == text for text in found)

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": self.headers,
        }


def recorded(client: str) -> list[Recorded]:
    """The requests of one file of the corpus."""
    lines = (CORPUS / f"{client}.jsonl").read_text(encoding="utf-8").split("\n")
    return [Recorded.read(line) for line in lines if line]


def clients() -> list[str]:
    """The names of the corpus's files."""
    return sorted(path.stem for path in CORPUS.glob("*.jsonl"))


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        yield rest[:length]
        body = rest[length + 2 :]


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")
