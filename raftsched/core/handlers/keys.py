"""Idempotency keys: a request that is said twice takes effect once, and is answered the same."""

from __future__ import annotations

from raftsched.core.changes import Changes
from raftsched.core.handlers import answers
from raftsched.core.model import KeyRecord
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected, Submitted


def earlier(changes: Changes, namespace: str, key: str, request_hash: bytes) -> Outcome | None:
    """What the key was answered, or why it cannot be taken; None: it is new, or there is none."""
    if not key:
        return None
    state = changes.state
    record = state.keys.get(f"{namespace}\0{key}")
    if record is not None and record.expires_at > state.now:
        if record.request_hash != request_hash:
            return Rejected(Reason.KEY_REUSED, "the key was used with another request")
        return Accepted(answers.unpack(record.answer))
    if record is None and len(state.keys) >= state.settings.keys_max:
        return Rejected(Reason.KEYS_FULL, f"{state.settings.keys_max} keys are held")
    return None


def remember(
    changes: Changes, namespace: str, key: str, request_hash: bytes, submitted: Submitted
) -> None:
    """Answer the same when the key comes again; nothing without one."""
    if key:
        state = changes.state
        expires_at = state.now + state.settings.key_retention_ms
        changes.others.keys[f"{namespace}\0{key}"] = KeyRecord(
            request_hash, answers.pack(submitted), changes.index, expires_at
        )
