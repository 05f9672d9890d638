"""What is told of screenings and calls, to observers, to OpenTelemetry's own SDK and to Prometheus; and what is told to nobody."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar

import anyio
import pytest
from anyio import create_task_group, to_thread
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from doubles import BAD, Client, Recorder, call, whole
from prescreen import (
    AnyOf,
    Asked,
    Called,
    Cause,
    CircuitChanged,
    ConfigError,
    Image,
    ModeratorDown,
    ModeratorError,
    Record,
    Rule,
    Screen,
    StoreError,
    Strikes,
    Text,
    Verdict,
)
from prescreen.asgi import ModerationMiddleware, Receive, Scope, Send
from prescreen.model import Event, Item
from prescreen.stores.memory import MemoryStore
from prescreen.telemetry import OpenTelemetry, Prometheus, measures
from prescreen.wsgi import ModerationMiddleware as WSGIMiddleware

T = TypeVar("T")
Ask = Callable[[Screen, str], Coroutine[Any, Any, None]]

SECRET: Final = "a secret of the tests, long enough"
USER: Final = "user-7"
CHAT: Final = Rule("POST /chat", json="$.message")
PATIENT: Final = 30.0
SENT: Final = {"content-type": "application/json", "x-user-id": USER}


class Service(Recorder):
    """A Recorder whose verdicts are kept, and whose calls end when they are told to, some of them badly."""

    name = "service"
    identity: str | None = "service 1"

    def __init__(self, *errors: ModeratorError, is_open: bool = True) -> None:
        super().__init__()
        self.errors = list(errors)
        self.spent = 0.0
        self.opened = threading.Event()
        if is_open:
            self.opened.set()

    def moderate(self, items: Sequence[Item]) -> list[Verdict]:  # type: ignore[override]  # in a worker thread
        return self.moderate_sync(items, PATIENT)

    def moderate_sync(self, items: Sequence[Item], timeout: float) -> list[Verdict]:
        started = perf_counter()
        verdicts = super().moderate_sync(items, timeout)
        assert self.opened.wait(PATIENT)
        self.spent += perf_counter() - started
        if self.errors:
            raise self.errors.pop(0)
        return verdicts


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def closed() -> Iterator[Service]:
    made = Service(is_open=False)
    yield made
    made.opened.set()


def over_asgi(screen: Screen) -> ModerationMiddleware:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return ModerationMiddleware(app, screen)


async def ask_asgi(screen: Screen, text: str) -> None:
    body = json.dumps({"message": text}).encode()
    headers = [(name.encode(), value.encode()) for name, value in SENT.items()]
    await Client(whole(body)).request(
        over_asgi(screen), headers=[*headers, (b"content-length", str(len(body)).encode())]
    )


async def ask_wsgi(screen: Screen, text: str) -> None:
    body = json.dumps({"message": text}).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/chat",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_X_USER_ID": USER,
        "wsgi.input": io.BytesIO(body),
    }

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"done"]

    await to_thread.run_sync(call, WSGIMiddleware(app, screen), environ)


async def ask_check(screen: Screen, text: str) -> None:
    await screen.check(text, subject=USER)


async def ask_check_sync(screen: Screen, text: str) -> None:
    await to_thread.run_sync(lambda: screen.check_sync(text, subject=USER))


@pytest.fixture(params=[ask_asgi, ask_wsgi, ask_check, ask_check_sync], ids=["asgi", "wsgi", "check", "check_sync"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """A request or a text, with a user, through one of the doors of a screen."""
    found: Ask = request.param
    return found


@pytest.fixture
def events() -> list[Event]:
    return []


def of(kind: type[T], events: Sequence[Event]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def made(service: Any, *observers: Any, **options: Any) -> Screen:
    given = {"rules": [CHAT], "subject": "header:x-user-id", "secret": SECRET, "deadline": PATIENT, **options}
    return Screen(moderator=service, observers=observers, **given)


async def until(holds: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENT):
        while not holds():  # noqa: ASYNC110  # what it looks at has no event to wait for
            await anyio.sleep(0.005)


# Events


async def test_a_record_says_how_long_each_stage_took_and_names_no_other(
    ask: Ask, service: Service, events: list[Event]
) -> None:
    await ask(made(service, events.append, strikes=Strikes(limit=3)), BAD)
    [record] = of(Record, events)
    is_request = record.decision.rule is not None
    assert set(record.stages) == {"decode", "store", "moderator"} | ({"read"} if is_request else set())
    assert all(seconds > 0 for seconds in record.stages.values())
    assert record.latency == record.stages["moderator"] >= service.spent


async def test_what_the_head_decides_has_no_time_for_a_body_or_a_moderator(events: list[Event]) -> None:
    headers = [(b"content-type", b"image/png"), (b"content-length", b"9")]
    await Client(whole(b"123456789")).request(over_asgi(made(Recorder(), events.append)), headers=headers)
    [record] = of(Record, events)
    assert (record.decision.cause, set(record.stages)) == (Cause.UNSUPPORTED, set())


async def test_the_wait_for_a_body_is_reading_also_when_it_never_comes_and_no_decoding(events: list[Event]) -> None:
    screen = made(Recorder(), events.append, receive_timeout=0.05)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    await Client([]).request(over_asgi(screen), headers=[*headers, (b"expect", b"100-continue")])
    [record] = of(Record, events)
    assert record.decision.cause is Cause.SLOW
    assert record.stages["read"] >= 0.05
    assert set(record.stages) == {"read"}


async def test_what_is_asked_and_what_is_called_is_told_with_its_tokens(
    ask: Ask, service: Service, events: list[Event]
) -> None:
    screen = made(service, events.append)
    for _ in range(2):
        await ask(screen, "four and a half tokens")  # 22 characters
    assert of(Asked, events) == [Asked("service", 1), Asked("service", 1, cached=1, tokens_saved=6)]
    [called] = of(Called, events)
    assert (called.moderator, called.texts, called.images, called.tokens, called.error) == ("service", 1, 0, 6, None)
    assert called.seconds >= service.spent > 0
    assert [type(event) for event in events[:3]] == [Asked, Called, Record]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_texts_that_share_a_call_are_told_as_joined(ask: Ask, closed: Service, events: list[Event]) -> None:
    screen = made(closed, events.append)
    async with create_task_group() as group:
        group.start_soon(ask, screen, "the same text")
        await until(lambda: closed.calls)
        group.start_soon(ask, screen, "the same text")
        await until(lambda: len(of(Asked, events)) == 2)
        closed.opened.set()
    assert of(Asked, events) == [Asked("service", 1), Asked("service", 1, joined=1, tokens_saved=4)]
    assert len(of(Called, events)) == 1


async def test_a_text_that_a_request_has_twice_is_asked_once_and_a_linked_image_each_time(
    service: Service, events: list[Event]
) -> None:
    link = Image("/2", "https://example.com/a.png")
    await made(service, events.append).check([Text("/0", "twice"), Text("/1", "twice"), link, link])
    assert of(Asked, events) == [Asked("service", 4, joined=1, tokens_saved=2)]
    assert sorted((each.texts, each.images) for each in of(Called, events)) == [(0, 1), (0, 1), (1, 0)]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_wait_for_a_call_is_told_of_the_call(ask: Ask, closed: Service, events: list[Event]) -> None:
    screen, began = made(closed, events.append, max_in_flight=1), perf_counter()
    async with create_task_group() as group:
        group.start_soon(ask, screen, "first")
        await until(lambda: closed.calls)
        group.start_soon(ask, screen, "second")
        await until(lambda: len(of(Asked, events)) == 2)
        before = perf_counter()
        await anyio.sleep(0.01)
        waited = perf_counter() - before
        closed.opened.set()
    first, second = of(Called, events)
    assert waited <= second.queued <= perf_counter() - began
    assert 0 <= first.queued <= perf_counter() - began
    assert first.seconds >= waited


async def test_a_moderator_without_an_identity_is_told_of_as_well(ask: Ask, events: list[Event]) -> None:
    screen = made(Recorder(), events.append)
    await ask(screen, "a text")
    assert of(Asked, events) == [Asked("recorder", 1)]
    assert [(each.moderator, each.texts, each.tokens) for each in of(Called, events)] == [("recorder", 1, 2)]


async def test_of_a_layer_the_members_are_told_of_and_nobody_twice(
    ask: Ask, service: Service, events: list[Event]
) -> None:
    await ask(made(AnyOf(service, Recorder()), events.append), "a text")
    assert sorted(each.moderator for each in of(Asked, events)) == ["recorder", "service"]
    assert sorted(each.moderator for each in of(Called, events)) == ["recorder", "service"]
    assert [each.moderator for each in of(Record, events)] == ["any(service, recorder)"]


async def test_an_outage_is_told_by_its_calls_its_circuit_and_the_rungs_that_help(
    ask: Ask, events: list[Event]
) -> None:
    service = Service(ModeratorDown("gone"))
    breaker = {"calls": 1, "probe": 60}
    options = {"on_error": ["stale", "keywords", "flag"], "breaker": breaker, "cache": {"ttl": 1e-9, "stale": 60}}
    screen = made(service, events.append, **options)
    for _ in range(2):
        await ask(screen, "a text")
    assert [(each.moderator, each.error) for each in of(Called, events)] == [
        ("service", "ModeratorDown"),
        ("keywords", None),
        ("keywords", None),
    ]
    assert of(CircuitChanged, events) == [CircuitChanged("service", "open")]
    # The second question finds the circuit open, and is not one.
    assert [(each.moderator, each.rung) for each in of(Asked, events)] == [
        ("service", None),
        ("service", "stale"),
        ("keywords", "keywords"),
        ("service", "stale"),
        ("keywords", "keywords"),
    ]
    assert [each.decision.rung for each in of(Record, events)] == ["keywords"] * 2


async def test_a_verdict_that_has_expired_and_helps_is_told_as_one(ask: Ask, events: list[Event]) -> None:
    service = Service()
    screen = made(service, events.append, on_error=["stale", "reject"], cache={"ttl": 1e-9, "stale": 60})
    await ask(screen, "a text")
    service.errors = [ModeratorDown("gone")]
    await ask(screen, "a text")
    assert of(Asked, events)[1:] == [Asked("service", 1), Asked("service", 1, 1, 0, 2, "stale")]
    assert [each.decision.rung for each in of(Record, events)] == [None, "stale"]


async def test_a_circuit_that_closes_again_is_told(ask: Ask, events: list[Event]) -> None:
    screen = made(Service(ModeratorDown("gone")), events.append, breaker={"calls": 1, "probe": 0.01}, cache=False)
    await ask(screen, "a text")
    await anyio.sleep(0.02)
    await ask(screen, "a text")
    assert [each.state for each in of(CircuitChanged, events)] == ["open", "half_open", "closed"]


async def test_a_call_that_ends_with_its_screening_is_told(events: list[Event]) -> None:
    async def hangs(items: Sequence[Item]) -> list[Verdict]:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.move_on_after(0.05):
        await made(hangs, events.append).check("a text")
    assert [each.error for each in of(Called, events)] == ["Cancelled"]


# Observers


class Broken:
    """An observer that fails."""

    def __call__(self, event: Event) -> None:
        raise RuntimeError(BAD)


async def test_an_observer_that_raises_harms_nothing_and_is_logged_once_without_its_message(
    ask: Ask, service: Service, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise ValueError(BAD)

    screen = made(service, Broken(), broken, Broken(), events.append)
    with caplog.at_level(logging.INFO, "prescreen"):
        for text in ("a text", "another"):
            await ask(screen, text)
    assert [record.decision.cause for record in of(Record, events)] == [Cause.CLEAN] * 2
    assert len(of(Called, events)) == 2
    failures = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(failures) == 2
    assert re.search(r"the observer Broken failed, and may fail again: RuntimeError \(test_telemetry.py:", failures[0])
    assert re.search(r"the observer .*broken failed, .* ValueError", failures[1])
    assert BAD not in caplog.text


async def notes(event: Event) -> None:
    raise AssertionError


class Notes:
    async def __call__(self, event: Event) -> None:
        raise AssertionError


@pytest.mark.parametrize("wrong", ["app.metrics:note", notes, Notes()])
def test_what_cannot_be_told_is_a_mistake_in_the_configuration(wrong: Any, service: Service) -> None:
    with pytest.raises(ConfigError, match=r"observers\[1\]: .* is no plain callable \(`def`\)"):
        made(service, print, wrong)


def test_telemetry_that_there_is_not_is_a_mistake_in_the_configuration(service: Service) -> None:
    with pytest.raises(ConfigError, match=r"telemetry: .*neither 'opentelemetry' nor 'prometheus'"):
        made(service, telemetry=["prometheus", "statsd"])


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("opentelemetry", "opentelemetry", "otel"), ("prometheus", "prometheus_client", "prometheus")],
)
def test_a_missing_package_is_a_mistake_in_the_configuration_that_names_the_extra(
    name: str, package: str, extra: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"telemetry: run: pip install 'prescreen\[{extra}\]'"):
        made(service, telemetry=name)


def test_neither_package_is_imported_before_it_is_asked_for() -> None:
    script = """
