"""Finding the decision on a request again, from whatever the handler has of the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prescreen.model import DECISION_KEY, Decision


def decision_of(request: object) -> Decision | None:
    """The Decision on this request; None where no rule matched it.

    Takes an ASGI scope, a WSGI environ, or a request object that has either: Starlette's and
    FastAPI's `Request`, Flask's and Werkzeug's, Quart's, Django's, Litestar's, Falcon's.
    """
    for holder in _holders(request):
        if isinstance(holder, Mapping) and isinstance(found := holder.get(DECISION_KEY), Decision):
            return found
    return None


def _holders(request: object) -> Iterator[object]:
    yield request
    for name in ("scope", "environ", "META", "env"):
        yield getattr(request, name, None)
