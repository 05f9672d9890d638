"""`prescreen check`, `try` and `coverage`: a configuration, looked at without a server."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Never
from urllib.parse import unquote

import typer
from rich.console import Console

import prescreen
from prescreen.cli import operate, show, show_coverage
from prescreen.cli.apps import WrongUsage, load_app, screen_of
from prescreen.cli.bodies import operations
from prescreen.cli.closing import closing
from prescreen.cli.coverage import cover
from prescreen.cli.trial import Trial
from prescreen.errors import ConfigError
from prescreen.model import Head
from prescreen.routes import Route, layers, routes_of, survey
from prescreen.screen import Screen

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look at a prescreen configuration and at what it does, without a server.",
)

app.command()(operate.subject)
app.add_typer(operate.strikes, name="strikes")
app.add_typer(operate.lists, name="lists")

_TYPES: Final = {
    ".json": "application/json",
    ".txt": "text/plain",
    ".form": "application/x-www-form-urlencoded",
}

ConfigFile = Annotated[Path, typer.Argument(metavar="FILE", help="A prescreen.toml.", exists=True, dir_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    # The commands print what the log would repeat.
    logging.getLogger("prescreen").setLevel(logging.ERROR)
    if version:
        typer.echo(f"prescreen {prescreen.__version__}")
        raise typer.Exit


@app.command()
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A prescreen.toml; not needed with --app.", exists=True, dir_okay=False),
    ] = None,
    app_name: Annotated[
        str | None, typer.Option("--app", metavar="MODULE:APP", help="Show which of the app's routes the rules cover.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Validate a configuration and print the rules in force.

    Exit status: 0 it is valid, 1 it is not, 2 wrong usage.
    """
    if file is None and app_name is None:
        _fail("name a FILE to check, or an app with --app module:app")
    found = None if app_name is None else _app(app_name, as_json, exit_code=1)
    screen = _screen(file, as_json, exit_code=1) if file else _own_screen(found, app_name, as_json, exit_code=1)
    surveyed = None if app_name is None else survey(screen.rules, _routes(found, app_name))
    if as_json:
        routes = {"routes": show_coverage.survey(surveyed)} if surveyed else {}
        _print_json({"valid": True, **show.configuration(screen), **routes})
    else:
        show.print_configuration(Console(), screen, str(file or app_name))
        if surveyed:
            show_coverage.print_survey(Console(), surveyed)


