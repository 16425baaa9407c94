"""Exit codes, and the one line that says what, which and what now.

Every command ends in one of these; nothing else in ``cli`` calls ``sys.exit``.
"""

from __future__ import annotations

from enum import IntEnum

import click

#: Code of "no such thing" -> where one finds what there is.
_WHAT_THERE_IS = {
    "unknown-task": "; 'raftsched ls' lists the tasks there are",
    "unknown-node": "; 'raftsched node ls' lists the nodes there are",
    "unknown-schedule": "; 'raftsched schedule ls' lists the schedules there are",
    "unknown-template": "; 'raftsched template ls' lists the templates there are",
    "unknown-peer": "; 'raftsched peers ls' lists the peers there are",
}


class Exit(IntEnum):
    """What the exit code tells a script; the same for every command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    AUTH = 5
    NO_LEADER = 6
    UNKNOWN = 7
    TASK_FAILED = 8
    PARTIAL = 9
    CHECK_FAILED = 10
    #: A peer cannot go on (`peer.errors`): the cluster runs a version that this program does not
    #: know; its replica is not the majority's.
    UPGRADE_NEEDED = 11
    REPLICA_DIVERGED = 12
    #: A peer was removed from the cluster.
    REMOVED = 13
    #: What a peer has on its disk is damaged: see the remedy, starting it again does not help.
    DAMAGED = 14
    #: Going on would lose what is committed; nor may the peer be started again.
    SAFETY = 15
    #: A peer that runs could not go on safely, most often for an error of its disk; it may be
    #: started again.
    CANNOT_GO_ON = 70
    INTERRUPTED = 130


class Failure(Exception):
    """A command cannot go on: one line for people, one code for scripts."""

    def __init__(self, message: str, code: Exit = Exit.ERROR) -> None:
        super().__init__(message)
        self.code = code


def complain(message: str) -> None:
    """One line on stderr, terminal or not: trouble is not a hint."""
    click.echo("raftsched: " + " ".join(message.split()), err=True)


def explain(error: Exception) -> tuple[str, Exit]:
    """The line and the code for anything a command may raise."""
    if isinstance(error, Failure):
        return str(error), error.code
    if isinstance(error, click.UsageError):
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return error.format_message() + where, Exit.USAGE
    if isinstance(error, click.ClickException):
        return error.format_message(), Exit.ERROR
    if type(error).__module__.startswith("raftsched.client."):
        return _explain_client(error)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}", Exit.ERROR
    return (
        f"internal error: {type(error).__name__}: {error}; please report it "
        "(RAFTSCHED_DEBUG=1 shows the traceback)",
        Exit.ERROR,
    )


def _explain_client(error: Exception) -> tuple[str, Exit]:
    # Imported here: an error of the client means that it is loaded already.
    from raftsched.client import errors

    text = str(error)
    if isinstance(error, errors.BadAddress):
        return text, Exit.USAGE
    if isinstance(error, errors.NoToken):
        return text, Exit.AUTH
    if isinstance(error, errors.Unauthorized):
        return f"{text}; set RAFTSCHED_TOKEN or RAFTSCHED_TOKEN_FILE", Exit.AUTH
    if isinstance(error, errors.Forbidden):
        return text, Exit.AUTH
    if isinstance(error, errors.NotFound):
        return text + _WHAT_THERE_IS.get(error.code, ""), Exit.NOT_FOUND
    if isinstance(error, errors.OutputGone):
        return text, Exit.NOT_FOUND
    if isinstance(error, errors.Conflict | errors.KeyReused):
        return text, Exit.CONFLICT
    if isinstance(error, errors.ConnectionFailed):
        return (
            f"{text}; start a cluster with 'raftsched dev' or set RAFTSCHED_ADDR",
            Exit.NO_LEADER,
        )
    if isinstance(error, errors.NoLeader):
        said = text if "lead" in text.lower() else f"no leader is known: {text}"
        return (
            f"{said}; surely not applied, try again when a majority of the peers is up",
            Exit.NO_LEADER,
        )
    if isinstance(error, errors.ReplicaDivergence):
        return text, Exit.CHECK_FAILED
    if isinstance(error, errors.Unavailable):
        return f"{text}; surely not applied, try again", Exit.NO_LEADER
    if isinstance(error, errors.OutcomeUnknown):
        key = f" (--key {error.idempotency_key})" if error.idempotency_key else ""
        return text + key, Exit.UNKNOWN
    if isinstance(error, errors.WaitTimeout):
        return text, Exit.UNKNOWN
    if isinstance(error, errors.InvalidRequest):
        return text, Exit.USAGE
    return text, Exit.ERROR
