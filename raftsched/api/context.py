"""What every handler gets, and what every answer carries."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import Any

import msgspec
from aiohttp import hdrs, web

from raftsched.api.problems import Problem, of_rejection
from raftsched.core.commands import AnyCommand
from raftsched.core.outcomes import Accepted, Outcome, Rejected
from raftsched.core.state import State
from raftsched.peer.ids import uuid7
from raftsched.peer.service import PeerService

#: Largest body of a request that is not streamed.
BODY_BYTES_MAX = 1024 * 1024
#: A change of a row that somebody else changes meanwhile is tried so often.
TRIES_MAX = 5
#: Longest long-poll.
WAIT_SECONDS_MAX = 60.0
_JSON = msgspec.json.Encoder()
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request whose address says it all."""


_plain = msgspec.json.Decoder()
_nothings = msgspec.json.Decoder(_Nothing)


class Context:
    """One peer's service, with the helpers all handlers share."""

    #: Of some try of a command the outcome was not known, and it was tried again.
    was_unknown = False

    def __init__(self, service: PeerService, scanning: asyncio.Lock | None = None) -> None:
        self.service = service
        #: Held by the one list that may look at rows in this pass of the loop.
        self.scanning = scanning or asyncio.Lock()
        #: The headers that say where this peer stands, but the index; None: to be asked for.
        self._standing: dict[str, str] | None = None

    def headers(self) -> dict[str, str]:
        """Where this peer stands; a dictionary of the caller's own."""
        standing = self._standing
        if standing is None:
            status = self.service.status()
            contact = status.last_contact_ms
            self._standing = standing = {
                "Raftsched-Term": str(status.term),
                "Raftsched-Known-Leader": status.leader or "",
                "Raftsched-Last-Contact-Ms": "" if contact is None else str(contact),
                "Raftsched-Served-By": status.peer_id,
            }
            # One entry resolves many requests: those of one pass share what is only a hint.
            asyncio.get_running_loop().call_soon(self._forget_standing)
        state = self.service.state
        headers = {"Raftsched-Index": str(state.index), **standing}
        if state.suspect:
            headers["Raftsched-Suspect"] = "true"
        return headers

    def _forget_standing(self) -> None:
        self._standing = None

    def answer(
        self, body: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> web.Response:
        """A JSON answer."""
        carried = self.headers()
        carried["Content-Type"] = "application/json"
        if headers:
            carried.update(headers)
        return web.Response(status=status, body=_JSON.encode(body), headers=carried)

    async def state(self, request: web.Request, task_id: str = "") -> State:
        """The state as current as the request asks for, after its long-poll.

        The poll waits for a change of the task, or of anything.
        """
        if not has_query(request):
            return await self.service.read()
        consistency = request.query.get("consistency", "linearizable")
        if consistency not in ("linearizable", "local"):
            raise Problem("invalid", "linearizable or local", pointer="?consistency")
        await self.service.read(
            "local" if consistency == "local" else "linearizable",
            min_index=integer(request, "min_index", 0, 0, 1 << 62),
        )
        if "index" in request.query:
            index = integer(request, "index", 0, 0, 1 << 62)
            wait_seconds = seconds(request, "wait", 30.0)
            if task_id:
                await self.service.wait_changed(task_id, index, wait_seconds)
            else:
                await self.service.wait_index(index, wait_seconds)
        return self.service.state

    def now_ms(self) -> int:
        """The cluster's time, about: what the state has stands still while nothing happens."""
        return max(self.service.state.now, time.time_ns() // 1_000_000)

    def new_id(self) -> str:
        """An id that nobody else has."""
        return uuid7(self.service.state.now)

    async def read(self) -> State:
        """The state as it is now.  Raises PeerError."""
        return await self.service.read()

    async def outcome(self, command: AnyCommand) -> Outcome:
        """What became of a command.  Raises PeerError."""
        return await self.service.propose(command)

    async def propose(self, command: AnyCommand) -> Any:
        """The value of an accepted command; a refusal ends the request."""
        outcome = await self.outcome(command)
        if isinstance(outcome, Rejected):
            raise of_rejection(outcome, command, self.service.state.nodes)
        assert isinstance(outcome, Accepted)
        return outcome.value


def has_query(request: web.Request) -> bool:
    """May there be a query?  Most requests have none, and looking for it costs a parse."""
    return "?" in request.raw_path


def _parameter(request: web.Request, name: str) -> str | None:
    return request.query.get(name) if has_query(request) else None


def integer(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query."""
    text = _parameter(request, name)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise Problem("invalid", f"a whole number from {low} to {high}", pointer=f"?{name}")
    return number


def seconds(request: web.Request, name: str, default: float) -> float:
    """A duration of the query, at most ``WAIT_SECONDS_MAX``."""
    text = _parameter(request, name)
    if text is None:
        return default
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise Problem("invalid", 'a duration such as "30s"', pointer=f"?{name}")
    return min(WAIT_SECONDS_MAX, float(match[1]) * {"ms": 0.001, "m": 60.0}.get(match[2], 1.0))


def flag(request: web.Request, name: str) -> bool:
    """A yes-or-no of the query."""
    text = _parameter(request, name)
    if text is None:
        return False
    text = text.lower()
    if text not in ("0", "1", "true", "false"):
        raise Problem("invalid", "0 or 1", pointer=f"?{name}")
    return text in ("1", "true")


async def body_of(request: web.Request) -> bytes:
    """The body, if it is JSON by its header and not too long."""
    if request.headers.get(
        hdrs.CONTENT_TYPE
    ) != "application/json" and request.content_type not in (
        "application/json",
        "application/x-ndjson",
    ):
        raise Problem(
            "unsupported-media-type", f"{request.content_type} was sent, application/json is needed"
        )
    try:
        # A small body is there with its head, and then there is nothing to wait for.
        data = request.content.read_nowait() if request.content.is_eof() else await request.read()
    except web.HTTPRequestEntityTooLarge:
        data = None
    if data is None or len(data) > BODY_BYTES_MAX:
        raise Problem("too-large", f"a body may have {BODY_BYTES_MAX} bytes")
    return data


async def no_fields(request: web.Request) -> None:
    """Read a body that has nothing to say: empty or ``{}``."""
    decode(_nothings, await body_of(request) or b"{}")


def decode(decoder: Any, data: bytes) -> Any:
    """The parsed body; a problem with the pointer for what is wrong in it."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        # It is looked at only as far as its first fault: what follows may not even be JSON.
        _check_json(data)
        message, _, path = str(error).partition(" - at `$")
        # ``[...]`` is a value of a mapping whose name msgspec does not tell.
        path = path.rstrip("`").replace("[...]", "").replace(".", "/")
        pointer = re.sub(r"\[(\d+)\]", r"/\1", path)
        unknown = re.search(r"unknown field `([^`]+)`", message)
        if unknown:
            pointer += pointer_of(unknown[1])
            message += "; it is not known to this version"
        raise Problem("invalid", message, pointer=pointer or "/") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(data, error) from None
    except RecursionError:
        raise Problem("invalid", "it is nested too deep", pointer="/") from None


def pointer_of(name: str) -> str:
    """The JSON pointer (RFC 6901) to a field of the document."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _check_json(data: bytes) -> None:
    try:
        _plain.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(data, error) from None
    except RecursionError:
        pass


def _malformed(data: bytes, error: Exception) -> Problem:
    """Why the body is not JSON; of a half surrogate pair msgspec says that data is missing."""
    message = str(error)
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _plain.decode(_SURROGATE.sub(b"?", data))
        message = r"an escape such as \ud800 is half of a surrogate pair: it is no character"
    return Problem("malformed-json", message)
