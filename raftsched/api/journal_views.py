"""The log applied again, as users see it: what was asked, what came of it, and the rows it left.

A row is the document that the API would have answered with just behind that entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from raftsched.api.checks import CheckView, check_view
from raftsched.api.limits import LimitView, limit_view
from raftsched.api.queues import QueueView, queue_view
from raftsched.api.schedule_views import ScheduleView, SlotView, schedule_view, slot_view
from raftsched.api.templates import TemplateView, template_view
from raftsched.api.times import instant
from raftsched.api.views import NodeView, TaskView, node_view, task_view
from raftsched.core import commands
from raftsched.core.differences import Changed, Cluster
from raftsched.core.outcomes import Accepted, Event, Outcome, Rejected, Submitted
from raftsched.core.state import State
from raftsched.peer.replaying import About, Decided, Step

#: Of the lines; raised when one loses a field or a field changes its meaning.
FORMAT = 1
Row = TypeVar("Row")
View = TypeVar("View")


class JournalView(msgspec.Struct, frozen=True):
    """The first line: whose log follows, and how much of it there is."""

    format: int
    peer: str
    cluster: str
    #: The latest term that the peer knows of.
    term: int
    #: Index of the snapshot that the log was applied to; 0: it begins with nothing.
    snapshot_index: int
    #: Of the entries that follow; ``last_index`` is below it when there are none.
    first_index: int
    last_index: int
    #: Up to here the cluster surely agreed; behind it the disk of one peer does not tell.
    committed_index: int
    #: Bytes of an unfinished write at the end, which are passed over.
    torn_bytes: int


class RefusedView(msgspec.Struct, frozen=True):
    """An item of a command that was refused by itself."""

    #: Its place in the command, counted from 0.
    item: int
    reason: str
    detail: str


class CommandView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command, and what came of it."""

    command: str
    #: The peer that it was asked of.
    peer: str
    outcome: str
    #: Ids, names and keys of what it is about, in its order.
    about: list[str]
    #: Of one that was refused: a stable word, and more of it.
    reason: str = ""
    detail: str = ""
    #: It was a repeat, by its idempotency key.
    replayed: bool = False
    refused: list[RefusedView] = []


