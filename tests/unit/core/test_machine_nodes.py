"""Nodes: registering, incarnations, verdicts, leaving, cordoning."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core import codec, machine
from raftsched.core.commands import (
    Assignment,
    AssignTasks,
    CancelTask,
    NodeLeft,
    NodeLost,
    SetEligibility,
)
from raftsched.core.model import AttemptStatus, Eligibility, NodeStatus, TaskStatus
from raftsched.core.outcomes import Accepted, Event, Reason, Rejected
from raftsched.core.rooms import AHEAD_MAX
from tests.unit.core.builders import TERM, Replica, dump, entry, finished, node, register


def test_a_new_node_is_up_and_eligible() -> None:
    replica = Replica()
    outcome = replica.do(register("n1", "a", version="0.1.0", labels={"zone": "x"}))
    assert outcome == Accepted()
    assert replica.state.nodes == {
        "n1": node(
            "n1",
            registered_at=replica.now,
            modify_index=replica.index,
            status_since=replica.now,
            version="0.1.0",
            labels={"zone": "x"},
        )
    }
    assert replica.usage() == (0, 0, 0)
    assert replica.events == [Event("node_changed", node_id="n1", detail="up")]


FIELDS_REFUSED: list[dict[str, Any]] = [
    {"node_id": ""},
    {"incarnation": ""},
    {"slots": -1},
    {"cpu_milli": -1},
    {"memory_bytes": -1},
]


@pytest.mark.parametrize("fields", FIELDS_REFUSED)
def test_a_node_without_a_name_or_with_less_than_nothing_is_refused(fields: dict[str, Any]) -> None:
    command = msgspec.structs.replace(register(), **fields)
    assert Replica().refused(command).reason is Reason.INVALID


@pytest.mark.parametrize("clean", [True, False])
def test_the_same_incarnation_again_refreshes_the_row_and_keeps_the_attempts(clean: bool) -> None:
    replica = Replica()
    replica.accepted(register())
    up_since = replica.now
    token = replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(register(address="http://moved", slots=9, clean=clean))
    row = replica.state.nodes["n1"]
    assert (row.address, row.slots, row.status_since) == ("http://moved", 9, up_since)
    assert replica.task().status is TaskStatus.RUNNING
    assert replica.accepted(finished("t1", token)) == ()


def test_a_clean_new_incarnation_loses_what_the_old_one_held() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    replica.submit("t1", "t2", "t3")
    token = replica.run("t1")
    replica.assign("t2")
    replica.accepted(CancelTask("t2"))
    replica.accepted(register("n1", "b", clean=True))
    row = replica.state.nodes["n1"]
    assert (row.incarnation, row.status) == ("b", NodeStatus.UP)
    assert (replica.task("t1").status, replica.task("t1").losses) == (TaskStatus.QUEUED, 1)
    assert replica.latest("t1").reason == "node-restarted"
    assert replica.task("t2").status is TaskStatus.CANCELLED
    assert replica.usage() == (0, 0, 0)
    assert replica.accepted(finished("t1", token)) == (("t1", token),)


def test_an_unclean_new_incarnation_leaves_the_old_attempts_to_their_leases() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    replica.submit("t1", "t2")
    old = replica.run("t1")
    replica.accepted(register("n1", "b", clean=False))
    new = replica.assign("t2", "n1", "b")
    assert replica.task("t1").status is TaskStatus.RUNNING
    assert replica.usage() == (2, 0, 0)
    replica.accepted(NodeLost("n1", "a"))
    assert (replica.task("t1").status, replica.task("t1").losses) == (TaskStatus.QUEUED, 1)
    assert (replica.task("t2").status, replica.task("t2").token) == (TaskStatus.ASSIGNED, new)
    assert replica.accepted(finished("t1", old)) == (("t1", old),)


def test_a_clean_incarnation_loses_what_all_earlier_ones_held() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    replica.submit("t1", "t2")
    replica.run("t1", "n1", "a")
    replica.accepted(register("n1", "b", clean=False))
    replica.run("t2", "n1", "b")
    replica.accepted(register("n1", "c", clean=True))
    assert [replica.task(task_id).losses for task_id in ("t1", "t2")] == [1, 1]
    assert set(replica.state.ready) == {"t1", "t2"}
    assert replica.usage() == (0, 0, 0)


def test_a_report_for_an_attempt_of_the_old_incarnation_counts_until_it_is_lost() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    old = replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(register("n1", "b", clean=False))
    assert replica.accepted(finished("t1", old, incarnation="b")) == ()
    assert replica.task().status is TaskStatus.SUCCEEDED


# Promise G3: an attempt is declared lost only when it surely ended.


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("replaces", ["", "nothing anybody knows"])
def test_a_registration_that_was_overtaken_by_a_later_one_is_refused(
    clean: bool, replaces: str
) -> None:
    # It was sent before any row was seen, and its node restarted before it arrived.
    replica = Replica()
    replica.accepted(register("n1", "new"))
    replica.submit("t1")
    token = replica.run("t1", "n1", "new")
    late = register("n1", "old", clean=clean, replaces=replaces)
    outcome = machine.apply(replica.state, replica.index + 1, entry(late)).outcomes[0][0]
    assert outcome == Rejected(Reason.STALE_INCARNATION, "n1")
    assert replica.state.nodes["n1"].incarnation == "new"
    assert replica.task().status is TaskStatus.RUNNING
    assert replica.accepted(finished("t1", token)) == ()


def test_a_repeated_registration_of_a_superseded_incarnation_is_refused() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    second = register("n1", "b", replaces="a")
    replica.accepted(second)
    replica.accepted(register("n1", "c", replaces="b"))
    replica.submit("t1")
    token = replica.run("t1", "n1", "c")
    for late in (second, register("n1", "a", replaces="0")):
        refusal = replica.refused(late)
        assert refusal == Rejected(Reason.STALE_INCARNATION, "n1")
    assert replica.accepted(finished("t1", token)) == ()


def test_a_superseded_incarnation_is_refused_after_a_restore_too() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    replica.accepted(register("n1", "b", replaces="a"))
    replica.state = codec.restore_state(dump(replica.state))
    refusal = replica.refused(register("n1", "a", replaces="0"))
    assert refusal == Rejected(Reason.STALE_INCARNATION, "n1")
    assert replica.accepted(register("n1", "c", replaces="b")) is None


def test_a_node_that_is_told_of_fewer_slots_keeps_what_it_runs() -> None:
    replica = Replica()
    slots = 2 * AHEAD_MAX
    replica.accepted(register(slots=slots))
    task_ids = [f"t{number}" for number in range(slots)]
    replica.submit(*task_ids)
    placed = AssignTasks(tuple(Assignment(task_id, "n1", "a") for task_id in task_ids))
    replica.accepted(placed)
    replica.accepted(register(slots=0))
    assert replica.usage() == (slots, 0, 0)


@pytest.mark.parametrize("verdict", [NodeLost("n1", "a"), NodeLeft("n1", "a")])
def test_a_node_that_was_gone_is_up_again_when_it_registers(verdict: Any) -> None:
    replica = Replica()
    replica.accepted(register())
    replica.accepted(verdict)
    assert replica.state.nodes["n1"].status is not NodeStatus.UP
    replica.accepted(register())
    row = replica.state.nodes["n1"]
    assert (row.status, row.reason, row.status_since) == (NodeStatus.UP, "", replica.now)


# Verdicts --------------------------------------------------------------------------------------


def test_a_lost_node_says_why_and_since_when() -> None:
    replica = Replica()
    replica.accepted(register())
    before = replica.state.nodes["n1"]
    assert replica.do(NodeLost("n1", "a", "silent")) == Accepted()
    assert replica.state.nodes["n1"] == msgspec.structs.replace(
        before,
        status=NodeStatus.LOST,
        reason="silent",
        status_since=replica.now,
        modify_index=replica.index,
    )
    assert replica.events == [Event("node_changed", node_id="n1", detail="lost")]


def test_a_second_verdict_changes_nothing_more() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.bring("t1", TaskStatus.RUNNING)
    replica.accepted(NodeLost("n1", "a"))
    before = replica.state.nodes["n1"], replica.task()
    assert replica.do(NodeLost("n1", "a")) == Accepted()
    assert (replica.state.nodes["n1"], replica.task()) == before
    assert replica.events == []


def test_a_verdict_that_names_no_incarnation_is_refused() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.bring("t1", TaskStatus.RUNNING)
    assert replica.refused(NodeLost("n1", "")).reason is Reason.INVALID
    assert replica.task().status is TaskStatus.RUNNING


def test_a_verdict_on_an_old_incarnation_leaves_the_new_one_alone() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    replica.accepted(register("n1", "b"))
    replica.submit("t1")
    token = replica.run("t1", "n1", "b")
    before = replica.state.nodes["n1"], replica.task()
    assert replica.do(NodeLost("n1", "a")) == Accepted()
    assert (replica.state.nodes["n1"], replica.task()) == before
    assert replica.events == []
    assert replica.accepted(finished("t1", token)) == ()


def test_attempts_that_a_verdict_finds_ended_stay_ended() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.bring("t1", TaskStatus.SUCCEEDED)
    replica.accepted(NodeLost("n1", "a"))
    assert replica.task().status is TaskStatus.SUCCEEDED
    assert replica.latest().status is AttemptStatus.SUCCEEDED


@pytest.mark.parametrize(
    "command",
    [NodeLost("n1", "a"), NodeLeft("n1", "a"), SetEligibility("n1", Eligibility.CORDONED)],
)
def test_a_node_nobody_knows_is_refused(command: Any) -> None:
    assert Replica().refused(command) == Rejected(Reason.UNKNOWN_NODE, "n1")


def test_a_node_that_leaves_is_left() -> None:
    replica = Replica()
    replica.accepted(register())
    before = replica.state.nodes["n1"]
    assert replica.do(NodeLeft("n1", "a")) == Accepted()
    assert replica.state.nodes["n1"] == msgspec.structs.replace(
        before,
        status=NodeStatus.LEFT,
        reason="left",
        status_since=replica.now,
        modify_index=replica.index,
    )
    assert replica.events == [Event("node_changed", node_id="n1", detail="left")]


def test_a_good_bye_of_an_old_incarnation_is_refused() -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    replica.accepted(register("n1", "b"))
    refusal = replica.refused(NodeLeft("n1", "a"))
    assert refusal == Rejected(Reason.STALE_INCARNATION, "n1")


# Eligibility -----------------------------------------------------------------------------------


def test_a_cordoned_node_keeps_what_it_runs() -> None:
    replica = Replica()
    replica.accepted(register())
    token = replica.bring("t1", TaskStatus.RUNNING)
    assert replica.do(SetEligibility("n1", Eligibility.CORDONED)) == Accepted()
    assert replica.state.nodes["n1"].eligibility is Eligibility.CORDONED
    assert replica.events == [Event("node_changed", node_id="n1", detail="cordoned")]
    assert replica.accepted(finished("t1", token)) == ()


def test_an_uncordoned_node_takes_tasks_again() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1")
    replica.accepted(SetEligibility("n1", Eligibility.CORDONED))
    replica.accepted(SetEligibility("n1", Eligibility.ELIGIBLE))
    assert replica.assign("t1") == 1


@pytest.mark.parametrize("incarnation", ["a", "b"])
def test_a_cordon_outlives_a_restart(incarnation: str) -> None:
    replica = Replica()
    replica.accepted(register())
    replica.accepted(SetEligibility("n1", Eligibility.CORDONED))
    replica.accepted(register("n1", incarnation))
    assert replica.state.nodes["n1"].eligibility is Eligibility.CORDONED


@pytest.mark.parametrize("term", [TERM - 1, TERM + 1, -1])
def test_verdict_of_a_leader_that_was_deposed_is_refused(term: int) -> None:
    replica = Replica()
    replica.accepted(register("n1", "a"))
    replica.submit("t1")
    replica.assign("t1")
    # 0 is what the builder fills in.
    verdict = NodeLost("n1", "a", "lease-expired", term=term or -1)
    assert replica.refused(verdict).reason is Reason.STALE_TERM
    assert replica.state.tasks.get("t1").status is TaskStatus.ASSIGNED  # type: ignore[union-attr]
    replica.accepted(msgspec.structs.replace(verdict, term=TERM))
    assert replica.state.tasks.get("t1").status is TaskStatus.QUEUED  # type: ignore[union-attr]
