"""A worker process of an application: imports it once, then calls its functions.

The runner starts it with one end of a socket pair; see `worker_messages`.  It lives until it is
told to leave, grows old, or the runner ends.

Rules
1. What is called was registered by the application; a task cannot name anything else.
2. Before a call begins its token is in memory shared with the runner, and so is its result until
   the runner was sent it: of a worker that died the runner knows what was done, what it was doing
   and what had not begun.
3. The application's code runs in the main thread; a thread of ours hears the runner meanwhile.
"""

from __future__ import annotations

import importlib
import mmap
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any

import msgspec

from raftsched.app import App, Cancelled
from raftsched.core.model import RESULT_BYTES_MAX, RESULT_FILE_BYTES_MAX
from raftsched.executor.messages import bounded
from raftsched.executor.output import keep_result, not_kept
from raftsched.executor.worker_messages import (
    SHARED_BYTES,
    SHARED_HEAD_BYTES,
    Begin,
    Call,
    Frames,
    Ready,
    Result,
    Setup,
    ToRunner,
    ToWorker,
    Unusable,
    encode,
    encode_result,
    to_worker,
)

RECEIVE_BYTES = 256 * 1024
#: Last bytes of a traceback that are kept where there is no output file.
TRACEBACK_BYTES = 2_048
#: Memory is looked at after so many calls, and after a call that took longer than this.
MEMORY_CALLS = 1_000
MEMORY_SECONDS = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Link:
    """The worker's end of the socket pair.  Whoever sends waits until the runner takes it."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self._frames: Frames[ToWorker] = to_worker()
        self._sending = threading.Lock()

    def send(self, message: ToRunner) -> None:
        """Say this.  Where nobody hears it, this process is no use: it ends."""
        frame = encode(message)
        with self._sending:
            try:
                self.socket.sendall(frame)
            except OSError:
                end_group()

    def receive(self) -> list[ToWorker]:
        """The next messages; waits for them."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        try:
            if data:
                return self._frames.feed(data)
        except (msgspec.DecodeError, ValueError):
            pass
        end_group()
        return []


def end_group() -> None:
    """The runner is gone, and so is what this worker runs, with all that it started."""
    os.killpg(0, signal.SIGKILL)


class Shared:
    """Memory that the runner reads when this process has died: see `worker_messages`."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SHARED_BYTES)
        os.close(descriptor)
        whole = memoryview(self._map)
        self._words = whole[:SHARED_HEAD_BYTES].cast("Q")
        self._area = whole[SHARED_HEAD_BYTES:]

    def begin(self, token: int) -> None:
        """This call begins now."""
        self._words[0] = token

    def keep(self, result: Result) -> int:
        """This call is over; how many bytes are kept now."""
        data = encode_result(result)
        begin = self._words[1]
        end = begin + len(data)
        if end <= len(self._area):
            self._area[begin:end] = data
            self._words[1] = end
        return int(end)

    def clear(self) -> None:
        """The runner has it all."""
        self._words[1] = 0


class Age:
    """When a worker is to be replaced."""

    def __init__(self, app: App) -> None:
        self._tasks_left = app.worker_tasks_max or sys.maxsize
        self._bytes_max = app.worker_bytes_max
        self._unlooked = 0
        self.is_over = False

    def called(self, seconds: float) -> None:
        """A call is over that took so long."""
        self._tasks_left -= 1
        self._unlooked += 1
        if self._tasks_left <= 0:
            self.is_over = True
        elif self._bytes_max and (self._unlooked >= MEMORY_CALLS or seconds > MEMORY_SECONDS):
            self._unlooked = 0
            self.is_over = self.is_over or resident_bytes() > self._bytes_max


def resident_bytes() -> int:
    """Memory that this process holds; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - many times
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


# How a call ends ---------------------------------------------------------------------------------

_json = msgspec.json.Encoder()
decode_json = msgspec.json.decode


