"""raftsched: a task scheduler that is highly available on three to five machines.

``Peer`` embeds a member of the cluster in an asyncio program; ``App`` makes tasks of functions, and
``current()`` is the attempt they run in.  All are imported at first use, so that the command line
starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raftsched.app import App as App
    from raftsched.app import current as current
    from raftsched.embed import Peer as Peer
    from raftsched.embed import PeerConfig as PeerConfig
    from raftsched.embed import load_config as load_config

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Peer", "PeerConfig", "load_config"):
        from raftsched import embed

        return getattr(embed, name)
    if name in ("App", "current"):
        from raftsched import app

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
