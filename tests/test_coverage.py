"""What `prescreen coverage` says of an app's bodies, held against what the app's handlers really read."""

from __future__ import annotations

import decimal
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import Body, Depends, FastAPI, Form, Request, UploadFile
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict

from doubles import Recorder
from prescreen import Decision, Rule, Screen
from prescreen.cli.apps import WrongUsage, load_app
from prescreen.cli.bodies import Operation, operations
from prescreen.cli.closing import closing
from prescreen.cli.coverage import TOO_MUCH, UNDESCRIBED, Coverage, State, cover
from prescreen.cli.schema import PICTURE, SENTINEL, Walk
from prescreen.model import Action, Cause, Record
from prescreen.routes import Route, routes_of
from prescreen.steps import Report
from prescreen.watch import Watch

Json = dict[str, Any]

pytestmark = pytest.mark.once


class Role(StrEnum):
    USER = "user"
    SYSTEM = "system"


class PicturePart(BaseModel):
    type: Literal["image_url"]
    image_url: str


class TextPart(BaseModel):
    type: Literal["text"] = "text"
    text: str


class Message(BaseModel):
    role: Role
    content: str | list[Annotated[PicturePart | TextPart, Field(discriminator="type")]]


class Chat(BaseModel):
    messages: list[Message]


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    own_words: str = ""


class Names(BaseModel):
    """A field of each way to be named."""

    plain: str = ""
    aliased: str = Field("", alias="outside")
    chosen: str = Field(
        "", validation_alias=AliasChoices("first", "second", AliasPath("deep", "a", 1), AliasPath("deep", "b"))
    )
    pathed: str = Field("", validation_alias=AliasPath("list", -1))
    odd: str = Field("", alias="it's odd")
    hidden: SkipJsonSchema[str] = ""
    camel: Camel = Camel()


class OnlyNames(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)
    named: str = Field("", alias="other")


@pydantic_dataclass(config=ConfigDict(populate_by_name=True))
class Data:
    text: str = Field("", alias="words")


class Typed(TypedDict, total=False):
    text: Annotated[str, Field(alias="typed")]


class Kinds(BaseModel):
    model_config = ConfigDict(extra="allow")
    names: OnlyNames | None = None
    data: Data | None = None
    typed: Typed | None = None
    anything: Any = None
    free: dict[str, str] = {}
    known: dict[Annotated[str, Field(pattern="^[a-z_]+$")], str] = {}
    pair: tuple[int, str] | None = None
    pattern: re.Pattern[str] | None = None
    # These take but a few values, and no words.
    day: date | None = None
    role: Role | None = None
    id: UUID | None = None
    address: IPv4Address | None = None
    amount: decimal.Decimal = decimal.Decimal(1)
    count: int = 0
    yes: bool | None = None


class Odd(BaseModel):
    """What no schema can say."""

    call: Callable[[], None] | None = None


class Tree(BaseModel):
    text: str
    children: list[Tree] = []


class FormModel(BaseModel):
    model_config = ConfigDict(extra="allow")
    title: str = ""
    count: int = 0
    role: Role = Role.USER


def with_request(request: Request) -> object:
    return request


def make_app() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/chat")
    async def chat(body: Chat) -> object:
        return body

    @app.post("/names")
    async def names(body: Names) -> object:
        return body

    @app.post("/kinds")
    async def kinds(body: Kinds) -> object:
        return repr(body)

    @app.put("/tree/{id:int}")
    @app.post("/tree/{id:int}")
    async def tree(id: int, body: Tree) -> object:  # noqa: A002  # a path's parameter
        return body

    add_forms(app)
    return app


