"""Bugs of subtasks that run a second time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from raftsched.core.handlers import ends
from raftsched.core.model import TaskStatus


def count_both() -> AbstractContextManager[Any]:
    usual = ends._twin_ended

    def twin_ended(changes: Any, twin: Any, to: Any, part_id: str) -> None:
        parent_id = changes.task(part_id).extra.parent
        changes.tally(parent_id).ends(to, was_held=False, is_skipped=False)
        usual(changes, twin, to, part_id)

    return patch.object(ends, "_twin_ended", twin_ended)


def end_before_the_twin() -> AbstractContextManager[Any]:
    usual = ends.join

    def join(changes: Any, parent: Any) -> None:
        changes.tally(parent.id).twins = 0
        usual(changes, parent)

    return patch.object(ends, "join", join)


def borrow_a_failure() -> AbstractContextManager[Any]:
    usual = ends._twin_ended

    def twin_ended(changes: Any, twin: Any, to: Any, part_id: str) -> None:
        usual(changes, twin, TaskStatus.SUCCEEDED, part_id)

    return patch.object(ends, "_twin_ended", twin_ended)
