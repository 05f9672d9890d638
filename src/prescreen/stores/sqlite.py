"""A store for the processes of one machine: a file. Not for network file systems (sqlite.org/wal.html)."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from prescreen.errors import ConfigError, StoreError
from prescreen.forks import lock_over_forks
from prescreen.stores import check
from prescreen.units import seconds

_SET_UP: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS expiring ON entries (expires) WHERE expires IS NOT NULL;
"""
_GET: Final = "SELECT value FROM entries WHERE key = ? AND (expires IS NULL OR expires > ?)"
_KEEP: Final = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)"
_DELETE: Final = "DELETE FROM entries WHERE key = ?"
_SWEEP: Final = "DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE expires <= ? LIMIT 100)"
_LONGEST_PAUSE: Final = 0.004  # seconds; a transaction takes some tenths of a millisecond
_PAGE: Final = "SELECT key, value, expires FROM entries WHERE key >= ? ORDER BY key LIMIT 500"


class SQLiteStore:
    """Entries in the SQLite file `path`, made with mode 0600 if there is none; its folder has to exist.

    A call takes at most about twice `timeout` seconds while others hold the file. Times to live go by
    the machine's clock. A file that is gone is a StoreError, not a new empty one, until it is back or
    the process starts anew; who puts another in its place takes its `-wal` and `-shm` away. Raises ConfigError.
    """

    is_local = False

    def __init__(self, path: str | Path, timeout: float = 0.5) -> None:
        self._path = Path(path).absolute()
        self._timeout = seconds(timeout)
        # Reading waits for no writer (WAL). It would if it shared the writing connection.
        self._reading = _Link(self._path, self._timeout)
        self._writing = _Link(self._path, self._timeout)
        try:
            _create(self._path)
            with self._writing.use():
                pass
        except StoreError as error:
            raise ConfigError("store", error.problem) from error

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._path)!r})"

    def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """See Store."""
        check(keys)
        with self._reading.use() as connection:
            return [_held(connection, key) for key in keys]

    def put(self, values: Mapping[str, bytes], /, ttl: float) -> None:
        """See Store; all of them or none."""
        check(values, values.values(), ttl)
        expires = time.time() + ttl
        with self._transaction() as connection:
            connection.executemany(_KEEP, [(key, value, expires) for key, value in values.items()])

    def swap(self, key: str, old: bytes | None, new: bytes | None, /, ttl: float | None) -> bool:
        """See Store."""
        check([key], [old, new], ttl)
        with self._transaction() as connection:
            if _held(connection, key) != old:
                return False
            if new is None:
                connection.execute(_DELETE, (key,))
            else:
                connection.execute(_KEEP, (key, new, None if ttl is None else time.time() + ttl))
            return True

    def scan(self, prefix: str, /) -> Iterator[tuple[str, bytes]]:
        """See Store; some hundreds at a time, so that it holds nobody up."""
        check([prefix])
        start: str | None = prefix
        while start is not None:
            with self._reading.use() as connection:
                page = connection.execute(_PAGE, (start,)).fetchall()
            start = f"{page[-1][0]}\0" if page and page[-1][0].startswith(prefix) else None
            now = time.time()
            for key, value, expires in page:
                if key.startswith(prefix) and (expires is None or expires > now):
                    yield key, value

    def close(self) -> None:
        """See Store."""
        self._reading.close()
        self._writing.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """What is done in the block is done at once, and a few expired entries go with it."""
        with self._writing.use() as connection:
            _begin(connection, self._timeout)
            yield connection
            connection.execute(_SWEEP, (time.time(),))
            connection.execute("COMMIT")


class _Link:
    """A connection for one thread at a time, opened when needed, and anew after an error, a fork or a change of files.

    SQLite forbids to carry one over a fork (sqlite.org/howtocorrupt.html, 2.6), and a fork in the midst of
    another thread's call would leave SQLite's own locks held in the child: so a fork waits for the call, and closes.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._lock = lock_over_forks(self._drop)

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Raises StoreError, whatever is wrong with the file; no transaction outlives the block."""
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreError(f"{self._path.name}: busy for {self._timeout:g} s")
        try:
            yield self._current()
        except BaseException as error:
            self._drop()
            if isinstance(error, sqlite3.Error | OSError):
                raise _translated(error, self._path) from error
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._drop()

    def __del__(self) -> None:
        self._drop()  # Python warns of a connection that nobody closed

    def _current(self) -> sqlite3.Connection:
        """SQLite would go on with a file that somebody has deleted or replaced, and nobody would see what it writes."""
        status = self._path.stat()
        if self._connection is None or self._file != (status.st_dev, status.st_ino):
            self._drop()
            self._connection = _connect(self._path, self._timeout)
            self._file = status.st_dev, status.st_ino
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _create(path: Path) -> None:
    """Make the file unless it is there. One that is there is not opened: closing it would undo SQLite's locks."""
    if not path.parent.is_dir():
        raise ConfigError("store", f"there is no folder {str(path.parent)!r}")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise _translated(error, path) from error


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection that makes no file, and whose transactions we begin and end."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None, check_same_thread=False
    )
    try:
        _patiently(lambda: connection.executescript(_SET_UP), timeout)
        connection.execute(f"PRAGMA busy_timeout = {timeout * 1000:.0f}")  # for reading, which hardly ever has to wait
    except BaseException:
        connection.close()
        raise
    return connection


def _begin(connection: sqlite3.Connection, timeout: float) -> None:
    connection.execute("PRAGMA busy_timeout = 0")
    _patiently(lambda: connection.execute("BEGIN IMMEDIATE"), timeout)


def _patiently(ask: Callable[[], object], timeout: float) -> None:
    """Ask until the file is free, for `timeout` seconds. SQLite itself asks so seldom that it can miss every turn."""
    end = time.monotonic() + timeout
    while True:
        try:
            ask()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311  # apart from each other is all they have to be


def _held(connection: sqlite3.Connection, key: str) -> bytes | None:
    row: tuple[bytes] | None = connection.execute(_GET, (key, time.time())).fetchone()
    return row[0] if row else None


def _translated(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """SQLite's messages hold no values."""
    return StoreError(f"{path.name}: {error.strerror if isinstance(error, OSError) else error}")