def add_forms(app: FastAPI) -> None:
    @app.post("/two")
    async def two(body: Tree, note: Annotated[str, Body(alias="remark")] = "") -> object:
        return [body, note]

    @app.post("/form")
    async def form(message: Annotated[str, Form()] = "", tags: Annotated[list[str], Form()] = []) -> object:  # noqa: B006
        return [message, tags]

    @app.post("/model")
    async def model(body: Annotated[FormModel, Form()]) -> object:
        return repr(body)

    @app.post("/upload")
    async def upload(file: UploadFile, caption: Annotated[str, Form()] = "") -> object:
        return [(await file.read()).decode(), caption]

    @app.post("/logout")
    async def logout() -> None: ...

    @app.post("/raw")
    async def raw(request: Annotated[object, Depends(with_request)]) -> None: ...


def found_in(app: object, document: Json | None = None) -> dict[str, Operation]:
    return {str(each): each for each in operations(routes_of(app) or (), document)}


def covered(app: object, *rules: Rule, document: Json | None = None, **options: Any) -> Coverage:
    screen = Screen(rules=rules, moderator=Recorder(), **options)
    return cover(screen, operations(routes_of(app) or (), document))


def states(found: Coverage, operation: str) -> dict[str, State]:
    fields = next(fields for each, fields in found.fields.items() if str(each) == operation)
    return {field.place: field.state for field in fields}


def places(operation: Operation, kind: str = "") -> list[str]:
    return list(
        dict.fromkeys(each.place for each in operation.probes or () if each.sentinel and kind in ("", each.kind))
    )


EXPECTED = {
    "POST /chat": [
        "$.messages[*].content",
        "$.messages[*].content[*].image_url",
        "$.messages[*].content[*].text",
    ],
    "POST /names": [
        "$.plain",
        "$.outside",
        "$.first",
        "$.second",
        "$.deep.a[1]",
        "$.deep.b",
        "$.list[*]",
        "$['it\\'s odd']",
        "$.hidden",
        "$.camel.ownWords",
        "$.camel.own_words",
    ],
    "POST /kinds": [
        "$.names.named",
        "$.data.words",
        "$.data.text",
        "$.typed.typed",
        "$.typed.*",
        "$.anything",
        "$.free.*",
        "$.known.*",
        "$.pair[1]",
        "$.pattern",
        "$.*",
    ],
    "POST /tree/{id:int}": ["$.text", "$..text"],
    "POST /two": ["$.body.text", "$.body..text", "$.remark"],
    "POST /form": ["message", "tags"],
    "POST /model": ["title", "*"],
    "POST /upload": ["file", "caption"],
}


@pytest.mark.parametrize("operation", EXPECTED)
def test_every_place_that_a_model_reads_is_listed(operation: str) -> None:
    assert set(places(found_in(make_app())[operation])) == set(EXPECTED[operation])


@pytest.mark.anyio
@pytest.mark.parametrize("operation", EXPECTED)
async def test_the_handler_reads_what_is_sent_at_every_place_that_is_listed(operation: str) -> None:
    app = make_app()
    found = found_in(app)[operation]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        for probe in found.probes or ():
            headers = {"content-type": probe.content_type}
            answer = await client.post(found.sample, content=probe.body, headers=headers)
            if probe.place not in (
                "caption",
                "$.list[*]",
            ):  # there a file is missing, and here only the last item counts
                assert (answer.status_code, (probe.sentinel or "") in answer.text) == (200, True), (probe, answer.text)
    assert found.probes


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_routes_without_a_body_are_left_out_and_raw_ones_are_not() -> None:
    found = found_in(make_app())
    assert "POST /logout" not in found
    assert (found["POST /raw"].probes, found["PUT /tree/{id:int}"].sample) == (None, "/tree/1")


def test_a_type_that_no_schema_describes_may_hold_anything() -> None:
    app = FastAPI(openapi_url=None)

    @app.post("/odd")
    async def odd(body: Odd) -> None: ...

    assert places(found_in(app)["POST /odd"]) == ["$.call"]


