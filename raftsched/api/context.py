"""What every handler gets, and what every answer carries."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web

from raftsched.api.problems import Problem
from raftsched.core.commands import Accepted, AnyCommand, Rejected
from raftsched.core.state import State
from raftsched.peer.service import PeerService

#: Largest body of a request that is not streamed.
BODY_BYTES_MAX = 1024 * 1024
#: Longest long-poll.
WAIT_SECONDS_MAX = 60.0
_JSON = msgspec.json.Encoder()
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request whose address says it all."""


_nothings = msgspec.json.Decoder(_Nothing)


class Context:
    """One peer's service, with the helpers all handlers share."""

    def __init__(self, service: PeerService) -> None:
        self.service = service

    def headers(self) -> dict[str, str]:
        """Where this peer stands."""
        status = self.service.status()
        contact = status.last_contact_ms
        return {
            "Raftsched-Index": str(self.service.state.index),
            "Raftsched-Term": str(status.term),
            "Raftsched-Known-Leader": status.leader or "",
            "Raftsched-Last-Contact-Ms": "" if contact is None else str(contact),
            "Raftsched-Served-By": status.peer_id,
        }

    def answer(
        self, body: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> web.Response:
        """A JSON answer."""
        return web.Response(
            status=status,
            body=_JSON.encode(body),
            content_type="application/json",
            headers={**self.headers(), **(headers or {})},
        )

    async def state(self, request: web.Request) -> State:
        """The state as current as the request asks for, after its long-poll."""
        consistency = request.query.get("consistency", "linearizable")
        if consistency not in ("linearizable", "local"):
            raise Problem("invalid", "linearizable or local", pointer="?consistency")
        await self.service.read(
            "local" if consistency == "local" else "linearizable",
            min_index=integer(request, "min_index", 0, 0, 1 << 62),
        )
        if "index" in request.query:
            index = integer(request, "index", 0, 0, 1 << 62)
            await self.service.wait_index(index, seconds(request, "wait", 30.0))
        return self.service.state

    async def propose(self, command: AnyCommand) -> Any:
        """The value of an accepted command; a refusal ends the request."""
        from raftsched.api.problems import of_rejection

        outcome = await self.service.propose(command)
        if isinstance(outcome, Rejected):
            raise of_rejection(outcome)
        assert isinstance(outcome, Accepted)
        return outcome.value


def integer(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query."""
    text = request.query.get(name)
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
    text = request.query.get(name)
    if text is None:
        return default
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise Problem("invalid", 'a duration such as "30s"', pointer=f"?{name}")
    return min(WAIT_SECONDS_MAX, float(match[1]) * {"ms": 0.001, "m": 60.0}.get(match[2], 1.0))


def flag(request: web.Request, name: str) -> bool:
    """A yes-or-no of the query."""
    text = request.query.get(name, "0").lower()
    if text not in ("0", "1", "true", "false"):
        raise Problem("invalid", "0 or 1", pointer=f"?{name}")
    return text in ("1", "true")


async def body_of(request: web.Request) -> bytes:
    """The body, if it is JSON by its header and not too long."""
    if request.content_type not in ("application/json", "application/x-ndjson"):
        raise Problem(
            "unsupported-media-type", f"{request.content_type} was sent, application/json is needed"
        )
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Problem("too-large", f"a body may have {BODY_BYTES_MAX} bytes") from None


async def no_fields(request: web.Request) -> None:
    """Read a body that has nothing to say: empty or ``{}``."""
    decode(_nothings, await body_of(request) or b"{}")


def decode(decoder: Any, data: bytes, at: str = "") -> Any:
    """The parsed body; a problem with the pointer for what is wrong in it."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        # ``[...]`` is a value of a mapping whose name msgspec does not tell.
        path = path.rstrip("`").replace("[...]", "").replace(".", "/")
        pointer = re.sub(r"\[(\d+)\]", r"/\1", path)
        unknown = re.search(r"unknown field `([^`]+)`", message)
        if unknown:
            pointer += "/" + unknown[1].replace("~", "~0").replace("/", "~1")
            message += "; it is not known to this version"
        raise Problem("invalid", message, pointer=f"{at}{pointer}" or "/") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("malformed-json", str(error)) from None
