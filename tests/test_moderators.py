"""What every moderator that comes along has to do alike, against services that speak as their vendors document."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from doubles import BARE, Check
from fake_moderators import (
    AZURE_STEPS,
    CHAT_STEPS,
    LISTED,
    MISTRAL_STEPS,
    TOLD,
    FakeAzure,
    FakeChat,
    FakeMistral,
    llama_guard,
    policy_judge,
    qwen3guard,
    says,
)
from fake_openai import FakeOpenAI
from fake_service import Exchange, FakeService, Step, status
from prescreen import (
    Action,
    Cause,
    ConfigError,
    Decision,
    Image,
    ModeratorDown,
    Policy,
    Rejections,
    Screen,
    Text,
    moderators,
)
from prescreen.model import Item
from prescreen.moderators import (
    BUILT_IN,
    AzureModerator,
    KeywordModerator,
    LLMModerator,
    MistralModerator,
    OpenAIModerator,
)
from prescreen.moderators.service import ServiceModerator
from prescreen.moderators.transport import openai_headers

pytestmark = pytest.mark.once

KEY: Final = "test-key"
QUIET: Final = "seven violet lanterns"
POLICY: Final = "A text must not be about flags."
DATA_IMAGE: Final = f"data:image/png;base64,{b64encode(b'a quiet picture').decode()}"
LOUD_IMAGE: Final = f"data:image/png;base64,{b64encode(TOLD.encode()).decode()}"
GARBAGE: Final = ("html", "invalid json", "empty", "empty object", "error body", "null body")


@dataclass(frozen=True)
class Case:
    """A moderator, the service that it asks, and the category by which it flags TOLD."""

    name: str
    kind: Callable[..., Any]
    category: str
    fake: Callable[[], FakeService] | None = None
    odd: Sequence[str] = ()
    options: Mapping[str, Any] | None = None
    address: str = "base_url"

    def build(self, url: str = "", **more: Any) -> Any:
        options = {**(self.options or {}), **more}
        return self.kind(**options, **({"api_key": KEY, self.address: url} if self.fake else {}))

    def serve(self) -> FakeService:
        return (self.fake or FakeOpenAI)()  # the offline one asks nobody


def llm(style: str, category: str, judge: Callable[..., str], **options: Any) -> Case:
    fake, given = partial(FakeChat, judge), {"model": "judge", "style": style, **options}
    return Case(f"llm {style}", LLMModerator, category, fake, tuple(CHAT_STEPS), given)


CASES: Final = (
    Case("openai", OpenAIModerator, "violence", FakeOpenAI, ("too few", "too many", "nulls", "no categories")),
    Case("azure", AzureModerator, "Violence", FakeAzure, tuple(AZURE_STEPS), address="endpoint"),
    Case("mistral", MistralModerator, "violence_and_threats", FakeMistral, tuple(MISTRAL_STEPS)),
    llm("policy", "violence", policy_judge, policy=POLICY, categories=["violence", "spam"]),
    llm("llama-guard", "violent crimes", llama_guard),
    llm("qwen3guard", "Violent", qwen3guard),
    Case("keywords", KeywordModerator, "violence", options={"phrases": {"violence": [TOLD]}}),
)
REMOTE: Final = tuple(case for case in CASES if case.fake)
MISTRAL: Final = REMOTE[2]
LLAMA: Final = REMOTE[4]

every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_remote = pytest.mark.parametrize("case", REMOTE, ids=lambda case: case.name)


@pytest.fixture
def anyio_backend(door: str) -> str:
    return "asyncio" if door == "blocking" else door


@pytest.fixture
def service(case: Case) -> Iterator[FakeService]:
    with case.serve() as running:
        yield running


@pytest.fixture
async def moderator(case: Case, service: FakeService) -> Any:
    built = case.build(service.url)
    yield built
    await close(built)


@pytest.fixture
def screen(moderator: Any) -> Screen:
    return Screen(moderator=moderator, deadline=10, **BARE)


async def close(moderator: Any) -> None:
    """Close the clients, where there are any, so that no socket is left to the garbage collector."""
    if not isinstance(moderator, ServiceModerator):
        return
    client = moderator._async_clients.get().client
    if client is not None:
        await client.aclose()
    if moderator._sync_client is not None:
        moderator._sync_client[1].close()


def hits(decision: Decision) -> list[tuple[str, str]]:
    return [(reason.pointer, reason.category) for reason in decision.reasons]


def error_of(decision: Decision) -> str:
    """The name of the error that a decision was rejected for."""
    assert decision.is_rejected
    assert decision.cause in (Cause.UNAVAILABLE, Cause.REFUSED)
    return str(decision.problem).partition(":")[0]


def assert_clean(decision: Decision) -> None:
    assert (decision.cause, decision.action, decision.problem) == (Cause.CLEAN, Action.ALLOW, None)


# What is judged.


@every
async def test_what_is_clean_is_clean_and_what_is_flagged_is_rejected(check: Check, screen: Screen, case: Case) -> None:
    assert_clean(await check(screen, QUIET))
    assert hits(await check(screen, TOLD)) == [("", case.category)]


@every
async def test_each_of_many_texts_gets_its_own_verdict(check: Check, screen: Screen, case: Case) -> None:
    bad = {2, 3, 7, 19}
    texts = [Text(f"/{number}", f"{TOLD if number in bad else QUIET} {number}") for number in range(20)]
    assert hits(await check(screen, texts)) == [(f"/{number}", case.category) for number in sorted(bad)]


@every_remote
async def test_a_long_text_is_judged_in_pieces_wherever_the_bad_words_are(
    check: Check, case: Case, service: FakeService
) -> None:
    moderator = case.build(service.url, max_characters=200)
    screen = Screen(moderator=moderator, deadline=20)
    for before in (0, 330, 660):
        text = f"{'quiet ' * (before // 6)}{TOLD} {'quiet ' * (110 - before // 6)}"
        assert hits(await check(screen, text)) == [("", case.category)]
    assert len(service.requests) >= 3
    await close(moderator)


@every_remote
async def test_half_an_emoji_does_not_hide_the_text_around_it(check: Check, screen: Screen, case: Case) -> None:
    assert hits(await check(screen, f"\ud83d {TOLD} \udc00")) == [("", case.category)]


@every
async def test_what_a_moderator_reports_is_what_it_says_it_can_report(moderator: Any, case: Case) -> None:
    if moderator.categories is not None:
        assert case.category in moderator.categories
        Screen(moderator=moderator, policy=Policy(ignore=[case.category]))
    (verdict,) = await moderator.moderate([Text("", TOLD)])
    assert verdict.categories[case.category]
    assert moderator.categories is None or set(verdict.categories) <= set(moderator.categories)


IMAGES: Final = ("https://pictures.test/quiet.png", DATA_IMAGE, "data:image/png,flag%20violence")


@pytest.mark.parametrize("case", CASES[2:], ids=lambda case: case.name)
async def test_an_image_that_nobody_can_look_at_is_refused_and_hides_no_text(
    check: Check, moderator: Any, case: Case
) -> None:
    screen = Screen(moderator=moderator, deadline=10, on_error="allow")
    for url in IMAGES:
        decision = await check(screen, [Image("/0", url), Text("/1", QUIET)])
        assert error_of(decision) == "ModeratorRefused"
        assert case.name.split()[0] in str(decision.problem)
        assert hits(await check(screen, [Image("/0", url), Text("/1", TOLD)])) == [("/1", case.category)]


@pytest.mark.parametrize("case", REMOTE[1:], ids=lambda case: case.name)
async def test_an_outage_beside_a_refused_image_does_not_let_it_pass(
    check: Check, moderator: Any, service: FakeService
) -> None:
    service.script(status(500))
    screen = Screen(moderator=moderator, deadline=10, on_error="allow")
    decision = await check(screen, [Image("/0", IMAGES[0]), Text("/1", QUIET)])
    assert error_of(decision) == "ModeratorRefused"


# Answers that are none.


UNSAID: Final = {
    "a line more",
    "a refusal",
    "a word more",
    "both words",
    "cut short",
    "filtered",
    "no content",
    "nothing",
    "prose",
    "thinking aloud",
}
"""Answers of a language model that a text can bring about: they are held against it, and nobody else judges it instead."""


@every_remote
async def test_an_odd_answer_never_counts_as_clean(
    check: Check, screen: Screen, case: Case, service: FakeService
) -> None:
    told = {}
    for step in (*GARBAGE, *case.odd):
        service.script(step)
        told[step] = error_of(await check(screen, QUIET))
    assert told == {step: "ModeratorRefused" if step in UNSAID else "BadVerdict" for step in (*GARBAGE, *case.odd)}


@every_remote
async def test_an_answer_of_20_megabytes_is_none(check: Check, screen: Screen, service: FakeService) -> None:
    service.script("huge")
    assert error_of(await check(screen, QUIET)) == "BadVerdict"


STATUSES: Final = {
    301: "ModeratorDown",
    400: "ModeratorRefused",
    401: "ModeratorDown",
    402: "ModeratorBusy",
    403: "ModeratorDown",
    404: "ModeratorDown",
    422: "ModeratorRefused",
    429: "ModeratorBusy",
    500: "ModeratorDown",
    503: "ModeratorDown",
}


@every_remote
async def test_a_status_is_the_named_error_and_not_asked_for_again(
    check: Check, moderator: Any, service: FakeService
) -> None:
    service.script(*map(status, STATUSES))
    # A screen for each: after some of them one would leave the service alone for a while.
    told = {code: error_of(await check(Screen(moderator=moderator, deadline=10), QUIET)) for code in STATUSES}
    assert told == STATUSES
    assert len(service.requests) == len(STATUSES)


def broken_off(exchange: Exchange) -> None:
    head = exchange.head(b"x" * 100, 429, **{"retry-after": "7"})
    exchange.write(head + b"x")
    exchange.drop()


def packed_badly(exchange: Exchange) -> None:
    exchange.send(b"no gzip", 429, **{"retry-after": "7", "content-encoding": "gzip"})


# Of what httpx leaves open where a body cannot be unpacked trio tells when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@every_remote
@pytest.mark.parametrize("step", [broken_off, packed_badly])
async def test_a_status_counts_although_its_body_cannot_be_read(
    check: Check, screen: Screen, service: FakeService, step: Step
) -> None:
    service.script(step)
    decision = await check(screen, QUIET)
    assert (error_of(decision), decision.retry_after) == ("ModeratorBusy", 7)
    assert len(service.requests) == 1


@every_remote
async def test_retry_after_ends_up_in_the_decision(check: Check, screen: Screen, service: FakeService) -> None:
    service.script(status(429, retry_after="7"))
    assert (await check(screen, QUIET)).retry_after == 7


@every_remote
async def test_a_verdict_counts_although_another_call_failed(
    check: Check, moderator: Any, case: Case, service: FakeService
) -> None:
    # Too much for one call, and no piece like another.
    texts = [Text(f"/{number}", f"{TOLD} {f'quiet {number} ' * 2_300}") for number in range(3)]
    service.script(status(500))
    decision = await check(Screen(moderator=moderator, deadline=10, on_error="allow"), texts)
    assert decision.is_rejected
    assert {category for _, category in hits(decision)} == {case.category}


@every_remote
async def test_nobody_is_followed_to_another_address(check: Check, screen: Screen, service: FakeService) -> None:
    with FakeOpenAI() as other:
        service.script(status(307, location=f"{other.url}/moderations"))
        assert error_of(await check(screen, QUIET)) == "ModeratorDown"
        assert other.requests == []


# Time and connections.


@every_remote
@pytest.mark.parametrize("step", ["stall", "stall body", "drip"])
async def test_the_deadline_holds(check: Check, moderator: Any, service: FakeService, step: str) -> None:
    await check(Screen(moderator=moderator, deadline=10), QUIET)  # the first call builds the client
    service.script(step)
    started = time.monotonic()
    assert error_of(await check(Screen(moderator=moderator, deadline=0.3), QUIET)) == "ModeratorTimeout"
    assert time.monotonic() - started < 10


@every_remote
async def test_a_dropped_connection_gets_one_more_try(
    check: Check, screen: Screen, case: Case, service: FakeService
) -> None:
    service.script("drop")
    assert hits(await check(screen, TOLD)) == [("", case.category)]
    service.script("drop", "drop body")
    assert error_of(await check(screen, QUIET)) == "ModeratorDown"
    assert len(service.requests) == 4


@every_remote
def test_one_event_loop_after_another_and_threads_share_a_moderator(case: Case) -> None:
    with case.serve() as service:
        moderator = case.build(service.url)
        screen = Screen(moderator=moderator, deadline=10)

        async def life(number: int) -> list[tuple[str, str]]:
            return hits(await screen.check(f"{TOLD} in life {number}"))

        for number in range(2):
            assert anyio.run(life, number) == [("", case.category)]
        with ThreadPoolExecutor(4) as pool:
            told = list(
                pool.map(lambda number: hits(screen.check_sync(f"{(QUIET, TOLD)[number % 2]} {number}")), range(12))
            )
        assert told == [[("", case.category)] if number % 2 else [] for number in range(12)]
        moderator._sync_client[1].close()


FORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_moderators import CASES, QUIET, TOLD
from prescreen import Screen

case = next(case for case in CASES if case.name == sys.argv[2])
screen = Screen(moderator=case.build(sys.argv[3]), deadline=10)
assert screen.check_sync(TOLD).categories == (case.category,)
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
for number in range(3):
    told = screen.check_sync(f"parent {number}" if child else f"child {TOLD} {number}").categories
    assert told == (() if child else (case.category,))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a platform without fork")
@pytest.mark.parametrize("case", [REMOTE[1], LLAMA], ids=lambda case: case.name)
def test_a_forked_process_uses_no_connection_of_its_parent(case: Case) -> None:
    with case.serve() as service:
        done = subprocess.run(
            [sys.executable, "-c", FORK, str(Path(__file__).parent), case.name, service.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        used = {
            who: {request.connection for request in service.requests if who in repr(request.json)}
            for who in ("parent", "child")
        }
    assert used["parent"]
    assert used["child"]
    assert used["parent"].isdisjoint(used["child"])


# What must not get out.


@every_remote
async def test_neither_key_nor_text_gets_into_logs_decision_or_repr(
    check: Check, screen: Screen, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    steps: list[str | Step] = ["answer", "drop", "html", says(QUIET), *map(status, (400, 401, 500, 429))]
    service.script(*steps)
    decisions = [await check(screen, QUIET) for _ in range(len(steps))]
    shown = (caplog.text, repr(decisions), repr(screen), repr(screen.moderator), *map(repr, caplog.records))
    assert len([record for record in caplog.records if record.name == "prescreen"]) == len(decisions)
    for told in shown:
        assert KEY not in told
        assert QUIET not in told


@pytest.mark.parametrize("case", REMOTE[1:], ids=lambda case: case.name)
async def test_what_is_for_openai_goes_nowhere_else(
    check: Check, case: Case, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
    for name in secrets:
        monkeypatch.setenv(name, f"secret-{name}")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: secret-gateway\nauthorization: Bearer secret-key\n")
    moderator = case.build(service.url)
    await check(Screen(moderator=moderator, deadline=10), QUIET)
    headers = service.requests[0].headers
    assert "secret-" not in repr(headers)
    key = {"azure": ("ocp-apim-subscription-key", KEY)}.get(case.name, ("authorization", f"Bearer {KEY}"))
    assert [(name, value) for name, value in headers.items() if KEY in value] == [key]
    assert case.name != "azure" or "authorization" not in headers
    await close(moderator)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPENAI_ORG_ID", "\u00f6rg"),
        ("OPENAI_PROJECT_ID", "a\r\nX-Other: b"),
        ("OPENAI_CUSTOM_HEADERS", "X-Gateway: caf\u00e9"),
    ],
)
def test_a_header_of_the_environments_that_cannot_be_sent_is_told_at_once(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match="OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS") as raised:
        OpenAIModerator(api_key=KEY)
    assert value not in str(raised.value)


async def test_what_the_environment_says_for_openai_goes_to_the_one_who_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://[no address")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: west\nAuthorization: Bearer another")
    with FakeOpenAI() as service:
        moderator = OpenAIModerator(api_key=KEY, base_url=service.url)
        await moderator.moderate([Text("", QUIET)])
        (request,) = service.requests
        await close(moderator)
    headers = request.headers
    assert (headers["openai-organization"], headers["x-gateway"]) == ("org-1", "west")
    assert headers["authorization"] == f"Bearer {KEY}"
    assert not [name for name in headers if name.startswith("x-stainless")]


def test_no_key_is_no_key_at_openais_own_address_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer another")
    assert "authorization" not in openai_headers("")


@pytest.mark.parametrize("case", REMOTE, ids=lambda case: case.name)
def test_an_address_that_is_none_is_told_at_once(case: Case) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        case.build("https://example.com:port")


@pytest.mark.parametrize("value", [float("nan"), date(2026, 1, 1), {1, 2}, "\ud800"])
def test_a_parameter_that_json_has_no_word_for_is_told_at_once(value: object) -> None:
    with pytest.raises(ConfigError, match="parameters"):
        LLMModerator(model="judge", style="llama-guard", api_key=KEY, parameters={"seed": value})


async def test_what_cannot_be_said_in_json_is_an_error_that_does_not_quote_it() -> None:
    moderator = OpenAIModerator(model="\ud800", api_key=KEY, base_url="http://127.0.0.1:9")
    with pytest.raises(ModeratorDown) as raised:
        await moderator.moderate([Text("", QUIET)])
    with pytest.raises(ModeratorDown):
        moderator.moderate_sync([Text("", QUIET)], 1)
    assert QUIET not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__cause__ is None
    await close(moderator)


def test_a_moderator_that_nobody_needs_any_more_leaves_no_open_connection() -> None:
    with FakeOpenAI() as service:
        moderator = OpenAIModerator(api_key=KEY, base_url=service.url)
        moderator.moderate_sync([Text("", QUIET)], 10)
        client = moderator._sync_client[1]
        del moderator
        gc.collect()
        assert client.is_closed


# Configuration.


def test_the_classes_can_be_imported_from_the_package_and_cost_nothing_before() -> None:
    script = """
