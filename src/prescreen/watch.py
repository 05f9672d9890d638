"""A watch for rules that look in the wrong place: they match, and never find anything."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from threading import Lock
from typing import Final

from prescreen.model import Record
from prescreen.rule import Rule

logger: Final = logging.getLogger("prescreen")

_PATIENCE: Final = 100  # requests


class Watch:
    """Warns, once a rule, when the first `_PATIENCE` requests that it screened had nothing at its places.

    Its memory is a number for each rule that has found nothing yet.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._left = {rule.match: _PATIENCE for rule in rules if not rule.exempt}
        self._lock = Lock()

    def see(self, record: Record) -> None:
        """Take note of one decision."""
        rule = record.decision.rule
        if rule is None or rule not in self._left:
            return  # done with, or several rules together, of which none can be said to have missed
        if record.unmatched:
            self._count(rule)
        elif record.texts or record.images:
            self._left.pop(rule, None)

    def _count(self, rule: str) -> None:
        with self._lock:
            left = self._left.pop(rule, 0) - 1
            if left > 0:
                self._left[rule] = left
        if left == 0:
            logger.warning(
                "the rule %s has matched %d requests and never found a text at its places; "
                "`prescreen coverage` shows what their bodies may carry",
                rule,
                _PATIENCE,
            )
