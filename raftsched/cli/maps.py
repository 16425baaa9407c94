"""``raftsched map``, ``tree`` and ``results``: tasks that consist of others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

import click

from raftsched.cli.exits import Exit, Failure, complain
from raftsched.cli.follow import ended
from raftsched.cli.options import Session, with_session
from raftsched.cli.output import (
    Column,
    Row,
    clean,
    field,
    hint,
    progress,
    show_one,
    show_rows,
)
from raftsched.cli.spec import make_spec, spec_options

if TYPE_CHECKING:
    from raftsched.client.sync import Client, Task
    from raftsched.client.trees import Progress

#: Fields that are about the whole; all others are about each item.
WHOLE = (
    "name", "namespace", "queue", "priority", "labels", "depends_on", "needs", "not_before",
    "deadline", "unique",
)  # fmt: skip
#: Option -> field of ``speculate``.
_SPECULATE = {
    "speculate_factor": "factor",
    "speculate_after": "after_share",
    "speculate_min": "min_seconds",
}
#: Parts in a tree whose own subtasks are shown, and how many of each.
BRANCHES_MAX = 20
LEAVES_MAX = 20


@click.command("map", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--items", type=click.File("r"), metavar="FILE", help="An item a line; '-': stdin.")
@click.option("--json", "is_json", is_flag=True, help="The lines of --items are values of JSON.")
@click.option("--range", "numbers", metavar="A:B", help="The numbers from A to B-1; also A:B:STEP.")
@click.option("--from", "source", metavar="ID", help="The result of this task, a list, or the "
              "lines of JSON that it prints.")  # fmt: skip
@click.option("--max-parallel", type=click.IntRange(1), metavar="N", help="So many at once.")
@click.option("--on-failure", metavar="WORD", help="Of one: fail_fast (default), finish, ignore, "
              "or how many may fail.")  # fmt: skip
@click.option("--speculate", is_flag=True, help="What takes far longer than others runs a second "
              "time, elsewhere.")  # fmt: skip
@click.option("--speculate-factor", type=click.FloatRange(1, 1_000), metavar="N", help="That is N "
              "times as long as their median (2); implies --speculate.")  # fmt: skip
@click.option("--speculate-after", type=click.FloatRange(0, 1), metavar="SHARE", help="Not before "
              "this part of all has succeeded (0.5); implies --speculate.")  # fmt: skip
@click.option("--speculate-min", metavar="TIME", help="Not before it has run for so long (5s); "
              "implies --speculate.")  # fmt: skip
@spec_options
@click.option("--key", help="Idempotency key: the same key creates once, however often.")
@click.option("--wait", "wait_for_end", is_flag=True, help="Wait for the end; exit code 8 if bad.")
@click.option("--dry-run", is_flag=True, help="Check only; nothing is created.")
@with_session("id")
def map_(session: Session, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND once for each item, in place of {item}, {item.field} and {index}.

    A command also finds RAFTSCHED_ITEM and RAFTSCHED_INDEX in its environment.

    \b
    ls "$PWD"/*.log | raftsched map --items - -- gzip {item}
    raftsched map --range 0:100 --max-parallel 8 -- ./render.sh {item}
    raftsched map --items orders.ndjson --json -- ./bill {item.customer} {item.sum}
    raftsched map --from "$LIST" --on-failure 3 --python shop:check
    raftsched map --range 0:100 --speculate-factor 3 --speculate-min 1m -- ./render.sh {item}
    """
    if not command and options["document"] is None and not options["python"]:
        text = "COMMAND is missing; for example: raftsched map --range 0:9 -- echo {item}"
        raise click.UsageError(text)
    if options["dry_run"] and options["wait_for_end"]:
        raise click.UsageError("--dry-run creates nothing that --wait could wait for")
    if options["broadcast"]:
        raise click.UsageError("a map chooses a node for each item; it goes with no --broadcast")
    each = make_spec(command, options)
    whole = {name: each.pop(name) for name in WHOLE if name in each}
    with session.client() as client:
        task = client.map(
            each,
            _items(options),
            max_parallel=options["max_parallel"] or 0,
            on_failure=_on_failure(options["on_failure"]),
            speculate=_speculate(options),
            idempotency_key=options["key"],
            dry_run=options["dry_run"],
            **whole,
        )
        if options["dry_run"]:
            hint("would be accepted; nothing was created")
        elif options["wait_for_end"]:
            task = wait_for(client, task)
        else:
            hint(f"look on with: raftsched tree {task.id}")
    show_one(task, session.form)
    if options["wait_for_end"] and task.state != "succeeded":
        raise Failure(ended(task), Exit.TASK_FAILED)


def wait_for(client: Client, task: Task, timeout_seconds: float | None = None) -> Task:
    """The task when it has ended; on a terminal one sees how far it is."""
    task = client.wait(task.id, timeout_seconds, progress=_show_progress)
    progress("")
    return task


def _show_progress(told: Progress) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in told.counts.items())
    progress(f"{told.done:,} of {told.total:,} ended: {counts}")


def _items(options: dict[str, Any]) -> Any:
    """What the options name.  Raises UsageError."""
    given = [name for name in ("items", "numbers", "source") if options[name] is not None]
    if len(given) != 1:
        raise click.UsageError("give exactly one of --items FILE, --range A:B and --from ID")
    if options["is_json"] and options["items"] is None:
        raise click.UsageError("--json goes with --items FILE")
    if options["source"] is not None:
        return options["source"]
    if options["numbers"] is not None:
        return _range(options["numbers"])
    return list(_lines(options["items"], is_json=options["is_json"]))


