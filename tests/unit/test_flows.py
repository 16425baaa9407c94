"""Maps, groups and chains of functions: what is submitted, and what their value is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftsched.app import App, Context, TaskFailed
from raftsched.executor.worker_inputs import arguments_of, has_places, values_of
from raftsched.executor.worker_messages import Call
from raftsched.flows import PARTS_MAX, Flow
from tests.unit.client.stub import Answer, Asked, Stub

Rows = dict[str, Answer]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster of this machine takes part."""
    monkeypatch.delenv("RAFTSCHED_ADDR", raising=False)
    monkeypatch.setenv("RAFTSCHED_TOKEN", "secret")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


app = App("test", queue="q")


@app.task(timeout="1m")
def count(path: str, by: int = 1) -> int:
    return len(path) * by


@app.task
def total(counts: list[int], plus: int = 0) -> int:
    return sum(counts) + plus


@app.task(idempotency_key="k")
def files(where: str = ".") -> list[str]:
    return [where]


def call(name: str, *args: Any, **fields: Any) -> dict[str, Any]:
    python = {"function": f"{__name__}:{name}", "args": list(args), "kwargs": {}}
    return {"queue": "q", **fields, "python": python}


COUNT = {"queue": "q", "timeout": "1m", "python": call("count", "{item}")["python"]}


def tasks(flow: Flow) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = flow.document()["workflow"]["tasks"]
    return found


def test_a_map_alone_is_a_map() -> None:
    flow = app.map(count, ["a", "b"], max_parallel=2, on_failure="ignore", priority=9)
    assert flow.document() == {
        "name": "count",
        "map": {"task": COUNT, "items": ["a", "b"], "max_parallel": 2, "on_failure": "ignore"},
        "priority": 9,
    }
    assert flow.result_ids("t") == ["t"]


def test_a_map_may_ask_for_a_second_run_of_what_takes_too_long() -> None:
    asked = {"factor": 3, "min_seconds": "1m"}
    for speculate in (True, asked):
        assert app.map(count, [1], speculate=speculate).document()["map"]["speculate"] == speculate


def test_a_map_and_what_is_behind_it_are_one_workflow() -> None:
    flow = app.map(count.bind(by=2), range(3), deadline="1h").then(total.bind(plus=1))
    document = flow.document()
    assert (document["name"], document["deadline"]) == ("count > total", "1h")
    each, merge = tasks(flow)
    assert (each["name"], each["map"]["range"]) == ("count", [0, 3, 1])
    assert each["map"]["task"]["python"]["kwargs"] == {"by": 2}
    assert merge["python"]["args"] == ["{input}"] and merge["python"]["kwargs"] == {"plus": 1}
    assert (merge["name"], merge["depends_on"]) == ("total", ["count"])
    assert flow.result_ids("t") == ["t.total"]


def test_items_may_be_what_a_function_returns() -> None:
    source, each = tasks(app.map(count, files.bind("/srv")))
    assert source == {"name": "files", **call("files", "/srv")}
    assert each["map"]["from"] == "files" and "items" not in each["map"]


def test_a_chain_hands_on_values_and_a_name_is_given_once() -> None:
    first, second, third = tasks(app.chain(files, count, count.bind(by=2), name="all"))
    assert [first["name"], second["name"], third["name"]] == ["files", "count", "count-2"]
    assert first["python"]["args"] == [] and "depends_on" not in first
    assert (second["python"]["args"], second["depends_on"]) == (["{input}"], ["files"])
    assert (third["python"]["args"], third["depends_on"]) == (["{input}"], ["count"])


def test_members_of_a_group_wait_for_nobody_and_what_is_behind_it_for_all() -> None:
    flow = app.group(count.bind("a"), app.chain(files, count), app.map(count, files))
    assert [(t["name"], t.get("depends_on", [])) for t in tasks(flow)] == [
        ("count", []), ("files", []), ("count-2", ["files"]), ("files-2", []), ("count-3", []),
    ]  # fmt: skip
    assert tasks(flow)[-1]["map"]["from"] == "files-2"
    assert flow.result_ids("t") == ["t.count", "t.count-2", "t.count-3"]
    merge = tasks(flow.then(total))[-1]
    assert merge["depends_on"] == ["count", "count-2", "count-3"]
    assert merge["python"]["args"] == ["{inputs}"]