class EventView(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened, in the order in which it did."""

    event: str
    task: str = ""
    node: str = ""
    detail: str = ""


class KeyView(msgspec.Struct, frozen=True):
    """An idempotency key: the entry that it was used in first."""

    index: int
    expires_at: str | None


class ClusterView(msgspec.Struct, frozen=True):
    """What holds for all of the cluster."""

    version: int
    clock_resets: int
    suspect: bool
    settings: dict[str, int]
    check: CheckView | None


class ChangedView(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows that are others than before; None: the row is gone."""

    tasks: dict[str, TaskView | None] = {}
    nodes: dict[str, NodeView | None] = {}
    queues: dict[str, QueueView | None] = {}
    limits: dict[str, LimitView | None] = {}
    schedules: dict[str, ScheduleView | None] = {}
    #: By schedule and instant in unix ms, with a slash between them.
    slots: dict[str, SlotView | None] = {}
    templates: dict[str, TemplateView | None] = {}
    #: By namespace and key, with a slash between them.
    keys: dict[str, KeyView | None] = {}
    cluster: ClusterView | None = None


class EntryView(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry of the log.  One with nothing but ``digest`` began a term, or is skipped."""

    index: int
    term: int
    #: Of the state behind it, in hexadecimal; of two replicas at one index it is the same.
    digest: str
    #: When the leader stamped it.
    stamped_at: str | None = None
    #: The cluster's time behind it.
    now: str | None = None
    commands: list[CommandView] = []
    events: list[EventView] = []
    changed: ChangedView = ChangedView()
    #: Who is a member from here on.
    voters: list[str] = []
    learners: list[str] = []
    #: Meant for another term than the one it stands in: skipped by every peer.
    skipped: bool = False


def journal_view(about: About) -> JournalView:
    """The first line."""
    return JournalView(
        FORMAT, about.peer_id, about.cluster_id, about.term, about.base_index,
        about.base_index + 1, about.last_index, about.committed_index, about.torn_bytes,
    )  # fmt: skip


def entry_view(state: State, step: Step) -> EntryView:
    """A line.  ``state`` is the one behind the step."""
    voters, learners = step.members or ((), ())
    fields: dict[str, Any] = {} if step.decided is None else _decided(state, step.decided)
    return EntryView(
        index=step.index, term=step.term, digest=step.digest.hex(), voters=list(voters),
        learners=list(learners), skipped=step.is_stray, **fields,
    )  # fmt: skip


def _decided(state: State, decided: Decided) -> dict[str, Any]:
    entry, applied = decided.entry, decided.applied
    told = [
        _command(batch.origin, command, outcome)
        for batch, outcomes in zip(entry.batches, applied.outcomes, strict=True)
        for command, outcome in zip(batch.commands, outcomes, strict=True)
    ]
    return {
        "stamped_at": instant(entry.now),
        "now": instant(state.now),
        "commands": told,
        "events": [_event(event) for event in applied.events],
        "changed": _changed(state, decided.changed),
    }


def _command(origin: str, command: commands.AnyCommand, outcome: Outcome) -> CommandView:
    name, about = type(command).__name__, _about(command)
    if isinstance(outcome, Rejected):
        return CommandView(
            name, origin, "rejected", about, reason=outcome.reason.value, detail=outcome.detail
        )
    value = outcome.value
    return CommandView(
        name, origin, "accepted", about,
        replayed=isinstance(value, Submitted) and value.replayed, refused=_refused(outcome),
    )  # fmt: skip


def _refused(outcome: Accepted) -> list[RefusedView]:
    value = outcome.value
    numbered: Iterable[tuple[int, Any]] = ()
    if isinstance(value, Submitted):
        numbered = value.refused
    elif isinstance(value, list | tuple):
        numbered = enumerate(value)
    return [
        RefusedView(item, found.reason.value, found.detail)
        for item, found in numbered
        if isinstance(found, Rejected)
    ]


def _about(command: commands.AnyCommand) -> list[str]:
    """What it names, as far as it names anything."""
    match command:
        case commands.SubmitTasks():
            return [task.id for task in command.tasks]
        case commands.AssignTasks():
            return [one.task_id for one in command.assignments]
        case commands.ReportAttempts():
            told = [one.task_id for one in command.started]
            told += [one.task_id for one in command.finished]
            told += [one.task_id for one in command.progress]
            return list(dict.fromkeys(told))
        case commands.CancelTasks():
            return list(command.task_ids)
        case commands.EditTask():
            return [command.task.id]
        case commands.FireSlots():
            return [fire.schedule for fire in command.fires]
        case commands.Speculate():
            return [late.task_id for late in command.stragglers]
        case commands.PutSchedule():
            return [command.schedule.name]
        case commands.PutQueue():
            return [command.queue.name]
        case commands.PutLimit():
            return [command.limit.key]
    names = [getattr(command, name, "") for name in ("task_id", "node_id", "name", "peer_id")]
    names += [command.key] if isinstance(command, commands.DeleteLimit) else []
    return [name for name in names if name]


def _event(event: Event) -> EventView:
    return EventView(event.kind, event.task_id, event.node_id, event.detail)


def _changed(state: State, changed: Changed) -> ChangedView:
    return ChangedView(
        tasks=_views(changed.tasks, task_view),
        nodes=_views(changed.nodes, lambda row: node_view(state, row)),
        queues=_views(changed.queues, lambda row: queue_view(state, row.name)),
        limits=_views(changed.limits, lambda row: limit_view(state, row.key)),
        schedules=_views(changed.schedules, lambda row: schedule_view(state, row)),
        slots=_views(changed.slots, slot_view),
        templates=_views(changed.templates, template_view),
        keys=_views(changed.keys, lambda row: KeyView(row.index, instant(row.expires_at))),
        cluster=None if changed.cluster is None else _cluster(state, changed.cluster),
    )


def _views(rows: dict[str, Row | None], view: Callable[[Row], View]) -> dict[str, View | None]:
    shown = {key.replace("\0", "/"): row for key, row in rows.items()}
    return {key: None if row is None else view(row) for key, row in shown.items()}


def _cluster(state: State, row: Cluster) -> ClusterView:
    return ClusterView(
        row.version, row.clock_resets, row.suspect, msgspec.structs.asdict(row.settings),
        None if row.check is None else check_view(row.check, state),
    )  # fmt: skip
