"""Comparing the replicas: reports, verdicts, suspicion, and what is refused meanwhile."""

from __future__ import annotations

import typing

import pytest

from raftsched.core import codec, machine
from raftsched.core.commands import AnyCommand, CheckReplicas, ReportDigest
from raftsched.core.digest import FORMAT
from raftsched.core.handlers import TAKEN_WHEN_SUSPECT
from raftsched.core.model import Check
from raftsched.core.outcomes import Accepted, Reason, Rejected
from raftsched.core.state import State
from tests.unit.core.builders import (
    ONE_OF_EACH,
    Replica,
    dump,
    entry,
    finished,
    register,
    started,
)

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
THREE = ("n1", "n2", "n3")


def begun(*voters: str) -> tuple[Replica, int]:
    """A replica with a check of these voters that has begun, and its index."""
    replica = Replica()
    return replica, replica.accepted(CheckReplicas(voters or THREE, FORMAT))


def reported(replica: Replica, index: int, *digests: bytes) -> Check:
    """What ``n1``, ``n2`` and so on reported, in that order."""
    for number, found in enumerate(digests, 1):
        if found:
            replica.accepted(ReportDigest(f"n{number}", index, found))
    assert replica.state.check is not None
    return replica.state.check


def test_a_check_has_the_index_of_its_entry_and_its_voters_in_order() -> None:
    replica = Replica()
    replica.submit("t1")
    index = replica.accepted(CheckReplicas(("n3", "n1", "n2"), 7))
    assert replica.state.check == Check(index, 7, replica.now, THREE)
    assert index == replica.index


@pytest.mark.parametrize("voters", [(), ("n1", "n1"), ("",), tuple(map(str, range(100)))], ids=len)
def test_a_check_of_nobody_or_of_one_twice_is_refused(voters: tuple[str, ...]) -> None:
    assert Replica().refused(CheckReplicas(voters, FORMAT)).reason is Reason.INVALID


@pytest.mark.parametrize(
    ("digests", "majority", "diverged", "split"),
    [
        ((A,), b"", (), False),
        ((A, A), A, (), False),
        ((A, A, A), A, (), False),
        ((A, B), b"", (), False),
        ((A, B, B), B, ("n1",), False),
        ((A, B, A), A, ("n2",), False),
        ((A, B, C), b"", (), True),
        ((A, A, B), A, ("n3",), False),
    ],
)
def test_what_three_peers_report(
    digests: tuple[bytes, ...], majority: bytes, diverged: tuple[str, ...], split: bool
) -> None:
    replica, index = begun()
    check = reported(replica, index, *digests)
    assert (check.majority, check.diverged, check.is_split) == (majority, diverged, split)
    assert replica.state.suspect is split


@pytest.mark.parametrize(
    ("digests", "majority", "split"),
    [
        ((A, B, A, B), b"", False),
        ((A, B, C), b"", False),
        ((A, B, C, C, A), b"", True),
        ((A, B, C, b"d" * 16), b"", True),
        ((A, A, B, B, A), A, False),
    ],
)
def test_what_five_peers_report(digests: tuple[bytes, ...], majority: bytes, split: bool) -> None:
    replica, index = begun("n1", "n2", "n3", "n4", "n5")
    check = reported(replica, index, *digests)
    assert (check.majority, check.is_split) == (majority, split)


def test_two_peers_need_each_other_and_one_needs_nobody() -> None:
    replica, index = begun("n1", "n2")
    assert reported(replica, index, A, B).is_split
    replica, index = begun("n1")
    assert reported(replica, index, A).majority == A


def test_a_report_of_another_check_is_stale() -> None:
    assert Replica().refused(ReportDigest("n1", 1, A)).reason is Reason.STALE_CHECK
    replica, first = begun()
    second = replica.accepted(CheckReplicas(THREE, FORMAT))
    for index in (first, second + 1, 0):
        assert replica.refused(ReportDigest("n1", index, A)).reason is Reason.STALE_CHECK


