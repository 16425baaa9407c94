"""Which task goes to which node: pure, proposed by the leader, verified again by ``apply``.

Whether a task may go to a node is for ``rooms`` to say, whether its queue and limits let it start
for ``limits``, which node is the best for ``strategies``; ``board`` finds whose turn it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace

import msgspec

from raftsched.core.board import Entry, Stream
from raftsched.core.choice import Choice
from raftsched.core.commands import Assignment
from raftsched.core.limits import Permits, gate_of
from raftsched.core.model import NewTask
from raftsched.core.policy import Extra
from raftsched.core.ready import Lane, Place
from raftsched.core.rooms import Rooms
from raftsched.core.state import State

#: Lanes of different needs that one pass tries in vain beyond the first `board.SHAPES_MAX`; the
#: next pass goes on behind them.
LANES_TRIED_MAX = 1_000

#: A place behind all others.
_LAST: Place = (1 << 63, 0)


class PlanPolicy(msgspec.Struct, frozen=True):
    """What the leader's shell decides about one pass."""

    #: Assignments at most.
    limit: int = 1_000
    #: Attempts to place on a node beyond its slots, by node id; at most ``AHEAD_MAX`` counts.
    ahead: dict[str, int] = {}
    #: The cluster's time by the leader's clock, in milliseconds; never before ``state.now``.
    now: int = 0
    #: Nodes of which the leader has not heard lately: nothing new goes there.
    silent: frozenset[str] = frozenset()


class Plan(msgspec.Struct, frozen=True):
    """What one pass proposes."""

    assignments: tuple[Assignment, ...] = ()
    #: When time alone may let something start that waits for a rate, in milliseconds; 0: never.
    due: int = 0
    #: There was too much to look at for one pass: plan again, once these are applied.
    is_partial: bool = False


def plan(state: State, policy: PlanPolicy) -> Plan:
    """Assignments for the ready tasks that may start now, in queue order."""
    if not len(state.ready):
        return Plan()
    return _Pass(state, policy).run()


def plan_new(state: State, tasks: Iterable[NewTask], policy: PlanPolicy) -> tuple[Assignment, ...]:
    """Assignments for tasks that are about to be created, to travel in the same entry.

    Nothing while others wait that may start, too: those are first.
    """
    if len(state.ready):
        waiting = plan(state, msgspec.structs.replace(policy, limit=1))
        if waiting.assignments or waiting.is_partial:
            return ()
    return _Pass(state, policy).place_new(tasks)


