"""Options that describe one task, and the document they make."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import click

from raftsched.cli.files import FILE_BYTES_MAX

#: What end of a task another one may wait for.
ENDS = ("success", "failure", "always")
#: Options that are fields of the document as they are.
_PLAIN = (
    "name", "queue", "priority", "cwd", "user", "group", "umask", "nice", "timeout", "grace",
    "queue_timeout", "not_before", "delivery", "on_lease_loss", "lease_seconds",
    "max_losses",
)  # fmt: skip
#: Option -> field of ``retry``.
_RETRY = {
    "attempts": "max_attempts",
    "backoff": "backoff",
    "retry_base": "base",
    "retry_max": "max",
    "retry_on": "on_exit",
    "retry_node": "node",
}


def _pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {value!r}: write NAME=VALUE")
        pairs[name] = rest
    return pairs


def _choice(*words: str) -> click.Choice[str]:
    return click.Choice(words)


_WHAT = [
    click.option("--name", help="A name for people."),
    click.option("--queue", help="Queue (default)."),
    click.option("--priority", type=click.IntRange(0, 100), help="0 last, 100 first (50)."),
    click.option("--label", multiple=True, metavar="NAME=VALUE", help="Label; repeatable."),
    click.option("-f", "--file", "document", type=click.File("rb"), metavar="FILE",
                 help="A task document in JSON, or in TOML (*.toml); other options are stronger. "
                 "'-': JSON on stdin."),
]  # fmt: skip
_HOW = [
    click.option("--python", metavar="MODULE:NAME", help="Call this function of an application; "
                 "COMMAND is its arguments, each JSON or text."),
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="Environment; repeatable."),
    click.option("--cwd", help="Working directory on the node."),
    click.option("--stdin", help="Text for standard input; '-' takes this command's own."),
    click.option("--shell", is_flag=True, help="COMMAND is one line for /bin/sh."),
    click.option("--user", help="Run as this user."),
    click.option("--group", help="Run as this group."),
    click.option("--umask", metavar="OCTAL", help="For example 027."),
    click.option("--nice", type=click.IntRange(-20, 19), help="Niceness of its processes."),
]  # fmt: skip
_WHEN = [
    click.option("--timeout", metavar="TIME", help="Longest run of one attempt: 30s, 5m."),
    click.option("--grace", metavar="TIME", help="From SIGTERM to SIGKILL (10s)."),
    click.option("--delay", "--not-before", "not_before", metavar="TIME",
                 help="Not before: 10m from now, or 2026-12-31T23:00:00Z."),
    click.option("--expire", metavar="TIME", help="Over by then, or expired: 2h, or an instant."),
    click.option("--queue-timeout", metavar="TIME", help="Longest wait for its first attempt."),
    click.option("--after", multiple=True, metavar="ID[:ON]", help="When this task has ended with "
                 "success (default), failure, or always; repeatable."),
    click.option("--needs", metavar="all|any|N", help="How many of --after are enough (all)."),
]  # fmt: skip
_AGAIN = [
    click.option("--attempts", type=click.IntRange(1, 100), help="Tries in all (1)."),
    click.option("--backoff", type=_choice("constant", "linear", "exponential"),
                 help="How the wait between tries grows (exponential)."),
    click.option("--retry-base", metavar="TIME", help="Wait before the second try (1s)."),
    click.option("--retry-max", metavar="TIME", help="Longest wait between tries (5m)."),
    click.option("--retry-on", type=click.IntRange(0, 255), multiple=True, metavar="CODE",
                 help="Only after these exit codes; repeatable."),
    click.option("--retry-node", type=_choice("any", "same", "other"),
                 help="Where the next try runs (any)."),
    click.option("--delivery", type=_choice("at_least_once", "at_most_once"),
                 help="After its node was lost: run again (default), or end as lost."),
    click.option("--idempotent", is_flag=True, help="May run twice at once: sooner elsewhere."),
    click.option("--on-lease-loss", type=_choice("stop", "continue"),
                 help="When its node is cut off: stop it (default), or let it go on."),
    click.option("--lease", "lease_seconds", metavar="TIME", help="How long its node may be cut "
                 "off before it runs elsewhere (the node's)."),
    click.option("--max-losses", type=click.IntRange(1, 100), help="Lost so often, it fails (3)."),
]  # fmt: skip
_WHERE = [
    click.option("--cpu", type=float, help="Cores to reserve."),
    click.option("--memory", metavar="SIZE", help="Memory to reserve: 256MiB."),
    click.option("--resource", multiple=True, metavar="NAME=COUNT", help="Other things to "
                 "reserve; repeatable."),
    click.option("--constraint", multiple=True, metavar="CLAIM",
                 help="'zone = a', 'disk in [ssd, nvme]', 'gpu exists'; repeatable."),
    click.option("--broadcast", metavar="all|N", help="Run once on every node that may take it, "
                 "or on N of them."),
    click.option("--strategy", help="spread (default), binpack, round_robin, random, "
                 "consistent_hash."),
    click.option("--placement-key", help="For consistent_hash."),
    click.option("--limit", "limits", multiple=True, metavar="KEY",
                 help="A limit it holds while it runs; a mutex unless set otherwise. Repeatable."),
    click.option("--unique", metavar="KEY", help="Only one such task that has not ended."),
    click.option("--on-conflict", type=_choice("reject", "return", "replace"),
                 help="If there is one already (reject)."),
]  # fmt: skip


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe one task; they arrive as ``spec``, ready for the API."""
    for option in reversed([*_WHAT, *_HOW, *_WHEN, *_AGAIN, *_WHERE]):
        command = option(command)
    return command


