"""Which segments of a journal are still needed, and the unlinking of those that are not."""

from __future__ import annotations

from pathlib import Path

from raftsched.raft.files import Disk
from raftsched.raft.groups import SegmentWriter


class Retention:
    """Segments leave at the front only, whole, and oldest first."""

    def __init__(self, disk: Disk, directory: Path, writer: SegmentWriter) -> None:
        self._disk = disk
        self._directory = directory
        self._writer = writer
        #: Given up and still on the disk, oldest first.
        self.unlinkable: list[Path] = []

    @property
    def bytes_needed(self) -> int:
        """Bytes of all segments that are not given up."""
        return sum(tail.end for tail in self._writer.tails)

    def bytes_from(self, floor: int) -> int:
        """Bytes of the segments that hold something at or above index ``floor``, and the last."""
        tails = self._writer.tails
        return tails[-1].end + sum(t.end for t in tails[:-1] if t.index_max >= floor)

    def release(self, floor: int) -> None:
        """Give up the segments at the front that hold nothing at or above index ``floor``."""
        tails = self._writer.tails
        count = 0
        while count < len(tails) - 1 and tails[count].index_max < floor:
            count += 1
        self._give_up(count)

    def release_before_last(self) -> None:
        """Give up all segments but the last, which holds a RESET: they say nothing any more."""
        self._give_up(len(self._writer.tails) - 1)

    def _give_up(self, count: int) -> None:
        tails = self._writer.tails
        self.unlinkable += [self._writer.path(tail) for tail in tails[:count]]
        del tails[:count]

    def unlink(self) -> None:
        """Remove what was given up, each durably before the next, so that a crash leaves no gap.

        May run in a thread beside everything else.  Raises OSError; ``unlinkable[0]`` says where.
        """
        while self.unlinkable:
            self._disk.unlink(self.unlinkable[0])
            self._disk.sync_directory(self._directory)
            self.unlinkable.pop(0)
