"""What a task has to do with others: whose end it waits for, and the subtasks it consists of."""

from __future__ import annotations

import msgspec

from raftsched.core.words import Word


class On(Word):
    """What end of a task another one waits for."""

    SUCCESS = "success"
    #: Any end but that.
    FAILURE = "failure"
    ALWAYS = "always"


class Dependency(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A task whose end another one waits for, and what end."""

    task_id: str
    on: On = On.SUCCESS


#: Of a `Speculation`: the largest factor, in thousandths, and the largest time.
FACTOR_PERMILLE_MAX = 1_000_000
SPECULATION_MS_MAX = 1 << 50
#: For ``Fork.failures_max``: however many fail.
ANY_NUMBER = -1


class Speculation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When a subtask that takes too long gets a twin.  Since version 7."""

    #: So many times the median of those that succeeded, in thousandths.
    factor_permille: int = 2_000
    #: Not before so many of all subtasks have succeeded, in thousandths.
    share_permille: int = 500
    #: Not before it has run for so long.
    min_ms: int = 5_000

    @property
    def is_sane(self) -> bool:
        """Would no number of it make nonsense?"""
        return (
            1_000 <= self.factor_permille <= FACTOR_PERMILLE_MAX
            and 0 <= self.share_permille <= 1_000
            and 0 <= self.min_ms <= SPECULATION_MS_MAX
        )


class Fork(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A task that runs only as its subtasks do, and how it goes by them.  Since version 7."""

    #: msgpack of a list of `NewTask`; their ids are names within it, and so are those that they
    #: depend on.  Empty once they were made.
    parts: bytes = b""
    #: Subtasks that are let run at once; 0: as many as `forks.WINDOW`.
    parallel_max: int = 0
    #: It succeeds though so many subtasks did not; `ANY_NUMBER`: however many.
    failures_max: int = 0
    #: The others run on after more than that did not succeed.
    is_patient: bool = False
    #: Its subtasks come by `AddSubtasks`, until one says that it was the last.  Also of one that is
    #: being deleted, since version 8: what is left of its subtasks is not all.
    is_open: bool = False
    #: The task whose result or output says what they are; empty: who submitted it does.
    items_from: str = ""
    #: Of a fork whose subtasks may have twins.
    speculation: Speculation | None = None
    # Set by ``apply``:
    #: Of ``parts`` as they were asked for, 16 bytes.
    parts_hash: bytes = b""
    #: Its subtasks may run.
    has_begun: bool = False
    #: It was stopped because too many failed, or because they cannot be made.
    has_failed: bool = False
    #: When it is over if no more subtasks came by then; 0: no matter.
    open_until: int = 0
