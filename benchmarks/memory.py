"""What a server has in memory while 1,000 uploads of 1 MiB wait for a moderator that does not answer.

make memory     fails above 1.3 GiB (Linux)
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.stacks import STACKS, Site, provider, site, tell

MIB: Final = 1 << 20
UPLOADS: Final = 1000
MOST: Final = 1.3 * 1024 * MIB
_FILE: Final = bytes(range(256)) * (MIB // 256)
_PARTS: Final = (
    '--BND\r\nContent-Disposition: form-data; name="message"\r\n\r\nupload number {number:4}: a picture of my cat\r\n'
    '--BND\r\nContent-Disposition: form-data; name="file"; filename="cat.png"\r\nContent-Type: image/png\r\n\r\n'
)
_END: Final = b"\r\n--BND--\r\n"
_HEAD: Final = (
    "POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    "Content-Type: multipart/form-data; boundary=BND\r\nContent-Length: {length}\r\n\r\n"
)


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a shell's 1,024 are too few for both sides
    with (
        provider() as port,
        site(STACKS[0], "prescreen, counted", port, BENCHMARK_DEADLINE="120s") as server,
    ):
        before = server.usage()["peak"]
        answers = asyncio.run(uploaded(server))
        peak = server.usage()["peak"]
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers), {answer[:200] for answer in answers}
    print(
        f"{UPLOADS:,} uploads of 1 MiB at once: at most {peak / MIB:,.0f} MiB, {(peak - before) / MIB:,.0f} of them for the "
        f"uploads (target: ≤ {MOST / MIB:,.0f} MiB in all) {'✓' if peak <= MOST else '✗'}"
    )
    sys.exit(peak > MOST)


async def uploaded(server: Site) -> Sequence[bytes]:
    """The answers to all uploads, which get one only when all of them have come in."""
    tell(server.provider, "hold")
    uploads = [asyncio.create_task(upload(server.port, number)) for number in range(UPLOADS)]
    await asyncio.to_thread(_wait_for_all, server, uploads)
    tell(server.provider, "release")
    return await asyncio.gather(*uploads)


def _wait_for_all(server: Site, uploads: Sequence[asyncio.Task[bytes]]) -> None:
    while server.usage()["received"] < UPLOADS * MIB:
        assert not any(upload.done() for upload in uploads), "an upload was answered before it was judged"
        time.sleep(0.2)


async def upload(port: int, number: int) -> bytes:
    """One upload; the file is one object for all of them, so that this process stays small."""
    loop = asyncio.get_running_loop()
    fields = _PARTS.format(number=number).encode()
    head = _HEAD.format(length=len(fields) + len(_FILE) + len(_END)).encode()
    with socket.socket() as connection:
        connection.settimeout(0)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        for piece in (head + fields, _FILE, _END):
            await loop.sock_sendall(connection, piece)
        return await _read(loop, connection)


async def _read(loop: Any, connection: socket.socket) -> bytes:
    answer = b""
    while piece := await loop.sock_recv(connection, 65536):
        answer += piece
    return answer


if __name__ == "__main__":
    main()
