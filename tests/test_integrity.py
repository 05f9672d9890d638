"""What rules say about unmatched bodies, names, images and honest exceptions, from the bytes to the moderator."""

from __future__ import annotations

import gzip
import io
import json
import logging
import random
import tracemalloc
from typing import Any
from urllib.parse import urlencode

import pytest

from doubles import BAD, Recorder, screened, values
from prescreen import Cause, ConfigError, Head, Image, Rule, Screen, Text
from prescreen.decode.coding import gunzip
from prescreen.drive import drive_sync
from prescreen.errors import Oversize
from prescreen.model import Item
from prescreen.steps import Answer, ReadBody, Step

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PARTS = "multipart/form-data; boundary=BND"
PICTURE = "https://pictures.example/lantern.png"
PNG = "data:image/png;base64,iVBORw0KGgoAAAAASUVORK5CYII="


def part(name: str, value: bytes, more: str = "") -> bytes:
    return b'--BND\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name.encode(), more.encode(), value)


def parts(*each: bytes) -> bytes:
    return b"".join(each) + b"--BND--\r\n"


def post(rule: Rule, document: Any) -> Any:
    return screened(rule, json.dumps(document).encode(), content_type=JSON)


# Everything


def test_everything_is_every_string_of_the_body_its_names_and_the_query() -> None:
    rule = Rule("POST /chat", json="all")
    body = json.dumps({"userText": "one", "deep": [{"er": ["two", 3, None]}], "two": "two"}).encode()
    _, asked = screened(rule, body, query=b"q=three&r", content_type=JSON)
    assert sorted(set(values(asked))) == ["deep", "er", "one", "q", "r", "three", "two", "userText"]


def test_everything_holds_even_what_messages_say_of_themselves_once() -> None:
    part = {"type": "text", "text": "hi", "detail": "auto"}
    _, asked = post(Rule("POST /chat", json="all", keys=False), [part, part])
    assert values(asked) == ["text", "hi", "auto", "hi"]


def test_everything_of_a_form_is_its_values_its_names_and_the_names_of_its_files() -> None:
    rule = Rule("POST /chat", json="all", form="note")
    body = parts(part("note", b"one"), part("other", b"two"), part("file", b"\xff\x00", '; filename="three.txt"'))
    _, asked = screened(rule, body, content_type=PARTS)
    assert set(values(asked)) >= {"one", "two", "other", "three.txt", "file"}


@pytest.mark.parametrize("body", [b"5", b"[]", b'{"": [""]}'])
def test_everything_of_a_body_without_a_text_is_nothing(body: bytes) -> None:
    decision, asked = screened(Rule("POST /chat", json="all"), body, content_type=JSON)
    assert (decision.cause, asked) == (Cause.CLEAN, [])


def test_everything_leaves_member_names_out_where_the_rule_says_so() -> None:
    _, asked = screened(Rule("POST /chat", json="all", keys=False), b'{"name": "one"}', content_type=JSON)
    assert values(asked) == ["one"]


