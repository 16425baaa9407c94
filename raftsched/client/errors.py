"""What the clients raise.

::

    ClientError
    +-- BadAddress           an endpoint is not ``host:port`` or an http(s) URL
    +-- NoToken              a token file was named and cannot be read
    +-- ConnectionFailed     no endpoint answered: surely not applied
    +-- OutcomeUnknown       sent, and no final answer in time: may or may not be applied (504)
    +-- WaitTimeout          the thing waited for did not happen in time
    +-- BadReply             something answered that is not this API
    +-- SubmissionsFailed    a pipeline was left, and nobody had looked at these errors
    +-- ProblemError         the API refused or failed, as application/problem+json
        +-- InvalidRequest   400, 405, 413, 415, 422
        |   +-- KeyReused    the idempotency key was used for another request
        +-- Unauthorized     401: no token, or one the cluster does not know
        +-- Forbidden        403: the token's role is too low, or Host/Origin not allowed
        +-- NotFound         404
        +-- Conflict         409, 412
        |   +-- TaskTerminal     the task has ended
        |   +-- TaskNotTerminal  the task has not ended yet
        +-- OutputGone       410, 502: rotated away, or its node does not answer
        +-- Overloaded       429: surely not applied
        +-- Unavailable      503: surely not applied
        |   +-- NoLeader     nobody leads
        +-- ServerFault      any other status

``error.applied`` says what is certain: ``False`` (surely not applied) or ``"unknown"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Tries of less than this are not worth a word.
TRIED_SECONDS_TOLD = 0.1


class ClientError(Exception):
    """Trouble between the caller and the cluster; the subclass says which."""

    #: ``False``: surely nothing was changed.  ``"unknown"``: it may have been.
    applied: bool | str = False


class BadAddress(ClientError, ValueError):
    """An endpoint that cannot be one."""


class NoToken(ClientError):
    """A token file was named and cannot be used."""


class ConnectionFailed(ClientError):
    """No endpoint could be reached before the deadline; surely not applied."""


class OutcomeUnknown(ClientError):
    """The request was sent and its fate is not known; repeat it with the same key to find out."""

    applied = "unknown"

    def __init__(self, message: str, *, idempotency_key: str = "") -> None:
        super().__init__(message)
        #: Send it again with this key: it takes effect once.
        self.idempotency_key = idempotency_key


class WaitTimeout(ClientError):
    """The deadline of a wait passed; nothing was changed by waiting."""


class BadReply(ClientError):
    """The answer is not one of this API: another server at that address, or a proxy in between."""

    applied = "unknown"


class SubmissionsFailed(ClientError):
    """Submissions of a pipeline failed, and nobody looked at their errors."""

    def __init__(self, errors: Sequence[Exception], count: int) -> None:
        super().__init__(f"{count} submissions failed; the first: {errors[0]}")
        #: The first ones.
        self.errors = list(errors)
        #: How many there are.
        self.count = count
        if any(getattr(error, "applied", "unknown") for error in errors):
            self.applied = "unknown"


class ProblemError(ClientError):
    """The API's own answer that it did not do what was asked."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        #: An earlier try of the same request may have been applied before this refusal.
        self.after_unknown = False
        #: Stable word; ``/v1/problems/{code}`` explains it.
        self.code = str(problem.get("code") or f"http-{status}")
        self.detail = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        self.request_id = str(problem.get("request_id") or "")
        self.leader_hint = problem.get("leader_hint")
        #: ``{"pointer", "message"}`` of each field that was refused.
        self.errors: list[dict[str, Any]] = [
            item for item in problem.get("errors") or [] if isinstance(item, dict)
        ]
        self.applied = problem.get("applied", False)
        self.problem = dict(problem)
        super().__init__(self._text())

    def _text(self) -> str:
        text = self.detail
        title = str(self.problem.get("title") or "")
        if title and not any(c.isspace() for c in text):
            # A bare name says which, not what.
            text = f"{title}: {text}"
        fields = "; ".join(
            f"{item.get('pointer', '')}: {item.get('message', '')}" for item in self.errors[:5]
        )
        if not fields or fields in text:
            return text
        if len(self.errors) == 1 and self.errors[0].get("message") == self.detail:
            return fields
        return f"{text} ({fields})"

    def after(self, seconds: float, unreachable: Sequence[str], asked: int) -> ProblemError:
        """This same error, saying also how long it was tried and who did not answer."""
        notes = [f"tried for {seconds:.1f} s"] if seconds >= TRIED_SECONDS_TOLD else []
        if unreachable:
            names = ", ".join(unreachable)
            notes.append(f"{len(unreachable)} of {asked} peers do not answer: {names}")
        if notes:
            self.args = (f"{self} ({'; '.join(notes)})",)
        return self


class InvalidRequest(ProblemError):
    """The request itself is wrong; sending it again does not help."""


class KeyReused(InvalidRequest):
    """The idempotency key belongs to another request."""


class Unauthorized(ProblemError):
    """No token was sent, or one that the cluster does not know."""


class Forbidden(ProblemError):
    """The token may not do this, or the address used is not allowed."""


class NotFound(ProblemError):
    """There is no such thing, or no longer."""


class NoResult(NotFound):
    """The task left no result, or none yet."""


class Conflict(ProblemError):
    """The thing is not in a state that allows this."""


class TaskTerminal(Conflict):
    """The task has ended already."""


class TaskNotTerminal(Conflict):
    """The task has not ended yet."""


class OutputGone(ProblemError):
    """The output was rotated away, or the node that has it does not answer."""


class Overloaded(ProblemError):
    """A bound was reached; surely not applied."""


class Unavailable(ProblemError):
    """The cluster cannot do it just now; surely not applied."""


class NoLeader(Unavailable):
    """Nobody leads the cluster."""


class ReplicaDivergence(Unavailable):
    """The peers' copies of the state differ; somebody has to act before anything is taken."""


class ServerFault(ProblemError):
    """The server failed in a way it has no word for."""


#: Code -> type, where it says more than the status.
_BY_CODE: dict[str, type[ProblemError]] = {
    "idempotency-key-reused": KeyReused,
    "task-terminal": TaskTerminal,
    "task-not-terminal": TaskNotTerminal,
    "no-leader": NoLeader,
    "no-result": NoResult,
    "replica-divergence": ReplicaDivergence,
}

_BY_STATUS: dict[int, type[ProblemError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: InvalidRequest,
    409: Conflict,
    410: OutputGone,
    412: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Overloaded,
    502: OutputGone,
    503: Unavailable,
}


def problem_error(status: int, problem: Mapping[str, Any]) -> ProblemError:
    """The exception for a problem document: by ``code`` first, else by status."""
    kind = _BY_CODE.get(str(problem.get("code"))) or _BY_STATUS.get(status, ServerFault)
    return kind(status, problem)