def test_a_report_counts_once_and_is_not_taken_back() -> None:
    replica, index = begun()
    report = ReportDigest("n1", index, A)
    assert replica.do(report) == replica.do(report) == Accepted()
    assert replica.refused(ReportDigest("n1", index, B)).reason is Reason.INVALID
    assert replica.state.check is not None and len(replica.state.check.reports) == 1


@pytest.mark.parametrize(("peer", "digest"), [("n4", A), ("n1", b"short"), ("n1", b"")])
def test_a_report_of_a_stranger_or_of_no_digest_is_refused(peer: str, digest: bytes) -> None:
    replica, index = begun()
    assert replica.refused(ReportDigest(peer, index, digest)).reason is Reason.INVALID


# Suspicion ---------------------------------------------------------------------------------------


def suspect() -> Replica:
    """A replica of a cluster whose three peers came to three digests."""
    replica = Replica()
    replica.accepted(register())
    replica.submit("t1", "t2")
    replica.run("t1")
    index = replica.accepted(CheckReplicas(THREE, FORMAT))
    reported(replica, index, A, B, C)
    assert replica.state.suspect
    return replica


@pytest.mark.parametrize("command", ONE_OF_EACH, ids=lambda command: type(command).__name__)
def test_only_facts_are_taken_while_suspect(command: AnyCommand) -> None:
    replica = suspect()
    before = dump(replica.state)
    applied = machine.apply(replica.state, replica.index, entry(command, now=replica.now))
    [[outcome]] = applied.outcomes
    was_refused = isinstance(outcome, Rejected) and outcome.reason is Reason.REPLICA_DIVERGENCE
    assert was_refused is (type(command) not in TAKEN_WHEN_SUSPECT)
    if was_refused:
        assert (dump(replica.state), applied.events) == (before, [])


def test_there_are_commands_of_both_kinds() -> None:
    assert set(typing.get_args(AnyCommand)) > TAKEN_WHEN_SUSPECT


def test_what_ran_is_written_down_while_suspect() -> None:
    replica = suspect()
    token = replica.latest("t1").token
    assert replica.accepted(started("t1", token)) == ()
    assert replica.accepted(finished("t1", token)) == ()
    assert replica.task("t1").status == "succeeded"


def test_a_majority_in_a_later_check_ends_the_suspicion() -> None:
    replica = suspect()
    index = replica.accepted(CheckReplicas(THREE, FORMAT))
    assert replica.state.suspect
    reported(replica, index, A)
    assert replica.state.suspect
    assert reported(replica, index, b"", A).majority == A
    assert not replica.state.suspect
    replica.submit("t3")


def test_two_that_differ_are_suspect_when_the_next_check_begins() -> None:
    replica, index = begun()
    reported(replica, index, A, B)
    assert not replica.state.suspect
    replica.accepted(CheckReplicas(THREE, FORMAT))
    assert replica.state.suspect


@pytest.mark.parametrize("digests", [(), (A,), (A, A), (A, A, B)])
def test_a_check_without_undecided_differences_leaves_no_suspicion(
    digests: tuple[bytes, ...],
) -> None:
    replica, index = begun()
    reported(replica, index, *digests)
    replica.accepted(CheckReplicas(THREE, FORMAT))
    assert not replica.state.suspect


def test_commands_behind_the_report_in_its_entry_are_refused_already() -> None:
    replica, index = begun("n1", "n2")
    reports = (ReportDigest("n1", index, A), ReportDigest("n2", index, B))
    submit = ONE_OF_EACH[0]
    applied = machine.apply(replica.state, index + 1, entry(*reports, submit, now=replica.now))
    assert isinstance(applied.outcomes[0][2], Rejected)
    assert len(replica.state.tasks) == 0


def test_check_and_suspicion_survive_a_snapshot() -> None:
    replica = suspect()
    restored: State = codec.restore_state(dump(replica.state))
    assert (restored.check, restored.suspect) == (replica.state.check, True)
