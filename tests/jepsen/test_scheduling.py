"""What the workload of schedules asks for, and that it reads what became of it in the end."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, cast

import pytest

from jepsen_like.client import Client, Outcome, Process, Question
from jepsen_like.workload import WORKLOADS
from jepsen_like.workload.base import Workload
from jepsen_like.zones import Zone


class _Peers:
    """Takes everything, and says nothing of it."""

    peers = ("n1",)

    def __init__(self, zone: Zone | None) -> None:
        self.zone = zone
        self.asked: list[Question] = []

    def any_peer(self, chance: random.Random) -> str:
        return "n1"

    def process(self) -> _Peers:
        return self

    async def ask(self, question: Question, peer: str) -> Outcome:
        self.asked.append(question)
        return Outcome("ok", {})


def _made(name: str, tmp_path: Path, zone: Zone | None = None) -> tuple[Workload, _Peers]:
    peers = _Peers(zone)
    made = WORKLOADS[name](cast("Client", peers), tmp_path, random.Random(1))
    asyncio.run(made.set_up())
    return made, peers


def _names(questions: list[Question], f: str) -> list[Any]:
    return [question.value["name"] for question in questions if question.f == f]


@pytest.mark.parametrize("name", ["schedules", "mixed"])
def test_slots_are_read_once_more_when_all_has_ended(name: str, tmp_path: Path) -> None:
    workload, peers = _made(name, tmp_path, Zone(1_800_000_000, 30.0))
    puts = _names(peers.asked, "put-schedule")
    assert len(puts) == len(set(puts)) > 6
    peers.asked.clear()
    process = cast("Process", peers)
    asyncio.run(workload.wind_down(process))
    assert _names(peers.asked, "pause-schedule") == puts
    peers.asked.clear()
    asyncio.run(workload.read_again(process))
    assert _names(peers.asked, "slots") == puts


def test_others_read_nothing_more(tmp_path: Path) -> None:
    workload, peers = _made("tasks", tmp_path)
    asyncio.run(workload.read_again(cast("Process", peers)))
    assert peers.asked == []


def test_the_judge_is_told_what_a_peer_is_asked(tmp_path: Path) -> None:
    _, peers = _made("schedules", tmp_path, Zone(1_800_000_000, 30.0))
    for question in peers.asked:
        told, asked = question.value, cast("dict[str, Any]", question.body)
        for field in ("overlap", "misfire", "misfire_limit", "cron", "gap", "fold"):
            assert told.get(field) == asked.get(field)
        assert told.get("every_ms", 0) == asked.get("every", 0) * 1_000
        assert str(told["task"]["runs_ms"]) in asked["task"]["command"]


def test_one_schedule_forbids_overlap_and_takes_longer_than_its_interval(tmp_path: Path) -> None:
    _, peers = _made("schedules", tmp_path)
    (long,) = [one.value for one in peers.asked if one.value["overlap"] == "skip"]
    assert long["every_ms"] < long["task"]["runs_ms"] < 2 * long["every_ms"]
