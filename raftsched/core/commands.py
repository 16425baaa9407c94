"""What can be asked of the replicated state; what it answers is in ``outcomes``.

An entry of the Raft log is one `Entry`: the commands of one pass of the leader's loop, under one
time stamp.  Commands carry lists, so that a burst costs one entry.  Every command is one move a
caller can name; none of them is trusted, `machine.apply` verifies each against the state.
"""

from __future__ import annotations

import msgspec

from raftsched.core.model import Eligibility, Limit, NewTask, Queue, Settings
from raftsched.core.schedule import Schedule

#: The highest version this code applies, and writes once it is in force (``versions``).
ENTRY_VERSION = 8


class Command(msgspec.Struct, frozen=True, array_like=True, tag_field="kind"):
    """Base of all commands."""


class SubmitTasks(Command, frozen=True, tag=1):
    """Create tasks; all of them or, unless ``atomic``, those that pass."""

    tasks: tuple[NewTask, ...]
    namespace: str = "default"
    #: Idempotency key; empty for none.  Scope: the namespace.
    key: str = ""
    request_hash: bytes = b""
    atomic: bool = False


class CancelTask(Command, frozen=True, tag=2):
    """End a task; a running one becomes ``cancelling`` until its node confirms."""

    task_id: str
    reason: str = ""


class PauseTask(Command, frozen=True, tag=3):
    """Keep a task from being assigned; a running attempt goes on."""

    task_id: str


class ResumeTask(Command, frozen=True, tag=4):
    """Undo a pause."""

    task_id: str


class DeleteTask(Command, frozen=True, tag=5):
    """Remove a terminal task and its attempts."""

    task_id: str


class RegisterNode(Command, frozen=True, tag=6):
    """A node says that it is there, with its capacity.

    A new incarnation with ``clean`` says that nothing of the earlier ones runs any more: their
    attempts are lost at once.  The same incarnation again only refreshes the row (status ``up``).
    A new one is taken only if ``replaces`` names the one that stands in the row: a registration
    that was sent long ago and arrives behind a later one is stale, also if it never counted.
    """

    node_id: str
    incarnation: str
    address: str
    cpu_milli: int
    memory_bytes: int
    slots: int
    clean: bool
    version: str = ""
    labels: dict[str, str] = {}
    #: The incarnation that the sender saw in this node's row; empty if it saw no row.
    replaces: str = ""
    # Since version 4.
    lease_ms: int = 0
    resources: tuple[tuple[str, int], ...] = ()


class Assignment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Put the next attempt of a task on a node."""

    task_id: str
    node_id: str
    incarnation: str


class AssignTasks(Command, frozen=True, tag=7):
    """The planner's proposals; each is verified again and refused on its own."""

    assignments: tuple[Assignment, ...]


class AttemptStarted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node started the process of an attempt."""

    task_id: str
    token: int


class AttemptFinished(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node saw the end of an attempt."""

    task_id: str
    token: int
    #: A terminal ``AttemptStatus`` word; ``lost``: the node ended it as its lease ran out.
    status: str
    #: How long the process ran; the state derives the start from it.
    run_ms: int = 0
    exit_code: int | None = None
    signal: int = 0
    reason: str = ""
    output_tail: bytes = b""
    output_bytes: int = 0
    # Since version 4.
    result: bytes = b""
    # Since version 7.
    result_bytes: int = 0


