"""The version and the clock of the whole cluster."""

from __future__ import annotations

import msgspec
import pytest

from raftsched.core import codec, machine
from raftsched.core.commands import ENTRY_VERSION, ActivateVersion, AnyCommand, Entry, ResetClock
from raftsched.core.handlers.cluster import CLOCK_MS_MAX
from raftsched.core.machine import CLOCK_SKEW_MS_MAX
from raftsched.core.outcomes import Accepted, Reason, Rejected
from raftsched.core.state import State
from raftsched.core.versions import SINCE, SUPPORTED, Supports, UnknownVersion, next_version
from tests.unit.core.builders import BEGIN_MS, ONE_OF_EACH, Replica, dump, entry

#: What the version before this one could apply.
PREVIOUS = Supports(1, 2)
GATED = tuple(command for command in ONE_OF_EACH if type(command) in SINCE)


def of(version: int) -> State:
    state = State("c")
    state.version = version
    return state


def activate(state: State, version: int, *, entry_version: int | None = None) -> object:
    whole = msgspec.structs.replace(
        entry(ActivateVersion(version)),
        version=version if entry_version is None else entry_version,
    )
    return machine.apply(state, state.index + 1, whole).outcomes[0][0]


# Versions --------------------------------------------------------------------------------------


def test_a_new_state_is_of_the_first_version_and_written_as_its_programs_read_it() -> None:
    state = State("c")
    assert state.version == 1
    assert restored_by(PREVIOUS, state).version == 1


def restored_by(supports: Supports, state: State) -> State:
    return codec.restore_state(dump(state), supports)


def test_an_activated_version_is_in_force_also_behind_a_snapshot() -> None:
    state = State("c")
    assert activate(state, 3) == Accepted()
    assert restored_by(Supports(1, 3), state).version == 3


@pytest.mark.parametrize(
    ("in_force", "version"), [(1, -1), (1, 0), (1, 1), (1, 2), (3, 1), (3, 2), (3, 3)]
)
def test_a_version_is_never_activated_twice_nor_is_a_lower_one(in_force: int, version: int) -> None:
    state = of(in_force)
    refused = activate(state, version)
    assert isinstance(refused, Rejected) and refused.reason is Reason.INVALID
    assert state.version == in_force


@pytest.mark.parametrize("entry_version", [2, 4])
def test_an_activation_stands_in_an_entry_of_its_own_version(entry_version: int) -> None:
    state = State("c")
    refused = activate(state, 3, entry_version=entry_version)
    assert isinstance(refused, Rejected) and refused.reason is Reason.INVALID
    assert state.version == 1


@pytest.mark.parametrize("command", GATED, ids=lambda command: type(command).__name__)
def test_a_command_of_a_version_that_is_not_in_force_is_refused_and_changes_nothing(
    command: AnyCommand,
) -> None:
    state = of(SINCE[type(command)] - 1)
    machine.apply(state, 1, entry())
    before = dump(state)
    [[outcome]] = machine.apply(state, 1, entry(command)).outcomes
    assert isinstance(outcome, Rejected) and outcome.reason is Reason.NEEDS_VERSION
    assert outcome.detail.endswith("upgrade all peers first")
    assert dump(state) == before


@pytest.mark.parametrize(
    ("in_force", "members", "version"),
    [
        (1, [(1, 3), (1, 3), (1, 3)], 3),
        (1, [(1, 3)], 3),
        (1, [(1, 3), (1, 2), (1, 3)], None),
        (1, [(1, 4), (1, 3), (1, 4)], 3),
        (2, [(1, 3), (1, 2), (1, 3)], None),
        (2, [(1, 4), (1, 3), (1, 5)], 3),
        (3, [(1, 3), (1, 3), (1, 3)], None),
        (1, [(1, 3), None, (1, 3)], None),
        (4, [(1, 3), (1, 3)], None),
        (1, [(1, 3), (4, 5)], None),
        (1, [], None),
    ],
)
def test_the_next_version_is_the_highest_that_every_member_knows(
    in_force: int, members: list[tuple[int, int] | None], version: int | None
) -> None:
    supports = [None if member is None else Supports(*member) for member in members]
    assert next_version(in_force, supports) == version


