"""A comment form on Flask: what people post is screened before the view runs."""

import logging
import os
import secrets
from pathlib import Path

from flask import Flask, request

from prescreen import decision_of
from prescreen.wsgi import ModerationMiddleware

logging.basicConfig(level=logging.INFO)  # to see the decisions

# Users are known by a keyed hash. Without a secret of your own each process makes one: fine for a try with one worker.
os.environ.setdefault("PRESCREEN_SECRET", secrets.token_hex(32))

app = Flask(__name__)
app.wsgi_app = ModerationMiddleware(  # type: ignore[method-assign]  # Flask's own way to wrap an app
    app.wsgi_app,
    config=Path(__file__).with_name("prescreen.toml"),
    moderator="openai" if os.environ.get("OPENAI_API_KEY") else "keywords",
)
handled = 0

FORM = """<!doctype html><title>Comments</title>
<form method="post" action="/comments"><label>Comment <input name="body"></label> <button>Post</button></form>"""


@app.post("/comments")
def post_comment() -> dict[str, object]:
    """Runs only for comments that passed."""
    global handled
    handled += 1
    comment = request.form["body"] if request.form else request.get_json()["body"]
    decision = decision_of(request)
    assert decision is not None  # there is a rule for this route
    return {"answer": f"Thank you for your {len(comment)} characters.", "decision_id": decision.id}


@app.get("/")
def form() -> str:
    """A route without a rule: prescreen does not touch it."""
    global handled
    handled += 1
    return FORM


@app.get("/stats")
def stats() -> dict[str, int]:
    """How often the other views have run."""
    return {"handled": handled}
