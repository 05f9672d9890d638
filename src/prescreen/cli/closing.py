"""The rules that would close the gaps, as TOML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, Final

from prescreen.cli.coverage import Coverage
from prescreen.model import BodyKind
from prescreen.routes import HOLE
from prescreen.rule import Rule

_KEYS: Final[dict[BodyKind | None, str]] = {"json": "json", "form": "form", "text": "text"}
Places = dict[str, list[str]]
"""What a rule has to look at, by its keys `json`, `form` and `text`."""


def closing(coverage: Coverage, rules: Sequence[Rule]) -> str:
    """What to write in place of rules with the same match, and what to add behind them."""
    longer: dict[str, Places] = {}
    new: dict[tuple[str, str], Places] = {}
    remarks: list[str] = []
    for operation, field in coverage.gaps:
        key = _KEYS.get(field.body_kind)
        if key is None:
            remarks.append(f"# {operation}: no rule looks into {field.media or field.place}; describe it, or exempt it")
            continue
        if field.kind == "file" and key == "form":
            remarks.append(f"# {operation}: a rule for the file {field.place} refuses uploads other than UTF-8 text")
        if field.rule is not None:
            _add(longer.setdefault(field.rule.split(" + ")[0], {}), key, field.place)
        else:
            _add(new.setdefault((_template(operation.path), operation.method), {}), key, field.place)
    return "\n".join(
        [
            *remarks,
            *(_table(_longer(rule, longer[rule.match])) for rule in rules if rule.match in longer),
            *map(_table, _new(new)),
        ]
    )


def _add(places: Places, key: str, place: str) -> None:
    if place not in places.setdefault(key, []):
        places[key].append(place)


def _longer(rule: Rule, places: Places) -> Rule:
    """The whole rule with the places added: a second rule for its route would never be asked."""
    added = _values({key: [*getattr(rule, key), *names] if key != "text" else names for key, names in places.items()})
    return replace(rule, **added)


def _new(found: Mapping[tuple[str, str], Places]) -> Iterator[Rule]:
    """One rule for a path's methods that have the same places; narrow paths first, since the first rule counts."""
    methods: dict[tuple[str, str], list[str]] = {}
    for (path, method), places in found.items():
        methods.setdefault((path, json.dumps(places)), []).append(method)
    order = sorted(methods, key=lambda each: [("{" in part, part) for part in each[0].split("/")])
    for path, same in order:
        yield Rule(f"{','.join(sorted(methods[path, same]))} {path}", **_values(json.loads(same)))


def _values(places: Mapping[str, list[str]]) -> dict[str, Any]:
    return {key: True if key == "text" else list(_without_repeats(names)) for key, names in places.items()}


def _without_repeats(paths: Sequence[str]) -> Iterable[str]:
    """Without what another path finds anyway: `$..text` has `$.text`, and `$.parts` has `$.parts[*].text`."""
    deep = [path.split("..", 1) for path in paths if ".." in path]
    found = {f"{before}{'' if rest.startswith('[') else '.'}{rest}" for before, rest in deep}
    return [path for path in paths if path not in found and not any(map(partial(_is_inside, path), paths))]


def _is_inside(path: str, other: str) -> bool:
    """Whether what the other path selects, all of which is looked at, holds this path's place."""
    return path.startswith(other) and path[len(other) : len(other) + 1] in (".", "[")


def _template(path: str) -> str:
    """A route's path as a rule has it: one parameter a segment, and no converter but `path`."""
    return "/".join(map(_segment, path.split("/")))


def _segment(part: str) -> str:
    holes = list(HOLE.finditer(part))
    if not holes or (len(holes) == 1 and holes[0][2] is None):
        return part
    kind = ":path" if holes[-1][2] == "path" else ""
    name = f"{{{holes[-1][1]}{kind}}}"
    return HOLE.sub(name, part) if len(holes) == 1 else name


def _table(rule: Rule) -> str:
    """The rule as a TOML table, without what is as by default."""
    lines = [f"match = {_toml(rule.match)}"]
    for each in fields(rule):
        value = getattr(rule, each.name)
        if each.init and each.name != "match" and value != each.default:
            lines.append(f"{each.name} = {_toml(value)}")
    return "\n".join(["", "[[rules]]", *lines])


def _toml(value: object) -> str:
    if isinstance(value, tuple | list) and len(value) > 1:
        return "".join(["[\n", *(f"    {_toml(each)},\n" for each in value), "]"])
    # A JSON text, with its escapes, is a TOML one, too; only DEL needs one more.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
