"""How the commands print what they found: as plain data, and as text for a terminal.

Texts come from files, so nothing is ever read as markup.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from prescreen.cli.trial import Trial
from prescreen.errors import ConfigError
from prescreen.load import SLOW, Breaker, Cache
from prescreen.model import Action, Cause, Decision, Item, Mode, Text, Verdict
from prescreen.rule import SWITCHES, Rule
from prescreen.screen import Screen
from prescreen.strikes import Strikes
from prescreen.units import spelled

_STYLES = {Action.ALLOW: "bold green", Action.FLAG: "bold yellow", Action.REJECT: "bold red"}


def configuration(screen: Screen) -> dict[str, Any]:
    """The configuration in force, as data."""
    found = screen.settings
    return {
        "moderator": screen.moderator.name,
        "mode": found.mode.value,
        "deadline_seconds": found.deadline,
        "on_error": list(found.on_error),
        "cache": _cache(found.cache),
        "quota": {"rpm": found.quota.rpm, "tpm": found.quota.tpm} if found.quota else None,
        "max_in_flight": found.max_in_flight,
        "max_batch": found.max_batch,
        "breaker": _breaker(found.breaker, found.deadline),
        "max_screenings": found.max_screenings,
        "telemetry": list(found.telemetry),
        "subject": [each if isinstance(each, str) else repr(each) for each in found.subject],
        "strikes": _strikes(found.strikes),
        "store": type(screen.people.store).__name__ if screen.people.store else None,
        "lists": screen.people.lists is not None,
        "thresholds": dict(found.policy.thresholds),
        "actions": {name: action.value for name, action in found.policy.actions.items()},
        "ignore": list(found.policy.ignore),
        "rejection": {"format": found.rejection.format, "status": found.rejection.status},
        "rules": [_rule(rule, screen) for rule in found.rules],
    }


def _strikes(found: Strikes | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"limit": found.limit, "window": spelled(float(found.window)), "suspend": spelled(float(found.suspend))}


def _cache(found: Cache | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "ttl": spelled(float(found.ttl)),
        "stale": spelled(float(found.stale)),
        "entries": found.entries,
        "size": int(found.size),
        "shared": found.shared,
    }


def _breaker(found: Breaker | None, deadline: float) -> dict[str, Any] | None:
    if found is None:
        return None
    slow = SLOW * deadline if found.slow is None else float(found.slow)
    return {
        "rate": found.rate,
        "calls": found.calls,
        "window_seconds": float(found.window),
        "slow_seconds": slow,
        "probe_seconds": float(found.probe),
    }


def _print_traffic(console: Console, found: dict[str, Any]) -> None:
    """What spares the moderator, and the app when it fails."""
    cache, quota, breaker = found["cache"], found["quota"], found["breaker"]
    kept = "none" if cache is None else f"{cache['ttl']}, up to {cache['entries']:,} of them or {_bytes(cache['size'])}"
    console.print(Styled(f"  verdicts kept: {kept}"))
    units = {"rpm": "calls", "tpm": "tokens"}
    most = [f"{number:,} {units[name]}" for name, number in (quota or {}).items() if number is not None]
    console.print(Styled(f"  quota: {' and '.join(most) + ' a minute' if most else 'none'}"))
    console.print(Styled(f"  calls: {found['max_in_flight']} at once, of up to {found['max_batch']} texts"))
    when = "never left alone"
    if breaker is not None:
        when = (
            f"left alone for {breaker['probe_seconds']:g} s when {breaker['rate']:.0%} of at least {breaker['calls']} calls in "
            f"{breaker['window_seconds']:g} s failed, or took over {breaker['slow_seconds']:g} s"
        )
    console.print(Styled(f"  breaker: {when}"))
    console.print(Styled(f"  screenings at once: {found['max_screenings']:,}"))
    if found["telemetry"]:
        console.print(Styled(f"  telemetry: {', '.join(found['telemetry'])}"))


def print_configuration(console: Console, screen: Screen, file: str) -> None:
    """The configuration in force, for people."""
    found = configuration(screen)
    console.print(Styled.assemble(("valid ", "bold green"), file))
    for name in ("moderator", "mode", "deadline_seconds"):
        console.print(Styled(f"  {name.replace('_seconds', ' (s)')}: {found[name]}"))
    console.print(Styled(f"  on error: {', then '.join(found['on_error'])}"))
    _print_traffic(console, found)
    if found["subject"]:
        console.print(Styled(f"  subject: {', then '.join(found['subject'])}"))
    if found["strikes"]:
        console.print(Styled("  strikes: {limit:g} within {window} suspend for {suspend}".format(**found["strikes"])))
    if found["store"]:
        kept = [name for name in ("strikes", "lists") if found[name]]
        console.print(Styled(f"  store: {found['store']}, for {' and '.join(kept)}"))
    if found["thresholds"]:
        limits = ", ".join(f"{name} >= {limit:g}" for name, limit in found["thresholds"].items())
        console.print(Styled(f"  thresholds: {limits}"))
    else:
        console.print("  thresholds: none; the moderator's own flags decide")
    if found["actions"]:
        actions = ", ".join(f"{name} -> {action}" for name, action in found["actions"].items())
        console.print(Styled(f"  actions: {actions}"))
    if found["ignore"]:
        console.print(Styled(f"  ignored: {', '.join(found['ignore'])}"))
    console.print(Styled(f"  rejection: {found['rejection']['format']}, {found['rejection']['status']}"))
    table = Table("#", "match", "looks at", "body up to", box=None, pad_edge=False, header_style="bold")
    for index, rule in enumerate(found["rules"]):
        table.add_row(*map(Styled, (str(index), rule["match"], "\n".join(_places(rule)), _bytes(rule["max_body"]))))
    console.print()
    console.print(table if found["rules"] else Styled("no rules: no request is screened", "bold yellow"))


def trial(found: Trial) -> dict[str, Any]:
    """What a request met, as data."""
    return {
        "rule": found.decision.rule if found.decision else None,
        "found": [
            {
                "pointer": item.pointer,
                ("text" if isinstance(item, Text) else "image"): _content(item),
                "verdict": _verdict(found.verdicts[item]) if item in found.verdicts else None,
            }
            for item in found.items
        ],
        "decision": _decision(found.decision) if found.decision else None,
    }


def print_trial(console: Console, found: Trial) -> None:
    """What a request met, for people."""
    if found.decision is None:
        console.print(Styled("no rule is about this request: the app gets it untouched", "bold yellow"))
        return
    console.print(Styled.assemble(("rule      ", "bold"), found.decision.rule or ""))
    console.print(Styled.assemble(("moderator ", "bold"), found.screen.moderator.name))
    for item in found.items:
        console.print(Styled.assemble(("found     ", "bold"), item.pointer or "(the whole body)"))
        console.print(Styled(f"            {_short(_content(item))}", "dim"))
        if item in found.verdicts:
            console.print(Styled(f"            {_opinion(found.verdicts[item])}"))
    if not found.items and found.decision.cause is Cause.CLEAN:
        console.print(Styled("found     nothing at the rule's places", "yellow"))
    _print_decision(console, found.screen, found.decision)


def _print_decision(console: Console, screen: Screen, decision: Decision) -> None:
    console.print(
        Styled.assemble(("decision  ", "bold"), (decision.action.value, _STYLES[decision.action]), _remark(decision))
    )
    if decision.problem:
        console.print(Styled(f"            {decision.problem}"))
    for reason in decision.reasons:
        console.print(Styled(f"            {reason.category} at {reason.pointer or 'the body'}: {reason.action.value}"))
    if decision.is_rejected:
        rejection = screen.rejection(decision)
        console.print(
            Styled.assemble(("answer    ", "bold"), f"{rejection.status} {rejection.headers['content-type']}")
        )
        console.print(Styled(rejection.body.decode(), "dim"), soft_wrap=True)


def print_error(console: Console, error: ConfigError) -> None:
    """A configuration error: where, and what to write instead."""
    console.print(Styled.assemble(("not valid ", "bold red"), str(error)), soft_wrap=True)


def _rule(rule: Rule, screen: Screen) -> dict[str, Any]:
    return {
        "match": rule.match,
        "exempt": rule.exempt,
        "json": list(rule.json),
        "form": list(rule.form),
        "query": list(rule.query),
        "text": rule.text,
        "keys": rule.keys,
        "join": rule.join,
        "images": rule.images,
        "on_unmatched": rule.on_unmatched,
        "on_unreadable": str(rule.on_unreadable),
        "on_oversize": str(rule.on_oversize),
        "max_body": rule.limit or screen.plan.limits.body,
        "switches": [switch for switch in SWITCHES if getattr(rule, switch)],
    }


def _places(rule: dict[str, Any]) -> Iterator[str]:
    if rule["exempt"]:
        yield "nothing (exempt)"
    yield from (f"{kind} {name}" for kind in ("json", "form", "query") for name in rule[kind])
    if rule["text"]:
        yield "the whole text body"
    defaults = {"on_unreadable": "reject", "on_oversize": "reject", "on_unmatched": "all", "images": "moderate"}
    yield from (f"{key} = {rule[key]}" for key, default in defaults.items() if rule[key] != default)
    yield from (f"{key} = {str(rule[key]).lower()}" for key in ("keys", "join") if rule[key])
    yield from rule["switches"]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    hits = [name for name, hit in verdict.categories.items() if hit]
    return {"flagged": verdict.flagged, "categories": hits, "scores": dict(verdict.scores), "model": verdict.model}


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "action": decision.action.value,
        "cause": decision.cause.value,
        "rejected": decision.is_rejected,
        "degraded": decision.degraded,
        "rung": decision.rung,
        "problem": decision.problem,
        "reasons": [
            {"category": each.category, "pointer": each.pointer, "score": each.score, "action": each.action.value}
            for each in decision.reasons
        ],
    }


def _opinion(verdict: Verdict) -> str:
    highest = sorted(verdict.scores.items(), key=lambda each: -each[1])[:3]
    scores = ", ".join(f"{name} {score:.2f}" for name, score in highest if score)
    return f"{'flagged' if verdict.flagged else 'not flagged'}{f' ({scores})' if scores else ''}"


def _content(item: Item) -> str:
    return item.value if isinstance(item, Text) else item.url


def _remark(decision: Decision) -> str:
    if decision.mode is Mode.MONITOR and decision.action is Action.REJECT:
        return " (monitor only: the request passes)"
    if decision.is_judged:
        return f" (by on_error: {decision.rung})" if decision.rung else ""
    return " (it passes without having been judged)" if decision.degraded else ""


def _short(text: str) -> str:
    line = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    return line if len(line) <= 100 else f"{line[:97]}..."


def _bytes(size: int) -> str:
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"
