"""Bugs of what clocks that change do to a schedule; the simulation's schedules are intervals."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from raftsched.core.cron import slots
from raftsched.core.cron.timing import Fold


def come_again_when_clocks_go_back() -> AbstractContextManager[Any]:
    """A fixed time of the day counts both times that clocks show it."""
    usual = slots.policies

    def policies(timing: Any, times: Any) -> tuple[Any, Any]:
        gap, fold = usual(timing, times)
        return gap, Fold.BOTH if fold is Fold.FIRST else fold

    return patch.object(slots, "policies", policies)
