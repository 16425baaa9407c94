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

#: What was found when nobody waited for it any more serves for so long.
KEPT_SECONDS = 5.0


class Resolver:
    """Looks names up."""

    def __init__(self) -> None:
        #: Lookups that nobody has had the answer of, one for each name.
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}
        #: When those that have one were answered, on the loop's clock.
        self._found_at: dict[str, float] = {}
        #: How often each name was resolved: the next dial takes the next address.
        self._turns: dict[str, int] = {}

    async def address(self, host: str) -> str:
        """One of a name's addresses, another one each time.  Raises OSError.

        An IP address is its own.  Whoever is cancelled leaves the lookup, or what it comes to
        meanwhile, to the next one to ask: a slow resolver would never be in time otherwise.
        """
        if _is_literal(host):
            return host
        now = asyncio.get_running_loop().time()
        lookup = self._under_way.get(host)
        if lookup is None or now - self._found_at.get(host, now) > KEPT_SECONDS:
            self._found_at.pop(host, None)
            lookup = self._under_way[host] = self._look_up(host)
        found = await asyncio.shield(lookup)
        if self._under_way.get(host) is lookup:
            del self._under_way[host]
            self._found_at.pop(host, None)
        turn = self._turns[host] = self._turns.get(host, -1) + 1
        return found[turn % len(found)]

    def _look_up(self, host: str) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def give(found: list[str], error: OSError | None) -> None:
            if error is None:
                self._found_at[host] = loop.time()
                answer.set_result(found)
            else:
                del self._under_way[host]
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
