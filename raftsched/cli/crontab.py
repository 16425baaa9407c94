"""Crontabs as schedule documents: what a line asks for, and why one cannot be taken.

Read as Debian's cron does: environment lines hold for what follows them, ``%`` begins the standard
input, ``\\%`` is a percent sign, and in the system's form the sixth word is the user.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

#: Lines of one file, and characters of one line.
LINES_MAX = 10_000
LINE_MAX = 10_000
#: Longest name of a schedule.
NAME_MAX = 40

_ASSIGNMENT = re.compile(r"""\s*("?|'?)([A-Za-z_][A-Za-z0-9_]*)\1\s*=\s*(.*?)\s*""")
_PERCENT = re.compile(r"\\%|%")
_ZONES = ("CRON_TZ", "TZ")
#: Words before the program that a line is about; and commands that only prepare one.
_PRELUDE = {"{", "(", "!", "exec", "nice", "sudo", "env", "if", "then"}
_PREPARING = {"cd", "test", "[", "command"}


class Entry(NamedTuple):
    """One line that asks for something."""

    #: Counted from 1.
    line: int
    document: dict[str, Any]


class Trouble(NamedTuple):
    """One line that is not taken, or something of it that is not."""

    line: int
    text: str


class _Reading:
    """What the lines before say for the following ones."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.shell = ""
        self.env: dict[str, str] = {}
        self.names: dict[str, int] = {}


def read(
    text: str, *, is_system: bool, zone: str, prefix: str = ""
) -> tuple[list[Entry], list[Trouble]]:
    """The documents that a crontab asks for, and what cannot be taken of it."""
    entries: list[Entry] = []
    troubles: list[Trouble] = []
    reading = _Reading(zone)
    for number, line in enumerate(text.splitlines(), start=1):
        if number > LINES_MAX:
            troubles.append(Trouble(number, f"only {LINES_MAX} lines are read"))
            break
        line = line.strip(" \t")
        if not line or line.startswith("#"):
            continue
        if len(line) > LINE_MAX:
            troubles.append(Trouble(number, f"it has more than {LINE_MAX} characters"))
        elif found := _ASSIGNMENT.fullmatch(line):
            why = _assign(reading, found[2], _unquoted(found[3]))
            troubles += [Trouble(number, why)] if why else []
        else:
            try:
                entries.append(Entry(number, _document(reading, line, is_system, prefix)))
            except ValueError as error:
                troubles.append(Trouble(number, str(error)))
    return entries, troubles


def _assign(reading: _Reading, name: str, value: str) -> str:
    """Take an environment line; what of it is not as in cron."""
    if name in _ZONES:
        reading.zone = value or reading.zone
    elif name == "SHELL":
        reading.shell = value
    elif name == "MAILTO":
        if value:
            return "MAILTO: nothing is mailed; the output is kept with the task"
    else:
        reading.env[name] = value
    return ""


def _document(reading: _Reading, line: str, is_system: bool, prefix: str) -> dict[str, Any]:
    """The schedule a line asks for.  ValueError says why there is none."""
    count = 1 if line.startswith("@") else 5
    words = line.split(None, count + (1 if is_system else 0))
    if len(words) < count + (2 if is_system else 1):
        wanted = "a time, a user and a command" if is_system else "a time and a command"
        raise ValueError(f"a line has {wanted}")
    times, rest = words[:count], words[count:]
    if times[0].lower() == "@reboot":
        raise ValueError("@reboot is no time; let the machine's own cron or systemd do it")
    user, command = (rest[0], rest[1]) if is_system else ("", rest[0])
    command, stdin = _split(command)
    task = _task(reading, command)
    if stdin is not None:
        task["stdin"] = stdin
    if user:
        task["user"] = user
    return {
        "name": _name(reading, prefix, command),
        "cron": " ".join(times),
        "zone": reading.zone,
        # As cron does: it knows nothing of the run before.
        "overlap": "allow",
        "task": task,
    }


def _task(reading: _Reading, command: str) -> dict[str, Any]:
    task: dict[str, Any] = {"command": [command], "shell": True}
    if reading.shell and reading.shell not in ("/bin/sh", "sh"):
        task = {"command": [reading.shell, "-c", command]}
    if reading.env:
        task["env"] = dict(reading.env)
    if reading.env.get("HOME"):
        task["cwd"] = reading.env["HOME"]
    return task


def _split(command: str) -> tuple[str, str | None]:
    """The command, and its standard input if it has one."""
    parts = [""]
    end = 0
    for found in _PERCENT.finditer(command):
        parts[-1] += command[end : found.start()]
        end = found.end()
        if found[0] == "%":
            parts.append("")
        else:
            parts[-1] += "%"
    parts[-1] += command[end:]
    if len(parts) == 1:
        return parts[0].rstrip(), None
    return parts[0].rstrip(), "\n".join(parts[1:]) + "\n"


def _name(reading: _Reading, prefix: str, command: str) -> str:
    """A name by the program, the same at every reading of the same file."""
    words = command.split()
    if "run-parts" in words:
        words = [word for word in words[words.index("run-parts") + 1 :] if word[0] != "-"]
    while words and (words[0] in _PREPARING or words[0] in _PRELUDE or "=" in words[0]):
        ends = [n for n, word in enumerate(words) if word in ("&&", "||", ";")]
        words = words[ends[0] + 1 :] if words[0] in _PREPARING and ends else words[1:]
    words = words or ["line"]
    plain = re.sub(r"[^0-9A-Za-z._-]+", "-", words[0].rstrip("/;)}").rpartition("/")[2])
    base = (prefix + plain).strip("-._")[: NAME_MAX - 4] or "line"
    number = reading.names[base] = reading.names.get(base, 0) + 1
    return base if number == 1 else f"{base}-{number}"


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
