"""``raftsched`` with a journal so small that a test sees segments end and snapshots made.

The sizes are no configuration of a user's; nothing else is different.
"""

from __future__ import annotations

import functools

from raftsched.cli.main import main
from raftsched.peer import peer
from raftsched.raft.config import LogConfig

small = functools.partial(LogConfig, journal_bytes_max=20_000, segment_bytes=5_000)
setattr(peer, "LogConfig", small)  # noqa: B010 (it is a class there)

if __name__ == "__main__":
    main()
