"""Submitting tasks from a program to the peer it embeds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from raftsched.api.batch import submit_lines
from raftsched.api.submission import checked_key, make
from raftsched.client.batches import BatchResult, groups_of
from raftsched.core.model import Task
from raftsched.embed.calling import CALL_SECONDS, Calling, Document, encoded


class Submitting(Calling):
    """The calls that make tasks."""

    @overload
    async def submit(
        self,
        command: Sequence[str] | str | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: Literal[False] = False,
        timeout_seconds: float = CALL_SECONDS,
        **document: Any,
    ) -> Task: ...

    @overload
    async def submit(
        self,
        command: Sequence[str] | str | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: Literal[True],
        timeout_seconds: float = CALL_SECONDS,
        **document: Any,
    ) -> Document: ...

    async def submit(
        self,
        command: Sequence[str] | str | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout_seconds: float = CALL_SECONDS,
        **document: Any,
    ) -> Task | Document:
        """Submit one task and return it as stored.

        ``document`` are further fields of the task document of the HTTP API, for example
        ``name="thumbnail", timeout="5m", retry={"max_attempts": 3}``, or ``python={"function":
        "images:resize", "args": ["a.png"]}`` instead of a command.  While nobody leads, as just
        after the start, it is tried again until ``timeout_seconds``; it is made once, and with an
        ``idempotency_key`` also when the program asks again.  A dry run checks it and answers
        ``{"valid": True}``.  Raises ValueError for a wrong or refused document, or PeerError.
        """
        whole = dict(document)
        if command is not None:
            whole["command"] = command if isinstance(command, str) else list(command)
        return await self._submitted(whole, idempotency_key, dry_run, timeout_seconds)

    async def _submitted(
        self,
        document: Mapping[str, Any],
        idempotency_key: str | None,
        dry_run: bool,
        timeout_seconds: float,
    ) -> Task | Document:
        """The task of a whole document, as `submit` makes it."""
        data = encoded(document)
        with self._calling(timeout_seconds) as call:
            key = checked_key(idempotency_key or "")
            found = await make(call, data, key, dry_run=dry_run)
            return {"valid": True} if found is None else call.made(found)

    async def submit_batch(
        self,
        tasks: Iterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        atomic: bool = False,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> BatchResult:
        """Submit many task documents, in groups as `AsyncClient.submit_batch` sends them.

        What is wrong with one is in ``refused`` and touches no other, unless they are ``atomic``:
        then all are made or none, at most 1,000.  ``progress`` gets how many are answered so far.
        ``timeout_seconds`` is for each group.  Raises ValueError or PeerError; groups before are
        made then, and the same again with the same key does the rest.
        """
        key = idempotency_key or self.new_id()
        result = BatchResult()
        for number, lines in enumerate(_groups(tasks, split=not atomic)):
            with self._calling(timeout_seconds) as call:
                of_group = checked_key(f"{key}-{number}")
                answers = await submit_lines(
                    call, _pieces(lines), of_group, atomic=atomic, dry_run=dry_run
                )
            result.note(json.loads(line) for said in answers for line in said.body.splitlines())
            if progress is not None:
                progress(len(result.ids))
        return result


def _groups(tasks: Iterable[Mapping[str, Any]], *, split: bool) -> Iterator[Sequence[bytes]]:
    try:
        yield from groups_of(tasks, split=split)
    except TypeError as error:
        raise ValueError(f"it is no JSON: {error}") from error


async def _pieces(lines: Sequence[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line
