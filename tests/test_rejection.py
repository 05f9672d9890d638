"""From a rejecting decision to the answer that the end user gets."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prescreen.errors import ConfigError
from prescreen.model import Action, Cause, Decision, Reason, Rejection
from prescreen.rejection import Format, Rejections
from prescreen.wording import CATEGORIES, RESOURCES, SUPPORT

PROPERTY: Final = settings(max_examples=150, deadline=None, derandomize=True)
FORMATS: Final[list[Format]] = ["problem", "openai", "html", "text"]
CAUSES: Final = {
    Cause.FLAGGED: (400, "content_policy_violation"),
    Cause.UNREADABLE: (400, "invalid_request"),
    Cause.UNSUPPORTED: (415, "unsupported_media_type"),
    Cause.OVERSIZE: (413, "request_too_large"),
    Cause.INCOMPLETE: (400, "invalid_request"),
    Cause.LENGTH_REQUIRED: (411, "length_required"),
    Cause.SLOW: (408, "request_timeout"),
    Cause.UNAVAILABLE: (503, "moderation_unavailable"),
}


def flagged(*categories: str, **others: Any) -> Decision:
    reasons = tuple(Reason(category, f"/at/{index}", 0.5) for index, category in enumerate(categories))
    return Decision(Action.REJECT, reasons, cause=Cause.FLAGGED, **others)


def unscreened(cause: Cause, problem: str | None = "the JSON is not UTF-8", **others: Any) -> Decision:
    return Decision(Action.REJECT, cause=cause, problem=problem, **others)


def decision(cause: Cause) -> Decision:
    return flagged("hate", "violence") if cause is Cause.FLAGGED else unscreened(cause)


def said(rejection: Rejection) -> str:
    return rejection.body.decode()


# Every cause in every format


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_answer_is_complete_and_is_not_kept(kind: Format, cause: Cause) -> None:
    rejection = Rejections(format=kind)(decision(cause))
    assert rejection.status == CAUSES[cause][0]
    assert rejection.headers["content-length"] == str(len(rejection.body))
    assert rejection.headers["cache-control"] == "no-store"
    assert rejection.headers["x-content-type-options"] == "nosniff"
    assert ("retry-after" in rejection.headers) == (rejection.status == 503)
    assert "vary" not in rejection.headers
    assert all(name == name.lower() for name in rejection.headers)
    assert not re.search(r"\{[a-z]+\}|None", said(rejection))


@pytest.mark.parametrize("cause", CAUSES)
def test_a_problem_is_as_rfc_9457_has_it(cause: Cause) -> None:
    asked = decision(cause)
    rejection = Rejections()(asked)
    body = json.loads(rejection.body)
    assert rejection.headers["content-type"] == "application/problem+json"
    assert body["status"] == rejection.status
    assert urlsplit(body["type"]).scheme == "urn"
    assert body["type"].endswith(CAUSES[cause][1].replace("_", "-"))
    assert isinstance(body["title"], str)
    assert body["title"]
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert body["decision_id"] == asked.id
    members = {"type", "title", "status", "detail", "decision_id"}
    assert set(body) == members | ({"categories"} if cause is Cause.FLAGGED else set())


@pytest.mark.parametrize("cause", CAUSES)
def test_an_openai_error_is_as_its_clients_parse_it(cause: Cause) -> None:
    rejection = Rejections(format="openai")(decision(cause))
    (name, error), *others = json.loads(rejection.body).items()
    assert (name, others) == ("error", [])
    assert rejection.headers["content-type"] == "application/json"
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == CAUSES[cause][1]
    assert error["type"] == ("api_error" if cause is Cause.UNAVAILABLE else "invalid_request_error")
    assert error["param"] == ("/at/0" if cause is Cause.FLAGGED else None)
    assert error["message"]


class Page(HTMLParser):
    """Reads a page, and fails where its tags do not close as they open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        self.texts[where] = self.texts.get(where, "") + data


