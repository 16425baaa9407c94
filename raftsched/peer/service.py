"""What the HTTP API needs of a peer, and all it knows of it."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from raftsched.core.commands import AnyCommand
from raftsched.core.model import Check, Task
from raftsched.core.outcomes import Outcome
from raftsched.core.state import State
from raftsched.peer.config import PeerAddress, PeerConfig
from raftsched.peer.messages import MemberRow, MembersTold
from raftsched.raft.log import LogStatus

Consistency = Literal["linearizable", "local"]


class OutputChunk(NamedTuple):
    """A piece of an attempt's output."""

    data: bytes
    next_offset: int
    #: At the end of what is written so far.
    eof: bool


class Told(NamedTuple):
    """What a peer told the leader of itself."""

    #: Version of its program; empty from programs that do not tell.
    program: str
    #: Highest version of the cluster that it knows.
    version_max: int
    #: How far its wall clock is ahead of the leader's; None from programs that do not tell.
    clock_offset_ms: int | None
    #: Release of its time zones; empty from programs that do not tell.
    tzdata: str = ""


class PeerService(Protocol):
    """A peer as the API sees it.  Errors are those of ``peer.errors``."""

    config: PeerConfig
    started_at_ms: int
    is_draining: bool

    @property
    def state(self) -> State:
        """The replicated state as applied here; for reading only."""

    def status(self) -> LogStatus:
        """What this peer knows of the log."""

    async def propose(self, command: AnyCommand, timeout_seconds: float = 10.0) -> Outcome:
        """The command's outcome, once it is applied here."""

    async def read(
        self,
        consistency: Consistency = "linearizable",
        min_index: int = 0,
        timeout_seconds: float = 5.0,
    ) -> State:
        """The state, current enough; ReadTimeout or IndexNotReached when it is not in time."""

    async def wait_index(self, index: int, timeout_seconds: float) -> None:
        """Return once the state's index is above ``index``, or at the timeout."""

    async def wait_finished(self, task_id: str, timeout_seconds: float) -> Task | None:
        """The task once it is terminal, or as it is at the timeout; None when it is not there."""

    async def wait_changed(self, task_id: str, index: int, timeout_seconds: float) -> Task | None:
        """The task once its row is newer than ``index``, or as it is at the timeout; or None."""

    def read_output(
        self, task_id: str, number: int, stream: str, offset: int, limit: int
    ) -> OutputChunk:
        """Output of an attempt that ran on this node (``out``), or its large ``result``."""

    async def transfer_leadership(self, target: str | None) -> str:
        """Hand leadership over; the new leader."""

    async def check_replicas(self, timeout_seconds: float) -> Check:
        """Have all replicas compared; the result, or what there is of it at the timeout."""

    async def change_members(
        self, add: dict[str, PeerAddress], remove: str, timeout_seconds: float
    ) -> MembersTold:
        """Have peers added, one removed (empty: none), or replaced; asked for again as one likes.

        With nothing to do, the members as the leader knows them.
        """

    def members(self) -> tuple[MemberRow, ...]:
        """The members of the group as this peer knows them."""

    def told(self) -> dict[str, Told]:
        """On the leader, what all peers told, itself among them; elsewhere of this peer alone."""

    def metrics(self) -> dict[str, float]:
        """Numbers by metric name."""
