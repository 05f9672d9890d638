"""Which rule a request meets: screening rules match wide, exemptions to the letter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, Final
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prescreen.errors import ConfigError
from prescreen.match import RuleSet, _collect, announces_body
from prescreen.model import Action, Head
from prescreen.rule import Rule

PROPERTY: Final = settings(max_examples=200, deadline=None, derandomize=True)


def rule(match: str) -> Rule:
    return Rule(match, json="$.message")


def exempt(match: str) -> Rule:
    return Rule(match, exempt=True)


def found(
    rules: Sequence[Rule],
    method: str,
    path: str,
    root_path: str = "",
    *,
    has_body: bool = True,
    has_coded_slash: bool = False,
) -> str | None:
    """The `match` of the rules that screen this request."""
    head = Head(method, path, root_path, has_body=has_body, has_coded_slash=has_coded_slash)
    chosen = RuleSet(rules).find(head)
    return " + ".join(each.match for each in chosen) or None


CHAT: Final = [rule("POST /chat")]


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/chat",
        "/chat\n",
        "/chat\r\n",
        "/chat/",
        "/chat//",
        "/chat/\n",
        "/\x00/chat/ /",
        "//chat",
        "///chat//",
        "chat",
        "/CHAT",
        "/cHaT/",
        "/chat\x85",
        "/chat\x00",
        "/chat\x7f",
        "/chat\xa0",
        "/chat\ufffd",
        b"/chat\xff".decode(errors="surrogateescape"),
        "/ch\x1fat",
        "/chat\u200b",
        "/chat ",
        "/ chat\t",
        "/%63hat",
        "/%2fchat",
        "/chat%0a",
        "/chat%2f",
        "/chat#part",
        "/chat?a=b",
        "/chat/#/x",
        "http://other/chat",
        "http://other:8000//chat/",
        "HTTPS://Other/CHAT",
        "ws+x-1.0://other/chat",
        "/%43HAT",
        "/ch\u00adat",
    ],
)
def test_no_spelling_of_a_path_slips_past_its_rule(path: str) -> None:
    assert found(CHAT, "POST", path) == "POST /chat"


@pytest.mark.parametrize(
    ("match", "path", "root_path"),
    [
        ("POST /chat", "/api/chat", "/api"),
        ("POST /chat", "/chat", "/api"),
        ("POST /chat", "/api//chat/", "/api/"),
        ("POST /chat", "/API/Chat", "/api"),
        ("POST /chat", "//api/chat", "api"),
        ("POST /chat", "/API/chat", "/api/"),
        ("POST /chat", "/\x00/API/chat", "/api"),
        ("POST /x/{id}/c", "/\x00/API/x/\x00/c", "/api"),
        ("POST /x/{id}/c", "/\x00/API/x//c", "/api"),
        ("POST /api/{id}/api/x", "/\x00/api/x", "/api"),
        ("POST /chat", "/v1/api/chat", "/v1/api"),
        ("POST /chat", "/v1//api/chat\n", "/v1/api"),
        ("POST /chat", "http://other/api/chat", "/api"),
        ("POST /api/chat", "/api/chat", "/api"),
        ("POST /api/chat", "/chat", "/api"),
        ("POST /api/chat", "/api/api/chat", "/api"),
        ("POST /api/{id}", "/7", "/api"),
        ("POST /posts/{id}/comments", "/api/posts//comments", "/api"),
        ("POST /posts/{id}/comments", "//api/posts//comments", "/api"),
        ("POST /posts/{id}/comments", "/api/posts/\x00/comments", "/api"),
        ("POST /v1/api/v1", "/v1", "/v1/api"),
        ("POST /", "/api", "/api"),
        ("POST /", "/api/", "/api"),
        ("POST /api", "/", "/api"),
    ],
)
def test_a_rule_names_its_path_with_or_without_the_mount(match: str, path: str, root_path: str) -> None:
    assert found([rule(match)], "POST", path, root_path) == match


@pytest.mark.parametrize("path", ["/", "", "/chats", "/cha", "/chat/history", "/v1/chat", "/health", "/chat.json"])
def test_another_path_is_left_alone(path: str) -> None:
    assert found(CHAT, "POST", path) is None
    assert RuleSet(CHAT).on_path(path) == ()


@pytest.mark.parametrize(
    ("match", "path"),
    [("POST /{name}", "/a%2fb"), ("POST /{name}/c", "/a#b/c"), ("POST /a/b", "/a%2fb"), ("POST /{name}", "/a#b/c")],
)
def test_a_path_is_matched_as_it_is_and_in_every_other_reading(match: str, path: str) -> None:
    assert RuleSet([rule(match)]).on_path(path)


@pytest.mark.parametrize("path", ["/api", "/API", "/api/", "//api", "/", ""])
def test_a_rule_for_the_root_of_a_mounted_app_matches_the_mount_itself(path: str) -> None:
    assert RuleSet([rule("POST /")]).on_path(path, "/api")


def test_a_mount_does_not_make_another_path_match() -> None:
    # Cut off by the letter, as some frameworks do, this is "chat".
    assert found(CHAT, "POST", "/apichat", "/api") == "POST /chat"
    assert found(CHAT, "POST", "/v1/chat", "/api") is None


@pytest.mark.parametrize(
    "path, root_path",  # noqa: PT006  # one string reads better here
    [
        pytest.param("http://other/chat#part", "", id="absolute form and a fragment"),
        pytest.param("http://other/%63hat", "", id="absolute form and percent-coding"),
        pytest.param("/%63hat#part", "", id="percent-coding and a fragment"),
        pytest.param("/chat%23part", "", id="a fragment that is percent-coded twice"),
        pytest.param("/apihttp://other/chat", "/api", id="a mount put before an absolute form"),
    ],
)
def test_spellings_combine(path: str, root_path: str) -> None:
    assert found(CHAT, "POST", path, root_path) == "POST /chat"


INVISIBLE: Final = ["\n", "\r", "\t", " ", "\x00", "\x1b", "\x7f", "\x85", "\xa0", "\ufffd", "\udc80", "\u200b"]


def respell(data: st.DataObject, path: str) -> str:
    """The path, otherwise written, in ways that some server and framework take for the same."""
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(path) - 1))
        match data.draw(st.sampled_from(["slash", "trailing", "case", "invisible", "coded"])):
            case "slash":
                path = path.replace("/", "//", 1) if at % 2 else path[:at] + path[at:].replace("/", "//", 1)
            case "trailing":
                path += "/"
            case "case":
                path = path[:at] + path[at].swapcase() + path[at + 1 :]
            case "invisible":
                path = path[:at] + data.draw(st.sampled_from(INVISIBLE)) + path[at:]
            case "coded":  # as sent, and undone by the server
                coded = "".join(f"%{ord(c):02x}" if c.isascii() and c.isalpha() else c for c in path[:at])
                path = unquote(coded, errors="surrogateescape") + path[at:]
    return path


@PROPERTY
@given(data=st.data())
def test_no_rewriting_of_a_path_slips_past_its_rule(data: st.DataObject) -> None:
    root_path = data.draw(st.sampled_from(["", "/api", "/v1/api", "/API/"]))
    prefix = data.draw(st.sampled_from(["", root_path.rstrip("/")]))
    path = respell(data, prefix + "/Posts/new/comments")
    if data.draw(st.booleans()):
        path = data.draw(st.sampled_from(["http://other", "HTTPS://user@other:8080"])) + "/" + path.lstrip("/")
    for match in ("POST /posts/new/comments", "POST /posts/{id}/comments", "POST /posts/{rest:path}", "POST *"):
        assert found([rule(match)], "POST", path, root_path) == match


@PROPERTY
@given(name=st.text(min_size=1, max_size=6).filter(lambda name: not re.search(r"[\s/#?{}<%*\\]", name)))
def test_a_rule_written_in_any_letters_matches_its_own_path(name: str) -> None:
    for template in (f"/x/{name}", f"/x/{quote(name, errors='surrogatepass')}"):
        assert found([rule(f"POST {template}")], "POST", f"/x/{name}") is not None


# Templates


@pytest.mark.parametrize(
    ("match", "matching", "others"),
    [
        pytest.param(
            "POST /posts/{id}/comments",
            ["/posts/7/comments", "/posts/a-b/comments/", "/posts//comments"],
            ["/posts/comments", "/posts/7/8/comments", "/posts/7", "/posts/7/comments/1"],
            id="parameter",
        ),
        pytest.param("POST /posts/{id:int}", ["/posts/7", "/posts/seven"], ["/posts/7/8"], id="converter"),
        pytest.param("POST /posts/{slug}.json", ["/posts/a.json", "/posts/a"], ["/posts"], id="part of a segment"),
        pytest.param(
            "POST /files/{rest:path}",
            ["/files/a", "/files/a/b/c", "/files/", "/files", "//Files//a"],
            ["/", "/filesystem", "/file"],
            id="rest",
        ),
        pytest.param("POST /files/*", ["/files/a", "/files/a/b", "/files"], ["/other"], id="star at the end"),
        pytest.param("POST /f/x{rest:path}", ["/f/xa/b", "/f/x"], ["/g"], id="rest within a segment"),
        pytest.param("POST *", ["/", "/a", "/a/b/c", "", "chat", "//", "http://other"], [], id="everything"),
        pytest.param("POST /*", ["/", "/a/b"], [], id="everything below the root"),
        pytest.param("POST /", ["/", "//", "", "http://other", "http://other/"], ["/a"], id="root"),
        pytest.param("POST /chat/", ["/chat", "/chat/"], ["/chat/a"], id="trailing slash"),
        pytest.param("POST //a//b", ["/a/b"], ["/b"], id="doubled slashes"),
        pytest.param("POST /caf%C3%A9", ["/café", "/CAFÉ"], ["/cafe"], id="percent-coded"),
        pytest.param("POST /Straße", ["/straße", "/STRASSE"], ["/strase"], id="folded case"),
        pytest.param("POST /a/{_x1}/{y}", ["/a/b/c"], ["/a/b"], id="two parameters"),
    ],
)
def test_a_template_matches_its_paths_and_no_others(match: str, matching: list[str], others: list[str]) -> None:
    assert [found([rule(match)], "POST", path) for path in matching] == [match] * len(matching)
    assert [found([rule(match)], "POST", path) for path in others] == [None] * len(others)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 5000])
def test_a_path_of_any_length_is_matched(length: int) -> None:
    rules = RuleSet([rule("POST /posts/{id}/comments"), rule("PUT /chat")])
    for _ in range(2):
        assert rules.on_path(f"/posts/{'7' * length}/comments") == rules.rules[:1]
        assert rules.on_path(f"/{'/' * length}chat") == rules.rules[1:]
        assert rules.on_path(f"/{'x' * length}") == ()


def test_short_paths_are_remembered_in_a_bounded_number() -> None:
    """Clients choose them."""
    rules = RuleSet([rule("POST /chat")])
    for path in (f"/{'x' * 256}", f"/{'x' * 255}", f"/{'x' * 255}"):
        rules.on_path(path)
    assert rules._remembered.cache_info()[:2] == (1, 1)
    for number in range(3_000):
        rules.on_path(f"/{number}")
    assert rules._remembered.cache_info().currsize == 2048


def test_the_same_path_is_another_one_under_another_mount() -> None:
    rules = RuleSet([rule("POST /chat"), rule("POST /api/v1")])
    for _ in range(2):
        assert rules.on_path("/api/chat") == ()
        assert rules.on_path("/api/chat", "/api") == rules.rules[:1]
        assert rules.on_path("/v1", "/api") == rules.rules[1:]


def test_the_first_rule_that_matches_wins() -> None:
    rules = [rule("POST /posts/new"), rule("POST /posts/{id}"), rule("POST /posts/{rest:path}"), rule("POST *")]
    for path, match in [
        ("/posts/new", "POST /posts/new"),
        ("/posts/7/8", "POST /posts/{rest:path}"),
        ("/other", "POST *"),
    ]:
        assert found(rules, "POST", path) == match
    assert found([rules[1], rule("PUT /posts/new")], "PUT", "/posts/new") == "PUT /posts/new"
    assert RuleSet(rules).on_path("/posts/new") == tuple(rules)


@pytest.mark.parametrize("path", ["/posts/NEW", "/posts/new/", "/posts/new%20", "/posts//new", "posts/new"])
def test_a_path_that_is_spelled_oddly_is_screened_by_every_rule_that_it_may_be_about(path: str) -> None:
    rules = [rule("POST /posts/new"), rule("POST /posts/{id}"), rule("PUT /posts/new"), rule("POST /other")]
    together = found(rules, "POST", path)
    assert together is not None
    assert {"POST /posts/new", "POST /posts/{id}"} <= set(together.split(" + "))


@pytest.mark.parametrize(
    ("match", "path"),
    [
        pytest.param("POST /chat/", "/chat", id="trailing slash"),
        pytest.param("POST /Chat", "/chat", id="case"),
        pytest.param("POST //chat", "/chat", id="doubled slash"),
        pytest.param("POST /posts/{id:int}", "/posts/-5", id="sign"),
        pytest.param("POST /posts/{id:int}", "/posts/1_0", id="digits as Python reads them"),
        pytest.param("POST /posts/{id:uuid}", "/posts/7", id="converter"),
        pytest.param("POST /files/*", "/files", id="star"),
        pytest.param("POST /files/{rest:path}", "/files", id="rest"),
    ],
)
def test_a_rule_that_is_written_oddly_is_not_passed_over_for_a_later_one(match: str, path: str) -> None:
    together = found([rule(match), rule("POST *")], "POST", path)
    assert together is not None
    assert match in together.split(" + ")


@pytest.mark.parametrize(
    ("narrow", "wide", "path"),
    [
        pytest.param("POST /posts/{id:int}", "POST /posts/{slug}", "/posts/{}", id="converter"),
        pytest.param("POST /files/{name}.json", "POST /files/{name}", "/files/{}", id="part of a segment"),
    ],
)
def test_a_narrow_rule_leaves_the_rest_to_a_wider_one(narrow: str, wide: str, path: str) -> None:
    """And what fits both is either's: frameworks differ in which of two such routes they take."""
    rules = [rule(narrow), rule(wide)]
    assert found(rules, "POST", path.format("7.json" if "json" in narrow else "7")) == f"{narrow} + {wide}"
    left = found(rules, "POST", path.format("seven"))
    assert left is not None
    assert wide in left.split(" + ")
    with pytest.raises(ConfigError, match="can never match"):
        RuleSet(rules[::-1])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/a//b"),
        ("POST", "/a/b/"),
        ("POST", "/a/b "),
        ("POST", "/%61/b"),
        ("post", "/a/b"),
        ("FOO", "/a/b"),
    ],
)
def test_where_the_method_or_path_is_in_doubt_every_rule_on_it_counts(method: str, path: str) -> None:
    rules = [rule("POST /a/{x}"), rule("POST /{x}/b"), rule("POST /c"), rule("POST *")]
    assert found(rules, method, path) == "POST /a/{x} + POST /{x}/b + POST *"
    assert found(rules, "POST", "/a/b") == "POST /a/{x} + POST /{x}/b"


