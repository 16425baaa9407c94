"""What peers find at their start: defaults for small journals, and packages of ours before others.

It is the same program all the same.
"""

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


def environment(presets: dict[str, Any], *packages: Path) -> dict[str, str]:
    """Variables that have a Python program begin with these; see ``shims/startup``.

    ``packages``: directories that stand before those where it is installed.
    """
    shim = [_SHIM] if presets else []
    path = os.pathsep.join(
        filter(None, [*map(str, [*shim, *packages]), os.environ.get("PYTHONPATH", "")])
    )
    return {"PYTHONPATH": path, "JEPSEN_LIKE_PRESETS": json.dumps(presets)}
