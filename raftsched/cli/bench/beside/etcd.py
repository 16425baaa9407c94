"""Three members of etcd on loopback, and durable writes through their HTTP gateway."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from raftsched.cli.bench.beside.processes import Program, free_ports
from raftsched.cli.bench.load import Load, Request, post, post_for
from raftsched.cli.exits import Failure

INSTALL = "apt-get install etcd-server"
MEMBERS = 3
VALUE_BYTES = 200
ASK_SECONDS_MAX = 2.0
VERSION_SECONDS_MAX = 10.0


def find() -> str | None:
    """The program, if it is installed."""
    return shutil.which("etcd")


def version(program: str) -> str:
    """As it says itself; empty when it does not."""
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS_MAX
    )
    return done.stdout.partition("\n")[0].rpartition(" ")[2]


@contextmanager
def cluster(program: str, directory: Path) -> Iterator[str]:
    """Three members with data below ``directory``; gives the leader's address."""
    ports = free_ports(2 * MEMBERS)
    clients, peers = ports[:MEMBERS], ports[MEMBERS:]
    everybody = ",".join(f"e{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
    with ExitStack() as stack:
        members = []
        for number, (client, peer) in enumerate(zip(clients, peers, strict=True)):
            place = directory / f"e{number}"
            place.mkdir()
            client_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
            command = [program, "--name", f"e{number}", "--data-dir", str(place / "data")]
            command += ["--listen-client-urls", client_url, "--advertise-client-urls", client_url]
            command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
            command += ["--initial-cluster", everybody, "--initial-cluster-token", "bench"]
            members.append(stack.enter_context(Program(f"etcd-{number}", command, place)))
        for member, port in zip(members, clients, strict=True):
            member.wait_until(lambda port=port: leader_of(_status(port)) != "")  # type: ignore[misc]
        yield f"127.0.0.1:{_leading(clients)}"


def _leading(ports: list[int]) -> int:
    for port in ports:
        status = _status(port)
        if leader_of(status) == status.get("header", {}).get("member_id"):
            return port
    raise Failure("etcd has no leader; try again")


def leader_of(status: dict[str, Any]) -> str:
    """The id of the leader, as a member knows it; empty when it knows none."""
    found = status.get("leader", "0")
    return "" if found == "0" else str(found)


def _status(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS_MAX)
    with contextlib.closing(connection):
        try:
            connection.request("POST", "/v3/maintenance/status", b"{}")
            document = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return {}
    return document if isinstance(document, dict) else {}


def put(address: str, key: str, value_bytes: int = VALUE_BYTES) -> Request:
    """Writes of one key, whose value is another one each time."""

    def request(number: int) -> bytes:
        value = f"{number:>{value_bytes}}".encode()
        body = {"key": _text(key.encode()), "value": _text(value)}
        return post(address, "/v3/kv/put", json.dumps(body).encode())

    return request


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def writes(address: str, connections: int, seconds: float) -> Load:
    """Write at the leader for a while."""
    requests = [(address, put(address, f"bench-{number}")) for number in range(connections)]
    return asyncio.run(post_for(requests, seconds))