class AttemptProgress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far an attempt says that it is."""

    task_id: str
    token: int
    #: 0 to 1000.
    permille: int
    text: str = ""


class ReportAttempts(Command, frozen=True, tag=8):
    """What became of attempts on one node; a report with an old token is refused by item."""

    node_id: str
    incarnation: str
    started: tuple[AttemptStarted, ...] = ()
    finished: tuple[AttemptFinished, ...] = ()
    # Since version 4.
    progress: tuple[AttemptProgress, ...] = ()


class NodeLost(Command, frozen=True, tag=9):
    """The leader's verdict: nothing of this incarnation runs any more; its attempts are lost.

    Only the leader of ``term`` could know; in an entry of another term it is refused.
    """

    node_id: str
    incarnation: str
    reason: str = ""
    term: int = 0


class SetEligibility(Command, frozen=True, tag=10):
    """Cordon or uncordon a node."""

    node_id: str
    eligibility: Eligibility


class ApplyRetention(Command, frozen=True, tag=11):
    """Remove expired keys and finished tasks past their retention, at most ``limit`` of each."""

    limit: int = 1_000


class UpdateSettings(Command, frozen=True, tag=12):
    """Replace the replicated settings."""

    settings: Settings


class NodeLeft(Command, frozen=True, tag=13):
    """A node says good-bye after its last attempt ended: it is not lost and not assignable."""

    node_id: str
    incarnation: str


class ActivateVersion(Command, frozen=True, tag=16):
    """From here on the cluster is of this version, and never again of a lower one.

    Stands in an entry of the version it activates, so that a peer that does not know it stops
    before.
    """

    version: int


class ResetClock(Command, frozen=True, tag=17):
    """Set ``state.now``, also backwards; what was stamped stays as it is."""

    #: Milliseconds since the Unix epoch.
    now: int
    #: Who asked, for the logs of all peers.
    by: str = ""


class CheckReplicas(Command, frozen=True, tag=14):
    """Compare the replicas: every peer freezes its digest behind this entry, and reports it."""

    #: Ids of all voting peers, as the proposer knows them.
    voters: tuple[str, ...]
    #: ``digest.FORMAT`` of the proposer; peers with another one have nothing to compare.
    format: int


class ReportDigest(Command, frozen=True, tag=15):
    """A peer's digest at the index of the latest `CheckReplicas`; of an earlier one is stale."""

    peer_id: str
    index: int
    #: 16 bytes.
    digest: bytes


class LoseAttempts(Command, frozen=True, tag=18):
    """The leader's verdict on a silent incarnation: what holds a lease no longer than that is lost.

    Idempotent tasks are lost at once, the node itself when its own lease is over.  Only the leader
    of ``term`` could know; in an entry of another term it is refused.
    """

    node_id: str
    incarnation: str
    term: int
    #: Surely no lease of at most this many milliseconds is in effect there.
    silent_ms: int
    reason: str = ""


class FireTimers(Command, frozen=True, tag=19):
    """Do what is due by ``state.now``: retries, delays, timeouts; at most ``limit`` of them."""

    limit: int = 1_000


class PutQueue(Command, frozen=True, tag=20):
    """Replace what holds for a queue."""

    queue: Queue
    #: Refused unless the row has this modify index; 0: whatever it has.
    if_index: int = 0


class DeleteQueue(Command, frozen=True, tag=21):
    """Back to the defaults; the tasks stay."""

    name: str


class CancelTasks(Command, frozen=True, tag=22):
    """End many tasks; those that have ended are passed over."""

    task_ids: tuple[str, ...]
    reason: str = ""
    #: Those that a node holds are passed over, too.
    spare_running: bool = False


class PutLimit(Command, frozen=True, tag=23):
    """Replace a limit; who holds it goes on holding it."""

    limit: Limit
    if_index: int = 0


class DeleteLimit(Command, frozen=True, tag=24):
    """Back to a mutex."""

    key: str


class SetNodeLabels(Command, frozen=True, tag=25):
    """Replace the labels that a node was given at run time."""

    node_id: str
    labels: dict[str, str]


class DrainNode(Command, frozen=True, tag=26):
    """Give a node nothing more, and take back what it holds: now or after ``patience_ms``."""

    node_id: str
    patience_ms: int = 0


class EditTask(Command, frozen=True, tag=27):
    """Replace what a task is that does not run; its id, place in the order and attempts stay."""

    task: NewTask
    #: Refused unless the row has this modify index; 0: whatever it has.
    if_index: int = 0


class RunNow(Command, frozen=True, tag=28):
    """End the wait of a task: its delay, its backoff, its pause."""

    task_id: str


class PutSchedule(Command, frozen=True, tag=29):
    """Create a schedule, or replace what and when; how far it is stays."""

    schedule: Schedule
    #: Refused unless the row has this modify index; 0: whatever it has.
    if_index: int = 0
    #: Refused if there is one.
    is_new: bool = False


class DeleteSchedule(Command, frozen=True, tag=30):
    """Remove a schedule with its slots; its tasks stay, or are told to end."""

    name: str
    ends_tasks: bool = False
    #: Refused unless the row has this modify index; 0: whatever it has.
    if_index: int = 0


