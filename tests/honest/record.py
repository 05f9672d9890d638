"""Record what real clients send, byte for byte, into `corpus/*.jsonl`. Not part of a test run.

    npm install --prefix <folder> axios form-data playwright-core
    cd tests && python -m honest.record <folder>/node_modules [client ...]

Needs curl, Node, Chromium (its path in CHROMIUM, by default /usr/bin/chromium) and the packages of the
dependency group `test`. A server on a loopback port takes each request down as it comes off the socket;
the port and the address are then replaced, so that a recording says nothing of the machine it was made on.

Two files hold a few requests each that the same server took down from clients in Ruby, Perl and Java, sent by
hand: others.jsonl, and refused.jsonl, what is refused although its sender means no harm.

One line is one request: `client`; `rule`, the kind of rule that is about it; `message`, the text that has
to be moderated; `head`; and `body` as text, or `base64` where it is not UTF-8. Chunks are left as they came.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Final

import aiohttp
import httpx
import requests

from honest.cases import Case, cases, document

HERE: Final = Path(__file__).parent
HOST: Final = "app.example"
PAGE: Final = b"<!doctype html><meta charset=utf-8><body><iframe name=sink></iframe>"
TEXT: Final = {"content-type": "text/plain; charset=utf-8"}
JSON: Final = {"content-type": "application/json"}


class Recorder(ThreadingTCPServer):
    """Answers every request and keeps what was POSTed."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[bytes, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(StreamRequestHandler):
    server: Recorder

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        if b"100-continue" in head.lower():
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = read_body(head, self.rfile)
        if head.startswith(b"POST"):
            self.server.seen.append((head + b"\r\n", body))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n")
        self.wfile.write(b"Content-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE))


def read_body(head: bytes, stream: io.BufferedIOBase) -> bytes:
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return b"".join(read_chunks(stream))
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return stream.read(int(length[1])) if length else b""


def read_chunks(stream: io.BufferedIOBase) -> Iterator[bytes]:
    size = 1
    while size:
        line = stream.readline()
        size = int(line, 16)
        yield line + stream.read(size + 2)


# The clients. Each sends one case to one URL as its documentation says to.


def fields_of(case: Case) -> list[tuple[str, str]]:
    return [("message", case.message), *case.others]


def files_of(case: Case) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [(each["name"], (each["filename"], base64.b64decode(each["base64"]), each["type"])) for each in case.files]


def chunks_of(case: Case) -> Iterator[bytes]:
    raw = (json.dumps(document(case)) if case.kind == "json" else case.message).encode()
    yield from (raw[start : start + 600] for start in range(0, len(raw), 600))


def with_httpx(case: Case, url: str) -> None:
    fields: dict[str, Any] = {}
    for name, value in fields_of(case):
        fields[name] = [*fields[name], value] if name in fields else [value]
    # httpx makes a multipart form only where there is a file; a field's value is a file without a name.
    plain = [(name, (None, value.encode())) for name, value in fields_of(case)]
    options: dict[str, dict[str, Any]] = {
        "json": {"json": document(case)},
        "form": {"data": fields},
        "text": {"content": case.message, "headers": TEXT},
        "multipart": {"files": plain},
        "upload": {"data": fields, "files": files_of(case)},
    }
    chunked = {"content": chunks_of(case), "headers": JSON if case.kind == "json" else TEXT}
    httpx.post(url, **(chunked if case.is_chunked else options[case.kind]))


def with_requests(case: Case, url: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "json": {"json": document(case)},
        "form": {"data": fields_of(case)},
        "text": {"data": case.message.encode(), "headers": TEXT},
        "multipart": {"files": [(name, (None, value)) for name, value in fields_of(case)]},
        "upload": {"data": fields_of(case), "files": files_of(case)},
    }
    chunked = {"data": chunks_of(case), "headers": JSON if case.kind == "json" else TEXT}
    requests.post(url, timeout=20, **(chunked if case.is_chunked else options[case.kind]))


def with_aiohttp(case: Case, url: str) -> None:
    asyncio.run(_with_aiohttp(case, url))


async def _with_aiohttp(case: Case, url: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in chunks_of(case):
            yield chunk

    options: dict[str, Any] = {"json": document(case)} if case.kind == "json" else {"data": case.message}
    if case.is_chunked:
        options = {"data": chunks(), "headers": JSON if case.kind == "json" else TEXT}
    elif case.kind == "form":
        options = {"data": fields_of(case)}
    elif case.kind in ("multipart", "upload"):
        # It cannot send a field whose name is not ASCII, unless it is told to leave names as they are.
        is_plain = all(name.isascii() for name, _ in fields_of(case))
        form = aiohttp.FormData(quote_fields=is_plain, default_to_multipart=True)
        for name, value in fields_of(case):
            form.add_field(name, value)
        for name, (filename, contents, kind) in files_of(case):
            form.add_field(name, contents, filename=filename, content_type=kind or None)
        options = {"data": form}
    async with aiohttp.ClientSession() as session, session.post(url, **options) as response:
        await response.read()


def with_curl(case: Case, url: str) -> None:
    with TemporaryDirectory() as folder:
        arguments = ["curl", "--silent", "--show-error", "--output", os.devnull, url]
        if case.is_chunked:
            arguments += ["--header", "Transfer-Encoding: chunked"]
        raw = json.dumps(document(case), ensure_ascii=bool(case.n % 2)) if case.kind == "json" else case.message
        if case.kind == "json" and case.n % 3:
            arguments += ["--json", "@-"]
        elif case.kind in ("json", "text"):
            kind = "application/json" if case.kind == "json" else "text/plain"
            arguments += ["--header", f"Content-Type: {kind}", "--data-binary", "@-"]
        else:
            arguments += curl_fields(case, Path(folder))
        subprocess.run(arguments, input=raw.encode(), check=True, timeout=20)


def curl_fields(case: Case, folder: Path) -> Iterator[str]:
    for name, value in fields_of(case):
        yield from ("--data-urlencode" if case.kind == "form" else "--form-string", f"{name}={value}")
    for index, (name, (filename, contents, kind)) in enumerate(files_of(case)):
        path = folder / str(index)
        path.write_bytes(contents)
        quoted = filename.replace("\\", "\\\\").replace('"', '\\"')
        yield from ("--form", f'{name}=@{path};filename="{quoted}"' + (f";type={kind}" if kind else ""))


PYTHON: Final[dict[str, Callable[[Case, str], None]]] = {
    "curl": with_curl,
    "httpx": with_httpx,
    "requests": with_requests,
    "aiohttp": with_aiohttp,
}
NODE: Final = (
    "node fetch",
    "node axios",
    "node form-data",
    "chromium form",
    "chromium fetch",
    "chromium XHR",
    "chromium beacon",
)


def record(client: str, modules: str) -> list[dict[str, Any]]:
    with Recorder() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        if client in PYTHON:
            for case in cases():
                PYTHON[client](case, server.url + case.path)
        else:
            subprocess.run(
                ["node", str(HERE / "clients.cjs"), client, server.url],
                input=json.dumps([case.as_json() for case in cases()]).encode(),
                env={**os.environ, "NODE_PATH": modules},
                check=True,
            )
        server.shutdown()
        return [line(client, head, body, server.url) for head, body in server.seen]


def line(client: str, head: bytes, body: bytes, url: str) -> dict[str, Any]:
    path = head.split()[1].decode()
    case = cases()[int(path.rpartition("/")[2])]
    told = head.decode("latin-1").replace(url.removeprefix("http://"), HOST)
    found = {"client": client, "rule": path.split("/")[1], "message": case.message, "head": told}
    try:
        return {**found, "body": body.decode()}
    except UnicodeDecodeError:
        return {**found, "base64": base64.b64encode(body).decode()}


def main(modules: str, *wanted: str) -> None:
    for client in wanted or (*PYTHON, *NODE):
        lines = record(client, modules)
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines)
        path = HERE / "corpus" / f"{client.replace(' ', '-')}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        sys.stdout.write(f"{client}: {len(lines)} requests, {len(text.encode()):,} bytes\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
