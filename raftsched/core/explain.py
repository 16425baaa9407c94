"""Why a task does not run: what is in its way, and node by node why it is not there.

Asks the very functions that plan (`Rooms`, `Permits`), so it cannot say anything else than what
they do.  Pure, and bounded: it looks at every node and counts `POSITION_MAX` tasks at most.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import islice

import msgspec

from raftsched.core.constraints import broken, constraint_text
from raftsched.core.lifecycle import HOLDING
from raftsched.core.limits import LIMIT, Permits, Shut, gate_of
from raftsched.core.model import TERMINAL, Eligibility, NodeStatus, Task, TaskStatus
from raftsched.core.outcomes import Reason
from raftsched.core.policy import Extra, RetryNode
from raftsched.core.relations import awaited
from raftsched.core.rooms import Room, Rooms
from raftsched.core.state import State
from raftsched.core.trees import Subtasks, awaits_twin, has_begun, is_held, parent_of

#: Tasks of the ready queue that are counted; who is behind them has no position.
POSITION_MAX = 5_000
#: Tasks named that it waits for.
AWAITED_SHOWN_MAX = 10
#: Different lanes up to which they are.
LANES_MAX = 5_000


class Verdict(StrEnum):
    """How it stands with a task."""

    #: A node has it.
    RUNNING = "running"
    #: Nothing is in its way but those before it.
    WILL_RUN = "will_run"
    BLOCKED = "blocked"
    ENDED = "ended"


class Blocker(msgspec.Struct, frozen=True):
    """One thing in the way."""

    #: ``paused | not_before | retrying | depends_on | twin | parallel_max | subtasks |
    #: queue_paused | queue_concurrency | limit | no_node_up | no_matching_node | no_capacity``
    kind: str
    #: In a sentence.
    text: str
    #: The queue, the limit or the task it is about; empty for none.
    name: str = ""
    #: When time alone takes it away, in milliseconds since the Unix epoch; 0: it does not.
    until: int = 0


class NodeAnswer(msgspec.Struct, frozen=True):
    """What a node has to say."""

    node_id: str
    #: None: the task may go there now.
    reason: Reason | None
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """All of it."""

    verdict: Verdict
    text: str
    blockers: tuple[Blocker, ...] = ()
    #: By node id; none for a task that has ended or that a node has.
    nodes: tuple[NodeAnswer, ...] = ()
    #: Ready tasks before it, 0 for the first; None: it is not ready, or further behind.
    position: int | None = None


def explain(state: State, task: Task, now: int) -> Explanation:
    """How it stands with a task at ``now``, the cluster's time in milliseconds."""
    if task.status in TERMINAL:
        return Explanation(Verdict.ENDED, f"it ended {task.status}{_because(task.reason)}")
    if task.status in HOLDING:
        text = f"{task.node} has it; it is {task.status}{_with_twin(state, task)}"
        return Explanation(Verdict.RUNNING, text)
    if task.extra is not None and has_begun(task.extra):
        return _of_subtasks(state, task)
    # What is given ahead of free slots waits there, too.
    rooms = Rooms(state, {})
    nodes = tuple([_answer(rooms, room, task) for room in rooms.all()])
    blockers = (*_of_task(state, task), *_of_gate(state, task, now), *_of_nodes(nodes))
    if blockers:
        text = "; ".join([blocker.text for blocker in blockers])
        return Explanation(Verdict.BLOCKED, text, blockers, nodes, _position(state, task))
    position = _position(state, task)
    before = f"more than {POSITION_MAX}" if position is None else str(position)
    return Explanation(
        Verdict.WILL_RUN, f"nothing is in its way; {before} ready tasks are before it", (), nodes,
        position,
    )  # fmt: skip


def _of_subtasks(state: State, task: Task) -> Explanation:
    """A task that runs as its subtasks do."""
    subtasks = state.trees.of(task.id) or Subtasks()
    counts = sorted(subtasks.counts.items())
    text = ", ".join(f"{count} {status}" for status, count in counts)
    runs = any(status in HOLDING for status, _ in counts)
    verdict = Verdict.RUNNING if runs else Verdict.BLOCKED
    text = f"it ends with its {len(subtasks.ids)} subtasks: {text or 'none yet'}"
    return Explanation(verdict, text, () if runs else (Blocker("subtasks", text),))


