"""The object that is configured once and shared: rules, moderator, policy, rejections."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from prescreen.document import Limits
from prescreen.drive import drive, drive_sync
from prescreen.errors import ConfigError, raised_at
from prescreen.flow import DENIED, screen_items, screen_request
from prescreen.fold import prepare
from prescreen.load import STALE, Breaker, Cache, Quota, Room
from prescreen.log import is_logged, log_decision
from prescreen.match import RuleSet
from prescreen.model import (
    Action,
    ActionName,
    Decision,
    Head,
    Image,
    Item,
    Mode,
    ModeName,
    Observer,
    Rejection,
    Subject,
    Text,
)
from prescreen.moderators import AnyModerator
from prescreen.people import People, StoreStep
from prescreen.plan import Plan
from prescreen.policy import Policy
from prescreen.rejection import Rejections, is_token
from prescreen.rule import Rule
from prescreen.steps import Answer, Flow, Moderate, Report, Step, Work
from prescreen.stores import Store
from prescreen.strikes import Strikes
from prescreen.target import Targets
from prescreen.telemetry import observer
from prescreen.threads import workers
from prescreen.traffic.making import chosen, traffics
from prescreen.watch import Watch

if TYPE_CHECKING:
    from prescreen.config import Settings

_LARGE: Final = 64 << 10  # bytes of work; more is not for the event loop

logger: Final = logging.getLogger("prescreen")


class ScreenOptions(TypedDict, total=False):
    """The keyword arguments of Screen and of both middlewares; see `config.Settings`."""

    rules: Sequence[Rule]
    moderator: str | AnyModerator
    moderators: Mapping[str, Mapping[str, Any]]
    policy: Policy
    rejection: Rejections | Callable[[Decision], Rejection]
    mode: Mode | ModeName
    on_error: Action | ActionName | Sequence[str]
    cache: Cache | Mapping[str, Any] | bool
    quota: Quota | Mapping[str, int] | None
    max_in_flight: int
    max_batch: int
    breaker: Breaker | Mapping[str, Any] | bool
    max_screenings: int
    deadline: float | str
    receive_timeout: float | str
    limits: Limits | Mapping[str, int | str]
    subject: str | Callable[[Head], str | None] | Sequence[str | Callable[[Head], str | None]]
    trusted_proxies: Sequence[str]
    secret: str | None
    previous_secrets: Sequence[str]
    strikes: Strikes | Mapping[str, Any] | None
    store: str | Store
    on_store_error: Action | ActionName
    lists: bool | None
    telemetry: str | Sequence[str]
    observers: Sequence[Observer]


class Screen:
    """Rules, moderator, policy and rejections, checked and compiled.

    `config` is a TOML file; keyword arguments replace its top-level keys. Raises ConfigError for
    whatever could not work later.
    """

    def __init__(self, config: str | Path | None = None, **options: Unpack[ScreenOptions]) -> None:
        prepare()
        try:
            self.settings: Final[Settings] = _settings(config, options)
            self.moderator: Final = chosen(self.settings)
            if self.moderator.categories is not None:
                self.settings.policy.check_categories(self.moderator.categories)
            self.rules: Final = self._active_rules()
            self.people: Final = self._people()
            self._observe: Final = observer(self.settings)
            self.traffic: Final = traffics(self.settings, self.moderator, self.people.secret, self._observe)
            self.plan: Final = self._plan()
            self._watch: Final = Watch(self.rules.rules, has_subjects=bool(self.settings.subject))
            self._reject: Final = _rejecter(self.settings.rejection)
        except ConfigError as error:
            error.file = str(config) if config else None
            raise

    def __repr__(self) -> str:
        return f"Screen(rules={len(self.settings.rules)}, moderator={self.moderator.name!r}, mode={self.settings.mode})"

    async def check(self, text: str | Sequence[Item], *, subject: str | Subject | None = None) -> Decision:
        """The decision on a text (or on Texts and Images) that comes from no request.

        `subject` is the app's own id of whoever wrote it, None for nobody: a strike is theirs.
        """
        return await drive(self.check_flow(text, subject), self.perform)

    def check_sync(self, text: str | Sequence[Item], *, subject: str | Subject | None = None) -> Decision:
        """The same, blocking; for code that runs in no event loop."""
        return drive_sync(self.check_flow(text, subject), self.perform_sync)

    def subject(self, identifier: str) -> str:
        """The keyed hash of an end user by the app's own id: what decisions, strikes and model calls carry.

        Raises ConfigError where there is no secret.
        """
        return self.people.subject(identifier).hash

    def check_flow(self, text: str | Sequence[Item], subject: str | Subject | None = None) -> Flow[Decision]:
        """The flow behind `check`."""
        items = [Text("", text)] if isinstance(text, str) else text
        if not isinstance(items, Sequence) or not all(isinstance(item, Text | Image) for item in items):
            raise TypeError("check takes a str, or a list of Text and Image")
        whose = self.people.subject(subject) if isinstance(subject, str) else subject
        if self.settings.mode is Mode.OFF:
            items, whose = (), None
        return screen_items(self.plan, items, whose)

    def request_flow(self, rules: tuple[Rule, ...], head: Head) -> Flow[Decision]:
        """The flow that screens a request by `rules`; the caller's driver performs `ReadBody`."""
        return screen_request(self.plan, rules, head)

    def overlaps(self, rules: tuple[Rule, ...]) -> bool:
        """Whether the handler may run while these rules' request is judged."""
        return self.plan.targets.of(rules).overlaps

    def subject_of(self, head: Head) -> str | None:
        """The keyed hash of whoever sent a request; None for an anonymous one."""
        found = self.plan.find_subject(head) if self.plan.find_subject else None
        return found.hash if found else None

    def rejection(self, decision: Decision, accept: str = "") -> Rejection:
        """The answer for a decision that rejects; `accept` is the request's Accept header."""
        try:
            rejection = self._reject(decision, accept)
            fault = _fault(rejection)
        except Exception as error:  # noqa: BLE001  # a broken page must not let a request through, nor end in a 500
            # Its message stays out of the log: it may quote what the page was about.
            fault = f"it raised {type(error).__name__}{raised_at(error)}"
        if fault is None:
            lower = {name.lower(): value for name, value in rejection.headers.items()}
            return replace(rejection, headers={**lower, "content-length": str(len(rejection.body))})
        logger.error("the configured rejection failed; the default one is sent: %s", fault)
        return Rejections()(decision)

    def perform(self, step: Step) -> Answer | Awaitable[Answer]:
        """Perform any step but ReadBody; an awaitable where there is something to wait for."""
        if isinstance(step, Report):
            return self._report(step)
        if isinstance(step, Moderate):
            traffic = self.traffic[step.rung]
            return traffic.stale(step) if step.rung == STALE else traffic.moderate(step)
        if isinstance(step, StoreStep):
            return self.people.perform(step)
        assert isinstance(step, Work), step  # ReadBody is the adapters'
        if step.size > _LARGE:
            from anyio import to_thread

            return to_thread.run_sync(step.run, limiter=workers())
        return step.run()

    def perform_sync(self, step: Step) -> Answer:
        """Perform any step but ReadBody, blocking."""
        if isinstance(step, Report):
            return self._report(step)
        if isinstance(step, Moderate):
            traffic = self.traffic[step.rung]
            return traffic.stale_sync(step) if step.rung == STALE else traffic.moderate_sync(step)
        if isinstance(step, StoreStep):
            return self.people.perform_sync(step)
        assert isinstance(step, Work), step  # ReadBody is the adapters'
        return step.run()

    def _report(self, step: Report) -> Answer:
        if not (self._observe or is_logged(step.decision, step.store_problem) or self._watch.is_for(step.decision)):
            return None
        record = step.record
        log_decision(record)
        if self._observe is not None:
            self._observe(record)
        self._watch.see(record)
        return None

    def _active_rules(self) -> RuleSet:
        compiled = RuleSet(self.settings.rules)
        return RuleSet(()) if self.settings.mode is Mode.OFF else compiled

    def _people(self) -> People:
        strikes, known = self.settings.strikes, self.moderator.categories
        if strikes is not None and known is not None:
            strikes.check_categories({*known, DENIED})
        return People(self.settings)

    def _plan(self) -> Plan:
        found = self.settings
        return Plan(
            targets=Targets(found.rules, found.limits),
            policy=found.policy,
            limits=found.limits,
            mode=found.mode,
            on_error=Action(found.on_error[-1]),
            rungs=found.on_error[:-1],
            room=Room(found.max_screenings),
            recall=self.traffic[None].recall,
            deadline=found.deadline,
            receive_timeout=found.receive_timeout,
            moderator=self.moderator.name,
            longest=min(filter(None, (each.bound.max_characters for each in self.traffic.values())), default=None),
            find_subject=self.people.find_subject,
            strikes=found.strikes,
            has_lists=self.people.lists is not None,
            on_store_error=found.on_store_error,
        )


