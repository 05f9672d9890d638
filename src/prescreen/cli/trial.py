"""One request put through a screen without a server, keeping what goes by."""

from __future__ import annotations

from collections.abc import Sequence

from prescreen.drive import drive_sync
from prescreen.model import Decision, Head, Item, Verdict
from prescreen.screen import Screen
from prescreen.steps import Answer, Moderate, ReadBody, Step


class Trial:
    """`rules` is () and `decision` None where no rule is about the request.

    `items` are the texts and images found; `verdicts` has one for each, or none where the moderator
    failed.
    """

    def __init__(self, screen: Screen, head: Head, body: bytes) -> None:
        self.screen = screen
        self.rules = screen.rules.find(head)
        self.items: Sequence[Item] = ()
        self.verdicts: Sequence[Verdict] = ()
        self._body = body
        self.decision: Decision | None = None
        if self.rules:
            self.decision = drive_sync(screen.request_flow(self.rules, head), self._perform)

    def _perform(self, step: Step) -> Answer:
        if isinstance(step, ReadBody):
            return self._body  # its declared length has been held against the limit
        if isinstance(step, Moderate):
            self.items = step.items
        answer = self.screen.perform_sync(step)
        if isinstance(step, Moderate):
            self.verdicts = answer  # type: ignore[assignment]  # Moderate's answer
        return answer
