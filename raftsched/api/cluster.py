"""Routes of nodes, the cluster and health."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from raftsched import __version__
from raftsched.api.checks import check_view
from raftsched.api.context import Context, body_of, decode, flag, no_fields
from raftsched.api.nodes import shown
from raftsched.api.problems import CATALOGUE, Problem
from raftsched.api.times import instant
from raftsched.api.views import NodePage, node_view
from raftsched.core.commands import SetEligibility
from raftsched.core.model import Eligibility
from raftsched.peer import readiness


class TransferRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a transfer; may be empty: any peer that is caught up."""

    target: str | None = None


_transfers = msgspec.json.Decoder(TransferRequest)


async def nodes(context: Context, request: web.Request) -> web.StreamResponse:
    """All nodes."""
    state = await context.state(request)
    items = [node_view(state, state.nodes[node_id]) for node_id in sorted(state.nodes)]
    return context.answer(NodePage(items, None, state.index))


async def node(context: Context, request: web.Request) -> web.StreamResponse:
    """One node."""
    await context.state(request)
    return context.answer(shown(context, request.match_info["id"]))


async def cordon(context: Context, request: web.Request) -> web.StreamResponse:
    """Give a node nothing new."""
    return await _eligibility(context, request, Eligibility.CORDONED)


async def uncordon(context: Context, request: web.Request) -> web.StreamResponse:
    """Undo a cordon."""
    return await _eligibility(context, request, Eligibility.ELIGIBLE)


async def _eligibility(context: Context, request: web.Request, to: Eligibility) -> web.Response:
    await no_fields(request)
    node_id = request.match_info["id"]
    if flag(request, "dry_run"):
        await context.read()
        shown(context, node_id)
        return context.answer({"valid": True})
    await context.propose(SetEligibility(node_id, to))
    return context.answer(shown(context, node_id))


async def cluster(context: Context, request: web.Request) -> web.StreamResponse:
    """What this peer knows of the cluster; answers without a leader too."""
    service = context.service
    status = service.status()
    peers = []
    told = service.told()
    for member in service.members():
        peer_id = member.id
        row, facts = service.state.nodes.get(peer_id), told.get(peer_id)
        peers.append(
            {
                "id": peer_id,
                "raft": member.raft,
                "api": member.api,
                "member": member.role,
                "is_leader": member.is_leader,
                "connected": member.connected,
                "node_status": row.status.value if row else None,
                "eligibility": row.eligibility.value if row else None,
                "program": facts.program if facts else None,
                "version_max": facts.version_max if facts else None,
                "clock_offset_ms": facts.clock_offset_ms if facts else None,
                "tzdata": facts.tzdata or None if facts else None,
            }
        )
    check = service.state.check
    voters = [peer for peer in peers if peer["member"] == "voter"]
    reachable = sum(1 for peer in voters if peer["connected"])
    return context.answer(
        {
            "cluster_id": service.config.cluster_id,
            "served_by": status.peer_id,
            "role": status.role.value,
            "leader": status.leader,
            "term": status.term,
            "has_quorum": 2 * reachable > len(voters),
            "peers": peers,
            "last_index": status.last_index,
            "durable_index": status.durable_index,
            "commit_index": status.commit_index,
            "applied_index": status.applied_index,
            "last_contact_ms": status.last_contact_ms,
            "paused": status.paused,
            "suspect": service.state.suspect,
            "check": None if check is None else check_view(check, service.state),
            "tasks": {name.value: count for name, count in service.state.counts.items() if count},
            "version": __version__,
            "cluster_version": service.state.version,
            "now": instant(service.state.now),
        }
    )


async def transfer(context: Context, request: web.Request) -> web.StreamResponse:
    """Hand leadership over."""
    parsed: TransferRequest = decode(_transfers, await body_of(request) or b"{}")
    voters = [member.id for member in context.service.members() if member.role == "voter"]
    if parsed.target is not None and parsed.target not in voters:
        raise Problem(
            "invalid", f"no such voter; there are: {', '.join(voters)}", pointer="/target"
        )
    if flag(request, "dry_run"):
        return context.answer({"valid": True})
    leader = await context.service.transfer_leadership(parsed.target)
    return context.answer({"leader": leader})


async def live(context: Context, request: web.Request) -> web.StreamResponse:
    """Does this process answer?"""
    return context.answer({"live": True})


async def ready(context: Context, request: web.Request) -> web.StreamResponse:
    """Is this peer caught up with the present term, and not stopping?"""
    service = context.service
    status = service.status()
    why = "stopping" if service.is_draining else ""
    why = why or readiness.why_not(status, is_alone=len(service.members()) <= 1)
    if not why and status.peer_id not in service.state.nodes:
        why = "its node has not registered yet"
    if why:
        raise Problem("no-leader", f"not ready: {why}")
    if service.state.suspect:
        raise Problem("replica-divergence", "not ready: no majority of the replicas agrees")
    return context.answer({"ready": True})


async def leader(context: Context, request: web.Request) -> web.StreamResponse:
    """Does this peer lead?  For load balancers."""
    status = context.service.status()
    if status.leader != status.peer_id or not status.is_current:
        raise Problem("no-leader", "another peer leads", extra={"leader_hint": status.leader})
    return context.answer({"leader": True})


class _Collector:
    def __init__(self, numbers: dict[str, float]) -> None:
        self._numbers = numbers

    def collect(self) -> Any:
        for name, value in self._numbers.items():
            yield GaugeMetricFamily(f"raftsched_{name}", name.replace("_", " "), value=value)


async def metrics(context: Context, request: web.Request) -> web.StreamResponse:
    """Prometheus metrics."""
    registry = CollectorRegistry()
    registry.register(_Collector(context.service.metrics()))
    return web.Response(body=generate_latest(registry), content_type="text/plain", charset="utf-8")


async def problems(context: Context, request: web.Request) -> web.StreamResponse:
    """All problem codes."""
    return context.answer({"items": [_problem(code) for code in sorted(CATALOGUE)]})


async def problem(context: Context, request: web.Request) -> web.StreamResponse:
    """One problem code explained."""
    code = request.match_info["code"]
    if code not in CATALOGUE:
        raise Problem("not-found", f"no problem {code!r}")
    return context.answer(_problem(code))


def _problem(code: str) -> dict[str, Any]:
    kind = CATALOGUE[code]
    return {
        "code": code,
        "status": kind.status,
        "title": kind.title,
        "applied": False if kind.applied == "false" else "unknown",
        "retryable": kind.retryable,
    }


async def agent(context: Context, request: web.Request) -> web.StreamResponse:
    """This peer."""
    service = context.service
    return context.answer(
        {
            "id": service.config.peer_id,
            "version": __version__,
            "started_at": instant(service.started_at_ms),
            "uptime": max(0.0, time.time() - service.started_at_ms / 1000),
            "draining": service.is_draining,
        }
    )


async def agent_config(context: Context, request: web.Request) -> web.StreamResponse:
    """This peer's configuration, without its secrets."""
    document = msgspec.to_builtins(
        msgspec.structs.replace(context.service.config, token="(redacted)"),
        enc_hook=str,
    )
    return context.answer(document)