@pytest.mark.parametrize("cause", CAUSES)
def test_a_page_is_well_formed_and_loads_nothing(cause: Cause) -> None:
    asked = decision(cause)
    rejection = Rejections(format="html")(asked)
    page = Page(said(rejection))
    problem = json.loads(Rejections()(asked).body)
    assert rejection.headers["content-type"] == "text/html; charset=utf-8"
    assert said(rejection).startswith("<!doctype html>")
    assert page.texts["title"] == page.texts["h1"] == problem["title"]
    assert page.texts["p"] == problem["detail"]
    assert page.texts["code"] == asked.id
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.seen}
    assert not {"src", "href", "onload"} & {name for _, attributes in page.seen for name in attributes}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_text_says_what_the_problem_says(cause: Cause) -> None:
    asked = decision(cause)
    rejection = Rejections(format="text")(asked)
    problem = json.loads(Rejections()(asked).body)
    assert rejection.headers["content-type"] == "text/plain; charset=utf-8"
    assert said(rejection) == f"{problem['title']}. {problem['detail']}\n(decision {asked.id})\n"


NASTY: Final = "<script>\"&'{0}{detail}\r\n</p>é\u2028"


@pytest.mark.parametrize("kind", FORMATS)
def test_whatever_stands_in_words_it_stays_words(kind: Format) -> None:
    look = Rejections(format=kind, title=f"T {NASTY}", wording={"hate": f"W {NASTY}"})
    rejection = look(flagged("hate", f"made up {NASTY}", id=f"I {NASTY}"))
    if kind == "html":
        page = Page(said(rejection))
        assert not any(tag == "script" for tag, _ in page.seen)
        for text, start in ((page.texts["h1"], "T "), (page.texts["code"], "I ")):
            assert text == start + NASTY
        assert f"W {NASTY}" in page.texts["p"]
    elif kind == "text":
        assert all(f"{start} {NASTY}" in said(rejection) for start in "TWI")
    else:
        body = json.loads(rejection.body)
        assert f"W {NASTY}" in (body["error"]["message"] if kind == "openai" else body["detail"])
    assert rejection.headers["content-length"] == str(len(rejection.body))


# What is said


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        (["hate"], "contain hateful language."),
        (["hate", "violence"], "contain hateful language and violence."),
        (["hate", "violence", "sexual"], "contain hateful language, violence and sexual content."),
        (["hate", "hate"], "contain hateful language."),
        (["unspecified"], "contain content that our moderation does not accept."),
        (["spam/link_farm"], "contain spam, link farm."),
        ([], "contain unaccepted content."),
    ],
)
def test_the_user_is_told_why_in_plain_words(categories: list[str], words: str) -> None:
    assert words in json.loads(Rejections()(flagged(*categories)).body)["detail"]


def test_every_known_category_has_plain_words() -> None:
    look = Rejections()
    assert len(CATEGORIES) == 14
    for category in CATEGORIES:
        assert look.words(category) == CATEGORIES[category]
        assert "/" not in look.words(category)
        assert "_" not in look.words(category)


def test_own_words_and_title_and_status_are_used() -> None:
    look = Rejections(status=422, title="Not here", wording={"hate": "unkind words", "violence": ""})
    rejection = look(flagged("hate", "violence"))
    body = json.loads(rejection.body)
    assert rejection.status == body["status"] == 422
    assert body["title"] == "Not here"
    assert "unkind words and violence" in body["detail"]
    assert [each["words"] for each in body["categories"]] == ["unkind words", "violence"]


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if cause is not Cause.FLAGGED])
def test_own_title_and_status_are_for_flagged_requests_only(cause: Cause) -> None:
    asked = decision(cause)
    assert Rejections(status=422, title="Not here")(asked) == Rejections()(asked)


