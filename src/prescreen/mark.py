"""The mark that a screening leaves, so that a request is screened once however many middlewares stand around the app."""

from __future__ import annotations

from prescreen.current import told
from prescreen.model import Head
from prescreen.rule import Rule
from prescreen.screen import Screen


class Screened:
    """The mark of a screening, so that a second middleware of the same kind need not screen again.

    `source` is what the app reads the body from, `told` what the head says. Error reports show and copy what lies in a
    scope or environ: nothing of the head comes out of it, and a copy is the mark itself, which is of no use with another source.
    """

    __slots__ = ("rules", "screen", "source", "told")

    def __init__(self, screen: Screen, rules: tuple[Rule, ...], told: tuple[object, ...], source: object) -> None:
        self.screen, self.rules, self.told, self.source = screen, rules, told, source

    def __deepcopy__(self, _memo: object) -> Screened:
        return self


def is_screened(mark: object, screen: Screen, rules: tuple[Rule, ...], head: Head, source: object) -> bool:
    """Whether the same screen has screened this very request, and nothing has come between."""
    return (
        isinstance(mark, Screened)
        and mark.source is source
        and mark.rules == rules
        and mark.told == told(head)
        and mark.screen.settings == screen.settings
    )
