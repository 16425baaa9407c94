"""HTTP attempts through a real runner and its worker, against receivers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from raftsched.core.model import RESULT_BYTES_MAX
from raftsched.executor.http_worker import LAST_SECONDS
from tests.certificates import TestAuthority
from tests.unit.executor.harness import Node, running

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def receiver(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on a free port, whose every answer is the handler's: its base URL."""
    server = web.Server(handler)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


async def echo(request: web.BaseRequest) -> web.Response:
    """What the receiver saw."""
    return web.json_response(
        {
            "method": request.method,
            "path": request.path_qs,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        }
    )


def worker_of(node: Node) -> int:
    """The pid of the node's HTTP worker."""
    runner = int((node.directory / "runner.pid").read_text())
    for pid in Path(f"/proc/{runner}/task/{runner}/children").read_text().split():
        if b"raftsched.executor.http" in Path("/proc", pid, "cmdline").read_bytes():
            return int(pid)
    raise AssertionError("no worker")


async def test_request_is_as_the_task_says_and_names_the_attempt(tmp_path: Path) -> None:
    async with running(tmp_path) as node, receiver(echo) as base:
        call = {
            "method": "PUT",
            "headers": {"X-Mine": "a", "Content-Type": "application/json",
                        "raftsched-fencing-token": "999"},
            "body": b'{"a": 1}',
        }  # fmt: skip
        report = await node.fetch(
            base + "/p?q=1", token=7, call=call, env={"TRACEPARENT": "00-aa-bb-01"}
        )
        assert (report.status, report.reason, report.exit_code) == ("succeeded", "", None)
        saw = msgspec.json.decode(report.result)
        assert (saw["method"], saw["path"], saw["body"]) == ("PUT", "/p?q=1", '{"a": 1}')
        headers = saw["headers"]
        assert headers["x-mine"] == "a"
        assert headers["content-type"] == "application/json"
        assert headers["raftsched-task-id"] == "t7"
        assert headers["raftsched-attempt"] == "1"
        assert headers["raftsched-fencing-token"] == "7"
        assert headers["traceparent"] == "00-aa-bb-01"
        assert headers["accept-encoding"] == "identity"


def answering(status: int, body: bytes = b"", kind: str = "text/plain", **headers: str) -> Handler:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body, headers={"Content-Type": kind, **headers})

    return answer


@pytest.mark.parametrize(
    ("status", "body", "kind", "expect", "outcome", "result", "output"),
    [
        (200, b' {"a": 1} ', "application/json", (), "", b'{"a": 1}', b""),
        (200, b'[1]', "application/problem+json", (), "", b"[1]", b""),
        (200, b"{no", "application/json", (), "", b'"{no"', b""),
        (201, "grün".encode(), "text/plain", (), "", '"grün"'.encode(), b""),
        (200, "grün".encode("latin-1"), "text/plain; charset=latin-1", (), "",
         '"grün"'.encode(), b""),
        (200, b"\xff\xfe", "text/plain", (), "", b"", b"\xff\xfe"),
        (200, b"\x00\x01", "application/octet-stream", (), "", b"", b"\x00\x01"),
        (204, b"", "text/plain", (), "", b"", b""),
        (404, b"not here", "text/plain", (404,), "", b'"not here"', b""),
        (200, b"fine", "text/plain", (201, 404), "http-status-200", b"", b"fine"),
        (503, b"later", "text/plain", (), "http-status-503", b"", b"later"),
        (302, b"", "text/plain", (), "http-status-302", b"", b""),
    ],
)  # fmt: skip
async def test_response_is_the_result_or_the_reason(
    tmp_path: Path, status: int, body: bytes, kind: str, expect: tuple[int, ...], outcome: str,
    result: bytes, output: bytes,
) -> None:  # fmt: skip
    async with running(tmp_path) as node, receiver(answering(status, body, kind)) as base:
        report = await node.fetch(base, call={"expect": expect})
        assert report.status == ("failed" if outcome else "succeeded")
        assert (report.reason, report.result, report.output_tail) == (outcome, result, output)