@pytest.mark.parametrize(
    ("matches", "path", "expected"),
    [
        pytest.param(["POST /a/{x}", "POST /{x}/b"], "/a/b", "POST /a/{x} + POST /{x}/b", id="neither is wider"),
        pytest.param(["POST /a/b", "POST /{x}/b", "POST *"], "/a/b", "POST /a/b", id="wider ones behind"),
        pytest.param(["POST /{x}/b", "POST /a/{y:path}"], "/a/b", "POST /{x}/b + POST /a/{y:path}", id="a rest"),
        pytest.param(["POST /{x:int}", "POST /{y}"], "/5", "POST /{x:int} + POST /{y}", id="another kind"),
        pytest.param(
            ["POST /a/{x}", "POST /a/{y:path}", "POST *"], "/a/b", "POST /a/{x} + POST /a/{y:path}", id="more of it"
        ),
        pytest.param(
            ["POST /a/b/{x}", "POST /a/b/{y:path}", "POST /a/{z:path}"],
            "/a/b/c",
            "POST /a/b/{x} + POST /a/b/{y:path}",
            id="more of it, and still more",
        ),
        pytest.param(["POST /{x}.css", "POST /{y}.png"], "/a.css", "POST /{x}.css", id="another ending"),
        pytest.param(
            ["PUT,POST /a/{rest:path}", "POST /b/{x:int}"],
            "/a/b/-1",
            "PUT,POST /a/{rest:path} + POST /b/{x:int}",
            id="wide",
        ),
    ],
)
def test_where_rules_cross_each_may_be_the_one_that_a_framework_goes_by(
    matches: list[str], path: str, expected: str
) -> None:
    rules = [rule(match) for match in matches]
    assert found(rules, "POST", path, "/a" if "-1" in path else "") == expected


