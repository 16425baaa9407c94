"""Either client behind the one surface of `Client`, so that a test's body serves both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from raftsched.client import AsyncClient, Client
from raftsched.client.aio import AsyncTask
from raftsched.client.aio_pipeline import AsyncPipeline, AsyncSubmission

#: ``with connect(addresses, **options) as client``.
Connect = Callable[..., Any]

#: What has methods to wait for.
VERBS = (AsyncTask, AsyncPipeline, AsyncSubmission)


class Blocking:
    """An asynchronous thing whose every method is waited for, on a loop of its own."""

    def __init__(self, thing: Any, runner: asyncio.Runner) -> None:
        self._thing = thing
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        if not callable(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            args = tuple(a._thing if isinstance(a, Blocking) else a for a in args)
            return self._wrapped(value(*args, **options))

        return call

    def __getitem__(self, key: Any) -> Any:
        return self._thing[key]

    def __enter__(self) -> Any:
        return self._wrapped(self._thing.__aenter__())

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._thing.__aexit__(*error))

    def _wrapped(self, result: Any) -> Any:
        if inspect.iscoroutine(result):
            result = self._runner.run(result)
        if isinstance(result, AsyncIterator):
            return self._drawn(result)
        return Blocking(result, self._runner) if isinstance(result, VERBS) else result

    def _drawn(self, items: Any) -> Generator[Any, None, None]:
        try:
            while True:
                try:
                    item = self._runner.run(_next(items))
                except _End:
                    return
                yield self._wrapped(item)
        finally:
            self._runner.run(items.aclose())


class _End(Exception):
    pass


async def _next(items: AsyncIterator[Any]) -> Any:
    async for item in items:
        return item
    raise _End


@contextmanager
def blocking(*args: Any, **options: Any) -> Iterator[Any]:
    """An `AsyncClient` that blocks."""
    with asyncio.Runner() as runner:

        async def opened() -> AsyncClient:
            return await AsyncClient(*args, **options).__aenter__()

        client = runner.run(opened())
        try:
            yield Blocking(client, runner)
        finally:
            runner.run(client.close())


CLIENTS: dict[str, Connect] = {"sync": Client, "async": blocking}
