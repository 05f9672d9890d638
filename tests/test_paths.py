"""From documents to texts: everything at the named places, each once, at a pointer that resolves."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jsonpath_rfc9535 import JSONPathEnvironment

from prescreen.decode import decode
from prescreen.document import Accepts, Document, Field, Limits, escaped_strings, unquoted
from prescreen.errors import ConfigError, Oversize, Unreadable
from prescreen.model import Head, Image, Item, Text
from prescreen.paths import Places
from prescreen.paths.fields import Fields
from prescreen.paths.pointer import pointer
from prescreen.paths.query import Query
from prescreen.paths.walk import Walk

LIMITS: Final = Limits()
PROPERTY: Final = settings(max_examples=150, deadline=None, derandomize=True)
PICTURE: Final = "https://pictures.example/lantern.png"
IMAGES: Final = {
    kind: f"data:image/{kind};base64,{b64encode(data).decode()}"
    for kind, data in {
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\0IEND\xaeB`\x82",
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\xff\xd9",
        "jpg": b"\xff\xd8\xff\xd9",
        "gif": b"GIF89a\x01\0\x01\0\0\0\0\x3b",
        "webp": b"RIFF\x08\0\0\0WEBPVP8 ",
    }.items()
}
"""The smallest data that begins and ends as such an image does."""
LINK: Final = "https://pictures.example/lantern"


def places(*json_paths: str, form: Iterable[str] = (), query: Iterable[str] = (), text: bool = False) -> Places:
    return Places(json=json_paths, form=form, query=query, text=text)


def items(document: object, *paths: str, limits: Limits = LIMITS) -> tuple[Item, ...]:
    return places(*paths).items(Document(kind="json", json=document, has_json=True), (), limits)


def texts(document: object, *paths: str) -> dict[str, str]:
    """Pointer to value of every text; fails where there is anything else or a pointer twice."""
    found = items(document, *paths)
    assert all(isinstance(item, Text) for item in found)
    by_pointer = {item.pointer: item.value for item in found if isinstance(item, Text)}
    assert len(by_pointer) == len(found)
    return by_pointer


def fields_of(document: Document, found: Places, query: Iterable[Field] = ()) -> list[tuple[str, str]]:
    return [(item.pointer, item.value) for item in found.items(document, query, LIMITS) if isinstance(item, Text)]


CHAT: Final = {
    "user": "u-1",
    "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "input_text", "text": "two"}]},
    ],
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("$.user", {"/user": "u-1"}, id="name"),
        pytest.param("$['user']", {"/user": "u-1"}, id="quoted name"),
        pytest.param("$.messages[0].content", {"/messages/0/content": "be kind"}, id="index"),
        pytest.param("$.messages[-2].content", {"/messages/1/content": "hello"}, id="index from the end"),
        pytest.param("$.messages[:2].role", {"/messages/0/role": "system", "/messages/1/role": "user"}, id="slice"),
        pytest.param(
            "$.messages[*].content",
            {
                "/messages/0/content": "be kind",
                "/messages/1/content": "hello",
                "/messages/2/content/0/text": "one",
                "/messages/2/content/1/text": "two",
            },
            id="every message",
        ),
        pytest.param(
            "$..text", {"/messages/2/content/0/text": "one", "/messages/2/content/1/text": "two"}, id="descendants"
        ),
        pytest.param("$.messages[?@.role=='system'].content", {"/messages/0/content": "be kind"}, id="filter"),
        pytest.param("$.messages[?length(@.content)==5].content", {"/messages/1/content": "hello"}, id="function"),
        pytest.param("$.nothing[*].here", {}, id="no such place"),
    ],
)
def test_a_path_gives_the_texts_at_its_places(path: str, expected: dict[str, str]) -> None:
    assert texts(CHAT, path) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("a", {"/x": "a"}, id="string"),
        pytest.param(["a", ["b", [["c"]]]], {"/x/0": "a", "/x/1/0": "b", "/x/1/1/0/0": "c"}, id="nested lists"),
        pytest.param({"p": {"q": "a"}, "r": ["b"]}, {"/x/p/q": "a", "/x/r/0": "b"}, id="nested objects"),
        pytest.param([{"a": "1"}, "2", {"b": ["3"]}], {"/x/0/a": "1", "/x/1": "2", "/x/2/b/0": "3"}, id="mixed"),
        pytest.param([1, 2.5, True, None, {}, []], {}, id="nothing but numbers and the like"),
        pytest.param(["", " \n\t", "\u3000"], {}, id="blank"),
        pytest.param({"type": "text", "text": "a"}, {"/x/text": "a"}, id="a content part's type"),
        pytest.param([{"type": "output_text"}, {"type": "input_image"}], {}, id="nothing but types"),
        pytest.param([{"detail": "auto"}, {"detail": "low"}, {"detail": "high"}], {}, id="nothing but settings"),
        pytest.param({"type": "poem", "body": "a"}, {"/x/type": "poem", "/x/body": "a"}, id="an unknown type"),
        pytest.param({"kind": "text"}, {"/x/kind": "text"}, id="a type's word under another name"),
        pytest.param({"type": ["text"]}, {"/x/type/0": "text"}, id="a type's word in a list"),
        pytest.param(["text"], {"/x/0": "text"}, id="a type's word alone"),
        pytest.param({"type": "image_url", "text": "a"}, {"/x/text": "a"}, id="text in a picture's part"),
        pytest.param({"detail": "be specific"}, {"/x/detail": "be specific"}, id="a detail that is no setting"),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "seven violet lanterns"}},
            {"/x/image_url/url": "seven violet lanterns"},
            id="a picture's address that is none",
        ),
        pytest.param({"type": "input_image", "image_url": ["a"]}, {"/x/image_url/0": "a"}, id="a list of addresses"),
        pytest.param({"type": "image_url", "image_url": {"url": 5}}, {}, id="an address that is a number"),
        pytest.param({"type": "text", "image_url": LINK}, {"/x/image_url": LINK}, id="an address elsewhere"),
        pytest.param({"image_url": {"url": LINK}}, {"/x/image_url/url": LINK}, id="an address without a type"),
        pytest.param(
            {"a/b": "1", "c~d": "2", "~1": "3"}, {"/x/a~1b": "1", "/x/c~0d": "2", "/x/~01": "3"}, id="escapes"
        ),
        pytest.param({"": "1", "0": "2", " ": "3"}, {"/x/": "1", "/x/0": "2", "/x/ ": "3"}, id="odd names"),
    ],
)
def test_every_text_at_a_place_is_found_whatever_its_shape(value: object, expected: dict[str, str]) -> None:
    assert texts({"x": value, "y": "elsewhere"}, "$.x") == expected


def test_a_document_that_is_one_string_is_a_text() -> None:
    assert texts("hello", "$") == {"": "hello"}
    assert texts('{"a": "b"}', "$") == {"": '{"a": "b"}'}
    assert texts("hello", "$.a") == {}


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        pytest.param({"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}, "/image_url/url", id="url"),
        pytest.param({"type": "image_url", "image_url": PICTURE}, "/image_url", id="without an object"),
        pytest.param({"type": "input_image", "detail": "auto", "image_url": PICTURE}, "/image_url", id="input_image"),
    ],
)
@pytest.mark.parametrize("url", [PICTURE, "HTTP://PICTURES.EXAMPLE/A", "data:image/png;base64,AAAA", "Data:Image/gif,"])
def test_a_picture_is_found_and_its_address_can_be_read(part: dict[str, Any], pointer: str, url: str) -> None:
    part = json.loads(json.dumps(part).replace(PICTURE, url))
    at = f"/content/0{pointer}"
    assert set(items({"content": [part]}, "$.content")) == {Image(at, url), Text(at, url)}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_whole_picture_is_nothing_but_a_picture(kind: str) -> None:
    url = IMAGES[kind]
    assert items({"a": url, "b": {"type": "image_url", "image_url": {"url": url}}}, "$") == (
        Image("/a", url),
        Image("/b/image_url/url", url),
    )


@pytest.mark.parametrize("kind", IMAGES)
def test_words_in_the_place_of_a_pictures_bytes_are_a_text_too(kind: str) -> None:
    assert items({"a": IMAGES[kind].rstrip("=") + "A" * 9_000}, "$") == (
        Image("/a", IMAGES[kind].rstrip("=") + "A" * 9_000),
    )
    start = IMAGES[kind].rstrip("=")
    for url in (start + "how/to/do/it", IMAGES[kind][:-4] + "evil", IMAGES[kind] + "A", start.ljust(8_192, "A")):
        assert Text("/a", url) in items({"a": url}, "$")
    assert items({"a": start.ljust(8_193, "A")}, "$") == (Image("/a", start.ljust(8_193, "A")),)


@pytest.mark.parametrize(
    "url", [" https://a.example", "ftp://a.example", "data:text/plain,hello", "javascript:x", "//a"]
)
def test_an_address_that_is_no_picture_is_a_text(url: str) -> None:
    assert items({"type": "image_url", "image_url": url}, "$") == (Text("/image_url", url),)


def test_pictures_and_texts_come_in_document_order() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PICTURE}}, "b"]
    found = items(parts, "$")
    assert found[:2] == (Text("/0/text", "a"), Image("/1/image_url/url", PICTURE))
    assert found[-1] == Text("/2", "b")


def test_overlapping_paths_give_each_text_once() -> None:
    found = items(CHAT, "$.messages[*].content", "$..content", "$..*", "$.messages", "$")
    assert len(found) == len(set(found)) == len({item.pointer for item in found})
    assert {item.pointer: item.value for item in found if isinstance(item, Text)} == {
        **texts(CHAT, "$"),
        **texts(CHAT, "$..*"),
    }


@pytest.mark.parametrize(
    "paths", [("$.content", "$..url"), ("$..url", "$.content"), ("$..*",), ("$", "$..*")], ids=" ".join
)
def test_a_picture_stays_a_picture_under_overlapping_paths(paths: tuple[str, ...]) -> None:
    document = {"content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}
    assert Image("/content/0/image_url/url", PICTURE) in items(document, *paths)


# Properties over any document

# Never "type": what that says of a string beside it has tests of its own.
names = st.text(max_size=3) | st.sampled_from(["~", "/", "~1", "~0", "#", "", "0", "a/b~c"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


def resolve(document: Any, pointer: str) -> Any:
    """RFC 6901, section 4."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from strings_in(child)