def test_letter_case_alone_puts_nothing_in_doubt_where_the_same_rule_fits_without_it() -> None:
    rules = [rule("POST /posts/{id}/comments"), rule("POST /Api/chat"), rule("POST *")]
    for path, expected in (
        ("/posts/a1/comments", "POST /posts/{id}/comments"),
        ("/posts/A1/comments", "POST /posts/{id}/comments"),
        ("/POSTS/a1/comments", "POST /posts/{id}/comments + POST *"),
        ("/Api/chat", "POST /Api/chat"),
        ("/api/chat", "POST /Api/chat + POST *"),
    ):
        assert found(rules, "POST", path) == expected


def test_an_earlier_rule_stands_before_an_exemption() -> None:
    rules = [rule("POST /a/{x}"), exempt("* /a/b")]
    assert found(rules, "POST", "/a/b") == "POST /a/{x}"
    assert found(rules, "GET", "/a/b", has_body=False) is None
    assert found(rules, "DELETE", "/a/b", has_body=True) is None


@pytest.mark.parametrize("place", [{"query": "q"}, {"form": "q"}])
def test_a_query_under_a_method_that_no_rule_names_is_screened_too(place: dict[str, Any]) -> None:
    """Form accessors look into the query, too."""
    screening, other = Rule("POST /x", **place), rule("PUT /x")
    for rules, query, chosen in [
        ([screening], b"q=1", (screening,)),
        ([other, screening], b"q=1", (other, screening)),
        ([screening], b"", ()),
        ([other], b"q=1", ()),
    ]:
        assert RuleSet(rules).find(Head("GET", "/x", query=query, has_body=False)) == chosen


