"""Moderators made of moderators, in every combination of shapes, awaiting and blocking."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio
import pytest

from doubles import Check
from prescreen import (
    Action,
    BadVerdict,
    Cause,
    ConfigError,
    Decision,
    ModeratorBusy,
    ModeratorDown,
    ModeratorError,
    ModeratorRefused,
    ModeratorTimeout,
    Policy,
    Screen,
    Text,
    Verdict,
)
from prescreen.model import Image, Item
from prescreen.moderators import AnyOf, Escalate, FirstOf, KeywordModerator
from prescreen.moderators.call import Known
from prescreen.moderators.layers import merged

QUIET: Final = "seven quiet lanterns"
BAD: Final = "seven violet lanterns"


@pytest.fixture
def anyio_backend(door: str) -> str:
    return "asyncio" if door == "blocking" else door


class Judge:
    """Flags what contains one of `words`, under its own name; scores by the number in a text, if `scored`.

    It fails on a text with "broken <name>" in it, after it has spoken of those before.
    """

    def __init__(self, name: str, *words: str, error: ModeratorError | None = None, scored: bool = False) -> None:
        self.name = name
        self.categories = {name}
        self.max_characters: int | None = None
        self.asked: list[list[str]] = []
        self._words, self._error, self._scored = words, error, scored

    async def moderate(self, items: Sequence[Item], known: Known | None = None) -> Sequence[Verdict]:
        await anyio.lowlevel.checkpoint()
        return self.moderate_sync(items, 1, known)

    def moderate_sync(self, items: Sequence[Item], timeout: float, known: Known | None = None) -> Sequence[Verdict]:
        assert items
        assert known is not None
        assert timeout > 0
        values = [item.value if isinstance(item, Text) else item.url for item in items]
        self.asked.append(values)
        for index, value in enumerate(values):
            if f"broken {self.name}" in value:
                raise self._error or ModeratorDown("it broke")
            known[index] = self._verdict(value)
        if self._error is not None and not any("broken" in value for value in values):
            known.clear()
            raise self._error
        return list(known.values())

    def _verdict(self, value: str) -> Verdict:
        is_hit = any(word in value for word in self._words)
        scores = {self.name: float(value.rpartition(" ")[2])} if self._scored else {}
        return Verdict(is_hit, {self.name: is_hit}, scores, f"{self.name}-1")


def texts(*values: str) -> list[Text]:
    return [Text(f"/{number}", value) for number, value in enumerate(values)]


def hits(decision: Decision) -> list[tuple[str, str]]:
    return [(reason.pointer, reason.category) for reason in decision.reasons]


def problem(decision: Decision) -> str:
    assert decision.cause in (Cause.UNAVAILABLE, Cause.REFUSED), decision
    return str(decision.problem)


# Any of several.


async def test_what_any_of_them_flags_is_flagged(check: Check) -> None:
    screen = Screen(moderator=AnyOf(Judge("a", "red"), Judge("b", "blue"), Judge("c", "red", "green")))
    decision = await check(screen, texts(QUIET, "red", "blue", "green blue"))
    assert hits(decision) == [("/1", "a"), ("/1", "c"), ("/2", "b"), ("/3", "b"), ("/3", "c")]
    assert (await check(screen, QUIET)).cause is Cause.CLEAN


async def test_all_are_asked_about_everything(check: Check) -> None:
    judges = [Judge("a", "red"), Judge("b")]
    await check(Screen(moderator=AnyOf(*judges)), texts("red", QUIET))
    assert [judge.asked for judge in judges] == [[["red", QUIET]], [["red", QUIET]]]


@pytest.mark.parametrize("broken", ["a", "b"])
async def test_that_one_finds_it_clean_is_no_answer_where_another_fails(check: Check, broken: str) -> None:
    judges = [Judge(name, "red", error=ModeratorDown("gone") if name == broken else None) for name in ("a", "b")]
    screen = Screen(moderator=AnyOf(*judges), on_error="allow")
    decision = await check(screen, QUIET)
    assert problem(decision) == f"ModeratorDown: {broken}: gone"
    assert decision.degraded
    assert decision.reasons == ()


@pytest.mark.parametrize("broken", ["a", "b"])
async def test_what_one_flagged_counts_although_another_fails(check: Check, broken: str) -> None:
    judges = [Judge(name, "red", error=ModeratorDown("gone") if name == broken else None) for name in ("a", "b")]
    decision = await check(Screen(moderator=AnyOf(*judges), on_error="allow"), texts(QUIET, "red"))
    assert decision.is_rejected
    assert [pointer for pointer, _ in hits(decision)] == ["/1"]


async def test_all_being_flagged_by_one_is_still_no_answer_of_all(check: Check) -> None:
    """What it flags, the policy may let pass; what the other would have said of it, nobody knows."""
    screen = Screen(
        moderator=AnyOf(Judge("a", "red"), Judge("b", error=ModeratorDown("gone"))), policy=Policy(ignore=["a"])
    )
    assert problem(await check(screen, "red")) == "ModeratorDown: b: gone"


async def test_what_only_one_of_them_flagged_is_for_the_next_rung_to_judge(check: Check) -> None:
    """Again the policy would let it pass, and another text beside it has no verdict at all."""
    screen = Screen(
        moderator=AnyOf(Judge("a", "red"), Judge("b", error=ModeratorDown("gone"))),
        moderators={"keywords": {"builtin": False, "phrases": {"spam": ["red"]}}},
        policy=Policy(ignore=["a"]),
        on_error=["keywords", "allow"],
    )
    for asked in (texts("red"), texts("red", QUIET)):
        decision = await check(screen, asked)
        assert (hits(decision), decision.rung) == ([("/0", "spam")], "keywords")


async def test_a_refusal_comes_before_an_outage(check: Check) -> None:
    judges = [
        Judge("a", error=ModeratorDown("gone")),
        Judge("b", error=ModeratorRefused("no")),
        Judge("c", error=BadVerdict("odd")),
    ]
    decision = await check(Screen(moderator=AnyOf(*judges), on_error="allow"), QUIET)
    assert (decision.cause, problem(decision)) == (Cause.REFUSED, "ModeratorRefused: b: no")


async def test_when_to_come_back_is_passed_on(check: Check) -> None:
    busy = Judge("b", error=ModeratorBusy("quota", retry_after=7))
    assert (await check(Screen(moderator=AnyOf(Judge("a"), busy)), QUIET)).retry_after == 7


async def test_the_deadline_holds_for_all_together_and_what_is_known_counts(check: Check) -> None:
    async def never(items: Sequence[Item]) -> Sequence[Verdict]:
        await anyio.sleep_forever()
        raise AssertionError

    screen = Screen(moderator=AnyOf(Judge("a", "red"), never), deadline=0.3, on_error="allow")
    assert problem(await check(screen, QUIET)).startswith("ModeratorTimeout: ")
    assert hits(await check(screen, texts(QUIET, "red"))) == [("/1", "a")]


async def test_what_a_member_knew_when_its_time_was_up_counts(check: Check) -> None:
    async def slow(items: Sequence[Item], known: Known) -> Sequence[Verdict]:
        known[0] = Verdict(True, {"spam": True})
        known[1] = "no verdict"  # type: ignore[assignment]  # what users may do
        await anyio.sleep_forever()
        raise AssertionError

    screen = Screen(moderator=AnyOf(slow, Judge("a")), deadline=0.3, on_error="allow")
    assert hits(await check(screen, texts(QUIET, QUIET))) == [("/0", "spam")]


def test_cancelling_leaves_nothing_behind() -> None:
    """An outer deadline cuts the whole off, and what is known by then is told."""

    async def never(items: Sequence[Item]) -> Sequence[Verdict]:
        await anyio.sleep_forever()
        raise AssertionError

    async def life() -> Known:
        known: Known = {}
        with anyio.move_on_after(0.2):
            await AnyOf(Judge("a", "red"), never).moderate(texts("red", QUIET), known=known)
        return known

    assert list(anyio.run(life)) == [0]


# How several verdicts become one.


def test_categories_are_ored_and_scores_are_the_highest() -> None:
    one = Verdict(False, {"hate": False, "spam": False}, {"hate": 0.4, "spam": 0.1}, "m1")
    two = Verdict(True, {"hate": True}, {"hate": 0.2}, "m2")
    assert merged([one, two]) == Verdict(True, {"hate": True, "spam": False}, {"hate": 0.4, "spam": 0.1}, "m1, m2")
    assert merged([one, one]).flagged is False
    assert merged([one, one]).model == "m1"


@pytest.mark.parametrize("turn", [1, -1])
def test_no_score_of_another_undoes_a_hit_without_one(turn: int) -> None:
    sure, unsure = Verdict(True, {"hate": True}), Verdict(False, {"hate": False}, {"hate": 0.1})
    verdict = merged([sure, unsure][::turn])
    assert Policy(thresholds={"hate": 0.7}).reasons(texts("x"), [verdict])


@pytest.mark.parametrize("turn", [1, -1])
def test_no_ignored_category_of_another_explains_a_flag_without_one(turn: int) -> None:
    flag, ignored = Verdict(True), Verdict(True, {"spam": True}, {"spam": 0.9})
    (reason,) = Policy(ignore=["spam"]).reasons(texts("x"), [merged([flag, ignored][::turn])])
    assert reason.category == "unspecified"


# The first that answers.


async def test_the_second_is_not_asked_where_the_first_answers(check: Check) -> None:
    first, second = Judge("a", "red"), Judge("b", "red")
    assert hits(await check(Screen(moderator=FirstOf(first, second)), texts("red", QUIET))) == [("/0", "a")]
    assert second.asked == []


ERRORS: Final = (
    ModeratorTimeout("late"),
    ModeratorDown("gone"),
    ModeratorBusy("quota"),
    BadVerdict("odd"),
)


async def test_a_text_that_one_refuses_goes_to_no_other_and_an_image_does(check: Check) -> None:
    first, second = Judge("a", error=ModeratorRefused("no")), Judge("b", "red")
    screen = Screen(moderator=FirstOf(first, second))
    decision = await check(screen, QUIET)
    assert (decision.cause, problem(decision)) == (Cause.REFUSED, "ModeratorRefused: a: no")
    assert second.asked == []
    assert (await check(screen, [Image("/0", "https://example.com/a.png")])).cause is Cause.CLEAN
    assert len(second.asked) == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_the_first_fails_with_the_second_is_asked(
    check: Check, error: ModeratorError, caplog: pytest.LogCaptureFixture
) -> None:
    screen = Screen(moderator=FirstOf(Judge("a", error=error), Judge("b", "red")))
    assert hits(await check(screen, texts("red", QUIET))) == [("/0", "b")]
    warning = next(record for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.getMessage() == f"first(a, b): a failed ({type(error).__name__}: {error.problem})"


async def test_only_what_has_no_verdict_yet_is_asked_about(check: Check) -> None:
    judges = [Judge("a", "red"), Judge("b", "red"), Judge("c", "red")]
    screen = Screen(moderator=FirstOf(*judges))
    decision = await check(screen, texts("red", "broken a", "broken a red", "broken a broken b red"))
    assert hits(decision) == [("/0", "a"), ("/2", "b"), ("/3", "c")]
    assert [judge.asked for judge in judges[1:]] == [
        [["broken a", "broken a red", "broken a broken b red"]],
        [["broken a broken b red"]],
    ]


async def test_the_last_ones_error_is_the_layers(check: Check) -> None:
    members = (Judge("a", error=ModeratorDown("gone")), Judge("b", error=ModeratorBusy("quota", retry_after=3)))
    decision = await check(Screen(moderator=FirstOf(*members)), QUIET)
    assert (problem(decision), decision.retry_after) == ("ModeratorBusy: b: quota", 3)


async def test_what_was_judged_before_all_failed_counts(check: Check) -> None:
    screen = Screen(moderator=FirstOf(Judge("a", "red"), Judge("b")), on_error="allow")
    assert hits(await check(screen, texts("red", "broken a broken b"))) == [("/0", "a")]


async def test_one_that_never_answers_leaves_time_for_the_next(check: Check) -> None:
    left: list[float] = []

    async def never(items: Sequence[Item], timeout: float) -> Sequence[Verdict]:  # noqa: ASYNC109  # what is tested
        left.append(timeout)
        await anyio.sleep_forever()
        raise AssertionError

    screen = Screen(moderator=FirstOf(never, never, Judge("c", "red"), patience=0.1), deadline=5)
    assert hits(await check(screen, "red")) == [("", "c")]
    assert 0.4 < left[0] <= 0.5
    assert left[1] < left[0]


async def test_the_last_may_take_all_the_time_that_is_left(check: Check) -> None:
    left: list[float] = []

    async def last(items: Sequence[Item], timeout: float) -> Sequence[Verdict]:  # noqa: ASYNC109  # what is tested
        left.append(timeout)
        return [Verdict(False)]

    gone = Judge("a", error=ModeratorDown("gone"))
    await check(Screen(moderator=FirstOf(gone, last, patience=0.1), deadline=100), QUIET)
    assert left[0] > 50


def test_who_takes_all_the_time_where_nothing_can_cut_it_short_is_the_last(gate: threading.Event) -> None:
    def hanging(items: Sequence[Item]) -> Sequence[Verdict]:
        gate.wait(0.2)
        raise ModeratorDown("gone")

    second = Judge("b", "red")
    decision = Screen(moderator=FirstOf(hanging, second), deadline=0.1).check_sync("red")
    assert problem(decision) == "ModeratorTimeout: b: no time was left for it"
    assert second.asked == []


@pytest.mark.parametrize("patience", [0, 1, -0.5, 2, True, "0.5", None])
def test_patience_is_a_share(patience: Any) -> None:
    with pytest.raises(ConfigError, match="no share between 0 and 1") as caught:
        FirstOf(Judge("a"), Judge("b"), patience=patience)
    assert caught.value.key == "patience"


# A second opinion.


async def test_only_where_the_first_is_unsure_the_second_is_asked_and_stands(check: Check) -> None:
    first, second = Judge("a", "red", scored=True), Judge("b", "blue")
    screen = Screen(moderator=Escalate(first, second, between=(0.3, 0.7)))
    asked = ["red 0.9", "blue 0.1", "red 0.3", "blue 0.7", "red blue 0.5", "x 0.71", "red 0.29"]
    decision = await check(screen, texts(*asked))
    assert second.asked == [["red 0.3", "blue 0.7", "red blue 0.5"]]
    assert hits(decision) == [("/0", "a"), ("/3", "b"), ("/4", "b"), ("/6", "a")]


async def test_nobody_is_asked_where_the_first_is_sure(check: Check) -> None:
    second = Judge("b")
    assert (await check(Screen(moderator=Escalate(Judge("a", scored=True), second)), "x 0.1")).cause is Cause.CLEAN
    assert second.asked == []


@pytest.mark.parametrize(("between", "asked"), [((0.3, 1), ["red"]), ((0, 0.3), ["blue"]), ((0.3, 0.7), None)])
async def test_without_scores_a_flag_is_one_and_none_is_zero(
    check: Check, between: tuple[float, float], asked: list[str] | None
) -> None:
    second = Judge("b")
    await check(Screen(moderator=Escalate(Judge("a", "red"), second, between=between)), texts("red", "blue"))
    assert second.asked == ([asked] if asked else [])


async def test_the_first_ones_other_verdicts_count_where_the_second_fails(check: Check) -> None:
    first, second = Judge("a", "red", scored=True), Judge("b", error=ModeratorDown("gone"))
    screen = Screen(moderator=Escalate(first, second), on_error="allow")
    assert hits(await check(screen, texts("x 0.5", "red 0.9"))) == [("/1", "a")]
    decision = await check(screen, texts("x 0.5", "x 0.1"))
    assert problem(decision) == "ModeratorDown: b: gone"
    assert decision.degraded


async def test_where_the_first_fails_so_does_the_whole(check: Check) -> None:
    second = Judge("b", "x")
    screen = Screen(moderator=Escalate(Judge("a", scored=True), second))
    assert problem(await check(screen, texts("broken a 0.9"))) == "ModeratorDown: a: it broke"
    assert second.asked == []
    # What it did say is followed up all the same.
    assert hits(await check(screen, texts("x 0.5", "broken a 0.9"))) == [("/0", "b")]


@pytest.mark.parametrize(
    "between", [(0.7, 0.3), (-0.1, 0.5), (0.5, 1.1), (0.5,), 0.5, ("0.1", 0.5), (False, True), None]
)
def test_between_is_a_pair_of_scores(between: Any) -> None:
    with pytest.raises(ConfigError, match="no pair of scores") as caught:
        Escalate(Judge("a"), Judge("b"), between=between)
    assert caught.value.key == "between"


# What they have in common.


def plain(items: Sequence[Item]) -> list[Verdict]:
    return [
        Verdict(isinstance(item, Text) and BAD in item.value, {"plain": BAD in str(item.pointer)}) for item in items
    ]


async def awaited(items: Sequence[Item]) -> list[Verdict]:
    return plain(items)


class WithModerate:
    def moderate(self, items: Sequence[Item], /, timeout: float = 0) -> list[Verdict]:
        assert timeout > 0
        return plain(items)


LAYERS: Final[tuple[Callable[..., Any], ...]] = (AnyOf, FirstOf, Escalate)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("member", [plain, awaited, WithModerate(), AnyOf(plain, awaited), FirstOf(awaited, plain)])
async def test_a_member_may_have_any_shape(check: Check, layer: Callable[..., Any], member: Any) -> None:
    screen = Screen(moderator=layer(member, awaited))
    assert (await check(screen, BAD)).is_rejected
    assert (await check(screen, QUIET)).cause is Cause.CLEAN


async def test_layers_go_into_layers(check: Check) -> None:
    gone = Judge("gone", error=ModeratorDown("gone"))
    inner = AnyOf(Judge("a", "red"), Judge("b", "blue"))
    screen = Screen(moderator=FirstOf(AnyOf(gone, Judge("c")), Escalate(inner, Judge("d"))))
    assert screen.moderator.name == "first(any(gone, c), escalate(any(a, b), d))"
    assert hits(await check(screen, texts("red", QUIET, "blue"))) == [("/0", "a"), ("/2", "b")]


async def test_what_one_alone_found_clean_is_asked_again_further_out(check: Check) -> None:
    half = AnyOf(Judge("a", "red"), Judge("b", error=ModeratorDown("gone")))
    last = Judge("c", "blue")
    assert hits(await check(Screen(moderator=FirstOf(half, last)), texts("red", "blue"))) == [("/0", "a"), ("/1", "c")]
    assert last.asked == [["blue"]]


async def test_a_member_that_answers_oddly_has_failed(check: Check) -> None:
    def odd(items: Sequence[Item]) -> Any:
        return [Verdict(False)] * (len(items) + 1)

    assert problem(await check(Screen(moderator=AnyOf(plain, odd)), QUIET)).startswith("BadVerdict: odd: ")
    assert (await check(Screen(moderator=FirstOf(odd, plain)), BAD)).is_rejected


async def test_a_members_own_words_stay_its_own(check: Check) -> None:
    def leaking(items: Sequence[Item]) -> list[Verdict]:
        raise RuntimeError(items[0].value)  # type: ignore[union-attr]

    decision = await check(Screen(moderator=AnyOf(plain, leaking)), QUIET)
    assert problem(decision).startswith("ModeratorDown: leaking: the moderator raised RuntimeError")
    assert QUIET not in repr(decision)


async def test_an_error_of_a_kind_of_your_own_is_known_by_ours(check: Check) -> None:
    class Spent(ModeratorBusy):
        def __init__(self, who: str, code: int) -> None:
            super().__init__(f"{who} {code}")

    spent = Judge("a", error=Spent("quota", 7))
    for _ in range(2):
        screen = Screen(moderator=AnyOf(spent, plain))  # one that has not been told to come back later
        assert problem(await check(screen, QUIET)) == "ModeratorBusy: a: quota 7"


def test_a_layer_says_what_its_members_say_of_themselves() -> None:
    first, second = Judge("a"), Judge("b")
    first.max_characters, second.max_characters = 500, 300
    layer = AnyOf(first, second, "keywords")
    assert (layer.name, layer.max_characters) == ("any(a, b, keywords)", 300)
    assert layer.categories is not None
    assert layer.categories > {"a", "b", "violence"}
    assert repr(layer) == "<any(a, b, keywords)>"
    assert FirstOf(Judge("a"), plain).categories is None
    assert FirstOf(Judge("a"), plain).max_characters is None
    with pytest.raises(ConfigError, match="has no category 'violense'"):
        Screen(moderator=layer, policy=Policy(actions={"violense": Action.FLAG}))


@pytest.mark.parametrize("members", [(), (plain,), (plain, 7), (plain, "kexwords")])
@pytest.mark.parametrize("layer", [AnyOf, FirstOf])
def test_what_cannot_be_a_layer_is_found_at_once(layer: Callable[..., Any], members: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        layer(*members)
    assert caught.value.key == "moderator"


async def test_a_layer_can_be_asked_without_a_screen() -> None:
    layer = FirstOf(Judge("a", error=ModeratorDown("gone")), KeywordModerator(phrases={"spam": ["violet"]}))
    (verdict,) = await layer.moderate(texts(BAD))
    assert verdict.categories["spam"]
    assert [each.flagged for each in layer.moderate_sync(texts(BAD), 5)] == [True]
    assert list(await layer.moderate([])) == []


# What a moderator is offered.


async def test_a_moderator_may_ask_for_the_time_that_is_left(check: Check) -> None:
    told: list[float] = []

    def check_it(items: Sequence[Item], *, timeout: float) -> list[Verdict]:
        told.append(timeout)
        return plain(items)

    assert (await check(Screen(moderator=check_it, deadline=3), BAD)).is_rejected
    assert 2.9 < told[0] <= 3


async def test_a_parameter_that_goes_by_position_is_ones_own(check: Check) -> None:
    def check_it(items: Sequence[Item], timeout: str = "mine", /) -> list[Verdict]:
        assert timeout == "mine"
        return plain(items)

    assert (await check(Screen(moderator=check_it), BAD)).is_rejected