def test_an_entry_of_a_version_that_a_program_does_not_know_names_what_to_do() -> None:
    data = codec.encode_entry(entry(ActivateVersion(3)))
    runs = f"the cluster runs version {ENTRY_VERSION}"
    line = f"upgrade this peer: {runs}, this program knows up to 2"
    with pytest.raises(UnknownVersion, match=line):
        codec.decode_entry(data, PREVIOUS)


def test_an_entry_of_the_version_before_is_read_by_the_program_before() -> None:
    class Before(msgspec.Struct, frozen=True, array_like=True):
        """`Entry` as it was in version 2."""

        version: int
        term: int
        now: int
        batches: tuple[msgspec.Raw, ...]

    whole = Entry(2, 7, BEGIN_MS, entry(*ONE_OF_EACH).batches)
    read = msgspec.msgpack.decode(codec.encode_entry(whole), type=Before)
    assert (read.version, read.term, read.now, len(read.batches)) == (2, 7, BEGIN_MS, 1)


def test_an_entry_that_the_program_before_wrote_is_read() -> None:
    written = msgspec.msgpack.encode([2, 7, BEGIN_MS, []])
    assert codec.decode_entry(written) == Entry(2, 7, BEGIN_MS, ())


def test_a_snapshot_of_a_version_in_force_is_not_loaded_by_a_program_that_does_not_know_it() -> (
    None
):
    with pytest.raises(UnknownVersion, match=r"the cluster runs version 3, .* knows up to 2"):
        restored_by(PREVIOUS, of(3))
    header = msgspec.msgpack.decode(dump(of(1))[0])
    header[4] = ENTRY_VERSION + 1
    with pytest.raises(UnknownVersion, match=f"the cluster runs version {ENTRY_VERSION + 1}"):
        codec.restore_state([msgspec.msgpack.encode(header)])


def test_a_snapshot_of_a_version_that_is_not_supported_any_more_names_what_to_do() -> None:
    with pytest.raises(UnknownVersion, match="release in between"):
        restored_by(Supports(2, 3), of(1))


# The clock -------------------------------------------------------------------------------------

FAR = BEGIN_MS + 1_000_000


@pytest.mark.parametrize(
    ("version", "agreed", "stamp", "now"),
    [
        (3, True, FAR, FAR),
        (3, False, FAR, BEGIN_MS + CLOCK_SKEW_MS_MAX),
        (3, False, BEGIN_MS + 5, BEGIN_MS + 5),
        (3, True, BEGIN_MS - 5, BEGIN_MS),
        (3, False, BEGIN_MS - 5, BEGIN_MS),
        (1, False, FAR, FAR),
        (2, True, FAR, FAR),
    ],
)
def test_how_far_an_entry_moves_the_clock(version: int, agreed: bool, stamp: int, now: int) -> None:
    state = of(version)
    state.now = BEGIN_MS
    machine.apply(state, 1, Entry(ENTRY_VERSION, 1, stamp, (), agreed))
    assert state.now == now


def test_the_first_entry_of_all_sets_the_clock() -> None:
    state = of(3)
    machine.apply(state, 1, Entry(ENTRY_VERSION, 1, BEGIN_MS, ()))
    assert state.now == BEGIN_MS


@pytest.mark.parametrize("to", [1, BEGIN_MS - 1, FAR, CLOCK_MS_MAX])
def test_the_clock_is_set_to_any_time_and_it_is_counted(to: int) -> None:
    replica = Replica()
    replica.submit("t1")
    was = replica.state.now + 10
    outcome = replica.do(ResetClock(to, "operator"), now=was)
    assert outcome == Accepted(was)
    assert (replica.state.now, replica.state.clock_resets) == (to, 1)
    loaded = restored_by(SUPPORTED, replica.state)
    assert (loaded.now, loaded.clock_resets) == (to, 1)


@pytest.mark.parametrize("to", [-1, 0, CLOCK_MS_MAX + 1])
def test_the_clock_is_not_set_to_what_no_calendar_shows(to: int) -> None:
    assert Replica().refused(ResetClock(to)).reason is Reason.INVALID


def test_what_was_stamped_stays_when_the_clock_is_set_back() -> None:
    replica = Replica()
    replica.submit("t1")
    created_at = replica.task("t1").created_at
    replica.accepted(ResetClock(1_000))
    replica.now = 1_000
    replica.submit("t2")
    assert replica.task("t1").created_at == created_at
    assert replica.task("t2").created_at < created_at
