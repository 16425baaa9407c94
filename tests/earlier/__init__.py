"""Logs that earlier programs wrote, one for each version of the cluster that came to the main line.

Each was written by a single peer of the commit whose cluster was of that version, by ``python -m
tests.earlier`` or, before there was that, by the same questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
#: The id of their cluster.
CLUSTER = "golden"


class Earlier(NamedTuple):
    """One of them: ``version-N.tar.xz`` holds the ``raft`` directory."""

    version: int
    commit: str
    #: By that program's own word: the digest behind an index, where its digests are of the present
    #: format (`raftsched.core.digest.FORMAT`).
    at: int = 0
    digest: str = ""

    @property
    def archive(self) -> Path:
        """Where it is."""
        return HERE / f"version-{self.version}.tar.xz"


EARLIER = (
    Earlier(4, "37c72a0"),
    Earlier(6, "3b30ce1"),
    Earlier(7, "f90435b", 265, "97fcaf97bc42fc54c8a4d36b04863da9"),
    Earlier(8, "85e5db9", 270, "ded58294b1937e8b3fecabe8f491fb85"),
)
