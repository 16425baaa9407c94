"""Each finding about PySyncObj 0.3.17 twice: what stock does (the control), and what ours does.

Here what goes over the wire and what applications meet, files in ``test_findings_files``;
``docs/decisions/0006-pysyncobj.md`` has the table of all findings.  What takes a cluster and time
is in ``tests/simulation/test_control.py``.
"""

from __future__ import annotations

import pickle
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pysyncobj.tcp_connection
import pytest
from pysyncobj import FAIL_REASON
from pysyncobj.node import Node
from pysyncobj.poller import POLL_EVENT_TYPE

from raftsched.raft import frames
from raftsched.raft.log import ENTRY_BYTES_MAX, ChangeRefused, LogStatus, Role
from raftsched.raft.membership import Address
from raftsched.raft.node import PeerNode
from raftsched.testing import SimulatedCluster
from tests.unit.raft.stock import Hear, Peer


def cluster_of(peers: int) -> SimulatedCluster:
    """Ours, whole, in virtual time."""
    return SimulatedCluster(peers=peers, seed=1)


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    found.close()


# S1: commit without a check of the prefix --------------------------------------------------------


def deposed(peer: Peer, hear: Hear) -> None:
    """A deposed leader with entries of its own hears that its successor writes a snapshot."""
    peer.fill(2, 2, 2)
    hear({"type": "append_entries", "term": 3, "commit_index": 4, "serialized": None})
    peer.doTick(0)


def test_s1_stock_applies_what_nobody_verified(peer: Peer) -> None:
    deposed(peer, peer.hear)
    assert (peer.commit_index, peer.applied) == (4, [2, 3, 4])


def test_s1_commit_index_stays_within_what_was_verified(peer: Peer) -> None:
    deposed(peer, peer.hear_filtered)
    assert (peer.term, peer.commit_index, peer.applied) == (3, 1, [])


# S2: truncation of acknowledged entries ----------------------------------------------------------


def test_s2_stock_truncates_what_it_acknowledged(peer: Peer) -> None:
    peer.fill(3, 3, 3, 3)
    peer.hear(peer.append(1, 0, 3, 3))
    assert peer.last_index == 3


def test_s2_repeated_append_truncates_nothing(peer: Peer) -> None:
    peer.fill(3, 3, 3, 3)
    [answer] = peer.hear_filtered(peer.append(1, 0, 3, 3))
    assert peer.last_index == 5
    assert (answer["next_node_idx"], answer["success"]) == (4, True)


# S3: acknowledgements carry no term --------------------------------------------------------------

LATE = {"type": "next_node_idx", "next_node_idx": 9, "reset": False, "success": True}


def test_s3_stock_counts_an_acknowledgement_of_an_earlier_leadership(peer: Peer) -> None:
    peer.fill(1, 1, 1, 1, 1, 1)
    peer.lead(3)
    peer.hear(LATE)
    peer.doTick(0)
    assert (peer.last_index, peer.commit_index) == (8, 8)


def test_s3_acknowledgement_of_another_term_does_not_count(peer: Peer) -> None:
    peer.fill(1, 1, 1, 1, 1, 1)
    peer.lead(3)
    peer.hear_filtered({**LATE, "lt": 1})
    peer.doTick(0)
    assert peer.commit_index == 1


# S10: bugs of the application --------------------------------------------------------------------


def test_s10_stock_applies_a_poisonous_command_for_ever(peer: Peer) -> None:
    """Ours ends in one refusal, the same everywhere: `tests/unit/core/test_machine.py`."""
    peer.divide(0)
    peer.lead(1)
    peer.hear({**LATE, "next_node_idx": 3})
    peer.doTick(0)
    peer.hear({**LATE, "next_node_idx": 4})
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            peer.doTick(0)
    assert peer.applied_index == 2


def test_s10_stock_applies_twice_when_a_callback_raises(peer: Peer) -> None:
    """Ours gives PySyncObj no callbacks at all."""

    def raising(_: object, reason: int) -> None:
        if len(peer.applied) < 2:
            raise ValueError("a bug")

    peer.add(7, callback=raising)
    peer.lead(1)
    peer.doTick(0)
    peer.hear({**LATE, "next_node_idx": 4})
    with pytest.raises(ValueError, match="a bug"):
        peer.doTick(0)
    peer.doTick(0)
    assert peer.applied == [7, 7]


def test_s10_entry_that_cannot_be_applied_ends_the_process() -> None:
    tried: list[int] = []

    def cannot(index: int, term: int, entry: bytes) -> None:
        tried.append(index)
        raise ZeroDivisionError("a bug")

    with pytest.raises(AssertionError, match="ended: ZeroDivisionError"), cluster_of(3) as cluster:
        leader = cluster.leader()
        cluster.peer(leader).replica.apply = cannot  # type: ignore[method-assign]
        other = next(name for name in cluster.up() if name != leader)
        cluster.submit(["echo"], at=other)
        cluster.run_until(lambda: leader not in cluster.up())
    assert len(tried) == 1


