"""How the bench and its peers talk: a JSON object per line, over stdin and stdout.

A request is ``{"id": n, "do": name, ...}``, its answer ``{"id": n, ...}``; what a peer says unasked
has an ``event`` instead.  A peer ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from raftsched.cli.exits import Failure

LINE_BYTES_MAX = 16 * 1024 * 1024
START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0

Message = dict[str, Any]


def say(message: Message) -> None:
    """A peer's line to the bench."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Worker:
    """One peer's process, seen from the bench."""

    def __init__(self, peer_id: str, module: str, options: Message) -> None:
        self.peer_id = peer_id
        self._command = [sys.executable, "-m", module]
        self._options = options
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, **changes: Any) -> Message:
        """Start it, with other options than before if so; what it says once its log runs."""
        self._options = {**self._options, **changes}
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            json.dumps(self._options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read(self._process.stdout))
        return await self.event("ready", START_SECONDS_MAX)

    async def _read(self, lines: asyncio.StreamReader | None) -> None:
        assert lines is not None
        async for line in lines:
            message = json.loads(line)
            future = self._answers.pop(message.get("id", 0), None)
            if future is None:
                self._events.put_nowait(message)
            elif not future.done():
                future.set_result(message)
        self._events.put_nowait({"event": "end"})
        for future in self._answers.values():
            if not future.done():
                future.set_exception(Failure(f"peer {self.peer_id} of the bench ended"))
        self._answers.clear()

    async def ask(self, do: str, seconds: float = 30.0, /, **details: Any) -> Message:
        """Have something done.  Failure if the peer ends, or takes longer than ``seconds``."""
        assert self._process is not None and self._process.stdin is not None
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": do, **details}) + "\n"
        self._process.stdin.write(line.encode())
        try:
            async with asyncio.timeout(seconds):
                answer: Message = await future
        except TimeoutError:
            raise Failure(f"peer {self.peer_id} of the bench did not {do} in time") from None
        if "error" in answer:
            raise Failure(f"peer {self.peer_id} of the bench cannot {do}: {answer['error']}")
        return answer

    async def event(self, name: str, seconds: float) -> Message:
        """The next event of that name; those before it are dropped.  Failure if none comes."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await self._events.get()
                    if message["event"] == name:
                        return message
                    if message["event"] == "end":
                        raise Failure(f"peer {self.peer_id} of the bench ended; see above")
        except TimeoutError:
            raise Failure(
                f"peer {self.peer_id} of the bench: no {name!r} in {seconds:g} s"
            ) from None

    def forget_events(self) -> None:
        """Drop what it said so far."""
        while not self._events.empty():
            self._events.get_nowait()

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._gone()

    async def stop(self) -> None:
        """Close its stdin, after which it stops its log cleanly; SIGKILL if that takes too long."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        await self._gone()

    async def _gone(self) -> None:
        if self._process is not None:
            await self._process.wait()
        if self._reader is not None:
            await self._reader
        self.forget_events()
        self._process = self._reader = None


@asynccontextmanager
async def running(workers: Sequence[Worker]) -> AsyncIterator[None]:
    """Start these; in the end stop all that run, whichever way this ends."""
    try:
        await asyncio.gather(*[worker.start() for worker in workers])
        yield
    finally:
        await asyncio.gather(*[worker.stop() for worker in workers], return_exceptions=True)


async def requests() -> AsyncIterator[Message]:
    """A peer's side: what it is asked, until the bench closes the pipe or is gone."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb")
    )
    with contextlib.suppress(ConnectionError):
        async for line in reader:
            yield json.loads(line)
    transport.close()