@app.command()
def coverage(
    app_name: Annotated[str, typer.Argument(metavar="MODULE:APP", help="The app, as servers take it.")],
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="A prescreen.toml, in place of the app's own screen.", exists=True, dir_okay=False),
    ] = None,
    openapi: Annotated[
        Path | None, typer.Option(help="An OpenAPI document (JSON) of the app.", exists=True, dir_okay=False)
    ] = None,
    fail: Annotated[bool, typer.Option("--fail", help="End with status 1 where something is not covered.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Print the rules that would close the gaps.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every place of the routes' bodies where a text may be, and whether the moderator sees it.

    Fields with a fixed choice of values, dates, times, UUIDs and IP addresses are left out.
    Exit status: 0 fine, 1 something is not covered (with --fail), 2 wrong usage or configuration.
    """
    if write and as_json:
        _fail("--write prints TOML and --json prints JSON; choose one")
    found = _app(app_name, as_json, exit_code=2)
    screen = _screen(config, as_json, exit_code=2) if config else _own_screen(found, app_name, as_json, exit_code=2)
    document = _document(openapi) if openapi else _described(found, app_name)
    routes = routes_of(found) if openapi else _routes(found, app_name)
    try:
        seen = cover(screen, operations(routes or (), document))
    except WrongUsage as error:
        _fail(str(error))
    if as_json:
        _print_json(show_coverage.coverage(seen))
    elif write:
        typer.echo(closing(seen, screen.settings.rules))
    else:
        show_coverage.print_coverage(Console(), seen)
    raise typer.Exit(1 if fail and seen.gaps else 0)


@app.command(name="try")
def try_(
    file: ConfigFile,
    request: Annotated[str, typer.Option("--request", metavar='"POST /chat"', help="Method and path (and ?query).")],
    body: Annotated[
        Path | None, typer.Argument(metavar="[BODY]", help="A file with the body; - for standard input.")
    ] = None,
    content_type: Annotated[
        str | None, typer.Option("--type", help="The body's Content-Type; by default from its ending.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a request would meet: its rule, the texts found, the verdicts, the decision.

    Exit status: 0 it would pass, 1 it would be rejected, 2 wrong usage or configuration.
    """
    screen = _screen(file, as_json, exit_code=2)
    head, data = _request(request, body, content_type)
    trial = Trial(screen, head, data)
    if as_json:
        _print_json(show.trial(trial))
    else:
        show.print_trial(Console(), trial)
    raise typer.Exit(1 if trial.decision is not None and trial.decision.is_rejected else 0)


def _request(request: str, body: Path | None, content_type: str | None) -> tuple[Head, bytes]:
    method, _, target = request.strip().partition(" ")
    target = target.strip()
    if not target.startswith("/"):
        _fail(f'--request {request!r} is no method and path; write for example --request "POST /chat"')
    path, _, query = target.partition("?")
    data = _data(body)
    headers = [(b"content-length", str(len(data)).encode())] if data else []
    kind = content_type or (_TYPES.get(body.suffix) if body else None)
    if data and kind is None:
        _fail("the body's ending does not tell its kind; add for example --type application/json")
    if data and kind:
        headers.append((b"content-type", kind.encode()))
    head = Head(method, unquote(path), query=query.encode(), headers=tuple(headers), has_body=bool(data))
    return head, data


def _data(body: Path | None) -> bytes:
    if body is None:
        return b""
    if str(body) == "-":
        return sys.stdin.buffer.read()
    try:
        return body.read_bytes()
    except OSError as error:
        _fail(f"cannot read {body}: {error.strerror}")


def _app(name: str, as_json: bool, exit_code: int) -> object:
    try:
        return load_app(name)
    except ConfigError as error:
        _refuse(error, as_json, exit_code)
    except WrongUsage as error:
        _fail(str(error))


def _own_screen(found: object, name: str | None, as_json: bool, exit_code: int) -> Screen:
    try:
        screen = screen_of(found)
    except ConfigError as error:
        _refuse(error, as_json, exit_code)
    if screen is None:
        _fail(f"{name} has no ModerationMiddleware that could be found; name a configuration file, too")
    return screen


def _routes(found: object, name: str | None) -> tuple[Route, ...]:
    routes = routes_of(found)
    if routes is None:
        _fail(f"the routes of {name} cannot be found: {type(found).__name__} is of no known framework")
    return routes


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        _fail(f"{file} is not JSON: {error}")
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        _fail(f"{file} is no OpenAPI document of version 3.0 or 3.1")
    return document


def _described(found: object, name: str) -> dict[str, Any]:
    """The app's own OpenAPI document."""
    describe = next((each.openapi for each in layers(found) if callable(getattr(each, "openapi", None))), None)
    if describe is None:
        _fail(f"{name} has no OpenAPI document of its own; write it to a file and give --openapi FILE.json")
    try:
        return dict(describe())
    except Exception:  # noqa: BLE001  # what only it knows of is then shown as not described
        return {}


def _screen(file: Path, as_json: bool, exit_code: int) -> Screen:
    try:
        return Screen(file)
    except ConfigError as error:
        _refuse(error, as_json, exit_code)


def _refuse(error: ConfigError, as_json: bool, exit_code: int) -> Never:
    if as_json:
        _print_json({"valid": False, "error": {"key": error.key, "problem": error.problem}})
    else:
        show.print_error(Console(stderr=True), error)
    raise typer.Exit(exit_code)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _fail(problem: str) -> Never:
    typer.echo(f"prescreen: {problem}", err=True)
    raise typer.Exit(2)
