"""When the state of a peer is current enough to be read."""

from __future__ import annotations

import asyncio

from raftsched.peer.errors import IndexNotReached, PeerStopped, ReadTimeout
from raftsched.peer.service import Consistency
from raftsched.raft.host import Clock
from raftsched.raft.log import LogClosed, NoQuorum, ReplicatedLog, Role

#: A linearizable read waits this long for a leader, or for a word of the one there is.
LEADERLESS_SECONDS = 0.9


class Reader:
    """Of one peer's log."""

    def __init__(self, log: ReplicatedLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def wait_until_current(
        self, consistency: Consistency, min_index: int, timeout_seconds: float
    ) -> None:
        """Return once what is applied here may be read.

        Raises ReadTimeout (after ``LEADERLESS_SECONDS`` when no leader can be heard),
        IndexNotReached or PeerStopped.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        index = min_index
        try:
            if consistency == "linearizable":
                try:
                    index = max(index, await self._read_index(timeout_seconds))
                except NoQuorum as error:
                    raise ReadTimeout(
                        f"no linearizable read: {error}; consistency=local may serve"
                    ) from error
            if index:
                await self._log.wait_applied(index, max(0.0, deadline - self._clock.monotonic()))
        except NoQuorum as error:
            status = self._log.status()
            raise IndexNotReached(
                f"index {index} was not applied on {status.peer_id} within {timeout_seconds:.1f} s "
                f"(it is at {status.applied_index}, its log ends at {status.last_index}); ask "
                "another peer, or without min_index if that is not of an answer of this cluster"
            ) from error
        except LogClosed as error:
            raise PeerStopped("this peer is stopping") from error

    async def _read_index(self, timeout_seconds: float) -> int:
        """As the log's, but given up sooner when no leader can be heard.  Raises NoQuorum."""
        try:
            return await self._log.read_index(min(timeout_seconds, LEADERLESS_SECONDS))
        except NoQuorum:
            if timeout_seconds <= LEADERLESS_SECONDS or not self._hears_leader():
                raise
        # There is one, which is slow: it gets the rest of the time as long as it is heard.
        asking = asyncio.create_task(self._log.read_index(timeout_seconds - LEADERLESS_SECONDS))
        try:
            while not (await asyncio.wait({asking}, timeout=LEADERLESS_SECONDS))[0]:
                if not self._hears_leader():
                    raise NoQuorum("the leader has fallen silent")
            return asking.result()
        finally:
            asking.cancel()

    def _hears_leader(self) -> bool:
        """Was there a word of the leader just now, or as the leader of a majority?"""
        status = self._log.status()
        if status.leader is None:
            return False
        if list(self._log.members().voters) == [status.peer_id]:
            return True
        contact = status.last_contact_ms
        return (
            contact is not None
            and contact < LEADERLESS_SECONDS * 1000
            and (status.role is Role.LEADER or status.leader in status.connected)
        )
