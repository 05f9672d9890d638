from __future__ import annotations

import logging
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from prescreen import Action, Cause, ConfigError, Decision, Image, Policy, Screen, Text
from prescreen.moderators.keywords import PHRASES, SENTINEL, KeywordModerator

PHRASE = "I will dim your lantern"


def screen(**options: Any) -> Screen:
    """A screen by an own list; without the built-in one unless that is asked for."""
    return Screen(moderator="keywords", moderators={"keywords": {"builtin": False} | options})


def listing(*phrases: str, category: str = "house") -> Screen:
    return screen(phrases={category: list(phrases)})


def hits(text: str, *phrases: str) -> bool:
    """Whether a text is flagged by a list of these phrases."""
    return listing(*phrases).check_sync(text).cause is Cause.FLAGGED


# What counts as the same words.


@pytest.mark.parametrize(
    "text",
    [
        PHRASE,
        f"Listen: {PHRASE}, and soon!",
        PHRASE.upper(),
        PHRASE.lower(),
        "i Will diM yOUR LanTern",
        "I  will\tdim\r\nyour\u00a0lantern",
        "I will... dim, your \u2014 lantern?!",
        "**I will** dim *your* `lantern`",
        "I _will_ dim __your__ lantern",
        '{"said":"I will dim your lantern"}',
        "I'll dim your lantern",
        "I\u2019ll dim your lantern",
        "I\u2018ll dim your lantern",
        "I\u02bcll dim your lantern",
        "I\uff07ll dim your lantern",
        "I`ll dim your lantern",
        "'I will dim your lantern'",
        "\u2018I will dim your lantern\u2019",
        "\uff29 \uff57\uff49\uff4c\uff4c \uff44\uff49\uff4d \uff59\uff4f\uff55\uff52 lantern",  # full width
        "I will \U0001d41d\U0001d422\U0001d426 your lantern",  # mathematical bold
        "\u2160 will \u24d3\u24d8\u24dc your lantern",  # Roman numeral, circled letters
    ],
    ids=ascii,
)
def test_a_phrase_is_found_however_it_is_written(text: str) -> None:
    assert hits(text, PHRASE)


@pytest.mark.parametrize(
    "character",
    [
        "\u00ad",
        "\u034f",
        "\u061c",
        "\u180e",
        "\u200b",
        "\u200c",
        "\u200d",
        "\u200e",
        "\u202e",
        "\u2060",
        "\u2066",
        "\ufe0f",
        "\ufeff",
        "\U000e0041",
    ],
    ids=lambda character: f"U+{ord(character):04X}",
)
def test_an_invisible_character_hides_no_word(character: str) -> None:
    assert hits(f"I will dim your lan{character}tern", PHRASE)
    assert hits(f"{character}I{character} will dim your lantern{character}", PHRASE)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("I'm going to dim it", "I am going to dim it"),
        ("im gonna dim it", "I am going to dim it"),
        ("I AM GOING TO DIM IT", "I'm gonna dim it"),
        ("You\u2019re a lantern", "you are a lantern"),
        ("youll dim", "you will dim"),
        ("don't dim it", "dont dim it"),
        ("dont dim it", "don\u2019t dim it"),
        ("O\u2019Lantern", "o'lantern"),
    ],
)
def test_contractions_are_the_words_that_they_stand_for(text: str, phrase: str) -> None:
    assert hits(text, phrase)


def test_accents_count_in_either_form() -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert hits(unicodedata.normalize(form, "Caf\u00e9 Lanterne"), "caf\u00e9 lanterne")
        assert hits("CAF\u00c9 lanterne", unicodedata.normalize(form, "caf\u00e9 lanterne"))
    assert not hits("cafe lanterne", "caf\u00e9 lanterne")


def test_other_alphabets_are_read_as_well() -> None:
    assert hits(
        "\u0424\u041e\u041d\u0410\u0420\u042c \u0433\u0430\u0441\u043d\u0435\u0442",
        "\u0444\u043e\u043d\u0430\u0440\u044c",
    )
    assert hits("Die STRASSE ist hell", "die stra\u00dfe")


# What does not.


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\u200b",
        "I will dim your",
        "will dim your lantern",
        "I will dim your lanterns",
        "I will dim your lanternfish",
        "I will dim yours, lantern",
        "I goodwill dim your lantern",
        "I will not dim your lantern",
        "your lantern I will dim",
        "Iwilldimyourlantern",
    ],
    ids=ascii,
)
def test_other_words_are_not_the_phrase(text: str) -> None:
    assert not hits(text, PHRASE)


def test_a_word_inside_another_is_not_found() -> None:
    for text in ("lantern", "elephant", "ants", "giant!", "antenna", "ant1", "1ant"):
        assert not hits(text, "ant")
    for text in ("ant", "An ant.", "ant-eater", "(ant)", "an ant\u2019"):
        assert hits(text, "ant")


