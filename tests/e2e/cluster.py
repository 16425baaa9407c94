"""Real peers as processes, driven over HTTP: the front door, as a user has it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Self

from raftsched.executor import leftovers
from tests.ports import free_ports

TOKEN = "e2e-token-0123456789abcdef"


def runners(directory: Path) -> list[int]:
    """Pids of the living runners of all peers whose data is under a directory of the test."""
    found = []
    for path in directory.rglob("runner.pid"):
        with contextlib.suppress(OSError):
            pid = int(path.read_text())
            # Its keeper has the same words.
            if b"raftsched.executor.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return sorted(found)


def is_alive(pid: int) -> bool:
    """Does a process exist that is not only waiting to be reaped?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(what: Callable[[], Any], timeout: float = 15.0) -> Any:
    """The first true value of a function that is asked again and again."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            value = what()
            if value:
                return value
        time.sleep(0.03)
    raise AssertionError(f"not within {timeout} s: {what}")


class Answer:
    """Status, headers and parsed body of a response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = body

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    def __repr__(self) -> str:
        return f"<{self.status} {self.raw[:300]!r}>"


class Cluster:
    """Peers of one cluster on loopback.  Ends only processes it started, by pid."""

    def __init__(self, directory: Path, size: int = 3, lease_seconds: float = 3.0) -> None:
        self.directory = directory
        self.ids = [f"n{i + 1}" for i in range(size)]
        self.api: dict[str, int] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        #: Words before a peer's command line, by peer: `test_disk` puts it on a disk of its own.
        self.wrappers: dict[str, list[str]] = {}
        #: Peers that joined later: their own configuration files.
        self.joined: dict[str, Path] = {}
        self.config = directory / "cluster.toml"
        self._lease_seconds = lease_seconds
        self.move()
        token = directory / "token"
        token.write_text(TOKEN, encoding="ascii")
        token.chmod(0o600)

    def __enter__(self) -> Self:
        for peer in self.ids:
            self.start(peer)
        self.leader()
        for peer in self.ids:
            self.ready(peer)
        return self

    def __exit__(self, *_: object) -> None:
        # Killed: peers that all stop at once wait for each other to take leadership over.
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        for pid in runners(self.directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for peer in self.ids:
            assert leftovers.clean_up(self.node_directory(peer)), f"attempts of {peer} still run"

    def move(self) -> None:
        """Other addresses for all peers, which do not run; what they hold stays."""
        ports = free_ports(2 * len(self.ids))
        self.api = {peer: ports[2 * i] for i, peer in enumerate(self.ids)}
        lines = ["[cluster]", 'id = "e2e"', 'token_file = "token"', ""]
        for i, peer in enumerate(self.ids):
            lines += [f"[peers.{peer}]", f'raft = "127.0.0.1:{ports[2 * i + 1]}"']
            lines += [f'api = "127.0.0.1:{ports[2 * i]}"', ""]
        lines += ["[node]", "slots = 4", f"lease_seconds = {self._lease_seconds}"]
        self.config.write_text("\n".join(lines), encoding="utf-8")

    def node_directory(self, peer: str) -> Path:
        return self.directory / peer / "node"

    def command(self, peer: str) -> list[str]:
        """The command line of a peer."""
        command = [sys.executable, "-m", "raftsched.cli.main", "serve"]
        command += ["--config", str(self.joined.get(peer, self.config)), "--id", peer]
        command += ["--join"] if peer in self.joined else []
        return [*command, "--data-dir", str(self.directory / peer)]

    def join(self, peer: str) -> dict[str, str]:
        """Start a new peer whose file has itself, too; what the cluster is to be told of it."""
        self.api[peer], raft = free_ports(2)
        address = {"raft": f"127.0.0.1:{raft}", "api": f"127.0.0.1:{self.api[peer]}"}
        own = [f"[peers.{peer}]", *(f'{name} = "{value}"' for name, value in address.items()), ""]
        self.joined[peer] = self.directory / f"{peer}.toml"
        text = "\n".join([self.config.read_text(encoding="utf-8"), *own])
        self.joined[peer].write_text(text, encoding="utf-8")
        self.ids.append(peer)
        self.start(peer)
        return {"id": peer, **address}

    def start(self, peer: str) -> None:
        command = [*self.wrappers.get(peer, []), *self.command(peer)]
        with (self.directory / f"{peer}.log").open("ab") as log:
            self.processes[peer] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, peer: str) -> None:
        self.processes[peer].kill()
        self.processes[peer].wait()

    def stop(self, peer: str) -> int:
        self.processes[peer].send_signal(signal.SIGTERM)
        return self.processes[peer].wait(15)

    def logs(self) -> str:
        return "\n".join(
            f"--- {peer}\n" + (self.directory / f"{peer}.log").read_text(errors="replace")[-3000:]
            for peer in self.ids
        )

    def request(
        self,
        peer: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        timeout: float = 15.0,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.api[peer], timeout=timeout)
        sent = {"Authorization": f"Bearer {TOKEN}"}
        data: bytes | None = None
        if isinstance(body, bytes):
            data = body
        elif body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return Answer(
                response.status,
                {key.lower(): value for key, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    def leader(self, *, among: list[str] | None = None, timeout: float = 20.0) -> str:
        """The peer that says it leads, once one does and answers as such."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for peer in among or self.ids:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if self.request(peer, "GET", "/health/leader", timeout=2).status == 200:
                        return peer
            time.sleep(0.05)
        raise AssertionError(f"no leader within {timeout} s\n{self.logs()}")

    def submit(self, peer: str, command: list[str], **fields: Any) -> str:
        answer = self.request(peer, "POST", "/v1/tasks", {"command": command, **fields})
        assert answer.status == 201, answer
        identity: str = answer.json["id"]
        return identity

    def finished(self, peer: str, task: str, timeout: float = 30.0) -> Any:
        """The task's document once it is terminal."""
        deadline = time.monotonic() + timeout
        document: Any = None
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self.request(peer, "GET", f"/v1/tasks/{task}")
                document = answer.json
                if answer.status == 200 and document["finished_at"]:
                    return document
            time.sleep(0.05)
        raise AssertionError(f"{task} did not end: {document}\n{self.logs()}")

    def task(self, peer: str, task: str) -> Any:
        """The task's document as a peer shows it now."""
        answer = self.request(peer, "GET", f"/v1/tasks/{task}")
        assert answer.status == 200, answer
        return answer.json

    def attempts(self, peer: str, task: str) -> Any:
        """The rows of the task's attempts, oldest first."""
        answer = self.request(peer, "GET", f"/v1/tasks/{task}/attempts")
        assert answer.status == 200, answer
        return answer.json["items"]

    def running(self, peer: str, task: str, timeout: float = 15.0) -> str:
        """The node a task runs on, once it does."""

        def node() -> Any:
            document = self.task(peer, task)
            return document["state"] == "running" and document["node"]

        found: str = until(node, timeout)
        return found

    def ready(self, peer: str, timeout: float = 15.0) -> None:
        """Return once the peer takes part and its node is registered."""
        until(lambda: self.request(peer, "GET", "/health/ready").status == 200, timeout)

    def follow(self, peer: str, task: str, number: int = 1) -> Generator[bytes, None, None]:
        """The output of an attempt through any peer, piece by piece as it comes, to its end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api[peer], timeout=15)
        path = f"/v1/tasks/{task}/attempts/{number}/output?follow=1"
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            while data := response.read1():
                yield data
        finally:
            connection.close()