# S11: membership ---------------------------------------------------------------------------------


def test_s11_stock_has_two_membership_changes_under_way_at_once() -> None:
    peer = Peer(dynamicMembershipChange=True)
    peer.lead(1)
    peer.hear({**LATE, "next_node_idx": 3})
    peer.doTick(0)
    for name in ("n4", "n5"):
        peer.addNodeToCluster(Node(name))
    peer.doTick(0)
    assert peer.commit_index == 2 and len(peer.otherNodes) == 4
    peer.close()


def test_s11_second_change_waits_for_the_first() -> None:
    with cluster_of(3) as cluster:
        log = cluster.peer(cluster.leader()).log
        log._changes.begin({"n4": Address("127.0.0.1:7004")}, None)
        before = log.members()
        with pytest.raises(ChangeRefused, match="one change at a time"):
            log._changes.begin({"n5": Address("127.0.0.1:7005")}, None)
        with pytest.raises(ChangeRefused, match="one change at a time"):
            log._changes.begin({}, "n2")
        assert log.members() is before and "n4" in before.learners


def test_s11_log_takes_none_of_pysyncobjs_own_changes() -> None:
    command = b"\x02" + pickle.dumps(["add", "n4", Node("n4")])
    with pytest.raises(AssertionError, match="takes no MEMBERSHIP"), cluster_of(3) as cluster:
        leader = cluster.leader()
        cluster.peer(leader).log._engine._applyCommand(command, None)
        cluster.run_until(lambda: leader not in cluster.up())


# S12: livelock behind a conflict -----------------------------------------------------------------


def pipelined(peer: Peer, hear: Hear) -> list[int]:
    """A follower that ends at 5 in another term hears three appends at once: where to go on?"""
    peer.fill(2, 2, 2, 2)
    answers = [hear(peer.append(at, 3, 3, 3, 3)) for at in (5, 8, 11)]
    return [answer["next_node_idx"] for [answer] in answers]


def test_s12_stock_asks_for_the_conflict_again_and_again(peer: Peer) -> None:
    """The leader goes by the last one, and its next append is the first of these."""
    assert pipelined(peer, peer.hear) == [5, 6, 6]


def test_s12_every_answer_leads_behind_the_conflict(peer: Peer) -> None:
    assert pipelined(peer, peer.hear_filtered) == [2, 2, 2]


# S13: a callback that is never called ------------------------------------------------------------


def test_s13_stock_forgets_a_command_when_the_connection_breaks(peer: Peer) -> None:
    """Ours has a deadline for each: `tests/unit/peer/test_proposer.py`."""
    told: list[int] = []
    peer.hear(peer.append(1, 0))
    peer.wire.is_broken = True
    peer.add(7, callback=lambda _, reason: told.append(reason))
    for _ in range(5):
        peer.clock.now += 0.01
        peer.doTick(0)
        peer.hear(peer.append(1, 0))
    assert told == []


# S14: failed, and yet it happened ----------------------------------------------------------------


def test_s14_stock_applies_a_command_it_gave_up(peer: Peer) -> None:
    """Ours is an unknown outcome, and commands carry ids: `tests/unit/peer/test_proposer.py`."""
    told: list[int] = []
    peer.hear(peer.append(1, 0))
    peer.add(7, callback=lambda _, reason: told.append(reason))
    peer.doTick(0)
    [forwarded] = peer.wire.take("apply_command")
    peer._SyncObj__onMessageReceived(Node("n3"), peer.append(1, 0, term=4))
    assert told == [FAIL_REASON.LEADER_CHANGED]
    entry = (forwarded["command"], 2, 3)
    peer.hear({**peer.append(1, 0, term=4, commit=2), "entries": [entry]})
    peer.doTick(0)
    assert peer.applied == [7]


# S15: ready with an old state --------------------------------------------------------------------


def test_s15_stock_is_ready_at_the_first_word_of_a_leader(peer: Peer) -> None:
    peer.hear(peer.append(50, 2, term=3, commit=1))
    peer.doTick(0)
    assert peer.isReady() and peer.last_index == 1


