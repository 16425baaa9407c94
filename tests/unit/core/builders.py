"""Small builders: rows and entries with the fields a test does not care about filled in."""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.core import codec, invariants, machine
from raftsched.core.commands import (
    ENTRY_VERSION,
    ActivateVersion,
    AddSubtasks,
    AnyCommand,
    ApplyRetention,
    Assignment,
    AssignTasks,
    AttemptFinished,
    AttemptStarted,
    BackfillSchedule,
    Batch,
    CancelTask,
    CancelTasks,
    CheckReplicas,
    DeleteLimit,
    DeleteQueue,
    DeleteSchedule,
    DeleteTask,
    DeleteTemplate,
    DrainNode,
    EditTask,
    Entry,
    Fire,
    FireSlots,
    FireTimers,
    LoseAttempts,
    NodeLeft,
    NodeLost,
    PauseSchedule,
    PauseTask,
    PutLimit,
    PutQueue,
    PutSchedule,
    PutTemplate,
    RegisterNode,
    ReportAttempts,
    ReportDigest,
    ResetClock,
    ResumeTask,
    RunNow,
    SetEligibility,
    SetNodeLabels,
    Speculate,
    Straggler,
    SubmitTasks,
    TriggerSchedule,
    UpdateSettings,
)
from raftsched.core.model import (
    Attempt,
    AttemptStatus,
    Eligibility,
    Limit,
    NewTask,
    Node,
    NodeStatus,
    Queue,
    Settings,
    Task,
    TaskStatus,
    Terms,
)
from raftsched.core.outcomes import Accepted, Event, Outcome, Rejected
from raftsched.core.policy import Policy
from raftsched.core.schedule import Schedule
from raftsched.core.state import State

#: Stamp of a replica's first entry; each further one adds `STEP_MS`.
BEGIN_MS = 1_000_000
STEP_MS = 10
#: Of the leader of all entries.
TERM = 1
#: A task that failed is ready again at once.
AT_ONCE = Policy(backoff_base_ms=0)


def new_task(task_id: str = "t1", **fields: Any) -> NewTask:
    """A task as a submission carries it; one with several attempts does not wait in between."""
    if fields.get("attempts_max", 1) > 1:
        fields.setdefault("policy", AT_ONCE)
    return NewTask(**{"id": task_id, "spec": b"spec", **fields})


def terms(**fields: Any) -> Terms:
    """What a task asks of the scheduler: nothing in particular unless said otherwise."""
    row = {
        "namespace": "default",
        "queue": "default",
        "priority": 50,
        "cpu_milli": 0,
        "memory_bytes": 0,
        "strategy": "spread",
        "attempts_max": 1,
    }
    return Terms(**{**row, **fields})


def task(task_id: str = "t1", **fields: Any) -> Task:
    """A row of the tasks' table, queued unless said otherwise; ``fields`` also of its terms."""
    asked = {name: fields.pop(name) for name in Terms.__struct_fields__ if name in fields}
    row = {
        "id": task_id,
        "spec": b"spec",
        "terms": terms(**asked),
        "created_at": BEGIN_MS,
        "create_index": 1,
        "order": 1,
        "status": TaskStatus.QUEUED,
        "modify_index": 1,
    }
    return Task(**{**row, **fields})


def attempt(number: int = 1, **fields: Any) -> Attempt:
    """A row of a task's attempts, assigned unless said otherwise."""
    row = {
        "number": number,
        "token": number,
        "node": "n1",
        "incarnation": "a",
        "status": AttemptStatus.ASSIGNED,
        "assigned_at": BEGIN_MS,
    }
    return Attempt(**{**row, **fields})


def node(node_id: str = "n1", **fields: Any) -> Node:
    """A row of the nodes' table: up, eligible and roomy unless said otherwise."""
    row = {
        "id": node_id,
        "incarnation": "a",
        "address": f"http://{node_id}",
        "cpu_milli": 4_000,
        "memory_bytes": 8_000,
        "slots": 4,
        "status": NodeStatus.UP,
        "eligibility": Eligibility.ELIGIBLE,
        "registered_at": BEGIN_MS,
        "modify_index": 1,
    }
    return Node(**{**row, **fields})


