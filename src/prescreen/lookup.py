"""Finding the decision on a request again, from whatever the handler has of the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prescreen.current import PASSAGE_KEY, Passage
from prescreen.model import DECISION_KEY, Decision


def decision_of(request: object) -> Decision | None:
    """The Decision on this request; None where no rule matched it, and where it is still to come (`timing="overlap"`).

    Takes an ASGI scope, a WSGI environ, or a request object that has either: Starlette's and
    FastAPI's `Request`, Flask's and Werkzeug's, Quart's, Django's, Litestar's, Falcon's.
    """
    found = _found(request)
    return found.decision if isinstance(found, Passage) else found


async def settled_decision_of(request: object) -> Decision | None:
    """The same, but waits for a decision that is still to come: for what a handler must not do before it."""
    found = _found(request)
    return await found.wait() if isinstance(found, Passage) else found


def _found(request: object) -> Decision | Passage | None:
    for holder in _holders(request):
        for key, kind in ((PASSAGE_KEY, Passage), (DECISION_KEY, Decision)):
            if isinstance(holder, Mapping) and isinstance(found := holder.get(key), kind):
                return found
    return None


def _holders(request: object) -> Iterator[object]:
    yield request
    for name in ("scope", "environ", "META", "env"):
        yield getattr(request, name, None)
