"""Comparing the replicas, and what the latest comparison showed."""

from __future__ import annotations

from typing import Literal

import msgspec
from aiohttp import web

from raftsched.api.context import Context, no_fields, seconds
from raftsched.api.times import instant
from raftsched.core.model import Check
from raftsched.core.state import State

#: How long a check waits for peers that are connected and have not reported.
WAIT_SECONDS = 5.0


class PeerCheckView(msgspec.Struct, frozen=True):
    """One peer in a check."""

    id: str
    #: What it reported, in hexadecimal; None: nothing yet.
    digest: str | None
    #: ``unclear``: it reported, and no digest has a majority.
    verdict: Literal["same", "diverged", "unclear", "missing"]


class CheckView(msgspec.Struct, frozen=True):
    """A comparison of the replicas at one index, as far as it is."""

    index: int
    started_at: str | None
    #: ``same``: a majority agrees and nobody differs; ``diverged``: somebody does; ``split``: no
    #: digest can have a majority; ``open``: there are too few reports.
    verdict: Literal["same", "diverged", "split", "open"]
    #: Digest of the majority, in hexadecimal.
    majority: str | None
    #: Writes are refused, by this or an earlier check.
    suspect: bool
    peers: list[PeerCheckView]


def check_view(check: Check, state: State) -> CheckView:
    """The latest check."""
    reported = {report.peer: report.digest for report in check.reports}
    majority = check.majority
    verdict: Literal["same", "diverged", "split", "open"] = "split" if check.is_split else "open"
    if majority:
        verdict = "diverged" if check.diverged else "same"
    return CheckView(
        index=check.index,
        started_at=instant(check.started_at),
        verdict=verdict,
        majority=majority.hex() or None,
        suspect=state.suspect,
        peers=[_peer(peer, reported.get(peer), majority) for peer in check.voters],
    )


def _peer(peer_id: str, digest: bytes | None, majority: bytes) -> PeerCheckView:
    if digest is None:
        return PeerCheckView(peer_id, None, "missing")
    if not majority:
        return PeerCheckView(peer_id, digest.hex(), "unclear")
    return PeerCheckView(peer_id, digest.hex(), "same" if digest == majority else "diverged")


async def check(context: Context, request: web.Request) -> web.StreamResponse:
    """Compare all replicas now; answers once every connected peer has reported."""
    await no_fields(request)
    found = await context.service.check_replicas(seconds(request, "wait", WAIT_SECONDS))
    return context.answer(check_view(found, context.service.state))
