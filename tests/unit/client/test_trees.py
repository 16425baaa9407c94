"""Maps, their progress and their results, as both clients see them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from raftsched.client import errors
from raftsched.client.trees import BREAKS_MAX, LINE_BYTES_MAX, Progress
from tests.unit.client.both import Connect
from tests.unit.client.stub import Answer, Asked, Stub, problem, sequence


def _lines(numbers: Iterable[int]) -> bytes:
    return b"".join(json.dumps({"index": n, "result": n}).encode() + b"\n" for n in numbers)


@pytest.mark.parametrize(
    ("arguments", "options", "asked"),
    [
        ((["a", "{item}"], [1, "x"]), {}, {"items": [1, "x"]}),
        ((["a"], range(2, 9, 3)), {"max_parallel": 2}, {"range": [2, 9, 3], "max_parallel": 2}),
        ((["a"], "t-1"), {"on_failure": {"allow": 2}}, {"from": "t-1", "on_failure": {"allow": 2}}),
        (({"command": ["a"]}, (1, 2)), {}, {"items": [1, 2]}),
        ((["a"], [1]), {"speculate": True}, {"items": [1], "speculate": True}),
        ((["a"], [1]), {"speculate": {}}, {"items": [1], "speculate": {}}),
    ],
)
def test_a_map_is_one_task_document(
    connect: Connect, arguments: Any, options: Any, asked: Any
) -> None:
    with Stub(sequence(Answer(201, {"id": "t"}))) as stub, connect(stub.address) as client:
        task = client.map(*arguments, name="all", idempotency_key="k", **options)
    assert task.id == "t"
    task = arguments[0] if isinstance(arguments[0], dict) else {"command": arguments[0]}
    wanted = {"task": task, "on_failure": "fail_fast", **asked}
    assert stub.asked[0].json() == {"name": "all", "map": wanted}
    assert stub.asked[0].headers["idempotency-key"] == "k"


def test_a_line_for_a_shell_is_no_command(connect: Connect) -> None:
    with Stub(sequence(Answer())) as stub, connect(stub.address) as client:
        with pytest.raises(TypeError, match="a command is a list of words"):
            client.map("gzip {item}", ["a"])
        assert not stub.asked


def test_results_are_drawn_line_by_line(connect: Connect) -> None:
    with Stub(sequence(Answer(200, _lines(range(5_000))))) as stub, connect(stub.address) as client:
        assert [line["result"] for line in client.results("t")] == list(range(5_000))
    assert stub.asked[0].path == "/v1/tasks/t/results"


def test_results_that_break_off_go_on_without_losing_or_repeating_one(connect: Connect) -> None:
    cut = _lines(range(3)) + b'{"index": 3, "res'
    answers = sequence(
        Answer(200, cut, promised=9), Answer(200, b"", promised=9), Answer(200, _lines(range(6)))
    )
    with Stub(answers) as stub, connect(stub.address) as client:
        assert [line["index"] for line in client.results("t")] == list(range(6))
    assert len(stub.asked) == 3


def test_results_that_break_off_again_and_again_are_an_error(connect: Connect) -> None:
    answers = sequence(Answer(200, _lines([0]), promised=9))
    with Stub(answers) as stub, connect(stub.address) as client:
        results = client.results("t")
        assert next(results)["index"] == 0
        with pytest.raises(errors.ConnectionFailed):
            list(results)
    assert len(stub.asked) == 1 + BREAKS_MAX


@pytest.mark.parametrize("body", [b"what\n", b"x" * (LINE_BYTES_MAX + 1)])
def test_results_of_another_server_are_said_to_be_that(connect: Connect, body: bytes) -> None:
    with Stub(sequence(Answer(200, body))) as stub, connect(stub.address) as client:
        results = client.results("t")
        with pytest.raises(errors.BadReply):
            list(results)


def test_a_task_that_was_not_split_has_no_results(connect: Connect) -> None:
    answer = problem(404, "no-subtasks", "task t was not split")
    with Stub(sequence(answer)) as stub, connect(stub.address) as client:
        results = client.results("t")
        with pytest.raises(errors.NotFound, match="was not split"):
            list(results)


TREES = {
    "map": {"task": {"state": "running", "fork": {"is_open": True}},
            "counts": {"queued": 3, "succeeded": 4, "failed": 1}, "items": [], "next_cursor": "1"},
    "plain": {"task": {"state": "running"}, "counts": {}, "items": []},
    "over": {"task": {"state": "succeeded"}, "counts": {}, "items": []},
    "flow": {"task": {"state": "running", "fork": {}}, "counts": {"running": 1, "waiting": 1},
             "items": [{"id": "map", "state": "running", "subtasks": 8, "fork": {}},
                       {"id": "flow.then", "state": "waiting", "subtasks": 0, "fork": None}]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "progress"),
    [
        ("map", Progress(5, 8, {"queued": 3, "succeeded": 4, "failed": 1}, is_open=True)),
        ("plain", Progress(0, 1, {"running": 1})),
        ("over", Progress(1, 1, {"succeeded": 1})),
        ("flow", Progress(5, 9, {"failed": 1, "queued": 3, "succeeded": 4, "waiting": 1}, True)),
    ],
)
def test_progress_counts_subtasks_and_those_of_parts(
    connect: Connect, task: str, progress: Progress
) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(200, TREES[asked.path.split("/")[3]])

    with Stub(answer) as stub, connect(stub.address) as client:
        found = client.progress(task)
    assert (found.done, found.total, found.is_open) == (
        progress.done,
        progress.total,
        progress.is_open,
    )
    assert found.counts == progress.counts
    assert found.fraction == progress.done / progress.total


def test_a_wait_tells_how_far_it_is(connect: Connect) -> None:
    states = iter(["running", "running", "succeeded"])
    counts = iter([{"queued": 2}, {"queued": 1, "succeeded": 1}, {"succeeded": 2}])

    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/tree"):
            return Answer(200, {"task": {}, "counts": next(counts), "items": []})
        return Answer(200, {"id": "t", "state": next(states)})

    told: list[float] = []
    with Stub(answer) as stub, connect(stub.address) as client:
        task = client.wait("t", 5, progress=lambda progress: told.append(progress.fraction))
    assert (task.state, told) == ("succeeded", [0.0, 0.5, 1.0])
    assert stub.asked[0].query["wait"] == "1.000s"
