"""The fuzzer itself under test, a short run of it, and what it once found."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz import judge as judging
from fuzz import regressions
from fuzz.__main__ import main
from fuzz.bodies import case
from fuzz.case import ADAPTERS_TURN, KINDS, PLACES, Case, Kind, Place
from fuzz.judge import ORACLES, Fault, judge, judge_all, screened, turns, unseen
from fuzz.oracle import Oracle
from fuzz.parsers import PARSERS
from fuzz.run import BATCH, Tally, endless, numbered, remembering, run_batch
from fuzz.shrink import shrunk
from prescreen import readings

PHRASE = "seven violet lanterns"
BODIES = 800
FOUND = regressions.read()

JSON = b'{"message": "seven violet lanterns", "messages": [{"content": "seven violet lanterns"}]}'
URLENCODED = b"message=seven+violet+lanterns"
PART = b'--b\r\nContent-Disposition: form-data; name="message"'
FIELD = PART + b"\r\n\r\nseven violet lanterns\r\n--b--\r\n"
FILE = PART + b'; filename="note.txt"\r\nContent-Type: text/plain\r\n\r\nseven violet lanterns\r\n--b--\r\n'


def request(place: str, content_type: str = "", body: bytes = b"", query: bytes = b"") -> Case:
    headers = ((b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()))
    return Case("json", place, headers if body else (), body, query)


HONEST = {
    "json": [request("message", "application/json", JSON), request("contents", "application/json", JSON)],
    "form": [
        request("form", "application/x-www-form-urlencoded", URLENCODED),
        request("form", "multipart/form-data; boundary=b", FIELD),
        request("form", "multipart/form-data; boundary=b", FILE),
    ],
    "text": [request("text", "text/plain", PHRASE.encode())],
    "query": [request("query", query=URLENCODED)],
}
BLIND = Case("json", "message", ((b"content-type", b"application/json"), (b"content-length", b"86")), JSON)


# Frameworks leave the files of a form to the garbage collector where they refuse the form halfway.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """What these tests leave behind warns here."""
    yield
    gc.collect()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the frameworks' own


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prescreen that passes everything and shows the moderator nothing."""
    monkeypatch.setattr(judging, "screened", lambda case: (screened(case)[0], []))


# The fuzzer


@pytest.mark.anyio
@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
async def test_every_oracle_reads_an_honest_request(oracle: Oracle) -> None:
    """An oracle that reads nothing would judge nothing."""
    for one in HONEST[oracle.reading]:
        assert not screened(one)[0].is_rejected
    assert PHRASE in [text for one in HONEST[oracle.reading] for text in await oracle.strings(one, PLACES[one.place])]


