"""The public face of Python tasks: what is registered, submitted and told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftsched.app import App, BatchRefused, Cancelled, Context, TaskFailed, current
from tests.unit.client.stub import Answer, Asked, Stub, sequence

DONE = {"id": "t-1", "state": "succeeded", "result": {"a": 1}}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster of this machine takes part."""
    monkeypatch.setenv("RAFTSCHED_TOKEN", "secret")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def answers(asked: Asked) -> Answer:
    if asked.path.endswith(":batch"):
        lines = [
            b'{"id": "t-%d"}' % number
            if b"bad" not in line
            else b'{"code": "invalid", "detail": "no"}'
            for number, line in enumerate(asked.body.splitlines())
        ]
        return Answer(200, b"\n".join(lines))
    if asked.method == "POST":
        return Answer(201, {"id": "t-1", "state": "queued"})
    return Answer(200, DONE)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub(answers) as stub:
        yield stub


@pytest.fixture
def app(stub: Stub) -> Iterator[App]:
    app = App("test", addresses=stub.address, queue="q")
    yield app
    app.close()


def add(a: int, b: int = 2) -> int:
    return a + b


async def wait() -> str:
    return current().task_id


def test_registered_function_is_called_as_it_is_and_keeps_its_name(app: App) -> None:
    task = app.task(add)
    assert task(1) == 3 and task.__name__ == "add"
    assert list(app.functions) == [f"{__name__}:add"]
    assert asyncio.run(app.task(wait)()) == ""


def test_submit_sends_the_call_and_the_options_and_the_handle_gives_the_result(
    app: App, stub: Stub
) -> None:
    task = app.task(retries=3, timeout="5m")(add)
    handle = task.submit(1, b=5)
    assert stub.asked[0].json() == {
        "queue": "q",
        "retry": {"max_attempts": 4},
        "timeout": "5m",
        "python": {"function": f"{__name__}:add", "args": [1], "kwargs": {"b": 5}},
    }
    assert (handle.id, handle.result(5), handle.task.state) == ("t-1", {"a": 1}, "succeeded")
    assert asyncio.run(task.asubmit(1)).id == "t-1"


def test_handle_fetches_a_result_that_is_too_large_for_the_document() -> None:
    large = {**DONE, "result": None, "result_bytes": 7, "attempt": 2}
    answers = sequence(Answer(201, {"id": "t-1"}), Answer(200, large), Answer(200, b'"large"'))
    with Stub(answers) as stub:
        app = App("test", addresses=stub.address)
        assert app.task(add).submit(1).result(5) == "large"
        app.close()
    assert stub.asked[-1].path == "/v1/tasks/t-1/attempts/2/result"


def test_options_of_a_submission_do_not_stick(app: App, stub: Stub) -> None:
    task = app.task(add)
    task.with_options(priority=90, queue="other", idempotency_key="k").submit(1)
    task.submit(1)
    first, second = stub.asked
    assert (first.json()["priority"], first.json()["queue"]) == (90, "other")
    assert first.headers["idempotency-key"] == "k"
    assert "priority" not in second.json() and second.json()["queue"] == "q"


def test_many_are_sent_at_once_and_refusals_name_which(app: App, stub: Stub) -> None:
    task = app.task(add)
    assert [handle.id for handle in task.submit_many([1, (2, 3)])] == ["t-0", "t-1"]
    with pytest.raises(BatchRefused, match="1 of 3 tasks were refused; first: no") as caught:
        task.submit_many([1, "bad", 3])
    assert [handle and handle.id for handle in caught.value.handles] == ["t-0", None, "t-2"]
    assert caught.value.refused[0][0] == 1
    assert len(stub.asked) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Path("a"), "argument 1 of add is a PosixPath, which is no JSON"),
        ({"a": [1, {2}]}, r'argument 1 of add\["a"\]\[1\] is a set'),
        ({1: 2}, "argument 1 of add has the key 1; keys of JSON are texts"),
        (float("nan"), "argument 1 of add is nan, for which JSON has no number"),
        (b"x", "argument 1 of add is a bytes"),
    ],
)
def test_what_is_no_json_is_refused_where_it_is_submitted(
    app: App, stub: Stub, value: Any, message: str
) -> None:
    task = app.task(add)
    with pytest.raises(TypeError, match=message):
        task.submit(value)
    with pytest.raises(TypeError, match=message):
        task.submit_many([1, value])
    assert not stub.asked


def test_arguments_that_the_function_does_not_take_are_refused(app: App, stub: Stub) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        app.task(add).submit(1, c=3)  # type: ignore[call-arg]
    assert not stub.asked


def test_wrong_options_are_refused() -> None:
    app = App("test")
    with pytest.raises(TypeError, match="not both"):
        app.task(retries=1, retry={})(add)
    with pytest.raises(TypeError, match="command is no option"):
        app.task(command=["true"])(add)
    with pytest.raises(ValueError, match="retries is -1"):
        app.task(retries=-1)(add)
    with pytest.raises(ValueError, match="concurrency is 0"):
        App("test", concurrency=0)
    with pytest.raises(ValueError, match="made inside of a function"):
        app.task(lambda: None)


def test_failed_task_raises_with_its_reason_and_the_end_of_its_output() -> None:
    document = {"id": "t", "state": "failed", "reason": "ValueError: x", "output_tail": "Trace"}
    with Stub(lambda asked: Answer(200, document)) as stub:
        app = App("test", addresses=stub.address)
        with pytest.raises(TaskFailed, match="task t failed: ValueError: x\nTrace"):
            app.task(add).submit(1).result(5)
        app.close()


def test_program_that_is_started_registers_by_the_name_it_is_imported_by(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    file.write_text(
        "from raftsched import App\n"
        "app, other = App('shop'), App('shop', module='a.shop')\n"
        "@app.task\ndef sell(): pass\n"
        "other.task(sell.function)\n"
        "print(*app.functions, *other.functions)\n"
    )
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "shop:sell a.shop:sell\n"


def test_outside_of_an_attempt_the_context_is_empty_and_takes_progress() -> None:
    context = current()
    context.report_progress(0.5, "half")
    context.raise_if_cancelled()
    assert (context.task_id, context.attempt, context.fencing_token) == ("", 0, 0)


def test_progress_out_of_range_is_refused_and_a_cancelled_context_raises() -> None:
    told: list[tuple[int, str] | None] = []
    context = Context("t", 1, 1, lambda context: told.append(context.news))
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="it goes from 0 to 1"):
            context.report_progress(fraction)
    context.report_progress(1, "x" * 500)
    context.report_progress(0)
    assert told == [(1000, "x" * 200)], "the second comes within a second"
    context.is_cancelled = True
    with pytest.raises(Cancelled, match="task t is to end"):
        context.raise_if_cancelled()
