"""``make demo``: real work on three peers, the leader killed in the middle, every result checked.

Each task compresses one file of this Python's standard library, takes its SHA-256 and notes that
it ran.  At the end every result is compared with one computed here, and every note is counted.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from raftsched.cli.exits import Failure
from raftsched.cli.local import LocalCluster
from raftsched.client import Client

TASKS = 1_000
BASE_PORT = 7600
#: The whole demo ends after this, right or not.
TIME_LIMIT_SECONDS = 110.0
#: The killed leader stays away so long.
AWAY_SECONDS = 3.0
SCRIPT = """set -e
echo "$RAFTSCHED_TASK_ID $RAFTSCHED_ATTEMPT $RAFTSCHED_FENCING_TOKEN" >> "$2.runs"
gzip -c "$1" > "$2.gz.$RAFTSCHED_FENCING_TOKEN"
mv "$2.gz.$RAFTSCHED_FENCING_TOKEN" "$2.gz"
sha256sum < "$1"
"""


def main() -> int:
    """Run the demo; 0 only if every result is right and nothing succeeded twice."""
    with tempfile.TemporaryDirectory(prefix="raftsched-demo-") as directory:
        cluster = LocalCluster(Path(directory) / "cluster", peers=3, base_port=BASE_PORT)
        try:
            cluster.prepare()
            cluster.start_all()
            cluster.wait_ready()
            return _demo(cluster, Path(directory))
        except Failure as failure:
            print(f"demo: {failure}", file=sys.stderr)
            return 1
        finally:
            cluster.stop()


def _say(text: str) -> None:
    print(text, flush=True)


def _demo(cluster: LocalCluster, directory: Path) -> int:
    began = time.monotonic()
    files = _files()
    results = directory / "results"
    results.mkdir()
    leader = cluster.leader()
    assert leader is not None
    follower = next(peer for peer in cluster.peers if peer != leader)
    _say(f"3 peers are up, {leader} leads; submitting {len(files)} tasks through {follower}")
    documents = [
        {
            "command": ["/bin/sh", "-c", SCRIPT, "sh", str(path), str(results / str(number))],
            "name": path.name,
            "retry": {"max_attempts": 1},
        }
        for number, path in enumerate(files)
    ]
    with cluster.client(follower) as client:
        submitted = client.submit_batch(documents, idempotency_key="demo")
        ids = [task_id for task_id in submitted.ids if task_id]
        if len(ids) != len(files):
            _say(f"only {len(ids)} of {len(files)} tasks were taken")
            return 1
        _progress(client, len(ids) // 3, began)
        killed_at = time.monotonic()
        cluster.kill(leader)
        _say(f"\nkilled {leader}, which led, with SIGKILL")
        successor = cluster.wait_leader(leader, 15.0)
        _say(f"{successor} leads after {time.monotonic() - killed_at:.2f} s")
        time.sleep(max(0.0, killed_at + AWAY_SECONDS - time.monotonic()))
        cluster.start(leader)
        _say(f"{leader} is started again")
        _progress(client, len(ids), began)
        _say("")
        tasks = {task["id"]: task for task in client.list(page=1000)}
        found = [tasks[task_id] for task_id in ids if task_id in tasks]
        again = client.submit_batch(documents, idempotency_key="demo")
        if again.ids != submitted.ids:
            _say("the same submission again made other tasks")
            return 1
    return _check(files, results, ids, found, time.monotonic() - began)


def _files() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts)
    readable = [p for p in files if 0 < p.stat().st_size < 1_000_000]
    if len(readable) < TASKS:
        # A trimmed library: some files are worked on more than once, under their own number.
        readable = readable * (TASKS // max(1, len(readable)) + 1)
    return readable[:TASKS]


def _progress(client: Client, wanted: int, began: float) -> None:
    """Show how far it is until so many tasks have ended."""
    while True:
        try:
            counts: dict[str, Any] = client.cluster().get("tasks", {})
        except Exception as error:
            counts = {"unreachable": str(error)[:40]}
        ended = sum(int(counts.get(s, 0)) for s in ("succeeded", "failed", "cancelled", "lost"))
        end = "\r" if sys.stdout.isatty() else "\n"
        _put = f"{time.monotonic() - began:5.1f} s  {ended}/{TASKS} ended  {counts}"
        print(_put.ljust(100), end=end, flush=True)
        if ended >= wanted:
            return
        if time.monotonic() - began > TIME_LIMIT_SECONDS:
            raise Failure(f"{wanted} tasks did not end within {TIME_LIMIT_SECONDS:.0f} s")
        time.sleep(0.5)


def _check(
    files: list[Path], results: Path, ids: list[str], found: list[Any], seconds: float
) -> int:
    wrong: list[str] = []
    runs: dict[int, int] = {}
    if len(found) != len(ids):
        wrong.append(f"{len(ids) - len(found)} acknowledged tasks are gone")
    for number, (path, task) in enumerate(zip(files, found, strict=False)):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        packed = results / f"{number}.gz"
        if task["state"] != "succeeded":
            wrong.append(f"{path.name}: {task['state']} ({task['reason']})")
        elif not task["output_tail"].startswith(digest):
            wrong.append(f"{path.name}: another checksum")
        elif gzip.decompress(packed.read_bytes()) != content:
            wrong.append(f"{path.name}: another content")
        lines = (results / f"{number}.runs").read_text().splitlines()
        tokens = [int(line.split()[2]) for line in lines]
        runs[len(lines)] = runs.get(len(lines), 0) + 1
        if len(set(tokens)) != len(tokens):
            wrong.append(f"{path.name}: one attempt ran twice")
        if len(lines) > task["losses"] + 1:
            wrong.append(f"{path.name}: ran {len(lines)} times with {task['losses']} losses")
    for line in wrong[:20]:
        _say(f"WRONG  {line}")
    counts = ", ".join(f"{count} ran {times}x" for times, count in sorted(runs.items()))
    moved = sum(1 for task in found if task["losses"])
    _say(f"run counts: {counts}; {moved} moved to another node after the kill")
    _say(
        f"{len(found) - len(wrong)} of {len(files)} results are right, 0 lost, 0 succeeded twice, "
        f"in {seconds:.1f} s"
        if not wrong
        else f"{len(wrong)} things are wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
