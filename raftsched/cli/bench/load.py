"""Load for ``raftsched bench``: single submits over many plain sockets, and the bare loop beside.

A client library would measure itself; here a request is a constant and an answer is looked at no
further than its status and length.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from typing import NamedTuple

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
    """What one run of single submits came to."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


class _Connection:
    """One keep-alive connection that sends the same request with ever new keys."""

    def __init__(self, address: str, token: str, body: bytes) -> None:
        host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
        self._host, self._port = host, int(port)
        self._head = (
            f"POST /v1/tasks HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\nIdempotency-Key: "
        ).encode()
        self._tail = b"\r\n\r\n" + body
        self._prefix = uuid.uuid4().hex
        self.latencies: list[float] = []
        self.errors = 0

    async def run(self, until: float) -> None:
        """Submit one after the other until the loop's clock reads ``until``."""
        reader, writer = await asyncio.open_connection(
            self._host, self._port, limit=ANSWER_BYTES_MAX
        )
        try:
            while (begin := time.perf_counter()) < until:
                number = len(self.latencies) + self.errors
                writer.write(self._head + f"{self._prefix}{number}".encode() + self._tail)
                async with asyncio.timeout(STEP_SECONDS_MAX):
                    status = await _answer(reader)
                if status in (200, 201):
                    self.latencies.append(time.perf_counter() - begin)
                else:
                    self.errors += 1
                    await asyncio.sleep(0.05)
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
    return int(head[9:12])


async def single_submits(
    addresses: list[str], token: str, body: bytes, *, connections: int, seconds: float
) -> Load:
    """Submit over ``connections`` sockets spread over ``addresses`` for a while."""
    # One clock for all of them: perf_counter.
    begin = time.perf_counter()
    until = begin + seconds
    workers = [_Connection(addresses[n % len(addresses)], token, body) for n in range(connections)]
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run(until))
    took = time.perf_counter() - begin
    latencies = sorted(latency for worker in workers for latency in worker.latencies)
    errors = sum(worker.errors for worker in workers)
    if not latencies:
        return Load(0.0, 0.0, 0.0, errors)
    return Load(
        len(latencies) / took,
        latencies[len(latencies) // 2] * 1000,
        latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)] * 1000,
        errors,
    )


async def bulk_submit(address: str, token: str, body: bytes, count: int) -> float:
    """One bulk submission of ``count`` lines, all the same; tasks made per second."""
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
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