def test_a_word_that_looks_like_a_contraction_is_a_word_all_the_same() -> None:
    assert hits("so ill!", "ill")
    assert not hits("I will come", "ill")


# What a hit says.


def categories(decision: Decision) -> set[str]:
    return set(decision.categories)


def test_a_hit_names_category_place_and_score_1() -> None:
    decision = listing(PHRASE, category="hate/threatening").check_sync([Text("/0", "quiet"), Text("/1", PHRASE)])

    assert decision.is_rejected
    assert [(r.category, r.pointer, r.score) for r in decision.reasons] == [("hate/threatening", "/1", 1.0)]


def test_what_is_not_hit_scores_0() -> None:
    everything = Policy(thresholds={"*": 0}, actions={"*": Action.FLAG})
    house = Screen(
        moderator="keywords",
        moderators={"keywords": {"phrases": {"house": [PHRASE]}, "builtin": False}},
        policy=everything,
    )

    quiet = {reason.category: reason.score for reason in house.check_sync("quiet").reasons}
    loud = {reason.category: reason.score for reason in house.check_sync(PHRASE).reasons}
    assert {"house", "violence", "hate/threatening"} <= quiet.keys()
    assert set(quiet.values()) == {0}
    assert {name for name, score in loud.items() if score} == {"house"}


def test_every_phrase_of_a_text_is_found() -> None:
    house = screen(
        phrases={
            "dark": ["dim the lamp", "dim", "the lamp is out"],
            "light": ["dim the lamp at dawn", "lamp at"],
            "both": ["dim", "dawn"],
        }
    )

    assert categories(house.check_sync("dim the lamp at dawn")) == {"dark", "light", "both"}
    assert categories(house.check_sync("dim the lamp")) == {"dark", "both"}
    assert categories(house.check_sync("dim the dim the lamp at")) == {"dark", "both", "light"}
    assert categories(house.check_sync("the lamp at noon")) == {"light"}
    assert categories(house.check_sync("the lamp is out")) == {"dark"}
    assert categories(house.check_sync("at dawn")) == {"both"}
    assert categories(house.check_sync("lamp")) == set()


def test_a_hit_is_found_anywhere_in_a_long_text() -> None:
    padding = "quiet words " * 20_000

    assert hits(padding + PHRASE, PHRASE)
    assert hits(f"{PHRASE} {padding}", PHRASE)
    assert not hits(padding, PHRASE)


async def test_it_judges_in_an_event_loop_too() -> None:
    house = listing(PHRASE)

    assert (await house.check(PHRASE)).categories == ("house",)
    assert (await house.check("quiet")).cause is Cause.CLEAN


# Images.


@pytest.mark.parametrize("action", list(Action))
async def test_an_image_is_refused_and_never_clean(action: Action) -> None:
    house = Screen(moderator="keywords", on_error=action.value)

    for decision in (
        house.check_sync([Text("/0", "quiet"), Image("/1", "https://pictures.test/quiet.png")]),
        await house.check([Image("/0", "https://pictures.test/quiet.png")]),
    ):
        assert decision.cause is Cause.REFUSED
        assert decision.action is Action.REJECT
        assert decision.problem == "ModeratorRefused: the 'keywords' moderator cannot judge images"


# The list that comes with it.


def test_the_sentinel_is_flagged_as_violence() -> None:
    for builtin in (True, False):
        assert screen(builtin=builtin).check_sync(f"This is a {SENTINEL.upper()}.").categories == ("violence",)


def test_the_built_in_list_is_found_unless_it_is_left_out() -> None:
    with_it, without = screen(builtin=True), screen(builtin=False)

    for category, phrases in PHRASES.items():
        for phrase in phrases:
            assert category in with_it.check_sync(f"So: {phrase}!").categories
            assert without.check_sync(phrase).categories == (("violence",) if phrase == SENTINEL else ())


def test_own_phrases_come_on_top_of_the_built_in_list() -> None:
    house = screen(phrases={"violence": [PHRASE]}, builtin=True)

    assert house.check_sync(PHRASE).categories == ("violence",)
    assert house.check_sync(SENTINEL).categories == ("violence",)
    assert house.check_sync(PHRASES["hate"][0]).categories == ("hate",)


def test_every_built_in_category_has_a_wire_name() -> None:
    from prescreen.moderators.openai import CATEGORIES

    assert set(PHRASES) <= CATEGORIES


# Lists in files.


def test_a_toml_file_holds_phrases_by_category(tmp_path: Path) -> None:
    path = tmp_path / "house.toml"
    path.write_text(f'spoilers = ["the lamp did it"]\n"hate/threatening" = ["{PHRASE}", "quench"]\n', "utf-8")
    house = screen(files=[path])

    assert house.check_sync("So the lamp did it").categories == ("spoilers",)
    assert house.check_sync(PHRASE).categories == ("hate/threatening",)
    assert house.check_sync("quench").categories == ("hate/threatening",)


