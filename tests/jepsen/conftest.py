"""The harness is no installed package; its folder goes on the path."""

from __future__ import annotations

import sys
from pathlib import Path

HARNESS = str(Path(__file__).parents[2] / "jepsen-like")
if HARNESS not in sys.path:
    sys.path.insert(0, HARNESS)
