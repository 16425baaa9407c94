"""A peer without a cluster: the real state and the real ``apply``, and trouble on demand."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from raftsched.core import codec, digest, machine
from raftsched.core.commands import (
    ENTRY_VERSION,
    AnyCommand,
    Assignment,
    AssignTasks,
    AttemptFinished,
    AttemptStarted,
    Batch,
    CheckReplicas,
    Entry,
    RegisterNode,
    ReportAttempts,
    ReportDigest,
)
from raftsched.core.model import TERMINAL, Attempt, Check, Task
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.core.state import State
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.errors import NoLeader, OutputGone, UnknownPeer
from raftsched.peer.messages import MemberRow, MembersTold
from raftsched.peer.service import Consistency, OutputChunk, Told
from raftsched.raft.log import ENTRY_BYTES_MAX, LogStatus, Role

TOKEN = "a-token-of-the-tests"
#: The first entry's stamp; every further entry is a second later.
START_MS = 1_700_000_000_000


class FakeService:
    """Implements ``peer.service.PeerService`` in memory, for one peer of three."""

    def __init__(self, port: int, peer_id: str = "n1", cluster_id: str = "fake") -> None:
        ports = {"n1": 1, "n2": 2, "n3": 3, peer_id: port}
        self.config = PeerConfig(
            cluster_id=cluster_id,
            peer_id=peer_id,
            peers={
                name: PeerAddress(raft=f"127.0.0.1:{10 + n}", api=f"127.0.0.1:{ports[name]}")
                for n, name in enumerate(ports)
            },
            data_dir=Path("/nowhere"),
            token=TOKEN,
            hosts=("raftsched.example",),
        )
        self.started_at_ms = START_MS
        self.is_draining = False
        self.state = State(cluster_id)
        #: Raised by the next proposals, before anything is applied.
        self.propose_trouble: Exception | None = None
        #: Raised by the next proposals, after the command was applied.
        self.answer_trouble: Exception | None = None
        #: Raised by the next reads.
        self.read_trouble: Exception | None = None
        #: How many further proposals go well before the trouble starts.
        self.proposals_before_trouble = 0
        #: All commands proposed, and (consistency, min_index) of all reads.
        self.proposed: list[AnyCommand] = []
        self.reads: list[tuple[str, int]] = []
        #: What this node's disk has, by (task, attempt).
        self.outputs: dict[tuple[str, int], bytes] = {}
        self.results: dict[tuple[str, int], bytes] = {}
        #: What each peer comes to in a check.
        self.digests = dict.fromkeys(("n1", "n2", "n3"), bytes(16))
        self.numbers: dict[str, float] = {"raft_term": 3.0, "tasks_open": 0.0}
        self.current = LogStatus(
            peer_id=peer_id,
            role=Role.LEADER,
            term=3,
            leader="n1",
            last_index=0,
            durable_index=0,
            commit_index=0,
            applied_index=0,
            is_current=True,
            last_contact_ms=5,
            connected=("n2", "n3"),
        )
        self._applied = asyncio.Event()
        self.facts: dict[str, Told] = {}
        #: Changes of the group that were asked for, and what becomes of them.
        self.changes: list[tuple[dict[str, PeerAddress], str]] = []
        self.change_trouble = ""
        self.state.version = ENTRY_VERSION

    # What the API calls ------------------------------------------------------------------------

    def status(self) -> LogStatus:
        index = self.state.index
        return msgspec.structs.replace(
            self.current,
            last_index=index,
            durable_index=index,
            commit_index=index,
            applied_index=index,
        )

    async def propose(self, command: AnyCommand, timeout_seconds: float = 10.0) -> Outcome:
        self.proposed.append(command)
        await asyncio.sleep(0)
        in_trouble = self.proposals_before_trouble <= 0
        self.proposals_before_trouble -= 1
        if in_trouble and self.propose_trouble is not None:
            raise self.propose_trouble
        outcome = self.apply(command)
        if in_trouble and self.answer_trouble is not None:
            raise self.answer_trouble
        return outcome

    async def read(
        self,
        consistency: Consistency = "linearizable",
        min_index: int = 0,
        timeout_seconds: float = 5.0,
    ) -> State:
        self.reads.append((consistency, min_index))
        needed = consistency == "linearizable" or min_index > self.state.index
        if self.read_trouble is not None and needed:
            raise self.read_trouble
        return self.state

    async def wait_index(self, index: int, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.state.index <= index:
                    await self._applied.wait()
        except TimeoutError:
            pass

    async def wait_finished(self, task_id: str, timeout_seconds: float) -> Task | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while (task := self.state.tasks.get(task_id)) and task.status not in TERMINAL:
                    await self._applied.wait()
        return self.state.tasks.get(task_id)

    async def wait_changed(self, task_id: str, index: int, timeout_seconds: float) -> Task | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while (task := self.state.tasks.get(task_id)) and task.modify_index <= index:
                    await self._applied.wait()
        return self.state.tasks.get(task_id)

    def read_output(
        self, task_id: str, number: int, stream: str, offset: int, limit: int
    ) -> OutputChunk:
        kept = self.results if stream == "result" else self.outputs
        data = kept.get((task_id, number))
        if data is None:
            raise OutputGone(f"no {stream} of attempt {number} of {task_id} on this node")
        start = max(0, len(data) + offset) if offset < 0 else min(offset, len(data))
        piece = data[start : start + limit]
        return OutputChunk(piece, start + len(piece), start + len(piece) == len(data))

    async def transfer_leadership(self, target: str | None) -> str:
        if self.propose_trouble is not None:
            raise self.propose_trouble
        leader = target or "n2"
        self.current = msgspec.structs.replace(
            self.current, leader=leader, role=Role.LEADER if leader == "n1" else Role.FOLLOWER
        )
        return leader

    async def check_replicas(self, timeout_seconds: float) -> Check:
        voters = tuple(sorted(self.config.peers))
        outcome = await self.propose(CheckReplicas(voters, digest.FORMAT))
        assert isinstance(outcome, Accepted), outcome
        for peer_id, reported in sorted(self.digests.items()):
            self.apply(ReportDigest(peer_id, outcome.value, reported))
        assert self.state.check is not None
        return self.state.check

    async def change_members(
        self, add: dict[str, PeerAddress], remove: str, timeout_seconds: float
    ) -> MembersTold:
        if self.propose_trouble is not None:
            raise self.propose_trouble
        if remove and remove not in self.config.peers:
            raise UnknownPeer(f"{remove!r} is not a member")
        self.changes.append((add, remove))
        return MembersTold(1, self.change_trouble, "n4 lacks 7 entries", self.members())

    def members(self) -> tuple[MemberRow, ...]:
        status = self.current
        return tuple(
            MemberRow(
                id=peer_id,
                role="voter",
                raft=address.raft,
                api=address.api,
                is_leader=peer_id == status.leader,
                connected=peer_id == status.peer_id or peer_id in status.connected,
                replaces="",
                match_index=None,
                lag_entries=None,
                heard_ms=None,
            )
            for peer_id, address in sorted(self.config.peers.items())
        )

    def told(self) -> dict[str, Told]:
        return self.facts

    def metrics(self) -> dict[str, float]:
        return self.numbers

    # What tests call ---------------------------------------------------------------------------

    def apply(self, command: AnyCommand) -> Outcome:
        """Apply one command as an entry of its own, through the bytes a log would store."""
        index = self.state.index + 1
        batch = Batch("n1", 1, index, (command,))
        data = codec.encode_entry(
            Entry(ENTRY_VERSION, self.current.term, START_MS + 1_000 * index, (batch,), True)
        )
        assert len(data) <= ENTRY_BYTES_MAX, "the real log would refuse this entry"
        applied = machine.apply(self.state, index, codec.decode_entry(data))
        self._applied.set()
        self._applied = asyncio.Event()
        return applied.outcomes[0][0]

    def add_node(self, node_id: str = "n1", **changes: Any) -> None:
        """A node that is up, with four slots."""
        fields: dict[str, Any] = {
            "incarnation": f"{node_id}-1",
            "address": f"http://{self.config.peers[node_id].api}",
            "cpu_milli": 4_000,
            "memory_bytes": 1 << 30,
            "slots": 4,
            "clean": True,
            **changes,
        }
        self.apply(RegisterNode(node_id, **fields))

    def start(self, task_id: str, node_id: str = "n1") -> None:
        """The next attempt of a task runs on a node."""
        incarnation = self.state.nodes[node_id].incarnation
        placed = self.apply(AssignTasks((Assignment(task_id, node_id, incarnation),)))
        assert isinstance(placed, Accepted) and isinstance(placed.value[0], Attempt), placed
        started = (AttemptStarted(task_id, placed.value[0].token),)
        assert self.apply(ReportAttempts(node_id, incarnation, started)) == Accepted(())

    def finish(self, task_id: str, status: str = "succeeded", **fields: Any) -> None:
        """The attempt that runs has ended."""
        task = self.task(task_id)
        incarnation = self.state.nodes[task.node].incarnation
        report = AttemptFinished(task_id, task.token, status, **{"exit_code": 0, **fields})
        done = self.apply(ReportAttempts(task.node, incarnation, finished=(report,)))
        assert done == Accepted(()), done

    def run(self, task_id: str, node_id: str = "n1", output: bytes = b"") -> None:
        """One whole attempt that succeeds."""
        self.start(task_id, node_id)
        self.finish(task_id, output_tail=output[-2_048:], output_bytes=len(output))
        if output:
            self.outputs[task_id, self.task(task_id).attempt] = output

    def task(self, task_id: str) -> Task:
        """A task that is there."""
        task = self.state.tasks.get(task_id)
        assert task is not None
        return task

    def rows(self) -> dict[str, Any]:
        """All rows, for comparing the state before and after; not the index."""
        state = self.state
        _, *chunks = codec.snapshot_chunks(state)
        state.end_snapshot()
        return {
            "tasks and keys": chunks,
            "nodes": dict(state.nodes),
            "next_token": state.next_token,
            "settings": state.settings,
            "leader": self.current.leader,
        }

    def lose_the_leader(self) -> None:
        """Nobody leads: proposals fail at once and surely changed nothing."""
        self.propose_trouble = NoLeader("no leader for 3.2 s; retry later", leader="n2")
        self.current = msgspec.structs.replace(
            self.current, leader=None, role=Role.FOLLOWER, is_current=False, connected=()
        )
