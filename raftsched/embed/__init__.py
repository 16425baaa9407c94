"""The whole peer, HTTP API included, for programs that embed it and for ``raftsched serve``.

::

    async with Peer(config) as peer:
        task = await peer.submit(["/usr/bin/convert", "a.png", "b.jpg"])
        task = await peer.wait(task.id)
        await peer.schedule("nightly", ["/usr/bin/backup"], cron="0 2 * * *")

Rules
1. What a peer offers is called as in `AsyncClient`, with the same keywords, and ``timeout_seconds``
   beside them: while nobody leads, as just after the start, a call is tried again for so long.
2. A task, a schedule and a template are rows of the state; all else is the document that the HTTP
   API gives, as of a client.
3. What a call does it does once, however often it had to be tried.
4. Errors: ValueError for a document that is wrong (its text begins with the JSON pointer) and for
   what is refused, KeyError for what there is not, LookupError for what a task has not, PeerError
   for trouble, which says whether anything was done.
"""

from __future__ import annotations

from raftsched.embed.peer import Peer
from raftsched.embed.serving import serve
from raftsched.peer.config import PeerConfig, load_config

__all__ = ["Peer", "PeerConfig", "load_config", "serve"]
