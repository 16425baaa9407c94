"""Starting one attempt's process: small, fast, and with a clear word when it cannot be done."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from raftsched.executor.leftovers import MARK
from raftsched.executor.messages import StartAttempt
from raftsched.executor.output import stream_path

#: What an attempt finds in its environment beside its own variables.
_INHERITED = ("PATH", "HOME", "LANG", "USER", "TZ")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC


class CannotStart(Exception):
    """The attempt ends as failed with this reason."""


def base_environment(mark: str) -> dict[str, str]:
    """What all attempts of a node have in common."""
    variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    variables.setdefault("PATH", _DEFAULT_PATH)
    variables[MARK] = mark
    return variables


def spawn(directory: Path, attempt: StartAttempt, base: dict[str, str]) -> int:
    """Start the process in a session of its own; its pid.  Raises CannotStart."""
    env = {
        **base,
        **attempt.env,
        "RAFTSCHED_TASK_ID": attempt.task_id,
        "RAFTSCHED_ATTEMPT": str(attempt.number),
        "RAFTSCHED_FENCING_TOKEN": str(attempt.token),
    }
    argv = ["/bin/sh", "-c", attempt.command[0]] if attempt.shell else list(attempt.command)
    cwd = attempt.cwd or None
    program = _resolve(argv[0], env.get("PATH", _DEFAULT_PATH), cwd)
    opened: list[int] = []
    try:
        # Both streams append to one file, so that they stand there as they were written.
        path = stream_path(directory, attempt.task_id, attempt.number, "out")
        opened.append(os.open(path, _WRITE, 0o600))
        opened.append(_stdin(directory, attempt))
        actions = [
            (os.POSIX_SPAWN_DUP2, opened[1], 0),
            (os.POSIX_SPAWN_DUP2, opened[0], 1),
            (os.POSIX_SPAWN_DUP2, opened[0], 2),
        ]
        if cwd is None:
            return _spawn(program, argv, env, actions)
        return _spawn_in(cwd, program, argv, env, actions)
    except OSError as error:
        raise CannotStart(_reason(error, program)) from error
    except ValueError as error:
        raise CannotStart(f"cannot-start: {error}") from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _spawn(
    program: str, argv: list[str], env: dict[str, str], actions: list[tuple[int, int, int]]
) -> int:
    return os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigmask=())


def _spawn_in(
    cwd: str,
    program: str,
    argv: list[str],
    env: dict[str, str],
    actions: list[tuple[int, int, int]],
) -> int:
    """posix_spawn has no working directory; the runner is one thread, so it can step aside."""
    home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.chdir(cwd)
        except OSError as error:
            raise CannotStart(f"cwd-unusable: {cwd}: {error.strerror}") from error
        return _spawn(program, argv, env, actions)
    finally:
        os.fchdir(home)
        os.close(home)


def _resolve(name: str, path: str, cwd: str | None) -> str:
    if "/" in name:
        return name if cwd is None or name.startswith("/") else str(Path(cwd, name))
    found = shutil.which(name, path=path)
    if found is None:
        raise CannotStart(f"executable-not-found: {name}")
    return found


def _stdin(directory: Path, attempt: StartAttempt) -> int:
    if not attempt.stdin:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    path = directory / f"stdin-{attempt.token}"
    path.write_bytes(attempt.stdin.encode())
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        path.unlink()


def _reason(error: OSError, program: str) -> str:
    if error.errno == errno.ENOENT:
        return f"executable-not-found: {program}"
    if error.errno in (errno.EACCES, errno.ENOEXEC):
        return f"not-executable: {program}"
    return f"cannot-start: {error.strerror}: {error.filename or program}"
