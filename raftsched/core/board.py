"""Where the planner finds the next task at once, whatever waits in front of it that cannot go.

Lanes that have the same fate are a `Stream`: they pass the same gate (queue and limits), may go to
the same nodes and need as much.  Streams that may go to the same nodes and need as much are a
`Shape`.  A pass looks at the shapes that have an open node; a shape whose best task fits nowhere
is settled for the pass; a stream whose gate is shut is parked, and not looked at again before
somebody let go of what shuts it (`Board.wake`), or its time has come.

Rules
1. All of this is derived from lanes and nodes and says nothing of its own: a board made anew gives
   the same plans.  Peers that do not lead never fill it.
2. Entries of heaps are lower bounds, looked at again when they come to the top: tasks that leave a
   lane cost nothing here.  A task that comes in before all others of its lane makes it ``fresh``.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

from raftsched.core.limits import Gate, Shut, gate_of
from raftsched.core.model import NewTask, Node, Terms
from raftsched.core.ready import Lane, Place
from raftsched.core.rooms import Rooms

if TYPE_CHECKING:
    from raftsched.core.state import State

#: Lanes put in their place in one pass; a pass that leaves some plans nothing yet.
FILED_MAX = 20_000
#: Different shapes.  Tasks that ask for yet others share one, where each lane is tried by itself.
SHAPES_MAX = 1_000
#: Lanes beyond the shapes after which it is looked for shapes that nobody needs any more.
SHAPES_LOOKED_EVERY = 1_000
#: Sets of open nodes for which the shapes are remembered.
MASKS_MAX = 100
#: Entries a heap, and streams the board, may have beyond twice those that count.
STALE_MAX = 64

#: Cpu in milli-cores, bytes of memory, custom resources.
Need = tuple[int, int, tuple[tuple[str, int], ...]]


class Stream:
    """Lanes that pass the same gate and ask for the same of nodes."""

    __slots__ = ("_tidy_at", "entries", "filed", "gate", "is_parked", "shape")

    def __init__(self, gate: Gate, shape: Shape) -> None:
        self.gate = gate
        self.shape = shape
        #: A heap of (place, number of the entry, lane); places are lower bounds.
        self.entries: list[tuple[Place, int, Lane]] = []
        self.is_parked = False
        #: Number of its entry in the shape that counts; 0: none.
        self.filed = 0
        self._tidy_at = STALE_MAX

    def add(self, lane: Lane, place: Place, number: int) -> None:
        """File a lane anew; an earlier entry does not count any more."""
        lane.filed = number
        heapq.heappush(self.entries, (place, number, lane))
        if len(self.entries) > self._tidy_at:
            self.entries = [entry for entry in self.entries if entry[2].filed == entry[1]]
            self.entries = [entry for entry in self.entries if entry[2].blocks]
            heapq.heapify(self.entries)
            self._tidy_at = 2 * len(self.entries) + STALE_MAX

    def first(self) -> Lane | None:
        """The lane whose turn it is; the place of the first entry is then its own."""
        entries = self.entries
        while entries:
            place, number, lane = entries[0]
            if lane.filed != number:
                heapq.heappop(entries)
                continue
            at = lane.at or lane.look()
            if at == place:
                return lane
            if at is None:
                lane.filed = 0
                heapq.heappop(entries)
            else:
                heapq.heapreplace(entries, (at, number, lane))
        return None

    def go_on(self, lane: Lane) -> None:
        """The first lane was drawn from."""
        if lane.at is None:
            lane.filed = 0
            heapq.heappop(self.entries)
        else:
            heapq.heapreplace(self.entries, (lane.at, lane.filed, lane))

    def take_off(self) -> Lane:
        """Leave out the first lane until it is filed again."""
        lane = heapq.heappop(self.entries)[2]
        lane.filed = 0
        return lane


class Shape:
    """Streams that may go to the same nodes, and need as much of them."""

    __slots__ = ("_tidy_at", "entries", "is_forgotten", "is_mixed", "mask")

    def __init__(self, mask: int, *, is_mixed: bool = False) -> None:
        self.mask = mask
        #: Its lanes have masks and needs of their own.
        self.is_mixed = is_mixed
        #: The board does not look at it any more.
        self.is_forgotten = False
        #: A heap.
        self.entries: list[Entry] = []
        self._tidy_at = STALE_MAX

    def add(self, stream: Stream, number: int) -> None:
        """File a stream anew, unless it is empty; an earlier entry does not count any more."""
        if stream.first() is None:
            stream.filed = 0
            return
        stream.filed = number
        heapq.heappush(self.entries, (stream.entries[0][0], number, stream))
        if len(self.entries) > self._tidy_at:
            self.entries = [entry for entry in self.entries if entry[2].filed == entry[1]]
            heapq.heapify(self.entries)
            self._tidy_at = 2 * len(self.entries) + STALE_MAX

    def first(self) -> Stream | None:
        """The stream whose turn it is; the place of the first entry is then its own."""
        entries = self.entries
        while entries:
            place, number, stream = entries[0]
            if stream.filed != number:
                heapq.heappop(entries)
            elif stream.first() is None:
                stream.filed = 0
                heapq.heappop(entries)
            elif stream.entries[0][0] == place:
                return stream
            else:
                heapq.heapreplace(entries, (stream.entries[0][0], number, stream))
        return None

    def go_on(self, stream: Stream) -> None:
        """The first stream was drawn from."""
        if stream.entries:
            heapq.heapreplace(self.entries, (stream.entries[0][0], stream.filed, stream))
        else:
            self.take_off()

    def take_off(self) -> None:
        """Leave out the first stream until it is filed again."""
        heapq.heappop(self.entries)[2].filed = 0


#: Place of a stream, a lower bound; number of the entry; the stream.
Entry = tuple[Place, int, Stream]


class Board:
    """All lanes of the ready queue, by what they wait for."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, Need], Shape] = {}
        self._numbers = count(1)
        self._mixed = Shape(-1, is_mixed=True)
        self._streams: dict[tuple[Gate, int], Stream] = {}
        self._tidy_at = STALE_MAX
        #: Nodes that a set of constraints allows, by their bits.
        self._masks: dict[object, int] = {}
        #: Shapes that may go to one of a set of nodes, by their bits.
        self._among: dict[int, list[Shape]] = {}
        #: Streams whose gate is shut, by what shuts it (`QUEUE` or `LIMIT`, and its name).
        self.parked: dict[tuple[str, str], list[Stream]] = {}
        #: When time alone may open what is shut: in milliseconds, and as a heap.
        self._due: dict[tuple[str, str], int] = {}
        self._dues: list[tuple[int, tuple[str, str]]] = []
        #: What everything here was filed by; None: by nothing, all is to be done anew.
        self._basis: object = None
        #: Lanes that the last pass drew from: filed as if that came to pass.
        self._drawn: list[Lane] = []
        #: Lanes with needs of their own that were tried in vain, until all of them were.
        self._left_out: list[Lane] = []
        #: Lanes that had to be filed among those since shapes were last looked through.
        self._overflows = 0
        #: A row of a node was written since.
        self.nodes_changed = True

    def reset(self) -> None:
        """Another order is in force, or the clock was set."""
        self._basis = None

    # Keeping it ------------------------------------------------------------------------------

    def refresh(self, state: State, rooms: Rooms, now: int) -> bool:
        """Put everything in its place, as far as one pass may.  False: there is more to do."""
        if self._basis is None or self.nodes_changed:
            self._rebase(state)
        while self._dues and (self._dues[0][0] <= now or self._is_stale(self._dues[0])):
            at, name = heapq.heappop(self._dues)
            if self._due.get(name) == at:
                self.wake(*name)
        for lane in self._drawn:
            filed_at = lane.at
            place = lane.look()
            if place is not None and (not lane.filed or filed_at is None or place < filed_at):
                state.ready.fresh[lane] = None
        self._drawn.clear()
        fresh = state.ready.fresh
        for _ in range(min(FILED_MAX, len(fresh))):
            self._file(state, rooms, fresh.popitem()[0])
        return not fresh

    def _rebase(self, state: State) -> None:
        """Begin anew if what lanes were filed by is not so any more."""
        self.nodes_changed = False
        basis = [_fixed(node) for _, node in sorted(state.nodes.items())]
        if basis == self._basis:
            return
        self._basis = basis
        self._shapes.clear()
        self._among.clear()
        self._streams.clear()
        self._masks.clear()
        self.parked.clear()
        self._due.clear()
        self._dues.clear()
        self._drawn.clear()
        self._left_out.clear()
        self._mixed = Shape(-1, is_mixed=True)
        state.ready.refresh()
        for lane in state.ready.fresh:
            lane.stream = None

    def _file(self, state: State, rooms: Rooms, lane: Lane) -> None:
        stream = lane.stream
        if not isinstance(stream, Stream) or stream.shape.is_forgotten:
            ageing_ms = state.ready.ageing_ms
            lane.age_counts = 0 if ageing_ms is None else 1
            lane.base = -lane.terms.priority * (1 if ageing_ms is None else ageing_ms)
            lane.mask = self.mask(rooms, lane.terms, lane.last)
            lane.stream = stream = self._stream(lane)
        place = lane.look()
        if place is None:
            return
        stream.add(lane, place, next(self._numbers))
        if not stream.is_parked and stream.entries[0][2] is lane:
            stream.shape.add(stream, next(self._numbers))

    def mask(self, rooms: Rooms, terms: Terms | NewTask, last: str) -> int:
        """The nodes that ``rooms`` says a task may go to when they have room, by their bits."""
        policy = terms.policy
        if policy is None or not (policy.constraints or last):
            return -1
        known = None if last else self._masks.get(policy.constraints)
        if known is None:
            known = 0
            for room in rooms.all():
                if rooms.bars(room, terms, last) is None:
                    known |= room.bit
            if not last:
                self._masks[policy.constraints] = known
        return known

    def _stream(self, lane: Lane) -> Stream:
        terms = lane.terms
        resources = terms.policy.resources if terms.policy is not None else ()
        need = (terms.cpu_milli, terms.memory_bytes, resources)
        shape = self._shapes.get((lane.mask, need))
        if shape is None:
            if len(self._shapes) < SHAPES_MAX or self._forget_shapes():
                shape = self._shapes[lane.mask, need] = Shape(lane.mask)
                self._among.clear()
            else:
                shape = self._mixed
        gate = gate_of(terms)
        stream = self._streams.get((gate, id(shape)))
        if stream is None:
            if len(self._streams) > self._tidy_at:
                self._tidy()
            stream = self._streams[gate, id(shape)] = Stream(gate, shape)
        return stream

    def _forget_shapes(self) -> bool:
        """Make room for a shape, now and then; False: all that there are, are needed."""
        self._overflows += 1
        if self._overflows % SHAPES_LOOKED_EVERY != 1:
            return False
        self._tidy()
        needed = {id(stream.shape) for stream in self._streams.values()}
        for key, shape in list(self._shapes.items()):
            if id(shape) not in needed:
                # A lane that comes back to one of its streams is filed anew.
                shape.is_forgotten = True
                del self._shapes[key]
        self._among.clear()
        return len(self._shapes) < SHAPES_MAX

    def _tidy(self) -> None:
        """Forget streams that are empty."""
        for key, stream in list(self._streams.items()):
            if stream.first() is None:
                # One of its lanes may come back to it yet: not into the dark.
                stream.is_parked = False
                del self._streams[key]
        for name, parked in list(self.parked.items()):
            self.parked[name] = [stream for stream in parked if stream.is_parked]
        self._tidy_at = 2 * len(self._streams) + STALE_MAX

    # Gates -----------------------------------------------------------------------------------

    def park(self, stream: Stream, shut: Shut) -> None:
        """Do not look at the stream until `wake`, or until its time has come."""
        name = (shut.kind, shut.name)
        stream.is_parked = True
        self.parked.setdefault(name, []).append(stream)
        if shut.at and self._due.get(name) != shut.at:
            self._due[name] = shut.at
            heapq.heappush(self._dues, (shut.at, name))

    def put_back(self, stream: Stream) -> None:
        """Look at a stream again that was taken off its shape."""
        stream.shape.add(stream, next(self._numbers))

    def wake(self, kind: str, name: str) -> None:
        """Somebody let go of a queue or a limit, or its row was written."""
        self._due.pop((kind, name), None)
        for stream in self.parked.pop((kind, name), ()):
            stream.is_parked = False
            stream.shape.add(stream, next(self._numbers))

    @property
    def due(self) -> int:
        """When time alone may open a gate first, in milliseconds; 0: it opens none."""
        return self._dues[0][0] if self._dues else 0

    def _is_stale(self, due: tuple[int, tuple[str, str]]) -> bool:
        return self._due.get(due[1]) != due[0]

    # Drawing ---------------------------------------------------------------------------------

    def heads(self, open_nodes: int) -> list[Entry]:
        """The first entry of each shape that may go to one of these nodes, by their bits."""
        shapes = self._among.get(open_nodes)
        if shapes is None:
            if len(self._among) >= MASKS_MAX:
                self._among.clear()
            shapes = [shape for shape in self._shapes.values() if shape.mask & open_nodes]
            shapes = self._among[open_nodes] = [*shapes, self._mixed]
        return [shape.entries[0] for shape in shapes if shape.entries]

    def leave_out(self, lanes: list[Lane], *, until_all_were_tried: bool) -> None:
        """Lanes that were taken off their streams in vain are filed again when they are to be."""
        self._left_out += lanes
        if not until_all_were_tried:
            self._drawn += self._left_out
            self._left_out.clear()

    def drawn(self, lane: Lane) -> None:
        """A plan has tasks of this lane; whether it comes to pass is seen when planning again."""
        self._drawn.append(lane)


def _fixed(node: Node) -> object:
    """All of a node that decides who may go there when it has room."""
    return (
        node.id, node.labels, node.labels_set, node.status, node.eligibility, node.slots > 0,
        node.cpu_milli, node.memory_bytes, node.resources,
    )  # fmt: skip
