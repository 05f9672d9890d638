"""Who sent a request, and what leaves of that: a keyed hash."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

import pytest

from prescreen import ConfigError, Head, Screen
from prescreen.subject import Keys, finder

SECRET: Final = "a secret of more than sixteen characters"


def head(*headers: tuple[str, str], client: str | None = None, state: Any = None) -> Head:
    raw = tuple((name.encode(), value.encode()) for name, value in headers)
    return Head("POST", "/chat", headers=raw, client=client, state=state or {})


def test_a_subject_is_the_hmac_of_the_id_under_the_secret_with_the_secrets_own_mark_before_it() -> None:
    found = Keys(SECRET).subject("user-7").hash
    mark, _, rest = found.partition("-")
    digest = hmac.new(SECRET.encode(), b"user-7", hashlib.sha256).digest()
    assert base64.b32decode(f"{rest}====") == digest
    assert len(mark) == 4
    assert len(found) <= 64
    assert found == Keys(SECRET).subject("user-7").hash
    other = Keys(f"{SECRET}!").subject("user-7").hash
    assert other.partition("-")[0] != mark
    assert other.partition("-")[2] != rest


def test_older_secrets_give_the_hashes_that_strikes_may_be_kept_under() -> None:
    new, old = "another secret of enough characters", SECRET
    assert Keys(new, (old,)).subject("user-7").previous == (Keys(old).subject("user-7").hash,)


def test_no_secret_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys(SECRET, (SECRET,))
    made = Screen(moderator="keywords", secret=SECRET, previous_secrets=[SECRET], subject="client")
    shown = [repr(keys), repr(made), repr(made.settings), str(made.settings), repr(made.plan), caplog.text]
    with pytest.raises(ConfigError) as short:
        Screen(moderator="keywords", secret="swordfish")
    with pytest.raises(ConfigError) as odd:
        Screen(moderator="keywords", secret=["swordfish"])  # type: ignore[arg-type]  # that is the question
    assert not any(SECRET in each for each in shown)
    for error in (short, odd):
        assert error.value.key == "secret"
        assert "swordfish" not in f"{error.value!r} {error.value}"


def test_a_subject_without_a_secret_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRESCREEN_SECRET", raising=False)
    for options in ({"subject": "client"}, {"lists": True}):
        with pytest.raises(ConfigError, match="PRESCREEN_SECRET"):
            Screen(moderator="keywords", **options)
    with pytest.raises(ConfigError, match="PRESCREEN_SECRET"):
        Screen(moderator="keywords").subject("user-7")
    monkeypatch.setenv("PRESCREEN_SECRET", SECRET)
    assert Screen(moderator="keywords", subject="client").subject("user-7") == Keys(SECRET).subject("user-7").hash


@pytest.mark.parametrize(
    ("source", "given", "identifier"),
    [
        ("header:X-User-Id", head(("x-user-id", " user-7 ")), "user-7"),
        ("header:x-user-id", head(("x-user-id", "a"), ("x-user-id", "b")), "a,b"),
        ("header:x-user-id", head(("x-user-id", "")), None),
        ("header:x-user-id", head(), None),
        ("cookie:session", head(("cookie", 'other=1; session="s=1"')), "cookie:s=1"),
        ("cookie:session", head(("cookie", r'session = "re\141\l"')), "cookie:real"),
        ("cookie:session", head(("cookie", "session=junk; session=2")), "cookie:2"),
        ("cookie:session", head(("cookie", "session=2;" + "a;" * 40_000)), None),
        ("cookie:session", head(("cookie", "a=1"), ("cookie", "session=2")), "cookie:2"),
        ("cookie:session", head(("cookie", "session; xsession=1; session=")), None),
        ("state:user_id", head(state={"state": {"user_id": "user-7"}}), "user-7"),
        ("state:user.id", head(state={"user": SimpleNamespace(id=7)}), "7"),
        ("state:user.id", head(state={"state": {"user": None}, "user": {"id": UUID(int=7)}}), str(UUID(int=7))),
        ("state:auth.user.id", head(state={"auth.user": {"id": "user-7"}}), "user-7"),
        ("state:auth.user", head(state={"auth.user": "user-7", "auth": {"user": "no"}}), "user-7"),
        ("state:user.is_active", head(state={"user": {"is_active": True}}), None),
        ("state:user", head(state={"user": object()}), None),
        ("state:user.id", head(), None),
        ("client", head(client="192.0.2.7"), "client:192.0.2.7"),
        ("client", head(("x-forwarded-for", "198.51.100.1"), client="192.0.2.7"), "client:192.0.2.7"),
        ("client", head(), None),
        ("client", head(("x-forwarded-for", "198.51.100.1")), None),
        ("client", head(client="testclient"), None),
        ("client", head(client="::ffff:192.0.2.7"), "client:192.0.2.7"),
        ("client", head(client="2001:db8:1:2:3:4:5:6"), "client:2001:db8:1:2::/64"),
    ],
)
def test_who_sent_it_is_found_where_the_configuration_says(source: str, given: Head, identifier: str | None) -> None:
    assert finder(source)(given) == identifier


@pytest.mark.parametrize(
    ("forwarded", "client", "identifier"),
    [
        ("198.51.100.1", "10.0.0.1", "198.51.100.1"),
        ("203.0.113.9, 198.51.100.1, 10.0.0.2", "10.0.0.1", "198.51.100.1"),
        ("198.51.100.1:443", "10.0.0.1", "198.51.100.1"),
        ("[2001:db8::1]:443", "10.0.0.1", "2001:db8::/64"),
        ("203.0.113.9, nonsense, 10.0.0.2", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.3", "10.0.0.1", "10.0.0.3"),
        ("", "10.0.0.1", "10.0.0.1"),
        ("203.0.113.9", "198.51.100.1", "198.51.100.1"),
        ("203.0.113.9", None, "203.0.113.9"),
        (", ".join(["203.0.113.9"] * 5000 + ["10.0.0.2"]), "10.0.0.1", "203.0.113.9"),
        (", ".join(["203.0.113.9", *["10.0.0.2"] * 5000]), "10.0.0.1", "10.0.0.2"),
    ],
)
def test_only_trusted_proxies_are_believed_about_the_client(
    forwarded: str, client: str | None, identifier: str
) -> None:
    given = head(("x-forwarded-for", forwarded), client=client)
    assert finder("client", ["10.0.0.0/8", "unix"])(given) == f"client:{identifier}"


@pytest.mark.parametrize("source", ["user", "header:", "header", "client:x", "state:", 7, None])
def test_a_source_that_names_nobody_is_a_configuration_error(source: Any) -> None:
    with pytest.raises(ConfigError, match="write 'header:NAME'") as caught:
        Screen(moderator="keywords", secret=SECRET, subject=["client", source])
    assert caught.value.key == "subject[1]"


def test_a_proxy_that_is_no_network_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"'10\.0\.0\.1/8' is no address or network") as caught:
        Screen(moderator="keywords", secret=SECRET, subject="client", trusted_proxies=["10.0.0.1/8"])
    assert caught.value.key == "trusted_proxies"


def test_of_several_sources_the_first_that_knows_counts(caplog: pytest.LogCaptureFixture) -> None:
    def broken(head: Head) -> str:
        raise LookupError("seven violet lanterns")

    odd: Any = lambda head: 7  # noqa: E731  # what a careless app has
    screen = Screen(moderator="keywords", secret=SECRET, subject=[broken, odd, "header:x-user-id", "client"])
    with caplog.at_level(logging.ERROR, "prescreen"):
        assert screen.subject_of(head(("x-user-id", "user-7"), client="192.0.2.7")) == screen.subject("user-7")
        assert screen.subject_of(head(client="192.0.2.7")) == screen.subject("client:192.0.2.7")
        assert screen.subject_of(head()) is None
    assert "LookupError" in caplog.text
    assert "int" in caplog.text
    assert "violet" not in caplog.text
    assert Screen(moderator="keywords").subject_of(head(client="192.0.2.7")) is None


def test_an_id_that_is_no_clean_text_has_a_hash_too() -> None:
    assert Keys(SECRET).subject("\ud83d").hash != Keys(SECRET).subject("\ud83e").hash


def test_nobody_passes_for_one_of_the_apps_own_ids() -> None:
    screen = Screen(moderator="keywords", secret=SECRET, subject=["state:user.name", "cookie:session", "client"])
    own = screen.subject("192.0.2.7")
    assert screen.subject_of(head(("cookie", "session=192.0.2.7"))) != own
    assert screen.subject_of(head(client="192.0.2.7")) != own
    assert screen.subject_of(head(state={"user": {"name": "192.0.2.7"}}, client="192.0.2.7")) == own


def test_a_secret_that_is_no_text_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="secret: it is no text in UTF-8"):
        Screen(moderator="keywords", secret="\udcff" * 20)
