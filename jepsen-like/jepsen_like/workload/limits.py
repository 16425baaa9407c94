"""Tasks that share limits: never more at once than they allow, whoever leads."""

from __future__ import annotations

from typing import Any

from jepsen_like.client import Question
from jepsen_like.workload.tasks import Tasks


class Limits(Tasks):
    name = "limits"
    about = "tasks that share limits and a mutex"
    # One at a time has to be done with all of them in time.
    runs_ms = (0, 20, 60, 150)
    limits = {"two": 2, "four": 4}

    async def set_up(self) -> None:
        process = self.client.process()
        for name, count in self.limits.items():
            question = Question(
                "put-limit", {"name": name, "count": count}, "PUT", f"/v1/limits/{name}",
                {"count": count},
            )  # fmt: skip
            await self.make(process, question)

    def some_task(self) -> tuple[dict[str, Any], dict[str, Any]]:
        told, body = super().some_task()
        # Two at once of a task are two holders, and it asked for that.
        for fields in (told, body):
            fields.pop("idempotent", None)
            fields.pop("on_lease_loss", None)
        names = [name for name in ("two", "four", "mutex") if self.chance.random() < 0.4]
        told["limits"] = body["limits"] = names or ["two"]
        return told, body
