"""How `check --app` and `coverage` print what they found: as plain data, and as text for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from prescreen.cli.coverage import Coverage, Field, State
from prescreen.routes import Survey

_WORDS: Final = {
    State.GAP: ("NOT COVERED", "bold red"),
    State.REFUSED: ("refused", "yellow"),
    State.UNKNOWN: ("unknown, but screened", "yellow"),
    State.EXEMPT: ("exempt", "cyan"),
    State.COVERED: ("covered", "green"),
}


def survey(found: Survey) -> dict[str, Any]:
    """Which rules cover which routes, as data."""
    return {
        "rules": [{"match": rule.match, "routes": list(map(str, routes))} for rule, routes in found.covered],
        "without_rule": list(map(str, found.bare)),
    }


def print_survey(console: Console, found: Survey) -> None:
    """Which rules cover which routes, for people."""
    table = Table("rule", "covers", box=None, pad_edge=False, header_style="bold")
    for rule, routes in found.covered:
        what = Styled("\n".join(map(str, routes))) if routes else Styled("no route of the app", "bold red")
        table.add_row(Styled(f"{rule.match}{' (exempt)' if rule.exempt else ''}"), what)
    console.print()
    console.print(table)
    if found.bare:
        console.print(
            Styled(f"\n{_many(len(found.bare), 'route')} that may take a body and have no rule:", "bold yellow")
        )
        console.print(Styled("\n".join(f"  {route}" for route in found.bare)))
    else:
        console.print(Styled("\nevery route that may take a body has a rule", "green"))


def coverage(found: Coverage) -> dict[str, Any]:
    """What the moderator sees of each route's bodies, as data."""
    return {
        "gaps": len(found.gaps),
        "routes": [
            {"method": each.method, "path": each.path, "fields": [_field(field) for field in fields]}
            for each, fields in found.fields.items()
        ],
        "nothing_at": [{"rule": rule.match, "place": place} for rule, place in found.dead],
    }


def print_coverage(console: Console, found: Coverage) -> None:
    """What the moderator sees of each route's bodies, for people."""
    for operation, fields in found.fields.items():
        console.print(Styled(f"\n{operation}", "bold"))
        table = Table.grid(padding=(0, 2), pad_edge=True)
        several = len({field.media for field in fields}) > 1
        for field in fields:
            word, style = _WORDS[field.state]
            by = f" by {field.rule}" if field.rule and field.state is not State.GAP else ""
            media = f" ({field.media})" if several and field.media else ""
            table.add_row("", Styled(f"{field.place}{media}"), Styled(field.kind, "dim"), Styled(word + by, style))
        console.print(table)
    for rule, place in found.dead:
        console.print(Styled(f"\nthe rule {rule.match} can find no text at {place}", "yellow"), soft_wrap=True)
    console.print()
    console.print(_summary(found), soft_wrap=True)


def _summary(found: Coverage) -> Styled:
    states = Counter(field.state for fields in found.fields.values() for field in fields)
    parts = [
        Styled(f"{states[state]} {_WORDS[state][0]}", _WORDS[state][1]) for state in reversed(State) if states[state]
    ]
    if found.dead:
        parts.append(Styled(f"{_many(len(found.dead), 'place')} of rules without any", "yellow"))
    head = f"{_many(len(found.fields), 'route')}, {_many(states.total(), 'place')} for a text"
    return Styled(": ").join([Styled(head), Styled(", ").join(parts)]) if parts else Styled(head)


def _field(field: Field) -> dict[str, Any]:
    return {
        "place": field.place,
        "kind": field.kind,
        "media_type": field.media or None,
        "state": field.state.value,
        "rule": field.rule,
    }


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
