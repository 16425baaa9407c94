"""What the measures have in common: a cluster of their own, waiting for it, and the summary.

Sizes are tasks, times are seconds.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raftsched.cli.bench.python import APPLICATION
from raftsched.cli.exits import Failure
from raftsched.cli.local import LocalCluster
from raftsched.client.sync import Client

BASE_PORT = 17_400
START_SECONDS_MAX = 30.0
END_SECONDS_MAX = 300.0
POLL_SECONDS = 0.05
#: Of a task that has not ended.
OPEN = {"waiting", "queued", "assigned", "running", "retrying", "cancelling"}

Report = dict[str, Any]


class OwnCluster(LocalCluster):
    """A temporary cluster whose workers call the functions of the benchmark."""

    #: From the first process's start until all were ready.
    ready_seconds = 0.0

    @property
    def token(self) -> str:
        """The token of all its peers."""
        return self.token_path.read_text(encoding="ascii").strip()

    def leading(self) -> str:
        """The id of the leader.  Raises Failure when there is none."""
        leader = self.leader()
        if leader is None:
            raise Failure("the temporary cluster has no leader; try again")
        return leader

    def leading_api(self) -> str:
        """Where the leader answers."""
        return self.peers[self.leading()].api


@contextmanager
def own_cluster(
    peers: int, base_port: int, *, lease_seconds: float = 5.0, slots: int = 8
) -> Iterator[OwnCluster]:
    """Peers that are ready, with their nodes registered; stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="raftsched-bench-") as directory:
        cluster = OwnCluster(
            Path(directory) / "cluster",
            peers=peers,
            base_port=base_port,
            lease_seconds=lease_seconds,
            apps=(APPLICATION,),
            slots=slots,
        )
        cluster.prepare()
        try:
            begin = time.perf_counter()
            cluster.start_all()
            cluster.wait_ready()
            cluster.ready_seconds = time.perf_counter() - begin
            with cluster.client() as client:
                wait_until(
                    lambda: len(client.nodes()) == peers, START_SECONDS_MAX, "nodes register"
                )
            yield cluster
        finally:
            cluster.stop()


def drain(
    client: Client, seconds: float = END_SECONDS_MAX, poll_seconds: float = POLL_SECONDS
) -> None:
    """Wait until nothing is open, asked that often."""
    wait_until(
        lambda: not OPEN & client.cluster()["tasks"].keys(), seconds, "tasks end", poll_seconds
    )


def wait_until(
    is_done: Callable[[], bool], seconds: float, what: str, poll_seconds: float = POLL_SECONDS
) -> None:
    """Ask again and again.  Raises Failure when it takes longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds:g} s in vain until {what}")
        time.sleep(poll_seconds)


def summary(values: Sequence[float], unit: str, digits: int = 1) -> Report:
    """The median of a few runs, and each of them."""
    runs = [round(value, digits) for value in values]
    return {"median": round(statistics.median(runs), digits), "unit": unit, "runs": runs}


def this_machine() -> Report:
    """What the numbers were taken on."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }
