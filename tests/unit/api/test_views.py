"""Rows as users see them: every field from its place in the row."""

from __future__ import annotations

import msgspec
import pytest

from raftsched.api.times import instant
from raftsched.api.views import task_view
from raftsched.core.commands import SubmitTasks
from raftsched.core.model import NewTask, Task
from raftsched.core.policy import Backoff, Policy
from raftsched.core.spec import TaskSpec
from tests.unit.api.fake_service import FakeService

SPEC = TaskSpec(
    command=("echo", "hi"),
    name="greet",
    shell=True,
    env={"A": "b"},
    cwd="/srv",
    stdin="in",
    timeout_ms=1_500,
    grace_ms=2_500,
    labels={"team": "web"},
)


POLICY = Policy(backoff=Backoff.CONSTANT, backoff_base_ms=0, queue_timeout_ms=7_000)


@pytest.fixture
def task() -> Task:
    """A task whose fields all differ, after a lost attempt and one that failed."""
    service = FakeService(1)
    for node_id in ("n1", "n2"):
        service.add_node(node_id, cpu_milli=9_000)
    spec = msgspec.msgpack.encode(SPEC)
    new = NewTask("t", spec, "slow", 7, 1_250, 4_096, "binpack", attempts_max=9, policy=POLICY)
    service.apply(SubmitTasks((new,), namespace="space"))
    service.start("t", "n1")
    service.finish("t", "failed", exit_code=1)
    service.start("t", "n2")
    ended = {"exit_code": 5, "signal": 6, "output_tail": b"\xffno", "output_bytes": 8}
    attempt = msgspec.structs.replace(service.task("t").attempts[-1], **ended)
    return msgspec.structs.replace(
        service.task("t"),
        attempts=(service.task("t").attempts[0], attempt),
        reason="why",
        losses=3,
        paused=True,
        finished_at=1_700_000_060_999,
    )


def shown(task: Task) -> object:
    return msgspec.json.decode(msgspec.json.encode(task_view(task)))


def test_every_field_of_a_task_is_shown_under_its_name(task: Task) -> None:
    assert shown(task) == {
        "id": "t", "name": "greet", "namespace": "space", "queue": "slow", "priority": 7,
        "labels": {"team": "web"}, "command": ["echo", "hi"], "shell": True, "env": {"A": "b"},
        "cwd": "/srv", "stdin": "in", "timeout": 1.5, "grace": 2.5, "http": None, "python": None,
        "user": "", "group": "", "umask": "", "nice": 0, "rlimits": None, "before": [],
        "after": [], "queue_timeout": 7, "not_before": None, "deadline": None,
        "retry": {"max_attempts": 9, "backoff": "constant", "base": 0, "max": 300, "jitter": 0.2,
                  "on_exit": [], "node": "any"},
        "delivery": "at_least_once", "idempotent": False, "on_lease_loss": "stop",
        "lease_seconds": 0, "max_losses": 0, "constraints": [], "affinity": [], "limits": [],
        "resources": {"cpu": 1.25, "memory": 4_096},
        "placement": {"strategy": "binpack", "key": ""}, "unique": None, "result": None,
        "result_bytes": 0, "result_url": None, "result_at": None,
        "broadcast": None, "schedule": None, "slot": None, "template": None,
        "parent": None, "twin": None, "twin_of": None, "subtasks": 0,
        "depends_on": [], "needs": None, "fork": None,
        "progress": None, "progress_text": "", "ready_at": None, "retry_of": None,
        "state": "running", "reason": "why", "paused": True, "attempt": 2, "attempts_max": 9,
        "losses": 3, "node": "n2", "token": 2, "exit_code": 5, "signal": 6,
        "output_tail": "�no", "output_bytes": 8, "created_at": "2023-11-14T22:13:23.000Z",
        "started_at": "2023-11-14T22:13:28.000Z", "finished_at": "2023-11-14T22:14:20.999Z",
        "create_index": 3, "modify_index": 8,
    }  # fmt: skip


def test_what_an_attempt_would_say_is_empty_before_the_first(task: Task) -> None:
    task = msgspec.structs.replace(task, attempts=(), finished_at=0)
    document = shown(task)
    assert isinstance(document, dict)
    empty = {
        "attempt": 0, "node": None, "token": None, "exit_code": None, "signal": None,
        "output_tail": "", "output_bytes": 0, "started_at": None, "finished_at": None,
    }  # fmt: skip
    assert {name: document[name] for name in empty} == empty


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, None),
        (1, "1970-01-01T00:00:00.001Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_700_000_000_050, "2023-11-14T22:13:20.050Z"),
        (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
    ],
)
def test_instants_are_rfc_3339_to_the_millisecond(milliseconds: int, text: str | None) -> None:
    assert instant(milliseconds) == text
