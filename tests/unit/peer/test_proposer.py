"""A command reaches the log once, or its caller hears the truth about it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftsched.core import codec
from raftsched.core.commands import Batch, PauseTask, RegisterNode, SubmitTasks
from raftsched.core.model import NewTask
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.peer.errors import NoLeader, Overloaded, TooLarge, UnknownOutcome
from raftsched.peer.messages import AnyFrame, Forward, Refused, Resend
from raftsched.peer.proposer import Proposer
from raftsched.peer.stamping import Head
from raftsched.raft.host import SystemClock
from raftsched.raft.log import LogFull, LogStatus, NotLeader, Role


class FakeLog:
    """A log that appends what it is told to and whose status the test sets."""

    def __init__(self, peer_id: str) -> None:
        self.entries: list[bytes] = []
        self.refuse: Exception | None = None
        self.current = LogStatus(
            peer_id=peer_id,
            role=Role.FOLLOWER,
            term=1,
            leader=None,
            last_index=0,
            durable_index=0,
            commit_index=0,
            applied_index=0,
            is_current=False,
            last_contact_ms=None,
            connected=("n1", "n2"),
        )

    def status(self) -> LogStatus:
        return self.current

    def propose(self, entry: bytes) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.entries.append(entry)


class Bench:
    """One proposer with its fake surroundings."""

    def __init__(self, peer_id: str = "n1") -> None:
        self.log = FakeLog(peer_id)
        self.sent: list[tuple[str, AnyFrame]] = []
        self.connected = True
        self.proposer = Proposer(self.log, SystemClock(), peer_id, 7, self._send, self._head)  # type: ignore[arg-type]

    def _head(self) -> Head:
        return Head(2, 1_000, agreed=False)

    def _send(self, peer: str, frame: AnyFrame) -> bool:
        if self.connected:
            self.sent.append((peer, frame))
        return self.connected

    def status(self, **changes: Any) -> None:
        import msgspec

        self.log.current = msgspec.structs.replace(self.log.current, **changes)
        self.proposer.status_changed(self.log.current)

    def lead(self, term: int = 1) -> None:
        self.status(role=Role.LEADER, term=term, leader="n1", is_current=True)

    def follow(self, leader: str | None, term: int, *, current: bool = True) -> None:
        self.status(role=Role.FOLLOWER, term=term, leader=leader, is_current=current)

    def apply(self, position: int = -1) -> None:
        entry = codec.decode_entry(self.log.entries[position])
        outcomes: list[list[Outcome]] = [
            [Accepted(value=c.task_id) for c in batch.commands]  # type: ignore[union-attr]
            for batch in entry.batches
        ]
        self.proposer.entry_applied(entry, outcomes)

    def propose(self, name: str, timeout: float = 5.0) -> asyncio.Task[Outcome]:
        return asyncio.ensure_future(self.proposer.propose(PauseTask(name), timeout))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_leader_groups_the_commands_of_a_pass_into_one_entry() -> None:
    bench = Bench()
    bench.lead()
    callers = [bench.propose(str(i)) for i in range(10)]
    await settle()
    assert len(bench.log.entries) == 1
    bench.apply()
    assert [(await c).value for c in callers] == [str(i) for i in range(10)]  # type: ignore[union-attr]


async def test_follower_forwards_and_answers_when_applied_here() -> None:
    follower, leader = Bench("n2"), Bench("n1")
    leader.lead(3)
    follower.follow("n1", 3)
    caller = follower.propose("a")
    await settle()
    ((peer, frame),) = follower.sent
    assert peer == "n1" and isinstance(frame, Forward)
    leader.proposer.frame("n2", frame)
    leader.proposer.frame("n2", frame)  # Twice: the leader takes it once.
    await settle()
    assert len(leader.log.entries) == 1
    assert not caller.done()
    follower.log.entries = leader.log.entries
    follower.apply()
    assert await caller == Accepted("a")


async def test_leader_asks_for_what_a_broken_connection_lost() -> None:
    follower, leader = Bench("n2"), Bench("n1")
    leader.lead(3)
    follower.follow("n1", 3)
    callers = [follower.propose("a")]
    await settle()
    follower.sent.clear()  # Lost on the way.
    callers.append(follower.propose("b"))
    await settle()
    leader.proposer.frame("n2", follower.sent.pop()[1])  # type: ignore[arg-type]
    (_, resend) = leader.sent.pop()
    assert isinstance(resend, Resend) and resend.expected == 1
    follower.proposer.frame("n1", resend)
    leader.proposer.frame("n2", follower.sent.pop()[1])  # type: ignore[arg-type]
    await settle()
    entry = codec.decode_entry(leader.log.entries[0])
    assert [c.task_id for b in entry.batches for c in b.commands] == ["a", "b"]  # type: ignore[union-attr]
    for caller in callers:
        caller.cancel()


async def test_command_of_a_dead_term_is_sent_to_the_next_leader() -> None:
    bench = Bench("n2")
    bench.follow("n1", 3)
    caller = bench.propose("a")
    await settle()
    assert len(bench.sent) == 1
    bench.follow(None, 4, current=False)
    await settle()
    assert len(bench.sent) == 1, "it may still be in the log of term 3"
    bench.follow("n3", 4)
    await settle()
    peer, frame = bench.sent[-1]
    assert peer == "n3" and isinstance(frame, Forward) and frame.term == 4
    caller.cancel()


async def test_refused_batch_is_sent_again_and_its_old_copies_do_not_count() -> None:
    follower, leader = Bench("n2"), Bench("n1")
    leader.lead(3)
    leader.status(paused="disk-full")
    follower.follow("n1", 3)
    caller = follower.propose("a")
    await settle()
    first = follower.sent.pop()[1]
    assert isinstance(first, Forward)
    leader.proposer.frame("n2", first)
    (_, refused) = leader.sent.pop()
    assert isinstance(refused, Refused)
    follower.proposer.frame("n1", refused)
    await asyncio.sleep(0.12)
    again = follower.sent.pop()[1]
    assert isinstance(again, Forward) and again.batch.commands == first.batch.commands
    leader.status(paused="")
    leader.proposer.frame("n2", first)  # It was on its way when the follower heard of the refusal.
    await settle()
    assert leader.log.entries == [] and isinstance(leader.sent[-1][1], Refused)
    follower.proposer.frame("n1", leader.sent.pop()[1])  # type: ignore[arg-type]
    leader.proposer.frame("n2", again)
    await settle()
    assert len(leader.log.entries) == 1 and leader.sent == []
    follower.log.entries = leader.log.entries
    follower.apply()
    assert await caller == Accepted("a")


@pytest.mark.parametrize("since", ["paused", "deposed"])
async def test_command_that_stands_in_the_log_is_never_refused(since: str) -> None:
    """Its sender would take it for surely not applied, and it may yet be committed."""
    leader = Bench("n1")
    leader.lead(3)
    forward = Forward(3, 1, Batch("n2", 9, 1, (PauseTask("a"),)))
    leader.proposer.frame("n2", forward)
    await settle()
    assert len(leader.log.entries) == 1
    if since == "paused":
        leader.status(paused="disk-full")
    else:
        leader.follow(None, 3)
    leader.proposer.frame("n2", forward)
    assert leader.sent == []
    more = Forward(3, 1, Batch("n2", 9, 1, (PauseTask("a"), PauseTask("b"))))
    leader.proposer.frame("n2", more)
    assert leader.sent == [("n2", Refused(3, 9, 2, 1, "not-leader"))]


async def test_peer_that_did_not_lead_the_term_in_this_life_says_nothing() -> None:
    """Its earlier life may have, and then the log may hold the command."""
    restarted = Bench("n1")
    restarted.follow(None, 3)
    restarted.proposer.frame("n2", Forward(3, 1, Batch("n2", 9, 1, (PauseTask("a"),))))
    assert restarted.sent == []


async def test_without_a_leader_the_caller_hears_so_within_a_second() -> None:
    bench = Bench()
    began = asyncio.get_running_loop().time()
    with pytest.raises(NoLeader, match="retry later"):
        await bench.propose("a")
    assert asyncio.get_running_loop().time() - began < 1.2


async def test_deadline_after_sending_is_an_unknown_outcome() -> None:
    bench = Bench()
    bench.lead()
    with pytest.raises(UnknownOutcome):
        await bench.propose("a", timeout=0.1)


async def test_full_log_keeps_commands_until_it_takes_them() -> None:
    bench = Bench()
    bench.lead()
    bench.log.refuse = LogFull("full")
    caller = bench.propose("a")
    await asyncio.sleep(0.1)
    bench.log.refuse = None
    await asyncio.sleep(0.15)
    bench.apply()
    assert await caller == Accepted("a")


async def test_deposed_leader_takes_its_commands_back() -> None:
    bench = Bench()
    bench.lead(1)
    bench.log.refuse = NotLeader()
    caller = bench.propose("a")
    await settle()
    bench.log.refuse = None
    bench.lead(2)
    await asyncio.sleep(0.12)
    assert codec.decode_entry(bench.log.entries[-1]).term == 2
    bench.apply()
    assert await caller == Accepted("a")


async def test_leader_with_a_full_intake_refuses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raftsched.peer.intake.INTAKE_ITEMS_MAX", 0)
    bench = Bench()
    bench.lead()
    with pytest.raises(Overloaded):
        await bench.propose("a")
    monkeypatch.undo()
    caller = bench.propose("b")
    await settle()
    bench.apply()
    assert await caller == Accepted("b")


async def test_snapshot_that_jumps_over_a_command_makes_its_outcome_unknown() -> None:
    bench = Bench("n2")
    bench.follow("n1", 3)
    caller = bench.propose("a")
    await settle()
    bench.proposer.restored()
    with pytest.raises(UnknownOutcome):
        await caller


def _submission(name: str, size: int) -> SubmitTasks:
    return SubmitTasks((NewTask(name, b"x" * size),))


async def test_commands_that_are_too_large_together_go_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if the sizes had been estimated too small.
    monkeypatch.setattr("raftsched.peer.intake.ENTRY_BYTES_MAX", 3_000)
    bench = Bench()
    bench.lead()
    callers = [bench.propose(name * 500) for name in "abcdefgh"]
    await settle()
    for position in range(8):
        bench.apply(position)
        await settle()
    assert [(await c).value[0] for c in callers] == list("abcdefgh")  # type: ignore[union-attr]


async def test_command_that_no_entry_can_carry_is_refused_and_the_next_ones_go_on() -> None:
    bench = Bench()
    bench.lead()
    large = asyncio.ensure_future(bench.proposer.propose(_submission("t", 5 << 20), 5))
    caller = bench.propose("a")
    await settle()
    with pytest.raises(TooLarge):
        await large
    await settle()
    bench.apply()
    assert await caller == Accepted("a")


async def test_follower_hears_that_its_command_is_too_large() -> None:
    follower, leader = Bench("n2"), Bench("n1")
    leader.lead(3)
    follower.follow("n1", 3)
    large = asyncio.ensure_future(follower.proposer.propose(_submission("t", 5 << 20), 5))
    await settle()
    leader.proposer.frame("n2", follower.sent.pop()[1])  # type: ignore[arg-type]
    await settle()
    follower.proposer.frame("n1", leader.sent.pop()[1])  # type: ignore[arg-type]
    with pytest.raises(TooLarge):
        await large


async def test_command_that_cannot_be_encoded_fails_alone() -> None:
    bench = Bench()
    bench.lead()
    node = RegisterNode("n1", "a", "http://x", 1, 10**30, 1, True)
    with pytest.raises(OverflowError):
        await bench.proposer.propose(node, 5)
    caller = bench.propose("a")
    await settle()
    bench.apply()
    assert await caller == Accepted("a")


async def test_leader_does_not_wait_for_what_was_lost_before_a_snapshot_jumped_over_it() -> None:
    follower, leader = Bench("n2"), Bench("n1")
    leader.lead(3)
    follower.follow("n1", 3)
    lost = follower.propose("lost on its way")
    await settle()
    follower.sent.clear()
    follower.proposer.restored()
    with pytest.raises(UnknownOutcome):
        await lost
    caller = follower.propose("b")
    await settle()
    leader.proposer.frame("n2", follower.sent.pop()[1])  # type: ignore[arg-type]
    await settle()
    assert leader.sent == [] and len(leader.log.entries) == 1
    follower.log.entries = leader.log.entries
    follower.apply()
    assert await caller == Accepted("b")