def _range(text: str) -> range:
    try:
        numbers = [int(word) for word in text.split(":")]
        if not 2 <= len(numbers) <= 3:
            raise ValueError
        return range(*numbers)
    except ValueError:
        raise click.UsageError(f"--range {text!r}: write A:B or A:B:STEP") from None


def _lines(file: IO[str], *, is_json: bool) -> Iterator[Any]:
    for number, line in enumerate(file, start=1):
        text = line.rstrip("\n")
        if not text:
            continue
        try:
            yield json.loads(text) if is_json else text
        except ValueError as error:
            raise Failure(f"line {number} is not JSON: {error}", Exit.USAGE) from None


def _on_failure(word: str | None) -> str | dict[str, int]:
    """A word for the server, which knows the words; or how many may fail."""
    if word is None:
        return "fail_fast"
    return {"allow": int(word)} if word.isdecimal() else word


def _speculate(options: dict[str, Any]) -> bool | dict[str, Any]:
    """Whether, or when: what was not said is left to the server."""
    found = {
        field: options[name] for name, field in _SPECULATE.items() if options[name] is not None
    }
    return found or options["speculate"]


# What there is ------------------------------------------------------------------------------------


def what(row: Row) -> str:
    """What a task runs, on one line."""
    command = row.get("command")
    if isinstance(command, list):
        return clean(command)
    fork = row.get("fork")
    if isinstance(fork, Mapping):
        return _split(row, fork)
    return clean(row.get("http") or row.get("python"))


def _split(row: Row, fork: Row) -> str:
    count = f"{row.get('subtasks') or 0} subtasks"
    source = fork.get("items_from")
    whence = f" from {_within(row, source)}" if source else ""
    at_once = f", {fork['max_parallel']} at once" if fork.get("max_parallel") else ""
    return f"{count}{whence}{at_once}"


def waits_for(row: Row) -> str:
    """The tasks that one waits for."""
    found = []
    for other in row.get("depends_on") or ():
        on = "" if other.get("on") == "success" else f":{other.get('on')}"
        found.append(f"{_within(row, other.get('task'))}{on}")
    needs = f"{row['needs']} of " if row.get("needs") else ""
    return needs + " ".join(found)


def _within(row: Row, text: Any) -> str:
    """A text without the id of the task that the row is a part of: what is left is its part."""
    return clean(str(text or "").replace(f"{row.get('parent')}.", ""))


def _part(row: Row) -> str:
    name, part = str(row.get("name") or ""), str(row.get("id")).rpartition(".")[2]
    shown = f"{part} ({name})" if name and name != part else part
    return clean("  " * int(row.get("depth", 0)) + shown)


TREE_COLUMNS = (
    Column("PART", _part),
    field("state"),
    Column("REASON", lambda row: _within(row, row.get("reason"))),
    Column("WAITS FOR", waits_for),
    field("node"),
    field("attempt", "ATT"),
    Column("COMMAND", what),
    field("exit_code", "EXIT", wide=True),
    field("twin", wide=True),
    field("id", wide=True),
)


@click.command()
@click.argument("task_id")
@with_session()
def tree(session: Session, task_id: str) -> None:
    """List the subtasks that a task was split into, and what they wait for.

    A part's id is that of the task, a dot and its name; of a part that was split itself the first
    20 subtasks are behind it.
    """
    with session.client() as client:
        found = client.tree(task_id)
        rows = found["items"]
        if session.form in ("table", "wide"):
            rows = _branches(client, rows)
        show_rows(rows, TREE_COLUMNS, session.form)
        told = client.progress(task_id)
    if not found["counts"] and not (found["task"].get("fork")):
        hint(f"{clean(found['task'].get('state'))}: it was not split")
        return
    counts = ", ".join(f"{count} {state}" for state, count in told.counts.items())
    more = ", more to come" if told.is_open else ""
    state = clean(found["task"].get("state"))
    hint(f"{state}: {told.fraction:.0%} of {told.total:,} ended ({counts or 'none yet'}{more})")


def _branches(client: Client, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with the first subtasks of parts that were split behind each."""
    branches = [row["id"] for row in rows if row.get("subtasks")]
    if not branches or len(branches) > BRANCHES_MAX:
        return rows
    found = []
    for row in rows:
        found.append(row)
        if row["id"] in branches:
            leaves = client.tree(row["id"], LEAVES_MAX)["items"]
            found += [{**leaf, "depth": 1} for leaf in leaves]
    return found


RESULT_COLUMNS = (
    field("index"),
    field("state"),
    field("reason"),
    field("exit_code", "EXIT"),
    Column("RESULT", lambda row: _result(row)),
    field("id", wide=True),
)


def _result(row: Row) -> str | None:
    if row.get("result_bytes"):
        return f"({row['result_bytes']:,} bytes: raftsched result {row.get('id')})"
    return None if row.get("result") is None else json.dumps(row["result"], ensure_ascii=False)


@click.command()
@click.argument("task_id")
@with_session("ndjson")
def results(session: Session, task_id: str) -> None:
    """Print what became of a task's subtasks, a line for each, in their order.

    Exit code 9 if some did not succeed.
    """
    bad = 0

    def counted(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        nonlocal bad
        for line in lines:
            bad += line.get("state") != "succeeded"
            yield line

    with session.client() as client:
        count = show_rows(counted(client.results(task_id)), RESULT_COLUMNS, session.form)
    if bad:
        complain(f"{bad:,} of {count:,} did not succeed")
        raise click.exceptions.Exit(Exit.PARTIAL)
