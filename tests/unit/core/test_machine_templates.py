"""Rows of templates: their versions, what a put must have seen, and their bounds."""

from __future__ import annotations

import msgspec
import pytest

from raftsched.core import codec, invariants
from raftsched.core.commands import DeleteTemplate, PutTemplate
from raftsched.core.handlers import templates
from raftsched.core.outcomes import Reason
from raftsched.core.template import DOCUMENT_BYTES_MAX, NAME_MAX, Template
from raftsched.core.versions import WORKFLOWS
from tests.unit.core.builders import Replica, dump


def put(replica: Replica, document: bytes = b"{}", name: str = "daily", **fields: int) -> Template:
    row: Template = replica.accepted(PutTemplate(name, document, **fields))  # type: ignore[arg-type]
    return row


def test_a_new_one_has_version_one_and_says_when_it_was_made() -> None:
    replica = Replica()
    row = replica.accepted(PutTemplate("daily", b"{}", "team"))
    assert row == Template("daily", b"{}", "team", 1, replica.now, replica.now, replica.index)
    assert replica.state.templates.get("daily") is row
    assert [(event.kind, event.detail) for event in replica.events] == [
        ("template_changed", "daily")
    ]


def test_a_change_counts_the_version_up_and_keeps_when_it_was_made() -> None:
    replica = Replica()
    first = put(replica)
    second = put(replica, b"[]")
    assert (second.version, second.created_at) == (2, first.created_at)
    assert (second.modified_at, second.modify_index) == (replica.now, replica.index)


def test_the_same_again_changes_nothing() -> None:
    replica = Replica()
    row = put(replica)
    assert put(replica) is row
    assert replica.events == []
    assert replica.accepted(PutTemplate("daily", b"{}", "team")).version == 2


def test_a_put_is_refused_when_another_row_stands_there_than_was_seen() -> None:
    replica = Replica()
    row = put(replica, if_index=0)
    for command in (
        PutTemplate("daily", b"2", if_index=row.modify_index + 1),
        PutTemplate("other", b"2", if_index=row.modify_index),
        PutTemplate("daily", b"2", is_new=True),
        DeleteTemplate("daily", row.modify_index + 1),
    ):
        assert replica.refused(command).reason is Reason.MODIFIED
    assert put(replica, b"2", if_index=row.modify_index).version == 2


def test_deleted_it_is_gone_and_begins_anew() -> None:
    replica = Replica()
    row = put(replica, b"1")
    replica.accepted(DeleteTemplate("daily", row.modify_index))
    assert len(replica.state.templates) == 0
    assert replica.refused(DeleteTemplate("daily")).reason is Reason.UNKNOWN_TEMPLATE
    assert put(replica, b"2").version == 1


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("", b"{}"), ("x" * (NAME_MAX + 1), b"{}"), ("a b", b"{}"), ("a\0", b"{}"),
        ("daily", b""), ("daily", b"x" * (DOCUMENT_BYTES_MAX + 1)),
    ],
)  # fmt: skip
def test_a_name_and_a_document_have_bounds(name: str, document: bytes) -> None:
    assert Replica().refused(PutTemplate(name, document)).reason is Reason.INVALID


def test_when_there_are_too_many_only_those_that_are_there_can_be_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(templates, "TEMPLATES_MAX", 2)
    replica = Replica()
    put(replica, name="a")
    put(replica, name="b")
    assert replica.refused(PutTemplate("c", b"{}")).reason is Reason.OVERLOADED
    assert put(replica, b"2", name="a").version == 2
    replica.accepted(DeleteTemplate("b"))
    put(replica, name="c")


@pytest.mark.parametrize("command", [PutTemplate("daily", b"{}"), DeleteTemplate("daily")])
def test_both_need_the_version_in_force(command: PutTemplate | DeleteTemplate) -> None:
    replica = Replica()
    replica.state.version = WORKFLOWS - 1
    refusal = replica.refused(command)
    assert refusal.reason is Reason.NEEDS_VERSION
    assert f"version {WORKFLOWS}" in refusal.detail


def test_large_ones_are_spread_over_the_chunks_of_a_snapshot_and_come_back() -> None:
    replica = Replica()
    for number in range(5):
        put(replica, b"x" * (codec.CHUNK_BYTES // 2 + 1), name=f"t{number}")
    chunks = dump(replica.state)
    assert max(map(len, chunks)) < 2 * codec.CHUNK_BYTES
    restored = codec.restore_state(chunks)
    assert dump(restored) == chunks
    assert restored.digest() == replica.state.digest()
    assert invariants.check(restored) == []


def test_a_snapshot_without_one_of_its_templates_is_damaged() -> None:
    replica = Replica()
    put(replica)
    chunks = dump(replica.state)
    with pytest.raises(msgspec.DecodeError, match="0 templates in a snapshot of 1"):
        codec.restore_state(chunks[:-1])
    with pytest.raises(msgspec.DecodeError):
        codec.restore_state([*chunks, chunks[-1]])


def test_replicas_with_other_templates_have_other_digests() -> None:
    one, other = Replica(), Replica()
    put(one, b"1")
    put(other, b"2")
    assert one.state.digest() != other.state.digest()
