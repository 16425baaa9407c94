"""One task for each item: what runs, with the item put in its place.

``{item}``, ``{index}`` and, of an object, ``{item.field}`` stand for it in arguments, variables,
stdin, directories, addresses, headers and bodies.  A command finds both in its environment, too.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from raftsched.core.model import NewTask
from raftsched.core.spec import HttpCall, PythonCall, TaskSpec

#: Bytes of what one task runs, with its item.
FILLED_BYTES_MAX = 96 * 1024
#: Of the name of one, which may have its item in it.
NAME_CHARS_MAX = 200
#: Subtasks of one command, and the bytes of what they run.
PIECE_TASKS_MAX = 1_000
PIECE_BYTES_MAX = 512 * 1024
#: Variables of a command.
ITEM, INDEX = "RAFTSCHED_ITEM", "RAFTSCHED_INDEX"

_PLACE = re.compile(r"\{(item(?:\.[A-Za-z_]\w{0,63})?|index)\}")
_specs = msgspec.msgpack.Decoder(TaskSpec)
_new_tasks = msgspec.msgpack.Decoder(NewTask)
_packed = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_plain = msgspec.json.Decoder()


class BadItem(ValueError):
    """The item does not fit; the text says why."""


class Template:
    """A task for each item of a list."""

    def __init__(self, new: NewTask) -> None:
        """``new``: the task with places for its item; its id does not matter."""
        self._new = new
        self._spec = _specs.decode(new.spec)

    def task(self, index: int, item: Any) -> NewTask:
        """The task for one item, without an id.  Raises BadItem."""
        spec = _filled(self._spec, index, item)
        data = _packed.encode(spec)
        if len(data) > FILLED_BYTES_MAX:
            raise BadItem(
                f"with its item the task has {len(data)} bytes, at most {FILLED_BYTES_MAX}"
            )
        return msgspec.structs.replace(self._new, id="", spec=data)


def template_of(spec: bytes) -> NewTask:
    """The task of each item, from the specification of the one that has them."""
    return _new_tasks.decode(_specs.decode(spec).template)


def pieces(tasks: Iterable[NewTask], first: int) -> Iterator[tuple[int, tuple[NewTask, ...]]]:
    """Subtasks as commands carry them: the number of the first, and they."""
    piece: list[NewTask] = []
    size = 0
    for new in tasks:
        if piece and (len(piece) >= PIECE_TASKS_MAX or size + len(new.spec) > PIECE_BYTES_MAX):
            yield first, tuple(piece)
            first, piece, size = first + len(piece), [], 0
        piece.append(new)
        size += len(new.spec)
    if piece:
        yield first, tuple(piece)


def has_places(text: str) -> bool:
    """Does it have a place for an item?"""
    return _PLACE.search(text) is not None


def _filled(spec: TaskSpec, index: int, item: Any) -> TaskSpec:
    def fill(text: str) -> str:
        if "{" not in text:
            return text
        return _PLACE.sub(lambda place: _text(_value(place[1], index, item)), text)

    if spec.http is not None:
        http = spec.http
        name = fill(spec.name)[:NAME_CHARS_MAX]
        return msgspec.structs.replace(spec, name=name, http=_http(http, fill))
    if spec.python is not None:
        python = _python(spec.python, index, item)
        name = fill(spec.name)[:NAME_CHARS_MAX]
        return msgspec.structs.replace(spec, name=name, python=python)
    env = {name: fill(value) for name, value in spec.env.items()}
    text = _text(item)
    filled = msgspec.structs.replace(
        spec,
        name=fill(spec.name)[:NAME_CHARS_MAX],
        # What a shell would read as its own is not put into its line.
        command=spec.command if spec.shell else tuple([fill(word) for word in spec.command]),
        env={**env, ITEM: text, INDEX: str(index)},
        stdin=fill(spec.stdin),
        cwd=fill(spec.cwd),
    )
    for word in (*filled.command, *filled.env.values(), filled.cwd):
        if "\0" in word:
            raise BadItem("a NUL character is not allowed")
    return filled


def _value(place: str, index: int, item: Any) -> Any:
    if place == "index":
        return index
    name = place.removeprefix("item").removeprefix(".")
    if not name:
        return item
    if not isinstance(item, dict) or name not in item:
        raise BadItem(f"it has no field {name!r}")
    return item[name]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json.encode(value).decode()


def _http(http: HttpCall, fill: Any) -> HttpCall:
    body = http.body
    if body:
        with contextlib.suppress(UnicodeDecodeError):  # Then nobody wrote a place into it.
            body = fill(body.decode()).encode()
    url = fill(http.url)
    headers = {name: fill(value) for name, value in http.headers.items()}
    if not url.isprintable() or " " in url:
        raise BadItem("it would make an address with characters that have to be escaped")
    if any(value and not value.isprintable() for value in headers.values()):
        raise BadItem("it would make a header with characters that it cannot have")
    return msgspec.structs.replace(http, url=url, headers=headers, body=body)


def _python(python: PythonCall, index: int, item: Any) -> PythonCall:
    """Without arguments it is called with the item alone."""
    if python.args == b"[]" and python.kwargs == b"{}":
        return msgspec.structs.replace(python, args=_json.encode([item]))
    return msgspec.structs.replace(
        python,
        args=_json.encode(_in_json(_plain.decode(python.args), index, item)),
        kwargs=_json.encode(_in_json(_plain.decode(python.kwargs), index, item)),
    )


def _in_json(value: Any, index: int, item: Any) -> Any:
    """A text that is a place alone becomes the value itself."""
    if isinstance(value, str):
        whole = _PLACE.fullmatch(value)
        if whole is not None:
            return _value(whole[1], index, item)
        return _PLACE.sub(lambda place: _text(_value(place[1], index, item)), value)
    if isinstance(value, list):
        return [_in_json(one, index, item) for one in value]
    if isinstance(value, dict):
        return {name: _in_json(one, index, item) for name, one in value.items()}
    return value
