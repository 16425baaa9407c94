"""Entries and snapshots as bytes: the same after a round trip, refused when newer or damaged."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from raftsched.core import codec, invariants, machine
from raftsched.core.codec import CHUNK_BYTES, SNAPSHOT_VERSION, SNAPSHOT_VERSION_MIN
from raftsched.core.commands import (
    ENTRY_VERSION,
    AnyCommand,
    ApplyRetention,
    Batch,
    CancelTask,
    Entry,
    NodeLost,
    PauseTask,
    ResumeTask,
    SetEligibility,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.model import Eligibility, KeyRecord, Settings, Task, TaskStatus
from raftsched.core.state import State
from raftsched.core.tables import shard_of
from raftsched.core.versions import UnknownVersion
from tests.unit.core.builders import (
    ONE_OF_EACH,
    STEP_MS,
    Replica,
    dump,
    entry,
    finished,
    new_task,
    register,
)

# Entries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ONE_OF_EACH, ids=lambda command: type(command).__name__)
def test_an_entry_is_the_same_after_a_round_trip(command: AnyCommand) -> None:
    before = entry(command)
    assert codec.decode_entry(codec.encode_entry(before)) == before


def test_an_entry_of_many_batches_is_the_same_after_a_round_trip() -> None:
    batches = (Batch("n1", 1, 1, ONE_OF_EACH), Batch("n2", 2**40, 7, ()), Batch("n3", 3, 3, ()))
    before = Entry(ENTRY_VERSION, 2**33, 2**42, batches)
    assert codec.decode_entry(codec.encode_entry(before)) == before


@pytest.mark.parametrize(
    "data",
    [
        codec.encode_entry(msgspec.structs.replace(entry(), version=ENTRY_VERSION + 1)),
        msgspec.msgpack.encode([ENTRY_VERSION + 1, "of another", {"shape": True}]),
        msgspec.msgpack.encode([ENTRY_VERSION + 9]),
    ],
    ids=["same shape", "another shape", "shorter"],
)
def test_an_entry_of_a_newer_version_is_refused(data: bytes) -> None:
    with pytest.raises(UnknownVersion, match="entry version"):
        codec.decode_entry(data)


def test_every_cut_of_an_entry_is_noticed() -> None:
    data = codec.encode_entry(entry(*ONE_OF_EACH))
    for end in range(len(data)):
        with pytest.raises(msgspec.DecodeError):
            codec.decode_entry(data[:end])


RUBBISH = {
    "text": b"no such thing",
    "unused byte": b"\xc1" * 20,
    "null": b"\xc0",
    "wrong shape": msgspec.msgpack.encode([2, "term", 0, []]),
    "map": msgspec.msgpack.encode({"version": 1}),
    "empty": b"",
    "empty array": b"\x90",
    "no version": msgspec.msgpack.encode([0, 1, 0, []]),
    "negative version": msgspec.msgpack.encode([-1]),
    "no text": msgspec.msgpack.encode([2, 1, 0, [["n1", 1, 1, []]]]).replace(b"n1", b"\xff1"),
    "deep": b"\x91" * 100_000,
    "deep behind a version": b"\x9f\x02" + b"\x91" * 100_000,
    "deep behind a newer shape": b"\x92\x02" + b"\x81\xa1a" * 100_000,
}


@pytest.mark.parametrize("data", RUBBISH.values(), ids=RUBBISH.keys())
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.decode_entry(data)


@pytest.mark.parametrize("seed", range(20))
def test_damage_to_an_entry_ends_as_an_entry_or_as_a_stated_error(seed: int) -> None:
    data = codec.encode_entry(entry(*ONE_OF_EACH))
    for damaged in damage(data, seed):
        with contextlib.suppress(UnknownVersion, msgspec.DecodeError):
            assert isinstance(codec.decode_entry(damaged), Entry)


def damage(data: bytes, seed: int, count: int = 200) -> Iterator[bytes]:
    """The bytes with some of them changed, cut out or doubled."""
    draw = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(draw.choice([1, 1, 2, 5])):
            at = draw.randrange(len(damaged))
            end = at + draw.choice([0, 1, 1, 1, 9])
            part = draw.choice([b"", damaged[at:end] * 2, draw.randbytes(end - at)])
            damaged[at:end] = part
        yield bytes(damaged)


def test_bytes_behind_an_entry_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.decode_entry(codec.encode_entry(entry()) + b"\x00")


def test_a_command_nobody_knows_is_refused() -> None:
    batch = ["n1", 1, 1, [[999, "what"]]]
    with pytest.raises(msgspec.DecodeError):
        codec.decode_entry(msgspec.msgpack.encode([1, 1, 0, [batch]]))


# Snapshots -------------------------------------------------------------------------------------


def busy() -> Replica:
    """A replica with something in every table and a task in every status that is reached."""
    replica = Replica(losses_max=2, key_retention_ms=1_000)
    replica.accepted(register("n1", labels={"zone": "x"}))
    replica.accepted(register("n2", slots=9, version="0.1.0"))
    replica.accepted(register("n3"))
    for status in (
        TaskStatus.QUEUED,
        TaskStatus.ASSIGNED,
        TaskStatus.RUNNING,
        TaskStatus.SUCCEEDED,
        TaskStatus.FAILED,
        TaskStatus.CANCELLED,
        TaskStatus.CANCELLING,
    ):
        replica.bring(str(status), status)
    replica.submit("lost", "paused", cpu_milli=100, memory_bytes=10, attempts_max=3)
    replica.run("lost", "n3")
    replica.accepted(NodeLost("n3", "a", "silent"))
    replica.accepted(PauseTask("paused"))
    replica.submit("retried", attempts_max=3, priority=90)
    replica.fail("retried")
    replica.submit("late", priority=10)
    token = replica.run("late", "n2")
    report = finished("late", token, node_id="n2", output_tail=b"\x00\xff", output_bytes=2)
    replica.accepted(report)
    replica.accepted(SetEligibility("n2", Eligibility.CORDONED))
    for number in range(3):
        keyed = SubmitTasks((new_task(f"k{number}"),), key=f"key{number}", request_hash=b"hash")
        replica.accepted(keyed)
    return replica


def restored(state: State) -> State:
    """The state by way of a snapshot."""
    return codec.restore_state(dump(state))


def rows(state: State) -> tuple[Any, ...]:
    """Everything that is replicated, in an order of its own."""
    return (
        (state.cluster_id, state.now, state.index, state.version, state.clock_resets),
        (state.next_token, state.next_order),
        state.settings,
        state.nodes,
        dict(state.tasks.items()),
        dict(state.keys.items()),
    )


def derived(state: State) -> tuple[Any, ...]:
    """Everything that is derived from the rows."""
    return (
        list(state.ready),
        {node_id: list(held) for node_id, held in state.by_node.items()},
        state.usage,
        state.counts,
        (state.open_count, state.finished_count),
        [found.id for found in state.list_tasks(newest_first=True)],
        [found.id for found in state.list_tasks(newest_first=False)],
        list(state.finished),
        state.oldest_key(),
    )


def test_a_restored_state_has_the_same_rows_and_the_same_indexes() -> None:
    before = busy().state
    after = restored(before)
    assert rows(after) == rows(before)
    assert derived(after) == derived(before)
    assert dump(after) == dump(before)
    assert invariants.check(after) == []


def test_a_restored_queue_is_in_the_order_the_tasks_were_submitted() -> None:
    replica = Replica()
    for task_id, priority in [("c", 50), ("a", 50), ("d", 90), ("b", 10)]:
        replica.submit(task_id, priority=priority)
    replica.submit("z", "x", "y", priority=10)
    assert list(restored(replica.state).ready) == ["d", "c", "a", "b", "z", "x", "y"]


def test_a_restored_queue_is_in_the_same_order_after_pauses_and_losses() -> None:
    replica = Replica()
    replica.accepted(register(slots=9))
    replica.submit("t5", "t3", "t4", "t1", "t2", attempts_max=9)
    replica.run("t3")
    replica.run("t5")
    replica.fail("t1")
    replica.accepted(PauseTask("t4"))
    replica.accepted(NodeLost("n1", "a"))
    replica.accepted(ResumeTask("t4"))
    before, after = list(replica.state.ready), list(restored(replica.state).ready)
    assert before == after == ["t5", "t3", "t4", "t1", "t2"]


def test_restored_rows_share_what_they_have_in_common() -> None:
    replica = Replica()
    replica.submit(*[f"t{number}" for number in range(50)], cpu_milli=500)
    tasks = list(restored(replica.state).tasks.values())
    assert len({id(found.terms) for found in tasks}) == 1
    assert len({id(found.created_at) for found in tasks}) == 1


def test_an_empty_state_is_restored() -> None:
    after = restored(State("c"))
    assert rows(after) == rows(State("c"))
    assert invariants.check(after) == []


def test_a_restored_state_goes_on_like_the_one_it_was_taken_of() -> None:
    replica = busy()
    states = [replica.state, restored(replica.state)]
    commands: list[AnyCommand] = [
        SubmitTasks((new_task("more"),), key="key0", request_hash=b"hash"),
        SubmitTasks((new_task("more"),)),
        CancelTask("running"),
        NodeLost("n1", "a"),
        UpdateSettings(Settings(finished_max=2)),
        ApplyRetention(1),
        ApplyRetention(2),
    ]
    for number, command in enumerate(commands, 1):
        item = entry(command, now=replica.now + number * STEP_MS)
        index = replica.index + number
        answers = [machine.apply(state, index, item) for state in states]
        assert answers[0] == answers[1]
    assert rows(states[0]) == rows(states[1])
    assert invariants.check(states[1]) == []


def test_a_restored_state_removes_the_same_of_those_that_ended_in_one_entry() -> None:
    # `apply` decides which of them goes, so their order has to survive a snapshot (G6).
    replica = Replica()
    replica.submit("a", "b")
    index = replica.index + 1
    machine.apply(replica.state, index, entry(CancelTask("b"), CancelTask("a"), now=replica.now))
    states = [replica.state, restored(replica.state)]
    removal = entry(UpdateSettings(Settings(finished_max=1)), ApplyRetention(), now=replica.now)
    for state in states:
        machine.apply(state, index + 1, removal)
    assert rows(states[0]) == rows(states[1])
    assert len(states[0].tasks) == 1


def test_retention_after_a_restore_goes_by_the_end_not_by_the_creation() -> None:
    replica = Replica()
    replica.submit("t1")
    replica.submit("t2")
    replica.accepted(CancelTask("t2"))
    replica.accepted(CancelTask("t1"))
    oldest = restored(replica.state).oldest_finished()
    assert oldest is not None and oldest.id == "t2"


def test_a_snapshot_shows_the_moment_it_was_begun() -> None:
    replica = busy()
    before = rows(restored(replica.state))
    chunks = codec.snapshot_chunks(replica.state)
    drawn = [next(chunks)]
    replica.accepted(CancelTask("queued"))
    replica.accepted(ApplyRetention())
    replica.submit("more")
    replica.accepted(register("n4"))
    drawn += chunks
    replica.state.end_snapshot()
    assert rows(codec.restore_state(drawn)) == before
    assert invariants.check(replica.state) == []


def test_few_rows_are_one_chunk_however_many_shards_they_are_in() -> None:
    replica = Replica()
    replica.submit(*(f"t{number}" for number in range(100)))
    assert len(dump(replica.state)) == 2


def test_large_rows_are_spread_over_chunks() -> None:
    together = [f"t{number}" for number in range(20_000) if shard_of(f"t{number}") == 5][:12]
    replica = Replica()
    replica.submit(*together, spec=b"x" * (CHUNK_BYTES // 3))
    chunks = dump(replica.state)
    assert len(chunks) > 2
    assert max(len(chunk) for chunk in chunks) < 2 * CHUNK_BYTES
    assert rows(codec.restore_state(chunks)) == rows(replica.state)


@pytest.mark.parametrize("version", [SNAPSHOT_VERSION_MIN - 1, SNAPSHOT_VERSION + 1])
def test_a_snapshot_of_another_version_is_refused(version: int) -> None:
    header = msgspec.msgpack.decode(dump(busy().state)[0])
    others = [
        msgspec.msgpack.encode([version, *header[1:]]),
        msgspec.msgpack.encode([version, {"another": "shape"}]),
    ]
    for first in others:
        with pytest.raises(UnknownVersion, match="snapshot version"):
            codec.restore_state([first])


def test_a_snapshot_of_nothing_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.restore_state([])


@pytest.fixture
def a_row_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "CHUNK_ROWS", 1)


@pytest.mark.usefixtures("a_row_a_chunk")
def test_a_chunk_that_is_missing_or_doubled_is_noticed() -> None:
    chunks = list(dump(busy().state))
    assert len(chunks) > 5
    for number in range(len(chunks)):
        with pytest.raises(msgspec.DecodeError):
            codec.restore_state([*chunks[:number], *chunks[number + 1 :]])
        with pytest.raises(msgspec.DecodeError):
            codec.restore_state([*chunks[: number + 1], *chunks[number:]])


@pytest.mark.usefixtures("a_row_a_chunk")
def test_a_chunk_of_keys_in_place_of_another_is_noticed() -> None:
    state = State("c")
    one, other = [k for k in map(str, range(2_000)) if shard_of(k) in (3, 9)][:2]
    assert shard_of(one) != shard_of(other)
    for key in (one, other):
        state.put_key(key, KeyRecord(b"hash", b"", 1, 1))
    header, first, second = dump(state)
    for rows_again in (first, second):
        with pytest.raises(msgspec.DecodeError, match="twice"):
            codec.restore_state([header, rows_again, rows_again])


@pytest.mark.usefixtures("a_row_a_chunk")
def test_a_chunk_in_place_of_another_is_noticed() -> None:
    replica = Replica()
    replica.submit("t1", "t2")
    header, first, second = dump(replica.state)
    for rows_again in (first, second):
        with pytest.raises(msgspec.DecodeError, match="twice"):
            codec.restore_state([header, rows_again, rows_again])


def test_a_task_that_runs_on_a_node_nobody_knows_is_noticed() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.bring("t1", TaskStatus.RUNNING)
    header, chunk = dump(replica.state)
    without = msgspec.msgpack.decode(header)
    assert len(without[10]) == 1
    without[10] = []
    with pytest.raises(msgspec.DecodeError, match="on no node"):
        codec.restore_state([msgspec.msgpack.encode(without), chunk])


@pytest.mark.parametrize("seed", range(5))
def test_damage_to_a_snapshot_ends_as_a_state_or_as_a_stated_error(seed: int) -> None:
    chunks = list(dump(busy().state))
    for number, chunk in enumerate(chunks):
        for damaged in damage(chunk, seed, 20):
            with contextlib.suppress(UnknownVersion, msgspec.DecodeError):
                codec.restore_state([*chunks[:number], damaged, *chunks[number + 1 :]])


def test_a_cut_in_any_chunk_is_noticed() -> None:
    chunks = list(dump(busy().state))
    for number, chunk in enumerate(chunks):
        for end in {0, 1, len(chunk) // 3, len(chunk) // 2, len(chunk) - 1}:
            with pytest.raises(msgspec.DecodeError):
                codec.restore_state([*chunks[:number], chunk[:end], *chunks[number + 1 :]])


@pytest.mark.parametrize("data", RUBBISH.values(), ids=RUBBISH.keys())
@pytest.mark.parametrize("number", [0, 1, -1])
def test_rubbish_in_place_of_a_chunk_is_noticed(number: int, data: bytes) -> None:
    chunks = list(dump(busy().state))
    chunks[number] = data
    with pytest.raises(msgspec.DecodeError):
        codec.restore_state(chunks)


def test_rows_in_place_of_the_header_are_noticed() -> None:
    chunks = dump(busy().state)
    with pytest.raises(msgspec.DecodeError):
        codec.restore_state(chunks[1:])


def test_a_status_nobody_knows_is_noticed() -> None:
    chunks = dump(busy().state)
    where = Task.__struct_fields__.index("status")
    row = list(msgspec.structs.astuple(next(iter(busy().state.tasks.values()))))
    row[where] = "dreaming"
    with pytest.raises(msgspec.DecodeError):
        codec.restore_state([chunks[0], msgspec.msgpack.encode([[row], []])])
