"""Ids sort by time, and those of a keyed submission are the same every time."""

from __future__ import annotations

import uuid

from raftsched.peer import ids
from raftsched.peer.ids import derived_id, uuid7


def test_uuid7_carries_its_time_and_sorts_by_it() -> None:
    early, late = uuid7(1_000), uuid7(2_000)
    assert early < late
    parsed = uuid.UUID(early)
    assert parsed.version == 7
    assert parsed.int >> 80 == 1_000


def test_derived_id_depends_on_every_part() -> None:
    ids = {derived_id(n, k, i) for n in ("a", "b") for k in ("x", "y") for i in (0, 1)}
    assert len(ids) == 8
    assert derived_id("a", "x", 0) in ids
    assert all(uuid.UUID(i).version == 8 for i in ids)


def test_lines_of_one_submission_have_ids_of_their_own() -> None:
    # Two lines would have one id if their distance times the step had no bits but those an id does
    # not keep; solved for the distance, all of these are beyond any submission.
    inverse = pow(ids._STEP, -1, 1 << 128)
    gaps = [(high << 76) + (low << 62) for high in range(-15, 16) for low in range(-3, 4)]
    distances = {gap * inverse % (1 << 128) for gap in gaps if gap}
    assert all(1 << 40 < distance < (1 << 128) - (1 << 40) for distance in distances)
    assert len({derived_id("a", "x", line) for line in range(10_000)}) == 10_000
