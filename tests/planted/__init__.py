"""Bugs planted on purpose, one at a time: each replaces functions of the product while it stands.

None of them is in the product, and no switch for any of them.  The simulation must find them
(`tests.simulation.mutants`), and so must the harness with real processes: ``python -m tests.planted
NAME serve ...`` is a peer that has one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

from tests.planted import answers, consensus, scheduling, times, twins


def _all(*modules: ModuleType) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    return {
        name.replace("_", "-"): planted
        for module in modules
        for name, planted in vars(module).items()
        if callable(planted) and getattr(planted, "__module__", "") == module.__name__
        if not name.startswith("_")
    }


#: Those that the simulation cannot show, as it speaks no HTTP and reads no clocks on walls.
NOT_SIMULATED = _all(answers, times)
#: All, by the name that ``python -m tests.planted`` takes.
PLANTED = {**_all(consensus, scheduling, twins), **NOT_SIMULATED}
