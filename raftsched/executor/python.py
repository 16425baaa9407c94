"""Attempts that call a function of an application, in worker processes that stay.

Rules
1. The applications are what the peer said last.  When it starts anew they are imported anew:
   workers of its earlier life answer what they were asked, and leave.
2. An attempt goes to the application that registered its function; until all are imported it
   waits.  No application imports here, in the runner's own process.
3. What is stopped is told so, and killed with its worker after the grace.  Other coroutines of that
   worker end ``lost``, so that they run again without counting as failed.
"""

from __future__ import annotations

import selectors
import time

from raftsched.executor.attempt import End, Listener
from raftsched.executor.children import Children
from raftsched.executor.messages import Applications, StartAttempt, bounded
from raftsched.executor.pool import Pool, PythonExecution
from raftsched.executor.spawn import CannotStart
from raftsched.executor.spool import Spool
from raftsched.executor.worker_messages import Call, Setup
from raftsched.executor.worker_process import Held, WorkerProcess


class PythonExecutor:
    """Chooses the application, and keeps the pools."""

    def __init__(
        self, spool: Spool, mark: str, selector: selectors.BaseSelector, children: Children
    ) -> None:
        self._spool = spool
        self._mark = mark
        self._selector = selector
        self._children = children
        self._applications: Applications | None = None
        self._pools: list[Pool] = []
        #: Of earlier applications, until their workers have left.
        self._leaving: list[Pool] = []
        self._held = Held()
        #: The worker that the latest `has_room` found, with the token it found it for.
        self._chosen: tuple[int, WorkerProcess] | None = None
        #: Attempts that were started without room: the program before them took its time.
        self._later: list[tuple[StartAttempt, PythonExecution]] = []
        #: Ends to be told with the next `send`.
        self._over: list[tuple[Listener, End]] = []

    def serve(self, wanted: Applications) -> None:
        """Have these applications from now on."""
        if wanted == self._applications:
            return
        self._applications = wanted
        now = time.monotonic()
        for pool in self._pools:
            pool.retire()
        self._leaving += self._pools
        self._pools = [
            Pool(
                Setup(
                    name,
                    wanted.directory,
                    wanted.path,
                    self._spool.folder,
                    wanted.address,
                    wanted.token,
                ),
                wanted.workers,
                self._start_worker,
            )
            for name in wanted.applications
        ]
        self.watch(now)
        self.send()

    def _start_worker(self, pool: Pool) -> WorkerProcess:
        return WorkerProcess(
            pool.setup, self._mark, pool, self._selector, self._children, self._held
        )

    # Attempts ------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Attempts that were handed to a worker and wait there for their turn."""
        return self._held.count

    def has_room(self, spec: StartAttempt) -> bool:
        """Can it be started now, or is it known that it never can?"""
        assert spec.spec.python is not None
        pool = self._pool_of(spec.spec.python.function)
        if pool is None:
            return not any(pool.is_starting for pool in self._pools)
        worker = pool.worker_for(spec.spec.python.function)
        if worker is None:
            return False
        self._chosen = spec.token, worker
        return True

    def start(self, attempt: StartAttempt, listener: Listener) -> PythonExecution:
        """Hand it to a worker, now or when there is one for it.  Raises CannotStart."""
        execution = PythonExecution(attempt, listener, self._spool)
        if not self._hand(attempt, execution):
            self._later.append((attempt, execution))
        return execution

    def _hand(self, attempt: StartAttempt, execution: PythonExecution) -> bool:
        """False: not now.  Raises CannotStart."""
        python = attempt.spec.python
        assert python is not None
        if not (self._chosen is not None and self._chosen[0] == attempt.token):
            self._chosen = None
            if not self.has_room(attempt):
                return False
        pool = self._pool_of(python.function)
        if pool is None or self._chosen is None:
            self._refuse(python.function, execution)
            return True
        worker = self._chosen[1]
        self._chosen = None
        pool.hand(execution, worker)
        worker.ask(
            Call(
                attempt.token,
                attempt.task_id,
                attempt.number,
                python.function,
                python.args,
                python.kwargs,
                bool(attempt.spec.before),
                attempt.inputs,
                attempt.files_result,
                attempt.result_max,
            )
        )
        return True

    def _pool_of(self, function: str) -> Pool | None:
        for pool in self._pools:
            if function in pool.functions:
                return pool
        return None

    def _refuse(self, function: str, execution: PythonExecution) -> None:
        """No application has it.  Raises CannotStart, or tells the listener with the next send."""
        for pool in self._pools:
            if pool.trouble:
                reason = bounded(f"app-unusable: {pool.trouble}")
                tail = pool.traceback
                execution.over()
                self._over.append((execution.listener, End("failed", reason=reason, tail=tail)))
                return
        if not self._pools:
            raise CannotStart("no-application: this node serves none; see raftsched serve --app")
        names = ", ".join(pool.setup.application for pool in self._pools)
        raise CannotStart(f"unknown-function: {function} is registered by none of: {names}")

    # The loop's passes ---------------------------------------------------------------------------

    def send(self) -> None:
        """At the end of a pass: send to the workers what was gathered for them."""
        if self._later:
            self._start_later()
        over, self._over = self._over, []
        for listener, end in over:
            listener.ended(end)
        now = time.monotonic()
        for pool in (*self._pools, *self._leaving):
            if self._held.count:
                pool.prod(now)
            pool.send()

    def _start_later(self) -> None:
        later, self._later = self._later, []
        for attempt, execution in later:
            try:
                if not execution.is_over and not self._hand(attempt, execution):
                    self._later.append((attempt, execution))
            except CannotStart as error:
                execution.over()
                self._over.append((execution.listener, End("failed", reason=str(error))))

    def watch(self, now: float) -> None:
        """Start workers that are missing, end those that are too slow to start or leave."""
        for pool in (*self._pools, *self._leaving):
            pool.watch(now)
        self._leaving = [pool for pool in self._leaving if pool.workers]

    def close(self) -> None:
        """The runner ends: so do all workers."""
        for pool in (*self._pools, *self._leaving):
            for worker in pool.workers:
                worker.kill()
