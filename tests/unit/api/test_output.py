"""What an attempt wrote: parts of it, all of it, as it comes, and from the node that has it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from raftsched.api import output
from raftsched.core.commands import DeleteTask
from tests.unit.api.fake_service import TOKEN
from tests.unit.api.harness import Api, serving

TEXT = b"0123456789"
OUTPUT = "/v1/tasks/t/attempts/1/output"


@pytest.fixture
async def ran(api: Api) -> Api:
    """The task ``t`` ran here and wrote ``TEXT``."""
    api.service.add_node("n1")
    await api.submit("t")
    api.service.run("t", output=TEXT)
    return api


@pytest.mark.parametrize(
    ("query", "data", "offset"),
    [
        ("", TEXT, 0), ("?offset=4", TEXT[4:], 4), ("?tail=3", TEXT[-3:], 7),
        ("?tail=100", TEXT, 0), ("?offset=10", b"", 10), ("?offset=99", b"", 10),
        ("?tail=2&offset=5", TEXT[-2:], 8), ("?stream=combined", TEXT, 0), ("?follow=1", TEXT, 0),
        ("?tail=0", TEXT, 0),
    ],
)  # fmt: skip
async def test_part_of_the_output_with_where_it_begins(
    ran: Api, query: str, data: bytes, offset: int
) -> None:
    answer = await ran.get(OUTPUT + query)
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["Raftsched-Output-Offset"] == str(offset)
    assert answer.headers["Content-Type"] == "application/octet-stream"


async def test_large_output_of_any_bytes_comes_whole(ran: Api) -> None:
    data = bytes(range(256)) * 1_000
    ran.service.outputs["t", 1] = data
    assert (await ran.get(OUTPUT)).body == data


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("offset=-1", "?offset"), ("offset=x", "?offset"), ("tail=-1", "?tail"),
        ("tail=" + "9" * 20, "?tail"), ("follow=maybe", "?follow"), ("stream=stderr", "?stream"),
    ],
)  # fmt: skip
async def test_query_that_is_wrong_is_pointed_at(ran: Api, query: str, pointer: str) -> None:
    assert (await ran.get(f"{OUTPUT}?{query}")).pointer(422, "invalid") == pointer


async def test_attempt_that_never_was_is_unknown(ran: Api) -> None:
    for number in ("0", "2", "-1", "9" * 100):
        answer = await ran.get(f"/v1/tasks/t/attempts/{number}/output")
        answer.problem(404, "unknown-task")
    for number in ("x", "1.0", "%00", "9" * 5_000):
        answer = await ran.get(f"/v1/tasks/t/attempts/{number}/output")
        answer.problem(404, "not-found")


async def test_attempt_that_wrote_nothing_is_empty_and_a_rotated_one_is_gone(ran: Api) -> None:
    del ran.service.outputs["t", 1]
    gone = (await ran.get(OUTPUT)).problem(410, "output-gone")
    assert gone["retryable"] is False
    await ran.submit("silent")
    ran.service.run("silent")
    answer = await ran.get("/v1/tasks/silent/attempts/1/output?follow=1")
    assert (answer.status, answer.body) == (200, b"")


async def test_follow_gives_what_comes_until_the_attempt_has_ended(api: Api) -> None:
    api.service.add_node("n1")
    await api.submit("t")
    api.service.start("t")
    async with api.stream(OUTPUT + "?follow=1") as answer:
        assert answer.status == 200
        api.service.outputs["t", 1] = b"first "
        assert await answer.content.readexactly(6) == b"first "
        api.service.outputs["t", 1] = b"first second "
        assert await answer.content.readexactly(7) == b"second "
        api.service.outputs["t", 1] = b"first second last"
        api.service.finish("t", output_bytes=17)
        assert await answer.content.read() == b"last"


async def test_without_follow_a_running_attempt_is_read_as_far_as_it_is(api: Api) -> None:
    api.service.add_node("n1")
    await api.submit("t")
    api.service.start("t")
    assert (await api.get(OUTPUT)).body == b""
    api.service.outputs["t", 1] = b"so far"
    assert (await api.get(OUTPUT)).body == b"so far"


@pytest.mark.parametrize("what", ["task deleted", "output rotated"])
async def test_followed_output_that_vanishes_is_cut_off_and_not_ended(api: Api, what: str) -> None:
    api.service.add_node("n1")
    await api.submit("t")
    api.service.start("t")
    api.service.outputs["t", 1] = b"first "
    async with api.stream(OUTPUT + "?follow=1") as answer:
        assert await answer.content.readexactly(6) == b"first "
        api.service.finish("t", output_bytes=12)
        del api.service.outputs["t", 1]
        if what == "task deleted":
            api.service.apply(DeleteTask("t"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    assert (await api.get("/health/live")).status == 200


# From another node --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def ran_elsewhere(api: Api) -> AsyncIterator[Api]:
    """``t`` ran on n2, a server of its own with the same state."""
    async with serving("n2") as other:
        other.service.state = api.state
        api.service.add_node("n2", address=f"http://{other.address}")
        await api.submit("t")
        api.service.run("t", "n2")
        task = api.state.tasks.get("t")
        assert task is not None and task.node == "n2"
        other.service.outputs["t", 1] = TEXT
        yield other


async def test_output_of_another_node_is_fetched_from_it(api: Api) -> None:
    async with ran_elsewhere(api):
        answer = await api.get(OUTPUT + "?offset=3&follow=1")
        assert (answer.status, answer.body) == (200, TEXT[3:])
        assert answer.headers["Raftsched-Output-Offset"] == "3"
        assert answer.headers["Raftsched-Served-By"] == "n1"
        assert answer.headers["Content-Type"] == "application/octet-stream"


async def test_problem_of_the_other_node_is_passed_on(api: Api) -> None:
    async with ran_elsewhere(api):
        answer = await api.get(OUTPUT + "?offset=-1")
        assert answer.status == 422 and answer.json()["code"] == "invalid"
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_forwarded_request_is_not_forwarded_again(api: Api) -> None:
    async with ran_elsewhere(api) as other:
        answer = await api.get(OUTPUT, Raftsched_Forwarded="n3")
        answer.problem(410, "output-gone")
        assert not other.service.reads


async def test_node_that_is_down_is_a_502_and_one_that_is_forgotten_a_410(api: Api) -> None:
    api.service.add_node("n2")
    await api.submit("t")
    api.service.run("t", "n2")
    problem = (await api.get(OUTPUT)).problem(502, "node-unreachable")
    assert "n2" in problem["detail"] and problem["retryable"] is True
    del api.state.nodes["n2"]
    (await api.get(OUTPUT)).problem(410, "output-gone")


@contextlib.asynccontextmanager
async def strange_node(api: Api, data: bytes, *, stays: bool = False) -> AsyncIterator[None]:
    """``t`` ran on a node that answers every request with these bytes and hangs up, or stays."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if b"/output" in request:
            writer.write(data)
        if stays:
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        api.service.add_node("n2", address=f"http://127.0.0.1:{port}")
        await api.submit("t")
        api.service.run("t", "n2")
        yield


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x00", b"SSH-2.0-OpenSSH_9.6\r\n"])
async def test_node_that_does_not_speak_http_is_a_502(api: Api, data: bytes) -> None:
    async with strange_node(api, data):
        (await api.get(OUTPUT)).problem(502, "node-unreachable")


