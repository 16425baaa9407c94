"""``raftsched``: finds the command asked for, loads only that, and turns errors into one line.

Rules
1. A one-shot command imports neither aiohttp nor PySyncObj; ``raftsched ls`` starts within 200 ms.
2. stdout is data; stderr gets one line per error, and hints only on a terminal.
3. No traceback reaches a user unless RAFTSCHED_DEBUG is set.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from raftsched.cli.exits import Exit, complain, explain

#: Command -> module in ``raftsched.cli``, attribute in it, and its line in ``--help``.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "dev": ("dev", "dev", "Start a whole cluster on this machine, to try and to break."),
    "serve": ("serve", "serve", "Run one peer until SIGTERM."),
    "check-config": ("serve", "check_config", "Say whether a cluster.toml can be used."),
    "submit": ("tasks", "submit", "Create a task, or many with --batch FILE."),
    "run": ("follow", "run", "Run a command in the cluster: its output, its exit code."),
    "ls": ("tasks", "ls", "List tasks, newest first."),
    "show": ("tasks", "show", "Show one task."),
    "map": ("maps", "map_", "Run a command once for each item of a list."),
    "tree": ("maps", "tree", "List the subtasks of a task, and what they wait for."),
    "results": ("maps", "results", "Print what became of a task's subtasks, in their order."),
    "logs": ("follow", "logs", "Print a task's output; -f follows."),
    "result": ("follow", "result", "Print the result that a task left, as JSON."),
    "wait": ("tasks", "wait", "Wait until tasks have ended."),
    "cancel": ("amend", "cancel", "Ask for the end of tasks, by id or filter."),
    "retry": ("amend", "retry", "Try tasks again that did not succeed, by id or filter."),
    "edit": ("amend", "edit", "Change fields of tasks that do not run, by id or filter."),
    "run-now": (
        "amend",
        "run_now",
        "End the wait of tasks (delay, backoff, pause), by id or filter.",
    ),
    "pause": ("amend", "pause", "Keep tasks from being started, by id or filter."),
    "resume": ("amend", "resume", "Undo a pause, by id or filter."),
    "rm": ("amend", "rm", "Remove tasks that have ended, by id or filter."),
    "explain": ("queues", "explain", "Say why a task does not run, node by node."),
    "queue": ("queues", "queue", "Queues: ls, show, set, pause, resume, purge, rm."),
    "limit": ("queues", "limit", "Limits that tasks share: ls, show, set, rm."),
    "schedule": ("schedules", "schedule", "Schedules: add, ls, preview, slots, apply, ..."),
    "template": ("templates", "template", "Templates: put, ls, show, run, rm."),
    "node": ("nodes", "node", "Nodes: ls, cordon, uncordon, drain, labels."),
    "cluster": ("cluster", "cluster", "The cluster: status, verify, reset-clock."),
    "peers": ("peers", "peers", "The group of peers: ls, add, remove, replace."),
    "recover": ("recover", "recover", "Go on with the one survivor of a lost majority."),
    "journal": ("journal", "journal", "Print what a stopped peer's log did: export."),
    "leader": ("cluster", "leader", "The leader: show, transfer."),
    "init": ("init", "init", "Write the directories of a new cluster: configuration, TLS, token."),
    "cert": ("cert", "cert", "Certificates of peers: ca, create, info."),
    "api": ("api", "api", "Ask a route of the HTTP API."),
    "bench": ("bench", "bench", "Measure this machine; JSON on stdout."),
    "completion": ("completion", "completion", "Print what makes a shell complete commands."),
    "version": ("version", "version", "Print the version."),
}


#: What click 8.2 and later raise for a group without a command; before, they print and exit.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, None if there is no such."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"raftsched.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, from the table: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in COMMANDS.items()])

    def main(self, *args: Any, **options: Any) -> Any:
        """Run, and end in an exit code; see `exits`."""
        options["standalone_mode"] = False
        try:
            code = super().main(*args, **options)
            sys.stdout.flush()
        except click.exceptions.Exit as end:
            code = end.exit_code
        except _NO_ARGUMENTS as error:
            # A group alone: its help, on stderr because it is not what was asked for.
            error.show()
            code = Exit.USAGE
        except (KeyboardInterrupt, click.Abort):
            code = Exit.INTERRUPTED
        except BrokenPipeError:
            # The reader of a pipe has gone (`raftsched ls | head`): not our trouble.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = Exit.OK
        except Exception as error:
            if os.environ.get("RAFTSCHED_DEBUG"):
                raise
            message, code = explain(error)
            complain(message)
        sys.exit(int(code) if isinstance(code, int) else 0)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """A task scheduler that is highly available on three to five machines.

    Start with: raftsched dev
    """


def main() -> None:
    """The console script."""
    cli.main(prog_name="raftsched")


if __name__ == "__main__":
    main()
