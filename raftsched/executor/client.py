"""The peer's end of its runner: start it or find it alive, tell it what to do, hear what became."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from raftsched.executor import leftovers, messages
from raftsched.executor.messages import AttemptReport, Running, StartAttempt
from raftsched.executor.runner_socket import socket_address

logger = logging.getLogger(__name__)

#: A new runner must listen within this.
START_SECONDS = 10.0
#: Runners this process started and has not seen dead.
_started: list[subprocess.Popen[bytes]] = []


class RunnerLost(Exception):
    """The runner could not be started or spoken to."""


class RunnerClient(asyncio.Protocol):
    """A connection to the node's runner.  Calls return at once; news arrives by ``on_reports``."""

    def __init__(self) -> None:
        #: Called with news, in order.
        self.on_reports: Callable[[list[AttemptReport]], None] = lambda reports: None
        #: Called when the connection ends without `close`.
        self.on_lost: Callable[[], object] = lambda: None
        #: True when the runner was there already, with what it ran.
        self.adopted = False
        #: True when nothing of earlier runners of this directory can still run.
        self.clean = False
        self.incarnation = ""
        self.inventory: dict[int, Running] = {}
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._hello: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = False

    @classmethod
    async def adopt_or_start(cls, directory: Path, *, lease_seconds: float) -> RunnerClient:
        """A connection to the directory's runner; one is started if none answers.

        Leftovers of a runner that died are ended first.  Raises RunnerLost.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        client = await cls._connect(directory)
        if client is not None:
            client.adopted = True
            client.clean = True
            return client
        clean = await asyncio.to_thread(leftovers.clean_up, directory)
        if not clean:
            logger.error("attempts of an earlier runner under %s still run", directory)
        with (directory / "runner.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "raftsched.executor.runner",
                    "--dir",
                    str(directory),
                    "--lease-seconds",
                    str(lease_seconds),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # A runner outlives its client, so nobody waits for it; the dead are reaped here.
        _started[:] = [earlier for earlier in _started if earlier.poll() is None]
        _started.append(process)
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            client = await cls._connect(directory)
            if client is not None:
                client.clean = clean
                return client
            await asyncio.sleep(0.02)
        raise RunnerLost(f"the runner did not start; see {directory / 'runner.log'}")

    @classmethod
    async def _connect(cls, directory: Path) -> RunnerClient | None:
        address, descriptor = socket_address(directory)
        try:
            client = cls()
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(2):
                await loop.create_unix_connection(lambda: client, address)
                await client._hello
            return client
        except (OSError, TimeoutError, RunnerLost):
            return None
        finally:
            os.close(descriptor)

    # What the peer asks for ----------------------------------------------------------------------

    def start(self, attempts: Sequence[StartAttempt], slots: int) -> None:
        """Run these attempts, never more than ``slots`` at once; the others wait there."""
        self._send(messages.Start(tuple(attempts), slots))

    def stop(self, token: int, reason: str) -> None:
        """End an attempt, with its own grace."""
        self._send(messages.Stop(token, reason))

    def renew(self, until: float) -> None:
        """The lease holds until this instant of ``time.monotonic()``."""
        self._send(messages.Renew(int(until * 1000)))

    def forget(self, tokens: Sequence[int]) -> None:
        """The state has answered these attempts' reports."""
        self._send(messages.Forget(tuple(tokens)))

    async def close(self, *, stop_runner: bool) -> None:
        """Hang up; with ``stop_runner`` the runner ends if nothing runs."""
        self._closing = True
        if stop_runner:
            self._send(messages.Quit())
        if self._transport is not None:
            self._transport.close()
        await asyncio.sleep(0)

    # asyncio.Protocol ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses.
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            received = messages.split(self._buffer)
        except (msgspec.DecodeError, ValueError) as error:
            logger.error("the runner sent what is no message: %s", error)
            assert self._transport is not None
            self._transport.abort()
            return
        for message in received:
            if isinstance(message, messages.Hello):
                self._greet(message)
            elif isinstance(message, messages.Reports):
                self.on_reports(list(message.reports))

    def _greet(self, hello: messages.Hello) -> None:
        self.incarnation = hello.incarnation
        self.inventory = {running.token: running for running in hello.inventory}
        if not self._hello.done():
            self._hello.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._hello.done():
            self._hello.set_exception(RunnerLost("the runner hung up"))
            with contextlib.suppress(RunnerLost):
                self._hello.exception()
        if not self._closing:
            self.on_lost()

    def _send(self, message: messages.AnyMessage) -> None:
        if self._transport is not None:
            self._transport.write(messages.encode(message))