def test_of_the_rules_that_fit_only_widely_all_screen_and_of_those_behind_a_winner_none() -> None:
    wide = [rule("POST /{name}.css"), rule("POST /{id:int}"), rule("POST /{name}.png")]
    assert RuleSet(wide).find(Head("POST", "/chat")) == tuple(wide)
    assert RuleSet([*CHAT, *wide]).find(Head("POST", "/chat")) == (*CHAT,)
    assert RuleSet([*wide, *CHAT]).find(Head("POST", "/chat")) == (*wide, *CHAT)


def test_without_a_mount_there_is_none() -> None:
    assert RuleSet([rule("POST /{name}/chat")]).on_path("/chat") == ()


def test_under_a_mount_the_first_rule_of_either_reading_screens() -> None:
    rules = [rule("POST /{tenant}/chat"), rule("POST /chat"), rule("POST *")]
    assert found(rules, "POST", "/acme/chat", "/acme") == "POST /{tenant}/chat + POST /chat"
    assert found(rules, "POST", "/acme/chat") == "POST /{tenant}/chat"


# Methods


@pytest.mark.parametrize(
    ("match", "methods", "others"),
    [
        pytest.param("POST /x", ["POST", "post", "Post", " post "], ["GET", "PUT", "OPTIONS", "QUERY"], id="one"),
        pytest.param("POST,PUT /x", ["POST", "PUT", "put"], ["PATCH"], id="several"),
        pytest.param("post, put /x", ["POST", "PUT"], ["PATCH"], id="blanks and lower case"),
        pytest.param("* /x", ["POST", "GET", "DELETE", "FOO"], [], id="star"),
        pytest.param("POST,* /x", ["POST", "GET"], [], id="star among others"),
        pytest.param("/x", ["POST", "GET", "DELETE", "FOO"], [], id="none"),
        pytest.param("GET /x", ["GET", "HEAD", "head"], ["POST"], id="GET covers HEAD"),
        pytest.param("HEAD /x", ["HEAD", "GET"], ["POST"], id="HEAD covers GET"),
        pytest.param("POST /x", ["FOO", "", "POSTX", "P\u00d6ST"], [], id="made up"),
    ],
)
def test_a_rule_is_about_its_methods(match: str, methods: list[str], others: list[str]) -> None:
    for method in methods:
        assert found([rule(match)], method, "/x", has_body=False) == match
    for method in others:
        assert found([rule(match)], method, "/x", has_body=False) is None


def test_a_body_under_a_method_that_no_rule_names_is_screened_by_all_of_the_path() -> None:
    rules = [exempt("POST /x"), rule("PUT /x"), rule("POST,PATCH /x"), rule("POST *")]
    for method in ("GET", "DELETE", "OPTIONS", "HEAD"):
        assert found(rules, method, "/x", has_body=True) == "PUT /x + POST,PATCH /x + POST *"
        assert found(rules, method, "/x", has_body=False) is None
        assert found(rules, method, "/y", has_body=True) == "POST *"
    assert found([exempt("POST /x")], "GET", "/x", has_body=True) is None


# Exemptions


