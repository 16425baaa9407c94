"""Loads that wait for answers and loads that do not, and what is made of their numbers."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftsched.cli.bench.calls import Offer, offered_report, waits
from raftsched.cli.bench.command import bench
from raftsched.cli.bench.cpu import per_task
from raftsched.cli.bench.load import Load, post, post_for, submission
from raftsched.cli.bench.noop import START, note_start
from raftsched.cli.exits import Failure
from tests.ports import base_port

# The load ----------------------------------------------------------------------------------------


def test_submissions_differ_by_their_keys_alone() -> None:
    one = submission("127.0.0.1:1", "secret", b"{}")
    first, second = one(0), one(1)
    assert first.endswith(b"Content-Length: 2\r\n\r\n{}")
    assert first.startswith(b"POST /v1/tasks HTTP/1.1\r\n") and first != second
    assert first.replace(b"0\r\nContent-Length", b"1\r\nContent-Length") == second


def test_several_tasks_of_one_request_are_lines() -> None:
    request = submission("127.0.0.1:1", "secret", b"{}", 3)(0)
    assert request.startswith(b"POST /v1/tasks:batch HTTP/1.1\r\n")
    assert b"Content-Type: application/x-ndjson\r\n" in request
    assert request.endswith(b"Content-Length: 9\r\n\r\n{}\n{}\n{}\n")


class Server:
    """Answers every request after so long, with a status."""

    def __init__(self, seconds: float, status: int = 201) -> None:
        self.seconds, self.status = seconds, status
        self.seen = 0
        self.address = ""

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"{}"):
                self.seen += 1
                await asyncio.sleep(self.seconds)
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 2\r\n\r\n{}" % self.status)
        except asyncio.IncompleteReadError:
            writer.close()


async def test_a_count_is_shared_by_all_connections() -> None:
    async with Server(0.0) as server:
        request = post(server.address, "/", b"{}")
        load = await post_for([(server.address, lambda _: request)] * 3, 10.0, count=20)
        assert (load.answered, load.errors, server.seen) == (20, 0, 20)


async def test_what_is_late_because_others_were_slow_counts_from_when_it_was_due() -> None:
    async with Server(0.05) as server:
        request = post(server.address, "/", b"{}")
        begin = time.perf_counter()
        load = await post_for(
            [(server.address, lambda _: request)], 10.0, 4, lambda number: begin + number / 1_000
        )
    # The fourth was due after 3 ms and is answered after 200.
    assert load.p99_ms > 190 and load.answered == 4


async def test_a_request_that_is_due_later_is_not_sent_before() -> None:
    async with Server(0.0) as server:
        request = post(server.address, "/", b"{}")
        begin = time.perf_counter()
        await post_for([(server.address, lambda _: request)], 10.0, 1, lambda _: begin + 0.05)
        assert time.perf_counter() - begin >= 0.05


async def test_refusals_are_counted_and_are_no_answers() -> None:
    async with Server(0.0, 503) as server:
        request = post(server.address, "/", b"{}")
        load = await post_for([(server.address, lambda _: request)], 10.0, 2)
        assert (load.answered, load.errors) == (0, 2)


# Its numbers -------------------------------------------------------------------------------------


def test_an_offer_spreads_its_requests_evenly() -> None:
    offer = Offer(2_000, 10)
    assert offer.requests(30) == 6_000
    assert [offer.after_ns(number) for number in (0, 1, 200)] == [0, 5_000_000, 1_000_000_000]


def test_waits_are_from_due_to_start(tmp_path: Path) -> None:
    path = tmp_path / "starts"
    due = time.time_ns() - 5_000_000
    note_start(str(path), due)
    note_start(str(path), due)
    assert all(5 <= wait < 1_000 for wait in waits(path.read_bytes()))
    assert waits(START.pack(1_000_000, 3_500_000)) == [2.5]


def test_a_start_that_was_cut_short_is_no_number() -> None:
    with pytest.raises(Failure, match="in part"):
        waits(b"12345")


def test_the_bar_is_held_against_the_slow_ones_and_the_missing_are_told() -> None:
    load = Load(100.0, 1.0, 2.0, 0, 10)
    report = offered_report(load, Offer(1_000, 10), [1.0] * 97 + [60.0] * 2)
    assert (report["answered_per_second"], report["never_started"]) == (1_000.0, 1)
    assert report["start_ms"]["p50"] == 1.0 and report["bar"]["is_met"] is False


def test_cpu_is_shared_among_all_tasks() -> None:
    assert per_task({"b": 300.0, "a": 100.0}, 10) == {"a": 10.0, "b": 30.0, "all": 40.0}


# All of it ---------------------------------------------------------------------------------------


def test_small_offer_starts_every_task_once() -> None:
    port = str(base_port())
    arguments = ["offered", "--rate", "200", "--seconds", "0.3", "--together", "3"]
    result = CliRunner().invoke(bench, [*arguments, "--base-port", port])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["offered"]
    assert (found["start_ms"]["samples"], found["never_started"], found["errors"]) == (60, 0, 0)
    assert set(found["cpu_microseconds_per_task"]) >= {"leader", "followers", "runners", "all"}