@PROPERTY
@given(document=documents, path=st.sampled_from(["$", "$..*", "$[*]", "$[*][*]"]))
def test_every_pointer_leads_to_its_text(document: Any, path: str) -> None:
    for place, value in texts(document, path).items():
        assert resolve(document, place) == value


@PROPERTY
@given(document=documents)
def test_every_string_in_a_document_is_found(document: Any) -> None:
    expected = sorted(filter(str.strip, strings_in(document)))
    assert sorted(texts(document, "$").values()) == expected


SELECTIONS: Final = (
    *("$[0]", "$[1]", "$[-1]", "$[-2]", "$[-3]", "$[2]", "$[0, 0]", "$[1, 'a', 0]", "$['a', 'b']", "$.a", "$.a.b"),
    *(
        "$[0:2]",
        "$[1:]",
        "$[-2:]",
        "$[::2]",
        "$[::-1]",
        "$[2:0:-1]",
        "$[::0]",
        "$[0:2:1]",
        "$[*]",
        "$[*][0]",
        "$.a[*].b",
        "$[*, 0]",
    ),
    *(
        "$..a",
        "$..[0]",
        "$..[-1:]",
        "$..['a', 0]",
        "$..a..b",
        "$..[0]..[1]",
        "$..*..a",
        "$..*[0]",
        "$.a..*",
        "$..*",
        "$..a[*]",
    ),
    *(
        "$[?@.a]",
        "$[?@.a == 'x']",
        "$[?@[0]].b",
        "$..[?@.a]",
        "$[?@ == $[0]]",
        "$[?@.a].*",
        "$[?length(@) > 1]",
        "$[?@.a, 0]",
        "$..[?@.a, ?@ == $[0]]",
    ),
)
small_documents = st.recursive(
    st.sampled_from(["x", "y", "", 1, None, True]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@settings(PROPERTY, max_examples=600)
@given(document=small_documents, path=st.sampled_from(SELECTIONS))
@example(document=[["x"], {"a": "y"}], path="$[-2]")
@example(document={"a": ["x"]}, path="$[0]")
@example(document=["a"], path="$.a")
@example(document=["x", "y"], path="$[2]")
@example(document={"a": ["x", "y"]}, path="$[0:2]")
@example(document={"a": {"a": {"b": ["x"]}, "b": {"a": {"b": "y"}}}}, path="$..a..b")
def test_a_path_selects_what_the_standard_says(document: Any, path: str) -> None:
    """As the library evaluates it, which is slower and takes more memory."""
    found = JSONPathEnvironment().compile(path).find(document)
    expected = {
        "".join(f"/{token}" for token in (*node.location, *below)): value
        for node in found
        for below, value in strings_with_places(node.value)
        if value.strip()
    }
    assert texts(document, path) == expected


@pytest.mark.parametrize("path", ["$..[0]..[0]..[0]", "$..*..*..[0]", "$..['a', 0]..[*]..[0, 0]"])
def test_what_is_inside_what_is_selected_is_gone_through_once(path: str) -> None:
    document: Any = ["seven"]
    for _ in range(60):
        document = [document]
    assert sum(1 for _ in Query(path, "json").select(document)) <= 61


def strings_with_places(value: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield (), value
    elif isinstance(value, dict | list):
        for token, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from (((token, *below), each) for below, each in strings_with_places(child))


# Form fields and query parameters


@pytest.mark.parametrize(
    ("named", "fields", "expected"),
    [
        pytest.param(["a"], [("a", "1"), ("b", "2")], [("/a", "1")], id="named"),
        pytest.param(["a", "b"], [("b", "2"), ("a", "1")], [("/b", "2"), ("/a", "1")], id="in order"),
        pytest.param(
            ["a"],
            [("a", "1"), ("b", "2"), ("a", "3")],
            [("/a/0", "1"), ("/a/1", "3")],
            id="every one of a repeated one",
        ),
        pytest.param(["*"], [("a", "1"), ("b", "2")], [("/a", "1"), ("/b", "2")], id="all"),
        pytest.param(["a"], [("A", "1"), ("ab", "2"), ("", "3")], [], id="others"),
        pytest.param(["a"], [(" a ", "1"), ("a\n", "2")], [("/ a ", "1"), ("/a\n", "2")], id="padded"),
        pytest.param(["message"], [("%6dessage", "1")], [("/%6dessage", "1")], id="coded twice"),
        pytest.param(["m%65ssage "], [("message", "1")], [("/message", "1")], id="written coded and padded"),
        pytest.param(["a/b~"], [("a/b~", "1")], [("/a~1b~0", "1")], id="escapes"),
        pytest.param(["a"], [("a", ""), ("a", " "), ("a", "1")], [("/a/2", "1")], id="blank ones"),
        pytest.param(["é"], [("é", "ü")], [("/é", "ü")], id="beyond ASCII"),
    ],
)
@pytest.mark.parametrize("where", ["form", "query"])
def test_every_occurrence_of_a_named_field_is_found(
    where: str, named: list[str], fields: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    given_fields = tuple(Field(name, value.encode()) for name, value in fields)
    if where == "form":
        assert fields_of(Document(kind="form", fields=given_fields), places(form=named)) == expected
    else:
        found = fields_of(Document(), places(query=named), given_fields)
        assert found == [(f"query#{pointer}", value) for pointer, value in expected]


def test_form_and_query_are_told_apart() -> None:
    fields, query = (Field("a", b"1"), Field("b", b"2")), (Field("a", b"3"), Field("b", b"4"))
    found = fields_of(Document(kind="form", fields=fields), places(form=["a"], query=["b"]), query)
    # A form's field is looked for in the query, too: some accessors take it from there.
    assert found == [("/a", "1"), ("query#/a", "3"), ("query#/b", "4")]


def test_a_file_is_its_name_and_its_content() -> None:
    fields = (
        Field("a", b"1", ("one.txt",)),
        Field("b", b"2", ("",)),
        Field("c", b"", ("three.txt",)),
        Field("d", b"4", ("x",)),
    )
    assert fields_of(Document(kind="form", fields=fields), places(form=["a", "b", "c"])) == [
        ("/a/filename", "one.txt"),
        ("/a/content", "1"),
        ("/b/content", "2"),
        ("/c/filename", "three.txt"),
    ]
    repeated = (Field("a", b"1", ("one.txt",)), Field("a", b"2"))
    assert fields_of(Document(kind="form", fields=repeated), places(form=["a"])) == [
        ("/a/0/filename", "one.txt"),
        ("/a/0/content", "1"),
        ("/a/1", "2"),
    ]


def test_a_named_field_that_is_not_utf8_is_refused_and_another_is_left_alone() -> None:
    fields = (Field("a", b"\xff"), Field("b", b"1"))
    assert fields_of(Document(kind="form", fields=fields), places(form=["b"], query=["b"]), fields) == [
        ("/b", "1"),
        ("query#/b", "1"),
    ]
    for found in (places(form=["a"]), places(form=["*"]), places(query=["a"])):
        with pytest.raises(Unreadable, match="not UTF-8"):
            found.items(Document(kind="form", fields=fields), fields, LIMITS)


def test_a_coded_value_is_decoded_and_another_is_not() -> None:
    fields = (Field("a", b"b%61d+word", is_coded=True), Field("b", b"b%61d+word"))
    assert fields_of(Document(kind="form", fields=fields), places(form=["*"])) == [
        ("/a", "bad word"),
        ("/b", "b%61d+word"),
    ]


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        ("plain.txt", {"plain.txt"}),
        ("b\\ad.txt", {"b\\ad.txt", "bad.txt", "ad.txt"}),
        ("one/two.txt", {"one/two.txt", "two.txt"}),
        ("b&#97;d.txt", {"b&#97;d.txt", "bad.txt"}),
        ("b\u200bad.txt", {"b\u200bad.txt", "bad.txt"}),
        ("b%22%61d", {"b%22%61d", 'b"%61d', 'b"ad'}),
        ('a\\"b\\c', {'a\\"b\\c', 'a"bc', 'a"b\\c', "c"}),
        ("folder/", {"folder/"}),
    ],
)
def test_a_file_name_is_read_as_each_reader_cleans_it_up(name: str, readings: set[str]) -> None:
    found = fields_of(Document(kind="form", fields=(Field("file", b"", (name,)),)), places(form=["file"]))
    assert {value for _, value in found} == readings
    assert {pointer for pointer, _ in found} == {"/file/filename"}


class Looked(str):
    """A string that counts how often it is looked at."""

    __slots__ = ("times",)

    def isspace(self) -> bool:
        self.times = getattr(self, "times", 0) + 1
        return super().isspace()


@pytest.mark.parametrize("paths", [("$", "$..*", "$..[0]", "$[0]..*"), ("$..[0]",), ("$..*",)], ids=" ".join)
def test_what_is_selected_often_is_looked_at_once(paths: tuple[str, ...]) -> None:
    """Or a short path and a deep document would be a lever to stall us."""
    text = Looked("seven")
    document: Any = text
    for _ in range(60):
        document = [document]
    (item,) = items(document, *paths)
    assert isinstance(item, Text)
    assert item.value == "seven"
    assert text.times < 10


def test_names_that_are_just_short_enough_make_a_pointer() -> None:
    assert texts({"a" * 4000: {"b" * 96: "text"}}, "$") == {f"/{'a' * 4000}/{'b' * 96}": "text"}
    with pytest.raises(Oversize, match="4096"):
        texts({"a" * 4000: {"b" * 97: "text"}}, "$")


@pytest.mark.parametrize(
    ("name", "body", "count", "expected"),
    [
        pytest.param(
            "a b", b"x&a+b=1&a%20b=2&a b=3&a%20B=4", 3, [("/a b", "1"), ("/a b", "2"), ("/a b", "3")], id="blank"
        ),
        pytest.param("m", b"%6d=1&%6D=2&M=3", 2, [("/m", "1"), ("/m", "2")], id="coded in either case"),
        pytest.param("a/", b"a%2f=1=2", 1, [("/a~1", "1=2")], id="equals sign in the value"),
        pytest.param("a", b"a=\xe4", 1, [("/a", "\ufffd"), ("/a", "ä")], id="no UTF-8"),
        pytest.param("*", b"a=\xe4&b=2&c", 2, [("", "\ufffd"), ("", "ä"), ("", "2")], id="all"),
    ],
)
def test_a_field_is_found_in_a_body_of_any_type(
    name: str, body: bytes, count: int, expected: list[tuple[str, str]]
) -> None:
    fields = Fields([name])
    assert [(text.pointer, text.value) for text in fields.spelled_out(body, count, 99)] == expected
    with pytest.raises(Oversize, match=f"more than {count - 1} form fields"):
        list(fields.spelled_out(body, count - 1, 99))


@pytest.mark.parametrize("character", [b"a", b"%41", b"%C3%A9", b"\xc3\xa9", b"%e2%82%ac", b"%F0%9F%98%80"])
def test_a_field_is_as_long_as_its_characters_are_many(character: bytes) -> None:
    fields = Fields(["a"])
    assert list(fields.texts([Field("a", character * 10, is_coded=True)], 10))
    with pytest.raises(Oversize, match="more than 9 characters"):
        list(fields.texts([Field("a", character * 10, is_coded=True)], 9))
    with pytest.raises(Oversize, match="more than 9 characters"):
        list(fields.spelled_out(b"a=" + character * 10, 1, 9))


def test_what_is_read_in_another_way_has_the_place_of_its_field() -> None:
    found = places(form=["a"]).items(
        Document(kind="form", fields=(Field("a", b"\xc3\xa4", is_coded=True),)), (), LIMITS
    )
    assert set(found) == {Text("/a", "ä"), Text("/a", "Ã¤")}


def test_a_link_to_a_picture_is_one_in_a_value_and_in_no_name() -> None:
    fields = (Field("a", PICTURE.encode()), Field("b", b"1", (PICTURE,)), Field(PICTURE, b"2"))
    for found in (places(form=["a", "b"]), Places(json=["all"], form=[], query=[], text=False)):
        assert [
            item for item in found.items(Document(kind="form", fields=fields), (), LIMITS) if isinstance(item, Image)
        ] == [Image("/a", PICTURE)]


def test_the_name_of_a_field_is_a_text_as_it_was_sent_however_long() -> None:
    """Names are compared by their beginning; a handler may show the whole of one that nobody named."""
    name = f"{'n' * 2_000} 100%25 seven+violet%2Blanterns"
    content_type = (b"content-type", b"application/x-www-form-urlencoded")
    accepts = Accepts(frozenset({"form"}))
    document = decode(Head("POST", "/", headers=(content_type,)), f"{name}=1".encode(), accepts, LIMITS)
    found = Places(json=["all"], form=[], query=[], text=False).items(document, (), LIMITS)
    assert [item.value for item in found if isinstance(item, Text)] == [
        "1",
        f"{'n' * 2_000} 100% seven violet+lanterns",
    ]


def test_a_field_that_is_called_like_all_of_them_has_a_name_like_any_other() -> None:
    fields = (Field("*", b"seven"),)
    found = Places(json=["all"], form=["*"], query=[], text=False)
    assert found.items(Document(kind="form", fields=fields), fields, LIMITS) == (
        Text("/*", "seven"),
        Text("/*", "*"),
        Text("query#/*", "seven"),
        Text("query#/*", "*"),
    )


def test_everything_that_is_found_has_its_place() -> None:
    fields = (Field("a", b"1"), Field("b", b"2", ("",)), Field("c", b"3", ("c.txt",)), Field("d", b"4", is_coded=True))
    found = Places(json=["all"], form=["d"], query=[], text=False)
    assert set(
        found.items(Document(kind="json", json=[PICTURE], has_json=True, fields=fields, text="5"), (), LIMITS)
    ) == {
        *(Text("/0", PICTURE), Image("/0", PICTURE), Text("", "5")),
        *(Text("/a", "1"), Text("/a", "a"), Text("/b/content", "2"), Text("/b", "b")),
        *(Text("/c/filename", "c.txt"), Text("/c", "c"), Text("/d", "4")),
    }


def test_a_body_with_nothing_at_its_places_is_noted() -> None:
    found = places("$.message")
    for document, is_unmatched in (({"message": "hi"}, False), ({"userText": "hi"}, True), ({"message": " "}, True)):
        assert (
            found.harvest(Document(kind="json", json=document, has_json=True), (), LIMITS).is_unmatched is is_unmatched
        )


def test_the_size_of_a_picture_is_bounded_to_the_byte() -> None:
    picture = "data:image/png;base64,iVBORw0KGgoAAAA"
    assert len(picture) * 3 % 4
    size = len(picture) * 3 // 4
    assert Image("/0", picture) in items([picture], "$", limits=Limits(image=size))
    with pytest.raises(Oversize, match="an image is larger"):
        items([picture], "$", limits=Limits(image=size - 1))


def test_a_rule_without_a_form_reads_none() -> None:
    document = Document(
        kind="form", form_like=(b"=seven&=violet&message=seven&text=lanterns",), fields=(Field("a", b"1"),)
    )
    assert places("$", query=["message"]).items(document, (), LIMITS) == ()


def test_a_file_name_as_it_was_sent_comes_first() -> None:
    """And so the order of the texts is the same on every run."""
    for number in range(20):
        name = f"folder\\{number}&#98;c/&lt;d\u200b.txt"
        found = places(form=["file"]).items(Document(kind="form", fields=(Field("file", b"1", (name,)),)), (), LIMITS)
        assert found[0] == Text("/file/filename", name)
        assert found[-1] == Text("/file/content", "1")


def test_a_file_of_a_form_that_is_taken_whole_counts_once() -> None:
    value = b"seven violet lanterns " * 3_000
    body = b'--B\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\n%b\r\n--B--\r\n' % value
    content_type = (b"content-type", b"multipart/form-data; boundary=B")
    document = decode(Head("POST", "/", headers=(content_type,)), body, Accepts(frozenset({"form"})), LIMITS)
    found = fields_of(document, places(form=["*"]))
    assert ("/f/content", value.decode()) in found


def test_a_text_body_is_one_text() -> None:
    assert places(text=True).items(Document(kind="text", text="hello"), (), LIMITS) == (Text("", "hello"),)
    assert places(text=True).items(Document(kind="text", text=" "), (), LIMITS) == ()
    assert places(text=True).items(Document(), (), LIMITS) == ()
    assert places("$").items(Document(kind="text", text="hello"), (), LIMITS) == ()


def test_what_a_text_body_says_as_json_is_at_the_same_place() -> None:
    document = Document(kind="text", text=r'{"message": "\u0062ad"}')
    assert set(fields_of(document, places(text=True))) == {("", document.text), ("", "bad")}


def test_a_json_null_is_a_document_and_no_document_has_no_texts() -> None:
    assert places("$", "$..*").items(Document(kind="json", json=None, has_json=True), (), LIMITS) == ()
    assert places("$").items(Document(kind="json", json="hello"), (), LIMITS) == ()


@pytest.mark.parametrize("content_type", [b"application/json", b"application/x-www-form-urlencoded"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"message":"seven","x":"&message=lanterns&"}', id="the same name"),
        pytest.param(b'{"message":["seven"],"x":"&message=lanterns&message=more&"}', id="the same name, repeated"),
    ],
)
def test_of_a_body_with_two_readings_both_texts_are_found(body: bytes, content_type: bytes) -> None:
    head = Head("POST", "/", headers=((b"content-type", content_type),))
    document = decode(head, body, Accepts(frozenset({"json", "form"})), LIMITS)
    found = fields_of(document, places("$.message", form=["message"]))
    assert {"seven", "lanterns"} <= {value for _, value in found}


# Limits


def test_the_number_of_texts_and_pictures_is_bounded() -> None:
    document = ["a", "b", {"type": "input_image", "image_url": IMAGES["png"]}]
    assert len(items(document, "$", limits=Limits(texts=3))) == 3
    with pytest.raises(Oversize, match="more than 2 texts and images"):
        items(document, "$", limits=Limits(texts=2))


def test_the_number_of_characters_is_bounded() -> None:
    document = ["é" * 5, "b" * 5, {"type": "input_image", "image_url": IMAGES["png"]}]
    assert len(items(document, "$", limits=Limits(characters=10))) == 3
    with pytest.raises(Oversize, match="more than 9 characters"):
        items(document, "$", limits=Limits(characters=9))


def test_what_overlapping_paths_find_twice_counts_once() -> None:
    assert len(items(["a", "b"], "$", "$..*", "$[*]", limits=Limits(texts=2, characters=2))) == 2


# Masks


@pytest.mark.parametrize(
    ("pointer", "masked"),
    [
        pytest.param("", "", id="the whole body"),
        pytest.param("/messages/0/content", "/messages/0/content", id="configured names and numbers"),
        pytest.param("/messages/0/content/1/text", "/messages/0/content/1/text", id="a content part's names"),
        pytest.param("/messages/0/secret", "/messages/0/*", id="a client's name"),
        pytest.param("/secret/messages/secret", "/*/messages/*", id="a client's names around a configured one"),
        pytest.param("/0/type", "/0/type", id="a content part's type"),
        pytest.param("/0/image_url/url", "/0/image_url/url", id="a picture's address"),
        pytest.param("/12345/123456", "/12345/*", id="a number that is no index"),
        pytest.param("/٣/x1", "/*/*", id="other digits"),
        pytest.param("/field/0/filename", "/field/0/filename", id="a file's name"),
        pytest.param("query#/word/0", "query#/word/0", id="a query parameter"),
        pytest.param("query#/secret", "query#/*", id="a client's query parameter"),
        pytest.param("/a~1b/c~0d", "/a~1b/c~0d", id="configured names with escapes"),
        pytest.param("/f~1g", "/f~1g", id="a configured field with escapes"),
        pytest.param("/secret#/x", "/*/*", id="a client's name with a hash"),
        pytest.param("/messages/secret#x", "/messages/*", id="a client's name with a hash at the end"),
        pytest.param("query#/secret#/word", "query#/*/word", id="a client's query parameter with a hash"),
        pytest.param("/query#/word", "/*/word", id="a client's name that looks like a query"),
    ],
)
def test_a_mask_shows_no_name_that_the_configuration_does_not_contain(pointer: str, masked: str) -> None:
    found = places("$.messages[*].content", "$['a/b']['c~d'][0:2]", form=["field", "f/g"], query=["word"])
    assert found.mask(pointer) == masked


@PROPERTY
@given(document=documents)
def test_no_name_of_a_client_is_left_by_the_mask(document: Any) -> None:
    mark = "\u2603"

    def marked(value: Any) -> Any:
        if isinstance(value, dict):
            return {f"{name}{mark}{name}": marked(child) for name, child in value.items()}
        return list(map(marked, value)) if isinstance(value, list) else value

    found = places("$..*")
    for item in found.items(Document(kind="json", json=marked(document), has_json=True), (), LIMITS):
        masked = found.mask(item.pointer)
        assert mark not in masked
        assert masked.count("/") == item.pointer.count("/")


@PROPERTY
@given(name=st.text(min_size=1, max_size=8), where=st.sampled_from(["form", "query"]))
def test_any_field_that_a_client_made_up_is_masked(name: str, where: str) -> None:
    assume(not (name.isascii() and name.isdigit()))
    found = places(form=["*"], query=["*"])
    mark = f"{name}\u2603"
    field = (Field(mark, b"1"),)
    document, query = (Document(kind="form", fields=field), ()) if where == "form" else (Document(), field)
    (item,) = found.items(document, query, LIMITS)
    assert "\u2603" in item.pointer
    assert found.mask(item.pointer) == ("/*" if where == "form" else "query#/*")


# Misuse is found when the places are compiled


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        pytest.param("messages", "a path starts with $", id="no dollar sign"),
        pytest.param("", "a path starts with $", id="empty"),
        pytest.param(".a", "a path starts with $", id="a dot first"),
        pytest.param("$.a[", "is not a JSONPath (RFC 9535)", id="unclosed bracket"),
        pytest.param("$.a b", "is not a JSONPath (RFC 9535)", id="blank"),
        pytest.param("$.", "is not a JSONPath (RFC 9535)", id="nothing after the dot"),
        pytest.param("$.messages[].content", "is not a JSONPath (RFC 9535)", id="empty brackets"),
        pytest.param("$[?nope(@.a)]", "nope", id="unknown function"),
        pytest.param("$[?match(@.a, 'x.*')]", "match", id="regular expression over the whole"),
        pytest.param("$[?search(@.a, '(a|a)*b')]", "search", id="regular expression over a part"),
        pytest.param("$.a[?@.b && search(@.c, @.d)]", "search", id="regular expression from the client"),
    ],
)
def test_a_path_that_cannot_work_is_refused(path: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        places("$.fine", path)
    assert caught.value.key == "json[1]"
    assert repr(path) in caught.value.problem
    assert hint in caught.value.problem


def test_a_hint_is_given_only_where_it_helps() -> None:
    with pytest.raises(ConfigError) as caught:
        places("$.a[")
    assert "starts with $" not in caught.value.problem


# Readers that do not look at the Content-Type, and those that clean up


def head(content_type: bytes) -> Head:
    return Head("POST", "/x", headers=((b"content-type", content_type),))


def moderated(body: bytes, content_type: bytes, found: Places, *kinds: str) -> set[str]:
    """The texts that a rule for `kinds` hands to the moderator."""
    document = decode(head(content_type), body, Accepts(frozenset(kinds)), LIMITS)  # type: ignore[arg-type]
    return {item.value for item in found.items(document, (), LIMITS) if isinstance(item, Text)}


@pytest.mark.parametrize(
    ("body", "content_type", "kinds", "text"),
    [
        (b'{"x": "&message=b%61d&"}', b"application/json", ("json", "form"), "bad"),
        (b'{"x": "&m%65ssage=bad+word&"}', b"application/json", ("json", "form"), "bad word"),
        (b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n&message=bad&\r\n--B--', b"multipart/form-data; boundary=B", ("form",), "bad"),
        (b'{"message": "\\u0062ad"}', b"application/x-www-form-urlencoded", ("json", "form"), "bad"),
        (b'{"message": "\\u0062ad"}', b"text/plain", ("json", "text"), "bad"),
        (b'{"x": "bad"}', b"application/json", ("json", "text"), '{"x": "bad"}'),
        (b"x=bad", b"application/x-www-form-urlencoded", ("form", "text"), "x=bad"),
        (b"message=b%61d", b"text/plain", ("form", "text"), "bad"),
        ("message=ä".encode(), b"application/x-www-form-urlencoded", ("form",), "ä"),
        ("message=ä".encode(), b"application/x-www-form-urlencoded", ("form",), "Ã¤"),
        (b"gr\xf6\xdfe=bad", b"application/x-www-form-urlencoded", ("form",), "bad"),
    ],
)  # fmt: skip
def test_a_body_is_moderated_in_every_reading(
    body: bytes, content_type: bytes, kinds: tuple[str, ...], text: str
) -> None:
    found = places(
        *(["$.message"] if "json" in kinds else []),
        form=["message", "größe"] if "form" in kinds else (),
        text="text" in kinds,
    )
    assert text in moderated(body, content_type, found, *kinds)


def test_a_form_that_is_taken_whole_is_moderated_whole() -> None:
    assert "a=b&c=d" in moderated(b"a=b&c=d", b"text/plain", places(form=["*"], text=True), "form", "text")


def test_a_file_name_is_moderated_as_it_is_sent_and_as_it_is_cleaned_up() -> None:
    field = Field("file", b"1", ("folder\\&#98;ad\u200b.txt",))
    found = places(form=["file"]).items(Document(kind="form", fields=(field,)), (), LIMITS)
    names = {item.value for item in found if isinstance(item, Text) and item.pointer.endswith("filename")}
    assert {"folder\\&#98;ad\u200b.txt", "bad.txt"} <= names


def test_a_text_under_names_without_end_is_refused() -> None:
    with pytest.raises(Oversize, match="names of more than 4096 characters"):
        items({"a": {"b" * 5000: "text"}}, "$.a")
    assert items({"a": {"b" * 5000: 1}}, "$.a") == ()


def test_a_part_of_no_known_kind_is_text() -> None:
    assert [item.pointer for item in items({"a": [{"type": ["image_url"], "image_url": "x"}]}, "$.a")] == [
        "/a/0/type/0",
        "/a/0/image_url",
    ]


def test_the_number_of_pictures_is_bounded() -> None:
    pictures = [{"type": "image_url", "image_url": url} for url in list(IMAGES.values())[:3]]
    assert len(items(pictures, "$", limits=Limits(images=3))) == 3
    with pytest.raises(Oversize, match="more than 2 images"):
        items(pictures, "$", limits=Limits(images=2))


# The evaluation of paths, held against the library's own

selectors = st.sampled_from(
    [
        "'a'",
        "'b'",
        "*",
        "0",
        "-1",
        "1",
        "0:2",
        "::2",
        "::-1",
        "-2:",
        "5:",
        ":0:0",
        "?@.a",
        "?@ == 1",
        "?@.a == 'x'",
        "?!@.b",
    ]
)
segments = st.builds(
    lambda dots, names: f"{dots}[{','.join(names)}]",
    st.sampled_from(["", "", ".."]),
    st.lists(selectors, min_size=1, max_size=3),
)
small = st.recursive(
    st.sampled_from([1, None, "x", "y"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(document=small, parts=st.lists(segments, max_size=4))
@example(document={"a": "x"}, parts=["['a',?@.b]"])
@example(document={"a": {"a": {"a": {"b": "x"}}}}, parts=["..['a']", "['a']", "['b']"])
@example(document={"b": {"b": {"a": "x"}}}, parts=["..[*]", "['a']"])
def test_any_path_selects_what_the_standard_says(document: Any, parts: list[str]) -> None:
    """Each place once, though the standard lets some come twice; a `..[*]` at the end stays with what it is in."""
    path = "$" + "".join(parts)
    wanted = {"".join(f"/{token}" for token in node.location) for node in JSONPathEnvironment().find(path, document)}
    found = {pointer(at) for _, at, holder, _ in Query(path, "json").select(document) if holder is None}
    if parts and parts[-1] == "..[*]":
        assert all(any(place.startswith(f"{each}/") for each in found) for place in wanted)
    else:
        assert found == wanted


class Compared(str):
    """A string that counts how often it is compared with something else."""

    __slots__ = ()
    times = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += self is not other
        return super().__eq__(other)


def test_a_name_is_compared_with_no_index() -> None:
    """Or names would cost their number squared under a path with a slice and a filter."""
    document = {Compared(f"n{number}"): 1 for number in range(100)}
    assert list(Query("$[?@ == 2, 0:]", "json").select(document)) == []
    assert Compared.times == 0


def test_a_link_to_a_picture_may_have_parameters() -> None:
    found = items({"a": f"{PICTURE}?size=2", "b": f"{LINK}?name=.png"}, "$")
    assert found == (Text("/a", f"{PICTURE}?size=2"), Image("/a", f"{PICTURE}?size=2"), Text("/b", f"{LINK}?name=.png"))


def test_a_walk_finds_images_unless_it_is_told_that_nobody_looks_at_them() -> None:
    for kept, kind in ((Walk(None, with_links=True), Image), (Walk(None, with_links=True, with_images=False), Text)):
        assert list(kept.inside([([IMAGES["png"]], None, None, True)])) == [kind("/0", IMAGES["png"])]


def test_a_long_link_is_looked_at_in_a_moment() -> None:
    url = "https://a" + ".png?" * 19_000 + " "
    assert items({"a": url}, "$.a") == (Text("/a", url),)


def test_states_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients choose which states a path gets into: three wildcards below a name have eight."""
    document: Any = "seven"
    for number in range(20):
        document = {"ab"[number % 3 == 0]: [document, {"a": "violet"}]}
    path = "$..a[*]..b[*]"
    expected = texts(document, path)
    monkeypatch.setattr("prescreen.paths.query._REMEMBERED", 2)
    assert texts(document, path) == expected != {}
    query = Query(path, "json")
    assert max(len(query._steps) for _ in query.select(document)) == 2


def test_of_a_body_without_a_text_what_is_ignored_is_counted_once() -> None:
    parts = [{"type": "image_url", "image_url": url} for url in IMAGES.values()]
    document = Document(kind="json", json=parts, has_json=True)
    for paths in (["all"], ["$", "$[*]", "$..*"]):
        found = Places(json=paths, form=[], query=[], text=False, images="ignore", on_unmatched="all")
        most = len(IMAGES) + 1  # that they are images is said once
        assert list(found.harvest(document, (), Limits(texts=most)).items) == [Text("/0/type", "image_url")]
        with pytest.raises(Oversize, match="texts and images"):
            found.harvest(document, (), Limits(texts=most - 1))


@PROPERTY
@given(
    raw=st.lists(st.sampled_from([b"%", b"%4", b"41", b"%e2%82", b"=", b"+", b"\r", b"\n", b"z", b"\xff"])).map(
        b"".join
    )
)
def test_codes_are_undone_and_nothing_else_is(raw: bytes) -> None:
    """As another reader does it: stray percent signs, equals signs and ends of lines stay."""
    assert unquoted(raw) == unquote_to_bytes(raw.replace(b"+", b" "))


@pytest.mark.parametrize("value", [b"%" * 10, b"%4" * 5, b"%zz%4\n%\r%", b"=" * 10, b"%%41%%%41%%%%+a"])
def test_stray_percent_signs_are_characters(value: bytes) -> None:
    size = len(unquoted(value))
    assert list(Fields(["a"]).texts([Field("a", value, is_coded=True)], size))
    with pytest.raises(Oversize, match="characters"):
        list(Fields(["a"]).texts([Field("a", value, is_coded=True)], size - 1))


@pytest.mark.parametrize("end", ["", "\\", '"', "\\\\"])
def test_strings_with_escapes_are_found_in_one_pass_however_a_text_ends(end: str) -> None:
    """Without a bound on the work this takes half a minute: each quote looks like the beginning of a string."""
    text = r'"seven \u0076iolet" ' + '"\\' * 45_000 + end
    assert next(escaped_strings(text), None) == "seven violet"
