"""When a task that failed is tried again.  Whole numbers and a hash: the same on every peer."""

from __future__ import annotations

from hashlib import blake2b

from raftsched.core.policy import Backoff, Policy

#: Doublings beyond this are over every ``backoff_max_ms`` anyway.
_DOUBLINGS_MAX = 40


def may_retry(policy: Policy, exit_code: int | None) -> bool:
    """Is a failure with this exit code (None: a signal, or no process) worth another attempt?"""
    return not policy.retry_on_exit or exit_code in policy.retry_on_exit


def wait_ms(policy: Policy, task_id: str, failures: int) -> int:
    """From the end of the attempt that was the ``failures``-th to fail to the next one's turn."""
    base = policy.backoff_base_ms
    if policy.backoff is Backoff.EXPONENTIAL:
        base <<= min(failures - 1, _DOUBLINGS_MAX)
    elif policy.backoff is Backoff.LINEAR:
        base *= failures
    wait = min(base, policy.backoff_max_ms)
    spread = wait * policy.jitter_permille // 1_000
    if not spread:
        return wait
    drawn = blake2b(f"{task_id}\0{failures}".encode(), digest_size=8).digest()
    return wait - spread + int.from_bytes(drawn, "little") % (2 * spread + 1)