def test_images_and_files_are_told_from_texts() -> None:
    found = found_in(make_app())
    assert places(found["POST /chat"], "image") == ["$.messages[*].content[*].image_url"]
    assert places(found["POST /upload"], "file") == ["file"]


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("$.messages[*].content", State.COVERED),
        ("$..content", State.COVERED),
        ("$.messages[-1].content", State.GAP),
        ("$.messages[0].content", State.GAP),
        ("$.messages[-10:].content", State.GAP),
        ("$.messages[?@.role == 'user'].content", State.COVERED),
        ("$.messages[?@.role == 'system'].content", State.GAP),
    ],
)
def test_covered_means_that_the_moderator_is_given_the_text(path: str, state: State) -> None:
    found = covered(make_app(), Rule("POST /chat", json=[path]))
    assert set(states(found, "POST /chat").values()) == {state}


def test_every_state_that_a_place_can_be_in() -> None:
    found = covered(
        make_app(),
        Rule("POST /chat", json=["$.messages[*].content"], max_body="10B"),
        Rule("POST /names", exempt=True),
        Rule("POST /form", json=["$.message"]),
        Rule("POST /upload", json=["$.x"], on_unreadable="allow"),
        Rule("POST /raw", json=["$.x"]),
        Rule("POST /model", form=["title"]),
        mode="off",
    )
    assert set(states(found, "POST /chat").values()) == {State.COVERED}
    assert set(states(found, "POST /names").values()) == {State.EXEMPT}
    assert set(states(found, "POST /form").values()) == {State.REFUSED}
    assert set(states(found, "POST /upload").values()) == {State.GAP}  # let through without a look
    assert states(found, "POST /raw") == {UNDESCRIBED: State.UNKNOWN}
    assert states(found, "POST /model") == {"title": State.COVERED, "*": State.GAP}
    assert set(states(found, "POST /two").values()) == {State.GAP}
    by = {str(each): {field.rule for field in fields} for each, fields in found.fields.items()}
    assert (by["POST /names"], by["POST /model"], by["POST /two"]) == ({"POST /names"}, {"POST /model"}, {None})


def test_a_raw_route_without_a_rule_is_a_gap_and_may_be_exempt() -> None:
    assert states(covered(make_app()), "POST /raw") == {UNDESCRIBED: State.GAP}
    assert states(covered(make_app(), Rule("POST /raw", exempt=True)), "POST /raw") == {UNDESCRIBED: State.EXEMPT}


def test_paths_and_fields_at_which_nothing_can_be_are_named() -> None:
    found = covered(
        make_app(),
        Rule("POST /chat", json=["$.message", "$.messages[*].content", "$.messages[?@.role == 'system'].content"]),
        Rule("POST /form", form=["message", "massage"]),
        Rule("POST /model", form="*"),
        Rule("POST /raw", json=["$.who_knows"]),
        Rule("POST /nowhere", json=["$.x"]),
    )
    dead = [(rule.match, place) for rule, place in found.dead]
    assert dead == [("POST /chat", "$.message"), ("POST /form", "massage"), ("POST /nowhere", "$.x")]


# Documents


def document(content: Json, path: str = "/notes/{note_id}", **more: Any) -> Json:
    return {"openapi": "3.1.0", "paths": {path: {"post": {"requestBody": {"content": content}}}}, **more}


def described(schema: Any, **schemas: Any) -> list[str]:
    found = document({"application/json": {"schema": schema}}, components={"schemas": schemas})
    return [place for each in operations((), found) for place in places(each)]


