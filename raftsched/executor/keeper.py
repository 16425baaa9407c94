"""The keeper: the parent of a runner, which does nothing but see that nothing outlives it.

``python -m raftsched.executor.keeper`` is what a peer starts.  It forks before it imports anything
large, and the fork is the runner (`executor.runner`).

Rules
1. Orphans below the keeper come to it (``PR_SET_CHILD_SUBREAPER``): when the runner is dead, its
   children, and what left their groups, sessions and environments, are the keeper's.  All of it is
   killed and reaped; then the ledger goes, and the keeper.
2. It waits, and serves nobody: there is nothing in it that could hang or fail.  A runner that
   hangs while the leases of what it runs are over is killed, as its peer would, if that lived.
3. SIGTERM is the runner's, and handed on to it; other signals to end are not heard.
4. Killed itself, it changes nothing for the runner.  What is left when both are dead is in the
   ledger (`executor.ledger`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path

from raftsched.executor import ledger
from raftsched.executor.orphans import adopt_orphans, children

#: The runner's pulse is looked at so often, and when a lease is over.
LOOK_SECONDS = 1.0
#: A runner whose heart has not beaten for so long hangs: it beats ten times a second.
STILL_SECONDS = 0.5


def _watch(runner: int, descriptor: int) -> None:
    """Return once the runner is dead; kill it when it hangs and a lease is over."""
    with contextlib.suppress(OSError):  # Kernels without pidfd: nobody sees that it hangs.
        end = os.pidfd_open(runner)
        poll = select.poll()
        poll.register(end, select.POLLIN)
        wait = LOOK_SECONDS
        while not poll.poll(wait * 1000):
            pulse = ledger.pulse(descriptor)
            now = time.monotonic()
            if pulse is None:
                continue
            if now >= pulse.until and now - pulse.beat_at >= STILL_SECONDS:
                print("the runner hangs, and its lease is over: ended", file=sys.stderr, flush=True)
                os.kill(runner, signal.SIGKILL)
                break
            wait = min(LOOK_SECONDS, max(pulse.until - now, STILL_SECONDS / 4))
    os.waitid(os.P_PID, runner, os.WEXITED | os.WNOWAIT)


def _end_children(listing: int) -> None:
    """Kill and reap until there is none; each one's own children come when it is dead."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in children(listing):
                # Reaped by nobody but us, so the pid is still its.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _run(directory: Path, lease_seconds: float, descriptor: int, *, is_clean: bool) -> int:
    from raftsched.executor import runner

    return runner.run(directory, lease_seconds, descriptor, is_clean=is_clean)


def main() -> int:
    """Entry point of ``python -m raftsched.executor.keeper``."""
    parser = argparse.ArgumentParser(description="Owns the attempts of one node; a peer starts it.")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--lease-seconds", type=float, required=True)
    parser.add_argument("--unclean", action="store_true", help="what an earlier one left may live")
    arguments = parser.parse_args()
    directory: Path = arguments.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    is_clean = not arguments.unclean
    listing = adopt_orphans()
    if listing < 0:
        return _run(directory, arguments.lease_seconds, -1, is_clean=is_clean)
    path, descriptor = ledger.create(directory)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    pid = os.fork()
    if not pid:
        _become_runner(directory, arguments.lease_seconds, descriptor, is_clean=is_clean)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    os.chdir("/")
    # Its children are ours before it can be seen dead.
    _watch(pid, descriptor)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _, status = os.waitpid(pid, 0)
    _end_children(listing)
    path.unlink(missing_ok=True)
    return abs(os.waitstatus_to_exitcode(status))


def _become_runner(
    directory: Path, lease_seconds: float, descriptor: int, *, is_clean: bool
) -> None:
    """In the child: nothing of the keeper's life goes on."""
    code = 1
    try:
        # Whoever kills a group of processes kills one of the two.
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        code = _run(directory, lease_seconds, descriptor, is_clean=is_clean)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