def test_the_vocabulary_of_messages_is_no_text() -> None:
    document = {"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}]}]}
    _, asked = post(Rule("POST /chat", json=["$.messages[*].content"]), document)
    assert values(asked) == ["one"]


@pytest.mark.parametrize("keys", [True, False, None])
def test_member_names_at_a_place_are_texts_where_the_rule_says_so(keys: bool | None) -> None:
    _, asked = post(Rule("POST /chat", json="$.data", keys=keys), {"data": {BAD: 1, "x": {"y": ["one"]}}, "z": "two"})
    assert values(asked) == ([BAD, "x", "y", "one"] if keys else ["one"])


def test_a_member_name_is_a_text_and_no_picture_whatever_it_says() -> None:
    _, asked = post(Rule("POST /chat", json="$", keys=True), {PICTURE: 1})
    assert asked == [Text(f"/{PICTURE.replace('/', '~1')}", PICTURE)]


def test_a_name_is_judged_once_however_often_it_comes() -> None:
    rule = Rule("POST /chat", json="$", keys=True)
    assert post(rule, [{"name": 1}] * 300)[1] == [Text("/0/name", "name")]
    assert post(rule, [{"name": 1, "a": 2}, {"name": 1, "b": 2}])[1] == [
        Text("/0/name", "name"),
        Text("/0/a", "a"),
        Text("/1/b", "b"),
    ]


@pytest.mark.parametrize(("images", "kind"), [("moderate", Image), ("ignore", Text)])
def test_an_images_data_is_looked_at_as_a_name_and_in_the_query_too(images: Any, kind: type[Item]) -> None:
    """Where nobody looks at images it is a text: words can be written so that they begin and end like one."""
    rule = Rule("POST /chat", json="$", query="q", keys=True, images=images)
    query = urlencode({"q": PNG}).encode()
    _, asked = screened(rule, json.dumps({PNG: 1}).encode(), query=query, content_type=JSON)
    assert asked == [kind(f"/{PNG.replace('/', '~1')}", PNG), kind("query#/q", PNG)]


# A body with nothing at the ruled places


def test_a_body_with_nothing_at_the_ruled_places_is_read_as_a_whole() -> None:
    rule = Rule("POST /chat", json="$.message")
    decision, asked = post(rule, {"userText": BAD})
    assert decision.is_rejected
    assert values(asked) == ["userText", BAD]


@pytest.mark.parametrize("message", ["", " \n", None, 5, []], ids=["empty", "blank", "null", "a number", "a list"])
def test_a_place_without_a_text_counts_as_nothing(message: object) -> None:
    decision, _ = post(Rule("POST /chat", json="$.message"), {"message": message, "userText": BAD})
    assert decision.is_rejected


def test_a_body_with_a_text_at_its_place_is_read_no_further() -> None:
    decision, asked = post(Rule("POST /chat", json="$.message"), {"message": "hi", "other": BAD})
    assert (decision.is_rejected, values(asked)) == (False, ["hi"])


def test_what_only_a_forgiving_reader_finds_does_not_make_up_for_the_body() -> None:
    rule = Rule("POST /chat", json="$.message", form="message")
    decision, _ = post(rule, {"userText": f"{BAD} &message=ok&"})
    assert decision.is_rejected
    body = parts(part("userText", f"{BAD} &message=ok&".encode()))
    assert screened(Rule("POST /chat", form="message"), body, content_type=PARTS)[0].is_rejected
    strict = Rule("POST /chat", json="$.message", form="message", on_unmatched="reject")
    assert post(strict, {"userText": "&message=ok&"})[0].cause is Cause.UNWANTED


def test_what_one_reading_finds_makes_up_for_nothing_in_another() -> None:
    rule = Rule("POST /chat", json="$.message", form="message")
    body = json.dumps({"userText": BAD, "x": "&message=ok&"}).encode()
    assert screened(rule, body, content_type=FORM)[0].is_rejected


def test_no_name_keeps_a_field_out_where_all_are_taken() -> None:
    rule = Rule("POST /chat", json="$.message", form="*")
    decision, _ = post(rule, {"message": "hi", "x": "&--y=seven+violet+lanterns"})
    assert decision.is_rejected


def test_a_text_in_the_query_does_not_make_up_for_the_body() -> None:
    rule = Rule("POST /chat", json="$.message", query="q")
    decision, _ = screened(rule, json.dumps({"userText": BAD}).encode(), query=b"q=hi", content_type=JSON)
    assert decision.is_rejected


def test_a_form_with_nothing_at_the_ruled_places_is_read_as_a_whole() -> None:
    rule = Rule("POST /chat", form="message")
    decision, _ = screened(rule, b"other=seven+violet+lanterns", content_type=FORM)
    assert decision.is_rejected
    body = parts(part("file", b"\x89PNG\xff", '; filename="seven violet lanterns.png"'))
    decision, _ = screened(rule, body, content_type=PARTS)
    assert decision.is_rejected


def test_an_upload_without_a_caption_passes_unread() -> None:
    body = parts(part("caption", b""), part("file", b"\x89PNG\xff\x00", '; filename="a.png"'))
    decision, asked = screened(Rule("POST /upload", form="caption"), body, content_type=PARTS)
    assert decision.cause is Cause.CLEAN
    assert sorted(values(asked)) == ["a.png", "file"]


def test_a_part_with_an_empty_file_name_is_read_since_some_readers_take_it_for_a_field() -> None:
    body = parts(part("other", BAD.encode(), '; filename=""'))
    decision, _ = screened(Rule("POST /upload", form="caption"), body, content_type=PARTS)
    assert decision.is_rejected


def test_an_unmatched_body_passes_where_the_rule_says_so() -> None:
    decision, asked = post(Rule("POST /chat", json="$.message", on_unmatched="pass"), {"userText": BAD})
    assert (decision.cause, asked) == (Cause.CLEAN, [])


def test_the_log_says_that_nothing_was_at_the_places(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "prescreen")
    post(Rule("POST /chat", json="$.message", on_unmatched="pass"), {"userText": "hi"})
    post(Rule("POST /chat", json="$.message"), {"message": "hi"})
    missed, found = caplog.records
    assert "(nothing at the rule's places)" in missed.getMessage()
    assert "nothing" not in found.getMessage()


def test_an_unmatched_body_is_rejected_where_the_rule_says_so_whatever_else_it_allows() -> None:
    rule = Rule("POST /chat", json="$.message", on_unmatched="reject", on_unreadable="allow", on_oversize="allow")
    decision, asked = post(rule, {"userText": "hi"})
    assert (decision.is_rejected, decision.cause, asked) == (True, Cause.UNWANTED, [])
    assert decision.problem == "the request has no text where its route expects it"
    assert not post(rule, {"message": "hi"})[0].is_rejected


@pytest.mark.parametrize("on_unmatched", ["all", "pass", "reject"])
def test_no_body_is_no_unmatched_body(on_unmatched: Any) -> None:
    decision, asked = screened(Rule("DELETE /chat", json="$.message", on_unmatched=on_unmatched))
    assert (decision.cause, asked) == (Cause.CLEAN, [])


# Images


def test_an_image_is_one_in_a_content_part_and_in_a_string_that_is_nothing_else() -> None:
    document = {
        "parts": [{"type": "image_url", "image_url": {"url": "https://pictures.example/1"}}],
        "avatar": PNG,
        "link": PICTURE,
    }
    _, asked = post(Rule("POST /chat", json="$"), document)
    assert asked == [
        Image("/parts/0/image_url/url", "https://pictures.example/1"),
        Text("/parts/0/image_url/url", "https://pictures.example/1"),
        Image("/avatar", PNG),
        Text("/link", PICTURE),
        Image("/link", PICTURE),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64,seven violet lanterns",
        "data:image/png;base64,sevenvioletlanterns",
        "data:image/svg+xml;base64,iVBORw0KGgo=",
        "data:image/png;base64,iVBORw0KGgo= and so on",
        "data:text/plain;base64,iVBORw0KGgo=",
        "http://pictures.example/lantern.png",
        "https://pictures.example/lantern.png and so on",
        "https://pictures.example/lantern",
    ],
)
def test_what_only_looks_like_an_image_is_a_text(text: str) -> None:
    _, asked = post(Rule("POST /chat", json="$.message"), {"message": text})
    assert asked == [Text("/message", text)]


