"""Starting a program that asks for what posix_spawn cannot give: another user, limits, a umask.

The runner is small and has one thread, so it may fork and run Python in the child up to the exec;
see docs/decisions/0010.  The child does all that may take long or fail (users are looked up
there), and the runner waits for none of it: a complaint of the child is read once it has ended.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from msgspec.structs import replace

from raftsched.core.spec import ProcessLimits, TaskSpec
from raftsched.executor.cgroup import Group

#: The runner, or the interpreter it is written in, ignores or handles these; a child must not.
DEFAULTED = (
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD,
)  # fmt: skip
#: Bytes of a complaint.
COMPLAINT_BYTES_MAX = 4_096
#: What a child without a word ends with; nobody sees it.
_COMPLAINED = 127
_NONE = ProcessLimits()
_LIMITS = (
    ("memory", resource.RLIMIT_AS, "memory_bytes"),
    ("cpu time", resource.RLIMIT_CPU, "cpu_seconds"),
    ("open files", resource.RLIMIT_NOFILE, "open_files"),
    ("processes", resource.RLIMIT_NPROC, "processes"),
)


class Refused(Exception):
    """The program cannot be started; the text says why."""


class Owner(NamedTuple):
    """Whom a program runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    #: Empty when the user has no entry.
    name: str
    home: str


class Program(NamedTuple):
    """What to start, and with what."""

    argv: tuple[str, ...]
    env: dict[bytes, bytes]
    #: Descriptors for 0, 1 and 2.
    read: int
    written: int
    #: A directory of its own for the user to write to, made in the child; empty: none.
    private: str = ""
    #: Where it works if it does not say; empty: its user's home, or where the runner is.
    place: str = ""
    #: What it joins before all else.
    group: Group | None = None


def is_needed(spec: TaskSpec) -> bool:
    """Does it ask for more than posix_spawn has?"""
    return bool(
        spec.user or spec.group or spec.nice or spec.umask >= 0 or spec.limits != _NONE
    )  # fmt: skip


def fork(spec: TaskSpec, program: Program) -> tuple[int, int]:
    """Start it in a session of its own: its pid, and where it complains (`complaint_of`).

    Raises OSError when there is no room for another process.
    """
    complaint = os.memfd_create("complaint", os.MFD_CLOEXEC)
    # A signal for the child before its exec waits for it; none may run the runner's handlers there.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if not pid:
            _become(spec, program, complaint)
    except OSError:
        os.close(complaint)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid, complaint


def complaint_of(descriptor: int) -> str:
    """Why the program was not started; empty when it was.  Closes the descriptor."""
    try:
        return os.pread(descriptor, COMPLAINT_BYTES_MAX, 0).decode(errors="replace")
    finally:
        os.close(descriptor)


def reason_of(error: OSError, program: str) -> str:
    """Why a program cannot be started, as the reason of an attempt."""
    if error.errno == errno.ENOENT:
        return f"executable-not-found: {program}"
    if error.errno in (errno.EACCES, errno.ENOEXEC):
        return f"not-executable: {program}"
    return f"cannot-start: {error.strerror}: {program}"


# In the child ------------------------------------------------------------------------------------


def _become(spec: TaskSpec, program: Program, complaint: int) -> NoReturn:
    """Turn this process into the program, or complain and end."""
    try:
        _exec(spec, program)
    except Refused as refused:
        _complain(complaint, str(refused))
    except MemoryError:
        _complain(complaint, "cannot-start: the memory limit is less than starting takes")
    except BaseException as error:
        _complain(complaint, f"cannot-start: {error}")
    finally:
        os._exit(_COMPLAINED)


def _complain(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, text.encode(errors="replace")[:COMPLAINT_BYTES_MAX])