async def test_long_response_is_cut_and_its_size_named(tmp_path: Path) -> None:
    whole, long = b"x" * (RESULT_BYTES_MAX - 2), b"y" * 1_000_000

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=whole if request.path == "/whole" else long,
                            content_type="text/plain")  # fmt: skip

    async with running(tmp_path) as node, receiver(answer) as base:
        report = await node.fetch(base + "/whole")
        assert (len(report.result), report.output_bytes) == (RESULT_BYTES_MAX, 0)
        report = await node.fetch(base + "/long", token=2)
        assert (report.status, report.result) == ("succeeded", b"")
        assert report.output_tail.endswith(b"yyy\n[65536 of 1000000 bytes]\n")
        file = tmp_path / "output" / "t2.1.out"
        assert file.read_bytes() == long[:RESULT_BYTES_MAX] + b"\n[65536 of 1000000 bytes]\n"


async def test_response_without_end_is_not_waited_for(tmp_path: Path) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"z" * 10_000)
        return response

    async with running(tmp_path) as node, receiver(endless) as base:
        report = await node.fetch(base)
        assert report.output_tail.endswith(b"zzz\n[65536 of more bytes]\n")


# What cannot be reached --------------------------------------------------------------------------


async def test_nobody_there_and_hanging_up_are_unreachable(tmp_path: Path) -> None:
    async def hang_up(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with running(tmp_path) as node, receiver(hang_up) as base:
        report = await node.fetch("http://127.0.0.1:1")
        assert report.status == "failed"
        assert report.reason.startswith("http-unreachable: ")
        report = await node.fetch(base, token=2)
        assert report.reason == "http-unreachable: Server disconnected"
        report = await node.fetch("ftp://127.0.0.1/", token=3)
        assert report.reason == "cannot-start: http.url is neither http:// nor https://"
        report = await node.fetch("http://[::1", token=4)
        assert report.reason.startswith(("cannot-start", "http-unreachable"))


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "169.16689662"]
)
async def test_metadata_addresses_are_denied_unless_allowed(tmp_path: Path, host: str) -> None:
    async with running(tmp_path) as node:
        report = await node.fetch(f"http://{host}:1/latest")
        assert report.status == "failed"
        assert report.reason.startswith("http-address-denied: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.0.0.1", "127.1", "2130706433"])
async def test_private_addresses_are_denied_by_what_they_resolve_to(
    tmp_path: Path, host: str
) -> None:
    async with running(tmp_path) as node, receiver(answering(200)) as base:
        node.client.configure(http_private=False, http_metadata=False)
        report = await node.fetch(base.replace("127.0.0.1", host))
        assert report.reason.startswith("http-address-denied: "), report.reason
        if host in ("localhost", "127.0.0.1"):
            node.client.configure(http_private=True, http_metadata=False)
            report = await node.fetch(base.replace("127.0.0.1", host), token=2)
            assert report.status == "succeeded"


async def test_redirect_to_a_denied_address_is_denied_too(tmp_path: Path) -> None:
    away = answering(302, Location="http://169.254.169.254/latest/meta-data")
    async with running(tmp_path) as node, receiver(away) as base:
        report = await node.fetch(base)
        assert report.reason == "http-address-denied: 169.254.169.254"


# Redirects ---------------------------------------------------------------------------------------


