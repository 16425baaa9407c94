"""Claims about nodes' labels."""

from __future__ import annotations

import pytest

from raftsched.core.constraints import broken, constraint_text, is_true, labels_of, weight_of
from raftsched.core.policy import Affinity, Constraint, Op
from tests.unit.core.builders import node

LABELS = {"zone": "a", "disk": "ssd", "empty": ""}


@pytest.mark.parametrize(
    ("label", "op", "values", "truth"),
    [
        ("zone", Op.EQUAL, ("a",), True),
        ("zone", Op.EQUAL, ("b",), False),
        ("gone", Op.EQUAL, ("a",), False),
        ("gone", Op.EQUAL, ("",), False),
        ("empty", Op.EQUAL, ("",), True),
        ("zone", Op.NOT_EQUAL, ("a",), False),
        ("zone", Op.NOT_EQUAL, ("b",), True),
        ("gone", Op.NOT_EQUAL, ("a",), True),
        ("disk", Op.IN, ("hdd", "ssd"), True),
        ("zone", Op.IN, ("b", "c"), False),
        ("gone", Op.IN, ("a",), False),
        ("disk", Op.NOT_IN, ("hdd", "ssd"), False),
        ("zone", Op.NOT_IN, ("b", "c"), True),
        ("gone", Op.NOT_IN, ("a",), True),
        ("empty", Op.EXISTS, (), True),
        ("gone", Op.EXISTS, (), False),
        ("empty", Op.ABSENT, (), False),
        ("gone", Op.ABSENT, (), True),
    ],
)
def test_a_claim_is_true_of_a_node_or_not(
    label: str, op: Op, values: tuple[str, ...], truth: bool
) -> None:
    assert is_true(Constraint(label, op, values), LABELS) is truth


def test_labels_set_at_run_time_are_stronger_and_nothing_is_stronger_than_the_node() -> None:
    labels = {"zone": "a", "disk": "ssd", "node.id": "liar"}
    row = node("n7", labels=labels, labels_set={"zone": "b", "node.id": "liar"})
    assert labels_of(row) == {"zone": "b", "disk": "ssd", "node.id": "n7"}


def test_all_claims_have_to_be_true_and_the_first_that_is_not_is_named() -> None:
    good = Constraint("zone", Op.EQUAL, ("a",))
    bad = Constraint("disk", Op.EQUAL, ("hdd",))
    worse = Constraint("gpu", Op.EXISTS)
    assert broken((), LABELS) is None
    assert broken((good,), LABELS) is None
    assert broken((good, bad, worse), LABELS) is bad


def test_the_weights_of_true_claims_add_up() -> None:
    wishes = (
        Affinity(Constraint("zone", Op.EQUAL, ("a",)), 10),
        Affinity(Constraint("zone", Op.EQUAL, ("b",)), 100),
        Affinity(Constraint("disk", Op.EXISTS), -30),
    )
    assert weight_of(wishes, LABELS) == -20


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (Constraint("zone", Op.EQUAL, ("a",)), "zone = a"),
        (Constraint("zone", Op.NOT_EQUAL, ("a",)), "zone != a"),
        (Constraint("disk", Op.IN, ("nvme", "ssd")), "disk in [nvme, ssd]"),
        (Constraint("disk", Op.NOT_IN, ("hdd",)), "disk not in [hdd]"),
        (Constraint("gpu", Op.EXISTS), "gpu exists"),
        (Constraint("gpu", Op.ABSENT), "gpu absent"),
    ],
)
def test_a_claim_reads_as_users_write_it(constraint: Constraint, text: str) -> None:
    assert constraint_text(constraint) == text
