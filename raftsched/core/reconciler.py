"""What a node has to do: the difference between what is assigned to it and what its runner has.

Level-triggered: it needs only the node's own assignments and the runner's inventory, so restart,
snapshot restore and lost messages need no path of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from raftsched.core.model import ATTEMPT_TERMINAL, TaskStatus
from raftsched.core.policy import OnLeaseLoss
from raftsched.core.state import State


class DesiredAttempt(msgspec.Struct, frozen=True):
    """An attempt the state assigns to this node's incarnation."""

    token: int
    task_id: str
    number: int
    #: ``msgspec.msgpack.encode(TaskSpec)``.
    spec: bytes
    #: False: it is to be stopped (``cancelling``), or never started.
    run: bool
    reason: str = ""
    #: Its own lease; 0: the node's.
    lease_ms: int = 0
    #: It goes on when its lease runs out, until it is not wanted any more.
    is_kept: bool = False


class RunningAttempt(msgspec.Struct, frozen=True):
    """An attempt the runner has, ended or not."""

    token: int
    task_id: str
    finished: bool


class Start(msgspec.Struct, frozen=True):
    """Start this attempt."""

    token: int
    task_id: str
    number: int
    spec: bytes
    lease_ms: int = 0
    is_kept: bool = False


class Stop(msgspec.Struct, frozen=True):
    """End this attempt; harmless when it is ending already."""

    token: int
    reason: str


class Abandon(msgspec.Struct, frozen=True):
    """This attempt was cancelled before it was started: report it as cancelled."""

    token: int
    task_id: str
    number: int
    reason: str


class Forget(msgspec.Struct, frozen=True):
    """The state has no use for this ended attempt's report any more."""

    token: int


Action = Start | Stop | Abandon | Forget


def desired(
    state: State, node_id: str, incarnation: str, task_ids: Iterable[str] | None = None
) -> list[DesiredAttempt]:
    """What the state assigns to this incarnation, oldest token first; of ``task_ids`` if given."""
    if task_ids is None:
        task_ids = state.by_node.get(node_id, ())
    found = []
    for task_id in task_ids:
        task = state.tasks.get(task_id)
        if task is None or not task.attempts:
            continue
        attempt = task.attempts[-1]
        if (
            attempt.node == node_id
            and attempt.incarnation == incarnation
            and attempt.status not in ATTEMPT_TERMINAL
        ):
            found.append(
                DesiredAttempt(
                    attempt.token,
                    task_id,
                    attempt.number,
                    task.spec,
                    task.status is not TaskStatus.CANCELLING and not attempt.is_evicted,
                    "drained" if attempt.is_evicted else task.reason,
                    task.policy.lease_ms,
                    task.policy.on_lease_loss is OnLeaseLoss.CONTINUE,
                )
            )
    found.sort(key=_token)
    return found


def _token(attempt: DesiredAttempt) -> int:
    return attempt.token


def reconcile(
    wanted: Iterable[DesiredAttempt], running: Mapping[int, RunningAttempt]
) -> list[Action]:
    """The actions that bring ``running`` to ``wanted``; stops first, so that slots come free."""
    stops: list[Action] = []
    starts: list[Action] = []
    seen: set[int] = set()
    for attempt in wanted:
        seen.add(attempt.token)
        known = running.get(attempt.token)
        if attempt.run and known is None:
            starts.append(
                Start(
                    attempt.token,
                    attempt.task_id,
                    attempt.number,
                    attempt.spec,
                    attempt.lease_ms,
                    attempt.is_kept,
                )
            )
        elif not attempt.run and known is None:
            stops.append(Abandon(attempt.token, attempt.task_id, attempt.number, attempt.reason))
        elif not attempt.run and known is not None and not known.finished:
            stops.append(Stop(attempt.token, attempt.reason or "cancelled"))
    for token in sorted(running):
        if token not in seen:
            known = running[token]
            stops.append(Forget(token) if known.finished else Stop(token, "not-assigned"))
    return stops + starts
