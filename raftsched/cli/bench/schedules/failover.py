"""The leader dies half a second before a slot, again and again."""

from __future__ import annotations

import time

from raftsched.cli.bench.cluster import Report, drain
from raftsched.cli.bench.figures import bar, spread
from raftsched.cli.bench.schedules.cases import LATE_SECONDS_MAX, Options, watched_cluster
from raftsched.cli.bench.schedules.evidence import is_exact
from raftsched.cli.bench.schedules.witness import Watched
from raftsched.cli.exits import Failure
from raftsched.cli.output import hint

#: All due at the same instants.
SCHEDULES = 20
STEP_MS = 5_000
#: How long before the instant the leader dies.
BEFORE_SECONDS = 0.5
#: All have been ready for at least so long by then.
STEADY_SECONDS = 1.5
LEADER_SECONDS_MAX = 10.0
#: The run of the slot behind a kill starts this much later at most.
BAR_MS = 3_000


def failover(options: Options) -> Report:
    """Kill the leader before a slot, see it start, start the peer again; so many times."""
    lags: list[float] = []
    with watched_cluster("failover", options) as (cluster, watched):
        document = {"cron": f"*/{STEP_MS // 1_000} * * * * *", "overlap": "allow"}
        watched.make({f"f{number}": document for number in range(SCHEDULES)}, STEP_MS)
        for number in range(options.kills):
            slot_ms = _next_slot()
            leader = cluster.wait_leader(None, LEADER_SECONDS_MAX)
            if leader is None:
                raise Failure("the temporary cluster has no leader; try again")
            hint(f"leader {leader} is killed, {number + 1} of {options.kills}")
            _sleep_until(slot_ms / 1_000 - BEFORE_SECONDS)
            cluster.kill(leader)
            _sleep_until(slot_ms / 1_000)
            lags.append(_lag_ms(watched, slot_ms))
            cluster.start(leader)
            cluster.wait_ready()
            watched.read()
        # Between two instants, so that what is due before is certain.
        end_ms = _next_slot()
        _sleep_until(end_ms / 1_000 - BEFORE_SECONDS)
        with cluster.client() as client:
            for name in watched.steps:
                client.pause_schedule(name)
            drain(client)
        report = watched.account(end_ms)
    found = spread(lags)
    return {
        "schedules": SCHEDULES,
        "kills": options.kills,
        **report,
        "is_exact": is_exact(report),
        "lag_behind_a_kill_ms": found,
        "bar": bar(found["longest"], BAR_MS, at_most=True),
    }


def _next_slot() -> int:
    """The first instant that leaves time to be steady before it."""
    earliest_ms = int((time.time() + BEFORE_SECONDS + STEADY_SECONDS) * 1_000)
    return earliest_ms // STEP_MS * STEP_MS + STEP_MS


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def _lag_ms(watched: Watched, slot_ms: int) -> float:
    """When the last run of a slot began, after it; what never came counts as long as was waited."""
    deadline = time.monotonic() + LATE_SECONDS_MAX
    while time.monotonic() < deadline:
        found = [start for start in watched.starts() if start.slot[1] == slot_ms]
        if len({start.slot for start in found}) == SCHEDULES:
            return max(start.lag_ms for start in found)
        time.sleep(0.02)
    return LATE_SECONDS_MAX * 1_000
