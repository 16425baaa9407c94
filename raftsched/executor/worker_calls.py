"""A worker that calls ordinary functions, one after the other, in the main thread.

Calls arrive in batches and results leave in batches: a short call costs no system call of its own
but the seek that shows whether it wrote anything.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue

from raftsched.app import App, Context, enter
from raftsched.executor.worker import (
    Age,
    Link,
    Shared,
    exit_code_of,
    is_good_exit,
    kept,
    reason_of,
    traceback_of,
    unknown,
    value_of,
)
from raftsched.executor.worker_inputs import arguments_of
from raftsched.executor.worker_messages import (
    PART_BYTES,
    Call,
    Calls,
    Cancel,
    Leave,
    Look,
    Progress,
    Result,
    Results,
    Setup,
    ToWorker,
)
from raftsched.executor.worker_output import Capture

#: Results are kept back at most so long while there is more to call.
GATHER_SECONDS = 0.002


def serve(app: App, link: Link, shared: Shared, setup: Setup, first: Sequence[ToWorker]) -> None:
    """Until the runner says to leave."""
    _Caller(app, link, shared, setup).run(first)


class _Caller:
    """What the main thread and the one that hears share."""

    def __init__(self, app: App, link: Link, shared: Shared, setup: Setup) -> None:
        self._app = app
        self._functions = {name: it.function for name, it in app.functions.items()}
        self._link = link
        self._shared = shared
        self._folder = setup.output
        self._capture = Capture(setup.output)
        self._age = Age(app)
        #: What has not begun.  Both threads take from it, each call by one operation.
        self._calls: deque[Call] = deque()
        #: What is done and not sent; it is in the shared memory, too.
        self._results: list[Result] = []
        self._keeping = threading.Lock()
        self._context = Context()
        #: Tokens that were cancelled and are in neither place: about to begin, or over.
        self._cancelled: set[int] = set()
        #: Holds True for each batch that came, and False when it is time to leave.
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._busy_since = time.monotonic()

    def run(self, first: Sequence[ToWorker]) -> None:
        """Call what is asked for, until it is time to leave."""
        for message in first:
            self._hear(message)
        threading.Thread(target=self._listen, name="raftsched-runner", daemon=True).start()
        calls = self._calls
        while True:
            try:
                call = calls.popleft()
            except IndexError:
                self._flush()
                self._cancelled.clear()
                if not self._wake.get():
                    return
                self._busy_since = time.monotonic()
                continue
            self._run(call)

    # The main thread -----------------------------------------------------------------------------

    def _run(self, call: Call) -> None:
        began = time.monotonic()
        result = self._call(call)
        with self._keeping:
            self._results.append(result)
            size = self._shared.keep(result)
        now = time.monotonic()
        self._age.called(now - began)
        if now - self._busy_since > GATHER_SECONDS or size > PART_BYTES:
            self._flush()

    def _call(self, call: Call) -> Result:
        token = call.token
        self._shared.begin(token)
        capture = self._capture
        capture.call = call
        function = self._functions.get(call.function)
        if function is None:
            return unknown(call.function, self._functions, token)
        context = Context(call.task_id, call.number, token, self._tell, call.inputs)
        self._context = context
        if self._cancelled and token in self._cancelled:
            context.is_cancelled = True
        enter(context)
        exit_code, value_bytes = None, 0
        try:
            args, kwargs = arguments_of(call, self._app, context)
            value, reason = value_of(function(*args, **kwargs), may_be_large=call.files_result)
            if call.files_result and len(value) > call.result_max:
                value_bytes, reason = kept(self._folder, call, value)
                value = b""
        except BaseException as error:
            value, reason, exit_code = b"", "", exit_code_of(error)
            if not is_good_exit(error):
                reason = reason_of(error)
                capture.write(traceback_of(error, error.__traceback__))
        tail, size = capture.end()
        return Result(token, reason, value, tail, size, exit_code, value_bytes)

    # Both ----------------------------------------------------------------------------------------

    def _flush(self, returned: tuple[int, ...] = ()) -> None:
        """Send what is done."""
        with self._keeping:
            results, self._results = self._results, []
            if not results and not returned:
                return
            now = time.monotonic()
            busy_us = int((now - self._busy_since) * 1e6)
            self._busy_since = now
            self._link.send(Results(tuple(results), busy_us, returned, (), self._age.is_over))
            self._shared.clear()

    def _tell(self, context: Context) -> None:
        news, context.news = context.news, None
        if news is not None:
            progress = Progress(context.fencing_token, *news)
            self._link.send(Results(progress=(progress,)))

    # The other thread ----------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            for message in self._link.receive():
                self._hear(message)

    def _hear(self, message: ToWorker) -> None:
        if isinstance(message, Calls):
            self._calls.extend(message.calls)
            self._wake.put(True)
        elif isinstance(message, Cancel):
            self._cancel(message.token)
        elif isinstance(message, Look):
            self._flush(self._recall() if message.recalls else ())
            self._capture.look()
            self._context.tell_if_due()
        elif isinstance(message, Leave):
            self._wake.put(False)

    def _recall(self) -> tuple[int, ...]:
        """Take back what has not begun."""
        tokens = []
        while True:
            try:
                tokens.append(self._calls.pop().token)
            except IndexError:
                return tuple(reversed(tokens))

    def _cancel(self, token: int) -> None:
        for call in list(self._calls):
            if call.token == token:
                try:
                    self._calls.remove(call)
                except ValueError:
                    break  # It begins just now.
                self._flush((token,))
                return
        self._cancelled.add(token)
        if self._context.fencing_token == token:
            self._context.is_cancelled = True
