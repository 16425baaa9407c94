"""Comparing the replicas: who reported which digest, and what follows.

A peer that learns here that the majority's digest is another one stops (``peer.selfcheck``); the
state only remembers what was reported.
"""

from __future__ import annotations

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import CheckReplicas, ReportDigest
from raftsched.core.digest import DIGEST_BYTES
from raftsched.core.model import Check, DigestReport
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected

#: Most peers that can vote.
VOTERS_MAX = 99


def check(changes: Changes, command: CheckReplicas) -> Outcome:
    """Value: the index at which digests are compared.

    A check that goes on is over; if its reports differed, nobody knows who is right.
    """
    voters = tuple(sorted(command.voters))
    if not 0 < len(voters) <= VOTERS_MAX or len(set(voters)) < len(voters) or "" in voters:
        return Rejected(Reason.INVALID, f"1 to {VOTERS_MAX} different voters are needed")
    last = changes.check
    if last is not None and last.differs and not last.majority:
        changes.suspect = True
    changes.check = Check(changes.index, command.format, changes.state.now, voters)
    return Accepted(changes.index)


def report(changes: Changes, command: ReportDigest) -> Outcome:
    """No value; the same report again is accepted."""
    running = changes.check
    if running is None or running.index != command.index:
        return Rejected(Reason.STALE_CHECK, f"no check at index {command.index} goes on")
    if command.peer_id not in running.voters:
        return Rejected(Reason.INVALID, f"{command.peer_id} does not vote")
    if len(command.digest) != DIGEST_BYTES:
        return Rejected(Reason.INVALID, f"a digest has {DIGEST_BYTES} bytes")
    new = DigestReport(command.peer_id, command.digest)
    for known in running.reports:
        if known.peer == new.peer:
            return Accepted() if known == new else Rejected(Reason.INVALID, "reported otherwise")
    running = msgspec.structs.replace(running, reports=(*running.reports, new))
    changes.check = running
    if running.majority:
        changes.suspect = False
    elif running.is_split:
        changes.suspect = True
    return Accepted()
