"""Where the cluster is and which token opens it, when the caller does not say.

Order, first match wins, for addresses and token alike: argument, environment
(``RAFTSCHED_ADDR``, ``RAFTSCHED_TOKEN``, ``RAFTSCHED_TOKEN_FILE``), context of a ``dev`` cluster.

Rules
1. A context is believed only if its file belongs to this user and its addresses are loopback: it
   is found in the working directory, which may be somebody else's.
2. A dev cluster's token goes to the addresses in its own context and to no others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from raftsched.client.errors import BadAddress, NoToken

#: Where a peer listens when nothing else is known.
DEFAULT_ADDRESS = "http://127.0.0.1:7400"
DEV_DIR = "raftsched-data"
CONTEXT_NAME = "context.json"
CONTEXT_BYTES_MAX = 64 * 1024
TOKEN_BYTES_MAX = 4 * 1024
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Context(NamedTuple):
    """What ``raftsched dev`` leaves so that other commands find it."""

    addresses: tuple[str, ...]
    token_file: Path
    #: Process of ``raftsched dev``; a dead one makes the context the last choice.
    pid: int
    path: Path
    #: When that process began, in ticks since boot: a number used again is another process.
    #: 0 when it is not known.
    began: int = 0


class Target(NamedTuple):
    """What a client needs to begin."""

    addresses: tuple[str, ...]
    #: Empty: requests go out without a token.
    token: str
    #: Where the addresses come from, for messages: ``argument``, ``RAFTSCHED_ADDR``, a path.
    source: str


def parse_addresses(value: str | Iterable[str]) -> tuple[str, ...]:
    """``"host:port, http://host:port"`` or a list to base URLs in the given order, each once."""
    words = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    seen: dict[str, None] = {}
    for word in words:
        seen[_base_url(word)] = None
    if not seen:
        raise BadAddress("no address given; write host:port, for example 127.0.0.1:7400")
    return tuple(seen)


def _base_url(word: str) -> str:
    url = word if "://" in word else f"http://{word}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
        raise BadAddress(f"{word!r} is not an address; write host:port, for example 127.0.0.1:7400")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}:{port or (443 if parts.scheme == 'https' else 7400)}"


def state_home() -> Path:
    """This user's folder for state of ours (``$XDG_STATE_HOME/raftsched``)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "raftsched"


def context_paths(directory: Path | None = None) -> tuple[Path, ...]:
    """Where contexts are looked for, nearest first."""
    here = directory or Path.cwd()
    return (here / DEV_DIR / CONTEXT_NAME, state_home() / CONTEXT_NAME)


def find_context(paths: Sequence[Path] | None = None) -> Context | None:
    """The context of a running dev cluster, else the nearest one of a stopped cluster."""
    found = [c for c in map(_read_context, paths or context_paths()) if c is not None]
    for context in found:
        if _is_alive(context):
            return context
    return found[0] if found else None


def _read_context(path: Path) -> Context | None:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_uid not in (os.getuid(), 0):
                return None
            raw: Any = json.loads(file.read(CONTEXT_BYTES_MAX))
        addresses = parse_addresses(raw["addresses"])
        pid, began = int(raw["pid"]), int(raw.get("began", 0))
        context = Context(addresses, Path(raw["token_file"]), pid, path, began)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return context if all(urlsplit(a).hostname in _LOOPBACK for a in addresses) else None


def _is_alive(context: Context) -> bool:
    """Does the process that left the context still run?"""
    try:
        os.kill(context.pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return context.pid > 0
    return not context.began or context.began == _began(context.pid)


def _began(pid: int) -> int:
    """The start of a process in ticks since boot; 0 when it cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        # The name, in brackets, may have spaces and brackets of its own; see proc(5), field 22.
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def foreign_context(path: Path, pid: int) -> Context | None:
    """The context at ``path`` if it belongs to a running process other than ``pid``."""
    context = _read_context(path)
    return context if context and context.pid != pid and _is_alive(context) else None


def write_context(path: Path, addresses: Sequence[str], token_file: Path, pid: int) -> None:
    """Leave a context; readable by this user only, replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    body = {
        "addresses": list(addresses),
        "token_file": str(token_file.absolute()),
        "pid": pid,
        "began": _began(pid),
    }
    temporary = path.with_name(f".{path.name}.{pid}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(body, indent=1) + "\n")
    temporary.replace(path)


def remove_context(path: Path, pid: int) -> None:
    """Take a context away if it is still the one process ``pid`` wrote."""
    context = _read_context(path)
    if context is not None and context.pid == pid:
        path.unlink(missing_ok=True)


def read_token(path: Path) -> str:
    """The token in a file; NoToken says why not."""
    try:
        with path.open("r", encoding="ascii") as file:
            token = file.read(TOKEN_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not ASCII text"
        raise NoToken(f"token file {path} cannot be read: {why}") from None
    if not token or any(c.isspace() for c in token):
        raise NoToken(f"token file {path} does not hold one token; see RAFTSCHED_TOKEN_FILE")
    return token


def find_target(
    addresses: str | Iterable[str] | None = None,
    token: str | None = None,
    token_file: str | Path | None = None,
) -> Target:
    """Addresses and token as the module's text orders them."""
    context = find_context()
    if addresses:
        found, source = parse_addresses(addresses), "argument"
    elif os.environ.get("RAFTSCHED_ADDR"):
        found, source = parse_addresses(os.environ["RAFTSCHED_ADDR"]), "RAFTSCHED_ADDR"
    elif context is not None:
        found, source = context.addresses, str(context.path)
    else:
        found, source = (DEFAULT_ADDRESS,), "default"
    return Target(found, _token(found, token, token_file, context), source)


def _token(
    addresses: tuple[str, ...],
    token: str | None,
    token_file: str | Path | None,
    context: Context | None,
) -> str:
    if token is not None:
        return token
    if token_file:
        return read_token(Path(token_file))
    if os.environ.get("RAFTSCHED_TOKEN"):
        return os.environ["RAFTSCHED_TOKEN"].strip()
    if os.environ.get("RAFTSCHED_TOKEN_FILE"):
        return read_token(Path(os.environ["RAFTSCHED_TOKEN_FILE"]))
    if context is not None and set(addresses) <= set(context.addresses):
        try:
            return read_token(context.token_file)
        except NoToken:
            return ""
    return ""
