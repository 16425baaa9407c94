"""Clients of a simulated cluster: they submit, cancel and read, and remember what they were told.

An operation ends as ``ok`` (it happened), ``fail`` (it surely did not) or ``info`` (nobody knows).
A client that does not know tries again under the same id, often at another peer, as real ones do.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec

from raftsched.core.commands import CancelTask, SubmitTasks
from raftsched.core.model import NewTask
from raftsched.core.outcomes import Accepted, Rejected, Submitted
from raftsched.core.spec import TaskSpec
from raftsched.core.versions import TREES
from raftsched.peer.errors import PeerError, UnknownOutcome
from raftsched.peer.peer import Peer
from raftsched.raft.log import LogError
from raftsched.testing import asks
from raftsched.testing.checks import Checker
from raftsched.testing.loop import PeerLoop
from raftsched.testing.machine import Machine
from raftsched.testing.world import World

#: A client waits so long for an answer, in seconds.
TIMEOUT_SECONDS = 5.0
#: It tries again after this.
AGAIN_SECONDS = 0.5
TRIES_MAX = 4
#: Operations come in bursts of so many on average, within so many seconds: they meet each other in
#: one entry, one sync, one message, and between bursts timers are alone.
BURST_OPERATIONS = 3.0
BURST_SECONDS = 0.02
_encoder = msgspec.msgpack.Encoder()


class Workload:
    """All clients.  What they know is compared with the state in the end by `check`."""

    def __init__(
        self,
        world: World,
        machines: Mapping[str, Machine],
        checker: Checker,
        *,
        per_second: float = 4.0,
        spec_bytes: tuple[int, int] = (20, 400),
        wishes: asks.Wishes = asks.USUAL,
    ) -> None:
        self._world = world
        self._machines = machines
        self._checker = checker
        self._chance = world.chance("clients")
        self._per_second = per_second
        self._wishes = wishes
        self._spec_bytes = spec_bytes
        self._is_open = True
        self._number = 0
        #: Tasks whose submission was acknowledged, and those nobody ever heard of.
        self.acknowledged: dict[str, float] = {}
        self.refused: dict[str, None] = {}
        #: Acknowledged cancels: attempts the task had had when it was.
        self.cancelled: dict[str, int] = {}
        #: By key: the ids that were answered; the first id of every try.
        self._by_key: dict[str, tuple[str, ...]] = {}
        self._sent_with: dict[str, list[str]] = {}
        self.invoked = 0
        self.ok = 0
        #: Operations without an answer: the process that was asked, and when.
        self._open: dict[int, tuple[PeerLoop, float]] = {}
        self.reads = 0
        world.after(0.5, self._next)

    def stop(self) -> None:
        """Begin nothing new."""
        self._is_open = False

    def _next(self) -> None:
        if not self._is_open:
            return
        chance = self._chance
        self._world.after(chance.expovariate(self._per_second / BURST_OPERATIONS), self._next)
        for _ in range(1 + int(chance.expovariate(1 / (BURST_OPERATIONS - 0.5)))):
            self._world.after(chance.random() * BURST_SECONDS, self._operate)

    def _operate(self) -> None:
        kind = self._chance.random()
        if kind < 0.78 or not self.acknowledged:
            count = 1 if self._chance.random() < 0.88 else self._chance.randint(2, 12)
            tasks = [self._task() for _ in range(count)]
            key = f"k{self._number}" if self._chance.random() < 0.3 else ""
            self._submit(tasks, key, 1)
            if key and self._chance.random() < 0.3:
                self._submit(self._anew(tasks), key, 2)
        elif kind < 0.9:
            self._read()
        else:
            self._cancel(self._chance.choice(list(self.acknowledged)))

    def _task(self) -> NewTask:
        self._number += 1
        size = self._chance.randint(*self._spec_bytes)
        spec = TaskSpec(command=("simulated", "x" * size))
        priority = self._chance.randint(48, 52)
        asked = asks.draw(self._chance, self._wishes, self._knows_all)
        return NewTask(
            id=f"t{self._number:06d}",
            spec=_encoder.encode(spec),
            cpu_milli=100,
            memory_bytes=1 << 20,
            priority=priority,
            attempts_max=asked.attempts_max,
            policy=asked.policy,
            extra=asked.extra,
        )

    @property
    def _knows_all(self) -> bool:
        """Is the version that has all wishes in force, as far as anybody has applied?"""
        peers = [machine.peer for machine in self._machines.values() if machine.peer is not None]
        return any(peer.replica.state.version >= TREES for peer in peers)

    def _anew(self, tasks: list[NewTask]) -> list[NewTask]:
        """The same work under other ids, as a client sends it that only has its key."""
        fresh = []
        for task in tasks:
            self._number += 1
            fresh.append(msgspec.structs.replace(task, id=f"t{self._number:06d}"))
        return fresh

    def _machine(self) -> Machine | None:
        up = [machine for machine in self._machines.values() if machine.is_serving]
        return self._chance.choice(up) if up else None

    def _ask(self, machine: Machine, work: Any, *args: Any) -> None:
        loop, peer = machine.loop, machine.peer
        assert loop is not None

        number = self.invoked

        async def operation() -> None:
            self._open[number] = (loop, self._world.time)
            await work(peer, *args)
            del self._open[number]
            machine.reach("answered")

        loop.call_soon(lambda: machine.keep(loop.start(operation())))

    # Operations ----------------------------------------------------------------------------------

    def _submit(self, tasks: list[NewTask], key: str, attempt: int) -> None:
        machine = self._machine()
        if machine is None:
            return
        self.invoked += 1
        if key:
            self._sent_with.setdefault(key, []).append(tasks[0].id)
        self._ask(machine, self._submitting, tasks, key, attempt)

    async def _submitting(self, peer: Peer, tasks: list[NewTask], key: str, attempt: int) -> None:
        command = SubmitTasks(tuple(tasks), key=key, request_hash=key.encode())
        try:
            outcome = await peer.propose(command, TIMEOUT_SECONDS)
        except (PeerError, LogError) as error:
            if attempt == 1 and not isinstance(error, UnknownOutcome):
                self.refused.update((task.id, None) for task in tasks)
            elif attempt < TRIES_MAX:
                again = self._anew(tasks) if key else tasks
                self._world.after(AGAIN_SECONDS, self._submit, again, key, attempt + 1)
            return
        if key and isinstance(outcome, Accepted):
            self._keyed(tasks, key, outcome.value)
        else:
            self._submitted(tasks, outcome, attempt)

    def _keyed(self, tasks: list[NewTask], key: str, value: Submitted) -> None:
        """Whoever asks with a key hears of the same tasks (G2)."""
        self.ok += 1
        known = self._by_key.setdefault(key, value.task_ids)
        if known != value.task_ids:
            self._checker.violated(f"key {key} was answered with {known} and {value.task_ids}")
        for task_id in value.task_ids:
            self.acknowledged.setdefault(task_id, self._world.time)

    def _submitted(self, tasks: list[NewTask], outcome: Accepted | Rejected, attempt: int) -> None:
        if isinstance(outcome, Rejected):
            self._checker.violated(f"submission of {tasks[0].id} was refused: {outcome}")
            return
        self.ok += 1
        value: Submitted = outcome.value
        for position, task in enumerate(tasks):
            # A repeat without a key finds its own tasks there already; where another has the
            # unique key, the answer is that one.
            if position not in dict(value.refused) or attempt > 1:
                self.acknowledged.setdefault(value.task_ids[position], self._world.time)
            else:
                self._checker.violated(f"{task.id} is a duplicate at its first submission")

    def _cancel(self, task_id: str) -> None:
        machine = self._machine()
        if machine is not None:
            self.invoked += 1
            self._ask(machine, self._cancelling, task_id)

    async def _cancelling(self, peer: Peer, task_id: str) -> None:
        try:
            outcome = await peer.propose(CancelTask(task_id, "by a client"), TIMEOUT_SECONDS)
        except (PeerError, LogError):
            return
        self.ok += 1
        task = peer.replica.state.tasks.get(task_id)
        if isinstance(outcome, Accepted) and task is not None:
            self.cancelled.setdefault(task_id, len(task.attempts))

    def _read(self) -> None:
        machine = self._machine()
        if machine is not None:
            self.invoked += 1
            self._ask(machine, self._reading, list(self.acknowledged)[-20:])

    async def _reading(self, peer: Peer, must_see: list[str]) -> None:
        """A linearizable read sees everything that was acknowledged before it began (G4)."""
        try:
            state = await peer.read(timeout_seconds=TIMEOUT_SECONDS)
        except (PeerError, LogError):
            return
        self.reads += 1
        for task_id in must_see:
            if task_id not in state.tasks:
                self._checker.violated(
                    f"a read on {peer.config.peer_id} at {state.index} does not see {task_id}"
                )

    # The end -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Compare what clients were told with what is there."""
        peers = [
            m.peer for m in self._machines.values() if m.loop is not None and m.peer is not None
        ]
        if not peers:
            self._checker.violated("no peer runs at the end")
            return
        for loop, since in self._open.values():
            if not loop.is_dead and self._world.time - since > TIMEOUT_SECONDS + 2:
                self._checker.violated(f"{loop.name} never answered what was asked at {since:.3f}")
        state = max((peer.replica.state for peer in peers), key=lambda s: s.index)
        for task_id in self.acknowledged:
            if task_id not in state.tasks:
                self._checker.violated(f"acknowledged task {task_id} is lost")
        for key, firsts in self._sent_with.items():
            there = [task_id for task_id in firsts if task_id in state.tasks]
            if len(there) > 1:
                self._checker.violated(f"key {key} took effect more than once: {there}")
        for task_id in self.refused:
            if task_id in state.tasks:
                self._checker.violated(f"task {task_id} is there; its client was told it is not")
        for task_id, attempts in self.cancelled.items():
            task = state.tasks.get(task_id)
            if task is not None and len(task.attempts) > attempts:
                self._checker.violated(f"{task_id} was assigned after its cancel was acknowledged")


def draw(chance: random.Random, low: float, high: float) -> float:
    """A duration: short ones are as likely as long ones."""
    return float(low * (high / low) ** chance.random())
