"""Bugs of the log, its durability, reads and snapshots."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import msgspec

from raftsched.core import codec
from raftsched.peer import readiness
from raftsched.peer.intake import Intake
from raftsched.peer.messages import Refused
from raftsched.raft import opening
from raftsched.raft.acquaintances import Acquaintances
from raftsched.raft.changing import MemberChanges
from raftsched.raft.compaction import Compaction
from raftsched.raft.connection import Connection
from raftsched.raft.enduring import FullDisk
from raftsched.raft.engine import Engine
from raftsched.raft.filter import MessageFilter
from raftsched.raft.hard_state import HardStateFile
from raftsched.raft.journal import Journal
from raftsched.raft.log import Role
from raftsched.raft.membership import Membership
from raftsched.raft.reads import Reads
from raftsched.raft.replication import Replication
from raftsched.testing.disk import MemoryDisk
from tests.planted.base import together


def acknowledge_before_sync() -> AbstractContextManager[Any]:
    def outgoing(self: Any, peer_id: str, message: dict[str, Any]) -> Any:
        return self._filter.outgoing(message)

    usual = Connection.send

    def send(self: Any, message: Any) -> None:
        # Else it leaves behind the sync all the same: that is what the loop does next.
        usual(self, message)
        self.flush()

    return together(
        patch.object(Replication, "outgoing", outgoing), patch.object(Connection, "send", send)
    )


def never_sync() -> AbstractContextManager[Any]:
    original = opening.open_directory

    def unsynced(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **{**options, "sync": False})

    return patch.object(opening, "open_directory", unsynced)


def believe_a_sync_that_was_not() -> AbstractContextManager[Any]:
    """The journal says that all is durable, and nothing is."""
    return patch.object(MemoryDisk, "datasync", lambda self, fd: self._operation("datasync"))


def count_itself_before_the_sync() -> AbstractContextManager[Any]:
    def commit(self: Any, index: int) -> None:
        self._commit_index = index

    free = property(lambda self: self._commit_index, commit)
    return patch.object(Engine, "_SyncObj__raftCommitIndex", free)


def forget_votes() -> AbstractContextManager[Any]:
    def save(self: Any, term: int, vote: str | None) -> None:
        self.state = msgspec.structs.replace(self.state, term=term, vote=vote)

    return patch.object(HardStateFile, "save", save)


def truncate_what_matches() -> AbstractContextManager[Any]:
    original = MessageFilter._append

    def append(self: Any, message: dict[str, Any]) -> Any:
        view = self._view
        known = view.term_at(message.get("prevLogIdx", -1))
        if message["term"] >= view.term and known is not None and known == message["prevLogTerm"]:
            return message, None
        return original(self, message)

    return patch.object(MessageFilter, "_append", append)


def commit_what_is_not_verified() -> AbstractContextManager[Any]:
    def heartbeat(self: Any, message: dict[str, Any], verified: int) -> dict[str, Any]:
        commit = min(message["commit_index"], self._view.last_index)
        return {"type": "append_entries", "term": message["term"], "commit_index": commit}

    return patch.object(MessageFilter, "_heartbeat", heartbeat)


def drop_the_journal_behind_a_snapshot() -> AbstractContextManager[Any]:
    original = Journal.align

    def align(self: Any, previous: Any, last: Any, *more: Any) -> None:
        self.clear()
        self.add(*previous)
        self.add(*last)
        self.sync()
        original(self, previous, last, *more)

    return patch.object(Journal, "align", align)


def trim_before_the_snapshot_is_there() -> AbstractContextManager[Any]:
    original = Compaction.begin

    def begin(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self._outcome = True

    return together(
        patch.object(Compaction, "begin", begin),
        patch.object(Compaction, "is_writing", property(lambda self: False)),
        patch.object(Journal, "deleteEntriesTo", _trim_at_once),
    )


def _trim_at_once(self: Any, position: int) -> None:
    if position > 0 and len(self):
        del self._entries[:position]
        self._floor = self.first_index
        self._release(self._floor)


def lead_on_with_a_full_disk() -> AbstractContextManager[Any]:
    return patch.object(FullDisk, "step", lambda self, now: None)


def read_without_asking_anybody() -> AbstractContextManager[Any]:
    def begin_round(self: Any) -> None:
        waiting, self._waiting = self._waiting, []
        self._settle(waiting, self._engine.commit_index)

    return patch.object(Reads, "_begin_round", begin_round)


def read_before_the_first_entry_of_the_term() -> AbstractContextManager[Any]:
    return patch.object(Engine, "is_current", property(lambda self: True))


def read_what_is_applied_here() -> AbstractContextManager[Any]:
    async def index(self: Any, timeout_seconds: float) -> int:
        return int(self._engine.applied_index)

    return patch.object(Reads, "index", index)


def change_before_the_last_is_committed() -> AbstractContextManager[Any]:
    original = MemberChanges._not_now

    def not_now(self: Any) -> str:
        why = original(self)
        return "" if "is not committed yet" in why else why

    return patch.object(MemberChanges, "_not_now", not_now)


def be_ready_by_its_own_word() -> AbstractContextManager[Any]:
    return patch.object(readiness, "_why_stale", lambda status: "")


def take_a_wiped_peer_for_what_it_was() -> AbstractContextManager[Any]:
    return patch.object(Acquaintances, "refusal", lambda self, peer_id, mark: "")


def forget_the_configuration_of_a_snapshot() -> AbstractContextManager[Any]:
    original = Membership.rebase

    def rebase(self: Any, index: int, configuration: Any) -> None:
        original(self, index, None)

    return patch.object(Membership, "rebase", rebase)


def refuse_what_stands_in_the_log() -> AbstractContextManager[Any]:
    original = Intake.take

    def take(self: Any, term: int, base: int, batch: Any) -> Any:
        status = self._log.status()
        if status.role is not Role.LEADER or status.term != term or status.paused:
            return Refused(term, batch.session, batch.sequence, len(batch.commands), "not-leader")
        return original(self, term, base, batch)

    return patch.object(Intake, "take", take)


def leave_keys_out_of_snapshots() -> AbstractContextManager[Any]:
    original = codec._draw

    def draw(header: Any, tasks: Any, keys: Any) -> Any:
        return original(msgspec.structs.replace(header, keys=0), tasks, [])

    return patch.object(codec, "_draw", draw)