def make_spec(command: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The task document that the options describe; what was not said is left to the server."""
    spec = _document(options)
    if options["python"]:
        arguments = [_json_or_text(word) for word in command]
        spec["python"] = {"function": options["python"], "args": arguments}
    elif command:
        spec["command"] = list(command)
    for name in _PLAIN:
        if options.get(name) is not None:
            spec[name] = options[name]
    if options["stdin"] is not None:
        taken = sys.stdin.read() if options["stdin"] == "-" else options["stdin"]
        spec["stdin"] = taken
    if options["shell"]:
        if len(command) != 1:
            raise click.UsageError("--shell takes exactly one argument: the line, in quotes")
        spec["shell"] = True
    if options["broadcast"]:
        wide = options["broadcast"]
        spec["broadcast"] = int(wide) if wide.isdecimal() else wide
    if options["expire"]:
        spec["deadline"] = options["expire"]
    if options["idempotent"]:
        spec["idempotent"] = True
    for name, field_name in (("env", "env"), ("label", "labels")):
        if options[name]:
            spec[field_name] = _pairs(options[name], f"--{name}")
    for name, field_name in (("constraint", "constraints"), ("limits", "limits")):
        if options[name]:
            spec[field_name] = list(options[name])
    _add(spec, "resources", _resources(options))
    _add(spec, "retry", {
        field: list(options[name]) if name == "retry_on" else options[name]
        for name, field in _RETRY.items() if options[name]
    })  # fmt: skip
    placement = {"strategy": options["strategy"], "key": options["placement_key"]}
    _add(spec, "placement", {name: value for name, value in placement.items() if value})
    _add_after(spec, options)
    if options["unique"]:
        unique = {"key": options["unique"], "on_conflict": options["on_conflict"]}
        spec["unique"] = {name: value for name, value in unique.items() if value}
    elif options["on_conflict"]:
        raise click.UsageError("--on-conflict goes with --unique KEY")
    return spec


def _document(options: dict[str, Any]) -> dict[str, Any]:
    """What ``--file`` holds."""
    file = options.get("document")
    if file is None:
        return {}
    data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise click.UsageError(f"--file {file.name} has more than {FILE_BYTES_MAX} bytes")
    kind = "TOML" if str(file.name).endswith(".toml") else "JSON"
    try:
        text = data.decode()
        found = tomllib.loads(text) if kind == "TOML" else json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--file {file.name}: no {kind}: {error}") from None
    if not isinstance(found, dict):
        raise click.UsageError(f"--file {file.name}: a JSON object is needed")
    return found


def _add_after(spec: dict[str, Any], options: dict[str, Any]) -> None:
    """``--after`` and ``--needs``: whose end it waits for."""
    found: list[Any] = []
    for text in options["after"]:
        name, colon, on = text.rpartition(":")
        if not colon:
            found.append(text)
        elif not name or on not in ENDS:
            raise click.UsageError(f"--after {text!r}: write ID, or ID:{', ID:'.join(ENDS)}")
        else:
            found.append({"task": name, "on": on})
    if found:
        spec["depends_on"] = found
    needs = options["needs"]
    if needs is not None:
        if needs not in ("all", "any") and not needs.isdecimal():
            raise click.UsageError(f"--needs {needs!r}: all, any or a number")
        spec["needs"] = int(needs) if needs.isdecimal() else needs


def _resources(options: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {k: options[k] for k in ("cpu", "memory") if options[k] is not None}
    for name, value in _pairs(options["resource"], "--resource").items():
        if not value.isdecimal():
            raise click.UsageError(f"--resource {name}={value}: a whole number is needed")
        found[name] = int(value)
    return found


def _add(spec: dict[str, Any], name: str, fields: dict[str, Any]) -> None:
    """More fields of an object in the document."""
    if fields:
        known = spec.get(name)
        spec[name] = {**(known if isinstance(known, dict) else {}), **fields}


def _json_or_text(text: str) -> Any:
    """``3``, ``null`` and ``"3"`` as JSON has them; what is no JSON is the text that it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def make_patch(assignments: tuple[str, ...]) -> dict[str, Any]:
    """``retry.max_attempts=3 name=x deadline=null`` as a merge patch; values are JSON or text."""
    patch: dict[str, Any] = {}
    for path, text in _pairs(assignments, "FIELD").items():
        value = _json_or_text(text)
        *parents, name = path.split(".")
        inner = patch
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise click.UsageError(f"{path}: {parent} was given as a whole, too")
        inner[name] = value
    return patch


def merge(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The document with a patch of `make_patch`; None takes a field out."""
    result = dict(document)
    for name, value in patch.items():
        known = result.get(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(known, dict):
            result[name] = merge(known, value)
        else:
            result[name] = value
    return result
