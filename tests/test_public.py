"""What users import: the names, what comes with them, and finding a decision again."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import pytest

import prescreen
from prescreen import Policy, Rejections, Rule, errors
from prescreen.document import Limits
from prescreen.lookup import decision_of
from prescreen.model import DECISION_KEY, Action, Cause, Decision, Head, Image, Mode, Record, Text

NAMES: Final = [
    "Action",
    "AnyOf",
    "Asked",
    "AzureModerator",
    "BadVerdict",
    "Breaker",
    "Cache",
    "Called",
    "Cause",
    "CircuitChanged",
    "ClientGone",
    "ConfigError",
    "ContentRejected",
    "Decision",
    "Escalate",
    "FirstOf",
    "Head",
    "Image",
    "Incomplete",
    "KeywordModerator",
    "LLMModerator",
    "LengthRequired",
    "MistralModerator",
    "Mode",
    "Moderator",
    "ModeratorBusy",
    "ModeratorDown",
    "ModeratorError",
    "ModeratorRefused",
    "ModeratorTimeout",
    "NotScreened",
    "OpenAIModerator",
    "Oversize",
    "Policy",
    "PrescreenError",
    "Quota",
    "Reason",
    "Record",
    "Rejection",
    "Rejections",
    "RequestError",
    "Rule",
    "Screen",
    "Slow",
    "Standing",
    "StoreError",
    "Strike",
    "Strikes",
    "Text",
    "Unreadable",
    "Unsupported",
    "Unwanted",
    "Verdict",
    "decision_of",
    "settled_decision_of",
]


def test_these_are_the_public_names() -> None:
    assert prescreen.__all__ == NAMES
    assert set(NAMES) <= set(dir(prescreen))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_the_thing_of_that_name(name: str) -> None:
    found = getattr(prescreen, name)
    assert found.__name__ == name
    assert found.__doc__
    assert found is getattr(sys.modules[found.__module__], name)


def test_another_name_is_an_attribute_error() -> None:
    module: Any = prescreen
    assert not hasattr(module, "Screem")
    with pytest.raises(AttributeError, match="module 'prescreen' has no attribute 'Screem'"):
        _ = module.Screem
    with pytest.raises(ImportError, match="Screem"):
        exec("from prescreen import Screem")


def test_the_version_is_the_one_installed() -> None:
    assert prescreen.__version__ == importlib.metadata.version("prescreen")


def test_nothing_heavy_comes_before_it_is_needed() -> None:
    script = """
import sys
heavy = lambda: sorted({"openai", "pydantic", "jsonpath_rfc9535", "anyio", "httpx", "asyncio"} & set(sys.modules))
import prescreen
print(heavy(), "prescreen.model" in sys.modules)
from prescreen import Action, Decision, Policy, Rejections, Rule, decision_of
Rule("POST /chat", json="$.message")
print(heavy())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] False", "[]"]


# Errors

TREE: Final[dict[type[Exception], list[type[Exception]]]] = {
    Exception: [errors.PrescreenError],
    errors.PrescreenError: [
        errors.ConfigError,
        errors.RequestError,
        errors.ClientGone,
        errors.ModeratorError,
        errors.StoreError,
        errors.NotScreened,
        errors.ContentRejected,
    ],
    ValueError: [errors.ConfigError],
    errors.RequestError: [
        errors.Unreadable,
        errors.Unsupported,
        errors.Oversize,
        errors.Unwanted,
        errors.Incomplete,
        errors.LengthRequired,
        errors.Slow,
    ],
    errors.ModeratorError: [
        errors.ModeratorTimeout,
        errors.ModeratorDown,
        errors.ModeratorBusy,
        errors.ModeratorRefused,
        errors.BadVerdict,
    ],
}


def test_errors_are_one_shallow_tree() -> None:
    for parent, children in TREE.items():
        assert all(parent in child.__bases__ for child in children)
    ours = {error for children in TREE.values() for error in children}
    public = {getattr(prescreen, name) for name in NAMES}
    assert {each for each in public if isinstance(each, type) and issubclass(each, Exception)} == ours


def test_a_config_error_says_where_and_what() -> None:
    error = errors.ConfigError("rules[0].match", "write for example 'POST /chat'")
    assert (error.key, error.problem, error.file) == ("rules[0].match", "write for example 'POST /chat'", None)
    assert str(error) == "rules[0].match: write for example 'POST /chat'"
    error.file = "prescreen.toml"
    assert str(error) == "prescreen.toml: rules[0].match: write for example 'POST /chat'"
    assert str(errors.ConfigError("", "no rules")) == "no rules"