def test_what_begins_like_an_image_and_ends_in_words_is_both() -> None:
    url = "data:image/jpeg;base64,/9j/how+do+I+do+it"
    _, asked = post(Rule("POST /chat", json="$.message"), {"message": url})
    assert set(asked) == {Image("/message", url), Text("/message", url)}


def test_an_images_address_with_words_in_it_is_judged_as_a_text_too() -> None:
    url = f"https://pictures.example/ {BAD}"
    _, asked = post(Rule("POST /chat", json="$"), {"type": "image_url", "image_url": url})
    assert set(asked) == {Image("/image_url", url), Text("/image_url", url)}


def test_links_in_a_body_that_is_read_for_want_of_a_match_are_texts() -> None:
    _, asked = post(Rule("POST /chat", json="$.message"), {"avatar": PICTURE})
    assert asked == [Text("/avatar", "avatar"), Text("/avatar", PICTURE)]


IMAGES = {"text": "hi", "parts": [{"type": "image_url", "image_url": {"url": PICTURE}}]}


def test_images_are_refused_where_the_rule_says_so_whatever_else_it_allows() -> None:
    rule = Rule("POST /chat", json="$", images="reject", on_unreadable="allow", on_oversize="allow")
    decision, _ = post(rule, IMAGES)
    assert (decision.is_rejected, decision.cause) == (True, Cause.UNWANTED)
    assert not post(rule, {"text": "hi"})[0].is_rejected