def test_only_what_rejects_is_named() -> None:
    reasons = (
        Reason("self-harm", "/a", 0.9, Action.FLAG),
        Reason("hate", "/b", 0.8),
        Reason("violence", "/c", 0.7, Action.ALLOW),
    )
    asked = Decision(Action.REJECT, reasons, cause=Cause.FLAGGED)
    body = json.loads(Rejections()(asked).body)
    assert body["categories"] == [{"category": "hate", "words": "hateful language", "pointer": "/b"}]
    assert body["detail"].count("hateful language") == 1
    assert "violence" not in body["detail"]
    assert json.loads(Rejections(format="openai")(asked).body)["error"]["param"] == "/b"


def test_scores_are_shown_only_when_asked_for() -> None:
    asked = flagged("hate")
    (plain,) = json.loads(Rejections()(asked).body)["categories"]
    (scored,) = json.loads(Rejections(show_scores=True)(asked).body)["categories"]
    assert "score" not in plain
    assert scored == plain | {"score": 0.5}
    for kind in ("openai", "html", "text"):
        assert "0.5" not in said(Rejections(format=kind, show_scores=True)(asked))


@pytest.mark.parametrize("category", ["self-harm", "self-harm/intent", "self-harm/instructions"])
@pytest.mark.parametrize("kind", FORMATS)
def test_somebody_in_need_is_met_with_support(kind: Format, category: str) -> None:
    text = said(Rejections(format=kind)(flagged("violence", category)))
    assert SUPPORT in text
    assert RESOURCES in text
    assert "Please change it" not in text


def test_the_resources_are_the_operators() -> None:
    asked = flagged("self-harm")
    assert json.loads(Rejections(resources="Call 1234.")(asked).body)["detail"] == f"{SUPPORT} Call 1234."
    assert json.loads(Rejections(resources="")(asked).body)["detail"] == SUPPORT
    assert RESOURCES not in said(Rejections()(flagged("violence")))
    assert RESOURCES not in said(Rejections()(flagged("harm/others")))


def test_what_was_wrong_with_the_request_is_said() -> None:
    assert json.loads(Rejections()(unscreened(Cause.UNREADABLE)).body)["detail"] == "The JSON is not UTF-8."
    assert json.loads(Rejections()(unscreened(Cause.OVERSIZE, None)).body)["detail"] == "It could not be screened."


def test_what_went_wrong_with_the_moderator_is_not_the_users_business() -> None:
    for kind in FORMATS:
        assert "ModeratorDown" not in said(
            Rejections(format=kind)(unscreened(Cause.UNAVAILABLE, "ModeratorDown: it failed"))
        )


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [(None, "5"), (0.0, "5"), (0.2, "1"), (7, "7"), (7.1, "8"), (-3, None), (float("inf"), None), (float("nan"), None)],
)
def test_an_outage_says_when_to_try_again_in_whole_seconds(retry_after: float | None, header: str | None) -> None:
    found = Rejections()(unscreened(Cause.UNAVAILABLE, retry_after=retry_after)).headers["retry-after"]
    assert re.fullmatch("[1-9][0-9]*", found)
    assert header in (None, found)


# Negotiation


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/problem+json"),
        ("*/*", "application/problem+json"),
        ("application/json", "application/problem+json"),
        ("application/problem+json", "application/problem+json"),
        ("application/*", "application/problem+json"),
        ("text/html", "text/html"),
        ("TEXT/HTML", "text/html"),
        ("text/html;level=1", "text/html"),
        ("text/plain", "text/plain"),
        ("text/*", "text/html"),
        ("text/*, text/html;q=0.1", "text/plain"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("text/html;q=0.5, application/json", "application/problem+json"),
        ("text/html;q=0.5, application/json;q=0.4", "text/html"),
        ("text/plain ; q=0.9 , text/html ; Q=0.8", "text/plain"),
        ("text/html;q=0", "application/problem+json"),
        ("text/html;q=0, */*;q=0.1", "application/problem+json"),
        ("application/*;q=0, */*;q=0.1", "text/html"),
        ("text/plain;q=1, text/html;q=1", "text/html"),
        ("image/png", "application/problem+json"),
        ("text/html;q=nonsense", "application/problem+json"),
        ("text/html;q=", "application/problem+json"),
        ("text/html;q=nan", "application/problem+json"),
        ("text/html;q=-1", "application/problem+json"),
        ("text/html;q=9, text/plain", "text/html"),
        (",;,=;q,,", "application/problem+json"),
        (", " * 60 + "text/html", "application/problem+json"),
        ("\x00\xff/;;;q=q=q", "application/problem+json"),
    ],
)
def test_the_client_gets_what_it_likes_best(accept: str, media_type: str) -> None:
    rejection = Rejections(format="negotiate")(flagged("hate"), accept)
    assert rejection.headers["content-type"].partition(";")[0] == media_type
    assert rejection.headers["vary"] == "accept"


