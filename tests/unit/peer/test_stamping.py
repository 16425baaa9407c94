"""Which time a leader writes into an entry, from what it knows of its own clock and the others'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftsched.core import machine
from raftsched.core.commands import ENTRY_VERSION, Entry
from raftsched.core.machine import CLOCK_SKEW_MS_MAX
from raftsched.core.state import State
from raftsched.peer.stamping import (
    JUMP_SECONDS,
    MEASURED_SECONDS_MAX,
    Reading,
    Stamp,
    Stamper,
)
from raftsched.raft.log import PeerView

#: The true time when every monotonic clock is at 0, and a moment to stamp at.
TRUE_MS = 1_700_000_000_000
AT = 1_000.0
NOW_MS = TRUE_MS + int(1_000 * AT)


def views(
    *offsets_ms: float | None, error_ms: float = 1.0, age: float = 0.1
) -> dict[str, PeerView]:
    """What ``n2``, ``n3`` ... told: how far their clocks are off; None: they do not tell."""
    return {
        f"n{number}": PeerView(
            AT - age, None if offset is None else TRUE_MS + offset, error_ms, AT - age, {}
        )
        for number, offset in enumerate(offsets_ms, 2)
    }


def reading(
    size: int,
    known: dict[str, PeerView],
    wall_ms: int = NOW_MS,
    at: float = AT,
    **fields: bool,
) -> Reading:
    """What ``n1`` of a cluster of this size knows."""
    others = tuple(f"n{number}" for number in range(2, size + 1))
    return Reading(wall_ms, at, others, known, **fields)


@pytest.mark.parametrize(
    ("size", "known", "agrees"),
    [
        (3, views(0, 0), True),
        (3, views(0), True),
        (3, views(0, 9_000), True),
        (3, views(9_000, 9_000), False),
        (3, views(-9_000, 9_000), False),
        (3, {}, False),
        (3, views(None, None), False),
        (3, views(1_999), True),
        (3, views(2_000), False),
        (3, views(-1_999), True),
        (3, views(0, error_ms=1_999), True),
        (3, views(0, error_ms=2_001), False),
        (3, views(0, age=MEASURED_SECONDS_MAX - 0.1), True),
        (3, views(0, age=MEASURED_SECONDS_MAX + 0.1), False),
        (5, views(0, 9_000, 9_000, 0), True),
        (5, views(0, 9_000, 9_000, 9_000), False),
    ],
)
def test_a_stamp_is_the_wall_clock_if_a_majority_agrees(
    size: int, known: dict[str, PeerView], agrees: bool
) -> None:
    stamper, state_now = Stamper(), NOW_MS - 500
    stamper.applied(state_now, AT - 0.2, agreed=True)
    stamp = stamper.stamp(reading(size, known), state_now)
    assert stamp == (Stamp(NOW_MS, True) if agrees else Stamp(state_now + 200, False))


def test_members_that_do_not_tell_agree_while_a_version_is_in_force_that_never_did() -> None:
    for known in (views(None, None), {}, views(9_000, None)):
        assert Stamper().stamp(reading(3, known, silence_agrees=True), 5) == Stamp(NOW_MS, True)
    assert not Stamper().stamp(reading(3, views(9_000, 9_000), silence_agrees=True), 5).agreed


def test_the_very_first_stamp_is_the_wall_clock() -> None:
    assert Stamper().stamp(reading(3, {}), 0) == Stamp(NOW_MS, False)


def test_with_nothing_to_reckon_from_time_stands_still() -> None:
    assert Stamper().stamp(reading(3, {}), 77) == Stamp(77, False)


def test_time_goes_on_by_the_monotonic_clock_through_hours_without_an_entry() -> None:
    stamper = Stamper()
    stamper.applied(NOW_MS, AT, agreed=True)
    later = AT + 7_200
    assert stamper.stamp(reading(3, {}, NOW_MS + 86_400_000, later), NOW_MS) == Stamp(
        NOW_MS + 7_200_000, False
    )


def test_what_a_bound_cut_off_is_caught_up_over_several_entries() -> None:
    stamper, state = Stamper(), State("c")
    state.version, state.now = ENTRY_VERSION, NOW_MS
    stamper.applied(NOW_MS, AT, agreed=True)
    seen = []
    for number in range(1, 5):
        stamp = stamper.stamp(reading(3, {}, 0, AT + 5), state.now)
        machine.apply(state, number, Entry(ENTRY_VERSION, 1, stamp.now, (), stamp.agreed))
        stamper.applied(state.now, AT + 5, agreed=stamp.agreed)
        seen.append(state.now - NOW_MS)
    assert seen == [2_000, 4_000, 5_000, 5_000]


def test_a_cluster_whose_time_is_ahead_waits_for_the_clocks() -> None:
    stamper, state = Stamper(), State("c")
    state.version, state.now = ENTRY_VERSION, NOW_MS + 60_000
    stamp = stamper.stamp(reading(3, views(0, 0)), state.now)
    machine.apply(state, 1, Entry(ENTRY_VERSION, 1, stamp.now, (), stamp.agreed))
    assert state.now == NOW_MS + 60_000


def test_a_clock_that_was_set_back_is_reckoned_from_there() -> None:
    stamper = Stamper()
    stamper.applied(NOW_MS + 60_000, AT, agreed=False)
    stamper.restart(NOW_MS, AT)
    assert stamper.stamp(reading(3, {}, 0, AT + 1), NOW_MS) == Stamp(NOW_MS + 1_000, False)


# A single peer ---------------------------------------------------------------------------------


def alone() -> Stamper:
    """A single peer whose clock was right so far."""
    stamper = Stamper()
    assert stamper.stamp(reading(1, {}), NOW_MS - 500) == Stamp(NOW_MS, True)
    stamper.applied(NOW_MS, AT, agreed=True)
    return stamper


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
def test_a_single_peers_clock_that_jumps_is_believed_once_it_stays_there(jump_ms: int) -> None:
    stamper = alone()

    def at(seconds: float) -> Stamp:
        wall_ms = NOW_MS + jump_ms + int(1_000 * seconds)
        return stamper.stamp(reading(1, {}, wall_ms, AT + seconds), NOW_MS)

    assert at(1) == Stamp(NOW_MS + 1_000, False)
    assert at(JUMP_SECONDS) == Stamp(NOW_MS + int(1_000 * JUMP_SECONDS), False)
    believed = JUMP_SECONDS + 1
    assert at(believed) == Stamp(NOW_MS + jump_ms + int(1_000 * believed), True)
    assert at(believed + 1).agreed


def test_a_single_peers_clock_that_jumps_back_in_time_was_never_gone() -> None:
    stamper = alone()
    assert not stamper.stamp(reading(1, {}, NOW_MS + 3_600_000, AT + 1), NOW_MS).agreed
    assert stamper.stamp(reading(1, {}, NOW_MS + 2_000, AT + 2), NOW_MS).agreed
    assert not stamper.stamp(
        reading(1, {}, NOW_MS + 3_600_000, AT + 2 * JUMP_SECONDS), NOW_MS
    ).agreed


def test_a_single_peers_clock_that_keeps_jumping_is_not_believed() -> None:
    stamper = alone()
    for number in range(1, 10):
        seconds = number * JUMP_SECONDS / 2
        wall_ms = NOW_MS + number * 60_000 + int(1_000 * seconds)
        assert not stamper.stamp(reading(1, {}, wall_ms, AT + seconds), NOW_MS).agreed


@pytest.mark.parametrize(
    ("state_now", "agrees"),
    [
        (0, True),
        (NOW_MS - CLOCK_SKEW_MS_MAX, True),
        (NOW_MS - CLOCK_SKEW_MS_MAX - 1, False),
        (NOW_MS + 3_600_000, True),
    ],
)
def test_a_single_peers_first_reading_is_believed_near_the_time_there_is(
    state_now: int, agrees: bool
) -> None:
    assert Stamper().stamp(reading(1, {}), state_now).agreed is agrees


def test_a_single_peer_that_was_down_believes_its_clock_once_it_stays_there() -> None:
    stamper, state_now = Stamper(), NOW_MS - 7_200_000
    stamper.applied(state_now, AT, agreed=True)

    def at(seconds: float) -> Stamp:
        wall_ms = NOW_MS + int(1_000 * seconds)
        return stamper.stamp(reading(1, {}, wall_ms, AT + seconds), state_now)

    assert at(0) == Stamp(state_now, False)
    assert at(JUMP_SECONDS - 1) == Stamp(state_now + int(1_000 * (JUMP_SECONDS - 1)), False)
    assert at(JUMP_SECONDS) == Stamp(NOW_MS + int(1_000 * JUMP_SECONDS), True)


def test_a_peer_that_is_alone_after_an_idle_hour_has_its_clock_believed() -> None:
    stamper = Stamper()
    stamper.applied(NOW_MS - 3_600_000, AT - 3_600, agreed=True)
    assert stamper.stamp(reading(1, {}), NOW_MS - 3_600_000) == Stamp(NOW_MS, True)


def test_a_single_peers_clock_may_drift() -> None:
    stamper = alone()
    for number in range(1, 100):
        wall_ms = NOW_MS + 1_900 * number
        assert stamper.stamp(reading(1, {}, wall_ms, AT + number), NOW_MS).agreed


# Whom to trust ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "known", "trusted"),
    [
        (3, views(9_000, 9_500), ("n2", "n3")),
        (3, views(9_000, -9_000), ()),
        (3, views(9_000), ()),
        (3, {}, ()),
        (3, views(None, None), ()),
        (5, views(9_000, 9_100, -5_000, 9_200), ("n2", "n3", "n5")),
        (5, views(9_000, 9_100, 0, 0), ("n4", "n5")),
    ],
)
def test_peers_whose_clocks_a_majority_agrees_with_may_lead_instead(
    size: int, known: dict[str, PeerView], trusted: tuple[str, ...]
) -> None:
    assert reading(size, known).trusted() == trusted


# Whatever happens ------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.floats(0, 10_000),
        st.integers(-10_000_000, 10_000_000),
        st.lists(st.one_of(st.none(), st.integers(-5_000, 5_000)), max_size=2),
    ),
    max_size=30,
)


@given(STEPS)
def test_time_never_falls_nor_jumps_unless_a_majority_agrees(
    steps: list[tuple[float, int, list[int | None]]],
) -> None:
    stamper, state, at = Stamper(), State("c"), AT
    state.version, state.now = ENTRY_VERSION, NOW_MS
    for index, (elapsed, jump_ms, offsets) in enumerate(steps, 1):
        at += elapsed
        wall_ms = TRUE_MS + jump_ms + int(1_000 * at)
        known = {peer: view._replace(measured_at=at) for peer, view in views(*offsets).items()}
        before = state.now
        stamp = stamper.stamp(reading(3, known, wall_ms, at), state.now)
        near = [o for o in offsets if o is not None and abs(o - jump_ms) < CLOCK_SKEW_MS_MAX - 1]
        assert not stamp.agreed or near
        machine.apply(state, index, Entry(ENTRY_VERSION, 1, stamp.now, (), stamp.agreed))
        stamper.applied(state.now, at, agreed=stamp.agreed)
        assert state.now >= before
        assert stamp.agreed or state.now <= before + CLOCK_SKEW_MS_MAX
