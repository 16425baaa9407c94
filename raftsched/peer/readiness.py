"""When a peer is ready: what a load balancer, and whoever upgrades one peer after the other, asks.

A ready peer has a leader whose word it hears, has the state of the present term, and that state is
no older than `STALE_MS_MAX`: a time and not a number of entries, so that it means the same under
any load.  A leader's own state is as new as its contact with a majority.
"""

from __future__ import annotations

from raftsched.raft.log import LogStatus

#: A peer that heard nothing of a leader, or a leader of a majority, for so long is not ready.
CONTACT_MS_MAX = 2_000
#: Nor is one whose state is not all that the leader had committed so long ago.  A follower that
#: keeps up applies within some milliseconds and hears every 100 ms, so this is twenty heartbeats;
#: one that takes longer under load is behind as whoever reads there would see it.
STALE_MS_MAX = 2_000
#: Entries that a ready leader may have yet to apply.
LAG_MAX = 10_000


def why_not(status: LogStatus, *, is_alone: bool) -> str:
    """Why a peer is not ready, as far as its log goes; empty if it is.

    ``is_alone``: it is the only member.
    """
    leads = status.leader == status.peer_id
    contact = status.last_contact_ms
    if status.leader is None:
        return "no leader is known"
    if not status.is_current:
        return "not caught up with the present term"
    if not is_alone and (contact is None or contact > CONTACT_MS_MAX):
        return f"no word from {'a majority' if leads else 'the leader'}"
    if status.commit_index - status.applied_index > LAG_MAX:
        return "too many entries are not applied yet"
    return "" if leads else _why_stale(status)


def _why_stale(status: LogStatus) -> str:
    """Why a follower's state is too old."""
    if status.is_installing:
        return "not caught up with the leader: a snapshot of it is being loaded"
    if status.stale_ms is None:
        return "not caught up yet with what the leader has committed"
    if status.stale_ms > STALE_MS_MAX:
        return (
            "not caught up with the leader: the state here is what was committed "
            f"{status.stale_ms / 1000:.1f} s ago"
        )
    return ""