accepts = st.text(max_size=30) | st.lists(
    st.builds(
        "{}{}".format,
        st.sampled_from(["text/html", "text/plain", "application/json", "*/*", "text/*", "x/y"]),
        st.sampled_from(["", ";q=0", ";q=0.5", ";q=1", ";q=2", ";q=x", ";a=b;q=0.7"]),
    ),
    max_size=5,
).map(",".join)


@PROPERTY
@given(accept=accepts)
def test_no_accept_header_is_without_an_answer(accept: str) -> None:
    rejection = Rejections(format="negotiate")(flagged("hate"), accept)
    kinds = {"application/problem+json", "text/html; charset=utf-8", "text/plain; charset=utf-8"}
    assert rejection.headers["content-type"] in kinds


@pytest.mark.parametrize("kind", FORMATS)
def test_a_fixed_format_is_not_negotiated(kind: Format) -> None:
    assert Rejections(format=kind)(flagged("hate", id="1"), "x/y") == Rejections(format=kind)(flagged("hate", id="1"))


# Configuration


@pytest.mark.parametrize("status", [200, 302, 399, 500, 503, 408, 409, 425, 429, 0, -400, True, "400", 400.0, None])
def test_a_status_that_clients_would_retry_or_take_for_success_is_refused(status: Any) -> None:
    with pytest.raises(ConfigError, match="a 4xx that clients do not retry") as caught:
        Rejections(status=status)
    assert caught.value.key == "status"


@pytest.mark.parametrize("status", [400, 403, 404, 422, 451, 499])
def test_any_other_4xx_will_do(status: int) -> None:
    assert Rejections(status=status)(flagged("hate")).status == status


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"title": None}, "title"),
        ({"resources": ["1234"]}, "resources"),
        ({"show_scores": "no"}, "show_scores"),
        ({"wording": "rude"}, "wording"),
        ({"wording": {"hate": None}}, 'wording."hate"'),
        ({"wording": {5: "rude"}}, 'wording."5"'),
        ({"headers": [("x-a", "b")]}, "headers"),
        ({"headers": {"x-a": 5}}, 'headers."x-a"'),
    ],
)
def test_words_and_headers_are_texts(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Rejections(**options)
    assert caught.value.key == key
    assert caught.value.problem


def test_an_unknown_format_is_refused() -> None:
    unknown: Any = "xml"
    with pytest.raises(ConfigError, match="'problem', 'openai', 'html', 'text', 'negotiate'") as caught:
        Rejections(format=unknown)
    assert caught.value.key == "format"


def test_own_headers_go_onto_every_rejection() -> None:
    look = Rejections(headers={"X-Moderated-By": "prescreen", "Cache-Control": "private"})
    for cause in CAUSES:
        headers = look(decision(cause)).headers
        assert headers["x-moderated-by"] == "prescreen"
        assert headers["cache-control"] == "private"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Length", "5"),
        ("content-type", "text/html"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("x-a", "one\r\ntwo: three"),
        ("x-a", "one\x00"),
        ("x-a", "é"),
        ("x-é", "a"),
        ("x-a\r\nx-b", "a"),
        ("x a", "a"),
        ("x:a", "a"),
        ("", "a"),
    ],
)
def test_a_header_that_would_break_the_answer_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match="cannot be set") as caught:
        Rejections(headers={name: value})
    assert caught.value.key == f'headers."{name}"'
