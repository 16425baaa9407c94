"""What must never happen is refused by a statement that `python -O` keeps."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

RAFT = Path(__file__).parents[2] / "raftsched" / "raft"


def _narrows(test: ast.expr) -> bool:
    """Does it only tell the type checker that something is (not) None?"""
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.ops[0], ast.Is | ast.IsNot)
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value is None
    )


@pytest.mark.parametrize("name", ["hard_state", "journal", "engine", "filter", "replication"])
def test_safety_of_the_log_rests_on_no_assertion(name: str) -> None:
    tree = ast.parse((RAFT / f"{name}.py").read_text(encoding="utf-8"))
    asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    wrong = [node.lineno for node in asserts if not _narrows(node.test)]
    assert not wrong, f"raft/{name}.py asserts on lines {wrong}; raise SafetyViolation"