def screen_from(screen: Screen | None, config: str | Path | None, options: ScreenOptions) -> Screen:
    """The screen that a middleware was given, or the one that its arguments describe."""
    if screen is None:
        return Screen(config, **options)
    if config is not None or options:
        raise ConfigError("screen", "a middleware takes a screen or its configuration, not both")
    return screen


def _settings(config: str | Path | None, options: ScreenOptions) -> Settings:
    from prescreen.config import load, settings  # pydantic takes its time to import

    return load(config, **options) if config else settings(**options)


def _fault(rejection: object) -> str | None:
    """Why no server could send this."""
    if not isinstance(rejection, Rejection):
        return f"it gave {type(rejection).__name__}, not a Rejection"
    if type(rejection.status) is not int or not 400 <= rejection.status < 600:
        return "its status is no number from 400 to 599"
    if not isinstance(rejection.body, bytes):
        return f"its body is {type(rejection.body).__name__}, not bytes"
    if not isinstance(rejection.headers, Mapping) or not all(starmap(_is_header, rejection.headers.items())):
        return "its headers are no mapping of plain texts in latin-1"
    return None


def _is_header(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return is_token(name) and value.isprintable() and all(ord(letter) < 256 for letter in value)


def _rejecter(configured: Rejections | Callable[[Decision], Rejection]) -> Callable[[Decision, str], Rejection]:
    if isinstance(configured, Rejections):
        return configured
    if not callable(configured) or inspect.iscoroutinefunction(configured):
        raise ConfigError("rejection", f"{configured!r} is neither Rejections nor a plain callable (`def`)")
    return lambda decision, _accept: configured(decision)
