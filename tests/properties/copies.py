"""Two copies of a state that get the same entries, and what must hold after each."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raftsched.core import codec, invariants, machine, rooms
from raftsched.core.commands import (
    ENTRY_VERSION,
    ActivateVersion,
    AssignTasks,
    Batch,
    Entry,
    UpdateSettings,
)
from raftsched.core.handlers import ends, forks, tasks
from raftsched.core.model import TERMINAL, Limit, Settings, Task
from raftsched.core.outcomes import Rejected
from raftsched.core.state import State
from raftsched.core.trees import Subtasks


def dump(state: State) -> list[bytes]:
    """The state as a snapshot."""
    chunks = list(codec.snapshot_chunks(state))
    state.end_snapshot()
    return chunks


def copy(state: State) -> State:
    """The same state by way of a snapshot."""
    return codec.restore_state(dump(state))


class Copies(RuleBasedStateMachine):
    """Two copies get the same entries; one is now and then restored from a snapshot."""

    def __init__(self) -> None:
        # So small that what is done in pieces takes several.
        self._usual = (forks.WINDOW, ends.STOPPED_MAX, tasks.DELETED_MAX)
        forks.WINDOW, ends.STOPPED_MAX, tasks.DELETED_MAX = 3, 1, 1
        super().__init__()

    def teardown(self) -> None:
        forks.WINDOW, ends.STOPPED_MAX, tasks.DELETED_MAX = self._usual

    @initialize(new=st.sampled_from([True, True, False]))
    def begin(self, new: bool) -> None:
        self.index = 0
        self.now = 1_000
        self.states = [State("c"), State("c")]
        self.ended: dict[str, Any] = {}
        small = Settings(tasks_open_max=14, keys_max=3, finished_max=4, losses_max=2)
        self.do(UpdateSettings(small))
        if new:
            self.do(ActivateVersion(ENTRY_VERSION))

    def do(self, command: Any) -> Any:
        self.index += 1
        self.now += 10
        batch = Batch("n1", 1, self.index, (command,))
        version = command.version if isinstance(command, ActivateVersion) else ENTRY_VERSION
        entry = Entry(max(1, version), 1, self.now, (batch,))
        entry = codec.decode_entry(codec.encode_entry(entry))
        before = copy(self.states[0])
        outcomes = [machine.apply(s, self.index, entry).outcomes[0][0] for s in self.states]
        assert outcomes[0] == outcomes[1]
        outcome = outcomes[0]
        if isinstance(outcome, Rejected):
            assert outcome.reason != "internal", outcome
            before.index, before.now = self.index, self.states[0].now
            assert dump(before) == dump(self.states[0]), "a refused command changed something"
        elif isinstance(command, AssignTasks):
            self._hold_capacities(outcome.value)
        return outcome

    def _hold_capacities(self, results: Any) -> None:
        """What an entry placed, its node had room for, and its queue and limits."""
        state = self.states[0]
        for placed in results:
            if not isinstance(placed, Rejected):
                node, usage = state.nodes[placed.node], state.usage[placed.node]
                assert usage.attempts <= node.slots + rooms.AHEAD_MAX
                assert usage.cpu_milli <= node.cpu_milli
                assert usage.memory_bytes <= node.memory_bytes
                assert (usage.resources or {}).get("gpu", 0) <= 1
                held = [state.tasks.get(task_id) for task_id in state.by_node[placed.node]]
                for task in held:
                    assert task is not None
                    if task.token == placed.token:
                        self._hold_gates(task)

    def _hold_gates(self, task: Task) -> None:
        state = self.states[0]
        queue = state.queues.get(task.queue)
        if queue is not None:
            assert not queue.paused
            assert not queue.concurrency or state.queue_use[task.queue].held <= queue.concurrency
        for key in task.policy.limits:
            count = state.limits.get(key, Limit(key)).count
            assert not count or state.limit_use[key] <= count

    @rule()
    def restore(self) -> None:
        self.states[1] = copy(self.states[1])

    @rule(limit=st.integers(0, 5), which=st.integers(0, 1))
    def settle_digest(self, limit: int, which: int) -> None:
        self.states[which].freeze_digest()
        self.states[which].frozen_digest(limit)

    @invariant()
    def holds(self) -> None:
        for state in getattr(self, "states", ()):
            assert invariants.check(state) == []
        if hasattr(self, "states"):
            # One of them was restored now and then, the other never: all rows are the same bytes in
            # the same order, and so is all that is derived from them.
            assert dump(self.states[0]) == dump(self.states[1])
            assert _derived(self.states[0]) == _derived(self.states[1])
            assert self.states[0].digest() == self.states[1].digest()
            for task in self.states[0].tasks.values():
                if task.id in self.ended and task.order == self.ended[task.id][0]:
                    assert task.status is self.ended[task.id][1], "a terminal status changed"
                if task.status in TERMINAL:
                    self.ended[task.id] = (task.order, task.status)


def _derived(state: State) -> Any:
    """Everything that is derived, in its order."""
    return (
        list(state.ready),
        {node_id: list(held) for node_id, held in state.by_node.items()},
        state.usage,
        (state.counts, state.open_count, state.finished_count),
        list(state.list_tasks()),
        list(state.list_tasks(newest_first=False)),
        list(state.finished),
        state.oldest_key(),
        list(state.timers),
        (state.relations.unique, state.relations.waiters, state.limit_use, state.spec_bytes),
        (state.relations.dependents, state.relations.expecting, state.finished.bytes),
        state.relations.speculative,
        sorted(state.firings.due),
        {n: (state.firings.runs_of(n), state.firings.slots_of(n)) for n in state.firings.names()},
        {parent: _subtasks(state.trees.of(parent)) for parent in state.trees.parents()},
        {name: use for name, use in state.queue_use.items() if use.open or use.held},
    )


def _subtasks(known: Subtasks | None) -> Any:
    assert known is not None
    orders = ([*known.ids], [*known.held], [*known.twins])
    return orders, known.under_way, known.counts, known.skipped, known.weight