async def test_redirects_are_followed_so_far_and_no_further(tmp_path: Path) -> None:
    async def count(request: web.BaseRequest) -> web.Response:
        number = int(request.path.strip("/"))
        if not number:
            return await echo(request)
        return web.Response(status=307, headers={"Location": f"/{number - 1}"})

    async with running(tmp_path) as node, receiver(count) as base:
        call = {"redirects_max": 3, "method": "POST", "body": b"b", "headers": {"Cookie": "c"}}
        report = await node.fetch(base + "/3", call=call)
        saw = msgspec.json.decode(report.result)
        assert (saw["method"], saw["body"], saw["headers"]["cookie"]) == ("POST", "b", "c")
        report = await node.fetch(base + "/4", token=2, call=call)
        assert (report.status, report.reason) == ("failed", "http-redirects: more than 3")
        report = await node.fetch(base + "/1", token=3, call={"redirects_max": 0})
        assert report.reason == "http-status-307"
        report = await node.fetch(base + "/1", token=4, call={"expect": (307,)})
        assert report.status == "succeeded"


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (302, "PUT", "PUT", "b"),
        (308, "POST", "POST", "b"),
    ],
)
async def test_method_and_body_after_a_redirect_are_as_the_standard_says(
    tmp_path: Path, status: int, method: str, then: str, body: str
) -> None:
    async def turn(request: web.BaseRequest) -> web.Response:
        if request.path == "/there":
            return await echo(request)
        return web.Response(status=status, headers={"Location": "/there"})

    async with running(tmp_path) as node, receiver(turn) as base:
        report = await node.fetch(base, call={"method": method, "body": b"b"})
        saw = msgspec.json.decode(report.result)
        assert (saw["method"], saw["body"]) == (then, body)


async def test_secrets_do_not_follow_to_another_origin(tmp_path: Path) -> None:
    async with running(tmp_path) as node, receiver(echo) as other:
        elsewhere = other.replace("http://", "http://user:word@")
        async with receiver(answering(307, Location=elsewhere)) as base:
            headers = {"Authorization": "s", "X-Api-Key": "s", "Cookie": "s", "Accept": "a/b"}
            report = await node.fetch(base, call={"headers": headers})
            saw = msgspec.json.decode(report.result)["headers"]
            assert not {"authorization", "x-api-key", "cookie"} & saw.keys()
            assert saw["accept"] == "a/b"
            assert saw["raftsched-fencing-token"] == "1"


