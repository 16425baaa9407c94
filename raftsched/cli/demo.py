"""``make demo``: real work on three peers, the leader killed in the middle, every result checked.

Each task compresses one file of this Python's standard library, takes its SHA-256 and notes that
it ran.  At the end every result is compared with one computed here, every note is counted, and
the attempts of every task that ran more than once are looked at.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import sysconfig
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raftsched.cli import witness
from raftsched.cli.exits import Failure
from raftsched.cli.local import LocalCluster
from raftsched.client import Client
from raftsched.client.errors import ClientError
from raftsched.client.sync import TERMINAL_STATES

TASKS = 1_000
BASE_PORT = 7600
#: The whole demo ends after this, right or not.
TIME_LIMIT_SECONDS = 110.0
#: The killed leader stays away so long.
AWAY_SECONDS = 3.0
LEADER_SECONDS_MAX = 15.0
#: At most so many wrong things are named.
WRONG_SHOWN_MAX = 20
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
        except (Failure, ClientError) as failure:
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
    leader = cluster.wait_leader(None, LEADER_SECONDS_MAX)
    if leader is None:
        raise Failure(f"nobody led within {LEADER_SECONDS_MAX:.0f} s")
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
        if not _progress(client, len(ids) // 3, began):
            return 1
        killed_at = time.monotonic()
        cluster.kill(leader)
        _say(f"\nkilled {leader}, which led, with SIGKILL")
        successor = cluster.wait_leader(leader, LEADER_SECONDS_MAX)
        if successor is None:
            raise Failure(f"nobody led within {LEADER_SECONDS_MAX:.0f} s of the kill")
        _say(f"{successor} leads after {time.monotonic() - killed_at:.2f} s")
        time.sleep(max(0.0, killed_at + AWAY_SECONDS - time.monotonic()))
        cluster.start(leader)
        _say(f"{leader} is started again")
        # Also when time is over: the check names what has not ended.
        _progress(client, len(ids), began)
        _say("")
        tasks = {task["id"]: task for task in client.list(page=1000)}
        again = client.submit_batch(documents, idempotency_key="demo")
        if again.ids != submitted.ids:
            _say("the same submission again made other tasks")
            return 1
        work = {
            task_id: (path, results / str(number))
            for number, (task_id, path) in enumerate(zip(ids, files, strict=True))
        }
        seen = observe(work, tasks)
        for task_id in seen.several:
            if witness.overlaps(client.attempts(task_id)):
                seen.twice.append(task_id)
    return report(seen, time.monotonic() - began)


def _files() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts)
    readable = [p for p in files if 0 < p.stat().st_size < 1_000_000]
    if len(readable) < TASKS:
        # A trimmed library: some files are worked on more than once, under their own number.
        readable = readable * (TASKS // max(1, len(readable)) + 1)
    return readable[:TASKS]


def _progress(client: Client, wanted: int, began: float) -> bool:
    """Show how far it is until so many tasks have ended; False when time is over."""
    while True:
        try:
            counts: dict[str, Any] = client.cluster().get("tasks", {})
        except ClientError as error:
            counts = {"unreachable": str(error)[:40]}
        ended = sum(int(counts.get(s, 0)) for s in TERMINAL_STATES)
        end = "\r" if sys.stdout.isatty() else "\n"
        _put = f"{time.monotonic() - began:5.1f} s  {ended}/{TASKS} ended  {counts}"
        print(_put.ljust(100), end=end, flush=True)
        if ended >= wanted:
            return True
        if time.monotonic() - began > TIME_LIMIT_SECONDS:
            _say(f"\n{wanted} tasks did not end within {TIME_LIMIT_SECONDS:.0f} s")
            return False
        time.sleep(0.5)


@dataclass
class Seen:
    """What was found at the end; only `observe` and the attempts of ``several`` fill it."""

    tasks: int = 0
    right: int = 0
    moved: int = 0
    #: How many tasks noted so many runs.
    runs: Counter[int] = field(default_factory=Counter)
    #: Tasks that noted more than one run.
    several: list[str] = field(default_factory=list)
    #: Acknowledged, and not there any more or given up as lost.
    lost: list[str] = field(default_factory=list)
    #: One attempt ran twice, or two at once, or two succeeded.
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def observe(work: Mapping[str, tuple[Path, Path]], tasks: Mapping[str, Mapping[str, Any]]) -> Seen:
    """Compare every task (id -> its file and the stem of its results) with what should be."""
    seen = Seen(tasks=len(work))
    for task_id, (path, stem) in work.items():
        task = tasks.get(task_id)
        tokens = _tokens(stem)
        seen.runs[len(tokens)] += 1
        if task is None or task["state"] == "lost":
            seen.lost.append(task_id)
            continue
        seen.moved += bool(task["losses"])
        if len(tokens) > 1:
            seen.several.append(task_id)
        if len(set(tokens)) != len(tokens):
            seen.twice.append(task_id)
        why = _trouble(task, path, stem, tokens)
        if why:
            seen.wrong.append(f"{path.name} ({task_id}): {why}")
        else:
            seen.right += 1
    return seen


def _tokens(stem: Path) -> list[str]:
    """The fencing tokens that the runs of a task noted; none when it never ran."""
    try:
        lines = stem.with_suffix(".runs").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    return [line.rpartition(" ")[2] for line in lines]


def _trouble(task: Mapping[str, Any], path: Path, stem: Path, tokens: Sequence[str]) -> str:
    """What is wrong with the result of one task; nothing when it is right."""
    if task["state"] != "succeeded":
        return f"{task['state']} ({task['reason']})"
    if not tokens:
        return "succeeded and never ran"
    if len(tokens) > task["losses"] + 1:
        return f"ran {len(tokens)} times with {task['losses']} losses"
    content = path.read_bytes()
    if not str(task["output_tail"]).startswith(hashlib.sha256(content).hexdigest()):
        return "another checksum"
    try:
        packed = gzip.decompress(stem.with_suffix(".gz").read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        return f"no result: {error}"
    return "" if packed == content else "another content"


def report(seen: Seen, seconds: float) -> int:
    """Say what was seen; 0 only when all is right."""
    wrong = [f"{task_id}: lost" for task_id in seen.lost]
    wrong += [f"{task_id}: ran twice" for task_id in dict.fromkeys(seen.twice)]
    wrong += seen.wrong
    for line in wrong[:WRONG_SHOWN_MAX]:
        _say(f"WRONG  {line}")
    if len(wrong) > WRONG_SHOWN_MAX:
        _say(f"WRONG  ... and {len(wrong) - WRONG_SHOWN_MAX} more")
    counts = ", ".join(f"{count} ran {times}x" for times, count in sorted(seen.runs.items()))
    _say(f"run counts: {counts}; {seen.moved} moved to another node after the kill")
    _say(
        f"{seen.right} of {seen.tasks} results are right, {len(seen.lost)} lost, "
        f"{len(set(seen.twice))} ran twice, in {seconds:.1f} s"
    )
    return 1 if wrong or seen.right != seen.tasks else 0


if __name__ == "__main__":
    sys.exit(main())