class _Pass:
    """One look at the state, which does not change meanwhile."""

    __slots__ = (
        "_are_gates_needed", "_aside", "_choice", "_drawn", "_found", "_limit", "_now", "_permits",
        "_rooms", "_state", "_tried",
    )  # fmt: skip

    def __init__(self, state: State, policy: PlanPolicy) -> None:
        self._state = state
        self._limit = policy.limit
        self._now = max(policy.now, state.now)
        self._rooms = Rooms(state, policy.ahead, policy.silent)
        self._choice = Choice(self._rooms, state.next_token)
        self._permits = Permits(state, self._now)
        self._are_gates_needed = self._permits.is_needed
        self._found: list[Assignment] = []
        #: Lanes that were drawn from, and streams that are shut by what this pass placed.
        self._drawn: list[Lane] = []
        self._aside: list[Stream] = []
        #: Lanes with needs of their own that fitted nowhere.
        self._tried: list[Lane] = []

    def run(self) -> Plan:
        """The whole pass."""
        board = self._state.board
        if not self._choice.rooms or self._limit <= 0:
            return Plan()  # Whatever time does, there is no room.
        if not board.refresh(self._state, self._rooms, self._now):
            return Plan((), board.due, is_partial=True)
        try:
            self._draw()
        finally:
            for lane in self._drawn:
                lane.drawn = None
                board.drawn(lane)
            for stream in self._aside:
                board.put_back(stream)
            is_partial = len(self._tried) >= LANES_TRIED_MAX
            board.leave_out(self._tried, until_all_were_tried=is_partial)
        return Plan(tuple(self._found), board.due, is_partial)

    def _draw(self) -> None:
        heads = self._state.board.heads(self._choice.open_nodes)
        heapify(heads)
        while heads and self._choice.rooms and len(self._found) < self._limit:
            shape = heads[0][2].shape
            stream = shape.first()
            if stream is None:
                heappop(heads)
                continue
            if shape.entries[0][0] == heads[0][0]:
                if self._is_shut(stream):
                    shape.take_off()
                elif not self._draw_lane(stream, heads):
                    if not shape.is_mixed or len(self._tried) >= LANES_TRIED_MAX:
                        heappop(heads)
                        continue
                    self._tried.append(stream.take_off())
                    shape.go_on(stream)
            if shape.entries:
                heapreplace(heads, shape.entries[0])
            else:
                heappop(heads)

    def _is_shut(self, stream: Stream) -> bool:
        """Does its gate let nobody through?  Then the stream is parked, or put aside."""
        if not (self._are_gates_needed or stream.gate.limits):
            return False
        shut = self._permits.shut(stream.gate)
        if shut is None:
            return False
        if self._permits.is_taken(shut):
            # By what was placed here, which may yet be refused.
            self._aside.append(stream)
        else:
            self._state.board.park(stream, shut)
        return True

    def _draw_lane(self, stream: Stream, heads: list[Entry]) -> bool:
        """Place tasks of its first lane as long as it is their turn.  False: the next fits nowhere.

        The caller has seen that the gate is not shut.
        """
        lane = stream.entries[0][2]
        gate = stream.gate if self._are_gates_needed or stream.gate.limits else None
        choice, found, terms, mask = self._choice, self._found, lane.terms, lane.mask
        tasks = lane.drawn
        task = lane.head() if tasks is None else lane.following
        bound: Place | None = None
        before = len(found)
        while task is not None:
            node = choice.place(task, terms, mask)
            if node is None:
                break
            if gate is not None:
                self._permits.take(gate)
            found.append(Assignment(task.id, node.id, node.incarnation))
            if len(found) >= self._limit or not choice.rooms:
                # Nobody looks at the lane again in this pass: where it stood is a lower bound.
                return True
            if tasks is None:
                tasks = lane.drawn = iter(lane)
                next(tasks)
                self._drawn.append(lane)
            task = next(tasks, None)
            if task is None or (gate is not None and self._permits.shut(gate) is not None):
                break
            if bound is None:
                bound = _bound(stream, heads)
            if lane.place_of(task) > bound:
                break
        if len(found) == before:
            return False
        lane.following = task
        lane.at = None if task is None else lane.place_of(task)
        stream.go_on(lane)
        stream.shape.go_on(stream)
        return True

    def place_new(self, tasks: Iterable[NewTask]) -> tuple[Assignment, ...]:
        """Tasks that nobody knows yet, in order."""
        if not self._choice.rooms:
            return ()
        self._state.board.refresh(self._state, self._rooms, self._now)
        for new in tasks:
            if not self._choice.rooms or len(self._found) >= self._limit:
                break
            # One that has to wait would only be refused.
            if new.extra is None or not _waits(new.extra):
                self._place_new(new)
        return tuple(self._found)

    def _place_new(self, new: NewTask) -> None:
        gate = gate_of(new)
        is_gated = self._are_gates_needed or bool(gate.limits)
        if is_gated and self._permits.shut(gate) is not None:
            return
        mask = self._state.board.mask(self._rooms, new, "")
        node = self._choice.place(new, new, mask)
        if node is not None:
            if is_gated:
                self._permits.take(gate)
            self._found.append(Assignment(new.id, node.id, node.incarnation))


def _bound(stream: Stream, heads: list[Entry]) -> Place:
    """Where a lane's turn ends: a lower bound of everything else."""
    places = [entry[0] for entry in stream.entries[1:3]]
    places += [entry[0] for entry in stream.shape.entries[1:3]]
    places += [head[0] for head in heads[1:3]]
    return min(places, default=_LAST)


def _waits(extra: Extra) -> bool:
    """Is a task with this not ready as soon as it is there?"""
    return bool(extra.not_before or extra.delay_ms or extra.broadcast)
