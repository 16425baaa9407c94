"""Routes that make something else of a task: edit, run now, try again."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest

from raftsched.api import queues
from raftsched.api.amending import edit_task
from raftsched.api.context import TRIES_MAX, Context
from raftsched.api.problems import Problem
from raftsched.core.commands import EditTask, PutQueue
from tests.unit.api.harness import Answer, Api


async def edit(api: Api, patch: Any, task_id: str = "t", **headers: Any) -> Answer:
    return await api.ask("PATCH", f"/v1/tasks/{task_id}", patch, **headers)


async def test_edited_fields_change_and_the_others_stay(api: Api) -> None:
    before = await api.submit("t", env={"A": "1", "B": "2"}, timeout="5m", labels={"team": "web"})
    answer = await edit(api, {"env": {"A": None, "C": "3"}, "priority": 90})
    after = answer.json()
    assert answer.status == 200
    assert answer.headers["ETag"] == f'"{after["modify_index"]}"'
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"env", "priority", "modify_index"}
    assert after["env"] == {"B": "2", "C": "3"}


async def test_null_is_the_default_again(api: Api) -> None:
    await api.submit("t", retry={"max_attempts": 4, "base": "9s"}, unique={"key": "u"})
    after = (await edit(api, {"retry": None})).json()
    assert (after["retry"]["max_attempts"], after["retry"]["base"]) == (1, 1)
    assert after["unique"] == {"key": "u", "on_conflict": "reject"}


async def test_headers_that_are_hidden_survive_an_edit(api: Api) -> None:
    http = {"url": "https://example.org/x", "headers": {"Authorization": "Bearer s3cret"}}
    made = (await api.post("/v1/tasks", {"id": "t", "http": http})).json()
    assert made["http"]["headers"] == {"Authorization": "(hidden)"}
    assert (await edit(api, {"name": "other"})).status == 200
    assert b"s3cret" in api.service.task("t").spec


async def test_a_command_becomes_a_request(api: Api) -> None:
    await api.submit("t")
    after = (await edit(api, {"command": None, "http": {"url": "http://example.org"}})).json()
    assert (after["command"], after["http"]["method"]) == (None, "GET")


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"id": "x"}, "/id"),
        ({"namespace": "x"}, "/namespace"),
        ({"priority": 101}, "/priority"),
        ({"nonsense": 1}, "/nonsense"),
        ({"command": []}, "/command"),
        ({"python": {"function": "a:b"}}, "/python"),
    ],
)
async def test_wrong_patch_is_pointed_at_and_changes_nothing(
    api: Api, patch: dict[str, Any], pointer: str
) -> None:
    await api.submit("t")
    before = api.service.rows()
    assert (await edit(api, patch)).pointer(422, "invalid") == pointer
    assert api.service.rows() == before


async def test_edit_of_what_has_changed_since_is_refused(api: Api) -> None:
    seen = await api.submit("t")
    await edit(api, {"priority": 1})
    stale = await edit(api, {"priority": 2}, If_Match=f'"{seen["modify_index"]}"')
    told = stale.problem(412, "modified")["detail"]
    assert "task t has modify index 2 now, and 1 was asked for; read it again" in told
    fresh = await edit(api, {"priority": 2}, If_Match=f'"{api.service.task("t").modify_index}"')
    assert fresh.json()["priority"] == 2


async def test_what_runs_or_has_ended_is_not_edited(api: Api) -> None:
    (await edit(api, {}, "nobody")).problem(404, "unknown-task")
    api.service.add_node()
    await api.submit("t")
    api.service.start("t")
    (await edit(api, {"priority": 2})).problem(409, "task-running")
    api.service.finish("t")
    (await edit(api, {"priority": 2})).problem(409, "task-terminal")


async def test_a_dry_run_edits_nothing(api: Api) -> None:
    await api.submit("t")
    before = api.service.rows()
    answer = await api.ask("PATCH", "/v1/tasks/t?dry_run=1", {"priority": 2})
    assert answer.json() == {"valid": True}
    assert api.service.rows() == before


# Run now ---------------------------------------------------------------------------------------


async def test_run_now_ends_a_delay(api: Api) -> None:
    await api.submit("t", not_before="1h")
    after = (await api.post("/v1/tasks/t/run", {})).json()
    assert (after["state"], after["ready_at"]) == ("queued", None)


async def test_run_now_of_what_has_ended_or_waits_for_another_is_refused(api: Api) -> None:
    api.service.add_node()
    unique = {"key": "u", "on_conflict": "replace"}
    await api.submit("t", unique=unique)
    api.service.start("t")
    await api.submit("next", unique=unique)
    problem = (await api.post("/v1/tasks/next/run", {})).problem(409, "task-not-queued")
    assert "t" in problem["detail"]
    api.service.finish("t", "cancelled")
    (await api.post("/v1/tasks/t/run", {})).problem(409, "task-terminal")


# Again -----------------------------------------------------------------------------------------


async def test_a_retry_is_a_new_task_that_names_the_old_one(api: Api) -> None:
    api.service.add_node()
    await api.submit("t", name="import", priority=70, deadline="2d")
    api.service.start("t")
    api.service.finish("t", "failed", exit_code=1)
    answer = await api.post("/v1/tasks/t/retry", {})
    made = answer.json()
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/tasks/{made['id']}"
    assert made["id"] != "t"
    assert (made["retry_of"], made["name"], made["priority"]) == ("t", "import", 70)
    assert (made["state"], made["attempt"]) == ("queued", 0)
    assert made["deadline"] > str((await api.get("/v1/tasks/t")).json()["deadline"])


async def test_a_retry_with_a_key_makes_one_task_however_often(api: Api) -> None:
    await api.submit("t")
    await api.post("/v1/tasks/t/cancel", {})
    first = await api.post("/v1/tasks/t/retry", {}, Idempotency_Key="k")
    again = await api.post("/v1/tasks/t/retry", {}, Idempotency_Key="k")
    assert (again.status, again.json()["id"]) == (200, first.json()["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(api.state.tasks) == 2


async def test_what_succeeded_or_has_not_ended_is_not_tried_again(api: Api) -> None:
    api.service.add_node()
    await api.submit("t")
    (await api.post("/v1/tasks/t/retry", {})).problem(409, "task-not-terminal")
    api.service.start("t")
    api.service.finish("t")
    (await api.post("/v1/tasks/t/retry", {})).problem(409, "task-succeeded")


# Unique ----------------------------------------------------------------------------------------


async def test_a_taken_key_is_a_conflict_that_names_the_task_or_an_answer_with_it(api: Api) -> None:
    await api.submit("t", unique={"key": "u"})
    refused = await api.post("/v1/tasks", {"command": ["x"], "unique": {"key": "u"}})
    assert refused.problem(409, "unique-conflict")["task_id"] == "t"
    returned = await api.post(
        "/v1/tasks", {"command": ["x"], "unique": {"key": "u", "on_conflict": "return"}}
    )
    assert (returned.status, returned.json()["id"]) == (200, "t")


async def test_a_task_that_has_run_is_not_made_one_for_many_nodes(api: Api) -> None:
    api.service.add_node()
    await api.submit("t", retry={"max_attempts": 3, "base": "1h"})
    api.service.start("t")
    api.service.finish("t", "failed")
    for query in ("", "?dry_run=1"):
        answer = await api.ask("PATCH", f"/v1/tasks/t{query}", {"broadcast": "all"})
        assert answer.pointer(422, "invalid") == "/broadcast"


async def test_edits_at_once_go_on_top_of_one_another(api: Api) -> None:
    await api.submit("t")
    context = Context(api.service)
    await asyncio.gather(
        edit_task(context, "t", {"priority": 90}), edit_task(context, "t", {"name": "x"})
    )
    shown = (await api.get("/v1/tasks/t")).json()
    assert (shown["priority"], shown["name"]) == (90, "x")
    proposed = [command for command in api.service.proposed if isinstance(command, EditTask)]
    assert len(proposed) == 3, "the second was refused once"


async def test_changes_of_a_queue_at_once_go_on_top_of_one_another(api: Api) -> None:
    context = Context(api.service)
    await api.ask("PUT", "/v1/queues/q", {"concurrency": 1})
    five = queues.QueueRequest(concurrency=5)
    await asyncio.gather(
        queues.change(context, "q", partial(queues.set_paused, True)),
        queues.change(context, "q", partial(queues.wanted_queue, five)),
    )
    shown = (await api.get("/v1/queues/q")).json()
    assert (shown["paused"], shown["concurrency"]) == (True, 5)


class Raced(Context):
    """Somebody else is always faster."""

    async def outcome(self, command: Any) -> Any:
        assert isinstance(command, PutQueue)
        row = self.service.state.queues[command.queue.name]
        await self.service.propose(
            PutQueue(msgspec.structs.replace(row, depth_max=row.depth_max + 1))
        )
        return await super().outcome(command)


async def test_a_change_that_is_always_overtaken_is_refused_in_the_end(api: Api) -> None:
    await api.ask("PUT", "/v1/queues/q", {"concurrency": 1})
    with pytest.raises(Problem, match="modified by others in each of 5 tries; ask again"):
        await queues.change(Raced(api.service), "q", partial(queues.set_paused, True))
    assert (await api.get("/v1/queues/q")).json()["max_depth"] == TRIES_MAX
