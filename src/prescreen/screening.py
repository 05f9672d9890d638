"""What is known of one screening while it is on its way, and the decisions that it may come to. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from prescreen.errors import ModeratorError, RequestError
from prescreen.model import Action, Cause, Decision, Image, Item, Mode, Record, Subject, Verdict
from prescreen.plan import Plan
from prescreen.policy import strictest
from prescreen.steps import Report
from prescreen.target import Found, Target


class Screening:
    """One screening, of a request (`target`) or of items that come from none.

    `left` are the seconds of the deadline that are left, `stages` those that were spent. `remembered` is what was found, where the
    same body has been read lately; `asked` what the moderator is asked, `verdicts` what was said of it.
    """

    def __init__(self, plan: Plan, subject: Subject | None, target: Target | None = None) -> None:
        self.plan, self.subject, self.target = plan, subject, target
        self.strikes = plan.strikes if plan.mode is Mode.ENFORCE else None
        self.left = plan.deadline
        self.store_problem: str | None = None
        self.remembered: Found | None = None
        self.is_unmatched = False
        self.asked: Sequence[Item] = ()
        self.verdicts: Sequence[Verdict] = ()
        self.latency = 0.0
        self.stages: dict[str, float] = {}

    def judged(self, items: Sequence[Item], verdicts: Sequence[Verdict]) -> Decision:
        """The decision by the verdicts on these items."""
        reasons = self.plan.policy.reasons(items, verdicts)
        if not reasons:
            return self.decision(Action.ALLOW, Cause.CLEAN)
        return self.decision(self.plan.policy.conclude(reasons), Cause.FLAGGED, reasons=reasons)

    def unscreened(self, error: RequestError) -> Decision:
        """What becomes of a request that cannot be screened. Half a body is no policy's to allow, and the rule's word stands."""
        target = self.target
        assert target is not None  # only requests can be unreadable
        if error.cause in (Cause.INCOMPLETE, Cause.SLOW, Cause.UNWANTED):
            action = Action.REJECT
        else:
            action = target.on_oversize if error.cause is Cause.OVERSIZE else target.on_unreadable
        return self.decision(action, error.cause, problem=error.problem)

    def unavailable(self, judged: Sequence[Item], error: ModeratorError) -> Decision:
        """What becomes of a request that nobody could judge, or not all of it."""
        reasons = self.plan.policy.reasons(judged, self.verdicts)
        action = strictest((self.plan.on_error, self.plan.policy.conclude(reasons)))
        return self.decision(
            action,
            Cause.UNAVAILABLE,
            reasons=reasons,
            problem=said_of(error),
            retry_after=error.retry_after,
            rung=self.plan.on_error.value,
        )

    def without_store(self) -> Decision | None:
        """What becomes of a request where the store could not be asked; None: it goes on."""
        if self.store_problem is None or self.plan.on_store_error is not Action.REJECT:
            return None
        return self.decision(Action.REJECT, Cause.UNAVAILABLE, problem=f"StoreError: {self.store_problem}")

    def decision(self, action: Action, cause: Cause, **facts: Any) -> Decision:
        """A decision on this; one that would allow says so if strikes and lists could not be asked."""
        if self.store_problem is not None and action is Action.ALLOW:
            action = strictest((action, self.plan.on_store_error))
        return Decision(
            action,
            cause=cause,
            rule=self.target.name if self.target else None,
            mode=self.plan.mode,
            subject=self.subject.hash if self.subject else None,
            **facts,
        )

    def report(self, decision: Decision) -> Report:
        """The step that puts it on record."""
        return Report(decision, self.store_problem, partial(self._record, decision))

    def _record(self, decision: Decision) -> Record:
        images = [*map(type, self.asked)].count(Image)
        mask: Callable[[str], str] = self.target.places.mask if self.target else str
        places = map(mask, [reason.pointer for reason in decision.reasons]) if decision.reasons else ()
        return Record(
            decision,
            self.plan.moderator,
            model=self.verdicts[0].model if self.verdicts else "",
            texts=len(self.asked) - images,
            images=images,
            latency=self.latency,
            places=tuple(dict.fromkeys(places)),
            unmatched=self.is_unmatched,
            store_problem=self.store_problem,
            stages=self.stages,
        )


def said_of(error: ModeratorError) -> str:
    """A moderator's error in a decision's words."""
    return f"{type(error).__name__}: {error.problem}"
