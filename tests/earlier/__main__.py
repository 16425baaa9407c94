"""Write a log with a bit of everything: ``python -m tests.earlier ARCHIVE``.

A peer of this program with small journals is asked for tasks of all kinds, schedules, workflows,
maps and templates, and stops; its ``raft`` directory becomes the archive.  Prints what its cluster
said of the state, for `tests.earlier.EARLIER`.
"""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.earlier import CLUSTER
from tests.ports import free_ports

TOKEN = "token-of-an-earlier-program"
#: Snapshots are made every few hundred entries, and the log keeps all since the first.
_LIMITS: dict[str, Any] = {"journal_bytes_max": 40_000, "segment_bytes": 8_000}
_READY_SECONDS = 20.0
_SERVE = "serve-small"

Ask = tuple[str, str, Any]


def _tasks() -> list[Ask]:
    asks: list[Ask] = [("PUT", "/v1/queues/q", {"concurrency": 2}),
                       ("PUT", "/v1/limits/l", {"count": 2})]  # fmt: skip
    for n in range(40):
        task = {
            "id": f"t{n}", "command": ["true" if n % 3 else "false"], "priority": n % 7,
            "retry": {"max_attempts": 1 + n % 3, "base": "50ms"},
            "labels": {"n": str(n)} if n % 4 == 0 else {},
            **({"limits": ["l"], "queue": "q"} if n % 5 == 0 else {}),
        }  # fmt: skip
        asks.append(("POST", "/v1/tasks", task))
    true = {"command": ["true"]}
    parts = [
        {"name": "x", **true},
        {"name": "y", "command": ["false"], "depends_on": ["x"]},
        {"name": "z", **true, "depends_on": [{"task": "y", "on": "failure"}]},
    ]
    items = {"items": [1, 2, 3], "max_parallel": 2, "task": {"command": ["echo", "{item}"]}}
    return [
        *asks,
        ("POST", "/v1/tasks", {"id": "slow", "command": ["sleep", "60"], "grace": "1s"}),
        ("POST", "/v1/tasks", {"id": "later", **true, "not_before": "1h"}),
        ("POST", "/v1/tasks/later/pause", {}),
        ("POST", "/v1/tasks/slow/cancel", {}),
        ("POST", "/v1/nodes/n1/cordon", {}),
        ("POST", "/v1/nodes/n1/uncordon", {}),
        ("POST", "/v1/tasks", {"id": "everywhere", **true, "broadcast": "all"}),
        ("PUT", "/v1/schedules/s", {"cron": "0 2 * * *", "zone": "Europe/Berlin", "task": true}),
        ("PUT", "/v1/schedules/e", {"every": "1s", "overlap": "skip", "task": true}),
        ("POST", "/v1/schedules/s/trigger", {}),
        ("POST", "/v1/tasks", {"id": "a", **true}),
        ("POST", "/v1/tasks", {"id": "b", **true, "depends_on": ["a"]}),
        ("POST", "/v1/tasks", {"id": "m", "map": items}),
        ("POST", "/v1/tasks", {"id": "w", "workflow": {"tasks": parts}}),
        ("PUT", "/v1/templates/tp", {"task": true}),
    ]  # fmt: skip


def _ask(base: str, method: str, path: str, body: Any = None, key: str = "") -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    if key:
        headers["Idempotency-Key"] = key
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {path} {body}: {error.read().decode()}") from error


def _ready(base: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            _ask(base, "GET", "/health/ready")
            return
        except (OSError, SystemExit):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main(archive: Path) -> None:
    """See the module."""
    raft, api = free_ports(2)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "token").touch(mode=0o600)
        (home / "token").write_text(TOKEN, encoding="ascii")
        (home / "cluster.toml").write_text(
            f'[cluster]\nid = "{CLUSTER}"\ntoken_file = "token"\n'
            f'[peers.n1]\nraft = "127.0.0.1:{raft}"\napi = "127.0.0.1:{api}"\n'
            "[node]\nslots = 4\n",
            encoding="utf-8",
        )
        words = ["serve", "--config", str(home / "cluster.toml"), "--id", "n1"]
        words += ["--data-dir", str(home / "data")]
        peer = subprocess.Popen([sys.executable, "-m", "tests.earlier", _SERVE, *words])
        base = f"http://127.0.0.1:{api}"
        try:
            _ready(base)
            for number, (method, path, body) in enumerate(_tasks()):
                _ask(base, method, path, body, f"k{number}" if number % 2 else "")
            time.sleep(4.0)
            _ask(base, "POST", "/v1/schedules/e/pause", {})
            for number in range(70):
                _ask(base, "POST", "/v1/tasks", {"id": f"u{number}", "command": ["true"]})
            time.sleep(2.0)
            found = _ask(base, "POST", "/v1/cluster:verify?wait=10", {})
            version = _ask(base, "GET", "/v1/cluster")["cluster_version"]
        finally:
            peer.send_signal(signal.SIGTERM)
            peer.wait(30)
        (home / "data" / "raft" / "journal" / "reserve").unlink()
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(home / "data" / "raft", "raft", filter=_plain)
    print(f"Earlier({version}, COMMIT, {found['index']}, {found['majority']!r})")


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's, of no time."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _serve_small() -> None:
    """The peer itself."""
    from raftsched.cli.main import cli
    from raftsched.peer import peer
    from raftsched.raft.config import LogConfig

    with patch.object(peer, "LogConfig", functools.partial(LogConfig, **_LIMITS)):
        cli(prog_name="raftsched")


if __name__ == "__main__":
    if sys.argv[1:2] == [_SERVE]:
        sys.argv.pop(1)
        _serve_small()
    elif len(sys.argv) == 2:
        main(Path(sys.argv[1]))
    else:
        sys.exit("usage: python -m tests.earlier ARCHIVE")
