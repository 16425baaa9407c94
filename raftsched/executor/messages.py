"""What a peer and its runner say to each other over the runner's socket.

Frames (``frames``) are at most ``FRAME_BYTES_MAX`` long; lists that can be longer are sent in
parts.  Both sides run the same version or refuse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from raftsched.core.model import RESULT_BYTES_MAX
from raftsched.core.spec import TaskSpec
from raftsched.executor import frames

#: Version of these messages; a runner of another one is asked to end, and has a lease to do so.
RUNNER_PROTOCOL = 5
FRAME_BYTES_MAX = 16 * 1024 * 1024
#: Reports, or attempts of an inventory, in one message: some 5 kB each at most.
PART_MAX = 1_000
#: Characters of the reason in a report.
REASON_CHARS_MAX = 500
_ELLIPSIS = " ... "


class StartAttempt(msgspec.Struct, frozen=True, array_like=True):
    """Run this."""

    token: int
    task_id: str
    number: int
    #: What runs, and how.
    spec: TaskSpec
    #: Length of its lease in milliseconds, counted like the node's; 0: the node's.
    lease_ms: int = 0
    #: It is not ended when its lease runs out, but when the peer says so.
    is_kept: bool = False
    #: A file that says what became of the tasks that it depends on; empty: it depends on none.
    inputs: str = ""
    #: A result that is too large to be replicated is kept as a file; else it fails the attempt.
    files_result: bool = False
    #: Bytes from which on it is too large for that.
    result_max: int = RESULT_BYTES_MAX


class AttemptReport(msgspec.Struct, frozen=True, array_like=True):
    """What became of an attempt."""

    token: int
    task_id: str
    number: int
    #: ``started``, ``progress`` or ``finished``; the fields below are of a finished one.
    phase: str
    #: ``succeeded | failed | timed_out | cancelled | lost`` (its lease ran out).
    status: str = ""
    run_ms: int = 0
    exit_code: int | None = None
    signal: int = 0
    #: `bounded`.
    reason: str = ""
    output_tail: bytes = b""
    output_bytes: int = 0
    #: JSON that it left as its result, at most ``RESULT_BYTES_MAX``.
    result: bytes = b""
    #: How far it says that it is, in thousandths, and in words; of phase ``progress``.
    permille: int = 0
    text: str = ""
    #: Bytes of the result that is kept as a file, see `core.model.Attempt`.
    result_bytes: int = 0


class Running(msgspec.Struct, frozen=True, array_like=True):
    """An attempt the runner has: under way, or ended and not forgotten."""

    token: int
    task_id: str
    number: int
    finished: AttemptReport | None = None


class Message(msgspec.Struct, frozen=True, array_like=True, tag_field="kind"):
    """Base of all messages."""


class Hello(Message, frozen=True, tag=1):
    """The runner's first message on a connection, followed by others while there is ``more``."""

    protocol: int
    incarnation: str
    inventory: tuple[Running, ...]
    more: bool = False
    #: When it started, nothing of earlier runners of its directory could still run.
    is_clean: bool = True


class Start(Message, frozen=True, tag=2):
    """Run these attempts, each when its turn comes; a token the runner has is passed over."""

    attempts: tuple[StartAttempt, ...]
    #: How many may run at once, of these and all others, from now on.
    slots: int


class Stop(Message, frozen=True, tag=3):
    """End an attempt: SIGTERM, after its grace SIGKILL, to its whole process group."""

    token: int
    reason: str


class Renew(Message, frozen=True, tag=4):
    """The node's leases are counted from this instant of CLOCK_MONOTONIC, in milliseconds."""

    granted_ms: int
    #: Length of the node's own lease, of attempts that have none.
    lease_ms: int


class Forget(Message, frozen=True, tag=5):
    """The state has answered the reports of these attempts."""

    tokens: tuple[int, ...]


class Quit(Message, frozen=True, tag=6):
    """End, if nothing runs."""


class Reports(Message, frozen=True, tag=7):
    """The runner's news."""

    reports: tuple[AttemptReport, ...]


class Ping(Message, frozen=True, tag=8):
    """Does the runner still do anything?"""


class Pong(Message, frozen=True, tag=9):
    """The runner's answer to a ping, at once."""


class Applications(Message, frozen=True, tag=20):
    """Have workers of these applications, and of no others."""

    #: Of the peer's life: another one has them imported anew.
    generation: str
    #: Each ``package.module:name``.
    applications: tuple[str, ...]
    #: Processes for ordinary functions, of each.
    workers: int
    #: Where they start, and their ``sys.path``: the peer's.
    directory: str
    path: tuple[str, ...]
    #: Where the peer answers, and the cluster's token: for what workers fetch and submit.  They are
    #: in no file, environment or command line.
    address: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Applications({self.applications!r})"


class Configure(Message, frozen=True, tag=21):
    """How attempts of this node are run from now on."""

    #: What requests may reach, see `addresses.Rules`.
    http_private: bool
    http_metadata: bool
    #: A directory of cgroup v2 for the attempts' groups; empty: see `cgroup.delegated`.
    cgroup: str = ""


AnyMessage = (
    Hello | Start | Stop | Renew | Forget | Quit | Reports | Ping | Pong | Applications | Configure
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    """The message as a frame."""
    return frames.pack(_encoder.encode(message))


def start_frames(attempts: Sequence[StartAttempt], slots: int) -> Iterator[bytes]:
    """As few frames as hold these attempts, in order, each within the bound."""
    frame = encode(Start(tuple(attempts), slots))
    if len(frame) - frames.LENGTH.size <= FRAME_BYTES_MAX or len(attempts) < 2:
        yield frame
        return
    half = len(attempts) // 2
    yield from start_frames(attempts[:half], slots)
    yield from start_frames(attempts[half:], slots)


def bounded(reason: str) -> str:
    """The reason, short enough to replicate: a long one loses its middle."""
    if len(reason) <= REASON_CHARS_MAX:
        return reason
    begin = REASON_CHARS_MAX // 2
    end = REASON_CHARS_MAX - begin - len(_ELLIPSIS)
    return reason[:begin] + _ELLIPSIS + reason[-end:]


def split(buffer: bytearray) -> list[AnyMessage]:
    """Take all whole messages off a buffer.  Raises msgspec.DecodeError or ValueError."""
    return frames.split(buffer, _decoder.decode, FRAME_BYTES_MAX)
