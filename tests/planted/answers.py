"""Bugs of what the API answers, with the state behind it right: only over HTTP are they seen."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from raftsched.api import tasks, views


def show_what_is_cached() -> AbstractContextManager[Any]:
    """A document counts as the same as long as state, pause and number of the attempt are."""
    usual = views.task_view
    cache: dict[Any, Any] = {}

    def task_view(task: Any) -> Any:
        key = (task.id, task.status, task.paused, len(task.attempts))
        return cache.setdefault(key, usual(task))

    return patch.object(tasks, "task_view", task_view)


def show_another_token() -> AbstractContextManager[Any]:
    """Whoever passes the token on would pass one that is not the attempt's."""
    usual = views.task_view

    def task_view(task: Any) -> Any:
        view = usual(task)
        if view.token is None:
            return view
        fields = {name: getattr(view, name) for name in view.__struct_fields__}
        return type(view)(**{**fields, "token": view.token + 1})

    return patch.object(tasks, "task_view", task_view)
