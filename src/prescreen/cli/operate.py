"""`prescreen strikes`, `lists` and `subject`: what an operator does with the people of an app, and with its texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Never, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from prescreen.book import Entry, StrikeBook
from prescreen.config import load
from prescreen.errors import ConfigError, StoreError
from prescreen.lists import Listed, TextLists
from prescreen.model import Subject
from prescreen.people import People
from prescreen.subject import HASH
from prescreen.units import spelled

P = ParamSpec("P")
T = TypeVar("T")

strikes: Final = typer.Typer(no_args_is_help=True, help="See who has strikes or is suspended, and change it.")
lists: Final = typer.Typer(no_args_is_help=True, help="Texts that are allowed or denied, whatever the moderator says.")

Config = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="PRESCREEN_CONFIG", help="The app's prescreen.toml.", exists=True, dir_okay=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Whose = Annotated[str, typer.Argument(metavar="SUBJECT", help="The keyed hash, as in logs and reports.")]
IsId = Annotated[bool, typer.Option("--id", help="SUBJECT is the app's own id of the user.")]
Words = Annotated[str | None, typer.Argument(metavar="TEXT", help="The exact text.")]
File = Annotated[
    Path | None, typer.Option("--file", help="A file with the text, but for a line end after it; - for standard input.")
]
_COLUMNS: Final = ("subject", "strikes", "suspended for", "suspensions", "last strike")
_DEFAULT: Final = Path("prescreen.toml")


def subject(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The app's own id of a user.")],
    config: Config = _DEFAULT,
) -> None:
    """Print the keyed hash of a user: what logs, strikes and model calls (safety_identifier) carry.

    Exit status: 0 fine, 2 wrong usage or configuration.
    """
    typer.echo(_whole(lambda: _people(config).subject(identifier).hash))


@strikes.command(name="list")
def list_(config: Config = _DEFAULT, as_json: AsJson = False) -> None:
    """List everyone who has strikes or is suspended, the suspended first."""
    found = _whole(
        lambda: sorted(_book(_people(config)).entries(), key=lambda each: -(each.standing.suspended_for or 0))
    )
    if as_json:
        _print([_entry(each) for each in found])
        return
    _print_table(_COLUMNS, [_row(each) for each in found], "nobody has strikes")


@strikes.command()
def show(whose: Whose, is_id: IsId = False, config: Config = _DEFAULT, as_json: AsJson = False) -> None:
    """Show how one subject stands. Exit status: 1 where nothing is known of it."""
    entry = _whole(lambda: _at(config, whose, is_id, StrikeBook.entry))
    if entry is None:
        _end(f"nothing is known of {whose}", as_json)
    if as_json:
        _print(_entry(entry))
        return
    for name, value in zip(_COLUMNS, _row(entry), strict=True):
        Console().print(Styled.assemble((f"{name:14}", "bold"), value))


@strikes.command()
def clear(whose: Whose, is_id: IsId = False, config: Config = _DEFAULT) -> None:
    """Forget a subject: its strikes, its suspension and all."""
    if not _whole(lambda: _at(config, whose, is_id, StrikeBook.clear)):
        _end(f"nothing is known of {whose}")
    typer.echo(f"{whose} has no strikes any more")


@strikes.command()
def suspend(
    whose: Whose,
    lasting: Annotated[str, typer.Option("--for", metavar="DURATION", help="For example 2h or 7d.")],
    is_id: IsId = False,
    config: Config = _DEFAULT,
) -> None:
    """Suspend a subject from now on."""
    entry = _whole(lambda: _at(config, whose, is_id, lambda book, each: book.suspend(each, lasting)))
    typer.echo(f"{whose} is suspended for {spelled(entry.standing.suspended_for or 0)}")


@strikes.command()
def lift(whose: Whose, is_id: IsId = False, config: Config = _DEFAULT) -> None:
    """End a suspension, as if it had not been. Exit status: 1 where there is none."""
    if not _whole(lambda: _at(config, whose, is_id, StrikeBook.lift)):
        _end(f"{whose} is not suspended")
    typer.echo(f"{whose} is no longer suspended")


@lists.command()
def add(
    name: Annotated[Literal["allow", "deny"], typer.Argument(metavar="allow|deny")],
    text: Words = None,
    file: File = None,
    *,
    note: Annotated[str, typer.Option(help="Why, for whoever looks at the list later.")] = "",
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="For example 30d; else for good.")
    ] = None,
    config: Config = _DEFAULT,
) -> None:
    """Allow or deny a text, at once and in every process. Kept is a keyed digest, not the text."""
    words = _words(text, file)
    entry = _whole(lambda: _lists(config).add(name, words, note=note, lasting=lasting))
    typer.echo(f"on the list of texts to {name}: {entry.digest}")


@lists.command()
def remove(
    text: Words = None,
    file: File = None,
    digest: Annotated[str | None, typer.Option(help="In place of the text, what `lists show` calls it.")] = None,
    config: Config = _DEFAULT,
) -> None:
    """Take a text off its list. Exit status: 1 where it is on none."""
    words = None if digest else _words(text, file)
    if not _whole(lambda: _lists(config).remove(words) if words else _lists(config).remove_digest(digest or "")):
        _end("it is on no list")
    typer.echo("off the list")


@lists.command(name="show")
def show_lists(config: Config = _DEFAULT, as_json: AsJson = False) -> None:
    """Show what is on the lists: digests, notes and times."""
    found = _whole(lambda: sorted(_lists(config).entries(), key=lambda each: each.since))
    if as_json:
        _print([_listed(each) for each in found])
        return
    rows = [(each.list, each.digest, _time(each.since), _time(each.until), each.note) for each in found]
    _print_table(("list", "digest", "since", "until", "note"), rows, "nothing is on the lists")


def _people(config: Path) -> People:
    # Only what is about people is made: the moderator's key may not be where the operator is.
    return People(load(config))


def _at(config: Path, whose: str, is_id: bool, do: Callable[[StrikeBook, Subject], T]) -> T:
    found = _people(config)
    return do(_book(found), _subject(found, whose, is_id))


def _book(found: People) -> StrikeBook:
    if found.book is None:
        raise ConfigError("strikes", "the configuration keeps none; write a table [strikes]")
    _refuse_memory(found)
    return found.book


def _lists(config: Path) -> TextLists:
    found = _people(config)
    if found.lists is None:
        raise ConfigError(
            "lists", "the configuration has none; it needs a secret and a store, as in store = 'sqlite:prescreen.db'"
        )
    _refuse_memory(found)
    return found.lists


def _refuse_memory(found: People) -> None:
    if found.store is not None and found.store.is_local:
        raise ConfigError(
            "store", "the memory of the app cannot be reached from here; write for example 'sqlite:prescreen.db'"
        )


def _subject(found: People, whose: str, is_id: bool) -> Subject:
    if is_id:
        return found.subject(whose)
    if not HASH.fullmatch(whose):
        raise ValueError(f"{whose!r} is no keyed hash of a subject; add --id if it is your own id of the user")
    return Subject(whose)


def _words(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        _fail("give the text, or a file with it")
    if file is None:
        return text or ""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        _fail(f"cannot read {file}: {error.strerror}")
    except UnicodeDecodeError:
        _fail(f"{file} is not UTF-8")


def _entry(each: Entry) -> dict[str, Any]:
    return {
        "subject": each.subject,
        "strikes": each.standing.strikes,
        "limit": each.standing.limit,
        "suspended_seconds": each.standing.suspended_for,
        "suspensions": each.account.suspensions,
        "total": each.account.total,
        "last": _time(each.account.last),
    }


def _row(each: Entry) -> tuple[str, str, str, str, str]:
    left = each.standing.suspended_for
    strikes = f"{each.standing.strikes:g} of {each.standing.limit:g}"
    return (
        each.subject,
        strikes,
        spelled(left) if left else "-",
        str(each.account.suspensions),
        _time(each.account.last),
    )


def _listed(each: Listed) -> dict[str, Any]:
    return {**asdict(each), "since": _time(each.since), "until": _time(each.until) if each.until else None}


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else "-"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], without: str) -> None:
    console = Console()
    console.width = max(
        console.width, 140
    )  # a narrow terminal breaks the line itself: a hash can still be copied whole
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")  # a hash is to be copied whole
    for row in rows:
        table.add_row(*map(Styled, row))
    console.print(table if rows else without)


def _print(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _whole(do: Callable[[], T]) -> T:
    """What it gives; what it cannot do is said, with exit status 2."""
    try:
        return do()
    except (ConfigError, StoreError, ValueError) as error:
        _fail(str(error))


def _end(problem: str, as_json: bool = False) -> Never:
    typer.echo("null" if as_json else f"prescreen: {problem}", err=not as_json)
    raise typer.Exit(1)


def _fail(problem: str) -> Never:
    typer.echo(f"prescreen: {problem}", err=True)
    raise typer.Exit(2)