@pytest.mark.parametrize(
    ("match", "path", "root_path"),
    [
        ("GET /health", "/health", ""),
        ("GET /health", "/api/health", "/api"),
        ("GET /health", "/api/health", "/api/"),
        ("GET /health", "/maX/health", "/maX"),
        ("GET /api/health", "/api/health", ""),
        ("GET /files/api/list", "/api/files/api/list", "/api"),
        ("GET /", "/api", "/api"),
        ("GET /items/{id:float}", "/items/1.5", ""),
        ("GET /items/{id:uuid}", "/items/0b8f3a52-7c1e-4d7a-9a55-0f2f6c1d2e3f", ""),
        ("GET /items/{id:slug}", "/items/forty-two", ""),
        ("GET /items/{id:str}", "/items/forty-two", ""),
        ("* /health", "/health", ""),
        ("/health", "/health", ""),
        ("GET /health/", "/health/", ""),
        ("GET /static/*", "/static/a/b.css", ""),
        ("GET /static/{rest:path}", "/static/", ""),
        ("GET /items/{id:int}", "/items/42", ""),
        ("GET /items/{id}", "/items/forty-two", ""),
        ("GET /items/{name}.css", "/items/a.css", ""),
        ("GET /a.b/{x}", "/a.b/c", ""),
        ("GET *", "/anything/else", ""),
        ("GET /Straße", "/Straße", ""),
    ],
)
def test_an_exempt_route_is_not_screened(match: str, path: str, root_path: str) -> None:
    assert found([exempt(match), rule("GET,PUT *")], "GET", path, root_path, has_body=False) is None


@pytest.mark.parametrize(
    ("headers", "is_announced"),
    [
        pytest.param([], False, id="none"),
        pytest.param([(b"content-type", b"text/plain"), (b"x-length", b"5")], False, id="others"),
        pytest.param([(b"content-length", b"0")], False, id="no length"),
        pytest.param([(b"content-length", b"5")], True, id="a length"),
        *(
            pytest.param([(b"content-length", odd)], True, id=repr(odd))
            for odd in (b"", b"00", b" 0", b"+0", b"-1", b"0,5", b"x")
        ),
        pytest.param([(b"transfer-encoding", b"chunked")], True, id="chunks"),
        pytest.param([(b"transfer-encoding", b"0")], True, id="another header's value"),
        pytest.param([(b"transfer-encoding", b"")], True, id="an empty transfer encoding"),
        pytest.param([(b"content-length", b"0"), (b"transfer-encoding", b"chunked")], True, id="no length and chunks"),
        pytest.param([(b"content-length", b"0"), (b"content-length", b"5")], True, id="two lengths"),
        pytest.param([(b"content-length", b"5"), (b"content-length", b"0")], True, id="two, the other way round"),
    ],
)
def test_a_body_is_announced_by_all_but_a_length_of_nought(
    headers: list[tuple[bytes, bytes]], is_announced: bool
) -> None:
    assert announces_body(headers) is is_announced
    assert announces_body(iter(headers)) is is_announced


def test_a_body_where_none_belongs_is_not_exempt() -> None:
    rules = [exempt("GET /health"), exempt("* /ready"), rule("POST *")]
    assert found(rules, "GET", "/health", has_body=False) is None
    for method in ("GET", "HEAD"):
        assert found(rules, method, "/health", has_body=False) is None
        assert found(rules, method, "/health", has_body=True) == "POST *"
    assert found([exempt("OPTIONS /health"), *rules], "OPTIONS", "/health", has_body=False) is None
    assert found([exempt("OPTIONS /health"), *rules], "OPTIONS", "/health", has_body=True) == "POST *"
    assert found(rules, "GET", "/ready", has_body=True) is None


@pytest.mark.parametrize(
    ("match", "method", "path", "root_path"),
    [
        pytest.param("GET /health", *request, id=f"{' '.join(request)!r}")
        for request in [
            ("GET", "/health/", ""),
            ("GET", "/HEALTH", ""),
            ("GET", "//health", ""),
            ("GET", "health", ""),
            ("GET", "/health\n", ""),
            ("GET", "/health\x00", ""),
            ("GET", "/health ", ""),
            ("GET", "/health\xa0", ""),
            ("GET", "/health#", ""),
            ("GET", "/health?", ""),
            ("GET", "/%68ealth", ""),
            ("GET", "http://other/health", ""),
            ("GET", "/health.", ""),
            ("GET", "/healthy", ""),
            ("GET", "/chat/health", ""),
            ("GET", "/api/health", ""),
            ("GET", "/apihealth", "/api"),
            ("GET", "/API/health", "/api"),
            ("GET", "/x/api/health", "/api"),
            ("get", "/health", ""),
            ("PUT", "/health", ""),
            ("FOO", "/health", ""),
        ]
    ]
    + [
        pytest.param(match, "GET", path, "", id=f"{match} {path!r}")
        for match, path in [
            ("GET /static/*", "/static/../chat"),
            ("GET /static/*", "/static/./chat"),
            ("GET /static/*", "/static/a/.."),
            ("GET /static/*", "/static/."),
            ("GET /static/*", "/static//a"),
            ("GET /static/*", "/static\\..\\chat"),
            ("GET /static/*", "/static/%2e%2e/chat"),
            ("GET /static/*", "/static"),
            ("GET /static/*", "/staticx/a"),
            ("GET /items/{id:int}", "/items/new"),
            ("GET /items/{id:int}", "/items/٣"),
            ("GET /items/{id:int}", "/items/4/2"),
            ("GET /items/{id:int}", "/items/007"),
            ("GET /items/{id:float}", "/items/special"),
            ("GET /items/{id:float}", "/items/15"),
            ("GET /items/{id:uuid}", "/items/special"),
            ("GET /items/{id:uuid}", "/items/0B8F3A52-7c1e-4d7a-9a55-0f2f6c1d2e3f"),
            ("GET /items/{id:slug}", "/items/a.b"),
            ("GET /items/{id}", "/items/"),
            ("GET /items/{id}", "/items/4/2"),
            ("GET /items/{id}", "/items/4\x00"),
            ("GET /items/{id}", "/items/4\x7f"),
            ("GET /items/{id}", "/items/\ufffd"),
            ("GET /static/*", "/static/\u200b"),
            ("GET /items/{name}.css", "/items/a.js"),
            ("GET /items/{name}.css", "/items/axcss"),
            ("GET *", "//"),
            ("GET *", "chat"),
        ]
    ],
)
def test_an_exemption_covers_nothing_but_its_own_spelling(match: str, method: str, path: str, root_path: str) -> None:
    assert found([exempt(match), rule("GET,PUT *")], method, path, root_path, has_body=False) == "GET,PUT *"


