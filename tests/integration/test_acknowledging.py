"""A follower gathers: one sync and one acknowledgement for what came in one pass."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from .logs import logs, numbered, until
from .test_installing import TERM, entry, follower


def append(index: int, term: int = TERM) -> dict[str, Any]:
    """One entry, behind one of the scripted leader's own term (or the first of all)."""
    return {
        "type": "append_entries",
        "term": term,
        "commit_index": 1,
        "prevLogIdx": index - 1,
        "prevLogTerm": 0 if index == 2 else TERM,
        "entries": [(entry(index)[0], index, term)],
    }


def acks(messages: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """(position, term) of each acknowledgement."""
    return [
        (message["next_node_idx"], message["lt"])
        for message in messages
        if message["type"] == "next_node_idx" and message["success"]
    ]


async def test_entries_of_one_pass_are_synced_once_and_acknowledged_once(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, _):
        before = log.journal.syncs
        for index in range(2, 52):
            log._received("n1", append(index))
        assert log.journal.syncs == before, "nothing is promised yet, so nothing need be durable"
        await leader.is_heard_out()
        leader.append(51)
        await leader.hears(type="next_node_idx", next_node_idx=52)
        assert log.journal.syncs == before + 1
        assert log.status().durable_index == 51


async def test_acknowledgement_that_waits_is_sent_for_the_last_of_the_entries_only(
    tmp_path: Path,
) -> None:
    async with follower(tmp_path) as (leader, log, _):
        for index in (2, 3, 4, 3):
            log._received("n1", append(index))
        leader.say({"type": "probe", "term": TERM, "round": 1})
        await until(lambda: leader.heard and leader.heard[-1]["type"] == "probe_ok")
        assert acks(leader.heard) == [(5, TERM)]


async def test_acknowledgement_that_waits_is_void_in_a_later_term(tmp_path: Path) -> None:
    """Its entries may be cut meanwhile; who led the earlier term must not count them."""
    async with follower(tmp_path) as (leader, log, _):
        log._received("n1", append(2))
        await leader.hears(type="next_node_idx", success=True, next_node_idx=3)
        log._received("n1", append(3))
        vote = {"type": "request_vote", "term": TERM + 1, "last_log_term": -1, "last_log_index": 0}
        log._received("n1", vote)
        assert (log.status().term, log.status().last_index) == (TERM + 1, 3)
        leader.say({"type": "probe", "term": TERM + 1, "round": 1})
        await until(lambda: leader.heard and leader.heard[-1]["type"] == "probe_ok")
        assert acks(leader.heard) == []


async def test_what_waits_goes_before_a_word_that_something_is_missing(tmp_path: Path) -> None:
    async with follower(tmp_path) as (leader, log, _):
        log._received("n1", append(2))
        log._received("n1", append(9))
        assert acks([await leader.hears(type="next_node_idx")]) == [(3, TERM)]
        await leader.hears(type="next_node_idx", success=False, next_node_idx=3)


async def test_what_is_on_its_way_is_not_sent_again(tmp_path: Path) -> None:
    async with logs(tmp_path) as cluster:
        leader = cluster.logs[await cluster.leader()]
        sent: list[tuple[str, int]] = []
        send = leader._transport.send_to

        def noted(peer_id: str, message: dict[str, Any]) -> bool:
            if message["type"] == "append_entries":
                sent.extend((peer_id, entry[1]) for entry in message["entries"])
            return send(peer_id, message)

        leader._transport.send_to = noted  # type: ignore[method-assign]
        first = leader.status().last_index + 1
        for item in numbered(0, 300):
            leader.propose(item)
            await asyncio.sleep(0)
        await cluster.add([b"last"])
        indexes = range(first, leader.status().last_index + 1)
        assert sorted(sent) == sorted((peer, i) for peer in leader.config.others for i in indexes)
