"""What many runs come to."""

from __future__ import annotations

from pathlib import Path

import msgspec

from jepsen_like.checker import judge
from jepsen_like.results import results
from jepsen_like.series import Done, summary
from tests.jepsen.builders import fault, good


def test_classes_of_faults_that_were_hardly_seen_are_named() -> None:
    kills = [event for at in (11_000, 13_000, 15_000) for event in fault("kill-one", at, at + 500)]
    unseen = fault("loss", 17_000, 18_000, verified=None)
    whole = msgspec.structs.replace(good(), faults=tuple(kills + unseen))
    found = msgspec.to_builtins(results(whole, judge(whole)))
    said = summary([Done("run", Path("000"), found, 1.0), Done("hung", Path("001"), None, 1.0)])
    assert said.startswith("1 of 2 runs held: 75 operations")
    _, rare = said.split("\n")
    assert rare.startswith("seen fewer than 3 times: crash 0")
    assert "link 0" in rare
    assert "kill" not in rare
    assert rare.endswith("writes refused 0")