import sys
from prescreen import Rule, Screen
from prescreen.telemetry import OpenTelemetry, Prometheus
Screen(rules=[Rule("POST /chat", json="$.message")], moderator="keywords").check_sync("hello")
print(sorted({"opentelemetry", "prometheus_client"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# OpenTelemetry


class Otel:
    """OpenTelemetry's SDK, which keeps in memory what it would export."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._meters = MeterProvider([self._reader])
        self.observer = OpenTelemetry(self.tracers, self._meters)
        self._exported = ""

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._spans.get_finished_spans() if span.name == name]

    def points(self) -> Mapping[str, list[NumberDataPoint | HistogramDataPoint]]:
        """The data points by metric."""
        data = self._reader.get_metrics_data()
        assert data is not None
        self._exported += data.to_json()
        [resource] = data.resource_metrics
        [scope] = resource.scope_metrics
        assert scope.scope.name == "prescreen"
        return {metric.name: list(metric.data.data_points) for metric in scope.metrics}  # type: ignore[arg-type]  # none is exponential

    def exported(self) -> str:
        """All that leaves, as text."""
        self.points()
        return self._exported + "".join(span.to_json() for span in self._spans.get_finished_spans())


@pytest.fixture
def otel() -> Iterator[Otel]:
    running = Otel()
    yield running
    running.tracers.shutdown()
    running._meters.shutdown()


def attributes(of: Any) -> dict[str, Any]:
    assert of.attributes is not None
    return {key.removeprefix("prescreen."): value for key, value in of.attributes.items()}


async def test_opentelemetry_gets_a_span_of_each_screening_within_the_servers(
    ask: Ask, service: Service, otel: Otel
) -> None:
    with otel.tracers.get_tracer("server").start_as_current_span("POST /chat") as server:
        await ask(made(service, otel.observer), BAD)
    [span] = otel.spans("prescreen.screening")
    assert span.parent is not None
    assert span.parent.span_id == server.get_span_context().span_id
    said = attributes(span)
    stages = {key: value for key, value in said.items() if key.startswith("stage.")}
    assert set(stages) >= {"stage.decode", "stage.moderator"}
    assert span.start_time is not None
    assert span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(sum(stages.values()), abs=1e-6)
    assert re.fullmatch("[0-9a-f]{24}", said["decision.id"])
    assert (said["action"], said["cause"], said["categories"]) == ("reject", "flagged", ("violence",))
    assert (said["mode"], said["degraded"], said["texts"], said["images"]) == ("enforce", False, 1, 0)
    assert said.get("rule") in (None, "POST /chat")
    assert "rung" not in said
    assert (span.status.status_code, span.kind) == (StatusCode.UNSET, SpanKind.INTERNAL)


async def test_opentelemetry_gets_a_span_of_each_call_with_its_error(ask: Ask, otel: Otel) -> None:
    screen = made(Service(ModeratorDown("gone")), otel.observer)
    await ask(screen, "a text")
    await ask(screen, "a text")
    failed, good = otel.spans("prescreen.call")
    assert (failed.status.status_code, attributes(failed)["error.type"]) == (StatusCode.ERROR, "ModeratorDown")
    assert (good.status.status_code, good.kind) == (StatusCode.UNSET, SpanKind.CLIENT)
    said = attributes(good)
    assert (said["moderator"], said["texts"], said["images"], said["tokens"]) == ("service", 1, 0, 2)
    assert said["queued"] >= 0
    assert "error.type" not in said
    statuses = [span.status.status_code for span in otel.spans("prescreen.screening")]
    assert statuses == [StatusCode.ERROR, StatusCode.UNSET]


async def test_on_asgi_the_span_of_a_call_is_no_requests_since_it_may_be_for_several_and_on_wsgi_its_leaders(
    otel: Otel,
) -> None:
    for ask in (ask_asgi, ask_wsgi):
        with otel.tracers.get_tracer("server").start_as_current_span("POST /chat") as server:
            await ask(made(Service(), otel.observer), "a text")
    on_asgi, on_wsgi = otel.spans("prescreen.call")
    assert on_asgi.parent is None
    assert on_wsgi.parent is not None
    assert on_wsgi.parent.span_id == server.get_span_context().span_id


async def test_opentelemetry_gets_all_metrics(ask: Ask, otel: Otel) -> None:
    service = Service()
    screen = made(service, otel.observer, breaker={"calls": 3, "probe": 60})
    for text in (BAD, BAD, "a text"):
        await ask(screen, text)
    service.errors = [ModeratorDown("gone")] * 2
    for text in ("b", "c"):
        await ask(screen, text)
    points = otel.points()
    assert set(points) == {measure.name for measure in measures.MEASURES} - {"prescreen.store.failures"}
    by_cause = {attributes(point)["cause"]: point for point in points["prescreen.screenings"]}
    counts = {cause: _value(point) for cause, point in by_cause.items()}
    assert counts == {"flagged": 2, "clean": 1, "unavailable": 2}
    rule = attributes(by_cause["flagged"]).get("rule")
    expected = {"action": "reject", "cause": "unavailable", "mode": "enforce", "rung": "reject", "degraded": "false"}
    assert attributes(by_cause["unavailable"]) == expected | ({"rule": rule} if rule else {})
    [hits] = points["prescreen.hits"]
    assert (_value(hits), attributes(hits)["category"], attributes(hits)["action"]) == (2, "violence", "reject")
    sources = {attributes(point)["source"]: _value(point) for point in points["prescreen.items"]}
    assert sources == {"moderator": 4, "cache": 1}
    assert [_value(point) for point in points["prescreen.tokens.saved"]] == [6]
    assert [_value(point) for point in points["prescreen.tokens.sent"]] == [6 + 2 + 1 + 1]
    [circuit] = points["prescreen.circuit.open"]
    assert (_value(circuit), attributes(circuit)) == (1, {"moderator": "service"})
    calls = {attributes(point).get("error.type"): point for point in points["prescreen.call.duration"]}
    assert {error: point.count for error, point in calls.items() if isinstance(point, HistogramDataPoint)} == {
        None: 2,
        "ModeratorDown": 2,
    }
    [batch] = points["prescreen.call.items"]
    assert isinstance(batch, HistogramDataPoint)
    assert (batch.count, batch.sum, batch.explicit_bounds[:3]) == (4, 4, (1, 2, 4))
    stages = {attributes(point)["stage"]: point for point in points["prescreen.stage.duration"]}
    assert set(stages) - {"read"} == {"decode", "moderator", "queue"}
    assert all(isinstance(each, HistogramDataPoint) and each.explicit_bounds[0] < 0.001 for each in stages.values())


def _value(point: NumberDataPoint | HistogramDataPoint) -> float:
    assert isinstance(point, NumberDataPoint)
    return point.value


async def test_without_an_sdk_opentelemetry_costs_nothing_but_is_no_error(ask: Ask, service: Service) -> None:
    await ask(made(service, telemetry="opentelemetry"), "a text")
    assert service.seen == ["a text"]


# Prometheus


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def samples(registry: CollectorRegistry) -> list[Sample]:
    """What is there to scrape, read back."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return [sample for family in families for sample in family.samples if not sample.name.endswith("_created")]


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return sum(
        each.value for each in samples(registry) if each.name == name and labels.items() <= dict(each.labels).items()
    )


async def test_prometheus_can_scrape_all_metrics(ask: Ask, registry: CollectorRegistry) -> None:
    service = Service()
    screen = made(service, Prometheus(registry), breaker={"calls": 2, "rate": 0.1, "probe": 60}, on_error="flag")
    for text in (BAD, BAD):
        await ask(screen, text)
    service.errors = [ModeratorDown("gone")]
    await ask(screen, "a text")
    total = "prescreen_screenings_total"
    assert value(registry, total, action="reject", cause="flagged", degraded="false", rung="") == 2
    assert value(registry, total, action="flag", cause="unavailable", degraded="true", rung="flag") == 1
    assert value(registry, "prescreen_hits_total", category="violence", action="reject", mode="enforce") == 2
    assert value(registry, "prescreen_items_total", moderator="service", source="cache") == 1
    assert value(registry, "prescreen_items_total", moderator="service", source="moderator") == 2
    assert value(registry, "prescreen_tokens_saved_total", moderator="service") == 6
    assert value(registry, "prescreen_tokens_sent_total", moderator="service") == 8
    assert value(registry, "prescreen_circuit_open", moderator="service") == 1
    assert value(registry, "prescreen_call_items_sum", moderator="service") == 2
    assert value(registry, "prescreen_call_duration_seconds_count", error="") == 1
    assert value(registry, "prescreen_call_duration_seconds_count", error="ModeratorDown") == 1
    assert value(registry, "prescreen_stage_duration_seconds_count", stage="moderator") == 3
    assert value(registry, "prescreen_stage_duration_seconds_count", stage="queue") == 2
    assert value(registry, "prescreen_stage_duration_seconds_sum", stage="moderator") >= service.spent


async def test_a_circuit_that_is_closed_again_is_at_zero(registry: CollectorRegistry) -> None:
    screen = made(
        Service(ModeratorDown("gone")), Prometheus(registry), breaker={"calls": 1, "probe": 0.01}, cache=False
    )
    await screen.check("a text")
    assert value(registry, "prescreen_circuit_open") == 1
    await anyio.sleep(0.02)
    await screen.check("a text")
    assert value(registry, "prescreen_circuit_open") == 0
    assert [each.name for each in samples(registry) if "circuit" in each.name] == ["prescreen_circuit_open"]


def test_a_circuit_that_is_tried_out_is_not_closed() -> None:
    states = [list(measures.values(CircuitChanged("service", state))) for state in ("open", "half_open", "closed")]
    assert [value for [(_, value, _)] in states] == [1, 1, 0]


async def test_screens_share_the_default_registrys_metrics(service: Service) -> None:
    def count() -> float:
        return value(REGISTRY, "prescreen_screenings_total", cause="clean")

    screens = [
        made(each, telemetry=name) for each in (service, Service()) for name in ("prometheus", ["prometheus"] * 2)
    ]
    before = count()
    for screen in screens:
        await screen.check("a text")
    assert count() == before + 4


async def test_a_file_names_whom_to_tell(tmp_path: Path) -> None:
    file = tmp_path / "prescreen.toml"
    file.write_text('moderator = "keywords"\ntelemetry = ["prometheus", "opentelemetry"]\n')
    screen = Screen(file)
    before = value(REGISTRY, "prescreen_call_items_sum", moderator="keywords")
    await screen.check("a text")
    assert value(REGISTRY, "prescreen_call_items_sum", moderator="keywords") == before + 1


class Gone(MemoryStore):
    """A store that has failed."""

    def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        raise StoreError("it is gone")


async def test_screenings_without_the_store_are_counted(
    ask: Ask, service: Service, registry: CollectorRegistry
) -> None:
    screen = made(service, Prometheus(registry), strikes=Strikes(limit=3), store=Gone(8, 1 << 20), lists=True)
    await ask(screen, "a text")
    assert value(registry, "prescreen_store_failures_total") == 1
    assert value(registry, "prescreen_stage_duration_seconds_count", stage="store") == 1


async def test_categories_that_a_moderator_makes_up_without_end_are_counted_as_others(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "_categories", set())

    def inventive(items: Sequence[Item]) -> list[Verdict]:
        return [Verdict(True, {item.value: True}) for item in items if isinstance(item, Text)]

    screen = made(inventive, Prometheus(registry))
    for number in range(150):
        await screen.check(f"category {number % 140}")
    names = {each.labels["category"] for each in samples(registry) if each.name == "prescreen_hits_total"}
    assert len(names) == 129
    assert value(registry, "prescreen_hits_total", category="other") == 12
    assert value(registry, "prescreen_hits_total", category="category 3") == 2


@pytest.mark.once
def test_with_several_processes_prometheus_adds_them_up(tmp_path: Path) -> None:
    script = """
import os
from prescreen import ModeratorDown, Screen, Verdict
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

def down(items):
    raise ModeratorDown("gone")

screen = Screen(moderator=down, telemetry="prometheus", breaker={"calls": 1, "probe": 60})
for _ in range(2):
    if not (child := os.fork()):
        screen.check_sync("a text")
        os._exit(0)
    os.waitpid(child, 0)
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
multiprocess.mark_process_dead(child)
print(generate_latest(registry).decode())
"""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    counts = [line.rpartition(" ")[2] for line in lines if line.startswith("prescreen_screenings_total{")]
    assert counts == ["2.0", "2.0"]
    gauges = [line for line in lines if line.startswith("prescreen_circuit_open")]
    assert gauges == ['prescreen_circuit_open{moderator="down"} 2.0', 'prescreen_circuit_open{moderator="down"} 1.0']


# What nobody is told


async def test_no_text_and_no_user_is_in_anything_exported(ask: Ask, otel: Otel, registry: CollectorRegistry) -> None:
    service = Service()
    observers = (otel.observer, Prometheus(registry))
    screen = made(service, *observers, strikes=Strikes(limit=3), on_error=["stale", "flag"])
    service.errors = [ModeratorDown(BAD)]
    for text in (BAD, f"the {BAD} again", "an ordinary sentence", "x" * 5000):
        await ask(screen, text)
    exported = otel.exported() + generate_latest(registry).decode()
    assert "violence" in exported
    assert "ModeratorDown" in exported
    for secret in (BAD, "ordinary", "xxx", USER, screen.subject(USER), screen.subject(USER)[4:]):
        assert secret not in exported


def test_labels_are_of_few_values_and_none_is_a_user_or_a_decision() -> None:
    allowed = {
        "action",
        "category",
        "cause",
        "degraded",
        "error",
        "mode",
        "moderator",
        "rule",
        "rung",
        "source",
        "stage",
    }
    assert {label for measure in measures.MEASURES for label in measure.labels} == allowed


def test_every_metric_is_explained_to_the_operator() -> None:
    text = (Path(__file__).parents[1] / "docs" / "operations.md").read_text("utf-8")
    for measure in measures.MEASURES:
        [line] = [line for line in text.splitlines() if line.startswith(f"| `{measure.name}`")]
        assert re.findall(r"`(\w+)`", line.split("|")[3]) == list(measure.labels)
