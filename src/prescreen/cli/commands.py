"""`prescreen check` and `prescreen try`: a configuration, looked at without a server."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Final, Never
from urllib.parse import unquote

import typer
from rich.console import Console

import prescreen
from prescreen.cli import show
from prescreen.cli.trial import Trial
from prescreen.errors import ConfigError
from prescreen.model import Head
from prescreen.screen import Screen

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look at a prescreen configuration and at what it does, without a server.",
)

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
def check(file: ConfigFile, as_json: AsJson = False) -> None:
    """Validate a configuration file and print the rules in force.

    Exit status: 0 it is valid, 1 it is not, 2 wrong usage.
    """
    screen = _screen(file, as_json, exit_code=1)
    if as_json:
        _print_json({"valid": True, **show.configuration(screen)})
    else:
        show.print_configuration(Console(), screen, str(file))


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
        _fail(f'--request {request!r} has no path; write for example --request "POST /chat"')
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


def _screen(file: Path, as_json: bool, exit_code: int) -> Screen:
    try:
        return Screen(file)
    except ConfigError as error:
        if as_json:
            _print_json({"valid": False, "error": {"key": error.key, "problem": error.problem}})
        else:
            show.print_error(Console(stderr=True), error)
        raise typer.Exit(exit_code) from None


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _fail(problem: str) -> Never:
    typer.echo(f"prescreen: {problem}", err=True)
    raise typer.Exit(2)
