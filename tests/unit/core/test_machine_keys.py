"""Idempotency keys: one effect, one answer, forgotten by the state's clock alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core import codec
from raftsched.core.commands import ApplyRetention, CancelTask, DeleteTask, SubmitTasks
from raftsched.core.outcomes import Accepted, Reason, Rejected, Submitted
from tests.unit.core.builders import Replica, dump, new_task

RETENTION_MS = 1_000


def keyed(*task_ids: str, key: str = "k1", body: bytes = b"body", **fields: Any) -> SubmitTasks:
    """A submission under a key."""
    tasks = tuple(new_task(task_id) for task_id in task_ids)
    return SubmitTasks(tasks, key=key, request_hash=body, **fields)


def test_a_repeated_key_gives_the_first_answer_and_makes_nothing() -> None:
    replica = Replica()
    first = replica.do(keyed("t1", "t2"))
    rows = dump(replica.state)[1:]
    second = replica.do(keyed("t1", "t2"))
    assert first == Accepted(Submitted(("t1", "t2")))
    assert second == Accepted(Submitted(("t1", "t2"), replayed=True))
    assert dump(replica.state)[1:] == rows
    assert replica.events == []


def test_a_replay_names_the_first_ids_whatever_ids_the_repetition_carries() -> None:
    replica = Replica()
    replica.do(keyed("t1"))
    outcome = replica.do(keyed("another"))
    assert outcome == Accepted(Submitted(("t1",), replayed=True))
    assert "another" not in replica.state.tasks


@pytest.mark.parametrize("restored", [False, True])
def test_a_replay_repeats_what_existed_and_what_was_refused(restored: bool) -> None:
    replica = Replica()
    replica.submit("old")
    tasks = (
        new_task("t1"),
        new_task("old"),
        new_task("old", spec=b"another"),
        new_task("a\tb c"),
        new_task("x" * 1_000),
        new_task("t2", strategy="nonsense"),
    )
    command = SubmitTasks(tasks, key="k1", request_hash=b"body")
    first = replica.accepted(command)
    assert first == Submitted(
        ("t1", "old", "old", "a\tb c", "x" * 64, "t2"),
        existing=(1,),
        refused=(
            (2, Rejected(Reason.DUPLICATE_ID, "old")),
            (3, Rejected(Reason.INVALID, "a\tb c")),
            (4, Rejected(Reason.INVALID, "x" * 64)),
            (5, Rejected(Reason.UNKNOWN_STRATEGY, "t2")),
        ),
    )
    if restored:
        replica.state = codec.restore_state(dump(replica.state))
    assert replica.accepted(command) == msgspec.structs.replace(first, replayed=True)
    assert replica.events == []


def test_a_replay_outlives_the_task_it_made() -> None:
    replica = Replica()
    replica.do(keyed("t1"))
    replica.accepted(CancelTask("t1"))
    replica.accepted(DeleteTask("t1"))
    assert replica.do(keyed("t1")) == Accepted(Submitted(("t1",), replayed=True))
    assert "t1" not in replica.state.tasks


def test_a_replay_is_answered_where_a_new_submission_is_refused() -> None:
    replica = Replica(tasks_open_max=1, keys_max=1)
    replica.do(keyed("t1"))
    assert replica.refused(SubmitTasks((new_task("t2"),))).reason is Reason.OVERLOADED
    assert replica.do(keyed("t1")) == Accepted(Submitted(("t1",), replayed=True))


def test_a_key_with_another_request_is_refused() -> None:
    replica = Replica()
    replica.do(keyed("t1", body=b"one"))
    assert replica.refused(keyed("t2", body=b"two")).reason is Reason.KEY_REUSED


def test_keys_of_two_namespaces_do_not_meet() -> None:
    replica = Replica()
    replica.do(keyed("t1", namespace="one"))
    outcome = replica.do(keyed("t2", namespace="two", body=b"another"))
    assert outcome == Accepted(Submitted(("t2",)))


def test_a_refused_submission_leaves_no_key_behind() -> None:
    replica = Replica()
    bad = SubmitTasks((new_task("t1", priority=101),), key="k1", request_hash=b"body")
    assert replica.refused(bad).reason is Reason.INVALID
    assert replica.do(keyed("t1")) == Accepted(Submitted(("t1",)))


@pytest.mark.parametrize(
    ("age_ms", "replayed"),
    [(0, True), (RETENTION_MS - 1, True), (RETENTION_MS, False), (RETENTION_MS + 1, False)],
)
def test_a_key_expires_by_the_time_of_the_state(age_ms: int, replayed: bool) -> None:
    replica = Replica(key_retention_ms=RETENTION_MS)
    replica.do(keyed("t1"))
    outcome = replica.do(keyed("t1"), now=replica.now + age_ms)
    existing = () if replayed else (0,)
    assert outcome == Accepted(Submitted(("t1",), replayed=replayed, existing=existing))


def test_a_stamp_that_falls_behind_revives_no_key() -> None:
    replica = Replica(key_retention_ms=RETENTION_MS)
    replica.do(keyed("t1"))
    begin = replica.now
    replica.do(CancelTask("t1"), now=begin + RETENTION_MS)
    outcome = replica.do(keyed("t2", body=b"another"), now=begin)
    assert outcome == Accepted(Submitted(("t2",)))


def test_an_expired_key_that_is_used_again_lives_a_full_retention() -> None:
    replica = Replica(key_retention_ms=RETENTION_MS)
    replica.do(keyed("t1"))
    replica.do(keyed("t2", body=b"another"), now=replica.now + RETENTION_MS)
    replica.do(ApplyRetention(), now=replica.now + RETENTION_MS - 1)
    outcome = replica.do(keyed("t2", body=b"another"), now=replica.now)
    assert outcome == Accepted(Submitted(("t2",), replayed=True))


def test_a_full_table_refuses_new_keys_and_forgets_none() -> None:
    replica = Replica(keys_max=2)
    replica.do(keyed("t1", key="k1"))
    replica.do(keyed("t2", key="k2"))
    assert replica.refused(keyed("t3", key="k3")).reason is Reason.KEYS_FULL
    assert replica.do(keyed("t1", key="k1")) == Accepted(Submitted(("t1",), replayed=True))
    assert replica.do(SubmitTasks((new_task("t3"),))) == Accepted(Submitted(("t3",)))


def test_a_full_table_takes_new_keys_once_old_ones_expired_and_were_removed() -> None:
    replica = Replica(keys_max=1, key_retention_ms=RETENTION_MS)
    replica.do(keyed("t1", key="k1"))
    outcome = replica.do(ApplyRetention(), now=replica.now + RETENTION_MS)
    assert outcome == Accepted((0, 1))
    assert replica.do(keyed("t2", key="k2")) == Accepted(Submitted(("t2",)))


def test_a_full_table_lets_an_expired_key_be_used_again() -> None:
    replica = Replica(keys_max=1, key_retention_ms=RETENTION_MS)
    replica.do(keyed("t1"))
    outcome = replica.do(keyed("t2", body=b"another"), now=replica.now + RETENTION_MS)
    assert outcome == Accepted(Submitted(("t2",)))
