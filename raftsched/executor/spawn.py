"""Starting one attempt's process: small, fast, and with a clear word when it cannot be done."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from raftsched.executor import fork
from raftsched.executor.cgroup import Group, Groups
from raftsched.executor.leftovers import MARK
from raftsched.executor.messages import StartAttempt, bounded
from raftsched.executor.results import Answer, Answers
from raftsched.executor.spool import Output, Spool

#: What an attempt finds in its environment beside its own variables.
_INHERITED = (b"PATH", b"HOME", b"LANG", b"USER", b"TZ")
_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Where programs were found is believed this long: a program that is installed or replaced is soon
#: the one that runs.  One that was removed is noticed at once.
FOUND_SECONDS = 1.0
#: Programs remembered at once.
FOUND_MAX = 1_024
#: The runner, or the interpreter it is written in, ignores these; a child must not.
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP)

#: Errors of starting any process.
_OF_PROCESSES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})

_Actions = Sequence[tuple[int, int, int]]


class CannotStart(Exception):
    """The attempt ends as failed with this reason, which is `messages.bounded`.

    ``number``: the ``errno`` of the machine's answer; 0: it was not asked, or it is about the
    attempt's own program.
    """

    def __init__(self, reason: str, number: int = 0) -> None:
        super().__init__(bounded(reason))
        self.errno = number

    @classmethod
    def of(cls, error: OSError) -> CannotStart:
        """What the machine said."""
        named = f": {error.filename}" if error.filename else ""
        return cls(f"cannot-start: {error.strerror}{named}", error.errno or 0)


class Spawned(NamedTuple):
    """A program under way."""

    pid: int
    output: Output
    answer: Answer
    #: Where a child that was forked says why it could not start the program (`fork.complaint_of`);
    #: -1: it was not forked.
    complaint: int = -1
    #: Its control group, if attempts have some.
    group: Group | None = None


class Spawner:
    """Starts the attempts of one node; ``mark`` is in the environment of all of them."""

    def __init__(
        self, spool: Spool, answers: Answers, mark: str, *, found_seconds: float = FOUND_SECONDS
    ) -> None:
        self._spool = spool
        self.folder = spool.folder
        self._answers = answers
        self._mark = mark.encode()
        #: Where each attempt gets a control group; None: nowhere.
        self.groups: Groups | None = None
        self._base = {name: os.environb[name] for name in _INHERITED if name in os.environb}
        self._base.setdefault(b"PATH", _DEFAULT_PATH)
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        #: Where a name was found on a PATH.
        self._found: dict[tuple[str, bytes], str] = {}
        self._found_seconds = found_seconds
        self._found_until = 0.0

    def spawn(self, attempt: StartAttempt, place: str = "") -> Spawned:
        """Start the process in a session of its own; ``place``: where, if it does not say.

        Raises CannotStart.
        """
        try:
            output, written = self._spool.open(attempt.task_id, attempt.number)
            spawned = None
            try:
                spawned = self._start(attempt, place, output, written)
            finally:
                os.close(written)
                if spawned is None:
                    output.close()
            return spawned
        except OSError as error:
            raise CannotStart.of(error) from error
        except ValueError as error:
            raise CannotStart(f"cannot-start: {error}") from error

    def _start(self, attempt: StartAttempt, place: str, output: Output, written: int) -> Spawned:
        spec = attempt.spec
        argv = ("/bin/sh", "-c", spec.command[0]) if spec.shell else spec.command
        answer = self._answers.open(attempt.token, is_private=bool(spec.user))
        env = self._environment(attempt, answer)
        read = _stdin(spec.stdin) if spec.stdin else self._null
        try:
            if self._is_grouped(attempt) or fork.is_needed(spec):
                program = fork.Program(argv, env, read, written, answer.private, place)
                return self._fork(attempt, program, output, answer)
            actions = (
                (os.POSIX_SPAWN_DUP2, read, 0),
                (os.POSIX_SPAWN_DUP2, written, 1),
                (os.POSIX_SPAWN_DUP2, written, 2),
            )
            return Spawned(
                self._in_directory(spec.cwd or place, argv, env, actions), output, answer
            )
        finally:
            if read != self._null:
                os.close(read)

    def _fork(
        self, attempt: StartAttempt, program: fork.Program, output: Output, answer: Answer
    ) -> Spawned:
        group = None
        if self.groups is not None and self._is_grouped(attempt):
            group = self.groups.open(attempt.token, attempt.spec.limits.memory_bytes)
        try:
            pid, complaint = fork.fork(attempt.spec, program._replace(group=group))
        except OSError:
            if group is not None:
                group.remove()
            raise
        return Spawned(pid, output, answer, complaint, group)

    def _is_grouped(self, attempt: StartAttempt) -> bool:
        limit = attempt.spec.limits.memory_bytes
        return self.groups is not None and self.groups.has_one_for(limit)

    def _environment(self, attempt: StartAttempt, answer: Answer) -> dict[bytes, bytes]:
        env = self._base.copy()
        for name, value in attempt.spec.env.items():
            env[os.fsencode(name)] = os.fsencode(value)
        env[b"RAFTSCHED_TASK_ID"] = attempt.task_id.encode()
        env[b"RAFTSCHED_ATTEMPT"] = b"%d" % attempt.number
        env[b"RAFTSCHED_FENCING_TOKEN"] = b"%d" % attempt.token
        env[b"RAFTSCHED_RESULT_FILE"] = os.fsencode(answer.result)
        env[b"RAFTSCHED_PROGRESS_FILE"] = os.fsencode(answer.progress)
        if attempt.inputs:
            env[b"RAFTSCHED_INPUTS_FILE"] = os.fsencode(attempt.inputs)
        env[MARK.encode()] = self._mark
        return env

    def _in_directory(
        self, cwd: str, argv: tuple[str, ...], env: dict[bytes, bytes], actions: _Actions
    ) -> int:
        """posix_spawn has no working directory; the runner is one thread, so it can step aside."""
        if not cwd:
            return self._run(argv, env, actions)
        try:
            os.chdir(cwd)
        except OSError as error:
            raise CannotStart(f"cwd-unusable: {cwd}: {error.strerror}") from error
        try:
            return self._run(argv, env, actions)
        finally:
            os.fchdir(self._home)

    def _run(self, argv: tuple[str, ...], env: dict[bytes, bytes], actions: _Actions) -> int:
        if "/" in argv[0]:
            return _posix_spawn(argv[0], argv, env, actions)
        name, path = argv[0], env[b"PATH"]
        known = self._known(name, path)
        if known:
            with contextlib.suppress(CannotStart):
                return _posix_spawn(known, argv, env, actions)
            # Removed or replaced since; look again, the answer to that one counts.
        found = shutil.which(name, path=os.fsdecode(path))
        if found is None:
            raise CannotStart(f"executable-not-found: {name}")
        if found.startswith("/"):
            self._found[name, path] = found
        return _posix_spawn(found, argv, env, actions)

    def _known(self, name: str, path: bytes) -> str:
        """Where the name was found a moment ago, or nothing."""
        now = time.monotonic()
        if now >= self._found_until or len(self._found) >= FOUND_MAX:
            self._found.clear()
            self._found_until = now + self._found_seconds
        return self._found.get((name, path), "")


def _posix_spawn(
    program: str, argv: tuple[str, ...], env: dict[bytes, bytes], actions: _Actions
) -> int:
    try:
        return os.posix_spawn(
            program,
            argv,
            env,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTED,
        )
    except OSError as error:
        # Of a file it is the program's own: others can be started meanwhile.
        number = error.errno if error.errno in _OF_PROCESSES else 0
        raise CannotStart(fork.reason_of(error, program), number or 0) from error


def _stdin(text: str) -> int:
    """A descriptor that reads this, from memory: the size of a task is bounded."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
