"""Names to addresses, anew for every dial, without holding up the loop or its threads.

A resolver that hangs does so for half a minute.  Its lookups must not take the threads of the loop
that snapshots and journals need, so each has a thread of its own, and at most one per name.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading


class Resolver:
    """Looks names up."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}
        #: How often each name was resolved: the next dial takes the next address.
        self._turns: dict[str, int] = {}

    async def address(self, host: str) -> str:
        """One of a name's addresses, another one each time.  Raises OSError.

        An IP address is its own.  Whoever is cancelled leaves the lookup to the next one to ask.
        """
        if _is_literal(host):
            return host
        lookup = self._under_way.get(host)
        if lookup is None:
            lookup = self._under_way[host] = self._look_up(host)
        found = await asyncio.shield(lookup)
        turn = self._turns[host] = self._turns.get(host, -1) + 1
        return found[turn % len(found)]

    def _look_up(self, host: str) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def give(found: list[str], error: OSError | None) -> None:
            self._under_way.pop(host, None)
            if answer.done():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)
                answer.exception()  # Perhaps nobody waits any more.

        def work() -> None:
            found: list[str] = []
            error: OSError | None = None
            try:
                rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(str(row[4][0]) for row in rows))
            except (OSError, UnicodeError) as trouble:
                error = OSError(f"{host}: {trouble}")
            with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
                loop.call_soon_threadsafe(give, found, error)

        threading.Thread(target=work, name=f"resolve-{host}", daemon=True).start()
        return answer


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
