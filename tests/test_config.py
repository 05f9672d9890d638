"""Configuration: a file and keywords give the same settings, and every mistake is named by its key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pydantic import ValidationError

from prescreen.config import Settings, load, settings
from prescreen.document import Limits
from prescreen.errors import ConfigError
from prescreen.load import Breaker, Cache, Quota
from prescreen.model import Action, Decision, Mode, Rejection
from prescreen.policy import Policy
from prescreen.rejection import Rejections
from prescreen.rule import Rule
from prescreen.target import Targets
from prescreen.units import seconds, size

PROPERTY: Final = profile(max_examples=100, deadline=None, derandomize=True)

Load = Callable[[str], Settings]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """Settings from the text of a TOML file."""

    def read(text: str) -> Settings:
        path = tmp_path / "prescreen.toml"
        path.write_text(text, "utf-8")
        return load(path)

    return read


PAIRS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "nothing": ("", {}),
    "rules": (
        """
        [[rules]]
        match = "POST /chat"
        json = ["$.messages[*].content", "$.note"]

        [[rules]]
        match = "POST,PUT /posts/{id}"
        json = "$.body"
        form = ["body", "title"]
        query = "q"
        text = true
        on_unreadable = "flag"
        on_oversize = "allow"
        max_body = "64KiB"

        [[rules]]
        match = "GET /health"
        exempt = true
        """,
        {
            "rules": [
                Rule("POST /chat", json=["$.messages[*].content", "$.note"]),
                Rule(
                    "POST,PUT /posts/{id}",
                    json="$.body",
                    form=["body", "title"],
                    query="q",
                    text=True,
                    on_unreadable=Action.FLAG,
                    on_oversize="allow",
                    max_body=65536,
                ),
                Rule("GET /health", exempt=True),
            ]
        },
    ),
    "policy": (
        """
        [policy]
        ignore = ["sexual"]
        [policy.thresholds]
        "hate/threatening" = 0.25
        "*" = 1
        [policy.actions]
        violence = "flag"
        """,
        {
            "policy": Policy(
                ignore=["sexual"], thresholds={"hate/threatening": 0.25, "*": 1}, actions={"violence": Action.FLAG}
            )
        },
    ),
    "rejection": (
        """
        [rejection]
        status = 422
        format = "negotiate"
        title = "No"
        resources = "Call 1234."
        show_scores = true
        [rejection.wording]
        hate = "unkind words"
        [rejection.headers]
        X-By = "us"
        """,
        {
            "rejection": Rejections(
                status=422,
                format="negotiate",
                title="No",
                resources="Call 1234.",
                show_scores=True,
                wording={"hate": "unkind words"},
                headers={"x-by": "us"},
            )
        },
    ),
    "limits": (
        '[limits]\nbody = "2MiB"\ndepth = 9\npart_head = "1KiB"\ntexts = 3',
        {"limits": Limits(body=2 << 20, depth=9, part_head=1024, texts=3)},
    ),
    "limits as a mapping": ('[limits]\nbody = "2MiB"\n', {"limits": {"body": 2 << 20}}),
    "moderator": (
        'moderator = "keywords"\n[moderators.keywords]\nbuiltin = false\n[moderators.keywords.phrases]\nx = ["y"]',
        {"moderator": "keywords", "moderators": {"keywords": {"builtin": False, "phrases": {"x": ["y"]}}}},
    ),
    "traffic": (
        """
        on_error = ["stale", "keywords", "flag"]
        cache = {ttl = "1h", entries = 9}
        quota = {rpm = 500}
        breaker = {calls = 3, slow = "1s"}
        max_in_flight = 2
        max_batch = 4
        max_screenings = 7
        """,
        {
            "on_error": ("stale", "keywords", "flag"),
            "cache": Cache(ttl=3600, entries=9),
            "quota": Quota(rpm=500),
            "breaker": {"calls": 3, "slow": 1},
            "max_in_flight": 2,
            "max_batch": 4,
            "max_screenings": 7,
        },
    ),
    "no traffic": ("cache = false\nbreaker = false", {"cache": False, "breaker": None}),
    "the rest": (
        'mode = "monitor"\non_error = "flag"\ndeadline = "1500ms"\nreceive_timeout = "1m"',
        {"mode": Mode.MONITOR, "on_error": Action.FLAG, "deadline": 1.5, "receive_timeout": 60},
    ),
    "the rest in words": (
        'mode = "off"\non_error = "allow"\ndeadline = 2.5\nreceive_timeout = 10',
        {"mode": "off", "on_error": "allow", "deadline": "2.5s", "receive_timeout": "10s"},
    ),
}


@pytest.mark.parametrize(("text", "options"), PAIRS.values(), ids=PAIRS)
def test_a_file_and_keywords_give_the_same_settings(read: Load, text: str, options: dict[str, Any]) -> None:
    from_file, from_keywords = read(text), settings(**options)
    assert from_file == from_keywords
    assert (from_file == settings()) == (not options)
    assert isinstance(from_file.mode, Mode)
    assert {type(rung) for rung in from_file.on_error} == {str}


def test_the_defaults_are_the_careful_ones() -> None:
    found = settings()
    assert found.moderator == "openai"
    assert found.mode is Mode.ENFORCE
    assert found.on_error == ("reject",)
    assert found.cache == Cache(ttl="24h", stale="7d", entries=16_384, size="8MiB", shared=True)
    assert found.quota is None
    assert (found.max_in_flight, found.max_batch, found.max_screenings) == (10, 32, 1024)
    assert found.breaker == Breaker(rate=0.5, calls=5, window="10s", slow=None, probe="5s")
    assert (found.deadline, found.receive_timeout) == (2.0, 30.0)
    assert found.limits == Limits(1 << 20, 64, 50_000, 1_000, 100, 4_096, 256, 16, 100_000, 20_000_000)
    assert (found.rejection.format, found.rejection.status) == ("problem", 400)
    assert found.policy == Policy()
    assert found.rules == ()


def test_settings_do_not_change() -> None:
    found = settings()
    with pytest.raises(ValidationError, match="frozen"):
        found.mode = Mode.OFF
    assert found.mode is Mode.ENFORCE


def test_the_options_of_a_moderator_may_be_secret_and_are_not_shown() -> None:
    found = settings(moderator="openai", moderators={"openai": {"api_key": "sk-lantern"}})
    assert "sk-lantern" not in f"{found!r} {found}"


def test_keywords_replace_a_files_top_level_keys(tmp_path: Path) -> None:
    path = tmp_path / "prescreen.toml"
    path.write_text('mode = "monitor"\ndeadline = "1s"\n[[rules]]\nmatch = "POST /a"\njson = "$.a"\n')

    def reject(decision: Decision) -> Rejection:
        return Rejection(403, {}, decision.id.encode())

    rule = Rule("POST /b", json="$.b")
    found = load(str(path), mode="enforce", rules=[rule], rejection=reject, moderator=reject)
    assert found == settings(mode="enforce", deadline=1, rules=[rule], rejection=reject, moderator=reject)
    assert found.rejection is reject
    assert found.moderator is reject


def test_an_unknown_keyword_beside_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prescreen.toml"
    path.write_text("")
    with pytest.raises(ConfigError) as caught:
        load(path, deadlin="1s")
    assert (caught.value.key, caught.value.problem) == ("deadlin", "unknown key; did you mean 'deadline'?")


def test_files_are_looked_for_beside_the_configuration(read: Load, tmp_path: Path) -> None:
    absolute = (tmp_path / "other" / "b.txt").as_posix()
    found = read(f'moderator = "keywords"\n[moderators.keywords]\nfiles = ["lists/a.toml", "{absolute}"]\n')
    assert found.moderators["keywords"]["files"] == [tmp_path / "lists" / "a.toml", Path(absolute)]


# Every mistake is named

BAD: Final[list[tuple[str, str, str]]] = [
    # unknown keys at every level
    ("rulez = []", "rulez", "unknown key; did you mean 'rules'?"),
    ("zzz = 1", "zzz", "unknown key; known keys: rules, moderator, "),
    ('[[rules]]\nmatch = "POST /a"\njsn = "$.a"', "rules[0].jsn", "unknown key; did you mean 'json'?"),
    ('[[rules]]\nmatch = "POST /a"\njson = "$"\nzzz = 1', "rules[0].zzz", "unknown key; known keys: match, json, "),
    ('[policy]\nignor = ["hate"]', "policy.ignor", "unknown key; did you mean 'ignore'?"),
    ("[rejection]\nstatsu = 400", "rejection.statsu", "unknown key; did you mean 'status'?"),
    ("[limits]\ndept = 4", "limits.dept", "unknown key; did you mean 'depth'?"),
    # the wrong kind of value
    ('rules = "POST /chat"', "rules", ""),
    ("moderator = 5", "moderator", "valid string"),
    ("moderators = 5", "moderators", ""),
    ("[moderators]\nkeywords = 5", "moderators.keywords", ""),
    ("policy = 5", "policy", "Policy"),
    ("rejection = 5", "rejection", "Rejections"),
    ("limits = 5", "limits", "Limits"),
    ('mode = "watch"', "mode", "'enforce', 'monitor' or 'off'"),
    ('on_error = "pass"', "on_error", "'allow', 'flag' or 'reject'"),
    ('on_error = "stale"', "on_error", "write ['stale', 'reject']"),
    *[
        (f"telemetry = {value}", "telemetry", "is neither 'opentelemetry' nor 'prometheus', nor a list of them")
        for value in ('"otel"', "true", '["prometheus", "otel"]', "[5]")
    ],
    *[
        (f"on_error = {value}", "on_error", "nor a list that ends in one of them")
        for value in ("5", "[]", '["stale", 5]', '["", "flag"]', "{}")
    ],
    ('on_error = ["stale", "keywords"]', "on_error[1]", "a list ends in 'allow', 'flag' or 'reject'"),
    ('on_error = ["stale", "stale", "flag"]', "on_error[1]", "'stale' is there twice"),
    ('on_error = ["flag", "stale", "reject"]', "on_error[0]", "'flag' can stand only at the end"),
    # durations and sizes
    *[
        (f"{key} = {value}", key, "is not a duration such as 2.5, '2s' or '500ms'")
        for key in ("deadline", "receive_timeout")
        for value in ('"soon"', '"2"', '"2 weeks"', "0", "-1", '"0s"', "true", "nan", "inf", "[2]", '""')
    ],
    *[
        (f"[limits]\n{key} = {value}", f"limits.{key}", "is not a size such as 65536, '64KiB' or '1MiB'")
        for key in ("body", "part_head")
        for value in ('"huge"', '"5"', '"5 bits"', "0", "-5", "true")
    ],
    ("[limits]\ndepth = 0", "limits.depth", "whole number above zero"),
    ("[limits]\ndepth = 91", "limits.depth", "over 90"),
    ("[limits]\nnodes = 1.5", "limits.nodes", ""),
    ("[limits]\ntexts = true", "limits.texts", ""),
    # rules
    ('[[rules]]\njson = "$.a"', "rules[0].match", "required"),
    ('[[rules]]\nmatch = "POST /a"', "rules[0].match", "names no place to look"),
    ('[[rules]]\nmatch = "POST /a"\njson = []', "rules[0].match", "names no place to look"),
    ('[[rules]]\nmatch = "POST /a"\njson = [""]', "rules[0].json", "not a list of names"),
    ('[[rules]]\nmatch = "POST /a"\njson = 5', "rules[0].json", ""),
    ('[[rules]]\nmatch = "POST /a"\nform = ["a", 5]', "rules[0].form", ""),
    ('[[rules]]\nmatch = "POST /a"\njson = "$"\ntext = "maybe"', "rules[0].text", ""),
    ('[[rules]]\nmatch = "POST /a"\njson = "$"\nmax_body = "big"', "rules[0].max_body", "is not a size"),
    ('[[rules]]\nmatch = "POST /a"\njson = "$"\non_oversize = "pass"', "rules[0].on_oversize", "'allow', 'flag'"),
    ('[[rules]]\nmatch = 5\njson = "$"', "rules[0].match", ""),
    (
        '[[rules]]\nmatch = "POST /a"\njson = "$"\n[[rules]]\nmatch = "chat"\njson = "$"',
        "rules[1].match",
        "has no path; write for example 'POST /chat'",
    ),
    # policy and rejection
    ("[policy.thresholds]\nviolence = 2", 'policy.thresholds."violence"', "not a number from 0 to 1"),
    ('[policy.thresholds]\nviolence = "high"', "policy.thresholds.violence", "number"),
    ("[policy.thresholds]\nviolence = true", 'policy.thresholds."violence"', "not a number from 0 to 1"),
    ('[policy.actions]\nviolence = "block"', "policy.actions.violence", "'allow', 'flag' or 'reject'"),
    ('[policy]\nignore = "hate"', "policy.ignore", ""),
    ("[rejection]\nstatus = 500", "rejection.status", "write for example 400, 403 or 422"),
    ('[rejection]\nformat = "xml"', "rejection.format", "'problem', 'openai', 'html', 'text'"),
    ('[rejection.headers]\nConnection = "close"', 'rejection.headers."Connection"', "cannot be set"),
]


@pytest.mark.parametrize(("text", "key", "hint"), BAD, ids=[text.replace("\n", " ") for text, _, _ in BAD])
def test_every_mistake_in_a_file_is_named_by_its_key(read: Load, text: str, key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    # A category may be written with quotes or without.
    assert caught.value.key.replace('"', "") == key.replace('"', "")
    assert hint in caught.value.problem
    assert str(caught.value) == f"{caught.value.key}: {caught.value.problem}"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"rulez": []}, "rulez"),
        ({"rules": "POST /chat"}, "rules"),
        ({"rules": [5]}, "rules[0]"),
        ({"rules": [{"match": "chat", "json": "$"}]}, "rules[0].match"),
        ({"mode": "watch"}, "mode"),
        ({"deadline": None}, "deadline"),
        ({"limits": {"body": "huge"}}, "limits.body"),
        ({"limits": {"depth": 0}}, "limits.depth"),
        ({"policy": {"thresholds": {"hate": 2}}}, 'policy.thresholds."hate"'),
        ({"moderators": {"keywords": []}}, "moderators.keywords"),
    ],
    ids=repr,
)
def test_every_mistake_in_keywords_is_named_by_its_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**options)
    assert caught.value.key == key
    assert caught.value.problem


@pytest.mark.parametrize("name", ["methods", "template", "exact", "method", "templat"])
def test_what_a_rule_works_out_for_itself_is_no_key_and_no_advice(read: Load, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f'[[rules]]\nmatch = "POST /a"\njson = "$"\n{name} = "POST"')
    assert caught.value.key == f"rules[0].{name}"
    assert caught.value.problem.startswith("unknown key")
    assert not any(f"'{each}'" in caught.value.problem for each in ("methods", "template", "exact"))


def test_a_bad_path_is_named_by_its_rule_and_place() -> None:
    rules = [Rule("POST /a", json="$.a"), Rule("POST /b", json=["$.a", "$.b["])]
    with pytest.raises(ConfigError, match="is not a JSONPath") as caught:
        Targets(rules, Limits())
    assert caught.value.key == "rules[1].json[1]"
    assert Targets(rules[:1], Limits()).of((rules[0],)).name == "POST /a"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(None, "cannot read it: No such file or directory", id="no file"),
        pytest.param(b"mode = ", "it is not a TOML file: ", id="broken"),
        pytest.param(b'mode = "\xff"', "it is not a TOML file: ", id="not UTF-8"),
        pytest.param(b'{"mode": "off"}', "it is not a TOML file: ", id="JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "prescreen.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path, mode="off")
    assert caught.value.key == ""
    assert caught.value.problem.startswith(problem)
    with pytest.raises(ConfigError, match="cannot read it: Is a directory"):
        load(tmp_path)


# Durations and sizes


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2.0), (0.5, 0.5), ("500ms", 0.5), ("2s", 2.0), ("1.5m", 90.0), (" 1 h ", 3600.0), ("2d", 172_800.0)],
)
def test_a_duration_is_seconds_or_a_text_with_its_unit(value: object, expected: float) -> None:
    assert seconds(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (65536, 65536),
        ("1B", 1),
        ("2kB", 2000),
        ("64KiB", 65536),
        ("1.5 MB", 1_500_000),
        ("1MiB", 1 << 20),
        ("1GiB", 1 << 30),
    ],
)
def test_a_size_is_bytes_or_a_text_with_its_unit(value: object, expected: int) -> None:
    assert size(value) == expected


ODD: Final = [
    "",
    "2",
    "s",
    "-2s",
    "1e3s",
    "2 s s",
    "٢s",
    "9" * 400 + "s",
    0,
    -1,
    True,
    None,
    [],
    float("nan"),
    float("inf"),
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12])
def test_anything_else_is_neither(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(value)
    with pytest.raises(ValueError, match="is not a size"):
        size(value.replace("s", "B") if isinstance(value, str) else value)


@pytest.mark.parametrize("value", ["2S", "2KiB", "2sec", "2kb", "2mib", "2ms2"])
def test_units_are_spelled_one_way(value: str) -> None:
    with pytest.raises(ValueError, match=f"'{value}' is not a duration"):
        seconds(value)
    with pytest.raises(ValueError, match="is not a size"):
        size(value.replace("KiB", "KIB"))


@PROPERTY
@given(
    number=st.integers(1, 10**9), unit=st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)])
)
def test_any_number_of_any_unit_is_taken(number: int, unit: tuple[str, float]) -> None:
    assert seconds(f"{number}{unit[0]}") == pytest.approx(number * unit[1])
    assert seconds(number) == number
    assert size(number) == size(f"{number}B") == number
    assert size(f"{number}KiB") == number * 1024


@PROPERTY
@given(value=st.floats(min_value=0, max_value=0.99) | st.sampled_from(["0.5B", "0B", "0.0001kB"]))
def test_no_size_is_below_a_byte(value: float | str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        size(value)


def test_a_key_of_the_top_in_a_table_is_told_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "prescreen.toml"
    file.write_text('[[rules]]\nmatch = "POST /a"\njson = "$"\nmode = "monitor"\n')
    with pytest.raises(ConfigError, match="'mode' stands at the top of the file") as caught:
        load(file)
    assert caught.value.key == "rules[0].mode"


def test_a_rejection_may_be_a_table_in_python_too() -> None:
    assert settings(rejection={"status": 422}).rejection == Rejections(status=422)