def test_every_request_error_has_a_cause_of_its_own() -> None:
    kinds: list[Any] = TREE[errors.RequestError]
    causes = [kind.cause for kind in kinds]
    assert len(set(causes)) == len(kinds)
    ours = {Cause.CLEAN, Cause.FLAGGED, Cause.REFUSED, Cause.SUSPENDED, Cause.UNAVAILABLE, Cause.OVERLOADED}
    assert set(causes) == set(Cause) - ours
    assert all(kind("why not").problem == str(kind("why not")) == "why not" for kind in kinds)


def test_a_moderator_error_may_say_when_to_come_back() -> None:
    assert errors.ModeratorDown("gone").retry_after is None
    assert errors.ModeratorDown("gone").known == {}
    busy = errors.ModeratorBusy("quota", retry_after=2.5)
    assert (busy.retry_after, busy.problem, str(busy)) == (2.5, "quota", "quota")


# Values


def test_a_text_of_a_user_is_not_in_a_repr() -> None:
    for item in (Text("/a", "seven violet lanterns"), Image("/a", "https://pictures.example/lantern")):
        assert "/a" in repr(item)
        assert "lantern" not in repr(item)


def test_a_head_gives_every_value_of_a_header() -> None:
    head = Head("POST", "/", headers=((b"accept", b"a"), (b"x", b"b"), (b"accept", b"c")))
    assert head.all(b"accept") == [b"a", b"c"]
    assert head.all(b"accept-language") == []


@pytest.mark.parametrize(
    ("lengths", "declared"),
    [
        ([], None),
        ([b"0"], 0),
        ([b"17"], 17),
        ([b"9" * 18], int("9" * 18)),
        ([b"9" * 19], None),
        ([b"5", b"5"], None),
        ([b""], None),
        ([b"+5"], None),
        ([b"-5"], None),
        ([b"1_0"], None),
        (["٣".encode()], None),
    ],
)
def test_a_declared_length_is_one_plain_number(lengths: list[bytes], declared: int | None) -> None:
    assert Head("POST", "/", headers=tuple((b"content-length", each) for each in lengths)).declared_length == declared


# Finding a decision again

DECISION: Final = Decision(Action.FLAG, cause=Cause.FLAGGED)
HOLDER: Final = {DECISION_KEY: DECISION, "other": 1}


@pytest.mark.parametrize(
    "request_object",
    [
        pytest.param(HOLDER, id="scope or environ"),
        pytest.param(SimpleNamespace(scope=HOLDER), id="scope"),
        pytest.param(SimpleNamespace(environ=HOLDER), id="environ"),
        pytest.param(SimpleNamespace(META=HOLDER), id="META"),
        pytest.param(SimpleNamespace(env=HOLDER), id="env"),
        pytest.param(SimpleNamespace(scope={}, environ=None, META={"a": 1}, env=HOLDER), id="the last of several"),
        pytest.param(SimpleNamespace(scope="text", META=HOLDER), id="scope of another kind"),
    ],
)
def test_a_decision_is_found_wherever_a_request_keeps_it(request_object: object) -> None:
    assert decision_of(request_object) is DECISION


@pytest.mark.parametrize(
    "request_object",
    [
        None,
        {},
        {"other": 1},
        {DECISION_KEY: "reject"},
        {DECISION_KEY: None},
        SimpleNamespace(),
        SimpleNamespace(scope={}, environ={}, META={}, env={}),
        SimpleNamespace(scope={DECISION_KEY: {"action": "allow"}}),
        "prescreen.decision",
        5,
    ],
    ids=repr,
)
def test_a_request_without_a_decision_has_none(request_object: object) -> None:
    assert decision_of(request_object) is None


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("action", Action)
def test_only_an_enforced_rejection_rejects(action: Action, mode: Mode) -> None:
    is_rejected = action is Action.REJECT and mode is Mode.ENFORCE
    for cause in Cause:
        decision = Decision(action, cause=cause, mode=mode)
        assert decision.is_rejected == is_rejected
        assert decision.degraded == (not is_rejected and cause not in (Cause.CLEAN, Cause.FLAGGED))
        by_another = replace(decision, rung="azure")
        assert by_another.degraded == (not is_rejected)
        assert by_another.has_passed == decision.has_passed


def test_values_do_not_change() -> None:
    values: list[tuple[object, str]] = [
        (DECISION, "action"),
        (Head("POST", "/"), "path"),
        (Record(DECISION, "judge"), "decision"),
        (Policy(), "thresholds"),
        (Rejections(), "status"),
        (Rule("POST /chat", json="$"), "match"),
        (Limits(), "body"),
        (Text("/a", "b"), "value"),
    ]
    for value, name in values:
        with pytest.raises(AttributeError):
            setattr(value, name, None)