HALF = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
)


async def test_node_that_dies_while_it_answers_cuts_the_answer_off(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    async with strange_node(api, HALF), api.stream(OUTPUT) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    assert (await api.get("/health/live")).status == 200
    [record] = caplog.records
    assert "cut off: node n2" in record.getMessage() and record.exc_info is None


async def test_answer_without_chunks_is_reset_and_not_ended(api: Api) -> None:
    async with strange_node(api, HALF):
        with pytest.raises(ConnectionError):
            await api.raw(
                f"GET {OUTPUT} HTTP/1.0\r\nHost: localhost\r\n"
                f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
            )


async def test_node_that_falls_silent_for_ever_is_noticed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "SILENCE_SECONDS", 0.05)
    async with (
        strange_node(api, HALF, stays=True),
        asyncio.timeout(5),
        api.stream(OUTPUT + "?follow=1") as answer,
    ):
        assert await answer.content.readexactly(5) == b"hello"
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


async def test_program_that_is_silent_for_long_is_followed_to_its_end(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "SILENCE_SECONDS", 0.2)
    async with serving("n2") as other:
        other.service.state = api.state
        api.service.add_node("n2", address=f"http://{other.address}")
        await api.submit("t")
        api.service.start("t", "n2")
        other.service.outputs["t", 1] = b"first "
        async with asyncio.timeout(5), api.stream(OUTPUT + "?follow=1") as answer:
            assert await answer.content.readexactly(6) == b"first "
            await asyncio.sleep(0.5)
            other.service.outputs["t", 1] = b"first last"
            api.service.finish("t", output_bytes=10)
            assert await answer.content.read() == b"last"


async def test_caller_that_hangs_up_is_no_trouble_of_the_node(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    async with ran_elsewhere(api) as other:
        other.service.outputs["t", 1] = bytes(4_000_000)
        for _ in range(3):
            async with api.stream(OUTPUT) as answer:
                await answer.content.readexactly(1)
                answer.close()
        assert (await api.get(OUTPUT)).status == 200
    assert not [record for record in caplog.records if "n2" in record.getMessage()]


async def test_output_of_a_wrong_address_is_a_502(api: Api) -> None:
    api.service.add_node("n2", address="http://")
    await api.submit("t")
    api.service.run("t", "n2")
    (await api.get(OUTPUT)).problem(502, "node-unreachable")


async def test_node_that_never_answers_is_a_502_in_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "HEAD_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        api.service.add_node("n2", address=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        await api.submit("t")
        api.service.run("t", "n2")
        for query in ("", "?follow=1"):
            (await api.get(OUTPUT + query)).problem(502, "node-unreachable")
