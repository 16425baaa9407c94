"""What operators ask for: nodes, queues, limits, the cluster and its peers; as plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raftsched.client.calls import (
    Document,
    Documents,
    Pages,
    Plan,
    document_of,
    listing,
    operation,
    part,
    query_of,
)
from raftsched.client.messages import Request
from raftsched.client.schedules import ScheduleOperations
from raftsched.client.templates import TemplateOperations


class Operations(ScheduleOperations, TemplateOperations):
    """The calls about everything but single tasks."""

    # Nodes and cluster

    @operation
    def nodes(self) -> Plan[Documents]:
        """All nodes the cluster knows."""
        items: Documents = (yield from self._read("/v1/nodes")).get("items", [])
        return items

    @operation
    def node(self, node_id: str) -> Plan[Document]:
        """One node."""
        return (yield from self._read(f"/v1/nodes/{part(node_id)}"))

    @operation
    def cordon(self, node_id: str) -> Plan[Document]:
        """Give a node nothing new; what runs there goes on."""
        return (yield from self._write(f"/v1/nodes/{part(node_id)}/cordon", {}))

    @operation
    def uncordon(self, node_id: str) -> Plan[Document]:
        """Undo a cordon."""
        return (yield from self._write(f"/v1/nodes/{part(node_id)}/uncordon", {}))

    @operation
    def drain(self, node_id: str, patience: str | float = 0) -> Plan[Document]:
        """Give a node nothing new, and move what it holds elsewhere after ``patience``."""
        return (yield from self._write(f"/v1/nodes/{part(node_id)}/drain", {"patience": patience}))

    @operation
    def set_node_labels(self, node_id: str, labels: Mapping[str, str]) -> Plan[Document]:
        """Replace the labels that a node was given at run time."""
        path, body = f"/v1/nodes/{part(node_id)}/labels", {"labels": dict(labels)}
        return (yield from self._write(path, body, method="PUT"))

    # Queues and limits

    @listing
    def queues(self) -> Pages:
        """All queues that were set or have tasks, by name."""
        return self._all("/v1/queues")

    @operation
    def queue(self, name: str) -> Plan[Document]:
        """One queue."""
        return (yield from self._read(f"/v1/queues/{part(name)}"))

    @operation
    def set_queue(self, /, name: str, **fields: Any) -> Plan[Document]:
        """Say what holds for a queue: ``concurrency``, ``max_depth``, ``paused``."""
        return (yield from self._write(f"/v1/queues/{part(name)}", fields, method="PUT"))

    @operation
    def delete_queue(self, name: str) -> Plan[None]:
        """Back to the defaults; the tasks stay."""
        yield from self._delete(f"/v1/queues/{part(name)}")

    @operation
    def pause_queue(self, name: str) -> Plan[Document]:
        """Start nothing of a queue; what runs goes on."""
        return (yield from self._write(f"/v1/queues/{part(name)}/pause", {}))

    @operation
    def resume_queue(self, name: str) -> Plan[Document]:
        """Undo a pause."""
        return (yield from self._write(f"/v1/queues/{part(name)}/resume", {}))

    @operation
    def purge_queue(self, name: str, *, reason: str = "", dry_run: bool = False) -> Plan[Document]:
        """Cancel all tasks of a queue that no node has: ``matched``, ``changed``, ``ids``."""
        path, query = f"/v1/queues/{part(name)}/purge", {"dry_run": dry_run}
        return (yield from self._write(path, {"reason": reason}, query=query))

    @listing
    def limits(self) -> Pages:
        """All limits that were set or are held, by key."""
        return self._all("/v1/limits")

    @operation
    def limit(self, key: str) -> Plan[Document]:
        """One limit."""
        return (yield from self._read(f"/v1/limits/{part(key)}"))

    @operation
    def set_limit(self, /, key: str, **fields: Any) -> Plan[Document]:
        """Say what holds for a key: ``count``, ``rate`` (``count``, ``per``, ``burst``)."""
        return (yield from self._write(f"/v1/limits/{part(key)}", fields, method="PUT"))

    @operation
    def delete_limit(self, key: str) -> Plan[None]:
        """Back to a mutex."""
        yield from self._delete(f"/v1/limits/{part(key)}")

    @operation
    def cluster(self, timeout_seconds: float | None = None) -> Plan[Document]:
        """What the answering peer knows of the cluster; works without a leader too."""
        return document_of((yield Request("GET", "/v1/cluster", timeout_seconds=timeout_seconds)))

    @operation
    def peers(self) -> Plan[Document]:
        """The members of the group as the leader knows them: ``items``, ``waits_for``, ``done``."""
        return document_of((yield Request("GET", "/v1/cluster/peers")))

    @operation
    def add_peer(
        self, peer_id: str, raft: str, api: str, *, replaces: str = "", wait_seconds: float = 5.0
    ) -> Plan[Document]:
        """Add a peer, or replace one; ``done`` is false while it goes on: ask again to wait."""
        body = {"id": peer_id, "raft": raft, "api": api, "replaces": replaces}
        query = {"wait": f"{wait_seconds:g}s"}
        return (yield from self._write("/v1/cluster/peers", body, query=query))

    @operation
    def remove_peer(self, peer_id: str, *, wait_seconds: float = 5.0) -> Plan[Document]:
        """Remove a peer for good; ``done`` is false while it goes on: ask again to wait."""
        path = f"/v1/cluster/peers/{part(peer_id)}" + query_of({"wait": f"{wait_seconds:g}s"})
        return document_of((yield Request("DELETE", path)))

    @operation
    def transfer_leader(self, target: str | None = None) -> Plan[Document]:
        """Hand leadership to a peer (None: the most advanced one)."""
        body = {"target": target} if target else {}
        return (yield from self._write("/v1/cluster/leader:transfer", body, repeatable=False))

    @operation
    def check_replicas(self, wait_seconds: float = 5.0) -> Plan[Document]:
        """Have the peers compare their replicas; waits so long for those that are connected."""
        query = {"wait": f"{wait_seconds:g}s"}
        return (yield from self._write("/v1/cluster:verify", {}, query=query))

    @operation
    def reset_clock(self, now: str | None = None, by: str = "") -> Plan[Document]:
        """Set the cluster's clock (RFC 3339; None: to that of the peer that answers)."""
        body = {"by": by} if now is None else {"by": by, "now": now}
        return (yield from self._write("/v1/cluster/clock:reset", body, repeatable=False))