def test_an_exemption_is_written_without_the_mount_since_frameworks_route_without_it() -> None:
    rules = [exempt("POST /{tenant}/chat"), rule("POST /chat"), rule("POST *")]
    assert found(rules, "POST", "/api/chat", "/api") == "POST /chat + POST *"
    assert found(rules, "POST", "/api/acme/chat", "/api") is None
    assert (
        found([exempt("POST /webhooks/{name}"), rule("POST *")], "POST", "/webhooks/messages", "/webhooks") == "POST *"
    )
    assert found([exempt("GET /api/health"), rule("GET *")], "GET", "/api/health", "/api", has_body=False) == "GET *"


def test_a_rule_that_names_the_path_with_its_mount_stands_before_an_exemption_without_it() -> None:
    rules = [exempt("POST /chat"), rule("POST /api/chat"), rule("POST *")]
    assert found(rules, "POST", "/api/chat", "/api") == "POST /api/chat + POST *"
    assert found([rules[0], rules[2]], "POST", "/api/chat", "/api") is None


def test_a_rule_that_crosses_an_exemption_may_be_the_one_that_a_framework_goes_by() -> None:
    rules = [exempt("POST /public/{rest:path}"), rule("POST /{tenant}/chat"), rule("POST *")]
    assert found(rules, "POST", "/public/chat") == "POST /{tenant}/chat"
    assert found(rules, "POST", "/public/other") is None
    assert found(rules, "POST", "/A/public/chat", "/A") == "POST /{tenant}/chat + POST *"
    for other in (rule("PUT /{tenant}/chat"), exempt("POST /{tenant}/chat")):  # not for its texts
        assert found([rules[0], other, rules[2]], "POST", "/public/chat") is None
    kinds = [exempt("POST /items/{id:int}"), rule("POST /items/{id}"), rule("POST *")]
    assert found(kinds, "POST", "/items/12") == "POST /items/{id}"
    assert found([kinds[0], kinds[2]], "POST", "/items/12") is None


@pytest.mark.parametrize("path", ["/health", "/HEALTH", "//health"])
def test_an_exemption_alone_screens_nothing(path: str) -> None:
    assert found([exempt("POST /health")], "POST", path) is None


def test_a_mount_may_stand_anywhere_since_there_are_frameworks_that_look_for_it_there() -> None:
    assert found([rule("POST /chat")], "POST", "/x/api/chat", "/api") == "POST /chat"
    assert found([rule("POST /chat/api")], "POST", "/x/api/chat/api", "/api") == "POST /chat/api"
    assert found([rule("POST /chat")], "POST", "/x/chat", "/api") is None
    assert found([rule("POST /chat")], "POST", "/chat/api", "/api") is None


def test_below_its_mount_a_path_may_be_nothing_more_than_the_root() -> None:
    rules = [rule("POST /chat"), rule("POST /")]
    assert found(rules, "POST", "/chat", "/chat") == "POST /chat + POST /"
    assert found(rules, "POST", "/a", "/a/chat") is None


@pytest.mark.parametrize("path", ["//items//c", "/items/ /c", "//items/\x00/c", "/items//c"])
def test_an_empty_segment_may_be_a_parameter_where_another_one_is_nothing(path: str) -> None:
    assert found([rule("POST /items/{id}/c")], "POST", path) == "POST /items/{id}/c"


def test_many_empty_segments_cost_no_more_than_their_number() -> None:
    rules = RuleSet([rule("POST /{a}/{b}/{c}/{d}/{e}/x")])
    assert rules.on_path("/" * 200_000 + "x") == tuple(rules.rules)


@pytest.mark.parametrize("segment", ["", " "])
def test_a_run_of_empty_segments_is_gone_through_until_it_adds_nothing(segment: str) -> None:
    """Clients choose its length, and the application how many parameters it could fill."""

    class Found(set[int]):
        steps = 0

        def update(self, *others: Iterable[int]) -> None:
            self.steps += 1
            super().update(*others)

    rules, found = RuleSet([rule("POST /{a}/{b}/{c}/{d}/{e}/x")]), Found()
    _collect(rules._root, [segment] * 1_000 + ["x"], found)
    assert found == {0}
    assert found.steps < 50


