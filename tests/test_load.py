"""The pure parts of traffic: quotas by the minute, room for so many, options that make no sense."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prescreen import ConfigError, Image, Screen, Text
from prescreen.load import Breaker, Cache, Quota, Room, Spent, spend, tokens

NOW = 1_000_000.25


def test_a_call_takes_as_many_texts_as_there_are_tokens_for() -> None:
    spent, places, wait = spend(Quota(tpm=100), (), [40, 40, 40], NOW)
    assert (places, wait) == ((0, 1), 0)
    assert spend(Quota(tpm=100), spent, [10, 20], NOW)[1] == (0,)


def test_a_text_that_is_too_dear_just_now_keeps_no_others_waiting() -> None:
    spent, _, _ = spend(Quota(tpm=100), (), [60], NOW)
    assert spend(Quota(tpm=100), spent, [50, 10, 20], NOW)[1:] == ((1, 2), 0)


def test_what_others_whose_clocks_are_ahead_have_spent_counts() -> None:
    spent, _, _ = spend(Quota(rpm=2), (), [1], NOW + 1.5)
    spent, _, _ = spend(Quota(rpm=2), spent, [1], NOW)
    assert spend(Quota(rpm=2), spent, [1], NOW + 1.5)[1] == ()


def test_without_a_bound_on_tokens_all_texts_go_in_one_call() -> None:
    assert spend(Quota(rpm=1), (), [10_000] * 5, NOW)[1:] == (tuple(range(5)), 0)


def test_where_the_quota_is_spent_it_says_how_long_to_wait() -> None:
    spent, _, _ = spend(Quota(rpm=1), (), [1], NOW)
    again, places, wait = spend(Quota(rpm=1), spent, [1], NOW + 10)
    assert places == ()
    assert again == spent
    assert spend(Quota(rpm=1), spent, [1], NOW + 10 + wait - 0.01)[1] == ()
    assert spend(Quota(rpm=1), spent, [1], NOW + 10 + wait)[1] == (0,)


def test_a_text_that_is_more_than_the_quota_goes_when_all_of_it_is_there() -> None:
    spent, places, _ = spend(Quota(tpm=100), (), [5_000, 1], NOW)
    assert places == (0,)
    assert spend(Quota(tpm=100), spent, [1], NOW + 59)[1] == ()
    assert spend(Quota(tpm=100), spent, [1], NOW + 61)[1] == (0,)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(10, 50))
def test_in_no_minute_is_it_more_than_the_quota(seed: int, rpm: int, tpm: int) -> None:
    chance, now = random.Random(seed), NOW
    quota, sent = Quota(rpm=rpm, tpm=tpm), list[tuple[float, int]]()
    spent: Spent = ()
    for _ in range(60):
        costs = [chance.randint(1, tpm) for _ in range(chance.randint(1, 4))]
        spent, places, wait = spend(quota, spent, costs, now)
        if places:
            sent.append((now, sum(costs[place] for place in places)))
        assert (not places) == (wait > 0)
        now += wait if wait and chance.random() < 0.5 else chance.uniform(0, 20)
    for start, _ in sent:
        minute = [cost for at, cost in sent if start <= at < start + 60]
        assert len(minute) <= rpm
        assert sum(minute) <= tpm


def test_tokens_are_estimated_by_bytes() -> None:
    assert tokens(Text("", "word" * 100)) == 101
    assert tokens(Text("", "\u8a71" * 100)) == 76  # three bytes each
    assert tokens(Text("", "\ud800" * 4)) == 2
    assert tokens(Image("", "https://example.com/a.png")) == 1_000


def test_there_is_room_for_so_many_and_no_more() -> None:
    room = Room(2)
    assert [room.enter(), room.enter(), room.enter()] == [True, True, False]
    room.leave()
    assert room.enter()
    assert not room.enter()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"quota": {}}, "quota"),
        ({"quota": {"rpm": 0}}, "quota.rpm"),
        ({"quota": {"tpm": "many"}}, "quota.tpm"),
        ({"quota": {"rpd": 5}}, "quota.rpd"),
        ({"cache": {"ttl": "soon"}}, "cache.ttl"),
        ({"cache": {"stale": 0}}, "cache.stale"),
        ({"cache": {"entries": 0}}, "cache.entries"),
        ({"cache": {"size": "large"}}, "cache.size"),
        ({"cache": {"shared": "yes"}}, "cache.shared"),
        ({"cache": "on"}, "cache"),
        ({"breaker": {"rate": 0}}, "breaker.rate"),
        ({"breaker": {"rate": True}}, "breaker.rate"),
        ({"breaker": {"calls": 0}}, "breaker.calls"),
        ({"breaker": {"window": "0.5s"}}, "breaker.window"),
        ({"breaker": {"slow": "never"}}, "breaker.slow"),
        ({"breaker": {"probe": -1}}, "breaker.probe"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"max_batch": "all"}, "max_batch"),
        ({"max_screenings": 0}, "max_screenings"),
        ({"on_error": []}, "on_error"),
        ({"on_error": "retry"}, "on_error"),
        ({"on_error": ["stale"]}, "on_error[0]"),
        ({"on_error": ["flag", "reject"]}, "on_error[0]"),
        ({"on_error": ["azure", "azure", "flag"]}, "on_error[1]"),
        ({"on_error": ["asure", "flag"]}, "on_error[0]"),
        ({"on_error": ["keywords", "flag"]}, "on_error[0]"),  # the moderator itself
        ({"on_error": ["stale", "flag"]}, "on_error[0]"),  # of keywords, no verdict is kept
        ({"on_error": ["openai", "flag"]}, "moderators.openai.api_key"),
    ],
)
def test_what_makes_no_sense_is_found_at_start_up(
    options: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError) as caught:
        Screen(moderator="keywords", **options)
    assert caught.value.key == key


def test_what_makes_sense_is_taken() -> None:
    screen = Screen(
        moderator="keywords",
        cache={"ttl": "1h", "size": "1MiB"},
        quota={"rpm": 500, "tpm": 10_000},
        breaker={"slow": "1s"},
        max_in_flight=2,
        max_batch=8,
        max_screenings=10,
    )
    found = screen.settings
    assert (found.cache, found.quota) == (Cache(ttl=3600, size=1 << 20), Quota(rpm=500, tpm=10_000))
    assert found.breaker == Breaker(slow=1.0)
    bare = Screen(moderator="keywords", cache=False, breaker=False).settings
    assert (bare.cache, bare.breaker) == (None, None)
    assert Screen(moderator="keywords", cache=True, breaker=True).settings.cache == Cache()
