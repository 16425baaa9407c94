"""How results are shown: data to stdout in the format asked for, hints to stderr on a terminal.

``table`` is for people and may change; ``json``, ``ndjson`` and ``id`` are for scripts and stay.
Text from outside is shown without control characters: a task's name cannot steer a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click

FORMATS = ("table", "wide", "json", "ndjson", "id")
#: Widest cell of a plain table.
CELL_MAX = 60

Row = Mapping[str, Any]


class Column(NamedTuple):
    """One column: its heading, and how a row fills it."""

    title: str
    cell: Callable[[Row], Any]
    #: Only in ``wide``.
    is_wide: bool = False


def field(name: str, title: str = "", *, wide: bool = False) -> Column:
    """A column that shows one field of the document."""
    return Column(title or name.upper(), lambda row: row.get(name), wide)


def hint(message: str) -> None:
    """Advice or progress for a person; silent in scripts."""
    if sys.stderr.isatty():
        click.echo(message, err=True)


def progress(message: str) -> None:
    """A line that replaces the one before it, on a terminal only; empty ends it."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{message}", nl=False, err=True)


def clean(value: Any) -> str:
    """A value as text of one line without control characters; None is a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ",".join(f"{clean(k)}={clean(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return " ".join(clean(item) for item in value) or "-"
    return "".join(c if c.isprintable() else "?" for c in str(value))


def show_rows(rows: Iterable[Row], columns: Sequence[Column], form: str, key: str = "id") -> int:
    """Print a list; returns how many there were."""
    if form == "json":
        items = [dict(row) for row in rows]
        _print_json(items)
        return len(items)
    if form in ("ndjson", "id"):
        count = 0
        for row in rows:
            _print(json.dumps(dict(row)) if form == "ndjson" else clean(row.get(key)))
            count += 1
        return count
    items = [dict(row) for row in rows]
    shown = [c for c in columns if form == "wide" or not c.is_wide]
    limit = None if form == "wide" else CELL_MAX
    lines = [[c.title for c in shown]]
    lines += [[_cut(clean(c.cell(row)), limit) for c in shown] for row in items]
    for line in _aligned(lines) if items else ():
        _print(line)
    return len(items)


def show_one(row: Row, form: str, key: str = "id") -> None:
    """Print one document; as a table, one field per line."""
    if form == "json":
        _print_json(dict(row))
    elif form == "ndjson":
        _print(json.dumps(dict(row)))
    elif form == "id":
        _print(clean(row.get(key)))
    else:
        named = [(k, v) for k, v in row.items() if form == "wide" or v not in (None, "", [], {})]
        for line in _aligned([[k, clean(v)] for k, v in named]):
            _print(line)


def _aligned(lines: list[list[str]]) -> Iterable[str]:
    if not lines:
        return
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2, ensure_ascii=False))


def _print(line: str) -> None:
    click.echo(line)
