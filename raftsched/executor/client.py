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
#: A living runner that refuses is asked again after this.
AGAIN_SECONDS = 0.2
#: A runner that runs is pinged this often, or five times a lease if that is more often.
PING_SECONDS = 1.0
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
        #: True when nothing of runners of this directory before this one can still run.
        self.clean = False
        self.incarnation = ""
        self.inventory: dict[int, Running] = {}
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._hello: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = False
        #: Anything was received since the last ping.
        self._heard = False

    @classmethod
    async def adopt_or_start(cls, directory: Path, *, lease_seconds: float) -> RunnerClient:
        """A connection to the directory's runner; one is started if there is none.

        Leftovers of a runner that died are ended first.  One that lives and does not answer within
        the lease, in which it should have ended its attempts, is ended with them.  Raises
        RunnerLost, when it surely runs nothing new; it may be tried again.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            client = await cls._adopt(directory, lease_seconds)
            if client is not None:
                return client
            clean = await asyncio.to_thread(leftovers.clean_up, directory)
            if not clean:
                logger.error("attempts of an earlier runner under %s still run", directory)
            process = cls._launch(directory, lease_seconds, is_clean=clean)
            return await cls._greeted(directory, process)
        except OSError as error:
            raise RunnerLost(f"no runner under {directory}: {error}") from error

    @classmethod
    async def _adopt(cls, directory: Path, patience_seconds: float) -> RunnerClient | None:
        """The runner that is there already, or None when there is none (any more)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        while True:
            client = await cls._connect(directory, deadline - loop.time())
            if client is not None:
                client.adopted = True
                return client
            if not await asyncio.to_thread(leftovers.runners, directory):
                return None
            if loop.time() >= deadline:
                break
            await asyncio.sleep(AGAIN_SECONDS)
        logger.error(
            "the runner did not answer for %.1f s, or is of another version: ending it",
            patience_seconds,
        )
        if not await asyncio.to_thread(leftovers.end_runner, directory):
            raise RunnerLost(f"the runner under {directory} does not answer and cannot be killed")
        return None

    @staticmethod
    def _launch(
        directory: Path, lease_seconds: float, *, is_clean: bool
    ) -> subprocess.Popen[bytes]:
        """Start a runner: its keeper, in a group of processes with it until they part."""
        command = [sys.executable, "-m", "raftsched.executor.keeper", "--dir", str(directory)]
        command += ["--lease-seconds", str(lease_seconds)]
        with (directory / "runner.log").open("ab") as log:
            process = subprocess.Popen(
                command if is_clean else [*command, "--unclean"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # A runner outlives its client, so nobody waits for it; the dead are reaped here.
        _started[:] = [earlier for earlier in _started if earlier.poll() is None]
        _started.append(process)
        return process

    @classmethod
    async def _greeted(cls, directory: Path, process: subprocess.Popen[bytes]) -> RunnerClient:
        """The connection to a runner just started."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        while loop.time() < deadline and process.poll() is None:
            client = await cls._connect(directory, deadline - loop.time())
            if client is not None:
                return client
            await asyncio.sleep(0.02)
        process.terminate()  # The keeper, who sees to the rest.
        raise RunnerLost(f"the runner did not start; see {directory / 'runner.log'}")

    @classmethod
    async def _connect(cls, directory: Path, timeout_seconds: float) -> RunnerClient | None:
        client = cls()
        address, descriptor = socket_address(directory)
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(max(0.0, timeout_seconds)):
                await loop.create_unix_connection(lambda: client, address)
                await client._hello
            return client
        except (OSError, TimeoutError, RunnerLost):
            client._abort()
            return None
        finally:
            os.close(descriptor)

    # What the peer asks for ----------------------------------------------------------------------

    def start(self, attempts: Sequence[StartAttempt], slots: int) -> None:
        """Run these attempts, never more than ``slots`` at once; the others wait there."""
        if self._transport is not None:
            for frame in messages.start_frames(attempts, slots):
                self._transport.write(frame)

    def serve_apps(
        self,
        generation: str,
        applications: Sequence[str],
        workers: int,
        home: tuple[str, str] = ("", ""),
    ) -> None:
        """Have so many workers of each of these applications; a new generation imports anew.

        They start where this process is, and find modules where it does.  ``home``: where this
        peer answers, and the token.
        """
        path = tuple([str(Path(entry).absolute()) for entry in sys.path])
        directory = str(Path.cwd())
        self._send(
            messages.Applications(generation, tuple(applications), workers, directory, path, *home)
        )

    def configure(self, *, http_private: bool, http_metadata: bool, cgroup: str = "") -> None:
        """How attempts are run from now on; what these mean is in `messages.Configure`."""
        self._send(messages.Configure(http_private, http_metadata, cgroup))

    def stop(self, token: int, reason: str) -> None:
        """End an attempt, with its own grace."""
        self._send(messages.Stop(token, reason))

    def renew(self, granted_at: float, lease_seconds: float) -> None:
        """Leases are counted from this instant of ``time.monotonic()``; so long is the node's."""
        self._send(messages.Renew(int(granted_at * 1000), int(lease_seconds * 1000)))

    def forget(self, tokens: Sequence[int]) -> None:
        """The state has answered these attempts' reports."""
        self._send(messages.Forget(tuple(tokens)))

    async def watch(self, patience_seconds: float) -> None:
        """Ping the runner; return once it has not answered for so long.

        Counted in pings, not by the clock, so that a peer that was stopped itself blames nobody.
        """
        pause = min(PING_SECONDS, patience_seconds / 5)
        missed = 0
        while missed * pause < patience_seconds:
            self._heard = False
            self._send(messages.Ping())
            await asyncio.sleep(pause)
            missed = 0 if self._heard else missed + 1

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
        self._heard = True
        self._buffer += data
        try:
            received = messages.split(self._buffer)
        except (msgspec.DecodeError, ValueError) as error:
            logger.error("the runner sent what is no message: %s", error)
            if self._transport is not None:
                self._transport.abort()
            return
        for message in received:
            if isinstance(message, messages.Hello):
                self._greet(message)
            elif isinstance(message, messages.Reports):
                self.on_reports(list(message.reports))

    def _greet(self, hello: messages.Hello) -> None:
        if self._hello.done():
            return
        if hello.protocol != messages.RUNNER_PROTOCOL:
            self._send(messages.Quit())
            self._hello.set_exception(RunnerLost("the runner is of another version"))
            return
        self.incarnation = hello.incarnation
        self.clean = hello.is_clean
        self.inventory.update((running.token, running) for running in hello.inventory)
        if not hello.more:
            self._hello.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._hello.done():
            self._hello.set_exception(RunnerLost("the runner hung up"))
            with contextlib.suppress(RunnerLost):
                self._hello.exception()
        if not self._closing:
            self.on_lost()

    def _abort(self) -> None:
        """Hang up on a runner that was never spoken to."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _send(self, message: messages.AnyMessage) -> None:
        if self._transport is not None:
            self._transport.write(messages.encode(message))
