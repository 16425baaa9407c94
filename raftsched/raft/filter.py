"""The message filter that makes PySyncObj's replication safe.  Pure: messages in, messages out.

Stock PySyncObj 0.3.17 truncates entries a follower has acknowledged, moves a commit index over
entries nobody verified, and counts acknowledgements of an earlier term.  So nothing reaches its
handlers that would make it do so.  What passes an append:

1. An older term is answered with a hint and dropped.
2. Entries this log already holds are stripped; it is truncated only at a real conflict, never at or
   below what is committed.
3. The commit index is cut to the prefix this message verifies.
4. A mismatch is answered here, with a position that cannot run in circles.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from raftsched.raft.log import SafetyViolation

logger = logging.getLogger(__name__)

Message = dict[str, Any]
Entry = tuple[bytes, int, int]

#: What PySyncObj may hear; everything else is ours or refused.
KNOWN = frozenset(
    {"append_entries", "next_node_idx", "request_vote", "response_vote", "timeout_now"}
)


class LogView(Protocol):
    """What the filter reads of the log."""

    @property
    def term(self) -> int: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def last_term(self) -> int: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def applied_index(self) -> int: ...
    def term_at(self, index: int) -> int | None: ...


class MessageFilter:
    """Decides what PySyncObj hears.  ``incoming`` returns (message for PySyncObj, answer)."""

    def __init__(self, view: LogView) -> None:
        self._view = view
        #: Voters of this term whose vote was passed on: a second one of the same peer is dropped.
        self._votes: tuple[int, set[str]] = (0, set())

    def incoming(self, peer_id: str, message: Message) -> tuple[Message | None, Message | None]:
        """What of a message PySyncObj may hear, and what is answered instead."""
        kind = message["type"]
        if kind not in KNOWN:
            return None, None
        if kind == "append_entries":
            return self._append(message)
        if kind == "next_node_idx":
            # An acknowledgement counts only in the term it was given for.
            return (message if message.get("lt") == self._view.term else None), None
        if kind == "response_vote":
            if self._votes[0] != message["term"]:
                self._votes = (message["term"], set())
            if peer_id in self._votes[1]:
                return None, None
            self._votes[1].add(peer_id)
        return message, None

    def outgoing(self, message: Message) -> Message | None:
        """A message of PySyncObj as it may leave."""
        kind = message["type"]
        if kind not in KNOWN or "transmission" in message:
            return None
        if kind == "next_node_idx":
            return {**message, "lt": self._view.term}
        return message

    def _append(self, message: Message) -> tuple[Message | None, Message | None]:
        view = self._view
        term = message["term"]
        if term < view.term:
            return None, {"type": "term_hint", "term": view.term}
        if "transmission" in message:
            return None, None
        if "prevLogIdx" not in message:
            # "Still writing my snapshot": proves a leader, verifies nothing.
            return self._heartbeat(message, view.commit_index), None
        previous, previous_term = message["prevLogIdx"], message["prevLogTerm"]
        entries: list[Entry] = [(e[0], e[1], e[2]) for e in message["entries"]]
        verified = previous + len(entries)
        if previous < view.first_index:
            # What lies before the log is committed here and under the snapshot.
            entries = [entry for entry in entries if entry[1] > view.first_index]
            if not entries:
                return self._heartbeat(message, min(verified, view.commit_index)), self._ack(
                    message, max(verified, view.first_index)
                )
            previous = view.first_index
            previous_term = view.term_at(previous)
        if view.term_at(previous) != previous_term:
            return self._heartbeat(message, view.commit_index), self._mismatch(message)
        kept = 0
        for entry in entries:
            if view.term_at(entry[1]) != entry[2]:
                break
            kept += 1
        previous += kept
        rest = entries[kept:]
        if not rest:
            return self._heartbeat(message, verified), self._ack(message, verified)
        floor = max(view.commit_index, view.applied_index)
        if previous < min(floor, view.last_index):
            raise SafetyViolation(
                f"the leader of term {term} conflicts with committed entry {previous + 1}"
            )
        return {
            "type": "append_entries",
            "term": term,
            "commit_index": min(message["commit_index"], verified),
            "entries": rest,
            "prevLogIdx": previous,
            "prevLogTerm": view.term_at(previous),
        }, None

    def _heartbeat(self, message: Message, verified: int) -> Message:
        """The bare news that somebody leads, with as much commit index as is verified."""
        commit = min(message["commit_index"], verified)
        return {"type": "append_entries", "term": message["term"], "commit_index": commit}

    def _ack(self, message: Message, verified: int) -> Message:
        return position(message["term"], verified + 1, success=True)

    def _mismatch(self, message: Message) -> Message:
        """Where the leader should go on: behind our log if it is of its term, else at the floor."""
        view = self._view
        if view.last_term == message["term"]:
            return position(message["term"], view.last_index + 1, success=False)
        floor = max(view.commit_index, view.applied_index)
        return position(message["term"], floor + 1, success=False)


def keep_alive(term: int) -> Message:
    """A follower's word to the leader that it is there, and nothing more."""
    return {**position(term, 0, success=False), "reset": False}


def position(term: int, index: int, *, success: bool) -> Message:
    """A follower's word where to go on: all before is here (success), or begin again there."""
    return {
        "type": "next_node_idx",
        "next_node_idx": index,
        "reset": not success,
        "success": success,
        "lt": term,
    }