def test_images_are_ignored_where_the_rule_says_so() -> None:
    rule = Rule("POST /chat", json="$.parts", images="ignore", on_unmatched="reject")
    decision, asked = post(rule, IMAGES)
    assert (decision.cause, asked) == (
        Cause.CLEAN,
        [Text("/parts/0/image_url/url", PICTURE)],
    )  # its address can be read
    decision, asked = post(rule, {"parts": ["hi", picture(PNG)]})
    assert (decision.cause, asked) == (Cause.CLEAN, [Text("/parts/0", "hi")])
    assert post(rule, {"parts": [picture(PNG)]})[0].cause is Cause.UNWANTED


@pytest.mark.parametrize("url", [PNG, f"{PNG[:32]}{'SevenVioletLanterns' * 500}"], ids=["whole", "long"])
def test_where_images_are_ignored_one_that_nothing_says_is_one_is_a_text(url: str) -> None:
    """A handler may read it, and words can be written so that they begin and end like an image."""
    for rule in (Rule("POST /chat", json="$.parts", images="ignore"), Rule("POST /chat", json="all", images="ignore")):
        _, asked = post(rule, {"parts": ["hi", url]})
        assert Text("/parts/1", url) in asked
    form = screened(Rule("POST /chat", form="x", images="ignore"), urlencode({"x": url}).encode(), content_type=FORM)
    assert Text("/x", url) in form[1]


def picture(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_ignored_images_are_counted_too_since_finding_them_is_work() -> None:
    rule = Rule("POST /chat", json="$.parts", images="ignore")
    assert post(rule, {"parts": ["hi", *[picture(PNG)] * 255]})[0].cause is Cause.CLEAN
    assert post(rule, {"parts": ["hi", *[picture(PNG)] * 256]})[0].cause is Cause.OVERSIZE


def test_an_image_that_is_too_large_is_refused() -> None:
    url = PNG.replace("=", "A") + "A" * 28_000_000
    body = json.dumps({"image": url}).encode()
    decision, _ = screened(Rule("POST /chat", json="$.image", max_body="64MiB"), body, content_type=JSON)
    assert (decision.cause, decision.problem) == (Cause.OVERSIZE, "an image is larger than 20000000 bytes")


# Texts that hide behind another reading


@pytest.mark.parametrize(
    "hidden",
    ['{"a": "seven violet\\u0020lanterns"}', '["\\u0073even violet lanterns"]', '"seven\\u0020violet lanterns"'],
)
def test_a_field_that_a_reader_could_take_for_json_is_read_as_json_too(hidden: str) -> None:
    as_part = parts(part("message", hidden.encode(), "\r\nContent-Type: application/json"))
    decision, _ = screened(Rule("POST /chat", form="message"), as_part, content_type=PARTS)
    assert decision.is_rejected
    decision, _ = screened(Rule("POST /chat", text=True), hidden.encode(), content_type="text/plain")
    assert decision.is_rejected


def test_quotes_and_backslashes_of_honest_texts_are_no_fault() -> None:
    for text in ('say "hi\\', '"\\q" and "\\u12"', "C:\\temp", '"\\'):
        decision, asked = screened(Rule("POST /chat", text=True), text.encode(), content_type="text/plain")
        assert (decision.cause, values(asked)) == (Cause.CLEAN, [text])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param(b"message=%C3%A9", f"{FORM}; charset=us-ascii", id="coded bytes of a form"),
        pytest.param(
            parts(part("message", "é".encode(), "\r\nContent-Type: text/plain; charset=us-ascii")), PARTS, id="a part"
        ),
    ],
)
def test_what_says_that_it_is_ascii_has_to_be(body: bytes, kind: str) -> None:
    decision, _ = screened(Rule("POST /chat", form="message"), body, content_type=kind)
    assert decision.cause is Cause.UNREADABLE


