"""Claims about nodes: which are true, and what the true ones are worth.

A node's labels are those it registered with under those it was given at run time; the label
``node.id`` is the node itself, whatever else says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from raftsched.core.model import Node
from raftsched.core.policy import Affinity, Constraint, Op

#: The label that every node has.
NODE_ID = "node.id"


def labels_of(node: Node) -> dict[str, str]:
    """The node's labels as they are in effect."""
    return {**node.labels, **node.labels_set, NODE_ID: node.id}


def is_true(constraint: Constraint, labels: Mapping[str, str]) -> bool:
    """Is the claim true of a node with these labels?  A label that is not there equals nothing."""
    value, op = labels.get(constraint.label), constraint.op
    if op is Op.EXISTS:
        return value is not None
    if op is Op.ABSENT:
        return value is None
    is_among = value is not None and value in constraint.values
    return is_among is (op in (Op.EQUAL, Op.IN))


def broken(constraints: tuple[Constraint, ...], labels: Mapping[str, str]) -> Constraint | None:
    """The first claim that is not true of the node; None if all are."""
    for constraint in constraints:
        if not is_true(constraint, labels):
            return constraint
    return None


def weight_of(affinity: tuple[Affinity, ...], labels: Mapping[str, str]) -> int:
    """The sum of the weights whose claims are true of the node."""
    return sum([wish.weight for wish in affinity if is_true(wish.constraint, labels)])


def constraint_text(constraint: Constraint) -> str:
    """The claim as users write it: ``zone = a``, ``disk in [nvme, ssd]``, ``gpu exists``."""
    label, op, values = constraint.label, constraint.op, constraint.values
    if op in (Op.EXISTS, Op.ABSENT):
        return f"{label} {op}"
    if op in (Op.IN, Op.NOT_IN):
        return f"{label} {op} [{', '.join(values)}]"
    return f"{label} {op} {values[0] if values else ''}"
