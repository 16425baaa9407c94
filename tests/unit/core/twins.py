"""Maps whose parts may have twins, as the tests of twins take them."""

from __future__ import annotations

from typing import Any

from raftsched.core.commands import (
    Speculate,
    Straggler,
    SubmitTasks,
)
from raftsched.core.model import NewTask
from raftsched.core.outcomes import Reason, Rejected
from raftsched.core.workflow import Speculation
from tests.unit.core.builders import Replica, dump, finished, register
from tests.unit.core.forks import group, part

ASKED = Speculation()


def speculative(*parts: NewTask, **fork: Any) -> NewTask:
    """A fork ``w`` of these parts that may have twins."""
    return group("w", *(parts or (part("a"), part("b"))), speculation=ASKED, **fork)


def replica_with(whole: NewTask) -> Replica:
    """Three nodes with room, and the task."""
    replica = Replica()
    for node_id in ("n1", "n2", "n3"):
        replica.accepted(register(node_id))
    replica.accepted(SubmitTasks((whole,)))
    return replica


def twinned(whole: NewTask | None = None, *, starts: bool = True) -> Replica:
    """``w.a`` runs on n1; its twin does on n2, or is ready yet; ``w.b`` has succeeded."""
    replica = replica_with(whole or speculative())
    replica.run("w.a", "n1")
    replica.run("w.b", "n3")
    replica.finish("w.b")
    assert speculate(replica) == "w.a~2"
    if starts:
        replica.run("w.a~2", "n2")
    return replica


def speculate(replica: Replica, task_id: str = "w.a") -> Any:
    """The id of the twin, or the refusal."""
    token = replica.task(task_id).token
    return replica.accepted(Speculate((Straggler(task_id, token),)))[0]


def ends(replica: Replica, task_id: str, status: str = "succeeded", **fields: Any) -> None:
    """The attempt that a task has ends, with a result."""
    attempt = replica.latest(task_id)
    report = finished(task_id, attempt.token, status, node_id=attempt.node, **fields)
    assert replica.accepted(report) == ()


def refusal(replica: Replica, task_id: str = "w.a") -> Reason:
    before = dump(replica.state)
    found = speculate(replica, task_id)
    assert isinstance(found, Rejected), found
    # A refused item changes nothing; the command itself was taken.
    assert [*dump(replica.state)][1:] == [*before][1:]
    return found.reason
