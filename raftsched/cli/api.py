"""``raftsched api``: any route of the HTTP API, asked as the other commands ask."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click

from raftsched.cli.options import Session, with_session

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: What a request line may carry: the rest is percent-encoded.
_TARGET = re.compile(r"/[!-~]*")


@click.command()
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("path")
@click.option("-d", "--data", metavar="JSON", help="Body; @FILE reads it, @- from stdin.")
@click.option("--key", default="", help="Idempotency key of a POST; one of its own otherwise.")
@click.option(
    "--if-match",
    type=click.IntRange(1),
    metavar="INDEX",
    help="Only if this is still its modify_index.",
)
@with_session("json")
def api(
    session: Session, method: str, path: str, data: str | None, key: str, if_match: int | None
) -> None:
    """Ask any route of the HTTP API and print its answer.

    Peers, token, retries and exit codes are those of the other commands.  JSON is printed
    indented (on one line with -o ndjson), anything else as it comes.

    \b
    raftsched api GET '/v1/tasks?state=running&limit=5'
    raftsched api PUT /v1/limits/db -d '{"count": 4}'
    """
    if not _TARGET.fullmatch(path):
        raise click.UsageError(
            f"PATH {path!r}: it begins with a slash, like /v1/tasks, and everything but printable "
            "ASCII is percent-encoded in it (a space is %20)"
        )
    method = method.upper()
    body = None if data is None else _body(data)
    if key and method != "POST":
        raise click.UsageError("--key is for POST; the others may be repeated as they are")
    # Imported here: --help and usage errors must not pay for it.
    from raftsched.client.calls import new_key
    from raftsched.client.messages import Request

    headers = {"Content-Type": "application/json"} if body is not None else {}
    if method == "POST":
        headers["Idempotency-Key"] = key or new_key()
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    with session.client() as client:
        # Whoever waits for a long poll has said so in the query.
        request = Request(method, path, body, headers, patience_seconds=session.deadline)
        reply = client.send(request)
    if reply.headers.get("content-type", "").partition(";")[0] == "application/json":
        indent = None if session.form == "ndjson" else 2
        click.echo(json.dumps(reply.json(), indent=indent, ensure_ascii=False))
    else:
        sys.stdout.buffer.write(reply.body)


def _body(data: str) -> bytes:
    """What ``--data`` says, as it goes out.  Raises UsageError: no JSON."""
    text: str | bytes = data
    if data == "@-":
        text = sys.stdin.buffer.read()
    elif data.startswith("@"):
        try:
            text = Path(data[1:]).read_bytes()
        except OSError as error:
            raise click.UsageError(f"--data {data}: {error.strerror}") from error
    try:
        return json.dumps(json.loads(text)).encode()
    except ValueError as error:
        raise click.UsageError(f"--data is no JSON: {error}") from error
