"""Promise G6: replicas that differ are noticed, and the one in the minority stops.

A `CheckReplicas` in the log makes every peer freeze its digest behind that very entry, and report
it as a command; what the reports show is replicated state, the same everywhere (``model.Check``).

Rules
1. A digest is reported only by a replica that applied the entry itself: one that was restored past
   it has nothing to say.
2. A peer that reads of itself that the majority differs applies nothing more (`ReplicaDiverged`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from raftsched.core import codec, digest
from raftsched.core.commands import CheckReplicas, ReportDigest
from raftsched.core.model import Check
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.core.state import State
from raftsched.core.versions import missing
from raftsched.peer import evidence
from raftsched.peer.errors import PeerError, ReplicaDiverged
from raftsched.peer.replica import Replica
from raftsched.peer.reports import Propose
from raftsched.raft.host import Host
from raftsched.raft.loading import off_loop

logger = logging.getLogger(__name__)

#: The leader has the replicas compared this often, and sooner when they differ undecidedly.
CHECK_SECONDS = 60.0
CHECK_AGAIN_SECONDS = 10.0
#: A report that could not be sent is tried again after this.
AGAIN_SECONDS = 1.0
#: Rows hashed in one pass of the loop: about two milliseconds.
SLICE_ROWS = 500
#: Who waits for a check looks this often whether the peer goes on at all.
LOOK_SECONDS = 0.5


class _Frozen(NamedTuple):
    """A digest to be reported: the state that has it, and of which check."""

    state: State
    at: int


class SelfCheck:
    """One peer's part.  Lives on the loop."""

    def __init__(
        self,
        replica: Replica,
        host: Host,
        peer_id: str,
        voters: Callable[[], tuple[str, ...]],
        data_dir: Path,
        propose: Propose,
        overruled_index: int = 0,
    ) -> None:
        """``overruled_index``: see `evidence.overruled_index`."""
        self._overruled_index = overruled_index
        self._replica = replica
        self._host = host
        self._clock = host.clock
        self._peer_id = peer_id
        self._voters = voters
        self._data_dir = data_dir
        self._propose = propose
        self._seen: Check | None = None
        self._suspect = False
        self._frozen: _Frozen | None = None
        self._wake = asyncio.Event()
        self._due_at = host.clock.monotonic() + CHECK_SECONDS
        #: Where the state stood when the last report came: nothing new to compare there.
        self._compared_index = 0

    # What was applied ------------------------------------------------------------------------

    def applied(self) -> None:
        """An entry was applied here.  Raises ReplicaDiverged."""
        state = self._replica.state
        check = state.check
        if check is self._seen or check is None:
            return
        is_new = self._seen is None or self._seen.index != check.index
        had_differed = not is_new and self._seen is not None and self._seen.differs
        self._seen = check
        self._compared_index = state.index
        if is_new:
            self._due_at = self._clock.monotonic() + CHECK_SECONDS
            self._freeze(state, check)
        if check.differs and not had_differed:
            self._tell(check)
        self._look_at_suspicion(state)
        self._stop_if_named(check)

    def restored(self) -> None:
        """A snapshot replaced the state.  Raises ReplicaDiverged."""
        self._frozen = None
        self._seen = self._replica.state.check
        self._look_at_suspicion(self._replica.state)
        if self._seen is not None:
            self._stop_if_named(self._seen)

    def _freeze(self, state: State, check: Check) -> None:
        self._frozen = None
        if self._peer_id in check.voters and check.format == digest.FORMAT:
            state.freeze_digest()
            self._frozen = _Frozen(state, check.index)
            self._wake.set()

    def _tell(self, check: Check) -> None:
        reported = ", ".join(f"{r.peer} {r.digest.hex()[:8]}" for r in check.reports)
        logger.error("the replicas differ at index %d: %s", check.index, reported)

    def _look_at_suspicion(self, state: State) -> None:
        if state.suspect is not self._suspect:
            self._suspect = state.suspect
            if state.suspect:
                logger.error("no majority of the replicas agrees: writes are refused from here on")
            else:
                logger.warning("a majority of the replicas agrees again: writes are taken")

    def _stop_if_named(self, check: Check) -> None:
        if self._peer_id in check.diverged and check.index > self._overruled_index:
            raise evidence.diverged(check, self._data_dir)

    async def keep_evidence(self, error: ReplicaDiverged) -> None:
        """Write down what there is; only when nothing changes the state any more."""
        state, check = self._replica.state, error.check
        if check is None:
            return

        def keep() -> None:
            now_ms = self._clock.wall_ms()
            found = evidence.of(state, check, self._peer_id, str(error), now_ms)
            evidence.keep(self._host.disk, self._data_dir, found, codec.snapshot_chunks(state))

        try:
            await off_loop(keep)
        except OSError as trouble:
            logger.critical("the evidence could not be written: %s", trouble)

    # Reporting -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Report what is frozen, until cancelled."""
        while True:
            try:
                await self.step()
            except PeerError as error:
                logger.debug("the digest was not reported: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    async def step(self) -> None:
        """Finish the digest that is frozen, if one is, and report it.  Raises PeerError."""
        frozen = self._frozen
        if frozen is None:
            return
        while (found := frozen.state.frozen_digest(SLICE_ROWS)) is None:
            await asyncio.sleep(0)
            if self._frozen is not frozen:
                return
        await self._propose(ReportDigest(self._peer_id, frozen.at, found), 10.0)
        if self._frozen is frozen:
            self._frozen = None

    # Asking for it ---------------------------------------------------------------------------

    async def lead(self) -> None:
        """While this peer leads, a few times a second: have the replicas compared in time.

        Raises PeerError.
        """
        state, now = self._replica.state, self._clock.monotonic()
        check = state.check
        is_open = check is not None and check.differs and not check.majority
        if is_open or state.suspect:
            self._due_at = min(self._due_at, now + CHECK_AGAIN_SECONDS)
        if now < self._due_at or missing(self._command, state.version):
            return
        self._due_at = now + CHECK_AGAIN_SECONDS
        if is_open or state.suspect or state.index > self._compared_index:
            await self._propose(self._command, 10.0)

    @property
    def _command(self) -> CheckReplicas:
        return CheckReplicas(self._voters(), digest.FORMAT)

    async def check(self, timeout_seconds: float, is_reachable: Callable[[str], bool]) -> Check:
        """Have the replicas compared, on any peer; what is known once all that can have reported.

        At the timeout, as far as it is.  A check that began meanwhile is as good.  Raises
        PeerError.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        outcome: Outcome = await self._propose(self._command, max(1.0, timeout_seconds))
        assert isinstance(outcome, Accepted), outcome
        while True:
            check = self._replica.state.check
            assert check is not None and check.index >= outcome.value, outcome
            silent = [p for p in check.voters if p not in {r.peer for r in check.reports}]
            left = deadline - self._clock.monotonic()
            if left <= 0 or not any(is_reachable(peer_id) for peer_id in silent):
                return check
            await self._replica.wait_index(self._replica.state.index, min(left, LOOK_SECONDS))
