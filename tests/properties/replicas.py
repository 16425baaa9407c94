"""Two replicas of one log on the pure core, and what must hold after every command."""

from __future__ import annotations

from collections import Counter
from typing import Any

from raftsched.core import codec, invariants, machine
from raftsched.core.commands import ActivateVersion, Batch, Entry, PauseTask
from raftsched.core.handlers.ends import OVERTAKEN
from raftsched.core.handlers.forks import KEPT
from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.outcomes import Accepted, Rejected
from raftsched.core.state import State
from raftsched.core.trees import awaits_twin
from raftsched.core.versions import PAUSED_TWINS
from tests.unit.core.builders import BEGIN_MS, STEP_MS, TERM, dump

#: Commands from one look at all of the second replica to the next.
OTHER_EVERY = 10


class Replicas:
    """Two replicas of one log."""

    def __init__(self, version: int) -> None:
        self.states = [State("c"), State("c")]
        for state in self.states:
            state.version = version
        self.index, self.now = 0, BEGIN_MS
        self.ended: dict[tuple[str, int], TaskStatus] = {}
        #: How many of each were applied, by their names, and things that came to pass.
        self.counts: Counter[str] = Counter()

    @property
    def state(self) -> State:
        return self.states[0]

    def task(self, task_id: str) -> Task:
        found = self.state.tasks.get(task_id)
        assert found is not None, task_id
        return found

    def do(self, command: Any) -> Any:
        """Apply one command; its value, or the `Rejected`."""
        self.index += 1
        self.now += STEP_MS
        version = self.state.version
        version = command.version if isinstance(command, ActivateVersion) else version
        batch = Batch("n1", TERM, self.index, (command,))
        data = codec.encode_entry(Entry(version, TERM, self.now, (batch,), agreed=True))
        before = dump(self.state)[1:]
        known = {task.id: task for task in self.state.tasks.values()}
        applied = [
            machine.apply(state, self.index, codec.decode_entry(data)) for state in self.states
        ]
        assert applied[0] == applied[1]
        outcome = applied[0].outcomes[0][0]
        name = type(command).__name__
        self.counts[name] += isinstance(outcome, Accepted)
        if isinstance(outcome, Rejected):
            assert outcome.reason != "internal", (command, outcome)
            assert dump(self.state)[1:] == before, (command, "a refused command changed something")
        self._hold(command, known, applied[0].events)
        return outcome.value if isinstance(outcome, Accepted) else outcome

    def _hold(self, command: Any, known: dict[str, Task], events: list[Any]) -> None:
        # What is derived on the other one is looked at now and then: its rows are the same.
        looked_at = self.states if self.index % OTHER_EVERY == 0 else self.states[:1]
        violated = [line for state in looked_at for line in invariants.check(state)]
        assert not violated, f"{type(command).__name__}: {violated}"
        assert self.states[0].digest() == self.states[1].digest(), command
        told = Counter(event.task_id for event in events if event.kind == "task_finished")
        ends: Counter[str] = Counter()
        for task in self.state.tasks.values():
            key = (task.id, task.order)
            if task.status in TERMINAL and key not in self.ended:
                self.ended[key] = task.status
                ends[task.id] += 1
                self.counts[f"ended by {task.reason}"] += task.reason in (KEPT, OVERTAKEN)
            if awaits_twin(task) and task.paused:
                self.counts["waits for its twin in a pause"] += 1
            assert self.ended.get(key, task.status) is task.status, (command, task.id)
        gone = {event.task_id for event in events if event.kind == "task_deleted"}
        assert {t: n for t, n in told.items() if t not in gone} == ends, (command, told, ends)
        if isinstance(command, PauseTask) and self.state.version >= PAUSED_TWINS:
            for task in self.state.tasks.values():
                assert task.status is known[task.id].status, (command, task.id, task.status)

    def restore(self) -> None:
        """The second replica starts anew from a snapshot of its own."""
        self.states[1] = codec.restore_state(list(dump(self.states[1])))
        assert dump(self.states[1]) == dump(self.states[0])
