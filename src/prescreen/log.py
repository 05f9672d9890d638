"""One log event for each decision, on the logger `prescreen`. Never a text, never a client's name.

The message is for people; the same facts are in the log record's attribute `prescreen`, a dict, for
structured handlers.
"""

from __future__ import annotations

import logging
from typing import Final

from prescreen.model import Cause, Decision, Record
from prescreen.units import spelled

_FAILURES: Final = (Cause.UNAVAILABLE, Cause.OVERLOADED)

logger: Final = logging.getLogger("prescreen")


def is_logged(decision: Decision, store_problem: str | None) -> bool:
    """Whether anybody would see such a decision in the log."""
    return logger.isEnabledFor(_level(decision, store_problem))


def log_decision(record: Record) -> None:
    """INFO, or WARNING where the moderator or the store failed or a request passed without being judged."""
    level = _level(record.decision, record.store_problem)
    if logger.isEnabledFor(level):
        logger.log(level, "%s", _sentence(record), extra={"prescreen": event(record)})


def _level(decision: Decision, store_problem: str | None) -> int:
    is_notable = store_problem is not None or decision.rung or decision.degraded or decision.cause in _FAILURES
    return logging.WARNING if is_notable else logging.INFO


def event(record: Record) -> dict[str, object]:
    """The facts of one decision. `latency_ms` is the moderator's."""
    decision = record.decision
    return {
        "event": "decision",
        "decision_id": decision.id,
        "action": decision.action.value,
        "mode": decision.mode.value,
        "cause": decision.cause.value,
        "rule": decision.rule,
        "categories": list(decision.categories),
        "places": list(record.places),
        "problem": decision.problem,
        "degraded": decision.degraded,
        "rung": decision.rung,
        "unmatched": record.unmatched,
        "subject": decision.subject,
        "strikes": decision.standing.strikes if decision.standing else None,
        "suspended_for": decision.standing.suspended_for if decision.standing else None,
        "store_problem": record.store_problem,
        "moderator": record.moderator,
        "model": record.model,
        "texts": record.texts,
        "images": record.images,
        "latency_ms": round(record.latency * 1000, 2),
    }


def _sentence(record: Record) -> str:
    decision = record.decision
    said = f"{decision.action.value} {decision.rule or 'text'}"
    if decision.mode.value != "enforce":
        said += f" ({decision.mode.value} only)"
    if decision.cause is Cause.FLAGGED:
        said += f": {', '.join(decision.categories)} at {', '.join(record.places) or 'the text'}"
    elif decision.cause is not Cause.CLEAN:
        said += f": {decision.cause.value}, {decision.problem}"
    if decision.rung:
        why = f"; {decision.problem}" if decision.problem and decision.is_judged else ""
        said += f" (by on_error: {decision.rung}{why})"
    if record.unmatched:
        said += " (nothing at the rule's places)"
    if decision.standing and decision.standing.suspended_for and decision.cause is Cause.FLAGGED:
        said += f"; its subject is suspended for {spelled(decision.standing.suspended_for)}"
    if record.store_problem:
        said += f"; without strikes and lists: {record.store_problem}"
    return f"{said} [{record.moderator}, {record.latency * 1000:.0f} ms, decision {decision.id}]"
