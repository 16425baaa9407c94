"""What clients asked for, by task: the submissions, the terms, and what was acknowledged."""

from __future__ import annotations

from typing import Any

import msgspec

from jepsen_like.evidence import Evidence
from jepsen_like.history import Call

#: States that never change again.
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired", "lost"})

#: Levels of tasks within tasks that are followed upwards.
DEPTH_MAX = 16


class Asked(msgspec.Struct):
    """One task that some client asked for, by submitting it or by retrying another one."""

    id: str
    #: The task as asked for.
    task: dict[str, Any]
    #: All that asked for it, in order of time.
    calls: list[Call]

    @property
    def acknowledged_at(self) -> int | None:
        """When the first client was told that it is there; None: nobody was."""
        return min((c.ended_at for c in self.calls if c.is_ok and c.ended_at), default=None)

    @property
    def asked_at(self) -> int:
        return self.calls[0].invoked_at

    @property
    def surely_refused(self) -> bool:
        """Everyone who asked was told that it did not happen."""
        return all(call.outcome == "fail" for call in self.calls)


def asked(evidence: Evidence) -> dict[str, Asked]:
    """Id -> what was asked for, of everything whose id the clients know."""
    found: dict[str, Asked] = {}
    for call in evidence.calls:
        if call.f == "submit" and call.id:
            _add(found, call.id, dict(call.value.get("task") or {}), call)
    for call in evidence.calls:
        new = str(call.answer.get("id") or "") if call.f == "retry" and call.is_ok else ""
        if new:
            old = found.get(str(call.value.get("id") or ""))
            _add(found, new, old.task if old else {}, call)
    return found


def _add(found: dict[str, Asked], task_id: str, task: dict[str, Any], call: Call) -> None:
    if task_id in found:
        found[task_id].calls.append(call)
    else:
        found[task_id] = Asked(task_id, task, [call])


class Terms(msgspec.Struct, frozen=True):
    """What a task's asker allows."""

    #: Asked for by ``idempotent`` or ``on_lease_loss: continue``.
    may_overlap: bool = False
    at_most_once: bool = False
    max_attempts: int = 1
    max_losses: int = 3
    limits: tuple[str, ...] = ()
    #: Made so that it never runs: nothing is expected of it but what clients do to it.
    is_held: bool = False


class Book:
    """Looks up the terms of any task: its own, its schedule's, or those of what it is a part of."""

    def __init__(self, evidence: Evidence) -> None:
        self.asked = asked(evidence)
        self._max_losses = evidence.run.max_losses
        self._all_held = evidence.run.workload == "register"
        #: Task -> schedule, as any answer or replica says.
        self.schedule_of: dict[str, str] = {}
        self.parent_of: dict[str, str] = {}
        self._documents: dict[str, dict[str, Any]] = {}
        for call in evidence.calls:
            if call.f == "put-schedule":
                self._documents.setdefault(str(call.value.get("name")), call.value)
            if call.f == "slots" and call.is_ok:
                for slot in call.answer.get("slots") or ():
                    if slot.get("task"):
                        self.schedule_of[str(slot["task"])] = str(call.value.get("name"))
        for final in evidence.finals:
            for task in final.tasks:
                if task.schedule:
                    self.schedule_of.setdefault(task.id, task.schedule)
                if task.parent:
                    self.parent_of.setdefault(task.id, task.parent)
        for effect in evidence.effects:
            if effect.schedule:
                self.schedule_of.setdefault(effect.task, effect.schedule)

    @property
    def schedules(self) -> dict[str, dict[str, Any]]:
        """Name -> the first document anybody sent."""
        return self._documents

    def owner(self, task_id: str) -> str | None:
        """The task or schedule that a client named and this one comes from; None: there is none.

        A schedule is answered as ``schedule:<name>``.
        """
        for of in (task_id, *self.wholes(task_id)):
            if of in self.asked:
                return of
            if self.schedule_of.get(of) in self._documents:
                return f"schedule:{self.schedule_of[of]}"
        return None

    def wholes(self, task_id: str) -> list[str]:
        """What it is a part of, and what that is, upwards to what a client or a schedule made."""
        found: list[str] = []
        while len(found) < DEPTH_MAX:
            if task_id in self.asked or self.schedule_of.get(task_id) in self._documents:
                break
            task_id = self.parent_of.get(task_id) or task_id.rpartition(".")[0]
            if not task_id:
                break
            found.append(task_id)
        return found

    def terms(self, task_id: str) -> Terms:
        """Its terms; the usual ones for a task of nobody."""
        owner = self.owner(task_id)
        if owner is None:
            return Terms(max_losses=self._max_losses)
        if owner.startswith("schedule:"):
            task = self._documents[owner.removeprefix("schedule:")].get("task") or {}
        else:
            task = self.asked[owner].task
        return Terms(
            may_overlap=bool(task.get("idempotent")) or task.get("on_lease_loss") == "continue",
            at_most_once=task.get("delivery") == "at_most_once",
            max_attempts=int(task.get("max_attempts") or 1),
            max_losses=int(task.get("max_losses") or 0) or self._max_losses,
            limits=tuple(map(str, task.get("limits") or ())),
            is_held=self._all_held or bool(task.get("held")),
        )
