"""Submitting one task, and everything that can be asked of one task afterwards."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest

from raftsched.api.programs import ARGUMENTS_BYTES_MAX
from raftsched.core.commands import CancelTask
from raftsched.core.model import Settings
from tests.unit.api.harness import Api, parse

TRUE = {"command": ["true"]}


async def test_submit_answers_the_stored_task_with_its_place_and_tag(api: Api) -> None:
    answer = await api.post("/v1/tasks", {"command": ["echo", "hi"], "name": "greet"})
    task = answer.json()
    assert answer.status == 201
    assert uuid.UUID(task["id"]).version == 7
    assert answer.headers["Location"] == f"/v1/tasks/{task['id']}"
    assert answer.headers["ETag"] == f'"{task["modify_index"]}"'
    assert (task["state"], task["command"], task["name"]) == ("queued", ["echo", "hi"], "greet")
    assert (await api.get(answer.headers["Location"])).json() == task


async def test_every_field_of_a_submission_is_shown_again(api: Api) -> None:
    document = {
        "id": "whole", "command": ["sort", "-u"], "name": "ünïcode", "namespace": "team-a",
        "queue": "slow", "priority": 7, "labels": {"team": "web"}, "shell": False,
        "env": {"A": "b=c"}, "cwd": "/srv", "stdin": "in\0put", "timeout": "5m", "grace": 2.5,
        "user": "nobody", "group": "nogroup", "umask": "027", "nice": 5,
        "rlimits": {"memory": "1GiB", "cpu": "90s", "open_files": 64, "processes": 8},
        "before": ["mkdir", "x"], "after": ["rmdir", "x"],
        "queue_timeout": "1h", "not_before": "2030-01-01T00:00:00Z", "deadline": "2d",
        "retry": {"max_attempts": 3, "backoff": "linear", "base": "2s", "max": "1m",
                  "jitter": 0.5, "on_exit": [75, 1], "node": "other"},
        "delivery": "at_least_once", "idempotent": True, "on_lease_loss": "continue",
        "lease_seconds": "1m", "max_losses": 5,
        "resources": {"cpu": "0.5", "memory": "256MiB", "gpu": 2},
        "constraints": ["zone = a", "disk in [ssd, nvme]", "gpu exists"],
        "affinity": [{"match": "rack != r1", "weight": -20}],
        "placement": {"strategy": "binpack", "key": "k"}, "limits": ["b", "a"],
        "unique": {"key": "u", "on_conflict": "return"},
    }  # fmt: skip
    task = (await api.post("/v1/tasks", document)).json()
    created = task["created_at"]
    shown = {
        **document, "timeout": 300, "resources": {"cpu": 0.5, "memory": 256 << 20, "gpu": 2},
        "rlimits": {"memory": 1 << 30, "cpu": 90, "open_files": 64, "processes": 8},
        "queue_timeout": 3600, "not_before": "2030-01-01T00:00:00.000Z", "lease_seconds": 60,
        "constraints": ["zone = a", "disk in [nvme, ssd]", "gpu exists"], "limits": ["a", "b"],
        "deadline": created.replace("14T", "16T"), "state": "waiting", "reason": "not-before",
        "retry": {"max_attempts": 3, "backoff": "linear", "base": 2, "max": 60, "jitter": 0.5,
                  "on_exit": [1, 75], "node": "other"},
        "ready_at": "2030-01-01T00:00:00.000Z",
    }  # fmt: skip
    assert {name: task[name] for name in shown} == shown


async def test_shell_line_is_one_command(api: Api) -> None:
    task = (await api.post("/v1/tasks", {"command": "echo $A", "shell": True})).json()
    assert (task["command"], task["shell"]) == (["echo $A"], True)


async def test_same_id_and_task_again_is_200_and_makes_nothing(api: Api) -> None:
    first = await api.submit("mine")
    again = await api.post("/v1/tasks", {"id": "mine", "command": ["true"]})
    assert (again.status, again.json()) == (200, first)
    assert "Idempotency-Replayed" not in again.headers
    assert len(api.state.tasks) == 1


async def test_same_id_for_another_task_is_a_conflict(api: Api) -> None:
    await api.submit("mine")
    before = api.service.rows()
    other = await api.post("/v1/tasks", {"id": "mine", "command": ["false"]})
    other.problem(409, "duplicate-id")
    assert api.service.rows() == before


async def test_same_key_and_body_replays_the_answer_whatever_its_spelling(api: Api) -> None:
    first = await api.post("/v1/tasks", {"command": ["true"], "name": "x"}, Idempotency_Key="k")
    assert first.status == 201 and "Idempotency-Replayed" not in first.headers
    again = await api.ask(
        "POST",
        "/v1/tasks",
        data=b'  { "name":"x",\n "command" : ["tru\\u0065"] }',
        Idempotency_Key="k",
    )
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert len(api.state.tasks) == 1


async def test_same_key_with_another_body_is_refused(api: Api) -> None:
    await api.post("/v1/tasks", TRUE, Idempotency_Key="k")
    before = api.service.rows()
    other = await api.post("/v1/tasks", {"command": ["false"]}, Idempotency_Key="k")
    other.problem(422, "idempotency-key-reused")
    assert api.service.rows() == before


async def test_same_key_in_another_namespace_is_another_key(api: Api) -> None:
    first = await api.post("/v1/tasks", TRUE, Idempotency_Key="k")
    other = await api.post("/v1/tasks", {**TRUE, "namespace": "b"}, Idempotency_Key="k")
    assert (first.status, other.status) == (201, 201)
    assert first.json()["id"] != other.json()["id"]


async def test_key_of_a_refused_task_may_be_used_again(api: Api) -> None:
    await api.submit("mine")
    body = {"id": "mine", "command": ["false"]}
    (await api.post("/v1/tasks", body, Idempotency_Key="k")).problem(409, "duplicate-id")
    assert (await api.post("/v1/tasks", TRUE, Idempotency_Key="k")).status == 201


@pytest.mark.parametrize("key", ["x" * 201, "\udcff"])
async def test_unusable_key_is_named(api: Api, key: str) -> None:
    request = (
        b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Authorization: Bearer a-token-of-the-tests\r\nContent-Type: application/json\r\n"
        b"Idempotency-Key: " + key.encode("utf-8", "surrogateescape") + b"\r\n"
        b'Content-Length: 20\r\n\r\n{"command":["true"]}'
    )
    answer = parse(await api.raw(request))
    assert answer.pointer(422, "invalid") == "#Idempotency-Key"
    assert not api.service.proposed


async def test_dry_run_validates_and_proposes_nothing(api: Api) -> None:
    good = await api.post("/v1/tasks?dry_run=1", TRUE)
    assert (good.status, good.json()) == (200, {"valid": True})
    bad = await api.post("/v1/tasks?dry_run=1", {"command": []})
    assert bad.pointer(422, "invalid") == "/command"
    neither = await api.post("/v1/tasks?dry_run=maybe", TRUE)
    assert neither.pointer(422, "invalid") == "?dry_run"
    assert not api.service.proposed


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
async def test_dry_run_of_a_verb_says_what_the_verb_would(api: Api, verb: str) -> None:
    await api.submit("open")
    await api.submit("done")
    api.service.apply(CancelTask("done"))
    before = api.service.rows()
    assert (await api.post(f"/v1/tasks/open/{verb}?dry_run=1")).json() == {"valid": True}
    (await api.post(f"/v1/tasks/done/{verb}?dry_run=1")).problem(409, "task-terminal")
    (await api.post(f"/v1/tasks/none/{verb}?dry_run=1")).problem(404, "unknown-task")
    assert api.service.rows() == before


async def test_dry_run_of_a_delete_deletes_nothing(api: Api) -> None:
    await api.submit("open")
    await api.submit("done")
    api.service.apply(CancelTask("done"))
    before = api.service.rows()
    assert (await api.ask("DELETE", "/v1/tasks/done?dry_run=1")).json() == {"valid": True}
    (await api.ask("DELETE", "/v1/tasks/open?dry_run=1")).problem(409, "task-not-terminal")
    (await api.ask("DELETE", "/v1/tasks/none?dry_run=1")).problem(404, "unknown-task")
    assert api.service.rows() == before


async def test_prefer_wait_answers_when_the_task_has_ended(api: Api) -> None:
    api.service.add_node()
    asking = asyncio.create_task(api.post("/v1/tasks", {**TRUE, "id": "t"}, Prefer="wait=30"))
    while api.state.tasks.get("t") is None:
        await asyncio.sleep(0.001)
    api.service.run("t")
    answer = await asking
    assert (answer.status, answer.json()["state"]) == (201, "succeeded")


@pytest.mark.parametrize("prefer", ["wait=0.05", "wait=x", "wait=-1", "wait=nan", "respond-async"])
async def test_prefer_wait_ends_at_its_timeout_and_rubbish_does_not_wait(
    api: Api, prefer: str
) -> None:
    began = time.monotonic()
    answer = await api.post("/v1/tasks", TRUE, Prefer=prefer)
    assert (answer.status, answer.json()["state"]) == (201, "queued")
    assert time.monotonic() - began < 1


async def test_full_cluster_refuses_with_429_and_when_to_retry(api: Api) -> None:
    api.state.settings = Settings(tasks_open_max=1)
    await api.submit("first")
    before = api.service.rows()
    answer = await api.post("/v1/tasks", TRUE)
    problem = answer.problem(429, "overloaded")
    assert (problem["retryable"], problem["applied"]) == (True, False)
    assert int(answer.headers["Retry-After"]) >= 1
    assert api.service.rows() == before


async def test_get_carries_a_tag_and_304_while_nothing_changed(api: Api) -> None:
    await api.submit("t")
    tag = (await api.get("/v1/tasks/t")).headers["ETag"]
    same = await api.get("/v1/tasks/t", If_None_Match=tag)
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
    await api.post("/v1/tasks/t/pause")
    changed = await api.get("/v1/tasks/t", If_None_Match=tag)
    assert changed.status == 200 and changed.headers["ETag"] != tag


@pytest.mark.parametrize(
    ("held", "status"),
    [
        ('"{}"', 304), ('W/"{}"', 304), ('"1", "{}"', 304), ("*", 304),
        ('"0"', 200), ('"0", "9999"', 200), ("{}", 200), ('"{}', 200), ("", 200),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/tasks/t", "/v1/tasks/t/wait?wait=0ms"])
async def test_if_none_match_holds_for_any_tag_of_the_list(
    api: Api, path: str, held: str, status: int
) -> None:
    await api.submit("first")
    task = await api.submit("t")
    answer = await api.get(path, If_None_Match=held.format(task["modify_index"]))
    assert answer.status == status, answer
    assert answer.headers["ETag"] == f'"{task["modify_index"]}"'
    assert answer.headers["Raftsched-Index"] == str(api.state.index)
    assert (answer.body == b"") == (status == 304)


async def test_a_refusal_says_as_of_when_it_was_refused(api: Api) -> None:
    await api.submit("t")
    for method, path, body, status in (
        ("GET", "/v1/tasks/nobody", None, 404),
        ("POST", "/v1/tasks/nobody/cancel", {}, 404),
        ("POST", "/v1/tasks", {"command": 5}, 422),
        ("DELETE", "/v1/tasks/t", None, 409),
    ):
        answer = await api.ask(method, path, body)
        assert answer.status == status, answer
        assert answer.headers["Raftsched-Index"] == str(api.state.index)
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_if_none_match_does_not_hide_what_a_verb_did(api: Api) -> None:
    task = await api.submit("t")
    for held in (f'"{task["modify_index"] + 1}"', "*"):
        answer = await api.post("/v1/tasks/t/pause", If_None_Match=held)
        assert (answer.status, answer.json()["paused"]) == (200, True)


async def test_304_of_an_unknown_task_is_404(api: Api) -> None:
    (await api.get("/v1/tasks/none", If_None_Match="*")).problem(404, "unknown-task")


async def test_body_may_come_after_its_head(api: Api) -> None:
    host, _, port = api.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"command":["true"],"id":"late"}'
    writer.write(
        b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Authorization: Bearer a-token-of-the-tests\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
    for at in range(0, len(body), 10):
        writer.write(body[at : at + 10])
        await writer.drain()
    assert parse(await reader.read()).status == 201
    writer.close()
    assert api.service.task("late").id == "late"


async def test_answers_say_where_this_peer_stands(api: Api) -> None:
    await api.submit("t")
    headers = (await api.get("/v1/tasks/t")).headers
    stand = {name: headers[f"Raftsched-{name}"] for name in ("Index", "Term", "Known-Leader")}
    assert stand == {"Index": "1", "Term": "3", "Known-Leader": "n1"}
    assert headers["Raftsched-Served-By"] == "n1" and headers["Raftsched-Last-Contact-Ms"] == "5"


async def test_next_answer_knows_of_a_new_leader(api: Api) -> None:
    for leader in ("n2", "n3", "n1"):
        await api.post("/v1/cluster/leader:transfer", {"target": leader})
        answer = await api.get("/v1/tasks")
        assert answer.headers["Raftsched-Known-Leader"] == leader


async def test_reads_are_linearizable_unless_local_is_asked_for(api: Api) -> None:
    await api.submit("t")
    await api.get("/v1/tasks/t")
    await api.get("/v1/tasks/t?consistency=local&min_index=1")
    assert api.service.reads == [("linearizable", 0), ("local", 1)]
    assert (await api.get("/v1/tasks/t?consistency=none")).pointer(422, "invalid") == "?consistency"


async def test_long_poll_answers_at_the_next_change_or_at_its_timeout(api: Api) -> None:
    await api.submit("t")
    early = await api.get(f"/v1/tasks/t?index={api.state.index}&wait=50ms")
    assert early.json()["paused"] is False
    asking = asyncio.create_task(api.get(f"/v1/tasks/t?index={api.state.index}&wait=30s"))
    await asyncio.sleep(0.02)
    assert not asking.done()
    await api.post("/v1/tasks/t/pause")
    assert (await asking).json()["paused"] is True


@pytest.mark.parametrize("path", ["/v1/tasks/t", "/v1/tasks/t/attempts"])
async def test_long_poll_of_a_task_is_not_ended_by_others(api: Api, path: str) -> None:
    api.service.add_node()
    tag = (await api.submit("t"))["modify_index"]
    await api.submit("other")
    early = await api.get(f"{path}?index={tag}&wait=20ms")
    assert early.status == 200
    asking = asyncio.create_task(api.get(f"{path}?index={tag}&wait=30s"))
    for task_id in ("x", "y", "z"):
        await api.submit(task_id)
        await asyncio.sleep(0.005)
    assert not asking.done()
    api.service.start("t")
    assert (await asyncio.wait_for(asking, 5)).status == 200
    # A change that was missed meanwhile needs no waiting.
    assert (await asyncio.wait_for(api.get(f"{path}?index={tag}&wait=30s"), 5)).status == 200
    (await api.get(f"/v1/tasks/none?index={tag}&wait=30s")).problem(404, "unknown-task")


@pytest.mark.parametrize("query", ["", "?dry_run=1"])
async def test_refusals_say_what_which_and_what_now(api: Api, query: str) -> None:
    await api.populate()
    await api.post("/v1/tasks/t/cancel")
    for verb, done in (("cancel", "cancelled"), ("pause", "paused"), ("resume", "resumed")):
        answer = await api.post(f"/v1/tasks/t/{verb}{query}")
        detail = f"task t has ended (cancelled) and cannot be {done}"
        assert answer.problem(409, "task-terminal")["detail"] == detail
        answer = await api.post(f"/v1/tasks/nope/{verb}{query}")
        assert answer.problem(404, "unknown-task")["detail"].startswith("no task 'nope';")
    answer = await api.ask("DELETE", f"/v1/tasks/running{query}")
    text = "task running is running and only a task that has ended can be deleted;"
    assert answer.problem(409, "task-not-terminal")["detail"].startswith(text)
    for verb in ("cordon", "uncordon"):
        answer = await api.post(f"/v1/nodes/n9/{verb}{query}")
        assert answer.problem(404, "unknown-node")["detail"] == "no node 'n9'; known: n1, n2"
    for path in ("", "/wait", "/attempts", "/attempts/1/output"):
        detail = (await api.get("/v1/tasks/nope" + path)).json()["detail"]
        assert detail.startswith("no task 'nope';"), path
    answer = await api.post("/v1/tasks", {"id": "done", "command": ["other"]})
    assert "another task 'done'" in answer.problem(409, "duplicate-id")["detail"]


async def test_arguments_are_measured_in_bytes(api: Api) -> None:
    half = ARGUMENTS_BYTES_MAX // 2
    for fields in (
        {"command": ["é" * half]},
        {"stdin": "é" * (half - 2)},
        {"env": {"é": "é" * (half - 3)}},
    ):
        document: dict[str, Any] = {"command": ["true"], **fields}
        assert (await api.post("/v1/tasks", document)).status == 201, fields.keys()
        document["name"] = "x"
        document["command"] = [*document["command"], "e"]
        problem = (await api.post("/v1/tasks", document)).problem(413, "too-large")
        assert f"have {ARGUMENTS_BYTES_MAX + 1} bytes" in problem["detail"]


async def test_cancel_ends_a_queued_task_and_again_is_a_conflict(api: Api) -> None:
    await api.submit("t")
    answer = await api.post("/v1/tasks/t/cancel", {"reason": "not needed"})
    assert (answer.json()["state"], answer.json()["reason"]) == ("cancelled", "not needed")
    before = api.service.rows()
    (await api.post("/v1/tasks/t/cancel")).problem(409, "task-terminal")
    assert api.service.rows() == before


async def test_cancel_of_a_running_task_may_be_repeated_until_its_node_confirms(api: Api) -> None:
    api.service.add_node()
    await api.submit("t")
    api.service.start("t")
    first = await api.ask("POST", "/v1/tasks/t/cancel", data=b"")
    again = await api.post("/v1/tasks/t/cancel")
    assert (first.status, first.json()["state"]) == (200, "cancelling")
    assert again.json() == first.json()
    api.service.finish("t", "cancelled")
    (await api.post("/v1/tasks/t/cancel")).problem(409, "task-terminal")


async def test_pause_is_a_flag_beside_the_state_and_both_ways_may_be_repeated(api: Api) -> None:
    await api.submit("t")
    seen: list[Any] = []
    for verb in ("pause", "pause", "resume", "resume"):
        task = (await api.post(f"/v1/tasks/t/{verb}")).json()
        seen.append((task["state"], task["paused"]))
    assert seen == [("queued", True)] * 2 + [("queued", False)] * 2
    api.service.apply(CancelTask("t"))
    for verb in ("pause", "resume"):
        (await api.post(f"/v1/tasks/t/{verb}")).problem(409, "task-terminal")


async def test_only_an_ended_task_is_deleted_and_then_it_is_unknown(api: Api) -> None:
    await api.submit("t")
    (await api.ask("DELETE", "/v1/tasks/t")).problem(409, "task-not-terminal")
    await api.post("/v1/tasks/t/cancel")
    gone = await api.ask("DELETE", "/v1/tasks/t")
    assert (gone.status, gone.body) == (204, b"")
    (await api.ask("DELETE", "/v1/tasks/t")).problem(404, "unknown-task")
    (await api.get("/v1/tasks/t")).problem(404, "unknown-task")


async def test_wait_answers_at_the_end_or_at_its_timeout(api: Api) -> None:
    api.service.add_node()
    await api.submit("t")
    early = await api.get("/v1/tasks/t/wait?wait=20ms")
    assert (early.status, early.json()["state"]) == (200, "queued")
    asking = asyncio.create_task(api.get("/v1/tasks/t/wait?wait=30s"))
    await asyncio.sleep(0.02)
    assert not asking.done()
    api.service.run("t")
    assert (await asking).json()["state"] == "succeeded"
    assert (await api.get("/v1/tasks/t/wait")).json()["exit_code"] == 0
    (await api.get("/v1/tasks/none/wait")).problem(404, "unknown-task")
    assert (await api.get("/v1/tasks/t/wait?wait=soon")).pointer(422, "invalid") == "?wait"


async def test_attempts_are_listed_oldest_first_with_how_they_ended(api: Api) -> None:
    api.service.add_node()
    await api.submit("t", retry={"max_attempts": 2, "base": 0})
    assert (await api.get("/v1/tasks/t/attempts")).json() == {"items": []}
    api.service.start("t")
    api.service.finish("t", "failed", exit_code=7, output_tail=b"\xffno", output_bytes=3)
    api.service.run("t")
    first, second = (await api.get("/v1/tasks/t/attempts")).json()["items"]
    assert (first["number"], first["status"], first["exit_code"]) == (1, "failed", 7)
    assert first["output_tail"] == "�no"
    assert (second["number"], second["status"]) == (2, "succeeded")
    assert first["token"] < second["token"]
    assert first["assigned_at"] < first["started_at"] < first["finished_at"]
    (await api.get("/v1/tasks/none/attempts")).problem(404, "unknown-task")
