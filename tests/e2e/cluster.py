"""Real peers as processes, driven over HTTP: the front door, as a user has it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TOKEN = "e2e-token-0123456789abcdef"


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


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
        ports = free_ports(2 * size)
        self.ids = [f"n{i + 1}" for i in range(size)]
        self.api = {peer: ports[2 * i] for i, peer in enumerate(self.ids)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        lines = ["[cluster]", 'id = "e2e"', 'token_file = "token"', ""]
        for i, peer in enumerate(self.ids):
            lines += [f"[peers.{peer}]", f'raft = "127.0.0.1:{ports[2 * i + 1]}"']
            lines += [f'api = "127.0.0.1:{ports[2 * i]}"', ""]
        lines += ["[node]", "slots = 4", f"lease_seconds = {lease_seconds}"]
        self.config = directory / "cluster.toml"
        self.config.write_text("\n".join(lines), encoding="utf-8")
        token = directory / "token"
        token.write_text(TOKEN, encoding="ascii")
        token.chmod(0o600)

    def __enter__(self) -> Cluster:
        for peer in self.ids:
            self.start(peer)
        self.leader()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for runner in self.directory.glob("*/node/runner.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(runner.read_text().split()[0]), signal.SIGKILL)

    def start(self, peer: str) -> None:
        command = [sys.executable, "-m", "raftsched.cli.main", "serve"]
        command += ["--config", str(self.config), "--id", peer]
        command += ["--data-dir", str(self.directory / peer)]
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