def register(node_id: str = "n1", incarnation: str = "a", **fields: Any) -> RegisterNode:
    """The command a node says that it is there with."""
    row = {
        "node_id": node_id,
        "incarnation": incarnation,
        "address": f"http://{node_id}",
        "cpu_milli": 4_000,
        "memory_bytes": 8_000,
        "slots": 4,
        "clean": True,
    }
    return RegisterNode(**{**row, **fields})


def entry(*commands: AnyCommand, now: int = BEGIN_MS) -> Entry:
    """A log entry with one batch."""
    return Entry(ENTRY_VERSION, TERM, now, (Batch("n1", 1, 1, commands),), agreed=True)


def started(
    task_id: str, token: int, *, node_id: str = "n1", incarnation: str = "a"
) -> ReportAttempts:
    """The report that one attempt started."""
    return ReportAttempts(node_id, incarnation, started=(AttemptStarted(task_id, token),))


def finished(
    task_id: str,
    token: int,
    status: str = "succeeded",
    *,
    node_id: str = "n1",
    incarnation: str = "a",
    **fields: Any,
) -> ReportAttempts:
    """The report that one attempt ended."""
    report = AttemptFinished(task_id, token, status, **fields)
    return ReportAttempts(node_id, incarnation, finished=(report,))


#: A command of every kind, each with what its builder fills in.
ONE_OF_EACH: tuple[AnyCommand, ...] = (
    SubmitTasks((new_task("t1"), new_task("t2")), key="k1", request_hash=b"hash", atomic=True),
    CancelTask("t1", "operator"),
    PauseTask("t1"),
    ResumeTask("t1"),
    DeleteTask("t1"),
    register(labels={"zone": "a"}),
    AssignTasks((Assignment("t1", "n1", "a"),)),
    started("t1", 1),
    finished("t1", 1, exit_code=0, output_tail=b"\x00\xff", output_bytes=2),
    NodeLost("n1", "a", "silent"),
    SetEligibility("n1", Eligibility.CORDONED),
    ApplyRetention(10),
    UpdateSettings(Settings(losses_max=5)),
    NodeLeft("n1", "a"),
    CheckReplicas(("n1", "n2", "n3"), 1),
    ReportDigest("n1", 1, bytes(16)),
    ActivateVersion(ENTRY_VERSION),
    ResetClock(BEGIN_MS, "operator"),
    LoseAttempts("n1", "a", TERM, 15_000, "silent"),
    FireTimers(10),
    PutQueue(Queue("q", concurrency=3)),
    DeleteQueue("q"),
    CancelTasks(("t1", "t2"), "operator"),
    PutLimit(Limit("l", count=2)),
    DeleteLimit("l"),
    SetNodeLabels("n1", {"zone": "b"}),
    DrainNode("n1", 1_000),
    EditTask(new_task("t1", priority=60)),
    RunNow("t1"),
    PutSchedule(Schedule("nightly", new_task(""), b"timing")),
    DeleteSchedule("nightly"),
    PauseSchedule("nightly"),
    FireSlots((Fire("nightly", 1, 2_000, (2_000,), 3_000, (1_000, 1_500, 2)),)),
    TriggerSchedule("nightly"),
    BackfillSchedule("nightly", 1, (1_000,)),
    AddSubtasks("t", 0, (NewTask("", b"spec"),), is_last=True),
    PutTemplate("daily", b"{}"),
    DeleteTemplate("daily"),
    Speculate((Straggler("t1.0", 1),)),
)


def dump(state: State) -> tuple[bytes, ...]:
    """All rows as bytes: equal dumps mean that nothing changed in between."""
    chunks = tuple(codec.snapshot_chunks(state))
    state.end_snapshot()
    return chunks


def of_term(command: AnyCommand) -> AnyCommand:
    """A verdict that names no term comes from the leader of the entry's."""
    if isinstance(command, NodeLost) and not command.term:
        return msgspec.structs.replace(command, term=TERM)
    return command


