"""What a keyed submission answered, packed into its `KeyRecord` and read back for a repetition."""

from __future__ import annotations

import msgspec

from raftsched.core.model import TASK_ID_MAX
from raftsched.core.outcomes import Reason, Rejected, Submitted


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    task_ids: tuple[str, ...]
    existing: tuple[int, ...]
    #: The detail of each refusal is the id at its position.
    refused: tuple[tuple[int, Reason], ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Answer)


def refusal(reason: Reason, task_id: str) -> Rejected:
    """Why one item of a submission was refused."""
    return Rejected(reason, task_id[:TASK_ID_MAX])


def pack(submitted: Submitted) -> bytes:
    """The answer as bytes: at most ``TASK_ID_MAX`` characters and some bytes an item."""
    refused = tuple([(position, rejected.reason) for position, rejected in submitted.refused])
    return _encoder.encode(_Answer(submitted.task_ids, submitted.existing, refused))


def unpack(data: bytes) -> Submitted:
    """The answer that was packed, marked as replayed."""
    answer = _decoder.decode(data)
    refused = tuple([(at, refusal(reason, answer.task_ids[at])) for at, reason in answer.refused])
    return Submitted(answer.task_ids, True, answer.existing, refused)
