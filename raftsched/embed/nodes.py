"""Nodes of the cluster, of a peer in a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raftsched.api.nodes import change, drain_command, labels_command, shown
from raftsched.core.commands import SetEligibility
from raftsched.core.model import Eligibility
from raftsched.embed.calling import CALL_SECONDS, Calling, Document, as_document, encoded


class Nodes(Calling):
    """The calls about nodes, whose answers are the documents that a client has.

    Raises KeyError for a node that there is not, ValueError for what is wrong, or PeerError.
    """

    async def nodes(self, *, timeout_seconds: float = CALL_SECONDS) -> Sequence[Document]:
        """All nodes the cluster knows, by id."""
        with self._calling(timeout_seconds) as call:
            state = await call.read()
            return [as_document(shown(call, node_id)) for node_id in sorted(state.nodes)]

    async def node(self, node_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Document:
        """One node."""
        with self._calling(timeout_seconds) as call:
            await call.read()
            return as_document(shown(call, node_id))

    async def cordon(self, node_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Document:
        """Give a node nothing new; what runs there goes on."""
        return await self._make_eligible(node_id, Eligibility.CORDONED, timeout_seconds)

    async def uncordon(self, node_id: str, *, timeout_seconds: float = CALL_SECONDS) -> Document:
        """Undo a cordon, and a drain."""
        return await self._make_eligible(node_id, Eligibility.ELIGIBLE, timeout_seconds)

    async def _make_eligible(
        self, node_id: str, to: Eligibility, timeout_seconds: float
    ) -> Document:
        with self._calling(timeout_seconds) as call:
            await call.propose(SetEligibility(node_id, to))
            return as_document(shown(call, node_id))

    async def drain(
        self, node_id: str, patience: str | float = 0, *, timeout_seconds: float = CALL_SECONDS
    ) -> Document:
        """Give a node nothing new, and move what it holds elsewhere after ``patience``."""
        body = encoded({"patience": patience})
        with self._calling(timeout_seconds) as call:
            return as_document(await change(call, drain_command(node_id, body)))

    async def set_node_labels(
        self,
        node_id: str,
        labels: Mapping[str, str],
        *,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Document:
        """Replace the labels that a node was given at run time."""
        body = encoded({"labels": dict(labels)})
        with self._calling(timeout_seconds) as call:
            return as_document(await change(call, labels_command(node_id, body)))