def test_a_segment_that_nobody_sees_may_be_a_rules_own() -> None:
    for path in ("/\u200b/x", "//\u200b/x", "/\u200b//x", "//\x00//x"):
        assert found([rule("POST /\u200b/x")], "POST", path) == "POST /\u200b/x"
    assert found([rule("POST /{a}/\u200b/x")], "POST", "///\u200b/x") == "POST /{a}/\u200b/x"


def test_an_exemption_with_a_kind_of_parameter_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\{id:hex\}.* it knows str, string, path, int, float, uuid, slug"):
        exempt("POST /items/{id:hex}")
    rules = [rule("POST /items/{id:hex}"), rule("POST /items/special"), rule("POST /items/{id:oct}")]
    assert found(rules, "POST", "/items/special") == "POST /items/{id:hex} + POST /items/special"


def test_a_path_with_a_coded_slash_is_not_exempt() -> None:
    rules = [exempt("POST /items/{id}/{part}"), rule("POST *")]
    assert found(rules, "POST", "/items/1/2") is None
    assert found(rules, "POST", "/items/1/2", has_coded_slash=True) == "POST *"


# Misuse is found when the rules are built


@pytest.mark.parametrize(
    ("match", "hint"),
    [
        pytest.param("", "POST /chat", id="empty"),
        pytest.param("POST", "no path", id="only a method"),
        pytest.param("POST chat", "no path", id="no slash"),
        pytest.param("/chat POST", "no path", id="the wrong way round"),
        pytest.param("^/chat$", "no path", id="regular expression"),
        pytest.param("FETCH /chat", "not a method", id="unknown method"),
        pytest.param("POST PUT /chat", "POST,PUT /chat", id="methods without a comma"),
        pytest.param("POST,, /chat", "not a method", id="doubled comma"),
        pytest.param("POST /a/<id>", "{name}", id="angle brackets"),
        pytest.param("POST /{rest:path}/b", "comes last", id="rest before the end"),
        pytest.param("POST /*/b", "comes last", id="star before the end"),
        pytest.param("POST /{a}{b}", "is no segment", id="two parameters in a segment"),
        pytest.param(5, "not text", id="a number"),
        pytest.param(None, "not text", id="None"),
        pytest.param("POST /posts/{post-id}", "", id="odd parameter name"),
        pytest.param("POST /posts/{}", "", id="parameter without a name"),
        pytest.param("POST /posts/{id", "", id="unclosed parameter"),
        pytest.param("POST /posts/id}", "", id="unopened parameter"),
        pytest.param("POST /posts/{id:}", "", id="parameter without its converter"),
        pytest.param("POST /chat*", "", id="star within a segment"),
        pytest.param("POST /chat?a=b", "", id="query"),
        pytest.param("POST /chat#part", "", id="fragment"),
    ],
)
def test_a_match_that_cannot_work_is_refused(match: Any, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rule(match)
    assert caught.value.key == "match"
    assert hint in caught.value.problem


@pytest.mark.parametrize(
    ("rules", "index"),
    [
        pytest.param(["POST /chat", "POST /chat"], 1, id="the same"),
        pytest.param(["POST /chat", "POST /CHAT/"], 1, id="the same, otherwise written"),
        pytest.param(["GET /x", "POST /posts/{id}", "POST /posts/new"], 2, id="parameter"),
        pytest.param(["POST /posts/{id}", "POST /posts/{name}"], 1, id="parameter of another name"),
        pytest.param(["POST /posts/{rest:path}", "POST /posts/{id}/x"], 1, id="rest"),
        pytest.param(["POST /posts/*", "POST /posts"], 1, id="rest that may be empty"),
        pytest.param(["POST /posts/*", "POST /posts/a/*"], 1, id="rest before a narrower rest"),
        pytest.param(["* *", "POST /chat"], 1, id="everything"),
        pytest.param(["/chat", "POST,PUT /chat"], 1, id="every method"),
        pytest.param(["POST,PUT /chat", "PUT /chat"], 1, id="more methods"),
        pytest.param(["GET /chat", "HEAD /chat"], 1, id="GET before HEAD"),
    ],
)
def test_a_rule_that_can_never_match_is_refused(rules: list[str], index: int) -> None:
    with pytest.raises(ConfigError, match="can never match") as caught:
        RuleSet([rule(match) for match in rules])
    assert caught.value.key == f"rules[{index}].match"
    assert "put the narrower rule first" in caught.value.problem


@pytest.mark.parametrize(
    "rules",
    [
        ["POST /posts/new", "POST /posts/{id}", "POST /posts/*", "POST *"],
        ["POST /posts/{id:int}", "POST /posts/{id}"],
        ["POST /chat", "PUT /chat", "/chat"],
        ["POST /chat", "POST,PUT /chat"],
        ["POST /a/{x}", "POST /{x}/a"],
        ["POST /a/{x}", "POST /a/*"],
        ["POST /{x}", "POST /a/b"],
        ["POST /a/b", "POST /a"],
        ["POST /a", "POST /a/b"],
    ],
)
def test_rules_that_overlap_in_part_are_taken(rules: list[str]) -> None:
    assert [each.match for each in RuleSet([rule(match) for match in rules]).rules] == rules


def test_an_exemption_shadows_its_own_route_only() -> None:
    shadowed = [
        (exempt("POST /chat"), rule("POST /chat")),
        (rule("POST *"), exempt("POST /chat")),
        (exempt("* *"), rule("POST /chat")),
        (exempt("/posts/*"), rule("POST /posts/new")),
        (exempt("POST /posts/{rest:path}"), rule("POST /posts/new/{id}")),
        (exempt("POST /posts/{id}"), rule("POST /posts/new")),
        (exempt("POST /posts/{id}"), exempt("POST /posts/{name}")),
        (exempt("POST /posts/{id:int}"), rule("POST /posts/{number:int}")),
        (rule("POST /posts/{id}.css"), rule("POST /posts/{name}.css")),
    ]
    for rules in shadowed:
        with pytest.raises(ConfigError, match="can never match"):
            RuleSet(rules)
    for first, second in [
        ("POST /posts/{id:int}", "POST /posts/new"),
        ("POST /posts/{name}.css", "POST /posts/new"),
        ("POST /posts/{id}", "POST /posts/new/draft"),
        ("PUT /posts/{id}", "POST /posts/new"),
    ]:
        path = second.removeprefix("POST ")
        assert found([exempt(first), rule(second)], "POST", path) == second


@pytest.mark.parametrize("key", ["json", "form", "query"])
@pytest.mark.parametrize("value", [5, None, [1], ["a", None], [""], "", {"a"}, b"a", {"a": 1}])
def test_places_are_a_list_of_names(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Rule("POST /x", **{key: value})
    assert caught.value.key == key


@pytest.mark.parametrize("key", ["json", "form", "query"])
def test_one_place_may_be_written_without_a_list(key: str) -> None:
    one: Any = {key: "$.a"}
    several: Any = {key: ["$.a"]}
    assert getattr(Rule("POST /x", **one), key) == ("$.a",)
    assert Rule("POST /x", **one) == Rule("POST /x", **several)


@pytest.mark.parametrize("key", ["on_unreadable", "on_oversize"])
def test_an_action_is_one_of_three(key: str) -> None:
    written: Any = {key: "flag"}
    assert getattr(Rule("POST /x", json="$", **written), key) is Action.FLAG
    wrong: Any
    for wrong in ({key: "pass"}, {key: None}, {key: []}, {key: 1}):
        with pytest.raises(ConfigError, match="'allow', 'flag' or 'reject'") as caught:
            Rule("POST /x", json="$", **wrong)
        assert caught.value.key == key


def test_a_rule_has_places_or_is_exempt() -> None:
    with pytest.raises(ConfigError, match="names no place to look") as caught:
        Rule("POST /x")
    assert caught.value.key == "match"
    with pytest.raises(ConfigError, match="exempt rule names no places"):
        Rule("POST /x", json="$", exempt=True)


def test_the_kinds_of_body_are_the_places_named() -> None:
    assert Rule("POST /x", json="$", text=True).kinds == {"json", "text"}
    assert Rule("POST /x", form="a").kinds == {"form"}
    assert Rule("GET /x", query="a").kinds == frozenset()


@pytest.mark.parametrize(
    ("value", "limit"), [(None, None), (10, 10), ("2KiB", 2048), ("1.5 kB", 1500), ("1MiB", 1 << 20)]
)
def test_a_rule_has_its_own_body_limit_or_none(value: int | str | None, limit: int | None) -> None:
    assert Rule("POST /x", json="$", max_body=value).limit == limit


@pytest.mark.parametrize("value", [0, -1, True, "", "big", "5", "5 elephants", "-1B", "1e3B", "0.5B", 0.5, [1]])
def test_a_body_limit_that_is_no_size_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="is not a size") as caught:
        Rule("POST /x", json="$", max_body=value)
    assert caught.value.key == "max_body"


# A thousand rules

SEGMENTS: Final = [*"abcdefghi", "{p}"]
METHODS: Final = ["POST", "PUT", "*", "GET,PATCH"]
THOUSAND: Final = [
    rule(f"{METHODS[number % 4]} /{'/'.join(segments)}")
    for number, segments in enumerate(sorted(product(SEGMENTS, repeat=3), key=lambda each: each.count("{p}")))
]
COMPILED: Final = RuleSet(THOUSAND)


def linear(method: str, segments: Sequence[str], *, has_body: bool) -> tuple[Rule, ...]:
    """The obvious search, rule by rule: the first one, and what crosses it."""
    on_path, named = [], []
    for each in THOUSAND:
        methods, _, template = each.match.partition(" ")
        if covers(template[1:].split("/"), segments):
            on_path.append(each)
            if methods == "*" or method in methods.split(",") or (method == "HEAD" and "GET" in methods):
                named.append((each, template[1:].split("/")))
    if not named:
        return tuple(on_path) if has_body else ()
    return (named[0][0], *(each for each, template in named[1:] if not covers(template, named[0][1])))


def covers(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    return all(one in ("{p}", other) for one, other in zip(wide, narrow, strict=True))


@PROPERTY
@given(
    segments=st.tuples(*[st.sampled_from([*"abcdefghi", "z"])] * 3),
    method=st.sampled_from(["POST", "PUT", "GET", "HEAD", "PATCH", "DELETE"]),
    has_body=st.booleans(),
)
def test_among_a_thousand_rules_the_right_one_is_found(
    segments: tuple[str, str, str], method: str, has_body: bool
) -> None:
    assert len(THOUSAND) == 1000
    wanted = linear(method, segments, has_body=has_body)
    assert COMPILED.find(Head(method, f"/{'/'.join(segments)}", has_body=has_body)) == wanted
    assert set(wanted) <= set(COMPILED.find(Head(method, f"//{'//'.join(segments).upper()}/", has_body=has_body)))
    assert COMPILED.find(Head(method, f"/{'/'.join(segments[:2])}", has_body=has_body)) == ()
