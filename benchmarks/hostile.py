"""What the nastiest bodies cost: CPU and memory to decide on each, the moderator left out.

    make hostile     prints the table, and writes it to benchmarks/HOSTILE.md

Every body is as large as the default limits allow (1 MiB), or as its kind can be before another limit refuses it.
CPU is the best of five runs on this machine; memory is the peak that tracemalloc sees, as a multiple of the body.
"""

from __future__ import annotations

import gzip
import json
import platform
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from prescreen.errors import RequestError
from prescreen.flow import Flow
from prescreen.model import Decision, Head, Moderate, ReadBody, Verdict, Work
from prescreen.rule import Rule
from prescreen.screen import Screen

MIB: Final = 1 << 20
FORM: Final = "application/x-www-form-urlencoded"
PARTS: Final = "multipart/form-data; boundary=BND"

CHAT: Final = Rule("POST /chat", json=["$.messages[*].content"])
ALL: Final = Rule("POST /chat", json="all", form="*")
TEXT: Final = Rule("POST /chat", text=True)
ANY: Final = Rule("POST /chat", json=["$..content"])
DEEP: Final = Rule("POST /chat", json=["$..a..b..content"])
FILTER: Final = Rule("POST /chat", json=["$.messages[?@.role == 'user'].content"])
BOTH: Final = Rule("POST /chat", json=["$.message"], form=["message"])
GZIP: Final = Rule("POST /chat", json=["$.message"], decode_content=True)


def filled(unit: bytes, before: bytes = b"", after: bytes = b"", size: int = MIB) -> bytes:
    """As many units as fit."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def listed(unit: bytes, count: int) -> bytes:
    return b"[" + b",".join([unit] * count) + b"]"


def upload(size: int) -> bytes:
    head = b'--BND\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    return head + bytes(range(256)) * (size // 256) + b"\r\n--BND--\r\n"


CASES: Final[list[tuple[str, Rule, str, bytes]]] = [
    ("one string of 1 MiB, at no place", CHAT, "application/json", filled(b"a", b'{"x":"', b'"}')),
    ("one string of 1 MiB, read as everything", ALL, "application/json", filled(b"a", b'{"x":"', b'"}')),
    ("350,000 empty objects (refused: nodes)", CHAT, "application/json", filled(b"{},", b"[", b"{}]")),
    ("24,000 empty objects", CHAT, "application/json", listed(b"{}", 24_000)),
    ("24,000 empty objects, read as everything", ALL, "application/json", listed(b"{}", 24_000)),
    ("24,500 lists of one, under $..content", ANY, "application/json", listed(b"[0]", 24_500)),
    (
        "objects 60 deep, over and over, under $..a..b",
        DEEP,
        "application/json",
        listed(b'{"a":{"b":' * 30 + b"1" + b"}}" * 30, 800),
    ),
    ("16,000 objects of two members", ALL, "application/json", listed(b'{"a":1,"b":2}', 16_000)),
    (
        "one object of 49,000 names",
        CHAT,
        "application/json",
        json.dumps(dict.fromkeys(map(str, range(49_000)), 0)).encode(),
    ),
    ("350,000 empty strings (refused: nodes)", CHAT, "application/json", filled(b'"",', b"[", b'""]')),
    ("strings of brackets and commas", CHAT, "application/json", filled(b'",[{",', b"[", b'""]')),
    ("escapes only", ALL, "application/json", filled(b"\\\\", b'["', b'"]')),
    ("49,000 tiny floats", CHAT, "application/json", listed(b"1e-400", 49_000)),
    ("whole numbers of 4,300 digits each", CHAT, "application/json", listed(b"7" * 4_300, 240)),
    ("half a million brackets (refused: depth)", CHAT, "application/json", filled(b"[")),
    (
        "2,000 messages through a filter",
        FILTER,
        "application/json",
        b'{"messages":' + listed(b'{"role":"x","content":"y"}', 2_000) + b"}",
    ),
    ("a million stray percent signs", ALL, FORM, filled(b"%", b"a=")),
    ("coded and plain letters in turns", ALL, FORM, filled(b"%41a", b"a=")),
    ("100,000 coded characters", ALL, FORM, b"a=" + b"%F0%9F%98%80" * 80_000),
    ("the same field 300,000 times (refused: fields)", ALL, FORM, filled(b"a&")),
    ("a form inside JSON, 80,000 times", BOTH, "application/json", filled(b"&message=a", b'{"x":"', b'"}')),
    (
        "100 parts of 10 kB",
        BOTH,
        PARTS,
        b"".join(
            b'--BND\r\nContent-Disposition: form-data; name="x%d"\r\n\r\n%s\r\n' % (i, b"v" * 10_000)
            for i in range(100)
        )
        + b"--BND--\r\n",
    ),
    ("boundaries in the middle of lines (refused)", BOTH, PARTS, filled(b"--BND", b"--BND\r\n")),
    ("100,000 characters that fold", TEXT, "text/plain", ("a\u0430 " * 33_000).encode()),
    ("100,000 accents on one letter", TEXT, "text/plain", ("a" + "\u0301\u0327" * 49_000).encode()),
    ("a gzip bomb (refused: size)", GZIP, "application/json", gzip.compress(b" " * (64 * MIB), 9)),
    ("a plain upload of 1 MiB", BOTH, PARTS, upload(MIB - 512)),
]


def decide(screen: Screen, rule: Rule, head: Head, body: bytes) -> Decision:
    """What the middleware does between the last byte and the moderator, and after it."""
    flow: Flow[Decision] = screen.request_flow((rule,), head)
    answer: Any = None
    act: Callable[[Any], Any] = flow.send
    try:
        while True:
            step, act = act(answer), flow.send
            if isinstance(step, Work):
                try:
                    answer = step.run()
                except RequestError as error:
                    act, answer = flow.throw, error
            elif isinstance(step, Moderate):
                answer = [Verdict(flagged=False)] * len(step.items)
            else:
                answer = body if isinstance(step, ReadBody) else None
    except StopIteration as end:
        decision: Decision = end.value
        return decision


def measure(rule: Rule, kind: str, body: bytes) -> tuple[Decision, float, float]:
    """The decision, its CPU seconds and its peak memory as a multiple of the body."""
    screen = Screen(rules=[rule], moderator=lambda items: [Verdict(flagged=False)] * len(items))
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    if rule is GZIP:
        headers.append((b"content-encoding", b"gzip"))
    head = Head("POST", "/chat", headers=tuple(headers))
    decision = decide(screen, rule, head, body)
    times = []
    for _ in range(5):
        started = time.process_time()
        decide(screen, rule, head, body)
        times.append(time.process_time() - started)
    tracemalloc.start()
    decide(screen, rule, head, body)
    peak = tracemalloc.get_traced_memory()[1] + len(body)  # the body itself is there before
    tracemalloc.stop()
    return decision, min(times), peak / len(body)


def main() -> None:
    lines = [
        "# What the nastiest bodies cost",
        "",
        f"`make hostile`, Python {platform.python_version()}. Targets: 50 ms of CPU per MiB of limit, memory 30 x body; 1.2 x body + 1 MiB for the upload.",
        "",
        "| body | KiB | decision | CPU, ms | memory, x body |",
        "|---|---:|---|---:|---:|",
    ]
    for name, rule, kind, body in CASES:
        decision, seconds, peak = measure(rule, kind, body)
        lines.append(f"| {name} | {len(body) // 1024} | {decision.cause} | {seconds * 1000:.1f} | {peak:.1f} |")
        print(lines[-1])
    Path(__file__).with_name("HOSTILE.md").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
