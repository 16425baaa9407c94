"""Places for parameters in the texts of a document.

Rules
1. ``${name}`` stands for a parameter, in the texts of the document and not in the names of its
   fields.  ``$${`` is the text ``${``.
2. A text that is one place alone becomes the value as it is, but where a task document takes only
   text a number or truth value becomes its text; null leaves the field or item out.  Within a text
   a value stands as it is, if it is one, else as JSON; null stands for nothing.
3. Nothing is evaluated, and what was filled in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

_PLACE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
#: What a parameter can be called.
NAME = re.compile(r"[A-Za-z_][0-9A-Za-z_]{0,63}")
_json = msgspec.json.Encoder()
#: What stands below the fields of a task document, and so on; in a text are texts, else anything.
_TEXT = (
    "command", "before", "after", "env", "labels", "id", "name", "queue", "cwd", "stdin", "limits",
    "constraints", "depends_on",
)  # fmt: skip
_BELOW: dict[str, dict[str, str]] = {
    "task": dict.fromkeys(_TEXT, "text") | {"http": "http", "map": "map", "workflow": "workflow"},
    "http": {"url": "text", "headers": "text"},
    "map": {"task": "task"},
    "workflow": {"tasks": "task"},
}


class Place(NamedTuple):
    """A place in a document."""

    #: Of the text that has it.
    pointer: str
    #: Of the parameter; None: it is no place, though it begins like one.
    name: str | None
    #: It stands in the name of a field.
    is_in_name: bool = False


class TooMuch(Exception):
    """The document grew over the bound."""


def places(value: Any, pointer: str = "") -> Iterator[Place]:
    """All places of a document, in order."""
    if isinstance(value, str):
        yield from [Place(pointer, name) for name in _names(value)]
    elif isinstance(value, dict):
        for field, one in value.items():
            below = f"{pointer}/{field.replace('~', '~0').replace('/', '~1')}"
            yield from [Place(below, name, is_in_name=True) for name in _names(field)]
            yield from places(one, below)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from places(one, f"{pointer}/{number}")


def _names(text: str) -> Iterator[str | None]:
    if "${" in text:
        for found in _PLACE.finditer(text):
            if found[0] != "$${":
                name = found[1]
                yield name if name is not None and NAME.fullmatch(name) else None


def is_place(text: Any) -> bool:
    """Is it one place and nothing else?"""
    found = _PLACE.fullmatch(text) if isinstance(text, str) else None
    return found is not None and found[1] is not None


class Filling:
    """Values for places, and how much they may come to."""

    def __init__(self, values: Mapping[str, Any], characters_max: int) -> None:
        self._values = values
        self._texts = {name: _text(value) for name, value in values.items()}
        #: Characters that may still be filled in.
        self.left = characters_max

    def fill(self, value: Any, kind: str = "") -> Any:
        """The document with the values in their places.  Raises TooMuch, and KeyError.

        ``kind``: ``task`` for a task document, ``text`` for what is text; anything else: empty.
        """
        if isinstance(value, str):
            return self._filled(value, kind) if "${" in value else value
        if isinstance(value, dict):
            usual = "text" if kind == "text" else ""
            kinds = _BELOW.get(kind, {})
            found = {n: self.fill(one, kinds.get(n, usual)) for n, one in value.items()}
            return {n: one for n, one in found.items() if one is not None or value[n] is None}
        if isinstance(value, list):
            filled = [(one, self.fill(one, kind)) for one in value]
            return [one for before, one in filled if one is not None or before is None]
        return value

    def _filled(self, text: str, kind: str) -> Any:
        if is_place(text):
            name = text[2:-1]
            self._take(name)
            value = self._values[name]
            is_scalar = isinstance(value, int | float)
            return self._texts[name] if is_scalar and kind == "text" else value
        return _PLACE.sub(self._put, text)

    def _put(self, found: re.Match[str]) -> str:
        if found[1] is None:
            return "${"
        self._take(found[1])
        return self._texts[found[1]]

    def _take(self, name: str) -> None:
        self.left -= len(self._texts[name])
        if self.left < 0:
            raise TooMuch


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json.encode(value).decode()