@pytest.mark.parametrize("kind", ["json", "head"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_request_meets_every_parser_and_every_accessor_has_its_turn(place: Place, kind: Kind) -> None:
    met = [set(turns(place, turn, kind)) for turn in range(1000)]
    parsers = {oracle for oracle in PARSERS if oracle.reading in place.readings}
    assert all(each >= parsers for each in met)
    assert sum(len(each - parsers) for each in met) == 1000 * (2 if kind == "head" else 0.5)
    assert set[Oracle]().union(*met) == {oracle for oracle in ORACLES if oracle.reading in place.readings}


def test_the_requests_for_the_adapters_meet_every_accessor() -> None:
    met = [
        set(turns(place, turn, "json"))
        for place in PLACES.values()
        for turn in range(0, 1000 * ADAPTERS_TURN, ADAPTERS_TURN)
    ]
    assert set[Oracle]().union(*met) == set(ORACLES)


@pytest.mark.anyio
@pytest.mark.usefixtures("blind")
async def test_a_text_that_no_moderator_saw_is_a_fault() -> None:
    is_passed, faults = await judge(request("message", "application/json", JSON))
    assert is_passed
    assert {fault.unseen for fault in faults} == {PHRASE}
    assert len(faults) > 1


@pytest.mark.anyio
@pytest.mark.usefixtures("blind")
async def test_a_fault_is_shrunk_while_it_stays_one() -> None:
    small, fault = await shrunk(request("message", "application/json", JSON), Fault("starlette json json", PHRASE))
    assert small.body.startswith(b'{"message":')
    assert len(small.body) < 30
    assert (await judge(small))[0]
    assert len(fault.unseen) == 1


@pytest.mark.anyio
async def test_an_error_that_escapes_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_case: Case) -> None:
        raise KeyError("some")

    monkeypatch.setattr(judging, "screened", fail)
    assert await judge(case("json", 1)) == (False, [Fault("prescreen raises", "KeyError('some')")])


def test_what_is_part_of_a_moderated_text_is_seen() -> None:
    assert unseen(["violet", "\ufeffseven", " ", "a\ud800"], ["seven violet", "a\ufffd"]) == []
    assert unseen(["lantern"], ["lanter", "n"]) == ["lantern"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_the_same_request_every_time(kind: Kind) -> None:
    assert [case(kind, seed) for seed in range(50)] == [case(kind, seed) for seed in range(50)]
    assert len({case(kind, seed) for seed in range(50)}) == 50


def test_a_finding_is_the_same_after_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regressions, "FOLDER", tmp_path)
    one = case("multipart", 3)
    file = regressions.write(one, Fault("starlette form form", "a text"))
    assert regressions.read() == {file.stem: one}
    assert file.name.startswith("multipart-")


def test_findings_that_look_alike_are_counted_and_a_few_kept() -> None:
    fault = Fault("starlette json json", "a text")
    batch = Tally(kept=[(case("json", 1), fault)])
    batch.faults["json", fault.oracle, fault.looks] = 2
    tally = Tally()
    assert [len(tally.add(batch)) for _ in range(2)] == [1, 0]
    assert tally.faults.total() == 4
    assert [Fault("", text).looks for text in ("a\ufffd", "Ã©", "words", "語")] == [
        "replaced",
        "recoded",
        "other",
        "other",
    ]


def test_every_kind_has_the_same_seeds_until_the_time_or_the_number_is_up() -> None:
    batches = endless(["json", "text"], 7, 1)
    assert [next(batches) for _ in range(3)] == [
        ("json", 7, BATCH),
        ("text", 7, BATCH),
        ("json", 7 + BATCH, BATCH),
    ]
    assert list(endless(["json"], 7, 0)) == []
    assert list(numbered(["json"], 7, BATCH + 1)) == [("json", 7, BATCH), ("json", 7 + BATCH, 1)]


@pytest.mark.anyio
async def test_many_requests_are_judged_as_one_by_one() -> None:
    cases = [case(kind, seed) for kind in KINDS for seed in range(40)]
    assert await judge_all(cases) == [await judge(each) for each in cases]


def told(one: Case) -> tuple[object, ...]:
    """All but the number of the decision."""
    decision, seen = screened(one)
    return decision.action, decision.cause, decision.problem, seen


def test_what_is_remembered_is_what_prescreen_says_and_only_for_the_time_being() -> None:
    cases = [case(kind, seed) for kind in KINDS for seed in range(40)]
    plain, original = list(map(told, cases)), vars(readings)["folded"]
    with remembering():
        assert vars(readings)["folded"] is not original
        assert list(map(told, cases)) == plain
    assert vars(readings)["folded"] is original


def test_the_command_says_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regressions, "FOLDER", tmp_path)
    options = ["--seed", "1", "--bodies", "500", "--kind", "text", "--processes", "1"]
    monkeypatch.setattr(sys, "argv", ["fuzz", *options])
    assert main() == 0
    said = capsys.readouterr().out
    assert "500 bodies" in said
    assert "--seed 501" in said


# prescreen


@pytest.mark.parametrize("kind", KINDS)
def test_no_handler_reads_what_the_moderator_did_not_see(kind: Kind) -> None:
    tally = run_batch((kind, 1, BODIES))
    assert tally.kept == []


def test_more_than_a_quarter_of_the_bodies_is_accepted() -> None:
    """A fuzzer whose bodies are all refused proves nothing."""
    passed = {kind: sum(not screened(case(kind, seed))[0].is_rejected for seed in range(300)) for kind in KINDS}
    assert min(passed.values()) > 300 / 10
    assert sum(passed.values()) > 300 * len(KINDS) / 4


@pytest.mark.anyio
@pytest.mark.parametrize("name", FOUND)
async def test_what_was_found_once_stays_mended(name: str) -> None:
    one = FOUND[name]
    oracles = [oracle for oracle in ORACLES if oracle.reading in PLACES[one.place].readings]
    assert (await judge(one, oracles))[1] == []
