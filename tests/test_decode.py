"""Bytes to documents: taken where every reader reads alike, refused where two could find different texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes, urlencode

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from doubles import screened, values
from prescreen import Rule
from prescreen.decode import admit, decode, jsontext, query_fields
from prescreen.document import Accepts, Document, Field, Limits, unquoted
from prescreen.errors import ConfigError, Incomplete, Oversize, RequestError, Unreadable, Unsupported
from prescreen.model import BodyKind, Head, Text
from prescreen.paths import Places

JSON: Final[frozenset[BodyKind]] = frozenset({"json"})
FORM: Final[frozenset[BodyKind]] = frozenset({"form"})
TEXT: Final[frozenset[BodyKind]] = frozenset({"text"})
ALL: Final[frozenset[BodyKind]] = JSON | FORM | TEXT
LIMITS: Final = Limits()
URLENCODED: Final = b"application/x-www-form-urlencoded"
MULTIPART: Final = b"multipart/form-data; boundary=BND"
PHRASE: Final = "seven violet lanterns"
PROPERTY: Final = settings(max_examples=150, deadline=None, derandomize=True)


def head(*types: bytes, **others: bytes) -> Head:
    """A head with one Content-Type for each of `types`; `others` are further headers, `_` for `-`."""
    headers = [(b"content-type", value) for value in types]
    return Head(
        "POST", "/", headers=(*headers, *((name.replace("_", "-").encode(), value) for name, value in others.items()))
    )


def read(body: bytes, *types: bytes, kinds: frozenset[BodyKind] = ALL, limits: Limits = LIMITS) -> Document:
    return decode(head(*types), body, Accepts(kinds), limits)


def read_json(body: str | bytes, limits: Limits = LIMITS) -> Any:
    raw = body if isinstance(body, bytes) else body.encode()
    document = read(raw, b"application/json", kinds=JSON, limits=limits)
    assert document.has_json
    assert document.fields == ()
    return document.json


# JSON

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=25,
)


@PROPERTY
@given(
    value=json_values,
    indent=st.none() | st.integers(0, 4),
    is_ascii=st.booleans(),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_any_json_value_is_read_as_it_was_written(value: Any, indent: int | None, is_ascii: bool, mark: str) -> None:
    body = mark + json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    found = read_json(body)
    assert json.dumps(found) == json.dumps(value)  # tells True from 1 and 1 from 1.0


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b"null", None, id="null"),
        pytest.param(b' \t\r\n{"a": [1, "b"]}\r\n', {"a": [1, "b"]}, id="white space around"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', {"a": 1}, id="byte order mark"),
        pytest.param(b'"\\ud800"', "\ud800", id="lone surrogate escape"),
        pytest.param(b'"\\ud83d\\ude00"', "\U0001f600", id="surrogate pair escape"),
        pytest.param(b'"\\u0000\\n"', "\x00\n", id="escaped control characters"),
        pytest.param(b"[1e999]", [float("inf")], id="a number beyond a float"),
        pytest.param(b"1" * 4300, int("1" * 4300), id="4300 digits"),
        pytest.param(b'{"a": {"b": 1}, "c": {"b": 2}}', {"a": {"b": 1}, "c": {"b": 2}}, id="a key in two objects"),
        pytest.param(b'{"k": 1, "K": 2}', {"k": 1, "K": 2}, id="keys that differ in case"),
    ],
)
def test_json_that_every_reader_reads_alike_is_taken(body: bytes, value: object) -> None:
    assert read_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"a": 1, "a": 2}', id="repeated key"),
        pytest.param(b'[{"x": {"a": 1, "b": 2, "a": 1}}]', id="repeated key deep inside"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="repeated key, once escaped"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b"[Infinity]", id="Infinity"),
        pytest.param(b"[-Infinity]", id="minus Infinity"),
        pytest.param(b'{"a": 1} x', id="trailing text"),
        pytest.param(b'{"a": 1}{"a": 2}', id="two documents"),
        pytest.param(b'{"a": 1}\x00', id="trailing NUL"),
        pytest.param(b'/* note */ {"a": 1}', id="comment"),
        pytest.param(b'{"a": 1} // note', id="line comment"),
        pytest.param(b'{"a": 1,}', id="trailing comma"),
        pytest.param(b"{'a': 1}", id="single quotes"),
        pytest.param(b"{a: 1}", id="bare key"),
        pytest.param(b"01", id="leading zero"),
        pytest.param(b" ", id="only white space"),
        pytest.param(b"\xc2\xa0 1", id="no-break space"),
        pytest.param(b'"abc', id="unterminated string"),
        pytest.param(b'"abc\\', id="unterminated escape"),
        pytest.param(b'"a\nb"', id="raw line feed in a string"),
        pytest.param(b'"a\x00b"', id="raw NUL in a string"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b'"\xc0\xaf"', id="overlong UTF-8"),
        pytest.param(b'"\xed\xa0\x80"', id="encoded surrogate"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param('{"a": 1}'.encode("utf-16-le"), id="UTF-16 without a mark"),
        pytest.param('{"a": 1}'.encode("utf-16-be"), id="UTF-16, big end first"),
        pytest.param('{"a": 1}'.encode("utf-32"), id="UTF-32"),
        pytest.param('{"a": 1}'.encode("utf-32-le"), id="UTF-32 without a mark"),
        pytest.param(b"\xef\xbb\xbf\xef\xbb\xbf1", id="two byte order marks"),
        pytest.param(b'{"a": ' + b"7" * 5000 + b"}", id="more digits than are converted"),
    ],
)
def test_json_that_readers_could_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_json(body)


@pytest.mark.parametrize(
    "body", [f'{{"{PHRASE}": 1, "{PHRASE}": 2}}', f'"{PHRASE}" {PHRASE}', f"{PHRASE}", f'{{"{PHRASE}": NaN}}']
)
def test_what_was_wrong_is_said_without_a_word_of_the_body(body: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_json(body)
    assert caught.value.problem
    assert not any(word in str(caught.value) for word in PHRASE.split())


def test_the_place_of_a_fault_is_named() -> None:
    with pytest.raises(Unreadable, match="not valid JSON at character 6"):
        read_json('{"a": x}')
    with pytest.raises(Unreadable, match="not UTF-8 at byte 2"):
        read_json(b'"a\xff"')


def nested(opener: str, closer: str, depth: int, core: str = "") -> str:
    return opener * depth + core + closer * depth


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(("[", "]", ""), id="lists"),
        pytest.param(('{"a":', "}", "1"), id="objects"),
        pytest.param(('[1,{"a":', "}]", '""'), id="both"),
    ],
)
def test_depth_is_bounded_to_the_level(shape: tuple[str, str, str]) -> None:
    opener, closer, core = shape
    body = nested(opener, closer, 6, core)
    depth = 6 * sum(opener.count(bracket) for bracket in "[{")
    assert read_json(body, Limits(depth=depth)) == json.loads(body)
    with pytest.raises(Unreadable, match=f"more than {depth - 1} levels deep"):
        read_json(body, Limits(depth=depth - 1))


def test_the_default_depth_is_64() -> None:
    assert read_json(nested("[", "]", 64))
    with pytest.raises(Unreadable, match="64 levels"):
        read_json(nested("[", "]", 65))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('["[[[[{{{{"]', id="brackets"),
        pytest.param('["\\"[[[["]', id="behind an escaped quote"),
        pytest.param('["\\\\", "[[[["]', id="behind an escaped backslash"),
        pytest.param('["]]]]", "[[[["]', id="closing ones too"),
        pytest.param('["line\\u2028", "[[[[\u2028"]', id="behind a line separator"),
    ],
)
def test_brackets_in_strings_are_no_depth(body: str) -> None:
    assert read_json(body, Limits(depth=2)) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('["\\\\",[[[]]]]', id="behind an escaped backslash"),
        pytest.param('["]]]]",[[[]]]]', id="with closing ones in a string"),
        pytest.param('["\\"]]",[[[]]]]', id="with an escaped quote"),
        pytest.param("[],[[[[", id="unclosed"),
    ],
)
def test_strings_do_not_hide_depth(body: str) -> None:
    with pytest.raises(Unreadable, match="3 levels deep"):
        read_json(body, Limits(depth=3))


def test_more_closing_than_opening_brackets_are_refused_at_once() -> None:
    for closers in ("]" * 20, "}" * 20, "]}" * 10):
        with pytest.raises(Unreadable, match="closes more than it opens"):
            read_json("[],[],[]" + closers, Limits(depth=2, nodes=20))


def test_depth_is_refused_before_anything_is_built() -> None:
    for body in ("[" * 100_000, nested("[", "]", 100_000), '{"a":' * 20_000, "[" * 100_000 + '"'):
        with pytest.raises(RequestError):
            read_json(body)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param("[1,2,3]", 4, id="list"),
        pytest.param('{"a":1,"b":[2,3]}', 5, id="object"),
        pytest.param('[[1],[2],{"a":3}]', 7, id="nested"),
        pytest.param('[",,,[[{{",1]', 3, id="commas and brackets in a string"),
        pytest.param('["\\",,,,[",1]', 3, id="commas behind an escaped quote"),
    ],
)
def test_the_number_of_values_is_bounded_to_the_value(body: str, count: int) -> None:
    assert read_json(body, Limits(nodes=count)) == json.loads(body)
    with pytest.raises(Oversize, match=f"more than {count - 1} values"):
        read_json(body, Limits(nodes=count - 1))


def test_more_quotes_than_so_many_values_can_have_are_refused_at_once() -> None:
    with pytest.raises(Unreadable):
        read_json('"' * 4, Limits(nodes=1))
    with pytest.raises(Oversize, match="more than 1 values"):
        read_json('"' * 5, Limits(nodes=1))


def test_too_many_values_are_refused_before_they_are_built() -> None:
    with pytest.raises(Oversize):
        read_json('{"a":1,"a":2,"a":3}', Limits(nodes=3))


def depth_of(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def count_of(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + sum(map(count_of, value.values() if isinstance(value, dict) else value))
    return 1


@PROPERTY
@given(value=json_values, depth=st.integers(1, 4))
def test_exactly_the_documents_within_the_depth_are_read(value: Any, depth: int) -> None:
    body = json.dumps(value)
    if depth_of(value) > depth:
        with pytest.raises(Unreadable):
            read_json(body, Limits(depth=depth))
    else:
        assert read_json(body, Limits(depth=depth)) == value


@PROPERTY
@given(value=json_values, nodes=st.integers(1, 12))
def test_no_document_over_the_number_of_values_is_read(value: Any, nodes: int) -> None:
    assume(count_of(value) > nodes)
    with pytest.raises(Oversize):
        read_json(json.dumps(value), Limits(nodes=nodes))


# The head: types, codings, lengths

BODIES: Final[Mapping[BodyKind, tuple[bytes, Document]]] = {
    "json": (b'{"a": "b"}', Document(kind="json", json={"a": "b"}, has_json=True)),
    "form": (b"a=b", Document(kind="form", fields=(Field("a", b"b", is_coded=True),))),
    "text": (b"a=b", Document(kind="text", text="a=b")),
}


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (b"application/json", "json"),
        (b"Application/JSON", "json"),
        (b"application/json; charset=utf-8", "json"),
        (b"application/json;charset=UTF-8", "json"),
        (b'application/json; charset="utf-8"', "json"),
        (b"application/json; charset=utf8", "json"),
        (b"application/json; charset=us-ascii", "json"),
        (b"application/json; Charset=ASCII", "json"),
        (b" \tapplication/json \t", "json"),
        (b"application/json \t; \tcharset=utf-8", "json"),
        (b'application/json; profile="https://e.example/x; y"; q=1', "json"),
        (b"application/vnd.api+json", "json"),
        (b"application/problem+json; charset=utf-8", "json"),
        (b"application/json; a=" + b"b" * 1004, "json"),
        (b"application/json;", "json"),
        (b"application/json; charset=utf-8 ;; ", "json"),
        (URLENCODED, "form"),
        (URLENCODED + b"; charset=UTF-8", "form"),
        (b"text/plain", "text"),
        (b"text/plain; charset=utf-8; format=flowed", "text"),
    ],
)
def test_a_plain_content_type_is_taken(content_type: bytes, kind: BodyKind) -> None:
    body, document = BODIES[kind]
    assert read(body, content_type, kinds=frozenset({kind})) == document


@pytest.mark.parametrize(
    "types",
    [
        pytest.param((b"application/json", b"text/plain"), id="two"),
        pytest.param((b"text/plain", b"application/json"), id="two, the other way round"),
        pytest.param((b"application/json", b"application/json"), id="twice the same"),
        pytest.param((b"application/json, text/plain",), id="two in one"),
        pytest.param((b"application/json\xa0",), id="no-break space"),
        pytest.param((b"application/json\x85",), id="next line"),
        pytest.param((b"application/json\x1c",), id="file separator"),
        pytest.param((b"\x0bapplication/json",), id="vertical tab"),
        pytest.param((b"",), id="empty"),
        pytest.param((b"json",), id="no slash"),
        pytest.param((b"application/",), id="no subtype"),
        pytest.param((b"application/json;;charset=utf-8",), id="parameter missing"),
        pytest.param((b"application/json; charset",), id="parameter without a value"),
        pytest.param((b"application/json; charset=",), id="parameter with an empty value"),
        pytest.param((b"application/json charset=utf-8",), id="no semicolon"),
        pytest.param((b"application/json; charset =utf-8",), id="blank before the equals sign"),
        pytest.param((b"application/json; charset=utf-8; charset=utf-7",), id="repeated parameter"),
        pytest.param((b"application/json; charset=utf-8; CHARSET=utf-8",), id="repeated parameter in other case"),
        pytest.param((b"application/json; charset*=utf-8''utf-7",), id="extended parameter"),
        pytest.param((b"application/json; charset*0=utf; charset*1=-7",), id="continued parameter"),
        pytest.param((b'application/json; charset="utf\\-8"',), id="escape in quotes"),
        pytest.param((b'application/json; charset="utf-8',), id="unclosed quotes"),
        pytest.param((b'application/json; a="\xe9"',), id="beyond ASCII in quotes"),
        pytest.param((b'application/json; a="\x00"',), id="NUL in quotes"),
        pytest.param((b"application/json; a=" + b"b" * 1005,), id="too long"),
        pytest.param((b"multipart/form-data",), id="no boundary"),
        pytest.param((b'multipart/form-data; boundary=""',), id="empty boundary"),
        pytest.param((b"multipart/form-data; boundary=" + b"b" * 71,), id="boundary too long"),
        pytest.param((b'multipart/form-data; boundary="BND "',), id="boundary that ends with a blank"),
        pytest.param((b'multipart/form-data; boundary="BND;"',), id="odd character in the boundary"),
        pytest.param((b"multipart/form-data; boundary*=utf-8''BND",), id="extended boundary"),
        pytest.param((b"multipart/form-data; boundary*0=BN; boundary*1=D",), id="continued boundary"),
        pytest.param((b"multipart/form-data; boundary=BND; boundary=BNX",), id="two boundaries"),
    ],
)
def test_an_ambiguous_content_type_is_refused(types: tuple[bytes, ...]) -> None:
    with pytest.raises(Unreadable):
        read(b"1", *types)


@pytest.mark.parametrize(
    "types",
    [
        pytest.param((), id="absent"),
        *(
            pytest.param((name,), id=name.decode())
            for name in (
                b"image/png",
                b"text/html",
                b"text/json",
                b"application/x-json",
                b"application/json-seq",
                b"image/svg+json",
                b"application/octet-stream",
                b"multipart/mixed; boundary=BND",
                b"multipart/related; boundary=BND",
            )
        ),
        *(
            pytest.param((b"application/json; charset=" + name,), id=f"charset {name.decode()}")
            for name in (b"utf-7", b"utf-16", b"ibm037", b"iso-8859-1", b"punycode", b"unicode_escape", b'""')
        ),
        pytest.param((URLENCODED + b"; charset=utf-7",), id="form in another charset"),
        pytest.param((MULTIPART + b"; charset=utf-7",), id="multipart in another charset"),
        pytest.param((b"text/plain; charset=utf-7",), id="text in another charset"),
        pytest.param((b"Xapplication/json",), id="type with a letter before it"),
    ],
)
def test_a_type_or_charset_that_is_not_ours_is_refused(types: tuple[bytes, ...]) -> None:
    with pytest.raises(Unsupported):
        read(b"1", *types)


@pytest.mark.parametrize("charset", [b"us-ascii", b"ASCII", b'"ascii"'])
@pytest.mark.parametrize(
    ("essence", "kind"), [(b"application/json", "json"), (URLENCODED, "form"), (b"text/plain", "text")]
)
def test_a_body_that_is_declared_as_ascii_is_ascii(essence: bytes, kind: BodyKind, charset: bytes) -> None:
    content_type = b"%b; charset=%b" % (essence, charset)
    body, document = BODIES[kind]
    assert read(body, content_type, kinds=frozenset({kind})) == document
    with pytest.raises(Unreadable, match="not ASCII"):
        read(body.replace(b"b", "é".encode()), content_type, kinds=frozenset({kind}))


@pytest.mark.parametrize(
    "content_type", [b"text/plain; charset=us-ascii", b"multipart/form-data; boundary=B; charset=ascii"]
)
def test_percent_signs_are_ascii_where_nobody_undoes_them(content_type: bytes) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n%c3%a4\r\n--B--'
    assert read(body, content_type, kinds=FORM | TEXT).text == body.decode()


@pytest.mark.parametrize("query", [b"a=\xc3\xa4", b"a=%c3%a4", b"a=%41&b=\xff"])
@pytest.mark.parametrize("charset", [b"us-ascii", b"ASCII"])
def test_a_query_that_is_declared_as_ascii_is_ascii(query: bytes, charset: bytes) -> None:
    def asked(query: bytes, *types: bytes) -> tuple[Field, ...]:
        return query_fields(Head("GET", "/", query=query, headers=head(*types).headers), LIMITS)

    content_type = b"text/plain; charset=" + charset
    with pytest.raises(Unreadable, match="query is not ASCII"):
        asked(query, content_type)
    assert asked(b"a=%41+b", content_type) == (Field("a", b"%41+b", is_coded=True),)
    assert asked(query) == asked(query, b"text/plain; charset=utf-8") != ()


@pytest.mark.parametrize("content_type", [b"multipart/form-data", b'multipart/form-data; boundary=""'])
def test_a_multipart_form_without_a_boundary_is_refused_by_the_head_alone(content_type: bytes) -> None:
    with pytest.raises(Unreadable, match="boundary is missing"):
        admit(head(content_type, content_length=b"5"), Accepts(FORM, 10))


def test_a_charset_is_refused_without_a_body_too() -> None:
    """There are readers that decode the query by it."""
    with pytest.raises(Unsupported, match="charset"):
        admit(head(b"text/plain; charset=utf-7"), Accepts(JSON, 10))
    with pytest.raises(Unreadable):
        admit(head(b"application/json", b"application/json; charset=utf-7"), Accepts(JSON, 10))


@pytest.mark.parametrize(
    ("content_type", "body", "kinds"),
    [
        pytest.param(b"application/json", b"{}", FORM | TEXT, id="json"),
        pytest.param(URLENCODED, b"a=b", JSON | TEXT, id="form"),
        pytest.param(MULTIPART, b"--BND--", JSON | TEXT, id="multipart"),
        pytest.param(b"text/plain", b"a", JSON | FORM, id="text"),
    ],
)
def test_a_kind_that_the_rule_does_not_name_is_refused(
    content_type: bytes, body: bytes, kinds: frozenset[BodyKind]
) -> None:
    with pytest.raises(Unsupported, match="does not take"):
        read(body, content_type, kinds=kinds)


def test_without_a_body_there_is_nothing_to_refuse() -> None:
    assert read(b"") == Document()
    assert read(b"", b"image/png", b"image/png") == Document()


@pytest.mark.parametrize(
    "name, values",  # noqa: PT006  # one string reads better here
    [
        pytest.param("content_encoding", (), id="none"),
        pytest.param("content_encoding", (b"",), id="empty"),
        pytest.param("content_encoding", (b"Identity",), id="identity"),
        pytest.param("transfer_encoding", (b" chunked ",), id="chunked"),
        pytest.param("transfer_encoding", (b"Chunked",), id="Chunked"),
    ],
)
def test_a_plain_body_is_taken(name: str, values: tuple[bytes, ...]) -> None:
    asked = Head("POST", "/", headers=(*head(b"application/json").headers, *coded(name, values)))
    assert decode(asked, b"1", Accepts(JSON), LIMITS).json == 1


@pytest.mark.parametrize(
    "name, values",  # noqa: PT006
    [
        *(pytest.param("content_encoding", (each,), id=each.decode()) for each in (b"gzip", b"br", b"DEFLATE", b"x")),
        pytest.param("content_encoding", (b"identity", b"gzip"), id="two headers"),
        pytest.param("content_encoding", (b"gzip, identity",), id="two in one"),
        pytest.param("transfer_encoding", (b"gzip, chunked",), id="transfer gzip"),
        pytest.param("transfer_encoding", (b"chunked", b"chunked"), id="chunked twice"),
        pytest.param("transfer_encoding", (b"identity",), id="transfer identity"),
    ],
)
def test_a_wrapped_body_is_refused(name: str, values: tuple[bytes, ...]) -> None:
    asked = Head("POST", "/", headers=(*head(b"application/json").headers, *coded(name, values)))
    with pytest.raises(Unsupported):
        decode(asked, b"1", Accepts(JSON), LIMITS)


def coded(name: str, values: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value) for value in values]


def test_a_length_up_to_the_limit_is_admitted() -> None:
    for length in (b"0", b"9", b"10", b"010"):
        admit(head(b"application/json", content_length=length), Accepts(JSON, 10))
    admit(head(b"application/json"), Accepts(JSON, 10))


@pytest.mark.parametrize("length", [b"11", b"999999999999999999"])
def test_a_length_over_the_limit_is_refused_by_the_head_alone(length: bytes) -> None:
    with pytest.raises(Oversize, match=f"{int(length)} bytes long; the limit is 10"):
        admit(head(b"application/json", content_length=length), Accepts(JSON, 10))


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param((each,), id=repr(each))
        for each in (b"", b"+5", b"-1", b"1_0", b"0x5", b" 5", b"5 ", b"5,5", b"5.0", "٣".encode(), b"1" * 19, b"5\n")
    ]
    + [pytest.param((b"5", b"5"), id="two headers")],
)
def test_a_length_that_is_not_one_plain_number_is_refused(lengths: tuple[bytes, ...]) -> None:
    asked = Head("POST", "/", headers=tuple((b"content-length", each) for each in lengths))
    with pytest.raises(Incomplete, match="Content-Length"):
        admit(asked, Accepts(JSON, 10))


@pytest.mark.parametrize("framing", [{"content_length": b"5"}, {"transfer_encoding": b"chunked"}])
@pytest.mark.parametrize(
    ("types", "error"),
    [
        pytest.param((), Unsupported, id="no type"),
        pytest.param((b"image/png",), Unsupported, id="other type"),
        pytest.param((URLENCODED,), Unsupported, id="type that the rule does not name"),
        pytest.param((b"application/json; charset=utf-7",), Unsupported, id="charset"),
        pytest.param((b"application/json", b"text/plain"), Unreadable, id="two types"),
    ],
)
def test_a_declared_body_is_refused_by_the_head_alone(
    framing: dict[str, bytes], types: tuple[bytes, ...], error: type[RequestError]
) -> None:
    with pytest.raises(error):
        admit(head(*types, **framing), Accepts(JSON, 10))


def test_a_request_that_declares_no_body_is_admitted_whatever_its_type() -> None:
    admit(head(), Accepts(JSON, 10))
    admit(head(b"image/png"), Accepts(JSON, 10))
    admit(head(content_length=b"0"), Accepts(JSON, 10))


# URL-encoded forms and query strings


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        pytest.param(b"a=1&a=2&b=3&a=4", [("a", b"1"), ("a", b"2"), ("b", b"3"), ("a", b"4")], id="repeated"),
        pytest.param(b"a=&b&=c", [("a", b""), ("b", b""), ("", b"c")], id="blank"),
        pytest.param(b"&&a=1&", [("a", b"1")], id="empty pairs"),
        pytest.param(b"a+b=c+d", [("a b", b"c d")], id="plus"),
        pytest.param(b"%61%2b=%62%26%3d", [("a+", b"b&=")], id="percent"),
        pytest.param(b"a=%&b=%zz&c=100%", [("a", b"%"), ("b", b"%zz"), ("c", b"100%")], id="broken percent"),
        pytest.param(b"a=b=c", [("a", b"b=c")], id="equals sign in the value"),
        pytest.param(b"a=1;b=2", [("a", b"1;b=2")], id="semicolon separates nothing"),
        pytest.param("é=ü".encode(), [("é", "ü".encode())], id="raw UTF-8"),
        pytest.param(b"a=%ff\xfe", [("a", b"\xff\xfe")], id="value that is not UTF-8"),
        pytest.param(b"%ff=1", [("ÿ", b"1")], id="name that is not UTF-8"),
        pytest.param(b"_charset_=utf-8&a=1", [("_charset_", b"utf-8"), ("a", b"1")], id="_charset_ that says UTF-8"),
    ],
)
def test_every_field_of_a_form_is_found(body: bytes, fields: list[tuple[str, bytes]]) -> None:
    assert plain(read(body, URLENCODED, kinds=FORM).fields) == fields
    assert plain(query_fields(Head("GET", "/", query=body), LIMITS)) == fields


def plain(fields: Iterable[Field]) -> list[tuple[str, bytes]]:
    """Names and values, the coding undone."""
    assert all(field.is_coded for field in fields)
    return [(field.name, unquoted(bytes(field.value))) for field in fields]


@PROPERTY
@given(pairs=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=12)), max_size=12), is_plus=st.booleans())
def test_any_form_is_read_as_it_was_written(pairs: list[tuple[str, bytes]], is_plus: bool) -> None:
    pairs = [(name, value) for name, value in pairs if name != "_charset_"]
    body = urlencode(pairs) if is_plus else urlencode(pairs, quote_via=quote)
    assert plain(query_fields(Head("GET", "/", query=body.encode()), LIMITS)) == pairs
    if body:
        assert plain(read(body.encode(), URLENCODED, kinds=FORM).fields) == pairs


@pytest.mark.parametrize("body", [b"_charset_=utf-7", b"a=1&%5Fcharset_=utf%2D16", b"_charset_", b"_charset_="])
def test_a_form_does_not_choose_its_own_codec(body: bytes) -> None:
    with pytest.raises(Unreadable, match="_charset_"):
        read(body, URLENCODED, kinds=FORM)
    with pytest.raises(Unreadable, match="_charset_"):
        query_fields(Head("GET", "/", query=body), LIMITS)


@PROPERTY
@given(raw=st.binary(max_size=20) | st.lists(st.sampled_from([b"%", b"4", b"1", b"+", b"%41", b"\xff"])).map(b"".join))
def test_percent_coding_is_undone_as_everybody_does(raw: bytes) -> None:
    assert unquoted(raw) == unquote_to_bytes(raw.replace(b"+", b" "))


def test_a_name_longer_than_any_rule_names_is_cut() -> None:
    for length in (1023, 1024, 1025, 100_000):
        (field,) = query_fields(Head("GET", "/", query=b"n" * length + b"=1"), LIMITS)
        assert field.name == "n" * min(length, 1024)


def test_the_number_of_fields_is_bounded() -> None:
    limits = Limits(fields=3)
    assert len(read(b"a=1&a=2&a=3", URLENCODED, limits=limits, kinds=FORM).fields) == 3
    assert len(query_fields(Head("GET", "/", query=b"a&b&c"), limits)) == 3
    for over in (b"a=1&a=2&a=3&a=4", b"&&&"):
        with pytest.raises(Oversize, match="more than 3"):
            read(over, URLENCODED, limits=limits, kinds=FORM)
        with pytest.raises(Oversize, match="more than 3"):
            query_fields(Head("GET", "/", query=over), limits)


def test_an_empty_query_has_no_fields() -> None:
    assert query_fields(Head("GET", "/", query=b""), LIMITS) == ()


# multipart/form-data


def disposition(name: str | bytes = "a", filename: str | None = None) -> bytes:
    raw = name if isinstance(name, bytes) else name.encode()
    return b'Content-Disposition: form-data; name="%b"' % raw + (
        b"" if filename is None else b'; filename="%b"' % filename.encode()
    )


def part(*lines: bytes, value: bytes = b"1") -> bytes:
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n" + value


def multipart(*parts: bytes, boundary: bytes = b"BND", end: bytes = b"\r\n") -> bytes:
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, each) for each in parts) + b"--%b--" % boundary + end


def read_parts(body: bytes, limits: Limits = LIMITS) -> tuple[Field, ...]:
    return read(body, MULTIPART, kinds=FORM, limits=limits).fields


plain_names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters='"\\'), max_size=8
)
boundaries = st.from_regex(r"[0-9A-Za-z'()+_,./:=?-]{1,70}", fullmatch=True)
part_types = st.none() | st.sampled_from(
    [
        b"text/plain",
        b"image/png",
        b"text/plain; charset=utf-8",
        b'application/x; a="b c"',
        b"TEXT/HTML;charset=UTF8",
    ]
)


@PROPERTY
@given(data=st.data(), boundary=boundaries, end=st.sampled_from([b"", b"\r\n"]))
def test_any_multipart_form_is_read_as_it_was_written(data: st.DataObject, boundary: str, end: bytes) -> None:
    expected, parts = [], []
    values = st.binary(max_size=20) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"--", b"\r\n--", b"a: b\r\n\r\nc"])
    for _ in range(data.draw(st.integers(0, 5))):
        name, filename = data.draw(plain_names), data.draw(st.none() | plain_names)
        value, kind = data.draw(values), data.draw(part_types)
        lines = [disposition(name, filename)] + ([b"content-type:" + kind] if kind else [])
        parts.append(part(*data.draw(st.permutations(lines)), value=value))
        expected.append(Field(name, value, () if filename is None else (filename,)))
    assume(not any(b"--" + boundary.encode() in each for each in parts))
    assume(all(field.name != "_charset_" for field in expected))
    body = multipart(*parts, boundary=boundary.encode(), end=end)
    document = read(body, b'multipart/form-data; boundary="%b"' % boundary.encode(), kinds=FORM)
    assert document == Document(kind="form", fields=tuple(expected), form_like=(body,) if b"=" in body else ())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(part(disposition("a"), value=b""), Field("a", b""), id="empty value"),
        pytest.param(part(disposition("a", ""), value=b"x"), Field("a", b"x", ("",)), id="empty file name"),
        pytest.param(part(b'CONTENT-DISPOSITION:form-data;name="a"'), Field("a", b"1"), id="no blanks, upper case"),
        pytest.param(part(disposition("a%22")), Field("a%22", b"1"), id="coded quote"),
        pytest.param(part(disposition("a"), b"Content-Length: 1"), Field("a", b"1"), id="its length"),
        pytest.param(part(disposition("a"), b"Content-Transfer-Encoding: binary"), Field("a", b"1"), id="no encoding"),
        pytest.param(part(b"Content-Disposition: form-data; name=a"), Field("a", b"1"), id="name without quotes"),
        pytest.param(
            part(disposition("a") + b"; filename=x.txt"), Field("a", b"1", ("x.txt",)), id="file name without quotes"
        ),
        pytest.param(part(disposition("a", "b\\c")), Field("a", b"1", ("b\\c",)), id="backslash in the file name"),
        pytest.param(part(disposition(" a ")), Field(" a ", b"1"), id="padded name"),
        pytest.param(part(disposition("a", "b" * 255)), Field("a", b"1", ("b" * 255,)), id="longest file name"),
        pytest.param(part(disposition("é", "ü.txt")), Field("é", b"1", ("ü.txt",)), id="beyond ASCII"),
        pytest.param(
            part(disposition("_charset_"), value=b"UTF-8"), Field("_charset_", b"UTF-8"), id="_charset_ UTF-8"
        ),
    ],
)
def test_a_plain_part_is_taken(body: bytes, field: Field) -> None:
    assert read_parts(multipart(body)) == (field,)


def test_a_form_may_end_with_up_to_two_line_ends() -> None:
    for end in (b"", b"\r\n", b"\r\n\r\n"):
        assert read_parts(multipart(part(disposition("a")), end=end)) == (Field("a", b"1"),)


PLAIN: Final = part(disposition("a"))
HIDDEN: Final = part(disposition("message"), value=PHRASE.encode())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"note\r\n" + multipart(PLAIN), id="text before the first boundary"),
        pytest.param(HIDDEN + b"\r\n" + multipart(PLAIN), id="part before the first boundary"),
        pytest.param(b"\r\n" + multipart(PLAIN), id="line end before the first boundary"),
        pytest.param(multipart(PLAIN) + b"note", id="text after the last boundary"),
        pytest.param(multipart(PLAIN) + HIDDEN, id="part after the last boundary"),
        pytest.param(multipart(PLAIN) + multipart(HIDDEN), id="second form after the last boundary"),
        pytest.param(multipart(PLAIN) + b"\r\n\r\n", id="third line end after the last boundary"),
        pytest.param(multipart(PLAIN, end=b"\n"), id="bare line feed after the last boundary"),
        pytest.param(b"--BND\r\n" + PLAIN, id="no last boundary"),
        pytest.param(b"--BND\r\n" + PLAIN + b"\r\n--BND\r\n", id="last boundary that does not end"),
        pytest.param(b"--BND", id="nothing but one boundary"),
        pytest.param(HIDDEN, id="no boundary at all"),
        pytest.param(multipart(HIDDEN, boundary=b"OTHER"), id="another boundary"),
        pytest.param(multipart(PLAIN).replace(b"--BND\r\n", b"--BNDX\r\n"), id="longer boundary"),
        pytest.param(multipart(PLAIN).replace(b"--BND\r\n", b"--BND \r\n"), id="padded boundary"),
        pytest.param(multipart(PLAIN).replace(b"--BND\r\n", b"--BND.."), id="boundary without an end of its line"),
        pytest.param(multipart(PLAIN).replace(b"--BND--", b"--BND --"), id="padded last boundary"),
        pytest.param(multipart(part(disposition(), value=b"x--BND\r\n" + HIDDEN)), id="boundary within a line"),
        pytest.param(
            multipart(part(disposition(), value=b"seven--BND\r\n" + HIDDEN)), id="boundary behind a word of the value"
        ),
        pytest.param(
            multipart(part(disposition(), value=b"\n--BND\r\n" + HIDDEN)), id="boundary after a bare line feed"
        ),
        pytest.param(multipart(part(disposition(), value=b"\r\n--BNDX\r\n" + HIDDEN)), id="longer boundary in a value"),
        pytest.param(multipart(PLAIN).replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(multipart(PLAIN).replace(b"\r\n\r\n", b"\n\n"), id="bare line feeds around the headers"),
        pytest.param(multipart(b"1"), id="no headers"),
        pytest.param(multipart(b"\r\n1\r\n\r\n2"), id="empty header block"),
        pytest.param(multipart(disposition()), id="no end of the headers"),
        pytest.param(multipart(disposition() + b"\r\n"), id="no value"),
        pytest.param(multipart(part(b"Content-Type: text/plain")), id="no disposition"),
        pytest.param(multipart(part(b"Content-Disposition: form-data;", b' name="a"')), id="folded header"),
        pytest.param(multipart(part(disposition("x"), disposition("message"))), id="two dispositions"),
        pytest.param(multipart(part(disposition(), *[b"Content-Type: text/plain"] * 2)), id="two types"),
        pytest.param(multipart(part(disposition(), b"Content-Transfer-Encoding: base64")), id="transfer encoding"),
        pytest.param(multipart(part(disposition(), b"X-Other: 1")), id="another header"),
        pytest.param(multipart(part(disposition(), b"Content-Transfer-Encoding: quoted-printable")), id="quoting"),
        pytest.param(multipart(part(disposition(), *[b"Content-Transfer-Encoding: binary"] * 2)), id="two transfers"),
        pytest.param(multipart(part(disposition(), b"Content-Length: 0")), id="shorter than it is"),
        pytest.param(multipart(part(disposition(), b"Content-Length: +1")), id="odd length"),
        pytest.param(multipart(part(disposition() + b"; filename=x y")), id="blank in a file name without quotes"),
        pytest.param(multipart(part(b"Content-Disposition: form-data; name=a*")), id="star in a name without quotes"),
        pytest.param(multipart(part(disposition("a", 'b\\"; c'))), id="escaped quote and a semicolon in the file name"),
        pytest.param(
            multipart(part(disposition("a"), b"Content-Type: application/x-www-form-urlencoded")), id="a form"
        ),
        pytest.param(multipart(part(disposition("a"), b"Content-Type: multipart/mixed; boundary=x")), id="parts in it"),
        pytest.param(multipart(part(disposition(), b"Content-Length: 2")), id="another length"),
        pytest.param(multipart(part(disposition(), b"Content-Length: 1", b"Content-Length: 1")), id="two lengths"),
        pytest.param(multipart(part(disposition(), b"Content-Type:")), id="empty type"),
        pytest.param(multipart(part(disposition(), b"Content-Type: text")), id="malformed type"),
        pytest.param(multipart(part(disposition(), b"Content-Type: text/plain; charset=utf-7")), id="charset"),
        pytest.param(multipart(part(disposition(), b"Content-Type: text/plain; charset=unicode_escape")), id="codec"),
        pytest.param(multipart(part(disposition(), b"Content-Type: text/plain; charset*=''utf-7")), id="coded charset"),
        pytest.param(multipart(part(disposition() + b"; name*=utf-8''message")), id="extended name"),
        pytest.param(multipart(part(b'Content-Disposition: form-data; name*0="m"; name*1="e"')), id="continued name"),
        pytest.param(multipart(part(disposition() + b"; filename*=utf-8''x")), id="extended file name"),
        pytest.param(multipart(part(disposition("a") + b"; filename*=utf-8''x; filename=b")), id="the coded one first"),
        pytest.param(multipart(part(disposition("a", "b") + b"; filename*=utf-7''x")), id="another charset's name"),
        pytest.param(multipart(part(disposition("a", "b") + b"; filename*=utf-8'en'x")), id="a name with a language"),
        pytest.param(multipart(part(disposition("a", "b") + b"; filename*=utf-8''%ff")), id="a coded name, not UTF-8"),
        pytest.param(multipart(part(disposition("a", "b") + b"; name*=utf-8''x")), id="a coded name of the field"),
        pytest.param(multipart(part(disposition() + b'; name="message"')), id="two names"),
        pytest.param(multipart(part(disposition("a", "b") + b'; filename="c"')), id="two file names"),
        pytest.param(multipart(part(disposition() + b"; filename=")), id="file name without a value"),
        pytest.param(multipart(part(disposition() + b"; filename")), id="bare file name"),
        pytest.param(multipart(part(disposition() + b"; x=y")), id="unknown parameter"),
        pytest.param(multipart(part(disposition() + b";")), id="trailing semicolon"),
        pytest.param(multipart(part(b'Content-Disposition: form-data; filename="b"; name="a"')), id="file name first"),
        pytest.param(multipart(part(b"Content-Disposition: form-data; name=a b")), id="two words without quotes"),
        pytest.param(multipart(part(b"Content-Disposition: form-data")), id="no name"),
        pytest.param(multipart(part(b'Content-Disposition: attachment; name="a"')), id="not form-data"),
        pytest.param(multipart(part(b'Content-Disposition : form-data; name="a"')), id="blank before the colon"),
        pytest.param(multipart(part(disposition("m\\essage"))), id="backslash in the name"),
        pytest.param(multipart(part(disposition('m\\"essage'))), id="escaped quote in the name"),
        pytest.param(multipart(part(disposition("a", "b\\"))), id="backslash before the closing quote"),
        pytest.param(multipart(part(disposition("a\x00"))), id="NUL in the name"),
        pytest.param(multipart(part(disposition("a\n"))), id="line feed in the name"),
        pytest.param(multipart(part(disposition("a", "b\t"))), id="tab in the file name"),
        pytest.param(multipart(part(disposition("a", "b" * 256))), id="longest file name and one more"),
        pytest.param(multipart(part(disposition(b"\xff"))), id="name that is not UTF-8"),
        pytest.param(multipart(part(disposition(b'a"; filename="\xff'))), id="file name that is not UTF-8"),
        pytest.param(multipart(part(disposition("_charset_"), value=b"utf-7")), id="_charset_"),
    ],
)
def test_an_odd_multipart_form_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_parts(body)


def test_the_number_of_parts_is_bounded() -> None:
    limits = Limits(parts=2)
    assert len(read_parts(multipart(PLAIN, PLAIN), limits)) == 2
    with pytest.raises(Oversize, match="more than 2"):
        read_parts(multipart(PLAIN, PLAIN, PLAIN), limits)


def test_the_headers_of_a_part_are_bounded() -> None:
    size = len(disposition()) + 6  # with the line ends around them
    assert read_parts(multipart(PLAIN), Limits(part_head=size)) == (Field("a", b"1"),)
    with pytest.raises(Unreadable, match="too long"):
        read_parts(multipart(PLAIN), Limits(part_head=size - 1))


@pytest.mark.parametrize("charset", ["us-ascii", "ISO-8859-1", "latin-1", "windows-1252"])
def test_a_part_in_an_older_charset_is_taken_where_its_bytes_are_ascii(charset: str) -> None:
    named = part(disposition(), f"Content-Type: text/plain; charset={charset}".encode())
    assert read_parts(multipart(named)) == (Field("a", b"1"),)
    with pytest.raises(Unreadable, match=f"not ASCII, and its type says {charset.lower()}"):
        read_parts(multipart(named.replace(b"\r\n1", b"\r\n\xe9")))


# Text, and bodies with two readings


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(f"{PHRASE} é\x00\n".encode(), f"{PHRASE} é\x00\n", id="as it is"),
        pytest.param(b'{"a": 1}', '{"a": 1}', id="even where it looks like JSON"),
        pytest.param(b"\xef\xbb\xbfa", "a", id="without its byte order mark"),
    ],
)
def test_a_text_is_taken_whole(body: bytes, text: str) -> None:
    assert read(body, b"text/plain", kinds=TEXT) == Document(kind="text", text=text)


@pytest.mark.parametrize("body", [b"a\xff", "a".encode("utf-16"), b"\xed\xa0\x80"])
def test_a_text_that_is_not_utf8_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable, match="not UTF-8 at byte"):
        read(body, b"text/plain", kinds=TEXT)


BOTH: Final = b'{"message":"seven","x":"&message=lanterns&"}'


@pytest.mark.parametrize("content_type", [b"application/json", URLENCODED])
def test_a_body_with_two_readings_gives_both(content_type: bytes) -> None:
    document = read(BOTH, content_type, kinds=JSON | FORM)
    assert document.has_json
    assert document.json == {"message": "seven", "x": "&message=lanterns&"}
    found = Places(json=["$.message"], form=["message"], query=[], text=False).items(document, (), LIMITS)
    values = {item.value for item in found if isinstance(item, Text)}
    assert {"seven", "lanterns"} <= {value.strip('"}') for value in values}


@pytest.mark.parametrize(
    ("body", "kinds", "document"),
    [
        pytest.param(b"a=1", FORM | TEXT, Document(fields=(Field("a", b"1", is_coded=True),), text="a=1"), id="form"),
        pytest.param(
            b"seven \xff",
            ALL,
            Document(fields=(Field("seven \xff", b"", is_coded=True),), text="seven \ufffd"),
            id="no text",
        ),
        pytest.param(b"lanterns", JSON | TEXT, Document(text="lanterns"), id="text"),
        pytest.param(b'"lanterns"', ALL, Document(json="lanterns", has_json=True, text='"lanterns"'), id="string"),
    ],
)
def test_a_body_without_a_type_is_read_as_all_that_it_could_be(
    body: bytes, kinds: frozenset[BodyKind], document: Document
) -> None:
    found = decode(head(), body, Accepts(kinds, allow_untyped=True), LIMITS)
    assert replace(found, kind=None) == document


@pytest.mark.parametrize("body", [b'"seven"', b'{"message": "seven"}', b'[true, "seven"]'])
def test_a_body_without_a_type_that_may_be_json_is_refused_where_only_forms_are_taken(body: bytes) -> None:
    accepts = Accepts(FORM, allow_untyped=True)
    with pytest.raises(Unsupported, match="may be"):
        decode(head(), body, accepts, LIMITS)
    assert decode(head(), body[:1] + b"=seven", accepts, LIMITS).kind == "form"


def test_a_body_without_a_type_that_can_only_be_text_is_utf8() -> None:
    with pytest.raises(Unreadable, match="not UTF-8"):
        decode(head(), b"lanterns \xff", Accepts(JSON | TEXT, allow_untyped=True), LIMITS)


def test_a_rule_for_one_kind_reads_that_kind_only() -> None:
    assert read(BOTH, b"application/json", kinds=JSON) == Document(kind="json", json=json.loads(BOTH), has_json=True)
    assert not read(BOTH, URLENCODED, kinds=FORM).has_json


@pytest.mark.parametrize(
    "body",
    [
        b'"Hello," she said.',
        b"[note] seven lanterns",
        b"{sic} seven lanterns",
        b"[1] seven lanterns",
        b'["seven"] lanterns',
        b'{"seven": "lanterns"} and so on',
    ],
)
def test_a_text_that_no_reader_takes_for_json_is_only_a_text(body: bytes) -> None:
    assert read(body, b"text/plain", kinds=JSON | TEXT) == Document(kind="text", text=body.decode())
    untyped = Accepts(JSON | TEXT, allow_untyped=True)
    assert decode(head(), body, untyped, LIMITS) == Document(kind="text", text=body.decode())


@PROPERTY
@given(value=json_values, indent=st.none() | st.integers(0, 2), before=st.sampled_from(["", " ", "\n\t", "\ufeff"]))
@example(value=[None, {"message": "seven"}], indent=None, before="")
@example(value=[True, "seven"], indent=1, before="\ufeff")
@example(value=[False, ["seven"]], indent=None, before=" ")
def test_json_with_a_string_in_it_is_read_under_another_type_too(value: Any, indent: int | None, before: str) -> None:
    assume(isinstance(value, str) or '"' in json.dumps(value))
    body = (before + json.dumps(value, indent=indent)).encode()
    for content_type in (URLENCODED, b"text/plain"):
        document = read(body, content_type, kinds=ALL)
        assert document.has_json
        assert document.json == value


def test_a_multipart_form_is_no_json() -> None:
    body = multipart(PLAIN)
    assert read(body, MULTIPART, kinds=JSON | FORM) == read(body, MULTIPART, kinds=FORM)


def test_json_beside_a_rule_for_texts_is_a_text_too() -> None:
    assert read(b'"a\xc3\xa9"', b"application/json", kinds=JSON | TEXT).text == '"a\xe9"'
    assert read(b"a=\xff", URLENCODED, kinds=FORM | TEXT).text == "a=\ufffd"


def test_a_plain_body_has_one_reading() -> None:
    assert read(b'{"a": "b"}', b"application/json", kinds=JSON | FORM).form_like == ()
    fields = (Field("message", b"hello%20you", is_coded=True), Field("x", b"", is_coded=True))
    assert read(b"message=hello%20you&x", URLENCODED, kinds=JSON | FORM) == Document(kind="form", fields=fields)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"message": "seven", "message": "lanterns"}', id="repeated key"),
        pytest.param(b'{"message": "seven", "x": NaN}', id="NaN"),
        pytest.param(b'{"message": "seven", "x": ' + b"[" * 80 + b"]" * 80 + b"}", id="too deep"),
        pytest.param(
            b'{"message": "seven", "x": ' + b"[" * 2000 + b"]" * 2000 + b"}", id="deeper than most readers go"
        ),
        pytest.param('{"message": "seven"}'.encode("utf-16"), id="UTF-16"),
        pytest.param('{"message": "seven"}'.encode("utf-16-le"), id="UTF-16 without a mark"),
        pytest.param('{"message": "seven"}'.encode("utf-32-be"), id="UTF-32 without a mark"),
        pytest.param('["seven"]'.encode("utf-16-le"), id="UTF-16 list"),
        pytest.param('[null, "seven"]'.encode("utf-16-le"), id="UTF-16 list that begins with null"),
        pytest.param('"seven"'.encode("utf-16-be"), id="UTF-16 string"),
        pytest.param(b'{"message": "seven \xed\xa0\x80"}', id="encoded surrogate"),
        pytest.param(b'"seven \xed\xa0\x80"', id="encoded surrogate in a string"),
        pytest.param(b'[NaN, "seven"]', id="list that begins with NaN"),
        pytest.param(b'[-Infinity, "seven"]', id="list that begins with minus Infinity"),
        pytest.param(b'[Infinity, "seven"]', id="list that begins with Infinity"),
        pytest.param(b'"seven\nlanterns"', id="raw line feed in a string"),
    ],
)
@pytest.mark.parametrize("content_type", [URLENCODED, b"text/plain"])
def test_json_with_an_uncertain_reading_is_refused_under_another_type_too(body: bytes, content_type: bytes) -> None:
    with pytest.raises(RequestError):
        read(body, content_type, kinds=ALL)


@pytest.mark.parametrize("body", [b'{"message": "seven",}', b'["seven"] // lanterns', b"[{message: 'seven'}]"])
def test_a_form_that_a_more_forgiving_reader_could_take_for_json_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable, match="not valid JSON"):
        read(body, URLENCODED, kinds=JSON | FORM)


@pytest.mark.parametrize("name", ["[note]", "{sic}", '"note'])
def test_a_form_that_begins_like_json_and_is_none_is_a_form(name: str) -> None:
    assert plain(read(f"{name}=seven".encode(), URLENCODED, kinds=JSON | FORM).fields) == [(name, b"seven")]


def test_a_form_with_too_many_values_for_json_is_refused() -> None:
    with pytest.raises(Oversize):
        read(b"[1,2,3,4]", URLENCODED, kinds=JSON | FORM, limits=Limits(nodes=3))


# Limits


@pytest.mark.parametrize("name", ["body", "depth", "nodes", "fields", "parts", "part_head", "texts", "characters"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "9", None])
def test_a_limit_is_a_whole_number_above_zero(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(**{name: value})
    assert caught.value.key == name
    assert repr(value) in caught.value.problem


def test_no_depth_is_taken_that_readers_cannot_walk() -> None:
    assert Limits(depth=90).depth == 90
    with pytest.raises(ConfigError) as caught:
        Limits(depth=91)
    assert caught.value.key == "depth"


def test_floats_are_read_where_a_filter_may_look_at_them_and_are_never_texts() -> None:
    body, limits = b'{"a": [0.25, -1e2, 1e400]}', Limits()
    assert jsontext.parse(body, limits) == {"a": [0.25, -100.0, float("inf")]}
    found = decode(head(b"application/json"), body, Accepts(JSON, with_floats=False), limits).json
    assert isinstance(found, dict)
    assert [type(each) for each in found["a"]] == [int] * 3


@pytest.mark.parametrize(("path", "number"), [("$[?@.score > 0.5].text", b"0.75"), ("$[*].text", b"0.25")])
def test_a_filter_compares_floats(path: str, number: bytes) -> None:
    body = b'[{"score": %b, "text": "seven violet lanterns"}]' % number
    decision, asked = screened(Rule("POST /", json=path), body, content_type="application/json")
    assert (decision.is_rejected, values(asked)) == (True, ["seven violet lanterns"])
