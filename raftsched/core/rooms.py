"""Whether a task may go to a node: the one place that says so.

Planning, apply and explaining all ask `Rooms`.  What is not about a node (queues, limits) is in
``limits``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from raftsched.core.constraints import broken, labels_of
from raftsched.core.indexes import Usage
from raftsched.core.model import Eligibility, NewTask, Node, NodeStatus, Terms
from raftsched.core.outcomes import Reason
from raftsched.core.policy import RetryNode

if TYPE_CHECKING:
    from raftsched.core.state import State

#: Attempts a node may hold beyond its slots, waiting there for one: hides the log's round trip.
AHEAD_MAX = 512

_UP = NodeStatus.UP
_ELIGIBLE = Eligibility.ELIGIBLE
_ANY = RetryNode.ANY
_SAME = RetryNode.SAME
_NODE_FULL = Reason.NODE_FULL


class Room:
    """What a node can still take, in one pass of the planner or one command of `apply`."""

    __slots__ = ("_labels", "attempts_max", "bit", "node", "refusal", "usage")

    def __init__(self, node: Node, usage: Usage, ahead: int = AHEAD_MAX, bit: int = 0) -> None:
        """``usage``: an own copy, which is counted up here."""
        self.node = node
        self.usage = usage
        #: A node without slots is on its way out: nothing is to wait there.
        self.attempts_max = node.slots + min(ahead, AHEAD_MAX) if node.slots else 0
        #: Why it takes nothing new, whatever is asked; None if it does.
        self.refusal: Reason | None = None
        #: One bit, the node's own among all nodes.
        self.bit = bit
        self._labels: dict[str, str] | None = None
        if node.status is not _UP:
            self.refusal = Reason.NODE_NOT_UP
        elif node.eligibility is not _ELIGIBLE:
            self.refusal = Reason.NODE_CORDONED

    @property
    def is_open(self) -> bool:
        """May it take anything at all?"""
        return self.refusal is None and self.usage.attempts < self.attempts_max

    @property
    def labels(self) -> dict[str, str]:
        """The node's labels as they are in effect."""
        if self._labels is None:
            self._labels = labels_of(self.node)
        return self._labels

    def hold(self, asked: Terms | NewTask) -> bool:
        """Count a task in, if there is so much left of everything; False: there is not."""
        usage, node = self.usage, self.node
        attempts = usage.attempts
        cpu_milli = usage.cpu_milli + asked.cpu_milli
        memory_bytes = usage.memory_bytes + asked.memory_bytes
        if (
            attempts >= self.attempts_max
            or cpu_milli > node.cpu_milli
            or memory_bytes > node.memory_bytes
        ):
            return False
        policy = asked.policy
        if policy is not None and policy.resources:
            if self.lacking(policy.resources, usage.resources or {}):
                return False
            usage.add(asked)
            return True
        usage.attempts = attempts + 1
        usage.cpu_milli = cpu_milli
        usage.memory_bytes = memory_bytes
        return True

    def lacking(self, resources: tuple[tuple[str, int], ...], held: Mapping[str, int]) -> str:
        """The first custom resource of which there is not enough left; empty: there is."""
        has = dict(self.node.resources)
        for name, count in resources:
            if held.get(name, 0) + count > has.get(name, 0):
                return name
        return ""

    def could_hold(self, asked: Terms | NewTask) -> bool:
        """Would there be enough of everything if nothing ran there?"""
        node, policy = self.node, asked.policy
        return (
            node.slots > 0
            and asked.cpu_milli <= node.cpu_milli
            and asked.memory_bytes <= node.memory_bytes
            and not (policy is not None and self.lacking(policy.resources, {}))
        )

    def suits(self, asked: Terms | NewTask) -> bool:
        """Is the node up, the one that was asked for, and large enough?"""
        policy = asked.policy
        is_apt = policy is None or broken(policy.constraints, self.labels) is None
        return self.node.status is _UP and is_apt and self.could_hold(asked)


class Rooms:
    """All nodes, in one pass of the planner or one command of `apply`; each is made when asked."""

    __slots__ = ("_ahead", "_made", "_shunned", "_state")

    def __init__(
        self,
        state: State,
        ahead: Mapping[str, int] | None = None,
        shunned: frozenset[str] = frozenset(),
    ) -> None:
        """``ahead``: attempts that may be beyond a node's slots, by node id; None: all there may.

        A node that is not named may have none.  ``shunned``: ids of nodes that are given nothing.
        """
        self._shunned = shunned
        self._state = state
        self._ahead = ahead
        self._made: dict[str, Room] = {}

    @property
    def eligible(self) -> int:
        """The bits of nodes that are up and may be given something new, full ones, too."""
        nodes = self._state.nodes
        bits = 0
        for node_id, bit in self._state.node_bits.items():
            if nodes[node_id].status is _UP and nodes[node_id].eligibility is _ELIGIBLE:
                bits |= bit
        return bits

    def find(self, node_id: str) -> Room | None:
        """A node's room; None for a node that nobody knows."""
        room = self._made.get(node_id)
        if room is None:
            node = self._state.nodes.get(node_id)
            if node is None:
                return None
            ahead = AHEAD_MAX if self._ahead is None else self._ahead.get(node_id, 0)
            usage = self._state.usage[node_id].copy()
            room = self._made[node_id] = Room(node, usage, ahead, self._state.node_bits[node_id])
        return room

    def all(self) -> Iterator[Room]:
        """By node id."""
        for node_id in self._state.node_bits:
            room = self.find(node_id)
            assert room is not None
            yield room

    def open(self) -> list[Room]:
        """Those that may take anything at all, by node id."""
        ahead, nodes, usage = self._ahead or {}, self._state.nodes, self._state.usage
        found: list[Room] = []
        for node_id in self._state.node_bits:
            if node_id in self._shunned:
                continue
            # Most are full when there is much to do: they are not worth a room.
            if usage[node_id].attempts < nodes[node_id].slots + ahead.get(node_id, 0):
                room = self.find(node_id)
                if room is not None and room.is_open:
                    found.append(room)
        return found

    def bars(self, room: Room, asked: Terms | NewTask, last: str) -> Reason | None:
        """Why a task is not to go to a node whatever is free there.

        ``last``: the node of its latest attempt; empty before the first.
        """
        policy = asked.policy
        if policy is None:
            return None
        if policy.constraints and broken(policy.constraints, room.labels) is not None:
            return Reason.CONSTRAINT
        if last and policy.retry_node is not _ANY and self._is_barred(room, asked, last):
            return Reason.RETRY_ELSEWHERE
        return None

    def _is_barred(self, room: Room, asked: Terms | NewTask, last: str) -> bool:
        assert asked.policy is not None
        if asked.policy.retry_node is _SAME:
            home = self.find(last)
            # A node that gives everything back is not waited for.
            return (
                home is not None
                and room is not home
                and home.node.eligibility is not Eligibility.DRAINING
                and home.suits(asked)
            )
        return room.node.id == last and any(
            other is not room and other.refusal is None and other.suits(asked)
            for other in self.all()
        )

    def take(self, room: Room, asked: Terms | NewTask, last: str) -> Reason | None:
        """Put a task there, unless it may not go there: then why."""
        if room.refusal is not None:
            return room.refusal
        if asked.policy is not None:
            reason = self.bars(room, asked, last)
            if reason is not None:
                return reason
        return None if room.hold(asked) else _NODE_FULL
