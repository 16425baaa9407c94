"""What became of the attempts of a killed peer: who moved, was anything lost, did any run twice.

It asks only the public API, like anybody else could.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from raftsched.client.errors import ClientError, NotFound
from raftsched.client.sync import Client

#: At most so many tasks are followed and named.
FOLLOWED_MAX = 200
NAMED_MAX = 6
POLL_SECONDS = 0.25

Document = dict[str, Any]


def on_node(client: Client, node_id: str) -> list[Document]:
    """Tasks assigned to or running on a node now."""
    found = client.list(
        node=node_id, state="assigned,running,cancelling", page=FOLLOWED_MAX, limit=FOLLOWED_MAX
    )
    return [dict(task) for task in found]


def overlaps(attempts: list[Document]) -> bool:
    """Did two attempts of one task run at once, or did two succeed?  By the cluster's own times."""
    ran = [a for a in attempts if a.get("started_at")]
    ran.sort(key=lambda a: int(a.get("number") or 0))
    for earlier, later in pairwise(ran):
        end = earlier.get("finished_at")
        if not end or str(end) > str(later["started_at"]):
            return True
    return len([a for a in attempts if a.get("status") == "succeeded"]) > 1


def follow(client: Client, before: list[Document], seconds: float, stop: Callable[[], bool]) -> str:
    """Watch tasks that were on a killed node until each has moved or ended; one line about them."""
    deadline = time.monotonic() + seconds
    open_tasks = {str(task["id"]): task for task in before}
    moved: list[str] = []
    lost: list[str] = []
    twice: list[str] = []
    ended = 0
    while open_tasks and time.monotonic() < deadline and not stop():
        for task_id, old in list(open_tasks.items()):
            try:
                now = client.get(task_id)
                if now.is_terminal or int(now.get("attempt") or 0) > int(old.get("attempt") or 0):
                    if overlaps(client.attempts(task_id)):
                        twice.append(task_id)
                    if now.state == "lost":
                        lost.append(task_id)
                    elif now.get("node") != old.get("node"):
                        moved.append(f"{task_id[-8:]} to {now.get('node')}")
                    else:
                        ended += 1
                    del open_tasks[task_id]
            except NotFound:
                lost.append(task_id)
                del open_tasks[task_id]
            except ClientError:
                continue
        time.sleep(POLL_SECONDS)
    named = f" ({', '.join(moved[:NAMED_MAX])}{', ...' if len(moved) > NAMED_MAX else ''})"
    text = f"{len(moved)} moved{named if moved else ''}, {ended} ended where they were"
    looked_at = len(before) - len(open_tasks)
    text += f"; of {looked_at} looked at {len(lost)} lost, {len(twice)} ran twice"
    if open_tasks:
        text += f"; {len(open_tasks)} have not moved yet: nothing is known of them"
    return text
