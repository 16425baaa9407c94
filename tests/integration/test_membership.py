"""Members come and go while the log goes on: real logs over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from raftsched.raft.config import LogConfig
from raftsched.raft.log import ChangeRefused, LogError, MustStop, NoQuorum, NotLeader, Role
from raftsched.raft.membership import Address, Configuration
from raftsched.raft.pysyncobj_log import PySyncObjLog
from tests.ports import free_port, free_ports

from .logs import ListMachine, Logs, numbered, until

SMALL = {"journal_bytes_max": 200_000, "segment_bytes": 50_000}


class Group(Logs):
    """Logs whose peers know only those of their own configuration file."""

    def __init__(self, directory: Path, size: int, **options: Any) -> None:
        super().__init__(directory, size, ListMachine, **options)
        self.founders = dict(self.peers)
        #: What each peer was told when it learnt that it was removed.
        self.removed: dict[str, Exception] = {}
        #: Peers that joined -> what their files say.
        self.files: dict[str, dict[str, str]] = {}

    async def start(self, peer: str) -> None:
        file = self.files.get(peer, self.founders)
        config = LogConfig(
            cluster_id="c",
            peer_id=peer,
            peers=dict(file),
            data_dir=self.directory / peer,
            joins=peer in self.files,
            **self.options,
        )
        self.machines[peer] = ListMachine()
        log = PySyncObjLog(config, self.machines[peer])

        def note(error: MustStop) -> None:
            self.removed.setdefault(peer, error)

        log.on_removed = note
        await log.start()
        self.logs[peer] = log

    async def join(self, peer: str, knows: dict[str, str] | None = None) -> Address:
        """Start a new peer; its file has the founders, or ``knows``, and itself."""
        self.peers[peer] = f"127.0.0.1:{free_port()}"
        known = self.founders if knows is None else knows
        self.files[peer] = {**known, peer: self.peers[peer]}
        await self.start(peer)
        return Address(self.peers[peer])

    async def change(
        self, add: dict[str, Address] | None = None, remove: str | None = None, seconds: float = 10
    ) -> None:
        """Asked for until somebody who leads has done it, as the peer layer does."""
        async with asyncio.timeout(seconds + 10):
            while True:
                leader = self.logs[await self.leader()]
                try:
                    await leader.change_membership(add, remove, seconds)
                    return
                except NotLeader:
                    await asyncio.sleep(0.02)

    def voters(self, peer: str) -> list[str]:
        return sorted(self.logs[peer].members().voters)

    async def agree(self, *voters: str) -> None:
        """Return once those of ``voters`` that run know exactly these."""
        await until(lambda: all(self.voters(p) == [*voters] for p in voters if p in self.logs))

    async def leave(self, peer: str) -> None:
        """The peer has heard that it was removed, and is stopped."""
        await until(lambda: peer in self.removed)
        await self.stop(peer)

    async def follower(self) -> str:
        leader = await self.leader()
        return next(p for p in self.logs if p != leader)

    def cut_off(self, *peers: str) -> None:
        """These hear nothing of the others any more, nor the others of them."""
        for peer, log in self.logs.items():
            inside = peer in peers

            def passes(other: str, inside: bool = inside) -> bool:
                return inside == (other in peers)

            _partition(log, passes)

    def heal(self) -> None:
        for log in self.logs.values():
            _partition(log, lambda other: True)


def _partition(log: PySyncObjLog, passes: Any) -> None:
    """Messages of others do not arrive; connections stay."""
    log._transport.on_message = lambda peer, message: (
        log._received(peer, message) if passes(peer) else None
    )


@asynccontextmanager
async def group(directory: Path, size: int = 3, **options: Any) -> AsyncIterator[Group]:
    found = Group(directory, size, **options)
    for peer in found.founders:
        await found.start(peer)
    try:
        yield found
    finally:
        for peer in list(found.logs):
            await found.stop(peer)


async def test_new_peer_catches_up_and_then_votes(tmp_path: Path) -> None:
    async with group(tmp_path) as cluster:
        await cluster.add(numbered(0, 50))
        address = await cluster.join("n4")
        await cluster.change({"n4": address})
        await cluster.agree("n1", "n2", "n3", "n4")
        await cluster.add(numbered(50, 60))
        assert cluster.machines["n4"].items == numbered(0, 60)


async def test_peer_that_joins_alone_elects_nobody(tmp_path: Path) -> None:
    async with group(tmp_path, 1) as cluster:
        await cluster.add([b"x"])
        await cluster.join("n2")
        waits = cluster.logs["n2"].config.election_max_seconds
        await asyncio.sleep(2.5 * waits)
        status = cluster.logs["n2"].status()
        assert (status.role, status.term, status.last_index) == (Role.FOLLOWER, 0, 1)


@pytest.mark.parametrize("new", ["n0", "n4"])
async def test_new_peer_that_knows_nobody_is_dialled(tmp_path: Path, new: str) -> None:
    """One with a smaller id as always, one with a larger id after a while."""
    async with group(tmp_path, 1) as cluster:
        address = await cluster.join(new, {})
        await cluster.change({new: address})
        await cluster.agree(*sorted(["n1", new]))


async def test_learner_is_not_counted_whether_it_is_there_or_not(tmp_path: Path) -> None:
    async with group(tmp_path, 2) as cluster:
        await cluster.add([b"a"])
        address = await cluster.join("n3")
        leader = await cluster.leader()
        other = next(p for p in cluster.founders if p != leader)
        log = cluster.logs[leader]
        log._changes._behind = lambda peer_id: "kept a learner"  # type: ignore[method-assign]
        with pytest.raises(NoQuorum, match="kept a learner"):
            await log.change_membership({"n3": address}, None, 0.5)
        await until(lambda: log.match_index("n3") == log.status().last_index)
        await cluster.stop(other)
        before = log.status().commit_index
        log.propose(b"b")
        await until(lambda: log.match_index("n3") == log.status().last_index > before)
        assert log.status().commit_index == before
        await cluster.start(other)
        await cluster.stop("n3")
        await cluster.add([b"c"])


async def test_laggard_of_a_learner_gets_a_snapshot_and_is_promoted(tmp_path: Path) -> None:
    async with group(tmp_path, **SMALL) as cluster:
        for round_ in range(5):
            await cluster.add([b"%d-%d-" % (round_, i) + bytes(900) for i in range(200)])
        leader = cluster.logs[await cluster.leader()]
        await until(lambda: leader.journal.first_index > 1)
        address = await cluster.join("n4")
        await cluster.change({"n4": address})
        await cluster.add([b"last"])
        assert cluster.machines["n4"].restored
        assert cluster.machines["n4"].items[-1] == b"last"
        await cluster.stop("n4")
        await cluster.start("n4")
        assert cluster.voters("n4") == ["n1", "n2", "n3", "n4"]
        await cluster.add([b"very last"])


async def test_snapshot_carries_the_configuration_to_a_laggard(tmp_path: Path) -> None:
    """The entry that removed a peer is trimmed away before the laggard is back."""
    async with group(tmp_path, 4, **SMALL) as cluster:
        await cluster.add([b"first"])
        leader = await cluster.leader()
        away, goes = [p for p in cluster.founders if p != leader][:2]
        await cluster.stop(away)
        await cluster.change(remove=goes)
        await cluster.leave(goes)
        for round_ in range(5):
            await cluster.add([b"%d-%d-" % (round_, i) + bytes(900) for i in range(200)])
        log = cluster.logs[await cluster.leader()]
        await until(lambda: log.journal.first_index > log.journal.membership.index)
        await cluster.start(away)
        await cluster.add([b"last"])
        assert cluster.machines[away].restored
        rest = sorted(set(cluster.founders) - {goes})
        assert cluster.voters(away) == rest
        await cluster.stop(away)
        await cluster.start(away)
        assert cluster.voters(away) == rest
        assert cluster.logs[away].members().removed == (goes,)
        await cluster.add([b"very last"])


async def test_follower_is_removed_hears_it_and_never_comes_back(tmp_path: Path) -> None:
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        goes = await cluster.follower()
        await cluster.change(remove=goes)
        await cluster.leave(goes)
        assert "was removed from cluster 'c'" in str(cluster.removed[goes])
        assert getattr(cluster.removed[goes], "exit_code", None) == 13
        await cluster.add([b"b"])
        with pytest.raises(ChangeRefused, match="never comes back"):
            await cluster.change({goes: Address(cluster.founders[goes])})


async def test_removed_peer_that_was_away_is_told_when_it_comes_back(tmp_path: Path) -> None:
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        goes = await cluster.follower()
        await cluster.stop(goes)
        await cluster.change(remove=goes)
        term = cluster.logs[await cluster.leader()].status().term
        await cluster.start(goes)
        await cluster.leave(goes)
        assert cluster.logs[await cluster.leader()].status().term == term


async def test_removed_peer_that_heard_nothing_disturbs_nobody(tmp_path: Path) -> None:
    """It hears no heartbeats and no word of its removal, and asks for votes all the time."""
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        goes = await cluster.follower()
        for peer, log in cluster.logs.items():
            if peer != goes:  # They know of the removal, and say nothing of it.
                log._transport._removed = frozenset()
                log._transport.set_members = lambda addresses, removed: None  # type: ignore[method-assign]
        before = cluster.logs[await cluster.leader()].status()
        await cluster.change(remove=goes)
        term, log = before.term, cluster.logs[goes]
        await asyncio.sleep(3 * log.config.election_max_seconds)
        assert (
            goes not in cluster.removed and goes in cluster.logs[before.peer_id].status().connected
        )
        assert (log.status().role, log.status().term) == (Role.FOLLOWER, term)
        assert await cluster.leader() == before.peer_id
        assert cluster.logs[before.peer_id].status().term == term


async def test_leader_is_removed_by_its_successor(tmp_path: Path) -> None:
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        old = await cluster.leader()
        with pytest.raises(NotLeader) as caught:
            await cluster.logs[old].change_membership(None, old, 5)
        assert caught.value.leader not in (None, old)
        await cluster.change(remove=old)
        await cluster.leave(old)
        await cluster.add([b"b"])
        await cluster.agree(*sorted(cluster.logs))


@pytest.mark.parametrize("whom", ["leader", "follower"])
async def test_replacement_under_load_fails_no_write(tmp_path: Path, whom: str) -> None:
    async with group(tmp_path) as cluster:
        await cluster.add([b"first"])
        old = await cluster.leader() if whom == "leader" else await cluster.follower()
        taken: list[bytes] = []
        is_over = asyncio.Event()

        async def load() -> None:
            while not is_over.is_set():
                item = b"%d" % len(taken)
                try:
                    cluster.logs[await cluster.leader()].propose(item)
                    taken.append(item)
                except LogError:
                    pass  # Surely not appended, in the moment of a hand-over.
                await asyncio.sleep(0.002)

        loading = asyncio.create_task(load())
        address = await cluster.join("n4")
        asked = cluster.logs[await cluster.leader()]
        await asked.change_membership({"n4": address}, old, 10)
        await cluster.leave(old)
        before = len(taken)
        await until(lambda: len(taken) > before + 20)
        is_over.set()
        await loading
        await cluster.add([b"last"])
        items = cluster.machines["n4"].items
        assert [item for item in items if item not in (b"first", b"last")] == taken
        await cluster.agree(*sorted(cluster.logs))
        assert cluster.logs["n4"].members().replaces == {}


async def test_replacement_goes_on_under_the_next_leader(tmp_path: Path) -> None:
    """Nobody has to ask again: what is wanted stands in the configuration."""
    async with group(tmp_path) as cluster:
        await cluster.add([b"first"])
        old = await cluster.follower()
        port = free_port()
        with pytest.raises(NoQuorum, match="n4 does not answer"):
            await cluster.change({"n4": Address(f"127.0.0.1:{port}")}, old, seconds=0.5)
        leader = await cluster.leader()
        target = next(p for p in cluster.logs if p not in (leader, old))
        await cluster.logs[leader].transfer_leadership(target, 5)
        cluster.peers["n4"] = f"127.0.0.1:{port}"
        cluster.files["n4"] = {**cluster.founders, "n4": cluster.peers["n4"]}
        await cluster.start("n4")
        await cluster.leave(old)
        await cluster.agree(*sorted(cluster.logs))


async def test_five_peers_become_three_and_one_again(tmp_path: Path) -> None:
    async with group(tmp_path, 5) as cluster:
        await cluster.add([b"a"])
        for left in (4, 3, 2, 1):
            goes = await cluster.follower()
            await cluster.change(remove=goes)
            await cluster.leave(goes)
            assert len(cluster.voters(await cluster.leader())) == left
        await cluster.add([b"b"])
        alone = await cluster.leader()
        with pytest.raises(ChangeRefused, match="no voter would be left"):
            await cluster.change(remove=alone)
        address = await cluster.join("n6")
        await cluster.change({"n6": address})
        await cluster.add([b"c"])
        assert cluster.machines["n6"].items == [b"a", b"b", b"c"]


async def test_removal_that_would_lose_the_majority_is_refused(tmp_path: Path) -> None:
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        leader = await cluster.leader()
        dead, alive = (p for p in cluster.founders if p != leader)
        await cluster.stop(dead)
        await until(lambda: dead not in cluster.logs[leader].status().connected)
        with pytest.raises(
            ChangeRefused, match=f"{alive} cannot be removed.*{dead} did not answer"
        ):
            await cluster.logs[leader].change_membership(None, alive, 5)
        await cluster.change(remove=dead)
        await cluster.add([b"b"])


async def test_second_change_waits_for_the_first_to_be_committed(tmp_path: Path) -> None:
    """S11: two changes at once have majorities that do not meet."""
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        leader = cluster.logs[await cluster.leader()]
        cluster.cut_off(leader.config.peer_id)
        with pytest.raises(NoQuorum):
            await leader.change_membership({"n4": Address("127.0.0.1:1")}, None, 0.05)
        assert sorted(leader.members().learners) == ["n4"]
        with pytest.raises(ChangeRefused, match="not committed yet"):
            await leader.change_membership({"n5": Address("127.0.0.1:2")}, None, 0.05)
        with pytest.raises(ChangeRefused, match="not committed yet"):
            await leader.change_membership(None, "n4", 0.05)


async def test_change_of_a_cut_off_leader_is_undone_when_it_is_back(tmp_path: Path) -> None:
    """And each side of a partition with a change of its own: only one of them can commit."""
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        old = await cluster.leader()
        rest = [p for p in cluster.logs if p != old]
        cluster.cut_off(old)
        with pytest.raises(NoQuorum):
            await cluster.logs[old].change_membership({"n4": Address("127.0.0.1:1")}, None, 0.05)
        assert "n4" in cluster.logs[old].members().learners
        async with asyncio.timeout(10):
            while not any(cluster.logs[p].status().role is Role.LEADER for p in rest):
                await asyncio.sleep(0.01)
        new = next(p for p in rest if cluster.logs[p].status().role is Role.LEADER)
        await until(lambda: cluster.logs[new].status().is_current)
        # The one that is cut off is connected, and will not answer what its program knows.
        await until(lambda: not cluster.logs[new]._changes._not_understood())
        address = await cluster.join("n5")
        await cluster.logs[new].change_membership({"n5": address}, None, 10)
        assert "n5" not in cluster.logs[old].members().members
        cluster.heal()
        await until(lambda: cluster.voters(old) == ["n1", "n2", "n3", "n5"])
        assert cluster.logs[old].members().learners == {}
        await cluster.add([b"b"])


async def test_no_change_before_an_entry_of_the_leaders_own_term(tmp_path: Path) -> None:
    """The correction of 2015: else two leaders change the same configuration, each its own way."""
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        seen: list[str] = []
        for peer, log in cluster.logs.items():

            def changed(status: Any, log: PySyncObjLog = log, peer: str = peer) -> None:
                if status.role is Role.LEADER and not status.is_current:
                    with pytest.raises(ChangeRefused, match="has not applied an entry"):
                        log._changes.begin({"n4": Address("127.0.0.1:1")}, None)
                    seen.append(peer)

            log.on_status = changed
        await cluster.stop(await cluster.leader())
        leader = await cluster.leader()
        assert seen == [leader]
        assert cluster.logs[leader].members().learners == {}


async def test_restart_in_the_middle_of_a_change_goes_on_with_it(tmp_path: Path) -> None:
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        port = free_port()
        with pytest.raises(NoQuorum):
            await cluster.change({"n4": Address(f"127.0.0.1:{port}")}, seconds=0.3)
        for peer in list(cluster.logs):
            await cluster.stop(peer)
        for peer in cluster.founders:
            await cluster.start(peer)
            assert sorted(cluster.logs[peer].members().learners) == ["n4"]
        cluster.peers["n4"] = f"127.0.0.1:{port}"
        cluster.files["n4"] = {"n4": cluster.peers["n4"]}
        await cluster.start("n4")
        await cluster.agree("n1", "n2", "n3", "n4")


async def test_all_peers_come_back_with_new_addresses(tmp_path: Path) -> None:
    """The file's addresses count, not those that the configuration remembers."""
    async with group(tmp_path) as cluster:
        address = await cluster.join("n4")
        await cluster.change({"n4": address})
        await cluster.add([b"a"])
        for peer in list(cluster.logs):
            await cluster.stop(peer)
        moved = dict(zip(cluster.peers, map(str, free_ports(4)), strict=True))
        cluster.peers.update({p: f"127.0.0.1:{port}" for p, port in moved.items()})
        cluster.founders = {p: a for p, a in cluster.peers.items() if p != "n4"}
        cluster.files["n4"] = dict(cluster.peers)
        for peer in cluster.peers:
            await cluster.start(peer)
        await cluster.add([b"b"])
        assert all(m.items == [b"a", b"b"] for m in cluster.machines.values())


async def test_what_stands_already_is_not_made_again(tmp_path: Path) -> None:
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        goes = await cluster.follower()
        await cluster.change(remove=goes)
        leader = cluster.logs[await cluster.leader()]
        index = leader.journal.membership.index
        await cluster.change(remove=goes)
        assert leader.journal.membership.index == index
        with pytest.raises(ChangeRefused, match="'n9' is not a member"):
            await cluster.change(remove="n9")


async def test_no_change_while_a_member_would_not_understand_it(tmp_path: Path) -> None:
    """Programs of before skip a configuration, and would go on counting by the old one."""
    async with group(tmp_path) as cluster:
        await cluster.add([b"a"])
        leader = cluster.logs[await cluster.leader()]
        await until(lambda: len(leader.peer_views()) == 2)
        old, view = sorted(leader.peer_views().items())[0]
        leader.peer_views()[old] = view._replace(about={})
        with pytest.raises(ChangeRefused, match=f"{old} runs a program that knows no changes"):
            await leader.change_membership({"n4": Address("127.0.0.1:1")}, None, 0.05)
        assert leader.members().learners == {}


def test_joining_configuration_has_no_majority() -> None:
    assert not Configuration().is_majority(frozenset({"n1"}))
