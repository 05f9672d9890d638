"""The way of a request, step by step, without a loop: the test is the driver."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Final

import pytest

from prescreen.document import Limits
from prescreen.drive import drive, drive_sync
from prescreen.errors import (
    BadVerdict,
    ClientGone,
    Incomplete,
    LengthRequired,
    ModeratorBusy,
    ModeratorDown,
    ModeratorError,
    ModeratorRefused,
    ModeratorTimeout,
    Oversize,
    RequestError,
    Slow,
    Unreadable,
    Unsupported,
)
from prescreen.flow import screen_items, screen_request
from prescreen.log import event, log_decision
from prescreen.model import Action, Cause, Decision, Head, Image, Item, Mode, Reason, Record, Text, Verdict
from prescreen.plan import Plan
from prescreen.policy import Policy
from prescreen.rule import Rule
from prescreen.steps import Answer, Flow, Moderate, ReadBody, Report, Step, Work
from prescreen.target import Targets

PHRASE: Final = "seven violet lanterns"
PICTURE: Final = "data:image/png;base64,iVBORw0KGgoAAAAASUVORK5CYII="
CHAT: Final = Rule("POST /chat", json=["$.message", "$.parts"], query="q", max_body=2000)
ACTIONS: Final = list(Action)
NEARLY_TWO: Final[Any] = pytest.approx(2.0, abs=1)  # seconds: of the deadline, what is left when the moderator is asked

CLEAN: Final = Verdict(flagged=False, categories={"violence": False}, model="judge-1")
BAD: Final = Verdict(flagged=True, categories={"violence": True}, scores={"violence": 0.9}, model="judge-1")


def plan(rule: Rule = CHAT, **changes: Any) -> Plan:
    options: dict[str, Any] = {
        "targets": Targets([rule], Limits()),
        "policy": Policy(),
        "limits": Limits(),
        "mode": Mode.ENFORCE,
        "on_error": Action.REJECT,
        "deadline": 2.0,
        "receive_timeout": 30.0,
        "moderator": "judge",
    }
    return Plan(**(options | changes))


def head(body: bytes = b"", content_type: bytes = b"application/json", query: bytes = b"", **others: bytes) -> Head:
    headers = {"content-type": content_type, "content-length": str(len(body)).encode()} | {
        name.replace("_", "-"): value for name, value in others.items()
    }
    return Head("POST", "/chat", query=query, headers=tuple((name.encode(), each) for name, each in headers.items()))


def begin(flow: Flow[Decision]) -> Step:
    return past_work(flow, next(flow))


def past_work(flow: Flow[Decision], step: Step) -> Step:
    """The first step that needs more than doing: what is only work is done here."""
    while isinstance(step, Work):
        try:
            answer = step.run()
        except RequestError as error:
            step = flow.throw(error)
        else:
            step = flow.send(answer)
    return step


def play(flow: Flow[Decision], *answers: Answer | Exception) -> tuple[Decision, list[Step]]:
    """Run a flow to its end on these answers, errors thrown in; its decision and its steps."""
    steps = [begin(flow)]
    for answer in answers:
        try:
            steps.append(past_work(flow, flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)))
        except StopIteration as end:
            decision: Decision = end.value
            return decision, steps
    raise AssertionError(f"the flow waits for an answer to {steps[-1]}")


def message(text: object = PHRASE) -> bytes:
    return json.dumps({"message": text}).encode()


def kinds(steps: Sequence[Step]) -> list[type[Step]]:
    return [type(step) for step in steps]


def record_of(steps: Sequence[Step]) -> Record:
    report = steps[-1]
    assert isinstance(report, Report)
    return report.record


# Requests that are screened


def test_a_request_is_read_then_moderated_then_reported_then_decided() -> None:
    body = message()
    flow = screen_request(plan(), (CHAT,), head(body))
    assert next(flow) == ReadBody(limit=2000, timeout=30.0)
    assert past_work(flow, flow.send(body)) == Moderate((Text("/message", PHRASE),), NEARLY_TWO)
    report = flow.send([BAD])
    assert isinstance(report, Report)
    with pytest.raises(StopIteration) as end:
        flow.send(None)
    decision = end.value.value
    assert report.record.decision is decision
    assert decision.is_rejected
    assert decision == Decision(
        Action.REJECT,
        (Reason("violence", "/message", 0.9),),
        id=decision.id,
        cause=Cause.FLAGGED,
        rule="POST /chat",
    )


def test_a_clean_request_is_allowed() -> None:
    body = message()
    decision, steps = play(screen_request(plan(), (CHAT,), head(body)), body, [CLEAN], None)
    assert (decision.action, decision.cause, decision.reasons) == (Action.ALLOW, Cause.CLEAN, ())
    assert (decision.rule, decision.mode, decision.problem) == ("POST /chat", Mode.ENFORCE, None)
    assert not decision.is_rejected
    assert not decision.degraded
    assert kinds(steps) == [ReadBody, Moderate, Report]


def test_everything_in_a_request_is_moderated_at_once() -> None:
    body = json.dumps({"message": ["a", "b"], "parts": [{"type": "input_image", "image_url": PICTURE}]}).encode()
    asked = head(body, query=b"q=c&q=d&x=e")
    decision, steps = play(screen_request(plan(), (CHAT,), asked), body, [CLEAN, CLEAN, BAD, CLEAN, BAD], None)
    moderate = steps[1]
    assert isinstance(moderate, Moderate)
    items = list(moderate.items)
    assert items == [
        Text("/message/0", "a"),
        Text("/message/1", "b"),
        Image("/parts/0/image_url", PICTURE),
        Text("query#/q/0", "c"),
        Text("query#/q/1", "d"),
    ]
    assert [reason.pointer for reason in decision.reasons] == ["/parts/0/image_url", "query#/q/1"]
    assert decision.categories == ("violence",)


def test_the_record_says_what_was_judged_and_holds_no_text() -> None:
    body = json.dumps({"message": {"a name of theirs": PHRASE}, "parts": [PHRASE]}).encode()
    decision, steps = play(screen_request(plan(), (CHAT,), head(body)), body, [BAD, BAD], None)
    record = record_of(steps)
    assert (record.decision, record.moderator, record.model) == (decision, "judge", "judge-1")
    assert (record.texts, record.images) == (2, 0)
    assert record.places == ("/message/*", "/parts/0")
    assert record.latency > 0
    assert PHRASE not in repr(record)
    assert PHRASE not in repr(steps)


@pytest.mark.parametrize("on_unmatched", ["all", "pass"])
def test_the_record_says_where_a_body_had_nothing_at_its_rules_places(on_unmatched: Any) -> None:
    rule = Rule("POST /chat", json="$.message", on_unmatched=on_unmatched)
    for body, is_unmatched in ((b'{"userText": "hi"}', True), (message(), False), (b"", False)):
        flow = screen_request(plan(rule), (rule,), head(body))
        step: Step | None = begin(flow)
        while not isinstance(step, Report):
            assert isinstance(step, ReadBody | Moderate)
            answer = body if isinstance(step, ReadBody) else [CLEAN] * len(step.items)
            step = past_work(flow, flow.send(answer))
        assert step.record.unmatched is is_unmatched


def test_one_place_is_recorded_once() -> None:
    body = json.dumps({"message": {"one": "a", "two": "b"}}).encode()
    verdict = Verdict(flagged=True, categories={"violence": True, "hate": True})
    decision, steps = play(screen_request(plan(), (CHAT,), head(body)), body, [verdict, verdict], None)
    assert len(decision.reasons) == 4
    assert decision.categories == ("violence", "hate")
    assert record_of(steps).places == ("/message/*",)


@pytest.mark.parametrize("body", [b"", b"{}", message(" "), message(5)])
def test_a_request_without_a_text_is_allowed_without_asking_anybody(body: bytes) -> None:
    decision, steps = play(screen_request(plan(), (CHAT,), head(body)), body, None)
    assert decision.cause is Cause.CLEAN
    assert decision.action is Action.ALLOW
    assert kinds(steps) == [ReadBody, Report]
    assert (record_of(steps).latency, record_of(steps).texts) == (0.0, 0)


def test_the_policy_decides_what_a_hit_does() -> None:
    body = message()
    policy = Policy(actions={"violence": Action.FLAG})
    decision, _ = play(screen_request(plan(policy=policy), (CHAT,), head(body)), body, [BAD], None)
    assert (decision.action, decision.cause) == (Action.FLAG, Cause.FLAGGED)
    assert not decision.is_rejected


def test_the_query_is_read_only_by_a_rule_that_names_it() -> None:
    rule = Rule("POST /chat", json="$.message")
    body = message()
    asked = head(body, query=b"&" * 5000 + b"_charset_=utf-7")
    decision, _ = play(screen_request(plan(rule), (rule,), asked), body, [CLEAN], None)
    assert decision.cause is Cause.CLEAN


def test_a_rule_without_a_limit_of_its_own_takes_the_screens() -> None:
    rule = Rule("POST /chat", json="$.message")
    assert next(screen_request(plan(rule, targets=Targets([rule], Limits(body=77))), (rule,), head())) == ReadBody(
        77, 30.0
    )


# Requests that cannot be screened


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        pytest.param(head(content_length=b"2001"), Cause.OVERSIZE, id="too long"),
        pytest.param(head(content_length=b"+5"), Cause.INCOMPLETE, id="odd length"),
        pytest.param(head(b"a=b", b"application/x-www-form-urlencoded"), Cause.UNSUPPORTED, id="another kind"),
        pytest.param(head(b"{}", b"image/png"), Cause.UNSUPPORTED, id="another type"),
        pytest.param(head(b"{}", b"application/json; charset=utf-7"), Cause.UNSUPPORTED, id="charset"),
        pytest.param(head(b"{}", content_encoding=b"gzip"), Cause.UNSUPPORTED, id="coding"),
        pytest.param(head(b"{}", b"application/json; x"), Cause.UNREADABLE, id="malformed type"),
        pytest.param(head(b"{}", query=b"q" + b"&" * 1000), Cause.OVERSIZE, id="too many query parameters"),
        pytest.param(head(b"{}", query=b"_charset_=utf-7"), Cause.UNREADABLE, id="query in another charset"),
    ],
)
def test_nothing_is_read_where_the_head_alone_decides(asked: Head, cause: Cause) -> None:
    decision, steps = play(screen_request(plan(), (CHAT,), asked), None)
    assert kinds(steps) == [Report]
    assert decision.cause is cause
    assert decision.is_rejected


@pytest.mark.parametrize(
    ("body", "query", "cause"),
    [
        pytest.param(b'{"message": "a", "message": "b"}', b"", Cause.UNREADABLE, id="repeated key"),
        pytest.param(b"{", b"", Cause.UNREADABLE, id="not JSON"),
        pytest.param(b"[" * 70 + b"]" * 70, b"", Cause.UNREADABLE, id="too deep"),
        pytest.param(json.dumps({"message": ["a"] * 300}).encode(), b"", Cause.OVERSIZE, id="too many texts"),
        pytest.param(b"{}", b"q=%ff", Cause.UNREADABLE, id="query that is not UTF-8"),
    ],
)
def test_a_body_without_a_certain_reading_is_never_moderated(body: bytes, query: bytes, cause: Cause) -> None:
    decision, steps = play(screen_request(plan(), (CHAT,), head(body, query=query)), body, None)
    assert kinds(steps) == [ReadBody, Report]
    assert (decision.action, decision.cause) == (Action.REJECT, cause)
    assert decision.problem
    assert record_of(steps) == Record(decision, "judge")


ERRORS: Final[dict[Cause, RequestError]] = {
    Cause.UNREADABLE: Unreadable("why not"),
    Cause.UNSUPPORTED: Unsupported("why not"),
    Cause.OVERSIZE: Oversize("why not"),
    Cause.INCOMPLETE: Incomplete("why not"),
    Cause.LENGTH_REQUIRED: LengthRequired("why not"),
    Cause.SLOW: Slow("why not"),
}


@pytest.mark.parametrize("on_oversize", ACTIONS)
@pytest.mark.parametrize("on_unreadable", ACTIONS)
@pytest.mark.parametrize("cause", ERRORS)
def test_what_cannot_be_screened_is_what_the_rule_says(
    cause: Cause, on_unreadable: Action, on_oversize: Action
) -> None:
    rule = Rule("POST /chat", json="$", on_unreadable=on_unreadable, on_oversize=on_oversize.value)
    decision, steps = play(screen_request(plan(rule), (rule,), head()), ERRORS[cause], None)
    expected = {
        Cause.OVERSIZE: on_oversize,
        Cause.INCOMPLETE: Action.REJECT,  # half a body is nobody's to allow
        Cause.SLOW: Action.REJECT,
    }.get(cause, on_unreadable)
    assert (decision.action, decision.cause, decision.problem) == (expected, cause, "why not")
    assert isinstance(decision.action, Action)
    assert decision.rule == "POST /chat"
    assert decision.is_rejected == (expected is Action.REJECT)
    assert decision.degraded == (expected is not Action.REJECT)
    assert kinds(steps) == [ReadBody, Report]
    assert record_of(steps).decision is decision


# Moderators that fail


FAILURES: Final[list[ModeratorError]] = [
    ModeratorTimeout("why not"),
    ModeratorDown("why not"),
    ModeratorBusy("why not", retry_after=7.5),
    BadVerdict("why not"),
]


@pytest.mark.parametrize("on_error", ACTIONS)
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_moderator_that_fails_is_what_on_error_says(error: ModeratorError, on_error: Action) -> None:
    body = message()
    decision, steps = play(screen_request(plan(on_error=on_error), (CHAT,), head(body)), body, error, None)
    assert (decision.action, decision.cause, decision.reasons) == (on_error, Cause.UNAVAILABLE, ())
    assert decision.problem == f"{type(error).__name__}: why not"
    assert decision.retry_after == error.retry_after
    assert decision.rule == "POST /chat"
    assert decision.degraded == (on_error is not Action.REJECT)
    assert kinds(steps) == [ReadBody, Moderate, Report]
    record = record_of(steps)
    assert (record.decision, record.model, record.texts, record.places) == (decision, "", 1, ())
    assert record.latency > 0


@pytest.mark.parametrize("on_error", ACTIONS)
def test_what_was_judged_and_rejected_before_a_failure_stays_rejected(on_error: Action) -> None:
    body = message(["a", "b", "c"])
    error = ModeratorDown("gone", known={1: BAD, 2: CLEAN})
    decision, steps = play(screen_request(plan(on_error=on_error), (CHAT,), head(body)), body, error, None)
    assert (decision.action, decision.cause) == (Action.REJECT, Cause.FLAGGED)
    assert decision.reasons == (Reason("violence", "/message/1", 0.9),)
    assert (decision.problem, decision.degraded) == (None, False)
    assert record_of(steps).places == ("/message/1",)


def test_a_failure_with_nothing_to_reject_is_still_a_failure() -> None:
    body = message(["a", "b"])
    flagging = plan(policy=Policy(actions={"violence": Action.FLAG}))
    for known, reasons in (({0: CLEAN}, 0), ({0: BAD}, 1)):
        error = ModeratorBusy("quota", retry_after=3, known=known)
        decision, _ = play(screen_request(flagging, (CHAT,), head(body)), body, error, None)
        assert (decision.action, decision.cause, decision.retry_after) == (Action.REJECT, Cause.UNAVAILABLE, 3)
        assert decision.problem == "ModeratorBusy: quota"
        assert len(decision.reasons) == reasons


def test_an_error_that_is_nobodys_answer_is_passed_on_and_decides_nothing() -> None:
    body = message()
    errors: list[tuple[list[Answer], Exception]] = [
        ([], ClientGone()),
        ([], RuntimeError()),
        ([body], ClientGone()),
        ([body], Unreadable("late")),
    ]
    for answers, error in errors:
        flow = screen_request(plan(on_error=Action.ALLOW), (CHAT,), head(body))
        with pytest.raises(type(error)):
            play(flow, *answers, error)
        with pytest.raises(StopIteration):
            next(flow)


def test_a_record_that_cannot_be_kept_is_no_decision() -> None:
    body = message()
    for answers in ([body, [CLEAN]], [b"{"]):
        with pytest.raises(OSError, match="full"):
            play(screen_request(plan(), (CHAT,), head(body)), *answers, OSError("the disk is full"))


def test_too_few_verdicts_are_never_clean() -> None:
    body = message(["a", "b"])
    with pytest.raises(ValueError, match="zip"):
        play(screen_request(plan(), (CHAT,), head(body)), body, [CLEAN], None)


# Monitor


def test_monitoring_decides_and_records_and_never_rejects() -> None:
    body = message()
    watching = plan(mode=Mode.MONITOR)
    runs: list[list[Answer | Exception]] = [
        [body, [BAD], None],
        [b"{", None],
        [Incomplete("half"), None],
        [body, ModeratorDown("gone"), None],
    ]
    for answers in runs:
        decision, steps = play(screen_request(watching, (CHAT,), head(body)), *answers)
        assert decision.action is Action.REJECT
        assert decision.mode is Mode.MONITOR
        assert not decision.is_rejected
        assert decision.degraded == (decision.cause is not Cause.FLAGGED)
        assert record_of(steps).decision is decision


def test_monitoring_waits_for_a_body_as_long_as_the_app_would() -> None:
    assert next(screen_request(plan(mode=Mode.MONITOR), (CHAT,), head())) == ReadBody(2000, None)


# Texts that come from no request


def test_texts_are_judged_without_a_request() -> None:
    items: list[Item] = [Text("/comment", PHRASE), Image("", PICTURE)]
    decision, steps = play(screen_items(plan(), items), [BAD, CLEAN], None)
    assert decision.reasons == (Reason("violence", "/comment", 0.9),)
    assert decision.rule is None
    assert kinds(steps) == [Moderate, Report]
    record = record_of(steps)
    assert (record.texts, record.images, record.places) == (1, 1, ("/comment",))


def test_items_that_change_later_are_judged_as_they_were() -> None:
    items: list[Item] = [Text("", PHRASE)]
    flow = screen_items(plan(), items)
    moderate = begin(flow)
    items.clear()
    assert moderate == Moderate((Text("", PHRASE),), NEARLY_TWO)


def test_no_texts_are_clean() -> None:
    decision, steps = play(screen_items(plan(), []), None)
    assert (decision.action, decision.cause) == (Action.ALLOW, Cause.CLEAN)
    assert kinds(steps) == [Report]


def test_a_moderator_may_fail_without_a_request_too() -> None:
    decision, _ = play(screen_items(plan(on_error=Action.FLAG), [Text("", PHRASE)]), ModeratorDown("gone"), None)
    assert (decision.action, decision.cause, decision.rule) == (Action.FLAG, Cause.UNAVAILABLE, None)


def test_every_decision_has_an_id_of_its_own() -> None:
    ids = {play(screen_items(plan(), []), None)[0].id for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 24 and int(each, 16) >= 0 for each in ids)


# Leaving early


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_flow_that_is_closed_asks_for_nothing_more(answered: int) -> None:
    body = message()
    answers: list[Answer] = [body, [BAD], None]
    flow = screen_request(plan(), (CHAT,), head(body))
    begin(flow)
    for answer in answers[:answered]:
        past_work(flow, flow.send(answer))
    flow.close()  # raises where a generator goes on
    with pytest.raises(StopIteration):
        next(flow)


# The drivers


class Watched:
    """A flow of two steps that keeps what becomes of it."""

    def __init__(self) -> None:
        self.answers: list[object] = []
        self.is_closed = False

    def flow(self) -> Generator[Step, Answer, str]:
        try:
            for limit in (1, 2):
                try:
                    self.answers.append((yield ReadBody(limit, None)))
                except ModeratorError as error:
                    self.answers.append(error)
            return "done"
        finally:
            self.is_closed = True


Perform = Callable[[Step], Answer]


def run_sync(flow: Flow[str], perform: Perform) -> str:
    return drive_sync(flow, perform)


def run_async(flow: Flow[str], perform: Perform) -> str:
    """Drive by hand: nothing here waits, so one push is enough."""

    async def performed(step: Step) -> Answer:
        return perform(step)

    coroutine: Any = drive(flow, performed)
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    done: str = end.value.value
    return done


both: Final = pytest.mark.parametrize("run", [run_sync, run_async], ids=["blocking", "awaiting"])


@both
def test_a_driver_sends_each_answer_in(run: Callable[[Flow[str], Perform], str]) -> None:
    watched = Watched()
    steps: list[Step] = []

    def perform(step: Step) -> Answer:
        steps.append(step)
        return str(len(steps)).encode()

    assert run(watched.flow(), perform) == "done"
    assert steps == [ReadBody(1, None), ReadBody(2, None)]
    assert watched.answers == [b"1", b"2"]


@both
def test_a_driver_throws_each_error_in(run: Callable[[Flow[str], Perform], str]) -> None:
    watched = Watched()
    error = ModeratorDown("gone")

    def perform(step: Step) -> Answer:
        if step == ReadBody(1, None):
            raise error
        return b"2"

    assert run(watched.flow(), perform) == "done"
    assert watched.answers == [error, b"2"]


@both
@pytest.mark.parametrize("error", [ClientGone, KeyboardInterrupt])
def test_a_driver_that_is_left_closes_the_flow(
    run: Callable[[Flow[str], Perform], str], error: type[BaseException]
) -> None:
    watched = Watched()

    def perform(step: Step) -> Answer:
        raise error

    with pytest.raises(error):
        run_through(run, watched.flow(), perform)
    assert watched.is_closed
    assert watched.answers == []


def run_through(run: Callable[[Flow[str], Perform], str], flow: Flow[str], perform: Perform) -> None:
    """As `run`, for what ends with an error."""
    if run is run_sync:
        drive_sync(flow, perform)
        return

    async def performed(step: Step) -> Answer:
        return perform(step)

    coroutine: Any = drive(flow, performed)
    coroutine.send(None)


def test_a_cancelled_driver_closes_the_flow() -> None:
    class Pause:
        def __await__(self) -> Generator[None, None, Answer]:
            yield
            raise AssertionError("nobody goes on")

    watched = Watched()

    async def perform(_step: Step) -> Answer:
        waiting: Awaitable[Answer] = Pause()
        return await waiting

    coroutine: Any = drive(watched.flow(), perform)
    coroutine.send(None)
    assert not watched.is_closed
    coroutine.close()
    assert watched.is_closed


def test_the_flow_of_a_request_runs_on_a_driver() -> None:
    body = message()
    reports: list[Record] = []

    def perform(step: Step) -> Answer:
        if isinstance(step, Report):
            reports.append(step.record)
            return None
        if isinstance(step, Work):
            return step.run()
        return body if isinstance(step, ReadBody) else [BAD]

    decision = drive_sync(screen_request(plan(), (CHAT,), head(body)), perform)
    assert decision.is_rejected
    assert [record.decision for record in reports] == [decision]


# The log


def logged(record: Record, caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    caplog.set_level(logging.INFO, "prescreen")
    log_decision(record)
    (found,) = caplog.records
    assert found.name == "prescreen"
    return found


FLAGGED: Final = Record(
    Decision(
        Action.REJECT,
        (Reason("violence", "/message/a name of theirs", 0.9), Reason("hate", "/message/1", 0.5)),
        id="d1",
        cause=Cause.FLAGGED,
        rule="POST /chat",
    ),
    "judge",
    model="judge-1",
    texts=2,
    images=1,
    latency=0.12345,
    places=("/message/*", "/message/1"),
)


def test_a_decision_is_logged_with_its_facts_and_masked_places(caplog: pytest.LogCaptureFixture) -> None:
    found = logged(FLAGGED, caplog)
    assert found.levelno == logging.INFO
    assert found.getMessage() == (
        "reject POST /chat: violence, hate at /message/*, /message/1 [judge, 123 ms, decision d1]"
    )
    facts = {
        "event": "decision",
        "decision_id": "d1",
        "action": "reject",
        "mode": "enforce",
        "cause": "flagged",
        "rule": "POST /chat",
        "categories": ["violence", "hate"],
        "places": ["/message/*", "/message/1"],
        "problem": None,
        "degraded": False,
        "rung": None,
        "unmatched": False,
        "subject": None,
        "strikes": None,
        "suspended_for": None,
        "store_problem": None,
        "moderator": "judge",
        "model": "judge-1",
        "texts": 2,
        "images": 1,
        "latency_ms": 123.45,
    }
    assert vars(found)["prescreen"] == facts == event(FLAGGED)
    assert json.loads(json.dumps(facts)) == facts
    assert "theirs" not in repr(vars(found))


@pytest.mark.parametrize(
    ("decision", "level", "sentence"),
    [
        pytest.param(Decision(Action.ALLOW, rule="POST /chat"), "INFO", "allow POST /chat [", id="clean"),
        pytest.param(Decision(Action.ALLOW), "INFO", "allow text [", id="no request"),
        pytest.param(
            Decision(Action.REJECT, (Reason("hate", ""),), cause=Cause.FLAGGED),
            "INFO",
            "reject text: hate at the text [",
            id="one text",
        ),
        pytest.param(
            Decision(Action.REJECT, (Reason("hate", ""),), cause=Cause.FLAGGED, mode=Mode.MONITOR),
            "INFO",
            "reject text (monitor only): hate at the text [",
            id="monitor",
        ),
        pytest.param(
            Decision(Action.REJECT, cause=Cause.UNREADABLE, rule="POST /chat", problem="why not"),
            "INFO",
            "reject POST /chat: unreadable, why not [",
            id="unreadable and rejected",
        ),
        pytest.param(
            Decision(Action.ALLOW, cause=Cause.UNREADABLE, rule="POST /chat", problem="why not"),
            "WARNING",
            "allow POST /chat: unreadable, why not [",
            id="unreadable and passed on",
        ),
        pytest.param(
            Decision(Action.REJECT, cause=Cause.OVERSIZE, rule="POST /chat", problem="why not", mode=Mode.MONITOR),
            "WARNING",
            "reject POST /chat (monitor only): oversize, why not [",
            id="oversize and only watched",
        ),
        pytest.param(
            Decision(Action.REJECT, cause=Cause.UNAVAILABLE, rule="POST /chat", problem="ModeratorDown: why not"),
            "WARNING",
            "reject POST /chat: unavailable, ModeratorDown: why not [",
            id="moderator down",
        ),
    ],
)
def test_what_passed_unjudged_is_a_warning(
    caplog: pytest.LogCaptureFixture, decision: Decision, level: str, sentence: str
) -> None:
    found = logged(Record(decision, "judge"), caplog)
    assert found.levelname == level
    assert found.getMessage() == f"{sentence}judge, 0 ms, decision {decision.id}]"


def test_a_silent_logger_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "prescreen")
    log_decision(FLAGGED)
    assert caplog.records == []


@pytest.mark.parametrize("on_error", ACTIONS)
def test_what_a_moderator_refuses_to_judge_never_passes(on_error: Action) -> None:
    body, error = message(), ModeratorRefused("no such image")
    decision, _ = play(screen_request(plan(on_error=on_error), (CHAT,), head(body)), body, error, None)
    assert (decision.action, decision.cause) == (Action.REJECT, Cause.REFUSED)


def test_several_rules_together_take_what_each_takes_and_are_as_strict_as_the_strictest() -> None:
    lax = Rule("POST /chat", json="$.message", on_unreadable="allow", max_body="1KiB")
    strict = Rule("POST /{room}", form="title", max_body="2KiB")
    together = Targets([lax, strict], Limits()).of((lax, strict))
    assert together.name == "POST /chat + POST /{room}"
    assert together.accepts.kinds == {"json", "form"}
    assert (together.on_unreadable, together.on_oversize) == (Action.REJECT, Action.REJECT)
    assert together.accepts.limit == 1024
    unlimited = Rule("POST *", json="$.other")
    assert Targets([lax], Limits()).of((lax, unlimited)).accepts.limit == 1024
    flow = screen_request(plan(lax), (lax, unlimited), head(b'{"message": "one", "other": "two"}'))
    next(flow)
    step = past_work(flow, flow.send(b'{"message": "one", "other": "two"}'))
    assert isinstance(step, Moderate)
    assert [item.value for item in step.items if isinstance(item, Text)] == ["one", "two"]
