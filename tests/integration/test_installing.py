"""A follower under a scripted leader: when it takes a snapshot, and what it says meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftsched.raft import installing
from raftsched.raft.config import LogConfig
from raftsched.raft.log import Role
from raftsched.raft.pysyncobj_log import PySyncObjLog
from raftsched.raft.snapshot import SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta
from raftsched.raft.transport import Transport
from tests.ports import free_ports

from .logs import GateMachine, until

TERM = 3
ELECTION_SECONDS = 0.1


def entry(index: int) -> tuple[bytes, int, int]:
    return b"\0%d" % index, index, TERM


class Leader:
    """Peer n1, which says what the test wants."""

    def __init__(self, directory: Path, transport: Transport) -> None:
        self.directory = directory
        self.transport = transport
        self.heard: list[dict[str, Any]] = []
        self.rounds = 0
        transport.on_message = lambda _, message: self.heard.append(message)

    def say(self, message: dict[str, Any]) -> None:
        assert self.transport.send_to("n2", message)

    def append(self, previous: int, *indexes: int, commit: int = 1) -> None:
        self.say(
            {
                "type": "append_entries",
                "term": TERM,
                "commit_index": commit,
                "prevLogIdx": previous,
                "prevLogTerm": 0 if previous == 1 else TERM,
                "entries": [entry(index) for index in indexes],
            }
        )

    def send_snapshot(self, index: int, number: int = 1, *, damaged: bool = False) -> None:
        """One whose state is what entries 2 to ``index`` make, in pieces."""
        data = self.snapshot(index)
        if damaged:
            data = data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
        for start in range(0, len(data), 50):
            self._piece(data[start : start + 50], start == 0, False, number)
        self._piece(b"", False, True, number)

    def snapshot(self, index: int) -> bytes:
        """The file of one."""
        store = SnapshotStore.open(self.directory / "snapshots", cluster_id="c")
        meta = SnapshotMeta("c", entry(index - 1), entry(index))
        chunks = [msgspec.msgpack.encode([b"%d" % i]) for i in range(2, index + 1)]
        return store.write(meta, chunks).read_bytes()

    async def lose_connection(self) -> None:
        """It breaks, and is there again."""
        old = self.transport._connections["n2"]
        old.close()
        await until(lambda: self.transport._connections.get("n2") not in (None, old))

    def _piece(self, data: bytes, where: bool | int, is_last: bool, number: int) -> None:
        self.say(
            {
                "type": "append_entries",
                "term": TERM,
                "commit_index": 100,
                "serialized": (data, where, is_last, number),
            }
        )

    async def is_heard_out(self) -> None:
        """All that was said has been answered; the answers are forgotten."""
        self.rounds += 1
        self.say({"type": "probe", "term": TERM, "round": self.rounds})
        await self.hears(type="probe_ok", round=self.rounds)

    async def hears(self, **fields: Any) -> dict[str, Any]:
        """The next message with these fields; what came before it is forgotten."""
        async with asyncio.timeout(5):
            while True:
                while self.heard:
                    message = self.heard.pop(0)
                    if fields.items() <= message.items():
                        return message
                await asyncio.sleep(0.002)


@asynccontextmanager
async def follower(directory: Path) -> AsyncIterator[tuple[Leader, PySyncObjLog, GateMachine]]:
    peers = {
        peer: f"127.0.0.1:{port}" for peer, port in zip(("n1", "n2"), free_ports(2), strict=True)
    }

    def config(peer_id: str) -> LogConfig:
        return LogConfig(
            cluster_id="c",
            peer_id=peer_id,
            peers=peers,
            data_dir=directory / peer_id,
            election_min_seconds=ELECTION_SECONDS,
            election_max_seconds=2 * ELECTION_SECONDS,
            append_period_seconds=ELECTION_SECONDS / 5,
            reconnect_seconds=0.01,
        )

    transport = Transport(config("n1"))
    leader = Leader(directory, transport)
    await transport.open()
    machine = GateMachine()
    log = PySyncObjLog(config("n2"), machine)
    failures: list[BaseException] = []
    log.on_fatal = failures.append
    await log.start()
    try:
        await until(transport.connected_peers)
        yield leader, log, machine
        assert not failures
    finally:
        machine.gate.set()
        await log.stop()
        await transport.close()


async def test_snapshot_is_loaded_swapped_in_and_acknowledged(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, machine):
        leader.send_snapshot(40)
        await until(machine.is_loading.is_set)
        assert log.status().applied_index == 1 and log.status().last_index == 1
        machine.gate.set()
        await leader.hears(type="snapshot_end", number=1)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=41, lt=TERM)
        assert machine.items == [b"%d" % i for i in range(2, 41)]
        status = log.status()
        assert (status.applied_index, status.commit_index, status.last_index) == (40, 40, 40)
        assert status.durable_index == 40
        leader.append(40, 41, 42, commit=42)
        await until(lambda: log.status().applied_index == 42)
        assert machine.items[-2:] == [b"41", b"42"]


async def test_follower_says_how_old_its_state_is_and_that_a_snapshot_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with follower(tmp_path) as (leader, log, machine):
        leader._piece(leader.snapshot(40)[:200], True, False, 1)
        await leader.is_heard_out()
        status = log.status()
        assert status.is_installing and status.stale_ms is None
        # A leader may do without the rest of it.
        monkeypatch.setattr(installing, "STALLED_SECONDS", 0.0)
        assert not log.status().is_installing
        monkeypatch.undo()
        leader.send_snapshot(40, 2)
        await until(machine.is_loading.is_set)
        assert log.status().is_installing
        machine.gate.set()
        await leader.hears(type="snapshot_end", number=2)
        await until(lambda: not log.status().is_installing)
        # It said with each piece that 100 entries are committed, and this peer has 40 of them.
        assert log.status().commit_index == 40 and log.status().stale_ms is None
        leader.append(40, *range(41, 101), commit=100)
        await until(lambda: log.status().applied_index == 100)
        stale_ms = log.status().stale_ms
        assert stale_ms is not None and stale_ms < 10_000


async def test_append_that_does_not_fit_is_only_a_heartbeat_while_a_snapshot_loads(
    tmp_path: Path,
) -> None:
    async with follower(tmp_path) as (leader, _, machine):
        leader.send_snapshot(40)
        await until(machine.is_loading.is_set)
        await leader.is_heard_out()
        leader.append(40, 41)
        answer = await leader.hears(type="next_node_idx")
        assert not answer["reset"] and not answer["success"] and answer["lt"] == TERM
        machine.gate.set()
        await leader.hears(type="next_node_idx", success=True, next_node_idx=41)
        await leader.is_heard_out()
        leader.append(50, 51)
        answer = await leader.hears(type="next_node_idx", success=False)
        assert answer["reset"]


async def test_second_snapshot_is_turned_away_while_the_first_loads(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, machine):
        leader.send_snapshot(40, 1)
        await until(machine.is_loading.is_set)
        leader.send_snapshot(60, 2)
        await leader.hears(type="snapshot_end", number=2)
        machine.gate.set()
        await leader.hears(type="snapshot_end", number=1)
        assert log.status().applied_index == 40


async def test_votes_are_given_and_none_are_sought_while_a_snapshot_loads(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, machine):
        leader.send_snapshot(40)
        await until(machine.is_loading.is_set)
        await leader.is_heard_out()
        # The leader is silent for several election timeouts.
        await asyncio.sleep(8 * ELECTION_SECONDS)
        assert not [message for message in leader.heard if message["type"] == "prevote"]
        assert log.status().role is Role.FOLLOWER
        ask = {"term": TERM + 1, "last_log_index": 40, "last_log_term": TERM}
        leader.say({"type": "prevote", **ask})
        await leader.hears(type="prevote_ok", term=TERM + 1)
        leader.say({"type": "request_vote", **ask})
        await leader.hears(type="response_vote", term=TERM + 1)
        machine.gate.set()
        asked = await leader.hears(type="prevote", last_log_index=40)
        assert asked["last_log_term"] == TERM
        # Its sender's term is over, so the snapshot was taken in and nobody was told.
        assert machine.restored == 1 and log.status().term == TERM + 1


async def test_snapshot_the_log_holds_is_not_taken_and_the_tail_stays(tmp_path: Path) -> None:
    """S9: entries 5 and 6 were acknowledged and may count for a majority."""
    async with follower(tmp_path) as (leader, log, machine):
        leader.append(1, 2, 3, 4, 5, 6)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=7)
        leader.send_snapshot(4)
        await leader.hears(type="snapshot_end", number=1)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=5)
        await until(lambda: log.status().applied_index == 4)
        assert log.status().last_index == 6
        assert machine.items == [b"2", b"3", b"4"] and not machine.is_loading.is_set()


async def test_snapshot_the_log_overtook_while_it_was_loaded_is_dropped(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, machine):
        leader.send_snapshot(4)
        await until(machine.is_loading.is_set)
        leader.append(1, 2, 3, 4, 5, 6, commit=3)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=7)
        assert log.status().applied_index == 1, "nothing is applied while a snapshot loads"
        machine.gate.set()
        await leader.hears(type="next_node_idx", success=True, next_node_idx=5)
        await until(lambda: log.status().applied_index == 4)
        assert log.status().last_index == 6 and not machine.restored
        assert machine.items == [b"2", b"3", b"4"]
        await until(lambda: not list((tmp_path / "n2" / "snapshots").iterdir()))


async def test_snapshot_behind_what_is_applied_is_not_taken(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, machine):
        leader.append(1, 2, 3, 4, 5, 6, commit=6)
        await until(lambda: log.status().applied_index == 6)
        leader.send_snapshot(4)
        await leader.hears(type="snapshot_end", number=1)
        await leader.hears(type="next_node_idx", reset=True, next_node_idx=7)
        assert not machine.is_loading.is_set() and log.status().last_index == 6


async def test_damaged_snapshot_is_refused_and_the_next_taken(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, machine):
        machine.gate.set()
        leader.send_snapshot(40, 1, damaged=True)
        await leader.hears(type="snapshot_end", number=1)
        assert log.status().applied_index == 1 and not machine.is_loading.is_set()
        leader.append(40)
        await leader.hears(type="next_node_idx", reset=True, next_node_idx=2)
        leader.send_snapshot(40, 2)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=41)
        assert machine.restored == 1


async def test_piece_of_an_unknown_transfer_is_turned_away(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, _, machine):
        leader._piece(b"x", False, False, 9)
        await leader.hears(type="snapshot_end", number=9)
        leader.send_snapshot(40, 10)
        machine.gate.set()
        await leader.hears(type="next_node_idx", success=True, next_node_idx=41)


async def test_taken_snapshot_is_there_after_a_restart(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, _, machine):
        machine.gate.set()
        leader.send_snapshot(40)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=41)
    again = GateMachine()
    again.gate.set()
    peers = {"n2": "127.0.0.1:1"}
    config = LogConfig(cluster_id="c", peer_id="n2", peers=peers, data_dir=tmp_path / "n2")
    log = PySyncObjLog(config, again)
    await log.start()
    assert again.items == [b"%d" % i for i in range(2, 41)] and again.restored == 1
    assert log.status().applied_index >= 40
    await log.stop()


async def test_transfer_that_was_broken_off_goes_on_where_it_was(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, machine):
        machine.gate.set()
        data = leader.snapshot(40)
        leader._piece(data[:50], True, False, 1)
        leader._piece(data[50:300], False, False, 1)
        await leader.is_heard_out()
        await leader.lose_connection()
        leader._piece(data[:50], True, False, 2)
        await leader.hears(type="snapshot_have", number=2, offset=300)
        # On its way before the leader heard that; what is here already is passed over.
        leader._piece(data[50:100], False, False, 2)
        leader._piece(data[300:], 300, False, 2)
        leader._piece(b"", False, True, 2)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=41)
        assert machine.items == [b"%d" % i for i in range(2, 41)]
        assert log.status().applied_index == 40


async def test_leader_that_does_not_know_of_going_on_sends_all_of_it(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, _, machine):
        machine.gate.set()
        leader._piece(leader.snapshot(40)[:200], True, False, 1)
        await leader.is_heard_out()
        await leader.lose_connection()
        leader.send_snapshot(40, 2)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=41)
        assert machine.items == [b"%d" % i for i in range(2, 41)]


async def test_another_snapshot_does_not_go_on_where_one_was_broken_off(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, _, machine):
        machine.gate.set()
        leader._piece(leader.snapshot(40)[:500], True, False, 1)
        await leader.is_heard_out()
        await leader.lose_connection()
        leader.send_snapshot(41, 2)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=42)
        assert machine.items == [b"%d" % i for i in range(2, 42)]
        assert not list((tmp_path / "n2" / "snapshots").glob("*.tmp"))


@pytest.mark.parametrize("where", [301, -1])
async def test_piece_that_does_not_follow_ends_the_transfer(tmp_path: Path, where: int) -> None:
    async with follower(tmp_path) as (leader, _, machine):
        machine.gate.set()
        data = leader.snapshot(40)
        leader._piece(data[:300], True, False, 1)
        leader._piece(data[300:], where, False, 1)
        await leader.hears(type="snapshot_end", number=1)
        leader.send_snapshot(40, 2)
        await leader.hears(type="next_node_idx", success=True, next_node_idx=41)
        assert machine.items == [b"%d" % i for i in range(2, 41)]
