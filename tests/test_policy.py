"""From verdicts to a conclusion: what counts as a hit, and what a hit does."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prescreen.errors import ConfigError
from prescreen.model import Action, Image, Item, Reason, Text, Verdict
from prescreen.policy import Policy

PROPERTY: Final = settings(max_examples=150, deadline=None, derandomize=True)
ITEM: Final = Text("/a", "seven violet lanterns")

FLAGGED: Final = Verdict(
    flagged=True,
    categories={"hate": True, "violence": False, "sexual": False},
    scores={"hate": 0.6, "violence": 0.5, "sexual": 0.1},
)
UNFLAGGED: Final = Verdict(flagged=False, categories={"hate": False}, scores={"hate": 0.3})


def hits(policy: Policy, verdict: Verdict) -> list[str]:
    return [reason.category for reason in policy.reasons([ITEM], [verdict])]


@pytest.mark.parametrize(
    ("policy", "verdict", "expected"),
    [
        pytest.param(Policy(), FLAGGED, ["hate"], id="the provider's flags decide"),
        pytest.param(Policy(), UNFLAGGED, [], id="no flag, no hit"),
        pytest.param(Policy(thresholds={"hate": 0.6}), FLAGGED, ["hate"], id="a score at the threshold hits"),
        pytest.param(Policy(thresholds={"hate": 0.61}), FLAGGED, [], id="looser than the provider"),
        pytest.param(Policy(thresholds={"hate": 0.3}), UNFLAGGED, ["hate"], id="stricter than the provider"),
        pytest.param(
            Policy(thresholds={"violence": 0.5}), FLAGGED, ["hate", "violence"], id="others keep the provider's flag"
        ),
        pytest.param(Policy(thresholds={"*": 0.5}), FLAGGED, ["hate", "violence"], id="one threshold for all"),
        pytest.param(
            Policy(thresholds={"*": 0.05, "hate": 0.7}),
            FLAGGED,
            ["violence", "sexual"],
            id="a named one beats the star",
        ),
        pytest.param(Policy(thresholds={"hate": 0}), UNFLAGGED, ["hate"], id="a threshold of nothing"),
        pytest.param(Policy(thresholds={"hate": 1}), FLAGGED, [], id="a threshold of one"),
        pytest.param(Policy(ignore=["hate"]), FLAGGED, [], id="an ignored category"),
        pytest.param(Policy(ignore=["hate"], thresholds={"hate": 0}), FLAGGED, [], id="ignored beats its threshold"),
        pytest.param(
            Policy(thresholds={"hate": 0.5}),
            Verdict(flagged=True, categories={"hate": True}),
            ["hate"],
            id="a threshold without a score leaves the flag",
        ),
        pytest.param(
            Policy(thresholds={"hate": 0.5}), Verdict(flagged=False, scores={"hate": 0.9}), ["hate"], id="only scores"
        ),
        pytest.param(Policy(), Verdict(flagged=False, scores={"hate": 0.9}), [], id="only scores and no threshold"),
        pytest.param(Policy(), Verdict(flagged=True), ["unspecified"], id="flagged without a category"),
        pytest.param(
            Policy(),
            Verdict(flagged=True, categories={"hate": False}),
            ["unspecified"],
            id="flagged, all categories false",
        ),
        pytest.param(
            Policy(thresholds={"hate": 0.5}),
            Verdict(flagged=True, scores={"hate": 0.1, "violence": 0.1}),
            ["unspecified"],
            id="flagged, and a threshold for one of two scores",
        ),
        pytest.param(
            Policy(thresholds={"hate": 0.5}, ignore=["violence"]),
            Verdict(flagged=True, scores={"hate": 0.1, "violence": 0.1}),
            [],
            id="flagged, and all that it names is settled",
        ),
        pytest.param(
            Policy(thresholds={"*": 0.5}),
            Verdict(flagged=True, scores={"hate": 0.1}),
            [],
            id="flagged, settled by the star",
        ),
        pytest.param(
            Policy(thresholds={"*": 0.5}), Verdict(flagged=True), ["unspecified"], id="flagged, nothing to settle"
        ),
    ],
)
def test_what_hits(policy: Policy, verdict: Verdict, expected: list[str]) -> None:
    assert hits(policy, verdict) == expected


def test_a_reason_says_what_where_how_sure_and_what_then() -> None:
    policy = Policy(actions={"violence": Action.FLAG}, thresholds={"violence": 0.5})
    items: list[Item] = [Text("/a", "x"), Image("/b", "https://pictures.example/a"), Text("/c", "y")]
    bare = Verdict(flagged=True, categories={"sexual": True})
    assert policy.reasons(items, [UNFLAGGED, FLAGGED, bare]) == (
        Reason("hate", "/b", 0.6, Action.REJECT),
        Reason("violence", "/b", 0.5, Action.FLAG),
        Reason("sexual", "/c", None, Action.REJECT),
    )


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ({}, Action.REJECT),
        ({"hate": "flag"}, Action.FLAG),
        ({"hate": "allow"}, Action.ALLOW),
        ({"*": "flag"}, Action.FLAG),
        ({"*": "flag", "hate": "reject"}, Action.REJECT),
        ({"violence": "allow"}, Action.REJECT),
    ],
)
def test_a_hit_does_what_its_category_says(actions: dict[str, Action], expected: Action) -> None:
    policy = Policy(actions=actions)
    (reason,) = policy.reasons([ITEM], [FLAGGED])
    assert reason.action is expected
    assert policy.conclude([reason]) is expected


@PROPERTY
@given(actions=st.lists(st.sampled_from(Action), max_size=5))
def test_the_gravest_reason_decides(actions: list[Action]) -> None:
    order = [Action.ALLOW, Action.FLAG, Action.REJECT]
    reasons = [Reason("hate", "/a", action=action) for action in actions]
    assert Policy().conclude(reasons) is max(actions, key=order.index, default=Action.ALLOW)


scores = st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1), max_size=4)


@PROPERTY
@given(scores=scores, thresholds=scores, flags=st.dictionaries(st.sampled_from("abcd"), st.booleans()))
def test_a_category_hits_by_its_threshold_and_else_by_its_flag(
    scores: dict[str, float], thresholds: dict[str, float], flags: dict[str, bool]
) -> None:
    found = hits(Policy(thresholds=thresholds), Verdict(flagged=any(flags.values()), categories=flags, scores=scores))
    for name in "abcd":
        if name in thresholds and name in scores:
            assert (name in found) == (scores[name] >= thresholds[name])
        else:
            assert (name in found) == flags.get(name, False)


def test_verdicts_that_are_not_one_for_each_item_conclude_nothing() -> None:
    for verdicts in ([], [UNFLAGGED, UNFLAGGED]):
        with pytest.raises(ValueError, match="zip"):
            Policy().reasons([ITEM], verdicts)


@pytest.mark.parametrize(
    ("options", "key", "hint"),
    [
        pytest.param(
            {"thresholds": {"hate": value}}, 'thresholds."hate"', "number from 0 to 1", id=f"threshold {value!r}"
        )
        for value in (-0.1, 1.1, True, "0.5", None, float("nan"), float("inf"))
    ]
    + [
        pytest.param(
            {"actions": {"hate": value}}, 'actions."hate"', "'allow', 'flag' or 'reject'", id=f"action {value!r}"
        )
        for value in ("block", "", None, 1, ["flag"])
    ]
    + [
        pytest.param({"ignore": "hate"}, "ignore", "['hate']", id="ignore without a list"),
        pytest.param({"ignore": None}, "ignore", "list", id="ignore that is None"),
        pytest.param({"thresholds": 0.5}, "thresholds", "table", id="one threshold for no category"),
        pytest.param({"actions": "flag"}, "actions", "table", id="one action for no category"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(options: dict[str, Any], key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Policy(**options)
    assert caught.value.key == key
    assert hint in caught.value.problem


def test_a_policy_does_not_change_with_what_it_was_made_of() -> None:
    thresholds, ignore = {"hate": 0.9}, ["violence"]
    policy = Policy(thresholds=thresholds, ignore=ignore)
    thresholds["hate"] = 0.0
    ignore.append("hate")
    assert policy == Policy(thresholds={"hate": 0.9}, ignore=("violence",))


KNOWN: Final = frozenset({"hate", "hate/threatening", "violence"})


@pytest.mark.parametrize(
    ("policy", "key", "hint"),
    [
        (Policy(thresholds={"hat": 0.5}), 'policy.thresholds."hat"', "did you mean 'hate'?"),
        (Policy(actions={"voilence": Action.FLAG}), 'policy.actions."voilence"', "did you mean 'violence'?"),
        (Policy(ignore=["hate/threat"]), 'policy.ignore."hate/threat"', "did you mean 'hate/threatening'?"),
        (Policy(ignore=["zzz"]), 'policy.ignore."zzz"', "it knows hate, hate/threatening, violence"),
    ],
)
def test_a_category_that_the_moderator_never_reports_is_refused(policy: Policy, key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy.check_categories(KNOWN)
    assert caught.value.key == key
    assert hint in caught.value.problem


def test_categories_that_the_moderator_reports_are_taken() -> None:
    policy = Policy(thresholds={"*": 0.5, "hate": 0.1}, actions={"*": Action.FLAG}, ignore=["violence"])
    policy.check_categories(KNOWN)


def test_of_several_readings_of_one_place_the_worst_counts() -> None:
    items = [Text("/a", "one"), Text("/a", "two"), Text("/a", "three"), Text("/b", "four")]
    verdicts = [
        Verdict(flagged=True, categories={"violence": True}, scores={"violence": score})
        for score in (0.7, 0.9, 0.8, 0.6)
    ]
    reasons = Policy().reasons(items, verdicts)
    assert [(reason.pointer, reason.score) for reason in reasons] == [("/a", 0.9), ("/b", 0.6)]