def test_both_names_of_a_file_are_judged() -> None:
    more = "; filename=\"a.txt\"; filename*=utf-8''seven%20violet%20lanterns.txt"
    decision, asked = screened(Rule("POST /up", form="file"), parts(part("file", b"x", more)), content_type=PARTS)
    assert decision.is_rejected
    assert {"a.txt", "seven violet lanterns.txt", "x"} <= set(values(asked))


# Honest exceptions, each by its own switch

MESSAGE = json.dumps({"message": BAD}).encode()
OFF = Rule("POST /chat", json="$.message")


def test_gzip_is_unpacked_where_the_rule_says_so() -> None:
    rule = Rule("POST /chat", json="$.message", decode_content=True)
    packed = gzip.compress(MESSAGE)
    assert screened(OFF, packed, content_type=JSON, content_encoding="gzip")[0].cause is Cause.UNSUPPORTED
    decision, asked = screened(rule, packed, content_type=JSON, content_encoding="gzip")
    assert (decision.cause, values(asked)) == (Cause.FLAGGED, [BAD])
    assert screened(rule, MESSAGE, content_type=JSON)[0].cause is Cause.FLAGGED
    assert screened(rule, packed, content_type=JSON, content_encoding="br")[0].cause is Cause.UNSUPPORTED


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(MESSAGE, id="not packed at all"),
        pytest.param(gzip.compress(MESSAGE)[:-1], id="cut short"),
        pytest.param(gzip.compress(MESSAGE) + b"x", id="something behind it"),
        pytest.param(gzip.compress(b'{"message": "hi"}') + gzip.compress(MESSAGE), id="two of them"),
        pytest.param(gzip.compress(gzip.compress(MESSAGE)), id="packed twice"),
    ],
)
def test_what_is_not_one_whole_gzip_member_is_refused(body: bytes) -> None:
    rule = Rule("POST /chat", json="$.message", decode_content=True)
    assert screened(rule, body, content_type=JSON, content_encoding="gzip")[0].cause is Cause.UNREADABLE


def test_a_bomb_is_refused_by_its_size_and_by_its_ratio() -> None:
    rule = Rule("POST /chat", json="$.message", decode_content=True)
    large = Rule("POST /chat", json="$.message", decode_content=True, max_body="64MiB")
    honest = gzip.compress(b'{"message": "hi"}' + b" " * 60_000)
    assert screened(rule, honest, content_type=JSON, content_encoding="gzip")[0].cause is Cause.CLEAN
    for bomb_rule in (rule, large):
        bomb = gzip.compress(b" " * (8 << 20))
        assert screened(bomb_rule, bomb, content_type=JSON, content_encoding="gzip")[0].cause is Cause.OVERSIZE
    noise = random.Random(1).randbytes(700_000).hex().encode()  # packs to half its size
    packed = gzip.compress(b'{"message": "hi", "x": "' + noise + b'"}')
    assert screened(rule, packed, content_type=JSON, content_encoding="gzip")[0].cause is Cause.OVERSIZE
    assert screened(large, packed, content_type=JSON, content_encoding="gzip")[0].cause is Cause.CLEAN


def test_where_text_is_taken_nothing_may_be_packed() -> None:
    with pytest.raises(ConfigError, match="decode_content: it is for JSON"):
        Rule("POST /chat", json="$.message", text=True, decode_content=True)


@pytest.mark.parametrize("kind", [FORM, PARTS, "text/plain"])
def test_only_json_may_be_packed(kind: str) -> None:
    rule = Rule("POST /chat", json="$.message", form="message", decode_content=True)
    decision, _ = screened(rule, gzip.compress(b"message=hi"), content_type=kind, content_encoding="gzip")
    assert decision.cause is Cause.UNSUPPORTED


def test_a_packed_body_may_be_as_long_as_the_limit_and_no_longer() -> None:
    rule = Rule("POST /chat", json="$.message", decode_content=True, max_body=100)
    for length, cause in ((100, Cause.CLEAN), (101, Cause.OVERSIZE)):
        packed = gzip.compress(b'{"message": "hi"}'.ljust(length))
        assert screened(rule, packed, content_type=JSON, content_encoding="gzip")[0].cause is cause


