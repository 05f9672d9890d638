"""A language model on a loopback socket, as OpenAI's API serves one, that writes down who asked for what.

    with FakeModel() as model:
        ...  # use model.url; look at model.calls

`python tests/fake_model.py FILE` serves on its own, prints the base URL, and appends each call to FILE, one JSON a line.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

ANSWER: Final = "as you say"


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived; `json` is None for what is no JSON."""

    path: str
    json: Any
    body: bytes


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        is_json = self.headers.get("content-type", "").startswith("application/json")
        call = Call(self.path, json.loads(body) if is_json else None, body)
        self.server.noted(call)
        is_stream = bool(call.json and call.json.get("stream"))
        self._send(*(_streamed(call) if is_stream else (json.dumps(_answer(call)).encode(), "application/json")))

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the library
        """Keep still."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    noted: Callable[[Call], None]


def _answer(call: Call) -> dict[str, Any]:
    if call.path.endswith("/responses"):
        content = [{"type": "output_text", "text": ANSWER, "annotations": []}]
        message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content}
        return {"id": "r", "object": "response", "created_at": 0, "model": "m", "output": [message]}
    if "/images/" in call.path:
        return {"created": 0, "data": [{"b64_json": ""}]}
    if call.path.endswith("/embeddings"):
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            "model": "m",
            "usage": {"prompt_tokens": 0, "total_tokens": 0},
        }
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def _streamed(call: Call) -> tuple[bytes, str]:
    if call.path.endswith("/responses"):
        response = _answer(call)
        item, part = {**response["output"][0], "content": []}, {**response["output"][0]["content"][0], "text": ""}
        at = {"item_id": "m", "output_index": 0, "content_index": 0}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": {**response, "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.content_part.added", **at, "part": part},
            {"type": "response.output_text.delta", "delta": ANSWER, **at},
            {"type": "response.completed", "response": response},
        ]
        told = [f"event: {each['type']}\ndata: {json.dumps({**each, 'sequence_number': 0})}\n\n" for each in events]
        return "".join(told).encode(), "text/event-stream"
    choice = {"index": 0, "delta": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream"


class FakeModel:
    """The service; running between `__enter__` and `__exit__`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._server = _Server(("127.0.0.1", 0), _Exchange)
        self._server.noted = self.calls.append
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """The base URL, as a client of OpenAI wants it."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def identifiers(self) -> list[str | None]:
        """The `safety_identifier` of each call so far."""
        return [call.json.get("safety_identifier") for call in self.calls]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def main(file: Path) -> None:
    """Serve until killed."""
    server = _Server(("127.0.0.1", 0), _Exchange)
    lock = threading.Lock()

    def noted(call: Call) -> None:
        with lock, file.open("a") as lines:
            lines.write(json.dumps({"path": call.path, "json": call.json}) + "\n")

    server.noted = noted
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)  # noqa: T201  # how the caller learns of it
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
