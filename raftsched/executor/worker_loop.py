"""A worker that runs coroutines, many at once, on one asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Sequence
from functools import partial

from raftsched.app import App, Context, enter_task
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
from raftsched.executor.worker_inputs import arguments_of, has_places
from raftsched.executor.worker_messages import (
    PART_BYTES,
    RESULT_BYTES,
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
from raftsched.executor.worker_output import Sink, Stream

_sink: contextvars.ContextVar[Sink | None] = contextvars.ContextVar("output", default=None)


def serve(app: App, link: Link, shared: Shared, setup: Setup, first: Sequence[ToWorker]) -> None:
    """Until the runner says to leave."""
    sys.stdout = Stream(_sink.get, sys.stdout)
    sys.stderr = Stream(_sink.get, sys.stderr)
    asyncio.run(_Loop(app, link, setup).run(first))


class _Loop:
    """The coroutines under way."""

    def __init__(self, app: App, link: Link, setup: Setup) -> None:
        self._app = app
        self._functions = {name: it.function for name, it in app.functions.items()}
        self._link = link
        self._folder = setup.output
        self._age = Age(app)
        self._running: dict[int, tuple[Context, asyncio.Task[Result]]] = {}
        self._results: list[Result] = []
        self._left = asyncio.Event()

    async def run(self, first: Sequence[ToWorker]) -> None:
        """Run what is asked for, until it is time to leave."""
        loop = asyncio.get_running_loop()
        for message in first:
            self._hear(message)
        loop.add_reader(self._link.socket.fileno(), self._listen)
        await self._left.wait()

    def _listen(self) -> None:
        for message in self._link.receive():
            self._hear(message)

    def _hear(self, message: ToWorker) -> None:
        if isinstance(message, Calls):
            for call in message.calls:
                context = Context(call.task_id, call.number, call.token, self._tell, call.inputs)
                task = asyncio.create_task(self._call(call, context))
                self._running[call.token] = (context, task)
                task.add_done_callback(partial(self._ended, call.token))
        elif isinstance(message, Cancel):
            found = self._running.get(message.token)
            if found is not None:
                found[0].is_cancelled = True
                found[1].cancel()
        elif isinstance(message, Look):
            for context, _ in self._running.values():
                context.tell_if_due()
        elif isinstance(message, Leave):
            self._left.set()

    async def _call(self, call: Call, context: Context) -> Result:
        sink = Sink(self._folder, call)
        enter_task(context)
        _sink.set(sink)
        loop = asyncio.get_running_loop()
        began = loop.time()
        value, reason, exit_code, value_bytes = b"", "", None, 0
        function = self._functions.get(call.function)
        try:
            if function is None:
                reason = unknown(call.function, self._functions, call.token).reason
            else:
                if has_places(call):
                    # Others run meanwhile: what is large is fetched.
                    args, kwargs = await asyncio.to_thread(arguments_of, call, self._app, context)
                else:
                    args, kwargs = arguments_of(call, self._app, context)
                returned = await function(*args, **kwargs)
                value, reason = value_of(returned, may_be_large=call.files_result)
                if call.files_result and len(value) > call.result_max:
                    # Others run meanwhile; a disk may take its time.
                    value_bytes, reason = await asyncio.to_thread(kept, self._folder, call, value)
                    value = b""
        except BaseException as error:
            exit_code = exit_code_of(error)
            if not is_good_exit(error):
                reason = reason_of(error)
                with contextlib.suppress(OSError):
                    sink.write(traceback_of(error, error.__traceback__))
        sink.close()
        self._age.called(loop.time() - began)
        return Result(call.token, reason, value, sink.tail, sink.size, exit_code, value_bytes)

    def _ended(self, token: int, task: asyncio.Task[Result]) -> None:
        del self._running[token]
        if not self._results:
            asyncio.get_running_loop().call_soon(self._flush)
        if task.cancelled():  # Before its first step: it has done nothing.
            self._results.append(Result(token, "CancelledError"))
            return
        trouble = task.exception()  # Ours, or of its output file: no call stays unanswered.
        self._results.append(
            task.result() if trouble is None else Result(token, reason_of(trouble))
        )

    def _flush(self) -> None:
        """Send what is done, in as many messages as its size asks for."""
        part: list[Result] = []
        size = 0
        for result in self._results:
            part.append(result)
            size += len(result.value) + RESULT_BYTES
            if size > PART_BYTES:
                self._link.send(Results(tuple(part), retires=self._age.is_over))
                part, size = [], 0
        self._results.clear()
        if part:
            self._link.send(Results(tuple(part), retires=self._age.is_over))

    def _tell(self, context: Context) -> None:
        news, context.news = context.news, None
        if news is not None:
            self._link.send(Results(progress=(Progress(context.fencing_token, *news),)))
