"""What a task named on this node becomes subtasks of another; a fork's trouble is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftsched.core.commands import (
    AddSubtasks,
    AnyCommand,
    AttemptFinished,
    ReportAttempts,
    Speculate,
    Straggler,
    SubmitTasks,
)
from raftsched.core.handlers.forks import encode
from raftsched.core.model import NewTask
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.policy import Extra
from raftsched.core.spec import TaskSpec
from raftsched.core.workflow import Dependency, Fork, On, Speculation
from raftsched.executor.output import stream_path
from raftsched.peer.errors import NoLeader
from raftsched.peer.expanding import Expanding
from raftsched.peer.host import PeerHost
from tests.unit.core.builders import Replica, new_task, register

_packed = msgspec.msgpack.Encoder()
_ITEM = new_task("", spec=_packed.encode(TaskSpec(("true",))))
SPEC = _packed.encode(TaskSpec(template=_packed.encode(_ITEM)))


class Bench:
    """A node ``n1`` that ran ``split``, on which ``m`` waits for its items."""

    def __init__(self, directory: Path, on: On = On.SUCCESS) -> None:
        self.replica = Replica()
        self.directory = directory
        (directory / "output").mkdir()
        self.asked: list[AddSubtasks] = []
        #: What the next proposals come to instead.
        self.trouble: list[Outcome | Exception] = []
        self.replica.accepted(register(slots=10))
        fork = Fork(is_open=True, items_from="split")
        extra = Extra(depends_on=(Dependency("split", on),), fork=fork)
        self.replica.submit("split")
        self.replica.accepted(SubmitTasks((NewTask("m", SPEC, extra=extra),)))

    def ran(self, printed: bytes = b"", result: bytes = b"", status: str = "succeeded") -> None:
        """The end of ``split``."""
        token = self.replica.assign("split")
        if printed:
            stream_path(self.directory, "split", 1, "out").write_bytes(printed)
        ended = AttemptFinished(
            "split", token, status, exit_code=0, result=result, output_bytes=len(printed),
            output_tail=printed[-100:],
        )  # fmt: skip
        self.replica.accepted(ReportAttempts("n1", "a", finished=(ended,)))

    async def look(
        self, until: Callable[[], bool], peer_id: str = "n1", stands_in: bool = False
    ) -> None:
        async def propose(command: AnyCommand, seconds: float) -> Outcome:
            assert isinstance(command, AddSubtasks)
            self.asked.append(command)
            if self.trouble:
                trouble = self.trouble.pop(0)
                if isinstance(trouble, Exception):
                    raise trouble
                return trouble
            return self.replica.do(command)

        expanding = Expanding(
            peer_id, self.directory, lambda: self.replica.state, propose, PeerHost(),
            stands_in=lambda node_id: stands_in and node_id == "n1",
        )  # fmt: skip
        task = asyncio.create_task(expanding.run())
        async with asyncio.timeout(5):
            while not until():
                expanding.look()
                await asyncio.sleep(0.01)
        task.cancel()

    def is_over(self) -> bool:
        return self.replica.task("m").finished_at > 0

    def has(self, count: int) -> Callable[[], bool]:
        def done() -> bool:
            extra = self.replica.task("m").extra
            assert extra is not None and extra.fork is not None
            return extra.subtasks == count and not extra.fork.is_open

        return done


async def test_lines_that_were_printed_and_returned_lists_are_items(tmp_path: Path) -> None:
    for name, printed, result in (("a", b'1\n\n"x"\n', b""), ("b", b"", b'[1, "x"]')):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name)
        bench.ran(printed, result)
        await bench.look(bench.has(2))


@pytest.mark.parametrize(("printed", "result"), [(b"1\n2\n", b""), (b"", b"[1, 2]")])
async def test_items_of_a_part_that_is_kept_are_those_of_the_old_one(
    tmp_path: Path, printed: bytes, result: bytes
) -> None:
    bench = Bench(tmp_path)
    bench.ran(printed, result)
    inner = Extra(depends_on=(Dependency("s"),), fork=Fork(is_open=True, items_from="s"))
    old = NewTask("s", b"spec", extra=Extra(keeps="split"))
    fork = Fork(encode([old, NewTask("m", SPEC, extra=inner)]))
    bench.replica.accepted(SubmitTasks((NewTask("w", b"spec", extra=Extra(fork=fork)),)))
    assert bench.replica.task("w.s").attempts == ()

    def are_there() -> bool:
        extra = bench.replica.task("w.m").extra
        return extra is not None and extra.subtasks == 2

    await bench.look(are_there)


async def test_what_is_refused_or_not_heard_for_a_while_is_asked_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.ran(b"1\n2\n")
    bench.trouble = [Rejected(Reason.OVERLOADED, "full"), NoLeader("nobody leads")]
    await bench.look(bench.has(2))
    assert len(bench.asked) == 4


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ({"printed": b"1\nno\n"}, "items-not-json: line 2 of split: no"),
        ({"printed": b"[" * 5_000}, "items-not-json: line 1"),
        ({"result": b'{"a":1}'}, "items-no-list"),
    ],
    ids=["not json", "deep line", "no list"],
)
async def test_what_cannot_be_used_fails_with_a_reason(
    tmp_path: Path, end: dict[str, Any], why: str
) -> None:
    bench = Bench(tmp_path)
    bench.ran(**end)
    await bench.look(bench.is_over)
    assert bench.replica.task("m").reason.startswith(why)


async def test_what_nobody_thought_of_is_the_fork_s_own_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def items(*_: object) -> list[Any]:
        raise RecursionError("too deep")

    monkeypatch.setattr(PeerHost, "items", items)
    bench = Bench(tmp_path)
    bench.ran(b"1\n")
    await bench.look(bench.is_over)
    assert bench.replica.task("m").reason == "items-unusable: RecursionError: too deep"


async def test_output_that_was_swept_is_no_empty_list(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.ran(b"1\n2\n")
    stream_path(tmp_path, "split", 1, "out").unlink()
    await bench.look(bench.is_over)
    assert bench.replica.task("m").reason.startswith("items-gone")


async def test_one_that_did_not_succeed_names_none(tmp_path: Path) -> None:
    bench = Bench(tmp_path, On.ALWAYS)
    bench.ran(b"1\n", status="failed")
    await bench.look(bench.is_over)
    assert bench.replica.task("m").reason == "items-missing: split is failed and names none"
    assert isinstance(bench.replica.do(bench.asked[0]), Rejected | Accepted)


async def test_a_cancellation_that_comes_with_news_is_heard(tmp_path: Path) -> None:
    async def propose(command: AnyCommand, seconds: float) -> Outcome:
        raise AssertionError(command)

    state = Replica().state
    expanding = Expanding("n1", tmp_path, lambda: state, propose, PeerHost(), stands_in=bool)
    task = asyncio.create_task(expanding.run())
    for _ in range(3):
        await asyncio.sleep(0)
    expanding.look()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.5)
    assert done == {task} and task.cancelled()


async def test_items_of_a_part_whose_twin_succeeded_are_those_of_the_twin(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    replica = bench.replica
    replica.accepted(register("n2", slots=10))
    whole = Fork(encode([new_task("0"), new_task("1")]), speculation=Speculation())
    replica.accepted(SubmitTasks((new_task("w", extra=Extra(fork=whole)),)))
    extra = Extra(depends_on=(Dependency("w.0"),), fork=Fork(is_open=True, items_from="w.0"))
    replica.accepted(SubmitTasks((NewTask("of", SPEC, extra=extra),)))
    token = replica.run("w.0", "n2")
    replica.accepted(Speculate((Straggler("w.0", token),)))
    replica.run("w.0~2", "n1")
    stream_path(tmp_path, "w.0~2", 1, "out").write_bytes(b"1\n2\n3\n")
    replica.finish("w.0~2")
    replica.finish("w.0", "cancelled")
    await bench.look(lambda: len(replica.state.trees.ids_of("of")) == 3)


async def test_items_of_a_removed_node_come_from_the_replicated_result(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.ran(result=b'[1, "x"]')
    await bench.look(bench.has(2), "n2", stands_in=True)


@pytest.mark.parametrize("printed", [b"1\n2\n", b"1\n" + bytes(b"\n" * 3_000)])
async def test_items_that_went_with_a_removed_node_fail_the_map(
    tmp_path: Path, printed: bytes
) -> None:
    bench = Bench(tmp_path)
    bench.ran(printed)
    # What lies in the directory of whoever stands in is not what the task left.
    stream_path(tmp_path, "split", 1, "out").unlink()
    await bench.look(bench.is_over, "n2", stands_in=True)
    why = "items-gone: n1, which ran split, was removed with what it left"
    assert bench.replica.task("m").reason == why


async def test_map_over_what_a_removed_node_did_not_print_is_empty(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.ran()
    await bench.look(bench.has(0), "n2", stands_in=True)


async def test_others_leave_the_items_of_a_node_alone_that_may_come_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.ran(result=b"[1]")
    looks = 0

    def looked() -> bool:
        nonlocal looks
        looks += 1
        return looks > 20

    await bench.look(looked, "n2")
    assert bench.asked == []