REF = {"$ref": "#/components/schemas/Node"}
TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, ["$"]),
        (TEXT, ["$"]),
        ({"type": ["string", "null"]}, ["$"]),
        ({"type": "object"}, ["$.*"]),
        ({"type": "array"}, ["$[*]"]),
        ({"properties": {"a": TEXT, "b": {"type": "integer"}}}, ["$.a"]),
        ({"items": TEXT}, ["$[*]"]),
        ({"prefixItems": [TEXT, TEXT], "items": TEXT}, ["$[0]", "$[1]", "$[*]"]),
        ({"type": "object", "additionalProperties": False}, []),
        ({"type": "object", "properties": {}}, []),
        ({"patternProperties": {"^x": TEXT}}, ["$.*"]),
        ({"allOf": [{"properties": {"a": TEXT}}, {"properties": {"a": {"maxLength": 9}, "b": TEXT}}]}, ["$.a", "$.b"]),
        ({"anyOf": [{"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}]}, ["$.a", "$.b"]),
        ({"oneOf": [TEXT, {"type": "null"}], "description": "x"}, ["$"]),
        ({"enum": ["a", "b", 1]}, []),
        ({"type": "string", "format": "date-time"}, []),
        ({"properties": {"x": False}}, []),
        ({"properties": {"image_url": {"properties": {"url": TEXT}}}}, ["$.image_url.url"]),
    ],
)
def test_a_schema_is_walked(schema: Any, expected: list[str]) -> None:
    assert described(schema) == expected


def test_recursion_is_a_path_of_its_own() -> None:
    node = {"properties": {"text": TEXT, "a/b": {"items": REF}, "other": {"$ref": "#/components/schemas/Other"}}}
    other = {"properties": {"node": REF}, "required": ["node"]}
    found = described(REF, Node=node, Other=other)
    assert found == ["$.text", "$..text"]
    assert described(REF, Node={"anyOf": [TEXT, {"items": REF}]}) == ["$", "$..*"]
    assert (
        described(REF, Node={"properties": {"x": {"type": "array", "items": REF}, "next": REF}, "required": ["next"]})
        == []
    )


def test_what_is_too_much_to_list_is_a_place_that_nothing_covers() -> None:
    wide = {"properties": {f"field_{number}": TEXT for number in range(2_001)}}
    deep: Json = TEXT
    for _ in range(2_000):
        deep = {"items": deep}
    for schema in (wide, deep):
        [found] = cover(
            Screen(rules=[], moderator=Recorder()), operations((), document({"application/json": {"schema": schema}}))
        ).fields.values()
        assert (found[-1].place, found[-1].state) == (TOO_MUCH, State.GAP)


def test_every_kind_of_body_is_looked_at() -> None:
    content = {
        "application/vnd.api+json; charset=utf-8": {"schema": {"properties": {"a": TEXT}}},
        "*/*": {"schema": {"properties": {"b": TEXT}}},
        "multipart/form-data": {
            "schema": {"properties": {"c": TEXT, "d": {"type": "string", "format": "binary"}, "e": {"enum": ["x"]}}}
        },
        "application/x-www-form-urlencoded": {
            "schema": {"properties": {"f": {"type": "object"}, "g": {"type": "integer"}}}
        },
        "text/plain": {},
        "image/png": {},
    }
    app = [Route(frozenset({"POST"}), "/notes/{id:int}")]
    [operation] = operations(app, document(content))
    assert places(operation) == ["$.a", "$.b", "c", "d", "f", "(the whole body)"]
    everything = Rule("POST /notes/{id}", json=["$.a", "$.b"], form=["c", "d", "f"], text=True)
    [fields] = cover(Screen(rules=[everything], moderator=Recorder()), [operation]).fields.values()
    assert [field.state for field in fields] == [State.COVERED] * 6 + [State.REFUSED]


def test_a_document_may_describe_more_and_less_than_the_app() -> None:
    routes = [Route(frozenset({"POST"}), "/a"), Route(frozenset({"POST", "GET"}), "/b"), Route(frozenset(), "/c")]
    found = document({"text/plain": {}}, "/d")
    found["paths"]["/a"] = {"post": {"summary": "no body"}, "parameters": []}
    found["paths"]["/e"] = {"$ref": "#/components/pathItems/E"}
    found["components"] = {
        "pathItems": {"E": {"put": {"requestBody": {"$ref": "#/components/requestBodies/Text"}}}},
        "requestBodies": {"Text": {"content": {"text/plain": {}}}},
    }
    described = {str(each): each.probes is not None for each in operations(routes, found)}
    assert described == {
        "POST /b": False,
        "DELETE /c": False,
        "PATCH /c": False,
        "POST /c": False,
        "PUT /c": False,
        "POST /d": True,
        "PUT /e": True,
    }


@pytest.mark.parametrize("reference", ["#/components/schemas/Missing", "other.json#/x", 7])
def test_a_document_with_loose_ends_is_wrong_usage(reference: object) -> None:
    with pytest.raises(WrongUsage, match=r"references inside it"):
        operations((), document({"application/json": {"schema": {"$ref": reference}}}))


def test_a_sample_is_complete_enough_for_a_rule_to_choose_by() -> None:
    schema = {
        "properties": {
            "kind": {"const": "note"},
            "size": {"type": "number"},
            "is_new": {"type": "boolean"},
            "tags": {"type": "array"},
            "nothing": {"type": "null"},
            "inner": {"type": "object"},
            "text": TEXT,
        },
        "required": ["size", "is_new", "tags", "nothing", "inner", "text"],
    }
    [sample] = [each for each in Walk({}).samples(schema) if each.path == "$.text"]
    expected = {"kind": "note", "size": 1, "is_new": True, "tags": [], "nothing": None, "inner": {}, "text": SENTINEL}
    assert sample.document == expected
    assert next(Walk({}).samples({"properties": {"image_url": TEXT}})).sentinel == PICTURE


# The rules that close the gaps


def written(found: Coverage, rules: Sequence[Rule], folder: Path) -> Screen:
    file = folder / "prescreen.toml"
    file.write_text(f'moderator = "keywords"\n{closing(found, rules)}\n')
    return Screen(file)


def test_the_rules_that_are_written_close_the_gaps(tmp_path: Path) -> None:
    app = make_app()
    rules = [
        Rule("POST /chat", json=["$.messages[-1].content"], on_oversize="flag", max_body="2MiB"),
        Rule("POST /form", form=["message"]),
        Rule("POST,PUT /tree/{id}", json=["$.title"]),
    ]
    before = covered(app, *rules)
    screen = written(before, rules, tmp_path)
    after = cover(screen, operations(routes_of(app) or (), None))
    assert [(str(each), field.place) for each, field in after.gaps] == [("POST /raw", UNDESCRIBED)]
    assert [rule.match for rule in screen.settings.rules[:2]] == ["POST /chat", "POST /form"]
    chat = screen.settings.rules[0]
    assert (chat.json, chat.on_oversize, chat.max_body) == (
        ("$.messages[-1].content", "$.messages[*].content"),
        "flag",
        2 << 20,
    )
    assert screen.settings.rules[2].json == ("$.title", "$..text")
    assert "POST /two" in [rule.match for rule in screen.settings.rules]


def test_narrow_routes_come_before_wide_ones_in_what_is_written(tmp_path: Path) -> None:
    found = document(
        {"application/json": {"schema": {"properties": {"text": TEXT, "\x7f": TEXT}}}}, "/{a}-{b:int}/{rest:path}"
    )
    found["paths"]["/x/y"] = found["paths"]["/v1/{name}.txt"] = {
        "put": {"requestBody": {"content": {"text/plain": {}}}}
    }
    bodies = operations((), found)
    screen = written(cover(Screen(rules=[], moderator=Recorder()), bodies), [], tmp_path)
    assert [rule.match for rule in screen.settings.rules] == ["PUT /v1/{name}.txt", "PUT /x/y", "POST /{b}/{rest:path}"]
    assert not cover(screen, bodies).gaps


def test_what_no_rule_can_look_into_is_said_in_a_remark() -> None:
    found = closing(covered(make_app(), document=document({"image/png": {}}, "/picture")), [])
    assert "# POST /picture: no rule looks into image/png; describe it, or exempt it" in found
    assert f"# POST /raw: no rule looks into {UNDESCRIBED}" in found
    assert "# POST /upload: a rule for the file file refuses uploads other than UTF-8 text" in found


# The command

APP = """
from typing import Annotated
from fastapi import FastAPI, Form, Request
from fastapi.middleware.cors import CORSMiddleware
from prescreen import Rule
from prescreen.asgi import ModerationMiddleware
from pydantic import BaseModel, Field

print("a module may print")

class Chat(BaseModel):
    text: str
    more: str = Field("", alias="moreText")

def make(*rules, **options):
    app = FastAPI()
    if rules:
        app.add_middleware(ModerationMiddleware, moderator="keywords", rules=list(rules), **options)
    app.add_middleware(CORSMiddleware)

    @app.post("/chat")
    async def chat(chat: Chat): ...

    @app.post("/form")
    async def form(message: Annotated[str, Form()]): ...

    return app

rules = [Rule("POST /chat", json=["$.text", "$.gone"]), Rule("POST /form", form=["message"])]
app = make(*rules)
clean = make(Rule("POST *", json="$", form="*"))
bare = make()
broken = make(*rules, deadline="soon")
around = ModerationMiddleware(bare, moderator="keywords", rules=rules)

def fail():
    raise RuntimeError("no document today")

undocumented = make(*rules)
undocumented.openapi = fail

@undocumented.post("/raw", openapi_extra={"requestBody": {"content": {"text/plain": {}}}})
async def raw(request: Request): ...

documented = make(*rules)
documented.post("/raw", openapi_extra={"requestBody": {"content": {"text/plain": {}}}})(raw)

class state:
    app = app
"""

LIGHT = """
from flask import Flask
from prescreen import Rule
from prescreen.wsgi import ModerationMiddleware

bare = Flask("tests", static_folder=None)
app = Flask("tests", static_folder=None)
app.add_url_rule("/chat", "chat", lambda: "", methods=["POST"])
app.wsgi_app = ModerationMiddleware(app.wsgi_app, moderator="keywords", rules=[Rule("POST /chat", json="$.text")])

def make(): ...
"""

TOML = 'moderator = "keywords"\n[[rules]]\nmatch = "POST /chat"\njson = ["$.text", "$.moreText"]\n'
OPENAPI = document({"application/json": {"schema": {"properties": {"text": TEXT, "note": TEXT}}}}, "/chat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "main.py": APP,
        "faulty.py": "import no_such_package",
        "raising.py": "1 / 0",
        "light.py": LIGHT,
        "misconfigured.py": "from prescreen import Rule\nRule('chat', json='$')",
        "prescreen.toml": TOML,
        "openapi.json": json.dumps(OPENAPI),
        "old.json": '{"swagger": "2.0"}',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from prescreen.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_coverage_shows_every_place_and_ends_with_one_line(folder: Path) -> None:
    done = run(folder, "coverage", "main:app")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert lines == [
        "",
        "POST /chat",
        "$.text text covered by POST /chat",
        "$.moreText text NOT COVERED",
        "",
        "POST /form",
        "message text covered by POST /form",
        "",
        "the rule POST /chat can find no text at $.gone",
        "",
        "2 routes, 3 places for a text: 2 covered, 1 NOT COVERED, 1 place of rules without any",
    ]


def test_coverage_fails_for_a_gap_if_it_is_asked_to(folder: Path) -> None:
    assert run(folder, "coverage", "main:app", "--fail").returncode == 1
    done = run(folder, "coverage", "main:clean", "--fail")
    assert (done.returncode, "3 covered" in done.stdout, "NOT" in done.stdout) == (0, True, False)
    done = run(folder, "coverage", "main:app", "--config", "prescreen.toml", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["gaps"], found["nothing_at"]) == (0, 1, [])
    chat, form = found["routes"]
    assert (chat["method"], chat["path"], {field["state"] for field in chat["fields"]}) == (
        "POST",
        "/chat",
        {"covered"},
    )
    assert form["fields"] == [
        {
            "place": "message",
            "kind": "text",
            "media_type": "application/x-www-form-urlencoded",
            "state": "gap",
            "rule": None,
        }
    ]


def test_coverage_writes_the_whole_rule(folder: Path) -> None:
    done = run(folder, "coverage", "main:state.app", "--write")
    (folder / "new.toml").write_text(f'moderator = "keywords"\n{done.stdout}')
    assert run(folder, "coverage", "main:app", "--config", "new.toml", "--json").returncode == 0
    assert '[\n    "$.text",\n    "$.gone",\n    "$.moreText",\n]' in done.stdout


@pytest.mark.parametrize("app", ["main:undocumented", "main:documented"])
def test_coverage_takes_the_apps_own_document_where_there_is_one(folder: Path, app: str) -> None:
    found = json.loads(run(folder, "coverage", app, "--json").stdout)["routes"][-1]
    expected = UNDESCRIBED if app == "main:undocumented" else "(the whole body)"
    assert (found["path"], [field["place"] for field in found["fields"]]) == ("/raw", [expected])


def test_coverage_of_another_app_reads_a_document(folder: Path) -> None:
    done = run(folder, "coverage", "light:app", "--openapi", "openapi.json", "--fail")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert (done.returncode, "$.note text NOT COVERED" in lines) == (1, True)


def test_coverage_tells_kinds_of_body_apart_and_says_when_there_is_nothing(folder: Path) -> None:
    content = {"text/plain": {}, "application/json": {"schema": {"properties": {"text": TEXT}}}}
    (folder / "openapi.json").write_text(json.dumps(document(content, "/chat")))
    done = run(folder, "coverage", "light:app", "--openapi", "openapi.json")
    assert "$.text (application/json)" in done.stdout
    assert "1 refused" in done.stdout
    (folder / "openapi.json").write_text(json.dumps(document({}, "/chat")))
    assert "0 routes, 0 places" in run(folder, "coverage", "light:app", "--openapi", "openapi.json").stdout


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("light", "as in app.main:app"),
        (":app", "as in app.main:app"),
        ("nowhere:app", "there is no module 'nowhere' here"),
        ("faulty:app", "faulty needs the module 'no_such_package', which is not installed (faulty.py:1"),
        ("raising:app", "importing raising failed: ZeroDivisionError: division by zero (raising.py:1"),
        ("light:nothing", "the module light has no 'nothing'"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_explained(
    folder: Path, name: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(WrongUsage, match=re.escape(problem)):
        load_app(name)


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (["coverage", "light:bare"], 2, "light:bare has no ModerationMiddleware that could be found"),
        (["coverage", "light:app"], 2, "give --openapi FILE.json"),
        (["coverage", "light:app", "--openapi", "main.py"], 2, "main.py is not JSON"),
        (
            ["coverage", "light:app", "--openapi", "old.json"],
            2,
            "old.json is no OpenAPI document of version 3.0 or 3.1",
        ),
        (["coverage", "light:app", "--json", "--write"], 2, "choose one"),
        (["coverage", "main:broken"], 2, "not valid deadline"),
        (["coverage", "misconfigured:app"], 2, "not valid match"),
        (["coverage", "nowhere:app"], 2, "there is no module 'nowhere' here"),
        (["check"], 2, "name a FILE to check, or an app with --app module:app"),
        (["check", "--app", "main:broken"], 1, "not valid deadline"),
        (["check", "--app", "light:bare"], 2, "light:bare has no ModerationMiddleware"),
        (["check", "prescreen.toml", "--app", "light:make"], 2, "the routes of light:make cannot be found"),
    ],
)
def test_wrong_usage_is_explained(folder: Path, arguments: list[str], status: int, problem: str) -> None:
    done = run(folder, *arguments)
    assert (done.returncode, problem in done.stderr) == (status, True), done.stderr


def test_a_document_that_cannot_be_followed_is_wrong_usage(folder: Path) -> None:
    (folder / "openapi.json").write_text(json.dumps(document({"application/json": {"schema": REF}})))
    done = run(folder, "coverage", "light:app", "--openapi", "openapi.json")
    assert (done.returncode, "references inside it" in done.stderr) == (2, True)


@pytest.mark.parametrize("app", ["main:app", "main:around", "light:app"])
def test_check_shows_the_routes_that_the_rules_of_an_app_cover(folder: Path, app: str) -> None:
    done = run(folder, "check", "--app", app)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert (done.returncode, "POST /chat POST /chat" in lines) == (0, True)
    assert lines[-1] == "every route that may take a body has a rule"


def test_check_shows_what_a_file_does_not_cover(folder: Path) -> None:
    (folder / "prescreen.toml").write_text(TOML.replace("/chat", "/chut"))
    done = run(folder, "check", "prescreen.toml", "--app", "main:bare")
    assert (done.returncode, "no route of the app" in done.stdout) == (0, True)
    assert "2 routes that may take a body and have no rule:\n  POST /chat\n  POST /form\n" in done.stdout
    found = json.loads(run(folder, "check", "prescreen.toml", "--app", "main:bare", "--json").stdout)
    assert found["valid"] is True
    assert found["routes"] == {
        "rules": [{"match": "POST /chut", "routes": []}],
        "without_rule": ["POST /chat", "POST /form"],
    }


# The watch at run time


def record(rule: str | None = "POST /chat", texts: int = 0, cause: Cause = Cause.CLEAN) -> Record:
    is_unmatched = not texts and cause is Cause.CLEAN
    return Record(Decision(Action.ALLOW, rule=rule, cause=cause), "keywords", texts=texts, unmatched=is_unmatched)


def report(texts: int = 0) -> Report:
    made = record(texts=texts)
    return Report(made.decision, None, lambda: made)


def test_a_rule_that_never_finds_a_text_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    screen = Screen(rules=[Rule("POST /chat", json="$.x")], moderator=Recorder())
    for _ in range(99):
        screen.perform_sync(report())
    assert not caplog.records
    for _ in range(200):
        screen.perform_sync(report())
    [warning] = caplog.records
    assert warning.levelno == logging.WARNING
    assert "the rule POST /chat has matched 100 requests and never found a text" in warning.getMessage()
    assert "prescreen coverage" in warning.getMessage()


@pytest.mark.parametrize(
    ("seen", "count"),
    [
        (record(rule=None), 200),  # a check, and no request
        (record(rule="POST /chat + POST /form"), 200),  # several rules, of which none can be told
        (record(rule="POST /hook"), 200),
        (record(cause=Cause.UNREADABLE), 200),
    ],
)
def test_what_says_nothing_about_a_rule_is_not_counted(
    seen: Record, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch([Rule("POST /chat", json="$.x"), Rule("POST /hook", exempt=True)])
    for _ in range(count):
        watch.see(seen)
    for _ in range(99):
        watch.see(record())
    assert not caplog.records


def test_that_nobody_is_ever_known_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for has_subjects, known_at, warnings in ((True, None, 1), (True, 99, 0), (False, None, 0)):
        watch = Watch([], has_subjects=has_subjects)
        caplog.clear()
        for at in range(250):
            one = record(texts=1)
            decision = replace(one.decision, subject="known" if at == known_at else None)
            watch.see(replace(one, decision=decision))
        assert len(caplog.records) == warnings
    assert not caplog.records


def test_a_rule_that_has_found_a_text_once_is_never_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch([Rule("POST /chat", json="$.x")])
    for texts in (0, 1, *(0 for _ in range(200))):
        watch.see(record(texts=texts))
    assert not caplog.records
