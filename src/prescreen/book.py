"""The book of strikes: what `strikes` rules, kept in a store. Everything blocks and may raise StoreError."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from prescreen.errors import StoreError
from prescreen.model import Decision, Standing, Strike, Subject
from prescreen.stores import Store, update
from prescreen.strikes import Account, Strikes
from prescreen.units import seconds

_PREFIX: Final = "strikes:"
_PATIENCE: Final = 2.0  # seconds for one of the operator's commands


@dataclass(frozen=True, slots=True)
class Entry:
    """A subject in the book: its hash, its account, and how it stands now."""

    subject: str
    account: Account
    standing: Standing


class StrikeBook:
    """Who has which strikes. One book is shared by all who share its store."""

    def __init__(self, store: Store, strikes: Strikes) -> None:
        self._store, self._strikes = store, strikes

    def recall(self, subject: Subject, timeout: float) -> Standing:
        """How a subject stands; what is kept under older secrets comes along to the one in use."""
        return self._strikes.standing(self._account(subject, timeout) or Account(), time.time())

    def strike(self, subject: Subject, decision: Decision, weight: float, timeout: float) -> tuple[Strike, bool]:
        """Hold a decision against its subject; the strike, and whether it is what suspends the subject."""
        now, is_new = time.time(), False

        def struck(account: Account) -> Account:
            nonlocal is_new
            after = self._strikes.struck(account, weight, now)
            is_new = after.suspensions != account.suspensions or after.suspended_until != account.suspended_until
            return after

        standing = self._strikes.standing(self._change(subject.hash, struck, timeout), now)
        return Strike(subject.hash, decision.id, decision.categories, standing), is_new

    def entries(self) -> Iterator[Entry]:
        """Everyone in the book."""
        for key, data in self._store.scan(_PREFIX):
            yield self._entry(key.removeprefix(_PREFIX), _unpacked(data))

    # An operator's subject is its hash, or a Subject, of which older secrets' hashes are looked up, too.

    def entry(self, subject: str | Subject) -> Entry | None:
        """What is known of one subject; None for nothing."""
        whose = _subject(subject)
        account = self._account(whose, _PATIENCE)
        return None if account is None else self._entry(whose.hash, account)

    def clear(self, subject: str | Subject) -> bool:
        """Forget a subject: strikes, suspension and all. Whether anything was known of it."""
        is_known = self.entry(subject) is not None
        update(self._store, _PREFIX + _subject(subject).hash, lambda _: (None, None), timeout=_PATIENCE)
        return is_known

    def suspend(self, subject: str | Subject, lasting: float | str) -> Entry:
        """Suspend a subject for seconds, or a duration like "7d". Raises ValueError for what is no duration."""
        length, now, whose = seconds(lasting), time.time(), _subject(subject)
        self._account(whose, _PATIENCE)
        account = self._change(whose.hash, lambda old: self._strikes.suspended(old, length, now), _PATIENCE)
        return self._entry(whose.hash, account)

    def lift(self, subject: str | Subject) -> bool:
        """End a suspension; the next one is as long as if this had not been. Whether there was one."""
        entry = self.entry(subject)
        if entry is None or entry.standing.suspended_for is None:
            return False
        now = time.time()
        self._change(entry.subject, lambda account: account.lifted(now), _PATIENCE)
        return True

    def _account(self, subject: Subject, timeout: float) -> Account | None:
        """What is kept of a subject, brought together under the secret in use; None for nothing."""
        keys = [_PREFIX + each for each in (subject.hash, *subject.previous)]
        kept, *old = self._store.get(keys)
        account = None if kept is None else _unpacked(kept)
        for key, data in zip(keys[1:], old, strict=True):
            if data is not None:
                # First there, then gone here; it is counted once, however many bring it along at the same time.
                account = self._change(subject.hash, partial(Account.absorbed, other=data), timeout)
                self._store.swap(key, data, None, None)
        return account

    def _entry(self, subject: str, account: Account) -> Entry:
        return Entry(subject, account, self._strikes.standing(account, time.time()))

    def _change(self, subject: str, change: Callable[[Account], Account], timeout: float) -> Account:
        def changed(data: bytes | None) -> tuple[bytes | None, float | None]:
            account = change(_unpacked(data))
            return account.pack(), self._strikes.lifetime(account, time.time())

        return _unpacked(update(self._store, _PREFIX + subject, changed, timeout=timeout))


def _subject(subject: str | Subject) -> Subject:
    return Subject(subject) if isinstance(subject, str) else subject


def _unpacked(data: bytes | None) -> Account:
    try:
        return Account.unpack(data)
    except ValueError as error:
        raise StoreError(str(error)) from error
