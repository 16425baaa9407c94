"""Many tasks in one request: lines out, an answer for each line back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from raftsched.client.errors import BadReply
from raftsched.client.messages import Reply, Request

#: One request of ``submit_batch`` holds at most this many tasks and bytes.
BATCH_TASKS_MAX = 5_000
BATCH_BYTES_MAX = 8 * 1024 * 1024

#: Made once: `json.dumps` makes an encoder each time, `json.loads` looks for the encoding.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class BatchResult:
    """What became of a batch: ids in order (None where refused) and the refusals."""

    def __init__(self) -> None:
        #: None where refused, and everywhere after a dry run.
        self.ids: list[str | None] = []
        #: Position (from 0) and problem document of every task that was refused.
        self.refused: list[tuple[int, dict[str, Any]]] = []

    @property
    def created(self) -> int:
        """How many tasks exist now because of this batch."""
        return sum(1 for task_id in self.ids if task_id is not None)

    @property
    def accepted(self) -> int:
        """How many tasks were not refused."""
        return len(self.ids) - len(self.refused)

    def take(self, reply: Reply, expected: int) -> None:
        """The answers of one request, which had ``expected`` lines.  Raises BadReply."""
        self.note(answers_of(reply, expected))

    def note(self, answers: Iterable[Mapping[str, Any]]) -> None:
        """The answers to some more lines."""
        for answer in answers:
            if answer.get("valid") is True:
                self.ids.append(None)
            elif is_refusal(answer):
                self.refused.append((len(self.ids), dict(answer)))
                self.ids.append(None)
            else:
                self.ids.append(str(answer["id"]))


def is_refusal(answer: Mapping[str, Any]) -> bool:
    """Is the answer to a line a problem document?"""
    return bool(answer.get("code")) or "id" not in answer


def answers_of(reply: Reply, expected: int) -> list[dict[str, Any]]:
    """An answer for each of the ``expected`` lines of a request.  Raises BadReply."""
    try:
        found: list[dict[str, Any]] = [
            _decode(line) for line in reply.body.decode().split("\n") if line.strip()
        ]
    except ValueError:
        raise BadReply(f"{reply.endpoint}: a batch answer is not JSON") from None
    if len(found) != expected:
        raise BadReply(
            f"{reply.endpoint} answered {len(found)} of {expected} tasks of a "
            "batch; repeat it with the same key to see the rest"
        )
    return found


def request_of(lines: Iterable[bytes], key: str, query: str = "") -> Request:
    """The request for some lines, of which each ends in a newline."""
    headers = {
        "Content-Type": "application/x-ndjson",
        "Accept": "application/x-ndjson",
        "Idempotency-Key": key,
    }
    return Request("POST", "/v1/tasks:batch" + query, b"".join(lines), headers)


def line_of(task: Mapping[str, Any]) -> bytes:
    """A task as a line."""
    return _encode(task).encode() + b"\n"


def groups_of(tasks: Iterable[Mapping[str, Any]], *, split: bool) -> Iterator[list[bytes]]:
    """Lines in groups that fit one request."""
    lines: list[bytes] = []
    size = 0
    for task in tasks:
        line = line_of(task)
        if (
            split
            and lines
            and (len(lines) >= BATCH_TASKS_MAX or size + len(line) > BATCH_BYTES_MAX)
        ):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield lines