import sys
import prescreen.moderators as moderators
heavy = {"openai", "pydantic", "anyio", "prescreen.moderators.openai"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert set(moderators.__all__) <= set(dir(moderators))
for name in moderators.__all__:
    assert getattr(getattr(moderators, name), "__name__", "AnyModerator") == name
try:
    moderators.Nobody
except AttributeError as error:
    assert "Nobody" in str(error)
else:
    raise AssertionError
assert "openai" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert moderators.FirstOf.__module__ == "prescreen.moderators.layers"


@pytest.mark.parametrize("case", [REMOTE[1], MISTRAL, LLAMA], ids=lambda case: case.name)
def test_a_file_names_a_moderator_and_the_environment_has_its_key(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = case.name.split()[0]
    with case.serve() as service:
        monkeypatch.setenv(
            {"azure": "CONTENT_SAFETY_KEY", "mistral": "MISTRAL_API_KEY"}.get(name, "OPENAI_API_KEY"), KEY
        )
        monkeypatch.setenv("CONTENT_SAFETY_ENDPOINT", service.url)
        written = dict(case.options or {}) | ({} if name == "azure" else {"base_url": service.url})
        lines = [
            f'moderator = "{name}"',
            f"[moderators.{name}]",
            *(f'{key} = "{value}"' for key, value in written.items()),
        ]
        (tmp_path / "prescreen.toml").write_text("\n".join(lines))
        screen = Screen(tmp_path / "prescreen.toml", deadline=10)
        assert screen.check_sync(TOLD).categories == (case.category,)
        assert screen.moderator.name == name
        screen.moderator.call_sync.__self__._sync_client[1].close()  # type: ignore[union-attr]


FAULTS: Final[list[tuple[str, dict[str, Any], str, str]]] = [
    ("azure", {"api_key": ""}, "api_key", "CONTENT_SAFETY_KEY"),
    ("azure", {"endpoint": ""}, "endpoint", "CONTENT_SAFETY_ENDPOINT"),
    ("azure", {"endpoint": "my-resource"}, "endpoint", "http"),
    ("azure", {"flag_at": 0}, "flag_at", "1 to 7"),
    ("azure", {"flag_at": 8}, "flag_at", "1 to 7"),
    ("azure", {"flag_at": "4"}, "flag_at", "1 to 7"),
    ("azure", {"blocklists": "lanterns"}, "blocklists", "['first', 'second']"),
    ("azure", {"blocklists": ["a/b"]}, "blocklists", "64"),
    ("azure", {"halt_on_blocklist_hit": 1}, "halt_on_blocklist_hit", "true nor false"),
    ("azure", {"max_characters": 10_001}, "max_characters", "at most 10000"),
    ("mistral", {"api_key": ""}, "api_key", "MISTRAL_API_KEY"),
    ("mistral", {"model": ""}, "model", "mistral-moderation-latest"),
    ("mistral", {"max_characters": 5}, "max_characters", "at least 100"),
    ("llm", {"model": ""}, "model", "gpt-oss-safeguard-20b"),
    ("llm", {"api_key": None}, "api_key", "set OPENAI_API_KEY, or write api_key = '' if the server wants none"),
    ("llm", {"policy": " "}, "policy", "in words"),
    ("llm", {"policy": 7}, "policy", "in words"),
    ("llm", {"style": "oracle"}, "policy", "its own"),
    ("llm", {"style": "oracle", "policy": ""}, "style", "'llama-guard'"),
    ("llm", {"style": "llama-guard"}, "policy", "its own"),
    ("llm", {"style": "qwen3guard", "policy": "", "categories": ["a"]}, "categories", "its own"),
    ("llm", {"categories": "a"}, "categories", "['first', 'second']"),
    ("llm", {"categories": ["a, b"]}, "categories", "comma"),
    ("llm", {"categories": ["a\nb"]}, "categories", "line end"),
    ("llm", {"controversial": "maybe"}, "controversial", "'ignore'"),
    ("llm", {"max_tokens": 0}, "max_tokens", "at least 1"),
    ("llm", {"max_tokens": True}, "max_tokens", "at least 1"),
    ("llm", {"parameters": {"messages": []}}, "parameters", "without messages, model, n, stream"),
    ("llm", {"parameters": 7}, "parameters", "table"),
]
SANE: Final[dict[str, dict[str, Any]]] = {
    "azure": {"api_key": KEY, "endpoint": "https://my-resource.example.com"},
    "mistral": {"api_key": KEY},
    "llm": {"api_key": KEY, "model": "judge", "policy": POLICY},
}


@pytest.mark.parametrize(("name", "options", "key", "problem"), FAULTS)
def test_what_cannot_work_is_found_when_the_screen_is_built(
    name: str, options: dict[str, Any], key: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CONTENT_SAFETY_KEY", "CONTENT_SAFETY_ENDPOINT", "MISTRAL_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    Screen(moderator=name, moderators={name: SANE[name]})
    with pytest.raises(ConfigError) as caught:
        Screen(moderator=name, moderators={name: SANE[name] | options})
    assert caught.value.key == f"moderators.{name}.{key}"
    assert problem in caught.value.problem
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", sorted(SANE))
def test_a_category_that_a_moderator_does_not_have_is_found_at_once(name: str) -> None:
    assert name in BUILT_IN
    with pytest.raises(ConfigError, match="has no category 'violense'"):
        Screen(moderator=name, moderators={name: SANE[name]}, policy=Policy(ignore=["violense"]))


# Azure alone.


@pytest.fixture
def azure() -> Iterator[FakeService]:
    with FakeAzure() as running:
        yield running


def ask_azure(
    azure: FakeService, items: str | Sequence[Item], policy: Policy | None = None, **options: Any
) -> Decision:
    moderator = AzureModerator(endpoint=f"{azure.url}/", api_key=KEY, **options)
    decision = Screen(moderator=moderator, deadline=10, policy=policy or Policy()).check_sync(items)
    assert moderator._sync_client
    moderator._sync_client[1].close()
    return decision


def test_azure_is_asked_by_the_documented_version_for_all_eight_severities(azure: FakeService) -> None:
    ask_azure(azure, QUIET)
    (request,) = azure.requests
    assert request.path == "/contentsafety/text:analyze?api-version=2024-09-01"
    assert request.json == {"text": QUIET, "outputType": "EightSeverityLevels"}


@pytest.mark.parametrize(("flag_at", "severity", "is_hit"), [(4, 3, False), (4, 4, True), (2, 2, True), (7, 6, False)])
def test_a_severity_is_a_hit_from_where_you_say(
    azure: FakeService, flag_at: int, severity: int, *, is_hit: bool
) -> None:
    decision = ask_azure(azure, f"severity Sexual {severity}", flag_at=flag_at)
    assert decision.categories == (("Sexual",) if is_hit else ())


def test_a_score_is_a_seventh_of_the_severity(azure: FakeService) -> None:
    decision = ask_azure(azure, "severity Hate 3", Policy(thresholds={"Hate": 3 / 7}))
    assert [(reason.category, reason.score) for reason in decision.reasons] == [("Hate", 3 / 7)]
    assert_clean(ask_azure(azure, "severity Hate 3", Policy(thresholds={"Hate": 0.43})))


@pytest.mark.parametrize("halt", [False, True])
def test_a_term_of_a_blocklist_is_a_hit(azure: FakeService, *, halt: bool) -> None:
    options: dict[str, Any] = {"blocklists": ["lanterns"], "halt_on_blocklist_hit": halt}
    assert ask_azure(azure, LISTED, **options).categories == ("blocklist",)
    assert set(ask_azure(azure, f"{LISTED} {TOLD}", **options).categories) == {"blocklist"} | (
        set() if halt else {"Violence"}
    )
    assert_clean(ask_azure(azure, QUIET, **options))
    assert azure.requests[0].json["blocklistNames"] == ["lanterns"]
    azure.script("empty categories", "one category missing")
    assert error_of(ask_azure(azure, QUIET, **options)) == "BadVerdict"
    assert error_of(ask_azure(azure, QUIET, **options)) == "BadVerdict"


def test_azure_looks_at_images_in_data_urls(azure: FakeService) -> None:
    options: dict[str, Any] = {"blocklists": ["lanterns"]}
    decision = ask_azure(azure, [Image("/0", DATA_IMAGE), Image("/1", LOUD_IMAGE), Text("/2", QUIET)], **options)
    assert hits(decision) == [("/1", "Violence")]
    looked_at = [request for request in azure.requests if request.path.startswith("/contentsafety/image:analyze?")]
    assert looked_at[0].json == {"image": {"content": b64encode(b"a quiet picture").decode()}}


@pytest.mark.parametrize(
    "url",
    [
        "https://pictures.test/flag.png",
        "data:image/png,flag%20violence",
        "data:image/png;base64,",
        "data:image/png;base64,AAA%3D",
        "data:image/png;base64,AAAA====",
    ],
)
def test_any_other_image_is_refused_by_azure(azure: FakeService, url: str) -> None:
    assert hits(ask_azure(azure, [Image("/0", url), Text("/1", TOLD)])) == [("/1", "Violence")]
    assert error_of(ask_azure(azure, [Image("/0", url), Text("/1", QUIET)])) == "ModeratorRefused"


def test_no_term_of_a_list_is_claimed_to_be_missing_from_an_image(azure: FakeService) -> None:
    moderator = AzureModerator(endpoint=azure.url, api_key=KEY, blocklists=["lanterns"])
    of_text, of_image = moderator.moderate_sync([Text("", QUIET), Image("", DATA_IMAGE)], 10)
    assert set(of_text.categories) - set(of_image.categories) == {"blocklist"}
    assert moderator._sync_client
    moderator._sync_client[1].close()


# Mistral alone.


def test_mistrals_texts_go_in_one_call_as_a_list_of_strings() -> None:
    with FakeMistral() as service:
        moderator = MISTRAL.build(service.url)
        Screen(moderator=moderator, deadline=10).check_sync([Text(f"/{n}", f"text {n}") for n in range(9)])
        (request,) = service.requests
        assert request.json == {"model": "mistral-moderation-latest", "input": [f"text {n}" for n in range(9)]}
        moderator._sync_client[1].close()


# Words for end users.


@pytest.mark.parametrize(
    "category", ["self-harm/intent", "SelfHarm", "selfharm", "suicide & self-harm", "Suicide & Self-Harm", "SELF_HARM"]
)
def test_self_harm_gets_support_whatever_a_moderator_calls_it(category: str) -> None:
    decision = Decision(Action.REJECT, (moderators_reason(category),), cause=Cause.FLAGGED)
    assert b"You are not alone" in Rejections()(decision).body


@pytest.mark.parametrize("category", ["Violence", "harm", "selfish", "privacy"])
def test_nothing_else_is_taken_for_self_harm(category: str) -> None:
    decision = Decision(Action.REJECT, (moderators_reason(category),), cause=Cause.FLAGGED)
    assert b"You are not alone" not in Rejections()(decision).body


def moderators_reason(category: str) -> Any:
    from prescreen import Reason

    return Reason(category, "/message")


def test_a_wire_name_that_is_no_word_is_put_into_words() -> None:
    assert Rejections().words("jailbreaking") == "an attempt to get around the rules"
    assert Rejections(wording={"pii": "an address"}).words("pii") == "an address"
