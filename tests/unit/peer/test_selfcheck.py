"""One peer's part in comparing the replicas: when it is asked for, what is reported, who stops."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from raftsched.core import codec, digest
from raftsched.core.commands import (
    ENTRY_VERSION,
    AnyCommand,
    Batch,
    CheckReplicas,
    Entry,
    ReportDigest,
    SubmitTasks,
)
from raftsched.core.model import Check, KeyRecord
from raftsched.core.outcomes import Outcome
from raftsched.peer import evidence
from raftsched.peer.errors import NoLeader, ReplicaDiverged
from raftsched.peer.replica import Replica
from raftsched.peer.selfcheck import CHECK_AGAIN_SECONDS, CHECK_SECONDS, SLICE_ROWS, SelfCheck
from raftsched.raft.files import OsDisk
from raftsched.raft.host import Host
from raftsched.raft.snapshot_file import SnapshotReader
from tests.unit.core.builders import new_task

THREE = ("n1", "n2", "n3")
OTHER = b"x" * 16


class ManualClock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def wall_ms(self) -> int:
        return int(self.seconds * 1_000)

    def monotonic(self) -> float:
        return self.seconds


class Bench:
    """``n1`` of three, whose commands are applied as soon as they are proposed."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.directory = directory
        self.replica = Replica("c")
        self.replica.state.version = ENTRY_VERSION
        self.proposed: list[AnyCommand] = []
        #: Raised by the next proposals.
        self.trouble: Exception | None = None
        host = Host(clock=self.clock)
        self.selfcheck = SelfCheck(
            self.replica, host, "n1", lambda: THREE, directory, self._propose
        )
        self.replica.listeners.append(lambda entry, applied: self.selfcheck.applied())
        self.replica.restore_listeners.append(self.selfcheck.restored)
        self.outcomes: list[Outcome] = []
        self.replica.listeners.append(
            lambda entry, applied: self.outcomes.extend(applied.outcomes[0])
        )

    async def _propose(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        self.proposed.append(command)
        if self.trouble is not None:
            raise self.trouble
        return self.apply(command)

    def apply(self, command: AnyCommand) -> Outcome:
        index = self.replica.state.index + 1
        batch = Batch("n1", 1, index, (command,))
        entry = Entry(ENTRY_VERSION, 1, 1_000 + index, (batch,), True)
        self.replica.apply(index, 1, codec.encode_entry(entry))
        return self.outcomes[-1]

    def begin(self) -> int:
        """A check begins, asked for by another peer; its index."""
        self.apply(CheckReplicas(THREE, digest.FORMAT))
        return self.replica.state.index

    @property
    def check(self) -> Check:
        assert self.replica.state.check is not None
        return self.replica.state.check

    async def lead(self, seconds: float = 0.0) -> int:
        """Time passes, then the leader's step; how many checks it asked for."""
        self.clock.seconds += seconds
        before = len(self.proposed)
        await self.selfcheck.lead()
        return sum(isinstance(c, CheckReplicas) for c in self.proposed[before:])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# Reports -----------------------------------------------------------------------------------------


async def test_a_check_is_answered_with_the_digest_behind_its_entry(bench: Bench) -> None:
    bench.apply(SubmitTasks((new_task("t1"),)))
    index = bench.begin()
    wanted = bench.replica.state.digest()
    bench.apply(SubmitTasks((new_task("t2"),)))
    await bench.selfcheck.step()
    assert bench.proposed == [ReportDigest("n1", index, wanted)]
    await bench.selfcheck.step()
    assert len(bench.proposed) == 1


async def test_many_rows_are_hashed_in_slices(bench: Bench) -> None:
    for first in range(0, 3 * SLICE_ROWS, 50):
        bench.apply(SubmitTasks(tuple(new_task(f"t{n}") for n in range(first, first + 50))))
    bench.begin()
    wanted = bench.replica.state.digest()
    stepping = bench.selfcheck.step()
    assert stepping.send(None) is None  # It gives way to the rest of the loop.
    bench.apply(SubmitTasks((new_task("meanwhile"),)))
    with pytest.raises(StopIteration):
        while True:
            stepping.send(None)
    assert bench.check.reports[0].digest == wanted


async def test_a_report_that_could_not_be_sent_is_sent_again(bench: Bench) -> None:
    bench.begin()
    bench.trouble = NoLeader("nobody leads")
    with pytest.raises(NoLeader):
        await bench.selfcheck.step()
    bench.trouble = None
    await bench.selfcheck.step()
    assert len(bench.check.reports) == 1


async def test_of_two_checks_the_later_one_is_answered(bench: Bench) -> None:
    bench.begin()
    index = bench.begin()
    await bench.selfcheck.step()
    assert [c.index for c in bench.proposed if isinstance(c, ReportDigest)] == [index]


@pytest.mark.parametrize(
    "command",
    [CheckReplicas(("n2", "n3"), digest.FORMAT), CheckReplicas(THREE, digest.FORMAT + 1)],
    ids=["of others", "of another format"],
)
async def test_a_check_that_is_not_ours_is_not_answered(
    bench: Bench, command: CheckReplicas
) -> None:
    bench.apply(command)
    await bench.selfcheck.step()
    assert not bench.proposed


async def test_a_replica_that_was_restored_past_the_check_has_nothing_to_say(
    bench: Bench, tmp_path: Path
) -> None:
    index = bench.begin()
    bench.replica.restore(index, list(codec.snapshot_chunks(bench.replica.state)))
    await bench.selfcheck.step()
    assert not bench.proposed


async def test_a_verdict_that_somebody_overruled_stops_nobody_and_a_later_one_does(
    tmp_path: Path,
) -> None:
    first, again = Bench(tmp_path), Bench(tmp_path)
    index = first.begin()
    await first.selfcheck.step()
    first.apply(ReportDigest("n2", index, OTHER))
    with pytest.raises(ReplicaDiverged) as stopped:
        first.apply(ReportDigest("n3", index, OTHER))
    await first.selfcheck.keep_evidence(stopped.value)
    assert evidence.reported(OsDisk(), tmp_path) and not evidence.overruled_index(
        OsDisk(), tmp_path
    )
    evidence.overrule(OsDisk(), tmp_path)
    await evidence.refuse(OsDisk(), tmp_path)
    again.selfcheck._overruled_index = evidence.overruled_index(OsDisk(), tmp_path)
    for verdict in ("overruled", "new"):
        index = again.begin()
        await again.selfcheck.step()
        again.apply(ReportDigest("n2", index, OTHER))
        if verdict == "overruled":
            again.apply(ReportDigest("n3", index, OTHER))
            assert again.check.diverged == ("n1",)
        else:
            with pytest.raises(ReplicaDiverged):
                again.apply(ReportDigest("n3", index, OTHER))


# Verdicts ----------------------------------------------------------------------------------------


async def test_the_minority_stops_as_soon_as_it_can_know(bench: Bench) -> None:
    index = bench.begin()
    await bench.selfcheck.step()
    bench.apply(ReportDigest("n2", index, OTHER))
    with pytest.raises(ReplicaDiverged, match=rf"majority at index {index}; evidence in"):
        bench.apply(ReportDigest("n3", index, OTHER))


async def test_the_majority_goes_on(bench: Bench) -> None:
    index = bench.begin()
    await bench.selfcheck.step()
    bench.apply(ReportDigest("n2", index, OTHER))
    bench.apply(ReportDigest("n3", index, bench.check.reports[0].digest))
    assert bench.check.diverged == ("n2",)


async def test_a_snapshot_that_names_this_peer_stops_it_too(bench: Bench) -> None:
    index = bench.begin()
    for peer, found in (("n1", bytes(16)), ("n2", OTHER)):
        bench.apply(ReportDigest(peer, index, found))
    with pytest.raises(ReplicaDiverged):
        bench.apply(ReportDigest("n3", index, OTHER))
    again = Bench(bench.directory)
    with pytest.raises(ReplicaDiverged):
        again.replica.restore(index + 3, list(codec.snapshot_chunks(bench.replica.state)))


# The schedule ------------------------------------------------------------------------------------


async def test_replicas_are_compared_by_schedule_when_something_was_applied(bench: Bench) -> None:
    bench.apply(SubmitTasks((new_task("t1"),)))
    assert await bench.lead(CHECK_SECONDS - 1) == 0
    assert await bench.lead(1) == 1
    await bench.selfcheck.step()
    assert await bench.lead(CHECK_SECONDS - 1) == 0
    assert await bench.lead(1) == 0  # Nothing was applied since the last report.
    bench.apply(SubmitTasks((new_task("t2"),)))
    assert await bench.lead(CHECK_SECONDS) == 1


async def test_a_check_that_another_peer_began_counts(bench: Bench) -> None:
    bench.clock.seconds += CHECK_SECONDS - 1
    bench.begin()
    bench.apply(SubmitTasks((new_task("t1"),)))
    assert await bench.lead(2) == 0


async def test_a_check_that_could_not_be_begun_is_not_tried_at_once(bench: Bench) -> None:
    bench.apply(SubmitTasks((new_task("t1"),)))
    bench.trouble = NoLeader("nobody leads")
    with pytest.raises(NoLeader):
        await bench.lead(CHECK_SECONDS)
    assert await bench.lead(1) == 0
    bench.trouble = None
    assert await bench.lead(CHECK_AGAIN_SECONDS) == 1


async def test_an_undecided_difference_is_looked_at_again_soon(bench: Bench) -> None:
    index = bench.begin()
    await bench.selfcheck.step()
    bench.apply(ReportDigest("n2", index, OTHER))
    assert await bench.lead(1) == 0
    assert await bench.lead(CHECK_AGAIN_SECONDS) == 1
    assert bench.replica.state.suspect
    assert await bench.lead(1) == 0
    assert await bench.lead(CHECK_AGAIN_SECONDS) == 1


async def test_a_cluster_of_an_earlier_version_is_left_alone(bench: Bench) -> None:
    bench.replica.state.version = 1
    bench.apply(SubmitTasks((new_task("t1"),)))
    assert await bench.lead(10 * CHECK_SECONDS) == 0


async def test_asked_for_it_waits_for_those_that_can_answer(bench: Bench) -> None:
    found = await bench.selfcheck.check(30.0, lambda peer_id: False)
    assert (found.reports, found.index) == ((), bench.replica.state.index)
    bench.clock.seconds += 5
    found = await bench.selfcheck.check(0.0, lambda peer_id: True)
    assert found.reports == ()


# Evidence ----------------------------------------------------------------------------------------


async def stopped(bench: Bench) -> ReplicaDiverged:
    """A peer that found itself in the minority, and its error."""
    bench.apply(SubmitTasks((new_task("t1"),)))
    index = bench.begin()
    await bench.selfcheck.step()
    bench.apply(ReportDigest("n2", index, OTHER))
    with pytest.raises(ReplicaDiverged) as caught:
        bench.apply(ReportDigest("n3", index, OTHER))
    return caught.value


async def test_evidence_is_the_reports_and_the_state(bench: Bench) -> None:
    error = await stopped(bench)
    await bench.selfcheck.keep_evidence(error)
    directory = bench.directory / evidence.DIRECTORY
    assert sorted(path.name for path in directory.iterdir()) == [evidence.REPORT, evidence.STATE]
    found = msgspec.json.decode((directory / evidence.REPORT).read_bytes(), type=evidence.Evidence)
    assert (found.what, found.peer_id, found.majority) == (str(error), "n1", OTHER.hex())
    assert set(found.reports) == set(THREE)
    reader = SnapshotReader(OsDisk(), directory / evidence.STATE)
    state = codec.restore_state(reader.chunks())
    reader.close()
    assert state.digest() == bench.replica.state.digest() == bytes.fromhex(found.state_digest)


async def test_a_directory_with_evidence_refuses_a_start(bench: Bench) -> None:
    await evidence.refuse(OsDisk(), bench.directory)
    error = await stopped(bench)
    await bench.selfcheck.keep_evidence(error)
    with pytest.raises(ReplicaDiverged) as caught:
        await evidence.refuse(OsDisk(), bench.directory)
    assert str(caught.value) == str(error)


class FullDisk(OsDisk):
    """Takes small files only."""

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if offset + len(data) > 1_500:
            raise OSError(28, "No space left on device")
        return super().write(fd, data, offset)


async def test_a_full_disk_keeps_what_refuses_a_start(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    error = await stopped(bench)
    bench.replica.state.put_key("k" * 2_000, KeyRecord(b"", b"", 1, 1))
    bench.selfcheck._host = Host(clock=bench.clock, disk=FullDisk())
    await bench.selfcheck.keep_evidence(error)
    assert "the evidence could not be written" in caplog.text
    with pytest.raises(ReplicaDiverged):
        await evidence.refuse(OsDisk(), bench.directory)
    directory = bench.directory / evidence.DIRECTORY
    assert [path.name for path in directory.iterdir()] == [evidence.REPORT]
