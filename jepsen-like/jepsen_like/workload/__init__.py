"""What clients do to the cluster while it is broken."""

from __future__ import annotations

from jepsen_like.workload.availability import Availability
from jepsen_like.workload.base import Workload
from jepsen_like.workload.drain import Drain
from jepsen_like.workload.fencing import Fencing
from jepsen_like.workload.limits import Limits
from jepsen_like.workload.mixed import Mixed
from jepsen_like.workload.register import Register
from jepsen_like.workload.schedules import Schedules
from jepsen_like.workload.tasks import Tasks
from jepsen_like.workload.workflow import Workflow

__all__ = ["WORKLOADS", "Workload"]

WORKLOADS: dict[str, type[Workload]] = {
    kind.name: kind
    for kind in (Tasks, Register, Schedules, Workflow, Limits, Fencing, Drain, Mixed, Availability)
}
