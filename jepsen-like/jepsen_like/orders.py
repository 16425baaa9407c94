"""Child programs that take orders: a JSON object a line, each answered with one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Self

#: An answer takes at most so long.
ANSWER_SECONDS = 40.0


class OrderFailed(Exception):
    """The program answered that it could not; says what and why."""


class Program:
    """One of them.  It ends when its stdin does, so it does not outlive this process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._turn = asyncio.Lock()
        #: Answers to orders whose givers did not wait for them.
        self._owed = 0

    @classmethod
    async def start(cls, name: str, command: list[str]) -> Self:
        """Run a command."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24
        )
        return cls(name, process)

    @classmethod
    async def of_module(
        cls, name: str, module: str, *words: str, prefix: tuple[str, ...] = ()
    ) -> Self:
        """Run one of the modules of this package as a program."""
        root = str(Path(__file__).parents[1])
        code = f"import runpy, sys; sys.path[0] = {root!r}; "
        code += f"runpy.run_module('jepsen_like.{module}', run_name='__main__', alter_sys=True)"
        return await cls.start(name, [*prefix, sys.executable, "-c", code, *words])

    @property
    def pid(self) -> int:
        return self._process.pid

    async def order(self, do: str, **fields: Any) -> dict[str, Any]:
        """The answer.  Raises OrderFailed, also when the program has ended.

        Whoever is cancelled meanwhile leaves no answer to the next order.
        """
        async with self._turn:
            while self._owed:
                await self._line()
                self._owed -= 1
            stdin = self._process.stdin
            assert stdin is not None
            self._owed += 1
            try:
                stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
                await stdin.drain()
            except ConnectionError:
                raise OrderFailed(f"{self.name} has ended") from None
            line = await self._line()
            self._owed -= 1
            return self._parsed(line)

    async def answer(self) -> dict[str, Any]:
        """The next one, of a program that says something first."""
        return self._parsed(await self._line())

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise OrderFailed(f"{self.name} has ended")
        return line

    def _parsed(self, line: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise OrderFailed(f"{self.name}: {found['error']}")
        return found

    async def close(self) -> None:
        """End it; returns when it has."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
