"""``raftsched api``: a route of the HTTP API, asked as the other commands ask.

Rules
1. What the client library does not repeat is not repeated here either (`ONCE`), nor is what is
   conditional: its second try would not find what the first one had changed.
2. What an option cannot mean on a route is refused, never left out in silence.
"""

from __future__ import annotations

import json
import sys
from typing import NoReturn
from urllib.parse import parse_qs

import click

from raftsched.cli.files import read
from raftsched.cli.options import Session, with_session

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: Of these a second try is a second deed, with or without a key.
ONCE = frozenset({"/v1/cluster/leader:transfer", "/v1/cluster/clock:reset", "/v1/tasks:retry"})
#: The routes whose bodies are documents on lines of their own.
LINES = frozenset({"/v1/tasks:batch"})
#: A peer keeps whoever asks it to wait no longer than this.
WAIT_SECONDS_MAX = 60.0


@click.command()
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("path")
@click.option("-d", "--data", metavar="JSON", help="Body; @FILE reads it, @- from stdin.")
@click.option("--key", help="Idempotency key of a POST that creates; else it has one of its own.")
@click.option(
    "--if-match",
    type=click.IntRange(1),
    metavar="INDEX",
    help="PUT and PATCH: only if this is still the modify_index.",
)
@with_session("json")
def api(
    session: Session,
    method: str,
    path: str,
    data: str | None,
    key: str | None,
    if_match: int | None,
) -> None:
    """Ask a route of the HTTP API and print its answer: JSON indented, the rest as it comes.

    Peers, token, retries and exit codes are those of the other commands.

    \b
    raftsched api GET '/v1/tasks?state=running&limit=5'
    raftsched api PUT /v1/limits/db -d '{"count": 4}'
    """
    method = method.upper()
    route, _, query = path.partition("?")
    _check(session, method, path, key, if_match)
    asked = parse_qs(query, keep_blank_values=True)
    if "follow" in asked:
        raise click.UsageError("what does not end is not for this command: raftsched logs -f ID")
    body = None if data is None else _body(data, is_lines=route in LINES)
    # Imported here: --help and usage errors must not pay for it.
    from raftsched.client.calls import new_key
    from raftsched.client.errors import NotFound
    from raftsched.client.messages import Request

    headers = {}
    if body is not None:
        headers["Content-Type"] = "application/x-ndjson" if route in LINES else "application/json"
    if method == "POST":
        headers["Idempotency-Key"] = key or new_key()
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    request = Request(
        method,
        path,
        body,
        headers,
        repeatable=route not in ONCE and if_match is None,
        patience_seconds=WAIT_SECONDS_MAX if "wait" in asked else 0.0,
    )
    with session.client() as client:
        try:
            reply = client.send(request)
        except NotFound as error:
            if method == "DELETE" and error.after_unknown:
                return  # An earlier try did it.
            raise
    if reply.headers.get("content-type", "").partition(";")[0] == "application/json":
        click.echo(json.dumps(reply.json(), indent=2, ensure_ascii=False))
    else:
        sys.stdout.buffer.write(reply.body)


def _check(session: Session, method: str, path: str, key: str | None, if_match: int | None) -> None:
    """Raises UsageError: something that cannot be sent, or would not be looked at."""
    if not path.startswith("/") or not _is_plain(path):
        raise click.UsageError(
            f"PATH {path!r}: it begins with a slash, like /v1/tasks, and everything but printable "
            "ASCII is percent-encoded in it (a space is %20)"
        )
    if session.form != "json":
        raise click.UsageError("-o: the answer is printed as it is, so json is all there is")
    if key is not None and method != "POST":
        raise click.UsageError("--key is for POST; the others may be repeated as they are")
    if key is not None and not _is_plain(key):
        raise click.UsageError("--key takes printable ASCII without spaces, and not nothing")
    if if_match is not None and method not in ("PUT", "PATCH"):
        raise click.UsageError("--if-match is for PUT and PATCH")


def _is_plain(text: str) -> bool:
    """What a line of a request may carry."""
    return bool(text) and all("!" <= char <= "~" for char in text)


def _body(data: str, *, is_lines: bool) -> bytes:
    """What ``--data`` says, as it goes out.  Raises UsageError: no JSON."""
    text: str | bytes = data
    if data.startswith("@"):
        try:
            text = read(data[1:])
        except OSError as error:
            raise click.UsageError(f"--data {data}: {error.strerror}") from error
    documents = [line for line in text.splitlines() if line.strip()] if is_lines else [text]
    return b"\n".join(_json(document) for document in documents)


def _json(text: str | bytes) -> bytes:
    try:
        return json.dumps(json.loads(text, parse_constant=_no_number)).encode()
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--data is no JSON: {error}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
