"""Load for ``raftsched bench``: single submits over many plain sockets, and the bare loop beside.

A client library would measure itself; here a request is a constant and an answer is looked at no
further than its status and length.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from raftsched.cli.bench.figures import percentile

ANSWER_BYTES_MAX = 1024 * 1024
STEP_SECONDS_MAX = 30.0
SEND_BYTES = 256 * 1024

#: What each of the two processes beside us does: nothing but spawn and reap.
BARE_LOOP = """
import os, sys, time
count = int(sys.argv[1])
begin = time.perf_counter()
for _ in range(count):
    os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], {}, setsid=True), 0)
print(time.perf_counter() - begin)
"""


class Load(NamedTuple):
    """What one run of single requests came to."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    #: How many were answered well.
    answered: int


#: The request with this number, as bytes.
Request = Callable[[int], bytes]


def post(address: str, path: str, body: bytes, headers: str = "", kind: str = "json") -> bytes:
    """A whole request.  ``headers``: further lines, each with its CRLF."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/{kind}\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def submission(address: str, token: str, body: bytes, count: int = 1) -> Request:
    """Submissions of ``count`` tasks, all the same but for their keys, which are always new."""
    mark = "-bench-key-"
    headers = f"Authorization: Bearer {token}\r\nIdempotency-Key: {mark}\r\n"
    if count == 1:
        whole = post(address, "/v1/tasks", body, headers)
    else:
        whole = post(address, "/v1/tasks:batch", (body + b"\n") * count, headers, "x-ndjson")
    first, _, rest = whole.partition(mark.encode())
    prefix = uuid.uuid4().hex
    return lambda number: first + f"{prefix}{number}".encode() + rest


class Connection:
    """One keep-alive connection that posts, one request after the other."""

    def __init__(self, address: str, request: Request) -> None:
        host, _, port = bare_address(address).rpartition(":")
        self._host, self._port = host, int(port)
        self._request = request
        self.latencies: list[float] = []
        self.errors = 0

    async def run(
        self, until: float, numbers: Iterator[int], due: Callable[[int], float] | None = None
    ) -> None:
        """Post until the clock (perf_counter) reads ``until``, or the ``numbers`` are used up.

        A request that is ``due`` at a time waits for it, and its latency counts from then: what
        is late because others were slow is not left out.
        """
        reader, writer = await asyncio.open_connection(
            self._host, self._port, limit=ANSWER_BYTES_MAX
        )
        try:
            while time.perf_counter() < until and (number := next(numbers, None)) is not None:
                begin = time.perf_counter()
                if due is not None:
                    await asyncio.sleep(max(0.0, due(number) - begin))
                    begin = due(number)
                writer.write(self._request(number))
                async with asyncio.timeout(STEP_SECONDS_MAX):
                    status = await read_answer(reader)
                if status in (200, 201):
                    self.latencies.append(time.perf_counter() - begin)
                else:
                    self.errors += 1
                    await asyncio.sleep(0.05)
        finally:
            writer.close()


def bare_address(address: str) -> str:
    """``host:port`` of an address that may have been written as a URL."""
    return address.removeprefix("http://").rstrip("/")


async def read_answer(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, whose body has a stated length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
    return int(head[9:12])


async def single_submits(
    addresses: list[str],
    token: str,
    body: bytes,
    *,
    connections: int,
    seconds: float,
    count: int | None = None,
) -> Load:
    """Submit over ``connections`` sockets spread over ``addresses`` for a while; see `post_for`."""
    bare = [bare_address(address) for address in addresses]
    spread = [bare[number % len(bare)] for number in range(connections)]
    requests = [(each, submission(each, token, body)) for each in spread]
    return await post_for(requests, seconds, count)


async def post_for(
    requests: Sequence[tuple[str, Request]],
    seconds: float,
    count: int | None = None,
    due: Callable[[int], float] | None = None,
) -> Load:
    """Post for a while over one connection for each ``(address, request)``, ``count`` at most.

    ``due``: when the request of this number is to go out (perf_counter); without it each
    connection posts as soon as it has its answer.
    """
    # One clock for all of them: perf_counter.
    begin = time.perf_counter()
    until = begin + seconds
    workers = [Connection(address, request) for address, request in requests]
    numbers = itertools.count() if count is None else iter(range(count))
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run(until, numbers, due))
    took = time.perf_counter() - begin
    latencies = sorted(latency for worker in workers for latency in worker.latencies)
    return Load(
        len(latencies) / took,
        percentile(latencies, 50) * 1000,
        percentile(latencies, 99) * 1000,
        sum(worker.errors for worker in workers),
        len(latencies),
    )


async def bulk_submit(address: str, token: str, body: bytes, count: int) -> float:
    """One bulk submission of ``count`` lines, all the same; tasks made per second."""
    host, _, port = bare_address(address).rpartition(":")
    lines = (body + b"\n") * count
    head = (
        f"POST /v1/tasks:batch HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/x-ndjson\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {len(lines)}\r\nIdempotency-Key: {uuid.uuid4().hex}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        begin = time.perf_counter()
        writer.write(head)
        answer, _ = await asyncio.gather(reader.read(-1), _send(writer, lines))
        took = time.perf_counter() - begin
    finally:
        writer.close()
    return answer.count(b'"status":201') / took


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    for at in range(0, len(data), SEND_BYTES):
        writer.write(data[at : at + SEND_BYTES])
        await writer.drain()


def bare_loops(count: int, processes: int = 2) -> float:
    """Processes spawned and reaped per second by bare loops side by side."""
    each = count // processes
    command = [sys.executable, "-I", "-S", "-c", BARE_LOOP, str(each)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": os.defpath})
        for _ in range(processes)
    ]
    times = [float(process.communicate(timeout=120)[0]) for process in running]
    return each * processes / max(times)
