"""An app in Flask, bare or with one of two kinds of moderation, as the environment says (`benchmarks.stacks`)."""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify, request

from benchmarks import ruled

app = Flask(__name__)


@app.post("/chat")
@app.post("/conversation")
@app.post("/other")
def chat() -> Any:
    return jsonify(members=len(request.get_json()))


@app.get("/usage")
def usage() -> Any:
    return jsonify(ruled.usage())


def by_hand() -> None:
    """(b): what most write first."""
    from openai import OpenAI

    client = OpenAI(base_url=ruled.PROVIDER, api_key="benchmark")

    @app.before_request
    def moderate() -> Any:
        if request.method == "POST" and request.path in ruled.PATHS:
            answer = client.moderations.create(input=ruled.texts_of(request.get_json()))
            if any(result.flagged for result in answer.results):
                return jsonify(error="flagged"), 400
        return None


if ruled.KIND == "by hand":
    by_hand()
elif ruled.KIND == "prescreen":
    from prescreen.wsgi import ModerationMiddleware

    app.wsgi_app = ModerationMiddleware(app.wsgi_app, **ruled.options())  # type: ignore[method-assign]  # as Flask's documentation has it

ruled.settle()