class PauseSchedule(Command, frozen=True, tag=31):
    """Nothing of it fires, or it goes on: what was due meanwhile is passed over."""

    name: str
    paused: bool = True


class Fire(msgspec.Struct, frozen=True, array_like=True):
    """What the leader reckoned for one schedule: instants that are due, and the one after them."""

    schedule: str
    #: Of the schedule it reckoned with.
    version: int
    #: What the row says is next: refused if it says something else.
    next_at: int
    #: Ascending, behind those that are passed over.
    instants: tuple[int, ...]
    #: The first instant that is not due yet; 0: none ever comes.
    following: int
    #: Instants before them that are too late, or were due during a pause: the first, the last, and
    #: how many.
    passed: tuple[int, int, int] | None = None


class FireSlots(Command, frozen=True, tag=32):
    """Make tasks of what is due; each fire is accepted or refused on its own."""

    fires: tuple[Fire, ...]


class TriggerSchedule(Command, frozen=True, tag=33):
    """Run it now, beside its instants."""

    name: str
    #: Idempotency key; empty for none.
    key: str = ""


class BackfillSchedule(Command, frozen=True, tag=34):
    """Run it for instants of the past that have no run, one after the other."""

    name: str
    version: int
    #: Ascending.
    instants: tuple[int, ...]


class AddSubtasks(Command, frozen=True, tag=35):
    """More subtasks for an open fork; those that are there already are passed over."""

    task_id: str
    #: Number of the first of these, counted from 0.
    first: int
    #: Without ids, and with nothing in an extra but what they are another try of.
    tasks: tuple[NewTask, ...]
    #: No more come.
    is_last: bool = False
    #: They cannot be made, and why: the task fails.
    failure: str = ""


class PutTemplate(Command, frozen=True, tag=36):
    """Create a template, or replace its document."""

    name: str
    #: As JSON; opaque here.
    document: bytes
    namespace: str = "default"
    #: Refused unless the row has this modify index; 0: whatever it has.
    if_index: int = 0
    #: Refused if there is one.
    is_new: bool = False


class DeleteTemplate(Command, frozen=True, tag=37):
    """Remove a template; what was made of it stays."""

    name: str
    #: Refused unless the row has this modify index; 0: whatever it has.
    if_index: int = 0


class Straggler(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A subtask that takes longer than others did."""

    task_id: str
    #: Of the attempt that does.
    token: int


class Speculate(Command, frozen=True, tag=38):
    """Run subtasks a second time, each as its own twin; each is verified again on its own."""

    stragglers: tuple[Straggler, ...]


AnyCommand = (
    SubmitTasks
    | CancelTask
    | PauseTask
    | ResumeTask
    | DeleteTask
    | RegisterNode
    | AssignTasks
    | ReportAttempts
    | NodeLost
    | SetEligibility
    | ApplyRetention
    | UpdateSettings
    | NodeLeft
    | CheckReplicas
    | ReportDigest
    | ActivateVersion
    | ResetClock
    | LoseAttempts
    | FireTimers
    | PutQueue
    | DeleteQueue
    | CancelTasks
    | PutLimit
    | DeleteLimit
    | SetNodeLabels
    | DrainNode
    | EditTask
    | RunNow
    | PutSchedule
    | DeleteSchedule
    | PauseSchedule
    | FireSlots
    | TriggerSchedule
    | BackfillSchedule
    | AddSubtasks
    | PutTemplate
    | DeleteTemplate
    | Speculate
)


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Commands of one proposer, answered where they came from when the entry is applied there."""

    #: Peer id and a number that is new at every start of that peer's proposer.
    origin: str
    session: int
    #: First command's number in the session; the others follow on.
    sequence: int
    commands: tuple[AnyCommand, ...]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One log entry.  Inside it: submits, then assigns, then reports, as the leader merged them."""

    version: int
    #: The leader's term when it proposed.  An entry that stands in the log under another term was
    #: not meant to be there and is skipped whole by every peer.
    term: int
    #: The leader's stamp; ``state.now`` becomes the larger of this and itself, within bounds.
    now: int
    batches: tuple[Batch, ...]
    #: The stamp is of a clock that a majority of peers agrees with.  Since version 3.
    agreed: bool = False