def _with_twin(state: State, task: Task) -> str:
    """What is to be said of its twin, or of being one."""
    extra = task.extra or Extra()
    if extra.twin_of:
        return f"; it is the twin of {extra.twin_of}, and the first that succeeds counts"
    twin = state.tasks.get(extra.twin) if extra.twin else None
    if twin is None:
        return ""
    where = f" on {twin.node}" if twin.node else ""
    return f"; it took longer than others, and its twin {twin.id} is {twin.status}{where}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _of_task(state: State, task: Task) -> list[Blocker]:
    """What is about the task alone."""
    found: list[Blocker] = []
    if task.paused:
        found.append(Blocker("paused", "it is paused"))
    for other in awaited(task)[:AWAITED_SHOWN_MAX]:
        found.append(Blocker("depends_on", f"it waits for the end of {other}", other))
    if awaited(task):
        return found
    if is_held(task):
        whole = parent_of(task)
        return [*found, Blocker("parallel_max", f"others of {whole} are to end before", whole)]
    if task.status is TaskStatus.WAITING:
        text = "its time has not come yet"
        found.append(Blocker("not_before", text, until=task.ready_at))
    elif awaits_twin(task):
        twin = task.extra.twin if task.extra is not None else ""
        text = f"its last attempt failed, and its twin {twin} decides what becomes of it"
        found.append(Blocker("twin", text, twin))
    elif task.status is TaskStatus.RETRYING:
        text = f"attempt {task.attempt} failed, and the next one is not due yet"
        found.append(Blocker("retrying", text, until=task.ready_at))
    return found


def _of_gate(state: State, task: Task, now: int) -> list[Blocker]:
    """Its queue and its limits: the first that is shut."""
    shut = Permits(state, now).shut(gate_of(task.terms))
    return [] if shut is None else [_shut(state, shut)]


def _shut(state: State, shut: Shut) -> Blocker:
    if shut.kind == LIMIT:
        held = state.limit_use.get(shut.name, 0)
        text = f"limit {shut.name} has no token left" if shut.at else f"{held} hold {shut.name}"
        return Blocker("limit", text, shut.name, shut.at)
    if shut.reason is Reason.QUEUE_PAUSED:
        return Blocker("queue_paused", f"queue {shut.name} is paused", shut.name)
    held = state.queue_use[shut.name].held
    text = f"queue {shut.name} runs {held} at once, and no more"
    return Blocker("queue_concurrency", text, shut.name)


def _of_nodes(nodes: tuple[NodeAnswer, ...]) -> list[Blocker]:
    """What all nodes have in common; nothing if one would take the task."""
    reasons = {answer.reason for answer in nodes}
    if None in reasons:
        return []
    if reasons <= {Reason.NODE_NOT_UP}:
        return [Blocker("no_node_up", "no node is up")]
    if Reason.NODE_FULL in reasons:
        return [Blocker("no_capacity", "every node that it may go to is full, or too small")]
    return [Blocker("no_matching_node", "no node that is up may take it")]


def _answer(rooms: Rooms, room: Room, task: Task) -> NodeAnswer:
    """What the node says; nothing is counted that somebody else sees."""
    reason = rooms.take(room, task.terms, task.node)
    text = "it may go here" if reason is None else _why_not(room, task, reason)
    return NodeAnswer(room.node.id, reason, text)


def _why_not(room: Room, task: Task, reason: Reason) -> str:
    node, policy = room.node, task.policy
    if reason is Reason.NODE_NOT_UP:
        what = "left" if node.status is NodeStatus.LEFT else "is lost"
        return f"the node {what}{_because(node.reason)}"
    if reason is Reason.NODE_CORDONED:
        is_draining = node.eligibility is Eligibility.DRAINING
        return f"the node is {'draining' if is_draining else 'cordoned'}"
    if reason is Reason.CONSTRAINT:
        claim = broken(policy.constraints, room.labels)
        assert claim is not None
        value = room.labels.get(claim.label)
        has = "has no such label" if value is None else f"has {claim.label} = {value}"
        return f"it wants {constraint_text(claim)}; the node {has}"
    if reason is Reason.RETRY_ELSEWHERE:
        if policy.retry_node is RetryNode.SAME:
            return f"it is tried again on {task.node} only, as long as that is up"
        return "its last attempt was here, and it is tried again elsewhere"
    return _what_lacks(room, task)


def _what_lacks(room: Room, task: Task) -> str:
    node, usage, policy = room.node, room.usage, task.policy
    if usage.attempts >= room.attempts_max:
        return f"no slot is free: {usage.attempts} attempts on {node.slots} slots"
    if usage.cpu_milli + task.cpu_milli > node.cpu_milli:
        free = node.cpu_milli - usage.cpu_milli
        return f"cpu: it wants {task.cpu_milli} milli-cores, {free} of {node.cpu_milli} are free"
    if usage.memory_bytes + task.memory_bytes > node.memory_bytes:
        free = node.memory_bytes - usage.memory_bytes
        return f"memory: it wants {task.memory_bytes} bytes, {free} of {node.memory_bytes} are free"
    held = usage.resources or {}
    name = room.lacking(policy.resources, held)
    wanted, has = dict(policy.resources).get(name, 0), dict(node.resources).get(name, 0)
    return f"{name}: it wants {wanted}, {has - held.get(name, 0)} of {has} are free"


def _position(state: State, task: Task) -> int | None:
    """How many ready tasks are before it."""
    if task.status is not TaskStatus.QUEUED or task.paused:
        return None
    if state.ready.lanes_count > LANES_MAX:
        return None
    for position, task_id in enumerate(islice(state.ready, POSITION_MAX)):
        if task_id == task.id:
            return position
    return None
