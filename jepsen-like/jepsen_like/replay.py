"""The logs of all peers, once the run is over: what the program itself makes of each.

The program under test applies a stopped peer's log again and prints what every entry did
(``journal export DIR``, ``docs/operations/journal.md``).  Nothing of that is believed alone: peers
must agree on every entry, and every answer that a client had must be what the log says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from jepsen_like.documents import task_of
from jepsen_like.evidence import LOG, REPLAYED
from jepsen_like.history import LogEntry, Ordered, Position, Replayed, Row, Writer, write_document
from jepsen_like.orders import OrderFailed
from jepsen_like.peers import NotReady, Peers

#: What the program says when it has no such command: the exit code of a usage error.
_USAGE = 2
_COMPLAINT_CHARACTERS = 500
#: Commands that clients give about one task each.
_VERBS = frozenset({"CancelTask", "PauseTask", "ResumeTask"})


class BadExport(Exception):
    """What the program printed is no log; says which line and why."""


async def replay(peers: Peers, directory: Path) -> str:
    """Kill all peers and write down what the log of each comes to; a line for whoever watches."""
    for peer in sorted(peers.running):
        # One that cannot be ended says so when its log is asked for.
        with contextlib.suppress(NotReady, OrderFailed):
            await peers.kill(peer)
    raw = directory / REPLAYED
    raw.mkdir(exist_ok=True)
    found: list[Replayed] = []
    for peer in peers.ids:
        file = raw / f"{peer}.jsonl"
        found.append(await _replayed(peers, peer, file))
        write_document(raw / f"{peer}.json", found[-1])
    until = agreed_index(found, len(peers.ids))
    longest = max(found, key=lambda one: _length(one, until), default=None)
    said = "nothing of the logs"
    if longest is not None and _length(longest, until):
        with Writer(directory / LOG) as writer:
            for entry in _entries(raw / f"{longest.peer}.jsonl", until):
                writer.write(entry)
        said = f"{_length(longest, until)} entries of the log of {longest.peer}"
    for file in raw.glob("*.jsonl"):
        file.unlink()
    return f"applied again: {said}"


def agreed_index(found: list[Replayed], peers: int) -> int:
    """The last index at which a majority of the peers has the same; 0: there is none.

    What stands behind it may never have been committed; what was committed is on a majority.
    """
    counts = Counter((entry.index, entry.sum) for one in found for entry in one.entries)
    return max((index for (index, _), count in counts.items() if 2 * count > peers), default=0)


def _length(one: Replayed, until: int) -> int:
    return sum(entry.index <= until for entry in one.entries)


async def _replayed(peers: Peers, peer: str, file: Path) -> Replayed:
    try:
        code, complaint = await peers.export(peer, file)
        if code:
            why = f"exit code {code}: {complaint.strip()[:_COMPLAINT_CHARACTERS]}"
            return Replayed(peer, why_not=why, is_impossible=code == _USAGE)
        return read_export(peer, file)
    except (OrderFailed, NotReady, BadExport, TimeoutError, KeyError) as error:
        return Replayed(peer, why_not=f"{type(error).__name__}: {error}"[:_COMPLAINT_CHARACTERS])


def read_export(peer: str, file: Path) -> Replayed:
    """What a peer's log came to.  Raises BadExport."""
    lines = _lines(file)
    head = next(lines, None)
    if head is None or head.get("format") != 1:
        raise BadExport(f"{file}: format {head and head.get('format')} is not known here, only 1")
    if head.get("peer") != peer:
        raise BadExport(f"{file}: it is of {head.get('peer')}")
    entries = [Position(line["index"], line["term"], _sum(line)) for line in lines]
    first = int(head["first_index"])
    if [entry.index for entry in entries] != list(range(first, first + len(entries))):
        raise BadExport(f"{file}: there are gaps between its entries")
    return Replayed(peer, entries, committed_index=int(head["committed_index"]))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError as error:
                raise BadExport(f"{file}, line {number}: {error}") from None


def _sum(line: dict[str, Any]) -> str:
    """The same for two lines that say the same, in whatever order."""
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:24]


def _entries(file: Path, until: int) -> Iterator[LogEntry]:
    """What judges need of an export."""
    for line in _lines(file):
        if "index" in line and line["index"] <= until:
            tasks = line.get("changed", {}).get("tasks", {})
            yield LogEntry(
                line["index"],
                {task_id: None if row is None else _row(row) for task_id, row in tasks.items()},
                [_ordered(one) for one in line.get("commands", []) if one["command"] in _VERBS],
            )


def _row(document: dict[str, Any]) -> Row:
    told = task_of(document)
    return Row(told.pop("state"), told.pop("attempt") or 0, told)


def _ordered(one: dict[str, Any]) -> Ordered:
    is_accepted = one["outcome"] == "accepted"
    return Ordered(one["command"], one["peer"], is_accepted, one["about"], one.get("reason", ""))
