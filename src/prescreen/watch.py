"""A watch for what looks in the wrong place: rules that match and never find a text, subjects that are never known."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from prescreen.forks import lock_over_forks
from prescreen.model import Decision, Record
from prescreen.rule import Rule

logger: Final = logging.getLogger("prescreen")

_PATIENCE: Final = 100  # requests


class Watch:
    """Warns, once a rule, when the first `_PATIENCE` requests that it screened had nothing at its places.

    So it does, once, when the first as many were all anonymous although there is somewhere to look for a subject. Its
    memory is a number for each rule that has found nothing yet, and one for subjects.
    """

    def __init__(self, rules: Iterable[Rule], *, has_subjects: bool = False) -> None:
        self._left = {rule.match: _PATIENCE for rule in rules if not rule.exempt}
        self._anonymous = _PATIENCE if has_subjects else 0
        self._lock = lock_over_forks()

    def is_for(self, decision: Decision) -> bool:
        """Whether there is anything to learn from it: from most there is not, once texts and subjects have been found."""
        return decision.rule is not None and (bool(self._anonymous) or decision.rule in self._left)

    def see(self, record: Record) -> None:
        """Take note of one decision."""
        rule = record.decision.rule
        if rule is None:
            return
        if self._anonymous:
            self._see_subject(record)
        if rule not in self._left:
            return  # done with, or several rules together, of which none can be said to have missed
        with self._lock:
            has_none_left = self._count(rule, record)
        if has_none_left:
            logger.warning(
                "the rule %s has matched %d requests and never found a text at its places; "
                "`prescreen coverage` shows what their bodies may carry",
                rule,
                _PATIENCE,
            )

    def _see_subject(self, record: Record) -> None:
        with self._lock:
            self._anonymous = 0 if record.decision.subject else self._anonymous - 1
            is_over = self._anonymous == 0 and record.decision.subject is None
        if is_over:
            logger.warning(
                "the first %d requests were all anonymous: where subject looks, nobody is known; "
                "the middleware has to stand inside what authenticates, or be given a callable",
                _PATIENCE,
            )

    def _count(self, rule: str, record: Record) -> bool:
        """Whether the rule's patience is over with this."""
        if not record.unmatched:
            if record.texts or record.images:
                self._left.pop(rule, None)
            return False
        left = self._left.pop(rule, 0) - 1
        if left > 0:
            self._left[rule] = left
        return left == 0
