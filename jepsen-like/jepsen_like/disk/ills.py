"""What is wrong with a disk just now, and how often anybody felt it."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

#: Room is given in blocks.
BLOCK_BYTES = 4096
#: What a trap can be set for, and how long it holds.
STEPS = ("write", "sync", "rename", "unlink")
TRAP_SECONDS = 2.0
_COUNTS = ("writes", "syncs", "slow_syncs", "bad_syncs", "bad_writes", "no_room")


class PowerCut(Exception):
    """The operation that was to come is the one the power goes at."""


class Later(Exception):
    """The answer comes after so many seconds; ``then`` is done for it, if not the same again."""

    def __init__(self, seconds: float, then: Callable[[], bytes] | None = None) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.then = then


class Ills:
    """All that can be wrong, from well on."""

    def __init__(self) -> None:
        #: Writes, syncs and changes of names so far, and the one the power goes at.
        self.operations = 0
        self.cut_at = 0
        #: Writes to go until one is torn, to a file whose name begins so.
        self.tear_in = 0
        self.tear_prefix = b""
        self._tears = random.Random(0)
        #: What became of it: ``NAME KEPT/ALL``.
        self.torn = ""
        #: The step, and the beginning of the name, that hangs next; what hung last.
        self.trap: tuple[str, bytes] | None = None
        self.trapped = ""
        #: Syncs are answered and do nothing: a disk that lies.
        self.is_deaf = False
        #: Blocks that there are; None: as many as anybody wants.
        self.blocks_max: int | None = None
        #: A sync takes between so many seconds.
        self.sync_seconds: tuple[float, float] = (0.0, 0.0)
        self._delays = random.Random(0)
        self.has_bad_syncs = False
        self.has_bad_writes = False
        self.counts = dict.fromkeys(_COUNTS, 0)

    def cure(self) -> None:
        """All is well but for the power, which is no ill of the disk."""
        self.is_deaf = self.has_bad_syncs = self.has_bad_writes = False
        self.blocks_max = None
        self.sync_seconds = (0.0, 0.0)
        self.cut_at = self.tear_in = 0
        self.trap = None

    def before_change(self) -> None:
        """Something durable is about to be asked for.  Raises PowerCut."""
        self.operations += 1
        if self.operations == self.cut_at:
            raise PowerCut

    def before_write(self) -> None:
        """Bytes come.  Raises OSError."""
        self.counts["writes"] += 1
        if self.has_bad_writes:
            self.counts["bad_writes"] += 1
            raise OSError(errno.EIO, "")

    def before_growth(self, blocks: int, used: int) -> None:
        """So many blocks more than those that are used.  Raises OSError."""
        if self.blocks_max is not None and blocks > 0 and used + blocks > self.blocks_max:
            self.counts["no_room"] += 1
            raise OSError(errno.ENOSPC, "")

    def sync_delay(self) -> float:
        """A sync comes; how many seconds it takes."""
        self.counts["syncs"] += 1
        low, high = self.sync_seconds
        if high > 0:
            self.counts["slow_syncs"] += 1
            return self._delays.uniform(low, high)
        return 0.0

    def set_trap(self, step: str, prefix: bytes) -> None:
        """The next such step (`STEPS`) with a file whose name begins so hangs for a while."""
        if step not in STEPS:
            raise ValueError(f"no such step: {step}; there are {', '.join(STEPS)}")
        self.trap, self.trapped = (step, prefix), ""

    def before_step(self, step: str, name: bytes) -> None:
        """Raises Later, once, for the one that the trap is set for."""
        if self.trap and step == self.trap[0] and name.startswith(self.trap[1]):
            self.trap = None
            self.trapped = f"{step} {name.decode(errors='replace')}"
            raise Later(TRAP_SECONDS)

    def aim_tear(self, writes: int, seed: int, prefix: bytes) -> None:
        """The so many-th write to such a file is torn by a power cut."""
        self.tear_in, self.tear_prefix, self.torn = writes, prefix, ""
        self._tears = random.Random(seed)

    def tear(self, name: bytes, size: int) -> int | None:
        """How many bytes of this write are kept, if it is the one; None: it is not."""
        if not self.tear_in or size < 2 or not name.startswith(self.tear_prefix):
            return None
        self.tear_in -= 1
        if self.tear_in:
            return None
        kept = self._tears.randrange(1, size)
        self.torn = f"{name.decode(errors='replace')} {kept}/{size}"
        return kept


def blocks(size: int) -> int:
    """Blocks that so many bytes take."""
    return -(-size // BLOCK_BYTES)
