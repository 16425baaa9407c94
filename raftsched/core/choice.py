"""The nodes that are open in one pass, and which of them a task goes to."""

from __future__ import annotations

from bisect import insort

from raftsched.core.constraints import weight_of
from raftsched.core.model import NewTask, Node, Task, Terms
from raftsched.core.policy import Affinity
from raftsched.core.rooms import Room, Rooms
from raftsched.core.strategies import BY_LOAD, BY_TURN, WEIGHT_PPM, ByLoad, Turn, spread


class Choice:
    """The rooms that are open, in the order in which the strategy used last would fill them."""

    __slots__ = (
        "_affinity", "_all", "_rank", "_strategy", "_weights", "rooms", "token",
    )  # fmt: skip

    def __init__(self, rooms: Rooms, token: int) -> None:
        """``token``: the one that the next assignment has."""
        self._all = rooms
        #: Rank, the node's bit, room; the lowest first.
        self.rooms = [(0, room.bit, room) for room in rooms.open()]
        self.token = token
        self._strategy = ""
        self._rank: ByLoad = spread
        self._affinity: tuple[Affinity, ...] = ()
        self._weights: dict[int, int] = {}

    @property
    def open_nodes(self) -> int:
        """The bits of nodes that may take anything at all."""
        bits = 0
        for _, bit, _ in self.rooms:
            bits |= bit
        return bits

    def place(self, task: Task | NewTask, terms: Terms | NewTask, mask: int) -> Node | None:
        """The best of the nodes in ``mask`` that has room, which takes the task; None: none has."""
        strategy, policy = terms.strategy, terms.policy
        if strategy in BY_TURN or (policy is not None and policy.affinity):
            return self._place_by_rank(task, terms, mask)
        if strategy != self._strategy and len(self.rooms) > 1:
            self._sort(strategy)
        rooms = self.rooms
        for at, (_, bit, room) in enumerate(rooms):
            if mask & bit and room.hold(terms):
                self.token += 1
                if len(rooms) > 1:
                    del rooms[at]
                    if room.usage.attempts < room.attempts_max:
                        insort(rooms, (self._rank(room.node, room.usage), bit, room))
                elif room.usage.attempts >= room.attempts_max:
                    rooms.clear()
                return room.node
        return None

    def _sort(self, strategy: str) -> None:
        rank = BY_LOAD[strategy]
        self._strategy, self._rank = strategy, rank
        self.rooms = sorted((rank(room.node, room.usage), bit, room) for _, bit, room in self.rooms)

    def _place_by_rank(
        self, task: Task | NewTask, terms: Terms | NewTask, mask: int
    ) -> Node | None:
        ranked = sorted(
            [(self._rank_of(task, terms, room, mask), bit, room)
             for _, bit, room in self.rooms if mask & bit]
        )  # fmt: skip
        for _, _, room in ranked:
            if room.hold(terms):
                self.token += 1
                self._strategy = ""
                if room.usage.attempts >= room.attempts_max:
                    self.rooms = [entry for entry in self.rooms if entry[2] is not room]
                return room.node
        return None

    def _rank_of(self, task: Task | NewTask, terms: Terms | NewTask, room: Room, mask: int) -> int:
        by_turn = BY_TURN.get(terms.strategy)
        if by_turn is None:
            rank = BY_LOAD[terms.strategy](room.node, room.usage)
        else:
            bits = mask & self._all.eligible
            before = (bits & (room.bit - 1)).bit_count()
            rank = by_turn(self._turn(task), room.node.id, before, bits.bit_count())
        policy = terms.policy
        if policy is not None and policy.affinity:
            rank -= WEIGHT_PPM * self._weight(policy.affinity, room)
        return rank

    def _turn(self, task: Task | NewTask) -> Turn:
        number = task.attempt + 1 if isinstance(task, Task) else 1
        key = task.extra.placement_key if task.extra is not None else ""
        return Turn(task.id, number, key, self.token)

    def _weight(self, affinity: tuple[Affinity, ...], room: Room) -> int:
        if affinity is not self._affinity:
            self._affinity, self._weights = affinity, {}
        weight = self._weights.get(room.bit)
        if weight is None:
            weight = self._weights[room.bit] = weight_of(affinity, room.labels)
        return weight
