"""What tasks left as their results: the value itself, wherever it is kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from raftsched.core.commands import DeleteTask
from raftsched.core.model import RESULT_FILE_BYTES_MAX
from tests.unit.api.harness import Api, serving

RESULT = "/v1/tasks/t/result"
OF_ATTEMPT = "/v1/tasks/t/attempts/1/result"
LARGE = json.dumps(["word"] * 30_000).encode()


async def _ran(api: Api, node: str = "n1", **end: object) -> None:
    """The task ``t`` ran on a node."""
    api.service.add_node(node)
    await api.submit("t")
    api.service.start("t", node)
    api.service.finish("t", **end)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [RESULT, OF_ATTEMPT])
async def test_small_result_is_answered_as_it_is(api: Api, path: str) -> None:
    await _ran(api, result=b'{"a": [1, 2.5, null]}')
    answer = await api.get(path)
    assert (answer.status, answer.body) == (200, b'{"a": [1, 2.5, null]}')
    assert answer.headers["Content-Type"] == "application/json"
    document = (await api.get("/v1/tasks/t")).json()
    assert document["result"] == {"a": [1, 2.5, None]}
    assert (document["result_bytes"], document["result_url"]) == (0, None)


@pytest.mark.parametrize("path", [RESULT, OF_ATTEMPT])
async def test_large_result_is_read_from_the_disk(api: Api, path: str) -> None:
    await _ran(api, result_bytes=len(LARGE))
    api.service.results["t", 1] = LARGE
    answer = await api.get(path)
    assert (answer.status, answer.body) == (200, LARGE)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Length"] == str(len(LARGE))
    assert answer.headers["Raftsched-Served-By"] == "n1"


async def test_document_says_where_a_large_result_is(api: Api) -> None:
    await _ran(api, result_bytes=len(LARGE))
    [row] = (await api.get("/v1/tasks/t/attempts")).json()["items"]
    for document in ((await api.get("/v1/tasks/t")).json(), row):
        assert document["result"] is None
        assert (document["result_bytes"], document["result_url"]) == (len(LARGE), OF_ATTEMPT)


async def test_result_of_an_earlier_attempt_stays_its_own(api: Api) -> None:
    api.service.add_node("n1")
    await api.submit("t", retry={"max_attempts": 2, "base": 0})
    api.service.start("t")
    api.service.finish("t", "failed", exit_code=1, result=b"1")
    api.service.start("t")
    api.service.finish("t", result=b"2")
    assert (await api.get(OF_ATTEMPT)).body == b"1"
    assert (await api.get(RESULT)).body == b"2"


# None ---------------------------------------------------------------------------------------------


async def test_task_without_a_result_says_why(api: Api) -> None:
    async def why(path: str = RESULT) -> str:
        return str((await api.get(path)).problem(404, "no-result")["detail"])

    api.service.add_node("n1")
    await api.submit("t")
    assert await why() == "task t is queued and has not run"
    api.service.start("t")
    assert await why() == "attempt 1 of task t is running and has no result yet"
    api.service.finish("t", "failed", exit_code=3, reason="exit-code-3")
    said = "attempt 1 of task t ended failed (exit-code-3) and left no result"
    assert await why() == await why(OF_ATTEMPT) == said
    await api.submit("silent")
    api.service.run("silent")
    said = "attempt 1 of task silent ended succeeded and left no result"
    assert await why("/v1/tasks/silent/result") == said


async def test_task_that_was_split_has_its_results_in_its_parts(api: Api) -> None:
    api.service.add_node("n1")
    await api.submit("t", broadcast="all")
    problem = (await api.get(RESULT)).problem(404, "no-result")
    assert problem["detail"] == "task t was split; its subtasks have the results"


async def test_result_of_what_never_was_is_unknown(api: Api) -> None:
    (await api.get(RESULT)).problem(404, "unknown-task")
    await _ran(api, result=b"1")
    (await api.get("/v1/tasks/t/attempts/2/result")).problem(404, "unknown-task")
    (await api.get("/v1/tasks/t/attempts/x/result")).problem(404, "not-found")
    api.service.apply(DeleteTask("t"))
    (await api.get(RESULT)).problem(404, "unknown-task")


@pytest.mark.parametrize("left", [None, b"", LARGE[:-1], LARGE + b" "])
async def test_result_that_was_swept_or_is_another_is_gone(api: Api, left: bytes | None) -> None:
    await _ran(api, result_bytes=len(LARGE))
    if left is not None:
        api.service.results["t", 1] = left
    problem = (await api.get(RESULT)).problem(410, "output-gone")
    assert problem["retryable"] is False


async def test_result_that_is_swept_while_it_is_read_is_cut_off(api: Api) -> None:
    size = RESULT_FILE_BYTES_MAX
    await _ran(api, result_bytes=size)
    api.service.results["t", 1] = bytes(size)
    async with api.stream(RESULT) as answer:
        assert answer.status == 200
        await answer.content.readexactly(1)
        del api.service.results["t", 1]
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


# From another node --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _kept_elsewhere(api: Api) -> AsyncIterator[Api]:
    """``t`` ran on n2, a server of its own with the same state, which keeps its result."""
    async with serving("n2") as other:
        other.service.state = api.state
        api.service.add_node("n2", address=f"http://{other.address}")
        await api.submit("t")
        api.service.start("t", "n2")
        api.service.finish("t", result_bytes=len(LARGE))
        other.service.results["t", 1] = LARGE
        yield other


@pytest.mark.parametrize("path", [RESULT, OF_ATTEMPT])
async def test_result_of_another_node_is_fetched_from_it(api: Api, path: str) -> None:
    async with _kept_elsewhere(api) as other:
        answer = await api.get(path)
        assert (answer.status, answer.body) == (200, LARGE)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Content-Length"] == str(len(LARGE))
        assert answer.headers["Raftsched-Served-By"] == "n1"
        # No second round of the log: as new as what is known here is new enough.
        assert other.service.reads == [("local", api.state.index)]


async def test_small_result_needs_no_other_node(api: Api) -> None:
    await _ran(api, "n2", result=b"7")
    assert (await api.get(RESULT)).body == b"7"


async def test_result_that_the_other_node_swept_is_gone(api: Api) -> None:
    async with _kept_elsewhere(api) as other:
        other.service.results.clear()
        answer = await api.get(RESULT)
        assert (answer.status, answer.json()["code"]) == (410, "output-gone")
        (await api.get(RESULT, Raftsched_Forwarded="n3")).problem(410, "output-gone")


async def test_result_of_a_node_that_is_down_is_a_502_and_of_a_forgotten_one_a_410(
    api: Api,
) -> None:
    await _ran(api, "n2", result_bytes=len(LARGE))
    problem = (await api.get(RESULT)).problem(502, "node-unreachable")
    assert "n2" in problem["detail"] and problem["retryable"] is True
    del api.state.nodes["n2"]
    (await api.get(RESULT)).problem(410, "output-gone")