def test_a_text_file_holds_a_phrase_a_line(tmp_path: Path) -> None:
    path = tmp_path / "self-harm_intent.txt"
    path.write_text(f"# our own\n\n  {PHRASE}  # as seen in May\r\nquench\n   \n#dim\nl\u00e1mpara", "utf-8")
    house = screen(files=[str(path)])

    for text in (PHRASE, "quench", "L\u00c1MPARA"):
        assert house.check_sync(text).categories == ("self-harm/intent",)
    for text in ("our own", "as seen in May", "dim"):
        assert house.check_sync(text).cause is Cause.CLEAN


def test_a_text_file_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "house.txt"
    path.write_bytes(b"\xef\xbb\xbfquench\n")

    assert screen(files=[path]).check_sync("quench").categories == ("house",)


def test_lists_add_up(tmp_path: Path) -> None:
    (tmp_path / "house.txt").write_text("quench")
    (tmp_path / "more.toml").write_text('house = ["dim"]')
    house = screen(files=[tmp_path / "house.txt", tmp_path / "more.toml"], phrases={"house": ["darken"]})

    for text in ("quench", "dim", "darken", SENTINEL):
        assert house.check_sync(text).is_rejected


def test_a_configuration_names_files_from_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "house.txt").write_text("quench")
    (tmp_path / "elsewhere").mkdir()
    config = tmp_path / "prescreen.toml"
    config.write_text('moderator = "keywords"\n[moderators.keywords]\nfiles = ["lists/house.txt"]\nbuiltin = false\n')
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert Screen(config).check_sync("quench").categories == ("house",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", None),
        ("list.toml", None),
        ("list.txt", b"caf\xe9"),
        ("list.toml", b'house = ["caf\xe9"]'),
        ("list.toml", b"house = [quench]"),
        ("list.toml", b'house = "quench"'),
        ("list.toml", b"house = 7"),
        ("list.toml", b'house = ["quench", 7]'),
        ("list.toml", b'[house]\nlist = ["quench"]'),
        ("list.toml", b'house = ["..."]'),
        ("list.txt", b"quench\n...\n"),
    ],
    ids=repr,
)
def test_a_file_that_holds_no_list_is_named_when_the_screen_is_built(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        screen(files=[path])

    assert caught.value.key == "moderators.keywords.files"
    assert name in caught.value.problem


def test_a_folder_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        screen(files=[tmp_path])

    assert caught.value.key == "moderators.keywords.files"


# Misuse.


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"phrases": {"house": PHRASE}}, 'phrases."house"'),
        ({"phrases": {"house": 7}}, 'phrases."house"'),
        ({"phrases": {"house": [7]}}, 'phrases."house"'),
        ({"phrases": {"house": ["quench", ""]}}, 'phrases."house"'),
        ({"phrases": {"house": ["\u200b!"]}}, 'phrases."house"'),
        ({"phrases": [PHRASE]}, "phrases"),
        ({"phrases": PHRASE}, "phrases"),
        ({"files": "list.txt"}, "files"),
        ({"files": 7}, "files"),
        ({"files": [7]}, "files"),
        ({"builtin": "no"}, "builtin"),
        ({"phrase": {"house": [PHRASE]}}, "phrase"),
    ],
    ids=ascii,
)
def test_what_cannot_work_is_found_when_the_screen_is_built(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        screen(**options)

    assert caught.value.key == f"moderators.keywords.{key}"
    assert caught.value.problem


def test_a_policy_is_held_against_the_categories_of_the_lists() -> None:
    phrases = {"spoilers": ["the lamp did it"]}
    moderator = KeywordModerator(phrases=phrases)

    Screen(moderator=moderator, policy=Policy(actions={"spoilers": Action.FLAG, "violence": Action.FLAG}))
    with pytest.raises(ConfigError, match="did you mean 'spoilers'"):
        Screen(moderator=moderator, policy=Policy(actions={"spoiler": Action.FLAG}))
    # A policy for the real one is a policy for this one.
    Screen(moderator=KeywordModerator(builtin=False), policy=Policy(ignore=["hate", "illicit"]))


# Never by accident.


def test_it_is_never_chosen_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(ConfigError) as no_key:
        Screen()
    with pytest.raises(ConfigError) as not_named:
        Screen(moderators={"keywords": {"phrases": {"house": [PHRASE]}}})

    assert no_key.value.key == not_named.value.key == "moderators.openai.api_key"


def test_one_warning_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    house = Screen(moderator="keywords")
    house.check_sync("quiet")
    house.check_sync(SENTINEL)

    assert [(record.name, record.getMessage()) for record in caplog.records if record.levelno >= logging.WARNING] == [
        ("prescreen", "the 'keywords' moderator is at work: it catches listed phrases, not meaning")
    ]


def test_the_log_names_categories_and_never_the_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    listing(PHRASE).check_sync(f"{PHRASE} tonight")

    assert "house" in caplog.text
    for told in (caplog.text, *(repr(record.__dict__) for record in caplog.records)):
        assert "lantern" not in told
        assert "tonight" not in told
