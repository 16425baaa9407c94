"""Files that commands are given: read whole, within bounds, and the documents in them."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from raftsched.cli.exits import Exit, Failure

#: Bytes of a file, and documents in it.
FILE_BYTES_MAX = 16 * 1024 * 1024
DOCUMENTS_MAX = 20_000

Document = dict[str, Any]


def read(path: str) -> bytes:
    """A file, or standard input.  OSError, or Failure for one that is too long."""
    if path == "-":
        data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
    else:
        with Path(path).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise Failure(f"{path} has more than {FILE_BYTES_MAX} bytes", Exit.USAGE)
    return data


def parsed(path: str) -> Any:
    """What a file of JSON or TOML holds.  Failure if it is neither."""
    data = read(path)
    try:
        text = data.decode()
        return tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
    except ValueError as error:
        raise Failure(f"{path}: {error}", Exit.USAGE) from None


def documents(found: Any, path: str, what: str) -> list[Document]:
    """The ``what`` documents that a file holds, each with a name of its own.  Failure."""
    if isinstance(found, dict):
        found = found.get(f"{what}s")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Failure(f"{path}: a list of {what} documents is needed", Exit.USAGE)
    if len(found) > DOCUMENTS_MAX:
        raise Failure(f"{path}: more than {DOCUMENTS_MAX} {what}s", Exit.USAGE)
    names: set[str] = set()
    for number, document in enumerate(found, start=1):
        name = document.get("name")
        if not isinstance(name, str) or not name:
            raise Failure(f"{path}: {what} {number} has no name", Exit.USAGE)
        if name in names:
            raise Failure(f"{path}: {what} {number} is the second {name!r}", Exit.USAGE)
        names.add(name)
    return found
