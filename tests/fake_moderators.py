"""Moderation services with other wire formats than OpenAI's, as their vendors document them.

Each flags a text with TOLD in it, by its own name for violence.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final

from fake_service import Exchange, FakeService, Step, reply

TOLD: Final = "flag violence"
LISTED: Final = "listed lantern"
"""What is on every blocklist."""

Document = dict[str, Any]


class _FakeJSON(FakeService):
    """One that answers with one JSON document."""

    def document(self, request: Any) -> Document:
        """The proper answer."""
        raise NotImplementedError

    def body(self, exchange: Exchange) -> bytes:
        return json.dumps(self.document(exchange.request_json)).encode()


def changed(change: Callable[[Document], object]) -> Step:
    """The proper answer, changed in place."""

    def step(exchange: Exchange) -> None:
        document = json.loads(exchange.proper())
        change(document)
        exchange.send(json.dumps(document).encode())

    return step


# Azure AI Content Safety: analyze text, analyze image (api-version 2024-09-01).


class FakeAzure(_FakeJSON):
    prefix = ""
    paths = ("/contentsafety/text:analyze", "/contentsafety/image:analyze")

    def __init__(self) -> None:
        super().__init__(AZURE_STEPS)

    def document(self, request: Any) -> Document:
        text = request["text"] if "text" in request else b64decode(request["image"]["content"]).decode()
        severities = {"Hate": 0, "SelfHarm": 0, "Sexual": 0, "Violence": 6 * (TOLD in text)}
        severities |= {name: int(severity) for name, severity in re.findall(r"severity (\w+) (\d)", text)}
        matches = [{"blocklistName": name} for name in request.get("blocklistNames", ()) if LISTED in text]
        if matches and request["haltOnBlocklistHit"]:
            severities = {}
        analysis = [{"category": name, "severity": severity} for name, severity in severities.items()]
        return {"blocklistsMatch": matches, "categoriesAnalysis": analysis}


def _first(document: Document) -> Document:
    found: Document = document["categoriesAnalysis"][0]
    return found


AZURE_STEPS: Final[Mapping[str, Step]] = {
    "no categories": changed(lambda document: document.pop("categoriesAnalysis")),
    "empty categories": changed(lambda document: document.update(categoriesAnalysis=[])),
    "one category missing": changed(lambda document: document["categoriesAnalysis"].pop()),
    "a category twice": changed(lambda document: document["categoriesAnalysis"].append(_first(document))),
    "no severity": changed(lambda document: _first(document).pop("severity")),
    "null severity": changed(lambda document: _first(document).update(severity=None)),
    "severity as text": changed(lambda document: _first(document).update(severity="0")),
    "severity too high": changed(lambda document: _first(document).update(severity=8)),
    "severity too low": changed(lambda document: _first(document).update(severity=-1)),
    "matches as text": changed(lambda document: document.update(blocklistsMatch="")),
}


# Mistral: moderations. Its answers have no `flagged`.


class FakeMistral(_FakeJSON):
    paths = ("/v1/moderations",)

    def __init__(self) -> None:
        super().__init__(MISTRAL_STEPS)

    def document(self, request: Any) -> Document:
        return {"id": "1", "model": request["model"], "results": [_result(text) for text in request["input"]]}


def _result(text: str) -> Document:
    hits = {"sexual": False, "violence_and_threats": TOLD in text, "selfharm": False}
    return {"categories": hits, "category_scores": {name: 0.9 if hit else 0.01 for name, hit in hits.items()}}


MISTRAL_STEPS: Final[Mapping[str, Step]] = {
    "too few": changed(lambda document: document["results"].pop()),
    "too many": changed(lambda document: document["results"].append(_result(""))),
    "no categories": changed(lambda document: document["results"][0].pop("categories")),
    "empty categories": changed(lambda document: document["results"][0].update(categories={})),
    "null category": changed(lambda document: document["results"][0]["categories"].update(sexual=None)),
    "categories as numbers": changed(lambda document: document["results"][0]["categories"].update(sexual=0)),
}


# Chat completions: models that judge.


class FakeChat(_FakeJSON):
    """An honest judge of any of three kinds; it tells by the messages which."""

    paths = ("/v1/chat/completions",)

    def __init__(self, judge: Callable[[list[Document]], str]) -> None:
        super().__init__(CHAT_STEPS)
        self._judge = judge

    def document(self, request: Any) -> Document:
        return completion(self._judge(request["messages"]), request["model"])


def completion(content: Any, model: str = "judge", **choice: Any) -> Document:
    message = {"role": "assistant", "content": content}
    return {"id": "1", "model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"} | choice]}


def says(content: Any) -> Step:
    """A judge that says this."""
    return reply(completion(content))


def policy_judge(messages: list[Document]) -> str:
    task, data = messages
    nonce = nonce_of(messages)
    marker = data["content"].partition("\n")[0]
    assert marker in task["content"]
    assert data["content"].endswith(f"\n{marker}")
    return f"{nonce} VIOLATION: violence" if TOLD in data["content"] else f"{nonce} SAFE"


def nonce_of(messages: list[Document]) -> str:
    """The word that a verdict has to begin with."""
    (found,) = re.findall(r"^(\w{16}) SAFE$", messages[0]["content"], re.MULTILINE)
    return str(found)


def llama_guard(messages: list[Document]) -> str:
    (message,) = messages
    return "\n\nunsafe\nS1" if TOLD in message["content"] else "\n\nsafe"


def qwen3guard(messages: list[Document]) -> str:
    (message,) = messages
    is_bad = TOLD in message["content"]
    return "Safety: Unsafe\nCategories: Violent" if is_bad else "Safety: Safe\nCategories: None"


CHAT_STEPS: Final[Mapping[str, Step]] = {
    "cut short": changed(lambda document: document["choices"][0].update(finish_reason="length")),
    "filtered": changed(lambda document: document["choices"][0].update(finish_reason="content_filter")),
    "unfinished": changed(lambda document: document["choices"][0].pop("finish_reason")),
    "no choice": changed(lambda document: document.update(choices=[])),
    "two choices": changed(lambda document: document["choices"].extend(document["choices"])),
    "a refusal": changed(lambda document: document["choices"][0]["message"].update(refusal="no")),
    "no content": reply(completion(None)),
    "parts": reply(completion([{"type": "text", "text": "safe"}])),
    "nothing": says(""),
    "prose": says("That seems fine to me."),
    "both words": says("safe\nunsafe"),
    "a word more": changed(lambda document: _add(document, " indeed")),
    "a line more": changed(lambda document: _add(document, "\n\nIt is a harmless text.")),
    "thinking aloud": changed(lambda document: _add(document, "", "<think>Let me see.</think>\n")),
}


def _add(document: Document, after: str, before: str = "") -> None:
    message = document["choices"][0]["message"]
    message["content"] = f"{before}{message['content'].strip()}{after}"
