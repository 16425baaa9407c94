"""The leader's loop: what it does next after what it proposed was refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftsched.core.commands import AnyCommand, AssignTasks, CancelTask, SubmitTasks
from raftsched.core.handlers import ends
from raftsched.core.handlers.forks import encode
from raftsched.core.outcomes import Outcome
from raftsched.core.policy import Extra
from raftsched.core.workflow import Fork
from raftsched.peer.scheduler import Scheduler
from raftsched.raft.host import Clock
from raftsched.raft.log import LogStatus, Role
from tests.unit.core.builders import Replica, new_task, register

#: Commands of one pass, beyond which it would never end.
COMMANDS_MAX = 20


class Leader:
    """A scheduler that proposes to one replica; its clocks are the replica's."""

    def __init__(self) -> None:
        self.replica = Replica()
        self.replica.accepted(register(slots=4))
        self.proposed: list[AnyCommand] = []
        clock = SimpleNamespace(monotonic=lambda: self.replica.now / 1000)
        self.scheduler = Scheduler(
            cast(Any, self.replica), cast(Any, None), cast(Clock, clock), 15.0, self.propose,
            lambda: self.replica.now,
        )  # fmt: skip
        status = SimpleNamespace(role=Role.LEADER, is_current=True, term=1)
        self.scheduler.status_changed(cast(LogStatus, status))
        assert self.scheduler.book.grant("n1", "a", clock.monotonic(), 0.0)

    async def propose(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        self.proposed.append(command)
        assert len(self.proposed) <= COMMANDS_MAX, "a pass that does not end"
        return self.replica.do(command)

    async def step(self) -> None:
        self.proposed.clear()
        await self.scheduler.step()


async def test_what_a_cancel_has_not_reached_yet_keeps_no_pass_from_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "ROWS_MAX", 2)
    leader = Leader()
    whole = Extra(fork=Fork(encode([new_task(str(n)) for n in range(30)])))
    leader.replica.accepted(SubmitTasks((new_task("w", extra=whole),)))
    leader.replica.accepted(CancelTask("w"))
    await leader.step()
    assert any(isinstance(command, AssignTasks) for command in leader.proposed)
    while leader.replica.task("w").status != "cancelled":
        await leader.step()
    assert not any(task.attempts for task in leader.replica.state.tasks.values())
    leader.replica.submit("t")
    await leader.step()
    assert leader.replica.task("t").status == "assigned"
