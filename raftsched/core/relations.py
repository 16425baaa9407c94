"""What tasks have to do with one another: unique keys, who waits for whom, who is still needed.

Derived from the rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from raftsched.core.model import TERMINAL, Task, TaskStatus
from raftsched.core.trees import has_begun, owner_of

_Find = Callable[[str], Task | None]


class Relations:
    """Of all tasks that are not terminal."""

    __slots__ = ("_find", "dependents", "expecting", "speculative", "unique", "waiters")

    def __init__(self, find: _Find) -> None:
        """``find``: a task by its id."""
        self._find = find
        #: The newest task that is not terminal, by ``namespace NUL unique key``.
        self.unique: dict[str, str] = {}
        #: Ids of waiting tasks, by the id of the task whose end they wait for.
        self.waiters: dict[str, dict[str, None]] = {}
        #: Ids of tasks that depend on a tree from outside of it, by the id of its root: until they
        #: have ended, it is kept.
        self.dependents: dict[str, dict[str, None]] = {}
        #: Ids of forks that are to get their items, by now, and of the task that they are of.
        self.expecting: dict[str, str] = {}
        #: Ids of forks whose subtasks may get twins now.
        self.speculative: dict[str, None] = {}

    def set(self, old: Task | None, task: Task) -> Sequence[str]:
        """A task as it was and as it is; ids of roots that came to be needed, or not to be."""
        extra = task.extra
        assert extra is not None
        if not (extra.depends_on or extra.unique_key or extra.after or extra.fork is not None):
            return ()  # As most, which are parts of others.
        is_over = task.status in TERMINAL
        if extra.unique_key:
            key = f"{task.namespace}\0{extra.unique_key}"
            if not is_over:
                if old is None:
                    self.unique[key] = task.id
            elif self.unique.get(key) == task.id:
                self._give_back(key, extra.after)
        before = () if old is None else awaited(old)
        now = awaited(task)
        if before != now:
            self._await(task.id, before, now)
        fork = extra.fork
        if fork is not None and fork.items_from:
            if fork.is_open and fork.has_begun and not (is_over or extra.stopping):
                self.expecting[task.id] = fork.items_from
            else:
                self.expecting.pop(task.id, None)
        if fork is not None and fork.speculation is not None:
            if fork.has_begun and not (fork.is_open or is_over or extra.stopping):
                self.speculative[task.id] = None
            else:
                self.speculative.pop(task.id, None)
        if not (extra.depends_on or extra.keeps) or (old is None and is_over):
            return []
        if old is None:
            return self._depend(task)
        return self._let_go(task) if is_over else []

    def root_of(self, task_id: str) -> str:
        """The id of the task at the root of the tree that a task is in."""
        task = self._find(task_id)
        while task is not None and (owner_id := owner_of(task)):
            task_id, task = owner_id, self._find(owner_id)
        return task_id

    def roots_of(self, task: Task) -> list[str]:
        """Of the other trees that a task depends on, or has results of."""
        assert task.extra is not None
        roots = dict.fromkeys(self.root_of(other.task_id) for other in task.extra.depends_on)
        roots.update(dict.fromkeys(self._kept(task)))
        roots.pop(self.root_of(owner_of(task) or task.id), None)
        return list(roots)

    def _kept(self, task: Task) -> Iterator[str]:
        """Ids of the trees that it keeps results of: what it is another try of, and so on back."""
        extra = task.extra
        while extra is not None and extra.keeps and not extra.parent:
            other = self._find(extra.keeps)
            if other is None or other.order >= task.order:
                return  # The id is another task's by now.
            yield self.root_of(other.id)
            task, extra = other, other.extra

    def _depend(self, task: Task) -> list[str]:
        fresh = []
        for root in self.roots_of(task):
            dependents = self.dependents.setdefault(root, {})
            if not dependents:
                fresh.append(root)
            dependents[task.id] = None
        return fresh

    def _let_go(self, task: Task) -> list[str]:
        released = []
        for root in self.roots_of(task):
            dependents = self.dependents[root]
            del dependents[task.id]
            if not dependents:
                del self.dependents[root]
                released.append(root)
        return released

    def _await(self, task_id: str, before: tuple[str, ...], now: tuple[str, ...]) -> None:
        """A task waits for the ends of others than before."""
        for awaited_id in before:
            if awaited_id not in now:
                waiters = self.waiters[awaited_id]
                del waiters[task_id]
                if not waiters:
                    del self.waiters[awaited_id]
        for awaited_id in now:
            if awaited_id not in before:
                self.waiters.setdefault(awaited_id, {})[task_id] = None

    def _give_back(self, key: str, earlier_id: str) -> None:
        """Who had a unique key ended: the one that it replaced has it until that has ended, too."""
        earlier = self._find(earlier_id) if earlier_id else None
        # The id may be another task's by now.
        if earlier is not None and earlier.status not in TERMINAL and _has_key(earlier, key):
            self.unique[key] = earlier_id
        else:
            del self.unique[key]


def awaited(task: Task) -> tuple[str, ...]:
    """Ids of the tasks whose end this one waits for."""
    extra = task.extra
    if extra is None or task.status is not TaskStatus.WAITING or task.ready_at:
        return ()
    if extra.stopping or has_begun(extra):
        return ()
    return extra.awaits or ((extra.after,) if extra.after else ())


def _has_key(task: Task, key: str) -> bool:
    """Is this, with its namespace, the task's unique key?"""
    extra = task.extra
    return extra is not None and f"{task.namespace}\0{extra.unique_key}" == key
