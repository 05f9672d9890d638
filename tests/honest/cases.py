"""What the recorded clients are given to send: the texts people write, in the bodies that clients make of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

MESSAGES: Final = (
    "hello",
    "A longer remark: it has commas, (brackets), an em dash — and an ellipsis…",
    "cats 🐈‍⬛ and families 👨‍👩‍👧‍👦, flags 🇮🇷🇩🇪 and skins 👍🏽",
    "سلام، می‌خواهم یک نام خوب برای گربه‌ام پیدا کنم؛ پیشنهادی دارید؟",
    "مرحبا بكم! هل يمكنكم مساعدتي في كتابة رسالة؟ ١٢٣",
    "שלום, זהו טקסט ‏RTL‏ עם English באמצע",
    "多谢。日本語と한국어も。",
    "first line\nsecond line\n\n\tan indented one\nlast line\n",
    "\"double\" and 'single' quotes, a back\\slash, a C:\\path\\name and a {brace}",
    "a=1&b=2; 100% + 5% = 105%? %41 %zz #tag ?q=1 a+b",
    '<p class="x">Some <b>markup</b> &amp; entities</p>',
    'print("{\\"message\\": \\"inner\\"}")  # looks like JSON',
    '{"message": "a text that is itself JSON", "n": [1, 2]}',
    "--boundary\n--\nContent-Disposition: form-data; name=inner\n\nlooks like a form",
    " spaces around, and a\u00a0hard one ",
    "e\u0301 combined, ﬁ ligature, Ⅳ, ½, 𝔣𝔯𝔞𝔨𝔱𝔲𝔯, zero\u200bwidth, \ufeffmark, \u202dbidi\u202c",
    "7",
    "A paragraph that a person might paste, with no end to speak of. " * 40,
)
NAMES: Final = ("title", "tag", "user[name]", "a b", "نام", "näme", "x.y-z", "items[0][id]")
"""Fields beside the message."""

_BINARY: Final = bytes(range(256)) + b"\r\n--\r\n\r\n--" + bytes(range(255, -1, -1))
FILES: Final = (
    ("notes.txt", "text/plain", b"some notes\r\nin two lines\r\n"),
    ("photo 1 (final).png", "image/png", b"\x89PNG\r\n\x1a\n" + _BINARY),
    ("گزارش نهایی.pdf", "application/pdf", b"%PDF-1.7\n" + _BINARY),
    ("Ünïcödé – naïve 🐈.jpg", "image/jpeg", b"\xff\xd8\xff\xe0" + _BINARY),
    ("she said 'hi'; 100%, a=b & c.csv", "text/csv", b'a;b\n1;"2"\n'),
    ('the "quoted" name.txt', "text/plain", "ünïcode\n".encode()),
    ("empty.bin", "application/octet-stream", b""),
    ("data.json", "application/json", b'{"message": "in a file"}'),
    ("no-extension", "application/octet-stream", _BINARY * 4),
    ("報告書.tar.gz", "application/gzip", b"\x1f\x8b\x08" + _BINARY),
    ("x" * 180 + ".txt", "text/plain", b"a long name"),
    ("latin1.txt", "text/plain", "\u00e9t\u00e9 in latin-1".encode("latin-1")),
)
"""Name, type and contents of the files that are sent along."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to send. `kind` says how: json, form (URL-encoded), multipart, upload, text."""

    n: int
    kind: str
    message: str
    others: list[tuple[str, str]] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)
    is_chunked: bool = False

    @property
    def path(self) -> str:
        """Where it goes; the first segment says which rule is about it."""
        return f"/{self.kind if self.kind in ('json', 'text') else 'form'}/{self.n}"

    def as_json(self) -> dict[str, Any]:
        """For the clients that are not Python."""
        return {**asdict(self), "path": self.path, "document": document(self)}


def cases() -> list[Case]:
    """All of them, numbered."""
    found = [
        *(Case(0, kind, text, _others(index)) for kind in ("json", "form") for index, text in enumerate(MESSAGES)),
        *(Case(0, "multipart", text, _others(index)) for index, text in enumerate(MESSAGES)),
        *(Case(0, "text", text) for text in MESSAGES),
        *(Case(0, kind, MESSAGES[index], is_chunked=True) for kind in ("json", "text") for index in (0, 3, 7, 17)),
        *_uploads(),
    ]
    return [Case(n, case.kind, case.message, case.others, case.files, case.is_chunked) for n, case in enumerate(found)]


def document(case: Case) -> dict[str, Any]:
    """The JSON of a case: the message among values of every type."""
    return {
        "id": case.n,
        "message": case.message,
        "options": {"temperature": 0.7, "stream": bool(case.n % 2), "stop": None, "seed": -(10**case.n % 10**15)},
        "meta": dict(case.others),
        "history": [{"role": "user", "content": value} for _, value in case.others],
    }


def _others(index: int) -> list[tuple[str, str]]:
    name = NAMES[index % len(NAMES)]
    return [(name, f"{name} of {index}"), ("tag", "one"), ("tag", "two"), ("blank", "")][: index % 5]


def _uploads() -> Iterator[Case]:
    for index, file in enumerate(FILES):
        yield Case(0, "upload", MESSAGES[index], _others(index), [_file("file", *file)])
    several = [_file("files", *file) for file in FILES[:4]]
    yield Case(0, "upload", "several files of one name", [], several)
    yield Case(0, "upload", "several of several names", [], [*several[:1], _file("avatar", *FILES[3])])
    yield Case(0, "upload", "no file was chosen", [], [_file("file", "", "application/octet-stream", b"")])


def _file(name: str, filename: str, kind: str, contents: bytes) -> dict[str, str]:
    return {"name": name, "filename": filename, "type": kind, "base64": base64.b64encode(contents).decode()}
