"""What breaks the cluster: the faults, by the names that ``--nemesis`` takes."""

from __future__ import annotations

from jepsen_like.nemesis import network, processes
from jepsen_like.nemesis.base import Arena, Fault

FAULTS: tuple[type[Fault], ...] = (*processes.FAULTS, *network.FAULTS)
#: Class of faults -> its faults.
NEMESES: dict[str, tuple[type[Fault], ...]] = {
    name: tuple(fault for fault in FAULTS if fault.nemesis == name)
    for name in dict.fromkeys(fault.nemesis for fault in FAULTS)
}

__all__ = ["FAULTS", "NEMESES", "Arena", "Fault"]
