"""Which rows an entry changed: the tables as they stood before it, compared with what they are.

A table's frozen view costs nothing until somebody writes, and a write replaces the one shard that
it meets (``tables``).  So only shards that are another object than before are looked at, and every
change is found, by whichever way it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from raftsched.core.model import Check, KeyRecord, Limit, Node, Queue, Settings, Task
from raftsched.core.schedule import Schedule, Slot
from raftsched.core.state import State
from raftsched.core.tables import Table
from raftsched.core.template import Template


class Cluster(msgspec.Struct, frozen=True):
    """What is in the state and in no table, but for counters and the clock."""

    version: int
    clock_resets: int
    suspect: bool
    settings: Settings
    check: Check | None


class Changed(msgspec.Struct, frozen=True):
    """Rows by key, each kind in the order of its keys; None: the row is gone."""

    tasks: dict[str, Task | None]
    nodes: dict[str, Node | None]
    queues: dict[str, Queue | None]
    limits: dict[str, Limit | None]
    schedules: dict[str, Schedule | None]
    slots: dict[str, Slot | None]
    templates: dict[str, Template | None]
    keys: dict[str, KeyRecord | None]
    #: None: as it was.
    cluster: Cluster | None


class Before:
    """A state as it stands; the state may go on.

    At most one at a time: the view of a table that was taken last is the one that holds.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._tables = {name: getattr(state, name).freeze() for name in _TABLES}
        self._rows = {name: dict(getattr(state, name)) for name in _ROWS}
        self._cluster = _cluster(state)

    def changed(self) -> Changed:
        """What is another row by now, and what is gone."""
        state = self._state
        found: dict[str, Any] = {
            name: _of_table(self._tables[name], getattr(state, name)) for name in _TABLES
        }
        found |= {name: _of_rows(self._rows[name], getattr(state, name)) for name in _ROWS}
        cluster = _cluster(state)
        return Changed(**found, cluster=None if cluster == self._cluster else cluster)


_TABLES = ("tasks", "keys", "schedules", "slots", "templates")
#: Plain dictionaries of few rows.
_ROWS = ("nodes", "queues", "limits")


def _of_table(before: list[dict[str, Any]], table: Table[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for old, new in zip(before, table.shards, strict=True):
        if old is not new:
            found.update(_of_rows(old, new))
    return dict(sorted(found.items()))


def _of_rows(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: row for key, row in new.items() if old.get(key) is not row}
    found.update((key, None) for key in old if key not in new)
    return dict(sorted(found.items()))


def _cluster(state: State) -> Cluster:
    return Cluster(state.version, state.clock_resets, state.suspect, state.settings, state.check)
