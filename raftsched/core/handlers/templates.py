"""The rows of workflow templates."""

from __future__ import annotations

from raftsched.core.changes import Changes
from raftsched.core.commands import DeleteTemplate, PutTemplate
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.template import DOCUMENT_BYTES_MAX, NAME_MAX, TEMPLATES_MAX, Template

_DONE = Accepted()


def put(changes: Changes, command: PutTemplate) -> Outcome:
    """Value: the row as it is now; the same again changes nothing."""
    name, document = command.name, command.document
    known = changes.state.templates.get(name)
    if command.is_new and known is not None:
        return Rejected(Reason.MODIFIED, f"there is a template {name!r}")
    refusal = _other(known, command.if_index)
    if refusal is not None:
        return refusal
    if not (0 < len(name) <= NAME_MAX and name.isprintable()) or " " in name:
        return Rejected(Reason.INVALID, f"a name has 1 to {NAME_MAX} characters that can be shown")
    if not 0 < len(document) <= DOCUMENT_BYTES_MAX:
        return Rejected(Reason.INVALID, f"a template has 1 to {DOCUMENT_BYTES_MAX} bytes")
    if known is None and len(changes.state.templates) >= TEMPLATES_MAX:
        return Rejected(Reason.OVERLOADED, f"{TEMPLATES_MAX} templates are allowed")
    if known is not None and (known.document, known.namespace) == (document, command.namespace):
        return Accepted(known)
    now = changes.state.now
    row = Template(
        name,
        document,
        command.namespace,
        1 if known is None else known.version + 1,
        now if known is None else known.created_at,
        now,
        changes.index,
    )
    changes.others.templates[name] = row
    changes.event("template_changed", detail=name)
    return Accepted(row)


def delete(changes: Changes, command: DeleteTemplate) -> Outcome:
    """No value.  Tasks and schedules that were made of it stay as they are."""
    known = changes.state.templates.get(command.name)
    if known is None:
        return Rejected(Reason.UNKNOWN_TEMPLATE, command.name)
    refusal = _other(known, command.if_index)
    if refusal is not None:
        return refusal
    changes.others.templates[command.name] = None
    changes.event("template_changed", detail=command.name)
    return _DONE


def _other(known: Template | None, if_index: int) -> Rejected | None:
    """Is it another one than the sender saw?"""
    if not if_index or (known is not None and known.modify_index == if_index):
        return None
    stands = "no row" if known is None else f"modify index {known.modify_index}"
    return Rejected(Reason.MODIFIED, f"{stands}, not {if_index}")
