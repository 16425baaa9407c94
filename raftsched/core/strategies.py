"""Which of the nodes that a task may go to is the best: whole numbers, the same on every peer.

A strategy ranks a node: the lowest rank is chosen, node ids break ties.  All ranks have one scale:
parts per million, where 1,000,000 is the way from an empty node to a full one, from the next node
in turn to the last, or from the best hash to the worst.  An affinity's weight of 1 is worth
`WEIGHT_PPM` of it, so 100 outweighs everything but a node that is filled ahead of its slots.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from raftsched.core.indexes import Usage
from raftsched.core.model import Node

PPM = 1_000_000
#: What an affinity's weight of 1 is worth.
WEIGHT_PPM = 10_000

#: Ranks a node by what it holds.
ByLoad = Callable[[Node, Usage], int]


class Turn(NamedTuple):
    """What an assignment is chosen by, beside the nodes' loads."""

    task_id: str
    #: The attempt that is to run, from 1 on.
    number: int
    #: Empty: the task's id.
    key: str
    #: The fencing token it is going to have: rises by one with every assignment.
    token: int


#: Ranks a node by its id, and its place among the ``count`` ones that are in the choice.
ByTurn = Callable[[Turn, str, int, int], int]


def spread(node: Node, usage: Usage) -> int:
    """The emptiest first: by the fullest of the node's dimensions, in parts per million."""
    load = usage.attempts * PPM // (node.slots or 1)
    if usage.cpu_milli:
        part = usage.cpu_milli * PPM // (node.cpu_milli or 1)
        load = part if part > load else load
    if usage.memory_bytes:
        part = usage.memory_bytes * PPM // (node.memory_bytes or 1)
        load = part if part > load else load
    return load


def binpack(node: Node, usage: Usage) -> int:
    """The fullest first."""
    load = spread(node, usage)
    # A node whose slots are all taken comes last: packing must not queue behind free slots.
    return load if usage.attempts >= node.slots else -load


def round_robin(turn: Turn, node_id: str, place: int, count: int) -> int:
    """One after the other by id.

    The token says whose turn it is, so nothing has to be remembered; assignments by other
    strategies move the turn on, too.
    """
    return (place - turn.token) % count * PPM // count


def consistent_hash(turn: Turn, node_id: str, place: int, count: int) -> int:
    """Always the same node for a key, as long as it has room (rendezvous hashing).

    When a node goes only its keys move, and each to the node that was next for it.
    """
    return _hash(turn.key or turn.task_id, node_id)


def random(turn: Turn, node_id: str, place: int, count: int) -> int:
    """Any: by a hash of the task and the attempt's number."""
    return _hash(f"{turn.task_id}\0{turn.number}", node_id)


def _hash(what: str, node_id: str) -> int:
    """0 to `PPM`."""
    digest = blake2b(f"{what}\0{node_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % PPM


BY_LOAD: dict[str, ByLoad] = {"spread": spread, "binpack": binpack}
BY_TURN: dict[str, ByTurn] = {
    "round_robin": round_robin,
    "consistent_hash": consistent_hash,
    "random": random,
}
#: All names.
STRATEGIES = frozenset({*BY_LOAD, *BY_TURN})
#: Those that a cluster knew before it had policies.
STRATEGIES_FIRST = frozenset(BY_LOAD)