def value_of(returned: object, *, may_be_large: bool) -> tuple[bytes, str]:
    """(JSON, why it is none): one of them is empty.  A large value is to be kept (`kept`)."""
    if returned is None:
        return b"", ""
    try:
        value = _json.encode(returned)
    except (TypeError, ValueError, RecursionError) as error:
        return b"", bounded(f"result-not-json: {error}")
    bytes_max = RESULT_FILE_BYTES_MAX if may_be_large else RESULT_BYTES_MAX
    if len(value) > bytes_max:
        return b"", (
            f"result-too-large: {len(value)} bytes, {bytes_max} are kept; store it "
            "elsewhere and return a reference"
        )
    return value, ""


def kept(folder: str, call: Call, value: bytes) -> tuple[int, str]:
    """(bytes of a large value that is on the disk now, why it is not): one of them is empty."""
    try:
        keep_result(folder, call.task_id, call.number, value)
    except OSError as error:
        return 0, not_kept(error)
    return len(value), ""


def reason_of(error: BaseException) -> str:
    """``ValueError: why``, the last line of its traceback, bounded."""
    return bounded(traceback.format_exception_only(error)[-1].strip())


def is_good_exit(error: BaseException) -> bool:
    """Did the function end by ``sys.exit()`` or ``sys.exit(0)``?"""
    return isinstance(error, SystemExit) and error.code in (None, 0)


def exit_code_of(error: BaseException) -> int | None:
    """Of ``sys.exit(75)``; None of all else."""
    code = error.code if isinstance(error, SystemExit) else None
    return code & 0xFF if isinstance(code, int) else None


def traceback_of(error: BaseException, ours: TracebackType | None) -> str:
    """As the interpreter would print it, without our own frame ``ours``."""
    if isinstance(error, Cancelled):
        return ""
    below = ours.tb_next if ours is not None else None
    return "".join(traceback.format_exception(type(error), error, below))


def unknown(function: str, known: Mapping[str, object], token: int) -> Result:
    """The answer to a task that names what was not registered."""
    names = ", ".join(sorted(known)) or "none"
    return Result(token, bounded(f"unknown-function: {function}; the application has: {names}"))


# The beginning -----------------------------------------------------------------------------------


def load(setup: Setup) -> App:
    """The application.  Raises what its import raises, or TypeError."""
    os.chdir(setup.directory)
    # As the peer's; of an installed command that is not where it was started.
    sys.path[:] = setup.path if setup.directory in setup.path else [setup.directory, *setup.path]
    module, _, name = setup.application.partition(":")
    app: Any = importlib.import_module(module)
    for part in name.split("."):
        app = getattr(app, part)
    if not isinstance(app, App):
        raise TypeError(f"{setup.application} is a {type(app).__name__}, no raftsched.App")
    app.at_home(setup.address, setup.token)
    return app


def main() -> int:
    """Entry point: descriptors of the socket and of the shared page are the arguments."""
    link, shared = Link(int(sys.argv[1])), Shared(int(sys.argv[2]))
    sys.argv[1:] = []
    link.socket.set_inheritable(False)
    setup, *_ = link.receive()
    assert isinstance(setup, Setup)
    try:
        app = load(setup)
    except BaseException as error:
        trace = traceback_of(error, error.__traceback__)
        print(f"{setup.application} cannot be imported:\n{trace}", file=sys.stderr, flush=True)
        tail = trace.encode(errors="replace")[-TRACEBACK_BYTES:]
        link.send(Unusable(reason_of(error), tail))
        return 1
    functions = {name: registered.function for name, registered in app.functions.items()}
    coroutines = tuple(name for name, it in functions.items() if iscoroutinefunction(it))
    link.send(Ready(tuple(functions), coroutines, app.concurrency))
    begin, *rest = link.receive()
    assert isinstance(begin, Begin)
    if begin.calls_coroutines:
        from raftsched.executor.worker_loop import serve
    else:
        from raftsched.executor.worker_calls import serve
    serve(app, link, shared, setup, rest)
    return 0
