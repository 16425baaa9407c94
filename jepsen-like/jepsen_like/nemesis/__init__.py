"""What breaks the cluster: the faults, by the names that ``--nemesis`` takes."""

from __future__ import annotations

from collections.abc import Iterable

from jepsen_like.nemesis import (
    damage,
    disks,
    members,
    network,
    power,
    processes,
    snapshots,
    walls,
)
from jepsen_like.nemesis.base import Arena, Fault

FAULTS: tuple[type[Fault], ...] = (
    *processes.FAULTS, *network.FAULTS, *power.FAULTS, *disks.FAULTS, *walls.FAULTS,
    *damage.FAULTS, *snapshots.FAULTS, *members.FAULTS,
)  # fmt: skip
#: Class of faults -> its faults.
NEMESES: dict[str, tuple[type[Fault], ...]] = {
    name: tuple(fault for fault in FAULTS if fault.nemesis == name)
    for name in dict.fromkeys(fault.nemesis for fault in FAULTS)
}


def faults_of(names: Iterable[str]) -> list[type[Fault]]:
    """Faults by their own names and those of their classes; ``all`` is all.  Raises KeyError."""
    found: dict[type[Fault], None] = {}
    for name in names:
        known = FAULTS if name == "all" else NEMESES.get(name)
        if known is None:
            known = tuple(fault for fault in FAULTS if fault.name == name)
        if not known:
            raise KeyError(name)
        found.update(dict.fromkeys(known))
    return list(found)


__all__ = ["FAULTS", "NEMESES", "Arena", "Fault", "faults_of"]
