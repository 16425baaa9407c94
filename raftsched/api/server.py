"""The HTTP server: one aiohttp application around the route table, and who may come in."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from aiohttp import HttpVersion11, hdrs, web

from raftsched.api.context import BODY_BYTES_MAX, Context, has_query
from raftsched.api.parameters import check_names
from raftsched.api.problems import Problem, of_peer_error
from raftsched.api.routes import ROUTES, Handler, Route
from raftsched.peer.config import is_loopback
from raftsched.peer.errors import PeerError
from raftsched.peer.service import PeerService

logger = logging.getLogger(__name__)

#: Time for requests under way when the server stops.
SHUTDOWN_SECONDS = 2.0
#: Host headers remembered as admitted.
HOSTS_REMEMBERED_MAX = 64


class ApiServer:
    """Answers HTTP for one peer."""

    def __init__(self, service: PeerService, scanning: asyncio.Lock | None = None) -> None:
        """``scanning``: shared with whoever else looks at many rows on this loop."""
        self._service = service
        self._context = Context(service, scanning)
        self._token = service.config.token.encode()
        self._bearer = b"Bearer " + self._token
        host, _, _ = service.config.address.api.rpartition(":")
        self._hosts = {host.strip("[]"), *service.config.hosts}
        self._hosts |= {a.api.rpartition(":")[0].strip("[]") for a in service.config.peers.values()}
        #: Host headers as they were sent by requests that were let in.
        self._hosts_seen: set[str | None] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.  Raises OSError when the port is taken."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._guarded(route))
        app.router.add_route("*", "/{tail:.*}", self._nowhere)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False
        )
        await self._runner.setup()
        host, _, port = self._service.config.address.api.rpartition(":")
        await web.TCPSite(
            self._runner, host.strip("[]"), int(port), reuse_address=True, backlog=1024
        ).start()

    async def stop(self) -> None:
        """Answer what is under way, then close."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _guarded(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The route's handler behind access control, its errors as problems."""
        handler: Handler = route.handler
        context = self._context
        needs_token = route.role != "none"

        async def guarded(request: web.Request) -> web.StreamResponse:
            is_admitted = False
            try:
                self._admit(request, needs_token)
                is_admitted = needs_token
                if has_query(request):
                    check_names(request, route.query)
                return await handler(context, request)
            except Problem as problem:
                # Whoever may ask hears as of when it was refused; nobody else hears anything.
                standing = context.headers() if is_admitted else {}
                return _refuse(request, problem, standing=standing)
            except PeerError as error:
                return _refuse(request, of_peer_error(error))
            except web.HTTPRequestEntityTooLarge:
                return _refuse(
                    request, Problem("too-large", f"a body may have {BODY_BYTES_MAX} bytes")
                )
            except web.RequestPayloadError as error:
                return _refuse(
                    request, Problem("malformed-json", f"the body cannot be read: {error}")
                )
            except (web.HTTPException, ConnectionError):
                raise
            except Exception:
                request_id = _request_id(request)
                logger.exception("%s %s failed (%s)", request.method, request.path, request_id)
                return _refuse(request, Problem("internal", "see the peer's log"), request_id)

        return guarded

    def _admit(self, request: web.Request, needs_token: bool) -> None:
        """Host, Origin, token; in this order, so that a web page learns nothing."""
        headers = request.headers
        sent = headers.get(hdrs.HOST)
        if sent not in self._hosts_seen:
            host = (request.host or "").rsplit(":", 1)[0].strip("[]")
            if not is_loopback(host) and host not in self._hosts:
                raise Problem(
                    "forbidden-host", f"Host {host!r} is not this cluster; see cluster.hosts"
                )
            if sent is not None and len(self._hosts_seen) < HOSTS_REMEMBERED_MAX:
                self._hosts_seen.add(sent)
        origin = headers.get(hdrs.ORIGIN)
        if origin is not None and origin != f"http://{request.host}":
            raise Problem("forbidden-origin", f"Origin {origin!r} is not this peer's")
        if needs_token and not self._is_authorized(headers.get(hdrs.AUTHORIZATION, "")):
            raise Problem(
                "unauthorized", "send Authorization: Bearer with the token of the token file"
            )

    def _is_authorized(self, authorization: str) -> bool:
        sent = authorization.encode("utf-8", "surrogateescape")
        if hmac.compare_digest(sent, self._bearer):
            return True
        # Another spelling: the case of the scheme, more white space.
        scheme, _, given = sent.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)

    async def _nowhere(self, request: web.Request) -> web.StreamResponse:
        try:
            self._admit(request, needs_token=True)
        except Problem as refused:
            return _refuse(request, refused)
        path = request.rel_url.raw_path
        methods = sorted(r.method for r in ROUTES if _pattern(r.path).fullmatch(path))
        if methods and request.method not in methods:
            allowed = ", ".join(methods)
            problem = Problem("method-not-allowed", f"{path} takes {allowed}")
            response = problem.response(_request_id(request))
            response.headers["Allow"] = allowed
            return response
        return Problem("not-found", f"nothing at {path}").response(_request_id(request))


def _pattern(path: str) -> re.Pattern[str]:
    """A route's path as an expression."""
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"{\w+}", path)))


def _refuse(
    request: web.Request,
    problem: Problem,
    request_id: str = "",
    standing: Mapping[str, str] = MappingProxyType({}),
) -> web.Response:
    """The problem as the answer, with where this peer stands if that is said.

    An answer that has begun can only be cut off.
    """
    if request.writer.output_size > 0:
        logger.warning("%s %s cut off: %s", request.method, request.path, problem.detail)
        _abort(request)
        # What is returned now goes nowhere.
    response = problem.response(request_id or _request_id(request))
    response.headers.update(standing)
    return response


def _abort(request: web.Request) -> None:
    """Break the connection so that the body cannot be taken for a whole one."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if connection is not None and request.version < HttpVersion11:
        # Without chunks the end of the connection ends the body: it must be a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given[:100] if given.isprintable() and given else secrets.token_hex(8)
