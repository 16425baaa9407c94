"""Routes for all tasks that pass a filter."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core.commands import (
    AnyCommand,
    CancelTask,
    DeleteTask,
    EditTask,
    PauseTask,
    ResumeTask,
)
from raftsched.peer.errors import NoLeader, UnknownOutcome
from tests.unit.api.harness import Api

VERBS = ("cancel", "retry", "pause", "resume", "run", "delete", "edit")
#: Bodies of those that need one.
BODIES = {"edit": {"priority": 80}}


async def fill(api: Api) -> None:
    """Three tasks that wait in ``slow``, one in ``default``, one that failed, one that ran."""
    api.service.add_node()
    for number in range(3):
        await api.submit(f"s{number}", queue="slow")
    await api.submit("d")
    for task_id, status in (("bad", "failed"), ("good", "succeeded")):
        await api.submit(task_id, queue="slow")
        api.service.start(task_id)
        api.service.finish(task_id, status)


async def test_all_that_match_are_cancelled_and_nothing_else(api: Api) -> None:
    await fill(api)
    answer = (await api.post("/v1/tasks:cancel?queue=slow", {"reason": "too many"})).json()
    assert answer == {
        "matched": 3, "changed": 3, "ids": ["s2", "s1", "s0"], "more": False, "refused": [],
    }  # fmt: skip
    assert api.service.task("s1").reason == "too many"
    states = {task_id: api.service.task(task_id).status.value for task_id in ("s0", "d", "bad")}
    assert states == {"s0": "cancelled", "d": "queued", "bad": "failed"}


async def test_no_more_than_the_limit_are_changed_and_that_is_said(api: Api) -> None:
    await fill(api)
    answer = (await api.post("/v1/tasks:cancel?queue=slow&limit=2", {})).json()
    assert (answer["matched"], answer["changed"], answer["more"]) == (2, 2, True)
    assert api.service.task("s0").status.value == "queued"


#: How many of `fill` in ``slow`` each verb is for; one of them is paused.
MATCHED = {"cancel": 3, "retry": 1, "pause": 2, "resume": 1, "run": 1, "delete": 2, "edit": 3}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_dry_run_counts_and_changes_nothing(api: Api, verb: str) -> None:
    await fill(api)
    api.service.apply(PauseTask("s2"))
    before = api.service.rows()
    path = f"/v1/tasks:{verb}?queue=slow&dry_run=1"
    answer = (await api.post(path, BODIES.get(verb, {}))).json()
    assert answer["matched"] == MATCHED[verb]
    assert (answer["changed"], answer["ids"]) == (0, [])
    assert api.service.rows() == before


async def test_what_did_not_succeed_is_tried_again(api: Api) -> None:
    await fill(api)
    answer = (await api.post("/v1/tasks:retry?state=failed", {})).json()
    assert (answer["matched"], answer["changed"]) == (1, 1)
    [new_id] = answer["ids"]
    made = (await api.get(f"/v1/tasks/{new_id}")).json()
    assert (made["retry_of"], made["queue"], made["state"]) == ("bad", "slow", "queued")


@pytest.mark.parametrize("verb", VERBS)
async def test_without_a_filter_nothing_is_done(api: Api, verb: str) -> None:
    await fill(api)
    before = api.service.rows()
    (await api.post(f"/v1/tasks:{verb}", {})).problem(422, "invalid")
    (await api.post(f"/v1/tasks:{verb}?state=nonsense", {})).problem(422, "invalid")
    (await api.post(f"/v1/tasks:{verb}?queue=slow", {"x": 1})).problem(422, "invalid")
    assert api.service.rows() == before


@pytest.mark.parametrize(
    ("verb", "ids"),
    [("pause", ["s1", "s0"]), ("resume", ["s2"]), ("run", ["s2"]), ("delete", ["good", "bad"]),
     ("edit", ["s2", "s1", "s0"])],
)  # fmt: skip
async def test_all_that_match_are_changed_and_nothing_else(
    api: Api, verb: str, ids: list[str]
) -> None:
    await fill(api)
    api.service.apply(PauseTask("s2"))
    before = {row["id"]: row for row in (await api.get("/v1/tasks")).json()["items"]}
    answer = (await api.post(f"/v1/tasks:{verb}?queue=slow", BODIES.get(verb, {}))).json()
    assert (answer["ids"], answer["changed"], answer["refused"]) == (ids, len(ids), [])
    after = {row["id"]: row for row in (await api.get("/v1/tasks")).json()["items"]}
    assert {i for i in before if after.get(i) != before[i]} == set(ids)
    says: dict[str, Any] = {
        "pause": ("paused", True), "resume": ("paused", False), "run": ("paused", False),
        "edit": ("priority", 80),
    }  # fmt: skip
    if verb == "delete":
        assert not set(ids) & set(after)
    else:
        field, value = says[verb]
        assert {after[i][field] for i in ids} == {value}


async def test_what_changed_meanwhile_is_named_with_the_reason(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(api)
    apply = api.service.apply
    pending: list[AnyCommand] = [CancelTask("s1"), DeleteTask("s1"), CancelTask("s0")]

    def overtaken(command: AnyCommand) -> Any:
        while pending:
            apply(pending.pop(0))
        return apply(command)

    monkeypatch.setattr(api.service, "apply", overtaken)
    answer = (await api.post("/v1/tasks:pause?queue=slow", {})).json()
    assert (answer["matched"], answer["ids"]) == (3, ["s2"])
    refused = [(row["id"], row["code"]) for row in answer["refused"]]
    assert refused == [("s1", "unknown-task"), ("s0", "task-terminal")]
    assert "cancelled" in answer["refused"][1]["detail"]


async def test_edits_go_on_top_of_what_is_changed_meanwhile(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(api)
    apply = api.service.apply
    others: list[AnyCommand] = [PauseTask("s1"), CancelTask("s0")]

    def overtaken(command: AnyCommand) -> Any:
        while others:
            apply(others.pop())
        return apply(command)

    monkeypatch.setattr(api.service, "apply", overtaken)
    answer = (await api.post("/v1/tasks:edit?queue=slow", {"priority": 80})).json()
    assert (answer["matched"], sorted(answer["ids"])) == (3, ["s1", "s2"])
    assert [(row["id"], row["code"]) for row in answer["refused"]] == [("s0", "task-terminal")]
    task = api.service.task("s1")
    assert (task.priority, task.paused) == (80, True)


async def test_an_edit_that_is_always_overtaken_is_refused_in_the_end(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(api)
    apply = api.service.apply

    def overtaken(command: AnyCommand) -> Any:
        if isinstance(command, EditTask) and command.task.id == "s1":
            apply((ResumeTask if api.service.task("s1").paused else PauseTask)("s1"))
        return apply(command)

    monkeypatch.setattr(api.service, "apply", overtaken)
    answer = (await api.post("/v1/tasks:edit?queue=slow", {"priority": 80})).json()
    assert sorted(answer["ids"]) == ["s0", "s2"]
    [refused] = answer["refused"]
    assert (refused["id"], refused["code"]) == ("s1", "modified")
    assert refused["detail"] == "task s1 was modified by others in each of 5 tries; ask again"


@pytest.mark.parametrize("error", [NoLeader("gone"), UnknownOutcome("late")])
@pytest.mark.parametrize("verb", ["pause", "edit"])
async def test_trouble_after_the_first_change_is_no_sure_refusal(
    api: Api, verb: str, error: Exception
) -> None:
    await fill(api)
    api.service.propose_trouble, api.service.proposals_before_trouble = error, 2
    answer = await api.post(f"/v1/tasks:{verb}?queue=slow", BODIES.get(verb, {}))
    assert answer.problem(504, "outcome-unknown")["applied"] == "unknown"
    api.service.propose_trouble = None
    again = (await api.post(f"/v1/tasks:{verb}?queue=slow", BODIES.get(verb, {}))).json()
    assert again["changed"] == again["matched"], "asked for again, the rest is done"


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"priority": "high"}, "/priority"), ({"id": "x"}, "/id"), ({"bogus": 1}, "/bogus"),
        ({"retry": {"max_attempts": 0}}, "/retry/max_attempts"),
    ],
)  # fmt: skip
async def test_a_patch_that_fits_nothing_is_refused_as_a_whole(
    api: Api, patch: dict[str, Any], pointer: str
) -> None:
    await fill(api)
    before = api.service.rows()
    answer = await api.post("/v1/tasks:edit?queue=slow", patch)
    assert answer.pointer(422, "invalid") == pointer
    assert api.service.rows() == before


async def test_a_patch_that_fits_some_is_refused_by_the_others(api: Api) -> None:
    await fill(api)
    await api.submit("web", queue="slow", command=None, http={"url": "http://x/"})
    patch = {"http": {"url": "http://y/"}}
    answer = (await api.post("/v1/tasks:edit?queue=slow", patch)).json()
    assert (answer["ids"], len(answer["refused"])) == (["web"], 3)
    assert {row["code"] for row in answer["refused"]} == {"invalid"}


async def test_what_runs_is_not_edited(api: Api) -> None:
    await api.populate()
    answer = (await api.post("/v1/tasks:edit?queue=default", {"priority": 80})).json()
    assert answer["ids"] == ["held", "t"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "query", ["queue=", "parent=", "state=", "q=", "node=", "state=queued&queue="]
)
async def test_an_empty_filter_matches_nothing_and_is_refused(
    api: Api, verb: str, query: str
) -> None:
    await fill(api)
    before = api.service.rows()
    answer = await api.post(f"/v1/tasks:{verb}?{query}", BODIES.get(verb))
    name = "queue" if "&" in query else query.rstrip("=")
    assert answer.pointer(422, "invalid") == f"?{name}"
    assert api.service.rows() == before


async def test_what_is_done_to_a_tree_is_done_once(api: Api) -> None:
    for node_id in ("n1", "n2"):
        api.service.add_node(node_id)
    await api.submit("t", broadcast="all", queue="slow")
    answer = (await api.post("/v1/tasks:cancel?queue=slow", {})).json()
    assert (answer["ids"], answer["refused"]) == (["t"], [])
    states = {api.service.task(i).status.value for i in ("t", "t.1", "t.2")}
    assert states == {"cancelled"}
    assert (await api.post("/v1/tasks:retry?state=cancelled", {})).json()["changed"] == 1
    assert (await api.post("/v1/tasks:delete?state=cancelled", {})).json()["ids"] == ["t"]


async def test_a_subtask_is_found_where_its_parent_is_not(api: Api) -> None:
    for node_id in ("n1", "n2"):
        api.service.add_node(node_id)
    await api.submit("t", broadcast="all")
    api.service.start("t.2", "n2")
    assert (await api.post("/v1/tasks:cancel?node=n2", {})).json()["ids"] == ["t.2"]
    assert (await api.post("/v1/tasks:pause?parent=t", {})).json()["ids"] == ["t.2", "t.1"]
