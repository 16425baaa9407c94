"""What a runner and a worker process of an application say to each other, over a socket pair.

Frames (``frames``) are at most ``FRAME_BYTES_MAX`` long.  Calls and
results travel as lists: one message carries what is ready, so that a short call costs no system
call of its own.  Both sides are the same version: a worker never outlives its runner.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from raftsched.core.model import RESULT_BYTES_MAX
from raftsched.executor import frames

FRAME_BYTES_MAX = 16 * 1024 * 1024
#: Calls or results in one message have about so many bytes; one alone may have more.
PART_BYTES = 512 * 1024
#: What one result, with its output's tail and its reason, takes in a frame beside its JSON.
RESULT_BYTES = 3_000


class Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Call this function, after those that were asked for before."""

    token: int
    task_id: str
    number: int
    #: ``module:name``, as the application registered it.
    function: str
    #: JSON: a list, and an object.
    args: bytes
    kwargs: bytes
    #: Its output goes on after that of the program before it.
    appends: bool = False
    #: A file that says what became of the tasks that it depends on; empty: it depends on none.
    inputs: str = ""
    #: See `messages.StartAttempt`.
    files_result: bool = False
    #: Bytes from which on it is too large for that.
    result_max: int = RESULT_BYTES_MAX


class Result(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a call ended."""

    token: int
    #: Why it failed; empty when it did not.
    reason: str = ""
    #: JSON that it returned; empty: ``null``.
    value: bytes = b""
    #: The last bytes that it wrote, and how many there were.
    tail: bytes = b""
    size: int = 0
    #: Of a function that ended by ``sys.exit``.
    exit_code: int | None = None
    #: Bytes of a value that was kept as a file.
    value_bytes: int = 0


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far a call says that it is, in thousandths."""

    token: int
    permille: int
    text: str


class Message(msgspec.Struct, frozen=True, array_like=True, tag_field="kind"):
    """Base of all messages."""


class Setup(Message, frozen=True, tag=1):
    """The first message to a worker: what it is to import, and where from."""

    #: ``package.module:name``.
    application: str
    directory: str
    #: ``sys.path`` of the peer.
    path: tuple[str, ...]
    #: Where output files are.
    output: str
    #: Where the peer answers, and the cluster's token; see `messages.Applications`.
    address: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Setup({self.application!r})"


class Ready(Message, frozen=True, tag=2):
    """The application is imported; these are its functions."""

    functions: tuple[str, ...]
    #: Those that are coroutines.
    coroutines: tuple[str, ...]
    #: How many of these a worker runs at once.
    concurrency: int


class Unusable(Message, frozen=True, tag=3):
    """The application cannot be imported; the worker ends."""

    reason: str
    traceback: bytes


class Begin(Message, frozen=True, tag=4):
    """A worker calls functions of one kind, all its life."""

    calls_coroutines: bool


class Calls(Message, frozen=True, tag=5):
    """Call these, in this order; coroutines at once."""

    calls: tuple[Call, ...]


class Cancel(Message, frozen=True, tag=6):
    """Tell a call that it is to end; one that has not begun is given back."""

    token: int


class Look(Message, frozen=True, tag=7):
    """Say what is unsaid, name the output file if something is in it, and tell of progress."""

    #: Also give back what has not begun.
    recalls: bool = False


class Leave(Message, frozen=True, tag=8):
    """End in order: nothing was asked that is not answered."""


class Results(Message, frozen=True, tag=9):
    """News of calls."""

    results: tuple[Result, ...] = ()
    #: How long the worker was busy with these, in microseconds.
    busy_us: int = 0
    #: Tokens of calls that have not begun and will not.
    returned: tuple[int, ...] = ()
    progress: tuple[Progress, ...] = ()
    #: The worker has grown old, and wants no more calls.
    retires: bool = False


# The memory that a worker shares with its runner: two words (the token of the call that began last;
# how many bytes follow), and the results that the runner was not sent yet, each as a frame.
SHARED_HEAD_BYTES = 16
SHARED_BYTES = SHARED_HEAD_BYTES + 2 * PART_BYTES

ToWorker = Setup | Begin | Calls | Cancel | Look | Leave
ToRunner = Ready | Unusable | Results

_encoder = msgspec.msgpack.Encoder()
M = TypeVar("M")


def encode(message: ToWorker | ToRunner) -> bytes:
    """The message as a frame."""
    return frames.pack(_encoder.encode(message))


class Frames(Generic[M]):
    """Whole messages out of what a socket gives."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[M]) -> None:
        self._decode = decoder.decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[M]:
        """What has become whole.  Raises msgspec.DecodeError or ValueError."""
        self._buffer += data
        return frames.split(self._buffer, self._decode, FRAME_BYTES_MAX)


_result_encoder = msgspec.msgpack.Encoder()


def encode_result(result: Result) -> bytes:
    """A result as it is kept in the shared memory."""
    return frames.pack(_result_encoder.encode(result))


def kept_results(data: bytes) -> list[Result]:
    """What a worker that died had done and not said.  Raises msgspec.DecodeError or ValueError."""
    return Frames(msgspec.msgpack.Decoder(Result)).feed(data)


def from_worker() -> Frames[ToRunner]:
    """The runner's side."""
    return Frames(msgspec.msgpack.Decoder(ToRunner))


def to_worker() -> Frames[ToWorker]:
    """The worker's side."""
    return Frames(msgspec.msgpack.Decoder(ToWorker))