def test_a_bomb_is_not_unpacked_past_the_limit() -> None:
    bomb = gzip.compress(bytes(32 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(Oversize):
            gunzip(bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_packed_body_is_read_as_a_form_as_it_is_too() -> None:
    rule = Rule("POST /chat", json="$.message", form="message", decode_content=True)
    packed = io.BytesIO()
    with gzip.GzipFile("&message=seven+violet+lanterns&", "wb", fileobj=packed) as file:
        file.write(b'{"message": "hi"}')
    assert screened(rule, packed.getvalue(), content_type=JSON, content_encoding="gzip")[0].is_rejected


def test_a_preamble_is_skipped_where_the_rule_says_so() -> None:
    rule = Rule("POST /chat", form="message", allow_preamble=True)
    body = b"This is a multi-part message in MIME format.\r\n\r\n" + parts(part("message", BAD.encode()))
    assert screened(Rule("POST /chat", form="message"), body, content_type=PARTS)[0].cause is Cause.UNREADABLE
    assert screened(rule, body, content_type=PARTS)[0].cause is Cause.FLAGGED


@pytest.mark.parametrize(
    "preamble",
    [
        pytest.param(b'Content-Disposition: form-data; name="message"\r\n\r\nhi\r\n', id="a part"),
        pytest.param(b"--OTHER\r\n", id="another boundary"),
        pytest.param(b"prose", id="no end of line"),
        pytest.param(b"prose\n", id="a bare line feed"),
        pytest.param(b"x\r\n" * 5, id="too many lines"),
        pytest.param(b"x" * 201 + b"\r\n", id="too long a line"),
        pytest.param("é\r\n".encode(), id="beyond ASCII"),
        pytest.param(b"\r\n\r\n", id="blank lines"),
    ],
)
def test_a_preamble_that_a_reader_could_take_for_a_part_is_refused(preamble: bytes) -> None:
    rule = Rule("POST /chat", form="message", allow_preamble=True)
    decision, _ = screened(rule, preamble + parts(part("message", b"hi")), content_type=PARTS)
    assert decision.cause is Cause.UNREADABLE


def test_a_body_without_a_type_is_read_where_the_rule_says_so() -> None:
    assert screened(OFF, MESSAGE)[0].cause is Cause.UNSUPPORTED
    assert screened(Rule("POST /chat", json="$.message", allow_untyped=True), MESSAGE)[0].cause is Cause.FLAGGED
    assert screened(Rule("POST /chat", json="$.message", allow_untyped=True), b"prose")[0].cause is Cause.UNREADABLE
    untyped = Rule("POST /chat", form="message", allow_untyped=True)
    assert screened(untyped, f"message={BAD}".replace(" ", "+").encode())[0].cause is Cause.FLAGGED
    # There are readers that take any body without a type for JSON.
    hidden = json.dumps({"message": BAD, "x": "&message=hi&"}).encode()
    assert screened(untyped, hidden)[0].cause is Cause.UNSUPPORTED
    form = Rule("POST /chat", form="message", json="$.message", allow_untyped=True)
    assert screened(form, b"message=seven+violet+lanterns")[0].cause is Cause.FLAGGED
    assert screened(form, MESSAGE)[0].cause is Cause.FLAGGED
    assert screened(Rule("POST /chat", text=True, allow_untyped=True), BAD.encode())[0].cause is Cause.FLAGGED


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_wide_json_is_read_where_the_rule_says_so(encoding: str) -> None:
    rule = Rule("POST /chat", json="$.message", allow_utf16=True)
    body = MESSAGE.decode().encode(encoding)
    assert screened(OFF, body, content_type=JSON)[0].cause is Cause.UNREADABLE
    assert screened(rule, body, content_type=JSON)[0].cause is Cause.FLAGGED
    named = f"{JSON}; charset={encoding.replace('-le', 'le').replace('-be', 'be')}"
    assert screened(rule, body, content_type=named)[0].cause is Cause.FLAGGED
    assert screened(OFF, body, content_type=named)[0].cause is Cause.UNSUPPORTED
    assert screened(rule, MESSAGE, content_type=JSON)[0].cause is Cause.FLAGGED


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_json_may_have_a_byte_order_mark_and_blanks(encoding: str) -> None:
    rule = Rule("POST /chat", json="$.message", allow_utf16=True)
    for start in ("\ufeff", "\ufeff ", " ", "\n"):
        body = f"{start}{MESSAGE.decode()} ".encode(encoding)
        decision, _ = screened(rule, body, content_type=f"{JSON}; charset={encoding[:6]}{encoding[7:]}")
        assert decision.cause is Cause.FLAGGED


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        pytest.param(MESSAGE.decode().encode("utf-16-be"), "utf-16", id="the other end first"),
        pytest.param(MESSAGE, "utf-16", id="not wide at all"),
        pytest.param(MESSAGE.decode().encode("utf-16-le") + b"\x00", "utf-16le", id="half a character"),
        pytest.param(b"\xff\xfe" + b'"\x00\x00\xd8"\x00', "utf-16", id="half a pair"),
    ],
)
def test_wide_json_that_two_readers_read_differently_is_refused(body: bytes, charset: str) -> None:
    rule = Rule("POST /chat", json="$.message", allow_utf16=True)
    decision, _ = screened(rule, body, content_type=f"{JSON}; charset={charset}")
    assert decision.cause is Cause.UNREADABLE


def test_only_json_may_be_wide() -> None:
    rule = Rule("POST /chat", json="$.message", form="message", allow_utf16=True)
    decision, _ = screened(rule, b"message=hi", content_type=f"{FORM}; charset=utf-16")
    assert decision.cause is Cause.UNSUPPORTED


# Bounds


def test_a_field_of_too_many_characters_is_refused_before_it_is_decoded() -> None:
    rule = Rule("POST /chat", form="message")
    for value in ("%41" * 100_001, "%C3%A9" * 100_001, "é" * 100_001):
        decision, _ = screened(rule, f"message={value}".encode(), content_type=FORM)
        assert decision.cause is Cause.OVERSIZE
    for value in ("%41" * 100_000, "%F0%9F%98%80" * 50_000):
        decision, _ = screened(rule, f"message={value}".encode(), content_type=FORM)
        assert decision.cause is Cause.CLEAN


def test_values_are_counted_past_what_strings_hold() -> None:
    def cause(body: bytes) -> Cause:
        return screened(Rule("POST /chat", json="$.x"), body, content_type=JSON)[0].cause

    assert cause(b'["' + b"," * 60_000 + b'"]') is Cause.CLEAN
    assert cause(b'["\\"' + b"," * 60_000 + b'"]') is Cause.CLEAN
    assert cause(b"[1" + b",1" * 49_998 + b"]") is Cause.CLEAN
    assert cause(b"[1" + b",1" * 50_000 + b"]") is Cause.OVERSIZE
    assert cause(b'["\\\\"' + b',"\\\\"' * 50_000 + b"]") is Cause.OVERSIZE
    assert cause(b'[""' + b',""' * 120_000 + b"]") is Cause.OVERSIZE


@pytest.mark.parametrize(
    "path", ["$[?@.a[*] == 'x']", "$[?@..a]", "$[?count(@.*) > 1]", "$[?@[?@.a]]", "$[?!@..a && @.b == 1]"]
)
def test_a_filter_that_looks_at_more_than_one_place_is_a_configuration_error(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        screened(Rule("POST /chat", json=path), b"[]", content_type=JSON)
    assert caught.value.key == "rules[0].json[0]"
    assert repr(path) in caught.value.problem


def test_a_filter_is_asked_about_so_many_values_and_no_more() -> None:
    rule = Rule("POST /chat", json="$[?@.role == 'user'].content", on_unmatched="pass")
    message = {"role": "system", "content": "x"}
    assert values(post(rule, [message] * 1_999 + [{"role": "user", "content": "one"}])[1]) == ["one"]
    decision, _ = post(rule, [message] * 2_001)
    assert (decision.cause, decision.problem) == (
        Cause.OVERSIZE,
        "there are more than 2000 values at a place that is filtered",
    )


# Configuration


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("on_unmatched", "allow", "'allow' is not one of 'all', 'pass', 'reject'"),
        ("images", True, "True is not one of 'moderate', 'reject', 'ignore'"),
        ("keys", "yes", "'yes' is not one of true, false"),
        ("join", 1, "1 is not one of true, false"),
        ("decode_content", "gzip", "'gzip' is not one of true, false"),
        ("allow_utf16", None, "None is not one of true, false"),
    ],
)
def test_a_wrong_word_is_a_configuration_error(key: str, value: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Rule("POST /chat", json="$", **{key: value})
    assert (caught.value.key, caught.value.problem) == (key, problem)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"json": ["$.a", "all"]}, "json"),
        ({"form": "a", "allow_utf16": True}, "allow_utf16"),
        ({"json": "$", "allow_preamble": True}, "allow_preamble"),
        ({"text": True, "keys": True}, "keys"),
        ({"exempt": True, "join": True}, "join"),
        ({"exempt": True, "decode_content": True}, "decode_content"),
    ],
    ids=str,
)
def test_what_would_do_nothing_is_a_configuration_error(options: Any, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Rule("POST /chat", **options)
    assert caught.value.key == key


def test_all_fields_have_two_spellings() -> None:
    rule = Rule("POST /chat", form="all", query=["all"])
    assert (rule.form, rule.query) == (("*",), ("*",))


@pytest.mark.parametrize("path", ["$[?match(@.a, 'x')]", "$[?search(@.a, 'x')]"])
def test_a_regular_expression_on_users_texts_is_refused_by_name(path: str) -> None:
    with pytest.raises(ConfigError, match="would run a regular expression on users' text"):
        screened(Rule("POST /chat", json=path), b"[]", content_type=JSON)


# Several rules together, where nobody knows whose handler will read it


def together(body: bytes, path: str, kind: str = JSON, **options: Any) -> tuple[Any, list[str]]:
    moderator = Recorder()
    rules = [Rule("POST /items/new", json="$.text", **options), Rule("POST /items/{id}", json="$.title", form="title")]
    screen = Screen(rules=rules, moderator=moderator)
    headers = ((b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()))
    head = Head("POST", path, headers=headers)

    def perform(step: Step) -> Answer:
        return body if isinstance(step, ReadBody) else screen.perform_sync(step)

    return drive_sync(screen.request_flow(screen.rules.find(head), head), perform), moderator.seen


@pytest.mark.parametrize("on_unmatched", ["all", "pass"])
def test_a_hit_of_one_rule_hides_nothing_from_another(on_unmatched: str) -> None:
    body = json.dumps({"text": "hi", "headline": BAD}).encode()
    assert together(body, "/items/5")[0].is_rejected
    assert together(body, "/items/NEW", on_unmatched=on_unmatched)[0].is_rejected
    assert together(b"text=hi&headline=seven+violet+lanterns", "/items/NEW", FORM)[0].is_rejected


def test_the_strictest_of_several_rules_stands() -> None:
    body = json.dumps({"text": "hi"}).encode()
    assert together(body, "/items/NEW", on_unmatched="reject")[0].cause is Cause.CLEAN
    assert together(b"[]", "/items/NEW", on_unmatched="reject")[0].cause is Cause.UNWANTED
    assert together(json.dumps({"x": IMAGES}).encode(), "/items/NEW", images="reject")[0].cause is Cause.UNWANTED
    assert together(gzip.compress(body), "/items/NEW", decode_content=True)[0].cause is Cause.UNREADABLE


def test_a_length_that_is_none_is_refused_whatever_the_policy() -> None:
    rule = Rule("POST /chat", json="$.message", on_unreadable="allow", on_oversize="allow")
    decision, _ = screened(rule, MESSAGE, content_type=JSON, content_length="abc")
    assert (decision.is_rejected, decision.cause) == (True, Cause.INCOMPLETE)


def test_words_in_an_images_place_are_a_text_in_a_content_part_too() -> None:
    address = "data:image/png;base64,iVBORw0KGgoseven/violet/lanterns"
    part = {"type": "image_url", "image_url": address}
    body = json.dumps({"message": [part]}).encode()
    _, asked = screened(Rule("POST /chat", json="$.message"), body, content_type="application/json")
    assert [type(item) for item in asked] == [Image, Text]
    assert values(asked) == [address] * 2
