"""A tiny HTTP server that answers as told and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Answer(NamedTuple):
    status: int = 200
    body: Any = None
    headers: dict[str, str] = {}
    #: Close the connection without a word instead of answering.
    hang_up: bool = False
    #: Say so many bytes more than are sent, and close the connection then.
    promised: int = 0


#: A task as it is answered.
TASK = {"id": "t-1", "state": "queued", "attempt": 0}

Respond = Callable[[Asked], Answer]


def problem(status: int, code: str, detail: str = "", **headers: str) -> Answer:
    body = {"status": status, "code": code, "detail": detail or code}
    return Answer(status, body, {"Content-Type": "application/problem+json", **headers})


class Stub:
    """``with Stub(respond) as stub``: listens on ``stub.address``."""

    def __init__(self, respond: Respond) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            #: Head and body leave together: apart, each answer waits for a delayed acknowledgement.
            wbufsize = -1

            def setup(self) -> None:
                stub.connections += 1
                super().setup()

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                parts = urlsplit(self.path)
                headers = {k.lower(): v for k, v in self.headers.items()}
                query = dict(parse_qsl(parts.query))
                asked = Asked(self.command, parts.path, query, headers, self.rfile.read(length))
                stub.asked.append(asked)
                answer = respond(asked)
                if answer.hang_up:
                    self.close_connection = True
                    return
                body = answer.body
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                if body is None:
                    data = b""
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(data) + answer.promised))
                self.end_headers()
                self.wfile.write(data)
                self.close_connection |= answer.promised > 0

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Stub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def sequence(*answers: Answer) -> Respond:
    """Answer in turn; the last one for ever."""
    left = list(answers)

    def respond(_: Asked) -> Answer:
        return left.pop(0) if len(left) > 1 else left[0]

    return respond


def keys(stub: Stub) -> list[str]:
    """The idempotency key of each request."""
    return [asked.headers["idempotency-key"] for asked in stub.asked]
