"""What the honest requests are sent to: rules for every kind of body, a moderator that finds nothing, an app that tells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

from prescreen import Image, Rule, Screen, Text, Verdict
from prescreen.asgi import ModerationMiddleware as AsgiMiddleware
from prescreen.asgi import Receive, Scope, Send
from prescreen.wsgi import ModerationMiddleware as WsgiMiddleware

RULES: Final = (
    Rule("POST /json/{n}", json=["$.message"]),
    Rule("POST /form/{n}", form=["message"]),
    Rule("POST /text/{n}", text=True),
)


class Clean:
    """Finds nothing, and keeps the texts of the last request for the app to tell."""

    name = "clean"
    texts: Sequence[str] = ()

    async def moderate(self, items: Sequence[Text | Image]) -> list[Verdict]:
        return self.moderate_sync(items, 0)

    def moderate_sync(self, items: Sequence[Text | Image], timeout: float) -> list[Verdict]:
        self.texts = [item.value if isinstance(item, Text) else item.url for item in items]
        return [Verdict(flagged=False) for _ in items]

    def told(self, body: bytes) -> bytes:
        """What the app answers: which body it read, and which texts had been moderated before."""
        texts, self.texts = self.texts, ()
        return json.dumps({"sha256": sha256(body).hexdigest(), "texts": texts}).encode()


MODERATOR: Final = Clean()


async def _asgi(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    answer = MODERATOR.told(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    answer = MODERATOR.told(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


_SCREEN: Final = Screen(rules=RULES, moderator=MODERATOR)

asgi: Final = AsgiMiddleware(_asgi, _SCREEN)
wsgi: Final = WsgiMiddleware(_wsgi, _SCREEN)
