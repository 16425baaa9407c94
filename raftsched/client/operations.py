"""What operators ask for: nodes, queues, limits, the cluster and its peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raftsched.client.calls import Calls, Document, Documents, document_of, part, query_of
from raftsched.client.transport import Request


class Operations(Calls):
    """The calls about everything but single tasks."""

    # Nodes and cluster

    def nodes(self) -> Documents:
        """All nodes the cluster knows."""
        items: Documents = document_of(self._read("/v1/nodes")).get("items", [])
        return items

    def node(self, node_id: str) -> Document:
        """One node."""
        return document_of(self._read(f"/v1/nodes/{part(node_id)}"))

    def cordon(self, node_id: str) -> Document:
        """Give a node nothing new; what runs there goes on."""
        return document_of(self._write(f"/v1/nodes/{part(node_id)}/cordon", {}))

    def uncordon(self, node_id: str) -> Document:
        """Undo a cordon."""
        return document_of(self._write(f"/v1/nodes/{part(node_id)}/uncordon", {}))

    def drain(self, node_id: str, patience: str | float = 0) -> Document:
        """Give a node nothing new, and move what it holds elsewhere after ``patience``."""
        return document_of(self._write(f"/v1/nodes/{part(node_id)}/drain", {"patience": patience}))

    def set_node_labels(self, node_id: str, labels: Mapping[str, str]) -> Document:
        """Replace the labels that a node was given at run time."""
        path, body = f"/v1/nodes/{part(node_id)}/labels", {"labels": dict(labels)}
        return document_of(self._write(path, body, method="PUT"))

    # Queues and limits

    def queues(self) -> Iterator[Document]:
        """All queues that were set or have tasks, by name."""
        return self._pages("/v1/queues")

    def queue(self, name: str) -> Document:
        """One queue."""
        return document_of(self._read(f"/v1/queues/{part(name)}"))

    def set_queue(self, name: str, **fields: Any) -> Document:
        """Say what holds for a queue: ``concurrency``, ``max_depth``, ``paused``."""
        return document_of(self._write(f"/v1/queues/{part(name)}", fields, method="PUT"))

    def delete_queue(self, name: str) -> None:
        """Back to the defaults; the tasks stay."""
        self._delete(f"/v1/queues/{part(name)}")

    def pause_queue(self, name: str) -> Document:
        """Start nothing of a queue; what runs goes on."""
        return document_of(self._write(f"/v1/queues/{part(name)}/pause", {}))

    def resume_queue(self, name: str) -> Document:
        """Undo a pause."""
        return document_of(self._write(f"/v1/queues/{part(name)}/resume", {}))

    def purge_queue(self, name: str, *, reason: str = "", dry_run: bool = False) -> Document:
        """Cancel all tasks of a queue that no node has: ``matched``, ``changed``, ``ids``."""
        path, query = f"/v1/queues/{part(name)}/purge", {"dry_run": dry_run}
        return document_of(self._write(path, {"reason": reason}, query=query))

    def limits(self) -> Iterator[Document]:
        """All limits that were set or are held, by key."""
        return self._pages("/v1/limits")

    def limit(self, key: str) -> Document:
        """One limit."""
        return document_of(self._read(f"/v1/limits/{part(key)}"))

    def set_limit(self, key: str, **fields: Any) -> Document:
        """Say what holds for a key: ``count``, ``rate`` (``count``, ``per``, ``burst``)."""
        return document_of(self._write(f"/v1/limits/{part(key)}", fields, method="PUT"))

    def delete_limit(self, key: str) -> None:
        """Back to a mutex."""
        self._delete(f"/v1/limits/{part(key)}")

    def cluster(self, timeout_seconds: float | None = None) -> Document:
        """What the answering peer knows of the cluster; works without a leader too."""
        return document_of(self._send(Request("GET", "/v1/cluster"), timeout_seconds))

    def peers(self) -> Document:
        """The members of the group as the leader knows them: ``items``, ``waits_for``, ``done``."""
        return document_of(self._send(Request("GET", "/v1/cluster/peers")))

    def add_peer(
        self, peer_id: str, raft: str, api: str, *, replaces: str = "", wait_seconds: float = 5.0
    ) -> Document:
        """Add a peer, or replace one; ``done`` is false while it goes on: ask again to wait."""
        body = {"id": peer_id, "raft": raft, "api": api, "replaces": replaces}
        query = {"wait": f"{wait_seconds:g}s"}
        return document_of(self._write("/v1/cluster/peers", body, query=query))

    def remove_peer(self, peer_id: str, *, wait_seconds: float = 5.0) -> Document:
        """Remove a peer for good; ``done`` is false while it goes on: ask again to wait."""
        path = f"/v1/cluster/peers/{part(peer_id)}" + query_of({"wait": f"{wait_seconds:g}s"})
        return document_of(self._send(Request("DELETE", path)))

    def transfer_leader(self, target: str | None = None) -> Document:
        """Hand leadership to a peer (None: the most advanced one)."""
        body = {"target": target} if target else {}
        return document_of(self._write("/v1/cluster/leader:transfer", body, repeatable=False))

    def check_replicas(self, wait_seconds: float = 5.0) -> Document:
        """Have the peers compare their replicas; waits so long for those that are connected."""
        query = {"wait": f"{wait_seconds:g}s"}
        return document_of(self._write("/v1/cluster:verify", {}, query=query))

    def reset_clock(self, now: str | None = None, by: str = "") -> Document:
        """Set the cluster's clock (RFC 3339; None: to that of the peer that answers)."""
        body = {"by": by} if now is None else {"by": by, "now": now}
        return document_of(self._write("/v1/cluster/clock:reset", body, repeatable=False))
