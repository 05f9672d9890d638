"""The desk by itself: who waits for what, and which texts go to the moderator together."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from time import monotonic
from typing import Any, cast

from prescreen import BadVerdict, Image, ModeratorBusy, ModeratorDown, ModeratorRefused, ModeratorTimeout, Text, Verdict
from prescreen.traffic.blocking import BlockingDesk
from prescreen.traffic.desk import Desk
from prescreen.traffic.tickets import Heard, Ticket, Waiter

CLEAN, BAD = Verdict(False), Verdict(True, {"violence": True})
DOWN = ModeratorDown("gone")


class Person:
    """One screening at a desk."""

    def __init__(self, desk: Desk, *values: str | Image, deadline: float = 10.0, is_private: bool = False) -> None:
        self.woken = 0
        self.waiter = Waiter(deadline, self._wake)
        items = dict(enumerate(value if isinstance(value, Image) else Text("", value) for value in values))
        keys = {at: None if is_private or isinstance(item, Image) else item.value for at, item in items.items()}
        desk.join(self.waiter, items, keys)

    def _wake(self) -> None:
        self.woken += 1


def values(batch: Sequence[Ticket]) -> list[str]:
    return [ticket.item.value if isinstance(ticket.item, Text) else ticket.item.url for ticket in batch]


def clean(batch: Sequence[Ticket]) -> dict[int, Verdict]:
    return dict.fromkeys(range(len(batch)), CLEAN)


def test_with_a_free_slot_a_text_leaves_at_once_and_the_others_gather_until_one_is_free() -> None:
    desk = Desk(slots=1, most=10)
    Person(desk, "a")
    first = desk.lead(0)
    assert values(first) == ["a"]
    people = [Person(desk, value) for value in "bcd"]
    assert not desk.may_lead
    desk.settle(first, Heard(clean(first)), 0, 0)
    second = desk.lead(0)
    assert values(second) == ["b", "c", "d"]
    desk.settle(second, Heard({0: CLEAN, 1: BAD, 2: CLEAN}), 0, 0)
    assert [person.waiter.known for person in people] == [{0: CLEAN}, {0: BAD}, {0: CLEAN}]
    assert [person.woken for person in people] == [1, 1, 1]
    assert (desk.lead(0), desk.queued) == ([], 0)


def test_a_call_carries_so_many_texts_and_characters_and_no_more() -> None:
    desk = Desk(slots=9, most=3)
    Person(desk, *"abcde")
    assert [values(desk.lead(0)), values(desk.lead(0))] == [["a", "b", "c"], ["d", "e"]]
    Person(desk, "x" * 20_000, "y" * 20_000, "z")
    assert [len(desk.lead(0)), len(desk.lead(0))] == [1, 2]
    Person(desk, "w" * 50_000)  # alone it goes, however long
    assert len(desk.lead(0)) == 1


def test_many_who_wait_are_shared_out_among_the_slots() -> None:
    desk = Desk(slots=4, most=32)
    people = [Person(desk, f"{number}") for number in range(64)]
    batches = [desk.lead(0) for _ in range(4)]
    assert [len(batch) for batch in batches] == [16] * 4
    for batch in batches:
        desk.settle(batch, Heard(clean(batch)), 0, 0)
    for person in people:
        desk.leave(person.waiter)
    for number in range(5):
        Person(desk, f"again {number}")
    assert len(desk.lead(0)) == 5  # a few do not take a call each


def busy(
    *, slots: int = 2, most: int = 32, waiting: int = 4, deadline: float = 10.0, now: float = 0, took: float = 1.0
) -> Desk:
    """Where calls take a second, and so many people wait, none of whom has been led yet."""
    desk = Desk(slots, most)
    Person(desk, "first", deadline=deadline)
    desk.settle(desk.lead(0), Heard({0: CLEAN}, took=took), 0, now)
    for number in range(waiting):
        Person(desk, f"{number}", deadline=deadline)
    return desk


def test_where_slots_are_short_a_call_may_wait_for_company_for_a_little_of_its_time() -> None:
    desk = busy()
    assert desk.patience(0, 0) == 0.05
    assert desk.patience(0, 0.03) == 0.05 - 0.03
    assert desk.patience(0, 0.05) <= 0


def test_a_call_does_not_wait_for_company_where_there_is_nothing_to_be_had_of_it() -> None:
    assert busy(waiting=1).patience(0, 0) == 0  # a slot for each
    assert busy(waiting=12).patience(0, 0) == 0  # enough are there
    assert busy(most=4).patience(0, 0) == 0  # no more would go
    assert busy().patience(6, 6) == 0  # how long a call takes was known once
    assert Desk(2, 32).patience(0, 0) == 0
    images = Desk(1, 32)
    images.settle([Ticket(Text("", "x"), None, 1)], Heard({0: CLEAN}, took=1.0), 0, 0)
    for _ in range(3):
        Person(images, Image("", "https://pictures.example/a.png"))
    assert images.patience(0, 0) == 0
    refused = busy(waiting=3)
    refused.settle(refused.lead(0), Heard(error=ModeratorRefused("no")), 0, 0)
    assert refused.patience(0, 0) == 0


def test_a_thread_that_leads_lets_those_come_who_keep_coming() -> None:
    class Bell(Event):
        def wait(self, timeout: float | None = None) -> bool:
            if coming:
                Person(desk, coming.pop(), deadline=now + 1_000)
            return False

    now, coming = monotonic(), ["one more", "another", "the last"]
    desk = busy(deadline=now + 1_000, now=now, took=100.0)  # whoever leads has ten seconds for them
    BlockingDesk(cast(Any, None), desk)._gather(Bell())
    assert not coming
    assert desk.queued == 7


def test_a_call_does_not_wait_until_it_is_too_late_for_somebody() -> None:
    desk = busy(deadline=1.05)
    assert round(desk.patience(0, 0), 9) == 0.05
    assert len(desk.lead(desk.patience(0, 0))) == 4


def test_where_there_is_no_quota_who_has_not_the_time_is_told_the_queue_included() -> None:
    desk = Desk(slots=1, most=2)
    hasty, patient = [Person(desk, f"{number}" * 40) for number in range(5)], Person(desk, "p" * 40, deadline=90)
    cheap = Person(desk, "c")
    assert desk.admit(desk.lead(0), (), 60, 0) == []
    assert [person.woken for person in hasty] == [1] * 5
    assert all(isinstance(person.waiter.error, ModeratorBusy) for person in hasty)
    assert (patient.woken, cheap.woken) == (0, 0)  # what costs less may go sooner
    for person in hasty:
        desk.leave(person.waiter)
    assert values(desk.lead(0)) == ["p" * 40, "c"]


def test_many_texts_of_one_do_not_keep_the_one_of_another_waiting() -> None:
    desk = Desk(slots=1, most=10)
    Person(desk, *(f"many {number}" for number in range(500)))
    Person(desk, "one")
    Person(desk, "two", "three")
    assert {"one", "two", "three"} < set(values(desk.lead(0)))


def test_identical_texts_share_a_call_queued_or_out() -> None:
    desk = Desk(slots=2, most=10)
    first, second = Person(desk, "a", "a"), Person(desk, "a")
    batch = desk.lead(0)
    third = Person(desk, "a", "b")
    assert [values(batch), values(desk.lead(0))] == [["a"], ["b"]]
    desk.settle(batch, Heard({0: BAD}), 0, 0)
    assert first.waiter.known == {0: BAD, 1: BAD}
    assert second.waiter.known == third.waiter.known == {0: BAD}
    assert [first.woken, second.woken, third.woken] == [1, 1, 0]


def test_what_has_no_key_is_shared_with_nobody() -> None:
    desk = Desk(slots=1, most=10)
    Person(desk, "a", is_private=True)
    Person(desk, "a", is_private=True)
    assert values(desk.lead(0)) == ["a", "a"]


def test_who_leaves_takes_along_what_nobody_else_waits_for() -> None:
    desk = Desk(slots=1, most=10)
    leaver, stayer = Person(desk, "a", "b"), Person(desk, "b", "c")
    desk.leave(leaver.waiter)
    assert sorted(values(desk.lead(0))) == ["b", "c"]
    assert stayer.waiter.indexes
    desk.leave(stayer.waiter)
    late = Person(desk, "b")  # it is out, and who comes now gets its answer
    assert not desk.may_lead
    assert late.waiter.indexes


def test_who_leaves_early_is_not_asked_for_even_if_its_text_was_given_back() -> None:
    desk = Desk(slots=1, most=10)
    leaver = Person(desk, "a")
    assert desk.admit(desk.lead(0), (), 0, 0) == []
    desk.leave(leaver.waiter)
    assert desk.lead(0) == []
    Person(desk, "a")
    assert values(desk.lead(0)) == ["a"]


def test_what_is_given_back_waits_in_front() -> None:
    desk = Desk(slots=1, most=10)
    Person(desk, *"abc")
    batch = desk.lead(0)
    assert desk.admit(batch, (0,), 0, 0) == batch[:1]
    desk.settle(batch[:1], Heard({0: CLEAN}), 0, 0)
    Person(desk, "d")
    assert values(desk.lead(0)) == ["b", "c", "d"]


def test_a_refusal_is_the_culprits_alone() -> None:
    desk = Desk(slots=1, most=10)
    people = [Person(desk, value) for value in ["a", "b", "culprit", "d", "e"]]
    calls = 0
    while batch := desk.lead(0):
        calls += 1
        if "culprit" in values(batch):
            desk.settle(batch, Heard(error=ModeratorRefused("400")), 0, 0)
        else:
            desk.settle(batch, Heard(clean(batch)), 0, 0)
    assert [type(person.waiter.error) for person in people] == [*[type(None)] * 2, ModeratorRefused, *[type(None)] * 2]
    assert [person.woken for person in people] == [1] * 5
    assert calls <= 6


def test_halves_of_a_refused_call_stay_apart_from_newcomers() -> None:
    desk = Desk(slots=1, most=10)
    Person(desk, *"abcd")
    desk.settle(desk.lead(0), Heard(error=ModeratorRefused("400")), 0, 0)
    half = desk.lead(0)
    assert desk.admit(half, (), 0, 0) == []  # there was no quota for it just now
    newcomer = Person(desk, "new")
    assert [values(desk.lead(0)) for _ in range(3)] == [["new"], ["a", "b"], ["c", "d"]]  # in turn
    assert newcomer.waiter.indexes


def test_what_is_refused_is_first_looked_for_where_it_was() -> None:
    desk = Desk(slots=1, most=100)
    person = Person(desk, *map(str, range(64)))
    calls = 0
    while person.waiter.error is None:
        calls += 1
        desk.settle(desk.lead(0), Heard(error=ModeratorRefused("400")), 9, 0)
    assert calls == 7


def test_halves_that_nobody_waits_for_are_dropped() -> None:
    desk = Desk(slots=1, most=10)
    leaver = Person(desk, *"ab")
    desk.settle(desk.lead(0), Heard(error=ModeratorRefused("400")), 0, 0)
    desk.leave(leaver.waiter)
    assert desk.lead(0) == []


def test_an_outage_is_everybodys_and_a_refusal_comes_before_it() -> None:
    desk = Desk(slots=3, most=1)
    person = Person(desk, "a", "b", "c")
    batches = [desk.lead(0), desk.lead(0), desk.lead(0)]
    desk.settle(batches[0], Heard(error=DOWN), 0, 0)
    desk.settle(batches[1], Heard(error=ModeratorRefused("400")), 0, 0)
    assert person.woken == 0
    desk.settle(batches[2], Heard(error=BadVerdict("odd")), 0, 0)
    assert isinstance(person.waiter.error, ModeratorRefused)
    assert (person.woken, person.waiter.known) == (1, {})


def test_what_a_failing_call_did_judge_is_known() -> None:
    desk = Desk(slots=1, most=10)
    person = Person(desk, "a", "b")
    desk.settle(desk.lead(0), Heard({1: BAD}, DOWN), 0, 0)
    assert (person.waiter.known, person.waiter.error) == ({1: BAD}, DOWN)


def test_who_came_late_to_a_call_that_was_too_slow_waits_for_another_once() -> None:
    desk = Desk(slots=1, most=10)
    early, slow = Person(desk, "a", deadline=1.0), ModeratorTimeout("slow")
    batch = desk.lead(0)
    late, later = Person(desk, "a", deadline=2.0), Person(desk, "a", deadline=1.02)
    desk.settle(batch, Heard(error=slow), 1.0, 1.0)
    assert [early.woken, later.woken, late.woken] == [1, 1, 0]
    batch = desk.lead(0)
    assert values(batch) == ["a"]
    desk.settle(batch, Heard(error=slow), 2.0, 1.5)
    assert (late.woken, late.waiter.error) == (1, slow)
    assert desk.lead(0) == []


def test_who_has_time_left_after_a_call_in_somebody_elses_time_waits_for_another() -> None:
    desk = Desk(slots=1, most=10)
    leader, other = Person(desk, "a", deadline=1.0), Person(desk, "b", deadline=9.0)
    batch = desk.lead(0)
    desk.settle(batch, Heard(error=ModeratorTimeout("slow")), 1.0, 1.0)
    assert [leader.woken, other.woken] == [1, 0]
    assert values(desk.lead(1.0)) == ["b"]


def test_a_half_that_was_too_slow_stays_by_itself() -> None:
    desk = Desk(slots=1, most=10)
    patient = Person(desk, *"ab", deadline=9.0)
    desk.settle(desk.lead(0), Heard(error=ModeratorRefused("400")), 9.0, 0)
    desk.settle(desk.lead(0), Heard(error=ModeratorTimeout("slow")), 1.0, 1.0)
    newcomer = Person(desk, "c")
    assert [values(desk.lead(1.0)) for _ in range(3)] == [["c"], ["b"], ["a"]]
    assert not patient.woken + newcomer.woken


def test_a_call_that_would_have_to_be_cut_short_is_not_made() -> None:
    desk = Desk(slots=1, most=10)
    Person(desk, "first", deadline=2.0)
    desk.settle(batch := desk.lead(0), Heard(clean(batch), took=0.5), 2.0, 0.5)
    hasty, patient = Person(desk, "hasty", deadline=1.0), Person(desk, "patient", deadline=2.0)
    assert values(desk.lead(0.6)) == ["patient"]
    assert (hasty.woken, type(hasty.waiter.error), patient.woken) == (1, ModeratorTimeout, 0)


def test_how_long_a_call_takes_is_soon_forgotten() -> None:
    desk = Desk(slots=1, most=10)
    Person(desk, "first", deadline=2.0)
    desk.settle(batch := desk.lead(0), Heard(clean(batch), took=1.9), 2.0, 1.9)
    Person(desk, "hasty", deadline=3.0)
    assert desk.lead(2.0) == []
    Person(desk, "hasty", deadline=9.0)
    assert values(desk.lead(8.0)) == ["hasty"]  # who knows what it takes by now


def test_many_images_of_one_do_not_keep_the_text_of_another_waiting() -> None:
    desk = Desk(slots=1, most=10)
    Person(desk, "a", *(Image("", f"https://example.com/{number}.png") for number in range(16)))
    desk.settle(batch := desk.lead(0), Heard(clean(batch)), 9, 0)
    desk.settle(batch := desk.lead(0), Heard(clean(batch)), 9, 0)
    Person(desk, "text")
    assert values(desk.lead(0)) == ["text"]
    assert values(desk.lead(0)) == ["https://example.com/1.png"]


def test_images_leave_slots_to_texts() -> None:
    desk = Desk(slots=4, most=10)
    Person(desk, *(Image("", f"https://example.com/{number}.png") for number in range(9)))
    batches = [desk.lead(0) for _ in range(2)]
    assert [len(batch) for batch in batches] == [1, 1]
    assert not desk.may_lead
    Person(desk, "text")
    assert desk.may_lead
    assert values(desk.lead(0)) == ["text"]
    desk.settle(batches[0], Heard(clean(batches[0])), 9, 0)
    assert desk.may_lead
    assert len(desk.lead(0)) == 1


def test_an_image_goes_alone_and_texts_do_not_wait_for_it() -> None:
    desk = Desk(slots=5, most=10)
    picture = Image("", "https://example.com/a.png")
    Person(desk, "a", picture, "b", picture)
    Person(desk, "c")
    assert values(desk.lead(0)) == ["a", "c", "b"]
    assert [values(desk.lead(0)), values(desk.lead(0))] == [[picture.url], [picture.url]]
    assert desk.lead(0) == []
