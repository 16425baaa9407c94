"""A schedule that is put, shown and fired, as the tests of schedules take it."""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.core.commands import Fire, FireSlots
from raftsched.core.outcomes import Accepted
from raftsched.core.schedule import UNRECKONED
from tests.unit.api.harness import Api

TASK = {"command": ["/bin/date"]}
NIGHTLY = {"cron": "0 2 * * *", "zone": "Europe/Berlin", "task": TASK}
PATH = "/v1/schedules/nightly"


async def put(api: Api, name: str = "nightly", **fields: Any) -> Any:
    answer = await api.ask("PUT", f"/v1/schedules/{name}", {**NIGHTLY, **fields})
    assert answer.status in (200, 201), answer.body
    return answer.json()


async def view_of(api: Api, name: str = "nightly") -> Any:
    return (await api.get(f"/v1/schedules/{name}")).json()


def fire(api: Api, name: str, count: int = 1) -> tuple[str, ...]:
    """So many instants a millisecond apart, as the leader has them; the tasks that were made."""
    row = api.state.schedules.get(name)
    assert row is not None
    if row.next_at == UNRECKONED:
        first = api.state.now + 1
        propose_fire(api, Fire(name, row.version, UNRECKONED, (), first))
        row = msgspec.structs.replace(row, next_at=first)
    instants = tuple(row.next_at + number for number in range(count))
    return propose_fire(api, Fire(name, row.version, row.next_at, instants, instants[-1] + 1))


def propose_fire(api: Api, fired: Fire) -> tuple[str, ...]:
    outcome = api.service.apply(FireSlots((fired,)))
    assert isinstance(outcome, Accepted) and isinstance(outcome.value[0], Accepted), outcome
    made: tuple[str, ...] = outcome.value[0].value
    return made