def test_a_flow_is_not_changed_by_what_is_made_of_it() -> None:
    flow = app.map(count, ["a"])
    before = flow.document()
    flow.then(total)
    flow.with_options(priority=1)
    app.group(flow, flow)
    assert flow.document() == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: app.map(len, ["a"]), "is no function of an app"),  # type: ignore[arg-type]
        (lambda: app.map(count, [{1}]), r"item 0 of count is a set, which is no JSON"),
        (lambda: app.map(count.bind(1, 2), ["a"]), "too many positional"),
        (lambda: app.map(count, [], command=["true"]), "command is no option"),
        (lambda: app.group(app.group(files)), "a group within a group"),
        (lambda: app.group(), "needs a call"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_made(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("items", [range(PARTS_MAX + 1), ["a"] * (PARTS_MAX + 1)])
def test_a_map_in_a_flow_is_told_how_to_be_larger(items: Any) -> None:
    assert len(app.map(count, items).document()["map"]) == 4
    with pytest.raises(ValueError, match="give it a function that returns them"):
        app.map(count, items).then(total).document()


# What comes of it ---------------------------------------------------------------------------------


@pytest.fixture
def rows() -> Rows:
    return {}


@pytest.fixture
def stub(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return Answer(201, {"id": "t", "state": "queued"})
        return rows[asked.path.removeprefix("/v1/tasks/")]

    with Stub(answer) as stub:
        monkeypatch.setenv("RAFTSCHED_ADDR", stub.address)
        yield stub
    app.close()


def lines(*values: Any, **failed: Any) -> Answer:
    found = [
        {"index": n, "id": f"t.{n}", "state": "succeeded", "reason": "", "result": v,
         "exit_code": None, "result_bytes": 0}
        for n, v in enumerate(values)
    ]  # fmt: skip
    for name, change in failed.items():
        found[int(name.removeprefix("n"))].update(change)
    return Answer(200, b"".join(json.dumps(one).encode() + b"\n" for one in found))


def done(task_id: str, **fields: Any) -> Answer:
    return Answer(200, {"id": task_id, "state": "succeeded", "result": None, **fields})


def test_the_value_of_a_map_is_a_list_with_none_for_what_failed(stub: Stub, rows: Rows) -> None:
    large = {"result": None, "result_bytes": 99}
    rows["t/wait"] = done("t", subtasks=3)
    rows["t/results"] = lines(1, "partly", None, n1={"state": "failed"}, n2=large)
    rows["t.2/result"] = Answer(200, ["large"])
    handle = app.map(count, ["a", "b", "c"], on_failure="ignore").submit()
    assert handle.result(5) == [1, None, ["large"]]


def test_the_value_of_a_chain_is_that_of_its_last_call(stub: Stub, rows: Rows) -> None:
    rows["t/wait"] = done("t", subtasks=2)
    rows["t.total"] = done("t.total", result=7)
    assert app.map(count, ["a"]).then(total).submit().result(5) == 7


def test_the_value_of_a_group_is_a_list_also_of_one(stub: Stub, rows: Rows) -> None:
    rows["t/wait"] = done("t", subtasks=1)
    rows["t.count/results"] = lines(1, 2)
    assert app.group(app.map(count, ["a", "b"])).submit().result(5) == [[1, 2]]


def test_a_failure_names_the_part_that_failed_by_itself(stub: Stub, rows: Rows) -> None:
    bad = {"state": "failed", "reason": "subtasks-failed"}
    rows["t/wait"] = Answer(200, {"id": "t", "subtasks": 2, **bad})
    rows["t/results"] = lines(None, None, n0={"state": "cancelled"}, n1={**bad, "id": "t.count"})
    rows["t.count"] = Answer(200, {"id": "t.count", "subtasks": 1, **bad})
    rows["t.count/results"] = lines(None, n0={**bad, "id": "t.count.0"})
    rows["t.count.0"] = done("t.count.0", state="failed", reason="ValueError: no")
    with pytest.raises(TaskFailed, match=r"task t.count.0 failed: ValueError: no"):
        app.map(count, ["a"]).then(total).submit().result(5)


# In a worker --------------------------------------------------------------------------------------


def line(task: str, result: Any, **fields: Any) -> dict[str, Any]:
    return {"task": task, "state": "succeeded", "result": result, "result_bytes": 0,
            "split": False, **fields}  # fmt: skip


SPLIT = [
    line("m", None, split=True),
    line("m.0", 1, of="m", index=0),
    line("m.1", 2, of="m", index=1, state="failed"),
]


@pytest.mark.parametrize(
    ("inputs", "values"),
    [
        ([line("a", 1), line("b", None)], [1, None]),
        (SPLIT, [[1, None]]),
        ([line("a", 3), *SPLIT, line("e", None, split=True)], [3, [1, None], []]),
    ],
)
def test_values_are_those_of_what_is_depended_on(inputs: Any, values: Any) -> None:
    assert values_of(inputs, app) == values


def test_places_are_filled_and_large_results_fetched(
    stub: Stub, rows: Rows, tmp_path: Path
) -> None:
    path = tmp_path / "inputs"
    inputs = [line("a", None, result_bytes=9), line("b", 2)]
    path.write_text("".join(json.dumps(one) + "\n" for one in inputs))
    rows["a/result"] = Answer(200, ["large"])
    args, kwargs = b'["{input}",["{inputs}"],"a {input}"]', b'{"k":{"v":"{input}"}}'
    asked = Call(1, "t", 1, "f", args, kwargs, inputs=str(path))
    found = arguments_of(asked, app, Context(inputs_file=str(path)))
    whole = [["large"], 2]
    assert found == ([["large"], [whole], "a {input}"], {"k": {"v": ["large"]}})


def test_a_call_that_depends_on_nothing_keeps_its_arguments() -> None:
    asked = Call(1, "t", 1, "f", b'["{input}"]', b"{}")
    assert not has_places(asked)
    assert arguments_of(asked, app, Context()) == (["{input}"], {})


def test_a_worker_asks_its_own_peer_unless_told_otherwise(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAFTSCHED_ADDR")
    for addresses, asked in ((None, stub.address), (["127.0.0.1:9"], "127.0.0.1:9")):
        mine = App("mine", addresses=addresses)
        mine.at_home(stub.address, "token-of-the-peer")
        assert mine.client.endpoints == (f"http://{asked}",)
        if addresses is None:
            mine.client.submit(["true"])
            assert stub.asked[-1].headers["authorization"] == "Bearer token-of-the-peer"
        mine.close()
