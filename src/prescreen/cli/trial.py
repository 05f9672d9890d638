"""One request put through a screen without a server, keeping what goes by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from prescreen.drive import drive_sync
from prescreen.errors import ModeratorError
from prescreen.model import Decision, Head, Item, Verdict
from prescreen.screen import Screen
from prescreen.steps import Answer, Moderate, ReadBody, Step


class Trial:
    """`rules` is () and `decision` None where no rule is about the request.

    `items` are the texts and images found; `verdicts` is the last word on each, by whichever rung of `on_error`, and has
    none for those that nobody judged.
    """

    def __init__(self, screen: Screen, head: Head, body: bytes) -> None:
        self.screen = screen
        self.rules = screen.rules.find(head)
        self.items: Sequence[Item] = ()
        self.verdicts: dict[Item, Verdict] = {}
        self._body = body
        self.decision: Decision | None = None
        if self.rules:
            self.decision = drive_sync(screen.request_flow(self.rules, head), self._perform)

    def _perform(self, step: Step) -> Answer:
        if isinstance(step, ReadBody):
            return self._body  # its declared length has been held against the limit
        if isinstance(step, Moderate):
            return self._moderated(step)
        return self.screen.perform_sync(step)

    def _moderated(self, step: Moderate) -> Answer:
        self.items = self.items or step.items  # all of them are in the first step, and in others what is still open
        try:
            answer = cast("Sequence[Verdict]", self.screen.perform_sync(step))
        except ModeratorError as error:
            self.verdicts |= {step.items[index]: verdict for index, verdict in error.known.items()}
            raise
        self.verdicts |= zip(step.items, answer, strict=True)
        return answer