def _tls(directory: Path) -> ssl.SSLContext:
    files = TestAuthority(directory, "c").files("n1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context


async def test_certificate_is_verified_unless_told_not_to_be(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node, receiver(echo, _tls(tmp_path)) as base:
        report = await node.fetch(base)
        assert report.status == "failed"
        assert "certificate" in report.reason.lower()
        report = await node.fetch(base, token=2, call={"verify": False})
        assert report.status == "succeeded"


async def test_redirect_from_https_to_http_is_denied(tmp_path: Path) -> None:
    away = answering(302, Location="http://127.0.0.1:1/")
    async with running(tmp_path / "n") as node, receiver(away, _tls(tmp_path)) as base:
        report = await node.fetch(base, call={"verify": False})
        assert report.reason == "http-redirect-denied: from https to http"


# Ends from outside -------------------------------------------------------------------------------


class Hanging:
    """A receiver that answers nothing, and knows when its caller went."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.arrived.set()
        try:
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.01)
        finally:
            self.left.set()
        return web.Response()


class Held:
    """A receiver that answers once its gate is open."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.gate = asyncio.Event()

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.arrived.set()
        await self.gate.wait()
        return web.Response()


async def test_cancel_breaks_the_request_off(tmp_path: Path) -> None:
    hanging = Hanging()
    async with running(tmp_path) as node, receiver(hanging) as base:
        node.call(base)
        async with asyncio.timeout(10):
            await hanging.arrived.wait()
            node.client.stop(1, "user")
            report = await node.report(1)
            await hanging.left.wait()
        assert (report.status, report.reason) == ("cancelled", "user")


async def test_timeout_breaks_it_off_and_hooks_run_around_it(tmp_path: Path) -> None:
    async with running(tmp_path) as node, receiver(Hanging()) as base:
        await node.fetch("http://127.0.0.1:1")  # The worker is there.
        report = await node.fetch(
            base, token=2, timeout_ms=300, before=("echo", "before"),
            after=("sh", "-c", "echo after $RAFTSCHED_STATUS"),
        )  # fmt: skip
        assert (report.status, report.reason) == ("timed_out", "timeout")
        assert report.output_tail == b"before\nafter timed_out\n"


async def test_worker_that_dies_fails_what_it_had_and_another_takes_its_place(
    tmp_path: Path,
) -> None:
    hanging = Hanging()
    async with running(tmp_path) as node, receiver(hanging) as base:
        node.call(base, token=1)
        async with asyncio.timeout(10):
            await hanging.arrived.wait()
        first = worker_of(node)
        os.kill(first, signal.SIGKILL)
        report = await node.report(1)
        assert (report.status, report.reason) == ("failed", "worker-died")
        async with receiver(answering(200)) as good:
            report = await node.fetch(good, token=2)
            assert report.status == "succeeded"
        assert worker_of(node) != first


async def test_worker_that_cannot_start_fails_what_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aiohttp.py").write_text("raise SystemExit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with running(tmp_path / "n") as node:
        report = await node.fetch("http://127.0.0.1:1")
        assert (report.status, report.reason) == (
            "failed",
            "worker-died: exit-code-7, see runner.log",
        )


async def test_cancel_without_grace_ends_one_request_of_a_busy_worker_and_no_other(
    tmp_path: Path,
) -> None:
    stopped, other = Hanging(), Held()
    async with running(tmp_path) as node, receiver(stopped) as one, receiver(other) as two:
        node.call(one, token=1, grace_ms=0)
        node.call(two, token=2)
        async with asyncio.timeout(10):
            await stopped.arrived.wait()
            await other.arrived.wait()
            worker = worker_of(node)
            os.kill(worker, signal.SIGSTOP)
            node.client.stop(1, "user")
            # Longer than a lease that ends would wait.
            await asyncio.sleep(4 * LAST_SECONDS)
            os.kill(worker, signal.SIGCONT)
            assert (await node.report(1)).status == "cancelled"
            await stopped.left.wait()
            other.gate.set()
            assert (await node.report(2)).status == "succeeded"
        assert worker_of(node) == worker


@pytest.mark.parametrize(("lease_ms", "status"), [(30_000, "cancelled"), (1_000, "lost")])
async def test_hung_worker_is_killed_for_one_and_its_others_are_lost_and_not_failed(
    tmp_path: Path, lease_ms: int, status: str
) -> None:
    hanging, other = Hanging(), Hanging()
    async with running(tmp_path) as node, receiver(hanging) as one, receiver(other) as two:
        await node.fetch("http://127.0.0.1:1", token=9)  # The worker is there.
        node.client.renew(time.monotonic(), 30.0)
        node.call(one, token=1, grace_ms=0, lease_ms=lease_ms)
        node.call(two, token=2)
        async with asyncio.timeout(10):
            await hanging.arrived.wait()
            await other.arrived.wait()
            os.kill(worker_of(node), signal.SIGSTOP)
            if status == "cancelled":
                node.client.stop(1, "user")
            assert (await node.report(1)).status == status
            report = await node.report(2)
        assert (report.status, report.reason[:13]) == ("lost", "worker-killed")


async def test_runner_that_is_killed_leaves_no_worker(tmp_path: Path) -> None:
    async with running(tmp_path) as node, receiver(answering(200)) as base:
        await node.fetch(base)
        worker = worker_of(node)
        descriptor = os.pidfd_open(worker)
        os.kill(int((tmp_path / "runner.pid").read_text()), signal.SIGKILL)
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, gone.set)
        async with asyncio.timeout(5):
            await gone.wait()
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_many_at_once_all_get_their_own_answer(tmp_path: Path) -> None:
    async def own(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.05)
        return web.json_response(int(request.path.strip("/")))

    async with running(tmp_path) as node, receiver(own) as base:
        for token in range(1, 401):
            node.call(f"{base}/{token}", token=token)
        for token in range(1, 401):
            assert (await node.report(token)).result == str(token).encode()
