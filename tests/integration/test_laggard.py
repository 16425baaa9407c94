"""Two logs and a scripted follower that needs a snapshot: it is sent one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raftsched.raft.config import LogConfig
from raftsched.raft.transport import Transport

from .logs import ListMachine, Logs, until


class Laggard:
    """Peer n1, which has the first entry only, and says so at every heartbeat."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.answers = 0
        #: (is first, is last, number of the transfer) of each piece.
        self.pieces: list[tuple[bool, bool, int]] = []
        transport.on_message = self._hear

    def _hear(self, peer_id: str, message: dict[str, Any]) -> None:
        if message["type"] != "append_entries":
            return
        if message.get("serialized"):
            self.pieces.append(tuple(message["serialized"][1:]))
        else:
            self.answers += 1
            answer = {"next_node_idx": 2, "reset": True, "success": False, "lt": message["term"]}
            self.transport.send_to(peer_id, {"type": "next_node_idx", **answer})


async def test_laggard_is_sent_one_snapshot_until_it_says_that_it_is_through(
    tmp_path: Path,
) -> None:
    options = {"journal_bytes_max": 20_000, "segment_bytes": 5_000, "append_period_seconds": 0.02}
    cluster = Logs(tmp_path, 3, ListMachine, **options)
    for peer in ("n2", "n3"):
        await cluster.start(peer)
    config = LogConfig(cluster_id="c", peer_id="n1", peers=cluster.peers, data_dir=tmp_path)
    transport = Transport(config)
    try:
        leader = await cluster.leader()
        while cluster.logs[leader].journal.first_index < 3:
            await cluster.add([b"%d" % len(cluster.machines[leader].items) + bytes(10_000)])
        laggard = Laggard(transport)
        await transport.open()
        await until(lambda: laggard.pieces and laggard.pieces[-1][1])
        first = laggard.pieces[-1][2]
        answers = laggard.answers
        await until(lambda: laggard.answers > answers + 10)
        assert {number for _, _, number in laggard.pieces} == {first}
        assert [is_first for is_first, _, _ in laggard.pieces].count(True) == 1
        assert [is_last for _, is_last, _ in laggard.pieces].count(True) == 1
        transport.send_to(leader, {"type": "snapshot_end", "number": first})
        await until(lambda: laggard.pieces[-1][2] > first)
    finally:
        for peer in list(cluster.logs):
            await cluster.stop(peer)
        await transport.close()