def _exec(spec: TaskSpec, program: Program) -> NoReturn:
    os.setsid()
    if program.group is not None:
        _try("its control group", program.group.join)
    for number in DEFAULTED:
        signal.signal(number, signal.SIG_DFL)
    for target, source in enumerate((program.read, program.written, program.written)):
        os.dup2(source, target)
    if spec.nice:
        _try(f"nice {spec.nice}", os.nice, spec.nice)
    env = dict(program.env)
    owner = _owner(spec.user, spec.group) if spec.user or spec.group else None
    # Before the user changes, who may not raise what is less on this node.
    has_memory = program.group is not None and program.group.has_memory
    _limit(replace(spec.limits, memory_bytes=0) if has_memory else spec.limits)
    if owner is not None:
        if program.private:
            # There already, if an earlier phase of the attempt left something in it.
            Path(program.private).mkdir(0o700, exist_ok=True)
            os.chown(program.private, owner.uid, owner.gid)
        _own(owner)
        _name(owner, spec, env)
    if spec.cwd or program.place or spec.user:
        _enter(spec.cwd or program.place, owner.home if owner is not None else "")
    if spec.umask >= 0:
        os.umask(spec.umask)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    name = program.argv[0]
    found = name if "/" in name else shutil.which(name, path=os.fsdecode(env[b"PATH"]))
    if found is None:
        raise Refused(f"executable-not-found: {name}")
    try:
        os.execve(found, program.argv, env)  # noqa: S606 - what the task asks for
    except OSError as error:
        raise Refused(reason_of(error, name)) from error


def _try(what: str, call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise Refused(f"cannot-start: {what}: {text}") from error


def _limit(limits: ProcessLimits) -> None:
    """Set those that are asked for.  Raises Refused, also for more than the node has."""
    for what, key, field in _LIMITS:
        value = getattr(limits, field)
        if not value:
            continue
        _, hard = resource.getrlimit(key)
        if hard != resource.RLIM_INFINITY and value > hard and os.geteuid():
            raise Refused(f"cannot-start: {what} {value}: this node allows {hard}")
        _try(f"{what} {value}", resource.setrlimit, key, (value, value))


def _owner(user: str, group: str) -> Owner:
    """Whom the names mean.  Raises Refused."""
    gid = _gid(group) if group else -1
    if not user:
        return _allowed(Owner(os.getuid(), gid, (gid,), "", ""))
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if not user.isdecimal() or int(user) >= 2**32 - 1:
            raise Refused(f"cannot-start: user {user}: not known on this node") from None
        if gid < 0:
            raise Refused(f"cannot-start: user {user}: has no entry; name a group") from None
        return _allowed(Owner(int(user), gid, (gid,), "", ""))
    gid = entry.pw_gid if gid < 0 else gid
    groups = os.getgrouplist(entry.pw_name, gid)
    return _allowed(Owner(entry.pw_uid, gid, tuple(groups), entry.pw_name, entry.pw_dir))


def _allowed(owner: Owner) -> Owner:
    """The owner, if this node may become it.  Raises Refused."""
    own = (os.getuid(), os.getgid())
    if os.geteuid() and (owner.uid, owner.gid) != own:
        who = owner.name or f"{owner.uid}:{owner.gid}"
        raise Refused(
            f"cannot-start: user {who}: this node runs as {own[0]}:{own[1]} "
            "and may become nobody else"
        )
    return owner


def _gid(group: str) -> int:
    if group.isdecimal() and int(group) < 2**32 - 1:
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise Refused(f"cannot-start: group {group}: not known on this node") from None


def _own(owner: Owner) -> None:
    """Be this owner, for good.  Raises Refused."""
    if os.geteuid():
        return  # It is.
    try:
        os.setgroups(owner.groups)
        os.setresgid(owner.gid, owner.gid, owner.gid)
        os.setresuid(owner.uid, owner.uid, owner.uid)
    except OSError as error:
        raise Refused(f"cannot-start: user {owner.uid}: {error.strerror}") from None


def _name(owner: Owner, spec: TaskSpec, env: dict[bytes, bytes]) -> None:
    """The user's own variables, where the task does not set them."""
    if owner.name:
        for name, value in (("HOME", owner.home), ("USER", owner.name), ("LOGNAME", owner.name)):
            if name not in spec.env:
                env[name.encode()] = os.fsencode(value)


def _enter(cwd: str, home: str) -> None:
    """Work there; another user's program cannot stay in the node's directory."""
    try:
        os.chdir(cwd or home or "/")
    except OSError as error:
        if cwd:
            raise Refused(f"cwd-unusable: {cwd}: {error.strerror}") from error
        os.chdir("/")
