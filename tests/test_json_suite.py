"""Every document of the JSON parsing test suite: read or refused, as stated here, and no text of it unseen."""

from __future__ import annotations

import json
from collections import Counter
from typing import Final

import pytest

from fuzz.case import PLACES, Case
from fuzz.judge import ORACLES, judge, screened
from fuzz.oracle import strings_in
from json_suite import PARSING, TRANSFORMS

ALL: Final = PARSING | TRANSFORMS

READ: Final = {
    "a number is no text, whatever its size": (
        "i_number_double_huge_neg_exp",
        "i_number_huge_exp",
        "i_number_neg_int_huge_exp",
        "i_number_pos_double_huge_exp",
        "i_number_real_neg_overflow",
        "i_number_real_pos_overflow",
        "i_number_real_underflow",
        "i_number_too_big_neg_int",
        "i_number_too_big_pos_int",
        "i_number_very_big_negative_int",
        *(name for name in TRANSFORMS if name.startswith("number_")),
    ),
    "a lone surrogate, escaped, is moderated as it stands": (
        "i_object_key_lone_2nd_surrogate",
        "i_string_1st_surrogate_but_2nd_missing",
        "i_string_1st_valid_surrogate_2nd_invalid",
        "i_string_incomplete_surrogate_and_escape_valid",
        "i_string_incomplete_surrogate_pair",
        "i_string_incomplete_surrogates_escape_valid",
        "i_string_invalid_lonely_surrogate",
        "i_string_invalid_surrogate",
        "i_string_inverted_surrogates_U+1D11E",
        "i_string_lone_second_surrogate",
        "string_1_escaped_invalid_codepoint",
        "string_2_escaped_invalid_codepoints",
        "string_3_escaped_invalid_codepoints",
    ),
    "a byte order mark changes no text": ("i_structure_UTF-8_BOM_empty_object",),
    "two spellings of a letter are two keys to every reader": ("object_key_nfc_nfd", "object_key_nfd_nfc"),
    "a NUL is a character like any other": ("string_with_escaped_NULL",),
    "an empty body holds no text for anyone": ("n_structure_no_data",),
}
REFUSED: Final = {
    "readers differ on bytes that are not UTF-8": (
        "i_string_UTF-16LE_with_BOM",
        "i_string_UTF-8_invalid_sequence",
        "i_string_UTF8_surrogate_U+D800",
        "i_string_invalid_utf-8",
        "i_string_iso_latin_1",
        "i_string_lone_utf8_continuation_byte",
        "i_string_not_in_unicode_range",
        "i_string_overlong_sequence_2_bytes",
        "i_string_overlong_sequence_6_bytes",
        "i_string_overlong_sequence_6_bytes_null",
        "i_string_truncated-utf-8",
        "i_string_utf16BE_no_BOM",
        "i_string_utf16LE_no_BOM",
        "string_1_invalid_codepoint",
        "string_2_invalid_codepoints",
        "string_3_invalid_codepoints",
    ),
    "readers differ on how deep they go": ("i_structure_500_nested_arrays",),
    "readers differ on which value of a repeated key counts": (
        "y_object_duplicated_key",
        "y_object_duplicated_key_and_value",
        "object_same_key_different_values",
        "object_same_key_same_value",
        "object_same_key_unclear_values",
    ),
}
STATED: Final = {name: True for names in READ.values() for name in names} | {
    name: False for names in REFUSED.values() for name in names
}


def request(name: str) -> Case:
    """The document under a rule that takes every string of it for text."""
    body = ALL[name]
    headers = ((b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    return Case("json", "whole", headers, body)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_suite_is_whole_and_every_open_outcome_is_stated() -> None:
    assert Counter(name[0] for name in PARSING) == {"y": 95, "n": 188, "i": 35}
    assert len(TRANSFORMS) == 22
    assert len(STATED) == sum(map(len, (*READ.values(), *REFUSED.values())))
    assert {name for name in ALL if name[:2] not in ("y_", "n_")} <= set(STATED) <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_document_is_read_or_refused_as_stated(name: str) -> None:
    decision, _ = screened(request(name))
    assert decision.is_rejected != STATED.get(name, name.startswith("y_")), decision.problem


@pytest.mark.anyio
async def test_no_framework_reads_a_string_of_them_that_was_not_moderated() -> None:
    readers = [oracle for oracle in ORACLES if oracle.reading == "json"]
    assert {name: faults for name in ALL if (faults := (await judge(request(name), readers))[1])} == {}


@pytest.mark.parametrize("name", [name for name in ALL if STATED.get(name, name.startswith("y_")) and ALL[name]])
def test_of_what_is_read_every_string_is_moderated(name: str) -> None:
    _, seen = screened(request(name))
    read = [text for value in PLACES["whole"].json(json.loads(ALL[name])) for text in strings_in(value)]  # type: ignore[misc]
    assert {text for text in read if text.strip()} <= set(seen)