def test_s15_state_is_current_with_an_entry_of_the_present_term() -> None:
    """A new leader, and whoever follows it, is not before it applied an entry of its term."""
    with cluster_of(3) as cluster:
        cluster.submit(["echo"])
        cluster.run(1.0)
        old = cluster.leader()
        seen: list[tuple[Role, int, int, bool]] = []
        for name in cluster.up():
            log = cluster.peer(name).log
            told = log.on_status

            def listen(status: LogStatus, told: Any = told) -> None:
                state = (status.role, status.term, status.applied_index, status.is_current)
                seen.append(state)
                told(status)

            log.on_status = listen
        cluster.kill(old)
        cluster.run_until(lambda: any(current for *_, current in seen))
        leading = [(index, current) for role, _, index, current in seen if role is Role.LEADER]
        assert [current for _, current in leading] == [False, True]
        assert leading[1][0] > leading[0][0]


# S16: a leader that nobody tells -----------------------------------------------------------------


def test_s16_stock_does_not_answer_a_leader_of_an_older_term(peer: Peer) -> None:
    peer.fill(3)
    assert peer.hear(peer.append(1, 0, term=2)) == []


def test_s16_leader_of_an_older_term_is_told(peer: Peer) -> None:
    peer.fill(3)
    assert peer.hear_filtered(peer.append(1, 0, term=2)) == [{"type": "term_hint", "term": 3}]


# S18: entries in pieces --------------------------------------------------------------------------


def test_s18_stock_ends_an_entry_one_piece_too_early() -> None:
    peer = Peer()
    peer.lead(1)
    peer.add("x" * (2 * 65536 - 60))
    peer.doTick(0)
    peer.clock.now += 1
    peer.doTick(0)
    pieces = [m for m in peer.wire.take("append_entries") if "transmission" in m]
    assert [m["transmission"] for m in pieces[:3]] == ["start", "finish", "finish"]
    follower = Peer()
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        for message in pieces[:2]:
            follower.hear(message)
    follower.close()
    peer.close()


def test_s18_no_entry_is_sent_in_pieces(peer: Peer) -> None:
    """The largest entry fits a batch twice; pieces that come all the same reach nobody."""
    message = {**peer.append(1, 0), "transmission": "finish", "data": b"x"}
    assert peer.hear_filtered(message) == []
    assert peer.last_index == 1
    assert 2 * ENTRY_BYTES_MAX < frames.FRAME_BYTES_MAX


# S19: whatever comes in is run -------------------------------------------------------------------

_ran: list[str] = []


def run(what: str) -> None:
    """What an attacker would have us call."""
    _ran.append(what)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return run, ("code of a stranger",)


class NoPoller:
    def subscribe(self, fd: int, callback: Any, mask: int) -> None:
        self.callback = callback

    def unsubscribe(self, fd: int) -> None:
        pass


def test_s19_stock_runs_what_the_first_frame_says() -> None:
    _ran.clear()
    here, there = socket.socketpair()
    here.setblocking(False)
    poller = NoPoller()
    connection = pysyncobj.tcp_connection.TcpConnection(poller, socket=here)
    body = zlib.compress(pickle.dumps(Bomb()))
    there.sendall(struct.pack("i", len(body)) + body)
    poller.callback(here.fileno(), POLL_EVENT_TYPE.READ)
    assert _ran == ["code of a stranger"]
    connection.disconnect()
    there.close()


def test_s19_bytes_of_a_stranger_are_only_bytes() -> None:
    _ran.clear()
    for body in (pickle.dumps(Bomb()), zlib.compress(pickle.dumps(Bomb()))):
        with pytest.raises((msgspec.DecodeError, ValueError)):
            frames.decode(body)
    assert _ran == []


# S21: a busy loop beside a dump ------------------------------------------------------------------


def test_s21_stock_sends_empty_messages_for_a_whole_period(peer: Peer) -> None:
    peer.lead(1)
    peer._SyncObj__raftLog.deleteEntriesTo(1)
    peer._SyncObj__raftNextIndex[Node("n2")] = 1
    peer._SyncObj__serializer._Serializer__pid = -1
    peer.clock.now += 1
    peer._SyncObj__sendAppendEntries()
    empty = [m for m in peer.wire.take("append_entries") if m.get("serialized", 1) is None]
    assert len(empty) > 100


def test_s21_laggard_is_asked_for_once_in_a_round() -> None:
    """In PySyncObj's own loop over the followers, with a transfer that takes no more just now."""
    with cluster_of(3) as cluster:
        leader = cluster.leader()
        log = cluster.peer(leader).log
        asked: list[str] = []

        def none(peer_id: str, now: float) -> None:
            asked.append(peer_id)

        log._laggards.next_piece = none  # type: ignore[method-assign]
        laggard = next(name for name in cluster.up() if name != leader)
        log._engine._SyncObj__raftNextIndex[PeerNode(laggard)] = 0
        log._engine._is_running()
        log._engine._SyncObj__sendAppendEntries()
        assert asked == [laggard]
