"""Peers with small journals: the same program, with other defaults from its first line on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_SHIM = Path(__file__).parents[1] / "shims" / "startup"
#: Segments end and snapshots are made every few hundred entries.
SMALL_JOURNALS: dict[str, Any] = {
    "raftsched.peer.peer": {"LogConfig": {"journal_bytes_max": 20_000, "segment_bytes": 5_000}}
}


def environment(presets: dict[str, Any]) -> dict[str, str]:
    """Variables that have a Python program begin with these; see ``shims/startup``."""
    path = os.pathsep.join(filter(None, [str(_SHIM), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, "JEPSEN_LIKE_PRESETS": json.dumps(presets)}
