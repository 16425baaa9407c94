"""Rows that an entry changed are found, all of them and no others."""

from __future__ import annotations

from raftsched.core import machine
from raftsched.core.commands import (
    ENTRY_VERSION,
    AnyCommand,
    ApplyRetention,
    CancelTask,
    CancelTasks,
    DeleteTask,
    PutLimit,
    PutQueue,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.differences import Before, Changed
from raftsched.core.model import Limit, Queue, Settings, Task, TaskStatus
from raftsched.core.state import State
from tests.unit.core.builders import Replica, entry, new_task


def change(replica: Replica, *commands: AnyCommand) -> Changed:
    before = Before(replica.state)
    for command in commands:
        replica.do(command)
    return before.changed()


def kinds(changed: Changed) -> dict[str, list[str]]:
    """Keys of what changed, by kind."""
    found = {name: getattr(changed, name) for name in changed.__struct_fields__[:-1]}
    return {name: list(rows) for name, rows in found.items() if rows}


def test_a_new_row_is_found_and_the_next_entry_is_told_apart() -> None:
    replica = Replica()
    changed = change(replica, SubmitTasks((new_task("b"), new_task("a")), key="k"))
    assert kinds(changed) == {"tasks": ["a", "b"], "keys": ["default\0k"]}
    assert changed.tasks["a"] is replica.state.tasks.get("a")
    changed = change(replica, CancelTask("b"))
    assert kinds(changed) == {"tasks": ["b"]}
    row = changed.tasks["b"]
    assert row is not None and row.status is TaskStatus.CANCELLED


def test_a_refused_command_changes_nothing() -> None:
    changed = change(Replica(), CancelTask("nobody"))
    assert (kinds(changed), changed.cluster) == ({}, None)


def test_a_row_that_is_gone_is_none() -> None:
    replica = Replica()
    change(replica, SubmitTasks((new_task("a"),)), CancelTask("a"))
    assert change(replica, DeleteTask("a")).tasks == {"a": None}


def test_what_came_and_went_within_it_is_no_change() -> None:
    replica = Replica()
    gone = (SubmitTasks((new_task("a"),)), CancelTask("a"), DeleteTask("a"))
    assert kinds(change(replica, *gone)) == {}


def test_small_tables_and_settings_are_found() -> None:
    replica = Replica()
    changed = change(replica, PutQueue(Queue("q", concurrency=3)), PutLimit(Limit("l", 2)))
    assert kinds(changed) == {"queues": ["q"], "limits": ["l"]}
    settings = Settings(finished_max=1)
    changed = change(replica, UpdateSettings(settings))
    assert kinds(changed) == {}
    assert changed.cluster is not None and changed.cluster.settings == settings


def test_every_change_of_a_great_many_rows_is_found() -> None:
    """More than the digest remembers at a stroke, in every shard."""
    state = State()
    state.version = ENTRY_VERSION
    many = tuple(new_task(f"t{number}") for number in range(12_000))

    def changed_by(command: AnyCommand) -> dict[str, Task | None]:
        before = Before(state)
        machine.apply(state, state.index + 1, entry(command))
        return before.changed().tasks

    assert len(changed_by(SubmitTasks(many))) == 12_000
    assert len(changed_by(CancelTasks(tuple(task.id for task in many)))) == 12_000
    assert not changed_by(UpdateSettings(Settings(finished_max=0)))
    gone = changed_by(ApplyRetention(limit=20_000))
    assert len(gone) == 12_000 and set(gone.values()) == {None}