class Replica:
    """A state and the log it is given, one command an entry, `STEP_MS` apart."""

    def __init__(self, **settings: int) -> None:
        self.state = State("cluster")
        self.state.version = ENTRY_VERSION
        self.index = 0
        self.now = BEGIN_MS
        #: Events of the last entry.
        self.events: list[Event] = []
        if settings:
            self.accepted(UpdateSettings(Settings(**settings)))

    def do(self, command: AnyCommand, now: int | None = None) -> Outcome:
        """Apply one command; whatever comes of it, the invariants hold.

        A registration that says nothing of what it replaces comes from a node that saw its row.
        """
        if isinstance(command, RegisterNode) and not command.replaces:
            seen = self.state.incarnation_of(command.node_id)
            command = msgspec.structs.replace(command, replaces=seen)
        command = of_term(command)
        self.index += 1
        self.now = self.now + STEP_MS if now is None else now
        applied = machine.apply(self.state, self.index, entry(command, now=self.now))
        self.events = applied.events
        violated = invariants.check(self.state)
        assert not violated, violated
        return applied.outcomes[0][0]

    def accepted(self, command: AnyCommand) -> Any:
        """Apply one command that must be accepted; its value."""
        outcome = self.do(command)
        assert isinstance(outcome, Accepted), outcome
        return outcome.value

    def refused(self, command: AnyCommand) -> Rejected:
        """Apply one command that must be refused and must change nothing; the refusal."""
        command = of_term(command)
        self.index += 1
        machine.apply(self.state, self.index, entry(now=self.now))
        before, queue = dump(self.state), list(self.state.ready)
        applied = machine.apply(self.state, self.index, entry(command, now=self.now))
        outcome = applied.outcomes[0][0]
        assert isinstance(outcome, Rejected), outcome
        assert (dump(self.state), list(self.state.ready)) == (before, queue)
        assert applied.events == []
        violated = invariants.check(self.state)
        assert not violated, violated
        return outcome

    # Arranging -------------------------------------------------------------------------------

    def submit(self, *task_ids: str, **fields: Any) -> None:
        """Queue tasks."""
        self.accepted(SubmitTasks(tuple(new_task(task_id, **fields) for task_id in task_ids)))

    def assign(self, task_id: str, node_id: str = "n1", incarnation: str = "a") -> int:
        """Put a task on a node; the token."""
        outcome = self.accepted(AssignTasks((Assignment(task_id, node_id, incarnation),)))[0]
        assert isinstance(outcome, Attempt), outcome
        return outcome.token

    def run(self, task_id: str, node_id: str = "n1", incarnation: str = "a") -> int:
        """Put a task on a node, where it starts; the token."""
        token = self.assign(task_id, node_id, incarnation)
        assert self.accepted(started(task_id, token, node_id=node_id)) == ()
        return token

    def finish(self, task_id: str, status: str = "succeeded") -> None:
        """The attempt that a task has ends, wherever it is."""
        attempt = self.latest(task_id)
        report = finished(task_id, attempt.token, status, node_id=attempt.node)
        assert self.accepted(report) == ()

    def fail(self, task_id: str) -> None:
        """One more attempt of a task on ``n1`` fails."""
        assert self.accepted(finished(task_id, self.run(task_id), "failed")) == ()

    def bring(self, task_id: str, status: TaskStatus) -> int:
        """A new task in a status, on ``n1`` where it needs a node; its token."""
        self.submit(task_id)
        if status is TaskStatus.QUEUED:
            return 0
        if status is TaskStatus.ASSIGNED:
            return self.assign(task_id)
        token = self.run(task_id)
        if status is TaskStatus.RUNNING:
            return token
        if status in (TaskStatus.CANCELLING, TaskStatus.CANCELLED):
            self.accepted(CancelTask(task_id))
        ends = {
            TaskStatus.SUCCEEDED: "succeeded",
            TaskStatus.FAILED: "failed",
            TaskStatus.CANCELLED: "cancelled",
        }
        if status in ends:
            self.accepted(finished(task_id, token, ends[status]))
        assert self.task(task_id).status is status
        return token

    # Looking ---------------------------------------------------------------------------------

    def task(self, task_id: str = "t1") -> Task:
        """The row of a task that must be there."""
        found = self.state.tasks.get(task_id)
        assert found is not None
        return found

    def attempts(self, task_id: str = "t1") -> tuple[Attempt, ...]:
        """The attempts of a task, oldest first."""
        found = self.state.tasks.get(task_id)
        return () if found is None else found.attempts

    def latest(self, task_id: str = "t1") -> Attempt:
        """The latest attempt of a task that must have one."""
        return self.attempts(task_id)[-1]

    def usage(self, node_id: str = "n1") -> tuple[int, int, int]:
        """What a node holds: attempts, cpu, memory."""
        held = self.state.usage[node_id]
        return held.attempts, held.cpu_milli, held.memory_bytes
