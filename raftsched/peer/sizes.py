"""How large commands are in the units of our bounds, so that entries and queues stay bounded."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from raftsched.core.commands import AnyCommand, AssignTasks, ReportAttempts, SubmitTasks

_encoder = msgspec.msgpack.Encoder()

#: Items (tasks, assignments, reports, other commands) one entry carries.
ENTRY_ITEMS_MAX = 2_000
#: Bytes of specs and outputs one entry carries, well under the log's own limit.
ENTRY_WEIGHT_MAX = 2 * 1024 * 1024


class Size(NamedTuple):
    """Of one command or of several."""

    #: Rows asked for.
    items: int
    #: Bytes, roughly.
    weight: int

    def plus(self, other: Size) -> Size:
        """Both together."""
        return Size(self.items + other.items, self.weight + other.weight)

    @property
    def fits(self) -> bool:
        """Does it fit into one entry?"""
        return self.items <= ENTRY_ITEMS_MAX and self.weight <= ENTRY_WEIGHT_MAX


NOTHING = Size(0, 0)


def size_of(command: AnyCommand) -> Size:
    """The size of one command; no command is smaller than one item.

    Raises what encoding raises for a command that cannot be carried (OverflowError, ValueError).
    """
    if isinstance(command, SubmitTasks):
        tasks = command.tasks
        return Size(max(1, len(tasks)), 64 + 96 * len(tasks) + sum([len(t.spec) for t in tasks]))
    if isinstance(command, ReportAttempts):
        items = len(command.started) + len(command.finished)
        texts = sum([len(r.output_tail) + 4 * len(r.reason) for r in command.finished])
        return Size(max(1, items), 64 + 128 * items + texts)
    if isinstance(command, AssignTasks):
        return Size(max(1, len(command.assignments)), 64 + 128 * len(command.assignments))
    return Size(1, 64 + len(_encoder.encode(command)))
