"""Both examples as real servers, a few real requests to each, and what became of them.

Ends by itself; exit status 0 only if every answer was as expected.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryFile
from typing import TextIO
from urllib.parse import urlencode

HERE = Path(__file__).parent
USES_OPENAI = bool(os.environ.get("OPENAI_API_KEY"))
HARMLESS = "What is a good name for a cat?"
FLAGGED = "I will kill you." if USES_OPENAI else "prescreen test phrase seven violet lanterns"

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}


@dataclass(frozen=True)
class Request:
    """One request, and what should become of it."""

    title: str
    method: str
    path: str
    status: int
    runs: bool
    body: str = ""
    headers: dict[str, str] | None = None
    user: str | None = None


def chat(*contents: object) -> str:
    return json.dumps({"messages": [{"role": "user", "content": content} for content in contents]})


FASTAPI = [
    Request("a harmless chat", "POST", "/chat", 200, runs=True, body=chat(HARMLESS), headers=JSON),
    Request("a flagged message", "POST", "/chat", 400, runs=False, body=chat(FLAGGED), headers=JSON),
    Request(
        "a flagged part of an earlier message",
        "POST", "/chat", 400, runs=False, body=chat([{"type": "text", "text": FLAGGED}], HARMLESS), headers=JSON,
    ),
    Request("a user's first flagged message", "POST", "/chat", 400, runs=False, body=chat(FLAGGED), headers=JSON, user="mallory"),
    Request("the second: a warning", "POST", "/chat", 400, runs=False, body=chat(FLAGGED), headers=JSON, user="mallory"),
    Request("the third: suspended", "POST", "/chat", 400, runs=False, body=chat(FLAGGED), headers=JSON, user="mallory"),
    Request("anything from that user", "POST", "/chat", 403, runs=False, body=chat(HARMLESS), headers=JSON, user="mallory"),
    Request("and from another one", "POST", "/chat", 200, runs=True, body=chat(HARMLESS), headers=JSON, user="alice"),
    Request("a broken body", "POST", "/chat", 400, runs=False, body=chat(HARMLESS)[:-4], headers=JSON),
    Request("a route without a rule", "GET", "/", 200, runs=True),
]  # fmt: skip
FLASK = [
    Request("a harmless comment, as JSON", "POST", "/comments", 200, runs=True, body=json.dumps({"body": HARMLESS}), headers=JSON),
    Request("a flagged comment, as JSON", "POST", "/comments", 422, runs=False, body=json.dumps({"body": FLAGGED}), headers=JSON),
    Request("a flagged comment, from a browser's form", "POST", "/comments", 422, runs=False, body=urlencode({"body": FLAGGED}), headers=FORM),
    Request("a body of another kind", "POST", "/comments", 415, runs=False, body="<body/>", headers={"content-type": "text/xml"}),
    Request("a route without a rule", "GET", "/", 200, runs=True),
]  # fmt: skip


def main() -> int:
    name = "OpenAI's (OPENAI_API_KEY is set)" if USES_OPENAI else "the offline keyword list (OPENAI_API_KEY is not set)"
    print(f"The moderator at work is {name}.")
    with ExitStack() as stack:
        fastapi = stack.enter_context(
            serve("uvicorn", "--app-dir", str(HERE / "fastapi_app"), "--port", "{port}", "app:app")
        )
        flask = stack.enter_context(
            serve("gunicorn", "--chdir", str(HERE / "flask_app"), "--threads", "4", "--bind", "127.0.0.1:{port}", "app:app")
        )  # fmt: skip
        results = [show("FastAPI on uvicorn", fastapi, FASTAPI), show("Flask on gunicorn", flask, FLASK)]
    failed = sum(results)
    total = len(FASTAPI) + len(FLASK)
    print(f"\n{total - failed} of {total} answers were as expected.")
    return 1 if failed else 0


def show(title: str, port: int, requests: list[Request]) -> int:
    """Send the requests, print what came back; the number that did not come out as expected."""
    print(f"\n{bold(title)}, http://127.0.0.1:{port}")
    failed = 0
    for request in requests:
        before = handled(port)
        status, kind, answer = send(port, request)
        ran = handled(port) > before
        is_expected = status == request.status and ran == request.runs
        failed += not is_expected
        print(f"\n  {bold(request.title)}")
        whose = f" (x-user-id: {request.user})" if request.user else ""
        print(f"    {request.method} {request.path} {request.body[:90]}{whose}")
        print(f"    {status} {kind}; the handler {'ran' if ran else 'did not run'}")
        for line in explain(kind, answer):
            print(f"      {line}")
        if not is_expected:
            print(f"    EXPECTED {request.status}, and the handler {'to run' if request.runs else 'not to run'}")
    return failed


def explain(kind: str, answer: str) -> Iterator[str]:
    """The part of an answer that a person wants to see."""
    if kind.startswith("application/problem+json"):
        problem = json.loads(answer)
        yield f"{problem['title']}. {problem['detail']}"
        for each in problem.get("categories", []):
            yield f"- {each['category']} at {each['pointer']}"
    elif kind.startswith("text/html"):
        yield from (re.sub("<[^>]*>", "", line) for line in answer.splitlines() if line.startswith(("<h1>", "<p>")))
    else:
        yield answer.strip()[:100]


def handled(port: int) -> int:
    """How often the app's handler has run."""
    _, _, answer = send(port, Request("", "GET", "/stats", 200, runs=False))
    return int(json.loads(answer)["handled"])


def send(port: int, request: Request) -> tuple[int, str, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        named = {"x-user-id": request.user} if request.user else {}
        connection.request(
            request.method, request.path, request.body.encode() or None, {**(request.headers or {}), **named}
        )
        response = connection.getresponse()
        return response.status, response.headers.get("content-type", ""), response.read().decode()
    finally:
        connection.close()


@contextmanager
def serve(module: str, *arguments: str) -> Iterator[int]:
    """A server process on a free port, for as long as the block runs; its log goes to a file."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", module, *(argument.format(port=port) for argument in arguments)]
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(process, port, log)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_for(process: subprocess.Popen[bytes], port: int, log: TextIO) -> None:
    for _ in range(300):
        if process.poll() is not None:
            log.seek(0)
            sys.exit(f"the server did not start:\n{log.read()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit("the server did not answer within 30 seconds")


def bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    sys.exit(main())
